//! The frame that a signal handler runs on, and what rt_sigreturn makes of it: Linux's `struct rt_sigframe` for x86-64
//! (sigreturn(2); System V ABI §3.4.1 for the stack).
//!
//! From the top of the stack that is used (the red zone of the interrupted code is left alone):
//!
//!   | FPU state, as XSAVE or FXSAVE lays it out; 64-byte aligned |
//!   | siginfo_t                                                  |
//!   | ucontext: flags, alternate stack, registers, mask          |
//!   | address of the restorer: the handler returns there         |  <- RSP on entry, 8 below a multiple of 16

use super::action::{Action, ActionFlags};
use super::info::{INFO_BYTES, Info};
use super::numbers::SignalSet;
use super::state::AlternateStack;
use crate::cpu::fpu::{self, Format};
use crate::cpu::gdt;
use crate::errno::Errno;
use crate::interrupts::InterruptFrame;
use crate::memory::user_access::{self, UserAddress};
use crate::task::thread::{LastException, Thread};
use core::mem::{offset_of, size_of};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

const RED_ZONE_BYTES: u64 = 128;
const FPU_ALIGNMENT: u64 = 64;
/// A selector's requested privilege level.
const USER_LEVEL: u16 = 3;

/// ucontext's uc_flags: the FPU state is in XSAVE's format; SS is valid.
const UC_FP_XSTATE: u64 = 1;
const UC_SIGCONTEXT_SS: u64 = 2;
const UC_STRICT_RESTORE_SS: u64 = 4;

/// How a program sees that the FPU state is XSAVE's: marks in the part of the FXSAVE area that software may use, and
/// behind the state (Linux: asm/sigcontext.h).
const XSTATE_MAGIC_1: u32 = 0x4650_5853;
const XSTATE_MAGIC_2: u32 = 0x4650_5845;

/// The flags that a program may set by way of a frame: the arithmetic ones, DF, TF, AC, RF.
const USER_FLAGS: u64 = 0x0005_0dd5;
const FLAG_ALWAYS_ONE: u64 = 1 << 1;
const FLAG_INTERRUPTS: u64 = 1 << 9;
/// Clear when a handler starts: DF, RF, TF.
const FLAGS_CLEAR_IN_HANDLER: u64 = 1 << 10 | 1 << 16 | 1 << 8;

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct SignalFrame {
    restorer: u64,
    context: UserContext,
    info: [u32; INFO_BYTES / 4],
}

/// `struct ucontext`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct UserContext {
    flags: u64,
    link: u64,
    alternate_stack: AlternateStack,
    registers: SavedContext,
    mask: u64,
}

/// `struct sigcontext`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct SavedContext {
    r8: u64,
    r9: u64,
    r10: u64,
    r11: u64,
    r12: u64,
    r13: u64,
    r14: u64,
    r15: u64,
    rdi: u64,
    rsi: u64,
    rbp: u64,
    rbx: u64,
    rdx: u64,
    rax: u64,
    rcx: u64,
    rsp: u64,
    rip: u64,
    rflags: u64,
    cs: u16,
    gs: u16,
    fs: u16,
    ss: u16,
    error_code: u64,
    vector: u64,
    old_mask: u64,
    cr2: u64,
    fpu_state: u64,
    reserved: [u64; 8],
}

const _: () = assert!(size_of::<SavedContext>() == 256);
const _: () = assert!(offset_of!(SignalFrame, context) == 8 && offset_of!(SignalFrame, info) == 8 + 304);

/// How much of a stack a frame can take: AT_MINSIGSTKSZ.
pub fn largest_bytes() -> u64 {
    let frame_bytes = size_of::<SignalFrame>() as u64;
    RED_ZONE_BYTES + fpu_bytes(&fpu::format()) + FPU_ALIGNMENT + frame_bytes + 16 + 8
}

