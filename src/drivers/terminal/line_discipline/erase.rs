//! Erasing a character, a word or the line that is being typed, and showing that it is gone.

use super::latin1::is_alphanumeric;
use super::{LineDiscipline, Sink, TAB_COLUMNS};
use crate::drivers::terminal::termios::{ControlCharacter, LocalFlags};

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Erase {
    Character,
    Word,
    Line,
}

impl LineDiscipline {
    pub(super) fn kill_line(&mut self, sink: &mut impl Sink) {
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

    pub(super) fn erase(&mut self, what: Erase, sink: &mut impl Sink) {
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
    pub(super) fn show_erasing(&mut self, what: Erase, start: usize, end: usize, sink: &mut impl Sink) {
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
    pub(super) fn erase_tab(&mut self, sink: &mut impl Sink) {
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
}
