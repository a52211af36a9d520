//! Tools for the tree of files: chmod, cp, ln, ls, mkdir, mv, pwd, rm, rmdir, touch.

use crate::{Outcome, for_each, options, reason};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// `ls [-alidF1] [PATH…]`
pub fn ls(arguments: &[String]) -> Outcome {
    let (letters, paths) = options(arguments);
    let own = [".".to_owned()];
    let paths = if paths.is_empty() { &own } else { paths };
    for_each(paths, |path| {
        let metadata = match fs::metadata(path) {
            Ok(metadata) if !letters.contains('l') || letters.contains('/') => metadata,
            _ => fs::symlink_metadata(path)?,
        };
        if !metadata.is_dir() || letters.contains('d') {
            print_entry(path, Path::new(path), &metadata, &letters);
            return Ok(());
        }
        if paths.len() > 1 {
            println!("{path}:");
        }
        list_folder(Path::new(path), &letters)
    })
}

fn list_folder(folder: &Path, letters: &str) -> io::Result<()> {
    let mut names: Vec<String> = Vec::new();
    for entry in fs::read_dir(folder)? {
        names.push(crate::text_of(entry?.file_name()));
    }
    if letters.contains('a') {
        names.extend([".".into(), "..".into()]);
    } else {
        names.retain(|name| !name.starts_with('.'));
    }
    names.sort();
    for name in names {
        let path = folder.join(&name);
        match fs::symlink_metadata(&path) {
            Ok(metadata) => print_entry(&name, &path, &metadata, letters),
            Err(error) => eprintln!("{name}: {}", reason(&error)),
        }
    }
    Ok(())
}

fn print_entry(name: &str, path: &Path, metadata: &Metadata, letters: &str) {
    if letters.contains('i') {
        print!("{:>8} ", metadata.ino());
    }
    if !letters.contains('l') {
        println!("{name}");
        return;
    }
    let kind = metadata.file_type();
    let size = if kind.is_char_device() || kind.is_block_device() {
        format!("{}, {}", libc::major(metadata.rdev()), libc::minor(metadata.rdev()))
    } else {
        metadata.size().to_string()
    };
    let target = match fs::read_link(path) {
        Ok(target) if metadata.is_symlink() => format!(" -> {}", target.display()),
        _ => String::new(),
    };
    println!(
        "{} {:>3} {:>5} {:>5} {size:>10} {} {name}{target}",
        mode_text(metadata),
        metadata.nlink(),
        metadata.uid(),
        metadata.gid(),
        time_text(metadata.mtime())
    );
}

/// `drwxr-xr-x`, with s and t as they stand in ls(1).
fn mode_text(metadata: &Metadata) -> String {
    let kind = metadata.file_type();
    let kind = match () {
        () if kind.is_dir() => 'd',
        () if kind.is_symlink() => 'l',
        () if kind.is_char_device() => 'c',
        () if kind.is_block_device() => 'b',
        () if kind.is_fifo() => 'p',
        () if kind.is_socket() => 's',
        () => '-',
    };
    let mode = metadata.mode();
    let mut text = String::from(kind);
    for (shift, special, letter) in [(6, libc::S_ISUID, 's'), (3, libc::S_ISGID, 's'), (0, libc::S_ISVTX, 't')] {
        let bits = mode >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (bits & 1 != 0, mode & special != 0) {
            (true, true) => letter,
            (false, true) => letter.to_ascii_uppercase(),
            (true, false) => 'x',
            (false, false) => '-',
        });
    }
    text
}

/// Seconds since 1970 as UTC: `2026-11-21 07:58`. The calendar is counted in eras of 400 years that start in March, so
/// that the leap day is a year's last.
fn time_text(seconds: i64) -> String {
    let (days, second_of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year}-{month:02}-{day:02} {:02}:{:02}", second_of_day / 3_600, second_of_day / 60 % 60)
}

pub fn pwd(_: &[String]) -> Outcome {
    println!("{}", std::env::current_dir().map_err(|error| reason(&error))?.display());
    Ok(0)
}

