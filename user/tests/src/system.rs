//! What is asked of the kernel as a whole: names, priorities, processors, random numbers, calls that there are not.

use conformance::support::*;
use conformance::{answers, case, sys};

/// What the caller's two threads have, once all that a call names are to have `nice`.
fn niceness_after(which: u32, nice: i32) -> String {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let _ = sender.send(sys!(syscall(libc::SYS_gettid)));
        sleep_ms(60_000);
    });
    let other = receiver.recv().unwrap_or(-1);
    let set = ok(sys!(syscall(libc::SYS_setpriority, which, 0, nice)));
    let nice_of = |tid: i64| 20 - sys!(syscall(libc::SYS_getpriority, libc::PRIO_PROCESS, tid));
    answers!(set, nice_of(0), nice_of(other))
}

pub const CASES: &[Case] = &[
    case!("uname_says_linux", {
        // SAFETY: utsname is byte arrays; the kernel fills it.
        let names: libc::utsname = unsafe {
            let mut names = std::mem::zeroed();
            libc::uname(&mut names);
            names
        };
        // SAFETY: the kernel closes each name with a zero.
        unsafe {
            answers!(
                std::ffi::CStr::from_ptr(names.sysname.as_ptr()).to_string_lossy(),
                std::ffi::CStr::from_ptr(names.machine.as_ptr()).to_string_lossy()
            )
        }
    }),
    case!(
        "getpriority_and_setpriority",
        in_child(|| {
            sys!(setpriority(libc::PRIO_PROCESS, 0, 5));
            sys!(syscall(libc::SYS_getpriority, libc::PRIO_PROCESS, 0)) as i32
        })
    ),
    case!(
        "niceness_is_bounded",
        in_child(|| {
            sys!(setpriority(libc::PRIO_PROCESS, 0, 100));
            sys!(getpriority(libc::PRIO_PROCESS, 0))
        })
    ),
    case!("getpriority_of_nobody", {
        let answer = sys!(syscall(libc::SYS_getpriority, libc::PRIO_PROCESS, 0x3ffffff));
        answers!(value(answer), value(sys!(syscall(libc::SYS_getpriority, 7, 0))))
    }),
    case!(
        "niceness_of_a_group_is_that_of_all_its_threads",
        asked_in_child(|| {
            sys!(setpgid(0, 0));
            niceness_after(libc::PRIO_PGRP, 7)
        })
    ),
    case!(
        "niceness_of_a_user_is_that_of_all_his_threads",
        asked_in_child(|| {
            sys!(setresuid(NOBODYS_ID, NOBODYS_ID, NOBODYS_ID));
            niceness_after(libc::PRIO_USER, 8)
        })
    ),
    case!(
        "niceness_of_a_group_that_may_be_changed_in_part",
        asked_in_child(|| {
            sys!(setpgid(0, 0));
            let user = fork(|| {
                sys!(setresuid(NOBODYS_ID, NOBODYS_ID, NOBODYS_ID));
                let answer = ok(sys!(setpriority(libc::PRIO_PGRP, 0, 5)));
                if answer == "EPERM" { sys!(getpriority(libc::PRIO_PROCESS, 0)) } else { 99 }
            });
            answers!(ending(user), sys!(getpriority(libc::PRIO_PROCESS, 0)))
        })
    ),
    case!("niceness_of_numbers_that_name_nobody", {
        let set = |which: i32, who: i32| ok(sys!(syscall(libc::SYS_setpriority, which, who, 0)));
        answers!(set(0, -1), set(1, -1), set(2, -1), set(2, NOBODYS_ID as i32), set(3, -1), set(-1, 0))
    }),
    case!("sched_rr_get_interval", {
        let mut time = libc::timespec { tv_sec: -1, tv_nsec: -1 };
        let ask = |pid: i32, place: usize| ok(sys!(syscall(libc::SYS_sched_rr_get_interval, pid, place)));
        let own = ask(0, (&raw mut time).addr());
        answers!(own, time.tv_sec, time.tv_nsec >= 0, ask(-1, BAD), ask(0x3ffffff, BAD), ask(0, BAD))
    }),
    case!(
        "sched_yield_and_policies",
        answers!(
            ok(sys!(sched_yield())),
            value(sys!(sched_getscheduler(0))),
            value(sys!(sched_get_priority_max(libc::SCHED_FIFO))),
            value(sys!(sched_get_priority_min(libc::SCHED_FIFO))),
            value(sys!(sched_get_priority_max(libc::SCHED_OTHER))),
            value(sys!(sched_get_priority_max(77))),
            value(sys!(sched_getscheduler(0x3ffffff))),
        )
    ),
    case!("sched_affinity_holds_cpu_0", {
        let mut set = [0_u64; 16];
        let size = sys!(syscall(libc::SYS_sched_getaffinity, 0, 128, set.as_mut_ptr()));
        answers!(
            size > 0 && size % 8 == 0,
            set[0] & 1,
            value(sys!(syscall(libc::SYS_sched_getaffinity, 0, 1, set.as_mut_ptr())))
        )
    }),
    case!("getcpu_answers", {
        let mut cpu = 9999_u32;
        answers!(ok(sys!(syscall(libc::SYS_getcpu, &raw mut cpu, 0, 0))), cpu < 1024)
    }),
    case!(
        "unknown_calls",
        answers!(value(sys!(syscall(1000))), value(sys!(syscall(-1))), value(sys!(syscall(0x4000_0000 + 39))))
    ),
    case!("getrandom_gives_bytes", {
        let (mut first, mut second) = ([0_u8; 32], [0_u8; 32]);
        answers!(
            value(sys!(getrandom(first.as_mut_ptr().cast(), 32, 0))),
            value(sys!(getrandom(second.as_mut_ptr().cast(), 32, libc::GRND_NONBLOCK))),
            first != second,
            value(sys!(getrandom(first.as_mut_ptr().cast(), 32, 0xff00))),
            value(sys!(getrandom(BAD as *mut _, 32, 0)))
        )
    }),
    case!("reboot_with_wrong_magic", ok(sys!(syscall(libc::SYS_reboot, 1, 2, 3, 0)))),
];
