//! Interval timers of the clock and of CPU time, time limits across a stop, and the clocks that one can sleep by.

use conformance::support::*;
use conformance::{answers, case, sys};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicI32, Ordering::SeqCst};

static COUNT: AtomicI32 = AtomicI32::new(0);
static VIRTUAL_COUNT: AtomicI32 = AtomicI32::new(0);

extern "C" fn count(signal: i32) {
    let counter = if signal == libc::SIGVTALRM { &VIRTUAL_COUNT } else { &COUNT };
    counter.fetch_add(1, SeqCst);
}

fn handle(signal: i32) {
    sys!(signal(signal, count as *const () as usize));
}

fn counted() -> i32 {
    COUNT.load(SeqCst)
}

fn timer(interval_us: i64, value_us: i64) -> libc::itimerval {
    let time = |us: i64| libc::timeval { tv_sec: us / 1_000_000, tv_usec: us % 1_000_000 };
    libc::itimerval { it_interval: time(interval_us), it_value: time(value_us) }
}

fn set(which: i32, interval_us: i64, value_us: i64) -> String {
    ok(sys!(setitimer(which, &timer(interval_us, value_us), null_mut())))
}

/// Interval and what is left, in microseconds.
fn left(which: i32) -> (i64, i64) {
    let mut setting = timer(0, 0);
    sys!(getitimer(which, &mut setting));
    let us = |time: libc::timeval| time.tv_sec * 1_000_000 + time.tv_usec;
    (us(setting.it_interval), us(setting.it_value))
}

fn clock_us(clock: i32) -> i64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    sys!(clock_gettime(clock, &mut time));
    time.tv_sec * 1_000_000 + time.tv_nsec / 1000
}

/// Keeps the CPU for that long, by its own time.
fn burn(us: i64) {
    let end = clock_us(libc::CLOCK_PROCESS_CPUTIME_ID) + us;
    while clock_us(libc::CLOCK_PROCESS_CPUTIME_ID) < end {}
}

fn mask(how: i32, signal: i32) {
    // SAFETY: signal sets are bit arrays, for which zeros are valid.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigaddset(&mut set, signal);
        libc::sigprocmask(how, &set, null_mut());
    }
}

fn is_pending(signal: i32) -> bool {
    // SAFETY: as above; the kernel fills the set.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigpending(&mut set);
        libc::sigismember(&set, signal) == 1
    }
}

/// How far from whole intervals after its start a repeating timer is due, after it came a few times. A reading that took
/// long is made again.
fn phase_us(interval_us: i64) -> Option<i64> {
    const TIMES: i32 = 10;
    const LONG_US: i64 = 1_000;
    handle(libc::SIGALRM);
    let start = clock_us(libc::CLOCK_MONOTONIC);
    set(libc::ITIMER_REAL, interval_us, interval_us);
    let started_late = clock_us(libc::CLOCK_MONOTONIC) - start > LONG_US;
    while counted() < TIMES {
        sys!(pause());
    }
    (0..500).filter(|_| !started_late).find_map(|_| {
        let now = clock_us(libc::CLOCK_MONOTONIC);
        let (_, left) = left(libc::ITIMER_REAL);
        let is_quick = clock_us(libc::CLOCK_MONOTONIC) - now <= LONG_US;
        let phase = (now + left - start).rem_euclid(interval_us);
        is_quick.then_some(phase.min(interval_us - phase))
    })
}

/// Stops a child that waits with a limit of 1.5 s for longer than that: it is to end soon after it goes on.
fn stopped_past_the_limit(wait: fn() -> i64) -> i32 {
    let child = fork(move || {
        let start = clock_us(libc::CLOCK_MONOTONIC);
        let answer = wait();
        let in_time = clock_us(libc::CLOCK_MONOTONIC) - start < 2_600_000;
        i32::from(in_time) * 2 + i32::from(answer == 0 || errno() == libc::ETIMEDOUT)
    });
    sleep_ms(50);
    sys!(kill(child, libc::SIGSTOP));
    child
}

static WORD: AtomicI32 = AtomicI32::new(0);

