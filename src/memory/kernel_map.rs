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
//! Invariants: all 256 upper entries of the level-4 table are present from [`build`] on and never change, and every address
//! space has the same ones; so a mapping made later in kernel space is seen under every CR3 at once. No mapping is both
//! writable and executable; none has the USER flag. All are global: a CR3 load leaves them in the TLB.
//!
//! Each window is edited by one owner under its own lock (stacks, heap, devices). Windows share no table below level 4, so the
//! owners need no lock between them.

use super::early::FreeRanges;
use super::page_table::{self, Entry, Level, Slot, Table, supported};
use super::{direct_map, frames};
use crate::PAGE_SIZE;
use crate::boot::BootInformation;
use crate::boot::memory_map::RegionKind;
use crate::errno::Errno;
use crate::lock::{Lock, Rank};
use core::arch::x86_64::{__cpuid, __cpuid_count};
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use x86_64::registers::control::{Cr3, Cr3Flags, Cr4, Cr4Flags, Efer, EferFlags};
use x86_64::registers::model_specific::Msr;
use x86_64::structures::paging::{PageTableFlags as Flags, PhysFrame};
use x86_64::{PhysAddr, VirtAddr};

pub const STACKS: Range<u64> = 0xffff_c000_0000_0000..0xffff_c080_0000_0000;
pub const HEAP: Range<u64> = 0xffff_d000_0000_0000..0xffff_d080_0000_0000;
pub const DEVICES: Range<u64> = 0xffff_e000_0000_0000..0xffff_e080_0000_0000;
pub const IMAGE: u64 = 0xffff_ffff_8000_0000;

const PAGE: u64 = PAGE_SIZE as u64;
const FIRST_KERNEL_ENTRY: usize = 256;

/// The boot page tables map the first 4 GiB: the first tables must lie there to be written.
const BOOT_MAPPED_END: u64 = 4 << 30;
/// Below this address only 4 KiB pages are used: the fixed MTRRs give the first MiB several memory types, and a large page
/// over different types is undefined (SDM 3A §12.11.9). The image needs them too, to be read-only where it is.
pub fn small_pages_end() -> u64 {
    image_range().end.next_multiple_of(2 << 20)
}

const DATA: Flags = Flags::PRESENT.union(Flags::WRITABLE).union(Flags::GLOBAL).union(Flags::NO_EXECUTE);

/// The Page Attribute Table (SDM 3A §12.12): entry 1, which PWT alone selects, becomes write-combining; the rest is as
/// after reset.
const IA32_PAT: u32 = 0x277;
const PAT_VALUE: u64 = 0x0007_0406_0007_0106;

/// The kernel's own level-4 table: what the upper halves of all others are copied from.
static ROOT: AtomicU64 = AtomicU64::new(0);
/// Where the next device is mapped. Devices are mapped once and stay.
static NEXT_DEVICE: Lock<u64> = Lock::new(Rank::KernelMap, DEVICES.start);

unsafe extern "C" {
    static kernel_physical_start: u8;
    static kernel_physical_end: u8;
    static kernel_text_start: u8;
    static kernel_text_end: u8;
    static kernel_rodata_start: u8;
    static kernel_rodata_end: u8;
    static kernel_data_start: u8;
    static kernel_data_end: u8;
    static boot_physical_end: u8;
}

