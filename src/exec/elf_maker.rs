//! Makes small ELF files, good ones and wrong ones, for tests: on the host against the pure chain, on the host's own Linux
//! as the oracle, and in the kernel.
//!
//! [`cases`] holds one file for each rule of loading, with what Linux does with it and what Keel does.

#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, reason = "only tests make files")]

use crate::errno::Errno;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

pub const ET_EXEC: u16 = 2;
pub const ET_DYN: u16 = 3;
pub const PT_LOAD: u32 = 1;
pub const PT_INTERP: u32 = 3;
pub const PT_TLS: u32 = 7;
pub const PT_GNU_STACK: u32 = 0x6474_e551;
pub const X: u32 = 1;
pub const W: u32 = 2;
pub const R: u32 = 4;

/// Where the first segment of a made program lies, and its code in file and segment.
pub const IMAGE: u64 = 0x40_0000;
pub const CODE: usize = 0x800;
/// What the plain program exits with.
pub const STATUS: u8 = 42;

/// A program header, as in the file.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    pub kind: u32,
    pub flags: u32,
    pub offset: u64,
    pub address: u64,
    pub file_size: u64,
    pub memory_size: u64,
    pub alignment: u64,
}

impl Header {
    pub fn load(flags: u32, offset: u64, address: u64, file_size: u64, memory_size: u64) -> Self {
        Self { kind: PT_LOAD, flags, offset, address, file_size, memory_size, alignment: 0x1000 }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&self.kind.to_le_bytes());
        bytes.extend_from_slice(&self.flags.to_le_bytes());
        for word in [self.offset, self.address, self.address, self.file_size, self.memory_size, self.alignment] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        bytes
    }
}

/// A file in the making. Its header table follows the file header, its code is at [`CODE`].
#[derive(Clone, Debug)]
pub struct ElfMaker {
    pub kind: u16,
    pub machine: u16,
    pub entry: u64,
    pub table_offset: u64,
    pub header_size: u16,
    /// `None`: as many as there are.
    pub header_count: Option<u16>,
    pub headers: Vec<Header>,
    /// Everything behind the headers: offset and bytes.
    pub contents: Vec<(usize, Vec<u8>)>,
    pub size: usize,
}

impl ElfMaker {
    /// A program of one page with one segment, R and X, that runs `code`.
    pub fn program(code: &[u8]) -> Self {
        Self {
            kind: ET_EXEC,
            machine: 62,
            entry: IMAGE + CODE as u64,
            table_offset: 64,
            header_size: 56,
            header_count: None,
            headers: vec![Header::load(R | X, 0, IMAGE, 0x1000, 0x1000)],
            contents: vec![(CODE, code.to_vec())],
            size: 0x1000,
        }
    }

    /// The same, position-independent.
    pub fn relocatable(code: &[u8]) -> Self {
        let mut maker = Self::program(code);
        maker.kind = ET_DYN;
        maker.entry = CODE as u64;
        maker.headers[0].address = 0;
        maker
    }

    #[must_use]
    pub fn with(mut self, header: Header) -> Self {
        self.headers.push(header);
        self
    }

    #[must_use]
    pub fn with_bytes(mut self, offset: usize, bytes: &[u8]) -> Self {
        self.size = self.size.max(offset + bytes.len());
        self.contents.push((offset, bytes.to_vec()));
        self
    }

    /// Adds PT_INTERP with these bytes.
    #[must_use]
    pub fn with_interpreter(self, path: &[u8]) -> Self {
        let size = path.len() as u64;
        let header = Header {
            kind: PT_INTERP,
            flags: R,
            offset: 0xe00,
            address: 0,
            file_size: size,
            memory_size: size,
            alignment: 1,
        };
        self.with(header).with_bytes(0xe00, path)
    }

