//! Inodes: what a file is, whoever names it: type, owner, permissions, times, contents.

use super::content::Content;
use super::device::DeviceNumber;
use super::file_system::FileSystem;
use super::generated::Generated;
use super::pipe::Pipe;
use super::record_lock::FileLocks;
use super::time::{Times, Timestamp, now, now_ns};
use crate::errno::Errno;
use crate::lock::{Lock, Rank};
use crate::task::credentials::Credentials;
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicI64, AtomicU32, AtomicU64, Ordering::Relaxed};

/// The file type's place in a mode (`inode(7)`), and its values.
pub const S_IFMT: u32 = 0o170000;
pub const S_IFSOCK: u32 = 0o140000;
pub const S_IFLNK: u32 = 0o120000;
pub const S_IFREG: u32 = 0o100000;
pub const S_IFBLK: u32 = 0o060000;
pub const S_IFDIR: u32 = 0o040000;
pub const S_IFCHR: u32 = 0o020000;
pub const S_IFIFO: u32 = 0o010000;
pub const S_ISUID: u32 = 0o4000;
pub const S_ISGID: u32 = 0o2000;
pub const S_ISVTX: u32 = 0o1000;
pub const S_IXGRP: u32 = 0o010;
/// The bits that `chmod` sets.
pub const PERMISSIONS: u32 = 0o7777;

/// Kinds of access, as the permission bits of one class name them.
pub const READ: u32 = 4;
pub const WRITE: u32 = 2;
pub const EXECUTE: u32 = 1;

/// In place of a time: the next read must look whether the access time is fresh.
const NOT_KNOWN: i64 = i64::MIN;

pub struct Inode {
    pub file_system: Arc<FileSystem>,
    pub number: u64,
    mode: AtomicU32,
    user: AtomicU32,
    group: AtomicU32,
    links: AtomicU32,
    /// A temporary file that may still get its first name.
    may_get_name: AtomicBool,
    /// Of a regular file, its length. Changed under the lock of its contents; read by anybody.
    size: AtomicU64,
    /// How many open files may write to it; or, below zero, how many programs run it and forbid that.
    writers: AtomicI32,
    times: Lock<Times>,
    /// Until then, in nanoseconds since 1970, a read leaves the access time alone. Stored under the lock of the times, and
    /// set back by all that changes them.
    access_is_fresh_until_ns: AtomicI64,
    pub locks: FileLocks,
    pub body: Body,
}

/// What stands behind an inode, by its type.
pub enum Body {
    Regular(Content),
    Directory,
    /// The target.
    Symlink(Box<[u8]>),
    Device(DeviceNumber),
    Fifo(Arc<Pipe>),
    Socket,
    /// Made up by the kernel when it is looked at.
    Generated(Box<dyn Generated>),
}

impl Body {
    /// A long target counts as a page of the file system, as on Linux.
    fn takes_a_page(&self) -> bool {
        const SHORT_TARGET: usize = 128;
        matches!(self, Self::Symlink(target) if target.len() >= SHORT_TARGET)
    }
}

/// Whom a new inode belongs to, and what may be done with it. `mode` holds the type too.
#[derive(Clone, Copy)]
pub struct Attributes {
    pub mode: u32,
    pub user: u32,
    pub group: u32,
}

/// What `chmod`, `chown` and `utimensat` change: None stays as it is.
#[derive(Clone, Copy, Default)]
pub struct AttributeChange {
    pub mode: Option<u32>,
    pub user: Option<u32>,
    pub group: Option<u32>,
    pub accessed: Option<Timestamp>,
    pub modified: Option<Timestamp>,
}

impl Inode {
    pub fn new(file_system: &Arc<FileSystem>, attributes: Attributes, body: Body) -> Result<Arc<Self>, Errno> {
        let number = file_system.next_inode_number();
        Self::with_number(file_system, number, attributes, body)
    }

    /// For file systems whose inode numbers mean something.
    pub fn with_number(
        file_system: &Arc<FileSystem>,
        number: u64,
        attributes: Attributes,
        body: Body,
    ) -> Result<Arc<Self>, Errno> {
        let links = if attributes.mode & S_IFMT == S_IFDIR { 2 } else { 1 };
        if body.takes_a_page() {
            file_system.charge_page()?;
        }
        file_system.count_inode().inspect_err(|_| file_system.uncharge_pages(body.takes_a_page().into()))?;
        // From here on dropping it takes both back.
        let inode = Self {
            file_system: Arc::clone(file_system),
            number,
            mode: AtomicU32::new(attributes.mode),
            user: AtomicU32::new(attributes.user),
            group: AtomicU32::new(attributes.group),
            links: AtomicU32::new(links),
            may_get_name: AtomicBool::new(false),
            size: AtomicU64::new(0),
            writers: AtomicI32::new(0),
            times: Lock::new(Rank::Inode, Times::all(now())),
            access_is_fresh_until_ns: AtomicI64::new(NOT_KNOWN),
            locks: FileLocks::new(),
            body,
        };
        Arc::try_new(inode).map_err(|_| Errno::ENOMEM)
    }

