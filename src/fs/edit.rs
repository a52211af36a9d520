//! Making, moving and removing names: mkdir, mknod, symlink, link, unlink, rmdir, rename.
//!
//! Each checks everything and gets all memory before the first change; so a call that fails has changed nothing.

use super::content::Content;
use super::context::Context;
use super::device::DeviceNumber;
use super::inode::{
    Attributes, Body, EXECUTE, Inode, READ, S_IFDIR, S_IFLNK, S_ISGID, S_ISUID, S_ISVTX, S_IXGRP, WRITE,
};
use super::mount::{Location, Place};
use super::pipe::Pipe;
use super::tree::{self, Dentry, Name, Tree};
use super::walk::{Last, LastKind, LastName, find, find_or_start, find_parent};
use crate::errno::Errno;
use crate::task::credentials::Credentials;
use alloc::sync::Arc;
use bitflags::bitflags;

bitflags! {
    /// `renameat2(2)`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct RenameFlags: u32 {
        const NO_REPLACE = 1;
        const EXCHANGE = 2;
    }
}

/// `mkdir(2)`.
pub fn make_directory(context: &Context<'_>, start: Option<&Location>, path: &[u8], mode: u32) -> Result<(), Errno> {
    let (parent, last) = find_parent(context, start, path)?;
    let mode = S_IFDIR | mode & (0o777 | S_ISVTX) & !context.umask;
    create(context, &parent, last, mode, Body::Directory).map(|_| ())
}

/// `mknod(2)`; `mode` holds the type.
pub fn make_node(
    context: &Context<'_>,
    start: Option<&Location>,
    path: &[u8],
    mode: u32,
    device: DeviceNumber,
) -> Result<(), Errno> {
    use super::inode::{PERMISSIONS, S_IFBLK, S_IFCHR, S_IFIFO, S_IFMT, S_IFREG, S_IFSOCK};
    let kind = if mode & S_IFMT == 0 { S_IFREG } else { mode & S_IFMT };
    let body = match kind {
        S_IFREG => Body::Regular(Content::new()),
        S_IFIFO => Body::Fifo(Pipe::fifo()?),
        S_IFSOCK => Body::Socket,
        S_IFCHR | S_IFBLK => Body::Device(device),
        S_IFDIR => return Err(Errno::EPERM),
        _ => return Err(Errno::EINVAL),
    };
    let (parent, last) = find_parent(context, start, path)?;
    let mode = kind | mode & PERMISSIONS & !context.umask;
    create(context, &parent, last, mode, body).map(|_| ())
}

/// `symlink(2)`.
pub fn make_symlink(context: &Context<'_>, target: &[u8], start: Option<&Location>, path: &[u8]) -> Result<(), Errno> {
    if target.is_empty() {
        return Err(Errno::ENOENT);
    }
    let (parent, last) = find_parent(context, start, path)?;
    let target = tree::boxed(target)?;
    create(context, &parent, last, S_IFLNK | 0o777, Body::Symlink(target)).map(|_| ())
}

/// Makes a new file, directory or other node and its name. EEXIST if the name is there.
pub fn create(
    context: &Context<'_>,
    parent: &Location,
    last: LastName<'_>,
    mode: u32,
    body: Body,
) -> Result<Location, Errno> {
    if last.kind != LastKind::Ordinary {
        return Err(Errno::EEXIST);
    }
    let is_directory = matches!(body, Body::Directory);
    let device = matches!(body, Body::Device(_));
    {
        let tree = tree::lock();
        if parent.dentry.child(&tree, last.name).is_some() {
            return Err(Errno::EEXIST);
        }
        check_has_names(parent)?;
        if last.slash && !is_directory {
            return Err(Errno::ENOENT);
        }
        parent.mount.check_writable()?;
        may_add(context.credentials, parent.as_place(), &tree)?;
    }
    if device && !context.credentials.is_privileged() {
        return Err(Errno::EPERM);
    }
    let inode = new_inode(context.credentials, &parent.dentry.inode, mode, body)?;
    let dentry = Dentry::detached(inode, Arc::clone(&parent.dentry), Name::new(last.name)?)?;
    let mut tree = tree::lock();
    if parent.dentry.child(&tree, last.name).is_some() {
        return Err(Errno::EEXIST);
    }
    if !parent.dentry.is_linked(&tree) {
        return Err(Errno::ENOENT);
    }
    parent.dentry.reserve(&mut tree)?;
    parent.dentry.add(&mut tree, Arc::clone(&dentry));
    drop(tree);
    if is_directory {
        parent.dentry.inode.add_link();
    }
    parent.dentry.inode.touch_modified();
    Ok(Location { mount: Arc::clone(&parent.mount), dentry })
}

