//! The bytes in a pipe: a ring of slots, each with a page and the part of it that is still to be read.
//!
//! As on Linux what limits a pipe is its slots, not its bytes: a slot is free when its last byte was read, and a write
//! adds to the newest page only if its odd end fits in there.

use super::transfer::{Sink, Source, put_page, take_page};
use crate::PAGE_SIZE;
use crate::errno::Errno;
use crate::memory::frames::PageRef;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// How many pages a pipe holds unless told otherwise (`pipe(7)`).
pub const DEFAULT_PAGES: usize = 16;
/// How many it may be told to hold by somebody who isn't root (`/proc/sys/fs/pipe-max-size`).
pub const PAGES_MAX: usize = 256;

/// How many pages all pipes hold, and how many they may hold before each has to do with one: as on Linux a pipe always
/// works, but they can't take all memory (`pipe-user-pages-soft`).
static PAGES_USED: AtomicUsize = AtomicUsize::new(0);
static PAGES_FOR_ALL: AtomicUsize = AtomicUsize::new(usize::MAX);
const MEMORY_SHARE: usize = 8;

/// Sets the limit for a machine with so many frames.
pub fn limit_all_pipes(frames: usize) {
    PAGES_FOR_ALL.store(frames / MEMORY_SHARE, Relaxed);
}

/// A page that counts as a pipe's.
struct PipePage(PageRef);

impl PipePage {
    fn new() -> Result<Self, Errno> {
        let page = PageRef::new()?;
        PAGES_USED.fetch_add(1, Relaxed);
        Ok(Self(page))
    }
}

impl Drop for PipePage {
    fn drop(&mut self) {
        PAGES_USED.fetch_sub(1, Relaxed);
    }
}

struct Slot {
    page: PipePage,
    start: usize,
    end: usize,
    /// One write, to be read by one read (O_DIRECT).
    is_packet: bool,
}

pub struct PipeBuffer {
    /// The ring; none of it before the first write.
    slots: Vec<Option<Slot>>,
    ring_pages: usize,
    /// The oldest slot in use, and how many are.
    first: usize,
    used: usize,
    /// Bytes in the pipe.
    length: usize,
    /// The last page that was read to its end: a pipe that is always read at once needs no more frames.
    spare: Option<PipePage>,
}

impl Default for PipeBuffer {
    fn default() -> Self {
        Self::new()
    }
}

impl PipeBuffer {
    pub const fn new() -> Self {
        Self { slots: Vec::new(), ring_pages: DEFAULT_PAGES, first: 0, used: 0, length: 0, spare: None }
    }

    #[inline]
    pub fn len(&self) -> usize {
        self.length
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.used == 0
    }

    pub fn capacity(&self) -> usize {
        self.ring_pages * PAGE_SIZE
    }

    /// Whether a slot is free: then a write of up to a page goes in whole.
    #[inline]
    pub fn has_room(&self) -> bool {
        self.used == 0 || self.used < self.ring_pages && PAGES_USED.load(Relaxed) < PAGES_FOR_ALL.load(Relaxed)
    }

    /// Whether a write of so many bytes can begin.
    #[inline]
    pub fn takes(&self, bytes: usize) -> bool {
        self.has_room() || self.room_for_odd_end(bytes % PAGE_SIZE)
    }

