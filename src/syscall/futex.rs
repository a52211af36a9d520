//! futex(2), and what threads tell the kernel for their end.

use super::time::Timespec;
use crate::errno::Errno;
use crate::interrupts::clock;
use crate::memory::user_access::{self, UserAddress};
use crate::task::thread::Restart;
use crate::task::{Thread, futex as futexes, process};
use core::sync::atomic::Ordering::Relaxed;

const PRIVATE: u32 = 128;
const CLOCK_REALTIME: u32 = 256;

const WAIT: u32 = 0;
const WAKE: u32 = 1;
const REQUEUE: u32 = 3;
const CMP_REQUEUE: u32 = 4;
const WAKE_OP: u32 = 5;
const WAIT_BITSET: u32 = 9;
const WAKE_BITSET: u32 = 10;

/// `struct robust_list_head` is this long.
const ROBUST_HEAD_BYTES: usize = 24;

/// The fourth argument is a time limit or a count, as the operation says.
/// Left out: the operations with priority inheritance (FUTEX_LOCK_PI and its kin), FUTEX_FD.
pub fn futex(
    thread: &Thread,
    address: UserAddress,
    operation: u32,
    value: u32,
    timeout: UserAddress,
    second: UserAddress,
    third_value: u32,
) -> Result<u32, Errno> {
    let private = operation & PRIVATE != 0;
    let real_time = operation & CLOCK_REALTIME != 0;
    let command = operation & !(PRIVATE | CLOCK_REALTIME);
    if real_time && command != WAIT_BITSET {
        return Err(Errno::ENOSYS);
    }
    let second_count = timeout.as_u64() as u32;
    // Linux wakes one before it counts, so at least one.
    let wakes = |count: u32| (count as i32).max(1) as u32;
    let bits = if command == WAIT || command == WAKE { futexes::ALL_BITS } else { third_value };
    match command {
        WAIT | WAIT_BITSET => {
            let deadline_ns = deadline(timeout, command == WAIT_BITSET, real_time)?;
            wait_restartably(thread, address, private, value, bits, deadline_ns).map(|()| 0)
        }
        WAKE | WAKE_BITSET => futexes::wake(address, private, wakes(value), bits),
        REQUEUE | CMP_REQUEUE if (value as i32) < 0 || (second_count as i32) < 0 => Err(Errno::EINVAL),
        REQUEUE => futexes::requeue(address, second, private, value, second_count, None),
        CMP_REQUEUE => futexes::requeue(address, second, private, value, second_count, Some(third_value)),
        WAKE_OP => futexes::wake_operation(address, second, private, [value, second_count].map(wakes), third_value),
        _ => Err(Errno::ENOSYS),
    }
}

/// Also what goes on after a stop, until the same moment: the limit may have been a length of time.
pub fn wait_restartably(
    thread: &Thread,
    address: UserAddress,
    private: bool,
    expected: u32,
    bits: u32,
    deadline_ns: Option<u64>,
) -> Result<(), Errno> {
    match (futexes::wait(address, private, expected, bits, deadline_ns), deadline_ns) {
        (Err(Errno::EINTR), None) => Err(Errno::ERESTARTSYS),
        (Err(Errno::EINTR), Some(deadline_ns)) => {
            thread.set_restart(Restart::Futex { address, private, expected, bits, deadline_ns });
            Err(Errno::ERESTARTBLOCK)
        }
        (result, _) => result,
    }
}

/// WAIT's limit is a length of time; WAIT_BITSET's a moment, of one of two clocks.
fn deadline(timeout: UserAddress, absolute: bool, real_time: bool) -> Result<Option<u64>, Errno> {
    if timeout.is_null() {
        return Ok(None);
    }
    let time_ns = user_access::read_value::<Timespec>(timeout)?.as_ns()?;
    let now_ns = clock::now_ns();
    let left_ns = match (absolute, real_time) {
        (false, _) => time_ns,
        (true, false) => return Ok(Some(time_ns)),
        (true, true) => time_ns.saturating_sub(clock::wall_clock_ns()),
    };
    Ok(Some(now_ns.saturating_add(left_ns)))
}

pub fn set_robust_list(thread: &Thread, head: UserAddress, length: usize) -> Result<(), Errno> {
    if length != ROBUST_HEAD_BYTES {
        return Err(Errno::EINVAL);
    }
    thread.robust_list.store(head.as_u64(), Relaxed);
    Ok(())
}

pub fn get_robust_list(thread: &Thread, tid: i32, head: UserAddress, length: UserAddress) -> Result<(), Errno> {
    let address = match tid {
        0 => thread.robust_list.load(Relaxed),
        _ => {
            let tid = u32::try_from(tid).map_err(|_| Errno::ESRCH)?;
            let other = process::find_thread(tid).ok_or(Errno::ESRCH)?;
            if other.process.pid != thread.process.pid && !thread.process.credentials().is_privileged() {
                return Err(Errno::EPERM);
            }
            other.robust_list.load(Relaxed)
        }
    };
    user_access::write_value(head, &address)?;
    user_access::write_value(length, &(ROBUST_HEAD_BYTES as u64))
}
