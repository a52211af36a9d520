//! The high-precision event timer: a counter that runs at one rate, where the time-stamp counter doesn't or the PIT is
//! gone. IA-PC HPET specification 1.0a.

use super::clock::with_tsc;
use super::time_scale::TimeScale;
use crate::memory::device_map::map_device;
use crate::memory::kernel_map::Caching;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicPtr, Ordering::Relaxed};
use volatile::VolatilePtr;
use x86_64::PhysAddr;

const REGISTERS_BYTES: usize = 0x400;
const CAPABILITIES: usize = 0x000;
const CONFIGURATION: usize = 0x010;
const MAIN_COUNTER: usize = 0x0f0;
const TIMER_0_CONFIGURATION: usize = 0x100;
const TIMER_0_COMPARATOR: usize = 0x108;

const COUNTER_IS_64_BIT: u64 = 1 << 13;
const LEGACY_REPLACEMENT_CAPABLE: u64 = 1 << 15;
const ENABLE: u64 = 1 << 0;
/// Timer 0 takes the PIT's place on its line.
const LEGACY_REPLACEMENT: u64 = 1 << 1;
const TIMER_INTERRUPT: u64 = 1 << 2;
const TIMER_PERIODIC: u64 = 1 << 3;
const TIMER_PERIODIC_CAPABLE: u64 = 1 << 4;
const TIMER_SET_PERIOD: u64 = 1 << 6;

/// In the capabilities' upper half: the counter's period, at most 100 ns.
const FEMTOSECONDS_A_SECOND: u64 = 1_000_000_000_000_000;
const PERIOD_MAX_FS: u64 = 100_000_000;

/// A counter that hasn't moved after so many reads, which take longer than its period each, never will.
const START_READS: u32 = 1000;

/// The registers; null while there is no HPET.
static REGISTERS: AtomicPtr<u64> = AtomicPtr::new(core::ptr::null_mut());

fn register(offset: usize) -> Option<VolatilePtr<'static, u64>> {
    let registers = NonNull::new(REGISTERS.load(Relaxed))?;
    // SAFETY: `init` mapped the registers, for good; the offsets above lie within.
    Some(unsafe { VolatilePtr::new(registers.byte_add(offset)) })
}

/// The counter, as it is now; 0 if there is none.
#[inline]
pub(super) fn counter() -> u64 {
    register(MAIN_COUNTER).map_or(0, |register| register.read())
}

/// The counter's frequency in Hz and whether it is 64 bits wide, if there is one that counts.
pub(super) fn init(address: PhysAddr) -> Option<(u64, bool)> {
    let registers = map_device(address, REGISTERS_BYTES, Caching::Uncached).ok()?;
    REGISTERS.store(registers.cast(), Relaxed);
    let capabilities = register(CAPABILITIES)?.read();
    let period_fs = capabilities >> 32;
    if period_fs == 0 || period_fs > PERIOD_MAX_FS {
        REGISTERS.store(core::ptr::null_mut(), Relaxed);
        return None;
    }
    register(CONFIGURATION)?.write(ENABLE);
    let start = counter();
    if (0..START_READS).all(|_| counter() == start) {
        REGISTERS.store(core::ptr::null_mut(), Relaxed);
        return None;
    }
    Some((FEMTOSECONDS_A_SECOND / period_fs, capabilities & COUNTER_IS_64_BIT != 0))
}

/// Has timer 0 interrupt in the PIT's stead, once every `period_ns`. False if it can't.
pub(super) fn start_ticking(hz: u64, period_ns: u64) -> bool {
    let start = || {
        let configuration = register(TIMER_0_CONFIGURATION)?;
        let capable = register(CAPABILITIES)?.read() & LEGACY_REPLACEMENT_CAPABLE != 0
            && configuration.read() & TIMER_PERIODIC_CAPABLE != 0;
        if !capable {
            return None;
        }
        let period = TimeScale::from_hz(hz).to_periods(period_ns);
        configuration.write(TIMER_INTERRUPT | TIMER_PERIODIC | TIMER_SET_PERIOD);
        // The first write is when it first interrupts, the second how often from then on (§2.3.9.2.2).
        register(TIMER_0_COMPARATOR)?.write(counter() + period);
        register(TIMER_0_COMPARATOR)?.write(period);
        register(CONFIGURATION)?.write(ENABLE | LEGACY_REPLACEMENT);
        Some(())
    };
    start().is_some()
}

/// The time-stamp counter's frequency, measured over 10 ms by the counter's lower half, which every HPET has. `None` if it
/// doesn't move.
pub(super) fn measure_tsc_hz(hz: u64) -> Option<u64> {
    const PATIENCE_READS: u32 = 1_000_000;
    let low = || counter() as u32;
    let (first, first_tsc) = with_tsc(low);
    let wanted = hz / 100;
    (0..PATIENCE_READS).find(|_| u64::from(low().wrapping_sub(first)) >= wanted)?;
    let (last, last_tsc) = with_tsc(low);
    let cycles = u128::from(last_tsc.wrapping_sub(first_tsc)) * u128::from(hz);
    cycles.checked_div(u128::from(last.wrapping_sub(first))).and_then(|hz| u64::try_from(hz).ok())
}
