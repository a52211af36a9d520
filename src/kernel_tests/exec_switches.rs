//! execve and page tables: is CR3 left alone while an image is built, is the thread's table the loaded one from the new
//! program's first instruction on, and do ticks and other processes in between change nothing of it?

use super::programs::{self, spawn, wait, write_file};
use super::user_mode::assert_can_be_interrupted;
use crate::cpu::{gdt, per_cpu};
use crate::exec::KernelArguments;
use crate::exec::elf_maker::{self, ElfMaker};
use crate::interrupts::{clock, timer};
use crate::kernel_test;
use crate::syscall::argument::Fd;
use crate::syscall::exec::execute;
use crate::task::family::Status;
use crate::task::thread::Thread;
use crate::task::{current, scheduler};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use x86_64::registers::control::Cr3;

const SECOND_NS: u64 = 1_000_000_000;
const KILLED: Status = Status::Killed { signal: 9, core_dumped: false };
/// Of the ticks that fall into execve itself: so many are waited for.
const TICKS_WITHIN: u32 = 8;

static IS_WITHIN_EXECVE: AtomicBool = AtomicBool::new(false);
static CR3_BEFORE: AtomicU64 = AtomicU64::new(0);
/// Ticks that came while execve was under way, and while a program ran.
static TICKS_IN_EXECVE: AtomicU32 = AtomicU32::new(0);
static TICKS_IN_PROGRAMS: AtomicU32 = AtomicU32::new(0);
/// Ticks that found another page table loaded than the one that should be.
static WRONG_TICKS: AtomicU32 = AtomicU32::new(0);

kernel_test! {
    fn test_exec_updates_process_pt() {
        write_file("/spin", &ElfMaker::program(&elf_maker::spin()).bytes());
        watch_ticks();
        let thread = spawn(execute_twice, 0).expect("a process");
        let user_ticks = per_cpu::this_cpu().user_ticks();
        while per_cpu::this_cpu().user_ticks() - user_ticks < 20 {
            scheduler::yield_now();
            if let Some(frame) = process_page_table(&thread) {
                assert_eq!(thread.page_table_frame(), frame, "the thread and its process disagree");
            }
        }
        timer::set_tick_handler(scheduler::tick);
        assert!(thread.process.program().is_some());
        assert_eq!(wait(thread, 0), KILLED);
        assert_eq!(WRONG_TICKS.load(Relaxed), 0, "ticks found another page table in CR3");
        assert!(TICKS_IN_PROGRAMS.load(Relaxed) >= 20);
    }

    fn what_an_interrupt_needs_is_mapped_for_an_image_after_exec() {
        write_file("/spin", &ElfMaker::program(&elf_maker::spin()).bytes());
        let thread = spawn(execute_twice, 0).expect("a process");
        let start = clock::now_ns();
        while clock::now_ns() < start + SECOND_NS / 20 {
            scheduler::yield_now();
        }
        assert_can_be_interrupted(&thread);
        assert_eq!(wait(thread, 0), KILLED);
    }

    fn exec_goes_on_under_ticks_beside_other_processes() {
        write_file("/spin", &ElfMaker::program(&elf_maker::spin()).bytes());
        write_file("/chain", &ElfMaker::program(&elf_maker::execute_again()).bytes());
        watch_ticks();
        // One that only counts on its time slices, one whose execve's are interrupted, one that executes itself from user mode.
        let spinner = spawn(execute_twice, 0).expect("a process");
        let interrupted = spawn(execute_until_interrupted, 0).expect("a process");
        let chain = programs::run("/chain", &[b"/chain", b"03000"], &[], 600 * SECOND_NS);
        assert_eq!(chain, Ok(Status::Exited(42)));
        assert_eq!(wait(interrupted, 600 * SECOND_NS), Status::Exited(42));
        timer::set_tick_handler(scheduler::tick);
        assert_eq!(Some(spinner.page_table_frame()), process_page_table(&spinner));
        assert_eq!(wait(spinner, 0), KILLED);
        let [within, programs, wrong] =
            [&TICKS_IN_EXECVE, &TICKS_IN_PROGRAMS, &WRONG_TICKS].map(|count| count.load(Relaxed));
        log::info!(target: "test", "{within} ticks within execve, {programs} in programs");
        assert_eq!(wrong, 0, "ticks found another page table in CR3");
        assert!(within >= TICKS_WITHIN && programs >= TICKS_WITHIN);
    }
}

fn watch_ticks() {
    IS_WITHIN_EXECVE.store(false, Relaxed);
    [&TICKS_IN_EXECVE, &TICKS_IN_PROGRAMS, &WRONG_TICKS].iter().for_each(|count| count.store(0, Relaxed));
    timer::set_tick_handler(compare_and_tick);
}

/// In user mode CR3 holds the thread's own page table, within execve what it held before.
fn compare_and_tick(from_user: bool) {
    let loaded = Cr3::read().0.start_address().as_u64();
    let expected = match (from_user, IS_WITHIN_EXECVE.load(Relaxed)) {
        (true, _) => Some((&TICKS_IN_PROGRAMS, current().page_table_frame())),
        (false, true) => Some((&TICKS_IN_EXECVE, CR3_BEFORE.load(Relaxed))),
        (false, false) => None,
    };
    if let Some((count, expected)) = expected {
        let count = if loaded == expected { count } else { &WRONG_TICKS };
        count.fetch_add(1, Relaxed);
    }
    scheduler::tick(from_user);
}

/// Where the page table of a thread's process is; None while it has no image.
fn process_page_table(thread: &Thread) -> Option<u64> {
    thread.process.with_address_space(|space| space.lock().page_table_frame().start_address().as_u64())
}

/// Invariants 1 and 2: CR3 stays while an image is built, and the thread names the new table as soon as its process has it.
fn execute_file(path: &[u8]) {
    let thread = current();
    let before = Cr3::read().0;
    CR3_BEFORE.store(before.start_address().as_u64(), Relaxed);
    IS_WITHIN_EXECVE.store(true, Relaxed);
    let result = execute(&thread, Fd::CWD, path, 0, &KernelArguments { arguments: &[b"x"], environment: &[] });
    IS_WITHIN_EXECVE.store(false, Relaxed);
    assert_eq!(result, Ok(()));
    assert_eq!(Cr3::read().0, before, "execve wrote CR3");
    assert_eq!(Some(thread.page_table_frame()), process_page_table(&thread));
    // SAFETY: the thread's own frame, at the top of its own stack.
    let frame = unsafe { &*thread.user_frame() };
    assert_eq!((frame.cs, frame.rflags, frame.rsp % 16), (gdt::USER_CODE.into(), 0x202, 0));
}

extern "C" fn execute_twice(_: usize) {
    (0..2).for_each(|_| execute_file(b"/spin"));
}

/// Executes again and again, with turns of the others in between, until enough ticks have come in the middle of it.
extern "C" fn execute_until_interrupted(_: usize) {
    write_file("/end", &ElfMaker::program(&elf_maker::exit_with(42)).bytes());
    while TICKS_IN_EXECVE.load(Relaxed) < TICKS_WITHIN && WRONG_TICKS.load(Relaxed) == 0 {
        execute_file(b"/end");
        let own = current().page_table_frame();
        scheduler::yield_now();
        assert_eq!(current().page_table_frame(), own);
    }
}
