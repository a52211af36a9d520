//! The kernel's table of contents: what is brought up, and in which order.

#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod kernel {
    use keel::{cpu, interrupts, log};

    /// Entered once, by asm/boot.asm, on the boot stack with interrupts off.
    #[unsafe(no_mangle)]
    extern "C" fn kernel_main(_loader_magic: u32, _information: u64, entry_tsc: u64) -> ! {
        cpu::init();
        log::initialise();
        log::set_clock(interrupts::clock::now_ns);
        interrupts::init();
        interrupts::timer::init(entry_tsc);
        interrupts::enable();
        cpu::report();
        loop {
            x86_64::instructions::hlt();
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
