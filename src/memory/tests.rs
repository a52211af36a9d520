//! Address spaces against a simple model: random operations on several that share objects and fork, with a simulated processor
//! whose TLB forgets only what it is told to.

use super::areas::PAGE;
use super::faults::{Access, FaultOutcome, FaultRefusal};
use super::remap::Move;
use super::tlb::{self, Stale};
use super::*;
use crate::errno::Errno;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use x86_64::structures::paging::PageTableFlags as Flags;

const OBJECT_PAGES: u64 = 24;
/// The pages under test cross from one level-1 table to the next, at 4 MiB.
const FIRST_PAGE: u64 = 0x400 - 20;
const PAGES: u64 = 48;

const RW: Protection = Protection::READ.union(Protection::WRITE);

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % limit
    }

    fn protection(&mut self) -> Protection {
        Protection::from_bits_truncate(self.below(8) as u8)
    }

    fn range(&mut self) -> std::ops::Range<u64> {
        let start = self.below(PAGES);
        let length = 1 + self.below(8.min(PAGES - start));
        FIRST_PAGE + start..FIRST_PAGE + start + length
    }
}

struct Object(Vec<PageRef>);

impl Object {
    fn new() -> Arc<Self> {
        let page = |index| {
            let page = PageRef::new_zeroed().expect("memory is free");
            page.write(0, &u64::to_le_bytes(1_000_000 + index));
            page
        };
        Arc::new(Self((0..OBJECT_PAGES).map(page).collect()))
    }

    fn value(&self, index: u64) -> u64 {
        value_in(&self.0[index as usize])
    }
}

impl PageSource for Object {
    fn page(&self, index: u64, _: bool) -> Result<PageRef, Errno> {
        self.0.get(index as usize).cloned().ok_or(Errno::EFAULT)
    }

    /// Every other two: what lies between is found when it is touched.
    fn for_each_resident(&self, pages: std::ops::Range<u64>, visit: &mut dyn FnMut(u64, &PageRef)) {
        pages.filter(|index| index & 2 == 0).for_each(|index| {
            if let Some(page) = self.0.get(index as usize) {
                visit(index, page);
            }
        });
    }
}

fn value_in(page: &PageRef) -> u64 {
    let mut bytes = [0; 8];
    page.read(0, &mut bytes);
    u64::from_le_bytes(bytes)
}

/// What the model knows of a page: where its contents come from, and its own value once written privately.
#[derive(Clone, Copy, Debug, PartialEq)]
struct ModelPage {
    protection: Protection,
    object_index: Option<u64>,
    is_shared: bool,
    own_value: Option<u64>,
}

type Model = BTreeMap<u64, ModelPage>;

/// A processor with a TLB that keeps everything until it is told otherwise.
#[derive(Default)]
struct Processor {
    loaded: usize,
    cached: HashMap<u64, page_table::Entry>,
}

impl Processor {
    fn load(&mut self, number: usize) {
        self.loaded = number;
        self.cached.clear();
    }

    fn obey_flushes(&mut self, spaces: &[AddressSpace]) {
        for (root, stale) in tlb::tests::FLUSHES.take() {
            let is_loaded = spaces.get(self.loaded).is_some_and(|space| space.page_table_frame() == root);
            match stale {
                Stale::Page(address) if is_loaded => drop(self.cached.remove(&(address / PAGE))),
                Stale::Many if is_loaded => self.cached.clear(),
                _ => {}
            }
        }
    }

