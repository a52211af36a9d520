//! What a thread does in the kernel before it goes back to user mode (asm/return.asm): end, stop, give the CPU to another,
//! let go of the image that execve replaced, take signals.

use super::thread::Work;
use super::{alarm, exit, out_of_memory, scheduler, signal};
use crate::cpu::per_cpu;
use crate::interrupts::InterruptFrame;
use x86_64::instructions::interrupts;

unsafe extern "C" {
    fn load_thread_page_table();
}

/// Called with interrupts off, as long as anything is pending; returns with them off or on.
#[unsafe(no_mangle)]
extern "C" fn work_before_return(frame: *mut InterruptFrame) {
    let current = super::current();
    let work = current.work();
    if work.contains(Work::DROP_OLD_IMAGE) {
        // SAFETY: interrupts are off and the current thread is a user thread, which is what the routine asks for. The new
        // table has the same upper half, so this code and stack stay mapped.
        unsafe { load_thread_page_table() };
        current.remove_work(Work::DROP_OLD_IMAGE);
        interrupts::enable();
        drop(current.take_old_image());
    }
    interrupts::enable();
    if work.contains(Work::END) {
        exit::end_thread();
    }
    if work.contains(Work::CPU_TIMERS) {
        alarm::check_cpu_timers(&current);
    }
    if work.contains(Work::OUT_OF_MEMORY) {
        out_of_memory::make_room(&current);
    }
    if per_cpu::need_reschedule() {
        scheduler::schedule();
    }
    if current.work().intersects(Work::SIGNAL | Work::STOP | Work::RESTORE_MASK) {
        // SAFETY: the frame is the current thread's own, at the top of its kernel stack, and nobody else looks at it.
        signal::handle_pending(&current, unsafe { &mut *frame });
    }
}
