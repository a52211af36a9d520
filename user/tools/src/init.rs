//! The first process: mounts what programs expect, keeps a shell on each console, buries orphans, and ends the system
//! in an orderly way. On a kernel that can't do all of this yet it says what is missing and goes on.
//!
//! - With arguments (`init=/sbin/init -- COMMAND…`) that command takes the shells' place, once, and its status is
//!   init's.
//! - /etc/rc, if it is there and executable, is run before the shells.
//! - Signals ask for the end, as busybox's tools send them: SIGUSR1 halts, SIGUSR2 powers off, SIGTERM and SIGINT
//!   (Ctrl-Alt-Del) reboot.
//!
//! As any other process than the first it changes nothing in the system: it only runs its command.

use crate::system::{mount_at, set_host_name};
use crate::{Outcome, checked, reason};
use std::ffi::{CString, NulError};
use std::fs;
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

pub const HALT: i32 = libc::SIGUSR1;
pub const POWER_OFF: i32 = libc::SIGUSR2;
pub const REBOOT: i32 = libc::SIGTERM;

const PATH: &str = "/bin:/sbin:/usr/bin:/usr/sbin:/tests";
/// How long processes have between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(2);
/// A shell that lived shorter than this is not started again at once.
const SHORT_LIFE: Duration = Duration::from_secs(1);

/// A terminal that always has a shell.
struct Console {
    /// None: the console that init itself was given.
    path: Option<&'static str>,
    terminal: &'static str,
    shell: Option<(i32, Instant)>,
}

pub fn main(arguments: &[String]) -> Outcome {
    println!("init: Keel is up");
    let first = std::process::id() == 1;
    if first {
        block_signals();
        take_ctrl_alt_del();
        mount_all();
        if let Err(error) = set_host_name("keel") {
            eprintln!("init: host name: {error}");
        }
    }
    if let Some((program, rest)) = arguments.split_first() {
        let mut command = Command::new(program);
        command.arguments.extend_from_slice(rest);
        let status = run_to_end(&command);
        if first {
            stop_all_processes();
        }
        return Ok(status);
    }
    if !first {
        return Err("only the first process keeps shells running (init COMMAND… runs a command)".into());
    }
    if is_executable("/etc/rc") {
        run_to_end(&Command::new("/etc/rc"));
    }
    keep_shells()
}

fn mount_all() {
    for (kind, target) in [("proc", "/proc"), ("devtmpfs", "/dev"), ("tmpfs", "/dev/shm"), ("tmpfs", "/tmp")] {
        if let Err(error) = fs::create_dir(target)
            && error.kind() != io::ErrorKind::AlreadyExists
        {
            eprintln!("init: {target}: {}", reason(&error));
        }
        match mount_at(kind, kind, target, 0) {
            Err(error) if error.raw_os_error() != Some(libc::EBUSY) => {
                eprintln!("init: mount {target}: {}", reason(&error));
            }
            _ => {}
        }
    }
}

fn is_executable(path: &str) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

/// The signals that init waits for. They are blocked from the start, so that none is lost between two waits.
fn signals() -> libc::sigset_t {
    // SAFETY: a signal set is a bit array, for which zeros are valid; the calls change only this set.
    unsafe {
        let mut set = std::mem::zeroed();
        for signal in [libc::SIGCHLD, HALT, POWER_OFF, REBOOT, libc::SIGINT] {
            libc::sigaddset(&mut set, signal);
        }
        set
    }
}

fn block_signals() {
    // SAFETY: reads one signal set.
    if let Err(error) = checked(unsafe { libc::sigprocmask(libc::SIG_BLOCK, &signals(), std::ptr::null_mut()) }) {
        eprintln!("init: signals can't be blocked: {}", reason(&error));
    }
}

/// Ctrl-Alt-Del sends init SIGINT from now on, instead of restarting the machine at once.
fn take_ctrl_alt_del() {
    // SAFETY: takes no pointer.
    if let Err(error) = checked(unsafe { libc::reboot(libc::RB_DISABLE_CAD) }) {
        eprintln!("init: Ctrl-Alt-Del: {}", reason(&error));
    }
}

/// A program to start, with the environment that a session begins with. Not std's: that one asks for a socket pair to
/// start a program, and a kernel without sockets shall have an init.
struct Command {
    program: String,
    folder: &'static str,
    arguments: Vec<String>,
    environment: Vec<String>,
}

impl Command {
    fn new(program: &str) -> Command {
        Command {
            program: program.into(),
            folder: "/",
            arguments: vec![program.into()],
            environment: vec![format!("PATH={PATH}"), format!("HOME={}", home())],
        }
    }

    /// Starts the command in a session of its own, with no signal blocked. If it can't be executed, its process says
    /// why and ends with the status that shells use for it.
    fn start(&self, console: Option<&'static str>) -> io::Result<i32> {
        let strings = |texts: &[String]| -> Result<Vec<CString>, NulError> {
            texts.iter().map(|text| CString::new(text.as_str())).collect()
        };
        let program = CString::new(self.program.as_str())?;
        let (arguments, environment) = (strings(&self.arguments)?, strings(&self.environment)?);
        // SAFETY: this process has one thread, so the child may do whatever the parent may.
        let child = checked(unsafe { libc::fork() })? as i32;
        if child != 0 {
            return Ok(child);
        }
        begin_session();
        // Where the folder can't be entered, / will do.
        let _ = std::env::set_current_dir(self.folder);
        let taken = match console {
            Some(path) => take_terminal(path),
            None => {
                // SAFETY: takes no pointer. Standard input may be no terminal: then there is none to control.
                unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) };
                Ok(())
            }
        };
        let error = match taken {
            Ok(()) => execute(&program, &arguments, &environment),
            Err(error) => error,
        };
        eprintln!("init: {}: {}", self.program, reason(&error));
        std::process::exit(127)
    }
}

fn home() -> &'static str {
    if Path::new("/root").is_dir() { "/root" } else { "/" }
}

fn begin_session() {
    // SAFETY: a signal set is a bit array, for which zeros are valid; the other calls touch no memory of ours.
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
        // std ignores it, which would be inherited.
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        // A kernel without sessions still runs the command.
        libc::setsid();
    }
}

/// Comes back only with the reason why not.
fn execute(program: &CString, arguments: &[CString], environment: &[CString]) -> io::Error {
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (arguments, environment) = (pointers(arguments), pointers(environment));
    // SAFETY: both vectors point to strings that the caller holds, and end with a NULL.
    unsafe { libc::execve(program.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    io::Error::last_os_error()
}

/// Makes a terminal this session's, and its standard input, output and error.
fn take_terminal(path: &str) -> io::Result<()> {
    let mut name = [0_u8; 64];
    name.get_mut(..path.len()).ok_or(io::ErrorKind::InvalidInput)?.copy_from_slice(path.as_bytes());
    // SAFETY: the name ends with a zero, as it is shorter than its array; the other calls touch no memory.
    unsafe {
        let descriptor = checked(libc::open(name.as_ptr().cast(), libc::O_RDWR))? as i32;
        libc::ioctl(descriptor, libc::TIOCSCTTY, 0);
        for standard in 0..3 {
            checked(libc::dup2(descriptor, standard))?;
        }
        if descriptor > 2 {
            libc::close(descriptor);
        }
    }
    Ok(())
}

/// Runs one command and waits for it, burying whatever else ends meanwhile.
fn run_to_end(command: &Command) -> i32 {
    let program = &command.program;
    let child = match command.start(None) {
        Ok(child) => child,
        Err(error) => {
            eprintln!("init: {program}: {}", reason(&error));
            return 127;
        }
    };
    loop {
        let mut status = 0;
        // SAFETY: the kernel writes one int.
        match checked(unsafe { libc::waitpid(-1, &mut status, 0) }) {
            Ok(ended) if ended == i64::from(child) => {
                return if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { 128 + libc::WTERMSIG(status) };
            }
            Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                eprintln!("init: {program} can't be waited for: {}", reason(&error));
                return 1;
            }
            _ => {}
        }
    }
}

/// The terminals that are there: the screen and the serial line, or else what init itself was given.
fn consoles() -> Vec<Console> {
    // They shall not become init's own: a shell could take them no more.
    let mut options = fs::OpenOptions::new();
    options.read(true).write(true).custom_flags(libc::O_NOCTTY);
    let usable = |path: &&str| options.open(path).is_ok();
    let mut consoles: Vec<Console> = [("/dev/tty1", "linux"), ("/dev/ttyS0", "vt102")]
        .into_iter()
        .filter(|(path, _)| usable(path))
        .map(|(path, terminal)| Console { path: Some(path), terminal, shell: None })
        .collect();
    if consoles.is_empty() {
        consoles.push(Console { path: None, terminal: "linux", shell: None });
    }
    consoles
}

fn start_shell(console: &mut Console) {
    let shell = ["/bin/bash", "/bin/sh"].into_iter().find(|path| is_executable(path)).unwrap_or("/bin/sh");
    let name = shell.rsplit('/').next().unwrap_or("sh");
    let mut command = Command::new(shell);
    // The dash says that it is a login shell.
    command.arguments = vec![format!("-{name}")];
    command.folder = home();
    command.environment.push(format!("TERM={}", console.terminal));
    match command.start(console.path) {
        Ok(child) => console.shell = Some((child, Instant::now())),
        Err(error) => {
            eprintln!("init: {shell} on {}: {}", console.path.unwrap_or("the console"), reason(&error));
            console.shell = None;
        }
    }
}

/// The system's ordinary life. Comes back only if no shell can be started.
fn keep_shells() -> Outcome {
    let mut consoles = consoles();
    consoles.iter_mut().for_each(start_shell);
    loop {
        if consoles.iter().all(|console| console.shell.is_none()) {
            return Err("no shell can be started: nothing is left to do".into());
        }
        if let Some(signal) = wait_for_signal() {
            if signal != libc::SIGCHLD {
                end_system(signal);
            }
            bury_and_restart(&mut consoles, libc::WNOHANG);
        } else {
            // No sigtimedwait: then at least the dead are buried, and the shells come back.
            bury_and_restart(&mut consoles, 0);
        }
    }
}

fn wait_for_signal() -> Option<i32> {
    loop {
        // SAFETY: reads one signal set; a NULL siginfo is allowed.
        match checked(unsafe { libc::sigwaitinfo(&signals(), std::ptr::null_mut()) }) {
            Ok(signal) => return Some(signal as i32),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
}

/// Buries every process that has ended; a console whose shell is among them gets a new one.
fn bury_and_restart(consoles: &mut [Console], options: i32) {
    loop {
        let mut status = 0;
        // SAFETY: the kernel writes one int.
        let ended = unsafe { libc::waitpid(-1, &mut status, options) };
        if ended <= 0 {
            return;
        }
        for console in consoles.iter_mut() {
            if let Some((shell, started)) = console.shell
                && shell == ended
            {
                if started.elapsed() < SHORT_LIFE {
                    std::thread::sleep(SHORT_LIFE);
                }
                start_shell(console);
            }
        }
    }
}

fn stop_all_processes() {
    // SAFETY: kill touches no memory; -1 means every process but the first.
    unsafe {
        libc::kill(-1, libc::SIGTERM);
        libc::kill(-1, libc::SIGCONT);
    }
    let deadline = Instant::now() + GRACE;
    while !no_child_left() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    // SAFETY: as above.
    unsafe { libc::kill(-1, libc::SIGKILL) };
    while !no_child_left() && Instant::now() < deadline + GRACE {
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Buries the dead; true when no child is left, dead or alive.
fn no_child_left() -> bool {
    loop {
        // SAFETY: a NULL status is allowed.
        match unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) } {
            0 => return false,
            -1 => return true,
            _ => {}
        }
    }
}

fn end_system(signal: i32) -> ! {
    let (what, command) = match signal {
        HALT => ("halting", libc::RB_HALT_SYSTEM),
        POWER_OFF => ("powering off", libc::RB_POWER_OFF),
        _ => ("rebooting", libc::RB_AUTOBOOT),
    };
    println!("init: stopping all processes");
    stop_all_processes();
    println!("init: {what}");
    // SAFETY: neither call takes a pointer.
    let result = unsafe {
        libc::sync();
        checked(libc::reboot(command))
    };
    if let Err(error) = result {
        eprintln!("init: reboot: {}; ending instead", reason(&error));
    }
    // When init ends, the kernel powers the machine off.
    std::process::exit(0)
}
