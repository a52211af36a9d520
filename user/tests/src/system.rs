//! What is asked of the kernel as a whole: names, priorities, processors, random numbers, calls that there are not.

use conformance::support::*;
use conformance::{answers, case, sys};

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
