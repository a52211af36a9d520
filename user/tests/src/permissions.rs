//! Who may do what: modes, owners, users and groups, sticky and setgid folders.

use conformance::support::*;
use conformance::{answers, case, sys};
use std::ffi::CStr;

fn mode(path: &CStr) -> String {
    status_of(path).map_or(last_errno(), |status| format!("{:o}", status.st_mode & 0o7777))
}

fn owner(path: &CStr) -> String {
    status_of(path)
        .map_or(last_errno(), |status| format!("{}:{} {:o}", status.st_uid, status.st_gid, status.st_mode & 0o7777))
}

fn access(path: &CStr, wanted: i32) -> String {
    ok(sys!(access(path.as_ptr(), wanted)))
}

fn chmod(path: &CStr, mode: libc::mode_t) -> String {
    ok(sys!(chmod(path.as_ptr(), mode)))
}

fn chown(path: &CStr, user: u32, group: u32) -> String {
    ok(sys!(chown(path.as_ptr(), user, group)))
}

/// What an ordinary user can open of a file of root's with this mode.
fn for_others(mode: libc::mode_t) -> String {
    make_file(c"file", b"x", mode);
    as_user(|| answers!(ok(open(c"file", libc::O_RDONLY)), ok(open(c"file", libc::O_WRONLY))))
}

fn identity() -> String {
    let (mut real, mut effective, mut saved) = (9, 9, 9);
    sys!(getresuid(&mut real, &mut effective, &mut saved));
    let users = format!("{real} {effective} {saved}");
    sys!(getresgid(&mut real, &mut effective, &mut saved));
    format!("{users} / {real} {effective} {saved}")
}

fn groups() -> String {
    let mut groups = [0_u32; 8];
    let count = sys!(getgroups(8, groups.as_mut_ptr()));
    format!("{:?}", groups.get(..count.max(0) as usize).unwrap_or_default())
}

const SAME: u32 = u32::MAX;

const CHANGES_OF_IDS: [fn() -> i32; 9] = [
    || sys!(setresuid(1000, SAME, SAME)),
    || sys!(setresuid(SAME, 1000, SAME)),
    || sys!(setresuid(SAME, SAME, 1000)),
    || sys!(setfsuid(1000)),
    || sys!(setfsuid(0)),
    || sys!(setresgid(1000, SAME, SAME)),
    || sys!(setresgid(SAME, 1000, SAME)),
    || sys!(setfsgid(1000)),
    || sys!(setgroups(1, &1000)),
];

