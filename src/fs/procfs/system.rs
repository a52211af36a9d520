//! Files about the whole system: /proc/meminfo and its neighbours, and /proc/sys.

use super::super::file_system;
use super::super::generated::Text;
use super::super::open_count;
use super::super::root;
use crate::PAGE_SIZE;
use crate::errno::Errno;
use crate::interrupts::clock;
use crate::interrupts::time_scale::NS_PER_SECOND;
use crate::memory::{frames, heap};
use crate::syscall::system;
use crate::task::process::tasks;
use crate::task::usage::NS_PER_CLOCK_TICK;
use crate::task::{cpu_time, ids, limits, scheduler};
use crate::{boot, cpu, trace};
use core::sync::atomic::{AtomicU8, Ordering::Relaxed};

type Writer = fn(&mut Text) -> Result<(), Errno>;
type Setter = fn(&[u8]) -> Result<(), Errno>;
/// A directory's name and its files: name, text, and how it is set if it can be.
type Settings = (&'static [u8], &'static [(&'static [u8], Writer, Option<Setter>)]);

/// The files at the top of /proc.
pub(super) const FILES: &[(&[u8], Writer)] = &[
    (b"cmdline", command_line),
    (b"cpuinfo", cpu_info),
    (b"filesystems", file_systems),
    (b"interrupts", interrupts),
    (b"loadavg", load_average),
    (b"meminfo", memory_info),
    (b"stat", stat),
    (b"uptime", uptime),
    (b"version", version),
];

/// The directories below /proc/sys with their files.
pub(super) const SETTINGS: &[Settings] = &[
    (
        b"kernel",
        &[
            (b"hostname", host_name, Some(set_host_name)),
            (b"osrelease", |text| text.print(format_args!("{}\n", system::RELEASE)), None),
            (b"ostype", |text| text.print(format_args!("{}\n", system::SYSTEM)), None),
            (b"version", |text| text.print(format_args!("{}\n", system::VERSION)), None),
            (b"pid_max", |text| text.print(format_args!("{}\n", ids::PID_MAX)), None),
            (b"threads-max", |text| text.print(format_args!("{}\n", limits::threads_max())), None),
            (b"randomize_va_space", randomize, Some(set_randomize)),
            (b"cap_last_cap", |text| text.push(b"40\n"), None),
            (b"ngroups_max", |text| text.push(b"65536\n"), None),
        ],
    ),
    (
        b"fs",
        &[
            (b"pipe-max-size", |text| text.push(b"1048576\n"), None),
            (b"nr_open", |text| text.push(b"1048576\n"), None),
            (b"file-max", |text| text.print(format_args!("{}\n", open_count::now().1)), None),
            (b"file-nr", open_files, None),
        ],
    ),
    (
        b"vm",
        &[
            (b"overcommit_memory", |text| text.push(b"0\n"), None),
            (b"mmap_min_addr", |text| text.push(b"65536\n"), None),
        ],
    ),
];

/// What was written to `randomize_va_space`.
static RANDOMIZE: AtomicU8 = AtomicU8::new(NEVER_WRITTEN);
const NEVER_WRITTEN: u8 = u8::MAX;

/// Which addresses of new images are random (`randomize_va_space`): 0 none, 1 all but the heap's, 2 all. Until it is written,
/// `norandmaps` on the command line decides.
pub fn address_randomness() -> u8 {
    match RANDOMIZE.load(Relaxed) {
        NEVER_WRITTEN if boot::information().command_line.randomize_addresses => 2,
        NEVER_WRITTEN => 0,
        written => written,
    }
}

fn command_line(text: &mut Text) -> Result<(), Errno> {
    text.print(format_args!("{}\n", boot::information().command_line.text()))
}

fn version(text: &mut Text) -> Result<(), Errno> {
    text.print(format_args!("{} version {} {}\n", system::SYSTEM, system::RELEASE, system::VERSION))
}

fn uptime(text: &mut Text) -> Result<(), Errno> {
    let now = clock::now_ns();
    let [.., idle] = cpu_time::ticks_spent();
    let hundredths = |ns: u64| (ns / NS_PER_SECOND, ns % NS_PER_SECOND / NS_PER_CLOCK_TICK);
    let ((seconds, part), (idle_seconds, idle_part)) = (hundredths(now), (idle / 100, idle % 100));
    text.print(format_args!("{seconds}.{part:02} {idle_seconds}.{idle_part:02}\n"))
}

/// The averages, how many threads run of how many, and the newest id.
fn load_average(text: &mut Text) -> Result<(), Errno> {
    for (whole, hundredths) in cpu_time::load_averages() {
        text.print(format_args!("{whole}.{hundredths:02} "))?;
    }
    let running = scheduler::ready_count();
    let (threads, newest) = {
        let tasks = tasks();
        (tasks.threads.len(), tasks.threads.newest())
    };
    text.print(format_args!("{running}/{threads} {newest}\n"))
}

fn memory_info(text: &mut Text) -> Result<(), Errno> {
    let frames = frames::counts();
    let heap = heap::counts();
    let shared = root::pages_in_files();
    let mut line = |name: &str, pages: u64| {
        let kib = pages * (PAGE_SIZE as u64 / 1024);
        let width = 14 - name.len().min(14);
        text.print(format_args!("{name}:{:width$} {kib:>8} kB\n", ""))
    };
    line("MemTotal", frames.total as u64)?;
    line("MemFree", frames.free as u64)?;
    line("MemAvailable", frames.free as u64)?;
    line("Buffers", 0)?;
    line("Cached", shared)?;
    line("SwapCached", 0)?;
    line("Active", 0)?;
    line("Inactive", 0)?;
    line("SwapTotal", 0)?;
    line("SwapFree", 0)?;
    line("Dirty", 0)?;
    line("Shmem", shared)?;
    line("Slab", heap.frames as u64)?;
    line("SReclaimable", 0)?;
    line("SUnreclaim", heap.frames as u64)
}

/// How many files are open, none kept for later, and how many may be.
fn open_files(text: &mut Text) -> Result<(), Errno> {
    let (open, most) = open_count::now();
    text.print(format_args!("{open}\t0\t{most}\n"))
}

/// /proc/slabinfo: what the kernel's heap holds, by the size of blocks.
pub(super) fn slab_info(text: &mut Text) -> Result<(), Errno> {
    text.push(
        b"slabinfo - version: 2.1\n# name <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> \
          : tunables <limit> <batchcount> <sharedfactor> : slabdata <active_slabs> <num_slabs> <sharedavail>\n",
    )?;
    for heap::Kind { object_bytes, objects, frames } in heap::kinds() {
        let per_frame = PAGE_SIZE / object_bytes;
        let room = frames * per_frame;
        text.print(format_args!(
            "kmalloc-{object_bytes:<9} {objects:>6} {room:>6} {object_bytes:>6} {per_frame:>4}    1 \
             : tunables    0    0    0 : slabdata {frames:>6} {frames:>6}      0\n"
        ))?;
    }
    Ok(())
}

fn cpu_info(text: &mut Text) -> Result<(), Errno> {
    cpu::cpuinfo::write(text).map_err(|_| Errno::ENOMEM)
}

fn stat(text: &mut Text) -> Result<(), Errno> {
    let [user, system, idle] = cpu_time::ticks_spent();
    let boot_seconds = clock::wall_clock_ns().saturating_sub(clock::now_ns()) / NS_PER_SECOND;
    let running = scheduler::ready_count();
    let (switches, newest) = (cpu_time::switches(), tasks().threads.newest());
    for name in ["cpu ", "cpu0"] {
        text.print(format_args!("{name} {user} 0 {system} {idle} 0 0 0 0 0 0\n"))?;
    }
    text.print(format_args!(
        "intr {}\nctxt {switches}\nbtime {boot_seconds}\nprocesses {newest}\nprocs_running {running}\nprocs_blocked 0\n",
        user + system + idle
    ))
}

fn interrupts(text: &mut Text) -> Result<(), Errno> {
    crate::interrupts::write_counts(text).map_err(|_| Errno::ENOMEM)
}

fn file_systems(text: &mut Text) -> Result<(), Errno> {
    use file_system::Kind;
    for kind in [Kind::Tmpfs, Kind::Devtmpfs, Kind::Proc, Kind::Pipefs] {
        text.print(format_args!("nodev\t{}\n", kind.name()))?;
    }
    Ok(())
}

/// /proc/trace: the recorded events.
pub(super) fn trace(text: &mut Text) -> Result<(), Errno> {
    trace::write_last(text, usize::MAX).map_err(|_| Errno::ENOMEM)
}

/// Writing to it says which kinds are recorded from now on, as `trace=` does at boot.
pub(super) fn set_trace(bytes: &[u8]) -> Result<(), Errno> {
    let list = str::from_utf8(bytes).map_err(|_| Errno::EINVAL)?;
    trace::select(list.trim_ascii()).map_err(|_| Errno::EINVAL)
}

fn host_name(text: &mut Text) -> Result<(), Errno> {
    text.push(&system::host_name())?;
    text.push(b"\n")
}

fn set_host_name(bytes: &[u8]) -> Result<(), Errno> {
    system::set_host_name(bytes.strip_suffix(b"\n").unwrap_or(bytes))
}

fn randomize(text: &mut Text) -> Result<(), Errno> {
    text.print(format_args!("{}\n", address_randomness()))
}

fn set_randomize(bytes: &[u8]) -> Result<(), Errno> {
    match bytes.strip_suffix(b"\n").unwrap_or(bytes) {
        [digit @ b'0'..=b'2'] => {
            RANDOMIZE.store(digit - b'0', Relaxed);
            Ok(())
        }
        _ => Err(Errno::EINVAL),
    }
}
