//! Interval timers: SIGALRM by the clock, SIGVTALRM and SIGPROF by the CPU time that a process has used, and RLIMIT_CPU
//! (setitimer(2)).
//!
//! Sending a signal takes locks that an interrupt handler must not take, so a tick sends none. Those of the clock are sent
//! by a kernel thread that sleeps until the earliest is due; those of CPU time by the running thread itself, which a tick
//! makes look ([`Work::CPU_TIMERS`]) when it returns to user mode.

#![expect(clippy::indexing_slicing, reason = "there are two timers of CPU time, and two indices")]

use super::deadlines::{Deadlines, HasDeadline, Position};
use super::kernel_thread;
use super::limits::{INFINITY, Limit, Resource};
use super::process::Process;
use super::scheduler;
use super::signal::{self, Info, Signal};
use super::thread::{Thread, Work};
use super::wait_queue::{Limits, WaitQueue};
use crate::errno::Errno;
use crate::interrupts::clock;
use crate::interrupts::time_scale::NS_PER_SECOND;
use crate::lock::{IrqLock, Lock, Rank};
use alloc::sync::Arc;

/// No timer of the clock comes more often, whatever was asked for: else the thread that sends the signals could be kept
/// busy for ever.
const SHORTEST_INTERVAL_NS: u64 = 1_000_000;
const NO_LIMIT: Limit = Limit { soft: INFINITY, hard: INFINITY };

/// What setitimer sets, in ns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Setting {
    /// 0: doesn't come again.
    pub interval_ns: u64,
    /// Until the next one; 0: not set.
    pub left_ns: u64,
}

/// Which time a timer counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    Real,
    Virtual,
    Profiling,
}

/// A process's timers.
pub struct Timers {
    real: Lock<RealTimer>,
    position: Position,
    /// Virtual and profiling: intervals, and the CPU time at which each is due (0: not set).
    cpu: Lock<[CpuTimer; 2]>,
}

#[derive(Clone, Copy, Default)]
struct RealTimer {
    interval_ns: u64,
    due_ns: u64,
}

#[derive(Clone, Copy, Default)]
struct CpuTimer {
    interval_ns: u64,
    due_ns: u64,
}

static DUE: IrqLock<Deadlines<Process>> = IrqLock::new(Rank::Timers, Deadlines::new());
static CHANGED: WaitQueue = WaitQueue::new();

impl HasDeadline for Process {
    fn position(&self) -> &Position {
        &self.timers.position
    }
}

impl Timers {
    /// ENOMEM where there is no room for another deadline. The room is given back by [`forget`].
    pub fn new() -> Result<Self, Errno> {
        DUE.lock().make_room()?;
        Ok(Self {
            real: Lock::new(Rank::Thread, RealTimer::default()),
            position: Position::new(),
            cpu: Lock::new(Rank::Thread, [CpuTimer::default(); 2]),
        })
    }
}

impl Drop for Timers {
    fn drop(&mut self) {
        DUE.lock().give_room_back();
    }
}

/// Starts the thread that sends SIGALRM. Once.
pub fn init() -> Result<(), Errno> {
    kernel_thread::spawn("alarms", send_alarms, 0).map(|_| ())
}

/// A process ends: nothing is due for it any more.
pub fn forget(process: &Process) {
    DUE.lock().cancel(process);
}

/// What is set now.
pub fn get(process: &Process, timer: Timer) -> Setting {
    match timer {
        Timer::Real => {
            let RealTimer { interval_ns, due_ns } = *process.timers.real.lock();
            Setting { interval_ns, left_ns: left(due_ns, clock::now_ns()) }
        }
        Timer::Virtual | Timer::Profiling => {
            let used_ns = used(process, timer);
            let CpuTimer { interval_ns, due_ns } = process.timers.cpu.lock()[cpu_index(timer)];
            Setting { interval_ns, left_ns: left(due_ns, used_ns) }
        }
    }
}

/// Sets a timer; returns what was set before.
pub fn set(process: &Arc<Process>, timer: Timer, new: Setting) -> Setting {
    let old = get(process, timer);
    match timer {
        Timer::Real => {
            let due_ns = if new.left_ns == 0 { 0 } else { clock::now_ns().saturating_add(new.left_ns) };
            // As on Linux the clock's timer forgets the interval when it is switched off; those of CPU time keep it.
            let interval_ns = if due_ns == 0 { 0 } else { new.interval_ns };
            *process.timers.real.lock() = RealTimer { interval_ns, due_ns };
            let mut due = DUE.lock();
            due.cancel(process);
            if due_ns != 0 {
                due.set(process.clone(), due_ns);
            }
            drop(due);
            CHANGED.wake_all();
        }
        Timer::Virtual | Timer::Profiling => {
            let due_ns = if new.left_ns == 0 { 0 } else { used(process, timer).saturating_add(new.left_ns) };
            process.timers.cpu.lock()[cpu_index(timer)] = CpuTimer { interval_ns: new.interval_ns, due_ns };
        }
    }
    old
}

