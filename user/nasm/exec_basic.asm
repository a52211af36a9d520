; Replaces itself by exec_target, which prints EXEC_OK. After a successful execve no instruction of this file may run:
; the two lines behind the call say so loudly if one does.
;
; Usage: exec_basic [PATH]. Without an argument the target is /tests/exec_target.

bits 64
default rel

SYS_WRITE  equ 1
SYS_EXECVE equ 59
SYS_EXIT   equ 60
STDOUT     equ 1

section .rodata
default_path:   db "/tests/exec_target", 0
failed:         db "execve failed", 10
failed_length:  equ $ - failed

section .data
arguments:      dq 0, 0                 ; argv of the new image: its path, NULL

section .text
global _start

; On entry: [rsp] = argc, [rsp + 8] = argv[0], [rsp + 16] = argv[1] or NULL.
_start:
        lea     rdi, [default_path]
        cmp     qword [rsp], 2
        jb      .exec
        mov     rdi, [rsp + 16]
.exec:
        mov     [arguments], rdi
        lea     rsi, [arguments]
        xor     edx, edx                ; a NULL envp is an empty environment
        mov     eax, SYS_EXECVE
        syscall

        ; Only a refused execve comes here. The status is its errno.
        neg     eax
        mov     ebx, eax
        mov     eax, SYS_WRITE
        mov     edi, STDOUT
        lea     rsi, [failed]
        mov     edx, failed_length
        syscall
        mov     edi, ebx
        mov     eax, SYS_EXIT
        syscall
