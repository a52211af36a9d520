//! Linux is the oracle: the programs under user/ run on this machine first, and what they print and return here is what Keel
//! must give. user/'s runner runs a list of them, on Linux as a program and in Keel as init, and prints for each:
//!
//! ```text
//! === NAME
//! (its output)
//! === NAME: exited with status 0
//! ```
//!
//! What can't run on Linux has its expected output in a file instead.

use crate::failure::Failure;
use crate::project::{self, TemporaryFolder};
use crate::qemu::{Guest, Limit, Machine};
use crate::runner::{Job, Reporter};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The runner's own limit for a program, unless its line of the list names one.
const USUAL_LIMIT_S: u64 = 60;
/// A program that runs so much longer, in guest time, has hung, and the runner with it.
const LIMIT_MARGIN_S: u64 = 30;
/// Guest time goes by faster than at shift 0, so that a program that spins until its limit costs less of the host's.
const SHIFT: u32 = 3;
/// Programs a boot: few enough that several boots share the work, and that one that kills the kernel costs little.
const PROGRAMS_A_BOOT: usize = 15;

/// What one program printed, and its ending.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Section {
    name: String,
    output: String,
    ending: String,
}

/// Splits what the runner printed. A section that was cut short is left out.
fn sections(text: &str) -> Vec<Section> {
    let mut sections = Vec::new();
    let mut open: Option<Section> = None;
    for line in text.lines() {
        match (&mut open, line.strip_prefix("=== ")) {
            (Some(section), Some(title))
                if title.strip_prefix(&section.name).is_some_and(|rest| rest.starts_with(": ")) =>
            {
                section.ending = title[section.name.len() + 2..].to_owned();
                sections.extend(open.take());
            }
            (_, Some(title)) => {
                open = Some(Section { name: title.to_owned(), output: String::new(), ending: String::new() });
            }
            (Some(section), None) if !is_kernel_log(line) => {
                section.output.push_str(line);
                section.output.push('\n');
            }
            _ => {}
        }
    }
    sections
}

/// A text without the line that is still on its way.
fn whole_lines(text: &str) -> &str {
    &text[..text.rfind('\n').map_or(0, |end| end + 1)]
}

/// A line of the kernel's log, `[    0.012345] area: text`, which may come between a program's lines.
fn is_kernel_log(line: &str) -> bool {
    let Some((stamp, _)) = line.strip_prefix('[').and_then(|rest| rest.split_once("] ")) else { return false };
    let stamp = stamp.trim_start();
    stamp.len() >= 8 && stamp.contains('.') && stamp.chars().all(|c| c.is_ascii_digit() || c == '.')
}

/// The lines of a list that name a program, as the runner sees them.
fn list_entries(list: &str) -> Vec<String> {
    list.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect()
}

/// An entry's name in the runner's report: the line without its time limit.
fn entry_name(entry: &str) -> &str {
    match entry.strip_prefix('@').and_then(|rest| rest.split_once(' ')) {
        Some((_, rest)) => rest.trim(),
        None => entry,
    }
}

/// How long we wait for an entry's end: a little longer than the runner.
fn entry_limit(entry: &str) -> Limit {
    let named = entry.strip_prefix('@').and_then(|rest| rest.split_once(' ')).and_then(|(limit, _)| limit.parse().ok());
    let guest_s = named.unwrap_or(USUAL_LIMIT_S) + LIMIT_MARGIN_S;
    Limit { guest_s, wall: Duration::from_secs(guest_s * 4 / 3) }
}

/// The programs, installed into a folder as they will be in the initrd.
struct Installed {
    folder: TemporaryFolder,
}

impl Installed {
    fn new() -> Result<Installed, Failure> {
        let folder = TemporaryFolder::new()?;
        let destination = format!("DESTDIR={}", folder.path().display());
        project::run("make", &["-s", "-C", "user", "install", &destination], &[])?;
        // Programs by others, from other compilers: they must run as they are.
        project::run(project::root().join("tools/real-programs"), &[&folder.path().to_string_lossy()], &[])?;
        Ok(Installed { folder })
    }

    fn tests(&self) -> PathBuf {
        self.folder.path().join("tests")
    }

