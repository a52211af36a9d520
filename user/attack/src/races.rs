//! Many things at once: exec, exit, wait, kill, stop, files and memory, from several processes and threads. Which of
//! them wins differs; that all come to an end must not.

use conformance::elf::Elf;
use conformance::support::*;
use conformance::{answers, case, sys};
use std::ptr::null_mut;
use std::thread;

/// A sequence of numbers that look random, the same in each run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

fn make_program() {
    make_file(c"program", &Elf::right().bytes(), 0o755);
}

fn pause_a_little(numbers: &mut Numbers) {
    for _ in 0..numbers.next(20) {
        sys!(sched_yield());
    }
}

/// How many of the children of this process end, however they do.
fn bury_all() -> usize {
    (0..).take_while(|_| sys!(wait(null_mut())) > 0).count()
}

pub const CASES: &[Case] = &[
    case!("exec_against_kill", {
        make_program();
        let mut numbers = Numbers(1);
        (0..200)
            .filter(|_| {
                let child = fork(|| {
                    execve(c"./program", &[c"x"], &[]);
                    1
                });
                pause_a_little(&mut numbers);
                sys!(kill(child, libc::SIGKILL));
                ["exit 42", "killed by SIGKILL"].contains(&ending(child).as_str())
            })
            .count()
    }),
    case!("exit_against_kill", {
        let mut numbers = Numbers(2);
        (0..300)
            .filter(|_| {
                let child = fork(|| 5);
                pause_a_little(&mut numbers);
                sys!(kill(child, libc::SIGTERM));
                ["exit 5", "killed by SIGTERM"].contains(&ending(child).as_str())
            })
            .count()
    }),
    case!(
        "exit_against_wait_without_hanging",
        (0..200)
            .filter(|_| {
                let child = fork(|| 5);
                loop {
                    let answer = wait_with(child, libc::WNOHANG);
                    if answer != "nothing yet" {
                        break answer == "exit 5";
                    }
                }
            })
            .count()
    ),
    case!("parents_that_leave_before_their_children", {
        sys!(prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0));
        let made = (0..100)
            .filter(|index| {
                fork(|| {
                    fork(|| {
                        for _ in 0..index % 7 {
                            sys!(sched_yield());
                        }
                        0
                    });
                    0
                }) > 0
            })
            .count();
        answers!(made, bury_all())
    }),
    case!("stop_and_continue_against_exit", {
        let mut numbers = Numbers(3);
        (0..100)
            .filter(|_| {
                let child = fork(|| {
                    for _ in 0..20 {
                        sys!(sched_yield());
                    }
                    6
                });
                for _ in 0..numbers.next(5) {
                    sys!(kill(child, libc::SIGSTOP));
                    pause_a_little(&mut numbers);
                    sys!(kill(child, libc::SIGCONT));
                }
                ending(child) == "exit 6"
            })
            .count()
    }),
    case!("exec_by_one_thread_of_many", {
        make_program();
        (0..20)
            .filter(|_| {
                in_child(|| {
                    for _ in 0..6 {
                        thread::spawn(|| {
                            loop {
                                sys!(sched_yield());
                            }
                        });
                    }
                    let exec = thread::spawn(|| {
                        execve(c"./program", &[c"x"], &[]);
                    });
                    let _ = exec.join();
                    1
                }) == "exit 42"
            })
            .count()
    }),
    case!("exec_by_all_threads_at_once", {
        make_program();
        (0..20)
            .filter(|_| {
                in_child(|| {
                    let threads: Vec<_> =
                        (0..6).map(|_| thread::spawn(|| execve(c"./program", &[c"x"], &[]))).collect();
                    for thread in threads {
                        let _ = thread.join();
                    }
                    1
                }) == "exit 42"
            })
            .count()
    }),
    case!(
        "exit_by_all_threads_at_once",
        (0..30)
            .filter(|_| in_child(|| {
                let threads: Vec<_> = (0..6).map(|_| thread::spawn(|| exit(9))).collect();
                for thread in threads {
                    let _ = thread.join();
                }
                1
            }) == "exit 9")
            .count()
    ),
    case!("threads_that_end_while_the_process_is_killed", {
        let mut numbers = Numbers(4);
        (0..30)
            .filter(|_| {
                let child = fork(|| {
                    loop {
                        let threads: Vec<_> = (0..4).map(|_| thread::spawn(|| ())).collect();
                        for thread in threads {
                            let _ = thread.join();
                        }
                    }
                });
                for _ in 0..5 {
                    pause_a_little(&mut numbers);
                }
                sys!(kill(child, libc::SIGKILL));
                ending(child) == "killed by SIGKILL"
            })
            .count()
    }),
    case!(
        "fork_by_all_threads_at_once",
        in_child(|| {
            let threads: Vec<_> =
                (0..4).map(|_| thread::spawn(|| (0..20).filter(|_| ending(fork(|| 3)) == "exit 3").count())).collect();
            let total: usize = threads.into_iter().map(|thread| thread.join().unwrap_or(0)).sum();
            i32::from(total == 80)
        })
    ),
    case!(
        "memory_mapped_and_unmapped_by_two_threads",
        in_child(|| {
            let memory = sys!(mmap(
                null_mut(),
                1 << 20,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0
            )) as usize;
            let other = thread::spawn(move || {
                for round in 0..300 {
                    let page = memory + round % 256 * 4096;
                    sys!(mprotect(page as *mut _, 4096, libc::PROT_READ));
                    sys!(mprotect(page as *mut _, 4096, libc::PROT_READ | libc::PROT_WRITE));
                    sys!(madvise(page as *mut _, 4096, libc::MADV_DONTNEED));
                }
            });
            for round in 0..300 {
                sys!(mmap(
                    (memory + round % 256 * 4096) as *mut _,
                    4096,
                    libc::PROT_READ | libc::PROT_WRITE,
                    libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED,
                    -1,
                    0
                ));
            }
            i32::from(other.join().is_ok())
        })
    ),
    case!("one_name_made_and_removed_by_many", {
        for index in 0..4 {
            fork(|| {
                for _ in 0..200 {
                    match index % 4 {
                        0 => close(open(c"name", libc::O_CREAT | libc::O_RDWR)),
                        1 => sys!(unlink(c"name".as_ptr())),
                        2 => sys!(rename(c"name".as_ptr(), c"other".as_ptr())),
                        _ => sys!(link(c"other".as_ptr(), c"name".as_ptr())),
                    };
                }
                0
            });
        }
        bury_all()
    }),
    case!("folders_moved_into_each_other", {
        sys!(mkdir(c"a".as_ptr(), 0o755));
        sys!(mkdir(c"b".as_ptr(), 0o755));
        for index in 0..2 {
            fork(|| {
                for _ in 0..200 {
                    if index == 0 {
                        sys!(rename(c"a".as_ptr(), c"b/a".as_ptr()));
                        sys!(rename(c"b/a".as_ptr(), c"a".as_ptr()));
                    } else {
                        sys!(rename(c"b".as_ptr(), c"a/b".as_ptr()));
                        sys!(rename(c"a/b".as_ptr(), c"b".as_ptr()));
                    }
                }
                0
            });
        }
        answers!(bury_all(), status_of(c"a").is_some() || status_of(c"b").is_some())
    }),
    case!("one_pipe_with_many_writers_and_readers", {
        let (read_end, write_end) = pipe();
        for _ in 0..3 {
            fork(|| {
                close(read_end);
                for _ in 0..100 {
                    write_all(write_end, &[b'x'; 100]);
                }
                0
            });
        }
        for _ in 0..3 {
            fork(|| {
                close(write_end);
                (read_to_end(read_end).len() % 100) as i32
            });
        }
        close(write_end);
        close(read_end);
        bury_all()
    }),
    case!("a_pipe_closed_while_others_wait_at_it", {
        sys!(signal(libc::SIGPIPE, libc::SIG_IGN));
        (0..50)
            .filter(|_| {
                let (read_end, write_end) = pipe();
                let reader = fork(|| {
                    close(write_end);
                    read_to_end(read_end).len() as i32
                });
                close(write_end);
                close(read_end);
                ending(reader) == "exit 0"
            })
            .count()
    }),
    case!("signals_from_many_to_one", {
        sys!(signal(libc::SIGUSR1, nothing as *const () as libc::sighandler_t));
        let own = sys!(getpid());
        for _ in 0..4 {
            fork(|| {
                for _ in 0..200 {
                    sys!(kill(own, libc::SIGUSR1));
                }
                0
            });
        }
        let mut buried = 0;
        loop {
            match sys!(wait(null_mut())) {
                -1 if last_errno() == "EINTR" => {}
                -1 => break,
                _ => buried += 1,
            }
        }
        buried
    }),
    case!("proc_read_while_processes_come_and_go", {
        let maker = fork(|| {
            for _ in 0..200 {
                in_child(|| 0);
            }
            0
        });
        let mut read_something = false;
        for _ in 0..20 {
            for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
                read_something |= std::fs::read(entry.path().join("status")).is_ok();
                let _ = std::fs::read(entry.path().join("maps"));
                let _ = std::fs::read_link(entry.path().join("exe"));
            }
        }
        answers!(ending(maker), read_something)
    }),
    case!("a_program_rewritten_while_it_is_executed", {
        make_program();
        let writer = fork(|| {
            for _ in 0..200 {
                let file = open(c"program", libc::O_WRONLY);
                if file >= 0 {
                    write_all(file, &Elf::right().bytes());
                    close(file);
                }
            }
            0
        });
        let mut strange = 0;
        for _ in 0..50 {
            if !["exit 42", "ETXTBSY"].contains(&exec_answer(c"./program", &[c"x"]).as_str()) {
                strange += 1;
            }
        }
        answers!(ending(writer), strange)
    }),
    case!("vfork_against_kill", {
        make_program();
        let mut numbers = Numbers(5);
        (0..50)
            .filter(|_| {
                let middle = fork(|| {
                    let arguments = [c"x".as_ptr(), std::ptr::null()];
                    // SAFETY: the child executes or ends and touches nothing else.
                    #[allow(deprecated)]
                    let child = unsafe {
                        let child = libc::vfork();
                        if child == 0 {
                            libc::execve(c"./program".as_ptr(), arguments.as_ptr(), std::ptr::null());
                            libc::_exit(1);
                        }
                        child
                    };
                    ending(child);
                    0
                });
                pause_a_little(&mut numbers);
                sys!(kill(middle, libc::SIGKILL));
                ["exit 0", "killed by SIGKILL"].contains(&ending(middle).as_str())
            })
            .count()
    }),
];

extern "C" fn nothing(_: i32) {}
