//! The IO-APICs: which device's line raises which vector on which CPU. Intel 82093AA data sheet; ICH data sheet §13.5.
//!
//! Only the sixteen ISA lines are used. The firmware says (MADT, interrupt source overrides) where those arrive that don't
//! keep their number: the PIT's usually at input 2.

use super::FIRST_IRQ_VECTOR;
use crate::drivers::acpi::InterruptOverride;
use crate::errno::Errno;
use crate::lock::{IrqLock, Rank};
use crate::memory::device_map::map_device;
use crate::memory::kernel_map::Caching;
use arrayvec::ArrayVec;
use core::ptr::NonNull;
use volatile::VolatilePtr;
use x86_64::PhysAddr;

const IO_APICS_MAX: usize = 8;

/// The two registers in memory: the number of an inner register goes into the first, its value through the second.
const SELECT: usize = 0x00;
const WINDOW: usize = 0x10;
const REGISTERS_BYTES: usize = 0x20;
const VERSION: u32 = 1;
/// The first of the redirection table's; two for each input.
const REDIRECTION: u32 = 0x10;

const ACTIVE_LOW: u64 = 1 << 13;
const LEVEL_TRIGGERED: u64 = 1 << 15;
const MASKED: u64 = 1 << 16;
const DESTINATION_SHIFT: u32 = 56;

struct IoApic {
    registers: NonNull<u32>,
    first_input: u32,
    inputs: u32,
}

// SAFETY: the registers are reached only under the lock that owns this value.
unsafe impl Send for IoApic {}

impl IoApic {
    fn register(&self, offset: usize) -> VolatilePtr<'_, u32> {
        // SAFETY: `add` mapped the registers, for good; both offsets lie within.
        unsafe { VolatilePtr::new(self.registers.byte_add(offset)) }
    }

    fn read(&self, register: u32) -> u32 {
        self.register(SELECT).write(register);
        self.register(WINDOW).read()
    }

    fn write(&self, register: u32, value: u32) {
        self.register(SELECT).write(register);
        self.register(WINDOW).write(value);
    }

    /// The half with the mask bit goes first when masking and last when not; an entry is written masked before it is opened.
    fn write_entry(&self, input: u32, entry: u64) {
        let register = REDIRECTION + input * 2;
        self.write(register, MASKED as u32);
        self.write(register + 1, (entry >> 32) as u32);
        self.write(register, entry as u32);
    }
}

static IO_APICS: IrqLock<ArrayVec<IoApic, IO_APICS_MAX>> = IrqLock::new(Rank::Device, ArrayVec::new_const());

/// Takes an IO-APIC into use, with all of its inputs masked. `first_input` is its global system interrupt base.
pub(super) fn add(address: PhysAddr, first_input: u32) -> Result<(), Errno> {
    let registers = map_device(address, REGISTERS_BYTES, Caching::Uncached)?;
    let registers = NonNull::new(registers.cast()).ok_or(Errno::ENOMEM)?;
    let mut io_apic = IoApic { registers, first_input, inputs: 0 };
    let version = io_apic.read(VERSION);
    if version == u32::MAX {
        return Err(Errno::ENODEV);
    }
    io_apic.inputs = (version >> 16 & 0xff) + 1;
    for input in 0..io_apic.inputs {
        io_apic.write_entry(input, MASKED);
    }
    IO_APICS.lock().try_push(io_apic).map_err(|_| Errno::ENOMEM)
}

/// Opens an ISA line that arrives by `route`, to the CPU whose local APIC has the id `destination`.
pub(super) fn unmask(irq: u8, route: InterruptOverride, destination: u8) {
    let io_apics = IO_APICS.lock();
    let owner = io_apics.iter().find_map(|io_apic| {
        let input = route.global_interrupt.checked_sub(io_apic.first_input)?;
        (input < io_apic.inputs).then_some((io_apic, input))
    });
    match owner {
        Some((io_apic, input)) => io_apic.write_entry(input, entry(irq, route, destination)),
        None => log::warn!(target: "interrupts", "no IO-APIC has the input of line {irq}: it stays silent"),
    }
}

/// A redirection entry (82093AA §3.2.4): fixed delivery to one local APIC.
fn entry(irq: u8, route: InterruptOverride, destination: u8) -> u64 {
    let polarity = if route.is_active_low { ACTIVE_LOW } else { 0 };
    let trigger = if route.is_level_triggered { LEVEL_TRIGGERED } else { 0 };
    u64::from(FIRST_IRQ_VECTOR + irq) | polarity | trigger | u64::from(destination) << DESTINATION_SHIFT
}
