; An interrupt enters the kernel, and leaves it.
;
; Every vector has a stub; each stub completes the same picture on the kernel stack, struct InterruptFrame
; (src/interrupts/frame.rs), and calls
;
;   extern "C" fn interrupt_dispatch(frame: &mut InterruptFrame)      (src/interrupts/mod.rs)
;
;        higher addresses   the stack's top, 16-byte aligned: RSP0 from user mode, an IST stack, or where RSP was
;       +----------------+
;  +168 | SS             | \
;  +160 | RSP            |  |
;  +152 | RFLAGS         |  | pushed by the CPU (SDM 3A §6.14.2)
;  +144 | CS             |  | CS & 3 = 3: it was a user program
;  +136 | RIP            | /
;  +128 | error code     |   by the CPU for some exceptions, else 0 by the stub
;  +120 | vector         |   by the stub
;  +112 | RDI            | \
;       | RSI RDX RCX RAX|  |
;       | R8 R9 R10 R11  |  | by the entry: SAVE_REGISTERS
;       | RBP RBX R12 R13|  |
;       | R14            |  |
;    +0 | R15            | /   <- RSP = RDI at the call
;       +----------------+
;
; GS: user code runs with the user's GS base, the kernel with this CPU's PerCpu block; SWAPGS exchanges them. There are
; three ways in, by what can be known about GS and RSP:
;
;   interrupt_entry   devices and `int 0x80`. IF was on, and IF is off wherever GS isn't what CS says: CS decides.
;   exception_entry   exceptions. One raised in kernel mode may have hit an instruction next to a SWAPGS (an IRETQ that
;                     faults): GS's own base decides, a kernel address being negative.
;   isolated_entry    #DB, NMI, #DF, #MC on their own (IST) stacks: these can also hit the first instruction of `syscall`
;                     entry, where RSP is still the user's. From user mode they move to the thread's stack and are
;                     ordinary from there; so an IST stack is in use only while the kernel itself was interrupted.
;
; The way back: to user mode through return_to_user (asm/return.asm), which expects RSP = frame; to kernel mode right
; here. IF, TF, NT and RF are cleared by the gate; DF by CLD; AC (a user's, or an interrupted STAC..CLAC's) by CLAC, where there
; is SMAP: else it has no effect in the kernel.

%include "layout.inc"
%include "registers.inc"

extern interrupt_dispatch       ; src/interrupts/mod.rs
extern return_to_user           ; asm/return.asm
extern iretq_to_user

%macro CLEAR_AC 0
    cmp byte [gs:PER_CPU_SMAP_PRESENT], 0
    je %%no_smap
    clac
%%no_smap:
%endmacro

section .entry.text progbits alloc exec nowrite align=16
bits 64

interrupt_entry:
    cld
    SAVE_REGISTERS
    test byte [rsp + FRAME_CS], 3
    jz .from_kernel
.from_user:
    swapgs
.on_thread_stack:
    CLEAR_AC
    xor ebp, ebp                                ; a backtrace ends here
    mov rdi, rsp
    call interrupt_dispatch
    jmp return_to_user
.from_kernel:
    CLEAR_AC
    mov rdi, rsp                                ; RBP goes on: a backtrace continues in the interrupted code
    call interrupt_dispatch

; RSP = frame of interrupted kernel code, GS as that code had it.
return_to_kernel:
    RESTORE_REGISTERS
    add rsp, 16                                 ; vector, error code
    iretq

exception_entry:
    cld
    SAVE_REGISTERS
    test byte [rsp + FRAME_CS], 3
    jnz interrupt_entry.from_user
.from_kernel:
    xor ebx, ebx                                ; whether to give the interrupted code its GS back
    mov ecx, MSR_GS_BASE
    rdmsr
    test edx, edx
    js .have_kernel_gs
    swapgs
    inc ebx
.have_kernel_gs:
    CLEAR_AC
    lea rax, [rel iretq_to_user]
    cmp rax, [rsp + FRAME_RIP]
    je .return_failed
    mov rdi, rsp
    call interrupt_dispatch
    test ebx, ebx
    jz return_to_kernel
    swapgs
    jmp return_to_kernel

; The IRETQ to user mode refused what it was given: a handler or a signal frame named a RIP that isn't canonical. That is the
; program's fault, so it is made to look as one: the words that IRETQ read are still above (this frame's RSP points at them),
; and below them the frame is completed by what was saved here. Copied downwards, as the two overlap.
.return_failed:
    mov rdi, [rsp + FRAME_RSP]
    sub rdi, 8
    lea rsi, [rsp + FRAME_ERROR_CODE]
    mov ecx, FRAME_RIP / 8
    std
    rep movsq
    cld
    lea rsp, [rdi + 8]
    jmp interrupt_entry.on_thread_stack

isolated_entry:
    cld
    SAVE_REGISTERS
    test byte [rsp + FRAME_CS], 3
    jz exception_entry.from_kernel
    swapgs
    mov rsi, rsp                                ; the frame moves to the top of the thread's kernel stack
    mov rdi, [gs:PER_CPU_KERNEL_STACK_TOP]
    sub rdi, FRAME_BYTES
    mov rdx, rdi
    mov ecx, FRAME_BYTES / 8
    rep movsq
    mov rsp, rdx
    jmp interrupt_entry.on_thread_stack

; Vectors for which the CPU pushes an error code (SDM 3A §6.3.1): 8, 10 to 14, 17, 21, 29, 30.
%define PUSHES_ERROR_CODE(vector)  ((1 << (vector)) & 0x60227d00)
; Vectors on IST stacks (src/cpu/idt.rs): 1, 2, 8, 18.
%define HAS_OWN_STACK(vector)      ((1 << (vector)) & 0x00040106)

global interrupt_stubs
align 16
interrupt_stubs:
%assign vector 0
%rep 256
    %if vector >= 32
        push 0
        push strict dword vector
        jmp strict near interrupt_entry
    %else
        %if PUSHES_ERROR_CODE(vector) == 0
            push 0
        %endif
        push strict dword vector
        %if HAS_OWN_STACK(vector)
            jmp strict near isolated_entry
        %else
            jmp strict near exception_entry
        %endif
    %endif
    align INTERRUPT_STUB_BYTES
    %assign vector vector + 1
%endrep
%if $ - interrupt_stubs != 256 * INTERRUPT_STUB_BYTES
    %error "a stub outgrew its place"
%endif