pub const CASES: &[Case] = &[
    case!("chmod_sets_all_twelve_bits", {
        make_file(c"f", b"", 0o644);
        answers!(chmod(c"f", 0o7777), mode(c"f"), chmod(c"f", 0o170000), mode(c"f"), chmod(c"missing", 0))
    }),
    case!("chmod_of_another_ones_file", {
        make_file(c"f", b"", 0o644);
        as_user(|| chmod(c"f", 0o666))
    }),
    case!(
        "chmod_of_the_own_file",
        as_user(|| {
            make_file(c"f", b"", 0o600);
            answers!(chmod(c"f", 0o4755), mode(c"f"))
        })
    ),
    case!("chmod_through_a_link", {
        make_file(c"f", b"", 0o644);
        sys!(symlink(c"f".as_ptr(), c"s".as_ptr()));
        answers!(chmod(c"s", 0o600), mode(c"f"))
    }),
    case!("chmod_by_a_descriptor", {
        make_file(c"f", b"", 0o644);
        answers!(
            ok(sys!(fchmod(open(c"f", 0), 0o611))),
            mode(c"f"),
            ok(sys!(fchmodat(libc::AT_FDCWD, c"f".as_ptr(), 0o622, 0))),
            mode(c"f"),
            ok(sys!(fchmod(77, 0)))
        )
    }),
    case!("chown_by_root", {
        make_file(c"f", b"", 0o644);
        answers!(
            chown(c"f", 5, 6),
            owner(c"f"),
            chown(c"f", u32::MAX, 7),
            owner(c"f"),
            chown(c"f", 8, u32::MAX),
            owner(c"f")
        )
    }),
    case!("chown_drops_setuid", {
        make_file(c"f", b"", 0o6755);
        answers!(chown(c"f", 5, 6), owner(c"f"))
    }),
    case!("chown_drops_setgid_only_with_group_execute", {
        make_file(c"f", b"", 0o2644);
        answers!(chown(c"f", 5, 6), owner(c"f"))
    }),
    case!(
        "chown_by_a_user",
        as_user(|| {
            make_file(c"f", b"", 0o644);
            answers!(
                chown(c"f", 5, u32::MAX),
                chown(c"f", u32::MAX, 5),
                chown(c"f", u32::MAX, 1000),
                chown(c"f", 1000, 1000)
            )
        })
    ),
    case!("writing_drops_set_id_bits", {
        let after_write = |mode: libc::mode_t| {
            make_file(c"f", b"content", mode);
            let by_user = as_user(|| {
                write(open(c"f", libc::O_WRONLY), b"x");
                owner(c"f")
            });
            write(open(c"f", libc::O_WRONLY), b"x");
            make_file(c"g", b"content", mode);
            let cut = as_user(|| answers!(ok(sys!(truncate(c"g".as_ptr(), 1))), owner(c"g")));
            answers!(by_user, cut)
        };
        [0o6777, 0o4666, 0o2676].map(after_write).join(" | ")
    }),
    case!("a_users_chown_drops_set_id_bits", {
        let after = |mode: libc::mode_t| {
            make_file(c"f", b"", mode);
            chown(c"f", 1000, 7);
            chmod(c"f", mode);
            let own = as_user(|| answers!(chown(c"f", u32::MAX, u32::MAX), owner(c"f")));
            make_file(c"g", b"", mode);
            chown(c"g", 1000, 1000);
            chmod(c"g", mode);
            answers!(own, as_user(|| answers!(chown(c"g", u32::MAX, 1000), owner(c"g"))))
        };
        [0o6755, 0o2644].map(after).join(" | ")
    }),
    case!("taking_other_ids_makes_a_process_hold_secrets", {
        let told = || {
            let mut signal = 0;
            sys!(prctl(libc::PR_GET_PDEATHSIG, &mut signal));
            format!("{}/{signal}", sys!(prctl(libc::PR_GET_DUMPABLE)))
        };
        let after = |take: &dyn Fn() -> i32| {
            asked_in_child(|| {
                sys!(prctl(libc::PR_SET_PDEATHSIG, libc::SIGUSR1));
                take();
                told()
            })
        };
        answers!(
            after(&|| 0),
            after(&|| sys!(setuid(1000))),
            after(&|| sys!(setgid(1000))),
            after(&|| sys!(setresuid(1000, u32::MAX, u32::MAX))),
            after(&|| sys!(setresuid(u32::MAX, u32::MAX, 1000))),
            after(&|| sys!(setresgid(1000, u32::MAX, 1000))),
            after(&|| sys!(setfsuid(1000))),
            after(&|| sys!(setfsgid(1000))),
            after(&|| sys!(setgroups(0, std::ptr::null()))),
            after(&|| sys!(setuid(0)))
        )
    }),
    case!("chown_of_a_link_itself", {
        sys!(symlink(c"x".as_ptr(), c"s".as_ptr()));
        answers!(ok(sys!(lchown(c"s".as_ptr(), 5, 6))), owner(c"s"))
    }),
    case!(
        "writing_drops_setuid",
        as_user(|| {
            make_file(c"f", b"", 0o6777);
            write(open(c"f", libc::O_WRONLY), b"x");
            mode(c"f")
        })
    ),
    case!("umask_is_taken_off", {
        sys!(umask(0o027));
        close(sys!(open(c"f".as_ptr(), libc::O_CREAT, 0o666)));
        sys!(mkdir(c"d".as_ptr(), 0o777));
        answers!(mode(c"f"), mode(c"d"), format!("{:o}", sys!(umask(0o1777))), format!("{:o}", sys!(umask(0))))
    }),
    case!("others_and_their_bits", [0o600, 0o604, 0o602, 0o606, 0o660].map(for_others).join(" | ")),
    case!(
        "the_owners_bits_count_even_if_others_have_more",
        as_user(|| {
            make_file(c"f", b"x", 0o077);
            answers!(ok(open(c"f", libc::O_RDONLY)), ok(open(c"f", libc::O_WRONLY)))
        })
    ),
    case!("the_groups_bits_count", {
        make_file(c"f", b"x", 0o040);
        chown(c"f", 0, 1000);
        as_user(|| answers!(ok(open(c"f", libc::O_RDONLY)), ok(open(c"f", libc::O_WRONLY))))
    }),
    case!("supplementary_groups_count", {
        make_file(c"f", b"x", 0o040);
        chown(c"f", 0, 77);
        asked_in_child(|| {
            let list = [76, 77];
            sys!(setgroups(2, list.as_ptr()));
            sys!(setresgid(1000, 1000, 1000));
            sys!(setresuid(1000, 1000, 1000));
            answers!(groups(), ok(open(c"f", libc::O_RDONLY)))
        })
    }),
    case!("root_may_read_and_write_all", {
        make_file(c"f", b"x", 0);
        answers!(ok(open(c"f", libc::O_RDWR)), access(c"f", libc::R_OK), access(c"f", libc::X_OK))
    }),
    case!("access_asks_for_the_real_user", {
        make_file(c"f", b"x", 0o600);
        asked_in_child(|| {
            sys!(setresuid(1000, 0, 0));
            answers!(
                access(c"f", libc::R_OK),
                ok(open(c"f", 0)),
                ok(sys!(faccessat(libc::AT_FDCWD, c"f".as_ptr(), libc::R_OK, libc::AT_EACCESS)))
            )
        })
    }),
    case!("a_folder_without_x", {
        sys!(mkdir(c"d".as_ptr(), 0o755));
        make_file(c"d/f", b"x", 0o644);
        chmod(c"d", 0o744);
        as_user(|| answers!(ok(open(c"d/f", 0)), ok(open(c"d", 0)), ok(sys!(chdir(c"d".as_ptr())))))
    }),
    case!("a_folder_without_r", {
        sys!(mkdir(c"d".as_ptr(), 0o755));
        make_file(c"d/f", b"x", 0o644);
        chmod(c"d", 0o711);
        as_user(|| answers!(ok(open(c"d/f", 0)), ok(open(c"d", 0)), ok(sys!(chdir(c"d".as_ptr())))))
    }),
    case!("a_folder_without_w", {
        sys!(mkdir(c"d".as_ptr(), 0o755));
        make_file(c"d/f", b"x", 0o666);
        as_user(|| {
            answers!(
                ok(open(c"d/g", libc::O_CREAT)),
                ok(sys!(unlink(c"d/f".as_ptr()))),
                ok(sys!(rename(c"d/f".as_ptr(), c"d/g".as_ptr()))),
                ok(sys!(mkdir(c"d/e".as_ptr(), 0o755))),
                ok(sys!(link(c"d/f".as_ptr(), c"d/h".as_ptr())))
            )
        })
    }),
    case!("a_sticky_folder", {
        sys!(mkdir(c"d".as_ptr(), 0o777));
        chmod(c"d", 0o1777);
        make_file(c"d/roots", b"x", 0o666);
        as_user(|| {
            make_file(c"d/own", b"x", 0o666);
            answers!(
                ok(sys!(unlink(c"d/roots".as_ptr()))),
                ok(sys!(rename(c"d/roots".as_ptr(), c"d/x".as_ptr()))),
                ok(sys!(rename(c"d/own".as_ptr(), c"d/roots".as_ptr()))),
                ok(sys!(unlink(c"d/own".as_ptr())))
            )
        })
    }),
    case!("a_setgid_folder_gives_its_group", {
        sys!(mkdir(c"d".as_ptr(), 0o777));
        chown(c"d", 0, 55);
        chmod(c"d", 0o2777);
        close(open(c"d/f", libc::O_CREAT));
        sys!(mkdir(c"d/e".as_ptr(), 0o755));
        answers!(owner(c"d/f"), owner(c"d/e"))
    }),
    case!(
        "new_files_are_ones_own",
        as_user(|| {
            close(open(c"f", libc::O_CREAT));
            sys!(mkdir(c"d".as_ptr(), 0o755));
            answers!(owner(c"f"), owner(c"d"))
        })
    ),
    case!(
        "what_a_change_of_ids_changes_besides",
        CHANGES_OF_IDS
            .map(|change| asked_in_child(|| {
                sys!(prctl(libc::PR_SET_PDEATHSIG, libc::SIGUSR1));
                let result = change();
                let mut signal = 0;
                sys!(prctl(libc::PR_GET_PDEATHSIG, &mut signal));
                answers!(result, sys!(prctl(libc::PR_GET_DUMPABLE)) == 1, signal)
            }))
            .join(" | ")
    ),
    case!("setuid_by_root", asked_in_child(|| answers!(ok(sys!(setuid(1000))), identity(), ok(sys!(setuid(0)))))),
    case!("setuid_by_a_user", as_user(|| answers!(ok(sys!(setuid(0))), ok(sys!(setuid(1000))), ok(sys!(setgid(0)))))),
    case!(
        "seteuid_and_back",
        asked_in_child(|| answers!(
            ok(sys!(setresuid(u32::MAX, 1000, u32::MAX))),
            identity(),
            ok(sys!(setresuid(u32::MAX, 0, u32::MAX))),
            identity()
        ))
    ),
    case!(
        "setreuid",
        asked_in_child(|| answers!(
            ok(sys!(setreuid(1000, 1001))),
            identity(),
            ok(sys!(setreuid(1001, 1000))),
            identity()
        ))
    ),
    case!(
        "setresgid",
        asked_in_child(|| answers!(
            ok(sys!(setresgid(1, 2, 3))),
            identity(),
            ok(sys!(setresuid(9, 9, 9))),
            ok(sys!(setresgid(3, 1, 2))),
            identity(),
            ok(sys!(setresgid(4, 1, 2)))
        ))
    ),
    case!(
        "setgroups_is_for_root",
        asked_in_child(|| {
            let list = [3_u32, 1, 2];
            answers!(
                ok(sys!(setgroups(3, list.as_ptr()))),
                groups(),
                value(sys!(getgroups(2, list.as_ptr().cast_mut()))),
                value(sys!(getgroups(0, std::ptr::null_mut()))),
                as_user(|| ok(sys!(setgroups(0, std::ptr::null()))))
            )
        })
    ),
    case!(
        "setfsuid",
        asked_in_child(|| {
            make_file(c"f", b"x", 0o600);
            answers!(sys!(setfsuid(1000)), ok(open(c"f", 0)), sys!(setfsuid(0)), ok(open(c"f", 0)))
        })
    ),
    case!(
        "a_user_may_lower_but_not_raise_priority",
        as_user(|| answers!(
            ok(sys!(setpriority(libc::PRIO_PROCESS, 0, 15))),
            ok(sys!(setpriority(libc::PRIO_PROCESS, 0, 14)))
        ))
    ),
    case!(
        "a_user_may_not_set_the_clock_or_the_host_name",
        as_user(|| {
            let time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
            answers!(
                ok(sys!(clock_settime(libc::CLOCK_REALTIME, &time))),
                ok(sys!(sethostname(c"x".as_ptr(), 1))),
                ok(sys!(syscall(libc::SYS_reboot, 0xfee1dead_u32, 672274793, 0x1234567, 0)))
            )
        })
    ),
    case!("utimes_of_another_ones_file", {
        make_file(c"f", b"", 0o644);
        let now = [libc::timespec { tv_sec: 0, tv_nsec: libc::UTIME_NOW }; 2];
        let set = [libc::timespec { tv_sec: 5, tv_nsec: 0 }; 2];
        as_user(|| {
            answers!(
                ok(sys!(utimensat(libc::AT_FDCWD, c"f".as_ptr(), now.as_ptr(), 0))),
                ok(sys!(utimensat(libc::AT_FDCWD, c"f".as_ptr(), set.as_ptr(), 0)))
            )
        })
    }),
    case!("who_acts_as_another_is_not_dumpable_and_gets_no_death_signal", {
        let after = |change: fn() -> i32| {
            asked_in_child(|| {
                sys!(prctl(libc::PR_SET_PDEATHSIG, libc::SIGUSR1));
                let changed = ok(change());
                let mut signal = 0;
                sys!(prctl(libc::PR_GET_PDEATHSIG, &raw mut signal));
                answers!(changed, sys!(prctl(libc::PR_GET_DUMPABLE)), signal)
            })
        };
        [
            after(|| sys!(setresuid(1000, 1000, 1000))),
            after(|| sys!(setreuid(1000, u32::MAX))),
            after(|| sys!(setgid(1000))),
            after(|| sys!(setresgid(1000, u32::MAX, 1000))),
            after(|| sys!(setfsuid(1000))),
            after(|| sys!(setuid(0))),
            after(|| sys!(setgroups(0, std::ptr::null()))),
        ]
        .join("; ")
    }),
];
