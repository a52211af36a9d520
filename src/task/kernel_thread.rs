//! Threads that run in the kernel only: the idle thread, and what the kernel does on its own account.
//!
//! They belong to a process of their own, number 0, that has no memory and no files. Like all kernel code they aren't
//! preempted: one that has long work yields.

use super::credentials::Credentials;
use super::exit;
use super::limits::Limits;
use super::process::{Parts, Process, tasks};
use super::scheduler::{self, State};
use super::signal::ProcessSignals;
use super::switch::{self, Start};
use super::thread::Thread;
use super::wait_queue::Limits as WaitLimits;
use crate::errno::Errno;
use crate::interrupts::InterruptFrame;
use crate::interrupts::timer;
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::sync::atomic::Ordering::Relaxed;
use spin::Once;

static KERNEL_PROCESS: Once<Arc<Process>> = Once::new();

/// Turns the boot code into the first thread, which becomes the idle thread when [`idle`] is called. Once, when the heap
/// is up and before anything waits.
pub fn init() -> Result<(), Errno> {
    let parts = Parts {
        address_space: None,
        files: None,
        fs_context: None,
        credentials: Arc::try_new(Credentials::root()).map_err(|_| Errno::ENOMEM)?,
        program: None,
        limits: Limits::new(),
        signals: ProcessSignals::new()?,
    };
    let process = Process::new(0, parts)?;
    let process = KERNEL_PROCESS.call_once(|| process);
    let boot_thread = Thread::new(0, process.clone(), None)?;
    boot_thread.set_name(b"idle");
    switch::adopt_boot_stack(boot_thread.clone());
    scheduler::set_idle_thread(boot_thread);
    timer::set_tick_handler(scheduler::tick);
    Ok(())
}

/// Starts a kernel thread. `function` may return; the thread then ends.
pub fn spawn(name: &str, function: extern "C" fn(usize), argument: usize) -> Result<Arc<Thread>, Errno> {
    let process = KERNEL_PROCESS.get().ok_or(Errno::EAGAIN)?;
    let begin = Box::try_new(Begin { function, argument }).map_err(|_| Errno::ENOMEM)?;
    let tid = tasks().threads.reserve()?;
    let thread = Thread::new(tid, process.clone(), None).inspect_err(|_| {
        tasks().threads.release(tid);
    })?;
    thread.set_name(name.as_bytes());
    let begin = Box::into_raw(begin) as usize;
    switch::prepare_stack(
        &thread,
        Start { function: Some((run_and_end, begin)), registers: InterruptFrame::default() },
    );
    tasks().threads.set(tid, thread.clone());
    scheduler::start(thread.clone());
    Ok(thread)
}

struct Begin {
    function: extern "C" fn(usize),
    argument: usize,
}

extern "C" fn run_and_end(begin: usize) {
    // SAFETY: `spawn` made it with `Box::into_raw`, for this thread alone.
    let begin = *unsafe { Box::from_raw(begin as *mut Begin) };
    (begin.function)(begin.argument);
    exit::end_kernel_thread()
}

/// Waits until a kernel thread has ended.
pub fn join(thread: &Thread) {
    let ended = || (thread.schedule.state.load(Relaxed) == State::Ended as u8).then_some(());
    // A wait without limits ends by its event only.
    let _ = thread.ended.wait_until(WaitLimits::NONE, ended);
}

/// What the boot thread does once everything is started: give the CPU to whoever is ready, and halt while nobody is.
pub fn idle() -> ! {
    loop {
        scheduler::schedule();
        x86_64::instructions::interrupts::disable();
        if !crate::cpu::per_cpu::need_reschedule() {
            // Turns interrupts on and halts as one: a wake-up can't fall between the two.
            x86_64::instructions::interrupts::enable_and_hlt();
        } else {
            x86_64::instructions::interrupts::enable();
        }
    }
}
