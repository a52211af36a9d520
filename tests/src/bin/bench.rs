//! Behind tools/bench: `bench KERNEL.elf [OPERATION…]`; options come in the environment, as tools/bench says.

use keel_tests::bench::{self, Options};
use keel_tests::failure::Failure;
use keel_tests::project;
use std::env;
use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    match options().and_then(|options| Ok((bench::run(&options)?, options))) {
        Ok((table, options)) => {
            print!("{}", table.text());
            if options.kvm {
                println!("\nThe unit is a tick of the time-stamp counter: time on this machine's CPU.");
            } else if !bench::counts_instructions(&table) {
                println!("\nA turn of the empty loop isn't two instructions: this QEMU doesn't count them.");
                return ExitCode::FAILURE;
            }
            println!("\nThe same is in {}/bench.txt, .md, .tsv and .svg;", options.folder.display());
            println!("BASE=copy-of-bench.tsv compares a later run with this one.");
            if table.failed().is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(failure) => {
            eprint!("bench: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn options() -> Result<Options, Failure> {
    let set = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
    let mut arguments = env::args_os().skip(1);
    let kernel = arguments.next().ok_or_else(|| Failure::new("usage: bench KERNEL.elf [OPERATION…]"))?;
    let operations: Vec<String> = arguments.map(|name| name.to_string_lossy().into_owned()).collect();
    let linux = set("LINUX").unwrap_or_else(|| "linux-image-cloud-amd64".into());
    Ok(Options {
        kernel: project::root().join(kernel),
        operations: (!operations.is_empty()).then_some(operations),
        linux: (linux != "0").then_some(linux),
        base: set("BASE").map(|file| project::root().join(file)),
        kvm: set("KVM").is_some_and(|value| value != "0"),
        folder: set("FOLDER").map_or_else(|| project::root().join("target/bench"), PathBuf::from),
    })
}
