//! The host's side of Keel's tests: starts guests in QEMU and Bochs, reads their serial line and their screen, and judges.
//!
//! `system.rs` lists what is tested; the modules here are its tools.

pub mod bad_input;
pub mod bench;
pub mod bochs;
pub mod boot_matrix;
pub mod console;
pub mod failure;
pub mod kernel_tests;
pub mod options;
pub mod panics;
pub mod picture;
pub mod programs;
pub mod project;
pub mod qemu;
pub mod qmp;
pub mod rfb;
pub mod runner;
pub mod screen;
pub mod session;
pub mod sessions;
pub mod system_calls;
