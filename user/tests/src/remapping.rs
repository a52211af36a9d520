//! Mappings that are moved, grown, hinted at and written back.

use conformance::support::*;
use conformance::{answers, case, sys};
use std::ptr::null_mut;

const PAGE: usize = 4096;
const READ_WRITE: i32 = libc::PROT_READ | libc::PROT_WRITE;
const ANONYMOUS: i32 = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;

fn map(pages: usize, flags: i32) -> usize {
    sys!(mmap(null_mut(), pages * PAGE, READ_WRITE, flags, -1, 0)) as usize
}

fn map_at(address: usize, pages: usize, flags: i32) -> Result<usize, String> {
    match sys!(mmap(address as *mut _, pages * PAGE, READ_WRITE, ANONYMOUS | flags, -1, 0)) as isize {
        -1 => Err(last_errno()),
        address => Ok(address as usize),
    }
}

fn put(address: usize, byte: u8) {
    // SAFETY: each case passes an address in a mapping of its own, or means to fault in a child.
    unsafe { (address as *mut u8).write_volatile(byte) };
}

fn get(address: usize) -> u8 {
    // SAFETY: as above.
    unsafe { (address as *const u8).read_volatile() }
}

fn touched(address: usize) -> String {
    in_child(|| i32::from(get(address)))
}

fn remap(address: usize, old_pages: usize, new_pages: usize, flags: i32, to: usize) -> Result<usize, String> {
    match sys!(syscall(libc::SYS_mremap, address, old_pages * PAGE, new_pages * PAGE, flags, to)) {
        -1 => Err(last_errno()),
        address => Ok(address as usize),
    }
}

fn told(result: Result<usize, String>) -> String {
    result.map_or_else(|errno| errno, |_| "ok".into())
}

const MAYMOVE: i32 = libc::MREMAP_MAYMOVE;
const FIXED: i32 = libc::MREMAP_FIXED;

