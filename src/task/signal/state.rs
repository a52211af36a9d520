//! What a process and each of its threads keep about signals.

use super::action::Actions;
use super::info::Info;
use super::numbers::{Signal, SignalSet};
use super::pending::Pending;
use super::sending::hand_on;
use crate::errno::Errno;
use crate::lock::{IrqLock, Lock, Rank};
use crate::task::fork::CloneFlags;
use crate::task::thread::{Thread, Work};
use alloc::sync::Arc;
use core::sync::atomic::{
    AtomicBool, AtomicU64, AtomicUsize,
    Ordering::{Acquire, Relaxed, Release},
};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Signals that were sent to a thread or a process and not yet taken. Which ones there are shows without the lock: that is
/// asked on each way to a handler and each wait, and there is seldom one.
pub(super) struct Sent {
    set: AtomicU64,
    pending: IrqLock<Pending>,
}

/// How many signals are queued for all threads and processes together.
static ALL_QUEUED: AtomicUsize = AtomicUsize::new(0);

pub(super) fn all_queued() -> usize {
    ALL_QUEUED.load(Relaxed)
}

impl Sent {
    const fn new() -> Self {
        Self { set: AtomicU64::new(0), pending: IrqLock::new(Rank::Signals, Pending::new()) }
    }

    pub fn set(&self) -> SignalSet {
        SignalSet::from_bits(self.set.load(Acquire))
    }

    pub fn add(&self, info: Info, has_room: bool) -> Result<(), Errno> {
        self.change(|pending| pending.add(info, has_room))
    }

    pub fn queued(&self) -> usize {
        self.pending.lock().queued()
    }

    pub fn discard(&self, unwanted: SignalSet) {
        self.change(|pending| pending.discard(unwanted));
    }

    fn take(&self, wanted: SignalSet) -> Option<Info> {
        if self.set().intersection(wanted).is_empty() {
            return None;
        }
        self.change(|pending| pending.take(wanted))
    }

    #[inline]
    fn change<R>(&self, change: impl FnOnce(&mut Pending) -> R) -> R {
        let mut pending = self.pending.lock();
        let before = pending.queued();
        let result = change(&mut pending);
        self.set.store(pending.set().bits(), Release);
        ALL_QUEUED.fetch_add(pending.queued().wrapping_sub(before), Relaxed);
        result
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        ALL_QUEUED.fetch_sub(self.pending.get_mut().queued(), Relaxed);
    }
}

/// One thread's own signals.
pub struct ThreadSignals {
    pub(super) sent: Sent,
    mask: AtomicU64,
    /// The mask to go back to after the handler, for a call that waits with another one (sigsuspend, ppoll). Valid while
    /// `Work::RESTORE_MASK` is set.
    saved_mask: AtomicU64,
    /// What sigtimedwait waits for. It is not blocked meanwhile, and yet kept for the waiter, whatever its action is.
    awaited: AtomicU64,
    alternate_stack: Lock<AlternateStack>,
}

/// sigaltstack(2)'s structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct AlternateStack {
    pub base: u64,
    pub flags: u32,
    pub unused: u32,
    pub size: u64,
}

impl AlternateStack {
    pub const ON_STACK: u32 = 1;
    pub const DISABLE: u32 = 2;
    pub const AUTO_DISARM: u32 = 1 << 31;
    pub const NONE: Self = Self { base: 0, flags: Self::DISABLE, unused: 0, size: 0 };

    /// Whether a stack pointer lies on it.
    pub const fn holds(&self, stack_pointer: u64) -> bool {
        stack_pointer > self.base && stack_pointer - self.base <= self.size
    }
}

/// What a process's threads share. The actions can be shared between processes, too (CLONE_SIGHAND).
pub struct ProcessSignals {
    pub(super) sent: Sent,
    actions: Lock<Arc<Lock<Actions>>>,
    /// A stop signal took effect and no SIGCONT came since.
    pub(super) stopped: AtomicBool,
}

impl ThreadSignals {
    pub const fn new() -> Self {
        Self {
            sent: Sent::new(),
            mask: AtomicU64::new(0),
            saved_mask: AtomicU64::new(0),
            awaited: AtomicU64::new(0),
            alternate_stack: Lock::new(Rank::Thread, AlternateStack::NONE),
        }
    }

    pub fn mask(&self) -> SignalSet {
        SignalSet::from_bits(self.mask.load(Relaxed))
    }

    /// Whether a signal with no effect of its own is noted all the same: it is blocked, or waited for.
    pub(super) fn keeps(&self, signal: Signal) -> bool {
        self.mask().contains(signal) || SignalSet::from_bits(self.awaited.load(Relaxed)).contains(signal)
    }

