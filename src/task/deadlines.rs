//! Who is to be woken when: a heap of deadlines, the earliest on top.
//!
//! Adding, cancelling and expiring take logarithmic time; asking whether anything is due, which each tick does, takes one
//! comparison. Room is made when a timer is created ([`Deadlines::make_room`]), so that setting one cannot fail.

#![expect(clippy::indexing_slicing, reason = "positions are the heap's own, checked when they come from outside")]

use crate::errno::Errno;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Where in the heap a timer stands: part of what has the deadline, so that it is found again without a search.
pub struct Position(AtomicUsize);

const NOWHERE: usize = usize::MAX;

impl Position {
    pub const fn new() -> Self {
        Self(AtomicUsize::new(NOWHERE))
    }

    pub fn is_set(&self) -> bool {
        self.0.load(Relaxed) != NOWHERE
    }
}

impl Default for Position {
    fn default() -> Self {
        Self::new()
    }
}

/// What can have a deadline.
pub trait HasDeadline {
    fn position(&self) -> &Position;
}

pub struct Deadlines<T: HasDeadline> {
    heap: Vec<(u64, Arc<T>)>,
    /// How many timers exist; as many fit into the heap.
    timers: usize,
}

impl<T: HasDeadline> Deadlines<T> {
    pub const fn new() -> Self {
        Self { heap: Vec::new(), timers: 0 }
    }

    /// For each timer that comes to exist.
    pub fn make_room(&mut self) -> Result<(), Errno> {
        let timers = self.timers.checked_add(1).ok_or(Errno::ENOMEM)?;
        self.heap.try_reserve(timers.saturating_sub(self.heap.len())).map_err(|_| Errno::ENOMEM)?;
        self.timers = timers;
        Ok(())
    }

    /// For each timer that ceases to exist.
    pub fn give_room_back(&mut self) {
        self.timers = self.timers.saturating_sub(1);
    }

    /// Sets the item's deadline, in place of the one that it may have.
    pub fn set(&mut self, item: Arc<T>, deadline_ns: u64) {
        self.cancel(&item);
        let index = self.heap.len();
        item.position().0.store(index, Relaxed);
        self.heap.push((deadline_ns, item));
        self.rise(index);
    }

    /// Takes the item's deadline away; true if it had one.
    pub fn cancel(&mut self, item: &T) -> bool {
        let index = item.position().0.load(Relaxed);
        if index >= self.heap.len() {
            return false;
        }
        self.take(index);
        true
    }

    pub fn earliest(&self) -> Option<u64> {
        self.heap.first().map(|(deadline, _)| *deadline)
    }

    /// One of those whose deadline has come, the earliest first.
    pub fn pop_due(&mut self, now_ns: u64) -> Option<Arc<T>> {
        if self.earliest()? > now_ns {
            return None;
        }
        Some(self.take(0))
    }

    fn take(&mut self, index: usize) -> Arc<T> {
        let (_, item) = self.heap.swap_remove(index);
        item.position().0.store(NOWHERE, Relaxed);
        if index < self.heap.len() {
            self.note_position(index);
            self.sink(index);
            self.rise(index);
        }
        item
    }

    fn rise(&mut self, mut index: usize) {
        while index > 0 {
            let parent = (index - 1) / 2;
            if self.heap[parent].0 <= self.heap[index].0 {
                break;
            }
            self.swap(parent, index);
            index = parent;
        }
    }

    fn sink(&mut self, mut index: usize) {
        loop {
            let left = 2 * index + 1;
            let Some(smaller) = [left, left + 1]
                .into_iter()
                .filter(|child| *child < self.heap.len())
                .min_by_key(|child| self.heap[*child].0)
            else {
                break;
            };
            if self.heap[index].0 <= self.heap[smaller].0 {
                break;
            }
            self.swap(index, smaller);
            index = smaller;
        }
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.heap.swap(a, b);
        self.note_position(a);
        self.note_position(b);
    }

    fn note_position(&self, index: usize) {
        self.heap[index].1.position().0.store(index, Relaxed);
    }
}

impl<T: HasDeadline> Default for Deadlines<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Sleeper {
        number: usize,
        position: Position,
    }

    impl HasDeadline for Sleeper {
        fn position(&self) -> &Position {
            &self.position
        }
    }

    fn sleepers(count: usize, deadlines: &mut Deadlines<Sleeper>) -> Vec<Arc<Sleeper>> {
        (0..count).for_each(|_| deadlines.make_room().unwrap());
        (0..count).map(|number| Arc::new(Sleeper { number, position: Position::new() })).collect()
    }

    #[test]
    fn the_earliest_comes_first_and_nobody_before_time() {
        let mut deadlines = Deadlines::new();
        let sleepers = sleepers(3, &mut deadlines);
        for (sleeper, deadline) in sleepers.iter().zip([30, 10, 20]) {
            deadlines.set(sleeper.clone(), deadline);
        }
        assert!(deadlines.pop_due(9).is_none());
        assert_eq!(deadlines.pop_due(25).map(|sleeper| sleeper.number), Some(1));
        assert_eq!(deadlines.pop_due(25).map(|sleeper| sleeper.number), Some(2));
        assert!(deadlines.pop_due(25).is_none());
    }

    #[test]
    fn it_agrees_with_a_simple_model_over_random_operations() {
        let mut deadlines = Deadlines::new();
        let sleepers = sleepers(64, &mut deadlines);
        let mut model: Vec<Option<u64>> = vec![None; sleepers.len()];
        let mut seed = 7u64;
        let mut random = |bound: u64| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 33) % bound
        };
        for step in 0..if cfg!(miri) { 500 } else { 50_000u64 } {
            let who = random(64) as usize;
            match random(4) {
                0 | 1 => {
                    // Distinct deadlines, so that the order is the model's.
                    let deadline = random(1000) * 100_000 + step;
                    deadlines.set(sleepers[who].clone(), deadline);
                    model[who] = Some(deadline);
                }
                2 => assert_eq!(deadlines.cancel(&sleepers[who]), model[who].take().is_some()),
                _ => {
                    let now = random(1000) * 100_000;
                    let due = model.iter().enumerate().filter_map(|(n, d)| Some((((*d)?), n))).min();
                    let due = due.filter(|(deadline, _)| *deadline <= now).map(|(_, number)| number);
                    assert_eq!(deadlines.pop_due(now).map(|sleeper| sleeper.number), due);
                    if let Some(number) = due {
                        model[number] = None;
                    }
                }
            }
        }
    }
}