/// By the running thread on its way back to user mode, once a tick: timers of CPU time, and RLIMIT_CPU.
pub fn check_cpu_timers(thread: &Thread) {
    thread.remove_work(Work::CPU_TIMERS);
    let process = &thread.process;
    // Adding up what all its threads have used takes a while, so not for a process that nobody times: nearly all of them.
    let is_timed = process.timers.cpu.lock().iter().any(|timer| timer.due_ns != 0);
    if !is_timed && process.limits.lock().get(Resource::CpuSeconds) == NO_LIMIT {
        return;
    }
    for (timer, signal) in [(Timer::Virtual, Signal::VTALRM), (Timer::Profiling, Signal::PROF)] {
        let used_ns = used(process, timer);
        let is_due = {
            let mut timers = process.timers.cpu.lock();
            let state = &mut timers[cpu_index(timer)];
            let is_due = state.due_ns != 0 && used_ns >= state.due_ns;
            if is_due {
                state.due_ns = next(state.due_ns, state.interval_ns, used_ns);
            }
            is_due
        };
        if is_due {
            send(process, signal);
        }
    }
    check_limit(process);
}

/// RLIMIT_CPU: SIGXCPU each second past the soft limit, SIGKILL at the hard one.
fn check_limit(process: &Process) {
    let limit = process.limits.lock().get(Resource::CpuSeconds);
    let used_ns = used(process, Timer::Profiling);
    if used_ns >= limit.hard.saturating_mul(NS_PER_SECOND) {
        send(process, Signal::KILL);
    } else if used_ns >= limit.soft.saturating_mul(NS_PER_SECOND) {
        process.limits.lock().set(Resource::CpuSeconds, Limit { soft: limit.soft.saturating_add(1), hard: limit.hard });
        send(process, Signal::XCPU);
    }
}

fn send(process: &Process, signal: Signal) {
    // A standard signal is never refused.
    let _ = signal::send_to_process(process, Info::from_kernel(signal));
}

extern "C" fn send_alarms(_: usize) {
    loop {
        // One moment for all that are due: each comes once in a round, and then others have their turn.
        let now_ns = clock::now_ns();
        while let Some(process) = next_due(now_ns) {
            set_next(&process, now_ns);
            send(&process, Signal::ALRM);
        }
        scheduler::yield_now();
        let earliest = DUE.lock().earliest();
        let limits = Limits { deadline_ns: earliest, ..Limits::NONE };
        // Ends by the clock, or by a change; either way it looks again.
        let _ = CHANGED.wait_until(limits, || (DUE.lock().earliest() != earliest).then_some(()));
    }
}

fn next_due(now_ns: u64) -> Option<Arc<Process>> {
    DUE.lock().pop_due(now_ns)
}

fn set_next(process: &Arc<Process>, now_ns: u64) {
    let next_ns = {
        let mut real = process.timers.real.lock();
        let interval_ns = if real.interval_ns == 0 { 0 } else { real.interval_ns.max(SHORTEST_INTERVAL_NS) };
        real.due_ns = next(real.due_ns, interval_ns, now_ns);
        real.due_ns
    };
    if next_ns != 0 {
        DUE.lock().set(process.clone(), next_ns);
    }
}

/// When a timer is due again: whole intervals after it was, so that being late doesn't add up. 0: never.
fn next(due_ns: u64, interval_ns: u64, now_ns: u64) -> u64 {
    let late_ns = now_ns.saturating_sub(due_ns);
    let Some(missed) = late_ns.checked_div(interval_ns) else { return 0 };
    due_ns.saturating_add(interval_ns.saturating_mul(missed.saturating_add(1)))
}

fn left(due_ns: u64, now_ns: u64) -> u64 {
    // A timer that is set never shows 0, which would mean that it isn't.
    if due_ns == 0 { 0 } else { due_ns.saturating_sub(now_ns).max(1000) }
}

fn cpu_index(timer: Timer) -> usize {
    usize::from(timer == Timer::Profiling)
}

/// The CPU time that a timer counts.
fn used(process: &Process, timer: Timer) -> u64 {
    let usage = process.usage_of_threads();
    if timer == Timer::Virtual { usage.user_ns } else { usage.user_ns.saturating_add(usage.system_ns) }
}
