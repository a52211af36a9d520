//! The auxiliary vector: is each of its values what the kernel says of the same thing elsewhere, and are they Linux's set, in
//! Linux's order?

use crate::exec::own;
use crate::exec_process::copy_of_self;
use conformance::elf::Elf;
use conformance::support::*;
use conformance::{answers, case, sys};
use std::arch::asm;
use std::ffi::{CStr, c_void};
use std::fs;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

const NAMES: [(u64, &str); 21] = [
    (libc::AT_SYSINFO_EHDR, "SYSINFO_EHDR"),
    (libc::AT_MINSIGSTKSZ, "MINSIGSTKSZ"),
    (libc::AT_HWCAP, "HWCAP"),
    (libc::AT_PAGESZ, "PAGESZ"),
    (libc::AT_CLKTCK, "CLKTCK"),
    (libc::AT_PHDR, "PHDR"),
    (libc::AT_PHENT, "PHENT"),
    (libc::AT_PHNUM, "PHNUM"),
    (libc::AT_BASE, "BASE"),
    (libc::AT_FLAGS, "FLAGS"),
    (libc::AT_ENTRY, "ENTRY"),
    (libc::AT_UID, "UID"),
    (libc::AT_EUID, "EUID"),
    (libc::AT_GID, "GID"),
    (libc::AT_EGID, "EGID"),
    (libc::AT_SECURE, "SECURE"),
    (libc::AT_RANDOM, "RANDOM"),
    (libc::AT_HWCAP2, "HWCAP2"),
    (libc::AT_EXECFN, "EXECFN"),
    (libc::AT_PLATFORM, "PLATFORM"),
    (libc::AT_NULL, "NULL"),
];

/// What later Linux adds (AT_RSEQ_…) is for a system call that Keel doesn't have.
const OF_RSEQ: [u64; 2] = [27, 28];

/// An entry's value by /proc: libc's getauxval has numbers of its own for AT_HWCAP.
fn value_of(key: u64) -> u64 {
    pairs_of_proc().iter().find(|(found, _)| *found == key).map_or(u64::MAX, |(_, value)| *value)
}

/// The pairs that /proc says this image was given.
fn pairs_of_proc() -> Vec<(u64, u64)> {
    let bytes = fs::read("/proc/self/auxv").unwrap_or_default();
    let words: Vec<u64> = bytes.chunks_exact(8).map(word).collect();
    words.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect()
}

fn word(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |sum, &byte| sum << 8 | u64::from(byte))
}

fn name_of(key: u64) -> String {
    NAMES.iter().find(|(known, _)| *known == key).map_or(format!("{key}"), |(_, name)| (*name).to_string())
}

/// A field of this program's own ELF header: its offset and size.
fn header_field(offset: usize, size: usize) -> u64 {
    let file = fs::read("/proc/self/exe").unwrap_or_default();
    file.get(offset..offset + size).map_or(0, word)
}

/// Where a named area of this process's memory is.
fn area(name: &str) -> std::ops::Range<u64> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let line = maps.lines().find(|line| line.ends_with(name)).unwrap_or_default();
    let mut ends = line.split([' ', '-']).map(|end| u64::from_str_radix(end, 16).unwrap_or(0));
    ends.next().unwrap_or(0)..ends.next().unwrap_or(0)
}

fn string_at(address: u64) -> String {
    // SAFETY: the kernel put a string there, in the stack's upper end, which nothing overwrites.
    unsafe { CStr::from_ptr(address as *const libc::c_char) }.to_string_lossy().into_owned()
}

pub fn random_bytes() -> Vec<u8> {
    // SAFETY: AT_RANDOM points to 16 bytes on the stack.
    unsafe { std::slice::from_raw_parts(value_of(libc::AT_RANDOM) as *const u8, 16) }.to_vec()
}

/// May a program use RDFSBASE?
fn reads_fs_base() -> bool {
    in_child(|| {
        sys!(signal(libc::SIGILL, libc::SIG_DFL));
        let base: u64;
        // SAFETY: reads a register, or is an undefined instruction that ends this child.
        unsafe { asm!("rdfsbase {}", out(reg) base, options(nomem, nostack)) };
        i32::from(base == 0)
    }) == "exit 0"
}

static FRAME: AtomicUsize = AtomicUsize::new(0);

/// Notes where its frame begins: right below the context is the address to return to.
extern "C" fn note_frame(_: i32, _: *mut libc::siginfo_t, context: *mut c_void) {
    FRAME.store(context as usize - 8, Relaxed);
}

