//! Which thread runs next: a queue with constant-time insertion and choice.
//!
//! Threads wait in one list for each nice level, and a bit map says which lists hold any; the most favoured one that does
//! gives the next thread. Fairness comes from two such sets. A thread that has used up its quantum goes to the *expired*
//! set, and when nobody is left in the *active* one the two change roles. So in each round every ready thread gets its
//! quantum once: nice values decide how long that is and who goes first, and nobody starves.
//!
//! The lists run through the threads themselves ([`Link`]), so that making a thread ready never allocates. The queue owns
//! one counted reference to each thread in it.

#![expect(clippy::indexing_slicing, reason = "sets and levels are bounded where they are stored")]

use alloc::sync::Arc;
use core::cell::UnsafeCell;
use core::ptr;

/// Nice values -20 to 19, as levels 0 to 39.
pub const LEVELS: usize = 40;

/// A thread's place in a ready queue.
pub struct Link<T> {
    neighbours: UnsafeCell<Neighbours<T>>,
}

struct Neighbours<T> {
    next: *const T,
    previous: *const T,
    /// Which list it stands in: the set (0 or 1) and the level.
    place: Option<(u8, u8)>,
}

// SAFETY: the contents are touched only by the one queue that the thread is in, through `&mut ReadyQueue`.
unsafe impl<T> Send for Link<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Link<T> {}

impl<T> Link<T> {
    pub const fn new() -> Self {
        Self { neighbours: UnsafeCell::new(Neighbours { next: ptr::null(), previous: ptr::null(), place: None }) }
    }
}

impl<T> Default for Link<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// What can stand in a ready queue.
///
/// # Safety
/// `link` always returns the same link, which is part of `self`, and a value is put into one queue at most at a time.
pub unsafe trait Ready: Sized {
    fn link(&self) -> &Link<Self>;
}

struct List<T> {
    first: *const T,
    last: *const T,
}

struct Set<T> {
    /// Bit n: the list of level n is not empty.
    occupied: u64,
    lists: [List<T>; LEVELS],
}

pub struct ReadyQueue<T: Ready> {
    sets: [Set<T>; 2],
    /// Index of the active set; the other one is the expired set.
    active: usize,
    length: usize,
}

// SAFETY: the queue owns its threads by counted references; its raw pointers are those references.
unsafe impl<T: Ready + Send + Sync> Send for ReadyQueue<T> {}

impl<T: Ready> ReadyQueue<T> {
    pub const fn new() -> Self {
        const { assert!(LEVELS <= 64) };
        Self { sets: [Set::new(), Set::new()], active: 0, length: 0 }
    }

    /// Adds a thread that still has some of its quantum, behind the others of its level.
    #[inline]
    pub fn push_active(&mut self, item: Arc<T>, level: usize) {
        self.push(self.active, item, level);
    }

    /// Adds a thread that has used up its quantum: its turn comes in the next round.
    #[inline]
    pub fn push_expired(&mut self, item: Arc<T>, level: usize) {
        self.push(self.active ^ 1, item, level);
    }

    /// Takes out the thread that is to run next.
    #[inline]
    pub fn pop(&mut self) -> Option<Arc<T>> {
        if self.sets[self.active].occupied == 0 {
            self.active ^= 1;
        }
        let set = &self.sets[self.active];
        if set.occupied == 0 {
            return None;
        }
        let first = set.lists[set.occupied.trailing_zeros() as usize].first;
        // SAFETY: what a list of this queue holds came from `Arc::into_raw` in `push`, and unlinking hands that
        // reference over to us.
        let item = unsafe {
            self.unlink(first);
            Arc::from_raw(first)
        };
        Some(item)
    }

    pub fn len(&self) -> usize {
        self.length
    }

    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    fn push(&mut self, set_index: usize, item: Arc<T>, level: usize) {
        let level = level.min(LEVELS - 1);
        let raw = Arc::into_raw(item);
        let set = &mut self.sets[set_index];
        let list = &mut set.lists[level];
        // SAFETY: `raw` and `list.last` are references that this queue owns, and their links are touched by it alone.
        unsafe {
            let link = &mut *(*raw).link().neighbours.get();
            debug_assert!(link.place.is_none(), "a thread was made ready twice");
            *link = Neighbours { next: ptr::null(), previous: list.last, place: Some((set_index as u8, level as u8)) };
            match list.last.as_ref() {
                Some(last) => (*last.link().neighbours.get()).next = raw,
                None => list.first = raw,
            }
        }
        list.last = raw;
        set.occupied |= 1 << level;
        self.length += 1;
    }

