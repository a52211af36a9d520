//! Each CPU's own block, reached through GS while the kernel runs.
//!
//! In the kernel GS's base is this block and KERNEL_GS_BASE holds the user's; SWAPGS exchanges them on the way in and out.
//! A field that one instruction reads or writes needs no lock: an interrupt comes before or after it, never within, and no
//! other CPU writes here. The first fields are known to assembly, by asm/layout.inc.

#![expect(
    clippy::indexing_slicing,
    reason = "a vector is a byte, and there are 256; interrupt stacks have fixed numbers"
)]

use super::layout::asm_constant;
use core::cell::UnsafeCell;
use core::mem::offset_of;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering::Relaxed};
use x86_64::structures::tss::TaskStateSegment;

/// How many interrupt vectors there are (SDM 3A §6.2).
pub const VECTOR_COUNT: usize = 256;

#[repr(C, align(64))]
pub struct PerCpu {
    /// Where this block lies, so that one load turns GS into a pointer.
    self_pointer: AtomicPtr<PerCpu>,
    /// The thread that runs here: a `task::Thread`, which this module doesn't look into.
    current_thread: AtomicPtr<()>,
    /// Top of the current thread's kernel stack: where `syscall` puts RSP. TSS.RSP0 holds the same.
    kernel_stack_top: AtomicU64,
    /// The user's RSP while `syscall` entry has no stack yet.
    user_rsp_scratch: AtomicU64,
    /// Looked at on each return to user mode.
    need_reschedule: AtomicBool,
    /// Whether entry has to clear AC (CLAC is an invalid opcode where SMAP is absent).
    smap_present: AtomicBool,
    /// Timer ticks since boot.
    ticks: AtomicU64,
    cpu_index: AtomicU32,
    /// Where the CPU finds RSP0 and the interrupt stacks. Here it begins four bytes into a quadword, so that RSP0 is aligned
    /// and is written by one store.
    task_state_segment: UnsafeCell<TaskStateSegment>,
    /// Ticks that interrupted a user program.
    pub(crate) user_ticks: AtomicU64,
    /// Interrupts taken here, by vector: for /proc/interrupts.
    pub(crate) interrupt_counts: [AtomicU32; VECTOR_COUNT],
}

macro_rules! assert_offsets {
    ($($field:ident = $name:literal),* $(,)?) => {
        $(const _: () = assert!(offset_of!(PerCpu, $field) == asm_constant($name));)*
    };
}

assert_offsets! {
    self_pointer = "PER_CPU_SELF", current_thread = "PER_CPU_CURRENT_THREAD",
    kernel_stack_top = "PER_CPU_KERNEL_STACK_TOP", user_rsp_scratch = "PER_CPU_USER_RSP",
    need_reschedule = "PER_CPU_NEED_RESCHEDULE", smap_present = "PER_CPU_SMAP_PRESENT", ticks = "PER_CPU_TICKS",
    cpu_index = "PER_CPU_INDEX",
}

/// RSP0 in this block (SDM 3A §7.7: four bytes into the TSS).
const RSP0_OFFSET: usize = offset_of!(PerCpu, task_state_segment) + offset_of!(TaskStateSegment, privilege_stack_table);
const _: () = assert!(RSP0_OFFSET.is_multiple_of(8));

// SAFETY: every field but the TSS is an atomic; the TSS is read by the CPU alone and written, through raw pointers, only by
// the CPU that it belongs to.
unsafe impl Sync for PerCpu {}

impl PerCpu {
    const fn new(index: u32) -> Self {
        Self {
            self_pointer: AtomicPtr::new(core::ptr::null_mut()),
            current_thread: AtomicPtr::new(core::ptr::null_mut()),
            kernel_stack_top: AtomicU64::new(0),
            user_rsp_scratch: AtomicU64::new(0),
            need_reschedule: AtomicBool::new(false),
            smap_present: AtomicBool::new(false),
            ticks: AtomicU64::new(0),
            cpu_index: AtomicU32::new(index),
            task_state_segment: UnsafeCell::new(TaskStateSegment::new()),
            user_ticks: AtomicU64::new(0),
            interrupt_counts: [const { AtomicU32::new(0) }; VECTOR_COUNT],
        }
    }

    pub fn task_state_segment(&self) -> *const TaskStateSegment {
        self.task_state_segment.get()
    }

    pub fn index(&self) -> u32 {
        self.cpu_index.load(Relaxed)
    }

    /// Timer ticks that this CPU has taken since boot.
    pub fn ticks(&self) -> u64 {
        self.ticks.load(Relaxed)
    }

    /// Those of them that interrupted a user program.
    pub fn user_ticks(&self) -> u64 {
        self.user_ticks.load(Relaxed)
    }

    /// How often this CPU has taken `vector`.
    pub fn interrupt_count(&self, vector: u8) -> u32 {
        self.interrupt_counts[vector as usize].load(Relaxed)
    }
}

/// The boot CPU's block. The other CPUs rest; each that is started gets one of its own.
static BOOT_CPU: PerCpu = PerCpu::new(0);

/// The blocks of all CPUs that run: for /proc/interrupts and /proc/stat.
pub fn all() -> impl Iterator<Item = &'static PerCpu> {
    core::iter::once(&BOOT_CPU)
}

#[cfg(target_os = "none")]
pub use here::*;

/// What is read and written through GS: each a single instruction.
#[cfg(target_os = "none")]
mod here {
    use super::*;
    use core::arch::asm;
    use x86_64::VirtAddr;
    use x86_64::registers::model_specific::{GsBase, KernelGsBase};

