//! The kernel's command line, in Linux's manner.

/// How much of the text is kept. Linux on x86 keeps 2,048 bytes.
pub const TEXT_MAX: usize = 4096;
pub const CONSOLES_MAX: usize = 4;

use arrayvec::{ArrayString, ArrayVec};

/// Where console output goes and input comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Console {
    /// `console=ttyS0`: the first serial port.
    Serial,
    /// `console=tty0`: screen and keyboard.
    Screen,
}

/// What happens after a panic (`panic=N`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterPanic {
    /// Stay, so that the screen can be read.
    Halt,
    RebootAtOnce,
    RebootAfterSeconds(u32),
}

/// The parsed command line. Unset options have the values that [`CommandLine::EMPTY`] shows.
#[derive(Clone, Debug)]
pub struct CommandLine {
    text: ArrayString<TEXT_MAX>,
    /// The words, quotes removed, each followed by a NUL: never longer than the text and one byte more.
    words: ArrayString<{ TEXT_MAX + 1 }>,
    init: Option<Span>,
    /// Where in `words` init's own arguments start.
    init_arguments: Option<u16>,
    trace: Option<Span>,
    test: Option<Span>,
    /// In the order of the command line; the last is /dev/console.
    pub consoles: ArrayVec<Console, CONSOLES_MAX>,
    pub log_level: Option<u8>,
    pub quiet: bool,
    pub after_panic: AfterPanic,
    /// `norandmaps` clears it.
    pub randomize_addresses: bool,
    /// `wx=deny`: programs get no mapping that is both writable and executable, even if they ask for it.
    pub deny_write_execute: bool,
    /// `exit=isa-debug`: at the end, tell QEMU the exit status through its isa-debug-exit device.
    pub exit_by_isa_debug: bool,
}

/// A word, or a part of one, in `words`.
#[derive(Clone, Copy, Debug)]
struct Span {
    start: u16,
    end: u16,
}

impl CommandLine {
    pub const EMPTY: Self = Self {
        text: ArrayString::new_const(),
        words: ArrayString::new_const(),
        init: None,
        init_arguments: None,
        trace: None,
        test: None,
        consoles: ArrayVec::new_const(),
        log_level: None,
        quiet: false,
        after_panic: AfterPanic::Halt,
        randomize_addresses: true,
        deny_write_execute: false,
        exit_by_isa_debug: false,
    };

    /// The text as the loader passed it, for /proc/cmdline: at most [`TEXT_MAX`] bytes.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// `init=`.
    pub fn init(&self) -> Option<&str> {
        self.span(self.init)
    }

    /// The words after `--`, for init.
    pub fn init_arguments(&self) -> impl Iterator<Item = &str> + Clone {
        let start = self.init_arguments.map_or(self.words.len(), usize::from);
        self.words.get(start..).unwrap_or("").split_terminator('\0')
    }

    /// `trace=`: names of event kinds, divided by commas.
    pub fn trace(&self) -> Option<&str> {
        self.span(self.trace)
    }

    /// `test=`: which in-kernel tests run.
    pub fn test(&self) -> Option<&str> {
        self.span(self.test)
    }

    fn span(&self, span: Option<Span>) -> Option<&str> {
        let span = span?;
        self.words.get(usize::from(span.start)..usize::from(span.end))
    }
}
