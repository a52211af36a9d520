//! The least things: a loop, calls that do almost nothing, clocks, signals, futexes.

use crate::calls::expect;
use crate::meter::{Meter, Outcome, now};
use crate::{Operation, call};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

pub const OPERATIONS: &[Operation] = &[
    ("empty loop", empty_loop),
    ("getppid", getppid),
    ("clock_gettime", clock_gettime),
    ("clock_gettime by libc", clock_gettime_by_libc),
    ("sigaction", sigaction),
    ("signal to self", signal_to_self),
    ("futex wake", futex_wake),
    ("timer tick", timer_tick),
];

/// The unit's check: two instructions a turn.
fn empty_loop(meter: &mut Meter) -> Outcome {
    const TURNS: u64 = 10_000;
    for _ in 0..20 {
        let start = now();
        // SAFETY: counts a register down.
        unsafe { std::arch::asm!("2:", "dec {0}", "jnz 2b", inout(reg) TURNS => _) };
        meter.add(TURNS, now().wrapping_sub(start));
    }
    Ok(())
}

fn getppid(meter: &mut Meter) -> Outcome {
    // SAFETY: takes no pointers.
    let parent = unsafe { libc::getppid() } as isize;
    meter.measure(30, 100, || expect(call!(SYS_getppid), parent, "getppid"))
}

fn clock_gettime(meter: &mut Meter) -> Outcome {
    let (mut first, mut time) = ([0_i64; 2], [0_i64; 2]);
    expect(call!(SYS_clock_gettime, libc::CLOCK_MONOTONIC, first.as_mut_ptr()), 0, "clock_gettime")?;
    meter.measure(30, 100, || {
        expect(call!(SYS_clock_gettime, libc::CLOCK_MONOTONIC, time.as_mut_ptr()), 0, "clock_gettime")
    })?;
    if time > first { Ok(()) } else { Err("the clock stands still".into()) }
}

/// As programs call it: on Linux the vDSO answers, without entering the kernel.
fn clock_gettime_by_libc(meter: &mut Meter) -> Outcome {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: libc or the kernel writes one timespec.
    meter.measure(30, 100, || {
        expect(unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) } as isize, 0, "clock_gettime")
    })
}

extern "C" fn count(_: i32) {
    COUNT.fetch_add(1, Relaxed);
}

static COUNT: AtomicU64 = AtomicU64::new(0);

fn install(handler: usize) -> Outcome {
    // SAFETY: sigaction is plain data; the handler takes one argument.
    let result = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler;
        libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut())
    };
    expect(result as isize, 0, "sigaction")
}

fn sigaction(meter: &mut Meter) -> Outcome {
    meter.measure(30, 50, || install(count as *const () as usize))?;
    // SAFETY: the handler that was installed only counts.
    unsafe { libc::raise(libc::SIGUSR1) };
    expect(COUNT.load(Relaxed) as isize, 1, "the count of the handler's runs")
}

fn signal_to_self(meter: &mut Meter) -> Outcome {
    install(count as *const () as usize)?;
    // SAFETY: takes no pointers.
    let own = unsafe { libc::getpid() };
    meter.measure(30, 20, || expect(call!(SYS_kill, own, libc::SIGUSR1), 0, "kill"))?;
    expect(COUNT.load(Relaxed) as isize, 31 * 20, "the count of the handler's runs")
}

/// With nobody waiting: what an uncontended unlock of an unlucky mutex pays.
fn futex_wake(meter: &mut Meter) -> Outcome {
    let word = 0_u32;
    meter.measure(30, 100, || {
        expect(call!(SYS_futex, &raw const word, libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG, 1), 0, "futex")
    })
}

/// What a tick takes from a program that only computes: the gap that it leaves between two readings of the TSC.
pub fn timer_tick(meter: &mut Meter) -> Outcome {
    const TICKS: usize = 12;
    /// The time for it; a loop's turn, with which a gap begins and ends, takes a few ticks of the TSC.
    const READINGS: u64 = 100_000_000;
    let mut usual = u64::MAX;
    let mut found = 0;
    let mut before = now();
    for _ in 0..READINGS {
        let after = now();
        let gap = after.wrapping_sub(before);
        before = after;
        usual = usual.min(gap);
        if gap > 16 * usual {
            meter.add(1, gap - usual);
            found += 1;
            before = now();
        }
        if found == TICKS {
            return Ok(());
        }
    }
    Err(format!("only {found} gaps between readings of the TSC"))
}
