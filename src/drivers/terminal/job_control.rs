//! Which session a terminal controls, and which process group is in its foreground (termios(3), credentials(7)).
//!
//! A session has at most one controlling terminal, and a terminal controls at most one session. Only the foreground group
//! reads; others are stopped by SIGTTIN, and by SIGTTOU where they change the terminal, or write and TOSTOP is set.

use super::device::{TTYS, Tty};
use super::termios::LocalFlags;
use crate::errno::Errno;
use crate::fs::device::DeviceNumber;
use crate::task::current;
use crate::task::process::tasks;
use crate::task::signal::{Info, Signal, send_to_group};
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Ids start at 1.
const NOBODY: u32 = 0;

/// What a terminal controls.
pub(super) struct Controlled {
    session: AtomicU32,
    foreground: AtomicU32,
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

impl Controlled {
    pub const fn new() -> Self {
        Self { session: AtomicU32::new(NOBODY), foreground: AtomicU32::new(NOBODY) }
    }

    fn controls(&self, session: u32) -> bool {
        session != NOBODY && self.session.load(Relaxed) == session
    }

    fn set(&self, session: u32, foreground: u32) {
        self.session.store(session, Relaxed);
        self.foreground.store(foreground, Relaxed);
    }

    /// Sends a signal to the foreground group, if there is one.
    pub fn signal_foreground(&self, signal: Signal) {
        let group = self.foreground.load(Relaxed);
        if group != NOBODY {
            // A group that has ended meanwhile needs no signal.
            let _ = send_to_group(group, Info::from_kernel(signal));
        }
    }

    /// The session is without this terminal from now on: its foreground group is told that the line was hung up.
    fn hang_up(&self) {
        self.signal_foreground(Signal::HUP);
        self.signal_foreground(Signal::CONT);
        self.set(NOBODY, NOBODY);
    }
}

/// The terminal that controls the caller's session. ENXIO if there is none.
pub(super) fn controlling_terminal() -> Result<&'static Tty, Errno> {
    let session = Caller::find()?.session;
    TTYS.into_iter().find(|tty| tty.controlled.controls(session)).ok_or(Errno::ENXIO)
}

/// A session leader without a terminal gets the first one that it opens, if that is free.
pub(super) fn acquire_by_open(tty: &Tty) {
    let Ok(caller) = Caller::find() else { return };
    if caller.leads_its_session() && controlling_terminal().is_err() && tty.controlled.session.load(Relaxed) == NOBODY {
        tty.controlled.set(caller.session, caller.group);
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
    let is_free = tty.controlled.session.load(Relaxed) == NOBODY;
    let may_steal = steal && current().process.credentials().is_privileged();
    if !is_free && !may_steal {
        return Err(Errno::EPERM);
    }
    tty.controlled.set(caller.session, caller.group);
    Ok(())
}

/// TIOCNOTTY: a session leader gives the terminal up for the whole session. For another process alone nothing changes.
pub(super) fn give_up(tty: &Tty) -> Result<(), Errno> {
    let caller = require_control(tty)?;
    if caller.leads_its_session() {
        tty.controlled.hang_up();
    }
    Ok(())
}

/// The number of the terminal that controls a session, and its foreground group if there is one: for /proc/PID/stat.
pub fn terminal_of(session: u32) -> Option<(DeviceNumber, Option<u32>)> {
    let tty = TTYS.iter().find(|tty| tty.controlled.controls(session))?;
    let foreground = tty.controlled.foreground.load(Relaxed);
    Some((tty.number(), Some(foreground).filter(|group| *group != NOBODY)))
}

/// A process has ended: if it led a session, the session's terminal is free again.
pub fn leader_ended(pid: u32) {
    for tty in TTYS {
        if tty.controlled.controls(pid) {
            tty.controlled.hang_up();
        }
    }
}

/// Whether the caller may do that now. A group in the background is stopped instead, and the system call is made again
/// when it is continued; EIO where nobody could continue it.
pub(super) fn check(tty: &Tty, access: Access) -> Result<(), Errno> {
    if tty.controlled.session.load(Relaxed) == NOBODY {
        return Ok(());
    }
    let caller = Caller::find()?;
    let foreground = tty.controlled.foreground.load(Relaxed);
    if !tty.controlled.controls(caller.session) || foreground == NOBODY || foreground == caller.group {
        return Ok(());
    }
    if access == Access::Write && !tty.lock().discipline.termios().local().contains(LocalFlags::TOSTOP) {
        return Ok(());
    }
    let signal = if access == Access::Read { Signal::TTIN } else { Signal::TTOU };
    let thread = current();
    let has_no_effect =
        thread.signals.mask().contains(signal) || thread.process.signals.with(|actions| actions.ignores(signal));
    match access {
        Access::Read if has_no_effect => return Err(Errno::EIO),
        _ if has_no_effect => return Ok(()),
        _ => {}
    }
    if tasks().family.is_orphaned(caller.group) {
        return Err(Errno::EIO);
    }
    send_to_group(caller.group, Info::from_kernel(signal))?;
    Err(Errno::ERESTARTSYS)
}

/// ENOTTY unless the terminal controls the caller's session.
fn require_control(tty: &Tty) -> Result<Caller, Errno> {
    let caller = Caller::find()?;
    if tty.controlled.controls(caller.session) { Ok(caller) } else { Err(Errno::ENOTTY) }
}

/// tcgetsid(3).
pub(super) fn session(tty: &Tty) -> Result<u32, Errno> {
    require_control(tty).map(|caller| caller.session)
}

/// tcgetpgrp(3).
pub(super) fn foreground_group(tty: &Tty) -> Result<u32, Errno> {
    require_control(tty)?;
    Ok(tty.controlled.foreground.load(Relaxed))
}

/// tcsetpgrp(3): to a group of the caller's session.
pub(super) fn set_foreground_group(tty: &Tty, group: i32) -> Result<(), Errno> {
    let session = require_control(tty)?.session;
    check(tty, Access::Change)?;
    let group = u32::try_from(group).map_err(|_| Errno::EINVAL)?;
    let tasks = tasks();
    let mut members = tasks.family.iter().filter(|(_, member)| member.group == group).peekable();
    members.peek().ok_or(Errno::ESRCH)?;
    if !members.any(|(_, member)| member.session == session) {
        return Err(Errno::EPERM);
    }
    tty.controlled.foreground.store(group, Relaxed);
    Ok(())
}
