//! Sending a signal: noting it, and waking who is to take it.

use super::action::{ActionFlags, Disposition};
use super::info::{Info, Origin, code};
use super::numbers::{DefaultAction, Signal, SignalSet};
use super::state::all_queued;
use super::stop;
use crate::errno::Errno;
use crate::task::family::Status;
use crate::task::limits::Resource;
use crate::task::process::{self, INIT_PID, Process};
use crate::task::scheduler::{self, State};
use crate::task::thread::{Thread, Work};
use crate::task::usage::NS_PER_CLOCK_TICK;
use alloc::sync::Arc;
use core::sync::atomic::Ordering::Relaxed;

const STOPS: SignalSet = SignalSet::EMPTY.with(Signal::STOP).with(Signal::TSTP).with(Signal::TTIN).with(Signal::TTOU);

/// Whether a wait of the thread is to be cut short.
pub fn wakes(thread: &Thread) -> bool {
    thread.work().contains(Work::END) || !deliverable(thread).is_empty()
}

/// Whether the thread is to end, and so must not go on waiting for anything.
pub fn ends(thread: &Thread) -> bool {
    thread.work().contains(Work::END) || thread.work().contains(Work::SIGNAL) && is_to_take_a_deadly_one(thread)
}

fn is_to_take_a_deadly_one(thread: &Thread) -> bool {
    let mut left = deliverable(thread);
    while let Some(signal) = left.first() {
        let action = thread.process.signals.with(|actions| actions.disposition(signal));
        if matches!(action, Disposition::Default(DefaultAction::Terminate | DefaultAction::Core)) {
            return true;
        }
        left = left.without(signal);
    }
    false
}

/// Pending and not blocked.
fn deliverable(thread: &Thread) -> SignalSet {
    thread.pending_signals().difference(thread.signals.mask())
}

/// To the process: one of its threads that doesn't block it takes it. EAGAIN only for a queued real-time signal.
pub fn send_to_process(process: &Process, info: Info) -> Result<(), Errno> {
    if !prepare(process, info.signal, None) {
        return Ok(());
    }
    process.signals.sent.add(info, has_room(process, info.signal))?;
    let threads = process.threads();
    let willing = |thread: &&Arc<Thread>| !thread.signals.mask().contains(info.signal);
    let waits = |thread: &&Arc<Thread>| thread.schedule.state.load(Relaxed) == State::Waiting as u8;
    let taker = threads.iter().filter(willing).find(waits).or_else(|| threads.iter().find(willing));
    // Where all block it, whoever waits for it with sigtimedwait must look.
    match taker {
        Some(thread) => notify(thread, info.signal),
        None => threads.iter().for_each(|thread| notify(thread, info.signal)),
    }
    Ok(())
}

/// A thread won't take these signals from now on: it blocks them, or ends. It may be the one that was to take its process's:
/// then others are.
pub fn hand_on(thread: &Thread, signals: SignalSet) {
    let left = thread.process.signals.pending_set().intersection(signals);
    if left.is_empty() {
        return;
    }
    for other in thread.process.threads().iter().filter(|other| !core::ptr::eq(Arc::as_ptr(other), thread)) {
        if let Some(signal) = left.difference(other.signals.mask()).first() {
            notify(other, signal);
        }
    }
}

/// To one thread.
pub fn send_to_thread(thread: &Thread, info: Info) -> Result<(), Errno> {
    if !prepare(&thread.process, info.signal, Some(thread)) {
        return Ok(());
    }
    thread.signals.sent.add(info, has_room(&thread.process, info.signal))?;
    notify(thread, info.signal);
    Ok(())
}

/// A fault of the running program: it is taken even if it is blocked or ignored, since the program can't go on.
pub fn force(thread: &Thread, info: Info) {
    let blocked = thread.signals.mask().contains(info.signal);
    thread.process.signals.with(|actions| {
        if blocked || actions.ignores(info.signal) {
            actions.reset(info.signal);
        }
    });
    thread.set_signal_mask(thread.signals.mask().without(info.signal));
    // A standard signal is never refused.
    let _ = thread.signals.sent.add(info, true);
    thread.add_work(Work::SIGNAL);
}

/// To every process of a group. ESRCH if it has none; EPERM is the caller's to find out.
pub fn send_to_group(group: u32, info: Info) -> Result<(), Errno> {
    let mut result = Err(Errno::ESRCH);
    process::for_each_of(
        |_, member| member.group == group && member.ended().is_none(),
        |process| {
            // A standard signal is never refused.
            let _ = send_to_process(process, info);
            result = Ok(());
        },
    );
    result
}

