//! A guest's serial line: collects what arrives from any byte stream, lets tests wait for text, and sends.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

#[derive(Default)]
struct Received {
    bytes: Vec<u8>,
    /// The other end is gone: nothing more will come.
    closed: bool,
}

#[derive(Default)]
struct Shared {
    received: Mutex<Received>,
    changed: Condvar,
}

/// What the guest printed so far, and the way to type to it.
pub struct Console {
    shared: Arc<Shared>,
    writer: Option<UnixStream>,
}

impl Console {
    /// A console over a socket that the emulator is connected to.
    pub fn over_socket(stream: UnixStream) -> io::Result<Console> {
        let console = Console { shared: Arc::default(), writer: Some(stream.try_clone()?) };
        console.collect(stream);
        Ok(console)
    }

    /// A console that is fed by the caller; nothing can be typed.
    pub fn fed_by(source: impl Read + Send + 'static) -> Console {
        let console = Console { shared: Arc::default(), writer: None };
        console.collect(source);
        console
    }

    fn collect(&self, mut source: impl Read + Send + 'static) {
        let shared = Arc::clone(&self.shared);
        thread::spawn(move || {
            let mut chunk = [0_u8; 4096];
            loop {
                let count = source.read(&mut chunk).unwrap_or(0);
                let mut received = lock(&shared);
                received.bytes.extend_from_slice(&chunk[..count]);
                received.closed = count == 0;
                shared.changed.notify_all();
                if count == 0 {
                    return;
                }
            }
        });
    }

    /// How many bytes have come: a position to look for text from.
    pub fn position(&self) -> usize {
        lock(&self.shared).bytes.len()
    }

    pub fn is_closed(&self) -> bool {
        lock(&self.shared).closed
    }

    /// All text from a position on, carriage returns removed.
    pub fn text_from(&self, position: usize) -> String {
        let received = lock(&self.shared);
        String::from_utf8_lossy(received.bytes.get(position..).unwrap_or_default()).replace('\r', "")
    }

    /// The first whole line behind a position that the question has an answer for, with the position behind that line.
    pub fn find_line<T>(&self, position: usize, ask: impl Fn(&str) -> Option<T>) -> Option<(T, usize)> {
        let received = lock(&self.shared);
        let mut end = position;
        for line in received.bytes.get(position..)?.split_inclusive(|&byte| byte == b'\n') {
            end += line.len();
            if line.ends_with(b"\n")
                && let Some(answer) = ask(String::from_utf8_lossy(line).trim_end())
            {
                return Some((answer, end));
            }
        }
        None
    }

    pub fn text(&self) -> String {
        self.text_from(0)
    }

    /// Waits until there is more than `position` bytes or the line is closed, at most for the given time.
    pub fn wait_for_more(&self, position: usize, time: Duration) {
        let received = lock(&self.shared);
        let _ = self.shared.changed.wait_timeout_while(received, time, |r| r.bytes.len() <= position && !r.closed);
    }

    pub fn send(&self, text: &str) -> io::Result<()> {
        match &self.writer {
            Some(writer) => (&mut &*writer).write_all(text.as_bytes()),
            None => Err(io::Error::other("this console can't be typed to")),
        }
    }
}

fn lock(shared: &Shared) -> MutexGuard<'_, Received> {
    // A reader that panicked leaves bytes that are still good.
    shared.received.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_arrives_with_its_carriage_returns_removed() {
        let console = Console::fed_by(&b"one\r\ntwo"[..]);
        while !console.is_closed() {
            console.wait_for_more(8, Duration::from_secs(1));
        }
        assert_eq!(console.text(), "one\ntwo");
        assert_eq!(console.text_from(5), "two");
        assert_eq!(console.text_from(99), "");
        assert!(console.send("x").is_err());
    }

    #[test]
    fn only_whole_lines_are_found() {
        let console = Console::fed_by(&b"boot\r\ntest: a\r\ntest: b"[..]);
        while !console.is_closed() {
            console.wait_for_more(99, Duration::from_secs(1));
        }
        let test = |line: &str| line.strip_prefix("test: ").map(str::to_owned);
        assert_eq!(console.find_line(0, test), Some(("a".into(), 15)));
        assert_eq!(console.find_line(15, test), None);
    }

    #[test]
    fn what_is_sent_reaches_the_other_end() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let console = Console::over_socket(ours).unwrap();
        console.send("ls\n").unwrap();
        let mut typed = [0; 3];
        theirs.read_exact(&mut typed).unwrap();
        assert_eq!(&typed, b"ls\n");
    }
}
