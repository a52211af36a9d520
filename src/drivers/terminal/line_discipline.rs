//! Linux's line discipline N_TTY: what a terminal does with each byte that is typed or printed (termios(3)).
//!
//! Pure: typed bytes, written bytes and reads come in; bytes for the device and signals go out to a [`Sink`]. Who waits, who
//! may read, and whom a signal goes to, is decided by the terminal around it. Where the manual leaves questions, Linux's
//! answers are kept; the tests put the same bytes through a pseudo-terminal of the host.

use super::termios::{ControlCharacter, InputFlags, LocalFlags, OutputFlags, Termios};
use arrayvec::ArrayVec;

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
    /// Output was stopped by VSTOP or tcflow().
    stopped: bool,
    /// The device's column, for tabs.
    column: usize,
    /// The column in which the line being typed began.
    line_column: usize,
    pending: ArrayVec<u8, PENDING_BYTES>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Erase {
    Character,
    Word,
    Line,
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
            column: 0,
            line_column: 0,
            pending: ArrayVec::new_const(),
        }
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

    // Flow of output.

    /// Whether [`LineDiscipline::write`] takes anything now.
    pub fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// tcflow(TCOOFF).
    pub fn stop(&mut self) {
        self.stopped = true;
    }

    /// tcflow(TCOON): what was held back goes out.
    pub fn start(&mut self, sink: &mut impl Sink) {
        self.stopped = false;
        self.pass_on(sink);
    }

    /// Takes a program's bytes and passes them on as OPOST and its kin say; how many were taken: none while output is stopped.
    pub fn write(&mut self, bytes: &[u8], sink: &mut impl Sink) -> usize {
        if self.stopped {
            return 0;
        }
        if self.termios.output().contains(OutputFlags::OPOST) {
            for &byte in bytes {
                self.process_output(byte, sink);
            }
            self.pass_on(sink);
        } else {
            sink.output(bytes);
        }
        bytes.len()
    }

    /// One byte with output processing, whether printed or echoed.
    fn process_output(&mut self, byte: u8, sink: &mut impl Sink) {
        let flags = self.termios.output();
        let mut byte = byte;
        match byte {
            b'\n' => {
                if flags.contains(OutputFlags::ONLRET) {
                    self.column = 0;
                }
                if flags.contains(OutputFlags::ONLCR) {
                    self.column = 0;
                    self.line_column = 0;
                    self.emit(b'\r', sink);
                } else {
                    self.line_column = self.column;
                }
            }
            b'\r' => {
                if flags.contains(OutputFlags::ONOCR) && self.column == 0 {
                    return;
                }
                let becomes_line_feed = flags.contains(OutputFlags::OCRNL);
                if !becomes_line_feed || flags.contains(OutputFlags::ONLRET) {
                    self.column = 0;
                    self.line_column = 0;
                }
                if becomes_line_feed {
                    byte = b'\n';
                }
            }
            b'\t' => {
                let spaces = TAB_COLUMNS - self.column % TAB_COLUMNS;
                self.column = self.column.wrapping_add(spaces);
                if flags.contains(OutputFlags::XTABS) {
                    return (0..spaces).for_each(|_| self.emit(b' ', sink));
                }
            }
            0x08 => self.column = self.column.saturating_sub(1),
            _ if byte.is_ascii_control() => {}
            _ => {
                if flags.contains(OutputFlags::OLCUC) {
                    byte -= if is_lower(byte) { CASE_DISTANCE } else { 0 };
                }
                if !self.is_continuation(byte) {
                    self.column = self.column.wrapping_add(1);
                }
            }
        }
        self.emit(byte, sink);
    }

    /// A byte of a character that began before it.
    fn is_continuation(&self, byte: u8) -> bool {
        self.input(InputFlags::IUTF8) && byte & 0xc0 == 0x80
    }

    fn emit(&mut self, byte: u8, sink: &mut impl Sink) {
        if self.pending.is_full() {
            self.pass_on(sink);
        }
        // While output is stopped echoes are kept; what doesn't fit is never seen, which is all that is lost.
        let _ = self.pending.try_push(byte);
    }

    fn pass_on(&mut self, sink: &mut impl Sink) {
        if !self.stopped && !self.pending.is_empty() {
            sink.output(&self.pending);
            self.pending.clear();
        }
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
        if self.local(LocalFlags::ISIG) {
            if let Some(signal) = self.signal_of(byte) {
                return self.raise(signal, byte, sink);
            }
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
            self.stopped = false;
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
            self.stopped = false;
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

    // Echo.

    /// The typed line begins where the device's column is now.
    fn note_line_column(&mut self) {
        if self.head == self.complete {
            self.line_column = self.column;
        }
    }

    /// Shows a byte, a control character as `^X`.
    fn echo(&mut self, byte: u8, sink: &mut impl Sink) {
        if self.local(LocalFlags::ECHOCTL) && byte.is_ascii_control() && byte != b'\t' {
            self.emit(b'^', sink);
            self.emit(byte ^ 0x40, sink);
            self.column = self.column.wrapping_add(2);
        } else {
            self.echo_as_is(byte, sink);
        }
    }

    fn echo_as_is(&mut self, byte: u8, sink: &mut impl Sink) {
        if byte == 0xff {
            // A marker in Linux's queue of echoes, which lets the byte pass unprocessed.
            self.emit(byte, sink);
            self.column = self.column.wrapping_add(1);
        } else if self.termios.output().contains(OutputFlags::OPOST) {
            self.process_output(byte, sink);
        } else {
            self.emit(byte, sink);
        }
    }

    fn finish_erasing(&mut self, sink: &mut impl Sink) {
        if core::mem::take(&mut self.erasing) {
            self.echo_as_is(b'/', sink);
        }
    }

    fn reprint(&mut self, byte: u8, sink: &mut impl Sink) {
        self.finish_erasing(sink);
        self.echo(byte, sink);
        self.echo_as_is(b'\n', sink);
        let mut position = self.complete;
        while position != self.head {
            self.echo(self.byte_at(position), sink);
            position = position.wrapping_add(1);
        }
    }

    // Erasing.

    fn kill_line(&mut self, sink: &mut impl Sink) {
        if self.head == self.complete {
            return;
        }
        let visibly = LocalFlags::ECHOK | LocalFlags::ECHOKE | LocalFlags::ECHOE;
        if self.local(LocalFlags::ECHO) && self.local(visibly) {
            return self.erase(Erase::Line, sink);
        }
        self.head = self.complete;
        if self.local(LocalFlags::ECHO) {
            self.finish_erasing(sink);
            self.echo(self.termios.character(ControlCharacter::Kill), sink);
            if self.local(LocalFlags::ECHOK) {
                self.echo_as_is(b'\n', sink);
            }
        }
    }

    fn erase(&mut self, what: Erase, sink: &mut impl Sink) {
        if self.head == self.complete {
            return;
        }
        let mut seen_word = false;
        while self.head != self.complete {
            let mut start = self.head.wrapping_sub(1);
            while self.is_continuation(self.byte_at(start)) && start != self.complete {
                start = start.wrapping_sub(1);
            }
            let first = self.byte_at(start);
            if self.is_continuation(first) {
                // No character begins in this line: it isn't erased by halves.
                break;
            }
            if what == Erase::Word {
                if is_alphanumeric(first) || first == b'_' {
                    seen_word = true;
                } else if seen_word {
                    break;
                }
            }
            let end = core::mem::replace(&mut self.head, start);
            if self.local(LocalFlags::ECHO) {
                self.show_erasing(what, start, end, sink);
            }
            if what == Erase::Character {
                break;
            }
        }
        if self.head == self.complete && self.local(LocalFlags::ECHO) {
            self.finish_erasing(sink);
        }
    }

    /// Shows that the character from `start` to `end` is gone.
    fn show_erasing(&mut self, what: Erase, start: usize, end: usize, sink: &mut impl Sink) {
        let byte = self.byte_at(start);
        if self.local(LocalFlags::ECHOPRT) {
            if !core::mem::replace(&mut self.erasing, true) {
                self.echo_as_is(b'\\', sink);
            }
            self.echo(byte, sink);
            let mut position = start.wrapping_add(1);
            while position != end {
                self.echo_as_is(self.byte_at(position), sink);
                position = position.wrapping_add(1);
            }
        } else if what == Erase::Character && !self.local(LocalFlags::ECHOE) {
            self.echo(self.termios.character(ControlCharacter::Erase), sink);
        } else if byte == b'\t' {
            self.erase_tab(sink);
        } else {
            let shown = match byte.is_ascii_control() {
                true if self.local(LocalFlags::ECHOCTL) => 2,
                true => 0,
                false => 1,
            };
            for _ in 0..shown {
                [0x08, b' ', 0x08].into_iter().for_each(|byte| self.echo_as_is(byte, sink));
            }
        }
    }

    /// Goes back over a tab that stood at `head`: as far as the text before it, on the same line, tells.
    fn erase_tab(&mut self, sink: &mut impl Sink) {
        let mut columns = 0usize;
        let mut after_tab = false;
        let mut position = self.head;
        while position != self.complete && !after_tab {
            position = position.wrapping_sub(1);
            match self.byte_at(position) {
                b'\t' => after_tab = true,
                byte if byte.is_ascii_control() => columns += if self.local(LocalFlags::ECHOCTL) { 2 } else { 0 },
                byte if self.is_continuation(byte) => {}
                _ => columns += 1,
            }
        }
        if !after_tab {
            columns = columns.wrapping_add(self.line_column);
        }
        for _ in 0..TAB_COLUMNS - columns % TAB_COLUMNS {
            self.emit(0x08, sink);
            self.column = self.column.saturating_sub(1);
        }
    }

    // Reading.

    /// Whether a read would return something at once: for poll(2).
    pub fn is_readable(&self) -> bool {
        if self.local(LocalFlags::ICANON) {
            return self.complete != self.tail;
        }
        let wait_for_more = self.termios.character(ControlCharacter::Time) == 0;
        let minimum = if wait_for_more { self.termios.character(ControlCharacter::Minimum) } else { 1 };
        self.held() >= usize::from(minimum.max(1))
    }

    /// FIONREAD: how many bytes could be read.
    pub fn readable_bytes(&self) -> usize {
        if !self.local(LocalFlags::ICANON) {
            return self.held();
        }
        let is_byte = |position: usize| !(self.ends_line(position) && self.byte_at(position) == END_OF_FILE_MARK);
        let length = self.complete.wrapping_sub(self.tail);
        (0..length).filter(|&offset| is_byte(self.tail.wrapping_add(offset))).count()
    }

    /// Forgets what was typed and not read: tcflush(TCIFLUSH).
    pub fn flush_input(&mut self) {
        self.line_ends = [0; BUFFER_BYTES / 64];
        self.tail = 0;
        self.complete = 0;
        self.head = 0;
        self.erasing = false;
        self.literal = false;
    }

    /// Goes on with a read into `buffer`, all of which belongs to it; `read.count` bytes of it are filled so far.
    pub fn read(&mut self, read: &mut Read, buffer: &mut [u8]) -> Progress {
        if read.count >= buffer.len() {
            return Progress::Done;
        }
        if self.local(LocalFlags::ICANON) { self.read_line(read, buffer) } else { self.read_raw(read, buffer) }
    }

    /// One line, or as much of it as fits.
    fn read_line(&mut self, read: &mut Read, buffer: &mut [u8]) -> Progress {
        if self.tail == self.complete {
            return Progress::Wait { tenths: None };
        }
        while self.tail != self.complete {
            let at_end = self.take_line_end(self.tail);
            let byte = self.byte_at(self.tail);
            if at_end && byte == END_OF_FILE_MARK {
                self.tail = self.tail.wrapping_add(1);
                return Progress::Done;
            }
            let Some(place) = buffer.get_mut(read.count) else {
                // The line goes on: its end stays marked.
                if at_end {
                    self.mark_line_end(self.tail);
                }
                return Progress::Done;
            };
            *place = byte;
            read.count += 1;
            self.tail = self.tail.wrapping_add(1);
            if at_end {
                return Progress::Done;
            }
        }
        Progress::Done
    }

    /// Whether that place ends a line; if so, no longer.
    fn take_line_end(&mut self, position: usize) -> bool {
        let ends = self.ends_line(position);
        let place = position % BUFFER_BYTES;
        self.line_ends[place / 64] &= !(1 << (place % 64));
        ends
    }

    /// Without lines: VMIN bytes, or what comes within VTIME.
    fn read_raw(&mut self, read: &mut Read, buffer: &mut [u8]) -> Progress {
        let (minimum, time) =
            (self.termios.character(ControlCharacter::Minimum), self.termios.character(ControlCharacter::Time));
        while self.tail != self.head {
            let Some(place) = buffer.get_mut(read.count) else { return Progress::Done };
            *place = self.byte_at(self.tail);
            self.tail = self.tail.wrapping_add(1);
            self.complete = self.tail;
            read.count += 1;
        }
        if read.count >= usize::from(minimum.max(1)).min(buffer.len()) {
            return Progress::Done;
        }
        match (minimum, time) {
            (0, 0) => Progress::Done,
            // VTIME runs from the start of the read.
            (0, time) => Progress::Wait { tenths: Some(time) },
            // VTIME runs from the first byte on.
            (_, time) => Progress::Wait { tenths: (time != 0 && read.count > 0).then_some(time) },
        }
    }
}

impl Default for LineDiscipline {
    fn default() -> Self {
        Self::new()
    }
}

// Linux takes bytes for Latin-1 here, whatever the terminal speaks; so words of UTF-8 are erased whole.

fn is_upper(byte: u8) -> bool {
    byte.is_ascii_uppercase() || matches!(byte, 0xc0..=0xd6 | 0xd8..=0xde)
}

fn is_lower(byte: u8) -> bool {
    byte.is_ascii_lowercase() || matches!(byte, 0xdf..=0xf6 | 0xf8..=0xff)
}

fn is_alphanumeric(byte: u8) -> bool {
    byte.is_ascii_digit() || is_upper(byte) || is_lower(byte)
}

const CASE_DISTANCE: u8 = b'a' - b'A';

#[cfg(test)]
mod tests;
