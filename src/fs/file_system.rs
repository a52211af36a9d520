//! A file system: what its inodes have in common, and how much they take.

use crate::errno::Errno;
use crate::memory::frames;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

pub struct FileSystem {
    /// As `mount` and /proc/filesystems name it.
    pub kind: Kind,
    /// `st_dev`: an unnamed device (major 0), a number of its own for each file system.
    pub device: u64,
    next_inode: AtomicU64,
    inodes: AtomicU64,
    pages: AtomicU64,
    pages_limit: u64,
    inodes_limit: AtomicU64,
    mounts: AtomicUsize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Tmpfs,
    Devtmpfs,
    Proc,
    /// Anonymous pipes: never mounted.
    Pipefs,
}

impl Kind {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tmpfs => "tmpfs",
            Self::Devtmpfs => "devtmpfs",
            Self::Proc => "proc",
            Self::Pipefs => "pipefs",
        }
    }

    /// `f_type` of `statfs(2)`.
    pub const fn magic(self) -> u64 {
        match self {
            Self::Tmpfs | Self::Devtmpfs => 0x0102_1994,
            Self::Proc => 0x9fa0,
            Self::Pipefs => 0x5049_5045,
        }
    }

    /// Whether programs can make and remove names in it.
    pub const fn has_names_of_users(self) -> bool {
        matches!(self, Self::Tmpfs | Self::Devtmpfs)
    }
}

/// How much of a file system is used, for `statfs(2)`.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    pub pages_limit: u64,
    pub pages: u64,
    pub inodes_limit: u64,
    pub inodes: u64,
}

/// One for each two pages of memory, as on Linux: what a file system keeps of a file with nothing in it comes out of the
/// kernel's heap.
fn default_inodes_limit() -> u64 {
    frames::counts().total as u64 / 2
}

impl FileSystem {
    /// `pages_limit`: how many pages its files may take together.
    pub fn new(kind: Kind, pages_limit: u64) -> Result<Arc<Self>, Errno> {
        static NEXT_DEVICE: AtomicU64 = AtomicU64::new(1);
        let file_system = Self {
            kind,
            device: NEXT_DEVICE.fetch_add(1, Relaxed),
            next_inode: AtomicU64::new(1),
            inodes: AtomicU64::new(0),
            pages: AtomicU64::new(0),
            pages_limit,
            inodes_limit: AtomicU64::new(if kind == Kind::Tmpfs { default_inodes_limit() } else { u64::MAX }),
            mounts: AtomicUsize::new(0),
        };
        Arc::try_new(file_system).map_err(|_| Errno::ENOMEM)
    }

    pub fn next_inode_number(&self) -> u64 {
        self.next_inode.fetch_add(1, Relaxed)
    }

    pub fn usage(&self) -> Usage {
        Usage {
            pages_limit: self.pages_limit,
            pages: self.pages.load(Relaxed),
            inodes_limit: self.inodes_limit.load(Relaxed),
            inodes: self.inodes.load(Relaxed),
        }
    }

    /// Counts one more page of a file, or ENOSPC.
    pub fn charge_page(&self) -> Result<(), Errno> {
        self.pages
            .try_update(Relaxed, Relaxed, |pages| (pages < self.pages_limit).then_some(pages + 1))
            .map(|_| ())
            .map_err(|_| Errno::ENOSPC)
    }

    /// Counts a page that a file has had since the start, and that is only now copied from the archive: never refused.
    pub fn charge_page_of_archive(&self) {
        self.pages.fetch_add(1, Relaxed);
    }

    pub fn uncharge_pages(&self, count: u64) {
        self.pages.fetch_sub(count, Relaxed);
    }

    /// How many inodes, and further names of them, there may be (`nr_inodes=`).
    pub fn set_inodes_limit(&self, limit: u64) {
        self.inodes_limit.store(limit, Relaxed);
    }

    /// Counts one more inode, or one more name of one, or ENOSPC.
    pub(super) fn count_inode(&self) -> Result<(), Errno> {
        let limit = self.inodes_limit.load(Relaxed);
        self.inodes
            .try_update(Relaxed, Relaxed, |inodes| (inodes < limit).then_some(inodes + 1))
            .map(|_| ())
            .map_err(|_| Errno::ENOSPC)
    }

    pub(super) fn uncount_inode(&self) {
        self.inodes.fetch_sub(1, Relaxed);
    }

    /// One more mount of it, or of a part of it.
    pub(super) fn count_mount(&self) {
        self.mounts.fetch_add(1, Relaxed);
    }

    /// One less; whether there is still another.
    pub(super) fn uncount_mount(&self) -> bool {
        self.mounts.fetch_sub(1, Relaxed) > 1
    }
}
