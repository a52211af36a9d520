//! Kernel mappings, page tables that are loaded, and counts: what the host's simulated memory can't show.

use super::probe;
use crate::boot::{self, Holder};
use crate::cpu::features::features;
use crate::cpu::gdt;
use crate::fault_injection::{self, Point};
use crate::fs::file_system::Kind;
use crate::fs::inode::Attributes;
use crate::fs::mount::{self, Location, MountFlags};
use crate::fs::open::open;
use crate::fs::open_flags::OpenFlags;
use crate::fs::pipe_buffer::{self, PipeBuffer};
use crate::fs::transfer::{SliceSink, SliceSource};
use crate::fs::{FsContext, tmpfs};
use crate::kernel_test;
use crate::lock::{Lock, Rank};
use crate::memory::kernel_stack::GuardOwner;
use crate::memory::page_table::{Entry, Table};
use crate::memory::remap::Move;
use crate::memory::shared_object::SharedObject;
use crate::memory::{
    AddressSpace, Mapping, Placement, Protection, device_map, direct_map, frames, heap, image, kernel_map, kernel_stack,
};
use crate::task::credentials::Credentials;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::AtomicU64;
use x86_64::registers::control::{Cr3, Cr3Flags};
use x86_64::structures::paging::{PageTableFlags as Flags, PhysFrame};
use x86_64::{PhysAddr, VirtAddr};

const PAGE: u64 = crate::PAGE_SIZE as u64;
const RW: Protection = Protection::READ.union(Protection::WRITE);

/// Page-fault error codes (SDM 3A §4.7).
const PRESENT: u64 = 1 << 0;
const WRITE: u64 = 1 << 1;
const FETCH: u64 = 1 << 4;

/// Runs with another address space loaded, and comes back to the one before.
pub fn with_loaded<R>(root: PhysFrame, run: impl FnOnce() -> R) -> R {
    let (before, flags) = Cr3::read();
    // SAFETY: every address space has the kernel's half; this thread doesn't wait meanwhile.
    unsafe { Cr3::write(root, Cr3Flags::empty()) };
    let result = run();
    // SAFETY: what was loaded before.
    unsafe { Cr3::write(before, flags) };
    result
}

fn upper_half(root: PhysFrame) -> Vec<Entry> {
    // SAFETY: a live level-4 table, only read.
    let table = unsafe { Table::in_frame(root) };
    // The processor marks entries as accessed in whichever table is loaded.
    table.slots().iter().skip(256).map(|slot| slot.get().without(Flags::ACCESSED)).collect()
}

/// Frames in use, apart from what caches keep.
pub fn used_frames() -> usize {
    kernel_stack::trim();
    frames::trim();
    let counts = frames::counts();
    counts.total - counts.free - heap::counts().frames
}

