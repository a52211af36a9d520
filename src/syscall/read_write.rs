//! read, write and their kin; lseek; truncate, fallocate; the sync family.

use super::argument::Fd;
use super::paths::{Caller, PathBuffer, file};
use super::user_buffer::{COUNT_MAX, UserBuffer, UserVector};
use crate::PAGE_SIZE;
use crate::errno::Errno;
use crate::fs::attributes;
use crate::fs::content::SIZE_MAX;
use crate::fs::file::{File, Whence, WriteRules};
use crate::fs::mapping;
use crate::fs::open_flags::OpenFlags;
use crate::fs::transfer::Source;
use crate::fs::walk::{Last, find};
use crate::memory::user_access::UserAddress;
use crate::task::Thread;
use crate::task::limits::Resource;
use crate::task::signal::{self, Info, Origin, Signal, code};
use alloc::sync::Arc;

const FALLOC_FL_KEEP_SIZE: u32 = 1;
const FALLOC_FL_PUNCH_HOLE: u32 = 2;
/// preadv2's and pwritev2's flags that change nothing on files in memory, and the two that do.
const RWF_HARMLESS: u32 = 0x1 | 0x2 | 0x4;
const RWF_NOWAIT: u32 = 0x8;
const RWF_APPEND: u32 = 0x10;

pub fn read(thread: &Thread, descriptor: Fd, buffer: UserAddress, count: usize) -> Result<usize, Errno> {
    let file = file(thread, descriptor)?;
    check_readable(&file)?;
    file.read(&mut UserBuffer::new(buffer, count)?)
}

pub fn write(thread: &Thread, descriptor: Fd, buffer: UserAddress, count: usize) -> Result<usize, Errno> {
    let file = file(thread, descriptor)?;
    check_writable(&file)?;
    let result = file.write(&mut UserBuffer::new(buffer, count)?, &|| write_rules(thread));
    signalled(thread, &file, result)
}

pub fn pread64(
    thread: &Thread,
    descriptor: Fd,
    buffer: UserAddress,
    count: usize,
    position: i64,
) -> Result<usize, Errno> {
    let position = u64::try_from(position).map_err(|_| Errno::EINVAL)?;
    let file = seekable(thread, descriptor)?;
    check_readable(&file)?;
    file.read_at(position, &mut UserBuffer::new(buffer, count)?)
}

/// On a file opened with O_APPEND it appends, whatever the position, as on Linux.
pub fn pwrite64(
    thread: &Thread,
    descriptor: Fd,
    buffer: UserAddress,
    count: usize,
    position: i64,
) -> Result<usize, Errno> {
    let position = u64::try_from(position).map_err(|_| Errno::EINVAL)?;
    let file = seekable(thread, descriptor)?;
    check_writable(&file)?;
    let mut buffer = UserBuffer::new(buffer, count)?;
    write_at(thread, &file, position, &mut buffer)
}

pub fn readv(thread: &Thread, descriptor: Fd, vector: UserAddress, count: u64) -> Result<usize, Errno> {
    let file = file(thread, descriptor)?;
    check_readable(&file)?;
    file.read(&mut UserVector::new(vector, count)?)
}

pub fn writev(thread: &Thread, descriptor: Fd, vector: UserAddress, count: u64) -> Result<usize, Errno> {
    let file = file(thread, descriptor)?;
    check_writable(&file)?;
    let result = file.write(&mut UserVector::new(vector, count)?, &|| write_rules(thread));
    signalled(thread, &file, result)
}

pub fn preadv(thread: &Thread, descriptor: Fd, vector: UserAddress, count: u64, position: i64) -> Result<usize, Errno> {
    let position = u64::try_from(position).map_err(|_| Errno::EINVAL)?;
    let file = seekable(thread, descriptor)?;
    check_readable(&file)?;
    file.read_at(position, &mut UserVector::new(vector, count)?)
}

pub fn pwritev(
    thread: &Thread,
    descriptor: Fd,
    vector: UserAddress,
    count: u64,
    position: i64,
) -> Result<usize, Errno> {
    let position = u64::try_from(position).map_err(|_| Errno::EINVAL)?;
    let file = seekable(thread, descriptor)?;
    check_writable(&file)?;
    let mut vector = UserVector::new(vector, count)?;
    write_at(thread, &file, position, &mut vector)
}

