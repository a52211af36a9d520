//! tmpfs: files in memory. Most of what it does is what the tree and the inodes do; here one is made.

use super::file_system::{FileSystem, Kind};
use super::inode::{Attributes, Body, Inode, PERMISSIONS, S_IFDIR};
use super::tree::Dentry;
use crate::errno::Errno;
use alloc::sync::Arc;

/// A new, empty file system whose files may take `pages_limit` pages, and its root directory.
pub fn new(kind: Kind, pages_limit: u64, root: Attributes) -> Result<(Arc<FileSystem>, Arc<Dentry>), Errno> {
    let file_system = FileSystem::new(kind, pages_limit)?;
    let root = Attributes { mode: S_IFDIR | root.mode & PERMISSIONS, ..root };
    let inode = Inode::new(&file_system, root, Body::Directory)?;
    Ok((file_system, Dentry::root(inode)?))
}
