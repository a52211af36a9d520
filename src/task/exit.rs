//! How threads and processes end, and how a parent learns of it.
//!
//! A thread ends on its own kernel stack; a process when its last thread does. Then its memory, files and everything else
//! are given back at once; only its id and status stay until the parent has asked (a zombie).

use super::family::{Member, NOBODY, SIGCHLD, Status, Wanted};
use super::process::{self, INIT_PID, Process, Tasks, tasks};
use super::scheduler::{self, State};
use super::signal::{Info, Origin, Signal, SignalSet, code};
use super::thread::{Thread, Work};
use super::wait_queue::Limits;
use super::yield_point::yield_point;
use super::{alarm, current, signal};
use crate::drivers::terminal;
use crate::errno::Errno;
use crate::memory::user_access::{self, UserAddress};
use alloc::sync::Arc;
use core::sync::atomic::Ordering::Relaxed;

/// exit_group: all threads of the current process end, and it with this status. The first to call this decides.
pub fn end_process(status: Status) -> ! {
    let thread = current();
    let process = thread.process.clone();
    process.begin_ending(status);
    end_other_threads(&process, &thread);
    drop(process);
    end_thread()
}

/// Tells every thread of the process but `except` to end as soon as it would return to user mode.
pub fn end_other_threads(process: &Process, except: &Thread) {
    for thread in process.threads().iter().filter(|thread| thread.tid() != except.tid()) {
        thread.add_work(Work::END);
        scheduler::wake(thread, |state| state == State::Waiting as u8 || state == State::Stopped as u8);
    }
}

/// The current thread ends. If it is the last one, so does its process, with the status that was set or with that of `exit`.
pub fn end_thread() -> ! {
    let thread = current();
    let process = thread.process.clone();
    tell_joiners(&thread);
    process.usage.threads.add(thread.usage());
    // Before it leaves the list: a thread in execve that is left alone takes over the process's id at once.
    forget_thread(&thread, thread.tid() != process.pid);
    if process.remove_thread(&thread) == 0 {
        end_last_thread(&process);
    } else {
        signal::hand_on(&thread, SignalSet::from_bits(u64::MAX));
        process.threads_changed.wake_all();
    }
    drop(process);
    leave_for_good()
}

/// The end of a kernel thread, which has no process of its own.
pub fn end_kernel_thread() -> ! {
    let thread = current();
    forget_thread(&thread, true);
    leave_for_good()
}

/// From here on the thread isn't found by its id any more. The id of a process's first thread is the process's, and stays
/// taken until its status has been asked for.
fn forget_thread(thread: &Thread, id_is_free: bool) {
    let is_other = |other: &&Arc<Thread>| !core::ptr::eq(Arc::as_ptr(other), thread);
    let is_parent = thread.has_made_children.load(Relaxed);
    if is_parent && thread.process.thread_count() > 1 {
        send_death_signals(thread);
    }
    let heir = thread.process.threads().iter().find(is_other).filter(|_| is_parent).cloned();
    let removed = {
        let mut tasks = tasks();
        if let Some(heir) = heir {
            heir.has_made_children.store(true, Relaxed);
            tasks.family.change_maker(thread.process.pid, thread.tid(), heir.tid());
        }
        if id_is_free { tasks.threads.release(thread.tid()) } else { tasks.threads.clear(thread.tid()) }
    };
    drop(removed);
}

fn leave_for_good() -> ! {
    {
        let _interrupts = crate::lock::InterruptsOff::new();
        let thread = current();
        thread.schedule.state.store(State::Ended as u8, Relaxed);
        thread.ended.wake_all();
        scheduler::schedule();
    }
    // Nobody gives the CPU to a thread that ended.
    crate::drivers::power::halt("a thread that ended got the CPU")
}

/// What a program asked for with set_tid_address (pthread_join waits for it), and what robust futexes promise.
pub fn tell_joiners(thread: &Thread) {
    super::futex::release_robust_list(thread);
    let address = thread.clear_child_tid.swap(0, Relaxed);
    if address != 0
        && shares_memory(&thread.process)
        && user_access::write_value(UserAddress::new(address), &0u32).is_ok()
    {
        super::futex::wake_joiners(UserAddress::new(address));
    }
}

