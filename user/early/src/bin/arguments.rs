//! Which arguments and which environment does the kernel hand over? Prints both, a string a line.

#![no_std]
#![no_main]

use runtime::{Process, println};

runtime::entry!(main);

fn main(process: &Process) -> i32 {
    println!("argc {}", process.argument_count());
    for (index, argument) in process.arguments().enumerate() {
        println!("argv[{index}] {}", argument.to_bytes().escape_ascii());
    }
    for (index, string) in process.environment().enumerate() {
        println!("envp[{index}] {}", string.to_bytes().escape_ascii());
    }
    0
}
