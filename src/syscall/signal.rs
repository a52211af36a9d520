//! Signals: what is done about them, who blocks which, sending and waiting for them.

use super::time::Timespec;
use crate::errno::Errno;
use crate::interrupts::clock;
use crate::memory::user_access::{self, UserAddress};
use crate::task::Thread;
use crate::task::credentials::Credentials;
use crate::task::process::{self, INIT_PID, Process};
use crate::task::signal::info::INFO_BYTES;
use crate::task::signal::{self, Action, AlternateStack, Info, Origin, Signal, SignalSet, code};
use crate::task::wait_queue::{Limits, WaitQueue};
use crate::task::yield_point::yield_point;
use alloc::sync::Arc;

/// The only size of a signal set that Linux takes.
const SET_BYTES: usize = 8;
const SIG_BLOCK: u32 = 0;
const SIG_UNBLOCK: u32 = 1;
const SIG_SETMASK: u32 = 2;
/// The smallest alternate stack (Linux's MINSIGSTKSZ).
const MIN_STACK_BYTES: u64 = 2048;

fn check_set_size(bytes: usize) -> Result<(), Errno> {
    if bytes == SET_BYTES { Ok(()) } else { Err(Errno::EINVAL) }
}

pub fn rt_sigaction(
    thread: &Thread,
    number: u32,
    new: UserAddress,
    old: UserAddress,
    set_bytes: usize,
) -> Result<(), Errno> {
    check_set_size(set_bytes)?;
    let wants_previous = !old.is_null();
    let previous = match new.is_null() {
        true => {
            let signal = Signal::new(number).ok_or(Errno::EINVAL)?;
            wants_previous.then(|| thread.process.signals.with(|actions| actions.get(signal)))
        }
        false => set_action(thread, number, user_access::read_value(new)?, wants_previous)?,
    };
    previous.map_or(Ok(()), |previous| user_access::write_value(old, &previous))
}

/// Returns what was done about the signal before, if it is wanted.
fn set_action(thread: &Thread, number: u32, new: Action, wants_previous: bool) -> Result<Option<Action>, Errno> {
    let signal = Signal::new(number).ok_or(Errno::EINVAL)?;
    if SignalSet::UNBLOCKABLE.contains(signal) {
        return Err(Errno::EINVAL);
    }
    let mut previous = None;
    let is_now_ignored = thread.process.signals.with(|actions| {
        if wants_previous {
            previous = Some(actions.get(signal));
        }
        actions.set(signal, new.sanitised());
        actions.ignores(signal)
    });
    if is_now_ignored {
        signal::forget(&thread.process, signal);
    }
    Ok(previous)
}

pub fn rt_sigprocmask(
    thread: &Thread,
    how: u32,
    new: UserAddress,
    old: UserAddress,
    set_bytes: usize,
) -> Result<(), Errno> {
    check_set_size(set_bytes)?;
    let previous = thread.signals.mask();
    if !new.is_null() {
        let set = SignalSet::from_bits(user_access::read_value(new)?);
        thread.set_signal_mask(match how {
            SIG_BLOCK => previous.union(set),
            SIG_UNBLOCK => previous.difference(set),
            SIG_SETMASK => set,
            _ => return Err(Errno::EINVAL),
        });
    }
    if old.is_null() { Ok(()) } else { user_access::write_value(old, &previous.bits()) }
}

pub fn rt_sigpending(thread: &Thread, set: UserAddress, set_bytes: usize) -> Result<(), Errno> {
    if set_bytes > SET_BYTES {
        return Err(Errno::EINVAL);
    }
    let pending = thread.pending_signals().intersection(thread.signals.mask()).bits().to_ne_bytes();
    user_access::copy_out(set, pending.get(..set_bytes).unwrap_or_default())
}

/// Waits with another mask until a handler has run.
pub fn rt_sigsuspend(thread: &Thread, mask: UserAddress, set_bytes: usize) -> Result<(), Errno> {
    check_set_size(set_bytes)?;
    let mask = SignalSet::from_bits(user_access::read_value(mask)?);
    thread.set_signal_mask_for_call(mask);
    pause(thread)
}

pub fn pause(_: &Thread) -> Result<(), Errno> {
    let never = WaitQueue::new();
    match never.wait_interruptibly(|| None::<()>) {
        Ok(()) => Ok(()),
        Err(_) => Err(Errno::ERESTARTNOHAND),
    }
}

