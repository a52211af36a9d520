//! A program's own address space: brk, mmap and its relatives.

use super::argument::Fd;
use crate::PAGE_SIZE;
use crate::boot;
use crate::errno::Errno;
use crate::fs::memory_devices;
use crate::fs::mount::MountFlags;
use crate::lock::Lock;
use crate::memory::remap::Move;
use crate::memory::shared_object::SharedObject;
use crate::memory::user_access::{self, UserAddress};
use crate::memory::{AddressSpace, AreaFlags, Mapping, PageSource, Placement, Protection};
use crate::task::Thread;
use crate::task::limits::Resource;
use crate::task::yield_point::yield_point;
use alloc::sync::Arc;
use bitflags::bitflags;
use core::ops::Range;

const PAGE: u64 = PAGE_SIZE as u64;

const PROT_GROWSDOWN: u64 = 0x0100_0000;
const PROT_GROWSUP: u64 = 0x0200_0000;

const MREMAP_MAYMOVE: u64 = 1;
const MREMAP_FIXED: u64 = 2;
const MREMAP_DONTUNMAP: u64 = 4;

const MS_ASYNC: u32 = 1;
const MS_INVALIDATE: u32 = 2;
const MS_SYNC: u32 = 4;

bitflags! {
    /// mmap(2)'s flags that mean something here; others are let pass, as on Linux.
    #[derive(Clone, Copy)]
    struct MapFlags: u64 {
        const SHARED = 0x1;
        const PRIVATE = 0x2;
        const FIXED = 0x10;
        const ANONYMOUS = 0x20;
        const GROWSDOWN = 0x100;
        const NORESERVE = 0x4000;
        const POPULATE = 0x8000;
        const FIXED_NOREPLACE = 0x10_0000;
    }
}

fn with_space<R>(thread: &Thread, use_it: impl FnOnce(&mut AddressSpace) -> Result<R, Errno>) -> Result<R, Errno> {
    let outcome = thread.process.with_address_space(|space: &Lock<AddressSpace>| {
        let mut space = space.lock();
        (use_it(&mut space), space.take_removed())
    });
    // The last of a file, and of a file system that was unmounted under it, takes locks that come before these.
    let (result, removed) = outcome.ok_or(Errno::ESRCH)?;
    drop(removed);
    result
}

/// Moves the break, or says where it is.
pub fn brk(thread: &Thread, address: u64) -> Result<u64, Errno> {
    with_space(thread, |space| Ok(space.set_break(address)))
}

/// Left out: MAP_HUGETLB, MAP_SYNC and MAP_LOCKED mean nothing.
pub fn mmap(
    thread: &Thread,
    address: u64,
    length: u64,
    protection: u64,
    flags: u64,
    fd: Fd,
    offset: u64,
) -> Result<u64, Errno> {
    if !offset.is_multiple_of(PAGE) {
        return Err(Errno::EINVAL);
    }
    if offset.checked_add(length).is_none_or(|end| end > i64::MAX as u64) && flags & MapFlags::ANONYMOUS.bits() == 0 {
        return Err(Errno::EOVERFLOW);
    }
    let kind = flags & 0xf;
    let flags = MapFlags::from_bits_truncate(flags);
    let protection = protection_of(protection);
    deny_write_and_execute(protection)?;
    let mut mapping = match (kind, flags.contains(MapFlags::ANONYMOUS)) {
        (1, true) => Mapping::shared(protection, Protection::all(), shared_memory(length)?, 0),
        (2, true) => Mapping::anonymous(protection),
        (1..=3, false) => file_mapping(thread, fd, kind != 2, protection, offset, length)?,
        _ => return Err(Errno::EINVAL),
    };
    mapping.flags.set(AreaFlags::NO_RESERVE, flags.contains(MapFlags::NORESERVE));
    if flags.contains(MapFlags::GROWSDOWN) {
        // What is behind the memory has nothing for addresses below its beginning.
        if kind != 2 || !flags.contains(MapFlags::ANONYMOUS) {
            return Err(Errno::EINVAL);
        }
        mapping.flags |= AreaFlags::GROWS_DOWN;
    }
    let placement = match address {
        _ if flags.contains(MapFlags::FIXED_NOREPLACE) => Placement::FixedNoReplace(address),
        _ if flags.contains(MapFlags::FIXED) => Placement::Fixed(address),
        0 => Placement::Anywhere,
        hint => Placement::Hint(hint),
    };
    let start = with_space(thread, |space| space.map(placement, length, mapping))?;
    if flags.contains(MapFlags::POPULATE) {
        populate(thread, start..start.saturating_add(length));
    }
    Ok(start)
}

