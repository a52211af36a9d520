//! Limits of resources once more: each way to come up against them.

use conformance::support::*;
use conformance::{answers, case, sys};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicI32, Ordering::SeqCst};

const MIB: usize = 1 << 20;
const ANONYMOUS: i32 = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
const READ_WRITE: i32 = libc::PROT_READ | libc::PROT_WRITE;

static COUNT: AtomicI32 = AtomicI32::new(0);

extern "C" fn count(_: i32) {
    COUNT.fetch_add(1, SeqCst);
}

fn count_signal(signal: i32) {
    sys!(signal(signal, count as *const () as usize));
}

fn set(what: u32, soft: u64, hard: u64) -> String {
    ok(sys!(setrlimit(what, &libc::rlimit { rlim_cur: soft, rlim_max: hard })))
}

/// Sets both to what is in use now and so much more.
fn allow_more_memory(what: u32, field: usize, bytes: usize) {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: usize = text.split_whitespace().nth(field).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    set(what, (pages * 4096 + bytes) as u64, libc::RLIM_INFINITY);
}

fn allow_more_address_space(bytes: usize) {
    allow_more_memory(libc::RLIMIT_AS, 0, bytes);
}

fn allow_more_data(bytes: usize) {
    allow_more_memory(libc::RLIMIT_DATA, 5, bytes);
}

fn map_with(size: usize, protection: i32, flags: i32) -> String {
    ok(sys!(mmap(null_mut(), size, protection, flags, -1, 0)) as i64)
}

/// Moves the program's break by so much: whether it moved.
fn move_break(by: usize) -> bool {
    let old = sys!(syscall(libc::SYS_brk, 0));
    let wanted = old + by as i64;
    sys!(syscall(libc::SYS_brk, wanted)) == wanted
}

fn spin() -> ! {
    loop {
        std::hint::spin_loop();
    }
}

#[inline(never)]
fn use_stack(depth: usize) -> usize {
    let room = std::hint::black_box([depth as u8; 16 * 1024]);
    if depth == 0 { usize::from(room[0]) } else { use_stack(depth - 1) + usize::from(std::hint::black_box(room)[7]) }
}

