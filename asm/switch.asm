; Core story 4: one thread gives the CPU to another.
;
; A thread that leaves the CPU always does so here, deep in the kernel, on its own kernel stack: by waiting, or because
; its quantum is over and it was about to return to user mode. So all there is to save is what the C calling convention
; says that a call preserves (System V ABI §3.2.1) and the stack pointer; the user's registers already lie in the
; InterruptFrame at the top of the same stack (asm/interrupts.asm).
;
;   high   | InterruptFrame          |  user threads only
;          | frames of Rust calls    |
;          | return address          |  into task::switch, or thread_start for a thread that never ran
;          | rbp rbx r12 r13 r14 r15 |
;   low    +-------------------------+  <- Thread::saved_stack_pointer
;
; What lies behind the six registers is left to Rust (src/task/switch.rs): current thread, RSP0, FPU, FS and GS base.

%include "layout.inc"

extern load_thread_page_table
extern finish_switch
extern return_to_user

section .text

; extern "C" fn switch_stacks(save: *mut u64, load: u64)
;
; Called from task::switch::switch_to, interrupts off, the per-CPU current thread already the next one.
; On entry: RDI = where the old thread's stack pointer is kept, RSI = the next thread's. Returns in the next thread, on its
; stack and with its page table; to the old one it returns when somebody switches back. Clobbers what a call may.
global switch_stacks
switch_stacks:
    push rbp
    push rbx
    push r12
    push r13
    push r14
    push r15
    mov [rdi], rsp
    mov rsp, rsi
    sub rsp, 8                          ; calls are made with RSP 16-byte aligned
    call load_thread_page_table         ; the upper half is the same in all: this stack and code stay where they are
    add rsp, 8
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbx
    pop rbp
    ret

; Where a new thread's first switch returns to; task::switch::prepare_stack put its start into the callee-saved registers.
; On entry: interrupts off, R12 = a function to be called first, or 0; R13 = its argument; RSP = the InterruptFrame.
; The thread then goes to user mode with that frame. A kernel thread's function ends the thread and doesn't return.
global thread_start
thread_start:
    call finish_switch
    test r12, r12
    jz .to_user_mode
    sti
    mov rdi, r13
    call r12
.to_user_mode:
    jmp return_to_user
