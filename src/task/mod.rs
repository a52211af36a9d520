//! Threads and processes: what runs, what waits, and who is whose child.
//!
//! - [`thread`], [`process`]: the two structures. [`family`], `groups`, [`ids`]: how they are found, who waits for whom, and who
//!   is together in a group or a session.
//! - [`scheduler`], [`ready_queue`]: whose turn it is; [`cpu_time`], [`usage`], [`load`]: who has had how much. [`switch`]: the
//!   hand-over (core story 4).
//! - [`credentials`], [`limits`]: what a process may. [`alarm`]: the timers it sets.
//! - [`wait_queue`], [`timers`], [`deadlines`], [`futex`]: waiting.
//! - [`init`], [`kernel_thread`]: the first ones. [`fork`], [`exit`]: how the others come and go.
//! - [`signal`]: what interrupts them; [`user_exception`]: those that a program's own fault brings. [`user_return`]: the way out.
//!   [`yield_point`]: the stops on a long way. [`out_of_memory`]: who must end when there is no more.

#[cfg(target_os = "none")]
pub mod alarm;
#[cfg(target_os = "none")]
pub mod cpu_time;
pub mod credentials;
pub mod deadlines;
#[cfg(target_os = "none")]
pub mod exit;
pub mod family;
#[cfg(target_os = "none")]
pub mod fork;
#[cfg(target_os = "none")]
pub mod futex;
mod groups;
pub mod ids;
#[cfg(target_os = "none")]
pub mod init;
#[cfg(target_os = "none")]
pub mod kernel_thread;
pub mod limits;
pub mod load;
#[cfg(target_os = "none")]
pub mod out_of_memory;
#[cfg(target_os = "none")]
pub mod process;
pub mod ready_queue;
#[cfg(target_os = "none")]
pub mod scheduler;
pub mod signal;
#[cfg(target_os = "none")]
pub mod switch;
#[cfg(target_os = "none")]
pub mod thread;
#[cfg(target_os = "none")]
pub mod timers;
pub mod usage;
#[cfg(target_os = "none")]
pub mod user_exception;
#[cfg(target_os = "none")]
pub mod user_return;
#[cfg(target_os = "none")]
pub mod wait_queue;
#[cfg(target_os = "none")]
pub mod yield_point;

#[cfg(target_os = "none")]
pub use running::{Current, current, current_raw};
#[cfg(target_os = "none")]
pub use thread::Thread;

#[cfg(target_os = "none")]
mod running {
    use super::Thread;
    use crate::cpu::per_cpu;
    use alloc::sync::Arc;
    use core::marker::PhantomData;
    use core::ops::Deref;

    /// The thread that runs this very code. It stays that thread for as long as the value exists, since the value cannot
    /// be given to another; and it is alive, since it runs.
    pub struct Current {
        thread: *const Thread,
        _stays_here: PhantomData<*const ()>,
    }

    #[inline(always)]
    pub fn current() -> Current {
        Current { thread: current_raw(), _stays_here: PhantomData }
    }

    #[inline(always)]
    pub fn current_raw() -> *const Thread {
        per_cpu::current_thread().cast()
    }

    impl Deref for Current {
        type Target = Thread;
        #[inline(always)]
        fn deref(&self) -> &Thread {
            // SAFETY: the CPU holds a counted reference to the thread that it runs, made by `Arc::into_raw`.
            unsafe { &*self.thread }
        }
    }

    impl Current {
        pub fn to_arc(&self) -> Arc<Thread> {
            // SAFETY: the pointer came from `Arc::into_raw`, and the CPU's own reference stays.
            unsafe {
                Arc::increment_strong_count(self.thread);
                Arc::from_raw(self.thread)
            }
        }
    }
}
