//! The first serial port, COM1: a 16550 UART or its ancestors, polled for output and interrupting on input.
//!
//! It needs nothing but port I/O, so it works before memory, locks and interrupts do, and from a panic. Each wait is
//! bounded: a machine without the port, or with one that never gets ready, loses text and not time.
//! National Semiconductor, PC16550D data sheet, §8.

use core::sync::atomic::{AtomicU8, Ordering::Relaxed};
use x86_64::instructions::port::Port;

const COM1: u16 = 0x3f8;
/// The ISA interrupt that COM1 raises.
pub const IRQ: u8 = 4;

// Registers, as offsets from the base port. While LINE_CONTROL's divisor bit is set, 0 and 1 are the divisor.
const DATA: u16 = 0;
const INTERRUPT_ENABLE: u16 = 1;
const FIFO_CONTROL: u16 = 2;
const LINE_CONTROL: u16 = 3;
const MODEM_CONTROL: u16 = 4;
const LINE_STATUS: u16 = 5;
const SCRATCH: u16 = 7;

const RECEIVED_DATA_INTERRUPT: u8 = 1 << 0;
const FIFO_ENABLE_AND_CLEAR: u8 = 0b0000_0111;
const EIGHT_BITS_NO_PARITY: u8 = 0b0000_0011;
const DIVISOR_LATCH: u8 = 1 << 7;
const DATA_TERMINAL_READY: u8 = 1 << 0;
const REQUEST_TO_SEND: u8 = 1 << 1;
/// On PCs OUT2 connects the UART's interrupt line.
const INTERRUPT_LINE: u8 = 1 << 3;
const LOOPBACK: u8 = 1 << 4;
const DATA_READY: u8 = 1 << 0;
const BREAK: u8 = 1 << 4;
const TRANSMITTER_EMPTY: u8 = 1 << 5;

/// 115,200 baud divided by this is the speed.
const DIVISOR: u16 = 1;

/// How often the line status is read before a byte is given up: some seconds, since an emulator's reader may be slow.
const PATIENT_POLLS: u32 = 5_000_000;
/// The same once a byte was given up, until the transmitter is seen empty again.
const STALLED_POLLS: u32 = 1_000;
/// For the byte that detection sends to itself: it takes 87 µs on the line.
const LOOPBACK_POLLS: u32 = 100_000;
/// A receiver that claims more data than this in one interrupt is broken.
const RECEIVE_LIMIT: usize = 1024;

const UNKNOWN: u8 = 0;
const ABSENT: u8 = 1;
const PRESENT: u8 = 2;
const STALLED: u8 = 3;

static STATE: AtomicU8 = AtomicU8::new(UNKNOWN);

fn read(register: u16) -> u8 {
    // SAFETY: a register of COM1, where no other device lies; reading one has no effect on memory.
    unsafe { Port::<u8>::new(COM1 + register).read() }
}

fn write_register(register: u16, value: u8) {
    // SAFETY: as for `read`.
    unsafe { Port::<u8>::new(COM1 + register).write(value) }
}

/// Whether a UART answers; the first call looks for one and sets it up.
pub fn is_present() -> bool {
    if STATE.load(Relaxed) == UNKNOWN {
        let found = detect();
        STATE.store(if found { PRESENT } else { ABSENT }, Relaxed);
        if found {
            write_register(MODEM_CONTROL, DATA_TERMINAL_READY | REQUEST_TO_SEND | INTERRUPT_LINE);
        }
    }
    STATE.load(Relaxed) != ABSENT
}

/// Absent ports read as all ones: the scratch register finds that out at once. A byte sent in loopback mode then shows
/// that it is a UART, and leaves it configured.
fn detect() -> bool {
    for pattern in [0x5a, 0xa5] {
        write_register(SCRATCH, pattern);
        if read(SCRATCH) != pattern {
            return false;
        }
    }
    let [low, high] = DIVISOR.to_le_bytes();
    write_register(INTERRUPT_ENABLE, 0);
    write_register(LINE_CONTROL, DIVISOR_LATCH);
    write_register(DATA, low);
    write_register(INTERRUPT_ENABLE, high);
    write_register(LINE_CONTROL, EIGHT_BITS_NO_PARITY);
    write_register(FIFO_CONTROL, FIFO_ENABLE_AND_CLEAR);
    write_register(MODEM_CONTROL, LOOPBACK | DATA_TERMINAL_READY | REQUEST_TO_SEND);
    write_register(DATA, b'K');
    let answered = (0..LOOPBACK_POLLS).any(|_| read(LINE_STATUS) & DATA_READY != 0);
    answered && read(DATA) == b'K'
}

/// Sends bytes as they are, waiting for the transmitter before each: Bochs and old chips drop what comes too early.
/// Callers take turns by the console's lock; a panic may come here without it, and at worst its text is interleaved.
pub fn write(bytes: &[u8]) {
    if !is_present() {
        return;
    }
    for &byte in bytes {
        let polls = if STATE.load(Relaxed) == STALLED { STALLED_POLLS } else { PATIENT_POLLS };
        if (0..polls).any(|_| read(LINE_STATUS) & TRANSMITTER_EMPTY != 0) {
            write_register(DATA, byte);
            STATE.store(PRESENT, Relaxed);
        } else {
            STATE.store(STALLED, Relaxed);
        }
    }
}

/// From now on the UART raises [`IRQ`] for each byte that arrives; `handle_interrupt` must be called for it.
pub fn enable_receive_interrupt() {
    if is_present() {
        write_register(INTERRUPT_ENABLE, RECEIVED_DATA_INTERRUPT);
    }
}

/// Passes on what has arrived. A break condition arrives as a zero byte that nobody typed, and is dropped.
pub fn handle_interrupt(mut receive: impl FnMut(u8)) {
    if !is_present() {
        return;
    }
    for _ in 0..RECEIVE_LIMIT {
        let status = read(LINE_STATUS);
        if status & DATA_READY == 0 {
            return;
        }
        let byte = read(DATA);
        if status & BREAK == 0 {
            receive(byte);
        }
    }
}
