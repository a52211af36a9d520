//! Runs cases: each in a process of its own, in an empty folder of its own, with descriptors 0 to 2 only, under a time
//! limit.

use crate::coverage;
use crate::support::{self, Case};
use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A family's name and its cases.
pub type Family = (&'static str, &'static [Case]);

/// How long a case may take before it counts as hanging.
const LIMIT: Duration = Duration::from_secs(20);
/// Where a case's answer goes: out of the way of those that count descriptors.
const ANSWER_DESCRIPTOR: i32 = 100;

/// The main function of a program of cases: runs those that the arguments name and prints a line for each.
pub fn main(program: &str, families: &[Family]) {
    let arguments: Vec<String> = std::env::args_os().map(|text| text.to_string_lossy().into_owned()).collect();
    let Some(chosen) = arguments.get(1..).filter(|chosen| !chosen.is_empty()) else {
        eprintln!("usage: {program} [calls] FAMILY… | FAMILY.CASE… | all | list");
        std::process::exit(2);
    };
    support::remember_own_path(&arguments[0]);
    // Watched instead of answered (`coverage`).
    let watches = chosen[0] == "calls";
    let folder = make_folder();
    let mut number = 0;
    for (family, cases) in families {
        for case in *cases {
            let name = format!("{family}.{}", case.name);
            if chosen == ["list"] {
                println!("{name}");
            } else if chosen.iter().any(|word| word == "all" || word == family || *word == name) {
                number += 1;
                let folder = folder.join(number.to_string());
                if watches {
                    println!("{name}\t{}", calls(case, &folder));
                } else {
                    println!("{name}: {}", run(case, &folder));
                }
            }
        }
    }
    // What can't be removed was left by a case, and is of no more use.
    let _ = std::fs::remove_dir_all(&folder);
}

/// A folder for this run, on a tmpfs where Linux has one: Keel's files live on its like.
fn make_folder() -> PathBuf {
    let base = ["/dev/shm", "/tmp", "/"].into_iter().find(|path| std::path::Path::new(path).is_dir()).unwrap_or("/");
    let folder = PathBuf::from(base).join(format!("conformance.{}", std::process::id()));
    // One of that name is left from a run that was killed: its number is given out again.
    let _ = std::fs::remove_dir_all(&folder);
    if let Err(error) = std::fs::create_dir(&folder) {
        println!("conformance: the folder for tests can't be made: {error}");
    }
    folder
}

fn name_of(folder: &Path) -> CString {
    CString::new(folder.as_os_str().as_bytes()).unwrap_or_default()
}

fn calls(case: &Case, folder: &Path) -> String {
    match coverage::calls_of(case, &name_of(folder)) {
        Ok(calls) => calls.iter().map(i64::to_string).collect::<Vec<_>>().join(" "),
        Err(reason) => reason,
    }
}

/// Runs one case in its own process and folder, and returns its answer.
pub fn run(case: &Case, folder: &Path) -> String {
    let folder = name_of(folder);
    let (read_end, write_end) = support::pipe();
    // SAFETY: this process has one thread, so the child may do whatever the parent may.
    let child = unsafe { libc::fork() };
    if child == 0 {
        enter(&folder, Some(write_end));
        let answer = (case.ask)();
        // An answer is one line, and an empty one is an answer too.
        support::write_all(ANSWER_DESCRIPTOR, format!("{}.", answer.replace('\n', "\\n")).as_bytes());
        // SAFETY: ends this process, which has nothing to flush.
        unsafe { libc::_exit(0) };
    }
    if child < 0 {
        return format!("fork: {}", support::last_errno());
    }
    support::close(write_end);
    let answer = follow(child, read_end);
    support::close(read_end);
    // SAFETY: kill takes no pointers: what the case left running ends with it.
    unsafe { libc::kill(-child, libc::SIGKILL) };
    answer
}

/// In a case's own process: what it may rely on. The answer's descriptor is moved out of the way.
pub fn enter(folder: &CStr, answer: Option<i32>) {
    // SAFETY: the calls take no pointers but the folder's name, which ends with a zero.
    unsafe {
        libc::setpgid(0, 0);
        if let Some(answer) = answer {
            libc::fcntl(answer, libc::F_DUPFD_CLOEXEC, ANSWER_DESCRIPTOR);
        }
        for descriptor in 3..ANSWER_DESCRIPTOR {
            libc::close(descriptor);
        }
        // Rust's start-up has handlers for the first two, which look for an overflowed stack.
        for signal in [libc::SIGSEGV, libc::SIGBUS, libc::SIGALRM] {
            libc::signal(signal, libc::SIG_DFL);
        }
        libc::umask(0o022);
        libc::mkdir(folder.as_ptr(), 0o777);
        libc::chmod(folder.as_ptr(), 0o777);
        libc::chdir(folder.as_ptr());
    }
}

/// Waits for the child's end and returns its answer, or what became of it.
fn follow(child: i32, read_end: i32) -> String {
    let deadline = Instant::now() + LIMIT;
    let mut status = 0;
    // SAFETY: the kernel writes one int, here and below.
    while unsafe { libc::waitpid(child, &mut status, libc::WNOHANG) } == 0 {
        if Instant::now() > deadline {
            // SAFETY: kill takes no pointers.
            unsafe {
                libc::kill(-child, libc::SIGKILL);
                libc::waitpid(child, &mut status, 0);
            }
            return "TIMED OUT".into();
        }
        // The answer is short and the pipe holds it, so the case never waits for us; its end or its answer wakes us.
        support::poll_input(read_end, 10);
        std::thread::sleep(Duration::from_micros(200));
    }
    if libc::WIFSIGNALED(status) {
        return format!("KILLED BY {}", support::signal_name(libc::WTERMSIG(status)));
    }
    if !support::poll_input(read_end, 0) {
        return format!("NO ANSWER, exit {}", libc::WEXITSTATUS(status));
    }
    let text = String::from_utf8_lossy(&support::read_up_to(read_end, 60_000)).into_owned();
    text.strip_suffix('.').unwrap_or("CUT SHORT").to_owned()
}
