//! What a system call leaves in the registers: its result in RAX, whatever SYSCALL left in RCX and R11, and all else as it was
//! (System V ABI, §A.2.1).

use conformance::support::*;
use conformance::{case, sys};
use std::mem::zeroed;
use std::ptr::{from_ref, null_mut};

const NAMES: [&str; 12] = ["rdi", "rsi", "rdx", "r10", "r8", "r9", "rbx", "rbp", "r12", "r13", "r14", "r15"];

type Registers = [u64; NAMES.len()];

std::arch::global_asm!(
    // rdi = number, rsi = the registers to make the call with, rdx = where they are stored after it; returns its result.
    "system_call_with:",
    "push rbx; push rbp; push r12; push r13; push r14; push r15; push rdx",
    "mov rax, rdi",
    "mov r11, rsi",
    "mov rdi, [r11]; mov rsi, [r11 + 8]; mov rdx, [r11 + 16]; mov r10, [r11 + 24]; mov r8, [r11 + 32]; mov r9, [r11 + 40]",
    "mov rbx, [r11 + 48]; mov rbp, [r11 + 56]; mov r12, [r11 + 64]; mov r13, [r11 + 72]; mov r14, [r11 + 80]; mov r15, [r11 + 88]",
    "syscall",
    "pop rcx",
    "mov [rcx], rdi; mov [rcx + 8], rsi; mov [rcx + 16], rdx; mov [rcx + 24], r10; mov [rcx + 32], r8; mov [rcx + 40], r9",
    "mov [rcx + 48], rbx; mov [rcx + 56], rbp; mov [rcx + 64], r12; mov [rcx + 72], r13; mov [rcx + 80], r14; mov [rcx + 88], r15",
    "pop r15; pop r14; pop r13; pop r12; pop rbp; pop rbx",
    "ret",
    // A handler that leaves none of them as it was.
    "spoil_registers:",
    "mov rax, -1; mov rdi, rax; mov rsi, rax; mov rdx, rax; mov rcx, rax; mov r8, rax; mov r9, rax; mov r10, rax; mov r11, rax",
    "mov rbx, rax; mov rbp, rax; mov r12, rax; mov r13, rax; mov r14, rax; mov r15, rax",
    "ret",
);

unsafe extern "C" {
    fn system_call_with(number: libc::c_long, before: &Registers, after: &mut Registers) -> isize;
    fn spoil_registers(signal: i32);
}

/// Makes a call with these arguments, and with something of its own in each other register: its result, and what has changed.
fn call(number: libc::c_long, arguments: &[u64]) -> (isize, String) {
    let mut before: Registers = std::array::from_fn(|index| 0x1122_3344_5566_7788 * (index as u64 + 3));
    before.iter_mut().zip(arguments).for_each(|(register, argument)| *register = *argument);
    let mut after = [0; NAMES.len()];
    // SAFETY: the routine keeps what it must; each case passes arguments that the call may have.
    let result = unsafe { system_call_with(number, &before, &mut after) };
    let changed = NAMES.iter().zip(before.iter().zip(&after)).filter(|(_, (before, after))| before != after);
    let names: Vec<_> = changed.map(|(name, _)| *name).collect();
    (result, if names.is_empty() { "nothing".into() } else { names.join(" ") })
}

fn changed_by(number: libc::c_long, arguments: &[u64]) -> String {
    let (result, changed) = call(number, arguments);
    format!("{} and changed {changed}", if result < 0 { "failed" } else { "ok" })
}

/// Gives the CPU to another process, which changes all its registers, some times.
fn changed_by_switches() -> String {
    let child = sys!(fork());
    if child == 0 {
        loop {
            call(libc::SYS_sched_yield, &[u64::MAX; NAMES.len()]);
        }
    }
    let all =
        (0..100).map(|_| changed_by(libc::SYS_sched_yield, &[])).find(|answer| answer != "ok and changed nothing");
    sys!(kill(child, libc::SIGKILL));
    sys!(waitpid(child, null_mut(), 0));
    all.unwrap_or("ok".into())
}

fn changed_by_a_handler() -> String {
    // SAFETY: sigaction is plain data; libc returns from the handler, which calls nothing.
    unsafe {
        let mut action: libc::sigaction = zeroed();
        action.sa_sigaction = spoil_registers as *const () as usize;
        libc::sigaction(libc::SIGUSR1, &action, null_mut());
    }
    changed_by(libc::SYS_kill, &[sys!(getpid()) as u64, libc::SIGUSR1 as u64])
}

fn changed_by_a_wait() -> String {
    let moment = libc::timespec { tv_sec: 0, tv_nsec: 1_000_000 };
    changed_by(libc::SYS_nanosleep, &[from_ref(&moment) as u64, 0])
}

/// In the parent, and in the child, which begins with a copy of the parent's registers.
fn changed_by_a_fork() -> String {
    let (child, changed) = call(libc::SYS_fork, &[]);
    if child == 0 {
        std::process::exit(i32::from(changed != "nothing"));
    }
    let mut status = 0;
    sys!(waitpid(child as i32, &mut status, 0));
    format!("changed {changed}; in the child {status}")
}

pub const CASES: &[Case] = &[
    case!("of_a_call_that_does_nothing", changed_by(libc::SYS_getppid, &[])),
    case!("of_a_call_that_fails", changed_by(libc::SYS_close, &[u64::MAX])),
    case!("of_a_call_that_is_none", changed_by(0x7fff, &[])),
    case!("while_others_run", changed_by_switches()),
    case!("after_a_wait", changed_by_a_wait()),
    case!("after_a_handler", asked_in_child(changed_by_a_handler)),
    case!("of_a_fork", changed_by_a_fork()),
];
