//! What does the kernel say when it fails itself? The kernel for the in-kernel tests has a thread, named "doomed", that
//! fails in the way it is told.

use crate::failure::Failure;
use crate::project;
use crate::qemu::{Guest, Limit, Machine};
use crate::runner::Job;

const LIMIT_S: u64 = 30;

pub fn jobs() -> Vec<Job> {
    let dies = |question: &str, way: &'static str, says: &'static [&'static str]| {
        Job::test(format!("panic: {question}"), move || dies(way, says))
    };
    vec![
        dies(
            "is a kernel stack that overflows reported, by thread?",
            "stack",
            &["kernel stack overflow of", "\"doomed\""],
        ),
        dies(
            "is a frame that is larger than the guard below the stack reported as well?",
            "large-frame",
            &["kernel stack overflow of", "\"doomed\""],
        ),
        dies(
            "is a boot stack that overflows reported?",
            "boot-stack",
            &["kernel stack overflow of the boot code", "not present"],
        ),
        dies("is a null pointer told in words?", "null", &["not present", "a null pointer was followed", "\"doomed\""]),
        dies(
            "does a panic inside a panic still end in a message?",
            "twice",
            &["the first", "within a panic: and again"],
        ),
        comes("is a non-maskable interrupt told?", "nmi", "non-maskable interrupt"),
        // Bank 0 of CPU 0: valid, uncorrected, enabled, context corrupt.
        comes("is a machine check told?", "mce 0 0 0xb200000000000000 0x5 0 0", "machine check"),
    ]
}

/// What the hardware reports of itself, by a command of QEMU's monitor.
fn comes(question: &str, command: &'static str, says: &'static str) -> Job {
    Job::test(format!("panic: {question}"), move || {
        let mut machine = Machine::from_kernel(project::test_kernel(), None, "console=ttyS0 test=crash:wait");
        machine.cpu = "max";
        let mut guest = Guest::start(&machine, "panic")?;
        let limit = Limit::guest_seconds(LIMIT_S);
        let position = guest.wait_for_text(0, "crash: waiting", limit)?;
        guest.monitor(command)?;
        guest.wait_for_text(position, says, limit).map(|_| ())
    })
}

fn dies(way: &str, says: &[&str]) -> Result<(), Failure> {
    let line = format!("console=ttyS0 test=crash:{way}");
    let mut guest = Guest::start(&Machine::from_kernel(project::test_kernel(), None, &line), "panic")?;
    says.iter().try_for_each(|text| guest.wait_for_text(0, text, Limit::guest_seconds(LIMIT_S)).map(|_| ()))
}
