//! Bad pointers in each pointer argument of each call: nothing, unaligned, in kernel space, not canonical, read-only,
//! at the edge of what is mapped. The kernel must answer, with an errno or with success, and go on.

use crate::numbers::{CALLS, Call, Kind};
use conformance::support::*;
use conformance::{case, sys};
use std::ptr::null_mut;

const PAGE: usize = 4096;

/// The memory that the attacks point into: a page to be written, a page to be read, and nothing behind it.
struct Ground {
    writable: usize,
    read_only: usize,
    end: usize,
}

impl Ground {
    fn new() -> Ground {
        let start = sys!(mmap(
            null_mut(),
            3 * PAGE,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0
        )) as usize;
        // A path without an end, just before nothing.
        for index in 0..2 * PAGE {
            // SAFETY: the first two pages were mapped writable a line ago.
            unsafe { ((start + index) as *mut u8).write(b'p') };
        }
        sys!(mprotect((start + PAGE) as *mut _, PAGE, libc::PROT_READ));
        sys!(munmap((start + 2 * PAGE) as *mut _, PAGE));
        Ground { writable: start, read_only: start + PAGE, end: start + 2 * PAGE }
    }

    fn bad_pointers(&self) -> [usize; 16] {
        [
            0,
            1,
            7,
            0xfff,
            0x1000,
            self.read_only,
            self.read_only + 1,
            self.end - 1,
            self.end - 4,
            self.end,
            0x7fff_ffff_f000,
            0x7fff_ffff_ffff,
            0x8000_0000_0000,
            0xffff_8000_0000_0000,
            0xffff_ffff_8000_0000,
            usize::MAX,
        ]
    }
}

/// A path that is there, for the arguments that are not attacked.
const GOOD_PATH: &std::ffi::CStr = c"good";

/// Descriptors 3 to 7: a pipe's ends, two files, a folder. The pipe holds something.
fn open_descriptors() {
    let (_, write_end) = pipe();
    make_file(c"good", b"content", 0o644);
    open(c"good", libc::O_RDWR);
    open(c"good", libc::O_RDWR);
    open(c".", libc::O_RDONLY);
    write_all(write_end, &[b'x'; 4096]);
}

/// Makes one call in a child; true if the child came back or was killed for what it did. A child that hangs is woken.
fn attempt(call: &Call, arguments: [usize; 6]) -> bool {
    let child = fork(|| {
        open_descriptors();
        let soon = libc::timeval { tv_sec: 0, tv_usec: 50_000 };
        let never = libc::timeval { tv_sec: 0, tv_usec: 0 };
        sys!(setitimer(libc::ITIMER_REAL, &libc::itimerval { it_interval: never, it_value: soon }, null_mut()));
        sys!(syscall(call.number, arguments[0], arguments[1], arguments[2], arguments[3], arguments[4], arguments[5]));
        0
    });
    child > 0 && ending(child) != "ECHILD"
}

/// Tries each bad pointer in each pointer argument of a call, the other arguments being good.
fn attack(call: &Call, ground: &Ground) -> usize {
    let mut survived = 0;
    for (index, kind) in call.arguments.iter().enumerate() {
        if matches!(kind, Kind::Number(_)) {
            continue;
        }
        for bad in ground.bad_pointers() {
            let mut arguments = [0; 6];
            for (position, (argument, kind)) in arguments.iter_mut().zip(call.arguments).enumerate() {
                *argument = match kind {
                    _ if position == index => bad,
                    Kind::Pointer => ground.writable,
                    Kind::Path => GOOD_PATH.as_ptr() as usize,
                    Kind::Number(number) => *number,
                };
            }
            survived += usize::from(attempt(call, arguments));
        }
    }
    survived
}

