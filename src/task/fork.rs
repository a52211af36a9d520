//! New processes and threads: fork, vfork, clone, clone3 are one operation that says what is shared (clone(2)).
//!
//! Everything that can fail comes before the new thread can be seen by anybody; so a failure leaves nothing behind.

use super::family::Birth;
use super::limits::{self, Resource};
use super::process::{Parts, Process, Tasks, tasks};
use super::scheduler;
use super::switch::{self, Start};
use super::thread::Thread;
use super::wait_queue::Limits as WaitLimits;
use crate::cpu::fpu::FpuState;
use crate::errno::Errno;
use crate::interrupts::clock;
use crate::lock::{Lock, Rank};
use crate::memory::user_access::{self, UserAddress};
use alloc::sync::Arc;
use bitflags::bitflags;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

bitflags! {
    /// clone's flags, but for its low byte.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct CloneFlags: u64 {
        const VM = 0x100;
        const FS = 0x200;
        const FILES = 0x400;
        const SIGHAND = 0x800;
        const PTRACE = 0x2000;
        const VFORK = 0x4000;
        const PARENT = 0x8000;
        const THREAD = 0x1_0000;
        const SYSVSEM = 0x4_0000;
        const SETTLS = 0x8_0000;
        const PARENT_SETTID = 0x10_0000;
        const CHILD_CLEARTID = 0x20_0000;
        const DETACHED = 0x40_0000;
        const UNTRACED = 0x80_0000;
        const CHILD_SETTID = 0x100_0000;
        const IO = 0x8000_0000;
        const CLEAR_SIGHAND = 0x1_0000_0000;
    }
}

/// What clone and clone3 ask for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Request {
    pub flags: CloneFlags,
    pub exit_signal: u8,
    /// The child's RSP; 0: as the parent's.
    pub stack: u64,
    pub parent_tid: UserAddress,
    pub child_tid: UserAddress,
    pub tls: u64,
}

/// Makes the new thread and starts it; returns its id. With VFORK, once it has called execve or ended.
pub fn clone(parent: &Thread, request: &Request) -> Result<u32, Errno> {
    check(request)?;
    check_process_limit(parent)?;
    let flags = request.flags;
    let tid = NewId::reserve(!flags.contains(CloneFlags::THREAD))?;
    let process = match flags.contains(CloneFlags::THREAD) {
        true => parent.process.clone(),
        false => new_process(parent, flags, tid.0)?,
    };
    let thread = new_thread(parent, &process, request, tid.0)?;
    if flags.contains(CloneFlags::PARENT_SETTID) {
        // Linux, too, makes the thread even if its id can't be stored.
        let _ = user_access::write_value(request.parent_tid, &tid.0);
    }
    process.add_thread(thread.clone())?;
    let tid = announce(parent, &thread, request, tid);
    scheduler::start(thread);
    if flags.contains(CloneFlags::VFORK) {
        process
            .address_space_returned
            .wait_until(WaitLimits::FATAL_ONLY, || (!process.borrows_address_space.load(Relaxed)).then_some(()))?;
    }
    Ok(tid)
}

/// The combinations that clone(2) calls invalid.
fn check(request: &Request) -> Result<(), Errno> {
    let flags = request.flags;
    let shared = CloneFlags::VM | CloneFlags::SIGHAND;
    let invalid = flags.contains(CloneFlags::SIGHAND) && !flags.contains(CloneFlags::VM)
        || flags.contains(CloneFlags::THREAD) && !flags.contains(shared)
        || flags.contains(CloneFlags::SIGHAND | CloneFlags::CLEAR_SIGHAND);
    // Threads of one process share all of it in Keel; Linux lets them have files and directories of their own.
    let unsupported = flags.contains(CloneFlags::THREAD) && !flags.contains(CloneFlags::FS | CloneFlags::FILES);
    let bad_tls = flags.contains(CloneFlags::SETTLS) && request.tls >= user_access::USER_END;
    if bad_tls {
        return Err(Errno::EPERM);
    }
    if invalid || unsupported { Err(Errno::EINVAL) } else { Ok(()) }
}

