//! The machine and the kernel as a whole: names, counts, random numbers, power.

use crate::PAGE_SIZE;
use crate::drivers::{power, terminal};
use crate::errno::Errno;
use crate::fs::root;
use crate::interrupts::clock;
use crate::interrupts::time_scale::NS_PER_SECOND;
use crate::lock::{Lock, Rank};
use crate::memory::frames;
use crate::memory::user_access::{self, UserAddress};
use crate::random;
use crate::task::process;
use crate::task::yield_point::yield_point;
use crate::task::{Thread, cpu_time, init};
use core::sync::atomic::Ordering::Relaxed;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The release that programs see. They compare it with the oldest kernel they can run on.
pub const RELEASE: &str = concat!("6.1.0-keel-", env!("CARGO_PKG_VERSION"));
pub const SYSTEM: &str = "Linux";
pub const VERSION: &str = "#1 Keel";
const MACHINE: &str = "x86_64";

const NAME_FIELD_BYTES: usize = 65;
const HOST_NAME_MAX: usize = 64;

/// `struct new_utsname`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct SystemNames([[u8; NAME_FIELD_BYTES]; 6]);

/// sysinfo(2)'s structure.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct SystemInformation {
    uptime_seconds: i64,
    loads: [u64; 3],
    total_memory: u64,
    free_memory: u64,
    shared_memory: u64,
    buffer_memory: u64,
    total_swap: u64,
    free_swap: u64,
    processes: u16,
    unused: u16,
    unused_2: u32,
    total_high: u64,
    free_high: u64,
    unit_bytes: u32,
    end: u32,
}

const _: () = assert!(size_of::<SystemInformation>() == 112);

/// Host and domain name, as set by whoever may.
static NAMES: Lock<[Name; 2]> = Lock::new(Rank::Process, [Name::new("keel"), Name::new("(none)")]);

#[derive(Clone, Copy)]
struct Name {
    bytes: [u8; HOST_NAME_MAX],
    length: usize,
}

impl Name {
    const fn new(text: &str) -> Self {
        let mut bytes = [0; HOST_NAME_MAX];
        let (start, _) = bytes.split_at_mut(text.len());
        start.copy_from_slice(text.as_bytes());
        Self { bytes, length: text.len() }
    }
}

/// For /proc/sys/kernel/hostname.
pub fn host_name() -> arrayvec::ArrayVec<u8, HOST_NAME_MAX> {
    let [name, _] = *NAMES.lock();
    name.bytes.iter().copied().take(name.length).collect()
}

/// For the same, when it is written.
pub fn set_host_name(text: &[u8]) -> Result<(), Errno> {
    let mut name = Name { bytes: [0; HOST_NAME_MAX], length: text.len() };
    name.bytes.get_mut(..text.len()).ok_or(Errno::EINVAL)?.copy_from_slice(text);
    let [host, _] = &mut *NAMES.lock();
    *host = name;
    Ok(())
}

pub fn uname(_: &Thread, result: UserAddress) -> Result<(), Errno> {
    let [host, domain] = *NAMES.lock();
    let text = |text: &str| field(text.as_bytes());
    let name = |name: &Name| field(name.bytes.get(..name.length).unwrap_or_default());
    let fields = [text(SYSTEM), name(&host), text(RELEASE), text(VERSION), text(MACHINE), name(&domain)];
    user_access::write_value(result, &SystemNames(fields))
}

fn field(text: &[u8]) -> [u8; NAME_FIELD_BYTES] {
    let mut field = [0; NAME_FIELD_BYTES];
    field.iter_mut().zip(text).for_each(|(to, from)| *to = *from);
    field
}

pub fn sethostname(thread: &Thread, name: UserAddress, length: i32) -> Result<(), Errno> {
    set_name(thread, 0, name, length)
}

pub fn setdomainname(thread: &Thread, name: UserAddress, length: i32) -> Result<(), Errno> {
    set_name(thread, 1, name, length)
}

fn set_name(thread: &Thread, which: usize, from: UserAddress, length: i32) -> Result<(), Errno> {
    if !thread.process.credentials().is_privileged() {
        return Err(Errno::EPERM);
    }
    let length = usize::try_from(length).ok().filter(|length| *length <= HOST_NAME_MAX).ok_or(Errno::EINVAL)?;
    let mut name = Name { bytes: [0; HOST_NAME_MAX], length };
    user_access::copy_in(name.bytes.get_mut(..length).ok_or(Errno::EINVAL)?, from)?;
    if let Some(place) = NAMES.lock().get_mut(which) {
        *place = name;
    }
    Ok(())
}

