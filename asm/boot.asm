; From the boot loader to kernel_main: the first instructions of Keel. Read from top to bottom; this is the order in which
; they run.
;
; Called from   GRUB, at boot_start (Multiboot2 specification 2.0, §3.3), or QEMU's -kernel, at pvh_start (Xen's
;               docs/misc/pvh.pandoc, "Initial machine state").
; On entry      32-bit protected mode, flat segments, paging and interrupts off. EAX = the Multiboot2 loader's magic number,
;               EBX = physical address of the loader's information. No stack; GDTR may point anywhere, so no segment
;               register is loaded before our own GDT is. A20 is on: both specifications say so, and with A20 off
;               nothing could have been loaded here, at 1 MiB.
; On exit       64-bit mode, paging on, interrupts off, all segment registers but CS null, NX enabled where the CPU has it, on
;               the boot stack in the higher half, in
;                 extern "C" fn kernel_main(loader_magic: u32, information: u64 /* physical */, entry_tsc: u64) -> !
; Clobbers      everything: nobody is returned to. EDI and ESI carry the two arguments all the way.
; Manual        Intel SDM 3A §10.8.5 "Initializing IA-32e Mode" (§9.8.5 in older editions), §4.5 for the page tables.
;
; Each stage shows its letter at the top left of a text screen and on COM1, so that a machine that stops here says how far it
; came:  B entered, with segments and a stack   C loader and CPU will do   P page tables built
;        L in 64-bit mode   H in the higher half, about to call kernel_main

default abs

%define MULTIBOOT2_HEADER_MAGIC 0xe85250d6
%define MULTIBOOT2_LOADER_MAGIC 0x36d76289
%define PVH_LOADER_MAGIC        0x336ec578      ; hvm_start_info.magic, as src/boot/pvh.rs has it

%define BOOT_STACK_BYTES        131072          ; ample: the memory map's scratch lists take 20 KiB of it
%define DIRECT_MAP_SLOT         256             ; 0xffff_8000_0000_0000 in a PML4
%define KERNEL_SLOT             511             ; -2 GiB: its PML4 entry …
%define KERNEL_SLOT_PDPT        510             ; … and its PDPT entry
%define MAPPED_GIB              4               ; loaders put their information anywhere below 4 GiB

%define PAGE_PRESENT            1 << 0
%define PAGE_WRITABLE           1 << 1
%define PAGE_LARGE              1 << 7

%define CR0_WP                  1 << 16
%define CR0_PG                  1 << 31
%define CR4_PAE                 1 << 5
%define MSR_EFER                0xc0000080
%define EFER_LME                1 << 8
%define EFER_NXE                1 << 11

%define EFLAGS_ID               1 << 21
%define CPUID_1_EDX_TSC         1 << 4
; What every x86-64 CPU has, and nothing here does without: MSRs, PAE, FXSAVE, SSE2.
%define CPUID_1_EDX_FLOOR       (1 << 5) | (1 << 6) | (1 << 24) | (1 << 26)
%define CPUID_EXTENDED_EDX_NX   1 << 20
%define CPUID_EXTENDED_EDX_LM   1 << 29

%define TEXT_SCREEN             0xb8000
%define TEXT_ROW_BYTES          160
%define STAGE_COLOR             0x2f            ; white on green
%define REFUSAL_COLOR           0x4f            ; white on red
%define COM1                    0x3f8
%define UART_WAIT_TURNS         100000          ; far more than a byte takes at 115,200 baud; then it is written off

; Multiboot2 header (§3.1): 8-aligned, within the first 32 KiB of the file. linker.ld puts it first.
section .multiboot2 align=8
header:
    dd MULTIBOOT2_HEADER_MAGIC
    dd 0                                        ; architecture: i386, protected mode
    dd header.end - header
    dd -(MULTIBOOT2_HEADER_MAGIC + 0 + (header.end - header))
align 8
    dw 5, 1                                     ; framebuffer, optional: take what comes
    dd 20
    dd 0, 0, 0                                  ; any width, height and depth
align 8
    dw 6, 0                                     ; modules start on page boundaries
    dd 8
align 8
    dw 0, 0                                     ; end of tags
    dd 8
.end:

; The PVH note: its presence makes the same file a kernel for `qemu -kernel`.
section .note.pvh note alloc align=4
    dd 4, 4, 18                                 ; name size, descriptor size, XEN_ELFNOTE_PHYS32_ENTRY
    db "Xen", 0
    dd pvh_start

