//! What a program can do at its worst, with no limit set. The guilty gets an errno or is killed; an innocent process beside
//! it goes on with its work, and afterwards the memory is there again.

use crate::account::Held;
use conformance::support::*;
use conformance::{answers, case, sys};
use std::ffi::{CStr, CString};
use std::ptr::null_mut;
use std::time::{Duration, Instant};

const MIB: usize = 1 << 20;
/// What the kernel keeps for the next time may grow by this much: 16 kernel stacks of 24 KiB, and the tables of processes,
/// of places for stacks and of mounts, which have room for as many as there were at once.
const SLACK: Held = Held { memory: 576 * 1024, heap: 128 * 1024, open_files: 0 };

/// Sets off a bomb beside an innocent process. Tells what the bomb says of itself, or how it ended, and what else went
/// wrong.
fn set_off(bomb: impl FnOnce() -> String) -> String {
    let before = Held::now();
    let (quit, told_to_quit) = pipe();
    let innocent = fork(|| {
        close(told_to_quit);
        be_innocent(quit)
    });
    close(quit);
    let answer = answer_of_child(bomb);
    write_all(told_to_quit, b"x");
    close(told_to_quit);
    let innocent = ending(innocent);
    bury_all();
    let lost = Held::now().since(before);
    match (innocent.as_str(), !lost.is_more_than(SLACK)) {
        ("exit 0", true) => answer,
        ("exit 0", false) => format!("{answer}, but more is held: {lost}"),
        _ => format!("{answer}, but the innocent: {innocent}"),
    }
}

/// The child is a group of its own, all of which ends with it.
fn answer_of_child(ask: impl FnOnce() -> String) -> String {
    sys!(prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0));
    let (read_end, write_end) = pipe();
    let child = fork(|| {
        sys!(setpgid(0, 0));
        close(read_end);
        write_all(write_end, ask().as_bytes());
        0
    });
    sys!(setpgid(child, child));
    close(write_end);
    let ended = ending(child);
    sys!(kill(-child, libc::SIGKILL));
    // Only now: if it was killed before it could answer, its children have held the other end open.
    let text = String::from_utf8_lossy(&read_up_to(read_end, 1000)).into_owned();
    close(read_end);
    if ended == "exit 0" { text } else { ended }
}

fn bury_all() -> usize {
    (0..).take_while(|_| sys!(wait(null_mut())) > 0).count()
}

/// Takes a little memory, uses it and gives it back, over and over, until told to quit.
fn be_innocent(quit: i32) -> i32 {
    let mut sum = 0_u64;
    while !poll_input(quit, 1) {
        let mut memory = vec![1_u8; 64 * 1024];
        std::hint::black_box(&mut memory);
        sum += memory.iter().map(|&byte| u64::from(byte)).sum::<u64>();
    }
    i32::from(!sum.is_multiple_of(64 * 1024))
}

fn map(size: usize, flags: i32) -> *mut u8 {
    sys!(mmap(null_mut(), size, libc::PROT_READ | libc::PROT_WRITE, flags | libc::MAP_ANONYMOUS, -1, 0)).cast()
}

/// Takes memory and writes to it until there is no more, or until killed.
fn take_all_memory(flags: i32) -> String {
    loop {
        let memory = map(MIB, flags);
        if memory as isize == -1 {
            return last_errno();
        }
        for page in 0..MIB / 4096 {
            // SAFETY: the mapping is new and writable.
            unsafe { memory.wrapping_add(page * 4096).write_volatile(1) };
        }
    }
}

/// Writes to a file until that fails.
fn fill(file: i32) -> String {
    let chunk = vec![1_u8; MIB];
    loop {
        // SAFETY: the bytes live through the call.
        if unsafe { libc::write(file, chunk.as_ptr().cast(), MIB) } < 0 {
            return last_errno();
        }
    }
}

fn fill_and_remove(name: &CStr) -> String {
    let answer = fill(open(name, libc::O_WRONLY | libc::O_CREAT));
    sys!(unlink(name.as_ptr()));
    answer
}

fn raise_limit(what: u32, value: u64) {
    sys!(setrlimit(what, &libc::rlimit { rlim_cur: value, rlim_max: value }));
}

/// Forks children that do something and then wait to be killed, until there can be no more; tells why not.
fn fork_until_refused(most: usize, action: fn()) -> String {
    for _ in 0..most {
        let child = fork(|| {
            action();
            loop {
                sys!(pause());
            }
        });
        if child < 0 {
            return last_errno();
        }
    }
    "no limit".into()
}

fn is_one_of(answer: String, allowed: &[&str]) -> String {
    if allowed.contains(&answer.as_str()) { "as it should".into() } else { answer }
}

