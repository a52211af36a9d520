//! The in-kernel tests: the kernel that holds them is booted, lists them, and runs them in order. A test that panics or hangs
//! the kernel is that test's failure; the next boot goes on behind it.
//!
//! What the kernel prints: `ktest: test NAME` for each test when asked for the list; else `ktest: start NAME`, then
//! `ktest: ok NAME` or, because a test fails by a panic, `ktest: failed NAME: message` and the panic screen. `ktest: done` is
//! the last line.

use crate::bochs::Bochs;
use crate::failure::Failure;
use crate::project;
use crate::qemu::{Guest, Limit, Machine};
use crate::runner::{Job, Reporter};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A kernel that says nothing for so long, in its own time, has hung.
const SILENCE_LIMIT_S: u64 = 30;
const PANIC_SCREEN_LIMIT_S: u64 = 10;
/// Restart at once when a test panics: QEMU ends then.
const COMMON_WORDS: &str = "exit=isa-debug panic=-1 console=ttyS0";

/// A machine that the tests run on, and which of them.
#[derive(Debug)]
struct Setting {
    /// In the tests' names; empty for the first.
    label: &'static str,
    board: &'static str,
    cpu: &'static str,
    memory_mib: u32,
    /// With a module. Which file it is doesn't matter.
    has_module: bool,
    wants: fn(&str) -> bool,
}

/// Everything on a CPU that has everything; the rest of it on one that has nothing newer than x86-64 itself, and whose machine
/// has neither APICs nor HPET; what depends on the size of memory with more of it than lies below 4 GiB, in pages of 1 GiB and
/// of 2 MiB; and what depends on timers with those that the others don't use.
const SETTINGS: [Setting; 6] = [
    Setting { label: "", board: "pc", cpu: "max", memory_mib: 256, has_module: false, wants: |_| true },
    Setting {
        label: "old CPU, ",
        board: "pc,hpet=off",
        cpu: "Opteron_G1,-nx,-pge,-apic,-hypervisor",
        memory_mib: 256,
        has_module: false,
        wants: |name| !TAKE_LONG.iter().any(|long| name.ends_with(long)),
    },
    Setting {
        label: "6 GiB, ",
        board: "pc",
        cpu: "max",
        memory_mib: 6144,
        has_module: true,
        wants: |name| name.contains("::memory::"),
    },
    Setting {
        label: "6 GiB, no pages of 1 GiB, ",
        board: "pc",
        cpu: "max,-pdpe1gb",
        memory_mib: 6144,
        has_module: false,
        wants: |name| name.contains("direct_map"),
    },
    Setting {
        label: "HPET instead of the PIT, ",
        board: "pc,pit=off",
        cpu: "Opteron_G1,-apic,-hypervisor",
        memory_mib: 128,
        has_module: false,
        wants: depends_on_timers,
    },
    Setting {
        label: "HPET beside the APIC, ",
        board: "pc",
        cpu: "Opteron_G1,-hypervisor",
        memory_mib: 128,
        has_module: false,
        wants: depends_on_timers,
    },
];

/// An HPET in the PIT's place has the line of the clock in CMOS as well, which one test raises.
fn depends_on_timers(name: &str) -> bool {
    if name.ends_with("a_spurious_interrupt_of_the_slave_is_ended_at_the_master") {
        return false;
    }
    ["::cpu::", "::interrupts::", "::scheduling::"].iter().any(|module| name.contains(module))
}

/// Seconds each, and one CPU is as good as another.
const TAKE_LONG: [&str; 4] = [
    "page_tables_stay_their_processes_own_over_a_thousand_ticks",
    "ticks_come_a_hundred_times_a_second",
    "a_chain_of_10_000_leaves_nothing_behind",
    "mutated_files_do_no_harm",
];

/// One line of the kernel's report.
#[derive(Debug, PartialEq, Eq)]
enum Line {
    Test(String),
    Start,
    Ok(String),
    Failed(String, String),
    Done,
}

fn parse(line: &str) -> Option<Line> {
    let (_, text) = line.split_once("ktest: ")?;
    let text = text.trim_end();
    if text == "done" {
        return Some(Line::Done);
    }
    let (word, rest) = text.split_once(' ')?;
    match word {
        "test" => Some(Line::Test(rest.to_owned())),
        "start" => Some(Line::Start),
        "ok" => Some(Line::Ok(rest.to_owned())),
        "failed" => {
            let (name, reason) = rest.split_once(": ").unwrap_or((rest, "no reason given"));
            Some(Line::Failed(name.to_owned(), reason.to_owned()))
        }
        _ => None,
    }
}

impl Setting {
    fn machine(&self, test_words: &str) -> Machine {
        let command_line = format!("{test_words} {COMMON_WORDS}");
        let module = self.has_module.then(project::test_kernel);
        let plain = Machine::from_kernel(project::test_kernel(), module, &command_line);
        Machine { board: self.board, cpu: self.cpu, memory_mib: self.memory_mib, ..plain }
    }

    fn test_name(&self, name: &str) -> String {
        let name = name.trim_start_matches("keel::").trim_start_matches("kernel_tests::");
        format!("kernel: {}{name}", self.label)
    }
}

/// The names of all in-kernel tests, in the order in which they run.
pub fn list() -> Result<Vec<String>, Failure> {
    let mut guest = Guest::start(&SETTINGS[0].machine("test=list"), "in-kernel tests list")?;
    guest.wait_for_end(Limit::guest_seconds(SILENCE_LIMIT_S))?;
    let text = guest.console.text();
    let name = |line| if let Some(Line::Test(name)) = parse(line) { Some(name) } else { None };
    let names: Vec<String> = text.lines().filter_map(name).collect();
    if names.is_empty() { Err(guest.failure("expected a list of the in-kernel tests")) } else { Ok(names) }
}

