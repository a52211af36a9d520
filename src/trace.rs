//! What the kernel did, as it did it: `trace=switch,cr3,irq,fault,syscall,exec` on the command line records events.
//!
//! Each CPU has a ring of the last events, which /proc/trace shows and a panic prints the end of. A kind that isn't asked
//! for costs one load and one branch that is predicted not taken. Recording takes no lock: a slot is claimed by one
//! addition, so an interrupt that records in between takes the next one.

#![expect(clippy::indexing_slicing, reason = "positions are taken modulo the ring's length")]

use core::fmt;
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// What an event tells, and of which two values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// One thread gave the CPU to another: their ids.
    Switch = 1,
    /// A page table was loaded, by a switch or on the way back to user mode: the thread, and CR3.
    Cr3 = 2,
    /// A device interrupt: its vector, and whether it interrupted a user program.
    Irq = 3,
    /// A page fault: its address and error code.
    Fault = 4,
    /// A system call began: its number and first argument.
    Syscall = 5,
    /// A new image: the process and the entry point.
    Exec = 6,
}

impl Kind {
    pub const ALL: [Self; 6] = [Self::Switch, Self::Cr3, Self::Irq, Self::Fault, Self::Syscall, Self::Exec];

    /// Its word on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Switch => "switch",
            Self::Cr3 => "cr3",
            Self::Irq => "irq",
            Self::Fault => "fault",
            Self::Syscall => "syscall",
            Self::Exec => "exec",
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }

    fn from_number(number: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u64 == number)
    }
}

/// One event as it was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    pub time_ns: u64,
    pub kind: Kind,
    pub first: u64,
    pub second: u64,
}

impl fmt::Display for Event {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let time_us = self.time_ns / 1000;
        write!(formatter, "{:5}.{:06} {:<7} ", time_us / 1_000_000, time_us % 1_000_000, self.kind.name())?;
        let (first, second) = (self.first, self.second);
        match self.kind {
            Kind::Switch => write!(formatter, "from={first} to={second}"),
            Kind::Cr3 => write!(formatter, "thread={first} loaded={second:#x}"),
            Kind::Irq => {
                write!(formatter, "vector={first:#x} privilege={}", if second != 0 { "user" } else { "kernel" })
            }
            Kind::Fault => write!(formatter, "address={first:#x} error={second:#x}"),
            Kind::Syscall => write!(formatter, "number={first} argument={second:#x}"),
            Kind::Exec => write!(formatter, "process={first} entry={second:#x}"),
        }
    }
}

/// How many events a CPU remembers.
const CAPACITY: usize = 1024;

/// One CPU's last events.
struct Ring {
    /// How many were ever recorded; the next one's slot is this modulo [`CAPACITY`].
    recorded: AtomicU64,
    slots: [Slot; CAPACITY],
}

/// An event in the ring. `kind` is 0 while the rest is being written.
struct Slot {
    kind: AtomicU64,
    time_ns: AtomicU64,
    first: AtomicU64,
    second: AtomicU64,
}

impl Slot {
    const fn new() -> Self {
        Self {
            kind: AtomicU64::new(0),
            time_ns: AtomicU64::new(0),
            first: AtomicU64::new(0),
            second: AtomicU64::new(0),
        }
    }
}

impl Ring {
    const fn new() -> Self {
        Self { recorded: AtomicU64::new(0), slots: [const { Slot::new() }; CAPACITY] }
    }

    fn record(&self, event: Event) {
        let index = self.recorded.fetch_add(1, Ordering::Relaxed) as usize % CAPACITY;
        let slot = &self.slots[index];
        slot.kind.store(0, Ordering::Release);
        slot.time_ns.store(event.time_ns, Ordering::Relaxed);
        slot.first.store(event.first, Ordering::Relaxed);
        slot.second.store(event.second, Ordering::Relaxed);
        slot.kind.store(event.kind as u64, Ordering::Release);
    }

    /// The last `count` events, oldest first. Left out are those that are being written, and those that newer ones take the
    /// place of meanwhile.
    fn last(&self, count: usize) -> impl Iterator<Item = Event> {
        let recorded = self.recorded.load(Ordering::Acquire);
        let count = (count.min(CAPACITY) as u64).min(recorded);
        (recorded - count..recorded).filter_map(|number| self.read(number))
    }

    /// The event of that number, if it is whole and still there.
    fn read(&self, number: u64) -> Option<Event> {
        let slot = &self.slots[number as usize % CAPACITY];
        let event = Event {
            kind: Kind::from_number(slot.kind.load(Ordering::Acquire))?,
            time_ns: slot.time_ns.load(Ordering::Acquire),
            first: slot.first.load(Ordering::Acquire),
            second: slot.second.load(Ordering::Acquire),
        };
        // Whoever writes to the slot has claimed it first: if nobody has by now, what was read belongs together.
        let claimed = self.recorded.load(Ordering::Relaxed);
        (claimed - number <= CAPACITY as u64).then_some(event)
    }
}

/// The boot CPU's ring; a CPU that is started gets one of its own, found by its index.
static RINGS: [Ring; 1] = [Ring::new()];

