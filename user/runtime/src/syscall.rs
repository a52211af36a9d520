//! How a program asks the kernel for something: the number in rax, arguments in rdi, rsi, rdx, r10, r8, r9, the result
//! in rax; -1 … -4095 is an errno. `man 2` describes each call.

use core::arch::asm;
use core::ffi::{CStr, c_char};

/// An error number (`errno(3)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(pub i32);

impl Errno {
    pub const ENOENT: Errno = Errno(2);
    pub const EINTR: Errno = Errno(4);
    pub const ECHILD: Errno = Errno(10);
    pub const EAGAIN: Errno = Errno(11);
    pub const EFAULT: Errno = Errno(14);
    pub const ENOSYS: Errno = Errno(38);
}

macro_rules! numbers {
    ($($name:ident = $number:literal;)*) => { $(pub const $name: usize = $number;)* };
}

/// The calls' numbers.
pub mod number {
    numbers! {
        READ = 0; WRITE = 1; OPEN = 2; CLOSE = 3; POLL = 7; MMAP = 9; MPROTECT = 10; MUNMAP = 11; BRK = 12; RT_SIGACTION = 13; IOCTL = 16; PIPE = 22;
        SCHED_YIELD = 24; DUP2 = 33; NANOSLEEP = 35; GETPID = 39; FORK = 57; EXECVE = 59; EXIT = 60; WAIT4 = 61;
        KILL = 62; FCNTL = 72; SETPGID = 109; GETPPID = 110; GETUID = 102; GETGID = 104; GETEUID = 107;
        GETEGID = 108; CHDIR = 80; MKDIR = 83; MOUNT = 165; ARCH_PRCTL = 158; REBOOT = 169; CLOCK_GETTIME = 228; EXIT_GROUP = 231;
    }
}

/// Makes a system call and returns what rax holds afterwards.
///
/// # Safety
/// The call may read and write memory through its arguments, and change the process as a whole: the caller answers for
/// what this call does with these arguments.
#[inline(always)]
pub unsafe fn raw(call: usize, arguments: [usize; 6]) -> isize {
    let [first, second, third, fourth, fifth, sixth] = arguments;
    let result: isize;
    // SAFETY: the registers are the ABI's (appendix A.2.1); the kernel changes rax, rcx and r11 only. Memory is not
    // declared untouched, so that the compiler writes back and reads anew what the call may use.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") call as isize => result,
            in("rdi") first, in("rsi") second, in("rdx") third, in("r10") fourth, in("r8") fifth, in("r9") sixth,
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    result
}

/// Makes a system call and turns its result into an error or a value.
///
/// # Safety
/// As for `raw`.
#[inline(always)]
pub unsafe fn call(number: usize, arguments: [usize; 6]) -> Result<usize, Errno> {
    // SAFETY: passed on to our caller.
    let result = unsafe { raw(number, arguments) };
    if (-4095..0).contains(&result) { Err(Errno(-result as i32)) } else { Ok(result as usize) }
}

/// `call` with the arguments that are given, and zeros for the rest.
macro_rules! call {
    ($number:ident $(, $argument:expr)*) => {{
        let mut arguments = [0_usize; 6];
        let given = [$($argument as usize),*];
        arguments[..given.len()].copy_from_slice(&given);
        call(number::$number, arguments)
    }};
}

pub fn read(descriptor: i32, buffer: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: the kernel writes at most the buffer's length.
    unsafe { call!(READ, descriptor, buffer.as_mut_ptr(), buffer.len()) }
}

pub fn write(descriptor: i32, bytes: &[u8]) -> Result<usize, Errno> {
    // SAFETY: the kernel only reads the bytes.
    unsafe { call!(WRITE, descriptor, bytes.as_ptr(), bytes.len()) }
}

/// Writes all of the bytes, however many calls it takes. Gives up at an error: there is nobody to tell.
pub fn write_all(descriptor: i32, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match write(descriptor, bytes) {
            Ok(0) => return,
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(Errno::EINTR) => {}
            Err(_) => return,
        }
    }
}

