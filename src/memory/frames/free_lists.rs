//! The free frames: a stack of single ones, a few instructions each way, and behind it a buddy allocator of power-of-two runs.
//!
//! The stack is refilled from the buddy allocator a bounded batch at a time; what it can't hold goes there frame by frame. Lists
//! run through the frames' entries, so none of this allocates.

use super::table::Purpose;
use super::{Entry, KIND_FREE_RUN, KIND_USED, NONE};
use crate::errno::Errno;
use core::sync::atomic::Ordering::Relaxed;

/// The largest run: 2^10 frames, 4 MiB.
pub const MAX_ORDER: u8 = 10;
const ORDERS: usize = MAX_ORDER as usize + 1;

/// The stack of single free frames takes at most this many from the buddy allocator at once…
const REFILL_ORDER: u8 = 5;
/// … and holds at most one in so many of all frames: the rest can merge to runs.
pub const STACK_SHARE: usize = 8;
/// A run that isn't found makes at most this many leave the stack, to find their buddies.
pub const UNSTACK_LIMIT: usize = 512;

/// The free frames. What the numbers in [`super::Counts`] say of them is kept here too, under the same lock.
pub struct Allocator {
    /// The stack of single free frames, linked by `next`.
    pub top: u32,
    pub stacked: usize,
    pub stack_limit: usize,
    /// Heads of the lists of free runs, by order, and the set of orders whose list isn't empty.
    runs: [u32; ORDERS],
    orders_present: u32,
    pub total: usize,
    pub free: usize,
    /// Frames that only the kernel's small objects and tables may take: what programs ask for can't starve them.
    pub kernel_reserve: usize,
    /// Frames that, beyond those, are not for files: whose contents can't starve programs.
    pub program_reserve: usize,
}

impl Allocator {
    pub const fn new() -> Self {
        Self {
            top: NONE,
            stacked: 0,
            stack_limit: 0,
            runs: [NONE; ORDERS],
            orders_present: 0,
            total: 0,
            free: 0,
            kernel_reserve: 0,
            program_reserve: 0,
        }
    }

    /// How many frames are not for this purpose.
    #[inline(always)]
    pub const fn kept_from(&self, purpose: Purpose) -> usize {
        match purpose {
            Purpose::Kernel => 0,
            Purpose::User => self.kernel_reserve,
            Purpose::File => self.kernel_reserve + self.program_reserve,
        }
    }

    /// One frame, with one reference.
    #[inline(always)]
    pub fn take(&mut self, entries: &[Entry], purpose: Purpose) -> Result<u32, Errno> {
        if purpose != Purpose::Kernel && self.free <= self.kept_from(purpose) {
            return Err(Errno::ENOMEM);
        }
        if self.top == NONE {
            self.refill(entries)?;
        }
        let index = self.top;
        let entry = entries.get(index as usize).ok_or(Errno::ENOMEM)?;
        self.top = entry.next.load(Relaxed);
        self.stacked = self.stacked.wrapping_sub(1);
        self.free = self.free.wrapping_sub(1);
        entry.reference_count.store(1, Relaxed);
        Ok(index)
    }

    /// Up to `most` frames that are neighbours in memory, with a reference each: those on top of the stack that rise or
    /// fall by one. The lowest, and how many.
    pub fn take_neighbours(&mut self, entries: &[Entry], purpose: Purpose, most: usize) -> Result<(u32, usize), Errno> {
        let first = self.take(entries, purpose)?;
        let step = self.top.wrapping_sub(first);
        if most <= 1 || step != 1 && step != 1u32.wrapping_neg() {
            return Ok((first, 1));
        }
        let more = (most - 1).min(self.free.saturating_sub(self.kept_from(purpose)));
        let (mut last, mut taken) = (first, 0);
        while taken < more
            && self.top == last.wrapping_add(step)
            && let Some(entry) = entries.get(self.top as usize)
        {
            last = self.top;
            self.top = entry.next.load(Relaxed);
            entry.reference_count.store(1, Relaxed);
            taken += 1;
        }
        self.stacked = self.stacked.wrapping_sub(taken);
        self.free = self.free.wrapping_sub(taken);
        Ok((first.min(last), 1 + taken))
    }

    /// Takes back a frame that nobody refers to any more.
    #[inline(always)]
    pub fn put_back(&mut self, entries: &[Entry], entry: &Entry, index: u32) {
        self.free = self.free.wrapping_add(1);
        if self.stacked < self.stack_limit {
            self.push(entry, index);
        } else {
            self.insert_run(entries, index, 0);
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
    pub fn refill(&mut self, entries: &[Entry]) -> Result<(), Errno> {
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
    pub fn unstack(&mut self, entries: &[Entry], count: usize) {
        for _ in 0..count {
            let index = self.top;
            let Some(entry) = entries.get(index as usize) else { return };
            self.top = entry.next.load(Relaxed);
            self.stacked -= 1;
            self.insert_run(entries, index, 0);
        }
    }

    /// A free run of exactly 2^`order` frames, split off a larger one where need be.
    pub fn take_run(&mut self, entries: &[Entry], order: u8) -> Option<u32> {
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
    pub fn insert_run(&mut self, entries: &[Entry], index: u32, order: u8) {
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