    /// Does what the hardware does, faults included, and returns the page that was reached.
    fn touch(&mut self, spaces: &mut [AddressSpace], page: u64, access: Access) -> Result<PageRef, FaultRefusal> {
        let needed = match access {
            Access::Write => Flags::PRESENT | Flags::WRITABLE,
            _ => Flags::PRESENT,
        };
        let allows = |entry: &page_table::Entry| {
            entry.contains(needed) && !(access == Access::Execute && entry.contains(Flags::NO_EXECUTE))
        };
        for _ in 0..3 {
            let cached = self.cached.get(&page).copied().filter(allows);
            let entry = cached.or_else(|| {
                // A miss, or missing rights: the tables are walked anew.
                let entry = spaces[self.loaded].table.slot(page * PAGE)?.get();
                allows(&entry).then_some(entry)
            });
            if let Some(entry) = entry {
                self.cached.insert(page, entry);
                frames::share(entry.frame());
                return Ok(PageRef::from_frame(entry.frame()));
            }
            // A fault drops the address's translation (SDM 3A §4.10.4.1).
            self.cached.remove(&page);
            spaces[self.loaded].resolve_fault(page * PAGE, access)?;
            self.obey_flushes(spaces);
        }
        panic!("resolved and still faulting");
    }
}

struct World {
    random: Random,
    object: Arc<Object>,
    spaces: Vec<AddressSpace>,
    models: Vec<Model>,
    processor: Processor,
    next_value: u64,
}

impl World {
    fn step(&mut self) {
        let number = self.random.below(self.spaces.len() as u64) as usize;
        match self.random.below(100) {
            0..12 => self.map(number),
            12..20 => self.unmap(number),
            20..30 => self.protect(number),
            30..34 => self.discard(number),
            34..38 => self.remap(number),
            38..40 => self.fork(number),
            40..42 => self.end(number),
            42..48 => self.processor.load(number),
            48..51 => self.write_forced(number),
            _ => self.touch(),
        }
        self.processor.obey_flushes(&self.spaces);
    }

    fn map(&mut self, number: usize) {
        let (range, protection) = (self.random.range(), self.random.protection());
        let offset = self.random.below(OBJECT_PAGES + 2);
        let kind = self.random.below(4);
        let mapping = match kind {
            0 => Mapping::private(protection, self.object.clone(), offset * PAGE),
            1 => Mapping::shared(protection, Protection::all(), self.object.clone(), offset * PAGE),
            _ => Mapping::anonymous(protection),
        };
        let length = (range.end - range.start) * PAGE;
        self.spaces[number].map(Placement::Fixed(range.start * PAGE), length, mapping).expect("there is room");
        for page in range.clone() {
            let object_index = (kind < 2).then_some(offset + (page - range.start));
            let new = ModelPage { protection, object_index, is_shared: kind == 1, own_value: None };
            self.models[number].insert(page, new);
        }
    }

    fn unmap(&mut self, number: usize) {
        let range = self.random.range();
        self.spaces[number].unmap(range.start * PAGE..range.end * PAGE).expect("there is memory");
        self.models[number].retain(|page, _| !range.contains(page));
    }

    fn protect(&mut self, number: usize) {
        let (range, protection) = (self.random.range(), self.random.protection());
        let result = self.spaces[number].protect(range.start * PAGE..range.end * PAGE, protection);
        let model = &mut self.models[number];
        let covered = range.clone().take_while(|page| model.contains_key(page)).count() as u64;
        for page in range.start..range.start + covered {
            model.get_mut(&page).unwrap().protection = protection;
        }
        assert_eq!(result, if range.start + covered == range.end { Ok(()) } else { Err(Errno::ENOMEM) });
    }

    fn discard(&mut self, number: usize) {
        let range = self.random.range();
        let result = self.spaces[number].discard(range.start * PAGE..range.end * PAGE);
        let model = &mut self.models[number];
        let is_covered = range.clone().all(|page| model.contains_key(&page));
        assert_eq!(result.is_ok(), is_covered);
        model.range_mut(range).for_each(|(_, page)| page.own_value = None);
    }