pub const CASES: &[Case] = &[
    case!("alarm_comes", {
        handle(libc::SIGALRM);
        let before = sys!(alarm(1));
        answers!(before, ok(sys!(pause())), counted())
    }),
    case!("alarm_tells_what_was_left", {
        sys!(alarm(100));
        answers!(sys!(alarm(50)), sys!(alarm(0)), sys!(alarm(0)))
    }),
    case!("setitimer_comes_again_and_again", {
        handle(libc::SIGALRM);
        let answer = set(libc::ITIMER_REAL, 10_000, 10_000);
        while counted() < 3 {
            sys!(pause());
        }
        answers!(answer, counted() >= 3)
    }),
    case!("setitimer_refuses", {
        let bad = libc::itimerval {
            it_interval: libc::timeval { tv_sec: 0, tv_usec: 0 },
            it_value: libc::timeval { tv_sec: 0, tv_usec: 1_000_000 },
        };
        answers!(ok(sys!(setitimer(libc::ITIMER_REAL, &bad, null_mut()))), ok(sys!(setitimer(9, &bad, null_mut()))))
    }),
    case!("virtual_timer_counts_own_time", {
        handle(libc::SIGVTALRM);
        let answer = set(libc::ITIMER_VIRTUAL, 0, 20_000);
        while VIRTUAL_COUNT.load(SeqCst) == 0 {
            std::hint::spin_loop();
        }
        answers!(answer, VIRTUAL_COUNT.load(SeqCst))
    }),
    case!("profiling_timer_comes_once", {
        handle(libc::SIGPROF);
        let answer = set(libc::ITIMER_PROF, 0, 20_000);
        while counted() == 0 {
            std::hint::spin_loop();
        }
        burn(60_000);
        answers!(answer, counted(), left(libc::ITIMER_PROF) == (0, 0))
    }),
    case!("profiling_timer_comes_again_and_again", {
        handle(libc::SIGPROF);
        let answer = set(libc::ITIMER_PROF, 10_000, 10_000);
        while counted() < 3 {
            std::hint::spin_loop();
        }
        answers!(answer, counted() >= 3, left(libc::ITIMER_PROF).0)
    }),
    case!("profiling_timer_counts_time_in_the_kernel", {
        handle(libc::SIGPROF);
        let answer = set(libc::ITIMER_PROF, 0, 20_000);
        while counted() == 0 {
            sys!(getppid());
        }
        answers!(answer, counted())
    }),
    case!("profiling_timer_counts_no_sleep", {
        handle(libc::SIGPROF);
        let answer = set(libc::ITIMER_PROF, 0, 500_000);
        sleep_ms(700);
        answers!(answer, counted(), left(libc::ITIMER_PROF).1 > 0)
    }),
    case!("profiling_and_virtual_timers_side_by_side", {
        handle(libc::SIGPROF);
        handle(libc::SIGVTALRM);
        let answers = answers!(set(libc::ITIMER_PROF, 0, 30_000), set(libc::ITIMER_VIRTUAL, 0, 20_000));
        while counted() == 0 || VIRTUAL_COUNT.load(SeqCst) == 0 {
            std::hint::spin_loop();
        }
        answers!(answers, counted(), VIRTUAL_COUNT.load(SeqCst))
    }),
    case!("a_blocked_sigprof_is_pending_once", {
        handle(libc::SIGPROF);
        mask(libc::SIG_BLOCK, libc::SIGPROF);
        set(libc::ITIMER_PROF, 10_000, 10_000);
        burn(80_000);
        let pending = is_pending(libc::SIGPROF);
        set(libc::ITIMER_PROF, 0, 0);
        let before = counted();
        mask(libc::SIG_UNBLOCK, libc::SIGPROF);
        answers!(pending, before, counted(), is_pending(libc::SIGPROF))
    }),
    case!("an_ignored_sigprof_is_gone", {
        sys!(signal(libc::SIGPROF, libc::SIG_IGN));
        set(libc::ITIMER_PROF, 10_000, 10_000);
        burn(50_000);
        handle(libc::SIGPROF);
        set(libc::ITIMER_PROF, 0, 0);
        answers!(counted(), is_pending(libc::SIGPROF))
    }),
    case!("sigprof_ends_who_does_nothing_about_it", {
        in_child(|| {
            set(libc::ITIMER_PROF, 0, 10_000);
            burn(5_000_000);
            0
        })
    }),
    case!("sigprof_interrupts_no_sleep_of_a_thread_that_blocks_it", {
        handle(libc::SIGPROF);
        mask(libc::SIG_BLOCK, libc::SIGPROF);
        let sleeper = std::thread::spawn(|| {
            let time = libc::timespec { tv_sec: 0, tv_nsec: 300_000_000 };
            ok(sys!(nanosleep(&time, null_mut())))
        });
        mask(libc::SIG_UNBLOCK, libc::SIGPROF);
        set(libc::ITIMER_PROF, 10_000, 10_000);
        while counted() < 5 {
            std::hint::spin_loop();
        }
        set(libc::ITIMER_PROF, 0, 0);
        sleeper.join().unwrap_or_default()
    }),
    case!("a_child_has_no_timers", {
        handle(libc::SIGPROF);
        set(libc::ITIMER_PROF, 0, 5_000_000);
        set(libc::ITIMER_REAL, 0, 5_000_000);
        asked_in_child(|| format!("{:?} {:?}", left(libc::ITIMER_PROF), left(libc::ITIMER_REAL)))
    }),
    case!("an_interval_without_a_value_is_kept_for_cpu_time_only", {
        let which = [libc::ITIMER_REAL, libc::ITIMER_VIRTUAL, libc::ITIMER_PROF];
        let answers = which.map(|which| set(which, 1_000_000, 0)).join(" ");
        answers!(answers, format!("{:?}", which.map(left)))
    }),
    case!("lateness_of_an_interval_timer_does_not_add_up", {
        (0..5)
            .find_map(|_| {
                COUNT.store(0, SeqCst);
                phase_us(25_000)
            })
            .map_or("too slow to tell", |phase| yes(phase < 3_000))
    }),
    case!("limits_of_waits_include_a_stop", {
        let children = [
            stopped_past_the_limit(|| sys!(poll(null_mut(), 0, 1500)).into()),
            stopped_past_the_limit(|| {
                let limit = libc::timespec { tv_sec: 1, tv_nsec: 500_000_000 };
                sys!(syscall(libc::SYS_futex, &WORD, libc::FUTEX_WAIT, 0, &limit))
            }),
            stopped_past_the_limit(|| {
                let limit = libc::timespec { tv_sec: 1, tv_nsec: 500_000_000 };
                sys!(nanosleep(&limit, null_mut())).into()
            }),
        ];
        sleep_ms(1700);
        children.iter().for_each(|&child| {
            sys!(kill(child, libc::SIGCONT));
        });
        children.map(ending).join(", ")
    }),
    case!("a_stop_within_the_limit_is_no_interruption", {
        let child = fork(|| {
            let limit = libc::timespec { tv_sec: 0, tv_nsec: 400_000_000 };
            sys!(syscall(libc::SYS_futex, &WORD, libc::FUTEX_WAIT, 0, &limit));
            i32::from(errno() == libc::ETIMEDOUT)
        });
        sleep_ms(50);
        sys!(kill(child, libc::SIGSTOP));
        wait_with(child, libc::WUNTRACED);
        sys!(kill(child, libc::SIGCONT));
        ending(child)
    }),
    case!("which_clocks_one_can_sleep_by", {
        let clocks = [0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12, 99];
        let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let sleep = |clock: i32| ok(sys!(syscall(libc::SYS_clock_nanosleep, clock, 0, &now, 0)));
        clocks.map(sleep).join(" ")
    }),
    case!("a_cpu_limit_of_zero", {
        in_child(|| {
            sys!(setrlimit(libc::RLIMIT_CPU, &libc::rlimit { rlim_cur: 0, rlim_max: 100 }));
            burn(5_000_000);
            0
        })
    }),
];
