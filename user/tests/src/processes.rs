//! Processes: fork and its like, how they end and who is told, groups and sessions, who one is.

use conformance::support::*;
use conformance::{answers, case, sys};
use std::ptr::{null, null_mut};

fn waitid(kind: libc::idtype_t, id: u32, options: i32) -> String {
    // SAFETY: siginfo_t is plain data, for which zeros are valid; the kernel fills it.
    unsafe {
        let mut information: libc::siginfo_t = std::mem::zeroed();
        if libc::waitid(kind, id, &mut information, options) < 0 {
            return last_errno();
        }
        if information.si_signo == 0 {
            return "nothing yet".into();
        }
        let code = match information.si_code {
            libc::CLD_EXITED => "exited".into(),
            libc::CLD_KILLED => "killed".into(),
            libc::CLD_STOPPED => "stopped".into(),
            libc::CLD_CONTINUED => "continued".into(),
            other => format!("code {other}"),
        };
        format!("{} {code} {}", signal_name(information.si_signo), information.si_status())
    }
}

fn become_subreaper() {
    sys!(prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0));
}

fn pause_forever() -> i32 {
    loop {
        sleep_ms(1000);
    }
}

/// A child that has stopped itself.
fn stopped_child() -> i32 {
    let child = fork(|| {
        sys!(raise(libc::SIGSTOP));
        5
    });
    wait_with(child, libc::WUNTRACED);
    child
}

/// clone(2) with these flags, on the same stack.
fn clone_with(flags: libc::c_long) -> i64 {
    sys!(syscall(libc::SYS_clone, flags, 0, 0, 0, 0))
}

fn group_of(process: i32, names: &[(i32, &str)]) -> String {
    let group = sys!(getpgid(process));
    if group < 0 {
        return last_errno();
    }
    names.iter().find(|(number, _)| *number == group).map_or("another".into(), |(_, name)| (*name).into())
}

