//! Makes the n-th allocation, file read or access to a program's memory fail, for the tests that prove that a failure leaves
//! nothing half done.
//!
//! In ordinary builds [`should_fail`] is a constant `false` and costs nothing.

/// Where a failure can be injected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Point {
    HeapAllocation = 1,
    FrameAllocation = 2,
    FileRead = 4,
    /// A copy to or from a program's memory, which is EFAULT then.
    UserAccess = 8,
}

#[cfg(feature = "kernel-tests")]
mod armed {
    use super::Point;
    use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

    /// A set of [`Point`]s, by their values; zero while nothing is armed.
    static POINTS: AtomicU32 = AtomicU32::new(0);
    static REMAINING: AtomicU64 = AtomicU64::new(0);

    /// The `countdown`-th passage (from 0) through one of the points fails; those before and after it do not.
    pub fn arm(points: &[Point], countdown: u64) {
        REMAINING.store(countdown, Relaxed);
        POINTS.store(points.iter().fold(0, |set, point| set | *point as u32), Relaxed);
    }

    /// Ends it; true if the failure was delivered.
    pub fn disarm() -> bool {
        POINTS.swap(0, Relaxed) == 0
    }

    pub fn should_fail(point: Point) -> bool {
        if POINTS.load(Relaxed) & point as u32 == 0 {
            return false;
        }
        if REMAINING.load(Relaxed) == 0 {
            POINTS.store(0, Relaxed);
            return true;
        }
        REMAINING.fetch_sub(1, Relaxed);
        false
    }
}

#[cfg(feature = "kernel-tests")]
pub use armed::{arm, disarm, should_fail};

#[cfg(not(feature = "kernel-tests"))]
#[inline(always)]
pub const fn should_fail(_: Point) -> bool {
    false
}
