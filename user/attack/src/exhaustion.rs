//! Everything is used up, one thing at a time: memory, processes, descriptors, files, pipes. The kernel answers with an
//! errno, the rest goes on, and afterwards all of it is there again.

use conformance::elf::Elf;
use conformance::support::*;
use conformance::{answers, case, sys};
use std::ffi::CString;
use std::ptr::null_mut;

const MIB: usize = 1 << 20;

fn limit(what: u32, value: u64) {
    sys!(setrlimit(what, &libc::rlimit { rlim_cur: value, rlim_max: value }));
}

fn map(size: usize) -> *mut u8 {
    sys!(mmap(null_mut(), size, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0))
        .cast()
}

fn path(prefix: &str, number: usize) -> CString {
    CString::new(format!("{prefix}{number}")).unwrap_or_default()
}

/// Maps and touches memory until there is no more; true if that ended with ENOMEM.
fn use_up_memory() -> bool {
    loop {
        let memory = map(MIB);
        if memory as isize == -1 {
            return last_errno() == "ENOMEM";
        }
        for page in 0..MIB / 4096 {
            // SAFETY: the mapping is new and writable.
            unsafe { memory.wrapping_add(page * 4096).write_volatile(1) };
        }
    }
}

fn make_program() {
    make_file(c"program", &Elf::right().bytes(), 0o755);
}

