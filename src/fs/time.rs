//! Time stamps of files.

/// A point in time, as Linux's `struct timespec`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp {
    pub seconds: i64,
    pub nanoseconds: u32,
}

impl Timestamp {
    pub const fn from_ns(ns: u64) -> Self {
        Self { seconds: (ns / 1_000_000_000) as i64, nanoseconds: (ns % 1_000_000_000) as u32 }
    }

    pub const fn from_seconds(seconds: i64) -> Self {
        Self { seconds, nanoseconds: 0 }
    }
}

/// A file's three times (`inode(7)`).
#[derive(Clone, Copy, Debug, Default)]
pub struct Times {
    pub accessed: Timestamp,
    pub modified: Timestamp,
    pub changed: Timestamp,
}

impl Times {
    pub const fn all(time: Timestamp) -> Self {
        Self { accessed: time, modified: time, changed: time }
    }

    /// Whether a read must set the access time: as Linux's `relatime`, only when it isn't later than the last change
    /// already, or a day old.
    pub fn access_is_stale(&self, now: Timestamp) -> bool {
        const DAY: i64 = 24 * 60 * 60;
        self.accessed <= self.modified
            || self.accessed <= self.changed
            || now.seconds.saturating_sub(self.accessed.seconds) >= DAY
    }
}

/// The time of day for time stamps.
#[cfg(not(target_os = "none"))]
pub fn now() -> Timestamp {
    // A counter serves the host's tests better than a clock: every stamp differs from the one before.
    use core::sync::atomic::{AtomicI64, Ordering::Relaxed};
    static TICKS: AtomicI64 = AtomicI64::new(0);
    Timestamp { seconds: TICKS.fetch_add(1, Relaxed), nanoseconds: 0 }
}

/// The time of day for time stamps.
#[cfg(target_os = "none")]
pub fn now() -> Timestamp {
    Timestamp::from_ns(crate::interrupts::clock::wall_clock_ns())
}
