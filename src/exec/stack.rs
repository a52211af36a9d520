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
use super::identity::Identity;
use super::layout::{Layout, page_down};
use super::plan::Plan;
use super::tls::TlsBlock;
use super::{ImageMemory, Machine};
use crate::PAGE_SIZE;
use crate::errno::Errno;
use crate::task::usage::CLOCK_TICKS_PER_SECOND;
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
    SysinfoEhdr = 33,
    Minsigstksz = 51,
}

/// Entries of the auxiliary vector, AT_NULL included.
pub const AUX_ENTRIES: usize = 21;
/// Keys and values in turn, as they lie in memory and as /proc/PID/auxv gives them.
pub type AuxiliaryVector = [[u64; 2]; AUX_ENTRIES];

const PLATFORM: &[u8] = b"x86_64\0";
const WORD: u64 = 8;
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
    /// Where the auxiliary vector lies.
    pub auxiliary: Range<u64>,
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
        let auxiliary = stack_pointer.saturating_add((pointers as u64).saturating_mul(WORD));
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
            auxiliary: auxiliary..auxiliary.saturating_add(size_of::<AuxiliaryVector>() as u64),
            tls,
            platform,
            random,
        })
    }

    /// Copies the strings, then writes the tables that point to them. The stack's pages are new and zero, so the NULs are
    /// there already.
    pub fn write<M: ImageMemory>(
        &self,
        memory: &mut M,
        measured: &Measured,
        arguments: &impl Arguments,
        seed: &[u8; 16],
        auxiliary: &AuxiliaryVector,
    ) -> Result<(), Errno> {
        self.write_strings(memory, measured, arguments)?;
        Writer { memory, address: self.platform }.bytes(PLATFORM)?;
        Writer { memory, address: self.random }.bytes(seed)?;
        self.write_tables(memory, measured, auxiliary)
    }

    /// Fills page after page with the strings, which lie one behind the other: a page is looked up once.
    fn write_strings<M: ImageMemory>(
        &self,
        memory: &mut M,
        measured: &Measured,
        arguments: &impl Arguments,
    ) -> Result<(), Errno> {
        let front = measured.front.iter().map(|text| (Text::Known(text), with_nul(text)));
        let given = measured.sizes.iter().enumerate().skip(measured.arguments_dropped);
        let given = given.map(|(position, size)| {
            let text = match position.checked_sub(measured.argument_count) {
                None => Text::Given(List::Arguments, position),
                Some(index) => Text::Given(List::Environment, index),
            };
            (text, *size as usize)
        });
        let name = (Text::Known(measured.filename), with_nul(measured.filename));
        let mut address = self.argument_strings.start;
        let mut window: &mut [u8] = &mut [];
        for (text, size) in front.chain(given).chain([name]) {
            let mut done: usize = 0;
            while done < size {
                if window.is_empty() {
                    window = memory.writable(address)?;
                }
                let count = window.len().min(size.saturating_sub(done));
                let (part, rest) = core::mem::take(&mut window).split_at_mut_checked(count).ok_or(Errno::EFAULT)?;
                // The string's last byte is its NUL, whatever has become of the original.
                let length = count.min(size.saturating_sub(1).saturating_sub(done));
                text.copy(arguments, done, part.get_mut(..length).ok_or(Errno::EFAULT)?)?;
                window = rest;
                done = done.saturating_add(count);
                address = address.saturating_add(count as u64);
            }
        }
        Ok(())
    }

    fn write_tables<M: ImageMemory>(
        &self,
        memory: &mut M,
        measured: &Measured,
        auxiliary: &AuxiliaryVector,
    ) -> Result<(), Errno> {
        let (argument_sizes, environment_sizes) =
            measured.sizes.split_at_checked(measured.argument_count).ok_or(Errno::E2BIG)?;
        let front = measured.front.iter().map(|text| with_nul(text));
        let given = argument_sizes.iter().skip(measured.arguments_dropped).map(|size| *size as usize);
        let environment = environment_sizes.iter().map(|size| *size as usize);
        let words = [measured.final_argument_count() as u64].into_iter();
        let words = words.chain(pointers(self.argument_strings.start, front.chain(given))).chain([0]);
        let words = words.chain(pointers(self.environment_strings.start, environment)).chain([0]);
        write_words(memory, self.stack_pointer, words.chain(auxiliary.as_flattened().iter().copied()))
    }

    /// The auxiliary vector, in Linux's order.
    pub fn auxiliary(&self, plan: &Plan, vdso: u64, identity: &Identity, machine: &Machine) -> AuxiliaryVector {
        let (user, group) = (identity.credentials.user, identity.credentials.group);
        let entries = [
            (AuxKey::SysinfoEhdr, vdso),
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
            (AuxKey::Secure, u64::from(identity.is_secure)),
            (AuxKey::Random, self.random),
            (AuxKey::Hwcap2, machine.hwcap2),
            (AuxKey::Execfn, self.filename),
            (AuxKey::Platform, self.platform),
            (AuxKey::Null, 0),
        ];
        entries.map(|(key, value)| [key as u64, value])
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
}

/// A string on its way to the stack: one that the kernel has, or one of the caller's.
enum Text<'a> {
    Known(&'a [u8]),
    Given(List, usize),
}

impl Text<'_> {
    #[inline]
    fn copy(&self, arguments: &impl Arguments, from: usize, into: &mut [u8]) -> Result<(), Errno> {
        match self {
            Self::Known(text) => {
                let end = from.saturating_add(into.len());
                into.copy_from_slice(text.get(from..end).ok_or(Errno::EFAULT)?);
                Ok(())
            }
            Self::Given(list, index) => arguments.copy(*list, *index, from, into),
        }
    }
}

fn with_nul(text: &[u8]) -> usize {
    text.len().saturating_add(1)
}

/// Where strings of these sizes begin that lie one behind the other.
fn pointers(start: u64, sizes: impl Iterator<Item = usize>) -> impl Iterator<Item = u64> {
    sizes.scan(start, |next, size| Some(core::mem::replace(next, next.saturating_add(size as u64))))
}

/// Writes words upwards from an address that is a multiple of their size, looking each page up once.
fn write_words<M: ImageMemory>(
    memory: &mut M,
    mut address: u64,
    mut words: impl Iterator<Item = u64>,
) -> Result<(), Errno> {
    let mut next = words.next();
    while next.is_some() {
        for slot in memory.writable(address)?.as_chunks_mut::<8>().0 {
            let Some(word) = next else { break };
            *slot = word.to_le_bytes();
            address = address.saturating_add(WORD);
            next = words.next();
        }
    }
    Ok(())
}
