//! Segments, and the stacks that the CPU switches to by itself.
//!
//! In 64-bit mode segments only name privilege levels; their order is what SYSCALL and SYSRET count on (SDM 2B, SYSRET):
//! kernel code, kernel data, then room for user 32-bit code, user data, user 64-bit code. The room stays empty: a program
//! that could jump to 32-bit code would enter the kernel by SYSCALL at CSTAR, where there is nothing. The TSS holds RSP0, the
//! stack for an entry from user mode, and the interrupt stack table: stacks for what must not depend on RSP being good.

#![expect(clippy::indexing_slicing, reason = "an interrupt stack's number is its place in the table")]

use super::layout::asm_constant;
use super::per_cpu;
use core::cell::UnsafeCell;
use lazy_static::lazy_static;
use x86_64::VirtAddr;
use x86_64::instructions::segmentation::{CS, DS, ES, SS, Segment};
use x86_64::instructions::tables::load_tss;
use x86_64::registers::segmentation::SegmentSelector;
use x86_64::structures::gdt::{Descriptor, GlobalDescriptorTable};

pub const KERNEL_CODE: u16 = asm_constant("KERNEL_CODE_SELECTOR") as u16;
pub const KERNEL_DATA: u16 = asm_constant("KERNEL_DATA_SELECTOR") as u16;
pub const USER_DATA: u16 = asm_constant("USER_DATA_SELECTOR") as u16;
pub const USER_CODE: u16 = asm_constant("USER_CODE_SELECTOR") as u16;
/// A descriptor that can't be loaded.
const NO_SEGMENT: u64 = 0;
/// What STAR holds for SYSRET: it adds 8 for SS and 16 for CS (SDM 3A §5.8.8).
pub(super) const SYSRET_BASE: u16 = USER_DATA - 8;

/// Which interrupt stack an IDT gate asks for: its index in the TSS's table, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum InterruptStack {
    DoubleFault = 0,
    NonMaskable = 1,
    MachineCheck = 2,
    Debug = 3,
}

impl InterruptStack {
    const ALL: [Self; 4] = [Self::DoubleFault, Self::NonMaskable, Self::MachineCheck, Self::Debug];
}

const STACK_BYTES: usize = 16 * 1024;

/// A stack whose lowest page is given up: src/memory leaves it unmapped, so that an overflow faults.
#[repr(C, align(4096))]
struct GuardedStack {
    _guard: UnsafeCell<[u8; crate::PAGE_SIZE]>,
    stack: UnsafeCell<[u8; STACK_BYTES]>,
}

// SAFETY: only the CPU writes to these, as the stack of the one handler that runs there; Rust code sees their addresses.
unsafe impl Sync for GuardedStack {}

impl GuardedStack {
    const fn new() -> Self {
        Self { _guard: UnsafeCell::new([0; crate::PAGE_SIZE]), stack: UnsafeCell::new([0; STACK_BYTES]) }
    }

    fn top(&self) -> VirtAddr {
        VirtAddr::from_ptr(self.stack.get()) + STACK_BYTES as u64
    }
}

/// The boot CPU's interrupt stacks, in [`InterruptStack`]'s order.
static INTERRUPT_STACKS: [GuardedStack; InterruptStack::ALL.len()] =
    [const { GuardedStack::new() }; InterruptStack::ALL.len()];

lazy_static! {
    /// The boot CPU's descriptors. The TSS descriptor makes the table a CPU's own.
    static ref DESCRIPTORS: GlobalDescriptorTable = {
        let mut table = GlobalDescriptorTable::new();
        table.append(Descriptor::kernel_code_segment());
        table.append(Descriptor::kernel_data_segment());
        table.append(Descriptor::UserSegment(NO_SEGMENT));
        table.append(Descriptor::user_data_segment());
        table.append(Descriptor::user_code_segment());
        // SAFETY: the TSS lies in the CPU's static per-CPU block.
        table.append(unsafe { Descriptor::tss_segment_unchecked(per_cpu::this_cpu().task_state_segment()) });
        table
    };
}

/// The seventh and eighth entries of the table: a TSS descriptor is 16 bytes (SDM 3A §7.2.3).
const TASK_STATE_SELECTOR: u16 = 6 * 8;

/// Loads the GDT, the segment registers and the task register. `per_cpu::init` comes first.
pub fn init() {
    for stack in InterruptStack::ALL {
        per_cpu::set_interrupt_stack(stack as usize, INTERRUPT_STACKS[stack as usize].top());
    }
    DESCRIPTORS.load();
    // SAFETY: the selectors are those of the table above. FS and GS are left alone: loading their selectors would clear
    // their bases, and GS's is the per-CPU block.
    unsafe {
        CS::set_reg(SegmentSelector(KERNEL_CODE));
        SS::set_reg(SegmentSelector(KERNEL_DATA));
        DS::set_reg(SegmentSelector(0));
        ES::set_reg(SegmentSelector(0));
        load_tss(SegmentSelector(TASK_STATE_SELECTOR));
    }
}

/// The pages below the interrupt stacks, for src/memory to leave unmapped.
pub fn guard_pages() -> impl Iterator<Item = VirtAddr> {
    INTERRUPT_STACKS.iter().map(|stack| VirtAddr::from_ptr(stack))
}

/// Each interrupt stack's range: for the tests that all page tables map them.
pub fn interrupt_stacks() -> impl Iterator<Item = core::ops::Range<u64>> {
    INTERRUPT_STACKS.iter().map(|stack| stack.top().as_u64() - STACK_BYTES as u64..stack.top().as_u64())
}
