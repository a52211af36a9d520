//! Memory: brk, mmap and its like, protection, sharing, files in memory, the stack.

use conformance::support::*;
use conformance::{answers, case, sys};
use std::ptr::null_mut;

const PAGE: usize = 4096;
const RW: i32 = libc::PROT_READ | libc::PROT_WRITE;
const PRIVATE: i32 = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
const SHARED: i32 = libc::MAP_SHARED | libc::MAP_ANONYMOUS;

/// Reads one byte, wherever that is.
pub fn peek(address: *const u8) -> u8 {
    // SAFETY: the cases that read where nothing is want the signal that follows.
    unsafe { std::arch::asm!("mov al, [{}]", in(reg) address, out("al") _, options(nostack, readonly)) };
    // SAFETY: as the line before has shown, the address can be read.
    unsafe { address.read_volatile() }
}

/// Writes one byte, wherever that is.
pub fn poke(address: *mut u8) {
    // SAFETY: the cases that write where nothing may be written want the signal that follows.
    unsafe { std::arch::asm!("mov byte ptr [{}], 7", in(reg) address, options(nostack)) };
}

fn map(size: usize, protection: i32, flags: i32) -> *mut u8 {
    sys!(mmap(null_mut(), size, protection, flags, -1, 0)).cast()
}

fn map_at(address: *mut u8, size: usize, flags: i32) -> *mut u8 {
    sys!(mmap(address.cast(), size, RW, PRIVATE | flags, -1, 0)).cast()
}

/// "ok" or the errno of a call that gives an address.
fn mapped(address: *mut u8) -> String {
    if address as isize == -1 { last_errno() } else { "ok".into() }
}

fn try_map(size: usize, protection: i32, flags: i32, descriptor: i32, offset: i64) -> String {
    mapped(sys!(mmap(null_mut(), size, protection, flags, descriptor, offset)).cast())
}

fn page(index: usize, start: *mut u8) -> *mut u8 {
    start.wrapping_add(index * PAGE)
}

fn reading(address: *const u8) -> String {
    in_child(|| {
        peek(address);
        0
    })
}

fn writing(address: *mut u8) -> String {
    in_child(|| {
        poke(address);
        0
    })
}

/// A mapping of a file that holds 'a' to 'z', 6,000 bytes of them.
fn map_file(protection: i32, flags: i32) -> *mut u8 {
    let letters: Vec<u8> = (0..6000).map(|index| b'a' + (index % 26) as u8).collect();
    make_file(c"file", &letters, 0o644);
    let file = open(c"file", libc::O_RDWR);
    let memory = sys!(mmap(null_mut(), 2 * PAGE, protection, flags, file, 0)).cast();
    close(file);
    memory
}

fn brk(address: usize) -> usize {
    sys!(syscall(libc::SYS_brk, address)) as usize
}

fn mremap(old: *mut u8, old_size: usize, new_size: usize, flags: i32) -> *mut u8 {
    sys!(mremap(old.cast(), old_size, new_size, flags)).cast()
}

fn resident(start: *mut u8, pages: usize) -> String {
    let mut present = vec![9_u8; pages];
    if sys!(mincore(start.cast(), pages * PAGE, present.as_mut_ptr())) < 0 {
        return last_errno();
    }
    present.iter().map(|byte| (byte & 1).to_string()).collect()
}

