//! The kernel's heap: Rust's global allocator.
//!
//! Three sizes of block, three ways: up to 2 KiB from size classes (`slabs`), up to 32 KiB runs of frames, both
//! of constant cost and reached through the direct map; what is larger comes from a first-fit list
//! (`linked_list_allocator`) in a window of its own that grows on demand. An allocation that can't be had is a null pointer,
//! which `try_reserve`, `Box::try_new` and their like turn into an error: whatever a user decides the size of uses these.

use super::frames;
use super::kernel_map::{self, Caching, HEAP};
use super::slabs::{self, CLASS_COUNT, Class};
use crate::PAGE_SIZE;
use crate::fault_injection::{self, Point};
use crate::lock::{Lock, Rank};
use core::alloc::{GlobalAlloc, Layout};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use x86_64::structures::paging::PhysFrame;

/// The largest block made of a run of frames: 2^3 of them.
const LARGEST_RUN_ORDER: u8 = 3;
/// The window grows by at least this much.
const GROWTH_BYTES: usize = 256 * 1024;
/// An empty window that is larger than this is given back: it grew for something unusual.
const KEPT_BYTES: usize = 1024 * 1024;

struct KernelHeap {
    classes: [Lock<Class>; CLASS_COUNT],
    window: Lock<Window>,
    /// Frames in runs.
    run_frames: AtomicUsize,
}

/// The first-fit list in its window of kernel space.
struct Window {
    list: linked_list_allocator::Heap,
    end: u64,
}

#[global_allocator]
#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
static HEAP_ALLOCATOR: KernelHeap = KernelHeap {
    classes: {
        let mut classes = [const { Lock::new(Rank::Heap, Class::new(0)) }; CLASS_COUNT];
        let mut class = 1;
        while class < CLASS_COUNT {
            classes[class] = Lock::new(Rank::Heap, Class::new(class));
            class += 1;
        }
        classes
    },
    window: Lock::new(Rank::HeapBacking, Window { list: linked_list_allocator::Heap::empty(), end: HEAP.start }),
    run_frames: AtomicUsize::new(0),
};

/// For /proc/meminfo and the leak tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Bytes in blocks that are in use, rounded up to what each block really takes.
    pub used_bytes: usize,
    /// Frames that the heap holds, for blocks in use or not.
    pub frames: usize,
}

pub fn counts() -> Counts {
    kinds().fold(Counts { used_bytes: 0, frames: 0 }, |sum, kind| Counts {
        used_bytes: sum.used_bytes + kind.objects * kind.object_bytes,
        frames: sum.frames + kind.frames,
    })
}

/// What blocks of one kind there are.
#[derive(Clone, Copy)]
pub struct Kind {
    pub object_bytes: usize,
    /// Blocks in use.
    pub objects: usize,
    /// Frames held for them.
    pub frames: usize,
}

/// Blocks by kind, the smallest first: size classes, runs counted in pages, and the window counted in its list's units.
pub fn kinds() -> impl Iterator<Item = Kind> {
    let classes = HEAP_ALLOCATOR.classes.iter().map(|class| {
        let class = class.lock();
        Kind { object_bytes: class.object_bytes(), objects: class.objects, frames: class.slabs }
    });
    let others = [runs, large].into_iter().map(|kind| kind());
    classes.chain(others)
}

fn runs() -> Kind {
    let frames = HEAP_ALLOCATOR.run_frames.load(Relaxed);
    Kind { object_bytes: PAGE_SIZE, objects: frames, frames }
}

fn large() -> Kind {
    const UNIT_BYTES: usize = 8;
    let window = HEAP_ALLOCATOR.window.lock();
    let frames = (window.end - HEAP.start) as usize / PAGE_SIZE;
    Kind { object_bytes: UNIT_BYTES, objects: window.list.used() / UNIT_BYTES, frames }
}

/// Where a block of some layout comes from.
enum Source {
    Class(usize),
    Run(u8),
    Window,
}

#[inline(always)]
fn source_for(layout: Layout) -> Source {
    if let Some(class) = slabs::class_for(layout.size(), layout.align()) {
        return Source::Class(class);
    }
    let pages = layout.size().max(layout.align()).div_ceil(PAGE_SIZE);
    let order = pages.next_power_of_two().trailing_zeros() as u8;
    if order <= LARGEST_RUN_ORDER { Source::Run(order) } else { Source::Window }
}

