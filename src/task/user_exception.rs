//! What a program's own exceptions become: signals. (Page faults are resolved in src/memory/faults.rs.)

use super::current;
use super::signal::{self, Info, Signal, code};
use crate::cpu::exceptions::Exception;
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
        Exception::FloatingPoint | Exception::SimdFloatingPoint => at_instruction(Signal::FPE, code::FPE_FLTINV),
        Exception::AlignmentCheck => Info::fault(Signal::BUS, code::BUS_ADRALN, 0),
        Exception::SegmentNotPresent | Exception::StackSegment => Info::from_kernel(Signal::BUS),
        // A privileged instruction, a non-canonical address, an `int` without a gate, …
        _ => Info::from_kernel(Signal::SEGV),
    };
    signal::force(&current(), info);
}
