//! Pipes and FIFOs, and waiting for several descriptors: poll, select and their like.

use conformance::support::*;
use conformance::{answers, case, sys};
use std::ptr::null_mut;

fn nonblocking() -> (i32, i32) {
    let mut ends = [-1; 2];
    sys!(pipe2(ends.as_mut_ptr(), libc::O_NONBLOCK));
    (ends[0], ends[1])
}

fn no_sigpipe() {
    sys!(signal(libc::SIGPIPE, libc::SIG_IGN));
}

/// Writes until nothing more goes in, and says how much did.
fn fill(descriptor: i32, chunk: usize) -> usize {
    let bytes = vec![b'x'; chunk];
    let mut total = 0;
    loop {
        let count = sys!(write(descriptor, bytes.as_ptr().cast(), chunk));
        if count <= 0 {
            return total;
        }
        total += count as usize;
    }
}

/// Three pages of `y`, and nothing behind them.
fn three_pages() -> *mut u8 {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    let pages = sys!(mmap(null_mut(), 4 * 4096, protection, flags, -1, 0)).cast::<u8>();
    // SAFETY: the pages were just mapped.
    unsafe { pages.write_bytes(b'y', 3 * 4096) };
    sys!(munmap(pages.wrapping_add(3 * 4096).cast(), 4096));
    pages
}

fn readable_bytes(descriptor: i32) -> i32 {
    let mut count = 0_i32;
    sys!(ioctl(descriptor, libc::FIONREAD, &mut count));
    count
}

fn poll(descriptors: &[(i32, i16)], timeout_ms: i32) -> String {
    let mut entries: Vec<libc::pollfd> =
        descriptors.iter().map(|&(fd, events)| libc::pollfd { fd, events, revents: 0 }).collect();
    let count = sys!(poll(entries.as_mut_ptr(), entries.len() as u64, timeout_ms));
    if count < 0 {
        return last_errno();
    }
    let names = [
        (libc::POLLIN, "in"),
        (libc::POLLOUT, "out"),
        (libc::POLLERR, "err"),
        (libc::POLLHUP, "hup"),
        (libc::POLLNVAL, "nval"),
    ];
    let describe = |entry: &libc::pollfd| {
        names.iter().filter(|(bit, _)| entry.revents & bit != 0).map(|(_, name)| *name).collect::<Vec<_>>().join("+")
    };
    format!("{count} [{}]", entries.iter().map(describe).collect::<Vec<_>>().join(" "))
}

/// select on one descriptor each for reading and writing; says how many are ready, and which.
fn select(highest: i32, reading: Option<i32>, writing: Option<i32>, timeout_us: i64) -> String {
    // SAFETY: the sets are bit arrays, and the descriptors are below their size.
    unsafe {
        let mut sets: [libc::fd_set; 2] = std::mem::zeroed();
        for (set, descriptor) in sets.iter_mut().zip([reading, writing]) {
            if let Some(descriptor) = descriptor {
                libc::FD_SET(descriptor, set);
            }
        }
        let mut timeout = libc::timeval { tv_sec: 0, tv_usec: timeout_us };
        let [mut read_set, mut write_set] = sets;
        let count = libc::select(highest, &mut read_set, &mut write_set, null_mut(), &mut timeout);
        if count < 0 {
            return last_errno();
        }
        let is_set = |descriptor: Option<i32>, set: &libc::fd_set| {
            descriptor.is_some_and(|descriptor| libc::FD_ISSET(descriptor, set))
        };
        format!("{count} {} {}", is_set(reading, &read_set), is_set(writing, &write_set))
    }
}

