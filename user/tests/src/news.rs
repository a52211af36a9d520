//! What a parent is told about its children: siginfo of SIGCHLD, and every way to wait.

use conformance::support::*;
use conformance::{answers, case, sys};
use std::ptr::null_mut;

fn block_sigchld() {
    // SAFETY: signal sets are bit arrays, and the kernel reads one.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigaddset(&mut set, libc::SIGCHLD);
        libc::sigprocmask(libc::SIG_BLOCK, &set, null_mut());
    }
}

/// The next SIGCHLD, which must be blocked: what it says of this child.
fn news_of(child: i32) -> String {
    // SAFETY: the set and siginfo_t are plain data; the kernel fills the latter.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigaddset(&mut set, libc::SIGCHLD);
        let mut information: libc::siginfo_t = std::mem::zeroed();
        let limit = libc::timespec { tv_sec: 5, tv_nsec: 0 };
        if libc::sigtimedwait(&set, &mut information, &limit) < 0 {
            return last_errno();
        }
        text_of(&information, child)
    }
}

fn text_of(information: &libc::siginfo_t, child: i32) -> String {
    let code = match information.si_code {
        libc::CLD_EXITED => "exited",
        libc::CLD_KILLED => "killed",
        libc::CLD_DUMPED => "dumped",
        libc::CLD_STOPPED => "stopped",
        libc::CLD_CONTINUED => "continued",
        _ => "another code",
    };
    // SAFETY: the kernel filled these fields for SIGCHLD.
    let (pid, uid, status) = unsafe { (information.si_pid(), information.si_uid(), information.si_status()) };
    let who = if pid == child { "by the child" } else { "by another" };
    format!("{} {code} {status} {who} of user {uid}", signal_name(information.si_signo))
}

fn pause_forever() -> i32 {
    loop {
        sleep_ms(1000);
    }
}

/// waitid's answer and what it told, with the raw call: a missing siginfo_t is allowed there.
fn waitid(kind: u32, id: i32, options: i32) -> String {
    // SAFETY: siginfo_t is plain data; the kernel fills it.
    unsafe {
        let mut information: libc::siginfo_t = std::mem::zeroed();
        match libc::syscall(libc::SYS_waitid, kind, id, &raw mut information, options, null_mut::<libc::rusage>()) {
            -1 => last_errno(),
            _ if information.si_signo == 0 => "nothing yet".into(),
            _ => text_of(&information, information.si_pid()),
        }
    }
}

fn raw_wait(pid: i32, options: u32) -> String {
    match sys!(syscall(libc::SYS_wait4, pid, 0, options, 0)) {
        -1 => last_errno(),
        0 => "nothing yet".into(),
        _ => "a child".into(),
    }
}

/// Becomes the parent of a child that ended with 5 before its own parent did; tells its number.
fn inherit_ended_child() -> i32 {
    sys!(prctl(libc::PR_SET_CHILD_SUBREAPER, 1));
    let (read_end, write_end) = pipe();
    // Lives on, so that the only news is of the grandchild's child.
    fork(|| {
        fork(|| {
            let child = fork(|| 5);
            waitid(libc::P_PID, child, libc::WEXITED | libc::WNOWAIT);
            write_all(write_end, &child.to_ne_bytes());
            0
        });
        pause_forever()
    });
    i32::from_ne_bytes(read_up_to(read_end, 4).try_into().unwrap_or_default())
}

const WNOTHREAD: u32 = libc::__WNOTHREAD as u32;
const WALL: u32 = libc::__WALL as u32;
const WCLONE: u32 = libc::__WCLONE as u32;

