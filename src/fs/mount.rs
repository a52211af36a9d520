//! Mounts: which file system's tree is seen at which place of another.

use super::file_system::{FileSystem, Kind};
use super::tree::{self, Dentry, Tree, TreeCell};
use crate::errno::Errno;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use bitflags::bitflags;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

bitflags! {
    /// What is forbidden or left out under a mount, with `mount(2)`'s values.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct MountFlags: u32 {
        const READ_ONLY = 1;
        const NO_SET_ID = 2;
        const NO_DEVICES = 4;
        const NO_EXECUTE = 8;
        const NO_ACCESS_TIME = 1024;
    }
}

/// One file system's tree, or a part of it, as seen from one place.
pub struct Mount {
    pub id: u32,
    pub file_system: Arc<FileSystem>,
    pub root: Arc<Dentry>,
    /// What `mount` was told to mount, for /proc/mounts.
    pub source: Box<[u8]>,
    flags: AtomicU32,
    /// The directory that it hides; None for the root of all and for what is mounted no more.
    on: TreeCell<Option<Location>>,
}

/// A place in the tree as programs see it: the same directory may be seen through several mounts.
#[derive(Clone)]
pub struct Location {
    pub mount: Arc<Mount>,
    pub dentry: Arc<Dentry>,
}

/// A place, borrowed for as long as the tree is locked.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    pub mount: &'a Arc<Mount>,
    pub dentry: &'a Arc<Dentry>,
}

/// There are no more mounts than this: they are looked for one by one. (Linux has a limit for each namespace, too.)
const MOUNTS_MAX: usize = 1024;

/// All mounts, in the order in which they were made.
static MOUNTS: TreeCell<Vec<Arc<Mount>>> = TreeCell::new(Vec::new());

impl Location {
    #[inline]
    pub fn as_place(&self) -> Place<'_> {
        Place { mount: &self.mount, dentry: &self.dentry }
    }

    pub fn is(&self, other: &Self) -> bool {
        self.as_place().is(other.as_place())
    }
}

impl<'a> Place<'a> {
    #[inline]
    pub fn is(self, other: Place<'_>) -> bool {
        Arc::ptr_eq(self.dentry, other.dentry) && Arc::ptr_eq(self.mount, other.mount)
    }

    #[inline]
    pub fn to_location(self) -> Location {
        Location { mount: Arc::clone(self.mount), dentry: Arc::clone(self.dentry) }
    }

    /// The root of what is mounted here, and of what is mounted on that; or this place.
    #[inline]
    pub fn into_mounted(self, tree: &'a Tree) -> Place<'a> {
        if self.has_mounts(tree) { self.into_mounted_slowly(tree) } else { self }
    }

    /// Something is mounted on its entry, here or elsewhere: the same entry may be seen through several mounts.
    #[inline]
    fn has_mounts(self, tree: &Tree) -> bool {
        *self.dentry.mounts_here.get(tree) != 0
    }

    #[cold]
    fn into_mounted_slowly(self, tree: &'a Tree) -> Place<'a> {
        let (mut place, mut next) = (self, 0);
        while place.has_mounts(tree)
            && let Some((number, mount)) = mounted_on(tree, place, next)
        {
            place = Place { mount, dentry: &mount.root };
            next = number + 1;
        }
        place
    }

    /// The place that `..` leads to from here, seen by a process whose root is `root`.
    pub fn up(self, tree: &'a Tree, root: Place<'a>) -> Place<'a> {
        let mut place = self;
        loop {
            if place.is(root) {
                return place;
            }
            if !Arc::ptr_eq(place.dentry, &place.mount.root) {
                let dentry = place.dentry.parent(tree).unwrap_or(place.dentry);
                return Place { mount: place.mount, dentry }.into_mounted(tree);
            }
            match place.mount.on.get(tree) {
                Some(on) => place = on.as_place(),
                None => return place,
            }
        }
    }

    pub fn is_mount_root(self) -> bool {
        Arc::ptr_eq(self.dentry, &self.mount.root)
    }
}

impl Mount {
    pub fn flags(&self) -> MountFlags {
        MountFlags::from_bits_truncate(self.flags.load(Relaxed))
    }

    pub fn set_flags(&self, flags: MountFlags) {
        self.flags.store(flags.bits(), Relaxed);
    }

