//! Linux's line discipline N_TTY: what a terminal does with each byte that is typed or printed (termios(3)).
//!
//! Pure: typed bytes, written bytes and reads come in; bytes for the device and signals go out to a [`Sink`]. Who waits, who
//! may read, and whom a signal goes to, is decided by the terminal around it. Where the manual leaves questions, Linux's
//! answers are kept; the tests put the same bytes through a pseudo-terminal of the host.

#![expect(clippy::indexing_slicing, reason = "positions are taken modulo the buffer's length")]

mod erase;
mod latin1;
mod output;
mod reading;

use super::termios::{ControlCharacter, InputFlags, LocalFlags, Termios};
use arrayvec::ArrayVec;
use erase::Erase;
use latin1::{CASE_DISTANCE, is_upper};

/// How much typing waits for a reader; a longer line is cut.
const BUFFER_BYTES: usize = 4096;
/// Output on its way to the device: passed on in pieces of this size, and kept while output is stopped.
const PENDING_BYTES: usize = 256;
const TAB_COLUMNS: usize = 8;

/// What stands in the buffer for an end-of-file character. Only marked places are looked at for it.
const END_OF_FILE_MARK: u8 = 0;

/// A signal for the terminal's foreground process group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TerminalSignal {
    /// SIGINT.
    Interrupt,
    /// SIGQUIT.
    Quit,
    /// SIGTSTP.
    Suspend,
}

/// The terminal around the line discipline.
pub trait Sink {
    /// Bytes for the screen or the line.
    fn output(&mut self, bytes: &[u8]);
    fn signal(&mut self, signal: TerminalSignal);
}

/// How far a read has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The read returns what it has: zero bytes are the end of the file.
    Done,
    /// More must arrive first; with a number, the read returns what it has after so many tenths of a second without any.
    Wait { tenths: Option<u8> },
}

/// A read under way: [`LineDiscipline::read`] goes on with it whenever bytes may have arrived.
#[derive(Clone, Copy, Debug, Default)]
pub struct Read {
    pub count: usize,
}

pub struct LineDiscipline {
    termios: Termios,
    bytes: [u8; BUFFER_BYTES],
    /// Which places of `bytes` end a line.
    line_ends: [u64; BUFFER_BYTES / 64],
    // Positions count on for ever and wrap with the buffer's size: tail <= complete <= head.
    /// The next byte to be read.
    tail: usize,
    /// The end of the last complete line.
    complete: usize,
    /// Where the next byte goes.
    head: usize,
    /// The next byte is taken as it is (VLNEXT came before it).
    literal: bool,
    /// ECHOPRT: erased characters are being shown between `\` and `/`.
    erasing: bool,
    /// Output is stopped: by VSTOP, or by tcflow().
    stopped: bool,
    /// It was tcflow(), and only tcflow() lets it go on.
    held_back: bool,
    /// The device's column, for tabs.
    column: usize,
    /// The column in which the line being typed began.
    line_column: usize,
    pending: ArrayVec<u8, PENDING_BYTES>,
}

impl LineDiscipline {
    pub const fn new() -> Self {
        Self {
            termios: Termios::INITIAL,
            bytes: [0; BUFFER_BYTES],
            line_ends: [0; BUFFER_BYTES / 64],
            tail: 0,
            complete: 0,
            head: 0,
            literal: false,
            erasing: false,
            stopped: false,
            held_back: false,
            column: 0,
            line_column: 0,
            pending: ArrayVec::new_const(),
        }
    }

    /// As new, after a hang-up.
    pub fn reset(&mut self) {
        self.flush_input();
        self.termios = Termios::INITIAL;
        self.stopped = false;
        self.held_back = false;
        self.pending.clear();
    }

    // Settings.

    pub fn termios(&self) -> &Termios {
        &self.termios
    }

    /// Changes the settings. What is in the buffer stays: leaving canonical mode makes half a line readable, entering it
    /// makes what is there a line.
    pub fn set_termios(&mut self, termios: Termios, sink: &mut impl Sink) {
        let changed = self.termios.local() ^ termios.local();
        let output_was_controlled = self.input(InputFlags::IXON);
        self.termios = termios;
        if changed.contains(LocalFlags::ICANON) {
            self.line_ends = [0; BUFFER_BYTES / 64];
            self.complete = self.tail;
            if self.local(LocalFlags::ICANON) && self.head != self.tail {
                self.mark_line_end(self.head.wrapping_sub(1));
                self.complete = self.head;
            }
            self.erasing = false;
            self.literal = false;
        }
        if output_was_controlled && !self.input(InputFlags::IXON) {
            self.start(sink);
        }
    }

