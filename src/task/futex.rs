//! Futexes: a program's threads wait in the kernel for a word of its memory to change (futex(2), and Linux's
//! Documentation/locking/robust-futexes).
//!
//! Waiters stand in a fixed table of queues, chosen by the futex's key. A waiter looks at the word when it already stands
//! in its queue: a wake-up that comes after the word has changed finds it there, so none is lost.

#![expect(clippy::indexing_slicing, reason = "the index is taken modulo the table's length")]

use super::current;
use super::thread::Thread;
use super::wait_queue::{self, Limits, Node, WaitQueue, prepare_to_wait, wait_prepared};
use crate::errno::Errno;
use crate::memory::PageSource;
use crate::memory::user_access::{self, UserAddress};
use alloc::sync::Arc;
use core::pin::pin;
use core::sync::atomic::Ordering::Relaxed;
use zerocopy::{FromBytes, Immutable, KnownLayout};

const QUEUES: usize = 256;

static WAITERS: [WaitQueue; QUEUES] = [const { WaitQueue::new() }; QUEUES];

/// The word's lowest bits hold its owner's id; these say that somebody waits, and that the owner has died.
const OWNER_DIED: u32 = 0x4000_0000;
const HAS_WAITERS: u32 = 0x8000_0000;
const OWNER_MASK: u32 = 0x3fff_ffff;
/// No list of robust futexes is followed further (Linux's ROBUST_LIST_LIMIT).
const ROBUST_LIST_LIMIT: usize = 2048;

/// Any waiter, whatever bits it waits for.
pub const ALL_BITS: u32 = u32::MAX;

/// What tells one futex from all others: for private ones the address space and the address, for shared ones the mapped
/// object and the offset in it.
pub struct Key {
    space: usize,
    offset: u64,
    /// Keeps the object, so that nothing else can come to lie where it is: a waiter's mapping may go while it waits.
    _object: Option<Arc<dyn PageSource>>,
}

impl Key {
    /// EINVAL for an address that isn't a multiple of 4; EFAULT for one that isn't the program's.
    #[inline]
    pub fn of(address: UserAddress, private: bool) -> Result<Self, Errno> {
        if !address.as_u64().is_multiple_of(4) {
            return Err(Errno::EINVAL);
        }
        address.check(4)?;
        if !private {
            return Self::of_shared(address);
        }
        let space = current().process.with_address_space(|space| core::ptr::from_ref(space).addr());
        Ok(Self::private(space.ok_or(Errno::ESRCH)?, address.as_u64()))
    }

    /// As a private one if what is mapped there isn't shared.
    fn of_shared(address: UserAddress) -> Result<Self, Errno> {
        // It must be there, even for who only wakes.
        user_access::read_value::<u32>(address)?;
        let key = current().process.with_address_space(|space| match space.lock().shared_place(address.as_u64()) {
            Some((object, offset)) => Self { space: object.identity(), offset, _object: Some(object) },
            None => Self::private(core::ptr::from_ref(space).addr(), address.as_u64()),
        });
        key.ok_or(Errno::ESRCH)
    }

    /// By where the address space lies, and the address in it.
    pub const fn private(space: usize, offset: u64) -> Self {
        Self { space, offset, _object: None }
    }

    fn queue(&self) -> &'static WaitQueue {
        let mixed = (self.offset >> 2 ^ self.space as u64 >> 4).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        &WAITERS[(mixed >> 56) as usize % QUEUES]
    }

    /// What a waiter is known by in its queue.
    pub const fn words(&self) -> wait_queue::Key {
        [self.space as u64, self.offset]
    }
}

/// Waits until woken, if the word still holds `expected`: EAGAIN if not. `bits` say which wake-ups it is for.
pub fn wait(
    address: UserAddress,
    private: bool,
    expected: u32,
    bits: u32,
    deadline_ns: Option<u64>,
) -> Result<(), Errno> {
    if bits == 0 {
        return Err(Errno::EINVAL);
    }
    let key = Key::of(address, private)?;
    let limits = Limits::until(deadline_ns);
    let mut node = pin!(Node::with_key(key.words(), bits));
    let place = key.queue().join(node.as_mut());
    // Asked before the state is set: reading the word may wait for nothing, but it may fault.
    let value: u32 = user_access::read_value(address)?;
    if value != expected {
        return Err(Errno::EAGAIN);
    }
    loop {
        prepare_to_wait(limits);
        // Woken means taken out of the queue, by whatever name: a requeue keeps it in another.
        if !place.is_queued() {
            return Ok(());
        }
        wait_prepared(limits)?;
    }
}

/// Wakes up to `count` waiters whose bits meet these; says how many.
pub fn wake(address: UserAddress, private: bool, count: u32, bits: u32) -> Result<u32, Errno> {
    if bits == 0 {
        return Err(Errno::EINVAL);
    }
    let key = Key::of(address, private)?;
    Ok(key.queue().wake_matching(key.words(), bits, count))
}

