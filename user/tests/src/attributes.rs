//! What is told of files and what can be set: statx, and the `at` calls with all their flags; renameat2's and linkat's.

use conformance::support::*;
use conformance::{answers, case, sys};
use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::ptr::null;

const CWD: i32 = libc::AT_FDCWD;
const NOFOLLOW: i32 = libc::AT_SYMLINK_NOFOLLOW;
const EMPTY: i32 = libc::AT_EMPTY_PATH;

fn file_and_link() -> i32 {
    make_file(c"file", b"hello", 0o644);
    sys!(symlink(c"file".as_ptr(), c"link".as_ptr()));
    open(c"file", libc::O_RDWR)
}

fn statx(folder: i32, path: &CStr, flags: i32, mask: u32) -> Result<libc::statx, String> {
    let mut status = MaybeUninit::<libc::statx>::zeroed();
    if sys!(statx(folder, path.as_ptr(), flags, mask, status.as_mut_ptr())) < 0 {
        return Err(last_errno());
    }
    // SAFETY: made of integers, zeroed before the kernel filled it.
    Ok(unsafe { status.assume_init() })
}

fn statx_answer(folder: i32, path: &CStr, flags: i32, mask: u32) -> String {
    match statx(folder, path, flags, mask) {
        Ok(status) => format!("{:o} {}", status.stx_mode, status.stx_size),
        Err(error) => error,
    }
}

fn chmod2(folder: i32, path: &CStr, mode: u32, flags: i32) -> String {
    // fchmodat2, which libc's own wrapper stands in front of.
    ok(sys!(syscall(452, folder, path.as_ptr(), mode, flags)) as i32)
}

fn access2(folder: i32, path: &CStr, mode: i32, flags: i32) -> String {
    ok(sys!(syscall(libc::SYS_faccessat2, folder, path.as_ptr(), mode, flags)) as i32)
}

fn rename2(from: &CStr, to: &CStr, flags: u32) -> String {
    ok(sys!(syscall(libc::SYS_renameat2, CWD, from.as_ptr(), CWD, to.as_ptr(), flags)) as i32)
}

fn mode_of(path: &CStr) -> String {
    status_of(path).map_or(last_errno(), |status| format!("{:o}", status.st_mode))
}

fn links_of(path: &CStr) -> u64 {
    status_of(path).map_or(0, |status| status.st_nlink)
}

fn set_times(folder: i32, path: Option<&CStr>, seconds: i64, flags: i32) -> String {
    let times = [libc::timespec { tv_sec: seconds, tv_nsec: 5 }, libc::timespec { tv_sec: seconds, tv_nsec: 6 }];
    let path = path.map_or(null(), CStr::as_ptr);
    ok(sys!(syscall(libc::SYS_utimensat, folder, path, times.as_ptr(), flags)) as i32)
}

