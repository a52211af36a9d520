//! Physical frames: who owns each, and which are free.
//!
//! The interface is here; `table` holds the entries and counts owners, `free_lists` finds a free frame or run of frames, `kept`
//! keeps those whose contents are known. All of it costs the same whatever the size of memory.
//!
//! Each frame has an entry of 16 bytes. Invariants: a frame is free exactly when its reference count is 0; a frame's count
//! is the number of page-table entries, [`PageRef`]s and other owners that hold it; whoever takes the count to 0 frees it.
//! The counts are atomic, all else in the entries is touched under the allocator's lock only.

mod free_lists;
mod kept;
mod table;
#[cfg(test)]
mod tests;

use super::direct_map;
#[cfg(target_os = "none")]
use super::early::FreeRanges;
pub use super::page_ref::PageRef;
use crate::PAGE_SIZE;
use crate::errno::Errno;
use core::ops::Range;
use core::sync::atomic::Ordering::{Acquire, Relaxed};
use core::sync::atomic::{AtomicU8, AtomicU16, AtomicU32};
pub use free_lists::MAX_ORDER;
pub use kept::trim;
pub(super) use kept::{Kept, keep, take_kept};
pub use table::FrameTable;
use table::Purpose;
use x86_64::PhysAddr;
use x86_64::structures::paging::PhysFrame;

/// No frame: the end of a list.
const NONE: u32 = u32::MAX;

/// What a frame is, in its entry. Zero is what an entry is until its frame is given to the allocator.
const KIND_RESERVED: u8 = 0;
const KIND_USED: u8 = 1;
/// The first frame of a free run of the buddy allocator.
const KIND_FREE_RUN: u8 = 2;

#[repr(C)]
pub(super) struct Entry {
    reference_count: AtomicU32,
    /// Links of a free list; of the heap's list of partly used slabs.
    pub(super) next: AtomicU32,
    pub(super) previous: AtomicU32,
    kind: AtomicU8,
    order: AtomicU8,
    /// For a slab of the heap: its first free object, in units of 8 bytes.
    pub(super) first_free_object: AtomicU16,
}

const _: () = assert!(size_of::<Entry>() == 16, "the entries of 6 GiB take 24 MiB; keep them small");

/// Numbers for /proc/meminfo and the leak tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Frames that the allocator manages, free or not.
    pub total: usize,
    /// Those that are kept for their contents included.
    pub free: usize,
}

/// A slab of the heap has a reference for each of its objects. Only the slab's class changes the count, under its lock: so it
/// needs no atomic addition.
impl Entry {
    #[inline(always)]
    pub(super) fn add_object(&self) {
        self.reference_count.store(self.reference_count.load(Relaxed).wrapping_add(1), Relaxed);
    }

    /// Returns how many are left.
    #[inline(always)]
    pub(super) fn remove_object(&self) -> u32 {
        let left = self.reference_count.load(Relaxed).wrapping_sub(1);
        self.reference_count.store(left, Relaxed);
        left
    }
}

#[cfg(target_os = "none")]
static FRAMES: FrameTable = FrameTable::new();

#[cfg(target_os = "none")]
#[inline(always)]
pub(super) fn table() -> &'static FrameTable {
    &FRAMES
}

#[cfg(not(target_os = "none"))]
pub(super) fn table() -> &'static FrameTable {
    &direct_map::simulated::memory().frames
}

/// Makes the allocator out of the memory that is still free; every other frame is reserved until it is given back.
#[cfg(target_os = "none")]
pub fn init(free: &mut FreeRanges) {
    FRAMES.init(free, |address| direct_map::pointer(PhysAddr::new_truncate(address)));
}

/// One frame, its contents undefined, with one reference.
#[inline]
pub fn allocate() -> Result<PhysFrame, Errno> {
    table().allocate(Purpose::Kernel)
}

/// One frame full of zeros.
#[inline]
pub fn allocate_zeroed() -> Result<PhysFrame, Errno> {
    if let Some(frame) = take_kept(Kept::Zeroed)? {
        return Ok(frame);
    }
    let frame = allocate()?;
    zero(frame);
    Ok(frame)
}

/// A frame for what a program asked for (memory, file contents, a stack): refused while the kernel can still get one.
#[inline]
pub fn allocate_for_user() -> Result<PhysFrame, Errno> {
    table().allocate(Purpose::User)
}

/// A frame for a file's contents: refused while programs can still get some memory.
pub fn allocate_for_file() -> Result<PhysFrame, Errno> {
    table().allocate(Purpose::File)
}

/// Whether [`allocate_for_user`] would find a frame.
pub fn has_any_for_user() -> bool {
    table().has_any(Purpose::User)
}

/// Does something for which half of the kernel's reserve may be used as well: what can't wait until there is more.
pub fn with_reserve<R>(action: impl FnOnce() -> R) -> R {
    let part = table().open_reserve();
    let result = action();
    table().close_reserve(part);
    result
}

/// One frame full of zeros, on the terms of [`allocate_for_user`].
#[inline]
pub fn allocate_zeroed_for_user() -> Result<PhysFrame, Errno> {
    if let Some(frame) = take_kept(Kept::Zeroed)? {
        return Ok(frame);
    }
    let frame = allocate_for_user()?;
    zero(frame);
    Ok(frame)
}