/// Takes a pending signal of the set without running its handler, or waits for one.
pub fn rt_sigtimedwait(
    thread: &Thread,
    set: UserAddress,
    info: UserAddress,
    timeout: UserAddress,
    set_bytes: usize,
) -> Result<u32, Errno> {
    check_set_size(set_bytes)?;
    let wanted = SignalSet::from_bits(user_access::read_value(set)?).difference(SignalSet::UNBLOCKABLE);
    let deadline_ns = match timeout.is_null() {
        true => None,
        false => Some(clock::now_ns().saturating_add(user_access::read_value::<Timespec>(timeout)?.as_ns()?)),
    };
    // While it waits they are not blocked, so that sending one of them wakes it.
    let mask = thread.signals.mask();
    thread.set_signal_mask(mask.difference(wanted));
    thread.signals.set_awaited(wanted);
    let mut waited = Ok(());
    let mut taken = thread.take_signal(wanted);
    if taken.is_none() {
        waited = WaitQueue::new().wait_until(Limits::until(deadline_ns), || None::<()>);
        taken = thread.take_signal(wanted);
    }
    thread.signals.set_awaited(SignalSet::EMPTY);
    thread.set_signal_mask(mask);
    let Some(taken) = taken else {
        return Err(if waited == Err(Errno::ETIMEDOUT) { Errno::EAGAIN } else { Errno::EINTR });
    };
    if !info.is_null() {
        user_access::write_value(info, &taken.to_words())?;
    }
    Ok(taken.signal.number().into())
}

/// Undoes a handler's frame; the result is the interrupted code's RAX. A frame that can't be read ends the program.
pub fn rt_sigreturn(thread: &Thread) -> u64 {
    // SAFETY: the frame is the current thread's own, at rest while it is in a system call.
    let registers = unsafe { &mut *thread.user_frame() };
    if signal::frame::pop(thread, registers).is_err() {
        signal::force(thread, Info::from_kernel(Signal::SEGV));
    }
    registers.rax
}

pub fn sigaltstack(thread: &Thread, new: UserAddress, old: UserAddress) -> Result<(), Errno> {
    let new: Option<AlternateStack> = if new.is_null() { None } else { Some(user_access::read_value(new)?) };
    let present = thread.signals.alternate_stack();
    // SAFETY: as in `rt_sigreturn`; the frame is only read.
    let on_it = present.holds(unsafe { (*thread.user_frame()).rsp });
    if let Some(new) = new {
        let mode = new.flags & !AlternateStack::AUTO_DISARM;
        if on_it {
            return Err(Errno::EPERM);
        }
        match mode {
            AlternateStack::DISABLE => thread.signals.set_alternate_stack(AlternateStack::NONE),
            0 | AlternateStack::ON_STACK if new.size < MIN_STACK_BYTES => return Err(Errno::ENOMEM),
            0 | AlternateStack::ON_STACK => {
                let flags = new.flags & AlternateStack::AUTO_DISARM;
                thread.signals.set_alternate_stack(AlternateStack { flags, unused: 0, ..new });
            }
            _ => return Err(Errno::EINVAL),
        }
    }
    if old.is_null() {
        return Ok(());
    }
    let flags = present.flags | if on_it { AlternateStack::ON_STACK } else { 0 };
    user_access::write_value(old, &AlternateStack { flags, ..present })
}

/// To a process, a group, or everybody: kill(2). Signal 0 only asks whether it could be sent.
pub fn kill(thread: &Thread, pid: i32, number: u32) -> Result<(), Errno> {
    // Asked for each target: that there is none comes before that the signal is none.
    let info = || Ok(optional_signal(number)?.map(|signal| from_caller(thread, signal, code::USER)));
    match pid {
        1.. => {
            let target = process::find_process_of(pid.unsigned_abs()).ok_or(Errno::ESRCH)?;
            send(thread, &target, info()?)
        }
        0 => {
            let group = process::tasks().family.get(thread.process.pid).map_or(0, |member| member.group);
            kill_all(thread, info, |member_group, _| member_group == group)
        }
        // That somebody may not be sent to is no error here.
        -1 => match kill_all(thread, info, |_, pid| pid != INIT_PID && pid != thread.process.pid) {
            Err(Errno::EPERM) => Ok(()),
            other => other,
        },
        i32::MIN => Err(Errno::ESRCH),
        -0x7fff_ffff..-1 => kill_all(thread, info, |group, _| group == pid.unsigned_abs()),
    }
}

/// Success if one could be sent to; else the first reason why not. Who has ended and isn't waited for yet still counts.
///
/// Each real-time signal may take a count of all that are queued, so others may run between two. Of the rest all are sent at once:
/// SIGKILL is to leave nobody time to fork.
fn kill_all(
    thread: &Thread,
    info: impl Fn() -> Result<Option<Info>, Errno>,
    chosen: impl Fn(u32, u32) -> bool,
) -> Result<(), Errno> {
    let mut result = Err(Errno::ESRCH);
    let mut caller_ends = false;
    process::for_each_of(
        |pid, member| chosen(member.group, pid),
        |target| {
            if caller_ends {
                return;
            }
            let info = info();
            match info.and_then(|info| send(thread, target, info)) {
                Ok(()) => result = Ok(()),
                Err(errno) if result == Err(Errno::ESRCH) => result = Err(errno),
                Err(_) => {}
            }
            caller_ends = matches!(info, Ok(Some(info)) if info.signal.is_real_time()) && yield_point();
        },
    );
    result
}

