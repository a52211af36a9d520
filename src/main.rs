//! The kernel's table of contents: what is brought up, and in which order.

#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod kernel {
    /// Entered once, by asm/boot.asm, on the boot stack with interrupts off.
    #[unsafe(no_mangle)]
    extern "C" fn kernel_main(_loader_magic: u32, _information: u64, _entry_tsc: u64) -> ! {
        for byte in b"Keel\n" {
            // SAFETY: COM1's data port; a write there has no effect on memory.
            unsafe { x86_64::instructions::port::Port::<u8>::new(0x3f8).write(*byte) }
        }
        loop {
            x86_64::instructions::hlt();
        }
    }

    #[panic_handler]
    fn panic(_: &core::panic::PanicInfo) -> ! {
        loop {
            x86_64::instructions::hlt();
        }
    }
}

/// The kernel is built for its own target; on the host only the library's tests run.
#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("keel: this is a kernel; `make run` starts it");
    std::process::exit(1);
}
