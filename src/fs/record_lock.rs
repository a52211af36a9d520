//! Advisory locks on files: record locks of processes and of open files (`fcntl(2)`), and `flock(2)`.
//!
//! The lists are short and most files never have one; a flag says so to those who close files.

use super::waiting::{WaitQueue, wait_restartably};
use crate::errno::Errno;
use crate::lock::{Lock, Rank};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

/// Who holds a lock. Flocks and record locks don't hinder each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    Process(u32),
    /// An open file, by its address: it gives up its locks before it goes.
    File(usize),
    Flock(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Shared,
    Exclusive,
}

/// A lock on the bytes from `start` up to, not including, `end`; `u64::MAX` stands for whatever the file grows to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordLock {
    pub owner: Owner,
    pub kind: Kind,
    pub start: u64,
    pub end: u64,
}

/// A file's locks.
pub struct FileLocks {
    used: AtomicBool,
    held: Lock<Vec<RecordLock>>,
}

/// Woken whenever a lock anywhere is given up: that is rare, and few wait.
static RELEASED: WaitQueue = WaitQueue::new();

/// How many locks there are on all files, and may be: they cost nothing that is counted for anybody.
static HELD: AtomicUsize = AtomicUsize::new(0);
const HELD_MAX: usize = 1 << 16;

/// Which process waits for which other one's lock, to find deadlocks.
static WAITING: Lock<Vec<(u32, u32)>> = Lock::new(Rank::Inode, Vec::new());

impl Owner {
    fn hinders(self, other: Self) -> bool {
        self != other && matches!(self, Self::Flock(_)) == matches!(other, Self::Flock(_))
    }
}

impl RecordLock {
    pub const WHOLE_END: u64 = u64::MAX;

    fn conflicts_with(&self, other: &Self) -> bool {
        self.owner.hinders(other.owner)
            && (self.kind == Kind::Exclusive || other.kind == Kind::Exclusive)
            && self.start < other.end
            && other.start < self.end
    }
}

impl Default for FileLocks {
    fn default() -> Self {
        Self::new()
    }
}

impl FileLocks {
    pub const fn new() -> Self {
        Self { used: AtomicBool::new(false), held: Lock::new(Rank::Inode, Vec::new()) }
    }

    /// Whether the file ever had a lock.
    #[inline]
    pub fn are_used(&self) -> bool {
        self.used.load(Relaxed)
    }

    /// A lock that `wanted` would have to wait for.
    pub fn conflict(&self, wanted: &RecordLock) -> Option<RecordLock> {
        self.held.lock().iter().find(|held| held.conflicts_with(wanted)).copied()
    }

    /// Sets a lock in place of what its owner has there; EAGAIN if another's is in the way.
    pub fn set(&self, wanted: &RecordLock) -> Result<(), Errno> {
        let mut held = self.held.lock();
        if held.iter().any(|lock| lock.conflicts_with(wanted)) {
            return Err(Errno::EAGAIN);
        }
        if HELD.load(Relaxed) >= HELD_MAX {
            return Err(Errno::ENOLCK);
        }
        self.used.store(true, Relaxed);
        // One lock cut in two and the new one.
        held.try_reserve(2).map_err(|_| Errno::ENOLCK)?;
        counting(&mut held, |held| {
            cut(held, wanted);
            join_neighbours(held, wanted);
        });
        drop(held);
        // A lock made weaker may let others in.
        RELEASED.wake_all();
        Ok(())
    }

    /// Sets a lock, and waits until that can be done. EDEADLK if the one in the way waits, in turn, for this process.
    pub fn set_waiting(&self, wanted: &RecordLock) -> Result<(), Errno> {
        let attempt = || match self.set(wanted) {
            Err(Errno::EAGAIN) => self.note_waiting(wanted).err().map(Err),
            result => Some(result),
        };
        let result = wait_restartably(&RELEASED, attempt);
        if let Owner::Process(pid) = wanted.owner {
            WAITING.lock().retain(|(waiter, _)| *waiter != pid);
        }
        result?
    }

    /// Gives up what `owner` has of the range.
    pub fn unlock(&self, owner: Owner, start: u64, end: u64) -> Result<(), Errno> {
        if !self.are_used() {
            return Ok(());
        }
        let mut held = self.held.lock();
        held.try_reserve(1).map_err(|_| Errno::ENOLCK)?;
        counting(&mut held, |held| cut(held, &RecordLock { owner, kind: Kind::Shared, start, end }));
        drop(held);
        RELEASED.wake_all();
        Ok(())
    }

    /// A process closed a descriptor of this file: its record locks are gone.
    pub fn release_process(&self, pid: u32) {
        self.release(|owner| owner == Owner::Process(pid));
    }

    /// An open file is going.
    pub fn release_file(&self, address: usize) {
        self.release(|owner| owner == Owner::File(address) || owner == Owner::Flock(address));
    }

    fn release(&self, goes: impl Fn(Owner) -> bool) {
        counting(&mut self.held.lock(), |held| held.retain(|lock| !goes(lock.owner)));
        RELEASED.wake_all();
    }

