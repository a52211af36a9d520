//! Signals that were sent and not yet taken.
//!
//! Of signals 1 to 31 one each can be pending; real-time ones queue up. That a signal is pending never gets lost; what came
//! with it can, when memory is short, as on Linux.

use super::info::{Info, Origin, code};
use super::numbers::{Signal, SignalSet};
use crate::errno::Errno;
use alloc::vec::Vec;

/// The synchronous ones are taken first: the program can't go on before (Linux: SYNCHRONOUS_MASK).
const SYNCHRONOUS: SignalSet = SignalSet::EMPTY
    .with(Signal::SEGV)
    .with(Signal::BUS)
    .with(Signal::ILL)
    .with(Signal::TRAP)
    .with(Signal::FPE)
    .with(Signal::SYS);

#[derive(Debug, Default)]
pub struct Pending {
    set: SignalSet,
    /// In the order in which they were sent.
    infos: Vec<Info>,
}

impl Pending {
    pub const fn new() -> Self {
        Self { set: SignalSet::EMPTY, infos: Vec::new() }
    }

    pub const fn set(&self) -> SignalSet {
        self.set
    }

    pub const fn queued(&self) -> usize {
        self.infos.len()
    }

    /// EAGAIN only for a real-time signal that somebody queued and that there is no room for.
    pub fn add(&mut self, info: Info, has_room: bool) -> Result<(), Errno> {
        if !info.signal.is_real_time() && self.set.contains(info.signal) {
            return Ok(());
        }
        if has_room && self.infos.try_reserve(1).is_ok() {
            self.infos.push(info);
        } else if info.signal.is_real_time() && info.code != code::USER {
            return Err(Errno::EAGAIN);
        }
        self.set = self.set.with(info.signal);
        Ok(())
    }

    /// Takes the next one out that is in `wanted`.
    pub fn take(&mut self, wanted: SignalSet) -> Option<Info> {
        let candidates = self.set.intersection(wanted);
        let signal = candidates.intersection(SYNCHRONOUS).first().or(candidates.first())?;
        let mut of_this_signal = self.infos.iter().enumerate().filter(|(_, info)| info.signal == signal);
        let first = of_this_signal.next().map(|(index, _)| index);
        let more = of_this_signal.next().is_some();
        if !more {
            self.set = self.set.without(signal);
        }
        match first {
            // The usual case: `remove` would move what comes after it, nothing, by a call.
            Some(index) if index.checked_add(1) == Some(self.infos.len()) => self.infos.pop(),
            Some(index) => Some(self.infos.remove(index)),
            None => Some(Info { signal, code: code::USER, origin: Origin::Process { pid: 0, uid: 0 } }),
        }
    }

    /// Forgets all that are in `unwanted`.
    pub fn discard(&mut self, unwanted: SignalSet) {
        self.set = self.set.difference(unwanted);
        self.infos.retain(|info| !unwanted.contains(info.signal));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(signal: Signal, pid: u32) -> Info {
        Info { signal, code: code::USER, origin: Origin::Process { pid, uid: 0 } }
    }

    const ALL: SignalSet = SignalSet::from_bits(u64::MAX);

    #[test]
    fn a_standard_signal_is_pending_once_and_a_real_time_one_as_often_as_it_was_sent() {
        let mut pending = Pending::new();
        let real_time = Signal::new(40).unwrap();
        for pid in [1, 2] {
            pending.add(sent(Signal::USR1, pid), true).unwrap();
            pending.add(sent(real_time, pid), true).unwrap();
        }
        assert_eq!(pending.take(ALL), Some(sent(Signal::USR1, 1)));
        assert_eq!(pending.take(ALL), Some(sent(real_time, 1)));
        assert_eq!(pending.take(ALL), Some(sent(real_time, 2)));
        assert_eq!(pending.take(ALL), None);
        assert!(pending.set().is_empty());
    }

    #[test]
    fn faults_come_first_and_blocked_ones_stay() {
        let mut pending = Pending::new();
        for signal in [Signal::HUP, Signal::SEGV, Signal::INT] {
            pending.add(sent(signal, 1), true).unwrap();
        }
        let unblocked = ALL.without(Signal::HUP);
        assert_eq!(pending.take(unblocked).map(|info| info.signal), Some(Signal::SEGV));
        assert_eq!(pending.take(unblocked).map(|info| info.signal), Some(Signal::INT));
        assert_eq!(pending.take(unblocked), None);
        assert!(pending.set().contains(Signal::HUP));
    }

    #[test]
    fn past_the_limit_a_queued_signal_is_refused_and_a_killed_one_is_not_lost() {
        let mut pending = Pending::new();
        let real_time = Signal::new(64).unwrap();
        let queued = Info { signal: real_time, code: code::QUEUE, origin: Origin::Queued { pid: 1, uid: 0, value: 0 } };
        assert_eq!(pending.add(queued, false), Err(Errno::EAGAIN));
        pending.add(sent(real_time, 5), false).unwrap();
        assert_eq!(pending.take(ALL), Some(sent(real_time, 0)));
    }

    #[test]
    fn discarding_forgets_what_came_with_them_too() {
        let mut pending = Pending::new();
        pending.add(sent(Signal::TSTP, 1), true).unwrap();
        pending.discard(SignalSet::EMPTY.with(Signal::TSTP));
        assert_eq!((pending.take(ALL), pending.queued()), (None, 0));
    }
}