fn part(number: usize, parts: usize) -> String {
    let ground = Ground::new();
    let size = CALLS.len().div_ceil(parts);
    let calls = CALLS.iter().skip(number * size).take(size);
    let mut expected = 0;
    let mut survived = 0;
    for call in calls {
        expected += call.arguments.iter().filter(|kind| !matches!(kind, Kind::Number(_))).count() * 16;
        let count = attack(call, &ground);
        survived += count;
        if !count.is_multiple_of(16) {
            return format!("{}: a process could not be made or was lost", call.name);
        }
    }
    format!("{survived} of {expected} calls survived")
}

/// Paths whose closing zero lies beyond the last good byte, for every call that takes a path.
fn endless_paths() -> String {
    let ground = Ground::new();
    let mut refused = 0;
    let mut paths = 0;
    for call in CALLS {
        for (index, _) in call.arguments.iter().enumerate().filter(|(_, kind)| **kind == Kind::Path) {
            paths += 1;
            let answer = asked_in_child(|| {
                open_descriptors();
                let mut arguments = [0; 6];
                for (position, (argument, kind)) in arguments.iter_mut().zip(call.arguments).enumerate() {
                    *argument = match kind {
                        _ if position == index => ground.end - 10,
                        Kind::Pointer => ground.writable,
                        Kind::Path => GOOD_PATH.as_ptr() as usize,
                        Kind::Number(number) => *number,
                    };
                }
                ok(sys!(syscall(
                    call.number,
                    arguments[0],
                    arguments[1],
                    arguments[2],
                    arguments[3],
                    arguments[4],
                    arguments[5]
                )))
            });
            if answer == "EFAULT" {
                refused += 1;
            } else {
                return format!("{}, argument {index}: {answer}", call.name);
            }
        }
    }
    format!("{refused} of {paths} refused with EFAULT")
}

/// A buffer that starts well and ends in nothing: what was done before counts, or nothing was done.
fn edge_of(ask: impl Fn(usize) -> String) -> String {
    let ground = Ground::new();
    sys!(mprotect(ground.read_only as *mut _, PAGE, libc::PROT_READ | libc::PROT_WRITE));
    [1, 10, 100, PAGE].map(|good| ask(ground.end - good)).join(", ")
}

/// For pipes, whether a part counts depends on how a kernel cuts them into pieces: both answers are right.
fn part_or_efault(result: isize) -> &'static str {
    if result == -1 && last_errno() == "EFAULT" || (1..=PAGE as isize).contains(&result) {
        "as it should"
    } else {
        "WRONG"
    }
}

