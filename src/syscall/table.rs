//! Every system call that Keel has: its number, its function, its arguments' names and types.

use super::argument::{Argument, Fd};
use super::{Entry, Outcome, Registers};
use super::{exec, identity, memory, process, signal, time};
use crate::memory::user_access::UserAddress;
use crate::task::Thread;

/// One past the highest number that Linux 6.1 has.
const TABLE_LENGTH: usize = 451;

/// `number => module::function(name: Type, …);` — the function takes the calling thread first.
macro_rules! system_calls {
    ($($number:literal => $module:ident :: $function:ident ( $($argument:ident : $type:ty),* );)*) => {
        pub static TABLE: [Option<Entry>; TABLE_LENGTH] = {
            let mut table = [const { None }; TABLE_LENGTH];
            $(
                table[$number] = Some(Entry {
                    name: stringify!($function),
                    arguments: &[$(stringify!($argument)),*],
                    call: {
                        #[allow(unused_assignments, unused_mut, unused_variables, reason = "calls without arguments")]
                        fn call(thread: &Thread, registers: &Registers) -> isize {
                            let mut next = 0;
                            $(
                                let $argument = <$type as Argument>::from_register(registers.get(next));
                                next += 1;
                            )*
                            $module::$function(thread $(, $argument)*).as_return_value()
                        }
                        call
                    },
                });
            )*
            table
        };
    };
}

system_calls! {
    9 => memory::mmap(address: u64, length: u64, protection: u64, flags: u64, fd: Fd, offset: u64);
    10 => memory::mprotect(address: u64, length: u64, protection: u64);
    11 => memory::munmap(address: u64, length: u64);
    12 => memory::brk(address: u64);
    13 => signal::rt_sigaction(number: u32, new: UserAddress, old: UserAddress, set_bytes: usize);
    14 => signal::rt_sigprocmask(how: u32, new: UserAddress, old: UserAddress, set_bytes: usize);
    15 => signal::rt_sigreturn();
    24 => process::sched_yield();
    25 => memory::mremap(address: u64, old_length: u64, new_length: u64, flags: u64, new_address: u64);
    26 => memory::msync(address: u64, length: u64, flags: u32);
    27 => memory::mincore(address: u64, length: u64, result: UserAddress);
    28 => memory::madvise(address: u64, length: u64, advice: u32);
    34 => signal::pause();
    35 => time::nanosleep(request: UserAddress, remaining: UserAddress);
    39 => identity::getpid();
    56 => process::clone(flags: u64, stack: u64, parent_tid: UserAddress, child_tid: UserAddress, tls: u64);
    57 => process::fork();
    58 => process::vfork();
    59 => exec::execve(path: UserAddress, arguments: UserAddress, environment: UserAddress);
    60 => process::exit(status: i32);
    61 => process::wait4(pid: i32, status: UserAddress, options: u32, usage: UserAddress);
    62 => signal::kill(pid: i32, number: u32);
    96 => time::gettimeofday(time: UserAddress, zone: UserAddress);
    110 => identity::getppid();
    127 => signal::rt_sigpending(set: UserAddress, set_bytes: usize);
    128 => signal::rt_sigtimedwait(set: UserAddress, info: UserAddress, timeout: UserAddress, set_bytes: usize);
    129 => signal::rt_sigqueueinfo(pid: i32, number: u32, info: UserAddress);
    130 => signal::rt_sigsuspend(mask: UserAddress, set_bytes: usize);
    131 => signal::sigaltstack(new: UserAddress, old: UserAddress);
    149 => memory::mlock(address: u64, length: u64);
    150 => memory::munlock(address: u64, length: u64);
    158 => process::arch_prctl(code: u32, address: u64);
    186 => identity::gettid();
    164 => time::settimeofday(time: UserAddress, zone: UserAddress);
    200 => signal::tkill(tid: i32, number: u32);
    201 => time::time(result: UserAddress);
    218 => process::set_tid_address(address: UserAddress);
    219 => time::restart_syscall();
    227 => time::clock_settime(clock_id: i32, time: UserAddress);
    228 => time::clock_gettime(clock_id: i32, result: UserAddress);
    229 => time::clock_getres(clock_id: i32, result: UserAddress);
    230 => time::clock_nanosleep(clock_id: i32, flags: u32, request: UserAddress, remaining: UserAddress);
    231 => process::exit_group(status: i32);
    234 => signal::tgkill(group: i32, tid: i32, number: u32);
    297 => signal::rt_tgsigqueueinfo(group: i32, tid: i32, number: u32, info: UserAddress);
    322 => exec::execveat(directory: Fd, path: UserAddress, arguments: UserAddress, environment: UserAddress, flags: u32);
}
