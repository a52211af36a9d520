//! What time it is: nanoseconds since the kernel's first instruction, which never go back, and the time of day.
//!
//! The time-stamp counter is read where its rate is constant. Where it isn't (before Nehalem), the HPET is; and where there
//! is none either, the timer's ticks are the time and the counter only divides each of them: whatever rate it runs at, it
//! can't leave its tick. Until the timer is there, the counter has to do.

use super::time_page::{TimePage, TscTime};
use super::time_scale::{NS_PER_SECOND, TimeScale};
use super::timer::NS_PER_TICK;
use super::{hpet, pit};
use crate::lock::InterruptsOff;
use core::arch::x86_64::_rdtsc;
use core::hint::spin_loop;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU64};
use x86_64::instructions::port::Port;

/// Where [`now_ns`] takes the time from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Source {
    /// Nothing is measured yet: it is always 0.
    None = 0,
    TimeStampCounter = 1,
    Hpet = 2,
    Ticks = 3,
}

/// What a counter that couldn't be measured is taken to run at.
const ASSUMED_TSC_HZ: u64 = 1_000_000_000;

static SOURCE: AtomicU8 = AtomicU8::new(Source::None as u8);

static PIT_WORKS: AtomicBool = AtomicBool::new(false);

/// The time-stamp counter at time 0, and its [`TimeScale`].
static TSC_AT_START: AtomicU64 = AtomicU64::new(0);
static TSC_SCALE: AtomicU64 = AtomicU64::new(0);

/// The last tick: its time, and the time-stamp counter then. Written by the boot CPU's tick only.
static TICK_NS: AtomicU64 = AtomicU64::new(0);
static TICK_TSC: AtomicU64 = AtomicU64::new(0);

/// The HPET's counter when it became the source, the time then, and its [`TimeScale`].
static HPET_AT_START: AtomicU64 = AtomicU64::new(0);
static HPET_START_NS: AtomicU64 = AtomicU64::new(0);
static HPET_SCALE: AtomicU64 = AtomicU64::new(0);

/// Nanoseconds between 1970 and time 0.
static WALL_CLOCK_AT_START_NS: AtomicU64 = AtomicU64::new(0);

/// The page that programs read the time from; null before there are programs.
static TIME_PAGE: AtomicPtr<TimePage> = AtomicPtr::new(core::ptr::null_mut());

/// The time-stamp counter.
#[inline(always)]
pub fn read_tsc() -> u64 {
    // SAFETY: every x86-64 CPU has RDTSC, and the kernel may use it.
    unsafe { _rdtsc() }
}

/// A counter's value and the time-stamp counter's at the same moment: the quickest of a few readings, since what gets in
/// between (the firmware, an emulator's host) only makes one slower.
pub(super) fn with_tsc<T>(read: impl Fn() -> T) -> (T, u64) {
    const READINGS: usize = 8;
    let read_once = || {
        let before = read_tsc();
        let value = read();
        let took = read_tsc().wrapping_sub(before);
        (took, value, before.wrapping_add(took / 2))
    };
    let mut best = read_once();
    for _ in 1..READINGS {
        let next = read_once();
        if next.0 < best.0 {
            best = next;
        }
    }
    (best.1, best.2)
}

/// Nanoseconds since the kernel's first instruction.
#[inline(always)]
pub fn now_ns() -> u64 {
    if SOURCE.load(Relaxed) == Source::TimeStampCounter as u8 {
        return tsc_scale().to_ns(read_tsc().wrapping_sub(TSC_AT_START.load(Relaxed)));
    }
    now_without_tsc()
}

