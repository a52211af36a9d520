//! Files: opening, reading and writing, offsets, sizes, descriptors, locks, times.

use conformance::support::*;
use conformance::{answers, case, sys};
use std::ffi::CStr;
use std::ptr::null_mut;

fn size(path: &CStr) -> i64 {
    status_of(path).map_or(-1, |status| status.st_size)
}

fn fresh(content: &[u8]) -> i32 {
    make_file(c"file", content, 0o644);
    open(c"file", libc::O_RDWR)
}

fn seek(file: i32, offset: i64, whence: i32) -> String {
    value(sys!(lseek(file, offset, whence)))
}

fn open_mode(path: &CStr, flags: i32, mode: libc::mode_t) -> i32 {
    sys!(open(path.as_ptr(), flags, mode as libc::c_uint))
}

fn flags_of(file: i32) -> i32 {
    sys!(fcntl(file, libc::F_GETFL)) & !0o100000
}

fn iovecs(parts: &[&'static str]) -> Vec<libc::iovec> {
    parts.iter().map(|part| libc::iovec { iov_base: part.as_ptr().cast_mut().cast(), iov_len: part.len() }).collect()
}

fn lock(file: i32, command: i32, kind: i32, start: i64, length: i64) -> String {
    let mut lock =
        libc::flock { l_type: kind as i16, l_whence: libc::SEEK_SET as i16, l_start: start, l_len: length, l_pid: 0 };
    if sys!(fcntl(file, command, &mut lock)) < 0 {
        return last_errno();
    }
    if command == libc::F_GETLK {
        return match i32::from(lock.l_type) {
            libc::F_UNLCK => "free".into(),
            libc::F_RDLCK => format!("read lock {}+{}", lock.l_start, lock.l_len),
            _ => format!("write lock {}+{}", lock.l_start, lock.l_len),
        };
    }
    "ok".into()
}

pub const CASES: &[Case] = &[
    case!("open_of_what_is_not_there", ok(open(c"missing", libc::O_RDONLY))),
    case!("creating", {
        let file = open_mode(c"new", libc::O_CREAT | libc::O_WRONLY, 0o666);
        answers!(file, status_of(c"new").map_or(0, |status| status.st_mode))
    }),
    case!("creating_with_odd_modes", {
        sys!(umask(0));
        open_mode(c"new", libc::O_CREAT | libc::O_WRONLY, 0o7777);
        status_of(c"new").map_or(0, |status| status.st_mode & 0o7777)
    }),
    case!("creating_a_file_that_may_not_be_written_and_writing_it", {
        let file = open_mode(c"new", libc::O_CREAT | libc::O_WRONLY, 0o444);
        write(file, b"x")
    }),
    case!(
        "exclusive_creation",
        answers!(ok(open(c"new", libc::O_CREAT | libc::O_EXCL)), ok(open(c"new", libc::O_CREAT | libc::O_EXCL)))
    ),
    case!("exclusive_creation_through_a_link", {
        sys!(symlink(c"nowhere".as_ptr(), c"link".as_ptr()));
        answers!(
            ok(open(c"link", libc::O_CREAT | libc::O_EXCL)),
            ok(open(c"link", libc::O_CREAT)),
            status_of(c"nowhere").is_some()
        )
    }),
    case!("creating_in_a_folder_that_is_not_there", ok(open(c"no/file", libc::O_CREAT))),
    case!("creating_with_a_slash_at_the_end", ok(open(c"file/", libc::O_CREAT | libc::O_WRONLY))),
    case!("creating_a_name_that_is_a_folder", ok(open(c".", libc::O_CREAT | libc::O_RDONLY))),
    case!(
        "opening_a_folder",
        answers!(ok(open(c".", libc::O_RDONLY)), ok(open(c".", libc::O_WRONLY)), ok(open(c".", libc::O_RDWR)))
    ),
    case!("opening_a_file_as_a_folder", {
        fresh(b"");
        answers!(
            ok(open(c"file", libc::O_RDONLY | libc::O_DIRECTORY)),
            ok(open(c"file/", libc::O_RDONLY)),
            ok(open(c"file/.", libc::O_RDONLY))
        )
    }),
    case!("opening_without_following", {
        fresh(b"");
        sys!(symlink(c"file".as_ptr(), c"link".as_ptr()));
        answers!(
            ok(open(c"link", libc::O_RDONLY | libc::O_NOFOLLOW)),
            ok(open(c"file", libc::O_RDONLY | libc::O_NOFOLLOW)),
            ok(open(c"link", libc::O_PATH | libc::O_NOFOLLOW))
        )
    }),
    case!("truncating_on_opening", {
        fresh(b"hello");
        close(open(c"file", libc::O_WRONLY | libc::O_TRUNC));
        size(c"file")
    }),
    case!("an_empty_path", ok(open(c"", libc::O_RDONLY))),
    case!("a_bad_path_pointer", ok(sys!(open(BAD as *const _, 0)))),
    case!("the_lowest_free_descriptor", {
        let first = fresh(b"");
        let second = open(c"file", 0);
        close(first);
        answers!(first, second, open(c"file", 0), open(c"file", 0))
    }),
    case!("temporary_file_without_a_name", {
        let file = open_mode(c".", libc::O_TMPFILE | libc::O_RDWR, 0o600);
        answers!(ok(file), write(file, b"x"), status_of_descriptor(file).map_or(9, |status| status.st_nlink))
    }),
    case!("path_only_descriptors", {
        fresh(b"x");
        let file = open(c"file", libc::O_PATH);
        answers!(
            read(file, 1),
            write(file, b"x"),
            ok(sys!(fchmod(file, 0o600))),
            status_of_descriptor(file).is_some(),
            ok(sys!(fcntl(file, libc::F_GETFL)))
        )
    }),
    case!("unknown_open_flags_are_passed_over", {
        fresh(b"");
        ok(open(c"file", 0x4000_0000))
    }),
    case!("access_mode_3", {
        fresh(b"x");
        let file = open(c"file", 3);
        answers!(ok(file), read(file, 1), write(file, b"x"))
    }),
    case!("reading_and_writing", {
        let file = fresh(b"hello");
        answers!(read(file, 2), write(file, b"LL"), read(file, 10), read(file, 10), content(c"file"))
    }),
    case!("reading_what_is_open_for_writing", {
        make_file(c"file", b"x", 0o644);
        read(open(c"file", libc::O_WRONLY), 1)
    }),
    case!("writing_what_is_open_for_reading", {
        make_file(c"file", b"x", 0o644);
        write(open(c"file", libc::O_RDONLY), b"x")
    }),
    case!("reading_a_folder", read(open(c".", libc::O_RDONLY), 10)),
    case!("reading_a_bad_descriptor", answers!(read(77, 1), write(77, b"x"), value(close(77)), value(close(-1)))),
    case!("reading_nothing", {
        let file = fresh(b"x");
        answers!(value(sys!(read(file, BAD as *mut _, 0))), value(sys!(write(file, BAD as *const _, 0))))
    }),
    case!("reading_too_much", {
        let file = fresh(b"x");
        value(sys!(read(file, null_mut(), usize::MAX)))
    }),
    case!("appending", {
        fresh(b"one");
        let file = open(c"file", libc::O_WRONLY | libc::O_APPEND);
        sys!(lseek(file, 0, libc::SEEK_SET));
        write(file, b"two");
        answers!(content(c"file"), seek(file, 0, libc::SEEK_CUR))
    }),
    case!("writing_past_the_end_leaves_a_hole", {
        let file = fresh(b"x");
        sys!(lseek(file, 5, libc::SEEK_SET));
        write(file, b"y");
        content(c"file")
    }),
    case!("a_sparse_file_takes_few_blocks", {
        let file = fresh(b"");
        sys!(lseek(file, 1 << 30, libc::SEEK_SET));
        write(file, b"y");
        answers!(size(c"file"), status_of(c"file").is_some_and(|status| status.st_blocks <= 16))
    }),
    case!("seeking", {
        let file = fresh(b"hello");
        answers!(
            seek(file, 2, libc::SEEK_SET),
            seek(file, 2, libc::SEEK_CUR),
            seek(file, 2, libc::SEEK_END),
            seek(file, -1, libc::SEEK_SET),
            seek(file, -8, libc::SEEK_CUR),
            seek(file, 0, 77)
        )
    }),
    case!("seeking_far", {
        let file = fresh(b"");
        answers!(seek(file, i64::MAX, libc::SEEK_SET), seek(file, 1, libc::SEEK_CUR), write(file, b"x"))
    }),
    case!("seeking_data_and_holes", {
        let file = fresh(b"");
        sys!(lseek(file, 1 << 20, libc::SEEK_SET));
        write(file, b"y");
        answers!(
            seek(file, 0, libc::SEEK_DATA),
            seek(file, 0, libc::SEEK_HOLE),
            seek(file, 1 << 20, libc::SEEK_HOLE),
            seek(file, 2 << 20, libc::SEEK_DATA)
        )
    }),
    case!("seeking_in_a_pipe", {
        let (read_end, _) = pipe();
        seek(read_end, 0, libc::SEEK_CUR)
    }),
    case!("positioned_reading_and_writing", {
        let file = fresh(b"hello");
        let mut buffer = [0_u8; 3];
        let count = sys!(pread(file, buffer.as_mut_ptr().cast(), 3, 1));
        answers!(
            count,
            String::from_utf8_lossy(&buffer),
            value(sys!(pwrite(file, c"XY".as_ptr().cast(), 2, 4))),
            content(c"file"),
            seek(file, 0, libc::SEEK_CUR),
            value(sys!(pread(file, buffer.as_mut_ptr().cast(), 3, 100))),
            value(sys!(pread(file, buffer.as_mut_ptr().cast(), 3, -1)))
        )
    }),
    case!("positioned_writing_to_an_appending_file_appends", {
        fresh(b"hello");
        let file = open(c"file", libc::O_RDWR | libc::O_APPEND);
        sys!(pwrite(file, c"XY".as_ptr().cast(), 2, 0));
        content(c"file")
    }),
    case!("positioned_reading_of_a_pipe", {
        let (read_end, _) = pipe();
        let mut byte = 0_u8;
        value(sys!(pread(read_end, (&raw mut byte).cast(), 1, 0)))
    }),
    case!("vectors", {
        let file = fresh(b"");
        let parts = iovecs(&["one", "", "three"]);
        let written = value(sys!(writev(file, parts.as_ptr(), 3)));
        let (mut first, mut second) = ([0_u8; 4], [0_u8; 9]);
        let into = [
            libc::iovec { iov_base: first.as_mut_ptr().cast(), iov_len: 4 },
            libc::iovec { iov_base: second.as_mut_ptr().cast(), iov_len: 9 },
        ];
        answers!(
            written,
            value(sys!(preadv(file, into.as_ptr(), 2, 0))),
            String::from_utf8_lossy(&first),
            String::from_utf8_lossy(&second[..4])
        )
    }),
    case!("vectors_refuse", {
        let file = fresh(b"");
        let bad = [libc::iovec { iov_base: null_mut(), iov_len: usize::MAX }];
        answers!(
            value(sys!(writev(file, bad.as_ptr(), 1))),
            value(sys!(writev(file, bad.as_ptr(), -1))),
            value(sys!(writev(file, bad.as_ptr(), 1025))),
            value(sys!(writev(file, BAD as *const _, 1))),
            value(sys!(writev(file, bad.as_ptr(), 0)))
        )
    }),
    case!("a_vector_with_a_bad_part", {
        let file = fresh(b"");
        let parts = [iovecs(&["good"])[0], libc::iovec { iov_base: BAD as *mut _, iov_len: 4 }];
        answers!(value(sys!(writev(file, parts.as_ptr(), 2))), content(c"file"))
    }),
    case!("cutting_and_stretching", {
        let file = fresh(b"hello");
        answers!(
            ok(sys!(ftruncate(file, 2))),
            content(c"file"),
            ok(sys!(ftruncate(file, 4))),
            content(c"file"),
            ok(sys!(truncate(c"file".as_ptr(), 0))),
            size(c"file")
        )
    }),
    case!("cutting_refuses", {
        let file = fresh(b"x");
        answers!(
            ok(sys!(ftruncate(file, -1))),
            ok(sys!(truncate(c".".as_ptr(), 0))),
            ok(sys!(truncate(c"missing".as_ptr(), 0))),
            ok(sys!(ftruncate(open(c"file", libc::O_RDONLY), 0))),
            ok(sys!(ftruncate(pipe().0, 0)))
        )
    }),
    case!("a_cut_file_is_zero_when_it_grows_again", {
        let file = fresh(b"hello");
        sys!(ftruncate(file, 1));
        sys!(ftruncate(file, 5));
        content(c"file")
    }),
    case!("fallocate", {
        let file = fresh(b"x");
        answers!(
            ok(sys!(fallocate(file, 0, 0, 100))),
            size(c"file"),
            ok(sys!(fallocate(file, libc::FALLOC_FL_KEEP_SIZE, 0, 1000))),
            size(c"file"),
            ok(sys!(fallocate(file, 0, -1, 10))),
            ok(sys!(fallocate(file, 0, 0, 0)))
        )
    }),
    case!("punching_a_hole", {
        let file = fresh(b"abcdef");
        answers!(
            ok(sys!(fallocate(file, libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE, 1, 3))),
            content(c"file")
        )
    }),
    case!("syncing", {
        let file = fresh(b"x");
        answers!(ok(sys!(fsync(file))), ok(sys!(fdatasync(file))), ok(sys!(fsync(pipe().0))), ok(sys!(fsync(77))))
    }),
    case!("sendfile", {
        let from = fresh(b"hello world");
        let to = open(c"copy", libc::O_RDWR | libc::O_CREAT);
        let mut offset = 6;
        answers!(
            value(sys!(sendfile(to, from, null_mut(), 5))),
            value(sys!(sendfile(to, from, &mut offset, 100))),
            offset,
            content(c"copy"),
            seek(from, 0, libc::SEEK_CUR)
        )
    }),
    case!("copy_file_range", {
        let from = fresh(b"hello world");
        let to = open(c"copy", libc::O_RDWR | libc::O_CREAT);
        answers!(
            value(sys!(copy_file_range(from, null_mut(), to, null_mut(), 5, 0))),
            content(c"copy"),
            value(sys!(copy_file_range(from, null_mut(), from, null_mut(), 50, 0))),
            value(sys!(copy_file_range(from, null_mut(), to, null_mut(), 5, 1)))
        )
    }),
    case!("large_contents_come_back", {
        let file = fresh(b"");
        let bytes: Vec<u8> = (0..300_000_u32).map(|index| (index.wrapping_mul(2654435761) >> 24) as u8).collect();
        write_all(file, &bytes);
        sys!(lseek(file, 0, libc::SEEK_SET));
        read_to_end(file) == bytes
    }),
    case!("duplicates", {
        let file = fresh(b"abc");
        let second = sys!(dup(file));
        read(file, 1);
        answers!(read(second, 1), sys!(dup2(file, 50)), read(50, 1), sys!(dup2(file, file)) == file)
    }),
    case!(
        "duplicating_refuses",
        answers!(
            value(sys!(dup(77))),
            value(sys!(dup2(77, 5))),
            value(sys!(dup2(0, -1))),
            value(sys!(dup2(0, 1 << 20))),
            value(sys!(dup3(0, 0, 0))),
            value(sys!(dup3(0, 9, 77))),
            value(sys!(fcntl(0, libc::F_DUPFD, -1)))
        )
    ),
    case!(
        "duplicating_from_a_number_on",
        answers!(
            sys!(fcntl(0, libc::F_DUPFD, 40)),
            sys!(fcntl(0, libc::F_DUPFD_CLOEXEC, 40)),
            sys!(fcntl(40, libc::F_GETFD)),
            sys!(fcntl(41, libc::F_GETFD))
        )
    ),
    case!("dup_of_a_closing_descriptor_stays_open", {
        fresh(b"");
        let file = open(c"file", libc::O_CLOEXEC);
        answers!(
            sys!(fcntl(file, libc::F_GETFD)),
            sys!(fcntl(sys!(dup(file)), libc::F_GETFD)),
            sys!(fcntl(sys!(dup3(file, 30, libc::O_CLOEXEC)), libc::F_GETFD))
        )
    }),
    case!("status_flags", {
        fresh(b"");
        let file = open(c"file", libc::O_WRONLY | libc::O_APPEND | libc::O_CREAT | libc::O_TRUNC | libc::O_CLOEXEC);
        answers!(
            flags_of(file),
            ok(sys!(fcntl(file, libc::F_SETFL, libc::O_NONBLOCK))),
            flags_of(file),
            ok(sys!(fcntl(file, libc::F_SETFL, libc::O_RDWR))),
            flags_of(file)
        )
    }),
    case!("duplicates_share_status_flags", {
        let file = fresh(b"");
        let second = sys!(dup(file));
        sys!(fcntl(file, libc::F_SETFL, libc::O_APPEND));
        flags_of(second) & libc::O_APPEND != 0
    }),
    case!("fcntl_of_what_there_is_not", answers!(value(sys!(fcntl(0, 9999))), value(sys!(fcntl(77, libc::F_GETFD))))),
    case!("close_range", {
        for descriptor in 20..30 {
            sys!(dup2(0, descriptor));
        }
        answers!(
            ok(sys!(close_range(22, 27, 0))),
            (20..30).map(|descriptor| yes(sys!(fcntl(descriptor, libc::F_GETFD)) >= 0)).collect::<Vec<_>>().join(" "),
            ok(sys!(close_range(5, 4, 0))),
            ok(sys!(close_range(28, 29, 4))),
            sys!(fcntl(28, libc::F_GETFD))
        )
    }),
    case!(
        "ioctl_of_a_file",
        answers!(
            ok(sys!(ioctl(fresh(b"x"), libc::TCGETS, null_mut::<u8>()))),
            ok(sys!(ioctl(77, libc::TCGETS, null_mut::<u8>())))
        )
    ),
    case!("bytes_to_be_read", {
        let file = fresh(b"hello");
        read(file, 2);
        let mut count = 0_i32;
        answers!(ok(sys!(ioctl(file, libc::FIONREAD, &mut count))), count)
    }),
    case!("close_on_exec_by_ioctl", {
        let file = fresh(b"");
        answers!(
            ok(sys!(ioctl(file, libc::FIOCLEX))),
            sys!(fcntl(file, libc::F_GETFD)),
            ok(sys!(ioctl(file, libc::FIONCLEX))),
            sys!(fcntl(file, libc::F_GETFD))
        )
    }),
    case!("record_locks", {
        let file = fresh(b"0123456789");
        let own = lock(file, libc::F_SETLK, libc::F_WRLCK, 2, 3);
        asked_in_child(|| {
            answers!(
                own,
                lock(file, libc::F_GETLK, libc::F_WRLCK, 0, 0),
                lock(file, libc::F_SETLK, libc::F_WRLCK, 4, 1),
                lock(file, libc::F_SETLK, libc::F_WRLCK, 5, 1),
                lock(file, libc::F_GETLK, libc::F_RDLCK, 0, 2)
            )
        })
    }),
    case!("record_locks_split_and_merge", {
        let file = fresh(b"0123456789");
        lock(file, libc::F_SETLK, libc::F_WRLCK, 0, 10);
        lock(file, libc::F_SETLK, libc::F_UNLCK, 4, 2);
        asked_in_child(|| {
            answers!(
                lock(file, libc::F_GETLK, libc::F_WRLCK, 0, 0),
                lock(file, libc::F_GETLK, libc::F_WRLCK, 4, 2),
                lock(file, libc::F_GETLK, libc::F_WRLCK, 5, 0)
            )
        })
    }),
    case!("read_locks_are_shared", {
        let file = fresh(b"x");
        lock(file, libc::F_SETLK, libc::F_RDLCK, 0, 0);
        asked_in_child(|| {
            answers!(lock(file, libc::F_SETLK, libc::F_RDLCK, 0, 0), lock(file, libc::F_SETLK, libc::F_WRLCK, 0, 0))
        })
    }),
    case!("closing_any_descriptor_drops_record_locks", {
        let file = fresh(b"x");
        lock(file, libc::F_SETLK, libc::F_WRLCK, 0, 0);
        close(open(c"file", 0));
        asked_in_child(|| lock(file, libc::F_SETLK, libc::F_WRLCK, 0, 0))
    }),
    case!("record_locks_refuse", {
        make_file(c"file", b"x", 0o644);
        answers!(
            lock(open(c"file", libc::O_RDONLY), libc::F_SETLK, libc::F_WRLCK, 0, 0),
            lock(open(c"file", libc::O_WRONLY), libc::F_SETLK, libc::F_RDLCK, 0, 0),
            lock(open(c"file", libc::O_RDWR), libc::F_SETLK, 7, 0, 0),
            lock(open(c"file", libc::O_RDWR), libc::F_SETLK, libc::F_WRLCK, -1, 1)
        )
    }),
    case!("waiting_for_a_record_lock", {
        let file = fresh(b"x");
        let (read_end, write_end) = pipe();
        let child = fork(|| {
            lock(file, libc::F_SETLK, libc::F_WRLCK, 0, 0);
            write_all(write_end, b"x");
            sleep_ms(50);
            3
        });
        read(read_end, 1);
        answers!(lock(file, libc::F_SETLKW, libc::F_WRLCK, 0, 0), ending(child))
    }),
    case!("whole_file_locks", {
        let file = fresh(b"x");
        let other = open(c"file", 0);
        answers!(
            ok(sys!(flock(file, libc::LOCK_EX))),
            ok(sys!(flock(other, libc::LOCK_SH | libc::LOCK_NB))),
            ok(sys!(flock(file, libc::LOCK_SH))),
            ok(sys!(flock(other, libc::LOCK_SH | libc::LOCK_NB))),
            ok(sys!(flock(file, libc::LOCK_UN))),
            ok(sys!(flock(other, libc::LOCK_EX | libc::LOCK_NB))),
            ok(sys!(flock(other, 77)))
        )
    }),
    case!("a_whole_file_lock_ends_with_its_last_descriptor", {
        let file = fresh(b"x");
        let copy = sys!(dup(file));
        sys!(flock(file, libc::LOCK_EX));
        close(file);
        let held = ok(sys!(flock(open(c"file", 0), libc::LOCK_EX | libc::LOCK_NB)));
        close(copy);
        answers!(held, ok(sys!(flock(open(c"file", 0), libc::LOCK_EX | libc::LOCK_NB))))
    }),
    case!(
        "dev_null_and_zero_and_full",
        answers!(
            read(open(c"/dev/null", 0), 5),
            write(open(c"/dev/null", libc::O_WRONLY), b"hello"),
            read(open(c"/dev/zero", 0), 3),
            read(open(c"/dev/full", 0), 3),
            write(open(c"/dev/full", libc::O_WRONLY), b"x"),
            write(open(c"/dev/zero", libc::O_WRONLY), b"x")
        )
    ),
    case!("dev_random_differs", read_up_to(open(c"/dev/urandom", 0), 16) != read_up_to(open(c"/dev/random", 0), 16)),
    case!(
        "seeking_in_dev_null",
        answers!(seek(open(c"/dev/null", 0), 5, libc::SEEK_SET), seek(open(c"/dev/zero", 0), 5, libc::SEEK_SET))
    ),
    case!("dev_fd_duplicates", {
        let file = fresh(b"abc");
        read(file, 1);
        answers!(file, read(open(c"/dev/fd/3", 0), 3), ok(open(c"/dev/fd/77", 0)))
    }),
    case!("advice_about_files", {
        let file = fresh(b"x");
        answers!(
            returned(sys!(posix_fadvise(file, 0, 0, libc::POSIX_FADV_SEQUENTIAL))),
            returned(sys!(posix_fadvise(file, 0, 0, 77))),
            returned(sys!(posix_fadvise(77, 0, 0, 0))),
            returned(sys!(posix_fadvise(pipe().0, 0, 0, 0)))
        )
    }),
];
