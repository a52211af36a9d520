//! Who the caller is: ids of process and thread, users and groups, process groups and sessions.

use crate::errno::Errno;
use crate::memory::user_access::{self, UserAddress};
use crate::task::Thread;
use crate::task::credentials::{Credentials, GROUPS_MAX, Ids, UNCHANGED};
use crate::task::{fork, process};
use alloc::sync::Arc;
use core::sync::atomic::Ordering::Relaxed;

pub fn getpid(thread: &Thread) -> u32 {
    thread.process.pid
}

pub fn gettid(thread: &Thread) -> u32 {
    thread.tid()
}

pub fn getppid(thread: &Thread) -> u32 {
    process::tasks().family.get(thread.process.pid).map_or(0, |member| member.parent)
}

pub fn getuid(thread: &Thread) -> u32 {
    thread.process.credentials().user.real
}

pub fn geteuid(thread: &Thread) -> u32 {
    thread.process.credentials().user.effective
}

pub fn getgid(thread: &Thread) -> u32 {
    thread.process.credentials().group.real
}

pub fn getegid(thread: &Thread) -> u32 {
    thread.process.credentials().group.effective
}

pub fn getresuid(thread: &Thread, real: UserAddress, effective: UserAddress, saved: UserAddress) -> Result<(), Errno> {
    store_ids(&thread.process.credentials().user, real, effective, saved)
}

pub fn getresgid(thread: &Thread, real: UserAddress, effective: UserAddress, saved: UserAddress) -> Result<(), Errno> {
    store_ids(&thread.process.credentials().group, real, effective, saved)
}

fn store_ids(ids: &Ids, real: UserAddress, effective: UserAddress, saved: UserAddress) -> Result<(), Errno> {
    user_access::write_value(real, &ids.real)?;
    user_access::write_value(effective, &ids.effective)?;
    user_access::write_value(saved, &ids.saved)
}

pub fn setuid(thread: &Thread, id: u32) -> Result<(), Errno> {
    change(thread, |old| with_user(old, old.user.set(old.is_privileged(), id)?))
}

pub fn setgid(thread: &Thread, id: u32) -> Result<(), Errno> {
    change(thread, |old| with_group(old, old.group.set(old.is_privileged(), id)?))
}

pub fn setreuid(thread: &Thread, real: u32, effective: u32) -> Result<(), Errno> {
    change(thread, |old| with_user(old, old.user.set_real_effective(old.is_privileged(), real, effective)?))
}

pub fn setregid(thread: &Thread, real: u32, effective: u32) -> Result<(), Errno> {
    change(thread, |old| with_group(old, old.group.set_real_effective(old.is_privileged(), real, effective)?))
}

pub fn setresuid(thread: &Thread, real: u32, effective: u32, saved: u32) -> Result<(), Errno> {
    change(thread, |old| with_user(old, old.user.set_all(old.is_privileged(), real, effective, saved)?))
}

pub fn setresgid(thread: &Thread, real: u32, effective: u32, saved: u32) -> Result<(), Errno> {
    change(thread, |old| with_group(old, old.group.set_all(old.is_privileged(), real, effective, saved)?))
}

/// The id for file access; returns the one before, whether it was changed or not.
pub fn setfsuid(thread: &Thread, id: u32) -> Result<u32, Errno> {
    let old = thread.process.credentials();
    if id != UNCHANGED {
        change(thread, |old| with_user(old, old.user.set_file_system(old.is_privileged(), id)))?;
    }
    Ok(old.user.file_system)
}

pub fn setfsgid(thread: &Thread, id: u32) -> Result<u32, Errno> {
    let old = thread.process.credentials();
    if id != UNCHANGED {
        change(thread, |old| with_group(old, old.group.set_file_system(old.is_privileged(), id)))?;
    }
    Ok(old.group.file_system)
}

pub fn getgroups(thread: &Thread, room: i32, list: UserAddress) -> Result<usize, Errno> {
    let credentials = thread.process.credentials();
    let groups = credentials.groups();
    let room = usize::try_from(room).map_err(|_| Errno::EINVAL)?;
    if room == 0 {
        return Ok(groups.len());
    }
    if groups.len() > room {
        return Err(Errno::EINVAL);
    }
    user_access::write_slice(list, groups)?;
    Ok(groups.len())
}

