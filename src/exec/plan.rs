//! The second link: a checked program, its interpreter and a layout become a plan, which says for each segment at which
//! addresses it goes, and where execution begins. Still no memory is touched.
//!
//! What the plan promises: every segment lies between [`USER_START`] and [`USER_END`], and none reaches into the room that
//! is kept for the stack. Segments may share a page: they are mapped in the file's order, and the later one has it, as
//! with Linux's MAP_FIXED.

use super::elf_file::{CheckedElf, Kind, Load};
use super::layout::{LONE_HEAP_BASE, Layout, USER_END, USER_START, page_down, page_up};
use super::{Protection, elf_file::TlsTemplate};
use crate::PAGE_SIZE;
use crate::errno::Errno;
use alloc::vec::Vec;
use core::ops::Range;

/// One PT_LOAD at its final address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    pub start: u64,
    /// Where its bytes from the file end, and its zeroes begin.
    pub file_end: u64,
    pub end: u64,
    /// Where in the file its first byte is.
    pub file_offset: u64,
    pub protection: Protection,
}

impl Segment {
    /// The pages that come from the file, and where in it the first of them begins.
    pub fn file_pages(&self) -> Option<(Range<u64>, u64)> {
        (self.file_end > self.start)
            .then(|| (page_down(self.start)..page_up(self.file_end), page_down(self.file_offset)))
    }

    /// Where in the file the page begins that holds its last byte of the segment.
    pub fn last_file_page(&self) -> u64 {
        page_down(self.file_offset.saturating_add(self.file_end.saturating_sub(self.start)).saturating_sub(1))
    }

    /// The bytes behind the file's part in its last page: they must be zero, whatever the file holds there.
    pub fn zero_tail(&self) -> Option<Range<u64>> {
        let page_end = page_up(self.file_end);
        (self.file_end > self.start && self.end > self.file_end && page_end > self.file_end)
            .then_some(self.file_end..page_end)
    }

    /// The pages that come from nowhere and are zero.
    pub fn zero_pages(&self) -> Option<Range<u64>> {
        let start = if self.file_end > self.start { page_up(self.file_end) } else { page_down(self.start) };
        let end = page_up(self.end);
        (self.end > self.file_end && end > start).then_some(start..end)
    }
}

/// Where one ELF image goes.
#[derive(Debug)]
pub struct ImagePlan {
    /// What is added to the file's addresses (AT_BASE, for an interpreter).
    pub bias: i64,
    pub entry: u64,
    /// The program headers in memory (AT_PHDR).
    pub headers: u64,
    pub header_count: u16,
    pub segments: Vec<Segment>,
    pub text: Range<u64>,
    pub data: Range<u64>,
    /// All of it.
    pub extent: Range<u64>,
    pub tls: Option<TlsTemplate>,
}

/// A program and its interpreter, placed.
#[derive(Debug)]
pub struct Plan {
    pub program: ImagePlan,
    pub interpreter: Option<ImagePlan>,
    pub layout: Layout,
    /// Where the heap begins, and is empty.
    pub heap_start: u64,
}

impl Plan {
    pub fn new(program: &CheckedElf, interpreter: Option<&CheckedElf>, layout: Layout) -> Result<Self, Errno> {
        // What is relocatable and asks for no interpreter may be one itself, started by name: it makes room for the program
        // that it will load, and its heap, which would soon run into the stack there, goes where that program isn't either.
        let stands_alone = program.kind == Kind::Relocatable && interpreter.is_none();
        let bias = match program.kind {
            Kind::Fixed => 0,
            Kind::Relocatable if stands_alone => bias_for_end(program, layout.mmap_base)?,
            Kind::Relocatable => bias_for_start(program, layout.pie_base)?,
        };
        let program = ImagePlan::new(program, bias, &layout)?;
        let interpreter = match interpreter {
            Some(interpreter) => Some(place_interpreter(interpreter, &program, &layout)?),
            None => None,
        };
        let heap_base = if stands_alone { LONE_HEAP_BASE } else { page_up(program.extent.end) };
        let heap_start = heap_base.saturating_add(layout.heap_offset);
        if heap_start > USER_END {
            return Err(Errno::ENOMEM);
        }
        Ok(Self { program, interpreter, layout, heap_start })
    }

    /// Where the program's first instruction is: the interpreter's, if it has one.
    pub fn entry(&self) -> u64 {
        self.interpreter.as_ref().unwrap_or(&self.program).entry
    }
}

impl ImagePlan {
    fn new(elf: &CheckedElf, bias: i64, layout: &Layout) -> Result<Self, Errno> {
        let mut segments = Vec::new();
        segments.try_reserve_exact(elf.loads.len()).map_err(|_| Errno::ENOMEM)?;
        for load in elf.loads.iter().filter(|load| load.memory_size > 0) {
            segments.push(place(load, bias, layout)?);
        }
        let entry = elf.entry.wrapping_add_signed(bias);
        if entry >= USER_END {
            return Err(Errno::ENOEXEC);
        }
        let mut plan = Self {
            bias,
            entry,
            headers: header_address(elf).wrapping_add_signed(bias),
            header_count: elf.header_count,
            segments,
            text: 0..0,
            data: 0..0,
            extent: 0..0,
            tls: elf.tls,
        };
        plan.find_bounds();
        Ok(plan)
    }

    /// What /proc/PID/stat shows as code and data, with Linux's definitions.
    fn find_bounds(&mut self) {
        let code = || self.segments.iter().filter(|segment| segment.protection.execute);
        let all = || self.segments.iter();
        let text_start = code().map(|segment| segment.start).min().unwrap_or(0);
        let text_end = code().map(|segment| segment.file_end).max().unwrap_or(0);
        let data_start = all().map(|segment| segment.start).max().unwrap_or(0);
        let data_end = all().map(|segment| segment.file_end).max().unwrap_or(0);
        let start = all().map(|segment| page_down(segment.start)).min().unwrap_or(0);
        let end = all().map(|segment| page_up(segment.end)).max().unwrap_or(0);
        self.text = text_start..text_end;
        self.data = data_start..data_end;
        self.extent = start..end;
    }

    pub fn overlaps(&self, range: &Range<u64>) -> bool {
        self.extent.start < range.end && range.start < self.extent.end
    }
}

/// The bias that puts an image's first segment at `base`, or as far below it as its alignment asks for.
fn bias_for_start(elf: &CheckedElf, base: u64) -> Result<i64, Errno> {
    let first = elf.loads.first().map_or(0, |load| load.memory_start);
    let alignment = alignment(elf);
    difference(align_down(base, alignment), align_down(first, alignment))
}

/// The interpreter goes right below the mmap area's top, or below the program if that is there.
fn place_interpreter(elf: &CheckedElf, program: &ImagePlan, layout: &Layout) -> Result<ImagePlan, Errno> {
    let bad = |error| if error == Errno::ENOEXEC { Errno::ELIBBAD } else { error };
    if elf.kind == Kind::Fixed {
        return ImagePlan::new(elf, 0, layout).map_err(bad);
    }
    let bias = bias_for_end(elf, layout.mmap_base)?;
    let overlaps = |load: &Load| {
        let start = page_down(load.memory_start.wrapping_add_signed(bias));
        program.overlaps(&(start..page_up(start.saturating_add(load.memory_size))))
    };
    let bias = if elf.loads.iter().any(overlaps) { bias_for_end(elf, program.extent.start)? } else { bias };
    ImagePlan::new(elf, bias, layout).map_err(bad)
}

/// The bias that ends an image at `end`, or as far below it as its alignment asks for.
fn bias_for_end(elf: &CheckedElf, end: u64) -> Result<i64, Errno> {
    let highest = elf.loads.iter().map(|load| load.memory_start.saturating_add(load.memory_size)).max().unwrap_or(0);
    let bias = difference(end, page_up(highest))?;
    Ok(bias & alignment(elf).cast_signed().wrapping_neg())
}

fn place(load: &Load, bias: i64, layout: &Layout) -> Result<Segment, Errno> {
    let start = load.memory_start.checked_add_signed(bias).ok_or(Errno::ENOEXEC)?;
    let end = start.checked_add(load.memory_size).ok_or(Errno::ENOEXEC)?;
    let file_end = start.checked_add(load.file_size).ok_or(Errno::ENOEXEC)?;
    if start < USER_START || end > USER_END {
        return Err(Errno::ENOEXEC);
    }
    if page_up(end) > layout.stack_reserve_start && page_down(start) < layout.stack_top {
        return Err(Errno::ENOMEM);
    }
    Ok(Segment { start, file_end, end, file_offset: load.file_offset, protection: load.protection })
}

/// The unbiased address of the program headers: in the last segment that holds them, else 0.
fn header_address(elf: &CheckedElf) -> u64 {
    let within = |load: &&Load| elf.header_table_offset.wrapping_sub(load.file_offset) < load.file_size;
    elf.loads
        .iter()
        .rfind(within)
        .map_or(0, |load| elf.header_table_offset.wrapping_sub(load.file_offset).wrapping_add(load.memory_start))
}

fn alignment(elf: &CheckedElf) -> u64 {
    elf.loads.iter().map(|load| load.alignment).max().unwrap_or(PAGE_SIZE as u64)
}

fn align_down(address: u64, alignment: u64) -> u64 {
    address & alignment.wrapping_neg()
}

fn difference(to: u64, from: u64) -> Result<i64, Errno> {
    let to = i64::try_from(to).map_err(|_| Errno::ENOEXEC)?;
    let from = i64::try_from(from).map_err(|_| Errno::ENOEXEC)?;
    to.checked_sub(from).ok_or(Errno::ENOEXEC)
}
