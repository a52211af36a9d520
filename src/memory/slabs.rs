//! Small blocks for the heap: size classes, each with slabs of one frame cut into objects of one size.
//!
//! Allocating and freeing take a few dozen instructions, whatever is allocated. A slab's free objects are linked through
//! themselves by offset; which slabs of a class have some is a doubly linked list through the frames' entries. A slab's frame
//! is referenced by its class and by each object in use: with the last one the class gives it up too, unless it is the only
//! slab with free objects.

use super::frames::{frame_at, index_of};
use super::{direct_map, frames};
use crate::PAGE_SIZE;
use core::ptr::NonNull;
use core::sync::atomic::Ordering::Relaxed;

/// Multiples of 16, chosen so that little of a frame is left over.
const SIZES: [u16; 17] = [16, 32, 48, 64, 80, 96, 128, 160, 192, 256, 336, 448, 512, 672, 1024, 1360, 2048];
pub const CLASS_COUNT: usize = SIZES.len();
pub const LARGEST: usize = 2048;

/// The class for each size, in steps of 16 bytes.
#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
const CLASS_OF: [u8; LARGEST / 16 + 1] = {
    let mut table = [0; LARGEST / 16 + 1];
    let mut class = 0;
    let mut step = 0;
    while step < table.len() {
        if step * 16 > SIZES[class] as usize {
            class += 1;
        }
        table[step] = class as u8;
        step += 1;
    }
    table
};

const NO_SLAB: u32 = u32::MAX;
/// The end of a slab's list of free objects. Offsets are in units of 8 bytes, so this isn't one.
const NO_OBJECT: u16 = u16::MAX;

/// The class for a block, or None where it is too large for one.
#[inline(always)]
pub fn class_for(size: usize, align: usize) -> Option<usize> {
    // Objects lie at multiples of their size: a power of two is aligned to itself, other sizes to 16 bytes.
    let size = if align > 16 { size.max(align).checked_next_power_of_two()? } else { size };
    CLASS_OF.get(size.checked_add(15)? / 16).map(|&class| usize::from(class))
}

/// One class's slabs.
pub struct Class {
    /// A slab with free objects, first of a list.
    partial: u32,
    size: u16,
    pub objects: usize,
    pub slabs: usize,
}

impl Class {
    #[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
    pub const fn new(class: usize) -> Self {
        Self { partial: NO_SLAB, size: SIZES[class], objects: 0, slabs: 0 }
    }

    pub fn object_bytes(&self) -> usize {
        usize::from(self.size)
    }

    /// An object, its contents undefined.
    #[inline]
    pub fn allocate(&mut self) -> Option<NonNull<u8>> {
        if self.partial == NO_SLAB {
            self.add_slab()?;
        }
        let frame = frame_at(self.partial);
        let entry = frames::table().entry(frame)?;
        let offset = entry.first_free_object.load(Relaxed);
        let object = direct_map::frame_pointer(frame).wrapping_add(usize::from(offset) * 8);
        // SAFETY: a free object of a slab: ours, and it holds the next one's offset.
        let next = unsafe { object.cast::<u16>().read() };
        entry.first_free_object.store(next, Relaxed);
        entry.add_object();
        self.objects = self.objects.wrapping_add(1);
        if next == NO_OBJECT {
            self.unlink(self.partial);
        }
        NonNull::new(object)
    }

    /// # Safety
    /// `object` came from [`Self::allocate`] of this class and isn't used any more.
    #[inline]
    pub unsafe fn free(&mut self, object: *mut u8) {
        let address = direct_map::physical(object).as_u64();
        let index = (address / PAGE_SIZE as u64) as u32;
        let Some(entry) = frames::table().entry(frame_at(index)) else { return };
        let next = entry.first_free_object.load(Relaxed);
        // SAFETY: the caller gives the object up; it has at least 16 bytes.
        unsafe { object.cast::<u16>().write(next) };
        entry.first_free_object.store((address % PAGE_SIZE as u64 / 8) as u16, Relaxed);
        let left = entry.remove_object();
        self.objects = self.objects.wrapping_sub(1);
        if next == NO_OBJECT {
            self.link(index);
        }
        if left == 1 {
            self.retire(index);
        }
    }

