//! Takes a terminal's output stream apart into characters, control codes and escape sequences (ECMA-48, VT102).
//!
//! It knows the sequences' form and not their meaning, which is the emulator's. Whatever arrives, each byte leaves it in
//! one of its states; broken UTF-8 becomes U+FFFD, and unknown or endless sequences are swallowed.

/// One thing for the emulator to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Print(char),
    Control(u8),
    /// ESC, perhaps an intermediate byte (0 if none), and a final one.
    Escape {
        intermediate: u8,
        last: u8,
    },
    /// CSI with its private marker and intermediate byte (0 if none). Its numbers are in [`Parser::parameters`].
    Sequence {
        marker: u8,
        intermediate: u8,
        last: u8,
    },
}

/// More numbers than this in one sequence are left out; the longest in use, a colour by its parts, has 16 at most.
const PARAMETERS_MAX: usize = 16;

const BELL: u8 = 0x07;
const CANCEL: u8 = 0x18;
const SUBSTITUTE: u8 = 0x1a;
const ESCAPE: u8 = 0x1b;
const DELETE: u8 = 0x7f;

/// What the console of Linux takes after `ESC ] P`: a palette entry in seven hexadecimal digits, and no terminator.
const LINUX_PALETTE_DIGITS: u8 = 7;

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Ground,
    Escape,
    Sequence,
    /// A sequence that broke its form: swallowed up to its final byte.
    BadSequence,
    /// `ESC ]` was just read.
    CommandStart,
    /// So many bytes are still to be swallowed.
    Skip(u8),
    /// A string for the terminal (OSC, DCS, APC, PM, SOS): swallowed up to BEL or ST.
    String,
}

pub struct Parser {
    state: State,
    marker: u8,
    intermediate: u8,
    parameters: [u16; PARAMETERS_MAX],
    /// How many are complete; the one being read is at this index, if it fits.
    parameter_count: usize,
    utf8: Utf8,
}

impl Parser {
    pub const fn new() -> Self {
        Self {
            state: State::Ground,
            marker: 0,
            intermediate: 0,
            parameters: [0; PARAMETERS_MAX],
            parameter_count: 0,
            utf8: Utf8::new(),
        }
    }

    /// The numbers of the sequence just reported. An absent one is 0.
    pub fn parameters(&self) -> &[u16] {
        self.parameters.get(..=self.parameter_count).unwrap_or(&self.parameters)
    }

    /// Reads one byte. A character that follows broken UTF-8 is reported after the replacement: hence two actions.
    pub fn advance(&mut self, byte: u8) -> [Option<Action>; 2] {
        if self.state == State::Ground && !self.utf8.is_between_characters() {
            match self.utf8.continue_with(byte) {
                Continued::More => return [None, None],
                Continued::Character(character) => return [printed(character), None],
                Continued::Broken => return [Some(Action::Print(char::REPLACEMENT_CHARACTER)), self.step(byte)],
            }
        }
        [self.step(byte), None]
    }

    fn step(&mut self, byte: u8) -> Option<Action> {
        match byte {
            CANCEL | SUBSTITUTE => {
                self.state = State::Ground;
                return None;
            }
            ESCAPE => {
                // Also ends a string: ST is ESC \, and the backslash is then an escape that means nothing.
                self.state = State::Escape;
                self.intermediate = 0;
                return None;
            }
            _ => {}
        }
        match self.state {
            State::Ground => self.ground(byte),
            State::String => {
                if byte == BELL {
                    self.state = State::Ground;
                }
                None
            }
            State::CommandStart => {
                self.state = match byte {
                    b'P' => State::Skip(LINUX_PALETTE_DIGITS),
                    b'R' | BELL => State::Ground,
                    _ => State::String,
                };
                None
            }
            State::Skip(bytes) => {
                self.state = if bytes > 1 { State::Skip(bytes - 1) } else { State::Ground };
                None
            }
            _ if byte < 0x20 => Some(Action::Control(byte)),
            _ if byte == DELETE => None,
            State::Escape => self.escape(byte),
            State::Sequence | State::BadSequence => self.sequence(byte),
        }
    }

    fn ground(&mut self, byte: u8) -> Option<Action> {
        match byte {
            0..0x20 => Some(Action::Control(byte)),
            0x20..DELETE => Some(Action::Print(char::from(byte))),
            DELETE => None,
            _ if self.utf8.start(byte) => None,
            _ => Some(Action::Print(char::REPLACEMENT_CHARACTER)),
        }
    }

    fn escape(&mut self, byte: u8) -> Option<Action> {
        self.state = State::Ground;
        match byte {
            0x20..=0x2f => {
                self.intermediate = byte;
                self.state = State::Escape;
                None
            }
            b'[' => {
                self.state = State::Sequence;
                self.marker = 0;
                self.intermediate = 0;
                self.parameters = [0; PARAMETERS_MAX];
                self.parameter_count = 0;
                None
            }
            b']' => {
                self.state = State::CommandStart;
                None
            }
            b'P' | b'X' | b'^' | b'_' => {
                self.state = State::String;
                None
            }
            _ => Some(Action::Escape { intermediate: self.intermediate, last: byte }),
        }
    }

