//! Pipes and FIFOs (`pipe(7)`): bytes that go in at one end and come out at the other.
//!
//! A write of at most PIPE_BUF (a page of) bytes goes in whole or waits. With no writer left a reader meets the end; with no reader
//! left a writer gets EPIPE. The pipe's lock is held while user memory is copied, so that a write is whole: it ranks before
//! those that a page fault takes.

use super::file_system::Kind;
use super::inode::{Attributes, Body, Inode, S_IFIFO};
use super::mount::{self, Location, Mount, MountFlags};
use super::pipe_buffer::{PAGES_MAX, PipeBuffer};
use super::transfer::{Sink, Source};
use super::tree::{Dentry, Name};
use super::waiting::{Events, PollTable, WaitQueue, wait_restartably};
use crate::PAGE_SIZE;
use crate::errno::Errno;
use crate::lock::{Lock, Rank};
use crate::task::credentials::Credentials;
use alloc::sync::Arc;

pub struct Pipe {
    state: Lock<State>,
    /// Opened by its name: who opens one end waits for the other. Pipes are opened with both ends; one of those is opened
    /// again through /proc only, where its other end may be gone for good.
    is_fifo: bool,
    /// Woken when there is something to read, or a writer came or went.
    readable: WaitQueue,
    /// Woken when there is room, or a reader came or went.
    writable: WaitQueue,
}

struct State {
    buffer: PipeBuffer,
    /// Open ends.
    readers: usize,
    writers: usize,
    /// How often a reader or writer has come: who waits in `open` sees one that has gone again.
    readers_ever: u64,
    writers_ever: u64,
    /// Whether anybody waits: who doesn't need to wake doesn't touch the queues.
    reader_waits: bool,
    writer_waits: bool,
}

/// Which end a file is: a FIFO can be opened for both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    pub reads: bool,
    pub writes: bool,
    /// How many writers had come and gone when a FIFO was opened without one: the end of input begins after the next.
    pub missed_writers: u64,
}

impl Pipe {
    pub fn fifo() -> Result<Arc<Self>, Errno> {
        Self::new(true)
    }

    fn new(is_fifo: bool) -> Result<Arc<Self>, Errno> {
        let state = State {
            buffer: PipeBuffer::new(),
            readers: 0,
            writers: 0,
            readers_ever: 0,
            writers_ever: 0,
            reader_waits: false,
            writer_waits: false,
        };
        let (readable, writable) = (WaitQueue::new(), WaitQueue::new());
        let pipe = Self { state: Lock::new(Rank::Pipe, state), is_fifo, readable, writable };
        Arc::try_new(pipe).map_err(|_| Errno::ENOMEM)
    }

    /// A file is opened that reads or writes or both.
    pub fn open_end(&self, reads: bool, writes: bool) -> End {
        let mut state = self.state.lock();
        let missed_writers = if self.is_fifo && state.writers == 0 { state.writers_ever } else { 0 };
        let end = End { reads, writes, missed_writers };
        if end.reads {
            state.readers += 1;
            state.readers_ever += 1;
        }
        if end.writes {
            state.writers += 1;
            state.writers_ever += 1;
        }
        drop(state);
        // Of a pipe without a name nobody waits for an end.
        if self.is_fifo {
            self.wake_both();
        }
        end
    }

    /// The last descriptor of a file for this end was closed.
    pub fn close_end(&self, end: End) {
        let mut state = self.state.lock();
        state.readers -= usize::from(end.reads);
        state.writers -= usize::from(end.writes);
        let unused = state.readers == 0 && state.writers == 0;
        // A FIFO that nobody has open forgets what was in it.
        let dropped = unused.then(|| core::mem::take(&mut state.buffer));
        let others_left = !unused && (state.readers == 0 || state.writers == 0);
        let may_wait = self.is_fifo || state.reader_waits || state.writer_waits;
        drop(state);
        drop(dropped);
        if others_left && may_wait {
            self.wake_both();
        }
    }

    /// Waits, as opening a FIFO does, until its other end is open too. ENXIO for a writer that won't wait.
    pub fn wait_for_other_end(&self, end: End, nonblocking: bool) -> Result<(), Errno> {
        if !self.is_fifo {
            return Ok(());
        }
        let state = self.state.lock();
        let (readers, writers) = (state.readers_ever, state.writers_ever);
        let (has_readers, has_writers) = (state.readers > 0, state.writers > 0);
        drop(state);
        match end {
            End { reads: true, writes: false, .. } if !has_writers && !nonblocking => {
                wait_restartably(&self.readable, || (self.state.lock().writers_ever != writers).then_some(()))
            }
            End { reads: false, writes: true, .. } if !has_readers => {
                if nonblocking {
                    return Err(Errno::ENXIO);
                }
                wait_restartably(&self.writable, || (self.state.lock().readers_ever != readers).then_some(()))
            }
            _ => Ok(()),
        }
    }

    #[inline(never)]
    pub fn read(&self, sink: &mut impl Sink, nonblocking: bool) -> Result<usize, Errno> {
        if sink.remaining() == 0 {
            return Ok(0);
        }
        wait_restartably(&self.readable, || self.try_read(sink, nonblocking))?
    }

