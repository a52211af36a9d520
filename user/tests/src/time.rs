//! Time: clocks, sleeping, how long. No answer holds a time itself.

use conformance::support::*;
use conformance::{answers, case, sys};
use std::ptr::null_mut;

fn now(clock: i32) -> i64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    sys!(clock_gettime(clock, &mut time));
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

/// The clock by the system call, whatever libc does.
fn kernels(clock: i32) -> i64 {
    let mut time = span(0);
    sys!(syscall(libc::SYS_clock_gettime, clock, &raw mut time));
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

/// Whether libc's clock and the kernel's, asked in turn, are one that never goes back.
fn agree(clock: i32) -> bool {
    let mut last = kernels(clock);
    (0..10_000).all(|turn| {
        let next = if turn % 2 == 0 { now(clock) } else { kernels(clock) };
        let holds = next >= last;
        last = next;
        holds
    })
}

/// An area's start, length and rights, by /proc/self/maps.
fn area(name: &str) -> (usize, usize, String) {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let mut words = maps.lines().find(|line| line.ends_with(name)).unwrap_or_default().split(['-', ' ']);
    let mut address = || words.next().and_then(|word| usize::from_str_radix(word, 16).ok()).unwrap_or(0);
    let (start, end) = (address(), address());
    (start, end - start, words.next().unwrap_or_default().to_owned())
}

fn span(nanoseconds: i64) -> libc::timespec {
    libc::timespec { tv_sec: nanoseconds / 1_000_000_000, tv_nsec: nanoseconds % 1_000_000_000 }
}

fn sleep_answer(clock: i32, flags: i32, time: libc::timespec) -> String {
    returned(sys!(clock_nanosleep(clock, flags, &time, null_mut())))
}

pub const CASES: &[Case] = &[
    case!(
        "clocks_answer",
        [
            libc::CLOCK_REALTIME,
            libc::CLOCK_MONOTONIC,
            libc::CLOCK_PROCESS_CPUTIME_ID,
            libc::CLOCK_THREAD_CPUTIME_ID,
            libc::CLOCK_MONOTONIC_RAW,
            libc::CLOCK_REALTIME_COARSE,
            libc::CLOCK_MONOTONIC_COARSE,
            libc::CLOCK_BOOTTIME,
            77,
            -77
        ]
        .map(|clock| {
            let mut time = span(0);
            ok(sys!(syscall(libc::SYS_clock_gettime, clock, &raw mut time)))
        })
        .join(" ")
    ),
    case!(
        "resolutions",
        [libc::CLOCK_REALTIME, libc::CLOCK_MONOTONIC, 77]
            .map(|clock| {
                let mut time = span(0);
                let answer = ok(sys!(clock_getres(clock, &mut time)));
                format!("{answer} {}", time.tv_sec)
            })
            .join(", ")
    ),
    case!("monotonic_time_never_goes_back", {
        let mut last = now(libc::CLOCK_MONOTONIC);
        (0..10_000).all(|_| {
            let next = now(libc::CLOCK_MONOTONIC);
            let holds = next >= last;
            last = next;
            holds
        })
    }),
    case!(
        "libc_and_the_kernel_have_the_same_clocks",
        answers!(agree(libc::CLOCK_MONOTONIC), agree(libc::CLOCK_REALTIME))
    ),
    case!("the_vdso_is_where_the_auxiliary_vector_says", {
        let ((start, _, rights), (_, _, clock_rights)) = (area("[vdso]"), area("[vvar]"));
        let told = sys!(getauxval(libc::AT_SYSINFO_EHDR)) as usize;
        answers!(start != 0, start == told, rights, clock_rights)
    }),
    case!("the_vdso_can_not_be_written_to", {
        let ((code, ..), (clock, ..)) = (area("[vdso]"), area("[vvar]"));
        let write = |address: usize| {
            in_child(|| {
                // SAFETY: an address at which something is mapped; a write there ends the child.
                unsafe { (address as *mut u8).write_volatile(0) };
                0
            })
        };
        let opened = sys!(mprotect(clock as *mut libc::c_void, 4096, libc::PROT_READ | libc::PROT_WRITE));
        answers!(write(code), write(clock), ok(opened))
    }),
    case!("without_the_vdso_the_clocks_go_on_by_system_call", {
        let (code, length, _) = area("[vdso]");
        let before = kernels(libc::CLOCK_MONOTONIC);
        let gone = sys!(munmap(code as *mut libc::c_void, length));
        answers!(ok(gone), kernels(libc::CLOCK_MONOTONIC) >= before)
    }),
    case!("real_time_is_after_2019", now(libc::CLOCK_REALTIME) > 1_546_300_800_000_000_000),
    case!("time_and_gettimeofday_agree_with_the_clock", {
        let mut old = libc::timeval { tv_sec: 0, tv_usec: 0 };
        sys!(syscall(libc::SYS_gettimeofday, &raw mut old, 0));
        let simple = sys!(syscall(libc::SYS_time, 0));
        let clock = now(libc::CLOCK_REALTIME) / 1_000_000_000;
        answers!((clock - old.tv_sec).abs() <= 1, (clock - simple).abs() <= 1)
    }),
    case!(
        "bad_pointers",
        answers!(ok(sys!(syscall(libc::SYS_clock_gettime, 0, 1))), ok(sys!(syscall(libc::SYS_nanosleep, 1, 0))))
    ),
    case!("nanosleep_takes_its_time", {
        let before = now(libc::CLOCK_MONOTONIC);
        let answer = ok(sys!(nanosleep(&span(20_000_000), null_mut())));
        let passed = now(libc::CLOCK_MONOTONIC) - before;
        answers!(answer, passed >= 20_000_000)
    }),
    case!("nanosleep_of_nothing", ok(sys!(nanosleep(&span(0), null_mut())))),
    case!(
        "nanosleep_refuses",
        answers!(
            ok(sys!(nanosleep(&libc::timespec { tv_sec: 0, tv_nsec: 1_000_000_000 }, null_mut()))),
            ok(sys!(nanosleep(&libc::timespec { tv_sec: -1, tv_nsec: 0 }, null_mut()))),
            ok(sys!(nanosleep(&libc::timespec { tv_sec: 0, tv_nsec: -1 }, null_mut())))
        )
    ),
    case!("clock_nanosleep_until_a_time", {
        let until = now(libc::CLOCK_MONOTONIC) + 20_000_000;
        let answer = sleep_answer(libc::CLOCK_MONOTONIC, libc::TIMER_ABSTIME, span(until));
        answers!(answer, now(libc::CLOCK_MONOTONIC) >= until)
    }),
    case!(
        "clock_nanosleep_until_the_past",
        answers!(
            sleep_answer(libc::CLOCK_MONOTONIC, libc::TIMER_ABSTIME, span(1)),
            sleep_answer(libc::CLOCK_REALTIME, libc::TIMER_ABSTIME, span(1))
        )
    ),
    case!(
        "clock_nanosleep_refuses",
        answers!(
            sleep_answer(77, 0, span(1)),
            sleep_answer(libc::CLOCK_REALTIME, 0, libc::timespec { tv_sec: 0, tv_nsec: -5 })
        )
    ),
    case!("the_process_clock_runs_while_working", {
        let before = now(libc::CLOCK_PROCESS_CPUTIME_ID);
        let mut sum = 0_u64;
        for index in 0..3_000_000_u64 {
            sum = std::hint::black_box(sum.wrapping_add(index));
        }
        now(libc::CLOCK_PROCESS_CPUTIME_ID) > before
    }),
    case!("the_process_clock_rests_while_sleeping", {
        let before = now(libc::CLOCK_PROCESS_CPUTIME_ID);
        sleep_ms(100);
        now(libc::CLOCK_PROCESS_CPUTIME_ID) - before < 90_000_000
    }),
    case!("work_is_counted", {
        let deadline = now(libc::CLOCK_PROCESS_CPUTIME_ID) + 60_000_000;
        while now(libc::CLOCK_PROCESS_CPUTIME_ID) < deadline {}
        // SAFETY: rusage is plain integers; the kernel fills it.
        let usage: libc::rusage = unsafe {
            let mut usage = std::mem::zeroed();
            libc::getrusage(libc::RUSAGE_SELF, &mut usage);
            usage
        };
        usage.ru_utime.tv_usec + usage.ru_stime.tv_usec + 1_000_000 * (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec)
            >= 30_000
    }),
    case!("sleepers_wake_in_the_order_of_their_times", {
        let (read_end, write_end) = pipe();
        for (delay, name) in [(90, b"c"), (30, b"a"), (60, b"b")] {
            fork(|| {
                sleep_ms(delay);
                write_all(write_end, name);
                0
            });
        }
        for _ in 0..3 {
            ending(-1);
        }
        read(read_end, 10)
    }),
    case!("a_busy_process_does_not_keep_others_from_running", {
        let spinner = fork(|| {
            loop {
                std::hint::spin_loop()
            }
        });
        let how = in_child(|| {
            sleep_ms(20);
            3
        });
        sys!(kill(spinner, libc::SIGKILL));
        answers!(how, ending(spinner))
    }),
    case!("getitimer_shows_what_is_left", {
        sys!(alarm(100));
        let mut left = libc::itimerval {
            it_interval: libc::timeval { tv_sec: 0, tv_usec: 0 },
            it_value: libc::timeval { tv_sec: 0, tv_usec: 0 },
        };
        answers!(
            ok(sys!(getitimer(libc::ITIMER_REAL, &mut left))),
            (99..=100).contains(&left.it_value.tv_sec),
            left.it_interval.tv_sec
        )
    }),
];