    fn sequence(&mut self, byte: u8) -> Option<Action> {
        let at_start = self.parameter_count == 0 && self.parameters[0] == 0 && self.marker == 0;
        match byte {
            b'0'..=b'9' if self.intermediate == 0 => {
                if let Some(number) = self.parameters.get_mut(self.parameter_count) {
                    *number = number.saturating_mul(10).saturating_add(u16::from(byte - b'0'));
                }
            }
            // A colon sets sub-parameters apart (ISO 8613-6); those of colours read the same with semicolons.
            b';' | b':' => self.parameter_count = (self.parameter_count + 1).min(PARAMETERS_MAX),
            b'<'..=b'?' if at_start => self.marker = byte,
            // The keyboard echo of Linux's console, ESC [ [ and a letter, which means nothing on output.
            b'[' if at_start => self.state = State::Skip(1),
            0x20..=0x2f => self.intermediate = byte,
            0x40..=0x7e => {
                let complete = self.state == State::Sequence;
                self.state = State::Ground;
                return complete.then_some(Action::Sequence {
                    marker: self.marker,
                    intermediate: self.intermediate,
                    last: byte,
                });
            }
            _ => self.state = State::BadSequence,
        }
        None
    }
}

/// The 8-bit controls U+0080 to U+009F do nothing in UTF-8 mode, as in Linux.
fn printed(character: char) -> Option<Action> {
    (!character.is_control()).then_some(Action::Print(character))
}

/// A decoder that takes one byte at a time.
struct Utf8 {
    bytes: [u8; 4],
    length: usize,
    wanted: usize,
}

enum Continued {
    More,
    Character(char),
    Broken,
}

impl Utf8 {
    const fn new() -> Self {
        Self { bytes: [0; 4], length: 0, wanted: 0 }
    }

    fn is_between_characters(&self) -> bool {
        self.wanted == 0
    }

    /// False if no character can start with this byte.
    fn start(&mut self, byte: u8) -> bool {
        self.wanted = match byte {
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            _ => 0,
        };
        self.bytes[0] = byte;
        self.length = 1;
        self.wanted != 0
    }

    fn continue_with(&mut self, byte: u8) -> Continued {
        if byte & 0xc0 != 0x80 {
            self.wanted = 0;
            return Continued::Broken;
        }
        self.bytes[self.length] = byte;
        self.length += 1;
        if self.length < self.wanted {
            return Continued::More;
        }
        self.wanted = 0;
        // Overlong forms and surrogates are found here.
        match core::str::from_utf8(&self.bytes[..self.length]).ok().and_then(|text| text.chars().next()) {
            Some(character) => Continued::Character(character),
            None => Continued::Character(char::REPLACEMENT_CHARACTER),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn actions(bytes: &[u8]) -> Vec<(Action, Vec<u16>)> {
        let mut parser = Parser::new();
        let mut found = Vec::new();
        for &byte in bytes {
            for action in parser.advance(byte).into_iter().flatten() {
                found.push((action, parser.parameters().to_vec()));
            }
        }
        found
    }

    fn text(bytes: &[u8]) -> String {
        actions(bytes)
            .iter()
            .filter_map(|(action, _)| if let Action::Print(c) = action { Some(*c) } else { None })
            .collect()
    }

    #[test]
    fn sequences_carry_their_numbers() {
        let found = actions(b"\x1b[?25;1h\x1b[m\x1b[38:5:196;4m");
        let sequence = |marker, last| Action::Sequence { marker, intermediate: 0, last };
        assert_eq!(
            found,
            [
                (sequence(b'?', b'h'), vec![25, 1]),
                (sequence(0, b'm'), vec![0]),
                (sequence(0, b'm'), vec![38, 5, 196, 4])
            ]
        );
    }

    #[test]
    fn utf8_survives_being_split_and_broken() {
        assert_eq!(text("aé─😀z".as_bytes()), "aé─😀z");
        assert_eq!(text(b"a\xe2\x94b\xffc\xc0\x80d\xed\xa0\x80"), "a\u{fffd}b\u{fffd}c\u{fffd}\u{fffd}d\u{fffd}");
    }

    #[test]
    fn controls_inside_a_sequence_are_carried_out() {
        let found = actions(b"\x1b[2\n3A");
        assert_eq!(found[0].0, Action::Control(b'\n'));
        assert_eq!(found[1], (Action::Sequence { marker: 0, intermediate: 0, last: b'A' }, vec![23]));
    }

    #[test]
    fn strings_and_linux_palettes_leave_nothing_behind() {
        assert_eq!(text(b"\x1b]0;title\x07a\x1b]2;t\x1b\\b\x1bPq#1\x1b\\c"), "abc");
        assert_eq!(text(b"\x1b]P1ff0000a\x1b]Rb\x1b[[Ac\x1b[12\x18d"), "abcd");
    }

    #[test]
    fn any_number_of_numbers_is_taken() {
        let found = actions(&[b"\x1b[".as_slice(), "7;".repeat(100).as_bytes(), b"99999999m"].concat());
        assert_eq!(found[0].1, [7; PARAMETERS_MAX]);
    }
}
