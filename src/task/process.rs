//! A process: what its threads share, and the table in which processes and threads are found.

use super::alarm::Timers;
use super::credentials::Credentials;
use super::family::{Family, FreeIds, Member, Status};
use super::ids::IdTable;
use super::limits::{Limits, Resource};
use super::signal::ProcessSignals;
use super::thread::{NAME_BYTES, Thread};
use super::usage::{Total, Usage};
use super::wait_queue::WaitQueue;
use crate::drivers::terminal::Controlling;
use crate::errno::Errno;
use crate::exec::Identity;
use crate::exec::program_file::ProgramFile;
use crate::fs::{FileTable, FsContext};
use crate::lock::{Guard, Lock, Rank};
use crate::memory::AddressSpace;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

pub type SharedAddressSpace = Arc<Lock<AddressSpace>>;

pub struct Process {
    pub pid: u32,
    /// What clone can share between processes, each behind a counted reference. None once the process has ended.
    address_space: Lock<Option<SharedAddressSpace>>,
    files: Lock<Option<Arc<Lock<FileTable>>>>,
    fs_context: Lock<Option<Arc<Lock<FsContext>>>>,
    credentials: Lock<Arc<Credentials>>,
    /// The file that runs: /proc/PID/exe. Kept, so that nobody writes to it.
    program: Lock<Option<Arc<ProgramFile>>>,
    pub limits: Lock<Limits>,
    pub signals: ProcessSignals,
    threads: Lock<Vec<Arc<Thread>>>,
    pub usage: UsageOfEnded,
    pub(super) timers: Timers,
    /// Its children's news: ends, stops, continuations.
    pub children_changed: WaitQueue,
    /// Its own threads' ends, for the one that waits for the others (execve).
    pub threads_changed: WaitQueue,
    /// Somebody else's address space is in use here (vfork); cleared by execve and by the end.
    pub borrows_address_space: AtomicBool,
    /// Those who wait for that: the parent in vfork.
    pub address_space_returned: WaitQueue,
    /// Set once all threads are to end (exit_group, a deadly signal): with which status. The first one counts.
    ending: Lock<Option<Status>>,
    /// What it gets when its parent ends (PR_SET_PDEATHSIG); 0: nothing.
    pub parent_death_signal: AtomicU32,
    /// Orphans below it become its children (PR_SET_CHILD_SUBREAPER).
    pub is_subreaper: AtomicBool,
    /// PR_SET_DUMPABLE.
    pub is_dumpable: AtomicBool,
    /// Set-ID bits count for nothing any more, for it and all it starts (PR_SET_NO_NEW_PRIVS).
    pub no_new_privileges: AtomicBool,
    /// When it became its user's he had more than RLIMIT_NPROC allows: as long as he has, it executes nothing.
    pub is_one_too_many: AtomicBool,
    pub controlling: Controlling,
    /// What its last thread was called: a zombie has none left to ask.
    name_at_end: Lock<[u8; NAME_BYTES]>,
    pub start_time_ns: u64,
    /// personality(2): ADDR_NO_RANDOMIZE and the like.
    pub personality: AtomicU64,
}

/// What those used who are no more.
#[derive(Default)]
pub struct UsageOfEnded {
    /// The process's own threads, and its earlier images.
    pub threads: Total,
    /// Children that have been waited for, and theirs.
    pub children: Total,
}

/// What a new process is made of.
pub struct Parts {
    pub address_space: Option<SharedAddressSpace>,
    pub files: Option<Arc<Lock<FileTable>>>,
    pub fs_context: Option<Arc<Lock<FsContext>>>,
    pub credentials: Arc<Credentials>,
    pub program: Option<Arc<ProgramFile>>,
    pub limits: Limits,
    pub signals: ProcessSignals,
}

/// All processes and threads, by their ids.
pub struct Tasks {
    pub threads: IdTable<Arc<Thread>>,
    pub family: Family<Arc<Process>>,
}

static TASKS: Lock<Tasks> = Lock::new(Rank::ProcessTree, Tasks { threads: IdTable::new(), family: Family::new() });

pub fn tasks() -> Guard<'static, Tasks> {
    TASKS.lock()
}

pub use super::family::INIT_PID;

impl Tasks {
    /// Forgets a process that has ended. Its number is given back unless it is also that of others' group or session.
    pub fn forget_process(&mut self, pid: u32) -> Option<Arc<Process>> {
        let (process, free) = self.family.remove(pid)?;
        self.give_back(free);
        Some(process)
    }

    pub fn give_back(&mut self, ids: FreeIds) {
        ids.into_iter().for_each(|id| drop(self.threads.release(id)));
    }
}

