//! What a program's own exceptions become: signals. (Page faults are resolved in src/memory/faults.rs.)

use super::current;
use super::signal::{self, Info, Signal, code};
use crate::cpu::exceptions::Exception;
use crate::cpu::fpu;
use crate::interrupts::InterruptFrame;

/// Called with interrupts off; the signal is taken on the way back to user mode.
pub fn handle(frame: &InterruptFrame, exception: Exception) {
    let at_instruction = |signal, code| Info::fault(signal, code, frame.rip);
    let info = match exception {
        Exception::DivideError => at_instruction(Signal::FPE, code::FPE_INTDIV),
        Exception::Debug => at_instruction(Signal::TRAP, code::TRAP_TRACE),
        // As on Linux: int3 carries no address.
        Exception::Breakpoint => Info::from_kernel(Signal::TRAP),
        Exception::InvalidOpcode => at_instruction(Signal::ILL, code::ILL_ILLOPN),
        Exception::FloatingPoint => at_instruction(Signal::FPE, floating_point_code(fpu::x87_exceptions())),
        Exception::SimdFloatingPoint => at_instruction(Signal::FPE, floating_point_code(fpu::simd_exceptions())),
        Exception::AlignmentCheck => Info::fault(Signal::BUS, code::BUS_ADRALN, 0),
        Exception::SegmentNotPresent | Exception::StackSegment => Info::from_kernel(Signal::BUS),
        // A privileged instruction, a non-canonical address, an `int` without a gate, …
        _ => Info::from_kernel(Signal::SEGV),
    };
    let thread = current();
    thread.note_exception(frame.vector, frame.error_code, None);
    signal::force(&thread, info);
}

/// Which floating-point error it was; the flags are those of the x87 status word and of MXCSR (SDM 1 §8.1.3), unmasked ones
/// only. As on Linux the first of these counts.
fn floating_point_code(flags: u32) -> i32 {
    const CODES: [(u32, i32); 5] = [
        (1 << 0, code::FPE_FLTINV),
        (1 << 2, code::FPE_FLTDIV),
        (1 << 3, code::FPE_FLTOVF),
        (1 << 1 | 1 << 4, code::FPE_FLTUND),
        (1 << 5, code::FPE_FLTRES),
    ];
    CODES.iter().find(|(mask, _)| flags & mask != 0).map_or(0, |(_, code)| *code)
}
