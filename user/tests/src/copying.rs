//! Moving bytes in the less usual ways: at positions, by vectors with flags, from file to file; holes; and the position that
//! descriptors share.

use conformance::support::*;
use conformance::{answers, case, sys};
use std::ptr::null_mut;

const PAGE: i64 = 4096;

fn fresh(content: &[u8]) -> i32 {
    make_file(c"file", content, 0o644);
    open(c"file", libc::O_RDWR)
}

fn other() -> i32 {
    open(c"copy", libc::O_RDWR | libc::O_CREAT)
}

fn position(file: i32) -> String {
    value(sys!(lseek(file, 0, libc::SEEK_CUR)))
}

fn seek(file: i32, offset: i64, whence: i32) -> String {
    value(sys!(lseek(file, offset, whence)))
}

fn blocks(file: i32) -> i64 {
    status_of_descriptor(file).map_or(-1, |status| status.st_blocks)
}

fn size(file: i32) -> i64 {
    status_of_descriptor(file).map_or(-1, |status| status.st_size)
}

fn read_v2(file: i32, offset: i64, flags: i32) -> String {
    let mut bytes = [0_u8; 5];
    let piece = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: 5 };
    match sys!(preadv2(file, &piece, 1, offset, flags)) {
        -1 => last_errno(),
        count => String::from_utf8_lossy(&bytes[..count as usize]).into_owned(),
    }
}

fn write_v2(file: i32, text: &str, offset: i64, flags: i32) -> String {
    let piece = libc::iovec { iov_base: text.as_ptr().cast_mut().cast(), iov_len: text.len() };
    value(sys!(pwritev2(file, &piece, 1, offset, flags)))
}

fn send(to: i32, from: i32, count: usize) -> String {
    value(sys!(sendfile(to, from, null_mut(), count)))
}

fn copy(from: i32, from_at: Option<i64>, to: i32, to_at: Option<i64>, count: usize) -> String {
    let (mut from_at, mut to_at) = (from_at, to_at);
    let pointer = |at: &mut Option<i64>| at.as_mut().map_or(null_mut(), |at| &raw mut *at);
    let result = value(sys!(copy_file_range(from, pointer(&mut from_at), to, pointer(&mut to_at), count, 0)));
    let shown = |at: Option<i64>| at.map_or("-".into(), |at| at.to_string());
    format!("{result} {} {}", shown(from_at), shown(to_at))
}

fn allocate(file: i32, mode: i32, start: i64, length: i64) -> String {
    ok(sys!(fallocate(file, mode, start, length)))
}

/// A file with `x` in its first and fourth page, and holes between and behind.
fn holed() -> i32 {
    let file = fresh(b"");
    sys!(pwrite(file, c"x".as_ptr().cast(), 1, 0));
    sys!(pwrite(file, c"x".as_ptr().cast(), 1, 3 * PAGE));
    sys!(ftruncate(file, 6 * PAGE));
    file
}

/// What lies where, as SEEK_DATA and SEEK_HOLE tell it, in pages.
fn map_of(file: i32) -> String {
    let mut text = String::new();
    let mut at = 0;
    loop {
        let data = sys!(lseek(file, at, libc::SEEK_DATA));
        if data < 0 {
            return text + &last_errno();
        }
        at = sys!(lseek(file, data, libc::SEEK_HOLE));
        text += &format!("{}-{} ", data / PAGE, at as f64 / PAGE as f64);
    }
}

/// Children write together, each its own letter, so much at a time that others get their turn meanwhile. `own`: each by a
/// descriptor that it opened itself.
fn written_by_children(flags: i32, own: bool) -> String {
    const PIECE: usize = 1 << 20;
    make_file(c"file", b"", 0o644);
    let shared = open(c"file", libc::O_WRONLY | flags);
    let child = |letter: u8| {
        fork(|| {
            let file = if own { open(c"file", libc::O_WRONLY | flags) } else { shared };
            let piece = vec![letter; PIECE];
            let written = (0..4).map(|_| sys!(write(file, piece.as_ptr().cast(), PIECE)));
            i32::from(written.sum::<isize>() != 4 * PIECE as isize)
        })
    };
    let endings = [b'a', b'b', b'c'].map(child).map(ending).join(", ");
    let all = std::fs::read("file").unwrap_or_default();
    let unmixed = all.chunks(PIECE).all(|piece| piece.iter().all(|letter| *letter == piece[0]));
    answers!(endings, all.len() / PIECE, unmixed, position(shared))
}

