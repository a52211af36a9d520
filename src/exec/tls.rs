//! Thread-local storage for programs that have no libc to set it up: a variant II block (Drepper, "ELF Handling For
//! Thread-Local Storage", §3) with FS pointing at its thread control block.
//!
//! Which program has a libc can't be seen from its file, so that every program with PT_TLS and without an interpreter
//! gets a block. A libc that is linked in makes its own and sets FS to it by arch_prctl; the block was only a few bytes on
//! its stack. A block of more than a page isn't put on the stack but has pages of its own at the top of the mmap area,
//! or below the program if that is there, which cost nothing until they are used.
//!
//! ```text
//! start                    thread pointer (FS base; a multiple of the alignment)
//! | p_filesz from the file | zeroes to p_memsz | padding || self-pointer | 0 | self-pointer | … | stack-protector canary
//!                                                         0              8   16                 40
//! ```

use super::elf_file::TlsTemplate;
use super::layout::{USER_START, page_down};
use super::plan::Plan;
use super::stack::Writer;
use super::{ExecutableFile, ImageMemory, Protection};
use crate::PAGE_SIZE;
use crate::errno::Errno;
use core::ops::Range;

/// What is kept above the thread pointer: enough for what compilers read there (the canary at FS:0x28).
const CONTROL_BLOCK_SIZE: u64 = 64;
const LARGEST_ON_STACK: u64 = PAGE_SIZE as u64;

/// A placed block.
#[derive(Debug, Clone)]
pub struct TlsBlock {
    pub start: u64,
    pub thread_pointer: u64,
    /// Pages to be mapped for it, if it isn't on the stack.
    pages: Option<Range<u64>>,
    file_offset: u64,
    file_size: u64,
}

impl TlsBlock {
    /// Places the block below `stack_position`, or below the mmap area's top if it is large.
    pub fn place(template: &TlsTemplate, plan: &Plan, stack_position: u64) -> Result<Self, Errno> {
        let on_stack = Self::below(template, stack_position)?;
        if stack_position.saturating_sub(on_stack.start) <= LARGEST_ON_STACK {
            return Ok(on_stack);
        }
        let in_mmap_area = Self::with_pages_below(template, plan.layout.mmap_base)?;
        let free = |block: &Self| block.pages.as_ref().is_some_and(|pages| !plan.program.overlaps(pages));
        if free(&in_mmap_area) {
            return Ok(in_mmap_area);
        }
        Self::with_pages_below(template, plan.program.extent.start)
    }

    /// A block whose pages end at `top`, which is a page's start.
    fn with_pages_below(template: &TlsTemplate, top: u64) -> Result<Self, Errno> {
        let mut block = Self::below(template, top)?;
        if block.start < USER_START {
            return Err(Errno::ENOMEM);
        }
        block.pages = Some(page_down(block.start)..top);
        Ok(block)
    }

    pub fn on_stack(&self) -> bool {
        self.pages.is_none()
    }

    fn below(template: &TlsTemplate, top: u64) -> Result<Self, Errno> {
        let alignment = template.alignment.max(16);
        let control = top.checked_sub(CONTROL_BLOCK_SIZE).ok_or(Errno::ENOMEM)?;
        let thread_pointer = control & alignment.wrapping_neg();
        // The linker counts offsets from the thread pointer so that the block starts at p_vaddr modulo the alignment.
        let end = template.memory_start.wrapping_add(template.memory_size);
        let padding = end.wrapping_neg() & template.alignment.wrapping_sub(1);
        let size = template.memory_size.checked_add(padding).ok_or(Errno::ENOMEM)?;
        let start = thread_pointer.checked_sub(size).ok_or(Errno::ENOMEM)?;
        Ok(Self {
            start,
            thread_pointer,
            pages: None,
            file_offset: template.file_offset,
            file_size: template.file_size,
        })
    }

    /// Fills the block in, mapping it first if it has pages of its own.
    pub fn write<M: ImageMemory>(
        &self,
        memory: &mut M,
        file: &impl ExecutableFile,
        seed: &[u8; 16],
    ) -> Result<(), Errno> {
        if let Some(pages) = &self.pages {
            memory.map_zeroed(pages.clone(), Protection::READ_WRITE)?;
        }
        let mut done = 0;
        while done < self.file_size {
            let window = memory.writable(self.start.saturating_add(done))?;
            let left = usize::try_from(self.file_size.saturating_sub(done)).unwrap_or(usize::MAX);
            let count = window.len().min(left);
            let part = window.get_mut(..count).ok_or(Errno::EFAULT)?;
            let offset = self.file_offset.checked_add(done).ok_or(Errno::ENOEXEC)?;
            if super::read_fully(file, offset, part)? != count {
                return Err(Errno::ENOEXEC);
            }
            done = done.saturating_add(count as u64);
        }
        let pointer = self.thread_pointer.to_le_bytes();
        let mut writer = Writer { memory, address: self.thread_pointer };
        writer.bytes(&pointer)?;
        writer.bytes(&[0; 8])?;
        writer.bytes(&pointer)?;
        let [_, canary @ ..] = seed.as_chunks::<8>().0.first().copied().unwrap_or_default();
        writer.address = self.thread_pointer.saturating_add(0x29);
        // Its first byte stays zero, so that no string function runs over it.
        writer.bytes(&canary)
    }
}
