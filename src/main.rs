//! The kernel's table of contents: what is brought up, and in which order.

#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod kernel {
    use keel::boot::{self, BootInformation};
    use keel::drivers::{acpi, console, rtc, terminal};
    use keel::{cpu, exec, interrupts, log, memory, symbols, syscall, task, trace};

    /// Entered once, by asm/boot.asm, on the boot stack with interrupts off.
    #[unsafe(no_mangle)]
    extern "C" fn kernel_main(loader_magic: u32, information: u64, entry_tsc: u64) -> ! {
        cpu::init();
        log::initialise();
        interrupts::clock::init(entry_tsc);
        log::set_clock(interrupts::clock::now_ns);
        let boot = boot::collect(loader_magic, information, entry_tsc);
        choose_consoles(boot);
        boot.report();
        choose_trace(boot);
        acpi::discover(boot);
        cpu::report();
        console::detach_screen();
        memory::init(boot);
        symbols::init(boot.symbols);
        console::attach_screen(boot.screen);
        cpu::protect_from_user_pages();
        interrupts::init(acpi::tables().interrupts.as_ref());
        interrupts::timer::init(acpi::tables().hpet);
        rtc::set_wall_clock();
        console::start_input();
        interrupts::enable();
        task::kernel_thread::init().expect("there is memory for the first thread");
        terminal::initialise().expect("there is memory for the terminals");
        syscall::init();
        exec::vdso::init().expect("there is memory for the vDSO");
        start_first_work(boot);
        terminal::serve_typing().expect("there is memory for a thread");
        task::kernel_thread::idle()
    }

    /// Init; or, where the command line asks for them, the in-kernel tests.
    fn start_first_work(boot: &'static BootInformation) {
        #[cfg(feature = "kernel-tests")]
        if keel::kernel_tests::start(&boot.command_line) {
            return;
        }
        if let Err(errno) = task::init::start(boot) {
            panic!("the first process can't be made: {}", errno.description());
        }
    }

    /// Where text goes, and how much of it: what the command line says about the log.
    fn choose_consoles(boot: &BootInformation) {
        console::select(boot.command_line.consoles());
        console::attach_screen_early(boot.screen);
        if boot.command_line.quiet {
            log::set_quiet();
        }
        if let Some(level) = boot.command_line.log_level {
            log::set_console_level(level);
        }
    }

    /// Which events are recorded (`trace=`).
    fn choose_trace(boot: &BootInformation) {
        if let Err(word) = boot.command_line.trace().map_or(Ok(()), trace::select) {
            ::log::warn!(target: "trace", "there are no events named {word}; nothing is recorded");
        }
    }

    #[panic_handler]
    fn panic(information: &core::panic::PanicInfo) -> ! {
        keel::panic::panicked(information)
    }
}

/// The kernel is built for its own target; on the host only the library's tests run.
#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("keel: this is a kernel; `make run` starts it");
    std::process::exit(1);
}
