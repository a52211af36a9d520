//! Control registers and the MSRs of SYSCALL: what protects the kernel is switched on here, where the CPU has it.

use super::features::features;
use super::{gdt, per_cpu};
use x86_64::VirtAddr;
use x86_64::registers::control::{Cr0, Cr0Flags, Cr4, Cr4Flags, Efer, EferFlags};
use x86_64::registers::model_specific::{LStar, Msr, SFMask, Star};
use x86_64::registers::rflags::RFlags;
use x86_64::structures::gdt::SegmentSelector;

/// The page attribute table (SDM 3A §12.12): entry 1, which PWT alone selects, becomes write-combining; the rest is as after
/// reset.
const IA32_PAT: u32 = 0x277;
const PAGE_ATTRIBUTES: u64 = 0x0007_0406_0007_0106;

/// Sets CR0, CR4, EFER and the page attributes. CR4.SMEP and SMAP come later, when nothing maps user pages for the kernel's
/// use any more ([`protect_from_user_pages`]).
pub fn init() {
    let features = features();
    // SAFETY: write protection, native FPU exceptions and the FPU itself on: none of it changes what is mapped, and the
    // kernel's own code uses no FPU.
    unsafe {
        Cr0::update(|flags| {
            flags.insert(Cr0Flags::WRITE_PROTECT | Cr0Flags::MONITOR_COPROCESSOR | Cr0Flags::NUMERIC_ERROR);
            flags.remove(Cr0Flags::EMULATE_COPROCESSOR | Cr0Flags::TASK_SWITCHED | Cr0Flags::ALIGNMENT_MASK);
        });
    }
    let mut wanted = Cr4Flags::OSFXSR | Cr4Flags::OSXMMEXCPT_ENABLE;
    // Without it the CPU answers a machine check by shutting down, and nobody learns why.
    wanted.set(Cr4Flags::MACHINE_CHECK_EXCEPTION, features.mce);
    wanted.set(Cr4Flags::PAGE_GLOBAL, features.pge);
    wanted.set(Cr4Flags::OSXSAVE, features.xsave);
    wanted.set(Cr4Flags::USER_MODE_INSTRUCTION_PREVENTION, features.umip);
    // SAFETY: each bit is set only where CPUID has it (OSFXSR and OSXMMEXCPT belong to SSE2, the floor). FSGSBASE stays off:
    // entry tells the kernel's GS by its sign, which a program must not be able to choose.
    unsafe {
        Cr4::update(|flags| {
            flags.insert(wanted);
            flags.remove(Cr4Flags::FSGSBASE);
        });
        Efer::update(|flags| {
            flags.insert(EferFlags::SYSTEM_CALL_EXTENSIONS);
            flags.set(EferFlags::NO_EXECUTE_ENABLE, features.nx);
        });
    }
    if features.pat {
        // SAFETY: the register is there, and nothing that is mapped selects the entry that changes.
        unsafe { Msr::new(IA32_PAT).write(PAGE_ATTRIBUTES) };
    }
}

/// SMEP and SMAP: from here on the kernel neither runs nor, but for src/memory/user_access.rs, touches user pages. Needs
/// page tables in which nothing of the kernel's has the USER flag.
pub fn protect_from_user_pages() {
    let features = features();
    // SAFETY: set only where CPUID has them; kernel mappings aren't USER.
    unsafe {
        Cr4::update(|flags| {
            flags.set(Cr4Flags::SUPERVISOR_MODE_EXECUTION_PROTECTION, features.smep);
            flags.set(Cr4Flags::SUPERVISOR_MODE_ACCESS_PREVENTION, features.smap);
        });
    }
    per_cpu::set_smap_present(features.smap);
}

/// Flags that SYSCALL clears: interrupts stay off until there is a kernel stack; the rest is what a program might have set
/// to disturb (SDM 3A §5.8.8; CLAC isn't needed after it).
const SYSCALL_CLEARS: RFlags = RFlags::INTERRUPT_FLAG
    .union(RFlags::TRAP_FLAG)
    .union(RFlags::DIRECTION_FLAG)
    .union(RFlags::NESTED_TASK)
    .union(RFlags::ALIGNMENT_CHECK)
    .union(RFlags::IOPL_LOW)
    .union(RFlags::IOPL_HIGH);

/// Where SYSCALL enters the kernel, and with which segments and flags.
pub fn set_syscall_entry(entry: VirtAddr) {
    LStar::write(entry);
    SFMask::write(SYSCALL_CLEARS);
    // SAFETY: the selectors are those of the GDT in src/cpu/gdt.rs, in the order that SYSCALL and SYSRET add to.
    unsafe { Star::write_raw(gdt::SYSRET_BASE, SegmentSelector(gdt::KERNEL_CODE).0) };
}