    #[inline]
    pub fn mode(&self) -> u32 {
        self.mode.load(Relaxed)
    }

    #[inline]
    pub fn kind(&self) -> u32 {
        self.mode() & S_IFMT
    }

    #[inline]
    pub fn is_directory(&self) -> bool {
        self.kind() == S_IFDIR
    }

    #[inline]
    pub fn is_symlink(&self) -> bool {
        self.kind() == S_IFLNK
    }

    #[inline]
    pub fn is_regular(&self) -> bool {
        self.kind() == S_IFREG
    }

    #[inline]
    pub fn user(&self) -> u32 {
        self.user.load(Relaxed)
    }

    #[inline]
    pub fn group(&self) -> u32 {
        self.group.load(Relaxed)
    }

    #[inline]
    pub fn links(&self) -> u32 {
        self.links.load(Relaxed)
    }

    /// The length of a regular file or of a symlink's target; others count nothing.
    #[inline]
    pub fn size(&self) -> u64 {
        match &self.body {
            Body::Symlink(target) => target.len() as u64,
            _ => self.size.load(Relaxed),
        }
    }

    /// To be called under the lock of the contents only.
    #[inline]
    pub fn set_size(&self, size: u64) {
        self.size.store(size, Relaxed);
    }

    pub fn times(&self) -> Times {
        *self.times.lock()
    }

    pub fn device_number(&self) -> DeviceNumber {
        match self.body {
            Body::Device(number) => number,
            _ => DeviceNumber::NONE,
        }
    }

    /// Whether the file can get another name: a removed one can't, nor a temporary one that is to stay without.
    pub fn is_linkable(&self) -> bool {
        self.links() > 0 || self.may_get_name.load(Relaxed)
    }

    /// For O_TMPFILE without O_EXCL.
    pub fn allow_first_name(&self) {
        self.may_get_name.store(true, Relaxed);
    }

    /// A file that isn't a directory gets another name. Like Linux's tmpfs, a file system counts each beyond the first as it
    /// counts inodes.
    pub fn add_name(&self) -> Result<(), Errno> {
        if self.links() > 0 {
            self.file_system.count_inode()?;
        }
        self.add_link();
        Ok(())
    }

    /// It loses one.
    pub fn remove_name(&self) {
        if self.links() > 1 {
            self.file_system.uncount_inode();
        }
        self.remove_link();
    }

    pub fn add_link(&self) {
        self.links.fetch_add(1, Relaxed);
        self.may_get_name.store(false, Relaxed);
    }

    pub fn remove_link(&self) {
        // Never below zero: every link was counted when it was made.
        self.links.fetch_sub(1, Relaxed);
    }

    /// Whether `credentials` allow every access in `access` (of [`READ`], [`WRITE`], [`EXECUTE`]).
    #[inline]
    pub fn check_access(&self, credentials: &Credentials, access: u32) -> Result<(), Errno> {
        let mode = self.mode();
        if credentials.overrides_permissions() {
            // Root may do anything but execute a file that nobody may execute.
            if access & EXECUTE != 0 && mode & S_IFMT != S_IFDIR && mode & 0o111 == 0 {
                return Err(Errno::EACCES);
            }
            return Ok(());
        }
        let shift = if credentials.user.file_system == self.user() {
            6
        } else if credentials.is_in_group(self.group()) {
            3
        } else {
            0
        };
        if (mode >> shift) & access == access { Ok(()) } else { self.check_generated() }
    }

    /// What the mode denies, the kernel's own files may still grant.
    #[cold]
    fn check_generated(&self) -> Result<(), Errno> {
        match &self.body {
            Body::Generated(generated) if generated.is_callers_own() => Ok(()),
            _ => Err(Errno::EACCES),
        }
    }

    /// Whether a path may lead through this: ENOTDIR if it isn't a directory, EACCES for those who may not search it.
    #[inline]
    pub fn check_search(&self, credentials: &Credentials) -> Result<(), Errno> {
        if !self.is_directory() {
            return Err(Errno::ENOTDIR);
        }
        if credentials.overrides_permissions() { Ok(()) } else { self.check_access(credentials, EXECUTE) }
    }

