//! The local APIC: the CPU's own end of the interrupt lines, and a timer of its own. SDM 3A §10.
//!
//! Its registers lie in memory, or in MSRs where the firmware has put it into x2APIC mode; the mode is left as it is.

use super::clock;
use crate::errno::Errno;
use crate::memory::device_map::map_device;
use crate::memory::kernel_map::Caching;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, AtomicPtr, Ordering::Relaxed};
use volatile::VolatilePtr;
use x86_64::PhysAddr;
use x86_64::registers::model_specific::{ApicBase, ApicBaseFlags, Msr};

/// The timer's vector.
pub const TIMER_VECTOR: u8 = 0x30;
/// Where an interrupt shows up that vanished before it was delivered; it wants no end-of-interrupt. Its low four bits are
/// ones on the oldest APICs whatever is written.
pub const SPURIOUS_VECTOR: u8 = 0xff;

const REGISTERS_BYTES: usize = 4096;
/// Register n of the memory map (in units of 16 bytes) is MSR 0x800 + n.
const FIRST_X2APIC_MSR: u32 = 0x800;

/// Registers, by their offsets in the memory map.
#[derive(Clone, Copy)]
#[repr(u32)]
enum Register {
    Id = 0x20,
    TaskPriority = 0x80,
    EndOfInterrupt = 0xb0,
    SpuriousVector = 0xf0,
    TimerEntry = 0x320,
    Line0Entry = 0x350,
    Line1Entry = 0x360,
    ErrorEntry = 0x370,
    InitialCount = 0x380,
    CurrentCount = 0x390,
    DivideConfiguration = 0x3e0,
}

const SOFTWARE_ENABLE: u32 = 1 << 8;
const ENTRY_MASKED: u32 = 1 << 16;
const DELIVER_NMI: u32 = 0b100 << 8;
const TIMER_PERIODIC: u32 = 1 << 17;
const DIVIDE_BY_16: u32 = 0b0011;

/// The registers in memory; null in x2APIC mode. All CPUs see their own at the same address.
static REGISTERS: AtomicPtr<u32> = AtomicPtr::new(core::ptr::null_mut());
static IS_X2APIC: AtomicBool = AtomicBool::new(false);

#[inline]
fn write(register: Register, value: u32) {
    if IS_X2APIC.load(Relaxed) {
        // SAFETY: one of the APIC's registers, which reach no memory.
        unsafe { Msr::new(FIRST_X2APIC_MSR + register as u32 / 16).write(u64::from(value)) }
    } else if let Some(place) = NonNull::new(REGISTERS.load(Relaxed)) {
        // SAFETY: `init` mapped a page of registers there, for good; the offset is one of them.
        unsafe { VolatilePtr::new(place.byte_add(register as usize)).write(value) }
    }
}

fn read(register: Register) -> u32 {
    if IS_X2APIC.load(Relaxed) {
        // SAFETY: as for `write`.
        return unsafe { Msr::new(FIRST_X2APIC_MSR + register as u32 / 16).read() } as u32;
    }
    match NonNull::new(REGISTERS.load(Relaxed)) {
        // SAFETY: as for `write`.
        Some(place) => unsafe { VolatilePtr::new(place.byte_add(register as usize)).read() },
        None => 0,
    }
}

/// Turns the APIC on, with everything but NMIs masked. `address` is the one in the MADT.
pub(super) fn init(address: PhysAddr) -> Result<(), Errno> {
    let (frame, flags) = ApicBase::read();
    if flags.contains(ApicBaseFlags::X2APIC_ENABLE) {
        IS_X2APIC.store(true, Relaxed);
    } else {
        let pointer = map_device(address, REGISTERS_BYTES, Caching::Uncached)?;
        REGISTERS.store(pointer.cast(), Relaxed);
        // SAFETY: the address stays what the firmware chose; only the APIC itself is turned on.
        unsafe { ApicBase::write(frame, flags | ApicBaseFlags::LAPIC_ENABLE) };
    }
    write(Register::SpuriousVector, SOFTWARE_ENABLE | u32::from(SPURIOUS_VECTOR));
    write(Register::TaskPriority, 0);
    write(Register::TimerEntry, ENTRY_MASKED);
    // Line 0 brought the PIC's interrupts; the IO-APIC brings them now.
    write(Register::Line0Entry, ENTRY_MASKED);
    write(Register::Line1Entry, DELIVER_NMI);
    write(Register::ErrorEntry, ENTRY_MASKED);
    end_of_interrupt();
    Ok(())
}

/// This CPU's APIC, as the IO-APIC addresses it.
pub(super) fn id() -> u8 {
    let id = read(Register::Id);
    // In x2APIC mode it is the whole register; an IO-APIC reaches the first 255 of them.
    if IS_X2APIC.load(Relaxed) { id as u8 } else { (id >> 24) as u8 }
}

/// The interrupt that is being handled has been.
#[inline]
pub(super) fn end_of_interrupt() {
    write(Register::EndOfInterrupt, 0);
}

/// Measures the timer by the time-stamp counter, and has it interrupt once every `period_ns`. False if it doesn't count.
pub(super) fn start_ticking(period_ns: u64) -> bool {
    const MEASURED_NS: u64 = 2_000_000;
    write(Register::DivideConfiguration, DIVIDE_BY_16);
    write(Register::InitialCount, u32::MAX);
    let (first, first_tsc) = clock::with_tsc(|| read(Register::CurrentCount));
    clock::busy_wait_ns(MEASURED_NS);
    let (last, last_tsc) = clock::with_tsc(|| read(Register::CurrentCount));
    write(Register::InitialCount, 0);
    let counted = u64::from(first.wrapping_sub(last));
    let passed_ns = clock::tsc_difference_ns(first_tsc, last_tsc).max(1);
    let period = u128::from(counted) * u128::from(period_ns) / u128::from(passed_ns);
    if period == 0 {
        return false;
    }
    write(Register::TimerEntry, TIMER_PERIODIC | u32::from(TIMER_VECTOR));
    write(Register::InitialCount, u32::try_from(period).unwrap_or(u32::MAX));
    true
}
