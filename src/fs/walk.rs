//! The path walk: from a path to a place in the tree (`path_resolution(7)`).
//!
//! The walk takes the tree's lock once and follows borrowed references. Only where procfs must make something up (a
//! process's directory, a link to its files) it lets go of the lock, asks, and goes on from there.

use super::context::Context;
use super::inode::{Body, Inode};
use super::mount::{Location, Place};
use super::tree::{self, Dentry, Name, Tree};
use crate::errno::Errno;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// A path with its terminating NUL is at most this long.
pub const PATH_MAX: usize = 4096;
/// One name is at most this long.
pub const NAME_MAX: usize = 255;
/// One walk follows at most this many symbolic links.
pub const LINKS_MAX: u32 = 40;

/// What to do with a symbolic link at the end of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Last {
    Follow,
    /// Unless a slash follows it.
    Keep,
}

/// The name that a path ends in, and whether a slash follows it, for calls that make or remove names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastName<'a> {
    pub kind: LastKind,
    pub name: &'a [u8],
    pub slash: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastKind {
    Ordinary,
    /// The path is made of slashes.
    Root,
    Dot,
    DotDot,
}

/// Where the quick part of a walk ended.
enum Stop<'a> {
    Arrived(Place<'a>),
    Outside(Outside),
}

/// The walk needs something that only procfs can give.
struct Outside {
    directory: Location,
    name: Name,
    /// The entry, where it is in the tree and is a link that procfs must resolve.
    link: Option<Arc<Dentry>>,
    /// What of the path is still to be walked after it.
    rest: Vec<u8>,
    follow: bool,
}

/// Finds what `path` names, starting at `start` (the current directory, if None) unless it begins with a slash.
pub fn find(context: &Context<'_>, start: Option<&Location>, path: &[u8], last: Last) -> Result<Location, Errno> {
    if path.is_empty() {
        return Err(Errno::ENOENT);
    }
    find_or_start(context, start, path, last)
}

/// As [`find`], but an empty path leads to `start` itself.
pub fn find_or_start(
    context: &Context<'_>,
    start: Option<&Location>,
    path: &[u8],
    last: Last,
) -> Result<Location, Errno> {
    let mut walk = Walk { links: 0, directory: false, last };
    let outside = {
        let tree = tree::lock();
        let start = start.unwrap_or(context.cwd);
        match walk.quick(&tree, context, start.as_place(), path)? {
            Stop::Arrived(place) => return Ok(place.to_location()),
            Stop::Outside(outside) => outside,
        }
    };
    walk.slowly(context, outside)
}

/// Finds the directory that `path`'s last name is in, or would be.
pub fn find_parent<'p>(
    context: &Context<'_>,
    start: Option<&Location>,
    path: &'p [u8],
) -> Result<(Location, LastName<'p>), Errno> {
    if path.is_empty() {
        return Err(Errno::ENOENT);
    }
    let (directory, last) = split_last(path);
    let parent = find_or_start(context, start, directory, Last::Follow)?;
    parent.dentry.inode.check_search(context.credentials)?;
    if last.name.len() > NAME_MAX {
        return Err(Errno::ENAMETOOLONG);
    }
    Ok((parent, last))
}

/// Parts a path into what leads to its last name, and that.
pub fn split_last(path: &[u8]) -> (&[u8], LastName<'_>) {
    let end = path.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
    let (stripped, slashes) = path.split_at(end);
    let start = stripped.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    let (directory, name) = stripped.split_at(start);
    let kind = match name {
        b"" => LastKind::Root,
        b"." => LastKind::Dot,
        b".." => LastKind::DotDot,
        _ => LastKind::Ordinary,
    };
    let directory = if kind == LastKind::Root { path } else { directory };
    (directory, LastName { kind, name, slash: !slashes.is_empty() })
}

struct Walk {
    links: u32,
    /// A slash followed the last name: only a directory will do.
    directory: bool,
    last: Last,
}

