//! execve: which files it refuses and with which errno, what of the process lasts. Its path and strings as pointers, and how
//! long they may be: exec_arguments. What else the process becomes: exec_process.

use conformance::elf::Elf;
use conformance::support::*;
use conformance::{answers, case, sys};
use std::ffi::{CStr, CString};
use std::ptr::{null, null_mut};

const PAGE: usize = 4096;

pub fn make_program(path: &CStr, mode: libc::mode_t) {
    make_file(path, &Elf::right().bytes(), mode);
}

pub fn make_script(path: &CStr, text: &str) {
    make_file(path, text.as_bytes(), 0o755);
}

pub fn own(text: &str) -> String {
    text.replace("SELF", &own_path().to_string_lossy())
}

pub fn text(bytes: impl Into<Vec<u8>>) -> CString {
    CString::new(bytes).unwrap_or_default()
}

fn chain_of_scripts(length: usize) -> String {
    make_program(c"program", 0o755);
    for index in 1..=length {
        let interpreter = if index == 1 { "./program".into() } else { format!("./script{}", index - 1) };
        make_script(&text(format!("script{index}")), &format!("#!{interpreter}\n"));
    }
    exec_answer(&text(format!("./script{length}")), &[c"script"])
}

fn busy(prepare: impl FnOnce() -> String) -> String {
    make_program(c"program", 0o755);
    prepare()
}

/// A child that runs a program which waits until it is killed; the answer is asked meanwhile.
fn while_running(ask: impl FnOnce() -> String) -> String {
    // jmp $
    make_file(c"spinner", &Elf::with(|elf| elf.code = vec![0xeb, 0xfe]).bytes(), 0o755);
    let (read_end, write_end) = pipe();
    let child = fork(|| {
        close(read_end);
        sys!(fcntl(write_end, libc::F_SETFD, libc::FD_CLOEXEC));
        execve(c"./spinner", &[c"spinner"], &[]);
        1
    });
    close(write_end);
    // The end of the pipe says that execve has closed the child's end.
    read_to_end(read_end);
    let answer = ask();
    sys!(kill(child, libc::SIGKILL));
    ending(child);
    answer
}

