//! What is typed, what is seen, what is read; and the same of a pseudo-terminal of the host, byte for byte.

use super::super::termios::{CONTROL_CHARACTERS, OutputFlags};
use super::*;

#[derive(Default)]
struct Seen {
    output: Vec<u8>,
    signals: Vec<TerminalSignal>,
}

impl Sink for Seen {
    fn output(&mut self, bytes: &[u8]) {
        self.output.extend(bytes);
    }

    fn signal(&mut self, signal: TerminalSignal) {
        self.signals.push(signal);
    }
}

/// A line discipline and what came out of it.
struct Terminal {
    discipline: Box<LineDiscipline>,
    seen: Seen,
}

impl Terminal {
    fn new(change: impl FnOnce(&mut Termios)) -> Self {
        let mut terminal = Self { discipline: Box::default(), seen: Seen::default() };
        let mut termios = *terminal.discipline.termios();
        change(&mut termios);
        terminal.discipline.set_termios(termios, &mut terminal.seen);
        terminal
    }

    fn canonical() -> Self {
        Self::new(|_| {})
    }

    fn raw(minimum: u8, time: u8) -> Self {
        Self::new(|termios| {
            termios.set_local(LocalFlags::empty());
            termios.set_input(InputFlags::empty());
            termios.set_output(OutputFlags::empty());
            termios.control_characters[ControlCharacter::Minimum as usize] = minimum;
            termios.control_characters[ControlCharacter::Time as usize] = time;
        })
    }

    fn typed(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        bytes.as_ref().iter().for_each(|&byte| self.discipline.receive(byte, &mut self.seen));
        self
    }

    fn written(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        assert_eq!(self.discipline.write(bytes.as_ref(), &mut self.seen), bytes.as_ref().len());
        self
    }

    /// What was shown since the last question.
    fn shown(&mut self) -> String {
        String::from_utf8(core::mem::take(&mut self.seen.output)).unwrap()
    }

    /// A read of so many bytes, or None if it would wait.
    fn read(&mut self, size: usize) -> Option<String> {
        let (mut buffer, mut read) = (vec![0; size], Read::default());
        match self.discipline.read(&mut read, &mut buffer) {
            Progress::Done => Some(String::from_utf8(buffer[..read.count].to_vec()).unwrap()),
            Progress::Wait { .. } => None,
        }
    }
}

#[test]
fn a_line_can_be_read_once_it_is_complete() {
    let mut terminal = Terminal::canonical();
    assert_eq!(terminal.typed("ab").read(10), None);
    assert_eq!(terminal.typed("c\rd").read(10).as_deref(), Some("abc\n"));
    assert_eq!(terminal.read(10), None);
    assert_eq!(terminal.shown(), "abc\r\nd");
    assert_eq!(terminal.typed("ef\n").read(2).as_deref(), Some("de"));
    assert_eq!(terminal.read(10).as_deref(), Some("f\n"));
}

#[test]
fn end_of_file_ends_a_read_and_is_not_read() {
    let mut terminal = Terminal::canonical();
    assert_eq!(terminal.typed("\x04").read(10).as_deref(), Some(""));
    assert_eq!(terminal.typed("ab\x04c\n").read(10).as_deref(), Some("ab"));
    assert_eq!(terminal.read(10).as_deref(), Some("c\n"));
    // The buffer was full just before the end: it doesn't come back as an empty read.
    assert_eq!(terminal.typed("ab\x04").read(2).as_deref(), Some("ab"));
    assert_eq!(terminal.read(2), None);
    assert_eq!(terminal.shown(), "abc\r\nab");
}