/// Jobs that run all tests in each setting, in as many boots side by side as there are threads.
pub fn jobs(threads: usize) -> Vec<Job> {
    let names = match list() {
        Ok(names) => Arc::new(names),
        Err(failure) => return vec![Job::test("kernel: do the in-kernel tests start?", || Err(failure))],
    };
    let share = names.len().div_ceil(threads.max(1));
    let ranges = (0..names.len()).step_by(share).map(|start| start..(start + share).min(names.len()));
    SETTINGS
        .iter()
        .flat_map(|setting| ranges.clone().map(move |range| (setting, range)))
        .map(|(setting, range)| {
            let names = Arc::clone(&names);
            let name = format!("in-kernel tests {}{range:?}", setting.label);
            Job::new(name, move |reporter| run_range(setting, &names, range, reporter))
        })
        .chain([bochs_job()])
        .collect()
}

/// What QEMU lets pass and real processors don't, Bochs refuses as they do: returns to addresses that aren't canonical.
fn bochs_job() -> Job {
    const GUEST_S: u64 = 60;
    Job::test("kernel: Bochs, returns to addresses that are not canonical", || {
        let line = format!("test=only:canonical {COMMON_WORDS}");
        let image = project::make_iso_of(&project::test_kernel(), "kernel-tests.iso", &[("CMDLINE", &line)])?;
        let mut guest = Bochs::start(&image, "corei7_sandy_bridge_2600k", GUEST_S)?;
        guest.wait_for_text("ktest: done")?;
        // The one that returns by IRETQ, and the one that must not return by SYSRET.
        match guest.serial_text().matches("ktest: ok ").count() {
            2 => Ok(()),
            count => Err(Failure::new(format!("expected two tests to pass, and {count} did"))),
        }
    })
}

/// Runs the tests of a range that are wanted, booting again behind each one that doesn't come back.
fn run_range(setting: &Setting, names: &[String], range: Range<usize>, reporter: &Reporter) {
    let mut next = range.start;
    while next < range.end {
        let wants = |name: &String| (setting.wants)(name) && reporter.wants(&setting.test_name(name));
        let Some(wanted) = names.get(next..range.end).and_then(|rest| unbroken_run(rest, wants)) else { return };
        let run = next + wanted.start..next + wanted.end;
        next = match run_boot(setting, names, run.clone(), reporter) {
            Ok(reached) => reached,
            // Nothing ran: the other tests of the range would meet the same.
            Err(failure) => {
                for name in names.get(run).unwrap_or_default() {
                    reporter.report(&setting.test_name(name), Err(failure.clone()), Duration::ZERO);
                }
                return;
            }
        };
    }
}

/// The first unbroken run of wanted tests.
fn unbroken_run(names: &[String], wants: impl Fn(&String) -> bool) -> Option<Range<usize>> {
    let start = names.iter().position(&wants)?;
    let length = names.iter().skip(start).position(|name| !wants(name));
    Some(start..length.map_or(names.len(), |length| start + length))
}

/// Boots once and reports tests until the range is done or one doesn't come back. Returns where to go on.
fn run_boot(setting: &Setting, names: &[String], range: Range<usize>, reporter: &Reporter) -> Result<usize, Failure> {
    let machine = setting.machine(&format!("test=from:{}", range.start));
    let mut guest = Guest::start(&machine, &format!("in-kernel tests {}{range:?}", setting.label))?;
    let limit = Limit::guest_seconds(SILENCE_LIMIT_S);
    let mut next = range.start;
    let mut started = Instant::now();
    let mut position = 0;
    while next < range.end {
        let name = names.get(next).map_or("", String::as_str);
        let expected = format!("the end of {name}");
        let line = match guest.wait_until(limit, &expected, |guest| Ok(guest.console.find_line(position, parse))) {
            Ok((line, end)) => {
                position = end;
                line
            }
            Err(failure) if guest.console.text().contains("ktest: start ") => {
                reporter.report(&setting.test_name(name), Err(failure), started.elapsed());
                return Ok(next + 1);
            }
            Err(failure) => return Err(failure),
        };
        let result = match line {
            Line::Start => {
                started = Instant::now();
                continue;
            }
            Line::Ok(ended) if ended == name => Ok(()),
            Line::Failed(ended, reason) if ended == name => {
                // The panic screen follows, then the machine restarts, which ends QEMU.
                let _ = guest.wait_for_end(Limit::guest_seconds(PANIC_SCREEN_LIMIT_S));
                reporter.report(&setting.test_name(name), Err(guest.failure(reason)), started.elapsed());
                return Ok(next + 1);
            }
            Line::Done => return Err(guest.failure(format!("{name} was never started"))),
            other => Err(guest.failure(format!("expected the result of {name}, and found {other:?}"))),
        };
        reporter.report(&setting.test_name(name), result, started.elapsed());
        next += 1;
    }
    Ok(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_report_are_understood() {
        assert_eq!(parse("ktest: test a::b"), Some(Line::Test("a::b".into())));
        assert_eq!(parse("ktest: start frames::fork"), Some(Line::Start));
        assert_eq!(parse("[    0.1] x ktest: ok a"), Some(Line::Ok("a".into())));
        assert_eq!(parse("ktest: failed a: 1 is not 2: no"), Some(Line::Failed("a".into(), "1 is not 2: no".into())));
        assert_eq!(parse("ktest: failed a"), Some(Line::Failed("a".into(), "no reason given".into())));
        assert_eq!(parse("ktest: done\n"), Some(Line::Done));
        assert_eq!(parse("ktest: a"), None);
        assert_eq!(parse("hello"), None);
    }
}
