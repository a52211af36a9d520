//! /proc/PID: a process's directory, with a file for each thing that is to be known of it.

use super::super::generated::{Generated, Listed, Text};
use super::super::inode::{Attributes, Body, Inode, S_IFDIR, S_IFLNK, S_IFREG};
use super::super::mount::{self, Location, Place};
use super::super::tree;
use super::super::waiting::yield_point;
use super::super::walk::PATH_MAX;
use super::{PROCESS_SHIFT, descriptors, file_system, list_numbers, number_of, status};
use crate::errno::Errno;
use crate::lock::Lock;
use crate::memory::AddressSpace;
use crate::task::process::{Process, tasks};
use crate::task::{self, Thread};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;

/// Whose directory it is: a process's, or one of its threads'.
#[derive(Clone)]
pub(super) struct Subject {
    pub process: Arc<Process>,
    pub thread: Option<Arc<Thread>>,
}

/// What is in the directory.
#[derive(Clone, Copy)]
enum Item {
    Text(fn(&Subject, &mut Text) -> Result<(), Errno>),
    /// One that others than the owner may not read.
    Private(fn(&Subject, &mut Text) -> Result<(), Errno>),
    /// One that is opened only by those who may look into the process, whatever its mode says.
    Guarded(fn(&Subject, &mut Text) -> Result<(), Errno>),
    Link(fn(&Process) -> Result<Location, Errno>),
    Name,
    Descriptors {
        informs: bool,
    },
    Threads,
}

const ITEMS: &[(&[u8], Item)] = &[
    (b"auxv", Item::Private(auxiliary_vector)),
    (b"cmdline", Item::Text(command_line)),
    (b"comm", Item::Name),
    (b"cwd", Item::Link(current_directory)),
    (b"environ", Item::Private(environment)),
    (b"exe", Item::Link(executable)),
    (b"fd", Item::Descriptors { informs: false }),
    (b"fdinfo", Item::Descriptors { informs: true }),
    (b"limits", Item::Text(status::limits)),
    (b"maps", Item::Guarded(maps)),
    (b"mountinfo", Item::Text(mount_information)),
    (b"mounts", Item::Text(mounts)),
    (b"root", Item::Link(root)),
    (b"stat", Item::Text(status::stat)),
    (b"statm", Item::Text(status::memory)),
    (b"status", Item::Text(status::status)),
    (b"task", Item::Threads),
];

/// No string of arguments or environment is shown further than this.
const STRINGS_MAX: u64 = 4 << 20;

struct Directory(Subject);

struct File {
    subject: Subject,
    write: fn(&Subject, &mut Text) -> Result<(), Errno>,
    is_guarded: bool,
}

/// /proc/PID/comm, which the process itself may write.
struct Name(Subject);

struct Link {
    process: Arc<Process>,
    find: fn(&Process) -> Result<Location, Errno>,
}

struct Threads(Arc<Process>);

/// /proc/self and /proc/thread-self.
pub(super) enum OwnLink {
    Process,
    Thread,
}

/// The directory of a process.
pub(super) fn directory(process: Arc<Process>) -> Result<Arc<Inode>, Errno> {
    let number = u64::from(process.pid) << PROCESS_SHIFT;
    let subject = Subject { process: Arc::clone(&process), thread: None };
    owned(&process, number, S_IFDIR | 0o555, Directory(subject))
}

/// An inode that belongs to the process's user; but to root, unless it is a directory for all, where the process holds what is
/// none of its user's business, or has ended.
pub(super) fn owned(
    process: &Process,
    number: u64,
    mode: u32,
    generated: impl Generated + 'static,
) -> Result<Arc<Inode>, Errno> {
    let is_public = mode == S_IFDIR | 0o555;
    let (user, group) = if is_public || process.is_dumpable.load(Relaxed) && process.address_space().is_some() {
        process.with_credentials(|credentials| (credentials.user.effective, credentials.group.effective))
    } else {
        (0, 0)
    };
    let attributes = Attributes { mode, user, group };
    let generated: Box<dyn Generated> = Box::try_new(generated).map_err(|_| Errno::ENOMEM)?;
    Inode::with_number(&file_system()?, number, attributes, Body::Generated(generated))
}

/// Whether the caller may look into the process: root, and whoever has its user and group ids, unless it holds something that
/// is none of its user's business (PR_SET_DUMPABLE).
pub(super) fn allows(process: &Process) -> Result<(), Errno> {
    let own = task::current();
    if core::ptr::eq(Arc::as_ptr(&own.process), process) {
        return Ok(());
    }
    let (caller, target) = (own.process.credentials(), process.credentials());
    let same = |ids: &crate::task::credentials::Ids, id: u32| ids.real == id && ids.effective == id && ids.saved == id;
    let owns = same(&target.user, caller.user.file_system) && same(&target.group, caller.group.file_system);
    let owns = owns && process.is_dumpable.load(Relaxed);
    if caller.is_privileged() || owns { Ok(()) } else { Err(Errno::EACCES) }
}