pub fn open(path: &CStr, flags: i32, mode: u32) -> Result<i32, Errno> {
    // SAFETY: the path is a string that ends with a zero.
    unsafe { call!(OPEN, path.as_ptr(), flags, mode).map(|descriptor| descriptor as i32) }
}

pub fn close(descriptor: i32) -> Result<(), Errno> {
    // SAFETY: touches no memory.
    unsafe { call!(CLOSE, descriptor).map(drop) }
}

/// The read end and the write end of a new pipe.
pub fn pipe() -> Result<[i32; 2], Errno> {
    let mut ends = [0_i32; 2];
    // SAFETY: the kernel writes two ints.
    unsafe { call!(PIPE, ends.as_mut_ptr())? };
    Ok(ends)
}

pub fn dup2(from: i32, to: i32) -> Result<(), Errno> {
    // SAFETY: touches no memory.
    unsafe { call!(DUP2, from, to).map(drop) }
}

/// poll(2) of one descriptor for input: whether there is any, or an end.
pub fn poll_input(descriptor: i32, timeout_ms: i32) -> Result<bool, Errno> {
    const POLLIN: i16 = 1;
    #[repr(C)]
    struct PollDescriptor {
        descriptor: i32,
        events: i16,
        returned: i16,
    }
    let mut entry = PollDescriptor { descriptor, events: POLLIN, returned: 0 };
    // SAFETY: the kernel reads and writes one entry.
    unsafe { call!(POLL, &raw mut entry, 1, timeout_ms).map(|count| count > 0) }
}

pub fn getpid() -> i32 {
    // SAFETY: touches no memory.
    unsafe { raw(number::GETPID, [0; 6]) as i32 }
}

pub fn getppid() -> i32 {
    // SAFETY: touches no memory.
    unsafe { raw(number::GETPPID, [0; 6]) as i32 }
}

/// One of getuid, geteuid, getgid and getegid, which can't fail.
pub fn identity(number: usize) -> usize {
    // SAFETY: the four calls touch no memory.
    unsafe { raw(number, [0; 6]) as usize }
}

pub fn chdir(path: &CStr) -> Result<(), Errno> {
    // SAFETY: the path is a string that ends with a zero.
    unsafe { call!(CHDIR, path.as_ptr()).map(drop) }
}

pub fn mkdir(path: &CStr, mode: u32) -> Result<(), Errno> {
    // SAFETY: the path is a string that ends with a zero.
    unsafe { call!(MKDIR, path.as_ptr(), mode).map(drop) }
}

/// mount(2) of a file system that has no device and takes no data.
pub fn mount(kind: &CStr, target: &CStr) -> Result<(), Errno> {
    // SAFETY: the strings end with a zero, and the data is NULL.
    unsafe { call!(MOUNT, kind.as_ptr(), target.as_ptr(), kind.as_ptr(), 0, 0).map(drop) }
}

/// What fork answers.
pub enum Fork {
    Child,
    Parent(i32),
}

pub fn fork() -> Result<Fork, Errno> {
    // SAFETY: the child has a copy of everything, and this program has one thread.
    match unsafe { call!(FORK)? } {
        0 => Ok(Fork::Child),
        child => Ok(Fork::Parent(child as i32)),
    }
}

/// Replaces this image. Comes back only with an error.
///
/// # Safety
/// Both vectors hold pointers to strings that end with a zero, and a NULL at their end; or they are NULL.
pub unsafe fn execve(path: &CStr, arguments: *const *const c_char, environment: *const *const c_char) -> Errno {
    // SAFETY: the path is a string; the vectors are as our caller promises.
    match unsafe { call!(EXECVE, path.as_ptr(), arguments, environment) } {
        Err(errno) => errno,
        Ok(_) => Errno(0),
    }
}

/// What became of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Exited(i32),
    Killed(i32),
}

pub const WNOHANG: i32 = 1;

