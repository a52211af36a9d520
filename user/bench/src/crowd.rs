//! What a process meets where there is much of everything: the figures must be about those of a process alone.

use crate::calls::{expect, good};
use crate::memory::{self, PAGE};
use crate::meter::Outcome;
use crate::{Operation, call, pipes, system};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

pub const OPERATIONS: &[Operation] = &[
    ("yield between two, 900 threads asleep", |meter| {
        put_threads_to_sleep()?;
        pipes::yield_between_two(meter)
    }),
    ("timer tick, 900 threads asleep", |meter| {
        put_threads_to_sleep()?;
        system::timer_tick(meter)
    }),
    ("anonymous write fault, 10 000 areas", |meter| {
        cut_memory_into_areas()?;
        memory::anonymous_fault(meter, true)
    }),
];

const THREADS: usize = 900;
const AREAS: usize = 10_000;

/// Asleep with a time limit: they stand in the list of deadlines as well.
fn put_threads_to_sleep() -> Outcome {
    static AWAKE: AtomicUsize = AtomicUsize::new(0);
    for _ in 0..THREADS {
        let sleeper = || {
            AWAKE.fetch_add(1, Relaxed);
            std::thread::sleep(Duration::from_secs(1000));
        };
        // Nobody joins it: it ends with the process.
        std::thread::Builder::new().stack_size(16 << 10).spawn(sleeper).map_err(|error| error.to_string())?;
    }
    while AWAKE.load(Relaxed) < THREADS {
        call!(SYS_sched_yield);
    }
    // Whoever has just counted gets to its sleep.
    std::thread::sleep(Duration::from_millis(50));
    Ok(())
}

/// Every other page may be read only, so none joins its neighbours.
fn cut_memory_into_areas() -> Outcome {
    let bytes = AREAS * PAGE;
    let read_write = libc::PROT_READ | libc::PROT_WRITE;
    let private = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    let start = good(call!(SYS_mmap, 0, bytes, read_write, private, -1_isize, 0), "mmap")?;
    for page in (start..start + bytes).step_by(2 * PAGE) {
        expect(call!(SYS_mprotect, page, PAGE, libc::PROT_READ), 0, "mprotect")?;
    }
    Ok(())
}
