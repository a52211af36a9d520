; Crosses the boundary by both gates and checks what the ABI promises about the way back:
;
;   - rax holds the result; an unknown number is answered with -ENOSYS;
;   - `syscall` leaves its return address in rcx and the flags in r11; every other register is as it was;
;   - `int 0x80` changes no register but rax;
;   - the flags are as they were, the direction flag included (the kernel clears it for itself only);
;   - a call that a signal cuts short is made again after its handler, as the same call.
;
; Usage: syscall_gate [syscall]. With an argument only the `syscall` gate is tried, and the program is then a Linux
; program too; Linux's int 0x80 has i386's numbers, so the other half can't be compared with it.
; The status is the number of failed checks.

bits 64
default rel

SYS_WRITE   equ 1
SYS_SIGACTION equ 13
SYS_SIGRETURN equ 15
SYS_NANOSLEEP equ 35
SYS_SETITIMER equ 38
SYS_GETPID  equ 39
SYS_FORK    equ 57
SYS_EXIT    equ 60
SYS_WAIT4   equ 61
SYS_NONE    equ 0x3fff                  ; no table has it
ENOSYS      equ 38
STDOUT      equ 1
FLAG_DF     equ 1 << 10
FLAG_CF     equ 1 << 0
SIGALRM     equ 14
SA_RESTORER equ 0x04000000
SA_RESTART  equ 0x10000000

; The patterns that the registers hold across the crossing: distinct, and with bits in both halves.
PATTERN     equ 0x0123456700000000

section .rodata
text_ok:        db ": ok", 10
text_ok_length: equ $ - text_ok
text_bad:        db ": FAILED", 10
text_bad_length: equ $ - text_bad

; How long the child lives, and when the signal comes: struct timespec, struct itimerval.
lifetime:       dq 0, 200000000
alarm:          dq 0, 0, 0, 30000
; struct sigaction: handler, flags, restorer, mask.
action:         dq handler, SA_RESTORER | SA_RESTART, restorer, 0

section .bss
failures:       resq 1
return_address: resq 1
flags_before:   resq 1

section .text

; Prints the message at rsi, rdx bytes long, then ": ok" or ": FAILED" by al (1 = it held); counts the failures.
; Clobbers rax, rcx, rdx, rsi, rdi, r11, rbx.
report:
        movzx   ebx, al
        mov     eax, SYS_WRITE
        mov     edi, STDOUT
        syscall
        lea     rsi, [text_ok]
        mov     edx, text_ok_length
        test    ebx, ebx
        jnz     .print
        inc     qword [failures]
        lea     rsi, [text_bad]
        mov     edx, text_bad_length
.print:
        mov     eax, SYS_WRITE
        mov     edi, STDOUT
        syscall
        ret

; say "text": reports al under that text.
%macro say 1
section .rodata
%%text:         db %1
%%text_length:  equ $ - %%text
section .text
        lea     rsi, [%%text]
        mov     edx, %%text_length
        call    report
%endmacro

; Gives each register its pattern. rax and rsp aside, rcx and r11 too.
%macro fill 0
        mov     rbx, PATTERN + 1
        mov     rcx, PATTERN + 2
        mov     rdx, PATTERN + 3
        mov     rsi, PATTERN + 4
        mov     rdi, PATTERN + 5
        mov     rbp, PATTERN + 6
        mov     r8,  PATTERN + 7
        mov     r9,  PATTERN + 8
        mov     r10, PATTERN + 9
        mov     r11, PATTERN + 10
        mov     r12, PATTERN + 11
        mov     r13, PATTERN + 12
        mov     r14, PATTERN + 13
        mov     r15, PATTERN + 14
%endmacro

; differs REGISTER, NUMBER, LABEL: jumps if the register doesn't hold pattern NUMBER. Uses the stack, no register.
%macro differs 3
        push    rax
        mov     rax, PATTERN + %2
        cmp     %1, rax
        pop     rax
        jne     %3
%endmacro

; Jumps to the label unless all registers that both gates must keep hold their patterns.
%macro check_kept 1
        differs rbx, 1, %1
        differs rdx, 3, %1
        differs rsi, 4, %1
        differs rdi, 5, %1
        differs rbp, 6, %1
        differs r8,  7, %1
        differs r9,  8, %1
        differs r10, 9, %1
        differs r12, 11, %1
        differs r13, 12, %1
        differs r14, 13, %1
        differs r15, 14, %1
%endmacro

