//! argv and envp where execve's caller has them: in its own memory, which may be bad anywhere and may change meanwhile.

use super::{Arguments, List};
use crate::errno::Errno;
use crate::memory::user_access::{self, StringEnd, UserAddress};

/// The two arrays of pointers; a NULL one is an empty one.
#[derive(Clone, Copy)]
pub struct UserArguments {
    pub arguments: UserAddress,
    pub environment: UserAddress,
}

impl UserArguments {
    /// The index-th pointer; NULL at the end.
    fn pointer(&self, list: List, index: usize) -> Result<UserAddress, Errno> {
        let array = match list {
            List::Arguments => self.arguments,
            List::Environment => self.environment,
        };
        if array.is_null() {
            return Ok(array);
        }
        user_access::read_value(array.offset((index as u64).saturating_mul(size_of::<u64>() as u64)))
    }
}

impl Arguments for UserArguments {
    fn has(&self, list: List, index: usize) -> Result<bool, Errno> {
        Ok(!self.pointer(list, index)?.is_null())
    }

    fn length(&self, list: List, index: usize, limit: usize) -> Result<Option<usize>, Errno> {
        match user_access::string_length(self.pointer(list, index)?, limit)? {
            StringEnd::Whole(length) => Ok(Some(length)),
            StringEnd::TooLong => Ok(None),
        }
    }

    fn copy(&self, list: List, index: usize, from: usize, into: &mut [u8]) -> Result<(), Errno> {
        user_access::copy_in(into, self.pointer(list, index)?.offset(from as u64))
    }
}
