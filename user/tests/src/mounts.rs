//! Mounts, each case in a mount namespace of its own where there are such: moving, binding, remounting, unmounting under who is
//! inside.

use crate::memory::peek;
use conformance::support::*;
use conformance::{answers, case, sys};
use std::ffi::{CStr, CString};
use std::ptr::{null, null_mut};

/// What is mounted here isn't seen by others, and goes with the case.
fn alone() {
    sys!(unshare(libc::CLONE_NEWNS));
    sys!(mount(c"none".as_ptr(), c"/".as_ptr(), null(), libc::MS_REC | libc::MS_PRIVATE, null()));
    for folder in [c"a", c"b", c"c"] {
        sys!(mkdir(folder.as_ptr(), 0o755));
    }
}

fn mount_with(source: &CStr, target: &CStr, kind: Option<&CStr>, flags: u64, options: Option<&CStr>) -> String {
    let pointer = |text: Option<&CStr>| text.map_or(null(), CStr::as_ptr);
    ok(sys!(mount(source.as_ptr(), target.as_ptr(), pointer(kind), flags, pointer(options).cast())))
}

fn mount_tmpfs(target: &CStr) -> String {
    mount_with(c"tmpfs", target, Some(c"tmpfs"), 0, None)
}

fn move_mount(from: &CStr, to: &CStr) -> String {
    mount_with(from, to, None, libc::MS_MOVE, None)
}

fn bind(from: &CStr, to: &CStr) -> String {
    mount_with(from, to, None, libc::MS_BIND, None)
}

fn unmount(target: &CStr, flags: i32) -> String {
    ok(sys!(umount2(target.as_ptr(), flags)))
}

/// The path of something in the case's folder, for who has left it.
fn outside(name: &str) -> CString {
    let path = std::env::current_dir().unwrap_or_default().join(name);
    CString::new(path.to_string_lossy().into_owned()).unwrap_or_default()
}

fn touch(path: &CStr) {
    make_file(path, b"here", 0o644);
}

/// Which mounts are in the current folder, the case's own.
fn mounted() -> String {
    let folder = std::env::current_dir().unwrap_or_default().to_string_lossy().into_owned() + "/";
    let text = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let places = text.lines().filter_map(|line| line.split(' ').nth(1)?.strip_prefix(&folder));
    places.collect::<Vec<_>>().join(" ")
}

