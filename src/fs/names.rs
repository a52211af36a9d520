//! The names in one directory: an insertion-ordered table with a hash index beside it.
//!
//! Entries are only ever appended, each with a cookie that grows; so a program that reads a directory while names come
//! and go sees every name that stayed exactly once, and its position (`d_off`) is simply the next cookie. Removal leaves
//! a hole that is closed later. Small directories are scanned by hash and have no index.

use crate::errno::Errno;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Positions 0 and 1 of every directory are `.` and `..`.
pub const FIRST_COOKIE: u64 = 2;

/// Up to this many slots a scan is cheaper than the index.
const SCANNED: usize = 8;
/// A table with room for no more names than this keeps it when they go.
const KEPT: usize = 64;
const FREE: u32 = u32::MAX;
const DELETED: u32 = u32::MAX - 1;

/// What a name stands for, and where in the directory.
pub struct Names<T> {
    slots: Vec<Slot<T>>,
    /// Slot numbers by hash, open addressing; empty while the directory is small.
    index: Vec<u32>,
    /// Places of `index` that aren't [`FREE`].
    index_used: usize,
    live: usize,
    next_cookie: u64,
}

struct Slot<T> {
    hash: u32,
    cookie: u64,
    value: Option<T>,
}

/// Mixed into every hash, so that programs can't choose names that collide.
static HASH_SEED: AtomicU64 = AtomicU64::new(0x9e37_79b9_7f4a_7c15);

/// To be called before the first name is made.
pub fn seed_hash(seed: u64) {
    HASH_SEED.store(seed | 1, Relaxed);
}

#[inline]
pub fn hash(name: &[u8]) -> u32 {
    let start = HASH_SEED.load(Relaxed) ^ name.len() as u64;
    let state = name.as_chunks().0.iter().fold(start, |state, word| fold(state ^ u64::from_le_bytes(*word)));
    let state = fold(state ^ last_word(name));
    (state ^ state >> 32) as u32
}

/// Whether two names are the same one. Names are short: a call of memcmp would cost more than the comparison.
#[inline]
pub fn same(one: &[u8], other: &[u8]) -> bool {
    let words = |name| <[u8]>::as_chunks::<8>(name).0.iter().map(|word| u64::from_le_bytes(*word));
    one.len() == other.len() && last_word(one) == last_word(other) && words(one).eq(words(other))
}

/// What the whole words of a name leave out, in one word: together with them and the length it says everything.
#[inline(always)]
fn last_word(name: &[u8]) -> u64 {
    if let Some(word) = name.last_chunk() {
        return u64::from_le_bytes(*word);
    }
    match (name.first_chunk(), name.last_chunk()) {
        (Some(first), Some(last)) => u64::from(u32::from_le_bytes(*first)) << 32 | u64::from(u32::from_le_bytes(*last)),
        _ => name.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)),
    }
}

/// A full multiplication, its halves folded: every input bit reaches every output bit.
#[inline]
fn fold(value: u64) -> u64 {
    let product = u128::from(value) * 0xa076_1d64_78bd_642f;
    product as u64 ^ (product >> 64) as u64
}

impl<T> Default for Names<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Names<T> {
    pub const fn new() -> Self {
        Self { slots: Vec::new(), index: Vec::new(), index_used: 0, live: 0, next_cookie: FIRST_COOKIE }
    }

    pub fn len(&self) -> usize {
        self.live
    }

    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// The slot whose hash is `hash` and whose value `is_it` accepts.
    #[inline]
    pub fn find(&self, hash: u32, mut is_it: impl FnMut(&T) -> bool) -> Option<usize> {
        let mut matches = |slot: &Slot<T>| slot.hash == hash && slot.value.as_ref().is_some_and(&mut is_it);
        if self.index.is_empty() {
            return self.slots.iter().position(matches);
        }
        let mask = self.index.len() - 1;
        let mut place = hash as usize & mask;
        // Ends: the index always keeps free places.
        loop {
            match *self.index.get(place)? {
                FREE => return None,
                DELETED => {}
                number => {
                    if self.slots.get(number as usize).is_some_and(&mut matches) {
                        return Some(number as usize);
                    }
                }
            }
            place = (place + 1) & mask;
        }
    }

    #[inline]
    pub fn value(&self, slot: usize) -> Option<&T> {
        self.slots.get(slot)?.value.as_ref()
    }

