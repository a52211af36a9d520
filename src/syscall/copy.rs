//! Copies from file to file in the kernel: sendfile, copy_file_range.

use super::argument::Fd;
use super::paths::file;
use super::read_write::{limited, signalled, write_rules};
use crate::errno::Errno;
use crate::fs::File;
use crate::fs::open_flags::OpenFlags;
use crate::fs::transfer::{SliceSink, SliceSource};
use crate::memory::user_access::{self, UserAddress};
use crate::task::Thread;
use crate::task::yield_point::yield_point;

/// How much is moved at a time, through the kernel's stack.
const PIECE_BYTES: usize = 1024;

/// Where a copy reads or writes: at a position of its own, or at the file's.
#[derive(Clone, Copy)]
struct End<'a> {
    file: &'a File,
    position: Option<u64>,
}

pub fn sendfile(thread: &Thread, output: Fd, input: Fd, position: UserAddress, count: usize) -> Result<usize, Errno> {
    let (input, output) = (file(thread, input)?, file(thread, output)?);
    if !input.is_readable() || !output.is_writable() {
        return Err(Errno::EBADF);
    }
    // What can't be read twice would be lost where the output takes less than was read.
    if !input.is_seekable() || input.inode().is_directory() || output.flags().contains(OpenFlags::APPEND) {
        return Err(Errno::EINVAL);
    }
    let start = read_position(position, Errno::EINVAL)?;
    let from = End { file: &input, position: start };
    let copied = copy(thread, from, End { file: &output, position: None }, limited(count));
    write_position(position, start, &copied)?;
    copied
}

pub fn copy_file_range(
    thread: &Thread,
    input: Fd,
    input_position: UserAddress,
    output: Fd,
    output_position: UserAddress,
    count: usize,
    flags: u32,
) -> Result<usize, Errno> {
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    let (input, output) = (file(thread, input)?, file(thread, output)?);
    let from = read_position(input_position, Errno::EOVERFLOW)?;
    let to = read_position(output_position, Errno::EOVERFLOW)?;
    if input.inode().is_directory() || output.inode().is_directory() {
        return Err(Errno::EISDIR);
    }
    if input.content().is_err() || output.content().is_err() {
        return Err(Errno::EINVAL);
    }
    if !input.is_readable() || !output.is_writable() || output.flags().contains(OpenFlags::APPEND) {
        return Err(Errno::EBADF);
    }
    let (start, target) = (from.unwrap_or(input.position()), to.unwrap_or(output.position()));
    let count = limited(count).min(usize::try_from(input.inode().size().saturating_sub(start)).unwrap_or(usize::MAX));
    let overlaps = start < target.saturating_add(count as u64) && target < start.saturating_add(count as u64);
    if overlaps && core::ptr::eq(input.inode(), output.inode()) {
        return Err(Errno::EINVAL);
    }
    let copied = copy(thread, End { file: &input, position: from }, End { file: &output, position: to }, count);
    write_position(input_position, from, &copied)?;
    write_position(output_position, to, &copied)?;
    copied
}

fn copy(thread: &Thread, mut from: End<'_>, mut to: End<'_>, count: usize) -> Result<usize, Errno> {
    let mut done = 0;
    while done < count {
        let mut buffer = [0; PIECE_BYTES];
        let wanted = buffer.get_mut(..(count - done).min(PIECE_BYTES)).unwrap_or_default();
        let position = from.position.unwrap_or(from.file.position());
        let read = match from.file.read_at(position, &mut SliceSink::new(wanted)) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if done == 0 => return Err(error),
            Err(_) => break,
        };
        let mut source = SliceSource(wanted.get(..read).unwrap_or_default());
        let rules = || write_rules(thread);
        let written = match to.position {
            Some(position) => to.file.write_at(position, &mut source, rules),
            None => to.file.write(&mut source, rules),
        };
        let written = match signalled(thread, written) {
            Ok(written) => written,
            Err(error) if done == 0 => return Err(error),
            Err(_) => break,
        };
        from.advance(position, written);
        to.position = to.position.map(|position| position.saturating_add(written as u64));
        done += written;
        if written < read || yield_point() {
            break;
        }
    }
    Ok(done)
}

impl End<'_> {
    fn advance(&mut self, position: u64, count: usize) {
        let position = position.saturating_add(count as u64);
        match &mut self.position {
            Some(own) => *own = position,
            None => self.file.set_position(position),
        }
    }
}

/// Where to begin; `if_negative` is how the call refuses what lies before the start.
fn read_position(address: UserAddress, if_negative: Errno) -> Result<Option<u64>, Errno> {
    if address.is_null() {
        return Ok(None);
    }
    let position: i64 = user_access::read_value(address)?;
    u64::try_from(position).map(Some).map_err(|_| if_negative)
}

fn write_position(address: UserAddress, start: Option<u64>, copied: &Result<usize, Errno>) -> Result<(), Errno> {
    match (start, copied) {
        (Some(start), Ok(count)) => user_access::write_value(address, &start.saturating_add(*count as u64)),
        _ => Ok(()),
    }
}
