//! Fuzzes a script's first line: see fuzz/src/lib.rs.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| keel_fuzz::script(data));
