//! execve's finer rules: who may not write to what runs, whose rights count when, where a `#!` line ends, what a program by
//! descriptor is told of its name, and what becomes of the other threads.

use crate::exec::{execveat, make_program, make_script, own, text};
use crate::exec_process::{clone_child, copy_of_self, execute_program, make_elf};
use conformance::elf::{EXIT_42, Elf};
use conformance::support::*;
use conformance::{answers, case, sys};
use std::arch::asm;
use std::ffi::{CStr, c_void};
use std::ptr::{null, null_mut};
use std::thread::spawn;

const PAGE: usize = 4096;
/// `jmp $`
const SPIN: &[u8] = &[0xeb, 0xfe];

/// A shared mapping of a file, which outlives its descriptor.
fn map_shared(path: &CStr, flags: i32, protection: i32) -> *mut c_void {
    let file = open(path, flags);
    let mapping = sys!(mmap(null_mut(), PAGE, protection, libc::MAP_SHARED, file, 0));
    close(file);
    mapping
}

/// A child that runs a program with the descriptors 0 to 2 only; the answer is asked as soon as it runs.
fn while_running(path: &CStr, ask: impl FnOnce(i32) -> String) -> String {
    let (read_end, write_end) = pipe();
    let child = fork(|| {
        close(read_end);
        sys!(fcntl(write_end, libc::F_SETFD, libc::FD_CLOEXEC));
        execve(path, &[c"x"], &[]);
        1
    });
    close(write_end);
    read_to_end(read_end);
    let answer = ask(child);
    sys!(kill(child, libc::SIGKILL));
    ending(child);
    answer
}

/// What a copy of this program with these permissions finds its ids to be, on a file system mounted with these flags.
fn identity_on_mount(flags: libc::c_ulong, mode: libc::mode_t) -> String {
    sys!(unshare(libc::CLONE_NEWNS));
    sys!(mount(null(), c"/".as_ptr(), null(), libc::MS_REC | libc::MS_PRIVATE, null()));
    sys!(mkdir(c"mounted".as_ptr(), 0o755));
    sys!(mount(c"tmpfs".as_ptr(), c"mounted".as_ptr(), c"tmpfs".as_ptr(), flags, null()));
    copy_of_self(c"mounted/copy", (1234, 2345), mode);
    let answer = as_user(|| helper_at(c"mounted/copy", &[c"x", c"--helper-identity"], &[]));
    sys!(umount2(c"mounted".as_ptr(), libc::MNT_DETACH));
    answer
}

extern "C" fn execute_copy(write_end: *mut c_void) -> i32 {
    sys!(dup2(write_end as i32, 1));
    execve(c"./copy", &[c"x", c"--helper-identity"], &[]);
    1
}

/// The ids of a copy of this program that a child of an ordinary user executes, made with these flags of clone.
fn identity_of_clone(flags: i32) -> String {
    copy_of_self(c"copy", (1234, 2345), 0o6755);
    as_user(|| {
        let (read_end, write_end) = pipe();
        let child = clone_child_with(flags, execute_copy, write_end);
        close(write_end);
        let text = String::from_utf8_lossy(&read_to_end(read_end)).into_owned();
        answers!(text, ending(child))
    })
}

/// As `clone_child`, with an argument.
fn clone_child_with(flags: i32, run: extern "C" fn(*mut c_void) -> i32, argument: i32) -> i32 {
    let stack = vec![0_u8; 64 << 10].leak();
    let top = stack.as_mut_ptr_range().end;
    sys!(clone(run, top.cast(), flags | libc::SIGCHLD, argument as usize as *mut c_void))
}

