//! A file's pages by index: a tree of nodes with 64 slots each, as high as the largest index needs.
//!
//! A file of one page has no node at all; a hole costs nothing; a lookup in a file of 1 GiB passes three nodes.

use crate::errno::Errno;
use crate::memory::frames::PageRef;
use alloc::boxed::Box;

const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;

#[derive(Default)]
pub struct Pages {
    root: Slot,
    /// How many of an index's bits the nodes above the pages take, [`SLOT_BITS`] a level.
    bits: u32,
    /// The last index that `root` covers: `2^bits - 1`.
    last: u64,
    count: u64,
}

#[derive(Default)]
enum Slot {
    #[default]
    Empty,
    Page(PageRef),
    Node(Box<[Slot; SLOTS]>),
}

impl Pages {
    pub const fn new() -> Self {
        Self { root: Slot::Empty, bits: 0, last: 0, count: 0 }
    }

    /// How many pages are there.
    pub fn count(&self) -> u64 {
        self.count
    }

    #[inline]
    pub fn get(&self, index: u64) -> Option<&PageRef> {
        self.to_node_end(index).next()?
    }

    /// What is at `index` and at those behind it, to the end of its node: found by one lookup. Nothing, where the node is
    /// missing.
    #[inline]
    pub fn to_node_end(&self, index: u64) -> impl Iterator<Item = Option<&PageRef>> {
        let mut slots = if self.covers(index) { core::slice::from_ref(&self.root) } else { &[] };
        let mut shift = self.bits;
        while shift > 0 {
            shift = shift.wrapping_sub(SLOT_BITS);
            slots = match slots {
                [Slot::Node(below), ..] => below.get(slot_number(index, shift)..).unwrap_or_default(),
                _ => &[],
            };
        }
        slots.iter().map(|slot| if let Slot::Page(page) = slot { Some(page) } else { None })
    }

    /// The first index that isn't in the same node.
    pub fn end_of_node(index: u64) -> u64 {
        (index | (SLOTS as u64 - 1)).saturating_add(1)
    }

    /// Puts `page` at `index`. If there is one already, it stays, and `page` is dropped. ENOMEM changes nothing.
    pub fn insert(&mut self, index: u64, page: PageRef) -> Result<(), Errno> {
        self.grow_to(index)?;
        let mut slot = &mut self.root;
        let mut shift = self.bits;
        while shift > 0 {
            if matches!(slot, Slot::Empty) {
                *slot = Slot::Node(empty_node()?);
            }
            let Slot::Node(slots) = slot else { return Ok(()) };
            shift -= SLOT_BITS;
            let Some(below) = slots.get_mut(slot_number(index, shift)) else { return Ok(()) };
            slot = below;
        }
        if matches!(slot, Slot::Empty) {
            *slot = Slot::Page(page);
            self.count += 1;
        }
        Ok(())
    }

    /// Removes the pages of `first..end`, and tells how many there were.
    pub fn remove(&mut self, first: u64, end: u64) -> u64 {
        let removed = remove_below(&mut self.root, self.bits, 0, first, end);
        self.count -= removed;
        if self.count == 0 {
            *self = Self::new();
        }
        removed
    }

    /// The first index from `index` on that has a page, for `SEEK_DATA`.
    pub fn next_page(&self, index: u64) -> Option<u64> {
        next_below(&self.root, self.bits, 0, index)
    }

    #[inline]
    fn covers(&self, index: u64) -> bool {
        index <= self.last
    }

    fn grow_to(&mut self, index: u64) -> Result<(), Errno> {
        while !self.covers(index) {
            if !matches!(self.root, Slot::Empty) {
                let mut node = empty_node()?;
                if let Some(first) = node.first_mut() {
                    *first = core::mem::take(&mut self.root);
                }
                self.root = Slot::Node(node);
            }
            self.bits += SLOT_BITS;
            self.last = self.last << SLOT_BITS | (SLOTS as u64 - 1);
        }
        Ok(())
    }
}

