//! read, write and their kin; lseek; truncate, fallocate; the sync family.

use super::argument::Fd;
use super::paths::{Caller, PathBuffer, file};
use super::signal::from_caller;
use super::user_buffer::{COUNT_MAX, UserBuffer, UserVector};
use crate::PAGE_SIZE;
use crate::errno::Errno;
use crate::fs::attributes;
use crate::fs::content::SIZE_MAX;
use crate::fs::file::{File, Target, Whence, WriteRules};
use crate::fs::mapping;
use crate::fs::open_flags::OpenFlags;
use crate::fs::walk::{Last, find};
use crate::memory::user_access::UserAddress;
use crate::task::Thread;
use crate::task::credentials::Credentials;
use crate::task::limits::Resource;
use crate::task::signal::{self, Signal, code};
use alloc::sync::Arc;

const FALLOC_FL_KEEP_SIZE: u32 = 1;
const FALLOC_FL_PUNCH_HOLE: u32 = 2;
/// preadv2's and pwritev2's flags that change nothing on files in memory, and those that do.
const RWF_HARMLESS: u32 = 0x1 | 0x2 | 0x4;
const RWF_NOWAIT: u32 = 0x8;
const RWF_APPEND: u32 = 0x10;
const RWF_NOAPPEND: u32 = 0x20;

/// What sync_file_range can be asked for.
const SYNC_FILE_RANGE_FLAGS: u32 = 7;

pub fn read(thread: &Thread, descriptor: Fd, buffer: UserAddress, count: usize) -> Result<usize, Errno> {
    let file = file(thread, descriptor)?;
    check_readable(&file)?;
    file.read(&mut UserBuffer::new(buffer, count)?)
}

pub fn write(thread: &Thread, descriptor: Fd, buffer: UserAddress, count: usize) -> Result<usize, Errno> {
    let file = file(thread, descriptor)?;
    check_writable(&file)?;
    let result = file.write(&mut UserBuffer::new(buffer, count)?, || write_rules(thread));
    signalled(thread, result)
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
    let result = file.write_at(position, &mut UserBuffer::new(buffer, count)?, || write_rules(thread));
    signalled(thread, result)
}

pub fn readv(thread: &Thread, descriptor: Fd, vector: UserAddress, count: u64) -> Result<usize, Errno> {
    read_vector(thread, descriptor, vector, count, None, 0)
}

pub fn writev(thread: &Thread, descriptor: Fd, vector: UserAddress, count: u64) -> Result<usize, Errno> {
    write_vector(thread, descriptor, vector, count, None, 0)
}

pub fn preadv(thread: &Thread, descriptor: Fd, vector: UserAddress, count: u64, position: i64) -> Result<usize, Errno> {
    read_vector(thread, descriptor, vector, count, Some(position), 0)
}

pub fn pwritev(
    thread: &Thread,
    descriptor: Fd,
    vector: UserAddress,
    count: u64,
    position: i64,
) -> Result<usize, Errno> {
    write_vector(thread, descriptor, vector, count, Some(position), 0)
}

/// `_high` is the position's upper half, where registers are too short for it: not here. The position -1 stands for the file's
/// own.
/// Left out: RWF_NOWAIT for files that aren't pipes.
pub fn preadv2(
    thread: &Thread,
    descriptor: Fd,
    vector: UserAddress,
    count: u64,
    position: i64,
    _high: u64,
    flags: u32,
) -> Result<usize, Errno> {
    read_vector(thread, descriptor, vector, count, (position != -1).then_some(position), flags)
}

/// As [`preadv2`].
/// Left out: RWF_NOWAIT for files that aren't pipes.
pub fn pwritev2(
    thread: &Thread,
    descriptor: Fd,
    vector: UserAddress,
    count: u64,
    position: i64,
    _high: u64,
    flags: u32,
) -> Result<usize, Errno> {
    write_vector(thread, descriptor, vector, count, (position != -1).then_some(position), flags)
}

/// readv and its kin. Without a position, from the file's own.
fn read_vector(
    thread: &Thread,
    descriptor: Fd,
    vector: UserAddress,
    count: u64,
    position: Option<i64>,
    flags: u32,
) -> Result<usize, Errno> {
    let (file, target) = file_and_target(thread, descriptor, position)?;
    check_readable(&file)?;
    let mut vector = UserVector::new(vector, count)?;
    check_flags(&file, flags)?;
    match (target, file.pipe()) {
        (_, Some(pipe)) if flags & RWF_NOWAIT != 0 => pipe.read(&mut vector, true),
        (Target::Position, _) => file.read(&mut vector),
        (Target::At(position), _) => file.read_at(position, &mut vector),
    }
}

/// writev and its kin, as [`read_vector`].
fn write_vector(
    thread: &Thread,
    descriptor: Fd,
    vector: UserAddress,
    count: u64,
    position: Option<i64>,
    flags: u32,
) -> Result<usize, Errno> {
    let (file, target) = file_and_target(thread, descriptor, position)?;
    check_writable(&file)?;
    let mut vector = UserVector::new(vector, count)?;
    check_flags(&file, flags)?;
    let append = flags & RWF_NOAPPEND == 0 && (file.appends() || flags & RWF_APPEND != 0);
    let result = match file.pipe() {
        Some(pipe) if flags & RWF_NOWAIT != 0 => {
            pipe.write(&mut vector, true, file.flags().contains(OpenFlags::DIRECT))
        }
        _ => file.write_to(target, append, &mut vector, || write_rules(thread)),
    };
    signalled(thread, result)
}

