//! Every system call that Keel has: its number, its function, its arguments' names and types.

use super::argument::{Argument, Fd};
use super::{Call, Entry, Outcome, Registers};
use super::{
    attributes, copy, descriptor, directory, exec, extended_attributes, futex, identity, limits, memory, mount, open,
    path_edit, poll, process, read_write, scheduling, signal, system, time,
};
use crate::errno::Errno;
use crate::memory::user_access::UserAddress;
use crate::task::Thread;

/// One past the highest number that is used.
const TABLE_LENGTH: usize = 453;

/// What a number without a call does.
pub static NO_SUCH_CALL: Call = |_, _| Errno::ENOSYS.as_return_value();

/// `number => module::function(name: Type, …);` — the function takes the calling thread first.
macro_rules! system_calls {
    ($($number:literal => $module:ident :: $function:ident ( $($argument:ident : $type:ty),* );)*) => {
        pub static TABLE: [Option<Entry>; TABLE_LENGTH] = {
            let mut table = [const { None }; TABLE_LENGTH];
            $(
                table[$number] =
                    Some(Entry { name: stringify!($function), arguments: &[$(stringify!($argument)),*] });
            )*
            table
        };

        /// The same numbers' functions, apart from what is only told of them: the dispatcher finds one by a single load.
        pub static CALLS: [Call; TABLE_LENGTH] = {
            let mut calls = [NO_SUCH_CALL; TABLE_LENGTH];
            $(
                calls[$number] = {
                    #[allow(unused_assignments, unused_mut, unused_variables, reason = "calls without arguments")]
                    fn call(thread: &Thread, registers: Registers) -> isize {
                        let mut next = 0;
                        $(
                            let $argument = <$type as Argument>::from_register(registers.get(next));
                            next += 1;
                        )*
                        $module::$function(thread $(, $argument)*).into_return_value()
                    }
                    call
                };
            )*
            calls
        };
    };
}