// SAFETY: blocks are disjoint, as large and as aligned as their layouts ask, and stay until they are freed; no function here
// unwinds.
unsafe impl GlobalAlloc for KernelHeap {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if fault_injection::should_fail(Point::HeapAllocation) {
            return core::ptr::null_mut();
        }
        let block = match source_for(layout) {
            Source::Class(class) => self.classes.get(class).and_then(|class| class.lock().allocate()),
            Source::Run(order) => self.allocate_run(order).or_else(|| self.window.lock().allocate(layout)),
            Source::Window => self.window.lock().allocate(layout),
        };
        block.map_or(core::ptr::null_mut(), NonNull::as_ptr)
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match source_for(layout) {
            Source::Class(class) => {
                if let Some(class) = self.classes.get(class) {
                    // SAFETY: the caller gives up a block of this layout, hence of this class.
                    unsafe { class.lock().free(block) };
                }
            }
            Source::Run(order) if !HEAP.contains(&(block.addr() as u64)) => self.free_run(block, order),
            _ => self.window.lock().free(block, layout),
        }
    }

    /// A block that is large enough as it is stays where it is.
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        let Ok(new_layout) = Layout::from_size_align(new_size, layout.align()) else { return core::ptr::null_mut() };
        let in_window = HEAP.contains(&(block.addr() as u64));
        let stays = match (source_for(layout), source_for(new_layout)) {
            (Source::Class(old), Source::Class(new)) => old == new,
            (Source::Run(old), Source::Run(new)) => old == new && !in_window,
            _ => false,
        };
        if stays {
            return block;
        }
        // SAFETY: the new block is apart from the old one, which has `layout.size()` bytes and is freed once.
        unsafe {
            let new_block = self.alloc(new_layout);
            if !new_block.is_null() {
                core::ptr::copy_nonoverlapping(block, new_block, layout.size().min(new_size));
                self.dealloc(block, layout);
            }
            new_block
        }
    }
}

impl KernelHeap {
    fn allocate_run(&self, order: u8) -> Option<NonNull<u8>> {
        let frame = if order == 0 { frames::allocate_for_user() } else { frames::allocate_run(order) };
        let block = super::direct_map::frame_pointer(frame.ok()?);
        self.run_frames.fetch_add(1 << order, Relaxed);
        NonNull::new(block)
    }

    fn free_run(&self, block: *mut u8, order: u8) {
        let frame = PhysFrame::containing_address(super::direct_map::physical(block));
        self.run_frames.fetch_sub(1 << order, Relaxed);
        if order == 0 { frames::release(frame) } else { frames::release_run(frame, order) }
    }
}

impl Window {
    fn allocate(&mut self, layout: Layout) -> Option<NonNull<u8>> {
        if let Ok(block) = self.list.allocate_first_fit(layout) {
            return Some(block);
        }
        self.grow(layout.size().checked_add(layout.align())?.checked_add(PAGE_SIZE)?)?;
        self.list.allocate_first_fit(layout).ok()
    }

    fn free(&mut self, block: *mut u8, layout: Layout) {
        if let Some(block) = NonNull::new(block) {
            // SAFETY: the caller gives up a block that this list handed out for this layout.
            unsafe { self.list.deallocate(block, layout) };
        }
        if self.list.used() == 0 && self.list.size() > KEPT_BYTES {
            self.shrink();
        }
    }

    /// Gives the frames of a window back in which nothing is left.
    #[cold]
    fn shrink(&mut self) {
        self.list = linked_list_allocator::Heap::empty();
        while self.end > HEAP.start {
            self.end -= PAGE_SIZE as u64;
            if let Some(frame) = kernel_map::unmap_page(self.end) {
                frames::release(frame);
            }
        }
    }

    /// Maps more of the window. What was mapped before memory ran out is used, should a smaller block fit.
    #[cold]
    fn grow(&mut self, bytes: usize) -> Option<()> {
        let wanted = bytes.max(GROWTH_BYTES).checked_next_multiple_of(PAGE_SIZE)?;
        // Not even begun where it can't succeed: a program may ask for anything.
        if wanted as u64 > HEAP.end - self.end || wanted / PAGE_SIZE >= frames::counts().free {
            return None;
        }
        let start = self.end;
        while self.end < start + wanted as u64 {
            let Ok(frame) = frames::allocate_for_user() else { break };
            if kernel_map::map_page(self.end, frame, Caching::WriteBack).is_err() {
                frames::release(frame);
                break;
            }
            self.end += PAGE_SIZE as u64;
        }
        let grown = (self.end - start) as usize;
        if grown == 0 {
            return None;
        }
        // SAFETY: the pages from `start` to `end` were just mapped, follow the list's old end, and belong to it from here on.
        unsafe {
            if self.list.size() == 0 {
                self.list.init(core::ptr::with_exposed_provenance_mut(start as usize), grown);
            } else {
                self.list.extend(grown);
            }
        }
        Some(())
    }
}
