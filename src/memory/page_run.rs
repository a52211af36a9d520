//! Pages that lie one behind the other in memory, as a value: a reference to each, given back when the value is dropped.

use super::direct_map;
use super::frames::{PageRef, frame_at, index_of, share, unshare};
use crate::PAGE_SIZE;
use core::mem::ManuallyDrop;
use core::ops::Range;
use x86_64::structures::paging::PhysFrame;

/// One page at least.
pub struct PageRun {
    first: PhysFrame,
    pages: usize,
}

impl PageRun {
    /// Refers to the first of `pages`, and to those behind it until one isn't where the one before it ends, or `bytes` are
    /// together. None of none.
    #[inline(always)]
    pub fn gather<'a>(mut pages: impl Iterator<Item = &'a PageRef>, bytes: usize) -> Option<Self> {
        let mut run = Self::from(pages.next()?.clone());
        let mut end = run.first.start_address().as_u64() + PAGE_SIZE as u64;
        while run.byte_count() < bytes
            && let Some(page) = pages.next()
            && page.frame().start_address().as_u64() == end
        {
            share(page.frame());
            run.pages += 1;
            end += PAGE_SIZE as u64;
        }
        Some(run)
    }

    /// Calls `copy` with the pages' first byte and how many bytes there are, and gives the pages back. The bytes may be mapped by
    /// user programs, so they can change at any time.
    #[inline(always)]
    pub fn lend<R>(self, copy: impl FnOnce(*mut u8, usize) -> R) -> R {
        // What drops a value is a function of its own, which is dearer than what it does here.
        let run = ManuallyDrop::new(self);
        let result = copy(direct_map::frame_pointer(run.first), run.byte_count());
        run.give_back();
        result
    }

    /// How many bytes the pages are.
    #[inline]
    fn byte_count(&self) -> usize {
        self.pages * PAGE_SIZE
    }

    /// The first page apart: as a rule there is no other.
    #[inline(always)]
    fn give_back(&self) {
        #[inline(never)]
        fn unshare_each(indices: Range<u32>) {
            indices.for_each(|index| unshare(frame_at(index)));
        }
        unshare(self.first);
        if self.pages > 1 {
            let first = index_of(self.first);
            unshare_each(first + 1..first + self.pages as u32);
        }
    }
}

impl From<PageRef> for PageRun {
    #[inline]
    fn from(page: PageRef) -> Self {
        Self { first: page.into_frame(), pages: 1 }
    }
}

impl Drop for PageRun {
    fn drop(&mut self) {
        self.give_back();
    }
}

#[cfg(test)]
mod tests {
    use super::super::frames::reference_count;
    use super::*;

    #[test]
    fn refers_to_neighbours_only_and_gives_all_back() {
        let pages: Vec<_> = (0..12).map(|_| PageRef::new().unwrap()).collect();
        let mut sorted: Vec<&PageRef> = pages.iter().collect();
        sorted.sort_by_key(|page| page.frame());
        let (low, high) = sorted.split_at(5);
        let follows = |pair: &[&PageRef]| pair[0].frame() + 1 == pair[1].frame();
        assert!(sorted.windows(2).all(follows), "the first frames of a new memory are neighbours");
        // A hole after the first five; and two that lie the other way round.
        let counts = |pages: &[&PageRef]| pages.iter().map(|page| reference_count(page.frame())).sum::<u32>();
        let run = PageRun::gather(low.iter().chain(&high[1..]).copied(), usize::MAX).unwrap();
        assert_eq!((counts(low), counts(high)), (10, 7));
        assert_eq!(run.lend(|first, bytes| (first, bytes)), (low[0].pointer(), 5 * PAGE_SIZE));
        let backwards = PageRun::gather(high.iter().rev().copied(), usize::MAX).unwrap();
        assert_eq!((backwards.byte_count(), counts(high)), (PAGE_SIZE, 8));
        drop(backwards);
        assert_eq!((counts(low), counts(high)), (5, 7));
        assert!(PageRun::gather(core::iter::empty(), 1).is_none());
    }
}
