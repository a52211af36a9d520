//! The tree: links, renaming, removing, listing, the current folder, paths.

use conformance::support::*;
use conformance::{answers, case, sys};
use std::ffi::{CStr, CString};

fn touch(path: &CStr) {
    make_file(path, b"", 0o644);
}

fn mkdir(path: &CStr) -> String {
    ok(sys!(mkdir(path.as_ptr(), 0o777)))
}

fn link(from: &CStr, to: &CStr) -> String {
    ok(sys!(link(from.as_ptr(), to.as_ptr())))
}

fn symlink(target: &CStr, path: &CStr) -> String {
    ok(sys!(symlink(target.as_ptr(), path.as_ptr())))
}

fn rename(from: &CStr, to: &CStr) -> String {
    ok(sys!(rename(from.as_ptr(), to.as_ptr())))
}

fn rename2(from: &CStr, to: &CStr, flags: u32) -> String {
    ok(sys!(syscall(libc::SYS_renameat2, libc::AT_FDCWD, from.as_ptr(), libc::AT_FDCWD, to.as_ptr(), flags)))
}

fn unlink(path: &CStr) -> String {
    ok(sys!(unlink(path.as_ptr())))
}

fn rmdir(path: &CStr) -> String {
    ok(sys!(rmdir(path.as_ptr())))
}

fn links(path: &CStr) -> i64 {
    status_of(path).map_or(-1, |status| status.st_nlink as i64)
}

fn inode(path: &CStr) -> u64 {
    status_of(path).map_or(0, |status| status.st_ino)
}

fn target(path: &CStr) -> String {
    let mut buffer = [0_u8; 4096];
    match sys!(readlink(path.as_ptr(), buffer.as_mut_ptr().cast(), 4096)) {
        -1 => last_errno(),
        count => String::from_utf8_lossy(&buffer[..count as usize]).into_owned(),
    }
}

/// The names in a folder, sorted, as the kernel itself gives them.
fn names(path: &CStr) -> String {
    let folder = open(path, libc::O_RDONLY | libc::O_DIRECTORY);
    let mut names = Vec::new();
    let mut buffer = [0_u8; 1024];
    loop {
        let count = sys!(syscall(libc::SYS_getdents64, folder, buffer.as_mut_ptr(), buffer.len()));
        if count < 0 {
            return last_errno();
        }
        if count == 0 {
            break;
        }
        let mut rest = &buffer[..count as usize];
        while rest.len() >= 20 {
            // struct linux_dirent64: inode 8, offset 8, length 2, type 1, name.
            let length = usize::from(u16::from_le_bytes([rest[16], rest[17]]));
            let name = rest[19..length].split(|&byte| byte == 0).next().unwrap_or_default();
            names.push(format!("{}:{}", String::from_utf8_lossy(name), rest[18]));
            rest = &rest[length..];
        }
    }
    close(folder);
    names.sort();
    names.join(" ")
}

fn many(count: usize) {
    for index in 0..count {
        touch(&CString::new(format!("f{index}")).unwrap_or_default());
    }
}

fn cwd() -> String {
    // Relative to the case's own folder, whose number is of no interest.
    let mut buffer = [0_u8; 4096];
    if sys!(syscall(libc::SYS_getcwd, buffer.as_mut_ptr(), 4096)) < 0 {
        return last_errno();
    }
    let text = String::from_utf8_lossy(buffer.split(|&byte| byte == 0).next().unwrap_or_default()).into_owned();
    text.split('/').skip_while(|part| !part.starts_with("conformance.")).skip(2).collect::<Vec<_>>().join("/")
}

