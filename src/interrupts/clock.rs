//! What time it is: nanoseconds since the kernel's first instruction, which never go back, and the time of day.
//!
//! The time-stamp counter is read where its rate is constant. Where it isn't (before Nehalem), the timer's ticks are the
//! time and the counter only divides each of them: whatever rate it runs at, it can't leave its tick.

use super::time_scale::{NS_PER_SECOND, TimeScale};
use super::timer::NS_PER_TICK;
use crate::lock::InterruptsOff;
use core::arch::x86_64::_rdtsc;
use core::hint::spin_loop;
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use x86_64::instructions::port::Port;

/// Where [`now_ns`] takes the time from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Source {
    /// Nothing is measured yet: it is always 0.
    None = 0,
    TimeStampCounter = 1,
    Ticks = 2,
}

static SOURCE: AtomicU8 = AtomicU8::new(Source::None as u8);

/// The time-stamp counter at time 0, and its [`TimeScale`].
static TSC_AT_START: AtomicU64 = AtomicU64::new(0);
static TSC_SCALE: AtomicU64 = AtomicU64::new(0);

/// The last tick: its time, and the time-stamp counter then. Written by the boot CPU's tick only.
static TICK_NS: AtomicU64 = AtomicU64::new(0);
static TICK_TSC: AtomicU64 = AtomicU64::new(0);

/// Nanoseconds between 1970 and time 0.
static WALL_CLOCK_AT_START_NS: AtomicU64 = AtomicU64::new(0);

/// The time-stamp counter.
#[inline(always)]
pub fn read_tsc() -> u64 {
    // SAFETY: every x86-64 CPU has RDTSC, and the kernel may use it.
    unsafe { _rdtsc() }
}

/// Nanoseconds since the kernel's first instruction.
#[inline]
pub fn now_ns() -> u64 {
    if SOURCE.load(Relaxed) == Source::TimeStampCounter as u8 {
        return tsc_scale().to_ns(read_tsc().wrapping_sub(TSC_AT_START.load(Relaxed)));
    }
    now_by_ticks()
}

#[cold]
fn now_by_ticks() -> u64 {
    if SOURCE.load(Relaxed) == Source::None as u8 {
        return 0;
    }
    // A tick between the two loads would pair one tick's time with another's counter.
    let _no_tick = InterruptsOff::new();
    let since_tick_ns = tsc_scale().to_ns(read_tsc().wrapping_sub(TICK_TSC.load(Relaxed)));
    TICK_NS.load(Relaxed) + since_tick_ns.min(NS_PER_TICK - 1)
}

#[inline(always)]
fn tsc_scale() -> TimeScale {
    TimeScale::from_fixed_point(TSC_SCALE.load(Relaxed))
}

/// Starts the clock. `entry_tsc` is the time-stamp counter at the kernel's first instruction.
pub(super) fn start(entry_tsc: u64, tsc_hz: u64, tsc_is_constant: bool) {
    TSC_AT_START.store(entry_tsc, Relaxed);
    TSC_SCALE.store(TimeScale::from_hz(tsc_hz).fixed_point(), Relaxed);
    let now = read_tsc();
    TICK_TSC.store(now, Relaxed);
    TICK_NS.store(tsc_scale().to_ns(now.wrapping_sub(entry_tsc)), Relaxed);
    let source = if tsc_is_constant { Source::TimeStampCounter } else { Source::Ticks };
    SOURCE.store(source as u8, Relaxed);
}

/// A timer tick passed.
#[inline]
pub(super) fn tick() {
    if SOURCE.load(Relaxed) == Source::Ticks as u8 {
        TICK_TSC.store(read_tsc(), Relaxed);
        TICK_NS.store(TICK_NS.load(Relaxed) + NS_PER_TICK, Relaxed);
    }
}

/// Nanoseconds since 1970, UTC.
pub fn wall_clock_ns() -> u64 {
    WALL_CLOCK_AT_START_NS.load(Relaxed).wrapping_add(now_ns())
}

/// Sets the time of day, in nanoseconds since 1970: from the RTC at boot, later by clock_settime. [`now_ns`] isn't moved.
pub fn set_wall_clock_ns(time_ns: u64) {
    WALL_CLOCK_AT_START_NS.store(time_ns.wrapping_sub(now_ns()), Relaxed);
}

/// Waits without sleeping, by the time-stamp counter alone: it works with interrupts off, as a panic needs.
pub fn busy_wait_ns(ns: u64) {
    let scale = tsc_scale();
    if scale.fixed_point() == 0 {
        return busy_wait_unmeasured(ns);
    }
    let (start, periods) = (read_tsc(), scale.to_periods(ns));
    while read_tsc().wrapping_sub(start) < periods {
        spin_loop();
    }
}

/// Before the counter's rate is known: a write to port 0x80, which nobody answers, takes about a microsecond on a PC.
fn busy_wait_unmeasured(ns: u64) {
    for _ in 0..ns / (NS_PER_SECOND / 1_000_000) {
        // SAFETY: the port of diagnostic codes; it reaches no memory.
        unsafe { Port::<u8>::new(0x80).write(0) };
    }
}
