//! Open files: what a descriptor stands for (POSIX's "open file description").

use super::content::{Content, SIZE_MAX, Writer};
use super::device::{Device, Opened, Request};
use super::generated::Listed;
use super::inode::{Body, Inode, S_IFCHR, WriteAccess};
use super::mount::{Location, MountFlags};
use super::open_count::Counted;
use super::open_flags::OpenFlags;
use super::pipe::{End, Pipe};
use super::transfer::{Sink, Source};
use super::tree;
use super::turn::Turn;
use super::waiting::{Events, PollTable};
use crate::errno::Errno;
use crate::lock::{Lock, Rank};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

pub struct File {
    pub location: Location,
    /// As `fcntl(F_GETFL)` gives them.
    flags: AtomicU32,
    readable: bool,
    writable: bool,
    /// Whether it counts as one of its inode's writers: files that have no name at first don't, as on Linux.
    is_counted_writer: bool,
    position: AtomicU64,
    /// Who reads, writes or seeks by the position: who shares the file never gets the same bytes twice, nor writes over
    /// another's. Pipes and devices have no position, and may wait.
    mover: Turn,
    kind: Kind,
    _counted: Counted,
}

/// What reads and writes go to. `repr(u8)` gives it a tag of its own, which each of them looks at: else the compiler hides it among
/// the values that a field can't have, where it takes longer to read.
#[repr(u8)]
enum Kind {
    Regular,
    Directory,
    /// A generated file, and its text as it was when it was last read from the start.
    Generated(Lock<Vec<u8>>),
    Device(&'static dyn Device, Opened),
    Pipe(Arc<Pipe>, End),
    /// Opened with O_PATH: a place, and nothing to read.
    Path,
}

/// What holds for whoever writes to a regular file. Other files don't ask for it.
#[derive(Clone, Copy)]
pub struct WriteRules {
    /// Root's writes leave the set-user-ID and set-group-ID bits alone.
    pub keeps_set_id_bits: bool,
    /// RLIMIT_FSIZE.
    pub size_limit: u64,
}

/// Where a write goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The file's position, which moves.
    Position,
    At(u64),
}

/// Where `lseek(2)` counts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whence {
    Start,
    Current,
    End,
    Data,
    Hole,
}

/// Positions from here on belong to the names that a generated directory makes up; those before to its names in the tree.
const GENERATED_POSITIONS: u64 = 1 << 40;

impl File {
    /// An open file for `location`. Access has been checked.
    pub(super) fn new(location: Location, flags: OpenFlags) -> Result<Self, Errno> {
        let counted = Counted::new()?;
        let kind = match &location.dentry.inode.body {
            _ if flags.contains(OpenFlags::PATH) => Kind::Path,
            Body::Regular(_) => Kind::Regular,
            Body::Directory => Kind::Directory,
            Body::Generated(_) if location.dentry.inode.is_directory() => Kind::Directory,
            Body::Generated(_) => Kind::Generated(Lock::new(Rank::OpenFile, Vec::new())),
            Body::Device(_) if location.dentry.inode.kind() != S_IFCHR => return Err(Errno::ENXIO),
            Body::Device(number) => {
                let device = super::device::find(*number)?;
                Kind::Device(device, device.open(*number, flags)?)
            }
            Body::Symlink(_) => return Err(Errno::ELOOP),
            Body::Fifo(_) if !flags.is_readable() && !flags.is_writable() => return Err(Errno::EINVAL),
            Body::Fifo(pipe) => {
                let end = pipe.open_end(flags.is_readable(), flags.is_writable());
                Kind::Pipe(Arc::clone(pipe), end)
            }
            Body::Socket => return Err(Errno::ENXIO),
        };
        Ok(Self {
            location,
            readable: flags.is_readable(),
            writable: flags.is_writable(),
            is_counted_writer: false,
            flags: AtomicU32::new(flags.difference(OpenFlags::OPENING).bits()),
            position: AtomicU64::new(0),
            mover: Turn::new(),
            kind,
            _counted: counted,
        })
    }

    /// A regular file for execve, which asks for no permission to read.
    pub fn for_execution(location: Location) -> Result<Self, Errno> {
        Self::new(location, OpenFlags::empty())
    }

    /// Takes over what its inode counts for it.
    pub(super) fn keep_writer(&mut self, writer: WriteAccess<'_>) {
        writer.keep();
        self.is_counted_writer = true;
    }

    #[inline]
    pub fn inode(&self) -> &Inode {
        &self.location.dentry.inode
    }

    pub fn flags(&self) -> OpenFlags {
        OpenFlags::from_bits_retain(self.flags.load(Relaxed))
    }

    /// `fcntl(F_SETFL)`.
    pub fn set_flags(&self, flags: OpenFlags) {
        let kept = self.flags().difference(OpenFlags::SETTABLE);
        self.flags.store(kept.union(flags.intersection(OpenFlags::SETTABLE)).bits(), Relaxed);
    }