#[cold]
fn now_without_tsc() -> u64 {
    if SOURCE.load(Relaxed) == Source::None as u8 {
        return 0;
    }
    if SOURCE.load(Relaxed) == Source::Hpet as u8 {
        let scale = TimeScale::from_fixed_point(HPET_SCALE.load(Relaxed));
        let passed = hpet::counter().wrapping_sub(HPET_AT_START.load(Relaxed));
        return HPET_START_NS.load(Relaxed) + scale.to_ns(passed);
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

/// Starts the clock: measures the time-stamp counter by the PIT. `entry_tsc` is its value at the kernel's first instruction.
/// Needs neither memory nor interrupts, so that the log has times from the beginning.
pub fn init(entry_tsc: u64) {
    let measured_hz = pit::measure_tsc_hz();
    PIT_WORKS.store(measured_hz.is_some(), Relaxed);
    TSC_AT_START.store(entry_tsc, Relaxed);
    TSC_SCALE.store(TimeScale::from_hz(measured_hz.unwrap_or(ASSUMED_TSC_HZ)).fixed_point(), Relaxed);
    SOURCE.store(Source::TimeStampCounter as u8, Relaxed);
}

/// Whether the PIT counted when it was needed.
pub(super) fn pit_works() -> bool {
    PIT_WORKS.load(Relaxed)
}

/// Writes the clock to a page for programs, now and whenever it changes.
pub fn publish_in(page: &'static TimePage) {
    TIME_PAGE.store(core::ptr::from_ref(page).cast_mut(), Release);
    publish();
}

fn publish() {
    // SAFETY: `publish_in` stored a reference that is valid for ever, or nobody did.
    let Some(page) = (unsafe { TIME_PAGE.load(Acquire).as_ref() }) else { return };
    let _one_writer = InterruptsOff::new();
    let time = TscTime {
        tsc_at_start: TSC_AT_START.load(Relaxed),
        scale: TSC_SCALE.load(Relaxed),
        wall_clock_at_start_ns: WALL_CLOCK_AT_START_NS.load(Relaxed),
    };
    page.write((SOURCE.load(Relaxed) == Source::TimeStampCounter as u8).then_some(time));
}

/// Corrects the time-stamp counter's frequency. The time goes on from where it was.
pub(super) fn correct_tsc_hz(hz: u64) {
    let (now_ns, scale) = (now_ns(), TimeScale::from_hz(hz));
    TSC_SCALE.store(scale.fixed_point(), Relaxed);
    TSC_AT_START.store(read_tsc().wrapping_sub(scale.to_periods(now_ns)), Relaxed);
    publish();
}

/// Nanoseconds between two values of the time-stamp counter.
pub(super) fn tsc_difference_ns(from: u64, to: u64) -> u64 {
    tsc_scale().to_ns(to.wrapping_sub(from))
}

/// The time-stamp counter's frequency as measured.
pub fn tsc_hz() -> u64 {
    tsc_scale().to_periods(NS_PER_SECOND)
}

/// From now on the HPET's counter is the time. It goes on from where it was.
pub(super) fn use_hpet(hz: u64) {
    HPET_START_NS.store(now_ns(), Relaxed);
    HPET_AT_START.store(hpet::counter(), Relaxed);
    HPET_SCALE.store(TimeScale::from_hz(hz).fixed_point(), Relaxed);
    SOURCE.store(Source::Hpet as u8, Relaxed);
    publish();
}

/// From now on the ticks are the time. It goes on from where it was.
pub(super) fn use_ticks() {
    let _no_tick = InterruptsOff::new();
    TICK_NS.store(now_ns(), Relaxed);
    TICK_TSC.store(read_tsc(), Relaxed);
    SOURCE.store(Source::Ticks as u8, Relaxed);
    publish();
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
#[inline]
pub fn wall_clock_ns() -> u64 {
    WALL_CLOCK_AT_START_NS.load(Relaxed).wrapping_add(now_ns())
}

/// Sets the time of day, in nanoseconds since 1970: from the RTC at boot, later by clock_settime. [`now_ns`] isn't moved; a
/// machine that would have been started before 1970 was started then.
pub fn set_wall_clock_ns(time_ns: u64) {
    WALL_CLOCK_AT_START_NS.store(time_ns.saturating_sub(now_ns()), Relaxed);
    publish();
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
