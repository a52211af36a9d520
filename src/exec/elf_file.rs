//! The first link of the chain: the bytes of a file become a checked ELF program.
//!
//! A [`CheckedElf`] is proof that its headers make sense by themselves: the right machine, tables of a sane size, every
//! sum of addresses, offsets and sizes without overflow and below the kernel, no segment both writable and executable.
//! Where in memory it goes is the plan's business. Only headers are read: the file may be of any size.
//!
//! Linux finds some of these faults only after it has destroyed the old program, which it then kills. Here they are found
//! in time, so that the caller gets ENOEXEC for them. Where Linux returns an errno, this is the same one.

use super::layout::USER_END;
use super::{ExecutableFile, HEAD_SIZE, Head, Protection, read_fully};
use crate::PAGE_SIZE;
use crate::errno::Errno;
use alloc::vec::Vec;
use elf::abi;
use elf::endian::LittleEndian;
use elf::file::{Class, FileHeader};
use elf::parse::ParseAt;
use elf::segment::ProgramHeader;

/// The size of one 64-bit program header (`AT_PHENT`).
pub const PROGRAM_HEADER_SIZE: usize = 56;
const FILE_HEADER_SIZE: usize = 64;
/// What Linux allows for the program header table.
const TABLE_LIMIT: usize = 64 * 1024;
/// Linux's `PATH_MAX`, which bounds PT_INTERP's path with its NUL.
const PATH_LIMIT: u64 = 4096;
/// How many program headers are read at a time.
const CHUNK: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// ET_EXEC: at the addresses it names.
    Fixed,
    /// ET_DYN: anywhere.
    Relocatable,
}

/// A PT_LOAD header. `memory_start + memory_size` lies in user space, `file_offset + file_size` doesn't overflow,
/// `file_size <= memory_size`, and offset and address agree within a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    pub memory_start: u64,
    pub memory_size: u64,
    pub file_offset: u64,
    pub file_size: u64,
    /// A power of two, at least a page.
    pub alignment: u64,
    pub protection: Protection,
}

/// PT_TLS: the template of a thread's own variables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlsTemplate {
    pub memory_start: u64,
    pub memory_size: u64,
    pub file_offset: u64,
    pub file_size: u64,
    /// A power of two.
    pub alignment: u64,
}

#[derive(Debug)]
pub struct CheckedElf {
    pub kind: Kind,
    pub entry: u64,
    pub header_table_offset: u64,
    pub header_count: u16,
    /// In the order of the file.
    pub loads: Vec<Load>,
    /// Only for a program without an interpreter: with one, thread-local storage is a libc's affair.
    pub tls: Option<TlsTemplate>,
    interpreter: Option<FileRange>,
}

#[derive(Clone, Copy, Debug)]
struct FileRange {
    offset: u64,
    size: u64,
}

impl CheckedElf {
    /// Whether a file that begins so is for [`CheckedElf::check`] at all.
    pub fn has_magic(head: &Head) -> bool {
        head.starts_with(&abi::ELFMAGIC)
    }

    /// Checks a program. `head` is its beginning, zero-filled if the file is shorter.
    pub fn check(file: &impl ExecutableFile, head: &Head) -> Result<Self, Errno> {
        let header = parse_header(head).ok_or(Errno::ENOEXEC)?;
        let kind = match header.e_type {
            abi::ET_EXEC => Kind::Fixed,
            abi::ET_DYN => Kind::Relocatable,
            _ => return Err(Errno::ENOEXEC),
        };
        let table_size = usize::from(header.e_phnum).saturating_mul(PROGRAM_HEADER_SIZE);
        if usize::from(header.e_phentsize) != PROGRAM_HEADER_SIZE || table_size == 0 || table_size > TABLE_LIMIT {
            return Err(Errno::ENOEXEC);
        }
        let mut elf = Self {
            kind,
            entry: header.e_entry,
            header_table_offset: header.e_phoff,
            header_count: header.e_phnum,
            loads: Vec::new(),
            tls: None,
            interpreter: None,
        };
        let mut tls = None;
        for_each_header(file, head, header.e_phoff, usize::from(header.e_phnum), |header| match header.p_type {
            abi::PT_LOAD => elf.take_load(header),
            // Of several, the first one counts.
            abi::PT_INTERP if elf.interpreter.is_none() => {
                elf.interpreter = Some(FileRange { offset: header.p_offset, size: header.p_filesz });
                Ok(())
            }
            abi::PT_TLS if tls.is_none() => {
                tls = Some(*header);
                Ok(())
            }
            // PT_GNU_STACK is looked at by nobody: no stack of Keel is executable, whatever it says.
            _ => Ok(()),
        })?;
        if let Some(header) = tls
            && elf.interpreter.is_none()
        {
            elf.tls = Some(checked_tls(&header)?);
        }
        Ok(elf)
    }

    /// Checks an interpreter. What a program is refused for with ENOEXEC makes an interpreter ELIBBAD, as on Linux; a
    /// file too short for a header is EIO there.
    pub fn check_interpreter(file: &impl ExecutableFile, head: &Head) -> Result<Self, Errno> {
        if file.size() < FILE_HEADER_SIZE as u64 {
            return Err(Errno::EIO);
        }
        let elf = Self::check(file, head).map_err(|error| match error {
            Errno::ENOEXEC => Errno::ELIBBAD,
            other => other,
        })?;
        if elf.loads.is_empty() {
            return Err(Errno::ELIBBAD);
        }
        Ok(elf)
    }

