//! Memory: physical frames, the kernel's mappings and heap, programs' address spaces, and the way to their bytes.
//!
//! In reading order: [`early`] and [`frames`] (who owns which frame), [`direct_map`] (how any frame is reached),
//! [`page_table`] (how an address is translated), [`kernel_map`] (the half that all address spaces share), [`heap`];
//! then [`areas`] and [`address_space`] (a program's half), [`faults`], `fork`, [`remap`], [`user_access`].

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::unreachable)]
#![cfg_attr(test, allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod address_space;
pub mod areas;
pub mod direct_map;
pub mod early;
pub mod faults;
mod fork;
pub mod frames;
#[cfg(target_os = "none")]
pub mod heap;
#[cfg(target_os = "none")]
pub mod kernel_map;
#[cfg(target_os = "none")]
pub mod kernel_stack;
mod page_ref;
pub mod page_table;
pub mod remap;
pub mod shared_object;
mod slabs;
#[cfg(test)]
mod tests;
pub mod tlb;
pub mod user_access;

pub use address_space::{AddressSpace, Limits, Placement, ProgramLayout, USER_END};
pub use areas::{Area, AreaFlags, Backing, Mapping, PageSource, Protection};
pub use frames::PageRef;
pub use user_access::UserAddress;

#[cfg(target_os = "none")]
pub use bring_up::init;

/// What CR3 holds while no program's address space is needed: the kernel's own table, whose lower half is empty.
#[cfg(target_os = "none")]
pub fn kernel_page_table() -> u64 {
    kernel_map::root().start_address().as_u64()
}

#[cfg(target_os = "none")]
mod bring_up {
    use super::early::FreeRanges;
    use super::{frames, kernel_map, user_access};
    use crate::boot::BootInformation;
    use crate::boot::Holder;
    use core::ops::Range;

    /// Brings memory up: after it frames, heap, kernel stacks and device mappings can be asked for, and the boot page tables
    /// with their identity mapping are gone.
    ///
    /// Needs the boot information and nothing else. What a module or the boot information holds stays reserved until its user
    /// calls [`frames::give_back`].
    pub fn init(information: &BootInformation) {
        let usable = information.memory_map.usable().map(|range| range.start.as_u64()..range.end.as_u64());
        let held = information.held.iter().map(|held| held.range.start.as_u64()..held.range.end.as_u64());
        let image: Range<u64> = kernel_map::image_range();
        let mut free = FreeRanges::new(usable, held.chain([image]));
        user_access::allow_access_where_smap_forbids();
        kernel_map::build(information, &mut free);
        frames::init(&mut free);
        // Their frames are the image's: they aren't given to anybody.
        crate::cpu::gdt::guard_pages().for_each(|guard| {
            kernel_map::unmap_page(guard.as_u64());
        });
        give_back_what_is_done_with(information);
        let counts = frames::counts();
        log::info!(
            target: "memory", "{} KiB free of {} KiB usable",
            counts.free * 4, information.memory_map.usable_bytes() / 1024
        );
    }

    /// The code that ran before paging, and the loader's text: both have been read.
    fn give_back_what_is_done_with(information: &BootInformation) {
        frames::give_back(kernel_map::boot_part_range());
        for held in information.held.iter().filter(|held| held.holder == Holder::BootInformation) {
            let range = held.range.start.as_u64()..held.range.end.as_u64();
            let others = information.held.iter().filter(|other| other.holder != held.holder);
            let overlaps = |other: Range<u64>| other.start < range.end && range.start < other.end;
            // A page that another holder shares stays reserved with it.
            if !others.map(|other| other.range.start.as_u64()..other.range.end.as_u64()).any(overlaps) {
                frames::give_back(range);
            }
        }
    }
}
