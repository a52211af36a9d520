//! The flags of `open(2)`, with Linux's values on x86-64.

use super::inode::{READ, WRITE};
use bitflags::bitflags;

bitflags! {
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct OpenFlags: u32 {
        const WRITE_ONLY = 0o1;
        const READ_WRITE = 0o2;
        const CREATE = 0o100;
        const EXCLUSIVE = 0o200;
        const NO_CONTROLLING_TERMINAL = 0o400;
        const TRUNCATE = 0o1000;
        const APPEND = 0o2000;
        const NONBLOCK = 0o4000;
        const DATA_SYNC = 0o10000;
        const ASYNC = 0o20000;
        const DIRECT = 0o40000;
        const LARGE_FILE = 0o100000;
        const DIRECTORY = 0o200000;
        const NO_FOLLOW = 0o400000;
        const NO_ACCESS_TIME = 0o1000000;
        const CLOSE_ON_EXEC = 0o2000000;
        const SYNC = 0o4000000;
        const PATH = 0o10000000;
        const TEMPORARY = 0o20000000;
    }
}

impl OpenFlags {
    /// What `fcntl(F_SETFL)` may change. Not O_ASYNC: nothing here sends a signal when it is ready.
    pub const SETTABLE: Self = Self::APPEND.union(Self::NONBLOCK).union(Self::DIRECT).union(Self::NO_ACCESS_TIME);

    /// What counts only while opening, and isn't reported by `fcntl(F_GETFL)`.
    pub const OPENING: Self = Self::CREATE
        .union(Self::EXCLUSIVE)
        .union(Self::NO_CONTROLLING_TERMINAL)
        .union(Self::TRUNCATE)
        .union(Self::CLOSE_ON_EXEC);

    /// The access that the file must permit: [`READ`] and [`WRITE`]. The mode 3 asks for both (and opens for neither).
    pub fn access(self) -> u32 {
        match self.bits() & 3 {
            0 => READ,
            1 => WRITE,
            _ => READ | WRITE,
        }
    }

    pub fn is_readable(self) -> bool {
        !self.contains(Self::PATH) && matches!(self.bits() & 3, 0 | 2)
    }

    pub fn is_writable(self) -> bool {
        !self.contains(Self::PATH) && matches!(self.bits() & 3, 1 | 2)
    }
}