#[test]
fn erasing_removes_what_was_shown() {
    let mut terminal = Terminal::canonical();
    assert_eq!(terminal.typed("ab\x7f").shown(), "ab\x08 \x08");
    assert_eq!(terminal.typed("\x7f\x7f").shown(), "\x08 \x08");
    assert_eq!(terminal.typed("é\x7f").shown(), "é\x08 \x08");
    assert_eq!(terminal.typed("\x01\x7f").shown(), "^A\x08 \x08\x08 \x08");
    assert_eq!(terminal.typed("xy\tz\x7f\x7f").shown(), "xy\tz\x08 \x08\x08\x08\x08\x08\x08\x08");
    assert_eq!(terminal.typed("\x15").shown(), "\x08 \x08".repeat(2));
    assert_eq!(terminal.typed("one two  \x17").shown(), "one two  ".to_owned() + &"\x08 \x08".repeat(5));
    assert_eq!(terminal.typed("\n").read(10).as_deref(), Some("one \n"));
}

#[test]
fn a_tab_is_erased_to_where_it_began() {
    let mut terminal = Terminal::canonical();
    terminal.written("$ ").typed("\t");
    assert_eq!(terminal.typed("\x7f").shown(), "$ \t\x08\x08\x08\x08\x08\x08");
}

#[test]
fn signals_flush_unless_told_otherwise() {
    let mut terminal = Terminal::canonical();
    assert_eq!(terminal.typed("abc\x03d\n").read(10).as_deref(), Some("d\n"));
    assert_eq!(terminal.seen.signals, [TerminalSignal::Interrupt]);
    assert_eq!(terminal.shown(), "abc^Cd\r\n");
    terminal.typed("\x1c\x1a");
    assert_eq!(terminal.seen.signals[1..], [TerminalSignal::Quit, TerminalSignal::Suspend]);
    let mut terminal = Terminal::new(|termios| termios.set_local(termios.local() | LocalFlags::NOFLSH));
    assert_eq!(terminal.typed("abc\x03d\n").read(10).as_deref(), Some("abcd\n"));
}

#[test]
fn output_stops_and_goes_on() {
    let mut terminal = Terminal::canonical();
    terminal.typed("\x13");
    assert!(terminal.discipline.is_stopped());
    assert_eq!(terminal.discipline.write(b"x", &mut terminal.seen), 0);
    assert_eq!(terminal.typed("ab").shown(), "");
    assert_eq!(terminal.typed("\x11").shown(), "ab");
    terminal.written("x").typed("\x13");
    // Turning IXON off lets go too.
    let mut termios = *terminal.discipline.termios();
    termios.set_input(InputFlags::empty());
    terminal.discipline.set_termios(termios, &mut terminal.seen);
    assert!(!terminal.discipline.is_stopped());
}

#[test]
fn the_next_character_is_taken_literally() {
    let mut terminal = Terminal::canonical();
    assert_eq!(terminal.typed("\x16\x03\x16\n\n").read(10).as_deref(), Some("\x03\n\n"));
    assert_eq!(terminal.shown(), "^\x08^C^\x08^J\r\n");
    assert!(terminal.seen.signals.is_empty());
}

#[test]
fn output_is_processed() {
    assert_eq!(Terminal::canonical().written("a\nb\tc").shown(), "a\r\nb\tc");
    let flags = OutputFlags::OPOST | OutputFlags::OLCUC | OutputFlags::XTABS | OutputFlags::OCRNL;
    assert_eq!(Terminal::new(|termios| termios.set_output(flags)).written("a\tb\r").shown(), "A       B\n");
    assert_eq!(Terminal::raw(1, 0).written("a\nb").shown(), "a\nb");
}

