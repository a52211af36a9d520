//! Every system call that Keel has: its number, its function, its arguments' names and types.

use super::argument::{Argument, Fd};
use super::{Entry, Outcome, Registers};
use super::{exec, identity, process};
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
    24 => process::sched_yield();
    39 => identity::getpid();
    56 => process::clone(flags: u64, stack: u64, parent_tid: UserAddress, child_tid: UserAddress, tls: u64);
    57 => process::fork();
    58 => process::vfork();
    59 => exec::execve(path: UserAddress, arguments: UserAddress, environment: UserAddress);
    60 => process::exit(status: i32);
    61 => process::wait4(pid: i32, status: UserAddress, options: u32, usage: UserAddress);
    110 => identity::getppid();
    158 => process::arch_prctl(code: u32, address: u64);
    186 => identity::gettid();
    218 => process::set_tid_address(address: UserAddress);
    231 => process::exit_group(status: i32);
    322 => exec::execveat(directory: Fd, path: UserAddress, arguments: UserAddress, environment: UserAddress, flags: u32);
}
