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
    use crate::boot::command_line::AfterPanic;
    use crate::cpu::exceptions::{Exception, page_fault};
    use crate::cpu::per_cpu;
    use crate::drivers::{console, power, serial};
    use crate::interrupts::time_scale::NS_PER_SECOND;
    use crate::interrupts::{InterruptFrame, clock};
    use crate::memory::direct_map;
    use crate::memory::kernel_stack::{self, GuardOwner};
    use crate::task::{self, Thread};
    use crate::{boot, symbols, trace};
    use core::fmt::{self, Arguments, Write};
    use core::panic::PanicInfo;
    use core::sync::atomic::{AtomicU8, Ordering::Relaxed};
    use x86_64::registers::control::{Cr0, Cr3, Cr4, Efer};
    use x86_64::{PhysAddr, instructions};

    /// How many trace events are worth a place on the screen.
    const EVENTS_SHOWN: usize = 8;

    /// How many panics have begun and not ended: none ever ends.
    static DEPTH: AtomicU8 = AtomicU8::new(0);

    /// What QEMU is told where the command line says `exit=isa-debug`.
    const EMULATOR_STATUS: u8 = 0x7f;

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

    /// An exception that nobody resolves. `fault_address` is what CR2 held when it arrived.
    pub fn exception(exception: Exception, frame: &InterruptFrame, fault_address: u64) -> ! {
        let context = Some(&ExceptionContext { exception, frame, fault_address });
        let who = if frame.from_user() { "a program" } else { "the kernel" };
        let what = exception.in_words();
        match exception {
            // Usually a double fault: there was no stack left for the page fault.
            Exception::PageFault | Exception::DoubleFault
                if let Some(owner) = kernel_stack::owner_of_guard(fault_address) =>
            {
                report(
                    format_args!("kernel stack overflow of {}", StackOwner(owner, fault_address)),
                    context,
                    frame.rbp,
                )
            }
            // Nothing the running code did.
            Exception::NonMaskableInterrupt | Exception::MachineCheck => {
                report(format_args!("{what} (while {who} ran)"), context, frame.rbp)
            }
            _ => report(format_args!("{who} caused {what}"), context, frame.rbp),
        }
    }

    /// Whose stack has its guard at an address.
    struct StackOwner(GuardOwner, u64);

    impl fmt::Display for StackOwner {
        fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
            let Self(owner, address) = *self;
            match (owner, current_thread()) {
                (GuardOwner::Thread(_), Some(thread)) if is_own_guard(address) => {
                    write!(formatter, "{}", ThreadName(thread))
                }
                (GuardOwner::Thread(0), _) => write!(formatter, "a thread that does not run"),
                (GuardOwner::Thread(id), _) => write!(formatter, "thread {id}"),
                (GuardOwner::Boot, _) => write!(formatter, "the boot code, or of the idle thread that it became"),
                (GuardOwner::Interrupt, _) => write!(formatter, "an exception that has a stack of its own"),
            }
        }
    }

    /// Whether the address lies below the stack that this CPU's thread runs on, and nearer to it than to the next.
    fn is_own_guard(address: u64) -> bool {
        (address..address.saturating_add(kernel_stack::PLACE_BYTES)).contains(&per_cpu::kernel_stack_top())
    }

    /// `thread "name" (tid)`.
    struct ThreadName(&'static Thread);

    impl fmt::Display for ThreadName {
        fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
            let name = self.0.name_if_unlocked().unwrap_or_default();
            let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
            let text = name.get(..end).and_then(|bytes| core::str::from_utf8(bytes).ok()).unwrap_or("?");
            write!(formatter, "thread \"{text}\" ({})", self.0.tid())
        }
    }

    /// The thread that this CPU runs, if it looks like one.
    fn current_thread() -> Option<&'static Thread> {
        let thread = task::current_raw();
        let last_byte = (thread as u64).checked_add(size_of::<Thread>() as u64 - 1)?;
        let is_mapped =
            thread.is_aligned() && [thread as u64, last_byte & !7].iter().all(|at| read_mapped(*at).is_some());
        // SAFETY: what the switch made current is a thread, kept alive while it runs; and its memory is mapped.
        (is_mapped && !thread.is_null()).then(|| unsafe { &*thread })
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
                #[cfg(feature = "kernel-tests")]
                crate::kernel_tests::report_panic(&what);
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
        // Once more, since on a small screen the first line is gone by now.
        writeln!(output, "All this because of: {what}.")?;
        write_outlook(output)
    }

    fn write_thread(output: &mut dyn Write) -> fmt::Result {
        match current_thread() {
            Some(thread) => writeln!(output, "in {}", ThreadName(thread)),
            None => writeln!(output, "before the first thread"),
        }
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
        match after_panic() {
            AfterPanic::Halt => writeln!(
                output,
                "The machine has stopped. Note the lines above, then reset it. (panic=N restarts by itself after N s.)"
            ),
            AfterPanic::RebootAtOnce => writeln!(output, "The machine restarts now."),
            AfterPanic::RebootAfterSeconds(seconds) => writeln!(output, "The machine restarts in {seconds} s."),
        }
    }

    fn after_panic() -> AfterPanic {
        boot::information().command_line.after_panic
    }

    fn end() -> ! {
        power::report_to_emulator(EMULATOR_STATUS);
        match after_panic() {
            AfterPanic::Halt => halt(),
            AfterPanic::RebootAtOnce => {}
            AfterPanic::RebootAfterSeconds(seconds) => {
                (0..seconds).for_each(|_| clock::busy_wait_ns(NS_PER_SECOND));
            }
        }
        power::reboot()
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