pub const CASES: &[Case] = &[
    case!("a_right_program_runs", {
        make_program(c"program", 0o755);
        exec_answer(c"./program", &[c"program"])
    }),
    case!("a_missing_file", exec_answer(c"./missing", &[c"x"])),
    case!("an_empty_path", exec_answer(c"", &[c"x"])),
    case!("a_folder", exec_answer(c".", &[c"x"])),
    case!("a_file_without_the_x_bit", {
        make_program(c"program", 0o644);
        exec_answer(c"./program", &[c"x"])
    }),
    case!("a_device", exec_answer(c"/dev/null", &[c"x"])),
    case!("a_fifo", {
        sys!(mkfifo(c"fifo".as_ptr(), 0o777));
        exec_answer(c"./fifo", &[c"x"])
    }),
    case!("a_file_as_a_folder_of_the_path", {
        make_program(c"program", 0o755);
        exec_answer(c"./program/x", &[c"x"])
    }),
    case!("a_path_with_a_slash_at_its_end", {
        make_program(c"program", 0o755);
        exec_answer(c"./program/", &[c"x"])
    }),
    case!("a_component_of_256_bytes", exec_answer(&text(vec![b'x'; 256]), &[c"x"])),
    case!("a_path_of_4096_bytes", exec_answer(&text("./".repeat(2048)), &[c"x"])),
    case!("a_link_to_itself", {
        sys!(symlink(c"loop".as_ptr(), c"loop".as_ptr()));
        exec_answer(c"./loop", &[c"x"])
    }),
    case!("a_link_to_a_program", {
        make_program(c"program", 0o755);
        sys!(symlink(c"program".as_ptr(), c"link".as_ptr()));
        exec_answer(c"./link", &[c"x"])
    }),
    case!("a_link_that_leads_nowhere", {
        sys!(symlink(c"gone".as_ptr(), c"link".as_ptr()));
        exec_answer(c"./link", &[c"x"])
    }),
    case!("an_empty_file", {
        make_file(c"empty", b"", 0o755);
        exec_answer(c"./empty", &[c"x"])
    }),
    case!("a_file_of_one_byte", {
        make_file(c"one", b"x", 0o755);
        exec_answer(c"./one", &[c"x"])
    }),
    case!("a_text_file", {
        make_file(c"text", b"echo hello\n", 0o755);
        exec_answer(c"./text", &[c"x"])
    }),
    case!(
        "a_folder_that_may_not_be_searched",
        as_user(|| {
            sys!(mkdir(c"closed".as_ptr(), 0o700));
            make_program(c"closed/program", 0o755);
            sys!(chmod(c"closed".as_ptr(), 0));
            exec_answer(c"closed/program", &[c"x"])
        })
    ),
    case!(
        "a_program_that_only_others_may_execute",
        as_user(|| {
            make_program(c"program", 0o001);
            exec_answer(c"./program", &[c"x"])
        })
    ),
    case!(
        "a_program_that_may_not_be_read",
        as_user(|| {
            make_program(c"program", 0o111);
            exec_answer(c"./program", &[c"x"])
        })
    ),
    case!("root_and_a_file_with_no_x_bit_at_all", {
        make_program(c"program", 0o666);
        exec_answer(c"./program", &[c"x"])
    }),
    case!("root_and_a_file_that_only_others_may_execute", {
        make_program(c"program", 0o001);
        exec_answer(c"./program", &[c"x"])
    }),
    case!("a_script", {
        make_script(c"script", &own("#!SELF --helper-arguments\n"));
        helper_at(c"./script", &[c"zero", c"one", c"two"], &[])
    }),
    case!("a_script_whose_argument_has_blanks", {
        make_script(c"script", &own("#!SELF --helper-arguments  and  more \t \n"));
        helper_at(c"./script", &[c"zero", c"one"], &[])
    }),
    case!("a_script_with_blanks_before_the_interpreter", {
        make_script(c"script", &own("#! \t SELF \t --helper-arguments\n"));
        helper_at(c"./script", &[c"zero"], &[])
    }),
    case!("a_script_without_a_line_end", {
        make_script(c"script", &own("#!SELF --helper-arguments"));
        helper_at(c"./script", &[c"zero"], &[])
    }),
    case!("a_script_without_an_interpreter", {
        make_script(c"script", "#!\n");
        exec_answer(c"./script", &[c"x"])
    }),
    case!("a_script_with_blanks_only", {
        make_script(c"script", "#!   \t \n");
        exec_answer(c"./script", &[c"x"])
    }),
    case!("a_script_of_two_bytes", {
        make_script(c"script", "#!");
        exec_answer(c"./script", &[c"x"])
    }),
    case!("a_script_whose_interpreter_is_missing", {
        make_script(c"script", "#!/no/such/thing\n");
        exec_answer(c"./script", &[c"x"])
    }),
    case!("a_script_whose_interpreter_is_a_folder", {
        make_script(c"script", "#!/\n");
        exec_answer(c"./script", &[c"x"])
    }),
    case!("a_script_whose_interpreter_is_no_program", {
        make_file(c"text", b"plain text", 0o755);
        make_script(c"script", "#!./text\n");
        exec_answer(c"./script", &[c"x"])
    }),
    case!("an_interpreter_that_is_too_long_for_the_line", {
        make_script(c"script", &format!("#!/{}\n", "x".repeat(300)));
        exec_answer(c"./script", &[c"x"])
    }),
    case!("an_argument_that_is_too_long_for_the_line_is_cut", {
        make_program(c"program", 0o755);
        make_script(c"script", &format!("#!./program {}\n", "x".repeat(300)));
        exec_answer(c"./script", &[c"x"])
    }),
    case!("a_script_that_is_its_own_interpreter", {
        make_script(c"script", "#!./script\n");
        exec_answer(c"./script", &[c"x"])
    }),
    case!("scripts_that_interpret_scripts", (1..=7).map(chain_of_scripts).collect::<Vec<_>>().join(" ")),
    case!("a_script_without_the_x_bit_on_its_interpreter", {
        make_program(c"program", 0o644);
        make_script(c"script", "#!./program\n");
        exec_answer(c"./script", &[c"x"])
    }),
    case!("a_script_by_a_descriptor_that_closes_on_exec", {
        make_program(c"program", 0o755);
        make_script(c"script", "#!./program\n");
        let file = open(c"script", libc::O_RDONLY | libc::O_CLOEXEC);
        asked_in_child(|| execveat(file, c"", libc::AT_EMPTY_PATH))
    }),
    case!("writing_to_a_running_program", while_running(|| ok(open(c"spinner", libc::O_WRONLY)))),
    case!("cutting_a_running_program", while_running(|| ok(sys!(truncate(c"spinner".as_ptr(), 0))))),
    case!("reading_a_running_program", while_running(|| ok(open(c"spinner", libc::O_RDONLY)))),
    case!("removing_a_running_program", while_running(|| ok(sys!(unlink(c"spinner".as_ptr()))))),
    case!(
        "running_a_program_that_is_open_for_writing",
        busy(|| {
            let file = open(c"program", libc::O_WRONLY);
            let answer = exec_answer(c"./program", &[c"x"]);
            close(file);
            answers!(answer, exec_answer(c"./program", &[c"x"]))
        })
    ),
    case!(
        "running_a_program_that_is_open_for_reading",
        busy(|| {
            open(c"program", libc::O_RDONLY);
            exec_answer(c"./program", &[c"x"])
        })
    ),
    case!(
        "writing_to_a_program_after_it_has_ended",
        busy(|| {
            exec_answer(c"./program", &[c"x"]);
            ok(open(c"program", libc::O_WRONLY))
        })
    ),
    case!(
        "running_a_script_that_is_open_for_writing",
        busy(|| {
            make_script(c"script", "#!./program\n");
            open(c"script", libc::O_WRONLY);
            exec_answer(c"./script", &[c"x"])
        })
    ),
    case!(
        "execveat_of_a_descriptor",
        busy(|| {
            let file = open(c"program", libc::O_RDONLY);
            in_child(|| {
                execveat(file, c"", libc::AT_EMPTY_PATH);
                1
            })
        })
    ),
    case!(
        "execveat_of_a_path_only_descriptor",
        busy(|| {
            let file = open(c"program", libc::O_PATH);
            in_child(|| {
                execveat(file, c"", libc::AT_EMPTY_PATH);
                1
            })
        })
    ),
    case!(
        "execveat_relative_to_a_folder",
        busy(|| {
            let folder = open(c".", libc::O_RDONLY | libc::O_DIRECTORY);
            sys!(chdir(c"/".as_ptr()));
            in_child(|| {
                execveat(folder, c"program", 0);
                1
            })
        })
    ),
    case!("execveat_with_an_empty_path_and_no_flag", asked_in_child(|| execveat(0, c"", 0))),
    case!(
        "execveat_of_a_link_that_must_not_be_followed",
        busy(|| {
            sys!(symlink(c"program".as_ptr(), c"link".as_ptr()));
            asked_in_child(|| execveat(libc::AT_FDCWD, c"link", libc::AT_SYMLINK_NOFOLLOW))
        })
    ),
    case!("execveat_with_a_bad_descriptor", asked_in_child(|| execveat(77, c"program", 0))),
    case!(
        "execveat_relative_to_a_file",
        busy(|| {
            let file = open(c"program", libc::O_RDONLY);
            asked_in_child(|| execveat(file, c"program", 0))
        })
    ),
    case!("execveat_with_an_unknown_flag", busy(|| asked_in_child(|| execveat(libc::AT_FDCWD, c"program", 1)))),
    case!("execveat_of_a_folder_itself", {
        let folder = open(c".", libc::O_RDONLY);
        asked_in_child(|| execveat(folder, c"", libc::AT_EMPTY_PATH))
    }),
    case!(
        "signals_that_are_ignored_stay_so_and_handlers_go",
        asked_in_child(|| {
            sys!(signal(libc::SIGUSR1, libc::SIG_IGN));
            sys!(signal(libc::SIGUSR2, handler as *const () as libc::sighandler_t));
            helper(&[c"x", c"--helper-signals"], &[])
        })
    ),
    case!("blocked_and_pending_signals_stay", {
        block(libc::SIGUSR1);
        let (read_end, write_end) = pipe();
        let child = fork(|| {
            sys!(raise(libc::SIGUSR1));
            sys!(dup2(write_end, 1));
            execve(own_path(), &[c"x", c"--helper-signals"], &[]);
            1
        });
        close(write_end);
        let text = String::from_utf8_lossy(&read_to_end(read_end)).into_owned();
        ending(child);
        text
    }),
    case!("descriptors_close_on_exec_if_they_say_so", {
        sys!(dup2(0, 10));
        sys!(dup3(0, 11, libc::O_CLOEXEC));
        sys!(dup2(0, 12));
        sys!(fcntl(12, libc::F_SETFD, libc::FD_CLOEXEC));
        helper(&[c"x", c"--helper-descriptors"], &[])
    }),
    case!("descriptors_stay_when_exec_fails", {
        sys!(dup3(0, 11, libc::O_CLOEXEC));
        answers!(execve(c"./missing", &[c"x"], &[]), ok(sys!(fcntl(11, libc::F_GETFD))))
    }),
    case!("limits_umask_and_niceness_stay", {
        sys!(umask(0o027));
        let limit = libc::rlimit { rlim_cur: 12345, rlim_max: 23456 };
        sys!(setrlimit(libc::RLIMIT_CORE, &limit));
        sys!(setpriority(libc::PRIO_PROCESS, 0, 13));
        helper(&[c"x", c"--helper-state"], &[])
    }),
    case!("the_process_is_named_after_its_file", {
        sys!(symlink(own_path().as_ptr(), c"a_name_that_is_too_long".as_ptr()));
        helper_at(c"./a_name_that_is_too_long", &[c"something else", c"--helper-name"], &[])
    }),
    case!("a_setuid_program_changes_the_effective_user", {
        // SAFETY: takes no pointers.
        let copied = std::fs::copy(own_path().to_string_lossy().as_ref(), "setuid").is_ok();
        sys!(chown(c"setuid".as_ptr(), 1234, 2345));
        sys!(chmod(c"setuid".as_ptr(), 0o6755));
        answers!(copied, as_user(|| helper_at(c"./setuid", &[c"x", c"--helper-identity"], &[])))
    }),
    case!("an_ordinary_program_is_not_secure", helper(&[c"x", c"--helper-identity"], &[])),
    case!("setgid_without_group_execute_changes_nothing", {
        let copied = std::fs::copy(own_path().to_string_lossy().as_ref(), "setgid").is_ok();
        sys!(chown(c"setgid".as_ptr(), 1234, 2345));
        sys!(chmod(c"setgid".as_ptr(), 0o2745));
        answers!(copied, as_user(|| helper_at(c"./setgid", &[c"x", c"--helper-identity"], &[])))
    }),
    case!(
        "exec_from_a_thread_ends_the_others",
        in_child(|| {
            make_program(c"program", 0o755);
            for _ in 0..4 {
                std::thread::spawn(|| {
                    loop {
                        sleep_ms(1000)
                    }
                });
            }
            let exec = std::thread::spawn(|| {
                execve(c"./program", &[c"x"], &[]);
            });
            let _ = exec.join();
            1
        })
    ),
    case!("shared_memory_is_gone_after_exec_but_its_content_was_written", {
        make_program(c"program", 0o755);
        let shared = sys!(mmap(
            null_mut(),
            PAGE,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_ANONYMOUS,
            -1,
            0
        ))
        .cast::<u32>();
        let how = in_child(|| {
            // SAFETY: the mapping is a page, and shared with the parent, which only reads after this child's end.
            unsafe { shared.write(7) };
            execve(c"./program", &[c"x"], &[]);
            1
        });
        // SAFETY: as above.
        answers!(how, unsafe { shared.read() })
    }),
    case!("a_file_lock_survives_exec", {
        make_program(c"program", 0o755);
        make_file(c"locked", b"x", 0o644);
        let file = open(c"locked", libc::O_RDWR);
        answers!(
            ok(sys!(flock(file, libc::LOCK_EX))),
            exec_answer(c"./program", &[c"x"]),
            ok(sys!(flock(open(c"locked", libc::O_RDWR), libc::LOCK_EX | libc::LOCK_NB)))
        )
    }),
    case!("vfork_and_exec", {
        make_program(c"program", 0o755);
        let path = c"./program";
        let arguments = [path.as_ptr(), null()];
        // SAFETY: the child only executes or ends, and touches nothing of the parent's.
        #[allow(deprecated)]
        let child = unsafe {
            let child = libc::vfork();
            if child == 0 {
                libc::execve(path.as_ptr(), arguments.as_ptr(), null());
                libc::_exit(1);
            }
            child
        };
        ending(child)
    }),
    case!("posix_spawn_reports_what_execve_answers", {
        make_program(c"program", 0o755);
        let mut child = 0;
        let arguments = [c"x".as_ptr().cast_mut(), null_mut()];
        let good = sys!(posix_spawn(
            &mut child,
            c"./program".as_ptr(),
            null(),
            null(),
            arguments.as_ptr(),
            [null_mut()].as_ptr()
        ));
        let how = ending(child);
        let bad = sys!(posix_spawn(
            &mut child,
            c"./missing".as_ptr(),
            null(),
            null(),
            arguments.as_ptr(),
            [null_mut()].as_ptr()
        ));
        answers!(returned(good), how, returned(bad))
    }),
];

extern "C" fn handler(_: i32) {}

fn block(signal: i32) {
    // SAFETY: a signal set is an array of integers, for which zeros are valid.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigaddset(&mut set, signal);
        libc::sigprocmask(libc::SIG_BLOCK, &set, null_mut());
    }
}

pub fn execveat(folder: i32, path: &CStr, flags: i32) -> String {
    let arguments = [c"x".as_ptr(), null()];
    sys!(syscall(libc::SYS_execveat, folder, path.as_ptr(), arguments.as_ptr(), null::<libc::c_char>(), flags));
    last_errno()
}
