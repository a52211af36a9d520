//! The chain's last link: images are built in a kernel address space, through the direct map. CR3 stays what it is, so that
//! the caller's memory can be read meanwhile, and an interrupt finds nothing unusual.

use super::{ExecutableFile, ImageMemory, LoadedProcess, Protection, vdso};
use crate::errno::Errno;
use crate::memory::address_space::{Limits, Placement, ProgramLayout};
use crate::memory::{self, AddressSpace, AreaFlags, Mapping, PageSource};
use alloc::sync::Arc;
use core::marker::PhantomData;
use core::ops::Range;
use x86_64::structures::paging::PhysFrame;

/// An executable file whose pages can be mapped.
pub trait MappableFile: ExecutableFile {
    fn pages(&self) -> Arc<dyn PageSource>;
}

/// A new address space in which images are built. Dropped, it gives everything back.
pub struct NewImage<F> {
    pub space: AddressSpace,
    file: PhantomData<F>,
}

impl<F> NewImage<F> {
    pub fn new(limits: Limits) -> Result<Self, Errno> {
        let mut space = AddressSpace::new()?;
        space.limits = limits;
        Ok(Self { space, file: PhantomData })
    }

    fn map(&mut self, pages: Range<u64>, mapping: Mapping) -> Result<(), Errno> {
        let length = pages.end.saturating_sub(pages.start);
        self.space.map(Placement::Fixed(pages.start), length, mapping).map(|_| ())
    }
}

impl<F: MappableFile> ImageMemory for NewImage<F> {
    type File = F;

    fn map_file(&mut self, pages: Range<u64>, protection: Protection, file: &F, offset: u64) -> Result<(), Errno> {
        self.map(pages, Mapping::private(protection.into(), file.pages(), offset))
    }

    fn map_zeroed(&mut self, pages: Range<u64>, protection: Protection) -> Result<(), Errno> {
        self.map(pages, Mapping::anonymous(protection.into()))
    }

    fn map_stack(&mut self, pages: Range<u64>) -> Result<(), Errno> {
        let mut mapping = Mapping::anonymous(Protection::READ_WRITE.into());
        mapping.flags = AreaFlags::GROWS_DOWN | AreaFlags::STACK;
        self.map(pages, mapping)
    }

    fn map_vdso(&mut self, wanted: u64) -> Result<u64, Errno> {
        vdso::map(&mut self.space, wanted)
    }

    fn writable(&mut self, address: u64) -> Result<&mut [u8], Errno> {
        self.space.bytes_to_page_end(address)
    }

    fn page_table_frame(&self) -> PhysFrame {
        self.space.page_table_frame()
    }

    fn finish(&mut self, process: &LoadedProcess) {
        self.space.mmap_top = process.mmap_base;
        self.space.set_heap_start(process.heap_start);
        self.space.layout = ProgramLayout {
            text: process.text_start..process.text_end,
            data: process.data_start..process.data_end,
            stack_start: process.stack_pointer,
            arguments: process.argument_strings.clone(),
            environment: process.environment_strings.clone(),
            auxiliary: process.auxiliary_vector.clone(),
        };
    }
}

impl From<Protection> for memory::Protection {
    fn from(protection: Protection) -> Self {
        let mut rights = Self::empty();
        rights.set(Self::READ, protection.read);
        rights.set(Self::WRITE, protection.write);
        rights.set(Self::EXECUTE, protection.execute);
        rights
    }
}
