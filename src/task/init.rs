//! The first process: which program it runs, and what its end means.

use super::credentials::Credentials;
use super::family::{Birth, Status};
use super::limits::Limits;
use super::process::{INIT_PID, Parts, Process, find_process, tasks};
use super::signal::{Info, ProcessSignals, Signal, send_to_process};
use super::switch::{self, Start};
use super::thread::Thread;
use super::{alarm, current, limits, scheduler};
use crate::boot::{self, BootInformation};
use crate::cpu::fpu::FpuState;
use crate::drivers::power;
use crate::errno::Errno;
use crate::exec::KernelArguments;
use crate::exec::fallback::{self, Reason};
use crate::fs::open::open;
use crate::fs::open_flags::OpenFlags;
use crate::fs::root::{self, Root};
use crate::fs::{FileTable, FsContext};
use crate::interrupts::InterruptFrame;
use crate::lock::{Lock, Rank};
use crate::memory::{direct_map, frames};
use crate::syscall::argument::Fd;
use crate::syscall::exec::execute;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};
use spin::Once;

/// What every program starts with that init starts.
const ENVIRONMENT: [&[u8]; 3] =
    [b"HOME=/", b"TERM=linux", b"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"];

/// What was wrong with the initrd, if anything: the fallback says it.
static INITRD_FAULT: Once<String> = Once::new();

/// What Ctrl-Alt-Del does: restart at once, or have init do it in order, for which init has asked by reboot(2).
static RESTARTS_AT_ONCE: AtomicBool = AtomicBool::new(true);

/// Makes the root file system out of the initrd, and a process in it that becomes init when it first runs.
pub fn start(boot: &BootInformation) -> Result<(), Errno> {
    let Root { context, unpacked } = root::init(initrd(boot))?;
    match unpacked {
        None => note_fault(&Reason::NoInitrd),
        Some(outcome) => {
            log::info!(target: "initrd", "{} files, {} left out", outcome.entries, outcome.skipped);
            if let Some(error) = outcome.error {
                note_fault(&Reason::BrokenInitrd(&error));
            }
        }
    }
    limits::init(frames::counts().total);
    let process = first_process(context)?;
    alarm::init()?;
    let thread = Thread::new(INIT_PID, process.clone(), Some(FpuState::initial()?))?;
    thread.set_name(b"init");
    switch::prepare_stack(&thread, Start { function: Some((become_init, 0)), registers: InterruptFrame::default() });
    process.add_thread(thread.clone())?;
    let mut tasks = tasks();
    tasks.threads.set(INIT_PID, thread.clone());
    tasks.family.insert(INIT_PID, Birth::of_nobody(), process);
    drop(tasks);
    scheduler::start(thread);
    Ok(())
}

/// When init ends the machine has nothing left to do. Said even on a quiet console: it is the last word.
pub fn ended(status: Status) -> ! {
    let code = match status {
        Status::Exited(code) => {
            log::error!(target: "init", "init exited with status {code}");
            code
        }
        Status::Killed { signal, .. } => {
            log::error!(target: "init", "init was killed by signal {signal}");
            signal.saturating_add(128)
        }
        Status::Stopped { .. } | Status::Continued => 0,
    };
    power::report_to_emulator(code);
    power::power_off()
}

/// reboot(2) with LINUX_REBOOT_CMD_CAD_ON and CAD_OFF.
pub fn set_restarts_at_once(at_once: bool) {
    RESTARTS_AT_ONCE.store(at_once, Relaxed);
}

/// Somebody has pressed Ctrl-Alt-Del.
pub fn restart_asked() {
    if RESTARTS_AT_ONCE.load(Relaxed) {
        power::reboot();
    }
    if let Some(init) = find_process(INIT_PID) {
        // A standard signal is never refused.
        let _ = send_to_process(&init, Info::from_kernel(Signal::INT));
    }
}

