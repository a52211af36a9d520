; The init that travels inside the kernel, for when there is no other: it says why it runs, shows what was found, and lets a
; person look around and start something better.
;
; An ordinary Linux program: it asks for everything by system calls, and runs on Linux as it does on Keel (the unit tests of
; src/exec/fallback.rs run it there). NASM writes the whole ELF file (`-f bin`), so that the kernel builds with nothing of
; user/ built. It has one segment, which is read-only; its variables are on the stack.
;
; Started with    argv[1…] = why the kernel fell back, a sentence each.
; Ends            with status 0 at the end of its input.
; Registers       RBP = the variables (struc work), R12 = environment, R13 = argv, all program long. Routines take
;                 RSI (text) and RAX, and may change what a system call may: RAX, RCX, RDX, RDI, RSI, R8 to R11.

bits 64
org 0x400000

%define SYS_READ          0
%define SYS_WRITE         1
%define SYS_OPEN          2
%define SYS_CLOSE         3
%define SYS_DUP2          33
%define SYS_FORK          57
%define SYS_EXECVE        59
%define SYS_WAIT4         61
%define SYS_UNAME         63
%define SYS_FCNTL         72
%define SYS_REBOOT        169
%define SYS_GETDENTS64    217
%define SYS_EXIT_GROUP    231

%define O_RDONLY          0
%define O_RDWR            2
%define O_DIRECTORY       0x10000
%define F_GETFD           1
%define REBOOT_MAGIC1     0xfee1dead
%define REBOOT_MAGIC2     672274793
%define REBOOT_RESTART    0x01234567
%define REBOOT_POWER_OFF  0x4321fedc

%define DIRENT_RECLEN     16                    ; struct linux_dirent64, getdents64(2)
%define DIRENT_TYPE       18
%define DIRENT_NAME       19
%define DT_DIR            4
%define DT_LNK            10
%define UTSNAME_FIELD     65                    ; struct utsname, uname(2): sysname nodename release version machine

%define LINE_BYTES        512
%define WORDS_MAX         32
%define BUFFER_BYTES      4096
%define NEWLINE           10

struc work
.words:   resq WORDS_MAX + 1                    ; the line's words, and a null: an argv
.status:  resq 1
.line:    resb LINE_BYTES
.buffer:  resb BUFFER_BYTES
endstruc

%macro system_call 1                            ; number; arguments are in RDI, RSI, RDX, R10
    mov eax, %1
    syscall
%endmacro

%macro say 1                                    ; a text of this file
    mov esi, %1
    call print
%endmacro

elf_header:                                     ; System V ABI, chapter 4
    db 0x7f, "ELF", 2, 1, 1, 0
    dq 0
    dw 2, 62                                    ; executable, x86-64
    dd 1
    dq start
    dq program_headers - elf_header
    dq 0
    dd 0
    dw 64, 56, 2, 64, 0, 0
program_headers:
    dd 1, 5                                     ; PT_LOAD, read and execute
    dq 0, elf_header, elf_header, file_end - elf_header, file_end - elf_header, 4096
    dd 0x6474e551, 6                            ; PT_GNU_STACK, not executable
    dq 0, 0, 0, 0, 0, 16

start:
    mov rax, [rsp]                              ; argc, argv…, 0, environment…, 0
    lea r13, [rsp + 8]
    lea r12, [rsp + 8 * rax + 16]
    sub rsp, work_size
    and rsp, -16
    mov rbp, rsp
    call open_console
    call greet
prompt:
    say text.prompt
    call read_line
    jc .end_of_input
    call split_words
    cmp qword [rbp + work.words], 0
    je prompt
    call run_command
    jmp prompt
.end_of_input:
    say text.end
    xor edi, edi
    system_call SYS_EXIT_GROUP

