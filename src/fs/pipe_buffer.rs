//! The bytes in a pipe: a ring of pages, each of which is there only while bytes are in it.

use super::transfer::{Sink, SliceSource, Source, put_page, take_page};
use crate::PAGE_SIZE;
use crate::errno::Errno;
use crate::memory::frames::PageRef;
use alloc::vec::Vec;

/// How many pages a pipe holds unless told otherwise (`pipe(7)`).
pub const DEFAULT_PAGES: usize = 16;
/// How many it may be told to hold by somebody who isn't root (`/proc/sys/fs/pipe-max-size`).
pub const PAGES_MAX: usize = 256;

pub struct PipeBuffer {
    /// The ring; none of it before the first write.
    pages: Vec<Option<PageRef>>,
    ring_pages: usize,
    /// Positions that only grow: bytes from `read` to `written` are in the pipe.
    read: u64,
    written: u64,
}

impl Default for PipeBuffer {
    fn default() -> Self {
        Self::new()
    }
}

impl PipeBuffer {
    pub const fn new() -> Self {
        Self { pages: Vec::new(), ring_pages: DEFAULT_PAGES, read: 0, written: 0 }
    }

    #[inline]
    pub fn len(&self) -> usize {
        (self.written - self.read) as usize
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.written == self.read
    }

    pub fn capacity(&self) -> usize {
        self.ring_pages * PAGE_SIZE
    }

    #[inline]
    pub fn room(&self) -> usize {
        self.capacity() - self.len()
    }

    /// Moves bytes into the pipe, as many as there is room for.
    pub fn fill(&mut self, source: &mut dyn Source) -> Result<usize, Errno> {
        if self.pages.len() < self.ring_pages {
            self.pages.try_reserve_exact(self.ring_pages).map_err(|_| Errno::ENOMEM)?;
            self.pages.resize_with(self.ring_pages, || None);
        }
        let mut done = 0;
        loop {
            let offset = (self.written % PAGE_SIZE as u64) as usize;
            // In a full ring the page at `written` is still being read; there is no room then.
            let count = source.remaining().min(self.room()).min(PAGE_SIZE - offset);
            if count == 0 {
                return Ok(done);
            }
            let taken = self.page_to_write().and_then(|page| take_page(source, page, offset..offset + count));
            match taken {
                Ok(taken) => {
                    self.written += taken as u64;
                    done += taken;
                    if taken < count {
                        return Ok(done);
                    }
                }
                Err(error) if done == 0 => return Err(error),
                Err(_) => return Ok(done),
            }
        }
    }

    /// Moves bytes out of the pipe, as many as the sink takes.
    pub fn drain(&mut self, sink: &mut dyn Sink) -> Result<usize, Errno> {
        let mut done = 0;
        loop {
            let offset = (self.read % PAGE_SIZE as u64) as usize;
            let count = sink.remaining().min(self.len()).min(PAGE_SIZE - offset);
            if count == 0 {
                return Ok(done);
            }
            let slot = self.slot(self.read);
            let Some(Some(page)) = self.pages.get(slot) else { return Ok(done) };
            match put_page(sink, page, offset..offset + count) {
                Ok(put) => {
                    self.advance(put);
                    done += put;
                    if put < count {
                        return Ok(done);
                    }
                }
                Err(error) if done == 0 => return Err(error),
                Err(_) => return Ok(done),
            }
        }
    }

    /// `fcntl(F_SETPIPE_SZ)`: EBUSY if what is in the pipe wouldn't fit.
    pub fn set_capacity(&mut self, pages: usize) -> Result<(), Errno> {
        if pages.saturating_mul(PAGE_SIZE) < self.len() {
            return Err(Errno::EBUSY);
        }
        // Copied, since a full ring's first page may hold its last bytes too; the old ring stays until all is done.
        let mut new = Self { ring_pages: pages, ..Self::new() };
        let mut position = self.read;
        while position < self.written {
            let offset = (position % PAGE_SIZE as u64) as usize;
            let count = ((self.written - position) as usize).min(PAGE_SIZE - offset);
            let mut bytes = [0; 256];
            let bytes = bytes.get_mut(..count.min(256)).unwrap_or_default();
            if let Some(Some(page)) = self.pages.get(self.slot(position)) {
                page.read(offset, bytes);
            }
            position += new.fill(&mut SliceSource(bytes))? as u64;
        }
        *self = new;
        Ok(())
    }

    fn slot(&self, position: u64) -> usize {
        (position / PAGE_SIZE as u64 % self.ring_pages as u64) as usize
    }

    fn page_to_write(&mut self) -> Result<&PageRef, Errno> {
        let slot = self.slot(self.written);
        let page = self.pages.get_mut(slot).ok_or(Errno::EIO)?;
        if page.is_none() {
            *page = Some(PageRef::new()?);
        }
        page.as_ref().ok_or(Errno::EIO)
    }

    /// Bytes were read. A page that was read to its end goes, unless the pipe is empty now: then the next write begins
    /// anew in the same page, and a pipe that is always read at once needs no more frames. In a full ring the page may
    /// hold the last bytes at its start: then it stays.
    fn advance(&mut self, count: usize) {
        let slot = self.slot(self.read);
        let page_start = self.read / PAGE_SIZE as u64 * PAGE_SIZE as u64;
        self.read += count as u64;
        if self.read == self.written {
            self.read = page_start;
            self.written = page_start;
        } else if self.read.is_multiple_of(PAGE_SIZE as u64)
            && (self.slot(self.written) != slot || self.written.is_multiple_of(PAGE_SIZE as u64))
            && let Some(page) = self.pages.get_mut(slot)
        {
            *page = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::transfer::SliceSink;
    use std::collections::VecDeque;

    #[test]
    fn do_bytes_come_out_as_they_went_in_whatever_the_sizes() {
        let (mut pipe, mut model) = (PipeBuffer::new(), VecDeque::new());
        let (mut random, mut next) = (3u64, 0u8);
        for step in 0..20_000 {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let size = (random >> 40) as usize % [10, 5000, 70_000][(random >> 33) as usize % 3];
            if random >> 60 & 1 == 0 {
                let bytes: Vec<u8> = (0..size)
                    .map(|_| {
                        next = next.wrapping_add(1);
                        next
                    })
                    .collect();
                let room = pipe.room();
                let count = pipe.fill(&mut SliceSource(&bytes)).unwrap();
                assert_eq!(count, size.min(room));
                model.extend(&bytes[..count]);
            } else {
                let mut bytes = vec![0; size];
                let count = pipe.drain(&mut SliceSink::new(&mut bytes)).unwrap();
                assert_eq!(count, size.min(model.len()));
                assert!(bytes[..count].iter().eq(model.drain(..count).collect::<Vec<u8>>().iter()));
            }
            assert_eq!((pipe.len(), pipe.room()), (model.len(), pipe.capacity() - model.len()));
            if step % 100 == 0 {
                let pages = 1 + (random >> 45) as usize % 40;
                let fits = pipe.set_capacity(pages).is_ok();
                assert_eq!(fits, model.len() <= pages * PAGE_SIZE);
            }
        }
    }
}
