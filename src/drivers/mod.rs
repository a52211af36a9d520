//! Devices: the serial port, the screen, the keyboard and the clock, and the consoles that they make up.
//!
//! `console` is what the rest of the kernel talks to; it owns the devices' state. What needs no hardware (decoding
//! scancodes, emulating a terminal, converting dates) is plain Rust and is tested on the host.

pub mod acpi;
#[cfg(target_os = "none")]
pub mod console;
pub mod keyboard;
#[cfg(target_os = "none")]
pub mod power;
pub mod rtc;
pub mod screen;
#[cfg(target_os = "none")]
pub mod serial;
pub mod terminal;