fn peek_all(from: *const u8, count: usize) -> Vec<u8> {
    // SAFETY: the caller has mapped them.
    (0..count).map(|at| unsafe { from.wrapping_add(at).read_volatile() }).collect()
}

/// Some pages of memory, of which one is bad.
fn pages_with_a_bad_one(count: usize, bad: usize) -> *mut u8 {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    let memory = sys!(mmap(null_mut(), count * 4096, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0)).cast::<u8>();
    sys!(mprotect(memory.wrapping_add(bad * 4096).cast(), 4096, libc::PROT_NONE));
    memory
}

/// A file of 40 pages, each with a byte of its own, but for some holes.
fn forty_pages() -> i32 {
    let file = fresh(b"");
    for index in (0..40).filter(|index| index % 7 != 3) {
        sys!(pwrite(file, [index as u8 + 1; 4096].as_ptr().cast(), 4096, index * PAGE));
    }
    file
}

/// The bytes of a file: of each run of equal ones, which and how many.
fn runs(path: &str) -> String {
    let bytes = std::fs::read(path).unwrap_or_default();
    bytes.chunk_by(|one, next| one == next).map(|run| format!("{}x{} ", run[0], run.len())).collect()
}

pub const CASES: &[Case] = &[
    case!("reading_many_pages_into_a_bad_one", {
        let file = forty_pages();
        let memory = pages_with_a_bad_one(48, 23);
        let count = sys!(pread(file, memory.wrapping_add(100).cast(), 40 * 4096, 50));
        write(other(), &peek_all(memory, 23 * 4096));
        answers!(value(count), runs("copy"), value(sys!(pread(file, memory.wrapping_add(23 * 4096).cast(), 9999, 0))))
    }),
    case!("writing_many_pages_from_a_bad_one", {
        let file = forty_pages();
        let memory = pages_with_a_bad_one(48, 23);
        let whole = value(sys!(pwrite(file, memory.wrapping_add(24 * 4096).cast(), 20 * 4096, 3000)));
        let there = runs("file");
        for index in 0..23 {
            // SAFETY: the pages before the bad one are there.
            unsafe { memory.wrapping_add(index * 4096).write_bytes(100 + index as u8, 4096) };
        }
        let cut = value(sys!(pwrite(file, memory.wrapping_add(100).cast(), 40 * 4096, 77)));
        let new = value(sys!(pwrite(other(), memory.wrapping_add(200).cast(), 40 * 4096, 5)));
        let bad = value(sys!(pwrite(file, memory.wrapping_add(23 * 4096).cast(), 9999, 0)));
        answers!(whole, there, cut, runs("file"), new, runs("copy"), bad)
    }),
    case!("writing_a_hole_from_a_mapping_of_it", {
        let file = fresh(b"");
        sys!(ftruncate(file, 4 * PAGE));
        let memory = sys!(mmap(null_mut(), 4 * 4096, libc::PROT_READ, libc::MAP_SHARED, file, 0)).cast::<u8>();
        sys!(pwrite(file, [b'a'; 4096].as_ptr().cast(), 4096, 0));
        sys!(pwrite(file, [b'b'; 4096].as_ptr().cast(), 4096, 2 * PAGE));
        let whole = sys!(pwrite(file, memory.wrapping_add(4000).cast(), 4096, PAGE));
        let part = sys!(pwrite(file, memory.wrapping_add(3 * 4096 - 100).cast(), 150, 3 * PAGE));
        answers!(whole, peek_all(memory.wrapping_add(4096), 96) == [b'a'; 96], part, {
            peek_all(memory.wrapping_add(3 * 4096), 100) == [b'b'; 100]
        })
    }),
    case!("children_share_a_position", {
        let file = fresh(b"0123456789");
        let child = fork(|| {
            read(file, 4);
            0
        });
        answers!(ending(child), read(file, 2), position(file))
    }),
    case!("children_that_write_to_one_descriptor_overwrite_nothing", written_by_children(0, false)),
    case!("children_that_append_by_one_descriptor_overwrite_nothing", written_by_children(libc::O_APPEND, false)),
    case!(
        "children_that_append_by_descriptors_of_their_own_overwrite_nothing",
        written_by_children(libc::O_APPEND, true)
    ),
    case!("vectors_at_positions_with_flags", {
        let file = fresh(b"0123456789");
        answers!(
            read_v2(file, 2, 0),
            read_v2(file, -1, 0),
            position(file),
            read_v2(file, -2, 0),
            read_v2(file, 0, libc::RWF_HIPRI),
            read_v2(file, 0, libc::RWF_DSYNC | libc::RWF_SYNC),
            read_v2(file, 0, libc::RWF_NOWAIT),
            read_v2(file, 0, libc::RWF_APPEND),
            read_v2(file, 0, 0x20),
            read_v2(file, 0, 0x80),
            read_v2(file, 0, 0x4000_0000)
        )
    }),
    case!("writing_vectors_with_flags", {
        let file = fresh(b"0123456789");
        answers!(
            write_v2(file, "AB", 1, 0),
            write_v2(file, "CD", -1, 0),
            position(file),
            write_v2(file, "EF", 0, libc::RWF_APPEND),
            write_v2(file, "GH", -1, libc::RWF_APPEND),
            position(file),
            content(c"file"),
            write_v2(file, "IJ", 0, libc::RWF_HIPRI | libc::RWF_SYNC),
            write_v2(file, "KL", 0, libc::RWF_NOWAIT),
            write_v2(file, "MN", 0, 0x20),
            write_v2(file, "OP", 0, 0x40),
            content(c"file")
        )
    }),
    case!("no_append_flag_on_an_appending_file", {
        fresh(b"0123456789");
        let file = open(c"file", libc::O_WRONLY | libc::O_APPEND);
        answers!(write_v2(file, "AB", 1, 0x20), write_v2(file, "CD", 1, 0), content(c"file"))
    }),
    case!("vectors_with_flags_on_pipes", {
        let (read_end, write_end) = pipe();
        answers!(
            write_v2(write_end, "hello", -1, 0),
            write_v2(write_end, "hello", 0, 0),
            read_v2(read_end, -1, libc::RWF_NOWAIT),
            read_v2(read_end, -1, libc::RWF_NOWAIT),
            read_v2(read_end, 0, 0)
        )
    }),
    case!("sendfile_to_a_pipe_and_from_one", {
        let (read_end, write_end) = pipe();
        let file = fresh(b"hello");
        answers!(
            send(write_end, file, 100),
            read(read_end, 100),
            position(file),
            {
                write(write_end, b"back");
                send(file, read_end, 4)
            },
            content(c"file")
        )
    }),
    case!("sendfile_between_devices", {
        let (zero, null) = (open(c"/dev/zero", libc::O_RDONLY), open(c"/dev/null", libc::O_WRONLY));
        let file = fresh(b"");
        answers!(send(file, zero, 10_000), size(file), send(null, zero, 5000), send(null, null, 5))
    }),
    case!("sendfile_of_much", {
        let file = fresh(&vec![b'x'; 300_000]);
        let to = other();
        answers!(send(to, file, 1_000_000), size(to), send(to, file, 1), send(to, file, 0))
    }),
    case!("sendfile_into_a_full_pipe", {
        let mut ends = [-1; 2];
        sys!(pipe2(ends.as_mut_ptr(), libc::O_NONBLOCK));
        let file = fresh(&vec![b'x'; 300_000]);
        answers!(send(ends[1], file, 300_000), position(file), send(ends[1], file, 300_000))
    }),
    case!("sendfile_refuses", {
        let file = fresh(b"hello");
        let (mut negative, folder) = (-1_i64, open(c".", libc::O_RDONLY));
        answers!(
            value(sys!(sendfile(other(), file, &mut negative, 5))),
            value(sys!(sendfile(other(), file, BAD as *mut i64, 5))),
            send(77, file, 5),
            send(file, 77, 5),
            send(open(c"copy", libc::O_RDONLY), file, 5),
            send(other(), open(c"file", libc::O_WRONLY), 5),
            send(open(c"copy", libc::O_WRONLY | libc::O_APPEND), file, 5),
            send(other(), folder, 5)
        )
    }),
    case!("sendfile_onto_itself", {
        let file = fresh(b"hello");
        answers!(send(file, file, 3), content(c"file"), position(file))
    }),
    case!("copying_ranges", {
        let (from, to) = (fresh(b"0123456789"), other());
        answers!(
            copy(from, None, to, None, 4),
            copy(from, Some(8), to, None, 4),
            copy(from, None, to, Some(10), 3),
            content(c"copy"),
            position(from),
            position(to),
            copy(from, Some(10), to, None, 4),
            copy(from, Some(100), to, None, 4),
            copy(from, None, to, None, 0)
        )
    }),
    case!("copying_ranges_within_a_file", {
        let file = fresh(b"0123456789");
        answers!(
            copy(file, Some(0), file, Some(5), 5),
            copy(file, Some(0), file, Some(4), 5),
            copy(file, Some(2), file, Some(2), 1),
            copy(file, Some(5), file, Some(20), 100),
            size(file)
        )
    }),
    case!("copying_ranges_refuses", {
        let (from, to) = (fresh(b"0123456789"), other());
        let (read_end, write_end) = pipe();
        let folder = open(c".", libc::O_RDONLY);
        answers!(
            copy(from, Some(-1), to, None, 4),
            copy(from, None, to, Some(-1), 4),
            copy(read_end, None, to, None, 4),
            copy(from, None, write_end, None, 4),
            copy(folder, None, to, None, 4),
            copy(from, None, folder, None, 4),
            copy(from, None, open(c"copy", libc::O_RDONLY), None, 4),
            copy(open(c"file", libc::O_WRONLY), None, to, None, 4),
            copy(from, None, open(c"copy", libc::O_WRONLY | libc::O_APPEND), None, 4),
            copy(open(c"/dev/zero", libc::O_RDONLY), None, to, None, 4),
            copy(77, None, to, None, 4)
        )
    }),
    case!("where_data_is_and_where_holes", {
        let file = holed();
        answers!(
            map_of(file),
            blocks(file),
            seek(file, 0, libc::SEEK_HOLE),
            seek(file, PAGE + 5, libc::SEEK_DATA),
            seek(file, 3 * PAGE + 9, libc::SEEK_DATA),
            seek(file, 4 * PAGE, libc::SEEK_DATA),
            seek(file, 5 * PAGE + 1, libc::SEEK_HOLE),
            seek(file, 6 * PAGE, libc::SEEK_HOLE),
            seek(file, -1, libc::SEEK_DATA),
            position(file)
        )
    }),
    case!("where_data_is_in_other_files", {
        let folder = open(c".", libc::O_RDONLY);
        let null = open(c"/dev/null", libc::O_RDONLY);
        let (read_end, _) = pipe();
        answers!(
            seek(null, 5, libc::SEEK_DATA),
            seek(null, 5, libc::SEEK_HOLE),
            seek(null, 5, libc::SEEK_SET),
            seek(read_end, 0, libc::SEEK_DATA),
            ok((sys!(lseek(folder, 0, libc::SEEK_DATA)) >= 0) as i32 - 1)
        )
    }),
    case!("punching_whole_pages", {
        let file = fresh(&vec![b'x'; 5 * PAGE as usize + 100]);
        let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        answers!(
            blocks(file),
            allocate(file, mode, PAGE + 1, 3 * PAGE),
            blocks(file),
            map_of(file),
            size(file),
            allocate(file, mode, 5 * PAGE, 100 * PAGE),
            size(file),
            blocks(file),
            allocate(file, libc::FALLOC_FL_PUNCH_HOLE, 0, PAGE)
        )
    }),
    case!("a_hole_leaves_private_copies", {
        let file = fresh(&vec![b'x'; 4 * PAGE as usize]);
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let memory: *mut u8 = sys!(mmap(null_mut(), 4 * PAGE as usize, protection, libc::MAP_PRIVATE, file, 0)).cast();
        let at = |page: usize| memory.wrapping_add(page * PAGE as usize);
        // SAFETY: the file has four pages, and so has its mapping.
        let seen = || {
            [0, 1, 2, 3].map(|page| char::from(unsafe { at(page).read_volatile() } | 0x20)).iter().collect::<String>()
        };
        // SAFETY: as above; the third and fourth page are copies from here on.
        unsafe {
            at(2).write_volatile(b'c');
            at(3).write_volatile(b'd');
        }
        let before = seen();
        sys!(mprotect(at(3).cast(), PAGE as usize, libc::PROT_READ));
        let child = fork(|| i32::from(seen() == before));
        let forked = ending(child);
        let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        let punched = allocate(file, mode, PAGE, 3 * PAGE);
        sys!(mprotect(at(3).cast(), PAGE as usize, protection));
        answers!(before, forked, punched, seen(), ok(sys!(ftruncate(file, PAGE))), {
            sys!(ftruncate(file, 4 * PAGE));
            seen()
        })
    }),
    case!("allocating_ahead", {
        let file = fresh(b"x");
        answers!(
            allocate(file, libc::FALLOC_FL_KEEP_SIZE, 0, 4 * PAGE),
            size(file),
            blocks(file),
            allocate(file, 0, 2 * PAGE, PAGE + 1),
            size(file),
            blocks(file)
        )
    }),
    case!("allocating_in_ways_that_tmpfs_has_not", {
        let file = fresh(b"x");
        let modes = [
            libc::FALLOC_FL_ZERO_RANGE,
            libc::FALLOC_FL_COLLAPSE_RANGE,
            libc::FALLOC_FL_INSERT_RANGE,
            libc::FALLOC_FL_UNSHARE_RANGE,
            libc::FALLOC_FL_COLLAPSE_RANGE | libc::FALLOC_FL_KEEP_SIZE,
            0x1000,
        ];
        modes.map(|mode| allocate(file, mode, 0, PAGE)).join(" ")
    }),
    case!("allocating_refuses", {
        let file = fresh(b"x");
        let (read_end, write_end) = pipe();
        answers!(
            allocate(open(c"file", libc::O_RDONLY), 0, 0, 1),
            allocate(read_end, 0, 0, 1),
            allocate(write_end, 0, 0, 1),
            allocate(open(c".", libc::O_RDONLY), 0, 0, 1),
            allocate(open(c"/dev/null", libc::O_RDWR), 0, 0, 1),
            allocate(file, 0, i64::MAX, 1),
            allocate(file, 0, i64::MAX, i64::MAX),
            allocate(file, 0, 1 << 62, 1 << 40),
            allocate(77, 0, 0, 1),
            allocate(77, 0x1000, 0, 1),
            allocate(77, 0, -1, 1)
        )
    }),
    case!("an_allocation_that_fails_leaves_nothing", {
        let file = holed();
        answers!(allocate(file, 0, PAGE, 1 << 50), blocks(file), map_of(file), size(file))
    }),
    case!("syncing_refuses", {
        let file = fresh(b"x");
        let (read_end, _) = pipe();
        let range =
            |file: i32, start: i64, count: i64, flags: u32| ok(sys!(sync_file_range(file, start, count, flags)));
        answers!(
            range(file, 0, 0, 7),
            range(file, 0, 0, 8),
            range(file, -1, 0, 0),
            range(read_end, 0, 0, 0),
            ok(sys!(syncfs(file))),
            ok(sys!(syncfs(open(c"file", libc::O_PATH)))),
            ok(sys!(syncfs(read_end))),
            ok(sys!(fdatasync(open(c"/dev/null", libc::O_RDWR)))),
            ok(sys!(fsync(open(c".", libc::O_RDONLY)))),
            ok(sys!(fsync(open(c"file", libc::O_RDONLY))))
        )
    }),
    case!("advice_refuses", {
        let file = fresh(b"x");
        let advise = |file: i32, start: i64, count: i64, advice: i32| sys!(posix_fadvise(file, start, count, advice));
        answers!(
            advise(file, 0, 0, 3),
            advise(file, 0, -1, 3),
            advise(file, -1, 0, 3),
            advise(file, 0, 0, 6),
            advise(open(c"file", libc::O_PATH), 0, 0, 3),
            advise(open(c"/dev/null", libc::O_RDONLY), 0, 0, 4),
            advise(open(c".", libc::O_RDONLY), 0, 0, 4),
            value(sys!(readahead(file, 0, 10))),
            value(sys!(readahead(pipe().0, 0, 10))),
            value(sys!(readahead(open(c"file", libc::O_WRONLY), 0, 10)))
        )
    }),
    case!("a_limit_for_files_and_positions", {
        let file = fresh(b"x");
        let limit = libc::rlimit { rlim_cur: 10, rlim_max: 10 };
        sys!(setrlimit(libc::RLIMIT_FSIZE, &limit));
        sys!(signal(libc::SIGXFSZ, libc::SIG_IGN));
        let from = open(c"/dev/zero", libc::O_RDONLY);
        answers!(
            value(sys!(pwrite(file, c"hello".as_ptr().cast(), 5, 7))),
            value(sys!(pwrite(file, c"hello".as_ptr().cast(), 5, 10))),
            ok(sys!(ftruncate(file, 11))),
            allocate(file, 0, 5, 6),
            send(file, from, 20),
            send(file, from, 20),
            copy(file, Some(0), other(), Some(8), 5),
            size(file)
        )
    }),
    case!("the_largest_file", {
        let file = fresh(b"x");
        answers!(
            ok(sys!(ftruncate(file, i64::MAX))),
            size(file),
            value(sys!(pwrite(file, c"ab".as_ptr().cast(), 2, i64::MAX - 1))),
            value(sys!(pread(file, null_mut(), 0, i64::MAX))),
            seek(file, 0, libc::SEEK_END),
            write(file, b"x"),
            ok(sys!(ftruncate(file, 0)))
        )
    }),
    case!("positions_that_no_file_has", {
        let file = fresh(b"x");
        let mut buffer = [0_u8; 10];
        let into = buffer.as_mut_ptr().cast();
        let vector = libc::iovec { iov_base: into, iov_len: 10 };
        answers!(
            value(sys!(pread(file, into, 10, i64::MAX - 10))),
            value(sys!(pread(file, into, 10, i64::MAX - 9))),
            value(sys!(pread(file, into, 10, i64::MAX))),
            value(sys!(preadv(file, &vector, 1, i64::MAX - 9))),
            value(sys!(pwrite(file, into, 10, i64::MAX - 9))),
            seek(file, i64::MAX, libc::SEEK_SET),
            read(file, 10),
            write(file, b"0123456789")
        )
    }),
    case!("data_behind_a_hole_that_no_memory_would_fill", {
        let file = fresh(b"x");
        let far = 1_i64 << 62;
        answers!(
            value(sys!(pwrite(file, c"far".as_ptr().cast(), 3, far))),
            size(file),
            seek(file, 1, libc::SEEK_DATA),
            seek(file, 5000, libc::SEEK_DATA),
            seek(file, 0, libc::SEEK_HOLE),
            seek(file, far, libc::SEEK_HOLE),
            allocate(file, 0, 0, far),
            allocate(file, 3, 1, far - 1),
            seek(file, 0, libc::SEEK_DATA)
        )
    }),
    case!("reading_a_bad_buffer_moves_nothing", {
        let file = fresh(b"hello");
        answers!(
            value(sys!(read(file, BAD as *mut _, 3))),
            position(file),
            value(sys!(write(file, BAD as *const _, 3))),
            size(file)
        )
    }),
    case!("splicing", {
        let file = fresh(b"hello");
        let (read_end, write_end) = pipe();
        let moved = sys!(splice(file, null_mut(), write_end, null_mut(), 5, 0));
        // Whoever has no splice says so, and programs fall back to read and write.
        if moved < 0 && errno() == libc::ENOSYS {
            "ENOSYS or moved".into()
        } else {
            read(read_end, 5).replace("\"hello\"", "ENOSYS or moved")
        }
    }),
];
