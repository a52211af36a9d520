//! Tools for the system as a whole: dmesg, free, mount, umount, poweroff, reboot, trace, uname.

use crate::{Outcome, checked, options, reason};
use std::ffi::CString;
use std::fs;

fn c_string(text: &str) -> Result<CString, String> {
    CString::new(text).map_err(|_| "a zero byte in an argument".into())
}

fn read(path: &str) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("{path}: {}", reason(&error)))
}

/// `free`: memory in KiB.
pub fn free(_: &[String]) -> Outcome {
    let text = read("/proc/meminfo")?;
    let kib = |name: &str| -> u64 {
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.split_whitespace().next()?.parse().ok())
            .unwrap_or(0)
    };
    let (total, free) = (kib("MemTotal"), kib("MemFree"));
    println!("{:>12} {:>12} {:>12} {:>12}", "total KiB", "used", "free", "available");
    println!("{total:>12} {:>12} {free:>12} {:>12}", total.saturating_sub(free), kib("MemAvailable"));
    Ok(0)
}

/// `mount`: what is mounted. `mount -t TYPE SOURCE FOLDER` mounts; `mount --bind SOURCE FOLDER` shows a folder twice.
pub fn mount(arguments: &[String]) -> Outcome {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (kind, source, target, flags) = match words[..] {
        [] => {
            for line in read("/proc/mounts")?.lines() {
                if let [source, target, kind, options, ..] = line.split(' ').collect::<Vec<_>>()[..] {
                    println!("{source} on {target} type {kind} ({options})");
                }
            }
            return Ok(0);
        }
        ["-t", kind, source, target] => (kind, source, target, 0),
        ["--bind" | "-B", source, target] => ("none", source, target, libc::MS_BIND),
        _ => return Err("usage: mount [-t TYPE SOURCE FOLDER | --bind SOURCE FOLDER]".into()),
    };
    mount_at(kind, source, target, flags).map_err(|error| format!("{target}: {}", reason(&error)))?;
    Ok(0)
}

pub fn mount_at(kind: &str, source: &str, target: &str, flags: libc::c_ulong) -> std::io::Result<()> {
    let [kind, source, target] = [CString::new(kind)?, CString::new(source)?, CString::new(target)?];
    // SAFETY: three strings that end with a zero, and no data.
    let result = unsafe { libc::mount(source.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, std::ptr::null()) };
    checked(result).map(drop)
}

pub fn umount(arguments: &[String]) -> Outcome {
    crate::for_each(arguments, |path| {
        let path = CString::new(path)?;
        // SAFETY: a string that ends with a zero.
        checked(unsafe { libc::umount2(path.as_ptr(), 0) }).map(drop)
    })
}

/// `uname [-asnrvm]`
pub fn uname(arguments: &[String]) -> Outcome {
    let (letters, _) = options(arguments);
    // SAFETY: utsname is made of byte arrays, for which zeros are valid.
    let mut names: libc::utsname = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel fills one utsname.
    checked(unsafe { libc::uname(&mut names) }).map_err(|error| reason(&error))?;
    let fields = [names.sysname, names.nodename, names.release, names.version, names.machine];
    let wanted: Vec<String> = "snrvm"
        .chars()
        .zip(fields)
        .filter(|(letter, _)| {
            letters.contains('a') || letters.contains(*letter) || (letters.is_empty() && *letter == 's')
        })
        .map(|(_, field)| {
            // SAFETY: the kernel closes each name with a zero inside its array.
            unsafe { std::ffi::CStr::from_ptr(field.as_ptr()) }.to_string_lossy().into_owned()
        })
        .collect();
    println!("{}", wanted.join(" "));
    Ok(0)
}

/// Asks init for an orderly end by its signal, or the kernel for one at once with -f.
fn end(arguments: &[String], signal: i32, command: i32) -> Outcome {
    if arguments.iter().any(|argument| argument == "-f") {
        // SAFETY: sync and reboot take no pointers.
        unsafe {
            libc::sync();
            return checked(libc::reboot(command)).map(|_| 0).map_err(|error| reason(&error));
        }
    }
    // SAFETY: touches no memory.
    checked(unsafe { libc::kill(1, signal) }).map(|_| 0).map_err(|error| format!("init: {}", reason(&error)))
}

/// `poweroff [-f]`
pub fn poweroff(arguments: &[String]) -> Outcome {
    end(arguments, crate::init::POWER_OFF, libc::RB_POWER_OFF)
}

/// `reboot [-f]`
pub fn reboot(arguments: &[String]) -> Outcome {
    end(arguments, crate::init::REBOOT, libc::RB_AUTOBOOT)
}

/// `trace`: the kernel's trace ring. `trace KINDS` (switch,cr3,irq,fault,syscall,exec, or none) says what is recorded.
pub fn trace(arguments: &[String]) -> Outcome {
    match arguments {
        [] => print!("{}", read("/proc/trace")?),
        [kinds] => {
            fs::write("/proc/trace", format!("{kinds}\n"))
                .map_err(|error| format!("/proc/trace: {}", reason(&error)))?;
        }
        _ => return Err("usage: trace [KIND,…|none]".into()),
    }
    Ok(0)
}

/// `dmesg`: the kernel's log.
pub fn dmesg(_: &[String]) -> Outcome {
    const READ_ALL: i32 = 3;
    let mut buffer = vec![0_u8; 256 * 1024];
    // SAFETY: the kernel writes at most the buffer's length.
    let count = unsafe { libc::klogctl(READ_ALL, buffer.as_mut_ptr().cast(), buffer.len() as i32) };
    let count = checked(count).map_err(|error| reason(&error))?;
    buffer.truncate(count as usize);
    let text = String::from_utf8_lossy(&buffer).into_owned();
    for line in text.lines() {
        // Each line begins with its level, as in <6>.
        println!("{}", line.split_once('>').map_or(line, |(_, rest)| rest));
    }
    Ok(0)
}

/// Sets the host's name; init does it once.
pub fn set_host_name(name: &str) -> Result<(), String> {
    let name = c_string(name)?;
    // SAFETY: the name's bytes and their number.
    let result = unsafe { libc::sethostname(name.as_ptr(), name.as_bytes().len()) };
    checked(result).map(drop).map_err(|error| reason(&error))
}
