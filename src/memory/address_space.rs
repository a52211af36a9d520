//! A program's address space: its areas, and the page table that makes some of their pages present.
//!
//! Invariants: a page is present only inside an area, with no more rights than the area's protection gives; every entry of the
//! user half that isn't empty holds one reference to its frame; an entry is writable only if its frame is this address
//! space's alone, or the area is shared. All changes go through the direct map: the page table may be loaded or not.
//! Whoever changes it holds its lock, and each operation leaves the TLB true before it returns.
//!
//! The operations are here; page faults are in `faults`, copying for fork in `fork`, moving in `remap`.

use super::areas::{Area, AreaFlags, Areas, Backing, Mapping, PAGE, PageSource, Protection};
use super::frames;
use super::page_table::{Entry, PageTable, supported};
use super::tlb::{self, Stale};
use crate::errno::Errno;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use x86_64::structures::paging::{PageTableFlags as Flags, PhysFrame};

/// The end of what programs can map: Linux's TASK_SIZE. The last page below the non-canonical hole stays unused, because a
/// SYSCALL instruction at its end would return to a non-canonical address.
pub const USER_END: u64 = 0x7fff_ffff_f000;

/// Linux's vm.mmap_min_addr: null pointers with an offset fault as well.
pub const LOWEST_MAPPING: u64 = 0x1_0000;

/// Where programs' mappings go when exec hasn't said otherwise.
const DEFAULT_MMAP_TOP: u64 = 0x7fff_f7ff_f000;

/// Resource limits in bytes (getrlimit(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub address_space: u64,
    pub data: u64,
    pub stack: u64,
}

impl Limits {
    pub const DEFAULT: Self = Self { address_space: u64::MAX, data: u64::MAX, stack: 8 << 20 };
}

/// What exec placed where: for /proc/PID/{stat,cmdline,environ,auxv} and brk's limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProgramLayout {
    pub text: Range<u64>,
    pub data: Range<u64>,
    pub stack_start: u64,
    pub arguments: Range<u64>,
    pub environment: Range<u64>,
    pub auxiliary: Range<u64>,
}

/// Where a mapping may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    Anywhere,
    /// There if it is free, else anywhere.
    Hint(u64),
    /// There, in the place of what was there.
    Fixed(u64),
    /// There, or EEXIST.
    FixedNoReplace(u64),
}

pub struct AddressSpace {
    pub(super) table: PageTable,
    pub(super) areas: Areas,
    /// Mappings are placed below this address, from the top down.
    pub mmap_top: u64,
    /// From here to `mmap_top` nothing is free (or it is above that): the search for a place starts here.
    pub(super) full_from: u64,
    /// The heap that brk(2) moves: where it starts, and the current break.
    pub(super) heap: Range<u64>,
    pub limits: Limits,
    pub layout: ProgramLayout,
    /// Pages in areas, the most there ever were, and those that RLIMIT_DATA counts.
    pub(super) mapped_pages: u64,
    peak_mapped_pages: u64,
    pub(super) data_pages: u64,
    /// What areas that are gone showed. To be dropped when no lock is held: it may be the last that is left of a file.
    pub(super) removed: Vec<Arc<dyn PageSource>>,
    /// Pages that are present, and the most there ever were.
    pub(super) resident_pages: u64,
    pub(super) peak_resident_pages: u64,
}

impl AddressSpace {
    pub fn new() -> Result<Self, Errno> {
        Ok(Self {
            table: PageTable::new()?,
            areas: Areas::new(),
            mmap_top: DEFAULT_MMAP_TOP,
            full_from: u64::MAX,
            heap: 0..0,
            limits: Limits::DEFAULT,
            layout: ProgramLayout::default(),
            mapped_pages: 0,
            peak_mapped_pages: 0,
            data_pages: 0,
            removed: Vec::new(),
            resident_pages: 0,
            peak_resident_pages: 0,
        })
    }

    /// The frame that CR3 is loaded with.
    #[inline(always)]
    pub fn page_table_frame(&self) -> PhysFrame {
        self.table.root()
    }

    pub fn areas(&self) -> &Areas {
        &self.areas
    }

    pub fn mapped_bytes(&self) -> u64 {
        self.mapped_pages * PAGE
    }

    pub fn peak_mapped_bytes(&self) -> u64 {
        self.peak_mapped_pages.max(self.mapped_pages) * PAGE
    }

    pub fn data_bytes(&self) -> u64 {
        self.data_pages * PAGE
    }

    pub fn resident_bytes(&self) -> u64 {
        self.resident_pages * PAGE
    }

    pub fn peak_resident_bytes(&self) -> u64 {
        self.peak_resident_pages.max(self.resident_pages) * PAGE
    }

    pub fn page_table_bytes(&self) -> u64 {
        self.table.table_count() as u64 * PAGE
    }

    /// mmap(2): a new area of `length` bytes. Returns its address.
    pub fn map(&mut self, placement: Placement, length: u64, mapping: Mapping) -> Result<u64, Errno> {
        if length == 0 {
            return Err(Errno::EINVAL);
        }
        let length = length.checked_next_multiple_of(PAGE).filter(|&length| length <= USER_END).ok_or(Errno::ENOMEM)?;
        check_offset(&mapping.backing, length)?;
        let start = self.place(placement, length)?;
        let range = start..start + length;
        if matches!(placement, Placement::Fixed(_)) && !self.areas.is_free(range.clone()) {
            self.check_limits(length / PAGE - self.pages_mapped_in(range.clone()), &mapping)?;
            // Room for the new area first, so that nothing fails once the old ones are gone.
            self.areas.reserve(3)?;
            self.unmap(range.clone())?;
        } else {
            self.check_limits(length / PAGE, &mapping)?;
        }
        self.add_area(Area { start: range.start, end: range.end, mapping })?;
        Ok(start)
    }

    /// Where a mapping of whole pages would go.
    pub fn place(&mut self, placement: Placement, length: u64) -> Result<u64, Errno> {
        let fits = |start: u64| start >= LOWEST_MAPPING && start.checked_add(length).is_some_and(|end| end <= USER_END);
        match placement {
            Placement::Fixed(start) | Placement::FixedNoReplace(start) => {
                if !start.is_multiple_of(PAGE) {
                    return Err(Errno::EINVAL);
                }
                if start.checked_add(length).is_none_or(|end| end > USER_END) {
                    return Err(Errno::ENOMEM);
                }
                if start < LOWEST_MAPPING {
                    return Err(Errno::EPERM);
                }
                let replaces = matches!(placement, Placement::Fixed(_));
                if replaces || self.areas.is_free(start..start + length) { Ok(start) } else { Err(Errno::EEXIST) }
            }
            Placement::Hint(hint) => {
                let start = hint & !(PAGE - 1);
                // Not closer under a stack than its guard gap allows.
                let is_free = |start: u64| self.areas.find_gap_below(start + length, start, length) == Some(start);
                if fits(start) && is_free(start) { Ok(start) } else { self.place(Placement::Anywhere, length) }
            }
            Placement::Anywhere => self.find_place(length),
        }
    }

    /// The highest place below `mmap_top`; where there is none, the lowest above it.
    pub(super) fn find_place(&mut self, length: u64) -> Result<u64, Errno> {
        let mut top = self.full_from.min(self.mmap_top);
        while let Some(area) = self.areas.find(top.saturating_sub(PAGE))
            && !area.mapping.flags.contains(AreaFlags::GROWS_DOWN)
        {
            top = area.start;
        }
        self.full_from = top;
        let below = self.areas.find_gap_below(top, LOWEST_MAPPING, length);
        below.or_else(|| self.areas.find_gap_above(self.mmap_top, USER_END, length)).ok_or(Errno::ENOMEM)
    }

    /// Whether so many pages more are within RLIMIT_AS, RLIMIT_DATA, and what the machine could ever hold.
    pub(super) fn check_limits(&self, pages: u64, mapping: &Mapping) -> Result<(), Errno> {
        if self.mapped_pages.saturating_add(pages) > self.limits.address_space / PAGE {
            return Err(Errno::ENOMEM);
        }
        if mapping.is_data() {
            if self.data_pages.saturating_add(pages) > self.limits.data / PAGE {
                return Err(Errno::ENOMEM);
            }
            let can_reserve = pages <= frames::counts().total as u64;
            if !can_reserve && !mapping.flags.contains(AreaFlags::NO_RESERVE) {
                return Err(Errno::ENOMEM);
            }
        }
        Ok(())
    }

    fn pages_mapped_in(&self, range: Range<u64>) -> u64 {
        let part = |area: &Area| area.end.min(range.end) - area.start.max(range.start);
        self.areas.overlapping(range.clone()).map(part).sum::<u64>() / PAGE
    }

    pub(super) fn add_area(&mut self, area: Area) -> Result<(), Errno> {
        let (pages, is_data) = (area.pages(), area.mapping.is_data());
        self.areas.insert(area)?;
        self.mapped_pages += pages;
        self.data_pages += if is_data { pages } else { 0 };
        Ok(())
    }

    /// munmap(2): the range means nothing afterwards. What wasn't mapped before is no error.
    pub fn unmap(&mut self, range: Range<u64>) -> Result<(), Errno> {
        let range = checked_range(range).ok_or(Errno::EINVAL)?;
        let indices = self.areas.isolate(range.clone())?;
        if indices.is_empty() {
            return Ok(());
        }
        let floor = self.areas.end_before(indices.start);
        let ceiling = self.areas.start_of(indices.end).unwrap_or(USER_END + PAGE);
        let going = || self.areas.iter().take(indices.end).skip(indices.start);
        let objects = || going().filter_map(|area| area.object());
        self.removed.try_reserve(objects().count()).map_err(|_| Errno::ENOMEM)?;
        self.removed.extend(objects().map(Arc::clone));
        self.peak_mapped_pages = self.peak_mapped_pages.max(self.mapped_pages);
        for area in going() {
            self.mapped_pages -= area.pages();
            self.data_pages -= if area.mapping.is_data() { area.pages() } else { 0 };
        }
        let mut stale = self.drop_pages(range.clone());
        self.areas.remove(indices);
        self.full_from = self.full_from.max(range.end);
        if self.table.free_tables(range, floor, ceiling) && stale == Stale::Nothing {
            // Nothing was mapped, but the processor may still know the tables that led there.
            stale = Stale::Many;
        }
        tlb::flush(self.table.root(), stale);
        Ok(())
    }

    /// What unmapping has left to be dropped, for the caller to do when it no longer holds the lock.
    #[must_use]
    pub fn take_removed(&mut self) -> Vec<Arc<dyn PageSource>> {
        core::mem::take(&mut self.removed)
    }

    /// Empties the entries of a range and gives their frames' references back. The caller flushes before anybody can use the
    /// stale translations: no program runs on this CPU until then.
    pub(super) fn drop_pages(&mut self, range: Range<u64>) -> Stale {
        self.drop_pages_if(range, |_| true)
    }

    #[inline(always)]
    fn drop_pages_if(&mut self, range: Range<u64>, goes: impl Fn(Entry) -> bool) -> Stale {
        let frame_table = frames::table();
        let (mut count, mut last) = (0, 0);
        self.table.for_each_page(range, |address, slot| {
            let entry = slot.get();
            if !goes(entry) {
                return;
            }
            slot.set(Entry::EMPTY);
            frame_table.release(entry.frame());
            count += 1;
            last = address;
        });
        self.note_peak();
        self.resident_pages -= count as u64;
        Stale::pages(count, last)
    }

    pub(super) fn note_peak(&mut self) {
        self.peak_resident_pages = self.peak_resident_pages.max(self.resident_pages);
    }

    /// mprotect(2). As on Linux, what lies below the first hole or refusal is changed.
    pub fn protect(&mut self, range: Range<u64>, protection: Protection) -> Result<(), Errno> {
        let range = checked_range(range).ok_or(Errno::ENOMEM)?;
        let indices = self.areas.isolate(range.clone())?;
        let (mut result, mut reached) = (Ok(()), range.start);
        let mut stale = Stale::Nothing;
        for index in indices.clone() {
            let Some(area) = self.areas.get_mut(index) else { break };
            if area.start > reached {
                break;
            }
            if !area.mapping.max_protection.contains(protection) {
                result = Err(Errno::EACCES);
                break;
            }
            reached = area.end;
            let was_data = area.mapping.is_data();
            let was = core::mem::replace(&mut area.mapping.protection, protection);
            let (is_data, pages) = (area.mapping.is_data(), area.pages());
            match (was_data, is_data) {
                (false, true) if self.data_pages.saturating_add(pages) > self.limits.data / PAGE => {
                    area.mapping.protection = was;
                    result = Err(Errno::ENOMEM);
                    break;
                }
                (false, true) => self.data_pages += pages,
                (true, false) => self.data_pages -= pages,
                _ => {}
            }
            if was != protection {
                let (area_range, is_shared) = (area.range(), area.mapping.is_shared());
                let changed = self.protect_pages(area_range, protection, is_shared);
                stale = if stale == Stale::Nothing { changed } else { Stale::Many };
            }
        }
        if result.is_ok() && reached < range.end {
            result = Err(Errno::ENOMEM);
        }
        self.areas.join(indices.start.saturating_sub(1)..indices.end);
        tlb::flush(self.table.root(), stale);
        result
    }

    /// Gives the present pages of a range new rights. A private page becomes writable at once only if it is ours alone; else
    /// the first write finds out.
    fn protect_pages(&mut self, range: Range<u64>, protection: Protection, is_shared: bool) -> Stale {
        let readable = page_flags(protection, false);
        let writable = page_flags(protection, true);
        let may_write = protection.contains(Protection::WRITE);
        let frame_table = frames::table();
        let (mut count, mut last) = (0, 0);
        self.table.for_each_page(range, |address, slot| {
            let entry = slot.get();
            let frame = entry.frame();
            let writes =
                may_write && if is_shared { entry.contains(Flags::WRITABLE) } else { frame_table.is_exclusive(frame) };
            // A copy stays known as one.
            let copy = entry.flags() & Flags::DIRTY;
            slot.set(Entry::new(frame, copy | if writes { writable } else { readable }));
            count += 1;
            last = address;
        });
        Stale::pages(count, last)
    }

    /// madvise(MADV_DONTNEED): pages are dropped; the next touch finds zeros, or the object's contents.
    pub fn discard(&mut self, range: Range<u64>) -> Result<(), Errno> {
        let range = checked_range(range).ok_or(Errno::ENOMEM)?;
        let stale = self.drop_pages(range.clone());
        tlb::flush(self.table.root(), stale);
        if self.areas.covers(range) { Ok(()) } else { Err(Errno::ENOMEM) }
    }

    /// Drops the pages of an object that its areas show: the object has them no longer. Private copies of them stay if
    /// `keep_copies` says so.
    pub fn forget_pages(&mut self, object: usize, pages: Range<u64>, keep_copies: bool) {
        for index in 0..self.areas.len() {
            let Some(area) = self.areas.get(index) else { break };
            let Backing::Object { object: source, offset } = &area.mapping.backing else { continue };
            if source.identity() != object {
                continue;
            }
            let first = offset / PAGE;
            let address_of = |page: u64| {
                let bytes = page.saturating_sub(first).saturating_mul(PAGE);
                area.start.saturating_add(bytes).min(area.end)
            };
            let range = address_of(pages.start)..address_of(pages.end);
            let stays = keep_copies && !area.mapping.is_shared();
            let stale = self.drop_pages_if(range, |entry| !(stays && entry.contains(Flags::DIRTY)));
            tlb::flush(self.table.root(), stale);
        }
    }

    /// What a child gets of the range: madvise(2) with MADV_DONTFORK, MADV_WIPEONFORK and their opposites.
    pub fn set_fork_flag(&mut self, range: Range<u64>, flag: AreaFlags, is_set: bool) -> Result<(), Errno> {
        let range = checked_range(range).ok_or(Errno::ENOMEM)?;
        let wipes_what_others_have = flag == AreaFlags::WIPED_BY_FORK
            && is_set
            && self.areas.overlapping(range.clone()).any(|area| area.mapping.is_shared() || area.object().is_some());
        if wipes_what_others_have {
            return Err(Errno::EINVAL);
        }
        let indices = self.areas.isolate(range.clone())?;
        for index in indices.clone() {
            if let Some(area) = self.areas.get_mut(index) {
                area.mapping.flags.set(flag, is_set);
            }
        }
        self.areas.join(indices.start.saturating_sub(1)..indices.end);
        if self.areas.covers(range) { Ok(()) } else { Err(Errno::ENOMEM) }
    }

    /// Where the heap begins; exec calls it once, before the program runs.
    pub fn set_heap_start(&mut self, start: u64) {
        self.heap = start..start;
    }

    pub fn heap(&self) -> Range<u64> {
        self.heap.clone()
    }

    /// brk(2): moves the break if that can be done, and returns where it is.
    pub fn set_break(&mut self, wanted: u64) -> u64 {
        let old_end = self.heap.end.next_multiple_of(PAGE);
        let Some(new_end) = wanted.checked_next_multiple_of(PAGE).filter(|&end| end <= USER_END) else {
            return self.heap.end;
        };
        let data = self.layout.data.end.saturating_sub(self.layout.data.start);
        let heap_and_data = wanted.saturating_sub(self.heap.start).saturating_add(data);
        if wanted < self.heap.start || heap_and_data > self.limits.data {
            return self.heap.end;
        }
        let moved = if new_end > old_end {
            self.grow_heap(old_end, new_end)
        } else if new_end < old_end {
            self.unmap(new_end..old_end)
        } else {
            Ok(())
        };
        if moved.is_ok() {
            self.heap.end = wanted;
        }
        self.heap.end
    }

    fn grow_heap(&mut self, old_end: u64, new_end: u64) -> Result<(), Errno> {
        let length = new_end - old_end;
        let mapping = Mapping::anonymous(Protection::READ | Protection::WRITE);
        if self.areas.find_gap_below(new_end, old_end, length) != Some(old_end) {
            return Err(Errno::ENOMEM);
        }
        self.check_limits(length / PAGE, &mapping)?;
        self.add_area(Area { start: old_end, end: new_end, mapping })
    }

    /// What a futex in shared memory is known by in every process: the object and the offset in it. None for private memory,
    /// where the address itself will do.
    pub fn shared_place(&self, address: u64) -> Option<(Arc<dyn PageSource>, u64)> {
        let area = self.areas.find(address).filter(|area| area.mapping.is_shared())?;
        let Backing::Object { object, offset } = &area.mapping.backing else { return None };
        Some((Arc::clone(object), offset.wrapping_add(address - area.start)))
    }

    /// Whether the page at an address is present (mincore(2)); None where there is no area.
    pub fn is_resident(&self, address: u64) -> Option<bool> {
        self.areas.find(address)?;
        Some(self.table.slot(address).is_some_and(|slot| !slot.get().is_empty()))
    }
}

