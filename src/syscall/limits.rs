//! Resource limits, and what has been used.

use super::process::{ResourceUsage, as_timeval};
use crate::errno::Errno;
use crate::memory::user_access::{self, UserAddress};
use crate::task::limits::{Limit, Resource};
use crate::task::process::{self, Process};
use crate::task::{Thread, cpu_time};
use alloc::sync::Arc;
use core::sync::atomic::Ordering::Relaxed;

const RUSAGE_SELF: i32 = 0;
const RUSAGE_CHILDREN: i32 = -1;
const RUSAGE_THREAD: i32 = 1;
/// Nobody may open more files than this (Linux's fs.nr_open).
const OPEN_FILES_MAX: u64 = 1 << 20;
/// times(2) counts in hundredths of a second.
const NS_PER_CLOCK_TICK: u64 = 10_000_000;

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
    let resource = Resource::from_number(resource).ok_or(Errno::EINVAL)?;
    let new: Option<Limit> = if new.is_null() { None } else { Some(user_access::read_value(new)?) };
    let target = match pid {
        0 => thread.process.clone(),
        _ => process::find_process(u32::try_from(pid).map_err(|_| Errno::ESRCH)?).ok_or(Errno::ESRCH)?,
    };
    check_same_user(thread, &target)?;
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
    let times = &thread.process.times;
    let usage = match who {
        RUSAGE_SELF => usage_of_process(&thread.process),
        RUSAGE_THREAD => {
            let (user_ns, system_ns) = cpu_time::split_run_time(thread);
            usage_of(user_ns, system_ns)
        }
        RUSAGE_CHILDREN => usage_of(times.children_user.load(Relaxed), times.children_system.load(Relaxed)),
        _ => return Err(Errno::EINVAL),
    };
    user_access::write_value(result, &usage)
}

fn usage_of(user_ns: u64, system_ns: u64) -> ResourceUsage {
    ResourceUsage { user_time: as_timeval(user_ns), system_time: as_timeval(system_ns), ..ResourceUsage::default() }
}

fn usage_of_process(process: &Process) -> ResourceUsage {
    let (user_ns, system_ns) = process.run_times();
    let peak = process.with_address_space(|space| space.lock().peak_resident_bytes()).unwrap_or(0);
    ResourceUsage { peak_resident_kib: (peak / 1024) as i64, ..usage_of(user_ns, system_ns) }
}

pub fn times(thread: &Thread, result: UserAddress) -> Result<i64, Errno> {
    if !result.is_null() {
        let (user_ns, system_ns) = thread.process.run_times();
        let times = &thread.process.times;
        let children = [times.children_user.load(Relaxed), times.children_system.load(Relaxed)];
        let all = [user_ns, system_ns, children[0], children[1]].map(|ns| (ns / NS_PER_CLOCK_TICK) as i64);
        user_access::write_value(result, &all)?;
    }
    Ok((crate::interrupts::clock::now_ns() / NS_PER_CLOCK_TICK) as i64)
}
