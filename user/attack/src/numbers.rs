//! The system calls by name, and which of their arguments are pointers: what the attacks on pointers go through.

/// What an argument is.
#[derive(Clone, Copy, PartialEq)]
pub enum Kind {
    /// A pointer that the kernel reads or writes through.
    Pointer,
    /// A pointer to a string.
    Path,
    /// A number, and a harmless value for it.
    Number(usize),
}

use Kind::{Number, Path, Pointer};

pub struct Call {
    pub name: &'static str,
    pub number: i64,
    pub arguments: &'static [Kind],
}

macro_rules! calls {
    ($($name:ident($($argument:expr),*);)*) => {
        &[$(Call { name: stringify!($name), number: libc::$name, arguments: &[$($argument),*] },)*]
    };
}

const CWD: Kind = Number(libc::AT_FDCWD as usize);
/// Descriptor 0: /dev/null in the cases.
const INPUT: Kind = Number(0);
const SIZE: Kind = Number(64);
const ZERO: Kind = Number(0);
const ONE: Kind = Number(1);

/// Calls with pointers. Each would succeed, or fail harmlessly, with good ones.
pub const CALLS: &[Call] = calls! {
    SYS_read(Number(3), Pointer, SIZE);
    SYS_write(Number(4), Pointer, SIZE);
    SYS_open(Path, ZERO, ZERO);
    SYS_openat(CWD, Path, ZERO, ZERO);
    SYS_stat(Path, Pointer);
    SYS_lstat(Path, Pointer);
    SYS_fstat(INPUT, Pointer);
    SYS_newfstatat(CWD, Path, Pointer, ZERO);
    SYS_statx(CWD, Path, ZERO, Number(0x7ff), Pointer);
    SYS_poll(Pointer, ONE, ZERO);
    SYS_ppoll(Pointer, ONE, Pointer, Pointer, Number(8));
    SYS_select(Number(8), Pointer, Pointer, Pointer, Pointer);
    SYS_pselect6(Number(8), Pointer, Pointer, Pointer, Pointer, Pointer);
    SYS_rt_sigaction(Number(10), Pointer, Pointer, Number(8));
    SYS_rt_sigprocmask(ZERO, Pointer, Pointer, Number(8));
    SYS_rt_sigpending(Pointer, Number(8));
    SYS_rt_sigtimedwait(Pointer, Pointer, Pointer, Number(8));
    SYS_rt_sigsuspend(Pointer, Number(4));
    SYS_sigaltstack(Pointer, Pointer);
    SYS_pread64(Number(5), Pointer, SIZE, ZERO);
    SYS_pwrite64(Number(5), Pointer, SIZE, ZERO);
    SYS_readv(Number(3), Pointer, ONE);
    SYS_writev(Number(4), Pointer, ONE);
    SYS_preadv(Number(5), Pointer, ONE, ZERO);
    SYS_pwritev(Number(5), Pointer, ONE, ZERO);
    SYS_access(Path, ZERO);
    SYS_faccessat(CWD, Path, ZERO);
    SYS_pipe(Pointer);
    SYS_pipe2(Pointer, ZERO);
    SYS_nanosleep(Pointer, Pointer);
    SYS_clock_nanosleep(ONE, ZERO, Pointer, Pointer);
    SYS_clock_gettime(ONE, Pointer);
    SYS_clock_getres(ONE, Pointer);
    SYS_gettimeofday(Pointer, Pointer);
    SYS_time(Pointer);
    SYS_times(Pointer);
    SYS_getitimer(ZERO, Pointer);
    SYS_setitimer(Number(1), Pointer, Pointer);
    SYS_sendfile(Number(4), Number(5), Pointer, ONE);
    SYS_copy_file_range(Number(5), Pointer, Number(6), Pointer, ONE, ZERO);
    SYS_execve(Path, Pointer, Pointer);
    SYS_execveat(CWD, Path, Pointer, Pointer, ZERO);
    SYS_wait4(Number(usize::MAX), Pointer, ONE, Pointer);
    SYS_waitid(ZERO, ZERO, Pointer, Number(5), Pointer);
    SYS_uname(Pointer);
    SYS_sysinfo(Pointer);
    SYS_truncate(Path, ZERO);
    SYS_getdents64(Number(7), Pointer, Number(512));
    SYS_getcwd(Pointer, Number(512));
    SYS_chdir(Path);
    SYS_rename(Path, Path);
    SYS_renameat(CWD, Path, CWD, Path);
    SYS_renameat2(CWD, Path, CWD, Path, ZERO);
    SYS_mkdir(Path, Number(0o755));
    SYS_mkdirat(CWD, Path, Number(0o755));
    SYS_rmdir(Path);
    SYS_link(Path, Path);
    SYS_linkat(CWD, Path, CWD, Path, ZERO);
    SYS_unlink(Path);
    SYS_unlinkat(CWD, Path, ZERO);
    SYS_symlink(Path, Path);
    SYS_symlinkat(Path, CWD, Path);
    SYS_readlink(Path, Pointer, SIZE);
    SYS_readlinkat(CWD, Path, Pointer, SIZE);
    SYS_chmod(Path, Number(0o644));
    SYS_fchmodat(CWD, Path, Number(0o644));
    SYS_chown(Path, Number(usize::MAX), Number(usize::MAX));
    SYS_lchown(Path, Number(usize::MAX), Number(usize::MAX));
    SYS_fchownat(CWD, Path, Number(usize::MAX), Number(usize::MAX), ZERO);
    SYS_mknod(Path, Number(0o100644), ZERO);
    SYS_mknodat(CWD, Path, Number(0o100644), ZERO);
    SYS_utimensat(CWD, Path, Pointer, ZERO);
    SYS_statfs(Path, Pointer);
    SYS_fstatfs(INPUT, Pointer);
    SYS_getrlimit(ZERO, Pointer);
    SYS_prlimit64(ZERO, Number(4), ZERO, Pointer);
    SYS_getrusage(ZERO, Pointer);
    SYS_getgroups(Number(8), Pointer);
    SYS_getresuid(Pointer, Pointer, Pointer);
    SYS_getresgid(Pointer, Pointer, Pointer);
    SYS_prctl(Number(16), Pointer);
    SYS_arch_prctl(Number(0x1003), Pointer);
    SYS_futex(Pointer, ONE, ONE);
    SYS_set_robust_list(Pointer, Number(24));
    SYS_get_robust_list(ZERO, Pointer, Pointer);
    SYS_sched_getaffinity(ZERO, Number(128), Pointer);
    SYS_sched_getparam(ZERO, Pointer);
    SYS_getrandom(Pointer, SIZE, ZERO);
    SYS_getcpu(Pointer, Pointer);
    SYS_mincore(Pointer, Number(4096), Pointer);
    SYS_chroot(Path);
    SYS_ioctl(Number(3), Number(0x541b), Pointer);
    SYS_fcntl(Number(5), Number(5), Pointer);
    SYS_clone3(Pointer, Number(88));
};
