//! From scancodes to the bytes that a terminal sends: scancode set 1, an American keyboard, the key sequences of Linux's
//! console (TERM=linux), and xterm's where a modifier is held.
//!
//! Plain Rust: scancodes and modes in, bytes out.

#![expect(clippy::indexing_slicing, reason = "keys are matched by range before their tables are asked")]

use arrayvec::{ArrayString, ArrayVec};
use core::fmt::Write;

/// The longest sequence is that of a function key, with ESC before it for Alt.
pub type Bytes = ArrayVec<u8, 12>;

/// What a scancode comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing to send: a modifier, a released key, half a code.
    Nothing,
    Bytes(Bytes),
    /// Ctrl-Alt-Del.
    Restart,
}

/// What the program on the screen has asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Modes {
    pub application_cursor_keys: bool,
    pub application_keypad: bool,
}

const RELEASED: u8 = 0x80;
const EXTENDED: u8 = 0xe0;
/// Begins the Pause key's six bytes, which come in two threes and are never released.
const PAUSE: u8 = 0xe1;

const LEFT_SHIFT: u8 = 0x2a;
const RIGHT_SHIFT: u8 = 0x36;
const CONTROL: u8 = 0x1d;
const ALT: u8 = 0x38;
const CAPS_LOCK: u8 = 0x3a;
const NUM_LOCK: u8 = 0x45;
const ENTER: u8 = 0x1c;
const SLASH: u8 = 0x35;
const KEYPAD_STAR: u8 = 0x37;
const KEYPAD_FIRST: u8 = 0x47;
const KEYPAD_LAST: u8 = 0x53;
const F1: u8 = 0x3b;
const F10: u8 = 0x44;
const F11: u8 = 0x57;
const F12: u8 = 0x58;
const DELETE_KEY: u8 = 0x53;

/// Scancodes 0 to 0x39 without and with shift. A zero is a key that types no character.
const PLAIN: &[u8; 0x3a] = b"\0\x1b1234567890-=\x7f\tqwertyuiop[]\r\0asdfghjkl;'`\0\\zxcvbnm,./\0*\0 ";
const SHIFTED: &[u8; 0x3a] = b"\0\x1b!@#$%^&*()_+\x7f\tQWERTYUIOP{}\r\0ASDFGHJKL:\"~\0|ZXCVBNM<>?\0*\0 ";
/// The key between left shift and Z that European keyboards have.
const EXTRA_KEY: u8 = 0x56;

/// The keypad from 7 to the point, with Num Lock.
const KEYPAD: &[u8; 13] = b"789-456+1230.";

/// A key of the cursor block, or of the keypad without Num Lock.
#[derive(Clone, Copy)]
enum Navigation {
    /// Its sequence ends in this letter.
    Arrow(u8),
    /// Its sequence has this number, and ends in `~`.
    Numbered(u8),
    /// The keypad's 5.
    Middle,
}

#[derive(Debug, Default)]
pub struct Decoder {
    extended: bool,
    /// How many bytes of the Pause key are still to come.
    pause_bytes: u8,
    left_shift: bool,
    right_shift: bool,
    /// Left and right, as for Alt.
    control: [bool; 2],
    alt: [bool; 2],
    caps_lock: bool,
    keypad_moves: bool,
}

impl Decoder {
    pub const fn new() -> Self {
        Self {
            extended: false,
            pause_bytes: 0,
            left_shift: false,
            right_shift: false,
            control: [false; 2],
            alt: [false; 2],
            caps_lock: false,
            keypad_moves: false,
        }
    }

