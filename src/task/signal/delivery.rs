//! Taking signals, on the way back to user mode.

use super::action::{Action, ActionFlags, Disposition};
use super::frame;
use super::info::Info;
use super::numbers::{DefaultAction, Signal, SignalSet};
use super::state::take_next;
use super::stop;
use crate::cpu::layout::asm_constant;
use crate::errno::Errno;
use crate::interrupts::InterruptFrame;
use crate::task::exit;
use crate::task::family::Status;
use crate::task::process::tasks;
use crate::task::thread::{Thread, Work};

const SYSCALL_VECTOR: u64 = asm_constant("SYSCALL_FRAME_VECTOR") as u64;
const INT_0X80_VECTOR: u64 = 0x80;
/// `syscall` and `int 0x80` are both two bytes long.
const GATE_INSTRUCTION_BYTES: u64 = 2;
const RESTART_SYSCALL: u64 = 219;

/// Takes what is pending. The frame holds the user's registers, and is changed where a handler is to run.
pub fn handle_pending(thread: &Thread, frame: &mut InterruptFrame) {
    if thread.work().contains(Work::STOP) {
        stop::wait_while_stopped(thread);
    }
    thread.remove_work(Work::SIGNAL);
    let mut handled = false;
    while let Some(info) = take_next(thread, SignalSet::from_bits(!thread.signals.mask().bits())) {
        match thread.process.signals.with(|actions| actions.disposition(info.signal)) {
            Disposition::Ignore => {}
            Disposition::Default(action) => take_default_action(thread, info.signal, action),
            Disposition::Handler(action) => {
                restart_or_interrupt(frame, Some(&action));
                run_handler(thread, frame, &action, &info);
                handled = true;
            }
        }
    }
    if !handled {
        restart_or_interrupt(frame, None);
        if thread.work().contains(Work::RESTORE_MASK) {
            let mask = thread.take_mask_to_restore();
            thread.set_signal_mask(mask);
        }
    }
}

fn take_default_action(thread: &Thread, signal: Signal, action: DefaultAction) {
    match action {
        DefaultAction::Ignore | DefaultAction::Continue => {}
        DefaultAction::Terminate | DefaultAction::Core => {
            let status = Status::Killed { signal: signal.number(), core_dumped: false };
            exit::end_process(status)
        }
        // In an orphaned group nobody would ever continue it, so only SIGSTOP stops.
        DefaultAction::Stop => {
            let orphaned = || {
                let tasks = tasks();
                tasks.family.get(thread.process.pid).is_none_or(|member| tasks.family.is_orphaned(member.group))
            };
            if signal == Signal::STOP || !orphaned() {
                stop::stop_process(thread, signal);
                stop::wait_while_stopped(thread);
            }
        }
    }
}

/// A system call that a signal cut short is made again, or fails with EINTR; its result says what it would rather have.
fn restart_or_interrupt(frame: &mut InterruptFrame, handler: Option<&Action>) {
    if frame.vector != SYSCALL_VECTOR && frame.vector != INT_0X80_VECTOR {
        return;
    }
    let result = frame.rax as i64;
    let is = |errno: Errno| result == errno.as_return_value() as i64;
    let restart = match handler {
        Some(action) => {
            is(Errno::ERESTARTNOINTR) || is(Errno::ERESTARTSYS) && action.flags().contains(ActionFlags::RESTART)
        }
        None => is(Errno::ERESTARTNOINTR) || is(Errno::ERESTARTSYS) || is(Errno::ERESTARTNOHAND),
    };
    if restart {
        frame.rax = frame.error_code;
        frame.rip = frame.rip.wrapping_sub(GATE_INSTRUCTION_BYTES);
    } else if handler.is_none() && is(Errno::ERESTARTBLOCK) {
        frame.rax = RESTART_SYSCALL;
        frame.rip = frame.rip.wrapping_sub(GATE_INSTRUCTION_BYTES);
    } else if is(Errno::ERESTARTSYS) || is(Errno::ERESTARTNOHAND) || is(Errno::ERESTARTBLOCK) {
        frame.rax = Errno::EINTR.as_return_value() as u64;
    }
    // The call is settled: a further signal must not settle it again.
    frame.vector = 0;
}

/// Makes the thread go on in its handler. Where the frame can't be stored, the program gets SIGSEGV instead.
fn run_handler(thread: &Thread, frame: &mut InterruptFrame, action: &Action, info: &Info) {
    let mask_after = thread.take_mask_to_restore();
    if frame::push(thread, frame, action, info, mask_after).is_err() {
        let fault = Info::from_kernel(Signal::SEGV);
        if info.signal == Signal::SEGV {
            thread.process.signals.with(|actions| actions.reset(Signal::SEGV));
        }
        return super::force(thread, fault);
    }
    if action.flags().contains(ActionFlags::RESETHAND) {
        thread.process.signals.with(|actions| actions.reset(info.signal));
    }
    let mut mask = thread.signals.mask().union(SignalSet::from_bits(action.mask));
    if !action.flags().contains(ActionFlags::NODEFER) {
        mask = mask.with(info.signal);
    }
    thread.set_signal_mask(mask);
}
