//! What is asked for, to be written and executed at once? Linux grants it, and so does Keel, unless `wx=deny` is on its
//! command line. Writing first and executing later is fine everywhere.

#![no_std]
#![no_main]

use runtime::syscall::{self, number};
use runtime::{Process, println};

runtime::entry!(main);

const PAGE_BYTES: usize = 4096;
const READ: usize = 1;
const WRITE: usize = 2;
const EXECUTE: usize = 4;
const PRIVATE_ANONYMOUS: usize = 0x22;
const SHARED_ANONYMOUS: usize = 0x21;
/// `mov eax, 42; ret`
const RETURN_42: [u8; 6] = [0xb8, 42, 0, 0, 0, 0xc3];

fn map(protection: usize, flags: usize) -> Result<usize, syscall::Errno> {
    // SAFETY: with no address given, the kernel chooses a range that nothing uses.
    unsafe { syscall::call(number::MMAP, [0, PAGE_BYTES, protection, flags, usize::MAX, 0]) }
}

fn protect(address: usize, protection: usize) -> Result<usize, syscall::Errno> {
    // SAFETY: the callers name pages of their own, which hold nothing that is needed with other rights.
    unsafe { syscall::call(number::MPROTECT, [address, PAGE_BYTES, protection, 0, 0, 0]) }
}

fn say(question: &str, answer: Result<usize, syscall::Errno>) {
    match answer {
        Ok(_) => println!("{question}: granted"),
        Err(errno) => println!("{question}: errno {}", errno.0),
    }
}

fn main(_: &Process) -> i32 {
    say("a mapping to write and execute", map(READ | WRITE | EXECUTE, PRIVATE_ANONYMOUS));
    say("one without reading", map(WRITE | EXECUTE, PRIVATE_ANONYMOUS));
    say("a shared one", map(READ | WRITE | EXECUTE, SHARED_ANONYMOUS));
    let Ok(page) = map(READ | WRITE, PRIVATE_ANONYMOUS) else { return 1 };
    // SAFETY: the page was just mapped to be written, and is larger than the code.
    unsafe { (page as *mut [u8; 6]).write(RETURN_42) };
    say("writing pages that are to be executed as well", protect(page, READ | WRITE | EXECUTE));
    say("writing pages that are to be executed instead", protect(page, READ | EXECUTE));
    // SAFETY: the page can be executed now, and holds a whole function of this type.
    let function: extern "C" fn() -> i32 = unsafe { core::mem::transmute(page) };
    println!("what was written returns {}", function());
    say("executed pages that are to be written as well", protect(page, READ | WRITE | EXECUTE));
    say("executed pages that are to be written instead", protect(page, READ | WRITE));
    let on_stack = 0_u8;
    let stack_page = &raw const on_stack as usize & !(PAGE_BYTES - 1);
    say("a stack to be executed as well", protect(stack_page, READ | WRITE | EXECUTE));
    0
}
