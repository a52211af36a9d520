//! Is a child a copy of its parent, and does the parent learn how it ended?

#![no_std]
#![no_main]

use core::sync::atomic::{AtomicI32, Ordering};
use runtime::syscall::{self, Ending, Errno, Fork};
use runtime::{Process, println};

runtime::entry!(main);

static VALUE: AtomicI32 = AtomicI32::new(1);

fn main(_: &Process) -> i32 {
    let parent = syscall::getpid();
    for status in [0, 1, 77, 255] {
        match syscall::fork() {
            Ok(Fork::Child) => {
                let is_child = syscall::getpid() != parent && syscall::getppid() == parent;
                println!("child {status}: value {}, own pid {is_child}", VALUE.load(Ordering::Relaxed));
                VALUE.store(1000 + status, Ordering::Relaxed);
                syscall::exit(status);
            }
            Ok(Fork::Parent(child)) => {
                let ending = syscall::wait(child, 0);
                let expected = Ok(Some((child, Ending::Exited(status))));
                println!("parent: value {}, ending as expected {}", VALUE.load(Ordering::Relaxed), ending == expected);
            }
            Err(errno) => println!("fork: errno {}", errno.0),
        }
        VALUE.fetch_add(1, Ordering::Relaxed);
    }
    println!("no child left: {}", syscall::wait(-1, 0) == Err(Errno::ECHILD));
    0
}
