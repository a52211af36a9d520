//! Printing, with no buffer: a line that is printed is on the console, whatever happens next. `print!` writes one piece
//! at a time; what is printed at once by several processes is better formatted into a `Line` first.

use crate::syscall;
use core::fmt::{self, Write};

/// A descriptor that can be printed to.
pub struct Descriptor(pub i32);

impl Write for Descriptor {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        syscall::write_all(self.0, text.as_bytes());
        Ok(())
    }
}

/// Collects a line's pieces, so that it leaves in one write(2). What doesn't fit is written in a further one.
pub struct Line {
    descriptor: i32,
    length: usize,
    bytes: [u8; 256],
}

impl Line {
    pub const fn new(descriptor: i32) -> Line {
        Line { descriptor, length: 0, bytes: [0; 256] }
    }

    pub fn flush(&mut self) {
        syscall::write_all(self.descriptor, &self.bytes[..self.length]);
        self.length = 0;
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for &byte in text.as_bytes() {
            if self.length == self.bytes.len() {
                self.flush();
            }
            self.bytes[self.length] = byte;
            self.length += 1;
        }
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.flush();
    }
}

#[doc(hidden)]
pub fn print(descriptor: i32, arguments: fmt::Arguments<'_>) {
    // Neither a Line nor a Descriptor ever answers with an error.
    let _ = Line::new(descriptor).write_fmt(arguments);
}

#[macro_export]
macro_rules! print {
    ($($argument:tt)*) => { $crate::print::print(1, format_args!($($argument)*)) };
}

#[macro_export]
macro_rules! println {
    () => { $crate::print!("\n") };
    ($format:literal $($argument:tt)*) => { $crate::print!("{}\n", format_args!($format $($argument)*)) };
}

#[macro_export]
macro_rules! eprintln {
    ($format:literal $($argument:tt)*) => {
        $crate::print::print(2, format_args!("{}\n", format_args!($format $($argument)*)))
    };
}
