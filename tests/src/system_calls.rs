//! docs/syscalls.md: every call that Keel has, made from what is true elsewhere and compared with it by `make test`:
//!
//! - number, name, arguments and file from src/syscall/table.rs;
//! - what is left out from the line `/// Left out: …` above the function that implements it;
//! - the tests from watching the conformance cases on this machine (`conformance calls all`).
//!
//! Which calls a case makes can differ a little from run to run and from user to user. So the page names a few cases for each
//! call, ones that always made it, for root and for others, and while the machine was busy; the comparison asks whether all of
//! them exist and one of them makes it, watching them again if none did. Where ptrace isn't allowed,
//! it says so, and asks only whether they exist.

use crate::failure::Failure;
use crate::project::{self, TemporaryFolder};
use crate::runner::Job;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

/// How many cases are named for a call: those that make the fewest others.
const NAMED: usize = 3;
const UNTESTED: &str = "**none**";
const MORE: &str = "*more*";
const COMMAND: &str = "tools/syscalls-table";
/// How often cases are watched before the page names them, and at most before one is said not to make a call.
const ROUNDS: usize = 3;
/// A user without rights.
const NOBODY: u32 = 65534;

/// A call, as the table and its function tell of it.
#[derive(Debug, PartialEq, Eq)]
struct SystemCall {
    number: u32,
    name: String,
    arguments: Vec<String>,
    module: String,
    left_out: String,
}

/// What watching showed.
#[derive(Debug)]
struct Coverage {
    /// For each case the numbers of the calls that it makes.
    cases: BTreeMap<String, BTreeSet<u32>>,
    /// Why nothing could be watched here: the sets are empty then.
    unwatched: Option<String>,
}

/// `9 => memory::mmap(address: u64, length: u64);`
fn parse_entry(line: &str) -> Option<SystemCall> {
    let (number, rest) = line.trim().split_once(" => ")?;
    let (module, rest) = rest.split_once("::")?;
    let (name, rest) = rest.split_once('(')?;
    let arguments = rest.strip_suffix(");")?.split(", ").filter_map(|argument| argument.split_once(':'));
    Some(SystemCall {
        number: number.parse().ok()?,
        name: name.to_owned(),
        arguments: arguments.map(|(argument, _)| argument.to_owned()).collect(),
        module: module.to_owned(),
        left_out: String::new(),
    })
}

/// What the comment above a public function says to be left out.
fn left_out(source: &str, name: &str) -> String {
    let head = format!("pub fn {name}(");
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let Some(at) = lines.iter().position(|line| line.starts_with(&head)) else { return String::new() };
    let above = lines[..at].iter().rev().take_while(|line| line.starts_with("///") || line.starts_with("#["));
    let note = above.filter_map(|line| line.strip_prefix("/// Left out: ")).next();
    note.map_or_else(String::new, |note| note.trim_end_matches('.').to_owned())
}

fn system_calls() -> Result<Vec<SystemCall>, Failure> {
    let folder = project::root().join("src/syscall");
    let table = fs::read_to_string(folder.join("table.rs"))?;
    let mut calls: Vec<SystemCall> = table.lines().filter_map(parse_entry).collect();
    for call in &mut calls {
        let source = fs::read_to_string(folder.join(format!("{}.rs", call.module)))?;
        call.left_out = left_out(&source, &call.name);
    }
    Ok(calls)
}

/// `FAMILY.CASE<TAB>NUMBER NUMBER …`, or the reason instead of the numbers.
fn parse_coverage(text: &str) -> Result<Coverage, Failure> {
    let mut coverage = Coverage { cases: BTreeMap::new(), unwatched: None };
    for line in text.lines() {
        let (case, told) = line.split_once('\t').ok_or_else(|| Failure::new(format!("no line of a case: {line}")))?;
        let numbers: Result<BTreeSet<u32>, _> = told.split_whitespace().map(str::parse).collect();
        if numbers.is_err() {
            coverage.unwatched = Some(told.to_owned());
        }
        coverage.cases.insert(case.to_owned(), numbers.unwrap_or_default());
    }
    if coverage.cases.is_empty() { Err(Failure::new("the conformance program told nothing")) } else { Ok(coverage) }
}

/// The program of cases, where every user may execute it.
fn conformance() -> Result<(TemporaryFolder, PathBuf), Failure> {
    project::run("make", &["-s", "-C", "user", "rust"], &[])?;
    let built = project::root().join("user/target/x86_64-unknown-linux-gnu/release/conformance");
    let folder = TemporaryFolder::new()?;
    let program = folder.path().join("conformance");
    fs::copy(built, &program)?;
    Ok((folder, program))
}

/// Watches the cases as this user or another.
fn watch(program: &Path, user: Option<u32>, cases: &[&str]) -> Result<Coverage, Failure> {
    let mut command = Command::new(program);
    if let Some(user) = user {
        command.uid(user).gid(user);
    }
    let output = command.arg("calls").args(cases).output()?;
    parse_coverage(&String::from_utf8_lossy(&output.stdout))
}

