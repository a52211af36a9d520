//! What a process brings along to file-system calls: its root, its current directory, its umask, and who it is.

use super::mount::Location;
use crate::errno::Errno;
use crate::task::credentials::Credentials;
use alloc::sync::Arc;

/// The part that threads share with CLONE_FS. A call works on a copy, which costs one count: the places themselves are
/// replaced, never changed.
#[derive(Clone)]
pub struct FsContext {
    pub umask: u32,
    places: Arc<Places>,
}

struct Places {
    root: Location,
    cwd: Location,
}

/// All of it, for the length of one call.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    pub root: &'a Location,
    pub cwd: &'a Location,
    pub umask: u32,
    pub credentials: &'a Credentials,
}

impl FsContext {
    pub const DEFAULT_UMASK: u32 = 0o022;

    pub fn new(root: Location, cwd: Location) -> Result<Self, Errno> {
        let places = Arc::try_new(Places { root, cwd }).map_err(|_| Errno::ENOMEM)?;
        Ok(Self { umask: Self::DEFAULT_UMASK, places })
    }

    pub fn root(&self) -> &Location {
        &self.places.root
    }

    pub fn cwd(&self) -> &Location {
        &self.places.cwd
    }

    /// This context with another current directory.
    pub fn with_cwd(&self, cwd: Location) -> Result<Self, Errno> {
        Ok(Self { umask: self.umask, ..Self::new(self.root().clone(), cwd)? })
    }

    /// This context with another root.
    pub fn with_root(&self, root: Location) -> Result<Self, Errno> {
        Ok(Self { umask: self.umask, ..Self::new(root, self.cwd().clone())? })
    }

    #[inline]
    pub fn with<'a>(&'a self, credentials: &'a Credentials) -> Context<'a> {
        Context { root: &self.places.root, cwd: &self.places.cwd, umask: self.umask, credentials }
    }
}
