//! What a program can do at its worst, with no limit set. The kernel must keep the rest going: these two end by
//! themselves, or are killed. Only for a machine that nobody needs.

use conformance::support::*;
use conformance::sys;
use std::ptr::null_mut;

/// Every process forks as long as it can. All of them end a little later, so that the machine can be looked at again.
pub fn fork_bomb() {
    let first = fork(|| {
        sys!(setpgid(0, 0));
        sys!(alarm(5));
        loop {
            // The children do the same: they return from the call, too.
            let child = sys!(fork());
            if child < 0 {
                sys!(sched_yield());
            } else if child == 0 {
                sys!(alarm(5));
            }
        }
    });
    println!("fork-bomb: the first process {}", ending(first));
}

/// Takes memory and writes to it until there is no more.
pub fn memory_bomb() {
    let child = fork(|| {
        loop {
            const SIZE: usize = 1 << 20;
            let memory = sys!(mmap(
                null_mut(),
                SIZE,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0
            ))
            .cast::<u8>();
            if memory as isize == -1 {
                return 12;
            }
            for page in 0..SIZE / 4096 {
                // SAFETY: the mapping is new and writable.
                unsafe { memory.wrapping_add(page * 4096).write_volatile(1) };
            }
        }
    });
    println!("memory-bomb: {}", ending(child));
}