    #[inline]
    pub fn is_readable(&self) -> bool {
        self.readable
    }

    #[inline]
    pub fn is_writable(&self) -> bool {
        self.writable
    }

    /// One of a process's descriptors for this file was closed: its record locks on it are gone, through whichever
    /// descriptor they were set.
    #[inline]
    pub fn descriptor_closed(&self, pid: u32) {
        let locks = &self.inode().locks;
        if locks.are_used() {
            locks.release_process(pid);
        }
    }

    /// Opened with O_PATH: good for little but being a place.
    pub fn is_path(&self) -> bool {
        matches!(self.kind, Kind::Path)
    }

    pub fn position(&self) -> u64 {
        self.position.load(Relaxed)
    }

    pub fn set_position(&self, position: u64) {
        self.position.store(position, Relaxed);
    }

    /// Whether writes go to the end, wherever the position is: O_APPEND on a regular file.
    #[inline]
    pub fn appends(&self) -> bool {
        matches!(self.kind, Kind::Regular) && self.flags().contains(OpenFlags::APPEND)
    }

    /// Whether the file has positions at all: pipes and terminals don't.
    #[inline]
    pub fn is_seekable(&self) -> bool {
        match self.kind {
            Kind::Regular | Kind::Directory | Kind::Generated(_) => true,
            Kind::Device(device, _) => device.is_seekable(),
            Kind::Path | Kind::Pipe(..) => false,
        }
    }

    /// `read(2)`: from the file's position on, which moves.
    #[inline]
    pub fn read(&self, sink: &mut impl Sink) -> Result<usize, Errno> {
        match self.kind {
            Kind::Regular | Kind::Generated(_) => self.read_on(sink),
            _ => self.read_at(0, sink),
        }
    }

    /// Apart from [`Self::read`], so that devices and pipes needn't save the registers that this uses.
    #[inline(never)]
    fn read_on(&self, sink: &mut impl Sink) -> Result<usize, Errno> {
        let _mover = self.mover.take();
        let position = self.position();
        let count = self.read_at(position, sink)?;
        self.set_position(position.saturating_add(count as u64));
        Ok(count)
    }

    /// `pread(2)`. Always inlined: what a page costs beside its copy is mostly calls, and the registers they save.
    #[inline(always)]
    pub fn read_at(&self, position: u64, sink: &mut impl Sink) -> Result<usize, Errno> {
        if !self.readable {
            return Err(Errno::EBADF);
        }
        match &self.kind {
            Kind::Regular => self.read_regular(position, sink),
            Kind::Device(device, opened) => device.read(*opened, self.request(), sink),
            Kind::Pipe(pipe, _) => pipe.read(sink, self.request().nonblocking),
            Kind::Directory => Err(Errno::EISDIR),
            Kind::Generated(text) => self.read_generated(text, position, sink),
            Kind::Path => Err(Errno::EBADF),
        }
    }

    #[inline(always)]
    fn read_regular(&self, position: u64, sink: &mut impl Sink) -> Result<usize, Errno> {
        // As for a write: past the last byte that a file can have there is nothing to ask for.
        if position.checked_add(sink.remaining() as u64).is_none_or(|end| end > SIZE_MAX) {
            return Err(Errno::EINVAL);
        }
        let count = self.content()?.read(self.inode(), position, sink)?;
        self.touch_accessed();
        Ok(count)
    }

    /// `write(2)`: at the file's position, or at its end if it was opened with O_APPEND.
    #[inline]
    pub fn write(&self, source: &mut impl Source, rules: impl Fn() -> WriteRules) -> Result<usize, Errno> {
        self.write_to(Target::Position, self.appends(), source, rules)
    }

    /// `pwrite(2)`. On a file opened with O_APPEND it appends, whatever the position, as on Linux.
    #[inline]
    pub fn write_at(
        &self,
        position: u64,
        source: &mut impl Source,
        rules: impl Fn() -> WriteRules,
    ) -> Result<usize, Errno> {
        self.write_to(Target::At(position), self.appends(), source, rules)
    }

    /// Writes there, or, with `append`, at the end of a regular file.
    #[inline]
    pub fn write_to(
        &self,
        target: Target,
        append: bool,
        source: &mut impl Source,
        rules: impl Fn() -> WriteRules,
    ) -> Result<usize, Errno> {
        if !self.writable {
            return Err(Errno::EBADF);
        }
        match &self.kind {
            Kind::Regular => self.write_regular(target, append, source, rules()),
            Kind::Device(device, opened) => device.write(*opened, self.request(), source),
            Kind::Pipe(pipe, _) => {
                let packets = self.flags().contains(OpenFlags::DIRECT);
                pipe.write(source, self.request().nonblocking, packets)
            }
            Kind::Generated(_) => self.write_generated(source),
            Kind::Directory | Kind::Path => Err(Errno::EBADF),
        }
    }