/// What the cases do each time, for this user and, if this is root, for one without rights too. All rounds at once: what
/// depends on who is first differs then.
fn dependable_coverage() -> Result<Coverage, Failure> {
    let (_folder, program) = conformance()?;
    let users = if fs::metadata("/proc/self")?.uid() == 0 { vec![None, Some(NOBODY)] } else { vec![None] };
    let rounds: Vec<Result<Coverage, Failure>> = thread::scope(|scope| {
        let rounds = users.iter().cycle().take(users.len() * ROUNDS);
        let watching: Vec<_> = rounds.map(|user| scope.spawn(|| watch(&program, *user, &["all"]))).collect();
        let panicked = |_| Err(Failure::new("the thread panicked"));
        watching.into_iter().map(|round| round.join().unwrap_or_else(panicked)).collect()
    });
    let mut rounds = rounds.into_iter();
    let mut coverage = rounds.next().unwrap_or_else(|| Err(Failure::new("there were no rounds")))?;
    for round in rounds {
        let other = round?;
        for (case, calls) in &mut coverage.cases {
            calls.retain(|call| other.cases.get(case).is_some_and(|others| others.contains(call)));
        }
        coverage.unwatched = coverage.unwatched.or(other.unwatched);
    }
    Ok(coverage)
}

/// What the cases do, those of calls that none seems to make watched a few times.
fn coverage_for(text: &str, calls: &[SystemCall]) -> Result<Coverage, Failure> {
    let (_folder, program) = conformance()?;
    let mut coverage = watch(&program, None, &["all"])?;
    for _ in 1..ROUNDS {
        let unmade = calls.iter().filter(|call| !is_made(text, call, &coverage));
        let again: Vec<&str> = unmade.flat_map(|call| named_in(text, call)).collect();
        if again.is_empty() {
            break;
        }
        for (case, calls) in watch(&program, None, &again)?.cases {
            coverage.cases.entry(case).or_default().extend(calls);
        }
    }
    Ok(coverage)
}

/// The cases that are named for a call, and whether there are more.
fn named(coverage: &Coverage, number: u32) -> (Vec<&str>, bool) {
    let mut cases: Vec<(usize, &str)> = coverage
        .cases
        .iter()
        .filter(|(_, calls)| calls.contains(&number))
        .map(|(case, calls)| (calls.len(), case.as_str()))
        .collect();
    cases.sort_unstable();
    (cases.iter().take(NAMED).map(|(_, case)| *case).collect(), cases.len() > NAMED)
}

fn row(call: &SystemCall, tests: &str) -> String {
    format!(
        "| {} | `{}({})` | [{module}.rs](../src/syscall/{module}.rs) | {tests} | {} |\n",
        call.number,
        call.name,
        call.arguments.join(", "),
        call.left_out,
        module = call.module
    )
}

fn page(calls: &[SystemCall], tests: impl Fn(&SystemCall) -> String) -> String {
    let mut text = format!(
        "# The system calls\n\nMade by `{COMMAND}` from the table in src/syscall/table.rs, the functions' comments and the \
         conformance\ntests; `make test` compares it with them. The numbers are Linux's; every number that isn't here is answered \
         by ENOSYS.\nA test is FAMILY.CASE of `user/tests`: Linux on the build host answers it first, and Keel must answer the \
         same. Named are\nthose that make the fewest other calls, found by watching them with ptrace; *more* says that others \
         make the call, too.\n\n\
         | number | call | file | tests | left out |\n|---:|---|---|---|---|\n"
    );
    for call in calls {
        text += &row(call, &tests(call));
    }
    text
}

/// The page as it must be now.
pub fn made() -> Result<String, Failure> {
    let coverage = dependable_coverage()?;
    if let Some(reason) = coverage.unwatched {
        return Err(Failure::new(format!("the cases can't be watched here: {reason}")));
    }
    let tests = |call: &SystemCall| match named(&coverage, call.number) {
        (cases, _) if cases.is_empty() => UNTESTED.to_owned(),
        (cases, true) => format!("{}, {MORE}", cases.join(", ")),
        (cases, false) => cases.join(", "),
    };
    Ok(page(&system_calls()?, tests))
}

pub fn path() -> PathBuf {
    project::root().join("docs/syscalls.md")
}

/// What a page has in the column of tests.
fn told(text: &str, number: u32) -> &str {
    let row = text.lines().find(|line| line.starts_with(&format!("| {number} |")));
    row.and_then(|row| row.split(" | ").nth(3)).unwrap_or_default()
}

/// The tests that a page names for a call.
fn named_in<'a>(text: &'a str, call: &SystemCall) -> impl Iterator<Item = &'a str> {
    told(text, call.number).split(", ").filter(|case| ![MORE, UNTESTED].contains(case))
}

/// Does one of the tests that a page names for a call make it?
fn is_made(text: &str, call: &SystemCall, coverage: &Coverage) -> bool {
    let makes = |case: &str| coverage.cases.get(case).is_some_and(|calls| calls.contains(&call.number));
    coverage.unwatched.is_some() || told(text, call.number) == UNTESTED || named_in(text, call).any(makes)
}

