//! A new program's first stack (System V ABI, x86-64 §3.4.1): argc, argv, envp, the auxiliary vector, and above them what
//! they point to, laid out as Linux lays it out.
//!
//! ```text
//! stack top     8 zero bytes
//!               the file's name (AT_EXECFN)
//!               environment strings, the first one lowest
//!               argument strings, the first one lowest
//!               random slack
//!               "x86_64" (AT_PLATFORM)
//!               16 random bytes (AT_RANDOM)
//!               thread-local storage, for a program without a libc
//!               auxiliary vector, ends with AT_NULL
//!               envp[0] …, NULL
//!               argv[0] …, NULL
//! stack pointer argc                                      (16-byte aligned, whatever the counts)
//! ```
//!
//! All words are counted before the alignment is done, so that no combination of argc and envc leaves it wrong.

use super::arguments::{Arguments, List, Measured, STACK_END_MARK};
use super::elf_file::PROGRAM_HEADER_SIZE;
use super::layout::{Layout, page_down};
use super::plan::Plan;
use super::tls::TlsBlock;
use super::{ImageMemory, Machine};
use crate::PAGE_SIZE;
use crate::errno::Errno;
use crate::task::credentials::Credentials;
use core::ops::Range;

/// One of the entries of the auxiliary vector: `<elf.h>`'s AT_ numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum AuxKey {
    Null = 0,
    Phdr = 3,
    Phent = 4,
    Phnum = 5,
    Pagesz = 6,
    Base = 7,
    Flags = 8,
    Entry = 9,
    Uid = 11,
    Euid = 12,
    Gid = 13,
    Egid = 14,
    Platform = 15,
    Hwcap = 16,
    Clktck = 17,
    Secure = 23,
    Random = 25,
    Hwcap2 = 26,
    Execfn = 31,
    Minsigstksz = 51,
}

/// Entries of the auxiliary vector, AT_NULL included.
pub const AUX_ENTRIES: usize = 20;
/// Keys and values in turn, as they lie in memory and as /proc/PID/auxv gives them.
pub type AuxiliaryVector = [u64; AUX_ENTRIES * 2];

const PLATFORM: &[u8] = b"x86_64\0";
const WORD: u64 = 8;
/// `times(2)` counts in hundredths of a second on Linux, whatever the timer does.
const CLOCK_TICKS_PER_SECOND: u64 = 100;
/// How much below its first use a stack is mapped right away; Linux's `stack_expand`.
const FIRST_GROWTH: u64 = 128 << 10;
/// A stack limit below this is not held against the first stack.
const SMALLEST_LIMIT: u64 = 16 << 10;

/// Where everything on the stack goes. Computed before any of it is written.
#[derive(Debug)]
pub struct StackPlan {
    /// The pages mapped at first; the stack grows below them.
    pub pages: Range<u64>,
    pub stack_pointer: u64,
    pub filename: u64,
    pub argument_strings: Range<u64>,
    pub environment_strings: Range<u64>,
    pub tls: Option<TlsBlock>,
    platform: u64,
    random: u64,
}