/// `mkdir [-p] PATH…`
pub fn mkdir(arguments: &[String]) -> Outcome {
    let (letters, paths) = options(arguments);
    for_each(paths, |path| if letters.contains('p') { fs::create_dir_all(path) } else { fs::create_dir(path) })
}

pub fn rmdir(arguments: &[String]) -> Outcome {
    for_each(arguments, |path| fs::remove_dir(path))
}

/// `rm [-rf] PATH…`
pub fn rm(arguments: &[String]) -> Outcome {
    let (letters, paths) = options(arguments);
    let recursive = letters.contains(['r', 'R']);
    for_each(paths, |path| {
        let result = match fs::symlink_metadata(path) {
            Ok(metadata) if metadata.is_dir() && recursive => fs::remove_dir_all(path),
            Ok(_) => fs::remove_file(path),
            Err(error) => Err(error),
        };
        match result {
            Err(error) if letters.contains('f') && error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    })
}

/// `touch PATH…`: makes empty files; the time of one that is there is set to now.
pub fn touch(arguments: &[String]) -> Outcome {
    for_each(arguments, |path| {
        let file = fs::OpenOptions::new().create(true).append(true).open(path)?;
        file.set_modified(std::time::SystemTime::now())
    })
}

/// `chmod OCTAL PATH…`
pub fn chmod(arguments: &[String]) -> Outcome {
    let (mode, paths) = arguments.split_first().ok_or("usage: chmod OCTAL PATH…")?;
    let mode = u32::from_str_radix(mode, 8).map_err(|_| format!("{mode}: not an octal mode"))?;
    for_each(paths, |path| fs::set_permissions(path, fs::Permissions::from_mode(mode)))
}

/// The last argument is a target; if it is a folder, each source goes into it under its own name.
fn to_target(arguments: &[String], action: impl Fn(&Path, &Path) -> io::Result<()>) -> Outcome {
    let (target, sources) = arguments.split_last().ok_or("a source and a target are missing")?;
    let target = Path::new(target);
    if sources.len() > 1 && !target.is_dir() {
        return Err(format!("{}: not a folder", target.display()));
    }
    for_each(sources, |source| {
        let source = Path::new(source);
        let place = match source.file_name() {
            Some(name) if target.is_dir() => target.join(name),
            _ => PathBuf::from(target),
        };
        action(source, &place)
    })
}

/// `cp [-r] SOURCE… TARGET`
pub fn cp(arguments: &[String]) -> Outcome {
    let (letters, rest) = options(arguments);
    let recursive = letters.contains(['r', 'R', 'a']);
    to_target(rest, |source, target| copy(source, target, recursive))
}

fn copy(source: &Path, target: &Path, recursive: bool) -> io::Result<()> {
    if recursive && fs::symlink_metadata(source)?.is_symlink() {
        return symlink(fs::read_link(source)?, target);
    }
    if !fs::metadata(source)?.is_dir() {
        return fs::copy(source, target).map(drop);
    }
    if !recursive {
        return Err(io::Error::other("is a folder (-r copies it)"));
    }
    fs::create_dir_all(target)?;
    for entry in fs::read_dir(source)? {
        let entry = entry?;
        copy(&entry.path(), &target.join(entry.file_name()), true)?;
    }
    Ok(())
}

/// `mv SOURCE… TARGET`, also from one file system to another.
pub fn mv(arguments: &[String]) -> Outcome {
    let (_, rest) = options(arguments);
    to_target(rest, |source, target| match fs::rename(source, target) {
        Err(error) if error.raw_os_error() == Some(libc::EXDEV) => {
            copy(source, target, true)?;
            if fs::symlink_metadata(source)?.is_dir() { fs::remove_dir_all(source) } else { fs::remove_file(source) }
        }
        result => result,
    })
}

/// `ln [-s] TARGET… NAME`
pub fn ln(arguments: &[String]) -> Outcome {
    let (letters, rest) = options(arguments);
    let symbolic = letters.contains('s');
    to_target(rest, |source, target| if symbolic { symlink(source, target) } else { fs::hard_link(source, target) })
}