/// Stores the frame and turns the user's registers into those of the handler's start. EFAULT: the stack can't take it.
pub fn push(
    thread: &Thread,
    registers: &mut InterruptFrame,
    action: &Action,
    info: &Info,
    mask_after: SignalSet,
) -> Result<(), Errno> {
    if !action.flags().contains(ActionFlags::RESTORER) {
        return Err(Errno::EFAULT);
    }
    let alternate = thread.signals.alternate_stack();
    let top = stack_for(action, registers.rsp, &alternate)?;
    let format = fpu::format();
    let fpu_address = top.checked_sub(fpu_bytes(&format)).ok_or(Errno::EFAULT)? & !(FPU_ALIGNMENT - 1);
    let below_fpu = fpu_address.checked_sub(size_of::<SignalFrame>() as u64).ok_or(Errno::EFAULT)?;
    let address = ((below_fpu & !15).checked_sub(8)).ok_or(Errno::EFAULT)?;
    if alternate.holds(registers.rsp) && !alternate.holds(address) {
        return Err(Errno::EFAULT);
    }
    push_fpu(thread, &format, fpu_address)?;
    let extended = if format.uses_xsave() { UC_FP_XSTATE } else { 0 };
    let frame = SignalFrame {
        info: info.to_words(),
        restorer: action.restorer,
        context: UserContext {
            flags: extended | UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS,
            link: 0,
            alternate_stack: alternate,
            registers: save_registers(registers, thread.last_exception(), mask_after, fpu_address),
            mask: mask_after.bits(),
        },
    };
    user_access::write_value(UserAddress::new(address), &frame)?;
    if alternate.flags & AlternateStack::AUTO_DISARM != 0 {
        thread.signals.set_alternate_stack(AlternateStack::NONE);
    }
    registers.rip = action.handler;
    registers.rsp = address;
    registers.rdi = info.signal.number().into();
    registers.rsi = address + offset_of!(SignalFrame, info) as u64;
    registers.rdx = address + offset_of!(SignalFrame, context) as u64;
    registers.rax = 0;
    registers.rflags &= !FLAGS_CLEAR_IN_HANDLER;
    registers.cs = u64::from(gdt::USER_CODE);
    registers.ss = u64::from(gdt::USER_DATA);
    Ok(())
}

/// rt_sigreturn: puts back what the frame below the user's RSP says. EFAULT: it can't be read.
pub fn pop(thread: &Thread, registers: &mut InterruptFrame) -> Result<(), Errno> {
    // The handler's return took the restorer's address off the stack: the context is what comes next.
    let context: UserContext = user_access::read_value(UserAddress::new(registers.rsp))?;
    // The only code segment that a return to user mode doesn't fault with. Linux, too, makes sure of the privilege level.
    if context.registers.cs | USER_LEVEL != gdt::USER_CODE {
        return Err(Errno::EFAULT);
    }
    restore_registers(registers, &context.registers);
    restore_fpu(thread, context.registers.fpu_state)?;
    thread.set_signal_mask(SignalSet::from_bits(context.mask));
    let stack = context.alternate_stack;
    if !thread.signals.alternate_stack().holds(registers.rsp) {
        thread.signals.set_alternate_stack(AlternateStack { flags: stack.flags & !AlternateStack::ON_STACK, ..stack });
    }
    Ok(())
}

/// Where the frame goes: on the alternate stack if the handler wants it and isn't on it already.
fn stack_for(action: &Action, rsp: u64, alternate: &AlternateStack) -> Result<u64, Errno> {
    let usable = alternate.flags & AlternateStack::DISABLE == 0 && alternate.size != 0;
    let on_it_already = alternate.flags & AlternateStack::AUTO_DISARM == 0 && alternate.holds(rsp);
    if action.flags().contains(ActionFlags::ONSTACK) && usable && !on_it_already {
        return alternate.base.checked_add(alternate.size).ok_or(Errno::EFAULT);
    }
    rsp.checked_sub(RED_ZONE_BYTES).ok_or(Errno::EFAULT)
}

