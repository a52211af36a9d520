//! The bytes in a pipe: a queue of spans of pages, each with the part of it that is still to be read.
//!
//! As on Linux what limits a pipe is its slots of a page, not its bytes: a slot is free when its page's last byte was
//! read, and a write adds to the newest page only if its odd end fits in there. What lies in neighbouring pages is copied
//! in one piece.

use super::transfer::{Sink, Source};
use crate::PAGE_SIZE;
use crate::errno::Errno;
use crate::memory::page_span::PageSpan;
use alloc::collections::VecDeque;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// How many pages a pipe holds unless told otherwise (`pipe(7)`).
pub const DEFAULT_PAGES: usize = 16;
/// How many it may be told to hold by somebody who isn't root (`/proc/sys/fs/pipe-max-size`).
pub const PAGES_MAX: usize = 256;

/// How many pages are taken, filled and given back at once. Those of the oldest span stay until its last byte was read.
const SPAN_PAGES: usize = 16;

/// How many pages all pipes hold, and how many they may hold before each has to do with one: as on Linux a pipe always
/// works, but they can't take all memory (`pipe-user-pages-soft`).
static PAGES_USED: AtomicUsize = AtomicUsize::new(0);
static PAGES_FOR_ALL: AtomicUsize = AtomicUsize::new(usize::MAX);
pub const MEMORY_SHARE: usize = 8;

/// Sets the limit for a machine with so many frames.
pub fn limit_all_pipes(frames: usize) {
    PAGES_FOR_ALL.store(frames / MEMORY_SHARE, Relaxed);
}

/// How many pages all pipes hold now.
#[cfg(feature = "kernel-tests")]
pub fn pages_used() -> usize {
    PAGES_USED.load(Relaxed)
}

/// Pages that count as a pipe's.
struct PipePages(PageSpan);

impl PipePages {
    #[inline]
    fn new(most: usize) -> Result<Self, Errno> {
        let span = PageSpan::new(most.min(SPAN_PAGES))?;
        PAGES_USED.fetch_add(span.pages(), Relaxed);
        Ok(Self(span))
    }

    fn truncate(&mut self, pages: usize) {
        PAGES_USED.fetch_sub(self.0.pages() - pages, Relaxed);
        self.0.truncate(pages);
    }
}

impl Drop for PipePages {
    #[inline]
    fn drop(&mut self) {
        PAGES_USED.fetch_sub(self.0.pages(), Relaxed);
    }
}

/// Pages, and the bytes in them that are still to be read: one at least, the last of them in the last page.
struct Span {
    pages: PipePages,
    start: u32,
    end: u32,
    /// One write, to be read by one read (O_DIRECT).
    is_packet: bool,
}

impl Span {
    /// How many of its pages have something to be read.
    #[inline]
    fn slots(&self) -> usize {
        self.pages.0.pages() - self.start as usize / PAGE_SIZE
    }
}

pub struct PipeBuffer {
    /// From the oldest to the newest; no memory for them before the first write.
    spans: VecDeque<Span>,
    /// How many slots there are, and how many are in use.
    slots: usize,
    used: usize,
    /// The last page that was read to its end by itself: a pipe that is always read at once needs no more frames.
    spare: Option<PipePages>,
}

impl Default for PipeBuffer {
    fn default() -> Self {
        Self::new()
    }
}

impl PipeBuffer {
    pub const fn new() -> Self {
        Self { spans: VecDeque::new(), slots: DEFAULT_PAGES, used: 0, spare: None }
    }

    /// How many bytes there are to be read.
    pub fn len(&self) -> usize {
        self.spans.iter().map(|span| (span.end - span.start) as usize).sum()
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.used == 0
    }

    pub fn capacity(&self) -> usize {
        self.slots * PAGE_SIZE
    }

    /// Whether a slot is free: then a write of up to a page goes in whole.
    #[inline]
    pub fn has_room(&self) -> bool {
        self.free_slots() > 0
    }