/// Whether its parent has yet to wait for it.
pub(super) fn is_there(process: &Process) -> bool {
    tasks().family.get(process.pid).is_some_and(|member| core::ptr::eq(Arc::as_ptr(&member.value), process))
}

/// The path of a place as the caller sees it, with ` (deleted)` behind it where it has no name any more.
pub(super) fn path_text(location: &Location) -> Result<Vec<u8>, Errno> {
    let root = task::current().process.fs_context()?.lock().clone();
    let mut buffer = Vec::new();
    buffer.try_reserve_exact(PATH_MAX + DELETED.len()).map_err(|_| Errno::ENOMEM)?;
    buffer.resize(PATH_MAX, 0);
    let tree = tree::lock();
    let (path, _) = mount::path_of(&tree, location.as_place(), root.root().as_place(), &mut buffer)?;
    let linked = location.dentry.is_linked(&tree);
    let start = PATH_MAX - path.len();
    drop(tree);
    buffer.drain(..start);
    if !linked {
        buffer.extend_from_slice(DELETED);
    }
    Ok(buffer)
}

const DELETED: &[u8] = b" (deleted)";

impl Subject {
    /// The thread that stands for it: a process is shown by its first one.
    pub fn main_thread(&self) -> Option<Arc<Thread>> {
        self.thread.clone().or_else(|| self.process.main_thread())
    }

    /// False for a thread that has ended, and for a process that was waited for.
    fn is_there(&self) -> bool {
        let runs = |thread: &Arc<Thread>| self.process.threads().iter().any(|other| Arc::ptr_eq(other, thread));
        is_there(&self.process) && self.thread.as_ref().is_none_or(runs)
    }

    pub fn id(&self) -> u32 {
        self.thread.as_ref().map_or(self.process.pid, |thread| thread.tid())
    }

    fn base_number(&self) -> u64 {
        u64::from(self.id()) << PROCESS_SHIFT
    }

    /// Looks at the process's memory. ESRCH where it has none any more.
    pub fn with_memory<R>(&self, look: impl FnOnce(&mut AddressSpace) -> R) -> Option<R> {
        let space = self.process.address_space()?;
        let space: &Lock<AddressSpace> = &space;
        Some(look(&mut space.lock()))
    }
}

impl Generated for Directory {
    fn lookup(&self, name: &[u8]) -> Result<Arc<Inode>, Errno> {
        let Self(subject) = self;
        if !subject.is_there() {
            return Err(if subject.thread.is_none() { Errno::ESRCH } else { Errno::ENOENT });
        }
        let found = ITEMS.iter().enumerate().find(|(_, (item, _))| *item == name);
        let (index, (_, item)) = found.ok_or(Errno::ENOENT)?;
        let number = subject.base_number() + 1 + index as u64;
        let process = &subject.process;
        let file = |write, is_guarded| File { subject: subject.clone(), write, is_guarded };
        match *item {
            Item::Text(write) => owned(process, number, S_IFREG | 0o444, file(write, false)),
            Item::Private(write) => owned(process, number, S_IFREG | 0o400, file(write, false)),
            Item::Guarded(write) => owned(process, number, S_IFREG | 0o444, file(write, true)),
            Item::Name => owned(process, number, S_IFREG | 0o644, Name(subject.clone())),
            Item::Link(find) => owned(process, number, S_IFLNK | 0o777, Link { process: Arc::clone(process), find }),
            Item::Descriptors { informs } => {
                let directory = descriptors::Directory { process: Arc::clone(process), informs };
                owned(process, number, S_IFDIR | if informs { 0o555 } else { 0o500 }, directory)
            }
            Item::Threads if subject.thread.is_some() => Err(Errno::ENOENT),
            Item::Threads => owned(process, number, S_IFDIR | 0o555, Threads(Arc::clone(process))),
        }
    }

    fn list(&self, position: u64, emit: &mut dyn FnMut(Listed<'_>) -> bool) -> Result<(), Errno> {
        let Self(subject) = self;
        if !subject.is_there() {
            return Err(Errno::ENOENT);
        }
        for (index, (name, item)) in ITEMS.iter().enumerate().skip(usize::try_from(position).unwrap_or(usize::MAX)) {
            let kind = match item {
                Item::Text(_) | Item::Private(_) | Item::Guarded(_) | Item::Name => S_IFREG,
                Item::Link(_) => S_IFLNK,
                Item::Threads if subject.thread.is_some() => continue,
                Item::Descriptors { .. } | Item::Threads => S_IFDIR,
            };
            let inode_number = subject.base_number() + 1 + index as u64;
            if !emit(Listed { position: index as u64, name, inode_number, kind }) {
                break;
            }
        }
        Ok(())
    }
}

impl Generated for File {
    fn check_open(&self) -> Result<(), Errno> {
        if self.is_guarded { allows(&self.subject.process) } else { Ok(()) }
    }

