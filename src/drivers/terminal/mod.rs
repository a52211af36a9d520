//! Terminals: what lies between typed bytes and the program that reads them.
//!
//! `termios` holds the settings as Linux lays them out for programs; `line_discipline` does what they say: it edits lines,
//! echoes, turns characters into signals, and processes output. `device` is the files tty1, ttyS0, console and tty in
//! /dev; `job_control` says which session a terminal controls and which of its process groups may use it; `control` is
//! ioctl_tty(2).

pub mod line_discipline;
pub mod termios;

#[cfg(target_os = "none")]
mod control;
#[cfg(target_os = "none")]
pub mod device;
#[cfg(target_os = "none")]
pub mod job_control;

#[cfg(target_os = "none")]
pub use {
    device::{initialise, serve_typing},
    job_control::{Controlling, hang_up_own, leader_ends},
};