    fn remap(&mut self, number: usize) {
        let (old, target) = (self.random.range(), self.random.range());
        let (old_bytes, new_pages) = (old.start * PAGE..old.end * PAGE, target.end - target.start);
        let result = self.spaces[number].remap(old_bytes.clone(), new_pages * PAGE, Move::To(target.start * PAGE));
        let Ok(address) = result else { return };
        assert_eq!(address, target.start * PAGE);
        let model = &mut self.models[number];
        let moved: Vec<ModelPage> = old.clone().map(|page| model[&page]).collect();
        model.retain(|page, _| !old.contains(page) && !target.contains(page));
        for (index, page) in target.enumerate() {
            let grown = ModelPage {
                object_index: moved[0].object_index.map(|first| first + index as u64),
                own_value: None,
                ..moved[0]
            };
            model.insert(page, moved.get(index).copied().unwrap_or(grown));
        }
    }

    fn fork(&mut self, number: usize) {
        if self.spaces.len() < 4 {
            let child = self.spaces[number].clone_for_fork().expect("there is memory");
            self.spaces.push(child);
            self.models.push(self.models[number].clone());
        }
    }

    fn end(&mut self, number: usize) {
        if self.spaces.len() > 1 {
            self.spaces.remove(number);
            self.models.remove(number);
            self.processor.load(0);
        }
    }

    fn expected_value(&self, page: &ModelPage) -> Option<u64> {
        match (page.own_value, page.object_index) {
            (Some(value), _) => Some(value),
            (None, None) => Some(0),
            (None, Some(index)) => (index < OBJECT_PAGES).then(|| self.object.value(index)),
        }
    }

    fn touch(&mut self) {
        let number = self.processor.loaded;
        let page = FIRST_PAGE + self.random.below(PAGES);
        let access = [Access::Read, Access::Write, Access::Execute][self.random.below(3) as usize];
        let reached = self.processor.touch(&mut self.spaces, page, access);
        let known = self.models[number].get(&page).copied();
        let expected = known.and_then(|page| self.expected_value(&page));
        let is_allowed = known.is_some_and(|page| match access {
            Access::Read => !page.protection.is_empty(),
            Access::Write => page.protection.contains(Protection::WRITE),
            Access::Execute => page.protection.contains(Protection::EXECUTE),
        });
        match reached {
            Err(refusal) => {
                let why = match (known, is_allowed) {
                    (None, _) => FaultRefusal::Unmapped,
                    (_, false) => FaultRefusal::Denied,
                    _ => FaultRefusal::NoSuchPage,
                };
                assert_eq!(refusal, why);
                assert!(!is_allowed || expected.is_none());
            }
            Ok(frame) => {
                assert!(is_allowed, "an access that the model forbids: {access:?} of {known:?}");
                assert_eq!(Some(value_in(&frame)), expected, "wrong contents at page {page:#x} of {number}");
                if access == Access::Write {
                    self.next_value += 1;
                    frame.write(0, &self.next_value.to_le_bytes());
                    self.written(number, page);
                }
            }
        }
    }

    /// What exec does: writes whatever the protection.
    fn write_forced(&mut self, number: usize) {
        let page = FIRST_PAGE + self.random.below(PAGES);
        let Some(known) = self.models[number].get(&page).copied() else { return };
        if known.is_shared || self.expected_value(&known).is_none() {
            return;
        }
        self.next_value += 1;
        let value = self.next_value.to_le_bytes();
        self.spaces[number].write_bytes(page * PAGE, &value).expect("private areas take forced writes");
        self.written(number, page);
    }

    fn written(&mut self, number: usize, page: u64) {
        let known = self.models[number].get_mut(&page).unwrap();
        if !known.is_shared {
            known.own_value = Some(self.next_value);
        }
    }