/// A new inode as its directory wants it: a set-group-ID directory hands its group on, and to directories the bit too.
pub fn new_inode(credentials: &Credentials, directory: &Inode, mode: u32, body: Body) -> Result<Arc<Inode>, Errno> {
    let inherits = directory.mode() & S_ISGID != 0;
    let group = if inherits { directory.group() } else { credentials.group.file_system };
    let mut mode = mode;
    if inherits && matches!(body, Body::Directory) {
        mode |= S_ISGID;
    } else if inherits
        && mode & 0o2010 == 0o2010
        && !credentials.overrides_permissions()
        && !credentials.is_in_group(group)
    {
        mode &= !S_ISGID;
    }
    let attributes = Attributes { mode, user: credentials.user.file_system, group };
    Inode::new(&directory.file_system, attributes, body)
}

/// `link(2)`, `linkat(2)`: `old` may be a file without a name (O_TMPFILE), given by an empty path.
pub fn link(context: &Context<'_>, old: &Location, start: Option<&Location>, path: &[u8]) -> Result<(), Errno> {
    let (parent, last) = find_parent(context, start, path)?;
    if last.kind != LastKind::Ordinary {
        return Err(Errno::EEXIST);
    }
    let name = Name::new(last.name)?;
    let inode = &old.dentry.inode;
    let dentry = Dentry::detached(Arc::clone(inode), Arc::clone(&parent.dentry), name)?;
    let mut tree = tree::lock();
    if parent.dentry.child(&tree, last.name).is_some() {
        return Err(Errno::EEXIST);
    }
    check_has_names(&parent)?;
    if last.slash {
        return Err(Errno::ENOENT);
    }
    parent.mount.check_writable()?;
    if !Arc::ptr_eq(&parent.mount, &old.mount) {
        return Err(Errno::EXDEV);
    }
    may_link(context.credentials, inode)?;
    may_add(context.credentials, parent.as_place(), &tree)?;
    if inode.is_directory() {
        return Err(Errno::EPERM);
    }
    if !inode.is_linkable() {
        return Err(Errno::ENOENT);
    }
    if inode.links() >= u32::MAX / 2 {
        return Err(Errno::EMLINK);
    }
    parent.dentry.reserve(&mut tree)?;
    inode.add_name()?;
    parent.dentry.add(&mut tree, dentry);
    drop(tree);
    inode.touch_changed();
    parent.dentry.inode.touch_modified();
    Ok(())
}

/// `unlink(2)`.
pub fn unlink(context: &Context<'_>, start: Option<&Location>, path: &[u8]) -> Result<(), Errno> {
    let (parent, last) = find_parent(context, start, path)?;
    if last.kind != LastKind::Ordinary {
        return Err(Errno::EISDIR);
    }
    parent.mount.check_writable()?;
    let mut tree = tree::lock();
    let child = existing(&tree, &parent, last.name)?;
    if last.slash {
        return Err(if child.inode.is_directory() { Errno::EISDIR } else { Errno::ENOTDIR });
    }
    may_remove(context.credentials, &tree, parent.as_place(), &child, Some(false))?;
    let removed = parent.dentry.remove(&mut tree, &child);
    parent.dentry.shrink(&mut tree);
    drop(tree);
    child.inode.remove_name();
    child.inode.touch_changed();
    parent.dentry.inode.touch_modified();
    drop((removed, child));
    Ok(())
}

