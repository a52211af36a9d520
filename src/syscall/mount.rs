//! mount and umount2: tmpfs, devtmpfs, proc, bind mounts, and changing a mount's flags.

use super::paths::{Caller, PathBuffer};
use crate::PAGE_SIZE;
use crate::errno::Errno;
use crate::fs::file_system::Kind;
use crate::fs::inode::Attributes;
use crate::fs::mount::{self, Location, MountFlags};
use crate::fs::walk::{Last, find};
use crate::fs::{procfs, root, tmpfs, tree};
use crate::memory::user_access::{self, UserAddress};
use crate::task::Thread;
use alloc::vec::Vec;

const MS_REMOUNT: u64 = 0x20;
const MS_BIND: u64 = 0x1000;
const MS_MOVE: u64 = 0x2000;
/// MS_UNBINDABLE, MS_PRIVATE, MS_SLAVE, MS_SHARED: mounts aren't propagated, which is what MS_PRIVATE asks for.
const MS_PROPAGATION: u64 = 0x1e_0000;

const MNT_FORCE: u32 = 1;
const MNT_DETACH: u32 = 2;
const MNT_EXPIRE: u32 = 4;
const UMOUNT_NOFOLLOW: u32 = 8;

/// Left out: every file system but tmpfs, proc and devtmpfs; propagation between mounts (MS_SHARED and its kin are taken).
pub fn mount(
    thread: &Thread,
    source: UserAddress,
    target: UserAddress,
    kind: UserAddress,
    flags: u64,
    options: UserAddress,
) -> Result<(), Errno> {
    let caller = Caller::of(thread)?;
    let mut buffer = PathBuffer::unfilled();
    let source = read_optional(source)?;
    let kind = read_optional(kind)?;
    let options = read_optional(options)?;
    let target = find(&caller.context(), None, buffer.read(target)?, Last::Follow)?;
    if !caller.credentials.is_privileged() {
        return Err(Errno::EPERM);
    }
    let mount_flags = MountFlags::from_bits_truncate(flags as u32);
    if flags & MS_REMOUNT != 0 {
        if !target.as_place().is_mount_root() {
            return Err(Errno::EINVAL);
        }
        target.mount.set_flags(mount_flags);
        return Ok(());
    }
    if flags & MS_BIND != 0 {
        return bind(&caller, &source, &target);
    }
    if flags & MS_PROPAGATION != 0 {
        return if target.as_place().is_mount_root() { Ok(()) } else { Err(Errno::EINVAL) };
    }
    if flags & MS_MOVE != 0 {
        return move_mount(&caller, &source, &target);
    }
    if !target.dentry.inode.is_directory() {
        return Err(Errno::ENOTDIR);
    }
    let (file_system, root) = match kind.as_slice() {
        b"tmpfs" | b"ramfs" => make_tmpfs(&options)?,
        b"devtmpfs" => root::devices()?,
        b"proc" => procfs::new()?,
        _ => return Err(Errno::ENODEV),
    };
    // The same again on top of itself would only hide it.
    let same = target.mount.file_system.device == file_system.device;
    if same && target.as_place().is_mount_root() {
        return Err(Errno::EBUSY);
    }
    let source = if source.is_empty() { b"none" } else { source.as_slice() };
    mount::mount(&file_system, &root, source, mount_flags, Some(&target)).map(|_| ())
}

fn move_mount(caller: &Caller, source: &[u8], target: &Location) -> Result<(), Errno> {
    let moved = find(&caller.context(), None, source, Last::Follow)?;
    if !moved.as_place().is_mount_root() || moved.dentry.inode.is_directory() != target.dentry.inode.is_directory() {
        return Err(Errno::EINVAL);
    }
    mount::move_to(&moved.mount, target)
}

