//! What does Keel do with each of the made files, and what does Linux?

use super::*;
use crate::exec::elf_maker::{Case, ElfMaker, Header, Outcome, R, W, cases, exit_with};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;

/// Follows what the made programs do: they read one byte at most.
fn outcome(case: &Case, image: &Prepared<File, Image>) -> Outcome {
    let process = &image.process;
    let executable = image.memory.protection(process.entry_point).is_some_and(|protection| protection.execute);
    let Ok(code) = image.memory.read(process.entry_point, 24) else { return Outcome::Dies };
    match code[..] {
        _ if !executable => Outcome::Dies,
        _ if case.name == "entry_state" => Outcome::Exits(u8::from(!process.stack_pointer.is_multiple_of(16))),
        [0xbf, status, 0, 0, 0, ..] => Outcome::Exits(status),
        [0x48, 0xb8, ref rest @ ..] => {
            let address = u64::from_le_bytes(rest[..8].try_into().unwrap());
            image.memory.read(address, 1).map_or(Outcome::Dies, |bytes| Outcome::Exits(bytes[0]))
        }
        [0x64, 0x48, 0x8b, 4, 0x25, 0, 0, 0, 0, 0x0f, 0xb6, 0xb8, ref rest @ ..] => {
            assert_eq!(image.memory.word(process.thread_pointer), process.thread_pointer);
            let offset = i32::from_le_bytes(rest[..4].try_into().unwrap());
            let byte = image.memory.read(process.thread_pointer.wrapping_add_signed(offset.into()), 1);
            Outcome::Exits(byte.unwrap()[0])
        }
        _ => panic!("{}: {code:x?}", case.name),
    }
}

#[test]
fn each_file_is_loaded_or_refused_as_it_should_be() {
    for randomise in [false, true] {
        for case in cases("/d") {
            let path = format!("/d/{}", case.name);
            let mut tree = Tree::default().with(&path, case.file.clone());
            if let Some((name, bytes)) = &case.companion {
                tree = tree.with(&format!("/d/{name}"), bytes.clone());
            }
            let request = Request { random: randomness(randomise), ..request(&path) };
            let arguments = KernelArguments { arguments: &[b"x"], environment: &[] };
            let result = match execute_as(&tree, &request, &arguments) {
                Ok(image) => outcome(&case, &image),
                Err(errno) => Outcome::Refused(errno),
            };
            assert_eq!(result, case.keel, "{}", case.name);
        }
    }
}

#[test]
fn linux_does_with_each_file_what_the_table_says() {
    let directory = std::env::temp_dir().join(format!("keel-elf-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let mut wrong = Vec::new();
    for case in cases(directory.to_str().unwrap()) {
        let Some(expected) = case.linux else { continue };
        if let Some((name, bytes)) = &case.companion {
            write_executable(&directory.join(name), bytes);
        }
        let path = directory.join(case.name);
        write_executable(&path, &case.file);
        let found = run(&path);
        if found != expected {
            wrong.push(format!("{}: {found:?} instead of {expected:?}", case.name));
        }
    }
    std::fs::remove_dir_all(&directory).unwrap();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

pub fn write_executable(path: &Path, bytes: &[u8]) {
    let _ = std::fs::remove_file(path);
    std::fs::write(path, bytes).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

fn run(path: &Path) -> Outcome {
    // Another test's child may hold the file open for writing until it has executed its own program.
    for _ in 0..100 {
        match Command::new(path).status() {
            Ok(status) if status.signal().is_some() => return Outcome::Dies,
            Ok(status) => return Outcome::Exits(status.code().unwrap() as u8),
            Err(error) if error.raw_os_error() == Some(Errno::ETXTBSY as i32) => {
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            Err(error) => return Outcome::Refused(errno(error.raw_os_error().unwrap())),
        }
    }
    panic!("{} stays busy", path.display());
}

fn errno(number: i32) -> Errno {
    let known =
        [Errno::ENOEXEC, Errno::EACCES, Errno::ENOENT, Errno::ENOTDIR, Errno::EIO, Errno::ELIBBAD, Errno::ELOOP];
    known.into_iter().find(|errno| *errno as i32 == number).unwrap_or_else(|| panic!("errno {number}"))
}

#[test]
fn addresses_without_randomness_are_those_of_linux() {
    let alone = ElfMaker::relocatable(&exit_with(0));
    let tree = Tree::default().with("/p", alone.clone().with_interpreter(b"/ld\0").bytes()).with("/ld", alone.bytes());
    for (path, start) in [("/p", 0x5555_5555_4000), ("/ld", 0x7fff_f7ff_e000)] {
        let request = Request { random: randomness(false), ..request(path) };
        let image = execute_as(&tree, &request, &KernelArguments { arguments: &[], environment: &[] }).unwrap();
        let process = image.process;
        assert_eq!(process.text_start..process.text_end, start..start + 0x1000);
        assert_eq!((process.heap_start, process.heap_end), (0x5555_5555_5000, 0x5555_5555_5000));
        assert_eq!(image.memory.stack.end, 0x7fff_ffff_f000);
    }
}

#[test]
fn alignment_beyond_a_page_is_kept() {
    for (address, alignment) in [(0, 0x20_0000), (0x1000, 0x20_0000), (0x40_3000, 0x1_0000)] {
        let maker = ElfMaker::relocatable(&exit_with(0)).change(|maker| {
            maker.headers[0].address = address;
            maker.headers[0].alignment = alignment;
            maker.entry = address + crate::exec::elf_maker::CODE as u64;
        });
        let tree = Tree::default().with("/d", maker.bytes());
        let process = execute(&tree, "/d", &[]).unwrap().process;
        assert_eq!(process.segments[0].start % alignment, address % alignment);
    }
}

#[test]
fn only_headers_are_read_whatever_the_size() {
    let big = ElfMaker::program(&exit_with(0)).with_bytes(1 << 20, &[1; 1 << 20]).with(Header::load(
        R | W,
        1 << 20,
        0x60_0000,
        1 << 20,
        1 << 20,
    ));
    let tree = Tree::default().with("/d", big.bytes());
    execute(&tree, "/d", &[b"x"]).unwrap();
    assert!(tree.get("/d").read.get() <= 256, "{}", tree.get("/d").read.get());
}

#[test]
fn the_interpreter_is_entered_and_the_program_described() {
    let program = ElfMaker::relocatable(&exit_with(1)).with_interpreter(b"/ld\0");
    let tree = Tree::default().with("/p", program.bytes()).with("/ld", ElfMaker::relocatable(&exit_with(2)).bytes());
    let request = Request { random: randomness(false), ..request("/p") };
    let image = execute_as(&tree, &request, &KernelArguments { arguments: &[], environment: &[] }).unwrap();
    let base = 0x7fff_f7ff_f000 - 0x1000;
    assert_eq!(image.process.entry_point, base + 0x800);
    let value = |key: u64| image.process.auxiliary.iter().find(|pair| pair[0] == key).unwrap()[1];
    assert_eq!((value(7), value(9), value(3)), (base, 0x5555_5555_4800, 0x5555_5555_4040));
}
