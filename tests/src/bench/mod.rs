//! `make bench`: what each operation of user/bench costs on Keel and on Debian's Linux, in guest instructions.
//!
//! Under TCG with `-icount shift=0` the TSC counts guest instructions, the same in each run. Linux runs twice: lean (on the
//! CPU model that Keel has, its mitigations and audits off), which the ratio is against, and as Debian ships it.

pub mod archives;
pub mod chart;
pub mod figures;
pub mod guest;
pub mod jobs;
pub mod kernel_size;
pub mod table;

use crate::failure::Failure;
use crate::project;
use archives::Archives;
use figures::{Figure, Figures};
use guest::SetUp;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use table::Table;

const LEAST_MEMORY: &str = "least memory to a shell's prompt, MiB";
const SIZE: &str = "kernel in memory, KiB";
/// Where the search for the least memory begins.
const KEEL_MEMORY_MIB: u32 = 64;
const LINUX_MEMORY_MIB: u32 = 128;
/// The unit's check: a turn of the empty loop is two instructions.
const LOOP: (&str, f64) = ("empty loop", 2.0);

/// What is to be measured, and against what.
#[derive(Debug, Clone)]
pub struct Options {
    pub kernel: PathBuf,
    /// None: all of them, and the rows that aren't operations.
    pub operations: Option<Vec<String>>,
    /// Debian's package of a Linux kernel; None leaves Linux out.
    pub linux: Option<String>,
    /// An earlier run's table.
    pub base: Option<PathBuf>,
    pub kvm: bool,
    /// Where logs and results go.
    pub folder: PathBuf,
}

/// One kernel, what it starts from, and where the search for its least memory begins.
struct Candidate {
    set_up: SetUp,
    bench: PathBuf,
    system: PathBuf,
    memory_mib: u32,
}

/// Measures, and leaves the results as text, Markdown, tab-separated values and a chart in the folder.
pub fn run(options: &Options) -> Result<Table, Failure> {
    fs::create_dir_all(&options.folder)?;
    let base = options.base.as_ref().map(|file| read_base(file)).transpose()?;
    tell("building the measured program, and Keel's own");
    project::run("make", &["-s", "-C", "user", "rust"], &[])?;
    let (bench, system) = (archives::of_bench(&options.folder)?, archives::of_system(&options.folder)?);
    let keel = keel(options, &bench, &system);
    let [lean, shipped] = match &options.linux {
        Some(package) if !options.kvm => {
            tell(&format!("looking for Debian's {package}, which is fetched once"));
            linux(package, &bench, &system).map(|pair| pair.map(Some)).unwrap_or_else(|failure| {
                tell(&format!("no Linux here ({}): only Keel's figures", failure.reason()));
                [None, None]
            })
        }
        _ => [None, None],
    };
    tell(if lean.is_some() { "running: some minutes, most of them Linux's" } else { "running" });
    // Two at a time: instructions are counted, so that neither changes the other's figures.
    let (keel, lean, shipped) = thread::scope(|scope| {
        let lean = scope.spawn(|| lean.map(|lean| lean.figures(options)));
        let keel = keel.figures(options);
        let shipped = shipped.map(|shipped| shipped.figures(options));
        (keel, lean.join().unwrap_or_else(|_| Some(Err(Failure::new("the thread panicked")))), shipped)
    });
    let table = Table { keel: keel?, lean: lean.and_then(usable), shipped: shipped.and_then(usable), base };
    leave(&table, &options.folder)?;
    Ok(table)
}

/// Says on standard error what goes on: the table is on standard output.
fn tell(what: &str) {
    eprintln!("bench: {what}");
}

/// Linux's figures are welcome, and not a condition.
fn usable(figures: Result<Figures, Failure>) -> Option<Figures> {
    figures.inspect_err(|failure| tell(&format!("without a column of Linux's: {failure}"))).ok()
}

fn read_base(file: &Path) -> Result<Figures, Failure> {
    let about = |reason: &str| Failure::new(format!("BASE={}: {reason}", file.display()));
    let text = fs::read_to_string(file).map_err(|error| about(&error.to_string()))?;
    figures::parse_base(&text).map_err(|failure| about(failure.reason()))
}

