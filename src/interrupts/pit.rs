//! The 8254 timer of every PC: the tick where there is nothing newer, and the yardstick that newer timers are measured by.
//! Intel 8254 data sheet; ICH data sheet §13.3 and, for port 61h, §13.7.1.

use super::clock::{read_tsc, with_tsc};
use crate::lock::{IrqLock, Rank};
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

/// Keeps channel 2's count as it is now for the next two reads.
const CHANNEL_2_LATCH: u8 = 0b1000_0000;

/// Channel 2's gate, the speaker, and channel 2's output.
const SYSTEM_CONTROL: u16 = 0x61;
const GATE_2: u8 = 1 << 0;
const SPEAKER: u8 = 1 << 1;
const OUTPUT_2: u8 = 1 << 5;

/// 10 ms.
const MEASURED_PERIODS: u16 = (FREQUENCY_HZ / 100) as u16;
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

/// The time-stamp counter's frequency, measured by channel 2 over 10 ms. `None` if the chip doesn't count: some newer
/// machines stop it.
pub(super) fn measure_tsc_hz() -> Option<u64> {
    const ATTEMPTS: usize = 3;
    let _chip = CHIP.lock();
    let control = read(SYSTEM_CONTROL);
    write(SYSTEM_CONTROL, control & !SPEAKER | GATE_2);
    let measured = (0..ATTEMPTS).find_map(|_| measure_once());
    write(SYSTEM_CONTROL, control & !(SPEAKER | GATE_2));
    measured
}

fn measure_once() -> Option<u64> {
    write(MODE, CHANNEL_2_ONCE);
    write(CHANNEL_2, 0xff);
    write(CHANNEL_2, 0xff);
    // The count is loaded with the chip's next period; reading takes longer than one.
    read_count();
    let (first, first_tsc) = with_tsc(read_count);
    let wanted = first.checked_sub(MEASURED_PERIODS)?;
    while read_count() > wanted {
        if read_tsc().wrapping_sub(first_tsc) > PATIENCE_TSC {
            return None;
        }
    }
    let (last, last_tsc) = with_tsc(read_count);
    // The output is up once the count has passed zero: whoever held us up did it for too long to tell.
    if read(SYSTEM_CONTROL) & OUTPUT_2 != 0 {
        return None;
    }
    let periods = u64::from(first.checked_sub(last)?);
    (last_tsc.wrapping_sub(first_tsc) * FREQUENCY_HZ).checked_div(periods)
}

fn read_count() -> u16 {
    write(MODE, CHANNEL_2_LATCH);
    let low = read(CHANNEL_2);
    u16::from_le_bytes([low, read(CHANNEL_2)])
}