    /// EROFS where nothing may be changed.
    #[inline]
    pub fn check_writable(&self) -> Result<(), Errno> {
        if self.flags.load(Relaxed) & MountFlags::READ_ONLY.bits() == 0 { Ok(()) } else { Err(Errno::EROFS) }
    }

    /// Where it is mounted.
    pub fn on<'a>(&'a self, tree: &'a Tree) -> Option<&'a Location> {
        self.on.get(tree).as_ref()
    }
}

/// All mounts, for /proc/mounts.
pub fn all(tree: &Tree) -> &[Arc<Mount>] {
    MOUNTS.get(tree)
}

/// False for what is mounted no more, and for what never was where programs could find it.
pub fn is_in_table(tree: &Tree, mount: &Arc<Mount>) -> bool {
    all(tree).iter().any(|other| Arc::ptr_eq(other, mount))
}

/// Mounts the tree below `root` (of `file_system`) on the directory `on`, or, without one, as a root that nothing lies above.
pub fn mount(
    file_system: &Arc<FileSystem>,
    root: &Arc<Dentry>,
    source: &[u8],
    flags: MountFlags,
    on: Option<&Location>,
) -> Result<Arc<Mount>, Errno> {
    let new = detached(file_system, root, source, flags)?;
    let mut tree = tree::lock();
    if all(&tree).len() >= MOUNTS_MAX {
        return Err(Errno::ENOSPC);
    }
    MOUNTS.get_mut(&mut tree).try_reserve(1).map_err(|_| Errno::ENOMEM)?;
    if let Some(on) = on {
        // What is mounted there already is covered in its turn.
        let top = on.as_place().into_mounted(&tree).to_location();
        if !top.dentry.is_linked(&tree) || !is_in_table(&tree, &top.mount) {
            return Err(Errno::ENOENT);
        }
        *top.dentry.mounts_here.get_mut(&mut tree) += 1;
        *new.on.get_mut(&mut tree) = Some(top);
    }
    MOUNTS.get_mut(&mut tree).push(Arc::clone(&new));
    Ok(new)
}

/// A mount that isn't in the tree: its files are reached only by those who have them.
pub fn detached(
    file_system: &Arc<FileSystem>,
    root: &Arc<Dentry>,
    source: &[u8],
    flags: MountFlags,
) -> Result<Arc<Mount>, Errno> {
    static NEXT_ID: AtomicU32 = AtomicU32::new(1);
    let source = tree::boxed(source)?;
    // From here on dropping it takes this back.
    file_system.count_mount();
    let new = Mount {
        id: NEXT_ID.fetch_add(1, Relaxed),
        file_system: Arc::clone(file_system),
        root: Arc::clone(root),
        source,
        flags: AtomicU32::new(flags.bits()),
        on: TreeCell::new(None),
    };
    Arc::try_new(new).map_err(|_| Errno::ENOMEM)
}

/// Moves a mount, and what is mounted in it, to another place. EINVAL for the root of all, ELOOP for a place within.
pub fn move_to(mount: &Mount, target: &Location) -> Result<(), Errno> {
    let mut tree = tree::lock();
    if mount.on(&tree).is_none() {
        return Err(Errno::EINVAL);
    }
    let top = target.as_place().into_mounted(&tree).to_location();
    let mut above = Some(&top);
    while let Some(place) = above {
        if core::ptr::eq(Arc::as_ptr(&place.mount), mount) {
            return Err(Errno::ELOOP);
        }
        above = place.mount.on(&tree);
    }
    if !top.dentry.is_linked(&tree) {
        return Err(Errno::ENOENT);
    }
    *top.dentry.mounts_here.get_mut(&mut tree) += 1;
    let before = detach(&mut tree, mount);
    *mount.on.get_mut(&mut tree) = Some(top);
    drop(tree);
    drop(before);
    Ok(())
}

/// Takes a mount from its place, which is returned.
fn detach(tree: &mut Tree, mount: &Mount) -> Option<Location> {
    let on = mount.on.get_mut(tree).take()?;
    *on.dentry.mounts_here.get_mut(tree) -= 1;
    Some(on)
}

/// Takes a mount away. EBUSY while anybody is in it, unless `lazily`: then it is only no longer to be found, and neither
/// is what is mounted in it.
pub fn unmount(mount: Arc<Mount>, lazily: bool) -> Result<(), Errno> {
    let mut tree = tree::lock();
    if !is_in_table(&tree, &mount) {
        return Err(Errno::EINVAL);
    }
    if mount.on(&tree).is_none() {
        return Err(Errno::EBUSY);
    }
    // The table and the caller each hold it once; so does everybody who is in it, and what is mounted in it.
    if !lazily && Arc::strong_count(&mount) > 2 {
        return Err(Errno::EBUSY);
    }
    let (mut gone, mut places) = (Vec::new(), Vec::new());
    let most = all(&tree).len();
    gone.try_reserve_exact(most).map_err(|_| Errno::ENOMEM)?;
    places.try_reserve_exact(most).map_err(|_| Errno::ENOMEM)?;
    take_from_table(&mut tree, &mut gone, |_, other| Arc::ptr_eq(other, &mount));
    let mut index = 0;
    while let Some(outer) = gone.get(index).map(Arc::clone) {
        places.extend(detach(&mut tree, &outer));
        take_from_table(&mut tree, &mut gone, |tree, inner| {
            inner.on(tree).is_some_and(|on| Arc::ptr_eq(&on.mount, &outer))
        });
        index += 1;
    }
    drop(tree);
    drop((gone, places, mount));
    Ok(())
}

/// Moves those of the mounts that `goes` names to `gone`, which has room for all.
fn take_from_table(tree: &mut Tree, gone: &mut Vec<Arc<Mount>>, goes: impl Fn(&Tree, &Arc<Mount>) -> bool) {
    while let Some(number) = all(tree).iter().position(|mount| goes(tree, mount)) {
        gone.push(MOUNTS.get_mut(tree).remove(number));
    }
}

impl Drop for Mount {
    /// The last mount of a file system takes its tree with it. Each mount of it holds its root, or a directory below.
    fn drop(&mut self) {
        // There is one of each of the kernel's own, which stays for the next mount.
        if self.file_system.uncount_mount() || self.file_system.kind != Kind::Tmpfs {
            return;
        }
        let tree = tree::lock();
        let mut top = Arc::clone(&self.root);
        while let Some(parent) = top.parent(&tree).cloned() {
            top = parent;
        }
        drop(tree);
        top.dissolve();
    }
}

/// The mount that covers a place, and its number in the table. Looked for from number `first` on, and then from the beginning:
/// what is mounted on a mount was mostly made after it, so a high pile of them is climbed in one pass.
fn mounted_on<'a>(tree: &'a Tree, place: Place<'_>, first: usize) -> Option<(usize, &'a Arc<Mount>)> {
    let covers = |mount: &Mount| mount.on(tree).is_some_and(|on| on.as_place().is(place));
    let numbered = || all(tree).iter().enumerate();
    numbered().skip(first).chain(numbered().take(first)).find(|(_, mount)| covers(mount))
}

