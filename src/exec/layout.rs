//! Address space layout randomisation: a pure function from random numbers and limits to addresses.
//!
//! The amounts are those of Linux on x86-64: 28 bits of pages for the mmap area and for position-independent images, 22
//! for the stack and 16-byte steps within two pages on top, 1 GiB for the heap's start. Switched off (`norandmaps`, or the
//! personality ADDR_NO_RANDOMIZE) the addresses are Linux's fixed ones, those that gdb sessions show. The vDSO is a random
//! way above the stack, as on Linux; where that ends at the last page, right above the mmap area.

use crate::PAGE_SIZE;
use crate::memory::areas::STACK_GUARD_GAP;
use crate::memory::page_table::Level;

pub use crate::memory::address_space::{LOWEST_MAPPING as USER_START, USER_END};

/// Where position-independent images begin when addresses aren't random: two thirds up.
pub const PIE_BASE: u64 = 0x5555_5555_4000;
/// Where the heap of a position-independent program without an interpreter begins: Linux rounds two thirds up.
pub const LONE_HEAP_BASE: u64 = PIE_BASE + PAGE;
/// `[vvar]` and `[vdso]`.
pub const VDSO_BYTES: u64 = 2 * PAGE;

const PAGE: u64 = PAGE_SIZE as u64;
const MMAP_RANDOM_PAGES: u64 = 1 << 28;
const STACK_RANDOM_PAGES: u64 = 1 << 22;
const STACK_RANDOM_BYTES: u64 = 8192;
const HEAP_RANDOM_PAGES: u64 = (1 << 30) / PAGE;
const SMALLEST_MMAP_GAP: u64 = 128 << 20;
const LARGEST_MMAP_GAP: u64 = USER_END / 6 * 5;
/// Arguments may take this much even with a lower stack limit.
const SMALLEST_STACK_RESERVE: u64 = 256 << 10;
/// A stack limit above this doesn't forbid that a program names addresses there for its image.
const LARGEST_STACK_RESERVE: u64 = 8 << 20;

/// Fresh random numbers for one execve.
#[derive(Clone, Copy, Debug)]
pub struct Randomness {
    /// False: all addresses are the fixed ones.
    pub randomise: bool,
    pub stack: u64,
    pub mmap: u64,
    pub image: u64,
    pub heap: u64,
    /// What AT_RANDOM points to.
    pub seed: [u8; 16],
}

/// Where things go that the program's file doesn't decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    pub stack_top: u64,
    /// How much is left free between the strings and the tables on the stack.
    pub stack_slack: u64,
    /// The lowest address kept for the stack and the gap below it.
    pub stack_reserve_start: u64,
    /// Where the vDSO's two pages go.
    pub vdso: u64,
    /// New mappings go below this, downwards.
    pub mmap_base: u64,
    pub pie_base: u64,
    /// How far the heap starts behind the image.
    pub heap_offset: u64,
}

impl Layout {
    pub fn new(random: &Randomness, stack_limit: u64) -> Self {
        let pick = |value: u64, count: u64| if random.randomise { value & count.wrapping_sub(1) } else { 0 };
        let pages = |count: u64| count.saturating_mul(PAGE);
        let stack_top = USER_END.saturating_sub(pages(pick(random.stack, STACK_RANDOM_PAGES)));
        let stack_slack = pick(random.stack >> 32, STACK_RANDOM_BYTES) & !15;
        let stack_random = if random.randomise { pages(STACK_RANDOM_PAGES) } else { 0 };
        let gap = stack_limit
            .saturating_add(stack_random)
            .saturating_add(STACK_GUARD_GAP)
            .clamp(SMALLEST_MMAP_GAP, LARGEST_MMAP_GAP);
        let mmap_base =
            page_up(USER_END.saturating_sub(gap).saturating_sub(pages(pick(random.mmap, MMAP_RANDOM_PAGES))));
        let vdso = above_stack(stack_top, random.stack >> 48).unwrap_or(mmap_base);
        let stack_reserve = stack_limit.clamp(SMALLEST_STACK_RESERVE, LARGEST_STACK_RESERVE);
        Self {
            stack_top,
            stack_slack,
            stack_reserve_start: page_down(stack_top.saturating_sub(stack_reserve).saturating_sub(STACK_GUARD_GAP)),
            vdso,
            mmap_base,
            pie_base: PIE_BASE.saturating_add(pages(pick(random.image, MMAP_RANDOM_PAGES))),
            heap_offset: pages(pick(random.heap, HEAP_RANDOM_PAGES)),
        }
    }
}

