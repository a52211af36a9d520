//! /proc/interrupts: how often each vector that was ever taken was, by CPU, and through what.

use super::{FIRST_DEVICE_VECTOR, FIRST_IRQ_VECTOR, IRQ_COUNT, local_apic, uses_apics};
use crate::cpu::exceptions::Exception;
use crate::cpu::idt::SYSTEM_CALL_VECTOR;
use crate::cpu::per_cpu;
use core::fmt::{self, Write};

/// The whole file.
pub fn write_counts(output: &mut dyn Write) -> fmt::Result {
    write!(output, "     ")?;
    per_cpu::all().try_for_each(|cpu| write!(output, "       CPU{:<1}", cpu.index()))?;
    writeln!(output)?;
    for vector in (0..=u8::MAX).filter(|vector| per_cpu::all().any(|cpu| cpu.interrupt_count(*vector) != 0)) {
        match vector.wrapping_sub(FIRST_IRQ_VECTOR) {
            irq @ ..IRQ_COUNT => write!(output, "{irq:>4}:")?,
            _ => write!(output, " V{vector:02X}:")?,
        }
        per_cpu::all().try_for_each(|cpu| write!(output, " {:>10}", cpu.interrupt_count(vector)))?;
        writeln!(output, "   {}", source(vector))?;
    }
    Ok(())
}

/// What raises a vector.
fn source(vector: u8) -> &'static str {
    match vector {
        local_apic::TIMER_VECTOR => "local timer",
        local_apic::SPURIOUS_VECTOR => "spurious",
        SYSTEM_CALL_VECTOR => "int 0x80",
        ..FIRST_DEVICE_VECTOR => Exception::from_vector(u64::from(vector)).map_or("", Exception::in_words),
        _ if uses_apics() => "IO-APIC",
        _ => "8259 PIC",
    }
}