/// How a script ends whose first line names an interpreter with a path of so many bytes, with this behind it.
fn interpreter_of(path_bytes: usize, rest: &str) -> String {
    make_program(c"program", 0o755);
    // "./././…program"
    let name = if path_bytes.is_multiple_of(2) { "/program" } else { "program" };
    let path = format!(
        "{}{}{name}",
        "./".repeat((path_bytes - name.len()) / 2 - 1),
        if name.starts_with('/') { ".." } else { "./" }
    );
    let path = path.replace("../program", ".//program");
    make_script(c"script", &format!("#!{path}{rest}"));
    format!("{path_bytes}={}: {}", path.len(), exec_answer(c"./script", &[c"x"]))
}

/// The last argument that a script's interpreter gets whose line is so long, without its end: how many bytes arrive.
fn argument_in_line_of(line_bytes: usize, end: &str) -> String {
    sys!(symlink(own_path().as_ptr(), c"s".as_ptr()));
    let start = "#!./s --helper-arguments ";
    make_script(c"script", &format!("{start}{}{end}", "a".repeat(line_bytes - start.len())));
    let text = helper_at(c"./script", &[c"x"], &[]);
    format!("{line_bytes}: {}", text.matches('a').count())
}

/// What a program finds in its arguments when it is executed by this descriptor and path.
fn arguments_by(descriptor: i32, path: &CStr, flags: i32) -> String {
    let (read_end, write_end) = pipe();
    let child = fork(|| {
        sys!(dup2(write_end, 1));
        let arguments = [c"zero".as_ptr(), c"one".as_ptr(), null()];
        sys!(syscall(libc::SYS_execveat, descriptor, path.as_ptr(), arguments.as_ptr(), null::<libc::c_char>(), flags));
        write_all(1, last_errno().as_bytes());
        0
    });
    close(write_end);
    let text = String::from_utf8_lossy(&read_to_end(read_end)).into_owned();
    close(read_end);
    answers!(text, ending(child))
}

/// What a helper prints that a child becomes after doing something, which must not return.
fn helper_after(what: &'static CStr, act: impl FnOnce(&'static CStr)) -> (i32, String, String) {
    let (read_end, write_end) = pipe();
    let child = fork(|| {
        sys!(dup2(write_end, 1));
        close(read_end);
        close(write_end);
        act(what);
        1
    });
    close(write_end);
    let text = String::from_utf8_lossy(&read_to_end(read_end)).into_owned();
    close(read_end);
    (child, text, ending(child))
}

fn become_helper(what: &CStr) {
    execve(own_path(), &[c"x", what], &[]);
}

/// How a program ends that exits with what this code puts into RDI, executed by a process with an unusual FPU state.
fn told_of_fpu(code: &[u8]) -> String {
    let exit = [0xb8, 60, 0, 0, 0, 0x0f, 0x05]; // mov eax, 60; syscall
    make_elf(c"program", &[code, &exit].concat(), false, None);
    in_child(|| {
        let arguments = [c"x".as_ptr(), null()];
        // All exceptions masked, rounding to zero.
        let control = 0x7f80_u32;
        // SAFETY: no calculation follows: this process executes a program or ends.
        unsafe { asm!("ldmxcsr [{}]", "pcmpeqd xmm15, xmm15", in(reg) &control, options(nostack)) };
        // Another thread's turn: what the kernel has saved is this state.
        sys!(poll(null_mut(), 0, 1));
        sys!(execve(c"./program".as_ptr(), arguments.as_ptr(), null()));
        99
    })
}

/// Threads in every state in which a thread can be.
fn spawn_threads_in_all_states() {
    let (empty, _) = pipe();
    spawn(|| {
        loop {
            std::hint::spin_loop();
        }
    });
    spawn(move || read(empty, 1));
    spawn(|| sleep_ms(100_000));
    spawn(|| {
        let word = 0_u32;
        sys!(syscall(libc::SYS_futex, &raw const word, libc::FUTEX_WAIT, 0, null::<libc::timespec>()))
    });
    spawn(|| {
        // SAFETY: a signal set is an array of integers, for which zeros are valid; the kernel writes to an int.
        unsafe {
            let (mut all, mut signal) = (std::mem::zeroed(), 0);
            libc::sigfillset(&mut all);
            libc::pthread_sigmask(libc::SIG_BLOCK, &all, null_mut());
            libc::sigwait(&all, &mut signal)
        }
    });
    spawn(|| {
        // SAFETY: the child waits and ends, and touches nothing of the parent's.
        #[allow(deprecated)]
        unsafe {
            if libc::vfork() == 0 {
                libc::close(1);
                libc::poll(null_mut(), 0, 300);
                libc::_exit(1);
            }
        }
    });
    // For all to get there.
    sleep_ms(50);
}

