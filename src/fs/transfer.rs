//! Where the bytes of a read go to and those of a write come from: user memory, or the kernel's own.
//!
//! Files move their bytes through these two traits only, and never with a lock held that a page fault might take.

use crate::PAGE_SIZE;
use crate::errno::Errno;
use crate::memory::frames::PageRef;
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

/// Gives a part of a page to a sink.
pub fn put_page(sink: &mut dyn Sink, page: &PageRef, range: Range<usize>) -> Result<usize, Errno> {
    debug_assert!(range.start <= range.end && range.end <= PAGE_SIZE);
    // SAFETY: the range is within the page, which `page` keeps. A program may change it meanwhile, if it has it mapped:
    // then it reads what it wrote; nothing here depends on the values.
    let bytes = unsafe { core::slice::from_raw_parts(page.pointer().wrapping_add(range.start), range.len()) };
    sink.put(bytes)
}

/// Gives `count` bytes to a sink, from `offset` in the first of some pages on: those whose frames are neighbours in memory in
/// one piece.
pub fn put_pages(sink: &mut dyn Sink, pages: &[PageRef], offset: usize, count: usize) -> Result<usize, Errno> {
    debug_assert!(offset < PAGE_SIZE && offset + count <= pages.len() * PAGE_SIZE);
    let (mut pages, mut offset, mut done) = (pages, offset, 0);
    while let ([first, later @ ..], true) = (pages, done < count) {
        let follows = |(index, page): &(usize, &PageRef)| page.frame() == first.frame() + (*index as u64 + 1);
        let neighbours = later.iter().enumerate().take_while(follows).count();
        let part = (count - done).min((1 + neighbours) * PAGE_SIZE - offset);
        // SAFETY: the range is within frames that lie one behind the other in the direct map, and `pages` keeps them. A
        // program may change them meanwhile, if it has them mapped: then it reads what it wrote; nothing here depends on
        // the values.
        let bytes = unsafe { core::slice::from_raw_parts(first.pointer().wrapping_add(offset), part) };
        match sink.put(bytes) {
            Ok(put) => {
                done += put;
                if put < part {
                    break;
                }
            }
            Err(error) if done == 0 => return Err(error),
            Err(_) => break,
        }
        (pages, offset) = (later.get(neighbours..).unwrap_or_default(), 0);
    }
    Ok(done)
}

/// Fills a part of a page from a source.
pub fn take_page(source: &mut dyn Source, page: &PageRef, range: Range<usize>) -> Result<usize, Errno> {
    debug_assert!(range.start <= range.end && range.end <= PAGE_SIZE);
    // SAFETY: the range is within the page, which `page` keeps; as in `put_page`, nothing depends on the values there.
    let bytes = unsafe { core::slice::from_raw_parts_mut(page.pointer().wrapping_add(range.start), range.len()) };
    source.take(bytes)
}
