//! One thread: its kernel stack, its page table, its user registers while it isn't running, its place in the scheduler.
//!
//! A thread exists from [`Thread::new`] until its last reference is dropped, which is after it has left the CPU for good.
//! Its own reference lies wherever the thread is: with the CPU that runs it, in a ready queue, or, while it waits, with
//! itself ([`super::scheduler`]).

use super::deadlines::{HasDeadline, Position};
use super::process::{Process, SharedAddressSpace};
use super::ready_queue::{Link, Ready};
use super::signal::ThreadSignals;
use super::timers::TimerRoom;
use super::usage::{Counts, Usage};
use super::wait_queue::WaitQueue;
use crate::cpu::fpu::FpuState;
use crate::cpu::layout::asm_constant;
use crate::cpu::segments::UserSegments;
use crate::errno::Errno;
use crate::interrupts::InterruptFrame;
use crate::lock::{InterruptsOff, Lock, Rank};
use crate::memory::UserAddress;
use crate::memory::kernel_stack::KernelStack;
use alloc::sync::Arc;
use bitflags::bitflags;
use core::cell::UnsafeCell;
use core::mem::{offset_of, size_of};
use core::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};

/// Linux's TASK_COMM_LEN: 15 bytes and a NUL.
pub const NAME_BYTES: usize = 16;

#[repr(C)]
pub struct Thread {
    /// What has to be done before this thread returns to user mode: a set of [`Work`]. Read by asm/return.asm.
    work: AtomicU32,
    tid: AtomicU32,
    /// The physical address of the page table that user mode runs with; 0 for a kernel thread. CR3 follows it: on each way
    /// back to user mode, and on each switch to this thread.
    page_table_frame: AtomicU64,
    /// While the thread doesn't run: where on its kernel stack its registers lie. Touched by the switch only.
    saved_stack_pointer: UnsafeCell<u64>,
    /// The user's segment registers while the thread doesn't run. Touched by the thread itself and by the switch.
    segments: UnsafeCell<UserSegments>,
    /// The user's FPU registers while the thread doesn't run. Touched by the thread itself and by the switch.
    fpu: UnsafeCell<Option<FpuState>>,
    kernel_stack: KernelStack,

    pub process: Arc<Process>,
    pub(super) schedule: Schedule,
    pub(crate) counts: Counts,
    pub signals: ThreadSignals,
    name: Lock<[u8; NAME_BYTES]>,
    /// Some of its process's children may count as its own. Written under the lock of the process tree.
    pub has_made_children: AtomicBool,
    /// Where it stands in its process's list of threads.
    pub(super) group_index: AtomicUsize,
    /// For who waits for a kernel thread's end.
    pub(super) ended: WaitQueue,
    /// What execve replaced, until CR3 no longer holds it.
    old_image: UnsafeCell<Option<SharedAddressSpace>>,
    /// Where to store 0 and wake a futex when the thread ends (set_tid_address); 0: nowhere.
    pub clear_child_tid: AtomicU64,
    /// The head of the list of robust futexes, and its length as the program gave it.
    pub robust_list: AtomicU64,
    /// What its last exception in user mode was, for signal frames.
    last_exception: Lock<LastException>,
    /// A wait that a stop signal interrupted.
    restart: Lock<Option<Restart>>,
    _timer_room: TimerRoom,
}

/// What the scheduler keeps of a thread. Guarded by the run queue's lock, where it isn't atomic.
pub(super) struct Schedule {
    pub state: AtomicU8,
    /// The nice value + 20.
    pub level: AtomicU8,
    pub quantum_left_ns: AtomicI64,
    /// When it got the CPU, or was last charged for it.
    pub charged_until_ns: AtomicU64,
    pub run_time_ns: AtomicU64,
    /// Ticks that found it in user mode, and in the kernel: in what ratio its run time is split.
    pub user_ticks: AtomicU64,
    pub system_ticks: AtomicU64,
    pub link: Link<Thread>,
    /// The thread's own reference, while it waits.
    pub parked: UnsafeCell<Option<Arc<Thread>>>,
    pub wake_position: Position,
}

/// A wait with a time limit that goes on after a stop, until the same moment (restart_syscall).
#[derive(Clone, Copy, Debug)]
pub enum Restart {
    /// With the place for the time that is left.
    Sleep {
        deadline_ns: u64,
        remaining: UserAddress,
    },
    Poll {
        descriptors: UserAddress,
        count: u32,
        deadline_ns: Option<u64>,
    },
    Futex {
        address: UserAddress,
        private: bool,
        expected: u32,
        bits: u32,
        deadline_ns: u64,
    },
}

/// An exception as sigcontext shows it: its vector, its error code, and the last page fault's address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LastException {
    pub vector: u64,
    pub error_code: u64,
    pub fault_address: u64,
}

