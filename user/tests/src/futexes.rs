//! Futexes: waiting at a word, waking, and moving those who wait; and what the kernel does for the dead.

use conformance::support::*;
use conformance::{answers, case, sys};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicUsize, Ordering::SeqCst};
use std::thread;

static WORD: AtomicU32 = AtomicU32::new(0);
static PAST: [i64; 2] = [0, 1];

fn futex(word: &AtomicU32, operation: i32, value: u32, timeout: Option<&libc::timespec>) -> i64 {
    sys!(syscall(
        libc::SYS_futex,
        word,
        operation,
        value,
        timeout.map_or(std::ptr::null(), std::ptr::from_ref),
        0,
        u32::MAX
    ))
}

fn short() -> libc::timespec {
    libc::timespec { tv_sec: 0, tv_nsec: 10_000_000 }
}

fn requeue(word: &AtomicU32, operation: i32, wake: u32, move_count: u32, other: &AtomicU32, expected: u32) -> i64 {
    sys!(syscall(libc::SYS_futex, word, operation, wake, move_count as usize, other, expected))
}

/// Threads that wait at a futex; each counts when it is woken.
fn waiters(count: usize, word: &'static AtomicU32, woken: &'static AtomicI32) -> Vec<thread::JoinHandle<()>> {
    (0..count)
        .map(|_| {
            thread::spawn(move || {
                while futex(word, libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG, 0, None) != 0 {}
                woken.fetch_add(1, SeqCst);
            })
        })
        .collect()
}

/// Waits until a futex call that is repeated has reached so many threads.
fn until(count: i64, mut call: impl FnMut() -> i64) -> i64 {
    let mut total = 0;
    for _ in 0..2000 {
        total += call();
        if total >= count {
            break;
        }
        sleep_ms(1);
    }
    total
}

extern "C" fn do_nothing(_: i32) {}