    /// Runs a list on this machine.
    fn run_on_linux(&self, list: &str) -> Result<Vec<Section>, Failure> {
        let output = Command::new(self.tests().join("runner")).arg(self.tests().join(list)).output()?;
        let sections = sections(&String::from_utf8_lossy(&output.stdout).replace('\r', ""));
        if sections.is_empty() {
            let text = [output.stdout, output.stderr].concat();
            return Err(Failure::new(format!("user/'s runner printed nothing of use for {list} on Linux"))
                .with_guest_output(&String::from_utf8_lossy(&text)));
        }
        Ok(sections)
    }

    /// Packs an initrd with one more list in it.
    fn pack(&self, list_name: &str, entries: &[String]) -> Result<PathBuf, Failure> {
        fs::write(self.tests().join(list_name), entries.join("\n") + "\n")?;
        let archive = project::artifacts()?.join(format!("{list_name}.tar"));
        pack(self.folder.path(), &archive)?;
        Ok(archive)
    }
}

/// Makes a tar archive of a folder's contents, owned by root.
pub fn pack(folder: &Path, archive: &Path) -> Result<(), Failure> {
    let (archive, folder) = (archive.to_string_lossy(), folder.to_string_lossy());
    project::run(
        "tar",
        &["--create", "--owner=0", "--group=0", "--numeric-owner", "--sort=name", "-f", &archive, "-C", &folder, "."],
        &[],
    )
}

/// Programs to run in one boot, and what each must give.
struct Batch {
    number: usize,
    entries: Vec<String>,
    expected: Vec<Section>,
    installed: Arc<Installed>,
}

fn test_name(section: &str) -> String {
    format!("program: {section}")
}

/// Jobs that run every list of user/'s tests in Keel.
pub fn jobs() -> Vec<Job> {
    let failed = |failure| vec![Job::test("programs: do they build, and run on Linux?", || Err(failure))];
    match batches() {
        Ok(batches) => batches
            .into_iter()
            .map(|batch| Job::new(format!("programs, part {}", batch.number), move |reporter| batch.run(reporter)))
            .collect(),
        Err(failure) => failed(failure),
    }
}

fn batches() -> Result<Vec<Batch>, Failure> {
    let installed = Arc::new(Installed::new()?);
    let mut pairs: Vec<(String, Section)> = Vec::new();
    let lists = [
        ("real.list", None),
        ("oracle.list", None),
        ("keel.list", Some("keel.expected")),
        ("attack.list", Some("attack.expected")),
    ];
    for (list, recorded) in lists {
        let Ok(text) = fs::read_to_string(installed.tests().join(list)) else { continue };
        let expected = match recorded {
            None => installed.run_on_linux(list)?,
            Some(file) => sections(&fs::read_to_string(installed.tests().join(file))?),
        };
        for entry in list_entries(&text) {
            let section = expected.iter().find(|section| section.name == entry_name(&entry)).cloned();
            let section = section.ok_or_else(|| Failure::new(format!("{list}: nothing is known of {entry:?}")))?;
            pairs.push((entry, section));
        }
    }
    let batches = pairs.chunks(PROGRAMS_A_BOOT).enumerate();
    Ok(batches
        .map(|(number, pairs)| {
            let (entries, expected) = pairs.iter().cloned().unzip();
            Batch { number, entries, expected, installed: Arc::clone(&installed) }
        })
        .collect())
}

impl Batch {
    /// Runs the wanted programs; behind one that takes the kernel down, another boot goes on.
    fn run(&self, reporter: &Reporter) {
        let wanted = |section: &&Section| reporter.wants(&test_name(&section.name));
        let mut names: Vec<&str> = self.expected.iter().filter(wanted).map(|section| section.name.as_str()).collect();
        while !names.is_empty() {
            let entries: Vec<String> =
                self.entries.iter().filter(|entry| names.contains(&entry_name(entry))).cloned().collect();
            let reported = match self.boot(&entries, reporter) {
                Ok(reported) => reported,
                // Nothing at all was run, and nothing will be in another boot.
                Err((0, failure)) if !failure.guest_said("=== ") => {
                    for name in names {
                        reporter.report(&test_name(name), Err(failure.clone()), Duration::ZERO);
                    }
                    return;
                }
                Err((reported, failure)) => {
                    let name = names.get(reported).copied().unwrap_or("the end of the list");
                    reporter.report(&test_name(name), Err(failure), Duration::ZERO);
                    reported + 1
                }
            };
            names.drain(..reported.min(names.len()));
        }
    }

