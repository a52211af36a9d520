//! execve's path, arguments and environment: pointers that are bad anywhere, and how much may be given to a program.

use crate::exec::{execveat, make_program, make_script, own, text};
use crate::exec_process::make_elf;
use conformance::support::*;
use conformance::{answers, case, sys};
use std::ffi::CStr;
use std::ptr::{null, null_mut};

const PAGE: usize = 4096;
/// MAX_ARG_STRLEN: one string with its closing zero.
const STRING_LIMIT: usize = 128 * 1024;
const PROGRAM: &CStr = c"./program";

type Vector = *const *const libc::c_char;

/// execve with raw pointers, in a child.
fn raw_exec(path: *const libc::c_char, arguments: Vector, environment: Vector) -> String {
    asked_in_child(|| {
        sys!(execve(path, arguments, environment));
        last_errno()
    })
}

/// A page that can be read, followed by one that can't. Returns the address of the boundary.
fn boundary() -> *mut u8 {
    let start = sys!(mmap(
        null_mut(),
        2 * PAGE,
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
        -1,
        0
    ));
    let boundary = start.cast::<u8>().wrapping_add(PAGE);
    sys!(mprotect(boundary.cast(), PAGE, libc::PROT_NONE));
    boundary
}

/// A text in memory that ends at a bad page, its closing zero inside or not.
fn path_at_boundary(path: &CStr, with_zero: bool) -> *const libc::c_char {
    let bytes = if with_zero { path.to_bytes_with_nul() } else { path.to_bytes() };
    let start = boundary().wrapping_sub(bytes.len());
    // SAFETY: the page before the boundary holds the bytes.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), start, bytes.len()) };
    start.cast()
}

/// A vector whose closing NULL would lie in a bad page.
fn vector_at_boundary(count: usize) -> Vector {
    let start: *mut *const libc::c_char = boundary().cast::<*const libc::c_char>().wrapping_sub(count);
    for index in 0..count {
        // SAFETY: the page before the boundary holds `count` pointers.
        unsafe { start.add(index).write(c"x".as_ptr()) };
    }
    start
}

/// A string that runs into a bad page.
fn endless_string() -> *const libc::c_char {
    path_at_boundary(c"endless", false)
}

/// Answers for a bad pointer at each place of a vector of five strings.
fn bad_at_each_place(bad: *const libc::c_char, ask: impl Fn(Vector) -> String) -> String {
    make_program(PROGRAM, 0o755);
    let with_bad_at = |place| {
        let mut vector = [c"x".as_ptr(); 6];
        vector[5] = null();
        vector[place] = bad;
        ask(vector.as_ptr())
    };
    (0..5).map(with_bad_at).collect::<Vec<_>>().join(" ")
}

/// Answers for vectors of none to five strings that have no end before a bad page.
fn endless_vectors(ask: impl Fn(Vector) -> String) -> String {
    make_program(PROGRAM, 0o755);
    (0..=5).map(|count| ask(vector_at_boundary(count))).collect::<Vec<_>>().join(" ")
}

fn as_arguments(vector: Vector) -> String {
    raw_exec(PROGRAM.as_ptr(), vector, null())
}

fn as_environment(vector: Vector) -> String {
    raw_exec(PROGRAM.as_ptr(), [c"x".as_ptr(), null()].as_ptr(), vector)
}

/// How the image ends when one of its strings has this many bytes, its zero included: an argument, and a variable.
fn one_string_of(size: usize) -> String {
    make_program(PROGRAM, 0o755);
    let long = text(vec![b'x'; size - 1]);
    let environment = in_child(|| {
        execve(PROGRAM, &[PROGRAM], &[&long]);
        errno()
    });
    answers!(exec_answer(PROGRAM, &[PROGRAM, &long]), environment)
}