    fn text(&self) -> Result<Text, Errno> {
        if !self.subject.is_there() {
            return Err(Errno::ESRCH);
        }
        let mut text = Text::new();
        (self.write)(&self.subject, &mut text)?;
        Ok(text)
    }
}

impl Generated for Name {
    fn text(&self) -> Result<Text, Errno> {
        if !self.0.is_there() {
            return Err(Errno::ESRCH);
        }
        let mut text = Text::new();
        status::name(&self.0, &mut text)?;
        Ok(text)
    }

    fn write(&self, bytes: &[u8]) -> Result<(), Errno> {
        let Self(subject) = self;
        if !core::ptr::eq(Arc::as_ptr(&task::current().process), Arc::as_ptr(&subject.process)) {
            return Err(Errno::EINVAL);
        }
        subject.main_thread().ok_or(Errno::ESRCH)?.set_name(bytes);
        Ok(())
    }
}

impl Generated for Link {
    fn target(&self) -> Result<Vec<u8>, Errno> {
        allows(&self.process)?;
        path_text(&(self.find)(&self.process)?)
    }

    fn destination(&self) -> Result<Option<Location>, Errno> {
        allows(&self.process)?;
        (self.find)(&self.process).map(Some)
    }
}

impl Generated for Threads {
    fn lookup(&self, name: &[u8]) -> Result<Arc<Inode>, Errno> {
        let Self(process) = self;
        let id = number_of(name).ok_or(Errno::ENOENT)?;
        let thread = process.threads().iter().find(|thread| thread.tid() == id).map(Arc::clone);
        let subject = Subject { process: Arc::clone(process), thread: Some(thread.ok_or(Errno::ENOENT)?) };
        owned(process, subject.base_number() + (1 << 17), S_IFDIR | 0o555, Directory(subject))
    }