    /// Areas, counts and entries agree with the model.
    fn check(&self) {
        for (space, model) in self.spaces.iter().zip(&self.models) {
            let mut pages = Model::new();
            let mut data = 0;
            for area in space.areas().iter() {
                assert!(area.start < area.end);
                data += if area.mapping.is_data() { area.pages() } else { 0 };
                for page in area.start / PAGE..area.end / PAGE {
                    let known = model.get(&page).expect("an area where nothing was mapped");
                    assert_eq!(area.mapping.protection, known.protection);
                    assert_eq!(area.page_in_object(page * PAGE).map(|(_, index)| index), known.object_index);
                    pages.insert(page, *known);
                }
            }
            assert_eq!(pages.len(), model.len());
            assert_eq!(space.mapped_bytes(), model.len() as u64 * PAGE);
            assert_eq!(space.data_bytes(), data * PAGE);
            let mut resident = 0;
            space.table.for_each_page(0..USER_END, |address, slot| {
                let (entry, known) = (slot.get(), &model[&(address / PAGE)]);
                assert_eq!(entry.is_present(), !known.protection.is_empty());
                assert!(!entry.contains(Flags::WRITABLE) || known.protection.contains(Protection::WRITE));
                assert!(entry.contains(Flags::NO_EXECUTE) != known.protection.contains(Protection::EXECUTE));
                resident += 1;
            });
            assert_eq!(space.resident_bytes(), resident * PAGE);
        }
    }
}

#[test]
fn areas_pages_and_tlb_against_a_model_under_random_operations() {
    let before = frames::counts();
    let mut world = World {
        random: Random(0x5eed),
        object: Object::new(),
        spaces: vec![AddressSpace::new().expect("memory is free")],
        models: vec![Model::new()],
        processor: Processor::default(),
        next_value: 0,
    };
    for step in 0..100_000 {
        world.step();
        if step % 50 == 0 {
            world.check();
        }
    }
    drop(world);
    frames::trim();
    assert_eq!(frames::counts(), before, "a frame was lost");
}

#[test]
fn copy_on_write_with_two_and_three_sharers() {
    let before = frames::counts();
    let mut parent = AddressSpace::new().unwrap();
    let address = parent.map(Placement::Anywhere, PAGE, Mapping::anonymous(RW)).unwrap();
    assert_eq!(parent.resolve_fault(address, Access::Write), Ok(FaultOutcome::DemandZero));
    let mut first = parent.clone_for_fork().unwrap();
    let mut second = first.clone_for_fork().unwrap();
    assert_eq!(parent.resolve_fault(address, Access::Write), Ok(FaultOutcome::CopyOnWrite));
    assert_eq!(second.resolve_fault(address, Access::Read), Ok(FaultOutcome::Spurious));
    assert_eq!(second.resolve_fault(address, Access::Write), Ok(FaultOutcome::CopyOnWrite));
    assert_eq!(first.resolve_fault(address, Access::Write), Ok(FaultOutcome::MadeWritable), "it is the last one");
    drop((parent, first, second));
    frames::trim();
    assert_eq!(frames::counts(), before);
}

#[test]
fn does_reading_fresh_memory_take_no_frame() {
    let mut space = AddressSpace::new().unwrap();
    let address = space.map(Placement::Anywhere, 4 * PAGE, Mapping::anonymous(RW)).unwrap();
    assert_eq!(space.resolve_fault(address, Access::Read), Ok(FaultOutcome::SharedZero));
    let free = frames::counts().free;
    assert_eq!(space.resolve_fault(address + PAGE, Access::Read), Ok(FaultOutcome::SharedZero));
    assert_eq!(frames::counts().free, free);
    assert_eq!(space.resolve_fault(address, Access::Write), Ok(FaultOutcome::DemandZero));
    assert_eq!(space.resolve_fault(address, Access::Execute), Err(FaultRefusal::Denied));
}

