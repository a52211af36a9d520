//! One line of the list of programs: a pure parser over fixed-size storage, as there is no heap here.

use core::ffi::{CStr, c_char};

pub const ARGUMENT_LIMIT: usize = 16;
const LINE_LIMIT_BYTES: usize = 512;
/// Room for "./" and for a zero behind each word.
const STORE_BYTES: usize = LINE_LIMIT_BYTES + 2 + ARGUMENT_LIMIT + 1;

/// A program and its arguments.
pub struct Entry<'a> {
    /// The line without its limit.
    line: &'a [u8],
    limit_s: u64,
    /// The words, each with a closing zero; the first has "./" before it.
    store: [u8; STORE_BYTES],
    starts: [usize; ARGUMENT_LIMIT],
    count: usize,
}

impl<'a> Entry<'a> {
    /// None for an empty line, a comment, or a line that is too long.
    pub fn parse(line: &'a [u8]) -> Option<Entry<'a>> {
        let mut line = line.trim_ascii();
        let mut limit_s = crate::DEFAULT_LIMIT_S;
        if let Some(rest) = line.strip_prefix(b"@") {
            let end = rest.iter().position(|&byte| byte == b' ')?;
            limit_s = core::str::from_utf8(&rest[..end]).ok()?.parse().ok()?;
            line = rest[end..].trim_ascii();
        }
        if line.is_empty() || line.starts_with(b"#") || line.len() > LINE_LIMIT_BYTES {
            return None;
        }
        let mut entry = Entry { line, limit_s, store: [0; STORE_BYTES], starts: [0; ARGUMENT_LIMIT], count: 0 };
        entry.split();
        Some(entry)
    }

    fn split(&mut self) {
        self.store[..2].copy_from_slice(b"./");
        let mut end = 2;
        let mut in_word = true;
        let mut quoted = false;
        self.count = 1;
        for &byte in self.line {
            match byte {
                b'"' => {
                    quoted = !quoted;
                    in_word = self.begin_word(in_word, end);
                }
                b' ' if !quoted => {
                    if in_word {
                        end += 1; // the store is all zeros
                    }
                    in_word = false;
                }
                _ => {
                    in_word = self.begin_word(in_word, end);
                    self.store[end] = byte;
                    end += 1;
                }
            }
        }
    }

    fn begin_word(&mut self, in_word: bool, end: usize) -> bool {
        if !in_word && self.count < ARGUMENT_LIMIT {
            self.starts[self.count] = end;
            self.count += 1;
        }
        true
    }

    pub fn limit_s(&self) -> u64 {
        self.limit_s
    }

    pub fn command(&self) -> &[u8] {
        self.line
    }

    /// The line as a name for the report.
    pub fn name(&self) -> &str {
        core::str::from_utf8(self.line).unwrap_or("(no text)")
    }

    pub fn path(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.store).unwrap_or_default()
    }

    /// Puts a pointer to each word into a vector that holds NULLs.
    pub fn fill_arguments(&self, arguments: &mut [*const c_char; ARGUMENT_LIMIT + 1]) {
        for (argument, &start) in arguments.iter_mut().zip(&self.starts[..self.count]) {
            *argument = self.store[start..].as_ptr().cast();
        }
    }
}
