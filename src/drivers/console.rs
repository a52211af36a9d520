//! The consoles: where the kernel's text goes, and where typed bytes come from.
//!
//! There are two terminals, the screen with its keyboard (`tty1`) and the serial line (`ttyS0`). `console=` on the command
//! line names those that the kernel's text goes to; the last one named is /dev/console. Bytes that arrive are queued here,
//! with interrupts off and nothing decided; the terminal layer, told by a hook, takes them out.

#![expect(
    clippy::indexing_slicing,
    reason = "there are two terminals; positions in a queue are taken modulo its length"
)]

use super::screen::emulator::Replies;
use super::screen::pixels::Pixels;
use super::screen::text::TextScreen;
use super::screen::{Renderer, Screen, Storage};
use super::{keyboard, serial};
use crate::boot::command_line::Console;
use crate::lock::{IrqLock, Rank};
use crate::memory::device_map;
use crate::memory::direct_map;
use crate::memory::kernel_map::Caching;
use crate::{boot, interrupts};
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, Ordering::Relaxed};
use spin::mutex::{SpinMutex, SpinMutexGuard};
use x86_64::PhysAddr;

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

/// How many rows of the screen a tick draws at most: interrupts are off meanwhile.
const ROWS_PER_TICK: usize = 16;

/// Where text screens are on PCs, when the loader doesn't say.
const TEXT_SCREEN: PhysAddr = PhysAddr::new(0xb8000);

/// The screen. Held while text goes out anywhere, so that lines stay whole.
static OUTPUT: IrqLock<Option<Screen>> = IrqLock::new(Rank::Console, None);
/// Taken by the screen for ever.
static STORAGE: SpinMutex<Storage> = SpinMutex::new(Storage::BLANK);
/// There is something to be drawn at the next tick.
static DRAWING_DUE: AtomicBool = AtomicBool::new(false);
/// What the screen's modes say about the keys; see `keyboard`.
static APPLICATION_CURSOR_KEYS: AtomicBool = AtomicBool::new(false);
static APPLICATION_KEYPAD: AtomicBool = AtomicBool::new(false);

static INPUT: [IrqLock<Queue>; 2] = [IrqLock::new(Rank::Input, Queue::new()), IrqLock::new(Rank::Input, Queue::new())];

/// A `fn(Terminal)`, or null: called after bytes were queued.
static INPUT_HOOK: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());

/// Chooses the consoles by the command line's `console=` words, in their order. Nothing named leaves the default: both.
pub fn select(named: &[Console]) {
    let mut bits = 0;
    for console in named {
        let terminal = match console {
            Console::Serial => Terminal::Serial,
            Console::Screen => Terminal::Screen,
        };
        bits |= terminal.bit();
        PRIMARY.store(terminal as u8, Relaxed);
    }
    if bits != 0 {
        SELECTED.store(bits, Relaxed);
    }
}

/// Starts to show text on what the loader left on the screen, or on a PC's text screen if there is one. This early it is
/// reached through the boot page tables: detach it before they go.
pub fn attach_screen_early(screen: Option<boot::Screen>) {
    attach(screen, |address, bytes| {
        let end = address.as_u64().checked_add(bytes as u64)?;
        (end <= boot::BOOT_MAPPED_BYTES).then(|| direct_map::pointer(address))
    });
}

/// Shows text from now on. What the screen showed before stays, and what was written while it was detached is added.
pub fn attach_screen(screen: Option<boot::Screen>) {
    attach(screen, |address, bytes| device_map::map_device(address, bytes, Caching::WriteCombining).ok());
}

fn attach(screen: Option<boot::Screen>, map: impl Fn(PhysAddr, usize) -> Option<*mut u8>) {
    let Some(renderer) = renderer(screen, map) else { return };
    let mut output = OUTPUT.lock();
    match &mut *output {
        Some(screen) => screen.reattach(renderer),
        None => *output = Some(Screen::new(renderer, SpinMutexGuard::leak(STORAGE.lock()))),
    }
    drop(output);
    draw_everything();
}

/// Stops drawing, until the screen is attached again: the mapping that it was attached with is about to go.
pub fn detach_screen() {
    if let Some(screen) = &mut *OUTPUT.lock() {
        screen.detach();
    }
}

fn renderer(screen: Option<boot::Screen>, map: impl Fn(PhysAddr, usize) -> Option<*mut u8>) -> Option<Renderer> {
    let (address, columns, rows, pitch_bytes) = match screen {
        Some(boot::Screen::Framebuffer(format)) => {
            let bytes = (format.pitch_bytes as usize).checked_mul(format.height as usize)?;
            let base = map(format.address, bytes)?;
            // SAFETY: `map` made that many bytes of the framebuffer writable there.
            return unsafe { Pixels::new(base, format) }.map(Renderer::Pixels);
        }
        Some(boot::Screen::EgaText { address, pitch_bytes, columns, rows }) => (address, columns, rows, pitch_bytes),
        None => (TEXT_SCREEN, 80, 25, 160),
    };
    let base = map(address, (pitch_bytes as usize).checked_mul(rows as usize)?)?.cast::<u16>();
    if screen.is_none() && !remembers(base) {
        return None;
    }
    // SAFETY: `map` made that many bytes of the screen writable there, and pitches of text screens are even.
    unsafe { TextScreen::new(base, columns as usize, rows as usize, pitch_bytes as usize / 2) }.map(Renderer::Text)
}