pub const CASES: &[Case] = &[
    case!("freed_by_a_thread_that_ended_before_it_woke_anybody", {
        let waiter = thread::spawn(|| {
            let limit = libc::timespec { tv_sec: 5, tv_nsec: 0 };
            value(futex(&WORD, libc::FUTEX_WAIT, 0, Some(&limit)))
        });
        let unlocker = thread::spawn(|| {
            // An empty list whose pending entry is the futex.
            static HEAD: [AtomicUsize; 3] = [const { AtomicUsize::new(0) }; 3];
            HEAD[0].store((&raw const HEAD).addr(), SeqCst);
            HEAD[2].store((&raw const WORD).addr(), SeqCst);
            sleep_ms(200);
            ok(sys!(syscall(libc::SYS_set_robust_list, &raw const HEAD, size_of_val(&HEAD))))
        });
        answers!(unlocker.join().unwrap_or_default(), waiter.join().unwrap_or_default())
    }),
    case!("wakes_of_nobody_in_particular", {
        let nowhere = 0x10000;
        answers!(
            value(sys!(syscall(libc::SYS_futex, nowhere, libc::FUTEX_WAKE, 1))),
            value(sys!(syscall(libc::SYS_futex, nowhere, libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG, 1))),
            value(futex(&WORD, libc::FUTEX_WAKE | libc::FUTEX_CLOCK_REALTIME, 1, None)),
            value(futex(&WORD, libc::FUTEX_WAIT | libc::FUTEX_CLOCK_REALTIME, 1, None))
        )
    }),
    case!("wakes_one_at_least", {
        static WOKEN: AtomicI32 = AtomicI32::new(0);
        let threads = waiters(3, &WORD, &WOKEN);
        let operation = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;
        let none = until(1, || futex(&WORD, operation, 0, None));
        let fewer = until(1, || futex(&WORD, operation, u32::MAX, None));
        let last = until(1, || futex(&WORD, operation, 1, None));
        for thread in threads {
            let _ = thread.join();
        }
        answers!(none, fewer, last)
    }),
    case!("wait_with_another_value", value(futex(&WORD, libc::FUTEX_WAIT, 1, None))),
    case!("wait_runs_out", value(futex(&WORD, libc::FUTEX_WAIT, 0, Some(&short())))),
    case!(
        "wait_with_a_bad_time",
        value(futex(&WORD, libc::FUTEX_WAIT, 0, Some(&libc::timespec { tv_sec: 0, tv_nsec: 1_000_000_000 })))
    ),
    case!("wake_of_nobody", value(futex(&WORD, libc::FUTEX_WAKE, 10, None))),
    case!(
        "of_a_bad_address",
        answers!(
            value(sys!(syscall(libc::SYS_futex, 1, libc::FUTEX_WAIT, 0, 0))),
            value(sys!(syscall(libc::SYS_futex, 4, libc::FUTEX_WAIT, 0, 0))),
            value(sys!(syscall(libc::SYS_futex, &WORD, 99, 0, 0)))
        )
    ),
    case!("wakes_as_many_as_it_says", {
        static WOKEN: AtomicI32 = AtomicI32::new(0);
        let threads = waiters(4, &WORD, &WOKEN);
        let first = until(1, || futex(&WORD, libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG, 1, None));
        let rest = until(3, || futex(&WORD, libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG, 100, None));
        for thread in threads {
            let _ = thread.join();
        }
        answers!(first, rest, WOKEN.load(SeqCst))
    }),
    case!("requeue_moves_waiters", {
        static WOKEN: AtomicI32 = AtomicI32::new(0);
        static OTHER: AtomicU32 = AtomicU32::new(0);
        let threads = waiters(3, &WORD, &WOKEN);
        sleep_ms(100);
        let moved = requeue(&WORD, libc::FUTEX_CMP_REQUEUE | libc::FUTEX_PRIVATE_FLAG, 1, 100, &OTHER, 0);
        let wrong = value(requeue(&WORD, libc::FUTEX_CMP_REQUEUE | libc::FUTEX_PRIVATE_FLAG, 1, 100, &OTHER, 5));
        let here = futex(&WORD, libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG, 100, None);
        let there = futex(&OTHER, libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG, 100, None);
        for thread in threads {
            let _ = thread.join();
        }
        answers!(moved, wrong, here, there)
    }),
    case!("requeue_counts_who_is_moved", {
        static WOKEN: AtomicI32 = AtomicI32::new(0);
        static OTHER: AtomicU32 = AtomicU32::new(0);
        let threads = waiters(3, &WORD, &WOKEN);
        sleep_ms(100);
        let moved = requeue(&WORD, libc::FUTEX_REQUEUE | libc::FUTEX_PRIVATE_FLAG, 1, 100, &OTHER, 0);
        let there = until(2, || futex(&OTHER, libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG, 100, None));
        for thread in threads {
            let _ = thread.join();
        }
        answers!(moved, there)
    }),
    case!("bitsets_choose", {
        let thread = thread::spawn(|| {
            sys!(syscall(libc::SYS_futex, &WORD, libc::FUTEX_WAIT_BITSET | libc::FUTEX_PRIVATE_FLAG, 0, 0, 0, 0b10))
        });
        sleep_ms(100);
        let other =
            sys!(syscall(libc::SYS_futex, &WORD, libc::FUTEX_WAKE_BITSET | libc::FUTEX_PRIVATE_FLAG, 10, 0, 0, 0b01));
        let own = until(1, || {
            sys!(syscall(libc::SYS_futex, &WORD, libc::FUTEX_WAKE_BITSET | libc::FUTEX_PRIVATE_FLAG, 10, 0, 0, 0b11))
        });
        answers!(
            other,
            own,
            thread.join().unwrap_or(-9),
            value(sys!(syscall(libc::SYS_futex, &WORD, libc::FUTEX_WAKE_BITSET, 10, 0, 0, 0)))
        )
    }),
    case!(
        "wait_until_a_time_that_is_past",
        value(sys!(syscall(libc::SYS_futex, &WORD, libc::FUTEX_WAIT_BITSET, 0, &raw const PAST, 0, u32::MAX)))
    ),
    case!("in_shared_memory_wakes_another_process", {
        let memory = sys!(mmap(
            null_mut(),
            4096,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_ANONYMOUS,
            -1,
            0
        ));
        // SAFETY: the mapping is a page of zeros, shared, and lives as long as the process.
        let word: &'static AtomicU32 = unsafe { &*memory.cast() };
        let child = fork(|| {
            while futex(word, libc::FUTEX_WAIT, 0, None) != 0 {}
            5
        });
        answers!(until(1, || futex(word, libc::FUTEX_WAKE, 1, None)), ending(child))
    }),
    case!("private_does_not_reach_another_process", {
        let memory = sys!(mmap(
            null_mut(),
            4096,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_ANONYMOUS,
            -1,
            0
        ));
        // SAFETY: as above.
        let word: &'static AtomicU32 = unsafe { &*memory.cast() };
        let child = fork(|| {
            let limit = libc::timespec { tv_sec: 0, tv_nsec: 200_000_000 };
            if futex(word, libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG, 0, Some(&limit)) == 0 { 1 } else { 2 }
        });
        sleep_ms(50);
        answers!(futex(word, libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG, 1, None), ending(child))
    }),
    case!("wait_is_interrupted", {
        sys!(signal(libc::SIGUSR1, do_nothing as *const () as libc::sighandler_t));
        let parent = sys!(getpid());
        let child = fork(|| {
            sleep_ms(30);
            sys!(kill(parent, libc::SIGUSR1));
            0
        });
        let limit = libc::timespec { tv_sec: 5, tv_nsec: 0 };
        // SAFETY: sigaction is plain data, and the handler takes one argument: no SA_RESTART here.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = do_nothing as *const () as usize;
            libc::sigaction(libc::SIGUSR1, &action, null_mut());
        }
        let answer = value(futex(&WORD, libc::FUTEX_WAIT, 0, Some(&limit)));
        ending(child);
        answer
    }),
];
