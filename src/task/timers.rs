//! Waking threads at a set time.
//!
//! Each thread has one deadline at most: the time limit of what it waits for. Process timers (alarm, setitimer) are kept
//! here as well, beside them. Deadlines are looked at by each tick, so they are as fine as a tick, and never early.

use super::deadlines::Deadlines;
use super::scheduler;
use super::thread::Thread;
use crate::errno::Errno;
use crate::interrupts::clock;
use crate::lock::{IrqLock, Rank};
use alloc::sync::Arc;

static DEADLINES: IrqLock<Deadlines<Thread>> = IrqLock::new(Rank::Timers, Deadlines::new());

/// A thread's place in the heap of deadlines, held as long as it exists, so that setting one cannot fail.
pub struct TimerRoom(());

impl TimerRoom {
    pub fn new() -> Result<Self, Errno> {
        DEADLINES.lock().make_room()?;
        Ok(Self(()))
    }
}

impl Drop for TimerRoom {
    fn drop(&mut self) {
        DEADLINES.lock().give_room_back();
    }
}

/// Wakes `thread`, whatever it waits for, when the clock has reached `deadline_ns`.
pub fn set(thread: Arc<Thread>, deadline_ns: u64) {
    DEADLINES.lock().set(thread, deadline_ns);
}

pub fn cancel(thread: &Thread) {
    DEADLINES.lock().cancel(thread);
}

/// Wakes those whose time has come. From the tick, interrupts off.
pub fn expire() {
    let mut deadlines = DEADLINES.lock();
    let Some(earliest) = deadlines.earliest() else { return };
    let now = clock::now_ns();
    if earliest > now {
        return;
    }
    while let Some(thread) = deadlines.pop_due(now) {
        scheduler::wake_waiting(&thread);
    }
}