    fn input(&self, flag: InputFlags) -> bool {
        self.termios.input().contains(flag)
    }

    fn local(&self, flag: LocalFlags) -> bool {
        self.termios.local().contains(flag)
    }

    fn is(&self, byte: u8, which: ControlCharacter) -> bool {
        self.termios.is(byte, which)
    }

    // Typed bytes.

    /// Whether a typed byte finds room. Otherwise it should wait where it is: [`LineDiscipline::receive`] would drop it.
    pub fn has_room(&self) -> bool {
        self.held() + 1 < BUFFER_BYTES || self.line_may_overflow()
    }

    fn held(&self) -> usize {
        self.head.wrapping_sub(self.tail)
    }

    /// The buffer holds nothing but a line without an end: the end must still find room, or nobody could ever read.
    fn line_may_overflow(&self) -> bool {
        self.local(LocalFlags::ICANON) && self.complete == self.tail
    }

    /// Takes a byte that was typed.
    pub fn receive(&mut self, byte: u8, sink: &mut impl Sink) {
        if !self.has_room() {
            return;
        }
        if self.held() == BUFFER_BYTES {
            self.head = self.head.wrapping_sub(1);
        }
        let mut byte = byte;
        if self.input(InputFlags::ISTRIP) {
            byte &= 0x7f;
        }
        if self.input(InputFlags::IUCLC) && self.local(LocalFlags::IEXTEN) {
            byte += if is_upper(byte) { CASE_DISTANCE } else { 0 };
        }
        if core::mem::take(&mut self.literal) {
            self.store_with_echo(byte, sink);
        } else if self.is_special(byte) {
            self.receive_special(byte, sink);
        } else {
            self.store_with_echo(byte, sink);
        }
        self.pass_on(sink);
    }

    /// Whether the settings give a byte a meaning of its own.
    fn is_special(&self, byte: u8) -> bool {
        use ControlCharacter as C;
        let any = |characters: &[C]| characters.iter().any(|&character| self.is(byte, character));
        let extended = self.local(LocalFlags::IEXTEN);
        (byte == b'\r' && self.termios.input().intersects(InputFlags::IGNCR | InputFlags::ICRNL))
            || (byte == b'\n' && (self.input(InputFlags::INLCR) || self.local(LocalFlags::ICANON)))
            || (self.input(InputFlags::IXON) && any(&[C::Start, C::Stop]))
            || (self.local(LocalFlags::ISIG) && any(&[C::Interrupt, C::Quit, C::Suspend]))
            || (self.local(LocalFlags::ICANON)
                && (any(&[C::Erase, C::Kill, C::EndOfFile, C::EndOfLine])
                    || (extended && any(&[C::WordErase, C::LiteralNext, C::SecondEndOfLine]))
                    || (extended && self.local(LocalFlags::ECHO) && any(&[C::Reprint]))))
    }

    fn receive_special(&mut self, byte: u8, sink: &mut impl Sink) {
        if self.input(InputFlags::IXON) {
            if self.is(byte, ControlCharacter::Start) {
                return self.start(sink);
            }
            if self.is(byte, ControlCharacter::Stop) {
                return self.stop();
            }
        }
        if let Some(signal) = self.signal_of(byte).filter(|_| self.local(LocalFlags::ISIG)) {
            return self.raise(signal, byte, sink);
        }
        self.start_by_any();
        let byte = match byte {
            b'\r' if self.input(InputFlags::IGNCR) => return,
            b'\r' if self.input(InputFlags::ICRNL) => b'\n',
            b'\n' if self.input(InputFlags::INLCR) => b'\r',
            other => other,
        };
        if self.local(LocalFlags::ICANON) && self.edit_line(byte, sink) {
            return;
        }
        if self.local(LocalFlags::ECHO) {
            self.finish_erasing(sink);
            if byte == b'\n' {
                self.echo_as_is(b'\n', sink);
            } else {
                self.note_line_column();
                self.echo(byte, sink);
            }
        }
        self.store(byte);
    }