/// `rmdir(2)`.
pub fn remove_directory(context: &Context<'_>, start: Option<&Location>, path: &[u8]) -> Result<(), Errno> {
    let (parent, last) = find_parent(context, start, path)?;
    match last.kind {
        LastKind::Ordinary => {}
        LastKind::Dot => return Err(Errno::EINVAL),
        LastKind::DotDot => return Err(Errno::ENOTEMPTY),
        LastKind::Root => return Err(Errno::EBUSY),
    }
    parent.mount.check_writable()?;
    let mut tree = tree::lock();
    let child = existing(&tree, &parent, last.name)?;
    may_remove(context.credentials, &tree, parent.as_place(), &child, Some(true))?;
    if !child.names(&tree).is_empty() {
        return Err(Errno::ENOTEMPTY);
    }
    let removed = parent.dentry.remove(&mut tree, &child);
    parent.dentry.shrink(&mut tree);
    drop(tree);
    // Its own `.` and its name; and the parent loses its `..`.
    child.inode.remove_link();
    child.inode.remove_link();
    parent.dentry.inode.remove_link();
    child.inode.touch_changed();
    parent.dentry.inode.touch_modified();
    drop((removed, child));
    Ok(())
}

/// `rename(2)`, `renameat2(2)`.
pub fn rename(
    context: &Context<'_>,
    old_start: Option<&Location>,
    old_path: &[u8],
    new_start: Option<&Location>,
    new_path: &[u8],
    flags: RenameFlags,
) -> Result<(), Errno> {
    if flags.contains(RenameFlags::NO_REPLACE | RenameFlags::EXCHANGE) {
        return Err(Errno::EINVAL);
    }
    let (old_parent, old_last) = find_parent(context, old_start, old_path)?;
    let (new_parent, new_last) = find_parent(context, new_start, new_path)?;
    if !Arc::ptr_eq(&old_parent.mount, &new_parent.mount) {
        return Err(Errno::EXDEV);
    }
    if old_last.kind != LastKind::Ordinary {
        return Err(Errno::EBUSY);
    }
    if new_last.kind != LastKind::Ordinary {
        return Err(if flags.contains(RenameFlags::NO_REPLACE) { Errno::EEXIST } else { Errno::EBUSY });
    }
    old_parent.mount.check_writable()?;
    let (old_name, new_name) = (Name::new(old_last.name)?, Name::new(new_last.name)?);
    let mut tree = tree::lock();
    let moved = existing(&tree, &old_parent, old_last.name)?;
    let target = new_parent.dentry.child(&tree, new_last.name).map(Arc::clone);
    let sides = Sides { old: &old_parent, new: &new_parent, moved: &moved, target: target.as_ref() };
    sides.check_shape(&tree, old_last.slash, new_last.slash, flags)?;
    if target.as_ref().is_some_and(|target| Arc::ptr_eq(&target.inode, &moved.inode)) {
        return Ok(());
    }
    sides.check_permissions(context.credentials, &tree, flags)?;
    let dropped = match target.as_ref() {
        Some(target) if flags.contains(RenameFlags::EXCHANGE) => sides.exchange(&mut tree, target, old_name, new_name),
        _ => sides.carry_out(&mut tree, new_name)?,
    };
    drop(tree);
    moved.inode.touch_changed();
    if let Some(target) = &target {
        target.inode.touch_changed();
    }
    old_parent.dentry.inode.touch_modified();
    new_parent.dentry.inode.touch_modified();
    drop(dropped);
    Ok(())
}

/// What a rename takes away, to be dropped when the tree's lock isn't held.
struct Dropped {
    _places: [Option<(Option<Arc<Dentry>>, Name)>; 2],
    _replaced: Option<Arc<Dentry>>,
}

/// The four parties of a rename.
struct Sides<'a> {
    old: &'a Location,
    new: &'a Location,
    moved: &'a Arc<Dentry>,
    target: Option<&'a Arc<Dentry>>,
}