    /// Frees an empty slab, but keeps the last one: otherwise one object taken and freed in turn would build a slab each time.
    fn retire(&mut self, index: u32) {
        let Some(entry) = frames::table().entry(frame_at(index)) else { return };
        let alone = entry.next.load(Relaxed) == NO_SLAB && entry.previous.load(Relaxed) == NO_SLAB;
        if !alone {
            self.unlink(index);
            self.slabs -= 1;
            frames::release(frame_at(index));
        }
    }

    #[cold]
    fn add_slab(&mut self) -> Option<()> {
        let frame = frames::allocate().ok()?;
        let page = direct_map::frame_pointer(frame);
        let size = usize::from(self.size);
        let count = PAGE_SIZE / size;
        for number in 0..count {
            let next = if number + 1 < count { ((number + 1) * size / 8) as u16 } else { NO_OBJECT };
            // SAFETY: within the frame that was just allocated; sizes are multiples of 16.
            unsafe { page.wrapping_add(number * size).cast::<u16>().write(next) };
        }
        let entry = frames::table().entry(frame)?;
        entry.first_free_object.store(0, Relaxed);
        self.slabs += 1;
        self.link(index_of(frame));
        Some(())
    }

    fn link(&mut self, index: u32) {
        let Some(entry) = frames::table().entry(frame_at(index)) else { return };
        entry.next.store(self.partial, Relaxed);
        entry.previous.store(NO_SLAB, Relaxed);
        if self.partial != NO_SLAB
            && let Some(old) = frames::table().entry(frame_at(self.partial))
        {
            old.previous.store(index, Relaxed);
        }
        self.partial = index;
    }

    fn unlink(&mut self, index: u32) {
        let table = frames::table();
        let Some(entry) = table.entry(frame_at(index)) else { return };
        let (previous, next) = (entry.previous.load(Relaxed), entry.next.load(Relaxed));
        match table.entry(frame_at(previous)) {
            Some(previous) if self.partial != index => previous.next.store(next, Relaxed),
            _ => self.partial = next,
        }
        if next != NO_SLAB
            && let Some(next) = table.entry(frame_at(next))
        {
            next.previous.store(previous, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_class(class: usize) -> usize {
        Class::new(class).object_bytes()
    }

    #[test]
    fn does_each_class_hold_its_sizes() {
        for size in 1..=LARGEST {
            let class = class_for(size, 8).expect("small");
            assert!(size_of_class(class) >= size);
            assert!(class == 0 || size_of_class(class - 1) < size, "{size} fits a smaller class");
        }
        assert_eq!(class_for(LARGEST + 1, 8), None);
        assert_eq!(class_for(100, 64).map(size_of_class), Some(128));
        assert_eq!(class_for(100, 4096), None);
        assert_eq!(class_for(usize::MAX, 8), None);
    }

    #[test]
    fn do_objects_overlap_and_do_frames_come_back() {
        let before = frames::counts().free;
        for number in 0..CLASS_COUNT {
            let mut class = Class::new(number);
            let size = size_of_class(number);
            let mut objects = Vec::new();
            for round in 0..4 {
                for tag in 0..1000_u32 {
                    let object = class.allocate().expect("memory is free").as_ptr();
                    // SAFETY: the object has `size` bytes.
                    unsafe { object.write_bytes(tag as u8, size) };
                    objects.push((object, tag as u8));
                }
                // Free every other one, then most of the rest, in another order than they were taken.
                for _ in 0..if round == 3 { objects.len() } else { 900 } {
                    let (object, tag) = objects.swap_remove(objects.len() / 2);
                    // SAFETY: a live object of this class, freed once.
                    unsafe {
                        assert!(core::slice::from_raw_parts(object, size).iter().all(|&byte| byte == tag));
                        class.free(object);
                    }
                }
            }
            assert_eq!(class.objects, 0);
            assert_eq!(class.slabs, 1, "one empty slab is kept");
        }
        assert_eq!(frames::counts().free, before - CLASS_COUNT);
    }
}
