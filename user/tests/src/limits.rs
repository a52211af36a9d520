//! Limits: are they kept, shown, inherited and enforced?

use conformance::support::*;
use conformance::{answers, case, sys};
use std::ptr::null_mut;

static WORD: u64 = 0;
/// A siginfo_t of sigqueue.
static INFORMATION: [i32; 32] = {
    let mut words = [0; 32];
    words[2] = libc::SI_QUEUE;
    words
};

fn set(what: u32, soft: u64, hard: u64) -> String {
    ok(sys!(setrlimit(what, &libc::rlimit { rlim_cur: soft, rlim_max: hard })))
}

fn get(what: u32) -> String {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    if sys!(getrlimit(what, &mut limit)) < 0 {
        return last_errno();
    }
    let text = |value: u64| if value == libc::RLIM_INFINITY { "infinite".into() } else { value.to_string() };
    format!("{}/{}", text(limit.rlim_cur), text(limit.rlim_max))
}

fn map(size: usize) -> String {
    ok(sys!(mmap(null_mut(), size, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0))
        as i64)
}

const MIB: usize = 1 << 20;

pub const CASES: &[Case] = &[
    case!(
        "set_and_get",
        answers!(
            set(libc::RLIMIT_CORE, 100, 200),
            get(libc::RLIMIT_CORE),
            set(libc::RLIMIT_CORE, 200, 200),
            get(libc::RLIMIT_CORE)
        )
    ),
    case!("soft_above_hard", set(libc::RLIMIT_CORE, 300, 200)),
    case!("limits_that_are_none", answers!(set(77, 1, 1), get(77))),
    case!(
        "a_user_may_lower_but_not_raise_the_hard_limit",
        as_user(|| answers!(
            set(libc::RLIMIT_CORE, 100, 200),
            set(libc::RLIMIT_CORE, 100, 300),
            set(libc::RLIMIT_CORE, 50, 100)
        ))
    ),
    case!("limits_are_inherited", {
        set(libc::RLIMIT_CORE, 11, 22);
        asked_in_child(|| get(libc::RLIMIT_CORE))
    }),
    case!("prlimit_of_oneself_and_of_others", {
        let mut old = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        set(libc::RLIMIT_CORE, 5, 6);
        let new = libc::rlimit { rlim_cur: 1, rlim_max: 2 };
        answers!(
            ok(sys!(prlimit(0, libc::RLIMIT_CORE, &new, &mut old))),
            old.rlim_cur,
            get(libc::RLIMIT_CORE),
            ok(sys!(prlimit(0x3ffffff, libc::RLIMIT_CORE, &new, null_mut()))),
            as_user(|| ok(sys!(prlimit(1, libc::RLIMIT_CORE, std::ptr::null(), null_mut()))))
        )
    }),
    case!("descriptors_run_out", {
        set(libc::RLIMIT_NOFILE, 20, 20);
        let opened = (0..30).take_while(|_| sys!(dup(0)) >= 0).count();
        answers!(
            opened,
            ok(sys!(dup(0))),
            ok(open(c".", 0)),
            value(sys!(pipe([0; 2].as_mut_ptr()))),
            value(sys!(dup2(0, 20))),
            value(sys!(dup2(0, 19))),
            value(sys!(fcntl(0, libc::F_DUPFD, 20)))
        )
    }),
    case!("one_descriptor_left_is_no_pipe", {
        set(libc::RLIMIT_NOFILE, 4, 4);
        answers!(value(sys!(pipe([0; 2].as_mut_ptr()))), open(c".", 0))
    }),
    case!("lowering_the_descriptor_limit_closes_nothing", {
        sys!(dup2(0, 50));
        set(libc::RLIMIT_NOFILE, 10, 10);
        ok(sys!(fcntl(50, libc::F_GETFD)))
    }),
    case!(
        "address_space",
        answers!(set(libc::RLIMIT_AS, 256 * MIB as u64, 256 * MIB as u64), map(1024 * MIB), map(MIB))
    ),
    case!("data", answers!(set(libc::RLIMIT_DATA, 64 * MIB as u64, 64 * MIB as u64), map(128 * MIB), map(MIB))),
    case!("file_size", {
        sys!(signal(libc::SIGXFSZ, libc::SIG_IGN));
        set(libc::RLIMIT_FSIZE, 1000, 1000);
        let file = open(c"f", libc::O_RDWR | libc::O_CREAT);
        answers!(
            write(file, &[1; 600]),
            write(file, &[1; 600]),
            write(file, b"x"),
            ok(sys!(ftruncate(file, 1001))),
            ok(sys!(ftruncate(file, 1000)))
        )
    }),
    case!(
        "file_size_by_signal",
        in_child(|| {
            sys!(signal(libc::SIGXFSZ, libc::SIG_DFL));
            set(libc::RLIMIT_FSIZE, 10, 10);
            let file = open(c"f", libc::O_RDWR | libc::O_CREAT);
            write(file, &[1; 20]);
            write(file, b"x");
            0
        })
    ),
    case!(
        "cpu_time",
        in_child(|| {
            sys!(signal(libc::SIGXCPU, libc::SIG_DFL));
            set(libc::RLIMIT_CPU, 1, 3);
            loop {
                std::hint::spin_loop();
            }
        })
    ),
    case!(
        "cpu_time_at_the_hard_limit",
        in_child(|| {
            sys!(signal(libc::SIGXCPU, libc::SIG_IGN));
            set(libc::RLIMIT_CPU, 1, 2);
            loop {
                std::hint::spin_loop();
            }
        })
    ),
    case!(
        "processes_of_a_user",
        as_user(|| {
            set(libc::RLIMIT_NPROC, 3, 3);
            let mut children = Vec::new();
            let answer = loop {
                let child = fork(|| {
                    loop {
                        sleep_ms(1000)
                    }
                });
                if child < 0 {
                    break last_errno();
                }
                children.push(child);
                if children.len() > 10 {
                    break "no limit".into();
                }
            };
            for &child in &children {
                sys!(kill(child, libc::SIGKILL));
            }
            answers!(children.len() <= 3, answer)
        })
    ),
    case!("root_is_not_bound_by_it", {
        set(libc::RLIMIT_NPROC, 1, 1);
        in_child(|| 5)
    }),
    case!(
        "stack_of_the_next_image",
        asked_in_child(|| {
            set(libc::RLIMIT_STACK, MIB as u64, MIB as u64);
            helper(&[c"x", c"--helper-arguments", c"fits"], &[])
        })
    ),
    case!(
        "pending_signals",
        as_user(|| {
            set(libc::RLIMIT_SIGPENDING, 4, 4);
            // SAFETY: a signal set is plain integers.
            unsafe {
                let mut set: libc::sigset_t = std::mem::zeroed();
                libc::sigaddset(&mut set, 40);
                libc::sigprocmask(libc::SIG_BLOCK, &set, null_mut());
            }
            let queued = (0..20)
                .take_while(|_| sys!(sigqueue(sys!(getpid()), 40, libc::sigval { sival_ptr: null_mut() })) == 0)
                .count();
            answers!(queued <= 4, last_errno())
        })
    ),
    case!(
        "pending_signals_of_all_a_users_processes",
        asked_in_child(|| {
            sys!(setresuid(NOBODYS_ID, NOBODYS_ID, NOBODYS_ID));
            set(libc::RLIMIT_SIGPENDING, 4, 4);
            // SAFETY: a signal set is plain integers.
            unsafe {
                let mut set: libc::sigset_t = std::mem::zeroed();
                libc::sigaddset(&mut set, 40);
                libc::sigprocmask(libc::SIG_BLOCK, &set, null_mut());
            }
            let queue =
                |pid: i32| ok(sys!(syscall(libc::SYS_rt_sigqueueinfo, pid, 40, (&raw const INFORMATION).addr())));
            let other = fork(|| sys!(pause()));
            let to_other = [(); 3].map(|()| queue(other)).join(" ");
            let to_itself = [(); 2].map(|()| queue(sys!(getpid()))).join(" ");
            sys!(kill(other, libc::SIGKILL));
            let end = ending(other);
            answers!(to_other, to_itself, end, [(); 4].map(|()| queue(sys!(getpid()))).join(" "))
        })
    ),
    case!("locking_all_memory", {
        let lock = |flags: i32| ok(sys!(mlockall(flags)));
        let refused = answers!(lock(0), lock(8), lock(libc::MCL_ONFAULT));
        answers!(refused, lock(libc::MCL_CURRENT), lock(libc::MCL_CURRENT | libc::MCL_FUTURE), ok(sys!(munlockall())))
    }),
    case!("locking_no_memory", {
        set(libc::RLIMIT_MEMLOCK, 0, 0);
        as_user(|| {
            let place = (&raw const WORD).cast();
            let all = answers!(ok(sys!(mlockall(0))), ok(sys!(mlockall(libc::MCL_FUTURE))), ok(sys!(munlockall())));
            answers!(all, ok(sys!(mlock(place, 8))), ok(sys!(mlock(place, 0))), ok(sys!(munlock(place, 8))))
        })
    }),
    case!("locking_some_memory", {
        set(libc::RLIMIT_MEMLOCK, 65_536, 65_536);
        as_user(|| {
            let place = (&raw const WORD).cast();
            answers!(ok(sys!(mlockall(libc::MCL_CURRENT))), ok(sys!(mlock(place, 8))), ok(sys!(mlock(place, 100_000))))
        })
    }),
    case!("locking_odd_ranges", {
        const PAGE: usize = 4096;
        set(libc::RLIMIT_MEMLOCK, 2 * PAGE as u64, 2 * PAGE as u64);
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let place = sys!(mmap(null_mut(), 3 * PAGE, libc::PROT_READ, flags, -1, 0)) as usize;
        let lock = move |start: usize, length: usize| {
            let (start, unlock) = (start as *const libc::c_void, ok(sys!(munlock(start as *const _, length))));
            format!("{} {unlock}", ok(sys!(mlock(start, length))))
        };
        let ask = move || {
            let ends = answers!(lock(place, usize::MAX), lock(place + 1, usize::MAX), lock(place, usize::MAX - PAGE));
            answers!(ends, lock(place + 1, 2 * PAGE), lock(place + 1, 2 * PAGE - 1), lock(PAGE, 0), lock(PAGE, 1))
        };
        answers!(ask(), as_user(ask))
    }),
    case!("niceness_limit_of_a_user", as_user(|| answers!(ok(sys!(setpriority(libc::PRIO_PROCESS, 0, -5)))))),
];
