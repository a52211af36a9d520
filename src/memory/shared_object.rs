//! Memory that processes share without a file: what mmap makes for MAP_SHARED | MAP_ANONYMOUS.

use super::areas::PageSource;
use super::frames::PageRef;
use crate::PAGE_SIZE;
use crate::errno::Errno;
use crate::fs::pages::Pages;
use crate::lock::{Lock, Rank};
use core::fmt;

/// Pages that come into being when they are first touched, by whomever. What was never touched costs nothing.
pub struct SharedObject {
    pages: Lock<Pages>,
    page_count: u64,
}

impl SharedObject {
    pub fn new(length_bytes: u64) -> Result<Self, Errno> {
        let page_count = length_bytes.div_ceil(PAGE_SIZE as u64);
        Ok(Self { pages: Lock::new(Rank::Inode, Pages::new()), page_count })
    }
}

impl PageSource for SharedObject {
    fn page(&self, index: u64, _for_write: bool) -> Result<PageRef, Errno> {
        if index >= self.page_count {
            return Err(Errno::EFAULT);
        }
        let mut pages = self.pages.lock();
        if let Some(page) = pages.get(index) {
            return Ok(page.clone());
        }
        let page = PageRef::new_zeroed()?;
        pages.insert(index, page.clone())?;
        Ok(page)
    }

    fn write_name(&self, output: &mut dyn fmt::Write) -> fmt::Result {
        output.write_str("/dev/zero (deleted)")
    }
}