    pub fn decode(&mut self, scancode: u8, modes: Modes) -> Outcome {
        if self.pause_bytes > 0 {
            self.pause_bytes -= 1;
            return Outcome::Nothing;
        }
        match scancode {
            EXTENDED => {
                self.extended = true;
                return Outcome::Nothing;
            }
            PAUSE => {
                self.pause_bytes = 2;
                return Outcome::Nothing;
            }
            _ => {}
        }
        let extended = core::mem::take(&mut self.extended);
        let (key, pressed) = (scancode & !RELEASED, scancode & RELEASED == 0);
        if self.modifier(key, extended, pressed) || !pressed {
            return Outcome::Nothing;
        }
        if key == DELETE_KEY && self.control() && self.alt() {
            return Outcome::Restart;
        }
        let mut bytes = Bytes::new();
        match key {
            KEYPAD_FIRST..=KEYPAD_LAST => self.keypad(&mut bytes, key, extended, modes),
            F1..=F10 | F11 | F12 => self.function_key(&mut bytes, key),
            // Only these two of the keys with a prefix type a character; the others are media and power keys.
            ENTER | SLASH if extended => self.character(&mut bytes, PLAIN[usize::from(key)]),
            _ if extended => {}
            KEYPAD_STAR => self.character(&mut bytes, b'*'),
            EXTRA_KEY => self.character(&mut bytes, if self.shift() { b'|' } else { b'\\' }),
            _ => {
                if let Some(&plain) = PLAIN.get(usize::from(key)) {
                    self.character(&mut bytes, self.typed(key, plain));
                }
            }
        }
        if bytes.is_empty() { Outcome::Nothing } else { Outcome::Bytes(bytes) }
    }

    fn shift(&self) -> bool {
        self.left_shift || self.right_shift
    }

    fn control(&self) -> bool {
        self.control != [false; 2]
    }

    fn alt(&self) -> bool {
        self.alt != [false; 2]
    }

    /// Keeps track of a modifier; false for any other key.
    fn modifier(&mut self, key: u8, extended: bool, pressed: bool) -> bool {
        let side = usize::from(extended);
        match key {
            // With the prefix these are shifts that the keyboard makes up around cursor keys.
            LEFT_SHIFT | RIGHT_SHIFT if extended => {}
            LEFT_SHIFT => self.left_shift = pressed,
            RIGHT_SHIFT => self.right_shift = pressed,
            CONTROL => self.control[side] = pressed,
            ALT => self.alt[side] = pressed,
            CAPS_LOCK => self.caps_lock ^= pressed,
            NUM_LOCK => self.keypad_moves ^= pressed,
            _ => return false,
        }
        true
    }

    /// A character key with shift and Caps Lock applied.
    fn typed(&self, key: u8, plain: u8) -> u8 {
        let shifted = self.shift() != (self.caps_lock && plain.is_ascii_lowercase());
        if shifted { SHIFTED[usize::from(key)] } else { plain }
    }

    /// Sends a character with Control and Alt applied; 0 types nothing.
    fn character(&self, bytes: &mut Bytes, character: u8) {
        if character == 0 {
            return;
        }
        if character == b'\t' && self.shift() {
            return sequence(bytes, format_args!("\x1b[Z"));
        }
        let byte = if self.control() { controlled(character) } else { character };
        if self.alt() {
            bytes.push(0x1b);
        }
        bytes.push(byte);
    }

    fn keypad(&self, bytes: &mut Bytes, key: u8, extended: bool, modes: Modes) {
        let typed = KEYPAD[usize::from(key - KEYPAD_FIRST)];
        if !extended && (!self.keypad_moves || matches!(typed, b'+' | b'-')) {
            return self.character(bytes, typed);
        }
        if !extended && modes.application_keypad {
            // DEC's application keypad: p to y are the digits, n is the point.
            return sequence(bytes, format_args!("\x1bO{}", char::from(typed - b'.' + b'n')));
        }
        if let Some(navigation) = navigation(typed) {
            self.navigate(bytes, navigation, modes);
        }
    }

    fn navigate(&self, bytes: &mut Bytes, navigation: Navigation, modes: Modes) {
        let modifiers = self.modifiers();
        match (navigation, modifiers) {
            (Navigation::Arrow(letter), 1) => {
                let introducer = if modes.application_cursor_keys { 'O' } else { '[' };
                sequence(bytes, format_args!("\x1b{introducer}{}", char::from(letter)));
            }
            (Navigation::Arrow(letter), _) => sequence(bytes, format_args!("\x1b[1;{modifiers}{}", char::from(letter))),
            (Navigation::Numbered(number), 1) => sequence(bytes, format_args!("\x1b[{number}~")),
            (Navigation::Numbered(number), _) => sequence(bytes, format_args!("\x1b[{number};{modifiers}~")),
            (Navigation::Middle, _) => sequence(bytes, format_args!("\x1b[G")),
        }
    }

