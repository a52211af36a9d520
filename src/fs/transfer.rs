//! Where the bytes of a read go to and those of a write come from: user memory, or the kernel's own.
//!
//! Files move their bytes through these two traits only, and never with a lock held that a page fault might take.

use crate::PAGE_SIZE;
use crate::errno::Errno;
use crate::memory::frames::PageRef;
use crate::memory::page_run::PageRun;
use core::ops::Range;

/// Takes the bytes of a read.
pub trait Sink {
    /// How many more bytes it takes.
    fn remaining(&self) -> usize;

    /// Takes bytes from the start of `bytes`, up to [`remaining`](Self::remaining), and tells how many. Fewer than that
    /// means that the destination's memory is bad from there on; EFAULT that it was bad at once.
    fn put(&mut self, bytes: &[u8]) -> Result<usize, Errno>;
}

/// Gives the bytes of a write.
pub trait Source {
    /// How many more bytes it has.
    fn remaining(&self) -> usize;

    /// Fills the start of `into`, up to [`remaining`](Self::remaining), and tells how far. Short and EFAULT as for
    /// [`Sink::put`].
    fn take(&mut self, into: &mut [u8]) -> Result<usize, Errno>;
}

/// A read into the kernel's memory.
pub struct SliceSink<'a> {
    buffer: &'a mut [u8],
    filled: usize,
}

impl<'a> SliceSink<'a> {
    pub fn new(buffer: &'a mut [u8]) -> Self {
        Self { buffer, filled: 0 }
    }
}

impl Sink for SliceSink<'_> {
    fn remaining(&self) -> usize {
        self.buffer.len() - self.filled
    }

    fn put(&mut self, bytes: &[u8]) -> Result<usize, Errno> {
        let count = bytes.len().min(self.remaining());
        let room = self.buffer.get_mut(self.filled..).and_then(|rest| rest.get_mut(..count));
        if let (Some(room), Some(bytes)) = (room, bytes.get(..count)) {
            room.copy_from_slice(bytes);
            self.filled += count;
        }
        Ok(count)
    }
}

/// A write from the kernel's memory.
pub struct SliceSource<'a>(pub &'a [u8]);

impl Source for SliceSource<'_> {
    fn remaining(&self) -> usize {
        self.0.len()
    }

    fn take(&mut self, into: &mut [u8]) -> Result<usize, Errno> {
        let count = into.len().min(self.0.len());
        let (now, later) = self.0.split_at(count);
        if let Some(into) = into.get_mut(..count) {
            into.copy_from_slice(now);
        }
        self.0 = later;
        Ok(count)
    }
}

/// Gives bytes of some pages to a sink, from `offset` in the first on: `wanted` or as many as there are.
#[inline(always)]
pub fn put_run(sink: &mut impl Sink, run: PageRun, offset: usize, wanted: usize) -> Result<usize, Errno> {
    run.lend(|first, bytes| {
        let count = wanted.min(bytes - offset);
        // SAFETY: the range is within the pages, which are kept meanwhile. A program may change it, if it has it mapped: then it
        // reads what it wrote; nothing here depends on the values.
        sink.put(unsafe { core::slice::from_raw_parts(first.wrapping_add(offset), count) })
    })
}

/// Fills some pages from a source, from `offset` in the first on: `wanted` bytes or as many as there are.
#[inline(always)]
pub fn take_run(source: &mut impl Source, run: PageRun, offset: usize, wanted: usize) -> Result<usize, Errno> {
    run.lend(|first, bytes| {
        let count = wanted.min(bytes - offset);
        // SAFETY: as in `put_run`.
        source.take(unsafe { core::slice::from_raw_parts_mut(first.wrapping_add(offset), count) })
    })
}

/// Fills a part of a page from a source.
pub fn take_page(source: &mut impl Source, page: &PageRef, range: Range<usize>) -> Result<usize, Errno> {
    debug_assert!(range.start <= range.end && range.end <= PAGE_SIZE);
    // SAFETY: the range is within the page, which `page` keeps; as in `put_run`, nothing depends on the values there.
    let bytes = unsafe { core::slice::from_raw_parts_mut(page.pointer().wrapping_add(range.start), range.len()) };
    source.take(bytes)
}
