//! The interrupt descriptor table: every vector leads to its stub in asm/interrupts.asm.
//!
//! All gates are interrupt gates: the CPU clears IF on the way in. Three may be used by a program's own `int`: 3 and 4
//! (breakpoint and overflow), and 0x80 (system call).

use super::gdt::{InterruptStack, KERNEL_CODE};
use super::layout::asm_constant;
use super::per_cpu::VECTOR_COUNT;
use lazy_static::lazy_static;
use x86_64::registers::segmentation::SegmentSelector;
use x86_64::structures::idt::{Entry, HandlerFunc, InterruptDescriptorTable};
use x86_64::{PrivilegeLevel, VirtAddr};

/// `int 0x80`: the system-call gate.
pub const SYSTEM_CALL_VECTOR: u8 = 0x80;

unsafe extern "C" {
    /// 256 stubs of equal size, in the order of their vectors.
    static interrupt_stubs: u8;
}

const STUB_BYTES: u64 = asm_constant("INTERRUPT_STUB_BYTES") as u64;

lazy_static! {
    static ref TABLE: InterruptDescriptorTable = {
        let mut table = InterruptDescriptorTable::new();
        let entries: *mut [Entry<HandlerFunc>; VECTOR_COUNT] = (&raw mut table).cast();
        // SAFETY: the type is the hardware's table, `repr(C)`: 256 entries of one size, whatever handler type each is
        // declared with. By index the reserved vectors are reached too.
        let entries = unsafe { &mut *entries };
        for (vector, entry) in (0..=u8::MAX).zip(entries) {
            fill(vector, entry);
        }
        table
    };
}

fn fill(vector: u8, entry: &mut Entry<HandlerFunc>) {
    let stub = VirtAddr::new_truncate(stub_address(vector));
    // SAFETY: the stub is entered as an interrupt handler is, and ends in IRETQ; the selector is the kernel's code segment.
    let options = unsafe { entry.set_handler_addr(stub).set_code_selector(SegmentSelector(KERNEL_CODE)) };
    if is_for_programs(vector) {
        options.set_privilege_level(PrivilegeLevel::Ring3);
    }
    if let Some(stack) = interrupt_stack(vector) {
        // SAFETY: gdt::init filled this entry of the TSS, and each stack serves one vector only.
        unsafe { options.set_stack_index(stack as u16) };
    }
}

/// Where the CPU enters the kernel for a vector.
pub fn stub_address(vector: u8) -> u64 {
    &raw const interrupt_stubs as u64 + u64::from(vector) * STUB_BYTES
}

/// A program's `int` may name these: breakpoint, overflow, and the system-call gate.
const fn is_for_programs(vector: u8) -> bool {
    matches!(vector, 3 | 4 | SYSTEM_CALL_VECTOR)
}

/// The vectors that can arrive while RSP or GS is not the kernel's, and so come on stacks of their own. asm/interrupts.asm
/// gives the same vectors their own entry.
const fn interrupt_stack(vector: u8) -> Option<InterruptStack> {
    match vector {
        1 => Some(InterruptStack::Debug),
        2 => Some(InterruptStack::NonMaskable),
        8 => Some(InterruptStack::DoubleFault),
        18 => Some(InterruptStack::MachineCheck),
        _ => None,
    }
}

pub fn init() {
    TABLE.load();
}

/// Whether a program's `int` with this vector is let through, by what the table says.
#[cfg(feature = "kernel-tests")]
pub fn is_open_to_programs(vector: u8) -> bool {
    let entries: *const [[u64; 2]; VECTOR_COUNT] = (&raw const *TABLE).cast();
    // SAFETY: the table is 256 entries of 16 bytes, and nobody writes to it any more.
    let [low, _] = unsafe { (*entries)[vector as usize] };
    low >> 45 & 3 == 3
}