macro_rules! address_of {
    ($symbol:ident) => {
        (&raw const $symbol).addr() as u64
    };
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caching {
    /// Each access reaches the device, in order: registers.
    Uncached,
    /// Writes are gathered: framebuffers.
    WriteCombining,
    /// Ordinary memory that the memory map doesn't call usable: firmware tables.
    WriteBack,
}

/// The image's place in physical memory, its boot part included.
pub fn image_range() -> Range<u64> {
    address_of!(kernel_physical_start)..address_of!(kernel_physical_end)
}

/// The part that runs before paging and isn't needed after it.
pub fn boot_part_range() -> Range<u64> {
    address_of!(kernel_physical_start)..address_of!(boot_physical_end)
}

/// The frame of the kernel's own level-4 table: its lower half is empty.
pub fn root() -> PhysFrame {
    PhysFrame::containing_address(PhysAddr::new_truncate(ROOT.load(Relaxed)))
}

/// Builds the kernel's half from the memory map, loads it, and so leaves the boot page tables and their identity mapping.
pub fn build(information: &BootInformation, free: &mut FreeRanges) {
    let features = Features::ask();
    features.enable();
    let mut builder = Builder { root: take_table(free), free, one_gib_pages: features.one_gib_pages };
    for slot in builder.root_table().slots().iter().skip(FIRST_KERNEL_ENTRY) {
        slot.set(Entry::new(take_table(builder.free), Flags::PRESENT | Flags::WRITABLE));
    }
    builder.map_image();
    builder.map_memory(information);
    builder.protect_image();
    ROOT.store(builder.root.start_address().as_u64(), Relaxed);
    // SAFETY: the new table maps the running code, the stack and all data at the same addresses as the boot tables.
    unsafe { Cr3::write(builder.root, Cr3Flags::empty()) };
}

struct Features {
    no_execute: bool,
    global_pages: bool,
    one_gib_pages: bool,
    attribute_table: bool,
}

impl Features {
    fn ask() -> Self {
        let basic = __cpuid(1).edx;
        let extended = if __cpuid(0x8000_0000).eax >= 0x8000_0001 { __cpuid_count(0x8000_0001, 0).edx } else { 0 };
        Self {
            global_pages: basic & 1 << 13 != 0,
            attribute_table: basic & 1 << 16 != 0,
            no_execute: extended & 1 << 20 != 0,
            one_gib_pages: extended & 1 << 26 != 0,
        }
    }

    /// Before the first table is loaded that uses them.
    fn enable(&self) {
        let mut unsupported = Flags::empty();
        // SAFETY: each is set only where CPUID says it is there, and nothing mapped now has bits that they change.
        unsafe {
            if self.no_execute {
                Efer::update(|efer| efer.insert(EferFlags::NO_EXECUTE_ENABLE));
            } else {
                unsupported |= Flags::NO_EXECUTE;
            }
            if self.global_pages {
                Cr4::update(|cr4| cr4.insert(Cr4Flags::PAGE_GLOBAL));
            } else {
                unsupported |= Flags::GLOBAL;
            }
            if self.attribute_table {
                Msr::new(IA32_PAT).write(PAT_VALUE);
            }
        }
        page_table::set_unsupported(unsupported);
    }
}

/// A zeroed frame for a table, from memory that is mapped already.
#[expect(
    clippy::panic,
    reason = "there is no going on without page tables, and nothing but the machine has a say in it"
)]
fn take_table(free: &mut FreeRanges) -> PhysFrame {
    let Some(range) = free.take(PAGE, BOOT_MAPPED_END) else {
        panic!("not enough memory below 4 GiB for the kernel's page tables; the machine needs more memory");
    };
    let frame = PhysFrame::containing_address(PhysAddr::new_truncate(range.start));
    frames::zero(frame);
    frame
}

/// The story of the first page table: entries are filled while the boot tables are still loaded.
struct Builder<'a> {
    root: PhysFrame,
    free: &'a mut FreeRanges,
    one_gib_pages: bool,
}