    #[must_use]
    pub fn change(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut file = vec![0; self.size];
        let count = self.header_count.unwrap_or(self.headers.len() as u16);
        let mut head = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
        head.extend_from_slice(&self.kind.to_le_bytes());
        head.extend_from_slice(&self.machine.to_le_bytes());
        head.extend_from_slice(&1_u32.to_le_bytes());
        for word in [self.entry, self.table_offset, 0] {
            head.extend_from_slice(&word.to_le_bytes());
        }
        head.extend_from_slice(&0_u32.to_le_bytes());
        for half in [64, self.header_size, count, 0, 0, 0] {
            head.extend_from_slice(&half.to_le_bytes());
        }
        let table: Vec<u8> = self.headers.iter().flat_map(Header::bytes).collect();
        put(&mut file, 0, &head);
        put(&mut file, 64, &table);
        for (offset, bytes) in &self.contents {
            put(&mut file, *offset, bytes);
        }
        file
    }
}

fn put(file: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    if file.len() < offset + bytes.len() {
        file.resize(offset + bytes.len(), 0);
    }
    file[offset..offset + bytes.len()].copy_from_slice(bytes);
}

/// `mov eax, 231; syscall`: exit_group with what is in EDI.
const EXIT: [u8; 7] = [0xb8, 231, 0, 0, 0, 0x0f, 0x05];

/// Code that exits with a status.
pub fn exit_with(status: u8) -> Vec<u8> {
    [&[0xbf, status, 0, 0, 0], &EXIT[..]].concat()
}

/// Code that exits with the byte at an address.
pub fn exit_with_byte_at(address: u64) -> Vec<u8> {
    // mov rax, address; movzx edi, byte [rax]
    [&[0x48, 0xb8], &address.to_le_bytes()[..], &[0x0f, 0xb6, 0x38], &EXIT].concat()
}

/// Code that writes all argument strings, with their NULs, to descriptor 1 and exits with argc. It needs an environment.
pub fn print_arguments() -> Vec<u8> {
    let code: [&[u8]; 8] = [
        &[0x48, 0x8b, 0x04, 0x24],       // mov rax, [rsp]
        &[0x48, 0x8b, 0x74, 0x24, 0x08], // mov rsi, [rsp + 8]
        &[0x48, 0x8b, 0x54, 0xc4, 0x10], // mov rdx, [rsp + rax*8 + 16]
        &[0x48, 0x29, 0xf2],             // sub rdx, rsi
        &[0xbf, 1, 0, 0, 0],             // mov edi, 1
        &[0xb8, 1, 0, 0, 0, 0x0f, 0x05], // mov eax, 1; syscall
        &[0x8b, 0x3c, 0x24],             // mov edi, [rsp]
        &EXIT,
    ];
    code.concat()
}

/// Code that exits with the byte at FS:0x10's own place minus FS:0's: 0 when both hold the thread pointer.
pub fn exit_with_tls_byte(offset: i32) -> Vec<u8> {
    // mov rax, fs:[0]; movzx edi, byte [rax + offset]
    let code = [0x64, 0x48, 0x8b, 0x04, 0x25, 0, 0, 0, 0, 0x0f, 0xb6, 0xb8];
    [&code[..], &offset.to_le_bytes(), &EXIT].concat()
}

/// Code that executes its own file (argv[0]) until the five digits in argv[1] are used up, and exits with 42.
pub fn execute_again() -> Vec<u8> {
    // Decrement the string at [rsp + 16]; below "00000": exit_group(42). Else execve(argv[0], argv, NULL), or exit_group(1).
    vec![
        0x48, 0x8b, 0x74, 0x24, 0x10, 0x48, 0x8d, 0x7e, 0x04, 0xfe, 0x0f, 0x80, 0x3f, 0x30, 0x73, 0x17, 0xc6, 0x07,
        0x39, 0x48, 0xff, 0xcf, 0x48, 0x39, 0xf7, 0x73, 0xee, 0xbf, 0x2a, 0x00, 0x00, 0x00, 0xb8, 0xe7, 0x00, 0x00,
        0x00, 0x0f, 0x05, 0x48, 0x8b, 0x7c, 0x24, 0x08, 0x48, 0x8d, 0x74, 0x24, 0x08, 0x31, 0xd2, 0xb8, 0x3b, 0x00,
        0x00, 0x00, 0x0f, 0x05, 0xbf, 0x01, 0x00, 0x00, 0x00, 0xb8, 0xe7, 0x00, 0x00, 0x00, 0x0f, 0x05,
    ]
}

