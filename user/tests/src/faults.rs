//! Faults of a program: which signal each becomes, and what the handler is told.

use crate::memory::{peek, poke};
use crate::signals::{bad_page, block, count, install};
use conformance::support::*;
use conformance::{answers, case, sys};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicI32, Ordering::SeqCst};

/// For faults: remembers what was said and ends, as coming back would fault again.
extern "C" fn fault(signal: i32, information: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel passes a filled siginfo_t and a ucontext; the answer's descriptor is open.
    unsafe {
        let address = (*information).si_addr() as usize;
        let context = context.cast::<libc::ucontext_t>();
        let trap = (*context).uc_mcontext.gregs[libc::REG_TRAPNO as usize];
        let error = (*context).uc_mcontext.gregs[libc::REG_ERR as usize];
        let shown = if address < 0x10000 { format!("{address:#x}") } else { "an address".into() };
        let text =
            format!("{} code {} at {shown}, trap {trap}, error {error}", signal_name(signal), (*information).si_code);
        write_all(FAULT_PIPE.load(SeqCst), text.as_bytes());
        libc::_exit(0);
    }
}

static FAULT_PIPE: AtomicI32 = AtomicI32::new(-1);

/// What the handler of a fault says about it.
fn faulting(signal: i32, action: impl FnOnce()) -> String {
    let (read_end, write_end) = pipe();
    let child = fork(|| {
        FAULT_PIPE.store(write_end, SeqCst);
        install(signal, fault as *const () as usize, libc::SA_SIGINFO);
        action();
        7
    });
    close(write_end);
    let text = String::from_utf8_lossy(&read_to_end(read_end)).into_owned();
    match ending(child).as_str() {
        "exit 0" => text,
        other => format!("{text}({other})"),
    }
}

fn without_error_code(answer: String) -> String {
    answer.split(", error ").next().unwrap_or_default().to_owned()
}

#[inline(never)]
fn deepen(depth: u64) -> u64 {
    let mut room = [depth as u8; 4096];
    std::hint::black_box(&mut room);
    if depth == u64::MAX { 0 } else { deepen(depth + 1) + u64::from(room[depth as usize % 4096]) }
}