#[test]
fn raw_reads_wait_for_vmin_and_vtime() {
    let mut buffer = [0; 8];
    let progress = |terminal: &mut Terminal, read: &mut Read, buffer: &mut [u8]| terminal.discipline.read(read, buffer);
    let mut terminal = Terminal::raw(3, 0);
    let mut read = Read::default();
    assert_eq!(progress(terminal.typed("ab"), &mut read, &mut buffer), Progress::Wait { tenths: None });
    assert!(!terminal.discipline.is_readable());
    assert_eq!(progress(terminal.typed("cd"), &mut read, &mut buffer), Progress::Done);
    assert_eq!(&buffer[..read.count], b"abcd");
    assert_eq!(Terminal::raw(0, 0).read(8).as_deref(), Some(""));
    let mut terminal = Terminal::raw(0, 5);
    assert_eq!(progress(&mut terminal, &mut Read::default(), &mut buffer), Progress::Wait { tenths: Some(5) });
    let mut terminal = Terminal::raw(3, 5);
    let mut read = Read::default();
    assert_eq!(progress(&mut terminal, &mut read, &mut buffer), Progress::Wait { tenths: None });
    assert_eq!(progress(terminal.typed("a"), &mut read, &mut buffer), Progress::Wait { tenths: Some(5) });
    // VMIN beyond the buffer's size asks for no more than the buffer takes.
    assert_eq!(Terminal::raw(100, 0).typed("abcdef").read(4).as_deref(), Some("abcd"));
}

#[test]
fn an_endless_line_still_can_be_ended() {
    let mut terminal = Terminal::canonical();
    terminal.typed("x".repeat(10_000)).typed("\n");
    let line = terminal.read(20_000).unwrap();
    assert_eq!((line.len(), line.ends_with("x\n")), (BUFFER_BYTES, true));
    // A full buffer of complete lines makes typing wait instead.
    while terminal.discipline.has_room() {
        terminal.typed("y\n");
    }
    assert!(terminal.discipline.readable_bytes() >= BUFFER_BYTES - 2);
}

#[test]
fn changing_modes_keeps_what_was_typed() {
    let mut terminal = Terminal::canonical();
    terminal.typed("half");
    let canonical = *terminal.discipline.termios();
    let mut raw = canonical;
    raw.set_local(LocalFlags::empty());
    terminal.discipline.set_termios(raw, &mut terminal.seen);
    assert_eq!(terminal.read(2).as_deref(), Some("ha"));
    terminal.discipline.set_termios(canonical, &mut terminal.seen);
    assert_eq!(terminal.read(10).as_deref(), Some("lf"));
}

/// The host's own line discipline.
mod host {
    use super::*;
    use std::ffi::{CStr, c_char, c_int, c_ulong, c_void};
    use std::fs::{File, OpenOptions};
    use std::io::ErrorKind::WouldBlock;
    use std::io::{Read as _, Write as _};
    use std::os::fd::{AsRawFd, FromRawFd};
    use std::os::unix::fs::OpenOptionsExt;
    use std::time::{Duration, Instant};

    const O_RDWR: c_int = 0o2;
    const O_NOCTTY: c_int = 0o400;
    const O_NONBLOCK: c_int = 0o4000;
    const TCSETS: c_ulong = 0x5402;
    const FIONREAD: c_ulong = 0x541b;
    /// A loaded machine may be slow; only a difference costs this long.
    const PATIENCE: Duration = Duration::from_secs(3);

    unsafe extern "C" {
        fn posix_openpt(flags: c_int) -> c_int;
        fn grantpt(fd: c_int) -> c_int;
        fn unlockpt(fd: c_int) -> c_int;
        fn ptsname(fd: c_int) -> *const c_char;
        fn fcntl(fd: c_int, command: c_int, argument: c_int) -> c_int;
        fn ioctl(fd: c_int, request: c_ulong, argument: *mut c_void) -> c_int;
    }

    pub struct Pty {
        master: File,
        slave: File,
    }

    impl Pty {
        /// None where the host has no pseudo-terminals.
        pub fn open() -> Option<Self> {
            const F_SETFL: c_int = 4;
            // SAFETY: plain calls of the C library; the new descriptor is owned by the File, and the name is copied.
            let (master, name) = unsafe {
                let fd = posix_openpt(O_RDWR | O_NOCTTY);
                if fd < 0 || grantpt(fd) != 0 || unlockpt(fd) != 0 {
                    return None;
                }
                fcntl(fd, F_SETFL, O_RDWR | O_NONBLOCK);
                (File::from_raw_fd(fd), CStr::from_ptr(ptsname(fd)).to_str().ok()?.to_owned())
            };
            let flags = O_NOCTTY | O_NONBLOCK;
            let slave = OpenOptions::new().read(true).write(true).custom_flags(flags).open(name).ok()?;
            Some(Self { master, slave })
        }

