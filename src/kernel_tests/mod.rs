//! Tests that run in the kernel, on the machine: what no host test can show.
//!
//! A test is a function declared by [`kernel_test!`]; it fails by panicking. The command line says which run: `test=list`
//! prints their names, `test=from:N` runs the N-th and those after it, `test=only:NAME` those whose name contains NAME.
//! Each is reported on the serial line as it ends; a panic ends the kernel, and whoever started it goes on with the next
//! one in a new machine. So one failing or hanging test hides no other.

mod cpu;
mod crash;
mod exec;
mod exec_atomicity;
mod exec_switches;
mod interrupts;
mod memory;
pub mod probe;
mod programs;
mod scheduling;
mod user_access;
mod user_mode;

use crate::boot::command_line::CommandLine;
use crate::drivers::serial;
use crate::lock::{IrqLock, Rank};
use crate::task::kernel_thread;
use core::fmt::Write;
use core::slice;

#[repr(C)]
pub struct KernelTest {
    pub name: &'static str,
    pub run: fn(),
}

/// Declares tests: `kernel_test! { fn its_name_says_what_holds() { … } }`.
#[macro_export]
macro_rules! kernel_test {
    ($($(#[$attribute:meta])* fn $name:ident() $body:block)*) => {
        $(
            $(#[$attribute])*
            fn $name() $body

            const _: () = {
                #[used]
                #[unsafe(link_section = ".kernel_test_table")]
                static ENTRY: $crate::kernel_tests::KernelTest = $crate::kernel_tests::KernelTest {
                    name: concat!(module_path!(), "::", stringify!($name)),
                    run: $name,
                };
            };
        )*
    };
}

#[allow(improper_ctypes, reason = "the symbols are linker.ld's; no C reads them")]
unsafe extern "C" {
    static kernel_test_table_start: KernelTest;
    static kernel_test_table_end: KernelTest;
}

/// What the runner is to do, and what it is doing.
static SELECTION: IrqLock<Selection> = IrqLock::new(Rank::Console, Selection { from: 0, only: None, running: None });

struct Selection {
    from: usize,
    only: Option<arrayvec::ArrayString<128>>,
    running: Option<&'static str>,
}

/// Starts the tests that the command line asks for, in a kernel thread. False if it asks for none.
pub fn start(command_line: &CommandLine) -> bool {
    let Some(request) = command_line.test() else { return false };
    if request == "list" {
        all().iter().for_each(|test| report("test", test.name, ""));
        finish();
    }
    if let Some(kind) = request.strip_prefix("crash:") {
        crash::start(kind);
        return true;
    }
    let mut selection = SELECTION.lock();
    if let Some(number) = request.strip_prefix("from:") {
        selection.from = number.parse().unwrap_or(0);
    } else if let Some(name) = request.strip_prefix("only:") {
        selection.only = arrayvec::ArrayString::from(name).ok();
    }
    drop(selection);
    kernel_thread::spawn("kernel tests", run_all, 0).expect("a thread for the tests");
    true
}

/// The test during which the kernel panics has failed. Called by the panic screen, before anything that could go wrong.
pub fn report_panic(message: &dyn core::fmt::Display) {
    let running = SELECTION.try_lock().and_then(|selection| selection.running);
    if let Some(name) = running {
        say(format_args!("\nktest: failed {name}: {message}\n"));
    }
}

extern "C" fn run_all(_: usize) {
    let (from, only) = {
        let selection = SELECTION.lock();
        (selection.from, selection.only)
    };
    for test in all().iter().skip(from) {
        if only.is_some_and(|only| !test.name.contains(only.as_str())) {
            continue;
        }
        report("start", test.name, "");
        SELECTION.lock().running = Some(test.name);
        (test.run)();
        SELECTION.lock().running = None;
        report("ok", test.name, "");
    }
    finish();
}

fn all() -> &'static [KernelTest] {
    let (start, end) = (&raw const kernel_test_table_start, &raw const kernel_test_table_end);
    // SAFETY: linker.ld lays all entries between the two symbols and nothing else; they are all of this type.
    unsafe { slice::from_raw_parts(start, end.offset_from(start) as usize) }
}

/// Straight to the serial port: the console may be what is being tested.
fn say(text: core::fmt::Arguments) {
    struct Serial;
    impl core::fmt::Write for Serial {
        fn write_str(&mut self, text: &str) -> core::fmt::Result {
            serial::write(text.as_bytes());
            Ok(())
        }
    }
    // Writing to the port doesn't fail.
    let _ = Serial.write_fmt(text);
}

fn report(what: &str, name: &str, detail: &str) {
    say(format_args!("ktest: {what} {name}{detail}\n"));
}

fn finish() -> ! {
    say(format_args!("ktest: done\n"));
    // SAFETY: QEMU's isa-debug-exit device, which the harness attaches at this port; the write ends the machine.
    unsafe { x86_64::instructions::port::Port::<u32>::new(0xf4).write(0) };
    loop {
        x86_64::instructions::hlt();
    }
}
