//! The flags of open, one by one; descriptors without a right to anything (O_PATH); files without a name (O_TMPFILE);
//! openat2; and closing many descriptors.

use conformance::support::*;
use conformance::{answers, case, sys};
use std::ffi::{CStr, CString};

/// `struct open_how`.
#[repr(C)]
struct How {
    flags: u64,
    mode: u64,
    resolve: u64,
}

fn open2(path: &CStr, flags: i32, mode: u64, resolve: u64, size: usize) -> String {
    let how = How { flags: flags as u64, mode, resolve };
    ok(sys!(syscall(libc::SYS_openat2, libc::AT_FDCWD, path.as_ptr(), &how, size)) as i32)
}

fn open_mode(path: &CStr, flags: i32, mode: libc::mode_t) -> i32 {
    sys!(open(path.as_ptr(), flags, mode as libc::c_uint))
}

/// What F_GETFL gives, without O_LARGEFILE.
fn flags_of(file: i32) -> String {
    match sys!(fcntl(file, libc::F_GETFL)) {
        -1 => last_errno(),
        flags => format!("{:o}", flags & !0o100000),
    }
}

fn opened_flags(flags: i32) -> String {
    make_file(c"file", b"hello", 0o644);
    let file = open(c"file", flags);
    if file < 0 { last_errno() } else { flags_of(file) }
}

fn access_time(path: &CStr) -> (i64, i64) {
    status_of(path).map_or((0, 0), |status| (status.st_atime, status.st_atime_nsec))
}

/// Whether a read through a descriptor with these flags sets the access time of a file that was never read.
fn touches(flags: i32) -> bool {
    make_file(c"file", b"hello", 0o644);
    let before = access_time(c"file");
    sleep_ms(20);
    read(open(c"file", flags), 1);
    access_time(c"file") != before
}

fn is_open(descriptor: i32) -> bool {
    sys!(fcntl(descriptor, libc::F_GETFD)) >= 0
}

fn close_range(first: u32, last: u32, flags: u32) -> String {
    ok(sys!(syscall(libc::SYS_close_range, first, last, flags)) as i32)
}

/// Descriptors 10 to 15, all of one file.
fn ten_to_fifteen() {
    make_file(c"file", b"", 0o644);
    let file = open(c"file", libc::O_RDONLY);
    for number in 10..16 {
        sys!(dup2(file, number));
    }
}

fn which_are_open() -> String {
    (10..16).map(|number| if is_open(number) { '+' } else { '-' }).collect()
}

fn name_by_descriptor(descriptor: i32, path: &CStr) -> String {
    let link = format!("/proc/self/fd/{descriptor}\0");
    ok(sys!(linkat(libc::AT_FDCWD, link.as_ptr().cast(), libc::AT_FDCWD, path.as_ptr(), libc::AT_SYMLINK_FOLLOW)))
}

fn name_by_empty_path(descriptor: i32, path: &CStr) -> String {
    ok(sys!(linkat(descriptor, c"".as_ptr(), libc::AT_FDCWD, path.as_ptr(), libc::AT_EMPTY_PATH)))
}