/// The first module's bytes. They stay where they are: files are read out of them when they are first touched.
fn initrd(boot: &BootInformation) -> Option<&'static [u8]> {
    let range = boot.modules.first()?.range;
    let size_bytes = usize::try_from(range.size_bytes()).ok()?;
    // SAFETY: the module's memory is reserved for good (`Holder::Module`), lies in the direct map, and is written by nobody.
    Some(unsafe { core::slice::from_raw_parts(direct_map::pointer(range.start), size_bytes) })
}

fn note_fault(reason: &Reason) {
    log::error!(target: "initrd", "{reason}");
    INITRD_FAULT.call_once(|| format!("{reason}"));
}

fn first_process(context: FsContext) -> Result<Arc<Process>, Errno> {
    let credentials = Credentials::root();
    let mut files = FileTable::new();
    match open(&context.with(&credentials), None, b"/dev/console", OpenFlags::READ_WRITE, 0) {
        Ok(console) => {
            for _ in 0..3 {
                files.add(console.clone(), 0, false, 3)?;
            }
        }
        Err(errno) => log::warn!(target: "init", "init starts without a console: {}", errno.description()),
    }
    let parts = Parts {
        address_space: None,
        files: Some(Lock::shared(Rank::FileTable, files)?),
        fs_context: Some(Lock::shared(Rank::FileTable, context)?),
        credentials: Arc::try_new(credentials).map_err(|_| Errno::ENOMEM)?,
        program: None,
        limits: Limits::of_init(),
        signals: ProcessSignals::new()?,
    };
    {
        let mut tasks = tasks();
        while tasks.threads.reserve()? != INIT_PID {}
        tasks.family.reserve(INIT_PID)?;
    }
    Process::new(INIT_PID, parts)
}

/// The first thing that the new process does: what execve does, with strings of the kernel's. Then it returns to user mode.
extern "C" fn become_init(_: usize) {
    let command_line = &boot::information().command_line;
    let mut arguments: Vec<&[u8]> = Vec::new();
    if arguments.try_reserve(command_line.init_arguments().count()).is_ok() {
        arguments.extend(command_line.init_arguments().map(str::as_bytes));
    }
    let started = match command_line.init() {
        Some(path) => run(path, &arguments).map_err(|errno| Reason::CannotStart(path, errno)),
        None => fallback::INIT_PATHS
            .iter()
            .try_for_each(|path| match run(path, &arguments) {
                Ok(()) => Err(()),
                Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(()),
                Err(errno) => {
                    log::error!(target: "init", "{}", Reason::CannotStart(path, errno));
                    Ok(())
                }
            })
            .map_or_else(|()| Ok(()), |()| Err(Reason::NothingAtTheUsualPlaces)),
    };
    if let Err(reason) = started {
        run_fallback(&reason);
    }
}

fn run(path: &str, arguments: &[&[u8]]) -> Result<(), Errno> {
    let mut all: Vec<&[u8]> = Vec::new();
    all.try_reserve_exact(arguments.len() + 1).map_err(|_| Errno::ENOMEM)?;
    all.push(path.as_bytes());
    all.extend_from_slice(arguments);
    let strings = KernelArguments { arguments: &all, environment: &ENVIRONMENT };
    execute(&current(), Fd::CWD, path.as_bytes(), 0, &strings)?;
    log::info!(target: "init", "{path} is process {INIT_PID}");
    Ok(())
}

/// The init that is part of the kernel, which shows why it runs.
fn run_fallback(reason: &Reason) {
    log::error!(target: "init", "{reason}");
    let reason = INITRD_FAULT.get().cloned().unwrap_or_else(|| format!("{reason}"));
    let strings =
        KernelArguments { arguments: &[fallback::NAME.as_bytes(), reason.as_bytes()], environment: &ENVIRONMENT };
    let path = b"/keel-fallback-init";
    let context = current().process.fs_context().map(|context| context.lock().clone());
    let placed =
        context.and_then(|context| root::place_file(context.root(), b"keel-fallback-init", fallback::IMAGE, 0o755));
    if let Err(errno) = placed.and_then(|()| execute(&current(), Fd::CWD, path, 0, &strings)) {
        log::error!(target: "init", "the built-in init can't be started: {}", errno.description());
        power::power_off();
    }
}
