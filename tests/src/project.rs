//! Where things are, and the commands that make them: kernels, images, archives of programs.

use crate::failure::Failure;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// Keel's folder: the parent of this crate's.
pub fn root() -> PathBuf {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_folder.parent().unwrap_or(crate_folder).to_path_buf()
}

/// The released kernel.
pub fn kernel() -> PathBuf {
    root().join("target/x86_64-kernel/release/keel.elf")
}

/// The kernel with the in-kernel tests in it.
pub fn test_kernel() -> PathBuf {
    root().join("target/x86_64-kernel/kernel-tests/keel.elf")
}

/// A folder for what a run leaves behind: logs, pictures, images.
pub fn artifacts() -> Result<PathBuf, Failure> {
    let folder = root().join("target/test-artifacts");
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// A file name made from a test's name.
pub fn file_name(test: &str) -> String {
    test.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect()
}

/// Runs a command in Keel's folder; its output is shown only when it fails.
pub fn run(program: impl AsRef<OsStr>, arguments: &[&str], environment: &[(&str, &str)]) -> Result<(), Failure> {
    let mut command = Command::new(program);
    command.args(arguments).envs(environment.iter().copied()).current_dir(root());
    let output = command.output().map_err(|error| Failure::new(format!("{command:?}: {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    let text = [output.stdout, output.stderr].concat();
    Err(Failure::new(format!("{command:?} ended with {}", output.status))
        .with_guest_output(&String::from_utf8_lossy(&text)))
}

/// Makes an image as `make iso` does, under the artifacts, and returns its path.
pub fn make_iso(name: &str, environment: &[(&str, &str)]) -> Result<PathBuf, Failure> {
    make_iso_of(&kernel(), name, environment)
}

/// The same with another kernel in it.
pub fn make_iso_of(kernel: &Path, name: &str, environment: &[(&str, &str)]) -> Result<PathBuf, Failure> {
    let image = artifacts()?.join(name);
    run(root().join("tools/make-iso"), &[&kernel.to_string_lossy(), &image.to_string_lossy()], environment)?;
    Ok(image)
}

/// A fresh, empty folder that is removed when it is dropped.
pub struct TemporaryFolder(PathBuf);

impl TemporaryFolder {
    /// Short, since a socket's path has room for 108 bytes.
    pub fn new() -> Result<TemporaryFolder, Failure> {
        static COUNTER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = COUNTER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = env::temp_dir().join(format!("keel-{}-{number}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path)?;
        Ok(TemporaryFolder(path))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tests_name_becomes_a_plain_file_name() {
        assert_eq!(file_name("q35, UEFI: 64 MiB"), "q35--UEFI--64-MiB");
    }

    #[test]
    fn a_failing_command_is_told_with_its_output() {
        let failure = run("sh", &["-c", "echo broken; exit 3"], &[]).unwrap_err().to_string();
        assert!(failure.contains("broken") && failure.contains("exit status: 3"), "{failure}");
    }

    /// Lines that are neither blank nor a comment, up to the file's own tests.
    fn lines_of_code(text: &str) -> usize {
        let lines = text.lines().map(str::trim).take_while(|line| *line != "#[cfg(test)]");
        lines.filter(|line| !line.is_empty() && !line.starts_with("//") && !line.starts_with(';')).count()
    }

    /// The files that docs/tour.md names in each story, and in what it leaves for later.
    fn stories() -> Vec<[Vec<String>; 2]> {
        let tour = fs::read_to_string(root().join("docs/tour.md")).unwrap();
        let (_, rest) = tour.split_once("\n1. ").unwrap();
        let (stories, _) = rest.split_once("\n## ").unwrap();
        let paths = |text: &str| text.split('`').filter(|word| word.contains('/')).map(str::to_owned).collect();
        let parts = |story: &str| story.split_once("*Further*").map(|(told, further)| [paths(told), paths(further)]);
        stories.split(". **").filter_map(parts).collect()
    }

    #[test]
    fn the_six_stories_of_the_tour_are_there_and_short() {
        let stories = stories();
        assert_eq!(stories.len(), 6);
        let missing = stories.iter().flatten().flatten().find(|path| !root().join(path).is_file());
        assert_eq!(missing, None);
        let told = stories.iter().flat_map(|[told, _]| told);
        let lines: usize = told.map(|path| lines_of_code(&fs::read_to_string(root().join(path)).unwrap())).sum();
        assert!((1000..2000).contains(&lines), "the six stories have {lines} lines of code");
    }
}