/// Whether there is memory: without a display adapter, or with one in another mode, reads give all ones.
fn remembers(cell: *mut u16) -> bool {
    [0x0755, 0x07aa].into_iter().all(|pattern: u16| {
        // SAFETY: the first cell of a text screen's memory, just mapped; where nothing answers, a write has no effect.
        unsafe {
            cell.write_volatile(pattern);
            cell.read_volatile() == pattern
        }
    })
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

/// Sends a program's bytes, which the line discipline has processed, to one terminal. The screen shows them at the next
/// tick: a program that prints much doesn't pay for lines that nobody could see.
pub fn write(terminal: Terminal, bytes: &[u8]) {
    // Interrupts are off while the lock is held, so it is held for a few bytes at a time.
    const CHUNK_BYTES: usize = 64;
    for chunk in bytes.chunks(CHUNK_BYTES) {
        let mut output = OUTPUT.lock();
        match (terminal, &mut *output) {
            (Terminal::Serial, _) => serial::write(chunk),
            (Terminal::Screen, Some(screen)) => {
                screen.write(chunk);
                DRAWING_DUE.store(true, Relaxed);
                let replies = after_screen_write(screen);
                drop(output);
                replies.into_iter().for_each(|byte| receive(Terminal::Screen, byte));
            }
            (Terminal::Screen, None) => {}
        }
    }
}

/// Tells the keyboard what the program asked for, and returns what the terminal answers.
fn after_screen_write(screen: &mut Screen) -> Replies {
    APPLICATION_CURSOR_KEYS.store(screen.emulator.application_cursor_keys(), Relaxed);
    APPLICATION_KEYPAD.store(screen.emulator.application_keypad(), Relaxed);
    screen.emulator.take_replies()
}

/// Whether the program on the screen wants the arrow keys' other sequences.
pub fn application_cursor_keys() -> bool {
    APPLICATION_CURSOR_KEYS.load(Relaxed)
}

pub fn application_keypad() -> bool {
    APPLICATION_KEYPAD.load(Relaxed)
}

/// Shows the kernel's own text on all selected consoles, at once; a line feed begins a new line. Safe anywhere: where the
/// lock can't be had, as in a panic while text was going out, the serial line alone gets it.
pub fn write_text(text: &str) {
    let mut lock = (0..LOCK_ATTEMPTS).find_map(|_| OUTPUT.try_lock());
    for terminal in selected() {
        match (terminal, lock.as_deref_mut()) {
            (Terminal::Serial, _) => write_lines(text, serial::write),
            (Terminal::Screen, Some(Some(screen))) => {
                write_lines(text, |bytes| screen.write(bytes));
                screen.draw(usize::MAX);
            }
            (Terminal::Screen, _) => {}
        }
    }
}

/// Draws part of what programs have written since. Called at each tick.
#[inline]
pub fn tick() {
    if DRAWING_DUE.load(Relaxed) {
        draw_some();
    }
}

#[cold]
fn draw_some() {
    // The tick may have interrupted whoever holds the lock on another CPU: the next tick comes.
    if let Some(screen) = OUTPUT.try_lock().as_deref_mut().and_then(Option::as_mut) {
        screen.draw(ROWS_PER_TICK);
        DRAWING_DUE.store(screen.needs_drawing(), Relaxed);
    }
}

/// Draws all that is still to be drawn: before the machine stops.
pub fn draw_everything() {
    loop {
        match &mut *OUTPUT.lock() {
            // The lock is given back between the pieces, so that interrupts come through.
            Some(screen) if screen.needs_drawing() => screen.draw(ROWS_PER_TICK),
            _ => return,
        }
    }
}

/// Columns and rows of a terminal, if they are known: a serial line's other end has never said.
pub fn size(terminal: Terminal) -> Option<(usize, usize)> {
    let output = OUTPUT.lock();
    let screen = output.as_ref().filter(|_| terminal == Terminal::Screen)?;
    Some((screen.emulator.columns(), screen.emulator.rows()))
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

/// Whether [`take_input`] would find something.
pub fn has_input(terminal: Terminal) -> bool {
    INPUT[terminal as usize].lock().length > 0
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

/// Begins to take what is typed, on the keyboard and on the serial line, as far as there are such. Consoles that were asked
/// for and aren't there are left out.
pub fn start_input() {
    let missing = match (serial::is_present(), OUTPUT.lock().is_some()) {
        (false, true) => Some(Terminal::Serial),
        (true, false) => Some(Terminal::Screen),
        // With neither nothing is gained by choosing.
        _ => None,
    };
    if let Some(missing) = missing {
        let there = if missing == Terminal::Serial { Terminal::Screen } else { Terminal::Serial };
        SELECTED.store(there.bit(), Relaxed);
        PRIMARY.store(there as u8, Relaxed);
    }
    if keyboard::initialise() {
        interrupts::register_irq(keyboard::IRQ, |_| keyboard::handle_interrupt());
    }
    if serial::is_present() {
        interrupts::register_irq(serial::IRQ, |_| {
            serial::handle_interrupt(|byte| receive(Terminal::Serial, byte));
        });
        serial::enable_receive_interrupt();
    }
}
