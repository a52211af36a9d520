//! An address space for tests: a map from pages to what is in them.

use super::tree::File;
use crate::PAGE_SIZE;
use crate::errno::Errno;
use crate::exec::layout::page_down;
use crate::exec::{ExecutableFile, ImageMemory, LoadedProcess, Protection, read_fully};
use std::collections::BTreeMap;
use std::ops::Range;
use x86_64::structures::paging::PhysFrame;

const PAGE: u64 = PAGE_SIZE as u64;

/// Pages, what may be done with them, and the file they come from.
type Area = (Range<u64>, Protection, Option<(File, u64)>);

#[derive(Default)]
pub struct Image {
    /// Areas: page ranges are kept whole, as segments may be huge.
    pub areas: Vec<Area>,
    pub own: BTreeMap<u64, Box<[u8; PAGE_SIZE]>>,
    pub stack: Range<u64>,
}

impl Image {
    fn area(&self, address: u64) -> Option<&Area> {
        self.areas.iter().rev().find(|(pages, ..)| pages.contains(&address))
    }

    pub fn protection(&self, address: u64) -> Option<Protection> {
        self.area(address).map(|area| area.1)
    }

    fn page(&self, page: u64) -> Result<Box<[u8; PAGE_SIZE]>, Errno> {
        if let Some(own) = self.own.get(&page) {
            return Ok(own.clone());
        }
        let (pages, _, file) = self.area(page).ok_or(Errno::EFAULT)?;
        let mut bytes = Box::new([0; PAGE_SIZE]);
        if let Some((file, offset)) = file {
            let offset = offset + (page - pages.start);
            if offset >= file.size() {
                return Err(Errno::EFAULT);
            }
            read_fully(file, offset, &mut bytes[..])?;
        }
        Ok(bytes)
    }

    pub fn read(&self, address: u64, length: usize) -> Result<Vec<u8>, Errno> {
        (address..address + length as u64)
            .map(|at| self.page(page_down(at)).map(|page| page[(at % PAGE) as usize]))
            .collect()
    }

    pub fn word(&self, address: u64) -> u64 {
        u64::from_le_bytes(self.read(address, 8).unwrap().try_into().unwrap())
    }

    pub fn string(&self, mut address: u64) -> Vec<u8> {
        let mut text = Vec::new();
        loop {
            match self.read(address, 1).unwrap()[0] {
                0 => return text,
                byte => text.push(byte),
            }
            address += 1;
        }
    }

    fn map(&mut self, pages: Range<u64>, protection: Protection, file: Option<(File, u64)>) {
        assert!(pages.start < pages.end && pages.start.is_multiple_of(PAGE) && pages.end.is_multiple_of(PAGE));
        assert!(pages.start >= PAGE && pages.end <= crate::exec::layout::USER_END);
        assert!(!(protection.write && protection.execute));
        self.own.retain(|page, _| !pages.contains(page));
        self.areas.push((pages, protection, file));
    }
}

impl ImageMemory for Image {
    type File = File;

    fn map_file(&mut self, pages: Range<u64>, protection: Protection, file: &File, offset: u64) -> Result<(), Errno> {
        assert!(offset.is_multiple_of(PAGE));
        self.map(pages, protection, Some((file.clone(), offset)));
        Ok(())
    }

    fn map_zeroed(&mut self, pages: Range<u64>, protection: Protection) -> Result<(), Errno> {
        self.map(pages, protection, None);
        Ok(())
    }

    fn map_stack(&mut self, pages: Range<u64>) -> Result<(), Errno> {
        assert!(self.areas.iter().all(|(other, ..)| other.end <= pages.start || pages.end <= other.start));
        self.stack = pages.clone();
        self.map(pages, Protection::READ_WRITE, None);
        Ok(())
    }

    fn map_vdso(&mut self, _: u64) -> Result<u64, Errno> {
        Ok(0)
    }

    fn writable(&mut self, address: u64) -> Result<&mut [u8], Errno> {
        let page = page_down(address);
        let bytes = self.page(page)?;
        Ok(&mut self.own.entry(page).or_insert(bytes)[(address - page) as usize..])
    }

    fn page_table_frame(&self) -> PhysFrame {
        PhysFrame::containing_address(x86_64::PhysAddr::new(0x1000))
    }

    fn finish(&mut self, process: &LoadedProcess) {
        assert!(process.heap_start.is_multiple_of(PAGE));
    }
}