/// What is no longer true of a page.
fn stale(text: &str, calls: &[SystemCall], coverage: &Coverage) -> Vec<String> {
    let mut stale = Vec::new();
    // The column of tests is asked about; everything else must be the same to the letter.
    if page(calls, |call| told(text, call.number).to_owned()) != text {
        stale.push("the calls, their arguments, files, or what is left out".to_owned());
    }
    for call in calls {
        let gone = named_in(text, call).filter(|case| !coverage.cases.contains_key(*case));
        stale.extend(gone.map(|case| format!("{}: there is no test {case:?}", call.name)));
        if told(text, call.number) == UNTESTED && !named(coverage, call.number).0.is_empty() {
            stale.push(format!("{}: there is a test now", call.name));
        }
        if !is_made(text, call, coverage) {
            stale.push(format!("{}: none of its tests makes this call", call.name));
        }
    }
    stale
}

/// The one test that `make test` has of it.
pub fn jobs() -> Vec<Job> {
    vec![Job::test("docs: is the page of system calls current?", || {
        let text = fs::read_to_string(path())?;
        let calls = system_calls()?;
        let coverage = coverage_for(&text, &calls)?;
        if let Some(reason) = &coverage.unwatched {
            println!(
                "docs/syscalls.md: which calls the tests make is not compared, since they can't be watched here: {reason}"
            );
        }
        let stale = stale(&text, &calls, &coverage);
        if stale.is_empty() {
            return Ok(());
        }
        Err(Failure::new(format!("docs/syscalls.md is stale; {COMMAND} makes it anew:\n  {}", stale.join("\n  "))))
    })]
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "/// Maps.\n/// Left out: MAP_HUGETLB.\n#[inline]\npub fn mmap(\n) {}\n\npub fn munmap() {}\n";

    fn calls() -> Vec<SystemCall> {
        let lines = ["    9 => memory::mmap(address: u64, length: u64);", "    11 => memory::munmap();"];
        let mut calls: Vec<SystemCall> = lines.into_iter().filter_map(parse_entry).collect();
        for call in &mut calls {
            call.left_out = left_out(SOURCE, &call.name);
        }
        calls
    }

    fn made_page(coverage: &Coverage) -> String {
        page(&calls(), |call| match named(coverage, call.number).0.as_slice() {
            [] => UNTESTED.into(),
            cases => cases.join(", "),
        })
    }

    #[test]
    fn a_call_is_told_with_its_file_and_what_is_left_out() {
        let calls = calls();
        assert_eq!((calls[0].number, calls[0].arguments.len(), calls[0].left_out.as_str()), (9, 2, "MAP_HUGETLB"));
        assert_eq!((calls[1].arguments.len(), calls[1].left_out.as_str()), (0, ""));
        assert_eq!(parse_entry("pub static TABLE: x = {"), None);
    }

    #[test]
    fn a_page_grows_stale_with_what_it_is_made_from() {
        let coverage = parse_coverage("memory.maps\t9 12\nmemory.simple\t9\n").unwrap();
        let text = made_page(&coverage);
        assert!(text.contains("| 9 | `mmap(address, length)` | [memory.rs](../src/syscall/memory.rs) | memory.simple, memory.maps | MAP_HUGETLB |"));
        assert!(text.contains("| **none** |"));
        assert!(stale(&text, &calls(), &coverage).is_empty());
        let mut other = calls();
        other[0].left_out.clear();
        assert_eq!(stale(&text, &other, &coverage).len(), 1, "a flag was added");
        let mut more = calls();
        more.push(SystemCall { number: 12, ..calls().remove(0) });
        assert!(!stale(&text, &more, &coverage).is_empty(), "a call was added");
        let without = parse_coverage("memory.simple\t9\n").unwrap();
        assert!(stale(&text, &calls(), &without)[0].contains("no test \"memory.maps\""), "a test is gone");
        let changed = parse_coverage("memory.maps\t12\nmemory.simple\t9\n").unwrap();
        assert!(stale(&text, &calls(), &changed).is_empty(), "another test still makes the call");
        let lost = parse_coverage("memory.maps\t12\nmemory.simple\t12\n").unwrap();
        assert!(stale(&text, &calls(), &lost)[0].contains("mmap: none of its tests"), "no test makes the call");
        let with = parse_coverage("memory.maps\t9 11\nmemory.simple\t9\n").unwrap();
        assert!(stale(&text, &calls(), &with)[0].contains("there is a test now"));
    }

    #[test]
    fn where_nothing_can_be_watched_the_cases_must_still_exist() {
        let watched = parse_coverage("memory.maps\t9 12\n").unwrap();
        let text = made_page(&watched);
        let unwatched = parse_coverage("memory.maps\tptrace: EPERM\n").unwrap();
        assert_eq!(unwatched.unwatched.as_deref(), Some("ptrace: EPERM"));
        assert!(stale(&text, &calls(), &unwatched).is_empty());
        let renamed = parse_coverage("memory.mapped\tptrace: EPERM\n").unwrap();
        assert!(stale(&text, &calls(), &renamed)[0].contains("memory.maps"));
        assert!(parse_coverage("").is_err());
    }
}