pub fn sysinfo(_: &Thread, result: UserAddress) -> Result<(), Errno> {
    let counts = frames::counts();
    let bytes = |count: usize| count as u64 * PAGE_SIZE as u64;
    let information = SystemInformation {
        uptime_seconds: (clock::now_ns() / NS_PER_SECOND) as i64,
        loads: cpu_time::load_averages_scaled(),
        total_memory: bytes(counts.total),
        free_memory: bytes(counts.free),
        shared_memory: bytes(root::pages_in_files() as usize),
        buffer_memory: 0,
        total_swap: 0,
        free_swap: 0,
        processes: u16::try_from(process::tasks().threads.len()).unwrap_or(u16::MAX),
        unused: 0,
        unused_2: 0,
        total_high: 0,
        free_high: 0,
        unit_bytes: 1,
        end: 0,
    };
    user_access::write_value(result, &information)
}

pub fn getrandom(_: &Thread, buffer: UserAddress, length: usize, flags: u32) -> Result<usize, Errno> {
    const KNOWN: u32 = 1 | 2 | 4;
    const RANDOM_AND_INSECURE: u32 = 2 | 4;
    if flags & !KNOWN != 0 || flags & RANDOM_AND_INSECURE == RANDOM_AND_INSECURE {
        return Err(Errno::EINVAL);
    }
    let mut done: usize = 0;
    let mut block = [0; 256];
    while done < length {
        let count = block.len().min(length.saturating_sub(done));
        let part = block.get_mut(..count).unwrap_or_default();
        random::fill(part);
        match user_access::copy_out_partial(buffer.offset(done as u64), part) {
            Ok(copied) if copied == count => {
                done = done.saturating_add(count);
                if yield_point() {
                    break;
                }
            }
            Ok(copied) if done.saturating_add(copied) > 0 => return Ok(done.saturating_add(copied)),
            Err(_) if done > 0 => return Ok(done),
            _ => return Err(Errno::EFAULT),
        }
    }
    Ok(done)
}

const PR_SET_PDEATHSIG: u32 = 1;
const PR_GET_PDEATHSIG: u32 = 2;
const PR_GET_DUMPABLE: u32 = 3;
const PR_SET_DUMPABLE: u32 = 4;
const PR_GET_KEEPCAPS: u32 = 7;
const PR_SET_NAME: u32 = 15;
const PR_GET_NAME: u32 = 16;
const PR_CAPBSET_READ: u32 = 23;
const PR_SET_TIMERSLACK: u32 = 29;
const PR_GET_TIMERSLACK: u32 = 30;
const PR_SET_CHILD_SUBREAPER: u32 = 36;
const PR_GET_CHILD_SUBREAPER: u32 = 37;
const PR_SET_NO_NEW_PRIVS: u32 = 38;
const PR_GET_NO_NEW_PRIVS: u32 = 39;
const DEFAULT_TIMER_SLACK_NS: u32 = 50_000;
const LAST_CAPABILITY: u64 = 40;

/// Left out: options but those of name, dumpability, subreaper, parent's death, new privileges and timer slack.
pub fn prctl(thread: &Thread, option: u32, first: u64, second: u64, third: u64, fourth: u64) -> Result<u32, Errno> {
    match option {
        PR_SET_NAME => {
            let mut name = [0; crate::task::thread::NAME_BYTES];
            user_access::read_string_into(&mut name, UserAddress::new(first))?;
            let length = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
            thread.set_name(name.get(..length).unwrap_or_default());
            Ok(0)
        }
        PR_GET_NAME => user_access::write_value(UserAddress::new(first), &thread.name()).map(|()| 0),
        PR_GET_DUMPABLE => Ok(u32::from(thread.process.is_dumpable.load(Relaxed))),
        PR_SET_DUMPABLE if first <= 1 => {
            thread.process.is_dumpable.store(first == 1, Relaxed);
            Ok(0)
        }
        PR_SET_CHILD_SUBREAPER => {
            thread.process.is_subreaper.store(first != 0, Relaxed);
            Ok(0)
        }
        PR_GET_CHILD_SUBREAPER => {
            let is_subreaper = u32::from(thread.process.is_subreaper.load(Relaxed));
            user_access::write_value(UserAddress::new(first), &is_subreaper).map(|()| 0)
        }
        PR_GET_KEEPCAPS | PR_SET_TIMERSLACK => Ok(0),
        PR_GET_TIMERSLACK => Ok(DEFAULT_TIMER_SLACK_NS),
        PR_CAPBSET_READ if first <= LAST_CAPABILITY => Ok(1),
        PR_SET_PDEATHSIG if first <= 64 => {
            thread.process.parent_death_signal.store(first as u32, Relaxed);
            Ok(0)
        }
        PR_GET_PDEATHSIG => {
            let signal = thread.process.parent_death_signal.load(Relaxed);
            user_access::write_value(UserAddress::new(first), &signal).map(|()| 0)
        }
        PR_SET_NO_NEW_PRIVS if first == 1 && (second, third, fourth) == (0, 0, 0) => {
            thread.process.no_new_privileges.store(true, Relaxed);
            Ok(0)
        }
        PR_GET_NO_NEW_PRIVS if (first, second, third, fourth) == (0, 0, 0, 0) => {
            Ok(u32::from(thread.process.no_new_privileges.load(Relaxed)))
        }
        _ => Err(Errno::EINVAL),
    }
}

