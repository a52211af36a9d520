//! Out of memory: who must end, so that the others can go on.
//!
//! A page fault that finds no frame asks for this by [`Work::OUT_OF_MEMORY`]; it is done on the way back to user mode or at
//! a yield point, where no lock is held: there processes can be looked at and killed, and the thread can wait for what comes
//! free before it touches the page again. As on Linux whoever holds the most is the one to go, by its resident pages and
//! its page tables; among equals the youngest. Init is spared.

use super::process::{INIT_PID, Process, tasks};
use super::signal::{self, Info, Signal};
use super::thread::{Thread, Work};
use super::{process, scheduler};
use crate::PAGE_SIZE;
use crate::interrupts::clock;
use crate::memory::frames;
use alloc::sync::Arc;
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// How long the last one that was killed may take to end before another one is.
const PATIENCE_NS: u64 = 1_000_000_000;
const NOBODY: u32 = 0;

/// The process that was killed last, and when.
static VICTIM: AtomicU32 = AtomicU32::new(NOBODY);
static KILLED_AT_NS: AtomicU64 = AtomicU64::new(0);

/// What a process takes of memory, in pages.
#[derive(Clone, Copy, Default)]
struct Size {
    mapped: u64,
    resident: u64,
    tables: u64,
}

/// For a thread that has found no memory: comes back when it is worth trying again, or when the thread is to end.
pub fn make_room(thread: &Thread) {
    thread.remove_work(Work::OUT_OF_MEMORY);
    if signal::ends(thread) || frames::has_any_for_user() {
        return;
    }
    let victim = VICTIM.load(Relaxed);
    let is_ending = victim != NOBODY && tasks().family.get(victim).is_some_and(|member| member.ended().is_none());
    if is_ending && clock::now_ns().saturating_sub(KILLED_AT_NS.load(Relaxed)) < PATIENCE_NS {
        return scheduler::yield_now();
    }
    match largest(if is_ending { victim } else { NOBODY }) {
        Some((process, size)) => {
            kill(thread, &process, size);
            scheduler::yield_now();
        }
        None => {
            log::error!(target: "memory", "out of memory, and nobody to kill but init");
            signal::force(thread, Info::from_kernel(Signal::KILL));
        }
    }
}

/// The process that takes the most, but for init and one that is past help.
fn largest(except: u32) -> Option<(Arc<Process>, Size)> {
    let tasks = tasks();
    let mut largest: Option<(&Arc<Process>, Size)> = None;
    for (pid, member) in tasks.family.iter() {
        let Some(size) = size_of(&member.value) else { continue };
        let is_larger = largest.is_none_or(|(_, other)| size.claim() >= other.claim());
        if pid != INIT_PID && pid != except && is_larger {
            largest = Some((&member.value, size));
        }
    }
    largest.map(|(process, size)| (process.clone(), size))
}

/// None for a process that has no memory (any more).
fn size_of(process: &Process) -> Option<Size> {
    const PAGE: u64 = PAGE_SIZE as u64;
    process.with_address_space(|space| {
        let space = space.lock();
        Size {
            mapped: space.mapped_bytes() / PAGE,
            resident: space.resident_bytes() / PAGE,
            tables: space.page_table_bytes() / PAGE,
        }
    })
}

impl Size {
    fn claim(self) -> u64 {
        self.resident.saturating_add(self.tables)
    }
}

/// Ends a process, and those that share its memory, which would keep it; says so as Linux does.
fn kill(finder: &Thread, victim: &Arc<Process>, size: Size) {
    VICTIM.store(victim.pid, Relaxed);
    KILLED_AT_NS.store(clock::now_ns(), Relaxed);
    let kib = |pages: u64| pages.saturating_mul(PAGE_SIZE as u64 / 1024);
    let name = victim.main_thread().map_or_else(Default::default, |thread| thread.name());
    log::warn!(target: "memory", "{} invoked oom-killer", printable(&finder.name()));
    log::warn!(
        target: "memory",
        "Out of memory: Killed process {} ({}) total-vm:{}kB, rss:{}kB, UID:{} pgtables:{}kB",
        victim.pid, printable(&name), kib(size.mapped), kib(size.resident), victim.credentials().user.real,
        kib(size.tables)
    );
    let memory = victim.address_space();
    process::for_each(|process| {
        let shares = match (&memory, process.address_space()) {
            (Some(memory), Some(its)) => Arc::ptr_eq(memory, &its),
            _ => false,
        };
        if shares || process.pid == victim.pid {
            // A standard signal is never refused.
            let _ = signal::send_to_process(process, Info::from_kernel(Signal::KILL));
        }
    });
}

/// A name as a line of the log can hold it: programs choose their own.
fn printable(name: &[u8]) -> impl fmt::Display {
    let shown = |byte: u8| if byte.is_ascii_graphic() || byte == b' ' { char::from(byte) } else { '?' };
    fmt::from_fn(move |formatter| {
        name.iter().take_while(|byte| **byte != 0).try_for_each(|byte| formatter.write_char(shown(*byte)))
    })
}