#[test]
fn does_a_stack_grow_to_its_limit_and_no_further() {
    let mut space = AddressSpace::new().unwrap();
    space.limits.stack = 64 * PAGE;
    let top = 0x7fff_0000_0000;
    let mut stack = Mapping::anonymous(RW);
    stack.flags = AreaFlags::GROWS_DOWN | AreaFlags::STACK;
    space.map(Placement::Fixed(top - 2 * PAGE), 2 * PAGE, stack).unwrap();
    assert_eq!(space.resolve_fault(top - 10 * PAGE + 8, Access::Write), Ok(FaultOutcome::StackGrowth));
    assert_eq!(space.resolve_fault(top - 64 * PAGE, Access::Write), Ok(FaultOutcome::StackGrowth));
    assert_eq!(space.resolve_fault(top - 64 * PAGE - 1, Access::Write), Err(FaultRefusal::Unmapped));
    assert_eq!(space.mapped_bytes(), 64 * PAGE);
    space.limits.stack = u64::MAX;
    let below = top - 400 * PAGE;
    space.map(Placement::Fixed(below), PAGE, Mapping::anonymous(RW)).unwrap();
    let lowest = below + PAGE + areas::STACK_GUARD_GAP;
    assert_eq!(space.resolve_fault(lowest - 1, Access::Write), Err(FaultRefusal::Unmapped), "in the guard gap");
    assert_eq!(space.resolve_fault(lowest, Access::Write), Ok(FaultOutcome::StackGrowth));
}

#[test]
fn does_the_break_move_both_ways() {
    let before = frames::counts();
    let mut space = AddressSpace::new().unwrap();
    space.set_heap_start(0x60_0123);
    assert_eq!(space.set_break(0), 0x60_0123);
    assert_eq!(space.set_break(0x60_0fff), 0x60_0fff);
    assert_eq!(space.areas().len(), 0, "within the page there is nothing to map");
    assert_eq!(space.set_break(0x64_0001), 0x64_0001);
    assert_eq!(space.resolve_fault(0x64_0800, Access::Write), Ok(FaultOutcome::DemandZero));
    assert_eq!(space.resolve_fault(0x64_1000, Access::Write), Err(FaultRefusal::Unmapped));
    assert_eq!(space.set_break(0x68_0000), 0x68_0000);
    assert_eq!(space.areas().len(), 1, "it stays one area");
    space.map(Placement::Fixed(0x69_0000), PAGE, Mapping::anonymous(RW)).unwrap();
    assert_eq!(space.set_break(0x6a_0000), 0x68_0000, "something is in the way");
    assert_eq!(space.set_break(u64::MAX), 0x68_0000);
    space.limits.data = 0x1_0000;
    assert_eq!(space.set_break(0x68_1000), 0x68_0000);
    assert_eq!(space.set_break(0x60_0200), 0x60_0200);
    assert_eq!(space.resident_bytes(), 0);
    drop(space);
    frames::trim();
    assert_eq!(frames::counts(), before);
}

#[test]
fn are_placements_what_mmap_promises() {
    let mut space = AddressSpace::new().unwrap();
    let anonymous = || Mapping::anonymous(RW);
    let first = space.map(Placement::Anywhere, 5000, anonymous()).unwrap();
    assert_eq!(first + 2 * PAGE, space.mmap_top);
    let second = space.map(Placement::Anywhere, PAGE, anonymous()).unwrap();
    assert_eq!(second, first - PAGE);
    assert_eq!(space.map(Placement::Hint(0x50_0777), PAGE, anonymous()), Ok(0x50_0000));
    assert_eq!(space.map(Placement::Hint(0x50_0000), PAGE, anonymous()), Ok(second - PAGE));
    assert_eq!(space.map(Placement::FixedNoReplace(second), PAGE, anonymous()), Err(Errno::EEXIST));
    assert_eq!(space.map(Placement::Fixed(0x1001), PAGE, anonymous()), Err(Errno::EINVAL));
    assert_eq!(space.map(Placement::Fixed(0x1000), PAGE, anonymous()), Err(Errno::EPERM));
    assert_eq!(space.map(Placement::Fixed(USER_END - PAGE), 2 * PAGE, anonymous()), Err(Errno::ENOMEM));
    assert_eq!(space.map(Placement::Anywhere, 0, anonymous()), Err(Errno::EINVAL));
    assert_eq!(space.map(Placement::Anywhere, u64::MAX, anonymous()), Err(Errno::ENOMEM));
    assert_eq!(space.map(Placement::Anywhere, 1 << 46, anonymous()), Err(Errno::ENOMEM), "more than any memory");
    let mut huge = anonymous();
    huge.flags = AreaFlags::NO_RESERVE;
    assert!(space.map(Placement::Anywhere, 1 << 46, huge).is_ok());
    space.limits.address_space = space.mapped_bytes() + PAGE;
    assert_eq!(space.map(Placement::Anywhere, 2 * PAGE, anonymous()), Err(Errno::ENOMEM));
    assert!(space.map(Placement::Anywhere, PAGE, anonymous()).is_ok());
    assert!(
        space.map(Placement::Fixed(second), 2 * PAGE, anonymous()).is_ok(),
        "replacing needs no more than it takes"
    );
}

