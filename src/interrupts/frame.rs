//! What every entry into the kernel leaves on the kernel stack: the interrupted context, whole.
//!
//! Interrupts, exceptions, `int 0x80` and `syscall` all build this one layout (asm/interrupts.asm draws it), so whoever
//! looks at a user context - system calls, signals, fork, the panic screen - knows one structure.

use crate::cpu::layout::asm_constant;
use core::mem::{offset_of, size_of};

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InterruptFrame {
    // Pushed by the entry code; r15 last, so it is lowest.
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub rbx: u64,
    pub rbp: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rax: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    /// Pushed by the stub.
    pub vector: u64,
    /// Pushed by the CPU for some exceptions, by the stub (as 0) for everything else.
    pub error_code: u64,
    // Pushed by the CPU (SDM 3A §6.14.2); `syscall` entry imitates it.
    pub rip: u64,
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
}

impl InterruptFrame {
    /// Whether the interrupted code was a user program (SDM 3A §5.5: the privilege level is CS's low two bits).
    #[inline]
    pub const fn from_user(&self) -> bool {
        self.cs & 3 == 3
    }
}

macro_rules! assert_offsets {
    ($($field:ident = $name:literal),* $(,)?) => {
        $(const _: () = assert!(offset_of!(InterruptFrame, $field) == asm_constant($name));)*
    };
}

assert_offsets! {
    r15 = "FRAME_R15", r14 = "FRAME_R14", r13 = "FRAME_R13", r12 = "FRAME_R12", rbx = "FRAME_RBX", rbp = "FRAME_RBP",
    r11 = "FRAME_R11", r10 = "FRAME_R10", r9 = "FRAME_R9", r8 = "FRAME_R8", rax = "FRAME_RAX", rcx = "FRAME_RCX",
    rdx = "FRAME_RDX", rsi = "FRAME_RSI", rdi = "FRAME_RDI", vector = "FRAME_VECTOR", error_code = "FRAME_ERROR_CODE",
    rip = "FRAME_RIP", cs = "FRAME_CS", rflags = "FRAME_RFLAGS", rsp = "FRAME_RSP", ss = "FRAME_SS",
}

const _: () = assert!(size_of::<InterruptFrame>() == asm_constant("FRAME_BYTES"));
// The CPU aligns RSP to 16 before it pushes five quadwords; with these the frame's start is 16-byte aligned as well, which
// is what a Rust function expects of RSP at its call.
const _: () = assert!(size_of::<InterruptFrame>().is_multiple_of(16));
