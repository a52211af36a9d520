//! Coming back from a handler: a frame is the program's own to change, and whatever it holds, nothing but the program suffers.

use conformance::support::*;
use conformance::{answers, case, sys};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};

static CHANGE: AtomicUsize = AtomicUsize::new(0);
static FLAGS_SEEN: AtomicU64 = AtomicU64::new(0);

/// What a handler does to its own frame.
type Change = fn(&mut libc::ucontext_t);

extern "C" fn change_frame(_: i32, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel passes a ucontext, and CHANGE holds a function of this type.
    unsafe {
        let change: Change = std::mem::transmute(CHANGE.load(SeqCst));
        change(&mut *context.cast());
    }
}

/// Comes back from a handler that changes its frame; tells how the process ends, 0 where it goes on.
fn returning(change: Change) -> String {
    in_child(|| {
        // SAFETY: sigaction is plain data; the handler has the signature that SA_SIGINFO asks for.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = change_frame as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO;
            libc::sigaction(libc::SIGUSR1, &action, null_mut());
        }
        CHANGE.store(change as usize, SeqCst);
        sys!(raise(libc::SIGUSR1));
        let flags: u64;
        // SAFETY: reads the flags by way of the stack.
        unsafe { std::arch::asm!("pushfq", "pop {}", out(reg) flags) };
        FLAGS_SEEN.store(flags, SeqCst);
        // IOPL, NT, VM and VIP must not be left set.
        i32::from(flags & 0x003b_7000 & !0x0020_0000 != 0)
    })
}

fn register(context: &mut libc::ucontext_t, which: i32) -> &mut i64 {
    &mut context.uc_mcontext.gregs[which as usize]
}

/// Sends itself a signal on a stack that is too small for the frame.
fn with_stack_pointer(stack_pointer: u64) -> String {
    in_child(|| {
        // SAFETY: sigaction is plain data.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = change_frame as *const () as usize;
            libc::sigaction(libc::SIGUSR1, &action, null_mut());
        }
        let (process, number) = (sys!(getpid()), libc::SYS_kill);
        // SAFETY: kill(2) touches no stack; the process ends before anything here uses the stack pointer.
        unsafe {
            std::arch::asm!("mov rsp, {stack}", "syscall", "ud2", stack = in(reg) stack_pointer, in("rax") number,
                in("rdi") process, in("rsi") libc::SIGUSR1, options(noreturn));
        }
    })
}

/// Where single steps over a system call stop, in bytes from its first instruction's address.
fn stops_around_a_system_call() -> String {
    static STOPS: [AtomicUsize; 8] = [const { AtomicUsize::new(0) }; 8];
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    extern "C" fn note_stop(_: i32, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
        // SAFETY: the kernel passes a ucontext.
        let at = register(unsafe { &mut *context.cast() }, libc::REG_RIP);
        if let Some(stop) = STOPS.get(COUNT.fetch_add(1, SeqCst)) {
            stop.store(*at as usize, SeqCst);
        }
    }
    // SAFETY: sigaction is plain data; the handler has the signature that SA_SIGINFO asks for.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = note_stop as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO;
        libc::sigaction(libc::SIGTRAP, &action, null_mut());
    }
    let start: usize;
    // SAFETY: getppid touches no memory; the flags that are pushed are popped again.
    unsafe {
        std::arch::asm!(
            "lea {start}, [rip + 2f]", "pushfq", "pushfq", "or qword ptr [rsp], 0x100", "popfq",
            "2: mov eax, {getppid}", "syscall", "nop", "nop", "popfq",
            start = out(reg) start, getppid = const libc::SYS_getppid, out("rax") _, out("rcx") _, out("r11") _)
    };
    let stops = STOPS.iter().take(COUNT.load(SeqCst)).map(|stop| stop.load(SeqCst).wrapping_sub(start).to_string());
    stops.collect::<Vec<_>>().join(" ")
}

pub const CASES: &[Case] = &[
    case!("single_steps_over_a_system_call", asked_in_child(stops_around_a_system_call)),
    case!("unchanged", returning(|_| {})),
    case!("to_an_address_that_is_not_canonical", returning(|context| *register(context, libc::REG_RIP) = 1 << 48)),
    case!("to_kernel_space", returning(|context| *register(context, libc::REG_RIP) = -1 << 31)),
    case!("to_the_end_of_user_space", returning(|context| *register(context, libc::REG_RIP) = 0x7fff_ffff_f000)),
    case!("with_a_stack_pointer_in_kernel_space", returning(|context| *register(context, libc::REG_RSP) = -8)),
    case!("with_more_rights_for_ports", returning(|context| *register(context, libc::REG_EFL) |= 0x3000)),
    case!("with_interrupts_off", returning(|context| *register(context, libc::REG_EFL) &= !0x200)),
    case!("as_a_nested_task", returning(|context| *register(context, libc::REG_EFL) |= 0x4000)),
    case!("into_virtual_8086_mode", returning(|context| *register(context, libc::REG_EFL) |= 0x2_0000)),
    case!(
        "with_the_kernels_code_segment",
        returning(|context| {
            let selectors = register(context, libc::REG_CSGSFS);
            *selectors = *selectors & !0xffff | 0x10;
        })
    ),
    case!("with_no_code_segment", returning(|context| *register(context, libc::REG_CSGSFS) &= !0xffff)),
    case!("without_fpu_state", returning(|context| context.uc_mcontext.fpregs = null_mut())),
    case!("with_fpu_state_at_a_bad_address", returning(|context| context.uc_mcontext.fpregs = BAD as *mut _)),
    case!("with_fpu_state_in_kernel_space", {
        returning(|context| context.uc_mcontext.fpregs = 0xffff_8000_0000_0000_u64 as *mut _)
    }),
    case!("with_reserved_bits_in_mxcsr", {
        // SAFETY: the frame holds an FPU state.
        returning(|context| unsafe { (*context.uc_mcontext.fpregs).mxcsr = u32::MAX })
    }),
    case!("with_a_mask_of_everything", {
        // SIGKILL and SIGSTOP stay deliverable.
        in_child(|| {
            let status = returning(|context| {
                // SAFETY: a signal set is a bit array.
                unsafe { libc::sigfillset(&mut context.uc_sigmask) };
            });
            i32::from(status != "exit 0")
        })
    }),
    case!(
        "sigreturn_without_a_frame",
        in_child(|| {
            // SAFETY: what lies on the stack is no frame: the process ends or gets a signal.
            unsafe {
                std::arch::asm!("xor esp, esp", "syscall", "ud2", in("rax") libc::SYS_rt_sigreturn, options(noreturn));
            }
        })
    ),
    case!("a_frame_does_not_fit_at_the_start_of_memory", with_stack_pointer(64)),
    case!("a_frame_does_not_fit_where_nothing_is", with_stack_pointer(0x10_0000)),
    case!("a_frame_does_not_go_to_kernel_space", with_stack_pointer(0xffff_8000_0010_0000)),
    case!(
        "an_alternate_stack_that_is_too_small_for_a_frame",
        in_child(|| {
            // SAFETY: the stack and sigaction are plain data; the handler is never reached.
            unsafe {
                let memory = libc::mmap(null_mut(), 8192, 0, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0);
                let stack = libc::stack_t { ss_sp: memory, ss_flags: 0, ss_size: 8192 };
                libc::sigaltstack(&stack, null_mut());
                let mut action: libc::sigaction = std::mem::zeroed();
                action.sa_sigaction = change_frame as *const () as usize;
                action.sa_flags = libc::SA_ONSTACK;
                libc::sigaction(libc::SIGUSR1, &action, null_mut());
                libc::raise(libc::SIGUSR1);
            }
            0
        })
    ),
    case!(
        "flags_of_the_program_survive",
        answers!(
            returning(|context| *register(context, libc::REG_EFL) |= 1),
            returning(|context| *register(context, libc::REG_EFL) |= 1 << 21)
        )
    ),
];
