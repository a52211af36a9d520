//! The fixed corpus, in ordinary tests: each file as it is, cut short at many places, and with single bytes changed.

use std::path::Path;

fn run(name: &str, target: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let mut count = 0;
    for file in std::fs::read_dir(&folder).expect("a corpus") {
        let bytes = std::fs::read(file.expect("a file").path()).expect("its contents");
        target(&bytes);
        for length in (0..bytes.len()).step_by(bytes.len() / 64 + 1) {
            target(&bytes[..length]);
        }
        for at in 0..bytes.len().min(1024) {
            for value in [0, 1, 0x20, 0x7f, 0x80, 0xff] {
                let mut changed = bytes.clone();
                changed[at] = value;
                target(&changed);
            }
        }
        count += 1;
    }
    assert!(count > 0, "{} is empty", folder.display());
}

#[test]
fn elf() {
    run("elf", keel_fuzz::elf);
}

#[test]
fn script() {
    run("script", keel_fuzz::script);
}

#[test]
fn tar() {
    run("tar", keel_fuzz::tar);
}

#[test]
fn command_line() {
    run("command_line", keel_fuzz::command_line);
}