    /// `lseek(2)`.
    pub fn seek(&self, offset: i64, whence: Whence) -> Result<u64, Errno> {
        if !self.is_seekable() {
            return Err(if self.is_path() { Errno::EBADF } else { Errno::ESPIPE });
        }
        let offset_from = |base: u64| -> Result<u64, Errno> {
            let sum = i64::try_from(base).ok().and_then(|base| base.checked_add(offset)).ok_or(Errno::EINVAL)?;
            u64::try_from(sum).map_err(|_| Errno::EINVAL)
        };
        let _mover = self.mover.take();
        let position = match (&self.kind, whence) {
            // Null, zero and their like have no positions to speak of.
            (Kind::Device(..), _) => 0,
            (_, Whence::Start) => offset_from(0)?,
            (_, Whence::Current) => offset_from(self.position())?,
            (Kind::Regular, Whence::End) => offset_from(self.inode().size())?,
            (Kind::Regular, Whence::Data | Whence::Hole) => {
                let from = u64::try_from(offset).map_err(|_| Errno::ENXIO)?;
                self.content()?.seek(self.inode(), from, whence == Whence::Data)?
            }
            _ => return Err(Errno::EINVAL),
        };
        self.set_position(position);
        Ok(position)
    }

    /// `ftruncate(2)`.
    pub fn set_size(&self, size: u64, rules: &WriteRules) -> Result<(), Errno> {
        if !self.writable || !matches!(self.kind, Kind::Regular) {
            return Err(if self.is_path() { Errno::EBADF } else { Errno::EINVAL });
        }
        set_size(self.inode(), size, rules)
    }

    /// The contents of a regular file.
    pub fn content(&self) -> Result<&Content, Errno> {
        match &self.inode().body {
            Body::Regular(content) => Ok(content),
            _ => Err(Errno::EINVAL),
        }
    }