/// How many bytes a signal takes on an alternate stack before the handler's first instruction.
fn bytes_of_signal_frame() -> usize {
    const SIZE: usize = 1 << 20;
    let memory = vec![0_u8; SIZE].leak();
    let top = memory.as_ptr_range().end as usize;
    let stack = libc::stack_t { ss_sp: memory.as_mut_ptr().cast(), ss_flags: 0, ss_size: SIZE };
    sys!(sigaltstack(&stack, null_mut()));
    // SAFETY: sigaction is made of integers, for which zeros are valid; the handler has the signature that SA_SIGINFO asks for.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        action.sa_sigaction = note_frame as *const () as usize;
        libc::sigaction(libc::SIGUSR1, &action, null_mut());
        libc::raise(libc::SIGUSR1);
    }
    top - FRAME.load(Relaxed)
}

/// An entry's value by libc, which no set-ID bits hide from the program.
fn asked(key: u64) -> u64 {
    sys!(getauxval(key))
}

/// What a helper tells of its vector; also run as another user, by another name, or as a script's interpreter.
pub fn tell() -> String {
    let ids = [
        (libc::AT_UID, sys!(getuid())),
        (libc::AT_EUID, sys!(geteuid())),
        (libc::AT_GID, sys!(getgid())),
        (libc::AT_EGID, sys!(getegid())),
    ];
    let ids_hold = ids.iter().all(|(key, id)| asked(*key) == u64::from(*id));
    format!(
        "named {:?}, ids {} {}, secure {}",
        string_at(asked(libc::AT_EXECFN)),
        ids.map(|(_, id)| id.to_string()).join(" "),
        yes(ids_hold),
        asked(libc::AT_SECURE)
    )
}

/// A program that ends with the low byte of a value of its vector, shifted.
fn program_telling(key: u8, shift: u8) -> Elf {
    Elf::with(|elf| {
        elf.code = vec![
            0x48, 0x89, 0xe0, // mov rax, rsp
            0x48, 0x8b, 0x08, // mov rcx, [rax]: argc
            0x48, 0x8d, 0x44, 0xc8, 0x10, // lea rax, [rax + 8 * rcx + 16]: envp
            0x48, 0x83, 0xc0, 0x08, // next: add rax, 8
            0x48, 0x83, 0x78, 0xf8, 0x00, // cmp qword [rax - 8], 0
            0x75, 0xf5, // jne next
            0x48, 0x83, 0xc0, 0x10, // pair: add rax, 16
            0x48, 0x83, 0x78, 0xf0, key, // cmp qword [rax - 16], key
            0x75, 0xf5, // jne pair
            0x48, 0x8b, 0x78, 0xf8, // mov rdi, [rax - 8]
            0x48, 0xc1, 0xef, shift, // shr rdi, shift
            0x40, 0x0f, 0xb6, 0xff, // movzx edi, dil
            0xb8, 60, 0, 0, 0, 0x0f, 0x05, // mov eax, 60; syscall: exit
        ];
        elf.segments[0].file_size = (elf.code_offset + elf.code.len()) as u64;
        elf.segments[0].memory_size = elf.segments[0].file_size;
    })
}

/// Bytes of one value of the vector of a program without libc.
fn told_by_program(key: u64, shifts: &[u8]) -> String {
    let ask = |shift: &u8| {
        make_file(c"program", &program_telling(key as u8, *shift).bytes(), 0o755);
        exec_answer(c"./program", &[c"x"])
    };
    shifts.iter().map(ask).collect::<Vec<_>>().join(" ")
}

