//! The kernel log: `log`'s macros, printed as `[    0.012345] area: text` on the consoles and kept for dmesg.
//!
//! A line is put together on the stack, kept in a ring, and sent out; nothing is allocated, and no lock is waited for
//! without a bound. So it may be used from the first instruction on, in interrupts and in a panic. `area` is the record's
//! target: `log::info!(target: "memory", …)`.

#![expect(clippy::indexing_slicing, reason = "lengths are kept below the buffers' sizes where they grow")]

use crate::lock::{IrqLock, Rank};
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicPtr, AtomicU8, Ordering::Relaxed};
use log::{Level, LevelFilter, Log, Metadata, Record};

/// The longest line, its end included; what is longer is cut.
const LINE_BYTES: usize = 512;
/// What dmesg can show: the last lines that fit.
pub const KEPT_BYTES: usize = 16 * 1024;
/// How often the ring's lock is tried before a line is printed and not kept.
const LOCK_ATTEMPTS: u32 = 100_000;

/// Linux's numbers: lines below this one are printed. `quiet` is 4, the default 7.
const DEFAULT_CONSOLE_LEVEL: u8 = 7;
const QUIET_CONSOLE_LEVEL: u8 = 4;

static CONSOLE_LEVEL: AtomicU8 = AtomicU8::new(DEFAULT_CONSOLE_LEVEL);
/// A `fn() -> u64`, nanoseconds since boot, or null while there is no clock.
static CLOCK: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());
static KEPT: IrqLock<Ring> = IrqLock::new(Rank::Console, Ring::new());

struct KernelLog;

/// Makes the `log` macros work.
pub fn initialise() {
    static LOG: KernelLog = KernelLog;
    // An error says that it was already done.
    let _ = log::set_logger(&LOG);
    log::set_max_level(LevelFilter::Info);
}

/// Takes the time of log lines from `now_ns` instead of zero.
pub fn set_clock(now_ns: fn() -> u64) {
    CLOCK.store(now_ns as *mut (), Relaxed);
}

/// Prints what is more urgent than `level` (`loglevel=`): 4 errors, 5 warnings too, 7 information too, 8 debugging too.
pub fn set_console_level(level: u8) {
    CONSOLE_LEVEL.store(level, Relaxed);
    log::set_max_level(match level {
        0..=7 => LevelFilter::Info,
        8 => LevelFilter::Debug,
        _ => LevelFilter::Trace,
    });
}

/// The command line's `quiet`.
pub fn set_quiet() {
    set_console_level(QUIET_CONSOLE_LEVEL);
}

/// Hands the kept lines, oldest first, to `sink` in at most two pieces: each begins with its level in angle brackets, as
/// syslog(2) gives them. The ring's lock is held meanwhile.
pub fn kept_lines(mut sink: impl FnMut(&[u8])) {
    let ring = KEPT.lock();
    let (older, newer) = ring.pieces();
    sink(older);
    sink(newer);
}

/// Keeps what there is so far from later readers (`dmesg -c`).
pub fn clear() {
    let mut ring = KEPT.lock();
    ring.fresh = 0;
}

/// Linux's number for a level (syslog(2)).
const fn linux_level(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug => 7,
        Level::Trace => 8,
    }
}

/// How a level is written in front of a kept line: one digit, of which 7 is the greatest.
const LEVEL_BYTES: usize = "<6>".len();
const GREATEST_KEPT_LEVEL: u8 = 7;

impl Log for KernelLog {
    fn enabled(&self, _: &Metadata) -> bool {
        true
    }

    fn log(&self, record: &Record) {
        let mut line = Line::new();
        let now_us = now_ns() / 1000;
        let (level, area) = (linux_level(record.level()), record.target());
        // A line that is too long is cut, and that is no error.
        let _ = write!(line, "<{}>", level.min(GREATEST_KEPT_LEVEL));
        let _ = write!(line, "[{:5}.{:06}] {area}: {}", now_us / 1_000_000, now_us % 1_000_000, record.args());
        let text = line.finish();
        if let Some(mut ring) = (0..LOCK_ATTEMPTS).find_map(|_| KEPT.try_lock()) {
            ring.append(text.as_bytes());
        }
        if level < CONSOLE_LEVEL.load(Relaxed) {
            #[cfg(target_os = "none")]
            crate::drivers::console::write_text(text.get(LEVEL_BYTES..).unwrap_or_default());
        }
    }

    fn flush(&self) {}
}