/// Wakes up to `wake_count` waiters and moves up to `move_count` of the others to another futex; says how many in all. With
/// `expected`, only if the word still holds it.
pub fn requeue(
    from: UserAddress,
    to: UserAddress,
    private: bool,
    wake_count: u32,
    move_count: u32,
    expected: Option<u32>,
) -> Result<u32, Errno> {
    let (from_key, to_key) = (Key::of(from, private)?, Key::of(to, private)?);
    if let Some(expected) = expected
        && user_access::read_value::<u32>(from)? != expected
    {
        return Err(Errno::EAGAIN);
    }
    let woken = from_key.queue().wake_matching(from_key.words(), ALL_BITS, wake_count);
    // To itself, whoever is moved would be found again.
    let moved = match from_key.words() == to_key.words() {
        true => from_key.queue().count_matching(from_key.words(), move_count),
        false => from_key.queue().move_matching(from_key.words(), to_key.queue(), to_key.words(), move_count),
    };
    Ok(woken.saturating_add(moved))
}

/// Changes the second word and wakes waiters of the first, and of the second if its old value compares as asked.
pub fn wake_operation(
    first: UserAddress,
    second: UserAddress,
    private: bool,
    counts: [u32; 2],
    operation: u32,
) -> Result<u32, Errno> {
    let (first_key, second_key) = (Key::of(first, private)?, Key::of(second, private)?);
    let operation = Operation::decode(operation)?;
    let old = loop {
        let old: u32 = user_access::read_value(second)?;
        if user_access::compare_exchange(second, old, operation.apply(old))? == old {
            break old;
        }
    };
    let mut woken = first_key.queue().wake_matching(first_key.words(), ALL_BITS, counts[0]);
    if operation.holds(old) {
        woken = woken.saturating_add(second_key.queue().wake_matching(second_key.words(), ALL_BITS, counts[1]));
    }
    Ok(woken)
}

/// FUTEX_WAKE_OP's encoding: what is done to the word, and what its old value is compared with.
struct Operation {
    code: u32,
    comparison: u32,
    operand: u32,
    compared_with: u32,
}

impl Operation {
    fn decode(encoded: u32) -> Result<Self, Errno> {
        let sign_extended = |bits: u32| ((bits << 20) as i32 >> 20) as u32;
        let shifted = encoded >> 31 != 0;
        let mut operand = sign_extended(encoded >> 12 & 0xfff);
        if shifted {
            operand = 1u32.wrapping_shl(operand);
        }
        let (code, comparison) = (encoded >> 28 & 7, encoded >> 24 & 0xf);
        if code > 4 || comparison > 5 {
            return Err(Errno::ENOSYS);
        }
        Ok(Self { code, comparison, operand, compared_with: sign_extended(encoded & 0xfff) })
    }

    fn apply(&self, old: u32) -> u32 {
        match self.code {
            0 => self.operand,
            1 => old.wrapping_add(self.operand),
            2 => old | self.operand,
            3 => old & !self.operand,
            _ => old ^ self.operand,
        }
    }

    fn holds(&self, old: u32) -> bool {
        let (old, with) = (old as i32, self.compared_with as i32);
        match self.comparison {
            0 => old == with,
            1 => old != with,
            2 => old < with,
            3 => old <= with,
            4 => old > with,
            _ => old >= with,
        }
    }
}

/// At a thread's end: whoever waits for its id to become 0 (pthread_join).
pub fn wake_joiners(address: UserAddress) {
    // Nobody can be told of an error: the thread ends.
    let _ = wake(address, false, 1, ALL_BITS);
}

/// `struct robust_list_head`.
#[derive(Clone, Copy, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct RobustListHead {
    first: u64,
    /// From an entry to its futex.
    offset: i64,
    /// An entry that is being locked or unlocked right now.
    pending: u64,
}

/// What robust futexes promise: those that the thread still holds are marked as left by a dead owner, and a waiter woken.
/// A list that makes no sense is followed as far as it does.
pub fn release_robust_list(thread: &Thread) {
    let head_address = thread.robust_list.swap(0, Relaxed);
    if head_address == 0 {
        return;
    }
    let Ok(head) = user_access::read_value::<RobustListHead>(UserAddress::new(head_address)) else { return };
    let futex_of = |entry: u64| UserAddress::new((entry & !1).wrapping_add_signed(head.offset));
    let mut entry = head.first;
    for _ in 0..ROBUST_LIST_LIMIT {
        if entry & !1 == head_address {
            break;
        }
        // The next one is read first: once the futex is free its memory is somebody else's.
        let next = user_access::read_value::<u64>(UserAddress::new(entry & !1));
        if entry != head.pending && abandon(thread, futex_of(entry), false).is_err() {
            return;
        }
        match next {
            Ok(next) => entry = next,
            Err(_) => return,
        }
    }
    if head.pending != 0 {
        // As above: there is nobody to tell.
        let _ = abandon(thread, futex_of(head.pending), true);
    }
}

fn abandon(thread: &Thread, futex: UserAddress, is_pending: bool) -> Result<(), Errno> {
    loop {
        let old: u32 = user_access::read_value(futex)?;
        if is_pending && old == 0 {
            // It was freed, and the thread ended before it could wake anybody.
            return wake(futex, false, 1, ALL_BITS).map(|_| ());
        }
        if old & OWNER_MASK != thread.tid() {
            return Ok(());
        }
        let new = old & HAS_WAITERS | OWNER_DIED;
        if user_access::compare_exchange(futex, old, new)? == old {
            if old & HAS_WAITERS != 0 {
                wake(futex, false, 1, ALL_BITS)?;
            }
            return Ok(());
        }
    }
}
