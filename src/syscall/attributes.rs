//! Attributes of files: the stat family, access, chmod, chown, times, statfs, readlink, umask.

use super::argument::Fd;
use super::paths::{
    AT_EACCESS, AT_EMPTY_PATH, AT_NO_AUTOMOUNT, AT_SYMLINK_NOFOLLOW, Caller, PathBuffer, file, place_of, start_of,
};
use crate::PAGE_SIZE;
use crate::errno::Errno;
use crate::fs::attributes::{self, NewTime, Status};
use crate::fs::inode::Body;
use crate::fs::mount::{Location, Mount, MountFlags};
use crate::fs::open::ACCESS_MASK;
use crate::fs::time::Timestamp;
use crate::fs::walk::{Last, NAME_MAX, find, find_or_start};
use crate::interrupts::time_scale::NS_PER_SECOND;
use crate::memory::user_access::{self, UserAddress};
use crate::task::Thread;
use crate::task::credentials::UNCHANGED;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `struct stat`.
#[derive(Clone, Copy, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Stat {
    device: u64,
    inode: u64,
    links: u64,
    mode: u32,
    user: u32,
    group: u32,
    padding: u32,
    device_number: u64,
    size: u64,
    block_size: u64,
    blocks: u64,
    times: [TimeSpec; 3],
    unused: [u64; 3],
}

const _: () = assert!(size_of::<Stat>() == 144);

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct TimeSpec {
    seconds: i64,
    nanoseconds: u64,
}

/// `struct statx`.
#[derive(Clone, Copy, Default, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Statx {
    mask: u32,
    block_size: u32,
    attributes: u64,
    links: u32,
    user: u32,
    group: u32,
    mode: u16,
    padding: u16,
    inode: u64,
    size: u64,
    blocks: u64,
    attributes_mask: u64,
    accessed: StatxTime,
    born: StatxTime,
    changed: StatxTime,
    modified: StatxTime,
    device_number: [u32; 2],
    device: [u32; 2],
    mount_id: u64,
    unused: [u64; 13],
}

const _: () = assert!(size_of::<Statx>() == 256);

#[derive(Clone, Copy, Default, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct StatxTime {
    seconds: i64,
    nanoseconds: u32,
    padding: u32,
}

/// `struct statfs`.
#[derive(Clone, Copy, Default, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct StatFs {
    kind: u64,
    block_size: u64,
    blocks: u64,
    blocks_free: u64,
    blocks_available: u64,
    files: u64,
    files_free: u64,
    id: u64,
    name_length: u64,
    fragment_size: u64,
    flags: u64,
    unused: [u64; 4],
}

const _: () = assert!(size_of::<StatFs>() == 120);

/// What statx fills in whatever was asked for: the basic set and the mount's number.
const STATX_FILLED: u32 = 0x7ff | 0x1000;
const STATX_RESERVED: u32 = 0x8000_0000;
const AT_STATX_SYNC_TYPE: u32 = 0x6000;
const STATX_ATTR_MOUNT_ROOT: u64 = 0x2000;

const UTIME_NOW: u64 = 0x3fff_ffff;
const UTIME_OMIT: u64 = 0x3fff_fffe;

const ST_VALID: u64 = 0x20;

pub fn stat(thread: &Thread, path: UserAddress, buffer: UserAddress) -> Result<(), Errno> {
    newfstatat(thread, Fd::CWD, path, buffer, 0)
}

pub fn lstat(thread: &Thread, path: UserAddress, buffer: UserAddress) -> Result<(), Errno> {
    newfstatat(thread, Fd::CWD, path, buffer, AT_SYMLINK_NOFOLLOW)
}

pub fn fstat(thread: &Thread, descriptor: Fd, buffer: UserAddress) -> Result<(), Errno> {
    let file = file(thread, descriptor)?;
    write_stat(buffer, &attributes::status(&file.location))
}

