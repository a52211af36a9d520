//! Do frames come back, apart from each other and whole?

use super::*;
use crate::memory::early::FreeRanges;
use std::collections::HashMap;

/// A small generator of pseudo-random numbers (xorshift64*), so that a failing run can be repeated.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % limit
    }
}

#[test]
fn does_every_frame_come_back() {
    let before = counts();
    let mut taken = Vec::new();
    while let Ok(frame) = allocate() {
        taken.push(frame);
    }
    assert_eq!(counts().free, 0);
    assert_eq!(taken.len(), before.free);
    let mut addresses: Vec<u64> = taken.iter().map(|frame| frame.start_address().as_u64()).collect();
    addresses.sort_unstable();
    addresses.dedup();
    assert_eq!(addresses.len(), taken.len(), "a frame was handed out twice");
    taken.into_iter().for_each(release);
    assert_eq!(counts(), before);
    let run = allocate_run(MAX_ORDER).expect("free frames were merged into large runs again");
    release_run(run, MAX_ORDER);
    assert_eq!(counts(), before);
}

#[test]
fn user_memory_cannot_take_the_kernels_last_frames() {
    let mut taken = Vec::new();
    while let Ok(frame) = allocate_for_user() {
        taken.push(frame);
    }
    assert!(counts().free >= 32);
    release(allocate().expect("the kernel still gets one"));
    taken.into_iter().for_each(release);
}

#[test]
fn do_runs_and_frames_never_overlap() {
    let before = counts();
    let mut random = Random(7);
    let mut runs: Vec<(u64, u8)> = Vec::new();
    let mut owner: HashMap<u64, u64> = HashMap::new();
    for step in 0..20_000 {
        if random.below(100) < 55 {
            let order = if random.below(3) == 0 { random.below(7) as u8 } else { 0 };
            let Ok(frame) = (if order == 0 { allocate() } else { allocate_run(order) }) else { continue };
            let first = frame.start_address().as_u64() / PAGE_SIZE as u64;
            assert_eq!(first % (1 << order), 0, "a run is aligned to its size");
            for index in first..first + (1 << order) {
                assert_eq!(owner.insert(index, step), None, "frame {index} handed out twice");
            }
            runs.push((first, order));
        } else if !runs.is_empty() {
            let (first, order) = runs.swap_remove(random.below(runs.len() as u64) as usize);
            for index in first..first + (1 << order) {
                owner.remove(&index);
            }
            if order == 0 { release(frame_at(first as u32)) } else { release_run(frame_at(first as u32), order) }
        }
        assert_eq!(counts().free + owner.len(), before.free);
    }
    for (first, order) in runs {
        if order == 0 { release(frame_at(first as u32)) } else { release_run(frame_at(first as u32), order) }
    }
    assert_eq!(counts(), before);
}

#[test]
fn a_shared_frame_lives_until_its_last_owner() {
    let before = counts().free;
    let page = PageRef::new_zeroed().expect("memory is free");
    let other = page.clone();
    assert_eq!(reference_count(page.frame()), 2);
    page.write(4094, b"abcd");
    drop(page);
    let mut bytes = [9; 4];
    assert_eq!(other.read(4094, &mut bytes), 2);
    assert_eq!(&bytes, b"ab\x09\x09");
    drop(other);
    assert_eq!(counts().free, before);
}

#[test]
fn giving_back_twice_gives_once() {
    let table = FrameTable::new();
    let memory = direct_map::simulated::memory();
    let place = allocate_run(4).expect("memory is free");
    // The table and the frame of zeros lie first; both are in the run that stands for them.
    let pointer = |address| direct_map::frame_pointer(place).wrapping_add(address as usize % (16 * PAGE_SIZE));
    let mut free = FreeRanges::new([2 << 20..4 << 20, 5 << 20..6 << 20].into_iter(), [].into_iter());
    table.init(&mut free, pointer);
    let before = table.counts().total;
    assert_eq!(before, 3 * 256 - 6, "the table of 1,536 entries took six frames");
    table.give_back((4 << 20) + 5..(4 << 20) + 3 * 4096 + 7);
    table.give_back((4 << 20)..(5 << 20) + 4096);
    assert_eq!(table.counts().total, before + 256);
    assert_eq!(table.counts().free, before + 256 - 1, "one holds the zeros");
    table.give_back(0..u64::MAX);
    table.give_back(0..u64::MAX);
    assert_eq!(table.counts().total, 1536);
    assert!(memory.base != 0);
    release_run(place, 4);
}

#[test]
fn are_six_gib_with_holes_all_there_to_be_had() {
    const GIB: u64 = 1 << 30;
    const FRAMES_PER_GIB: usize = (GIB / PAGE_SIZE as u64) as usize;
    let usable = [GIB..3 * GIB, 0..0x9_f000, 4 * GIB..8 * GIB + 4096, 500 * GIB..500 * GIB + (8 << 20)];
    let reserved = [4 * GIB + (1 << 20)..4 * GIB + (2 << 20)];
    let mut free = FreeRanges::new(usable.into_iter(), reserved.into_iter());
    // Only the table itself is written to, and the frame of zeros, which comes out of memory last touched by nobody.
    let table_bytes = (8 * FRAMES_PER_GIB + 1) * 16;
    let mut place = vec![0_u128; table_bytes / 16];
    let mut zeros = vec![0_u128; PAGE_SIZE / 16];
    let (place, zeros): (*mut u8, *mut u8) = (place.as_mut_ptr().cast(), zeros.as_mut_ptr().cast());
    let table = FrameTable::new();
    table.init(&mut free, |address| if address == GIB { place } else { zeros });
    let expected = 6 * FRAMES_PER_GIB + 1 - 256 - table_bytes.div_ceil(PAGE_SIZE);
    assert_eq!(
        table.counts(),
        Counts { total: expected, free: expected - 1 },
        "a small far-away piece isn't worth its table"
    );
    let mut runs = Vec::new();
    while let Ok(run) = table.allocate_run(MAX_ORDER) {
        runs.push(run);
    }
    assert!(runs.len() >= 6 * 256 - 10, "{} of 1,536 large runs", runs.len());
    assert!(runs.iter().any(|run| run.start_address().as_u64() >= 7 * GIB));
    runs.into_iter().for_each(|run| table.release_run(run, MAX_ORDER));
    assert_eq!(table.counts().free, expected - 1);
}