/// Code that looks at the state it is entered in, and exits with 0, or with the number of what is wrong: 1 a general register
/// isn't zero, 2 the stack isn't aligned, 3 a flag is set, 4 MXCSR, 5 the x87 control word, 6 an XMM register, 7 argc is 0.
pub fn examine_entry() -> Vec<u8> {
    vec![
        0x48, 0x09, 0xd8, 0x48, 0x09, 0xc8, 0x48, 0x09, 0xd0, 0x48, 0x09, 0xf0, 0x48, 0x09, 0xf8, 0x48, 0x09, 0xe8,
        0x4c, 0x09, 0xc0, 0x4c, 0x09, 0xc8, 0x4c, 0x09, 0xd0, 0x4c, 0x09, 0xd8, 0x4c, 0x09, 0xe0, 0x4c, 0x09, 0xe8,
        0x4c, 0x09, 0xf0, 0x4c, 0x09, 0xf8, 0xbf, 0x01, 0x00, 0x00, 0x00, 0x75, 0x64, 0xbf, 0x02, 0x00, 0x00, 0x00,
        0x40, 0xf6, 0xc4, 0x0f, 0x75, 0x59, 0x9c, 0x58, 0x25, 0x00, 0x4f, 0x05, 0x00, 0xbf, 0x03, 0x00, 0x00, 0x00,
        0x3d, 0x00, 0x02, 0x00, 0x00, 0x75, 0x46, 0x50, 0x0f, 0xae, 0x1c, 0x24, 0xbf, 0x04, 0x00, 0x00, 0x00, 0x81,
        0x3c, 0x24, 0x80, 0x1f, 0x00, 0x00, 0x75, 0x33, 0xd9, 0x3c, 0x24, 0xbf, 0x05, 0x00, 0x00, 0x00, 0x66, 0x81,
        0x3c, 0x24, 0x7f, 0x03, 0x75, 0x23, 0x66, 0x48, 0x0f, 0x7e, 0xc0, 0x66, 0x4c, 0x0f, 0x7e, 0xf9, 0x48, 0x09,
        0xc8, 0xbf, 0x06, 0x00, 0x00, 0x00, 0x75, 0x0f, 0x58, 0xbf, 0x07, 0x00, 0x00, 0x00, 0x48, 0x83, 0x3c, 0x24,
        0x00, 0x74, 0x02, 0x31, 0xff, 0xb8, 0xe7, 0x00, 0x00, 0x00, 0x0f, 0x05,
    ]
}

/// Code that never ends.
pub fn spin() -> Vec<u8> {
    vec![0xeb, 0xfe]
}

/// What becomes of an execve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It runs, and exits so.
    Exits(u8),
    /// It is killed by SIGSEGV or SIGBUS: Linux does that within execve too, when it finds a fault too late.
    Dies,
    Refused(Errno),
}

