//! Directories: reading them, and which one a process is in: getdents64, getcwd, chdir, fchdir, chroot.

use super::argument::Fd;
use super::paths::{Caller, PathBuffer, file};
use crate::errno::Errno;
use crate::fs::attributes::check_enterable;
use crate::fs::file::File;
use crate::fs::generated::Listed;
use crate::fs::mount::{self, Location};
use crate::fs::tree;
use crate::fs::walk::{Last, PATH_MAX, find};
use crate::memory::user_access::{self, UserAddress};
use crate::task::Thread;
use alloc::vec::Vec;

/// Records are put together in the kernel, this many bytes at a time: the tree is locked meanwhile, so user memory can't be
/// written then.
const BATCH_BYTES: usize = 4096;

/// `struct linux_dirent64` up to its name: inode, position, length of the record, type.
const HEADER_BYTES: usize = 8 + 8 + 2 + 1;
/// `struct linux_dirent`: the same, but the type is the record's last byte.
const OLD_HEADER_BYTES: usize = 8 + 8 + 2;

pub fn getdents64(thread: &Thread, descriptor: Fd, buffer: UserAddress, size: u32) -> Result<usize, Errno> {
    let file = file(thread, descriptor)?;
    read_entries(&file, buffer, size as usize, push_record)
}

pub fn getdents(thread: &Thread, descriptor: Fd, buffer: UserAddress, size: u32) -> Result<usize, Errno> {
    let file = file(thread, descriptor)?;
    read_entries(&file, buffer, size as usize, push_old_record)
}

/// Records on their way to a program.
struct Batch {
    bytes: Vec<u8>,
    used: usize,
    /// How far `bytes` may be used.
    room: usize,
}

impl Batch {
    fn new(size: usize) -> Result<Self, Errno> {
        let mut bytes = Vec::new();
        let room = size.min(BATCH_BYTES);
        bytes.try_reserve_exact(room).map_err(|_| Errno::ENOMEM)?;
        bytes.resize(room, 0);
        Ok(Self { bytes, used: 0, room })
    }

    /// The place of a record with its header, a name and at least `after_name` more bytes, which are zero. None if it is full.
    #[inline]
    fn record(&mut self, header_bytes: usize, name: &[u8], after_name: usize) -> Option<&mut [u8]> {
        let end = self.used + ((header_bytes + name.len() + after_name + 7) & !7);
        if end > self.room {
            return None;
        }
        let record = self.bytes.get_mut(self.used..end)?;
        self.used = end;
        // What lies behind the name is in the last word; the rest of that word is written afterwards.
        *record.last_chunk_mut()? = 0u64.to_ne_bytes();
        record.get_mut(header_bytes..header_bytes + name.len())?.copy_from_slice(name);
        Some(record)
    }
}

