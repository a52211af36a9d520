//! How many files are open in the whole system: more than the machine can bear is ENFILE (Linux's file-max).

use crate::errno::Errno;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// A tenth of memory is for open files at most, each taken as a KiB.
const FILES_PER_FRAME: (usize, usize) = (4, 10);
const FEWEST: usize = 8192;

static COUNT: AtomicUsize = AtomicUsize::new(0);
static LIMIT: AtomicUsize = AtomicUsize::new(usize::MAX);

/// One open file, as long as the value lives.
pub struct Counted(());

/// Sets the limit for a machine with so many frames.
pub fn limit(frames: usize) {
    let (files, of_frames) = FILES_PER_FRAME;
    LIMIT.store((frames.saturating_mul(files) / of_frames).max(FEWEST), Relaxed);
}

/// How many files are open, and how many may be.
pub fn now() -> (usize, usize) {
    (COUNT.load(Relaxed), LIMIT.load(Relaxed))
}

impl Counted {
    pub fn new() -> Result<Self, Errno> {
        let limit = LIMIT.load(Relaxed);
        COUNT
            .try_update(Relaxed, Relaxed, |count| (count < limit).then_some(count + 1))
            .map(|_| Self(()))
            .map_err(|_| Errno::ENFILE)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        COUNT.fetch_sub(1, Relaxed);
    }
}
