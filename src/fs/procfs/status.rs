//! The files of /proc/PID that are about its state, its memory and its limits.

use super::super::generated::Text;
use super::process::{Subject, allows};
use crate::PAGE_SIZE;
use crate::drivers::terminal::job_control;
use crate::errno::Errno;
use crate::memory::{AddressSpace, Area, AreaFlags, Backing, Protection};
use crate::task::limits::{INFINITY, Resource};
use crate::task::process::tasks;
use crate::task::scheduler;
use crate::task::signal::SignalSet;
use crate::task::usage::{NS_PER_CLOCK_TICK, Usage};
use core::ops::Range;
use core::sync::atomic::Ordering::Relaxed;

const KIB: u64 = 1024;

/// What the table of processes says.
struct Relations {
    parent: u32,
    group: u32,
    session: u32,
    exit_signal: u8,
    ended: bool,
}

/// What is to be known of memory, in bytes.
#[derive(Default)]
struct Memory {
    mapped: u64,
    peak_mapped: u64,
    resident: u64,
    peak: u64,
    data: u64,
    stack: u64,
    page_tables: u64,
    text: Range<u64>,
    heap: Range<u64>,
    stack_start: u64,
    data_range: Range<u64>,
    arguments: Range<u64>,
    environment: Range<u64>,
}

/// Signals, as the files show them: pending for the thread and for the process, blocked, ignored, handled.
struct Signals {
    own: SignalSet,
    shared: SignalSet,
    blocked: SignalSet,
    ignored: SignalSet,
    handled: SignalSet,
}

/// /proc/PID/comm.
pub(super) fn name(subject: &Subject, text: &mut Text) -> Result<(), Errno> {
    push_name(subject, text)?;
    text.push(b"\n")
}

fn push_name(subject: &Subject, text: &mut Text) -> Result<(), Errno> {
    let name = subject.thread.as_ref().map_or_else(|| subject.process.name(), |thread| thread.name());
    let length = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
    text.push(name.get(..length).unwrap_or_default())
}

/// `proc_pid_stat(5)`: what ps and top read.
pub(super) fn stat(subject: &Subject, text: &mut Text) -> Result<(), Errno> {
    let relations = relations(subject);
    let mut memory = memory_of(subject);
    // Where things lie is nobody else's business.
    if allows(&subject.process).is_err() {
        memory = Memory { mapped: memory.mapped, resident: memory.resident, ..Memory::default() };
    }
    let signals = signals_of(subject);
    let (own, children) = (usage(subject), subject.process.usage.children.get());
    let [user, system, children_user, children_system] =
        [own.user_ns, own.system_ns, children.user_ns, children.system_ns].map(|ns| ns / NS_PER_CLOCK_TICK);
    let nice = nice_of(subject);
    let state = state(subject, &relations);
    let start_ticks = subject.process.start_time_ns / NS_PER_CLOCK_TICK;
    let process = &subject.process;
    let (terminal, foreground) = match job_control::terminal_of(&subject.process) {
        Some((number, foreground)) => (number.0, foreground.map_or(-1, i64::from)),
        None => (0, -1),
    };
    text.print(format_args!("{} (", subject.id()))?;
    push_name(subject, text)?;
    // No flags, and no faults that wait for a device.
    text.print(format_args!(
        ") {state} {} {} {} {terminal} {foreground} 0 {} {} 0 0 ",
        relations.parent, relations.group, relations.session, own.minor_faults, children.minor_faults
    ))?;
    text.print(format_args!(
        "{user} {system} {children_user} {children_system} {} {nice} {} 0 {start_ticks} {} {} {} ",
        20 + nice,
        process.thread_count(),
        memory.mapped,
        memory.resident / PAGE_SIZE as u64,
        process.limits.lock().get(Resource::ResidentSet).soft
    ))?;
    text.print(format_args!(
        "{} {} {} 0 0 {} {} {} {} 0 0 0 {} 0 0 0 0 0 0 ",
        memory.text.start,
        memory.text.end,
        memory.stack_start,
        signals.own.union(signals.shared).bits(),
        signals.blocked.bits(),
        signals.ignored.bits(),
        signals.handled.bits(),
        relations.exit_signal
    ))?;
    text.print(format_args!(
        "{} {} {} {} {} {} {} 0\n",
        memory.data_range.start,
        memory.data_range.end,
        memory.heap.start,
        memory.arguments.start,
        memory.arguments.end,
        memory.environment.start,
        memory.environment.end
    ))
}

