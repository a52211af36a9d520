; The vDSO: the clocks, read in user mode, without entering the kernel.
;
; A shared object of one page, which NASM writes whole (`-f bin`) and src/exec/vdso.rs maps into every program, read and execute.
; AT_SYSINFO_EHDR tells a libc where; it looks up the names below, of version LINUX_2.6, as in Linux's own (vdso(7)). The page
; before it is [vvar], which the kernel writes and programs may only read: src/interrupts/time_page.rs says what is in it.
;
; The time is (TSC - time_page.tsc_at_start) * time_page.scale / 2^64 seconds, just as in src/interrupts/clock.rs. Whatever is
; not plain is left to the system call: other clocks, a time zone, a clock that isn't the TSC, and a change while we read.
;
; Functions follow the System V ABI and clobber RAX, RCX, RDX, R8 and R11.

bits 64
default rel
org 0

%define SYS_GETTIMEOFDAY  96
%define SYS_TIME          201
%define SYS_CLOCK_GETTIME 228

%define CLOCK_MONOTONIC   1

%define NS_PER_SECOND     1000000000
%define NS_PER_US         1000

struc time_page                                 ; TimePage in src/interrupts/time_page.rs
.begun:        resq 1                           ; changes begun and changes ended: the rest is true while they are equal
.ended:        resq 1
.tsc_at_start: resq 1
.scale:        resq 1
.wall_seconds: resq 1                           ; the time of day at time 0: whole seconds since 1970,
.wall_ns:      resq 1                           ; and the nanoseconds past them
endstruc

%define PAGE              4096
%define TIME_PAGE         elf_header - PAGE

elf_header:                                     ; System V ABI, chapter 4
    db 0x7f, "ELF", 2, 1, 1, 0
    dq 0
    dw 3, 62                                    ; shared object, x86-64
    dd 1
    dq 0
    dq program_headers
    dq 0
    dd 0
    dw 64, 56, 2, 64, 0, 0
program_headers:
    dd 1, 5                                     ; PT_LOAD, read and execute
    dq 0, 0, 0, file_end, file_end, PAGE
    dd 2, 4                                     ; PT_DYNAMIC
    dq dynamic, dynamic, dynamic, dynamic_end - dynamic, dynamic_end - dynamic, 8

dynamic:                                        ; tag, value (chapter 5)
    dq 14, names.object - names                 ; DT_SONAME
    dq 4, hash                                  ; DT_HASH
    dq 5, names                                 ; DT_STRTAB
    dq 6, symbols                               ; DT_SYMTAB
    dq 10, names_end - names                    ; DT_STRSZ
    dq 11, 24                                   ; DT_SYMENT
    dq 0x6ffffff0, versions_of_symbols          ; DT_VERSYM
    dq 0x6ffffffc, versions                     ; DT_VERDEF
    dq 0x6ffffffd, 2                            ; DT_VERDEFNUM
    dq 0, 0
dynamic_end:

%macro symbol 2                                 ; name, routine: a global function of the first section
    dd names.%1 - names
    db 0x12, 0
    dw 1
    dq %2, %2.end - %2
%endmacro

symbols:
    dq 0, 0, 0
    symbol clock_gettime, clock_gettime
    symbol gettimeofday, gettimeofday
    symbol time, time
SYMBOLS equ ($ - symbols) / 24

hash:                                           ; one bucket, with a chain through all symbols: they are few
    dd 1, SYMBOLS
    dd 1
    dd 0, 2, 3, 0

versions_of_symbols:
    dw 0, 2, 2, 2

align 8, db 0
versions:                                       ; the object's own name, then LINUX_2.6 with its hash
    dw 1, 1, 1, 1
    dd 0, 20, 28
    dd names.object - names, 0
    dw 1, 0, 2, 1
    dd 0x3ae75f6, 20, 0
    dd names.version - names, 0

names:
    db 0
.object:        db "linux-vdso.so.1", 0
.version:       db "LINUX_2.6", 0
.clock_gettime: db "__vdso_clock_gettime", 0
.gettimeofday:  db "__vdso_gettimeofday", 0
.time:          db "__vdso_time", 0
names_end:

; RDX = the seconds since time 0, RAX = the rest of one in 2^-64; R8 is for `stop_reading`.
; LFENCE keeps RDTSC from running ahead of what was asked before it (SDM 2B, RDTSC).
%macro read_clock 0
    mov r8, [TIME_PAGE + time_page.ended]
    lfence
    rdtsc
    shl rdx, 32
    or rax, rdx
    sub rax, [TIME_PAGE + time_page.tsc_at_start]
    mul qword [TIME_PAGE + time_page.scale]
%endmacro

; Goes to `ask` if the page changed since `read_clock`, or doesn't tell the time.
%macro stop_reading 1                           ; ask
    cmp r8, [TIME_PAGE + time_page.begun]
    jne %1
%endmacro

; RCX = the seconds of the time of day, RDX = its nanoseconds below one. Goes to `ask` where only the kernel can tell.
%macro read_time_of_day 1                       ; ask
    read_clock
    mov rcx, rdx
    mul qword [ns_per_second]
    add rcx, [TIME_PAGE + time_page.wall_seconds]
    add rdx, [TIME_PAGE + time_page.wall_ns]
    stop_reading %1
    cmp rdx, NS_PER_SECOND
    jb %%below_a_second
    sub rdx, NS_PER_SECOND
    inc rcx
%%below_a_second:
%endmacro

ns_per_second: dq NS_PER_SECOND

align 16, db 0xcc
; int clock_gettime(clockid_t clock, struct timespec *time)
clock_gettime:
    cmp edi, CLOCK_MONOTONIC
    jne .not_monotonic
    read_clock
    stop_reading .ask
    mov [rsi], rdx
    mul qword [ns_per_second]
    mov [rsi + 8], rdx
    xor eax, eax
    ret
.not_monotonic:
    test edi, edi                               ; CLOCK_REALTIME is 0
    jnz .ask
    read_time_of_day .ask
    mov [rsi], rcx
    mov [rsi + 8], rdx
    xor eax, eax
    ret
.ask:
    mov eax, SYS_CLOCK_GETTIME
    syscall
    ret
.end:

align 16, db 0xcc
; int gettimeofday(struct timeval *time, struct timezone *zone)
gettimeofday:
    test rdi, rdi
    jz .ask
    test rsi, rsi
    jnz .ask
    read_time_of_day .ask
    mov [rdi], rcx
    mov eax, edx
    xor edx, edx
    mov ecx, NS_PER_US
    div ecx
    mov [rdi + 8], rax
    xor eax, eax
    ret
.ask:
    mov eax, SYS_GETTIMEOFDAY
    syscall
    ret
.end:

align 16, db 0xcc
; time_t time(time_t *time)
time:
    read_time_of_day .ask
    mov rax, rcx
    test rdi, rdi
    jz .done
    mov [rdi], rax
.done:
    ret
.ask:
    mov eax, SYS_TIME
    syscall
    ret
.end:

file_end:
