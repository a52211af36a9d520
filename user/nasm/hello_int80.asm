; Says hello through `int 0x80`, the gate that labs start from.
;
; Keel's int 0x80 enters the same table as `syscall`: x86-64 numbers, and arguments in rdi, rsi, rdx, r10, r8, r9.
; Linux answers int 0x80 with i386's numbers and truncated registers, so this program is one of the few here that
; can't run there: 1 is `exit` in i386's table, and it would end with status 1 and no output.

bits 64
default rel

SYS_WRITE equ 1
SYS_EXIT  equ 60
STDOUT    equ 1

section .rodata
message:        db "Hello from int 0x80", 10
message_length: equ $ - message

section .text
global _start
_start:
        mov     eax, SYS_WRITE
        mov     edi, STDOUT
        lea     rsi, [message]
        mov     edx, message_length
        int     0x80

        ; write answers with the number of bytes; the status is 0 when it was all of them.
        mov     edi, eax
        sub     edi, message_length
        mov     eax, SYS_EXIT
        int     0x80
