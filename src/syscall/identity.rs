//! Who the caller is: ids of process, thread, parent.

use crate::task::{Thread, process};

pub fn getpid(thread: &Thread) -> u32 {
    thread.process.pid
}

pub fn gettid(thread: &Thread) -> u32 {
    thread.tid()
}

pub fn getppid(thread: &Thread) -> u32 {
    process::tasks().family.get(thread.process.pid).map_or(0, |member| member.parent)
}