#[test]
fn does_replacing_data_need_no_more_of_its_limit() {
    let mut space = AddressSpace::new().unwrap();
    let address = space.map(Placement::Anywhere, 4 * PAGE, Mapping::anonymous(RW)).unwrap();
    space.limits.data = 5 * PAGE;
    assert_eq!(space.map(Placement::Fixed(address), 4 * PAGE, Mapping::anonymous(RW)), Ok(address));
    assert_eq!(space.map(Placement::Anywhere, 2 * PAGE, Mapping::anonymous(RW)), Err(Errno::ENOMEM));
}

#[test]
fn does_a_move_that_finds_no_memory_leave_the_tlb_true() {
    let mut space = AddressSpace::new().unwrap();
    let address = space.map(Placement::Anywhere, PAGE, Mapping::anonymous(RW)).unwrap();
    space.resolve_fault(address, Access::Write).unwrap();
    frames::trim();
    let mut taken = Vec::new();
    while let Ok(page) = PageRef::new() {
        taken.push(page);
    }
    taken.truncate(taken.len() - 2);
    tlb::tests::FLUSHES.take();
    let moved = space.remap(address..address + PAGE, PAGE, Move::To(0x1000_0000));
    assert_eq!(moved, Err(Errno::ENOMEM), "two frames of three");
    assert_eq!(tlb::tests::FLUSHES.take(), [(space.page_table_frame(), Stale::Many)]);
}

#[test]
fn does_a_shared_file_opened_for_reading_stay_read_only() {
    let mut space = AddressSpace::new().unwrap();
    let read = Protection::READ;
    let mapping = Mapping::shared(read, read | Protection::EXECUTE, Object::new(), 0);
    let address = space.map(Placement::Anywhere, 2 * PAGE, mapping).unwrap();
    assert_eq!(space.protect(address..address + PAGE, RW), Err(Errno::EACCES));
    assert_eq!(space.areas().len(), 1);
    assert_eq!(space.write_bytes(address, b"x"), Err(Errno::EFAULT), "nor does a forced write go to the file");
}

#[test]
fn does_an_area_grow_and_move_with_its_pages() {
    let before = frames::counts();
    let mut space = AddressSpace::new().unwrap();
    let address = 0x7000_0000;
    space.map(Placement::Fixed(address), 4 * PAGE, Mapping::anonymous(RW)).unwrap();
    space.write_bytes(address + 3 * PAGE - 2, b"abcd").unwrap();
    assert_eq!(space.remap(address..address + 4 * PAGE, 6 * PAGE, Move::No), Ok(address));
    space.map(Placement::Fixed(address + 6 * PAGE), PAGE, Mapping::anonymous(Protection::READ)).unwrap();
    assert_eq!(space.remap(address..address + 6 * PAGE, 8 * PAGE, Move::No), Err(Errno::ENOMEM));
    let moved = space.remap(address..address + 6 * PAGE, 8 * PAGE, Move::Anywhere).unwrap();
    let mut bytes = [0; 4];
    space.read_bytes(moved + 3 * PAGE - 2, &mut bytes).unwrap();
    assert_eq!(&bytes, b"abcd");
    assert_eq!(space.read_bytes(address, &mut bytes), Err(Errno::EFAULT));
    assert_eq!(space.remap(moved..moved + 8 * PAGE, PAGE, Move::No), Ok(moved));
    assert_eq!(space.remap(moved + PAGE..moved + 2 * PAGE, PAGE, Move::No), Err(Errno::EFAULT));
    assert_eq!(space.mapped_bytes(), 2 * PAGE);
    drop(space);
    frames::trim();
    assert_eq!(frames::counts(), before);
}

