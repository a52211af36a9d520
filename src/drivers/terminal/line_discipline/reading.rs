//! What a read gets, and when: lines in canonical mode, else what VMIN and VTIME say.

use super::{BUFFER_BYTES, END_OF_FILE_MARK, LineDiscipline, Progress, Read};
use crate::drivers::terminal::termios::{ControlCharacter, LocalFlags};

impl LineDiscipline {
    /// Whether there is anything to go on with for a read that waits.
    pub fn has_input(&self) -> bool {
        if self.local(LocalFlags::ICANON) { self.complete != self.tail } else { self.held() > 0 }
    }

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
