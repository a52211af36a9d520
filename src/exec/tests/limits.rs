//! How much may be given to a program? The limits of Linux, to the byte, and the host's Linux beside them.

use super::files::write_executable;
use super::*;
use crate::exec::arguments::LONGEST_STRING;
use crate::exec::elf_maker::{ElfMaker, exit_with};
use std::process::Command;

fn keel(path: &str, tree: &Tree, stack_limit: u64, sizes: &[usize]) -> Result<(), Errno> {
    let strings: Vec<_> = sizes.iter().map(|size| vec![b'x'; *size]).collect();
    let strings: Vec<_> = strings.iter().map(Vec::as_slice).collect();
    let request = Request { caller: caller(stack_limit), ..request(path) };
    execute_as(tree, &request, &KernelArguments { arguments: &strings, environment: &[] }).map(|_| ())
}

/// The shell lowers its own limit and executes the program, with the first size's string in place of argv[0].
fn linux(path: &str, stack_limit: u64, sizes: &[usize]) -> Result<(), Errno> {
    assert_eq!(sizes[0], path.len());
    let mut command = Command::new("/bin/sh");
    command.env_clear().args([
        "-c",
        &format!("unset PWD; ulimit -S -s {} && exec \"$@\"", stack_limit >> 10),
        "sh",
        path,
    ]);
    let status = command.args(sizes[1..].iter().map(|size| "x".repeat(*size))).stderr(std::process::Stdio::null());
    match status.status().unwrap().code() {
        Some(42) => Ok(()),
        Some(126) => Err(Errno::E2BIG),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_longest_arguments_run_and_one_byte_more_is_e2big() {
    let path = std::env::temp_dir().join(format!("keel-limits-{}", std::process::id()));
    write_executable(&path, &ElfMaker::program(&exit_with(42)).bytes());
    let name = path.to_str().unwrap();
    let tree = Tree::default().with(name, ElfMaker::program(&exit_with(42)).bytes());
    let first = name.len();
    // The shell's own limit is the usual 8 MiB: it has room for what its lowered one lets through.
    for (stack_limit, strings) in [(2 << 20, 5), (512 << 10, 2), (4 << 20, 40)] {
        let limit = (stack_limit as usize / 4).max(128 << 10);
        let pointers = 8 * (strings + 1);
        // The name stands there twice: as the file's, and as argv[0].
        let room = limit - pointers - 2 * (first + 1);
        let mut sizes = vec![first];
        sizes.resize(strings, (room / strings).min(LONGEST_STRING) - 1);
        let used: usize = sizes[1..].iter().map(|size| size + 1).sum();
        if room - used > LONGEST_STRING {
            continue;
        }
        sizes.push(room - used - 1);
        for (more, expected) in [(0, Ok(())), (1, Err(Errno::E2BIG))] {
            *sizes.last_mut().unwrap() += more;
            assert_eq!(keel(name, &tree, stack_limit as u64, &sizes), expected, "keel, {stack_limit} {strings}");
            assert_eq!(linux(name, stack_limit as u64, &sizes), expected, "linux, {stack_limit} {strings}");
        }
    }
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn one_string_may_take_32_pages_with_its_nul() {
    let tree = Tree::default().with("/d", ElfMaker::program(&exit_with(0)).bytes());
    assert_eq!(keel("/d", &tree, 8 << 20, &[LONGEST_STRING - 1]), Ok(()));
    assert_eq!(keel("/d", &tree, 8 << 20, &[LONGEST_STRING]), Err(Errno::E2BIG));
}

#[test]
fn a_stack_too_small_for_the_strings_is_e2big() {
    let tree = Tree::default().with("/d", ElfMaker::program(&exit_with(0)).bytes());
    assert_eq!(keel("/d", &tree, 64 << 10, &[40 << 10]), Ok(()));
    assert_eq!(keel("/d", &tree, 64 << 10, &[64 << 10]), Err(Errno::E2BIG));
    assert_eq!(keel("/d", &tree, 0, &[10]), Ok(()));
}

/// Endless lists of pointers, and pointers that go bad.
struct Endless {
    bad_pointer: Option<(crate::exec::List, usize)>,
    bad_string: Option<(crate::exec::List, usize)>,
    count: usize,
}

impl Arguments for Endless {
    fn has(&self, list: crate::exec::List, index: usize) -> Result<bool, Errno> {
        if self.bad_pointer == Some((list, index)) {
            return Err(Errno::EFAULT);
        }
        Ok(index < self.count)
    }

    fn length(&self, list: crate::exec::List, index: usize, _: usize) -> Result<Option<usize>, Errno> {
        if self.bad_string == Some((list, index)) { Err(Errno::EFAULT) } else { Ok(Some(3)) }
    }

    fn copy(&self, _: crate::exec::List, _: usize, _: usize, into: &mut [u8]) -> Result<(), Errno> {
        into.fill(b'x');
        Ok(())
    }
}

#[test]
fn pointers_count_too_and_end_somewhere() {
    let tree = Tree::default().with("/d", ElfMaker::program(&exit_with(0)).bytes());
    let endless = Endless { bad_pointer: None, bad_string: None, count: usize::MAX };
    assert_eq!(execute_as(&tree, &request("/d"), &endless).err(), Some(Errno::E2BIG));
}

#[test]
fn a_bad_pointer_at_any_place_is_efault() {
    use crate::exec::List::{Arguments, Environment};
    let tree = Tree::default().with("/d", ElfMaker::program(&exit_with(0)).bytes());
    for list in [Arguments, Environment] {
        for index in 0..8 {
            let pointer = Endless { bad_pointer: Some((list, index)), bad_string: None, count: 8 };
            assert_eq!(execute_as(&tree, &request("/d"), &pointer).err(), Some(Errno::EFAULT));
            let string = Endless { bad_pointer: None, bad_string: Some((list, index)), count: 8 };
            assert_eq!(execute_as(&tree, &request("/d"), &string).err(), Some(Errno::EFAULT));
        }
    }
}
