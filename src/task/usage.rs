//! What a thread, a process and its children have used: for getrusage(2), wait4(2), times(2) and /proc.
//!
//! A thread counts for itself. What it counted is booked to its process when it ends, and what a process used to its parent
//! when that has waited for it.

use crate::interrupts::time_scale::NS_PER_SECOND;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What times(2), SIGCHLD, AT_CLKTCK and /proc count in: hundredths of a second on Linux, whatever the timer does.
pub const CLOCK_TICKS_PER_SECOND: u64 = 100;
pub const NS_PER_CLOCK_TICK: u64 = NS_PER_SECOND / CLOCK_TICKS_PER_SECOND;

/// What is known at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub user_ns: u64,
    pub system_ns: u64,
    /// Faults that found their page in memory: all there are.
    pub minor_faults: u64,
    /// How often the CPU was given away to wait, and how often it was taken away.
    pub voluntary_switches: u64,
    pub involuntary_switches: u64,
    /// The largest resident set of an image.
    pub peak_bytes: u64,
}

/// A sum to which several may add at once.
#[derive(Default)]
pub struct Total {
    user_ns: AtomicU64,
    system_ns: AtomicU64,
    minor_faults: AtomicU64,
    voluntary_switches: AtomicU64,
    involuntary_switches: AtomicU64,
    peak_bytes: AtomicU64,
}

/// What a thread counts as it goes. Only the thread itself changes this, or the switch that takes the CPU from it.
#[derive(Default)]
pub struct Counts {
    minor_faults: AtomicU64,
    voluntary_switches: AtomicU64,
    involuntary_switches: AtomicU64,
}

impl Usage {
    #[must_use]
    pub fn plus(self, other: Usage) -> Usage {
        Usage {
            user_ns: self.user_ns.wrapping_add(other.user_ns),
            system_ns: self.system_ns.wrapping_add(other.system_ns),
            minor_faults: self.minor_faults.wrapping_add(other.minor_faults),
            voluntary_switches: self.voluntary_switches.wrapping_add(other.voluntary_switches),
            involuntary_switches: self.involuntary_switches.wrapping_add(other.involuntary_switches),
            peak_bytes: self.peak_bytes.max(other.peak_bytes),
        }
    }
}

impl Total {
    pub fn add(&self, usage: Usage) {
        self.user_ns.fetch_add(usage.user_ns, Relaxed);
        self.system_ns.fetch_add(usage.system_ns, Relaxed);
        self.minor_faults.fetch_add(usage.minor_faults, Relaxed);
        self.voluntary_switches.fetch_add(usage.voluntary_switches, Relaxed);
        self.involuntary_switches.fetch_add(usage.involuntary_switches, Relaxed);
        self.note_peak(usage.peak_bytes);
    }

    /// An image is gone that had this much in memory at most.
    pub fn note_peak(&self, bytes: u64) {
        self.peak_bytes.fetch_max(bytes, Relaxed);
    }

    pub fn get(&self) -> Usage {
        Usage {
            user_ns: self.user_ns.load(Relaxed),
            system_ns: self.system_ns.load(Relaxed),
            minor_faults: self.minor_faults.load(Relaxed),
            voluntary_switches: self.voluntary_switches.load(Relaxed),
            involuntary_switches: self.involuntary_switches.load(Relaxed),
            peak_bytes: self.peak_bytes.load(Relaxed),
        }
    }
}

impl Counts {
    #[inline]
    pub fn note_fault(&self) {
        increment(&self.minor_faults);
    }

    #[inline]
    pub fn note_switch(&self, is_voluntary: bool) {
        increment(if is_voluntary { &self.voluntary_switches } else { &self.involuntary_switches });
    }

    /// The counts, with no times and no memory.
    pub fn get(&self) -> Usage {
        Usage {
            minor_faults: self.minor_faults.load(Relaxed),
            voluntary_switches: self.voluntary_switches.load(Relaxed),
            involuntary_switches: self.involuntary_switches.load(Relaxed),
            ..Usage::default()
        }
    }
}

/// By the only one that changes the number.
#[inline]
fn increment(number: &AtomicU64) {
    number.store(number.load(Relaxed).wrapping_add(1), Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_add_up_and_the_peak_is_the_greatest() {
        let total = Total::default();
        let usage = Usage { user_ns: 1, system_ns: 2, minor_faults: 3, peak_bytes: 40, ..Usage::default() };
        total.add(usage);
        total.add(Usage { peak_bytes: 30, ..usage });
        let twice = Usage { user_ns: 2, system_ns: 4, minor_faults: 6, peak_bytes: 40, ..Usage::default() };
        assert_eq!(total.get(), twice);
        assert_eq!(usage.plus(Usage { peak_bytes: 30, ..usage }), twice);
    }

    #[test]
    fn switches_are_told_apart() {
        let counts = Counts::default();
        counts.note_fault();
        for is_voluntary in [true, true, false] {
            counts.note_switch(is_voluntary);
        }
        let expected = Usage { minor_faults: 1, voluntary_switches: 2, involuntary_switches: 1, ..Usage::default() };
        assert_eq!(counts.get(), expected);
    }
}
