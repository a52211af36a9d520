; The way back to user mode: from interrupts, from int 0x80, from syscall, and for a thread's first time there.
;
; Whatever brought a thread into the kernel, this is where it leaves: what is pending is done first (another thread's turn,
; signals), then the thread's page table is loaded, then the registers are given back. Nothing between the last check and
; IRETQ or SYSRET turns interrupts on, so nothing can become pending unseen.

%include "layout.inc"
%include "registers.inc"

extern work_before_return               ; src/task/user_return.rs
extern get_thread_cr3                   ; src/task/switch.rs
extern page_table_was_loaded            ; src/task/switch.rs

%define RFLAGS_FORBID_SYSRET 0x00010100 ; RF and TF: SYSRET would drop the one and trap at once for the other

section .text

; Does what is pending, until nothing is. Leaves with interrupts off. On entry RSP = the InterruptFrame.
%macro SETTLE_PENDING_WORK 0
%%again:
    cli
    mov rax, [gs:PER_CPU_CURRENT_THREAD]
    cmp dword [rax + THREAD_WORK], 0
    jne %%work
    cmp byte [gs:PER_CPU_NEED_RESCHEDULE], 0
    je %%settled
%%work:
    mov rdi, rsp
    call work_before_return
    jmp %%again
%%settled:
%endmacro

; Makes CR3 what the current thread says (Thread::page_table_frame); writes it only when it differs, since that flushes the
; TLB. A kernel thread says 0: it needs the upper half only, which is the same in all, so it stays on what is loaded.
; Interrupts are off and RSP is 16-byte aligned. Clobbers what a call may.
%macro LOAD_THREAD_PAGE_TABLE 0
    call get_thread_cr3
    test rax, rax
    jz %%keep
    mov rcx, cr3
    cmp rax, rcx
    je %%keep
    mov cr3, rax
    mov rdi, rax
    call page_table_was_loaded
%%keep:
%endmacro

; Leaves by IRETQ, which restores every register: for whatever isn't a plain system call.
; On entry: RSP = the InterruptFrame of the current thread (top of its kernel stack), GS = kernel's. Does not return.
global return_to_user
return_to_user:
    SETTLE_PENDING_WORK
    LOAD_THREAD_PAGE_TABLE
.restore:
    RESTORE_REGISTERS
    add rsp, 16                         ; vector and error code
    swapgs
global iretq_to_user
iretq_to_user:                          ; faults if RIP isn't canonical: asm/interrupts.asm knows it by this address
    iretq

; Leaves by SYSRET where the frame allows it: SYSRET takes RIP from RCX and RFLAGS from R11 (SDM 2B, SYSRET). In a frame that
; still has the vector of syscall_entry they are what SYSCALL put there, and RIP is canonical, as user space ends a page below
; the last address that is. exec, signals and sigreturn change the frame, and its vector with it; they go out by IRETQ.
; RBX and R12 to R15 need no restoring: functions preserve them (System V ABI §3.2.1), so they are the program's still.
; On entry: as return_to_user; RBX and R12 to R15 as they were when the frame was built.
global syscall_return
syscall_return:
    SETTLE_PENDING_WORK
    LOAD_THREAD_PAGE_TABLE
    cmp qword [rsp + FRAME_VECTOR], SYSCALL_FRAME_VECTOR
    jne return_to_user.restore
    test dword [rsp + FRAME_RFLAGS], RFLAGS_FORBID_SYSRET
    jnz return_to_user.restore
    add rsp, FRAME_RBP
    RESTORE_REGISTERS_FROM_RBP
    mov rsp, [rsp + FRAME_RSP - FRAME_VECTOR]
    swapgs
    o64 sysret

; extern "C" fn load_thread_page_table()
;
; The same for each switch, and for execve's end: called with interrupts off. Clobbers what a call may.
global load_thread_page_table
load_thread_page_table:
    sub rsp, 8                          ; calls are made with RSP 16-byte aligned
    LOAD_THREAD_PAGE_TABLE
    add rsp, 8
    ret
