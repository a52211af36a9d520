//! `open(2)`: from a path and flags to an open file.

use super::content::Content;
use super::context::Context;
use super::edit::{create, new_inode};
use super::file::{File, WriteRules};
use super::file_system::Kind;
use super::inode::{Attributes, Body, Inode, PERMISSIONS, READ, S_IFIFO, S_IFREG, S_ISVTX, WRITE};
use super::mount::{self, Location, Mount, MountFlags, Place};
use super::open_flags::OpenFlags;
use super::tmpfs;
use super::tree::{self, Dentry, Name};
use super::walk::{LINKS_MAX, Last, LastKind, find, find_parent};
use crate::errno::Errno;
use crate::lock::{Lock, Rank};
use crate::task::credentials::Credentials;
use alloc::sync::Arc;

/// Opens what `path` names, and makes it first where O_CREAT asks for that.
pub fn open(
    context: &Context<'_>,
    start: Option<&Location>,
    path: &[u8],
    flags: OpenFlags,
    mode: u32,
) -> Result<Arc<File>, Errno> {
    if flags.contains(OpenFlags::PATH) {
        return open_path(context, start, path, flags);
    }
    if flags.contains(OpenFlags::TEMPORARY) {
        return open_temporary(context, start, path, flags, mode);
    }
    if flags.contains(OpenFlags::CREATE) {
        if flags.contains(OpenFlags::DIRECTORY) {
            return Err(Errno::EINVAL);
        }
        return open_or_create(context, start, path, flags, mode);
    }
    let location = find(context, start, path, last_of(flags))?;
    open_location(context, location, flags)
}

/// Opens an existing file whose place is known.
pub fn open_location(context: &Context<'_>, location: Location, flags: OpenFlags) -> Result<Arc<File>, Errno> {
    let inode = &location.dentry.inode;
    check_kind(inode, flags)?;
    let truncates = flags.contains(OpenFlags::TRUNCATE) && inode.is_regular();
    let access = flags.access() | if flags.contains(OpenFlags::TRUNCATE) { WRITE } else { 0 };
    if access & WRITE != 0 && (inode.is_regular() || inode.is_directory()) {
        location.mount.check_writable()?;
    }
    if matches!(inode.body, Body::Device(_)) && location.mount.flags().contains(MountFlags::NO_DEVICES) {
        return Err(Errno::EACCES);
    }
    inode.check_access(context.credentials, access)?;
    if let Body::Generated(generated) = &inode.body {
        generated.check_open()?;
    }
    if flags.contains(OpenFlags::NO_ACCESS_TIME) {
        inode.check_owner(context.credentials)?;
    }
    finish(context, location, flags, truncates)
}

/// Makes the open file; access is checked.
fn finish(context: &Context<'_>, location: Location, flags: OpenFlags, truncates: bool) -> Result<Arc<File>, Errno> {
    let inode = Arc::clone(&location.dentry.inode);
    let writer = (inode.is_regular() && (flags.is_writable() || truncates)).then(|| inode.allow_write()).transpose()?;
    let mut file = File::new(location, flags)?;
    let mut truncating = None;
    match writer {
        // From here on the file gives the writer back.
        Some(writer) if flags.is_writable() => file.keep_writer(writer),
        only_truncating => truncating = only_truncating,
    }
    // What the kernel makes up has no length.
    if truncates && matches!(inode.body, Body::Regular(_)) {
        let rules = WriteRules { keeps_set_id_bits: context.credentials.overrides_permissions(), size_limit: u64::MAX };
        super::file::set_size(&inode, 0, &rules)?;
    }
    drop(truncating);
    file.wait_for_other_end()?;
    Arc::try_new(file).map_err(|_| Errno::ENOMEM)
}

/// `pipe2(2)`: both ends of a new pipe, the reading one first. Of `flags` only what may be set on open files counts.
pub fn open_pipe(credentials: &Credentials, flags: OpenFlags) -> Result<[Arc<File>; 2], Errno> {
    let location = super::pipe::anonymous(credentials)?;
    let flags = flags.intersection(OpenFlags::SETTABLE);
    let reader = File::new(location.clone(), flags)?;
    let writer = File::new(location, flags | OpenFlags::WRITE_ONLY)?;
    let share = |file| Arc::try_new(file).map_err(|_| Errno::ENOMEM);
    Ok([share(reader)?, share(writer)?])
}

