//! Little-endian fields of structures that firmware and loaders leave in memory. Every access is bounded: a structure that
//! is shorter than it should be has None where the field would be.

use x86_64::PhysAddr;

/// Physical memory, for those who only look: the bytes from an address on, or None where they can't be reached.
pub type Physical<'m> = &'m dyn Fn(PhysAddr, usize) -> Option<&'m [u8]>;

pub fn u8_at(bytes: &[u8], offset: usize) -> Option<u8> {
    bytes.get(offset).copied()
}

pub fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    array_at(bytes, offset).map(u16::from_le_bytes)
}

pub fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    array_at(bytes, offset).map(u32::from_le_bytes)
}

pub fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    array_at(bytes, offset).map(u64::from_le_bytes)
}

fn array_at<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..)?.first_chunk().copied()
}

/// `size` bytes of physical memory at a 64-bit address out of a table.
pub fn physical_at<'m>(physical: Physical<'m>, address: u64, size_bytes: usize) -> Option<&'m [u8]> {
    if address == 0 {
        return None;
    }
    physical(PhysAddr::try_new(address).ok()?, size_bytes)
}

/// The bytes up to, and without, the first NUL; all where there is none.
pub fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|&byte| byte == 0).next().unwrap_or(&[])
}

/// A stretch of physical memory for host tests, 8-aligned as firmware's structures are.
#[cfg(test)]
pub mod fake {
    use super::*;

    pub struct FakeMemory {
        base: u64,
        words: Vec<u64>,
    }

    impl FakeMemory {
        pub fn new(base: u64, size_bytes: usize) -> Self {
            Self { base, words: vec![0; size_bytes.div_ceil(8)] }
        }

        pub fn put(&mut self, at: u64, bytes: &[u8]) {
            for (offset, &byte) in (at - self.base..).zip(bytes) {
                let (word, shift) = (&mut self.words[offset as usize / 8], offset % 8 * 8);
                *word = *word & !(0xff << shift) | u64::from(byte) << shift;
            }
        }

        pub fn read(&self, at: PhysAddr, size_bytes: usize) -> Option<&[u8]> {
            let start = usize::try_from(at.as_u64().checked_sub(self.base)?).ok()?;
            // SAFETY: the words are plain integers, and the slice has exactly their length in bytes.
            let bytes = unsafe { core::slice::from_raw_parts(self.words.as_ptr().cast::<u8>(), self.words.len() * 8) };
            bytes.get(start..start.checked_add(size_bytes)?)
        }
    }
}