extern "C" fn end_thread_and_wait(_: i32) {}

pub const CASES: &[Case] = &[
    case!("may_a_program_run_that_is_mapped_for_writing", {
        make_program(c"program", 0o755);
        let mapping = map_shared(c"program", libc::O_RDWR, libc::PROT_READ | libc::PROT_WRITE);
        let mapped = exec_answer(c"./program", &[c"x"]);
        sys!(munmap(mapping, PAGE));
        answers!(mapped, exec_answer(c"./program", &[c"x"]))
    }),
    case!("may_a_program_run_that_is_mapped_by_a_writer_for_reading", {
        make_program(c"program", 0o755);
        map_shared(c"program", libc::O_RDWR, libc::PROT_READ);
        exec_answer(c"./program", &[c"x"])
    }),
    case!("may_a_program_run_that_is_mapped_privately", {
        make_program(c"program", 0o755);
        let file = open(c"program", libc::O_RDONLY);
        sys!(mmap(null_mut(), PAGE, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE, file, 0));
        exec_answer(c"./program", &[c"x"])
    }),
    case!("truncating_a_running_program_by_opening_it", {
        make_elf(c"spinner", SPIN, false, None);
        while_running(c"./spinner", |_| {
            answers!(
                ok(open(c"spinner", libc::O_RDONLY | libc::O_TRUNC)),
                ok(open(c"spinner", libc::O_RDWR)),
                ok(sys!(chmod(c"spinner".as_ptr(), 0o700))),
                ok(sys!(rename(c"spinner".as_ptr(), c"other".as_ptr())))
            )
        })
    }),
    case!("may_a_running_programs_interpreter_be_written_to", {
        make_elf(c"loader", SPIN, true, None);
        make_elf(c"program", &EXIT_42, true, Some(c"./loader"));
        while_running(c"./program", |_| {
            answers!(ok(open(c"program", libc::O_WRONLY)), ok(open(c"loader", libc::O_WRONLY)))
        })
    }),
    case!("may_a_running_script_be_written_to", {
        make_elf(c"spinner", SPIN, false, None);
        make_script(c"script", "#!./spinner\n");
        while_running(c"./script", |_| {
            answers!(ok(open(c"script", libc::O_WRONLY)), ok(open(c"spinner", libc::O_WRONLY)))
        })
    }),
    case!("an_interpreter_that_is_open_for_writing", {
        make_elf(c"loader", &EXIT_42, true, None);
        make_elf(c"program", &EXIT_42, true, Some(c"./loader"));
        make_script(c"script", "#!./loader\n");
        let file = open(c"loader", libc::O_WRONLY);
        let answers = answers!(exec_answer(c"./program", &[c"x"]), exec_answer(c"./script", &[c"x"]));
        close(file);
        answers!(answers, exec_answer(c"./program", &[c"x"]), ok(open(c"loader", libc::O_WRONLY)))
    }),
    case!("is_a_program_that_failed_to_run_free_for_writing", {
        make_file(c"text", b"no program", 0o755);
        make_file(c"bad", &Elf::with(|elf| elf.machine = 3).bytes(), 0o755);
        answers!(
            exec_answer(c"./text", &[c"x"]),
            ok(open(c"text", libc::O_WRONLY)),
            exec_answer(c"./bad", &[c"x"]),
            ok(open(c"bad", libc::O_WRONLY))
        )
    }),
    case!("set_id_bits_on_a_mount_without_them", identity_on_mount(libc::MS_NOSUID, 0o6755)),
    case!("set_id_bits_on_an_ordinary_mount", identity_on_mount(0, 0o6755)),
    case!("set_id_bits_and_whom_the_folder_is_shared_with", {
        answers!(identity_of_clone(0), identity_of_clone(libc::CLONE_FS), identity_of_clone(libc::CLONE_VM))
    }),
    case!("roots_set_id_bits_and_a_shared_folder", {
        copy_of_self(c"copy", (1234, 2345), 0o6755);
        let (read_end, write_end) = pipe();
        let child = clone_child_with(libc::CLONE_FS, execute_copy, write_end);
        close(write_end);
        answers!(String::from_utf8_lossy(&read_to_end(read_end)), ending(child))
    }),
    case!("without_new_privileges_effective_ids_go_back_to_the_real_ones", {
        let ask = |no_new_privileges: libc::c_ulong| {
            asked_in_child(|| {
                sys!(setresgid(5, 6, 7));
                sys!(setresuid(8, 9, 10));
                sys!(prctl(libc::PR_SET_NO_NEW_PRIVS, no_new_privileges, 0, 0, 0));
                helper(&[c"x", c"--helper-all-ids"], &[])
            })
        };
        answers!(ask(0), ask(1))
    }),
    case!("a_user_with_too_many_processes", {
        make_program(c"program", 0o755);
        let with_limit = |processes: u64| {
            asked_in_child(|| {
                let limit = libc::rlimit { rlim_cur: processes, rlim_max: 1000 };
                sys!(setrlimit(libc::RLIMIT_NPROC, &limit));
                let (read_end, write_end) = pipe();
                // A user that nobody else is.
                let user = 100_000 + sys!(getpid()) as u32;
                let other = fork(|| {
                    sys!(setresuid(user, user, user));
                    sys!(prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL));
                    write_all(write_end, b"x");
                    sleep_ms(10_000);
                    0
                });
                read(read_end, 1);
                sys!(setresuid(user, user, user));
                let refused = execve(c"./program", &[c"x"], &[]);
                let wide = libc::rlimit { rlim_cur: 10, rlim_max: 1000 };
                sys!(setrlimit(libc::RLIMIT_NPROC, &wide));
                let missing = execve(c"./missing", &[c"x"], &[]);
                sys!(setrlimit(libc::RLIMIT_NPROC, &limit));
                let again = execve(c"./missing", &[c"x"], &[]);
                sys!(kill(other, libc::SIGKILL));
                ending(other);
                answers!(refused, missing, again)
            })
        };
        answers!(with_limit(0), with_limit(1), with_limit(2))
    }),
    case!("how_long_may_an_interpreters_path_be_before_a_line_end", {
        (250..=258).map(|bytes| interpreter_of(bytes, "\n")).collect::<Vec<_>>().join(", ")
    }),
    case!("how_long_may_an_interpreters_path_be_before_a_blank", {
        (250..=258).map(|bytes| interpreter_of(bytes, " x\n")).collect::<Vec<_>>().join(", ")
    }),
    case!("how_long_may_an_interpreters_path_be_before_the_files_end", {
        (250..=258).map(|bytes| interpreter_of(bytes, "")).collect::<Vec<_>>().join(", ")
    }),
    case!("how_much_of_a_long_line_is_an_argument", {
        (252..=260).map(|bytes| argument_in_line_of(bytes, "\n")).collect::<Vec<_>>().join(", ")
    }),
    case!("how_much_of_a_long_line_without_an_end_is_an_argument", {
        (252..=260).map(|bytes| argument_in_line_of(bytes, "")).collect::<Vec<_>>().join(", ")
    }),
    case!("a_carriage_return_belongs_to_the_interpreters_name", {
        make_program(c"program", 0o755);
        make_script(c"script", "#!./program\r\n");
        exec_answer(c"./script", &[c"x"])
    }),
    case!("what_a_script_by_descriptor_is_told_of_its_name", {
        make_script(c"script", &own("#!SELF --helper-arguments\n"));
        sys!(dup2(open(c"script", libc::O_RDONLY), 30));
        sys!(dup2(open(c".", libc::O_RDONLY), 31));
        answers!(
            arguments_by(30, c"", libc::AT_EMPTY_PATH),
            arguments_by(31, c"script", 0),
            arguments_by(31, c"./script", 0),
            arguments_by(libc::AT_FDCWD, c"./script", 0)
        )
    }),
    case!("scripts_by_descriptors_that_close", {
        make_script(c"script", &own("#!SELF --helper-arguments\n"));
        sys!(dup3(open(c"script", libc::O_RDONLY), 30, libc::O_CLOEXEC));
        sys!(dup3(open(c".", libc::O_RDONLY), 31, libc::O_CLOEXEC));
        let folder = std::env::current_dir().unwrap_or_default();
        let absolute = text(format!("{}/missing", folder.display()));
        answers!(
            arguments_by(30, c"", libc::AT_EMPTY_PATH),
            arguments_by(31, c"script", 0),
            arguments_by(31, &absolute, 0),
            asked_in_child(|| execveat(31, c"missing", 0))
        )
    }),
    case!("an_empty_path_relative_to_the_current_folder", {
        asked_in_child(|| execveat(libc::AT_FDCWD, c"", libc::AT_EMPTY_PATH))
    }),
    case!("execveat_of_a_link_by_its_own_descriptor", {
        make_program(c"program", 0o755);
        sys!(symlink(c"program".as_ptr(), c"link".as_ptr()));
        let link = open(c"link", libc::O_PATH | libc::O_NOFOLLOW);
        asked_in_child(|| execveat(link, c"", libc::AT_EMPTY_PATH))
    }),
    case!("a_name_of_ones_own_is_gone_after_execve", {
        asked_in_child(|| {
            sys!(prctl(libc::PR_SET_NAME, c"my own name".as_ptr(), 0, 0, 0));
            let comm = std::fs::read_to_string("/proc/self/comm").unwrap_or_default();
            let is_own = helper(&[c"x", c"--helper-name"], &[]) == "my own name";
            answers!(comm.trim_end(), yes(is_own))
        })
    }),
    case!("the_fpu_begins_anew", {
        // stmxcsr [rsp - 4]; movzx edi, byte [rsp - 3]
        let control = told_of_fpu(&[0x0f, 0xae, 0x5c, 0x24, 0xfc, 0x0f, 0xb6, 0x7c, 0x24, 0xfd]);
        // movq rdi, xmm15
        answers!(control, told_of_fpu(&[0x66, 0x4c, 0x0f, 0x7e, 0xff]))
    }),
    case!("proc_self_exe_of_a_removed_program", {
        copy_of_self(c"copy", (0, 0), 0o755);
        let (_, text, how) = helper_after(c"--helper-exe", |what| {
            let file = open(c"copy", libc::O_RDONLY | libc::O_CLOEXEC);
            sys!(unlink(c"copy".as_ptr()));
            let arguments = [c"x".as_ptr(), what.as_ptr(), null()];
            let (empty, flags) = (c"".as_ptr(), libc::AT_EMPTY_PATH);
            sys!(syscall(libc::SYS_execveat, file, empty, arguments.as_ptr(), null::<libc::c_char>(), flags));
        });
        answers!(text.ends_with("/copy (deleted)"), how)
    }),
    case!("a_removed_program_runs_itself_again", {
        copy_of_self(c"copy", (0, 0), 0o755);
        helper_at(c"./copy", &[c"x", c"--helper-again-after-removal"], &[])
    }),
    case!("threads_in_every_state_are_gone_after_execve", {
        let (child, text, how) = helper_after(c"--helper-tasks", |what| {
            spawn_threads_in_all_states();
            become_helper(what);
        });
        answers!(text.replace(&child.to_string(), "child"), how)
    }),
    case!("a_thread_executes_while_others_are_in_every_state", {
        let (child, text, how) = helper_after(c"--helper-tasks", |what| {
            spawn_threads_in_all_states();
            let _ = spawn(move || become_helper(what)).join();
        });
        answers!(text.replace(&child.to_string(), "child"), how)
    }),
    case!("a_thread_executes_after_the_first_has_ended", {
        let (child, text, how) = helper_after(c"--helper-tasks", |what| {
            spawn(move || {
                sleep_ms(50);
                become_helper(what);
            });
            sys!(syscall(libc::SYS_exit, 7));
        });
        answers!(text.replace(&child.to_string(), "child"), how)
    }),
    case!("two_threads_execute_at_once", {
        make_program(c"program", 0o755);
        let ends: Vec<_> = (0..20)
            .map(|_| {
                in_child(|| {
                    for _ in 0..2 {
                        spawn(|| execve(c"./program", &[c"x"], &[]));
                    }
                    execve(c"./program", &[c"x"], &[]);
                    1
                })
            })
            .collect();
        answers!(ends.len(), yes(ends.iter().all(|end| end == "exit 42")))
    }),
    case!("a_failed_execve_ends_no_thread", {
        asked_in_child(|| {
            let (read_end, write_end) = pipe();
            spawn(move || {
                sleep_ms(50);
                write_all(write_end, b"alive");
            });
            make_file(c"text", b"no program", 0o755);
            make_script(c"script", "#!./missing\n");
            make_elf(c"program", &EXIT_42, true, Some(c"./missing"));
            let bad = [BAD as *const libc::c_char, null()];
            answers!(
                execve(c"./missing", &[c"x"], &[]),
                execve(c"./text", &[c"x"], &[]),
                execve(c"./script", &[c"x"], &[]),
                execve(c"./program", &[c"x"], &[]),
                ok(sys!(execve(c"./program".as_ptr(), bad.as_ptr(), null()))),
                read(read_end, 10)
            )
        })
    }),
    case!("does_a_parent_in_vfork_go_on_when_its_child_executes", {
        make_elf(c"spinner", SPIN, false, None);
        let arguments = [c"x".as_ptr(), null()];
        // SAFETY: the child only executes or ends, and touches nothing of the parent's.
        #[allow(deprecated)]
        let child = unsafe {
            let child = libc::vfork();
            if child == 0 {
                libc::execve(c"./spinner".as_ptr(), arguments.as_ptr(), null());
                libc::_exit(1);
            }
            child
        };
        let still_there = wait_with(child, libc::WNOHANG);
        sys!(kill(child, libc::SIGKILL));
        answers!(still_there, ending(child))
    }),
    case!("an_execve_that_fails_in_vfork_leaves_the_parent_its_memory", {
        let mut word = 5;
        let arguments = [c"x".as_ptr(), null()];
        // SAFETY: the child executes, writes to a word that is there for it, and ends.
        #[allow(deprecated)]
        let child = unsafe {
            let child = libc::vfork();
            if child == 0 {
                libc::execve(c"./missing".as_ptr(), arguments.as_ptr(), null());
                (&raw mut word).write_volatile(errno());
                libc::_exit(3);
            }
            child
        };
        // SAFETY: the child has ended.
        answers!(ending(child), errno_name(unsafe { (&raw const word).read_volatile() }))
    }),
    case!("two_processes_in_one_memory_and_one_executes", {
        make_program(c"program", 0o755);
        sys!(signal(libc::SIGUSR1, end_thread_and_wait as *const () as libc::sighandler_t));
        let mut word = 77;
        let child = clone_child(libc::CLONE_VM, execute_program, &mut word);
        let how = ending(child);
        answers!(how, word, std::env::args_os().count() > 1)
    }),
];