/// How much of a frame the FPU state takes, with the mark behind it.
fn fpu_bytes(format: &Format) -> u64 {
    format.bytes as u64 + size_of_val(&XSTATE_MAGIC_2) as u64
}

/// Stores the thread's FPU state with the marks that say how long it is.
fn push_fpu(thread: &Thread, format: &Format, address: u64) -> Result<(), Errno> {
    // SAFETY: the thread runs this very code, so nobody else touches its saved state.
    let Some(state) = (unsafe { &mut *thread.fpu_state() }) else { return Ok(()) };
    if !format.uses_xsave() {
        return user_access::copy_out(UserAddress::new(address), state.image_for_program(&[]));
    }
    let marks = [
        XSTATE_MAGIC_1,
        fpu_bytes(format) as u32,
        format.components as u32,
        (format.components >> 32) as u32,
        format.bytes as u32,
    ];
    user_access::copy_out(UserAddress::new(address), state.image_for_program(marks.as_bytes()))?;
    user_access::write_value(UserAddress::new(address + format.bytes as u64), &XSTATE_MAGIC_2)
}

/// Loads what the program left there. EFAULT where MXCSR has bits that the CPU would refuse. Null: the initial state, as on
/// Linux.
fn restore_fpu(thread: &Thread, address: u64) -> Result<(), Errno> {
    // SAFETY: as in `push_fpu`.
    let Some(state) = (unsafe { &mut *thread.fpu_state() }) else { return Ok(()) };
    if address == 0 {
        state.reset();
        state.restore();
        return Ok(());
    }
    let extended = fpu::format().uses_xsave() && is_extended(address)?;
    state.load_from_program(extended, |image| user_access::copy_in(image, UserAddress::new(address)))
}

/// Whether the marks that the kernel left are still there.
fn is_extended(address: u64) -> Result<bool, Errno> {
    let marks = address.checked_add(fpu::SOFTWARE_BYTES as u64).ok_or(Errno::EFAULT)?;
    let first: u32 = user_access::read_value(UserAddress::new(marks))?;
    Ok(first == XSTATE_MAGIC_1)
}

fn save_registers(from: &InterruptFrame, exception: LastException, mask: SignalSet, fpu_state: u64) -> SavedContext {
    SavedContext {
        old_mask: mask.bits(),
        fpu_state,
        reserved: [0; 8],
        vector: exception.vector,
        error_code: exception.error_code,
        cr2: exception.fault_address,
        r8: from.r8,
        r9: from.r9,
        r10: from.r10,
        r11: from.r11,
        r12: from.r12,
        r13: from.r13,
        r14: from.r14,
        r15: from.r15,
        rdi: from.rdi,
        rsi: from.rsi,
        rbp: from.rbp,
        rbx: from.rbx,
        rdx: from.rdx,
        rax: from.rax,
        rcx: from.rcx,
        rsp: from.rsp,
        rip: from.rip,
        rflags: from.rflags,
        cs: from.cs as u16,
        gs: 0,
        fs: 0,
        ss: from.ss as u16,
    }
}

fn restore_registers(to: &mut InterruptFrame, from: &SavedContext) {
    *to = InterruptFrame {
        r8: from.r8,
        r9: from.r9,
        r10: from.r10,
        r11: from.r11,
        r12: from.r12,
        r13: from.r13,
        r14: from.r14,
        r15: from.r15,
        rdi: from.rdi,
        rsi: from.rsi,
        rbp: from.rbp,
        rbx: from.rbx,
        rdx: from.rdx,
        rax: from.rax,
        rcx: from.rcx,
        rsp: from.rsp,
        rip: from.rip,
        rflags: from.rflags & USER_FLAGS | FLAG_ALWAYS_ONE | FLAG_INTERRUPTS,
        cs: gdt::USER_CODE.into(),
        ss: gdt::USER_DATA.into(),
        // No system call any more: nothing to restart.
        vector: 0,
        error_code: 0,
    };
}