pub const CASES: &[Case] = &[
    case!("exit_status_is_the_low_byte", answers!(in_child(|| 0), in_child(|| 255), in_child(|| 256), in_child(|| -1))),
    case!(
        "exit_by_the_old_call_ends_a_single_thread",
        in_child(|| {
            sys!(syscall(libc::SYS_exit, 9));
            1
        })
    ),
    case!(
        "death_by_signal",
        answers!(
            in_child(|| sys!(raise(libc::SIGTERM))),
            in_child(|| sys!(raise(libc::SIGKILL))),
            in_child(|| sys!(raise(libc::SIGUSR1)))
        )
    ),
    case!(
        "wait_without_children",
        answers!(value(sys!(wait(null_mut()))), value(sys!(waitpid(-1, null_mut(), libc::WNOHANG))))
    ),
    case!("wait_for_a_process_that_is_no_child", value(sys!(waitpid(1, null_mut(), 0)))),
    case!("wait_for_a_child_twice", {
        let child = fork(|| 3);
        answers!(ending(child), ending(child))
    }),
    case!("wait_without_hanging", {
        let child = fork(pause_forever);
        let first = wait_with(child, libc::WNOHANG);
        sys!(kill(child, libc::SIGKILL));
        answers!(first, ending(child))
    }),
    case!("wait_with_unknown_options", value(sys!(waitpid(-1, null_mut(), 0x100)))),
    case!("wait_for_any_child_of_a_group", {
        let child = fork(|| {
            sys!(setpgid(0, 0));
            4
        });
        sys!(setpgid(child, child));
        let other = fork(|| 5);
        let mut status = 0;
        let found = sys!(waitpid(-child, &mut status, 0));
        answers!(found == child, status_text(status), ending(other))
    }),
    case!("wait_for_a_group_without_members", value(sys!(waitpid(-12345, null_mut(), 0)))),
    case!("wait_for_group_of_the_smallest_number", value(sys!(syscall(libc::SYS_wait4, i32::MIN, 0, 0, 0)))),
    case!("wait_tells_of_a_stop_once", {
        let child = fork(|| {
            sys!(raise(libc::SIGSTOP));
            5
        });
        let stop = wait_with(child, libc::WUNTRACED);
        let again = wait_with(child, libc::WUNTRACED | libc::WNOHANG);
        sys!(kill(child, libc::SIGCONT));
        answers!(stop, again, ending(child))
    }),
    case!("wait_tells_of_a_continuation", {
        let child = fork(|| {
            sys!(raise(libc::SIGSTOP));
            pause_forever()
        });
        let stop = wait_with(child, libc::WUNTRACED);
        sys!(kill(child, libc::SIGCONT));
        let go = wait_with(child, libc::WCONTINUED);
        sys!(kill(child, libc::SIGTERM));
        answers!(stop, go, ending(child))
    }),
    case!("a_stopped_process_can_be_killed", {
        let child = stopped_child();
        sys!(kill(child, libc::SIGKILL));
        ending(child)
    }),
    case!("a_stopped_process_keeps_a_termination_until_it_continues", {
        let child = stopped_child();
        sys!(kill(child, libc::SIGTERM));
        sleep_ms(20);
        let still = wait_with(child, libc::WNOHANG);
        sys!(kill(child, libc::SIGCONT));
        answers!(still, ending(child))
    }),
    case!("waitid_of_an_exit", {
        let child = fork(|| 7);
        waitid(libc::P_PID, child as u32, libc::WEXITED)
    }),
    case!("waitid_of_a_death", {
        let child = fork(|| sys!(raise(libc::SIGINT)));
        waitid(libc::P_PID, child as u32, libc::WEXITED)
    }),
    case!("waitid_can_leave_the_child", {
        let child = fork(|| 7);
        answers!(
            waitid(libc::P_PID, child as u32, libc::WEXITED | libc::WNOWAIT),
            waitid(libc::P_PID, child as u32, libc::WEXITED),
            waitid(libc::P_PID, child as u32, libc::WEXITED)
        )
    }),
    case!("waitid_of_stop_and_continuation", {
        let child = fork(|| {
            sys!(raise(libc::SIGSTOP));
            pause_forever()
        });
        let stop = waitid(libc::P_PID, child as u32, libc::WSTOPPED);
        sys!(kill(child, libc::SIGCONT));
        let go = waitid(libc::P_PID, child as u32, libc::WCONTINUED);
        sys!(kill(child, libc::SIGKILL));
        answers!(stop, go, waitid(libc::P_ALL, 0, libc::WEXITED))
    }),
    case!("waitid_without_hanging_and_nothing_to_tell", {
        let child = fork(pause_forever);
        let answer = waitid(libc::P_PID, child as u32, libc::WEXITED | libc::WNOHANG);
        sys!(kill(child, libc::SIGKILL));
        answer
    }),
    case!("waitid_without_a_kind_of_event", waitid(libc::P_ALL, 0, libc::WNOHANG)),
    case!("waitid_with_a_kind_of_id_that_is_none", waitid(77, 0, libc::WEXITED)),
    case!("children_may_be_waited_for_in_any_order", {
        let children: Vec<i32> = (0..5).map(|status| fork(move || status)).collect();
        children.iter().rev().map(|&child| ending(child)).collect::<Vec<_>>().join(" ")
    }),
    case!("a_hundred_children", {
        let children: Vec<i32> = (0..100).map(|status| fork(move || status)).collect();
        let ended = (0..100).filter(|_| sys!(wait(null_mut())) > 0).count();
        answers!(children.iter().all(|&child| child > 0), ended, value(sys!(wait(null_mut()))))
    }),
    case!("ignoring_sigchld_buries_children_at_once", {
        sys!(signal(libc::SIGCHLD, libc::SIG_IGN));
        fork(|| 1);
        value(sys!(wait(null_mut())))
    }),
    case!("an_orphan_gets_the_subreaper_as_parent", {
        become_subreaper();
        let own = sys!(getpid());
        let (read_end, write_end) = pipe();
        let child = fork(|| {
            fork(|| {
                while sys!(getppid()) != own {
                    sleep_ms(1);
                }
                write_all(write_end, b"adopted");
                6
            });
            0
        });
        answers!(ending(child), read(read_end, 20), ending(-1))
    }),
    case!("an_orphaned_zombie_goes_to_the_subreaper", {
        become_subreaper();
        let child = fork(|| {
            fork(|| 6);
            sleep_ms(20);
            0
        });
        answers!(ending(child), ending(-1), ending(-1))
    }),
    case!("death_signal_of_the_parent", {
        become_subreaper();
        let (read_end, write_end) = pipe();
        let child = fork(|| {
            fork(|| {
                sys!(prctl(libc::PR_SET_PDEATHSIG, libc::SIGUSR1));
                write_all(write_end, b"x");
                pause_forever()
            });
            read(read_end, 1);
            0
        });
        answers!(ending(child), ending(-1))
    }),
    case!("fork_copies_memory", {
        let cell = std::cell::Cell::new(1);
        let how = in_child(|| {
            cell.set(2);
            cell.get()
        });
        answers!(how, cell.get())
    }),
    case!("fork_shares_file_offsets", {
        make_file(c"file", b"abcdef", 0o644);
        let file = open(c"file", libc::O_RDONLY);
        in_child(|| {
            read(file, 2);
            0
        });
        read(file, 2)
    }),
    case!("fork_copies_the_descriptor_table", {
        in_child(|| {
            close(0);
            0
        });
        ok(sys!(fcntl(0, libc::F_GETFD)))
    }),
    case!("fork_does_not_copy_pending_signals", {
        // SAFETY: signal sets are plain integers.
        unsafe {
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigaddset(&mut set, libc::SIGUSR1);
            libc::sigprocmask(libc::SIG_BLOCK, &set, null_mut());
            libc::raise(libc::SIGUSR1);
            in_child(|| {
                let mut pending = std::mem::zeroed();
                libc::sigpending(&mut pending);
                libc::sigismember(&pending, libc::SIGUSR1)
            })
        }
    }),
    case!("fork_does_not_copy_alarms", {
        sys!(alarm(100));
        in_child(|| sys!(alarm(0)) as i32)
    }),
    case!("vfork_makes_the_parent_wait", {
        let (read_end, write_end) = pipe();
        // SAFETY: the child writes to the pipe and ends; it changes nothing of the parent's.
        #[allow(deprecated)]
        let child = unsafe {
            let child = libc::vfork();
            if child == 0 {
                let pause = libc::timespec { tv_sec: 0, tv_nsec: 20_000_000 };
                libc::nanosleep(&pause, null_mut());
                libc::write(write_end, c"child".as_ptr().cast(), 5);
                libc::_exit(3);
            }
            child
        };
        write_all(write_end, b" parent");
        answers!(read(read_end, 20), ending(child))
    }),
    case!("a_signal_ends_the_parent_that_vfork_holds", {
        in_child(|| {
            sys!(alarm(1));
            // SAFETY: the child changes nothing of the parent's; the case's end is its end.
            #[allow(deprecated)]
            unsafe {
                if libc::vfork() == 0 {
                    libc::pause();
                    libc::_exit(0);
                }
            }
            1
        })
    }),
    case!("clone_without_a_signal", {
        let child = clone_with(0);
        if child == 0 {
            exit(4);
        }
        answers!(value(sys!(waitpid(child as i32, null_mut(), 0))), ending(child as i32))
    }),
    case!("clone_without_a_signal_and_wait_for_all", {
        let child = clone_with(0);
        if child == 0 {
            exit(4);
        }
        wait_with(child as i32, libc::__WALL)
    }),
    case!("clone_with_another_signal", {
        sys!(signal(libc::SIGUSR1, libc::SIG_IGN));
        let child = clone_with(libc::SIGUSR1 as i64);
        if child == 0 {
            exit(4);
        }
        wait_with(child as i32, libc::__WCLONE)
    }),
    case!(
        "a_child_that_ends_with_another_signal_sends_it",
        in_child(|| {
            let child = clone_with(libc::SIGUSR1 as i64);
            if child == 0 {
                exit(4);
            }
            pause_forever()
        })
    ),
    case!("a_sibling_sends_what_its_maker_sends", {
        let child = fork(|| {
            let sibling = clone_with((libc::CLONE_PARENT | libc::SIGUSR1) as i64);
            if sibling == 0 { 6 } else { 5 }
        });
        let mut endings = [ending(child), ending(-1), ending(-1)];
        endings.sort();
        endings.join(", ")
    }),
    case!(
        "clone_of_flags_that_need_each_other",
        answers!(
            value(clone_with(libc::CLONE_THREAD as i64)),
            value(clone_with(libc::CLONE_SIGHAND as i64)),
            value(clone_with((libc::CLONE_FS | libc::CLONE_NEWNS) as i64)),
        )
    ),
    case!("clone3_of_a_size_that_is_too_small", value(sys!(syscall(libc::SYS_clone3, null::<u8>(), 8)))),
    case!("clone_with_shared_files", {
        let child = clone_with((libc::CLONE_FILES | libc::SIGCHLD) as i64);
        if child == 0 {
            sys!(dup2(0, 30));
            exit(4);
        }
        answers!(ending(child as i32), ok(sys!(fcntl(30, libc::F_GETFD))))
    }),
    case!("clone_with_a_shared_folder", {
        sys!(mkdir(c"inner".as_ptr(), 0o755));
        let child = clone_with((libc::CLONE_FS | libc::SIGCHLD) as i64);
        if child == 0 {
            sys!(chdir(c"inner".as_ptr()));
            sys!(umask(0o077));
            exit(4);
        }
        let how = ending(child as i32);
        make_mode_000();
        answers!(
            how,
            std::env::current_dir().is_ok_and(|path| path.ends_with("inner")),
            format!("{:o}", sys!(umask(0)))
        )
    }),
    case!("own_group_and_session", answers!(sys!(getpgrp()) == sys!(getpid()), sys!(getsid(0)) == sys!(getpid()))),
    case!("groups_of_child_and_parent", {
        let own = sys!(getpid());
        let child = fork(pause_forever);
        let names = [(own, "parent's"), (child, "its own")];
        let before = group_of(child, &names);
        let moved = ok(sys!(setpgid(child, 0)));
        let after = group_of(child, &names);
        let back = ok(sys!(setpgid(child, own)));
        let last = group_of(child, &names);
        sys!(kill(child, libc::SIGKILL));
        answers!(before, moved, after, back, last)
    }),
    case!("setpgid_to_a_group_that_is_none", ok(sys!(setpgid(0, 12345)))),
    case!("setpgid_to_a_negative_group", ok(sys!(setpgid(0, -1)))),
    case!("setpgid_of_a_process_that_is_no_child", ok(sys!(setpgid(1, 0)))),
    case!("setpgid_of_a_child_after_its_exec", {
        make_file(c"spinner", &conformance::elf::Elf::with(|elf| elf.code = vec![0xeb, 0xfe]).bytes(), 0o755);
        let (read_end, write_end) = pipe();
        sys!(fcntl(write_end, libc::F_SETFD, libc::FD_CLOEXEC));
        let child = fork(|| {
            close(read_end);
            execve(c"./spinner", &[c"x"], &[]);
            1
        });
        close(write_end);
        read_to_end(read_end);
        let answer = ok(sys!(setpgid(child, child)));
        sys!(kill(child, libc::SIGKILL));
        answer
    }),
    case!("setsid_of_a_leader", value(sys!(setsid()))),
    case!(
        "setsid_of_a_child",
        in_child(|| {
            let own = sys!(getpid());
            i32::from(sys!(setsid()) == own && sys!(getpgrp()) == own && sys!(getsid(0)) == own)
        })
    ),
    case!(
        "setpgid_of_a_session_leader",
        in_child(|| {
            sys!(setsid());
            sys!(setpgid(0, 0));
            errno()
        })
    ),
    case!("getpgid_of_nobody", answers!(value(sys!(getpgid(0x3ffffff))), value(sys!(getsid(0x3ffffff))))),
    case!("kill_a_group", {
        let first = fork(|| {
            sys!(setpgid(0, 0));
            pause_forever()
        });
        sys!(setpgid(first, first));
        let second = fork(pause_forever);
        sys!(setpgid(second, first));
        answers!(ok(sys!(kill(-first, libc::SIGTERM))), ending(first), ending(second))
    }),
    case!(
        "kill_nobody",
        answers!(ok(sys!(kill(0x3ffffff, 0))), ok(sys!(kill(-0x3ffffff, 0))), ok(sys!(kill(i32::MIN, 0))))
    ),
    case!(
        "kill_with_signals_that_are_none",
        answers!(ok(sys!(kill(0, 65))), ok(sys!(kill(0, -1))), ok(sys!(kill(0, 0))))
    ),
    case!("kill_a_zombie", {
        let child = fork(|| 1);
        sleep_ms(20);
        answers!(ok(sys!(kill(child, libc::SIGTERM))), ending(child), ok(sys!(kill(child, 0))))
    }),
    case!(
        "a_session_leaders_pid_is_not_reused_by_its_group",
        in_child(|| {
            let own = sys!(setsid());
            let child = fork(|| sys!(getpgrp()) & 0x3f);
            i32::from(ending(child) == format!("exit {}", own & 0x3f))
        })
    ),
    case!("the_name_can_be_changed_and_is_cut", {
        sys!(prctl(libc::PR_SET_NAME, c"a name of more than fifteen bytes".as_ptr()));
        let mut name = [0_u8; 16];
        sys!(prctl(libc::PR_GET_NAME, name.as_mut_ptr()));
        format!("{:?}", String::from_utf8_lossy(&name))
    }),
    case!("prctl_of_what_there_is_not", ok(sys!(prctl(9999, 0, 0, 0, 0)))),
    case!(
        "prctl_dumpable",
        answers!(
            value(sys!(prctl(libc::PR_GET_DUMPABLE))),
            ok(sys!(prctl(libc::PR_SET_DUMPABLE, 0))),
            value(sys!(prctl(libc::PR_GET_DUMPABLE))),
            ok(sys!(prctl(libc::PR_SET_DUMPABLE, 7)))
        )
    ),
    case!(
        "prctl_no_new_privileges",
        answers!(
            value(sys!(prctl(libc::PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0))),
            ok(sys!(prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))),
            value(sys!(prctl(libc::PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0))),
            ok(sys!(prctl(libc::PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0)))
        )
    ),
    case!("arch_prctl_reads_what_it_set", {
        let mut base = 0_u64;
        answers!(
            ok(sys!(syscall(libc::SYS_arch_prctl, 0x1003, &raw mut base))),
            base != 0,
            ok(sys!(syscall(libc::SYS_arch_prctl, 0x1001, 0x1234_5678))),
            ok(sys!(syscall(libc::SYS_arch_prctl, 0x1004, &raw mut base))),
            base == 0x1234_5678,
        )
    }),
    case!(
        "arch_prctl_refuses",
        answers!(
            ok(sys!(syscall(libc::SYS_arch_prctl, 0x1001, 0xffff_8000_0000_0000_u64))),
            ok(sys!(syscall(libc::SYS_arch_prctl, 0x1001, 0x8000_0000_0000_u64))),
            ok(sys!(syscall(libc::SYS_arch_prctl, 0x9999, 0))),
            ok(sys!(syscall(libc::SYS_arch_prctl, 0x1003, 1))),
        )
    ),
    case!(
        "personality_can_be_asked",
        answers!(
            value(sys!(personality(0xffff_ffff))),
            value(sys!(personality(0x4_0000))),
            value(sys!(personality(0xffff_ffff)))
        )
    ),
    case!("set_tid_address_answers_with_the_thread", {
        let mut word = 0;
        sys!(syscall(libc::SYS_set_tid_address, &raw mut word)) == sys!(getpid()).into()
    }),
    case!("clear_child_tid_of_a_process_that_shares_nothing_stays", {
        let memory = sys!(mmap(
            null_mut(),
            4096,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_ANONYMOUS,
            -1,
            0
        ))
        .cast::<u32>();
        // SAFETY: the page is shared with the child, which alone writes it until it has ended.
        unsafe {
            memory.write(77);
            let child = libc::syscall(libc::SYS_clone, libc::CLONE_CHILD_CLEARTID | libc::SIGCHLD, 0, 0, memory, 0);
            if child == 0 {
                libc::_exit(0);
            }
            let how = ending(child as i32);
            answers!(how, memory.read())
        }
    }),
    case!(
        "set_robust_list_checks_its_size",
        answers!(
            ok(sys!(syscall(libc::SYS_set_robust_list, 0, 24))),
            ok(sys!(syscall(libc::SYS_set_robust_list, 0, 23)))
        )
    ),
];

/// Uses the umask that the child set: a new file has no bits for others.
fn make_mode_000() {
    close(open(c"masked", libc::O_CREAT | libc::O_WRONLY));
}