impl Walk {
    /// Walks as far as the tree alone can tell.
    fn quick<'a>(
        &mut self,
        tree: &'a Tree,
        context: &'a Context<'_>,
        start: Place<'a>,
        path: &'a [u8],
    ) -> Result<Stop<'a>, Errno> {
        let root = context.root.as_place();
        let (mut here, mut rest) = match path {
            [b'/', ..] => (root, without_slashes(path)),
            _ => (start, path),
        };
        // What is left of the paths whose symbolic links are being followed, innermost last.
        let mut outer: Vec<&'a [u8]> = Vec::new();
        loop {
            if rest.is_empty() {
                let Some(path) = outer.pop() else { return self.arrive(here).map(Stop::Arrived) };
                rest = path;
            }
            let inode = &here.dentry.inode;
            inode.check_search(context.credentials)?;
            let (name, after) = split_first(rest);
            let is_last = after.is_empty() && outer.is_empty();
            if is_last {
                self.directory |= name.len() < rest.len();
            }
            rest = after;
            match name {
                b"." => continue,
                b".." => {
                    here = here.up(tree, root);
                    continue;
                }
                _ if name.len() > NAME_MAX => return Err(Errno::ENAMETOOLONG),
                _ => {}
            }
            let Some(child) = here.dentry.child(tree, name) else {
                let Body::Generated(_) = inode.body else { return Err(Errno::ENOENT) };
                return Outside::new(here, name, None, rest, &outer, self.follows(is_last)).map(Stop::Outside);
            };
            let child = Place { mount: here.mount, dentry: child }.into_mounted(tree);
            if !(child.dentry.inode.is_symlink() && self.follows(is_last)) {
                here = child;
                continue;
            }
            self.count_link()?;
            let Body::Symlink(target) = &child.dentry.inode.body else {
                return Outside::new(here, name, Some(child.dentry), rest, &outer, true).map(Stop::Outside);
            };
            if !rest.is_empty() {
                outer.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
                outer.push(rest);
            }
            if target.first() == Some(&b'/') {
                here = root;
            }
            rest = without_slashes(target);
        }
    }

    /// Whether a symbolic link is followed here: only at the end of a path it may be what is wanted itself.
    #[inline]
    fn follows(&self, is_last: bool) -> bool {
        !is_last || self.directory || self.last == Last::Follow
    }

    /// Asks procfs for the next step and goes on, until the walk has arrived.
    #[cold]
    fn slowly(&mut self, context: &Context<'_>, mut outside: Outside) -> Result<Location, Errno> {
        loop {
            let Outside { directory, name, link, rest, follow } = outside;
            let dentry = match link {
                Some(link) => link,
                None => {
                    let made = generate(&directory.dentry, name)?;
                    if made.inode.is_symlink() && follow {
                        self.count_link()?;
                    }
                    made
                }
            };
            let (start, path) = match (&dentry.inode.body, dentry.inode.is_symlink() && follow) {
                (Body::Generated(link), true) => match link.destination()? {
                    Some(destination) => (destination, rest),
                    None => (directory, joined(link.target()?, &rest)?),
                },
                _ => (Location { mount: directory.mount, dentry }, rest),
            };
            let tree = tree::lock();
            match self.quick(&tree, context, start.as_place(), &path)? {
                Stop::Arrived(place) => return Ok(place.to_location()),
                Stop::Outside(next) => {
                    drop(tree);
                    outside = next;
                }
            }
        }
    }

    fn arrive<'a>(&self, place: Place<'a>) -> Result<Place<'a>, Errno> {
        if self.directory && !place.dentry.inode.is_directory() {
            return Err(Errno::ENOTDIR);
        }
        Ok(place)
    }

    fn count_link(&mut self) -> Result<(), Errno> {
        self.links += 1;
        if self.links > LINKS_MAX { Err(Errno::ELOOP) } else { Ok(()) }
    }
}

impl Outside {
    #[cold]
    fn new(
        here: Place<'_>,
        name: &[u8],
        link: Option<&Arc<Dentry>>,
        rest: &[u8],
        outer: &[&[u8]],
        follow: bool,
    ) -> Result<Self, Errno> {
        let mut path = joined(Vec::new(), rest)?;
        for outer in outer.iter().rev() {
            path = joined(path, outer)?;
        }
        let link = link.map(Arc::clone);
        Ok(Self { directory: here.to_location(), name: Name::new(name)?, link, rest: path, follow })
    }
}

/// Makes the entry of a generated directory.
fn generate(directory: &Arc<Dentry>, name: Name) -> Result<Arc<Dentry>, Errno> {
    let inode: Arc<Inode> = match &directory.inode.body {
        Body::Generated(generated) => generated.lookup(name.as_bytes())?,
        _ => return Err(Errno::ENOENT),
    };
    Dentry::detached(inode, Arc::clone(directory), name)
}

/// `path`, a slash, and `more`, if there is more. Of a trailing slash nothing remains: the walk remembers it.
fn joined(mut path: Vec<u8>, more: &[u8]) -> Result<Vec<u8>, Errno> {
    path.try_reserve(more.len() + 1).map_err(|_| Errno::ENOMEM)?;
    if !path.is_empty() && !more.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(more);
    Ok(path)
}

#[inline]
fn without_slashes(mut path: &[u8]) -> &[u8] {
    while let [b'/', rest @ ..] = path {
        path = rest;
    }
    path
}

/// The first name of a path that begins with one, and what follows its slashes.
#[inline]
fn split_first(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().position(|byte| *byte == b'/') {
        Some(slash) => {
            let (name, rest) = path.split_at(slash);
            (name, without_slashes(rest))
        }
        None => (path, &[]),
    }
}