pub const CASES: &[Case] = &[
    case!("new_memory_is_zero", {
        let memory = map(16 * PAGE, RW, PRIVATE);
        (0..16 * PAGE).all(|index| peek(memory.wrapping_add(index)) == 0)
    }),
    case!("new_memory_can_be_written", {
        let memory = map(PAGE, RW, PRIVATE);
        poke(memory);
        peek(memory)
    }),
    case!("size_0", try_map(0, RW, PRIVATE, -1, 0)),
    case!("size_of_1_byte_is_a_page", {
        let memory = map(1, RW, PRIVATE);
        answers!(writing(memory.wrapping_add(PAGE - 1)))
    }),
    case!("size_that_overflows", try_map(usize::MAX - 100, RW, PRIVATE, -1, 0)),
    case!("more_than_user_space", try_map(1 << 47, RW, PRIVATE, -1, 0)),
    case!("neither_private_nor_shared", try_map(PAGE, RW, libc::MAP_ANONYMOUS, -1, 0)),
    case!("private_and_shared", try_map(PAGE, RW, libc::MAP_PRIVATE | libc::MAP_SHARED | libc::MAP_ANONYMOUS, -1, 0)),
    case!("no_descriptor", try_map(PAGE, RW, libc::MAP_PRIVATE, -1, 0)),
    case!("offset_that_is_not_whole_pages", {
        make_file(c"file", b"x", 0o644);
        try_map(PAGE, RW, libc::MAP_PRIVATE, open(c"file", libc::O_RDWR), 100)
    }),
    case!("offset_that_overflows", {
        make_file(c"file", b"x", 0o644);
        try_map(PAGE, RW, libc::MAP_PRIVATE, open(c"file", libc::O_RDWR), i64::MAX - 4095)
    }),
    case!("a_folder", try_map(PAGE, libc::PROT_READ, libc::MAP_PRIVATE, open(c".", libc::O_RDONLY), 0)),
    case!("a_pipe", {
        let (read_end, _) = pipe();
        try_map(PAGE, libc::PROT_READ, libc::MAP_PRIVATE, read_end, 0)
    }),
    case!("a_file_open_for_writing_only", {
        make_file(c"file", b"x", 0o644);
        try_map(PAGE, libc::PROT_READ, libc::MAP_PRIVATE, open(c"file", libc::O_WRONLY), 0)
    }),
    case!("shared_and_writable_of_a_file_open_for_reading", {
        make_file(c"file", b"x", 0o644);
        try_map(PAGE, RW, libc::MAP_SHARED, open(c"file", libc::O_RDONLY), 0)
    }),
    case!("private_and_writable_of_a_file_open_for_reading", {
        make_file(c"file", b"x", 0o644);
        try_map(PAGE, RW, libc::MAP_PRIVATE, open(c"file", libc::O_RDONLY), 0)
    }),
    case!("a_hint_is_taken_if_it_is_free", {
        let place = map(4 * PAGE, RW, PRIVATE);
        sys!(munmap(place.cast(), 4 * PAGE));
        answers!(map_at(place, PAGE, 0) == place, map_at(place, PAGE, 0) == place)
    }),
    case!("fixed_replaces", {
        let memory = map(3 * PAGE, RW, PRIVATE);
        for index in 0..3 {
            poke(page(index, memory));
        }
        let middle = map_at(page(1, memory), PAGE, libc::MAP_FIXED);
        answers!(middle == page(1, memory), peek(memory), peek(page(1, memory)), peek(page(2, memory)))
    }),
    case!("fixed_at_an_odd_address", mapped(map_at(map(PAGE, RW, PRIVATE).wrapping_add(1), PAGE, libc::MAP_FIXED))),
    case!("fixed_in_kernel_space", mapped(map_at(0xffff_8000_0000_0000_usize as *mut u8, PAGE, libc::MAP_FIXED))),
    case!("fixed_at_the_end_of_user_space", mapped(map_at(0x7fff_ffff_f000_usize as *mut u8, PAGE, libc::MAP_FIXED))),
    case!("fixed_without_replacing", {
        let memory = map(2 * PAGE, RW, PRIVATE);
        sys!(munmap(page(1, memory).cast(), PAGE));
        answers!(
            mapped(map_at(memory, PAGE, libc::MAP_FIXED_NOREPLACE)),
            mapped(map_at(page(1, memory), PAGE, libc::MAP_FIXED_NOREPLACE))
        )
    }),
    case!("low_addresses_are_not_for_users", as_user(|| mapped(map_at(null_mut(), PAGE, libc::MAP_FIXED)))),
    case!("populate", {
        let memory = map_at(null_mut(), 4 * PAGE, libc::MAP_POPULATE);
        resident(memory, 4)
    }),
    case!("memory_is_not_there_before_it_is_touched", {
        let memory = map(4 * PAGE, RW, PRIVATE);
        poke(page(2, memory));
        resident(memory, 4)
    }),
    case!("mincore_of_nothing", {
        let memory = map(2 * PAGE, RW, PRIVATE);
        sys!(munmap(page(1, memory).cast(), PAGE));
        answers!(resident(memory, 2), resident(memory.wrapping_add(1), 1))
    }),
    case!("a_gigabyte_that_is_not_used", {
        let memory = map(1 << 30, RW, PRIVATE | libc::MAP_NORESERVE);
        poke(memory.wrapping_add(1 << 29));
        peek(memory.wrapping_add(1 << 29))
    }),
    case!("unmapped_memory_faults", {
        let memory = map(3 * PAGE, RW, PRIVATE);
        let answer = ok(sys!(munmap(page(1, memory).cast(), PAGE)));
        answers!(answer, writing(memory), writing(page(1, memory)), writing(page(2, memory)))
    }),
    case!("munmap_of_nothing", {
        let memory = map(2 * PAGE, RW, PRIVATE);
        sys!(munmap(memory.cast(), 2 * PAGE));
        ok(sys!(munmap(memory.cast(), 2 * PAGE)))
    }),
    case!("munmap_refuses", {
        let memory = map(PAGE, RW, PRIVATE);
        answers!(
            ok(sys!(munmap(memory.wrapping_add(1).cast(), PAGE))),
            ok(sys!(munmap(memory.cast(), 0))),
            ok(sys!(munmap(memory.cast(), usize::MAX)))
        )
    }),
    case!("munmap_across_several_mappings", {
        let memory = map(6 * PAGE, RW, PRIVATE);
        sys!(mprotect(page(2, memory).cast(), PAGE, libc::PROT_READ));
        answers!(
            ok(sys!(munmap(page(1, memory).cast(), 4 * PAGE))),
            writing(memory),
            reading(page(2, memory)),
            writing(page(5, memory))
        )
    }),
    case!("protection", {
        let memory = map(PAGE, RW, PRIVATE);
        poke(memory);
        let read_only = ok(sys!(mprotect(memory.cast(), PAGE, libc::PROT_READ)));
        let (read_1, write_1) = (reading(memory), writing(memory));
        sys!(mprotect(memory.cast(), PAGE, libc::PROT_NONE));
        let read_2 = reading(memory);
        sys!(mprotect(memory.cast(), PAGE, RW));
        answers!(read_only, read_1, write_1, read_2, writing(memory), peek(memory))
    }),
    case!("protection_of_the_middle", {
        let memory = map(3 * PAGE, RW, PRIVATE);
        sys!(mprotect(page(1, memory).cast(), PAGE, libc::PROT_READ));
        answers!(writing(memory), writing(page(1, memory)), writing(page(2, memory)))
    }),
    case!("mprotect_refuses", {
        let memory = map(2 * PAGE, RW, PRIVATE);
        sys!(munmap(page(1, memory).cast(), PAGE));
        answers!(
            ok(sys!(mprotect(memory.wrapping_add(1).cast(), PAGE, RW))),
            ok(sys!(mprotect(memory.cast(), 2 * PAGE, libc::PROT_READ))),
            writing(memory),
            ok(sys!(mprotect(memory.cast(), 0, RW))),
            ok(sys!(mprotect(memory.cast(), PAGE, 0x100)))
        )
    }),
    case!("mprotect_can_not_make_a_read_only_shared_file_writable", {
        make_file(c"file", b"x", 0o644);
        let memory = sys!(mmap(null_mut(), PAGE, libc::PROT_READ, libc::MAP_SHARED, open(c"file", libc::O_RDONLY), 0));
        ok(sys!(mprotect(memory, PAGE, RW)))
    }),
    case!("code_can_be_made_and_run", {
        let memory = map(PAGE, RW, PRIVATE);
        // SAFETY: the page is the code: mov eax, 77; ret.
        unsafe { std::ptr::copy_nonoverlapping([0xb8_u8, 77, 0, 0, 0, 0xc3].as_ptr(), memory, 6) };
        let answer = ok(sys!(mprotect(memory.cast(), PAGE, libc::PROT_READ | libc::PROT_EXEC)));
        // SAFETY: as above.
        let function: extern "C" fn() -> i32 = unsafe { std::mem::transmute(memory) };
        answers!(answer, function())
    }),
    case!("shared_memory_is_shared_with_children", {
        let memory = map(PAGE, RW, SHARED);
        in_child(|| {
            poke(memory);
            0
        });
        peek(memory)
    }),
    case!("private_memory_is_not", {
        let memory = map(PAGE, RW, PRIVATE);
        in_child(|| {
            poke(memory);
            0
        });
        peek(memory)
    }),
    case!("private_memory_of_three_generations", {
        let memory = map(PAGE, RW, PRIVATE);
        poke(memory);
        let how = in_child(|| {
            let inner = in_child(|| {
                let before = peek(memory);
                poke(memory.wrapping_add(1));
                i32::from(before)
            });
            i32::from(inner == "exit 7" && peek(memory.wrapping_add(1)) == 0)
        });
        answers!(how, peek(memory), peek(memory.wrapping_add(1)))
    }),
    case!("a_file_in_memory", {
        let memory = map_file(libc::PROT_READ, libc::MAP_PRIVATE);
        answers!(
            peek(memory) as char,
            peek(memory.wrapping_add(4097)) as char,
            peek(memory.wrapping_add(5999)) as char,
            peek(memory.wrapping_add(6000))
        )
    }),
    case!("private_writes_do_not_reach_the_file", {
        let memory = map_file(RW, libc::MAP_PRIVATE);
        poke(memory);
        answers!(peek(memory), content(c"file").starts_with("\"abc"))
    }),
    case!("shared_writes_reach_the_file", {
        let memory = map_file(RW, libc::MAP_SHARED);
        poke(memory);
        answers!(ok(sys!(msync(memory.cast(), PAGE, libc::MS_SYNC))), content(c"file").starts_with("\"\\u{7}bc"))
    }),
    case!("writes_to_the_file_reach_shared_memory", {
        let memory = map_file(libc::PROT_READ, libc::MAP_SHARED);
        peek(memory);
        let file = open(c"file", libc::O_WRONLY);
        write(file, b"Z");
        peek(memory) as char
    }),
    case!("two_shared_mappings_of_one_file", {
        let first = map_file(RW, libc::MAP_SHARED);
        let second = sys!(mmap(null_mut(), PAGE, RW, libc::MAP_SHARED, open(c"file", libc::O_RDWR), 0)).cast::<u8>();
        poke(first);
        peek(second)
    }),
    case!("the_file_may_be_removed_and_stays_in_memory", {
        let memory = map_file(libc::PROT_READ, libc::MAP_PRIVATE);
        sys!(unlink(c"file".as_ptr()));
        peek(memory.wrapping_add(25)) as char
    }),
    case!("past_the_files_last_page_is_a_bus_error", {
        make_file(c"file", b"short", 0o644);
        let memory =
            sys!(mmap(null_mut(), 2 * PAGE, libc::PROT_READ, libc::MAP_SHARED, open(c"file", libc::O_RDONLY), 0))
                .cast::<u8>();
        answers!(reading(memory.wrapping_add(100)), reading(page(1, memory)))
    }),
    case!("a_file_that_shrinks", {
        let memory = map_file(libc::PROT_READ, libc::MAP_SHARED);
        peek(page(1, memory));
        sys!(truncate(c"file".as_ptr(), 10));
        answers!(reading(page(1, memory)), peek(memory.wrapping_add(9)) as char, peek(memory.wrapping_add(10)))
    }),
    case!("after_one_page_was_read_its_neighbours_are_as_they_were", {
        // 20 pages, of which the last five are past the end of what is read.
        make_file(c"file", &[b'a'; 15 * PAGE], 0o644);
        let file = open(c"file", libc::O_RDWR);
        sys!(fallocate(file, libc::FALLOC_FL_KEEP_SIZE, 0, (20 * PAGE) as i64));
        let own = sys!(mmap(null_mut(), 20 * PAGE, RW, libc::MAP_PRIVATE, file, 0)).cast::<u8>();
        let shared = sys!(mmap(null_mut(), 20 * PAGE, RW, libc::MAP_SHARED, file, 0)).cast::<u8>();
        let first = (peek(page(7, own)) as char, peek(page(7, shared)) as char);
        let past_the_end = (reading(page(15, own)), reading(page(19, shared)));
        poke(page(8, own));
        poke(page(9, shared));
        let written = (peek(page(8, shared)), peek(page(9, own)));
        sys!(mprotect(page(10, own).cast(), PAGE, libc::PROT_NONE));
        let refused = (reading(page(10, own)), reading(page(11, own)));
        sys!(ftruncate(file, 12 * PAGE as i64));
        let cut = (reading(page(11, own)), reading(page(12, own)), reading(page(14, shared)));
        format!("{first:?} {past_the_end:?} {written:?} {refused:?} {cut:?}")
    }),
    case!("a_file_that_grows", {
        make_file(c"file", b"x", 0o644);
        let file = open(c"file", libc::O_RDWR);
        let memory = sys!(mmap(null_mut(), 2 * PAGE, RW, libc::MAP_SHARED, file, 0)).cast::<u8>();
        sys!(ftruncate(file, 8192));
        poke(page(1, memory));
        answers!(peek(page(1, memory)), status_of_descriptor(file).map_or(0, |status| status.st_size))
    }),
    case!("the_descriptor_may_be_closed", {
        let memory = map_file(libc::PROT_READ, libc::MAP_PRIVATE);
        peek(memory.wrapping_add(1)) as char
    }),
    case!("msync_refuses", {
        let memory = map(2 * PAGE, RW, PRIVATE);
        sys!(munmap(page(1, memory).cast(), PAGE));
        answers!(
            ok(sys!(msync(memory.cast(), PAGE, libc::MS_ASYNC | libc::MS_SYNC))),
            ok(sys!(msync(memory.wrapping_add(1).cast(), PAGE, libc::MS_SYNC))),
            ok(sys!(msync(memory.cast(), 2 * PAGE, libc::MS_SYNC))),
            ok(sys!(msync(memory.cast(), PAGE, 0x80)))
        )
    }),
    case!("dev_zero_in_memory", {
        let memory =
            sys!(mmap(null_mut(), PAGE, RW, libc::MAP_PRIVATE, open(c"/dev/zero", libc::O_RDWR), 0)).cast::<u8>();
        poke(memory);
        answers!(peek(memory), peek(memory.wrapping_add(1)))
    }),
    case!("dev_null_in_memory", try_map(PAGE, libc::PROT_READ, libc::MAP_PRIVATE, open(c"/dev/null", libc::O_RDWR), 0)),
    case!("mremap_grows_and_keeps_the_content", {
        let memory = map(PAGE, RW, PRIVATE);
        poke(memory);
        let larger = mremap(memory, PAGE, 100 * PAGE, libc::MREMAP_MAYMOVE);
        poke(page(99, larger));
        answers!(peek(larger), peek(page(99, larger)), peek(page(50, larger)))
    }),
    case!("mremap_shrinks", {
        let memory = map(3 * PAGE, RW, PRIVATE);
        let smaller = mremap(memory, 3 * PAGE, PAGE, 0);
        answers!(smaller == memory, writing(memory), writing(page(1, memory)))
    }),
    case!("mremap_that_may_not_move", {
        let memory = map(3 * PAGE, RW, PRIVATE);
        mapped(mremap(memory, PAGE, 2 * PAGE, 0))
    }),
    case!("mremap_to_a_place", {
        let (from, to) = (map(PAGE, RW, PRIVATE), map(PAGE, RW, PRIVATE));
        poke(from);
        let moved: *mut u8 =
            sys!(mremap(from.cast(), PAGE, PAGE, libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED, to)).cast();
        answers!(moved == to, peek(to), reading(from))
    }),
    case!("mremap_refuses", {
        let memory = map(PAGE, RW, PRIVATE);
        answers!(
            mapped(mremap(memory.wrapping_add(1), PAGE, PAGE, 1)),
            mapped(mremap(memory, PAGE, 0, 1)),
            mapped(mremap(memory, PAGE, PAGE, 64)),
            mapped(mremap(0x1000 as *mut u8, PAGE, PAGE, 1)),
            mapped(sys!(mremap(memory.cast(), PAGE, PAGE, libc::MREMAP_FIXED, memory)).cast())
        )
    }),
    case!("dontneed_zeroes_private_memory", {
        let memory = map(2 * PAGE, RW, PRIVATE);
        poke(memory);
        poke(page(1, memory));
        answers!(ok(sys!(madvise(memory.cast(), PAGE, libc::MADV_DONTNEED))), peek(memory), peek(page(1, memory)))
    }),
    case!("dontneed_brings_a_private_file_back", {
        let memory = map_file(RW, libc::MAP_PRIVATE);
        poke(memory);
        sys!(madvise(memory.cast(), PAGE, libc::MADV_DONTNEED));
        peek(memory) as char
    }),
    case!("dontneed_keeps_shared_memory", {
        let memory = map(PAGE, RW, SHARED);
        poke(memory);
        sys!(madvise(memory.cast(), PAGE, libc::MADV_DONTNEED));
        peek(memory)
    }),
    case!(
        "harmless_advice",
        [libc::MADV_NORMAL, libc::MADV_RANDOM, libc::MADV_SEQUENTIAL, libc::MADV_WILLNEED, libc::MADV_FREE]
            .map(|advice| ok(sys!(madvise(map(PAGE, RW, PRIVATE).cast(), PAGE, advice))))
            .join(" ")
    ),
    case!("madvise_refuses", {
        let memory = map(2 * PAGE, RW, PRIVATE);
        sys!(munmap(page(1, memory).cast(), PAGE));
        answers!(
            ok(sys!(madvise(memory.cast(), PAGE, 9999))),
            ok(sys!(madvise(memory.wrapping_add(1).cast(), PAGE, libc::MADV_DONTNEED))),
            ok(sys!(madvise(memory.cast(), 2 * PAGE, libc::MADV_DONTNEED)))
        )
    }),
    case!("dontfork", {
        let memory = map(PAGE, RW, PRIVATE);
        answers!(ok(sys!(madvise(memory.cast(), PAGE, libc::MADV_DONTFORK))), writing(memory))
    }),
    case!("brk_grows_and_shrinks", {
        let start = brk(0);
        let end = brk(start + 3 * PAGE);
        poke((start + 2 * PAGE) as *mut u8);
        let back = brk(start);
        answers!(end - start, back == start, reading((start + 2 * PAGE) as *const u8))
    }),
    case!("brk_memory_is_zero_again", {
        let start = brk(0).next_multiple_of(PAGE);
        brk(start + PAGE);
        poke(start as *mut u8);
        brk(start);
        brk(start + PAGE);
        peek(start as *const u8)
    }),
    case!("brk_refuses_by_the_old_end", {
        let start = brk(0);
        answers!(brk(1) == start, brk(usize::MAX) == start, brk(0x7fff_ffff_0000) == start)
    }),
    case!("brk_stops_at_a_mapping", {
        let start = brk(0).next_multiple_of(PAGE);
        brk(start);
        map_at(page(2, start as *mut u8), PAGE, libc::MAP_FIXED);
        answers!(brk(start + PAGE) == start + PAGE, brk(start + 3 * PAGE) == start + PAGE)
    }),
    case!(
        "the_stack_grows",
        in_child(|| {
            touch_stack(1 << 20);
            3
        })
    ),
    case!(
        "the_stack_grows_far_at_once",
        in_child(|| {
            touch_stack_at_once();
            3
        })
    ),
    case!(
        "the_stack_ends_at_its_limit",
        in_child(|| {
            let limit = libc::rlimit { rlim_cur: 1 << 20, rlim_max: 1 << 20 };
            sys!(setrlimit(libc::RLIMIT_STACK, &limit));
            touch_stack(2 << 20);
            3
        })
    ),
    case!("growing_down", {
        let top = map(64 * PAGE, libc::PROT_NONE, PRIVATE);
        sys!(munmap(top.cast(), 64 * PAGE));
        let memory = map_at(page(60, top), PAGE, libc::MAP_GROWSDOWN | libc::MAP_FIXED);
        answers!(mapped(memory), writing(memory.wrapping_sub(100)))
    }),
    case!("a_bad_buffer_is_efault", {
        let (read_end, write_end) = pipe();
        write_all(write_end, b"x");
        answers!(
            value(sys!(write(write_end, BAD as *const _, 10))),
            value(sys!(read(read_end, BAD as *mut _, 10))),
            value(sys!(read(read_end, map(PAGE, libc::PROT_READ, PRIVATE).cast(), 10)))
        )
    }),
    case!("a_buffer_that_ends_in_a_bad_page", {
        let memory = map(2 * PAGE, RW, PRIVATE);
        sys!(munmap(page(1, memory).cast(), PAGE));
        make_file(c"file", b"", 0o644);
        let file = open(c"file", libc::O_RDWR);
        answers!(
            value(sys!(write(file, page(1, memory).wrapping_sub(100).cast(), 200))),
            status_of_descriptor(file).map_or(-1, |status| status.st_size)
        )
    }),
    case!("mlock_is_harmless", {
        let memory = map(PAGE, RW, PRIVATE);
        answers!(ok(sys!(mlock(memory.cast(), PAGE))), ok(sys!(munlock(memory.cast(), PAGE))))
    }),
    case!("many_mappings", {
        let starts: Vec<*mut u8> =
            (0..1000).map(|index| map(PAGE, if index % 2 == 0 { RW } else { libc::PROT_READ }, PRIVATE)).collect();
        for (index, &start) in starts.iter().enumerate() {
            if index % 2 == 0 {
                poke(start);
            }
        }
        answers!(
            starts.iter().step_by(2).all(|&start| peek(start) == 7),
            starts.iter().all(|&start| sys!(munmap(start.cast(), PAGE)) == 0)
        )
    }),
];

/// Goes down the stack page by page.
fn touch_stack(size: usize) {
    let mut bottom: usize;
    // SAFETY: reads the stack pointer; what is written below it is beyond the red zone and of no use to anyone.
    unsafe {
        std::arch::asm!("mov {}, rsp", out(reg) bottom);
        let end = bottom - size;
        while bottom > end {
            bottom -= PAGE;
            std::arch::asm!("mov byte ptr [{}], 1", in(reg) bottom - 256);
        }
    }
}

fn touch_stack_at_once() {
    // SAFETY: as above; Linux lets the stack grow to any address above its limit.
    unsafe { std::arch::asm!("mov byte ptr [rsp - 0x100000], 1") };
}