/// `_high` is the position's upper half, where registers are too short for it: not here.
pub fn preadv2(
    thread: &Thread,
    descriptor: Fd,
    vector: UserAddress,
    count: u64,
    position: i64,
    _high: u64,
    flags: u32,
) -> Result<usize, Errno> {
    if flags & !(RWF_HARMLESS | RWF_NOWAIT) != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    match position {
        -1 => readv(thread, descriptor, vector, count),
        _ => preadv(thread, descriptor, vector, count, position),
    }
}

pub fn pwritev2(
    thread: &Thread,
    descriptor: Fd,
    vector: UserAddress,
    count: u64,
    position: i64,
    _high: u64,
    flags: u32,
) -> Result<usize, Errno> {
    if flags & !(RWF_HARMLESS | RWF_APPEND) != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    if flags & RWF_APPEND != 0 {
        let end = file(thread, descriptor)?.inode().size();
        return pwritev(thread, descriptor, vector, count, end as i64);
    }
    match position {
        -1 => writev(thread, descriptor, vector, count),
        _ => pwritev(thread, descriptor, vector, count, position),
    }
}

pub fn lseek(thread: &Thread, descriptor: Fd, offset: i64, whence: u32) -> Result<u64, Errno> {
    let file = file(thread, descriptor)?;
    let whence = match whence {
        0 => Whence::Start,
        1 => Whence::Current,
        2 => Whence::End,
        3 => Whence::Data,
        4 => Whence::Hole,
        _ => return Err(Errno::EINVAL),
    };
    file.seek(offset, whence)
}

pub fn truncate(thread: &Thread, path: UserAddress, size: i64) -> Result<(), Errno> {
    let size = u64::try_from(size).map_err(|_| Errno::EINVAL)?;
    let caller = Caller::of(thread)?;
    let mut buffer = PathBuffer::unfilled();
    let location = find(&caller.context(), None, buffer.read(path)?, Last::Follow)?;
    let result = attributes::truncate(&caller.context(), &location, size, &write_rules(thread));
    exceeded(thread, size, result)
}

pub fn ftruncate(thread: &Thread, descriptor: Fd, size: i64) -> Result<(), Errno> {
    let size = u64::try_from(size).map_err(|_| Errno::EINVAL)?;
    let file = file(thread, descriptor)?;
    exceeded(thread, size, file.set_size(size, &write_rules(thread)))
}

pub fn fallocate(thread: &Thread, descriptor: Fd, mode: u32, start: i64, length: i64) -> Result<(), Errno> {
    let (Ok(start), Ok(length)) = (u64::try_from(start), u64::try_from(length)) else { return Err(Errno::EINVAL) };
    if length == 0 {
        return Err(Errno::EINVAL);
    }
    let known = FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE;
    if mode & !known != 0 || mode & known == FALLOC_FL_PUNCH_HOLE {
        return Err(Errno::EOPNOTSUPP);
    }
    let file = file(thread, descriptor)?;
    check_writable(&file)?;
    if file.pipe().is_some() {
        return Err(Errno::ESPIPE);
    }
    if file.inode().is_directory() {
        return Err(Errno::EISDIR);
    }
    let content = file.content().map_err(|_| Errno::ENODEV)?;
    let end = start.checked_add(length).filter(|end| *end <= SIZE_MAX).ok_or(Errno::EFBIG)?;
    if mode & FALLOC_FL_PUNCH_HOLE != 0 {
        content.punch_hole(file.inode(), start, end)?;
        mapping::forget(file.inode(), start.div_ceil(PAGE_SIZE as u64)..end / PAGE_SIZE as u64);
    } else {
        let keeps_size = mode & FALLOC_FL_KEEP_SIZE != 0;
        if !keeps_size && end > write_rules(thread).size_limit {
            return exceeded(thread, end, Err(Errno::EFBIG));
        }
        content.allocate(file.inode(), start, end, keeps_size)?;
    }
    file.inode().touch_modified();
    Ok(())
}

