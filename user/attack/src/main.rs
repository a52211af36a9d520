//! Tries to bring the kernel down, in the manner of xv6's usertests. Whatever these programs do, the kernel must go on,
//! answer with an errno or kill the guilty, and give everything back.
//!
//! - `attack FAMILY…`, `attack all`: cases, a line each. They end with the same text on Linux as on Keel.
//! - `attack fuzz SEED CALLS PROCESSES`: random system calls with hostile arguments.
//! - `attack bomb processes`, `attack bomb memory`: one that goes on until it is killed, for somebody to work beside it.
//! - `attack --exact …`: each case again and again; in one round at least nothing may be lost. On Linux, where other
//!   processes run, that says nothing.
//!
//! As root they change and replace the devices and files of the system they run on. So they refuse to run as root
//! anywhere but in Keel, and the tests compare them with a recorded text.

// `sys!` is the cases' word for a system call: its safety is argued once, where it is made.
#![allow(clippy::macro_metavars_in_unsafe)]

mod account;
mod bombs;
mod exhaustion;
mod fuzz;
mod hangs;
mod instructions;
mod numbers;
mod pointers;
mod races;
mod shapes;

use account::Held;
use conformance::harness::Family;

const FAMILIES: &[Family] = &[
    ("pointers", pointers::CASES),
    ("instructions", instructions::CASES),
    ("exhaustion", exhaustion::CASES),
    ("races", races::CASES),
    ("hangs", hangs::CASES),
    ("bombs", bombs::CASES),
];

fn main() {
    let words: Vec<String> = std::env::args_os().skip(1).map(|text| text.to_string_lossy().into_owned()).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    // SAFETY: takes no pointers.
    if unsafe { libc::geteuid() } == 0 && !is_keel() {
        eprintln!("attack: this is not Keel: as root the attacks would ruin the system");
        std::process::exit(2);
    }
    match words.as_slice() {
        ["fuzz", seed, calls, processes] => match (seed.parse(), calls.parse(), processes.parse()) {
            (Ok(seed), Ok(calls), Ok(processes)) => std::process::exit(fuzz::run(seed, calls, processes)),
            _ => println!("usage: attack fuzz SEED CALLS PROCESSES"),
        },
        ["bomb", "processes"] => bombs::processes_for_ever(),
        ["bomb", "memory"] => bombs::memory_for_ever(),
        ["--exact", family] => std::process::exit(exactly(family)),
        _ => conformance::harness::main("attack", FAMILIES),
    }
}

pub fn is_keel() -> bool {
    std::fs::read_to_string("/proc/version").is_ok_and(|text| text.to_lowercase().contains("keel"))
}

/// How often a case may leave something held before that counts as lost: caches and tables grow to what was needed once.
const ROUNDS: usize = 5;

/// Runs each case of a family until a round leaves nothing held: no memory, nothing in the kernel's heap, no open file.
fn exactly(family: &str) -> i32 {
    // SAFETY: takes no pointers. What cases leave behind is to be buried here.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
    let mut lost = 0;
    for (_, cases) in FAMILIES.iter().filter(|(name, _)| *name == family || family == "all") {
        for case in *cases {
            let mut rounds = Vec::new();
            while rounds.len() < ROUNDS {
                let before = Held::now();
                run_and_clear(case);
                let more = Held::now().since(before);
                rounds.push(more.to_string());
                if !more.is_more_than(Held::NOTHING) {
                    break;
                }
            }
            println!("{}: held: {}", case.name, rounds.join("; "));
            lost += i32::from(rounds.len() == ROUNDS);
        }
    }
    i32::from(lost > 0)
}

fn run_and_clear(case: &conformance::support::Case) {
    let folder = std::env::temp_dir().join("exact");
    conformance::harness::run(case, &folder);
    // SAFETY: takes no pointers but a null one.
    while unsafe { libc::wait(std::ptr::null_mut()) } > 0 {}
    let _ = std::fs::remove_dir_all(&folder);
}
