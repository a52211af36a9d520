//! Says hello: the least that a program can do.

#![no_std]
#![no_main]

use runtime::{Process, println};

runtime::entry!(main);

fn main(_: &Process) -> i32 {
    println!("Hello from user mode");
    0
}
