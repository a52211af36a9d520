//! The PS/2 keyboard behind an 8042 controller, or what firmware makes look like one.
//!
//! Boards without the controller exist, and firmware that plays it for a USB keyboard knows only part of it. So each wait
//! is bounded, what was left in the buffer is drained, and the translation to scancode set 1, which all of them have, is
//! kept. Without a keyboard nothing is lost but the keyboard.

pub mod decoder;

#[cfg(target_os = "none")]
pub use controller::{IRQ, handle_interrupt, initialise, set_restart_hook};

#[cfg(target_os = "none")]
mod controller {
    use super::decoder::{Decoder, Modes, Outcome};
    use crate::drivers::console::{self, Terminal};
    use crate::lock::{IrqLock, Rank};
    use core::sync::atomic::{AtomicPtr, Ordering::Relaxed};
    use x86_64::instructions::port::Port;

    /// The ISA interrupt of the keyboard.
    pub const IRQ: u8 = 1;

    const DATA: u16 = 0x60;
    const STATUS_AND_COMMAND: u16 = 0x64;

    const OUTPUT_FULL: u8 = 1 << 0;
    const INPUT_FULL: u8 = 1 << 1;
    const FROM_MOUSE: u8 = 1 << 5;
    const NO_CONTROLLER: u8 = 0xff;

    const READ_CONFIGURATION: u8 = 0x20;
    const WRITE_CONFIGURATION: u8 = 0x60;
    const DISABLE_MOUSE: u8 = 0xa7;
    const DISABLE_KEYBOARD: u8 = 0xad;
    const ENABLE_KEYBOARD: u8 = 0xae;

    const KEYBOARD_INTERRUPT: u8 = 1 << 0;
    const MOUSE_INTERRUPT: u8 = 1 << 1;
    const KEYBOARD_CLOCK_OFF: u8 = 1 << 4;
    const MOUSE_CLOCK_OFF: u8 = 1 << 5;
    const TRANSLATION: u8 = 1 << 6;

    /// The keyboard's own command to start sending scancodes.
    const ENABLE_SCANNING: u8 = 0xf4;

    /// A read of a port takes about a microsecond: a tenth of a second.
    const POLLS_MAX: u32 = 100_000;
    /// More bytes than this are not what a keyboard left behind, or sends at once.
    const DRAIN_MAX: u32 = 64;

    static DECODER: IrqLock<Decoder> = IrqLock::new(Rank::Device, Decoder::new());

    /// A `fn()`, or null: what Ctrl-Alt-Del does.
    static RESTART_HOOK: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());

    fn read(port: u16) -> u8 {
        // SAFETY: the controller's ports; reading takes at most a byte out of its buffer.
        unsafe { Port::<u8>::new(port).read() }
    }

    /// Writes when the controller has taken what came before; false if it never does.
    fn write(port: u16, byte: u8) -> bool {
        let ready = (0..POLLS_MAX).any(|_| read(STATUS_AND_COMMAND) & INPUT_FULL == 0);
        if ready {
            // SAFETY: the controller's ports. The commands sent configure the keyboard; none resets the machine.
            unsafe { Port::<u8>::new(port).write(byte) }
        }
        ready
    }

    fn read_answer() -> Option<u8> {
        (0..POLLS_MAX).any(|_| read(STATUS_AND_COMMAND) & OUTPUT_FULL != 0).then(|| read(DATA))
    }

    fn drain() {
        for _ in 0..DRAIN_MAX {
            if read(STATUS_AND_COMMAND) & OUTPUT_FULL == 0 {
                return;
            }
            read(DATA);
        }
    }

    /// Looks for the controller and sets it up; whether there is one. [`IRQ`] may then be opened.
    pub fn initialise() -> bool {
        if read(STATUS_AND_COMMAND) == NO_CONTROLLER || !set_up() {
            log::info!(target: "keyboard", "no PS/2 controller");
            return false;
        }
        log::info!(target: "keyboard", "PS/2, scancode set 1");
        true
    }

    fn set_up() -> bool {
        drain();
        // Silent while it is configured, so that what is read is the answer and not a key.
        if !write(STATUS_AND_COMMAND, DISABLE_KEYBOARD) || !write(STATUS_AND_COMMAND, DISABLE_MOUSE) {
            return false;
        }
        drain();
        if !write(STATUS_AND_COMMAND, READ_CONFIGURATION) {
            return false;
        }
        let Some(configuration) = read_answer() else { return false };
        let wanted = (configuration | KEYBOARD_INTERRUPT | TRANSLATION | MOUSE_CLOCK_OFF)
            & !(KEYBOARD_CLOCK_OFF | MOUSE_INTERRUPT);
        let configured = write(STATUS_AND_COMMAND, WRITE_CONFIGURATION)
            && write(DATA, wanted)
            && write(STATUS_AND_COMMAND, ENABLE_KEYBOARD);
        if configured && write(DATA, ENABLE_SCANNING) {
            // Its acknowledgement; firmware that plays a keyboard may send none.
            read_answer();
        }
        drain();
        configured
    }

    /// Has `hook` called, in the interrupt handler, when Ctrl-Alt-Del is pressed.
    pub fn set_restart_hook(hook: fn()) {
        RESTART_HOOK.store(hook as *mut (), Relaxed);
    }

    /// Takes out what was typed and queues it for the screen's terminal.
    pub fn handle_interrupt() {
        for _ in 0..DRAIN_MAX {
            let status = read(STATUS_AND_COMMAND);
            if status & OUTPUT_FULL == 0 || status == NO_CONTROLLER {
                return;
            }
            let byte = read(DATA);
            if status & FROM_MOUSE == 0 {
                handle_scancode(byte);
            }
        }
    }

    fn handle_scancode(scancode: u8) {
        let modes = Modes {
            application_cursor_keys: console::application_cursor_keys(),
            application_keypad: console::application_keypad(),
        };
        let outcome = DECODER.lock().decode(scancode, modes);
        match outcome {
            Outcome::Nothing => {}
            Outcome::Bytes(bytes) => bytes.into_iter().for_each(|byte| console::receive(Terminal::Screen, byte)),
            Outcome::Restart => {
                let hook = RESTART_HOOK.load(Relaxed);
                if !hook.is_null() {
                    // SAFETY: the only non-null value ever stored is a `fn()`, by `set_restart_hook`.
                    let hook = unsafe { core::mem::transmute::<*mut (), fn()>(hook) };
                    hook();
                }
            }
        }
    }
}