/// What SIGCHLD, and waitid, say of a child's end, stop or continuation.
pub fn about_news(child: &Process, status: Status) -> Info {
    let (code, value) = match status {
        Status::Exited(value) => (code::CHILD_EXITED, value.into()),
        Status::Killed { signal, core_dumped: true } => (code::CHILD_DUMPED, signal.into()),
        Status::Killed { signal, .. } => (code::CHILD_KILLED, signal.into()),
        Status::Stopped { signal } => (code::CHILD_STOPPED, signal.into()),
        Status::Continued => (code::CHILD_CONTINUED, Signal::CONT.number().into()),
    };
    let ticks = |ns: u64| (ns / NS_PER_CLOCK_TICK) as i64;
    let used = child.usage.threads.get();
    let origin = Origin::Child {
        pid: child.pid,
        uid: child.credentials().user.real,
        status: value,
        user_ticks: ticks(used.user_ns),
        system_ticks: ticks(used.system_ns),
    };
    Info { signal: Signal::CHLD, code, origin }
}

/// Tells the parent that a child has ended; true if the parent doesn't want to be asked for it. Who ignores SIGCHLD gets
/// none, not even while it is blocked.
pub fn tell_parent_of_end(parent: &Process, child: &Process, exit_signal: u8, status: Status) -> bool {
    let action = parent.signals.with(|actions| actions.get(Signal::CHLD));
    let by_sigchld = exit_signal == Signal::CHLD.number();
    if let Some(signal) = Signal::new(exit_signal.into()).filter(|_| !(by_sigchld && action.is_ignored())) {
        // A standard signal is never refused, and a real-time one that finds no room is lost, as on Linux.
        let _ = send_to_process(parent, Info { signal, ..about_news(child, status) });
    }
    by_sigchld && (action.is_ignored() || action.flags().contains(ActionFlags::NOCLDWAIT))
}

/// What a change of the action has made ignored is no longer pending.
#[cold]
pub fn forget(process: &Process, signal: Signal) {
    discard(process, SignalSet::EMPTY.with(signal));
}

/// What sending has as an effect of its own, whatever is done about the signal later: SIGCONT continues, and stops and
/// SIGCONT undo each other. False if the signal need not be noted at all.
fn prepare(process: &Process, signal: Signal, thread: Option<&Thread>) -> bool {
    if signal == Signal::CONT {
        discard(process, STOPS);
        stop::continue_process(process);
    } else if STOPS.contains(signal) {
        discard(process, SignalSet::EMPTY.with(Signal::CONT));
    }
    // Init gets only what it has asked for: nobody can kill it.
    let action = process.signals.with(|actions| actions.disposition(signal));
    let deadly =
        matches!(action, Disposition::Default(DefaultAction::Terminate | DefaultAction::Core | DefaultAction::Stop));
    let has_no_effect = action.is_ignored() || process.pid == INIT_PID && deadly;
    if !has_no_effect {
        return true;
    }
    // Then it is dropped, unless it is blocked or waited for: its action may be another by the time it is
    // taken, or it is taken by no action at all.
    match thread {
        Some(thread) => thread.signals.keeps(signal),
        None => process.threads().iter().any(|thread| thread.signals.keeps(signal)),
    }
}

fn discard(process: &Process, signals: SignalSet) {
    process.signals.sent.discard(signals);
    for thread in process.threads().iter() {
        thread.signals.sent.discard(signals);
    }
}

/// Whether there is room for a signal to be queued. There always is for one that isn't queued more than once.
#[inline]
fn has_room(process: &Process, signal: Signal) -> bool {
    !signal.is_real_time() || user_has_room(process)
}

/// Whether the user whose process it is may have another signal queued (RLIMIT_SIGPENDING). His are counted only if all together
/// reach the limit.
#[inline(never)]
fn user_has_room(process: &Process) -> bool {
    let limit = process.limits.lock().get(Resource::PendingSignals).soft;
    (all_queued() as u64) < limit || queued_for(process.credentials().user.real) < limit
}

fn queued_for(user: u32) -> u64 {
    let is_his = |process: &Process| process.credentials().user.real == user;
    let tasks = process::tasks();
    let of_threads = tasks.threads.iter().filter(|(_, thread)| is_his(&thread.process));
    let of_processes = tasks.family.iter().filter(|(_, member)| is_his(&member.value));
    let sum: usize = of_threads.map(|(_, thread)| thread.signals.sent.queued()).sum();
    of_processes.map(|(_, member)| member.value.signals.sent.queued()).fold(sum, usize::saturating_add) as u64
}

/// Makes the thread look. A stopped one wakes for SIGKILL only.
fn notify(thread: &Thread, signal: Signal) {
    thread.add_work(Work::SIGNAL);
    let kills = signal == Signal::KILL;
    scheduler::wake(thread, |state| state == State::Waiting as u8 || kills && state == State::Stopped as u8);
}
