; Access to user memory: the only code in Keel that follows a program's pointers.
;
; Called from src/memory/user_access.rs, which has checked that the range lies in user space. Any of these accesses may
; fault. The page-fault handler makes the page present if it can, and the access is repeated; else it looks for the
; faulting instruction in user_access_table and goes on at the recovery address there, with the registers as they were: so a
; copy knows how far it came, to the byte.
;
; All follow the System V ABI (rdi, rsi, rdx in; rax, rdx out), use no stack but for the return address, and clobber only
; rax, rcx, rdx, rsi, rdi, r8 to r11.
;
; With SMAP (SDM 3A §4.6) the processor refuses the kernel access to user pages while EFLAGS.AC is clear. ALLOW and FORBID
; mark the places where AC changes; they are no-operations until user_access::allow_access_where_smap_forbids makes them
; STAC and CLAC, because those are invalid opcodes on processors without SMAP.

%macro ALLOW 0
%%site:
    db 0x0f, 0x1f, 0x00                         ; nop dword [rax]: as long as stac
    section .rodata.user_access_allow
    dq %%site
    section .text
%endmacro

%macro FORBID 0
%%site:
    db 0x0f, 0x1f, 0x00                         ; as long as clac
    section .rodata.user_access_forbid
    dq %%site
    section .text
%endmacro

; RECOVER first, recovery: a fault at `first` goes on at `recovery`.
%macro RECOVER 2
    section .rodata.user_access_table
    dq %1, %2
    section .text
%endmacro

section .rodata.user_access_allow progbits alloc noexec nowrite align=8
global user_access_allow_start
user_access_allow_start:
section .rodata.user_access_forbid progbits alloc noexec nowrite align=8
global user_access_forbid_start
user_access_forbid_start:
section .rodata.user_access_table progbits alloc noexec nowrite align=8
global user_access_table_start
user_access_table_start:

section .text

; u64 user_copy(u8 *to, const u8 *from, u64 count): copies; returns how many bytes were not copied.
; Either side may be the user's. Words first; a fault among them is narrowed down byte by byte.
global user_copy
user_copy:
    mov rcx, rdx
    ALLOW
    shr rcx, 3
    and edx, 7
.words:
    rep movsq
    mov ecx, edx
.bytes:
    rep movsb
.end:
    mov rax, rcx
    FORBID
    ret
.words_fault:                                   ; rcx words and edx bytes are left
    lea rcx, [rdx + rcx * 8]
    jmp .bytes
    RECOVER .words, .words_fault
    RECOVER .bytes, .end

; u64 user_copy_words(u64 *to, const u64 *from, u64 count): copies; returns how many words were not copied. For whoever has no use
; for a part: of a word that reaches into a bad page, not even the good bytes are copied.
global user_copy_words
user_copy_words:
    mov rcx, rdx
    ALLOW
.words:
    rep movsq
.end:
    mov rax, rcx
    FORBID
    ret
    RECOVER .words, .end

; (u64 value, u64 failed) user_get_N(const uN *from)
%macro GET 2                                    ; bits, load instruction
global user_get_%1
user_get_%1:
    xor edx, edx
    ALLOW
.access:
    %2
    FORBID
    ret
.fault:
    FORBID
    xor eax, eax
    inc edx
    ret
    RECOVER .access, .fault
%endmacro

GET 8,  {movzx eax, byte [rdi]}
GET 16, {movzx eax, word [rdi]}
GET 32, {mov eax, [rdi]}
GET 64, {mov rax, [rdi]}

; u64 failed user_put_N(uN *to, u64 value)
%macro PUT 2                                    ; bits, source register
global user_put_%1
user_put_%1:
    xor eax, eax
    ALLOW
.access:
    mov [rdi], %2
    FORBID
    ret
.fault:
    FORBID
    inc eax
    ret
    RECOVER .access, .fault
%endmacro

PUT 8,  sil
PUT 16, si
PUT 32, esi
PUT 64, rsi