pub const CASES: &[Case] = &[
    case!("address_space_and_the_break", {
        let before = move_break(4096);
        allow_more_address_space(MIB);
        answers!(before, move_break(8 * MIB), move_break(MIB / 2))
    }),
    case!("address_space_and_mremap", {
        let memory = sys!(mmap(null_mut(), MIB, READ_WRITE, ANONYMOUS, -1, 0));
        allow_more_address_space(MIB);
        answers!(
            ok(sys!(mremap(memory, MIB, 8 * MIB, libc::MREMAP_MAYMOVE)) as i64),
            ok(sys!(mremap(memory, MIB, MIB + MIB / 2, libc::MREMAP_MAYMOVE)) as i64)
        )
    }),
    case!("address_space_counts_what_is_not_accessible", {
        allow_more_address_space(MIB);
        answers!(
            map_with(2 * MIB, libc::PROT_NONE, ANONYMOUS),
            map_with(2 * MIB, libc::PROT_READ, ANONYMOUS | libc::MAP_NORESERVE)
        )
    }),
    case!("address_space_and_threads", {
        allow_more_address_space(MIB);
        std::thread::Builder::new().stack_size(8 * MIB).spawn(|| ()).is_err()
    }),
    case!("data_counts_private_and_writable_memory", {
        allow_more_data(MIB);
        answers!(
            map_with(2 * MIB, READ_WRITE, ANONYMOUS),
            map_with(2 * MIB, libc::PROT_READ, ANONYMOUS),
            map_with(2 * MIB, READ_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS),
            map_with(MIB / 2, READ_WRITE, ANONYMOUS)
        )
    }),
    case!("data_and_the_break", {
        allow_more_data(MIB);
        answers!(move_break(8 * MIB), move_break(MIB / 2))
    }),
    case!("data_and_mprotect", {
        let memory = sys!(mmap(null_mut(), 4 * MIB, libc::PROT_READ, ANONYMOUS, -1, 0));
        allow_more_data(MIB);
        answers!(ok(sys!(mprotect(memory, 4 * MIB, READ_WRITE))), ok(sys!(mprotect(memory, MIB / 2, READ_WRITE))))
    }),
    case!("the_stack_of_the_running_image", {
        let deep = || {
            in_child(|| {
                std::hint::black_box(use_stack(64));
                0
            })
        };
        let before = deep();
        set(libc::RLIMIT_STACK, MIB as u64 / 2, MIB as u64);
        answers!(before, deep())
    }),
    case!(
        "cpu_time_comes_each_second",
        in_child(|| {
            count_signal(libc::SIGXCPU);
            set(libc::RLIMIT_CPU, 1, 4);
            while COUNT.load(SeqCst) < 2 {
                std::hint::spin_loop();
            }
            3
        })
    ),
    case!(
        "cpu_time_counts_all_threads",
        in_child(|| {
            sys!(signal(libc::SIGXCPU, libc::SIG_DFL));
            set(libc::RLIMIT_CPU, 1, 3);
            std::thread::spawn(|| spin());
            spin()
        })
    ),
    case!("cpu_time_of_a_child_is_its_own", {
        set(libc::RLIMIT_CPU, 2, 3);
        let work = || {
            in_child(|| {
                let begin = std::time::Instant::now();
                while begin.elapsed().as_millis() < 800 {}
                0
            })
        };
        answers!(work(), work(), work(), work())
    }),
    case!("file_size_and_each_way_to_grow", {
        count_signal(libc::SIGXFSZ);
        set(libc::RLIMIT_FSIZE, 100, 100);
        let file = open(c"f", libc::O_RDWR | libc::O_CREAT);
        let zero = open(c"/dev/zero", libc::O_RDONLY);
        answers!(
            ok(sys!(ftruncate(file, 101))),
            ok(sys!(truncate(c"f".as_ptr(), 200))),
            ok(sys!(fallocate(file, 0, 0, 101))),
            value(sys!(pwrite(file, c"x".as_ptr().cast(), 1, 100))),
            value(sys!(pwrite(file, c"xyz".as_ptr().cast(), 3, 98))),
            value(sys!(lseek(file, 100, libc::SEEK_SET))),
            value(sys!(sendfile(file, zero, null_mut(), 10))),
            COUNT.load(SeqCst)
        )
    }),
    case!("file_size_is_nothing_to_pipes_and_devices", {
        set(libc::RLIMIT_FSIZE, 1, 1);
        let (_read_end, write_end) = pipe();
        answers!(write(write_end, b"several"), write(open(c"/dev/null", libc::O_WRONLY), b"several"))
    }),
    case!(
        "processes_count_threads",
        as_user(|| {
            set(libc::RLIMIT_NPROC, 2, 2);
            let begin = || std::thread::Builder::new().stack_size(64 * 1024).spawn(|| sleep_ms(200));
            let threads: Vec<_> = (0..6).map(|_| begin()).collect();
            answers!(
                threads.iter().filter(|thread| thread.is_ok()).count() <= 2,
                threads.iter().any(|thread| thread.is_err())
            )
        })
    ),
    case!("execve_after_changing_to_a_user_with_too_many_processes", {
        let busy = fork(|| {
            sys!(setresuid(1234, 1234, 1234));
            loop {
                sleep_ms(1000);
            }
        });
        sleep_ms(50);
        let answer = asked_in_child(|| {
            set(libc::RLIMIT_NPROC, 1, 1);
            let changed = ok(sys!(setresuid(1234, 1234, 1234)));
            answers!(changed, execve(c"/nothing", &[], &[]))
        });
        sys!(kill(busy, libc::SIGKILL));
        answer
    }),
    case!(
        "open_files_up_to_the_limit_of_the_system",
        answers!(
            set(libc::RLIMIT_NOFILE, 1024, 1 << 31),
            set(libc::RLIMIT_NOFILE, libc::RLIM_INFINITY, libc::RLIM_INFINITY),
            set(libc::RLIMIT_NOFILE, 1024, 4096)
        )
    ),
    case!("poll_of_more_than_may_be_open", {
        set(libc::RLIMIT_NOFILE, 4, 4);
        let mut entries = [libc::pollfd { fd: -1, events: 0, revents: 0 }; 5];
        answers!(value(sys!(poll(entries.as_mut_ptr(), 5, 0))), value(sys!(poll(entries.as_mut_ptr(), 4, 0))))
    }),
];
