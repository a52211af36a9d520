//! Threads: pthreads as libc makes them of clone, and the calls underneath.

use conformance::support::*;
use conformance::{answers, case, sys};
use std::cell::Cell;
use std::hint::spin_loop;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicI32, Ordering::SeqCst};
use std::sync::{Arc, Barrier, Condvar, Mutex, RwLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

static HANDLED_BY: AtomicI32 = AtomicI32::new(0);

/// Forks with a value of its own in a vector register, MXCSR and the x87 control word: which of them parent and child find
/// afterwards, as bits.
fn fork_with_floating_point_state() -> (i32, i32) {
    const VECTOR: u64 = 0x1122_3344_5566_7788;
    /// As at the start, but denormals are flushed to zero; and but for a precision of 53 bits.
    const MXCSR: u32 = 0x9f80;
    const CONTROL: u16 = 0x027f;
    let (mut mxcsr, mut control) = (MXCSR, CONTROL);
    let (child, vector): (i64, u64);
    // SAFETY: fork(), with registers that are put back to their initial values before any other code runs.
    unsafe {
        std::arch::asm!("ldmxcsr [{mxcsr}]", "fldcw [{control}]", "movq xmm9, {vector}", "syscall", "movq {vector}, xmm9",
            "stmxcsr [{mxcsr}]", "fnstcw [{control}]", "ldmxcsr [{initial_mxcsr}]", "fninit",
            mxcsr = in(reg) &raw mut mxcsr, control = in(reg) &raw mut control, vector = inout(reg) VECTOR => vector,
            initial_mxcsr = in(reg) &raw const INITIAL_MXCSR, inlateout("rax") libc::SYS_fork => child,
            out("rcx") _, out("r11") _, out("xmm9") _);
    }
    let kept = [vector == VECTOR, mxcsr == MXCSR, control == CONTROL];
    (child as i32, kept.iter().rev().fold(0, |bits, kept| bits << 1 | i32::from(*kept)))
}

static INITIAL_MXCSR: u32 = 0x1f80;

fn raw_wait(pid: i32) -> String {
    value(sys!(syscall(libc::SYS_wait4, pid, 0, libc::WNOHANG, 0)))
}

extern "C" fn note_thread(_: i32) {
    HANDLED_BY.store(sys!(syscall(libc::SYS_gettid)) as i32, SeqCst);
}

thread_local! {
    static OWN: Cell<u32> = const { Cell::new(5) };
}

pub const CASES: &[Case] = &[
    case!("create_and_join", thread::spawn(|| 42).join().unwrap_or(0)),
    case!("fifty_threads", {
        let threads: Vec<_> = (0..50).map(|number| thread::spawn(move || number)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or(0)).sum::<i32>()
    }),
    case!("threads_one_after_the_other", (0..300).map(|_| thread::spawn(|| 1).join().unwrap_or(0)).sum::<i32>()),
    case!("threads_share_memory_and_a_mutex", {
        let total = Arc::new(Mutex::new(0));
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let total = total.clone();
                thread::spawn(move || {
                    for _ in 0..10_000 {
                        if let Ok(mut total) = total.lock() {
                            *total += 1;
                        }
                    }
                })
            })
            .collect();
        for thread in threads {
            let _ = thread.join();
        }
        total.lock().map_or(0, |total| *total)
    }),
    case!("threads_have_their_own_locals", {
        OWN.set(6);
        let other = thread::spawn(|| {
            let before = OWN.get();
            OWN.set(7);
            before
        })
        .join()
        .unwrap_or(0);
        answers!(other, OWN.get())
    }),
    case!("threads_have_one_pid_and_many_tids", {
        let (pid, tid) = thread::spawn(|| (sys!(getpid()), sys!(syscall(libc::SYS_gettid)))).join().unwrap_or((0, 0));
        answers!(pid == sys!(getpid()), tid != i64::from(pid))
    }),
    case!("a_condition_variable", {
        let pair = Arc::new((Mutex::new(0), Condvar::new()));
        let other = pair.clone();
        let thread = thread::spawn(move || {
            if let Ok(mut turn) = other.0.lock() {
                while *turn < 100 {
                    if *turn % 2 == 1 {
                        *turn += 1;
                        other.1.notify_all();
                    } else if let Ok((next, _)) = other.1.wait_timeout(turn, Duration::from_secs(5)) {
                        turn = next;
                    } else {
                        return;
                    }
                }
            }
        });
        let mut last = 0;
        if let Ok(mut turn) = pair.0.lock() {
            while *turn < 100 {
                if *turn % 2 == 0 {
                    *turn += 1;
                    pair.1.notify_all();
                } else if let Ok((next, _)) = pair.1.wait_timeout(turn, Duration::from_secs(5)) {
                    turn = next;
                } else {
                    break;
                }
                last = *turn;
                if last >= 99 {
                    break;
                }
            }
        }
        if let Ok(mut turn) = pair.0.lock() {
            *turn = 100;
            pair.1.notify_all();
        }
        answers!(last >= 99, thread.join().is_ok())
    }),
    case!("a_condition_variable_runs_out", {
        let pair = (Mutex::new(()), Condvar::new());
        pair.0.lock().is_ok_and(|guard| {
            pair.1.wait_timeout(guard, Duration::from_millis(10)).is_ok_and(|(_, result)| result.timed_out())
        })
    }),
    case!("a_barrier", {
        let barrier = Arc::new(Barrier::new(5));
        let threads: Vec<_> = (0..5)
            .map(|_| {
                let barrier = barrier.clone();
                thread::spawn(move || barrier.wait().is_leader())
            })
            .collect();
        threads.into_iter().filter_map(|thread| thread.join().ok()).filter(|leader| *leader).count()
    }),
    case!("a_read_write_lock", {
        let lock = Arc::new(RwLock::new(0));
        let threads: Vec<_> = (0..4)
            .map(|index| {
                let lock = lock.clone();
                thread::spawn(move || {
                    for _ in 0..1000 {
                        if index % 2 == 0 {
                            if let Ok(mut value) = lock.write() {
                                *value += 1;
                            }
                        } else {
                            drop(lock.read());
                        }
                    }
                })
            })
            .collect();
        for thread in threads {
            let _ = thread.join();
        }
        lock.read().map_or(0, |value| *value)
    }),
    case!("a_channel", {
        let (sender, receiver) = mpsc::channel();
        let thread = thread::spawn(move || {
            for number in 0..1000 {
                let _ = sender.send(number);
            }
        });
        let sum: i32 = receiver.iter().sum();
        let _ = thread.join();
        sum
    }),
    case!(
        "a_thread_can_end_the_process",
        in_child(|| {
            let thread = thread::spawn(|| exit(6));
            let _ = thread.join();
            1
        })
    ),
    case!(
        "the_first_thread_may_leave_before_the_others",
        in_child(|| {
            thread::spawn(|| {
                sleep_ms(30);
                exit(8)
            });
            sys!(syscall(libc::SYS_exit, 3));
            1
        })
    ),
    case!(
        "a_fault_in_a_thread_ends_all",
        in_child(|| {
            let thread = thread::spawn(|| {
                sys!(signal(libc::SIGSEGV, libc::SIG_DFL));
                crate::memory::poke(null_mut())
            });
            let _ = thread.join();
            sleep_ms(1000);
            1
        })
    ),
    case!(
        "a_child_forked_by_a_thread_has_one_thread",
        in_child(|| {
            thread::spawn(|| sleep_ms(10_000));
            thread::spawn(|| {
                ending(fork(|| std::fs::read_dir("/proc/self/task").map_or(0, |entries| entries.count() as i32)))
            })
            .join()
            .map_or(99, |how| i32::from(how == "exit 1"))
        })
    ),
    case!("any_thread_may_wait_for_the_process_child", {
        let child = fork(|| 4);
        thread::spawn(move || ending(child)).join().unwrap_or_default()
    }),
    case!("a_signal_to_a_thread", {
        sys!(signal(libc::SIGUSR1, note_thread as *const () as libc::sighandler_t));
        let (sender, receiver) = mpsc::channel();
        let thread = thread::spawn(move || {
            let _ = sender.send(sys!(syscall(libc::SYS_gettid)) as i32);
            sleep_ms(100);
        });
        let tid = receiver.recv().unwrap_or(0);
        let sent = ok(sys!(syscall(libc::SYS_tgkill, sys!(getpid()), tid, libc::SIGUSR1)));
        let _ = thread.join();
        answers!(sent, HANDLED_BY.load(SeqCst) == tid)
    }),
    case!("a_signal_to_the_process_goes_to_a_thread_that_takes_it", {
        sys!(signal(libc::SIGUSR1, note_thread as *const () as libc::sighandler_t));
        let (sender, receiver) = mpsc::channel();
        let thread = thread::spawn(move || {
            let _ = sender.send(sys!(syscall(libc::SYS_gettid)) as i32);
            while HANDLED_BY.load(SeqCst) == 0 {
                sleep_ms(1);
            }
        });
        let tid = receiver.recv().unwrap_or(0);
        // SAFETY: a signal set is plain integers.
        unsafe {
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigaddset(&mut set, libc::SIGUSR1);
            libc::sigprocmask(libc::SIG_BLOCK, &set, null_mut());
            libc::kill(libc::getpid(), libc::SIGUSR1);
        }
        let _ = thread.join();
        HANDLED_BY.load(SeqCst) == tid
    }),
    case!("masks_are_inherited_by_threads", {
        // SAFETY: signal sets are plain integers.
        unsafe {
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigaddset(&mut set, libc::SIGUSR2);
            libc::sigprocmask(libc::SIG_BLOCK, &set, null_mut());
        }
        thread::spawn(|| {
            let mut bits = 0_u64;
            sys!(syscall(libc::SYS_rt_sigprocmask, 0, 0, &raw mut bits, 8));
            bits >> (libc::SIGUSR2 - 1) & 1
        })
        .join()
        .unwrap_or(9)
    }),
    case!("a_thread_keeps_its_vector_registers", {
        let spinner = thread::spawn(|| {
            let mut sum = 0.0_f64;
            for index in 1..2_000_000 {
                sum += 1.0 / f64::from(index);
            }
            sum
        });
        let mut sum = 0.0_f64;
        for index in 1..2_000_000 {
            sum += 1.0 / f64::from(index);
        }
        spinner.join().is_ok_and(|other| other.to_bits() == sum.to_bits())
    }),
    case!("threads_share_descriptors_and_folder", {
        let file = thread::spawn(|| {
            sys!(mkdir(c"d".as_ptr(), 0o755));
            sys!(chdir(c"d".as_ptr()));
            open(c".", 0)
        })
        .join()
        .unwrap_or(-1);
        answers!(ok(sys!(fcntl(file, libc::F_GETFD))), std::env::current_dir().is_ok_and(|path| path.ends_with("d")))
    }),
    case!("a_threads_name", {
        let thread = thread::Builder::new().name("worker".into()).spawn(|| {
            let mut name = [0_u8; 16];
            sys!(prctl(libc::PR_GET_NAME, name.as_mut_ptr()));
            String::from_utf8_lossy(&name[..6]).into_owned()
        });
        thread.ok().and_then(|thread| thread.join().ok()).unwrap_or_default()
    }),
    case!("cancelling_a_thread", {
        extern "C" fn wait(_: *mut libc::c_void) -> *mut libc::c_void {
            loop {
                sys!(pause());
            }
        }
        // SAFETY: pthreads' own use: the thread is created, cancelled and joined.
        unsafe {
            unsafe extern "C" {
                fn pthread_cancel(thread: libc::pthread_t) -> i32;
            }
            let mut thread = 0;
            let mut result = null_mut();
            let created = libc::pthread_create(&mut thread, std::ptr::null(), wait, null_mut());
            sleep_ms(10);
            answers!(
                returned(created),
                returned(pthread_cancel(thread)),
                returned(libc::pthread_join(thread, &mut result)),
                result as isize
            )
        }
    }),
    case!("a_robust_mutex_of_a_dead_thread", {
        // SAFETY: the mutex lives in a static-like leaked box, and is used as pthreads says.
        unsafe {
            let mutex: &'static mut libc::pthread_mutex_t = Box::leak(Box::new(std::mem::zeroed()));
            let mut attributes: libc::pthread_mutexattr_t = std::mem::zeroed();
            libc::pthread_mutexattr_init(&mut attributes);
            libc::pthread_mutexattr_setrobust(&mut attributes, libc::PTHREAD_MUTEX_ROBUST);
            libc::pthread_mutex_init(mutex, &attributes);
            let address = std::ptr::from_mut(mutex) as usize;
            let _ = thread::spawn(move || libc::pthread_mutex_lock(address as *mut _)).join();
            let first = libc::pthread_mutex_lock(mutex);
            let repaired = libc::pthread_mutex_consistent(mutex);
            answers!(
                returned(first),
                returned(repaired),
                returned(libc::pthread_mutex_unlock(mutex)),
                returned(libc::pthread_mutex_lock(mutex))
            )
        }
    }),
    case!("a_signal_goes_to_another_thread_once_its_taker_blocks_it", {
        // Blocks the second signal; ends when another thread has taken that.
        extern "C" fn first(_: i32) {
            let start = Instant::now();
            while HANDLED_BY.load(SeqCst) == 0 && start.elapsed() < Duration::from_secs(3) {
                spin_loop();
            }
        }
        // SAFETY: sigaction is plain data.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = first as *const () as usize;
            libc::sigaddset(&mut action.sa_mask, libc::SIGUSR2);
            libc::sigaction(libc::SIGUSR1, &action, null_mut());
        }
        sys!(signal(libc::SIGUSR2, note_thread as *const () as usize));
        let own = sys!(getpid());
        let busy = thread::spawn(|| {
            let start = Instant::now();
            while HANDLED_BY.load(SeqCst) == 0 && start.elapsed() < Duration::from_secs(6) {
                spin_loop();
            }
            start.elapsed() < Duration::from_secs(2)
        });
        let sender = fork(|| {
            sleep_ms(200);
            sys!(kill(own, libc::SIGUSR1)) | sys!(kill(own, libc::SIGUSR2))
        });
        sys!(pause());
        let at_once = busy.join().unwrap_or(false);
        answers!(ending(sender), yes(at_once))
    }),
    case!("a_process_is_found_by_the_number_of_a_thread", {
        let thread = thread::spawn(|| {
            let tid = sys!(syscall(libc::SYS_gettid)) as i32;
            let answers = answers!(
                ok(sys!(kill(tid, 0))),
                sys!(getpgid(tid)) == sys!(getpgrp()),
                sys!(getsid(tid)) == sys!(getsid(0)),
                ok(sys!(syscall(libc::SYS_prlimit64, tid, libc::RLIMIT_DATA, 0, 0))),
                ok(sys!(setpgid(tid, 0))),
                raw_wait(tid)
            );
            HANDLED_BY.store(0, SeqCst);
            sys!(signal(libc::SIGUSR1, note_thread as *const () as usize));
            sys!(kill(tid, libc::SIGUSR1));
            while HANDLED_BY.load(SeqCst) == 0 {
                thread::yield_now();
            }
            answers
        });
        thread.join().unwrap_or_default()
    }),
    case!("fork_copies_the_floating_point_state", {
        let (child, kept) = fork_with_floating_point_state();
        if child == 0 {
            // SAFETY: ends the child.
            unsafe { libc::_exit(kept) };
        }
        answers!(kept, ending(child))
    }),
];
