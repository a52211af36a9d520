//! What is told of files by the stat family, and their times.

use conformance::support::*;
use conformance::{answers, case, sys};
use std::ffi::CStr;

fn fresh(content: &[u8]) -> i32 {
    make_file(c"file", content, 0o644);
    open(c"file", libc::O_RDWR)
}

fn times_of(path: &CStr) -> String {
    status_of(path).map_or(last_errno(), |status| {
        format!("{}.{} {}.{}", status.st_atime, status.st_atime_nsec, status.st_mtime, status.st_mtime_nsec)
    })
}

fn set_times(path: &CStr, times: [(i64, i64); 2]) -> String {
    let times = times.map(|(tv_sec, tv_nsec)| libc::timespec { tv_sec, tv_nsec });
    ok(sys!(utimensat(libc::AT_FDCWD, path.as_ptr(), times.as_ptr(), 0)))
}

/// Whether a read renews the file's access time, once the clock has gone on.
fn renews(file: i32) -> bool {
    let accessed = || status_of(c"file").map(|status| (status.st_atime, status.st_atime_nsec));
    let before = accessed();
    sleep_ms(20);
    sys!(pread(file, [0_u8].as_mut_ptr().cast(), 1, 0));
    accessed() != before
}

pub const CASES: &[Case] = &[
    case!("times_can_be_set", {
        fresh(b"");
        answers!(set_times(c"file", [(1, 2), (3, 4)]), times_of(c"file"))
    }),
    case!("times_can_be_left", {
        fresh(b"");
        set_times(c"file", [(1, 2), (3, 4)]);
        answers!(set_times(c"file", [(5, 6), (9, libc::UTIME_OMIT)]), times_of(c"file"))
    }),
    case!("times_before_1970", {
        fresh(b"");
        answers!(set_times(c"file", [(-5, 0), (-1, 999_999_999)]), times_of(c"file"))
    }),
    case!("times_refuse", {
        fresh(b"");
        answers!(set_times(c"file", [(0, 1_000_000_000), (0, 0)]), set_times(c"missing", [(0, 0), (0, 0)]))
    }),
    case!("times_of_a_link_itself", {
        sys!(symlink(c"x".as_ptr(), c"link".as_ptr()));
        let times = [libc::timespec { tv_sec: 7, tv_nsec: 0 }; 2];
        answers!(
            ok(sys!(utimensat(libc::AT_FDCWD, c"link".as_ptr(), times.as_ptr(), libc::AT_SYMLINK_NOFOLLOW))),
            times_of(c"link")
        )
    }),
    case!("writing_changes_the_modification_time", {
        let file = fresh(b"x");
        set_times(c"file", [(1, 0), (1, 0)]);
        write(file, b"y");
        status_of(c"file").is_some_and(|status| status.st_mtime > 1 && status.st_ctime > 1)
    }),
    case!("reading_changes_the_access_time", {
        let file = fresh(b"x");
        set_times(c"file", [(1, 0), (1, 0)]);
        read(file, 1);
        status_of(c"file").is_some_and(|status| status.st_atime > 1)
    }),
    case!("which_access_times_reading_renews", {
        let file = fresh(b"x");
        let tomorrow = sys!(time(std::ptr::null_mut())) + 80_000;
        let (first, second) = (renews(file), renews(file));
        write(file, b"y");
        let (written, again) = (renews(file), renews(file));
        sys!(chmod(c"file".as_ptr(), 0o600));
        let (changed, again_2) = (renews(file), renews(file));
        set_times(c"file", [(tomorrow, 0), (1, 0)]);
        let (later, still_later) = (renews(file), renews(file));
        write(file, b"z");
        let later_than_written = renews(file);
        set_times(c"file", [(tomorrow, 0), (tomorrow, 0)]);
        let (as_late, when_set) = (renews(file), renews(file));
        set_times(c"file", [(1, 0), (1, 0)]);
        let (old, at_last) = (renews(file), renews(file));
        answers!(
            format!("{:?}", [first, second, written, again, changed, again_2]),
            format!("{:?}", [later, still_later, later_than_written, as_late, when_set, old, at_last])
        )
    }),
    case!("changing_the_mode_changes_the_status_time_only", {
        fresh(b"x");
        set_times(c"file", [(1, 0), (1, 0)]);
        sys!(chmod(c"file".as_ptr(), 0o600));
        times_of(c"file")
    }),
    case!("stat_of_a_file", {
        fresh(b"hello");
        status_of(c"file").map_or(last_errno(), |status| {
            answers!(
                format!("{:o}", status.st_mode),
                status.st_nlink,
                status.st_uid,
                status.st_gid,
                status.st_size,
                status.st_rdev
            )
        })
    }),
    case!(
        "stat_of_devices",
        [c"/dev/null", c"/dev/zero", c"/dev/full", c"/dev/random", c"/dev/urandom", c"/dev/tty"]
            .map(|path| status_of(path).map_or(last_errno(), |status| format!(
                "{:o} {}:{}",
                status.st_mode & libc::S_IFMT,
                libc::major(status.st_rdev),
                libc::minor(status.st_rdev)
            )))
            .join(", ")
    ),
    case!(
        "stat_of_a_pipe",
        status_of_descriptor(pipe().0)
            .map_or(last_errno(), |status| format!("{:o} {}", status.st_mode, status.st_size))
    ),
    case!("stat_refuses", {
        let mut status = [0_u8; 256];
        answers!(
            ok(sys!(syscall(libc::SYS_stat, c"missing".as_ptr(), status.as_mut_ptr()))),
            ok(sys!(syscall(libc::SYS_stat, c".".as_ptr(), 1))),
            ok(sys!(syscall(libc::SYS_fstat, 77, status.as_mut_ptr()))),
            ok(sys!(syscall(libc::SYS_newfstatat, libc::AT_FDCWD, c"".as_ptr(), status.as_mut_ptr(), 0))),
            ok(sys!(syscall(
                libc::SYS_newfstatat,
                libc::AT_FDCWD,
                c"".as_ptr(),
                status.as_mut_ptr(),
                libc::AT_EMPTY_PATH
            ))),
            ok(sys!(syscall(libc::SYS_newfstatat, libc::AT_FDCWD, c".".as_ptr(), status.as_mut_ptr(), 1)))
        )
    }),
    case!("statx_says_the_same", {
        fresh(b"hello");
        // SAFETY: statx is plain integers; the kernel fills it.
        let mut status: libc::statx = unsafe { std::mem::zeroed() };
        let answer = ok(sys!(statx(libc::AT_FDCWD, c"file".as_ptr(), 0, libc::STATX_BASIC_STATS, &mut status)));
        answers!(
            answer,
            format!("{:o}", status.stx_mode),
            status.stx_size,
            status.stx_nlink,
            status.stx_mask & libc::STATX_BASIC_STATS == libc::STATX_BASIC_STATS,
            status_of(c"file").is_some_and(|other| other.st_ino == status.stx_ino)
        )
    }),
    case!("statfs_of_tmpfs", {
        // SAFETY: statfs is plain integers; the kernel fills it.
        let mut status: libc::statfs = unsafe { std::mem::zeroed() };
        answers!(
            ok(sys!(statfs(c".".as_ptr(), &mut status))),
            format!("{:#x}", status.f_type),
            status.f_bsize,
            status.f_namelen,
            ok(sys!(statfs(c"missing".as_ptr(), &mut status)))
        )
    }),
];
