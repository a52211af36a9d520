//! Extended attributes: no file system here has any, which is what these calls say once they have found the file.

use super::argument::Fd;
use super::paths::{AT_SYMLINK_NOFOLLOW, Caller, file, place_of};
use crate::errno::Errno;
use crate::memory::user_access::UserAddress;
use crate::task::Thread;

macro_rules! absent {
    ($($by_path:ident, $by_link:ident, $by_descriptor:ident;)*) => {$(
        pub fn $by_path(thread: &Thread, path: UserAddress) -> Result<(), Errno> {
            place_of(thread, &Caller::of(thread)?, Fd::CWD, path, 0)?;
            Err(Errno::EOPNOTSUPP)
        }

        pub fn $by_link(thread: &Thread, path: UserAddress) -> Result<(), Errno> {
            place_of(thread, &Caller::of(thread)?, Fd::CWD, path, AT_SYMLINK_NOFOLLOW)?;
            Err(Errno::EOPNOTSUPP)
        }

        pub fn $by_descriptor(thread: &Thread, descriptor: Fd) -> Result<(), Errno> {
            file(thread, descriptor)?;
            Err(Errno::EOPNOTSUPP)
        }
    )*};
}

absent! {
    setxattr, lsetxattr, fsetxattr;
    getxattr, lgetxattr, fgetxattr;
    removexattr, lremovexattr, fremovexattr;
}

/// The list of names is empty.
pub fn listxattr(thread: &Thread, path: UserAddress) -> Result<usize, Errno> {
    place_of(thread, &Caller::of(thread)?, Fd::CWD, path, 0).map(|_| 0)
}

pub fn llistxattr(thread: &Thread, path: UserAddress) -> Result<usize, Errno> {
    place_of(thread, &Caller::of(thread)?, Fd::CWD, path, AT_SYMLINK_NOFOLLOW).map(|_| 0)
}

pub fn flistxattr(thread: &Thread, descriptor: Fd) -> Result<usize, Errno> {
    file(thread, descriptor).map(|_| 0)
}
