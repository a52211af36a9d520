//! Descriptors and what is set on them: dup, fcntl with its locks, flock, ioctl; and making pipes.

use super::argument::Fd;
use super::open::descriptor_limit;
use super::paths::file;
use crate::errno::Errno;
use crate::fs::content::SIZE_MAX;
use crate::fs::file::File;
use crate::fs::open::open_pipe;
use crate::fs::open_flags::OpenFlags;
use crate::fs::record_lock::{Kind, Owner, RecordLock};
use crate::memory::user_access::{self, UserAddress};
use crate::task::Thread;
use crate::task::signal::Signal;
use alloc::sync::Arc;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

const F_DUPFD: u32 = 0;
const F_GETFD: u32 = 1;
const F_SETFD: u32 = 2;
const F_GETFL: u32 = 3;
const F_SETFL: u32 = 4;
const F_GETLK: u32 = 5;
const F_SETLK: u32 = 6;
const F_SETLKW: u32 = 7;
const F_SETOWN: u32 = 8;
const F_GETOWN: u32 = 9;
const F_SETSIG: u32 = 10;
const F_GETSIG: u32 = 11;
const F_SETOWN_EX: u32 = 15;
const F_GETOWN_EX: u32 = 16;
const F_OFD_GETLK: u32 = 36;
const F_OFD_SETLK: u32 = 37;
const F_OFD_SETLKW: u32 = 38;
const F_DUPFD_CLOEXEC: u32 = 1030;
const F_SETPIPE_SZ: u32 = 1031;
const F_GETPIPE_SZ: u32 = 1032;
const FD_CLOEXEC: u64 = 1;

const F_RDLCK: i16 = 0;
const F_WRLCK: i16 = 1;
const F_UNLCK: i16 = 2;

const LOCK_SH: u32 = 1;
const LOCK_EX: u32 = 2;
const LOCK_NB: u32 = 4;
const LOCK_UN: u32 = 8;

const FIONREAD: u32 = 0x541b;
const FIONBIO: u32 = 0x5421;
const FIONCLEX: u32 = 0x5450;
const FIOCLEX: u32 = 0x5451;
const FIOASYNC: u32 = 0x5452;

/// `struct flock`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Flock {
    kind: i16,
    whence: i16,
    padding: u32,
    start: i64,
    length: i64,
    pid: i32,
    padding_2: u32,
}

pub fn dup(thread: &Thread, descriptor: Fd) -> Result<u32, Errno> {
    duplicate(thread, descriptor, 0, false)
}

pub fn dup2(thread: &Thread, old: Fd, new: Fd) -> Result<u32, Errno> {
    if old == new {
        return file(thread, old).map(|_| new.0 as u32);
    }
    dup3(thread, old, new, 0)
}

pub fn dup3(thread: &Thread, old: Fd, new: Fd, flags: u32) -> Result<u32, Errno> {
    if flags & !OpenFlags::CLOSE_ON_EXEC.bits() != 0 || old == new {
        return Err(Errno::EINVAL);
    }
    let (limit, close) = (descriptor_limit(thread), flags != 0);
    if new.0 < 0 || new.0 as u64 >= limit {
        return Err(Errno::EBADF);
    }
    let replaced = thread.process.with_files(|files| {
        let file = files.get(old.0 as u32)?;
        files.replace(new.0 as u32, file, close, limit)
    })?;
    if let Some(replaced) = replaced {
        replaced.descriptor_closed(thread.process.pid);
    }
    Ok(new.0 as u32)
}

fn duplicate(thread: &Thread, descriptor: Fd, from: u32, close_on_exec: bool) -> Result<u32, Errno> {
    let limit = descriptor_limit(thread);
    thread.process.with_files(|files| {
        let file = files.get(descriptor.0 as u32)?;
        files.add(file, from, close_on_exec, limit)
    })
}