    /// Whether `credentials` are the owner's, or root's.
    pub fn check_owner(&self, credentials: &Credentials) -> Result<(), Errno> {
        if credentials.overrides_permissions() || credentials.user.file_system == self.user() {
            return Ok(());
        }
        Err(Errno::EPERM)
    }

    /// Sets what `change` names, and the change time. Who may do that is for the caller to have checked.
    pub fn apply(&self, change: &AttributeChange) {
        if let Some(mode) = change.mode {
            self.mode.store(self.kind() | mode & PERMISSIONS, Relaxed);
        }
        if let Some(user) = change.user {
            self.user.store(user, Relaxed);
        }
        if let Some(group) = change.group {
            self.group.store(group, Relaxed);
        }
        self.change_times(|times| {
            if let Some(time) = change.accessed {
                times.accessed = time;
            }
            if let Some(time) = change.modified {
                times.modified = time;
            }
            times.changed = now();
        });
    }

    /// All three times at once: for what comes from an archive.
    pub fn set_times(&self, times: Times) {
        self.change_times(|old| *old = times);
    }

    /// The contents changed.
    pub fn touch_modified(&self) {
        let time = now();
        self.change_times(|times| (times.modified, times.changed) = (time, time));
    }

    /// The attributes changed.
    pub fn touch_changed(&self) {
        self.change_times(|times| times.changed = now());
    }

    #[inline]
    fn change_times(&self, change: impl FnOnce(&mut Times)) {
        let mut times = self.times.lock();
        change(&mut times);
        self.access_is_fresh_until_ns.store(NOT_KNOWN, Relaxed);
    }

    /// The contents were read.
    #[inline(always)]
    pub fn touch_accessed(&self) {
        let now_ns = now_ns();
        if now_ns >= self.access_is_fresh_until_ns.load(Relaxed) {
            self.freshen_accessed(now_ns);
        }
    }

    #[cold]
    fn freshen_accessed(&self, now_ns: i64) {
        let mut times = self.times.lock();
        if now_ns >= times.access_is_fresh_until_ns() {
            times.accessed = now();
        }
        self.access_is_fresh_until_ns.store(times.access_is_fresh_until_ns(), Relaxed);
    }

    /// A write by somebody who isn't root takes the set-ID bits away.
    pub fn drop_set_id_bits(&self) {
        if self.mode() & (S_ISUID | S_ISGID) != 0 {
            self.mode.update(Relaxed, Relaxed, without_set_id_bits);
        }
    }

    /// Counts an open file that may write. ETXTBSY while a program runs the file.
    pub fn allow_write(&self) -> Result<WriteAccess<'_>, Errno> {
        self.writers
            .try_update(Relaxed, Relaxed, |writers| (writers >= 0).then_some(writers.wrapping_add(1)))
            .map_err(|_| Errno::ETXTBSY)?;
        Ok(WriteAccess(self))
    }

    pub(super) fn end_write(&self) {
        self.writers.fetch_sub(1, Relaxed);
    }

    /// Forbids writing as long as a program runs the file. ETXTBSY while it is open for writing.
    pub fn deny_write(&self) -> Result<(), Errno> {
        self.writers
            .try_update(Relaxed, Relaxed, |writers| (writers <= 0).then_some(writers.wrapping_sub(1)))
            .map_err(|_| Errno::ETXTBSY)?;
        Ok(())
    }

    pub fn end_deny_write(&self) {
        self.writers.fetch_add(1, Relaxed);
    }
}

impl Drop for Inode {
    fn drop(&mut self) {
        self.file_system.uncount_inode();
        match &mut self.body {
            Body::Regular(content) => self.file_system.uncharge_pages(content.page_count()),
            body => self.file_system.uncharge_pages(body.takes_a_page().into()),
        }
    }
}

/// The right to write, given back when dropped unless kept for an open file.
pub struct WriteAccess<'a>(&'a Inode);

impl WriteAccess<'_> {
    /// For an open file, which ends it when it is dropped.
    pub fn keep(self) {
        core::mem::forget(self);
    }
}

impl Drop for WriteAccess<'_> {
    fn drop(&mut self) {
        self.0.end_write();
    }
}

/// What chown and writing leave of a mode: the set-group-ID bit without group execution meant mandatory locking, and stays.
pub fn without_set_id_bits(mode: u32) -> u32 {
    let group = if mode & S_IXGRP != 0 { S_ISGID } else { 0 };
    mode & !(S_ISUID | group)
}
