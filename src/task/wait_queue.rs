//! Waiting for an event: the one way in which a thread waits in the kernel.
//!
//! A waiting thread stands in the queue's list by a node on its own kernel stack, so that waiting never allocates, and
//! joining, leaving and waking the first take constant time. To lose no wake-up, a thread joins the list and sets its
//! state before it looks at its condition; whoever makes the condition true wakes the queue afterwards.

use super::scheduler::{self, State};
use super::thread::{Thread, Work};
use super::timers;
use crate::errno::Errno;
use crate::interrupts::clock;
use crate::lock::{IrqGuard, IrqLock, Rank};
use alloc::sync::Arc;
use core::marker::{PhantomData, PhantomPinned};
use core::pin::{Pin, pin};
use core::ptr;
use core::sync::atomic::Ordering::Relaxed;

/// What one of several things that share a queue is known by. Whole: where two had the same key, waking one of a thing's
/// waiters could wake the other's instead.
pub type Key = [u64; 2];

pub struct WaitQueue {
    waiters: IrqLock<Waiters>,
}

/// A doubly linked list of nodes, each alive as long as it is in the list.
struct Waiters {
    first: *mut Node,
    last: *mut Node,
}

// SAFETY: nodes are touched only under the queue's lock.
unsafe impl Send for Waiters {}

/// A thread's place in a queue; on its stack, and never moved while it is in a list.
pub struct Node {
    next: *mut Node,
    previous: *mut Node,
    queued: bool,
    thread: Arc<Thread>,
    /// What a waker that chooses goes by: a futex's key, and the bits it waits for.
    key: Key,
    bits: u32,
    /// Where it stands now: a futex's waiter can be moved to another queue.
    queue: *const WaitQueue,
    _pinned: PhantomPinned,
}

/// How a wait is ended other than by its event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// By the clock ([`clock::now_ns`]): ETIMEDOUT.
    pub deadline_ns: Option<u64>,
    /// By a signal: EINTR.
    pub signals: Signals,
}

/// Which signals end a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signals {
    None,
    /// Those that end the thread.
    Fatal,
    Any,
}

impl Limits {
    pub const INTERRUPTIBLE: Self = Self { deadline_ns: None, signals: Signals::Any };
    pub const FATAL_ONLY: Self = Self { deadline_ns: None, signals: Signals::Fatal };
    pub const NONE: Self = Self { deadline_ns: None, signals: Signals::None };

    pub const fn until(deadline_ns: Option<u64>) -> Self {
        Self { deadline_ns, signals: Signals::Any }
    }
}

impl WaitQueue {
    pub const fn new() -> Self {
        Self { waiters: IrqLock::new(Rank::WaitQueue, Waiters { first: ptr::null_mut(), last: ptr::null_mut() }) }
    }

    /// Waits until `condition` gives a value. It is asked first, and again after each wake-up; it may take locks, but not
    /// wait.
    pub fn wait_until<T>(&self, limits: Limits, mut condition: impl FnMut() -> Option<T>) -> Result<T, Errno> {
        if let Some(value) = condition() {
            return Ok(value);
        }
        let node = pin!(Node::default());
        prepare_to_wait(limits);
        let place = self.join(node);
        loop {
            if let Some(value) = condition() {
                return Ok(value);
            }
            wait_prepared(limits)?;
            // In this order: a wake-up that comes before the state is set takes the thread out of the list, and doesn't
            // wake it.
            prepare_to_wait(limits);
            place.rejoin();
        }
    }

    /// As [`Self::wait_until`], until a signal comes.
    pub fn wait_interruptibly<T>(&self, condition: impl FnMut() -> Option<T>) -> Result<T, Errno> {
        self.wait_until(Limits::INTERRUPTIBLE, condition)
    }

    /// Wakes the thread that has waited longest. True if there was one.
    pub fn wake_one(&self) -> bool {
        let mut waiters = self.waiters.lock();
        while let Some(node) = waiters.pop_first() {
            // SAFETY: nodes in the list are alive, and the lock is held until after the wake-up.
            if scheduler::wake_waiting(unsafe { &(*node).thread }) {
                return true;
            }
        }
        false
    }

