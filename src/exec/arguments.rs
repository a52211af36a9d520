//! A program's arguments and environment before they are copied: counted, measured, and within their limits.
//!
//! Everything is measured first, so that a list too long is E2BIG before any page is allocated for it. Another thread may
//! change the strings while they are read: their sizes stay those that were measured, and each copy is given its NUL.

use super::layout::page_up;
use crate::errno::Errno;
use alloc::vec::Vec;

/// Linux's MAX_ARG_STRLEN: the longest string, its NUL included.
pub const LONGEST_STRING: usize = 32 * 4096;
/// Linux's ARG_MAX: what strings and pointers may take whatever the stack limit is.
const ALWAYS_ALLOWED: u64 = 128 * 1024;
/// Three quarters of Linux's default stack limit.
const NEVER_ALLOWED: u64 = 6 << 20;
const POINTER_SIZE: u64 = 8;
/// The word of zeroes above the strings.
pub const STACK_END_MARK: u64 = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum List {
    Arguments,
    Environment,
}

/// Where argv and envp come from: a program's memory, or the kernel for init.
pub trait Arguments {
    /// Whether the list has an entry there, or ends.
    fn has(&self, list: List, index: usize) -> Result<bool, Errno>;
    /// The length of a string without its NUL; `None` if there is no NUL within `limit` bytes.
    fn length(&self, list: List, index: usize, limit: usize) -> Result<Option<usize>, Errno>;
    /// Copies a part of a string.
    fn copy(&self, list: List, index: usize, from: usize, into: &mut [u8]) -> Result<(), Errno>;
}

/// Arguments and environment with their sizes, in bounds.
#[derive(Debug)]
pub struct Measured<'a> {
    pub filename: &'a [u8],
    /// What `#!` put in front of the arguments, in order.
    pub front: Vec<Vec<u8>>,
    /// 1 if the first argument has been replaced by those.
    pub arguments_dropped: usize,
    /// Sizes with NUL, of the arguments and then of the environment.
    pub sizes: Vec<u32>,
    pub argument_count: usize,
    /// Bytes of all strings, the file's name included.
    pub total: u64,
    limit: u64,
    stack_limit: u64,
}

impl<'a> Measured<'a> {
    /// Counts and measures, in Linux's order of errors: argv's pointers, envp's, their number, then the strings from
    /// the last to the first.
    pub fn new(arguments: &impl Arguments, filename: &'a [u8], stack_limit: u64) -> Result<Self, Errno> {
        let limit = (stack_limit / 4).clamp(ALWAYS_ALLOWED, NEVER_ALLOWED);
        let most = usize::try_from(limit / POINTER_SIZE).map_err(|_| Errno::E2BIG)?;
        let argument_count = count(arguments, List::Arguments, most)?;
        let environment_count = count(arguments, List::Environment, most)?;
        let pointers = argument_count.max(1).saturating_add(environment_count);
        let limit = limit.saturating_sub((pointers as u64).saturating_mul(POINTER_SIZE));
        if limit == 0 {
            return Err(Errno::E2BIG);
        }
        let string_count = argument_count.saturating_add(environment_count);
        let mut sizes = Vec::new();
        sizes.try_reserve_exact(string_count).map_err(|_| Errno::ENOMEM)?;
        sizes.resize(string_count, 0);
        let mut measured = Self {
            filename,
            front: Vec::new(),
            arguments_dropped: 0,
            sizes,
            argument_count,
            total: 0,
            limit,
            stack_limit,
        };
        measured.add(filename.len().saturating_add(1))?;
        measured.measure(arguments, List::Environment, argument_count..string_count)?;
        measured.measure(arguments, List::Arguments, 0..argument_count)?;
        if argument_count == 0 {
            // A program always finds an argv[0].
            measured.push_front(&[])?;
        }
        Ok(measured)
    }

    /// How many arguments the program will see.
    pub fn final_argument_count(&self) -> usize {
        self.argument_count.saturating_sub(self.arguments_dropped).saturating_add(self.front.len())
    }

