//! The words in which cases are written: calls answered by "ok", a value or an errno's name; children and how they
//! ended. Everything here asks the kernel directly; a failure is an answer, never a panic.

use std::ffi::{CStr, CString};
use std::sync::OnceLock;

/// A question and the function that asks it.
pub struct Case {
    pub name: &'static str,
    pub ask: fn() -> String,
}

/// A case: its name, and an expression that can be displayed.
#[macro_export]
macro_rules! case {
    ($name:literal, $answer:expr) => {
        $crate::support::Case { name: $name, ask: || ($answer).to_string() }
    };
}

/// An address at which there is nothing.
pub const BAD: usize = 1;
/// The number of a user who has no process.
pub const NOBODYS_ID: u32 = 54_321;

/// A call of libc's: its arguments are numbers, or pointers that this very expression owns.
#[macro_export]
macro_rules! sys {
    ($name:ident($($argument:expr),* $(,)?)) => {{
        // A call within another's arguments would be a needless `unsafe`.
        #[allow(unused_unsafe, clippy::let_and_return)]
        // SAFETY: each case passes valid pointers, or bad ones on purpose that the kernel must refuse.
        let result = unsafe { libc::$name($($argument),*) };
        result
    }};
}

static OWN_PATH: OnceLock<CString> = OnceLock::new();

/// Remembers where this program is, as cases change the current folder.
pub fn remember_own_path(argument: &str) {
    let folder = std::env::current_dir().unwrap_or_default();
    let path = folder.join(argument);
    let _ = OWN_PATH.set(CString::new(path.to_string_lossy().into_owned()).unwrap_or_default());
}

pub fn own_path() -> &'static CStr {
    OWN_PATH.get().map(|path| path.as_c_str()).unwrap_or_default()
}

pub fn errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

const ERRNO_NAMES: &[(i32, &str)] = &[
    (libc::EPERM, "EPERM"),
    (libc::ENOENT, "ENOENT"),
    (libc::ESRCH, "ESRCH"),
    (libc::EINTR, "EINTR"),
    (libc::EIO, "EIO"),
    (libc::ENXIO, "ENXIO"),
    (libc::E2BIG, "E2BIG"),
    (libc::ENOEXEC, "ENOEXEC"),
    (libc::EBADF, "EBADF"),
    (libc::ECHILD, "ECHILD"),
    (libc::EAGAIN, "EAGAIN"),
    (libc::ENOMEM, "ENOMEM"),
    (libc::EACCES, "EACCES"),
    (libc::EFAULT, "EFAULT"),
    (libc::EBUSY, "EBUSY"),
    (libc::EEXIST, "EEXIST"),
    (libc::EXDEV, "EXDEV"),
    (libc::ENODEV, "ENODEV"),
    (libc::ENOTDIR, "ENOTDIR"),
    (libc::EISDIR, "EISDIR"),
    (libc::EINVAL, "EINVAL"),
    (libc::ENFILE, "ENFILE"),
    (libc::EMFILE, "EMFILE"),
    (libc::ENOTTY, "ENOTTY"),
    (libc::ETXTBSY, "ETXTBSY"),
    (libc::EFBIG, "EFBIG"),
    (libc::ENOSPC, "ENOSPC"),
    (libc::ESPIPE, "ESPIPE"),
    (libc::EROFS, "EROFS"),
    (libc::EMLINK, "EMLINK"),
    (libc::EPIPE, "EPIPE"),
    (libc::ERANGE, "ERANGE"),
    (libc::EDEADLK, "EDEADLK"),
    (libc::ENAMETOOLONG, "ENAMETOOLONG"),
    (libc::ENOSYS, "ENOSYS"),
    (libc::ENOTEMPTY, "ENOTEMPTY"),
    (libc::ELOOP, "ELOOP"),
    (libc::EOVERFLOW, "EOVERFLOW"),
    (libc::ELIBBAD, "ELIBBAD"),
    (libc::ENOTSUP, "EOPNOTSUPP"),
    (libc::ETIMEDOUT, "ETIMEDOUT"),
    (libc::ECANCELED, "ECANCELED"),
    (libc::EOWNERDEAD, "EOWNERDEAD"),
];

pub fn errno_name(errno: i32) -> String {
    ERRNO_NAMES.iter().find(|(number, _)| *number == errno).map_or(format!("errno {errno}"), |(_, name)| (*name).into())
}

pub fn last_errno() -> String {
    errno_name(errno())
}

/// "ok", or the errno's name.
pub fn ok(result: impl TryInto<i64>) -> String {
    if result.try_into().unwrap_or(0) == -1 { last_errno() } else { "ok".into() }
}

/// The number, or the errno's name.
pub fn value(result: impl TryInto<i64>) -> String {
    match result.try_into().unwrap_or(0) {
        -1 => last_errno(),
        number => number.to_string(),
    }
}

