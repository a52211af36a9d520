//! Threads: do they run, wait, wake and end, and leave nothing behind?

use super::memory::used_frames;
use crate::errno::Errno;
use crate::interrupts::clock;
use crate::kernel_test;
use crate::memory::heap;
use crate::task::futex::Key;
use crate::task::process::tasks;
use crate::task::wait_queue::{Limits, Node, WaitQueue};
use crate::task::{kernel_thread, scheduler, wait_queue};
use alloc::vec::Vec;
use core::pin::pin;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

kernel_test! {
    fn two_threads_take_turns_by_yielding() {
        static TURNS: [AtomicUsize; 2] = [const { AtomicUsize::new(0) }; 2];
        extern "C" fn take_turns(own: usize) {
            for turn in 0..100 {
                TURNS[own].store(turn + 1, Relaxed);
                scheduler::yield_now();
                let other = TURNS[own ^ 1].load(Relaxed);
                assert!(other.abs_diff(turn + 1) <= 1, "thread {own} is at turn {turn}, the other at {other}");
            }
        }
        let threads = [0, 1].map(|own| kernel_thread::spawn("turns", take_turns, own).expect("a thread"));
        threads.iter().for_each(|thread| kernel_thread::join(thread));
    }

    fn a_thousand_threads_run_and_end() {
        static RAN: AtomicUsize = AtomicUsize::new(0);
        extern "C" fn run(_: usize) {
            scheduler::yield_now();
            RAN.fetch_add(1, Relaxed);
        }
        let mut threads = alloc::vec::Vec::new();
        for _ in 0..1000 {
            threads.push(kernel_thread::spawn("one of many", run, 0).expect("a thread"));
        }
        threads.iter().for_each(|thread| kernel_thread::join(thread));
        assert_eq!(RAN.load(Relaxed), 1000);
    }

    fn ten_thousand_threads_leave_nothing_behind() {
        extern "C" fn end_at_once(_: usize) {}
        let batch = || {
            let spawn = |_| kernel_thread::spawn("one of many", end_at_once, 0).expect("a thread");
            let threads: Vec<_> = (0..100).map(spawn).collect();
            threads.iter().for_each(|thread| kernel_thread::join(thread));
            drop(threads);
            // The last one's stack is given back by the next switch.
            scheduler::yield_now();
        };
        // The first batches fill the caches, and the table of ids up to its end.
        (0..5).for_each(|_| batch());
        let in_use = || (used_frames(), heap::counts().used_bytes, tasks().threads.len());
        let before = in_use();
        (0..100).for_each(|_| batch());
        assert_eq!(in_use(), before);
    }

    fn a_waiter_is_woken_by_the_event_and_not_before() {
        static EVENT: wait_queue::WaitQueue = wait_queue::WaitQueue::new();
        static HAPPENED: AtomicUsize = AtomicUsize::new(0);
        extern "C" fn wait(_: usize) {
            let seen = EVENT.wait_until(wait_queue::Limits::NONE, || Some(HAPPENED.load(Relaxed)).filter(|n| *n > 0));
            assert_eq!(seen, Ok(7));
        }
        let waiter = kernel_thread::spawn("waiter", wait, 0).expect("a thread");
        (0..10).for_each(|_| scheduler::yield_now());
        assert!(!EVENT.is_empty());
        HAPPENED.store(7, Relaxed);
        assert!(EVENT.wake_one());
        kernel_thread::join(&waiter);
        assert!(EVENT.is_empty());
    }

    /// A wake-up takes a waiter out of the list; one that goes on waiting has to stand there again, and behind the others.
    fn a_waiter_that_was_woken_for_nothing_is_woken_again() {
        static EVENT: wait_queue::WaitQueue = wait_queue::WaitQueue::new();
        static HAPPENED: AtomicUsize = AtomicUsize::new(0);
        static LEFT: AtomicUsize = AtomicUsize::new(0);
        extern "C" fn wait(own: usize) {
            let seen = EVENT.wait_until(wait_queue::Limits::NONE, || Some(HAPPENED.load(Relaxed)).filter(|n| *n == own));
            assert_eq!((seen, LEFT.fetch_add(1, Relaxed) + 1), (Ok(own), own));
        }
        let waiters = [1, 2, 3].map(|own| kernel_thread::spawn("waiter", wait, own).expect("a thread"));
        (0..3).for_each(|_| scheduler::yield_now());
        for event in 1..=3 {
            assert!((0..5).all(|_| EVENT.wake_one() && { scheduler::yield_now(); true }), "before event {event}");
            HAPPENED.store(event, Relaxed);
            while LEFT.load(Relaxed) < event {
                assert!(EVENT.wake_one(), "nobody waits for event {event} any more");
                scheduler::yield_now();
            }
        }
        waiters.iter().for_each(|waiter| kernel_thread::join(waiter));
        assert!(EVENT.is_empty());
    }

    /// Folded into one word, what these two are known by would be the same.
    fn one_futexs_wake_up_does_not_go_to_anothers_waiter() {
        static QUEUE: WaitQueue = WaitQueue::new();
        static WOKEN: AtomicUsize = AtomicUsize::new(0);
        fn key(own: usize) -> wait_queue::Key {
            let [space, address] = [[0xffff_8000_0123_4400, 0x7e12_0000_1000], [0xffff_8000_0123_4500, 0x7f12_0000_1000]][own];
            Key::private(space as usize, address).words()
        }
        extern "C" fn wait(own: usize) {
            let node = pin!(Node::with_key(key(own), 1));
            let place = QUEUE.join(node);
            while place.is_queued() {
                wait_queue::prepare_to_wait(Limits::NONE);
                wait_queue::wait_prepared(Limits::NONE).expect("nothing else ends this wait");
            }
            WOKEN.fetch_or(1 << own, Relaxed);
        }
        let threads = [0, 1].map(|own| kernel_thread::spawn("waiter", wait, own).expect("a thread"));
        scheduler::yield_now();
        for own in [1, 0] {
            assert_eq!(QUEUE.wake_matching(key(own), 1, 1), 1);
            kernel_thread::join(&threads[own]);
            assert_eq!(WOKEN.swap(0, Relaxed), 1 << own);
        }
    }

    fn sleepers_wake_in_the_order_of_their_deadlines_and_none_early() {
        const SLEEPERS: u64 = 200;
        static WOKEN: AtomicUsize = AtomicUsize::new(0);
        static START_NS: AtomicU64 = AtomicU64::new(0);
        extern "C" fn sleep(order: usize) {
            let never = wait_queue::WaitQueue::new();
            let deadline_ns = START_NS.load(Relaxed) + (order as u64 + 1) * 20_000_000;
            let result = never.wait_until(wait_queue::Limits::until(Some(deadline_ns)), || None::<()>);
            assert_eq!(result, Err(Errno::ETIMEDOUT));
            let late_ns = clock::now_ns().checked_sub(deadline_ns).expect("not early");
            assert!(late_ns < 30_000_000, "sleeper {order} slept {late_ns} ns too long");
            assert_eq!(WOKEN.fetch_add(1, Relaxed), order);
        }
        START_NS.store(clock::now_ns() + 100_000_000, Relaxed);
        // Begun in another order than they are to wake in.
        let order = |number: u64| (number * 77 % SLEEPERS) as usize;
        let spawn = |number| kernel_thread::spawn("sleeper", sleep, order(number)).expect("a thread");
        let threads: Vec<_> = (0..SLEEPERS).map(spawn).collect();
        threads.iter().for_each(|thread| kernel_thread::join(thread));
        assert_eq!(WOKEN.load(Relaxed), SLEEPERS as usize);
    }

    fn a_wait_with_a_time_limit_ends_by_the_clock() {
        let never = wait_queue::WaitQueue::new();
        let start = clock::now_ns();
        let deadline = start + 30_000_000;
        let result = never.wait_until(wait_queue::Limits::until(Some(deadline)), || None::<()>);
        let waited = clock::now_ns() - start;
        assert_eq!(result, Err(Errno::ETIMEDOUT));
        assert!((30_000_000..60_000_000).contains(&waited), "waited {waited} ns");
    }
}
