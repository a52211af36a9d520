; From the boot loader to kernel_main: the first instructions of Keel.
;
; Entered by GRUB (Multiboot2 specification 2.0, §3.3) or through the PVH note (QEMU -kernel), both in 32-bit protected
; mode, paging and interrupts off, with no stack and a GDTR that may be invalid. Leaves in 64-bit mode, paging on, on the
; boot stack in the higher half, in:
;
;   extern "C" fn kernel_main(loader_magic: u32, information: u64 /* physical */, entry_tsc: u64) -> !

%define MULTIBOOT2_HEADER_MAGIC 0xe85250d6
%define MULTIBOOT2_LOADER_MAGIC 0x36d76289
%define PVH_LOADER_MAGIC        0x336ec578      ; hvm_start_info.magic
%define KERNEL_BASE             0xffffffff80000000
%define BOOT_STACK_BYTES        32768

%define PAGE_PRESENT            1 << 0
%define PAGE_WRITABLE           1 << 1
%define PAGE_LARGE              1 << 7

%define CR0_PG                  1 << 31
%define CR0_WP                  1 << 16
%define CR4_PAE                 1 << 5
%define MSR_EFER                0xc0000080
%define EFER_LME                1 << 8

section .multiboot2 align=8
header:
    dd MULTIBOOT2_HEADER_MAGIC
    dd 0                                        ; architecture: i386, protected mode
    dd header.end - header
    dd -(MULTIBOOT2_HEADER_MAGIC + 0 + (header.end - header))
align 8
    dw 5, 1                                     ; framebuffer, optional: take what comes
    dd 20
    dd 0, 0, 0
align 8
    dw 6, 0                                     ; modules start on page boundaries
    dd 8
align 8
    dw 0, 0                                     ; end of tags
    dd 8
.end:

section .note.pvh note alloc align=4
    dd 4, 4, 18                                 ; name size, descriptor size, XEN_ELFNOTE_PHYS32_ENTRY
    db "Xen", 0
    dd pvh_start

section .boot.text progbits alloc exec write align=16
bits 32

global boot_start
boot_start:
    mov edi, eax                                ; the loader's magic, then its information
    mov esi, ebx
    jmp start_common
pvh_start:
    mov edi, PVH_LOADER_MAGIC
    mov esi, ebx
start_common:
    cli
    cld
    rdtsc
    mov [entry_tsc], eax
    mov [entry_tsc + 4], edx
    lgdt [gdt_pointer]
    mov ax, gdt.data - gdt
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov esp, early_stack_top
    jmp (gdt.code32 - gdt):.own_segments
.own_segments:
    call build_page_tables
    call enter_long_mode
    jmp (gdt.code64 - gdt):in_long_mode

; One page directory maps the first GiB; it is reached from three places: identity (these instructions), the direct map at
; 0xffff_8000_0000_0000, and the kernel's link address at -2 GiB. src/memory replaces all three.
build_page_tables:
    mov eax, boot_pdpt_low + (PAGE_PRESENT | PAGE_WRITABLE)
    mov [boot_pml4], eax
    mov [boot_pml4 + 256 * 8], eax
    mov dword [boot_pml4 + 511 * 8], boot_pdpt_high + (PAGE_PRESENT | PAGE_WRITABLE)
    mov eax, boot_pd + (PAGE_PRESENT | PAGE_WRITABLE)
    mov [boot_pdpt_low], eax
    mov [boot_pdpt_high + 510 * 8], eax
    mov eax, PAGE_PRESENT | PAGE_WRITABLE | PAGE_LARGE
    xor ecx, ecx
.next:
    mov [boot_pd + ecx * 8], eax
    add eax, 1 << 21
    inc ecx
    cmp ecx, 512
    jne .next
    ret

enter_long_mode:
    mov eax, boot_pml4
    mov cr3, eax
    mov eax, cr4
    or eax, CR4_PAE
    mov cr4, eax
    mov ecx, MSR_EFER
    rdmsr
    or eax, EFER_LME
    wrmsr
    mov eax, cr0
    or eax, CR0_PG | CR0_WP
    mov cr0, eax
    ret

bits 64
in_long_mode:
    mov edi, edi                                ; arguments: zero-extended
    mov esi, esi
    mov rdx, [entry_tsc]
    xor eax, eax
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov fs, ax
    mov gs, ax
    mov rax, in_higher_half
    jmp rax

section .boot.rodata progbits alloc noexec nowrite align=8
gdt:
    dq 0
.code64: dq 0x00af9a000000ffff
.code32: dq 0x00cf9a000000ffff
.data:   dq 0x00cf92000000ffff
.end:
gdt_pointer:
    dw gdt.end - gdt - 1
    dd gdt

section .boot.bss nobits alloc write align=4096
boot_pml4:      resb 4096
boot_pdpt_low:  resb 4096
boot_pdpt_high: resb 4096
boot_pd:        resb 4096
entry_tsc:      resq 1
early_stack:    resb 1024
early_stack_top:

section .text
extern kernel_main
in_higher_half:
    mov rsp, boot_stack_top
    xor ebp, ebp                                ; the backtrace ends here
    call kernel_main
.halt:
    cli
    hlt
    jmp .halt

section .bss nobits alloc write align=16
global boot_stack_bottom, boot_stack_top
boot_stack_bottom: resb BOOT_STACK_BYTES
boot_stack_top:
