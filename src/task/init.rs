//! The first process: how it starts, and what its end means.

use super::family::Status;

/// When init ends the machine has nothing left to do.
pub fn ended(status: Status) -> ! {
    match status {
        Status::Exited(code) => log::info!(target: "init", "init exited with status {code}"),
        other => log::info!(target: "init", "init was ended by {other:?}"),
    }
    crate::cpu::reset::restart()
}