/// Whether anybody else could see a change of the memory.
fn shares_memory(process: &Process) -> bool {
    // Two references are the process's own and the one just made.
    process.thread_count() > 1 || process.address_space().is_some_and(|space| Arc::strong_count(&space) > 2)
}

fn end_last_thread(process: &Arc<Process>) {
    let status = process.ending_status();
    alarm::forget(process);
    give_back_memory(process);
    process.replace_program(None);
    if let Some(files) = process.replace_files(None) {
        files.lock().release_locks(process.pid);
    }
    drop(process.replace_fs_context(None));
    if process.pid == INIT_PID {
        super::init::ended(status);
    }
    terminal::leader_ends(process);
    signal::forget_stop(process);
    hand_over_children(process.pid);
    let (linked_group, parent) = {
        let mut tasks = tasks();
        let linked_group = tasks.family.group_linked_by(process.pid);
        tasks.family.end(process.pid, status);
        let parent = tasks.family.get(process.pid).and_then(|member| {
            let parent = tasks.family.get(member.parent)?.value.clone();
            Some((parent, member.exit_signal))
        });
        (linked_group, parent)
    };
    if let Some(group) = linked_group {
        wake_stopped_orphans(group);
    }
    let Some((parent, exit_signal)) = parent else { return };
    tell_of_end(&parent, process, exit_signal, status);
}

/// A child's end, for the parent that it has now.
fn tell_of_end(parent: &Process, child: &Process, exit_signal: u8, status: Status) {
    let reap_at_once = signal::tell_parent_of_end(parent, child, exit_signal, status);
    if reap_at_once {
        // What it used is booked to nobody, as on Linux.
        drop(reap(child.pid));
    }
    parent.children_changed.wake_all();
}

/// What became of a child whose parent ends.
struct HandedOver {
    child: Arc<Process>,
    heir: Option<Arc<Process>>,
    ended: Option<Status>,
    /// Its group, if it was the parent that would have continued it.
    linked_group: Option<u32>,
}

/// The children of a process that ends get another parent, and whoever is concerned hears of it. One after the other, since
/// signals are sent with no lock held; so this takes no memory, and can't fail. Between two of them others may run, and may
/// hand it more.
fn hand_over_children(pid: u32) {
    let mut heir_pid = NOBODY;
    while let Some(HandedOver { child, heir, ended, linked_group }) = hand_over_child(pid, &mut heir_pid) {
        send_death_signal(&child);
        // Who inherits a child that nobody has asked for yet is told of its end as of one of its own children's.
        if let (Some(heir), Some(status)) = (heir, ended) {
            tell_of_end(&heir, &child, SIGCHLD, status);
        }
        linked_group.into_iter().for_each(wake_stopped_orphans);
        yield_point();
    }
}

/// Hands the oldest child over. The heir is looked for the first time, and when it has ended since.
fn hand_over_child(pid: u32, heir_pid: &mut u32) -> Option<HandedOver> {
    let mut tasks = tasks();
    let child = tasks.family.children(pid).next()?;
    if tasks.family.has_ended(*heir_pid) {
        *heir_pid = heir_of(&tasks, pid);
    }
    let heir = tasks.family.get(*heir_pid).map(|member| member.value.clone());
    let first_left = || heir.as_ref()?.threads().first().cloned();
    // The heir's main thread, or, where that has ended, another takes the maker's place.
    let keeper = tasks.threads.get(*heir_pid).cloned().or_else(first_left);
    if let Some(keeper) = &keeper {
        keeper.has_made_children.store(true, Relaxed);
    }
    let linked_group = tasks.family.group_linked_by(child);
    tasks.family.hand_over(child, *heir_pid, keeper.map_or(NOBODY, |keeper| keeper.tid()));
    let member = tasks.family.get(child)?;
    Some(HandedOver { child: member.value.clone(), heir, ended: member.ended(), linked_group })
}