impl Sides<'_> {
    /// What doesn't depend on who asks, in Linux's order.
    fn check_shape(&self, tree: &Tree, old_slash: bool, new_slash: bool, flags: RenameFlags) -> Result<(), Errno> {
        let exchange = flags.contains(RenameFlags::EXCHANGE);
        if flags.contains(RenameFlags::NO_REPLACE) && self.target.is_some() {
            return Err(Errno::EEXIST);
        }
        if exchange {
            let target = self.target.ok_or(Errno::ENOENT)?;
            if !target.inode.is_directory() && new_slash {
                return Err(Errno::ENOTDIR);
            }
        }
        if !self.moved.inode.is_directory() && (old_slash || (new_slash && !exchange)) {
            return Err(Errno::ENOTDIR);
        }
        if self.moved.is_ancestor_of(tree, &self.new.dentry) {
            return Err(Errno::EINVAL);
        }
        if self.target.is_some_and(|target| target.is_ancestor_of(tree, &self.old.dentry)) {
            return Err(if exchange { Errno::EINVAL } else { Errno::ENOTEMPTY });
        }
        Ok(())
    }

    fn check_permissions(&self, credentials: &Credentials, tree: &Tree, flags: RenameFlags) -> Result<(), Errno> {
        let exchange = flags.contains(RenameFlags::EXCHANGE);
        let is_directory = self.moved.inode.is_directory();
        may_remove(credentials, tree, self.old.as_place(), self.moved, None)?;
        match self.target {
            None => may_add(credentials, self.new.as_place(), tree)?,
            Some(target) => {
                let must_be = if exchange { None } else { Some(is_directory) };
                may_remove(credentials, tree, self.new.as_place(), target, must_be)?;
            }
        }
        if !Arc::ptr_eq(&self.old.dentry, &self.new.dentry) {
            // A directory that moves gets another `..`: that is a write to it.
            if is_directory {
                self.moved.inode.check_access(credentials, WRITE)?;
            }
            if let Some(target) = self.target
                && exchange
                && target.inode.is_directory()
            {
                target.inode.check_access(credentials, WRITE)?;
            }
        }
        match self.target {
            Some(target) if !exchange && !target.names(tree).is_empty() => Err(Errno::ENOTEMPTY),
            _ => Ok(()),
        }
    }

    fn carry_out(&self, tree: &mut Tree, new_name: Name) -> Result<Dropped, Errno> {
        let is_directory = self.moved.inode.is_directory();
        if self.target.is_none() {
            self.new.dentry.reserve(tree)?;
        }
        let moved = self.old.dentry.remove(tree, self.moved).ok_or(Errno::ENOENT)?;
        let place = self.moved.set_place(tree, Arc::clone(&self.new.dentry), new_name);
        let replaced = match self.target {
            Some(target) => {
                if target.inode.is_directory() {
                    // Its own `.` and its name; and the parent loses its `..`.
                    target.inode.remove_link();
                    target.inode.remove_link();
                    self.new.dentry.inode.remove_link();
                } else {
                    target.inode.remove_name();
                }
                self.new.dentry.replace(tree, target, moved)
            }
            None => {
                self.new.dentry.add(tree, moved);
                None
            }
        };
        self.old.dentry.shrink(tree);
        if is_directory {
            self.old.dentry.inode.remove_link();
            self.new.dentry.inode.add_link();
        }
        Ok(Dropped { _places: [Some(place), None], _replaced: replaced })
    }

    fn exchange(&self, tree: &mut Tree, target: &Arc<Dentry>, old_name: Name, new_name: Name) -> Dropped {
        // Each goes into the other's slot while both still have the names that those slots are found by.
        let same = Arc::ptr_eq(&self.old.dentry, &self.new.dentry);
        let (old_slot, new_slot) = (self.old.dentry.slot_of(tree, self.moved), self.new.dentry.slot_of(tree, target));
        if let (Some(old_slot), Some(new_slot)) = (old_slot, new_slot) {
            self.old.dentry.put_in_slot(tree, old_slot, Arc::clone(target));
            self.new.dentry.put_in_slot(tree, new_slot, Arc::clone(self.moved));
        }
        let moved_place = self.moved.set_place(tree, Arc::clone(&self.new.dentry), new_name);
        let target_place = target.set_place(tree, Arc::clone(&self.old.dentry), old_name);
        if !same {
            if self.moved.inode.is_directory() {
                self.old.dentry.inode.remove_link();
                self.new.dentry.inode.add_link();
            }
            if target.inode.is_directory() {
                self.new.dentry.inode.remove_link();
                self.old.dentry.inode.add_link();
            }
        }
        Dropped { _places: [Some(moved_place), Some(target_place)], _replaced: None }
    }
}

