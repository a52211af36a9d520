//! Pipes, and one process giving the CPU to another.

use crate::calls::{expect, good};
use crate::meter::{Meter, Outcome, now};
use crate::{Operation, call};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

pub const OPERATIONS: &[Operation] = &[
    ("pipe create", create),
    ("pipe round trip", round_trip),
    ("pipe bandwidth 4 KiB", |meter| bandwidth(meter, 4 << 10, 32)),
    ("pipe bandwidth 64 KiB", |meter| bandwidth(meter, 64 << 10, 4)),
    ("yield between two", yield_between_two),
];

fn pipe() -> Result<[i32; 2], String> {
    let mut ends = [0_i32; 2];
    good(call!(SYS_pipe, ends.as_mut_ptr()), "pipe")?;
    Ok(ends)
}

/// Forks a child that runs until it is killed, or until its action ends.
fn partner(action: impl FnOnce()) -> Result<Partner, String> {
    // SAFETY: this process has one thread; the child only runs its action and ends.
    let child = unsafe { libc::fork() };
    if child == 0 {
        action();
        // SAFETY: ends the process.
        unsafe { libc::_exit(0) };
    }
    if child < 0 { Err("fork failed".into()) } else { Ok(Partner(child)) }
}

struct Partner(i32);

impl Drop for Partner {
    fn drop(&mut self) {
        // SAFETY: the calls take no pointers but a NULL.
        unsafe {
            libc::kill(self.0, libc::SIGKILL);
            libc::waitpid(self.0, null_mut(), 0);
        }
    }
}

fn create(meter: &mut Meter) -> Outcome {
    meter.measure(30, 10, || {
        let [read_end, write_end] = pipe()?;
        expect(call!(SYS_close, read_end), 0, "close")?;
        expect(call!(SYS_close, write_end), 0, "close")
    })
}

/// A byte there and a byte back: two switches at least.
fn round_trip(meter: &mut Meter) -> Outcome {
    let ([there_out, there_in], [back_out, back_in]) = (pipe()?, pipe()?);
    let _partner = partner(|| {
        let mut byte = 0_u8;
        while call!(SYS_read, there_out, &raw mut byte, 1) == 1 {
            byte = byte.wrapping_add(1);
            call!(SYS_write, back_in, &raw const byte, 1);
        }
    })?;
    let mut byte = 0_u8;
    meter.measure(30, 20, || {
        let sent = byte;
        expect(call!(SYS_write, there_in, &raw const byte, 1), 1, "write")?;
        expect(call!(SYS_read, back_out, &raw mut byte, 1), 1, "read")?;
        expect(byte as isize, sent.wrapping_add(1) as isize, "the answer")
    })
}

/// A writer and a reader; the figure is for one chunk written and read.
fn bandwidth(meter: &mut Meter, chunk: usize, turns: u64) -> Outcome {
    let [read_end, write_end] = pipe()?;
    let [done_out, done_in] = pipe()?;
    let per_batch = chunk * turns as usize;
    let _partner = partner(|| {
        let mut buffer = vec![0_u8; chunk];
        loop {
            let mut left = per_batch;
            while left > 0 {
                let count = call!(SYS_read, read_end, buffer.as_mut_ptr(), chunk.min(left));
                if count <= 0 {
                    return;
                }
                left -= count as usize;
            }
            call!(SYS_write, done_in, buffer.as_ptr(), 1);
        }
    })?;
    let buffer = vec![0x77_u8; chunk];
    let mut byte = 0_u8;
    for batch in 0..20 {
        let start = now();
        for _ in 0..turns {
            expect(call!(SYS_write, write_end, buffer.as_ptr(), chunk), chunk as isize, "write")?;
        }
        expect(call!(SYS_read, done_out, &raw mut byte, 1), 1, "read")?;
        if batch > 0 {
            meter.add(turns, now().wrapping_sub(start));
        }
    }
    expect(byte as isize, 0x77, "the byte that came through")
}

/// Both processes yield all the time and count it. The figure is for one yield of either: one switch.
pub fn yield_between_two(meter: &mut Meter) -> Outcome {
    // SAFETY: a new shared page of zeros, which lives as long as the processes.
    let memory = unsafe {
        libc::mmap(null_mut(), 4096, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS, -1, 0)
    };
    if memory == libc::MAP_FAILED {
        return Err("mmap failed".into());
    }
    // SAFETY: as above; an atomic needs no more than a zeroed aligned word.
    let others: &AtomicU64 = unsafe { &*memory.cast() };
    let _partner = partner(|| {
        loop {
            others.fetch_add(1, Relaxed);
            call!(SYS_sched_yield);
        }
    })?;
    const TURNS: u64 = 100;
    const BATCHES: usize = 29;
    // A scheduler may let a new process wait for its first turn (Linux does), so batches without switches come first.
    let (mut good, mut switches) = (0, 0);
    for _ in 0..20 * BATCHES {
        let before = others.load(Relaxed);
        let start = now();
        for _ in 0..TURNS {
            call!(SYS_sched_yield);
        }
        let ticks = now().wrapping_sub(start);
        switches = others.load(Relaxed).wrapping_sub(before);
        if switches.abs_diff(TURNS) <= TURNS / 10 {
            meter.add(2 * TURNS, ticks);
            good += 1;
        }
        if good == BATCHES {
            return Ok(());
        }
    }
    Err(format!("the other process ran {switches} times while this one yielded {TURNS} times"))
}