    /// What the file is ready for; it wakes `table`'s poller when that may have changed.
    pub fn poll<'a>(&'a self, table: Option<&mut PollTable<'a>>) -> Events {
        match &self.kind {
            Kind::Pipe(pipe, end) => pipe.poll(*end, table),
            Kind::Device(device, opened) => device.poll(*opened, table),
            Kind::Path => Events::INVALID,
            _ => Events::READABLE | Events::WRITABLE,
        }
    }

    /// The pipe, if it is one.
    pub fn pipe(&self) -> Option<&Pipe> {
        match &self.kind {
            Kind::Pipe(pipe, _) => Some(pipe),
            _ => None,
        }
    }

    /// Opening a FIFO waits for who opens its other end.
    pub(super) fn wait_for_other_end(&self) -> Result<(), Errno> {
        match &self.kind {
            Kind::Pipe(pipe, end) => pipe.wait_for_other_end(*end, self.request().nonblocking),
            _ => Ok(()),
        }
    }

    /// `ioctl(2)` on devices.
    pub fn device_control(&self, command: u32, argument: u64) -> Result<isize, Errno> {
        match self.kind {
            Kind::Device(device, opened) => device.ioctl(opened, command, argument),
            Kind::Path => Err(Errno::EBADF),
            _ => Err(Errno::ENOTTY),
        }
    }

    /// The names of a directory from the file's position on, until `take` refuses one; the position moves past those that
    /// were taken. `take` gets each name and the position after it, and runs with the tree locked.
    pub fn read_directory(&self, take: &mut dyn FnMut(&Listed<'_>) -> bool) -> Result<(), Errno> {
        if !matches!(self.kind, Kind::Directory) {
            return Err(if self.is_path() { Errno::EBADF } else { Errno::ENOTDIR });
        }
        let dentry = &self.location.dentry;
        let _mover = self.mover.take();
        let mut position = self.position();
        let mut full = false;
        {
            let tree = tree::lock();
            if !dentry.is_linked(&tree) {
                return Err(Errno::ENOENT);
            }
            let parent = dentry.parent(&tree).unwrap_or(dentry);
            let own = [(&b"."[..], dentry), (&b".."[..], parent)].into_iter().enumerate();
            let own = own.map(|(at, (name, dentry))| (at as u64, name, dentry));
            let named = dentry.names(&tree).iter_from(position).map(|(at, child)| (at, child.name(&tree), child));
            for (at, name, child) in own.chain(named) {
                if at < position {
                    continue;
                }
                let inode = &child.inode;
                let next = at + 1;
                let kind = inode.kind();
                if !take(&Listed { position: next, name, inode_number: inode.number, kind }) {
                    full = true;
                    break;
                }
                position = next;
            }
        }
        if let (Body::Generated(generated), false) = (&dentry.inode.body, full) {
            position = position.max(GENERATED_POSITIONS);
            generated.list(position - GENERATED_POSITIONS, &mut |listed| {
                let next = listed.position.saturating_add(GENERATED_POSITIONS + 1);
                let taken = take(&Listed { position: next, ..listed });
                if taken {
                    position = next;
                }
                taken
            })?;
        }
        self.set_position(position);
        self.touch_accessed();
        Ok(())
    }

    #[inline]
    fn request(&self) -> Request {
        Request { nonblocking: self.flags.load(Relaxed) & OpenFlags::NONBLOCK.bits() != 0 }
    }

    #[inline(always)]
    fn touch_accessed(&self) {
        let kept = self.flags.load(Relaxed) & OpenFlags::NO_ACCESS_TIME.bits() != 0;
        let forbidden = MountFlags::READ_ONLY.union(MountFlags::NO_ACCESS_TIME);
        if !kept && !self.location.mount.flags().intersects(forbidden) {
            self.inode().touch_accessed();
        }
    }

    /// Not inlined: devices and pipes needn't save the registers that this uses.
    #[inline(never)]
    fn write_regular(
        &self,
        target: Target,
        append: bool,
        source: &mut impl Source,
        rules: WriteRules,
    ) -> Result<usize, Errno> {
        let _mover = (target == Target::Position).then(|| self.mover.take());
        let inode = self.inode();
        let writer = self.content()?.writer(inode);
        let start = match target {
            _ if append => inode.size(),
            Target::Position => self.position(),
            Target::At(position) => position,
        };
        let count = write_from(&writer, start, source, &rules)?;
        if target == Target::Position {
            self.set_position(start.saturating_add(count as u64));
        }
        Ok(count)
    }

    #[cold]
    fn read_generated(&self, text: &Lock<Vec<u8>>, position: u64, sink: &mut dyn Sink) -> Result<usize, Errno> {
        let Body::Generated(generated) = &self.inode().body else { return Err(Errno::EINVAL) };
        if position == 0 {
            let new = generated.text()?.into_bytes();
            let old = core::mem::replace(&mut *text.lock(), new);
            drop(old);
        }
        // Taken out while user memory is touched, and put back after.
        let bytes = core::mem::take(&mut *text.lock());
        let start = usize::try_from(position).unwrap_or(usize::MAX);
        let result = match bytes.get(start..) {
            Some(rest) => sink.put(rest.get(..sink.remaining()).unwrap_or(rest)),
            None => Ok(0),
        };
        *text.lock() = bytes;
        result
    }

    #[cold]
    fn write_generated(&self, source: &mut dyn Source) -> Result<usize, Errno> {
        let Body::Generated(generated) = &self.inode().body else { return Err(Errno::EINVAL) };
        let mut bytes = [0; 256];
        let wanted = source.remaining();
        let count = source.take(&mut bytes)?;
        if count < wanted {
            return Err(Errno::EINVAL);
        }
        generated.write(bytes.get(..count).unwrap_or_default())?;
        Ok(count)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        if self.inode().locks.are_used() {
            self.inode().locks.release_file(core::ptr::from_ref(self).addr());
        }
        match &self.kind {
            Kind::Regular if self.is_counted_writer => self.inode().end_write(),
            Kind::Pipe(pipe, end) => pipe.close_end(*end),
            _ => {}
        }
    }
}

/// A write to a regular file, within its limits. What ends at RLIMIT_FSIZE is cut; EFBIG is what begins there.
fn write_from(writer: &Writer<'_>, start: u64, source: &mut impl Source, rules: &WriteRules) -> Result<usize, Errno> {
    let wanted = source.remaining();
    if wanted == 0 {
        return Ok(0);
    }
    if start.checked_add(wanted as u64).is_none_or(|end| end > SIZE_MAX) {
        return Err(Errno::EINVAL);
    }
    let room = rules.size_limit.saturating_sub(start);
    if room == 0 {
        return Err(Errno::EFBIG);
    }
    if !rules.keeps_set_id_bits {
        writer.inode.drop_set_id_bits();
    }
    writer.write(start, (wanted as u64).min(room) as usize, source)
}

/// `truncate(2)`: access has been checked.
pub fn set_size(inode: &Inode, size: u64, rules: &WriteRules) -> Result<(), Errno> {
    let Body::Regular(content) = &inode.body else { return Err(Errno::EINVAL) };
    let writer = content.writer(inode);
    if size > rules.size_limit && size > inode.size() {
        return Err(Errno::EFBIG);
    }
    if !rules.keeps_set_id_bits {
        inode.drop_set_id_bits();
    }
    let shrinks = size < inode.size();
    writer.set_size(size)?;
    drop(writer);
    if shrinks {
        super::mapping::forget(inode, size.div_ceil(crate::PAGE_SIZE as u64)..u64::MAX, false);
    }
    Ok(())
}