; Shows that a stage is reached. Assembles in 32- and 64-bit code alike. %1 letter, %2 column. Clobbers EAX, ECX, EDX.
%macro stage 2
    mov word [TEXT_SCREEN + 2 * %2], (STAGE_COLOR << 8) | %1
    mov al, %1
    serial_byte
%endmacro

; Sends AL to COM1. Without a UART the port reads as 0xff: ready, and the byte goes nowhere. Clobbers EAX, ECX, EDX.
%macro serial_byte 0
    mov ah, al
    mov ecx, UART_WAIT_TURNS
    mov edx, COM1 + 5                           ; line status
%%wait:
    in al, dx
    test al, 1 << 5                             ; transmitter holding register empty
    loopz %%wait
    mov al, ah
    mov edx, COM1
    out dx, al
%endmacro

section .boot.text progbits alloc exec write align=16
bits 32

global boot_start
boot_start:
    mov edi, eax                                ; whatever loader it is, by its magic number
    jmp start
pvh_start:
    mov edi, PVH_LOADER_MAGIC                   ; PVH passes none
start:
    cli
    cld
    mov esi, ebx
    lgdt [gdt_pointer]
    mov eax, gdt.data - gdt
    mov ds, eax
    mov es, eax
    mov ss, eax
    mov esp, early_stack_top
    jmp (gdt.code32 - gdt):.own_segments
.own_segments:
    call keep_entry_time
    call set_up_serial_port
    stage 'B', 0
    call check_loader
    call check_cpu
    stage 'C', 1
    call build_page_tables
    stage 'P', 2
    call enable_paging
    jmp (gdt.code64 - gdt):in_long_mode

; The time stamp counter, where there is one, before anything slow is done: the origin of all boot times.
keep_entry_time:
    call has_cpuid
    jz .none
    mov eax, 1
    cpuid
    test edx, CPUID_1_EDX_TSC
    jz .none
    rdtsc
    mov [entry_tsc], eax
    mov [entry_tsc + 4], edx
.none:
    ret

; ZF set where there is no CPUID: EFLAGS.ID can't be changed there (SDM 1 §20.1). Clobbers EAX, ECX.
has_cpuid:
    pushfd
    pop eax
    mov ecx, eax
    xor eax, EFLAGS_ID
    push eax
    popfd
    pushfd
    pop eax
    push ecx
    popfd
    xor eax, ecx
    test eax, EFLAGS_ID
    ret

; COM1 to 115,200 baud, 8 data bits, no parity, no interrupts, FIFOs on. Harmless where there is no UART.
set_up_serial_port:
    mov ebx, .settings
.next:
    movzx edx, byte [ebx]
    add edx, COM1
    mov al, [ebx + 1]
    out dx, al
    add ebx, 2
    cmp ebx, .settings_end
    jne .next
    ret
.settings:                                      ; register, value
    db 1, 0x00                                  ; interrupts off
    db 3, 0x80                                  ; the divisor's turn
    db 0, 1                                     ; divisor, low …
    db 1, 0                                     ; … and high
    db 3, 0x03                                  ; 8 bits, no parity, one stop bit
    db 2, 0x07                                  ; FIFOs on and empty
    db 4, 0x03                                  ; DTR, RTS
.settings_end:

check_loader:
    mov ebx, text.loader
    cmp edi, MULTIBOOT2_LOADER_MAGIC
    je .known
    cmp edi, PVH_LOADER_MAGIC
    jne refuse
.known:
    ret

; Returns only if the CPU can run Keel. Leaves EFER's value to be in `efer`: NX is asked for only where it exists, since on
; early EM64T chips setting it is a #GP.
check_cpu:
    call has_cpuid
    mov ebx, text.long_mode
    jz refuse
    mov eax, 1
    cpuid
    and edx, CPUID_1_EDX_FLOOR
    cmp edx, CPUID_1_EDX_FLOOR
    mov ebx, text.floor
    jne refuse
    mov eax, 0x80000000
    cpuid
    mov ebx, text.long_mode
    cmp eax, 0x80000001
    jb refuse
    mov eax, 0x80000001
    cpuid
    mov ebx, text.long_mode
    test edx, CPUID_EXTENDED_EDX_LM
    jz refuse
    mov dword [efer], EFER_LME
    test edx, CPUID_EXTENDED_EDX_NX
    jz .done
    or dword [efer], EFER_NXE
.done:
    ret

