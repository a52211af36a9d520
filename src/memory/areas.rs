//! The areas of an address space: which addresses mean what, whether or not a page is there yet.
//!
//! A sorted list without overlaps, searched by halving. Neighbours that continue each other are joined, so that a program's
//! many small requests stay few areas. Everything that can fail (room in the list, the number of areas) is checked before
//! anything changes.

use super::frames::PageRef;
use crate::PAGE_SIZE;
use crate::errno::Errno;
use alloc::sync::Arc;
use alloc::vec::Vec;
use bitflags::bitflags;
use core::fmt;
use core::ops::Range;

pub const PAGE: u64 = PAGE_SIZE as u64;

/// Linux's vm.max_map_count.
pub const MAX_AREAS: usize = 65_530;

/// More neighbours than this are joined in one pass over the whole list.
const JOINED_ONE_BY_ONE: usize = 16;

/// What must stay free below a stack that may grow: a fault just under it is an overflow, not a neighbour's page.
pub const STACK_GUARD_GAP: u64 = 256 * PAGE;

bitflags! {
    /// What a program may do with an area: the numbers of mmap(2)'s PROT_*.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Protection: u8 {
        const READ = 1;
        const WRITE = 2;
        const EXECUTE = 4;
    }

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct AreaFlags: u8 {
        /// Writes are seen by everybody who maps the same object.
        const SHARED = 1;
        /// Grows downwards when touched below its start.
        const GROWS_DOWN = 2;
        /// Not counted against what memory could hold.
        const NO_RESERVE = 4;
        /// The initial stack, by that name in /proc/PID/maps.
        const STACK = 8;
        /// A child doesn't get it.
        const NOT_FORKED = 16;
        /// A child gets it empty.
        const WIPED_BY_FORK = 32;
    }
}

/// Where the pages of a mapped object come from: a file, or memory that processes share.
///
/// Called with the address space locked: it may take locks from `Rank::Inode` on, and doesn't wait.
pub trait PageSource: Send + Sync {
    /// The page of that index. With `for_write` it must be one that writes may go to; without, it may be one that stands for a
    /// hole. Past the end: EFAULT, which becomes SIGBUS. ENOMEM where there is no memory.
    fn page(&self, index: u64, for_write: bool) -> Result<PageRef, Errno>;

    /// Calls `visit` with those of the pages that are in memory already, and their indices: they may be read, not written. An
    /// object that leaves them all out is asked for each when it is touched.
    fn for_each_resident(&self, _pages: Range<u64>, _visit: &mut dyn FnMut(u64, &PageRef)) {}

    /// What the same object has in every process, however it was opened: for futexes in shared memory.
    fn identity(&self) -> usize {
        core::ptr::from_ref(self).addr()
    }

    /// Device and inode number, for /proc/PID/maps.
    fn device_and_inode(&self) -> (u64, u64) {
        (0, 0)
    }

    /// The path, for /proc/PID/maps.
    fn write_name(&self, _output: &mut dyn fmt::Write) -> fmt::Result {
        Ok(())
    }
}

/// What an area's pages hold when they are first touched.
#[derive(Clone)]
pub enum Backing {
    /// Zeros.
    Anonymous,
    /// An object's contents from `offset`, which is a multiple of the page size.
    Object { object: Arc<dyn PageSource>, offset: u64 },
}

impl Backing {
    /// The backing of what lies `bytes` further on.
    fn advanced(&self, bytes: u64) -> Self {
        match self {
            Self::Anonymous => Self::Anonymous,
            Self::Object { object, offset } => {
                Self::Object { object: object.clone(), offset: offset.wrapping_add(bytes) }
            }
        }
    }

    fn is_continued_by(&self, length: u64, next: &Self) -> bool {
        match (self, next) {
            (Self::Anonymous, Self::Anonymous) => true,
            (Self::Object { object, offset }, Self::Object { object: next_object, offset: next_offset }) => {
                Arc::ptr_eq(object, next_object) && offset.checked_add(length) == Some(*next_offset)
            }
            _ => false,
        }
    }
}

/// The properties of an area apart from its place.
#[derive(Clone)]
pub struct Mapping {
    pub protection: Protection,
    /// What mprotect may grant: a shared mapping of a file that was opened for reading never becomes writable.
    pub max_protection: Protection,
    pub flags: AreaFlags,
    pub backing: Backing,
}

impl Mapping {
    /// Private zero-filled memory.
    pub const fn anonymous(protection: Protection) -> Self {
        Self { protection, max_protection: Protection::all(), flags: AreaFlags::empty(), backing: Backing::Anonymous }
    }

    /// A private view of an object from an offset: written pages become copies.
    pub fn private(protection: Protection, object: Arc<dyn PageSource>, offset: u64) -> Self {
        let backing = Backing::Object { object, offset };
        Self { protection, max_protection: Protection::all(), flags: AreaFlags::empty(), backing }
    }

    /// An object as it is, written through.
    pub fn shared(
        protection: Protection,
        max_protection: Protection,
        object: Arc<dyn PageSource>,
        offset: u64,
    ) -> Self {
        Self { protection, max_protection, flags: AreaFlags::SHARED, backing: Backing::Object { object, offset } }
    }

    pub fn is_shared(&self) -> bool {
        self.flags.contains(AreaFlags::SHARED)
    }

    /// What RLIMIT_DATA counts: private writable memory, stacks apart.
    pub fn is_data(&self) -> bool {
        self.protection.contains(Protection::WRITE)
            && !self.flags.intersects(AreaFlags::SHARED.union(AreaFlags::GROWS_DOWN))
    }
}

#[derive(Clone)]
pub struct Area {
    pub start: u64,
    pub end: u64,
    pub mapping: Mapping,
}

impl Area {
    #[inline(always)]
    pub fn contains(&self, address: u64) -> bool {
        self.start <= address && address < self.end
    }

    pub fn range(&self) -> Range<u64> {
        self.start..self.end
    }

    #[inline]
    pub fn pages(&self) -> u64 {
        (self.end - self.start) / PAGE
    }

    /// What the area shows, unless it is memory without a name.
    pub fn object(&self) -> Option<&Arc<dyn PageSource>> {
        match &self.mapping.backing {
            Backing::Anonymous => None,
            Backing::Object { object, .. } => Some(object),
        }
    }

    /// The object behind an address in the area, and the index of the page there.
    #[inline]
    pub fn page_in_object(&self, address: u64) -> Option<(&Arc<dyn PageSource>, u64)> {
        match &self.mapping.backing {
            Backing::Anonymous => None,
            Backing::Object { object, offset } => {
                Some((object, offset.wrapping_add(address.wrapping_sub(self.start)) / PAGE))
            }
        }
    }

    /// Cuts the area in two; it keeps the part below `address`.
    fn split_off(&mut self, address: u64) -> Self {
        let backing = self.mapping.backing.advanced(address - self.start);
        let upper = Self { start: address, end: self.end, mapping: Mapping { backing, ..self.mapping.clone() } };
        self.end = address;
        upper
    }

    fn is_continued_by(&self, next: &Self) -> bool {
        let (this, other) = (&self.mapping, &next.mapping);
        self.end == next.start
            && this.protection == other.protection
            && this.flags == other.flags
            && this.max_protection == other.max_protection
            && !this.flags.contains(AreaFlags::GROWS_DOWN)
            && this.backing.is_continued_by(self.end - self.start, &other.backing)
    }

    /// Where others must end: below the gap of an area that grows.
    fn guarded_start(&self) -> u64 {
        if self.mapping.flags.contains(AreaFlags::GROWS_DOWN) {
            self.start.saturating_sub(STACK_GUARD_GAP)
        } else {
            self.start
        }
    }
}

/// In this interface an area's index is its place in rising order of addresses. The list itself is in falling order, because
/// mappings are placed from the top down: so most are added near its end, where few others have to move.
#[derive(Default)]
pub struct Areas {
    falling: Vec<Area>,
}

impl Areas {
    pub const fn new() -> Self {
        Self { falling: Vec::new() }
    }

    /// In rising order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Area> + ExactSizeIterator {
        self.falling.iter().rev()
    }

    pub fn len(&self) -> usize {
        self.falling.len()
    }

    pub fn is_empty(&self) -> bool {
        self.falling.is_empty()
    }

    /// The index of the first area that ends above the address: the one that holds it, or the next one.
    #[inline]
    pub fn index_at(&self, address: u64) -> usize {
        self.falling.len() - self.falling.partition_point(|area| area.end > address)
    }

    /// Where the area of an index lies in the list; past its end where there is none.
    #[inline(always)]
    fn place_of(&self, index: usize) -> usize {
        self.falling.len().wrapping_sub(1).wrapping_sub(index)
    }

    #[inline]
    pub fn get(&self, index: usize) -> Option<&Area> {
        self.falling.get(self.place_of(index))
    }

    #[inline]
    pub fn get_mut(&mut self, index: usize) -> Option<&mut Area> {
        let place = self.place_of(index);
        self.falling.get_mut(place)
    }

    /// There is room for it, and it belongs there.
    fn put(&mut self, index: usize, area: Area) {
        let place = self.falling.len().saturating_sub(index);
        self.falling.insert(place, area);
    }

    #[inline]
    pub fn find(&self, address: u64) -> Option<&Area> {
        self.get(self.index_at(address)).filter(|area| area.contains(address))
    }

    /// The areas that have a part in the range.
    pub fn overlapping(&self, range: Range<u64>) -> impl Iterator<Item = &Area> {
        let first = self.index_at(range.start);
        self.iter().skip(first).take_while(move |area| area.start < range.end)
    }

    pub fn is_free(&self, range: Range<u64>) -> bool {
        self.overlapping(range).next().is_none()
    }

    /// Whether every address in the range belongs to an area.
    pub fn covers(&self, range: Range<u64>) -> bool {
        let mut covered = range.start;
        for area in self.overlapping(range.clone()) {
            if area.start > covered {
                return false;
            }
            covered = area.end;
        }
        covered >= range.end
    }

    /// Where the area before the one of that index ends.
    pub fn end_before(&self, index: usize) -> u64 {
        index.checked_sub(1).and_then(|before| self.get(before)).map_or(0, |area| area.end)
    }

    pub fn start_of(&self, index: usize) -> Option<u64> {
        self.get(index).map(|area| area.start)
    }

    /// Room for `more` areas beyond those there are: after this adding them can't fail.
    pub fn reserve(&mut self, more: usize) -> Result<(), Errno> {
        if self.falling.len().saturating_add(more) > MAX_AREAS {
            return Err(Errno::ENOMEM);
        }
        self.falling.try_reserve(more).map_err(|_| Errno::ENOMEM)
    }

    /// Adds an area where nothing is, joined with its neighbours if they continue each other.
    pub fn insert(&mut self, area: Area) -> Result<(), Errno> {
        self.reserve(1)?;
        let index = self.index_at(area.start);
        debug_assert!(self.start_of(index).is_none_or(|start| start >= area.end), "areas overlap");
        self.put(index, area);
        self.join(index.saturating_sub(1)..index + 1);
        Ok(())
    }

    /// A copy of all areas; there must be room for it.
    pub fn copy_from(&mut self, other: &Self) {
        debug_assert!(self.falling.capacity() >= other.falling.len());
        self.falling.extend_from_slice(&other.falling);
    }

    /// Cuts areas so that none crosses an end of the range; returns the indices of those within. Fails before changing
    /// anything.
    pub fn isolate(&mut self, range: Range<u64>) -> Result<Range<usize>, Errno> {
        let crosses = |areas: &Self, at: u64| areas.find(at).is_some_and(|area| area.start < at);
        let cuts = usize::from(crosses(self, range.start)) + usize::from(crosses(self, range.end));
        if cuts > 0 {
            self.reserve(cuts)?;
        }
        for at in [range.start, range.end] {
            let index = self.index_at(at);
            if let Some(area) = self.get_mut(index)
                && area.start < at
            {
                let upper = area.split_off(at);
                self.put(index + 1, upper);
            }
        }
        let first = self.index_at(range.start);
        let count = self.overlapping(range).count();
        Ok(first..first + count)
    }

    /// Takes out the areas of these indices.
    pub fn remove(&mut self, indices: Range<usize>) {
        let length = self.falling.len();
        let end = indices.end.min(length);
        if indices.start < end {
            self.falling.drain(length - end..length - indices.start);
        }
    }

    pub fn retain(&mut self, stays: impl FnMut(&Area) -> bool) {
        self.falling.retain(stays);
    }

    /// Joins areas with their successors, for the areas of these indices, where they continue each other.
    pub fn join(&mut self, indices: Range<usize>) {
        // One by one, each that goes moves all that follow in the list.
        if indices.len() > JOINED_ONE_BY_ONE {
            return self.join_all();
        }
        let mut index = indices.end.min(self.falling.len());
        while index > indices.start {
            index -= 1;
            let (Some(area), Some(next)) = (self.get(index), self.get(index + 1)) else { continue };
            if area.is_continued_by(next) {
                let end = next.end;
                self.remove(index + 1..index + 2);
                if let Some(area) = self.get_mut(index) {
                    area.end = end;
                }
            }
        }
    }

    /// The same for the whole list, in one pass.
    fn join_all(&mut self) {
        self.falling.dedup_by(|lower, upper| {
            let joins = lower.is_continued_by(upper);
            if joins {
                core::mem::swap(lower, upper);
                upper.end = lower.end;
            }
            joins
        });
    }

    /// The highest place below `top` and not below `bottom` for `length` bytes.
    pub fn find_gap_below(&self, top: u64, bottom: u64, length: u64) -> Option<u64> {
        let mut ceiling = top;
        let count_above = self.falling.partition_point(|area| area.start >= top);
        if let Some(above) = count_above.checked_sub(1).and_then(|lowest| self.falling.get(lowest)) {
            ceiling = ceiling.min(above.guarded_start());
        }
        for area in self.falling.iter().skip(count_above) {
            if ceiling.checked_sub(area.end.max(bottom)).is_some_and(|room| room >= length) {
                return Some(ceiling - length);
            }
            ceiling = ceiling.min(area.guarded_start());
            if ceiling <= bottom {
                return None;
            }
        }
        ceiling.checked_sub(bottom).filter(|&room| room >= length).map(|_| ceiling - length)
    }

    /// The lowest place from `bottom` up for `length` bytes: where the way down from the mmap area's top is full.
    pub fn find_gap_above(&self, bottom: u64, top: u64, length: u64) -> Option<u64> {
        let mut floor = bottom;
        for area in self.iter().skip(self.index_at(bottom)) {
            if area.guarded_start().checked_sub(floor).is_some_and(|room| room >= length) {
                break;
            }
            floor = floor.max(area.end);
        }
        let end = floor.checked_add(length)?;
        let next = self.start_of(self.index_at(floor)).unwrap_or(u64::MAX);
        (end <= top && end <= next).then_some(floor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nothing;

    impl PageSource for Nothing {
        fn page(&self, _: u64, _: bool) -> Result<PageRef, Errno> {
            Err(Errno::EFAULT)
        }
    }

    fn area(start: u64, end: u64, protection: Protection) -> Area {
        Area { start: start * PAGE, end: end * PAGE, mapping: Mapping::anonymous(protection) }
    }

    fn ranges(areas: &Areas) -> Vec<(u64, u64)> {
        areas.iter().map(|area| (area.start / PAGE, area.end / PAGE)).collect()
    }

    #[test]
    fn do_neighbours_join_only_if_they_continue_each_other() {
        let mut areas = Areas::new();
        let read = Protection::READ;
        areas.insert(area(10, 20, read)).unwrap();
        areas.insert(area(30, 40, read)).unwrap();
        areas.insert(area(20, 30, read)).unwrap();
        assert_eq!(ranges(&areas), [(10, 40)]);
        areas.insert(area(40, 50, read | Protection::WRITE)).unwrap();
        assert_eq!(ranges(&areas), [(10, 40), (40, 50)]);
        let object: Arc<dyn PageSource> = Arc::new(Nothing);
        for (start, end, offset) in [(60, 62, 0), (62, 64, 2), (64, 66, 5)] {
            let mapping = Mapping::private(read, object.clone(), offset * PAGE);
            areas.insert(Area { start: start * PAGE, end: end * PAGE, mapping }).unwrap();
        }
        assert_eq!(ranges(&areas)[2..], [(60, 64), (64, 66)]);
    }

    #[test]
    fn do_many_neighbours_join_in_one_pass_as_they_do_one_by_one() {
        let (object, protection): (Arc<dyn PageSource>, _) = (Arc::new(Nothing), Protection::READ);
        let mut areas = Areas::new();
        // Two pages of an object, then two without one, and so on; all with a cut in the middle.
        for pair in 1..=JOINED_ONE_BY_ONE as u64 {
            for page in [2 * pair, 2 * pair + 1] {
                let mapping = match pair % 2 {
                    0 => Mapping::anonymous(protection),
                    _ => Mapping::private(protection, object.clone(), page * PAGE),
                };
                areas.put(areas.len(), Area { start: page * PAGE, end: (page + 1) * PAGE, mapping });
            }
        }
        areas.join(0..areas.len());
        let pairs: Vec<_> = (1..=JOINED_ONE_BY_ONE as u64).map(|pair| (2 * pair, 2 * pair + 2)).collect();
        assert_eq!(ranges(&areas), pairs);
        let page = |at: u64| areas.find(at * PAGE).unwrap().page_in_object(at * PAGE).unwrap().1;
        assert_eq!([page(6), page(7)], [6, 7]);
    }

    #[test]
    fn does_a_cut_keep_the_offset() {
        let mut areas = Areas::new();
        let mapping = Mapping::private(Protection::READ, Arc::new(Nothing), 3 * PAGE);
        areas.insert(Area { start: 10 * PAGE, end: 20 * PAGE, mapping }).unwrap();
        assert_eq!(areas.isolate(12 * PAGE..15 * PAGE), Ok(1..2));
        assert_eq!(ranges(&areas), [(10, 12), (12, 15), (15, 20)]);
        let page = |at: u64| areas.find(at * PAGE).unwrap().page_in_object(at * PAGE).unwrap().1;
        assert_eq!([page(10), page(12), page(14), page(15), page(19)], [3, 5, 7, 8, 12]);
        areas.join(0..3);
        assert_eq!(ranges(&areas), [(10, 20)]);
    }

    #[test]
    fn are_gaps_found_from_the_top_with_a_guard_under_a_stack() {
        let mut areas = Areas::new();
        areas.insert(area(100, 200, Protection::READ)).unwrap();
        let mut stack = area(1000, 1010, Protection::READ);
        stack.mapping.flags |= AreaFlags::GROWS_DOWN;
        areas.insert(stack).unwrap();
        let gap =
            |top: u64, length: u64| areas.find_gap_below(top * PAGE, 16 * PAGE, length * PAGE).map(|at| at / PAGE);
        assert_eq!(gap(1000, 10), Some(1000 - 256 - 10));
        assert_eq!(gap(900, 544), Some(200));
        assert_eq!(gap(900, 545), None);
        assert_eq!(gap(900, 84), Some(660));
        assert_eq!(gap(150, 84), Some(16));
        assert_eq!(gap(150, 85), None);
        assert_eq!(areas.find_gap_above(150 * PAGE, 2000 * PAGE, 545 * PAGE), Some(1010 * PAGE));
        assert_eq!(areas.find_gap_above(150 * PAGE, 2000 * PAGE, 991 * PAGE), None);
    }

    #[test]
    fn a_range_is_covered_only_without_holes() {
        let mut areas = Areas::new();
        areas.insert(area(1, 3, Protection::READ)).unwrap();
        areas.insert(area(3, 5, Protection::WRITE)).unwrap();
        areas.insert(area(6, 7, Protection::READ)).unwrap();
        assert!(areas.covers(PAGE..5 * PAGE));
        assert!(!areas.covers(PAGE..7 * PAGE));
        assert!(!areas.covers(0..2 * PAGE));
        assert!(!areas.is_free(4 * PAGE..6 * PAGE));
        assert!(areas.is_free(5 * PAGE..6 * PAGE));
    }
}
