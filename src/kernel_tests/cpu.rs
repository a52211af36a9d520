//! The CPU: does it refuse what it must, does time pass, are the entry's own things where they belong?

use super::probe::{self, Outcome};
use crate::cpu::exceptions::{Exception, page_fault};
use crate::cpu::features::features;
use crate::cpu::fpu::{self, FpuState};
use crate::cpu::{gdt, idt, per_cpu};
use crate::errno::Errno;
use crate::interrupts::clock;
use crate::lock::InterruptsOff;
use crate::memory::kernel_map;
use crate::{attempt, kernel_test};
use x86_64::VirtAddr;
use x86_64::registers::control::{Cr0, Cr0Flags, Cr4, Cr4Flags, Efer, EferFlags};
use x86_64::registers::model_specific::{GsBase, KernelGsBase, SFMask};
use x86_64::registers::rflags::RFlags;

fn refused(exception: Exception, error_code: u64) -> Outcome {
    Outcome::Refused { exception, error_code }
}

const PROGRAMS_GS: u64 = 0x7000_0000_1000;

/// Raises an exception while GS is the program's, as it is right after an entry from user mode: what GS then was for the
/// code that goes on, and what became of the attempt.
macro_rules! with_programs_gs {
    ($instruction:literal) => {{
        let (continue_at, continue_rsp) = probe::places();
        let gs: u64;
        KernelGsBase::write(VirtAddr::new(PROGRAMS_GS));
        // SAFETY: with interrupts off nothing looks at GS in between, but for the exception's own entry; the kernel's base is
        // put back whatever was found. All registers that a call may change are given up.
        unsafe {
            core::arch::asm!(
                "lea r8, [rip + 77f]",
                "mov [r10], rsp",
                "mov [r9], r8",
                "swapgs",
                $instruction,
                "77:",
                "mov ecx, 0xc0000101", // IA32_GS_BASE
                "rdmsr",
                "shl rdx, 32",
                "or rax, rdx",
                "xchg rax, rsi",
                "mov rdx, rax",
                "shr rdx, 32",
                "wrmsr",
                inout("rsi") GsBase::read().as_u64() => gs,
                in("r9") continue_at,
                in("r10") continue_rsp,
                clobber_abi("sysv64"),
            );
        }
        (gs, probe::outcome())
    }};
}

