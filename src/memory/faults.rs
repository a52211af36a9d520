//! Page faults: what a touch of a page that isn't there, or isn't writable, turns into.
//!
//! Everything is decided in [`AddressSpace::resolve_fault`], which returns what it did, or why it refuses. Whoever caused the
//! fault is dealt with by its caller: a program gets a signal, a copy to or from user memory ends early.

#[cfg(target_os = "none")]
use super::address_space::USER_END;
use super::address_space::{AddressSpace, page_flags};
use super::areas::{Area, AreaFlags, PAGE, Protection, STACK_GUARD_GAP};
use super::frames::{self, PageRef};
use super::page_table::Entry;
use super::tlb::{self, Stale};
#[cfg(target_os = "none")]
use super::user_access;
use crate::cpu::exceptions::page_fault;
use crate::errno::Errno;
#[cfg(target_os = "none")]
use crate::interrupts::InterruptFrame;
use crate::lock::Lock;
#[cfg(target_os = "none")]
use crate::task::thread::Work;
use x86_64::structures::paging::PageTableFlags as Flags;

/// What is mapped around a page of an object: 16 pages, as on Linux. All of them are in one level-1 table.
const NEIGHBOURHOOD: u64 = 16 * PAGE;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Read,
    Write,
    Execute,
}

/// What was done; the touch can be repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultOutcome {
    /// A new page of zeros, writable.
    DemandZero,
    /// Read before written: the page of zeros that all share.
    SharedZero,
    /// A page of the mapped object, as it is.
    ObjectPage,
    /// A copy of a page that others hold too.
    CopyOnWrite,
    /// The last holder of a page got it back for writing.
    MadeWritable,
    /// The stack grew down to the address, and has a page there.
    StackGrowth,
    /// The page is there by now, with the rights that were missing.
    Spurious,
}

/// Why nothing was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultRefusal {
    /// No area there: SIGSEGV, SEGV_MAPERR.
    Unmapped,
    /// The area doesn't allow it: SIGSEGV, SEGV_ACCERR.
    Denied,
    /// Past the end of the object, or it couldn't be read: SIGBUS, BUS_ADRERR.
    NoSuchPage,
    /// No memory: the process can't go on.
    OutOfMemory,
}

impl From<Errno> for FaultRefusal {
    fn from(error: Errno) -> Self {
        if error == Errno::ENOMEM { Self::OutOfMemory } else { Self::NoSuchPage }
    }
}

/// Resolves a fault of the program whose address space this is.
#[inline]
pub fn resolve(space: &Lock<AddressSpace>, address: u64, access: Access) -> Result<FaultOutcome, FaultRefusal> {
    space.lock().resolve_fault(address, access)
}

/// What was tried, by the error code that the processor pushes.
#[inline]
pub fn access_of(error_code: u64) -> Access {
    match error_code {
        code if code & page_fault::WRITE != 0 => Access::Write,
        code if code & page_fault::INSTRUCTION_FETCH != 0 => Access::Execute,
        _ => Access::Read,
    }
}

/// Handles a page fault of a program, or of the kernel while it copies from or to one. False where it is neither: a bug of the
/// kernel's. Called with interrupts off; a program that can't go on has a signal pending when this returns.
#[cfg(target_os = "none")]
pub fn handle(address: u64, frame: &mut InterruptFrame) -> bool {
    let from_user = frame.from_user();
    let recovery = if from_user { None } else { user_access::recovery_for(frame.rip) };
    if frame.error_code & page_fault::RESERVED_BIT != 0 || !from_user && (recovery.is_none() || address >= USER_END) {
        return false;
    }
    let thread = crate::task::current();
    let access = access_of(frame.error_code);
    let try_once = || thread.process.with_address_space(|space| resolve(space, address, access));
    let mut resolved = try_once();
    if resolved == Some(Err(FaultRefusal::OutOfMemory)) {
        frames::trim();
        super::kernel_stack::trim();
        resolved = try_once();
    }
    let Err(refusal) = resolved.unwrap_or(Err(FaultRefusal::Unmapped)) else {
        thread.counts.note_fault();
        return true;
    };
    if refusal == FaultRefusal::OutOfMemory {
        // Before the touch is repeated, or, in the kernel, once the call is over: here a lock may be held.
        thread.add_work(Work::OUT_OF_MEMORY);
        let goes_on = from_user || frames::with_reserve(try_once).is_some_and(|resolved| resolved.is_ok());
        if goes_on {
            return true;
        }
        end_for_memory(&thread);
    } else if from_user {
        // As on Linux: whether the kernel has a page there is none of a program's business.
        let hidden = if address >= USER_END { page_fault::PRESENT } else { 0 };
        thread.note_exception(frame.vector, frame.error_code | hidden, Some(address));
        send_signal(&thread, refusal, address);
    }
    if let Some(recovery) = recovery {
        frame.rip = recovery;
    }
    true
}

