//! What is asked of Keel's parsers for any input at all: that they come back, and that what they let through keeps their
//! promises. Each function is a fuzz target, and runs over the fixed corpus in ordinary tests.
//!
//! To fuzz for ten minutes (with the crate cargo-fuzz installed, from `/` as tools/host-cargo explains; the first folder
//! takes what is found):
//!
//! ```text
//! RUSTC_BOOTSTRAP=1 cargo fuzz run --fuzz-dir KEEL/fuzz --features libfuzzer elf FOLDER KEEL/fuzz/corpus/elf -- -max_total_time=600
//! ```

mod image;

use image::{Image, OneFile};
use keel::boot::command_line::CommandLine;
use keel::exec::{Caller, KernelArguments, Machine, Prepared, Randomness, Request, prepare};
use keel::fs::initrd_tar::{Kind, entries};
use keel::task::credentials::Credentials;

static CALLER: Credentials = Credentials::root();

/// Loads `data` as a program, with `data` as its interpreter too.
pub fn elf(data: &[u8]) {
    for randomise in [false, true] {
        let file = OneFile(data.to_vec());
        let value = data.iter().fold(0_u64, |sum, byte| sum.wrapping_mul(0x100_0000_01b3) ^ u64::from(*byte));
        let request = Request {
            filename: b"/bin/fuzz",
            filename_vanishes: false,
            random: Randomness { randomise, stack: value, mmap: value, image: value, heap: value, seed: [0; 16] },
            caller: Caller { credentials: &CALLER, personality: 0, stack_limit: 8 << 20 },
            machine: Machine::default(),
        };
        let arguments = KernelArguments { arguments: &[b"fuzz", b"argument"], environment: &[b"A=B"] };
        let Ok(prepared) = prepare(file.clone(), &request, &file, &arguments, |_| Ok(Image::default())) else {
            continue;
        };
        check(&prepared);
    }
}

/// What the thread will start with must be right whatever the file said.
fn check(prepared: &Prepared<OneFile, Image>) {
    let process = &prepared.process;
    assert!(process.entry_point < image::USER_END);
    assert!(process.stack_pointer.is_multiple_of(16));
    assert!(prepared.memory.stack.contains(&process.stack_pointer));
    assert!(process.heap_start.is_multiple_of(4096) && process.heap_start <= image::USER_END);
    for segment in &process.segments {
        assert!(segment.start <= segment.file_end && segment.file_end <= segment.end && segment.end <= image::USER_END);
        assert!(!(segment.protection.write && segment.protection.execute));
        assert!(segment.end <= prepared.memory.stack.start || segment.start >= prepared.memory.stack.end);
    }
}

/// Reads `data` as a script's beginning.
pub fn script(data: &[u8]) {
    let mut head = [0; keel::exec::HEAD_SIZE];
    let length = data.len().min(head.len());
    head[..length].copy_from_slice(&data[..length]);
    let Ok(line) = keel::exec::script::parse(&head) else { return };
    assert!(line.interpreter.len() < head.len() - 2);
    assert!(!line.interpreter.iter().any(|byte| b" \t\n\0".contains(byte)));
    assert!(!line.argument.is_some_and(|argument| argument.contains(&0) || argument.contains(&b'\n')));
}

/// Lists `data` as an archive.
pub fn tar(data: &[u8]) {
    let mut last_end = 0;
    for entry in entries(data).flatten() {
        assert!(entry.path.components().all(|name| !name.is_empty() && !name.contains(&b'/')));
        assert!(entry.mode <= 0o7777 && entry.modified.nanoseconds < 1_000_000_000);
        if let Kind::File(range) = &entry.kind {
            assert!(range.start >= last_end && range.start <= range.end && range.end <= data.len());
            last_end = range.end;
        }
        let _ = entry.path.to_string();
    }
}

/// Reads `data` as the kernel's command line.
pub fn command_line(data: &[u8]) {
    let mut line = Box::new(CommandLine::EMPTY);
    let _ = line.parse(data);
    assert!(line.text().len() <= data.len().saturating_mul(3));
    let words: usize = line.unknown_words().chain(line.init_arguments()).map(str::len).sum();
    assert!(words <= line.text().len());
    assert!(line.init().is_none_or(|path| !path.contains('\0')));
    assert!(line.consoles().len() <= data.len() + 2);
    let _ = (line.trace(), line.test());
}
