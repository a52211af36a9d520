//! /proc: what the kernel knows of processes and of itself, as files.

use super::file_system::Kind;
use super::inode::{Attributes, S_IFDIR};
use super::tmpfs;
use crate::errno::Errno;

/// Makes the file system.
pub fn new() -> Result<tmpfs::Made, Errno> {
    tmpfs::new(Kind::Proc, 0, Attributes { mode: S_IFDIR | 0o555, user: 0, group: 0 })
}
