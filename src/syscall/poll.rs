//! Waiting for one of several files: poll, ppoll, select, pselect6.

use super::argument::Fd;
use super::paths::file;
use crate::errno::Errno;
use crate::fs::File;
use crate::fs::waiting::{Events, PollTable};
use crate::interrupts::clock;
use crate::interrupts::time_scale::NS_PER_SECOND;
use crate::memory::user_access::{self, UserAddress};
use crate::task::Thread;
use crate::task::limits::Resource;
use crate::task::signal::SignalSet;
use crate::task::thread::Restart;
use crate::task::wait_queue::{self, Limits};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::Cell;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `struct pollfd`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct PollFd {
    descriptor: i32,
    wanted: u16,
    ready: u16,
}

/// One of the files that are waited for.
struct Waited {
    file: Option<Arc<File>>,
    wanted: Events,
    ready: Cell<Events>,
}

/// What is told without being asked for.
const ALWAYS: Events = Events::ERROR.union(Events::HANG_UP).union(Events::INVALID);

/// Which events put a descriptor into each of select's three sets.
const SELECTED: [Events; 3] = [
    Events::READABLE.union(Events::HANG_UP).union(Events::ERROR),
    Events::WRITABLE.union(Events::ERROR),
    Events::PRIORITY,
];

const NS_PER_MS: u64 = 1_000_000;
const WORD_BITS: usize = u64::BITS as usize;

pub fn poll(thread: &Thread, descriptors: UserAddress, count: u32, timeout_ms: i32) -> Result<usize, Errno> {
    let deadline = u64::try_from(timeout_ms).ok().map(|ms| deadline_in(ms * NS_PER_MS));
    poll_restartably(thread, descriptors, count, deadline)
}

/// Also what goes on after a stop, until the same moment.
pub fn poll_restartably(
    thread: &Thread,
    descriptors: UserAddress,
    count: u32,
    deadline_ns: Option<u64>,
) -> Result<usize, Errno> {
    let result = poll_until(thread, descriptors, count, deadline_ns);
    if result == Err(Errno::ERESTARTNOHAND) {
        thread.set_restart(Restart::Poll { descriptors, count, deadline_ns });
        return Err(Errno::ERESTARTBLOCK);
    }
    result
}

pub fn ppoll(
    thread: &Thread,
    descriptors: UserAddress,
    count: u32,
    timeout: UserAddress,
    mask: UserAddress,
    mask_bytes: u64,
) -> Result<usize, Errno> {
    let deadline = read_timeout(timeout, 1)?;
    set_mask(thread, mask, mask_bytes)?;
    let result = poll_until(thread, descriptors, count, deadline);
    write_time_left(timeout, deadline, 1);
    result
}

fn poll_until(thread: &Thread, descriptors: UserAddress, count: u32, deadline_ns: Option<u64>) -> Result<usize, Errno> {
    if u64::from(count) > thread.process.limits.lock().get(Resource::OpenFiles).soft {
        return Err(Errno::EINVAL);
    }
    let mut entries: Vec<PollFd> = user_access::read_slice(descriptors, count as usize)?;
    let mut waited = Vec::new();
    waited.try_reserve_exact(entries.len()).map_err(|_| Errno::ENOMEM)?;
    for entry in &entries {
        let wanted = Events::from_bits_truncate(entry.wanted);
        let file = if entry.descriptor < 0 { None } else { file(thread, Fd(entry.descriptor)).ok() };
        let ready = if entry.descriptor >= 0 && file.is_none() { Events::INVALID } else { Events::empty() };
        waited.push(Waited { file, wanted, ready: Cell::new(ready) });
    }
    let ready = wait(&waited, deadline_ns)?;
    for (entry, waited) in entries.iter_mut().zip(&waited) {
        entry.ready = waited.ready.get().bits();
    }
    user_access::write_slice(descriptors, &entries)?;
    Ok(ready)
}

pub fn select(
    thread: &Thread,
    count: i32,
    readable: UserAddress,
    writable: UserAddress,
    exceptional: UserAddress,
    timeout: UserAddress,
) -> Result<usize, Errno> {
    let deadline = read_timeout(timeout, 1000)?;
    let result = select_until(thread, count, [readable, writable, exceptional], deadline);
    write_time_left(timeout, deadline, 1000);
    result
}

/// The mask and its size come in a structure of their own: there are only six registers.
pub fn pselect6(
    thread: &Thread,
    count: i32,
    readable: UserAddress,
    writable: UserAddress,
    exceptional: UserAddress,
    timeout: UserAddress,
    mask: UserAddress,
) -> Result<usize, Errno> {
    let deadline = read_timeout(timeout, 1)?;
    if !mask.is_null() {
        let [address, bytes]: [u64; 2] = user_access::read_value(mask)?;
        set_mask(thread, UserAddress::new(address), bytes)?;
    }
    let result = select_until(thread, count, [readable, writable, exceptional], deadline);
    write_time_left(timeout, deadline, 1);
    result
}

