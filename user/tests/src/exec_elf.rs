//! ELF files, right and wrong: what does execve answer, and what does the image find? Files on which Keel is stricter
//! than Linux by intent (a segment that is writable and executable) are not here: see the kernel's own tests.
//!
//! Linux looks at some fields only after its point of no return, and kills the process; Keel refuses beforehand, with
//! an errno. For these files both answers are "does not run".

use conformance::case;
use conformance::elf::{Elf, PT_GNU_STACK, PT_INTERP, PT_LOAD, R, Segment, W, X};
use conformance::support::*;

/// How the right file ends after a change.
fn changed(change: impl FnOnce(&mut Elf)) -> String {
    bytes(&Elf::with(change).bytes())
}

fn bytes(bytes: &[u8]) -> String {
    make_file(c"program", bytes, 0o755);
    exec_answer(c"./program", &[c"program"])
}

/// Like `changed`, for files that Linux rejects too late to answer with an errno.
fn hopeless(change: impl FnOnce(&mut Elf)) -> String {
    match changed(change).as_str() {
        "killed by SIGSEGV" | "killed by SIGBUS" | "ENOEXEC" | "ENOMEM" | "EINVAL" => "does not run".into(),
        other => other.into(),
    }
}

/// The right file cut to a length.
fn cut(length: usize) -> String {
    let mut whole = Elf::right().bytes();
    whole.truncate(length);
    bytes(&whole)
}

/// The right file with a further data segment: file_size bytes of 0x11 from a file offset of 0x1000 on.
fn with_data(address: u64, offset: u64, file_size: u64, memory_size: u64, code: &[u8]) -> Elf {
    Elf::with(|elf| {
        elf.code = code.to_vec();
        elf.code.resize(0x3000, 0x11);
        elf.segments[0].file_size = 0x300;
        elf.segments[0].memory_size = 0x300;
        elf.add(Segment { kind: PT_LOAD, flags: R | W, offset, address, file_size, memory_size, alignment: 0x1000 });
    })
}

/// Code that ends with the byte at an address as its status.
fn exit_with_byte_at(address: u32) -> Vec<u8> {
    let mut code = vec![0x0f, 0xb6, 0x3c, 0x25]; // movzx edi, byte [address]
    code.extend(address.to_le_bytes());
    code.extend([0xb8, 60, 0, 0, 0, 0x0f, 0x05]); // mov eax, 60; syscall
    code
}

/// Code that writes a byte to an address and ends with status 42.
fn write_to(address: u32) -> Vec<u8> {
    let mut code = vec![0xc6, 0x04, 0x25]; // mov byte [address], 1
    code.extend(address.to_le_bytes());
    code.push(1);
    code.extend(conformance::elf::EXIT_42);
    code
}

/// Code that jumps onto the stack, to an instruction pushed there (`jmp $` would spin, so it is `ud2`).
const RUN_THE_STACK: [u8; 8] = [0x68, 0x0f, 0x0b, 0x0f, 0x0b, 0xff, 0xe4, 0x90]; // push 0x0b0f0b0f; jmp rsp

fn interpreter(path: &[u8]) -> String {
    changed(|elf| {
        let offset = elf.code_offset + elf.code.len();
        elf.code.extend(path);
        elf.add(Segment {
            kind: PT_INTERP,
            flags: R,
            offset: offset as u64,
            address: 0x40_0000 + offset as u64,
            file_size: path.len() as u64,
            memory_size: path.len() as u64,
            alignment: 1,
        });
    })
}

/// A position-independent interpreter made of the right file.
fn make_interpreter(change: impl FnOnce(&mut Elf)) {
    let mut elf = Elf::right();
    elf.kind = 3;
    elf.segments[0].address = 0;
    elf.entry = elf.code_offset as u64;
    change(&mut elf);
    make_file(c"interpreter", &elf.bytes(), 0o755);
}