/// The path of `place` as seen from `root`, written backwards into the end of `buffer`; returns where it starts, and
/// whether `root` was reached (if not, the path leads to the top of a tree that isn't mounted below it). ENAMETOOLONG if
/// the buffer is too small.
pub fn path_of<'b>(
    tree: &Tree,
    place: Place<'_>,
    root: Place<'_>,
    buffer: &'b mut [u8],
) -> Result<(&'b [u8], bool), Errno> {
    let mut start = buffer.len();
    let mut at = place;
    let mut prepend = |bytes: &[u8], start: &mut usize| -> Result<(), Errno> {
        let from = start.checked_sub(bytes.len()).ok_or(Errno::ENAMETOOLONG)?;
        buffer.get_mut(from..*start).ok_or(Errno::ENAMETOOLONG)?.copy_from_slice(bytes);
        *start = from;
        Ok(())
    };
    let reached = loop {
        if at.is(root) {
            break true;
        }
        if at.is_mount_root() {
            match at.mount.on(tree) {
                Some(on) => at = on.as_place(),
                None => break false,
            }
            continue;
        }
        prepend(at.dentry.name(tree), &mut start)?;
        prepend(b"/", &mut start)?;
        match at.dentry.parent(tree) {
            Some(parent) => at = Place { mount: at.mount, dentry: parent },
            None => break false,
        }
    };
    if start == buffer.len() {
        let from = start.checked_sub(1).ok_or(Errno::ENAMETOOLONG)?;
        *buffer.get_mut(from).ok_or(Errno::ENAMETOOLONG)? = b'/';
        start = from;
    }
    Ok((buffer.get(start..).unwrap_or_default(), reached))
}