    fn signal_of(&self, byte: u8) -> Option<TerminalSignal> {
        [
            (ControlCharacter::Interrupt, TerminalSignal::Interrupt),
            (ControlCharacter::Quit, TerminalSignal::Quit),
            (ControlCharacter::Suspend, TerminalSignal::Suspend),
        ]
        .into_iter()
        .find_map(|(character, signal)| self.is(byte, character).then_some(signal))
    }

    fn raise(&mut self, signal: TerminalSignal, byte: u8, sink: &mut impl Sink) {
        if !self.local(LocalFlags::NOFLSH) {
            self.flush_input();
            self.pending.clear();
        }
        sink.signal(signal);
        if self.input(InputFlags::IXON) {
            self.stopped = self.held_back;
        }
        if self.local(LocalFlags::ECHO) {
            self.echo(byte, sink);
        }
    }

    /// What canonical mode does with a special byte; false if it is just stored.
    fn edit_line(&mut self, byte: u8, sink: &mut impl Sink) -> bool {
        use ControlCharacter as C;
        let extended = self.local(LocalFlags::IEXTEN);
        let echo = self.local(LocalFlags::ECHO);
        if self.is(byte, C::Erase) {
            self.erase(Erase::Character, sink);
        } else if self.is(byte, C::Kill) {
            self.kill_line(sink);
        } else if extended && self.is(byte, C::WordErase) {
            self.erase(Erase::Word, sink);
        } else if extended && self.is(byte, C::LiteralNext) {
            self.literal = true;
            if echo {
                self.finish_erasing(sink);
                if self.local(LocalFlags::ECHOCTL) {
                    self.emit(b'^', sink);
                    self.emit(0x08, sink);
                }
            }
        } else if extended && echo && self.is(byte, C::Reprint) {
            self.reprint(byte, sink);
        } else if byte == b'\n' {
            if echo || self.local(LocalFlags::ECHONL) {
                self.echo_as_is(b'\n', sink);
            }
            self.end_line(b'\n');
        } else if self.is(byte, C::EndOfFile) {
            self.end_line(END_OF_FILE_MARK);
        } else if self.is(byte, C::EndOfLine) || (extended && self.is(byte, C::SecondEndOfLine)) {
            if echo {
                self.note_line_column();
                self.echo(byte, sink);
            }
            if byte == 0xff && self.input(InputFlags::PARMRK) {
                self.push(byte);
            }
            self.end_line(byte);
        } else {
            return false;
        }
        true
    }

    /// With IXANY, any byte lets stopped output go on.
    fn start_by_any(&mut self) {
        if self.input(InputFlags::IXON) && self.input(InputFlags::IXANY) {
            self.stopped = self.held_back;
        }
    }

    fn store_with_echo(&mut self, byte: u8, sink: &mut impl Sink) {
        self.start_by_any();
        if self.local(LocalFlags::ECHO) {
            self.finish_erasing(sink);
            self.note_line_column();
            self.echo(byte, sink);
        }
        self.store(byte);
    }

    fn store(&mut self, byte: u8) {
        if byte == 0xff && self.input(InputFlags::PARMRK) {
            self.push(byte);
        }
        self.push(byte);
    }

    fn push(&mut self, byte: u8) {
        if self.held() < BUFFER_BYTES {
            self.bytes[self.head % BUFFER_BYTES] = byte;
            self.head = self.head.wrapping_add(1);
        }
    }

    fn end_line(&mut self, last: u8) {
        self.mark_line_end(self.head);
        self.push(last);
        self.complete = self.head;
    }

    fn mark_line_end(&mut self, position: usize) {
        let place = position % BUFFER_BYTES;
        self.line_ends[place / 64] |= 1 << (place % 64);
    }

    fn ends_line(&self, position: usize) -> bool {
        let place = position % BUFFER_BYTES;
        self.line_ends[place / 64] >> (place % 64) & 1 != 0
    }

    fn byte_at(&self, position: usize) -> u8 {
        self.bytes[position % BUFFER_BYTES]
    }
}

impl Default for LineDiscipline {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;