pub const CASES: &[Case] = &[
    case!("right", changed(|_| ())),
    case!("wrong_magic", changed(|elf| elf.magic = *b"\x7fELG")),
    case!("class_32_bit", changed(|elf| elf.class = 1)),
    case!("machine_of_arm", changed(|elf| elf.machine = 183)),
    case!("machine_of_i386_in_class_64", changed(|elf| elf.machine = 3)),
    case!("relocatable_file", changed(|elf| elf.kind = 1)),
    case!("core_file", changed(|elf| elf.kind = 4)),
    case!("type_0", changed(|elf| elf.kind = 0)),
    case!("big_endian_mark_is_not_looked_at", changed(|elf| elf.data = 2)),
    case!("header_size_of_55", changed(|elf| elf.header_size = 55)),
    case!("header_size_of_0", changed(|elf| elf.header_size = 0)),
    case!("no_program_headers", changed(|elf| elf.header_count = 0)),
    case!("more_headers_than_the_file_holds", changed(|elf| elf.header_count = 100)),
    case!("headers_of_more_than_64_kib", changed(|elf| elf.header_count = 1171)),
    case!("the_greatest_number_of_headers", changed(|elf| elf.header_count = 65535)),
    case!("headers_past_the_end_of_the_file", changed(|elf| elf.header_offset = 0x10_0000)),
    case!("headers_at_the_end_of_all_offsets", changed(|elf| elf.header_offset = u64::MAX - 10)),
    case!("cut_in_the_magic", cut(3)),
    case!("cut_after_the_magic", cut(4)),
    case!("cut_in_the_header", cut(40)),
    case!("cut_after_the_header", cut(64)),
    case!("cut_in_the_program_headers", cut(100)),
    case!("cut_before_the_code", cut(0x200)),
    case!("cut_in_the_code", cut(0x205)),
    case!("no_segment_to_load", hopeless(|elf| elf.segments[0].kind = 4)),
    case!("entry_in_no_segment", hopeless(|elf| elf.entry = 0x10)),
    case!("entry_in_kernel_space", hopeless(|elf| elf.entry = 0xffff_8000_0000_0000)),
    case!("entry_not_canonical", hopeless(|elf| elf.entry = 0x8000_0000_0000)),
    case!("entry_past_the_end_of_user_space", hopeless(|elf| elf.entry = 0x7fff_ffff_f000)),
    case!("file_size_greater_than_memory_size", hopeless(|elf| elf.segments[0].memory_size = 0x100)),
    case!(
        "memory_size_0_and_file_size_0",
        hopeless(|elf| {
            elf.segments[0].memory_size = 0;
            elf.segments[0].file_size = 0;
        })
    ),
    case!("segment_in_kernel_space", hopeless(|elf| elf.segments[0].address = 0xffff_8000_0000_0000)),
    case!("segment_at_the_end_of_user_space", hopeless(|elf| elf.segments[0].address = 0x7fff_ffff_f000)),
    case!("segment_greater_than_user_space", hopeless(|elf| elf.segments[0].memory_size = 0x8000_0000_0000)),
    case!("segment_whose_size_overflows", hopeless(|elf| elf.segments[0].memory_size = u64::MAX - 0xfff)),
    case!(
        "file_size_that_overflows",
        hopeless(|elf| {
            elf.segments[0].file_size = u64::MAX;
            elf.segments[0].memory_size = u64::MAX;
        })
    ),
    case!("offset_and_address_that_differ_within_the_page", hopeless(|elf| elf.segments[0].address = 0x40_0010)),
    case!("segment_that_may_not_be_executed", changed(|elf| elf.segments[0].flags = R)),
    case!("segment_that_may_only_be_executed", changed(|elf| elf.segments[0].flags = X)),
    case!("writing_to_text", changed(|elf| elf.code = write_to(0x40_0000))),
    case!(
        "initialised_data",
        bytes(&with_data(0x50_0000, 0x1000, 0x100, 0x100, &exit_with_byte_at(0x50_00ff)).bytes())
    ),
    case!(
        "the_zero_part_in_the_same_page_is_zero",
        bytes(&with_data(0x50_0000, 0x1000, 0x100, 0x200, &exit_with_byte_at(0x50_0100)).bytes())
    ),
    case!(
        "the_zero_part_in_a_later_page_is_zero",
        bytes(&with_data(0x50_0000, 0x1000, 0x100, 0x5000, &exit_with_byte_at(0x50_4fff)).bytes())
    ),
    case!(
        "the_zero_part_can_be_written",
        bytes(&with_data(0x50_0000, 0x1000, 0x100, 0x5000, &write_to(0x50_4fff)).bytes())
    ),
    case!(
        "beyond_the_zero_part_is_nothing",
        bytes(&with_data(0x50_0000, 0x1000, 0x100, 0x1000, &write_to(0x50_1000)).bytes())
    ),
    case!(
        "data_at_an_unaligned_address",
        bytes(&with_data(0x50_0123, 0x1123, 0x100, 0x100, &exit_with_byte_at(0x50_0123)).bytes())
    ),
    case!(
        "before_unaligned_data_the_page_holds_the_file",
        bytes(&with_data(0x50_0123, 0x1123, 0x100, 0x100, &exit_with_byte_at(0x50_0122)).bytes())
    ),
    case!("memory_only_segment", bytes(&with_data(0x50_0000, 0, 0, 0x1000, &exit_with_byte_at(0x50_0000)).bytes())),
    case!("data_can_be_written", bytes(&with_data(0x50_0000, 0x1000, 0x100, 0x100, &write_to(0x50_0000)).bytes())),
    case!(
        "data_that_reaches_past_the_end_of_the_file",
        bytes(&with_data(0x50_0000, 0x1000, 0x8000, 0x8000, &exit_with_byte_at(0x50_7000)).bytes())
    ),
    case!(
        "segments_that_share_a_page_the_later_wins",
        bytes(&with_data(0x40_0800, 0x800, 0x100, 0x100, &conformance::elf::EXIT_42).bytes())
    ),
    case!(
        "segments_in_descending_order",
        changed(|elf| {
            elf.add(Segment {
                kind: PT_LOAD,
                flags: R | W,
                offset: 0,
                address: 0x30_0000,
                file_size: 0x100,
                memory_size: 0x100,
                alignment: 0x1000,
            });
        })
    ),
    case!("does_the_file_stay_as_it_was_when_data_is_written", {
        let program = with_data(0x50_0000, 0x1000, 0x100, 0x100, &write_to(0x50_0000)).bytes();
        let how = bytes(&program);
        format!("{how}, {}", std::fs::read("program").is_ok_and(|now| now == program))
    }),
    case!(
        "an_executable_stack_that_is_not_asked_for",
        changed(|elf| {
            elf.code = RUN_THE_STACK.to_vec();
            elf.add(Segment {
                kind: PT_GNU_STACK,
                flags: R | W,
                offset: 0,
                address: 0,
                file_size: 0,
                memory_size: 0,
                alignment: 16,
            });
        })
    ),
    case!(
        "position_independent",
        changed(|elf| {
            elf.kind = 3;
            elf.segments[0].address = 0;
            elf.entry = 0x200;
        })
    ),
    case!(
        "position_independent_linked_high",
        changed(|elf| {
            elf.kind = 3;
            elf.segments[0].address = 0x10_0000;
            elf.entry = 0x10_0200;
        })
    ),
    case!(
        "at_the_lowest_address_that_may_be_mapped",
        changed(|elf| {
            elf.segments[0].address = 0x1_0000;
            elf.entry = 0x1_0200;
        })
    ),
    case!("alignment_that_is_no_power_of_two", changed(|elf| elf.segments[0].alignment = 0x1001)),
    case!("alignment_of_0", changed(|elf| elf.segments[0].alignment = 0)),
    case!("alignment_that_is_huge", changed(|elf| elf.segments[0].alignment = 1 << 62)),
    case!(
        "unknown_segment_types_are_passed_over",
        changed(|elf| {
            elf.add(Segment {
                kind: 0x6fff_1234,
                flags: 0,
                offset: u64::MAX,
                address: u64::MAX,
                file_size: u64::MAX,
                memory_size: 0,
                alignment: 3,
            });
        })
    ),
    case!("a_missing_interpreter", interpreter(b"/no/such/interpreter\0")),
    case!("an_interpreter_without_a_closing_zero", interpreter(b"/no/such/interpreter")),
    case!("an_interpreter_with_an_empty_name", interpreter(b"\0")),
    case!("an_interpreter_with_no_name_at_all", interpreter(b"")),
    case!("an_interpreter_that_is_a_folder", interpreter(b"/\0")),
    case!("an_interpreter_that_is_text", {
        make_file(c"interpreter", &[b't'; 200], 0o755);
        interpreter(b"./interpreter\0")
    }),
    case!("an_interpreter_that_is_short_text", {
        make_file(c"interpreter", b"text", 0o755);
        interpreter(b"./interpreter\0")
    }),
    case!("an_interpreter_that_may_not_be_executed", {
        make_interpreter(|_| ());
        sys_chmod();
        interpreter(b"./interpreter\0")
    }),
    case!("an_interpreter_that_runs", {
        make_interpreter(|elf| elf.code[1] = 43);
        interpreter(b"./interpreter\0")
    }),
    case!("an_interpreter_for_another_machine", {
        make_interpreter(|elf| elf.machine = 183);
        interpreter(b"./interpreter\0")
    }),
    case!("an_interpreter_without_segments", {
        make_interpreter(|elf| elf.header_count = 0);
        interpreter(b"./interpreter\0")
    }),
    case!("an_interpreter_that_is_the_program_itself", interpreter(b"./program\0")),
    case!("an_interpreter_with_a_name_longer_than_a_path", interpreter(&[vec![b'x'; 4096], vec![0]].concat())),
];

fn sys_chmod() {
    conformance::sys!(chmod(c"interpreter".as_ptr(), 0o644));
}
