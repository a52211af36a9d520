; Core story 5: a system call crosses the boundary. The `syscall` side; `int 0x80` comes through asm/interrupts.asm and
; meets this path in syscall_dispatch.
;
; SYSCALL (SDM 2B) changes no more than CS, SS, RIP, RFLAGS (masked by SFMASK: IF, DF, TF, AC and NT are clear here), RCX (the
; user's RIP) and R11 (the user's RFLAGS). RSP is still the user's and worth nothing: there is no stack until it is
; replaced.

%include "layout.inc"
%include "registers.inc"

extern syscall_dispatch                 ; src/syscall/mod.rs
extern syscall_return                   ; asm/return.asm

section .entry.text progbits alloc exec nowrite align=16

; The address in LSTAR. On entry: RAX = number, RDI RSI RDX R10 R8 R9 = arguments, RCX = return RIP, R11 = RFLAGS, user GS.
; Builds the InterruptFrame that every entry builds, so that signals, fork and exec see one layout.
global syscall_entry
syscall_entry:
    swapgs
    mov [gs:PER_CPU_USER_RSP], rsp
    mov rsp, [gs:PER_CPU_KERNEL_STACK_TOP]
    push USER_DATA_SELECTOR
    push qword [gs:PER_CPU_USER_RSP]
    push r11
    push USER_CODE_SELECTOR
    push rcx
    push rax                            ; in place of an error code: the number, for calls that are restarted
    push SYSCALL_FRAME_VECTOR
    SAVE_REGISTERS
    sti
    xor ebp, ebp                        ; the kernel's backtrace ends here
    mov rdi, rsp
    call syscall_dispatch
    mov [rsp + FRAME_RAX], rax
    jmp syscall_return