    /// Makes sure that the next [`insert`](Self::insert) can't fail.
    pub fn reserve(&mut self) -> Result<(), Errno> {
        if self.slots.len() == self.slots.capacity() && self.live < self.slots.len() / 2 {
            self.close_holes();
        }
        if self.slots.len() >= DELETED as usize {
            return Err(Errno::ENOSPC);
        }
        self.slots.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        let grown = self.slots.len() + 1;
        let is_indexed = grown > SCANNED || !self.index.is_empty();
        if is_indexed && (self.index_used + 1) * 4 > self.index.len() * 3 {
            self.index = new_index(self.live + 1)?;
            self.fill_index();
        }
        Ok(())
    }

    /// Adds a value for a name that isn't there yet. [`reserve`](Self::reserve) has succeeded just before.
    pub fn insert(&mut self, hash: u32, value: T) {
        let number = self.slots.len();
        debug_assert!(number < self.slots.capacity());
        self.slots.push(Slot { hash, cookie: self.next_cookie, value: Some(value) });
        self.next_cookie += 1;
        self.live += 1;
        if !self.index.is_empty() {
            self.put_in_index(hash, number as u32);
        }
    }

    /// Takes a value out.
    pub fn remove(&mut self, slot: usize) -> Option<T> {
        let value = self.slots.get_mut(slot)?.value.take()?;
        self.live -= 1;
        if let Some(place) = self.place_of(slot)
            && let Some(number) = self.index.get_mut(place)
        {
            *number = DELETED;
        }
        while self.slots.last().is_some_and(|last| last.value.is_none()) {
            self.slots.pop();
        }
        if self.slots.is_empty() {
            self.index = Vec::new();
            self.index_used = 0;
        }
        Some(value)
    }

    /// Gives room back that was for names which are gone; what was reserved is part of it. Where there is no memory for the
    /// smaller table, the larger one stays.
    pub fn shrink(&mut self) {
        if self.slots.capacity() <= KEPT || self.live >= self.slots.capacity() / 4 {
            return;
        }
        let mut slots = Vec::new();
        if slots.try_reserve_exact(self.live * 2).is_err() {
            return;
        }
        let Ok(index) = new_index(self.live) else { return };
        slots.extend(self.slots.drain(..).filter(|slot| slot.value.is_some()));
        (self.slots, self.index) = (slots, index);
        self.fill_index();
    }

    /// Puts another value in the place of the one in `slot`; the name keeps its position.
    pub fn replace(&mut self, slot: usize, value: T) -> Option<T> {
        self.slots.get_mut(slot)?.value.replace(value)
    }

    /// Values from position `cookie` on, each with its own position.
    pub fn iter_from(&self, cookie: u64) -> impl Iterator<Item = (u64, &T)> {
        let start = self.slots.partition_point(|slot| slot.cookie < cookie);
        let slots = self.slots.get(start..).unwrap_or_default();
        slots.iter().filter_map(|slot| Some((slot.cookie, slot.value.as_ref()?)))
    }

    /// Takes out the value that was added last: a way to empty the table that needs no memory.
    pub fn pop(&mut self) -> Option<T> {
        let last = self.slots.len().checked_sub(1)?;
        self.remove(last)
    }

    fn close_holes(&mut self) {
        self.slots.retain(|slot| slot.value.is_some());
        self.index.fill(FREE);
        self.fill_index();
    }

    fn fill_index(&mut self) {
        self.index_used = 0;
        for number in 0..self.slots.len() {
            if let Some(Slot { hash, value: Some(_), .. }) = self.slots.get(number) {
                self.put_in_index(*hash, number as u32);
            }
        }
    }

    fn put_in_index(&mut self, hash: u32, number: u32) {
        let Some(mask) = self.index.len().checked_sub(1) else { return };
        let mut place = hash as usize & mask;
        while let Some(here) = self.index.get_mut(place) {
            if *here == FREE {
                *here = number;
                self.index_used += 1;
                return;
            }
            place = (place + 1) & mask;
        }
    }

    fn place_of(&self, slot: usize) -> Option<usize> {
        let mask = self.index.len().checked_sub(1)?;
        let mut place = self.slots.get(slot)?.hash as usize & mask;
        loop {
            match *self.index.get(place)? {
                FREE => return None,
                number if number as usize == slot => return Some(place),
                _ => place = (place + 1) & mask,
            }
        }
    }
}