; flags_survive GATE: al = 1 if DF and CF, set before the crossing, are set after it and nothing else changed.
%macro flags_survive 1
        mov     eax, SYS_GETPID
        pushfq
        or      qword [rsp], FLAG_DF | FLAG_CF
        popfq
        pushfq
        pop     qword [flags_before]
        %1
        pushfq
        cld
        pop     rax
        cmp     rax, [flags_before]
        sete    al
%endmacro

handler:
        ret
restorer:
        mov     eax, SYS_SIGRETURN
        syscall

; is_restarted GATE: al = 1 if a wait for a child is one still when a handler has run meanwhile.
%macro is_restarted 1
        mov     eax, SYS_FORK
        syscall
        test    eax, eax
        jz      child
        mov     r12, rax
        mov     eax, SYS_SETITIMER
        xor     edi, edi
        lea     rsi, [alarm]
        xor     edx, edx
        syscall
        mov     eax, SYS_WAIT4
        mov     rdi, -1
        xor     esi, esi
        xor     edx, edx
        xor     r10d, r10d
        %1
        cmp     rax, r12
        sete    al
%endmacro

child:
        mov     eax, SYS_NANOSLEEP
        lea     rdi, [lifetime]
        xor     esi, esi
        syscall
        mov     eax, SYS_EXIT
        xor     edi, edi
        syscall

global _start
_start:
        mov     r15, [rsp]              ; argc decides at the end; parked on the stack, as r15 is a test subject
        push    r15

        ; --- syscall: an unknown number
        fill
        mov     eax, SYS_NONE
        syscall
after_unknown:
        mov     [return_address], rcx
        cmp     rax, -ENOSYS
        sete    al
        say     "syscall: unknown number is ENOSYS"
        lea     rcx, [after_unknown]
        cmp     rcx, [return_address]
        sete    al
        say     "syscall: rcx is the return address"

        fill
        mov     eax, SYS_NONE
        syscall
        check_kept .syscall_unknown_bad
        mov     al, 1
        jmp     .syscall_unknown_done
.syscall_unknown_bad:
        xor     eax, eax
.syscall_unknown_done:
        say     "syscall: registers kept by an unknown number"

        fill
        mov     eax, SYS_GETPID
        syscall
        check_kept .syscall_known_bad
        test    rax, rax
        setg    al
        jmp     .syscall_known_done
.syscall_known_bad:
        xor     eax, eax
.syscall_known_done:
        say     "syscall: registers kept by getpid"

        mov     eax, SYS_GETPID
        pushfq
        pop     qword [flags_before]
        syscall
        cmp     r11, [flags_before]
        sete    al
        say     "syscall: r11 is the flags"

        flags_survive syscall
        say     "syscall: flags kept"

        mov     eax, SYS_SIGACTION
        mov     edi, SIGALRM
        lea     rsi, [action]
        xor     edx, edx
        mov     r10d, 8
        syscall
        is_restarted syscall
        say     "syscall: made again after a signal"

        cmp     qword [rsp], 2
        jae     finish

        ; --- int 0x80: the same, and rcx and r11 are kept as well
        fill
        mov     eax, SYS_NONE
        int     0x80
        cmp     rax, -ENOSYS
        sete    al
        say     "int 0x80: unknown number is ENOSYS"

        fill
        mov     eax, SYS_NONE
        int     0x80
        check_kept .int_unknown_bad
        differs rcx, 2, .int_unknown_bad
        differs r11, 10, .int_unknown_bad
        mov     al, 1
        jmp     .int_unknown_done
.int_unknown_bad:
        xor     eax, eax
.int_unknown_done:
        say     "int 0x80: all registers kept by an unknown number"

        fill
        mov     eax, SYS_GETPID
        int     0x80
        check_kept .int_known_bad
        differs rcx, 2, .int_known_bad
        differs r11, 10, .int_known_bad
        test    rax, rax
        setg    al
        jmp     .int_known_done
.int_known_bad:
        xor     eax, eax
.int_known_done:
        say     "int 0x80: all registers kept by getpid"

        mov     eax, SYS_GETPID
        syscall
        mov     r12, rax
        mov     eax, SYS_GETPID
        int     0x80
        cmp     rax, r12
        sete    al
        say     "int 0x80: the same table as syscall"

        flags_survive int 0x80
        say     "int 0x80: flags kept"

        is_restarted int 0x80
        say     "int 0x80: made again after a signal"

finish:
        mov     edi, [failures]
        mov     eax, SYS_EXIT
        syscall
