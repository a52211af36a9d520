//! /dev: a tmpfs that the kernel fills with the device files that there are. There is one, however often it is mounted.

use super::device::DeviceNumber;
use super::file_system::{FileSystem, Kind};
use super::inode::{Attributes, Body, Inode, PERMISSIONS, S_IFCHR, S_IFDIR, S_IFLNK};
use super::tree::{self, Dentry, Name};
use super::{memory_devices, tmpfs};
use crate::errno::Errno;
use alloc::sync::Arc;

/// Device files hold no pages; what programs put beside them may take this many.
const PAGES_LIMIT: u64 = 1024;

const TERMINALS: [(&[u8], DeviceNumber, u32); 5] = [
    (b"console", DeviceNumber::new(5, 1), 0o600),
    (b"tty", DeviceNumber::new(5, 0), 0o666),
    (b"tty0", DeviceNumber::new(4, 0), 0o620),
    (b"tty1", DeviceNumber::new(4, 1), 0o620),
    (b"ttyS0", DeviceNumber::new(4, 64), 0o660),
];

const LINKS: [(&[u8], &[u8]); 4] = [
    (b"fd", b"/proc/self/fd"),
    (b"stdin", b"/proc/self/fd/0"),
    (b"stdout", b"/proc/self/fd/1"),
    (b"stderr", b"/proc/self/fd/2"),
];

/// Makes the file system with all its device files.
pub fn new() -> Result<(Arc<FileSystem>, Arc<Dentry>), Errno> {
    let (file_system, root) = tmpfs::new(Kind::Devtmpfs, PAGES_LIMIT, owned_by_root(S_IFDIR | 0o755))?;
    for (name, number) in memory_devices::NODES {
        add(&file_system, &root, name, S_IFCHR | 0o666, Body::Device(number))?;
    }
    for (name, number, mode) in TERMINALS {
        add(&file_system, &root, name, S_IFCHR | mode, Body::Device(number))?;
    }
    for (name, target) in LINKS {
        add(&file_system, &root, name, S_IFLNK | 0o777, Body::Symlink(tree::boxed(target)?))?;
    }
    for name in [&b"pts"[..], b"shm"] {
        add(&file_system, &root, name, S_IFDIR | 0o755, Body::Directory)?;
    }
    Ok((file_system, root))
}

fn add(
    file_system: &Arc<FileSystem>,
    directory: &Arc<Dentry>,
    name: &[u8],
    mode: u32,
    body: Body,
) -> Result<(), Errno> {
    let inode = Inode::new(file_system, owned_by_root(mode), body)?;
    tmpfs::add(directory, Name::new(name)?, inode).map(|_| ())
}

fn owned_by_root(mode: u32) -> Attributes {
    debug_assert!(mode & PERMISSIONS != 0);
    Attributes { mode, user: 0, group: 0 }
}