    /// F1 to F5 are `ESC [ [` and a letter, the others have numbers with gaps; with shift, F1 to F8 are F13 to F20.
    fn function_key(&self, bytes: &mut Bytes, key: u8) {
        const NUMBERS: [u8; 20] = [11, 12, 13, 14, 15, 17, 18, 19, 20, 21, 23, 24, 25, 26, 28, 29, 31, 32, 33, 34];
        let index = match key {
            F11 => 10,
            F12 => 11,
            _ => key - F1,
        };
        if self.alt() {
            bytes.push(0x1b);
        }
        let index = if self.shift() { index + 12 } else { index };
        match (index, NUMBERS.get(usize::from(index))) {
            (0..5, _) => sequence(bytes, format_args!("\x1b[[{}", char::from(b'A' + index))),
            (_, Some(number)) => sequence(bytes, format_args!("\x1b[{number}~")),
            (_, None) => bytes.clear(),
        }
    }

    /// xterm's number for the modifiers held: 1 is none.
    fn modifiers(&self) -> u8 {
        1 + u8::from(self.shift()) + 2 * u8::from(self.alt()) + 4 * u8::from(self.control())
    }
}

fn navigation(keypad: u8) -> Option<Navigation> {
    Some(match keypad {
        b'8' => Navigation::Arrow(b'A'),
        b'2' => Navigation::Arrow(b'B'),
        b'6' => Navigation::Arrow(b'C'),
        b'4' => Navigation::Arrow(b'D'),
        b'7' => Navigation::Numbered(1),
        b'0' => Navigation::Numbered(2),
        b'.' => Navigation::Numbered(3),
        b'1' => Navigation::Numbered(4),
        b'9' => Navigation::Numbered(5),
        b'3' => Navigation::Numbered(6),
        b'5' => Navigation::Middle,
        _ => return None,
    })
}

/// What Control makes of a character.
fn controlled(character: u8) -> u8 {
    match character {
        b'@'..=b'_' | b'a'..=b'z' => character & 0x1f,
        b' ' | b'2' => 0x00,
        b'3'..=b'7' => character - b'3' + 0x1b,
        b'8' | b'?' => 0x7f,
        b'/' | b'-' => 0x1f,
        // Control-Backspace is the other one of BS and DEL.
        0x7f => 0x08,
        _ => character,
    }
}