    /// # Safety
    /// `raw` stands in one of this queue's lists. The caller takes over the queue's reference to it.
    unsafe fn unlink(&mut self, raw: *const T) {
        // SAFETY: by the caller's word `raw` is in a list, so it and its neighbours are alive and ours.
        unsafe {
            let link = &mut *(*raw).link().neighbours.get();
            let Some((set_index, level)) = link.place.take() else { return };
            let set = &mut self.sets[usize::from(set_index & 1)];
            let list = &mut set.lists[usize::from(level) % LEVELS];
            match link.previous.as_ref() {
                Some(previous) => (*previous.link().neighbours.get()).next = link.next,
                None => list.first = link.next,
            }
            match link.next.as_ref() {
                Some(next) => (*next.link().neighbours.get()).previous = link.previous,
                None => list.last = link.previous,
            }
            if list.first.is_null() {
                set.occupied &= !(1 << level);
            }
        }
        self.length -= 1;
    }
}

impl<T: Ready> Default for ReadyQueue<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Ready> Drop for ReadyQueue<T> {
    fn drop(&mut self) {
        while self.pop().is_some() {}
    }
}

impl<T> Set<T> {
    const fn new() -> Self {
        Self { occupied: 0, lists: [const { List { first: ptr::null(), last: ptr::null() } }; LEVELS] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    struct Job {
        number: u32,
        link: Link<Job>,
    }

    // SAFETY: `link` returns the job's one link.
    unsafe impl Ready for Job {
        fn link(&self) -> &Link<Job> {
            &self.link
        }
    }

    fn job(number: u32) -> Arc<Job> {
        Arc::new(Job { number, link: Link::new() })
    }

    #[test]
    fn the_most_favoured_level_goes_first_and_each_level_in_order() {
        let mut queue = ReadyQueue::new();
        for (number, level) in [(1, 20), (2, 20), (3, 0), (4, 39)] {
            queue.push_active(job(number), level);
        }
        let order: Vec<u32> = std::iter::from_fn(|| queue.pop()).map(|job| job.number).collect();
        assert_eq!(order, [3, 1, 2, 4]);
    }

    #[test]
    fn who_has_used_up_a_quantum_waits_for_all_the_others() {
        let mut queue = ReadyQueue::new();
        queue.push_expired(job(1), 0);
        queue.push_active(job(2), 39);
        assert_eq!(queue.pop().map(|job| job.number), Some(2));
        assert_eq!(queue.pop().map(|job| job.number), Some(1));
        assert!(queue.pop().is_none());
    }

    #[test]
    fn a_dropped_queue_gives_its_references_back() {
        let mut queue = ReadyQueue::new();
        let jobs: Vec<_> = (0..3).map(job).collect();
        jobs.iter().for_each(|job| queue.push_active(job.clone(), 20));
        assert_eq!(queue.len(), 3);
        drop(queue);
        assert!(jobs.iter().all(|job| Arc::strong_count(job) == 1));
    }

    #[test]
    fn it_agrees_with_a_simple_model_over_random_operations() {
        let mut queue = ReadyQueue::new();
        let mut model: [Vec<VecDeque<u32>>; 2] = std::array::from_fn(|_| vec![VecDeque::new(); LEVELS]);
        let mut seed = 1u64;
        let mut random = |bound: u64| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 33) % bound
        };
        let steps = if cfg!(miri) { 500 } else { 50_000 };
        for number in 0..steps {
            let level = random(LEVELS as u64) as usize;
            match random(5) {
                0 | 1 => {
                    queue.push_active(job(number), level);
                    model[0][level].push_back(number);
                }
                2 => {
                    queue.push_expired(job(number), level);
                    model[1][level].push_back(number);
                }
                _ => {
                    if model[0].iter().all(VecDeque::is_empty) {
                        model.swap(0, 1);
                    }
                    let expected = model[0].iter_mut().find_map(VecDeque::pop_front);
                    assert_eq!(queue.pop().map(|job| job.number), expected);
                }
            }
        }
    }
}