/// EAGAIN where there are as many threads as the machine takes, or as many as the user may have (RLIMIT_NPROC, which doesn't
/// bind root). A user's are counted only if all together reach the limit.
fn check_process_limit(parent: &Thread) -> Result<(), Errno> {
    let tasks = tasks();
    let all = tasks.threads.len();
    let limit = parent.process.limits.lock().get(Resource::Processes).soft;
    let credentials = parent.process.credentials();
    let user = credentials.user.real;
    let is_full = all >= limits::threads_max();
    if !is_full && ((all as u64) < limit || credentials.is_privileged() || threads_of(&tasks, user) < limit) {
        return Ok(());
    }
    drop(tasks);
    tell_of_refusal(parent, is_full);
    Err(Errno::EAGAIN)
}

/// Whether a user has more threads than the process's limit allows: one who isn't asked by fork can have, by setuid.
pub fn user_exceeds_limit(process: &Process, user: u32) -> bool {
    let limit = process.limits.lock().get(Resource::Processes).soft;
    let tasks = tasks();
    tasks.threads.len() as u64 > limit && user != 0 && threads_of(&tasks, user) > limit
}

/// How many threads a user has; a process that has ended counts until its parent has asked for it.
fn threads_of(tasks: &Tasks, user: u32) -> u64 {
    let is_his = |process: &Process| process.credentials().user.real == user;
    let alive = tasks.threads.iter().filter(|(_, thread)| is_his(&thread.process)).count();
    let ended = tasks.family.iter().filter(|(_, member)| member.ended().is_some() && is_his(&member.value)).count();
    alive as u64 + ended as u64
}

/// Says in the log who can't have another thread; not more than once a second, as the guilty will ask again.
fn tell_of_refusal(parent: &Thread, is_full: bool) {
    const PAUSE_NS: u64 = 1_000_000_000;
    static TOLD_AT_NS: AtomicU64 = AtomicU64::new(0);
    let (now_ns, told_at_ns) = (clock::now_ns(), TOLD_AT_NS.load(Relaxed));
    if told_at_ns == 0 || now_ns.saturating_sub(told_at_ns) > PAUSE_NS {
        TOLD_AT_NS.store(now_ns, Relaxed);
        let why = if is_full { "the machine takes no more" } else { "its user's limit is reached" };
        log::warn!(target: "task", "process {} can't have another process or thread: {why}", parent.process.pid);
    }
}

/// A reserved id, given back unless the thread it is for comes to be.
struct NewId(u32, bool);

impl NewId {
    fn reserve(with_process: bool) -> Result<Self, Errno> {
        let mut tasks = tasks();
        let id = tasks.threads.reserve()?;
        if with_process && let Err(errno) = tasks.family.reserve(id) {
            tasks.threads.release(id);
            return Err(errno);
        }
        Ok(Self(id, with_process))
    }

    fn keep(self) -> u32 {
        let id = self.0;
        core::mem::forget(self);
        id
    }
}

impl Drop for NewId {
    fn drop(&mut self) {
        let mut tasks = tasks();
        if self.1 {
            tasks.family.cancel(self.0);
        }
        tasks.threads.release(self.0);
    }
}

