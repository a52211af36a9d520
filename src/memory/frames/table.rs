//! The table of all frames, an entry each: who counts the owners, and gives frames out and takes them back.

use super::free_lists::{Allocator, MAX_ORDER, STACK_SHARE, UNSTACK_LIMIT};
use super::kept::KeptStack;
use super::{Counts, Entry, KIND_RESERVED, KIND_USED, NONE, frame_at, index_of};
use crate::PAGE_SIZE;
use crate::errno::Errno;
use crate::fault_injection::{self, Point};
use crate::lock::{Lock, Rank};
use crate::memory::early::FreeRanges;
use core::ops::Range;
use core::ptr::NonNull;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use core::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, fence};
use x86_64::structures::paging::PhysFrame;

/// Whom a frame is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    Kernel,
    User,
    /// What outlives processes: the contents of files.
    File,
}

/// All frames: the entries, and the allocator over them.
pub struct FrameTable {
    entries: AtomicPtr<Entry>,
    entry_count: AtomicUsize,
    allocator: Lock<Allocator>,
    /// The address of the frame of zeros.
    zero_frame: AtomicU64,
    /// By [`Kept`](super::Kept).
    kept: [Lock<KeptStack>; 2],
}

impl FrameTable {
    pub const fn new() -> Self {
        Self {
            entries: AtomicPtr::new(NonNull::dangling().as_ptr()),
            entry_count: AtomicUsize::new(0),
            allocator: Lock::new(Rank::Frames, Allocator::new()),
            zero_frame: AtomicU64::new(0),
            kept: [const { Lock::new(Rank::Frames, KeptStack::new()) }; 2],
        }
    }

    /// The table is put where `free` has room for it; `pointer` gives the kernel's address for a physical one.
    pub fn init(&self, free: &mut FreeRanges, pointer: impl Fn(u64) -> *mut u8) {
        let count = entries_affordable(free);
        let bytes = count * size_of::<Entry>();
        let Some(place) = free.take(bytes as u64, u64::MAX) else {
            log::error!(target: "memory", "no room for the table of {count} frames");
            return;
        };
        let entries = pointer(place.start);
        // SAFETY: the range was free and is now ours for good; zero is a valid Entry (reserved, count 0).
        unsafe { entries.write_bytes(0, bytes) };
        self.entries.store(entries.cast(), Release);
        self.entry_count.store(count, Release);
        for range in free.iter() {
            self.give_back(range.clone());
        }
        let mut allocator = self.allocator.lock();
        allocator.kernel_reserve = (allocator.total / 128).clamp(32, 1024);
        allocator.program_reserve = allocator.total / 32;
        drop(allocator);
        let Ok(zero_frame) = self.allocate(Purpose::Kernel) else { return };
        let zeros = pointer(zero_frame.start_address().as_u64());
        // SAFETY: a frame that was just allocated.
        unsafe { zeros.write_bytes(0, PAGE_SIZE) };
        self.zero_frame.store(zero_frame.start_address().as_u64(), Release);
    }

    #[inline(always)]
    pub(super) fn entries(&self) -> &[Entry] {
        let count = self.entry_count.load(Acquire);
        let entries = self.entries.load(Relaxed);
        // SAFETY: before it set the count, `init` stored a pointer to as many valid entries, which live for ever and are only
        // touched atomically. Until then there are none, at an address that isn't null either: told so, the compiler doesn't ask
        // whether a reference into them is one.
        unsafe {
            core::hint::assert_unchecked(!entries.is_null());
            core::slice::from_raw_parts(entries, count)
        }
    }

    /// None for frames past the end of memory: a device's.
    #[inline(always)]
    pub(in crate::memory) fn entry(&self, frame: PhysFrame) -> Option<&Entry> {
        self.entries().get((frame.start_address().as_u64() / PAGE_SIZE as u64) as usize)
    }

    pub(super) fn kept(&self) -> &[Lock<KeptStack>; 2] {
        &self.kept
    }

    #[inline(always)]
    pub fn zero_frame(&self) -> u64 {
        self.zero_frame.load(Relaxed)
    }

    /// Without what is kept.
    pub fn counts(&self) -> Counts {
        let allocator = self.allocator.lock();
        Counts { total: allocator.total, free: allocator.free }
    }

    /// Whether there is a frame for this purpose.
    pub fn has_any(&self, purpose: Purpose) -> bool {
        let allocator = self.allocator.lock();
        allocator.free > allocator.kept_from(purpose)
    }

    /// Makes half of the kernel's reserve available to programs; says how many frames, which are to be given back with
    /// [`Self::close_reserve`].
    pub fn open_reserve(&self) -> usize {
        let mut allocator = self.allocator.lock();
        let part = allocator.kernel_reserve / 2;
        allocator.kernel_reserve -= part;
        part
    }

    pub fn close_reserve(&self, part: usize) {
        self.allocator.lock().kernel_reserve += part;
    }

    #[inline]
    pub fn allocate(&self, purpose: Purpose) -> Result<PhysFrame, Errno> {
        if fault_injection::should_fail(Point::FrameAllocation) {
            return Err(Errno::ENOMEM);
        }
        self.allocator.lock().take(self.entries(), purpose).map(frame_at)
    }

    /// Up to `most` frames that are neighbours in memory, with a reference each: the first, and how many.
    #[inline]
    pub fn allocate_neighbours(&self, purpose: Purpose, most: usize) -> Result<(PhysFrame, usize), Errno> {
        if fault_injection::should_fail(Point::FrameAllocation) {
            return Err(Errno::ENOMEM);
        }
        let (first, count) = self.allocator.lock().take_neighbours(self.entries(), purpose, most)?;
        Ok((frame_at(first), count))
    }

