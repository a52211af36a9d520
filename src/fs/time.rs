//! Time stamps of files.

const NS_PER_SECOND: i64 = 1_000_000_000;

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

    /// Until when, in nanoseconds since 1970, a read leaves the access time alone. As Linux's `relatime`: no time at all where it
    /// isn't later than the last change, else until it is a day old.
    pub fn access_is_fresh_until_ns(&self) -> i64 {
        const DAY_SECONDS: i64 = 24 * 60 * 60;
        if self.accessed <= self.modified.max(self.changed) {
            return i64::MIN;
        }
        self.accessed.seconds.saturating_add(DAY_SECONDS).saturating_mul(NS_PER_SECOND)
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

#[cfg(not(target_os = "none"))]
pub fn now_ns() -> i64 {
    now().seconds.wrapping_mul(NS_PER_SECOND)
}

/// The same in nanoseconds, for comparisons: it takes no division.
#[cfg(target_os = "none")]
#[inline]
pub fn now_ns() -> i64 {
    crate::interrupts::clock::wall_clock_ns() as i64
}

/// The time of day for time stamps.
#[cfg(target_os = "none")]
pub fn now() -> Timestamp {
    Timestamp::from_ns(crate::interrupts::clock::wall_clock_ns())
}
