//! Calls that a libc of today no longer makes, and rare ones: by their numbers.

use conformance::support::*;
use conformance::{answers, case, sys};
use std::ffi::CStr;
use std::ptr::null_mut;

const FILE: &CStr = c"file";

fn with_file(ask: impl FnOnce(i32) -> String) -> String {
    make_file(FILE, b"content", 0o644);
    let file = open(FILE, libc::O_RDWR);
    let answer = ask(file);
    close(file);
    answer
}

fn modified_at() -> i64 {
    status_of(FILE).map_or(-1, |status| status.st_mtime)
}

/// The first bytes of a structure that the kernel fills, as 64-bit words.
fn words<const COUNT: usize>(fill: impl FnOnce(*mut u64) -> i64) -> String {
    let mut words = [0_u64; COUNT];
    match fill(words.as_mut_ptr()) {
        -1 => last_errno(),
        _ => format!("{words:?}"),
    }
}

pub const CASES: &[Case] = &[
    case!("open_creat_and_lstat", {
        let file = sys!(syscall(libc::SYS_creat, FILE.as_ptr(), 0o640)) as i32;
        let again = value(sys!(syscall(libc::SYS_open, FILE.as_ptr(), libc::O_CREAT | libc::O_EXCL, 0o640)));
        let reading = sys!(syscall(libc::SYS_open, FILE.as_ptr(), libc::O_RDONLY)) as i32;
        let missing = value(sys!(syscall(libc::SYS_open, c"missing".as_ptr(), libc::O_RDONLY)));
        sys!(symlink(FILE.as_ptr(), c"link".as_ptr()));
        // SAFETY: stat is plain integers, for which zeros are valid.
        let mut status: libc::stat = unsafe { std::mem::zeroed() };
        let asked = ok(sys!(syscall(libc::SYS_lstat, c"link".as_ptr(), &raw mut status)));
        answers!(write(file, b"ab"), read(reading, 9), again, missing, asked, format!("{:o}", status.st_mode))
    }),
    case!("readv_and_pwritev", {
        with_file(|file| {
            let (mut first, mut second) = ([0_u8; 3], [0_u8; 9]);
            let into = [(first.as_mut_ptr(), 3_usize), (second.as_mut_ptr(), 9)];
            let count = value(sys!(syscall(libc::SYS_readv, file, into.as_ptr(), 2)));
            let from = [(c"XY".as_ptr(), 2_usize), (c"Z".as_ptr(), 1)];
            let written = value(sys!(syscall(libc::SYS_pwritev, file, from.as_ptr(), 2, 5_i64, 0_i64)));
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned();
            let negative = value(sys!(syscall(libc::SYS_pwritev, file, from.as_ptr(), 2, -1_i64, 0_i64)));
            answers!(count, text(&first), text(&second), written, content(FILE), negative)
        })
    }),
    case!("select_finds_what_can_be_read", {
        let (read_end, write_end) = pipe();
        let now = [0_i64; 2];
        let ask = || {
            let (mut readable, mut writable) = ([1_u64 << read_end, 0], [1_u64 << write_end, 0]);
            let count = value(sys!(syscall(
                libc::SYS_select,
                write_end + 1,
                readable.as_mut_ptr(),
                writable.as_mut_ptr(),
                null_mut::<u64>(),
                now.as_ptr()
            )));
            answers!(count, readable[0] != 0, writable[0] != 0)
        };
        let before = ask();
        write_all(write_end, b"x");
        answers!(before, ask(), value(sys!(syscall(libc::SYS_select, -1, 0, 0, 0, now.as_ptr()))))
    }),
    case!("fork_by_its_own_number", {
        let child = sys!(syscall(libc::SYS_fork)) as i32;
        if child == 0 {
            exit(6);
        }
        ending(child)
    }),
    case!("getdents_of_the_old_form", {
        make_file(c"one", b"", 0o644);
        let folder = open(c".", libc::O_RDONLY | libc::O_DIRECTORY);
        let mut buffer = [0_u8; 512];
        let count = sys!(syscall(libc::SYS_getdents, folder, buffer.as_mut_ptr(), buffer.len())).max(0) as usize;
        let mut rest = &buffer[..count];
        let mut names = Vec::new();
        while rest.len() > 18 {
            // struct linux_dirent: inode 8, offset 8, length 2, name; the type is the last byte.
            let length = usize::from(u16::from_le_bytes([rest[16], rest[17]]));
            let name = rest[18..length].split(|&byte| byte == 0).next().unwrap_or_default();
            names.push(format!("{}:{}", String::from_utf8_lossy(name), rest[length - 1]));
            rest = &rest[length..];
        }
        names.sort();
        let small = value(sys!(syscall(libc::SYS_getdents, folder, buffer.as_mut_ptr(), 4)));
        let end = value(sys!(syscall(libc::SYS_getdents, folder, buffer.as_mut_ptr(), buffer.len())));
        answers!(names.join(" "), end, small)
    }),
    case!("getrlimit_and_setrlimit", {
        let limit = [20_u64, 30];
        let set = sys!(syscall(libc::SYS_setrlimit, libc::RLIMIT_NOFILE, limit.as_ptr()));
        let upside_down = [31_u64, 30];
        let refused = value(sys!(syscall(libc::SYS_setrlimit, libc::RLIMIT_NOFILE, upside_down.as_ptr())));
        let unknown = value(sys!(syscall(libc::SYS_getrlimit, 99, BAD)));
        let got = words::<2>(|words| sys!(syscall(libc::SYS_getrlimit, libc::RLIMIT_NOFILE, words)));
        answers!(ok(set), got, refused, unknown)
    }),
    case!("syslog_of_an_unknown_action", value(sys!(syscall(libc::SYS_syslog, 99, 0, 0)))),
    case!("groups_of_a_user", {
        let own = sys!(syscall(libc::SYS_setfsgid, -1));
        let users = as_user(|| {
            let root = value(sys!(syscall(libc::SYS_setregid, 0, -1)));
            let same = value(sys!(syscall(libc::SYS_setregid, -1, -1)));
            let kept = sys!(syscall(libc::SYS_setfsgid, 0)) == sys!(syscall(libc::SYS_setfsgid, -1));
            answers!(root, same, kept)
        });
        answers!(value(own), users)
    }),
    case!("times_by_three_old_calls", {
        with_file(|_| {
            let seconds = [1_000_i64, 2_000];
            let first = ok(sys!(syscall(libc::SYS_utime, FILE.as_ptr(), seconds.as_ptr())));
            let utime = modified_at();
            let microseconds = [1_000_i64, 0, 3_000, 999_999];
            let second = ok(sys!(syscall(libc::SYS_utimes, FILE.as_ptr(), microseconds.as_ptr())));
            let utimes = modified_at();
            let wrong = [1_i64, 0, 1, 1_000_000];
            let refused = value(sys!(syscall(libc::SYS_utimes, FILE.as_ptr(), wrong.as_ptr())));
            let later = [1_000_i64, 0, 4_000, 0];
            let third = ok(sys!(syscall(libc::SYS_futimesat, libc::AT_FDCWD, FILE.as_ptr(), later.as_ptr())));
            answers!(first, utime, second, utimes, refused, third, modified_at())
        })
    }),
    case!("mknod_makes_a_fifo_and_refuses_a_folder", {
        let made = ok(sys!(syscall(libc::SYS_mknod, c"fifo".as_ptr(), libc::S_IFIFO | 0o600, 0)));
        let folder = value(sys!(syscall(libc::SYS_mknod, c"folder".as_ptr(), libc::S_IFDIR | 0o600, 0)));
        let again = value(sys!(syscall(libc::SYS_mknod, c"fifo".as_ptr(), libc::S_IFIFO | 0o600, 0)));
        answers!(made, folder, again, format!("{:o}", status_of(c"fifo").map_or(0, |s| s.st_mode)))
    }),
    case!("scheduling_of_oneself", {
        let (mut parameter, none, one) = (7_i32, 0_i32, 1_i32);
        let asked = ok(sys!(syscall(libc::SYS_sched_getparam, 0, &raw mut parameter)));
        let set = sys!(syscall(libc::SYS_sched_setscheduler, 0, libc::SCHED_OTHER, &raw const none));
        let refused = value(sys!(syscall(libc::SYS_sched_setscheduler, 0, libc::SCHED_OTHER, &raw const one)));
        let unknown = value(sys!(syscall(libc::SYS_sched_setscheduler, 0, 99, &raw const none)));
        let cpus = [1_u64];
        let bound = sys!(syscall(libc::SYS_sched_setaffinity, 0, 8, cpus.as_ptr()));
        let nowhere = [0_u64];
        let lost = value(sys!(syscall(libc::SYS_sched_setaffinity, 0, 8, nowhere.as_ptr())));
        answers!(asked, parameter, ok(set), refused, unknown, ok(bound), lost)
    }),
    case!("scheduling_of_others", {
        let (none, cpus, nowhere) = (0_i32, [1_u64], [0_u64]);
        let bind = |cpus: &[u64; 1]| value(sys!(syscall(libc::SYS_sched_setaffinity, 1, 8, cpus.as_ptr())));
        let unknown = value(sys!(syscall(libc::SYS_sched_setscheduler, 0, 4, &raw const none)));
        as_user(|| {
            let set = value(sys!(syscall(libc::SYS_sched_setscheduler, 1, libc::SCHED_OTHER, &raw const none)));
            answers!(unknown, set, bind(&cpus), bind(&nowhere))
        })
    }),
    case!("the_clock_takes_no_million_microseconds", {
        let time = [1_000_000_000_i64, 1_000_000];
        value(sys!(syscall(libc::SYS_settimeofday, time.as_ptr(), 0)))
    }),
    case!("a_user_may_not_name_the_domain", {
        as_user(|| value(sys!(syscall(libc::SYS_setdomainname, c"here".as_ptr(), 4))))
    }),
    case!("sync_always_works", value(sys!(syscall(libc::SYS_sync)))),
    case!("extended_attributes_of_a_kind_that_is_none", {
        with_file(|file| {
            let (path, missing, name) = (FILE.as_ptr(), c"missing".as_ptr(), c"nonsense.name".as_ptr());
            let ask =
                |number: libc::c_long, path: *const libc::c_char| value(sys!(syscall(number, path, name, BAD, 0, 0)));
            let by_path = [libc::SYS_setxattr, libc::SYS_lsetxattr, libc::SYS_getxattr, libc::SYS_lgetxattr];
            let by_path = by_path.into_iter().chain([libc::SYS_removexattr, libc::SYS_lremovexattr]);
            let paths: Vec<String> = by_path.map(|number| answers!(ask(number, path), ask(number, missing))).collect();
            let by_file = [libc::SYS_fsetxattr, libc::SYS_fgetxattr, libc::SYS_fremovexattr];
            let files = by_file.map(|number| answers!(ask(number, file as usize as *const _), ask(number, BAD_FILE)));
            answers!(paths.join("; "), files.join("; "))
        })
    }),
    case!("extended_attributes_are_listed", {
        with_file(|file| {
            let list = |number: libc::c_long, path: *const libc::c_char| value(sys!(syscall(number, path, 0, 0)));
            let (path, missing) = (FILE.as_ptr(), c"missing".as_ptr());
            let by_path = [libc::SYS_listxattr, libc::SYS_llistxattr];
            let paths = by_path.map(|number| answers!(list(number, path), list(number, missing)));
            let files = [file as usize as *const _, BAD_FILE].map(|file| list(libc::SYS_flistxattr, file));
            answers!(paths.join("; "), files.join(", "))
        })
    }),
    case!("fchownat_and_faccessat", {
        with_file(|_| {
            sys!(symlink(FILE.as_ptr(), c"link".as_ptr()));
            let owner = |flags: i32| {
                sys!(syscall(libc::SYS_fchownat, libc::AT_FDCWD, c"link".as_ptr(), 5, 6, flags));
                answers!(status_of(FILE).map_or(0, |s| s.st_uid), status_of(FILE).map_or(0, |s| s.st_gid))
            };
            let (link, followed) = (owner(libc::AT_SYMLINK_NOFOLLOW), owner(0));
            let unknown = value(sys!(syscall(libc::SYS_fchownat, libc::AT_FDCWD, FILE.as_ptr(), 5, 6, 0x4_0000)));
            let may = |mode: i32| value(sys!(syscall(libc::SYS_faccessat, libc::AT_FDCWD, FILE.as_ptr(), mode)));
            answers!(link, followed, unknown, may(libc::R_OK), may(libc::X_OK), may(8))
        })
    }),
    case!("the_robust_list_can_be_asked_for", {
        let head = [0_u64; 3];
        sys!(syscall(libc::SYS_set_robust_list, head.as_ptr(), 24));
        let (mut found, mut length) = (0_u64, 0_usize);
        let asked = sys!(syscall(libc::SYS_get_robust_list, 0, &raw mut found, &raw mut length));
        let nobody = value(sys!(syscall(libc::SYS_get_robust_list, i32::MAX, &raw mut found, &raw mut length)));
        answers!(ok(asked), found == head.as_ptr() as u64, length, nobody)
    }),
    case!("a_thread_queues_a_signal_for_itself", {
        // SAFETY: the structures are plain integers, for which zeros are valid.
        let (mut set, mut info): (libc::sigset_t, libc::siginfo_t) = unsafe { std::mem::zeroed() };
        sys!(sigaddset(&mut set, libc::SIGUSR1));
        sys!(sigprocmask(libc::SIG_BLOCK, &set, null_mut()));
        let (process, thread) = (sys!(getpid()), sys!(syscall(libc::SYS_gettid)));
        info.si_code = -1;
        let send = |group: i32, info: &libc::siginfo_t| {
            value(sys!(syscall(libc::SYS_rt_tgsigqueueinfo, group, thread, libc::SIGUSR1, info)))
        };
        let (sent, nobody) = (send(process, &info), send(i32::MAX, &info));
        let taken = sys!(sigwaitinfo(&set, &mut info));
        answers!(sent, nobody, signal_name(taken), info.si_code)
    }),
    case!("memfd_is_a_file_without_a_name", {
        let file = sys!(syscall(libc::SYS_memfd_create, c"x".as_ptr(), 1)) as i32;
        let closes = sys!(fcntl(file, libc::F_GETFD));
        let unknown = value(sys!(syscall(libc::SYS_memfd_create, c"x".as_ptr(), 0x100)));
        let links = status_of_descriptor(file).map_or(9, |status| status.st_nlink);
        let written = write(file, b"abc");
        sys!(lseek(file, 1, libc::SEEK_SET));
        answers!(closes, unknown, links, written, read(file, 9))
    }),
];

/// A descriptor that isn't open, in the place of a path.
const BAD_FILE: *const libc::c_char = 77 as *const libc::c_char;