fn now_ns() -> u64 {
    let clock = CLOCK.load(Relaxed);
    if clock.is_null() {
        return 0;
    }
    // SAFETY: the only non-null value ever stored is a `fn() -> u64`, by `set_clock`.
    let clock = unsafe { core::mem::transmute::<*mut (), fn() -> u64>(clock) };
    clock()
}

/// A line under construction; what does not fit is left out, at a character's boundary.
struct Line {
    bytes: [u8; LINE_BYTES],
    length: usize,
    cut: bool,
}

impl Line {
    /// Shown where a line was cut, with its end.
    const CUT: &str = "…\n";

    const fn new() -> Self {
        Self { bytes: [0; LINE_BYTES], length: 0, cut: false }
    }

    /// The finished line, which ends in exactly one line feed.
    fn finish(&mut self) -> &str {
        let end = if self.cut { Self::CUT } else { "\n" };
        self.bytes[self.length..self.length + end.len()].copy_from_slice(end.as_bytes());
        self.length += end.len();
        // Only whole characters were written.
        core::str::from_utf8(&self.bytes[..self.length]).unwrap_or("?\n")
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // The room for CUT stays free, so that `finish` always can end the line.
        let room = (LINE_BYTES - Self::CUT.len()).saturating_sub(self.length);
        let mut taken = text.len().min(room);
        while !text.is_char_boundary(taken) {
            taken -= 1;
        }
        self.bytes[self.length..self.length + taken].copy_from_slice(&text.as_bytes()[..taken]);
        self.length += taken;
        self.cut = taken < text.len();
        if self.cut { Err(fmt::Error) } else { Ok(()) }
    }
}

/// The last KEPT_BYTES of text. The next comes at `end`; the `fresh` bytes before it are shown: all that came since the
/// beginning, or since it was cleared.
struct Ring {
    bytes: [u8; KEPT_BYTES],
    end: usize,
    fresh: usize,
}

impl Ring {
    const fn new() -> Self {
        Self { bytes: [0; KEPT_BYTES], end: 0, fresh: 0 }
    }

    fn append(&mut self, text: &[u8]) {
        for &byte in text {
            self.bytes[self.end] = byte;
            self.end += 1;
            if self.end == KEPT_BYTES {
                self.end = 0;
            }
        }
        self.fresh = KEPT_BYTES.min(self.fresh + text.len());
    }

    /// What is shown, oldest first, from the first whole line on.
    fn pieces(&self) -> (&[u8], &[u8]) {
        let (newer, older) = self.bytes.split_at(self.end);
        if self.fresh <= newer.len() {
            return (&newer[newer.len() - self.fresh..], &[]);
        }
        let older = &older[older.len() - (self.fresh - newer.len())..];
        if self.fresh < KEPT_BYTES {
            return (older, newer);
        }
        match older.iter().position(|&byte| byte == b'\n') {
            Some(line_end) => (&older[line_end + 1..], newer),
            None => (older, newer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_ends_in_one_line_feed() {
        let mut line = Line::new();
        write!(line, "boot: {}", 7).unwrap();
        assert_eq!(line.finish(), "boot: 7\n");
    }

    #[test]
    fn a_long_line_is_cut_at_a_character() {
        for padding in 0..4 {
            let mut line = Line::new();
            let _ = line.write_str(&"x".repeat(padding));
            let _ = line.write_str(&"é".repeat(LINE_BYTES));
            let text = line.finish();
            assert!(text.ends_with("é…\n") && text.len() <= LINE_BYTES, "{text:?}");
        }
    }

    #[test]
    fn the_ring_keeps_the_last_whole_lines() {
        let mut ring = Ring::new();
        assert_eq!(ring.pieces(), (&b""[..], &b""[..]));
        ring.append(b"first\n");
        assert_eq!(ring.pieces(), (&b"first\n"[..], &b""[..]));
        for number in 0..4000 {
            ring.append(format!("line {number}\n").as_bytes());
        }
        let text = shown(&ring);
        assert!(text.len() > KEPT_BYTES - 16 && text.starts_with("line ") && text.ends_with("line 3999\n"));
    }

    #[test]
    fn a_cleared_ring_shows_what_came_later() {
        // From where the ring's end falls into the text, to where it doesn't.
        for before in 0..KEPT_BYTES / 4 {
            let mut ring = Ring::new();
            (0..before).for_each(|_| ring.append(b"line old\n"));
            ring.fresh = 0;
            assert_eq!(shown(&ring), "");
            ring.append(b"first\n");
            ring.append(b"second\n");
            assert_eq!(shown(&ring), "first\nsecond\n");
        }
    }

    fn shown(ring: &Ring) -> String {
        let (older, newer) = ring.pieces();
        String::from_utf8([older, newer].concat()).unwrap()
    }
}
