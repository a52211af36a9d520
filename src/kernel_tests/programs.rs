//! Processes for tests: files in a root file system of the tests' own, and programs that run from them.

use crate::cpu::fpu::FpuState;
use crate::errno::Errno;
use crate::exec::KernelArguments;
use crate::fs::file::WriteRules;
use crate::fs::open::open;
use crate::fs::open_flags::OpenFlags;
use crate::fs::transfer::SliceSource;
use crate::fs::{FileTable, FsContext, edit, root};
use crate::interrupts::{InterruptFrame, clock};
use crate::lock::{Lock, Rank};
use crate::memory::{frames, heap};
use crate::syscall::argument::Fd;
use crate::syscall::exec::execute;
use crate::task::credentials::Credentials;
use crate::task::family::{Birth, Status};
use crate::task::limits::Limits;
use crate::task::process::{INIT_PID, Parts, Process, tasks};
use crate::task::signal::{Info, ProcessSignals, Signal, send_to_process};
use crate::task::switch::{self, Start};
use crate::task::thread::Thread;
use crate::task::{current, exit, scheduler};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use spin::Once;

/// The root file system of all tests: empty but for /dev and what tests write.
pub fn context() -> FsContext {
    static CONTEXT: Once<FsContext> = Once::new();
    CONTEXT.call_once(|| root::init(None).expect("a root file system").context).clone()
}

/// Frames that the heap doesn't have, and the heap's bytes: both must be as before when a program is gone.
pub fn memory_in_use() -> (usize, usize) {
    let (frames, heap) = (frames::counts(), heap::counts());
    (frames.total - frames.free - heap.frames, heap.used_bytes)
}

/// Makes an executable file, or replaces one.
pub fn write_file(path: &str, bytes: &[u8]) {
    let (context, credentials) = (context(), Credentials::root());
    let context = context.with(&credentials);
    remove_file(path);
    let flags = OpenFlags::CREATE | OpenFlags::WRITE_ONLY;
    let file = open(&context, None, path.as_bytes(), flags, 0o755).expect("a new file");
    let rules = || WriteRules { keeps_set_id_bits: true, size_limit: u64::MAX };
    let written = file.write_at(0, &mut SliceSource(bytes), rules).expect("a written file");
    assert_eq!(written, bytes.len());
}

pub fn remove_file(path: &str) {
    let credentials = Credentials::root();
    match edit::unlink(&context().with(&credentials), None, path.as_bytes()) {
        Ok(()) | Err(Errno::ENOENT) => {}
        Err(errno) => panic!("{path} can't be removed: {}", errno.name()),
    }
}

pub fn make_directory(path: &str) {
    let credentials = Credentials::root();
    match edit::make_directory(&context().with(&credentials), None, path.as_bytes(), 0o755) {
        Ok(()) | Err(Errno::EEXIST) => {}
        Err(errno) => panic!("{path} can't be made: {}", errno.name()),
    }
}

/// Starts a process that is nobody's child. Its thread first calls `function` in the kernel, then returns to user mode with
/// the image that it has by then.
pub fn spawn(function: extern "C" fn(usize), argument: usize) -> Result<Arc<Thread>, Errno> {
    let files = FileTable::new();
    let parts = Parts {
        address_space: None,
        files: Some(Arc::new(Lock::new(Rank::FileTable, files))),
        fs_context: Some(Arc::new(Lock::new(Rank::FileTable, context()))),
        credentials: Arc::new(Credentials::root()),
        program: None,
        limits: Limits::new(),
        signals: ProcessSignals::new()?,
    };
    let pid = {
        let mut tasks = tasks();
        let mut pid = tasks.threads.reserve()?;
        if pid == INIT_PID {
            // Init's end is the machine's.
            pid = tasks.threads.reserve()?;
        }
        tasks.family.reserve(pid)?;
        pid
    };
    let process = Process::new(pid, parts)?;
    let thread = Thread::new(pid, process.clone(), Some(FpuState::initial()?))?;
    switch::prepare_stack(
        &thread,
        Start { function: Some((function, argument)), registers: InterruptFrame::default() },
    );
    process.add_thread(thread.clone())?;
    let mut tasks = tasks();
    tasks.threads.set(pid, thread.clone());
    tasks.family.insert(pid, Birth::of_nobody(), process);
    drop(tasks);
    scheduler::start(thread.clone());
    Ok(thread)
}

/// Waits until a process has ended, and forgets it. One that takes longer is killed.
pub fn wait(thread: Arc<Thread>, longest_ns: u64) -> Status {
    let process = thread.process.clone();
    drop(thread);
    let deadline = clock::now_ns() + longest_ns;
    let mut killed = false;
    while !tasks().family.has_ended(process.pid) {
        if !killed && clock::now_ns() > deadline {
            killed = true;
            send_to_process(&process, Info::from_kernel(Signal::KILL)).expect("SIGKILL is always taken");
        }
        scheduler::yield_now();
    }
    let status = process.ending_status();
    let removed = tasks().forget_process(process.pid);
    drop(removed);
    status
}

struct Job {
    path: Vec<u8>,
    arguments: Vec<Vec<u8>>,
    environment: Vec<Vec<u8>>,
    result: Arc<Lock<Option<Result<(), Errno>>>>,
}

extern "C" fn become_program(job: usize) {
    let result = {
        // SAFETY: `run` made it with `Box::into_raw`, for this thread alone.
        let job = unsafe { Box::from_raw(job as *mut Job) };
        let arguments: Vec<&[u8]> = job.arguments.iter().map(Vec::as_slice).collect();
        let environment: Vec<&[u8]> = job.environment.iter().map(Vec::as_slice).collect();
        let strings = KernelArguments { arguments: &arguments, environment: &environment };
        let result = execute(&current(), Fd::CWD, &job.path, 0, &strings);
        *job.result.lock() = Some(result);
        result
    };
    if result.is_err() {
        exit::end_process(Status::Exited(255));
    }
}

/// Runs a file to its end. An error is execve's.
pub fn run(path: &str, arguments: &[&[u8]], environment: &[&[u8]], longest_ns: u64) -> Result<Status, Errno> {
    let owned = |list: &[&[u8]]| list.iter().map(|text| text.to_vec()).collect();
    let result = Arc::new(Lock::new(Rank::Process, None));
    let job = Job {
        path: path.as_bytes().to_vec(),
        arguments: owned(arguments),
        environment: owned(environment),
        result: result.clone(),
    };
    let thread = spawn(become_program, Box::into_raw(Box::new(job)) as usize)?;
    let status = wait(thread, longest_ns);
    let result = result.lock().take().expect("execve was called");
    result.map(|()| status)
}
