//! The kernel's command line, in Linux's manner: words divided by white space, double quotes group, the words after `--`
//! are init's. A word that means nothing here is kept (the text is /proc/cmdline) and does no harm.
//!
//! Pure, and total: every sequence of bytes is some command line.

use arrayvec::{ArrayString, ArrayVec};

/// How much of the text is kept. Linux on x86 keeps 2,048 bytes.
pub const TEXT_MAX: usize = 4096;
/// Each console once.
const CONSOLES_MAX: usize = 2;

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
    /// The words, quotes removed, each followed by a NUL: at most the text and one NUL more.
    words: ArrayString<{ TEXT_MAX + 1 }>,
    init: Option<Span>,
    /// Where in `words` init's own arguments start.
    init_arguments: Option<u16>,
    trace: Option<Span>,
    test: Option<Span>,
    consoles: ArrayVec<Console, CONSOLES_MAX>,
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

    /// Becomes the command line in `bytes`, up to the first NUL. False where it was too long to keep whole; of a line that
    /// is cut the last word is ignored, since half of a path is worse than none. In place: the boot stack is small.
    #[must_use]
    pub fn parse(&mut self, bytes: &[u8]) -> bool {
        *self = Self::EMPTY;
        let whole = self.keep_text(bytes);
        self.split_words(!whole);
        self.apply_settings();
        whole
    }

    /// Copies the text; bytes that are no UTF-8 become question marks, so that it can be printed anywhere.
    fn keep_text(&mut self, bytes: &[u8]) -> bool {
        let bytes = bytes.split(|&byte| byte == 0).next().unwrap_or(&[]);
        for chunk in bytes.utf8_chunks() {
            let kept = chunk.valid().chars().all(|character| self.text.try_push(character).is_ok());
            if !kept || (!chunk.invalid().is_empty() && self.text.try_push('?').is_err()) {
                return false;
            }
        }
        true
    }

    fn split_words(&mut self, ignore_last: bool) {
        let (mut quoted, mut in_word, mut word_start) = (false, false, 0);
        for character in self.text.chars() {
            let divides = character.is_ascii_whitespace() && !quoted;
            if divides && in_word {
                self.words.push('\0');
            } else if !divides {
                if !in_word {
                    word_start = self.words.len();
                }
                match character {
                    '"' => quoted = !quoted,
                    other => self.words.push(other),
                }
            }
            in_word = !divides;
        }
        if in_word && ignore_last {
            self.words.truncate(word_start);
        } else if in_word {
            self.words.push('\0');
        }
    }

    fn apply_settings(&mut self) {
        let mut start = 0;
        while let Some(length) = self.words.get(start..).and_then(|rest| rest.find('\0')) {
            let end = start + length;
            let span = |value: &str| Some(Span { start: (end - value.len()) as u16, end: end as u16 });
            let word = self.words.get(start..end).unwrap_or("");
            if word == "--" {
                self.init_arguments = Some((end + 1) as u16);
                return;
            }
            match Setting::of(word) {
                // A value is the end of its word.
                Some(Setting::Init(path)) => self.init = span(path),
                Some(Setting::Trace(kinds)) => self.trace = span(kinds),
                Some(Setting::Test(names)) => self.test = span(names),
                Some(Setting::Console(console)) => {
                    self.consoles.retain(|other| *other != console);
                    self.consoles.push(console);
                }
                Some(Setting::LogLevel(level)) => self.log_level = Some(level),
                Some(Setting::Quiet) => self.quiet = true,
                Some(Setting::AfterPanic(action)) => self.after_panic = action,
                Some(Setting::NoRandomMaps) => self.randomize_addresses = false,
                Some(Setting::DenyWriteExecute) => self.deny_write_execute = true,
                Some(Setting::ExitByIsaDebug) => self.exit_by_isa_debug = true,
                None => {}
            }
            start = end + 1;
        }
    }

    /// The text as the loader passed it, for /proc/cmdline: at most [`TEXT_MAX`] bytes.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// `init=`.
    pub fn init(&self) -> Option<&str> {
        self.span(self.init)
    }

    /// The consoles that were named, each once, in their order; both where none was. The last is /dev/console, output
    /// goes to all.
    pub fn consoles(&self) -> &[Console] {
        if self.consoles.is_empty() { &[Console::Serial, Console::Screen] } else { &self.consoles }
    }

    /// The words before `--` that mean nothing to the kernel.
    pub fn unknown_words(&self) -> impl Iterator<Item = &str> + Clone {
        let words = self.words.split_terminator('\0').take_while(|word| *word != "--");
        words.filter(|word| Setting::of(word).is_none())
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

/// What one word asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Setting<'a> {
    Init(&'a str),
    Trace(&'a str),
    Test(&'a str),
    Console(Console),
    LogLevel(u8),
    Quiet,
    AfterPanic(AfterPanic),
    NoRandomMaps,
    DenyWriteExecute,
    ExitByIsaDebug,
}

impl<'a> Setting<'a> {
    fn of(word: &'a str) -> Option<Self> {
        let Some((name, value)) = word.split_once('=') else {
            return match word {
                "quiet" => Some(Self::Quiet),
                "norandmaps" => Some(Self::NoRandomMaps),
                _ => None,
            };
        };
        match name {
            "init" if !value.is_empty() => Some(Self::Init(value)),
            "trace" => Some(Self::Trace(value)),
            "test" => Some(Self::Test(value)),
            "console" => console_named(value).map(Self::Console),
            "loglevel" => value.parse().ok().map(Self::LogLevel),
            "panic" => value.parse().ok().map(|seconds: i32| match seconds {
                0 => Self::AfterPanic(AfterPanic::Halt),
                ..0 => Self::AfterPanic(AfterPanic::RebootAtOnce),
                1.. => Self::AfterPanic(AfterPanic::RebootAfterSeconds(seconds.unsigned_abs())),
            }),
            "wx" if value == "deny" => Some(Self::DenyWriteExecute),
            "exit" if value == "isa-debug" => Some(Self::ExitByIsaDebug),
            _ => None,
        }
    }
}

/// The device, without Linux's `,115200n8` behind it: Keel's speed is fixed.
fn console_named(value: &str) -> Option<Console> {
    match value.split(',').next() {
        Some("ttyS0") => Some(Console::Serial),
        Some("tty0") => Some(Console::Screen),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(bytes: &[u8]) -> (CommandLine, bool) {
        let mut line = CommandLine::EMPTY;
        let whole = line.parse(bytes);
        (line, !whole)
    }

    fn parse(text: &str) -> CommandLine {
        let (line, cut) = parsed(text.as_bytes());
        assert!(!cut);
        assert_eq!(line.text(), text);
        line
    }

    fn init_arguments(line: &CommandLine) -> Vec<&str> {
        line.init_arguments().collect()
    }

    #[test]
    fn an_empty_line_has_the_defaults() {
        let line = parse("");
        assert_eq!((line.init(), line.trace(), line.test(), line.log_level), (None, None, None, None));
        assert_eq!(line.consoles(), [Console::Serial, Console::Screen]);
        assert_eq!(line.after_panic, AfterPanic::Halt);
        assert!(line.randomize_addresses && !line.quiet && !line.deny_write_execute && !line.exit_by_isa_debug);
        assert_eq!(init_arguments(&line), [""; 0]);
    }

    #[test]
    fn each_option_is_understood() {
        let line = parse(
            "init=/bin/sh loglevel=7 quiet panic=5 trace=switch,cr3 norandmaps wx=deny exit=isa-debug test=memory",
        );
        assert_eq!(line.init(), Some("/bin/sh"));
        assert_eq!(line.log_level, Some(7));
        assert_eq!(line.after_panic, AfterPanic::RebootAfterSeconds(5));
        assert_eq!(line.trace(), Some("switch,cr3"));
        assert_eq!(line.test(), Some("memory"));
        assert!(!line.randomize_addresses && line.quiet && line.deny_write_execute && line.exit_by_isa_debug);
        assert_eq!(line.unknown_words().count(), 0);
    }

    #[test]
    fn the_last_of_several_wins() {
        assert_eq!(parse("init=/a init=/b init=").init(), Some("/b"));
        assert_eq!(parse("console=ttyS0 console=tty0 console=ttyS0").consoles(), [Console::Screen, Console::Serial]);
        assert_eq!(parse("console=ttyS0,115200n8").consoles(), [Console::Serial]);
        assert_eq!(parse("panic=9 panic=-1").after_panic, AfterPanic::RebootAtOnce);
        assert_eq!(parse("panic=9 panic=0").after_panic, AfterPanic::Halt);
    }

    #[test]
    fn words_after_the_dashes_are_inits_own() {
        let line = parse("init=/bin/sh -- -c \"echo a  b\" init=/not/this --  quiet \"\" x\"y z\"");
        assert_eq!(line.init(), Some("/bin/sh"));
        assert_eq!(init_arguments(&line), ["-c", "echo a  b", "init=/not/this", "--", "quiet", "", "xy z"]);
        assert!(!line.quiet);
        assert_eq!(init_arguments(&parse("--")), [""; 0]);
    }

    #[test]
    fn quotes_group_in_values_too() {
        assert_eq!(parse("init=\"/my programs/init\"").init(), Some("/my programs/init"));
        assert_eq!(parse("\"init=/my programs/init").init(), Some("/my programs/init"));
    }

    #[test]
    fn what_is_not_understood_is_kept() {
        let line = parse("root=/dev/sda1 ro console=hvc0 panic=soon loglevel=300 wx=allow quiet -- not this");
        let unknown: Vec<_> = line.unknown_words().collect();
        assert_eq!(unknown, ["root=/dev/sda1", "ro", "console=hvc0", "panic=soon", "loglevel=300", "wx=allow"]);
    }

    #[test]
    fn ten_thousand_characters_are_cut_and_half_a_word_is_not_used() {
        let long = "quiet init=/".to_string() + &"x".repeat(10_000);
        let (line, cut) = parsed(long.as_bytes());
        assert!(cut && line.quiet);
        assert_eq!(line.init(), None);
        assert_eq!(line.text(), &long[..TEXT_MAX]);
        let exact = "a ".repeat(TEXT_MAX / 2);
        assert_eq!(parse(&exact).unknown_words().count(), TEXT_MAX / 2);
        let (line, cut) = parsed(&[b'"'; 10_000]);
        assert!(cut && line.unknown_words().count() == 0);
        assert_eq!(parse(&"x".repeat(TEXT_MAX)).unknown_words().count(), 1);
    }

    #[test]
    fn bytes_that_are_no_text_do_no_harm() {
        let (line, cut) = parsed(b"quiet \xff\xfeinit=/a\xc3 \t\r\n norandmaps\0 wx=deny");
        assert!(!cut && line.quiet && !line.randomize_addresses && !line.deny_write_execute);
        assert_eq!(line.text(), "quiet ??init=/a? \t\r\n norandmaps");
        // A character that straddles the limit is left out whole.
        let (line, cut) = parsed("é".repeat(3_000).as_bytes());
        assert!(cut && line.text().len() == TEXT_MAX);
    }

    #[test]
    fn random_bytes_always_parse() {
        const PIECES: [&[u8]; 12] = [
            b"init=",
            b"--",
            b"\"",
            b" ",
            b"=",
            b"console=tty0",
            b"\xf0",
            b"quiet",
            b",",
            b"\n",
            b"panic=-99999999999",
            b"\xc3\xa9",
        ];
        let mut state = 88_172_645_463_325_252_u64;
        for _ in 0..20_000 {
            let mut bytes = Vec::new();
            for _ in 0..state % 40 {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                bytes.extend_from_slice(PIECES[(state % 12) as usize]);
            }
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let (line, _) = parsed(&bytes);
            let words = line.init_arguments().chain(line.unknown_words()).chain(line.init());
            assert!(words.map(str::len).sum::<usize>() <= 2 * line.text().len());
        }
    }
}
