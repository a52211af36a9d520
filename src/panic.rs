//! The end of the kernel: a screen that says what happened, in words first and in numbers after.
//!
//! A panic may come at any moment, with any lock held and the heap broken. So nothing here allocates, waits for a lock, or
//! trusts a pointer: stack words and page tables are read only where the page tables map them. A panic while this runs
//! still gets its message out, on the serial line.

pub mod backtrace;
pub mod page_walk;

#[cfg(target_os = "none")]
pub use screen::*;

#[cfg(target_os = "none")]
mod screen {
    use super::{backtrace, page_walk};
    use crate::cpu::exceptions::{Exception, page_fault};
    use crate::cpu::{per_cpu, reset};
    use crate::drivers::{console, serial};
    use crate::interrupts::{InterruptFrame, clock};
    use crate::memory::direct_map;
    use crate::{symbols, trace};
    use core::fmt::{self, Arguments, Write};
    use core::panic::PanicInfo;
    use core::sync::atomic::{AtomicI64, AtomicPtr, AtomicU8, Ordering::Relaxed};
    use x86_64::registers::control::{Cr0, Cr3, Cr4, Efer};
    use x86_64::{PhysAddr, instructions};

    /// How many trace events are worth a place on the screen.
    const EVENTS_SHOWN: usize = 8;

    /// How many panics have begun and not ended: none ever ends.
    static DEPTH: AtomicU8 = AtomicU8::new(0);

    /// The command line's `panic=N`: seconds until the machine restarts. 0 is never, negative at once.
    static RESTART_AFTER_SECONDS: AtomicI64 = AtomicI64::new(0);