/// All bits set only asks.
pub fn personality(thread: &Thread, persona: u32) -> u32 {
    let old = thread.process.personality.load(Relaxed) as u32;
    if persona != u32::MAX {
        thread.process.personality.store(persona.into(), Relaxed);
    }
    old
}

const REBOOT_MAGIC_1: u32 = 0xfee1_dead;
const REBOOT_MAGIC_2: [u32; 4] = [672_274_793, 85_072_278, 369_367_448, 537_993_216];
const REBOOT_RESTART: u32 = 0x0123_4567;
const REBOOT_HALT: u32 = 0xcdef_0123;
const REBOOT_POWER_OFF: u32 = 0x4321_fedc;
const REBOOT_CTRL_ALT_DEL_OFF: u32 = 0;
const REBOOT_CTRL_ALT_DEL_ON: u32 = 0x89ab_cdef;

pub fn reboot(thread: &Thread, magic: u32, magic_2: u32, command: u32) -> Result<(), Errno> {
    if !thread.process.credentials().is_privileged() {
        return Err(Errno::EPERM);
    }
    if magic != REBOOT_MAGIC_1 || !REBOOT_MAGIC_2.contains(&magic_2) {
        return Err(Errno::EINVAL);
    }
    match command {
        REBOOT_RESTART => power::reboot(),
        REBOOT_HALT | REBOOT_POWER_OFF => power::power_off(),
        REBOOT_CTRL_ALT_DEL_OFF | REBOOT_CTRL_ALT_DEL_ON => {
            init::set_restarts_at_once(command == REBOOT_CTRL_ALT_DEL_ON);
            Ok(())
        }
        _ => Err(Errno::EINVAL),
    }
}

/// Everybody who has the caller's terminal open finds the line gone.
pub fn vhangup(thread: &Thread) -> Result<(), Errno> {
    if !thread.process.credentials().is_privileged() {
        return Err(Errno::EPERM);
    }
    terminal::hang_up_own();
    Ok(())
}

/// The kernel log, as dmesg reads it (syslog(2)).
/// Left out: reading only what is new (SYSLOG_ACTION_READ), the console's level.
pub fn syslog(thread: &Thread, action: i32, buffer: UserAddress, length: i32) -> Result<usize, Errno> {
    const READ_ALL: i32 = 3;
    const READ_CLEAR: i32 = 4;
    const CLEAR: i32 = 5;
    const SIZE_UNREAD: i32 = 9;
    const SIZE_BUFFER: i32 = 10;
    match action {
        READ_CLEAR if !thread.process.credentials().is_privileged() => Err(Errno::EPERM),
        READ_ALL | READ_CLEAR if buffer.is_null() || length < 0 => Err(Errno::EINVAL),
        READ_ALL | READ_CLEAR => {
            let room = usize::try_from(length).map_err(|_| Errno::EINVAL)?;
            let count = read_log(buffer, room)?;
            if action == READ_CLEAR {
                crate::log::clear();
            }
            Ok(count)
        }
        0 | 1 | CLEAR..=8 if !thread.process.credentials().is_privileged() => Err(Errno::EPERM),
        CLEAR => {
            crate::log::clear();
            Ok(0)
        }
        0 | 1 | 6..=8 => Ok(0),
        SIZE_UNREAD => Ok(0),
        SIZE_BUFFER => Ok(crate::log::KEPT_BYTES),
        _ => Err(Errno::EINVAL),
    }
}

fn read_log(buffer: UserAddress, room: usize) -> Result<usize, Errno> {
    let mut text = alloc::vec::Vec::new();
    text.try_reserve_exact(crate::log::KEPT_BYTES).map_err(|_| Errno::ENOMEM)?;
    crate::log::kept_lines(|part| {
        let free = text.capacity().saturating_sub(text.len());
        text.extend(part.iter().copied().take(free));
    });
    let skipped = text.len().saturating_sub(room);
    let shown = text.get(skipped..).unwrap_or_default();
    user_access::copy_out(buffer, shown)?;
    Ok(shown.len())
}