/// A run of 2^`order` frames, aligned to its size, with one reference for the whole run (on its first frame). On the terms of
/// [`allocate_for_user`].
pub fn allocate_run(order: u8) -> Result<PhysFrame, Errno> {
    table().allocate_run(order)
}

/// Frees a run of [`allocate_run`]. The run must be its caller's alone.
pub fn release_run(first: PhysFrame, order: u8) {
    table().release_run(first, order);
}

/// Up to `most` frames that are neighbours in memory, on the terms of [`allocate_for_user`]: the first, and how many.
#[inline]
pub(super) fn allocate_neighbours_for_user(most: usize) -> Result<(PhysFrame, usize), Errno> {
    table().allocate_neighbours(Purpose::User, most)
}

/// Frees neighbours that are the caller's alone.
#[inline]
pub(super) fn release_neighbours(first: PhysFrame, count: usize) {
    table().release_neighbours(first, count);
}

/// Takes one more reference to a frame that the caller knows to be in use.
#[inline]
pub fn share(frame: PhysFrame) {
    table().share(frame);
}

/// Gives back what [`share`] took, where the frame has other owners as a rule: freeing it is out of the way.
#[inline(always)]
pub(super) fn unshare(frame: PhysFrame) {
    #[cold]
    #[inline(never)]
    fn free(frame: PhysFrame) {
        table().free(frame);
    }
    if table().drop_reference(frame) {
        free(frame);
    }
}

/// Gives a reference back; the last one frees the frame.
#[inline]
pub fn release(frame: PhysFrame) {
    table().release(frame);
}

#[inline]
pub fn reference_count(frame: PhysFrame) -> u32 {
    table().entry(frame).map_or(0, |entry| entry.reference_count.load(Acquire))
}

/// The one frame of zeros that stands for memory which was read but never written. The kernel keeps a reference, so it is
/// never freed and never anybody's alone.
#[inline(always)]
pub fn zero_frame() -> PhysFrame {
    PhysFrame::containing_address(PhysAddr::new_truncate(table().zero_frame()))
}

/// Whether a frame isn't the allocator's: never given to it, or past the end of memory.
#[cfg(any(test, feature = "kernel-tests"))]
pub fn is_reserved(frame: PhysFrame) -> bool {
    table().entry(frame).is_none_or(|entry| entry.kind.load(Relaxed) == KIND_RESERVED)
}

pub fn counts() -> Counts {
    let counts = table().counts();
    Counts { free: counts.free + kept::count(), ..counts }
}

/// Gives the whole pages in a range of reserved memory (boot code, modules, boot information) to the allocator.
/// Frames that aren't reserved are left alone.
pub fn give_back(range: Range<u64>) {
    table().give_back(range);
}

/// Fills a frame with zeros.
#[inline]
pub fn zero(frame: PhysFrame) {
    let pointer = direct_map::frame_pointer(frame);
    // SAFETY: the caller owns the frame, and the direct map has all of it.
    unsafe { zero_page(pointer) }
}

/// REP STOSQ: 512 steps, and the microcode's fast path where the CPU has one.
///
/// # Safety
/// `page` is a whole writable page.
#[cfg(target_os = "none")]
#[inline]
unsafe fn zero_page(page: *mut u8) {
    // SAFETY: the caller's promise; DF is clear in the kernel.
    unsafe {
        core::arch::asm!("rep stosq", inout("rcx") PAGE_SIZE / 8 => _, inout("rdi") page => _, in("rax") 0,
            options(nostack, preserves_flags));
    }
}

/// # Safety
/// `page` is a whole writable page.
#[cfg(not(target_os = "none"))]
unsafe fn zero_page(page: *mut u8) {
    // SAFETY: the caller's promise.
    unsafe { page.write_bytes(0, PAGE_SIZE) }
}

/// Copies one frame's contents into another.
#[inline]
pub fn copy(from: PhysFrame, to: PhysFrame) {
    let (source, target) = (direct_map::frame_pointer(from), direct_map::frame_pointer(to));
    // SAFETY: two different whole frames; user threads may write to the source meanwhile, which tears at worst.
    #[cfg(target_os = "none")]
    unsafe {
        core::arch::asm!("rep movsq", inout("rcx") PAGE_SIZE / 8 => _, inout("rsi") source => _,
            inout("rdi") target => _, options(nostack, preserves_flags));
    }
    // SAFETY: two different whole frames of this thread's simulated memory.
    #[cfg(not(target_os = "none"))]
    unsafe {
        core::ptr::copy_nonoverlapping(source, target, PAGE_SIZE);
    }
}

/// The place of a frame's entry, for a frame that has one.
#[inline(always)]
pub(super) fn index_of(frame: PhysFrame) -> u32 {
    (frame.start_address().as_u64() / PAGE_SIZE as u64) as u32
}

#[inline(always)]
pub(super) fn frame_at(index: u32) -> PhysFrame {
    PhysFrame::containing_address(PhysAddr::new_truncate(u64::from(index) * PAGE_SIZE as u64))
}