#[cfg(target_os = "none")]
fn send_signal(thread: &crate::task::Thread, refusal: FaultRefusal, address: u64) {
    use crate::task::signal::{Info, Signal, code, force};
    let (signal, code) = match refusal {
        FaultRefusal::Denied => (Signal::SEGV, code::SEGV_ACCERR),
        FaultRefusal::NoSuchPage => (Signal::BUS, code::BUS_ADRERR),
        FaultRefusal::Unmapped | FaultRefusal::OutOfMemory => (Signal::SEGV, code::SEGV_MAPERR),
    };
    force(thread, Info::fault(signal, code, address));
}

/// A system call's copy can't wait for memory, and there is not even a reserve: its process ends.
#[cfg(target_os = "none")]
#[cold]
fn end_for_memory(thread: &crate::task::Thread) {
    use crate::task::signal::{Info, Signal, force};
    log::warn!(target: "memory", "out of memory in a system call: process {} is killed", thread.process.pid);
    force(thread, Info::from_kernel(Signal::KILL));
}

impl AddressSpace {
    /// Makes the page at an address present with the rights that an access needs, as far as the area there allows it.
    pub fn resolve_fault(&mut self, address: u64, access: Access) -> Result<FaultOutcome, FaultRefusal> {
        let index = self.areas.index_at(address);
        let area = self.areas.get(index).ok_or(FaultRefusal::Unmapped)?;
        if address >= area.start {
            return self.resolve_in_area(index, address & !(PAGE - 1), access, false);
        }
        if !area.mapping.flags.contains(AreaFlags::GROWS_DOWN) {
            return Err(FaultRefusal::Unmapped);
        }
        self.grow_stack(index, address & !(PAGE - 1))?;
        self.resolve_in_area(index, address & !(PAGE - 1), access, false)?;
        Ok(FaultOutcome::StackGrowth)
    }

    /// With `forced`, a write goes to a private page whatever the protection: for exec, which fills read-only pages too.
    #[inline]
    fn resolve_in_area(
        &mut self,
        index: usize,
        page: u64,
        access: Access,
        forced: bool,
    ) -> Result<FaultOutcome, FaultRefusal> {
        let area = self.areas.get(index).ok_or(FaultRefusal::Unmapped)?;
        let protection = area.mapping.protection;
        let needed = match access {
            // On x86 what can be written or executed can be read.
            Access::Read => Protection::all(),
            Access::Write => Protection::WRITE,
            Access::Execute => Protection::EXECUTE,
        };
        let is_write = access == Access::Write;
        if !protection.intersects(needed) && !(forced && (!is_write || !area.mapping.is_shared())) {
            return Err(FaultRefusal::Denied);
        }
        let slot = self.table.slot_or_create(page)?;
        let entry = slot.get();
        let is_there = !entry.is_empty();
        if is_there && (!is_write || entry.contains(Flags::WRITABLE)) {
            return Ok(FaultOutcome::Spurious);
        }
        let (new_frame, outcome) = if area.mapping.is_shared() {
            shared_page(area, page, is_write)?
        } else if is_there {
            private_copy(entry)?
        } else {
            first_touch(area, page, is_write)?
        };
        let writable = is_write && protection.contains(Protection::WRITE);
        let new_frame = match new_frame {
            Some(new_page) => new_page.into_frame(),
            None => entry.frame(),
        };
        let copy = if is_write { Flags::DIRTY } else { Flags::empty() };
        slot.set(Entry::new(new_frame, copy | page_flags(protection, writable)));
        if is_there {
            if new_frame != entry.frame() || outcome == FaultOutcome::ObjectPage {
                frames::release(entry.frame());
            }
            tlb::flush(self.table.root(), Stale::Page(page));
        } else {
            self.resident_pages += 1;
            if outcome == FaultOutcome::ObjectPage && !is_write {
                self.map_neighbours(index, page);
            }
        }
        Ok(outcome)
    }

    /// Maps those pages around one that was just mapped for reading which the object has in memory: whoever reads a page of a
    /// file mostly reads the next one too, and a fault costs as much as ten entries.
    fn map_neighbours(&mut self, index: usize, page: u64) {
        let Some(area) = self.areas.get(index) else { return };
        let start = (page & !(NEIGHBOURHOOD - 1)).max(area.start);
        let end = (page | (NEIGHBOURHOOD - 1)).min(area.end - 1) + 1;
        let Some((object, first)) = area.page_in_object(start) else { return };
        let flags = page_flags(area.mapping.protection, false);
        let frame_table = frames::table();
        let mut count = 0;
        self.table.for_each_piece(start..end, |_, slots| {
            object.for_each_resident(first..first.saturating_add(slots.len() as u64), &mut |index, neighbour| {
                let slot = slots.get(index.wrapping_sub(first) as usize);
                if let Some(slot) = slot.filter(|slot| slot.get().is_empty()) {
                    frame_table.share(neighbour.frame());
                    slot.set(Entry::new(neighbour.frame(), flags));
                    count += 1;
                }
            });
        });
        self.resident_pages += count;
    }

    /// A touch below a stack: it grows, unless that breaks its limit or comes too close to what lies below.
    fn grow_stack(&mut self, index: usize, page: u64) -> Result<(), FaultRefusal> {
        let area = self.areas.get(index).ok_or(FaultRefusal::Unmapped)?;
        let grown = (area.start - page) / PAGE;
        let below = index.checked_sub(1).and_then(|below| self.areas.get(below));
        let too_close = below.is_some_and(|below| {
            let gap = if below.mapping.protection.is_empty() { 0 } else { STACK_GUARD_GAP };
            page < below.end.saturating_add(gap)
        });
        let too_large = area.end - page > self.limits.stack;
        if too_close || too_large || self.check_limits(grown, &area.mapping).is_err() {
            return Err(FaultRefusal::Unmapped);
        }
        let Some(area) = self.areas.get_mut(index) else { return Err(FaultRefusal::Unmapped) };
        area.start = page;
        self.mapped_pages += grown;
        Ok(())
    }

    /// Makes pages present before they are touched: MAP_POPULATE and MAP_LOCKED. Stops at the first that can't be.
    pub fn populate(&mut self, range: core::ops::Range<u64>) -> Result<(), FaultRefusal> {
        for page in (range.start & !(PAGE - 1)..range.end).step_by(PAGE as usize) {
            let area = self.areas.find(page).ok_or(FaultRefusal::Unmapped)?;
            let is_write = area.mapping.protection.contains(Protection::WRITE) && !area.mapping.is_shared();
            self.resolve_fault(page, if is_write { Access::Write } else { Access::Read })?;
        }
        Ok(())
    }

    /// Writes into areas through the direct map, whether or not this address space is loaded. Private read-only pages are
    /// written too (their page becomes a copy): so exec fills its pages. EFAULT where no area is.
    pub fn write_bytes(&mut self, address: u64, bytes: &[u8]) -> Result<(), Errno> {
        self.with_pages(address, bytes.len(), Access::Write, |page, offset, done, count| {
            page.write(offset, bytes.get(done..done + count).unwrap_or(&[]));
        })
    }

    /// Reads from areas through the direct map.
    pub fn read_bytes(&mut self, address: u64, bytes: &mut [u8]) -> Result<(), Errno> {
        self.with_pages(address, bytes.len(), Access::Read, |page, offset, done, count| {
            if let Some(part) = bytes.get_mut(done..done + count) {
                page.read(offset, part);
            }
        })
    }

    /// The bytes from an address to the end of its page, for exec to fill: in an address space that no program runs in yet,
    /// and in private areas only. A page that others hold too becomes a copy first.
    pub fn bytes_to_page_end(&mut self, address: u64) -> Result<&mut [u8], Errno> {
        if self.areas.find(address).is_none_or(|area| area.mapping.is_shared()) {
            return Err(Errno::EFAULT);
        }
        let page = self.kernel_page(address, Access::Write)?;
        let offset = (address % PAGE) as usize;
        // SAFETY: the direct map has the frame, `offset` is within it, and it is referred to by this address space's entry
        // alone: `kernel_page` made it so, and while the slice lives nothing can be done with this address space.
        Ok(unsafe { core::slice::from_raw_parts_mut(page.pointer().add(offset), PAGE as usize - offset) })
    }