    fn list(&self, position: u64, emit: &mut dyn FnMut(Listed<'_>) -> bool) -> Result<(), Errno> {
        if !is_there(&self.0) {
            return Err(Errno::ENOENT);
        }
        let mut ids = Vec::new();
        {
            let threads = self.0.threads();
            ids.try_reserve_exact(threads.len()).map_err(|_| Errno::ENOMEM)?;
            ids.extend(threads.iter().map(|thread| thread.tid()).filter(|id| u64::from(*id) >= position));
        }
        ids.sort_unstable();
        list_numbers(ids.into_iter(), |id| (u64::from(id) << PROCESS_SHIFT) + (1 << 17), S_IFDIR, emit)
    }
}

impl Generated for OwnLink {
    fn target(&self) -> Result<Vec<u8>, Errno> {
        let (own, mut text) = (task::current(), Text::new());
        match self {
            Self::Process => text.print(format_args!("{}", own.process.pid))?,
            Self::Thread => text.print(format_args!("{}/task/{}", own.process.pid, own.tid()))?,
        }
        Ok(text.into_bytes())
    }
}

fn executable(process: &Process) -> Result<Location, Errno> {
    Ok(process.program().ok_or(Errno::ENOENT)?.location().clone())
}

fn current_directory(process: &Process) -> Result<Location, Errno> {
    let context = process.fs_context().map_err(|_| Errno::ENOENT)?;
    let location = context.lock().cwd().clone();
    Ok(location)
}

fn root(process: &Process) -> Result<Location, Errno> {
    let context = process.fs_context().map_err(|_| Errno::ENOENT)?;
    let location = context.lock().root().clone();
    Ok(location)
}

fn command_line(subject: &Subject, text: &mut Text) -> Result<(), Errno> {
    copy_range(subject, text, |space| space.layout.arguments.clone())
}

fn environment(subject: &Subject, text: &mut Text) -> Result<(), Errno> {
    allows(&subject.process)?;
    copy_range(subject, text, |space| space.layout.environment.clone())
}

fn copy_range(
    subject: &Subject,
    text: &mut Text,
    range: impl FnOnce(&AddressSpace) -> core::ops::Range<u64>,
) -> Result<(), Errno> {
    let mut bytes = Vec::new();
    let copied = subject.with_memory(|space| {
        let range = range(space);
        let count = range.end.saturating_sub(range.start).min(STRINGS_MAX) as usize;
        bytes.try_reserve_exact(count).map_err(|_| Errno::ENOMEM)?;
        bytes.resize(count, 0);
        space.read_bytes(range.start, &mut bytes)
    });
    // A program that took away the memory where its arguments were shows none.
    match copied {
        Some(Ok(())) => text.push(&bytes),
        Some(Err(Errno::ENOMEM)) => Err(Errno::ENOMEM),
        _ => Ok(()),
    }
}

fn auxiliary_vector(subject: &Subject, text: &mut Text) -> Result<(), Errno> {
    allows(&subject.process)?;
    copy_range(subject, text, |space| space.layout.auxiliary.clone())
}

/// One line for each area; the files' names are looked up when the address space is no longer locked.
fn maps(subject: &Subject, text: &mut Text) -> Result<(), Errno> {
    allows(&subject.process)?;
    let mut areas = Vec::new();
    let heap = subject.with_memory(|space| {
        areas.try_reserve_exact(space.areas().len()).map_err(|_| Errno::ENOMEM)?;
        areas.extend(space.areas().iter().cloned());
        Ok(space.heap())
    });
    let Some(heap) = heap.transpose()? else { return Ok(()) };
    for area in &areas {
        status::write_area(text, area, &heap)?;
        if yield_point() {
            return Err(Errno::EINTR);
        }
    }
    Ok(())
}

fn mounts(subject: &Subject, text: &mut Text) -> Result<(), Errno> {
    each_mount(subject, |mount, path| {
        text.push(&mount.source)?;
        text.push(b" ")?;
        push_escaped(text, path)?;
        let kind = mount.file_system.kind.name();
        text.print(format_args!(" {kind} {} 0 0\n", mount_options(mount)))
    })
}

fn mount_information(subject: &Subject, text: &mut Text) -> Result<(), Errno> {
    each_mount(subject, |mount, path| {
        let device = super::super::device::DeviceNumber(mount.file_system.device);
        text.print(format_args!("{} 1 {}:{} / ", mount.id, device.major(), device.minor()))?;
        push_escaped(text, path)?;
        let kind = mount.file_system.kind.name();
        text.print(format_args!(" {} - {kind} ", mount_options(mount)))?;
        text.push(&mount.source)?;
        text.print(format_args!(" rw\n"))
    })
}

/// Every mount that lies below the process's root, with its path from there.
fn each_mount(
    subject: &Subject,
    mut visit: impl FnMut(&mount::Mount, &[u8]) -> Result<(), Errno>,
) -> Result<(), Errno> {
    let root = root(&subject.process)?;
    let mut mounts = Vec::new();
    {
        let tree = tree::lock();
        mounts.try_reserve_exact(mount::all(&tree).len()).map_err(|_| Errno::ENOMEM)?;
        mounts.extend(mount::all(&tree).iter().map(Arc::clone));
    }
    let mut buffer = Vec::new();
    buffer.try_reserve_exact(PATH_MAX).map_err(|_| Errno::ENOMEM)?;
    buffer.resize(PATH_MAX, 0);
    for mount in mounts {
        let start = {
            let tree = tree::lock();
            let place = Place { mount: &mount, dentry: &mount.root };
            match mount::path_of(&tree, place, root.as_place(), &mut buffer) {
                Ok((path, true)) => PATH_MAX - path.len(),
                _ => continue,
            }
        };
        visit(&mount, buffer.get(start..).unwrap_or_default())?;
    }
    Ok(())
}

/// A path in a list: blanks, tabs, newlines and backslashes as octal numbers.
fn push_escaped(text: &mut Text, path: &[u8]) -> Result<(), Errno> {
    for byte in path {
        match byte {
            b' ' | b'\t' | b'\n' | b'\\' => text.print(format_args!("\\{byte:03o}"))?,
            _ => text.push(core::slice::from_ref(byte))?,
        }
    }
    Ok(())
}

fn mount_options(mount: &mount::Mount) -> impl core::fmt::Display {
    use super::super::mount::MountFlags;
    let flags = mount.flags();
    core::fmt::from_fn(move |formatter| {
        formatter.write_str(if flags.contains(MountFlags::READ_ONLY) { "ro" } else { "rw" })?;
        let words = [
            (MountFlags::NO_SET_ID, ",nosuid"),
            (MountFlags::NO_DEVICES, ",nodev"),
            (MountFlags::NO_EXECUTE, ",noexec"),
            (MountFlags::NO_ACCESS_TIME, ",noatime"),
        ];
        words.iter().filter(|(flag, _)| flags.contains(*flag)).try_for_each(|(_, word)| formatter.write_str(word))?;
        if flags.contains(MountFlags::NO_ACCESS_TIME) { Ok(()) } else { formatter.write_str(",relatime") }
    })
}
