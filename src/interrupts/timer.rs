//! The tick: a hundred times a second a timer interrupts, whoever runs.
//!
//! It is the local APIC's where there is one, else the PIT, and the HPET in its place on machines that have stopped it.

use super::time_scale::NS_PER_SECOND;
use super::{InterruptFrame, clock, hpet, local_apic, pit, register_irq, set_handler, uses_apics};
use crate::cpu::features::{features, identity};
use crate::cpu::per_cpu;
use crate::drivers::console;
use core::sync::atomic::{AtomicPtr, Ordering::Relaxed};
use x86_64::PhysAddr;

pub const TICKS_PER_SECOND: u64 = 100;
pub const NS_PER_TICK: u64 = NS_PER_SECOND / TICKS_PER_SECOND;

/// A `fn(from_user: bool)`, or null: the scheduler's.
static TICK_HANDLER: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());

/// Chooses what the time is taken from and what ticks, and starts it. `hpet` is where the firmware says one is.
/// `clock::init` and `interrupts::init` come first.
pub fn init(hpet: Option<PhysAddr>) {
    let hpet = hpet.and_then(hpet::init);
    if !clock::pit_works() {
        measure_by_hpet(hpet.map(|(hz, _)| hz));
    }
    let time = choose_clock(hpet);
    let tick_source = start_ticking(hpet.map(|(hz, _)| hz));
    log::info!(target: "timer", "time by {time} ({} kHz), {TICKS_PER_SECOND} ticks a second by {tick_source}",
        clock::tsc_hz() / 1000);
}

/// Has `handler` called on each tick, with whether it interrupted a user program.
pub fn set_tick_handler(handler: fn(bool)) {
    TICK_HANDLER.store(handler as *mut (), Relaxed);
}

fn measure_by_hpet(hpet_hz: Option<u64>) {
    match hpet_hz.and_then(hpet::measure_tsc_hz) {
        Some(tsc_hz) => clock::correct_tsc_hz(tsc_hz),
        None => log::warn!(target: "timer", "neither PIT nor HPET counts: the time-stamp counter is taken for 1 GHz"),
    }
}

fn choose_clock(hpet: Option<(u64, bool)>) -> &'static str {
    if features().invariant_tsc || identity().emulated_by_tcg {
        return "time-stamp counter";
    }
    match hpet {
        // A counter of 32 bits would wrap within minutes.
        Some((hz, true)) => {
            clock::use_hpet(hz);
            "HPET"
        }
        _ => {
            clock::use_ticks();
            "ticks, divided by the time-stamp counter"
        }
    }
}

fn start_ticking(hpet_hz: Option<u64>) -> &'static str {
    if uses_apics() {
        set_handler(local_apic::TIMER_VECTOR, tick);
        if local_apic::start_ticking(NS_PER_TICK) {
            return "local APIC";
        }
    }
    register_irq(pit::IRQ, tick);
    if !clock::pit_works() && hpet_hz.is_some_and(|hz| hpet::start_ticking(hz, NS_PER_TICK)) {
        return "HPET";
    }
    pit::start_ticking(TICKS_PER_SECOND);
    "PIT"
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
