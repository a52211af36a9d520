//! Clocks and sleeping.

use crate::errno::Errno;
use crate::interrupts::clock;
use crate::interrupts::time_scale::NS_PER_SECOND;
use crate::memory::user_access::{self, UserAddress};
use crate::task::alarm::{self, Setting, Timer};
use crate::task::thread::Restart;
use crate::task::wait_queue::{Limits, WaitQueue};
use crate::task::{Thread, cpu_time, process};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// What waits are measured by: a tick.
const COARSE_RESOLUTION_NS: i64 = 10_000_000;

const CLOCK_REALTIME: i32 = 0;
const CLOCK_MONOTONIC: i32 = 1;
const CLOCK_PROCESS_CPUTIME: i32 = 2;
const CLOCK_THREAD_CPUTIME: i32 = 3;
const CLOCK_MONOTONIC_RAW: i32 = 4;
const CLOCK_REALTIME_COARSE: i32 = 5;
const CLOCK_MONOTONIC_COARSE: i32 = 6;
const CLOCK_BOOTTIME: i32 = 7;
const CLOCK_TAI: i32 = 11;

const TIMER_ABSTIME: u32 = 1;

/// `struct timespec`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Timespec {
    pub seconds: i64,
    pub ns: i64,
}

/// `struct timeval`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Timeval {
    pub seconds: i64,
    pub us: i64,
}

impl Timespec {
    pub const fn from_ns(ns: u64) -> Self {
        Self { seconds: (ns / NS_PER_SECOND) as i64, ns: (ns % NS_PER_SECOND) as i64 }
    }

    /// EINVAL for a negative time or a nanosecond count that isn't one. A time past what 64 bits hold is the last one.
    pub fn as_ns(self) -> Result<u64, Errno> {
        let seconds = u64::try_from(self.seconds).map_err(|_| Errno::EINVAL)?;
        let ns = u64::try_from(self.ns).ok().filter(|ns| *ns < NS_PER_SECOND).ok_or(Errno::EINVAL)?;
        Ok(seconds.saturating_mul(NS_PER_SECOND).saturating_add(ns))
    }
}

impl Timeval {
    pub const fn from_ns(ns: u64) -> Self {
        Self { seconds: (ns / NS_PER_SECOND) as i64, us: (ns % NS_PER_SECOND / 1000) as i64 }
    }

    pub fn as_ns(self) -> Result<u64, Errno> {
        let us = u64::try_from(self.us).ok().filter(|us| *us < 1_000_000).ok_or(Errno::EINVAL)?;
        Timespec { seconds: self.seconds, ns: (us * 1000) as i64 }.as_ns()
    }
}

/// What a clock shows. Negative ids name the CPU-time clock of a process or thread (clock_getcpuclockid(3)).
fn read_clock(thread: &Thread, clock_id: i32) -> Result<u64, Errno> {
    match clock_id {
        CLOCK_REALTIME | CLOCK_REALTIME_COARSE | CLOCK_TAI => Ok(clock::wall_clock_ns()),
        CLOCK_MONOTONIC | CLOCK_MONOTONIC_RAW | CLOCK_MONOTONIC_COARSE | CLOCK_BOOTTIME => Ok(clock::now_ns()),
        CLOCK_PROCESS_CPUTIME => Ok(process_time_ns(&thread.process)),
        CLOCK_THREAD_CPUTIME => Ok(cpu_time::run_time_ns(thread)),
        ..0 => cpu_time_of(thread, clock_id),
        _ => Err(Errno::EINVAL),
    }
}

/// The id is inverted in the upper bits; bit 2 says that it is a thread's (Linux: MAKE_PROCESS_CPUCLOCK).
fn cpu_time_of(thread: &Thread, clock_id: i32) -> Result<u64, Errno> {
    let id = (!(clock_id >> 3)).unsigned_abs();
    let of_thread = clock_id & 4 != 0;
    match (id, of_thread) {
        (0, true) => Ok(cpu_time::run_time_ns(thread)),
        (0, false) => Ok(process_time_ns(&thread.process)),
        (tid, true) => {
            let other = process::find_thread(tid).filter(|other| other.process.pid == thread.process.pid);
            Ok(cpu_time::run_time_ns(&*other.ok_or(Errno::EINVAL)?))
        }
        (pid, false) => Ok(process_time_ns(&*process::find_process(pid).ok_or(Errno::EINVAL)?)),
    }
}