/// Everything is where it stays already: in memory.
pub fn fsync(thread: &Thread, descriptor: Fd) -> Result<(), Errno> {
    let file = file(thread, descriptor)?;
    if file.is_path() {
        return Err(Errno::EBADF);
    }
    if file.content().is_ok() || file.inode().is_directory() { Ok(()) } else { Err(Errno::EINVAL) }
}

pub fn fdatasync(thread: &Thread, descriptor: Fd) -> Result<(), Errno> {
    fsync(thread, descriptor)
}

pub fn sync(_: &Thread) {}

pub fn syncfs(thread: &Thread, descriptor: Fd) -> Result<(), Errno> {
    file(thread, descriptor).map(|_| ())
}

pub fn sync_file_range(thread: &Thread, descriptor: Fd, _start: u64, _length: u64, _flags: u32) -> Result<(), Errno> {
    file(thread, descriptor).map(|_| ())
}

/// Advice on how a file will be read: nothing here reads ahead.
pub fn fadvise64(thread: &Thread, descriptor: Fd, _start: u64, _length: u64, advice: u32) -> Result<(), Errno> {
    let file = file(thread, descriptor)?;
    if file.pipe().is_some() {
        return Err(Errno::ESPIPE);
    }
    if advice <= 5 { Ok(()) } else { Err(Errno::EINVAL) }
}

pub fn readahead(thread: &Thread, descriptor: Fd, _start: u64, _count: u64) -> Result<(), Errno> {
    let file = file(thread, descriptor)?;
    check_readable(&file)?;
    if file.content().is_ok() { Ok(()) } else { Err(Errno::EINVAL) }
}

/// What holds for this thread's writes to regular files.
pub fn write_rules(thread: &Thread) -> WriteRules {
    WriteRules {
        keeps_set_id_bits: thread.process.credentials().overrides_permissions(),
        size_limit: thread.process.limits.lock().get(Resource::FileSize).soft,
    }
}

/// What Linux counts for one call, cut to the largest.
pub fn limited(count: usize) -> usize {
    count.min(COUNT_MAX)
}

/// Sends what comes with a failed write: SIGPIPE where nobody reads the pipe, SIGXFSZ at the limit for files.
#[inline]
pub fn signalled<T>(thread: &Thread, file: &File, result: Result<T, Errno>) -> Result<T, Errno> {
    result.inspect_err(|error| signal_failure(thread, file, *error))
}

#[cold]
fn signal_failure(thread: &Thread, file: &File, error: Errno) {
    match error {
        Errno::EPIPE => raise(thread, Signal::PIPE),
        Errno::EFBIG if file.position() >= write_rules(thread).size_limit => raise(thread, Signal::XFSZ),
        _ => {}
    }
}

fn exceeded(thread: &Thread, size: u64, result: Result<(), Errno>) -> Result<(), Errno> {
    if result == Err(Errno::EFBIG) && size > write_rules(thread).size_limit {
        raise(thread, Signal::XFSZ);
    }
    result
}

fn raise(thread: &Thread, signal: Signal) {
    let origin = Origin::Process { pid: thread.process.pid, uid: thread.process.credentials().user.real };
    // A standard signal is never refused.
    let _ = signal::send_to_thread(thread, Info { signal, code: code::USER, origin });
}

fn write_at(thread: &Thread, file: &File, position: u64, source: &mut dyn Source) -> Result<usize, Errno> {
    let append = file.flags().contains(OpenFlags::APPEND) && file.content().is_ok();
    let position = if append { file.inode().size() } else { position };
    let result = file.write_at(position, source, &|| write_rules(thread));
    if result == Err(Errno::EFBIG) && position >= write_rules(thread).size_limit {
        raise(thread, Signal::XFSZ);
    }
    result
}

fn seekable(thread: &Thread, descriptor: Fd) -> Result<Arc<File>, Errno> {
    let file = file(thread, descriptor)?;
    if file.is_seekable() || file.is_path() { Ok(file) } else { Err(Errno::ESPIPE) }
}

#[inline]
fn check_readable(file: &File) -> Result<(), Errno> {
    if file.is_readable() { Ok(()) } else { Err(Errno::EBADF) }
}

#[inline]
fn check_writable(file: &File) -> Result<(), Errno> {
    if file.is_writable() { Ok(()) } else { Err(Errno::EBADF) }
}