kernel_test! {
    fn no_kernel_mapping_is_writable_and_executable_or_the_users() {
        let has_nx = features().nx;
        // One of each kind that comes after boot: a stack, a large block of the heap, a device.
        let _stack = kernel_stack::KernelStack::new().expect("memory");
        let _block: Vec<u8> = Vec::with_capacity(300_000);
        let device = frames::PageRef::new_zeroed().expect("memory").into_frame().start_address();
        for caching in [kernel_map::Caching::Uncached, kernel_map::Caching::WriteCombining] {
            device_map::map_device(device, 1, caching).expect("room");
        }
        let (mut count, mut windows) = (0, [false; 3]);
        kernel_map::for_each_mapping(|address, _, entry| {
            count += 1;
            for (window, seen) in [kernel_map::STACKS, kernel_map::HEAP, kernel_map::DEVICES].iter().zip(&mut windows) {
                *seen |= window.contains(&address);
            }
            let executable = !entry.contains(Flags::NO_EXECUTE);
            assert!(!has_nx || !entry.contains(Flags::WRITABLE) || !executable, "{address:#x} is writable and executable");
            assert!(!entry.contains(Flags::USER_ACCESSIBLE), "{address:#x} is the user's");
            assert!(!features().pge || entry.contains(Flags::GLOBAL), "{address:#x} isn't global");
        });
        assert!(count > 500, "only {count} mappings were seen");
        assert_eq!(windows, [true; 3], "stacks, heap, devices");
    }

    fn the_direct_map_has_all_memory_in_the_largest_pages_there_are() {
        for region in boot::information().memory_map.usable() {
            for physical in (region.start.as_u64()..region.end.as_u64()).step_by(crate::PAGE_SIZE) {
                let mapped = kernel_map::translate(direct_map::BASE + physical).map(|(_, address)| address.as_u64());
                assert_eq!(mapped, Some(physical));
            }
        }
        // Pages of one size that follow each other; none of them could have been one of the next size.
        let (mut run, mut run_span) = (0..0, PAGE);
        let largest_span = if features().one_gib_pages { 1 << 30 } else { 2 << 20 };
        let assert_small_enough = |run: &Range<u64>, span: u64| {
            let start = run.start.max(kernel_map::build::small_pages_end()).next_multiple_of(span * 512);
            assert!(span == largest_span || start + span * 512 > run.end, "{run:x?} in pages of {span:#x}");
        };
        kernel_map::for_each_mapping(|address, span, _| {
            let Some(physical) = address.checked_sub(direct_map::BASE).filter(|_| address < direct_map::END) else { return };
            if physical == run.end && span == run_span {
                run.end += span;
            } else {
                assert_small_enough(&run, run_span);
                (run, run_span) = (physical..physical + span, span);
            }
        });
        assert_small_enough(&run, run_span);
    }

    fn all_usable_memory_is_the_allocators_but_for_what_the_kernel_holds() {
        let information = boot::information();
        let usable = information.memory_map.usable_bytes();
        let end = information.memory_map.usable().map(|region| region.end.as_u64()).max().expect("memory");
        let bytes = |range: Range<u64>| range.end - range.start;
        let image = bytes(image::physical_range()) - bytes(image::boot_part());
        let module: u64 = information.modules.first().map_or(0, |module| module.range.size_bytes());
        let entries = end / PAGE * 16;
        let managed = frames::counts().total as u64 * PAGE;
        let missing = usable - managed - image - module - entries;
        // The first MiB, and the kernel's page tables: one for each upper entry, and one for each GiB of the direct map.
        assert!(missing < (1 << 20) + (256 + 16) * PAGE + end / (1 << 30) * PAGE, "{missing} bytes are nobody's");
    }

    fn what_the_loader_left_is_given_back_and_what_is_in_use_is_not() {
        for held in &boot::information().held {
            let first = held.range.start.align_up(PAGE);
            let is_whole_page = first + PAGE <= held.range.end;
            let is_given_back = !frames::is_reserved(PhysFrame::containing_address(first));
            let expected = held.holder == Holder::BootInformation && first.as_u64() >= 1 << 20;
            assert!(!is_whole_page || held.holder == Holder::Kernel || is_given_back == expected, "{held:?}");
        }
        let first_of = |range: Range<u64>| PhysFrame::containing_address(PhysAddr::new(range.start));
        assert!(!frames::is_reserved(first_of(image::boot_part())));
        assert!(frames::is_reserved(first_of(image::boot_part().end..image::physical_range().end)));
    }

    fn the_lower_half_of_the_kernels_own_table_is_empty() {
        // SAFETY: the kernel's root lives for ever; it is only read.
        let table = unsafe { Table::in_frame(kernel_map::root()) };
        assert!(table.slots().iter().take(256).all(|slot| slot.get().is_empty()));
    }

    fn the_upper_half_is_present_and_the_same_in_all_page_tables() {
        let kernel = upper_half(kernel_map::root());
        assert!(kernel.iter().all(|entry| entry.is_present()));
        let mut space = AddressSpace::new().expect("memory");
        let child = space.clone_for_fork().expect("memory");
        assert!(upper_half(space.page_table_frame()) == kernel);
        assert!(upper_half(child.page_table_frame()) == kernel);
    }

    fn a_mapping_made_in_kernel_space_is_seen_under_an_older_page_table() {
        // The first page under a top-level entry that leads to nothing yet.
        const NOBODYS: u64 = 0xffff_f000_0000_0000;
        let space = AddressSpace::new().expect("memory");
        let page = frames::PageRef::new_zeroed().expect("memory");
        kernel_map::map_page(NOBODYS, page.frame(), kernel_map::Caching::WriteBack).expect("memory");
        with_loaded(space.page_table_frame(), || {
            assert_eq!(probe::write(NOBODYS), Ok(()));
            assert_eq!(kernel_map::unmap_page(NOBODYS), Some(page.frame()));
            assert_eq!(probe::read(NOBODYS), Err(0), "gone at once, though global");
        });
    }

    fn a_stack_made_later_is_mapped_under_an_older_page_table() {
        let space = AddressSpace::new().expect("memory");
        let stacks: Vec<_> = (0..40).map(|_| kernel_stack::KernelStack::new().expect("memory")).collect();
        let last = stacks.last().expect("forty stacks");
        with_loaded(space.page_table_frame(), || {
            assert_eq!(probe::write(last.bottom()), Ok(()));
            assert!(probe::write(last.bottom() - 1).is_err(), "its guard");
        });
    }

    fn a_page_table_that_is_dropped_while_loaded_is_left_first() {
        let (before, flags) = Cr3::read();
        let space = AddressSpace::new().expect("memory");
        // SAFETY: as in `with_loaded`.
        unsafe { Cr3::write(space.page_table_frame(), flags) };
        drop(space);
        assert_eq!(Cr3::read().0, kernel_map::root());
        // SAFETY: what was loaded before.
        unsafe { Cr3::write(before, flags) };
    }

    fn a_guard_page_is_known_by_its_owner() {
        let stack = kernel_stack::KernelStack::new().expect("memory");
        stack.set_owner(4711);
        assert_eq!(kernel_stack::owner_of_guard(stack.bottom() - 8), Some(GuardOwner::Thread(4711)));
        assert_eq!(kernel_stack::owner_of_guard(stack.bottom()), None);
        assert_eq!(probe::read(stack.bottom() - 8), Err(0), "it isn't mapped");
        let boot_guard = image::guard_below_boot_stack();
        assert_eq!(kernel_stack::owner_of_guard(boot_guard + 4095), Some(GuardOwner::Boot));
        assert_eq!(probe::read(boot_guard + 4095), Err(0));
        assert_eq!(probe::read(boot_guard + 4096), Ok(()));
        for guard in gdt::guard_pages().map(VirtAddr::as_u64) {
            assert_eq!(kernel_stack::owner_of_guard(guard), Some(GuardOwner::Interrupt));
        }
        assert_eq!(stack.top() % 16, 0);
    }

    fn text_and_constants_are_not_writable_and_data_does_not_run() {
        extern "C" fn nothing() {}
        static CONSTANT: [u8; 64] = [0xc3; 64];
        static VARIABLE: AtomicU64 = AtomicU64::new(0xc3c3_c3c3_c3c3_c3c3);
        let data = alloc::boxed::Box::new([0xc3_u8; 64]);
        assert_eq!(probe::execute(nothing as *const () as u64), Ok(()));
        assert_eq!(probe::write(nothing as *const () as u64), Err(PRESENT | WRITE));
        assert_eq!(probe::write(CONSTANT.as_ptr() as u64), Err(PRESENT | WRITE));
        let (_, physical) = kernel_map::translate(nothing as *const () as u64).expect("it runs");
        assert_eq!(probe::write(direct_map::pointer(physical) as u64), Err(PRESENT | WRITE), "by its other address");
        assert_eq!(probe::write(data.as_ptr() as u64), Ok(()));
        let expected = if features().nx { Err(PRESENT | FETCH) } else { Ok(()) };
        assert_eq!(probe::execute(data.as_ptr() as u64), expected);
        assert_eq!(probe::execute(CONSTANT.as_ptr() as u64), expected);
        assert_eq!(probe::write(VARIABLE.as_ptr() as u64), Ok(()));
        assert_eq!(probe::execute(VARIABLE.as_ptr() as u64), expected);
    }

    fn the_boot_page_tables_identity_mapping_is_gone() {
        assert_eq!(probe::read(0x10_0000), Err(0));
        assert_eq!(probe::read(8), Err(0));
    }

    fn smap_and_smep_keep_the_kernel_off_user_pages() {
        let mut space = AddressSpace::new().expect("memory");
        let protection = RW | Protection::EXECUTE;
        let address = space.map(Placement::Anywhere, PAGE, Mapping::anonymous(protection)).expect("room");
        space.write_bytes(address, &[0xc3]).expect("memory");
        with_loaded(space.page_table_frame(), || {
            let refused_if = |refused: bool, code: u64| if refused { Err(code) } else { Ok(()) };
            assert_eq!(probe::read(address), refused_if(features().smap, PRESENT));
            let fetch = if features().nx || features().smep { FETCH } else { 0 };
            assert_eq!(probe::execute(address), refused_if(features().smep, PRESENT | fetch));
        });
    }

    fn a_thousand_address_spaces_leave_nothing_behind() {
        let make = || {
            let mut space = AddressSpace::new().expect("memory");
            for start in [0x40_0000, 0x5555_5555_4000, 0x7fff_0000_0000] {
                space.map(Placement::Fixed(start), 8 * PAGE, Mapping::anonymous(RW)).expect("room");
                space.populate(start..start + 8 * PAGE).expect("memory");
            }
            drop(space.clone_for_fork().expect("memory"));
        };
        make();
        let (before, heap_before) = (used_frames(), heap::counts().used_bytes);
        (0..1000).for_each(|_| make());
        assert_eq!(used_frames(), before);
        assert_eq!(heap::counts().used_bytes, heap_before);
    }

    /// The tests' build asserts the order of locks: dropped any earlier, the file system would take the tree's lock too late.
    fn unmapping_the_last_of_a_file_system_keeps_the_order_of_locks() {
        let (before, heap_before) = (used_frames(), heap::counts().used_bytes);
        let attributes = Attributes { mode: 0o755, user: 0, group: 0 };
        let (file_system, root) = tmpfs::new(Kind::Tmpfs, 10, attributes).expect("memory");
        let mount = mount::detached(&file_system, &root, b"gone", MountFlags::empty()).expect("memory");
        let place = Location { mount, dentry: root };
        let (fs, credentials) = (FsContext::new(place.clone(), place).expect("memory"), Credentials::root());
        let flags = OpenFlags::CREATE | OpenFlags::READ_WRITE;
        let file = open(&fs.with(&credentials), None, b"file", flags, 0o644).expect("a new file");
        drop((fs, file_system));
        let mut space = AddressSpace::new().expect("memory");
        let start = space.map(Placement::Anywhere, PAGE, Mapping::shared(RW, RW, file, 0)).expect("room");
        let space = Lock::new(Rank::AddressSpace, space);
        let removed = {
            let mut space = space.lock();
            space.unmap(start..start + PAGE).expect("an area");
            space.take_removed()
        };
        drop((removed, space));
        assert_eq!(used_frames(), before);
        assert_eq!(heap::counts().used_bytes, heap_before);
    }

    /// What a private view of an object holds is in its pages alone: where moving it fails, they must still be there.
    fn a_mapping_that_can_not_be_moved_keeps_its_pages() {
        const TARGET: u64 = 0x7000_0000;
        for point in 0.. {
            let mut space = AddressSpace::new().expect("memory");
            let object = Arc::new(SharedObject::new(PAGE).expect("memory"));
            let start = space.map(Placement::Anywhere, PAGE, Mapping::private(RW, object, 0)).expect("room");
            space.write_bytes(start, b"kept").expect("memory");
            fault_injection::arm(&[Point::HeapAllocation, Point::FrameAllocation], point);
            let moved = space.remap(start..start + PAGE, 2 * PAGE, Move::To(TARGET));
            let delivered = fault_injection::disarm();
            let mut bytes = [0; 4];
            space.read_bytes(moved.unwrap_or(start), &mut bytes).expect("an area");
            assert_eq!((&bytes, space.areas().len()), (b"kept", 1), "point {point}: {moved:?}");
            assert_eq!(moved.is_err(), delivered, "point {point}");
            if !delivered {
                break;
            }
        }
    }

    fn the_heap_gives_back_what_it_took_and_refuses_what_it_cannot_have() {
        let mut sizes: Vec<usize> = Vec::new();
        sizes.extend([1, 16, 17, 100, 2048, 2049, 4096, 5000, 32768, 40_000, 300_000]);
        let take = |size: &usize| {
            let mut block: Vec<u8> = Vec::new();
            block.try_reserve_exact(*size).expect("memory");
            block.resize(*size, 0xa5);
            block
        };
        let blocks: Vec<_> = sizes.iter().map(take).collect();
        assert!(blocks.iter().all(|block| block.iter().all(|&byte| byte == 0xa5)));
        drop(blocks);
        let before = heap::counts();
        let blocks: Vec<_> = sizes.iter().map(take).collect();
        assert!(heap::counts().used_bytes > before.used_bytes + 300_000);
        drop(blocks);
        assert_eq!(heap::counts(), before);
        let mut huge: Vec<u8> = Vec::new();
        assert!(huge.try_reserve_exact(1 << 44).is_err());
        assert!(huge.try_reserve_exact(frames::counts().total * 4096).is_err());
        assert_eq!(heap::counts(), before);
    }

    fn all_pipes_together_hold_their_share_of_memory_and_each_works_beyond_it() {
        const PAGES: usize = 5;
        let before = pipe_buffer::pages_used();
        let bytes = alloc::vec![7; 12 * PAGE as usize];
        let whole = |pages: usize| Ok(pages * PAGE as usize);
        pipe_buffer::limit_all_pipes((before + PAGES) * pipe_buffer::MEMORY_SHARE);
        let (mut first, mut second) = (PipeBuffer::new(), PipeBuffer::new());
        assert_eq!(first.fill(&mut SliceSource(&bytes), false), whole(PAGES));
        assert_eq!(pipe_buffer::pages_used(), before + PAGES);
        for _ in 0..2 {
            assert_eq!(second.fill(&mut SliceSource(&bytes), false), whole(1));
            assert_eq!(second.fill(&mut SliceSource(&bytes), false), whole(0));
            assert_eq!(second.drain(&mut SliceSink::new(&mut [0; PAGE as usize])), whole(1));
        }
        drop(first);
        assert!(second.fill(&mut SliceSource(&bytes), false).is_ok());
        assert_eq!(pipe_buffer::pages_used(), before + PAGES);
        drop(second);
        assert_eq!(pipe_buffer::pages_used(), before);
        pipe_buffer::limit_all_pipes(frames::counts().total);
    }

    fn a_large_block_is_refused_where_programs_have_taken_all_memory() {
        // Listed frame by frame: the list itself must not need memory that there isn't any more.
        let mut taken = None;
        while let Ok(page) = frames::PageRef::new() {
            // SAFETY: a whole page of our own; its first word holds the one that was taken before.
            unsafe { page.pointer().cast::<Option<PhysFrame>>().write(taken) };
            taken = Some(page.into_frame());
        }
        let mut block: Vec<u8> = Vec::new();
        // Less than what is left for the kernel, so that growing for it is tried.
        let refused = block.try_reserve_exact(1 << 20).is_err();
        while let Some(frame) = taken {
            let page = frames::PageRef::from_frame(frame);
            // SAFETY: as above.
            taken = unsafe { page.pointer().cast::<Option<PhysFrame>>().read() };
        }
        assert!(refused);
    }

    fn a_device_is_mapped_where_it_is_asked_for() {
        let page = frames::PageRef::new_zeroed().expect("memory");
        page.write(0x123, b"device");
        let physical = page.frame().start_address() + 0x123;
        let mapped = device_map::map_device(physical, 6, kernel_map::Caching::Uncached).expect("room");
        // SAFETY: six bytes that were just mapped.
        assert_eq!(unsafe { core::slice::from_raw_parts(mapped, 6) }, b"device");
        assert_eq!(kernel_map::translate(mapped as u64).map(|(_, physical)| physical), Some(physical));
    }
}