/// One file, and what is expected of it.
pub struct Case {
    pub name: &'static str,
    pub file: Vec<u8>,
    /// `None` where it depends on Linux's version, its settings, or on chance.
    pub linux: Option<Outcome>,
    pub keel: Outcome,
    /// Another file that it needs: the name in the same directory, and contents.
    pub companion: Option<(&'static str, Vec<u8>)>,
}

fn same(name: &'static str, maker: &ElfMaker, outcome: Outcome) -> Case {
    Case { name, file: maker.bytes(), linux: Some(outcome), keel: outcome, companion: None }
}

/// Linux kills the caller, having destroyed its memory already; Keel refuses in time.
fn in_time(name: &'static str, maker: &ElfMaker, errno: Errno) -> Case {
    Case { linux: Some(Outcome::Dies), keel: Outcome::Refused(errno), ..same(name, maker, Outcome::Dies) }
}

fn only_keel(name: &'static str, maker: &ElfMaker, keel: Outcome) -> Case {
    Case { linux: None, ..same(name, maker, keel) }
}

/// All cases; `directory` is where the files will be, since interpreters are named by absolute paths.
pub fn cases(directory: &str) -> Vec<Case> {
    let mut cases = good_files();
    cases.extend(large_tables());
    cases.extend(bad_headers());
    cases.extend(bad_segments());
    cases.extend(names_of_interpreters(directory));
    cases.extend(interpreters(directory));
    cases.extend(stricter_than_linux());
    cases
}

fn plain() -> ElfMaker {
    ElfMaker::program(&exit_with(STATUS))
}

/// A program that exits with the byte at `address`, with one more segment and one page of 0xee in the file at 0x1000.
fn peek(address: u64, header: Header) -> ElfMaker {
    ElfMaker::program(&exit_with_byte_at(address)).with_bytes(0x1000, &[0xee; 0x1000]).with(header)
}

fn good_files() -> Vec<Case> {
    use Outcome::{Dies, Exits};
    let runs = Exits(STATUS);
    let aligned = |alignment| plain().change(|maker| maker.headers[0].alignment = alignment);
    let swapped = peek(0x60_0000, Header::load(R | W, 0x1000, 0x60_0000, 0x1000, 0x1000));
    vec![
        same("plain", &plain(), runs),
        same("entry_state", &ElfMaker::program(&examine_entry()), Exits(0)),
        same("position_independent", &ElfMaker::relocatable(&exit_with(STATUS)), runs),
        same("relocatable_with_an_address", &plain().change(|maker| maker.kind = ET_DYN), runs),
        same("unaligned_address", &peek(0x60_0345, Header::load(R | W, 0x1345, 0x60_0345, 3, 3)), Exits(0xee)),
        same("zero_tail", &peek(0x60_0010, Header::load(R | W, 0x1000, 0x60_0000, 0x10, 0x100)), Exits(0)),
        same("zero_to_the_page_end", &peek(0x60_0fff, Header::load(R | W, 0x1000, 0x60_0000, 0x10, 0x11)), Exits(0)),
        same("zero_pages", &peek(0x60_2fff, Header::load(R | W, 0x1000, 0x60_0000, 0x10, 0x3000)), Exits(0)),
        same("only_zeroes", &peek(0x60_0800, Header::load(R | W, 0, 0x60_0000, 0, 0x1000)), Exits(0)),
        same(
            "only_zeroes_at_an_odd_place",
            &peek(0x60_0800, Header::load(R | W, 0x123, 0x60_0777, 0, 0x100)),
            Exits(0),
        ),
        same("file_page_in_two_segments", &peek(0x60_0800, Header::load(R | W, 0x800, 0x60_0800, 4, 4)), Exits(0x48)),
        same(
            "two_segments_in_one_page",
            &peek(0x60_0100, Header::load(R, 0x1000, 0x60_0000, 0x800, 0x800)).with(Header::load(
                R | W,
                0x1800,
                0x60_0800,
                0x800,
                0x2000,
            )),
            Exits(0xee),
        ),
        same("descending_segments", &swapped.change(|maker| maker.headers.swap(0, 1)), Exits(0xee)),
        same("an_empty_segment", &plain().with(Header::load(R, 0, 0x60_0000, 0, 0)), runs),
        same("alignment_zero", &aligned(0), runs),
        same("alignment_three", &aligned(3), runs),
        same("alignment_16", &aligned(16), runs),
        same(
            "executable_stack_asked_for",
            &plain().with(Header { kind: PT_GNU_STACK, ..Header::load(R | W | X, 0, 0, 0, 0) }),
            runs,
        ),
        same("file_shorter_than_segment", &plain().with(Header::load(R, 0x10_0000, 0x60_0000, 0x1000, 0x1000)), runs),
        same("touching_past_the_file", &peek(0x60_0000, Header::load(R, 0x10_0000, 0x60_0000, 0x1000, 0x1000)), Dies),
        same("entry_nowhere", &plain().change(|maker| maker.entry = 0x10_0000), Dies),
        same("entry_not_executable", &plain().change(|maker| maker.headers[0].flags = R), Dies),
        same("no_segments", &plain().change(|maker| maker.headers[0].kind = 0), Dies),
        same("class_byte_order_and_version_ignored", &plain().with_bytes(4, &[1, 2, 9, 77]), runs),
    ]
}

fn large_tables() -> Vec<Case> {
    let runs = Outcome::Exits(STATUS);
    let many = (0..1000).map(|index| Header::load(R | W, 0, 0x100_0000 + index * 0x2000, 0, 8));
    let table = vec![Header { kind: 0, ..Header::load(0, 0, 0, 0, 0) }; 1169];
    // With so many headers the code has to lie behind them.
    let largest_table = plain().change(|maker| {
        maker.headers.extend(table);
        maker.contents = vec![(0x1_1000, exit_with(STATUS))];
        maker.entry = IMAGE + 0x1_1000;
        maker.headers[0].file_size = 0x1_2000;
        maker.headers[0].memory_size = 0x1_2000;
        maker.size = 0x1_2000;
    });
    let crowded = largest_table.clone().change(|maker| {
        for (header, load) in maker.headers.iter_mut().skip(1).zip(many) {
            *header = load;
        }
    });
    vec![same("largest_table", &largest_table, runs), same("a_thousand_segments", &crowded, runs)]
}

fn bad_headers() -> Vec<Case> {
    let refused = Outcome::Refused(Errno::ENOEXEC);
    let changed = |name, change: fn(&mut ElfMaker)| same(name, &plain().change(change), refused);
    let cut = |name, size| Case { file: plain().bytes()[..size].to_vec(), ..same(name, &plain(), refused) };
    vec![
        cut("empty", 0),
        cut("one_byte", 1),
        cut("half_a_header", 32),
        cut("a_header_only", 64),
        cut("half_a_table", 100),
        same("wrong_magic", &plain().with_bytes(0, b"\x7fELG"), refused),
        changed("relocatable_object", |maker| maker.kind = 1),
        changed("core_file", |maker| maker.kind = 4),
        changed("other_machine", |maker| maker.machine = 183),
        changed("no_program_headers", |maker| maker.header_count = Some(0)),
        changed("too_many_program_headers", |maker| maker.header_count = Some(1171)),
        changed("as_many_as_can_be_said", |maker| maker.header_count = Some(u16::MAX)),
        changed("small_program_headers", |maker| maker.header_size = 32),
        changed("large_program_headers", |maker| maker.header_size = 64),
        changed("table_past_the_end", |maker| maker.table_offset = 0x10_0000),
        changed("table_at_the_end_of_numbers", |maker| maker.table_offset = u64::MAX - 8),
        changed("table_at_a_negative_offset", |maker| maker.table_offset = 1 << 63),
    ]
}

fn bad_segments() -> Vec<Case> {
    let extra = |name, header| in_time(name, &plain().with(header), Errno::ENOEXEC);
    let page = 0x1000;
    vec![
        extra("file_part_larger_than_memory", Header::load(R, 0, 0x60_0000, 0x20, 0x10)),
        extra("offset_and_address_disagree", Header::load(R, 0x123, 0x60_0000, 0x10, 0x10)),
        extra("kernel_address", Header::load(R, 0, 0xffff_8000_0000_0000, page, page)),
        extra("kernel_image_address", Header::load(R, 0, 0xffff_ffff_8000_0000, page, page)),
        extra("non_canonical_address", Header::load(R, 0, 1 << 47, page, page)),
        extra("last_page_of_the_lower_half", Header::load(R, 0, 0x7fff_ffff_f000, page, page)),
        extra("reaches_the_end_of_user_space", Header::load(R | W, 0, 0x7fff_0000_0000, 0, 0x1_0000_0000)),
        extra("address_wraps", Header::load(R, 0, u64::MAX - 0xfff, page, page)),
        extra("memory_size_wraps", Header::load(R | W, 0, 0x60_0000, 0, u64::MAX)),
        extra("both_sizes_wrap", Header::load(R, 0, 0x60_0000, u64::MAX, u64::MAX)),
        extra("offset_wraps", Header::load(R, u64::MAX - 0xfff, 0x60_0000, page, page)),
        extra("offset_is_negative", Header::load(R, 1 << 63, 0x60_0000, page, page)),
        in_time("entry_in_the_kernel", &plain().change(|maker| maker.entry = 0xffff_ffff_8000_0000), Errno::ENOEXEC),
        in_time("entry_not_canonical", &plain().change(|maker| maker.entry = 1 << 47), Errno::ENOEXEC),
    ]
}

/// What a program says of its interpreter.
fn names_of_interpreters(directory: &str) -> Vec<Case> {
    use Outcome::{Exits, Refused};
    let path = |name: &str| -> Vec<u8> { [directory, "/", name, "\0"].concat().into_bytes() };
    let base = || ElfMaker::relocatable(&exit_with(1));
    let with = |name, bytes: &[u8], outcome| same(name, &base().with_interpreter(bytes), outcome);
    let long: String = core::iter::repeat_n('x', 5000).collect();
    let sized = |size| move |maker: &mut ElfMaker| maker.headers[1].file_size = size;
    vec![
        with("interpreter_is_itself", &path("interpreter_is_itself"), Exits(1)),
        with("interpreter_missing", &path("missing"), Refused(Errno::ENOENT)),
        with("interpreter_below_a_file", &path("interpreter_below_a_file/x"), Refused(Errno::ENOTDIR)),
        with("interpreter_is_a_directory", &path("."), Refused(Errno::EACCES)),
        with("interpreter_without_a_name", b"\0\0", Refused(Errno::EACCES)),
        with("interpreter_not_terminated", b"/bin/sh", Refused(Errno::ENOEXEC)),
        with("interpreter_name_of_one_byte", b"\0", Refused(Errno::ENOEXEC)),
        same("interpreter_name_too_long", &base().with_interpreter(long.as_bytes()), Refused(Errno::ENOEXEC)),
        same(
            "interpreter_name_past_the_file",
            &base().with_interpreter(&path("missing")).change(sized(0x400)),
            Refused(Errno::EIO),
        ),
        same(
            "second_interpreter_ignored",
            &base().with_interpreter(&path("second_interpreter_ignored")).change(|maker| {
                let first = maker.headers[1];
                maker.headers.push(Header { offset: u64::MAX, ..first });
            }),
            Exits(1),
        ),
    ]
}

/// What file the interpreter is.
fn interpreters(directory: &str) -> Vec<Case> {
    use Outcome::{Dies, Exits, Refused};
    let path = [directory, "/interpreter\0"].concat();
    let program = ElfMaker::relocatable(&exit_with(1)).with_interpreter(path.as_bytes());
    let companion = |name, file: Vec<u8>, linux, keel| Case {
        linux: Some(linux),
        keel,
        companion: Some(("interpreter", file)),
        ..same(name, &program, keel)
    };
    let loader = ElfMaker::relocatable(&exit_with(STATUS));
    let fixed = ElfMaker::program(&exit_with(STATUS));
    let bad = |name, maker: ElfMaker| companion(name, maker.bytes(), Dies, Refused(Errno::ELIBBAD));
    vec![
        companion("interpreter_runs", loader.bytes(), Exits(STATUS), Exits(STATUS)),
        companion("interpreter_at_fixed_address", fixed.bytes(), Exits(STATUS), Exits(STATUS)),
        companion(
            "interpreter_has_an_interpreter",
            loader.clone().with_interpreter(b"/nowhere\0").bytes(),
            Exits(STATUS),
            Exits(STATUS),
        ),
        companion(
            "interpreter_is_a_script",
            b"#!/bin/sh\n".repeat(30),
            Refused(Errno::ELIBBAD),
            Refused(Errno::ELIBBAD),
        ),
        companion("interpreter_is_empty", Vec::new(), Refused(Errno::EIO), Refused(Errno::EIO)),
        companion("interpreter_too_short", loader.bytes()[..63].to_vec(), Refused(Errno::EIO), Refused(Errno::EIO)),
        companion(
            "interpreter_for_another_machine",
            loader.clone().change(|maker| maker.machine = 183).bytes(),
            Refused(Errno::ELIBBAD),
            Refused(Errno::ELIBBAD),
        ),
        companion(
            "interpreter_without_headers",
            loader.clone().change(|maker| maker.header_count = Some(0)).bytes(),
            Refused(Errno::ELIBBAD),
            Refused(Errno::ELIBBAD),
        ),
        bad("interpreter_is_an_object", loader.clone().change(|maker| maker.kind = 1)),
        bad("interpreter_without_segments", loader.clone().change(|maker| maker.headers[0].kind = 0)),
        bad("interpreter_entry_in_the_kernel", loader.clone().change(|maker| maker.entry = 1 << 63)),
        bad("interpreter_in_the_kernel", fixed.change(|maker| maker.headers[0].address = 1 << 63)),
    ]
}

fn stricter_than_linux() -> Vec<Case> {
    let refused = Outcome::Refused(Errno::ENOEXEC);
    let stricter = |name, maker: ElfMaker| Case { keel: refused, ..same(name, &maker, Outcome::Exits(STATUS)) };
    let tls =
        Header { kind: PT_TLS, flags: R, offset: 0x1000, address: 0, file_size: 4, memory_size: 16, alignment: 16 };
    let with_tls = |offset| ElfMaker::program(&exit_with_tls_byte(offset)).with_bytes(0x1000, &[5, 6, 7, 8]).with(tls);
    let large = Header { memory_size: 0x1_0010, alignment: 64, ..tls };
    vec![
        // W^X: no page is ever both.
        stricter("writable_and_executable", plain().change(|maker| maker.headers[0].flags = R | W | X)),
        stricter("second_segment_writable_and_executable", plain().with(Header::load(W | X, 0, 0x60_0000, 1, 1))),
        // Linux leaves PT_TLS to libcs; Keel uses it.
        stricter("tls_larger_than_memory", plain().with(Header { file_size: 17, ..tls })),
        stricter("tls_alignment_three", plain().with(Header { alignment: 3, ..tls })),
        // Linux lets root map the null page.
        only_keel("null_page", &plain().with(Header::load(R, 0, 0, 0x1000, 0x1000)), refused),
        // Linux may find room between its stack and the segment, or overwrite one by the other.
        only_keel(
            "overlaps_the_stack",
            &plain().with(Header::load(R | W, 0, 0x7fff_ffff_e000 - (8 << 20), 0, 8 << 20)),
            Outcome::Refused(Errno::ENOMEM),
        ),
        // Linux starts programs with FS at 0.
        only_keel("tls_byte_from_the_file", &with_tls(-14), Outcome::Exits(7)),
        only_keel("tls_byte_of_zero", &with_tls(-1), Outcome::Exits(0)),
        only_keel(
            "tls_with_pages_of_its_own",
            &ElfMaker::program(&exit_with_tls_byte(-0x1_0040 + 1)).with_bytes(0x1000, &[5, 6, 7, 8]).with(large),
            Outcome::Exits(6),
        ),
    ]
}