    /// With `packets` (O_DIRECT) each page of it, and at least each write, is a packet, which one read takes.
    #[inline(never)]
    pub fn write(&self, source: &mut impl Source, nonblocking: bool, packets: bool) -> Result<usize, Errno> {
        let wanted = source.remaining();
        let mut done = 0;
        while done < wanted {
            match wait_restartably(&self.writable, || self.try_write(source, nonblocking, packets)).flatten() {
                Ok(count) => done += count,
                Err(error) if done == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    /// None if the reader has to wait.
    fn try_read(&self, sink: &mut impl Sink, nonblocking: bool) -> Option<Result<usize, Errno>> {
        let mut state = self.state.lock();
        if state.buffer.is_empty() {
            if state.writers == 0 {
                return Some(Ok(0));
            }
            if nonblocking {
                return Some(Err(Errno::EAGAIN));
            }
            state.reader_waits = true;
            return None;
        }
        let result = state.buffer.drain(sink);
        let wakes = state.writer_waits && state.buffer.has_room() && core::mem::take(&mut state.writer_waits);
        let more = state.reader_waits && !state.buffer.is_empty() && core::mem::take(&mut state.reader_waits);
        drop(state);
        if wakes {
            self.writable.wake_all();
        }
        if more {
            self.readable.wake_all();
        }
        Some(result)
    }

    /// None if the writer has to wait; else how many bytes went in now.
    fn try_write(&self, source: &mut impl Source, nonblocking: bool, packets: bool) -> Option<Result<usize, Errno>> {
        let mut state = self.state.lock();
        if state.readers == 0 {
            return Some(Err(Errno::EPIPE));
        }
        let result = state.buffer.fill(source, packets);
        if result == Ok(0) {
            if nonblocking {
                return Some(Err(Errno::EAGAIN));
            }
            state.writer_waits = true;
            return None;
        }
        let wakes = core::mem::take(&mut state.reader_waits);
        drop(state);
        if wakes {
            self.readable.wake_all();
        }
        Some(result)
    }

    /// What this end is ready for. Wakes `table`'s poller when that may have changed.
    pub fn poll<'a>(&'a self, end: End, table: Option<&mut PollTable<'a>>) -> Events {
        let mut state = self.state.lock();
        if let Some(table) = table {
            state.reader_waits |= end.reads;
            state.writer_waits |= end.writes;
            if end.reads {
                table.add(&self.readable);
            }
            if end.writes {
                table.add(&self.writable);
            }
        }
        let mut events = Events::empty();
        if end.reads {
            if !state.buffer.is_empty() {
                events |= Events::READABLE;
            }
            if state.writers == 0 && state.writers_ever != end.missed_writers {
                events |= Events::HANG_UP;
            }
        }
        if end.writes {
            if state.buffer.has_room() {
                events |= Events::WRITABLE;
            }
            if state.readers == 0 {
                events |= Events::ERROR;
            }
        }
        events
    }

    /// FIONREAD.
    pub fn bytes_inside(&self) -> usize {
        self.state.lock().buffer.len()
    }

    /// `fcntl(F_GETPIPE_SZ)`.
    pub fn capacity(&self) -> usize {
        self.state.lock().buffer.capacity()
    }

    /// `fcntl(F_SETPIPE_SZ)`: at least `bytes`, rounded up to a power of two of pages.
    pub fn set_capacity(&self, bytes: usize, credentials: &Credentials) -> Result<usize, Errno> {
        let pages = bytes.div_ceil(PAGE_SIZE).max(1).checked_next_power_of_two().ok_or(Errno::EINVAL)?;
        if bytes > 1 << 31 {
            return Err(Errno::EINVAL);
        }
        let mut state = self.state.lock();
        if pages > PAGES_MAX && pages * PAGE_SIZE > state.buffer.capacity() && !credentials.is_privileged() {
            return Err(Errno::EPERM);
        }
        state.buffer.set_capacity(pages)?;
        drop(state);
        self.writable.wake_all();
        Ok(pages * PAGE_SIZE)
    }

    fn wake_both(&self) {
        self.readable.wake_all();
        self.writable.wake_all();
    }
}

/// The place of a new pipe that has no name.
pub fn anonymous(credentials: &Credentials) -> Result<Location, Errno> {
    let mount = pipes()?;
    let (user, group) = (credentials.user.file_system, credentials.group.file_system);
    let attributes = Attributes { mode: S_IFIFO | 0o600, user, group };
    let inode = Inode::new(&mount.file_system, attributes, Body::Fifo(Pipe::new(false)?))?;
    Ok(Location { mount, dentry: Dentry::nameless(inode, Name::new(b"")?)? })
}

/// The mount, never to be seen, that pipes without names are in.
fn pipes() -> Result<Arc<Mount>, Errno> {
    static PIPES: Lock<Option<Arc<Mount>>> = Lock::new(Rank::Mounts, None);
    if let Some(mount) = &*PIPES.lock() {
        return Ok(Arc::clone(mount));
    }
    let (file_system, root) = super::tmpfs::new(Kind::Pipefs, 0, Attributes { mode: 0o600, user: 0, group: 0 })?;
    let mount = mount::detached(&file_system, &root, b"pipefs", MountFlags::empty())?;
    *PIPES.lock() = Some(Arc::clone(&mount));
    Ok(mount)
}