/// `proc_pid_status(5)`: the same for people.
pub(super) fn status(subject: &Subject, text: &mut Text) -> Result<(), Errno> {
    let relations = relations(subject);
    let memory = memory_of(subject);
    let process = &subject.process;
    let credentials = process.credentials();
    let umask = process.fs_context().map_or(0, |context| context.lock().umask);
    let letter = state(subject, &relations);
    text.push(b"Name:\t")?;
    push_name(subject, text)?;
    text.print(format_args!("\nUmask:\t{umask:04o}\nState:\t{letter} ({})\n", state_name(letter)))?;
    text.print(format_args!(
        "Tgid:\t{}\nNgid:\t0\nPid:\t{}\nPPid:\t{}\nTracerPid:\t0\n",
        process.pid,
        subject.id(),
        relations.parent
    ))?;
    for (name, ids) in [("Uid", credentials.user), ("Gid", credentials.group)] {
        text.print(format_args!("{name}:\t{}\t{}\t{}\t{}\n", ids.real, ids.effective, ids.saved, ids.file_system))?;
    }
    text.print(format_args!("FDSize:\t{}\nGroups:\t", process.with_files(|files| Ok(files.capacity())).unwrap_or(0)))?;
    for group in credentials.groups() {
        text.print(format_args!("{group} "))?;
    }
    text.push(b"\n")?;
    if !relations.ended && process.address_space().is_some() {
        push_memory(&memory, text)?;
    }
    text.print(format_args!("Threads:\t{}\n", process.thread_count()))?;
    push_signals(subject, text)?;
    let capabilities: u64 = if credentials.is_privileged() { 0x1ff_ffff_ffff } else { 0 };
    for name in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        let set = if matches!(name, "CapInh" | "CapAmb") { 0 } else { capabilities };
        text.print(format_args!("{name}:\t{set:016x}\n"))?;
    }
    let no_new_privileges = u8::from(process.no_new_privileges.load(Relaxed));
    text.print(format_args!("NoNewPrivs:\t{no_new_privileges}\nSeccomp:\t0\n"))?;
    text.push(b"Cpus_allowed:\t1\nCpus_allowed_list:\t0\n")?;
    let switches = subject.main_thread().map(|thread| thread.usage()).unwrap_or_default();
    text.print(format_args!(
        "voluntary_ctxt_switches:\t{}\nnonvoluntary_ctxt_switches:\t{}\n",
        switches.voluntary_switches, switches.involuntary_switches
    ))
}

fn push_memory(memory: &Memory, text: &mut Text) -> Result<(), Errno> {
    let lines = [
        ("VmPeak", memory.peak_mapped),
        ("VmSize", memory.mapped),
        ("VmHWM", memory.peak),
        ("VmRSS", memory.resident),
        ("VmData", memory.data),
        ("VmStk", memory.stack),
        ("VmExe", whole_pages(&memory.text)),
        ("VmPTE", memory.page_tables),
    ];
    lines.iter().try_for_each(|(name, bytes)| text.print(format_args!("{name}:\t{:>8} kB\n", bytes / KIB)))
}

fn push_signals(subject: &Subject, text: &mut Text) -> Result<(), Errno> {
    let signals = signals_of(subject);
    let sets = [
        ("SigPnd", signals.own),
        ("ShdPnd", signals.shared),
        ("SigBlk", signals.blocked),
        ("SigIgn", signals.ignored),
        ("SigCgt", signals.handled),
    ];
    sets.iter().try_for_each(|(name, set)| text.print(format_args!("{name}:\t{:016x}\n", set.bits())))
}

/// `proc_pid_statm(5)`, in pages.
pub(super) fn memory(subject: &Subject, text: &mut Text) -> Result<(), Errno> {
    let memory = memory_of(subject);
    let pages = |bytes: u64| bytes / PAGE_SIZE as u64;
    text.print(format_args!(
        "{} {} 0 {} 0 {} 0\n",
        pages(memory.mapped),
        pages(memory.resident),
        pages(whole_pages(&memory.text)),
        pages(memory.data)
    ))
}

/// `proc_pid_limits(5)`.
pub(super) fn limits(subject: &Subject, text: &mut Text) -> Result<(), Errno> {
    const LINES: [(&str, &str, Resource); 16] = [
        ("Max cpu time", "seconds", Resource::CpuSeconds),
        ("Max file size", "bytes", Resource::FileSize),
        ("Max data size", "bytes", Resource::Data),
        ("Max stack size", "bytes", Resource::Stack),
        ("Max core file size", "bytes", Resource::Core),
        ("Max resident set", "bytes", Resource::ResidentSet),
        ("Max processes", "processes", Resource::Processes),
        ("Max open files", "files", Resource::OpenFiles),
        ("Max locked memory", "bytes", Resource::LockedMemory),
        ("Max address space", "bytes", Resource::AddressSpace),
        ("Max file locks", "locks", Resource::FileLocks),
        ("Max pending signals", "signals", Resource::PendingSignals),
        ("Max msgqueue size", "bytes", Resource::MessageQueues),
        ("Max nice priority", "", Resource::Nice),
        ("Max realtime priority", "", Resource::RealTimePriority),
        ("Max realtime timeout", "us", Resource::RealTimeTime),
    ];
    let limits = subject.process.limits.lock().clone();
    text.print(format_args!("{:<25} {:<20} {:<20} {:<10}\n", "Limit", "Soft Limit", "Hard Limit", "Units"))?;
    for (name, unit, resource) in LINES {
        let limit = limits.get(resource);
        text.print(format_args!("{name:<25} "))?;
        for value in [limit.soft, limit.hard] {
            match value {
                INFINITY => text.print(format_args!("{:<20} ", "unlimited"))?,
                _ => text.print(format_args!("{value:<20} "))?,
            }
        }
        text.print(format_args!("{unit:<10}\n"))?;
    }
    Ok(())
}

