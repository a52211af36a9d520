//! The tree of names: directory entries, and the one lock over them.
//!
//! All that says which name leads where (a directory's names, an entry's parent and name, what is mounted where) is in
//! [`TreeCell`]s, and can be reached only with the token that the tree's lock gives out. A path walk takes the lock once and
//! then follows plain references, with no counting and no locking for each component; and a rename between two
//! directories is one step for everybody else. Nothing that can wait is done under it, and no user memory is touched.

use super::inode::Inode;
use super::names::{self, Names};
use crate::errno::Errno;
use crate::lock::{Guard, Lock, Rank};
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::cell::UnsafeCell;

static LOCK: Lock<()> = Lock::new(Rank::Directory, ());

/// Proof that the tree is locked: shared for looking, exclusive (`&mut`) for changing.
pub struct Tree(#[allow(dead_code, reason = "held for its drop")] Guard<'static, ()>);

#[inline]
#[track_caller]
pub fn lock() -> Tree {
    Tree(LOCK.lock())
}

/// A value that only the holder of the tree's lock may touch.
pub struct TreeCell<T>(UnsafeCell<T>);

// SAFETY: the value is reached only through a borrow of the one `Tree` token that exists at any time (`LOCK` sees to
// that): any number of shared borrows, or one exclusive borrow, and by one CPU.
unsafe impl<T: Send + Sync> Sync for TreeCell<T> {}

impl<T> TreeCell<T> {
    pub const fn new(value: T) -> Self {
        Self(UnsafeCell::new(value))
    }

    #[inline]
    pub fn get<'a>(&'a self, _: &'a Tree) -> &'a T {
        // SAFETY: the token is borrowed for as long as the result lives, so nobody holds it exclusively meanwhile.
        unsafe { &*self.0.get() }
    }

    #[inline]
    #[allow(clippy::mut_from_ref, reason = "exclusive by the token's borrow")]
    pub fn get_mut<'a>(&'a self, _: &'a mut Tree) -> &'a mut T {
        // SAFETY: there is one token, and it is borrowed exclusively for as long as the result lives.
        unsafe { &mut *self.0.get() }
    }

    /// Of a value that nobody else can reach.
    pub fn exclusive(&mut self) -> &mut T {
        self.0.get_mut()
    }
}

/// A name in the tree and the inode that it leads to. A directory has one; a file has one for each hard link.
pub struct Dentry {
    pub inode: Arc<Inode>,
    place: TreeCell<Place>,
    /// A directory's names. A parent holds its children, and they hold it: unlinking and [`Dentry::dissolve`] part them.
    names: TreeCell<Names<Arc<Dentry>>>,
    /// How many mounts hide this directory: zero means that the walk needn't look into the mount table.
    pub mounts_here: TreeCell<u32>,
}

struct Place {
    /// None for a file system's root. Kept after unlinking: `..` of a removed directory still leads up.
    parent: Option<Arc<Dentry>>,
    name: Name,
    linked: bool,
}

/// A file name: most are short and need no memory of their own.
pub enum Name {
    Short { length: u8, bytes: [u8; Name::SHORT] },
    Long(Box<[u8]>),
}

impl Name {
    const SHORT: usize = 30;

    pub fn new(name: &[u8]) -> Result<Self, Errno> {
        let mut bytes = [0; Self::SHORT];
        if let Some(start) = bytes.get_mut(..name.len()) {
            start.copy_from_slice(name);
            return Ok(Self::Short { length: name.len() as u8, bytes });
        }
        Ok(Self::Long(boxed(name)?))
    }

    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Short { length, bytes } => bytes.get(..usize::from(*length)).unwrap_or_default(),
            Self::Long(bytes) => bytes,
        }
    }
}

/// A copy of `bytes` on the heap, or ENOMEM.
pub fn boxed(bytes: &[u8]) -> Result<Box<[u8]>, Errno> {
    let mut copy = alloc::vec::Vec::new();
    copy.try_reserve_exact(bytes.len()).map_err(|_| Errno::ENOMEM)?;
    copy.extend_from_slice(bytes);
    Ok(copy.into_boxed_slice())
}

impl Dentry {
    /// The root of a file system.
    pub fn root(inode: Arc<Inode>) -> Result<Arc<Self>, Errno> {
        Self::allocate(inode, Place { parent: None, name: Name::new(b"/")?, linked: true })
    }

    /// An entry that is in no directory: [`Dentry::add`] puts it into its parent's names. One that never gets there is how
    /// procfs hands out what it makes up on demand.
    pub fn detached(inode: Arc<Inode>, parent: Arc<Dentry>, name: Name) -> Result<Arc<Self>, Errno> {
        Self::allocate(inode, Place { parent: Some(parent), name, linked: true })
    }

    /// An entry for a file that has no name (yet): O_TMPFILE.
    pub fn nameless(inode: Arc<Inode>, name: Name) -> Result<Arc<Self>, Errno> {
        Self::allocate(inode, Place { parent: None, name, linked: false })
    }

    fn allocate(inode: Arc<Inode>, place: Place) -> Result<Arc<Self>, Errno> {
        let dentry = Self {
            inode,
            place: TreeCell::new(place),
            names: TreeCell::new(Names::new()),
            mounts_here: TreeCell::new(0),
        };
        Arc::try_new(dentry).map_err(|_| Errno::ENOMEM)
    }

    #[inline]
    pub fn name<'a>(&'a self, tree: &'a Tree) -> &'a [u8] {
        self.place.get(tree).name.as_bytes()
    }

    #[inline]
    pub fn parent<'a>(&'a self, tree: &'a Tree) -> Option<&'a Arc<Dentry>> {
        self.place.get(tree).parent.as_ref()
    }

    /// False once the name was removed: nothing may be made in such a directory, and its path is no more.
    #[inline]
    pub fn is_linked(&self, tree: &Tree) -> bool {
        self.place.get(tree).linked
    }

    #[inline]
    pub fn names<'a>(&'a self, tree: &'a Tree) -> &'a Names<Arc<Dentry>> {
        self.names.get(tree)
    }

    #[inline]
    pub fn child<'a>(&'a self, tree: &'a Tree, name: &[u8]) -> Option<&'a Arc<Dentry>> {
        let names = self.names.get(tree);
        names.value(names.find(names::hash(name), |child| names::same(child.name(tree), name))?)
    }

    /// Makes room for one more name, so that [`Dentry::add`] can't fail.
    pub fn reserve(&self, tree: &mut Tree) -> Result<(), Errno> {
        self.names.get_mut(tree).reserve()
    }

    /// Puts `child` into this directory's names. [`Dentry::reserve`] has succeeded, and the name isn't there.
    pub fn add(&self, tree: &mut Tree, child: Arc<Dentry>) {
        let hash = names::hash(child.name(tree));
        self.names.get_mut(tree).insert(hash, child);
    }

    /// Takes `child` out of this directory's names.
    pub fn remove(&self, tree: &mut Tree, child: &Arc<Dentry>) -> Option<Arc<Dentry>> {
        let slot = self.slot_of(tree, child)?;
        let removed = self.names.get_mut(tree).remove(slot)?;
        child.place.get_mut(tree).linked = false;
        Some(removed)
    }

    /// Gives back what room there was for names that are gone. None may be reserved.
    pub fn shrink(&self, tree: &mut Tree) {
        self.names.get_mut(tree).shrink();
    }

    /// Puts `new`, which has got `old`'s name, in `old`'s place.
    pub fn replace(&self, tree: &mut Tree, old: &Arc<Dentry>, new: Arc<Dentry>) -> Option<Arc<Dentry>> {
        let slot = self.slot_of(tree, old)?;
        new.place.get_mut(tree).linked = true;
        old.place.get_mut(tree).linked = false;
        self.names.get_mut(tree).replace(slot, new)
    }

    /// Puts an entry into a slot whose name it is about to get.
    pub fn put_in_slot(&self, tree: &mut Tree, slot: usize, child: Arc<Dentry>) {
        self.names.get_mut(tree).replace(slot, child);
    }

    /// Tells an entry that is in no directory's names where it will be. Gives back what must be dropped without the lock.
    #[must_use]
    pub fn set_place(&self, tree: &mut Tree, parent: Arc<Dentry>, name: Name) -> (Option<Arc<Dentry>>, Name) {
        let place = self.place.get_mut(tree);
        place.linked = true;
        (place.parent.replace(parent), core::mem::replace(&mut place.name, name))
    }

    /// True if `self` is `other` or lies above it.
    pub fn is_ancestor_of(&self, tree: &Tree, other: &Arc<Dentry>) -> bool {
        let mut at = Some(other);
        while let Some(dentry) = at {
            if core::ptr::eq(self, Arc::as_ptr(dentry)) {
                return true;
            }
            at = dentry.parent(tree);
        }
        false
    }

    /// Parts all parents below and including `self` from their children, so that what nobody else holds is freed. For
    /// a file system that is unmounted. Needs neither memory nor stack, however deep the tree is.
    pub fn dissolve(self: &Arc<Self>) {
        let mut directory = Arc::clone(self);
        loop {
            let mut tree = lock();
            match directory.names.get_mut(&mut tree).pop() {
                Some(child) => {
                    child.place.get_mut(&mut tree).linked = false;
                    if !child.names(&tree).is_empty() {
                        directory = child;
                    }
                }
                None if Arc::ptr_eq(&directory, self) => return,
                None => match directory.parent(&tree).cloned() {
                    Some(parent) => directory = parent,
                    None => return,
                },
            }
        }
    }

    /// Where `child` is among this directory's names.
    pub fn slot_of(&self, tree: &Tree, child: &Arc<Dentry>) -> Option<usize> {
        let hash = names::hash(child.name(tree));
        self.names.get(tree).find(hash, |other| Arc::ptr_eq(other, child))
    }
}

impl Drop for Dentry {
    /// Lets go of the ancestors one by one: a chain of removed directories, each held by the next only, may be deeper than
    /// the kernel's stack.
    fn drop(&mut self) {
        let mut next = self.place.exclusive().parent.take();
        while let Some(parent) = next {
            next = Arc::into_inner(parent).and_then(|mut parent| parent.place.exclusive().parent.take());
        }
    }
}