/// A random place for the vDSO in the rest of the stack's own page table: so it costs no table of its own.
fn above_stack(stack_top: u64, random: u64) -> Option<u64> {
    let table_end = stack_top.next_multiple_of(Level::TWO.span()).min(USER_END);
    let places = table_end.saturating_sub(stack_top).saturating_sub(VDSO_BYTES).checked_div(PAGE)?;
    Some(stack_top.saturating_add(random.checked_rem(places)?.saturating_mul(PAGE)))
}

pub const fn page_down(address: u64) -> u64 {
    address & !(PAGE - 1)
}

/// Rounds up to a page boundary; the last page of the address range rounds down, and is no program's anyway.
pub const fn page_up(address: u64) -> u64 {
    page_down(address.saturating_add(PAGE - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn randomness(value: u64, randomise: bool) -> Randomness {
        Randomness { randomise, stack: value, mmap: value, image: value, heap: value, seed: [0; 16] }
    }

    #[test]
    fn without_randomness_the_addresses_are_those_of_linux() {
        let layout = Layout::new(&randomness(u64::MAX, false), 8 << 20);
        assert_eq!(layout.stack_top, 0x7fff_ffff_f000);
        assert_eq!(layout.mmap_base, 0x7fff_f7ff_f000);
        assert_eq!(layout.pie_base, 0x5555_5555_4000);
        assert_eq!((layout.heap_offset, layout.stack_slack), (0, 0));
        assert_eq!(layout.vdso, layout.mmap_base);
    }

    #[test]
    fn each_bit_of_randomness_moves_the_address_it_is_for() {
        let fixed = Layout::new(&randomness(0, true), 8 << 20);
        for bit in 0..28 {
            let layout = Layout::new(&randomness(1 << bit, true), 8 << 20);
            assert_eq!(layout.pie_base, fixed.pie_base + (PAGE << bit));
            assert_eq!(layout.mmap_base, fixed.mmap_base - (PAGE << bit));
            let stack_moved = if bit < 22 { PAGE << bit } else { 0 };
            assert_eq!(layout.stack_top, fixed.stack_top - stack_moved);
            assert_eq!(layout.heap_offset, if bit < 18 { PAGE << bit } else { 0 });
        }
        assert_eq!(Layout::new(&randomness(u64::MAX, true), 8 << 20).stack_slack, 8192 - 16);
    }

    #[test]
    fn nothing_overlaps_at_the_extremes() {
        for stack_limit in [0, 4096, 8 << 20, 1 << 40, u64::MAX] {
            for value in [0, 1, u64::MAX] {
                let layout = Layout::new(&randomness(value, true), stack_limit);
                assert!(layout.stack_top <= USER_END && layout.stack_top.is_multiple_of(PAGE));
                assert!(layout.mmap_base < layout.stack_reserve_start && layout.mmap_base.is_multiple_of(PAGE));
                let vdso = layout.vdso..layout.vdso + VDSO_BYTES;
                assert!(vdso.start.is_multiple_of(PAGE) && vdso.end <= USER_END);
                assert!(vdso.start >= layout.stack_top || vdso.end <= layout.stack_reserve_start);
                assert!(layout.mmap_base > USER_END / 7 - (1 << 40));
                assert!(layout.pie_base < 0x5655_5555_4000 + (1 << 40));
            }
        }
    }
}