    /// Frees frames of [`Self::allocate_neighbours`], which must be their caller's alone.
    #[inline]
    pub fn release_neighbours(&self, first: PhysFrame, count: usize) {
        let entries = self.entries();
        let first = index_of(first);
        let mut allocator = self.allocator.lock();
        for index in first..first + count as u32 {
            let Some(entry) = entries.get(index as usize) else { return };
            debug_assert_eq!(entry.reference_count.load(Relaxed), 1, "they are their owner's alone");
            entry.reference_count.store(0, Relaxed);
            allocator.put_back(entries, entry, index);
        }
    }

    pub fn allocate_run(&self, order: u8) -> Result<PhysFrame, Errno> {
        if fault_injection::should_fail(Point::FrameAllocation) || order > MAX_ORDER {
            return Err(Errno::ENOMEM);
        }
        let entries = self.entries();
        let mut allocator = self.allocator.lock();
        if allocator.free <= allocator.kernel_reserve + (1 << order) {
            return Err(Errno::ENOMEM);
        }
        let mut taken = allocator.take_run(entries, order);
        if taken.is_none() {
            // The frames on the stack may be what keeps runs apart.
            allocator.unstack(entries, UNSTACK_LIMIT);
            taken = allocator.take_run(entries, order);
        }
        let index = taken.ok_or(Errno::ENOMEM)?;
        let entry = entries.get(index as usize).ok_or(Errno::ENOMEM)?;
        entry.reference_count.store(1, Relaxed);
        allocator.free -= 1 << order;
        Ok(frame_at(index))
    }

    pub fn release_run(&self, first: PhysFrame, order: u8) {
        let Some(entry) = self.entry(first) else { return };
        debug_assert_eq!(entry.reference_count.load(Relaxed), 1, "a run is its owner's alone");
        entry.reference_count.store(0, Relaxed);
        let mut allocator = self.allocator.lock();
        allocator.free += 1 << order;
        allocator.insert_run(self.entries(), index_of(first), order);
    }

    #[inline(always)]
    pub fn share(&self, frame: PhysFrame) {
        if let Some(entry) = self.entry(frame) {
            let before = entry.reference_count.fetch_add(1, Relaxed);
            debug_assert!(before != 0, "a free frame was shared: {frame:?}");
        }
    }

    #[inline(always)]
    pub fn release(&self, frame: PhysFrame) {
        if self.drop_reference(frame) {
            self.free(frame);
        }
    }

    /// Whether it was the last: then the frame is to be freed.
    #[inline(always)]
    pub(super) fn drop_reference(&self, frame: PhysFrame) -> bool {
        let Some(entry) = self.entry(frame) else { return false };
        let before = entry.reference_count.fetch_sub(1, Release);
        debug_assert!(before != 0, "a free frame was released: {frame:?}");
        if before == 1 {
            // What other owners did with the frame comes before its next use.
            fence(Acquire);
        }
        before == 1
    }

    /// Whether the caller's reference is the only one.
    #[inline(always)]
    pub fn is_exclusive(&self, frame: PhysFrame) -> bool {
        self.entry(frame).is_some_and(|entry| entry.reference_count.load(Acquire) == 1)
    }

    #[inline]
    pub(super) fn free(&self, frame: PhysFrame) {
        let Some(entry) = self.entry(frame) else { return };
        self.allocator.lock().put_back(self.entries(), entry, index_of(frame));
    }

    pub fn give_back(&self, range: Range<u64>) {
        let page = PAGE_SIZE as u64;
        let entries = self.entries();
        let first = range.start.div_ceil(page);
        let end = (range.end / page).min(entries.len() as u64);
        let mut index = first;
        while index < end {
            // The largest run that starts here, is aligned and fits.
            let room = (end - index).ilog2();
            let order = (index.trailing_zeros().min(room) as u8).min(MAX_ORDER);
            let run = entries.get(index as usize..(index as usize + (1 << order))).unwrap_or(&[]);
            if run.iter().all(|entry| entry.kind.load(Relaxed) == KIND_RESERVED) {
                self.give_run(entries, index as u32, order);
                index += 1 << order;
            } else {
                if run.first().is_some_and(|entry| entry.kind.load(Relaxed) == KIND_RESERVED) {
                    self.give_run(entries, index as u32, 0);
                }
                index += 1;
            }
        }
    }

    fn give_run(&self, entries: &[Entry], index: u32, order: u8) {
        for entry in entries.iter().skip(index as usize).take(1 << order) {
            entry.kind.store(KIND_USED, Relaxed);
        }
        let mut allocator = self.allocator.lock();
        allocator.total += 1 << order;
        allocator.stack_limit = allocator.total / STACK_SHARE;
        allocator.free += 1 << order;
        allocator.insert_run(entries, index, order);
    }
}

impl Default for FrameTable {
    fn default() -> Self {
        Self::new()
    }
}

/// One entry for each frame up to the end of memory; but a small far-away piece isn't worth a table that would eat more
/// than an eighth of what there is.
fn entries_affordable(free: &FreeRanges) -> usize {
    let most = free.bytes() / 8 / size_of::<Entry>() as u64;
    let needed = free.iter().map(|range| range.end / PAGE_SIZE as u64);
    let count = needed.filter(|&frames| frames <= most && frames < u64::from(NONE)).max().unwrap_or(0);
    count as usize
}
