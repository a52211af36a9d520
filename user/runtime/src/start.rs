//! From the first instruction of the image to the program's main.
//!
//! The kernel enters at `_start` with the stack pointer at argc and nothing else promised but the System V ABI's
//! §3.4.1: a 16-byte aligned stack, rdx = 0 (no function to register with atexit), clean flags, the FPU's initial
//! state. Linux zeroes all other registers, and so does Keel. `_start` first writes every register down as it found it,
//! so that a test can look; then it calls into Rust.

use crate::process::Process;
use crate::{syscall, thread_local};
use core::cell::UnsafeCell;

/// The registers as they were at the image's first instruction.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct EntryRegisters {
    /// rax, rbx, rcx, rdx, rsi, rdi, rbp, r8 … r15, in this order.
    pub general: [u64; 15],
    pub stack_pointer: u64,
    pub flags: u64,
    /// The SSE control and status register.
    pub mxcsr: u32,
    /// The x87 control word.
    pub fpu_control: u16,
    pub padding: u16,
    /// The low halves of xmm0 and xmm15: two samples of the vector registers.
    pub xmm: [u64; 2],
    /// ds, es, fs, gs.
    pub segments: [u16; 4],
}

/// The names of `EntryRegisters::general`.
pub const GENERAL_NAMES: [&str; 15] =
    ["rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"];

// The offsets that `_start` writes to.
const _: () = assert!(core::mem::offset_of!(EntryRegisters, stack_pointer) == 120);
const _: () = assert!(core::mem::offset_of!(EntryRegisters, flags) == 128);
const _: () = assert!(core::mem::offset_of!(EntryRegisters, mxcsr) == 136);
const _: () = assert!(core::mem::offset_of!(EntryRegisters, fpu_control) == 140);
const _: () = assert!(core::mem::offset_of!(EntryRegisters, xmm) == 144);
const _: () = assert!(core::mem::offset_of!(EntryRegisters, segments) == 160);

#[repr(transparent)]
struct EntryStore(UnsafeCell<EntryRegisters>);

// SAFETY: `_start` writes it before any thread but the first exists; from then on it is only read.
unsafe impl Sync for EntryStore {}

// SAFETY: no other symbol of the program has this name; `_start` below is its only writer.
#[unsafe(no_mangle)]
static RUNTIME_ENTRY_REGISTERS: EntryStore = EntryStore(UnsafeCell::new(EntryRegisters {
    general: [0; 15],
    stack_pointer: 0,
    flags: 0,
    mxcsr: 0,
    fpu_control: 0,
    padding: 0,
    xmm: [0; 2],
    segments: [0; 4],
}));

/// The registers as the kernel left them.
pub fn entry_registers() -> EntryRegisters {
    // SAFETY: only `_start` writes them, and it has long finished.
    unsafe { *RUNTIME_ENTRY_REGISTERS.0.get() }
}

// _start: where the kernel enters the image.
// On entry: rsp -> argc, argv[0] …, NULL, envp[0] …, NULL, auxv. Never returns.
core::arch::global_asm!(
    ".globl _start",
    "_start:",
    "mov [rip + RUNTIME_ENTRY_REGISTERS], rax",
    "mov [rip + RUNTIME_ENTRY_REGISTERS + 8], rbx",
    "mov [rip + RUNTIME_ENTRY_REGISTERS + 16], rcx",
    "mov [rip + RUNTIME_ENTRY_REGISTERS + 24], rdx",
    "mov [rip + RUNTIME_ENTRY_REGISTERS + 32], rsi",
    "mov [rip + RUNTIME_ENTRY_REGISTERS + 40], rdi",
    "mov [rip + RUNTIME_ENTRY_REGISTERS + 48], rbp",
    "mov [rip + RUNTIME_ENTRY_REGISTERS + 56], r8",
    "mov [rip + RUNTIME_ENTRY_REGISTERS + 64], r9",
    "mov [rip + RUNTIME_ENTRY_REGISTERS + 72], r10",
    "mov [rip + RUNTIME_ENTRY_REGISTERS + 80], r11",
    "mov [rip + RUNTIME_ENTRY_REGISTERS + 88], r12",
    "mov [rip + RUNTIME_ENTRY_REGISTERS + 96], r13",
    "mov [rip + RUNTIME_ENTRY_REGISTERS + 104], r14",
    "mov [rip + RUNTIME_ENTRY_REGISTERS + 112], r15",
    "mov [rip + RUNTIME_ENTRY_REGISTERS + 120], rsp",
    "pushfq",
    "pop qword ptr [rip + RUNTIME_ENTRY_REGISTERS + 128]",
    "stmxcsr [rip + RUNTIME_ENTRY_REGISTERS + 136]",
    "fnstcw [rip + RUNTIME_ENTRY_REGISTERS + 140]",
    "movq [rip + RUNTIME_ENTRY_REGISTERS + 144], xmm0",
    "movq [rip + RUNTIME_ENTRY_REGISTERS + 152], xmm15",
    "mov word ptr [rip + RUNTIME_ENTRY_REGISTERS + 160], ds",
    "mov word ptr [rip + RUNTIME_ENTRY_REGISTERS + 162], es",
    "mov word ptr [rip + RUNTIME_ENTRY_REGISTERS + 164], fs",
    "mov word ptr [rip + RUNTIME_ENTRY_REGISTERS + 166], gs",
    "xor ebp, ebp", // the outermost frame has no caller (§3.4.1)
    "mov rdi, rsp",
    "and rsp, -16",
    "call {start}",
    "ud2",
    start = sym start,
);

unsafe extern "Rust" {
    /// The program's main, made by `entry!`.
    safe fn program_main(process: &Process) -> i32;
}

extern "C" fn start(stack: *const usize) -> ! {
    // SAFETY: `_start` passes the stack pointer of the image's first instruction, where the ABI puts argc.
    let process = unsafe { Process::from_stack(stack) };
    thread_local::set_up(&process);
    syscall::exit(program_main(&process))
}
