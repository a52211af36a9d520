//! execve is all or nothing: is a failure of any step invisible to the caller?
//!
//! A process with something of everything (files, signals, limits, ids, a stack of its own making) calls execve as programs do,
//! by the dispatcher and with pointers into memory that it hasn't touched yet. The n-th allocation, page-table frame, file
//! read or look into the caller's memory fails, for each n, and all that the process is must be as before; then the same
//! call, undisturbed, succeeds.

use super::programs::{self, spawn, wait, write_file};
use crate::cpu::segments::UserSegments;
use crate::errno::Errno;
use crate::exec::KernelArguments;
use crate::exec::elf_maker::{self, ElfMaker, Header, R, W};
use crate::fault_injection::{self, Point};
use crate::fs::FileTable;
use crate::fs::inode::{AttributeChange, S_ISUID};
use crate::fs::open::open;
use crate::fs::open_flags::OpenFlags;
use crate::interrupts::InterruptFrame;
use crate::kernel_test;
use crate::lock::Lock;
use crate::syscall::argument::Fd;
use crate::syscall::exec::execute;
use crate::task::credentials::{Credentials, Ids};
use crate::task::current;
use crate::task::family::Status;
use crate::task::limits::{INFINITY, Limit, Resource};
use crate::task::process::{Process, tasks};
use crate::task::signal::action::Action;
use crate::task::signal::{AlternateStack, Info, Signal, SignalSet, send_to_process, send_to_thread};
use crate::task::thread::{Thread, Work};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::arch::asm;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
use x86_64::registers::control::Cr3;

const SECOND_NS: u64 = 1_000_000_000;
const EXECVE: u64 = 59;
const DATA: u64 = 0x60_0000;
/// Where the caller has its path, vectors and strings: three pages of its file.
const STRINGS: u64 = 0x7000_0000;
const ARGUMENTS: u64 = STRINGS;
const ENVIRONMENT: u64 = STRINGS + 0x100;
const PATH: u64 = STRINGS + 0x200;
const LONG_STRING: u64 = STRINGS + 0x1f00;
const LAST_STRING: u64 = STRINGS + 0x2800;
/// All exceptions masked, rounding to zero: not what a new program starts with.
const UNUSUAL_MXCSR: u32 = 0x7f80;

unsafe extern "C" {
    fn syscall_dispatch(frame: *const InterruptFrame) -> isize;
    fn load_thread_page_table();
}

/// How the attempts ended in which something failed.
static NO_MEMORY: AtomicU32 = AtomicU32::new(0);
static NO_FILE: AtomicU32 = AtomicU32::new(0);
static BAD_ADDRESS: AtomicU32 = AtomicU32::new(0);
/// The kernel could do without, or tried again: so it does where the caller's own pages are missing.
static ENDURED: AtomicU32 = AtomicU32::new(0);
/// Nothing was left to fail: all points have been tried.
static UNDISTURBED: AtomicU32 = AtomicU32::new(0);

kernel_test! {
    fn a_failure_at_any_point_leaves_the_caller_as_it_was() {
        write_programs();
        let counters = [&NO_MEMORY, &NO_FILE, &BAD_ADDRESS, &ENDURED, &UNDISTURBED];
        let try_all = || {
            counters.iter().for_each(|counter| counter.store(0, Relaxed));
            for point in 0.. {
                let thread = spawn(execute_with_failure, point).expect("a process");
                assert_eq!(wait(thread, 60 * SECOND_NS), Status::Exited(42), "point {point}");
                if UNDISTURBED.load(Relaxed) > 0 {
                    break;
                }
            }
            assert!(who_runs().is_empty(), "nobody runs them any more");
            programs::memory_in_use()
        };
        // Failures fill the heap's caches in other ways than success does: some rounds, then nothing may grow any more.
        let before = (0..5).fold(None, |_, _| Some(try_all()));
        assert_eq!(Some(try_all()), before);
        let [memory, file, address, endured, _] = counters.map(|counter| counter.load(Relaxed));
        log::info!(
            target: "test",
            "{} points of failure in execve tried: {memory} times ENOMEM, {file} times EIO, {address} times EFAULT, \
             {endured} endured",
            memory + file + address + endured,
        );
        assert!(memory > 20 && file >= 5 && address > 10 && endured > 5, "hardly any points");
        programs::remove_file("/caller");
    }
}

