//! The contents of a regular file: pages where something was written, holes elsewhere.
//!
//! A file from the initrd starts as a view of the archive, and each page is copied out of it when it is first asked for.
//! Its lock is never held while user memory is touched: a reader takes references to the pages and copies after.

use super::inode::Inode;
use super::pages::Pages;
use super::transfer::{Sink, Source, put_run, take_page, take_run};
use super::turn::{Held, Turn};
use super::waiting::yield_point;
use crate::PAGE_SIZE;
use crate::errno::Errno;
use crate::fault_injection::{Point, should_fail};
use crate::lock::{Guard, Lock, Rank};
use crate::memory::frames::PageRef;
use crate::memory::page_run::PageRun;
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// No file is longer (Linux's MAX_LFS_FILESIZE).
pub const SIZE_MAX: u64 = i64::MAX as u64;

pub struct Content {
    /// Who changes contents or length by a call, from its first byte to its last.
    writers: Turn,
    state: Lock<State>,
    /// Whether a page was ever mapped: only then must somebody look who has those that go.
    is_mapped: AtomicBool,
}

struct State {
    pages: Pages,
    /// What the file holds where it has no page. Only shortened, when the file is.
    archive: &'static [u8],
}

static ZEROS: [u8; PAGE_SIZE] = [0; PAGE_SIZE];

impl Content {
    pub const fn new() -> Self {
        Self::from_archive(&[])
    }

    /// A file whose first bytes are those of `archive`, which stays where it is for good. The inode's size is for the
    /// caller to set.
    pub const fn from_archive(archive: &'static [u8]) -> Self {
        let state = State { pages: Pages::new(), archive };
        Self { writers: Turn::new(), state: Lock::new(Rank::Inode, state), is_mapped: AtomicBool::new(false) }
    }

    pub fn note_mapped(&self) {
        self.is_mapped.store(true, Relaxed);
    }

    pub fn is_mapped(&self) -> bool {
        self.is_mapped.load(Relaxed)
    }

    /// Of a file that nobody else can reach.
    pub fn page_count(&mut self) -> u64 {
        self.state.get_mut().pages.count()
    }

    /// How many pages the file takes, for `st_blocks`.
    pub fn pages_taken(&self) -> u64 {
        self.state.lock().pages.count()
    }

    /// The right to change the file, as soon as nobody else has it.
    #[inline]
    pub fn writer<'a>(&'a self, inode: &'a Inode) -> Writer<'a> {
        Writer { content: self, inode, _alone: self.writers.take() }
    }

    /// Reads from `position` on, at most to the file's end.
    #[inline(always)]
    pub fn read(&self, inode: &Inode, position: u64, sink: &mut impl Sink) -> Result<usize, Errno> {
        let wanted = inode.size().saturating_sub(position).min(sink.remaining() as u64) as usize;
        let mut progress = Progress::to(wanted);
        let mut goes_on = wanted > 0;
        while goes_on {
            goes_on = progress.add(self.read_piece(inode, position + progress.done as u64, progress.left(), sink))?;
        }
        Ok(progress.done)
    }

    /// Reads the first of `wanted` bytes: those that are in one piece in memory, or of a hole what is in one page.
    #[inline(always)]
    fn read_piece(&self, inode: &Inode, position: u64, wanted: usize, sink: &mut impl Sink) -> Result<usize, Errno> {
        let (index, offset) = (position / PAGE_SIZE as u64, position as usize % PAGE_SIZE);
        match self.run(inode, index, offset + wanted)? {
            Some(run) => put_run(sink, run, offset, wanted),
            None => sink.put(ZEROS.get(..wanted.min(PAGE_SIZE - offset)).unwrap_or_default()),
        }
    }

    /// The page at `index`, made if there was a hole. Sizes don't count here.
    pub fn page(&self, inode: &Inode, index: u64) -> Result<PageRef, Errno> {
        if let Some(page) = self.look(inode, index)? {
            return Ok(page);
        }
        let page = new_page(inode)?;
        page.fill(0..PAGE_SIZE, 0);
        self.insert(inode, index, page)
    }