/// How the image ends when it is given all that a stack limit allows, and `more` bytes: as arguments, and as environment.
fn everything_allowed(stack_bytes: u64, more: usize) -> String {
    make_program(PROGRAM, 0o755);
    let allowed = (stack_bytes / 4).clamp(128 << 10, 6 << 20) as usize;
    // argv[0] takes as much as the file's name, which counts too.
    let name_bytes = PROGRAM.to_bytes_with_nul().len();
    let count = allowed / STRING_LIMIT + 1;
    let mut room = allowed - 2 * name_bytes - (count + 1) * size_of::<usize>();
    let mut strings = Vec::new();
    for left in (1..=count).rev() {
        let size = if left == 1 { room + more } else { room / left };
        strings.push(text(vec![b'x'; size - 1]));
        room -= size.min(room);
    }
    let strings: Vec<&CStr> = strings.iter().map(|text| text.as_c_str()).collect();
    asked_in_child(|| {
        let limit = libc::rlimit { rlim_cur: stack_bytes, rlim_max: libc::RLIM_INFINITY };
        sys!(setrlimit(libc::RLIMIT_STACK, &limit));
        let environment = in_child(|| {
            execve(PROGRAM, &[PROGRAM], &strings);
            errno()
        });
        answers!(exec_answer(PROGRAM, &[&[PROGRAM], &strings[..]].concat()), environment)
    })
}

/// How the image ends when its arguments have this many bytes with their pointers, under a stack limit.
fn arguments_under_stack_limit(stack_kib: u64, count: usize, each: usize) -> String {
    make_program(c"program", 0o755);
    let argument = text(vec![b'x'; each - 1]);
    asked_in_child(|| {
        let limit = libc::rlimit { rlim_cur: stack_kib * 1024, rlim_max: libc::RLIM_INFINITY };
        sys!(setrlimit(libc::RLIMIT_STACK, &limit));
        exec_answer(c"./program", &vec![argument.as_c_str(); count])
    })
}

/// How many arguments does an image count that is executed with this vector? The image is a script's interpreter, so
/// that the helper's option comes from the script.
fn helper_raw(arguments: Vector) -> String {
    make_script(c"script", &own("#!SELF --helper-arguments\n"));
    let (read_end, write_end) = pipe();
    let child = fork(|| {
        sys!(dup2(write_end, 1));
        sys!(execve(c"./script".as_ptr(), arguments, null()));
        write_all(1, last_errno().as_bytes());
        1
    });
    close(write_end);
    let text = String::from_utf8_lossy(&read_to_end(read_end)).into_owned();
    answers!(text, ending(child))
}

/// How a program without libc ends that exits with what this code puts into RDI, executed with these arguments.
fn how_argument_ends(code: &[u8], arguments: Vector) -> String {
    let code = [code, &[0xb8, 60, 0, 0, 0, 0x0f, 0x05]].concat(); // mov eax, 60; syscall: exit
    make_elf(PROGRAM, &code, false, None);
    in_child(|| {
        sys!(execve(PROGRAM.as_ptr(), arguments, null()));
        99
    })
}

