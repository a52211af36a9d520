//! Do thread-locals work without a libc? FS must point at a variant II block: the image's initial values below it,
//! zeros where the image has none, its own address at FS:0.
//!
//! With the argument `owner` it also says who made the block: Keel's kernel does, Linux leaves it to the runtime.

#![no_std]
#![no_main]
#![feature(thread_local)]

use core::arch::asm;
use core::cell::Cell;
use runtime::{Process, println, syscall};

runtime::entry!(main);

#[repr(align(64))]
struct Aligned([u8; 100]);

#[thread_local]
static COUNTER: Cell<u64> = Cell::new(0x1122_3344_5566_7788);
#[thread_local]
static ALIGNED: Aligned = Aligned([7; 100]);
#[thread_local]
static ZEROED: Cell<[u64; 32]> = Cell::new([0; 32]);

fn say(question: &str, yes: bool) {
    println!("{question}: {}", if yes { "yes" } else { "NO" });
}

fn main(process: &Process) -> i32 {
    let self_pointer: usize;
    // SAFETY: reads the word at FS:0, which the block's maker wrote.
    unsafe { asm!("mov {}, fs:[0]", out(reg) self_pointer, options(nostack, readonly)) };
    say("FS:0 holds FS's base", Ok(self_pointer) == syscall::fs_base());
    say("initial value", COUNTER.get() == 0x1122_3344_5566_7788);
    say("initial bytes", ALIGNED.0.iter().all(|&byte| byte == 7));
    say("alignment", (&raw const ALIGNED as usize).is_multiple_of(64));
    say("zeroed part", ZEROED.get() == [0; 32]);
    COUNTER.set(COUNTER.get() + 1);
    ZEROED.set([COUNTER.get(); 32]);
    say("values can be changed", ZEROED.get()[31] == 0x1122_3344_5566_7789);
    say("the block lies below the thread pointer", (&raw const COUNTER as usize) < self_pointer);
    if process.argument(1) == Some(c"owner") {
        let by_runtime = runtime::thread_local::made_by_runtime();
        println!("block made by the {}", if by_runtime { "runtime" } else { "kernel" });
    }
    0
}