/// The answer of an errno-returning function such as those of pthreads.
pub fn returned(errno: i32) -> String {
    if errno == 0 { "ok".into() } else { errno_name(errno) }
}

/// Like `format!("{} {} …", a, b)`: several answers in one line.
#[macro_export]
macro_rules! answers {
    ($($answer:expr),* $(,)?) => { [$($answer.to_string()),*].join(", ") };
}

pub fn signal_name(signal: i32) -> String {
    const NAMES: [&str; 32] = [
        "0", "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM",
        "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF",
        "WINCH", "IO", "PWR", "SYS",
    ];
    NAMES.get(signal as usize).map_or(format!("signal {signal}"), |name| format!("SIG{name}"))
}

/// A wait status in words.
pub fn status_text(status: i32) -> String {
    if libc::WIFEXITED(status) {
        format!("exit {}", libc::WEXITSTATUS(status))
    } else if libc::WIFSTOPPED(status) {
        format!("stopped by {}", signal_name(libc::WSTOPSIG(status)))
    } else if libc::WIFCONTINUED(status) {
        "continued".into()
    } else {
        format!("killed by {}", signal_name(libc::WTERMSIG(status)))
    }
}

/// Ends the process, with no regard to other threads or to what libc holds.
pub fn exit(status: i32) -> ! {
    // SAFETY: ends the process.
    unsafe { libc::_exit(status) }
}

/// Forks a child that does something and ends with its result as the status.
pub fn fork(action: impl FnOnce() -> i32) -> i32 {
    // SAFETY: a case's process has one thread when it forks.
    let child = unsafe { libc::fork() };
    if child == 0 {
        exit(action());
    }
    child
}

/// Waits for a child and tells how it ended.
pub fn ending(child: i32) -> String {
    wait_with(child, 0)
}

pub fn wait_with(child: i32, options: i32) -> String {
    let mut status = 0;
    loop {
        // SAFETY: the kernel writes one int.
        match unsafe { libc::waitpid(child, &mut status, options) } {
            -1 if errno() == libc::EINTR => {}
            -1 => return last_errno(),
            0 => return "nothing yet".into(),
            _ => return status_text(status),
        }
    }
}

/// Does something in a child and tells how the child ended.
pub fn in_child(action: impl FnOnce() -> i32) -> String {
    ending(fork(action))
}

/// Asks a question in a child, so that what it changes doesn't last, and returns the child's answer.
pub fn asked_in_child(ask: impl FnOnce() -> String) -> String {
    let (read_end, write_end) = pipe();
    let child = fork(|| {
        close(read_end);
        write_all(write_end, ask().as_bytes());
        0
    });
    close(write_end);
    let text = String::from_utf8_lossy(&read_to_end(read_end)).into_owned();
    close(read_end);
    match ending(child).as_str() {
        "exit 0" => text,
        other => format!("{text}({other})"),
    }
}

/// Asks as an ordinary user and not as root: number 1000, or whoever runs the tests.
pub fn as_user(ask: impl FnOnce() -> String) -> String {
    asked_in_child(|| {
        // SAFETY: the calls take no pointers but an empty list.
        let result = unsafe {
            libc::setgroups(0, std::ptr::null());
            libc::setresgid(1000, 1000, 1000) | libc::setresuid(1000, 1000, 1000)
        };
        // SAFETY: takes no pointers.
        let ordinary = result == 0 || unsafe { libc::geteuid() } != 0;
        if ordinary { ask() } else { format!("setresuid: {}", last_errno()) }
    })
}

/// A pipe's read end and write end.
pub fn pipe() -> (i32, i32) {
    let mut ends = [-1; 2];
    // SAFETY: the kernel writes two ints.
    unsafe { libc::pipe(ends.as_mut_ptr()) };
    (ends[0], ends[1])
}

pub fn close(descriptor: i32) -> i32 {
    // SAFETY: takes no pointers.
    unsafe { libc::close(descriptor) }
}

pub fn write_all(descriptor: i32, bytes: &[u8]) {
    let mut rest = bytes;
    while !rest.is_empty() {
        // SAFETY: the bytes live through the call.
        let count = unsafe { libc::write(descriptor, rest.as_ptr().cast(), rest.len()) };
        if count <= 0 {
            return;
        }
        rest = rest.get(count as usize..).unwrap_or_default();
    }
}

/// write(2)'s own answer.
pub fn write(descriptor: i32, bytes: &[u8]) -> String {
    // SAFETY: the bytes live through the call.
    value(unsafe { libc::write(descriptor, bytes.as_ptr().cast(), bytes.len()) })
}

/// What one read(2) gives, as text; or the errno.
pub fn read(descriptor: i32, limit: usize) -> String {
    let mut buffer = vec![0_u8; limit];
    // SAFETY: the kernel writes at most the buffer's length.
    match unsafe { libc::read(descriptor, buffer.as_mut_ptr().cast(), limit) } {
        -1 => last_errno(),
        count => format!("{:?}", String::from_utf8_lossy(buffer.get(..count as usize).unwrap_or_default())),
    }
}

