//! Where a long system call lets others run.
//!
//! The kernel isn't preempted, so a call whose length a program decides stops between two pieces of its work, with no lock
//! held, and asks here.

use super::thread::Work;
use super::{current, current_raw, out_of_memory, scheduler, signal};
use crate::cpu::per_cpu;

/// Lets others run if it is their turn. True if the thread is to end: the call should come to its end, too.
#[inline]
pub fn yield_point() -> bool {
    // Before the first thread there are no others.
    if current_raw().is_null() || !per_cpu::need_reschedule() && current().work().is_empty() {
        return false;
    }
    settle()
}

#[cold]
fn settle() -> bool {
    if current().work().contains(Work::OUT_OF_MEMORY) {
        out_of_memory::make_room(&current());
    }
    if per_cpu::need_reschedule() {
        scheduler::schedule();
    }
    signal::ends(&current())
}