; The first 4 GiB in 2 MiB pages, reached from three places: identity (these instructions), the direct map, and, for
; the first GiB, the kernel's link address at -2 GiB. src/memory replaces all three. The tables are in .boot.bss, so the
; entries not written here are zero: not present.
build_page_tables:
    mov eax, boot_pdpt_low + (PAGE_PRESENT | PAGE_WRITABLE)
    mov [boot_pml4], eax
    mov [boot_pml4 + DIRECT_MAP_SLOT * 8], eax
    mov dword [boot_pml4 + KERNEL_SLOT * 8], boot_pdpt_high + (PAGE_PRESENT | PAGE_WRITABLE)
    mov eax, boot_page_directories + (PAGE_PRESENT | PAGE_WRITABLE)
    mov [boot_pdpt_high + KERNEL_SLOT_PDPT * 8], eax
    xor ecx, ecx
.next_directory:
    mov [boot_pdpt_low + ecx * 8], eax
    add eax, 4096
    inc ecx
    cmp ecx, MAPPED_GIB
    jne .next_directory
    mov eax, PAGE_PRESENT | PAGE_WRITABLE | PAGE_LARGE
    xor ecx, ecx
.next_page:
    mov [boot_page_directories + ecx * 8], eax
    add eax, 1 << 21
    inc ecx
    cmp ecx, MAPPED_GIB * 512
    jne .next_page
    ret

; SDM 3A §10.8.5, in its order: PAE, then CR3, then EFER.LME, then paging, which makes it 64-bit mode (here still its
; compatibility part, until CS is loaded). CR0.WP: read-only pages hold for the kernel too.
enable_paging:
    mov eax, CR4_PAE
    mov cr4, eax
    mov eax, boot_pml4
    mov cr3, eax
    mov ecx, MSR_EFER
    rdmsr
    or eax, [efer]
    wrmsr
    mov eax, cr0
    or eax, CR0_PG | CR0_WP
    mov cr0, eax
    ret

; Shows the text at EBX in the screen's second row and, on a line of its own, on COM1; then stops for good.
refuse:
    mov al, 10
    serial_byte
    mov ebp, TEXT_SCREEN + TEXT_ROW_BYTES
.next:
    mov al, [ebx]
    test al, al
    jz .halt
    mov [ebp], al
    mov byte [ebp + 1], REFUSAL_COLOR
    serial_byte
    inc ebx
    add ebp, 2
    jmp .next
.halt:
    mov al, 10
    serial_byte
.stopped:
    hlt
    jmp .stopped

bits 64
in_long_mode:
    stage 'L', 3
    mov edi, edi                                ; the arguments, zero-extended: the upper halves are undefined after
    mov esi, esi                                ; the change of mode
    xor eax, eax
    mov ds, eax
    mov es, eax
    mov ss, eax
    mov fs, eax
    mov gs, eax
    mov rax, in_higher_half
    jmp rax

section .boot.rodata progbits alloc noexec nowrite align=8
gdt:                                            ; SDM 3A §3.4.5: flat, ring 0, accessed
    dq 0
.code64: dq 0x00af9b000000ffff
.code32: dq 0x00cf9b000000ffff
.data:   dq 0x00cf93000000ffff
.end:
gdt_pointer:
    dw gdt.end - gdt - 1
    dd gdt

text:
.loader:    db "Keel: started by a loader that speaks neither Multiboot2 nor PVH. Use GRUB 2's `multiboot2`.", 0
.long_mode: db "Keel: this processor has no 64-bit mode. An x86-64 processor is needed.", 0
.floor:     db "Keel: this processor lacks MSRs, PAE, FXSAVE or SSE2. An x86-64 processor is needed.", 0

section .boot.bss nobits alloc write align=4096
boot_pml4:              resb 4096
boot_pdpt_low:          resb 4096
boot_pdpt_high:         resb 4096
boot_page_directories:  resb MAPPED_GIB * 4096
entry_tsc:              resq 1
efer:                   resd 1
early_stack:            resb 1024
early_stack_top:

section .text
extern kernel_main
in_higher_half:
    mov rsp, boot_stack_top
    stage 'H', 4
    mov al, 10
    serial_byte
    mov rdx, [entry_tsc]
    xor ebp, ebp                                ; a backtrace ends here
    call kernel_main                            ; doesn't return

section .bss nobits alloc write align=4096
global boot_stack_guard
boot_stack_guard:   resb 4096                   ; src/memory leaves it unmapped, so that an overflow faults
boot_stack_bottom:  resb BOOT_STACK_BYTES
boot_stack_top:
