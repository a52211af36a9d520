//! The machine's memory map, made fit for use.
//!
//! Firmware lists regions unsorted, overlapping, unaligned and with lengths that wrap. [`MemoryMap::fill`] makes of any
//! such list one that is sorted, free of overlaps and page-aligned, in which a page is usable only if every byte of it was
//! called usable and no byte anything else.

use crate::PAGE_SIZE;
use arrayvec::ArrayVec;
use x86_64::PhysAddr;

/// More regions than any firmware seen lists; UEFI's longest have about 200 before GRUB merges them.
pub const REGIONS_MAX: usize = 256;

/// Physical addresses from `start` up to but not including `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PhysRange {
    pub start: PhysAddr,
    pub end: PhysAddr,
}

impl PhysRange {
    pub const EMPTY: Self = Self { start: PhysAddr::zero(), end: PhysAddr::zero() };

    /// None where the range ends before it starts, or leaves the 52 bits that physical addresses have.
    pub fn new(start: u64, end: u64) -> Option<Self> {
        let range = Self { start: PhysAddr::try_new(start).ok()?, end: PhysAddr::try_new(end).ok()? };
        (start <= end).then_some(range)
    }

    pub fn of_size(start: u64, size_bytes: u64) -> Option<Self> {
        Self::new(start, start.checked_add(size_bytes)?)
    }

    pub fn size_bytes(&self) -> u64 {
        self.end.as_u64() - self.start.as_u64()
    }

    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    pub fn contains(&self, address: PhysAddr) -> bool {
        self.start <= address && address < self.end
    }
}

/// What a region is good for, from least to most binding: where regions overlap, the later kind here wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RegionKind {
    Usable,
    /// ACPI tables; usable once they have been read, but Keel leaves them alone.
    AcpiReclaimable,
    AcpiNvs,
    Reserved,
    Defective,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryRegion {
    pub range: PhysRange,
    pub kind: RegionKind,
}

/// A region as firmware lists it: nothing about it is certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawRegion {
    pub start: u64,
    pub length_bytes: u64,
    pub kind: RegionKind,
}

/// A sorted list of page-aligned regions without overlaps. Holes between them are addresses that nobody described.
#[derive(Clone, Debug)]
pub struct MemoryMap {
    regions: ArrayVec<MemoryRegion, REGIONS_MAX>,
}

impl MemoryMap {
    pub const EMPTY: Self = Self { regions: ArrayVec::new_const() };

    /// Becomes the map that a raw list stands for. False where some of it had to be left out: that is treated as reserved,
    /// so memory may be lost, but none is used that shouldn't be.
    ///
    /// In place, and never inlined: the tables are large, and the stack has them only while this runs.
    #[inline(never)]
    #[must_use]
    pub fn fill(&mut self, raw: impl IntoIterator<Item = RawRegion>) -> bool {
        self.regions.clear();
        let mut extents = Extents::EMPTY;
        let mut complete = true;
        for region in raw {
            complete &= extents.add(region);
        }
        let edges = extents.edges();
        for (&start, &end) in edges.iter().zip(edges.iter().skip(1)) {
            if let Some(kind) = extents.kind_of(start, end) {
                complete &= self.append(start, end, kind);
            }
        }
        self.shrink_usable_to_pages();
        complete
    }

    /// Adds a region above all others, or lengthens the last one. False where there is no room.
    fn append(&mut self, start: u64, end: u64, kind: RegionKind) -> bool {
        let Some(range) = PhysRange::new(start, end) else { return false };
        if let Some(last) = self.regions.last_mut()
            && last.kind == kind
            && last.range.end == range.start
        {
            last.range.end = range.end;
            return true;
        }
        self.regions.try_push(MemoryRegion { range, kind }).is_ok()
    }

    /// Everything else was widened to whole pages before; what is usable has been joined by now, so that a page which two
    /// regions share isn't lost.
    fn shrink_usable_to_pages(&mut self) {
        for region in self.regions.iter_mut().filter(|region| region.kind == RegionKind::Usable) {
            let start = page_up(region.range.start.as_u64());
            let end = page_down(region.range.end.as_u64());
            region.range = PhysRange::new(start, end).unwrap_or(PhysRange::EMPTY);
        }
        self.regions.retain(|region| !region.range.is_empty());
    }

    pub fn regions(&self) -> &[MemoryRegion] {
        &self.regions
    }

    pub fn usable(&self) -> impl Iterator<Item = PhysRange> + '_ {
        self.regions.iter().filter(|region| region.kind == RegionKind::Usable).map(|region| region.range)
    }

    pub fn usable_bytes(&self) -> u64 {
        self.usable().map(|range| range.size_bytes()).sum()
    }
}

/// Where the raw regions begin and end once wrapping, the limits of addresses and whole pages have been seen to.
struct Extents {
    list: ArrayVec<Extent, REGIONS_MAX>,
}

#[derive(Clone, Copy)]
struct Extent {
    start: u64,
    end: u64,
    kind: RegionKind,
}

impl Extents {
    const EMPTY: Self = Self { list: ArrayVec::new_const() };

    /// False where there was no room for all. Then a usable region gives way, since leaving out any other could make
    /// memory look usable that isn't.
    fn add(&mut self, raw: RawRegion) -> bool {
        let mut extent = Extent { start: raw.start, end: raw.start.saturating_add(raw.length_bytes), kind: raw.kind };
        if raw.kind != RegionKind::Usable {
            extent.start = page_down(extent.start);
            extent.end = page_up(extent.end);
        }
        extent.end = extent.end.min(ADDRESSES_END);
        if extent.start >= extent.end || raw.length_bytes == 0 {
            return true;
        }
        if self.list.try_push(extent).is_ok() {
            return true;
        }
        if raw.kind != RegionKind::Usable
            && let Some(victim) = self.list.iter_mut().find(|other| other.kind == RegionKind::Usable)
        {
            *victim = extent;
        }
        false
    }

    /// Every address at which the kind of memory may change, in order.
    fn edges(&self) -> ArrayVec<u64, { 2 * REGIONS_MAX }> {
        let mut edges: ArrayVec<u64, { 2 * REGIONS_MAX }> =
            self.list.iter().flat_map(|extent| [extent.start, extent.end]).collect();
        edges.sort_unstable();
        edges
    }

    /// The kind of the memory between two neighbouring edges: the most binding one that anybody gave it.
    fn kind_of(&self, start: u64, end: u64) -> Option<RegionKind> {
        if start == end {
            return None;
        }
        self.list.iter().filter(|extent| extent.start <= start && end <= extent.end).map(|extent| extent.kind).max()
    }
}

/// Physical addresses have at most 52 bits (Intel SDM 3A §4.1.4); the last page is left out, so that every end is an address.
const ADDRESSES_END: u64 = (1 << 52) - PAGE_SIZE as u64;

fn page_down(address: u64) -> u64 {
    address & !(PAGE_SIZE as u64 - 1)
}

/// Saturates at the last page boundary there is.
fn page_up(address: u64) -> u64 {
    page_down(address.saturating_add(PAGE_SIZE as u64 - 1))
}

#[cfg(test)]
mod tests {
    use super::RegionKind::{AcpiNvs, AcpiReclaimable, Defective, Reserved, Usable};
    use super::*;

    fn map_of(raw: &[(u64, u64, RegionKind)]) -> Vec<(u64, u64, RegionKind)> {
        let raw = raw.iter().map(|&(start, length_bytes, kind)| RawRegion { start, length_bytes, kind });
        let mut map = MemoryMap::EMPTY;
        assert!(map.fill(raw));
        listed(&map)
    }

    fn listed(map: &MemoryMap) -> Vec<(u64, u64, RegionKind)> {
        map.regions().iter().map(|r| (r.range.start.as_u64(), r.range.end.as_u64(), r.kind)).collect()
    }

    #[test]
    fn unsorted_regions_come_out_sorted() {
        assert_eq!(
            map_of(&[(0x10_0000, 0x10_0000, Usable), (0, 0x9_f000, Usable), (0xf_0000, 0x1_0000, Reserved)]),
            [(0, 0x9_f000, Usable), (0xf_0000, 0x10_0000, Reserved), (0x10_0000, 0x20_0000, Usable)]
        );
    }

    #[test]
    fn where_regions_overlap_the_reserved_one_wins() {
        assert_eq!(
            map_of(&[(0, 0x1_0000, Usable), (0x4000, 0x1000, Reserved)]),
            [(0, 0x4000, Usable), (0x4000, 0x5000, Reserved), (0x5000, 0x1_0000, Usable)]
        );
        assert_eq!(map_of(&[(0x4000, 0x1000, Defective), (0x4000, 0x1000, AcpiNvs)]), [(0x4000, 0x5000, Defective)]);
    }

    #[test]
    fn a_page_that_is_partly_reserved_is_reserved() {
        assert_eq!(
            map_of(&[(0, 0x4000, Usable), (0x1ff0, 0x20, AcpiReclaimable)]),
            [(0, 0x1000, Usable), (0x1000, 0x3000, AcpiReclaimable), (0x3000, 0x4000, Usable)]
        );
    }

    #[test]
    fn a_page_that_two_usable_regions_share_is_usable() {
        assert_eq!(map_of(&[(0x800, 0x1000, Usable), (0x1800, 0x1900, Usable)]), [(0x1000, 0x3000, Usable)]);
    }

    #[test]
    fn usable_memory_shrinks_to_whole_pages() {
        assert_eq!(map_of(&[(0x1001, 0xffe, Usable)]), []);
        assert_eq!(map_of(&[(0xfff, 0x2002, Usable)]), [(0x1000, 0x3000, Usable)]);
    }

    #[test]
    fn lengths_that_are_zero_or_wrap_do_no_harm() {
        assert_eq!(map_of(&[(0x1000, 0, Usable), (0x1800, 0, Reserved)]), []);
        assert_eq!(map_of(&[(u64::MAX, u64::MAX, Reserved)]), []);
        assert_eq!(map_of(&[(0x1000, u64::MAX, Usable)]), [(0x1000, ADDRESSES_END, Usable)]);
    }

    #[test]
    fn too_many_regions_lose_memory_and_never_invent_any() {
        let usable = (0..REGIONS_MAX as u64).map(|i| RawRegion { start: i << 20, length_bytes: 1 << 20, kind: Usable });
        let reserved = RawRegion { start: 0x5000, length_bytes: 0x1000, kind: Reserved };
        let mut map = MemoryMap::EMPTY;
        assert!(!map.fill(usable.chain([reserved])));
        assert!(map.usable().all(|range| !range.contains(PhysAddr::new(0x5000))));
        assert!(map.usable_bytes() >= (REGIONS_MAX as u64 - 1) << 20);
    }

    /// What each byte-sized slot of a small address space is, by the rules in the module's own words.
    fn model(raw: &[RawRegion], page: u64) -> Option<RegionKind> {
        let bytes = page * 4096..(page + 1) * 4096;
        let touching =
            |r: &&RawRegion| r.length_bytes > 0 && r.start < bytes.end && r.start + r.length_bytes > bytes.start;
        let binding = raw.iter().filter(touching).map(|r| r.kind).filter(|&kind| kind != Usable).max();
        let all_usable = bytes.clone().step_by(256).all(|byte| {
            raw.iter().any(|r| r.kind == Usable && r.start <= byte && byte + 256 <= r.start + r.length_bytes)
        });
        binding.or(all_usable.then_some(Usable))
    }

    #[test]
    fn random_maps_agree_with_the_model() {
        const KINDS: [RegionKind; 5] = [Usable, Usable, Usable, Reserved, AcpiReclaimable];
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut random = |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        for _ in 0..5_000 {
            let raw: Vec<RawRegion> = (0..random(12))
                .map(|_| RawRegion {
                    start: random(64 * 16) * 256,
                    length_bytes: random(12 * 16) * 256,
                    kind: KINDS[random(5) as usize],
                })
                .collect();
            let mut map = MemoryMap::EMPTY;
            assert!(map.fill(raw.iter().copied()));
            let regions = map.regions();
            assert!(regions.windows(2).all(|pair| pair[0].range.end <= pair[1].range.start));
            for page in 0..80 {
                let at = PhysAddr::new(page * 4096);
                let kind = regions.iter().find(|region| region.range.contains(at)).map(|region| region.kind);
                assert_eq!(kind, model(&raw, page), "page {page} of {raw:x?}");
            }
        }
    }
}
