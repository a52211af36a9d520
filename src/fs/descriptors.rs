//! A process's table of open files: descriptors, and which of them exec closes.

use super::file::File;
use crate::errno::Errno;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// No table holds more, whatever RLIMIT_NOFILE says (`fs.nr_open`).
pub const DESCRIPTORS_MAX: usize = 1 << 20;

const WORD: usize = u64::BITS as usize;

/// Shared by threads under a lock that its process holds. Files that are taken out of it are returned, to be dropped when
/// that lock isn't held: the last close of a file may do much.
///
/// Both bit sets hold one bit for each of `files`.
pub struct FileTable {
    files: Vec<Option<Arc<File>>>,
    used: Vec<u64>,
    close_on_exec: Vec<u64>,
    /// No descriptor below this is free.
    first_free: usize,
}

impl Default for FileTable {
    fn default() -> Self {
        Self::new()
    }
}

impl FileTable {
    pub const fn new() -> Self {
        Self { files: Vec::new(), used: Vec::new(), close_on_exec: Vec::new(), first_free: 0 }
    }

    /// The file behind a descriptor, or EBADF.
    #[inline]
    pub fn get(&self, descriptor: u32) -> Result<Arc<File>, Errno> {
        self.files.get(descriptor as usize).and_then(|file| file.as_ref()).map(Arc::clone).ok_or(Errno::EBADF)
    }

    /// Gives `file` the lowest free descriptor from `from` on, or EMFILE if that isn't below `limit`.
    pub fn add(&mut self, file: Arc<File>, from: u32, close_on_exec: bool, limit: u64) -> Result<u32, Errno> {
        let descriptor = self.reserve_lowest(from as usize, limit)?;
        self.put(descriptor, file, close_on_exec);
        Ok(descriptor as u32)
    }

    /// EMFILE where [`Self::add`] would find no place.
    pub fn make_room(&mut self, limit: u64) -> Result<(), Errno> {
        self.reserve_lowest(0, limit).map(|_| ())
    }

    /// Two at once, for `pipe(2)`: both or none.
    pub fn add_pair(&mut self, pair: [Arc<File>; 2], close_on_exec: bool, limit: u64) -> Result<[u32; 2], Errno> {
        let first = self.reserve_lowest(0, limit)?;
        let second = self.reserve_lowest(first + 1, limit)?;
        let [one, other] = pair;
        self.put(first, one, close_on_exec);
        self.put(second, other, close_on_exec);
        Ok([first as u32, second as u32])
    }

    /// `dup2(2)`: puts `file` at `descriptor`, and returns what was there.
    pub fn replace(
        &mut self,
        descriptor: u32,
        file: Arc<File>,
        close_on_exec: bool,
        limit: u64,
    ) -> Result<Option<Arc<File>>, Errno> {
        let number = descriptor as usize;
        if u64::from(descriptor) >= limit || number >= DESCRIPTORS_MAX {
            return Err(Errno::EBADF);
        }
        self.grow_to(number)?;
        let old = self.files.get_mut(number).and_then(Option::take);
        self.put(number, file, close_on_exec);
        Ok(old)
    }

    /// Takes a file out.
    pub fn remove(&mut self, descriptor: u32) -> Result<Arc<File>, Errno> {
        self.take(descriptor as usize).ok_or(Errno::EBADF)
    }

    pub fn close_on_exec(&self, descriptor: u32) -> Result<bool, Errno> {
        let number = descriptor as usize;
        if self.is_open(number) { Ok(bit(&self.close_on_exec, number)) } else { Err(Errno::EBADF) }
    }

    pub fn set_close_on_exec(&mut self, descriptor: u32, close: bool) -> Result<(), Errno> {
        let number = descriptor as usize;
        if !self.is_open(number) {
            return Err(Errno::EBADF);
        }
        set_bit(&mut self.close_on_exec, number, close);
        Ok(())
    }

    /// A table with the same files, as fork gives it to the child.
    pub fn try_clone(&self) -> Result<Self, Errno> {
        let last = self.files.iter().rposition(Option::is_some);
        let mut copy = Self::new();
        if let Some(last) = last {
            copy.grow_to(last)?;
        }
        copy.first_free = self.first_free.min(copy.files.len());
        for (to, from) in copy.files.iter_mut().zip(&self.files) {
            to.clone_from(from);
        }
        for (to, from) in copy.used.iter_mut().zip(&self.used) {
            *to = *from;
        }
        for (to, from) in copy.close_on_exec.iter_mut().zip(&self.close_on_exec) {
            *to = *from;
        }
        Ok(copy)
    }

