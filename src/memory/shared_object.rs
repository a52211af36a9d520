//! Memory that processes share without a file: what mmap makes for MAP_SHARED | MAP_ANONYMOUS.

use super::areas::PageSource;
use super::frames::PageRef;
use crate::PAGE_SIZE;
use crate::errno::Errno;
use crate::lock::{Lock, Rank};
use alloc::vec::Vec;
use core::fmt;

/// Pages that come into being when they are first touched, by whomever.
pub struct SharedObject {
    pages: Lock<Vec<Option<PageRef>>>,
}

impl SharedObject {
    pub fn new(length_bytes: u64) -> Result<Self, Errno> {
        let count = usize::try_from(length_bytes.div_ceil(PAGE_SIZE as u64)).map_err(|_| Errno::ENOMEM)?;
        let mut pages = Vec::new();
        pages.try_reserve_exact(count).map_err(|_| Errno::ENOMEM)?;
        pages.resize_with(count, || None);
        Ok(Self { pages: Lock::new(Rank::Inode, pages) })
    }
}

impl PageSource for SharedObject {
    fn page(&self, index: u64, _for_write: bool) -> Result<PageRef, Errno> {
        let mut pages = self.pages.lock();
        let index = usize::try_from(index).map_err(|_| Errno::EFAULT)?;
        let place = pages.get_mut(index).ok_or(Errno::EFAULT)?;
        if let Some(page) = place {
            return Ok(page.clone());
        }
        let page = PageRef::new_zeroed()?;
        Ok(place.insert(page).clone())
    }

    fn write_name(&self, output: &mut dyn fmt::Write) -> fmt::Result {
        output.write_str("/dev/zero (deleted)")
    }
}
