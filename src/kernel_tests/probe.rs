//! Does what the processor must refuse, and comes back to tell how it was refused.
//!
//! The instruction under test stands between a note of where to go on and that place; [`recover`], which the exception
//! handler asks first, sends the interrupted code there.

use crate::cpu::exceptions::Exception;
use crate::cpu::features::features;
use crate::interrupts::InterruptFrame;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use x86_64::registers::rflags::{self, RFlags};

/// Where to go on, and with which RSP, after a fault; 0 while none is expected.
static CONTINUE_AT: AtomicU64 = AtomicU64::new(0);
static CONTINUE_RSP: AtomicU64 = AtomicU64::new(0);

static CAUGHT: AtomicBool = AtomicBool::new(false);
static VECTOR: AtomicU64 = AtomicU64::new(0);
static ERROR_CODE: AtomicU64 = AtomicU64::new(0);

/// Whatever a program, or the interrupted kernel, had set: no handler runs with flags that would disturb it. Asked at each
/// entry, by whichever way.
pub fn assert_entry_flags_are_clean() {
    let mut disturbing = RFlags::DIRECTION_FLAG | RFlags::TRAP_FLAG | RFlags::NESTED_TASK;
    // Without SMAP nothing in the kernel looks at AC, and there is no instruction that clears it alone.
    disturbing.set(RFlags::ALIGNMENT_CHECK, features().smap);
    let found = rflags::read() & disturbing;
    assert!(found.is_empty(), "the kernel was entered with {found:?}");
}

/// What an attempt came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Allowed,
    Refused { exception: Exception, error_code: u64 },
}

/// Takes the exception if a probe expects one.
pub fn recover(frame: &mut InterruptFrame) -> bool {
    let place = CONTINUE_AT.swap(0, Relaxed);
    if place == 0 || frame.from_user() {
        return false;
    }
    VECTOR.store(frame.vector, Relaxed);
    ERROR_CODE.store(frame.error_code, Relaxed);
    CAUGHT.store(true, Relaxed);
    frame.rip = place;
    frame.rsp = CONTINUE_RSP.load(Relaxed);
    true
}

pub fn outcome() -> Outcome {
    CONTINUE_AT.store(0, Relaxed);
    match (CAUGHT.swap(false, Relaxed), Exception::from_vector(VECTOR.load(Relaxed))) {
        (true, Some(exception)) => Outcome::Refused { exception, error_code: ERROR_CODE.load(Relaxed) },
        _ => Outcome::Allowed,
    }
}

/// The two words that the assembly of [`attempt!`] fills.
pub fn places() -> (*mut u64, *mut u64) {
    (CONTINUE_AT.as_ptr(), CONTINUE_RSP.as_ptr())
}

/// Runs instructions that may use RAX, given a value, and RDX; they must do no harm if they are allowed.
#[macro_export]
macro_rules! attempt {
    ($($instruction:literal),+ ; $rax:expr) => {{
        let (continue_at, continue_rsp) = $crate::kernel_tests::probe::places();
        let rax: u64 = $rax;
        // SAFETY: the instructions are the test's own; a fault goes on behind them with the stack as it was, and all
        // registers that a call may change are given up.
        unsafe {
            core::arch::asm!(
                "lea r8, [rip + 77f]",
                "mov [r10], rsp",
                "mov [r9], r8",
                $($instruction,)+
                "77:",
                inout("rax") rax => _,
                in("r9") continue_at,
                in("r10") continue_rsp,
                clobber_abi("sysv64"),
            );
        }
        $crate::kernel_tests::probe::outcome()
    }};
}

/// Reads a byte; the page fault's error code where that is refused.
pub fn read(address: u64) -> Result<(), u64> {
    page_fault(attempt!("mov al, [rax]"; address))
}

/// Reads the byte there and writes it back.
pub fn write(address: u64) -> Result<(), u64> {
    page_fault(attempt!("mov dl, [rax]", "mov [rax], dl"; address))
}

/// Calls what lies at an address: a RET there, or nothing that may run.
pub fn execute(address: u64) -> Result<(), u64> {
    page_fault(attempt!("call rax"; address))
}

fn page_fault(outcome: Outcome) -> Result<(), u64> {
    match outcome {
        Outcome::Allowed => Ok(()),
        Outcome::Refused { exception: Exception::PageFault, error_code } => Err(error_code),
        Outcome::Refused { exception, .. } => panic!("{exception:?} where a page fault was to be expected"),
    }
}
