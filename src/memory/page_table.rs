//! Page tables: how an address is translated, and how that is changed.
//!
//! Four levels of tables, each a frame of 512 entries; nine bits of the address pick the entry in each, from bit 39 down to
//! bit 12 (Intel SDM 3A §4.5):
//!
//! ```text
//!   47      39 38      30 29      21 20      12 11         0
//!  +----------+----------+----------+----------+------------+
//!  | level 4  | level 3  | level 2  | level 1  |   offset   |
//!  +----------+----------+----------+----------+------------+
//!    512 GiB    1 GiB      2 MiB      4 KiB      an entry's span
//! ```
//!
//! Tables are read and written through the direct map, never through the page table that is loaded: so the address space of a
//! program that isn't running is built and changed as easily as any other, and CR3 isn't touched. The processor walks the
//! same tables meanwhile and sets accessed and dirty bits, so entries are atomic values.
//!
//! Invariant: a table of level 1 to 3 is owned by the one entry that points to it. Leaf entries of user memory hold one
//! reference to their frame each.

use super::direct_map;
use super::frames::{self, Kept};
use crate::PAGE_SIZE;
use crate::errno::Errno;
use core::ops::Range;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;
use x86_64::PhysAddr;
use x86_64::structures::paging::{PageTableFlags as Flags, PhysFrame};

const PAGE: u64 = PAGE_SIZE as u64;
const ENTRIES: usize = 512;

/// User space ends below the hole of non-canonical addresses: with level-4 entry 255.
const USER_ROOT_ENTRIES: usize = 256;
pub const USER_SPACE_END: u64 = 1 << 47;

/// What the entries above level 1 say on the way to a user page: the leaf alone decides what is allowed.
const TABLE_FLAGS: Flags = Flags::PRESENT.union(Flags::WRITABLE).union(Flags::USER_ACCESSIBLE);

/// Bits that entries may have. Without NX the processor takes bit 63 as reserved; without PGE it ignores bit 8.
static SUPPORTED: AtomicU64 = AtomicU64::new(u64::MAX);

/// Called before the first entry is made.
pub(super) fn set_unsupported(flags: Flags) {
    SUPPORTED.store(!flags.bits(), Relaxed);
}

/// Those of the flags that this processor knows.
#[inline(always)]
pub fn supported(flags: Flags) -> Flags {
    Flags::from_bits_truncate(flags.bits() & SUPPORTED.load(Relaxed))
}

/// One entry's value.
///
/// Not empty but not present is a page that a program keeps but may not touch (PROT_NONE): the frame stays in place.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct Entry(u64);

impl Entry {
    pub const EMPTY: Self = Self(0);
    const FRAME_MASK: u64 = 0x000f_ffff_ffff_f000;

    #[inline(always)]
    pub fn new(frame: PhysFrame, flags: Flags) -> Self {
        Self(frame.start_address().as_u64() | flags.bits())
    }

    #[inline(always)]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    #[inline(always)]
    pub const fn bits(self) -> u64 {
        self.0
    }

    #[inline(always)]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    #[inline(always)]
    pub fn is_present(self) -> bool {
        self.contains(Flags::PRESENT)
    }

    #[inline(always)]
    pub fn contains(self, flags: Flags) -> bool {
        self.0 & flags.bits() == flags.bits()
    }

    #[inline(always)]
    pub fn frame(self) -> PhysFrame {
        PhysFrame::containing_address(PhysAddr::new_truncate(self.0 & Self::FRAME_MASK))
    }

    #[inline(always)]
    pub fn flags(self) -> Flags {
        Flags::from_bits_truncate(self.0 & !Self::FRAME_MASK)
    }

    #[inline(always)]
    pub fn with(self, flags: Flags) -> Self {
        Self(self.0 | flags.bits())
    }

    #[inline(always)]
    pub fn without(self, flags: Flags) -> Self {
        Self(self.0 & !flags.bits())
    }
}

/// The place of an entry in its table.
#[repr(transparent)]
pub struct Slot(AtomicU64);

impl Slot {
    #[inline(always)]
    pub fn get(&self) -> Entry {
        Entry(self.0.load(Relaxed))
    }

    #[inline(always)]
    pub fn set(&self, entry: Entry) {
        self.0.store(entry.0, Relaxed);
    }
}

/// One table: a frame seen as 512 entries.
#[repr(C, align(4096))]
pub struct Table {
    slots: [Slot; ENTRIES],
}

const _: () = assert!(size_of::<Table>() == PAGE_SIZE);

impl Table {
    /// # Safety
    /// The frame holds a page table and is neither freed nor used otherwise while the reference lives.
    #[inline(always)]
    pub unsafe fn in_frame<'a>(frame: PhysFrame) -> &'a Self {
        // SAFETY: the direct map has all frames; any bits are valid entries, and they are atomic; the rest is the caller's.
        unsafe { &*direct_map::frame_pointer(frame).cast::<Self>() }
    }

