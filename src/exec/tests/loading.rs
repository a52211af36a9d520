//! Does the kernel's address space, over simulated frames, hold what the plain map of the other tests holds?

use super::*;
use crate::exec::ImageMemory;
use crate::exec::elf_maker::{Outcome, cases};
use crate::exec::load::NewImage;
use crate::memory::{AreaFlags, Limits, Protection, frames};

fn load(tree: &Tree, request: &Request) -> Result<Prepared<File, NewImage<File>>, Errno> {
    let file = crate::exec::Programs::open(tree, request.filename)?;
    let arguments = KernelArguments { arguments: &[b"one", b"two"], environment: &[b"A=B"] };
    prepare(file, request, tree, &arguments, |_| NewImage::new(Limits::DEFAULT))
}

#[test]
fn both_kinds_of_memory_hold_the_same_image() {
    load_all();
    // Page tables are kept for the next address space: only the second round shows a leak.
    let free_before = frames::counts().free;
    load_all();
    assert_eq!(frames::counts().free, free_before, "frames leaked");
}

fn load_all() {
    for case in cases("/d") {
        let path = format!("/d/{}", case.name);
        let mut tree = Tree::default().with(&path, case.file.clone());
        if let Some((name, bytes)) = &case.companion {
            tree = tree.with(&format!("/d/{name}"), bytes.clone());
        }
        let request = request(&path);
        let arguments = KernelArguments { arguments: &[b"one", b"two"], environment: &[b"A=B"] };
        match (load(&tree, &request), execute_as(&tree, &request, &arguments)) {
            (Ok(mut real), Ok(model)) => compare(case.name, &mut real.memory, &model),
            (Err(real), Err(model)) => assert_eq!(real, model, "{}", case.name),
            (real, model) => panic!("{}: {:?} but {:?}", case.name, real.err(), model.err()),
        }
        assert!(matches!(case.keel, Outcome::Refused(_)) || load(&tree, &request).is_ok());
    }
}

fn compare(name: &str, real: &mut NewImage<File>, model: &Prepared<File, Image>) {
    let pages = model.memory.areas.iter().rev().take(40).map(|(pages, ..)| pages.clone());
    for page in pages.flat_map(|pages| [pages.start, pages.end - 4096]) {
        let mut bytes = [0; 4096];
        let found = real.space.read_bytes(page, &mut bytes).ok();
        let expected = model.memory.read(page, 4096).ok();
        assert_eq!(found.map(|()| bytes.to_vec()), expected, "{name}: {page:#x}");
        let expected = model.memory.protection(page).expect("mapped");
        let area = real.space.areas().find(page).expect("an area");
        assert_eq!(area.mapping.protection, expected.into(), "{name}: {page:#x}");
    }
    assert_eq!(real.space.heap(), model.process.heap_start..model.process.heap_end);
}

#[test]
fn the_stack_grows_and_is_never_executable() {
    let tree = Tree::default()
        .with("/d", crate::exec::elf_maker::ElfMaker::program(&crate::exec::elf_maker::exit_with(0)).bytes());
    let image = load(&tree, &request("/d")).unwrap();
    let area = image.memory.space.areas().find(image.process.stack_pointer).unwrap();
    assert!(area.mapping.flags.contains(AreaFlags::GROWS_DOWN | AreaFlags::STACK));
    assert_eq!(area.mapping.protection, Protection::READ | Protection::WRITE);
    assert_eq!(image.process.page_table_frame, image.memory.page_table_frame());
}