/// `memfd_create(2)`: a file in memory that has no name but the one that /proc shows.
pub fn open_memory_file(credentials: &Credentials, name: &[u8], flags: OpenFlags) -> Result<Arc<File>, Errno> {
    static MOUNT: Lock<Option<Arc<Mount>>> = Lock::new(Rank::Mounts, None);
    let known = MOUNT.lock().clone();
    let mount = match known {
        Some(mount) => mount,
        None => {
            let (file_system, root) = tmpfs::new(
                Kind::Tmpfs,
                super::root::default_pages_limit(),
                Attributes { mode: 0o600, user: 0, group: 0 },
            )?;
            let mount = mount::detached(&file_system, &root, b"memfd", MountFlags::empty())?;
            *MOUNT.lock() = Some(Arc::clone(&mount));
            mount
        }
    };
    let (user, group) = (credentials.user.file_system, credentials.group.file_system);
    let attributes = Attributes { mode: S_IFREG | 0o777, user, group };
    let inode = Inode::new(&mount.file_system, attributes, Body::Regular(Content::new()))?;
    inode.remove_link();
    let dentry = Dentry::nameless(inode, Name::new(name)?)?;
    Arc::try_new(File::new(Location { mount, dentry }, flags | OpenFlags::READ_WRITE)?).map_err(|_| Errno::ENOMEM)
}

/// What can't be opened for what it is.
fn check_kind(inode: &Inode, flags: OpenFlags) -> Result<(), Errno> {
    if inode.is_symlink() {
        // Only with O_NOFOLLOW does the walk end at a link.
        return Err(if flags.contains(OpenFlags::DIRECTORY) { Errno::ENOTDIR } else { Errno::ELOOP });
    }
    if inode.is_directory() {
        let writes = flags.access() & WRITE != 0 || flags.intersects(OpenFlags::CREATE | OpenFlags::TRUNCATE);
        return if writes { Err(Errno::EISDIR) } else { Ok(()) };
    }
    if flags.contains(OpenFlags::DIRECTORY) {
        return Err(Errno::ENOTDIR);
    }
    Ok(())
}

/// O_PATH: a place without a right to anything there.
fn open_path(
    context: &Context<'_>,
    start: Option<&Location>,
    path: &[u8],
    flags: OpenFlags,
) -> Result<Arc<File>, Errno> {
    let kept = OpenFlags::PATH | OpenFlags::DIRECTORY | OpenFlags::NO_FOLLOW;
    let location = find(context, start, path, last_of(flags))?;
    if flags.contains(OpenFlags::DIRECTORY) && !location.dentry.inode.is_directory() {
        return Err(Errno::ENOTDIR);
    }
    let file = File::new(location, flags.intersection(kept))?;
    Arc::try_new(file).map_err(|_| Errno::ENOMEM)
}

