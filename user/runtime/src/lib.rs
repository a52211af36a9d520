//! What a program needs before it has a libc: the entry point, arguments and environment and auxiliary vector, system
//! calls, thread-locals, printing.
//!
//! A program names its main function with `entry!`:
//!
//! ```ignore
//! #![no_std]
//! #![no_main]
//! runtime::entry!(main);
//! fn main(process: &Process) -> i32 { println!("Hello"); 0 }
//! ```
//!
//! In reading order: `start` (from the first instruction to `main`), `process` (what the kernel left on the stack),
//! `syscall` (how to ask the kernel for something), `thread_local` (who sets FS), `print`, `memory`.

#![no_std]

mod memory;
pub mod print;
pub mod process;
mod start;
pub mod syscall;
pub mod thread_local;

pub use process::{Process, auxiliary};
pub use start::{EntryRegisters, GENERAL_NAMES, entry_registers};
pub use syscall::Errno;

/// Names the function that runs as the program's main: `fn(&Process) -> i32`, the result being the exit status.
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        // SAFETY: the name is the runtime's own; `start` declares it with this signature and calls it once.
        #[unsafe(no_mangle)]
        extern "Rust" fn program_main(process: &$crate::Process) -> i32 {
            $main(process)
        }
    };
}

#[panic_handler]
fn panic(information: &core::panic::PanicInfo<'_>) -> ! {
    eprintln!("{information}");
    syscall::exit(101)
}
