//! Calls with more than one mistake: which of them Linux tells of; and what is no mistake although it looks like one.

use conformance::support::*;
use conformance::{answers, case, sys};

/// No process has this number.
const NOBODY: i32 = i32::MAX;
const NO_SIGNAL: i32 = 65;
const NO_RESOURCE: i32 = 99;

fn queue(pid: i32, signal: i32, code: i32) -> String {
    // SAFETY: siginfo_t is plain data.
    let mut information: libc::siginfo_t = unsafe { std::mem::zeroed() };
    information.si_code = code;
    ok(sys!(syscall(libc::SYS_rt_sigqueueinfo, pid, signal, &raw const information)))
}

fn queue_to_thread(pid: i32, tid: i32, signal: i32, code: i32) -> String {
    // SAFETY: as above.
    let mut information: libc::siginfo_t = unsafe { std::mem::zeroed() };
    information.si_code = code;
    ok(sys!(syscall(libc::SYS_rt_tgsigqueueinfo, pid, tid, signal, &raw const information)))
}

/// clone like fork, with these flags and this place for the child's number.
fn clone(flags: i32, place: usize) -> String {
    match sys!(syscall(libc::SYS_clone, flags, 0, place, 0, 0)) as i32 {
        -1 => last_errno(),
        0 => exit(3),
        child => wait_with(child, libc::__WALL),
    }
}

pub const CASES: &[Case] = &[
    case!(
        "no_such_signal_to_nobody",
        answers!(
            ok(sys!(kill(NOBODY, NO_SIGNAL))),
            ok(sys!(kill(-NOBODY, NO_SIGNAL))),
            ok(sys!(kill(sys!(getpid()), NO_SIGNAL))),
            ok(sys!(kill(0, NO_SIGNAL))),
            ok(sys!(syscall(libc::SYS_tkill, NOBODY, NO_SIGNAL))),
            ok(sys!(syscall(libc::SYS_tgkill, NOBODY, NOBODY, NO_SIGNAL))),
            ok(sys!(syscall(libc::SYS_tkill, 0, NO_SIGNAL)))
        )
    ),
    case!("asking_for_everybody_is_never_refused", as_user(|| ok(sys!(kill(-1, 0))))),
    case!("an_action_for_no_signal_at_a_bad_address", {
        let sigaction =
            |signal: i32, new: usize, old: usize| ok(sys!(syscall(libc::SYS_rt_sigaction, signal, new, old, 8)));
        answers!(
            sigaction(NO_SIGNAL, BAD, 0),
            sigaction(NO_SIGNAL, 0, 0),
            sigaction(libc::SIGKILL, BAD, 0),
            sigaction(libc::SIGKILL, 0, 0)
        )
    }),
    case!("scheduling_of_nobody_by_what_is_none", {
        let priority = 0;
        let sched = |call: i64, pid: i32, second: usize, third: usize| ok(sys!(syscall(call, pid, second, third)));
        answers!(
            sched(libc::SYS_sched_getaffinity, NOBODY, 1, BAD),
            sched(libc::SYS_sched_getaffinity, -1, 8, BAD),
            sched(libc::SYS_sched_setaffinity, NOBODY, 8, BAD),
            sched(libc::SYS_sched_setaffinity, -1, 0, BAD),
            sched(libc::SYS_sched_getscheduler, -1, 0, 0),
            sched(libc::SYS_sched_getparam, -1, BAD, 0),
            sched(libc::SYS_sched_getparam, NOBODY, 0, 0),
            sched(libc::SYS_sched_getparam, NOBODY, BAD, 0),
            sched(libc::SYS_sched_setscheduler, NOBODY, usize::MAX, BAD),
            sched(libc::SYS_sched_setscheduler, NOBODY, 0, 0),
            sched(libc::SYS_sched_setscheduler, NOBODY, 77, BAD),
            sched(libc::SYS_sched_setscheduler, NOBODY, 77, (&raw const priority).addr()),
            sched(libc::SYS_sched_setscheduler, 0, 77, (&raw const priority).addr())
        )
    }),
    case!("who_may_claim_that_the_kernel_sent_it", {
        let (own, parent) = (sys!(getpid()), sys!(getppid()));
        answers!(
            queue(NOBODY, 10, libc::SI_USER),
            queue(NOBODY, 10, libc::SI_QUEUE),
            queue(parent, 0, libc::SI_USER),
            queue(parent, NO_SIGNAL, libc::SI_TKILL),
            queue(parent, NO_SIGNAL, libc::SI_QUEUE),
            queue(own, 0, libc::SI_USER),
            queue_to_thread(NOBODY, NOBODY, 10, libc::SI_USER),
            queue_to_thread(own, 0, 10, libc::SI_USER),
            queue_to_thread(own, own, 0, libc::SI_USER),
            ok(sys!(syscall(libc::SYS_rt_tgsigqueueinfo, 0, 0, 10, BAD)))
        )
    }),
    case!(
        "limits_of_nobody_and_of_nothing",
        answers!(
            ok(sys!(syscall(libc::SYS_prlimit64, NOBODY, NO_RESOURCE, 0, 0))),
            ok(sys!(syscall(libc::SYS_prlimit64, NOBODY, NO_RESOURCE, BAD, 0))),
            ok(sys!(syscall(libc::SYS_prlimit64, 0, NO_RESOURCE, 0, 0))),
            ok(sys!(syscall(libc::SYS_setrlimit, NO_RESOURCE, BAD))),
            ok(sys!(syscall(libc::SYS_getrlimit, NO_RESOURCE, BAD)))
        )
    ),
    case!(
        "groups_with_numbers_below_zero",
        answers!(
            ok(sys!(setpgid(-1, 0))),
            ok(sys!(setpgid(-5, 3))),
            ok(sys!(setpgid(0, -1))),
            ok(sys!(setpgid(NOBODY, -1)))
        )
    ),
    case!(
        "sleeping_at_a_bad_address_by_a_clock_that_is_none",
        [1, 3, 4, 12].map(|clock| ok(sys!(syscall(libc::SYS_clock_nanosleep, clock, 0, BAD, 0)))).join(" ")
    ),
    case!("clone_with_a_bad_place_for_the_number", clone(libc::CLONE_PARENT_SETTID | libc::SIGCHLD, BAD)),
    case!("clone_with_an_exit_signal_that_is_none", clone(100, 0)),
    case!(
        "reading_the_log_to_nowhere",
        answers!(ok(sys!(klogctl(3, std::ptr::null_mut(), 10))), ok(sys!(klogctl(3, std::ptr::null_mut(), -1))))
    ),
];
