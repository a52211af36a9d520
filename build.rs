//! Assembles asm/*.asm with NASM and hands the objects and the linker script to the kernel's link. What user mode
//! gets from the kernel, asm/user/, becomes ELF files, which src/exec includes: the built-in init and the vDSO.
//!
//! Only the kernel target is linked from assembly; the host (unit tests, fuzzing) needs just those files.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-changed=asm");
    println!("cargo::rerun-if-changed=linker.ld");
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    for program in ["fallback_init", "vdso"] {
        let source = root.join("asm/user").join(program).with_extension("asm");
        assemble(&root, &["-f", "bin"], &source, &out.join(program).with_extension("elf"));
    }
    if env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("none") {
        return;
    }
    for source in nasm_sources(&root.join("asm")) {
        let object = out.join(source.file_stem().expect("a source has a name")).with_extension("o");
        assemble(&root, &OBJECT_FORMAT, &source, &object);
        println!("cargo::rustc-link-arg-bins={}", object.display());
    }
    println!("cargo::rustc-link-arg-bins=-T{}", root.join("linker.ld").display());
    for flag in ["-z", "max-page-size=4096", "-z", "noexecstack", "--no-dynamic-linker", "--build-id=none", "-n"] {
        println!("cargo::rustc-link-arg-bins={flag}");
    }
}

const OBJECT_FORMAT: [&str; 5] = ["-f", "elf64", "-g", "-F", "dwarf"];

/// Every .asm file of the folder, in a stable order; .inc files are included by them.
fn nasm_sources(folder: &Path) -> Vec<PathBuf> {
    let mut sources: Vec<PathBuf> = fs::read_dir(folder)
        .expect("asm/ is part of the tree")
        .map(|entry| entry.expect("asm/ is readable").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "asm"))
        .collect();
    sources.sort();
    sources
}

fn assemble(root: &Path, format: &[&str], source: &Path, output: &Path) {
    let status = Command::new("nasm")
        .args(format)
        .args(["-w+all", "-w-reloc-rel-dword", "-w-reloc-abs-dword", "-w-reloc-abs-qword", "-Werror"])
        .arg(format!("-I{}/", root.join("asm").display()))
        .arg("-o")
        .arg(output)
        .arg(source)
        .status();
    match status {
        Ok(status) if status.success() => {}
        Ok(_) => panic!("nasm could not assemble {}", source.display()),
        Err(error) => panic!("nasm could not be started ({error}); on Debian and Ubuntu: apt install nasm"),
    }
}