    /// The entry for an address at this table's level.
    #[inline(always)]
    #[expect(clippy::indexing_slicing, reason = "nine bits always are a valid index")]
    pub fn slot(&self, level: Level, address: u64) -> &Slot {
        &self.slots[level.index(address)]
    }

    #[inline(always)]
    pub fn slots(&self) -> &[Slot; ENTRIES] {
        &self.slots
    }
}

/// How far a table is from the leaves: level 1 holds the entries of 4 KiB pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Level(u8);

impl Level {
    pub const ONE: Self = Self(1);
    pub const TWO: Self = Self(2);
    pub const THREE: Self = Self(3);
    pub const FOUR: Self = Self(4);

    #[inline(always)]
    const fn shift(self) -> u32 {
        3 + 9 * self.0 as u32
    }

    /// The bytes that one entry of a table of this level covers.
    #[inline(always)]
    pub const fn span(self) -> u64 {
        1 << self.shift()
    }

    pub const fn below(self) -> Option<Self> {
        if self.0 > 1 { Some(Self(self.0 - 1)) } else { None }
    }

    #[inline(always)]
    pub const fn index(self, address: u64) -> usize {
        (address >> self.shift()) as usize % ENTRIES
    }
}

/// A tree of tables for user space, from its level-4 table down. The upper half of that table is the kernel's, the same
/// in every tree, and not owned by it.
pub struct PageTable {
    root: PhysFrame,
    /// The tables below the root.
    tables: usize,
}

impl PageTable {
    /// An empty user half under the kernel's own half.
    pub fn new() -> Result<Self, Errno> {
        if let Some(root) = frames::take_kept(Kept::Root)? {
            return Ok(Self { root, tables: 0 });
        }
        let root = frames::allocate_for_user()?;
        // SAFETY: the frame is ours, and is made a table here before anybody walks it.
        let table = unsafe { Table::in_frame(root) };
        let (user, kernel) = table.slots.split_at(USER_ROOT_ENTRIES);
        user.iter().for_each(|slot| slot.set(Entry::EMPTY));
        #[cfg(target_os = "none")]
        super::kernel_map::fill_upper_half(kernel);
        #[cfg(not(target_os = "none"))]
        kernel.iter().for_each(|slot| slot.set(Entry::EMPTY));
        Ok(Self { root, tables: 0 })
    }

    /// What CR3 is loaded with.
    #[inline(always)]
    pub fn root(&self) -> PhysFrame {
        self.root
    }

    #[inline(always)]
    fn root_table(&self) -> &Table {
        // SAFETY: the root is this tree's own until it is dropped.
        unsafe { Table::in_frame(self.root) }
    }

    /// The level-1 table for an address; or, where there is none, the span of the missing entry.
    #[inline(always)]
    fn leaf_table(&self, address: u64) -> Result<&Table, u64> {
        let mut table = self.root_table();
        for level in [Level::FOUR, Level::THREE, Level::TWO] {
            let entry = table.slot(level, address).get();
            if entry.is_empty() {
                return Err(level.span());
            }
            // SAFETY: a user tree has no large pages: an entry above level 1 points to a table that this tree owns.
            table = unsafe { Table::in_frame(entry.frame()) };
        }
        Ok(table)
    }

    /// The leaf entry for a user address, where the tables for it exist.
    #[inline]
    pub fn slot(&self, address: u64) -> Option<&Slot> {
        self.leaf_table(address).ok().map(|table| table.slot(Level::ONE, address))
    }

    /// The leaf entry for a user address; tables that are missing on the way are made.
    #[inline]
    pub fn slot_or_create(&mut self, address: u64) -> Result<&Slot, Errno> {
        Ok(self.leaf_table_or_create(address)?.slot(Level::ONE, address))
    }

    #[inline]
    fn leaf_table_or_create(&mut self, address: u64) -> Result<&Table, Errno> {
        debug_assert!(address < USER_SPACE_END);
        // SAFETY: the root is this tree's own until it is dropped.
        let mut table = unsafe { Table::in_frame(self.root) };
        for level in [Level::FOUR, Level::THREE, Level::TWO] {
            let slot = table.slot(level, address);
            let mut entry = slot.get();
            if entry.is_empty() {
                entry = Entry::new(frames::allocate_zeroed_for_user()?, TABLE_FLAGS);
                slot.set(entry);
                self.tables += 1;
            }
            // SAFETY: as in `leaf_table`; a new table is zeroed, so all its entries are empty.
            table = unsafe { Table::in_frame(entry.frame()) };
        }
        Ok(table)
    }

