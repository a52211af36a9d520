//! What goes out to the device: programs' output as OPOST and its kin say, and the echo of what is typed.

use super::latin1::{CASE_DISTANCE, is_lower};
use super::{LineDiscipline, Sink, TAB_COLUMNS};
use crate::drivers::terminal::termios::{InputFlags, LocalFlags, OutputFlags};

impl LineDiscipline {
    /// Whether [`LineDiscipline::write`] takes anything now.
    pub fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// VSTOP was typed.
    pub(super) fn stop(&mut self) {
        self.stopped = true;
    }

    /// VSTART was typed, or IXON turned off: what waits goes out, unless a program holds it back.
    pub(super) fn start(&mut self, sink: &mut impl Sink) {
        self.stopped = self.held_back;
        self.pass_on(sink);
    }

    /// tcflow(TCOOFF).
    pub fn hold(&mut self) {
        self.held_back = true;
        self.stopped = true;
    }

    /// tcflow(TCOON), which undoes [`Self::hold`] and nothing else.
    pub fn let_go(&mut self, sink: &mut impl Sink) {
        if core::mem::take(&mut self.held_back) {
            self.start(sink);
        }
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
    pub(super) fn process_output(&mut self, byte: u8, sink: &mut impl Sink) {
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
    pub(super) fn is_continuation(&self, byte: u8) -> bool {
        self.input(InputFlags::IUTF8) && byte & 0xc0 == 0x80
    }

    pub(super) fn emit(&mut self, byte: u8, sink: &mut impl Sink) {
        if self.pending.is_full() {
            self.pass_on(sink);
        }
        // While output is stopped echoes are kept; what doesn't fit is never seen, which is all that is lost.
        let _ = self.pending.try_push(byte);
    }

    pub(super) fn pass_on(&mut self, sink: &mut impl Sink) {
        if !self.stopped && !self.pending.is_empty() {
            sink.output(&self.pending);
            self.pending.clear();
        }
    }

    /// The typed line begins where the device's column is now.
    pub(super) fn note_line_column(&mut self) {
        if self.head == self.complete {
            self.line_column = self.column;
        }
    }

    /// Shows a byte, a control character as `^X`.
    pub(super) fn echo(&mut self, byte: u8, sink: &mut impl Sink) {
        if self.local(LocalFlags::ECHOCTL) && byte.is_ascii_control() && byte != b'\t' {
            self.emit(b'^', sink);
            self.emit(byte ^ 0x40, sink);
            self.column = self.column.wrapping_add(2);
        } else {
            self.echo_as_is(byte, sink);
        }
    }

    pub(super) fn echo_as_is(&mut self, byte: u8, sink: &mut impl Sink) {
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

    pub(super) fn finish_erasing(&mut self, sink: &mut impl Sink) {
        if core::mem::take(&mut self.erasing) {
            self.echo_as_is(b'/', sink);
        }
    }

    pub(super) fn reprint(&mut self, byte: u8, sink: &mut impl Sink) {
        self.finish_erasing(sink);
        self.echo(byte, sink);
        self.echo_as_is(b'\n', sink);
        let mut position = self.complete;
        while position != self.head {
            self.echo(self.byte_at(position), sink);
            position = position.wrapping_add(1);
        }
    }
}
