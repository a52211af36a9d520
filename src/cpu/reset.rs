//! Restarting the machine by means that need no ACPI: what is left when everything else is broken.

use x86_64::instructions::port::Port;
use x86_64::instructions::{hlt, interrupts};
use x86_64::structures::DescriptorTablePointer;

/// The 8042's command and status port, and the command that pulses the CPU's reset line.
const KEYBOARD_COMMAND: u16 = 0x64;
const INPUT_FULL: u8 = 1 << 1;
const PULSE_RESET: u8 = 0xfe;

/// The chipset's reset control register (Intel ICH, port CF9h): a hard reset by bits 1 and 2.
const RESET_CONTROL: u16 = 0xcf9;
const HARD_RESET: u8 = 0b0000_0110;

const POLLS: u32 = 100_000;

/// Tries the keyboard controller, the chipset, and at last a triple fault, which no CPU survives.
pub fn restart() -> ! {
    interrupts::disable();
    // SAFETY: writing to these ports resets the machine, which is what is wanted; memory is not touched.
    unsafe {
        let mut keyboard = Port::<u8>::new(KEYBOARD_COMMAND);
        let _ = (0..POLLS).any(|_| keyboard.read() & INPUT_FULL == 0);
        keyboard.write(PULSE_RESET);
        Port::<u8>::new(RESET_CONTROL).write(HARD_RESET);
    }
    let empty = DescriptorTablePointer { limit: 0, base: x86_64::VirtAddr::zero() };
    // SAFETY: with an empty IDT the breakpoint can't be delivered, nor can the fault that follows: the CPU shuts down.
    unsafe {
        x86_64::instructions::tables::lidt(&empty);
        core::arch::asm!("int3");
    }
    loop {
        hlt();
    }
}
