//! Frames that are kept for their next use because their contents are known: a page table that is given up is full of zeros
//! again, or a level-4 table as new. They count as free, and become free when memory is short.

use super::{NONE, frame_at, index_of, release, table};
use crate::errno::Errno;
use crate::fault_injection::{self, Point};
use core::sync::atomic::Ordering::Relaxed;
use x86_64::structures::paging::PhysFrame;

/// What is known of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// Full of zeros, as page tables are when they are given up.
    Zeroed,
    /// A level-4 page table with the kernel's half and nothing in the user's.
    Root,
}

/// How many of each kind are kept.
const KEPT_LIMIT: usize = 64;

/// A stack of frames, linked by `next`. They are in use, so that field is free.
pub struct KeptStack {
    top: u32,
    count: usize,
}

impl KeptStack {
    pub const fn new() -> Self {
        Self { top: NONE, count: 0 }
    }
}

/// Gives up a frame, the caller's alone, whose contents are what `kind` says.
#[inline]
pub fn keep(frame: PhysFrame, kind: Kept) {
    let table = table();
    let (Some(entry), Some(stack)) = (table.entry(frame), table.kept().get(kind as usize)) else { return };
    let mut stack = stack.lock();
    if stack.count < KEPT_LIMIT {
        entry.next.store(stack.top, Relaxed);
        stack.top = index_of(frame);
        stack.count += 1;
        return;
    }
    drop(stack);
    table.release(frame);
}

/// A frame that was kept, if there is one. Counts as an allocation where failures are injected.
#[inline]
pub fn take_kept(kind: Kept) -> Result<Option<PhysFrame>, Errno> {
    let table = table();
    let Some(stack) = table.kept().get(kind as usize) else { return Ok(None) };
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

/// How many there are.
pub fn count() -> usize {
    table().kept().iter().map(|stack| stack.lock().count).sum()
}
