//! The table of numbers by which programs name threads, processes, groups and sessions.
//!
//! Looking a number up takes two array accesses. Numbers are given out in rising order and reused only after the whole
//! range has gone by, so that a stale one rarely names somebody else.

use crate::errno::Errno;
use alloc::boxed::Box;

/// As Linux's default (`/proc/sys/kernel/pid_max`): numbers stay below this.
pub const PID_MAX: u32 = 32_768;

const CHUNK: usize = 64;
const CHUNKS: usize = PID_MAX as usize / CHUNK;

/// After the first round numbers start here, as on Linux: the low ones belong to what was started at boot.
const RESERVED: u32 = 300;

pub struct IdTable<T> {
    chunks: [Option<Box<Chunk<T>>>; CHUNKS],
    last: u32,
    used: usize,
}

struct Chunk<T> {
    /// Bit n: entry n is taken.
    taken: u64,
    entries: [Option<T>; CHUNK],
}

impl<T> IdTable<T> {
    pub const fn new() -> Self {
        Self { chunks: [const { None }; CHUNKS], last: 0, used: 0 }
    }

    pub fn len(&self) -> usize {
        self.used
    }

    pub fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// The number that was given out last.
    pub fn newest(&self) -> u32 {
        self.last
    }

    #[inline]
    pub fn get(&self, id: u32) -> Option<&T> {
        let chunk = self.chunks.get(id as usize / CHUNK)?.as_ref()?;
        chunk.entries.get(id as usize % CHUNK)?.as_ref()
    }

    pub fn get_mut(&mut self, id: u32) -> Option<&mut T> {
        self.entry_mut(id)?.as_mut()
    }

    /// Takes the next free number. Its entry stays empty until [`Self::set`].
    pub fn reserve(&mut self) -> Result<u32, Errno> {
        let start = self.last.wrapping_add(1);
        let id = match self.first_free(start.max(1), PID_MAX)? {
            Some(id) => id,
            None => self.first_free(RESERVED, PID_MAX)?.ok_or(Errno::EAGAIN)?,
        };
        if let Some(Some(chunk)) = self.chunks.get_mut(id as usize / CHUNK) {
            chunk.taken |= 1 << (id as usize % CHUNK);
        }
        self.note_last(id);
        self.used = self.used.saturating_add(1);
        Ok(id)
    }

    /// Takes this very number, which another table has given out.
    pub fn reserve_this(&mut self, id: u32) -> Result<(), Errno> {
        match self.first_free(id, PID_MAX)? {
            Some(free) if free == id => {}
            _ => return Err(Errno::EEXIST),
        }
        if let Some(Some(chunk)) = self.chunks.get_mut(id as usize / CHUNK) {
            chunk.taken |= 1 << (id as usize % CHUNK);
        }
        self.note_last(id);
        self.used = self.used.saturating_add(1);
        Ok(())
    }

    /// Fills a reserved number's entry; what stood there before is returned.
    pub fn set(&mut self, id: u32, value: T) -> Option<T> {
        let entry = self.entry_mut(id)?;
        entry.replace(value)
    }

    /// Empties the entry; the number stays taken.
    pub fn clear(&mut self, id: u32) -> Option<T> {
        self.entry_mut(id)?.take()
    }

    /// Empties the entry and gives the number back.
    pub fn release(&mut self, id: u32) -> Option<T> {
        let chunk = self.chunks.get_mut(id as usize / CHUNK)?.as_mut()?;
        let bit = 1 << (id as usize % CHUNK);
        if chunk.taken & bit == 0 {
            return None;
        }
        chunk.taken &= !bit;
        let value = chunk.entries.get_mut(id as usize % CHUNK).and_then(Option::take);
        self.used = self.used.saturating_sub(1);
        self.drop_if_empty(id);
        value
    }

    fn note_last(&mut self, id: u32) {
        let before = core::mem::replace(&mut self.last, id);
        self.drop_if_empty(before);
    }

    /// Gives the memory of a chunk without entries back. The one that the next number will come from stays.
    fn drop_if_empty(&mut self, id: u32) {
        let index = id as usize / CHUNK;
        if index != self.last as usize / CHUNK
            && let Some(slot) = self.chunks.get_mut(index)
            && slot.as_ref().is_some_and(|chunk| chunk.taken == 0)
        {
            *slot = None;
        }
    }

