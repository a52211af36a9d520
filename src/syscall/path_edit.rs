//! Making, moving and removing names: mkdir, rmdir, link, unlink, symlink, mknod, rename and their `*at` forms.

use super::argument::Fd;
use super::paths::{AT_EMPTY_PATH, AT_REMOVEDIR, AT_SYMLINK_FOLLOW, Caller, PathBuffer, start_of};
use crate::errno::Errno;
use crate::fs::device::DeviceNumber;
use crate::fs::edit::{self, RenameFlags};
use crate::memory::user_access::UserAddress;
use crate::task::Thread;

const RENAME_WHITEOUT: u32 = 4;

pub fn mkdir(thread: &Thread, path: UserAddress, mode: u32) -> Result<(), Errno> {
    mkdirat(thread, Fd::CWD, path, mode)
}

pub fn mkdirat(thread: &Thread, directory: Fd, path: UserAddress, mode: u32) -> Result<(), Errno> {
    let mut buffer = PathBuffer::unfilled();
    let path = buffer.read(path)?;
    let start = start_of(thread, directory, path)?;
    edit::make_directory(&Caller::of(thread)?.context(), start.as_ref(), path, mode)
}

pub fn rmdir(thread: &Thread, path: UserAddress) -> Result<(), Errno> {
    unlinkat(thread, Fd::CWD, path, AT_REMOVEDIR)
}

pub fn unlink(thread: &Thread, path: UserAddress) -> Result<(), Errno> {
    unlinkat(thread, Fd::CWD, path, 0)
}

pub fn unlinkat(thread: &Thread, directory: Fd, path: UserAddress, flags: u32) -> Result<(), Errno> {
    if flags & !AT_REMOVEDIR != 0 {
        return Err(Errno::EINVAL);
    }
    let mut buffer = PathBuffer::unfilled();
    let path = buffer.read(path)?;
    let start = start_of(thread, directory, path)?;
    let caller = Caller::of(thread)?;
    if flags & AT_REMOVEDIR != 0 {
        return edit::remove_directory(&caller.context(), start.as_ref(), path);
    }
    edit::unlink(&caller.context(), start.as_ref(), path)
}

pub fn symlink(thread: &Thread, target: UserAddress, path: UserAddress) -> Result<(), Errno> {
    symlinkat(thread, target, Fd::CWD, path)
}

pub fn symlinkat(thread: &Thread, target: UserAddress, directory: Fd, path: UserAddress) -> Result<(), Errno> {
    let (mut target_buffer, mut buffer) = (PathBuffer::unfilled(), PathBuffer::unfilled());
    let target = target_buffer.read(target)?;
    let path = buffer.read(path)?;
    let start = start_of(thread, directory, path)?;
    edit::make_symlink(&Caller::of(thread)?.context(), target, start.as_ref(), path)
}

pub fn link(thread: &Thread, old: UserAddress, new: UserAddress) -> Result<(), Errno> {
    linkat(thread, Fd::CWD, old, Fd::CWD, new, 0)
}

pub fn linkat(
    thread: &Thread,
    old_directory: Fd,
    old: UserAddress,
    new_directory: Fd,
    new: UserAddress,
    flags: u32,
) -> Result<(), Errno> {
    if flags & !(AT_SYMLINK_FOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let caller = Caller::of(thread)?;
    let (context, empty_path) = (caller.context(), flags & AT_EMPTY_PATH != 0);
    let mut buffer = PathBuffer::unfilled();
    let old = buffer.read(old)?;
    // Whoever isn't root could give a name to a file that he got a descriptor of, but couldn't open.
    if empty_path && old.is_empty() && !caller.credentials.is_privileged() {
        return Err(Errno::ENOENT);
    }
    let start = start_of(thread, old_directory, old)?;
    let source = edit::find_link_source(&context, start.as_ref(), old, flags & AT_SYMLINK_FOLLOW != 0, empty_path)?;
    let new = buffer.read(new)?;
    let start = start_of(thread, new_directory, new)?;
    edit::link(&context, &source, start.as_ref(), new)
}

pub fn mknod(thread: &Thread, path: UserAddress, mode: u32, device: u64) -> Result<(), Errno> {
    mknodat(thread, Fd::CWD, path, mode, device)
}

pub fn mknodat(thread: &Thread, directory: Fd, path: UserAddress, mode: u32, device: u64) -> Result<(), Errno> {
    let mut buffer = PathBuffer::unfilled();
    let path = buffer.read(path)?;
    let start = start_of(thread, directory, path)?;
    // An `unsigned int` on Linux: the upper half isn't looked at.
    let device = DeviceNumber(device & 0xffff_ffff);
    edit::make_node(&Caller::of(thread)?.context(), start.as_ref(), path, mode, device)
}

pub fn rename(thread: &Thread, old: UserAddress, new: UserAddress) -> Result<(), Errno> {
    renameat2(thread, Fd::CWD, old, Fd::CWD, new, 0)
}

pub fn renameat(
    thread: &Thread,
    old_directory: Fd,
    old: UserAddress,
    new_directory: Fd,
    new: UserAddress,
) -> Result<(), Errno> {
    renameat2(thread, old_directory, old, new_directory, new, 0)
}

/// Left out: RENAME_WHITEOUT.
pub fn renameat2(
    thread: &Thread,
    old_directory: Fd,
    old: UserAddress,
    new_directory: Fd,
    new: UserAddress,
    flags: u32,
) -> Result<(), Errno> {
    // Whiteouts are for overlay file systems: known, and not had.
    if flags & RENAME_WHITEOUT != 0 {
        return Err(Errno::EINVAL);
    }
    let flags = RenameFlags::from_bits(flags).ok_or(Errno::EINVAL)?;
    let (mut old_buffer, mut new_buffer) = (PathBuffer::unfilled(), PathBuffer::unfilled());
    let old = old_buffer.read(old)?;
    let new = new_buffer.read(new)?;
    let old_start = start_of(thread, old_directory, old)?;
    let new_start = start_of(thread, new_directory, new)?;
    edit::rename(&Caller::of(thread)?.context(), old_start.as_ref(), old, new_start.as_ref(), new, flags)
}