system_calls! {
    0 => read_write::read(descriptor: Fd, buffer: UserAddress, count: usize);
    1 => read_write::write(descriptor: Fd, buffer: UserAddress, count: usize);
    2 => open::open(path: UserAddress, flags: u32, mode: u32);
    3 => open::close(descriptor: Fd);
    4 => attributes::stat(path: UserAddress, buffer: UserAddress);
    5 => attributes::fstat(descriptor: Fd, buffer: UserAddress);
    6 => attributes::lstat(path: UserAddress, buffer: UserAddress);
    7 => poll::poll(descriptors: UserAddress, count: u32, timeout_ms: i32);
    8 => read_write::lseek(descriptor: Fd, offset: i64, whence: u32);
    9 => memory::mmap(address: u64, length: u64, protection: u64, flags: u64, fd: Fd, offset: u64);
    10 => memory::mprotect(address: u64, length: u64, protection: u64);
    11 => memory::munmap(address: u64, length: u64);
    12 => memory::brk(address: u64);
    13 => signal::rt_sigaction(number: u32, new: UserAddress, old: UserAddress, set_bytes: usize);
    14 => signal::rt_sigprocmask(how: u32, new: UserAddress, old: UserAddress, set_bytes: usize);
    15 => signal::rt_sigreturn();
    16 => descriptor::ioctl(descriptor: Fd, command: u32, argument: u64);
    17 => read_write::pread64(descriptor: Fd, buffer: UserAddress, count: usize, position: i64);
    18 => read_write::pwrite64(descriptor: Fd, buffer: UserAddress, count: usize, position: i64);
    19 => read_write::readv(descriptor: Fd, vector: UserAddress, count: u64);
    20 => read_write::writev(descriptor: Fd, vector: UserAddress, count: u64);
    21 => attributes::access(path: UserAddress, mode: u32);
    22 => descriptor::pipe(descriptors: UserAddress);
    23 => poll::select(count: i32, readable: UserAddress, writable: UserAddress, exceptional: UserAddress, timeout: UserAddress);
    24 => process::sched_yield();
    25 => memory::mremap(address: u64, old_length: u64, new_length: u64, flags: u64, new_address: u64);
    26 => memory::msync(address: u64, length: u64, flags: u32);
    27 => memory::mincore(address: u64, length: u64, result: UserAddress);
    28 => memory::madvise(address: u64, length: u64, advice: u32);
    32 => descriptor::dup(descriptor: Fd);
    33 => descriptor::dup2(old: Fd, new: Fd);
    34 => signal::pause();
    35 => time::nanosleep(request: UserAddress, remaining: UserAddress);
    36 => time::getitimer(which: i32, result: UserAddress);
    37 => time::alarm(seconds: u32);
    38 => time::setitimer(which: i32, new: UserAddress, old: UserAddress);
    39 => identity::getpid();
    40 => copy::sendfile(output: Fd, input: Fd, position: UserAddress, count: usize);
    56 => process::clone(flags: u64, stack: u64, parent_tid: UserAddress, child_tid: UserAddress, tls: u64);
    57 => process::fork();
    58 => process::vfork();
    59 => exec::execve(path: UserAddress, arguments: UserAddress, environment: UserAddress);
    60 => process::exit(status: i32);
    61 => process::wait4(pid: i32, status: UserAddress, options: u32, usage: UserAddress);
    62 => signal::kill(pid: i32, number: u32);
    63 => system::uname(result: UserAddress);
    72 => descriptor::fcntl(descriptor: Fd, command: u32, argument: u64);
    73 => descriptor::flock(descriptor: Fd, operation: u32);
    74 => read_write::fsync(descriptor: Fd);
    75 => read_write::fdatasync(descriptor: Fd);
    76 => read_write::truncate(path: UserAddress, size: i64);
    77 => read_write::ftruncate(descriptor: Fd, size: i64);
    78 => directory::getdents(descriptor: Fd, buffer: UserAddress, size: u32);
    79 => directory::getcwd(buffer: UserAddress, size: usize);
    80 => directory::chdir(path: UserAddress);
    81 => directory::fchdir(descriptor: Fd);
    82 => path_edit::rename(old: UserAddress, new: UserAddress);
    83 => path_edit::mkdir(path: UserAddress, mode: u32);
    84 => path_edit::rmdir(path: UserAddress);
    85 => open::creat(path: UserAddress, mode: u32);
    86 => path_edit::link(old: UserAddress, new: UserAddress);
    87 => path_edit::unlink(path: UserAddress);
    88 => path_edit::symlink(target: UserAddress, path: UserAddress);
    89 => attributes::readlink(path: UserAddress, buffer: UserAddress, size: i32);
    90 => attributes::chmod(path: UserAddress, mode: u32);
    91 => attributes::fchmod(descriptor: Fd, mode: u32);
    92 => attributes::chown(path: UserAddress, user: u32, group: u32);
    93 => attributes::fchown(descriptor: Fd, user: u32, group: u32);
    94 => attributes::lchown(path: UserAddress, user: u32, group: u32);
    95 => attributes::umask(mask: u32);
    96 => time::gettimeofday(time: UserAddress, zone: UserAddress);
    97 => limits::getrlimit(resource: u32, result: UserAddress);
    98 => limits::getrusage(who: i32, result: UserAddress);
    99 => system::sysinfo(result: UserAddress);
    100 => limits::times(result: UserAddress);
    102 => identity::getuid();
    103 => system::syslog(action: i32, buffer: UserAddress, length: i32);
    104 => identity::getgid();
    105 => identity::setuid(id: u32);
    106 => identity::setgid(id: u32);
    107 => identity::geteuid();
    108 => identity::getegid();
    109 => identity::setpgid(pid: i32, group: i32);
    110 => identity::getppid();
    111 => identity::getpgrp();
    112 => identity::setsid();
    113 => identity::setreuid(real: u32, effective: u32);
    114 => identity::setregid(real: u32, effective: u32);
    115 => identity::getgroups(room: i32, list: UserAddress);
    116 => identity::setgroups(count: i32, list: UserAddress);
    117 => identity::setresuid(real: u32, effective: u32, saved: u32);
    118 => identity::getresuid(real: UserAddress, effective: UserAddress, saved: UserAddress);
    119 => identity::setresgid(real: u32, effective: u32, saved: u32);
    120 => identity::getresgid(real: UserAddress, effective: UserAddress, saved: UserAddress);
    121 => identity::getpgid(pid: i32);
    122 => identity::setfsuid(id: u32);
    123 => identity::setfsgid(id: u32);
    124 => identity::getsid(pid: i32);
    127 => signal::rt_sigpending(set: UserAddress, set_bytes: usize);
    128 => signal::rt_sigtimedwait(set: UserAddress, info: UserAddress, timeout: UserAddress, set_bytes: usize);
    129 => signal::rt_sigqueueinfo(pid: i32, number: u32, info: UserAddress);
    130 => signal::rt_sigsuspend(mask: UserAddress, set_bytes: usize);
    131 => signal::sigaltstack(new: UserAddress, old: UserAddress);
    132 => attributes::utime(path: UserAddress, times: UserAddress);
    133 => path_edit::mknod(path: UserAddress, mode: u32, device: u64);
    135 => system::personality(persona: u32);
    137 => attributes::statfs(path: UserAddress, buffer: UserAddress);
    138 => attributes::fstatfs(descriptor: Fd, buffer: UserAddress);
    140 => scheduling::getpriority(which: i32, who: i32);
    141 => scheduling::setpriority(which: i32, who: i32, nice: i32);
    143 => scheduling::sched_getparam(tid: i32, parameter: UserAddress);
    144 => scheduling::sched_setscheduler(tid: i32, policy: i32, parameter: UserAddress);
    145 => scheduling::sched_getscheduler(tid: i32);
    146 => scheduling::sched_get_priority_max(policy: i32);
    147 => scheduling::sched_get_priority_min(policy: i32);
    148 => scheduling::sched_rr_get_interval(tid: i32, result: UserAddress);
    149 => memory::mlock(address: u64, length: u64);
    150 => memory::munlock(address: u64, length: u64);
    151 => memory::mlockall(flags: u32);
    152 => memory::munlockall();
    153 => system::vhangup();
    157 => system::prctl(option: u32, first: u64, second: u64, third: u64, fourth: u64);
    158 => process::arch_prctl(code: u32, address: u64);
    160 => limits::setrlimit(resource: u32, new: UserAddress);
    161 => directory::chroot(path: UserAddress);
    162 => read_write::sync();
    164 => time::settimeofday(time: UserAddress, zone: UserAddress);
    165 => mount::mount(source: UserAddress, target: UserAddress, kind: UserAddress, flags: u64, options: UserAddress);
    166 => mount::umount2(target: UserAddress, flags: u32);
    169 => system::reboot(magic: u32, magic_2: u32, command: u32);
    170 => system::sethostname(name: UserAddress, length: i32);
    171 => system::setdomainname(name: UserAddress, length: i32);
    186 => identity::gettid();
    187 => read_write::readahead(descriptor: Fd, start: u64, count: u64);
    188 => extended_attributes::setxattr(path: UserAddress);
    189 => extended_attributes::lsetxattr(path: UserAddress);
    190 => extended_attributes::fsetxattr(descriptor: Fd);
    191 => extended_attributes::getxattr(path: UserAddress);
    192 => extended_attributes::lgetxattr(path: UserAddress);
    193 => extended_attributes::fgetxattr(descriptor: Fd);
    194 => extended_attributes::listxattr(path: UserAddress);
    195 => extended_attributes::llistxattr(path: UserAddress);
    196 => extended_attributes::flistxattr(descriptor: Fd);
    197 => extended_attributes::removexattr(path: UserAddress);
    198 => extended_attributes::lremovexattr(path: UserAddress);
    199 => extended_attributes::fremovexattr(descriptor: Fd);
    200 => signal::tkill(tid: i32, number: u32);
    201 => time::time(result: UserAddress);
    202 => futex::futex(address: UserAddress, operation: u32, value: u32, timeout: UserAddress, second: UserAddress, third_value: u32);
    203 => scheduling::sched_setaffinity(tid: i32, length: usize, mask: UserAddress);
    204 => scheduling::sched_getaffinity(tid: i32, length: usize, mask: UserAddress);
    217 => directory::getdents64(descriptor: Fd, buffer: UserAddress, size: u32);
    218 => process::set_tid_address(address: UserAddress);
    219 => time::restart_syscall();
    221 => read_write::fadvise64(descriptor: Fd, start: i64, length: i64, advice: u32);
    227 => time::clock_settime(clock_id: i32, time: UserAddress);
    228 => time::clock_gettime(clock_id: i32, result: UserAddress);
    229 => time::clock_getres(clock_id: i32, result: UserAddress);
    230 => time::clock_nanosleep(clock_id: i32, flags: u32, request: UserAddress, remaining: UserAddress);
    231 => process::exit_group(status: i32);
    234 => signal::tgkill(group: i32, tid: i32, number: u32);
    235 => attributes::utimes(path: UserAddress, times: UserAddress);
    247 => process::waitid(kind: u32, id: i32, info: UserAddress, options: u32, usage: UserAddress);
    257 => open::openat(directory: Fd, path: UserAddress, flags: u32, mode: u32);
    258 => path_edit::mkdirat(directory: Fd, path: UserAddress, mode: u32);
    259 => path_edit::mknodat(directory: Fd, path: UserAddress, mode: u32, device: u64);
    260 => attributes::fchownat(directory: Fd, path: UserAddress, user: u32, group: u32, flags: u32);
    261 => attributes::futimesat(directory: Fd, path: UserAddress, times: UserAddress);
    262 => attributes::newfstatat(directory: Fd, path: UserAddress, buffer: UserAddress, flags: u32);
    263 => path_edit::unlinkat(directory: Fd, path: UserAddress, flags: u32);
    264 => path_edit::renameat(old_directory: Fd, old: UserAddress, new_directory: Fd, new: UserAddress);
    265 => path_edit::linkat(old_directory: Fd, old: UserAddress, new_directory: Fd, new: UserAddress, flags: u32);
    266 => path_edit::symlinkat(target: UserAddress, directory: Fd, path: UserAddress);
    267 => attributes::readlinkat(directory: Fd, path: UserAddress, buffer: UserAddress, size: i32);
    268 => attributes::fchmodat(directory: Fd, path: UserAddress, mode: u32);
    269 => attributes::faccessat(directory: Fd, path: UserAddress, mode: u32);
    270 => poll::pselect6(count: i32, readable: UserAddress, writable: UserAddress, exceptional: UserAddress, timeout: UserAddress, mask: UserAddress);
    271 => poll::ppoll(descriptors: UserAddress, count: u32, timeout: UserAddress, mask: UserAddress, mask_bytes: u64);
    273 => futex::set_robust_list(head: UserAddress, length: usize);
    274 => futex::get_robust_list(tid: i32, head: UserAddress, length: UserAddress);
    277 => read_write::sync_file_range(descriptor: Fd, start: i64, length: i64, flags: u32);
    280 => attributes::utimensat(directory: Fd, path: UserAddress, times: UserAddress, flags: u32);
    285 => read_write::fallocate(descriptor: Fd, mode: u32, start: i64, length: i64);
    292 => descriptor::dup3(old: Fd, new: Fd, flags: u32);
    293 => descriptor::pipe2(descriptors: UserAddress, flags: u32);
    295 => read_write::preadv(descriptor: Fd, vector: UserAddress, count: u64, position: i64);
    296 => read_write::pwritev(descriptor: Fd, vector: UserAddress, count: u64, position: i64);
    297 => signal::rt_tgsigqueueinfo(group: i32, tid: i32, number: u32, info: UserAddress);
    302 => limits::prlimit64(pid: i32, resource: u32, new: UserAddress, old: UserAddress);
    306 => read_write::syncfs(descriptor: Fd);
    309 => scheduling::getcpu(cpu: UserAddress, node: UserAddress);
    316 => path_edit::renameat2(old_directory: Fd, old: UserAddress, new_directory: Fd, new: UserAddress, flags: u32);
    318 => system::getrandom(buffer: UserAddress, length: usize, flags: u32);
    319 => open::memfd_create(name: UserAddress, flags: u32);
    322 => exec::execveat(directory: Fd, path: UserAddress, arguments: UserAddress, environment: UserAddress, flags: u32);
    326 => copy::copy_file_range(input: Fd, input_position: UserAddress, output: Fd, output_position: UserAddress, count: usize, flags: u32);
    327 => read_write::preadv2(descriptor: Fd, vector: UserAddress, count: u64, position: i64, high: u64, flags: u32);
    328 => read_write::pwritev2(descriptor: Fd, vector: UserAddress, count: u64, position: i64, high: u64, flags: u32);
    332 => attributes::statx(directory: Fd, path: UserAddress, flags: u32, mask: u32, buffer: UserAddress);
    435 => process::clone3(arguments: UserAddress, size: usize);
    436 => open::close_range(first: u32, last: u32, flags: u32);
    437 => open::openat2(directory: Fd, path: UserAddress, how: UserAddress, size: u64);
    439 => attributes::faccessat2(directory: Fd, path: UserAddress, mode: u32, flags: u32);
    452 => attributes::fchmodat2(directory: Fd, path: UserAddress, mode: u32, flags: u32);
}
