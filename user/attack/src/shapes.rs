//! Calls with arguments of the kinds that they expect: what wholly random numbers seldom hit. One of them at a time may
//! still be hostile.

/// What an argument is.
#[derive(Clone, Copy)]
pub enum Shape {
    /// A descriptor, perhaps an open one.
    File,
    /// A path.
    Path,
    /// Where structures, strings and buffers are.
    Memory,
    /// A page's address.
    Page,
    /// A count of bytes.
    Length,
    /// Any of these bits.
    Bits(u64),
    /// A number below this.
    Below(u64),
    /// This process.
    Own,
    /// Anything.
    Any,
}

use Shape::{Any, Below, Bits, File, Length, Memory, Own, Page, Path};

macro_rules! shapes {
    ($($name:ident($($shape:expr),*);)*) => { &[$((libc::$name, &[$($shape),*]),)*] };
}

const ACCESS: Shape = Bits(7);
const MODE: Shape = Bits(0o7777);
const OPEN: Shape = Bits(0o37_777_703);
const SIGNAL: Shape = Below(66);

pub const SHAPES: &[(i64, &[Shape])] = shapes! {
    SYS_read(File, Memory, Length);
    SYS_write(File, Memory, Length);
    SYS_pread64(File, Memory, Length, Length);
    SYS_pwrite64(File, Memory, Length, Length);
    SYS_readv(File, Memory, Below(9));
    SYS_writev(File, Memory, Below(9));
    SYS_preadv2(File, Memory, Below(9), Length, Below(2), Bits(0x1f));
    SYS_pwritev2(File, Memory, Below(9), Length, Below(2), Bits(0x1f));
    SYS_lseek(File, Length, Below(6));
    SYS_openat(File, Path, OPEN, MODE);
    SYS_open(Path, OPEN, MODE);
    SYS_openat2(File, Path, Memory, Below(64));
    SYS_close(File);
    SYS_close_range(File, File, Bits(6));
    SYS_memfd_create(Path, Bits(3));
    SYS_newfstatat(File, Path, Memory, Bits(0x1900));
    SYS_statx(File, Path, Bits(0x7900), Any, Memory);
    SYS_readlinkat(File, Path, Memory, Length);
    SYS_getdents64(File, Memory, Length);
    SYS_getcwd(Memory, Length);
    SYS_chdir(Path);
    SYS_fchdir(File);
    SYS_renameat2(File, Path, File, Path, Bits(7));
    SYS_rename(Path, Path);
    SYS_mkdirat(File, Path, MODE);
    SYS_unlinkat(File, Path, Bits(0x200));
    SYS_linkat(File, Path, File, Path, Bits(0x1400));
    SYS_symlinkat(Path, File, Path);
    SYS_mknodat(File, Path, Bits(0o17_0777), Below(0x800));
    SYS_fchmodat(File, Path, MODE);
    SYS_fchownat(File, Path, Any, Any, Bits(0x1100));
    SYS_utimensat(File, Path, Memory, Bits(0x1100));
    SYS_faccessat2(File, Path, ACCESS, Bits(0x1300));
    SYS_truncate(Path, Length);
    SYS_ftruncate(File, Length);
    SYS_fallocate(File, Bits(0x7f), Length, Length);
    SYS_sendfile(File, File, Memory, Length);
    SYS_copy_file_range(File, Memory, File, Memory, Length, Below(1));
    SYS_fcntl(File, Below(17), Memory);
    SYS_fcntl(File, Below(17), Below(40));
    SYS_fcntl(File, Bits(0x40f), Length);
    SYS_flock(File, Bits(15));
    SYS_ioctl(File, Below(0x60), Memory);
    SYS_dup3(File, File, Bits(0x8_0000));
    SYS_pipe2(Memory, Bits(0x8_4800));
    SYS_statfs(Path, Memory);
    SYS_poll(Memory, Below(9), Below(5));
    SYS_ppoll(Memory, Below(9), Memory, Memory, Below(9));
    SYS_pselect6(Below(70), Memory, Memory, Memory, Memory, Memory);
    SYS_mmap(Page, Length, ACCESS, Bits(0x11_c133), File, Page);
    SYS_munmap(Page, Length);
    SYS_mprotect(Page, Length, ACCESS);
    SYS_mremap(Page, Length, Length, Bits(7), Page);
    SYS_madvise(Page, Length, Below(26));
    SYS_msync(Page, Length, Bits(7));
    SYS_mincore(Page, Length, Memory);
    SYS_mlock(Page, Length);
    SYS_brk(Page);
    SYS_clone(Bits(0x3ff_ffff), Memory, Memory, Memory, Memory);
    SYS_clone3(Memory, Below(128));
    SYS_execve(Path, Memory, Memory);
    SYS_execveat(File, Path, Memory, Memory, Bits(0x1100));
    SYS_wait4(Any, Memory, Bits(0xe000_000b), Memory);
    SYS_waitid(Below(4), Own, Memory, Bits(0xf), Memory);
    SYS_futex(Memory, Bits(0x18f), Any, Memory, Memory, Any);
    SYS_set_robust_list(Memory, Below(25));
    SYS_set_tid_address(Memory);
    SYS_rt_sigaction(SIGNAL, Memory, Memory, Bits(8));
    SYS_rt_sigprocmask(Below(4), Memory, Memory, Bits(8));
    SYS_rt_sigtimedwait(Memory, Memory, Memory, Bits(8));
    SYS_rt_sigsuspend(Memory, Bits(8));
    SYS_rt_sigqueueinfo(Own, SIGNAL, Memory);
    SYS_rt_tgsigqueueinfo(Own, Own, SIGNAL, Memory);
    SYS_sigaltstack(Memory, Memory);
    SYS_rt_sigreturn();
    SYS_kill(Own, SIGNAL);
    SYS_tgkill(Own, Own, SIGNAL);
    SYS_setitimer(Below(4), Memory, Memory);
    SYS_clock_nanosleep(Below(12), Bits(1), Memory, Memory);
    SYS_prlimit64(Own, Below(17), Memory, Memory);
    SYS_prctl(Below(60), Memory, Any, Any, Any);
    SYS_arch_prctl(Bits(0x1007), Any);
    SYS_setpgid(Own, Own);
    SYS_setpriority(Below(4), Own, Below(40));
    SYS_sched_setaffinity(Own, Length, Memory);
    SYS_setresuid(Any, Any, Any);
    SYS_setgroups(Below(20), Memory);
    SYS_getrandom(Memory, Length, Bits(7));
    SYS_getrusage(Below(3), Memory);
    SYS_personality(Any);
};
