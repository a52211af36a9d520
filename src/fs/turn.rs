//! Turns: who moves a file's position, or changes a regular file, lets nobody else do so until the call is done.
//!
//! Unlike the ranked locks a turn may be kept while others run: a long read or write stops between two pages and lets them.
//! Whoever has a turn waits for no event, so a wait for it ends. A position's turn is taken before the contents' one.

use super::waiting::{WaitQueue, wait_without_signals};
use core::sync::atomic::{AtomicU8, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};

const FREE: u8 = 0;
const TAKEN: u8 = 1;
/// Taken, and somebody may be waiting.
const AWAITED: u8 = 2;

pub struct Turn {
    state: AtomicU8,
    waiting: WaitQueue,
}

/// Given back when dropped.
pub struct Held<'a>(&'a Turn);

impl Default for Turn {
    fn default() -> Self {
        Self::new()
    }
}

impl Turn {
    pub const fn new() -> Self {
        Self { state: AtomicU8::new(FREE), waiting: WaitQueue::new() }
    }

    #[inline]
    pub fn take(&self) -> Held<'_> {
        if self.state.compare_exchange(FREE, TAKEN, Acquire, Relaxed).is_err() {
            self.wait();
        }
        Held(self)
    }

    /// Who has waited leaves the state as if others still did: it doesn't know better.
    #[cold]
    #[inline(never)]
    fn wait(&self) {
        wait_without_signals(&self.waiting, || self.state.swap(AWAITED, Acquire) == FREE);
    }
}

impl Drop for Held<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.0.state.swap(FREE, Release) == AWAITED {
            self.0.waiting.wake_one();
        }
    }
}