bitflags! {
    /// What a thread has to do before it returns to user mode.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Work: u32 {
        /// A signal may be deliverable: look.
        const SIGNAL = 1 << 0;
        /// execve left the old address space to be dropped once CR3 no longer holds it.
        const DROP_OLD_IMAGE = 1 << 1;
        /// Another thread of the process ended it, or runs execve: end.
        const END = 1 << 2;
        /// A stop signal took effect: wait for a SIGCONT.
        const STOP = 1 << 3;
        /// A signal mask is to be put back after the handler has been set up (sigsuspend, ppoll).
        const RESTORE_MASK = 1 << 4;
        /// A tick has gone by: timers of CPU time may be due.
        const CPU_TIMERS = 1 << 5;
        /// A page fault found no memory: somebody may have to end ([`super::out_of_memory`]).
        const OUT_OF_MEMORY = 1 << 6;
    }
}

const _: () = assert!(offset_of!(Thread, work) == asm_constant("THREAD_WORK"));

// SAFETY: the cells are touched by the thread that owns them while it runs, and by the switch, which holds the CPU between
// two threads; `parked` by whoever holds the run queue's lock.
unsafe impl Send for Thread {}
// SAFETY: as above.
unsafe impl Sync for Thread {}

// SAFETY: the link is a field of the thread, and the scheduler keeps a thread in one queue at most.
unsafe impl Ready for Thread {
    fn link(&self) -> &Link<Self> {
        &self.schedule.link
    }
}

impl HasDeadline for Thread {
    fn position(&self) -> &Position {
        &self.schedule.wake_position
    }
}

impl Thread {
    /// A thread that doesn't run yet and is known to nobody. `fpu` is None for a kernel thread.
    pub fn new(tid: u32, process: Arc<Process>, fpu: Option<FpuState>) -> Result<Arc<Thread>, Errno> {
        let kernel_stack = KernelStack::new()?;
        kernel_stack.set_owner(u64::from(tid));
        let thread = Thread {
            work: AtomicU32::new(0),
            tid: AtomicU32::new(tid),
            page_table_frame: AtomicU64::new(0),
            saved_stack_pointer: UnsafeCell::new(0),
            segments: UnsafeCell::new(UserSegments::default()),
            fpu: UnsafeCell::new(fpu),
            kernel_stack,
            process,
            schedule: Schedule::new(),
            counts: Counts::default(),
            signals: ThreadSignals::new(),
            name: Lock::new(Rank::Thread, [0; NAME_BYTES]),
            has_made_children: AtomicBool::new(false),
            group_index: AtomicUsize::new(usize::MAX),
            ended: WaitQueue::new(),
            old_image: UnsafeCell::new(None),
            clear_child_tid: AtomicU64::new(0),
            robust_list: AtomicU64::new(0),
            last_exception: Lock::new(Rank::Thread, LastException::default()),
            restart: Lock::new(Rank::Thread, None),
            _timer_room: TimerRoom::new()?,
        };
        Arc::try_new(thread).map_err(|_| Errno::ENOMEM)
    }

    /// Its id. Changes once at most: execve gives its process's id to the thread that is left.
    pub fn tid(&self) -> u32 {
        self.tid.load(Relaxed)
    }

    pub fn set_tid(&self, tid: u32) {
        self.tid.store(tid, Relaxed);
        self.kernel_stack.set_owner(u64::from(tid));
    }

    pub fn page_table_frame(&self) -> u64 {
        self.page_table_frame.load(Relaxed)
    }

    /// From here on this thread returns to user mode with another page table.
    pub fn set_page_table_frame(&self, physical_address: u64) {
        self.page_table_frame.store(physical_address, Relaxed);
    }

    pub fn last_exception(&self) -> LastException {
        *self.last_exception.lock()
    }

    /// `fault_address` for page faults only.
    pub fn note_exception(&self, vector: u64, error_code: u64, fault_address: Option<u64>) {
        let mut last = self.last_exception.lock();
        let fault_address = fault_address.unwrap_or(last.fault_address);
        *last = LastException { vector, error_code, fault_address };
    }

    /// What it has used, but for memory, which is its process's.
    pub fn usage(&self) -> Usage {
        let (user_ns, system_ns) = super::cpu_time::split_run_time(self);
        Usage { user_ns, system_ns, ..self.counts.get() }
    }

    pub fn set_restart(&self, restart: Restart) {
        *self.restart.lock() = Some(restart);
    }

    pub fn take_restart(&self) -> Option<Restart> {
        self.restart.lock().take()
    }

    pub fn has_user_mode(&self) -> bool {
        self.page_table_frame() != 0
    }

    pub fn kernel_stack_top(&self) -> u64 {
        self.kernel_stack.top()
    }

    pub fn kernel_stack(&self) -> &KernelStack {
        &self.kernel_stack
    }

    pub(super) fn saved_stack_pointer(&self) -> *mut u64 {
        self.saved_stack_pointer.get()
    }

    /// Where the user registers of a user thread lie whenever it is in the kernel.
    pub fn user_frame(&self) -> *mut InterruptFrame {
        (self.kernel_stack_top() - size_of::<InterruptFrame>() as u64) as *mut InterruptFrame
    }

    pub fn add_work(&self, work: Work) {
        self.work.fetch_or(work.bits(), Relaxed);
    }

