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

/// Adds a record to a batch that has room for it; false if it hasn't.
type Push = fn(&mut Vec<u8>, usize, &Listed<'_>) -> bool;

fn read_entries(file: &File, buffer: UserAddress, size: usize, push: Push) -> Result<usize, Errno> {
    let mut batch = Vec::new();
    batch.try_reserve_exact(size.min(BATCH_BYTES)).map_err(|_| Errno::ENOMEM)?;
    let mut done = 0;
    loop {
        let position = file.position();
        let room = (size - done).min(BATCH_BYTES);
        let mut refused = false;
        batch.clear();
        file.read_directory(&mut |listed| {
            let pushed = push(&mut batch, room, listed);
            refused |= !pushed;
            pushed
        })?;
        if batch.is_empty() {
            // Not even one fits, or there is no more.
            return if refused && done == 0 { Err(Errno::EINVAL) } else { Ok(done) };
        }
        if let Err(error) = user_access::copy_out(buffer.offset(done as u64), &batch) {
            file.set_position(position);
            return if done == 0 { Err(error) } else { Ok(done) };
        }
        done += batch.len();
        if !refused {
            return Ok(done);
        }
    }
}

fn push_record(batch: &mut Vec<u8>, room: usize, listed: &Listed<'_>) -> bool {
    let length = (HEADER_BYTES + listed.name.len() + 1).next_multiple_of(8);
    let end = batch.len() + length;
    if end > room.min(batch.capacity()) {
        return false;
    }
    let mut header = [0; HEADER_BYTES];
    let [number, position] = [listed.inode_number, listed.position].map(u64::to_le_bytes);
    header[..8].copy_from_slice(&number);
    header[8..16].copy_from_slice(&position);
    header[16..18].copy_from_slice(&(length as u16).to_le_bytes());
    header[18] = type_of(listed);
    batch.extend_from_slice(&header);
    batch.extend_from_slice(listed.name);
    batch.resize(end, 0);
    true
}

fn push_old_record(batch: &mut Vec<u8>, room: usize, listed: &Listed<'_>) -> bool {
    let length = (OLD_HEADER_BYTES + listed.name.len() + 2).next_multiple_of(8);
    let end = batch.len() + length;
    if end > room {
        return false;
    }
    batch.extend_from_slice(&listed.inode_number.to_le_bytes());
    batch.extend_from_slice(&listed.position.to_le_bytes());
    batch.extend_from_slice(&(length as u16).to_le_bytes());
    batch.extend_from_slice(listed.name);
    batch.resize(end - 1, 0);
    batch.push(type_of(listed));
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