fn select_until(
    thread: &Thread,
    count: i32,
    addresses: [UserAddress; 3],
    deadline_ns: Option<u64>,
) -> Result<usize, Errno> {
    let count = usize::try_from(count).map_err(|_| Errno::EINVAL)?;
    let capacity = thread.process.with_files(|files| Ok(files.capacity()))?;
    let count = count.min(capacity.next_multiple_of(WORD_BITS));
    let words = count.div_ceil(WORD_BITS);
    let mut sets: [Vec<u64>; 3] = Default::default();
    for (set, address) in sets.iter_mut().zip(addresses) {
        if !address.is_null() {
            *set = user_access::read_slice(address, words)?;
        }
    }
    let (mut waited, mut numbers) = (Vec::new(), Vec::new());
    for number in 0..count {
        let chosen = sets.iter().zip(SELECTED).filter(|(set, _)| has(set, number));
        let wanted = chosen.fold(Events::empty(), |wanted, (_, events)| wanted | events);
        if wanted.is_empty() {
            continue;
        }
        let file = file(thread, Fd(number as i32))?;
        waited.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        numbers.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        waited.push(Waited { file: Some(file), wanted, ready: Cell::new(Events::empty()) });
        numbers.push(number);
    }
    wait(&waited, deadline_ns)?;
    let mut total = 0;
    for ((set, address), events) in sets.iter_mut().zip(addresses).zip(SELECTED) {
        // Whole words are answered: what a set has past `count` in its last word is not ready.
        let asked = core::mem::take(set);
        set.try_reserve_exact(asked.len()).map_err(|_| Errno::ENOMEM)?;
        set.resize(asked.len(), 0);
        for (number, waited) in numbers.iter().zip(&waited) {
            let Some(word) = set.get_mut(number / WORD_BITS) else { continue };
            if has(&asked, *number) && waited.ready.get().intersects(events) {
                *word |= 1 << (number % WORD_BITS);
                total += 1;
            }
        }
        if !address.is_null() {
            user_access::write_slice(address, set)?;
        }
    }
    Ok(total)
}

/// Waits until a file is ready, the time has come or a signal has; tells how many are ready.
fn wait(waited: &[Waited], deadline_ns: Option<u64>) -> Result<usize, Errno> {
    let ready = look(waited);
    if ready > 0 || deadline_ns.is_some_and(|deadline| deadline <= clock::now_ns()) {
        return Ok(ready);
    }
    let limits = Limits::until(deadline_ns);
    loop {
        // In this order, so that no wake-up is lost: first known to the queues, then asleep, then a last look.
        let mut table = PollTable::default();
        for Waited { file, .. } in waited {
            if let Some(file) = file {
                file.poll(Some(&mut table));
            }
        }
        table.check()?;
        wait_queue::prepare_to_wait(limits);
        let ready = look(waited);
        if ready > 0 {
            return Ok(ready);
        }
        match wait_queue::wait_prepared(limits) {
            Ok(()) => {}
            Err(Errno::ETIMEDOUT) => return Ok(look(waited)),
            Err(Errno::EINTR) => return Err(Errno::ERESTARTNOHAND),
            Err(error) => return Err(error),
        }
    }
}

fn look(waited: &[Waited]) -> usize {
    for waited in waited {
        if let Some(file) = &waited.file {
            waited.ready.set(file.poll(None) & (waited.wanted | ALWAYS));
        }
    }
    waited.iter().filter(|waited| !waited.ready.get().is_empty()).count()
}

fn has(set: &[u64], number: usize) -> bool {
    set.get(number / WORD_BITS).is_some_and(|word| word >> (number % WORD_BITS) & 1 == 1)
}

fn deadline_in(ns: u64) -> u64 {
    clock::now_ns().saturating_add(ns)
}

/// Seconds and a fraction, in units of `fraction_ns`; none at all means no limit.
fn read_timeout(address: UserAddress, fraction_ns: u64) -> Result<Option<u64>, Errno> {
    if address.is_null() {
        return Ok(None);
    }
    let [seconds, fraction]: [i64; 2] = user_access::read_value(address)?;
    let (Ok(seconds), Ok(fraction)) = (u64::try_from(seconds), u64::try_from(fraction)) else {
        return Err(Errno::EINVAL);
    };
    // select takes more than a second's microseconds, pselect and ppoll no more than a second's nanoseconds.
    if fraction_ns == 1 && fraction >= NS_PER_SECOND {
        return Err(Errno::EINVAL);
    }
    let ns = seconds.saturating_mul(NS_PER_SECOND).saturating_add(fraction.saturating_mul(fraction_ns));
    Ok(Some(deadline_in(ns)))
}

/// Linux tells how much time was left. That it can't be written is no error.
fn write_time_left(address: UserAddress, deadline_ns: Option<u64>, fraction_ns: u64) {
    if let Some(deadline) = deadline_ns {
        let left = deadline.saturating_sub(clock::now_ns());
        let time = [left / NS_PER_SECOND, left % NS_PER_SECOND / fraction_ns];
        let _ = user_access::write_value(address, &time);
    }
}

fn set_mask(thread: &Thread, mask: UserAddress, bytes: u64) -> Result<(), Errno> {
    if mask.is_null() {
        return Ok(());
    }
    if bytes != size_of::<u64>() as u64 {
        return Err(Errno::EINVAL);
    }
    thread.set_signal_mask_for_call(SignalSet::from_bits(user_access::read_value(mask)?));
    Ok(())
}