/// What a process's threads have run, those that ended included.
fn process_time_ns(process: &process::Process) -> u64 {
    let usage = process.usage_of_threads();
    usage.user_ns.saturating_add(usage.system_ns)
}

/// Left out: the alarm clocks.
pub fn clock_gettime(thread: &Thread, clock_id: i32, result: UserAddress) -> Result<(), Errno> {
    user_access::write_value(result, &Timespec::from_ns(read_clock(thread, clock_id)?))
}

pub fn clock_getres(thread: &Thread, clock_id: i32, result: UserAddress) -> Result<(), Errno> {
    read_clock(thread, clock_id)?;
    let coarse = clock_id == CLOCK_REALTIME_COARSE || clock_id == CLOCK_MONOTONIC_COARSE;
    let resolution = Timespec { seconds: 0, ns: if coarse { COARSE_RESOLUTION_NS } else { 1 } };
    if result.is_null() { Ok(()) } else { user_access::write_value(result, &resolution) }
}

pub fn clock_settime(thread: &Thread, clock_id: i32, time: UserAddress) -> Result<(), Errno> {
    let time: Timespec = user_access::read_value(time)?;
    let time_ns = time.as_ns()?;
    if clock_id != CLOCK_REALTIME {
        return Err(Errno::EINVAL);
    }
    set_wall_clock(thread, time_ns)
}

/// As on Linux no time is set from which 30 years of running could lead past what 63 bits hold, nor one that would have the
/// machine started before 1970.
fn set_wall_clock(thread: &Thread, time_ns: u64) -> Result<(), Errno> {
    const LATEST_NS: u64 = (i64::MAX as u64 / NS_PER_SECOND - 30 * 365 * 24 * 60 * 60) * NS_PER_SECOND;
    if time_ns >= LATEST_NS {
        return Err(Errno::EINVAL);
    }
    if !thread.process.credentials().is_privileged() {
        return Err(Errno::EPERM);
    }
    if time_ns < clock::now_ns() {
        return Err(Errno::EINVAL);
    }
    clock::set_wall_clock_ns(time_ns);
    Ok(())
}

/// The time zone is none of the kernel's business; Linux gives zeroes where nobody has set one.
pub fn gettimeofday(_: &Thread, time: UserAddress, zone: UserAddress) -> Result<(), Errno> {
    if !time.is_null() {
        user_access::write_value(time, &Timeval::from_ns(clock::wall_clock_ns()))?;
    }
    if zone.is_null() { Ok(()) } else { user_access::write_value(zone, &[0u32; 2]) }
}

pub fn settimeofday(thread: &Thread, time: UserAddress, _zone: UserAddress) -> Result<(), Errno> {
    if time.is_null() {
        return Ok(());
    }
    let time: Timeval = user_access::read_value(time)?;
    set_wall_clock(thread, time.as_ns()?)
}

pub fn time(_: &Thread, result: UserAddress) -> Result<i64, Errno> {
    let seconds = (clock::wall_clock_ns() / NS_PER_SECOND) as i64;
    if !result.is_null() {
        user_access::write_value(result, &seconds)?;
    }
    Ok(seconds)
}

pub fn nanosleep(thread: &Thread, request: UserAddress, remaining: UserAddress) -> Result<(), Errno> {
    clock_nanosleep(thread, CLOCK_MONOTONIC, 0, request, remaining)
}

/// Left out: CPU-time clocks of other processes.
pub fn clock_nanosleep(
    thread: &Thread,
    clock_id: i32,
    flags: u32,
    request: UserAddress,
    remaining: UserAddress,
) -> Result<(), Errno> {
    match clock_id {
        CLOCK_REALTIME | CLOCK_MONOTONIC | CLOCK_PROCESS_CPUTIME | CLOCK_BOOTTIME | CLOCK_TAI => {}
        CLOCK_THREAD_CPUTIME | CLOCK_MONOTONIC_RAW | CLOCK_REALTIME_COARSE | CLOCK_MONOTONIC_COARSE => {
            return Err(Errno::EOPNOTSUPP);
        }
        _ => return Err(Errno::EINVAL),
    }
    let request: Timespec = user_access::read_value(request)?;
    let request_ns = request.as_ns()?;
    let absolute = flags & TIMER_ABSTIME != 0;
    let length_ns = match absolute {
        true => request_ns.saturating_sub(read_clock(thread, clock_id)?),
        false => request_ns,
    };
    let deadline_ns = clock::now_ns().saturating_add(length_ns);
    if absolute {
        return if sleep_until(deadline_ns) { Ok(()) } else { Err(Errno::ERESTARTNOHAND) };
    }
    sleep_or_tell_the_rest(thread, deadline_ns, remaining)
}

/// Goes on with a wait that a stop signal interrupted: until the same moment.
pub fn restart_syscall(thread: &Thread) -> Result<usize, Errno> {
    match thread.take_restart().ok_or(Errno::EINTR)? {
        Restart::Sleep { deadline_ns, remaining } => sleep_or_tell_the_rest(thread, deadline_ns, remaining).map(|()| 0),
        Restart::Poll { descriptors, count, deadline_ns } => {
            super::poll::poll_restartably(thread, descriptors, count, deadline_ns)
        }
        Restart::Futex { address, private, expected, bits, deadline_ns } => {
            super::futex::wait_restartably(thread, address, private, expected, bits, Some(deadline_ns)).map(|()| 0)
        }
    }
}

/// A sleep for a length of time: interrupted, it stores what is left of it, and can go on until the same moment.
fn sleep_or_tell_the_rest(thread: &Thread, deadline_ns: u64, remaining: UserAddress) -> Result<(), Errno> {
    if sleep_until(deadline_ns) {
        return Ok(());
    }
    if !remaining.is_null() {
        let left_ns = deadline_ns.saturating_sub(clock::now_ns());
        user_access::write_value(remaining, &Timespec::from_ns(left_ns))?;
    }
    thread.set_restart(Restart::Sleep { deadline_ns, remaining });
    Err(Errno::ERESTARTBLOCK)
}

/// False if a signal came before the time did.
fn sleep_until(deadline_ns: u64) -> bool {
    let nobody = WaitQueue::new();
    nobody.wait_until(Limits::until(Some(deadline_ns)), || None::<()>) == Err(Errno::ETIMEDOUT)
}

/// `struct itimerval`.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct IntervalTimer {
    interval: Timeval,
    value: Timeval,
}

impl IntervalTimer {
    fn to_setting(self) -> Result<Setting, Errno> {
        Ok(Setting { interval_ns: self.interval.as_ns()?, left_ns: self.value.as_ns()? })
    }

    fn from_setting(setting: Setting) -> Self {
        Self { interval: Timeval::from_ns(setting.interval_ns), value: Timeval::from_ns(setting.left_ns) }
    }
}

fn timer(which: i32) -> Result<Timer, Errno> {
    match which {
        0 => Ok(Timer::Real),
        1 => Ok(Timer::Virtual),
        2 => Ok(Timer::Profiling),
        _ => Err(Errno::EINVAL),
    }
}

pub fn getitimer(thread: &Thread, which: i32, result: UserAddress) -> Result<(), Errno> {
    let setting = alarm::get(&thread.process, timer(which)?);
    user_access::write_value(result, &IntervalTimer::from_setting(setting))
}

/// Null switches the timer off, as on Linux.
pub fn setitimer(thread: &Thread, which: i32, new: UserAddress, old: UserAddress) -> Result<(), Errno> {
    let new: IntervalTimer = if new.is_null() { IntervalTimer::default() } else { user_access::read_value(new)? };
    let before = alarm::set(&thread.process, timer(which)?, new.to_setting()?);
    if old.is_null() { Ok(()) } else { user_access::write_value(old, &IntervalTimer::from_setting(before)) }
}

/// Returns the seconds that were left, rounded to the nearest, but not to none.
pub fn alarm(thread: &Thread, seconds: u32) -> u64 {
    let new = Setting { interval_ns: 0, left_ns: u64::from(seconds).saturating_mul(NS_PER_SECOND) };
    let left_ns = alarm::set(&thread.process, Timer::Real, new).left_ns;
    if left_ns == 0 { 0 } else { (left_ns.saturating_add(NS_PER_SECOND / 2) / NS_PER_SECOND).max(1) }
}