kernel_test! {
    fn exceptions_arrive_with_their_vectors_and_error_codes() {
        assert_eq!(attempt!("ud2"; 0), refused(Exception::InvalidOpcode, 0));
        assert_eq!(attempt!("int3"; 0), refused(Exception::Breakpoint, 0));
        assert_eq!(attempt!("xor edx, edx", "div dl"; 1u64), refused(Exception::DivideError, 0));
        // A selector past the GDT's end names itself in the error code.
        assert_eq!(attempt!("mov ds, ax"; 0x1230), refused(Exception::GeneralProtection, 0x1230));
        assert_eq!(attempt!("mov rax, [rax]"; 1u64 << 63), refused(Exception::GeneralProtection, 0));
        assert_eq!(attempt!("nop"; 0), Outcome::Allowed);
    }

    fn a_null_pointer_is_not_mapped() {
        assert_eq!(attempt!("mov rax, [rax]"; 0), refused(Exception::PageFault, 0));
        assert_eq!(attempt!("mov [rax], rax"; 8u64), refused(Exception::PageFault, page_fault::WRITE));
    }

    fn what_protects_the_kernel_is_on_where_the_cpu_has_it() {
        let (cr4, efer) = (Cr4::read(), Efer::read());
        assert!(Cr0::read().contains(Cr0Flags::WRITE_PROTECT));
        assert_eq!(cr4.contains(Cr4Flags::SUPERVISOR_MODE_EXECUTION_PROTECTION), features().smep);
        assert_eq!(cr4.contains(Cr4Flags::SUPERVISOR_MODE_ACCESS_PREVENTION), features().smap);
        assert_eq!(cr4.contains(Cr4Flags::USER_MODE_INSTRUCTION_PREVENTION), features().umip);
        assert_eq!(cr4.contains(Cr4Flags::PAGE_GLOBAL), features().pge);
        assert_eq!(cr4.contains(Cr4Flags::MACHINE_CHECK_EXCEPTION), features().mce);
        assert_eq!(efer.contains(EferFlags::NO_EXECUTE_ENABLE), features().nx);
        // QEMU's SYSCALL clears DF whatever SFMASK says, so only looking at it shows that one.
        let disturbing = RFlags::INTERRUPT_FLAG | RFlags::TRAP_FLAG | RFlags::DIRECTION_FLAG | RFlags::NESTED_TASK;
        assert!(SFMask::read().contains(disturbing | RFlags::ALIGNMENT_CHECK));
        assert!(!cr4.contains(Cr4Flags::FSGSBASE), "entry tells the kernel's GS base by its sign");
    }

    fn only_three_gates_are_open_to_programs() {
        for vector in 0..=u8::MAX {
            assert_eq!(idt::is_open_to_programs(vector), matches!(vector, 3 | 4 | 0x80), "vector {vector:#x}");
        }
    }

    fn interrupt_stacks_are_mapped_and_their_guards_are_not() {
        for stack in gdt::interrupt_stacks() {
            assert!(stack.step_by(crate::PAGE_SIZE).all(|page| kernel_map::translate(page).is_some()));
        }
        assert_eq!(gdt::guard_pages().count(), gdt::interrupt_stacks().count());
        assert!(gdt::guard_pages().all(|page| kernel_map::translate(page.as_u64()).is_none()));
    }

    fn both_ways_in_use_the_running_threads_stack() {
        assert_eq!(per_cpu::privileged_stack(), per_cpu::kernel_stack_top());
        assert_eq!(per_cpu::kernel_stack_top(), crate::task::current().kernel_stack_top());
    }

    fn time_never_goes_back() {
        let mut last = clock::now_ns();
        for _ in 0..100_000 {
            let now = clock::now_ns();
            assert!(now >= last, "{now} after {last}");
            last = now;
        }
    }

    fn a_debug_exception_in_the_kernel_is_survived() {
        // SAFETY: sets TF for one instruction.
        unsafe {
            core::arch::asm!("pushfq", "or qword ptr [rsp], 0x100", "popfq", "nop", "pushfq", "and qword ptr [rsp], -0x101", "popfq");
        }
    }

    /// As one that hits the first or last instructions of an entry, or an IRETQ that faults. `int 2` is the gate that an NMI
    /// takes, on its own stack; 3 stands for the gates without one.
    fn an_exception_in_the_kernel_finds_the_kernels_gs_and_leaves_the_programs() {
        let before = KernelGsBase::read();
        let _no_switch = InterruptsOff::new();
        let found = [
            (Exception::Debug, with_programs_gs!("int 1")),
            (Exception::NonMaskableInterrupt, with_programs_gs!("int 2")),
            (Exception::Breakpoint, with_programs_gs!("int 3")),
            (Exception::MachineCheck, with_programs_gs!("int 18")),
        ];
        KernelGsBase::write(before);
        for (exception, (gs, outcome)) in found {
            assert_eq!(outcome, refused(exception, 0));
            assert_eq!(gs, PROGRAMS_GS, "the interrupted code gets back the GS that it had");
        }
    }

    fn fpu_registers_survive_saving_and_restoring() {
        let mut state = FpuState::initial().expect("memory for an image");
        let initial = FpuState::initial().expect("memory for an image");
        let pattern = 0x0123_4567_89ab_cdef_u64;
        let read_back: u64;
        let after_reset: u64;
        let _no_switch = InterruptsOff::new();
        // SAFETY: the kernel itself uses no vector registers, and no thread's are loaded while a kernel thread runs that
        // nobody switches away from.
        unsafe {
            core::arch::asm!("movq xmm3, {}", in(reg) pattern);
            state.save();
            initial.restore();
            core::arch::asm!("movq {}, xmm3", out(reg) after_reset);
            state.restore();
            core::arch::asm!("movq {}, xmm3", out(reg) read_back);
        }
        assert_eq!((after_reset, read_back), (0, pattern));
    }

    fn any_image_of_a_programs_making_is_loaded_or_refused() {
        let mut state = FpuState::initial().expect("memory for an image");
        let possible = fpu::format().mxcsr_mask;
        let _no_switch = InterruptsOff::new();
        for byte in [0x00, 0x55, 0xff] {
            let mxcsr = u32::from_ne_bytes([byte; 4]);
            for (mxcsr, read, expected) in [
                (mxcsr & possible, Ok(()), Ok(())),
                (mxcsr & possible, Err(Errno::EFAULT), Err(Errno::EFAULT)),
                (mxcsr | !possible, Ok(()), Err(Errno::EFAULT)),
            ] {
                for has_header in [false, true] {
                    let fill = |image: &mut [u8]| {
                        image.fill(byte);
                        image[fpu::MXCSR..fpu::MXCSR + size_of::<u32>()].copy_from_slice(&mxcsr.to_le_bytes());
                        read
                    };
                    assert_eq!(state.load_from_program(has_header, fill), expected);
                    state.restore();
                }
            }
        }
        FpuState::initial().expect("memory for an image").restore();
    }
}
