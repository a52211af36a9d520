//! Words on the kernel's command line that change what programs find: each is given, and programs look.

use crate::failure::Failure;
use crate::programs::pack;
use crate::project::{self, TemporaryFolder};
use crate::qemu::{Guest, Limit, Machine};
use crate::runner::Job;
use std::path::PathBuf;
use std::sync::OnceLock;

const LIMIT_S: u64 = 60;
/// What user/'s runner says at its end.
const END: &str = "programs were run";

pub fn jobs() -> Vec<Job> {
    vec![
        Job::test("options: does wx=deny refuse what is to be written and executed?", || {
            let answers = answers("wx=deny", "write_and_execute")?;
            let refused_and_granted = [
                "a mapping to write and execute: errno 13",
                "one without reading: errno 13",
                "a shared one: errno 13",
                "writing pages that are to be executed as well: errno 13",
                "writing pages that are to be executed instead: granted",
                "what was written returns 42",
                "executed pages that are to be written as well: errno 13",
                "executed pages that are to be written instead: granted",
                "a stack to be executed as well: errno 13",
            ];
            if answers == refused_and_granted { Ok(()) } else { Err(unexpected(&answers)) }
        }),
        Job::test("options: are addresses random without norandmaps?", || {
            let told = answers("", "addresses")?;
            let [first, second] = told.as_slice() else { return Err(unexpected(&told)) };
            if first == second { Err(unexpected(&told)) } else { Ok(()) }
        }),
        Job::test("options: does norandmaps fix them, until randomize_va_space says otherwise?", || {
            let told = answers("norandmaps", "addresses ../bin/sh")?;
            let [fixed, again, random, other, off, still_off] = told.as_slice() else { return Err(unexpected(&told)) };
            let fixed_again = [again, off, still_off].iter().all(|line| *line == fixed);
            // Right below where Linux begins with mappings for a stack of 8 MiB.
            let as_on_linux = fixed.contains(" mapping 0x7ffff7ff");
            let both_random = random != fixed && other != fixed && random != other;
            if fixed_again && as_on_linux && both_random { Ok(()) } else { Err(unexpected(&told)) }
        }),
    ]
}

fn unexpected(told: &[String]) -> Failure {
    Failure::new(format!("the programs printed {told:#?}"))
}

/// What the programs of user/tests/options.list print of themselves, those whose line starts with one of the words.
fn answers(option: &str, programs: &str) -> Result<Vec<String>, Failure> {
    let line = format!("init=/tests/runner quiet panic=-1 console=ttyS0 {option} -- /tests/options.list {programs}");
    let machine = Machine::from_kernel(project::kernel(), Some(initrd()?), &line);
    let mut guest = Guest::start(&machine, &format!("options {option}"))?;
    guest.wait_for_text(0, END, Limit::guest_seconds(LIMIT_S))?;
    let text = guest.console.text();
    let of_programs = text.find("=== ").zip(text.find(END)).and_then(|(start, end)| text.get(start..end));
    Ok(of_programs.unwrap_or_default().lines().filter(|line| !line.starts_with("===")).map(str::to_owned).collect())
}

/// An initrd of user/'s programs, made once.
fn initrd() -> Result<PathBuf, Failure> {
    static INITRD: OnceLock<Result<PathBuf, Failure>> = OnceLock::new();
    let make = || {
        let folder = TemporaryFolder::new()?;
        let destination = format!("DESTDIR={}", folder.path().display());
        project::run("make", &["-s", "-C", "user", "install", &destination], &[])?;
        let archive = project::artifacts()?.join("options.tar");
        pack(folder.path(), &archive)?;
        Ok(archive)
    };
    INITRD.get_or_init(make).clone()
}