/// Adds a sequence. The longest fits, as the tests show; one that didn't would be left out whole.
fn sequence(bytes: &mut Bytes, text: core::fmt::Arguments) {
    let mut sequence = ArrayString::<8>::new();
    if sequence.write_fmt(text).is_ok() {
        bytes.extend(sequence.bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UP: [u8; 2] = [0xe0, 0x48];

    fn typed_in(modes: Modes, scancodes: &[u8]) -> String {
        let mut decoder = Decoder::new();
        let mut bytes = Vec::new();
        for &scancode in scancodes {
            match decoder.decode(scancode, modes) {
                Outcome::Bytes(more) => bytes.extend(more),
                Outcome::Restart => bytes.extend(b"<restart>"),
                Outcome::Nothing => {}
            }
        }
        String::from_utf8(bytes).unwrap()
    }

    fn typed(scancodes: &[u8]) -> String {
        typed_in(Modes::default(), scancodes)
    }

    #[test]
    fn letters_follow_shift_and_caps_lock() {
        assert_eq!(typed(&[0x1e, 0x9e, 0x2a, 0x1e, 0x9e, 0xaa, 0x1e]), "aAa");
        assert_eq!(typed(&[0x3a, 0xba, 0x1e, 0x02, 0x2a, 0x1e, 0x02, 0xaa, 0x3a, 0x1e]), "A1a!a");
        assert_eq!(typed(&[0x36, 0x28, 0x29, 0x2b, 0x33, 0x35]), "\"~|<?");
        assert_eq!(typed(&[0x1c, 0x0e, 0x0f, 0x01, 0x39, 0x2a, 0x0f]), "\r\x7f\t\x1b \x1b[Z");
    }

    #[test]
    fn control_and_alt_change_characters() {
        assert_eq!(typed(&[0x1d, 0x2e, 0x2c, 0x2b, 0x39, 0x9d, 0x2e]), "\x03\x1a\x1c\0c");
        assert_eq!(typed(&[0xe0, 0x1d, 0x1e, 0xe0, 0x9d, 0x1e]), "\x01a");
        assert_eq!(typed(&[0x38, 0x30, 0xb8, 0x30]), "\x1bbb");
        assert_eq!(typed(&[0x1d, 0x0e]), "\x08");
    }

    #[test]
    fn cursor_keys_send_what_the_program_asked_for() {
        assert_eq!(typed(&UP), "\x1b[A");
        let application = Modes { application_cursor_keys: true, ..Modes::default() };
        assert_eq!(typed_in(application, &UP), "\x1bOA");
        assert_eq!(typed(&[0x1d, 0xe0, 0x4d, 0x9d, 0x2a, 0xe0, 0x53]), "\x1b[1;5C\x1b[3;2~");
        assert_eq!(typed(&[0xe0, 0x47, 0xe0, 0x4f, 0xe0, 0x49, 0xe0, 0x51]), "\x1b[1~\x1b[4~\x1b[5~\x1b[6~");
        // The made-up shifts around them are not shifts.
        assert_eq!(typed(&[0xe0, 0x2a, 0xe0, 0x48, 0xe0, 0xc8, 0xe0, 0xaa, 0x1e]), "\x1b[Aa");
    }

    #[test]
    fn the_keypad_types_or_moves() {
        assert_eq!(typed(&[0x47, 0x4c, 0x53, 0x4e, 0xe0, 0x35, 0xe0, 0x1c, 0x37]), "75.+/\r*");
        assert_eq!(typed(&[0x45, 0xc5, 0x48, 0x53, 0x4a, 0x45, 0x48]), "\x1b[A\x1b[3~-8");
        let application = Modes { application_keypad: true, ..Modes::default() };
        assert_eq!(typed_in(application, &[0x45, 0x48, 0x53]), "\x1bOx\x1bOn");
    }

    #[test]
    fn function_keys_have_their_sequences() {
        assert_eq!(typed(&[0x3b, 0x3f, 0x40, 0x44, 0x57, 0x58]), "\x1b[[A\x1b[[E\x1b[17~\x1b[21~\x1b[23~\x1b[24~");
        assert_eq!(typed(&[0x2a, 0x3b, 0x42, 0x58]), "\x1b[25~\x1b[34~");
        assert_eq!(typed(&[0x38, 0x58]), "\x1b\x1b[24~");
    }

    #[test]
    fn pause_and_unknown_keys_type_nothing() {
        assert_eq!(typed(&[0xe1, 0x1d, 0x45, 0xe1, 0x9d, 0xc5, 0x1e]), "a");
        assert_eq!(typed(&[0xe0, 0x5b, 0xe0, 0xdb, 0x54, 0x7f, 0xfa, 0xfe, 0x00, 0xff, 0x1e]), "a");
    }

    #[test]
    fn three_keys_restart() {
        assert_eq!(typed(&[0x1d, 0x38, 0xe0, 0x53]), "<restart>");
        assert_eq!(typed(&[0xe0, 0x1d, 0xe0, 0x38, 0x53]), "<restart>");
    }

    #[test]
    fn no_scancodes_break_it() {
        let mut decoder = Decoder::new();
        let modes = Modes { application_cursor_keys: true, application_keypad: true };
        for round in 0..=255u8 {
            for scancode in 0..=255u8 {
                decoder.decode(scancode.wrapping_mul(round | 1), modes);
            }
        }
    }
}
