//! What a process becomes by execve: where its image lies, whose rights it has, and what of it others still see.

use crate::exec::{execveat, make_program, make_script, own};
use conformance::elf::{Elf, PT_INTERP, R, Segment};
use conformance::support::*;
use conformance::{answers, case, sys};
use std::ffi::{CStr, c_void};
use std::ptr::{null, null_mut};

/// Prints three addresses as raw words: where its heap, its code and its stack are.
const TELL_ADDRESSES: &[u8] = &[
    0x54, // push rsp
    0x48, 0x8d, 0x05, 0xf9, 0xff, 0xff, 0xff, // lea rax, [rip - 7]
    0x50, // push rax
    0x31, 0xff, // xor edi, edi
    0xb8, 12, 0, 0, 0, 0x0f, 0x05, // mov eax, 12; syscall: brk(0)
    0x50, // push rax
    0x48, 0x89, 0xe6, // mov rsi, rsp
    0xba, 24, 0, 0, 0, // mov edx, 24
    0xbf, 1, 0, 0, 0, // mov edi, 1
    0xb8, 1, 0, 0, 0, 0x0f, 0x05, // mov eax, 1; syscall: write
    0x31, 0xff, // xor edi, edi
    0xb8, 60, 0, 0, 0, 0x0f, 0x05, // mov eax, 60; syscall: exit
];

/// Ends with the flags of its alternate signal stack.
const TELL_ALTERNATE_STACK: &[u8] = &[
    0x31, 0xff, // xor edi, edi
    0x48, 0x8d, 0x74, 0x24, 0xc0, // lea rsi, [rsp - 64]
    0xb8, 131, 0, 0, 0, 0x0f, 0x05, // mov eax, 131; syscall: sigaltstack
    0x8b, 0x7c, 0x24, 0xc8, // mov edi, [rsp - 56]
    0xb8, 60, 0, 0, 0, 0x0f, 0x05, // mov eax, 60; syscall: exit
];

/// How often a program is started to see which bits of its addresses change. Each misses a random bit once in 2^63 times.
const STARTS: usize = 64;

/// A program with this code: at the addresses it names, relocatable, or relocatable with an interpreter.
pub fn make_elf(path: &CStr, code: &[u8], relocatable: bool, interpreter: Option<&CStr>) {
    let mut elf = Elf::with(|elf| elf.code = code.to_vec());
    if relocatable {
        elf.kind = 3;
        elf.segments[0].address = 0;
        elf.entry = elf.code_offset as u64;
    }
    if let Some(interpreter) = interpreter {
        let (offset, size) = (elf.code_offset + elf.code.len(), interpreter.to_bytes_with_nul().len() as u64);
        elf.code.extend(interpreter.to_bytes_with_nul());
        elf.add(Segment {
            kind: PT_INTERP,
            flags: R,
            offset: offset as u64,
            address: offset as u64,
            file_size: size,
            memory_size: size,
            alignment: 1,
        });
    }
    elf.segments[0].file_size = (elf.code_offset + elf.code.len()) as u64;
    elf.segments[0].memory_size = elf.segments[0].file_size;
    make_file(path, &elf.bytes(), 0o755);
}

/// What a program prints, executed under a personality.
fn output_under(personality: u64, path: &CStr, arguments: &[&CStr]) -> Vec<u8> {
    let (read_end, write_end) = pipe();
    let child = fork(|| {
        sys!(dup2(write_end, 1));
        sys!(personality(personality));
        execve(path, arguments, &[]);
        1
    });
    close(write_end);
    let bytes = read_to_end(read_end);
    close(read_end);
    ending(child);
    bytes
}

/// The addresses of heap, code and stack that a program tells.
fn addresses(personality: u64, path: &CStr) -> [u64; 3] {
    let bytes = output_under(personality, path, &[c"x"]);
    let mut words =
        bytes.chunks_exact(8).map(|word| word.iter().rev().fold(0, |sum, &byte| sum << 8 | u64::from(byte)));
    [(); 3].map(|()| words.next().unwrap_or(0))
}

