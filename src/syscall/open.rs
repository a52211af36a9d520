//! open, openat, creat, close, close_range.

use super::argument::Fd;
use super::paths::{Caller, PathBuffer, start_of};
use crate::errno::Errno;
use crate::fs::file::File;
use crate::fs::open;
use crate::fs::open_flags::OpenFlags;
use crate::lock::{Lock, Rank};
use crate::memory::user_access::{self, UserAddress};
use crate::task::Thread;
use crate::task::limits::Resource;
use crate::task::yield_point::yield_point;
use alloc::sync::Arc;
use zerocopy::FromBytes;

const CLOSE_RANGE_UNSHARE: u32 = 2;
const CLOSE_RANGE_CLOEXEC: u32 = 4;

/// What openat2 takes in place of flags and mode (`struct open_how`).
#[derive(FromBytes)]
#[repr(C)]
struct HowToOpen {
    flags: u64,
    mode: u64,
    resolve: u64,
}

pub fn open(thread: &Thread, path: UserAddress, flags: u32, mode: u32) -> Result<u32, Errno> {
    openat(thread, Fd::CWD, path, flags, mode)
}

pub fn creat(thread: &Thread, path: UserAddress, mode: u32) -> Result<u32, Errno> {
    let flags = OpenFlags::CREATE | OpenFlags::WRITE_ONLY | OpenFlags::TRUNCATE;
    openat(thread, Fd::CWD, path, flags.bits(), mode)
}

/// Flags that Linux doesn't know are ignored, as it ignores them.
pub fn openat(thread: &Thread, directory: Fd, path: UserAddress, flags: u32, mode: u32) -> Result<u32, Errno> {
    let flags = OpenFlags::from_bits_truncate(flags) | OpenFlags::LARGE_FILE;
    let mut buffer = PathBuffer::unfilled();
    let path = buffer.read(path)?;
    // Before anything is made or cut that nobody would get a descriptor of.
    let limit = descriptor_limit(thread);
    thread.process.with_files(|files| files.make_room(limit))?;
    let start = start_of(thread, directory, path)?;
    let caller = Caller::of(thread)?;
    let file = open::open(&caller.context(), start.as_ref(), path, flags, mode)?;
    install(thread, file, flags.contains(OpenFlags::CLOSE_ON_EXEC))
}

/// Without RESOLVE_* restrictions: a call that asks for one gets EINVAL rather than less than it asked for.
/// Left out: RESOLVE_*.
pub fn openat2(thread: &Thread, directory: Fd, path: UserAddress, how: UserAddress, size: u64) -> Result<u32, Errno> {
    if size < size_of::<HowToOpen>() as u64 {
        return Err(Errno::EINVAL);
    }
    if size > size_of::<HowToOpen>() as u64 {
        return Err(Errno::E2BIG);
    }
    let how: HowToOpen = user_access::read_value(how)?;
    let flags = u32::try_from(how.flags).ok().and_then(OpenFlags::from_bits).ok_or(Errno::EINVAL)?;
    let creates = flags.intersects(OpenFlags::CREATE | OpenFlags::TEMPORARY);
    // What open passes over is refused here.
    let without_access = OpenFlags::PATH | OpenFlags::DIRECTORY | OpenFlags::NO_FOLLOW | OpenFlags::CLOSE_ON_EXEC;
    if flags.contains(OpenFlags::PATH) && !without_access.contains(flags) {
        return Err(Errno::EINVAL);
    }
    if how.resolve != 0 || how.mode & !0o7777 != 0 || (how.mode != 0 && !creates) {
        return Err(Errno::EINVAL);
    }
    openat(thread, directory, path, flags.bits(), how.mode as u32)
}

/// Left out: MFD_HUGETLB, MFD_NOEXEC_SEAL, MFD_EXEC; MFD_ALLOW_SEALING is taken, but there are no seals.
pub fn memfd_create(thread: &Thread, name: UserAddress, flags: u32) -> Result<u32, Errno> {
    const PREFIX: &[u8] = b"memfd:";
    const NAME_MAX: usize = 255;
    const CLOSE_ON_EXEC: u32 = 1;
    const ALLOW_SEALING: u32 = 2;
    if flags & !(CLOSE_ON_EXEC | ALLOW_SEALING) != 0 {
        return Err(Errno::EINVAL);
    }
    let mut name = user_access::read_string(name, NAME_MAX + 1 - PREFIX.len(), Errno::EINVAL)?;
    name.try_reserve(PREFIX.len()).map_err(|_| Errno::ENOMEM)?;
    name.splice(..0, PREFIX.iter().copied());
    let file = open::open_memory_file(&thread.process.credentials(), &name, OpenFlags::LARGE_FILE)?;
    install(thread, file, flags & CLOSE_ON_EXEC != 0)
}

/// Gives a file the lowest free descriptor.
pub fn install(thread: &Thread, file: Arc<File>, close_on_exec: bool) -> Result<u32, Errno> {
    let limit = descriptor_limit(thread);
    thread.process.with_files(|files| files.add(file, 0, close_on_exec, limit))
}

/// RLIMIT_NOFILE: descriptors are below it.
pub fn descriptor_limit(thread: &Thread) -> u64 {
    thread.process.limits.lock().get(Resource::OpenFiles).soft
}

pub fn close(thread: &Thread, descriptor: Fd) -> Result<(), Errno> {
    let file = thread.process.with_files(|files| files.remove(descriptor.0 as u32))?;
    file.descriptor_closed(thread.process.pid);
    Ok(())
}

pub fn close_range(thread: &Thread, first: u32, last: u32, flags: u32) -> Result<(), Errno> {
    if flags & !(CLOSE_RANGE_UNSHARE | CLOSE_RANGE_CLOEXEC) != 0 || first > last {
        return Err(Errno::EINVAL);
    }
    if flags & CLOSE_RANGE_UNSHARE != 0 {
        let own = thread.process.files()?.lock().try_clone()?;
        let own = Lock::shared(Rank::FileTable, own)?;
        drop(thread.process.replace_files(Some(own)));
    }
    if flags & CLOSE_RANGE_CLOEXEC != 0 {
        return thread.process.with_files(|files| {
            files.set_close_on_exec_range(first, last);
            Ok(())
        });
    }
    let mut next = first;
    while let Some(file) = thread.process.with_files(|files| Ok(files.take_in_range(&mut next, last)))? {
        file.descriptor_closed(thread.process.pid);
        drop(file);
        if yield_point() {
            break;
        }
    }
    Ok(())
}