    pub fn set_awaited(&self, signals: SignalSet) {
        self.awaited.store(signals.bits(), Relaxed);
    }

    pub fn pending_set(&self) -> SignalSet {
        self.sent.set()
    }

    pub fn alternate_stack(&self) -> AlternateStack {
        *self.alternate_stack.lock()
    }

    pub fn set_alternate_stack(&self, stack: AlternateStack) {
        *self.alternate_stack.lock() = stack;
    }

    /// For a new thread: its parent's mask; and its parent's alternate stack, unless they share their memory.
    pub fn inherit(&self, parent: &Self, shares_memory: bool) {
        self.mask.store(parent.mask.load(Relaxed), Relaxed);
        if !shares_memory {
            self.set_alternate_stack(parent.alternate_stack());
        }
    }
}

impl Default for ThreadSignals {
    fn default() -> Self {
        Self::new()
    }
}

impl Thread {
    /// What is blocked from here on. Signals that this lets through are taken before the thread returns to user mode.
    pub fn set_signal_mask(&self, mask: SignalSet) {
        let mask = mask.difference(SignalSet::UNBLOCKABLE);
        let old = SignalSet::from_bits(self.signals.mask.swap(mask.bits(), Relaxed));
        if !self.pending_signals().difference(mask).is_empty() {
            self.add_work(Work::SIGNAL);
        }
        hand_on(self, mask.difference(old));
    }

    /// As [`Self::set_signal_mask`], until the present system call has ended and its handlers, if any, have been set up.
    pub fn set_signal_mask_for_call(&self, mask: SignalSet) {
        self.signals.saved_mask.store(self.signals.mask().bits(), Relaxed);
        self.add_work(Work::RESTORE_MASK);
        self.set_signal_mask(mask);
    }

    /// The mask that a handler's frame is to restore: the present one, or the one that the call replaced.
    pub(super) fn take_mask_to_restore(&self) -> SignalSet {
        if self.work().contains(Work::RESTORE_MASK) {
            self.remove_work(Work::RESTORE_MASK);
            return SignalSet::from_bits(self.signals.saved_mask.load(Relaxed));
        }
        self.signals.mask()
    }
}

impl ProcessSignals {
    pub fn new() -> Result<Self, Errno> {
        Self::with_actions(Actions::new())
    }

    fn with_actions(actions: Actions) -> Result<Self, Errno> {
        let actions = Lock::shared(Rank::SignalActions, actions)?;
        Ok(Self::sharing(actions))
    }

    fn sharing(actions: Arc<Lock<Actions>>) -> Self {
        Self { sent: Sent::new(), actions: Lock::new(Rank::Process, actions), stopped: AtomicBool::new(false) }
    }

    /// For a child: the same actions, shared or copied as the flags say; nothing pending.
    pub fn for_child(&self, flags: CloneFlags) -> Result<Self, Errno> {
        if flags.contains(CloneFlags::SIGHAND) {
            return Ok(Self::sharing(self.actions.lock().clone()));
        }
        let actions = match flags.contains(CloneFlags::CLEAR_SIGHAND) {
            true => self.with(|actions| actions.without_handlers()),
            false => self.with(|actions| actions.clone()),
        };
        Self::with_actions(actions)
    }

    /// Looks at, or changes, the actions.
    pub fn with<R>(&self, use_them: impl FnOnce(&mut Actions) -> R) -> R {
        let actions = self.actions.lock();
        let mut actions = actions.lock();
        use_them(&mut actions)
    }

    /// What execve will put in place of the actions, made while it can still fail.
    pub fn actions_for_new_image(&self) -> Result<Arc<Lock<Actions>>, Errno> {
        let actions = self.with(|actions| actions.for_new_image());
        Lock::shared(Rank::SignalActions, actions)
    }

    pub fn replace_actions(&self, new: Arc<Lock<Actions>>) {
        let old = core::mem::replace(&mut *self.actions.lock(), new);
        drop(old);
    }

    pub fn pending_set(&self) -> SignalSet {
        self.sent.set()
    }

    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Relaxed)
    }
}

/// Takes the next signal that the thread doesn't block, its own before the process's.
pub(super) fn take_next(thread: &Thread, wanted: SignalSet) -> Option<Info> {
    thread.signals.sent.take(wanted).or_else(|| thread.process.signals.sent.take(wanted))
}

impl Thread {
    /// For sigtimedwait: takes a pending one of the set, blocked or not.
    pub fn take_signal(&self, wanted: SignalSet) -> Option<Info> {
        take_next(self, wanted)
    }

    /// Pending for this thread, its process's included.
    pub fn pending_signals(&self) -> SignalSet {
        self.signals.pending_set().union(self.process.signals.pending_set())
    }
}
