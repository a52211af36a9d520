//! execve: do files load as they should, is a failed one invisible, and does nothing stay behind?

use super::programs::{self, run, spawn, wait, write_file};
use crate::cpu::features::features;
use crate::cpu::gdt;
use crate::cpu::segments::UserSegments;
use crate::errno::Errno;
use crate::exec::KernelArguments;
use crate::exec::elf_maker::{self, ElfMaker, Header, Outcome, R, W, cases};
use crate::fault_injection::{self, Point};
use crate::kernel_test;
use crate::syscall::argument::Fd;
use crate::syscall::exec::execute;
use crate::task::current;
use crate::task::family::Status;
use crate::task::thread::Thread;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
use x86_64::registers::control::Cr3;

const SECOND_NS: u64 = 1_000_000_000;

fn outcome(result: Result<Status, Errno>) -> Outcome {
    match result {
        Ok(Status::Exited(status)) => Outcome::Exits(status),
        Ok(_) => Outcome::Dies,
        Err(errno) => Outcome::Refused(errno),
    }
}

fn write_elf(path: &str, code: &[u8]) {
    write_file(path, &ElfMaker::program(code).bytes());
}

kernel_test! {
    fn each_made_file_runs_or_is_refused() {
        programs::make_directory("/t");
        let mut wrong = Vec::new();
        for case in cases("/t") {
            if let Some((name, bytes)) = &case.companion {
                write_file(&format!("/t/{name}"), bytes);
            }
            let path = format!("/t/{}", case.name);
            write_file(&path, &case.file);
            let found = outcome(run(&path, &[b"x"], &[], 5 * SECOND_NS));
            // Without NX what can be read can run.
            let runs_without_nx = case.name == "entry_not_executable" && !features().nx;
            let expected = if runs_without_nx { Outcome::Exits(elf_maker::STATUS) } else { case.keel };
            if found != expected {
                wrong.push(format!("{}: {found:?} instead of {expected:?}", case.name));
            }
            programs::remove_file(&path);
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    fn every_number_of_arguments_leaves_the_entry_state_clean() {
        write_elf("/state", &elf_maker::examine_entry());
        for argument_count in 0..=16 {
            for environment_count in 0..=16 {
                let arguments = [&b"argument"[..]; 16];
                let environment = [&b"NAME=value"[..]; 16];
                let result =
                    run("/state", &arguments[..argument_count], &environment[..environment_count], SECOND_NS);
                assert_eq!(result, Ok(Status::Exited(0)), "{argument_count} arguments, {environment_count} variables");
            }
        }
    }

    fn a_chain_of_10_000_leaves_nothing_behind() {
        write_elf("/chain", &elf_maker::execute_again());
        let once = |count: &[u8]| assert_eq!(run("/chain", &[b"/chain", count], &[], 600 * SECOND_NS), Ok(Status::Exited(42)));
        // Long enough for every cache, and for a tick to have fallen on each part of it.
        once(b"03000");
        let before = programs::memory_in_use();
        once(b"10000");
        assert_eq!(programs::memory_in_use(), before);
    }

    fn a_failure_at_any_point_leaves_the_caller_as_it_was() {
        write_elf("/caller", &elf_maker::exit_with(1));
        let target = ElfMaker::relocatable(&elf_maker::exit_with(42)).with_interpreter(b"/loader\0");
        let data = Header::load(R | W, 0x1000, 0x1_0000, 0x123, 0x3000);
        write_file("/target", &target.with_bytes(0x1000, &[7; 0x200]).with(data).bytes());
        write_file("/loader", &ElfMaker::relocatable(&elf_maker::exit_with(42)).bytes());
        write_file("/script", b"#!/target with an argument\n");
        assert_eq!(run("/script", &[b"x"], &[], SECOND_NS), Ok(Status::Exited(42)));
        let try_all = || {
            let thread = spawn(execute_with_failures, 0).expect("a process");
            assert_eq!(wait(thread, 60 * SECOND_NS), Status::Exited(42));
            programs::memory_in_use()
        };
        // Failures fill the heap's caches in other ways than success does: some rounds, then nothing may grow any more.
        let before = (0..5).fold(None, |_, _| Some(try_all()));
        assert_eq!(Some(try_all()), before);
        let points = POINTS.load(Relaxed);
        log::info!(target: "test", "{points} points of failure in execve tried");
        assert!(points > 20, "only {points} points");
    }

    fn mutated_files_do_no_harm() {
        programs::make_directory("/m");
        let cases: Vec<_> = cases("/m").into_iter().filter(|case| case.file.len() <= 0x3000).collect();
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = move || {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random
        };
        let mut results = [0; 3];
        let mut before = None;
        for number in 0..2100 {
            if number == 100 {
                // By now every cache has what it needs.
                programs::remove_file("/m/file");
                programs::remove_file("/m/interpreter");
                before = Some(programs::memory_in_use());
            }
            let case = &cases[next() as usize % cases.len()];
            let mut file = case.file.clone();
            for _ in 0..next() % 6 + 1 {
                mutate(&mut file, next(), next());
            }
            write_file("/m/interpreter", case.companion.as_ref().map_or(&file, |(_, bytes)| bytes));
            write_file("/m/file", &file);
            match outcome(run("/m/file", &[b"x", b"y"], &[b"A=B"], SECOND_NS / 50)) {
                Outcome::Exits(_) => results[0] += 1,
                Outcome::Dies => results[1] += 1,
                Outcome::Refused(_) => results[2] += 1,
            }
        }
        programs::remove_file("/m/file");
        programs::remove_file("/m/interpreter");
        let [ran, died, refused] = results;
        log::info!(target: "test", "of 2,100 mutated files {ran} ran to an exit, {died} died, {refused} were refused");
        assert_eq!(Some(programs::memory_in_use()), before);
    }

    fn test_exec_updates_process_pt() {
        write_elf("/spin", &elf_maker::spin());
        let thread = spawn(execute_twice, 0).expect("a process");
        let start = crate::interrupts::clock::now_ns();
        while crate::interrupts::clock::now_ns() < start + SECOND_NS / 5 {
            crate::task::scheduler::yield_now();
            if let Some(frame) = process_page_table(&thread) {
                assert_eq!(thread.page_table_frame(), frame, "the thread and its process disagree");
            }
        }
        assert!(thread.process.program().is_some());
        assert_eq!(wait(thread, 0), Status::Killed { signal: 9, core_dumped: false });
    }
}

/// Where the page table of a thread's process is; None while it has no image.
fn process_page_table(thread: &Thread) -> Option<u64> {
    thread.process.with_address_space(|space| space.lock().page_table_frame().start_address().as_u64())
}

/// Invariants 1 and 2: CR3 stays while an image is built, and the thread names the new table as soon as its process has it.
extern "C" fn execute_twice(_: usize) {
    for _ in 0..2 {
        let thread = current();
        let before = Cr3::read().0;
        execute(&thread, Fd::CWD, b"/spin", 0, &KernelArguments { arguments: &[b"spin"], environment: &[] })
            .expect("execve");
        assert_eq!(Cr3::read().0, before, "execve wrote CR3");
        assert_eq!(Some(thread.page_table_frame()), process_page_table(&thread));
        // SAFETY: the thread's own frame, at the top of its own stack.
        let frame = unsafe { &*thread.user_frame() };
        assert_eq!((frame.cs, frame.rflags, frame.rsp % 16), (gdt::USER_CODE.into(), 0x202, 0));
    }
}

static POINTS: AtomicU32 = AtomicU32::new(0);

/// Becomes one program, then tries to become another with the n-th step failing, for every n until it succeeds.
extern "C" fn execute_with_failures(_: usize) {
    let thread = current();
    let run = |path: &[u8]| {
        let strings = KernelArguments { arguments: &[b"one", b"two", b"three"], environment: &[b"A=B", b"C=D"] };
        execute(&thread, Fd::CWD, path, 0, &strings)
    };
    run(b"/caller").expect("the caller's own image");
    let mut number = 0;
    loop {
        let before = Digest::of(&thread);
        fault_injection::arm(&[Point::HeapAllocation, Point::FrameAllocation, Point::FileRead], number);
        let result = run(b"/script");
        let delivered = fault_injection::disarm();
        match result {
            // The heap does without some frames; then the image has changed, and the next failure is tried on the new one.
            Ok(()) if delivered => {}
            Ok(()) => break,
            Err(errno) => {
                assert!(matches!(errno, Errno::ENOMEM | Errno::EIO), "step {number}: {}", errno.name());
                assert!(Digest::of(&thread) == before, "step {number} failed and left a trace");
            }
        }
        number += 1;
    }
    POINTS.store(number as u32, Relaxed);
}

/// All that a failed execve could have changed.
#[derive(PartialEq)]
struct Digest {
    page_table: Option<u64>,
    thread_page_table: u64,
    areas: Vec<(u64, u64, u8)>,
    contents: u64,
    heap: core::ops::Range<u64>,
    name: [u8; 16],
    segments: UserSegments,
    ids: (u32, u32),
    credentials: usize,
    program: usize,
    files: usize,
    registers: crate::interrupts::InterruptFrame,
}

impl Digest {
    fn of(thread: &Thread) -> Self {
        let process = &thread.process;
        let (name, credentials) = (thread.name(), Arc::as_ptr(&process.credentials()).addr());
        let program = process.program().map_or(0, |program| Arc::as_ptr(&program).addr());
        let files = process.files().map_or(0, |files| Arc::as_ptr(&files).addr());
        let space = process.address_space().expect("an image");
        let mut space = space.lock();
        let areas: Vec<_> =
            space.areas().iter().map(|area| (area.start, area.end, area.mapping.protection.bits())).collect();
        let mut contents = 0_u64;
        for (start, end, _) in &areas {
            for page in
                (*start..*end).step_by(4096).filter(|page| space.is_resident(*page) == Some(true)).collect::<Vec<_>>()
            {
                let mut bytes = [0; 4096];
                space.read_bytes(page, &mut bytes).expect("a present page");
                contents =
                    bytes.iter().fold(contents, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3));
            }
        }
        Self {
            page_table: Some(space.page_table_frame().start_address().as_u64()),
            thread_page_table: thread.page_table_frame(),
            areas,
            contents,
            heap: space.heap(),
            name,
            segments: thread.own_segments(),
            ids: (process.pid, thread.tid()),
            credentials,
            program,
            files,
            // SAFETY: the thread's own frame, at the top of its own stack.
            registers: unsafe { *thread.user_frame() },
        }
    }
}

/// One small change where it matters: mostly in the headers.
fn mutate(file: &mut Vec<u8>, what: u64, value: u64) {
    let Some(last) = file.len().checked_sub(1) else { return };
    let place = (what >> 8) as usize;
    let at = if what & 7 == 0 { place % (last + 1) } else { place % 256.min(last + 1) };
    match (what >> 4) & 3 {
        0 => file[at] ^= 1 << (value & 7),
        1 => file[at] = value as u8,
        2 => {
            // A whole field, with a number that likes to overflow.
            let numbers =
                [0, 1, u64::MAX, 1 << 63, 1 << 47, (1 << 47) - 1, 0xfff, 0xffff_ffff, 0x7fff_ffff_f000, value];
            let number = numbers[value as usize % numbers.len()].to_le_bytes();
            let at = at & !7;
            let end = (at + 8).min(file.len());
            file[at..end].copy_from_slice(&number[..end - at]);
        }
        _ => file.truncate(at + 1),
    }
}
