//! Do two processes that yield to each other both get on, each with its own memory and registers? Each counts in its
//! own copy of one variable, and keeps a value in a vector register across every switch.

#![no_std]
#![no_main]

use core::arch::asm;
use core::sync::atomic::{AtomicU32, Ordering};
use runtime::syscall::{self, Ending, Fork};
use runtime::{Process, println};

runtime::entry!(main);

const TURNS: u32 = 500;
static COUNT: AtomicU32 = AtomicU32::new(0);

fn main(_: &Process) -> i32 {
    match syscall::fork() {
        Ok(Fork::Child) => syscall::exit(count(0x5555)),
        Ok(Fork::Parent(child)) => {
            let own = count(0xaaaa);
            println!("parent counted alone: {}", own == 0);
            let other = syscall::wait(child, 0);
            println!("child counted alone: {}", other == Ok(Some((child, Ending::Exited(0)))));
            own
        }
        Err(errno) => errno.0,
    }
}

/// Counts to TURNS, yielding at each; 0 if nobody else touched the count or the register.
fn count(mark: u64) -> i32 {
    for turn in 0..TURNS {
        if COUNT.load(Ordering::Relaxed) != turn {
            return 1;
        }
        COUNT.store(turn + 1, Ordering::Relaxed);
        if yield_with(mark + u64::from(turn)) != mark + u64::from(turn) {
            return 2;
        }
    }
    0
}

/// Yields with a value in xmm7, and returns what is in xmm7 afterwards.
fn yield_with(value: u64) -> u64 {
    let after: u64;
    // SAFETY: sched_yield touches no memory; what the call and these lines clobber is declared.
    unsafe {
        asm!("movq xmm7, {value}", "syscall", "movq {after}, xmm7", value = in(reg) value, after = lateout(reg) after,
             inlateout("rax") syscall::number::SCHED_YIELD => _, out("rcx") _, out("r11") _, out("xmm7") _,
             options(nostack));
    }
    after
}