impl Builder<'_> {
    fn root_table(&self) -> &'static Table {
        // SAFETY: the root is a zeroed frame that is a table for good.
        unsafe { Table::in_frame(self.root) }
    }

    /// Each section with its own permissions; the linker script gives each its own pages.
    fn map_image(&mut self) {
        let read_only = Flags::PRESENT | Flags::GLOBAL;
        let sections = [
            (address_of!(kernel_text_start)..address_of!(kernel_text_end), read_only),
            (address_of!(kernel_rodata_start)..address_of!(kernel_rodata_end), read_only | Flags::NO_EXECUTE),
            (address_of!(kernel_data_start)..address_of!(kernel_data_end), DATA),
        ];
        for (section, flags) in sections {
            let physical = section.start - IMAGE;
            self.map(section.start, physical..physical + (section.end - section.start), flags, Level::ONE);
        }
    }

    /// The direct map covers what the memory map calls memory, and what the loader put somewhere for us. Reserved ranges are
    /// left out: they are devices, or are asked for by `map_device`.
    fn map_memory(&mut self, information: &BootInformation) {
        let is_memory = |kind| matches!(kind, RegionKind::Usable | RegionKind::AcpiReclaimable | RegionKind::AcpiNvs);
        let regions = information.memory_map.regions().iter().filter(|region| is_memory(region.kind));
        let regions = regions.map(|region| region.range);
        let held = information.held.iter().map(|held| held.range);
        let small_pages_end = small_pages_end();
        let mut mapped = 0..small_pages_end;
        self.map_direct(mapped.clone());
        for range in regions {
            let range = range.start.as_u64() & !(PAGE - 1)..range.end.as_u64().next_multiple_of(PAGE);
            // Regions are sorted and apart: neighbours are joined so that large pages fit over the seam.
            if range.start <= mapped.end {
                mapped.end = mapped.end.max(range.end);
            } else {
                self.map_direct(mapped.start.max(small_pages_end)..mapped.end);
                mapped = range;
            }
        }
        self.map_direct(mapped.start.max(small_pages_end)..mapped.end);
        for range in held {
            let pages = range.start.as_u64() & !(PAGE - 1)..range.end.as_u64().next_multiple_of(PAGE);
            for address in pages.step_by(PAGE_SIZE) {
                if translate_in(self.root, direct_map::BASE + address).is_none() {
                    self.map_direct(address..address + PAGE);
                }
            }
        }
    }

    /// The direct map shows text and constants as well: read-only, so that no pointer reaches them for writing.
    fn protect_image(&mut self) {
        let fixed = address_of!(kernel_text_start) - IMAGE..address_of!(kernel_rodata_end) - IMAGE;
        for address in fixed.step_by(PAGE_SIZE).map(|physical| direct_map::BASE + physical) {
            if let Ok(slot) = slot_or_create(self.root, Level::ONE, address, || Err(Errno::ENOMEM)) {
                slot.set(slot.get().without(Flags::WRITABLE));
            }
        }
    }

    fn map_direct(&mut self, physical: Range<u64>) {
        let end = physical.end.min(direct_map::END - direct_map::BASE);
        let largest = match self.one_gib_pages {
            _ if physical.start < small_pages_end() => Level::ONE,
            true => Level::THREE,
            false => Level::TWO,
        };
        if physical.start < end {
            self.map(direct_map::BASE + physical.start, physical.start..end, DATA, largest);
        }
    }

    /// Maps pages as large as alignment, length and `largest` allow.
    fn map(&mut self, address: u64, physical: Range<u64>, flags: Flags, largest: Level) {
        let flags = supported(flags);
        let (mut address, mut from) = (address, physical.start);
        while from < physical.end {
            let fits = |level: &Level| {
                let span = level.span();
                *level <= largest && (address | from).is_multiple_of(span) && physical.end - from >= span
            };
            let level = [Level::THREE, Level::TWO].into_iter().find(fits).unwrap_or(Level::ONE);
            let size = if level == Level::ONE { Flags::empty() } else { Flags::HUGE_PAGE };
            let frame = PhysFrame::containing_address(PhysAddr::new_truncate(from));
            let free = &mut *self.free;
            if let Ok(slot) = slot_or_create(self.root, level, address, || Ok(take_table(free))) {
                slot.set(Entry::new(frame, flags | size));
            }
            address += level.span();
            from += level.span();
        }
    }
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

/// Maps a device's registers or memory, or a firmware table, for good. The pointer has the physical address's offset
/// within its page.
pub fn map_device(physical: PhysAddr, bytes: usize, caching: Caching) -> Result<*mut u8, Errno> {
    let first = physical.as_u64() & !(PAGE - 1);
    let end = physical.as_u64().checked_add(bytes as u64).and_then(|end| end.checked_next_multiple_of(PAGE));
    let length = end.and_then(|end| end.checked_sub(first)).ok_or(Errno::EINVAL)?;
    let mut next = NEXT_DEVICE.lock();
    let place = *next;
    // An unmapped page between devices catches overruns.
    let after = place.checked_add(length).and_then(|end| end.checked_add(PAGE)).ok_or(Errno::ENOMEM)?;
    if after > DEVICES.end {
        return Err(Errno::ENOMEM);
    }
    for offset in (0..length).step_by(PAGE_SIZE) {
        let frame = PhysFrame::containing_address(PhysAddr::new_truncate(first + offset));
        map_page(place + offset, frame, caching)?;
    }
    *next = after;
    Ok(core::ptr::with_exposed_provenance_mut((place + physical.as_u64() % PAGE) as usize))
}

/// A pointer to physical memory that firmware filled: in the direct map where that has it, else mapped now.
pub fn map_firmware(physical: PhysAddr, bytes: usize) -> Result<*mut u8, Errno> {
    let end = physical.as_u64().checked_add(bytes as u64).ok_or(Errno::EINVAL)?;
    let mut pages = (physical.as_u64() & !(PAGE - 1)..end).step_by(PAGE_SIZE);
    if end <= direct_map::END - direct_map::BASE && pages.all(|page| translate(direct_map::BASE + page).is_some()) {
        return Ok(direct_map::pointer(physical));
    }
    map_device(physical, bytes, Caching::WriteBack)
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