pub const CASES: &[Case] = &[
    case!("a_new_folder", {
        answers!(mkdir(c"d"), links(c"d"), links(c"."), names(c"d"), status_of(c"d").map_or(0, |status| status.st_mode))
    }),
    case!("mkdir_refuses", {
        touch(c"f");
        answers!(
            mkdir(c"."),
            mkdir(c"f"),
            mkdir(c"f/d"),
            mkdir(c"no/d"),
            mkdir(c""),
            mkdir(c"/"),
            mkdir(c"d/"),
            mkdir(c"d/.")
        )
    }),
    case!("a_folders_links_count_its_folders", {
        mkdir(c"d");
        mkdir(c"d/a");
        mkdir(c"d/b");
        touch(c"d/f");
        answers!(links(c"d"), rmdir(c"d/a"), links(c"d"))
    }),
    case!("rmdir_refuses", {
        mkdir(c"d");
        touch(c"d/f");
        touch(c"f");
        answers!(rmdir(c"d"), rmdir(c"f"), rmdir(c"missing"), rmdir(c"d/."), rmdir(c"d/.."), rmdir(c"/"))
    }),
    case!("removing_the_current_folder", {
        mkdir(c"d");
        sys!(chdir(c"d".as_ptr()));
        answers!(
            rmdir(c"../d"),
            cwd(),
            names(c"."),
            mkdir(c"x"),
            ok(open(c"x", libc::O_CREAT)),
            ok(sys!(chdir(c"..".as_ptr()))),
            ok(open(c".", 0))
        )
    }),
    case!("unlink_refuses", {
        mkdir(c"d");
        touch(c"f");
        answers!(
            unlink(c"d"),
            unlink(c"missing"),
            unlink(c"f/"),
            unlink(c""),
            ok(sys!(unlinkat(libc::AT_FDCWD, c"f".as_ptr(), libc::AT_REMOVEDIR))),
            ok(sys!(unlinkat(libc::AT_FDCWD, c"f".as_ptr(), 7)))
        )
    }),
    case!("an_open_file_outlives_its_name", {
        make_file(c"f", b"still here", 0o644);
        let file = open(c"f", libc::O_RDWR);
        answers!(
            unlink(c"f"),
            read(file, 20),
            write(file, b"!"),
            status_of_descriptor(file).map_or(9, |status| status.st_nlink),
            status_of(c"f").is_some()
        )
    }),
    case!("hard_links", {
        make_file(c"a", b"x", 0o644);
        answers!(link(c"a", c"b"), links(c"a"), inode(c"a") == inode(c"b"), unlink(c"a"), links(c"b"), content(c"b"))
    }),
    case!("hard_links_refuse", {
        touch(c"a");
        mkdir(c"d");
        touch(c"b");
        answers!(link(c"a", c"b"), link(c"d", c"e"), link(c"missing", c"e"), link(c"a", c"no/e"), link(c"a/", c"e"))
    }),
    case!("a_hard_link_to_a_symbolic_link", {
        symlink(c"x", c"s");
        answers!(
            link(c"s", c"t"),
            target(c"t"),
            ok(sys!(linkat(libc::AT_FDCWD, c"s".as_ptr(), libc::AT_FDCWD, c"u".as_ptr(), libc::AT_SYMLINK_FOLLOW)))
        )
    }),
    case!("symbolic_links", {
        make_file(c"f", b"x", 0o644);
        answers!(
            symlink(c"f", c"s"),
            target(c"s"),
            content(c"s"),
            status_of(c"s").map_or(0, |status| status.st_mode),
            status_of(c"s").map_or(0, |status| status.st_size),
            target(c"f"),
            target(c"missing")
        )
    }),
    case!("symbolic_links_refuse", {
        touch(c"f");
        answers!(
            symlink(c"x", c"f"),
            symlink(c"", c"s"),
            symlink(c"x", c"no/s"),
            symlink(c"x", c"s/"),
            symlink(&CString::new(vec![b'x'; 4096]).unwrap_or_default(), c"l")
        )
    }),
    case!("readlink_cuts", {
        symlink(c"0123456789", c"s");
        let mut buffer = [0_u8; 4];
        answers!(
            value(sys!(readlink(c"s".as_ptr(), buffer.as_mut_ptr().cast(), 4))),
            String::from_utf8_lossy(&buffer),
            value(sys!(readlink(c"s".as_ptr(), buffer.as_mut_ptr().cast(), 0)))
        )
    }),
    case!("links_in_the_middle_of_a_path", {
        mkdir(c"d");
        make_file(c"d/f", b"x", 0o644);
        symlink(c"d", c"s");
        answers!(content(c"s/f"), content(c"s/../d/f"), ok(open(c"s/", 0)), unlink(c"s/"), unlink(c"s"))
    }),
    case!("forty_links_and_one_more", {
        make_file(c"l0", b"x", 0o644);
        for index in 1..=41 {
            symlink(
                &CString::new(format!("l{}", index - 1)).unwrap_or_default(),
                &CString::new(format!("l{index}")).unwrap_or_default(),
            );
        }
        answers!(ok(open(c"l40", 0)), ok(open(c"l41", 0)))
    }),
    case!("a_loop_of_links", {
        symlink(c"a", c"b");
        symlink(c"b", c"a");
        answers!(ok(open(c"a", 0)), ok(open(c"a/x", 0)), unlink(c"a"))
    }),
    case!("long_names", {
        let name = |length| CString::new(vec![b'n'; length]).unwrap_or_default();
        answers!(
            mkdir(&name(255)),
            mkdir(&name(256)),
            ok(open(&CString::new("./".repeat(2047)).unwrap_or_default(), 0)),
            ok(open(&CString::new("./".repeat(2048)).unwrap_or_default(), 0))
        )
    }),
    case!("slashes_and_dots", {
        mkdir(c"d");
        touch(c"d/f");
        answers!(
            ok(open(c"d//f", 0)),
            ok(open(c"./d/./f", 0)),
            ok(open(c"d/../d/f", 0)),
            ok(open(c"f/..", 0)),
            ok(open(c"d/f/..", 0)),
            inode(c"/..") == inode(c"/")
        )
    }),
    case!("renaming", {
        make_file(c"a", b"x", 0o644);
        let before = inode(c"a");
        answers!(rename(c"a", c"b"), content(c"b"), inode(c"b") == before, status_of(c"a").is_some())
    }),
    case!("renaming_over_a_file", {
        make_file(c"a", b"new", 0o644);
        make_file(c"b", b"old", 0o644);
        let old = open(c"b", 0);
        answers!(rename(c"a", c"b"), content(c"b"), read(old, 9))
    }),
    case!("renaming_over_folders", {
        mkdir(c"a");
        mkdir(c"b");
        mkdir(c"c");
        touch(c"c/f");
        touch(c"f");
        answers!(rename(c"a", c"c"), rename(c"a", c"b"), rename(c"f", c"b"), rename(c"b", c"f"), names(c"."))
    }),
    case!("renaming_across_folders", {
        mkdir(c"a");
        mkdir(c"a/x");
        mkdir(c"b");
        answers!(rename(c"a/x", c"b/y"), links(c"a"), links(c"b"), inode(c"b/y/..") == inode(c"b"))
    }),
    case!("renaming_into_itself", {
        mkdir(c"a");
        mkdir(c"a/b");
        answers!(rename(c"a", c"a/c"), rename(c"a", c"a/b/c"), rename(c"a/b", c"a"), rename(c"a", c"a"))
    }),
    case!("renaming_refuses", {
        touch(c"f");
        mkdir(c"d");
        answers!(
            rename(c"missing", c"x"),
            rename(c"f", c"no/x"),
            rename(c"f", c"f/x"),
            rename(c"d", c"."),
            rename(c".", c"x"),
            rename(c"d/..", c"x"),
            rename(c"f", c"x/"),
            rename(c"d", c"e/"),
            rename(c"f", c"")
        )
    }),
    case!("renaming_one_hard_link_onto_the_other", {
        touch(c"a");
        link(c"a", c"b");
        answers!(rename(c"a", c"b"), names(c"."))
    }),
    case!("renaming_without_replacing", {
        touch(c"a");
        touch(c"b");
        answers!(rename2(c"a", c"b", 1), rename2(c"a", c"c", 1), names(c"."))
    }),
    case!("exchanging", {
        make_file(c"a", b"A", 0o644);
        mkdir(c"b");
        answers!(
            rename2(c"a", c"b", 2),
            content(c"b"),
            names(c"."),
            rename2(c"a", c"missing", 2),
            rename2(c"a", c"b", 3),
            rename2(c"a", c"b", 64)
        )
    }),
    case!("renaming_a_link_renames_the_link", {
        touch(c"f");
        symlink(c"f", c"s");
        answers!(rename(c"s", c"t"), target(c"t"), names(c"."))
    }),
    case!("renaming_to_another_file_system", {
        touch(c"f");
        answers!(rename(c"f", c"/proc/f"), link(c"f", c"/proc/f"))
    }),
    case!("listing_with_types", {
        mkdir(c"d");
        touch(c"f");
        symlink(c"x", c"s");
        sys!(mkfifo(c"p".as_ptr(), 0o644));
        names(c".")
    }),
    case!("listing_many", {
        many(500);
        names(c".").split(' ').count()
    }),
    case!("listing_a_file", {
        touch(c"f");
        let mut buffer = [0_u8; 100];
        value(sys!(syscall(libc::SYS_getdents64, open(c"f", 0), buffer.as_mut_ptr(), 100)))
    }),
    case!("listing_into_too_little_room", {
        touch(c"f");
        let mut buffer = [0_u8; 10];
        value(sys!(syscall(libc::SYS_getdents64, open(c".", 0), buffer.as_mut_ptr(), 10)))
    }),
    case!("listing_again_from_the_start", {
        many(3);
        let folder = open(c".", 0);
        let mut buffer = [0_u8; 1024];
        let first = sys!(syscall(libc::SYS_getdents64, folder, buffer.as_mut_ptr(), 1024));
        let end = sys!(syscall(libc::SYS_getdents64, folder, buffer.as_mut_ptr(), 1024));
        sys!(lseek(folder, 0, libc::SEEK_SET));
        answers!(first, end, sys!(syscall(libc::SYS_getdents64, folder, buffer.as_mut_ptr(), 1024)) == first)
    }),
    case!("listing_while_removing", {
        many(200);
        let folder = open(c".", 0);
        let mut buffer = [0_u8; 512];
        let mut removed = 0;
        loop {
            let count = sys!(syscall(libc::SYS_getdents64, folder, buffer.as_mut_ptr(), buffer.len()));
            if count <= 0 {
                break;
            }
            let mut rest = &buffer[..count as usize];
            while rest.len() >= 20 {
                let length = usize::from(u16::from_le_bytes([rest[16], rest[17]]));
                if let Ok(name) = CStr::from_bytes_until_nul(&rest[19..length])
                    && rest[18] == libc::DT_REG
                {
                    removed += i32::from(unlink(name) == "ok");
                }
                rest = &rest[length..];
            }
        }
        answers!(removed, names(c"."))
    }),
    case!("an_entrys_inode_is_the_files", {
        touch(c"f");
        let listed = std::fs::read_dir(".")
            .ok()
            .and_then(|mut entries| entries.next())
            .and_then(Result::ok)
            .map(|entry| std::os::unix::fs::DirEntryExt::ino(&entry));
        listed == Some(inode(c"f"))
    }),
    case!("the_current_folder", {
        mkdir(c"d");
        mkdir(c"d/e");
        sys!(chdir(c"d/e".as_ptr()));
        let deep = cwd();
        sys!(chdir(c"..".as_ptr()));
        answers!(deep, cwd())
    }),
    case!("the_current_folder_after_a_rename", {
        mkdir(c"d");
        sys!(chdir(c"d".as_ptr()));
        rename(c"../d", c"../e");
        cwd()
    }),
    case!("the_current_folder_through_a_link", {
        mkdir(c"d");
        symlink(c"d", c"s");
        sys!(chdir(c"s".as_ptr()));
        cwd()
    }),
    case!("chdir_refuses", {
        touch(c"f");
        answers!(
            ok(sys!(chdir(c"f".as_ptr()))),
            ok(sys!(chdir(c"missing".as_ptr()))),
            ok(sys!(chdir(c"".as_ptr()))),
            ok(sys!(fchdir(open(c"f", 0)))),
            ok(sys!(fchdir(77)))
        )
    }),
    case!("fchdir", {
        mkdir(c"d");
        let folder = open(c"d", libc::O_PATH);
        answers!(ok(sys!(fchdir(folder))), cwd())
    }),
    case!("getcwd_into_too_little_room", {
        let mut buffer = [0_u8; 2];
        value(sys!(syscall(libc::SYS_getcwd, buffer.as_mut_ptr(), 2)))
    }),
    case!("getcwd_says_its_length", {
        sys!(chdir(c"/".as_ptr()));
        let mut buffer = [0_u8; 20];
        value(sys!(syscall(libc::SYS_getcwd, buffer.as_mut_ptr(), 20)))
    }),
    case!("paths_from_a_folder_descriptor", {
        mkdir(c"d");
        touch(c"d/f");
        let folder = open(c"d", 0);
        answers!(
            ok(sys!(openat(folder, c"f".as_ptr(), 0))),
            ok(sys!(openat(77, c"f".as_ptr(), 0))),
            ok(sys!(openat(77, c"/".as_ptr(), 0))),
            ok(sys!(openat(open(c"d/f", 0), c"x".as_ptr(), 0))),
            ok(sys!(mkdirat(folder, c"e".as_ptr(), 0o755))),
            ok(sys!(symlinkat(c"t".as_ptr(), folder, c"s".as_ptr()))),
            names(c"d"),
            ok(sys!(renameat(folder, c"f".as_ptr(), libc::AT_FDCWD, c"g".as_ptr()))),
            ok(sys!(unlinkat(folder, c"e".as_ptr(), libc::AT_REMOVEDIR)))
        )
    }),
    case!(
        "chroot_changes_what_slash_means",
        asked_in_child(|| {
            mkdir(c"d");
            touch(c"d/f");
            answers!(
                ok(sys!(chroot(c"d".as_ptr()))),
                ok(open(c"/f", 0)),
                ok(sys!(chdir(c"/".as_ptr()))),
                ok(open(c"../../f", 0)),
                inode(c"..") == inode(c".")
            )
        })
    ),
    case!("chroot_is_for_root", as_user(|| ok(sys!(chroot(c".".as_ptr()))))),
    case!(
        "nodes",
        answers!(
            ok(sys!(mknod(c"n".as_ptr(), libc::S_IFREG | 0o644, 0))),
            ok(sys!(mknod(c"c".as_ptr(), libc::S_IFCHR | 0o666, libc::makedev(1, 3)))),
            ok(sys!(mknod(c"p".as_ptr(), libc::S_IFIFO | 0o666, 0))),
            ok(sys!(mknod(c"d".as_ptr(), libc::S_IFDIR | 0o755, 0))),
            ok(sys!(mknod(c"n".as_ptr(), libc::S_IFREG, 0))),
            names(c"."),
            write(open(c"c", libc::O_WRONLY), b"gone")
        )
    ),
    case!(
        "nodes_by_users",
        as_user(|| answers!(
            ok(sys!(mknod(c"c".as_ptr(), libc::S_IFCHR | 0o666, libc::makedev(1, 3)))),
            ok(sys!(mkfifo(c"p".as_ptr(), 0o600)))
        ))
    ),
    case!(
        "mounting_a_tmpfs",
        asked_in_child(|| {
            mkdir(c"m");
            touch(c"m/hidden");
            let mounted = ok(sys!(mount(c"tmpfs".as_ptr(), c"m".as_ptr(), c"tmpfs".as_ptr(), 0, std::ptr::null())));
            touch(c"m/inside");
            let inside = names(c"m");
            let busy = {
                let file = open(c"m/inside", 0);
                let answer = ok(sys!(umount2(c"m".as_ptr(), 0)));
                close(file);
                answer
            };
            let moved = rename(c"m/inside", c"outside");
            answers!(
                mounted,
                inside,
                busy,
                moved,
                rmdir(c"m"),
                ok(sys!(umount2(c"m".as_ptr(), 0))),
                names(c"m"),
                ok(sys!(umount2(c"m".as_ptr(), 0)))
            )
        })
    ),
    case!(
        "mounting_a_folder_twice",
        asked_in_child(|| {
            mkdir(c"a");
            mkdir(c"b");
            touch(c"a/f");
            let bound =
                ok(sys!(mount(c"a".as_ptr(), c"b".as_ptr(), std::ptr::null(), libc::MS_BIND, std::ptr::null())));
            touch(c"b/g");
            let both = names(c"a");
            answers!(
                bound,
                both,
                inode(c"a") == inode(c"b"),
                rename(c"a/f", c"b/h"),
                ok(sys!(umount2(c"b".as_ptr(), 0))),
                names(c"b")
            )
        })
    ),
    case!("mounting_refuses", {
        mkdir(c"m");
        answers!(
            ok(sys!(mount(c"x".as_ptr(), c"m".as_ptr(), c"nosuchfs".as_ptr(), 0, std::ptr::null()))),
            ok(sys!(mount(c"x".as_ptr(), c"missing".as_ptr(), c"tmpfs".as_ptr(), 0, std::ptr::null()))),
            ok(sys!(umount2(c"m".as_ptr(), 0))),
            as_user(|| ok(sys!(mount(c"x".as_ptr(), c"m".as_ptr(), c"tmpfs".as_ptr(), 0, std::ptr::null()))))
        )
    }),
    case!("a_deep_tree", {
        let deep = (0..200).take_while(|_| mkdir(c"d") == "ok" && sys!(chdir(c"d".as_ptr())) == 0).count();
        let up = (0..200).take_while(|_| sys!(chdir(c"..".as_ptr())) == 0 && (sys!(rmdir(c"d".as_ptr())) == 0)).count();
        answers!(deep, up)
    }),
    case!(
        "access_of_what_is_not_there",
        answers!(
            ok(sys!(access(c"missing".as_ptr(), libc::F_OK))),
            ok(sys!(access(c".".as_ptr(), libc::F_OK))),
            ok(sys!(access(c".".as_ptr(), 77)))
        )
    ),
];