/// An empty index for so many names.
fn new_index(names: usize) -> Result<Vec<u32>, Errno> {
    let places = names.saturating_mul(2).next_power_of_two().max(4 * SCANNED);
    let mut index = Vec::new();
    index.try_reserve_exact(places).map_err(|_| Errno::ENOMEM)?;
    index.resize(places, FREE);
    Ok(index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn find(names: &Names<String>, name: &str) -> Option<usize> {
        names.find(hash(name.as_bytes()), |value| value == name)
    }

    #[test]
    fn names_are_the_same_if_every_byte_is() {
        let longest: Vec<u8> = (1..=20).collect();
        for length in 0..=longest.len() {
            let name = &longest[..length];
            assert!(same(name, &name.to_vec()));
            for place in 0..length {
                let mut other = name.to_vec();
                other[place] ^= 0x80;
                assert!(!same(name, &other) && hash(name) != hash(&other), "length {length}, byte {place}");
                assert!(!same(name, &name[..place]));
            }
        }
    }

    #[test]
    fn behaves_like_a_map_under_random_operations() {
        let mut names = Names::new();
        let mut model = BTreeMap::new();
        let mut random = 1u64;
        for step in 0..60_000 {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            // Phases of growth and of decline, so that the table grows, empties and closes its holes.
            let name = format!("n{}", (random >> 33) % 700);
            let grow = (step / 3000) % 2 == 0;
            let add = ((random >> 20) % 4 == 0) != grow;
            match (find(&names, &name), add) {
                (None, true) => {
                    assert!(model.insert(name.clone(), ()).is_none());
                    names.reserve().unwrap();
                    names.insert(hash(name.as_bytes()), name);
                }
                (Some(slot), false) => {
                    assert_eq!(names.remove(slot), Some(name.clone()));
                    assert!(model.remove(&name).is_some());
                }
                (found, _) => assert_eq!(found.is_some(), model.contains_key(&name)),
            }
            assert_eq!(names.len(), model.len());
        }
        let mut listed: Vec<_> = names.iter_from(0).map(|(_, name)| name.clone()).collect();
        listed.sort();
        assert!(listed.iter().eq(model.keys()));
    }

    #[test]
    fn does_a_directory_give_back_the_room_of_names_that_are_gone() {
        let mut names = Names::new();
        for number in 0..10_000 {
            names.reserve().unwrap();
            names.insert(hash(&[number as u8, (number >> 8) as u8]), number);
        }
        // The oldest go first, so that every hole lies before a name that stays.
        (0..9_990).for_each(|slot| {
            let place = names.slots.iter().position(|other| other.value == Some(slot)).unwrap();
            assert_eq!(names.remove(place), Some(slot));
            names.shrink();
        });
        assert!(names.slots.capacity() <= KEPT && names.index.capacity() <= 2 * KEPT);
        assert!(names.iter_from(0).map(|(_, value)| *value).eq(9_990..10_000));
        for number in 9_990..10_000 {
            let slot = names.find(hash(&[number as u8, (number >> 8) as u8]), |value| *value == number).unwrap();
            assert_eq!(names.remove(slot), Some(number));
        }
        assert!(names.is_empty());
    }

    #[test]
    fn may_names_come_and_go_for_ever_in_a_directory_that_was_larger_once() {
        for most in 1..=4 * SCANNED {
            for kept in 0..most {
                let mut names = Names::new();
                for number in 0..most {
                    names.reserve().unwrap();
                    names.insert(hash(&[number as u8]), number);
                }
                for slot in (kept..most).rev() {
                    assert_eq!(names.remove(slot), Some(slot));
                }
                for _ in 0..200 {
                    names.reserve().unwrap();
                    let free = names.index.iter().filter(|place| **place == FREE).count();
                    // A search ends at a free place, and one is about to be taken.
                    assert!(names.index.is_empty() || free > 1, "{kept} names of {most} are left");
                    names.insert(hash(b"come and go"), most);
                    let slot = names.find(hash(b"come and go"), |value| *value == most);
                    assert_eq!(names.remove(slot.unwrap()), Some(most));
                }
            }
        }
    }

    #[test]
    fn does_a_reader_see_each_lasting_name_once_while_others_come_and_go() {
        let mut names = Names::new();
        let add = |names: &mut Names<String>, name: String| {
            names.reserve().unwrap();
            names.insert(hash(name.as_bytes()), name);
        };
        for number in 0..100 {
            add(&mut names, format!("keep{number}"));
            add(&mut names, format!("drop{number}"));
        }
        let (mut seen, mut position) = (Vec::new(), 0);
        for round in 0..1000 {
            let batch: Vec<_> = names.iter_from(position).take(7).map(|(c, n)| (c, n.clone())).collect();
            let Some((last, _)) = batch.last() else { break };
            position = last + 1;
            seen.extend(batch.into_iter().map(|(_, name)| name).filter(|name| name.starts_with("keep")));
            if let Some(slot) = find(&names, &format!("drop{round}")) {
                names.remove(slot);
            }
            if round < 50 {
                add(&mut names, format!("new{round}"));
            }
        }
        let expected: Vec<_> = (0..100).map(|number| format!("keep{number}")).collect();
        assert_eq!(seen, expected);
    }
}
