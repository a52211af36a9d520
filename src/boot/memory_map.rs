//! The machine's memory map, made fit for use.
//!
//! Firmware lists regions unsorted, overlapping, unaligned and with lengths that wrap. [`MemoryMap::from_raw`] makes of any
//! such list one that is sorted, free of overlaps and page-aligned, in which a page is usable only if every byte of it was
//! called usable and no byte anything else.

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

/// A sorted list of page-aligned regions without overlaps. Holes between them are addresses that nobody described.
#[derive(Clone, Debug)]
pub struct MemoryMap {
    regions: ArrayVec<MemoryRegion, REGIONS_MAX>,
}

impl MemoryMap {
    pub const EMPTY: Self = Self { regions: ArrayVec::new_const() };

    pub fn regions(&self) -> &[MemoryRegion] {
        &self.regions
    }

    pub fn usable(&self) -> impl Iterator<Item = PhysRange> + '_ {
        self.regions.iter().filter(|region| region.kind == RegionKind::Usable).map(|region| region.range)
    }

    pub fn usable_bytes(&self) -> u64 {
        self.usable().map(|range| range.size_bytes()).sum()
    }

    /// The end of the highest usable region.
    pub fn usable_end(&self) -> PhysAddr {
        self.usable().map(|range| range.end).max().unwrap_or(PhysAddr::zero())
    }
}