pub const CASES: &[Case] = &[
    case!("moving_a_mount", {
        alone();
        mount_tmpfs(c"a");
        touch(c"a/f");
        answers!(move_mount(c"a", c"b"), content(c"a/f"), content(c"b/f"), mounted(), unmount(c"b", 0), content(c"b/f"))
    }),
    case!("moving_a_mount_with_one_in_it", {
        alone();
        mount_tmpfs(c"a");
        sys!(mkdir(c"a/in".as_ptr(), 0o755));
        mount_tmpfs(c"a/in");
        touch(c"a/in/f");
        answers!(
            move_mount(c"a", c"b"),
            content(c"b/in/f"),
            mounted(),
            move_mount(c"b/in", c"c"),
            content(c"c/f"),
            mounted()
        )
    }),
    case!("moving_refuses", {
        alone();
        mount_tmpfs(c"a");
        sys!(mkdir(c"a/in".as_ptr(), 0o755));
        touch(c"f");
        answers!(
            move_mount(c"b", c"c"),
            move_mount(c"a", c"a/in"),
            move_mount(c"a", c"a"),
            move_mount(c"a", c"f"),
            move_mount(c"missing", c"b"),
            move_mount(c"a", c"missing"),
            mounted()
        )
    }),
    case!("moving_over_a_mount_covers_it", {
        alone();
        mount_tmpfs(c"a");
        mount_tmpfs(c"b");
        touch(c"a/from a");
        touch(c"b/from b");
        answers!(move_mount(c"a", c"b"), content(c"b/from a"), unmount(c"b", 0), content(c"b/from b"))
    }),
    case!("who_is_inside_stays_inside", {
        alone();
        mount_tmpfs(c"a");
        touch(c"a/f");
        sys!(chdir(c"a".as_ptr()));
        let moved = ok(sys!(mount(c"../a".as_ptr(), c"../b".as_ptr(), null(), libc::MS_MOVE, null())));
        answers!(moved, content(c"f"), content(c"../b/f"), content(c"../a/f"))
    }),
    case!("binding_a_file", {
        alone();
        touch(c"f");
        make_file(c"g", b"hidden", 0o644);
        answers!(
            bind(c"f", c"g"),
            content(c"g"),
            ok(sys!(unlink(c"g".as_ptr()))),
            unmount(c"g", 0),
            content(c"g"),
            bind(c"f", c"a"),
            bind(c"a", c"f")
        )
    }),
    case!("a_read_only_mount", {
        alone();
        mount_tmpfs(c"a");
        touch(c"a/f");
        answers!(
            mount_with(c"none", c"a", None, libc::MS_REMOUNT | libc::MS_RDONLY | libc::MS_BIND, None),
            ok(open(c"a/f", libc::O_WRONLY)),
            ok(open(c"a/new", libc::O_CREAT | libc::O_WRONLY)),
            ok(open(c"a/f", libc::O_CREAT | libc::O_RDONLY)),
            ok(sys!(chmod(c"a/f".as_ptr(), 0o600))),
            ok(sys!(mkdir(c"a/d".as_ptr(), 0o755))),
            ok(sys!(mkdir(c"a".as_ptr(), 0o755))),
            ok(sys!(unlink(c"a/f".as_ptr()))),
            ok(sys!(rename(c"a/f".as_ptr(), c"a/g".as_ptr()))),
            ok(sys!(access(c"a/f".as_ptr(), libc::W_OK))),
            ok(sys!(truncate(c"a/f".as_ptr(), 0))),
            ok(sys!(utimes(c"a/f".as_ptr(), null()))),
            mount_with(c"none", c"a", None, libc::MS_REMOUNT | libc::MS_BIND, None),
            ok(open(c"a/f", libc::O_WRONLY))
        )
    }),
    case!("what_is_not_there_on_a_read_only_mount", {
        alone();
        mount_with(c"tmpfs", c"a", Some(c"tmpfs"), libc::MS_RDONLY, None);
        let missing = c"a/missing".as_ptr();
        answers!(
            ok(sys!(unlink(missing))),
            ok(sys!(rmdir(missing))),
            ok(sys!(rename(missing, c"a/x".as_ptr()))),
            ok(sys!(mkdir(missing, 0o755))),
            ok(sys!(mknod(c"a/missing/".as_ptr(), libc::S_IFREG, 0))),
            ok(sys!(symlink(c"x".as_ptr(), missing))),
            ok(sys!(link(c"a".as_ptr(), missing))),
            ok(sys!(truncate(missing, 0))),
            ok(sys!(unlink(c"a/..".as_ptr()))),
            ok(sys!(rmdir(c"a/.".as_ptr())))
        )
    }),
    case!("mounts_without_devices_and_programs", {
        alone();
        mount_with(c"tmpfs", c"a", Some(c"tmpfs"), libc::MS_NODEV | libc::MS_NOEXEC, None);
        sys!(mknod(c"a/null".as_ptr(), libc::S_IFCHR | 0o666, libc::makedev(1, 3)));
        make_file(c"a/program", b"#!/bin/true\n", 0o755);
        let file = open(c"a/program", libc::O_RDONLY);
        let map = |protection: i32| sys!(mmap(null_mut(), 4096, protection, libc::MAP_PRIVATE, file, 0));
        answers!(
            ok(open(c"a/null", libc::O_RDWR)),
            exec_answer(c"a/program", &[c"x"]),
            ok(sys!(access(c"a/program".as_ptr(), libc::X_OK))),
            if map(libc::PROT_EXEC) == libc::MAP_FAILED { last_errno() } else { "mapped".into() },
            if map(libc::PROT_READ) == libc::MAP_FAILED { last_errno() } else { "mapped".into() }
        )
    }),
    case!("unmounting_under_who_is_inside", {
        alone();
        mount_tmpfs(c"a");
        touch(c"a/f");
        let file = open(c"a/f", libc::O_RDWR);
        answers!(
            unmount(c"a", 0),
            unmount(c"a", libc::MNT_DETACH),
            mounted(),
            content(c"a/f"),
            read(file, 9),
            write(file, b"!")
        )
    }),
    case!("a_file_system_lasts_as_long_as_the_last_of_its_mounts", {
        alone();
        mount_tmpfs(c"a");
        touch(c"a/f");
        bind(c"a", c"b");
        let [first, second] = ["a", "b"].map(outside);
        sys!(chdir(c"b".as_ptr()));
        answers!(
            unmount(&second, libc::MNT_DETACH),
            unmount(&first, 0),
            content(c"f"),
            ok(open(c"new", libc::O_CREAT)),
            content(c"new")
        )
    }),
    case!("mounting_in_what_is_mounted_no_more", {
        alone();
        mount_tmpfs(c"a");
        sys!(mkdir(c"a/in".as_ptr(), 0o755));
        touch(c"a/f");
        let outside = outside("b");
        sys!(chdir(c"a".as_ptr()));
        sys!(umount2(c"../a".as_ptr(), libc::MNT_DETACH));
        answers!(
            mount_tmpfs(c"in"),
            mount_tmpfs(c"."),
            bind(&outside, c"in"),
            bind(c"in", &outside),
            move_mount(c".", &outside),
            unmount(c".", 0),
            content(c"f")
        )
    }),
    case!("unmounting_what_has_a_mount_in_it", {
        alone();
        mount_tmpfs(c"a");
        sys!(mkdir(c"a/in".as_ptr(), 0o755));
        mount_tmpfs(c"a/in");
        touch(c"a/in/f");
        let file = open(c"a/in/f", libc::O_RDONLY);
        answers!(unmount(c"a", 0), unmount(c"a", libc::MNT_DETACH), mounted(), read(file, 9), unmount(c"a", 0))
    }),
    case!("the_current_folder_of_an_unmounted_file_system", {
        alone();
        mount_tmpfs(c"a");
        touch(c"a/f");
        sys!(chdir(c"a".as_ptr()));
        let gone = ok(sys!(umount2(c"../a".as_ptr(), libc::MNT_DETACH)));
        answers!(
            gone,
            content(c"f"),
            ok(open(c"new", libc::O_CREAT)),
            ok(open(c"..", libc::O_RDONLY)),
            status_of(c"../f").is_some()
        )
    }),
    case!("a_mapped_file_outlives_its_mount", {
        alone();
        mount_tmpfs(c"a");
        touch(c"a/f");
        let file = open(c"a/f", libc::O_RDONLY);
        let address = sys!(mmap(null_mut(), 4096, libc::PROT_READ, libc::MAP_SHARED, file, 0)).cast::<u8>();
        close(file);
        answers!(
            unmount(c"a", 0),
            unmount(c"a", libc::MNT_DETACH),
            peek(address) as char,
            ok(sys!(munmap(address.cast(), 4096)))
        )
    }),
    case!("unmounting_refuses", {
        alone();
        sys!(symlink(c"a".as_ptr(), c"link".as_ptr()));
        mount_tmpfs(c"a");
        answers!(
            unmount(c"b", 0),
            unmount(c"missing", 0),
            unmount(c"a", 0x80),
            unmount(c"link", 8),
            unmount(c"link", 0),
            as_user(|| unmount(c"b", 0))
        )
    }),
    case!("mounting_with_options", {
        alone();
        let mode = || status_of(c"a").map_or(0, |status| status.st_mode & 0o7777);
        let with = |options: &CStr| mount_with(c"x", c"a", Some(c"tmpfs"), 0, Some(options));
        answers!(
            with(c"mode=750,uid=5,gid=6,size=1M"),
            mode(),
            status_of(c"a").map_or(0, |status| status.st_uid + 100 * status.st_gid),
            with(c"mode=9"),
            with(c"nonsense"),
            with(c"size=x"),
            with(c"mode=700,,"),
            mode()
        )
    }),
    case!("a_file_system_without_limits", {
        alone();
        let limits = |options: &CStr| {
            mount_with(c"x", c"a", Some(c"tmpfs"), 0, Some(options));
            let mut status = std::mem::MaybeUninit::<libc::statfs>::uninit();
            let told = ok(sys!(statfs(c"a".as_ptr(), status.as_mut_ptr())));
            // SAFETY: the kernel has filled it in, or it isn't looked at.
            let status = (told == "ok").then(|| unsafe { status.assume_init() });
            status.map_or(told, |status| {
                format!(
                    "{} {} {} {} {}",
                    status.f_blocks, status.f_bfree, status.f_bavail, status.f_files, status.f_ffree
                )
            })
        };
        answers!(limits(c"size=0,nr_inodes=0"), limits(c"size=40k,nr_inodes=5"), limits(c"size=0,nr_inodes=2k"))
    }),
    case!("a_removed_folder_is_no_place_for_a_mount", {
        alone();
        sys!(chdir(c"a".as_ptr()));
        sys!(rmdir(c"../a".as_ptr()));
        mount_tmpfs(c".")
    }),
    case!("a_mounts_place_can_not_be_removed_or_renamed", {
        alone();
        mount_tmpfs(c"a");
        answers!(
            ok(sys!(rmdir(c"a".as_ptr()))),
            ok(sys!(rename(c"a".as_ptr(), c"z".as_ptr()))),
            ok(sys!(rename(c"b".as_ptr(), c"a".as_ptr()))),
            ok(sys!(rename(c"b".as_ptr(), c"c".as_ptr())))
        )
    }),
];