    /// Calls `visit` with each piece of the range that one existing level-1 table covers: its first address and entries.
    #[inline(always)]
    pub fn for_each_piece(&self, range: Range<u64>, mut visit: impl FnMut(u64, &[Slot])) {
        let mut address = range.start;
        while address < range.end {
            match self.leaf_table(address) {
                Ok(table) => {
                    let piece_end = end_of_span(address, Level::TWO.span()).min(range.end);
                    visit(address, piece(table, address, piece_end));
                    address = piece_end;
                }
                Err(span) => address = end_of_span(address, span),
            }
        }
    }

    /// The first piece of the range that one existing level-1 table covers.
    pub fn next_piece(&self, range: Range<u64>) -> Option<Range<u64>> {
        let mut address = range.start;
        while address < range.end {
            match self.leaf_table(address) {
                Ok(_) => return Some(address..end_of_span(address, Level::TWO.span()).min(range.end)),
                Err(span) => address = end_of_span(address, span),
            }
        }
        None
    }

    /// Calls `visit` for each entry in the range that isn't empty.
    #[inline(always)]
    pub fn for_each_page(&self, range: Range<u64>, mut visit: impl FnMut(u64, &Slot)) {
        self.for_each_piece(range, |start, slots| {
            for (index, slot) in slots.iter().enumerate() {
                if !slot.get().is_empty() {
                    visit(start + index as u64 * PAGE, slot);
                }
            }
        });
    }

    /// Walks the range in two trees at once, making the tables that `target` lacks where this one has some; `visit` gets the
    /// entries of both.
    #[inline(always)]
    pub fn for_each_piece_with(
        &self,
        target: &mut Self,
        range: Range<u64>,
        mut visit: impl FnMut(&[Slot], &[Slot]),
    ) -> Result<(), Errno> {
        let mut address = range.start;
        while address < range.end {
            match self.leaf_table(address) {
                Ok(table) => {
                    let piece_end = end_of_span(address, Level::TWO.span()).min(range.end);
                    let target_table = target.leaf_table_or_create(address)?;
                    visit(piece(table, address, piece_end), piece(target_table, address, piece_end));
                    address = piece_end;
                }
                Err(span) => address = end_of_span(address, span),
            }
        }
        Ok(())
    }

    /// Frees the tables around `emptied` that serve nothing any more: those that lie whole between `floor` and `ceiling`,
    /// the ends of the neighbours that are still in use. No entries are searched for this. Returns whether there were any;
    /// then the processor may remember them in its paging-structure caches (SDM 3A §4.10.3), which INVLPG clears too.
    ///
    /// The caller has emptied every entry between floor and ceiling.
    pub fn free_tables(&mut self, emptied: Range<u64>, floor: u64, ceiling: u64) -> bool {
        let mut freed = 0;
        for level in [Level::TWO, Level::THREE, Level::FOUR] {
            let span = level.span();
            // The first and last entries whose spans touch what was emptied and lie within the bounds.
            let first = (emptied.start & !(span - 1)).max(floor.next_multiple_of(span));
            let end = emptied.end.next_multiple_of(span).min(ceiling & !(span - 1));
            let mut address = first;
            while address < end {
                match self.slot_at(level, address) {
                    Ok(slot) => {
                        let entry = slot.get();
                        if !entry.is_empty() {
                            slot.set(Entry::EMPTY);
                            // Its entries are empty, all of them.
                            frames::keep(entry.frame(), Kept::Zeroed);
                            freed += 1;
                        }
                        address += span;
                    }
                    Err(missing) => address = end_of_span(address, missing),
                }
            }
        }
        self.tables -= freed;
        freed != 0
    }

    /// The entry for an address in the table of a level above 1; or the span of an entry that is missing above it.
    fn slot_at(&self, level: Level, address: u64) -> Result<&Slot, u64> {
        let mut table = self.root_table();
        for above in [Level::FOUR, Level::THREE] {
            if above == level {
                break;
            }
            let entry = table.slot(above, address).get();
            if entry.is_empty() {
                return Err(above.span());
            }
            // SAFETY: as in `leaf_table`.
            table = unsafe { Table::in_frame(entry.frame()) };
        }
        Ok(table.slot(level, address))
    }

    /// How many frames the tree's tables take, its root included.
    pub fn table_count(&self) -> usize {
        self.tables + 1
    }
}

/// The owner has emptied all leaf entries, and may have freed the tables as well.
impl Drop for PageTable {
    fn drop(&mut self) {
        if self.tables != 0 {
            self.free_tables(0..USER_SPACE_END, 0, USER_SPACE_END);
        }
        frames::keep(self.root, Kept::Root);
    }
}

#[inline(always)]
fn end_of_span(address: u64, span: u64) -> u64 {
    (address & !(span - 1)) + span
}

/// The entries from one address to another in a level-1 table that covers both.
#[inline(always)]
fn piece(table: &Table, start: u64, end: u64) -> &[Slot] {
    let first = Level::ONE.index(start);
    let count = ((end - start) / PAGE) as usize;
    table.slots.get(first..first + count).unwrap_or(&[])
}

#[cfg(test)]
mod tests;
