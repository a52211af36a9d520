//! Do page tables hold what they were given, with no table more or less than that needs?

use super::*;
use crate::memory::frames::PageRef;
use std::collections::BTreeMap;

const LEAF: Flags = Flags::PRESENT.union(Flags::USER_ACCESSIBLE);

#[test]
fn an_entry_keeps_frame_and_flags_apart() {
    let frame = PhysFrame::containing_address(PhysAddr::new(0x000f_0000_1234_5000));
    let entry = Entry::new(frame, LEAF | Flags::NO_EXECUTE);
    assert_eq!(entry.frame(), frame);
    assert_eq!(entry.flags(), LEAF | Flags::NO_EXECUTE);
    assert!(!entry.without(Flags::PRESENT).is_present());
    assert!(!entry.without(Flags::PRESENT).is_empty());
}

#[test]
fn do_tables_go_with_their_last_page_and_not_before() {
    let before = frames::counts();
    let mut table = PageTable::new().expect("memory is free");
    let (low, high) = (0x7fff_fffe_f000, 0x7fff_ffff_f000);
    for address in [0x40_0000, low, high] {
        table.slot_or_create(address).expect("memory is free").set(Entry(0x1000));
    }
    assert_eq!(table.table_count(), 7);
    let slot = table.slot(high).expect("just made");
    slot.set(Entry::EMPTY);
    assert!(!table.free_tables(high..USER_SPACE_END, low + PAGE, USER_SPACE_END), "its table still holds `low`");
    table.slot(low).expect("still there").set(Entry::EMPTY);
    assert!(table.free_tables(low..low + PAGE, 0x40_1000, USER_SPACE_END));
    assert_eq!(table.table_count(), 4);
    assert!(table.slot(low).is_none());
    assert!(table.slot(0x40_0000).is_some());
    drop(table);
    frames::trim();
    assert_eq!(frames::counts(), before);
}

#[test]
fn is_it_the_same_as_a_map_under_random_edits() {
    let before = frames::counts();
    let mut seed = 0x1234_5678_9abc_def1_u64;
    let mut random = move |limit: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % limit
    };
    let mut table = PageTable::new().expect("memory is free");
    let mut model: BTreeMap<u64, u64> = BTreeMap::new();
    // Addresses in clusters that share tables at each level.
    let address = |random: &mut dyn FnMut(u64) -> u64| {
        (random(3) << 45 | random(2) << 39 | random(2) << 30 | random(3) << 21 | random(12) << 12) % USER_SPACE_END
    };
    for _ in 0..30_000 {
        let start = address(&mut random);
        let end = (start + random(40) * PAGE).min(USER_SPACE_END);
        match random(4) {
            0 | 1 => {
                let bits = (random(1 << 20) << 12) | LEAF.bits();
                table.slot_or_create(start).expect("memory is free").set(Entry(bits));
                model.insert(start, bits);
            }
            2 => {
                table.for_each_page(start..end, |_, slot| slot.set(Entry::EMPTY));
                let gone: Vec<u64> = model.range(start..end).map(|(&at, _)| at).collect();
                model.retain(|at, _| !gone.contains(at));
                let floor = model.range(..start).next_back().map_or(0, |(&at, _)| at + PAGE);
                let ceiling = model.range(start..).next().map_or(USER_SPACE_END, |(&at, _)| at);
                table.free_tables(start..end, floor, ceiling);
            }
            _ => {
                let mut seen = Vec::new();
                table.for_each_page(start..end, |at, slot| seen.push((at, slot.get().bits())));
                let expected: Vec<_> = model.range(start..end).map(|(&at, &bits)| (at, bits)).collect();
                assert_eq!(seen, expected);
            }
        }
    }
    let mut needed = std::collections::BTreeSet::new();
    for at in model.keys() {
        needed.extend([21, 30, 39].map(|shift| (shift, at >> shift)));
    }
    assert_eq!(table.table_count(), needed.len() + 1, "a table that serves nothing was kept");
    table.for_each_page(0..USER_SPACE_END, |_, slot| slot.set(Entry::EMPTY));
    drop(table);
    frames::trim();
    assert_eq!(frames::counts(), before);
}

#[test]
fn walking_two_trees_makes_only_what_is_needed() {
    let mut source = PageTable::new().expect("memory is free");
    let mut target = PageTable::new().expect("memory is free");
    let page = PageRef::new().expect("memory is free");
    let at = 0x7000_0000_3000;
    source.slot_or_create(at).expect("memory is free").set(Entry::new(page.frame(), LEAF));
    source
        .for_each_piece_with(&mut target, 0..USER_SPACE_END, |from, to| {
            from.iter().zip(to).for_each(|(from, to)| to.set(from.get()));
        })
        .expect("memory is free");
    assert_eq!(target.table_count(), 4);
    assert_eq!(target.slot(at).map(|slot| slot.get().frame()), Some(page.frame()));
    for table in [&source, &target] {
        table.for_each_page(0..USER_SPACE_END, |_, slot| slot.set(Entry::EMPTY));
    }
}
