//! Runs a list of test programs and prints what each did: `runner LIST [PREFIX…]`.
//!
//! In Keel it is init (`init=/tests/runner -- /tests/oracle.list`); on Linux it is an ordinary program. The same list
//! gives the same text on both, or Keel has a bug. It asks for little: fork, execve, wait4, write and exit must work.
//! With a pipe and poll it also takes care that a program's output is whole lines, and that one which hangs is killed.
//!
//! A line of the list is a program's name, its arguments (double quotes group), and before them, if the usual limit
//! doesn't suit, `@SECONDS`. `#` starts a comment. The programs are those beside the list. With prefixes given, only
//! lines that start with one of them are run. What is printed for each:
//!
//! ```text
//! === fork_wait
//! (its output)
//! === fork_wait: exited with status 0
//! ```

#![no_std]
#![no_main]

mod list;

use core::ffi::CStr;
use core::ptr::null;
use list::Entry;
use runtime::syscall::{self, Ending, Errno, Fork, WNOHANG};
use runtime::{Process, println};

runtime::entry!(main);

const DEFAULT_LIMIT_S: u64 = 60;
const LIST_LIMIT_BYTES: usize = 32 * 1024;
const POLL_MS: i32 = 50;
const SIGKILL: i32 = 9;
/// What a child ends with when its program can't be executed, as in a shell.
const NOT_EXECUTED: i32 = 127;

fn main(process: &Process) -> i32 {
    let Some(list_path) = process.argument(1) else {
        println!("usage: runner LIST [PREFIX…]");
        return 2;
    };
    if syscall::getpid() == 1 {
        mount_what_tests_read();
    }
    let mut text = [0_u8; LIST_LIMIT_BYTES];
    let text = match read_file(list_path, &mut text) {
        Ok(text) => text,
        Err(errno) => {
            println!("runner: the list can't be read: errno {}", errno.0);
            return 2;
        }
    };
    enter_folder_of(list_path);
    let wanted = |line: &[u8]| {
        process.argument_count() == 2 || process.arguments().skip(2).any(|prefix| line.starts_with(prefix.to_bytes()))
    };
    let mut count = 0;
    for line in text.split(|&byte| byte == b'\n') {
        let entry = Entry::parse(line);
        if let Some(entry) = entry
            && wanted(entry.command())
        {
            run(&entry);
            count += 1;
        }
    }
    println!("=== {count} programs were run");
    0
}

/// Some tests look into /proc and /dev. Where a mount fails, their results will say so.
fn mount_what_tests_read() {
    let mounts = [(c"proc", c"/proc"), (c"devtmpfs", c"/dev"), (c"tmpfs", c"/dev/shm"), (c"tmpfs", c"/tmp")];
    for (kind, target) in mounts {
        // The folder may be there already, and so may the mount.
        let _ = syscall::mkdir(target, 0o755);
        let _ = syscall::mount(kind, target);
    }
}

fn read_file<'a>(path: &CStr, buffer: &'a mut [u8]) -> Result<&'a [u8], Errno> {
    let descriptor = syscall::open(path, 0, 0)?;
    let mut length = 0;
    loop {
        let count = syscall::read(descriptor, &mut buffer[length..])?;
        if count == 0 {
            break;
        }
        length += count;
    }
    syscall::close(descriptor)?;
    Ok(&buffer[..length])
}

/// The programs are started as `./NAME`, so that their argv[0] doesn't tell where they are.
fn enter_folder_of(path: &CStr) {
    let bytes = path.to_bytes();
    let mut folder = [0_u8; 512];
    if let Some(end) = bytes.iter().rposition(|&byte| byte == b'/')
        && end + 2 <= folder.len()
    {
        let end = end.max(1);
        folder[..end].copy_from_slice(&bytes[..end]);
        if let Ok(folder) = CStr::from_bytes_until_nul(&folder)
            && let Err(errno) = syscall::chdir(folder)
        {
            println!("runner: chdir: errno {}", errno.0);
        }
    }
}

fn run(entry: &Entry) {
    println!("=== {}", entry.name());
    let pipe = syscall::pipe().ok();
    match syscall::fork() {
        Err(errno) => println!("=== {}: fork: errno {}", entry.name(), errno.0),
        Ok(Fork::Child) => become_program(entry, pipe),
        Ok(Fork::Parent(child)) => {
            // Both sides set the group, as neither knows who runs first.
            let _ = syscall::setpgid(child, child);
            let ending = match pipe {
                Some([output, input]) => {
                    let _ = syscall::close(input);
                    let ending = follow(child, output, entry.limit_s());
                    let _ = syscall::close(output);
                    ending
                }
                None => wait_for(child),
            };
            clean_up_after(child);
            report(entry, ending);
        }
    }
}

