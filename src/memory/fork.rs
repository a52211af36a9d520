//! Copying an address space for fork(2): the areas at once, the pages when one side writes.
//!
//! Both sides then hold every private page read-only; `faults` copies it at the first write, or makes it writable again for
//! the last side that still holds it. The work is a few instructions for each present page, and none for absent ones.

use super::address_space::AddressSpace;
use super::areas::{Area, AreaFlags};
use super::frames;
use super::page_table::PageTable;
use super::tlb::{self, Stale};
use crate::errno::Errno;
use x86_64::structures::paging::PageTableFlags as Flags;

impl AddressSpace {
    /// A copy of this address space. When it fails, this one is as it was (but for rights that come back with a fault).
    pub fn clone_for_fork(&mut self) -> Result<Self, Errno> {
        let mut child = Self::new()?;
        child.areas.reserve(self.areas.len())?;
        child.mmap_top = self.mmap_top;
        child.full_from = self.full_from;
        child.heap = self.heap.clone();
        child.limits = self.limits;
        child.layout = self.layout.clone();
        child.mapped_pages = self.mapped_pages;
        child.data_pages = self.data_pages;
        let mut result = Ok(());
        let mut some_stay_behind = false;
        // The areas first: what the child's page table gets is freed with them, should memory end midway.
        child.areas.copy_from(&self.areas);
        for area in self.areas.iter() {
            if area.mapping.flags.contains(AreaFlags::NOT_FORKED) {
                child.mapped_pages -= area.pages();
                child.data_pages -= if area.mapping.is_data() { area.pages() } else { 0 };
                some_stay_behind = true;
                continue;
            }
            if area.mapping.flags.contains(AreaFlags::WIPED_BY_FORK) {
                continue;
            }
            result = copy_pages(&self.table, &mut child, area);
            if result.is_err() {
                break;
            }
        }
        if some_stay_behind {
            child.full_from = u64::MAX;
            child.areas.retain(|area| !area.mapping.flags.contains(AreaFlags::NOT_FORKED));
        }
        // Pages that were writable aren't any more.
        tlb::flush(self.table.root(), Stale::Many);
        result.map(|()| child)
    }
}

fn copy_pages(source: &PageTable, child: &mut AddressSpace, area: &Area) -> Result<(), Errno> {
    let frame_table = frames::table();
    let is_private = !area.mapping.is_shared();
    let mut count = 0;
    let copied = source.for_each_piece_with(&mut child.table, area.range(), |from, to| {
        for (from, to) in from.iter().zip(to) {
            let mut entry = from.get();
            if entry.is_empty() {
                continue;
            }
            frame_table.share(entry.frame());
            if is_private && entry.contains(Flags::WRITABLE) {
                entry = entry.without(Flags::WRITABLE);
                from.set(entry);
            }
            to.set(entry);
            count += 1;
        }
    });
    child.resident_pages += count;
    copied
}
