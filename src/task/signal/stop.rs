//! Job control: a process stopped by a signal, until SIGCONT.
//!
//! The thread that takes the stop signal marks its process as stopped and tells the parent; every thread of the process
//! then waits on its way back to user mode.

use super::action::ActionFlags;
use super::numbers::Signal;
use super::sending::{about_news, send_to_process};
use crate::task::family::Status;
use crate::task::process::{Process, tasks};
use crate::task::scheduler::{self, State};
use crate::task::thread::{Thread, Work};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// How many processes are stopped: mostly none, and then nobody need look for them.
static STOPPED: AtomicUsize = AtomicUsize::new(0);

/// The current thread's process stops because of `signal`.
pub(super) fn stop_process(thread: &Thread, signal: Signal) {
    let process = &thread.process;
    if !process.signals.stopped.swap(true, Relaxed) {
        STOPPED.fetch_add(1, Relaxed);
    }
    for other in process.threads().iter() {
        other.add_work(Work::STOP);
        scheduler::wake(other, |state| state == State::Waiting as u8);
    }
    tell_parent(process, Status::Stopped { signal: signal.number() });
}

/// Whether any process at all is stopped.
pub fn any_stopped() -> bool {
    STOPPED.load(Relaxed) > 0
}

/// The process is not stopped any more, if it was: it goes on, or has ended. True if it was.
pub fn forget_stop(process: &Process) -> bool {
    let was_stopped = process.signals.stopped.swap(false, Relaxed);
    if was_stopped {
        STOPPED.fetch_sub(1, Relaxed);
    }
    was_stopped
}

/// SIGCONT was sent, whatever the process does about it.
pub fn continue_process(process: &Process) {
    if !forget_stop(process) {
        return;
    }
    for thread in process.threads().iter() {
        thread.remove_work(Work::STOP);
        scheduler::wake(thread, |state| state == State::Stopped as u8);
    }
    tell_parent(process, Status::Continued);
}

/// Where a thread of a stopped process stays. SIGKILL and the end of the process get it out as well.
pub fn wait_while_stopped(thread: &Thread) {
    while thread.process.signals.is_stopped() && !thread.work().contains(Work::END) && !kill_is_pending(thread) {
        {
            let _interrupts = crate::lock::InterruptsOff::new();
            thread.schedule.state.store(State::Stopped as u8, Relaxed);
            if !thread.process.signals.is_stopped() {
                thread.schedule.state.store(State::Running as u8, Relaxed);
                break;
            }
        }
        scheduler::schedule();
    }
    thread.remove_work(Work::STOP);
}

fn kill_is_pending(thread: &Thread) -> bool {
    thread.pending_signals().contains(Signal::KILL)
}

fn tell_parent(process: &Process, status: Status) {
    let parent: Option<Arc<Process>> = {
        let mut tasks = tasks();
        tasks.family.report(process.pid, status);
        let parent = tasks.family.get(process.pid).map(|member| member.parent);
        parent.and_then(|parent| tasks.family.get(parent)).map(|member| member.value.clone())
    };
    let Some(parent) = parent else { return };
    let action = parent.signals.with(|actions| actions.get(Signal::CHLD));
    if !action.is_ignored() && !action.flags().contains(ActionFlags::NOCLDSTOP) {
        // A standard signal is never refused.
        let _ = send_to_process(&parent, about_news(process, status));
    }
    parent.children_changed.wake_all();
}