    /// In rising order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        self.iter_from(0)
    }

    /// Those whose numbers are `first` or more. Getting to the first one takes no walk over the entries before it.
    pub fn iter_from(&self, first: u32) -> impl Iterator<Item = (u32, &T)> {
        let chunks = self.chunks.iter().enumerate().skip(first as usize / CHUNK);
        let all = chunks.filter_map(|(index, chunk)| Some((index, chunk.as_ref()?))).flat_map(|(index, chunk)| {
            let start = index.saturating_mul(CHUNK);
            let numbered = chunk.entries.iter().enumerate();
            numbered.filter_map(move |(offset, entry)| Some((start.saturating_add(offset) as u32, entry.as_ref()?)))
        });
        all.skip_while(move |(id, _)| *id < first)
    }

    fn entry_mut(&mut self, id: u32) -> Option<&mut Option<T>> {
        let chunk = self.chunks.get_mut(id as usize / CHUNK)?.as_mut()?;
        chunk.entries.get_mut(id as usize % CHUNK)
    }

    /// The first free number in `from..to`, with memory for its entry.
    fn first_free(&mut self, from: u32, to: u32) -> Result<Option<u32>, Errno> {
        let mut id = from;
        while id < to {
            let slot = self.chunks.get_mut(id as usize / CHUNK).ok_or(Errno::EAGAIN)?;
            let chunk = match slot {
                Some(chunk) => chunk,
                None => slot.insert(Box::try_new(Chunk::new()).map_err(|_| Errno::ENOMEM)?),
            };
            let free_from_here = !chunk.taken & (u64::MAX << (id as usize % CHUNK));
            let first_of_chunk = id - id % CHUNK as u32;
            if free_from_here != 0 {
                let found = first_of_chunk + free_from_here.trailing_zeros();
                return Ok((found < to).then_some(found));
            }
            id = first_of_chunk + CHUNK as u32;
        }
        Ok(None)
    }
}

impl<T> Default for IdTable<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Chunk<T> {
    const fn new() -> Self {
        Self { taken: 0, entries: [const { None }; CHUNK] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_have_gone_by_take_no_memory() {
        let mut table = IdTable::new();
        for _ in 0..10 * CHUNK {
            let id = table.reserve().unwrap();
            table.set(id, id);
            table.release(id);
        }
        assert_eq!(table.chunks.iter().flatten().count(), 1);
        table.reserve_this(5).unwrap();
        table.release(5);
        assert_eq!(table.chunks.iter().flatten().count(), 1);
    }

    #[test]
    fn numbers_rise_and_are_not_reused_at_once() {
        let mut table = IdTable::new();
        assert_eq!(table.reserve(), Ok(1));
        assert_eq!(table.reserve(), Ok(2));
        table.set(1, 'a');
        assert_eq!(table.release(1), Some('a'));
        assert_eq!((table.newest(), table.reserve()), (2, Ok(3)));
        assert_eq!(table.len(), 2);
    }

    #[test]
    fn after_the_last_number_it_starts_again_above_the_reserved_ones() {
        let mut table = IdTable::<()>::new();
        (1..PID_MAX).for_each(|id| assert_eq!(table.reserve(), Ok(id)));
        assert_eq!(table.reserve(), Err(Errno::EAGAIN));
        table.release(5);
        assert_eq!(table.reserve(), Err(Errno::EAGAIN), "low numbers stay with what was started at boot");
        table.release(9_000);
        table.release(301);
        assert_eq!(table.reserve(), Ok(301));
        assert_eq!(table.reserve(), Ok(9_000));
    }

    #[test]
    fn a_walk_may_begin_anywhere() {
        let mut table = IdTable::new();
        for id in [1, 63, 64, 130, 9_000] {
            table.reserve_this(id).unwrap();
            table.set(id, ());
        }
        let from = |first| table.iter_from(first).map(|(id, ())| id).collect::<Vec<_>>();
        assert_eq!(from(0), [1, 63, 64, 130, 9_000]);
        assert_eq!(from(63), [63, 64, 130, 9_000]);
        assert_eq!(from(65), [130, 9_000]);
        assert!(from(9_001).is_empty());
        assert!(from(u32::MAX).is_empty());
    }

    #[test]
    fn a_number_out_of_range_names_nobody() {
        let mut table = IdTable::<u8>::new();
        assert_eq!(table.get(u32::MAX), None);
        assert_eq!(table.release(u32::MAX), None);
        assert_eq!(table.set(PID_MAX, 1), None);
    }
}
