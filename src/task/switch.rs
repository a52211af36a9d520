//! Core story 4: one thread gives the CPU to another. asm/switch.asm draws the stacks.
//!
//! Invariants, from the first switch on and outside this file:
//! - the per-CPU current thread is the one whose kernel stack is in use;
//! - RSP0 and the `syscall` stack are the top of that stack;
//! - CR3 is its page table, if it has one ([`Thread::page_table_frame`]). Between the commit of execve and the return to
//!   user mode it is still the old image's, which lives until then.

use super::scheduler;
use super::thread::Thread;
use crate::cpu::{self, per_cpu};
use crate::interrupts::InterruptFrame;
use crate::trace::{self, Kind};
use alloc::sync::Arc;
use core::mem::size_of;

/// What `switch_stacks` pops, in its order, and where it then returns to.
#[repr(C)]
struct SavedRegisters {
    r15: u64,
    r14: u64,
    r13: u64,
    r12: u64,
    rbx: u64,
    rbp: u64,
    return_address: u64,
}

unsafe extern "C" {
    fn switch_stacks(save: *mut u64, load: u64);
    fn thread_start();
}

/// Where a new thread begins.
pub struct Start {
    /// A function that it calls first, in the kernel, with an argument.
    pub function: Option<(extern "C" fn(usize), usize)>,
    /// Its registers in user mode, where it goes next. A kernel thread's function doesn't return, so it has none.
    pub registers: InterruptFrame,
}

/// Gives the CPU from `previous`, which is current, to `next`. Returns when `previous` gets it back.
///
/// # Safety
/// Interrupts are off, no lock is held, and both threads stay alive while they are not running: whoever takes `previous`
/// off the CPU has put its own reference somewhere (see [`scheduler`]).
pub unsafe fn switch_to(previous: &Thread, next: &Thread) {
    trace::record(Kind::Switch, u64::from(previous.tid()), u64::from(next.tid()));
    per_cpu::set_current_thread((next as *const Thread).cast());
    cpu::set_kernel_stack(next.kernel_stack_top());
    previous.save_user_state();
    next.load_user_state();
    // SAFETY: `next` was left by this very call, or was laid out for it by `prepare_stack`; the slot is `previous`'s own.
    unsafe { switch_stacks(previous.saved_stack_pointer(), *next.saved_stack_pointer()) };
    finish_switch();
}

/// Lays out the stack of a thread that never ran, so that the first switch to it starts it.
pub fn prepare_stack(thread: &Thread, start: Start) {
    let frame = thread.user_frame();
    let (function, argument) = start.function.map_or((0, 0), |(function, argument)| (function as usize, argument));
    let saved = SavedRegisters {
        r15: 0,
        r14: 0,
        r13: argument as u64,
        r12: function as u64,
        rbx: 0,
        rbp: 0,
        return_address: thread_start as *const () as u64,
    };
    let stack_pointer = frame as u64 - size_of::<SavedRegisters>() as u64;
    // SAFETY: the thread doesn't run yet, so its stack is nobody's but ours; both structures lie at its mapped top.
    unsafe {
        frame.write(start.registers);
        (stack_pointer as *mut SavedRegisters).write(saved);
        *thread.saved_stack_pointer() = stack_pointer;
    }
}

/// What the thread that just got the CPU does first: lets go of a thread that ended by the switch.
#[unsafe(no_mangle)]
extern "C" fn finish_switch() {
    scheduler::drop_ended_thread();
}

/// The page table that the current thread must run with: asked for by each way back to user mode and by each switch.
/// 0 for a kernel thread, which runs with any.
#[unsafe(no_mangle)]
extern "C" fn get_thread_cr3() -> u64 {
    super::current().page_table_frame()
}

/// CR3 was written, by the one routine that does (asm/return.asm).
#[unsafe(no_mangle)]
extern "C" fn page_table_was_loaded(page_table: u64) {
    trace::record(Kind::Cr3, u64::from(super::current().tid()), page_table);
}

/// Makes `thread` the one that runs: the boot stack becomes its stack. Once for each CPU.
pub fn adopt_boot_stack(thread: Arc<Thread>) {
    cpu::set_kernel_stack(thread.kernel_stack_top());
    per_cpu::set_current_thread(Arc::into_raw(thread).cast());
}
