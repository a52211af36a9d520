//! Executes itself over and over: `exec_chain N` becomes `exec_chain N-1`, and the last one reports. Nothing may leak
//! on the way: the process keeps its pid and its descriptors, and the kernel its frames.

#![no_std]
#![no_main]

use core::fmt::Write;
use core::ptr::null;
use runtime::{Process, println, syscall};

runtime::entry!(main);

/// A number as a string that ends with a zero.
struct Digits {
    bytes: [u8; 24],
    length: usize,
}

impl Write for Digits {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        for &byte in text.as_bytes() {
            *self.bytes.get_mut(self.length).ok_or(core::fmt::Error)? = byte;
            self.length += 1;
        }
        Ok(())
    }
}

fn number(process: &Process, index: usize) -> Option<i64> {
    process.argument(index)?.to_str().ok()?.parse().ok()
}

fn main(process: &Process) -> i32 {
    let left = number(process, 1).unwrap_or(100);
    let pid = number(process, 2).unwrap_or(i64::from(syscall::getpid()));
    if i64::from(syscall::getpid()) != pid {
        println!("the pid changed");
        return 1;
    }
    if left == 0 {
        println!("end of the chain");
        return 0;
    }
    let mut next = Digits { bytes: [0; 24], length: 0 };
    let mut same = Digits { bytes: [0; 24], length: 0 };
    if write!(next, "{}\0", left - 1).is_err() || write!(same, "{pid}\0").is_err() {
        return 1;
    }
    let Some(path) = process.argument(0) else { return 1 };
    let arguments = [path.as_ptr(), next.bytes.as_ptr().cast(), same.bytes.as_ptr().cast(), null()];
    // SAFETY: three strings and a NULL; the environment is this image's own.
    let errno = unsafe { syscall::execve(path, arguments.as_ptr(), process.environment_pointers()) };
    println!("execve: errno {}", errno.0);
    1
}
