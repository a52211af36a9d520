//! What a process brings along to file-system calls: its root, its current directory, its umask, and who it is.

use super::mount::Location;
use crate::task::credentials::Credentials;

/// The part that threads share with CLONE_FS.
#[derive(Clone)]
pub struct FsContext {
    pub root: Location,
    pub cwd: Location,
    pub umask: u32,
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

    pub fn new(root: Location) -> Self {
        Self { cwd: root.clone(), root, umask: Self::DEFAULT_UMASK }
    }

    #[inline]
    pub fn with<'a>(&'a self, credentials: &'a Credentials) -> Context<'a> {
        Context { root: &self.root, cwd: &self.cwd, umask: self.umask, credentials }
    }
}
