//! Fuzzes the kernel's command line: see fuzz/src/lib.rs.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| keel_fuzz::command_line(data));
