//! Terminals: what lies between typed bytes and the program that reads them.
//!
//! `termios` holds the settings as Linux lays them out for programs; `line_discipline` does what they say: it edits lines,
//! echoes, turns characters into signals, and processes output.

pub mod line_discipline;
pub mod termios;
