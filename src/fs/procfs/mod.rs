//! /proc: what the kernel knows of processes and of itself, as files (`proc(5)`).
//!
//! Files about the whole system are in the tree; a process's directory is made when somebody looks for it, and forgotten
//! when nobody holds it. Texts are made when a file is read from its start.

mod descriptors;
mod process;
mod status;
mod system;

use super::file_system::{FileSystem, Kind};
use super::generated::{Generated, Listed, Text};
use super::inode::{Attributes, Body, Inode, S_IFDIR, S_IFLNK, S_IFREG};
use super::tmpfs;
use super::tree::{self, Dentry, Name};
use crate::errno::Errno;
use crate::lock::{Lock, Rank};
use crate::task::process::tasks;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::Write;
pub use system::address_randomness;

/// Inode numbers of what belongs to a process: its id, above the numbers of what is in the tree.
const PROCESS_SHIFT: u32 = 20;

/// A file's text, by the function that writes it.
struct TextFile(fn(&mut Text) -> Result<(), Errno>);

/// A file with a text that can be set, too.
struct Setting {
    text: fn(&mut Text) -> Result<(), Errno>,
    set: fn(&[u8]) -> Result<(), Errno>,
}

/// The one proc file system.
static MADE: Lock<Option<tmpfs::Made>> = Lock::new(Rank::Mounts, None);

/// The file system; made when it is first asked for.
pub fn new() -> Result<tmpfs::Made, Errno> {
    if let Some(made) = &*MADE.lock() {
        return Ok(made.clone());
    }
    let made = make()?;
    *MADE.lock() = Some(made.clone());
    Ok(made)
}

fn make() -> Result<tmpfs::Made, Errno> {
    let file_system = FileSystem::new(Kind::Proc, 0)?;
    let root = Dentry::root(inode(&file_system, None, S_IFDIR | 0o555, Root)?)?;
    for (name, text) in system::FILES {
        add(&file_system, &root, name, S_IFREG | 0o444, TextFile(*text))?;
    }
    // Events tell of addresses in the kernel, and of what others do: root's alone.
    let trace = Setting { text: system::trace, set: system::set_trace };
    add(&file_system, &root, b"trace", S_IFREG | 0o600, trace)?;
    // How much of what the kernel has allocated tells of what others do, too.
    add(&file_system, &root, b"slabinfo", S_IFREG | 0o400, TextFile(system::slab_info))?;
    for (name, link) in [(&b"self"[..], process::OwnLink::Process), (b"thread-self", process::OwnLink::Thread)] {
        add(&file_system, &root, name, S_IFLNK | 0o777, link)?;
    }
    let link = Inode::new(&file_system, attributes(S_IFLNK | 0o777), Body::Symlink(tree::boxed(b"self/mounts")?))?;
    tmpfs::add(&root, Name::new(b"mounts")?, link)?;
    let sys = directory(&file_system, &root, b"sys")?;
    for (name, files) in system::SETTINGS {
        let below = directory(&file_system, &sys, name)?;
        for (name, text, set) in *files {
            match set {
                Some(set) => add(&file_system, &below, name, S_IFREG | 0o644, Setting { text: *text, set: *set })?,
                None => add(&file_system, &below, name, S_IFREG | 0o444, TextFile(*text))?,
            }
        }
    }
    Ok((file_system, root))
}

fn directory(file_system: &Arc<FileSystem>, parent: &Arc<Dentry>, name: &[u8]) -> Result<Arc<Dentry>, Errno> {
    let inode = Inode::new(file_system, attributes(S_IFDIR | 0o555), Body::Directory)?;
    tmpfs::add(parent, Name::new(name)?, inode)
}

fn add(
    file_system: &Arc<FileSystem>,
    parent: &Arc<Dentry>,
    name: &[u8],
    mode: u32,
    generated: impl Generated + 'static,
) -> Result<(), Errno> {
    tmpfs::add(parent, Name::new(name)?, inode(file_system, None, mode, generated)?).map(|_| ())
}

/// An inode of root's; `number` is given for those that must have the same one each time.
fn inode(
    file_system: &Arc<FileSystem>,
    number: Option<u64>,
    mode: u32,
    generated: impl Generated + 'static,
) -> Result<Arc<Inode>, Errno> {
    let generated: Box<dyn Generated> = Box::try_new(generated).map_err(|_| Errno::ENOMEM)?;
    let number = number.unwrap_or_else(|| file_system.next_inode_number());
    Inode::with_number(file_system, number, attributes(mode), Body::Generated(generated))
}

fn attributes(mode: u32) -> Attributes {
    Attributes { mode, user: 0, group: 0 }
}

/// The file system, for inodes that are made on demand.
fn file_system() -> Result<Arc<FileSystem>, Errno> {
    Ok(new()?.0)
}

impl Generated for TextFile {
    fn text(&self) -> Result<Text, Errno> {
        let mut text = Text::new();
        (self.0)(&mut text)?;
        Ok(text)
    }
}

impl Generated for Setting {
    fn text(&self) -> Result<Text, Errno> {
        let mut text = Text::new();
        (self.text)(&mut text)?;
        Ok(text)
    }

    fn write(&self, bytes: &[u8]) -> Result<(), Errno> {
        (self.set)(bytes)
    }
}

/// The root directory, as far as it isn't in the tree: a directory for each process.
struct Root;

impl Generated for Root {
    fn lookup(&self, name: &[u8]) -> Result<Arc<Inode>, Errno> {
        let pid = number_of(name).ok_or(Errno::ENOENT)?;
        let process = tasks().family.get(pid).map(|member| Arc::clone(&member.value));
        process::directory(process.ok_or(Errno::ENOENT)?)
    }

    fn list(&self, position: u64, emit: &mut dyn FnMut(Listed<'_>) -> bool) -> Result<(), Errno> {
        let mut pids = Vec::new();
        {
            let tasks = tasks();
            for (pid, _) in tasks.family.iter().filter(|(pid, _)| u64::from(*pid) >= position) {
                pids.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
                pids.push(pid);
            }
        }
        pids.sort_unstable();
        list_numbers(pids.into_iter(), |pid| u64::from(pid) << PROCESS_SHIFT, S_IFDIR, emit)
    }
}

/// Emits names that are numbers, each at the position of its number.
fn list_numbers(
    numbers: impl Iterator<Item = u32>,
    inode_number: impl Fn(u32) -> u64,
    kind: u32,
    emit: &mut dyn FnMut(Listed<'_>) -> bool,
) -> Result<(), Errno> {
    for number in numbers {
        let mut name = Decimal::default();
        // Ten digits always fit.
        let _ = write!(name, "{number}");
        let listed =
            Listed { position: number.into(), name: name.as_bytes(), inode_number: inode_number(number), kind };
        if !emit(listed) {
            break;
        }
    }
    Ok(())
}

/// A number in decimal, written as the kernel writes it: no sign, no leading zeros.
fn number_of(name: &[u8]) -> Option<u32> {
    let plain = name.iter().all(u8::is_ascii_digit) && (name.len() == 1 || name.first() != Some(&b'0'));
    str::from_utf8(name).ok().filter(|_| plain)?.parse().ok()
}

#[derive(Default)]
struct Decimal {
    bytes: [u8; 10],
    length: usize,
}

impl Decimal {
    fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

impl Write for Decimal {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        let end = self.length + text.len();
        self.bytes.get_mut(self.length..end).ok_or(core::fmt::Error)?.copy_from_slice(text.as_bytes());
        self.length = end;
        Ok(())
    }
}
