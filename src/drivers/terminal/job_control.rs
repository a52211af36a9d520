//! Which session a terminal controls, and which process group is in its foreground (termios(3), credentials(7)).
//!
//! A terminal controls at most one session, whose leader has taken it. Each process knows its own controlling terminal: it
//! inherits it, and may give it up alone. Only the foreground group reads; others are stopped by SIGTTIN, and by SIGTTOU
//! where they change the terminal, or write and TOSTOP is set. When the leader ends, or the line is hung up, the session
//! is without a terminal.

use super::device::{TTYS, Tty};
use super::termios::LocalFlags;
use crate::errno::Errno;
use crate::fs::device::DeviceNumber;
use crate::task::current;
use crate::task::process::{Process, find_process, tasks};
use crate::task::signal::{Info, Signal, send_to_group, send_to_process};
use crate::task::thread::Work;
use core::sync::atomic::{AtomicU8, AtomicU32, Ordering::Relaxed};

/// Ids start at 1.
const NOBODY: u32 = 0;

/// What a terminal controls.
pub(super) struct Controlled {
    session: AtomicU32,
    foreground: AtomicU32,
}

/// What a process keeps about terminals.
#[derive(Default)]
pub struct Controlling {
    /// The terminal that controls it: its place among all terminals, counted from 1. 0: none does.
    terminal: AtomicU8,
    /// A session leader whose terminal was hung up: the group that was in the foreground then. It is told when the leader
    /// ends.
    left_behind: AtomicU32,
}

/// What a process is about to do with a terminal.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
    /// Of its settings, or of who controls it.
    Change,
}

/// The current process's place among the others.
struct Caller {
    pid: u32,
    group: u32,
    session: u32,
}

impl Caller {
    fn find() -> Result<Self, Errno> {
        let pid = current().process.pid;
        let tasks = tasks();
        let member = tasks.family.get(pid).ok_or(Errno::ESRCH)?;
        Ok(Self { pid, group: member.group, session: member.session })
    }

    fn leads_its_session(&self) -> bool {
        self.pid == self.session
    }
}

impl Controlling {
    /// For a child.
    pub fn inherit(&self, parent: &Self) {
        self.terminal.store(parent.terminal.load(Relaxed), Relaxed);
    }

    /// For who begins a session.
    pub fn forget(&self) {
        self.terminal.store(0, Relaxed);
    }

    fn terminal(&self) -> Option<&'static Tty> {
        TTYS.get(usize::from(self.terminal.load(Relaxed)).checked_sub(1)?).copied()
    }

    fn is(&self, tty: &Tty) -> bool {
        self.terminal().is_some_and(|own| core::ptr::eq(own, tty))
    }

    fn set(&self, tty: &Tty) {
        let place = TTYS.iter().position(|other| core::ptr::eq(*other, tty));
        self.terminal.store(place.map_or(0, |place| place as u8 + 1), Relaxed);
        self.left_behind.store(NOBODY, Relaxed);
    }
}

impl Controlled {
    pub const fn new() -> Self {
        Self { session: AtomicU32::new(NOBODY), foreground: AtomicU32::new(NOBODY) }
    }

    fn is_free(&self) -> bool {
        self.session.load(Relaxed) == NOBODY
    }

    fn controls(&self, session: u32) -> bool {
        session != NOBODY && self.session.load(Relaxed) == session
    }

    fn foreground(&self) -> Option<u32> {
        Some(self.foreground.load(Relaxed)).filter(|group| *group != NOBODY)
    }

    /// Sends a signal to the foreground group, if there is one.
    pub fn signal_foreground(&self, signal: Signal) {
        if let Some(group) = self.foreground() {
            signal_group(group, &[signal]);
        }
    }
}

fn signal_group(group: u32, signals: &[Signal]) {
    for signal in signals {
        // A group that has ended meanwhile needs no signal.
        let _ = send_to_group(group, Info::from_kernel(*signal));
    }
}

/// The terminal that controls the caller. ENXIO if there is none.
pub(super) fn controlling_terminal() -> Result<&'static Tty, Errno> {
    current().process.controlling.terminal().ok_or(Errno::ENXIO)
}

/// A session leader without a terminal gets the first one that it opens, if that is free.
pub(super) fn acquire_by_open(tty: &Tty) {
    let Ok(caller) = Caller::find() else { return };
    if caller.leads_its_session() && controlling_terminal().is_err() && tty.controlled.is_free() {
        take(tty, &caller);
    }
}

/// TIOCSCTTY. With `steal` root takes it away from another session.
pub(super) fn acquire(tty: &Tty, steal: bool) -> Result<(), Errno> {
    let caller = Caller::find()?;
    if caller.leads_its_session() && tty.controlled.controls(caller.session) {
        return Ok(());
    }
    if !caller.leads_its_session() || controlling_terminal().is_ok() {
        return Err(Errno::EPERM);
    }
    let may_steal = steal && current().process.credentials().is_privileged();
    if !tty.controlled.is_free() && !may_steal {
        return Err(Errno::EPERM);
    }
    release(tty);
    take(tty, &caller);
    Ok(())
}

fn take(tty: &Tty, leader: &Caller) {
    tty.controlled.session.store(leader.session, Relaxed);
    tty.controlled.foreground.store(leader.group, Relaxed);
    current().process.controlling.set(tty);
}

