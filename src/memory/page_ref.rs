//! A page as a value: one reference to a frame, given back when the value is dropped.

use super::direct_map;
use super::frames::{allocate_for_file, allocate_for_user, reference_count, release, share, zero, zero_frame};
use crate::PAGE_SIZE;
use crate::errno::Errno;
use core::ops::Range;
use x86_64::structures::paging::PhysFrame;

/// One reference to a frame, as a value: given back when dropped.
#[derive(Debug)]
pub struct PageRef(PhysFrame);

impl PageRef {
    /// On the terms of [`allocate_for_user`], as all pages that programs fill.
    pub fn new() -> Result<Self, Errno> {
        allocate_for_user().map(Self)
    }

    /// For the contents of files, on the terms of [`allocate_for_file`].
    pub fn new_for_file() -> Result<Self, Errno> {
        allocate_for_file().map(Self)
    }

    pub fn new_zeroed() -> Result<Self, Errno> {
        let page = Self::new()?;
        zero(page.0);
        Ok(page)
    }

    /// The page of zeros that all share: to be read only. Past two thousand million holders, which could overflow the count,
    /// each gets one of its own.
    #[inline]
    pub fn of_zeros() -> Result<Self, Errno> {
        let frame = zero_frame();
        if reference_count(frame) > u32::MAX / 2 {
            return Self::new_zeroed();
        }
        share(frame);
        Ok(Self(frame))
    }

    /// Takes over a reference that the caller holds.
    #[inline]
    pub fn from_frame(frame: PhysFrame) -> Self {
        Self(frame)
    }

    /// Hands its reference to the caller.
    #[inline]
    pub fn into_frame(self) -> PhysFrame {
        let frame = self.0;
        core::mem::forget(self);
        frame
    }

    #[inline]
    pub fn frame(&self) -> PhysFrame {
        self.0
    }

    /// The page's bytes. They may be mapped by user programs, so they can change at any time: copy, don't borrow.
    #[inline]
    pub fn pointer(&self) -> *mut u8 {
        direct_map::frame_pointer(self.0)
    }

    /// Copies out of the page; what would lie past its end isn't copied. Returns the count.
    #[inline]
    pub fn read(&self, offset: usize, into: &mut [u8]) -> usize {
        let count = into.len().min(PAGE_SIZE.saturating_sub(offset));
        // SAFETY: `offset + count` is within the page, which this reference keeps; `into` is kernel memory apart from it.
        unsafe { core::ptr::copy_nonoverlapping(self.pointer().wrapping_add(offset), into.as_mut_ptr(), count) };
        count
    }

    /// Copies into the page; what would go past its end isn't copied. Returns the count.
    #[inline]
    pub fn write(&self, offset: usize, from: &[u8]) -> usize {
        let count = from.len().min(PAGE_SIZE.saturating_sub(offset));
        // SAFETY: `offset + count` is within the page, which this reference keeps; `from` is kernel memory apart from it.
        unsafe { core::ptr::copy_nonoverlapping(from.as_ptr(), self.pointer().wrapping_add(offset), count) };
        count
    }

    /// Copies a part of another page to the same place in this one; what would lie past the end isn't copied.
    pub fn copy_from(&self, other: &Self, range: Range<usize>) {
        let count = range.end.min(PAGE_SIZE).saturating_sub(range.start);
        // SAFETY: `start + count` is within either page, which the references keep; `copy` lets both be the same page.
        unsafe {
            core::ptr::copy(other.pointer().wrapping_add(range.start), self.pointer().wrapping_add(range.start), count)
        };
    }

    /// Fills a part of the page with one byte; what would go past its end isn't written.
    pub fn fill(&self, range: Range<usize>, byte: u8) {
        let count = range.end.min(PAGE_SIZE).saturating_sub(range.start);
        // SAFETY: `start + count` is within the page, which this reference keeps.
        unsafe { self.pointer().wrapping_add(range.start).write_bytes(byte, count) };
    }
}

impl Clone for PageRef {
    #[inline]
    fn clone(&self) -> Self {
        share(self.0);
        Self(self.0)
    }
}

impl Drop for PageRef {
    #[inline]
    fn drop(&mut self) {
        release(self.0);
    }
}
