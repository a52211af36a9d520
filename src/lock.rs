//! Ranked spin locks: the only locks in Keel.
//!
//! Every lock has a rank, and a CPU takes locks only in rising order of rank; so no two CPUs can each hold what the other
//! waits for. Builds for the in-kernel tests check this at run time. No lock is held across a wait.
//!
//! [`Lock`] is for what only threads touch: the kernel isn't preempted, so on one CPU it is never contended. [`IrqLock`] is
//! for what an interrupt handler touches too, and keeps interrupts off while it is held.

use crate::errno::Errno;
use alloc::sync::Arc;
use core::ops::{Deref, DerefMut};
use spin::mutex::{SpinMutex, SpinMutexGuard};

/// The order in which locks are taken: outermost first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Rank {
    /// Who is whose parent, group and session; the table of pids.
    ProcessTree,
    /// One process's own fields: credentials, limits, signal actions.
    Process,
    /// One thread's fields that others may touch.
    Thread,
    /// A process's actions on signals.
    SignalActions,
    /// A process's table of open files.
    FileTable,
    /// One open file's position and flags.
    OpenFile,
    /// A terminal's line discipline.
    Terminal,
    /// A pipe's buffer.
    Pipe,
    /// A rename between directories, and the mount table.
    Mounts,
    /// The names in a directory.
    Directory,
    /// Which address space a process has. A fault asks, so it may be taken under a pipe's or a terminal's lock.
    AddressSpaceOf,
    /// One process's areas and page table.
    AddressSpace,
    /// A file's pages and attributes.
    Inode,
    /// A table of futex waiters.
    Futex,
    /// Kernel mappings: stacks, heap.
    KernelMap,
    /// Signals that were sent and not yet taken.
    Signals,
    /// The list of threads that wait for one event.
    WaitQueue,
    /// Pending deadlines.
    Timers,
    /// One CPU's runnable threads.
    RunQueue,
    /// The heap's size classes, then its backing store.
    Heap,
    HeapBacking,
    /// Free frames.
    Frames,
    /// Input bytes on their way from an interrupt to a reader.
    Input,
    /// Interrupt controllers and other devices' registers.
    Device,
    /// Where text goes out: taken under anything.
    Console,
}

/// A lock on data that no interrupt handler touches.
pub struct Lock<T> {
    rank: Rank,
    inner: SpinMutex<T>,
}

pub struct Guard<'a, T> {
    // Dropped in this order: the lock is released before its rank is given back.
    inner: SpinMutexGuard<'a, T>,
    _held: held::Held,
}

impl<T> Lock<T> {
    pub const fn new(rank: Rank, value: T) -> Self {
        Self { rank, inner: SpinMutex::new(value) }
    }

    /// One for several owners, on the heap: ENOMEM where there is no room.
    #[inline]
    pub fn shared(rank: Rank, value: T) -> Result<Arc<Self>, Errno> {
        Arc::try_new(Self::new(rank, value)).map_err(|_| Errno::ENOMEM)
    }

    #[inline]
    #[track_caller]
    pub fn lock(&self) -> Guard<'_, T> {
        let held = held::Held::take(self.rank);
        Guard { inner: take(&self.inner), _held: held }
    }

    /// For the panic path, which must not wait for a lock that its own CPU may hold. Ranks are not looked at.
    pub fn try_lock(&self) -> Option<Guard<'_, T>> {
        let inner = self.inner.try_lock()?;
        Some(Guard { inner, _held: held::Held::unranked() })
    }

    /// The data of a lock that nobody else can reach.
    pub fn get_mut(&mut self) -> &mut T {
        self.inner.get_mut()
    }

    pub fn into_inner(self) -> T {
        self.inner.into_inner()
    }
}

/// The first try is all that a free lock needs; waiting stands apart, out of the callers' way.
#[inline]
fn take<T>(mutex: &SpinMutex<T>) -> SpinMutexGuard<'_, T> {
    #[cold]
    fn wait<T>(mutex: &SpinMutex<T>) -> SpinMutexGuard<'_, T> {
        mutex.lock()
    }
    mutex.try_lock().unwrap_or_else(|| wait(mutex))
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

/// A lock on data that an interrupt handler touches too: interrupts are off on this CPU while it is held.
pub struct IrqLock<T> {
    rank: Rank,
    inner: SpinMutex<T>,
}

pub struct IrqGuard<'a, T> {
    // Dropped in this order: released, rank given back, interrupts as they were.
    inner: SpinMutexGuard<'a, T>,
    _held: held::Held,
    _interrupts: InterruptsOff,
}