    /// Calls `visit` with the pages that are there and not past the file's end.
    pub fn for_each_resident(&self, inode: &Inode, pages: Range<u64>, visit: &mut dyn FnMut(u64, &PageRef)) {
        let state = self.state.lock();
        let end = pages.end.min(inode.size().div_ceil(PAGE_SIZE as u64));
        let mut index = pages.start;
        while index < end {
            for (at, page) in (index..end).zip(state.pages.to_node_end(index)) {
                if let Some(page) = page {
                    visit(at, page);
                }
            }
            index = Pages::end_of_node(index);
        }
    }

    /// The page at `index`, out of the archive if it must; None for a hole.
    #[inline(always)]
    fn look(&self, inode: &Inode, index: u64) -> Result<Option<PageRef>, Errno> {
        if should_fail(Point::FileRead) {
            return Err(Errno::EIO);
        }
        let state = self.state.lock();
        match state.pages.get(index) {
            Some(page) => Ok(Some(page.clone())),
            None => self.look_in_archive(inode, index, state),
        }
    }

    /// The same with the pages behind it that lie behind it in memory as well, until `bytes` are together.
    #[inline(always)]
    fn run(&self, inode: &Inode, index: u64, bytes: usize) -> Result<Option<PageRun>, Errno> {
        if should_fail(Point::FileRead) {
            return Err(Errno::EIO);
        }
        let state = self.state.lock();
        match PageRun::gather(state.pages.to_node_end(index).map_while(|page| page), bytes) {
            Some(run) => Ok(Some(run)),
            None => Ok(self.look_in_archive(inode, index, state)?.map(PageRun::from)),
        }
    }

    /// `state`'s lock is given up before anything is copied.
    #[inline(always)]
    fn look_in_archive(&self, inode: &Inode, index: u64, state: Guard<'_, State>) -> Result<Option<PageRef>, Errno> {
        let archive = state.archive;
        drop(state);
        if archive.is_empty() { Ok(None) } else { self.copy_from_archive(inode, index, archive) }
    }

    /// The first touch of a page that the archive may have. Apart from [`Self::look`], which is short without it.
    #[cold]
    #[inline(never)]
    fn copy_from_archive(&self, inode: &Inode, index: u64, archive: &'static [u8]) -> Result<Option<PageRef>, Errno> {
        let start = usize::try_from(index).unwrap_or(usize::MAX).saturating_mul(PAGE_SIZE);
        let Some(bytes @ [_, ..]) = archive.get(start..) else { return Ok(None) };
        // The file has it already: that its file system is full now is no reason against reading it.
        inode.file_system.charge_page_of_archive();
        let page = PageRef::new().inspect_err(|_| inode.file_system.uncharge_pages(1))?;
        let copied = page.write(0, bytes);
        page.fill(copied..PAGE_SIZE, 0);
        self.insert(inode, index, page).map(Some)
    }

    /// Puts a page in that has been charged for, and returns the one that is there then.
    #[inline(never)]
    fn insert(&self, inode: &Inode, index: u64, page: PageRef) -> Result<PageRef, Errno> {
        let mut state = self.state.lock();
        let before = state.pages.count();
        let inserted = state.pages.insert(index, page);
        if state.pages.count() == before {
            inode.file_system.uncharge_pages(1);
        }
        inserted?;
        state.pages.get(index).cloned().ok_or(Errno::EIO)
    }

    /// `SEEK_DATA` and `SEEK_HOLE`: the first position from `position` on that is data, or a hole. The end of the file is
    /// a hole.
    pub fn seek(&self, inode: &Inode, position: u64, data: bool) -> Result<u64, Errno> {
        let size = inode.size();
        if position >= size {
            return Err(Errno::ENXIO);
        }
        let state = self.state.lock();
        let page_bytes = PAGE_SIZE as u64;
        let archived = (state.archive.len() as u64).div_ceil(page_bytes);
        let mut index = position / page_bytes;
        if data {
            let next = if index < archived { Some(index) } else { state.pages.next_page(index) };
            let found = next.map_or(size, |index| (index * page_bytes).max(position));
            return if found < size { Ok(found) } else { Err(Errno::ENXIO) };
        }
        while index < archived || state.pages.get(index).is_some() {
            index += 1;
        }
        Ok((index * page_bytes).max(position).min(size))
    }
}

