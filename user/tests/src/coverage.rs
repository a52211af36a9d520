//! Which system calls does each case make? `conformance calls FAMILY…` watches cases with ptrace(2), on Linux, and prints
//! a line for each: its name, a tab, and the numbers of the calls that it and its children made, in order.
//! docs/syscalls.md is made from that.

use crate::harness::enter;
use crate::support::{self, Case};
use std::collections::BTreeSet;
use std::ffi::CStr;
use std::ptr::null_mut;

/// Numbers that no kernel knows, by which a case says that its question begins and ends: what is around it isn't counted.
const BEGIN: i64 = 5000;
const END: i64 = 5001;
/// One past the highest number that can be a call.
const NUMBERS: i64 = 1024;
/// What waits for a signal that is deadly only where nobody watches ends then.
const LIMIT_S: u32 = 10;
const OPTIONS: i32 = libc::PTRACE_O_TRACESYSGOOD
    | libc::PTRACE_O_TRACEFORK
    | libc::PTRACE_O_TRACEVFORK
    | libc::PTRACE_O_TRACECLONE
    | libc::PTRACE_O_EXITKILL;
const SYSTEM_CALL_STOP: i32 = libc::SIGTRAP | 0x80;
const STOPS: [i32; 4] = [libc::SIGSTOP, libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU];

/// Runs the case and returns its calls' numbers; or why they aren't known.
pub fn calls_of(case: &Case, folder: &CStr) -> Result<BTreeSet<i64>, String> {
    let (read_end, write_end) = support::pipe();
    // SAFETY: this process has one thread, so the child may do whatever the parent may.
    let child = unsafe { libc::fork() };
    if child == 0 {
        support::read(read_end, 1);
        enter(folder, None);
        // SAFETY: the calls take no pointers; the two numbers are no calls.
        unsafe {
            libc::syscall(BEGIN);
            (case.ask)();
            libc::syscall(END);
            libc::_exit(0);
        }
    }
    let seized = request(libc::PTRACE_SEIZE, child, OPTIONS) && request(libc::PTRACE_INTERRUPT, child, 0);
    let reason = format!("ptrace: {}", support::last_errno());
    let mut watched = Watched { main: child, alive: BTreeSet::from([child]), counting: false, calls: BTreeSet::new() };
    support::write_all(write_end, b"!");
    support::close(write_end);
    support::close(read_end);
    if !seized {
        watched.kill_all();
    }
    watched.follow();
    if seized { Ok(watched.calls) } else { Err(reason) }
}

/// A case's process, and all that came from it.
struct Watched {
    main: i32,
    alive: BTreeSet<i32>,
    counting: bool,
    calls: BTreeSet<i64>,
}

impl Watched {
    /// Lets everything run until nothing is left, by force in the end.
    fn follow(&mut self) {
        // Only there to end a wait.
        extern "C" fn wake(_: i32) {}
        // SAFETY: the action is plain data, and its handler does nothing; a case gets the default back (`enter`).
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = wake as *const () as usize;
            libc::sigaction(libc::SIGALRM, &action, null_mut());
            libc::alarm(LIMIT_S);
        }
        loop {
            let mut status = 0;
            // SAFETY: the kernel writes one int.
            let process = unsafe { libc::waitpid(-1, &mut status, libc::__WALL) };
            match process {
                -1 if support::errno() == libc::EINTR => self.kill_all(),
                -1 => break,
                _ if libc::WIFSTOPPED(status) => self.go_on(process, status),
                _ => {
                    self.alive.remove(&process);
                    // What the case leaves behind ends with it.
                    if process == self.main {
                        self.kill_all();
                    }
                }
            }
        }
        // SAFETY: takes no pointers.
        unsafe { libc::alarm(0) };
    }

    fn go_on(&mut self, process: i32, status: i32) {
        let (signal, event) = (libc::WSTOPSIG(status), status >> 16);
        if self.alive.insert(process) && !self.alive.contains(&self.main) {
            // Born while everything was being ended.
            self.kill_all();
        }
        if signal == SYSTEM_CALL_STOP {
            self.note(process);
        }
        let (how, passed_on) = match event {
            libc::PTRACE_EVENT_STOP if STOPS.contains(&signal) => (libc::PTRACE_LISTEN, 0),
            0 if signal != SYSTEM_CALL_STOP => (libc::PTRACE_SYSCALL, signal),
            _ => (libc::PTRACE_SYSCALL, 0),
        };
        // It may be gone by now, which the next wait tells.
        request(how, process, passed_on);
    }

    fn note(&mut self, process: i32) {
        // SAFETY: the registers are plain integers, and the kernel fills them.
        let number = unsafe {
            let mut registers: libc::user_regs_struct = std::mem::zeroed();
            if libc::ptrace(libc::PTRACE_GETREGS, process, 0, &raw mut registers) != 0 {
                return;
            }
            registers.orig_rax as i64
        };
        match number {
            BEGIN if process == self.main => self.counting = true,
            END if process == self.main => self.counting = false,
            0..NUMBERS if self.counting => drop(self.calls.insert(number)),
            _ => {}
        }
    }

    fn kill_all(&self) {
        for &process in &self.alive {
            // SAFETY: takes no pointers.
            unsafe { libc::kill(process, libc::SIGKILL) };
        }
    }
}

fn request(request: libc::c_uint, process: i32, data: i32) -> bool {
    // SAFETY: the requests made here take a number as data, and write nothing.
    unsafe { libc::ptrace(request, process, 0, libc::c_long::from(data)) == 0 }
}