/// wait4(2): the child that ended, and how; None if WNOHANG found none.
pub fn wait(child: i32, options: i32) -> Result<Option<(i32, Ending)>, Errno> {
    let mut status = 0_i32;
    // SAFETY: the kernel writes one int, and no resource usage as the last argument is NULL.
    let found = unsafe { call!(WAIT4, child as isize, &raw mut status, options, 0)? };
    let ending = if status & 0x7f == 0 { Ending::Exited(status >> 8 & 0xff) } else { Ending::Killed(status & 0x7f) };
    Ok((found != 0).then_some((found as i32, ending)))
}

pub fn kill(process: i32, signal: i32) -> Result<(), Errno> {
    // SAFETY: touches no memory.
    unsafe { call!(KILL, process as isize, signal).map(drop) }
}

pub fn setpgid(process: i32, group: i32) -> Result<(), Errno> {
    // SAFETY: touches no memory.
    unsafe { call!(SETPGID, process, group).map(drop) }
}

pub fn sched_yield() {
    // SAFETY: touches no memory.
    unsafe { raw(number::SCHED_YIELD, [0; 6]) };
}

pub fn sleep_ms(milliseconds: u64) -> Result<(), Errno> {
    let duration = [milliseconds / 1000, milliseconds % 1000 * 1_000_000];
    // SAFETY: the kernel reads one timespec.
    unsafe { call!(NANOSLEEP, duration.as_ptr(), 0).map(drop) }
}

/// CLOCK_MONOTONIC, in nanoseconds.
pub fn monotonic_ns() -> Result<u64, Errno> {
    const CLOCK_MONOTONIC: usize = 1;
    let mut time = [0_u64; 2];
    // SAFETY: the kernel writes one timespec.
    unsafe { call!(CLOCK_GETTIME, CLOCK_MONOTONIC, time.as_mut_ptr())? };
    Ok(time[0] * 1_000_000_000 + time[1])
}

/// Private anonymous memory, readable and writable.
pub fn map_anonymous(size_bytes: usize) -> Result<*mut u8, Errno> {
    const PROT_READ_WRITE: usize = 3;
    const MAP_PRIVATE_ANONYMOUS: usize = 0x22;
    // SAFETY: with no address given, the kernel chooses a range that nothing uses.
    unsafe {
        call!(MMAP, 0, size_bytes, PROT_READ_WRITE, MAP_PRIVATE_ANONYMOUS, -1_isize, 0)
            .map(|address| address as *mut u8)
    }
}

const ARCH_SET_FS: usize = 0x1002;
const ARCH_GET_FS: usize = 0x1003;

pub fn fs_base() -> Result<usize, Errno> {
    let mut base = 0_usize;
    // SAFETY: the kernel writes one word.
    unsafe { call!(ARCH_PRCTL, ARCH_GET_FS, &raw mut base)? };
    Ok(base)
}

/// # Safety
/// `base` is the thread pointer of a variant II block, and no thread-local is borrowed.
pub unsafe fn set_fs_base(base: usize) -> Result<(), Errno> {
    // SAFETY: passed on to our caller.
    unsafe { call!(ARCH_PRCTL, ARCH_SET_FS, base).map(drop) }
}

/// Ends the process, with all its threads.
pub fn exit(status: i32) -> ! {
    loop {
        // SAFETY: touches no memory; the loop is for a kernel that knows only the older `exit`.
        unsafe {
            raw(number::EXIT_GROUP, [status as usize, 0, 0, 0, 0, 0]);
            raw(number::EXIT, [status as usize, 0, 0, 0, 0, 0]);
        }
    }
}

/// Every signal as a program finds it that nobody prepared for: default actions.
pub fn reset_signals() {
    for signal in 1..=64 {
        let default = [0_u64; 4];
        // SAFETY: rt_sigaction reads 32 bytes, a struct sigaction whose handler is SIG_DFL. For SIGKILL and SIGSTOP it fails,
        // and they are as they always are.
        let _ = unsafe { call(number::RT_SIGACTION, [signal, default.as_ptr() as usize, 0, 8, 0, 0]) };
    }
}