    /// Takes out the first file from `*next` on that exec closes, and moves `*next` past it: there may be a million of
    /// them. None when there is none left. Can't fail.
    pub fn take_close_on_exec(&mut self, next: &mut usize) -> Option<Arc<File>> {
        let number = first_set(&self.close_on_exec, *next)?;
        *next = number + 1;
        self.take(number)
    }

    /// Takes out the first file from `*next` to `last`, and moves `*next` past it: for `close_range(2)`.
    pub fn take_in_range(&mut self, next: &mut u32, last: u32) -> Option<Arc<File>> {
        let number = self.next_open(*next).filter(|number| *number <= last)?;
        *next = number + 1;
        self.take(number as usize)
    }

    /// `close_range(2)` with CLOSE_RANGE_CLOEXEC.
    pub fn set_close_on_exec_range(&mut self, first: u32, last: u32) {
        let mut next = first;
        while let Some(number) = self.next_open(next).filter(|number| *number <= last) {
            set_bit(&mut self.close_on_exec, number as usize, true);
            next = number + 1;
        }
    }

    /// The process ends, and its record locks with it, whoever else has the files.
    pub fn release_locks(&self, pid: u32) {
        self.files.iter().flatten().for_each(|file| file.descriptor_closed(pid));
    }

    /// The lowest open descriptor from `from` on, for /proc/PID/fd.
    pub fn next_open(&self, from: u32) -> Option<u32> {
        first_set(&self.used, from as usize).map(|number| number as u32)
    }

    /// One past the highest descriptor that the table has room for, for /proc/PID/status.
    pub fn capacity(&self) -> usize {
        self.files.len()
    }

    fn is_open(&self, number: usize) -> bool {
        self.files.get(number).is_some_and(Option::is_some)
    }

    /// Finds the lowest free descriptor from `from` on, and makes sure that it has its place.
    fn reserve_lowest(&mut self, from: usize, limit: u64) -> Result<usize, Errno> {
        let start = from.max(self.first_free);
        let number = first_clear(&self.used, start);
        if number as u64 >= limit.min(DESCRIPTORS_MAX as u64) {
            return Err(Errno::EMFILE);
        }
        self.grow_to(number)?;
        Ok(number)
    }

    fn grow_to(&mut self, number: usize) -> Result<(), Errno> {
        let Some(missing) = (number + 1).checked_sub(self.files.len()).filter(|missing| *missing > 0) else {
            return Ok(());
        };
        let words = (number + 1).div_ceil(WORD);
        let new_words = words.saturating_sub(self.used.len());
        self.files.try_reserve(missing).map_err(|_| Errno::ENOMEM)?;
        self.used.try_reserve(new_words).map_err(|_| Errno::ENOMEM)?;
        self.close_on_exec.try_reserve(new_words).map_err(|_| Errno::ENOMEM)?;
        self.files.resize_with(number + 1, || None);
        self.used.resize(words, 0);
        self.close_on_exec.resize(words, 0);
        Ok(())
    }

    fn put(&mut self, number: usize, file: Arc<File>, close_on_exec: bool) {
        if let Some(place) = self.files.get_mut(number) {
            *place = Some(file);
        }
        set_bit(&mut self.used, number, true);
        set_bit(&mut self.close_on_exec, number, close_on_exec);
        if number == self.first_free {
            self.first_free = number + 1;
        }
    }

    fn take(&mut self, number: usize) -> Option<Arc<File>> {
        let file = self.files.get_mut(number)?.take()?;
        set_bit(&mut self.used, number, false);
        set_bit(&mut self.close_on_exec, number, false);
        self.first_free = self.first_free.min(number);
        Some(file)
    }
}

#[inline]
fn bit(words: &[u64], number: usize) -> bool {
    words.get(number / WORD).is_some_and(|word| word >> (number % WORD) & 1 == 1)
}

#[inline]
fn set_bit(words: &mut [u64], number: usize, value: bool) {
    if let Some(word) = words.get_mut(number / WORD) {
        let mask = 1 << (number % WORD);
        *word = if value { *word | mask } else { *word & !mask };
    }
}

/// The first bit from `start` on that is set.
fn first_set(words: &[u64], start: usize) -> Option<usize> {
    let mut number = start;
    loop {
        let set = words.get(number / WORD)? >> (number % WORD);
        if set != 0 {
            return Some(number + set.trailing_zeros() as usize);
        }
        number = (number / WORD + 1) * WORD;
    }
}

/// The first bit from `start` on that is clear; those past the end are.
fn first_clear(words: &[u64], start: usize) -> usize {
    let mut number = start;
    while let Some(word) = words.get(number / WORD) {
        let clear = !word >> (number % WORD);
        if clear != 0 {
            return number + clear.trailing_zeros() as usize;
        }
        number = (number / WORD + 1) * WORD;
    }
    number
}
