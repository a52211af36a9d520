//! Files, directories and links whose contents the kernel makes up when they are looked at: procfs.

use super::inode::Inode;
use super::mount::Location;
use crate::errno::Errno;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// What procfs puts behind an inode. Only the functions that suit the inode's type are called, none with a lock held.
pub trait Generated: Send + Sync {
    /// Whether the caller may do anything that the owner might, whoever that is.
    fn is_callers_own(&self) -> bool {
        false
    }

    /// Whether the caller may open it, once its mode allows that.
    fn check_open(&self) -> Result<(), Errno> {
        Ok(())
    }

    /// Of a directory: the inode behind a name that isn't in the tree.
    fn lookup(&self, _name: &[u8]) -> Result<Arc<Inode>, Errno> {
        Err(Errno::ENOENT)
    }

    /// Of a directory: the names that aren't in the tree, from `position` on, each with its position, until `emit`
    /// returns false.
    fn list(&self, _position: u64, _emit: &mut dyn FnMut(Listed<'_>) -> bool) -> Result<(), Errno> {
        Ok(())
    }

    /// Of a file: what it holds now. Called once for each opening, when it is read from its start.
    fn text(&self) -> Result<Text, Errno> {
        Err(Errno::EINVAL)
    }

    /// Of a file that can be written.
    fn write(&self, _bytes: &[u8]) -> Result<(), Errno> {
        Err(Errno::EACCES)
    }

    /// Of a link: what `readlink` gives.
    fn target(&self) -> Result<Vec<u8>, Errno> {
        Err(Errno::EINVAL)
    }

    /// Of a link: the place that it leads to without regard to its text; None for a link that is just a path.
    fn destination(&self) -> Result<Option<Location>, Errno> {
        Ok(None)
    }
}

/// A name in a generated directory.
pub struct Listed<'a> {
    pub position: u64,
    pub name: &'a [u8],
    pub inode_number: u64,
    /// The type's bits of the mode.
    pub kind: u32,
}

/// Text that grows fallibly; what didn't fit is remembered as an error.
#[derive(Default)]
pub struct Text {
    bytes: Vec<u8>,
}

impl Text {
    pub const fn new() -> Self {
        Self { bytes: Vec::new() }
    }

    pub fn push(&mut self, bytes: &[u8]) -> Result<(), Errno> {
        self.bytes.try_reserve(bytes.len()).map_err(|_| Errno::ENOMEM)?;
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// As `write!`, with ENOMEM as the only error.
    pub fn print(&mut self, arguments: core::fmt::Arguments<'_>) -> Result<(), Errno> {
        core::fmt::Write::write_fmt(self, arguments).map_err(|_| Errno::ENOMEM)
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

impl core::fmt::Write for Text {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        self.push(text.as_bytes()).map_err(|_| core::fmt::Error)
    }
}
