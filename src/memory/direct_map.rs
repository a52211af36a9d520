//! The direct map: all of physical memory at a fixed place in kernel space, so that any frame can be read and written
//! without mapping it first. It is writable and never executable.
//!
//! On the host each test thread has a block of ordinary memory that plays physical memory; the same code runs over it.

use x86_64::PhysAddr;
use x86_64::structures::paging::PhysFrame;

/// Where physical address 0 is mapped. Half of kernel space (64 TiB) is set aside for it.
pub const BASE: u64 = 0xffff_8000_0000_0000;
pub const END: u64 = 0xffff_c000_0000_0000;

/// The kernel's address for a physical one.
#[inline(always)]
pub fn pointer(address: PhysAddr) -> *mut u8 {
    core::ptr::with_exposed_provenance_mut((base() + address.as_u64()) as usize)
}

/// The kernel's address for a frame.
#[inline(always)]
pub fn frame_pointer(frame: PhysFrame) -> *mut u8 {
    pointer(frame.start_address())
}

/// The physical address behind a pointer that [`pointer()`] returned.
#[inline(always)]
pub fn physical(pointer: *const u8) -> PhysAddr {
    PhysAddr::new_truncate((pointer.expose_provenance() as u64).wrapping_sub(base()))
}

/// Whether a kernel address lies in the direct map's part of kernel space.
#[inline(always)]
pub fn contains(pointer: *const u8) -> bool {
    (pointer.addr() as u64).wrapping_sub(base()) < END - BASE
}

#[cfg(target_os = "none")]
#[inline(always)]
const fn base() -> u64 {
    BASE
}

#[cfg(not(target_os = "none"))]
fn base() -> u64 {
    simulated::memory().base
}

/// Physical memory for the host: a block for each test thread, so that counts in one test don't see another's frames.
#[cfg(not(target_os = "none"))]
pub mod simulated {
    use super::super::early::FreeRanges;
    use super::super::frames::FrameTable;
    use crate::PAGE_SIZE;
    use alloc::alloc::{Layout, alloc_zeroed};
    use alloc::boxed::Box;

    pub const BYTES: u64 = 96 << 20;

    pub struct Memory {
        pub base: u64,
        pub frames: FrameTable,
    }

    fn new() -> &'static Memory {
        let layout = Layout::from_size_align(BYTES as usize, PAGE_SIZE).expect("a constant layout is valid");
        // SAFETY: the layout has a size that isn't zero. The block lives as long as the program: frames point into it.
        let block = unsafe { alloc_zeroed(layout) };
        assert!(!block.is_null(), "no memory to simulate memory with");
        let memory = Box::leak(Box::new(Memory { base: block.expose_provenance() as u64, frames: FrameTable::new() }));
        let mut free = FreeRanges::new([0..BYTES].into_iter(), [].into_iter());
        memory.frames.init(&mut free, |address| block.wrapping_add(address as usize));
        memory
    }

    #[cfg(test)]
    pub fn memory() -> &'static Memory {
        std::thread_local!(static MEMORY: &'static Memory = new());
        MEMORY.with(|memory| *memory)
    }

    #[cfg(not(test))]
    pub fn memory() -> &'static Memory {
        static MEMORY: spin::LazyLock<&'static Memory> = spin::LazyLock::new(new);
        &MEMORY
    }
}