fn keel(options: &Options, bench: &Archives, system: &Archives) -> Candidate {
    Candidate {
        set_up: SetUp {
            name: "keel",
            kernel: options.kernel.clone(),
            words: "",
            cpu: guest::LEAN_CPU,
            kvm: options.kvm,
        },
        bench: bench.tar.clone(),
        system: system.tar.clone(),
        memory_mib: KEEL_MEMORY_MIB,
    }
}

/// Keel's rows that aren't operations.
fn keels_sizes(options: &Options) -> Result<Figures, Failure> {
    fs::create_dir_all(&options.folder)?;
    let system = archives::of_system(&options.folder)?;
    keel(options, &system, &system).sizes(&options.folder)
}

fn linux(package: &str, bench: &Archives, system: &Archives) -> Result<[Candidate; 2], Failure> {
    let (Some(bench), Some(system)) = (&bench.cpio, &system.cpio) else {
        return Err(Failure::new("its archive can't be made without cpio"));
    };
    let kernel = archives::linux(package)?;
    let candidate = |name, words, cpu| Candidate {
        set_up: SetUp { name, kernel: kernel.clone(), words, cpu, kvm: false },
        bench: bench.clone(),
        system: system.clone(),
        memory_mib: LINUX_MEMORY_MIB,
    };
    Ok([candidate("lean", guest::LEAN_WORDS, guest::LEAN_CPU), candidate("shipped", "", guest::SHIPPED_CPU)])
}

impl Candidate {
    fn figures(&self, options: &Options) -> Result<Figures, Failure> {
        let wanted = options.operations.as_deref().unwrap_or_default();
        let mut figures = figures::parse(&self.set_up.measure(&self.bench, wanted, &options.folder)?)?;
        let name = match self.set_up.name {
            "keel" => "Keel".to_owned(),
            linux => format!("Linux, {linux}"),
        };
        tell(&format!("{name}: {} figures", figures.len()));
        if options.operations.is_none() && !self.set_up.kvm {
            tell(&format!("{name}: looking for the least memory, by boots with less and less"));
            figures.extend(self.sizes(&options.folder)?);
        }
        Ok(figures)
    }

    /// The rows that aren't operations: the least memory, and the kernel's own share of it.
    fn sizes(&self, folder: &Path) -> Result<Figures, Failure> {
        let mut log = None;
        let least = guest::least(self.memory_mib, |memory_mib| {
            let output = self.set_up.boot_to_prompt(&self.system, memory_mib, folder)?;
            let boots = output.is_some();
            log = log.take().or(output);
            Ok(boots)
        })?;
        let file = fs::read(&self.set_up.kernel)?;
        let size = kernel_size::of_elf(&file).ok().or_else(|| kernel_size::of_linux(&log.unwrap_or_default()));
        let figure = |value: Option<f64>, reason: &str| value.map_or(Figure::Failed(reason.into()), Figure::exact);
        let least = figure(least.map(f64::from), &format!("no prompt in {} MiB", self.memory_mib));
        let size = figure(size.map(|bytes| bytes as f64 / 1024.0), "the log doesn't tell it");
        Ok(vec![(LEAST_MEMORY.into(), least), (SIZE.into(), size)])
    }
}

fn leave(table: &Table, folder: &Path) -> Result<(), Failure> {
    fs::write(folder.join("bench.txt"), table.text())?;
    fs::write(folder.join("bench.md"), table.markdown())?;
    fs::write(folder.join("bench.tsv"), table.tsv())?;
    if let Some(svg) = chart::svg(table) {
        fs::write(folder.join("bench.svg"), svg)?;
    }
    Ok(())
}

/// False if the unit isn't an instruction after all.
pub fn counts_instructions(table: &Table) -> bool {
    let found = table.keel.iter().find(|(name, _)| name == LOOP.0);
    found.is_none_or(|(_, figure)| figure.cheapest().is_some_and(|turn| (turn - LOOP.1).abs() < 0.05))
}
