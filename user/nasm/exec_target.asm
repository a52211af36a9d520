; The image that exec_basic becomes. EXEC_OK on the console is the proof that execve reached its first instruction.

bits 64
default rel

SYS_WRITE equ 1
SYS_EXIT  equ 60
STDOUT    equ 1

section .rodata
message:        db "EXEC_OK", 10
message_length: equ $ - message

section .text
global _start
_start:
        mov     eax, SYS_WRITE
        mov     edi, STDOUT
        lea     rsi, [message]
        mov     edx, message_length
        syscall

        xor     edi, edi
        mov     eax, SYS_EXIT
        syscall
