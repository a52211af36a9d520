//! Files in memory: mmap and execve share the pages that reads and writes use.

use super::file::File;
use super::inode::{Body, Inode};
use super::mount::{self, Location};
use super::tree;
use super::walk::PATH_MAX;
use crate::PAGE_SIZE;
use crate::errno::Errno;
use crate::memory::areas::PageSource;
use crate::memory::frames::PageRef;
#[cfg(target_os = "none")]
use crate::task::process;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

/// The page of a regular file at `index`, for a mapping. EFAULT past the file's end.
pub fn page(inode: &Inode, index: u64) -> Result<PageRef, Errno> {
    let Body::Regular(content) = &inode.body else { return Err(Errno::EFAULT) };
    if index >= inode.size().div_ceil(PAGE_SIZE as u64) {
        return Err(Errno::EFAULT);
    }
    content.note_mapped();
    content.page(inode, index)
}

/// Takes pages that a file has no longer from all who have them mapped: their next touch finds what is there then, or
/// SIGBUS. Private copies of them go too, unless `keep_copies`. Called with no lock held.
#[cfg(target_os = "none")]
pub fn forget(inode: &Inode, pages: Range<u64>, keep_copies: bool) {
    let Body::Regular(content) = &inode.body else { return };
    if !content.is_mapped() || pages.is_empty() {
        return;
    }
    let object = core::ptr::from_ref(inode).addr();
    process::for_each(|process| {
        process.with_address_space(|space| space.lock().forget_pages(object, pages.clone(), keep_copies));
    });
}

/// On the host there are no processes.
#[cfg(not(target_os = "none"))]
pub fn forget(_: &Inode, _: Range<u64>, _: bool) {}

/// The path of a mapped file as the first process would see it.
pub fn write_path(location: &Location, output: &mut dyn fmt::Write) -> fmt::Result {
    let mut buffer = Vec::new();
    buffer.try_reserve_exact(PATH_MAX).map_err(|_| fmt::Error)?;
    buffer.resize(PATH_MAX, 0);
    let tree = tree::lock();
    let all = mount::all(&tree);
    let Some(first) = all.first() else { return Ok(()) };
    let root = mount::Place { mount: first, dentry: &first.root };
    let Ok((path, _)) = mount::path_of(&tree, location.as_place(), root, &mut buffer) else { return Ok(()) };
    for chunk in path.utf8_chunks() {
        output.write_str(chunk.valid())?;
        if !chunk.invalid().is_empty() {
            output.write_char('\u{fffd}')?;
        }
    }
    if location.dentry.is_linked(&tree) { Ok(()) } else { output.write_str(" (deleted)") }
}

impl PageSource for File {
    fn page(&self, index: u64, for_write: bool) -> Result<PageRef, Errno> {
        let page = page(self.inode(), index)?;
        if for_write {
            self.inode().touch_modified();
        }
        Ok(page)
    }

    fn for_each_resident(&self, pages: Range<u64>, visit: &mut dyn FnMut(u64, &PageRef)) {
        if let Body::Regular(content) = &self.inode().body {
            content.for_each_resident(self.inode(), pages, visit);
        }
    }

    fn identity(&self) -> usize {
        core::ptr::from_ref(self.inode()).addr()
    }

    fn device_and_inode(&self) -> (u64, u64) {
        (self.inode().file_system.device, self.inode().number)
    }

    fn write_name(&self, output: &mut dyn fmt::Write) -> fmt::Result {
        write_path(&self.location, output)
    }
}
