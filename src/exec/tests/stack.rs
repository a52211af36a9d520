//! The first stack: does a program find in it what the ABI says, for every number of arguments?

use super::*;
use crate::exec::elf_maker::{ElfMaker, exit_with};
use crate::exec::stack::AUX_ENTRIES;
use crate::task::credentials::Ids;

fn image(argument_count: usize, environment_count: usize) -> Prepared<File, Image> {
    let name = |kind: &str, index| format!("{kind}{index}={}", "v".repeat(index * 37)).into_bytes();
    let arguments: Vec<_> = (0..argument_count).map(|index| name("a", index)).collect();
    let environment: Vec<_> = (0..environment_count).map(|index| name("e", index)).collect();
    let arguments: Vec<_> = arguments.iter().map(Vec::as_slice).collect();
    let environment: Vec<_> = environment.iter().map(Vec::as_slice).collect();
    let mut tree = Tree::default().with("/bin/x", ElfMaker::program(&exit_with(0)).bytes());
    tree.credentials = Credentials::new(
        Ids { real: 1, effective: 2, saved: 2, file_system: 2 },
        Ids { real: 3, effective: 4, saved: 4, file_system: 4 },
        &[],
    )
    .unwrap()
    .into();
    let arguments = KernelArguments { arguments: &arguments, environment: &environment };
    execute_as(&tree, &request("/bin/x"), &arguments).unwrap()
}

#[test]
fn every_count_leaves_the_stack_aligned_and_complete() {
    for argument_count in 0..=16 {
        for environment_count in 0..=16 {
            let image = image(argument_count, environment_count);
            let mut at = image.process.stack_pointer;
            assert_eq!(at % 16, 0);
            let mut next = || {
                at += 8;
                image.memory.word(at - 8)
            };
            // Without arguments there is an empty one.
            assert_eq!(next(), argument_count.max(1) as u64);
            for index in 0..argument_count.max(1) {
                let expected =
                    if argument_count == 0 { String::new() } else { format!("a{index}={}", "v".repeat(index * 37)) };
                assert_eq!(image.memory.string(next()), expected.as_bytes());
            }
            assert_eq!(next(), 0);
            for index in 0..environment_count {
                assert_eq!(image.memory.string(next()), format!("e{index}={}", "v".repeat(index * 37)).as_bytes());
            }
            assert_eq!(next(), 0);
            for word in image.process.auxiliary.as_flattened() {
                assert_eq!(next(), *word);
            }
            assert!(at <= image.process.argument_strings.start);
        }
    }
}

#[test]
fn the_auxiliary_vector_is_true_and_in_linux_order() {
    let image = image(1, 1);
    let pairs: Vec<_> = image.process.auxiliary.to_vec();
    assert_eq!(pairs.len(), AUX_ENTRIES);
    let value = |key| pairs.iter().find(|pair| pair[0] == key).unwrap()[1];
    let simple = [(4, 56), (5, 1), (6, 4096), (7, 0), (8, 0), (9, 0x40_0800), (3, 0x40_0040), (17, 100)];
    for (key, expected) in simple {
        assert_eq!(value(key), expected, "AT {key}");
    }
    for (key, expected) in [(11, 1), (12, 2), (13, 3), (14, 4), (23, 1), (16, 0x1122_3344), (26, 2), (51, 0x900)] {
        assert_eq!(value(key), expected, "AT {key}");
    }
    assert_eq!(image.memory.read(value(25), 16).unwrap(), b"0123456789abcdef");
    assert_eq!(image.memory.string(value(31)), b"/bin/x");
    assert_eq!(image.memory.string(value(15)), b"x86_64");
    // The file's name is the topmost string, and ends right below eight bytes of zeroes.
    assert_eq!(value(31) + 7 + 8, image.memory.stack.end);
    let own = std::fs::read("/proc/self/auxv").unwrap();
    let linux: Vec<_> = own.chunks(16).map(|pair| u64::from_le_bytes(pair[..8].try_into().unwrap())).collect();
    let ours: Vec<_> = pairs.iter().map(|pair| pair[0]).collect();
    // Keel has no restartable sequences.
    let without = [27, 28];
    let linux: Vec<_> = linux.into_iter().filter(|key| !without.contains(key)).collect();
    assert_eq!(ours, linux);
}

#[test]
fn the_stack_is_mapped_with_room_to_grow() {
    let image = image(2, 2);
    assert!(image.memory.stack.end - image.memory.stack.start >= 128 << 10);
    assert!(image.memory.stack.contains(&image.process.stack_pointer));
    let protection = image.memory.protection(image.process.stack_pointer).unwrap();
    assert!(protection.read && protection.write && !protection.execute);
}

/// Strings that are shorter when they are copied than when they were measured.
struct Changing;

impl Arguments for Changing {
    fn has(&self, list: crate::exec::List, index: usize) -> Result<bool, Errno> {
        Ok(list == crate::exec::List::Arguments && index < 2)
    }

    fn length(&self, _: crate::exec::List, _: usize, _: usize) -> Result<Option<usize>, Errno> {
        Ok(Some(5000))
    }

    fn copy(&self, _: crate::exec::List, _: usize, from: usize, into: &mut [u8]) -> Result<(), Errno> {
        for (at, byte) in into.iter_mut().enumerate() {
            *byte = if from + at == 10 { 0 } else { b'x' };
        }
        Ok(())
    }
}

#[test]
fn strings_that_change_meanwhile_keep_their_places() {
    let tree = Tree::default().with("/d", ElfMaker::program(&exit_with(0)).bytes());
    let image = execute_as(&tree, &request("/d"), &Changing).unwrap();
    let second = image.memory.word(image.process.stack_pointer + 16);
    assert_eq!(second - image.memory.word(image.process.stack_pointer + 8), 5001);
    assert_eq!(image.memory.string(second), [b'x'; 10]);
    assert_eq!(image.memory.read(second - 1, 1).unwrap(), [0]);
}