/// The one who changes a regular file's contents and length now: writes are whole for each other, and what one of them adds
/// at the end another doesn't overwrite.
pub struct Writer<'a> {
    content: &'a Content,
    pub inode: &'a Inode,
    _alone: Held<'a>,
}

impl Writer<'_> {
    /// Writes `wanted` bytes, which the source has, at `position`, and makes the file longer where it must. The caller keeps
    /// the end within its limits.
    pub fn write(&self, position: u64, wanted: usize, source: &mut impl Source) -> Result<usize, Errno> {
        let mut progress = Progress::to(wanted);
        let mut goes_on = wanted > 0;
        while goes_on {
            goes_on = progress.add(self.write_piece(position + progress.done as u64, progress.left(), source))?;
        }
        if progress.done > 0 {
            self.inode.touch_modified();
        }
        Ok(progress.done)
    }

    /// Writes the first of `wanted` bytes: what is in one piece in memory, or in one page.
    #[inline(always)]
    fn write_piece(&self, position: u64, wanted: usize, source: &mut impl Source) -> Result<usize, Errno> {
        let Self { content, inode, .. } = self;
        let (index, offset) = (position / PAGE_SIZE as u64, position as usize % PAGE_SIZE);
        let taken = match content.run(inode, index, offset + wanted)? {
            Some(run) => take_run(source, run, offset, wanted)?,
            None => self.write_hole(index, offset, wanted, source)?,
        };
        // Only a writer changes the size, and there is one at a time; the lock is for those who read.
        let end = position + taken as u64;
        if end > inode.size() {
            let _state = content.state.lock();
            inode.set_size(end);
        }
        Ok(taken)
    }

    /// Writes into one page that isn't there yet: it is seen by nobody until it holds what it shall.
    fn write_hole(&self, index: u64, offset: usize, wanted: usize, source: &mut impl Source) -> Result<usize, Errno> {
        let Self { content, inode, .. } = self;
        let page = new_page(inode)?;
        page.fill(0..offset, 0);
        let end = PAGE_SIZE.min(offset + wanted);
        let taken = take_page(source, &page, offset..end).inspect_err(|_| inode.file_system.uncharge_pages(1))?;
        page.fill(offset + taken..PAGE_SIZE, 0);
        let there = content.insert(inode, index, page.clone())?;
        if there.frame() != page.frame() {
            // The source is a mapping of the hole, and a fault has filled it; or another thread's has.
            there.copy_from(&page, offset..offset + taken);
        }
        Ok(taken)
    }

    /// Makes the file `size` bytes long: what lies past it is gone, and reads as zeros if it grows again.
    pub fn set_size(&self, size: u64) -> Result<(), Errno> {
        let Self { content, inode, .. } = self;
        if size > SIZE_MAX {
            return Err(Errno::EFBIG);
        }
        let cut = (size % PAGE_SIZE as u64) as usize;
        if size < inode.size() && cut > 0 {
            // Copied out of the archive now, or its bytes past the cut would come back.
            if let Some(page) = content.look(inode, size / PAGE_SIZE as u64)? {
                page.fill(cut..PAGE_SIZE, 0);
            }
        }
        let mut state = content.state.lock();
        if size < inode.size() {
            let removed = state.pages.remove(size.div_ceil(PAGE_SIZE as u64), u64::MAX);
            inode.file_system.uncharge_pages(removed);
            let kept = usize::try_from(size).unwrap_or(usize::MAX).min(state.archive.len());
            state.archive = state.archive.get(..kept).unwrap_or_default();
        }
        inode.set_size(size);
        drop(state);
        inode.touch_modified();
        Ok(())
    }

    /// `fallocate(2)`: gives every page of the range a frame now, so that later writes find room. All or none.
    pub fn allocate(&self, start: u64, end: u64, keep_size: bool) -> Result<(), Errno> {
        let Self { content, inode, .. } = self;
        let pages = start / PAGE_SIZE as u64..end.div_ceil(PAGE_SIZE as u64);
        if pages.end - pages.start > inode.file_system.usage().pages_limit {
            return Err(Errno::ENOSPC);
        }
        let mut made = Vec::new();
        let filled = self.fill_holes(pages, &mut made);
        let mut state = content.state.lock();
        if filled.is_err() {
            for pages in made {
                inode.file_system.uncharge_pages(state.pages.remove(pages.start, pages.end));
            }
        } else if !keep_size && end > inode.size() {
            inode.set_size(end);
        }
        filled
    }

    /// Notes in `made` which pages it made.
    fn fill_holes(&self, pages: Range<u64>, made: &mut Vec<Range<u64>>) -> Result<(), Errno> {
        for index in pages {
            if yield_point() {
                return Err(Errno::EINTR);
            }
            if self.content.look(self.inode, index)?.is_some() {
                continue;
            }
            made.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
            self.content.page(self.inode, index)?;
            match made.last_mut().filter(|run| run.end == index) {
                Some(run) => run.end = index + 1,
                None => made.push(index..index + 1),
            }
        }
        Ok(())
    }

    /// `FALLOC_FL_PUNCH_HOLE`: makes the range read as zeros, and frees the pages that lie wholly in it.
    pub fn punch_hole(&self, start: u64, end: u64) -> Result<(), Errno> {
        let Self { content, inode, .. } = self;
        let page_bytes = PAGE_SIZE as u64;
        let (first_whole, end_whole) = (start.div_ceil(page_bytes), end / page_bytes);
        let zero = |from: u64, to: u64| -> Result<(), Errno> {
            if from < to
                && let Some(page) = content.look(inode, from / page_bytes)?
            {
                let offset = (from % page_bytes) as usize;
                page.fill(offset..offset + (to - from) as usize, 0);
            }
            Ok(())
        };
        if first_whole > end_whole {
            return zero(start, end);
        }
        zero(start, first_whole * page_bytes)?;
        zero(end_whole * page_bytes, end)?;
        // What is left of the archive past the hole is copied out: the archive's view has no holes.
        let archived = content.state.lock().archive.len() as u64;
        if archived > start {
            for index in end_whole..archived.div_ceil(page_bytes) {
                content.look(inode, index)?;
            }
        }
        let mut state = content.state.lock();
        let kept = usize::try_from(start).unwrap_or(usize::MAX).min(state.archive.len());
        state.archive = state.archive.get(..kept).unwrap_or_default();
        let removed = state.pages.remove(first_whole, end_whole);
        inode.file_system.uncharge_pages(removed);
        Ok(())
    }
}