impl StackPlan {
    pub fn new(measured: &Measured, plan: &Plan, stack_limit: u64) -> Result<Self, Errno> {
        let layout: &Layout = &plan.layout;
        let mut top = Cursor(layout.stack_top);
        top.take(STACK_END_MARK)?;
        let filename = top.take((measured.filename.len() as u64).saturating_add(1))?;
        let strings_end = filename;
        let filename_size = layout.stack_top.saturating_sub(STACK_END_MARK).saturating_sub(filename);
        let strings_start = top.take(measured.total.checked_sub(filename_size).ok_or(Errno::E2BIG)?)?;
        let environment_start = strings_end.checked_sub(environment_size(measured)).ok_or(Errno::E2BIG)?;
        top.take(layout.stack_slack)?;
        top.0 &= !15;
        let platform = top.take(PLATFORM.len() as u64)?;
        let random = top.take(16)?;
        let tls = match &plan.program.tls {
            Some(template) => Some(TlsBlock::place(template, plan, top.0)?),
            None => None,
        };
        if let Some(block) = &tls
            && block.on_stack()
        {
            top.0 = block.start;
        }
        let pointers = measured.final_argument_count().saturating_add(measured.environment_count()).saturating_add(3);
        let words = pointers.saturating_add(AUX_ENTRIES * 2);
        top.take((words as u64).saturating_mul(WORD))?;
        let stack_pointer = top.0 & !15;
        let used = layout.stack_top.saturating_sub(page_down(stack_pointer));
        if used > stack_limit.max(SMALLEST_LIMIT) {
            return Err(Errno::E2BIG);
        }
        let mapped = used.saturating_add(FIRST_GROWTH).min(page_down(stack_limit)).max(used);
        Ok(Self {
            pages: layout.stack_top.saturating_sub(mapped)..layout.stack_top,
            stack_pointer,
            filename,
            argument_strings: strings_start..environment_start,
            environment_strings: environment_start..strings_end,
            tls,
            platform,
            random,
        })
    }

    /// Copies the strings, then writes the tables that point to them.
    pub fn write<M: ImageMemory>(
        &self,
        memory: &mut M,
        measured: &Measured,
        arguments: &impl Arguments,
        seed: &[u8; 16],
        auxiliary: &AuxiliaryVector,
    ) -> Result<(), Errno> {
        let mut writer = Writer { memory, address: self.filename };
        writer.bytes(measured.filename)?;
        writer = Writer { address: self.platform, ..writer };
        writer.bytes(PLATFORM)?;
        writer = Writer { address: self.random, ..writer };
        writer.bytes(seed)?;
        writer = Writer { address: self.argument_strings.start, ..writer };
        for text in &measured.front {
            writer.bytes(text)?;
            writer.bytes(&[0])?;
        }
        for (position, size) in measured.sizes.iter().enumerate().skip(measured.arguments_dropped) {
            let (list, index) = match position.checked_sub(measured.argument_count) {
                None => (List::Arguments, position),
                Some(index) => (List::Environment, index),
            };
            writer.string(arguments, list, index, *size)?;
        }
        writer = Writer { address: self.stack_pointer, ..writer };
        self.write_tables(writer.memory, measured, auxiliary)
    }

    fn write_tables<M: ImageMemory>(
        &self,
        memory: &mut M,
        measured: &Measured,
        auxiliary: &AuxiliaryVector,
    ) -> Result<(), Errno> {
        let mut words = Words { writer: Writer { memory, address: self.stack_pointer }, pending: [0; 64 * 8], used: 0 };
        words.put(measured.final_argument_count() as u64)?;
        let mut string = self.argument_strings.start;
        for text in &measured.front {
            words.put(string)?;
            string = string.saturating_add(text.len() as u64).saturating_add(1);
        }
        let (argument_sizes, environment_sizes) =
            measured.sizes.split_at_checked(measured.argument_count).ok_or(Errno::E2BIG)?;
        for size in argument_sizes.iter().skip(measured.arguments_dropped) {
            words.put(string)?;
            string = string.saturating_add(u64::from(*size));
        }
        words.put(0)?;
        for size in environment_sizes {
            words.put(string)?;
            string = string.saturating_add(u64::from(*size));
        }
        words.put(0)?;
        for word in auxiliary {
            words.put(*word)?;
        }
        words.flush()
    }

