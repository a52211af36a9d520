//! What programs made of cases share: the conformance tests and the attacks.

// `sys!` is the cases' word for a system call: its safety is argued once, where it is made.
#![allow(clippy::macro_metavars_in_unsafe)]

pub mod coverage;
pub mod elf;
pub mod harness;
pub mod support;