        pub fn set_termios(&self, mut termios: Termios) {
            // SAFETY: TCSETS reads a struct termios, which `Termios` is.
            let result = unsafe { ioctl(self.slave.as_raw_fd(), TCSETS, (&raw mut termios).cast()) };
            assert_eq!(result, 0);
        }

        pub fn type_byte(&mut self, byte: u8) {
            self.master.write_all(&[byte]).unwrap();
        }

        /// The host works through what was typed in a thread of its own: until it has seen a ^Q, it refuses output.
        pub fn write(&mut self, mut bytes: &[u8]) {
            let start = Instant::now();
            while !bytes.is_empty() {
                match self.slave.write(bytes) {
                    Ok(count) => bytes = &bytes[count..],
                    Err(error) if error.kind() == WouldBlock && start.elapsed() < PATIENCE => std::thread::yield_now(),
                    Err(error) => panic!("the host's terminal: {error}"),
                }
            }
        }

        /// What was shown, once it is as much as expected.
        pub fn shown(&mut self, expected: usize) -> Vec<u8> {
            let (mut shown, start) = (Vec::new(), Instant::now());
            while shown.len() < expected && start.elapsed() < PATIENCE {
                let mut buffer = [0; 512];
                match self.master.read(&mut buffer) {
                    Ok(count) => shown.extend(&buffer[..count]),
                    Err(_) => std::thread::yield_now(),
                }
            }
            shown
        }

        /// FIONREAD, once it is as expected.
        pub fn readable_bytes(&self, expected: usize) -> usize {
            let (mut count, start): (c_int, _) = (-1, Instant::now());
            while count != expected as c_int && start.elapsed() < PATIENCE {
                // SAFETY: FIONREAD writes an int.
                assert_eq!(unsafe { ioctl(self.slave.as_raw_fd(), FIONREAD, (&raw mut count).cast()) }, 0);
            }
            count as usize
        }

        pub fn read(&mut self, size: usize) -> Option<Vec<u8>> {
            let mut buffer = vec![0; size];
            let count = self.slave.read(&mut buffer).ok()?;
            buffer.truncate(count);
            Some(buffer)
        }
    }
}

