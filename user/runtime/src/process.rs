//! What the kernel left on the new image's stack: arguments, environment, auxiliary vector.

use core::ffi::{CStr, c_char};

/// The keys of the auxiliary vector (`getauxval(3)`, linux/auxvec.h).
pub mod auxiliary {
    pub const PHDR: usize = 3;
    pub const PHENT: usize = 4;
    pub const PHNUM: usize = 5;
    pub const PAGESZ: usize = 6;
    pub const BASE: usize = 7;
    pub const FLAGS: usize = 8;
    pub const ENTRY: usize = 9;
    pub const UID: usize = 11;
    pub const EUID: usize = 12;
    pub const GID: usize = 13;
    pub const EGID: usize = 14;
    pub const PLATFORM: usize = 15;
    pub const HWCAP: usize = 16;
    pub const CLKTCK: usize = 17;
    pub const SECURE: usize = 23;
    pub const RANDOM: usize = 25;
    pub const HWCAP2: usize = 26;
    pub const EXECFN: usize = 31;
    pub const SYSINFO_EHDR: usize = 33;
    pub const MINSIGSTKSZ: usize = 51;
}

/// The initial stack of this process. Valid as long as the program doesn't overwrite its own stack's top.
pub struct Process {
    argument_count: usize,
    arguments: *const *const c_char,
    environment: *const *const c_char,
    auxiliary: *const [usize; 2],
}

impl Process {
    /// # Safety
    /// `stack` is the stack pointer that the kernel entered the image with.
    pub(crate) unsafe fn from_stack(stack: *const usize) -> Process {
        // SAFETY: the ABI (§3.4.1, figure 3.9) puts argc here, then argc pointers and a NULL, the environment's
        // pointers and a NULL, and the auxiliary vector.
        unsafe {
            let argument_count = *stack;
            let arguments: *const *const c_char = stack.add(1).cast();
            let environment = arguments.add(argument_count + 1);
            let mut end = environment;
            while !(*end).is_null() {
                end = end.add(1);
            }
            Process { argument_count, arguments, environment, auxiliary: end.add(1).cast() }
        }
    }

    pub fn argument_count(&self) -> usize {
        self.argument_count
    }

    /// argv[index], without its closing zero.
    pub fn argument(&self, index: usize) -> Option<&CStr> {
        if index >= self.argument_count {
            return None;
        }
        // SAFETY: index is below argc, and each of argc pointers leads to a string on the stack.
        unsafe { Some(CStr::from_ptr(*self.arguments.add(index))) }
    }

    pub fn arguments(&self) -> impl Iterator<Item = &CStr> {
        (0..self.argument_count).filter_map(|index| self.argument(index))
    }

    /// The argument vector as execve takes it.
    pub fn argument_pointers(&self) -> *const *const c_char {
        self.arguments
    }

    /// The environment as execve takes it.
    pub fn environment_pointers(&self) -> *const *const c_char {
        self.environment
    }

    /// The environment's strings, `NAME=value` each.
    pub fn environment(&self) -> impl Iterator<Item = &CStr> {
        let mut next = self.environment;
        core::iter::from_fn(move || {
            // SAFETY: the vector ends with a NULL, and `next` never goes past it.
            unsafe {
                if (*next).is_null() {
                    return None;
                }
                let string = CStr::from_ptr(*next);
                next = next.add(1);
                Some(string)
            }
        })
    }

    /// The value of a name in the environment.
    pub fn variable(&self, name: &str) -> Option<&[u8]> {
        self.environment()
            .find_map(|string| string.to_bytes().strip_prefix(name.as_bytes()).and_then(|rest| rest.strip_prefix(b"=")))
    }

    /// The pairs of the auxiliary vector, without AT_NULL.
    pub fn auxiliary_vector(&self) -> impl Iterator<Item = (usize, usize)> {
        let mut next = self.auxiliary;
        core::iter::from_fn(move || {
            // SAFETY: the vector ends with AT_NULL, and `next` never goes past it.
            unsafe {
                let [key, value] = *next;
                if key == 0 {
                    return None;
                }
                next = next.add(1);
                Some((key, value))
            }
        })
    }

    /// The value of a key of the auxiliary vector.
    pub fn auxiliary(&self, key: usize) -> Option<usize> {
        self.auxiliary_vector().find_map(|(found, value)| (found == key).then_some(value))
    }
}