pub fn newfstatat(
    thread: &Thread,
    directory: Fd,
    path: UserAddress,
    buffer: UserAddress,
    flags: u32,
) -> Result<(), Errno> {
    if flags & !(AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let location = place_of(thread, &Caller::of(thread)?, directory, path, flags)?;
    write_stat(buffer, &attributes::status(&location))
}

pub fn statx(
    thread: &Thread,
    directory: Fd,
    path: UserAddress,
    flags: u32,
    mask: u32,
    buffer: UserAddress,
) -> Result<(), Errno> {
    let known = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH | AT_STATX_SYNC_TYPE;
    if mask & STATX_RESERVED != 0 || flags & !known != 0 || flags & AT_STATX_SYNC_TYPE == AT_STATX_SYNC_TYPE {
        return Err(Errno::EINVAL);
    }
    let location = place_of(thread, &Caller::of(thread)?, directory, path, flags)?;
    let status = attributes::status(&location);
    let time = |time: Timestamp| StatxTime { seconds: time.seconds, nanoseconds: time.nanoseconds, padding: 0 };
    let split = |device: u64| {
        let number = crate::fs::device::DeviceNumber(device);
        [number.major(), number.minor()]
    };
    let is_mount_root = location.as_place().is_mount_root();
    let filled = Statx {
        mask: STATX_FILLED,
        block_size: PAGE_SIZE as u32,
        attributes: if is_mount_root { STATX_ATTR_MOUNT_ROOT } else { 0 },
        attributes_mask: STATX_ATTR_MOUNT_ROOT,
        links: status.links,
        user: status.user,
        group: status.group,
        mode: status.mode as u16,
        inode: status.inode_number,
        size: status.size,
        blocks: status.blocks,
        accessed: time(status.times.accessed),
        changed: time(status.times.changed),
        modified: time(status.times.modified),
        device_number: split(status.device_number),
        device: split(status.device),
        mount_id: location.mount.id.into(),
        ..Statx::default()
    };
    user_access::write_value(buffer, &filled)
}

pub fn access(thread: &Thread, path: UserAddress, mode: u32) -> Result<(), Errno> {
    faccessat2(thread, Fd::CWD, path, mode, 0)
}

pub fn faccessat(thread: &Thread, directory: Fd, path: UserAddress, mode: u32) -> Result<(), Errno> {
    faccessat2(thread, directory, path, mode, 0)
}

/// Asks for the real ids, unless AT_EACCESS says otherwise.
pub fn faccessat2(thread: &Thread, directory: Fd, path: UserAddress, mode: u32, flags: u32) -> Result<(), Errno> {
    if mode & !ACCESS_MASK != 0 || flags & !(AT_EACCESS | AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let mut caller = Caller::of(thread)?;
    let (user, group) = (caller.credentials.user, caller.credentials.group);
    let differs = user.real != user.file_system || group.real != group.file_system;
    if flags & AT_EACCESS == 0 && differs {
        caller.credentials =
            alloc::sync::Arc::try_new(caller.credentials.with_real_ids()?).map_err(|_| Errno::ENOMEM)?;
    }
    let location = place_of(thread, &caller, directory, path, flags)?;
    attributes::check_access(&caller.context(), &location, mode)
}

pub fn chmod(thread: &Thread, path: UserAddress, mode: u32) -> Result<(), Errno> {
    fchmodat(thread, Fd::CWD, path, mode)
}

pub fn fchmodat(thread: &Thread, directory: Fd, path: UserAddress, mode: u32) -> Result<(), Errno> {
    fchmodat2(thread, directory, path, mode, 0)
}

pub fn fchmodat2(thread: &Thread, directory: Fd, path: UserAddress, mode: u32, flags: u32) -> Result<(), Errno> {
    if flags & !(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let caller = Caller::of(thread)?;
    let location = place_of(thread, &caller, directory, path, flags)?;
    attributes::change_mode(&caller.context(), &location, mode)
}

pub fn fchmod(thread: &Thread, descriptor: Fd, mode: u32) -> Result<(), Errno> {
    let location = place_of_file(thread, descriptor)?;
    attributes::change_mode(&Caller::of(thread)?.context(), &location, mode)
}

pub fn chown(thread: &Thread, path: UserAddress, user: u32, group: u32) -> Result<(), Errno> {
    fchownat(thread, Fd::CWD, path, user, group, 0)
}

pub fn lchown(thread: &Thread, path: UserAddress, user: u32, group: u32) -> Result<(), Errno> {
    fchownat(thread, Fd::CWD, path, user, group, AT_SYMLINK_NOFOLLOW)
}

pub fn fchown(thread: &Thread, descriptor: Fd, user: u32, group: u32) -> Result<(), Errno> {
    let location = place_of_file(thread, descriptor)?;
    attributes::change_owner(&Caller::of(thread)?.context(), &location, changed(user), changed(group))
}

pub fn fchownat(
    thread: &Thread,
    directory: Fd,
    path: UserAddress,
    user: u32,
    group: u32,
    flags: u32,
) -> Result<(), Errno> {
    if flags & !(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let caller = Caller::of(thread)?;
    let location = place_of(thread, &caller, directory, path, flags)?;
    attributes::change_owner(&caller.context(), &location, changed(user), changed(group))
}

/// Without a path it is about the descriptor's file, as `futimens` wants it.
pub fn utimensat(
    thread: &Thread,
    directory: Fd,
    path: UserAddress,
    times: UserAddress,
    flags: u32,
) -> Result<(), Errno> {
    // Whether they are times at all counts only when the file was found.
    let (accessed, modified) = if times.is_null() {
        (Ok(NewTime::Now), Ok(NewTime::Now))
    } else {
        let [accessed, modified]: [TimeSpec; 2] = user_access::read_value(times)?;
        (new_time(accessed), new_time(modified))
    };
    if flags & !(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    if (accessed, modified) == (Ok(NewTime::Keep), Ok(NewTime::Keep)) {
        return Ok(());
    }
    let caller = Caller::of(thread)?;
    let location = if path.is_null() && directory != Fd::CWD {
        if flags & !AT_EMPTY_PATH != 0 {
            return Err(Errno::EINVAL);
        }
        place_of_file(thread, directory)?
    } else {
        place_of(thread, &caller, directory, path, flags)?
    };
    attributes::change_times(&caller.context(), &location, accessed?, modified?)
}

pub fn futimesat(thread: &Thread, directory: Fd, path: UserAddress, times: UserAddress) -> Result<(), Errno> {
    let (accessed, modified) = if times.is_null() {
        (NewTime::Now, NewTime::Now)
    } else {
        let [accessed, modified]: [[i64; 2]; 2] = user_access::read_value(times)?;
        (from_microseconds(accessed)?, from_microseconds(modified)?)
    };
    let caller = Caller::of(thread)?;
    let location = if path.is_null() && directory != Fd::CWD {
        place_of_file(thread, directory)?
    } else {
        place_of(thread, &caller, directory, path, 0)?
    };
    attributes::change_times(&caller.context(), &location, accessed, modified)
}

pub fn utimes(thread: &Thread, path: UserAddress, times: UserAddress) -> Result<(), Errno> {
    futimesat(thread, Fd::CWD, path, times)
}

pub fn utime(thread: &Thread, path: UserAddress, times: UserAddress) -> Result<(), Errno> {
    let (accessed, modified) = if times.is_null() {
        (NewTime::Now, NewTime::Now)
    } else {
        let [accessed, modified]: [i64; 2] = user_access::read_value(times)?;
        (NewTime::At(Timestamp::from_seconds(accessed)), NewTime::At(Timestamp::from_seconds(modified)))
    };
    let caller = Caller::of(thread)?;
    let location = place_of(thread, &caller, Fd::CWD, path, 0)?;
    attributes::change_times(&caller.context(), &location, accessed, modified)
}

pub fn statfs(thread: &Thread, path: UserAddress, buffer: UserAddress) -> Result<(), Errno> {
    let caller = Caller::of(thread)?;
    let mut path_buffer = PathBuffer::unfilled();
    let location = find(&caller.context(), None, path_buffer.read(path)?, Last::Follow)?;
    write_statfs(buffer, &location.mount)
}

pub fn fstatfs(thread: &Thread, descriptor: Fd, buffer: UserAddress) -> Result<(), Errno> {
    write_statfs(buffer, &file(thread, descriptor)?.location.mount)
}

pub fn readlink(thread: &Thread, path: UserAddress, buffer: UserAddress, size: i32) -> Result<usize, Errno> {
    readlinkat(thread, Fd::CWD, path, buffer, size)
}

/// An empty path is the link that was opened with O_PATH.
pub fn readlinkat(
    thread: &Thread,
    directory: Fd,
    path: UserAddress,
    buffer: UserAddress,
    size: i32,
) -> Result<usize, Errno> {
    let size = usize::try_from(size).ok().filter(|size| *size > 0).ok_or(Errno::EINVAL)?;
    let caller = Caller::of(thread)?;
    let mut path_buffer = PathBuffer::unfilled();
    let path = path_buffer.read(path)?;
    let start = start_of(thread, directory, path)?;
    if path.is_empty() && start.is_none() {
        return Err(Errno::ENOENT);
    }
    let location = find_or_start(&caller.context(), start.as_ref(), path, Last::Keep)?;
    let inode = &location.dentry.inode;
    if !inode.is_symlink() {
        return Err(if path.is_empty() { Errno::ENOENT } else { Errno::EINVAL });
    }
    let made;
    let target: &[u8] = match &inode.body {
        Body::Symlink(target) => target,
        Body::Generated(link) => {
            made = link.target()?;
            &made
        }
        _ => return Err(Errno::EINVAL),
    };
    let target = target.get(..size).unwrap_or(target);
    user_access::copy_out(buffer, target)?;
    Ok(target.len())
}

pub fn umask(thread: &Thread, mask: u32) -> Result<u32, Errno> {
    let fs = thread.process.fs_context()?;
    Ok(core::mem::replace(&mut fs.lock().umask, mask & 0o777))
}

/// For calls on descriptors that need more than a place.
fn place_of_file(thread: &Thread, descriptor: Fd) -> Result<Location, Errno> {
    let file = file(thread, descriptor)?;
    if file.is_path() { Err(Errno::EBADF) } else { Ok(file.location.clone()) }
}

fn changed(id: u32) -> Option<u32> {
    (id != UNCHANGED).then_some(id)
}

#[inline]
fn write_stat(buffer: UserAddress, status: &Status) -> Result<(), Errno> {
    let time = |time: Timestamp| TimeSpec { seconds: time.seconds, nanoseconds: time.nanoseconds.into() };
    let stat = Stat {
        device: status.device,
        inode: status.inode_number,
        links: status.links.into(),
        mode: status.mode,
        user: status.user,
        group: status.group,
        padding: 0,
        device_number: status.device_number,
        size: status.size,
        block_size: PAGE_SIZE as u64,
        blocks: status.blocks,
        times: [time(status.times.accessed), time(status.times.modified), time(status.times.changed)],
        unused: [0; 3],
    };
    user_access::write_value(buffer, &stat)
}

fn write_statfs(buffer: UserAddress, mount: &Mount) -> Result<(), Errno> {
    let file_system = &mount.file_system;
    let usage = file_system.usage();
    // As on Linux: where there is no limit, none is shown.
    let [pages_limit, inodes_limit] =
        [usage.pages_limit, usage.inodes_limit].map(|limit| if limit == u64::MAX { 0 } else { limit });
    let free = pages_limit.saturating_sub(usage.pages);
    // The values of ST_RDONLY and its like are those of the mount's flags; NO_ACCESS_TIME is the same too.
    let known = MountFlags::READ_ONLY | MountFlags::NO_SET_ID | MountFlags::NO_DEVICES | MountFlags::NO_EXECUTE;
    let filled = StatFs {
        kind: file_system.kind.magic(),
        block_size: PAGE_SIZE as u64,
        blocks: pages_limit,
        blocks_free: free,
        blocks_available: free,
        files: inodes_limit,
        files_free: inodes_limit.saturating_sub(usage.inodes),
        id: file_system.device,
        name_length: NAME_MAX as u64,
        fragment_size: PAGE_SIZE as u64,
        flags: ST_VALID | u64::from(mount.flags().intersection(known).bits()),
        ..StatFs::default()
    };
    user_access::write_value(buffer, &filled)
}

fn new_time(time: TimeSpec) -> Result<NewTime, Errno> {
    match time.nanoseconds {
        UTIME_NOW => Ok(NewTime::Now),
        UTIME_OMIT => Ok(NewTime::Keep),
        0..NS_PER_SECOND => Ok(NewTime::At(Timestamp { seconds: time.seconds, nanoseconds: time.nanoseconds as u32 })),
        _ => Err(Errno::EINVAL),
    }
}

fn from_microseconds([seconds, microseconds]: [i64; 2]) -> Result<NewTime, Errno> {
    match microseconds {
        0..1_000_000 => Ok(NewTime::At(Timestamp { seconds, nanoseconds: microseconds as u32 * 1000 })),
        _ => Err(Errno::EINVAL),
    }
}
