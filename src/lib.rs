//! Keel's modules. `src/main.rs` says in which order they are brought up.
//!
//! Whatever touches hardware is built for the kernel's target only; the rest is plain Rust, which the host builds and
//! tests as well.

#![cfg_attr(not(test), no_std)]
#![feature(allocator_api)]
#![cfg_attr(
    all(target_os = "none", not(feature = "kernel-tests")),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::todo, clippy::unimplemented),
    deny(clippy::indexing_slicing)
)]
// The host builds the plain modules without whom they serve; the kernel's own build tells what nobody uses.
#![cfg_attr(not(target_os = "none"), allow(dead_code, unused_imports))]

extern crate alloc;

pub mod boot;
pub mod cpu;
pub mod drivers;
pub mod errno;
pub mod exec;
pub mod fault_injection;
pub mod fs;
pub mod interrupts;
#[cfg(all(target_os = "none", feature = "kernel-tests"))]
pub mod kernel_tests;
pub mod lock;
pub mod log;
pub mod memory;
pub mod panic;
pub mod random;
pub mod symbols;
#[cfg(target_os = "none")]
pub mod syscall;
pub mod task;
pub mod trace;

/// The size of a page and of a physical frame.
pub const PAGE_SIZE: usize = 4096;
