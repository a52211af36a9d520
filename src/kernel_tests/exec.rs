//! execve: do files load as they should, and does nothing stay behind?

use super::programs::{self, run, spawn, wait, write_file};
use crate::PAGE_SIZE;
use crate::cpu::features::features;
use crate::errno::Errno;
use crate::exec::KernelArguments;
use crate::exec::elf_maker::{self, ElfMaker, Header, Outcome, R, W, cases};
use crate::kernel_test;
use crate::memory::faults::Access;
use crate::memory::kernel_map;
use crate::syscall::argument::Fd;
use crate::syscall::exec::execute;
use crate::task::current;
use crate::task::family::Status;
use crate::task::thread::Thread;
use alloc::format;
use alloc::vec::Vec;
use core::ops::Range;
use x86_64::PhysAddr;
use x86_64::structures::paging::PhysFrame;

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
        assert!(wrong.is_empty(), "{}", wrong.join("; "));
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

    fn processes_of_one_file_share_its_text_and_constants() {
        let size = CONSTANTS.end - CONSTANTS.start;
        let constants = Header::load(R, 0x1000, CONSTANTS.start, size, size);
        let data = Header::load(R | W, 0x10_1000, 0x60_0000, 0x1000, 0x1000);
        let file = ElfMaker::program(&elf_maker::spin()).with(constants).with(data).with_bytes(0x1000, &[1; 0x10_1000]);
        write_file("/shared", &file.bytes());
        let (before, _) = programs::memory_in_use();
        let threads = [0, 1].map(|_| spawn(become_shared, 0).expect("a process"));
        while !threads.iter().all(|thread| frames_of(thread).is_some()) {
            crate::task::scheduler::yield_now();
        }
        let [first, second] = [0, 1].map(|index| frames_of(&threads[index]).expect("three pages"));
        assert_eq!(first[..2], second[..2], "text or constants aren't shared");
        assert_ne!(first[2], second[2], "data that was written is shared");
        let frames = programs::memory_in_use().0 - before;
        log::info!(target: "test", "two processes that have touched {} pages each took {frames} frames", CONSTANT_PAGES + 2);
        assert!(frames < CONSTANT_PAGES / 4, "{frames} frames: their own copies of constants");
        for thread in threads {
            assert_eq!(wait(thread, 0), Status::Killed { signal: 9, core_dumped: false });
        }
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
}

/// The read-only pages of /shared: 1 MiB.
const CONSTANTS: Range<u64> = 0x50_0000..0x60_0000;
const CONSTANT_PAGES: usize = (CONSTANTS.end - CONSTANTS.start) as usize / PAGE_SIZE;

/// Becomes /shared, with its pages touched as a program would: text and constants read, data written.
extern "C" fn become_shared(_: usize) {
    let thread = current();
    let strings = KernelArguments { arguments: &[b"shared"], environment: &[] };
    execute(&thread, Fd::CWD, b"/shared", 0, &strings).expect("an image");
    let space = thread.process.address_space().expect("an image");
    let mut space = space.lock();
    let constants = CONSTANTS.step_by(PAGE_SIZE).map(|page| (page, Access::Read));
    for (page, access) in constants.chain([(0x40_0000, Access::Execute), (0x60_0000, Access::Write)]) {
        space.resolve_fault(page, access).expect("a page");
    }
}

/// Which frames hold its text, constants and data; None until it has them.
fn frames_of(thread: &Thread) -> Option<[u64; 3]> {
    if !thread.has_user_mode() {
        return None;
    }
    let root = PhysFrame::containing_address(PhysAddr::new(thread.page_table_frame()));
    let frame = |address| kernel_map::translate_in(root, address).map(|(_, physical)| physical.as_u64());
    let [text, constants, data] = [0x40_0000, 0x50_0000, 0x60_0000].map(frame);
    Some([text?, constants?, data?])
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
