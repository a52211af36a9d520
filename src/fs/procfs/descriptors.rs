//! /proc/PID/fd and fdinfo: a process's open files.

use super::super::file::File;
use super::super::file_system::Kind;
use super::super::generated::{Generated, Listed, Text};
use super::super::inode::{Inode, S_IFLNK, S_IFREG};
use super::super::mount::Location;
use super::process::{allows, is_there, owned, path_text};
use super::{PROCESS_SHIFT, list_numbers, number_of};
use crate::errno::Errno;
use crate::task;
use crate::task::process::Process;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Where the inode numbers of descriptors begin within a process's.
const LINK_NUMBERS: u64 = 1 << 18;
const INFO_NUMBERS: u64 = 1 << 19;

/// The length that Linux shows for each link, whatever it leads to.
const LINK_SIZE: u64 = 64;

/// The directory of links, or that of the files that tell positions and flags.
pub(super) struct Directory {
    pub process: Arc<Process>,
    pub informs: bool,
}

/// A link to what a descriptor stands for.
struct Link {
    process: Arc<Process>,
    descriptor: u32,
}

struct Information(Link);

impl Directory {
    fn number(&self, descriptor: u32) -> u64 {
        let base = if self.informs { INFO_NUMBERS } else { LINK_NUMBERS };
        (u64::from(self.process.pid) << PROCESS_SHIFT) + base + u64::from(descriptor)
    }
}

impl Generated for Directory {
    /// Whoever it belongs to, a process finds its own files.
    fn is_callers_own(&self) -> bool {
        core::ptr::eq(Arc::as_ptr(&task::current().process), Arc::as_ptr(&self.process))
    }

    fn check_open(&self) -> Result<(), Errno> {
        if self.informs { allows(&self.process) } else { Ok(()) }
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<Inode>, Errno> {
        if self.informs {
            allows(&self.process)?;
        }
        let descriptor = number_of(name).ok_or(Errno::ENOENT)?;
        let link = Link { process: Arc::clone(&self.process), descriptor };
        let file = link.file()?;
        let number = self.number(descriptor);
        if self.informs {
            return owned(&self.process, number, S_IFREG | 0o444, Information(link));
        }
        // As on Linux the permissions show what the file is open for.
        let mode = 0o100 | if file.is_readable() { 0o400 } else { 0 } | if file.is_writable() { 0o200 } else { 0 };
        let inode = owned(&self.process, number, S_IFLNK | mode, link)?;
        inode.set_size(LINK_SIZE);
        Ok(inode)
    }

    fn list(&self, position: u64, emit: &mut dyn FnMut(Listed<'_>) -> bool) -> Result<(), Errno> {
        if !is_there(&self.process) {
            return Err(Errno::ENOENT);
        }
        allows(&self.process)?;
        let mut next = u32::try_from(position).unwrap_or(u32::MAX);
        let open = core::iter::from_fn(|| {
            let number = self.process.with_files(|files| Ok(files.next_open(next))).ok()??;
            next = number.saturating_add(1);
            Some(number)
        });
        list_numbers(open, |number| self.number(number), if self.informs { S_IFREG } else { S_IFLNK }, emit)
    }
}

impl Link {
    fn file(&self) -> Result<Arc<File>, Errno> {
        self.process.with_files(|files| files.get(self.descriptor)).map_err(|_| Errno::ENOENT)
    }
}

impl Generated for Link {
    fn target(&self) -> Result<Vec<u8>, Errno> {
        allows(&self.process)?;
        let file = self.file()?;
        if file.inode().file_system.kind == Kind::Pipefs {
            let mut text = Text::new();
            text.print(format_args!("pipe:[{}]", file.inode().number))?;
            return Ok(text.into_bytes());
        }
        path_text(&file.location)
    }

    fn destination(&self) -> Result<Option<Location>, Errno> {
        allows(&self.process)?;
        self.file().map(|file| Some(file.location.clone()))
    }
}

impl Generated for Information {
    fn text(&self) -> Result<Text, Errno> {
        allows(&self.0.process)?;
        let file = self.0.file()?;
        let (position, flags, mount) = (file.position(), file.flags().bits(), file.location.mount.id);
        let mut text = Text::new();
        text.print(format_args!("pos:\t{position}\nflags:\t0{flags:o}\nmnt_id:\t{mount}\n"))?;
        text.print(format_args!("ino:\t{}\n", file.inode().number))?;
        Ok(text)
    }
}
