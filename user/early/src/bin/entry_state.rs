//! Is a new image entered in the state that the ABI promises? Registers, flags, FPU, stack alignment, and each entry of
//! the auxiliary vector, compared with what the kernel says elsewhere.
//!
//! With the arguments `sweep`, it executes itself with each argc from 0 to 16 and each envc from 0 to 16, and reports
//! how many of the 289 images found their stack aligned and their vectors whole.

#![no_std]
#![no_main]

use core::ffi::{CStr, c_char};
use core::ptr::null;
use runtime::process::auxiliary as key;
use runtime::syscall::{self, Ending, Fork, number};
use runtime::{EntryRegisters, Process, println};

runtime::entry!(main);

const LIMIT: usize = 16;
/// The status by which an image of the sweep says that all is well.
const WHOLE: i32 = 42;
/// The first string of an image's environment, or its only argument: tells it that it belongs to the sweep.
const MARK: &CStr = c"entry_state_sweep";

fn main(process: &Process) -> i32 {
    let registers = runtime::entry_registers();
    if process.argument(1) == Some(c"sweep") {
        return sweep(process);
    }
    if is_part_of_sweep(process) {
        return if vectors_are_whole(process, &registers) { WHOLE } else { 1 };
    }
    report_registers(&registers);
    report_auxiliary(process);
    0
}

fn say(question: &str, yes: bool) {
    println!("{question}: {}", if yes { "yes" } else { "NO" });
}

fn report_registers(registers: &EntryRegisters) {
    say("stack pointer is a multiple of 16", registers.stack_pointer.is_multiple_of(16));
    for (name, value) in runtime::GENERAL_NAMES.iter().zip(registers.general) {
        if value != 0 {
            println!("{name} is not zero: {value:#x}");
        }
    }
    say("general registers are zero", registers.general.iter().all(|&value| value == 0));
    // IF (bit 9) and the bit that is always one: nothing else.
    say("flags are clean", registers.flags == 0x202);
    say("mxcsr has its initial value", registers.mxcsr == 0x1f80);
    say("x87 control word has its initial value", registers.fpu_control == 0x37f);
    say("vector registers are zero", registers.xmm == [0; 2]);
    say("ds, es, fs, gs are null", registers.segments == [0; 4]);
}

fn report_auxiliary(process: &Process) {
    let is = |name: &str, key: usize, holds: &dyn Fn(usize) -> bool| {
        let answer = match process.auxiliary(key) {
            Some(value) if holds(value) => "as expected",
            Some(_) => "WRONG",
            None => "absent",
        };
        println!("AT_{name}: {answer}");
    };
    let entry = entry_point();
    is("PHDR", key::PHDR, &|value| phdr_is_in_image(value));
    is("PHENT", key::PHENT, &|value| value == 56);
    is("PHNUM", key::PHNUM, &|value| (1..=16).contains(&value));
    is("PAGESZ", key::PAGESZ, &|value| value == 4096);
    is("BASE", key::BASE, &|value| value == 0);
    is("FLAGS", key::FLAGS, &|value| value == 0);
    is("ENTRY", key::ENTRY, &|value| value == entry);
    is("UID", key::UID, &|value| value == syscall::identity(number::GETUID));
    is("EUID", key::EUID, &|value| value == syscall::identity(number::GETEUID));
    is("GID", key::GID, &|value| value == syscall::identity(number::GETGID));
    is("EGID", key::EGID, &|value| value == syscall::identity(number::GETEGID));
    is("SECURE", key::SECURE, &|value| value == 0);
    is("CLKTCK", key::CLKTCK, &|value| value == 100);
    // CPUID leaf 1: EDX is what Linux gives as AT_HWCAP.
    is("HWCAP", key::HWCAP, &|value| value == core::arch::x86_64::__cpuid(1).edx as usize);
    is("HWCAP2", key::HWCAP2, &|_| true);
    is("PLATFORM", key::PLATFORM, &|value| string_at(value) == c"x86_64");
    is("EXECFN", key::EXECFN, &|value| Some(string_at(value)) == process.argument(0));
    is("RANDOM", key::RANDOM, &|value| random_looks_random(value));
    is("MINSIGSTKSZ", key::MINSIGSTKSZ, &|value| value >= 1024);
}

fn entry_point() -> usize {
    unsafe extern "C" {
        fn _start();
    }
    _start as *const () as usize
}

fn phdr_is_in_image(address: usize) -> bool {
    // The headers are mapped with the image's first page, which precedes its code.
    address < entry_point() && entry_point() - address < 1 << 20
}

fn string_at(address: usize) -> &'static CStr {
    // SAFETY: AT_PLATFORM and AT_EXECFN point to strings at the top of the stack, which nothing overwrites.
    unsafe { CStr::from_ptr(address as *const c_char) }
}

fn random_looks_random(address: usize) -> bool {
    // SAFETY: AT_RANDOM points to 16 bytes at the top of the stack.
    let bytes = unsafe { core::slice::from_raw_parts(address as *const u8, 16) };
    let first = bytes[0];
    // All bytes equal by chance: once in 2^120 starts.
    bytes.iter().any(|&byte| byte != first)
}

fn is_part_of_sweep(process: &Process) -> bool {
    let last = process.argument_count().checked_sub(1).and_then(|index| process.argument(index));
    process.environment().next() == Some(MARK) || last == Some(MARK) || last == Some(c"")
}

/// Are the strings those that the sweep passed, and do both vectors end where they should?
fn vectors_are_whole(process: &Process, registers: &EntryRegisters) -> bool {
    let arguments_hold = process.arguments().all(|argument| argument == MARK || argument == c"");
    let environment_holds = process.environment().all(|string| string == MARK);
    // SAFETY: index argc of the vector is its closing NULL.
    let closed = unsafe { (*process.argument_pointers().add(process.argument_count())).is_null() };
    registers.stack_pointer.is_multiple_of(16)
        && registers.general.iter().all(|&value| value == 0)
        && arguments_hold
        && environment_holds
        && closed
        && process.auxiliary(key::PAGESZ) == Some(4096)
}

fn sweep(process: &Process) -> i32 {
    let Some(path) = process.argument(0) else { return 1 };
    let mut whole = 0;
    for argument_count in 0..=LIMIT {
        for environment_count in 0..=LIMIT {
            if execute(path, argument_count, environment_count) {
                whole += 1;
            } else {
                println!("argc {argument_count}, envc {environment_count}: NOT WHOLE");
            }
        }
    }
    println!("{whole} of {} images entered as the ABI says", (LIMIT + 1) * (LIMIT + 1));
    0
}

fn execute(path: &CStr, argument_count: usize, environment_count: usize) -> bool {
    let mut arguments = [null(); LIMIT + 1];
    let mut environment = [null(); LIMIT + 1];
    arguments[..argument_count].fill(MARK.as_ptr());
    environment[..environment_count].fill(MARK.as_ptr());
    match syscall::fork() {
        Ok(Fork::Child) => {
            // SAFETY: both vectors hold strings and end with a NULL, as one element more than LIMIT is never filled.
            unsafe { syscall::execve(path, arguments.as_ptr(), environment.as_ptr()) };
            syscall::exit(127)
        }
        Ok(Fork::Parent(child)) => syscall::wait(child, 0) == Ok(Some((child, Ending::Exited(WHOLE)))),
        Err(_) => false,
    }
}
