//! Files as execve opens them: regular, executable by the caller, and not written to as long as they run.

use super::load::MappableFile;
use super::{ExecutableFile, FileRights, Programs};
use crate::errno::Errno;
use crate::fs::inode::{Body, EXECUTE, Inode, READ, S_ISGID, S_ISUID, S_IXGRP};
use crate::fs::mount::{Location, MountFlags};
use crate::fs::transfer::SliceSink;
use crate::fs::walk::{Last, find};
use crate::fs::{Context, File};
use crate::memory::PageSource;
use crate::task::credentials::Credentials;
use alloc::sync::Arc;

/// A program file that runs, or is about to. Nobody can write to it until it is dropped (ETXTBSY, both ways).
pub struct ProgramFile {
    file: Arc<File>,
}

/// The file system as one caller of execve sees it.
pub struct ProgramFiles<'a> {
    pub context: Context<'a>,
    pub credentials: &'a Arc<Credentials>,
    /// PR_SET_NO_NEW_PRIVS: set-ID bits count for nothing.
    pub no_new_privileges: bool,
    /// Another process has the same root and working directory, and could lead a program astray by changing them.
    pub shares_directories: bool,
}

impl ProgramFile {
    /// The file at a place that has been found. EACCES where it isn't a regular file, the caller may not execute it, or
    /// its mount says noexec.
    pub fn new(location: Location, credentials: &Credentials) -> Result<Self, Errno> {
        let inode = &location.dentry.inode;
        if inode.is_symlink() {
            return Err(Errno::ELOOP);
        }
        if !inode.is_regular() || location.mount.flags().contains(MountFlags::NO_EXECUTE) {
            return Err(Errno::EACCES);
        }
        inode.check_access(credentials, EXECUTE)?;
        let file = Arc::try_new(File::for_execution(location)?).map_err(|_| Errno::ENOMEM)?;
        file.inode().deny_write()?;
        Ok(Self { file })
    }

    /// Where it is, for /proc/PID/exe.
    pub fn location(&self) -> &Location {
        &self.file.location
    }

    fn inode(&self) -> &Inode {
        self.file.inode()
    }
}

impl Drop for ProgramFile {
    fn drop(&mut self) {
        self.inode().end_deny_write();
    }
}

impl ExecutableFile for ProgramFile {
    fn size(&self) -> u64 {
        self.inode().size()
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<usize, Errno> {
        let Body::Regular(content) = &self.inode().body else { return Err(Errno::EIO) };
        content.read(self.inode(), offset, &mut SliceSink::new(into))
    }
}

impl MappableFile for ProgramFile {
    fn pages(&self) -> Arc<dyn PageSource> {
        self.file.clone()
    }
}

impl Programs for ProgramFiles<'_> {
    type File = ProgramFile;

    fn open(&self, path: &[u8]) -> Result<ProgramFile, Errno> {
        ProgramFile::new(find(&self.context, None, path, Last::Follow)?, self.credentials)
    }

    fn rights(&self, file: &ProgramFile) -> Result<FileRights, Errno> {
        let (inode, old) = (file.inode(), self.credentials);
        let counts = !self.no_new_privileges && !file.location().mount.flags().contains(MountFlags::NO_SET_ID);
        let mode = if counts { inode.mode() } else { 0 };
        // Without group execution the set-group-ID bit means something else.
        let sets_group = mode & S_ISGID != 0 && mode & S_IXGRP != 0;
        let sets_user = mode & S_ISUID != 0;
        let mut user = old.user.set_by_exec(sets_user.then(|| inode.user()));
        let mut group = old.group.set_by_exec(sets_group.then(|| inode.group()));
        let changes_ids = user.effective != old.user.effective || !old.is_in_group(group.effective);
        if changes_ids && self.shares_directories && !old.is_privileged() {
            (user, group) = (old.user.set_by_exec(None), old.group.set_by_exec(None));
        }
        let credentials = match user == old.user && group == old.group {
            true => old.clone(),
            false => Arc::try_new(Credentials::new(user, group, old.groups())?).map_err(|_| Errno::ENOMEM)?,
        };
        let may_be_read = inode.check_access(old, READ).is_ok();
        Ok(FileRights { credentials, sets_ids: sets_user || sets_group, changes_ids, may_be_read })
    }
}
