//! A file and an address space for the ELF target. The address space keeps no contents but checks what it is told.

use keel::errno::Errno;
use keel::exec::{ExecutableFile, FileRights, ImageMemory, LoadedProcess, Programs, Protection};
use keel::task::credentials::Credentials;
use std::ops::Range;
use std::sync::Arc;
use x86_64::PhysAddr;
use x86_64::structures::paging::PhysFrame;

pub const USER_END: u64 = 0x7fff_ffff_f000;
const PAGE: u64 = 4096;

#[derive(Clone)]
pub struct OneFile(pub Vec<u8>);

impl ExecutableFile for OneFile {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<usize, Errno> {
        let rest = usize::try_from(offset).ok().and_then(|offset| self.0.get(offset..)).unwrap_or_default();
        let count = rest.len().min(into.len());
        into[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }
}

impl Programs for OneFile {
    type File = Self;

    fn open(&self, _: &[u8]) -> Result<Self, Errno> {
        Ok(self.clone())
    }

    fn rights(&self, _: &Self) -> Result<FileRights, Errno> {
        let credentials = Arc::new(Credentials::root());
        Ok(FileRights { credentials, sets_ids: false, changes_ids: false, may_be_read: true })
    }
}

pub struct Image {
    mapped: Vec<Range<u64>>,
    page: Box<[u8; PAGE as usize]>,
    pub stack: Range<u64>,
}

impl Default for Image {
    fn default() -> Self {
        Self { mapped: Vec::new(), page: Box::new([0; PAGE as usize]), stack: 0..0 }
    }
}

impl Image {
    fn map(&mut self, pages: Range<u64>, protection: Protection) {
        assert!(pages.start < pages.end && pages.start.is_multiple_of(PAGE) && pages.end.is_multiple_of(PAGE));
        assert!(pages.start >= PAGE && pages.end <= USER_END);
        assert!(!(protection.write && protection.execute));
        self.mapped.push(pages);
    }
}

impl ImageMemory for Image {
    type File = OneFile;

    fn map_vdso(&mut self, wanted: u64) -> Result<u64, Errno> {
        assert!(wanted.is_multiple_of(PAGE) && wanted.checked_add(2 * PAGE).is_some_and(|end| end <= USER_END));
        Ok(wanted + PAGE)
    }

    fn map_file(&mut self, pages: Range<u64>, protection: Protection, _: &OneFile, offset: u64) -> Result<(), Errno> {
        assert!(offset.is_multiple_of(PAGE) && offset.checked_add(pages.end - pages.start).is_some());
        self.map(pages, protection);
        Ok(())
    }

    fn map_zeroed(&mut self, pages: Range<u64>, protection: Protection) -> Result<(), Errno> {
        self.map(pages, protection);
        Ok(())
    }

    fn map_stack(&mut self, pages: Range<u64>) -> Result<(), Errno> {
        assert!(self.mapped.iter().all(|other| other.end <= pages.start || pages.end <= other.start));
        self.stack = pages.clone();
        self.map(pages, Protection::READ_WRITE);
        Ok(())
    }

    fn writable(&mut self, address: u64) -> Result<&mut [u8], Errno> {
        assert!(self.mapped.iter().any(|pages| pages.contains(&address)), "{address:#x} isn't mapped");
        Ok(&mut self.page[(address % PAGE) as usize..])
    }

    fn page_table_frame(&self) -> PhysFrame {
        PhysFrame::containing_address(PhysAddr::new(PAGE))
    }

    fn finish(&mut self, _: &LoadedProcess) {}
}
