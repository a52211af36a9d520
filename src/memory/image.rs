//! The kernel's image: where linker.ld put its sections, in kernel space and in physical memory.

use core::ops::Range;

/// From an address in the image to the physical one, and back: it is linked so far up.
const BASE: u64 = 0xffff_ffff_8000_0000;

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
    static boot_stack_guard: u8;
}

macro_rules! between {
    ($start:ident, $end:ident) => {
        (&raw const $start).addr() as u64..(&raw const $end).addr() as u64
    };
}

/// All of it, its boot part included: physical addresses.
pub fn physical_range() -> Range<u64> {
    between!(kernel_physical_start, kernel_physical_end)
}

/// The part that runs before paging and isn't needed after it: physical addresses.
pub fn boot_part() -> Range<u64> {
    between!(kernel_physical_start, boot_physical_end)
}

pub fn text() -> Range<u64> {
    between!(kernel_text_start, kernel_text_end)
}

pub fn rodata() -> Range<u64> {
    between!(kernel_rodata_start, kernel_rodata_end)
}

pub fn data() -> Range<u64> {
    between!(kernel_data_start, kernel_data_end)
}

/// The page below the boot stack, on which the idle thread stays: an address in kernel space.
pub fn guard_below_boot_stack() -> u64 {
    (&raw const boot_stack_guard).addr() as u64
}

/// Where a section lies in physical memory.
pub fn physical(section: &Range<u64>) -> Range<u64> {
    section.start - BASE..section.end - BASE
}
