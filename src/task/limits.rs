//! Resource limits (getrlimit(2)): how much of everything a process may use.

#![expect(clippy::indexing_slicing, reason = "a Resource is an index into its own table")]

use super::ids::PID_MAX;
use crate::memory;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// RLIM_INFINITY.
pub const INFINITY: u64 = u64::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Limit {
    /// What is enforced.
    pub soft: u64,
    /// How far the process may raise it.
    pub hard: u64,
}

/// Linux's numbers for the resources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Resource {
    CpuSeconds = 0,
    FileSize = 1,
    Data = 2,
    Stack = 3,
    Core = 4,
    ResidentSet = 5,
    Processes = 6,
    OpenFiles = 7,
    LockedMemory = 8,
    AddressSpace = 9,
    FileLocks = 10,
    PendingSignals = 11,
    MessageQueues = 12,
    Nice = 13,
    RealTimePriority = 14,
    RealTimeTime = 15,
}

pub const RESOURCE_COUNT: usize = 16;

/// As many frames as there are for each thread that may exist: so threads can't take all memory, whoever makes them (Linux's
/// threads-max).
const FRAMES_PER_THREAD: usize = 64;
const FEWEST_THREADS: usize = 64;

static THREADS_MAX: AtomicUsize = AtomicUsize::new(PID_MAX as usize);

/// Takes what follows from the machine's size, before there are threads.
pub fn init(frames: usize) {
    THREADS_MAX.store((frames / FRAMES_PER_THREAD).clamp(FEWEST_THREADS, PID_MAX as usize), Relaxed);
}

/// How many threads there may be, of all processes.
pub fn threads_max() -> usize {
    THREADS_MAX.load(Relaxed)
}

/// What init starts with; everybody else inherits. As on a Linux machine of this size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits([Limit; RESOURCE_COUNT]);

impl Limits {
    pub const fn new() -> Self {
        const NONE: Limit = Limit { soft: INFINITY, hard: INFINITY };
        let mut limits = [NONE; RESOURCE_COUNT];
        limits[Resource::Stack as usize] = Limit { soft: 8 << 20, hard: INFINITY };
        limits[Resource::Core as usize] = Limit { soft: 0, hard: INFINITY };
        limits[Resource::OpenFiles as usize] = Limit { soft: 1024, hard: 4096 };
        limits[Resource::LockedMemory as usize] = Limit { soft: 8 << 20, hard: 8 << 20 };
        limits[Resource::MessageQueues as usize] = Limit { soft: 819_200, hard: 819_200 };
        limits[Resource::Nice as usize] = Limit { soft: 0, hard: 0 };
        limits[Resource::RealTimePriority as usize] = Limit { soft: 0, hard: 0 };
        Self(limits)
    }

    /// Those of the first process: no user may take all threads, nor let so many signals wait.
    pub fn of_init() -> Self {
        let mut limits = Self::new();
        let half = threads_max() as u64 / 2;
        for resource in [Resource::Processes, Resource::PendingSignals] {
            limits.set(resource, Limit { soft: half, hard: half });
        }
        limits
    }

    pub const fn get(&self, resource: Resource) -> Limit {
        self.0[resource as usize]
    }

    pub const fn set(&mut self, resource: Resource, limit: Limit) {
        self.0[resource as usize] = limit;
    }

    /// Enforces no more than this.
    pub fn lower(&mut self, resource: Resource, soft: u64) {
        let limit = &mut self.0[resource as usize];
        limit.soft = limit.soft.min(soft);
    }
}

impl Limits {
    /// Those that an address space looks at.
    pub const fn of_address_space(&self) -> memory::Limits {
        memory::Limits {
            address_space: self.get(Resource::AddressSpace).soft,
            data: self.get(Resource::Data).soft,
            stack: self.get(Resource::Stack).soft,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::new()
    }
}

impl Resource {
    pub fn from_number(number: u32) -> Option<Self> {
        use Resource::*;
        const ALL: [Resource; RESOURCE_COUNT] = [
            CpuSeconds,
            FileSize,
            Data,
            Stack,
            Core,
            ResidentSet,
            Processes,
            OpenFiles,
            LockedMemory,
            AddressSpace,
            FileLocks,
            PendingSignals,
            MessageQueues,
            Nice,
            RealTimePriority,
            RealTimeTime,
        ];
        ALL.get(usize::try_from(number).ok()?).copied()
    }
}
