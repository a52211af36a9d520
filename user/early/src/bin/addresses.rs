//! Where is everything? Code, heap, mappings and stack of a program, which differ from start to start unless Keel's command
//! line says `norandmaps`, or `echo 0 > /proc/sys/kernel/randomize_va_space` was said since.

#![no_std]
#![no_main]

use runtime::syscall::{self, number};
use runtime::{Process, println};

runtime::entry!(main);

fn main(_: &Process) -> i32 {
    let on_stack = 0_u8;
    // SAFETY: a break of 0 asks where it is, and changes nothing.
    let heap = unsafe { syscall::raw(number::BRK, [0; 6]) };
    let mapping = syscall::map_anonymous(1).map_or(0, |address| address as usize);
    println!(
        "code {:#x} heap {heap:#x} mapping {mapping:#x} stack {:#x}",
        main as fn(_) -> _ as usize, &raw const on_stack as usize
    );
    0
}
