//! Memory: physical frames, the kernel's mappings and heap, programs' address spaces, and the way to their bytes.
//!
//! In reading order: [`bring_up`] (the order of all the rest), [`early`] and [`frames`] (who owns which frame), [`direct_map`]
//! (how any frame is reached), [`page_table`] (how an address is translated), [`kernel_map`] (the half that all address
//! spaces share, and how its first table is built), [`kernel_stack`], [`device_map`], [`heap`]; then [`areas`] and
//! [`address_space`] (a program's half), [`faults`], `fork`, [`remap`], [`user_access`]. Three values stand for pages: [`PageRef`]
//! (one, which others may have too), [`page_run`] (neighbours, likewise), [`page_span`] (neighbours that are its owner's alone).

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::unreachable)]
#![cfg_attr(test, allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod address_space;
pub mod areas;
mod bring_up;
#[cfg(target_os = "none")]
pub mod device_map;
pub mod direct_map;
pub mod early;
pub mod faults;
mod fork;
pub mod frames;
#[cfg(target_os = "none")]
pub mod heap;
#[cfg(target_os = "none")]
pub mod image;
#[cfg(target_os = "none")]
pub mod kernel_map;
#[cfg(target_os = "none")]
pub mod kernel_stack;
mod page_ref;
pub mod page_run;
pub mod page_span;
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