/// The terminal controls nobody from now on.
fn release(tty: &Tty) {
    let session = tty.controlled.session.swap(NOBODY, Relaxed);
    tty.controlled.foreground.store(NOBODY, Relaxed);
    if session == NOBODY {
        return;
    }
    let tasks = tasks();
    let members = tasks.family.iter().filter(|(_, member)| member.session == session);
    members.map(|(_, member)| &member.value.controlling).filter(|own| own.is(tty)).for_each(Controlling::forget);
}

/// TIOCNOTTY: a process gives its terminal up, a session leader does so for the whole session.
pub(super) fn give_up(tty: &Tty) -> Result<(), Errno> {
    require_control(tty)?;
    if Caller::find()?.leads_its_session() {
        if let Some(group) = tty.controlled.foreground() {
            signal_group(group, &[Signal::HUP, Signal::CONT]);
        }
        release(tty);
    }
    current().process.controlling.forget();
    Ok(())
}

/// The line is gone for everybody who has the terminal open, and the session's leader is told (vhangup(2)).
pub(super) fn hang_up(tty: &Tty) {
    let leader = find_process(tty.controlled.session.load(Relaxed));
    if let Some(leader) = leader {
        for signal in [Signal::HUP, Signal::CONT] {
            // A standard signal is never refused.
            let _ = send_to_process(&leader, Info::from_kernel(signal));
        }
        leader.controlling.left_behind.store(tty.controlled.foreground.load(Relaxed), Relaxed);
    }
    release(tty);
    tty.begin_era();
}

/// vhangup(2): the caller's own terminal.
pub fn hang_up_own() {
    if let Ok(tty) = controlling_terminal() {
        hang_up(tty);
    }
}

/// The number of the terminal that controls a process, and the terminal's foreground group if there is one: for
/// /proc/PID/stat.
pub fn terminal_of(process: &Process) -> Option<(DeviceNumber, Option<u32>)> {
    let tty = process.controlling.terminal()?;
    Some((tty.number(), tty.controlled.foreground()))
}

/// A process is about to end. If it leads a session, the foreground group learns of it and the session's terminal is hung
/// up: whoever opens it next finds a fresh one.
pub fn leader_ends(process: &Process) {
    let left_behind = process.controlling.left_behind.load(Relaxed);
    if left_behind != NOBODY {
        signal_group(left_behind, &[Signal::HUP, Signal::CONT]);
    }
    let Some(tty) = process.controlling.terminal().filter(|tty| tty.controlled.controls(process.pid)) else { return };
    tty.controlled.signal_foreground(Signal::HUP);
    release(tty);
    tty.begin_era();
}

/// Whether the caller may do that now. A group in the background is stopped instead, and the system call is made again
/// when it is continued; EIO where nobody could continue it.
pub(super) fn check(tty: &Tty, access: Access) -> Result<(), Errno> {
    let thread = current();
    if !thread.process.controlling.is(tty) {
        return Ok(());
    }
    let group = Caller::find()?.group;
    if tty.controlled.foreground().is_none_or(|foreground| foreground == group) {
        return Ok(());
    }
    if access == Access::Write && !tty.lock().discipline.termios().local().contains(LocalFlags::TOSTOP) {
        return Ok(());
    }
    let signal = if access == Access::Read { Signal::TTIN } else { Signal::TTOU };
    let has_no_effect =
        thread.signals.mask().contains(signal) || thread.process.signals.with(|actions| actions.ignores(signal));
    match access {
        Access::Read if has_no_effect => return Err(Errno::EIO),
        _ if has_no_effect => return Ok(()),
        _ => {}
    }
    if tasks().family.is_orphaned(group) {
        return Err(Errno::EIO);
    }
    send_to_group(group, Info::from_kernel(signal))?;
    // Another thread may have been chosen to take it; this one is to make its call again all the same.
    thread.add_work(Work::SIGNAL);
    Err(Errno::ERESTARTSYS)
}

/// ENOTTY unless the terminal controls the caller.
fn require_control(tty: &Tty) -> Result<(), Errno> {
    if current().process.controlling.is(tty) { Ok(()) } else { Err(Errno::ENOTTY) }
}

/// tcgetsid(3).
pub(super) fn session(tty: &Tty) -> Result<u32, Errno> {
    require_control(tty)?;
    Ok(tty.controlled.session.load(Relaxed))
}

/// tcgetpgrp(3).
pub(super) fn foreground_group(tty: &Tty) -> Result<u32, Errno> {
    require_control(tty)?;
    Ok(tty.controlled.foreground.load(Relaxed))
}

/// tcsetpgrp(3): to a group of the caller's session, once [`check`] has let the caller. As on Linux a process's number will
/// do, if the process is in that session.
pub(super) fn set_foreground_group(tty: &Tty, group: i32) -> Result<(), Errno> {
    let group = u32::try_from(group).map_err(|_| Errno::EINVAL)?;
    require_control(tty)?;
    let session = Caller::find()?.session;
    let tasks = tasks();
    let of_process = || tasks.family.get(group).map(|member| member.session);
    if tasks.family.session_of_group(group).or_else(of_process).ok_or(Errno::ESRCH)? != session {
        return Err(Errno::EPERM);
    }
    tty.controlled.foreground.store(group, Relaxed);
    Ok(())
}
