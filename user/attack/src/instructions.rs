//! What a program can do without a system call: far jumps, software interrupts, instructions of the kernel's. Whatever it
//! tries, it is killed, or it goes on as a program of its own kind.

use conformance::support::*;
use conformance::{case, sys};

/// Below 4 GiB, where code of 32 bits could run, too.
const PLACE: usize = 0x1000_0000;

/// Runs these instructions, then one that is none, in a child; its end.
fn end_of(code: &[u8]) -> String {
    in_child(|| {
        let protection = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
        let page = sys!(mmap(PLACE as *mut _, 8192, protection, flags, -1, 0)).cast::<u8>();
        if page as usize != PLACE {
            return 3;
        }
        // SAFETY: the code is shorter than the page; what it does to this process is the case's question. The stack is
        // in reach of 32-bit code.
        unsafe {
            page.copy_from_nonoverlapping(code.as_ptr(), code.len());
            page.wrapping_add(code.len()).cast::<u16>().write_unaligned(0x0b0f);
            std::arch::asm!(
                "mov rsp, {stack}", "jmp {code}",
                stack = in(reg) PLACE + 8192 - 64, code = in(reg) PLACE,
                in("eax") libc::SYS_getpid as u32, in("ecx") 0x10, in("edx") 0x10, options(noreturn)
            )
        }
    })
}

/// Whether each of these ends as it should: killed. If not, which.
fn all_are_killed(codes: impl IntoIterator<Item = Vec<u8>>) -> String {
    const RIGHT: [&str; 4] = ["SIGSEGV", "SIGILL", "SIGBUS", "SIGTRAP"];
    let mut count = 0;
    for code in codes {
        let ended = end_of(&code);
        if !RIGHT.iter().any(|signal| ended.ends_with(signal)) {
            return format!("{code:02x?}: {ended}");
        }
        count += 1;
    }
    format!("{count} were killed")
}

/// A far jump to the code behind it, with this selector. (A far return would do, but QEMU takes its stack for the kernel's,
/// and repeats it for ever where there is SMAP.)
fn far_jump(selector: u8, behind: &[u8]) -> Vec<u8> {
    let mut code = vec![0x68]; // push the address
    code.extend((PLACE as u32 + 16).to_le_bytes());
    code.extend([0xc7, 0x44, 0x24, 0x04, selector, 0, 0, 0]); // mov dword [rsp + 4], selector
    code.extend([0xff, 0x2c, 0x24]); // jmp far [rsp]
    code.extend(behind);
    code
}

/// Instructions that only the kernel may execute, or that are about what a program has not.
const KERNELS_OWN: &[&[u8]] = &[
    b"\xf4",                                                 // hlt
    b"\xfa",                                                 // cli
    b"\xfb",                                                 // sti
    b"\xe4\x60",                                             // in al, 0x60
    b"\xe6\x64",                                             // out 0x64, al
    b"\xec",                                                 // in al, dx
    b"\xef",                                                 // out dx, eax
    b"\x6c",                                                 // insb
    b"\x6f",                                                 // outsd
    b"\x0f\x06",                                             // clts
    b"\x0f\x08",                                             // invd
    b"\x0f\x09",                                             // wbinvd
    b"\x0f\x30",                                             // wrmsr
    b"\x0f\x32",                                             // rdmsr
    b"\x0f\x07",                                             // sysret
    b"\x48\x0f\x07",                                         // sysret to 64 bits
    b"\x0f\x34",                                             // sysenter
    b"\x0f\x35",                                             // sysexit
    b"\x0f\xaa",                                             // rsm
    b"\x0f\x20\xc0",                                         // mov rax, cr0
    b"\x0f\x22\xc0",                                         // mov cr0, rax
    b"\x0f\x22\xd8",                                         // mov cr3, rax
    b"\x0f\x22\xe0",                                         // mov cr4, rax
    b"\x44\x0f\x22\xc0",                                     // mov cr8, rax
    b"\x0f\x21\xf8",                                         // mov rax, dr7
    b"\x0f\x23\xf8",                                         // mov dr7, rax
    b"\x0f\x01\x14\x24",                                     // lgdt [rsp]
    b"\x0f\x01\x1c\x24",                                     // lidt [rsp]
    b"\x0f\x00\xd0",                                         // lldt ax
    b"\x0f\x00\xd8",                                         // ltr ax
    b"\x0f\x01\xf0",                                         // lmsw ax
    b"\x0f\x01\x3c\x24",                                     // invlpg [rsp]
    b"\x0f\x01\xf8",                                         // swapgs
    b"\x0f\x01\xca",                                         // clac
    b"\x0f\x01\xcb",                                         // stac
    b"\x0f\x01\xd1",                                         // xsetbv
    b"\x0f\x01\xc8",                                         // monitor
    b"\x0f\x01\xc9",                                         // mwait
    b"\x0f\x01\xc1",                                         // vmcall
    b"\x0f\x01\xd8",                                         // vmrun
    b"\xf3\x48\x0f\xae\xd8",                                 // wrgsbase rax
    b"\x31\xc0\x8e\xd0",                                     // mov ss, 0
    b"\x66\xb8\x08\x00\x8e\xd8",                             // mov ds, the kernel's code
    b"\x66\xb8\x10\x00\x8e\xe8",                             // mov gs, the kernel's data
    b"\x66\xb8\x30\x00\x8e\xe0",                             // mov fs, the task's state
    b"\x48\xb8\x00\x00\x00\x00\x00\x80\x00\x00\xff\xe0",     // jmp to where no address is
    b"\x48\xbc\x00\x00\x00\x00\x00\x80\x00\x00\x50",         // push, the stack being where no address is
    b"\x48\xbc\x00\x00\x00\x00\x00\x80\xff\xff\x0f\x0b",     // ud2 on the kernel's stack
    b"\x48\xbc\x00\x00\x00\x00\x00\x80\xff\xff\x0f\x05\xc3", // syscall on the kernel's stack, then ret
    b"\x9c\x80\x4c\x24\x01\x01\x9d\x0f\x05",                 // syscall in single steps
    b"\x9c\x80\x4c\x24\x01\x01\x9d\xcd\x80",                 // int 0x80 in single steps
    b"\x8c\xd0\x9c\x80\x4c\x24\x01\x01\x9d\x8e\xd0\x0f\x05", // a step that ends within syscall: mov ss, ax before it
    b"\x8c\xd0\x9c\x80\x4c\x24\x01\x01\x9d\x8e\xd0\xcd\x80", // and within int 0x80
    b"\xf1",                                                 // the debugger's own interrupt
    b"\xcc",                                                 // int3
];

pub const CASES: &[Case] = &[
    case!("a_system_call_from_code_of_another_kind", {
        // With each selector there could be; the code means the same in 64 and in 32 bits.
        all_are_killed((0..32).map(|entry| far_jump(entry << 3 | 3, b"\x0f\x05")))
    }),
    case!("the_old_gate_from_code_of_another_kind", {
        all_are_killed((0..32).map(|entry| far_jump(entry << 3 | 3, b"\xcd\x80")))
    }),
    case!("every_software_interrupt", all_are_killed((0..=255).map(|vector| vec![0xcd, vector]))),
    case!("every_instruction_of_the_kernels", all_are_killed(KERNELS_OWN.iter().map(|code| code.to_vec()))),
];
