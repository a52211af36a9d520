//! What this program does when a case executes it: it prints what it finds itself with. The answers go to standard
//! output, separated by blanks, with no line's end.

use conformance::support::{execve, signal_name};

pub fn run(what: &str) -> i32 {
    // A script passes all that follows the interpreter as one argument: its first word is for us.
    let text = match what.split_whitespace().next().unwrap_or_default() {
        "arguments" => std::env::args_os().skip(1).map(quoted).collect::<Vec<_>>().join(" "),
        "count" => {
            let arguments = std::env::args_os();
            let bytes: usize = arguments.map(|text| text.len() + 1).sum();
            format!("{} strings of {bytes} bytes", std::env::args_os().count())
        }
        "first" => std::env::args_os().next().map(quoted).unwrap_or_default(),
        "environment" => std::env::vars_os()
            .map(|(name, value)| format!("{}={}", quoted(name), quoted(value)))
            .collect::<Vec<_>>()
            .join(" "),
        "signals" => signals(),
        "descriptors" => (0..64)
            .filter(|&descriptor| is_open(descriptor))
            .map(|descriptor| descriptor.to_string())
            .collect::<Vec<_>>()
            .join(" "),
        "identity" => identity(),
        "all-ids" => all_ids(),
        "attributes" => attributes(),
        "threads" => threads(),
        "tasks" => tasks(),
        "auxiliary" => crate::exec_auxiliary::tell(),
        "random" => crate::exec_auxiliary::random_bytes().iter().map(|byte| format!("{byte:02x}")).collect(),
        "exe" => own_program(),
        "again-after-removal" => return run_again_after_removal(),
        "state" => state(),
        "name" => name(),
        _ => return 99,
    };
    print!("{text}");
    0
}

fn quoted(text: std::ffi::OsString) -> String {
    format!("{:?}", text.to_string_lossy())
}

fn is_open(descriptor: i32) -> bool {
    // SAFETY: takes no pointers.
    unsafe { libc::fcntl(descriptor, libc::F_GETFD) >= 0 }
}

/// The signals that are ignored, handled, blocked, pending.
fn signals() -> String {
    let (mut ignored, mut handled, mut blocked, mut waiting) =
        (String::new(), String::new(), String::new(), String::new());
    // SAFETY: sigaction and signal sets are plain integers, for which zeros are valid; the kernel fills them.
    unsafe {
        let mut mask = std::mem::zeroed();
        let mut pending = std::mem::zeroed();
        libc::sigprocmask(libc::SIG_BLOCK, std::ptr::null(), &mut mask);
        libc::sigpending(&mut pending);
        for signal in 1..32 {
            let mut action: libc::sigaction = std::mem::zeroed();
            libc::sigaction(signal, std::ptr::null(), &mut action);
            // Rust's start-up handles SIGSEGV and SIGBUS and ignores SIGPIPE: that says nothing about the kernel.
            let by_rust = [libc::SIGSEGV, libc::SIGBUS, libc::SIGPIPE].contains(&signal);
            match action.sa_sigaction {
                libc::SIG_DFL => {}
                _ if by_rust => {}
                libc::SIG_IGN => ignored += &format!(" {}", signal_name(signal)),
                _ => handled += &format!(" {}", signal_name(signal)),
            }
            if libc::sigismember(&mask, signal) == 1 {
                blocked += &format!(" {}", signal_name(signal));
            }
            if libc::sigismember(&pending, signal) == 1 {
                waiting += &format!(" {}", signal_name(signal));
            }
        }
    }
    format!("ignored{ignored}; handled{handled}; blocked{blocked}; pending{waiting}")
}

fn identity() -> String {
    // SAFETY: the calls take no pointers.
    unsafe {
        format!(
            "uid {} euid {} gid {} egid {} secure {}",
            libc::getuid(),
            libc::geteuid(),
            libc::getgid(),
            libc::getegid(),
            libc::getauxval(libc::AT_SECURE)
        )
    }
}

/// Real, effective and saved ids.
fn all_ids() -> String {
    let (mut user, mut group) = ([0; 3], [0; 3]);
    // SAFETY: the kernel writes three ids each.
    unsafe {
        libc::getresuid(&mut user[0], &mut user[1], &mut user[2]);
        libc::getresgid(&mut group[0], &mut group[1], &mut group[2]);
    }
    format!("users {user:?} groups {group:?}")
}

/// What set-ID bits take from a process.
fn attributes() -> String {
    let mut death_signal = 0;
    // SAFETY: the structure is plain integers, for which zeros are valid; the kernel fills it, and an int.
    unsafe {
        let mut limit: libc::rlimit = std::mem::zeroed();
        libc::getrlimit(libc::RLIMIT_STACK, &mut limit);
        libc::prctl(libc::PR_GET_PDEATHSIG, &mut death_signal);
        format!(
            "personality {:#x} dumpable {} stack limit {} death signal {death_signal} secure {}",
            libc::personality(0xffff_ffff),
            libc::prctl(libc::PR_GET_DUMPABLE),
            limit.rlim_cur as i64 >> 20,
            libc::getauxval(libc::AT_SECURE)
        )
    }
}

/// Its process's id and its thread's.
fn threads() -> String {
    // SAFETY: the calls take no pointers.
    unsafe { format!("{} {}", libc::getpid(), libc::gettid()) }
}

/// Its process's id, its thread's, and all of the process's threads.
fn tasks() -> String {
    let all = std::fs::read_dir("/proc/self/task").map(|entries| {
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
    });
    format!("{}: {}", threads(), all.unwrap_or_default())
}

/// Which program it is by its own account.
fn own_program() -> String {
    std::fs::read_link("/proc/self/exe").map(|path| path.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Removes its own file and becomes what is left of it.
fn run_again_after_removal() -> i32 {
    let removed = std::fs::remove_file(own_program()).is_ok();
    print!("{removed} {} ", own_program().ends_with(" (deleted)"));
    let _ = std::io::Write::flush(&mut std::io::stdout());
    execve(c"/proc/self/exe", &[c"x", c"--helper-first"], &[]);
    1
}

/// What exec keeps and what it drops, as far as one can ask.
fn state() -> String {
    // SAFETY: the structures are plain integers, for which zeros are valid; the kernel fills them.
    unsafe {
        let mut limit: libc::rlimit = std::mem::zeroed();
        libc::getrlimit(libc::RLIMIT_CORE, &mut limit);
        let mask = libc::umask(0);
        format!("core limit {} umask {mask:o} nice {}", limit.rlim_cur, libc::getpriority(libc::PRIO_PROCESS, 0))
    }
}

fn name() -> String {
    let mut name = [0_u8; 16];
    // SAFETY: the kernel writes at most 16 bytes.
    unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
    String::from_utf8_lossy(name.split(|&byte| byte == 0).next().unwrap_or_default()).into_owned()
}