#[test]
fn does_running_out_of_memory_leave_everything_as_it_was() {
    let mut parent = AddressSpace::new().unwrap();
    let address = parent.map(Placement::Anywhere, 600 * PAGE, Mapping::anonymous(RW)).unwrap();
    parent.populate(address..address + 600 * PAGE).unwrap();
    frames::trim();
    let mut taken = Vec::new();
    while let Ok(page) = PageRef::new() {
        taken.push(page);
    }
    for spare in 0..5 {
        let before = frames::counts().free;
        assert!(parent.clone_for_fork().is_err(), "{spare} frames are not enough");
        frames::trim();
        assert_eq!(frames::counts().free, before);
        taken.pop();
    }
    assert_eq!(parent.resolve_fault(address, Access::Write), Ok(FaultOutcome::MadeWritable));
    frames::trim();
    while let Ok(page) = PageRef::new() {
        taken.push(page);
    }
    let other = parent.map(Placement::Anywhere, PAGE, Mapping::anonymous(RW)).unwrap();
    assert_eq!(parent.resolve_fault(other, Access::Write), Err(FaultRefusal::OutOfMemory));
    assert!(frames::allocate().is_ok(), "the kernel's own reserve is left");
}

#[test]
fn does_the_digest_see_every_change() {
    let mut space = AddressSpace::new().unwrap();
    let address = space.map(Placement::Anywhere, 4 * PAGE, Mapping::anonymous(RW)).unwrap();
    space.populate(address..address + 4 * PAGE).unwrap();
    let before = space.digest();
    assert_eq!(space.clone_for_fork().unwrap().digest(), before);
    space.write_bytes(address + 3 * PAGE + 4095, &[1]).unwrap();
    assert_ne!(space.digest(), before);
    space.write_bytes(address + 3 * PAGE + 4095, &[0]).unwrap();
    assert_eq!(space.digest(), before);
    space.protect(address..address + PAGE, Protection::READ).unwrap();
    assert_ne!(space.digest(), before);
    space.protect(address..address + PAGE, RW).unwrap();
    assert_eq!(space.digest(), before);
    space.unmap(address..address + PAGE).unwrap();
    assert_ne!(space.digest(), before);
}

#[test]
fn is_the_place_for_a_mapping_always_the_highest_there_is() {
    let mut random = Random(11);
    let mut space = AddressSpace::new().unwrap();
    let mut mapped = Vec::new();
    for _ in 0..5_000 {
        if random.below(10) < 6 || mapped.is_empty() {
            let length = (1 + random.below(4)) * PAGE;
            let expected = space.areas.find_gap_below(space.mmap_top, address_space::LOWEST_MAPPING, length);
            // Every other mapping has another protection, so that neighbours don't join.
            let protection = random.protection();
            let address = space.map(Placement::Anywhere, length, Mapping::anonymous(protection)).unwrap();
            assert_eq!(Some(address), expected);
            mapped.push((address, length));
        } else {
            let (address, length) = mapped.swap_remove(random.below(mapped.len() as u64) as usize);
            if random.below(2) == 0 {
                space.unmap(address..address + length).unwrap();
            } else {
                let moved = space.remap(address..address + length, length + PAGE, Move::Anywhere);
                mapped.extend(moved.map(|address| (address, length + PAGE)));
            }
        }
    }
}