pub const CASES: &[Case] = &[
    case!("through_a_pipe", {
        let (read_end, write_end) = pipe();
        answers!(write(write_end, b"hello"), read(read_end, 2), read(read_end, 100))
    }),
    case!("the_ends_numbers_and_flags", {
        let (read_end, write_end) = pipe();
        answers!(read_end, write_end, sys!(fcntl(read_end, libc::F_GETFL)), sys!(fcntl(write_end, libc::F_GETFL)))
    }),
    case!("the_wrong_end", {
        let (read_end, write_end) = pipe();
        answers!(write(read_end, b"x"), read(write_end, 1))
    }),
    case!("the_end_of_input", {
        let (read_end, write_end) = pipe();
        write(write_end, b"last");
        close(write_end);
        answers!(read(read_end, 10), read(read_end, 10))
    }),
    case!("nobody_reads", {
        no_sigpipe();
        let (read_end, write_end) = pipe();
        close(read_end);
        write(write_end, b"x")
    }),
    case!("nobody_reads_and_nothing_is_written", {
        no_sigpipe();
        let (read_end, write_end) = pipe();
        close(read_end);
        write(write_end, b"")
    }),
    case!("empty_and_nonblocking", {
        let (read_end, _write_end) = nonblocking();
        read(read_end, 1)
    }),
    case!("how_much_goes_in", {
        let (_read_end, write_end) = nonblocking();
        answers!(fill(write_end, 4096), write(write_end, b"x"))
    }),
    case!("how_much_goes_in_byte_by_byte", {
        let (_read_end, write_end) = nonblocking();
        fill(write_end, 1)
    }),
    // How much room a byte that was read leaves is the kernel's affair: Linux counts pages.
    case!("a_full_pipe_has_room_again_when_a_page_was_read", {
        let (read_end, write_end) = nonblocking();
        fill(write_end, 4096);
        read_up_to(read_end, 4096);
        answers!(write(write_end, b"x"))
    }),
    case!("a_write_of_pipe_buf_is_whole_or_nothing", {
        let (read_end, write_end) = nonblocking();
        fill(write_end, 4096);
        read_up_to(read_end, 4096);
        write(write_end, b"x");
        write(write_end, &[b'y'; 4096])
    }),
    case!("a_larger_write_may_be_cut", {
        let (_read_end, write_end) = nonblocking();
        write(write_end, &vec![b'x'; 100_000])
    }),
    case!("a_write_that_goes_bad_moves_whole_pages", {
        let (read_end, write_end) = nonblocking();
        let bytes = three_pages();
        let moved = value(sys!(write(write_end, bytes.wrapping_add(2048).cast(), 4 * 4096)));
        answers!(moved, readable_bytes(read_end), read_up_to(read_end, 20_000).iter().all(|byte| *byte == b'y'))
    }),
    case!("a_write_that_is_bad_within_the_first_page_moves_nothing", {
        let (read_end, write_end) = nonblocking();
        let bytes = three_pages();
        answers!(
            value(sys!(write(write_end, bytes.wrapping_add(3 * 4096 - 100).cast(), 4096))),
            value(sys!(write(write_end, bytes.wrapping_add(3 * 4096 - 100).cast(), 40_000))),
            readable_bytes(read_end)
        )
    }),
    case!("a_read_that_goes_bad_leaves_the_pages_that_did_not_fit", {
        let (read_end, write_end) = nonblocking();
        write_all(write_end, &(0..4 * 4096).map(|index| (index / 100) as u8).collect::<Vec<_>>());
        let bytes = three_pages();
        let moved = value(sys!(read(read_end, bytes.wrapping_add(2048).cast(), 4 * 4096)));
        let again = value(sys!(read(read_end, bytes.wrapping_add(3 * 4096 - 100).cast(), 4096)));
        answers!(moved, again, readable_bytes(read_end), read_up_to(read_end, 20_000).first().copied().unwrap_or(0))
    }),
    case!("chunks_of_all_sizes_come_through", {
        let (read_end, write_end) = pipe();
        let content: Vec<u8> = (0..3_000_000u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let mut sizes = (0..).map(|step| 1 + step * 7919 % [300, 5000, 70_000, 200_000][step % 4]);
        let child = fork(|| {
            let mut rest = &content[..];
            while !rest.is_empty() {
                let (now, later) = rest.split_at(sizes.next().unwrap_or(1).min(rest.len()));
                write_all(write_end, now);
                rest = later;
            }
            0
        });
        close(write_end);
        let mut read = Vec::new();
        loop {
            let some = read_up_to(read_end, sizes.next().unwrap_or(1));
            if some.is_empty() {
                break;
            }
            read.extend(some);
        }
        answers!(read == content, ending(child))
    }),
    case!("a_reader_waits_for_a_writer", {
        let (read_end, write_end) = pipe();
        let child = fork(|| {
            sleep_ms(20);
            write_all(write_end, b"late");
            0
        });
        answers!(read(read_end, 10), ending(child))
    }),
    case!("a_writer_waits_for_a_reader", {
        let (read_end, write_end) = pipe();
        let child = fork(|| {
            close(read_end);
            write_all(write_end, &vec![b'x'; 200_000]);
            0
        });
        close(write_end);
        sleep_ms(20);
        answers!(read_to_end(read_end).len(), ending(child))
    }),
    case!("two_writers_do_not_mix_lines", {
        let (read_end, write_end) = pipe();
        for byte in [b'a', b'b'] {
            fork(|| {
                for _ in 0..200 {
                    write_all(write_end, &[byte; 1000]);
                }
                0
            });
        }
        close(write_end);
        let all = read_to_end(read_end);
        answers!(all.len(), all.chunks(1000).all(|line| line.iter().all(|byte| *byte == line[0])))
    }),
    case!("the_pipes_size", {
        let (_read_end, write_end) = pipe();
        answers!(
            value(sys!(fcntl(write_end, libc::F_GETPIPE_SZ))),
            value(sys!(fcntl(write_end, libc::F_SETPIPE_SZ, 5000))),
            value(sys!(fcntl(write_end, libc::F_SETPIPE_SZ, 1 << 20))),
            value(sys!(fcntl(0, libc::F_GETPIPE_SZ))),
            value(sys!(fcntl(write_end, libc::F_SETPIPE_SZ, 0)))
        )
    }),
    case!("a_pipe_can_not_shrink_below_its_content", {
        let (_read_end, write_end) = pipe();
        write_all(write_end, &[b'x'; 10_000]);
        value(sys!(fcntl(write_end, libc::F_SETPIPE_SZ, 4096)))
    }),
    case!("bytes_to_be_read", {
        let (read_end, write_end) = pipe();
        write(write_end, b"hello");
        let mut count = 0_i32;
        answers!(ok(sys!(ioctl(read_end, libc::FIONREAD, &mut count))), count)
    }),
    case!("pipe2_refuses", {
        let mut ends = [0; 2];
        answers!(ok(sys!(pipe2(ends.as_mut_ptr(), 0x1))), ok(sys!(pipe(BAD as *mut _))))
    }),
    case!("a_failed_pipe_leaves_no_descriptor", {
        sys!(syscall(libc::SYS_pipe, 1));
        open(c".", 0)
    }),
    case!("a_pipe_can_be_opened_again", {
        let (_read_end, write_end) = pipe();
        write(write_end, b"x");
        read(open(c"/proc/self/fd/3", libc::O_RDONLY), 1)
    }),
    case!("a_pipe_can_be_opened_again_when_its_writer_is_gone", {
        let (read_end, write_end) = pipe();
        write(write_end, b"left behind");
        close(write_end);
        let again = open(c"/proc/self/fd/3", libc::O_RDONLY);
        close(read_end);
        answers!(read(again, 20), poll(&[(again, libc::POLLIN)], 0), read(again, 20))
    }),
    case!("a_fifo", {
        sys!(mkfifo(c"f".as_ptr(), 0o644));
        let child = fork(|| {
            let file = open(c"f", libc::O_WRONLY);
            write_all(file, b"through");
            0
        });
        let file = open(c"f", libc::O_RDONLY);
        answers!(read(file, 20), read(file, 20), ending(child))
    }),
    case!("a_fifo_without_a_partner", {
        sys!(mkfifo(c"f".as_ptr(), 0o644));
        answers!(
            ok(open(c"f", libc::O_WRONLY | libc::O_NONBLOCK)),
            ok(open(c"f", libc::O_RDONLY | libc::O_NONBLOCK)),
            ok(open(c"f", libc::O_WRONLY | libc::O_NONBLOCK)),
            ok(open(c"f", libc::O_RDWR))
        )
    }),
    case!("an_empty_fifo_that_nobody_writes", {
        sys!(mkfifo(c"f".as_ptr(), 0o644));
        read(open(c"f", libc::O_RDONLY | libc::O_NONBLOCK), 5)
    }),
    case!("a_fifo_keeps_nothing", {
        sys!(mkfifo(c"f".as_ptr(), 0o644));
        let file = open(c"f", libc::O_RDWR);
        write(file, b"lost");
        close(file);
        read(open(c"f", libc::O_RDONLY | libc::O_NONBLOCK), 5)
    }),
    case!(
        "mkfifo_refuses",
        answers!(
            ok(sys!(mkfifo(c"f".as_ptr(), 0o644))),
            ok(sys!(mkfifo(c"f".as_ptr(), 0o644))),
            ok(sys!(mkfifo(c"no/f".as_ptr(), 0o644)))
        )
    ),
    case!("poll_of_an_empty_pipe", {
        let (read_end, write_end) = pipe();
        poll(&[(read_end, libc::POLLIN), (write_end, libc::POLLOUT)], 0)
    }),
    case!("poll_of_a_pipe_with_something", {
        let (read_end, write_end) = pipe();
        write(write_end, b"x");
        poll(&[(read_end, libc::POLLIN), (write_end, libc::POLLOUT)], -1)
    }),
    case!("poll_of_a_full_pipe", {
        let (_read_end, write_end) = nonblocking();
        fill(write_end, 4096);
        poll(&[(write_end, libc::POLLOUT)], 0)
    }),
    case!("poll_of_a_pipe_without_a_writer", {
        let (read_end, write_end) = pipe();
        write(write_end, b"x");
        close(write_end);
        let first = poll(&[(read_end, libc::POLLIN)], -1);
        read(read_end, 1);
        answers!(first, poll(&[(read_end, libc::POLLIN)], -1), poll(&[(read_end, 0)], -1))
    }),
    case!("poll_of_a_fifo_hangs_up_only_after_a_writer", {
        sys!(mkfifo(c"f".as_ptr(), 0o644));
        let early = open(c"f", libc::O_RDONLY | libc::O_NONBLOCK);
        let never = poll(&[(early, libc::POLLIN)], 0);
        close(open(c"f", libc::O_WRONLY));
        let late = open(c"f", libc::O_RDONLY | libc::O_NONBLOCK);
        let gone = poll(&[(early, libc::POLLIN), (late, libc::POLLIN)], 0);
        close(open(c"f", libc::O_WRONLY));
        answers!(never, gone, poll(&[(early, libc::POLLIN), (late, libc::POLLIN)], 0))
    }),
    case!("poll_of_a_pipe_without_a_reader", {
        let (read_end, write_end) = pipe();
        close(read_end);
        poll(&[(write_end, libc::POLLOUT)], -1)
    }),
    case!("poll_of_bad_descriptors", poll(&[(77, libc::POLLIN), (-1, libc::POLLIN)], 0)),
    case!("poll_of_a_file", {
        make_file(c"f", b"", 0o644);
        poll(&[(open(c"f", libc::O_RDWR), libc::POLLIN | libc::POLLOUT)], -1)
    }),
    case!(
        "poll_of_devices",
        poll(
            &[
                (open(c"/dev/null", libc::O_RDWR), libc::POLLIN | libc::POLLOUT),
                (open(c"/dev/zero", libc::O_RDWR), libc::POLLIN | libc::POLLOUT)
            ],
            -1
        )
    ),
    case!("poll_runs_out", {
        let (read_end, _write_end) = pipe();
        poll(&[(read_end, libc::POLLIN)], 20)
    }),
    case!("poll_wakes", {
        let (read_end, write_end) = pipe();
        let child = fork(|| {
            sleep_ms(20);
            write_all(write_end, b"x");
            0
        });
        answers!(poll(&[(read_end, libc::POLLIN)], -1), ending(child))
    }),
    case!("poll_wakes_at_the_end", {
        let (read_end, write_end) = pipe();
        let child = fork(|| {
            sleep_ms(20);
            0
        });
        close(write_end);
        answers!(poll(&[(read_end, libc::POLLIN)], -1), ending(child))
    }),
    case!("poll_of_nothing", answers!(poll(&[], 10), value(sys!(poll(BAD as *mut _, 1, 0))))),
    case!("ppoll_with_a_mask", {
        let (read_end, _write_end) = pipe();
        let mut entry = libc::pollfd { fd: read_end, events: libc::POLLIN, revents: 0 };
        let short = libc::timespec { tv_sec: 0, tv_nsec: 1_000_000 };
        let bad = libc::timespec { tv_sec: 0, tv_nsec: -1 };
        answers!(
            value(sys!(ppoll(&mut entry, 1, &short, std::ptr::null()))),
            value(sys!(ppoll(&mut entry, 1, &bad, std::ptr::null())))
        )
    }),
    case!("select_reads_and_writes", {
        let (read_end, write_end) = pipe();
        let before = select(10, Some(read_end), Some(write_end), 0);
        write(write_end, b"x");
        answers!(before, select(10, Some(read_end), Some(write_end), 1_000_000))
    }),
    case!("select_runs_out", {
        let (read_end, _write_end) = pipe();
        select(10, Some(read_end), None, 10_000)
    }),
    case!("select_looks_below_its_first_argument_only", {
        let (read_end, write_end) = pipe();
        write(write_end, b"x");
        select(read_end, Some(read_end), None, 0)
    }),
    case!("select_refuses", {
        let (read_end, write_end) = pipe();
        close(write_end);
        close(read_end);
        answers!(select(10, Some(read_end), None, 0), select(-1, None, None, 0), select(1, None, None, -5))
    }),
    case!("select_at_the_end_of_input", {
        let (read_end, write_end) = pipe();
        close(write_end);
        select(10, Some(read_end), None, 1_000_000)
    }),
    case!("pselect_with_a_time", {
        let time = libc::timespec { tv_sec: 0, tv_nsec: 1_000_000 };
        value(sys!(pselect(0, null_mut(), null_mut(), null_mut(), &time, std::ptr::null())))
    }),
    case!("splice_family_is_there_or_not", {
        let (read_end, write_end) = pipe();
        write(write_end, b"hello");
        make_file(c"f", b"", 0o644);
        let file = open(c"f", libc::O_RDWR);
        answers!(value(sys!(sendfile(file, read_end, null_mut(), 5))))
    }),
];
