//! Making processes and threads, ending them, and waiting for children.

use super::limits;
use crate::errno::Errno;
use crate::memory::user_access::{self, UserAddress};
use crate::task::family::{SIGCHLD, Status, Wanted, Whom};
use crate::task::fork::{self, CloneFlags, Request};
use crate::task::signal::{self, info::INFO_BYTES};
use crate::task::{Thread, exit, process, scheduler};
use core::sync::atomic::Ordering::Relaxed;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

const WNOHANG: u32 = 1;
/// wait4's name for it is WUNTRACED.
const WSTOPPED: u32 = 2;
const WEXITED: u32 = 4;
const WCONTINUED: u32 = 8;
const WNOWAIT: u32 = 0x0100_0000;
const WNOTHREAD: u32 = 0x2000_0000;
const WALL: u32 = 0x4000_0000;
const WCLONE: u32 = 0x8000_0000;

const P_ALL: u32 = 0;
const P_PID: u32 = 1;
const P_PGID: u32 = 2;

const ARCH_SET_GS: u32 = 0x1001;
const ARCH_SET_FS: u32 = 0x1002;
const ARCH_GET_FS: u32 = 0x1003;
const ARCH_GET_GS: u32 = 0x1004;

pub fn sched_yield(_: &Thread) {
    scheduler::yield_now();
}

pub fn fork(thread: &Thread) -> Result<u32, Errno> {
    fork::clone(thread, &Request { flags: CloneFlags::empty(), exit_signal: SIGCHLD, ..Request::default() })
}

pub fn vfork(thread: &Thread) -> Result<u32, Errno> {
    let flags = CloneFlags::VM | CloneFlags::VFORK;
    fork::clone(thread, &Request { flags, exit_signal: SIGCHLD, ..Request::default() })
}

/// Left out: namespaces (CLONE_NEW*), CLONE_PIDFD.
pub fn clone(
    thread: &Thread,
    flags: u64,
    stack: u64,
    parent_tid: UserAddress,
    child_tid: UserAddress,
    tls: u64,
) -> Result<u32, Errno> {
    let exit_signal = flags as u8;
    let flags = CloneFlags::from_bits(flags & !0xff).ok_or(Errno::EINVAL)?;
    fork::clone(thread, &Request { flags, exit_signal, stack, parent_tid, child_tid, tls })
}

pub fn exit(thread: &Thread, status: i32) {
    if thread.process.thread_count() == 1 {
        thread.process.begin_ending(Status::Exited(status as u8));
    }
    exit::end_thread()
}

pub fn exit_group(_: &Thread, status: i32) {
    exit::end_process(Status::Exited(status as u8))
}

pub fn wait4(thread: &Thread, pid: i32, status: UserAddress, options: u32, usage: UserAddress) -> Result<u32, Errno> {
    if options & !(WNOHANG | WSTOPPED | WCONTINUED | WNOTHREAD | WALL | WCLONE) != 0 {
        return Err(Errno::EINVAL);
    }
    let whom = match pid {
        i32::MIN => return Err(Errno::ESRCH),
        -0x7fff_ffff..-1 => Whom::Group(pid.unsigned_abs()),
        -1 => Whom::Any,
        0 => Whom::Group(process::tasks().family.get(thread.process.pid).map_or(0, |member| member.group)),
        1.. => Whom::Process(pid.unsigned_abs()),
    };
    let wanted = wanted(thread, whom, options | WEXITED);
    let Some((child, news)) = exit::wait(&wanted, options & WNOHANG != 0, true)? else { return Ok(0) };
    if !status.is_null() {
        user_access::write_value(status, &news.as_wait_status())?;
    }
    if !usage.is_null() {
        limits::write_usage_of_child(usage, &child)?;
    }
    Ok(child.pid)
}

/// Which news of whom wait4 and waitid ask for.
fn wanted(thread: &Thread, whom: Whom, options: u32) -> Wanted {
    Wanted {
        whom,
        of_thread: (options & WNOTHREAD != 0).then(|| thread.tid()),
        ended: options & WEXITED != 0,
        stopped: options & WSTOPPED != 0,
        continued: options & WCONTINUED != 0,
        with_sigchld: options & WCLONE == 0 || options & WALL != 0,
        without_sigchld: options & (WCLONE | WALL) != 0,
    }
}

