//! Small programs in user mode: is their page table always the loaded one, can the kernel always be entered from them, and
//! are they the ones who pay for what they do?
//!
//! A program is a few bytes of machine code at [`CODE`], with a page of data and stack at [`DATA`].

use super::memory::used_frames;
use crate::cpu::features::features;
use crate::cpu::{fpu::FpuState, gdt, per_cpu};
use crate::fault_injection::{self, Point};
use crate::interrupts::{InterruptFrame, clock, timer};
use crate::kernel_test;
use crate::lock::{Lock, Rank};
use crate::memory::{AddressSpace, Mapping, Placement, Protection, heap, kernel_map};
use crate::task::credentials::Credentials;
use crate::task::family::{Birth, SIGCHLD, Status};
use crate::task::limits::Limits;
use crate::task::process::{Parts, Process, tasks};
use crate::task::signal::{ProcessSignals, Signal};
use crate::task::switch::{self, Start};
use crate::task::{Thread, exit, kernel_thread, scheduler, wait_queue};
use crate::trace::{self, Kind};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use x86_64::PhysAddr;
use x86_64::instructions::tables::{sgdt, sidt};
use x86_64::registers::control::Cr3;
use x86_64::registers::model_specific::LStar;
use x86_64::structures::paging::{PageTableFlags as Flags, PhysFrame};

const PAGE: u64 = crate::PAGE_SIZE as u64;
const CODE: u64 = 0x40_0000;
const DATA: u64 = 0x50_0000;
/// RFLAGS with interrupts on; bit 1 is always set.
const INTERRUPTS_ON: u64 = 0x202;

/// A process of one thread.
struct Program {
    thread: Arc<Thread>,
}

impl Program {
    fn start(code: &[u8]) -> Self {
        Self::start_at(code, CODE, 0)
    }

    /// Starts at `rip`, with `word` at the beginning of its data.
    fn start_at(code: &[u8], rip: u64, word: u64) -> Self {
        Self::start_as(Birth::of_nobody(), code, rip, word)
    }

    fn start_child_of(parent: &Self, code: &[u8]) -> Self {
        let parent = parent.thread.process.pid;
        Self::start_as(Birth { parent, maker: parent, exit_signal: SIGCHLD }, code, CODE, 0)
    }

    fn start_as(birth: Birth, code: &[u8], rip: u64, word: u64) -> Self {
        let mut space = AddressSpace::new().expect("memory");
        let executable = Mapping::anonymous(Protection::READ | Protection::EXECUTE);
        let writable = Mapping::anonymous(Protection::READ | Protection::WRITE);
        space.map(Placement::Fixed(CODE), PAGE, executable).expect("room");
        space.map(Placement::Fixed(DATA), PAGE, writable).expect("room");
        space.write_bytes(CODE, code).expect("memory");
        space.write_bytes(DATA, &word.to_le_bytes()).expect("memory");
        let page_table = space.page_table_frame().start_address().as_u64();
        let parts = Parts {
            address_space: Some(Arc::new(Lock::new(Rank::AddressSpace, space))),
            files: None,
            fs_context: None,
            credentials: Arc::new(Credentials::root()),
            program: None,
            limits: Limits::new(),
            signals: ProcessSignals::new().expect("memory"),
        };
        let pid = {
            let mut tasks = tasks();
            // The kernel tests run in init's stead; its id stays its own.
            let pid = core::iter::repeat_with(|| tasks.threads.reserve().expect("an id")).find(|pid| *pid > 1);
            pid.inspect(|pid| tasks.family.reserve(*pid).expect("memory")).expect("an id")
        };
        let process = Process::new(pid, parts).expect("memory");
        let thread = Thread::new(pid, process.clone(), Some(FpuState::initial().expect("memory"))).expect("memory");
        thread.set_page_table_frame(page_table);
        let registers = InterruptFrame {
            rip,
            cs: gdt::USER_CODE.into(),
            rflags: INTERRUPTS_ON,
            rsp: DATA + PAGE,
            ss: gdt::USER_DATA.into(),
            ..InterruptFrame::default()
        };
        switch::prepare_stack(&thread, Start { function: None, registers });
        process.add_thread(thread.clone()).expect("memory");
        let mut tasks = tasks();
        tasks.threads.set(pid, thread.clone());
        tasks.family.insert(pid, birth, process);
        drop(tasks);
        scheduler::start(thread.clone());
        Self { thread }
    }