impl<T> IrqLock<T> {
    pub const fn new(rank: Rank, value: T) -> Self {
        Self { rank, inner: SpinMutex::new(value) }
    }

    #[inline]
    #[track_caller]
    pub fn lock(&self) -> IrqGuard<'_, T> {
        let interrupts = InterruptsOff::new();
        let held = held::Held::take(self.rank);
        IrqGuard { inner: take(&self.inner), _held: held, _interrupts: interrupts }
    }

    /// For the panic path, which must not wait for a lock that its own CPU may hold. Ranks are not looked at.
    pub fn try_lock(&self) -> Option<IrqGuard<'_, T>> {
        let interrupts = InterruptsOff::new();
        let inner = self.inner.try_lock()?;
        Some(IrqGuard { inner, _held: held::Held::unranked(), _interrupts: interrupts })
    }

    pub fn get_mut(&mut self) -> &mut T {
        self.inner.get_mut()
    }
}

impl<T> Deref for IrqGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T> DerefMut for IrqGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

/// Keeps interrupts off on this CPU until dropped, then puts them back as they were.
pub struct InterruptsOff {
    #[cfg(target_os = "none")]
    were_on: bool,
}

impl InterruptsOff {
    #[inline]
    #[allow(clippy::new_without_default, reason = "taking it is an act, not a default")]
    pub fn new() -> Self {
        #[cfg(target_os = "none")]
        {
            let were_on = x86_64::instructions::interrupts::are_enabled();
            x86_64::instructions::interrupts::disable();
            Self { were_on }
        }
        #[cfg(not(target_os = "none"))]
        Self {}
    }
}

impl Drop for InterruptsOff {
    #[inline]
    fn drop(&mut self) {
        #[cfg(target_os = "none")]
        if self.were_on {
            x86_64::instructions::interrupts::enable();
        }
    }
}

/// The order check: which ranks this CPU holds. Present only in builds for the in-kernel tests.
#[cfg(all(feature = "kernel-tests", target_os = "none"))]
mod held {
    use super::Rank;
    use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

    /// One bit for each rank that is held. One CPU runs; with more of them this word is theirs each.
    static HELD: AtomicU64 = AtomicU64::new(0);

    pub struct Held(Option<Rank>);

    impl Held {
        #[track_caller]
        pub fn take(rank: Rank) -> Self {
            let held = HELD.load(Relaxed);
            assert!(
                held >> (rank as u8) == 0,
                "lock order: {rank:?} taken while a lock of its rank or a later one is held (ranks held: {held:#b})"
            );
            HELD.fetch_or(1 << (rank as u8), Relaxed);
            Self(Some(rank))
        }

        pub fn unranked() -> Self {
            Self(None)
        }
    }

    /// A device interrupt's handler: what the interrupted code holds is none of its business, since a handler takes
    /// [`super::IrqLock`]s only, and interrupts are off while one of those is held.
    pub struct InHandler(u64);

    impl InHandler {
        pub fn enter() -> Self {
            Self(HELD.swap(0, Relaxed))
        }
    }

    impl Drop for InHandler {
        fn drop(&mut self) {
            HELD.store(self.0, Relaxed);
        }
    }

    impl Drop for Held {
        fn drop(&mut self) {
            if let Some(rank) = self.0 {
                HELD.fetch_and(!(1 << (rank as u8)), Relaxed);
            }
        }
    }

    /// Fails a test in which a thread waits, or touches user memory, while it holds a lock that forbids it.
    #[track_caller]
    pub fn assert_only_up_to(rank: Rank) {
        let held = HELD.load(Relaxed);
        assert!(held >> (rank as u8 + 1) == 0, "a lock later than {rank:?} is held here (ranks held: {held:#b})");
    }

    #[track_caller]
    pub fn assert_none() {
        let held = HELD.load(Relaxed);
        assert!(held == 0, "a lock is held across a wait (ranks held: {held:#b})");
    }
}

#[cfg(not(all(feature = "kernel-tests", target_os = "none")))]
mod held {
    use super::Rank;

    pub struct Held;

    impl Held {
        #[inline(always)]
        pub fn take(_: Rank) -> Self {
            Self
        }

        pub fn unranked() -> Self {
            Self
        }
    }

    pub struct InHandler;

    impl InHandler {
        #[inline(always)]
        pub fn enter() -> Self {
            Self
        }
    }

    #[inline(always)]
    pub fn assert_only_up_to(_: Rank) {}

    #[inline(always)]
    pub fn assert_none() {}
}

pub use held::{InHandler, assert_none as assert_none_held, assert_only_up_to as assert_held_only_up_to};
