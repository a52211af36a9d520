//! What `make test` asks of `make bench`, by a few operations: that runs are the same, that Keel's shell comes up in as little memory
//! as promised, and that Keel's figures come without a network.

use super::{LEAST_MEMORY, Options, SIZE, keels_sizes, run};
use crate::failure::Failure;
use crate::project::{self, TemporaryFolder};
use crate::runner::Job;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

/// A call, a switch, a fault and processes: cheap ones of each kind.
const OPERATIONS: [&str; 6] = [
    "empty loop",
    "getppid",
    "yield between two",
    "anonymous write fault",
    "fork, exit, wait",
    "thread create and join",
];

/// From the machine's start and from the kernel's entry.
const ROWS_OF_THE_START: usize = 2;

/// `program` is the one behind tools/bench.
pub fn jobs(program: &'static str) -> Vec<Job> {
    vec![
        Job::test("bench: do three runs give the same figures?", three_runs),
        Job::test("bench: in how little memory does Keel's shell come up?", least_memory),
        Job::test("bench: is Keel measured where no package can be had?", move || without_packages(Path::new(program))),
        Job::test("bench: does KVM=1 count instructions where KVM gets nowhere?", without_kvm),
    ]
}

fn operations() -> Vec<String> {
    OPERATIONS.map(str::to_owned).to_vec()
}

fn options(folder: &str, operations: Option<Vec<String>>) -> Result<Options, Failure> {
    let folder = project::artifacts()?.join(folder);
    Ok(Options { kernel: project::kernel(), operations, linux: None, base: None, kvm: false, folder })
}

fn three_runs() -> Result<(), Failure> {
    let options = options("bench", Some(operations()))?;
    let mut tables = Vec::new();
    for _ in 0..3 {
        let table = run(&options)?;
        if table.keel.len() != OPERATIONS.len() + ROWS_OF_THE_START || !table.failed().is_empty() {
            return Err(Failure::new(format!("not every operation has a figure:\n{}", table.text())));
        }
        tables.push(table.tsv());
    }
    if tables.iter().all(|table| *table == tables[0]) { Ok(()) } else { Err(Failure::new(tables.join("\n"))) }
}

/// As much as README promises, or less.
fn least_memory() -> Result<(), Failure> {
    const PROMISED_MIB: f64 = 24.0;
    let figures = keels_sizes(&options("bench-memory", None)?)?;
    let figure = |name: &str| figures.iter().find(|(known, _)| known == name).and_then(|(_, figure)| figure.cheapest());
    match (figure(LEAST_MEMORY), figure(SIZE)) {
        (Some(least), Some(size)) if least <= PROMISED_MIB && size / 1024.0 < least => Ok(()),
        _ => Err(Failure::new(format!("expected a prompt in {PROMISED_MIB} MiB: {figures:?}"))),
    }
}

/// Commands that stand before the real ones in PATH.
struct Fakes {
    folder: TemporaryFolder,
}

impl Fakes {
    fn new(names: &[&str], script: &str) -> Result<Fakes, Failure> {
        let folder = TemporaryFolder::new()?;
        for name in names {
            let file = folder.path().join(name);
            fs::write(&file, format!("#!/bin/sh\n{script}\n"))?;
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755))?;
        }
        Ok(Fakes { folder })
    }

    fn path(&self) -> String {
        format!("{}:{}", self.folder.path().display(), std::env::var("PATH").unwrap_or_default())
    }
}

/// As on a machine without a network: apt's commands are there, and fail.
fn without_packages(program: &Path) -> Result<(), Failure> {
    let fakes = Fakes::new(&["apt-get", "apt-cache"], "echo 'no network' >&2\nexit 100")?;
    let mut command = Command::new(program);
    command.env("LINUX", "").env("KVM", "");
    only_keel(command.env("PATH", fakes.path()), "bench-alone", "no Linux here")
}

/// As where /dev/kvm is there, and its machines get nowhere.
fn without_kvm() -> Result<(), Failure> {
    let real = "exec /usr/bin/qemu-system-x86_64 \"$@\"";
    let script = format!("case \"$*\" in *'-accel kvm'*) exec sleep 300 ;; *) {real} ;; esac");
    let fakes = Fakes::new(&["qemu-system-x86_64"], &script)?;
    let mut command = Command::new(project::root().join("tools/bench"));
    command.env("LINUX", "0").env("KVM", "1");
    only_keel(command.env("PATH", fakes.path()), "bench-without-kvm", "going on without KVM")
}

/// Measures two operations. Keel's figures in instructions, and nothing else, must come, and a word about why.
fn only_keel(command: &mut Command, folder: &str, word: &str) -> Result<(), Failure> {
    command.arg(project::kernel()).args(["empty loop", "getppid"]).env("BASE", "");
    let output = command.env("FOLDER", project::artifacts()?.join(folder)).output()?;
    let (told, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let has_row = |start: &str| told.lines().any(|line| line.starts_with(start));
    let counted =
        has_row("getppid ") && told.lines().any(|line| line.split_whitespace().eq(["empty", "loop", "2.0", "2.0"]));
    if output.status.success() && said.contains(word) && counted && !told.contains("Linux, lean") {
        return Ok(());
    }
    Err(Failure::new(format!("Keel's column alone was expected, and that it says {word:?}"))
        .with_guest_output(&format!("{told}{said}")))
}