fn write_programs() {
    let path = *b"/script\0";
    let words = |words: &[u64]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    let arguments = words(&[PATH, LONG_STRING, LAST_STRING, 0]);
    let environment = words(&[LAST_STRING, LONG_STRING, 0]);
    let long = vec![b'l'; 0x300];
    let caller = ElfMaker::program(&elf_maker::exit_with(1))
        // An empty list of robust futexes: its head leads to itself.
        .with_bytes(0x1000, &DATA.to_le_bytes())
        .with_bytes(0x1ff8, &[7; 8])
        .with(Header::load(R | W, 0x1000, DATA, 0x1000, 0x3000))
        .with_bytes(0x2000, &arguments)
        .with_bytes(0x2100, &environment)
        .with_bytes(0x2200, &path)
        .with_bytes(0x3f00, &long)
        .with_bytes(0x4800, b"last\0")
        .with_bytes(0x4fff, &[0])
        .with(Header::load(R, 0x2000, STRINGS, 0x3000, 0x3000));
    write_file("/caller", &caller.bytes());
    let target = ElfMaker::relocatable(&elf_maker::exit_with(42)).with_interpreter(b"/loader\0");
    let data = Header::load(R | W, 0x1000, 0x1_0000, 0x123, 0x3000);
    write_file("/target", &target.with_bytes(0x1000, &[7; 0x200]).with(data).bytes());
    write_file("/loader", &ElfMaker::relocatable(&elf_maker::exit_with(42)).bytes());
    write_file("/script", b"#!/target with an argument\n");
    // Its new rights are allocated too.
    let credentials = Credentials::root();
    let target = open(&programs::context().with(&credentials), None, b"/target", OpenFlags::empty(), 0);
    let set_id = AttributeChange { mode: Some(S_ISUID | 0o755), ..Default::default() };
    target.expect("the target").inode().apply(&set_id);
}

/// Becomes the caller, and calls execve with its `point`-th step failing. If that was noticed, the call is repeated.
extern "C" fn execute_with_failure(point: usize) {
    let thread = current();
    // Another process could have the same files: so they are copied.
    let _shared_files = become_caller(&thread);
    let before = State::of(&thread);
    let points = [Point::HeapAllocation, Point::FrameAllocation, Point::FileRead, Point::UserAccess];
    fault_injection::arm(&points, point as u64);
    let result = call_execve(&thread);
    let delivered = fault_injection::disarm();
    let counter = match result {
        Ok(()) if delivered => &ENDURED,
        Ok(()) => &UNDISTURBED,
        Err(Errno::ENOMEM) => &NO_MEMORY,
        Err(Errno::EIO) => &NO_FILE,
        Err(Errno::EFAULT) => &BAD_ADDRESS,
        Err(errno) => panic!("point {point}: {}", errno.name()),
    };
    counter.fetch_add(1, Relaxed);
    if result.is_err() {
        State::of(&thread).assert_same(&before, point);
        call_execve(&thread).expect("nothing is in its way any more");
    }
}

/// execve with what the registers hold, as the entry code hands it over.
fn call_execve(thread: &Thread) -> Result<(), Errno> {
    let frame = thread.user_frame();
    let before = Cr3::read();
    // SAFETY: the thread's own frame, at the top of its own stack; it is in no other system call.
    let result = unsafe {
        (*frame).rax = EXECVE;
        syscall_dispatch(frame)
    };
    assert_eq!(Cr3::read(), before, "execve wrote CR3");
    match i32::try_from(result.wrapping_neg()) {
        Ok(0) => Ok(()),
        Ok(number) => {
            let expected = [Errno::ENOMEM, Errno::EIO, Errno::EFAULT];
            Err(expected.into_iter().find(|errno| *errno as i32 == number).unwrap_or(Errno::EINVAL))
        }
        Err(_) => Err(Errno::EINVAL),
    }
}

/// Loads the caller's image and gives the process something of everything. Returns its files.
fn become_caller(thread: &Thread) -> Arc<Lock<FileTable>> {
    let process = &thread.process;
    let strings = KernelArguments { arguments: &[b"caller"], environment: &[] };
    execute(thread, Fd::CWD, b"/caller", 0, &strings).expect("the caller's own image");
    x86_64::instructions::interrupts::without_interrupts(|| {
        // SAFETY: interrupts are off, and the thread has a page table since it has an image.
        unsafe { load_thread_page_table() };
    });
    let credentials = Credentials::root();
    let context = programs::context();
    let file = open(&context.with(&credentials), None, b"/loader", OpenFlags::empty(), 0).expect("a file");
    let files = process.files().expect("files");
    for closes in [false, true, false, true] {
        files.lock().add(file.clone(), 3, closes, 100).expect("room");
    }
    let user = Credentials::new(Ids::all(1000), Ids::all(1000), &[5, 6]).expect("memory");
    process.set_credentials(Arc::new(user));
    process.signals.with(|actions| {
        actions.set(Signal::USR1, Action { handler: 0x40_0800, flags: 4, restorer: 0, mask: 1 });
        actions.set(Signal::USR2, Action { handler: 1, ..Action::default() });
    });
    thread.set_signal_mask(SignalSet::from_bits(u64::MAX));
    send_to_process(process, Info::from_kernel(Signal::USR1)).expect("a pending signal");
    send_to_thread(thread, Info::from_kernel(Signal::TERM)).expect("a pending signal");
    thread.signals.set_alternate_stack(AlternateStack { base: DATA, flags: 0, unused: 0, size: 0x2000 });
    thread.set_own_segments(UserSegments::with_bases(DATA + 0x800, DATA + 0x900));
    thread.clear_child_tid.store(DATA + 0x100, Relaxed);
    thread.robust_list.store(DATA, Relaxed);
    thread.set_name(b"the caller");
    process.limits.lock().set(Resource::Core, Limit { soft: 12, hard: 34 });
    process.limits.lock().set(Resource::Stack, Limit { soft: 64 << 20, hard: INFINITY });
    process.personality.store(0x004_0000, Relaxed);
    process.parent_death_signal.store(10, Relaxed);
    // SAFETY: the thread's own frame, at the top of its own stack; it is in no system call.
    let frame = unsafe { &mut *thread.user_frame() };
    (frame.rdi, frame.rsi, frame.rdx) = (PATH, ARGUMENTS, ENVIRONMENT);
    (frame.rbx, frame.rbp, frame.r12, frame.r15) = (1, 2, 3, 4);
    // SAFETY: the user's MXCSR; the kernel uses no floating point.
    unsafe { asm!("ldmxcsr [{}]", in(reg) &UNUSUAL_MXCSR, options(nostack, readonly)) };
    files
}