/// The entry with this name, which a call is to remove or move.
fn existing(tree: &Tree, parent: &Location, name: &[u8]) -> Result<Arc<Dentry>, Errno> {
    match parent.dentry.child(tree, name) {
        Some(child) => Ok(Arc::clone(child)),
        // What procfs makes up isn't looked for: it can't be removed.
        None if matches!(parent.dentry.inode.body, Body::Generated(_)) => Err(Errno::EPERM),
        None => Err(Errno::ENOENT),
    }
}

/// Where programs can't make names no new one can be looked up either, and that comes first.
fn check_has_names(parent: &Location) -> Result<(), Errno> {
    if parent.mount.file_system.kind.has_names_of_users() { Ok(()) } else { Err(Errno::ENOENT) }
}

/// Whether a name may be added to a directory.
fn may_add(credentials: &Credentials, directory: Place<'_>, tree: &Tree) -> Result<(), Errno> {
    if !directory.dentry.is_linked(tree) {
        return Err(Errno::ENOENT);
    }
    directory.dentry.inode.check_access(credentials, WRITE | EXECUTE)
}

/// Whether somebody may give a file that isn't his another name: only one that he could read and write, and that has no
/// set-ID bits. (Linux's `fs.protected_hardlinks`, as distributions set it.)
fn may_link(credentials: &Credentials, inode: &Inode) -> Result<(), Errno> {
    let set_group = S_ISGID | S_IXGRP;
    let has_set_id = inode.mode() & S_ISUID != 0 || inode.mode() & set_group == set_group;
    let is_safe = inode.is_regular() && !has_set_id && inode.check_access(credentials, READ | WRITE).is_ok();
    if is_safe { Ok(()) } else { inode.check_owner(credentials) }
}

/// Whether a name may be removed from a directory. `must_be_directory`: what the call is for, None for either.
fn may_remove(
    credentials: &Credentials,
    tree: &Tree,
    directory: Place<'_>,
    child: &Arc<Dentry>,
    must_be_directory: Option<bool>,
) -> Result<(), Errno> {
    let parent = &directory.dentry.inode;
    parent.check_access(credentials, WRITE | EXECUTE)?;
    let (user, inode) = (credentials.user.file_system, &child.inode);
    let sticky = parent.mode() & S_ISVTX != 0;
    if sticky && user != inode.user() && user != parent.user() && !credentials.overrides_permissions() {
        return Err(Errno::EPERM);
    }
    match must_be_directory {
        Some(true) if !inode.is_directory() => return Err(Errno::ENOTDIR),
        Some(false) if inode.is_directory() => return Err(Errno::EISDIR),
        _ => {}
    }
    if !directory.mount.file_system.kind.has_names_of_users() {
        return Err(Errno::EPERM);
    }
    if *child.mounts_here.get(tree) > 0 {
        return Err(Errno::EBUSY);
    }
    Ok(())
}

/// Resolves the file that `link(2)` gives another name.
pub fn find_link_source(
    context: &Context<'_>,
    start: Option<&Location>,
    path: &[u8],
    follow: bool,
    empty_path: bool,
) -> Result<Location, Errno> {
    let last = if follow { Last::Follow } else { Last::Keep };
    if empty_path { find_or_start(context, start, path, last) } else { find(context, start, path, last) }
}