/// Makes a mapping's pages present, some at a time. As on Linux: those that can't be made so now will be when they are
/// touched.
fn populate(thread: &Thread, range: Range<u64>) {
    const PIECE_BYTES: u64 = 128 * PAGE;
    for start in range.clone().step_by(PIECE_BYTES as usize) {
        let piece = start..start.saturating_add(PIECE_BYTES).min(range.end);
        let populated = with_space(thread, |space| space.populate(piece).map_err(|_| Errno::ENOMEM));
        if populated.is_err() || yield_point() {
            return;
        }
    }
}

fn shared_memory(length: u64) -> Result<Arc<SharedObject>, Errno> {
    Arc::try_new(SharedObject::new(checked_length(length)?)?).map_err(|_| Errno::ENOMEM)
}

fn checked_length(length: u64) -> Result<u64, Errno> {
    match length {
        0 => Err(Errno::EINVAL),
        _ if length > user_access::USER_END => Err(Errno::ENOMEM),
        _ => Ok(length),
    }
}

/// A view of an open file. What it is opened for bounds what the view may do.
fn file_mapping(
    thread: &Thread,
    fd: Fd,
    shared: bool,
    protection: Protection,
    offset: u64,
    length: u64,
) -> Result<Mapping, Errno> {
    let descriptor = u32::try_from(fd.0).map_err(|_| Errno::EBADF)?;
    let file = thread.process.with_files(|files| files.get(descriptor))?;
    if file.is_path() {
        return Err(Errno::EBADF);
    }
    if !file.is_readable() {
        return Err(Errno::EACCES);
    }
    let mut limit = Protection::all();
    if shared && !file.is_writable() {
        limit.remove(Protection::WRITE);
    }
    if file.location.mount.flags().contains(MountFlags::NO_EXECUTE) {
        limit.remove(Protection::EXECUTE);
    }
    if !limit.contains(protection.intersection(Protection::WRITE)) {
        return Err(Errno::EACCES);
    }
    if !limit.contains(protection) {
        return Err(Errno::EPERM);
    }
    // What is mapped of /dev/zero is anonymous memory.
    let is_zero = memory_devices::is_zero(file.inode());
    if !is_zero && !file.inode().is_regular() {
        return Err(Errno::ENODEV);
    }
    let object: Arc<dyn PageSource> = match (is_zero, shared) {
        (true, false) => return Ok(Mapping { max_protection: limit, ..Mapping::anonymous(protection) }),
        (true, true) => shared_memory(length)?,
        _ => file,
    };
    let offset = if is_zero { 0 } else { offset };
    let mut mapping = match shared {
        true => Mapping::shared(protection, limit, object, offset),
        false => Mapping::private(protection, object, offset),
    };
    mapping.max_protection = limit;
    Ok(mapping)
}

pub fn munmap(thread: &Thread, address: u64, length: u64) -> Result<(), Errno> {
    let range = page_range(address, length).filter(|range| !range.is_empty()).ok_or(Errno::EINVAL)?;
    with_space(thread, |space| space.unmap(range))
}