/// How far a read or a write has come.
struct Progress {
    done: usize,
    wanted: usize,
}

impl Progress {
    #[inline(always)]
    fn to(wanted: usize) -> Self {
        Self { done: 0, wanted }
    }

    #[inline(always)]
    fn left(&self) -> usize {
        self.wanted - self.done
    }

    /// One more piece was moved. Tells whether to go on: not after an error or a piece of nothing; but an error counts only where
    /// nothing was moved before. Between two pieces others may run.
    #[inline(always)]
    fn add(&mut self, moved: Result<usize, Errno>) -> Result<bool, Errno> {
        match moved {
            Ok(count @ 1..) => {
                self.done += count;
                Ok(self.left() > 0 && !yield_point())
            }
            Err(error) if self.done == 0 => Err(error),
            _ => Ok(false),
        }
    }
}

/// A page for a file, counted; its bytes are any. ENOSPC where the file system is full, or where what is left of memory is for
/// programs.
fn new_page(inode: &Inode) -> Result<PageRef, Errno> {
    inode.file_system.charge_page()?;
    PageRef::new_for_file().map_err(|_| {
        inode.file_system.uncharge_pages(1);
        Errno::ENOSPC
    })
}

impl Default for Content {
    fn default() -> Self {
        Self::new()
    }
}