fn file_and_target(thread: &Thread, descriptor: Fd, position: Option<i64>) -> Result<(Arc<File>, Target), Errno> {
    let Some(position) = position else { return Ok((file(thread, descriptor)?, Target::Position)) };
    let position = u64::try_from(position).map_err(|_| Errno::EINVAL)?;
    Ok((seekable(thread, descriptor)?, Target::At(position)))
}

/// What these calls can be asked for. Files in memory don't know which reads would wait, and say so; pipes do.
fn check_flags(file: &File, flags: u32) -> Result<(), Errno> {
    if flags & !(RWF_HARMLESS | RWF_NOWAIT | RWF_APPEND | RWF_NOAPPEND) != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    if flags & RWF_APPEND != 0 && flags & RWF_NOAPPEND != 0 {
        return Err(Errno::EINVAL);
    }
    if flags & RWF_NOWAIT != 0 && file.pipe().is_none() { Err(Errno::EOPNOTSUPP) } else { Ok(()) }
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

/// Left out: FALLOC_FL_COLLAPSE_RANGE, FALLOC_FL_ZERO_RANGE, FALLOC_FL_INSERT_RANGE, FALLOC_FL_UNSHARE_RANGE.
pub fn fallocate(thread: &Thread, descriptor: Fd, mode: u32, start: i64, length: i64) -> Result<(), Errno> {
    let file = file(thread, descriptor)?;
    if file.is_path() {
        return Err(Errno::EBADF);
    }
    let (Ok(start), Ok(length)) = (u64::try_from(start), u64::try_from(length)) else { return Err(Errno::EINVAL) };
    if length == 0 {
        return Err(Errno::EINVAL);
    }
    let known = FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE;
    if mode & !known != 0 || mode & known == FALLOC_FL_PUNCH_HOLE {
        return Err(Errno::EOPNOTSUPP);
    }
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
        content.writer(file.inode()).punch_hole(start, end)?;
        mapping::forget(file.inode(), start.div_ceil(PAGE_SIZE as u64)..end / PAGE_SIZE as u64, true);
    } else {
        let keeps_size = mode & FALLOC_FL_KEEP_SIZE != 0;
        if !keeps_size && end > write_rules(thread).size_limit {
            return exceeded(thread, end, Err(Errno::EFBIG));
        }
        content.writer(file.inode()).allocate(start, end, keeps_size)?;
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
    if file(thread, descriptor)?.is_path() { Err(Errno::EBADF) } else { Ok(()) }
}

pub fn sync_file_range(thread: &Thread, descriptor: Fd, start: i64, length: i64, flags: u32) -> Result<(), Errno> {
    let file = file(thread, descriptor)?;
    if file.is_path() {
        return Err(Errno::EBADF);
    }
    if flags & !SYNC_FILE_RANGE_FLAGS != 0 || start < 0 || start.checked_add(length).is_none_or(|end| end < start) {
        return Err(Errno::EINVAL);
    }
    if file.content().is_ok() || file.inode().is_directory() { Ok(()) } else { Err(Errno::ESPIPE) }
}

/// Advice on how a file will be read: nothing here reads ahead.
pub fn fadvise64(thread: &Thread, descriptor: Fd, _start: i64, length: i64, advice: u32) -> Result<(), Errno> {
    let file = file(thread, descriptor)?;
    if file.is_path() {
        return Err(Errno::EBADF);
    }
    if file.pipe().is_some() {
        return Err(Errno::ESPIPE);
    }
    if length >= 0 && advice <= 5 { Ok(()) } else { Err(Errno::EINVAL) }
}

pub fn readahead(thread: &Thread, descriptor: Fd, _start: u64, _count: u64) -> Result<(), Errno> {
    let file = file(thread, descriptor)?;
    check_readable(&file)?;
    if file.content().is_ok() { Ok(()) } else { Err(Errno::EINVAL) }
}

/// What holds for this thread's writes to regular files.
pub fn write_rules(thread: &Thread) -> WriteRules {
    WriteRules {
        keeps_set_id_bits: thread.process.with_credentials(Credentials::overrides_permissions),
        size_limit: thread.process.limits.lock().get(Resource::FileSize).soft,
    }
}

/// What Linux counts for one call, cut to the largest.
pub fn limited(count: usize) -> usize {
    count.min(COUNT_MAX)
}

/// Sends what comes with a failed write: SIGPIPE where nobody reads the pipe, SIGXFSZ at the limit for files.
#[inline]
pub fn signalled<T>(thread: &Thread, result: Result<T, Errno>) -> Result<T, Errno> {
    result.inspect_err(|error| signal_failure(thread, *error))
}

#[cold]
fn signal_failure(thread: &Thread, error: Errno) {
    match error {
        Errno::EPIPE => raise(thread, Signal::PIPE),
        Errno::EFBIG => raise(thread, Signal::XFSZ),
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
    // A standard signal is never refused.
    let _ = signal::send_to_thread(thread, from_caller(thread, signal, code::USER));
}

#[inline(always)]
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
