//! Physical frames: who owns each, and which are free.
//!
//! Single frames come from a stack of free ones, a few instructions each way. The stack is refilled from a buddy allocator of
//! power-of-two runs, a bounded batch at a time; what it can't hold goes there frame by frame. So allocating and freeing
//! cost the same whatever the size of memory.
//!
//! Each frame has an entry of 16 bytes. Invariants: a frame is free exactly when its reference count is 0; a frame's count
//! is the number of page-table entries, [`PageRef`]s and other owners that hold it; whoever takes the count to 0 frees it.
//! The counts are atomic, all else in the entries is touched under the allocator's lock only.

use super::direct_map;
use super::early::FreeRanges;
pub use super::page_ref::PageRef;
use crate::PAGE_SIZE;
use crate::errno::Errno;
use crate::fault_injection::{self, Point};
use crate::lock::{Lock, Rank};
use core::ops::Range;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use core::sync::atomic::{AtomicPtr, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, fence};
use x86_64::PhysAddr;
use x86_64::structures::paging::PhysFrame;

/// The largest run: 2^10 frames, 4 MiB.
pub const MAX_ORDER: u8 = 10;
const ORDERS: usize = MAX_ORDER as usize + 1;

/// No frame: the end of a list.
const NONE: u32 = u32::MAX;

/// The stack of single free frames takes at most this many from the buddy allocator at once…
const REFILL_ORDER: u8 = 5;
/// … and holds at most one in so many of all frames: the rest can merge to runs.
const STACK_SHARE: usize = 8;
/// A run that isn't found makes at most this many leave the stack, to find their buddies.
const UNSTACK_LIMIT: usize = 512;

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

#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Kernel,
    User,
}

/// Numbers for /proc/meminfo and the leak tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Frames that the allocator manages, free or not.
    pub total: usize,
    /// Those that are kept for their contents included.
    pub free: usize,
}

/// Frames that are kept for their next use because their contents are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    /// Full of zeros, as page tables are when they are given up.
    Zeroed,
    /// A level-4 page table with the kernel's half and nothing in the user's.
    Root,
}

/// How many of each kind are kept.
const KEPT_LIMIT: usize = 64;

/// A stack of frames, linked by `next`. They are in use, so that field is free.
struct KeptStack {
    top: u32,
    count: usize,
}

/// All frames: the entries, and the allocator over them.
pub struct FrameTable {
    entries: AtomicPtr<Entry>,
    entry_count: AtomicUsize,
    allocator: Lock<Allocator>,
    /// The address of the frame of zeros.
    zero_frame: AtomicU64,
    /// By [`Kept`].
    kept: [Lock<KeptStack>; 2],
}

