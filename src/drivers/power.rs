//! The end: switching the machine off, restarting it, and telling an emulator how things went.
//!
//! Nothing here returns, but for [`report_to_emulator`]. Where the machine offers no way, a sentence says so and the CPU
//! halts: that is what a person in front of an old PC can act on.

use super::acpi::{self, Register, SleepControl};
use crate::cpu;
use crate::memory::device_map;
use crate::memory::kernel_map::Caching;
use x86_64::instructions::port::Port;
use x86_64::instructions::{hlt, interrupts};

/// PM1 control register (ACPI 6.5 §4.8.3.2.1).
const SCI_ENABLED: u16 = 1 << 0;
const SLEEP_TYPE_SHIFT: u32 = 10;
const SLEEP_TYPE_MASK: u16 = 0b111 << SLEEP_TYPE_SHIFT;
const SLEEP_ENABLE: u16 = 1 << 13;

/// Sleep control register of hardware-reduced machines (§4.8.3.7).
const REDUCED_SLEEP_TYPE_SHIFT: u32 = 2;
const REDUCED_SLEEP_ENABLE: u8 = 1 << 5;

/// How often a register is looked at before it is given up; a port access takes about a microsecond, and firmware may take
/// seconds to hand the registers over (§4.8.3.2.1 names none; Linux waits three).
const POLLS: u32 = 3_000_000;

/// QEMU's isa-debug-exit, where the tests put it (`-device isa-debug-exit,iobase=0xf4`).
const ISA_DEBUG_EXIT: u16 = 0xf4;

/// Switches the machine off by ACPI's soft-off state, S5.
pub fn power_off() -> ! {
    log::info!(target: "power", "switching off");
    interrupts::disable();
    let done = acpi::tables().sleep.and_then(enter_soft_off);
    match done {
        Some(()) => log::warn!(target: "power", "the machine ignored ACPI's soft-off"),
        None => log::warn!(target: "power", "the ACPI tables name no way to switch off"),
    }
    halt("It is now safe to turn off the computer.")
}

/// Restarts the machine: by ACPI's reset register, else by what PCs have always had.
pub fn reboot() -> ! {
    log::info!(target: "power", "restarting");
    interrupts::disable();
    if let Some(reset) = acpi::tables().reset
        && let Some(register) = Reached::new(reset.register)
    {
        register.write_byte(reset.value);
        // Its effect may take a moment (§4.8.3.6).
        register.wait_a_little();
    }
    cpu::reset::restart()
}

/// With `exit=isa-debug` on the command line, ends the emulator with exit status `2 * status + 1`. Returns otherwise, and
/// where no such device listens.
pub fn report_to_emulator(status: u8) {
    if crate::boot::information().command_line.exit_by_isa_debug {
        // SAFETY: the command line says that QEMU's exit device is at this port; it touches no memory.
        unsafe { Port::<u8>::new(ISA_DEBUG_EXIT).write(status) }
    }
}

/// Says `text` and stops the CPU for good.
pub fn halt(text: &str) -> ! {
    log::warn!(target: "power", "{text}");
    interrupts::disable();
    loop {
        hlt();
    }
}

/// None where a register can't be reached. Returns only if the machine stays on.
fn enter_soft_off(sleep: SleepControl) -> Option<()> {
    match sleep {
        SleepControl::Pm1 { control_a, control_b, sleep_type_a, sleep_type_b, enable } => {
            let control_a = Reached::new(control_a)?;
            take_registers_over(&control_a, enable);
            enter_sleep(&control_a, sleep_type_a);
            if let Some(control_b) = control_b.and_then(Reached::new) {
                enter_sleep(&control_b, sleep_type_b);
            }
            control_a.wait_a_little();
        }
        SleepControl::HardwareReduced { control, sleep_type } => {
            let control = Reached::new(control)?;
            control.write_byte((sleep_type & 0b111) << REDUCED_SLEEP_TYPE_SHIFT | REDUCED_SLEEP_ENABLE);
            control.wait_a_little();
        }
    }
    Some(())
}

/// Until it is asked, the firmware may own the PM1 registers (§4.8.2.5).
fn take_registers_over(control: &Reached, enable: Option<(u16, u8)>) {
    let Some((port, value)) = enable else { return };
    if control.read_word() & SCI_ENABLED != 0 {
        return;
    }
    // SAFETY: the FADT names this port and value for this purpose; the firmware's handler keeps the kernel's memory.
    unsafe { Port::<u8>::new(port).write(value) }
    if !(0..POLLS).any(|_| control.read_word() & SCI_ENABLED != 0) {
        log::warn!(target: "power", "the firmware doesn't enter ACPI mode");
    }
}

/// The type first, then the same with the enable bit: some chipsets want to see both writes.
fn enter_sleep(control: &Reached, sleep_type: u8) {
    let kept = control.read_word() & !(SLEEP_TYPE_MASK | SLEEP_ENABLE);
    let value = kept | (u16::from(sleep_type) << SLEEP_TYPE_SHIFT & SLEEP_TYPE_MASK);
    control.write_word(value);
    control.write_word(value | SLEEP_ENABLE);
}

/// A register that ACPI's tables name, ready for use. Made only here, from those tables, for what they say it does:
/// switching the machine off or resetting it, which touches no memory.
enum Reached {
    Port(u16),
    Mapped(*mut u8),
}

impl Reached {
    fn new(register: Register) -> Option<Self> {
        match register {
            Register::Port(port) => Some(Self::Port(port)),
            Register::Memory(address) => device_map::map_device(address, 2, Caching::Uncached).ok().map(Self::Mapped),
        }
    }

    fn read_word(&self) -> u16 {
        match *self {
            // SAFETY: an ACPI register; reading one has no effect on memory.
            Self::Port(port) => unsafe { Port::<u16>::new(port).read() },
            // SAFETY: two bytes of registers, mapped for good; ACPI aligns them.
            Self::Mapped(at) => unsafe { at.cast::<u16>().read_volatile() },
        }
    }

    fn write_word(&self, value: u16) {
        match *self {
            // SAFETY: an ACPI register that is written for its purpose.
            Self::Port(port) => unsafe { Port::<u16>::new(port).write(value) },
            // SAFETY: as for `read_word`, and written for its purpose.
            Self::Mapped(at) => unsafe { at.cast::<u16>().write_volatile(value) },
        }
    }

    fn write_byte(&self, value: u8) {
        match *self {
            // SAFETY: an ACPI register that is written for its purpose.
            Self::Port(port) => unsafe { Port::<u8>::new(port).write(value) },
            // SAFETY: as for `read_word`, and written for its purpose.
            Self::Mapped(at) => unsafe { at.write_volatile(value) },
        }
    }

    fn wait_a_little(&self) {
        for _ in 0..POLLS / 10 {
            self.read_word();
        }
    }
}