/// A process that shares with its parent what the flags say, and has copies of the rest.
fn new_process(parent: &Thread, flags: CloneFlags, pid: u32) -> Result<Arc<Process>, Errno> {
    let from = &parent.process;
    let address_space = from.address_space().ok_or(Errno::ESRCH)?;
    let address_space = match flags.contains(CloneFlags::VM) {
        true => address_space,
        false => {
            let copy = address_space.lock().clone_for_fork()?;
            Lock::shared(Rank::AddressSpace, copy)?
        }
    };
    let files = from.files()?;
    let files = match flags.contains(CloneFlags::FILES) {
        true => files,
        false => {
            let copy = files.lock().try_clone()?;
            Lock::shared(Rank::FileTable, copy)?
        }
    };
    let fs_context = from.fs_context()?;
    let fs_context = match flags.contains(CloneFlags::FS) {
        true => fs_context,
        false => {
            let copy = fs_context.lock().clone();
            Lock::shared(Rank::FileTable, copy)?
        }
    };
    let limits = from.limits.lock().clone();
    let parts = Parts {
        address_space: Some(address_space),
        files: Some(files),
        fs_context: Some(fs_context),
        credentials: from.credentials(),
        program: from.program(),
        limits,
        signals: from.signals.for_child(flags)?,
    };
    let process = Process::new(pid, parts)?;
    process.controlling.inherit(&from.controlling);
    process.personality.store(from.personality.load(Relaxed), Relaxed);
    process.is_dumpable.store(from.is_dumpable.load(Relaxed), Relaxed);
    process.no_new_privileges.store(from.no_new_privileges.load(Relaxed), Relaxed);
    process.borrows_address_space.store(flags.contains(CloneFlags::VFORK), Relaxed);
    Ok(process)
}

/// A thread that goes on where the parent's system call returns, with 0 as its result.
fn new_thread(parent: &Thread, process: &Arc<Process>, request: &Request, tid: u32) -> Result<Arc<Thread>, Errno> {
    let thread = Thread::new(tid, process.clone(), Some(FpuState::of_current()?))?;
    let page_table = process.with_address_space(|space| space.lock().page_table_frame()).ok_or(Errno::ESRCH)?;
    thread.set_page_table_frame(page_table.start_address().as_u64());
    thread.set_name(&parent.name());
    let mut segments = parent.own_segments();
    if request.flags.contains(CloneFlags::SETTLS) {
        segments.set_fs_base(request.tls);
    }
    thread.set_initial_segments(segments);
    thread.signals.inherit(&parent.signals, request.flags.contains(CloneFlags::VM));
    thread.inherit_schedule(parent);
    if request.flags.contains(CloneFlags::CHILD_CLEARTID) {
        thread.clear_child_tid.store(request.child_tid.as_u64(), Relaxed);
    }
    // SAFETY: the parent is in a system call, so its frame is at rest until that returns.
    let mut frame = unsafe { *parent.user_frame() };
    frame.rax = 0;
    if request.stack != 0 {
        frame.rsp = request.stack;
    }
    switch::prepare_stack(&thread, Start { function: None, registers: frame });
    Ok(thread)
}

/// Puts the new thread, and its process if it is a new one, into the tables, and stores its id where the flags say.
/// Nothing here can fail but that store, whose error Linux ignores too.
fn announce(parent: &Thread, thread: &Arc<Thread>, request: &Request, id: NewId) -> u32 {
    let tid = id.0;
    if request.flags.contains(CloneFlags::CHILD_SETTID) {
        let stored = thread
            .process
            .with_address_space(|space| space.lock().write_bytes(request.child_tid.as_u64(), &tid.to_ne_bytes()));
        debug_assert!(stored.is_some());
    }
    let mut tasks = tasks();
    tasks.threads.set(tid, thread.clone());
    if !request.flags.contains(CloneFlags::THREAD) {
        let caller = parent.process.pid;
        let birth = match tasks.family.get(caller) {
            // A sibling ends as its maker will: nobody may send a signal of his choice to his own parent.
            Some(member) if request.flags.contains(CloneFlags::PARENT) => {
                Birth { parent: member.parent, maker: member.made_by, exit_signal: member.exit_signal }
            }
            _ => {
                parent.has_made_children.store(true, Relaxed);
                Birth { parent: caller, maker: parent.tid(), exit_signal: request.exit_signal }
            }
        };
        tasks.family.insert(tid, birth, thread.process.clone());
    }
    drop(tasks);
    id.keep()
}