pub const CASES: &[Case] = &[
    case!(
        "fault_at_null",
        faulting(libc::SIGSEGV, || {
            poke(null_mut());
        })
    ),
    case!(
        "fault_at_null_by_reading",
        faulting(libc::SIGSEGV, || {
            peek(8 as *const u8);
        })
    ),
    case!("fault_by_writing_to_a_read_only_page", faulting(libc::SIGSEGV, || poke(bad_page(libc::PROT_READ)))),
    case!(
        "fault_by_reading_an_inaccessible_page",
        faulting(libc::SIGSEGV, || {
            peek(bad_page(libc::PROT_NONE));
        })
    ),
    case!(
        "fault_in_kernel_space",
        faulting(libc::SIGSEGV, || {
            peek(0xffff_8000_0000_0000_usize as *const u8);
        })
    ),
    case!(
        "fault_at_an_address_that_is_not_canonical",
        faulting(libc::SIGSEGV, || {
            peek(0x8000_0000_0000_0000_usize as *const u8);
        })
    ),
    case!(
        "fault_by_executing_data",
        faulting(libc::SIGSEGV, || {
            let page = bad_page(libc::PROT_READ | libc::PROT_WRITE);
            // Linux may have mapped it already, and the processor tells the difference: so it is there in any case.
            // SAFETY: the page may be written.
            unsafe { page.write_volatile(0xc3) };
            // SAFETY: it faults at once, which is the point.
            unsafe { std::mem::transmute::<*mut u8, extern "C" fn()>(page)() }
        })
    ),
    case!(
        "fault_by_a_privileged_instruction",
        faulting(libc::SIGSEGV, || unsafe {
            /* SAFETY: it faults. */
            std::arch::asm!("hlt")
        })
    ),
    case!(
        "fault_by_an_interrupt_that_is_not_for_users",
        // Without the error code: QEMU names another entry of the table in it than processors do.
        without_error_code(faulting(libc::SIGSEGV, || unsafe {
            // SAFETY: it faults.
            std::arch::asm!("int 0x21")
        }))
    ),
    case!(
        "illegal_instruction",
        faulting(libc::SIGILL, || unsafe {
            /* SAFETY: it faults. */
            std::arch::asm!("ud2")
        })
        .replace("an address", "its address")
    ),
    case!(
        "division_by_zero",
        faulting(libc::SIGFPE, || unsafe {
            /* SAFETY: it faults. */
            std::arch::asm!("xor edx, edx", "xor ecx, ecx", "mov eax, 1", "div ecx", out("eax") _, out("ecx") _, out("edx") _)
        })
    ),
    case!(
        "division_that_overflows",
        faulting(libc::SIGFPE, || unsafe {
            /* SAFETY: it faults. */
            std::arch::asm!("mov edx, 1", "mov ecx, 1", "xor eax, eax", "div ecx", out("eax") _, out("ecx") _, out("edx") _)
        })
    ),
    case!(
        "breakpoint",
        faulting(libc::SIGTRAP, || unsafe {
            /* SAFETY: it traps. */
            std::arch::asm!("int3")
        })
    ),
    case!(
        "single_step",
        faulting(libc::SIGTRAP, || unsafe {
            /* SAFETY: it traps. */
            std::arch::asm!("pushfq", "or qword ptr [rsp], 0x100", "popfq", "nop", "nop")
        })
    ),
    // There is no case for SSE's exceptions: QEMU's TCG raises none.
    case!(
        "x87_exception",
        faulting(libc::SIGFPE, || unsafe {
            // SAFETY: the exception is unmasked in this child only, and fwait raises it.
            let control = 0x37b_u16;
            std::arch::asm!("fldcw [{}]", "fld1", "fldz", "fdivp", "fwait", in(reg) &control)
        })
    ),
    case!(
        "bus_error_past_the_end_of_a_file",
        faulting(libc::SIGBUS, || {
            make_file(c"file", b"short", 0o644);
            let file = open(c"file", libc::O_RDONLY);
            let memory = sys!(mmap(null_mut(), 8192, libc::PROT_READ, libc::MAP_PRIVATE, file, 0)).cast::<u8>();
            peek(memory.wrapping_add(4096));
        })
    ),
    case!(
        "a_blocked_fault_is_death_all_the_same",
        in_child(|| {
            install(libc::SIGSEGV, count as *const () as usize, 0);
            block(&[libc::SIGSEGV]);
            poke(null_mut());
            0
        })
    ),
    case!(
        "an_ignored_fault_is_death_all_the_same",
        in_child(|| {
            sys!(signal(libc::SIGSEGV, libc::SIG_IGN));
            poke(null_mut());
            0
        })
    ),
    case!("alternate_stack_saves_from_stack_overflow", {
        let (read_end, write_end) = pipe();
        let child = fork(|| {
            FAULT_PIPE.store(write_end, SeqCst);
            let memory = sys!(mmap(
                null_mut(),
                65536,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0
            ));
            sys!(sigaltstack(&libc::stack_t { ss_sp: memory, ss_flags: 0, ss_size: 65536 }, null_mut()));
            install(libc::SIGSEGV, fault as *const () as usize, libc::SA_SIGINFO | libc::SA_ONSTACK);
            let limit = libc::rlimit { rlim_cur: 256 * 1024, rlim_max: 256 * 1024 };
            sys!(setrlimit(libc::RLIMIT_STACK, &limit));
            deepen(1) as i32
        });
        close(write_end);
        let text = String::from_utf8_lossy(&read_to_end(read_end)).into_owned();
        answers!(text, ending(child))
    }),
    case!(
        "stack_overflow_without_one_is_death",
        in_child(|| {
            let limit = libc::rlimit { rlim_cur: 256 * 1024, rlim_max: 256 * 1024 };
            sys!(setrlimit(libc::RLIMIT_STACK, &limit));
            install(libc::SIGSEGV, count as *const () as usize, 0);
            deepen(1) as i32
        })
    ),
];