pub fn mprotect(thread: &Thread, address: u64, length: u64, protection: u64) -> Result<(), Errno> {
    let grows_down = protection & PROT_GROWSDOWN != 0;
    if protection & !(PROT_GROWSDOWN | PROT_GROWSUP | 0xf) != 0 || protection & PROT_GROWSUP != 0 {
        return Err(Errno::EINVAL);
    }
    if !address.is_multiple_of(PAGE) {
        return Err(Errno::EINVAL);
    }
    let protection = protection_of(protection);
    deny_write_and_execute(protection)?;
    let range = page_range(address, length).ok_or(Errno::ENOMEM)?;
    if range.is_empty() {
        return Ok(());
    }
    with_space(thread, |space| {
        if !grows_down {
            return space.protect(range, protection);
        }
        // A stack, down to where it has grown.
        let area = space.areas().overlapping(range.clone()).next().ok_or(Errno::ENOMEM)?;
        if !area.mapping.flags.contains(AreaFlags::GROWS_DOWN) {
            return Err(Errno::EINVAL);
        }
        let whole = area.start..range.end;
        space.protect(whole, protection)
    })
}

/// Left out: MREMAP_DONTUNMAP.
pub fn mremap(
    thread: &Thread,
    address: u64,
    old_length: u64,
    new_length: u64,
    flags: u64,
    new_address: u64,
) -> Result<u64, Errno> {
    let known = MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP;
    let moves = flags & MREMAP_MAYMOVE != 0;
    if flags & !known != 0 || flags & (MREMAP_FIXED | MREMAP_DONTUNMAP) != 0 && !moves {
        return Err(Errno::EINVAL);
    }
    if flags & MREMAP_DONTUNMAP != 0 || new_length == 0 {
        return Err(Errno::EINVAL);
    }
    let range = page_range(address, old_length).ok_or(Errno::EINVAL)?;
    let how = match flags & MREMAP_FIXED != 0 {
        true => Move::To(new_address),
        false if moves => Move::Anywhere,
        false => Move::No,
    };
    with_space(thread, |space| space.remap(range, new_length, how))
}

/// What only advises is taken as heard; DONTNEED changes what is read next, and so is done.
/// Left out: MADV_REMOVE; what only advises changes nothing.
pub fn madvise(thread: &Thread, address: u64, length: u64, advice: u32) -> Result<(), Errno> {
    const DONTNEED: u32 = 4;
    const FREE: u32 = 8;
    const REMOVE: u32 = 9;
    const DONTFORK: u32 = 10;
    const DOFORK: u32 = 11;
    const WIPEONFORK: u32 = 18;
    const KEEPONFORK: u32 = 19;
    if !address.is_multiple_of(PAGE) {
        return Err(Errno::EINVAL);
    }
    let range = page_range(address, length).ok_or(Errno::EINVAL)?;
    match advice {
        0..=4 | 8..=21 if range.is_empty() => Ok(()),
        DONTNEED => with_space(thread, |space| space.discard(range)),
        FREE => with_space(thread, |space| {
            let shows_an_object = space.areas().overlapping(range.clone()).any(|area| area.object().is_some());
            if shows_an_object { Err(Errno::EINVAL) } else { space.discard(range) }
        }),
        REMOVE => Err(Errno::EOPNOTSUPP),
        DONTFORK | DOFORK => {
            with_space(thread, |space| space.set_fork_flag(range, AreaFlags::NOT_FORKED, advice == DONTFORK))
        }
        WIPEONFORK | KEEPONFORK => {
            with_space(thread, |space| space.set_fork_flag(range, AreaFlags::WIPED_BY_FORK, advice == WIPEONFORK))
        }
        0..=3 | 12..=17 | 20 | 21 => check_mapped(thread, range),
        _ => Err(Errno::EINVAL),
    }
}

/// Files live in memory: a shared mapping is the file, and there is nowhere else to write it to.
pub fn msync(thread: &Thread, address: u64, length: u64, flags: u32) -> Result<(), Errno> {
    let both = flags & MS_ASYNC != 0 && flags & MS_SYNC != 0;
    if flags & !(MS_ASYNC | MS_INVALIDATE | MS_SYNC) != 0 || both || !address.is_multiple_of(PAGE) {
        return Err(Errno::EINVAL);
    }
    let range = page_range(address, length).ok_or(Errno::ENOMEM)?;
    check_mapped(thread, range)
}