pub const CASES: &[Case] = &[
    case!("which_flags_stay_visible", {
        let flags = [
            libc::O_SYNC,
            libc::O_DSYNC,
            libc::O_NOATIME,
            libc::O_NOCTTY,
            libc::O_NONBLOCK,
            libc::O_ASYNC,
            libc::O_APPEND | libc::O_WRONLY,
            libc::O_NOFOLLOW,
            libc::O_CLOEXEC,
            libc::O_TRUNC | libc::O_RDWR,
            libc::O_CREAT,
            libc::O_PATH,
            libc::O_PATH | libc::O_RDWR | libc::O_CREAT | libc::O_TRUNC | libc::O_APPEND | libc::O_NOFOLLOW,
        ];
        flags.map(opened_flags).join(" ")
    }),
    case!("which_flags_can_be_set_later", {
        make_file(c"file", b"", 0o644);
        let file = open(c"file", libc::O_RDWR);
        let flags = [libc::O_SYNC, libc::O_NOATIME, libc::O_ASYNC, libc::O_NONBLOCK, libc::O_TRUNC, -1];
        flags.map(|flags| format!("{} {}", ok(sys!(fcntl(file, libc::F_SETFL, flags))), flags_of(file))).join(", ")
    }),
    case!("a_folder_and_o_creat", {
        answers!(
            ok(open(c".", libc::O_CREAT | libc::O_DIRECTORY)),
            ok(open(c"new", libc::O_CREAT | libc::O_DIRECTORY)),
            status_of(c"new").is_some(),
            ok(open(c".", libc::O_DIRECTORY | libc::O_TRUNC)),
            ok(open(c"..", libc::O_CREAT)),
            ok(open(c"/", libc::O_CREAT)),
            ok(open(c".", libc::O_CREAT | libc::O_EXCL))
        )
    }),
    case!("truncating_what_is_opened_for_reading", {
        make_file(c"file", b"hello", 0o644);
        let file = open(c"file", libc::O_RDONLY | libc::O_TRUNC);
        answers!(ok(file), content(c"file"))
    }),
    case!("truncating_what_may_only_be_read", {
        make_file(c"file", b"hello", 0o444);
        as_user(|| answers!(ok(open(c"file", libc::O_RDONLY | libc::O_TRUNC)), content(c"file")))
    }),
    case!("truncating_devices_and_pipes", {
        sys!(mkfifo(c"f".as_ptr(), 0o644));
        answers!(
            ok(open(c"/dev/null", libc::O_WRONLY | libc::O_TRUNC)),
            ok(open(c"f", libc::O_RDWR | libc::O_TRUNC)),
            ok(open(c"/dev/null", libc::O_RDONLY | libc::O_DIRECTORY))
        )
    }),
    case!("exclusive_without_creating", {
        make_file(c"file", b"", 0o644);
        answers!(ok(open(c"file", libc::O_EXCL)), ok(open(c"missing", libc::O_EXCL)))
    }),
    case!("access_times_and_o_noatime", answers!(touches(libc::O_RDONLY), touches(libc::O_NOATIME))),
    case!("o_noatime_is_for_the_owner", {
        make_file(c"file", b"hello", 0o644);
        as_user(|| {
            let file = open(c"file", libc::O_RDONLY);
            answers!(ok(open(c"file", libc::O_NOATIME)), ok(sys!(fcntl(file, libc::F_SETFL, libc::O_NOATIME))))
        })
    }),
    case!("a_slash_behind_a_link_to_a_folder", {
        sys!(mkdir(c"d".as_ptr(), 0o755));
        sys!(symlink(c"d".as_ptr(), c"link".as_ptr()));
        answers!(
            ok(open(c"link", libc::O_NOFOLLOW)),
            ok(open(c"link/", libc::O_NOFOLLOW)),
            ok(open(c"link", libc::O_NOFOLLOW | libc::O_DIRECTORY)),
            ok(open(c"link/.", libc::O_NOFOLLOW | libc::O_DIRECTORY))
        )
    }),
    case!("creating_through_dangling_links", {
        sys!(symlink(c"gone/file".as_ptr(), c"into".as_ptr()));
        sys!(symlink(c"target/".as_ptr(), c"slash".as_ptr()));
        sys!(symlink(c"loop".as_ptr(), c"loop".as_ptr()));
        answers!(
            ok(open(c"into", libc::O_CREAT)),
            ok(open(c"slash", libc::O_CREAT)),
            ok(open(c"loop", libc::O_CREAT)),
            ok(open(c"loop", libc::O_CREAT | libc::O_NOFOLLOW)),
            status_of(c"target").is_some()
        )
    }),
    case!("what_a_path_descriptor_can_do", {
        make_file(c"file", b"hello", 0o644);
        let file = open(c"file", libc::O_PATH);
        let mut byte = 0_u8;
        let mut value_of = 0_i32;
        answers!(
            value(sys!(pread(file, (&raw mut byte).cast(), 1, 0))),
            value(sys!(lseek(file, 0, libc::SEEK_SET))),
            ok(sys!(fchown(file, 0, 0))),
            ok(sys!(ftruncate(file, 0))),
            ok(sys!(fallocate(file, 0, 0, 1))),
            ok(sys!(ioctl(file, libc::FIONREAD, &mut value_of))),
            ok(sys!(fsync(file))),
            ok(sys!(flock(file, libc::LOCK_SH))),
            ok(sys!(futimens(file, std::ptr::null()))),
            ok(sys!(fcntl(file, libc::F_SETFL, 0))),
            ok(sys!(dup(file))),
            ok(sys!(fcntl(file, libc::F_SETFD, 1)))
        )
    }),
    case!("what_a_path_descriptor_leads_to", {
        make_file(c"file", b"hello", 0o644);
        let file = open(c"file", libc::O_PATH);
        let folder = open(c".", libc::O_PATH | libc::O_DIRECTORY);
        let again = format!("/proc/self/fd/{file}\0");
        let mut status = std::mem::MaybeUninit::<libc::statfs>::uninit();
        answers!(
            read(sys!(open(again.as_ptr().cast(), libc::O_RDONLY)), 9),
            ok(sys!(openat(folder, c"file".as_ptr(), libc::O_RDONLY))),
            ok(sys!(openat(file, c"file".as_ptr(), libc::O_RDONLY))),
            ok(sys!(fchdir(folder))),
            ok(sys!(fchdir(file))),
            ok(sys!(fstatfs(file, status.as_mut_ptr()))),
            ok(open(c"file", libc::O_PATH | libc::O_DIRECTORY)),
            ok(open(c"missing", libc::O_PATH | libc::O_CREAT))
        )
    }),
    case!("a_path_descriptor_of_a_link", {
        sys!(symlink(c"over there".as_ptr(), c"link".as_ptr()));
        let link = open(c"link", libc::O_PATH | libc::O_NOFOLLOW);
        let mut text = [0_u8; 20];
        let count = sys!(readlinkat(link, c"".as_ptr(), text.as_mut_ptr().cast(), 20));
        let again = format!("/proc/self/fd/{link}\0");
        answers!(
            count,
            String::from_utf8_lossy(&text[..count.max(0) as usize]),
            status_of_descriptor(link).map_or(0, |status| status.st_mode),
            ok(sys!(fchmodat(link, c"".as_ptr(), 0o600, libc::AT_EMPTY_PATH))),
            ok(sys!(open(again.as_ptr().cast(), libc::O_RDONLY))),
            ok(sys!(openat(link, c"".as_ptr(), libc::O_RDONLY)))
        )
    }),
    case!("a_path_descriptor_needs_no_permission", {
        make_file(c"file", b"secret", 0o600);
        as_user(|| {
            let file = open(c"file", libc::O_PATH);
            let again = format!("/proc/self/fd/{file}\0");
            answers!(ok(file), ok(open(c"file", libc::O_RDONLY)), ok(sys!(open(again.as_ptr().cast(), libc::O_RDONLY))))
        })
    }),
    case!("a_temporary_file_gets_a_name", {
        let file = open_mode(c".", libc::O_TMPFILE | libc::O_RDWR, 0o640);
        write(file, b"content");
        answers!(
            name_by_descriptor(file, c"named"),
            content(c"named"),
            status_of(c"named").map_or(0, |status| status.st_nlink),
            status_of(c"named").map_or(0, |status| status.st_mode),
            name_by_empty_path(file, c"again"),
            ok(sys!(unlink(c"again".as_ptr()))),
            ok(sys!(unlink(c"named".as_ptr()))),
            name_by_descriptor(file, c"too late")
        )
    }),
    case!("a_temporary_file_that_may_have_no_name", {
        let file = open_mode(c".", libc::O_TMPFILE | libc::O_RDWR | libc::O_EXCL, 0o600);
        answers!(ok(file), name_by_descriptor(file, c"named"), name_by_empty_path(file, c"named"))
    }),
    case!("temporary_files_refuse", {
        make_file(c"file", b"", 0o644);
        answers!(
            ok(open_mode(c".", libc::O_TMPFILE | libc::O_RDONLY, 0o600)),
            ok(open_mode(c"file", libc::O_TMPFILE | libc::O_RDWR, 0o600)),
            ok(open_mode(c"missing", libc::O_TMPFILE | libc::O_RDWR, 0o600)),
            ok(open_mode(c".", libc::O_TMPFILE | libc::O_RDWR | libc::O_CREAT, 0o600)),
            ok(open_mode(c".", (libc::O_TMPFILE & !libc::O_DIRECTORY) | libc::O_RDWR, 0o600)),
            ok(open_mode(c"/proc", libc::O_TMPFILE | libc::O_RDWR, 0o600))
        )
    }),
    case!("a_temporary_file_needs_the_name_of_a_folder", ok(open_mode(c"", libc::O_TMPFILE | libc::O_RDWR, 0o600))),
    case!("without_a_free_descriptor_nothing_is_made_or_cut", {
        make_file(c"file", b"content", 0o644);
        sys!(mkfifo(c"fifo".as_ptr(), 0o644));
        let limit = libc::rlimit { rlim_cur: 3, rlim_max: 4096 };
        sys!(setrlimit(libc::RLIMIT_NOFILE, &limit));
        answers!(
            ok(open(c"new", libc::O_CREAT | libc::O_WRONLY)),
            ok(open(c"file", libc::O_TRUNC | libc::O_WRONLY)),
            ok(open(c"missing", libc::O_RDONLY)),
            ok(open(c"fifo", libc::O_RDONLY)),
            ok(sys!(open(BAD as *const _, libc::O_RDONLY))),
            ok(sys!(openat(77, c"file".as_ptr(), libc::O_RDONLY))),
            status_of(c"new").is_some(),
            status_of(c"file").map_or(0, |status| status.st_size)
        )
    }),
    case!("a_file_in_memory_that_is_opened_again", {
        let memory = sys!(memfd_create(c"x".as_ptr(), 0));
        let again = |file: i32, flags: i32| {
            let path = CString::new(format!("/proc/self/fd/{file}")).unwrap_or_default();
            open(&path, flags)
        };
        let program = conformance::elf::Elf::with(|_| {}).bytes();
        write_all(memory, &program);
        sys!(fchmod(memory, 0o755));
        let run = |file: i32| {
            let path = CString::new(format!("/proc/self/fd/{file}")).unwrap_or_default();
            exec_answer(&path, &[c"x"])
        };
        let (while_new, reading) = (run(memory), again(memory, libc::O_RDONLY));
        let writing = again(memory, libc::O_RDWR);
        let while_written = run(memory);
        close(memory);
        answers!(
            while_new,
            ok(writing),
            while_written,
            run(reading),
            close(writing),
            run(reading),
            ok(again(reading, libc::O_RDWR)),
            run(reading)
        )
    }),
    case!("a_block_device_that_nobody_drives", {
        // The numbers of the console, were it a character device.
        sys!(mknod(c"block".as_ptr(), libc::S_IFBLK | 0o600, libc::makedev(5, 1)));
        answers!(ok(open(c"block", libc::O_RDONLY)), ok(open(c"block", libc::O_PATH)))
    }),
    case!("a_removed_file_gets_no_new_name", {
        make_file(c"file", b"", 0o644);
        let file = open(c"file", libc::O_RDWR);
        sys!(unlink(c"file".as_ptr()));
        answers!(name_by_descriptor(file, c"named"), name_by_empty_path(file, c"named"))
    }),
    case!("naming_by_an_empty_path", {
        make_file(c"file", b"x", 0o644);
        let file = open(c"file", libc::O_RDONLY);
        let folder = open(c".", libc::O_RDONLY);
        answers!(
            name_by_empty_path(file, c"second"),
            content(c"second"),
            name_by_empty_path(folder, c"folder"),
            name_by_empty_path(77, c"none"),
            ok(sys!(linkat(file, c"".as_ptr(), libc::AT_FDCWD, c"third".as_ptr(), 0))),
            ok(sys!(linkat(libc::AT_FDCWD, c"file".as_ptr(), libc::AT_FDCWD, c"fourth".as_ptr(), 0x1)))
        )
    }),
    case!("openat2_opens", {
        make_file(c"file", b"", 0o644);
        answers!(
            open2(c"file", libc::O_RDONLY, 0, 0, 24),
            open2(c"file", libc::O_RDONLY, 0o600, 0, 24),
            open2(c"new", libc::O_CREAT | libc::O_RDWR, 0o600, 0, 24),
            open2(c"new2", libc::O_CREAT | libc::O_RDWR, 0o10600, 0, 24),
            open2(c"file", 0x4000_0000, 0, 0, 24),
            open2(c"file", libc::O_RDONLY, 0, 0x1000, 24),
            open2(c"file", libc::O_RDONLY, 0, 0, 8),
            open2(c"file", libc::O_PATH | libc::O_RDWR, 0, 0, 24)
        )
    }),
    case!("access_mode_3_needs_both_permissions", {
        make_file(c"file", b"x", 0o644);
        as_user(|| ok(open(c"file", 3)))
    }),
    case!("access_mode_3_is_none_for_a_fifo", {
        sys!(mkfifo(c"fifo".as_ptr(), 0o644));
        ok(open(c"fifo", 3 | libc::O_NONBLOCK))
    }),
    case!("closing_a_range", {
        ten_to_fifteen();
        answers!(
            close_range(11, 13, 0),
            which_are_open(),
            close_range(11, 12, 0),
            close_range(15, 99, 0),
            which_are_open()
        )
    }),
    case!("closing_a_range_refuses", answers!(close_range(5, 4, 0), close_range(3, 4, 1), close_range(3, 4, 8))),
    case!("closing_a_range_on_exec", {
        ten_to_fifteen();
        let closes = |number| sys!(fcntl(number, libc::F_GETFD));
        answers!(close_range(12, 13, 4), which_are_open(), (10..16).map(|n| closes(n).to_string()).collect::<String>())
    }),
    case!("closing_a_range_of_an_own_table", {
        ten_to_fifteen();
        answers!(close_range(10, 12, 2), which_are_open())
    }),
    case!("a_directory_descriptor_that_is_none", {
        make_file(c"file", b"x", 0o644);
        let file = open(c"file", libc::O_RDONLY);
        answers!(
            ok(sys!(openat(file, c"x".as_ptr(), 0))),
            ok(sys!(openat(77, c"x".as_ptr(), 0))),
            ok(sys!(openat(77, c"/".as_ptr(), 0))),
            ok(sys!(openat(file, c"".as_ptr(), 0))),
            ok(sys!(mkdirat(file, c"x".as_ptr(), 0))),
            ok(sys!(unlinkat(77, c"x".as_ptr(), 0))),
            ok(sys!(unlinkat(libc::AT_FDCWD, c"x".as_ptr(), 1)))
        )
    }),
];
