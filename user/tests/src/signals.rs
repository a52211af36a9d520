//! Signals: what they do by default, how handlers are called, masks, waiting, restarting, stacks.

use conformance::support::*;
use conformance::{answers, case, sys};
use std::ptr::null_mut;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI32, AtomicU64, AtomicUsize, Ordering::SeqCst};

static COUNT: AtomicI32 = AtomicI32::new(0);
static LAST_SIGNAL: AtomicI32 = AtomicI32::new(0);
static LAST_CODE: AtomicI32 = AtomicI32::new(0);
static LAST_SENDER: AtomicI32 = AtomicI32::new(0);
static LAST_VALUE: AtomicUsize = AtomicUsize::new(0);
static LAST_ADDRESS: AtomicUsize = AtomicUsize::new(0);
static LAST_STACK: AtomicUsize = AtomicUsize::new(0);
static MASK_INSIDE: AtomicU64 = AtomicU64::new(0);
static ORDER: Mutex<Vec<i32>> = Mutex::new(Vec::new());

pub extern "C" fn count(signal: i32) {
    COUNT.fetch_add(1, SeqCst);
    LAST_SIGNAL.store(signal, SeqCst);
    MASK_INSIDE.store(mask(), SeqCst);
    let local = 0_u8;
    LAST_STACK.store(&raw const local as usize, SeqCst);
}

extern "C" fn inform(signal: i32, information: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel passes a filled siginfo_t, in which each kind of signal has its own fields.
    unsafe {
        COUNT.fetch_add(1, SeqCst);
        LAST_SIGNAL.store(signal, SeqCst);
        LAST_CODE.store((*information).si_code, SeqCst);
        LAST_SENDER.store((*information).si_pid(), SeqCst);
        LAST_VALUE.store((*information).si_value().sival_ptr as usize, SeqCst);
        LAST_ADDRESS.store((*information).si_addr() as usize, SeqCst);
    }
}

extern "C" fn note_order(signal: i32) {
    if let Ok(mut order) = ORDER.try_lock() {
        order.push(signal);
    }
}

pub fn install(signal: i32, handler: usize, flags: i32) -> i32 {
    // SAFETY: sigaction is plain data; the handler has the signature that its flags ask for.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler;
        action.sa_flags = flags;
        libc::sigaction(signal, &action, null_mut())
    }
}

fn handle(signal: i32, flags: i32) {
    install(signal, count as *const () as usize, flags);
}

fn handle_with_information(signal: i32) {
    install(signal, inform as *const () as usize, libc::SA_SIGINFO);
}

fn set_of(signals: &[i32]) -> libc::sigset_t {
    // SAFETY: signal sets are plain integers.
    unsafe {
        let mut set = std::mem::zeroed();
        for &signal in signals {
            libc::sigaddset(&mut set, signal);
        }
        set
    }
}

pub fn block(signals: &[i32]) {
    sys!(sigprocmask(libc::SIG_BLOCK, &set_of(signals), null_mut()));
}

fn unblock(signals: &[i32]) {
    sys!(sigprocmask(libc::SIG_UNBLOCK, &set_of(signals), null_mut()));
}

/// The blocked signals as the kernel's own bit array.
fn mask() -> u64 {
    let mut bits = 0_u64;
    sys!(syscall(libc::SYS_rt_sigprocmask, 0, 0, &raw mut bits, 8));
    bits
}

fn pending() -> u64 {
    let mut bits = 0_u64;
    sys!(syscall(libc::SYS_rt_sigpending, &raw mut bits, 8));
    bits
}

fn is_in(bits: u64, signal: i32) -> bool {
    bits >> (signal - 1) & 1 != 0
}

fn counted() -> i32 {
    COUNT.load(SeqCst)
}

/// How a process ends that gets a signal whose action is the default.
fn by_default(signal: i32) -> String {
    let child = fork(|| {
        install(signal, libc::SIG_DFL, 0);
        sys!(raise(signal));
        0
    });
    let how = wait_with(child, libc::WUNTRACED);
    sys!(kill(child, libc::SIGKILL));
    how
}

