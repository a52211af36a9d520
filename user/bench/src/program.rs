//! Programs to be executed, made on the spot: tiny ones without a libc, so that only the kernel's work is counted.

use crate::calls::good;
use std::ffi::CStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;

pub const TINY: &CStr = c"/tmp/bench.tiny";
pub const LARGE: &CStr = c"/tmp/bench.large";
pub const CHAIN: &CStr = c"/tmp/bench.chain";
pub const COUNTER: &CStr = c"/tmp/bench.counter";
/// How many arguments the counter must find.
pub const COUNTED: usize = 100;

/// Ends with status 0.
const END: [u8; 9] = [
    0x31, 0xff, // xor edi, edi
    0xb8, 60, 0, 0, 0, // mov eax, 60
    0x0f, 0x05, // syscall
];

/// Executes itself with one character less in argv[1], until that is empty; `END` follows it. Ends with status 1 where it
/// can't be executed.
const EXECUTE_ITSELF: [u8; 46] = [
    0x48, 0x8b, 0x44, 0x24, 0x10, // mov rax, [rsp + 16]      argv[1]
    0x80, 0x38, 0x00, // cmp byte [rax], 0
    0x74, 0x24, // je END
    0x48, 0xff, 0x44, 0x24, 0x10, // inc qword [rsp + 16]
    0x48, 0x8b, 0x7c, 0x24, 0x08, // mov rdi, [rsp + 8]       argv[0]
    0x48, 0x8d, 0x74, 0x24, 0x08, // lea rsi, [rsp + 8]
    0x31, 0xd2, // xor edx, edx             no environment
    0xb8, 59, 0, 0, 0, // mov eax, 59
    0x0f, 0x05, // syscall
    0xbf, 1, 0, 0, 0, // mov edi, 1
    0xb8, 60, 0, 0, 0, // mov eax, 60
    0x0f, 0x05, // syscall
];

/// Ends with status 0 if there are `COUNTED` arguments.
const COUNT_ARGUMENTS: [u8; 13] = [
    0x8b,
    0x3c,
    0x24, // mov edi, [rsp]          argc
    0x83,
    0xef,
    COUNTED as u8, // sub edi, COUNTED
    0xb8,
    60,
    0,
    0,
    0, // mov eax, 60
    0x0f,
    0x05, // syscall
];

const BASE: u64 = 0x40_0000;
const CODE_OFFSET: usize = 0x200;

/// An ELF file of one segment: headers, code, and padding up to a size.
fn image(code: &[u8], size: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(size);
    bytes.extend(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    bytes.extend(2_u16.to_le_bytes()); // ET_EXEC
    bytes.extend(62_u16.to_le_bytes()); // x86-64
    bytes.extend(1_u32.to_le_bytes());
    bytes.extend((BASE + CODE_OFFSET as u64).to_le_bytes());
    bytes.extend(64_u64.to_le_bytes()); // program headers
    bytes.extend(0_u64.to_le_bytes());
    bytes.extend(0_u32.to_le_bytes());
    for half in [64_u16, 56, 1, 0, 0, 0] {
        bytes.extend(half.to_le_bytes());
    }
    bytes.extend(1_u32.to_le_bytes()); // PT_LOAD
    bytes.extend(5_u32.to_le_bytes()); // readable, executable
    for field in [0, BASE, BASE, size as u64, size as u64, 0x1000] {
        bytes.extend(field.to_le_bytes());
    }
    bytes.resize(CODE_OFFSET, 0);
    bytes.extend(code);
    bytes.resize(size, 0);
    bytes
}

fn make(path: &CStr, code: &[u8], size: usize) -> Result<(), String> {
    let path = path.to_str().map_err(|error| error.to_string())?;
    let made =
        fs::write(path, image(code, size)).and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o755)));
    made.map_err(|error| format!("{path}: {error}"))
}

pub fn make_tiny() -> Result<(), String> {
    make(TINY, &END, 0x1000)
}

/// A program of 2 MiB that touches no more of them than the tiny one.
pub fn make_large() -> Result<(), String> {
    make(LARGE, &END, 2 << 20)
}

pub fn make_counter() -> Result<(), String> {
    make(COUNTER, &COUNT_ARGUMENTS, 0x1000)
}

pub fn make_chain() -> Result<(), String> {
    make(CHAIN, &[EXECUTE_ITSELF.as_slice(), &END].concat(), 0x1000)
}

/// Waits for a child, which must have ended with status 0.
pub fn wait_for(child: isize) -> Result<(), String> {
    let child = good(child, "fork")?;
    let mut status = -1;
    let ended = crate::call!(SYS_wait4, child, &raw mut status, 0, 0);
    if ended != child as isize {
        return Err(format!("wait4 gave {ended}"));
    }
    if status == 0 { Ok(()) } else { Err(format!("the child's wait status is {status:#x}")) }
}