/// For the test that a failed execve leaves no trace.
#[cfg(any(test, feature = "kernel-tests"))]
impl AddressSpace {
    /// A number that depends on all areas, limits, and contents (FNV-1a); a page that hasn't been touched yet counts as what a
    /// touch would show.
    pub fn digest(&self) -> u64 {
        let mut digest = Digest(0xcbf2_9ce4_8422_2325);
        let Limits { address_space, data, stack } = self.limits;
        for value in [address_space, data, stack, self.mmap_top, self.heap.start, self.heap.end] {
            digest.add(value);
        }
        let layout = &self.layout;
        for range in [&layout.text, &layout.data, &layout.arguments, &layout.environment, &layout.auxiliary] {
            digest.add(range.start);
            digest.add(range.end);
        }
        digest.add(layout.stack_start);
        for area in self.areas.iter() {
            let mapping = &area.mapping;
            let rights = [mapping.protection.bits(), mapping.max_protection.bits(), mapping.flags.bits(), 0];
            let object = area.page_in_object(area.start).map_or((0, 0), |(object, index)| (object.identity(), index));
            for value in [area.start, area.end, u32::from_le_bytes(rights).into(), object.0 as u64, object.1] {
                digest.add(value);
            }
            for address in area.range().step_by(PAGE as usize) {
                let present = self.table.slot(address).map(|slot| slot.get()).filter(|entry| !entry.is_empty());
                let untouched = || area.page_in_object(address).map(|(object, index)| object.page(index, false));
                match (present, untouched()) {
                    (Some(entry), _) => digest.add_frame(entry.frame()),
                    (None, Some(Ok(page))) => digest.add_frame(page.frame()),
                    (None, Some(Err(errno))) => digest.add(errno as u64),
                    (None, None) => (0..WORDS).for_each(|_| digest.add(0)),
                }
            }
        }
        digest.0
    }
}

#[cfg(any(test, feature = "kernel-tests"))]
struct Digest(u64);

#[cfg(any(test, feature = "kernel-tests"))]
const WORDS: usize = PAGE as usize / size_of::<u64>();

#[cfg(any(test, feature = "kernel-tests"))]
impl Digest {
    fn add(&mut self, value: u64) {
        self.0 = (self.0 ^ value).wrapping_mul(0x0000_0100_0000_01b3);
    }

    fn add_frame(&mut self, frame: PhysFrame) {
        let page: *const u64 = super::direct_map::frame_pointer(frame).cast();
        for index in 0..WORDS {
            // SAFETY: within a frame that the address space or a reference holds; programs may write to it, so it is read as
            // volatile.
            self.add(unsafe { page.add(index).read_volatile() });
        }
    }
}

/// Gives every page, then every table back, area by area: no table is searched for pages, and none outside areas exists.
impl Drop for AddressSpace {
    fn drop(&mut self) {
        tlb::leave(self.table.root());
        for index in 0..self.areas.len() {
            let Some(range) = self.areas.get(index).map(Area::range) else { break };
            let ceiling = self.areas.start_of(index + 1).unwrap_or(USER_END + PAGE);
            self.drop_pages(range.clone());
            self.table.free_tables(range, 0, ceiling);
        }
    }
}

/// The flags of a present page. Accessed and dirty are set beforehand, so that the processor needn't. In a private area of an
/// object, dirty tells a copy from the object's own page.
#[inline]
pub(super) fn page_flags(protection: Protection, writable: bool) -> Flags {
    let mut flags = Flags::USER_ACCESSIBLE | Flags::ACCESSED;
    if !protection.is_empty() {
        flags |= Flags::PRESENT;
    }
    if !protection.contains(Protection::EXECUTE) {
        flags |= Flags::NO_EXECUTE;
    }
    if writable {
        flags |= Flags::WRITABLE | Flags::DIRTY;
    }
    supported(flags)
}

/// Page-aligned and within user space; the end is rounded up.
pub(super) fn checked_range(range: Range<u64>) -> Option<Range<u64>> {
    let end = range.end.checked_next_multiple_of(PAGE)?;
    (range.start.is_multiple_of(PAGE) && range.start < end && end <= USER_END).then_some(range.start..end)
}

fn check_offset(backing: &Backing, length: u64) -> Result<(), Errno> {
    match backing {
        Backing::Anonymous => Ok(()),
        Backing::Object { offset, .. } if !offset.is_multiple_of(PAGE) => Err(Errno::EINVAL),
        Backing::Object { offset, .. } if offset.checked_add(length).is_none() => Err(Errno::EOVERFLOW),
        Backing::Object { .. } => Ok(()),
    }
}
