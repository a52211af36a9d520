//! execve: a process becomes another program.

use super::argument::Fd;
use crate::errno::Errno;
use crate::memory::user_access::UserAddress;
use crate::task::Thread;

pub fn execve(_: &Thread, _path: UserAddress, _arguments: UserAddress, _environment: UserAddress) -> Result<(), Errno> {
    Err(Errno::ENOSYS)
}

pub fn execveat(
    _: &Thread,
    _d: Fd,
    _path: UserAddress,
    _arguments: UserAddress,
    _environment: UserAddress,
    _f: u32,
) -> Result<(), Errno> {
    Err(Errno::ENOSYS)
}