    /// Boots with a list. On success the number of programs reported; else also what went wrong with the next one.
    fn boot(&self, entries: &[String], reporter: &Reporter) -> Result<usize, (usize, Failure)> {
        let list = format!("part{}.list", self.number);
        let command_line = format!("init=/tests/runner quiet panic=-1 console=ttyS0 -- /tests/{list}");
        let mut guest = self
            .installed
            .pack(&list, entries)
            .and_then(|initrd| {
                let machine = Machine::from_kernel(project::kernel(), Some(initrd), &command_line);
                let machine = Machine { memory_mib: 512, shift: SHIFT, ..machine };
                Guest::start(&machine, &format!("programs {}", self.number))
            })
            .map_err(|failure| (0, failure))?;
        let mut reported = 0;
        while reported < entries.len() {
            let entry = entries.get(reported).map_or("", |entry| entry);
            let name = entry_name(entry);
            let started = Instant::now();
            let ended = guest.wait_until(entry_limit(entry), &format!("the end of {name}"), |guest| {
                Ok(sections(whole_lines(&guest.console.text())).into_iter().nth(reported))
            });
            let section = ended.map_err(|failure| (reported, failure))?;
            reporter.report(&test_name(name), self.judge(&section, &guest), started.elapsed());
            reported += 1;
        }
        Ok(reported)
    }

    fn judge(&self, found: &Section, guest: &Guest) -> Result<(), Failure> {
        let Some(expected) = self.expected.iter().find(|section| section.name == found.name) else {
            return Err(guest.failure(format!("{} was run, which nobody asked for", found.name)));
        };
        if found == expected { Ok(()) } else { Err(guest.failure(difference(expected, found))) }
    }
}

/// Says where two sections part.
fn difference(expected: &Section, found: &Section) -> String {
    let with_ending = |section: &Section| format!("{}({})\n", section.output, section.ending);
    let (expected, found) = (with_ending(expected), with_ending(found));
    let (mut expected, mut found) = (expected.lines(), found.lines());
    let mut number = 0;
    loop {
        number += 1;
        match (expected.next(), found.next()) {
            (Some(left), Some(right)) if left == right => {}
            (None, None) => return "the same lines, parted differently".into(),
            (left, right) => {
                let shown = |line: Option<&str>| line.map_or("nothing more".into(), |line| format!("{line:?}"));
                return format!("line {number}: expected {}, found {}", shown(left), shown(right));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = "boot\n=== hello\nHello\n[    0.123456] exec: x\n=== hello: exited with status 0\n=== status 3\n\
                          === status 3: exited with status 3\n=== cut\nshort\n";

    #[test]
    fn a_report_is_split_into_programs_without_the_kernels_log() {
        let found = sections(REPORT);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].output, "Hello\n");
        assert_eq!(found[0].ending, "exited with status 0");
        assert_eq!(found[1].name, "status 3");
    }

    #[test]
    fn a_line_that_is_still_on_its_way_does_not_count() {
        assert!(sections(whole_lines("=== hello\nHello\n=== hello: exi")).is_empty());
        assert_eq!(whole_lines("no end"), "");
    }

    #[test]
    fn a_lists_comments_and_time_limits_are_no_names() {
        let entries = list_entries("# which?\n\nhello\n@5 spin \"a b\"\n");
        assert_eq!(entries, ["hello", "@5 spin \"a b\""]);
        assert_eq!(entry_name(&entries[1]), "spin \"a b\"");
    }

    #[test]
    fn the_first_differing_line_is_named() {
        let section =
            |output: &str, ending: &str| Section { name: "x".into(), output: output.into(), ending: ending.into() };
        assert_eq!(difference(&section("a\nb\n", "0"), &section("a\nc\n", "0")), "line 2: expected \"b\", found \"c\"");
        assert_eq!(difference(&section("a\n", "0"), &section("a\n", "1")), "line 2: expected \"(0)\", found \"(1)\"");
    }
}
