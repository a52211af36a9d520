//! Tries accesses that the processor must refuse, and comes back to tell.
//!
//! A probe says where to go on before it touches the address. The page-fault handler finds that no code of the kernel's can
//! recover, and asks [`recover`] before it calls the fault a bug.

use crate::interrupts::InterruptFrame;
use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// Where the probe that is under way goes on after a fault; 0 while there is none.
static RECOVERY: AtomicU64 = AtomicU64::new(0);
/// The error code of the fault that a probe met, plus one; 0 for none.
static REFUSED_WITH: AtomicU64 = AtomicU64::new(0);

/// Sends a probe's fault back to the probe. False where there is no probe under way.
pub fn recover(frame: &mut InterruptFrame) -> bool {
    let recovery = RECOVERY.swap(0, SeqCst);
    if recovery == 0 {
        return false;
    }
    REFUSED_WITH.store(frame.error_code + 1, SeqCst);
    frame.rip = recovery;
    true
}

fn outcome() -> Result<(), u64> {
    RECOVERY.store(0, SeqCst);
    REFUSED_WITH.swap(0, SeqCst).checked_sub(1).map_or(Ok(()), Err)
}

/// Reads a byte; the page fault's error code where that is refused.
pub fn read(address: u64) -> Result<(), u64> {
    // SAFETY: a load from anywhere, whose fault goes on at the label behind it.
    unsafe {
        asm!("lea {scratch}, [rip + 2f]", "mov [{recovery}], {scratch}", "mov {scratch:l}, [{address}]", "2:",
            scratch = out(reg_abcd) _, recovery = in(reg) RECOVERY.as_ptr(), address = in(reg) address);
    }
    outcome()
}

/// Reads the byte there and writes it back.
pub fn write(address: u64) -> Result<(), u64> {
    // SAFETY: what is written is what was there; a fault of either goes on at the label behind them.
    unsafe {
        asm!("lea {scratch}, [rip + 2f]", "mov [{recovery}], {scratch}", "mov {scratch:l}, [{address}]",
            "mov [{address}], {scratch:l}", "2:",
            scratch = out(reg_abcd) _, recovery = in(reg) RECOVERY.as_ptr(), address = in(reg) address);
    }
    outcome()
}

/// Calls what lies at an address: a RET there, or nothing that may run.
pub fn execute(address: u64) -> Result<(), u64> {
    // SAFETY: the code there returns at once, or may not be fetched; then the stack is put back at the label.
    unsafe {
        asm!("lea r12, [rip + 2f]", "mov [{recovery}], r12", "mov r12, rsp", "call {address}", "2:", "mov rsp, r12",
            recovery = in(reg) RECOVERY.as_ptr(), address = in(reg) address, out("r12") _, clobber_abi("C"));
    }
    outcome()
}