/// A line of /proc/PID/maps.
pub(super) fn write_area(text: &mut Text, area: &Area, heap: &Range<u64>) -> Result<(), Errno> {
    let mapping = &area.mapping;
    let letter = |flag, letter| if mapping.protection.contains(flag) { letter } else { '-' };
    let (read, write) = (letter(Protection::READ, 'r'), letter(Protection::WRITE, 'w'));
    let (execute, shared) = (letter(Protection::EXECUTE, 'x'), if mapping.is_shared() { 's' } else { 'p' });
    let (offset, (device, inode)) = match &mapping.backing {
        Backing::Anonymous => (0, (0, 0)),
        Backing::Object { object, offset } => (*offset, object.device_and_inode()),
    };
    let before = text.as_bytes().len();
    text.print(format_args!(
        "{:08x}-{:08x} {read}{write}{execute}{shared} {offset:08x} {:02x}:{:02x} {inode}",
        area.start,
        area.end,
        device >> 8,
        device & 0xff
    ))?;
    let name = match &mapping.backing {
        Backing::Object { .. } => "",
        Backing::Anonymous if mapping.flags.contains(AreaFlags::STACK) => "[stack]",
        Backing::Anonymous if area.start < heap.end && heap.start < area.end => "[heap]",
        Backing::Anonymous => return text.push(b" \n"),
    };
    // Names stand below each other, as on Linux.
    const NAME_COLUMN: usize = 73;
    let width = text.as_bytes().len() - before;
    for _ in width..NAME_COLUMN.max(width + 1) {
        text.push(b" ")?;
    }
    match &mapping.backing {
        Backing::Object { object, .. } => object.write_name(text).map_err(|_| Errno::ENOMEM)?,
        Backing::Anonymous => text.push(name.as_bytes())?,
    }
    text.push(b"\n")
}

fn relations(subject: &Subject) -> Relations {
    let tasks = tasks();
    match tasks.family.get(subject.process.pid) {
        Some(member) => Relations {
            parent: member.parent,
            group: member.group,
            session: member.session,
            exit_signal: member.exit_signal,
            ended: member.ended().is_some(),
        },
        None => Relations { parent: 0, group: 0, session: 0, exit_signal: 0, ended: true },
    }
}

fn memory_of(subject: &Subject) -> Memory {
    let memory = subject.with_memory(|space| Memory {
        mapped: space.mapped_bytes(),
        peak_mapped: space.peak_mapped_bytes(),
        resident: space.resident_bytes(),
        peak: space.peak_resident_bytes(),
        data: space.data_bytes(),
        stack: stacks(space),
        page_tables: space.page_table_bytes(),
        text: space.layout.text.clone(),
        heap: space.heap(),
        stack_start: space.layout.stack_start,
        data_range: space.layout.data.clone(),
        arguments: space.layout.arguments.clone(),
        environment: space.layout.environment.clone(),
    });
    memory.unwrap_or_default()
}

/// The size of the pages that a range touches.
fn whole_pages(range: &Range<u64>) -> u64 {
    let page = PAGE_SIZE as u64;
    range.end.next_multiple_of(page).saturating_sub(range.start & !(page - 1))
}

fn stacks(space: &AddressSpace) -> u64 {
    let growing = space.areas().iter().filter(|area| area.mapping.flags.contains(AreaFlags::GROWS_DOWN));
    growing.map(|area| area.end - area.start).sum()
}

fn signals_of(subject: &Subject) -> Signals {
    let (ignored, handled) = subject.process.signals.with(|actions| actions.summary());
    let thread = subject.main_thread();
    Signals {
        own: thread.as_ref().map_or(SignalSet::EMPTY, |thread| thread.signals.pending_set()),
        shared: subject.process.signals.pending_set(),
        blocked: thread.as_ref().map_or(SignalSet::EMPTY, |thread| thread.signals.mask()),
        ignored,
        handled,
    }
}

/// Of one thread where one is asked about, else of the process.
fn usage(subject: &Subject) -> Usage {
    subject.thread.as_ref().map_or_else(|| subject.process.usage_of_threads(), |thread| thread.usage())
}

fn nice_of(subject: &Subject) -> i32 {
    subject.main_thread().map_or(0, |thread| scheduler::nice(&thread))
}

fn state(subject: &Subject, relations: &Relations) -> char {
    if relations.ended {
        return 'Z';
    }
    match subject.main_thread() {
        Some(thread) => scheduler::state_letter(&thread),
        None => 'Z',
    }
}

fn state_name(letter: char) -> &'static str {
    match letter {
        'R' => "running",
        'S' => "sleeping",
        'D' => "disk sleep",
        'T' => "stopped",
        'X' => "dead",
        _ => "zombie",
    }
}
