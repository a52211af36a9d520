//! /proc: does it say what programs read there? Only what is the same everywhere is compared.

use conformance::support;
use conformance::support::*;
use conformance::{answers, case, sys};
use std::ffi::CString;
use std::fs;
use std::path::Path;

fn text(path: &str) -> String {
    fs::read(path)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_else(|error| errno_name(error.raw_os_error().unwrap_or(0)))
}

fn link(path: &str) -> String {
    fs::read_link(path)
        .map(|path| path.display().to_string())
        .unwrap_or_else(|error| errno_name(error.raw_os_error().unwrap_or(0)))
}

/// A field of /proc/self/status.
fn status(name: &str) -> String {
    text("/proc/self/status")
        .lines()
        .find_map(|line| {
            line.strip_prefix(name)?.strip_prefix(':').map(|rest| rest.split_whitespace().collect::<Vec<_>>().join(" "))
        })
        .unwrap_or("absent".into())
}

/// The fields of /proc/self/stat from the third on.
fn stat_fields() -> Vec<String> {
    text("/proc/self/stat")
        .rsplit_once(')')
        .map(|(_, rest)| rest.split_whitespace().map(str::to_owned).collect())
        .unwrap_or_default()
}

fn own(path: &str) -> String {
    format!("/proc/{}/{path}", sys!(getpid()))
}

/// Opens a file, and gives it this descriptor.
fn open_as(path: &std::ffi::CStr, number: i32) -> String {
    let file = support::open(path, libc::O_RDONLY);
    if file == number { "ok".into() } else { ok(sys!(dup2(file, number))) }
}

/// Whom the files of this process belong to, what may be done with them, and whether they can be opened.
fn files_with_owners() -> String {
    let names = [
        "", "auxv", "cmdline", "comm", "cwd", "environ", "exe", "fd", "fd/0", "fdinfo", "fdinfo/0", "limits", "maps",
        "mounts", "stat", "task",
    ];
    let thread = format!("task/{}", sys!(getpid()));
    let names = names.iter().map(|name| (*name).to_owned()).chain([format!("{thread}/stat"), thread]);
    let tell = |name: String| {
        let path = CString::new(own(&name)).unwrap_or_default();
        let owner = status_of(&path)
            .map_or(last_errno(), |status| format!("{}:{} {:o}", status.st_uid, status.st_gid, status.st_mode));
        let file = support::open(&path, libc::O_RDONLY);
        let opened = ok(file);
        close(file);
        format!(
            "{} {owner} {}",
            name.split('/').next_back().filter(|name| name.parse::<i32>().is_err()).unwrap_or("N"),
            opened
        )
    };
    names.map(tell).collect::<Vec<_>>().join("; ")
}

