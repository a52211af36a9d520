//! What the kernels start from: the same folders as a tar archive for Keel, and as a cpio archive for Linux; and Debian's
//! packages, which are unpacked and never installed.

use crate::failure::Failure;
use crate::project;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// One root folder in both forms.
#[derive(Debug, Clone)]
pub struct Archives {
    pub tar: PathBuf,
    /// None where there is no cpio.
    pub cpio: Option<PathBuf>,
}

/// user/bench as init, and BusyBox where it can be had.
pub fn of_bench(folder: &Path) -> Result<Archives, Failure> {
    let root = fresh(&folder.join("root"))?;
    for name in ["bin", "sbin", "dev", "proc", "tmp"] {
        fs::create_dir(root.join(name))?;
    }
    let programs = project::root().join("user/target/x86_64-unknown-linux-gnu/release");
    fs::copy(programs.join("bench"), root.join("sbin/init"))?;
    std::os::unix::fs::symlink("sbin/init", root.join("init"))?;
    match unpacked("busybox-static") {
        Ok(package) => drop(fs::copy(package.join("bin/busybox"), root.join("bin/busybox"))?),
        Err(failure) => eprintln!("bench: without BusyBox: {}", failure.reason()),
    }
    pack(&root)
}

/// Keel's own init and shell, as the image has them.
pub fn of_system(folder: &Path) -> Result<Archives, Failure> {
    let root = fresh(&folder.join("system"))?;
    let destination = format!("DESTDIR={}", root.display());
    project::run("make", &["-s", "-C", "user", "install-system", &destination], &[])?;
    pack(&root)
}

fn fresh(folder: &Path) -> Result<PathBuf, Failure> {
    let _ = fs::remove_dir_all(folder);
    fs::create_dir_all(folder)?;
    Ok(folder.to_path_buf())
}

fn pack(root: &Path) -> Result<Archives, Failure> {
    let tar = root.with_extension("tar");
    let cpio = root.with_extension("cpio");
    let (from, to) = (root.to_string_lossy(), tar.to_string_lossy());
    let owner = ["--owner=0", "--group=0", "--numeric-owner", "--sort=name", "--mtime=@0"];
    project::run("tar", &[&["-C", &from, "--create", "--format=gnu", "-f", &to], &owner[..], &["."]].concat(), &[])?;
    let script = "cd \"$1\" && find . | LC_ALL=C sort | cpio --quiet -o -H newc -R 0:0 > \"$2\"";
    let packed = project::run("sh", &["-c", script, "sh", &from, &cpio.to_string_lossy()], &[]);
    Ok(Archives { tar, cpio: packed.is_ok().then_some(cpio) })
}

/// The folder of an unpacked Debian package.
fn unpacked(package: &str) -> Result<PathBuf, Failure> {
    let output = Command::new(project::root().join("tools/debian-package")).arg(package).output()?;
    if output.status.success() {
        return Ok(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(Failure::new(said.lines().last().unwrap_or("tools/debian-package failed").to_owned()))
}

/// Debian's Linux: the image of the package, or of the one that it stands for.
pub fn linux(package: &str) -> Result<PathBuf, Failure> {
    let depends = |package: &str| {
        let output = Command::new("apt-cache").args(["depends", package]).output().ok()?;
        kernel_package(&String::from_utf8_lossy(&output.stdout))
    };
    let package = match depends(package) {
        Some(found) => found,
        None => {
            // A fresh machine has no package lists yet.
            let _ = Command::new(project::root().join("tools/need")).arg("--update").output();
            depends(package).unwrap_or_else(|| package.to_owned())
        }
    };
    let boot = unpacked(&package)?.join("boot");
    let images = fs::read_dir(&boot)?.filter_map(Result::ok).map(|entry| entry.path());
    let is_image = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz"));
    images.into_iter().find(is_image).ok_or_else(|| Failure::new(format!("there is no kernel in {}", boot.display())))
}

/// The kernel's own package among what a package depends on, as apt-cache prints it.
fn kernel_package(depends: &str) -> Option<String> {
    let names = depends.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
    names.map(str::trim).find(|name| name.starts_with("linux-image-")).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_package_of_the_newest_kernel_is_found_in_what_apt_says() {
        let said = "linux-image-cloud-amd64\n  Depends: linux-image-6.1.0-56-cloud-amd64\n  Suggests: x\n";
        assert_eq!(kernel_package(said).as_deref(), Some("linux-image-6.1.0-56-cloud-amd64"));
        assert_eq!(kernel_package("x\n  Depends: kmod\n"), None);
        assert_eq!(kernel_package(""), None);
    }
}