    pub fn wake_all(&self) {
        let mut waiters = self.waiters.lock();
        while let Some(node) = waiters.pop_first() {
            // SAFETY: as in `wake_one`.
            scheduler::wake_waiting(unsafe { &(*node).thread });
        }
    }

    /// Wakes up to `count` of those with this key and any of these bits; says how many.
    pub fn wake_matching(&self, key: Key, bits: u32, count: u32) -> u32 {
        let mut waiters = self.waiters.lock();
        let mut woken = 0;
        let mut node = waiters.first;
        while !node.is_null() && woken < count {
            // SAFETY: nodes in the list are alive, and touched under the lock.
            unsafe {
                let next = (*node).next;
                if (*node).key == key && (*node).bits & bits != 0 {
                    waiters.unlink(node);
                    scheduler::wake_waiting(&(*node).thread);
                    woken += 1;
                }
                node = next;
            }
        }
        woken
    }

    /// How many have this key; counts up to `limit`.
    pub fn count_matching(&self, key: Key, limit: u32) -> u32 {
        let waiters = self.waiters.lock();
        let (mut count, mut node) = (0, waiters.first);
        while !node.is_null() && count < limit {
            // SAFETY: nodes in the list are alive, and touched under the lock.
            unsafe {
                count += u32::from((*node).key == key);
                node = (*node).next;
            }
        }
        count
    }

    /// Moves up to `count` of those with this key into another queue, under another key; says how many. Both queues live
    /// for ever. In the same queue the key must be another one.
    pub fn move_matching(&'static self, key: Key, to: &'static WaitQueue, new_key: Key, count: u32) -> u32 {
        let mut moved = 0;
        while moved < count {
            let taken = {
                let mut waiters = self.waiters.lock();
                let taken = waiters.take_first_with(key);
                if let Some(node) = taken {
                    // SAFETY: the node is alive: its thread can't leave before it has its queue's lock. It is in no list
                    // for a moment, which only its own thread could notice, by the lock that names its queue.
                    unsafe {
                        (*node).key = new_key;
                        (*node).queue = to;
                        (*node).queued = true;
                    }
                }
                taken
            };
            let Some(node) = taken else { break };
            to.waiters.lock().append(node);
            moved += 1;
        }
        moved
    }

    pub fn is_empty(&self) -> bool {
        self.waiters.lock().first.is_null()
    }

    /// Puts the current thread into the queue; it leaves it when the place is dropped. For waits on several queues at once
    /// (poll); a wait on one has [`Self::wait_until`].
    pub fn join<'a>(&'a self, node: Pin<&'a mut Node>) -> Place<'a> {
        // SAFETY: the node isn't moved: it is only linked, and unlinked before the pin's lifetime ends (`Place::drop`).
        let node = unsafe { node.get_unchecked_mut() };
        node.queue = self;
        let place = Place { queue: PhantomData, node };
        place.rejoin();
        place
    }
}

impl Default for WaitQueue {
    fn default() -> Self {
        Self::new()
    }
}

impl Default for Node {
    fn default() -> Self {
        Self::with_key(Key::default(), 0)
    }
}

impl Node {
    pub fn with_key(key: Key, bits: u32) -> Self {
        Self {
            next: ptr::null_mut(),
            previous: ptr::null_mut(),
            queued: false,
            thread: super::current().to_arc(),
            key,
            bits,
            queue: ptr::null(),
            _pinned: PhantomPinned,
        }
    }
}

/// The current thread's place in a queue.
pub struct Place<'a> {
    /// The queues that it may be in outlive it.
    queue: PhantomData<&'a WaitQueue>,
    node: *mut Node,
}

