//! The consoles: where the kernel's text goes, and where typed bytes come from.
//!
//! There are two terminals, the screen with its keyboard (`tty1`) and the serial line (`ttyS0`). `console=` on the command
//! line names those that the kernel's text goes to; the last one named is /dev/console. Bytes that arrive are queued here,
//! with interrupts off and nothing decided; the terminal layer, told by a hook, takes them out.

use super::serial;
use crate::lock::{IrqLock, Rank};
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicPtr, AtomicU8, Ordering::Relaxed};

/// One of the machine's terminals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Terminal {
    /// The screen and the keyboard.
    Screen = 0,
    /// The first serial port.
    Serial = 1,
}

impl Terminal {
    const ALL: [Self; 2] = [Self::Serial, Self::Screen];

    /// The name of its file in /dev.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Screen => "tty1",
            Self::Serial => "ttyS0",
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// Bytes that wait for a reader; more typing than this while nobody reads is lost.
const QUEUE_BYTES: usize = 1024;

/// How often a panic, or a log line in an interrupt, tries for a lock before it does without.
const LOCK_ATTEMPTS: u32 = 100_000;

/// The terminals that the kernel's text goes to, one bit each.
static SELECTED: AtomicU8 = AtomicU8::new(Terminal::Screen.bit() | Terminal::Serial.bit());
/// The one that is /dev/console.
static PRIMARY: AtomicU8 = AtomicU8::new(Terminal::Serial as u8);

/// Held while text goes out, so that lines stay whole.
static OUTPUT: IrqLock<()> = IrqLock::new(Rank::Console, ());

static INPUT: [IrqLock<Queue>; 2] = [IrqLock::new(Rank::Input, Queue::new()), IrqLock::new(Rank::Input, Queue::new())];

/// A `fn(Terminal)`, or null: called after bytes were queued.
static INPUT_HOOK: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());

/// Chooses the consoles by the command line's `console=` words, in their order. Nothing named leaves the default: both.
pub fn select(named: impl Iterator<Item = Terminal>) {
    let mut bits = 0;
    for terminal in named {
        bits |= terminal.bit();
        PRIMARY.store(terminal as u8, Relaxed);
    }
    if bits != 0 {
        SELECTED.store(bits, Relaxed);
    }
}

/// The terminal behind /dev/console.
pub fn primary() -> Terminal {
    if PRIMARY.load(Relaxed) == Terminal::Screen as u8 { Terminal::Screen } else { Terminal::Serial }
}

/// The terminals that the kernel's text, and what is written to /dev/console, go to.
pub fn selected() -> impl Iterator<Item = Terminal> {
    let bits = SELECTED.load(Relaxed);
    Terminal::ALL.into_iter().filter(move |terminal| bits & terminal.bit() != 0)
}

/// Sends a program's bytes, which the line discipline has processed, to one terminal.
pub fn write(terminal: Terminal, bytes: &[u8]) {
    // Interrupts are off while the lock is held, so it is held for a few bytes at a time.
    const CHUNK_BYTES: usize = 64;
    for chunk in bytes.chunks(CHUNK_BYTES) {
        let _output = OUTPUT.lock();
        match terminal {
            Terminal::Serial => serial::write(chunk),
            Terminal::Screen => {}
        }
    }
}

/// Shows the kernel's own text on all selected consoles; a line feed begins a new line. Safe anywhere: where the lock
/// can't be had, as in a panic while text was going out, the serial line alone gets it.
pub fn write_text(text: &str) {
    let lock = (0..LOCK_ATTEMPTS).find_map(|_| OUTPUT.try_lock());
    for terminal in selected() {
        match terminal {
            Terminal::Serial => write_lines(text, serial::write),
            Terminal::Screen if lock.is_some() => {}
            Terminal::Screen => {}
        }
    }
}

fn write_lines(text: &str, mut write: impl FnMut(&[u8])) {
    for piece in text.split_inclusive('\n') {
        match piece.strip_suffix('\n') {
            Some(line) => {
                write(line.as_bytes());
                write(b"\r\n");
            }
            None => write(piece.as_bytes()),
        }
    }
}

/// Formats to [`write_text`] without allocating: for panic screens and the earliest messages.
pub struct Text;

impl Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        write_text(text);
        Ok(())
    }
}

/// Queues a byte that came in on a terminal. Called by interrupt handlers.
pub fn receive(terminal: Terminal, byte: u8) {
    INPUT[terminal as usize].lock().push(byte);
    let hook = INPUT_HOOK.load(Relaxed);
    if !hook.is_null() {
        // SAFETY: the only non-null value ever stored is a `fn(Terminal)`, by `set_input_hook`.
        let hook = unsafe { core::mem::transmute::<*mut (), fn(Terminal)>(hook) };
        hook(terminal);
    }
}

/// Has `hook` called, with interrupts off and no lock held, whenever bytes were queued for a terminal.
pub fn set_input_hook(hook: fn(Terminal)) {
    INPUT_HOOK.store(hook as *mut (), Relaxed);
}

/// Takes queued bytes out, and returns how many there were.
pub fn take_input(terminal: Terminal, buffer: &mut [u8]) -> usize {
    let mut queue = INPUT[terminal as usize].lock();
    let mut taken = 0;
    for slot in buffer {
        let Some(byte) = queue.pop() else { break };
        *slot = byte;
        taken += 1;
    }
    taken
}

/// A ring of bytes. `start` is where the oldest lies; `length` of them are in use.
struct Queue {
    bytes: [u8; QUEUE_BYTES],
    start: usize,
    length: usize,
}

impl Queue {
    const fn new() -> Self {
        Self { bytes: [0; QUEUE_BYTES], start: 0, length: 0 }
    }

    fn push(&mut self, byte: u8) {
        if self.length < QUEUE_BYTES {
            self.bytes[(self.start + self.length) % QUEUE_BYTES] = byte;
            self.length += 1;
        }
    }

    fn pop(&mut self) -> Option<u8> {
        if self.length == 0 {
            return None;
        }
        let byte = self.bytes[self.start];
        self.start = (self.start + 1) % QUEUE_BYTES;
        self.length -= 1;
        Some(byte)
    }
}

/// The handler of the serial port's interrupt.
pub fn handle_serial_interrupt() {
    serial::handle_interrupt(|byte| receive(Terminal::Serial, byte));
}