    macro_rules! gs_load {
        ($field:ident, $type:ty, $register:tt) => {{
            let value: $type;
            // SAFETY: GS's base is this CPU's PerCpu block from `init` on, and the field is initialised. Not `pure`: the
            // value may be another after a switch or an interrupt.
            unsafe {
                asm!(
                    concat!("mov {0:", $register, "}, gs:[{1}]"),
                    lateout(reg) value,
                    const offset_of!(PerCpu, $field),
                    options(nostack, preserves_flags, readonly),
                )
            }
            value
        }};
    }

    macro_rules! gs_store {
        ($field:ident, $value:expr, $register:tt) => {{
            // SAFETY: as for loads; the field is an atomic, written whole by one instruction.
            unsafe {
                asm!(
                    concat!("mov gs:[{1}], {0:", $register, "}"),
                    in(reg) $value,
                    const offset_of!(PerCpu, $field),
                    options(nostack, preserves_flags),
                )
            }
        }};
    }

    /// Makes GS lead to the boot CPU's block. Before anything that uses an accessor below, an interrupt included.
    pub fn init() {
        let block = &raw const BOOT_CPU;
        BOOT_CPU.self_pointer.store(block.cast_mut(), Relaxed);
        GsBase::write(VirtAddr::from_ptr(block));
        KernelGsBase::write(VirtAddr::zero());
    }

    /// This CPU's block.
    #[inline]
    pub fn this_cpu() -> &'static PerCpu {
        let pointer = gs_load!(self_pointer, *const PerCpu, "r");
        // SAFETY: `init` stored the address of a static.
        unsafe { &*pointer }
    }

    /// The thread that runs here, as given to [`set_current_thread`]; null before the first.
    #[inline(always)]
    pub fn current_thread() -> *const () {
        gs_load!(current_thread, *const (), "r")
    }

    /// Only the switch calls this, when it gives the CPU to `thread`.
    #[inline(always)]
    pub fn set_current_thread(thread: *const ()) {
        gs_store!(current_thread, thread, "r")
    }

    #[inline(always)]
    pub fn kernel_stack_top() -> u64 {
        gs_load!(kernel_stack_top, u64, "r")
    }

    /// Where the next entry from user mode finds its stack: by `syscall` in this block, by an interrupt in TSS.RSP0.
    /// Called by the switch, before the thread it gives the CPU to can reach user mode.
    #[inline(always)]
    pub fn set_kernel_stack(top: u64) {
        gs_store!(kernel_stack_top, top, "r");
        // SAFETY: as in `gs_store`; RSP0 is an aligned quadword of this block.
        unsafe {
            asm!("mov gs:[{1}], {0}", in(reg) top, const RSP0_OFFSET, options(nostack, preserves_flags));
        }
    }

    /// RSP0 as the CPU will read it: for the tests that compare it with the thread's.
    pub fn privileged_stack() -> u64 {
        // SAFETY: the TSS is this CPU's own, and nothing writes it meanwhile.
        unsafe { (*this_cpu().task_state_segment()).privilege_stack_table[0].as_u64() }
    }

    /// Fills one entry of the interrupt stack table. Before the TSS is loaded.
    pub(in crate::cpu) fn set_interrupt_stack(index: usize, top: VirtAddr) {
        // SAFETY: the TSS is this CPU's own, and not in use yet.
        unsafe { (*this_cpu().task_state_segment.get()).interrupt_stack_table[index] = top }
    }

    #[inline(always)]
    pub fn need_reschedule() -> bool {
        // A byte load into a whole register: `movzx` by hand, since the macro's `mov` is for full-width fields.
        let value: u32;
        // SAFETY: as in `gs_load`.
        unsafe {
            asm!(
                "movzx {0:e}, byte ptr gs:[{1}]",
                lateout(reg) value,
                const offset_of!(PerCpu, need_reschedule),
                options(nostack, preserves_flags, readonly),
            )
        }
        value != 0
    }

    #[inline(always)]
    pub fn set_need_reschedule(needed: bool) {
        // SAFETY: as in `gs_store`; a bool is 0 or 1 in its byte.
        unsafe {
            asm!(
                "mov byte ptr gs:[{1}], {0}",
                in(reg_byte) needed as u8,
                const offset_of!(PerCpu, need_reschedule),
                options(nostack, preserves_flags),
            )
        }
    }

    #[inline(always)]
    pub fn cpu_index() -> u32 {
        gs_load!(cpu_index, u32, "e")
    }

    #[inline(always)]
    pub fn ticks() -> u64 {
        gs_load!(ticks, u64, "r")
    }

    pub(in crate::cpu) fn set_smap_present(present: bool) {
        this_cpu().smap_present.store(present, Relaxed);
    }

    /// Whether SMAP is on: user memory is reached only between STAC and CLAC.
    #[inline(always)]
    pub fn smap_present() -> bool {
        this_cpu().smap_present.load(Relaxed)
    }

    /// One more timer tick here, taken in user mode or not.
    #[inline]
    pub(crate) fn count_tick(from_user: bool) {
        let cpu = this_cpu();
        // Plain loads and stores: nobody else writes these, and interrupts are off.
        cpu.ticks.store(cpu.ticks.load(Relaxed) + 1, Relaxed);
        if from_user {
            cpu.user_ticks.store(cpu.user_ticks.load(Relaxed) + 1, Relaxed);
        }
    }

    #[inline]
    pub(crate) fn count_interrupt(vector: u8) {
        let count = &this_cpu().interrupt_counts[vector as usize];
        count.store(count.load(Relaxed).wrapping_add(1), Relaxed);
    }
}