    /// Moves bytes into the pipe, as many as there is room for: first what makes the rest whole pages to the newest
    /// page, if it fits there, then a page a slot. What doesn't come whole from its source is EFAULT.
    pub fn fill(&mut self, source: &mut dyn Source, packets: bool) -> Result<usize, Errno> {
        if self.slots.len() < self.ring_pages {
            self.slots.try_reserve_exact(self.ring_pages).map_err(|_| Errno::ENOMEM)?;
            self.slots.resize_with(self.ring_pages, || None);
        }
        let mut done = 0;
        let odd_end = source.remaining() % PAGE_SIZE;
        if !packets && self.room_for_odd_end(odd_end) {
            done += self.add_to_newest(source, odd_end)?;
        }
        while source.remaining() > 0 && self.has_room() {
            match self.add_slot(source, packets) {
                Ok(count) => done += count,
                Err(error) if done == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    /// Moves bytes out of the pipe, as many as the sink takes; of packets one, whose rest is dropped. What the sink can't
    /// take whole from a page stays in it, and is EFAULT.
    pub fn drain(&mut self, sink: &mut dyn Sink) -> Result<usize, Errno> {
        let mut done = 0;
        while sink.remaining() > 0 {
            let Some(Some(slot)) = self.slots.get_mut(self.first) else { break };
            let count = sink.remaining().min(slot.end - slot.start);
            match put_page(sink, &slot.page.0, slot.start..slot.start + count) {
                Ok(put) if put == count => done += count,
                _ if done > 0 => break,
                result => return Err(result.err().unwrap_or(Errno::EFAULT)),
            }
            let is_packet = slot.is_packet;
            let read = if is_packet { slot.end - slot.start } else { count };
            slot.start += read;
            self.length -= read;
            if slot.start == slot.end {
                self.drop_oldest();
            }
            if is_packet {
                break;
            }
        }
        Ok(done)
    }

    /// `fcntl(F_SETPIPE_SZ)`: EBUSY if what is in the pipe wouldn't fit.
    pub fn set_capacity(&mut self, pages: usize) -> Result<(), Errno> {
        if pages < self.used {
            return Err(Errno::EBUSY);
        }
        let mut slots = Vec::new();
        slots.try_reserve_exact(pages).map_err(|_| Errno::ENOMEM)?;
        let old = self.slots.len().max(1);
        for index in 0..self.used {
            slots.push(self.slots.get_mut((self.first + index) % old).and_then(Option::take));
        }
        slots.resize_with(pages, || None);
        self.slots = slots;
        self.ring_pages = pages;
        self.first = 0;
        Ok(())
    }

    fn newest(&self) -> Option<&Slot> {
        let index = (self.first + self.used.checked_sub(1)?) % self.ring_pages;
        self.slots.get(index)?.as_ref()
    }

    fn room_for_odd_end(&self, bytes: usize) -> bool {
        bytes > 0 && self.newest().is_some_and(|slot| !slot.is_packet && slot.end + bytes <= PAGE_SIZE)
    }

    fn add_to_newest(&mut self, source: &mut dyn Source, count: usize) -> Result<usize, Errno> {
        let index = (self.first + self.used.saturating_sub(1)) % self.ring_pages;
        let Some(Some(slot)) = self.slots.get_mut(index) else { return Ok(0) };
        if take_page(source, &slot.page.0, slot.end..slot.end + count)? < count {
            return Err(Errno::EFAULT);
        }
        slot.end += count;
        self.length += count;
        Ok(count)
    }

    fn add_slot(&mut self, source: &mut dyn Source, is_packet: bool) -> Result<usize, Errno> {
        let page = match self.spare.take() {
            Some(page) => page,
            None => PipePage::new()?,
        };
        let count = source.remaining().min(PAGE_SIZE);
        let taken = take_page(source, &page.0, 0..count);
        let index = (self.first + self.used) % self.ring_pages;
        let Some(slot) = self.slots.get_mut(index) else { return Err(Errno::EIO) };
        if taken != Ok(count) {
            self.spare = Some(page);
            return Err(taken.err().unwrap_or(Errno::EFAULT));
        }
        *slot = Some(Slot { page, start: 0, end: count, is_packet });
        self.used += 1;
        self.length += count;
        Ok(count)
    }

    fn drop_oldest(&mut self) {
        if let Some(slot) = self.slots.get_mut(self.first).and_then(Option::take) {
            self.spare = Some(slot.page);
        }
        self.first = (self.first + 1) % self.ring_pages;
        self.used -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::transfer::{SliceSink, SliceSource};
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
                let takes = pipe.takes(size);
                let count = pipe.fill(&mut SliceSource(&bytes), false).unwrap();
                assert_eq!(count > 0, takes && size > 0);
                assert!(count == size || size > PAGE_SIZE || !takes);
                model.extend(&bytes[..count]);
            } else {
                let mut bytes = vec![0; size];
                let count = pipe.drain(&mut SliceSink::new(&mut bytes)).unwrap();
                assert_eq!(count, size.min(model.len()));
                assert!(bytes[..count].iter().eq(model.drain(..count).collect::<Vec<u8>>().iter()));
            }
            assert_eq!((pipe.len(), pipe.is_empty()), (model.len(), model.is_empty()));
            if step % 100 == 0 {
                let pages = 1 + (random >> 45) as usize % 40;
                let fits = pipe.set_capacity(pages).is_ok();
                assert!(!fits || model.len() <= pages * PAGE_SIZE);
            }
        }
    }

    #[test]
    fn is_a_slot_free_only_when_its_last_byte_was_read() {
        let mut pipe = PipeBuffer::new();
        assert_eq!(pipe.fill(&mut SliceSource(&[7; 20 * PAGE_SIZE]), false), Ok(DEFAULT_PAGES * PAGE_SIZE));
        assert_eq!(pipe.drain(&mut SliceSink::new(&mut [0; 100])), Ok(100));
        assert!(!pipe.takes(1));
        assert_eq!(pipe.drain(&mut SliceSink::new(&mut [0; PAGE_SIZE - 100])), Ok(PAGE_SIZE - 100));
        assert!(pipe.takes(1) && pipe.takes(PAGE_SIZE));
    }

    #[test]
    fn does_a_read_end_with_a_packet_and_drop_its_rest() {
        let mut pipe = PipeBuffer::new();
        for packet in [b"one", b"two"] {
            pipe.fill(&mut SliceSource(packet), true).unwrap();
        }
        let mut bytes = [0; 10];
        assert_eq!(pipe.drain(&mut SliceSink::new(&mut bytes[..2])), Ok(2));
        assert_eq!(pipe.drain(&mut SliceSink::new(&mut bytes)), Ok(3));
        assert_eq!(&bytes[..3], b"two");
        assert!(pipe.is_empty());
    }
}