fn send(thread: &Thread, target: &Process, info: Option<Info>) -> Result<(), Errno> {
    check_permission(thread, target, info.map(|info| info.signal))?;
    info.map_or(Ok(()), |info| signal::send_to_process(target, info))
}

/// The sender's real or effective user must be the target's real or saved one, unless it is itself; SIGCONT goes to all of
/// one's session.
fn check_permission(thread: &Thread, target: &Process, signal: Option<Signal>) -> Result<(), Errno> {
    if target.pid == thread.process.pid {
        return Ok(());
    }
    let (own, its): (Arc<Credentials>, Arc<Credentials>) = (thread.process.credentials(), target.credentials());
    let matches = |id: u32| id == its.user.real || id == its.user.saved;
    if own.is_privileged() || matches(own.user.effective) || matches(own.user.real) {
        return Ok(());
    }
    let tasks = process::tasks();
    let session = |pid: u32| tasks.family.get(pid).map(|member| member.session);
    let same_session = session(thread.process.pid) == session(target.pid);
    if signal == Some(Signal::CONT) && same_session { Ok(()) } else { Err(Errno::EPERM) }
}

pub fn tkill(thread: &Thread, tid: i32, number: u32) -> Result<(), Errno> {
    send_to_tid(thread, None, tid, number)
}

pub fn tgkill(thread: &Thread, group: i32, tid: i32, number: u32) -> Result<(), Errno> {
    if group <= 0 {
        return Err(Errno::EINVAL);
    }
    send_to_tid(thread, Some(group.unsigned_abs()), tid, number)
}

fn send_to_tid(thread: &Thread, group: Option<u32>, tid: i32, number: u32) -> Result<(), Errno> {
    if tid <= 0 {
        return Err(Errno::EINVAL);
    }
    let target = process::find_thread(tid.unsigned_abs()).ok_or(Errno::ESRCH)?;
    if group.is_some_and(|group| group != target.process.pid) || !target.has_user_mode() {
        return Err(Errno::ESRCH);
    }
    let signal = optional_signal(number)?;
    check_permission(thread, &target.process, signal)?;
    signal.map_or(Ok(()), |signal| signal::send_to_thread(&target, from_caller(thread, signal, code::TKILL)))
}

pub fn rt_sigqueueinfo(thread: &Thread, pid: i32, number: u32, info: UserAddress) -> Result<(), Errno> {
    let claim = Claim::read(info)?;
    claim.check(thread, pid)?;
    let target = process::find_process_of(u32::try_from(pid).map_err(|_| Errno::ESRCH)?).ok_or(Errno::ESRCH)?;
    send(thread, &target, claim.info(number)?)
}

pub fn rt_tgsigqueueinfo(thread: &Thread, group: i32, tid: i32, number: u32, info: UserAddress) -> Result<(), Errno> {
    let claim = Claim::read(info)?;
    if group <= 0 || tid <= 0 {
        return Err(Errno::EINVAL);
    }
    claim.check(thread, tid)?;
    let target = process::find_thread(tid.unsigned_abs()).ok_or(Errno::ESRCH)?;
    if target.process.pid != group.unsigned_abs() {
        return Err(Errno::ESRCH);
    }
    let info = claim.info(number)?;
    check_permission(thread, &target.process, info.map(|info| info.signal))?;
    info.map_or(Ok(()), |info| signal::send_to_thread(&target, info))
}

/// What the sender says that the signal is.
struct Claim([u32; INFO_BYTES / 4]);

impl Claim {
    fn read(info: UserAddress) -> Result<Self, Errno> {
        user_access::read_value(info).map(Self)
    }

    /// Only to itself may a thread claim that the kernel, or kill(2), sent it.
    fn check(&self, thread: &Thread, target: i32) -> Result<(), Errno> {
        let code = self.0[2] as i32;
        let is_others = code >= 0 || code == code::TKILL;
        if is_others && target.unsigned_abs() != thread.tid() { Err(Errno::EPERM) } else { Ok(()) }
    }

    fn info(&self, number: u32) -> Result<Option<Info>, Errno> {
        Ok(optional_signal(number)?.map(|signal| Info::from_words(signal, &self.0)))
    }
}

fn optional_signal(number: u32) -> Result<Option<Signal>, Errno> {
    if number == 0 {
        return Ok(None);
    }
    Signal::new(number).map(Some).ok_or(Errno::EINVAL)
}

/// What kill, and a failed write, say of who sent a signal.
pub fn from_caller(thread: &Thread, signal: Signal, code: i32) -> Info {
    let origin = Origin::Process { pid: thread.process.pid, uid: thread.process.credentials().user.real };
    Info { signal, code, origin }
}