pub const CASES: &[Case] = &[
    case!("a_null_path", raw_exec(null(), [c"x".as_ptr(), null()].as_ptr(), null())),
    case!("a_path_in_kernel_space", raw_exec(0xffff_8000_0000_0000_usize as *const _, null(), null())),
    case!("a_path_that_ends_at_the_last_good_byte", {
        make_program(c"program", 0o755);
        in_child(|| {
            sys!(execve(path_at_boundary(c"./program", true), [c"x".as_ptr(), null()].as_ptr(), null()));
            1
        })
    }),
    case!("a_path_without_end_before_a_bad_page", raw_exec(path_at_boundary(c"./program", false), null(), null())),
    case!("arguments_without_an_end_before_a_bad_page", endless_vectors(as_arguments)),
    case!("an_environment_without_an_end_before_a_bad_page", endless_vectors(as_environment)),
    case!("a_bad_pointer_at_each_place_of_the_arguments", bad_at_each_place(BAD as *const _, as_arguments)),
    case!("a_bad_pointer_at_each_place_of_the_environment", bad_at_each_place(BAD as *const _, as_environment)),
    case!("an_endless_string_at_each_place_of_the_arguments", bad_at_each_place(endless_string(), as_arguments)),
    case!("an_endless_string_at_each_place_of_the_environment", bad_at_each_place(endless_string(), as_environment)),
    case!("an_argument_in_kernel_space", {
        make_program(c"program", 0o755);
        raw_exec(c"./program".as_ptr(), [0xffff_ffff_8000_0000_usize as *const _, null()].as_ptr(), null())
    }),
    case!("is_a_bad_vector_noticed_before_a_missing_file", raw_exec(c"./missing".as_ptr(), BAD as *const _, null())),
    case!("a_null_argument_vector_gets_one_empty_string", helper_raw(null())),
    case!("an_empty_argument_vector_gets_one_empty_string", helper_raw([null()].as_ptr())),
    case!("a_program_by_itself_gets_that_string_too", {
        // mov rdi, [rsp]: argc
        let count = how_argument_ends(&[0x48, 0x8b, 0x3c, 0x24], null());
        // mov rax, [rsp + 8]; movzx edi, byte [rax]: the first byte of argv[0]
        let first_byte = [0x48, 0x8b, 0x44, 0x24, 0x08, 0x0f, 0xb6, 0x38];
        answers!(count, how_argument_ends(&first_byte, null()), how_argument_ends(&first_byte, [null()].as_ptr()))
    }),
    case!("arguments_of_100_kib", helper(&vec![c"--helper-count"; 7000][..], &[])),
    case!(
        "pointers_count_as_well_as_strings",
        answers!(arguments_under_stack_limit(1024, 25_000, 1), arguments_under_stack_limit(1024, 30_000, 1),)
    ),
    case!("however_low_the_stack_limit_128_kib_are_allowed", {
        answers!(
            arguments_under_stack_limit(256, 1, 100 * 1024),
            arguments_under_stack_limit(256, 1, 126 * 1024),
            arguments_under_stack_limit(256, 2, 70 * 1024),
        )
    }),
    case!("but_no_more_than_the_stack_holds", arguments_under_stack_limit(64, 1, 100 * 1024)),
    case!("arguments_arrive", helper(&[c"x", c"--helper-arguments", c"", c"two words", c"--"], &[])),
    case!("the_environment_arrives", helper(&[c"x", c"--helper-environment"], &[c"A=1", c"B=", c"LONG=a b c"])),
    case!("no_environment", helper(&[c"x", c"--helper-environment"], &[])),
    case!("argv_0_is_what_the_caller_says", helper(&[c"anything at all", c"--helper-first"], &[])),
    case!("is_a_bad_vector_noticed_before_a_file_without_the_x_bit", {
        make_program(PROGRAM, 0o644);
        as_arguments(BAD as *const _)
    }),
    case!("is_a_bad_string_noticed_before_a_bad_file", {
        make_file(PROGRAM, b"no program", 0o755);
        as_arguments([BAD as *const _, null()].as_ptr())
    }),
    case!("which_of_two_faults_is_named", {
        make_program(PROGRAM, 0o755);
        let long = text(vec![b'x'; STRING_LIMIT]);
        let (bad, long) = ([BAD as *const _, null()], [long.as_ptr(), null()]);
        answers!(
            raw_exec(PROGRAM.as_ptr(), bad.as_ptr(), long.as_ptr()),
            raw_exec(PROGRAM.as_ptr(), long.as_ptr(), bad.as_ptr()),
            raw_exec(PROGRAM.as_ptr(), BAD as *const _, long.as_ptr()),
            raw_exec(PROGRAM.as_ptr(), long.as_ptr(), BAD as *const _),
        )
    }),
    case!("is_a_bad_path_noticed_before_an_unknown_flag", {
        answers!(
            asked_in_child(|| execveat(libc::AT_FDCWD, c"", 1)),
            asked_in_child(|| execveat(libc::AT_FDCWD, c"missing", 1)),
            asked_in_child(|| {
                sys!(syscall(libc::SYS_execveat, libc::AT_FDCWD, BAD, 0, 0, 1));
                last_errno()
            }),
        )
    }),
    case!("the_longest_string", one_string_of(STRING_LIMIT)),
    case!("a_string_of_one_byte_more", one_string_of(STRING_LIMIT + 1)),
    case!("all_that_an_8_mib_stack_allows", everything_allowed(8 << 20, 0)),
    case!("one_byte_more_than_an_8_mib_stack_allows", everything_allowed(8 << 20, 1)),
    case!("all_that_is_ever_allowed", everything_allowed(64 << 20, 0)),
    case!("one_byte_more_than_is_ever_allowed", everything_allowed(64 << 20, 1)),
    case!("all_that_a_lowered_limit_allows", everything_allowed(1 << 20, 0)),
    case!("one_byte_more_than_a_lowered_limit_allows", everything_allowed(1 << 20, 1)),
    case!("all_that_a_low_limit_allows", everything_allowed(256 << 10, 0)),
    case!("one_byte_more_than_a_low_limit_allows", everything_allowed(256 << 10, 1)),
];