pub const CASES: &[Case] = &[
    case!(
        "memory_and_again",
        (0..3)
            .map(|_| asked_in_child(|| {
                limit(libc::RLIMIT_AS, 64 * MIB as u64);
                yes(use_up_memory()).into()
            }))
            .collect::<Vec<_>>()
            .join(" ")
    ),
    case!(
        "fork_with_no_memory_left",
        asked_in_child(|| {
            limit(libc::RLIMIT_AS, 64 * MIB as u64);
            answers!(use_up_memory(), in_child(|| 3))
        })
    ),
    case!(
        "exec_with_no_memory_left",
        asked_in_child(|| {
            make_program();
            limit(libc::RLIMIT_AS, 64 * MIB as u64);
            answers!(
                use_up_memory(),
                in_child(|| {
                    execve(c"./program", &[c"x"], &[]);
                    1
                })
            )
        })
    ),
    case!(
        "many_small_mappings",
        asked_in_child(|| {
            let mut count = 0;
            // Every other page has another protection, so that none can be merged with its neighbour.
            while count < 20_000
                && sys!(mmap(
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
            answers!(count, in_child(|| 3))
        })
    ),
    case!(
        "address_space_in_pieces",
        asked_in_child(|| {
            let memory = map(64 * MIB);
            let holes =
                (0..8192).filter(|hole| sys!(munmap(memory.wrapping_add(hole * 8192).cast(), 4096)) == 0).count();
            answers!(holes, in_child(|| 3), ok(sys!(munmap(memory.cast(), 64 * MIB))))
        })
    ),
    case!(
        "processes",
        as_user(|| {
            limit(libc::RLIMIT_NPROC, 20);
            let mut children = Vec::new();
            let answer = loop {
                let child = fork(|| {
                    loop {
                        sleep_ms(1000)
                    }
                });
                if child < 0 {
                    break last_errno();
                }
                children.push(child);
                if children.len() > 100 {
                    break "no limit".into();
                }
            };
            let killed = children
                .iter()
                .filter(|&&child| {
                    sys!(kill(child, libc::SIGKILL));
                    ending(child) == "killed by SIGKILL"
                })
                .count();
            answers!(answer, killed == children.len(), killed <= 20, in_child(|| 3))
        })
    ),
    case!(
        "a_thousand_children_one_after_the_other",
        (0..1000).filter(|index| in_child(|| index & 0x7f) == format!("exit {}", index & 0x7f)).count()
    ),
    case!("two_hundred_zombies", {
        let made = (0..200).filter(|_| fork(|| 0) > 0).count();
        answers!(made, (0..300).filter(|_| sys!(wait(null_mut())) > 0).count())
    }),
    case!("a_line_of_descendants", {
        fn descend(depth: i32) -> i32 {
            if depth == 0 { 0 } else { i32::from(in_child(|| descend(depth - 1)) != "exit 0") }
        }
        descend(50)
    }),
    case!(
        "threads",
        asked_in_child(|| {
            limit(libc::RLIMIT_AS, 256 * MIB as u64);
            let threads = start_threads();
            let ended = threads.iter().filter(|&&thread| sys!(pthread_join(thread, null_mut())) == 0).count();
            answers!(threads.len() > 50, ended == threads.len())
        })
    ),
    case!("descriptors", {
        limit(libc::RLIMIT_NOFILE, 256);
        let opened: Vec<i32> = (0..1000).map(|_| open(c"/dev/null", 0)).take_while(|file| *file >= 0).collect();
        let answer = last_errno();
        opened.iter().for_each(|&file| {
            close(file);
        });
        answers!(opened.len() > 200, answer, open(c"/dev/null", 0))
    }),
    case!("pipes", {
        limit(libc::RLIMIT_NOFILE, 256);
        let mut ends = [0; 2];
        let made = (0..1000)
            .take_while(|_| {
                sys!(pipe(ends.as_mut_ptr())) == 0 && {
                    write_all(ends[1], &[1; 4096]);
                    true
                }
            })
            .count();
        let answer = last_errno();
        answers!(made > 100, answer)
    }),
    case!("descriptors_in_flight_through_forks", {
        limit(libc::RLIMIT_NOFILE, 256);
        while open(c"/dev/null", 0) >= 0 {}
        answers!((0..50).filter(|_| in_child(|| 0) == "exit 0").count())
    }),
    case!("files_in_one_folder", {
        let made = (0..3000)
            .take_while(|&number| {
                let file = open(&path("f", number), libc::O_CREAT | libc::O_WRONLY);
                write_all(file, b"x");
                close(file) == 0
            })
            .count();
        let removed = (0..3000).filter(|&number| sys!(unlink(path("f", number).as_ptr())) == 0).count();
        answers!(made, removed, ok(sys!(rmdir(c".".as_ptr()))))
    }),
    case!("names_that_come_and_go_in_a_folder_that_was_larger_once", {
        (0..20).for_each(|number| make_file(&path("f", number), b"", 0o644));
        let removed = (1..20).filter(|&number| sys!(unlink(path("f", number).as_ptr())) == 0).count();
        let came_and_went = |&number: &usize| {
            close(open(&path("g", number), libc::O_CREAT | libc::O_WRONLY)) == 0
                && status_of(c"absent").is_none()
                && sys!(unlink(path("g", number).as_ptr())) == 0
        };
        answers!(removed, (0..1000).filter(came_and_went).count())
    }),
    case!("folders_in_folders", {
        let deep =
            (0..500).take_while(|_| sys!(mkdir(c"d".as_ptr(), 0o755)) == 0 && sys!(chdir(c"d".as_ptr())) == 0).count();
        let up = (0..500).take_while(|_| sys!(chdir(c"..".as_ptr())) == 0 && sys!(rmdir(c"d".as_ptr())) == 0).count();
        answers!(deep, up)
    }),
    case!(
        "a_large_file_and_again",
        (0..3)
            .map(|_| {
                let file = open(c"large", libc::O_RDWR | libc::O_CREAT | libc::O_TRUNC);
                let chunk = vec![7_u8; MIB];
                (0..4).for_each(|_| write_all(file, &chunk));
                close(file);
                let size = status_of(c"large").map_or(0, |status| status.st_size);
                sys!(unlink(c"large".as_ptr()));
                size.to_string()
            })
            .collect::<Vec<_>>()
            .join(" ")
    ),
    case!("a_sparse_file_of_the_greatest_size", {
        let file = open(c"sparse", libc::O_RDWR | libc::O_CREAT);
        answers!(
            ok(sys!(ftruncate(file, i64::MAX))),
            status_of(c"sparse").map_or(0, |status| status.st_size),
            ok(sys!(unlink(c"sparse".as_ptr())))
        )
    }),
    case!("unlinked_files_that_stay_open", {
        limit(libc::RLIMIT_NOFILE, 200);
        (0..150)
            .filter(|&number| {
                let file = open(&path("u", number), libc::O_CREAT | libc::O_RDWR);
                write_all(file, &[1; 8192]);
                sys!(unlink(path("u", number).as_ptr())) == 0
            })
            .count()
    }),
    case!(
        "signals_that_wait",
        as_user(|| {
            limit(libc::RLIMIT_SIGPENDING, 100);
            // SAFETY: a signal set is plain integers.
            unsafe {
                let mut set: libc::sigset_t = std::mem::zeroed();
                libc::sigaddset(&mut set, 40);
                libc::sigprocmask(libc::SIG_BLOCK, &set, null_mut());
            }
            let queued = (0..1000)
                .take_while(|_| sys!(sigqueue(sys!(getpid()), 40, libc::sigval { sival_ptr: null_mut() })) == 0)
                .count();
            answers!(queued <= 100, last_errno())
        })
    ),
    case!("record_locks", {
        let file = open(c"l", libc::O_RDWR | libc::O_CREAT);
        let made = (0..2000)
            .filter(|&number| {
                let lock =
                    libc::flock { l_type: libc::F_WRLCK as i16, l_whence: 0, l_start: number * 2, l_len: 1, l_pid: 0 };
                sys!(fcntl(file, libc::F_SETLK, &lock)) == 0
            })
            .count();
        answers!(made, close(file))
    }),
    case!("arguments_of_the_greatest_size_and_again", {
        make_program();
        let argument = CString::new(vec![b'x'; 100_000]).unwrap_or_default();
        (0..20).filter(|_| exec_answer(c"./program", &[argument.as_c_str(); 15]) == "exit 42").count()
    }),
    case!("exec_after_exec", {
        make_program();
        (0..300).filter(|_| exec_answer(c"./program", &[c"x"]) == "exit 42").count()
    }),
    case!("exec_that_fails_and_again", {
        make_file(c"bad", &Elf::with(|elf| elf.header_count = 100).bytes(), 0o755);
        (0..300).filter(|_| execve(c"./bad", &[c"x"], &[]) == "ENOEXEC").count()
    }),
    case!(
        "the_stack_is_used_up",
        (0..20)
            .filter(|_| in_child(|| {
                limit(libc::RLIMIT_STACK, MIB as u64);
                deepen(1) as i32
            }) == "killed by SIGSEGV")
            .count()
    ),
    case!(
        "the_heap_is_used_up",
        asked_in_child(|| {
            limit(libc::RLIMIT_DATA, 32 * MIB as u64);
            let start = sys!(syscall(libc::SYS_brk, 0)) as usize;
            let refused = sys!(syscall(libc::SYS_brk, start + 64 * MIB)) as usize == start;
            let grown = sys!(syscall(libc::SYS_brk, start + MIB)) as usize == start + MIB;
            answers!(refused, grown)
        })
    ),
];

/// Threads with a stack of 1 MiB each, until there is no more room for one. Rust's own would abort when it can't
/// allocate.
fn start_threads() -> Vec<libc::pthread_t> {
    extern "C" fn nap(_: *mut libc::c_void) -> *mut libc::c_void {
        sleep_ms(50);
        null_mut()
    }
    let mut threads = Vec::with_capacity(1000);
    // SAFETY: pthreads' own use; the attributes are plain data that pthread_attr_init fills.
    unsafe {
        let mut attributes: libc::pthread_attr_t = std::mem::zeroed();
        libc::pthread_attr_init(&mut attributes);
        libc::pthread_attr_setstacksize(&mut attributes, MIB);
        let mut thread = 0;
        while threads.len() < 1000 && libc::pthread_create(&mut thread, &attributes, nap, null_mut()) == 0 {
            threads.push(thread);
        }
    }
    threads
}

#[inline(never)]
fn deepen(depth: u64) -> u64 {
    let mut room = [depth as u8; 4096];
    std::hint::black_box(&mut room);
    if depth == u64::MAX { 0 } else { deepen(depth + 1) + u64::from(room[depth as usize % 4096]) }
}
