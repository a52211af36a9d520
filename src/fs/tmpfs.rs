//! tmpfs: files in memory. Most of what it does is what the tree and the inodes do; here one is made.

use super::file_system::{FileSystem, Kind};
use super::inode::{Attributes, Body, Inode, PERMISSIONS, S_IFDIR};
use super::tree::{self, Dentry, Name};
use crate::errno::Errno;
use alloc::sync::Arc;

/// A file system and its root directory.
pub type Made = (Arc<FileSystem>, Arc<Dentry>);

/// A new, empty file system whose files may take `pages_limit` pages, and its root directory.
pub fn new(kind: Kind, pages_limit: u64, root: Attributes) -> Result<Made, Errno> {
    let file_system = FileSystem::new(kind, pages_limit)?;
    let root = Attributes { mode: S_IFDIR | root.mode & PERMISSIONS, ..root };
    let inode = Inode::new(&file_system, root, Body::Directory)?;
    Ok((file_system, Dentry::root(inode)?))
}

/// Puts a new inode into a directory under a name that isn't there yet, without asking who may and without changing the
/// directory's times: for the kernel's own filling of a file system.
pub fn add(directory: &Arc<Dentry>, name: Name, inode: Arc<Inode>) -> Result<Arc<Dentry>, Errno> {
    let is_directory = inode.is_directory();
    let dentry = Dentry::detached(inode, Arc::clone(directory), name)?;
    let mut tree = tree::lock();
    directory.reserve(&mut tree)?;
    directory.add(&mut tree, Arc::clone(&dentry));
    if is_directory {
        directory.inode.add_link();
    }
    Ok(dentry)
}
