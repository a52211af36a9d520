//! Fuzzes a program, which is its own interpreter: see fuzz/src/lib.rs.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| keel_fuzz::elf(data));
