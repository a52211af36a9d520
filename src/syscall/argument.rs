//! The types that a system call's arguments can have, and how each comes out of a register.
//!
//! As on Linux an `int` argument is the register's low half, whatever the upper half holds.

use crate::memory::user_access::UserAddress;

pub trait Argument: Sized {
    fn from_register(value: u64) -> Self;
}

/// A file descriptor, or AT_FDCWD where a call allows that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fd(pub i32);

impl Fd {
    /// The current directory, for the `*at` calls.
    pub const CWD: Self = Self(-100);
}

impl Argument for Fd {
    #[inline(always)]
    fn from_register(value: u64) -> Self {
        Self(value as i32)
    }
}

impl Argument for UserAddress {
    #[inline(always)]
    fn from_register(value: u64) -> Self {
        Self::new(value)
    }
}

macro_rules! integers {
    ($($integer:ty),*) => {
        $(impl Argument for $integer {
            #[inline(always)]
            fn from_register(value: u64) -> Self {
                value as Self
            }
        })*
    };
}

integers!(i32, u32, i64, u64, usize, isize);
