//! `#!`: what arguments does the interpreter get, and where does nesting end? On Keel's chain and on Linux.

use super::files::write_executable;
use super::*;
use crate::exec::elf_maker::{ElfMaker, print_arguments};
use std::process::Command;

/// A tree in one directory of the host, and the same one for the chain.
struct Both {
    directory: String,
    tree: Tree,
}

impl Both {
    fn new(name: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("keel-script-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let both = Self { directory: directory.to_str().unwrap().to_string(), tree: Tree::default() };
        both.add("print", &ElfMaker::program(&print_arguments()).bytes())
    }

    fn add(mut self, name: &str, bytes: &[u8]) -> Self {
        let path = self.path(name);
        write_executable(path.as_ref(), bytes);
        self.tree = std::mem::take(&mut self.tree).with(&path, bytes);
        self
    }

    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.directory)
    }

    fn keel(&self, name: &str) -> Result<Vec<u8>, Errno> {
        let image = execute(&self.tree, &self.path(name), &[b"zero", b"one", b""])?;
        let strings = image.process.argument_strings;
        image.memory.read(strings.start, (strings.end - strings.start) as usize)
    }

    fn linux(&self, name: &str) -> Result<Vec<u8>, i32> {
        let mut command = Command::new(self.path(name));
        std::os::unix::process::CommandExt::arg0(&mut command, "zero");
        loop {
            match command.args(["one", ""]).env_clear().env("A", "B").output() {
                Ok(output) => return Ok(output.stdout),
                Err(error) if error.raw_os_error() == Some(Errno::ETXTBSY as i32) => {
                    command = Command::new(self.path(name));
                    std::os::unix::process::CommandExt::arg0(&mut command, "zero");
                }
                Err(error) => return Err(error.raw_os_error().unwrap()),
            }
        }
    }

    fn compare(&self, name: &str) -> Result<Vec<u8>, Errno> {
        let keel = self.keel(name);
        assert_eq!(keel.clone().map_err(|errno| errno as i32), self.linux(name), "{name}");
        keel
    }
}

impl Drop for Both {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

#[test]
fn the_interpreter_gets_its_argument_and_the_path() {
    let both = Both::new("arguments");
    let print = both.path("print");
    let long = "y".repeat(300);
    let lines = [
        format!("#!{print}\n"),
        format!("#! {print} -a  b c \t\nrest"),
        format!("#!{print} -x"),
        format!("#!{print} -x "),
        format!("#!{print}"),
        format!("#!{print} {long}\n"),
        format!("#!{print} \0tail\n"),
        format!("#!{print}\0tail\n"),
        format!("#!\t{print}\targument\twith\ttabs\t\n"),
        format!("#!{print} \n"),
    ];
    let both = lines.iter().enumerate().fold(both, |both, (at, line)| both.add(&format!("s{at}"), line.as_bytes()));
    for at in 0..lines.len() {
        both.compare(&format!("s{at}")).unwrap();
    }
    let expected = [print.as_str(), "-a  b c", &both.path("s1"), "one", ""].map(|text| format!("{text}\0")).concat();
    assert_eq!(both.keel("s1").unwrap(), expected.as_bytes());
}

#[test]
fn lines_without_an_interpreter_are_refused() {
    let mut both = Both::new("refused");
    let lines: [&[u8]; 8] = [
        b"#!\n",
        b"#!   \n",
        b"#!",
        b"#",
        b"#!/nowhere/at/all\n",
        b"#!/\n",
        b"#!\0\n",
        &[b"#!/".as_slice(), &[b'x'; 300], b"\n"].concat(),
    ];
    for (at, line) in lines.iter().enumerate() {
        both = both.add(&format!("s{at}"), line);
        both.compare(&format!("s{at}")).unwrap_err();
    }
}

#[test]
fn nesting_ends_with_eloop() {
    let mut both = Both::new("nested");
    let mut below = both.path("print");
    for depth in 0..8 {
        let name = format!("s{depth}");
        both = both.add(&name, format!("#!{below} {depth}\n").as_bytes());
        below = both.path(&name);
        let result = both.compare(&name);
        assert_eq!(result.is_ok(), depth < 5, "{depth}");
    }
    let own = both.path("loop");
    let both = both.add("loop", format!("#!{own}\n").as_bytes());
    assert_eq!(both.compare("loop"), Err(Errno::ELOOP));
}

#[test]
fn a_script_by_a_closing_descriptor_is_enoent() {
    let both = Both::new("vanishes");
    let print = both.path("print");
    let both = both.add("s", format!("#!{print}\n").as_bytes());
    let path = both.path("s");
    let arguments = KernelArguments { arguments: &[], environment: &[] };
    let gone = Request { filename_vanishes: true, ..request(&path) };
    assert_eq!(execute_as(&both.tree, &gone, &arguments).err(), Some(Errno::ENOENT));
    // A program needs its name no more.
    assert!(execute_as(&both.tree, &Request { filename: print.as_bytes(), ..gone }, &arguments).is_ok());
}
