//! Never ends and never asks the kernel for anything: only the timer gets the CPU back. For tests of preemption.

#![no_std]
#![no_main]

use runtime::Process;

runtime::entry!(main);

fn main(_: &Process) -> i32 {
    loop {
        core::hint::spin_loop();
    }
}
