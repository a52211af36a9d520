//! Fuzzes an initrd: see fuzz/src/lib.rs.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| keel_fuzz::tar(data));