    /// The auxiliary vector, in Linux's order.
    pub fn auxiliary(&self, plan: &Plan, credentials: &Credentials, machine: &Machine) -> AuxiliaryVector {
        let (user, group) = (credentials.user, credentials.group);
        // Who has other rights than its caller is told, so that its libc ignores LD_PRELOAD and the like.
        let secure = user.effective != user.real || group.effective != group.real;
        let entries = [
            (AuxKey::Minsigstksz, machine.smallest_signal_stack),
            (AuxKey::Hwcap, machine.hwcap),
            (AuxKey::Pagesz, PAGE_SIZE as u64),
            (AuxKey::Clktck, CLOCK_TICKS_PER_SECOND),
            (AuxKey::Phdr, plan.program.headers),
            (AuxKey::Phent, PROGRAM_HEADER_SIZE as u64),
            (AuxKey::Phnum, u64::from(plan.program.header_count)),
            (AuxKey::Base, plan.interpreter.as_ref().map_or(0, |interpreter| interpreter.bias.cast_unsigned())),
            (AuxKey::Flags, 0),
            (AuxKey::Entry, plan.program.entry),
            (AuxKey::Uid, u64::from(user.real)),
            (AuxKey::Euid, u64::from(user.effective)),
            (AuxKey::Gid, u64::from(group.real)),
            (AuxKey::Egid, u64::from(group.effective)),
            (AuxKey::Secure, u64::from(secure)),
            (AuxKey::Random, self.random),
            (AuxKey::Hwcap2, machine.hwcap2),
            (AuxKey::Execfn, self.filename),
            (AuxKey::Platform, self.platform),
            (AuxKey::Null, 0),
        ];
        const _: () = assert!(AUX_ENTRIES == 20);
        let mut vector = [0; AUX_ENTRIES * 2];
        for (pair, (key, value)) in vector.as_chunks_mut().0.iter_mut().zip(entries) {
            *pair = [key as u64, value];
        }
        vector
    }
}

fn environment_size(measured: &Measured) -> u64 {
    measured.sizes.iter().skip(measured.argument_count).fold(0, |sum: u64, size| sum.saturating_add(u64::from(*size)))
}

/// An address that moves downwards as room is taken.
struct Cursor(u64);

impl Cursor {
    fn take(&mut self, size: u64) -> Result<u64, Errno> {
        self.0 = self.0.checked_sub(size).ok_or(Errno::E2BIG)?;
        Ok(self.0)
    }
}

/// Writes upwards into the new image, page by page.
pub struct Writer<'m, M> {
    pub memory: &'m mut M,
    pub address: u64,
}

impl<M: ImageMemory> Writer<'_, M> {
    pub fn bytes(&mut self, mut bytes: &[u8]) -> Result<(), Errno> {
        while !bytes.is_empty() {
            let window = self.memory.writable(self.address)?;
            let count = window.len().min(bytes.len());
            let (now, later) = bytes.split_at_checked(count).ok_or(Errno::EFAULT)?;
            window.get_mut(..count).ok_or(Errno::EFAULT)?.copy_from_slice(now);
            self.address = self.address.saturating_add(count as u64);
            bytes = later;
        }
        Ok(())
    }

    /// Copies a string of `size` bytes, the last of which is its NUL, whatever has become of the original.
    fn string(&mut self, arguments: &impl Arguments, list: List, index: usize, size: u32) -> Result<(), Errno> {
        let length = (size as usize).saturating_sub(1);
        let mut done: usize = 0;
        while done < length {
            let window = self.memory.writable(self.address)?;
            let count = window.len().min(length.saturating_sub(done));
            arguments.copy(list, index, done, window.get_mut(..count).ok_or(Errno::EFAULT)?)?;
            self.address = self.address.saturating_add(count as u64);
            done = done.saturating_add(count);
        }
        self.bytes(&[0])
    }
}

/// Collects words so that the image's pages are looked up once for many of them.
struct Words<'m, M> {
    writer: Writer<'m, M>,
    pending: [u8; 64 * 8],
    used: usize,
}

impl<M: ImageMemory> Words<'_, M> {
    fn put(&mut self, word: u64) -> Result<(), Errno> {
        if self.used == self.pending.len() {
            self.flush()?;
        }
        let end = self.used.saturating_add(size_of::<u64>());
        self.pending.get_mut(self.used..end).ok_or(Errno::EFAULT)?.copy_from_slice(&word.to_le_bytes());
        self.used = end;
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Errno> {
        let used = core::mem::take(&mut self.used);
        self.writer.bytes(self.pending.get(..used).unwrap_or_default())
    }
}
