//! The kernel's half of every address space: what is mapped there, and with which permissions.
//!
//! ```text
//!  0xffff_8000_0000_0000  direct map: all memory, largest pages   RW, NX
//!  0xffff_c000_0000_0000  kernel stacks, guard pages between      RW, NX
//!  0xffff_d000_0000_0000  heap: large blocks                      RW, NX
//!  0xffff_e000_0000_0000  devices' memory                         RW, NX, uncached or write-combining
//!  0xffff_ffff_8000_0000  the kernel image                        .text RX, .rodata R, .data and .bss RW
//! ```
//!
//! Invariants: all 256 upper entries of the level-4 table are present from [`build::build`] on and never change, and every address
//! space has the same ones; so a mapping made later in kernel space is seen under every CR3 at once. No mapping is both
//! writable and executable; none has the USER flag. All are global: a CR3 load leaves them in the TLB.
//!
//! Each window is edited by one owner under its own lock (stacks, heap, devices). Windows share no table below level 4, so the
//! owners need no lock between them.

pub mod build;

use super::frames;
use super::page_table::{Entry, Level, Slot, Table, supported};
use crate::errno::Errno;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use x86_64::structures::paging::{PageTableFlags as Flags, PhysFrame};
use x86_64::{PhysAddr, VirtAddr};

pub const STACKS: Range<u64> = 0xffff_c000_0000_0000..0xffff_c080_0000_0000;
pub const HEAP: Range<u64> = 0xffff_d000_0000_0000..0xffff_d080_0000_0000;
pub const DEVICES: Range<u64> = 0xffff_e000_0000_0000..0xffff_e080_0000_0000;

const FIRST_KERNEL_ENTRY: usize = 256;

const DATA: Flags = Flags::PRESENT.union(Flags::WRITABLE).union(Flags::GLOBAL).union(Flags::NO_EXECUTE);

/// The kernel's own level-4 table: what the upper halves of all others are copied from.
static ROOT: AtomicU64 = AtomicU64::new(0);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caching {
    /// Each access reaches the device, in order: registers.
    Uncached,
    /// Writes are gathered: framebuffers.
    WriteCombining,
    /// Ordinary memory.
    WriteBack,
}

/// The frame of the kernel's own level-4 table: its lower half is empty.
pub fn root() -> PhysFrame {
    PhysFrame::containing_address(PhysAddr::new_truncate(ROOT.load(Relaxed)))
}

/// The entry for a kernel address in a table of the wanted level; tables on the way are made of `new_table`'s frames.
fn slot_or_create(
    root: PhysFrame,
    wanted: Level,
    address: u64,
    mut new_table: impl FnMut() -> Result<PhysFrame, Errno>,
) -> Result<&'static Slot, Errno> {
    // SAFETY: kernel tables are never freed, and nothing but this module edits them.
    let mut table = unsafe { Table::in_frame(root) };
    for level in [Level::FOUR, Level::THREE, Level::TWO] {
        let slot = table.slot(level, address);
        if level == wanted {
            return Ok(slot);
        }
        let mut entry = slot.get();
        if entry.is_empty() {
            entry = Entry::new(new_table()?, Flags::PRESENT | Flags::WRITABLE);
            slot.set(entry);
        }
        // SAFETY: as above; what lies below a window's level-4 entry is small pages, or asked for by their own level.
        table = unsafe { Table::in_frame(entry.frame()) };
    }
    Ok(table.slot(Level::ONE, address))
}

/// Maps one page in a window of the calling owner, who holds that window's lock.
pub fn map_page(address: u64, frame: PhysFrame, caching: Caching) -> Result<(), Errno> {
    let caching = match caching {
        Caching::Uncached => Flags::NO_CACHE | Flags::WRITE_THROUGH,
        Caching::WriteCombining => Flags::WRITE_THROUGH,
        Caching::WriteBack => Flags::empty(),
    };
    let slot = slot_or_create(root(), Level::ONE, address, frames::allocate_zeroed)?;
    // An entry that wasn't present is in no TLB: nothing to invalidate (SDM 3A §4.10.2.3).
    slot.set(Entry::new(frame, supported(DATA | caching)));
    Ok(())
}

/// Unmaps one page of the calling owner's window and returns its frame. Its tables stay.
pub fn unmap_page(address: u64) -> Option<PhysFrame> {
    let slot = slot_or_create(root(), Level::ONE, address, || Err(Errno::ENOMEM)).ok()?;
    let entry = slot.get();
    slot.set(Entry::EMPTY);
    // INVLPG drops global entries too. One CPU runs; with more, each needs it.
    x86_64::instructions::tlb::flush(VirtAddr::new_truncate(address));
    entry.is_present().then(|| entry.frame())
}

/// The kernel's upper half, for a new address space.
pub(super) fn fill_upper_half(slots: &[Slot]) {
    // SAFETY: the kernel's root lives for ever.
    let kernel = unsafe { Table::in_frame(root()) };
    for (slot, kernel) in slots.iter().zip(kernel.slots().iter().skip(FIRST_KERNEL_ENTRY)) {
        slot.set(kernel.get());
    }
}

/// What an address is mapped to in the kernel's half: the leaf entry and the physical address.
pub fn translate(address: u64) -> Option<(Entry, PhysAddr)> {
    translate_in(root(), address)
}

/// The same in any page table, user half included: for the panic screen and the tests.
pub fn translate_in(root: PhysFrame, address: u64) -> Option<(Entry, PhysAddr)> {
    // SAFETY: the caller's root is a live page table; tables are only read.
    let mut table = unsafe { Table::in_frame(root) };
    for level in [Level::FOUR, Level::THREE, Level::TWO, Level::ONE] {
        let entry = table.slot(level, address).get();
        if !entry.is_present() {
            return None;
        }
        if level == Level::ONE || entry.contains(Flags::HUGE_PAGE) {
            let offset = address & (level.span() - 1);
            let base = entry.frame().start_address().as_u64() & !(level.span() - 1);
            return Some((entry, PhysAddr::new_truncate(base + offset)));
        }
        // SAFETY: a present entry without the size bit points to a table.
        table = unsafe { Table::in_frame(entry.frame()) };
    }
    None
}

/// Calls `visit` with the address, span and leaf entry of every mapping in kernel space: for the W^X test.
pub fn for_each_mapping(mut visit: impl FnMut(u64, u64, Entry)) {
    visit_table(root(), Level::FOUR, FIRST_KERNEL_ENTRY, 0xffff_0000_0000_0000, &mut visit);
}

fn visit_table(frame: PhysFrame, level: Level, first: usize, base: u64, visit: &mut dyn FnMut(u64, u64, Entry)) {
    // SAFETY: kernel tables are never freed; they are only read here.
    let table = unsafe { Table::in_frame(frame) };
    for (index, slot) in table.slots().iter().enumerate().skip(first) {
        let (entry, address) = (slot.get(), base + index as u64 * level.span());
        match level.below() {
            _ if !entry.is_present() => {}
            Some(below) if !entry.contains(Flags::HUGE_PAGE) => visit_table(entry.frame(), below, 0, address, visit),
            _ => visit(address, level.span(), entry),
        }
    }
}