    pub fn remove_work(&self, work: Work) {
        self.work.fetch_and(!work.bits(), Relaxed);
    }

    pub fn work(&self) -> Work {
        Work::from_bits_truncate(self.work.load(Relaxed))
    }

    /// Keeps the image that execve replaced until the way back to user mode has loaded the new page table. Only the thread
    /// itself calls this.
    pub fn keep_old_image(&self, old: Option<SharedAddressSpace>) {
        // SAFETY: only the thread itself touches this, and never from an interrupt handler.
        unsafe { *self.old_image.get() = old };
        self.add_work(Work::DROP_OLD_IMAGE);
    }

    pub(super) fn take_old_image(&self) -> Option<SharedAddressSpace> {
        // SAFETY: as above.
        unsafe { (*self.old_image.get()).take() }
    }

    /// For a new thread: its parent's nice value, and half of what the parent has left of its quantum, so that making
    /// threads gives nobody more of the CPU.
    pub(super) fn inherit_schedule(&self, parent: &Thread) {
        let (own, parent) = (&self.schedule, &parent.schedule);
        own.level.store(parent.level.load(Relaxed), Relaxed);
        let half = parent.quantum_left_ns.load(Relaxed) / 2;
        parent.quantum_left_ns.store(half, Relaxed);
        own.quantum_left_ns.store(half, Relaxed);
    }

    pub fn name(&self) -> [u8; NAME_BYTES] {
        *self.name.lock()
    }

    /// For the panic screen, which can't wait for who holds the lock.
    pub fn name_if_unlocked(&self) -> Option<[u8; NAME_BYTES]> {
        self.name.try_lock().map(|name| *name)
    }

    /// Cut to 15 bytes, as on Linux.
    pub fn set_name(&self, name: &[u8]) {
        let mut padded = [0; NAME_BYTES];
        let visible = padded.len() - 1;
        padded.iter_mut().take(visible).zip(name).for_each(|(to, from)| *to = *from);
        *self.name.lock() = padded;
    }

    /// For a thread that doesn't run yet.
    pub fn set_initial_segments(&self, segments: UserSegments) {
        // SAFETY: nobody else knows the thread.
        unsafe { *self.segments.get() = segments };
    }

    /// The running thread's segments, as it has them now.
    pub fn own_segments(&self) -> UserSegments {
        // SAFETY: only the thread itself calls this, and the switch touches its segments only while it doesn't run.
        let segments = unsafe { &mut *self.segments.get() };
        segments.note_selectors();
        *segments
    }

    /// Sets the running thread's segments; the bases are user addresses.
    pub fn set_own_segments(&self, segments: UserSegments) {
        let _no_switch = InterruptsOff::new();
        // SAFETY: as in `own_segments`; the selectors are null or came from there.
        unsafe {
            *self.segments.get() = segments;
            segments.load();
        }
    }

    /// The FPU registers as they were saved. Only while this thread doesn't run, or by itself after saving them.
    pub fn fpu_state(&self) -> *mut Option<FpuState> {
        self.fpu.get()
    }

    /// What the CPU holds of this thread and no stack has: saved when it leaves the CPU.
    #[inline]
    pub(super) fn save_user_state(&self) {
        // SAFETY: this thread is leaving the CPU and interrupts are off, so nobody else touches its registers' places.
        unsafe {
            if let Some(fpu) = &mut *self.fpu.get() {
                fpu.save();
                (*self.segments.get()).note_selectors();
            }
        }
    }

    /// The counterpart, for the thread that gets the CPU. A kernel thread leaves everything as it is.
    #[inline]
    pub(super) fn load_user_state(&self) {
        // SAFETY: as in `save_user_state`; the segments are what was noted there, or given by `set_initial_segments`.
        unsafe {
            if let Some(fpu) = &*self.fpu.get() {
                fpu.restore();
                (*self.segments.get()).load();
            }
        }
    }

    /// The last step of execve: the running thread's user registers, all of them. It has them when it returns to user mode.
    pub fn start_image(&self, registers: &InterruptFrame, fs_base: u64) {
        // SAFETY: the thread runs this very code: its saved FPU state and its frame are touched by nobody else.
        unsafe {
            if let Some(fpu) = &mut *self.fpu.get() {
                fpu.reset();
                fpu.restore();
            }
            self.user_frame().write(*registers);
        }
        self.set_own_segments(UserSegments::with_bases(fs_base, 0));
    }
}

impl Schedule {
    fn new() -> Self {
        Self {
            state: AtomicU8::new(super::scheduler::State::Running as u8),
            level: AtomicU8::new(20),
            quantum_left_ns: AtomicI64::new(super::scheduler::quantum_ns(20)),
            charged_until_ns: AtomicU64::new(0),
            run_time_ns: AtomicU64::new(0),
            user_ticks: AtomicU64::new(0),
            system_ticks: AtomicU64::new(0),
            link: Link::new(),
            parked: UnsafeCell::new(None),
            wake_position: Position::new(),
        }
    }
}
