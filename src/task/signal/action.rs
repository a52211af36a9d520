//! What a process does about each signal (sigaction(2)).

#![expect(clippy::indexing_slicing, reason = "a Signal's index is below 64")]

use super::numbers::{DefaultAction, Signal, SignalSet};
use bitflags::bitflags;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

const SIG_DFL: u64 = 0;
const SIG_IGN: u64 = 1;

/// The kernel's `struct sigaction`, as rt_sigaction passes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Action {
    pub handler: u64,
    pub flags: u64,
    pub restorer: u64,
    pub mask: u64,
}

const _: () = assert!(size_of::<Action>() == 32);

bitflags! {
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct ActionFlags: u64 {
        const NOCLDSTOP = 1;
        const NOCLDWAIT = 2;
        const SIGINFO = 4;
        const UNSUPPORTED = 0x400;
        const EXPOSE_TAGBITS = 0x800;
        const RESTORER = 0x0400_0000;
        const ONSTACK = 0x0800_0000;
        const RESTART = 0x1000_0000;
        const NODEFER = 0x4000_0000;
        const RESETHAND = 0x8000_0000;
    }
}

/// An action, decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    Ignore,
    Default(DefaultAction),
    Handler(Action),
}

/// What a process has set for each of the 64 signals.
#[derive(Clone, Debug)]
pub struct Actions([Action; 64]);

impl Action {
    pub const fn flags(&self) -> ActionFlags {
        ActionFlags::from_bits_truncate(self.flags)
    }

    pub const fn is_ignored(&self) -> bool {
        self.handler == SIG_IGN
    }

    const fn is_handler(&self) -> bool {
        self.handler > SIG_IGN
    }

    /// As rt_sigaction keeps it: unknown flags cleared, so that a program can ask which ones there are, and the mask without
    /// what can't be blocked.
    #[must_use]
    pub const fn sanitised(mut self) -> Self {
        self.flags &= ActionFlags::all().difference(ActionFlags::UNSUPPORTED).bits();
        self.mask = SignalSet::from_bits(self.mask).difference(SignalSet::UNBLOCKABLE).bits();
        self
    }
}

impl Disposition {
    /// Nothing is done: as the program wants it, or by default.
    pub const fn is_ignored(&self) -> bool {
        matches!(self, Self::Ignore | Self::Default(DefaultAction::Ignore))
    }
}

impl Actions {
    pub const fn new() -> Self {
        Self([Action { handler: SIG_DFL, flags: 0, restorer: 0, mask: 0 }; 64])
    }

    pub const fn get(&self, signal: Signal) -> Action {
        self.0[signal.index()]
    }

    pub const fn set(&mut self, signal: Signal, action: Action) {
        self.0[signal.index()] = action;
    }

    pub const fn disposition(&self, signal: Signal) -> Disposition {
        let action = self.get(signal);
        match action.handler {
            _ if action.is_handler() => Disposition::Handler(action),
            SIG_IGN => Disposition::Ignore,
            _ => Disposition::Default(signal.default_action()),
        }
    }

    /// Whether sending it has no effect at all: ignored by the program, or by default.
    pub const fn ignores(&self, signal: Signal) -> bool {
        self.disposition(signal).is_ignored()
    }

    /// What execve leaves: ignored signals stay ignored, everything else is as in the beginning.
    #[must_use]
    pub fn for_new_image(&self) -> Self {
        let mut actions = Self::new();
        for (new, old) in actions.0.iter_mut().zip(&self.0) {
            if old.handler == SIG_IGN {
                new.handler = SIG_IGN;
            }
        }
        actions
    }

    /// clone3's CLEAR_SIGHAND: handlers go, what is ignored stays ignored.
    #[must_use]
    pub fn without_handlers(&self) -> Self {
        let mut actions = self.clone();
        actions.0.iter_mut().filter(|action| action.is_handler()).for_each(|action| *action = Action::default());
        actions
    }

    /// Back to default for a handler that is to run once, and for a fault that the program blocks or ignores.
    pub const fn reset(&mut self, signal: Signal) {
        self.0[signal.index()].handler = SIG_DFL;
    }

    /// For /proc/PID/status: which are ignored, which are handled.
    pub fn summary(&self) -> (SignalSet, SignalSet) {
        (1..=64).filter_map(Signal::new).fold((SignalSet::EMPTY, SignalSet::EMPTY), |(ignored, handled), signal| {
            match self.get(signal).handler {
                SIG_DFL => (ignored, handled),
                SIG_IGN => (ignored.with(signal), handled),
                _ => (ignored, handled.with(signal)),
            }
        })
    }
}

impl Default for Actions {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_image_keeps_what_is_ignored_and_nothing_else() {
        let mut actions = Actions::new();
        actions.set(Signal::INT, Action { handler: 0x40_0000, ..Action::default() });
        actions.set(Signal::HUP, Action { handler: SIG_IGN, flags: 4, ..Action::default() });
        let new = actions.for_new_image();
        assert_eq!(new.get(Signal::INT), Action::default());
        assert_eq!(new.get(Signal::HUP), Action { handler: SIG_IGN, ..Action::default() });
    }

    #[test]
    fn kill_and_stop_cannot_be_masked_and_unknown_flags_are_dropped() {
        let action = Action { handler: 2, flags: u64::MAX, restorer: 3, mask: u64::MAX }.sanitised();
        assert_eq!(action.mask, !(Signal::KILL.bit() | Signal::STOP.bit()));
        assert_eq!(action.flags & 0x400, 0);
        assert_eq!(action.flags & 0x2000_0000, 0);
    }

    #[test]
    fn signals_that_are_ignored_by_default_count_as_ignored() {
        assert!(Actions::new().ignores(Signal::CHLD));
        assert!(!Actions::new().ignores(Signal::TERM));
    }
}