pub const CASES: &[Case] = &[
    case!("an_exit", {
        block_sigchld();
        let child = fork(|| 0x107);
        answers!(news_of(child), ending(child))
    }),
    case!("a_death", {
        block_sigchld();
        let child = fork(pause_forever);
        sys!(kill(child, libc::SIGUSR2));
        answers!(news_of(child), ending(child))
    }),
    case!("a_death_of_another_user", {
        block_sigchld();
        let child = fork(|| {
            sys!(setresuid(1000, 1000, 1000));
            3
        });
        news_of(child)
    }),
    case!("a_stop_and_a_continuation", {
        block_sigchld();
        let child = fork(pause_forever);
        sys!(kill(child, libc::SIGTSTP));
        let stopped = news_of(child);
        sys!(kill(child, libc::SIGCONT));
        let continued = news_of(child);
        sys!(kill(child, libc::SIGKILL));
        answers!(stopped, continued, news_of(child))
    }),
    case!("no_news_of_stops_where_none_are_wanted", {
        block_sigchld();
        // SAFETY: sigaction is plain data.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_flags = libc::SA_NOCLDSTOP;
            libc::sigaction(libc::SIGCHLD, &action, null_mut());
        }
        let child = fork(pause_forever);
        sys!(kill(child, libc::SIGSTOP));
        let stopped = wait_with(child, libc::WUNTRACED);
        sys!(kill(child, libc::SIGCONT));
        let continued = wait_with(child, libc::WCONTINUED);
        sys!(kill(child, libc::SIGKILL));
        answers!(stopped, continued, news_of(child))
    }),
    case!("one_signal_stands_for_several_children", {
        block_sigchld();
        let children = [1, 2, 3].map(|status| fork(move || status));
        // All have ended once each has been looked at; none is buried.
        children.iter().for_each(|&child| {
            waitid(libc::P_PID, child, libc::WEXITED | libc::WNOWAIT);
        });
        let count = (0..3).filter(|_| {
            // SAFETY: the set is plain data, and the time is a valid one.
            unsafe {
                let mut set = std::mem::zeroed();
                libc::sigaddset(&mut set, libc::SIGCHLD);
                let at_once = libc::timespec { tv_sec: 0, tv_nsec: 0 };
                libc::sigtimedwait(&set, null_mut(), &at_once) == libc::SIGCHLD
            }
        });
        answers!(count.count(), children.map(ending).join(" "))
    }),
    case!("the_oldest_child_is_waited_for_first", {
        let children = [1, 2, 3].map(|status| fork(move || status));
        for child in children {
            waitid(libc::P_PID, child, libc::WEXITED | libc::WNOWAIT);
        }
        children.map(|_| wait_with(-1, 0)).join(", ")
    }),
    case!("who_ignores_sigchld_gets_none_even_if_it_is_blocked", {
        block_sigchld();
        sys!(signal(libc::SIGCHLD, libc::SIG_IGN));
        let is_pending = || {
            // SAFETY: the set is plain data; the kernel fills it.
            unsafe {
                let mut set = std::mem::zeroed();
                libc::sigpending(&mut set);
                libc::sigismember(&set, libc::SIGCHLD)
            }
        };
        let child = fork(pause_forever);
        sys!(kill(child, libc::SIGSTOP));
        let stopped = wait_with(child, libc::WUNTRACED);
        let of_stop = is_pending();
        sys!(kill(child, libc::SIGKILL));
        answers!(stopped, of_stop, ending(child), is_pending())
    }),
    case!("an_heir_is_told_of_who_had_ended", {
        block_sigchld();
        let child = inherit_ended_child();
        answers!(news_of(child), ending(child))
    }),
    case!("an_heir_that_ignores_sigchld_need_not_ask", {
        sys!(signal(libc::SIGCHLD, libc::SIG_IGN));
        let child = inherit_ended_child();
        let gone = (0..1000).any(|_| {
            sleep_ms(5);
            sys!(kill(child, 0)) == -1
        });
        yes(gone)
    }),
    case!("a_death_signal_stays_set_when_it_has_come", {
        let (read_end, write_end) = pipe();
        in_child(|| {
            let (ready, started) = pipe();
            fork(|| {
                sys!(signal(libc::SIGUSR1, libc::SIG_IGN));
                sys!(prctl(libc::PR_SET_PDEATHSIG, libc::SIGUSR1));
                let parent = sys!(getppid());
                write_all(started, b"!");
                while sys!(getppid()) == parent {
                    sleep_ms(5);
                }
                let mut signal = 0;
                sys!(prctl(libc::PR_GET_PDEATHSIG, &raw mut signal));
                write_all(write_end, signal_name(signal).as_bytes());
                0
            });
            read_up_to(ready, 1);
            0
        });
        String::from_utf8_lossy(&read_up_to(read_end, 100)).into_owned()
    }),
    case!("a_group_of_ended_ones_can_be_asked_for", {
        let child = fork(|| {
            sys!(setpgid(0, 0));
            0
        });
        waitid(libc::P_PID, child, libc::WEXITED | libc::WNOWAIT);
        answers!(
            ok(sys!(kill(-child, 0))),
            ok(sys!(kill(-child, libc::SIGTERM))),
            ending(child),
            ok(sys!(kill(-child, 0)))
        )
    }),
    case!("waitid_without_a_place_for_the_answer", {
        let child = fork(|| 4);
        let none = null_mut::<libc::siginfo_t>();
        let answer = value(sys!(syscall(libc::SYS_waitid, libc::P_PID, child, none, libc::WEXITED, 0)));
        answers!(answer, ending(child))
    }),
    case!("waitid_into_a_bad_place", {
        let child = fork(|| 4);
        answers!(value(sys!(syscall(libc::SYS_waitid, libc::P_PID, child, BAD, libc::WEXITED, 0))), ending(child))
    }),
    case!("wait4_into_a_bad_place", {
        let child = fork(|| 4);
        answers!(value(sys!(syscall(libc::SYS_wait4, child, BAD, 0, 0))), ending(child))
    }),
    case!("waitid_of_the_own_group", {
        let child = fork(|| 6);
        let other = fork(|| {
            sys!(setpgid(0, 0));
            pause_forever()
        });
        sys!(setpgid(other, other));
        let first = waitid(libc::P_PGID, 0, libc::WEXITED);
        let second = waitid(libc::P_PGID, 0, libc::WEXITED | libc::WNOHANG);
        sys!(kill(other, libc::SIGKILL));
        answers!(child > 0, first, second, waitid(libc::P_PGID, other, libc::WEXITED))
    }),
    case!("waitid_of_numbers_that_are_none", {
        let exited = libc::WEXITED;
        answers!(waitid(libc::P_PID, 0, exited), waitid(libc::P_PID, -1, exited), waitid(libc::P_PGID, -1, exited))
    }),
    case!("waitid_refuses_options_of_wait4", {
        answers!(
            waitid(libc::P_ALL, 0, libc::WEXITED | 0x40),
            waitid(libc::P_ALL, 0, libc::WNOWAIT),
            waitid(libc::P_ALL, 0, libc::WEXITED | libc::WNOHANG)
        )
    }),
    case!("a_stop_can_be_looked_at_twice", {
        let child = fork(pause_forever);
        sys!(kill(child, libc::SIGSTOP));
        let look = || waitid(libc::P_PID, child, libc::WSTOPPED | libc::WNOWAIT);
        let (first, second) = (look(), look());
        let taken = waitid(libc::P_PID, child, libc::WSTOPPED);
        let gone = waitid(libc::P_PID, child, libc::WSTOPPED | libc::WNOHANG);
        sys!(kill(child, libc::SIGKILL));
        answers!(first, second, taken, gone, waitid(libc::P_PID, child, libc::WEXITED))
    }),
    case!("waiting_for_stops_only_ends_with_the_child", {
        let child = fork(|| 5);
        let answer = waitid(libc::P_PID, child, libc::WEXITED | libc::WNOWAIT);
        // The child has ended and can't stop any more.
        answers!(answer, waitid(libc::P_PID, child, libc::WSTOPPED), ending(child))
    }),
    case!("children_of_other_threads", {
        let child = fork(|| 0);
        waitid(libc::P_PID, child, libc::WEXITED | libc::WNOWAIT);
        let from_thread = std::thread::spawn(move || answers!(raw_wait(child, WNOTHREAD), raw_wait(child, 0))).join();
        answers!(from_thread.unwrap_or_default(), raw_wait(child, 0))
    }),
    case!("children_of_a_thread_that_has_ended", {
        let child = std::thread::spawn(|| fork(|| 0)).join().unwrap_or(-1);
        waitid(libc::P_PID, child, libc::WEXITED | libc::WNOWAIT);
        // Who joins a thread is woken a little before its children get another.
        let mut answer = raw_wait(child, WNOTHREAD);
        for _ in 0..1000 {
            if answer != "ECHILD" {
                break;
            }
            sleep_ms(1);
            answer = raw_wait(child, WNOTHREAD);
        }
        answer
    }),
    case!("a_death_signal_comes_when_the_thread_ends_that_made_the_child", {
        let (read_end, write_end) = pipe();
        let bound = || {
            let child = fork(|| {
                sys!(prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL));
                sys!(write(write_end, [0u8].as_ptr().cast(), 1));
                sleep_ms(10_000);
                3
            });
            sys!(read(read_end, [0u8].as_mut_ptr().cast(), 1));
            child
        };
        let own = bound();
        let of_thread = std::thread::scope(|scope| scope.spawn(bound).join().unwrap_or(-1));
        let killed = ending(of_thread);
        sys!(kill(own, libc::SIGTERM));
        answers!(killed, ending(own))
    }),
    case!("a_death_signal_comes_from_the_parent_that_ends", {
        let (read_end, write_end) = pipe();
        sys!(prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0));
        let parent = fork(|| {
            let parent = sys!(getpid());
            fork(|| {
                // SAFETY: sigset_t and siginfo_t are plain data, for which zeros are valid; the kernel fills the second.
                let mut information: libc::siginfo_t = unsafe { std::mem::zeroed() };
                // SAFETY: as above.
                let mut awaited: libc::sigset_t = unsafe { std::mem::zeroed() };
                sys!(sigaddset(&mut awaited, libc::SIGUSR1));
                sys!(sigprocmask(libc::SIG_BLOCK, &awaited, null_mut()));
                sys!(prctl(libc::PR_SET_PDEATHSIG, libc::SIGUSR1));
                sys!(write(write_end, [0u8].as_ptr().cast(), 1));
                sys!(sigwaitinfo(&awaited, &mut information));
                // SAFETY: a signal that a process has sent has a sender.
                let sender = unsafe { information.si_pid() };
                i32::from(information.si_code == libc::SI_USER) | i32::from(sender == parent) << 1
            });
            sys!(read(read_end, [0u8].as_mut_ptr().cast(), 1));
            0
        });
        answers!(ending(parent), ending(-1))
    }),
    case!("options_for_children_of_clone", {
        let ended = |signal: i32| {
            let child = sys!(syscall(libc::SYS_clone, signal, 0, 0, 0, 0)) as i32;
            if child == 0 {
                exit(0);
            }
            child
        };
        let (ordinary, silent) = (ended(libc::SIGCHLD), ended(0));
        answers!(
            raw_wait(silent, 0),
            raw_wait(ordinary, WCLONE),
            raw_wait(silent, WCLONE),
            raw_wait(ordinary, WALL),
            raw_wait(-1, WALL)
        )
    }),
    case!("wnohang_with_a_child_that_runs", {
        let child = fork(pause_forever);
        let answers = answers!(raw_wait(-1, libc::WNOHANG as u32), raw_wait(0, libc::WNOHANG as u32));
        sys!(kill(child, libc::SIGKILL));
        answers!(answers, ending(child))
    }),
    case!("a_killed_child_with_a_core_limit", {
        block_sigchld();
        sys!(setrlimit(libc::RLIMIT_CORE, &libc::rlimit { rlim_cur: 0, rlim_max: 0 }));
        let child = fork(|| sys!(raise(libc::SIGABRT)));
        answers!(news_of(child), ending(child))
    }),
];