pub fn setgroups(thread: &Thread, count: i32, list: UserAddress) -> Result<(), Errno> {
    if !thread.process.credentials().is_privileged() {
        return Err(Errno::EPERM);
    }
    let count = usize::try_from(count).ok().filter(|count| *count <= GROUPS_MAX).ok_or(Errno::EINVAL)?;
    let groups = user_access::read_slice::<u32>(list, count)?;
    change(thread, |old| Credentials::new(old.user, old.group, &groups))
}

fn change(thread: &Thread, new: impl FnOnce(&Credentials) -> Result<Credentials, Errno>) -> Result<(), Errno> {
    let process = &thread.process;
    let old = process.credentials();
    let new = Arc::try_new(new(&old)?).map_err(|_| Errno::ENOMEM)?;
    let user = new.user.real;
    if user != old.user.real {
        process.is_one_too_many.store(fork::user_exceeds_limit(process, user), Relaxed);
    }
    if new.act_differently_from(&old) {
        // What it did and read as somebody else is none of its new user's business, nor may its parent's end kill it.
        process.is_dumpable.store(false, Relaxed);
        process.parent_death_signal.store(0, Relaxed);
    }
    process.set_credentials(new);
    Ok(())
}

fn with_user(old: &Credentials, user: Ids) -> Result<Credentials, Errno> {
    Credentials::new(user, old.group, old.groups())
}

fn with_group(old: &Credentials, group: Ids) -> Result<Credentials, Errno> {
    Credentials::new(old.user, group, old.groups())
}

pub fn getpgid(thread: &Thread, pid: i32) -> Result<u32, Errno> {
    place(thread, pid).map(|(group, _)| group)
}

pub fn getpgrp(thread: &Thread) -> Result<u32, Errno> {
    getpgid(thread, 0)
}

pub fn getsid(thread: &Thread, pid: i32) -> Result<u32, Errno> {
    place(thread, pid).map(|(_, session)| session)
}

/// Group and session of the process that a call with a pid argument means, be it by the number of one of its threads: 0 is
/// the caller.
fn place(thread: &Thread, pid: i32) -> Result<(u32, u32), Errno> {
    let pid = match pid {
        0 => thread.process.pid,
        _ => u32::try_from(pid).ok().and_then(process::find_process_of).ok_or(Errno::ESRCH)?.pid,
    };
    process::tasks().family.get(pid).map(|member| (member.group, member.session)).ok_or(Errno::ESRCH)
}

/// Moves the caller, or a child that hasn't called execve yet, into a group of the same session.
pub fn setpgid(thread: &Thread, pid: i32, group: i32) -> Result<(), Errno> {
    let own = thread.process.pid;
    let pid = if pid == 0 { own as i32 } else { pid };
    let group = u32::try_from(if group == 0 { pid } else { group }).map_err(|_| Errno::EINVAL)?;
    let pid = u32::try_from(pid).map_err(|_| Errno::ESRCH)?;
    let mut tasks = process::tasks();
    let session = tasks.family.get(own).map(|member| member.session).ok_or(Errno::ESRCH)?;
    let Some(member) = tasks.family.get(pid) else {
        return Err(if tasks.threads.get(pid).is_some() { Errno::EINVAL } else { Errno::ESRCH });
    };
    if pid != own {
        if member.parent != own {
            return Err(Errno::ESRCH);
        }
        if member.session != session {
            return Err(Errno::EPERM);
        }
        if member.has_executed {
            return Err(Errno::EACCES);
        }
    }
    if member.session == pid {
        return Err(Errno::EPERM);
    }
    if group != pid && tasks.family.session_of_group(group) != Some(session) {
        return Err(Errno::EPERM);
    }
    let left = tasks.family.set_place(pid, group, session);
    tasks.give_back(left);
    Ok(())
}

/// The caller becomes the leader of a new session, with a new group and no terminal.
pub fn setsid(thread: &Thread) -> Result<u32, Errno> {
    let pid = thread.process.pid;
    let mut tasks = process::tasks();
    if tasks.family.session_of_group(pid).is_some() {
        return Err(Errno::EPERM);
    }
    let left = tasks.family.set_place(pid, pid, pid);
    tasks.give_back(left);
    thread.process.controlling.forget();
    Ok(pid)
}