    /// The path that PT_INTERP holds, up to its first NUL.
    pub fn interpreter_path(&self, file: &impl ExecutableFile) -> Result<Option<Vec<u8>>, Errno> {
        let Some(range) = self.interpreter else { return Ok(None) };
        if range.size > PATH_LIMIT || range.size < 2 {
            return Err(Errno::ENOEXEC);
        }
        let size = usize::try_from(range.size).map_err(|_| Errno::ENOEXEC)?;
        let mut path = Vec::new();
        path.try_reserve_exact(size).map_err(|_| Errno::ENOMEM)?;
        path.resize(size, 0);
        if read_fully(file, range.offset, &mut path)? != size {
            return Err(Errno::EIO);
        }
        if path.last() != Some(&0) {
            return Err(Errno::ENOEXEC);
        }
        let length = path.iter().position(|byte| *byte == 0).unwrap_or(0);
        path.truncate(length);
        Ok(Some(path))
    }

    fn take_load(&mut self, header: &ProgramHeader) -> Result<(), Errno> {
        self.loads.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        self.loads.push(checked_load(header)?);
        Ok(())
    }
}

/// Linux looks at the magic, the type and the machine, and at nothing else in a header; so class, byte order and
/// version are taken as given.
fn parse_header(head: &Head) -> Option<FileHeader<LittleEndian>> {
    if !CheckedElf::has_magic(head) {
        return None;
    }
    let tail = head.get(abi::EI_NIDENT..FILE_HEADER_SIZE)?;
    let header = FileHeader::parse_tail((LittleEndian, Class::ELF64, 0, 0), tail).ok()?;
    (header.e_machine == abi::EM_X86_64).then_some(header)
}

/// Hands each program header to `take`.
fn for_each_header(
    file: &impl ExecutableFile,
    head: &Head,
    table_offset: u64,
    count: usize,
    mut take: impl FnMut(&ProgramHeader) -> Result<(), Errno>,
) -> Result<(), Errno> {
    let mut chunk = [0; CHUNK * PROGRAM_HEADER_SIZE];
    let mut offset = table_offset;
    let mut left = count;
    while left > 0 {
        let now = left.min(CHUNK);
        let bytes = chunk.get_mut(..now.saturating_mul(PROGRAM_HEADER_SIZE)).ok_or(Errno::ENOEXEC)?;
        read_table(file, head, offset, bytes)?;
        let mut at = 0;
        for _ in 0..now {
            let header = ProgramHeader::parse_at(LittleEndian, Class::ELF64, &mut at, bytes);
            take(&header.map_err(|_| Errno::ENOEXEC)?)?;
        }
        offset = offset.checked_add(bytes.len() as u64).ok_or(Errno::ENOEXEC)?;
        left = left.saturating_sub(now);
    }
    Ok(())
}

fn read_table(file: &impl ExecutableFile, head: &Head, offset: u64, bytes: &mut [u8]) -> Result<(), Errno> {
    let end = offset.checked_add(bytes.len() as u64).ok_or(Errno::ENOEXEC)?;
    if end > file.size() {
        return Err(Errno::ENOEXEC);
    }
    if end <= HEAD_SIZE as u64 {
        let range = usize::try_from(offset).and_then(|from| usize::try_from(end).map(|to| from..to));
        let known = range.ok().and_then(|range| head.get(range)).ok_or(Errno::ENOEXEC)?;
        bytes.copy_from_slice(known);
        return Ok(());
    }
    if read_fully(file, offset, bytes)? != bytes.len() {
        return Err(Errno::ENOEXEC);
    }
    Ok(())
}

fn checked_load(header: &ProgramHeader) -> Result<Load, Errno> {
    const PAGE_MASK: u64 = PAGE_SIZE as u64 - 1;
    let protection = Protection {
        read: header.p_flags & abi::PF_R != 0,
        write: header.p_flags & abi::PF_W != 0,
        execute: header.p_flags & abi::PF_X != 0,
    };
    let memory_end = header.p_vaddr.checked_add(header.p_memsz).ok_or(Errno::ENOEXEC)?;
    let file_end = header.p_offset.checked_add(header.p_filesz).ok_or(Errno::ENOEXEC)?;
    let misplaced = header.p_filesz > 0 && header.p_offset & PAGE_MASK != header.p_vaddr & PAGE_MASK;
    if header.p_filesz > header.p_memsz
        || memory_end > USER_END
        || i64::try_from(file_end).is_err()
        || misplaced
        // W^X: Keel is stricter than Linux here.
        || (protection.write && protection.execute)
    {
        return Err(Errno::ENOEXEC);
    }
    let alignment = if header.p_align.is_power_of_two() { header.p_align } else { 1 };
    Ok(Load {
        memory_start: header.p_vaddr,
        memory_size: header.p_memsz,
        file_offset: header.p_offset,
        file_size: header.p_filesz,
        alignment: alignment.max(PAGE_SIZE as u64),
        protection,
    })
}

/// Linux never looks at PT_TLS: a program's libc does. Keel needs it right for the programs that have none.
fn checked_tls(header: &ProgramHeader) -> Result<TlsTemplate, Errno> {
    let memory_end = header.p_vaddr.checked_add(header.p_memsz).ok_or(Errno::ENOEXEC)?;
    let file_end = header.p_offset.checked_add(header.p_filesz).ok_or(Errno::ENOEXEC)?;
    let alignment = if header.p_align == 0 { 1 } else { header.p_align };
    if header.p_filesz > header.p_memsz
        || memory_end > USER_END
        || i64::try_from(file_end).is_err()
        || !alignment.is_power_of_two()
    {
        return Err(Errno::ENOEXEC);
    }
    Ok(TlsTemplate {
        memory_start: header.p_vaddr,
        memory_size: header.p_memsz,
        file_offset: header.p_offset,
        file_size: header.p_filesz,
        alignment,
    })
}