/// The slot for an index in a node that has `shift` bits of it below.
#[inline(always)]
fn slot_number(index: u64, shift: u32) -> usize {
    // No node lies more than 11 levels up: the uppermost has 60 bits below.
    index.wrapping_shr(shift) as usize % SLOTS
}

fn empty_node() -> Result<Box<[Slot; SLOTS]>, Errno> {
    Box::try_new([const { Slot::Empty }; SLOTS]).map_err(|_| Errno::ENOMEM)
}

/// How many indices a slot covers that has `bits` of them below it.
fn span(bits: u32) -> u64 {
    1u64.checked_shl(bits).unwrap_or(u64::MAX)
}

/// `slot` covers the indices from `start` on. Recursion is at most 11 deep: 64 bits by 6.
fn remove_below(slot: &mut Slot, bits: u32, start: u64, first: u64, end: u64) -> u64 {
    match slot {
        Slot::Empty => 0,
        Slot::Page(_) => {
            if start < first || start >= end {
                return 0;
            }
            *slot = Slot::Empty;
            1
        }
        Slot::Node(slots) => {
            let step = span(bits.saturating_sub(SLOT_BITS));
            let mut removed = 0;
            for (number, below) in slots.iter_mut().enumerate() {
                let from = start.saturating_add(step.saturating_mul(number as u64));
                if from < end && from.saturating_add(step) > first {
                    removed += remove_below(below, bits.saturating_sub(SLOT_BITS), from, first, end);
                }
            }
            if removed > 0 && slots.iter().all(|below| matches!(below, Slot::Empty)) {
                *slot = Slot::Empty;
            }
            removed
        }
    }
}

fn next_below(slot: &Slot, bits: u32, start: u64, index: u64) -> Option<u64> {
    match slot {
        Slot::Empty => None,
        Slot::Page(_) => (start >= index).then_some(start),
        Slot::Node(slots) => {
            let step = span(bits.saturating_sub(SLOT_BITS));
            slots.iter().enumerate().find_map(|(number, below)| {
                let from = start.saturating_add(step.saturating_mul(number as u64));
                if from.saturating_add(step) <= index {
                    return None;
                }
                next_below(below, bits.saturating_sub(SLOT_BITS), from, index)
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn holds_what_a_set_of_indices_holds() {
        let (mut pages, mut model) = (Pages::new(), BTreeSet::new());
        let mut random = 7u64;
        for _ in 0..4000 {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let index = (random >> 40) % (1 << ((random >> 32) % 21));
            match (random >> 16) % 8 {
                0 => {
                    let end = index + (random >> 50) % 90;
                    let before = model.len();
                    model.retain(|at| *at < index || *at >= end);
                    assert_eq!(pages.remove(index, end), (before - model.len()) as u64);
                }
                1 => assert_eq!(pages.next_page(index), model.range(index..).next().copied()),
                _ => {
                    pages.insert(index, PageRef::new_zeroed().unwrap()).unwrap();
                    model.insert(index);
                }
            }
            assert_eq!(pages.count(), model.len() as u64);
            assert_eq!(pages.get(index).is_some(), model.contains(&index));
            let node: Vec<_> = pages.to_node_end(index).map(|page| page.map(PageRef::frame)).collect();
            assert!(node.len() as u64 <= Pages::end_of_node(index) - index);
            let indices = index..Pages::end_of_node(index);
            for (at, found) in indices.zip(node.into_iter().chain(core::iter::repeat(None))) {
                assert_eq!(pages.get(at).map(PageRef::frame), found);
            }
        }
    }

    #[test]
    fn does_the_last_possible_page_fit() {
        let mut pages = Pages::new();
        let last = u64::MAX >> 12;
        pages.insert(last, PageRef::new_zeroed().unwrap()).unwrap();
        pages.insert(0, PageRef::new_zeroed().unwrap()).unwrap();
        assert!(pages.get(last).is_some() && pages.get(last - 1).is_none());
        assert_eq!(pages.next_page(1), Some(last));
        assert_eq!(pages.remove(1, u64::MAX), 1);
        assert_eq!(pages.count(), 1);
    }
}