impl Process {
    pub fn new(pid: u32, parts: Parts) -> Result<Arc<Self>, Errno> {
        let process = Self {
            pid,
            address_space: Lock::new(Rank::AddressSpaceOf, parts.address_space),
            files: Lock::new(Rank::Process, parts.files),
            fs_context: Lock::new(Rank::Process, parts.fs_context),
            credentials: Lock::new(Rank::Process, parts.credentials),
            program: Lock::new(Rank::Process, parts.program),
            limits: Lock::new(Rank::Process, parts.limits),
            signals: parts.signals,
            threads: Lock::new(Rank::Process, Vec::new()),
            usage: UsageOfEnded::default(),
            timers: Timers::new()?,
            children_changed: WaitQueue::new(),
            threads_changed: WaitQueue::new(),
            borrows_address_space: AtomicBool::new(false),
            address_space_returned: WaitQueue::new(),
            ending: Lock::new(Rank::Thread, None),
            parent_death_signal: AtomicU32::new(0),
            is_subreaper: AtomicBool::new(false),
            is_dumpable: AtomicBool::new(true),
            no_new_privileges: AtomicBool::new(false),
            is_one_too_many: AtomicBool::new(false),
            controlling: Controlling::default(),
            name_at_end: Lock::new(Rank::Thread, [0; NAME_BYTES]),
            start_time_ns: crate::interrupts::clock::now_ns(),
            personality: AtomicU64::new(0),
        };
        Arc::try_new(process).map_err(|_| Errno::ENOMEM)
    }

    pub fn address_space(&self) -> Option<SharedAddressSpace> {
        self.address_space.lock().clone()
    }

    /// As [`Self::address_space`], without another reference: for page faults.
    #[inline]
    pub fn with_address_space<R>(&self, use_it: impl FnOnce(&Lock<AddressSpace>) -> R) -> Option<R> {
        self.address_space.lock().as_deref().map(use_it)
    }

    /// Puts another address space in the place of the present one, which is returned. Only this process's own thread does
    /// this, when it is the only one (execve, exit).
    pub fn replace_address_space(&self, new: Option<SharedAddressSpace>) -> Option<SharedAddressSpace> {
        let old = core::mem::replace(&mut *self.address_space.lock(), new);
        if let Some(old) = &old {
            self.usage.threads.note_peak(old.lock().peak_resident_bytes());
        }
        old
    }

    /// ESRCH where the process has ended.
    pub fn files(&self) -> Result<Arc<Lock<FileTable>>, Errno> {
        self.files.lock().clone().ok_or(Errno::ESRCH)
    }

    #[inline]
    pub fn with_files<R>(&self, use_them: impl FnOnce(&mut FileTable) -> Result<R, Errno>) -> Result<R, Errno> {
        let files = self.files.lock();
        let mut table = files.as_deref().ok_or(Errno::ESRCH)?.lock();
        use_them(&mut table)
    }

    pub fn replace_files(&self, new: Option<Arc<Lock<FileTable>>>) -> Option<Arc<Lock<FileTable>>> {
        core::mem::replace(&mut *self.files.lock(), new)
    }

    pub fn fs_context(&self) -> Result<Arc<Lock<FsContext>>, Errno> {
        self.fs_context.lock().clone().ok_or(Errno::ESRCH)
    }

    pub fn replace_fs_context(&self, new: Option<Arc<Lock<FsContext>>>) -> Option<Arc<Lock<FsContext>>> {
        core::mem::replace(&mut *self.fs_context.lock(), new)
    }

    pub fn program(&self) -> Option<Arc<ProgramFile>> {
        self.program.lock().clone()
    }

    pub fn replace_program(&self, new: Option<Arc<ProgramFile>>) {
        let old = core::mem::replace(&mut *self.program.lock(), new);
        drop(old);
    }

    pub fn credentials(&self) -> Arc<Credentials> {
        self.credentials.lock().clone()
    }

    /// As [`Self::credentials`], without another reference.
    #[inline]
    pub fn with_credentials<R>(&self, ask: impl FnOnce(&Credentials) -> R) -> R {
        ask(&self.credentials.lock())
    }

    pub fn set_credentials(&self, new: Arc<Credentials>) {
        let old = core::mem::replace(&mut *self.credentials.lock(), new);
        drop(old);
    }