const HEAP: usize = 0;
const CODE: usize = 1;
const STACK: usize = 2;

const FIXED: u64 = libc::ADDR_NO_RANDOMIZE as u64;
const RANDOM: u64 = 0;

/// Heap and code without randomness: always the same. The stack pointer depends on how much the kernel puts there.
fn fixed_addresses(path: &CStr) -> String {
    let first = addresses(FIXED, path);
    let [heap, code, stack] = first;
    format!("heap {heap:#x} code {code:#x} stack {:#x}, again {}", stack >> 20, yes(addresses(FIXED, path) == first))
}

/// How many bits of an address change from start to start; carries out of the highest one don't count.
fn changing_bits(path: &CStr, which: usize, bits: std::ops::Range<u32>) -> u32 {
    let first = addresses(RANDOM, path)[which];
    let changed = (1..STARTS).fold(0, |changed, _| changed | addresses(RANDOM, path)[which] ^ first);
    (changed >> bits.start & ((1 << (bits.end - bits.start)) - 1)).count_ones()
}

fn make_loader_and_program() {
    make_elf(c"loader", TELL_ADDRESSES, true, None);
    make_elf(c"with_loader", TELL_ADDRESSES, true, Some(c"./loader"));
    make_elf(c"fixed", TELL_ADDRESSES, false, None);
}

/// What this program or a copy of it finds itself with under a personality.
fn attributes(personality: u64, path: &CStr) -> String {
    String::from_utf8_lossy(&output_under(personality, path, &[c"x", c"--helper-attributes"])).into_owned()
}

/// A copy of this program with an owner and permissions.
pub fn copy_of_self(path: &CStr, owner: (u32, u32), mode: libc::mode_t) {
    let name = path.to_string_lossy();
    if let Err(error) = std::fs::copy(own_path().to_string_lossy().as_ref(), name.as_ref()) {
        println!("{name}: {error}");
    }
    sys!(chown(path.as_ptr(), owner.0, owner.1));
    sys!(chmod(path.as_ptr(), mode));
}

/// What a program copied so finds, started by an ordinary user who has set all that set-ID bits take away.
fn attributes_of_copy(owner: (u32, u32), mode: libc::mode_t, no_new_privileges: bool) -> String {
    copy_of_self(c"copy", owner, mode);
    as_user(|| {
        let limit = libc::rlimit { rlim_cur: 64 << 20, rlim_max: libc::RLIM_INFINITY };
        sys!(setrlimit(libc::RLIMIT_STACK, &limit));
        if no_new_privileges {
            sys!(prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
        }
        attributes(0x074_0000, c"./copy")
    })
}

/// A child that shares with us what the flags say, runs a function on a stack of its own, and ends with its result.
pub fn clone_child(flags: i32, run: extern "C" fn(*mut c_void) -> i32, word: *mut i32) -> i32 {
    const STACK_BYTES: usize = 64 << 10;
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let stack = sys!(mmap(null_mut(), STACK_BYTES, protection, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0));
    let top = stack.cast::<u8>().wrapping_add(STACK_BYTES);
    let no_tls: *mut c_void = null_mut();
    sys!(clone(run, top.cast(), flags | libc::SIGCHLD, null_mut(), null_mut::<i32>(), no_tls, word))
}

pub extern "C" fn execute_program(_: *mut c_void) -> i32 {
    let arguments = [c"x".as_ptr(), null()];
    sys!(execve(c"./program".as_ptr(), arguments.as_ptr(), null()));
    1
}

extern "C" fn do_nothing(_: i32) {}

/// The signal that this child's end brings; 0 for none within the time.
fn signal_of_end(child: impl FnOnce() -> i64) -> String {
    // SAFETY: signal sets and siginfo are integers, for which zeros are valid; the kernel fills the latter.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigfillset(&mut set);
        libc::sigprocmask(libc::SIG_BLOCK, &set, null_mut());
        let child = child();
        let limit = libc::timespec { tv_sec: 5, tv_nsec: 0 };
        let signal = libc::sigtimedwait(&set, null_mut(), &limit);
        let mut status = 0;
        libc::waitpid(child as i32, &mut status, libc::__WALL);
        format!("{} {}", signal_name(signal.max(0)), status_text(status))
    }
}

