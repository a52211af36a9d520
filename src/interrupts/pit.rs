//! The 8254 timer of every PC: the tick where there is nothing newer, and the yardstick that newer timers are measured by.
//! Intel 8254 data sheet; ICH data sheet §13.3 and, for port 61h, §13.7.1.

use crate::lock::{IrqLock, Rank};
use core::arch::x86_64::_rdtsc;
use x86_64::instructions::port::Port;

/// What all three channels count down at.
pub const FREQUENCY_HZ: u64 = 1_193_182;
/// The ISA line of channel 0.
pub const IRQ: u8 = 0;

const CHANNEL_0: u16 = 0x40;
const CHANNEL_2: u16 = 0x42;
const MODE: u16 = 0x43;
/// Channel 0, both bytes of the count, mode 2: a pulse each time the count is reached.
const CHANNEL_0_RATE: u8 = 0b0011_0100;
/// Channel 2, both bytes, mode 0: its output rises when the count is reached.
const CHANNEL_2_ONCE: u8 = 0b1011_0000;

/// Channel 2's gate, the speaker, and channel 2's output.
const SYSTEM_CONTROL: u16 = 0x61;
const GATE_2: u8 = 1 << 0;
const SPEAKER: u8 = 1 << 1;
const OUTPUT_2: u8 = 1 << 5;

/// A wait that takes this many cycles of the time-stamp counter is given up: a tenth of a second and more on any CPU.
const PATIENCE_TSC: u64 = 400_000_000;

/// Held while the chip is programmed: a count is written in two halves.
static CHIP: IrqLock<()> = IrqLock::new(Rank::Device, ());

fn write(port: u16, value: u8) {
    // SAFETY: the ports of the timer and its gate; they reach no memory.
    unsafe { Port::<u8>::new(port).write(value) }
}

fn read(port: u16) -> u8 {
    // SAFETY: as for `write`.
    unsafe { Port::<u8>::new(port).read() }
}

/// Has channel 0 interrupt `hz` times a second.
pub(super) fn start_ticking(hz: u64) {
    // A frequency of 19 Hz or more gives a count of 16 bits.
    let count = (FREQUENCY_HZ + hz / 2) / hz;
    let _chip = CHIP.lock();
    write(MODE, CHANNEL_0_RATE);
    write(CHANNEL_0, count as u8);
    write(CHANNEL_0, (count >> 8) as u8);
}

/// Waits until channel 2 has counted `count` periods. False if it doesn't: some newer machines stop the chip.
pub(super) fn wait_periods(count: u16) -> bool {
    let _chip = CHIP.lock();
    let control = read(SYSTEM_CONTROL);
    write(SYSTEM_CONTROL, control & !SPEAKER | GATE_2);
    write(MODE, CHANNEL_2_ONCE);
    write(CHANNEL_2, count as u8);
    write(CHANNEL_2, (count >> 8) as u8);
    // SAFETY: every x86-64 CPU has RDTSC, and the kernel may use it.
    let now = || unsafe { _rdtsc() };
    let start = now();
    let mut reached = false;
    while !reached && now().wrapping_sub(start) < PATIENCE_TSC {
        reached = read(SYSTEM_CONTROL) & OUTPUT_2 != 0;
    }
    write(SYSTEM_CONTROL, control & !(SPEAKER | GATE_2));
    reached
}