    /// The first word of its data.
    fn word(&self) -> u64 {
        let mut bytes = [0; 8];
        let read = self.thread.process.with_address_space(|space| space.lock().read_bytes(DATA, &mut bytes));
        read.expect("it runs").expect("its data");
        u64::from_le_bytes(bytes)
    }

    fn set_word(&self, word: u64) {
        let written =
            self.thread.process.with_address_space(|space| space.lock().write_bytes(DATA, &word.to_le_bytes()));
        written.expect("it runs").expect("its data");
    }

    fn has_ended(&self) -> bool {
        tasks().family.has_ended(self.thread.process.pid)
    }

    /// Waits for its end, and says how it came.
    fn end(self) -> Status {
        kernel_thread::join(&self.thread);
        let pid = self.thread.process.pid;
        let gone = tasks().forget_process(pid);
        drop(gone);
        self.thread.process.ending_status()
    }

    /// Ends it from outside.
    fn stop(self) {
        self.thread.process.begin_ending(Status::Exited(0));
        exit::end_other_threads(&self.thread.process, &crate::task::current());
        self.end();
    }
}

const EXIT_7: [u8; 12] = [0xbf, 7, 0, 0, 0, 0xb8, 231, 0, 0, 0, 0x0f, 0x05]; // mov edi, 7; mov eax, 231; syscall
const EXIT_7_BY_GATE: [u8; 12] = [0xbf, 7, 0, 0, 0, 0xb8, 231, 0, 0, 0, 0xcd, 0x80]; // the same by int 0x80

/// inc qword [DATA], for ever.
const COUNT: [u8; 10] = [0x48, 0xff, 0x04, 0x25, 0, 0, 0x50, 0, 0xeb, 0xf6];

/// Goes on once the word is no longer 0: cmp qword [DATA], 0; je
const AWAIT_WORD: [u8; 11] = [0x48, 0x83, 0x3c, 0x25, 0, 0, 0x50, 0, 0, 0x74, 0xf5];

/// wait4(-1, 0, 0, 0)
const AWAIT_CHILD: [u8; 20] =
    [0xb8, 61, 0, 0, 0, 0xbf, 0xff, 0xff, 0xff, 0xff, 0x31, 0xf6, 0x31, 0xd2, 0x4d, 0x31, 0xd2, 0x0f, 0x05, 0x90];

fn killed_by(status: Status) -> Option<u8> {
    match status {
        Status::Killed { signal, .. } => Some(signal),
        _ => None,
    }
}

fn run(code: &[u8]) -> Status {
    Program::start(code).end()
}

fn sleep_ticks(ticks: u64) {
    let (start, never) = (per_cpu::ticks(), wait_queue::WaitQueue::new());
    while per_cpu::ticks() - start < ticks {
        let deadline = clock::now_ns() + timer::NS_PER_TICK;
        let _ = never.wait_until(wait_queue::Limits::until(Some(deadline)), || None::<()>);
    }
}

/// What the CPU touches by itself when it enters the kernel, by address.
fn entry_addresses() -> Vec<u64> {
    let (gdt, idt) = (sgdt(), sidt());
    let tss = per_cpu::this_cpu().task_state_segment() as u64;
    let mut addresses = Vec::new();
    for table in [gdt, idt] {
        addresses.extend([table.base.as_u64(), table.base.as_u64() + u64::from(table.limit)]);
    }
    addresses.extend([tss, tss + 103, per_cpu::this_cpu() as *const per_cpu::PerCpu as u64]);
    addresses.extend([LStar::read().as_u64(), crate::cpu::idt::stub_address(0), crate::cpu::idt::stub_address(255)]);
    for stack in gdt::interrupt_stacks() {
        addresses.extend(stack.step_by(crate::PAGE_SIZE));
    }
    addresses
}

