//! What programs read the time from without entering the kernel: a page that they have read-only, `[vvar]` in /proc/PID/maps.
//!
//! The kernel's own clock doesn't use it. Each change of the clock is written here as well, between two counts: of changes
//! begun, and of changes ended. A reader looks at the second first and at the first last; who sees them differ asks the kernel
//! instead. asm/user/vdso.asm reads it.

use super::time_scale::NS_PER_SECOND;
use core::mem::offset_of;
use core::sync::atomic::Ordering::{Relaxed, Release};
use core::sync::atomic::{AtomicU64, fence};

/// The clock as far as the time-stamp counter tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TscTime {
    /// The time-stamp counter at time 0.
    pub tsc_at_start: u64,
    /// A [`TimeScale`](super::time_scale::TimeScale) in fixed point.
    pub scale: u64,
    /// Nanoseconds between 1970 and time 0.
    pub wall_clock_at_start_ns: u64,
}

#[repr(C)]
pub struct TimePage {
    begun: AtomicU64,
    ended: AtomicU64,
    tsc_at_start: AtomicU64,
    scale: AtomicU64,
    /// The time of day at time 0: whole seconds since 1970.
    wall_seconds: AtomicU64,
    /// And the nanoseconds past them.
    wall_ns: AtomicU64,
}

const _: () = {
    assert!(offset_of!(TimePage, begun) == 0, "struc time_page in asm/user/vdso.asm");
    assert!(offset_of!(TimePage, ended) == 8, "struc time_page in asm/user/vdso.asm");
    assert!(offset_of!(TimePage, tsc_at_start) == 16, "struc time_page in asm/user/vdso.asm");
    assert!(offset_of!(TimePage, scale) == 24, "struc time_page in asm/user/vdso.asm");
    assert!(offset_of!(TimePage, wall_seconds) == 32, "struc time_page in asm/user/vdso.asm");
    assert!(offset_of!(TimePage, wall_ns) == 40, "struc time_page in asm/user/vdso.asm");
};

impl TimePage {
    /// Writes what the clock is now; a change to None, where the time-stamp counter isn't its source, doesn't end. One writer
    /// at a time.
    pub fn write(&self, time: Option<TscTime>) {
        let change = self.ended.load(Relaxed).wrapping_add(1);
        self.begun.store(change, Relaxed);
        fence(Release);
        let Some(time) = time else { return };
        self.tsc_at_start.store(time.tsc_at_start, Relaxed);
        self.scale.store(time.scale, Relaxed);
        self.wall_seconds.store(time.wall_clock_at_start_ns / NS_PER_SECOND, Relaxed);
        self.wall_ns.store(time.wall_clock_at_start_ns % NS_PER_SECOND, Relaxed);
        self.ended.store(change, Release);
    }
}