    pub fn environment_count(&self) -> usize {
        self.sizes.len().saturating_sub(self.argument_count)
    }

    /// Puts a script's interpreter, its argument and the script's path in place of the first argument.
    pub fn interpret(&mut self, interpreter: &[u8], argument: Option<&[u8]>, script: &[u8]) -> Result<(), Errno> {
        let first = if self.front.is_empty() {
            self.arguments_dropped = 1;
            self.sizes.first().map_or(0, |size| u64::from(*size))
        } else {
            (self.front.remove(0).len() as u64).saturating_add(1)
        };
        self.total = self.total.saturating_sub(first);
        self.push_front(script)?;
        if let Some(argument) = argument {
            self.push_front(argument)?;
        }
        self.push_front(interpreter)
    }

    fn push_front(&mut self, text: &[u8]) -> Result<(), Errno> {
        self.add(text.len().saturating_add(1))?;
        let mut copy = Vec::new();
        copy.try_reserve_exact(text.len()).map_err(|_| Errno::ENOMEM)?;
        copy.extend_from_slice(text);
        self.front.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        self.front.insert(0, copy);
        Ok(())
    }

    fn measure(&mut self, arguments: &impl Arguments, list: List, range: core::ops::Range<usize>) -> Result<(), Errno> {
        let first = range.start;
        for position in range.rev() {
            let index = position.saturating_sub(first);
            let length = arguments.length(list, index, LONGEST_STRING)?.ok_or(Errno::E2BIG)?;
            let size = length.saturating_add(1);
            if size > LONGEST_STRING {
                return Err(Errno::E2BIG);
            }
            self.add(size)?;
            let slot = self.sizes.get_mut(position).ok_or(Errno::E2BIG)?;
            *slot = u32::try_from(size).map_err(|_| Errno::E2BIG)?;
        }
        Ok(())
    }

    /// Adds to the total and holds it against both limits: the one for arguments, and the stack's own, by whole pages.
    fn add(&mut self, size: usize) -> Result<(), Errno> {
        self.total = self.total.saturating_add(size as u64);
        let pages = page_up(self.total.saturating_add(STACK_END_MARK));
        if self.total > self.limit || (pages > self.stack_limit && pages > crate::PAGE_SIZE as u64) {
            return Err(Errno::E2BIG);
        }
        Ok(())
    }
}

/// The number of entries; counting stops where the pointers alone are too many.
fn count(arguments: &impl Arguments, list: List, most: usize) -> Result<usize, Errno> {
    let mut count = 0;
    while arguments.has(list, count)? {
        count = count.saturating_add(1);
        if count > most {
            return Err(Errno::E2BIG);
        }
    }
    Ok(count)
}

/// Strings of the kernel's own: init's arguments.
pub struct KernelArguments<'a> {
    pub arguments: &'a [&'a [u8]],
    pub environment: &'a [&'a [u8]],
}

impl KernelArguments<'_> {
    fn string(&self, list: List, index: usize) -> Option<&[u8]> {
        match list {
            List::Arguments => self.arguments.get(index).copied(),
            List::Environment => self.environment.get(index).copied(),
        }
    }
}

impl Arguments for KernelArguments<'_> {
    fn has(&self, list: List, index: usize) -> Result<bool, Errno> {
        Ok(self.string(list, index).is_some())
    }

    fn length(&self, list: List, index: usize, limit: usize) -> Result<Option<usize>, Errno> {
        let length = self.string(list, index).ok_or(Errno::EFAULT)?.len();
        Ok((length < limit).then_some(length))
    }

    fn copy(&self, list: List, index: usize, from: usize, into: &mut [u8]) -> Result<(), Errno> {
        let text = self.string(list, index).and_then(|text| text.get(from..)).ok_or(Errno::EFAULT)?;
        into.copy_from_slice(text.get(..into.len()).ok_or(Errno::EFAULT)?);
        Ok(())
    }
}