/// A thread's page table maps all that the CPU touches when it enters the kernel, and keeps it from the program.
pub fn assert_can_be_interrupted(thread: &Thread) {
    let root = PhysFrame::containing_address(PhysAddr::new(thread.page_table_frame()));
    let stack = thread.kernel_stack();
    let stack_pages = (stack.bottom()..stack.top()).step_by(crate::PAGE_SIZE);
    for address in stack_pages.chain([stack.top() - 1]).chain(entry_addresses()) {
        let Some((entry, _)) = kernel_map::translate_in(root, address) else {
            panic!("{address:#x} isn't mapped in a process's page table");
        };
        assert!(address >= 1 << 63, "{address:#x} lies in the lower half");
        assert!(!entry.contains(Flags::USER_ACCESSIBLE), "{address:#x} is the user's");
    }
    assert!(kernel_map::translate_in(root, stack.bottom() - 1).is_none(), "the guard");
}

/// Ticks at which a user program was found under another page table than its own, and at which it was its own.
static WRONG_TICKS: AtomicU64 = AtomicU64::new(0);
static RIGHT_TICKS: AtomicU64 = AtomicU64::new(0);

fn compare_page_table_and_tick(from_user: bool) {
    if from_user {
        let own = crate::task::current().page_table_frame();
        let loaded = Cr3::read().0.start_address().as_u64();
        if own == loaded { &RIGHT_TICKS } else { &WRONG_TICKS }.fetch_add(1, Relaxed);
    }
    scheduler::tick(from_user);
}

/// A process leaves a child, which has ended already or ends since its parent does, to one who waits: not to its own parent,
/// which hears of its end anyway. The allocation after so many fails; returns whether there was one.
fn inherit_with_failing_allocation(child: &[u8], succeeding_allocations: u64) -> bool {
    let heir = Program::start(&[&AWAIT_CHILD[..], &EXIT_7].concat());
    heir.thread.process.is_subreaper.store(true, Relaxed);
    let between = Program::start_child_of(&heir, &COUNT);
    let parent = Program::start_child_of(&between, &[&AWAIT_WORD[..], &EXIT_7].concat());
    let child = Program::start_child_of(&parent, child);
    child.thread.process.parent_death_signal.store(Signal::KILL.number().into(), Relaxed);
    sleep_ticks(20);
    assert!(!heir.has_ended() && !parent.has_ended());
    let deadline = clock::now_ns() + 50 * timer::NS_PER_TICK;
    parent.set_word(1);
    fault_injection::arm(&[Point::HeapAllocation], succeeding_allocations);
    while !heir.has_ended() && clock::now_ns() < deadline {
        scheduler::yield_now();
    }
    let has_failed = fault_injection::disarm();
    assert!(heir.has_ended(), "its heir wasn't told, after {succeeding_allocations} allocations");
    assert_eq!([parent.end(), heir.end()], [Status::Exited(7); 2]);
    between.stop();
    has_failed
}

