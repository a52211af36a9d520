//! Signals: who has which pending, what is done about them, and when.
//!
//! Sending ([`send_to_process`], [`send_to_thread`], [`force`]) notes a signal and makes a thread look at it on its next way
//! back to user mode. Only there does one take effect ([`handle_pending`]): it ends the process, stops it, or makes the
//! thread go on in a handler, on a frame that rt_sigreturn undoes ([`frame`]).
//!
//! A thread looks only when `Work::SIGNAL` is set, so whatever makes a signal deliverable sets it: a new signal, and a
//! change of the mask.

pub mod action;
pub mod info;
pub mod numbers;
pub mod pending;

#[cfg(target_os = "none")]
mod delivery;
#[cfg(target_os = "none")]
pub mod frame;
#[cfg(target_os = "none")]
mod sending;
#[cfg(target_os = "none")]
mod state;
#[cfg(target_os = "none")]
mod stop;

pub use action::{Action, ActionFlags, Actions, Disposition};
pub use info::{Info, Origin, code};
pub use numbers::{DefaultAction, Signal, SignalSet};

#[cfg(target_os = "none")]
pub use delivery::handle_pending;
#[cfg(target_os = "none")]
pub use sending::{
    about_news, ends, force, forget, hand_on, send_to_group, send_to_process, send_to_thread, tell_parent_of_end, wakes,
};
#[cfg(target_os = "none")]
pub use state::{AlternateStack, ProcessSignals, ThreadSignals};
#[cfg(target_os = "none")]
pub use stop::{any_stopped, continue_process, forget_stop, wait_while_stopped};