    /// Calls `visit` with each page of a range, the offset in it, how many bytes came before and how many are in it.
    fn with_pages(
        &mut self,
        address: u64,
        count: usize,
        access: Access,
        mut visit: impl FnMut(&PageRef, usize, usize, usize),
    ) -> Result<(), Errno> {
        let mut done = 0;
        while done < count {
            let at = address.checked_add(done as u64).ok_or(Errno::EFAULT)?;
            let offset = (at % PAGE) as usize;
            let part = (count - done).min(PAGE as usize - offset);
            let page = self.kernel_page(at, access)?;
            visit(&page, offset, done, part);
            done += part;
        }
        Ok(())
    }

    /// The page at an address for the kernel's own use, faulted in.
    fn kernel_page(&mut self, address: u64, access: Access) -> Result<PageRef, Errno> {
        let page = address & !(PAGE - 1);
        let index = self.areas.index_at(address);
        let is_inside = self.areas.get(index).is_some_and(|area| area.contains(address));
        let is_written = |entry: Entry| access != Access::Write || frames::reference_count(entry.frame()) == 1;
        // A page that is ours alone, or only read, is taken as it is; its rights are the program's affair.
        let entry = self.table.slot(page).map(|slot| slot.get());
        if !entry.is_some_and(|entry| entry.contains(Flags::WRITABLE) || !entry.is_empty() && is_written(entry)) {
            let resolved = if is_inside {
                self.resolve_in_area(index, page, access, true)
            } else {
                self.resolve_fault(address, access)
            };
            resolved.map_err(|refusal| match refusal {
                FaultRefusal::OutOfMemory => Errno::ENOMEM,
                FaultRefusal::NoSuchPage => Errno::EIO,
                FaultRefusal::Unmapped | FaultRefusal::Denied => Errno::EFAULT,
            })?;
        }
        let entry = self.table.slot(page).map(|slot| slot.get()).filter(|entry| !entry.is_empty());
        let frame = entry.ok_or(Errno::EFAULT)?.frame();
        frames::share(frame);
        Ok(PageRef::from_frame(frame))
    }
}

type NewPage = (Option<PageRef>, FaultOutcome);

/// The object's own page. One that was mapped for reading may have stood for a hole, so a write asks again.
fn shared_page(area: &Area, page: u64, is_write: bool) -> Result<NewPage, FaultRefusal> {
    let (object, index) = area.page_in_object(page).ok_or(FaultRefusal::Unmapped)?;
    Ok((Some(object.page(index, is_write)?), FaultOutcome::ObjectPage))
}

/// A write to a private page that is present for reading: kept if nobody else holds it, else copied.
#[inline]
fn private_copy(entry: Entry) -> Result<NewPage, FaultRefusal> {
    let frame = entry.frame();
    if frames::table().is_exclusive(frame) {
        return Ok((None, FaultOutcome::MadeWritable));
    }
    let new_page = PageRef::from_frame(frames::allocate_for_user()?);
    if frame == frames::zero_frame() {
        frames::zero(new_page.frame());
        return Ok((Some(new_page), FaultOutcome::DemandZero));
    }
    frames::copy(frame, new_page.frame());
    Ok((Some(new_page), FaultOutcome::CopyOnWrite))
}

/// The first touch of a page in a private area.
#[inline]
fn first_touch(area: &Area, page: u64, is_write: bool) -> Result<NewPage, FaultRefusal> {
    let Some((object, index)) = area.page_in_object(page) else {
        if is_write {
            let new_page = PageRef::from_frame(frames::allocate_for_user()?);
            frames::zero(new_page.frame());
            return Ok((Some(new_page), FaultOutcome::DemandZero));
        }
        return Ok((Some(PageRef::of_zeros()?), FaultOutcome::SharedZero));
    };
    let source = object.page(index, false)?;
    if !is_write {
        return Ok((Some(source), FaultOutcome::ObjectPage));
    }
    let new_page = PageRef::from_frame(frames::allocate_for_user()?);
    frames::copy(source.frame(), new_page.frame());
    Ok((Some(new_page), FaultOutcome::CopyOnWrite))
}
