//! Tools for processes: env, kill, ps, sleep.

use crate::{Outcome, checked, reason};
use std::fs;
use std::time::Duration;

pub const SIGNALS: &[(&str, i32)] = &[
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("CHLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("WINCH", 28),
];

/// A signal by number or by name, with SIG before it or not.
fn signal_by_name(name: &str) -> Option<i32> {
    let bare = name.strip_prefix("SIG").unwrap_or(name);
    name.parse().ok().or_else(|| SIGNALS.iter().find(|(known, _)| *known == bare).map(|(_, number)| *number))
}

/// `kill [-SIGNAL] PID…`, `kill -l`
pub fn kill(arguments: &[String]) -> Outcome {
    let (signal, targets) = match arguments.split_first() {
        Some((option, _)) if option == "-l" => {
            let names: Vec<String> = SIGNALS.iter().map(|(name, number)| format!("{number} {name}")).collect();
            println!("{}", names.join("  "));
            return Ok(0);
        }
        Some((option, rest)) if option.starts_with('-') => {
            let name = &option[1..];
            (signal_by_name(name).ok_or(format!("{name}: unknown signal"))?, rest)
        }
        _ => (libc::SIGTERM, arguments),
    };
    crate::for_each(targets, |target| {
        let process: i32 = target.parse().map_err(|_| std::io::Error::other("not a process's number"))?;
        // SAFETY: touches no memory.
        checked(unsafe { libc::kill(process, signal) }).map(drop)
    })
}

/// `sleep SECONDS`, fractions allowed.
pub fn sleep(arguments: &[String]) -> Outcome {
    let text = arguments.first().ok_or("usage: sleep SECONDS")?;
    let seconds: f64 = text.parse().map_err(|_| format!("{text}: not a number"))?;
    let duration = Duration::try_from_secs_f64(seconds).map_err(|_| format!("{text}: not a length of time"))?;
    std::thread::sleep(duration);
    Ok(0)
}

/// `env`: the environment, a variable a line.
pub fn env(_: &[String]) -> Outcome {
    for (name, value) in std::env::vars_os() {
        println!("{}={}", crate::text_of(name), crate::text_of(value));
    }
    Ok(0)
}

/// `ps`: every process, as /proc tells it.
pub fn ps(_: &[String]) -> Outcome {
    let entries =
        fs::read_dir("/proc").map_err(|error| format!("/proc: {} (mount -t proc proc /proc)", reason(&error)))?;
    let mut processes: Vec<u32> =
        entries.flatten().filter_map(|entry| entry.file_name().to_str().and_then(|name| name.parse().ok())).collect();
    processes.sort_unstable();
    println!("{:>5} {:>5} S {:>8} {:>8} COMMAND", "PID", "PPID", "MEMORY", "TIME");
    for process in processes {
        // A process may have ended since the folder was read.
        if let Ok(line) = fs::read_to_string(format!("/proc/{process}/stat"))
            && let Some(row) = row(process, &line)
        {
            println!("{row}");
        }
    }
    Ok(0)
}

/// One row from /proc/PID/stat (proc_pid_stat(5)). The name is in brackets and may itself hold brackets and blanks.
fn row(process: u32, line: &str) -> Option<String> {
    const CLOCK_TICKS_PER_S: u64 = 100;
    let (head, tail) = line.rsplit_once(')')?;
    let name = head.split_once('(')?.1;
    // Field 3, the state, is at index 0 here.
    let fields: Vec<&str> = tail.split_whitespace().collect();
    let number = |field: usize| fields.get(field - 3).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    let seconds = (number(14) + number(15)) / CLOCK_TICKS_PER_S;
    let resident_kib = number(24) * 4;
    let command = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
    let words: Vec<_> = command.split(|&byte| byte == 0).filter(|word| !word.is_empty()).collect();
    let command = match words.is_empty() {
        true => format!("[{name}]"),
        false => String::from_utf8_lossy(&words.join(&b' ')).into_owned(),
    };
    Some(format!(
        "{process:>5} {:>5} {} {resident_kib:>6} K {:>5}:{:02} {command}",
        number(4),
        fields.first()?,
        seconds / 60,
        seconds % 60
    ))
}
