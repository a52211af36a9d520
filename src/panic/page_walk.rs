//! How an address translates, level by level, told for people: the part of a panic screen that explains a page fault.
//!
//! It reads page tables as the CPU does and shares no code with src/memory: what is being looked at may be what is broken.

use core::fmt;

const PRESENT: u64 = 1 << 0;
const LARGE: u64 = 1 << 7;
const NO_EXECUTE: u64 = 1 << 63;
const ADDRESS_MASK: u64 = 0x000f_ffff_ffff_f000;

/// The levels of SDM 3A §4.5, from the top: the table's name, the bits of an address that lie below its index, and whether an
/// entry may map a large page.
const LEVELS: [(&str, u32, bool); 4] = [("PML4", 39, false), ("PDPT", 30, true), ("PD", 21, true), ("PT", 12, false)];

/// One entry on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    table: &'static str,
    index: usize,
    entry: u64,
    /// It maps a page: nothing follows.
    is_page: bool,
    offset_bits: u32,
}

/// The entries that lead from `root` (a physical address, as in CR3) to `address`, the last being a page or not present.
/// `read` reads 8 bytes of physical memory.
pub fn walk(root: u64, address: u64, read: impl Fn(u64) -> u64) -> impl Iterator<Item = Step> {
    let mut table = Some(root & ADDRESS_MASK);
    LEVELS.into_iter().enumerate().map_while(move |(depth, (name, offset_bits, may_be_large))| {
        let index = (address >> offset_bits & 0x1ff) as usize;
        let entry = read(table? + index as u64 * 8);
        let is_page = entry & PRESENT != 0 && (depth == 3 || may_be_large && entry & LARGE != 0);
        table = (entry & PRESENT != 0 && !is_page).then_some(entry & ADDRESS_MASK);
        Some(Step { table: name, index, entry, is_page, offset_bits })
    })
}

/// The physical address that `address` leads to, if it is mapped.
pub fn translate(root: u64, address: u64, read: impl Fn(u64) -> u64) -> Option<u64> {
    let last = walk(root, address, read).last().filter(|step| step.is_page)?;
    let offset_mask = (1u64 << last.offset_bits) - 1;
    Some(last.entry & ADDRESS_MASK & !offset_mask | address & offset_mask)
}

impl fmt::Display for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        write!(formatter, "{:<4}[{:>3}] = {:016x} ", self.table, self.index, self.entry)?;
        if self.entry & PRESENT == 0 {
            return write!(formatter, " not present");
        }
        let names = [(1, "writable"), (2, "user"), (3, "write-through"), (4, "uncached"), (5, "accessed")];
        let page_names = [(6, "dirty"), (8, "global")];
        write!(formatter, " {}", if self.is_page { "page" } else { "table" })?;
        for (bit, name) in names.into_iter().chain(page_names.into_iter().filter(|_| self.is_page)) {
            if self.entry >> bit & 1 != 0 {
                write!(formatter, " {name}")?;
            }
        }
        if self.entry & NO_EXECUTE != 0 { write!(formatter, " no-execute") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A root at 0x1000, tables at 0x2000 and on, in a sparse physical memory.
    fn memory(entries: &'static [(u64, u64)]) -> impl Fn(u64) -> u64 + Copy {
        move |address| entries.iter().find(|(place, _)| *place == address).map_or(0, |(_, entry)| *entry)
    }

    const SMALL: &[(u64, u64)] = &[(0x1000, 0x2007), (0x2008, 0x3007), (0x3010, 0x4007), (0x4018, 0x9003 | NO_EXECUTE)];
    const ADDRESS: u64 = 1 << 30 | 2 << 21 | 3 << 12 | 0x123;

    #[test]
    fn a_small_page_is_found_through_four_levels() {
        assert_eq!(walk(0x1000, ADDRESS, memory(SMALL)).count(), 4);
        assert_eq!(translate(0x1000, ADDRESS, memory(SMALL)), Some(0x9123));
        let last = walk(0x1000, ADDRESS, memory(SMALL)).last().unwrap();
        assert_eq!(last.to_string(), "PT  [  3] = 8000000000009003  page writable no-execute");
    }

    #[test]
    fn the_walk_ends_where_nothing_is_present() {
        let steps: Vec<_> = walk(0x1000, 1 << 39, memory(SMALL)).collect();
        assert_eq!(steps.len(), 1);
        assert_eq!(steps[0].to_string(), "PML4[  1] = 0000000000000000  not present");
        assert_eq!(translate(0x1000, 1 << 39, memory(SMALL)), None);
    }

    #[test]
    fn a_large_page_ends_the_walk() {
        let large = memory(&[(0x1000, 0x2003), (0x2000, 0x3003), (0x3000, 0x0060_0083)]);
        assert_eq!(walk(0x1000, 0x12345, large).count(), 3);
        assert_eq!(translate(0x1000, 0x12345, large), Some(0x0061_2345));
    }
}