/// Reads from an empty pipe while a signal comes; says how the read ends. The writer writes afterwards.
fn read_interrupted(flags: i32) -> String {
    handle(libc::SIGUSR1, flags);
    let (read_end, write_end) = pipe();
    let parent = sys!(getpid());
    let child = fork(|| {
        sleep_ms(30);
        sys!(kill(parent, libc::SIGUSR1));
        sleep_ms(30);
        write_all(write_end, b"late");
        0
    });
    let answer = read(read_end, 10);
    ending(child);
    answers!(answer, counted())
}

/// A child that sends a signal soon.
fn signal_soon(signal: i32) -> i32 {
    let parent = sys!(getpid());
    fork(|| {
        sleep_ms(30);
        sys!(kill(parent, signal));
        0
    })
}

fn nap(milliseconds: i64) -> (i32, libc::timespec) {
    let wanted = libc::timespec { tv_sec: milliseconds / 1000, tv_nsec: milliseconds % 1000 * 1_000_000 };
    let mut left = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    (sys!(nanosleep(&wanted, &mut left)), left)
}

pub fn bad_page(protection: i32) -> *mut u8 {
    sys!(mmap(null_mut(), 4096, protection, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)).cast()
}

pub const CASES: &[Case] = &[
    case!(
        "default_actions",
        (1..32)
            .filter(|signal| ![libc::SIGKILL, libc::SIGSTOP].contains(signal))
            .map(|signal| format!("{}: {}", signal_name(signal), by_default(signal)))
            .collect::<Vec<_>>()
            .join("; ")
    ),
    case!("default_action_of_a_real_time_signal", by_default(40)),
    case!("a_handler_runs", {
        handle(libc::SIGUSR1, 0);
        sys!(raise(libc::SIGUSR1));
        answers!(counted(), signal_name(LAST_SIGNAL.load(SeqCst)))
    }),
    case!("an_ignored_signal_does_nothing", {
        sys!(signal(libc::SIGUSR1, libc::SIG_IGN));
        sys!(raise(libc::SIGUSR1));
        counted()
    }),
    case!(
        "kill_and_stop_can_not_be_handled",
        answers!(
            ok(install(libc::SIGKILL, libc::SIG_IGN, 0)),
            ok(install(libc::SIGSTOP, count as *const () as usize, 0))
        )
    ),
    case!(
        "sigaction_of_signals_that_are_none",
        answers!(
            ok(sys!(syscall(libc::SYS_rt_sigaction, 0, 0, 0, 8))),
            ok(sys!(syscall(libc::SYS_rt_sigaction, 65, 0, 0, 8))),
            ok(sys!(syscall(libc::SYS_rt_sigaction, 64, 0, 0, 8))),
            ok(sys!(syscall(libc::SYS_rt_sigaction, 10, 0, 0, 4)))
        )
    ),
    case!("sigaction_gives_back_the_old", {
        handle(libc::SIGUSR1, libc::SA_RESTART | libc::SA_NODEFER);
        // SAFETY: sigaction is plain data; the kernel fills it.
        let old: libc::sigaction = unsafe {
            let mut old = std::mem::zeroed();
            libc::sigaction(libc::SIGUSR1, std::ptr::null(), &mut old);
            old
        };
        answers!(
            old.sa_sigaction == count as *const () as usize,
            old.sa_flags & (libc::SA_RESTART | libc::SA_NODEFER | libc::SA_SIGINFO)
        )
    }),
    case!("inside_a_handler_its_signal_is_blocked", {
        handle(libc::SIGUSR1, 0);
        sys!(raise(libc::SIGUSR1));
        answers!(is_in(MASK_INSIDE.load(SeqCst), libc::SIGUSR1), is_in(mask(), libc::SIGUSR1))
    }),
    case!("nodefer_leaves_it_open", {
        handle(libc::SIGUSR1, libc::SA_NODEFER);
        sys!(raise(libc::SIGUSR1));
        is_in(MASK_INSIDE.load(SeqCst), libc::SIGUSR1)
    }),
    case!("sa_mask_is_blocked_inside", {
        // SAFETY: sigaction is plain data, and the handler takes one argument.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = count as *const () as usize;
            action.sa_mask = set_of(&[libc::SIGTERM, libc::SIGKILL]);
            libc::sigaction(libc::SIGUSR1, &action, null_mut());
        }
        sys!(raise(libc::SIGUSR1));
        answers!(is_in(MASK_INSIDE.load(SeqCst), libc::SIGTERM), is_in(MASK_INSIDE.load(SeqCst), libc::SIGKILL), mask())
    }),
    case!("resethand_works_once", {
        handle(libc::SIGCHLD, libc::SA_RESETHAND);
        sys!(raise(libc::SIGCHLD));
        sys!(raise(libc::SIGCHLD));
        counted()
    }),
    case!("blocked_signals_wait", {
        handle(libc::SIGUSR1, 0);
        block(&[libc::SIGUSR1]);
        sys!(raise(libc::SIGUSR1));
        let before = counted();
        let waiting = is_in(pending(), libc::SIGUSR1);
        unblock(&[libc::SIGUSR1]);
        answers!(before, waiting, counted(), is_in(pending(), libc::SIGUSR1))
    }),
    case!("standard_signals_do_not_queue_but_real_time_signals_do", {
        handle(libc::SIGUSR1, 0);
        handle(40, 0);
        block(&[libc::SIGUSR1, 40]);
        for _ in 0..5 {
            sys!(raise(libc::SIGUSR1));
            sys!(raise(40));
        }
        unblock(&[libc::SIGUSR1]);
        let standard = counted();
        unblock(&[40]);
        answers!(standard, counted() - standard)
    }),
    case!("the_order_of_delivery", {
        let signals = [libc::SIGTERM, 42, libc::SIGUSR1, 40, libc::SIGHUP, 41];
        for signal in signals {
            install(signal, note_order as *const () as usize, 0);
        }
        block(&signals);
        for signal in signals {
            sys!(raise(signal));
        }
        // SAFETY: zeros are an empty set.
        sys!(sigprocmask(libc::SIG_SETMASK, &set_of(&[]), null_mut()));
        ORDER.lock().map(|order| format!("{order:?}")).unwrap_or_default()
    }),
    case!("kill_and_stop_can_not_be_blocked", {
        block(&[libc::SIGKILL, libc::SIGSTOP, libc::SIGHUP]);
        format!("{:#x}", mask())
    }),
    case!("sigprocmask_of_a_way_that_is_none", ok(sys!(syscall(libc::SYS_rt_sigprocmask, 9, &raw const COUNT, 0, 8)))),
    case!("sigprocmask_with_a_wrong_size", ok(sys!(syscall(libc::SYS_rt_sigprocmask, 0, 0, 0, 4)))),
    case!("ignoring_a_pending_signal_drops_it", {
        block(&[libc::SIGUSR1]);
        sys!(raise(libc::SIGUSR1));
        sys!(signal(libc::SIGUSR1, libc::SIG_IGN));
        is_in(pending(), libc::SIGUSR1)
    }),
    case!("siginfo_of_kill", {
        handle_with_information(libc::SIGUSR1);
        sys!(kill(sys!(getpid()), libc::SIGUSR1));
        answers!(LAST_CODE.load(SeqCst), LAST_SENDER.load(SeqCst) == sys!(getpid()))
    }),
    case!("siginfo_of_tgkill", {
        handle_with_information(libc::SIGUSR1);
        sys!(syscall(libc::SYS_tgkill, sys!(getpid()), sys!(getpid()), libc::SIGUSR1));
        LAST_CODE.load(SeqCst)
    }),
    case!("siginfo_of_sigqueue", {
        handle_with_information(libc::SIGUSR1);
        let sent = sys!(sigqueue(sys!(getpid()), libc::SIGUSR1, libc::sigval { sival_ptr: 0x1234 as *mut _ }));
        answers!(ok(sent), LAST_CODE.load(SeqCst), LAST_VALUE.load(SeqCst))
    }),
    case!("siginfo_of_a_child", {
        handle_with_information(libc::SIGCHLD);
        let child = fork(|| 9);
        while counted() == 0 {
            sleep_ms(1);
        }
        answers!(LAST_CODE.load(SeqCst), LAST_SENDER.load(SeqCst) == child, ending(child))
    }),
    case!(
        "tgkill_refuses",
        answers!(
            ok(sys!(syscall(libc::SYS_tgkill, -1, 1, 0))),
            ok(sys!(syscall(libc::SYS_tgkill, sys!(getpid()), 1, 0))),
            ok(sys!(syscall(libc::SYS_tkill, 0x3ffffff, 0)))
        )
    ),
    case!("sigqueue_may_not_pretend_to_be_the_kernel", {
        // SAFETY: siginfo_t is plain data.
        let mut information: libc::siginfo_t = unsafe { std::mem::zeroed() };
        information.si_code = 1;
        asked_in_child(|| {
            let parent = sys!(getppid());
            ok(sys!(syscall(libc::SYS_rt_sigqueueinfo, parent, libc::SIGURG, &raw const information)))
        })
    }),
    case!("sigsuspend_waits_with_another_mask", {
        handle(libc::SIGUSR1, 0);
        block(&[libc::SIGUSR1]);
        sys!(raise(libc::SIGUSR1));
        let answer = ok(sys!(sigsuspend(&set_of(&[]))));
        answers!(answer, counted(), is_in(mask(), libc::SIGUSR1))
    }),
    case!("pause_ends_with_a_handler", {
        handle(libc::SIGUSR1, libc::SA_RESTART);
        let child = signal_soon(libc::SIGUSR1);
        let answer = ok(sys!(pause()));
        ending(child);
        answers!(answer, counted())
    }),
    case!("sigwait_takes_a_blocked_signal", {
        block(&[libc::SIGUSR1]);
        sys!(raise(libc::SIGUSR1));
        // SAFETY: siginfo_t is plain data; the kernel fills it.
        let mut information: libc::siginfo_t = unsafe { std::mem::zeroed() };
        let answer = sys!(sigwaitinfo(&set_of(&[libc::SIGUSR1]), &mut information));
        answers!(value(answer), information.si_signo, information.si_code, is_in(pending(), libc::SIGUSR1))
    }),
    case!("sigwait_takes_a_signal_that_is_ignored_by_default", {
        block(&[libc::SIGCHLD, libc::SIGWINCH]);
        sys!(raise(libc::SIGWINCH));
        let waiting = is_in(pending(), libc::SIGWINCH);
        let child = fork(|| {
            sleep_ms(30);
            3
        });
        answers!(waiting, value(sys!(sigwaitinfo(&set_of(&[libc::SIGCHLD]), null_mut()))), ending(child))
    }),
    case!("sigtimedwait_runs_out", {
        let limit = libc::timespec { tv_sec: 0, tv_nsec: 10_000_000 };
        value(sys!(sigtimedwait(&set_of(&[libc::SIGUSR1]), null_mut(), &limit)))
    }),
    case!("sigtimedwait_with_a_bad_time", {
        let limit = libc::timespec { tv_sec: 0, tv_nsec: 2_000_000_000 };
        value(sys!(sigtimedwait(&set_of(&[libc::SIGUSR1]), null_mut(), &limit)))
    }),
    case!("sigtimedwait_is_interrupted_by_others", {
        handle(libc::SIGUSR2, 0);
        block(&[libc::SIGUSR1]);
        let child = signal_soon(libc::SIGUSR2);
        let answer = value(sys!(sigwaitinfo(&set_of(&[libc::SIGUSR1]), null_mut())));
        ending(child);
        answer
    }),
    case!("read_without_restart", read_interrupted(0)),
    case!("read_with_restart", read_interrupted(libc::SA_RESTART)),
    case!("read_goes_on_after_an_ignored_signal", {
        let (read_end, write_end) = pipe();
        let parent = sys!(getpid());
        let child = fork(|| {
            sleep_ms(20);
            sys!(kill(parent, libc::SIGURG));
            sleep_ms(20);
            write_all(write_end, b"x");
            0
        });
        let answer = read(read_end, 10);
        ending(child);
        answer
    }),
    case!("wait_is_interrupted", {
        handle(libc::SIGUSR1, 0);
        let sleeper = fork(|| {
            sleep_ms(200);
            3
        });
        let child = signal_soon(libc::SIGUSR1);
        let mut status = 0;
        let first = value(sys!(waitpid(sleeper, &mut status, 0)));
        ending(child);
        answers!(first, ending(sleeper))
    }),
    case!("wait_is_restarted", {
        handle(libc::SIGUSR1, libc::SA_RESTART);
        let sleeper = fork(|| {
            sleep_ms(100);
            3
        });
        signal_soon(libc::SIGUSR1);
        let mut status = 0;
        let first = sys!(waitpid(sleeper, &mut status, 0));
        answers!(first == sleeper, status_text(status), counted())
    }),
    case!("nanosleep_is_interrupted_even_with_restart", {
        handle(libc::SIGUSR1, libc::SA_RESTART);
        let child = signal_soon(libc::SIGUSR1);
        let (answer, left) = nap(5_000);
        let answer = ok(answer);
        ending(child);
        answers!(answer, left.tv_sec)
    }),
    case!("nanosleep_goes_on_after_stop_and_continuation", {
        let sleeper = fork(|| {
            let (answer, _) = nap(150);
            if answer == 0 { 4 } else { errno() }
        });
        sleep_ms(30);
        sys!(kill(sleeper, libc::SIGSTOP));
        wait_with(sleeper, libc::WUNTRACED);
        sys!(kill(sleeper, libc::SIGCONT));
        ending(sleeper)
    }),
    case!("poll_is_interrupted_even_with_restart", {
        handle(libc::SIGUSR1, libc::SA_RESTART);
        let child = signal_soon(libc::SIGUSR1);
        let answer = value(sys!(poll(null_mut(), 0, 5000)));
        ending(child);
        answer
    }),
    case!("alternate_stack_is_used", {
        let stack = bad_page(libc::PROT_READ | libc::PROT_WRITE);
        let big = sys!(mmap(
            null_mut(),
            65536,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0
        ));
        let alternate = libc::stack_t { ss_sp: big, ss_flags: 0, ss_size: 65536 };
        let answer = ok(sys!(sigaltstack(&alternate, null_mut())));
        handle(libc::SIGUSR1, libc::SA_ONSTACK);
        sys!(raise(libc::SIGUSR1));
        let inside = (big as usize..big as usize + 65536).contains(&LAST_STACK.load(SeqCst));
        handle(libc::SIGUSR1, 0);
        sys!(raise(libc::SIGUSR1));
        let outside = (big as usize..big as usize + 65536).contains(&LAST_STACK.load(SeqCst));
        answers!(answer, inside, outside, !stack.is_null())
    }),
    case!("alternate_stack_refuses", {
        let memory = bad_page(libc::PROT_READ | libc::PROT_WRITE);
        answers!(
            ok(sys!(sigaltstack(&libc::stack_t { ss_sp: memory.cast(), ss_flags: 0, ss_size: 1000 }, null_mut()))),
            ok(sys!(sigaltstack(&libc::stack_t { ss_sp: memory.cast(), ss_flags: 77, ss_size: 4096 }, null_mut()))),
        )
    }),
    case!("a_handler_can_change_registers", {
        install(libc::SIGILL, skip_ud2 as *const () as usize, libc::SA_SIGINFO);
        let answer: u64;
        // SAFETY: the handler skips the instruction and sets rax.
        unsafe { std::arch::asm!("ud2", out("rax") answer) };
        answer
    }),
    case!("vector_registers_survive_a_handler", {
        install(libc::SIGUSR1, spoil_registers as *const () as usize, 0);
        let (own, after): (u64, u64) = (sys!(getpid()) as u64, 0x1122_3344_5566_7788);
        let kept: u64;
        // SAFETY: kill(own, SIGUSR1): the handler runs before the call is over.
        unsafe {
            std::arch::asm!("movq xmm9, {value}", "syscall", "movq {kept}, xmm9", value = in(reg) after, kept = lateout(reg) kept,
                inlateout("rax") 62_u64 => _, in("rdi") own, in("rsi") 10_u64, out("rcx") _, out("r11") _, out("xmm9") _);
        }
        answers!(kept == after, counted())
    }),
    case!("the_red_zone_survives_a_handler", {
        handle(libc::SIGUSR1, 0);
        let kept: u64;
        // SAFETY: the 128 bytes below the stack pointer belong to this code by the ABI (§3.2.2).
        unsafe {
            std::arch::asm!("mov qword ptr [rsp - 8], 0x5a5a", "mov qword ptr [rsp - 128], 0x2525", "syscall",
                "mov {kept}, [rsp - 8]", "add {kept}, [rsp - 128]", kept = lateout(reg) kept,
                inlateout("rax") 62_u64 => _, in("rdi") sys!(getpid()) as u64, in("rsi") 10_u64, out("rcx") _, out("r11") _);
        }
        answers!(kept == 0x5a5a + 0x2525, counted())
    }),
    case!("flags_are_clean_in_a_handler_and_kept_outside", {
        install(libc::SIGUSR1, note_flags as *const () as usize, 0);
        let flags: u64;
        // SAFETY: the direction flag is cleared again before compiled code runs.
        unsafe {
            std::arch::asm!("std", "syscall", "pushfq", "pop {flags}", "cld", flags = lateout(reg) flags,
                inlateout("rax") 62_u64 => _, in("rdi") sys!(getpid()) as u64, in("rsi") 10_u64, out("rcx") _, out("r11") _);
        }
        answers!(flags & 0x400 != 0, MASK_INSIDE.load(SeqCst) & 0x400 != 0)
    }),
    case!("a_handler_interrupted_by_another", {
        handle(libc::SIGUSR2, 0);
        install(libc::SIGUSR1, raise_another as *const () as usize, 0);
        sys!(raise(libc::SIGUSR1));
        answers!(counted(), LAST_VALUE.load(SeqCst))
    }),
    case!(
        "sigpipe_is_death",
        in_child(|| {
            sys!(signal(libc::SIGPIPE, libc::SIG_DFL));
            let (read_end, write_end) = pipe();
            close(read_end);
            write_all(write_end, b"x");
            0
        })
    ),
    case!("children_stop_without_notice", {
        handle(libc::SIGCHLD, libc::SA_NOCLDSTOP);
        let child = fork(|| {
            sys!(raise(libc::SIGSTOP));
            0
        });
        let stop = wait_with(child, libc::WUNTRACED);
        let quiet = counted();
        sys!(kill(child, libc::SIGCONT));
        answers!(stop, quiet, ending(child), counted())
    }),
    case!("children_without_burial", {
        handle(libc::SIGCHLD, libc::SA_NOCLDWAIT);
        fork(|| 3);
        answers!(value(sys!(wait(null_mut()))))
    }),
    case!(
        "a_user_may_not_signal_root",
        as_user(|| answers!(ok(sys!(kill(1, 0))), ok(sys!(kill(sys!(getppid()), libc::SIGTERM)))))
    ),
    case!("continuation_drops_pending_stops", {
        block(&[libc::SIGTSTP, libc::SIGCONT]);
        sys!(raise(libc::SIGTSTP));
        let before = is_in(pending(), libc::SIGTSTP);
        sys!(raise(libc::SIGCONT));
        answers!(before, is_in(pending(), libc::SIGTSTP), is_in(pending(), libc::SIGCONT))
    }),
];

extern "C" fn skip_ud2(_: i32, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel passes a ucontext that it loads again when the handler returns.
    unsafe {
        let registers = &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs;
        registers[libc::REG_RIP as usize] += 2;
        registers[libc::REG_RAX as usize] = 4711;
    }
}

extern "C" fn spoil_registers(_: i32) {
    COUNT.fetch_add(1, SeqCst);
    // SAFETY: the register is declared as changed.
    unsafe { std::arch::asm!("pcmpeqd xmm9, xmm9", out("xmm9") _) };
}

extern "C" fn note_flags(_: i32) {
    let flags: u64;
    // SAFETY: reads the flags through the stack.
    unsafe { std::arch::asm!("pushfq", "pop {}", out(reg) flags) };
    MASK_INSIDE.store(flags, SeqCst);
}

extern "C" fn raise_another(_: i32) {
    sys!(raise(libc::SIGUSR2));
    LAST_VALUE.store(counted() as usize, SeqCst);
}