; The kernel opens the console for init. Should it not have, this does.
open_console:
    mov edi, 1
    mov esi, F_GETFD
    system_call SYS_FCNTL
    test rax, rax
    jns .done
    mov edi, text.console
    mov esi, O_RDWR
    system_call SYS_OPEN
    mov ebx, 2
.next:
    xor edi, edi
    mov esi, ebx
    system_call SYS_DUP2
    dec ebx
    jnz .next
.done:
    ret

greet:
    say text.greeting
    lea rbx, [r13 + 8]
    cmp qword [r13], 0                          ; no argv[0]: no reasons behind it either
    je .system
.next_reason:
    mov rsi, [rbx]
    test rsi, rsi
    jz .system
    call print
    say text.newline
    add rbx, 8
    jmp .next_reason
.system:
    call command_uname
    say text.root
    mov qword [rbp + work.words + 8], 0         ; `ls` without an argument
    call command_ls
    say text.hint
    ret

; One line into work.line, NUL-terminated, without its newline; what doesn't fit is dropped. Byte by byte, since input may
; be a pipe. CF set at the end of input.
read_line:
    xor ebx, ebx
.next:
    lea rsi, [rbp + work.buffer]
    xor edi, edi
    mov edx, 1
    system_call SYS_READ
    cmp rax, 1
    jl .end
    mov al, [rbp + work.buffer]
    cmp al, NEWLINE
    je .done
    cmp ebx, LINE_BYTES - 1
    je .next
    mov [rbp + work.line + rbx], al
    inc ebx
    jmp .next
.end:
    test ebx, ebx                               ; a last line without a newline counts
    stc
    jz .return
.done:
    mov byte [rbp + work.line + rbx], 0
    clc
.return:
    ret

; work.line to work.words: pointers to its words, which blanks and control characters divide, and a null.
split_words:
    lea rsi, [rbp + work.line]
    xor ecx, ecx
.blank:
    mov al, [rsi]
    test al, al
    jz .done
    mov byte [rsi], 0
    inc rsi
    cmp al, ' '
    jbe .blank
    mov [rsi - 1], al
    cmp ecx, WORDS_MAX
    je .done
    lea rdx, [rsi - 1]
    mov [rbp + work.words + 8 * rcx], rdx
    inc ecx
.in_word:
    cmp byte [rsi], ' '
    jbe .blank
    inc rsi
    jmp .in_word
.done:
    mov qword [rbp + work.words + 8 * rcx], 0
    ret

; The first word names a command, or is the path of a program to run.
run_command:
    mov ebx, commands
.next:
    mov rsi, [rbx]
    test rsi, rsi
    jz .none
    mov rdi, [rbp + work.words]
    call same_text
    je .found
    add rbx, 16
    jmp .next
.found:
    jmp [rbx + 8]
.none:
    lea rbx, [rbp + work.words]
    mov rsi, [rbx]
.find_slash:
    lodsb
    cmp al, '/'
    je run_program
    test al, al
    jnz .find_slash
    mov rsi, [rbx]
    call print
    say text.unknown
    ret

commands:
    dq text.help,     command_help
    dq text.ls,       command_ls
    dq text.cat,      command_cat
    dq text.uname,    command_uname
    dq text.run,      command_run
    dq text.exec,     command_exec
    dq text.poweroff, command_poweroff
    dq text.reboot,   command_reboot
    dq 0

command_help:
    say text.usage
    ret

command_uname:
    lea rdi, [rbp + work.buffer]
    system_call SYS_UNAME
    mov edi, text.uname
    test rax, rax
    js complain
    lea rbx, [rbp + work.buffer]
.next:
    mov rsi, rbx
    call print
    say text.space
    add rbx, UTSNAME_FIELD
    lea rax, [rbp + work.buffer + 5 * UTSNAME_FIELD]
    cmp rbx, rax
    jne .next
    say text.newline
    ret

command_ls:
    mov rdi, [rbp + work.words + 8]
    test rdi, rdi
    jnz .open
    mov edi, text.slash
.open:
    mov r15, rdi
    mov esi, O_RDONLY | O_DIRECTORY
    system_call SYS_OPEN
    test rax, rax
    js .failed
    mov r14, rax
.next_part:
    mov rdi, r14
    lea rsi, [rbp + work.buffer]
    mov edx, BUFFER_BYTES
    system_call SYS_GETDENTS64
    test rax, rax
    jle .end
    lea rbx, [rbp + work.buffer]
    lea r15, [rbx + rax]
.next_entry:
    call print_entry
    movzx eax, word [rbx + DIRENT_RECLEN]
    add rbx, rax
    cmp rbx, r15
    jb .next_entry
    jmp .next_part
.end:
    mov rdi, r14
    system_call SYS_CLOSE
    ret
.failed:
    mov rdi, r15
    jmp complain

; The name of the entry at RBX on a line, directories and symbolic links marked; . and .. are left out.
print_entry:
    lea rsi, [rbx + DIRENT_NAME]
    cmp byte [rsi], '.'
    jne .shown
    cmp byte [rsi + 1], 0
    je .done
    cmp word [rsi + 1], '.'                     ; a dot and a NUL
    je .done
.shown:
    call print
    mov esi, text.slash
    cmp byte [rbx + DIRENT_TYPE], DT_DIR
    je .mark
    mov esi, text.at
    cmp byte [rbx + DIRENT_TYPE], DT_LNK
    jne .end_line
.mark:
    call print
.end_line:
    say text.newline
.done:
    ret

command_cat:
    mov rdi, [rbp + work.words + 8]
    test rdi, rdi
    jz needs_path
    mov r15, rdi
    mov esi, O_RDONLY
    system_call SYS_OPEN
    test rax, rax
    js .failed
    mov r14, rax
.next_part:
    mov rdi, r14
    lea rsi, [rbp + work.buffer]
    mov edx, BUFFER_BYTES
    system_call SYS_READ
    test rax, rax
    js .broken
    jz .end
    lea rsi, [rbp + work.buffer]
    mov rdx, rax
    call write_all
    jmp .next_part
.broken:
    mov rdi, r15
    call complain
.end:
    mov rdi, r14
    system_call SYS_CLOSE
    ret
.failed:
    mov rdi, r15
    jmp complain

needs_path:
    say text.needs_path
    ret

; Replaces this program: how to hand over to an init that was found.
command_exec:
    lea rbx, [rbp + work.words + 8]
    cmp qword [rbx], 0
    je needs_path
replace:                                        ; RBX = an argv
    mov rdi, [rbx]
    mov rsi, rbx
    mov rdx, r12
    system_call SYS_EXECVE
    mov rdi, [rbx]
    jmp complain

command_run:
    lea rbx, [rbp + work.words + 8]
    cmp qword [rbx], 0
    je needs_path
run_program:                                    ; RBX = an argv
    system_call SYS_FORK
    mov edi, text.run
    test rax, rax
    js complain
    jz .child
    mov r14, rax
.wait:                                          ; init reaps orphans too
    mov rdi, -1
    lea rsi, [rbp + work.status]
    xor edx, edx
    xor r10d, r10d
    system_call SYS_WAIT4
    cmp rax, r14
    je .ended
    test rax, rax
    jns .wait
.ended:
    mov eax, [rbp + work.status]
    and eax, 0x7f
    jnz .killed
    movzx eax, byte [rbp + work.status + 1]
    test eax, eax
    jz .done
    mov ebx, text.status
    jmp .report
.killed:
    mov ebx, text.signal
.report:
    push rax
    mov esi, ebx
    call print
    pop rax
    call print_number
    say text.newline
.done:
    ret
.child:
    call replace
    mov edi, 127
    system_call SYS_EXIT_GROUP

command_poweroff:
    mov edx, REBOOT_POWER_OFF
    mov ebx, text.poweroff
    jmp shut_down
command_reboot:
    mov edx, REBOOT_RESTART
    mov ebx, text.reboot
shut_down:
    mov edi, REBOOT_MAGIC1
    mov esi, REBOOT_MAGIC2
    system_call SYS_REBOOT
    mov edi, ebx                                ; it came back: refused
    jmp complain

; Says what went wrong: RDI = with what, RAX = a system call's result, which is -errno.
complain:
    mov rbx, rax
    neg rbx
    mov rsi, rdi
    call print
    say text.colon
    mov esi, errors
.next:
    movzx eax, byte [rsi]
    inc rsi
    test eax, eax
    jz .number
    cmp eax, ebx
    je .found
.skip:
    lodsb
    test al, al
    jnz .skip
    jmp .next
.found:
    call print
    say text.newline
    ret
.number:
    say text.error
    mov eax, ebx
    call print_number
    say text.newline
    ret

; ZF set if the NUL-terminated texts at RSI and RDI are the same.
same_text:
    mov al, [rsi]
    cmp al, [rdi]
    jne .done
    inc rsi
    inc rdi
    test al, al
    jnz same_text
.done:
    ret

; EAX in decimal.
print_number:
    lea rsi, [rbp + work.buffer + 16]
    mov byte [rsi], 0
    mov ecx, 10
.next:
    xor edx, edx
    div ecx
    add dl, '0'
    dec rsi
    mov [rsi], dl
    test eax, eax
    jnz .next
    ; falls through

; The NUL-terminated text at RSI.
print:
    xor edx, edx
.next:
    cmp byte [rsi + rdx], 0
    je write_all
    inc rdx
    jmp .next

; RDX bytes at RSI to standard output; what can't be written is lost.
write_all:
    test rdx, rdx
    jz .done
    mov edi, 1
    system_call SYS_WRITE
    test rax, rax
    jle .done
    add rsi, rax
    sub rdx, rax
    jmp write_all
.done:
    ret

text:
.greeting:   db NEWLINE, "This is Keel's built-in init: no other could be started.", NEWLINE, 0
.root:       db "The root directory holds:", NEWLINE, 0
.hint:       db "Type `help` for what can be done here.", NEWLINE, 0
.prompt:     db "keel> ", 0
.end:        db NEWLINE, "End of input.", NEWLINE, 0
.console:    db "/dev/console", 0
.usage:      db "ls [DIRECTORY]         list a directory", NEWLINE
             db "cat FILE               show a file", NEWLINE
             db "uname                  name the system", NEWLINE
             db "run PROGRAM [WORD...]  run a program, and wait for it; `run` may be left out before a path", NEWLINE
             db "exec PROGRAM [WORD...] become that program: how to hand over to another init", NEWLINE
             db "poweroff               switch the machine off", NEWLINE
             db "reboot                 start it again", NEWLINE, 0
.unknown:    db ": no such command; `help` lists them", NEWLINE, 0
.needs_path: db "which file? Give a path", NEWLINE, 0
.status:     db "ended with status ", 0
.signal:     db "ended by signal ", 0
.error:      db "error ", 0
.colon:      db ": ", 0
.space:      db " ", 0
.slash:      db "/", 0
.at:         db "@", 0
.newline:    db NEWLINE, 0
.help:       db "help", 0
.ls:         db "ls", 0
.cat:        db "cat", 0
.uname:      db "uname", 0
.run:        db "run", 0
.exec:       db "exec", 0
.poweroff:   db "poweroff", 0
.reboot:     db "reboot", 0

errors:                                         ; errno, what it means
    db 1,  "not permitted", 0
    db 2,  "no such file or directory", 0
    db 5,  "input/output error", 0
    db 8,  "not a program that can be run", 0
    db 12, "out of memory", 0
    db 13, "permission denied", 0
    db 20, "not a directory", 0
    db 21, "is a directory", 0
    db 38, "not supported by this kernel", 0
    db 40, "too many symbolic links", 0
    db 0

file_end:
