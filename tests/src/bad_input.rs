//! What is wrong with what the kernel was given is named on the console: never a hang, never a silent reset. And what a person
//! asked for reaches the kernel as it was meant.

use crate::failure::Failure;
use crate::programs::pack;
use crate::project::{self, TemporaryFolder};
use crate::qemu::{Guest, Idle, Limit, Machine, Start};
use crate::runner::Job;
use std::fs;
use std::path::PathBuf;

const LIMIT_S: u64 = 60;
/// What the kernel's built-in init asks with.
const FALLBACK_PROMPT: &str = "keel> ";

/// Boots by PVH and waits for a message.
fn expect(name: &str, initrd: Option<PathBuf>, command_line: &str, message: &str) -> Result<(), Failure> {
    let command_line = format!("console=ttyS0 {command_line}");
    let machine = Machine::from_kernel(project::kernel(), initrd, command_line.trim_end());
    let mut guest = Guest::start(&machine, name)?;
    guest.wait_for_text(0, message, Limit::guest_seconds(LIMIT_S)).map(drop)
}

fn job(name: &'static str, test: impl FnOnce(&str) -> Result<(), Failure> + Send + 'static) -> Job {
    let name = format!("bad input: {name}");
    Job::test(name.clone(), move || test(&name))
}

/// Writes a file that serves as initrd.
fn initrd(name: &str, content: &[u8]) -> Result<PathBuf, Failure> {
    let file = project::artifacts()?.join(name);
    fs::write(&file, content)?;
    Ok(file)
}

/// An archive with a file that is large enough to be cut in its middle.
fn archive(name: &str) -> Result<Vec<u8>, Failure> {
    let folder = TemporaryFolder::new()?;
    fs::write(folder.path().join("large"), vec![b'x'; 100_000])?;
    let file = project::artifacts()?.join(name);
    pack(folder.path(), &file)?;
    Ok(fs::read(file)?)
}

pub fn jobs() -> Vec<Job> {
    vec![
        job("is a missing initrd named?", |name| expect(name, None, "", "There is no initrd")),
        job("is an initrd that is no tar archive named?", |name| {
            expect(name, Some(initrd("no-tar", &[0x5a; 5000])?), "", "this is no tar archive")
        }),
        job("is an archive that is cut short named, and does Keel go on?", |name| {
            let bytes = archive("whole.tar")?;
            let cut = initrd("cut.tar", bytes.get(..50_000).unwrap_or_default())?;
            expect(name, Some(cut.clone()), "", "the archive ends within an entry")?;
            expect(name, Some(cut), "", FALLBACK_PROMPT)
        }),
        job("is an initrd without an init named?", |name| {
            expect(name, Some(initrd("no-init.tar", &archive("whole.tar")?)?), "", "There is no init")
        }),
        job("is an init that doesn't exist named?", |name| expect(name, None, "init=/no/such/init", "/no/such/init")),
        job("is a command line of 10,000 characters cut with a warning?", |name| {
            // Through GRUB, in words that it can hold: QEMU's PVH start overwrites its information with so long a line.
            let line = format!("console=ttyS0 {}", "ninechars ".repeat(1_000));
            let image = project::make_iso("long-line.iso", &[("CMDLINE", &line)])?;
            let mut guest = Guest::start(&Machine::from_image(Start::Cd(image)), name)?;
            guest.wait_for_text(0, "the command line has 1", Limit::guest_seconds(LIMIT_S)).map(drop)
        }),
        job("does the embedded init power the machine off when it is told to?", |name| {
            let machine = Machine::from_kernel(project::kernel(), None, "console=ttyS0");
            let mut guest = Guest::start(&Machine { idle: Idle::RealTime, ..machine }, name)?;
            guest.wait_for_text(0, FALLBACK_PROMPT, Limit::guest_seconds(LIMIT_S))?;
            guest.console.send("poweroff\n")?;
            let status = guest.wait_for_end(Limit::guest_seconds(LIMIT_S))?;
            if status.success() { Ok(()) } else { Err(guest.failure(format!("QEMU ended with {status}"))) }
        }),
        Job::test("image: does CMDLINE reach the kernel through GRUB as it was meant?", command_line_through_grub),
        Job::test("image: does OVERLAY keep modes, symlinks, empty folders, and give all to root?", overlay_is_kept),
        Job::test("image: can two be made at once?", two_images_at_once),
    ]
}

fn command_line_through_grub() -> Result<(), Failure> {
    let line = r#"console=ttyS0 mark=$HOME;#{x} -- one "two  words""#;
    let image = project::make_iso("command-line.iso", &[("CMDLINE", line)])?;
    let mut guest = Guest::start(&Machine::from_image(Start::Cd(image)), "command line through GRUB")?;
    guest.wait_for_text(0, &format!("command line: {line}"), Limit::guest_seconds(LIMIT_S)).map(drop)
}

fn overlay_is_kept() -> Result<(), Failure> {
    let folder = TemporaryFolder::new()?;
    let script = r#"
        mkdir -p overlay/empty overlay/bin && chmod 1777 overlay/empty && chmod 700 overlay
        echo text > overlay/bin/program && chmod 4755 overlay/bin/program && ln overlay/bin/program overlay/bin/twin
        ln -s ../bin/program overlay/link
        OVERLAY=overlay "$0" out.tar && tar --numeric-owner -tvf out.tar | awk '{ print $1, $2, $6, $7, $8 }'
    "#;
    let tool = project::root().join("tools/make-initrd");
    let script = script.replace("OVERLAY=overlay \"$0\" out.tar", "\"$0\" out.tar overlay");
    let output =
        std::process::Command::new("bash").args(["-euc", &script]).arg(tool).current_dir(folder.path()).output()?;
    let listing = String::from_utf8_lossy(&output.stdout).into_owned();
    for expected in ["drwxrwxrwt 0/0 empty/", "-rwsr-xr-x 0/0 bin/program", "lrwxrwxrwx 0/0 link -> ../bin/program"] {
        if !listing.lines().any(|line| line.trim_end() == expected) {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(Failure::new(format!("expected {expected:?} in the archive's listing"))
                .with_guest_output(&format!("{listing}{said}")));
        }
    }
    Ok(())
}

fn two_images_at_once() -> Result<(), Failure> {
    let make = |name: &'static str, line: &'static str| {
        std::thread::spawn(move || project::make_iso(name, &[("CMDLINE", line)]))
    };
    let makers = [make("one.iso", "mark=one"), make("two.iso", "mark=two")];
    let mut images = Vec::new();
    for maker in makers {
        let image = maker.join().map_err(|_| Failure::new("make-iso's thread panicked"))??;
        images.push(fs::read(image)?);
    }
    let holds = |image: &[u8], mark: &[u8]| image.windows(mark.len()).any(|window| window == mark);
    if holds(&images[0], b"mark=one") && holds(&images[1], b"mark=two") && !holds(&images[0], b"mark=two") {
        return Ok(());
    }
    Err(Failure::new("each image should hold its own command line and no other"))
}