/// What a child has asked to get when its parent ends (PR_SET_PDEATHSIG).
fn send_death_signal(child: &Arc<Process>) {
    if let Some(signal) = Signal::new(child.parent_death_signal.load(Relaxed)) {
        // As if the process that ends, or whose thread does, had sent it with kill: that is never refused.
        let sender = &current().process;
        let origin = Origin::Process { pid: sender.pid, uid: sender.credentials().user.real };
        let _ = signal::send_to_process(child, Info { signal, code: code::USER, origin });
    }
}

/// The same for those that one thread has made: it counts as their parent here, as on Linux, though its process goes on.
fn send_death_signals(maker: &Thread) {
    let (pid, tid) = (maker.process.pid, maker.tid());
    let asks = |child: &Member<Arc<Process>>| {
        child.parent == pid && child.made_by == tid && child.value.parent_death_signal.load(Relaxed) != 0
    };
    let any_asks = {
        let tasks = tasks();
        tasks.family.children(pid).filter_map(|child| tasks.family.get(child)).any(asks)
    };
    if any_asks {
        process::for_each_of(
            |_, child| asks(child),
            |child| {
                send_death_signal(child);
                yield_point();
            },
        );
    }
}

/// Who gets the children of a process that ends: the nearest ancestor that has asked for that (PR_SET_CHILD_SUBREAPER),
/// else init.
fn heir_of(tasks: &Tasks, pid: u32) -> u32 {
    let mut ancestor = tasks.family.get(pid).map_or(0, |member| member.parent);
    while let Some(member) = tasks.family.get(ancestor) {
        if member.value.is_subreaper.load(Relaxed) && member.ended().is_none() {
            return ancestor;
        }
        ancestor = member.parent;
    }
    INIT_PID
}

/// Members of a group that may just have been orphaned would stay stopped for ever (POSIX, _exit): they get SIGHUP and go on.
fn wake_stopped_orphans(group: u32) {
    let any_is_stopped = signal::any_stopped() && {
        let tasks = tasks();
        let mut members = tasks.family.iter().filter(|(_, member)| member.group == group);
        tasks.family.is_orphaned(group) && members.any(|(_, member)| member.value.signals.is_stopped())
    };
    if any_is_stopped {
        for signal in [Signal::HUP, Signal::CONT] {
            // A group that has ended meanwhile needs no signal.
            let _ = signal::send_to_group(group, Info::from_kernel(signal));
        }
    }
}

/// Also what ends a vfork: the parent may go on with its memory.
pub fn give_back_memory(process: &Process) {
    super::current().set_page_table_frame(crate::memory::kernel_page_table());
    // Dropping an address space that CR3 still holds puts the kernel's own in its place first.
    drop(process.replace_address_space(None));
    process.return_borrowed_address_space();
}

/// wait4 and waitid: the first child with wanted news. `consume` says whether a zombie is removed (not with WNOWAIT). None:
/// with WNOHANG, when there is no news.
pub fn wait(wanted: &Wanted, no_hang: bool, consume: bool) -> Result<Option<(Arc<Process>, Status)>, Errno> {
    let process = current().process.clone();
    let look = || match tasks().family.find_news(process.pid, wanted) {
        Ok(None) => None,
        Ok(Some((pid, status))) => Some(Ok((pid, status))),
        Err(errno) => Some(Err(errno)),
    };
    let (pid, status) = match look() {
        Some(news) => news?,
        None if no_hang => return Ok(None),
        None => process.children_changed.wait_until(Limits::INTERRUPTIBLE, look).map_err(|_| Errno::ERESTARTSYS)??,
    };
    let child = super::process::find_process(pid).ok_or(Errno::ECHILD)?;
    if consume {
        match status {
            Status::Exited(_) | Status::Killed { .. } => {
                if let Some(child) = reap(pid) {
                    process.usage.children.add(child.usage.threads.get().plus(child.usage.children.get()));
                }
            }
            Status::Stopped { .. } | Status::Continued => tasks().family.take_report(pid),
        }
    }
    Ok(Some((child, status)))
}

/// Forgets a process whose end has been told. None where somebody else has done so.
fn reap(pid: u32) -> Option<Arc<Process>> {
    let mut tasks = tasks();
    tasks.forget_process(pid)
}
