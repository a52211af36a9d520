//! mremap(2): growing, shrinking and moving an area with its pages.

use super::address_space::{AddressSpace, Placement, USER_END, checked_range};
use super::areas::{Area, AreaFlags, Backing, Mapping, PAGE};
use super::page_table::{Entry, PageTable};
use super::tlb::{self, Stale};
use crate::errno::Errno;
use core::ops::Range;

/// Whether and where an area may move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    No,
    Anywhere,
    To(u64),
}

impl AddressSpace {
    /// Returns the area's new address. Nothing has changed when it fails, but that `Move::To` may have emptied its target, as on
    /// Linux.
    pub fn remap(&mut self, old: Range<u64>, new_length: u64, how: Move) -> Result<u64, Errno> {
        let new_length = new_length.checked_next_multiple_of(PAGE).ok_or(Errno::EINVAL)?;
        if new_length == 0 || new_length > USER_END {
            return Err(Errno::EINVAL);
        }
        if old.is_empty() && old.start.is_multiple_of(PAGE) {
            return self.map_again(old.start, new_length, how);
        }
        let old = checked_range(old).ok_or(Errno::EINVAL)?;
        let area = self.areas.find(old.start).ok_or(Errno::EFAULT)?;
        let only_shrinks = !matches!(how, Move::To(_)) && new_length < old.end - old.start;
        if area.end < old.end && !only_shrinks {
            return Err(Errno::EFAULT);
        }
        if let Move::To(target) = how {
            return self.move_to(old, target, new_length);
        }
        let old_length = old.end - old.start;
        if new_length <= old_length {
            if new_length < old_length {
                self.unmap(old.start + new_length..old.end)?;
            }
            return Ok(old.start);
        }
        if area.end == old.end && self.grow_in_place(&old, new_length)? {
            return Ok(old.start);
        }
        if how == Move::No {
            return Err(Errno::ENOMEM);
        }
        let target = self.find_place(new_length)?;
        self.transfer(old, target, new_length)
    }

    /// An old length of 0: a shared mapping gets another place where its pages are seen.
    fn map_again(&mut self, address: u64, length: u64, how: Move) -> Result<u64, Errno> {
        let area = self.areas.find(address).ok_or(Errno::EFAULT)?;
        let mapping = mapping_from(area, address);
        if !mapping.is_shared() {
            return Err(Errno::EINVAL);
        }
        let placement = match how {
            Move::No => return Err(Errno::ENOMEM),
            Move::Anywhere => Placement::Anywhere,
            Move::To(target) => Placement::Fixed(target),
        };
        self.map(placement, length, mapping)
    }

    /// Whether there was room behind the area.
    fn grow_in_place(&mut self, old: &Range<u64>, new_length: u64) -> Result<bool, Errno> {
        let (Some(new_end), index) = (old.start.checked_add(new_length), self.areas.index_at(old.start)) else {
            return Ok(false);
        };
        let added = new_end - old.end;
        let is_free = self.areas.find_gap_below(new_end, old.end, added) == Some(old.end);
        if new_end > USER_END || !is_free {
            return Ok(false);
        }
        let Some(mapping) = self.areas.get(index).map(|area| area.mapping.clone()) else { return Ok(false) };
        self.check_limits(added / PAGE, &mapping)?;
        if let Some(area) = self.areas.get_mut(index) {
            area.end = new_end;
        }
        self.mapped_pages += added / PAGE;
        self.data_pages += if mapping.is_data() { added / PAGE } else { 0 };
        self.areas.join(index..index + 1);
        Ok(true)
    }

    fn move_to(&mut self, old: Range<u64>, target: u64, new_length: u64) -> Result<u64, Errno> {
        let new_end = target.checked_add(new_length).filter(|&end| end <= USER_END).ok_or(Errno::EINVAL)?;
        let overlaps = target < old.end && old.start < new_end;
        if !target.is_multiple_of(PAGE) || overlaps {
            return Err(Errno::EINVAL);
        }
        self.areas.reserve(5)?;
        if !self.areas.is_free(target..new_end) {
            self.unmap(target..new_end)?;
        }
        let kept = new_length.min(old.end - old.start);
        if old.start + kept < old.end {
            self.unmap(old.start + kept..old.end)?;
        }
        self.transfer(old.start..old.start + kept, target, new_length)
    }

    /// Moves area and pages to a free place, where the area may be longer.
    fn transfer(&mut self, old: Range<u64>, target: u64, new_length: u64) -> Result<u64, Errno> {
        let old_length = old.end - old.start;
        let area = self.areas.find(old.start).ok_or(Errno::EFAULT)?;
        let mut mapping = mapping_from(area, old.start);
        mapping.flags.remove(AreaFlags::STACK);
        self.check_limits(new_length.saturating_sub(old_length) / PAGE, &mapping)?;
        // All that adding the new area and taking the old one away need: once the pages have moved nothing may fail.
        self.areas.reserve(3)?;
        self.removed.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        let new_range = target..target + old_length;
        if let Err(error) = prepare_tables(&mut self.table, &old, target) {
            let index = self.areas.index_at(target);
            let ceiling = self.areas.start_of(index).unwrap_or(USER_END + PAGE);
            if self.table.free_tables(new_range, self.areas.end_before(index), ceiling) {
                // The processor may have looked at the new tables already.
                tlb::flush(self.table.root(), Stale::Many);
            }
            return Err(error);
        }
        self.add_area(Area { start: target, end: target + new_length, mapping })?;
        let stale = self.move_pages(old.clone(), target);
        // The entries are empty by now: this takes the area and the tables away.
        self.unmap(old)?;
        tlb::flush(self.table.root(), stale);
        Ok(target)
    }

    fn move_pages(&mut self, old: Range<u64>, target: u64) -> Stale {
        let (mut count, mut last) = (0, 0);
        self.table.for_each_page(old.clone(), |address, slot| {
            if let Some(new_slot) = self.table.slot(target + (address - old.start)) {
                new_slot.set(slot.get());
                slot.set(Entry::EMPTY);
                count += 1;
                last = address;
            }
        });
        Stale::pages(count, last)
    }
}

/// What an area shows, from an address in it on.
fn mapping_from(area: &Area, address: u64) -> Mapping {
    let mut mapping = area.mapping.clone();
    if let Backing::Object { offset, .. } = &mut mapping.backing {
        *offset = offset.wrapping_add(address - area.start);
    }
    mapping
}

/// Makes the tables that the pages' new places need.
fn prepare_tables(table: &mut PageTable, old: &Range<u64>, target: u64) -> Result<(), Errno> {
    let mut next = old.start;
    while let Some(piece) = table.next_piece(next..old.end) {
        // The new places of what one table holds may lie in two.
        for address in [piece.start, piece.end - PAGE] {
            table.slot_or_create(target + (address - old.start))?;
        }
        next = piece.end;
    }
    Ok(())
}