    fn note_waiting(&self, wanted: &RecordLock) -> Result<(), Errno> {
        let (Owner::Process(pid), Some(conflict)) = (wanted.owner, self.conflict(wanted)) else { return Ok(()) };
        let Owner::Process(mut holder) = conflict.owner else { return Ok(()) };
        let mut waiting = WAITING.lock();
        waiting.retain(|(waiter, _)| *waiter != pid);
        let first = holder;
        // As on Linux a chain that is longer than this isn't followed.
        for _ in 0..10 {
            if holder == pid {
                return Err(Errno::EDEADLK);
            }
            match waiting.iter().find(|(waiter, _)| *waiter == holder) {
                Some((_, next)) => holder = *next,
                None => break,
            }
        }
        waiting.try_reserve(1).map_err(|_| Errno::ENOLCK)?;
        waiting.push((pid, first));
        Ok(())
    }
}

/// Does something to a file's locks, and keeps [`HELD`] true.
fn counting(held: &mut Vec<RecordLock>, change: impl FnOnce(&mut Vec<RecordLock>)) {
    let before = held.len();
    change(held);
    HELD.fetch_add(held.len(), Relaxed);
    HELD.fetch_sub(before, Relaxed);
}

/// Takes the range of `lock` out of all that its owner holds. There is room for one more entry.
fn cut(held: &mut Vec<RecordLock>, lock: &RecordLock) {
    let mut tail = None;
    for other in held.iter_mut().filter(|other| other.owner == lock.owner) {
        if other.start >= lock.end || other.end <= lock.start {
            continue;
        }
        match (other.start < lock.start, other.end > lock.end) {
            (true, true) => {
                tail = Some(RecordLock { start: lock.end, ..*other });
                other.end = lock.start;
            }
            (true, false) => other.end = lock.start,
            (false, true) => other.start = lock.end,
            (false, false) => other.end = other.start,
        }
    }
    held.retain(|lock| lock.start < lock.end);
    held.extend(tail);
}

/// Adds a lock whose range is free of its owner's others, as one with those that it touches.
fn join_neighbours(held: &mut Vec<RecordLock>, lock: &RecordLock) {
    let mut joined = *lock;
    held.retain(|other| {
        let touches = other.end == joined.start || other.start == joined.end;
        let joins = touches && other.owner == lock.owner && other.kind == lock.kind;
        if joins {
            joined.start = joined.start.min(other.start);
            joined.end = joined.end.max(other.end);
        }
        !joins
    });
    held.push(joined);
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROCESSES: u32 = 3;
    const BYTES: usize = 24;

    fn lock(pid: u32, kind: Kind, start: u64, end: u64) -> RecordLock {
        RecordLock { owner: Owner::Process(pid), kind, start, end }
    }

    #[test]
    fn do_locks_behave_as_if_each_byte_had_its_own() {
        let locks = FileLocks::new();
        let mut model = [[None; BYTES]; PROCESSES as usize];
        let mut random = 5u64;
        for _ in 0..20_000 {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let mut pick = |count: u64| {
                random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (random >> 33) % count
            };
            let pid = pick(PROCESSES.into()) as u32;
            let start = pick(BYTES as u64);
            let end = start + 1 + pick(BYTES as u64 - start);
            let range = start as usize..end as usize;
            let kind = [None, Some(Kind::Shared), Some(Kind::Exclusive)][pick(3) as usize];
            let Some(wanted) = kind else {
                locks.unlock(Owner::Process(pid), start, end).unwrap();
                model[pid as usize][range].fill(None);
                continue;
            };
            let hindered = (0..PROCESSES).filter(|other| *other != pid).any(|other| {
                model[other as usize][range.clone()]
                    .iter()
                    .flatten()
                    .any(|held| *held == Kind::Exclusive || wanted == Kind::Exclusive)
            });
            let result = locks.set(&lock(pid, wanted, start, end));
            assert_eq!(result, if hindered { Err(Errno::EAGAIN) } else { Ok(()) });
            if !hindered {
                model[pid as usize][range].fill(Some(wanted));
            }
            for (held, own) in locks.held.lock().iter().map(|held| (held, held.owner)) {
                let Owner::Process(pid) = own else { unreachable!() };
                let bytes = &model[pid as usize][held.start as usize..held.end as usize];
                assert!(bytes.iter().all(|byte| *byte == Some(held.kind)));
            }
            let locked: u64 = locks.held.lock().iter().map(|held| held.end - held.start).sum();
            assert_eq!(locked as usize, model.iter().flatten().flatten().count());
        }
    }

    #[test]
    fn do_flocks_and_record_locks_ignore_each_other() {
        let locks = FileLocks::new();
        let whole = |owner| RecordLock { owner, kind: Kind::Exclusive, start: 0, end: RecordLock::WHOLE_END };
        locks.set(&whole(Owner::Process(1))).unwrap();
        locks.set(&whole(Owner::Flock(1))).unwrap();
        assert_eq!(locks.set(&whole(Owner::File(1))), Err(Errno::EAGAIN));
        assert_eq!(locks.set(&whole(Owner::Flock(2))), Err(Errno::EAGAIN));
        locks.release_file(1);
        locks.set(&whole(Owner::Flock(2))).unwrap();
        locks.release_process(1);
        locks.set(&whole(Owner::File(1))).unwrap();
    }
}