/// Adds a record to a batch; false if it has no room for it.
type Push = fn(&mut Batch, &Listed<'_>) -> bool;

fn read_entries(file: &File, buffer: UserAddress, size: usize, push: Push) -> Result<usize, Errno> {
    let mut batch = Batch::new(size)?;
    let mut done = 0;
    loop {
        let position = file.position();
        let mut refused = false;
        (batch.used, batch.room) = (0, (size - done).min(BATCH_BYTES));
        file.read_directory(&mut |listed| {
            let pushed = push(&mut batch, listed);
            refused |= !pushed;
            pushed
        })?;
        let records = batch.bytes.get(..batch.used).unwrap_or_default();
        if records.is_empty() {
            // Not even one fits, or there is no more.
            return if refused && done == 0 { Err(Errno::EINVAL) } else { Ok(done) };
        }
        if let Err(error) = user_access::copy_out(buffer.offset(done as u64), records) {
            file.set_position(position);
            return if done == 0 { Err(error) } else { Ok(done) };
        }
        done += records.len();
        if !refused {
            return Ok(done);
        }
    }
}

fn push_record(batch: &mut Batch, listed: &Listed<'_>) -> bool {
    let Some(record) = batch.record(HEADER_BYTES, listed.name, 1) else { return false };
    let length = record.len() as u16;
    if let Some(header) = record.first_chunk_mut::<HEADER_BYTES>() {
        header[..8].copy_from_slice(&listed.inode_number.to_le_bytes());
        header[8..16].copy_from_slice(&listed.position.to_le_bytes());
        header[16..18].copy_from_slice(&length.to_le_bytes());
        header[18] = type_of(listed);
    }
    true
}

fn push_old_record(batch: &mut Batch, listed: &Listed<'_>) -> bool {
    let Some(record) = batch.record(OLD_HEADER_BYTES, listed.name, 2) else { return false };
    let length = record.len() as u16;
    if let Some(header) = record.first_chunk_mut::<OLD_HEADER_BYTES>() {
        header[..8].copy_from_slice(&listed.inode_number.to_le_bytes());
        header[8..16].copy_from_slice(&listed.position.to_le_bytes());
        header[16..].copy_from_slice(&length.to_le_bytes());
    }
    if let Some(last) = record.last_mut() {
        *last = type_of(listed);
    }
    true
}

/// `d_type`: the type's bits of the mode.
fn type_of(listed: &Listed<'_>) -> u8 {
    (listed.kind >> 12) as u8
}

/// ENOENT in a directory that was removed; a path outside the root begins with `(unreachable)`.
pub fn getcwd(thread: &Thread, buffer: UserAddress, size: usize) -> Result<usize, Errno> {
    let caller = Caller::of(thread)?;
    let path = path_of(caller.fs.root(), caller.fs.cwd())?;
    if path.len() > size {
        return Err(Errno::ERANGE);
    }
    user_access::copy_out(buffer, &path)?;
    Ok(path.len())
}

/// The path of a linked place as seen from `root`, with its NUL.
fn path_of(root: &Location, place: &Location) -> Result<Vec<u8>, Errno> {
    const UNREACHABLE: &[u8] = b"(unreachable)";
    let mut whole = Vec::new();
    whole.try_reserve_exact(UNREACHABLE.len() + PATH_MAX).map_err(|_| Errno::ENOMEM)?;
    whole.resize(UNREACHABLE.len() + PATH_MAX, 0);
    let end = whole.len() - 1;
    let room = whole.get_mut(UNREACHABLE.len()..end).unwrap_or_default();
    let tree = tree::lock();
    if !place.dentry.is_linked(&tree) {
        return Err(Errno::ENOENT);
    }
    let (path, reached) = mount::path_of(&tree, place.as_place(), root.as_place(), room)?;
    let start = end - path.len();
    drop(tree);
    let start = if reached {
        start
    } else {
        let from = start - UNREACHABLE.len();
        whole.get_mut(from..start).unwrap_or_default().copy_from_slice(UNREACHABLE);
        from
    };
    whole.drain(..start);
    Ok(whole)
}

pub fn chdir(thread: &Thread, path: UserAddress) -> Result<(), Errno> {
    let caller = Caller::of(thread)?;
    let mut buffer = PathBuffer::unfilled();
    let location = find(&caller.context(), None, buffer.read(path)?, Last::Follow)?;
    enter(thread, &caller, location)
}

pub fn fchdir(thread: &Thread, descriptor: Fd) -> Result<(), Errno> {
    let location = file(thread, descriptor)?.location.clone();
    enter(thread, &Caller::of(thread)?, location)
}

pub fn chroot(thread: &Thread, path: UserAddress) -> Result<(), Errno> {
    let caller = Caller::of(thread)?;
    let mut buffer = PathBuffer::unfilled();
    let location = find(&caller.context(), None, buffer.read(path)?, Last::Follow)?;
    check_enterable(&caller.context(), &location)?;
    if !caller.credentials.is_privileged() {
        return Err(Errno::EPERM);
    }
    let fs = thread.process.fs_context()?;
    let new = fs.lock().clone().with_root(location)?;
    let old = core::mem::replace(&mut *fs.lock(), new);
    drop(old);
    Ok(())
}

fn enter(thread: &Thread, caller: &Caller, location: Location) -> Result<(), Errno> {
    check_enterable(&caller.context(), &location)?;
    let fs = thread.process.fs_context()?;
    let new = fs.lock().clone().with_cwd(location)?;
    let old = core::mem::replace(&mut *fs.lock(), new);
    drop(old);
    Ok(())
}