/// What one read(2) gives; nothing at an error.
pub fn read_up_to(descriptor: i32, limit: usize) -> Vec<u8> {
    let mut buffer = vec![0_u8; limit];
    // SAFETY: the kernel writes at most the buffer's length.
    let count = unsafe { libc::read(descriptor, buffer.as_mut_ptr().cast(), limit) };
    buffer.truncate(count.max(0) as usize);
    buffer
}

pub fn read_to_end(descriptor: i32) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        let part = read_up_to(descriptor, 4096);
        if part.is_empty() {
            return all;
        }
        all.extend(part);
    }
}

/// Whether a read would not wait.
pub fn poll_input(descriptor: i32, timeout_ms: i32) -> bool {
    let mut entry = libc::pollfd { fd: descriptor, events: libc::POLLIN, revents: 0 };
    // SAFETY: the kernel reads and writes one entry.
    unsafe { libc::poll(&mut entry, 1, timeout_ms) > 0 && entry.revents & libc::POLLIN != 0 }
}

pub fn open(path: &CStr, flags: i32) -> i32 {
    // SAFETY: the path ends with a zero.
    unsafe { libc::open(path.as_ptr(), flags, 0o666) }
}

/// Makes a file with this content and these permissions.
pub fn make_file(path: &CStr, content: &[u8], mode: libc::mode_t) {
    let descriptor = open(path, libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC);
    write_all(descriptor, content);
    // SAFETY: takes no pointers. The umask doesn't apply here.
    unsafe { libc::fchmod(descriptor, mode) };
    close(descriptor);
}

/// A file's content as text, or the errno.
pub fn content(path: &CStr) -> String {
    let descriptor = open(path, libc::O_RDONLY);
    if descriptor < 0 {
        return last_errno();
    }
    let text = format!("{:?}", String::from_utf8_lossy(&read_to_end(descriptor)));
    close(descriptor);
    text
}

pub fn status_of(path: &CStr) -> Option<libc::stat> {
    // SAFETY: stat is made of integers, for which zeros are valid; the kernel fills one.
    unsafe {
        let mut status = std::mem::zeroed();
        (libc::lstat(path.as_ptr(), &mut status) == 0).then_some(status)
    }
}

pub fn status_of_descriptor(descriptor: i32) -> Option<libc::stat> {
    // SAFETY: as above.
    unsafe {
        let mut status = std::mem::zeroed();
        (libc::fstat(descriptor, &mut status) == 0).then_some(status)
    }
}

/// execve with texts for arguments; comes back only to tell the errno.
pub fn execve(path: &CStr, arguments: &[&CStr], environment: &[&CStr]) -> String {
    let arguments: Vec<_> = arguments.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect();
    let environment: Vec<_> = environment.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect();
    // SAFETY: both vectors hold strings that live until the call returns, and end with a NULL.
    unsafe { libc::execve(path.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    last_errno()
}

/// Executes a file in a child and tells the errno, or how the new image ended.
pub fn exec_answer(path: &CStr, arguments: &[&CStr]) -> String {
    let (read_end, write_end) = pipe();
    let child = fork(|| {
        // SAFETY: takes no pointers.
        unsafe { libc::fcntl(write_end, libc::F_SETFD, libc::FD_CLOEXEC) };
        write_all(write_end, execve(path, arguments, &[]).as_bytes());
        0
    });
    close(write_end);
    let refused = String::from_utf8_lossy(&read_to_end(read_end)).into_owned();
    close(read_end);
    let ended = ending(child);
    if refused.is_empty() { ended } else { refused }
}

/// What this program's helper prints when it is executed with these arguments and this environment.
pub fn helper(arguments: &[&CStr], environment: &[&CStr]) -> String {
    helper_at(own_path(), arguments, environment)
}

pub fn helper_at(path: &CStr, arguments: &[&CStr], environment: &[&CStr]) -> String {
    let (read_end, write_end) = pipe();
    let child = fork(|| {
        // SAFETY: the calls take no pointers.
        unsafe {
            libc::dup2(write_end, 1);
            libc::close(read_end);
            libc::close(write_end);
        }
        let refused = execve(path, arguments, environment);
        write_all(1, refused.as_bytes());
        0
    });
    close(write_end);
    let text = String::from_utf8_lossy(&read_to_end(read_end)).into_owned();
    close(read_end);
    match ending(child).as_str() {
        "exit 0" => text,
        other => format!("{text}({other})"),
    }
}

/// Sleeps whatever signals come.
pub fn sleep_ms(milliseconds: u64) {
    std::thread::sleep(std::time::Duration::from_millis(milliseconds));
}

pub fn yes(holds: bool) -> &'static str {
    if holds { "yes" } else { "no" }
}