/// The kinds asked for, one bit each.
static ENABLED: AtomicU8 = AtomicU8::new(0);

/// Records what a `trace=` word lists, separated by commas, and nothing else; `all` is all, `none` is nothing. With a word
/// that it doesn't know, which it returns, it changes nothing.
pub fn select(list: &str) -> Result<(), &str> {
    let mut selected = 0;
    for word in list.split(',').filter(|word| !word.is_empty() && *word != "none") {
        selected |= match Kind::ALL.into_iter().find(|kind| kind.name() == word) {
            Some(kind) => kind.bit(),
            None if word == "all" => u8::MAX,
            None => return Err(word),
        };
    }
    ENABLED.store(selected, Ordering::Relaxed);
    Ok(())
}

#[inline(always)]
pub fn enabled(kind: Kind) -> bool {
    ENABLED.load(Ordering::Relaxed) & kind.bit() != 0
}

/// Records an event if its kind is asked for.
#[inline(always)]
pub fn record(kind: Kind, first: u64, second: u64) {
    if enabled(kind) {
        record_now(kind, first, second);
    }
}

#[cold]
fn record_now(kind: Kind, first: u64, second: u64) {
    #[cfg(target_os = "none")]
    let (time_ns, cpu) = (crate::interrupts::clock::now_ns(), crate::cpu::per_cpu::cpu_index() as usize);
    #[cfg(not(target_os = "none"))]
    let (time_ns, cpu) = (0, 0);
    if let Some(ring) = RINGS.get(cpu) {
        ring.record(Event { time_ns, kind, first, second });
    }
}

/// Writes each CPU's last events, oldest first, a line each: /proc/trace with `usize::MAX`, a panic with a few.
pub fn write_last(output: &mut dyn fmt::Write, count: usize) -> fmt::Result {
    for (cpu, ring) in RINGS.iter().enumerate() {
        for event in ring.last(count) {
            writeln!(output, "cpu{cpu} {event}")?;
        }
    }
    Ok(())
}

/// Whether anything was ever recorded.
pub fn is_empty() -> bool {
    RINGS.iter().all(|ring| ring.recorded.load(Ordering::Relaxed) == 0)
}

/// The last events of this CPU, oldest first: for tests that look at an order of events.
pub fn last_events(count: usize) -> impl Iterator<Item = Event> {
    #[cfg(target_os = "none")]
    let cpu = crate::cpu::per_cpu::cpu_index() as usize;
    #[cfg(not(target_os = "none"))]
    let cpu = 0;
    RINGS.get(cpu).into_iter().flat_map(move |ring| ring.last(count))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(number: u64) -> Event {
        Event { time_ns: number * 1_000_000_000 + 1_500, kind: Kind::Irq, first: number, second: 1 }
    }

    #[test]
    fn the_last_events_come_oldest_first() {
        let ring = Box::new(Ring::new());
        assert_eq!(ring.last(8).count(), 0);
        (0..3).for_each(|number| ring.record(event(number)));
        assert!(ring.last(2).eq([event(1), event(2)]));
        assert!(ring.last(99).eq([event(0), event(1), event(2)]));
    }

    #[test]
    fn a_full_ring_forgets_the_oldest() {
        let ring = Box::new(Ring::new());
        let total = CAPACITY as u64 + 10;
        (0..total).for_each(|number| ring.record(event(number)));
        assert_eq!(ring.last(usize::MAX).count(), CAPACITY);
        assert_eq!(ring.last(usize::MAX).next(), Some(event(10)));
        assert_eq!(ring.last(1).next(), Some(event(total - 1)));
    }

    #[test]
    fn an_event_that_newer_ones_replace_while_it_is_read_is_left_out() {
        let ring = Box::new(Ring::new());
        (0..CAPACITY as u64).for_each(|number| ring.record(event(number)));
        let mut events = ring.last(usize::MAX);
        assert_eq!(events.next(), Some(event(0)));
        ring.record(event(5000));
        ring.record(event(5001));
        assert_eq!(events.next(), Some(event(2)), "and not 5001");
    }

    #[test]
    fn events_read_as_text() {
        assert_eq!(event(0x20).to_string(), "   32.000001 irq     vector=0x20 privilege=user");
        let switch = Event { time_ns: 0, kind: Kind::Switch, first: 1, second: 2 };
        assert_eq!(switch.to_string(), "    0.000000 switch  from=1 to=2");
    }

    #[test]
    fn words_select_kinds() {
        assert_eq!(select("switch,cr3"), Ok(()));
        assert!(enabled(Kind::Switch) && enabled(Kind::Cr3) && !enabled(Kind::Exec));
        assert_eq!(select("exec,nonsense"), Err("nonsense"));
        assert!(enabled(Kind::Switch) && !enabled(Kind::Exec));
        assert_eq!(select("all"), Ok(()));
        assert!(enabled(Kind::Exec));
        assert_eq!(select("none"), Ok(()));
        assert!(!enabled(Kind::Switch));
    }
}