pub const CASES: &[Case] = &[
    case!("statx_fields", {
        let file = file_and_link();
        sys!(fchown(file, 7, 8));
        sys!(link(c"file".as_ptr(), c"second".as_ptr()));
        let (Ok(status), Some(old)) = (statx(CWD, c"file", 0, libc::STATX_BASIC_STATS), status_of(c"file")) else {
            return last_errno();
        };
        let times =
            [status.stx_atime, status.stx_mtime, status.stx_ctime].map(|time| (time.tv_sec, i64::from(time.tv_nsec)));
        let old_times =
            [(old.st_atime, old.st_atime_nsec), (old.st_mtime, old.st_mtime_nsec), (old.st_ctime, old.st_ctime_nsec)];
        answers!(
            status.stx_mask & 0x7ff,
            status.stx_blksize,
            status.stx_nlink,
            status.stx_uid,
            status.stx_gid,
            status.stx_mode,
            status.stx_ino == old.st_ino,
            status.stx_size,
            status.stx_blocks,
            times == old_times,
            libc::makedev(status.stx_dev_major, status.stx_dev_minor) == old.st_dev,
            status.stx_rdev_major,
            status.stx_attributes
        )
    }),
    case!("statx_of_a_device_and_of_a_mounts_root", {
        let device = statx(CWD, c"/dev/null", 0, libc::STATX_TYPE);
        let root = statx(CWD, c"/proc", 0, libc::STATX_BASIC_STATS);
        answers!(
            device.map_or_else(|error| error, |status| format!("{} {}", status.stx_rdev_major, status.stx_rdev_minor)),
            root.map_or_else(|error| error, |status| format!("{:#x}", status.stx_attributes & 0x2000))
        )
    }),
    case!("statx_with_flags", {
        let file = file_and_link();
        answers!(
            statx_answer(CWD, c"link", 0, 0),
            statx_answer(CWD, c"link", NOFOLLOW, 0),
            statx_answer(file, c"", EMPTY, 0x7ff),
            statx_answer(file, c"", 0, 0x7ff),
            statx_answer(CWD, c"file", 0x2000, 0x7ff),
            statx_answer(CWD, c"file", 0x6000, 0x7ff),
            statx_answer(CWD, c"file", 0x1, 0x7ff),
            statx_answer(CWD, c"file", 0, 0x8000_0000),
            statx_answer(CWD, c"file", 0, 0x7fff_ffff),
            statx_answer(CWD, c"missing", 0, 0),
            statx_answer(77, c"", EMPTY, 0),
            ok(sys!(syscall(libc::SYS_statx, file, 0, EMPTY, 0, BAD)) as i32)
        )
    }),
    case!("fstatat_with_flags", {
        let file = file_and_link();
        let mut status = MaybeUninit::<libc::stat>::uninit();
        let ask = |folder: i32, path: &CStr, flags: i32, status: &mut MaybeUninit<libc::stat>| {
            ok(sys!(fstatat(folder, path.as_ptr(), status.as_mut_ptr(), flags)))
        };
        answers!(
            ask(file, c"", EMPTY, &mut status),
            ask(file, c"", 0, &mut status),
            ask(CWD, c"", EMPTY, &mut status),
            ask(CWD, c"link", NOFOLLOW | libc::AT_NO_AUTOMOUNT, &mut status),
            ask(CWD, c"link", 0x1, &mut status),
            ask(file, c"x", 0, &mut status),
            ask(77, c"", EMPTY, &mut status)
        )
    }),
    case!("changing_modes_with_flags", {
        let file = file_and_link();
        answers!(
            chmod2(CWD, c"link", 0o600, 0),
            mode_of(c"file"),
            chmod2(CWD, c"link", 0o640, NOFOLLOW),
            mode_of(c"link"),
            chmod2(file, c"", 0o604, EMPTY),
            mode_of(c"file"),
            chmod2(file, c"", 0o604, 0),
            chmod2(CWD, c"file", 0o604, 0x1),
            chmod2(open(c"file", libc::O_PATH), c"", 0o611, EMPTY),
            mode_of(c"file")
        )
    }),
    case!("changing_owners_with_flags", {
        let file = file_and_link();
        let chown = |folder: i32, path: &CStr, flags: i32| ok(sys!(fchownat(folder, path.as_ptr(), 5, 6, flags)));
        let owner = |path: &CStr| status_of(path).map_or(0, |status| status.st_uid);
        answers!(
            chown(CWD, c"link", NOFOLLOW),
            owner(c"link"),
            owner(c"file"),
            chown(file, c"", EMPTY),
            owner(c"file"),
            chown(file, c"", 0),
            chown(CWD, c"file", 0x1),
            ok(sys!(fchown(open(c"file", libc::O_PATH), 0, 0)))
        )
    }),
    case!("access_with_flags", {
        let file = file_and_link();
        sys!(symlink(c"nowhere".as_ptr(), c"dangling".as_ptr()));
        answers!(
            access2(CWD, c"dangling", libc::F_OK, 0),
            access2(CWD, c"dangling", libc::F_OK, NOFOLLOW),
            access2(file, c"", libc::R_OK, EMPTY),
            access2(file, c"", libc::R_OK, 0),
            access2(CWD, c"file", 8, 0),
            access2(CWD, c"file", libc::X_OK, 0),
            access2(CWD, c"file", 0, 0x1),
            access2(CWD, c"file", libc::R_OK, libc::AT_EACCESS),
            as_user(|| answers!(access2(CWD, c"file", libc::W_OK, 0), access2(CWD, c"file", libc::R_OK, 0)))
        )
    }),
    case!("setting_times_with_flags", {
        let file = file_and_link();
        let modified = |path: &CStr| status_of(path).map_or(0, |status| status.st_mtime);
        answers!(
            set_times(CWD, Some(c"link"), 1000, 0),
            modified(c"file"),
            set_times(CWD, Some(c"link"), 2000, NOFOLLOW),
            modified(c"link"),
            set_times(file, None, 3000, 0),
            set_times(file, Some(c""), 4000, EMPTY),
            modified(c"file"),
            set_times(file, Some(c""), 4000, 0),
            set_times(CWD, None, 4000, 0),
            set_times(CWD, Some(c"file"), 4000, 0x1),
            set_times(file, None, 4000, NOFOLLOW),
            set_times(open(c"file", libc::O_PATH), None, 4000, 0)
        )
    }),
    case!("renaming_with_flags", {
        make_file(c"a", b"a", 0o644);
        make_file(c"b", b"b", 0o644);
        sys!(mkdir(c"d".as_ptr(), 0o755));
        answers!(
            rename2(c"a", c"b", 1),
            rename2(c"a", c"c", 1),
            rename2(c"c", c"missing", 2),
            rename2(c"c", c"b", 2),
            content(c"b"),
            rename2(c"b", c"d", 2),
            mode_of(c"b"),
            content(c"d"),
            rename2(c"b", c"c", 3),
            rename2(c"b", c"c", 6),
            rename2(c"b", c"c", 8),
            rename2(c"b", c"b/x", 2),
            rename2(c".", c"x", 1),
            rename2(c"c", c".", 1),
            rename2(c"c", c"..", 0)
        )
    }),
    case!("exchanging_folders_of_different_parents", {
        for folder in [c"p", c"p/a", c"q", c"q/b", c"q/b/in"] {
            sys!(mkdir(folder.as_ptr(), 0o755));
        }
        make_file(c"f", b"f", 0o644);
        answers!(
            rename2(c"p/a", c"q/b", 2),
            links_of(c"p/a"),
            links_of(c"q/b"),
            rename2(c"p/a", c"f", 2),
            links_of(c"p"),
            links_of(c"."),
            content(c"p/a"),
            rename2(c"p", c"p/a", 2),
            rename2(c"q", c"q/b", 2)
        )
    }),
    case!("the_names_of_an_open_folder_go_on_while_others_come", {
        sys!(mkdir(c"d".as_ptr(), 0o755));
        for index in 0..40 {
            make_file(&std::ffi::CString::new(format!("d/f{index}")).unwrap_or_default(), b"", 0o644);
        }
        let folder = open(c"d", libc::O_RDONLY);
        let mut buffer = [0_u8; 200];
        let mut seen = 0;
        loop {
            let count = sys!(syscall(libc::SYS_getdents64, folder, buffer.as_mut_ptr(), buffer.len()));
            if count <= 0 {
                break;
            }
            let mut rest = &buffer[..count as usize];
            while rest.len() >= 19 {
                let length = usize::from(u16::from_le_bytes([rest[16], rest[17]]));
                let name = rest[19..length].split(|byte| *byte == 0).next().unwrap_or_default();
                seen += usize::from(name.starts_with(b"f"));
                rest = &rest[length..];
            }
            // A name that is not of those that are counted comes and goes.
            make_file(c"d/new", b"", 0o644);
            sys!(unlink(c"d/new".as_ptr()));
        }
        answers!(seen, sys!(lseek(folder, 0, libc::SEEK_SET)))
    }),
    case!("a_position_from_a_listing_leads_back", {
        for name in [c"a", c"b", c"c", c"d", c"e"] {
            make_file(name, b"", 0o644);
        }
        let folder = open(c".", libc::O_RDONLY);
        let list = || {
            let (mut buffer, mut names) = ([0_u8; 4096], Vec::new());
            let count = sys!(syscall(libc::SYS_getdents64, folder, buffer.as_mut_ptr(), buffer.len()));
            let mut rest = &buffer[..count.max(0) as usize];
            while rest.len() >= 19 {
                let length = usize::from(u16::from_le_bytes([rest[16], rest[17]]));
                let next = rest[8..16].iter().rev().fold(0, |number, byte| number << 8 | i64::from(*byte));
                names.push((rest[19], next));
                rest = &rest[length..];
            }
            names
        };
        let all = list();
        let middle = all.get(3).map_or(0, |(_, next)| *next);
        sys!(lseek(folder, middle, libc::SEEK_SET));
        answers!(all.len(), list() == all[4..], list().len())
    }),
];
