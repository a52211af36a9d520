//! Waiting for files: the wait queue of a pipe or a terminal, and waiting for several at once (poll).

use crate::errno::Errno;
use bitflags::bitflags;

#[cfg(not(target_os = "none"))]
pub use host::{PollTable, WaitQueue, wait_without_signals, yield_point};
#[cfg(target_os = "none")]
pub use {crate::task::wait_queue::WaitQueue, crate::task::yield_point::yield_point, machine::PollTable};

bitflags! {
    /// What a file is ready for, with `poll(2)`'s values.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Events: u16 {
        const IN = 0x1;
        const PRIORITY = 0x2;
        const OUT = 0x4;
        const ERROR = 0x8;
        const HANG_UP = 0x10;
        const INVALID = 0x20;
        const READ_NORMAL = 0x40;
        const WRITE_NORMAL = 0x100;
        const READ_HANG_UP = 0x2000;
    }
}

impl Events {
    /// There is something to read, or the end.
    pub const READABLE: Self = Self::IN.union(Self::READ_NORMAL);
    /// A write wouldn't wait.
    pub const WRITABLE: Self = Self::OUT.union(Self::WRITE_NORMAL);
}

/// Waits on `queue` until `condition` gives a value. Where a signal ends the wait, the system call is to be restarted,
/// if the signal's handler allows.
pub fn wait_restartably<T>(queue: &WaitQueue, condition: impl FnMut() -> Option<T>) -> Result<T, Errno> {
    queue.wait_interruptibly(condition).map_err(|error| if error == Errno::EINTR { Errno::ERESTARTSYS } else { error })
}

/// Waits on `queue` until `condition` holds, whatever signals come: for what is sure to come soon.
#[cfg(target_os = "none")]
pub fn wait_without_signals(queue: &WaitQueue, mut condition: impl FnMut() -> bool) {
    // Nothing else can end this wait.
    let _ = queue.wait_until(crate::task::wait_queue::Limits::NONE, || condition().then_some(()));
}

#[cfg(target_os = "none")]
mod machine {
    use super::WaitQueue;
    use crate::errno::Errno;
    use crate::task::wait_queue::{Node, Place};
    use alloc::boxed::Box;
    use alloc::vec::Vec;
    use core::pin::Pin;

    /// The queues that a poll waits on: files put themselves into it when asked for their events.
    #[derive(Default)]
    pub struct PollTable<'a> {
        // Dropped in this order: a place unlinks its node from its queue.
        places: Vec<Place<'a>>,
        nodes: Vec<Pin<Box<Node>>>,
        failed: bool,
    }

    impl<'a> PollTable<'a> {
        /// Wakes the poller too when `queue` is woken.
        pub fn add(&mut self, queue: &'a WaitQueue) {
            if self.try_add(queue).is_err() {
                self.failed = true;
            }
        }

        /// ENOMEM if not all queues could be joined.
        pub fn check(&self) -> Result<(), Errno> {
            if self.failed { Err(Errno::ENOMEM) } else { Ok(()) }
        }

        fn try_add(&mut self, queue: &'a WaitQueue) -> Result<(), Errno> {
            self.places.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
            self.nodes.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
            let mut node = Box::into_pin(Box::try_new(Node::default()).map_err(|_| Errno::ENOMEM)?);
            // SAFETY: the node stays where it is, in its box, and the box is dropped after the place (by the order of
            // the fields); so the place may treat it as borrowed for as long as it lives.
            let borrowed: Pin<&'a mut Node> = unsafe { core::mem::transmute(node.as_mut()) };
            let place = queue.join(borrowed);
            self.places.push(place);
            self.nodes.push(node);
            Ok(())
        }
    }
}

/// On the host nobody waits: what would have to, fails.
#[cfg(not(target_os = "none"))]
mod host {
    use crate::errno::Errno;
    use core::marker::PhantomData;

    pub fn yield_point() -> bool {
        false
    }

    pub fn wait_without_signals(_: &WaitQueue, mut condition: impl FnMut() -> bool) {
        while !condition() {
            core::hint::spin_loop();
        }
    }

    #[derive(Default)]
    pub struct WaitQueue;

    impl WaitQueue {
        pub const fn new() -> Self {
            Self
        }

        pub fn wait_interruptibly<T>(&self, mut condition: impl FnMut() -> Option<T>) -> Result<T, Errno> {
            condition().ok_or(Errno::EDEADLK)
        }

        pub fn wake_one(&self) {}

        pub fn wake_all(&self) {}
    }

    #[derive(Default)]
    pub struct PollTable<'a>(PhantomData<&'a ()>);

    impl<'a> PollTable<'a> {
        pub fn add(&mut self, _: &'a WaitQueue) {}
    }
}