impl Place<'_> {
    /// Whether it still stands in a queue: nobody has woken it.
    pub fn is_queued(&self) -> bool {
        let _waiters = self.lock_queue();
        // SAFETY: the node is alive as long as this place, and touched under its queue's lock.
        unsafe { (*self.node).queued }
    }

    /// Back into the list, for a thread that was woken and goes on waiting.
    fn rejoin(&self) {
        let mut waiters = self.lock_queue();
        // SAFETY: as in `is_queued`.
        unsafe {
            if !(*self.node).queued {
                waiters.append(self.node);
            }
        }
    }

    /// The queue that the node belongs to; it may be moved to another one until the lock is held.
    fn lock_queue(&self) -> IrqGuard<'_, Waiters> {
        loop {
            // SAFETY: the node is alive; `queue` is a word, written under the lock of the queue it names, and the queues
            // that a node can be moved between are never freed.
            let queue = unsafe { (&raw const (*self.node).queue).read_volatile() };
            // SAFETY: as above.
            let waiters = unsafe { (*queue).waiters.lock() };
            // SAFETY: as above; with the lock held the value stays.
            if core::ptr::eq(unsafe { (*self.node).queue }, queue) {
                return waiters;
            }
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut waiters = self.lock_queue();
        // SAFETY: as in `rejoin`.
        unsafe {
            if (*self.node).queued {
                waiters.unlink(self.node);
            }
        }
        drop(waiters);
        super::current().schedule.state.store(State::Running as u8, Relaxed);
    }
}

/// Sets the current thread's state to waiting. A wake-up from here on makes [`wait_prepared`] return at once.
pub fn prepare_to_wait(limits: Limits) {
    let uninterruptible = limits.signals == Signals::None;
    let state = if uninterruptible { State::WaitingUninterruptibly } else { State::Waiting };
    super::current().schedule.state.store(state as u8, Relaxed);
}

/// Gives the CPU away until the thread is woken, its time is up, or a signal comes.
pub fn wait_prepared(limits: Limits) -> Result<(), Errno> {
    let current = super::current();
    let cut_short = match limits.signals {
        Signals::None => false,
        Signals::Fatal => super::signal::ends(&current),
        Signals::Any => current.work().intersects(Work::SIGNAL | Work::END) && super::signal::wakes(&current),
    };
    if cut_short {
        current.schedule.state.store(State::Running as u8, Relaxed);
        return Err(Errno::EINTR);
    }
    let Some(deadline_ns) = limits.deadline_ns else {
        scheduler::schedule();
        return Ok(());
    };
    if clock::now_ns() >= deadline_ns {
        current.schedule.state.store(State::Running as u8, Relaxed);
        return Err(Errno::ETIMEDOUT);
    }
    timers::set(current.to_arc(), deadline_ns);
    scheduler::schedule();
    timers::cancel(&current);
    Ok(())
}

impl Waiters {
    fn append(&mut self, node: *mut Node) {
        // SAFETY: the caller's node is alive and not in a list; the list's last node is alive because it is in the list.
        unsafe {
            (*node).queued = true;
            (*node).next = ptr::null_mut();
            (*node).previous = self.last;
            match self.last.as_mut() {
                Some(last) => last.next = node,
                None => self.first = node,
            }
        }
        self.last = node;
    }

    fn unlink(&mut self, node: *mut Node) {
        // SAFETY: the caller's node is in this list, so it and its neighbours are alive.
        unsafe {
            (*node).queued = false;
            match (*node).previous.as_mut() {
                Some(previous) => previous.next = (*node).next,
                None => self.first = (*node).next,
            }
            match (*node).next.as_mut() {
                Some(next) => next.previous = (*node).previous,
                None => self.last = (*node).previous,
            }
        }
    }

    fn take_first_with(&mut self, key: Key) -> Option<*mut Node> {
        let mut node = self.first;
        while !node.is_null() {
            // SAFETY: nodes in the list are alive, and touched under the lock that `self` came from.
            unsafe {
                if (*node).key == key {
                    self.unlink(node);
                    return Some(node);
                }
                node = (*node).next;
            }
        }
        None
    }

    fn pop_first(&mut self) -> Option<*mut Node> {
        let first = self.first;
        if first.is_null() {
            return None;
        }
        self.unlink(first);
        Some(first)
    }
}