pub const CASES: &[Case] = &[
    case!("bad_pointers_in_the_first_quarter_of_the_calls", part(0, 4)),
    case!("bad_pointers_in_the_second_quarter_of_the_calls", part(1, 4)),
    case!("bad_pointers_in_the_third_quarter_of_the_calls", part(2, 4)),
    case!("bad_pointers_in_the_last_quarter_of_the_calls", part(3, 4)),
    case!("paths_without_an_end", endless_paths()),
    case!("reading_a_file_across_the_edge", {
        make_file(c"f", &[b'x'; 8192], 0o644);
        let file = open(c"f", 0);
        edge_of(|address| {
            sys!(lseek(file, 0, 0));
            value(sys!(read(file, address as *mut _, 8192)))
        })
    }),
    case!("writing_a_file_across_the_edge", {
        let file = open(c"f", libc::O_RDWR | libc::O_CREAT);
        edge_of(|address| {
            sys!(lseek(file, 0, 0));
            value(sys!(write(file, address as *const _, 8192)))
        })
    }),
    case!("reading_a_pipe_across_the_edge", {
        let (read_end, write_end) = pipe();
        edge_of(|address| {
            write_all(write_end, &[b'x'; 200]);
            part_or_efault(sys!(read(read_end, address as *mut _, 8192))).into()
        })
    }),
    case!(
        "writing_a_pipe_across_the_edge",
        edge_of(|address| {
            let (_read_end, write_end) = pipe();
            part_or_efault(sys!(write(write_end, address as *const _, 8192))).into()
        })
    ),
    case!("reading_dev_zero_across_the_edge", {
        let file = open(c"/dev/zero", 0);
        edge_of(|address| value(sys!(read(file, address as *mut _, 8192))))
    }),
    case!("reading_proc_across_the_edge", {
        let file = open(c"/proc/self/maps", 0);
        let ground = Ground::new();
        value(sys!(read(file, ground.end as *mut _, 100)))
    }),
    case!("listing_a_folder_across_the_edge", {
        make_file(c"f", b"", 0o644);
        let folder = open(c".", 0);
        let ground = Ground::new();
        value(sys!(syscall(libc::SYS_getdents64, folder, ground.end - 10, 1024)))
    }),
    case!(
        "the_stack_pointer_is_nowhere_when_a_signal_comes",
        in_child(|| {
            sys!(signal(libc::SIGUSR1, nothing as *const () as libc::sighandler_t));
            // SAFETY: kill(getpid(), SIGUSR1) with a stack pointer at which no frame can be built: the process dies.
            unsafe {
                std::arch::asm!("mov rsp, 8", "syscall", "ud2", in("rax") 62, in("rdi") sys!(getpid()), in("rsi") 10, options(noreturn))
            }
        })
    ),
    case!(
        "sigreturn_with_no_frame",
        in_child(|| {
            // SAFETY: rt_sigreturn with the stack at the end of what is mapped: the process dies.
            unsafe { std::arch::asm!("mov rsp, 8", "syscall", "ud2", in("rax") 15, options(noreturn)) }
        })
    ),
    case!(
        "sigreturn_to_kernel_space",
        in_child(|| {
            let frame = [0xffff_8000_0000_0000_u64; 128];
            // SAFETY: rt_sigreturn with a frame full of kernel addresses: the process dies.
            unsafe {
                std::arch::asm!("mov rsp, {}", "syscall", "ud2", in(reg) frame.as_ptr(), in("rax") 15, options(noreturn))
            }
        })
    ),
    case!(
        "jumping_into_kernel_space",
        in_child(|| {
            // SAFETY: the jump faults.
            unsafe { std::arch::asm!("jmp {}", in(reg) 0xffff_ffff_8000_0000_u64, options(noreturn)) }
        })
    ),
    case!(
        "a_system_call_as_the_last_instruction_of_user_space",
        in_child(|| {
            let last = 0x7fff_ffff_e000_usize;
            let page = sys!(mmap(
                last as *mut _,
                PAGE,
                libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED,
                -1,
                0
            ));
            if page as usize != last {
                return 3;
            }
            // SAFETY: `syscall` as the page's last two bytes: it returns to an address at which nothing is.
            unsafe {
                let code = (last + PAGE - 2) as *mut u8;
                code.write(0x0f);
                code.wrapping_add(1).write(0x05);
                std::arch::asm!("jmp {}", in(reg) code, in("rax") 39, options(noreturn))
            }
        })
    ),
    case!("flags_that_a_program_sets_do_not_reach_the_kernel", {
        let result: i64;
        // SAFETY: AC, DF, NT and TF would hurt a kernel that kept them; they are cleared again right after the call.
        unsafe {
            std::arch::asm!("pushfq", "or qword ptr [rsp], 0x44400", "popfq", "syscall", "pushfq", "and qword ptr [rsp], ~0x44500", "popfq", "cld",
                inlateout("rax") 39_i64 => result, out("rcx") _, out("r11") _);
        }
        result == i64::from(sys!(getpid()))
    }),
    case!(
        "segment_registers_full_of_nonsense",
        in_child(|| {
            // SAFETY: loads null and user selectors, then makes a call; a bad selector would only fault this process.
            unsafe {
                std::arch::asm!("xor eax, eax", "mov ds, ax", "mov es, ax", "mov gs, ax", "mov eax, 39", "syscall", out("rax") _, out("rcx") _, out("r11") _)
            };
            4
        })
    ),
];

extern "C" fn nothing(_: i32) {}
