//! From a file to a runnable image: a chain of types, each of them proof of the step before.
//!
//! 1. `elf_file`, `script`: a file's first bytes become a [`CheckedElf`] or a [`script::Script`].
//! 2. `layout`: random numbers become addresses for the stack, the mmap area, a position-independent image and the heap.
//! 3. `plan`: a checked program and its interpreter get their places in memory.
//! 4. `arguments`, `stack`: argv, envp and the auxiliary vector become the first stack.
//! 5. `identity`: what the process is allowed, and what set-ID bits take from it.
//! 6. `prepare` leads through all of them, `#!` included, and gives a [`LoadedProcess`]: nothing that follows can fail.
//! 7. `load`, `user_arguments`, `program_file`: the traits for the kernel's address spaces, callers and files; `vdso`: two
//!    pages that every image gets.
//!
//! All of it is plain Rust over small traits ([`ExecutableFile`], [`Programs`], [`Arguments`], [`ImageMemory`]) and runs on
//! the host in tests and under fuzzing. Every number that comes from a file or a program is added and multiplied with its
//! overflow looked at.

#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::unreachable)]
#![cfg_attr(
    test,
    allow(
        clippy::arithmetic_side_effects,
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic
    )
)]

pub mod arguments;
pub mod elf_file;
#[cfg(any(test, feature = "kernel-tests"))]
pub mod elf_maker;
pub mod fallback;
pub mod identity;
pub mod layout;
pub mod load;
pub mod plan;
mod prepare;
pub mod program_file;
pub mod script;
pub mod stack;
#[cfg(test)]
mod tests;
mod tls;
mod user_arguments;
pub mod vdso;

use crate::errno::Errno;
pub use arguments::{Arguments, KernelArguments, List};
use core::ops::Range;
pub use elf_file::CheckedElf;
pub use identity::{Caller, FileRights, Identity};
pub use layout::Randomness;
pub use plan::Plan;
pub use prepare::{LoadedProcess, Prepared, Programs, Request, prepare};
pub use user_arguments::UserArguments;
use x86_64::structures::paging::PhysFrame;

/// How much of a file is read to see what it is: Linux's `BINPRM_BUF_SIZE`, which bounds the `#!` line.
pub const HEAD_SIZE: usize = 256;
/// A file's first bytes, zero-filled if it has fewer.
pub type Head = [u8; HEAD_SIZE];

/// A regular file that may be executed.
pub trait ExecutableFile {
    fn size(&self) -> u64;
    /// Reads up to `into.len()` bytes; fewer at the end of the file, none past it.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<usize, Errno>;
}

/// What a program may do with some of its pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protection {
    pub read: bool,
    pub write: bool,
    pub execute: bool,
}

impl Protection {
    pub const READ_WRITE: Self = Self { read: true, write: true, execute: false };
}

/// An address space under construction, used by nobody yet.
pub trait ImageMemory {
    type File: ExecutableFile;
    /// Maps whole pages of a file, privately, in place of what was there. Pages past its end may not be touched later.
    fn map_file(
        &mut self,
        pages: Range<u64>,
        protection: Protection,
        file: &Self::File,
        offset: u64,
    ) -> Result<(), Errno>;
    /// Maps pages that are zero until they are written, in place of what was there.
    fn map_zeroed(&mut self, pages: Range<u64>, protection: Protection) -> Result<(), Errno>;
    /// Maps the stack, which grows downwards on its own.
    fn map_stack(&mut self, pages: Range<u64>) -> Result<(), Errno>;
    /// Maps the vDSO, at that address if it is free; where it is, or 0 if there is none.
    fn map_vdso(&mut self, wanted: u64) -> Result<u64, Errno>;
    /// The bytes from `address` to the end of its page, in a copy of that page which is the image's own.
    fn writable(&mut self, address: u64) -> Result<&mut [u8], Errno>;
    /// The top-level page table.
    fn page_table_frame(&self) -> PhysFrame;
    /// Takes note of what is where: the heap's start, the mmap area, what /proc shows.
    fn finish(&mut self, process: &LoadedProcess);
}

/// What the auxiliary vector says about the CPU.
#[derive(Clone, Copy, Debug, Default)]
pub struct Machine {
    /// CPUID leaf 1, EDX.
    pub hwcap: u64,
    pub hwcap2: u64,
    /// AT_MINSIGSTKSZ: the size of a signal frame.
    pub smallest_signal_stack: u64,
}

/// Reads until `into` is full or the file ends; returns how much that was.
pub fn read_fully(file: &impl ExecutableFile, offset: u64, into: &mut [u8]) -> Result<usize, Errno> {
    let mut done: usize = 0;
    while let Some(rest) = into.get_mut(done..)
        && !rest.is_empty()
    {
        let Some(at) = offset.checked_add(done as u64) else { break };
        let count = file.read_at(at, rest)?;
        if count == 0 {
            break;
        }
        done = done.saturating_add(count);
    }
    Ok(done)
}

/// Reads a file's head.
pub fn read_head(file: &impl ExecutableFile) -> Result<Head, Errno> {
    let mut head = [0; HEAD_SIZE];
    read_fully(file, 0, &mut head)?;
    Ok(head)
}