pub const CASES: &[Case] = &[
    case!("moving_to_a_place_replaces_what_was_there", {
        let (old, place) = (map(2, ANONYMOUS), map(4, ANONYMOUS));
        put(old, 7);
        put(place, 9);
        let moved = remap(old, 2, 2, MAYMOVE | FIXED, place);
        answers!(moved == Ok(place), get(place), touched(old))
    }),
    case!("moving_onto_itself", {
        let old = map(4, ANONYMOUS);
        answers!(
            told(remap(old, 4, 4, MAYMOVE | FIXED, old)),
            told(remap(old, 2, 2, MAYMOVE | FIXED, old + PAGE)),
            told(remap(old, 2, 2, MAYMOVE | FIXED, old + 1)),
            told(remap(old, 2, 2, FIXED, old + 2 * PAGE))
        )
    }),
    case!("a_part_can_be_moved", {
        let old = map(4, ANONYMOUS);
        (0..4).for_each(|page| put(old + page * PAGE, page as u8 + 1));
        match remap(old + PAGE, 2, 4, MAYMOVE, 0) {
            Ok(new) => answers!(
                get(new),
                get(new + PAGE),
                get(new + 2 * PAGE),
                get(old),
                get(old + 3 * PAGE),
                touched(old + PAGE)
            ),
            Err(errno) => errno,
        }
    }),
    case!("across_two_mappings", {
        let memory = map(4, ANONYMOUS);
        sys!(mprotect(memory as *mut _, PAGE, libc::PROT_READ));
        answers!(told(remap(memory, 4, 8, MAYMOVE, 0)), told(remap(memory, 4, 2, 0, 0)))
    }),
    case!("a_shared_mapping_can_be_doubled", {
        let old = map(2, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
        put(old, 5);
        match remap(old, 0, 2, MAYMOVE, 0) {
            Ok(new) => {
                put(new, 6);
                answers!(new != old, get(old))
            }
            Err(errno) => errno,
        }
    }),
    case!("a_private_mapping_can_not_be_doubled", told(remap(map(2, ANONYMOUS), 0, 2, MAYMOVE, 0))),
    case!("sizes_that_are_none", {
        let memory = map(2, ANONYMOUS);
        answers!(
            told(remap(memory, 2, 0, MAYMOVE, 0)),
            told(remap(memory + 1, 2, 2, MAYMOVE, 0)),
            told(remap(memory, 2, usize::MAX / PAGE, MAYMOVE, 0)),
            told(remap(memory, 2, 2, 0x10, 0))
        )
    }),
    case!("fixed_without_replacing_takes_nothing_away", {
        let memory = map(4, ANONYMOUS);
        put(memory, 3);
        sys!(munmap((memory + 2 * PAGE) as *mut _, 2 * PAGE));
        let flags = libc::MAP_FIXED_NOREPLACE;
        answers!(
            told(map_at(memory, 1, flags)),
            told(map_at(memory + PAGE, 2, flags)),
            map_at(memory + 2 * PAGE, 2, flags) == Ok(memory + 2 * PAGE),
            get(memory)
        )
    }),
    case!("a_mapping_that_grows_down_grows", {
        let memory = map(64, ANONYMOUS);
        sys!(munmap(memory as *mut _, 64 * PAGE));
        let top = memory + 60 * PAGE;
        let stack = map_at(top, 1, libc::MAP_GROWSDOWN | libc::MAP_FIXED);
        answers!(
            told(stack),
            in_child(|| {
                (1..8).for_each(|page| put(top - page * PAGE, 1));
                i32::from(get(top - 7 * PAGE))
            })
        )
    }),
    case!("protection_reaches_down_to_where_a_stack_has_grown", {
        const DOWN: i32 = 0x0100_0000;
        let memory = map(64, ANONYMOUS);
        sys!(munmap(memory as *mut _, 64 * PAGE));
        let top = memory + 60 * PAGE;
        let stack = map_at(top, 2, libc::MAP_GROWSDOWN | libc::MAP_FIXED);
        (1..4).for_each(|page| put(top - page * PAGE, 1));
        let protect = |address: usize, protection| ok(sys!(mprotect(address as *mut _, PAGE, protection)));
        let writes = |page: usize| {
            in_child(|| {
                put(top + PAGE - page * PAGE, 2);
                0
            })
        };
        answers!(
            told(stack),
            protect(top, libc::PROT_READ | DOWN),
            [0, 1, 2, 4].map(writes).join(" "),
            protect(map(1, ANONYMOUS), libc::PROT_READ | DOWN),
            protect(memory, libc::PROT_READ | DOWN)
        )
    }),
    case!("memory_is_unlocked_that_is_there", {
        let memory = map(3, ANONYMOUS);
        sys!(munmap((memory + PAGE) as *mut _, PAGE));
        let unlock = |address: usize, length| ok(sys!(munlock(address as *const _, length)));
        answers!(unlock(memory + 5, 9), unlock(memory, 2 * PAGE), unlock(memory + PAGE, 1), unlock(memory + PAGE, 0))
    }),
    case!("only_private_memory_without_a_file_grows_down", {
        let file = open(c"f", libc::O_RDWR | libc::O_CREAT);
        let with = |flags: i32, file| {
            let flags = flags | libc::MAP_GROWSDOWN;
            ok(sys!(mmap(null_mut(), PAGE, READ_WRITE, flags, file, 0)) as isize >> 63)
        };
        answers!(
            with(libc::MAP_PRIVATE, file),
            with(libc::MAP_SHARED, file),
            with(libc::MAP_PRIVATE, open(c"/dev/zero", libc::O_RDWR)),
            with(libc::MAP_SHARED | libc::MAP_ANONYMOUS, -1),
            with(ANONYMOUS, -1)
        )
    }),
    case!("memory_without_reserve_can_be_used", {
        let memory = map(16, ANONYMOUS | libc::MAP_NORESERVE);
        put(memory, 4);
        get(memory)
    }),
    case!("populated_memory_is_there", {
        let memory = map(4, ANONYMOUS | libc::MAP_POPULATE);
        let mut present = [0_u8; 4];
        let answer = ok(sys!(mincore(memory as *mut _, 4 * PAGE, present.as_mut_ptr())));
        answers!(answer, format!("{:?}", present.map(|byte| byte & 1)))
    }),
    case!("msync_writes_back", {
        let file = open(c"f", libc::O_RDWR | libc::O_CREAT);
        sys!(ftruncate(file, 2 * PAGE as i64));
        let memory = sys!(mmap(null_mut(), 2 * PAGE, READ_WRITE, libc::MAP_SHARED, file, 0)) as usize;
        put(memory + PAGE, b'x');
        let call = |address: usize, size: usize, flags: i32| ok(sys!(msync(address as *mut _, size, flags)));
        answers!(
            call(memory, 2 * PAGE, libc::MS_SYNC),
            call(memory, 1, libc::MS_ASYNC),
            call(memory, 2 * PAGE, libc::MS_SYNC | libc::MS_INVALIDATE),
            call(memory, 3 * PAGE, libc::MS_SYNC),
            call(memory, 0, libc::MS_SYNC),
            call(memory + 1, 1, libc::MS_SYNC),
            call(memory, 1, libc::MS_SYNC | libc::MS_ASYNC),
            {
                let mut byte = [0_u8];
                sys!(pread(file, byte.as_mut_ptr().cast(), 1, PAGE as i64));
                byte[0]
            }
        )
    }),
    case!("a_write_to_a_mapping_changes_the_files_time", {
        let file = open(c"f", libc::O_RDWR | libc::O_CREAT);
        sys!(ftruncate(file, PAGE as i64));
        let old = libc::timespec { tv_sec: 1000, tv_nsec: 0 };
        sys!(futimens(file, [old, old].as_ptr()));
        let memory = sys!(mmap(null_mut(), PAGE, READ_WRITE, libc::MAP_SHARED, file, 0)) as usize;
        put(memory, 1);
        sys!(msync(memory as *mut _, PAGE, libc::MS_SYNC));
        status_of_descriptor(file).map_or(0, |status| i64::from(status.st_mtime == 1000))
    }),
    case!("dontneed_across_a_hole", {
        let memory = map(4, ANONYMOUS);
        (0..4).for_each(|page| put(memory + page * PAGE, 9));
        sys!(munmap((memory + PAGE) as *mut _, PAGE));
        let answer = ok(sys!(madvise(memory as *mut _, 4 * PAGE, libc::MADV_DONTNEED)));
        answers!(answer, get(memory), get(memory + 2 * PAGE))
    }),
    // Not the kinds that Linux can be built without.
    case!("advice_of_each_kind", {
        let memory = map(4, ANONYMOUS);
        [
            libc::MADV_NORMAL,
            libc::MADV_RANDOM,
            libc::MADV_SEQUENTIAL,
            libc::MADV_WILLNEED,
            libc::MADV_DONTNEED,
            libc::MADV_FREE,
            libc::MADV_DONTDUMP,
            libc::MADV_DODUMP,
            libc::MADV_WIPEONFORK,
            libc::MADV_KEEPONFORK,
            libc::MADV_COLD,
            libc::MADV_PAGEOUT,
            77,
        ]
        .map(|advice| ok(sys!(madvise(memory as *mut _, 4 * PAGE, advice))))
        .join(" ")
    }),
    case!("advice_about_no_page_at_all", {
        let memory = map(1, ANONYMOUS);
        let advise = |length, advice| ok(sys!(madvise(memory as *mut _, length, advice)));
        sys!(munmap(memory as *mut _, PAGE));
        [libc::MADV_WILLNEED, libc::MADV_DONTNEED, libc::MADV_FREE, libc::MADV_DONTFORK, libc::MADV_KEEPONFORK, 77]
            .map(|advice| answers!(advise(0, advice), advise(PAGE, advice)))
            .join(" ")
    }),
    case!("what_shows_a_file_is_not_free", {
        let file = open(c"f", libc::O_RDWR | libc::O_CREAT);
        [
            map(1, ANONYMOUS),
            map(1, libc::MAP_SHARED | libc::MAP_ANONYMOUS),
            sys!(mmap(null_mut(), PAGE, READ_WRITE, libc::MAP_PRIVATE, file, 0)) as usize,
        ]
        .map(|memory| ok(sys!(madvise(memory as *mut _, PAGE, libc::MADV_FREE))))
        .join(" ")
    }),
    case!("memory_that_children_find_empty", {
        let memory = map(1, ANONYMOUS);
        put(memory, 8);
        let answer = ok(sys!(madvise(memory as *mut _, PAGE, libc::MADV_WIPEONFORK)));
        answers!(answer, touched(memory), get(memory))
    }),
];