fn become_program(entry: &Entry, pipe: Option<[i32; 2]>) -> ! {
    let _ = syscall::setpgid(0, 0);
    // Whoever started the runner may ignore some, and programs inherit that.
    syscall::reset_signals();
    if let Some([output, input]) = pipe {
        let _ = syscall::dup2(input, 1);
        let _ = syscall::dup2(input, 2);
        let _ = syscall::close(input);
        let _ = syscall::close(output);
    }
    let environment = [c"PATH=/bin:/sbin:/usr/bin:/usr/sbin".as_ptr(), c"HOME=/".as_ptr(), null()];
    let mut arguments = [null(); list::ARGUMENT_LIMIT + 1];
    entry.fill_arguments(&mut arguments);
    // SAFETY: the entry's strings end with zeros, and both vectors with a NULL.
    let errno = unsafe { syscall::execve(entry.path(), arguments.as_ptr(), environment.as_ptr()) };
    println!("runner: execve: errno {}", errno.0);
    syscall::exit(NOT_EXECUTED)
}

/// How a program's run ended.
enum Outcome {
    Ended(Ending),
    TimedOut(u64),
    Lost(Errno),
}

/// Copies the child's output until the child has ended and the pipe is empty, or its time is over.
fn follow(child: i32, output: i32, limit_s: u64) -> Outcome {
    let clock = Stopwatch::start();
    let mut printer = LinePrinter { at_line_start: true };
    let mut ended = None;
    loop {
        match syscall::poll_input(output, if ended.is_some() { 0 } else { POLL_MS }) {
            Ok(true) => {
                if printer.copy(output) > 0 {
                    continue;
                }
                // The end of the pipe: nobody can write any more, but the child may still run.
                if ended.is_none() {
                    clock.pause();
                }
            }
            Ok(false) => clock.count_poll(),
            Err(Errno::ENOSYS) => {
                while printer.copy(output) > 0 {}
                ended = Some(wait_for(child));
            }
            Err(_) => {}
        }
        if let Some(outcome) = ended {
            printer.finish();
            return outcome;
        }
        ended = match syscall::wait(child, WNOHANG) {
            Ok(Some((_, ending))) => Some(Outcome::Ended(ending)),
            Ok(None) if clock.elapsed_s() >= limit_s => {
                let _ = syscall::kill(-child, SIGKILL);
                let _ = syscall::kill(child, SIGKILL);
                let _ = syscall::wait(child, 0);
                Some(Outcome::TimedOut(limit_s))
            }
            Ok(None) => None,
            Err(errno) => Some(Outcome::Lost(errno)),
        };
    }
}

fn wait_for(child: i32) -> Outcome {
    loop {
        match syscall::wait(child, 0) {
            Ok(Some((_, ending))) => return Outcome::Ended(ending),
            Ok(None) | Err(Errno::EINTR) => {}
            Err(errno) => return Outcome::Lost(errno),
        }
    }
}

/// Ends what the program left behind; as init, also buries what was handed to us.
fn clean_up_after(child: i32) {
    let _ = syscall::kill(-child, SIGKILL);
    while let Ok(Some(_)) = syscall::wait(-1, WNOHANG) {}
}

fn report(entry: &Entry, outcome: Outcome) {
    match outcome {
        Outcome::Ended(Ending::Exited(status)) => println!("=== {}: exited with status {status}", entry.name()),
        Outcome::Ended(Ending::Killed(signal)) => println!("=== {}: killed by signal {signal}", entry.name()),
        Outcome::TimedOut(limit_s) => println!("=== {}: timed out after {limit_s} s", entry.name()),
        Outcome::Lost(errno) => println!("=== {}: wait4: errno {}", entry.name(), errno.0),
    }
}

/// Measures time by the monotonic clock, or, on a kernel that has none yet, by the polls that found nothing.
struct Stopwatch {
    started_ns: Option<u64>,
    polls: core::cell::Cell<u64>,
}

impl Stopwatch {
    fn start() -> Stopwatch {
        Stopwatch { started_ns: syscall::monotonic_ns().ok(), polls: core::cell::Cell::new(0) }
    }

    fn count_poll(&self) {
        self.polls.set(self.polls.get() + 1);
    }

    /// Lets one poll's time pass where poll itself no longer waits.
    fn pause(&self) {
        if syscall::sleep_ms(POLL_MS as u64).is_err() {
            syscall::sched_yield();
        }
        self.count_poll();
    }

    fn elapsed_s(&self) -> u64 {
        match (self.started_ns, syscall::monotonic_ns()) {
            (Some(start), Ok(now)) => now.saturating_sub(start) / 1_000_000_000,
            _ => self.polls.get() * POLL_MS as u64 / 1000,
        }
    }
}

/// Passes output on, and sees to it that our own next line starts a line.
struct LinePrinter {
    at_line_start: bool,
}

impl LinePrinter {
    /// Copies what one read gives; 0 at the end or an error.
    fn copy(&mut self, descriptor: i32) -> usize {
        let mut buffer = [0_u8; 4096];
        let count = syscall::read(descriptor, &mut buffer).unwrap_or(0);
        let bytes = &buffer[..count];
        syscall::write_all(1, bytes);
        if let Some(&last) = bytes.last() {
            self.at_line_start = last == b'\n';
        }
        count
    }

    fn finish(&mut self) {
        if !self.at_line_start {
            println!();
        }
    }
}