/// Which of the files can't be written to, since they run or are about to.
fn who_runs() -> Vec<&'static str> {
    let (context, credentials) = (programs::context(), Credentials::root());
    let context = context.with(&credentials);
    let runs =
        |path: &&str| open(&context, None, path.as_bytes(), OpenFlags::WRITE_ONLY, 0).err() == Some(Errno::ETXTBSY);
    ["/caller", "/script", "/target", "/loader"].into_iter().filter(runs).collect()
}

/// All that a failed execve could have changed, by name.
struct State(Vec<(&'static str, String)>);

impl State {
    fn of(thread: &Thread) -> Self {
        let mut state = Self(Vec::new());
        state.add_thread(thread);
        state.add_process(&thread.process);
        state.add_files(&thread.process);
        state
    }

    fn add(&mut self, name: &'static str, value: impl core::fmt::Debug) {
        self.0.push((name, format!("{value:x?}")));
    }

    fn add_thread(&mut self, thread: &Thread) {
        // SAFETY: the thread's own frame, at the top of its own stack.
        let registers = unsafe { *thread.user_frame() };
        let mut mxcsr = 0_u32;
        // SAFETY: stores four bytes into the variable.
        unsafe { asm!("stmxcsr [{}]", in(reg) &raw mut mxcsr, options(nostack)) };
        // RAX holds the call's number, and then its result.
        self.add("registers", InterruptFrame { rax: 0, ..registers });
        self.add("MXCSR", mxcsr);
        self.add("segments", thread.own_segments());
        self.add("page table", (thread.page_table_frame(), Cr3::read().0));
        self.add("work", thread.work().difference(Work::CPU_TIMERS));
        self.add("name", (thread.name(), thread.tid()));
        self.add("mask", thread.signals.mask());
        self.add("thread's signals", thread.signals.pending_set());
        self.add("alternate stack", thread.signals.alternate_stack());
        self.add("joiners", (thread.clear_child_tid.load(Relaxed), thread.robust_list.load(Relaxed)));
    }

    fn add_process(&mut self, process: &Process) {
        let credentials = process.credentials();
        self.add("credentials", (Arc::as_ptr(&credentials), &*credentials));
        self.add("limits", &*process.limits.lock());
        self.add("personality", process.personality.load(Relaxed));
        self.add("death signal", process.parent_death_signal.load(Relaxed));
        self.add("dumpable", (process.is_dumpable.load(Relaxed), process.no_new_privileges.load(Relaxed)));
        self.add("signals", process.signals.pending_set());
        self.add("actions", process.signals.with(|actions| actions.clone()));
        self.add("threads", process.thread_count());
        let space = process.address_space().expect("an image");
        let (frame, digest) = {
            let space = space.lock();
            (space.page_table_frame(), space.digest())
        };
        self.add("address space", (Arc::as_ptr(&space), frame, digest));
        let tasks = tasks();
        let member = tasks.family.get(process.pid).expect("a member of the family");
        self.add("family", (process.pid, member.parent, member.group, member.session, member.exit_signal));
    }

    fn add_files(&mut self, process: &Process) {
        self.add("program", process.program().map(|program| Arc::as_ptr(&program)));
        let files = process.files().expect("files");
        self.add("files", Arc::as_ptr(&files));
        for descriptor in 0..10 {
            let table = files.lock();
            let file = table.get(descriptor).map(|file| (Arc::as_ptr(&file), file.position(), file.flags().bits()));
            self.add("descriptor", (descriptor, file, table.close_on_exec(descriptor)));
        }
        let context = process.fs_context().expect("directories");
        let context = context.lock();
        let directories = [context.root(), context.cwd()].map(|place| Arc::as_ptr(&place.dentry));
        self.add("directories", (directories, context.umask));
        drop(context);
        self.add("files that run", who_runs());
    }

    fn assert_same(&self, before: &Self, point: usize) {
        assert_eq!(self.0.len(), before.0.len());
        for ((name, now), (_, before)) in self.0.iter().zip(&before.0) {
            assert_eq!(now, before, "point {point} failed and changed the {name}");
        }
    }
}