/// Pipes full of bytes, as many as there can be.
fn fill_pipes() {
    let bytes = [1_u8; 65536];
    loop {
        let mut ends = [0; 2];
        if sys!(pipe2(ends.as_mut_ptr(), libc::O_NONBLOCK)) < 0 {
            return;
        }
        // SAFETY: the bytes live through the call.
        unsafe { libc::write(ends[1], bytes.as_ptr().cast(), bytes.len()) };
    }
}

fn open_all_descriptors() {
    raise_limit(libc::RLIMIT_NOFILE, 4096);
    while open(c"/dev/null", libc::O_RDONLY) >= 0 {}
}

/// Every process forks as long as it can.
fn fork_for_ever() -> ! {
    loop {
        if sys!(fork()) < 0 {
            sys!(sched_yield());
        }
    }
}

/// `attack bomb processes`.
pub fn processes_for_ever() -> ! {
    fork_for_ever()
}

/// `attack bomb memory`: whenever the one that takes it ends, however that is, there is a new one.
pub fn memory_for_ever() -> ! {
    loop {
        fork(|| {
            take_all_memory(libc::MAP_PRIVATE);
            0
        });
        if bury_all() == 0 {
            sys!(sched_yield());
        }
    }
}

pub const CASES: &[Case] = &[
    case!("memory", set_off(|| take_all_memory(libc::MAP_PRIVATE))),
    case!("memory_that_children_share", set_off(|| take_all_memory(libc::MAP_SHARED))),
    case!(
        "memory_taken_by_many",
        set_off(|| {
            let children: Vec<i32> =
                (0..8).map(|_| fork(|| i32::from(take_all_memory(libc::MAP_PRIVATE) != "ENOMEM"))).collect();
            let ended = children.iter().filter(|&&child| ending(child) == "killed by SIGKILL").count();
            format!("{ended} killed")
        })
    ),
    case!(
        "page_tables",
        set_off(|| {
            // Pages that are read only cost nothing; the tables that lead to them do.
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
            let memory: *mut u8 = sys!(mmap(null_mut(), 1 << 40, libc::PROT_READ, flags, -1, 0)).cast();
            for table in 0..1 << 19 {
                // SAFETY: within the mapping, which can be read.
                unsafe { memory.wrapping_add(table << 21).read_volatile() };
            }
            "no end".into()
        })
    ),
    case!(
        "memory_through_a_system_call",
        set_off(|| {
            let zero = open(c"/dev/zero", libc::O_RDONLY);
            loop {
                let memory = map(32 * MIB, libc::MAP_PRIVATE | libc::MAP_NORESERVE);
                if memory as isize == -1 {
                    break last_errno();
                }
                // SAFETY: the mapping is new and writable.
                if unsafe { libc::read(zero, memory.cast(), 32 * MIB) } < 0 {
                    break last_errno();
                }
            }
        })
    ),
    case!("files", set_off(|| fill_and_remove(c"file"))),
    case!(
        "files_without_names",
        set_off(|| {
            let answer = fill(sys!(memfd_create(c"m".as_ptr(), 0)));
            answers!(answer, fill_and_remove(c"file"), in_child(|| 3))
        })
    ),
    case!("processes", set_off(|| is_one_of(fork_until_refused(40_000, || ()), &["EAGAIN", "ENOMEM"]))),
    case!(
        "processes_that_fork_for_ever",
        set_off(|| {
            let first = fork(|| fork_for_ever());
            let start = Instant::now();
            while start.elapsed() < Duration::from_secs(1) {
                sleep_ms(50);
            }
            yes(first > 0).into()
        })
    ),
    case!(
        "zombies",
        set_off(|| {
            let mut made = 0_usize;
            let answer = loop {
                match fork(|| 0) {
                    -1 => break last_errno(),
                    _ => made += 1,
                }
            };
            answers!(is_one_of(answer, &["EAGAIN", "ENOMEM"]), made == bury_all())
        })
    ),
    case!("pipes", set_off(|| is_one_of(fork_until_refused(10, fill_pipes), &["no limit", "ENOMEM", "EAGAIN"]))),
    case!(
        "descriptors",
        set_off(|| is_one_of(fork_until_refused(10, open_all_descriptors), &["no limit", "ENOMEM", "EAGAIN"]))
    ),
    case!(
        "mappings",
        set_off(|| {
            let mut count = 0;
            while sys!(mmap(
                null_mut(),
                4096,
                if count % 2 == 0 { libc::PROT_READ } else { libc::PROT_NONE },
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0
            )) != libc::MAP_FAILED
            {
                count += 1;
            }
            answers!(count > 60_000, count < 65_530, last_errno())
        })
    ),
    case!(
        "signals",
        set_off(|| {
            // SAFETY: a signal set is plain integers.
            unsafe {
                let mut set: libc::sigset_t = std::mem::zeroed();
                libc::sigaddset(&mut set, 40);
                libc::sigprocmask(libc::SIG_BLOCK, &set, null_mut());
            }
            while sys!(sigqueue(sys!(getpid()), 40, libc::sigval { sival_ptr: null_mut() })) == 0 {}
            last_errno()
        })
    ),
    case!(
        "removed_folders_held_by_the_innermost",
        set_off(|| {
            let inside = || sys!(mkdir(c"d".as_ptr(), 0o755)) == 0 && sys!(chdir(c"d".as_ptr())) == 0;
            let deep = (0..8000).take_while(|_| inside()).count();
            let innermost = open(c".", libc::O_RDONLY);
            let out = || sys!(chdir(c"..".as_ptr())) == 0 && sys!(rmdir(c"d".as_ptr())) == 0;
            answers!(deep, (0..deep).take_while(|_| out()).count(), close(innermost))
        })
    ),
    case!(
        "files_with_nothing_in_them",
        set_off(|| {
            let name = |number: usize| CString::new(format!("f{number}")).unwrap_or_default();
            let made = (0..).take_while(|&number| close(open(&name(number), libc::O_CREAT)) == 0).count();
            let answer = ok(open(c"one more", libc::O_CREAT));
            answers!(answer, (0..made).filter(|&number| sys!(unlink(name(number).as_ptr())) == 0).count() == made)
        })
    ),
    case!(
        "names_of_one_file",
        set_off(|| {
            let name = |number: usize| CString::new(format!("f{number}")).unwrap_or_default();
            make_file(&name(0), b"", 0o644);
            let linked = |&number: &usize| sys!(link(name(0).as_ptr(), name(number).as_ptr())) == 0;
            let made = (1..).take_while(linked).count();
            let answer = last_errno();
            answers!(answer, (0..=made).filter(|&number| sys!(unlink(name(number).as_ptr())) == 0).count() == made + 1)
        })
    ),
    case!(
        "mounts",
        set_off(|| {
            sys!(mkdir(c"m".as_ptr(), 0o755));
            let (kind, on) = (c"tmpfs".as_ptr(), c"m".as_ptr());
            let made = (0..).take_while(|_| sys!(mount(kind, on, kind, 0, null_mut())) == 0).count();
            let answer = last_errno();
            answers!(answer, made > 1000, (0..made).filter(|_| sys!(umount2(on, 0)) == 0).count() == made)
        })
    ),
    case!("proc_mounted_again", {
        sys!(mkdir(c"p".as_ptr(), 0o755));
        let count = || std::fs::read_dir("p").map_or(0, |entries| entries.count());
        let mut counts = Vec::new();
        sys!(umount2(c"/proc".as_ptr(), 0));
        for _ in 0..2 {
            sys!(mount(c"proc".as_ptr(), c"p".as_ptr(), c"proc".as_ptr(), 0, null_mut()));
            counts.push(count());
            sys!(umount2(c"p".as_ptr(), 0));
        }
        sys!(mount(c"proc".as_ptr(), c"/proc".as_ptr(), c"proc".as_ptr(), 0, null_mut()));
        answers!(counts[0] > 10, counts[0] == counts[1])
    }),
    case!(
        "links_to_links",
        set_off(|| {
            let name = |number: usize| CString::new(format!("l{number}")).unwrap_or_default();
            make_file(c"l0", b"", 0o644);
            for number in 1..2000 {
                sys!(symlink(name(number - 1).as_ptr(), name(number).as_ptr()));
            }
            let answer = answers!(ok(open(&name(40), 0)), ok(open(&name(41), 0)), ok(open(&name(1999), 0)));
            (0..2000).for_each(|number| {
                sys!(unlink(name(number).as_ptr()));
            });
            answer
        })
    ),
    case!(
        "a_path_without_an_end",
        set_off(|| {
            let path = |count: usize| CString::new("./".repeat(count)).unwrap_or_default();
            answers!(ok(open(&path(2047), 0)), ok(open(&path(2048), 0)), ok(open(&path(500_000), 0)))
        })
    ),
    case!("the_log_names_the_guilty", {
        set_off(|| take_all_memory(libc::MAP_PRIVATE));
        let killed = kernel_log().contains("Out of memory: Killed process");
        // Refusals are told of once a second.
        sleep_ms(1100);
        set_off(|| fork_until_refused(40_000, || ()));
        let full = kernel_log().contains("can't have another process or thread: the machine takes no more");
        sleep_ms(1100);
        let limited = set_off(|| {
            raise_limit(libc::RLIMIT_NPROC, 20);
            // Root isn't bound by this limit.
            sys!(setuid(65534));
            fork_until_refused(100, || ())
        });
        let told = kernel_log().contains("can't have another process or thread: its user's limit is reached");
        answers!(killed, full, limited, told)
    }),
];

fn kernel_log() -> String {
    const READ_ALL: i32 = 3;
    let mut text = vec![0_u8; 256 * 1024];
    let length = sys!(syscall(libc::SYS_syslog, READ_ALL, text.as_mut_ptr(), text.len()));
    text.truncate(usize::try_from(length).unwrap_or(0));
    String::from_utf8_lossy(&text).into_owned()
}
