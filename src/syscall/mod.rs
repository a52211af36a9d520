//! Core story 5: a system call crosses the boundary. asm/syscall_entry.asm and asm/interrupts.asm lead here.
//!
//! Both gates, `syscall` and `int 0x80`, take Linux's x86-64 numbers in RAX and arguments in RDI, RSI, RDX, R10, R8, R9, and
//! give the result in RAX: a value, or minus an errno. The table ([`table`]) says for each number which function does it
//! and of which types its arguments are; from those types come the conversion and the trace (`trace=syscall`).
//!
//! A function here only reads its arguments, asks the module that knows, and stores results: what a call means is told in
//! src/task, src/memory and src/fs.

pub mod argument;
pub mod attributes;
pub mod copy;
pub mod descriptor;
pub mod directory;
pub mod exec;
pub mod extended_attributes;
pub mod futex;
pub mod identity;
pub mod limits;
pub mod memory;
pub mod mount;
pub mod open;
pub mod path_edit;
pub mod paths;
pub mod poll;
pub mod process;
pub mod read_write;
mod scheduling;
pub mod signal;
pub mod system;
mod table;
pub mod time;
mod user_buffer;

use crate::cpu;
use crate::errno::Errno;
use crate::interrupts::{self, InterruptFrame};
use crate::task::{self, Thread};
use crate::trace::{self, Kind};
use x86_64::VirtAddr;

/// One system call: what the table holds of it.
pub struct Entry {
    pub name: &'static str,
    /// The names of its arguments, for the trace and for docs/syscalls.md.
    pub arguments: &'static [&'static str],
}

/// Converts the arguments, makes the call, and gives its result.
type Call = fn(&Thread, Registers) -> isize;

/// The six argument registers, as they were on entry, in the calling thread's frame. A call's arguments are all read before
/// it begins, so that it may then change the frame.
pub struct Registers(*const InterruptFrame);

/// What a system call can return besides an error.
pub trait Outcome {
    fn into_return_value(self) -> isize;
}

/// Called by both gates with interrupts on; they put the result into the frame's RAX. The frame is the current thread's, at the
/// top of its kernel stack; calls that change the user's registers (execve, rt_sigreturn) reach it through the thread.
#[unsafe(no_mangle)]
extern "C" fn syscall_dispatch(frame: *const InterruptFrame) -> isize {
    #[cfg(feature = "kernel-tests")]
    crate::kernel_tests::probe::assert_entry_flags_are_clean();
    if trace::enabled(Kind::Syscall) { traced_call(frame) } else { call(frame) }
}

/// Apart, so that the way of a call that isn't traced needs no registers saved: it ends in a jump.
#[cold]
fn traced_call(frame: *const InterruptFrame) -> isize {
    trace::record(Kind::Syscall, number(frame), Registers(frame).get(0));
    call(frame)
}

#[inline(always)]
fn call(frame: *const InterruptFrame) -> isize {
    let number = number(frame);
    let call = usize::try_from(number).ok().and_then(|number| table::CALLS.get(number)).unwrap_or(&table::NO_SUCH_CALL);
    call(&task::current(), Registers(frame))
}

#[inline(always)]
fn number(frame: *const InterruptFrame) -> u64 {
    // SAFETY: the entry code built the frame and passes its address.
    unsafe { (*frame).rax }
}

/// Opens both gates. Before the first user thread runs.
pub fn init() {
    unsafe extern "C" {
        fn syscall_entry();
    }
    cpu::set_syscall_entry(VirtAddr::from_ptr(syscall_entry as *const ()));
    interrupts::set_system_call_handler(|frame| {
        // As asm/syscall_entry.asm does: the number, for calls that are made again after a signal.
        frame.error_code = frame.rax;
        x86_64::instructions::interrupts::enable();
        frame.rax = syscall_dispatch(frame) as u64;
        x86_64::instructions::interrupts::disable();
    });
}

/// The table, for docs and tests: number and entry of every call there is.
pub fn all() -> impl Iterator<Item = (usize, &'static Entry)> {
    table::TABLE.iter().enumerate().filter_map(|(number, entry)| Some((number, entry.as_ref()?)))
}

/// How a trace names a call.
pub fn name(number: u64) -> Option<&'static str> {
    let entry = table::TABLE.get(usize::try_from(number).ok()?)?.as_ref()?;
    Some(entry.name)
}

impl Registers {
    #[inline(always)]
    fn get(&self, index: usize) -> u64 {
        // SAFETY: only `syscall_dispatch` makes this value, from the frame of the call that it is about to make.
        let frame = unsafe { &*self.0 };
        match index {
            0 => frame.rdi,
            1 => frame.rsi,
            2 => frame.rdx,
            3 => frame.r10,
            4 => frame.r8,
            _ => frame.r9,
        }
    }
}

impl Outcome for () {
    fn into_return_value(self) -> isize {
        0
    }
}

macro_rules! outcomes {
    ($($integer:ty),*) => {
        $(impl Outcome for $integer {
            #[inline(always)]
            fn into_return_value(self) -> isize {
                self as isize
            }
        })*
    };
}

outcomes!(i32, u32, i64, u64, usize, isize);

impl<T: Outcome> Outcome for Result<T, Errno> {
    #[inline(always)]
    fn into_return_value(self) -> isize {
        match self {
            Ok(value) => value.into_return_value(),
            Err(errno) => errno.as_return_value(),
        }
    }
}