/// O_CREAT: the last name is looked up in its directory, made if it isn't there, and followed if it is a symbolic link,
/// which may well lead to a file that is still to be made.
fn open_or_create(
    context: &Context<'_>,
    start: Option<&Location>,
    path: &[u8],
    flags: OpenFlags,
    mode: u32,
) -> Result<Arc<File>, Errno> {
    let mut start = start.cloned();
    let mut target: Option<Arc<Inode>> = None;
    for _ in 0..=LINKS_MAX {
        let path = match target.as_ref().map(|inode| &inode.body) {
            Some(Body::Symlink(target)) => target,
            _ => path,
        };
        let (parent, last) = find_parent(context, start.as_ref(), path)?;
        if last.kind != LastKind::Ordinary {
            let exists = if flags.contains(OpenFlags::EXCLUSIVE) { Errno::EEXIST } else { Errno::EISDIR };
            return Err(exists);
        }
        if last.slash {
            return Err(Errno::EISDIR);
        }
        let child = {
            let tree = tree::lock();
            let child = parent.dentry.child(&tree, last.name);
            child.map(|dentry| Place { mount: &parent.mount, dentry }.into_mounted(&tree).to_location())
        };
        let Some(child) = child else {
            if matches!(parent.dentry.inode.body, Body::Generated(_)) {
                // procfs may know the name; it makes nothing.
                let found = find(context, Some(&parent), last.name, last_of(flags))?;
                return open_existing(context, found, flags);
            }
            let mode = S_IFREG | mode & PERMISSIONS & !context.umask;
            match create(context, &parent, last, mode, Body::Regular(Content::new())) {
                // The permissions of a file that is made don't hold for who makes it.
                Ok(location) => return finish(context, location, flags, false),
                Err(Errno::EEXIST) if !flags.contains(OpenFlags::EXCLUSIVE) => continue,
                Err(error) => return Err(error),
            }
        };
        if flags.contains(OpenFlags::EXCLUSIVE) {
            return Err(Errno::EEXIST);
        }
        if !child.dentry.inode.is_symlink() || flags.contains(OpenFlags::NO_FOLLOW) {
            check_planted(context, &parent.dentry.inode, &child.dentry.inode)?;
            return open_location(context, child, flags);
        }
        if !matches!(child.dentry.inode.body, Body::Symlink(_)) {
            let found = find(context, Some(&parent), last.name, Last::Follow)?;
            return open_existing(context, found, flags);
        }
        target = Some(Arc::clone(&child.dentry.inode));
        start = Some(parent);
    }
    Err(Errno::ELOOP)
}

/// Whoever asks for a file to be made in a directory that all may write to (sticky) doesn't get a device, socket or link
/// that somebody else put there in its place. (Linux would do the same for files and FIFOs, were it told to.)
fn check_planted(context: &Context<'_>, directory: &Inode, inode: &Inode) -> Result<(), Errno> {
    let shared = directory.mode() & S_ISVTX != 0 && directory.mode() & 0o002 != 0;
    let harmless = inode.is_regular() || inode.is_directory() || inode.kind() == S_IFIFO;
    let owner = inode.user();
    let trusted = owner == directory.user() || owner == context.credentials.user.file_system;
    if shared && !harmless && !trusted { Err(Errno::EACCES) } else { Ok(()) }
}

fn open_existing(context: &Context<'_>, location: Location, flags: OpenFlags) -> Result<Arc<File>, Errno> {
    if flags.contains(OpenFlags::EXCLUSIVE) { Err(Errno::EEXIST) } else { open_location(context, location, flags) }
}

/// O_TMPFILE: a file in a directory's file system that has no name.
fn open_temporary(
    context: &Context<'_>,
    start: Option<&Location>,
    path: &[u8],
    flags: OpenFlags,
    mode: u32,
) -> Result<Arc<File>, Errno> {
    if !flags.contains(OpenFlags::DIRECTORY) || flags.contains(OpenFlags::CREATE) || !flags.is_writable() {
        return Err(Errno::EINVAL);
    }
    let directory = find(context, start, path, Last::Follow)?;
    let parent = &directory.dentry.inode;
    if !parent.is_directory() {
        return Err(Errno::ENOTDIR);
    }
    directory.mount.check_writable()?;
    parent.check_access(context.credentials, WRITE | super::inode::EXECUTE)?;
    if !directory.mount.file_system.kind.has_names_of_users() {
        return Err(Errno::EOPNOTSUPP);
    }
    let mode = S_IFREG | mode & PERMISSIONS & !context.umask;
    let inode = new_inode(context.credentials, parent, mode, Body::Regular(Content::new()))?;
    inode.remove_link();
    if !flags.contains(OpenFlags::EXCLUSIVE) {
        inode.allow_first_name();
    }
    let dentry = Dentry::nameless(inode, Name::new(b"")?)?;
    let flags = flags.difference(OpenFlags::TEMPORARY);
    finish(context, Location { mount: Arc::clone(&directory.mount), dentry }, flags, false)
}

fn last_of(flags: OpenFlags) -> Last {
    let keep = flags.contains(OpenFlags::NO_FOLLOW);
    if keep { Last::Keep } else { Last::Follow }
}

/// The access that `access(2)` asks about, beside existence.
pub const ACCESS_MASK: u32 = READ | WRITE | super::inode::EXECUTE;