    /// A `fn() -> !`, or null: see [`set_last_act`].
    static LAST_ACT: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());

    /// What `panic=N` on the command line asks for.
    pub fn set_restart_after(seconds: i64) {
        RESTART_AFTER_SECONDS.store(seconds, Relaxed);
    }

    /// Has `act` called once the screen is complete, instead of halting or restarting: for test runs, which go on with the
    /// next test or end the emulator.
    pub fn set_last_act(act: fn() -> !) {
        LAST_ACT.store(act as *mut (), Relaxed);
    }

    /// A Rust panic: an assertion of the kernel's own that failed. Called by the panic handler only.
    pub fn panicked(information: &PanicInfo) -> ! {
        let frame_pointer: u64;
        // SAFETY: copies RBP, which points to this function's frame: the kernel is compiled with frame pointers.
        unsafe { core::arch::asm!("mov {}, rbp", out(reg) frame_pointer, options(nomem, nostack, preserves_flags)) };
        match information.location() {
            Some(place) => report(format_args!("{} ({place})", information.message()), None, frame_pointer),
            None => report(format_args!("{}", information.message()), None, frame_pointer),
        }
    }

    /// An exception that nobody resolves.
    pub fn exception(exception: Exception, frame: &InterruptFrame, fault_address: u64) -> ! {
        let context = ExceptionContext { exception, frame, fault_address };
        let who = if frame.from_user() { "a program" } else { "the kernel" };
        let what = exception.in_words();
        match exception {
            // Nothing the running code did.
            Exception::NonMaskableInterrupt | Exception::MachineCheck => {
                report(format_args!("{what} (while {who} ran)"), Some(&context), frame.rbp)
            }
            _ => report(format_args!("{who} caused {what}"), Some(&context), frame.rbp),
        }
    }

    /// A thread's stack ran into the guard page below it. Usually a double fault: there was no stack left for the page fault.
    pub fn stack_overflow(thread: &str, frame: &InterruptFrame, fault_address: u64) -> ! {
        let context = ExceptionContext { exception: Exception::PageFault, frame, fault_address };
        report(format_args!("kernel stack overflow of thread {thread}"), Some(&context), frame.rbp)
    }

    struct ExceptionContext<'a> {
        exception: Exception,
        frame: &'a InterruptFrame,
        fault_address: u64,
    }

    fn report(what: Arguments, context: Option<&ExceptionContext>, frame_pointer: u64) -> ! {
        instructions::interrupts::disable();
        match DEPTH.fetch_add(1, Relaxed) {
            0 => {
                // Writing to the screen doesn't fail.
                let _ = write_screen(&mut console::Text, what, context, frame_pointer);
            }
            1 => {
                let _ = writeln!(SerialOnly, "\nKERNEL PANIC within a panic: {what}");
                let _ = write_backtrace(&mut SerialOnly, context.map(|context| context.frame.rip), frame_pointer);
            }
            2 => serial::write(b"\r\nKERNEL PANIC within a panic, again: giving up\r\n"),
            _ => halt(),
        }
        end()
    }

    fn write_screen(
        output: &mut dyn Write,
        what: Arguments,
        context: Option<&ExceptionContext>,
        frame_pointer: u64,
    ) -> fmt::Result {
        let now_us = clock::now_ns() / 1000;
        writeln!(output, "\nKERNEL PANIC: {what}")?;
        write!(output, "at {}.{:06} s on CPU {}, ", now_us / 1_000_000, now_us % 1_000_000, per_cpu::cpu_index())?;
        write_thread(output)?;
        if let Some(context) = context {
            write_context(output, context)?;
        }
        write_backtrace(output, context.map(|context| context.frame.rip), frame_pointer)?;
        if !trace::is_empty() {
            writeln!(output, "last events:")?;
            trace::write_last(output, EVENTS_SHOWN)?;
        }
        write_outlook(output)
    }

    fn write_thread(output: &mut dyn Write) -> fmt::Result {
        let thread = per_cpu::current_thread();
        if thread.is_null() {
            return writeln!(output, "before the first thread");
        }
        writeln!(output, "in the thread at {thread:p}")
    }

    fn write_context(output: &mut dyn Write, context: &ExceptionContext) -> fmt::Result {
        let frame = context.frame;
        write!(output, "vector {}, error code {:#x}", frame.vector, frame.error_code)?;
        match context.exception.describe_error_code(frame.error_code) {
            Some(words) => writeln!(output, ": {words}")?,
            None => writeln!(output)?,
        }
        // A double fault leaves in CR2 the address of the page fault that couldn't be delivered, if it was one.
        if matches!(context.exception, Exception::PageFault | Exception::DoubleFault) {
            write_address(output, context)?;
        }
        write_registers(output, frame)
    }

    fn write_address(output: &mut dyn Write, context: &ExceptionContext) -> fmt::Result {
        let address = context.fault_address;
        writeln!(output, "address {address:#018x}{}", hint(context.frame, address))?;
        for step in page_walk::walk(root(), address, read_physical) {
            writeln!(output, "  {step}")?;
        }
        Ok(())
    }

    /// What an address alone gives away.
    fn hint(frame: &InterruptFrame, address: u64) -> &'static str {
        match address {
            _ if address == frame.rip && frame.error_code & page_fault::INSTRUCTION_FETCH != 0 => {
                ": the jump itself went wrong"
            }
            0..0x1000 => ": a null pointer was followed",
            0x1000..0x8000_0000_0000 => ": it belongs to user programs",
            _ => "",
        }
    }

    fn write_registers(output: &mut dyn Write, frame: &InterruptFrame) -> fmt::Result {
        let f = frame;
        writeln!(output, "RIP {:04x}:{:016x}  RSP {:04x}:{:016x}  RFLAGS {:08x}", f.cs, f.rip, f.ss, f.rsp, f.rflags)?;
        writeln!(output, "RAX {:016x}  RBX {:016x}  RCX {:016x}  RDX {:016x}", f.rax, f.rbx, f.rcx, f.rdx)?;
        writeln!(output, "RSI {:016x}  RDI {:016x}  RBP {:016x}  R8  {:016x}", f.rsi, f.rdi, f.rbp, f.r8)?;
        writeln!(output, "R9  {:016x}  R10 {:016x}  R11 {:016x}  R12 {:016x}", f.r9, f.r10, f.r11, f.r12)?;
        writeln!(output, "R13 {:016x}  R14 {:016x}  R15 {:016x}", f.r13, f.r14, f.r15)?;
        let (cr0, cr4, efer) = (Cr0::read_raw(), Cr4::read_raw(), Efer::read_raw());
        writeln!(output, "CR0 {cr0:08x}  CR3 {:012x}  CR4 {cr4:08x}  EFER {efer:08x}", root())
    }

    fn write_backtrace(output: &mut dyn Write, rip: Option<u64>, frame_pointer: u64) -> fmt::Result {
        writeln!(output, "backtrace, innermost call first:")?;
        for address in rip.into_iter().chain(backtrace::walk(frame_pointer, read_mapped)) {
            // A return address is the instruction after the call, which may be another function's first.
            let call = if Some(address) == rip { address } else { address - 1 };
            match symbols::locate(call) {
                Some(location) => writeln!(output, "  {address:016x}  {location}")?,
                None => writeln!(output, "  {address:016x}")?,
            }
        }
        Ok(())
    }

    fn write_outlook(output: &mut dyn Write) -> fmt::Result {
        match RESTART_AFTER_SECONDS.load(Relaxed) {
            0 => writeln!(
                output,
                "The machine has stopped: nothing was saved. Note the lines above, then switch it off or reset."
            ),
            1.. => writeln!(output, "The machine restarts in {} s.", RESTART_AFTER_SECONDS.load(Relaxed)),
            _ => writeln!(output, "The machine restarts now."),
        }
    }

    fn end() -> ! {
        let act = LAST_ACT.load(Relaxed);
        if !act.is_null() {
            // SAFETY: the only non-null value ever stored is a `fn() -> !`, by `set_last_act`.
            let act = unsafe { core::mem::transmute::<*mut (), fn() -> !>(act) };
            act()
        }
        let seconds = RESTART_AFTER_SECONDS.load(Relaxed);
        if seconds == 0 {
            halt()
        }
        for _ in 0..seconds {
            clock::busy_wait_ns(1_000_000_000);
        }
        reset::restart()
    }

    fn halt() -> ! {
        loop {
            instructions::interrupts::disable();
            instructions::hlt();
        }
    }

    fn root() -> u64 {
        Cr3::read_raw().0.start_address().as_u64()
    }

    /// 8 bytes of physical memory, for the page walk; zero beyond what an address can be.
    fn read_physical(address: u64) -> u64 {
        let Ok(address) = PhysAddr::try_new(address) else { return 0 };
        let pointer = direct_map::pointer(address).cast::<u64>();
        // SAFETY: the address comes out of CR3 or a table that the CPU walks; tables lie in RAM, which the direct map
        // covers, and entries are aligned. Should a broken table lead elsewhere, the fault is a panic within a panic.
        unsafe { pointer.read_volatile() }
    }

    /// 8 bytes at a kernel address, where one is mapped.
    fn read_mapped(address: u64) -> Option<u64> {
        page_walk::translate(root(), address, read_physical).map(read_physical)
    }

    /// The serial line alone, past every lock: what a panic within a panic can count on.
    struct SerialOnly;

    impl Write for SerialOnly {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            for piece in text.split_inclusive('\n') {
                match piece.strip_suffix('\n') {
                    Some(line) => [line, "\r\n"].map(|part| serial::write(part.as_bytes())),
                    None => [serial::write(piece.as_bytes()), ()],
                };
            }
            Ok(())
        }
    }
}