pub fn set_tid_address(thread: &Thread, address: UserAddress) -> u32 {
    thread.clear_child_tid.store(address.as_u64(), Relaxed);
    thread.tid()
}

pub fn arch_prctl(thread: &Thread, code: u32, address: u64) -> Result<(), Errno> {
    match code {
        ARCH_SET_FS | ARCH_SET_GS if address >= user_access::USER_END => Err(Errno::EPERM),
        ARCH_SET_FS | ARCH_SET_GS => {
            let mut segments = thread.own_segments();
            if code == ARCH_SET_FS {
                segments.set_fs_base(address)
            } else {
                segments.set_gs_base(address)
            }
            thread.set_own_segments(segments);
            Ok(())
        }
        ARCH_GET_FS => user_access::write_value(UserAddress::new(address), &thread.own_segments().fs_base),
        ARCH_GET_GS => user_access::write_value(UserAddress::new(address), &thread.own_segments().gs_base),
        _ => Err(Errno::EINVAL),
    }
}

/// Left out: P_PIDFD.
pub fn waitid(
    thread: &Thread,
    kind: u32,
    id: i32,
    info: UserAddress,
    options: u32,
    usage: UserAddress,
) -> Result<(), Errno> {
    let known = WNOHANG | WSTOPPED | WEXITED | WCONTINUED | WNOWAIT | WNOTHREAD | WALL | WCLONE;
    if options & !known != 0 || options & (WEXITED | WSTOPPED | WCONTINUED) == 0 {
        return Err(Errno::EINVAL);
    }
    let named = || u32::try_from(id).ok().filter(|id| *id > 0).ok_or(Errno::EINVAL);
    let whom = match kind {
        P_ALL => Whom::Any,
        P_PID => Whom::Process(named()?),
        P_PGID if id == 0 => Whom::Group(super::identity::getpgid(thread, 0)?),
        P_PGID => Whom::Group(named()?),
        _ => return Err(Errno::EINVAL),
    };
    let news = exit::wait(&wanted(thread, whom, options), options & WNOHANG != 0, options & WNOWAIT == 0)?;
    if let Some((child, _)) = &news
        && !usage.is_null()
    {
        limits::write_usage_of_child(usage, child)?;
    }
    if info.is_null() {
        return Ok(());
    }
    let words = match news {
        Some((child, status)) => signal::about_news(&child, status).to_words(),
        None => [0; INFO_BYTES / 4],
    };
    user_access::write_value(info, &words)
}

/// `struct clone_args`, as long as the first version of it; later fields must be zero.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct CloneArguments {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
}

/// Left out: namespaces (CLONE_NEW*), CLONE_PIDFD, CLONE_INTO_CGROUP, chosen ids.
pub fn clone3(thread: &Thread, arguments: UserAddress, size: usize) -> Result<u32, Errno> {
    const FIRST_SIZE: usize = size_of::<CloneArguments>();
    const PAGE: usize = crate::PAGE_SIZE;
    if size < FIRST_SIZE {
        return Err(Errno::EINVAL);
    }
    if size > PAGE {
        return Err(Errno::E2BIG);
    }
    let given: CloneArguments = user_access::read_value(arguments)?;
    let later = user_access::read_slice::<u8>(arguments.offset(FIRST_SIZE as u64), size - FIRST_SIZE)?;
    if later.iter().any(|byte| *byte != 0) {
        return Err(Errno::E2BIG);
    }
    // A stack must have both its ends, or neither.
    if (given.stack == 0) != (given.stack_size == 0) {
        return Err(Errno::EINVAL);
    }
    let stack = given.stack.checked_add(given.stack_size).ok_or(Errno::EINVAL)?;
    let exit_signal = u8::try_from(given.exit_signal).ok().filter(|signal| *signal <= 64).ok_or(Errno::EINVAL)?;
    let flags = CloneFlags::from_bits(given.flags).ok_or(Errno::EINVAL)?;
    if flags.intersects(CloneFlags::THREAD | CloneFlags::PARENT) && exit_signal != 0 {
        return Err(Errno::EINVAL);
    }
    let request = Request {
        flags,
        exit_signal,
        stack,
        parent_tid: UserAddress::new(given.parent_tid),
        child_tid: UserAddress::new(given.child_tid),
        tls: given.tls,
    };
    fork::clone(thread, &request)
}
