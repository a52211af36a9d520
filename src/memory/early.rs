//! Free physical memory before the frame allocator exists: a short list of ranges from which whole pages are taken.
//!
//! It hands out the frames of the first kernel page tables and of the frame allocator's own table; what is left when
//! [`super::frames::init`] runs becomes the allocator's. Memory that is taken here is never given back.

use crate::PAGE_SIZE;
use core::ops::Range;

/// Physical addresses; both ends are page-aligned.
pub type PhysicalRange = Range<u64>;

const CAPACITY: usize = 256;
const PAGE: u64 = PAGE_SIZE as u64;

/// The first MiB belongs to the firmware (interrupt vectors, BIOS and extended data areas) and to the start of other CPUs.
const LOW_MEMORY_END: u64 = 1 << 20;

/// Sorted, non-overlapping, non-empty.
pub struct FreeRanges {
    ranges: [PhysicalRange; CAPACITY],
    count: usize,
}

impl FreeRanges {
    /// What is usable and not reserved. Usable ranges are cut to the whole pages inside them, reserved ones are widened.
    pub fn new(usable: impl Iterator<Item = Range<u64>>, reserved: impl Iterator<Item = Range<u64>>) -> Self {
        let mut free = Self { ranges: [const { 0..0 }; CAPACITY], count: 0 };
        for range in usable {
            let start = range.start.max(LOW_MEMORY_END).checked_next_multiple_of(PAGE).unwrap_or(u64::MAX);
            let end = range.end & !(PAGE - 1);
            free.insert(start..end);
        }
        for range in reserved {
            let end = range.end.checked_next_multiple_of(PAGE).unwrap_or(u64::MAX);
            free.remove(range.start & !(PAGE - 1)..end);
        }
        free
    }

    pub fn iter(&self) -> impl Iterator<Item = &PhysicalRange> {
        self.ranges.iter().take(self.count)
    }

    pub fn bytes(&self) -> u64 {
        self.iter().map(|range| range.end - range.start).sum()
    }

    /// Takes whole pages that lie together and below `limit`, from the lowest range that has them.
    pub fn take(&mut self, bytes: u64, limit: u64) -> Option<PhysicalRange> {
        let bytes = bytes.checked_next_multiple_of(PAGE)?;
        let range = self.ranges.iter_mut().take(self.count).find(|range| {
            let end = range.end.min(limit);
            end.checked_sub(range.start).is_some_and(|room| room >= bytes)
        })?;
        let taken = range.start..range.start + bytes;
        range.start = taken.end;
        self.drop_empty();
        Some(taken)
    }

    /// Memory maps may be unsorted and overlap: each new range first takes out what it covers of the old ones.
    fn insert(&mut self, range: PhysicalRange) {
        if range.start >= range.end {
            return;
        }
        self.remove(range.clone());
        let Some(used) = self.ranges.get_mut(..self.count + 1) else {
            log::warn!(target: "memory", "memory map too long: {:#x}..{:#x} is not used", range.start, range.end);
            return;
        };
        let place = used.iter().take(self.count).position(|old| old.start > range.start).unwrap_or(self.count);
        if let Some(tail) = used.get_mut(place..) {
            tail.rotate_right(1);
            if let Some(first) = tail.first_mut() {
                *first = range;
            }
        }
        self.count += 1;
    }

    fn remove(&mut self, cut: PhysicalRange) {
        let mut split_off = None;
        for range in self.ranges.iter_mut().take(self.count) {
            if cut.start <= range.start && cut.end >= range.end {
                *range = 0..0;
            } else if cut.start > range.start && cut.end < range.end {
                split_off = Some(cut.end..range.end);
                range.end = cut.start;
            } else if cut.start <= range.start && cut.end > range.start {
                range.start = cut.end;
            } else if cut.start < range.end && cut.end >= range.end {
                range.end = cut.start;
            }
        }
        self.drop_empty();
        if let Some(range) = split_off {
            self.insert(range);
        }
    }

    fn drop_empty(&mut self) {
        let mut kept = 0;
        for index in 0..self.count {
            let Some(range) = self.ranges.get(index).cloned() else { break };
            if range.start < range.end {
                if let Some(place) = self.ranges.get_mut(kept) {
                    *place = range;
                }
                kept += 1;
            }
        }
        self.count = kept;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn ranges(usable: &[Range<u64>], reserved: &[Range<u64>]) -> Vec<Range<u64>> {
        FreeRanges::new(usable.iter().cloned(), reserved.iter().cloned()).iter().cloned().collect()
    }

    #[test]
    fn what_if_the_map_is_unsorted_and_overlaps() {
        let free = ranges(&[8 * MIB..10 * MIB, 0..4 * MIB, 3 * MIB..5 * MIB], &[]);
        assert_eq!(free, [MIB..3 * MIB, 3 * MIB..5 * MIB, 8 * MIB..10 * MIB]);
    }

    #[test]
    fn what_if_ends_are_unaligned() {
        assert_eq!(ranges(&[MIB + 1..2 * MIB + 5], &[]), [MIB + PAGE..2 * MIB]);
        assert_eq!(ranges(&[MIB..4 * MIB], &[2 * MIB + 1..2 * MIB + 2]), [MIB..2 * MIB, 2 * MIB + PAGE..4 * MIB]);
        assert_eq!(ranges(&[MIB + 1..MIB + 2], &[]), []);
        assert_eq!(ranges(&[u64::MAX - 5..u64::MAX], &[0..u64::MAX]), []);
    }

    #[test]
    fn reserved_ranges_cut_everywhere() {
        let free = ranges(&[MIB..8 * MIB], &[0..2 * MIB, 7 * MIB..9 * MIB, 3 * MIB..4 * MIB]);
        assert_eq!(free, [2 * MIB..3 * MIB, 4 * MIB..7 * MIB]);
    }

    #[test]
    fn taking_moves_a_start_and_respects_the_limit() {
        let mut free = FreeRanges::new([MIB..MIB + PAGE, 2 * MIB..4 * MIB].into_iter(), [].into_iter());
        assert_eq!(free.take(2 * PAGE, u64::MAX), Some(2 * MIB..2 * MIB + 2 * PAGE));
        assert_eq!(free.take(1, u64::MAX), Some(MIB..MIB + PAGE));
        assert_eq!(free.take(1, 2 * MIB + 2 * PAGE), None);
        assert_eq!(free.bytes(), 2 * MIB - 2 * PAGE);
    }
}
