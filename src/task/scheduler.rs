//! Who runs: choosing, charging, waking, ticking.
//!
//! Policy: fair rounds. Each ready thread gets one quantum a round (5 ticks at nice 0, longer for favoured ones, shorter for
//! the others), favoured levels first ([`super::ready_queue`]). Why not strict priorities: with them a busy favoured thread
//! starves the rest for ever, and a shell must stay alive beside any number of busy programs. A thread that wakes keeps
//! what it had left of its quantum, so one that mostly waits runs soon after it wakes.
//!
//! The kernel isn't preempted: a thread leaves the CPU in [`schedule`], which it calls when it waits, when it ends, and on
//! its way back to user mode when its time is up.
//!
//! A thread's own reference lies in one of four places, and moves by value: with its CPU (it runs), in the ready queue, in
//! its own `parked` slot (it waits), in the CPU's `ended` slot (until the next thread has its stack).

#![expect(clippy::indexing_slicing, reason = "a running CPU's index is below the number of CPUs")]

use super::ready_queue::ReadyQueue;
use super::switch;
use super::thread::{Thread, Work};
use crate::cpu::per_cpu;
use crate::interrupts::clock;
use crate::lock::{InterruptsOff, IrqLock, Rank};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

const TICK_NS: i64 = 10_000_000;
const QUANTUM_TICKS: i64 = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// It has a CPU or waits for one.
    Running,
    /// It waits for an event, or for a signal.
    Waiting,
    /// It waits for an event that is sure to come, and lets signals wait.
    WaitingUninterruptibly,
    /// A signal stopped it.
    Stopped,
    /// It never runs again.
    Ended,
}

/// One CPU's part of the scheduler.
struct Cpu {
    ready: IrqLock<ReadyQueue<Thread>>,
    /// Runs when nobody else wants to. Set once, at start.
    idle: spin::Once<Arc<Thread>>,
    /// A thread that ended, until its stack is no longer in use. Only its CPU looks here, interrupts off.
    ended: IrqLock<Option<Arc<Thread>>>,
}

/// The CPUs that schedule. One runs at first; the others' entries come with them.
static CPUS: [Cpu; 1] = [const { Cpu::new() }; 1];

impl Cpu {
    const fn new() -> Self {
        Self {
            ready: IrqLock::new(Rank::RunQueue, ReadyQueue::new()),
            idle: spin::Once::new(),
            ended: IrqLock::new(Rank::RunQueue, None),
        }
    }
}

#[inline]
fn this_cpu() -> &'static Cpu {
    &CPUS[per_cpu::cpu_index() as usize % CPUS.len()]
}

/// The quantum of a level: 5 ticks at nice 0, from 10 at nice -20 to a quarter of one at nice 19.
pub const fn quantum_ns(level: u8) -> i64 {
    let share = 40 - if level < 40 { level as i64 } else { 39 };
    QUANTUM_TICKS * TICK_NS * share / 20
}

/// Says which thread runs when no other does. Once for each CPU, before its first [`schedule`].
pub fn set_idle_thread(thread: Arc<Thread>) {
    this_cpu().idle.call_once(|| thread);
}

/// Gives the CPU to whoever's turn it is, which may be the caller itself. With the state set to a waiting one before, the
/// caller comes back from here when it has been woken, and not at all with `Ended`. A caller that only yields is told from
/// one whose time is up by its quantum.
pub fn schedule() {
    crate::lock::assert_none_held();
    let interrupts = InterruptsOff::new();
    let cpu = this_cpu();
    per_cpu::set_need_reschedule(false);
    let previous = super::current_raw();
    // SAFETY: the CPU holds the current thread's own reference, made by `Arc::into_raw` when it got the CPU; here that
    // reference is taken back.
    let previous = unsafe { Arc::from_raw(previous) };
    let is_idle = cpu.idle.get().is_some_and(|idle| Arc::ptr_eq(idle, &previous));
    charge(&previous);
    let mut ready = cpu.ready.lock();
    let running = previous.schedule.state.load(Relaxed) == State::Running as u8;
    let mut leaving = Some(previous);
    if running && !is_idle {
        leaving.take().into_iter().for_each(|thread| enqueue(&mut ready, thread));
    }
    let next = ready.pop();
    let next = match next.or_else(|| cpu.idle.get().cloned()) {
        Some(next) => next,
        // Before there is an idle thread, the only thread goes on.
        None => return leaving.into_iter().for_each(core::mem::forget),
    };
    let previous_raw = super::current_raw();
    if let Some(thread) = leaving {
        leave(cpu, thread, is_idle);
    }
    drop(ready);
    let next_raw = Arc::into_raw(next);
    if !core::ptr::eq(next_raw, previous_raw) {
        // SAFETY: interrupts are off, the ready queue's lock is free again, and `previous`'s own reference lies in the
        // ready queue, in its parked slot, in `ended`, or with the idle slot.
        unsafe {
            (*next_raw).schedule.charged_until_ns.store(clock::now_ns(), Relaxed);
            switch::switch_to(&*previous_raw, &*next_raw);
        }
    }
    drop(interrupts);
}

/// Where the own reference of a thread goes that leaves the CPU without being ready.
fn leave(cpu: &Cpu, thread: Arc<Thread>, is_idle: bool) {
    let ended = thread.schedule.state.load(Relaxed) == State::Ended as u8;
    if is_idle {
        // The CPU's `idle` slot keeps it alive.
        drop(thread);
    } else if ended {
        // SAFETY: one thread at a time ends here, and the next one empties the slot before it does anything else.
        drop(cpu.ended.try_lock().and_then(|mut slot| slot.replace(thread)));
    } else {
        let slot = thread.schedule.parked.get();
        // SAFETY: the run queue's lock is held by the caller, and guards the slot.
        unsafe { *slot = Some(thread) };
    }
}

/// Called by the thread that just got the CPU.
pub(super) fn drop_ended_thread() {
    let ended = this_cpu().ended.try_lock().and_then(|mut slot| slot.take());
    drop(ended);
}

/// Lets the others go first.
pub fn yield_now() {
    schedule();
}

/// Puts a new thread among the ready ones. Its state is `Running` from the start.
pub fn start(thread: Arc<Thread>) {
    this_cpu().ready.lock().push_active(thread.clone(), usize::from(thread.schedule.level.load(Relaxed)));
}

/// Makes a thread ready if it waits in one of the two waiting states; `including` says whether an uninterruptible wait, or
/// a stop, ends too. True if it did wait so.
pub fn wake(thread: &Thread, including: impl Fn(u8) -> bool) -> bool {
    let cpu = this_cpu();
    let mut ready = cpu.ready.lock();
    if !including(thread.schedule.state.load(Relaxed)) {
        return false;
    }
    thread.schedule.state.store(State::Running as u8, Relaxed);
    // SAFETY: the run queue's lock guards the slot.
    let parked = unsafe { (*thread.schedule.parked.get()).take() };
    // Empty while the thread is still on its way to `schedule`, which then finds it running.
    if let Some(own) = parked {
        let level = usize::from(own.schedule.level.load(Relaxed));
        ready.push_active(own, level);
        preempt_for(thread);
    }
    true
}

/// The usual way: an event that the thread waits for has come.
pub fn wake_waiting(thread: &Thread) -> bool {
    wake(thread, |state| state == State::Waiting as u8 || state == State::WaitingUninterruptibly as u8)
}

/// Ticks that found a CPU in user mode, in the kernel, and idle.
static TICKS: [AtomicU64; 3] = [const { AtomicU64::new(0) }; 3];

/// For /proc/stat: ticks spent in user mode, in the kernel, and idle.
pub fn ticks_spent() -> [u64; 3] {
    core::array::from_fn(|way| TICKS[way].load(Relaxed))
}

/// What a thread does, as ps shows it.
pub fn state_letter(thread: &Thread) -> char {
    match thread.schedule.state.load(Relaxed) {
        state if state == State::Running as u8 => 'R',
        state if state == State::Waiting as u8 => 'S',
        state if state == State::WaitingUninterruptibly as u8 => 'D',
        state if state == State::Stopped as u8 => 'T',
        _ => 'Z',
    }
}

/// A tick of the timer on this CPU: `interrupts off`, in its handler.
pub fn tick(from_user: bool) {
    super::timers::expire();
    let current = super::current();
    let spent = if is_idle(&current) { 2 } else { usize::from(!from_user) };
    TICKS[spent].fetch_add(1, Relaxed);
    if is_idle(&current) {
        return;
    }
    let counter = if from_user { &current.schedule.user_ticks } else { &current.schedule.system_ticks };
    counter.store(counter.load(Relaxed).wrapping_add(1), Relaxed);
    charge(&current);
    current.add_work(Work::CPU_TIMERS);
    if current.schedule.quantum_left_ns.load(Relaxed) <= 0 {
        per_cpu::set_need_reschedule(true);
    }
}

pub fn is_idle(thread: &Thread) -> bool {
    this_cpu().idle.get().is_some_and(|idle| core::ptr::eq(Arc::as_ptr(idle), thread))
}

/// From -20 (favoured) to 19.
pub fn nice(thread: &Thread) -> i32 {
    i32::from(thread.schedule.level.load(Relaxed)) - 20
}

/// Counts from the thread's next turn on.
pub fn set_nice(thread: &Thread, nice: i32) {
    thread.schedule.level.store((nice.clamp(-20, 19) + 20) as u8, Relaxed);
}

/// How many threads are ready or run, for /proc/loadavg.
pub fn ready_count() -> usize {
    this_cpu().ready.lock().len() + usize::from(!is_idle(&super::current()))
}

/// Up to now, of the running thread or any other.
pub fn run_time_ns(thread: &Thread) -> u64 {
    if core::ptr::eq(super::current_raw(), thread) {
        let _interrupts = InterruptsOff::new();
        charge(thread);
    }
    thread.schedule.run_time_ns.load(Relaxed)
}

/// A thread's run time in user mode and in the kernel, ns: the exact sum, in the ratio in which ticks found it in each.
pub fn split_run_time(thread: &Thread) -> (u64, u64) {
    let total = run_time_ns(thread);
    let (user, system) = (thread.schedule.user_ticks.load(Relaxed), thread.schedule.system_ticks.load(Relaxed));
    let user_ns = match user + system {
        0 => total,
        ticks => (u128::from(total) * u128::from(user) / u128::from(ticks)) as u64,
    };
    (user_ns, total.saturating_sub(user_ns))
}

/// Behind the others of its level; in the next round if its quantum is used up.
fn enqueue(ready: &mut ReadyQueue<Thread>, thread: Arc<Thread>) {
    let level = thread.schedule.level.load(Relaxed);
    if thread.schedule.quantum_left_ns.load(Relaxed) <= 0 {
        thread.schedule.quantum_left_ns.store(quantum_ns(level), Relaxed);
        ready.push_expired(thread, usize::from(level));
    } else {
        ready.push_active(thread, usize::from(level));
    }
}

/// Books the time since the last charge to a running thread.
fn charge(thread: &Thread) {
    let schedule = &thread.schedule;
    let now = clock::now_ns();
    let used = now.saturating_sub(schedule.charged_until_ns.load(Relaxed));
    schedule.charged_until_ns.store(now, Relaxed);
    schedule.run_time_ns.store(schedule.run_time_ns.load(Relaxed).wrapping_add(used), Relaxed);
    let left = schedule.quantum_left_ns.load(Relaxed).saturating_sub_unsigned(used);
    schedule.quantum_left_ns.store(left, Relaxed);
}

/// A thread that just woke goes first if it is favoured, or if it has at least a tick more left of its quantum than the
/// one that runs. Less of a difference isn't worth a switch.
fn preempt_for(woken: &Thread) {
    let current = super::current();
    let (new, old) = (&woken.schedule, &current.schedule);
    let head_start = new.quantum_left_ns.load(Relaxed) - old.quantum_left_ns.load(Relaxed);
    if new.level.load(Relaxed) < old.level.load(Relaxed) || head_start >= TICK_NS || is_idle(&current) {
        per_cpu::set_need_reschedule(true);
    }
}
