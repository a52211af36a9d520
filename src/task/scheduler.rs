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
//! its own `parked` slot (it waits), in the CPU's `ended` slot (until the next thread runs on a stack of its own).

#![expect(clippy::indexing_slicing, reason = "a running CPU's index is below the number of CPUs")]

use super::cpu_time::{self, charge};
use super::ready_queue::ReadyQueue;
use super::switch;
use super::thread::{Thread, Work};
use crate::cpu::per_cpu;
use crate::interrupts::timer;
use crate::lock::{InterruptsOff, IrqLock, Rank};
use alloc::sync::Arc;
use core::sync::atomic::Ordering::Relaxed;

const TICK_NS: i64 = timer::NS_PER_TICK as i64;
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
    queue: IrqLock<Queue>,
    /// Runs when nobody else wants to. Set once, at start.
    idle: spin::Once<Arc<Thread>>,
}

struct Queue {
    ready: ReadyQueue<Thread>,
    /// A thread that ended, until the next one has left its stack.
    ended: Option<Arc<Thread>>,
}

/// The CPUs that schedule. One runs at first; the others' entries come with them.
static CPUS: [Cpu; 1] = [const { Cpu::new() }; 1];

impl Cpu {
    const fn new() -> Self {
        let queue = Queue { ready: ReadyQueue::new(), ended: None };
        Self { queue: IrqLock::new(Rank::RunQueue, queue), idle: spin::Once::new() }
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

/// How long a thread's turns are.
pub fn thread_quantum_ns(thread: &Thread) -> u64 {
    quantum_ns(thread.schedule.level.load(Relaxed)).unsigned_abs()
}

/// Whether a thread has had its turn. Only a tick ends turns, and whoever got the CPU by one got it a little after the tick:
/// what is left of a quantum then is less than half a tick, and isn't worth another one.
const fn is_used_up(quantum_left_ns: i64) -> bool {
    quantum_left_ns < TICK_NS / 2
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
    let _interrupts = InterruptsOff::new();
    let cpu = this_cpu();
    // Before there is an idle thread there is no other either.
    let Some(idle) = cpu.idle.get() else { return };
    per_cpu::set_need_reschedule(false);
    let previous = super::current_raw();
    let current = super::current();
    let now_ns = charge(&current);
    let is_voluntary = current.schedule.state.load(Relaxed) != State::Running as u8;
    let mut queue = cpu.queue.lock();
    // SAFETY: the CPU holds the running thread's own reference, made by `Arc::into_raw` below when it got the CPU; here that
    // reference is taken back.
    queue.put_away(unsafe { Arc::from_raw(previous) });
    let next = Arc::into_raw(queue.ready.pop().unwrap_or_else(|| idle.clone()));
    drop(queue);
    if !core::ptr::eq(next, previous) {
        cpu_time::count_switch();
        // SAFETY: interrupts are off, no lock is held, and `previous` is kept alive by where `put_away` put it.
        unsafe {
            (*previous).counts.note_switch(is_voluntary);
            (*next).schedule.charged_until_ns.store(now_ns, Relaxed);
            switch::switch_to(&*previous, &*next);
        }
    }
}

impl Queue {
    /// Where the own reference of a thread goes that leaves the CPU.
    fn put_away(&mut self, thread: Arc<Thread>) {
        let state = thread.schedule.state.load(Relaxed);
        if is_idle(&thread) {
            // `Cpu::idle` keeps it.
            drop(thread);
        } else if state == State::Running as u8 {
            self.enqueue(thread);
        } else if state == State::Ended as u8 {
            // Empty: the next thread does this before anything else.
            self.ended = Some(thread);
        } else {
            let slot = thread.schedule.parked.get();
            // SAFETY: the run queue's lock, which `self` came from, guards the slot.
            unsafe { *slot = Some(thread) };
        }
    }

    /// Behind the others of its level; in the next round if its quantum is used up.
    fn enqueue(&mut self, thread: Arc<Thread>) {
        let level = thread.schedule.level.load(Relaxed);
        if is_used_up(thread.schedule.quantum_left_ns.load(Relaxed)) {
            thread.schedule.quantum_left_ns.store(quantum_ns(level), Relaxed);
            self.ready.push_expired(thread, usize::from(level));
        } else {
            self.ready.push_active(thread, usize::from(level));
        }
    }
}

/// Called by the thread that just got the CPU.
pub(super) fn drop_ended_thread() {
    let ended = this_cpu().queue.lock().ended.take();
    drop(ended);
}

/// Lets the others go first.
pub fn yield_now() {
    schedule();
}

/// Puts a new thread among the ready ones. Its state is `Running` from the start.
pub fn start(thread: Arc<Thread>) {
    this_cpu().queue.lock().ready.push_active(thread.clone(), usize::from(thread.schedule.level.load(Relaxed)));
}

/// Makes a thread ready if it is in one of the states that `ends` says this ends. True if it was.
pub fn wake(thread: &Thread, ends: impl Fn(u8) -> bool) -> bool {
    let mut queue = this_cpu().queue.lock();
    if !ends(thread.schedule.state.load(Relaxed)) {
        return false;
    }
    thread.schedule.state.store(State::Running as u8, Relaxed);
    // SAFETY: the run queue's lock guards the slot.
    let parked = unsafe { (*thread.schedule.parked.get()).take() };
    // Empty while the thread is still on its way to `schedule`, which then finds it running.
    if let Some(own) = parked {
        let level = usize::from(own.schedule.level.load(Relaxed));
        queue.ready.push_active(own, level);
        preempt_for(thread);
    }
    true
}

/// The usual way: an event that the thread waits for has come.
pub fn wake_waiting(thread: &Thread) -> bool {
    wake(thread, |state| state == State::Waiting as u8 || state == State::WaitingUninterruptibly as u8)
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

/// A tick of the timer on this CPU. In its handler, with interrupts off.
pub fn tick(from_user: bool) {
    super::timers::expire();
    cpu_time::note_load(ready_count);
    let current = super::current();
    if is_idle(&current) {
        return cpu_time::count_idle_tick();
    }
    cpu_time::count_tick(&current, from_user);
    charge(&current);
    current.add_work(Work::CPU_TIMERS);
    if is_used_up(current.schedule.quantum_left_ns.load(Relaxed)) {
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
    this_cpu().queue.lock().ready.len() + usize::from(!is_idle(&super::current()))
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