/// A child by clone with this signal for its end, that executes a program.
fn clone_and_execute(signal: i32) -> i64 {
    let child = sys!(syscall(libc::SYS_clone, signal, 0, 0, 0, 0));
    if child == 0 {
        execve(c"./program", &[c"x"], &[]);
        exit(1);
    }
    child
}

pub const CASES: &[Case] = &[
    case!("fixed_addresses_of_a_fixed_program", {
        make_loader_and_program();
        fixed_addresses(c"./fixed")
    }),
    case!("fixed_addresses_of_a_relocatable_program_without_an_interpreter", {
        make_loader_and_program();
        fixed_addresses(c"./loader")
    }),
    case!("fixed_addresses_of_an_interpreter_and_of_its_programs_heap", {
        make_loader_and_program();
        fixed_addresses(c"./with_loader")
    }),
    case!("28_bits_of_an_interpreter_are_random", {
        make_loader_and_program();
        changing_bits(c"./with_loader", CODE, 12..40)
    }),
    case!("28_bits_of_a_relocatable_program_without_an_interpreter_are_random", {
        make_loader_and_program();
        changing_bits(c"./loader", CODE, 12..40)
    }),
    case!("28_bits_of_a_relocatable_program_are_random", {
        // Its heap is behind it, by a further 18 bits.
        make_loader_and_program();
        changing_bits(c"./with_loader", HEAP, 12..40)
    }),
    case!("18_bits_of_a_fixed_programs_heap_are_random", {
        make_loader_and_program();
        changing_bits(c"./fixed", HEAP, 12..30)
    }),
    case!("30_bits_of_a_stack_are_random", {
        make_loader_and_program();
        changing_bits(c"./fixed", STACK, 4..34)
    }),
    case!("is_a_fixed_program_where_it_says", {
        make_loader_and_program();
        changing_bits(c"./fixed", CODE, 0..48)
    }),
    case!("does_a_random_image_keep_its_heap_and_code_apart_from_the_stack", {
        make_loader_and_program();
        let apart = |path: &CStr| {
            (0..STARTS).all(|_| {
                let [heap, code, stack] = addresses(RANDOM, path);
                heap >> 40 <= 0x56 && stack >> 40 == 0x7f && (code < heap || code >> 40 >= 0x7e)
            })
        };
        answers!(yes(apart(c"./fixed")), yes(apart(c"./loader")), yes(apart(c"./with_loader")))
    }),
    case!("the_personality_stays_but_for_one_bit", {
        answers!(attributes(0, own_path()), attributes(FIXED, own_path()), attributes(0x074_0000, own_path()))
    }),
    case!("a_setuid_program_gets_no_others_personality_nor_stack", attributes_of_copy((0, 0), 0o4755, false)),
    case!("a_setgid_program_gets_no_others_personality_nor_stack", attributes_of_copy((0, 0), 0o2755, false)),
    case!("a_setuid_program_of_the_callers_own", attributes_of_copy((1000, 1000), 0o6755, false)),
    case!("setgid_without_group_execution_takes_nothing", attributes_of_copy((0, 0), 0o2745, false)),
    case!("a_setuid_program_without_new_privileges", attributes_of_copy((0, 0), 0o6755, true)),
    case!("a_program_that_may_not_be_read_is_not_dumpable", attributes_of_copy((0, 0), 0o711, false)),
    case!("an_ordinary_copy", attributes_of_copy((0, 0), 0o755, false)),
    case!("are_addresses_of_a_setuid_program_random_whatever_the_personality", {
        make_elf(c"setuid", TELL_ADDRESSES, true, None);
        sys!(chown(c"setuid".as_ptr(), 0, 0));
        sys!(chmod(c"setuid".as_ptr(), 0o4755));
        as_user(|| {
            let [heap, code, stack] = addresses(FIXED, c"./setuid");
            let again = addresses(FIXED, c"./setuid");
            answers!(yes(again[0] != heap), yes(again[2] != stack), yes(again[1] != code))
        })
    }),
    case!("a_setuid_script_is_not_setuid", {
        make_script(c"script", &own("#!SELF --helper-identity\n"));
        sys!(chown(c"script".as_ptr(), 1234, 1234));
        sys!(chmod(c"script".as_ptr(), 0o6755));
        as_user(|| helper_at(c"./script", &[c"x"], &[]))
    }),
    case!("a_script_by_a_setuid_interpreter", {
        copy_of_self(c"interpreter", (1234, 2345), 0o6755);
        make_script(c"script", "#!./interpreter --helper-identity\n");
        as_user(|| helper_at(c"./script", &[c"x"], &[]))
    }),
    case!("dropping_rights_by_a_setuid_program", {
        copy_of_self(c"copy", (1000, 1000), 0o6755);
        helper_at(c"./copy", &[c"x", c"--helper-identity"], &[])
    }),
    case!("the_saved_ids_are_the_effective_ones", {
        copy_of_self(c"copy", (1234, 2345), 0o6755);
        asked_in_child(|| {
            sys!(setresgid(5, 6, 7));
            sys!(setresuid(8, 9, 10));
            answers!(helper(&[c"x", c"--helper-all-ids"], &[]), helper_at(c"./copy", &[c"x", c"--helper-all-ids"], &[]))
        })
    }),
    case!("parents_death_signal", {
        copy_of_self(c"copy", (0, 0), 0o4755);
        let (read_end, write_end) = pipe();
        let run = |path: &'static CStr| {
            fork(|| {
                sys!(setresuid(1000, 1000, 1000));
                sys!(prctl(libc::PR_SET_PDEATHSIG, libc::SIGUSR1));
                sys!(dup2(write_end, 1));
                execve(path, &[c"x", c"--helper-attributes"], &[]);
                1
            })
        };
        let ordinary = (ending(run(own_path())), read(read_end, 200));
        let secure = (ending(run(c"./copy")), read(read_end, 200));
        format!("{ordinary:?} {secure:?}")
    }),
    case!("a_child_inherits_that_it_is_not_dumpable", {
        sys!(prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0));
        answers!(
            asked_in_child(|| sys!(prctl(libc::PR_GET_DUMPABLE)).to_string()),
            helper(&[c"x", c"--helper-attributes"], &[])
        )
    }),
    case!("after_execve_a_childs_end_is_sigchld_whatever_clone_said", {
        make_program(c"program", 0o755);
        answers!(
            signal_of_end(|| clone_and_execute(libc::SIGUSR1)),
            signal_of_end(|| clone_and_execute(0)),
            signal_of_end(|| clone_and_execute(libc::SIGCHLD)),
        )
    }),
    case!("a_program_by_descriptor_is_named_after_its_file", {
        let (read_end, write_end) = pipe();
        let ask = |path: &'static CStr, relative: &'static CStr, flags: i32| {
            let child = fork(|| {
                sys!(dup2(write_end, 1));
                let file = open(path, libc::O_RDONLY);
                let arguments = [c"x".as_ptr(), c"--helper-name".as_ptr(), null()];
                sys!(syscall(
                    libc::SYS_execveat,
                    file,
                    relative.as_ptr(),
                    arguments.as_ptr(),
                    null::<libc::c_char>(),
                    flags
                ));
                1
            });
            format!("{} {}", ending(child), read(read_end, 100))
        };
        copy_of_self(c"its_name", (0, 0), 0o755);
        sys!(symlink(c"its_name".as_ptr(), c"a_link".as_ptr()));
        make_script(c"script", "#!./its_name --helper-name\n");
        answers!(
            ask(c"its_name", c"", libc::AT_EMPTY_PATH),
            ask(c"a_link", c"", libc::AT_EMPTY_PATH),
            ask(c"script", c"", libc::AT_EMPTY_PATH),
            ask(c".", c"a_link", 0),
            ask(c".", c"./script", 0),
        )
    }),
    case!("execveat_by_a_number_that_is_no_descriptor", {
        asked_in_child(|| execveat(-5, c"x", 0)) + " " + &asked_in_child(|| execveat(-5, c"", libc::AT_EMPTY_PATH))
    }),
    case!("an_alternate_stack_is_gone", {
        make_elf(c"program", TELL_ALTERNATE_STACK, false, None);
        let memory = vec![0_u8; 1 << 16].leak();
        let stack = libc::stack_t { ss_sp: memory.as_mut_ptr().cast(), ss_flags: 0, ss_size: 1 << 16 };
        answers!(ok(sys!(sigaltstack(&stack, null_mut()))), exec_answer(c"./program", &[c"x"]))
    }),
    case!("a_thread_that_executes_takes_its_processs_id", {
        let (read_end, write_end) = pipe();
        let child = fork(|| {
            sys!(dup2(write_end, 1));
            // SAFETY: takes no pointers.
            write_all(1, format!("{} ", unsafe { libc::getpid() }).as_bytes());
            let _ = std::thread::spawn(|| execve(own_path(), &[c"x", c"--helper-threads"], &[])).join();
            1
        });
        let how = ending(child);
        let text = String::from_utf8_lossy(&read_up_to(read_end, 100)).into_owned();
        let same = text.split(' ').collect::<Vec<_>>();
        answers!(how, yes(same.len() == 3 && same[0] == same[1] && same[0] == same[2]))
    }),
    case!("an_alarm_comes_after_execve", {
        make_file(c"spinner", &Elf::with(|elf| elf.code = vec![0xeb, 0xfe]).bytes(), 0o755);
        let soon = libc::itimerval {
            it_interval: libc::timeval { tv_sec: 0, tv_usec: 0 },
            it_value: libc::timeval { tv_sec: 0, tv_usec: 100_000 },
        };
        in_child(|| {
            sys!(setitimer(libc::ITIMER_REAL, &soon, null_mut()));
            execve(c"./spinner", &[c"x"], &[]);
            1
        })
    }),
    case!("shared_descriptors_close_in_the_new_image_only", {
        make_program(c"program", 0o755);
        sys!(dup3(0, 11, libc::O_CLOEXEC));
        let child = clone_child(libc::CLONE_FILES, execute_program, null_mut());
        answers!(ending(child), ok(sys!(fcntl(11, libc::F_GETFD))))
    }),
    case!("shared_handlers_go_in_the_new_image_only", {
        make_program(c"program", 0o755);
        sys!(signal(libc::SIGUSR1, do_nothing as *const () as libc::sighandler_t));
        let child = clone_child(libc::CLONE_VM | libc::CLONE_SIGHAND, execute_program, null_mut());
        let how = ending(child);
        let old = sys!(signal(libc::SIGUSR1, libc::SIG_DFL));
        answers!(how, yes(old == do_nothing as *const () as libc::sighandler_t))
    }),
    case!("execve_clears_the_word_of_whoever_waits_for_the_thread", {
        make_program(c"program", 0o755);
        let mut word = 77;
        let shared = clone_child(libc::CLONE_VM | libc::CLONE_CHILD_CLEARTID, execute_program, &mut word);
        let how = ending(shared);
        // SAFETY: the child, which wrote it, has ended.
        answers!(how, unsafe { (&raw const word).read_volatile() })
    }),
    case!("can_a_parent_in_vfork_be_killed", {
        let parent = fork(|| {
            // SAFETY: the child only waits and ends, and touches nothing of the parent's.
            #[allow(deprecated)]
            unsafe {
                if libc::vfork() == 0 {
                    libc::pause();
                    libc::_exit(1);
                }
            }
            2
        });
        sleep_ms(100);
        sys!(kill(parent, libc::SIGKILL));
        ending(parent)
    }),
];