; (u64 old, u64 failed) user_compare_exchange_32(u32 *at, u32 expected, u32 new): atomic; `old` equals `expected` if it was done.
global user_compare_exchange_32
user_compare_exchange_32:
    mov eax, esi
    mov ecx, edx
    xor edx, edx
    ALLOW
.access:
    lock cmpxchg [rdi], ecx
    FORBID
    ret
.fault:
    FORBID
    inc edx
    ret
    RECOVER .access, .fault

; (u64 length, u64 status) user_copy_string(u8 *to, const u8 *from, u64 limit)
;
; Copies up to and including a NUL. status: 0 there was one (`length` doesn't count it), 1 fault, 2 none in `limit` bytes.
; Eight bytes at a time, by the well-known test for a zero byte: (x - 0x01…) & ~x & 0x80…; the last ones, and what lies before a
; bad page, singly.
global user_copy_string
user_copy_string:
    mov r8, rdi                                 ; where it began
    mov r10, 0x0101010101010101
    mov r11, 0x8080808080808080
    ALLOW
.word:
    cmp rdx, 8
    jb .byte
.load_word:
    mov rax, [rsi]
    mov rcx, rax
    mov r9, rax
    sub rcx, r10
    not r9
    and rcx, r11
    and rcx, r9
    mov [rdi], rax
    jnz .found_in_word
    add rsi, 8
    add rdi, 8
    sub rdx, 8
    jmp .word
.byte:
    test rdx, rdx
    jz .limit
.load_byte:
    mov al, [rsi]
    mov [rdi], al
    test al, al
    jz .found
    inc rsi
    inc rdi
    dec rdx
    jmp .byte
.found_in_word:                                 ; the lowest set bit is the first zero byte's
    bsf rcx, rcx
    shr ecx, 3
    add rdi, rcx
.found:
    xor edx, edx
    jmp .end
.fault:
    mov edx, 1
    jmp .end
.limit:
    mov edx, 2
.end:
    FORBID
    mov rax, rdi
    sub rax, r8
    ret
    RECOVER .load_word, .byte
    RECOVER .load_byte, .fault

; (u64 length, u64 status) user_string_length(const u8 *from, u64 limit): as user_copy_string, without the copy.
;
; Two words at a time while x - 0x01… sets no byte's highest bit: then no byte is zero, nor above 0x80. From the first pair
; that has one on, it is a word at a time by the whole test.
global user_string_length
user_string_length:
    mov r8, rdi
    mov r10, -0x0101010101010101
    mov r11, 0x8080808080808080
    ALLOW
    sub rsi, 16                         ; counts what is left behind the next pair: one subtraction tells both ends
    jb .pairs_done
.load_first:
    mov rax, [rdi]
.load_second:
    mov rcx, [rdi + 8]
    add rax, r10
    add rcx, r10
    or rax, rcx
    test rax, r11
    jnz .pairs_done
    add rdi, 16
    sub rsi, 16
    jae .load_first
.pairs_done:
    add rsi, 16 - 8                     ; the same for words
    js .words_done
.load_word:
    mov rax, [rdi]
    lea rcx, [rax + r10]
    not rax
    and rcx, rax
    and rcx, r11
    jnz .found_in_word
    add rdi, 8
    sub rsi, 8
    jae .load_word
.words_done:
    add rsi, 8
.byte:
    test rsi, rsi
    jz .limit
.load_byte:
    cmp byte [rdi], 0
    je .found
    inc rdi
    dec rsi
    jmp .byte
.found_in_word:
    bsf rcx, rcx
    shr ecx, 3
    add rdi, rcx
.found:
    xor edx, edx
    jmp .end
.fault:
    mov edx, 1
    jmp .end
.limit:
    mov edx, 2
.end:
    FORBID
    mov rax, rdi
    sub rax, r8
    ret
    RECOVER .load_first, .pairs_done
    RECOVER .load_second, .pairs_done
    RECOVER .load_word, .words_done
    RECOVER .load_byte, .fault

section .rodata.user_access_allow
global user_access_allow_end
user_access_allow_end:
section .rodata.user_access_forbid
global user_access_forbid_end
user_access_forbid_end:
section .rodata.user_access_table
global user_access_table_end
user_access_table_end:
