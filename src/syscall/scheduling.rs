//! Who gets how much of which CPU: niceness, affinity, policies. There is one policy, SCHED_OTHER.

use super::time::Timespec;
use crate::errno::Errno;
use crate::memory::user_access::{self, UserAddress};
use crate::task::process::{self, Process};
use crate::task::{Thread, scheduler};
use alloc::sync::Arc;

/// The policies (sched(7)).
const SCHED_OTHER: i32 = 0;
const SCHED_FIFO: i32 = 1;
const SCHED_RR: i32 = 2;
const SCHED_BATCH: i32 = 3;
const SCHED_IDLE: i32 = 5;
const SCHED_DEADLINE: i32 = 6;

/// The CPUs that run: the first one.
pub fn sched_getaffinity(thread: &Thread, tid: i32, length: usize, mask: UserAddress) -> Result<usize, Errno> {
    if length < 8 || !length.is_multiple_of(8) {
        return Err(Errno::EINVAL);
    }
    thread_named(thread, tid)?;
    user_access::write_value(mask, &1u64)?;
    Ok(8)
}

pub fn sched_setaffinity(thread: &Thread, tid: i32, length: usize, mask: UserAddress) -> Result<(), Errno> {
    let mut bytes = [0; 8];
    let count = length.min(bytes.len());
    user_access::copy_in(bytes.get_mut(..count).unwrap_or_default(), mask)?;
    if let Some(other) = thread_named(thread, tid)? {
        check_owner(thread, &other)?;
    }
    if u64::from_ne_bytes(bytes) & 1 == 0 { Err(Errno::EINVAL) } else { Ok(()) }
}

pub fn sched_getscheduler(thread: &Thread, tid: i32) -> Result<u32, Errno> {
    check_number(tid)?;
    thread_named(thread, tid)?;
    Ok(SCHED_OTHER as u32)
}

/// Left out: every policy but SCHED_OTHER.
pub fn sched_setscheduler(thread: &Thread, tid: i32, policy: i32, parameter: UserAddress) -> Result<(), Errno> {
    check_number(tid)?;
    if policy < 0 || parameter.is_null() {
        return Err(Errno::EINVAL);
    }
    let priority: i32 = user_access::read_value(parameter)?;
    let other = thread_named(thread, tid)?;
    match policy {
        SCHED_OTHER if priority == 0 => check_owner(thread, other.as_deref().unwrap_or(thread)),
        SCHED_FIFO | SCHED_RR | SCHED_BATCH | SCHED_IDLE | SCHED_DEADLINE => Err(Errno::EPERM),
        _ => Err(Errno::EINVAL),
    }
}

pub fn sched_getparam(thread: &Thread, tid: i32, parameter: UserAddress) -> Result<(), Errno> {
    check_number(tid)?;
    if parameter.is_null() {
        return Err(Errno::EINVAL);
    }
    thread_named(thread, tid)?;
    user_access::write_value(parameter, &0i32)
}

/// How long a thread's turn is.
pub fn sched_rr_get_interval(thread: &Thread, tid: i32, result: UserAddress) -> Result<(), Errno> {
    check_number(tid)?;
    let other = thread_named(thread, tid)?;
    let quantum_ns = scheduler::thread_quantum_ns(other.as_deref().unwrap_or(thread));
    user_access::write_value(result, &Timespec::from_ns(quantum_ns))
}

pub fn sched_get_priority_max(_: &Thread, policy: i32) -> Result<u32, Errno> {
    priority_bound(policy, 99)
}

pub fn sched_get_priority_min(_: &Thread, policy: i32) -> Result<u32, Errno> {
    priority_bound(policy, 1)
}

fn priority_bound(policy: i32, of_real_time: u32) -> Result<u32, Errno> {
    match policy {
        SCHED_FIFO | SCHED_RR => Ok(of_real_time),
        SCHED_OTHER | SCHED_BATCH | SCHED_IDLE | SCHED_DEADLINE => Ok(0),
        _ => Err(Errno::EINVAL),
    }
}

pub fn getcpu(_: &Thread, cpu: UserAddress, node: UserAddress) -> Result<(), Errno> {
    let index = crate::cpu::per_cpu::cpu_index();
    if !cpu.is_null() {
        user_access::write_value(cpu, &index)?;
    }
    if node.is_null() { Ok(()) } else { user_access::write_value(node, &0u32) }
}

/// As Linux gives it: 20 minus the nice value, so that it is never negative.
pub fn getpriority(thread: &Thread, which: i32, who: i32) -> Result<i32, Errno> {
    let mut best: Option<i32> = None;
    for_each_named(thread, which, who, |target| best = best.max(Some(20 - scheduler::nice(target))))?;
    best.ok_or(Errno::ESRCH)
}

/// Of several threads those that may be changed are, whatever is answered.
pub fn setpriority(thread: &Thread, which: i32, who: i32, nice: i32) -> Result<(), Errno> {
    let nice = nice.clamp(-20, 19);
    let mut result = Err(Errno::ESRCH);
    for_each_named(thread, which, who, |target| match check_niceness(thread, target, nice) {
        Ok(()) => {
            scheduler::set_nice(target, nice);
            result = result.or_else(|errno| if errno == Errno::ESRCH { Ok(()) } else { Err(errno) });
        }
        Err(errno) => result = Err(errno),
    })?;
    result
}

fn check_niceness(thread: &Thread, target: &Thread, nice: i32) -> Result<(), Errno> {
    check_owner(thread, target)?;
    let may_raise = thread.process.credentials().is_privileged();
    if nice < scheduler::nice(target) && !may_raise { Err(Errno::EACCES) } else { Ok(()) }
}

/// EPERM for somebody else's thread, but not for root.
fn check_owner(thread: &Thread, target: &Thread) -> Result<(), Errno> {
    let (own, its) = (thread.process.credentials(), target.process.credentials());
    let is_own = [its.user.real, its.user.effective].contains(&own.user.effective);
    if is_own || own.is_privileged() { Ok(()) } else { Err(Errno::EPERM) }
}

fn for_each_named(thread: &Thread, which: i32, who: i32, mut visit: impl FnMut(&Thread)) -> Result<(), Errno> {
    const PRIO_PROCESS: i32 = 0;
    const PRIO_PGRP: i32 = 1;
    const PRIO_USER: i32 = 2;
    if which == PRIO_PROCESS {
        let other = thread_named(thread, who)?;
        visit(other.as_deref().unwrap_or(thread));
        return Ok(());
    }
    if which != PRIO_PGRP && which != PRIO_USER {
        return Err(Errno::EINVAL);
    }
    let tasks = process::tasks();
    let number = |process: &Process| match which {
        PRIO_PGRP => tasks.family.get(process.pid).map(|member| member.group),
        _ => Some(process.credentials().user.real),
    };
    let wanted = if who == 0 { number(&thread.process) } else { Some(who as u32) };
    let programs = tasks.threads.iter().map(|(_, other)| other).filter(|other| other.has_user_mode());
    programs.filter(|other| number(&other.process) == wanted).for_each(|other| visit(other));
    Ok(())
}

/// Whom a call names. None stands for the caller, who may also be named by 0.
fn thread_named(thread: &Thread, tid: i32) -> Result<Option<Arc<Thread>>, Errno> {
    match u32::try_from(tid).map_err(|_| Errno::ESRCH)? {
        0 => Ok(None),
        own if own == thread.tid() => Ok(None),
        tid => process::find_thread(tid).map(Some).ok_or(Errno::ESRCH),
    }
}

/// The calls about policies call a negative number invalid, whatever else is wrong.
fn check_number(tid: i32) -> Result<(), Errno> {
    if tid < 0 { Err(Errno::EINVAL) } else { Ok(()) }
}