pub const CASES: &[Case] = &[
    case!("which_entries_are_there_and_in_which_order", {
        let keys = pairs_of_proc().into_iter().map(|(key, _)| key).filter(|key| !OF_RSEQ.contains(key));
        keys.map(name_of).collect::<Vec<_>>().join(" ")
    }),
    case!("is_the_vector_what_proc_shows", {
        let pairs = pairs_of_proc();
        let entries = pairs.iter().filter(|(key, _)| ![libc::AT_NULL, libc::AT_HWCAP].contains(key));
        let same = entries.fold(true, |same, (key, value)| same && asked(*key) == *value);
        answers!(yes(same), yes(pairs.last() == Some(&(0, 0))))
    }),
    case!("headers_and_entry_are_those_of_the_file", {
        // This program is linked to fixed addresses: its headers follow the ELF header, which its first page holds.
        answers!(
            yes(value_of(libc::AT_ENTRY) == header_field(24, 8)),
            yes(value_of(libc::AT_PHENT) == header_field(54, 2)),
            yes(value_of(libc::AT_PHNUM) == header_field(56, 2)),
            yes(value_of(libc::AT_PHDR) == area("conformance").start + header_field(32, 8)),
            value_of(libc::AT_BASE),
            value_of(libc::AT_FLAGS)
        )
    }),
    case!("the_headers_in_memory_are_those_of_the_file", {
        let (start, size) = (header_field(32, 8) as usize, header_field(56, 2) as usize * 56);
        let file = fs::read("/proc/self/exe").unwrap_or_default();
        // SAFETY: AT_PHDR and AT_PHNUM say where they are.
        let mapped = unsafe { std::slice::from_raw_parts(value_of(libc::AT_PHDR) as *const u8, size) };
        yes(file.get(start..start + size) == Some(mapped))
    }),
    case!("the_page_size_and_the_clock", {
        answers!(
            yes(value_of(libc::AT_PAGESZ) == sys!(sysconf(libc::_SC_PAGESIZE)) as u64),
            value_of(libc::AT_PAGESZ),
            value_of(libc::AT_CLKTCK)
        )
    }),
    case!("hwcap_is_what_cpuid_says", {
        yes(value_of(libc::AT_HWCAP) == u64::from(std::arch::x86_64::__cpuid(1).edx))
    }),
    case!("hwcap2_says_whether_rdfsbase_may_be_used", {
        const FSGSBASE: u64 = 2;
        answers!(
            yes((value_of(libc::AT_HWCAP2) & FSGSBASE != 0) == reads_fs_base()),
            value_of(libc::AT_HWCAP2) & !FSGSBASE
        )
    }),
    case!("the_vdso_is_where_proc_shows_it", {
        answers!(
            yes(value_of(libc::AT_SYSINFO_EHDR) == area("[vdso]").start),
            // SAFETY: an ELF file begins there.
            unsafe { (value_of(libc::AT_SYSINFO_EHDR) as *const [u8; 4]).read() } == *b"\x7fELF"
        )
    }),
    case!("strings_and_random_bytes_lie_on_the_stack", {
        let stack = area("[stack]");
        let keys = [libc::AT_RANDOM, libc::AT_PLATFORM, libc::AT_EXECFN];
        answers!(yes(keys.iter().all(|key| stack.contains(&value_of(*key)))), string_at(value_of(libc::AT_PLATFORM)))
    }),
    case!("a_signal_takes_no_more_than_minsigstksz", {
        yes(bytes_of_signal_frame() as u64 <= value_of(libc::AT_MINSIGSTKSZ))
    }),
    case!("random_bytes_differ_from_start_to_start", {
        let starts: Vec<_> = (0..8).map(|_| helper(&[c"x", c"--helper-random"], &[])).collect();
        let mut kinds = starts.clone();
        kinds.sort();
        kinds.dedup();
        answers!(kinds.len(), yes(starts.iter().all(|text| text.len() == 32)))
    }),
    case!("the_name_is_the_path_that_was_given", {
        copy_of_self(c"copy", (0, 0), 0o755);
        sys!(symlink(c"copy".as_ptr(), c"link".as_ptr()));
        answers!(
            helper_at(c"./copy", &[c"x", c"--helper-auxiliary"], &[]),
            helper_at(c".//link", &[c"x", c"--helper-auxiliary"], &[])
        )
    }),
    case!("a_scripts_interpreter_is_told_the_scripts_name", {
        make_file(c"script", own("#!SELF --helper-auxiliary\n").as_bytes(), 0o755);
        helper_at(c"./script", &[c"x"], &[])
    }),
    case!("ids_are_those_after_execve", {
        copy_of_self(c"copy", (1234, 2345), 0o6755);
        asked_in_child(|| {
            sys!(setresgid(5, 6, 7));
            sys!(setresuid(8, 9, 10));
            answers!(
                helper(&[c"x", c"--helper-auxiliary"], &[]).rsplit_once("ids").map_or("", |(_, ids)| ids),
                helper_at(c"./copy", &[c"x", c"--helper-auxiliary"], &[])
            )
        })
    }),
    case!("a_program_without_libc_reads_the_same", {
        answers!(
            told_by_program(libc::AT_ENTRY, &[0, 8, 16, 24]),
            told_by_program(libc::AT_PHDR, &[0, 8, 16, 24]),
            told_by_program(libc::AT_PHNUM, &[0]),
            told_by_program(libc::AT_PAGESZ, &[8]),
            told_by_program(libc::AT_BASE, &[0, 8, 16, 24, 32])
        )
    }),
];
