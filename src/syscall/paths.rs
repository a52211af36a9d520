//! How system calls take paths: the string, the directory that it starts at, and who asks.

use super::argument::Fd;
use crate::errno::Errno;
use crate::fs::mount::Location;
use crate::fs::walk::{Last, PATH_MAX, find, find_or_start};
use crate::fs::{Context, File, FsContext};
use crate::memory::user_access::{self, UserAddress};
use crate::task::Thread;
use crate::task::credentials::Credentials;
use alloc::sync::Arc;
use core::mem::MaybeUninit;

pub const AT_SYMLINK_NOFOLLOW: u32 = 0x100;
pub const AT_REMOVEDIR: u32 = 0x200;
pub const AT_EACCESS: u32 = 0x200;
pub const AT_SYMLINK_FOLLOW: u32 = 0x400;
pub const AT_NO_AUTOMOUNT: u32 = 0x800;
pub const AT_EMPTY_PATH: u32 = 0x1000;

/// Room for a path from user memory, on the stack.
pub struct PathBuffer([MaybeUninit<u8>; PATH_MAX]);

/// Who makes a call: what a path walk needs to know of the process.
pub struct Caller {
    pub fs: FsContext,
    pub credentials: Arc<Credentials>,
}

impl PathBuffer {
    #[inline]
    pub const fn unfilled() -> Self {
        Self([const { MaybeUninit::uninit() }; PATH_MAX])
    }

    /// Copies the path in; with its NUL it must fit into PATH_MAX bytes.
    #[inline]
    pub fn read(&mut self, address: UserAddress) -> Result<&[u8], Errno> {
        user_access::read_string_uninit(&mut self.0, address)?.ok_or(Errno::ENAMETOOLONG)
    }

    /// As [`read`](Self::read), where the path may be empty and so even absent.
    pub fn read_optional(&mut self, address: UserAddress, may_be_empty: bool) -> Result<&[u8], Errno> {
        if may_be_empty && address.is_null() { Ok(&[]) } else { self.read(address) }
    }
}

impl Caller {
    #[inline]
    pub fn of(thread: &Thread) -> Result<Self, Errno> {
        let fs = thread.process.fs_context()?.lock().clone();
        Ok(Self { fs, credentials: thread.process.credentials() })
    }

    #[inline]
    pub fn context(&self) -> Context<'_> {
        self.fs.with(&self.credentials)
    }
}

/// The open file behind a descriptor.
#[inline]
pub fn file(thread: &Thread, descriptor: Fd) -> Result<Arc<File>, Errno> {
    thread.process.with_files(|files| files.get(descriptor.0 as u32))
}

/// Where a path begins, for the `*at` calls; None for the current directory. Whether it is a directory shows in the walk.
#[inline]
pub fn start_of(thread: &Thread, directory: Fd, path: &[u8]) -> Result<Option<Location>, Errno> {
    if directory == Fd::CWD || path.first() == Some(&b'/') {
        return Ok(None);
    }
    Ok(Some(file(thread, directory)?.location.clone()))
}

/// The place that a call with `AT_SYMLINK_NOFOLLOW` and `AT_EMPTY_PATH` in its flags is about.
pub fn place_of(
    thread: &Thread,
    caller: &Caller,
    directory: Fd,
    path: UserAddress,
    flags: u32,
) -> Result<Location, Errno> {
    let mut buffer = PathBuffer::unfilled();
    let empty_is_start = flags & AT_EMPTY_PATH != 0;
    let path = buffer.read_optional(path, empty_is_start)?;
    let last = if flags & AT_SYMLINK_NOFOLLOW != 0 { Last::Keep } else { Last::Follow };
    let start = start_of(thread, directory, path)?;
    let context = caller.context();
    if empty_is_start {
        return find_or_start(&context, start.as_ref(), path, last);
    }
    find(&context, start.as_ref(), path, last)
}