kernel_test! {
    fn both_gates_lead_to_the_same_system_calls() {
        assert_eq!(run(&EXIT_7), Status::Exited(7));
        assert_eq!(run(&EXIT_7_BY_GATE), Status::Exited(7));
    }

    fn test_kernel_stack_mapped_in_process_page_table() {
        let programs = [Program::start(&COUNT), Program::start(&COUNT)];
        sleep_ticks(3);
        programs.iter().for_each(|program| assert_can_be_interrupted(&program.thread));
        programs.into_iter().for_each(Program::stop);
    }

    fn page_tables_stay_their_processes_own_over_a_thousand_ticks() {
        let programs = [1_u64 << 32, 2 << 32].map(|word| Program::start_at(&COUNT, CODE, word));
        [&RIGHT_TICKS, &WRONG_TICKS].iter().for_each(|count| count.store(0, Relaxed));
        let user_ticks = per_cpu::this_cpu().user_ticks();
        timer::set_tick_handler(compare_page_table_and_tick);
        sleep_ticks(1000);
        timer::set_tick_handler(scheduler::tick);
        // Both count at the same address, each in its own page.
        for (program, number) in programs.iter().zip(1..) {
            let word = program.word();
            assert_eq!(word >> 32, number);
            assert!(word as u32 > 100_000, "it counted to {} only", word as u32);
        }
        assert_eq!(WRONG_TICKS.load(Relaxed), 0);
        assert!(RIGHT_TICKS.load(Relaxed) >= 900);
        assert!(per_cpu::this_cpu().user_ticks() - user_ticks >= 900, "ticks in user mode are counted as such");
        programs.into_iter().for_each(Program::stop);
    }

    fn each_switch_is_followed_by_the_threads_own_page_table() {
        let programs = [Program::start(&COUNT), Program::start(&COUNT)];
        let page_table_of = |tid: u64| {
            let found = programs.iter().find(|program| u64::from(program.thread.tid()) == tid)?;
            Some(found.thread.page_table_frame())
        };
        sleep_ticks(2);
        let mut loaded = Cr3::read().0.start_address().as_u64();
        assert_eq!(trace::select("switch,cr3"), Ok(()));
        sleep_ticks(40);
        assert_eq!(trace::select("none"), Ok(()));
        let events: Vec<_> = trace::last_events(usize::MAX).filter(|event| event.kind != Kind::Irq).collect();
        let mut turns = 0;
        for (event, after) in events.iter().zip(events.iter().skip(1)) {
            match event.kind {
                Kind::Cr3 => loaded = event.second,
                Kind::Switch => {
                    let Some(own) = page_table_of(event.second) else { continue };
                    let loads_now = after.kind == Kind::Cr3 && (after.first, after.second) == (event.second, own);
                    assert!(loads_now || loaded == own, "{event}, then {after}");
                    turns += 1;
                }
                _ => {}
            }
        }
        assert!(turns >= 4, "{turns} turns were traced");
        programs.into_iter().for_each(Program::stop);
    }

    fn a_quantum_is_five_ticks() {
        let programs = [Program::start(&COUNT), Program::start(&COUNT)];
        let tids = programs.each_ref().map(|program| u64::from(program.thread.tid()));
        assert_eq!(trace::select("switch"), Ok(()));
        let (never, deadline) = (wait_queue::WaitQueue::new(), clock::now_ns() + 65 * timer::NS_PER_TICK);
        let _ = never.wait_until(wait_queue::Limits::until(Some(deadline)), || None::<()>);
        assert_eq!(trace::select("none"), Ok(()));
        let is_turn = |event: &trace::Event| tids.contains(&event.first) && tids.contains(&event.second);
        let turns: Vec<u64> = trace::last_events(usize::MAX).filter(is_turn).map(|event| event.time_ns).collect();
        assert!(turns.len() >= 10, "{} turns", turns.len());
        for (turn, next) in turns.iter().zip(turns.iter().skip(1)) {
            let ticks = (next - turn + timer::NS_PER_TICK / 2) / timer::NS_PER_TICK;
            assert_eq!(ticks, 5, "a turn took {} ns", next - turn);
        }
        programs.into_iter().for_each(Program::stop);
    }

    fn a_programs_exceptions_are_its_own() {
        const ILL: u8 = 4;
        const TRAP: u8 = 5;
        const FPE: u8 = 8;
        const SEGV: u8 = 11;
        let cases: [(&str, &[u8], u8); 9] = [
            ("ud2", &[0x0f, 0x0b], ILL),
            ("int3", &[0xcc], TRAP),
            ("a single step", &[0x9c, 0x48, 0x81, 0x0c, 0x24, 0, 1, 0, 0, 0x9d, 0x90, 0x90], TRAP),
            ("a division by zero", &[0x31, 0xc9, 0xf7, 0xf1], FPE),
            ("hlt", &[0xf4], SEGV),
            ("an interrupt vector of the kernel's", &[0xcd, 0x30], SEGV),
            ("a null pointer", &[0x48, 0x8b, 0x04, 0x25, 0, 0, 0, 0], SEGV),
            ("a kernel address", &[0x48, 0x8b, 0x04, 0x25, 0, 0, 0x10, 0x80], SEGV),
            ("a write to its own code", &[0x48, 0x89, 0x04, 0x25, 0, 0, 0x40, 0], SEGV),
        ];
        for (what, code, signal) in cases {
            assert_eq!(killed_by(run(code)), Some(signal), "{what}");
        }
    }

    fn a_stack_does_not_run_where_there_is_no_execute() {
        // The data page holds RET's and the like: jmp there, where 0xb8… 0x05 exits if it runs.
        let program = Program::start_at(&[0x48, 0xc7, 0xc0, 0, 0, 0x50, 0, 0xff, 0xe0], CODE, 0xcccc_cccc_cccc_cccc);
        let expected = if features().nx { 11 } else { 5 };
        assert_eq!(killed_by(program.end()), Some(expected));
    }

    fn umip_hides_the_descriptor_tables() {
        // sgdt [rsp - 16], then exit
        let code = [&[0x0f, 0x01, 0x44, 0x24, 0xf0][..], &EXIT_7].concat();
        let expected = if features().umip { None } else { Some(Status::Exited(7)) };
        let status = run(&code);
        assert!(expected.map_or(killed_by(status) == Some(11), |expected| status == expected), "{status:?}");
    }

    fn a_return_to_an_address_that_is_not_canonical_kills_the_program_only() {
        for rip in [1 << 47, 1 << 63, 0xffff_7fff_ffff_ffff] {
            assert_eq!(killed_by(Program::start_at(&EXIT_7, rip, 0).end()), Some(11));
        }
        // A canonical one of the kernel's is refused by the page tables.
        assert_eq!(killed_by(Program::start_at(&EXIT_7, CODE | 0xffff << 48, 0).end()), Some(11));
    }

    /// SYSRET would fault in the kernel on Intel's processors, and in Bochs. rt_sigreturn lets a program choose all registers, so
    /// also those that have to agree for a SYSRET.
    fn a_system_call_does_not_return_to_an_address_that_is_not_canonical_by_sysret() {
        const SIGRETURN: [u8; 7] = [0xb8, 15, 0, 0, 0, 0x0f, 0x05]; // mov eax, 15; syscall
        // The saved registers of the frame (src/task/signal/frame.rs) that begins with the data page.
        let saved = |index: u64| DATA + 48 + 8 * index;
        let (r11, rcx, rip, rflags, selectors) = (saved(3), saved(14), saved(16), saved(17), saved(18));
        for address in [1 << 47, 0xffff_7fff_ffff_ffff] {
            let values = [
                (rcx, address),
                (rip, address),
                (r11, INTERRUPTS_ON),
                (rflags, INTERRUPTS_ON),
                (selectors, u64::from(gdt::USER_CODE) | u64::from(gdt::USER_DATA) << 48),
            ];
            let mut code = Vec::new();
            for (place, value) in values {
                code.extend([0x48, 0xb8]); // mov rax, value
                code.extend(value.to_le_bytes());
                code.extend([0x48, 0x89, 0x04, 0x25]); // mov [place], rax
                code.extend((place as u32).to_le_bytes());
            }
            code.push(0xbc); // mov esp, behind the restorer's address
            code.extend((DATA as u32 + 8).to_le_bytes());
            code.extend(SIGRETURN);
            assert_eq!(killed_by(run(&code)), Some(11));
        }
    }

    /// Each way in also asks for itself, in builds with tests: `probe::assert_entry_flags_are_clean`.
    fn flags_set_to_disturb_the_kernel_do_not() {
        // pushfq; or dword [rsp], 0x44400 (AC, NT, DF); popfq
        let set_flags: [u8; 9] = [0x9c, 0x81, 0x0c, 0x24, 0x00, 0x44, 0x04, 0x00, 0x9d];
        // uname(DATA + 0x100), which copies forwards; ud2 unless "Linu" is where it belongs
        let copy: [u8; 25] = [
            0xb8, 63, 0, 0, 0, 0xbf, 0, 1, 0x50, 0, 0xcd, 0x80, 0x81, 0x3c, 0x25, 0, 1, 0x50, 0, b'L', b'i', b'n', b'u', 0x74,
            0x02,
        ];
        let status = run(&[&set_flags[..], &copy, &[0x0f, 0x0b], &EXIT_7].concat());
        assert_eq!(status, Status::Exited(7), "uname by int 0x80 with DF set");
        for exit in [EXIT_7, EXIT_7_BY_GATE] {
            // mov ecx, 0x4000000; dec ecx; jnz: some ticks with the flags set
            let spin = [0xb9, 0, 0, 0, 4, 0xff, 0xc9, 0x75, 0xfc];
            let code = [&set_flags[..], &spin, &exit].concat();
            assert_eq!(run(&code), Status::Exited(7));
            // The same with TF, which would trap after the first instruction that isn't an entry into the kernel.
            let set_flags_and_trap = [0x9c, 0x81, 0x0c, 0x24, 0x00, 0x45, 0x04, 0x00, 0x9d];
            let (arguments, enter) = exit.split_at(10);
            assert_eq!(run(&[arguments, &set_flags_and_trap, enter].concat()), Status::Exited(7));
        }
    }

    fn fpu_registers_are_each_programs_own() {
        // movq xmm0, [DATA]; again: movq rax, xmm0; cmp rax, [DATA]; je again; ud2
        let code = [
            0xf3, 0x0f, 0x7e, 0x04, 0x25, 0, 0, 0x50, 0, 0x66, 0x48, 0x0f, 0x7e, 0xc0, 0x48, 0x3b, 0x04, 0x25, 0, 0, 0x50,
            0, 0x74, 0xf1, 0x0f, 0x0b,
        ];
        let programs = [0x1111_2222, 0x3333_4444].map(|word| Program::start_at(&code, CODE, word));
        sleep_ticks(50);
        for program in programs {
            assert_eq!(killed_by(program.thread.process.ending_status()), None);
            program.stop();
        }
    }

    fn segment_registers_are_each_programs_own() {
        // mov eax, SELECTOR
        let selector = |selector: u8| [0xb8, selector, 0, 0, 0];
        // mov ds, eax; mov es, eax; mov fs, eax; mov gs, eax
        let set = [0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xe0, 0x8e, 0xe8];
        // again: for each of them: mov ecx, it; cmp ecx, eax; jne bad. jmp again; bad: ud2
        let check = [
            0x8c, 0xd9, 0x39, 0xc1, 0x75, 20, 0x8c, 0xc1, 0x39, 0xc1, 0x75, 14, 0x8c, 0xe1, 0x39, 0xc1, 0x75, 8, 0x8c, 0xe9,
            0x39, 0xc1, 0x75, 2, 0xeb, 0xe6, 0x0f, 0x0b,
        ];
        let programs = [
            Program::start(&[&selector(0)[..], &check].concat()),
            Program::start(&[&selector(gdt::USER_DATA as u8)[..], &set, &check].concat()),
            Program::start(&[&selector(gdt::USER_CODE as u8)[..], &set, &check].concat()),
        ];
        sleep_ticks(40);
        for program in programs {
            assert_eq!(killed_by(program.thread.process.ending_status()), None);
            program.stop();
        }
    }

    fn an_heir_learns_of_children_whichever_allocation_fails_at_their_parents_end() {
        for child in [&EXIT_7[..], &COUNT] {
            let mut succeeding_allocations = 0;
            while inherit_with_failing_allocation(child, succeeding_allocations) {
                succeeding_allocations += 1;
            }
        }
    }

    fn programs_leave_nothing_behind() {
        let in_use = || (used_frames(), heap::counts().used_bytes);
        let run_some = |count: usize| (0..count).for_each(|_| assert_eq!(run(&EXIT_7), Status::Exited(7)));
        // The tables of ids grow until every id was used once.
        let mut last = 0;
        loop {
            let mut tasks = tasks();
            let id = tasks.threads.reserve().expect("an id");
            tasks.family.reserve(id).expect("memory");
            tasks.family.cancel(id);
            tasks.threads.release(id);
            if id < last {
                break;
            }
            last = id;
        }
        run_some(5);
        let before = in_use();
        run_some(200);
        assert_eq!(in_use(), before);
    }
}
