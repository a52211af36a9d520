//! The boot matrix: the one image on every kind of machine, each until init's first line is on the serial line and on the
//! screen. A few of them, chosen to meet each kind of difference, run with every `make test`.

use crate::bochs::Bochs;
use crate::failure::Failure;
use crate::qemu::{Guest, Limit, Machine, Start};
use crate::runner::Job;
use std::path::{Path, PathBuf};

/// The first line that init prints.
pub const FIRST_LINE: &str = "init: Keel is up";
/// Firmware, boot loader and kernel together take a few seconds of guest time.
const BOOT_LIMIT: u64 = 120;
const BOCHS_LIMIT: u64 = 200;

/// Which images the machines boot.
#[derive(Debug, Clone)]
pub struct Images {
    pub image: PathBuf,
    /// The same, made with SCREEN=text.
    pub text_image: PathBuf,
}

/// Jobs for the machines that stand for all others.
pub fn representative_jobs(images: &Images) -> Vec<Job> {
    let cd = Machine::from_image(Start::Cd(images.image.clone()));
    let disk = Machine::from_image(Start::Disk(images.image.clone()));
    let text = Machine::from_image(Start::Cd(images.text_image.clone()));
    vec![
        boot_test("pc, BIOS, CD, 24 MiB, Opteron_G1", Machine { memory_mib: 24, cpu: "Opteron_G1", ..cd.clone() }),
        boot_test(
            "q35, UEFI, disk, max, 4 CPUs",
            Machine { board: "q35", uefi: true, cpu: "max", cpus: 4, memory_mib: 256, ..disk.clone() },
        ),
        boot_test(
            "q35, BIOS, disk, 6 GiB, Nehalem",
            Machine { board: "q35", memory_mib: 6144, cpu: "Nehalem", ..disk },
        ),
        boot_test(
            "pc, BIOS, CD, text screen, without NX and global pages",
            Machine { memory_mib: 64, cpu: "qemu64,-nx,-pge", ..text },
        ),
        boot_test("pc, BIOS, CD, no serial port, no keyboard", Machine { board: "pc,i8042=off", serial: false, ..cd }),
        bochs_test(&images.image, "athlon64_clawhammer"),
    ]
}

/// Jobs for all machines.
pub fn all_jobs(images: &Images) -> Vec<Job> {
    let mut jobs = Vec::new();
    for board in ["pc", "q35"] {
        for uefi in [false, true] {
            for start in [Start::Cd(images.image.clone()), Start::Disk(images.image.clone())] {
                let name = format!(
                    "{board}, {}, {}",
                    if uefi { "UEFI" } else { "BIOS" },
                    if matches!(start, Start::Cd(_)) { "CD" } else { "disk" }
                );
                let memory_mib = if uefi { 256 } else { 128 };
                jobs.push(boot_test(&name, Machine { board, uefi, memory_mib, ..Machine::from_image(start) }));
            }
        }
    }
    let plain = Machine::from_image(Start::Cd(images.image.clone()));
    for cpu in ["qemu64", "Opteron_G1", "Conroe", "Nehalem", "max", "qemu64,-nx", "qemu64,-pge", "qemu64,-nx,-pge"] {
        jobs.push(boot_test(&format!("CPU {cpu}"), Machine { cpu, ..plain.clone() }));
    }
    for memory_mib in [24, 64, 1024, 6144] {
        jobs.push(boot_test(&format!("{memory_mib} MiB"), Machine { memory_mib, ..plain.clone() }));
    }
    for cpus in [1, 4] {
        jobs.push(boot_test(&format!("{cpus} CPUs"), Machine { cpus, ..plain.clone() }));
    }
    jobs.push(boot_test("no serial port", Machine { serial: false, ..plain.clone() }));
    jobs.push(boot_test("no keyboard", Machine { board: "pc,i8042=off", ..plain }));
    jobs.push(boot_test("text screen", Machine::from_image(Start::Cd(images.text_image.clone()))));
    for cpu in ["athlon64_clawhammer", "p4_prescott_celeron_336", "corei7_sandy_bridge_2600k"] {
        jobs.push(bochs_test(&images.image, cpu));
    }
    jobs
}

fn boot_test(machine_name: &str, machine: Machine) -> Job {
    let name = format!("boot: {machine_name}");
    Job::test(name.clone(), move || boot_in_qemu(&name, &machine))
}

fn boot_in_qemu(name: &str, machine: &Machine) -> Result<(), Failure> {
    let mut guest = Guest::start(&Machine { keep_when_off: true, ..machine.clone() }, name)?;
    let limit = Limit::guest_seconds(BOOT_LIMIT);
    if machine.serial {
        guest.wait_for_text(0, FIRST_LINE, limit)?;
    }
    // What is on the serial line is on the screen too, or never will be; meanwhile the idle guest's clock flies.
    guest.wait_for_screen(FIRST_LINE, Limit { guest_s: limit.guest_s * 100, ..limit }, name)
}

fn bochs_test(image: &Path, cpu: &'static str) -> Job {
    let name = format!("boot: Bochs, {cpu}");
    let image = image.to_path_buf();
    Job::test(name.clone(), move || {
        let mut guest = Bochs::start(&image, cpu, BOCHS_LIMIT)?;
        guest.wait_for_text(FIRST_LINE)?;
        guest.wait_for_screen(FIRST_LINE, &name)
    })
}