    /// Moves bytes into the pipe, as many as there is room for: first what makes the rest whole pages to the newest
    /// page, if it fits there, then a page a slot. What doesn't come whole from its source is EFAULT; 0 means that there is
    /// no room.
    pub fn fill(&mut self, source: &mut impl Source, packets: bool) -> Result<usize, Errno> {
        let wanted = source.remaining();
        let mut done = 0;
        let odd_end = wanted % PAGE_SIZE;
        if !packets && self.room_for_odd_end(odd_end) {
            done += self.add_to_newest(source, odd_end)?;
        }
        while done < wanted {
            let free = self.free_slots();
            if free == 0 {
                break;
            }
            let slots = if packets { 1 } else { (wanted - done).div_ceil(PAGE_SIZE).min(free) };
            match self.add_span(source, wanted - done, slots, packets, &mut done) {
                Ok(()) => {}
                Err(error) if done == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    /// Moves bytes out of the pipe, as many as the sink takes; of packets one, whose rest is dropped. What the sink can't
    /// take whole from a page stays in it, and is EFAULT.
    pub fn drain(&mut self, sink: &mut impl Sink) -> Result<usize, Errno> {
        let wanted = sink.remaining();
        let mut done = 0;
        while done < wanted
            && let Some(span) = self.spans.front()
        {
            let (start, end, is_packet) = (span.start as usize, span.end as usize, span.is_packet);
            let asked = (wanted - done).min(end - start);
            let put = sink.put(span.pages.0.bytes().get(start..start + asked).unwrap_or_default());
            let whole = put == Ok(asked);
            // Of what doesn't go whole, the pages that do.
            let read =
                if whole { start + asked } else { ((start + put.unwrap_or(0)) / PAGE_SIZE * PAGE_SIZE).max(start) };
            done += read - start;
            self.drop_read(if whole && is_packet { end } else { read });
            if !whole && done == 0 {
                return Err(put.err().unwrap_or(Errno::EFAULT));
            }
            if !whole || is_packet {
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
        let mut spans = VecDeque::new();
        spans.try_reserve_exact(pages).map_err(|_| Errno::ENOMEM)?;
        spans.append(&mut self.spans);
        self.spans = spans;
        self.slots = pages;
        Ok(())
    }

    #[inline]
    fn free_slots(&self) -> usize {
        let left = PAGES_FOR_ALL.load(Relaxed).saturating_sub(PAGES_USED.load(Relaxed));
        (self.slots - self.used).min(if self.used == 0 { left.max(1) } else { left })
    }

    #[inline]
    fn room_for_odd_end(&self, bytes: usize) -> bool {
        let fits = |span: &Span| span.end as usize + bytes <= span.pages.0.bytes().len();
        bytes > 0 && self.spans.back().is_some_and(|span| !span.is_packet && fits(span))
    }

    fn add_to_newest(&mut self, source: &mut impl Source, count: usize) -> Result<usize, Errno> {
        let Some(span) = self.spans.back_mut() else { return Ok(0) };
        let end = span.end as usize;
        if source.take(span.pages.0.bytes_mut().get_mut(end..end + count).unwrap_or_default())? < count {
            return Err(Errno::EFAULT);
        }
        span.end += count as u32;
        Ok(count)
    }

    /// Adds a span of up to `slots` pages for `wanted` bytes, and to `done` how many came: whole pages, if not all did.
    fn add_span(
        &mut self,
        source: &mut impl Source,
        wanted: usize,
        slots: usize,
        is_packet: bool,
        done: &mut usize,
    ) -> Result<(), Errno> {
        // Memory for all that there can be, a slot each: `push_back` needs none.
        if self.spans.capacity() < self.slots {
            self.spans.try_reserve_exact(self.slots - self.spans.len()).map_err(|_| Errno::ENOMEM)?;
        }
        let mut pages = self.new_pages(slots)?;
        let bytes = pages.0.bytes_mut();
        let asked = wanted.min(bytes.len());
        let taken = source.take(bytes.get_mut(..asked).unwrap_or_default());
        let mut count = asked;
        if taken != Ok(asked) {
            count = taken.unwrap_or(0) / PAGE_SIZE * PAGE_SIZE;
            pages.truncate(count / PAGE_SIZE);
        }
        if count > 0 {
            self.used += pages.0.pages();
            self.spans.push_back(Span { pages, start: 0, end: count as u32, is_packet });
            *done += count;
        }
        if count == asked { Ok(()) } else { Err(taken.err().unwrap_or(Errno::EFAULT)) }
    }

    /// From 1 to `most` pages.
    #[inline]
    fn new_pages(&mut self, most: usize) -> Result<PipePages, Errno> {
        match self.spare.take_if(|_| most == 1) {
            Some(page) => Ok(page),
            None => PipePages::new(most).or_else(|error| self.spare.take().ok_or(error)),
        }
    }

    /// Drops what comes before `position` in the oldest span, at most all of it.
    #[inline(always)]
    fn drop_read(&mut self, position: usize) {
        let Some(span) = self.spans.front_mut() else { return };
        self.used -= span.slots();
        if position < span.end as usize {
            span.start = position as u32;
            self.used += span.slots();
        } else if let Some(Span { pages, .. }) = self.spans.pop_front()
            && pages.0.pages() == 1
        {
            self.spare.get_or_insert(pages);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::transfer::{SliceSink, SliceSource};
    use crate::memory::frames;
    use std::collections::VecDeque;

    #[test]
    fn do_bytes_come_out_as_they_went_in_whatever_the_sizes() {
        let before = frames::counts();
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
                let takes = pipe.has_room() || pipe.room_for_odd_end(size % PAGE_SIZE);
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
        drop(pipe);
        assert_eq!(frames::counts(), before);
    }

    /// User memory that ends after so many bytes.
    struct Bad<T>(T, usize);

    impl Source for Bad<SliceSource<'_>> {
        fn remaining(&self) -> usize {
            self.0.remaining()
        }

        fn take(&mut self, into: &mut [u8]) -> Result<usize, Errno> {
            let count = into.len().min(self.1);
            self.1 -= count;
            if count == 0 { Err(Errno::EFAULT) } else { self.0.take(&mut into[..count]) }
        }
    }

    impl Sink for Bad<SliceSink<'_>> {
        fn remaining(&self) -> usize {
            self.0.remaining()
        }

        fn put(&mut self, bytes: &[u8]) -> Result<usize, Errno> {
            let count = bytes.len().min(self.1);
            self.1 -= count;
            if count == 0 { Err(Errno::EFAULT) } else { self.0.put(&bytes[..count]) }
        }
    }

    #[test]
    fn do_only_whole_pages_move_where_memory_goes_bad() {
        let before = frames::counts();
        let bytes: Vec<u8> = (0..6 * PAGE_SIZE).map(|index| (index / 7) as u8).collect();
        let half = PAGE_SIZE / 2;
        let mut pipe = PipeBuffer::new();
        assert_eq!(pipe.fill(&mut Bad(SliceSource(&bytes), half), false), Err(Errno::EFAULT));
        assert_eq!(pipe.fill(&mut Bad(SliceSource(&bytes), 4 * PAGE_SIZE + half), false), Ok(4 * PAGE_SIZE));
        assert_eq!((pipe.len(), pipe.used), (4 * PAGE_SIZE, 4));
        let mut read = vec![0; 4 * PAGE_SIZE];
        assert_eq!(pipe.drain(&mut SliceSink::new(&mut read[..100])), Ok(100));
        for good in [0, half] {
            assert_eq!(pipe.drain(&mut Bad(SliceSink::new(&mut [0; PAGE_SIZE]), good)), Err(Errno::EFAULT));
        }
        let within_the_third = &mut Bad(SliceSink::new(&mut read[100..]), 2 * PAGE_SIZE + half);
        assert_eq!(pipe.drain(within_the_third), Ok(2 * PAGE_SIZE - 100));
        assert_eq!((pipe.len(), pipe.used), (2 * PAGE_SIZE, 2));
        assert_eq!(pipe.drain(&mut SliceSink::new(&mut read[2 * PAGE_SIZE..])), Ok(2 * PAGE_SIZE));
        assert!(read == bytes[..4 * PAGE_SIZE]);
        drop(pipe);
        assert_eq!(frames::counts(), before);
    }

    #[test]
    fn does_a_pipe_hold_no_more_than_what_is_in_it_and_a_page() {
        let before = frames::counts().free;
        let mut pipe = PipeBuffer::new();
        let bytes = [1; DEFAULT_PAGES * PAGE_SIZE];
        for _ in 0..3 {
            assert_eq!(pipe.fill(&mut SliceSource(&bytes), false), Ok(bytes.len()));
            assert_eq!(pipe.fill(&mut SliceSource(&bytes[..1]), false), Ok(0));
            assert_eq!(before - frames::counts().free, DEFAULT_PAGES);
            assert_eq!(pipe.drain(&mut SliceSink::new(&mut [0; DEFAULT_PAGES * PAGE_SIZE])), Ok(bytes.len()));
            assert!(pipe.is_empty() && before - frames::counts().free <= 1);
        }
        for _ in 0..DEFAULT_PAGES {
            assert_eq!(pipe.fill(&mut SliceSource(&bytes[..PAGE_SIZE]), false), Ok(PAGE_SIZE));
        }
        for left in (0..DEFAULT_PAGES).rev() {
            assert_eq!(pipe.drain(&mut SliceSink::new(&mut [0; PAGE_SIZE])), Ok(PAGE_SIZE));
            assert!(before - frames::counts().free <= left + 1);
        }
    }

    #[test]
    fn is_a_slot_free_only_when_its_last_byte_was_read() {
        let mut pipe = PipeBuffer::new();
        assert_eq!(pipe.fill(&mut SliceSource(&[7; 20 * PAGE_SIZE]), false), Ok(DEFAULT_PAGES * PAGE_SIZE));
        assert_eq!(pipe.drain(&mut SliceSink::new(&mut [0; 100])), Ok(100));
        assert_eq!(pipe.fill(&mut SliceSource(&[7; 1]), false), Ok(0));
        assert_eq!(pipe.drain(&mut SliceSink::new(&mut [0; PAGE_SIZE - 100])), Ok(PAGE_SIZE - 100));
        assert_eq!(pipe.fill(&mut SliceSource(&[7; 1]), false), Ok(1));
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