/// Left out: signals at readiness (F_SETOWN and F_SETSIG are taken, and send nothing), leases, F_NOTIFY, seals.
pub fn fcntl(thread: &Thread, descriptor: Fd, command: u32, argument: u64) -> Result<u64, Errno> {
    let number = descriptor.0 as u32;
    let file = file(thread, descriptor)?;
    match command {
        F_DUPFD | F_DUPFD_CLOEXEC => {
            // An `unsigned int` in Linux, compared with the limit.
            let from = argument as u32;
            if u64::from(from) >= descriptor_limit(thread) {
                return Err(Errno::EINVAL);
            }
            duplicate(thread, descriptor, from, command == F_DUPFD_CLOEXEC).map(u64::from)
        }
        F_GETFD => thread.process.with_files(|files| files.close_on_exec(number)).map(u64::from),
        F_SETFD => {
            let close = argument & FD_CLOEXEC != 0;
            thread.process.with_files(|files| files.set_close_on_exec(number, close)).map(|()| 0)
        }
        F_GETFL => Ok(file.flags().bits().into()),
        _ if file.is_path() => Err(Errno::EBADF),
        F_SETFL => set_flags(thread, &file, OpenFlags::from_bits_truncate(argument as u32)).map(|()| 0),
        F_GETLK | F_OFD_GETLK => get_lock(thread, &file, command, UserAddress::new(argument)).map(|()| 0),
        F_SETLK | F_SETLKW | F_OFD_SETLK | F_OFD_SETLKW => {
            set_lock(thread, number, &file, command, UserAddress::new(argument)).map(|()| 0)
        }
        // Nobody is told of readiness by a signal; who asks for it learns that nobody would be.
        F_SETOWN | F_SETOWN_EX | F_GETOWN | F_GETSIG => Ok(0),
        F_SETSIG if argument == 0 || Signal::new(argument as u32).is_some() => Ok(0),
        F_GETOWN_EX => user_access::write_value(UserAddress::new(argument), &[0_i32; 2]).map(|()| 0),
        F_SETPIPE_SZ => {
            let pipe = file.pipe().ok_or(Errno::EBADF)?;
            let size = pipe.set_capacity(argument as u32 as usize, &thread.process.credentials())?;
            Ok(size as u64)
        }
        F_GETPIPE_SZ => Ok(file.pipe().ok_or(Errno::EBADF)?.capacity() as u64),
        _ => Err(Errno::EINVAL),
    }
}

fn set_flags(thread: &Thread, file: &File, flags: OpenFlags) -> Result<(), Errno> {
    if flags.contains(OpenFlags::NO_ACCESS_TIME) && !file.flags().contains(OpenFlags::NO_ACCESS_TIME) {
        file.inode().check_owner(&thread.process.credentials())?;
    }
    file.set_flags(flags);
    Ok(())
}

fn get_lock(thread: &Thread, file: &Arc<File>, command: u32, address: UserAddress) -> Result<(), Errno> {
    let mut flock: Flock = user_access::read_value(address)?;
    let of_file = command == F_OFD_GETLK;
    if of_file && flock.pid != 0 {
        return Err(Errno::EINVAL);
    }
    let owner = if of_file { file_owner(file) } else { Owner::Process(thread.process.pid) };
    let wanted = requested(file, &flock, owner)?.ok_or(Errno::EINVAL)?;
    match file.inode().locks.conflict(&wanted) {
        None => flock.kind = F_UNLCK,
        Some(held) => {
            flock.kind = if held.kind == Kind::Shared { F_RDLCK } else { F_WRLCK };
            flock.whence = 0;
            flock.start = held.start as i64;
            flock.length = if held.end == RecordLock::WHOLE_END { 0 } else { (held.end - held.start) as i64 };
            flock.pid = match held.owner {
                Owner::Process(pid) => pid as i32,
                _ => -1,
            };
        }
    }
    user_access::write_value(address, &flock)
}

fn set_lock(thread: &Thread, number: u32, file: &Arc<File>, command: u32, address: UserAddress) -> Result<(), Errno> {
    let flock: Flock = user_access::read_value(address)?;
    let of_file = matches!(command, F_OFD_SETLK | F_OFD_SETLKW);
    if of_file && flock.pid != 0 {
        return Err(Errno::EINVAL);
    }
    let owner = if of_file { file_owner(file) } else { Owner::Process(thread.process.pid) };
    let locks = &file.inode().locks;
    let Some(wanted) = requested(file, &flock, owner)? else {
        let range = range_of(file, &flock)?;
        return locks.unlock(owner, range.0, range.1);
    };
    let permitted = if wanted.kind == Kind::Shared { file.is_readable() } else { file.is_writable() };
    if !permitted {
        return Err(Errno::EBADF);
    }
    if matches!(command, F_SETLKW | F_OFD_SETLKW) { locks.set_waiting(&wanted) } else { locks.set(&wanted) }?;
    // Another thread may have closed the descriptor meanwhile, which was to take the process's locks with it.
    let stays = || thread.process.with_files(|files| files.get(number)).is_ok_and(|now| Arc::ptr_eq(&now, file));
    if !of_file && !stays() {
        locks.release_process(thread.process.pid);
        return Err(Errno::EBADF);
    }
    Ok(())
}

/// The lock that a `struct flock` asks for; None for unlocking.
fn requested(file: &File, flock: &Flock, owner: Owner) -> Result<Option<RecordLock>, Errno> {
    let (start, end) = range_of(file, flock)?;
    let kind = match flock.kind {
        F_RDLCK => Kind::Shared,
        F_WRLCK => Kind::Exclusive,
        F_UNLCK => return Ok(None),
        _ => return Err(Errno::EINVAL),
    };
    Ok(Some(RecordLock { owner, kind, start, end }))
}

