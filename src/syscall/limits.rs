//! Resource limits, and what has been used.

use super::time::Timeval;
use crate::errno::Errno;
use crate::memory::user_access::{self, UserAddress};
use crate::task::Thread;
use crate::task::limits::{Limit, Resource};
use crate::task::process::{self, Process};
use crate::task::usage::{NS_PER_CLOCK_TICK, Usage};
use alloc::sync::Arc;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

const RUSAGE_SELF: i32 = 0;
const RUSAGE_CHILDREN: i32 = -1;
const RUSAGE_THREAD: i32 = 1;
/// Nobody may open more files than this (Linux's fs.nr_open).
const OPEN_FILES_MAX: u64 = 1 << 20;

/// getrusage(2)'s structure; what nobody counts is zero, as on Linux.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct ResourceUsage {
    user_time: Timeval,
    system_time: Timeval,
    peak_resident_kib: i64,
    unused: [i64; 3],
    minor_faults: i64,
    major_faults: i64,
    unused_2: [i64; 6],
    voluntary_switches: i64,
    involuntary_switches: i64,
}

const _: () = assert!(size_of::<ResourceUsage>() == 144);

pub fn getrlimit(thread: &Thread, resource: u32, result: UserAddress) -> Result<(), Errno> {
    prlimit64(thread, 0, resource, UserAddress::NULL, result)
}

pub fn setrlimit(thread: &Thread, resource: u32, new: UserAddress) -> Result<(), Errno> {
    if new.is_null() {
        return Err(Errno::EFAULT);
    }
    prlimit64(thread, 0, resource, new, UserAddress::NULL)
}

pub fn prlimit64(thread: &Thread, pid: i32, resource: u32, new: UserAddress, old: UserAddress) -> Result<(), Errno> {
    let new: Option<Limit> = if new.is_null() { None } else { Some(user_access::read_value(new)?) };
    let target = match pid {
        0 => thread.process.clone(),
        _ => process::find_process_of(u32::try_from(pid).map_err(|_| Errno::ESRCH)?).ok_or(Errno::ESRCH)?,
    };
    check_same_user(thread, &target)?;
    let resource = Resource::from_number(resource).ok_or(Errno::EINVAL)?;
    let previous = target.limits.lock().get(resource);
    if let Some(new) = new {
        set(thread, &target, resource, previous, new)?;
    }
    if old.is_null() { Ok(()) } else { user_access::write_value(old, &previous) }
}

fn check_same_user(thread: &Thread, target: &Arc<Process>) -> Result<(), Errno> {
    if target.pid == thread.process.pid {
        return Ok(());
    }
    let (own, its) = (thread.process.credentials(), target.credentials());
    let same = |own: u32, its: crate::task::credentials::Ids| [its.real, its.effective, its.saved] == [own; 3];
    let allowed = own.is_privileged() || same(own.user.real, its.user) && same(own.group.real, its.group);
    if allowed { Ok(()) } else { Err(Errno::EPERM) }
}

fn set(thread: &Thread, target: &Process, resource: Resource, old: Limit, new: Limit) -> Result<(), Errno> {
    if new.soft > new.hard || resource == Resource::OpenFiles && new.hard > OPEN_FILES_MAX {
        return Err(if new.soft > new.hard { Errno::EINVAL } else { Errno::EPERM });
    }
    if new.hard > old.hard && !thread.process.credentials().is_privileged() {
        return Err(Errno::EPERM);
    }
    let of_address_space = {
        let mut limits = target.limits.lock();
        limits.set(resource, new);
        limits.of_address_space()
    };
    target.with_address_space(|space| space.lock().limits = of_address_space);
    Ok(())
}

pub fn getrusage(thread: &Thread, who: i32, result: UserAddress) -> Result<(), Errno> {
    let process = &thread.process;
    let usage = match who {
        RUSAGE_SELF => process.usage(),
        // Memory is the process's, so that is what a thread is told.
        RUSAGE_THREAD => Usage { peak_bytes: process.peak_resident_bytes(), ..thread.usage() },
        RUSAGE_CHILDREN => process.usage.children.get(),
        _ => return Err(Errno::EINVAL),
    };
    write_usage(result, usage)
}

/// For wait4 and waitid: what a child has used, and the children that it has waited for.
pub fn write_usage_of_child(result: UserAddress, child: &Process) -> Result<(), Errno> {
    write_usage(result, child.usage().plus(child.usage.children.get()))
}

fn write_usage(result: UserAddress, usage: Usage) -> Result<(), Errno> {
    let resources = ResourceUsage {
        user_time: Timeval::from_ns(usage.user_ns),
        system_time: Timeval::from_ns(usage.system_ns),
        peak_resident_kib: (usage.peak_bytes / 1024) as i64,
        minor_faults: usage.minor_faults as i64,
        voluntary_switches: usage.voluntary_switches as i64,
        involuntary_switches: usage.involuntary_switches as i64,
        ..ResourceUsage::default()
    };
    user_access::write_value(result, &resources)
}

pub fn times(thread: &Thread, result: UserAddress) -> Result<i64, Errno> {
    if !result.is_null() {
        let (own, children) = (thread.process.usage(), thread.process.usage.children.get());
        let all = [own.user_ns, own.system_ns, children.user_ns, children.system_ns];
        user_access::write_value(result, &all.map(|ns| (ns / NS_PER_CLOCK_TICK) as i64))?;
    }
    Ok((crate::interrupts::clock::now_ns() / NS_PER_CLOCK_TICK) as i64)
}
