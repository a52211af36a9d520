//! Core story 2, its beginning: the first page table of the kernel's own. Memory is still short of everything: there is no
//! frame allocator and no heap, and the tables that are loaded are asm/boot.asm's.

use super::{DATA, FIRST_KERNEL_ENTRY, ROOT, slot_or_create, translate_in};
use crate::PAGE_SIZE;
use crate::boot::memory_map::RegionKind;
use crate::boot::{BOOT_MAPPED_BYTES, BootInformation};
use crate::cpu::features;
use crate::errno::Errno;
use crate::memory::early::FreeRanges;
use crate::memory::page_table::{self, Entry, Level, Table, supported};
use crate::memory::{direct_map, frames, image};
use core::ops::Range;
use core::sync::atomic::Ordering::Relaxed;
use x86_64::PhysAddr;
use x86_64::registers::control::{Cr3, Cr3Flags};
use x86_64::structures::paging::{PageTableFlags as Flags, PhysFrame};

const PAGE: u64 = PAGE_SIZE as u64;

/// Below this address only 4 KiB pages are used: the fixed MTRRs give the first MiB several memory types, and a large page
/// over different types is undefined (SDM 3A §12.11.9). The image needs them too, to be read-only where it is.
pub fn small_pages_end() -> u64 {
    image::physical_range().end.next_multiple_of(2 << 20)
}

/// Builds the kernel's half from the memory map, loads it, and so leaves the boot page tables and their identity mapping.
pub fn build(information: &BootInformation, free: &mut FreeRanges) {
    let mut unsupported = Flags::empty();
    unsupported.set(Flags::NO_EXECUTE, !features().nx);
    unsupported.set(Flags::GLOBAL, !features().pge);
    page_table::set_unsupported(unsupported);
    let mut builder = Builder { root: take_table(free), free };
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

/// A zeroed frame for a table, from memory that the boot page tables map, so that it can be written.
#[expect(
    clippy::panic,
    reason = "there is no going on without page tables, and nothing but the machine has a say in it"
)]
fn take_table(free: &mut FreeRanges) -> PhysFrame {
    let Some(range) = free.take(PAGE, BOOT_MAPPED_BYTES) else {
        panic!("not enough memory below 4 GiB for the kernel's page tables; the machine needs more memory");
    };
    let frame = PhysFrame::containing_address(PhysAddr::new_truncate(range.start));
    frames::zero(frame);
    frame
}

/// Fills entries while the boot tables are still loaded.
struct Builder<'a> {
    root: PhysFrame,
    free: &'a mut FreeRanges,
}

impl Builder<'_> {
    fn root_table(&self) -> &'static Table {
        // SAFETY: the root is a zeroed frame that is a table for good.
        unsafe { Table::in_frame(self.root) }
    }

    /// Each section with its own permissions; the linker script gives each its own pages.
    fn map_image(&mut self) {
        let read_only = Flags::PRESENT | Flags::GLOBAL;
        let sections =
            [(image::text(), read_only), (image::rodata(), read_only | Flags::NO_EXECUTE), (image::data(), DATA)];
        for (section, flags) in sections {
            self.map(section.start, image::physical(&section), flags, Level::ONE);
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
        let fixed = image::physical(&(image::text().start..image::rodata().end));
        for address in fixed.step_by(PAGE_SIZE).map(|physical| direct_map::BASE + physical) {
            if let Ok(slot) = slot_or_create(self.root, Level::ONE, address, || Err(Errno::ENOMEM)) {
                slot.set(slot.get().without(Flags::WRITABLE));
            }
        }
    }

    fn map_direct(&mut self, physical: Range<u64>) {
        let end = physical.end.min(direct_map::END - direct_map::BASE);
        let largest = match features().one_gib_pages {
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