/// What is mounted below the source isn't seen at the target, with MS_REC neither.
fn bind(caller: &Caller, source: &[u8], target: &Location) -> Result<(), Errno> {
    let source_place = find(&caller.context(), None, source, Last::Follow)?;
    if source_place.dentry.inode.is_directory() != target.dentry.inode.is_directory() {
        return Err(Errno::ENOTDIR);
    }
    let (file_system, flags) = (&source_place.mount.file_system, source_place.mount.flags());
    if !mount::is_in_table(&tree::lock(), &source_place.mount) {
        return Err(Errno::EINVAL);
    }
    mount::mount(file_system, &source_place.dentry, &source_place.mount.source, flags, Some(target)).map(|_| ())
}

/// `size=`, `mode=`, `uid=`, `gid=`, `nr_inodes=` and the rest that Linux knows; an unknown one is EINVAL.
fn make_tmpfs(options: &[u8]) -> Result<tmpfs::Made, Errno> {
    let mut pages = root::default_pages_limit();
    let mut inodes = None;
    let mut attributes = Attributes { mode: 0o1777, user: 0, group: 0 };
    for option in options.split(|byte| *byte == b',').filter(|option| !option.is_empty()) {
        let option = str::from_utf8(option).map_err(|_| Errno::EINVAL)?;
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        let number = |radix| u32::from_str_radix(value, radix).map_err(|_| Errno::EINVAL);
        match name {
            "size" => pages = tmpfs_size(value).ok_or(Errno::EINVAL)?,
            "mode" => attributes.mode = number(8)?,
            "uid" => attributes.user = number(10)?,
            "gid" => attributes.group = number(10)?,
            "nr_inodes" => inodes = Some(tmpfs_count(value).ok_or(Errno::EINVAL)?),
            "nr_blocks" | "huge" | "mpol" | "inode32" | "inode64" => {}
            _ => return Err(Errno::EINVAL),
        }
    }
    let made = tmpfs::new(Kind::Tmpfs, pages, attributes)?;
    if let Some(inodes) = inodes {
        made.0.set_inodes_limit(inodes);
    }
    Ok(made)
}

/// A size in bytes, or in percent of memory. In pages; 0 is no limit.
fn tmpfs_size(value: &str) -> Option<u64> {
    if let Some(percent) = value.strip_suffix('%') {
        return Some(root::default_pages_limit().checked_mul(2)?.checked_mul(percent.parse::<u64>().ok()?)? / 100);
    }
    match tmpfs_count(value)? {
        u64::MAX => Some(u64::MAX),
        bytes => Some(bytes.div_ceil(PAGE_SIZE as u64)),
    }
}

/// A number with k, m or g behind it; 0 is no limit.
fn tmpfs_count(value: &str) -> Option<u64> {
    let digits = value.trim_end_matches(['k', 'K', 'm', 'M', 'g', 'G']);
    let shift = match value.strip_prefix(digits)? {
        "" => 0,
        "k" | "K" => 10,
        "m" | "M" => 20,
        "g" | "G" => 30,
        _ => return None,
    };
    let count = digits.parse::<u64>().ok()?.checked_mul(1 << shift)?;
    if count == 0 { Some(u64::MAX) } else { Some(count) }
}

pub fn umount2(thread: &Thread, target: UserAddress, flags: u32) -> Result<(), Errno> {
    if flags & !(MNT_FORCE | MNT_DETACH | MNT_EXPIRE | UMOUNT_NOFOLLOW) != 0 {
        return Err(Errno::EINVAL);
    }
    let caller = Caller::of(thread)?;
    let mut buffer = PathBuffer::unfilled();
    let last = if flags & UMOUNT_NOFOLLOW != 0 { Last::Keep } else { Last::Follow };
    let place = find(&caller.context(), None, buffer.read(target)?, last)?;
    if !caller.credentials.is_privileged() {
        return Err(Errno::EPERM);
    }
    if !place.as_place().is_mount_root() {
        return Err(Errno::EINVAL);
    }
    let Location { mount, dentry } = place;
    drop(dentry);
    mount::unmount(mount, flags & MNT_DETACH != 0)
}

/// A string that may be absent; then it is empty. These, too, are at most a page.
fn read_optional(address: UserAddress) -> Result<Vec<u8>, Errno> {
    if address.is_null() {
        return Ok(Vec::new());
    }
    user_access::read_string(address, PAGE_SIZE, Errno::EINVAL)
}