/// Always the same numbers.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) as usize % end
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn termios(&mut self) -> Termios {
        let mut termios = Termios::INITIAL;
        let input = InputFlags::ISTRIP
            | InputFlags::INLCR
            | InputFlags::IGNCR
            | InputFlags::ICRNL
            | InputFlags::IUCLC
            | InputFlags::PARMRK
            | InputFlags::IXON
            | InputFlags::IXANY
            | InputFlags::IUTF8;
        let output = OutputFlags::OLCUC
            | OutputFlags::ONLCR
            | OutputFlags::OCRNL
            | OutputFlags::ONOCR
            | OutputFlags::ONLRET
            | OutputFlags::XTABS;
        let mut flips = |mask: u32, percent: usize| {
            (0..32).filter(|bit| mask >> bit & 1 != 0 && self.chance(percent)).fold(0u32, |flips, bit| flips | 1 << bit)
        };
        termios.set_input(InputFlags::from_bits_retain(termios.input().bits() ^ flips(input.bits(), 15)));
        termios.set_output(OutputFlags::from_bits_retain(termios.output().bits() ^ flips(output.bits() | 1, 10)));
        // The defined flags only: EXTPROC and PENDIN are not ours.
        let known = 0o105373;
        let mut local = LocalFlags::from_bits_retain(termios.local().bits() ^ flips(known, 15));
        if !local.contains(LocalFlags::ECHO) {
            // A signal flushes what the host's reader hasn't seen; without its echo nothing tells when.
            local.remove(LocalFlags::ISIG);
        }
        termios.set_local(local);
        termios.control_characters = termios.control_characters.map(|byte| if self.chance(5) { 0 } else { byte });
        termios.control_characters[ControlCharacter::EndOfLine as usize] = [0, b';'][self.below(2)];
        termios.control_characters[ControlCharacter::Minimum as usize] = self.below(2) as u8;
        termios.control_characters[ControlCharacter::Time as usize] = 0;
        assert_eq!(termios.control_characters.len(), CONTROL_CHARACTERS);
        termios
    }

    fn typed(&mut self) -> &'static [u8] {
        const TYPED: [&[u8]; 28] = [
            b"a",
            b"b",
            b"Z",
            b"_",
            b"0",
            b" ",
            b"  ",
            b"\t",
            b"\n",
            b"\n",
            b"\r",
            b"\x7f",
            b"\x7f",
            b"\x15",
            b"\x17",
            b"\x04",
            b"\x16",
            b"\x12",
            b"\x13\x11",
            b"\x11",
            b"\x03",
            b"\x1a",
            b"\x01",
            b"\0",
            "é".as_bytes(),
            "日".as_bytes(),
            b"\xff",
            b";",
        ];
        TYPED[self.below(TYPED.len())]
    }
}

#[test]
#[cfg_attr(miri, ignore = "Miri has no pseudo-terminals")]
fn the_hosts_line_discipline_agrees() {
    let Some(mut pty) = host::Pty::open() else {
        eprintln!("no pseudo-terminals here: not compared");
        return;
    };
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for case in 0..300 {
        let termios = random.termios();
        let mut terminal = Terminal::canonical();
        pty = host::Pty::open().unwrap_or(pty);
        pty.set_termios(termios);
        terminal.discipline.set_termios(termios, &mut terminal.seen);
        let mut history = Vec::new();
        for step in 0..40 {
            if random.chance(8) && !terminal.discipline.is_stopped() {
                let text: &[u8] = [&b"$ "[..], b"x\n", b"a\tb\r", b"\x08"][random.below(4)];
                pty.write(text);
                terminal.written(text);
                history.push(format!("write {:?}", text.escape_ascii().to_string()));
            } else if random.chance(10) {
                let size = 1 + random.below(12);
                let expected = terminal.discipline.readable_bytes();
                assert_eq!(pty.readable_bytes(expected), expected, "case {case}.{step} {termios:?} {history:?}");
                let mut buffer = vec![0; size];
                let mut read = Read::default();
                let ours = match terminal.discipline.read(&mut read, &mut buffer) {
                    Progress::Done => Some(buffer[..read.count].to_vec()),
                    Progress::Wait { .. } if read.count > 0 => Some(buffer[..read.count].to_vec()),
                    Progress::Wait { .. } => None,
                };
                history.push(format!("read {size}"));
                assert_eq!(ours, pty.read(size), "case {case}.{step} {termios:?} {history:?}");
            } else {
                for &byte in random.typed() {
                    history.push(format!("type {:?}", byte.escape_ascii().to_string()));
                    pty.type_byte(byte);
                    terminal.typed([byte]);
                    let ours = core::mem::take(&mut terminal.seen.output);
                    let host = pty.shown(ours.len());
                    assert_eq!(
                        ours.escape_ascii().to_string(),
                        host.escape_ascii().to_string(),
                        "case {case}.{step} {termios:?} {history:?}"
                    );
                }
            }
            let ours = core::mem::take(&mut terminal.seen.output);
            let host = pty.shown(ours.len());
            assert_eq!(
                ours.escape_ascii().to_string(),
                host.escape_ascii().to_string(),
                "case {case}.{step} {termios:?} {history:?}"
            );
        }
    }
}
