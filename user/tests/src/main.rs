//! Asks the kernel questions, a line each: `conformance FAMILY…`, or `all`, or `list`.
//!
//! What this prints on Linux, on the build host, is what it must print on Keel: so an answer holds nothing that differs
//! from run to run or from machine to machine (numbers of processes, times, addresses, paths). A case is a function
//! named for the question it asks; it runs in a process of its own, in an empty folder of its own, with descriptors 0
//! to 2 only. A case that is killed or hangs is reported as such and hides no other.
//!
//! In reading order: the library's `support` (the words in which cases are written) and `harness` (how they are run),
//! then a file here for each family.

// `sys!` is the cases' word for a system call: its safety is argued once, where it is made.
#![allow(clippy::macro_metavars_in_unsafe)]

mod attributes;
mod bounds;
mod clock;
mod copying;
mod exec;
mod exec_arguments;
mod exec_auxiliary;
mod exec_elf;
mod exec_process;
mod exec_rules;
mod faults;
mod files;
mod folders;
mod futexes;
mod helper;
mod limits;
mod locks;
mod memory;
mod mounts;
mod news;
mod old_calls;
mod opening;
mod permissions;
mod pipes;
mod proc;
mod processes;
mod refusals;
mod registers;
mod remapping;
mod returning;
mod signals;
mod stat;
mod system;
mod terminals;
mod threads;
mod time;
mod timers;
mod typing;
mod usage;

use conformance::harness::Family;

const FAMILIES: &[Family] = &[
    ("attributes", attributes::CASES),
    ("bounds", bounds::CASES),
    ("clock", clock::CASES),
    ("copying", copying::CASES),
    ("exec", exec::CASES),
    ("exec_arguments", exec_arguments::CASES),
    ("exec_auxiliary", exec_auxiliary::CASES),
    ("exec_elf", exec_elf::CASES),
    ("exec_process", exec_process::CASES),
    ("exec_rules", exec_rules::CASES),
    ("faults", faults::CASES),
    ("files", files::CASES),
    ("folders", folders::CASES),
    ("futexes", futexes::CASES),
    ("limits", limits::CASES),
    ("locks", locks::CASES),
    ("memory", memory::CASES),
    ("mounts", mounts::CASES),
    ("news", news::CASES),
    ("old_calls", old_calls::CASES),
    ("opening", opening::CASES),
    ("permissions", permissions::CASES),
    ("pipes", pipes::CASES),
    ("proc", proc::CASES),
    ("processes", processes::CASES),
    ("refusals", refusals::CASES),
    ("registers", registers::CASES),
    ("remapping", remapping::CASES),
    ("returning", returning::CASES),
    ("signals", signals::CASES),
    ("stat", stat::CASES),
    ("system", system::CASES),
    ("terminals", terminals::CASES),
    ("threads", threads::CASES),
    ("time", time::CASES),
    ("timers", timers::CASES),
    ("typing", typing::CASES),
    ("usage", usage::CASES),
];

fn main() {
    let option = std::env::args_os().nth(1).map(|text| text.to_string_lossy().into_owned()).unwrap_or_default();
    if let Some(what) = option.strip_prefix("--helper-") {
        std::process::exit(helper::run(what));
    }
    conformance::harness::main("conformance", FAMILIES);
}
