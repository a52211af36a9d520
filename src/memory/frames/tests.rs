//! Do frames come back, apart from each other and whole?

use super::*;
use crate::memory::early::FreeRanges;
use crate::memory::page_span::PageSpan;
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
fn are_neighbours_found_whether_they_came_back_upwards_or_downwards() {
    let before = counts();
    let mut frames: Vec<PhysFrame> = (0..8).map(|_| allocate().expect("memory is free")).collect();
    frames.sort_unstable();
    assert_eq!(frames[7] - frames[0], 7, "a new table hands out neighbours");
    for _ in ["upwards", "downwards"] {
        frames.iter().for_each(|frame| release(*frame));
        frames.reverse();
        let span = PageSpan::new(8).expect("memory is free");
        assert_eq!((first_of(&span), span.pages()), (frames[0].min(frames[7]), 8));
        // Its frames are taken one by one now, for the next turn.
        drop(span);
        assert!((0..8).all(|_| allocate().is_ok()));
    }
    for index in [0, 2, 4, 6, 1, 3, 5, 7] {
        release(frames[index]);
    }
    let lone = PageSpan::new(8).expect("memory is free");
    assert_eq!((first_of(&lone), lone.pages()), (frames[7], 1));
    drop(lone);
    assert_eq!(counts(), before);
}

fn first_of(span: &PageSpan) -> PhysFrame {
    PhysFrame::containing_address(direct_map::physical(span.bytes().as_ptr()))
}

#[test]
fn does_a_span_leave_the_kernel_its_last_frames_and_give_up_its_end() {
    let before = counts();
    let mut spans = Vec::new();
    while let Ok(span) = PageSpan::new(16) {
        assert!((1..=16).contains(&span.pages()));
        spans.push(span);
    }
    let reserve = before.total / 128;
    assert_eq!(counts().free, reserve.clamp(32, 1024));
    let pages = spans.iter().map(PageSpan::pages).sum::<usize>();
    let mut last = spans.pop().expect("there were some");
    let gone = last.pages();
    last.truncate(1);
    assert_eq!((last.pages(), counts().free), (1, before.free - pages + gone - 1));
    last.truncate(0);
    assert_eq!(last.pages(), 0);
    drop((spans, last));
    assert_eq!(counts(), before);
}

/// What was allocated in a test.
enum Taken {
    Frame,
    Run(u8),
    Span(PageSpan),
}

#[test]
fn do_runs_spans_and_frames_never_overlap() {
    let before = counts();
    let mut random = Random(7);
    let mut all: Vec<(u64, u64, Taken)> = Vec::new();
    let mut owner: HashMap<u64, u64> = HashMap::new();
    let give_back = |first: u64, taken| match taken {
        Taken::Frame => release(frame_at(first as u32)),
        Taken::Run(order) => release_run(frame_at(first as u32), order),
        Taken::Span(span) => drop(span),
    };
    for step in 0..20_000 {
        if random.below(100) < 55 {
            let (frame, count, taken) = match random.below(3) {
                0 => {
                    let order = random.below(7) as u8;
                    let Ok(frame) = allocate_run(order) else { continue };
                    assert_eq!(index_of(frame) % (1 << order), 0, "a run is aligned to its size");
                    (frame, 1 << order, Taken::Run(order))
                }
                1 => {
                    let most = 1 + random.below(20) as usize;
                    let Ok(span) = PageSpan::new(most) else { continue };
                    assert!((1..=most).contains(&span.pages()));
                    (first_of(&span), span.pages() as u64, Taken::Span(span))
                }
                _ => {
                    let Ok(frame) = allocate() else { continue };
                    (frame, 1, Taken::Frame)
                }
            };
            let first = u64::from(index_of(frame));
            for index in first..first + count {
                assert_eq!(owner.insert(index, step), None, "frame {index} handed out twice");
            }
            all.push((first, count, taken));
        } else if !all.is_empty() {
            let (first, count, taken) = all.swap_remove(random.below(all.len() as u64) as usize);
            for index in first..first + count {
                owner.remove(&index);
            }
            give_back(first, taken);
        }
        assert_eq!(counts().free + owner.len(), before.free);
    }
    for (first, _, taken) in all {
        give_back(first, taken);
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
