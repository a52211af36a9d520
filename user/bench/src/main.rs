//! What does each operation cost? The same binary runs on Keel and on Linux, as init or as an ordinary program, and
//! prints a line of tab-separated values for each operation:
//!
//! ```text
//! operation  cheapest  mean  batches  turns
//! ```
//!
//! The unit is a tick of the TSC. Under QEMU's `-icount shift=0` that is one guest instruction, the same in each run;
//! anywhere else it is time. An operation is measured in small batches of turns; the cheapest batch, per turn, is the
//! figure, as it holds no timer tick, and the mean stands beside it. Each operation runs in a process of its own,
//! freshly executed. One that didn't do its work (no switch happened, no page was copied) prints FAILED and the reason
//! in the place of figures.
//!
//! `bench [OPERATION…]` measures those that are named, or all; `bench list` shows their names.

mod calls;
mod crowd;
mod files;
mod memory;
mod meter;
mod pipes;
mod processes;
mod program;
mod system;

use meter::{Meter, Outcome};
use std::ffi::CString;
use std::io::Write;

/// A name, and what is measured under it.
pub type Operation = (&'static str, fn(&mut Meter) -> Outcome);

/// The longest that one operation may take, in seconds.
const LIMIT_S: u32 = 120;

fn operations() -> impl Iterator<Item = &'static Operation> {
    let kinds = [
        system::OPERATIONS,
        files::OPERATIONS,
        pipes::OPERATIONS,
        memory::OPERATIONS,
        processes::OPERATIONS,
        crowd::OPERATIONS,
    ];
    kinds.into_iter().flatten()
}

fn main() {
    let started = meter::now();
    let arguments: Vec<String> = std::env::args_os().map(|text| text.to_string_lossy().into_owned()).collect();
    let words: Vec<&str> = arguments.iter().skip(1).map(String::as_str).collect();
    match words.as_slice() {
        ["--measure", name] => std::process::exit(measure(name)),
        ["list"] => operations().for_each(|(name, _)| println!("{name}")),
        // Linux hands init the words of its command line that it doesn't know: those that name nothing are left out.
        words => {
            let is_known = |word: &&str| operations().any(|(name, _)| name == word);
            let wanted: Vec<&str> = words.iter().copied().filter(is_known).collect();
            run_all(&arguments[0], started, &wanted);
        }
    }
}

fn run_all(own_path: &str, started: u64, wanted: &[&str]) {
    let is_first = std::process::id() == 1;
    if is_first {
        prepare_system();
    }
    if let Some(entered) = kernel_entry() {
        println!("# ticks at the kernel's entry\t{entered}");
    }
    println!("# ticks at the first instruction of main\t{started}");
    println!("# operation\tcheapest\tmean\tbatches\tturns");
    for (name, _) in operations().filter(|(name, _)| wanted.is_empty() || wanted.contains(name)) {
        run_one(own_path, name);
    }
    println!("# end");
    // A full pipe or a lost terminal can't be told to anyone.
    let _ = std::io::stdout().flush();
    if is_first {
        // SAFETY: the calls take no pointers. If the machine can't be switched off, init's end does it.
        unsafe {
            libc::sync();
            libc::reboot(libc::RB_POWER_OFF);
        }
    }
}

/// The TSC at the kernel's entry, where its log tells it, as Keel's does: `loaded by PVH (Pvh), 2000000 cycles after reset`.
fn kernel_entry() -> Option<u64> {
    const SYSLOG_ACTION_READ_ALL: i32 = 3;
    let mut log = vec![0_u8; 1 << 18];
    // SAFETY: the kernel writes at most the buffer's length.
    let count = unsafe { libc::klogctl(SYSLOG_ACTION_READ_ALL, log.as_mut_ptr().cast(), log.len() as i32) };
    log.truncate(usize::try_from(count).ok()?);
    let log = String::from_utf8_lossy(&log);
    log.split_once(" cycles after reset")?.0.rsplit(' ').next()?.parse().ok()
}

/// As init on a bare system: the folders and devices that the operations use.
fn prepare_system() {
    for (kind, target) in [(c"proc", c"/proc"), (c"devtmpfs", c"/dev"), (c"tmpfs", c"/tmp")] {
        // SAFETY: strings that end with a zero, and no data. What is there already may fail.
        unsafe {
            libc::mkdir(target.as_ptr(), 0o755);
            libc::mount(kind.as_ptr(), target.as_ptr(), kind.as_ptr(), 0, std::ptr::null());
        }
    }
}

/// Executes this program anew for one operation, which prints its own line.
fn run_one(own_path: &str, name: &str) {
    let strings = [own_path, "--measure", name].map(|text| CString::new(text).unwrap_or_default());
    let pointers = [strings[0].as_ptr(), strings[1].as_ptr(), strings[2].as_ptr(), std::ptr::null()];
    // SAFETY: this process has one thread; the vectors hold strings and end with a NULL; the kernel writes one int.
    let status = unsafe {
        let child = libc::fork();
        if child == 0 {
            libc::execve(pointers[0], pointers.as_ptr(), [std::ptr::null()].as_ptr());
            libc::_exit(127);
        }
        let mut status = -1;
        libc::waitpid(child, &mut status, 0);
        status
    };
    if !libc::WIFEXITED(status) {
        println!("{name}\tFAILED\tkilled by signal {}", libc::WTERMSIG(status));
    } else if libc::WEXITSTATUS(status) == 127 {
        println!("{name}\tFAILED\tit can't be executed");
    }
}

fn measure(name: &str) -> i32 {
    let Some((_, operation)) = operations().find(|(known, _)| *known == name) else { return 127 };
    // SAFETY: the calls take no pointers but a set of CPUs. Where one is missing, the figures are still right with one
    // CPU.
    unsafe {
        libc::alarm(LIMIT_S);
        let mut cpus: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(0, &mut cpus);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &cpus);
    }
    let mut meter = Meter::new();
    match operation(&mut meter) {
        Ok(()) if meter.cheapest() == 0 => println!("{name}\tFAILED\tnothing was counted"),
        Ok(()) => println!("{name}\t{meter}"),
        Err(reason) => println!("{name}\tFAILED\t{reason}"),
    }
    0
}
