//! The init that is part of the kernel: what runs where no other init can be started.
//!
//! It is an ordinary program (asm/user/fallback_init.asm), a whole ELF file that build.rs has NASM write. It is told on its
//! command line why it runs, and shows it.

use crate::errno::Errno;
use core::fmt;

/// The ELF file.
pub static IMAGE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/fallback_init.elf"));

/// Its `argv[0]`, and its name in messages.
pub const NAME: &str = "fallback-init";

/// Where inits are looked for when the command line names none: where a system's is, where an initramfs's is, and last any
/// shell.
pub const INIT_PATHS: [&str; 4] = ["/sbin/init", "/init", "/bin/init", "/bin/sh"];

/// Why there is no other init. As text, it goes to the log and to the fallback's arguments.
#[derive(Clone, Copy)]
pub enum Reason<'a> {
    NoInitrd,
    /// The initrd was read up to some entry only.
    BrokenInitrd(&'a dyn fmt::Display),
    CannotStart(&'a str, Errno),
    NothingAtTheUsualPlaces,
}

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoInitrd => write!(f, "There is no initrd: the loader passed no module."),
            Self::BrokenInitrd(error) => write!(f, "The initrd is broken: {error}."),
            Self::CannotStart(path, error) => write!(f, "{path} can't be started: {}.", error.description()),
            Self::NothingAtTheUsualPlaces => {
                write!(f, "There is no init: none of")?;
                INIT_PATHS.iter().try_for_each(|path| write!(f, " {path}"))?;
                write!(f, " can be started, and the command line names none (init=PATH).")
            }
        }
    }
}

/// The program is one for Linux as well: there it shows what it does.
#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::{CheckedElf, ExecutableFile, read_head};
    use std::io::{ErrorKind, Write};
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;
    use std::process::{Command, Stdio};

    impl ExecutableFile for &[u8] {
        fn size(&self) -> u64 {
            self.len() as u64
        }

        fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<usize, Errno> {
            let rest = &self[self.len().min(offset as usize)..];
            let count = rest.len().min(into.len());
            into[..count].copy_from_slice(&rest[..count]);
            Ok(count)
        }
    }

    struct Program {
        folder: PathBuf,
    }

    impl Program {
        fn new(name: &str) -> Self {
            let folder = std::env::temp_dir().join(format!("keel-fallback-{name}-{}", std::process::id()));
            std::fs::create_dir_all(folder.join("things/inner")).unwrap();
            std::fs::write(folder.join("things/note"), "a note\n").unwrap();
            std::fs::write(folder.join("init"), IMAGE).unwrap();
            std::fs::set_permissions(folder.join("init"), PermissionsExt::from_mode(0o755)).unwrap();
            Self { folder }
        }

        /// What it prints after its greeting for these lines of input, and how it ends.
        fn answers(&self, input: &[u8]) -> (String, Option<i32>) {
            let mut command = Command::new(self.folder.join("init"));
            command.arg("No reason.").current_dir(&self.folder).stdin(Stdio::piped()).stdout(Stdio::piped());
            // Another test's child may hold the file open for writing between its fork and its exec.
            let mut child = loop {
                match command.spawn() {
                    Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => std::thread::yield_now(),
                    spawned => break spawned.unwrap(),
                }
            };
            child.stdin.take().unwrap().write_all(input).unwrap();
            let output = child.wait_with_output().unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            assert!(text.contains("built-in init") && text.contains("\nNo reason.\n"), "{text}");
            let answers = text.split_once("what can be done here.\n").expect("a greeting").1;
            (answers.to_string(), output.status.code())
        }
    }

    impl Drop for Program {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }

    #[test]
    fn the_kernel_would_run_it() {
        let head = read_head(&IMAGE).unwrap();
        assert!(CheckedElf::check(&IMAGE, &head).is_ok());
    }

    #[test]
    fn it_shows_files_and_runs_programs() {
        let program = Program::new("shows");
        let (text, status) =
            program.answers(b"cat things/note\nls things/inner\n\n  run   /bin/false x\n/bin/echo a  b\n");
        assert_eq!(text, "keel> a note\nkeel> keel> keel> ended with status 1\nkeel> a b\nkeel> \nEnd of input.\n");
        assert_eq!(status, Some(0));
        let (text, _) = program.answers(b"ls things");
        let mut lines: Vec<_> = text.trim_start_matches("keel> ").lines().take(2).collect();
        lines.sort();
        assert_eq!(lines, ["inner/", "note"]);
        let (text, status) = program.answers(b"exec /bin/sh -c exit;\nnot read\n");
        assert_eq!((text.as_str(), status), ("keel> ", Some(0)));
    }

    #[test]
    fn mistakes_are_named() {
        let program = Program::new("mistakes");
        let (text, status) =
            program.answers(b"cat\ncat none\nls things/note\ncat things\nfoo bar\nexec things/note\nrun none\n");
        let expected = [
            "which file? Give a path",
            "none: no such file or directory",
            "things/note: not a directory",
            "things: is a directory",
            "foo: no such command; `help` lists them",
            "things/note: permission denied",
            "none: no such file or directory",
            "ended with status 127",
            "",
            "End of input.",
        ];
        assert_eq!(text.replace("keel> ", "").lines().collect::<Vec<_>>(), expected);
        assert_eq!(status, Some(0));
    }

    #[test]
    fn lines_of_any_length_and_content_do_no_harm() {
        let program = Program::new("lines");
        for input in
            [vec![b'x'; 5_000], b"a ".repeat(600), b"\0\x01\xff \t\0\n".repeat(50), b" ".repeat(600), Vec::new()]
        {
            let (text, status) = program.answers(&[&input[..], b"\ncat things/note\n"].concat());
            assert!(text.contains("keel> a note\n"), "{text}");
            assert_eq!(status, Some(0));
        }
    }
}
