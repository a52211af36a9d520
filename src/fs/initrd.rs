//! The initrd: a tar archive in memory becomes the root file system.
//!
//! Only names and attributes are made at boot. A file's contents stay in the archive until they are read: each page is copied
//! out when it is first touched (`Content::from_archive`). What the archive says twice, holds the last time.

use super::content::Content;
use super::context::{Context, FsContext};
use super::device::DeviceNumber;
use super::initrd_tar::{self, Entry, Kind, Path};
use super::inode::{
    AttributeChange, Attributes, Body, Inode, PERMISSIONS, S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFREG,
};
use super::mount::Location;
use super::pipe::Pipe;
use super::time::{Times, Timestamp};
use super::tmpfs;
use super::tree::{self, Dentry, Name};
use super::walk::{Last, NAME_MAX, find};
use crate::errno::Errno;
use crate::task::credentials::Credentials;
use alloc::sync::Arc;

/// What came out of an archive.
#[derive(Debug, Default)]
pub struct Outcome {
    pub entries: usize,
    /// Entries that can't be made: of an unknown type, or at a place that can't be.
    pub skipped: usize,
    /// Why reading ended before the archive's end. What was read until then is there.
    pub error: Option<initrd_tar::Error>,
}

/// Makes the archive's files below `root`. ENOMEM if there is no room for their names.
pub fn unpack(archive: &'static [u8], root: &Location) -> Result<Outcome, Errno> {
    let mut outcome = Outcome::default();
    let fs = FsContext::new(root.clone(), root.clone())?;
    let credentials = Credentials::root();
    let context = fs.with(&credentials);
    for entry in initrd_tar::entries(archive) {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                outcome.error = Some(error);
                break;
            }
        };
        match unpack_entry(&context, archive, &entry) {
            Ok(()) => outcome.entries += 1,
            Err(error @ (Errno::ENOMEM | Errno::ENOSPC)) => return Err(error),
            Err(_) => outcome.skipped += 1,
        }
    }
    Ok(outcome)
}

fn unpack_entry(context: &Context<'_>, archive: &'static [u8], entry: &Entry<'_>) -> Result<(), Errno> {
    let mut names = entry.path.components();
    let Some(mut name) = names.next() else {
        // The archive's root: its attributes are those of `/`.
        apply(entry, &context.root.dentry.inode);
        return Ok(());
    };
    let mut parent = context.root.clone();
    for next in names {
        parent = enter(context, parent, name)?;
        name = next;
    }
    check_name(name)?;
    let target = match &entry.kind {
        Kind::HardLink(target) => Some(linkable(find_path(context, target)?.dentry)?),
        _ => None,
    };
    let existing = parent.dentry.child(&tree::lock(), name).map(Arc::clone);
    if let Some(existing) = existing {
        if target.as_ref().is_some_and(|target| Arc::ptr_eq(&target.inode, &existing.inode)) {
            return Ok(());
        }
        if entry.kind == Kind::Directory && existing.inode.is_directory() {
            apply(entry, &existing.inode);
            return Ok(());
        }
        replaceable(&parent.dentry, &existing)?;
    }
    if let Some(target) = target {
        target.inode.add_name()?;
        return tmpfs::add(&parent.dentry, Name::new(name)?, Arc::clone(&target.inode)).map(|_| ());
    }
    let (kind, body, size) = body_of(archive, entry)?;
    let attributes = Attributes { mode: kind | entry.mode & PERMISSIONS, user: entry.uid, group: entry.gid };
    let inode = Inode::new(&parent.mount.file_system, attributes, body)?;
    inode.set_size(size);
    inode.set_times(times_of(entry));
    tmpfs::add(&parent.dentry, Name::new(name)?, inode).map(|_| ())
}

/// No directory has two names.
fn linkable(target: Arc<Dentry>) -> Result<Arc<Dentry>, Errno> {
    if target.inode.is_directory() { Err(Errno::EPERM) } else { Ok(target) }
}

/// The type of an entry, what is behind its inode, and how long a regular file is.
fn body_of(archive: &'static [u8], entry: &Entry<'_>) -> Result<(u32, Body, u64), Errno> {
    Ok(match &entry.kind {
        Kind::File(range) => {
            let contents = archive.get(range.clone()).ok_or(Errno::EINVAL)?;
            (S_IFREG, Body::Regular(Content::from_archive(contents)), contents.len() as u64)
        }
        Kind::Directory => (S_IFDIR, Body::Directory, 0),
        Kind::Symlink(target) => (S_IFLNK, Body::Symlink(tree::boxed(target)?), 0),
        Kind::CharacterDevice { major, minor } => (S_IFCHR, Body::Device(DeviceNumber::new(*major, *minor)), 0),
        Kind::BlockDevice { major, minor } => (S_IFBLK, Body::Device(DeviceNumber::new(*major, *minor)), 0),
        Kind::Fifo => (S_IFIFO, Body::Fifo(Pipe::fifo()?), 0),
        Kind::HardLink(_) | Kind::Unsupported(_) => return Err(Errno::EINVAL),
    })
}

/// The directory `name` in `parent`; made if the archive didn't name it before.
fn enter(context: &Context<'_>, parent: Location, name: &[u8]) -> Result<Location, Errno> {
    check_name(name)?;
    let child = parent.dentry.child(&tree::lock(), name).map(Arc::clone);
    let dentry = match child {
        Some(child) if child.inode.is_directory() => child,
        Some(_) => return find(context, Some(&parent), name, Last::Follow),
        None => {
            let attributes = Attributes { mode: S_IFDIR | 0o755, user: 0, group: 0 };
            let inode = Inode::new(&parent.mount.file_system, attributes, Body::Directory)?;
            tmpfs::add(&parent.dentry, Name::new(name)?, inode)?
        }
    };
    Ok(Location { mount: parent.mount, dentry })
}

fn find_path(context: &Context<'_>, path: &Path<'_>) -> Result<Location, Errno> {
    path.components().try_fold(context.root.clone(), |at, name| {
        check_name(name)?;
        find(context, Some(&at), name, Last::Keep)
    })
}

/// Makes room for an entry where one is already.
fn replaceable(parent: &Arc<Dentry>, existing: &Arc<Dentry>) -> Result<(), Errno> {
    if existing.inode.is_directory() {
        return Err(Errno::EISDIR);
    }
    let removed = parent.remove(&mut tree::lock(), existing);
    existing.inode.remove_name();
    drop(removed);
    Ok(())
}

fn check_name(name: &[u8]) -> Result<(), Errno> {
    match name {
        b".." => Err(Errno::EINVAL),
        _ if name.len() > NAME_MAX => Err(Errno::ENAMETOOLONG),
        _ => Ok(()),
    }
}

fn apply(entry: &Entry<'_>, inode: &Inode) {
    let (mode, user, group) = (Some(entry.mode), Some(entry.uid), Some(entry.gid));
    inode.apply(&AttributeChange { mode, user, group, ..Default::default() });
    inode.set_times(times_of(entry));
}

fn times_of(entry: &Entry<'_>) -> Times {
    Times::all(Timestamp { seconds: entry.modified.seconds, nanoseconds: entry.modified.nanoseconds })
}