struct Allocator {
    /// The stack of single free frames, linked by `next`.
    top: u32,
    stacked: usize,
    stack_limit: usize,
    /// Heads of the lists of free runs, by order, and the set of orders whose list isn't empty.
    runs: [u32; ORDERS],
    orders_present: u32,
    total: usize,
    free: usize,
    /// Frames that only the kernel's small objects and tables may take: what programs ask for can't starve them.
    kernel_reserve: usize,
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

/// Gives up a frame, the caller's alone, whose contents are what `kind` says.
#[inline]
pub(super) fn keep(frame: PhysFrame, kind: Kept) {
    let table = table();
    let (Some(entry), Some(stack)) = (table.entry(frame), table.kept.get(kind as usize)) else { return };
    let mut stack = stack.lock();
    if stack.count < KEPT_LIMIT {
        entry.next.store(stack.top, Relaxed);
        stack.top = (frame.start_address().as_u64() / PAGE_SIZE as u64) as u32;
        stack.count += 1;
        return;
    }
    drop(stack);
    table.release(frame);
}

/// A frame that was kept, if there is one. Counts as an allocation where failures are injected.
#[inline]
pub(super) fn take_kept(kind: Kept) -> Result<Option<PhysFrame>, Errno> {
    let table = table();
    let Some(stack) = table.kept.get(kind as usize) else { return Ok(None) };
    let mut stack = stack.lock();
    let index = stack.top;
    let Some(entry) = table.entries().get(index as usize) else { return Ok(None) };
    if fault_injection::should_fail(Point::FrameAllocation) {
        return Err(Errno::ENOMEM);
    }
    stack.top = entry.next.load(Relaxed);
    stack.count -= 1;
    Ok(Some(frame_at(index)))
}

/// Makes frames of what is kept again: for when memory is short.
pub fn trim() {
    for kind in [Kept::Zeroed, Kept::Root] {
        while let Ok(Some(frame)) = take_kept(kind) {
            release(frame);
        }
    }
}

/// A frame for what a program asked for (memory, file contents, a stack): refused while the kernel can still get one.
#[inline]
pub fn allocate_for_user() -> Result<PhysFrame, Errno> {
    table().allocate(Purpose::User)
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

/// Takes one more reference to a frame that the caller knows to be in use.
#[inline]
pub fn share(frame: PhysFrame) {
    table().share(frame);
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
    PhysFrame::containing_address(PhysAddr::new_truncate(table().zero_frame.load(Relaxed)))
}

/// Whether a frame isn't the allocator's: never given to it, or past the end of memory.
#[cfg(any(test, feature = "kernel-tests"))]
pub fn is_reserved(frame: PhysFrame) -> bool {
    table().entry(frame).is_none_or(|entry| entry.kind.load(Relaxed) == KIND_RESERVED)
}

pub fn counts() -> Counts {
    let kept: usize = table().kept.iter().map(|stack| stack.lock().count).sum();
    let allocator = table().allocator.lock();
    Counts { total: allocator.total, free: allocator.free + kept }
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

#[inline(always)]
fn frame_at(index: u32) -> PhysFrame {
    PhysFrame::containing_address(PhysAddr::new_truncate(u64::from(index) * PAGE_SIZE as u64))
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

impl FrameTable {
    pub const fn new() -> Self {
        Self {
            entries: AtomicPtr::new(core::ptr::null_mut()),
            entry_count: AtomicUsize::new(0),
            allocator: Lock::new(Rank::Frames, Allocator::new()),
            zero_frame: AtomicU64::new(0),
            kept: [const { Lock::new(Rank::Frames, KeptStack { top: NONE, count: 0 }) }; 2],
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
        drop(allocator);
        let Ok(zero_frame) = self.allocate(Purpose::Kernel) else { return };
        let zeros = pointer(zero_frame.start_address().as_u64());
        // SAFETY: a frame that was just allocated.
        unsafe { zeros.write_bytes(0, PAGE_SIZE) };
        self.zero_frame.store(zero_frame.start_address().as_u64(), Release);
    }

    #[inline(always)]
    fn entries(&self) -> &[Entry] {
        let count = self.entry_count.load(Relaxed);
        let entries = self.entries.load(Relaxed);
        if entries.is_null() {
            return &[];
        }
        // SAFETY: `init` stored a pointer to this many valid entries that live for ever and are only touched atomically.
        unsafe { core::slice::from_raw_parts(entries, count) }
    }

    /// None for frames past the end of memory: a device's.
    #[inline(always)]
    pub(super) fn entry(&self, frame: PhysFrame) -> Option<&Entry> {
        self.entries().get((frame.start_address().as_u64() / PAGE_SIZE as u64) as usize)
    }

    #[inline]
    fn allocate(&self, purpose: Purpose) -> Result<PhysFrame, Errno> {
        if fault_injection::should_fail(Point::FrameAllocation) {
            return Err(Errno::ENOMEM);
        }
        let entries = self.entries();
        let mut allocator = self.allocator.lock();
        if purpose == Purpose::User && allocator.free <= allocator.kernel_reserve {
            return Err(Errno::ENOMEM);
        }
        if allocator.top == NONE {
            allocator.refill(entries)?;
        }
        let index = allocator.top;
        let entry = entries.get(index as usize).ok_or(Errno::ENOMEM)?;
        allocator.top = entry.next.load(Relaxed);
        allocator.stacked = allocator.stacked.wrapping_sub(1);
        allocator.free = allocator.free.wrapping_sub(1);
        entry.reference_count.store(1, Relaxed);
        Ok(frame_at(index))
    }

    fn allocate_run(&self, order: u8) -> Result<PhysFrame, Errno> {
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

    fn release_run(&self, first: PhysFrame, order: u8) {
        let Some(entry) = self.entry(first) else { return };
        debug_assert_eq!(entry.reference_count.load(Relaxed), 1, "a run is its owner's alone");
        entry.reference_count.store(0, Relaxed);
        let mut allocator = self.allocator.lock();
        allocator.free += 1 << order;
        allocator.insert_run(self.entries(), (first.start_address().as_u64() / PAGE_SIZE as u64) as u32, order);
    }

    #[inline(always)]
    pub(super) fn share(&self, frame: PhysFrame) {
        if let Some(entry) = self.entry(frame) {
            let before = entry.reference_count.fetch_add(1, Relaxed);
            debug_assert!(before != 0, "a free frame was shared: {frame:?}");
        }
    }

    #[inline(always)]
    pub(super) fn release(&self, frame: PhysFrame) {
        let Some(entry) = self.entry(frame) else { return };
        let before = entry.reference_count.fetch_sub(1, Release);
        debug_assert!(before != 0, "a free frame was released: {frame:?}");
        if before == 1 {
            // What other owners did with the frame comes before its next use.
            fence(Acquire);
            self.free(frame, entry);
        }
    }

    /// Whether the caller's reference is the only one.
    #[inline(always)]
    pub(super) fn is_exclusive(&self, frame: PhysFrame) -> bool {
        self.entry(frame).is_some_and(|entry| entry.reference_count.load(Acquire) == 1)
    }

    #[inline]
    fn free(&self, frame: PhysFrame, entry: &Entry) {
        let index = (frame.start_address().as_u64() / PAGE_SIZE as u64) as u32;
        let mut allocator = self.allocator.lock();
        allocator.free = allocator.free.wrapping_add(1);
        if allocator.stacked < allocator.stack_limit {
            allocator.push(entry, index);
        } else {
            allocator.insert_run(self.entries(), index, 0);
        }
    }

    fn give_back(&self, range: Range<u64>) {
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

impl Allocator {
    const fn new() -> Self {
        Self {
            top: NONE,
            stacked: 0,
            stack_limit: 0,
            runs: [NONE; ORDERS],
            orders_present: 0,
            total: 0,
            free: 0,
            kernel_reserve: 0,
        }
    }

    #[inline(always)]
    fn push(&mut self, entry: &Entry, index: u32) {
        entry.next.store(self.top, Relaxed);
        self.top = index;
        self.stacked = self.stacked.wrapping_add(1);
    }

    /// Moves one run of at most 2^REFILL_ORDER frames to the stack: the smallest there is, so that large ones stay whole.
    #[cold]
    fn refill(&mut self, entries: &[Entry]) -> Result<(), Errno> {
        let smallest = self.orders_present.trailing_zeros() as u8;
        let order = smallest.min(REFILL_ORDER);
        let first = self.take_run(entries, order).ok_or(Errno::ENOMEM)?;
        // Pushed from the last to the first, so that they come out in rising order.
        for index in (first..first + (1 << order)).rev() {
            if let Some(entry) = entries.get(index as usize) {
                self.push(entry, index);
            }
        }
        Ok(())
    }

    /// Moves up to `count` frames from the stack to the buddy allocator.
    #[cold]
    fn unstack(&mut self, entries: &[Entry], count: usize) {
        for _ in 0..count {
            let index = self.top;
            let Some(entry) = entries.get(index as usize) else { return };
            self.top = entry.next.load(Relaxed);
            self.stacked -= 1;
            self.insert_run(entries, index, 0);
        }
    }

    /// A free run of exactly 2^`order` frames, split off a larger one where need be.
    fn take_run(&mut self, entries: &[Entry], order: u8) -> Option<u32> {
        let candidates = self.orders_present.checked_shr(u32::from(order))?;
        if candidates == 0 {
            return None;
        }
        let mut found = order + candidates.trailing_zeros() as u8;
        let index = *self.runs.get(usize::from(found))?;
        self.unlink(entries, index, found);
        while found > order {
            found -= 1;
            self.link(entries, index + (1 << found), found);
        }
        Some(index)
    }

    /// Adds a free run, merged with its buddy as often as that is free too.
    fn insert_run(&mut self, entries: &[Entry], index: u32, order: u8) {
        let (mut index, mut order) = (index, order);
        while order < MAX_ORDER {
            let buddy = index ^ (1 << order);
            let is_free = entries
                .get(buddy as usize)
                .is_some_and(|entry| entry.kind.load(Relaxed) == KIND_FREE_RUN && entry.order.load(Relaxed) == order);
            if !is_free {
                break;
            }
            self.unlink(entries, buddy, order);
            index &= !(1 << order);
            order += 1;
        }
        self.link(entries, index, order);
    }

    fn link(&mut self, entries: &[Entry], index: u32, order: u8) {
        let (Some(head), Some(entry)) = (self.runs.get_mut(usize::from(order)), entries.get(index as usize)) else {
            return;
        };
        entry.kind.store(KIND_FREE_RUN, Relaxed);
        entry.order.store(order, Relaxed);
        entry.previous.store(NONE, Relaxed);
        entry.next.store(*head, Relaxed);
        if let Some(next) = entries.get(*head as usize) {
            next.previous.store(index, Relaxed);
        }
        *head = index;
        self.orders_present |= 1 << order;
    }

    fn unlink(&mut self, entries: &[Entry], index: u32, order: u8) {
        let (Some(head), Some(entry)) = (self.runs.get_mut(usize::from(order)), entries.get(index as usize)) else {
            return;
        };
        let (previous, next) = (entry.previous.load(Relaxed), entry.next.load(Relaxed));
        match entries.get(previous as usize) {
            Some(previous) => previous.next.store(next, Relaxed),
            None => *head = next,
        }
        if let Some(next) = entries.get(next as usize) {
            next.previous.store(previous, Relaxed);
        }
        if *head == NONE {
            self.orders_present &= !(1 << order);
        }
        entry.kind.store(KIND_USED, Relaxed);
    }
}

#[cfg(test)]
mod tests;
