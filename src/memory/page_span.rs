//! Some pages of the kernel's own that lie one behind the other in memory, as a value.

use super::direct_map;
use super::frames::{allocate_neighbours_for_user, release_neighbours};
use crate::PAGE_SIZE;
use crate::errno::Errno;
use x86_64::structures::paging::PhysFrame;

/// Nobody else refers to the pages, and no program has them mapped: so their bytes can be borrowed.
pub struct PageSpan {
    first: PhysFrame,
    pages: u32,
}

impl PageSpan {
    /// From 1 to `most` pages: as many as are side by side among the frames that are taken next. Their contents are
    /// undefined. On the terms of [`PageRef::new`](super::frames::PageRef::new).
    #[inline]
    pub fn new(most: usize) -> Result<Self, Errno> {
        let (first, pages) = allocate_neighbours_for_user(most)?;
        Ok(Self { first, pages: pages as u32 })
    }

    #[inline]
    pub fn pages(&self) -> usize {
        self.pages as usize
    }

    #[inline]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the frames lie one behind the other in the direct map, and are this value's alone.
        unsafe { core::slice::from_raw_parts(direct_map::frame_pointer(self.first), self.pages() * PAGE_SIZE) }
    }

    #[inline]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above.
        unsafe { core::slice::from_raw_parts_mut(direct_map::frame_pointer(self.first), self.pages() * PAGE_SIZE) }
    }

    /// Gives up all but the first `pages`.
    pub fn truncate(&mut self, pages: usize) {
        let kept = self.pages().min(pages);
        release_neighbours(self.first + kept as u64, self.pages() - kept);
        self.pages = kept as u32;
    }
}

impl Drop for PageSpan {
    #[inline]
    fn drop(&mut self) {
        release_neighbours(self.first, self.pages());
    }
}