pub const CASES: &[Case] = &[
    case!("self_is_the_own_process", link("/proc/self") == sys!(getpid()).to_string()),
    case!("thread_self", link("/proc/thread-self") == format!("{0}/task/{0}", sys!(getpid()))),
    case!(
        "the_own_folder_is_listed",
        fs::read_dir("/proc").is_ok_and(|mut entries| entries
            .any(|entry| entry.is_ok_and(|entry| entry.file_name().to_string_lossy() == sys!(getpid()).to_string())))
    ),
    case!("a_process_that_is_none", answers!(text("/proc/4194303/stat"), text("/proc/nothing"))),
    case!(
        "comm",
        answers!(text("/proc/self/comm").trim_end() == "conformance", {
            sys!(prctl(libc::PR_SET_NAME, c"renamed".as_ptr()));
            text("/proc/self/comm")
        })
    ),
    case!("comm_can_be_written", {
        let written = fs::write("/proc/self/comm", "written").is_ok();
        answers!(written, text("/proc/self/comm"))
    }),
    case!("cmdline", text("/proc/self/cmdline").split('\0').count() >= 2),
    case!("cmdline_of_a_child_that_executed", {
        make_file(c"spinner", &conformance::elf::Elf::with(|elf| elf.code = vec![0xeb, 0xfe]).bytes(), 0o755);
        let (read_end, write_end) = pipe();
        sys!(fcntl(write_end, libc::F_SETFD, libc::FD_CLOEXEC));
        let child = fork(|| {
            close(read_end);
            execve(c"./spinner", &[c"zero", c"", c"two words"], &[c"A=b"]);
            1
        });
        close(write_end);
        read_to_end(read_end);
        let answer = answers!(
            format!("{:?}", text(&format!("/proc/{child}/cmdline"))),
            format!("{:?}", text(&format!("/proc/{child}/environ"))),
            text(&format!("/proc/{child}/comm")).trim_end(),
            link(&format!("/proc/{child}/exe")).ends_with("/spinner")
        );
        sys!(kill(child, libc::SIGKILL));
        ending(child);
        answer
    }),
    case!("a_zombie", {
        let child = fork(|| 0);
        sleep_ms(20);
        let stat = text(&format!("/proc/{child}/stat"));
        answers!(
            stat.rsplit_once(')')
                .and_then(|(_, rest)| rest.split_whitespace().next().map(str::to_owned))
                .unwrap_or(stat.clone()),
            text(&format!("/proc/{child}/comm")),
            stat.contains("(conformance)"),
            text(&format!("/proc/{child}/cmdline")).is_empty(),
            link(&format!("/proc/{child}/exe"))
        )
    }),
    case!("exe", fs::metadata("/proc/self/exe").is_ok_and(|metadata| metadata.len() > 100_000)),
    case!("exe_can_be_executed", helper_at(c"/proc/self/exe", &[c"x", c"--helper-arguments"], &[])),
    case!("exe_of_a_removed_file", {
        fs::copy("/proc/self/exe", "copy").ok();
        helper_at(c"./copy", &[c"x", c"--helper-first"], &[])
    }),
    case!("cwd_and_root", answers!(link("/proc/self/cwd").contains("conformance."), link("/proc/self/root"))),
    case!("descriptors_are_listed", {
        make_file(c"f", b"x", 0o644);
        let file = open(c"f", 0);
        answers!(
            file,
            link("/proc/self/fd/3").ends_with("/f"),
            fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count()) >= 4
        )
    }),
    case!("a_pipes_link", {
        let (read_end, _) = pipe();
        let text = link(&format!("/proc/self/fd/{read_end}"));
        answers!(text.starts_with("pipe:["), text.ends_with(']'))
    }),
    case!("a_removed_files_link", {
        make_file(c"f", b"x", 0o644);
        let file = open(c"f", 0);
        sys!(unlink(c"f".as_ptr()));
        link(&format!("/proc/self/fd/{file}")).ends_with("/f (deleted)")
    }),
    case!("a_descriptor_opens_its_removed_file", {
        make_file(c"f", b"still", 0o644);
        let file = open(c"f", 0);
        sys!(unlink(c"f".as_ptr()));
        text(&format!("/proc/self/fd/{file}"))
    }),
    case!(
        "stat_has_52_fields",
        answers!(
            stat_fields().len(),
            stat_fields().first().cloned().unwrap_or_default(),
            stat_fields().get(1).is_some_and(|parent| *parent == sys!(getppid()).to_string()),
            stat_fields().get(17).cloned().unwrap_or_default()
        )
    ),
    case!(
        "status_fields",
        answers!(
            status("Name"),
            status("State"),
            status("Uid"),
            status("Gid"),
            status("Threads"),
            status("Umask"),
            status("Pid") == sys!(getpid()).to_string(),
            status("Tgid") == sys!(getpid()).to_string()
        )
    ),
    case!("status_of_signals", {
        sys!(signal(libc::SIGHUP, libc::SIG_IGN));
        // SAFETY: a signal set is plain integers.
        unsafe {
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigaddset(&mut set, libc::SIGUSR1);
            libc::sigprocmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
        }
        sys!(raise(libc::SIGUSR1));
        answers!(status("SigBlk"), status("SigIgn"), status("ShdPnd") != status("SigPnd"))
    }),
    case!(
        "status_of_memory",
        ["VmSize", "VmRSS", "VmData", "VmStk", "VmExe"].map(|name| yes(status(name).ends_with(" kB"))).join(" ")
    ),
    case!("maps", {
        let maps = text("/proc/self/maps");
        answers!(
            maps.contains("[stack]"),
            maps.contains("[heap]"),
            maps.lines().any(|line| line.contains("r-xp") && line.contains("conformance")),
            maps.lines().all(|line| line.split_whitespace().count() >= 5)
        )
    }),
    case!("maps_show_a_mapping", {
        let memory =
            sys!(mmap(std::ptr::null_mut(), 12288, libc::PROT_READ, libc::MAP_SHARED | libc::MAP_ANONYMOUS, -1, 0))
                as usize;
        text("/proc/self/maps")
            .lines()
            .find(|line| line.starts_with(&format!("{memory:x}-{:x} ", memory + 12288)))
            .map_or("absent".into(), |line| line.split_whitespace().nth(1).unwrap_or_default().to_owned())
    }),
    case!("limits_are_listed", {
        let limits = text("/proc/self/limits");
        answers!(
            limits.lines().next().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).unwrap_or_default(),
            limits.lines().count(),
            limits.contains("Max open files")
        )
    }),
    case!("environ_is_the_start_environment", text("/proc/self/environ").contains("PATH=")),
    case!(
        "auxv_ends_with_null",
        fs::read("/proc/self/auxv").is_ok_and(|bytes| bytes.len() % 16 == 0 && bytes.ends_with(&[0; 16]))
    ),
    case!("what_a_process_was_its_new_user_does_not_learn", {
        let (changed, told) = pipe();
        let other = fork(|| {
            sys!(setresgid(1000, 1000, 1000));
            sys!(setresuid(1000, 1000, 1000));
            write_all(told, b"x");
            loop {
                sys!(pause());
            }
        });
        read_up_to(changed, 1);
        let answer = as_user(|| {
            let refusal = |result: std::io::Result<usize>| result.err().and_then(|error| error.raw_os_error());
            let read = ["environ", "auxv", "fdinfo/0"]
                .map(|name| refusal(fs::read(format!("/proc/{other}/{name}")).map(|text| text.len())));
            let followed =
                ["cwd", "exe", "fd/0"].map(|name| refusal(fs::read_link(format!("/proc/{other}/{name}")).map(|_| 0)));
            format!("{read:?} {followed:?}")
        });
        sys!(kill(other, libc::SIGKILL));
        answers!(answer, ending(other))
    }),
    case!("mounts", {
        let mounts = text("/proc/self/mounts");
        answers!(
            mounts.lines().any(|line| line.split(' ').nth(1) == Some("/")),
            mounts.lines().any(|line| line.starts_with("proc /proc proc ")),
            mounts.lines().all(|line| line.split(' ').count() == 6),
            text("/proc/mounts") == mounts
        )
    }),
    case!(
        "mountinfo",
        text("/proc/self/mountinfo")
            .lines()
            .any(|line| line.split(' ').nth(4) == Some("/proc") && line.contains(" - proc "))
    ),
    case!(
        "meminfo",
        ["MemTotal:", "MemFree:", "MemAvailable:", "Buffers:", "Cached:", "SwapTotal:", "SwapFree:", "Shmem:"]
            .map(|name| yes(text("/proc/meminfo").lines().any(|line| line.starts_with(name) && line.ends_with(" kB"))))
            .join(" ")
    ),
    case!("slabinfo_is_for_root", {
        let own = text("/proc/slabinfo");
        let mut lines = own.lines();
        let columns = |line: &str| line.split(" : ").map(|part| part.split_whitespace().count()).collect::<Vec<_>>();
        answers!(
            lines.next() == Some("slabinfo - version: 2.1"),
            lines.next().is_some_and(|line| line.starts_with("# name ")),
            lines.all(|line| columns(line) == [6, 4, 4]),
            as_user(|| ok(open(c"/proc/slabinfo", 0)))
        )
    }),
    case!("open_files_are_counted", {
        let numbers = || text("/proc/sys/fs/file-nr").split('\t').map_while(|word| word.trim().parse().ok()).collect();
        let before: Vec<i64> = numbers();
        let most = text("/proc/sys/fs/file-max").trim().parse::<i64>();
        let files: Vec<i32> = (0..500).map(|_| open(c"/dev/null", 0)).collect();
        let during: Vec<i64> = numbers();
        answers!(files.len(), during.len(), during[0] - before[0] > 400, during[1], most == Ok(during[2]))
    }),
    case!(
        "cpuinfo",
        ["processor\t", "vendor_id\t", "model name\t", "flags\t", "cpu MHz\t"]
            .map(|name| yes(text("/proc/cpuinfo").lines().any(|line| line.starts_with(name))))
            .join(" ")
    ),
    case!("system_stat", {
        let stat = text("/proc/stat");
        answers!(
            stat.lines().next().is_some_and(|line| line.starts_with("cpu ") && line.split_whitespace().count() == 11),
            ["cpu0 ", "intr ", "ctxt ", "btime ", "processes ", "procs_running ", "procs_blocked "]
                .map(|name| yes(stat.lines().any(|line| line.starts_with(name))))
                .join(" ")
        )
    }),
    case!("system_stat_counts_switches", {
        let switches = || {
            let stat = text("/proc/stat");
            let line = stat.lines().find_map(|line| line.strip_prefix("ctxt "));
            line.and_then(|number| number.parse::<u64>().ok()).unwrap_or(0)
        };
        let before = switches();
        in_child(|| 0);
        answers!(before > 0, switches() > before)
    }),
    case!(
        "uptime_and_loadavg",
        answers!(
            text("/proc/uptime").split_whitespace().filter(|word| word.parse::<f64>().is_ok()).count(),
            text("/proc/loadavg").split_whitespace().count()
        )
    ),
    case!(
        "version_and_filesystems",
        answers!(
            text("/proc/version").starts_with("Linux version "),
            text("/proc/filesystems").lines().any(|line| line == "nodev\ttmpfs"),
            text("/proc/filesystems").lines().any(|line| line == "nodev\tproc")
        )
    ),
    case!(
        "kernel_settings",
        answers!(
            text("/proc/sys/kernel/ostype").trim_end(),
            text("/proc/sys/kernel/hostname").ends_with('\n'),
            text("/proc/sys/kernel/pid_max").trim_end().parse::<u32>().is_ok(),
            text("/proc/sys/kernel/randomize_va_space").trim_end(),
            text("/proc/sys/kernel/ngroups_max").trim_end()
        )
    ),
    case!("files_have_no_size", fs::metadata("/proc/self/status").map_or(1, |metadata| metadata.len())),
    case!("reading_in_pieces", {
        let file = open(c"/proc/self/status", 0);
        let pieces: Vec<u8> =
            std::iter::from_fn(|| Some(read_up_to(file, 7)).filter(|piece| !piece.is_empty())).flatten().collect();
        String::from_utf8_lossy(&pieces).lines().count() == text("/proc/self/status").lines().count()
    }),
    case!(
        "proc_can_not_be_written",
        answers!(
            ok(open(c"/proc/new", libc::O_CREAT)),
            ok(sys!(mkdir(c"/proc/new".as_ptr(), 0o755))),
            ok(sys!(unlink(c"/proc/version".as_ptr())))
        )
    ),
    case!("threads_are_listed", {
        let thread = std::thread::spawn(|| sleep_ms(100));
        let (count, told) = (fs::read_dir(own("task")).map_or(0, |entries| entries.count()), status("Threads"));
        let _ = thread.join();
        answers!(count, told)
    }),
    case!(
        "another_ones_environment_is_private",
        as_user(|| {
            let parent = sys!(getppid());
            text(&format!("/proc/{parent}/environ"))
        })
    ),
    case!("files_of_a_process_that_holds_secrets", {
        // Whoever takes other ids holds what its user is not to see, until it executes a program.
        as_user(|| {
            sys!(dup2(support::open(c"/dev/null", libc::O_RDONLY), 0));
            let before = files_with_owners();
            sys!(prctl(libc::PR_SET_DUMPABLE, 1));
            let open = files_with_owners();
            sys!(prctl(libc::PR_SET_DUMPABLE, 0));
            answers!(before, open, files_with_owners() == before)
        })
    }),
    case!("files_of_a_child_that_holds_secrets", {
        as_user(|| {
            sys!(dup2(support::open(c"/dev/null", libc::O_RDONLY), 0));
            let ask = |dumpable: i32| {
                let (read_end, write_end) = pipe();
                let child = fork(|| {
                    sys!(prctl(libc::PR_SET_DUMPABLE, dumpable));
                    write_all(write_end, b"!");
                    sys!(pause());
                    0
                });
                read_up_to(read_end, 1);
                let answer = ["auxv", "environ", "maps", "stat", "cmdline", "exe", "fd", "fd/0", "fdinfo/0", "task"]
                    .map(|name| {
                        let path = CString::new(format!("/proc/{child}/{name}")).unwrap_or_default();
                        format!("{name} {}", ok(support::open(&path, libc::O_RDONLY)))
                    })
                    .join(" ");
                sys!(kill(child, libc::SIGKILL));
                ending(child);
                answer
            };
            answers!(ask(0), ask(1))
        })
    }),
    case!("files_of_a_process_that_is_gone", {
        let child = fork(|| sys!(pause()));
        let path = |name: &str| CString::new(format!("/proc/{child}/{name}")).unwrap_or_default();
        let names = ["stat", "status", "cmdline", "maps", "limits", "comm", "statm"];
        let (folder, descriptors) =
            (support::open(&path(""), libc::O_RDONLY), support::open(&path("fd"), libc::O_RDONLY));
        let files = names.map(|name| support::open(&path(name), libc::O_RDONLY));
        let entered = ok(sys!(fchdir(folder)));
        sys!(kill(child, libc::SIGKILL));
        let ended = ending(child);
        let mut entries = [0_u8; 4096];
        let mut list = |file: i32| value(sys!(syscall(libc::SYS_getdents64, file, entries.as_mut_ptr(), 4096)));
        answers!(
            entered,
            ended,
            files.map(|file| read(file, 10)).join(" "),
            ok(sys!(openat(folder, c"stat".as_ptr(), libc::O_RDONLY))),
            ok(sys!(openat(folder, c"task".as_ptr(), libc::O_RDONLY))),
            ok(sys!(openat(descriptors, c"0".as_ptr(), libc::O_RDONLY))),
            list(folder),
            list(descriptors),
            ok(support::open(c"cmdline", libc::O_RDONLY)),
            ok(support::open(&path("stat"), libc::O_RDONLY))
        )
    }),
    case!("paths_through_magic_links", {
        make_file(c"file", b"content", 0o644);
        make_file(c"gone", b"gone", 0o644);
        sys!(mkdir(c"folder".as_ptr(), 0o755));
        sys!(symlink(c"/proc/self/fd/3".as_ptr(), c"link".as_ptr()));
        sys!(symlink(c"/proc/self/cwd/folder/".as_ptr(), c"through".as_ptr()));
        let (gone, folder) = (open_as(c"gone", 3), open_as(c"folder", 4));
        sys!(unlink(c"gone".as_ptr()));
        let opened = |path: &std::ffi::CStr, flags: i32| {
            let file = support::open(path, flags);
            let told = ok(file);
            close(file);
            told
        };
        answers!(
            gone,
            folder,
            content(c"link"),
            opened(c"link", libc::O_RDWR | libc::O_CREAT),
            opened(c"link", libc::O_RDWR | libc::O_CREAT | libc::O_EXCL),
            opened(c"link", libc::O_RDONLY | libc::O_NOFOLLOW),
            opened(c"/proc/self/fd/3", libc::O_RDONLY | libc::O_NOFOLLOW),
            opened(c"/proc/self/fd/3/", libc::O_RDONLY),
            opened(c"/proc/self/fd/3/x", libc::O_RDONLY),
            opened(c"/proc/self/fd/4/new", libc::O_CREAT),
            opened(c"/proc/self/fd/4/", libc::O_RDONLY),
            opened(c"/proc/self/fd/4/../file", libc::O_RDONLY),
            opened(c"/proc/self/fd/4/.", libc::O_CREAT),
            opened(c"through/new", libc::O_RDONLY | libc::O_CREAT),
            opened(c"/proc/self/cwd/file", libc::O_RDONLY),
            opened(c"/proc/self/root/..", libc::O_RDONLY),
            opened(c"/proc/self/fd/99", libc::O_CREAT),
            opened(c"/proc/self/fd/03", libc::O_RDONLY),
            opened(c"/proc/self/nothing/../stat", libc::O_RDONLY),
            opened(c"/proc/self/stat/..", libc::O_RDONLY),
            opened(c"/proc/./self/../self/stat", libc::O_RDONLY),
            opened(c"/proc/self", libc::O_RDONLY | libc::O_NOFOLLOW),
            opened(c"/proc/self/", libc::O_RDONLY | libc::O_NOFOLLOW),
            opened(c"/proc/self/cwd/folder", libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW),
            ok(sys!(mkdir(c"/proc/self/fd/4/inner".as_ptr(), 0o755))),
            ok(sys!(rename(c"/proc/self/fd/4/inner".as_ptr(), c"outer".as_ptr()))),
            ok(sys!(rename(c"/proc/self/fd/3".as_ptr(), c"outer".as_ptr()))),
            ok(sys!(unlink(c"/proc/self/fd/3".as_ptr()))),
            ok(sys!(truncate(c"/proc/self/fd/3".as_ptr(), 1))),
            ok(sys!(chmod(c"/proc/self/fd/4".as_ptr(), 0o700))),
            ok(sys!(chmod(c"/proc/self/stat".as_ptr(), 0o700))),
            ok(sys!(access(c"/proc/self/fd/3".as_ptr(), libc::R_OK))),
            content(c"/proc/self/fd/3")
        )
    }),
    case!("files_of_a_zombie_are_roots", {
        as_user(|| {
            sys!(prctl(libc::PR_SET_DUMPABLE, 1));
            let child = fork(|| 0);
            // It is one when its end can be seen, which this doesn't take away.
            // SAFETY: the kernel fills in one structure, for which zeros are valid.
            let mut end: libc::siginfo_t = unsafe { std::mem::zeroed() };
            sys!(waitid(libc::P_PID, child as u32, &mut end, libc::WEXITED | libc::WNOWAIT));
            let owner = |name: &str| {
                let path = CString::new(format!("/proc/{child}/{name}")).unwrap_or_default();
                status_of(&path).map_or(last_errno(), |status| format!("{}:{}", status.st_uid, status.st_gid))
            };
            ["", "stat", "environ", "fd", "fdinfo", "task"].map(owner).join(" ")
        })
    }),
    case!("files_of_a_thread_that_is_gone", {
        let (told, tell) = pipe();
        let (wait, go_on) = pipe();
        let thread = std::thread::spawn(move || {
            write_all(tell, &(sys!(gettid())).to_le_bytes());
            read_up_to(wait, 1);
        });
        let number = read_up_to(told, 4).try_into().map_or(0, i32::from_le_bytes);
        let path = |name: &str| CString::new(own(&format!("task/{number}{name}"))).unwrap_or_default();
        let (folder, file) = (support::open(&path(""), libc::O_RDONLY), support::open(&path("/stat"), libc::O_RDONLY));
        close(go_on);
        let _ = thread.join();
        // It is joined a moment before it is gone.
        while status_of(&path("")).is_some() {
            std::thread::yield_now();
        }
        answers!(ok(folder), read(file, 10), ok(sys!(openat(folder, c"stat".as_ptr(), libc::O_RDONLY))))
    }),
    case!("maps_of_another_one", {
        as_user(|| {
            let parent = sys!(getppid());
            let path = CString::new(format!("/proc/{parent}/maps")).unwrap_or_default();
            ok(support::open(&path, libc::O_RDONLY))
        })
    }),
    case!("cmdline_of_the_kernel", Path::new("/proc/cmdline").exists() && text("/proc/cmdline").ends_with('\n')),
];
