//! The tick: a hundred times a second the timer interrupts, whoever runs.

use super::time_scale::NS_PER_SECOND;
use super::{InterruptFrame, clock, pit, register_irq};
use crate::cpu::features::{features, identity};
use crate::cpu::per_cpu;
use crate::drivers::console;
use core::sync::atomic::{AtomicPtr, Ordering::Relaxed};

pub const TICKS_PER_SECOND: u64 = 100;
pub const NS_PER_TICK: u64 = NS_PER_SECOND / TICKS_PER_SECOND;

/// A measurement lasts 5 ms of the PIT's periods.
const MEASURED_PERIODS: u16 = (pit::FREQUENCY_HZ / 200) as u16;
/// What interrupts a measurement (the firmware, an emulator's host) only makes it longer: the shortest of three is right.
const MEASUREMENTS: usize = 3;
/// What a counter that couldn't be measured is taken to run at.
const ASSUMED_TSC_HZ: u64 = 1_000_000_000;

/// A `fn(from_user: bool)`, or null: the scheduler's.
static TICK_HANDLER: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());

/// Measures the clocks, starts the tick, and with it the time. `entry_tsc` is the counter at the kernel's first instruction.
pub fn init(entry_tsc: u64) {
    let tsc_hz = measure_tsc_hz().unwrap_or_else(|| {
        log::warn!(target: "timer", "nothing to measure the time-stamp counter by: 1 GHz is assumed");
        ASSUMED_TSC_HZ
    });
    let tsc_is_constant = features().invariant_tsc || identity().emulated_by_tcg;
    clock::start(entry_tsc, tsc_hz, tsc_is_constant);
    pit::start_ticking(TICKS_PER_SECOND);
    register_irq(pit::IRQ, tick);
    let source = if tsc_is_constant { "the time-stamp counter" } else { "the tick" };
    log::info!(target: "timer", "tick by PIT, time by {source} ({} kHz)", tsc_hz / 1000);
}

/// Has `handler` called on each tick, with whether it interrupted a user program.
pub fn set_tick_handler(handler: fn(bool)) {
    TICK_HANDLER.store(handler as *mut (), Relaxed);
}

fn tick(frame: &mut InterruptFrame) {
    let from_user = frame.from_user();
    clock::tick();
    per_cpu::count_tick(from_user);
    console::tick();
    let handler = TICK_HANDLER.load(Relaxed);
    if !handler.is_null() {
        // SAFETY: the only non-null value ever stored is a `fn(bool)`, by `set_tick_handler`.
        let handler = unsafe { core::mem::transmute::<*mut (), fn(bool)>(handler) };
        handler(from_user);
    }
}

fn measure_tsc_hz() -> Option<u64> {
    let shortest = (0..MEASUREMENTS).filter_map(|_| {
        let start = clock::read_tsc();
        pit::wait_periods(MEASURED_PERIODS).then(|| clock::read_tsc().wrapping_sub(start))
    });
    Some(shortest.min()? * pit::FREQUENCY_HZ / u64::from(MEASURED_PERIODS))
}