pub fn mincore(thread: &Thread, address: u64, length: u64, result: UserAddress) -> Result<(), Errno> {
    if !address.is_multiple_of(PAGE) {
        return Err(Errno::EINVAL);
    }
    let range = page_range(address, length).ok_or(Errno::ENOMEM)?;
    for (index, page) in range.step_by(PAGE_SIZE).enumerate() {
        let resident = with_space(thread, |space| space.is_resident(page).ok_or(Errno::ENOMEM))?;
        user_access::write_value(result.offset(index as u64), &u8::from(resident))?;
        if yield_point() {
            return Err(Errno::EAGAIN);
        }
    }
    Ok(())
}

/// Nothing is ever swapped out, so that what is locked is locked already.
pub fn mlock(thread: &Thread, address: u64, length: u64) -> Result<(), Errno> {
    let limit = lockable_bytes(thread)?;
    let (start, length) = pages_touched(address, length);
    if length > limit { Err(Errno::ENOMEM) } else { check_lockable(thread, start, length) }
}

pub fn munlock(thread: &Thread, address: u64, length: u64) -> Result<(), Errno> {
    let (start, length) = pages_touched(address, length);
    check_lockable(thread, start, length)
}

/// Left out: filling in what hasn't been touched yet, and counting what is mapped later (MCL_FUTURE).
pub fn mlockall(thread: &Thread, flags: u32) -> Result<(), Errno> {
    const MCL_CURRENT: u32 = 1;
    const MCL_FUTURE: u32 = 2;
    const MCL_ONFAULT: u32 = 4;
    if !(MCL_CURRENT..=MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT).contains(&flags) || flags == MCL_ONFAULT {
        return Err(Errno::EINVAL);
    }
    let limit = lockable_bytes(thread)?;
    let mapped = with_space(thread, |space| Ok(space.mapped_bytes()))?;
    if flags & MCL_CURRENT != 0 && mapped > limit { Err(Errno::ENOMEM) } else { Ok(()) }
}

pub fn munlockall(_: &Thread) -> Result<(), Errno> {
    Ok(())
}

/// How much memory may be locked (RLIMIT_MEMLOCK, which doesn't bind root); EPERM if it is none.
fn lockable_bytes(thread: &Thread) -> Result<u64, Errno> {
    if thread.process.credentials().is_privileged() {
        return Ok(u64::MAX);
    }
    let limit = thread.process.limits.lock().get(Resource::LockedMemory).soft;
    if limit == 0 { Err(Errno::EPERM) } else { Ok(limit) }
}

/// The pages of which a range has a part. As on Linux one too long to be rounded up wraps round, and has few or none.
fn pages_touched(address: u64, length: u64) -> (u64, u64) {
    let offset = address % PAGE;
    (address - offset, length.wrapping_add(offset).wrapping_add(PAGE - 1) & !(PAGE - 1))
}

/// EINVAL for pages past the last address.
fn check_lockable(thread: &Thread, start: u64, length: u64) -> Result<(), Errno> {
    check_mapped(thread, start..start.checked_add(length).ok_or(Errno::EINVAL)?)
}

/// ENOMEM if there is a hole in the range.
fn check_mapped(thread: &Thread, range: Range<u64>) -> Result<(), Errno> {
    with_space(thread, |space| if space.areas().covers(range) { Ok(()) } else { Err(Errno::ENOMEM) })
}

/// PROT_WRITE and PROT_EXEC let read as well: x86 pages can't do without.
fn protection_of(bits: u64) -> Protection {
    Protection::from_bits_truncate(bits as u8)
}

/// What `wx=deny` on the command line refuses.
fn deny_write_and_execute(protection: Protection) -> Result<(), Errno> {
    let both = protection.contains(Protection::WRITE | Protection::EXECUTE);
    if both && boot::information().command_line.deny_write_execute { Err(Errno::EACCES) } else { Ok(()) }
}

/// The pages of a range whose start must be a page's. None if it isn't, or if the range leaves user space.
fn page_range(address: u64, length: u64) -> Option<Range<u64>> {
    let length = length.checked_next_multiple_of(PAGE)?;
    let end = address.checked_add(length).filter(|end| *end <= user_access::USER_END)?;
    address.is_multiple_of(PAGE).then_some(address..end)
}