    pub fn threads(&self) -> Guard<'_, Vec<Arc<Thread>>> {
        self.threads.lock()
    }

    /// What execve changes first: whose rights the process has, and what goes with them.
    pub fn take_identity(&self, new: Identity) {
        if new.has_other_rights {
            self.parent_death_signal.store(0, Relaxed);
        }
        self.is_dumpable.store(new.is_dumpable, Relaxed);
        self.personality.store(new.personality, Relaxed);
        self.limits.lock().lower(Resource::Stack, new.stack_limit);
        self.set_credentials(new.credentials);
    }

    /// The thread whose id is the process's, or, once that one has ended, any other.
    pub fn main_thread(&self) -> Option<Arc<Thread>> {
        let threads = self.threads.lock();
        threads.iter().find(|thread| thread.tid() == self.pid).or_else(|| threads.first()).cloned()
    }

    /// Its main thread's name, or what that was when the process ended.
    pub fn name(&self) -> [u8; NAME_BYTES] {
        self.main_thread().map_or_else(|| *self.name_at_end.lock(), |thread| thread.name())
    }

    pub fn thread_count(&self) -> usize {
        self.threads.lock().len()
    }

    /// Adds a thread that is about to start; EAGAIN if the process is ending.
    pub fn add_thread(&self, thread: Arc<Thread>) -> Result<(), Errno> {
        let mut threads = self.threads.lock();
        if self.ending.lock().is_some() {
            return Err(Errno::EAGAIN);
        }
        threads.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        thread.group_index.store(threads.len(), Relaxed);
        threads.push(thread);
        Ok(())
    }

    /// The whole process is to end, with this status unless an earlier one was set.
    pub fn begin_ending(&self, status: Status) {
        self.ending.lock().get_or_insert(status);
    }

    /// With which status it ends. Threads that ended one by one left 0.
    pub fn ending_status(&self) -> Status {
        self.ending.lock().unwrap_or(Status::Exited(0))
    }

    /// vfork's child no longer uses its parent's memory.
    pub fn return_borrowed_address_space(&self) {
        if self.borrows_address_space.swap(false, Relaxed) {
            self.address_space_returned.wake_all();
        }
    }

    /// Takes an ended thread out; says how many are left.
    pub fn remove_thread(&self, thread: &Thread) -> usize {
        let mut threads = self.threads.lock();
        let index = thread.group_index.load(Relaxed);
        if threads.get(index).is_some_and(|found| core::ptr::eq(Arc::as_ptr(found), thread)) {
            let removed = threads.swap_remove(index);
            if let Some(moved) = threads.get(index) {
                moved.group_index.store(index, Relaxed);
            }
            let left = threads.len();
            drop(threads);
            if left == 0 {
                *self.name_at_end.lock() = removed.name();
            }
            drop(removed);
            return left;
        }
        threads.len()
    }
}

impl Process {
    /// What its threads have used, those that ended included, and how much memory it had at most.
    pub fn usage(&self) -> Usage {
        Usage { peak_bytes: self.peak_resident_bytes(), ..self.usage_of_threads() }
    }

    /// The same, but for memory.
    pub fn usage_of_threads(&self) -> Usage {
        self.threads().iter().fold(self.usage.threads.get(), |sum, thread| sum.plus(thread.usage()))
    }

    /// The largest resident set that it has had, this image or an earlier one.
    pub fn peak_resident_bytes(&self) -> u64 {
        let present = self.with_address_space(|space| space.lock().peak_resident_bytes()).unwrap_or(0);
        present.max(self.usage.threads.get().peak_bytes)
    }
}

pub fn find_process(pid: u32) -> Option<Arc<Process>> {
    tasks().family.get(pid).map(|member| member.value.clone())
}

/// Visits every process, one at a time by ascending id, with no lock held. Allocates nothing.
pub fn for_each(visit: impl FnMut(&Arc<Process>)) {
    for_each_of(|_, _| true, visit);
}

/// As [`for_each`], those that `chosen` picks by their number and their place among the others.
pub fn for_each_of(chosen: impl Fn(u32, &Member<Arc<Process>>) -> bool, mut visit: impl FnMut(&Arc<Process>)) {
    let mut next = 0;
    loop {
        let found = {
            let tasks = tasks();
            let mut members = tasks.family.iter_from(next).filter(|(pid, member)| chosen(*pid, member));
            members.next().map(|(pid, member)| (pid, member.value.clone()))
        };
        let Some((pid, process)) = found else { return };
        visit(&process);
        next = pid.saturating_add(1);
    }
}

/// The process that a number names: by its own, or, as on Linux, by that of one of its threads.
pub fn find_process_of(id: u32) -> Option<Arc<Process>> {
    let of_thread = || find_thread(id).filter(|thread| thread.has_user_mode()).map(|thread| thread.process.clone());
    find_process(id).or_else(of_thread)
}

pub fn find_thread(tid: u32) -> Option<Arc<Thread>> {
    tasks().threads.get(tid).cloned()
}