fn range_of(file: &File, flock: &Flock) -> Result<(u64, u64), Errno> {
    let base = match flock.whence {
        0 => 0,
        1 => file.position(),
        2 => file.inode().size(),
        _ => return Err(Errno::EINVAL),
    };
    let start = i64::try_from(base).ok().and_then(|base| base.checked_add(flock.start)).ok_or(Errno::EOVERFLOW)?;
    // A negative length reaches backwards.
    let first = if flock.length < 0 { start.saturating_add(flock.length) } else { start };
    let first = u64::try_from(first).map_err(|_| Errno::EINVAL)?;
    // One past the last byte that a file can have.
    const LIMIT: u64 = SIZE_MAX + 1;
    let end = match flock.length {
        0 => LIMIT,
        ..0 => start as u64,
        length => first + length as u64,
    };
    match end {
        ..LIMIT => Ok((first, end)),
        // Whatever the file grows to belongs to it.
        LIMIT => Ok((first, RecordLock::WHOLE_END)),
        _ => Err(Errno::EOVERFLOW),
    }
}

fn file_owner(file: &Arc<File>) -> Owner {
    Owner::File(Arc::as_ptr(file).addr())
}

pub fn flock(thread: &Thread, descriptor: Fd, operation: u32) -> Result<(), Errno> {
    let file = file(thread, descriptor)?;
    let kind = match operation & !LOCK_NB {
        LOCK_SH => Some(Kind::Shared),
        LOCK_EX => Some(Kind::Exclusive),
        LOCK_UN => None,
        _ => return Err(Errno::EINVAL),
    };
    if file.is_path() {
        return Err(Errno::EBADF);
    }
    let owner = Owner::Flock(Arc::as_ptr(&file).addr());
    let locks = &file.inode().locks;
    let Some(kind) = kind else { return locks.unlock(owner, 0, RecordLock::WHOLE_END) };
    let wanted = RecordLock { owner, kind, start: 0, end: RecordLock::WHOLE_END };
    // A lock that can't change its kind at once is given up first, and may well be lost: two who both want to raise theirs
    // would wait for each other.
    match locks.set(&wanted) {
        Err(Errno::EAGAIN) => locks.unlock(owner, 0, RecordLock::WHOLE_END)?,
        result => return result,
    }
    if operation & LOCK_NB != 0 { Err(Errno::EAGAIN) } else { locks.set_waiting(&wanted) }
}

/// Left out: what isn't a terminal's, but FIOCLEX, FIONCLEX, FIONBIO and FIONREAD.
pub fn ioctl(thread: &Thread, descriptor: Fd, command: u32, argument: u64) -> Result<isize, Errno> {
    let file = file(thread, descriptor)?;
    let number = descriptor.0 as u32;
    if file.is_path() {
        return Err(Errno::EBADF);
    }
    let address = UserAddress::new(argument);
    match command {
        FIOCLEX | FIONCLEX => {
            let close = command == FIOCLEX;
            thread.process.with_files(|files| files.set_close_on_exec(number, close))?;
        }
        FIONBIO => {
            let on: i32 = user_access::read_value(address)?;
            let (flags, flag) = (file.flags(), OpenFlags::NONBLOCK);
            file.set_flags(if on != 0 { flags.union(flag) } else { flags.difference(flag) });
        }
        FIOASYNC => {
            let on: i32 = user_access::read_value(address)?;
            if (on != 0) != file.flags().contains(OpenFlags::ASYNC) {
                return Err(Errno::ENOTTY);
            }
        }
        FIONREAD if file.pipe().is_some() => {
            let count = file.pipe().map_or(0, |pipe| pipe.bytes_inside());
            user_access::write_value(address, &(count as i32))?;
        }
        FIONREAD if file.content().is_ok() => {
            let left = file.inode().size().saturating_sub(file.position());
            user_access::write_value(address, &(left.min(i32::MAX as u64) as i32))?;
        }
        _ => return file.device_control(command, argument),
    }
    Ok(0)
}

pub fn pipe(thread: &Thread, descriptors: UserAddress) -> Result<(), Errno> {
    pipe2(thread, descriptors, 0)
}

pub fn pipe2(thread: &Thread, descriptors: UserAddress, flags: u32) -> Result<(), Errno> {
    let allowed = OpenFlags::CLOSE_ON_EXEC | OpenFlags::NONBLOCK | OpenFlags::DIRECT;
    let flags = OpenFlags::from_bits(flags).filter(|flags| allowed.contains(*flags)).ok_or(Errno::EINVAL)?;
    let pair = open_pipe(&thread.process.credentials(), flags)?;
    let (limit, close) = (descriptor_limit(thread), flags.contains(OpenFlags::CLOSE_ON_EXEC));
    let numbers = thread.process.with_files(|files| files.add_pair(pair, close, limit))?;
    if let Err(error) = user_access::write_slice(descriptors, &numbers) {
        for number in numbers {
            drop(thread.process.with_files(|files| files.remove(number)));
        }
        return Err(error);
    }
    Ok(())
}
