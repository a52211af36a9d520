//! Calls that could keep the kernel busy for long. The kernel isn't preempted: while it works for one process no other
//! runs. So here one process makes such a call, and another one watches how long it was kept waiting.

use conformance::elf::Elf;
use conformance::support::*;
use conformance::{answers, case, sys};
use std::ffi::CStr;
use std::ptr::{null, null_mut};
use std::time::{Duration, Instant};

/// How long somebody who wants to run may have to wait: twice what a process with a full quantum may use.
const PATIENCE: Duration = Duration::from_millis(200);

const MIB: usize = 1 << 20;
const GIB: usize = 1 << 30;
const READ_WRITE: i32 = libc::PROT_READ | libc::PROT_WRITE;

/// Does something in a child, and tells how that ended and whether others could run meanwhile.
fn watched(evil: impl FnOnce() -> i32) -> String {
    let child = fork(evil);
    let mut longest = Duration::ZERO;
    let mut last = Instant::now();
    let ended = loop {
        let answer = wait_with(child, libc::WNOHANG);
        // One look at the clock: between two the watcher may be kept waiting, too.
        let now = Instant::now();
        longest = longest.max(now - last);
        last = now;
        if answer != "nothing yet" {
            break answer;
        }
    };
    if longest <= PATIENCE {
        return format!("{ended}, and others could run");
    }
    format!("{ended}, but others had to wait for {} ms", longest.as_millis())
}

fn map(size: usize, protection: i32, more_flags: i32) -> *mut libc::c_void {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | more_flags;
    sys!(mmap(null_mut(), size, protection, flags, -1, 0))
}

/// Pages of which every other one has another protection. From the top down, as new ones are cheapest below all others.
fn many_mappings(count: usize) -> *mut libc::c_void {
    let memory = map(count * 4096, libc::PROT_READ, 0);
    for page in (0..count).step_by(2).rev() {
        sys!(mprotect(memory.wrapping_byte_add(page * 4096), 4096, libc::PROT_NONE));
    }
    memory
}

/// A file of this length with nothing in it.
fn sparse_file(path: &CStr, size: usize) -> i32 {
    let file = open(path, libc::O_RDWR | libc::O_CREAT);
    sys!(ftruncate(file, size as i64));
    file
}

fn set_timer(interval_us: i64) {
    let time = libc::timeval { tv_sec: 0, tv_usec: interval_us };
    sys!(setitimer(libc::ITIMER_REAL, &libc::itimerval { it_interval: time, it_value: time }, null_mut()));
}

/// Reads into one buffer a thousand times by one call.
fn read_over_and_over(file: i32) -> i32 {
    let size = 2 * MIB;
    let buffer = map(size, READ_WRITE, 0);
    let pieces = [libc::iovec { iov_base: buffer, iov_len: size }; 1024];
    i32::from(sys!(readv(file, pieces.as_ptr(), 1024)) <= 0)
}

/// Descriptors, all of them for one file. That many only root may have.
fn many_descriptors(file: i32, how: i32) -> Vec<i32> {
    let count = 100_000;
    sys!(setrlimit(libc::RLIMIT_NOFILE, &libc::rlimit { rlim_cur: count + 100, rlim_max: count + 100 }));
    (0..count).map(|_| sys!(fcntl(file, how, 0))).take_while(|descriptor| *descriptor >= 0).collect()
}

/// Does something in a child that has a large family, in which nobody has room for a real-time signal to be queued: so each that
/// is sent may make the kernel count those that are. With `death_signal` the children ask for one.
fn watched_in_large_family(death_signal: bool, evil: impl FnOnce() -> i32) -> String {
    const CHILDREN: usize = 1200;
    sys!(prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0));
    sys!(setrlimit(libc::RLIMIT_SIGPENDING, &libc::rlimit { rlim_cur: 0, rlim_max: 0 }));
    // SAFETY: a set of signals is plain integers, for which zeros are valid.
    let mut blocked: libc::sigset_t = unsafe { std::mem::zeroed() };
    sys!(sigaddset(&mut blocked, libc::SIGRTMIN()));
    sys!(sigprocmask(libc::SIG_BLOCK, &blocked, null_mut()));
    let (stay, may_go) = pipe();
    let (all_ready, ready) = pipe();
    let answer = watched(|| {
        close(may_go);
        let live = || {
            if death_signal {
                sys!(prctl(libc::PR_SET_PDEATHSIG, libc::SIGRTMIN(), 0, 0, 0));
            }
            write_all(ready, b"r");
            read_to_end(stay);
            0
        };
        let made = (0..CHILDREN).filter(|_| fork(live) > 0 && read_up_to(all_ready, 1).len() == 1).count();
        if made < CHILDREN { 2 } else { evil() }
    });
    close(may_go);
    while sys!(wait(null_mut())) > 0 {}
    answer
}

extern "C" fn nothing(_: i32) {}

pub const CASES: &[Case] = &[
    case!(
        "a_futex_requeued_to_itself",
        watched(|| {
            let word: &'static u32 = Box::leak(Box::new(0));
            let address = std::ptr::from_ref(word).expose_provenance();
            let waiter = std::thread::spawn(move || {
                sys!(syscall(libc::SYS_futex, address, libc::FUTEX_WAIT, 0, null::<libc::timespec>()));
            });
            // By now it waits. One waiter could be moved to the end of its own queue without an end.
            sleep_ms(20);
            let moved = sys!(syscall(libc::SYS_futex, address, libc::FUTEX_CMP_REQUEUE, 0, i32::MAX, address, 0));
            sys!(syscall(libc::SYS_futex, address, libc::FUTEX_WAKE, 1));
            let _ = waiter.join();
            moved as i32
        })
    ),
    case!(
        "an_alarm_each_microsecond",
        watched(|| {
            let children: Vec<i32> = (0..20)
                .map(|_| {
                    fork(|| {
                        sys!(signal(libc::SIGALRM, nothing as *const () as libc::sighandler_t));
                        set_timer(1);
                        let start = Instant::now();
                        while start.elapsed() < Duration::from_millis(500) {
                            sys!(pause());
                        }
                        0
                    })
                })
                .collect();
            children.iter().filter(|&&child| ending(child) != "exit 0").count() as i32
        })
    ),
    case!(
        "many_mappings_that_become_one",
        watched(|| {
            let count = 60_000;
            sys!(mprotect(many_mappings(count), count * 4096, libc::PROT_READ))
        })
    ),
    case!(
        "a_list_of_many_mappings",
        watched(|| {
            many_mappings(60_000);
            let lines = std::fs::read("/proc/self/maps").unwrap_or_default();
            i32::from(lines.iter().filter(|&&byte| byte == b'\n').count() < 60_000)
        })
    ),
    case!(
        "a_large_hole_sent_nowhere",
        watched(|| {
            let (from, to) = (sparse_file(c"hole", 2 * GIB), open(c"/dev/null", libc::O_WRONLY));
            i32::from(sys!(sendfile(to, from, null_mut(), GIB)) <= 0)
        })
    ),
    case!(
        "a_large_hole_copied",
        watched(|| {
            let (from, to) = (sparse_file(c"hole", 2 * GIB), sparse_file(c"copy", 0));
            sys!(setrlimit(libc::RLIMIT_FSIZE, &libc::rlimit { rlim_cur: 8 << 20, rlim_max: 8 << 20 }));
            sys!(signal(libc::SIGXFSZ, libc::SIG_IGN));
            i32::from(sys!(copy_file_range(from, null_mut(), to, null_mut(), GIB, 0)) <= 0)
        })
    ),
    case!("a_device_read_over_and_over", watched(|| read_over_and_over(open(c"/dev/zero", libc::O_RDONLY)))),
    case!("a_file_read_over_and_over", watched(|| read_over_and_over(sparse_file(c"hole", 3 * GIB)))),
    case!(
        "random_bytes_without_an_end",
        watched(|| {
            let buffer = map(4 * MIB, READ_WRITE, 0);
            i32::from(sys!(syscall(libc::SYS_getrandom, buffer, 4 * MIB, 0)) <= 0)
        })
    ),
    case!(
        "a_large_area_asked_about",
        watched(|| {
            let (area, answer) = (map(4 * GIB, libc::PROT_NONE, 0), map(MIB, READ_WRITE, 0));
            sys!(mincore(area, 4 * GIB, answer.cast()))
        })
    ),
    case!(
        "a_large_area_made_present",
        watched(|| i32::from(map(2 * GIB, libc::PROT_READ, libc::MAP_POPULATE) == libc::MAP_FAILED))
    ),
    case!(
        "a_large_area_moved",
        watched(|| {
            let area = map(64 * GIB, READ_WRITE, 0);
            let moved = sys!(mremap(area, 64 * GIB, 65 * GIB, libc::MREMAP_MAYMOVE));
            i32::from(moved == libc::MAP_FAILED)
        })
    ),
    case!(
        "many_descriptors_closed_by_one_call",
        watched(|| {
            let opened = many_descriptors(open(c"/dev/null", libc::O_RDONLY), libc::F_DUPFD);
            let closed = sys!(syscall(libc::SYS_close_range, 3, u32::MAX, 0));
            i32::from(opened.len() != 100_000 || closed != 0)
        })
    ),
    case!("many_descriptors_closed_by_execve", {
        make_file(c"program", &Elf::right().bytes(), 0o755);
        watched(|| {
            many_descriptors(open(c"/dev/null", libc::O_RDONLY), libc::F_DUPFD_CLOEXEC);
            execve(c"./program", &[c"x"], &[]);
            1
        })
    }),
    case!(
        "many_descriptors_waited_for",
        watched(|| {
            let (empty, _other_end) = pipe();
            let waited = |&fd: &i32| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
            let mut waited: Vec<_> = many_descriptors(empty, libc::F_DUPFD).iter().map(waited).collect();
            sys!(poll(waited.as_mut_ptr(), waited.len() as u64, 20))
        })
    ),
    case!(
        "a_queued_signal_to_a_large_group_without_room_for_it",
        watched_in_large_family(false, || i32::from(sys!(kill(0, libc::SIGRTMIN())) != 0))
    ),
    case!("death_signals_to_a_large_family_without_room_for_them", watched_in_large_family(true, || 0)),
    case!("a_long_call_ends_when_its_process_is_killed", {
        let child = fork(|| {
            let (from, to) = (sparse_file(c"hole", 2 * GIB), open(c"/dev/null", libc::O_WRONLY));
            loop {
                sys!(lseek(from, 0, libc::SEEK_SET));
                sys!(sendfile(to, from, null_mut(), 2 * GIB));
            }
        });
        sleep_ms(30);
        let killed = Instant::now();
        sys!(kill(child, libc::SIGKILL));
        answers!(ending(child), killed.elapsed() < PATIENCE)
    }),
    case!("a_parent_in_vfork_can_be_killed", {
        let parent = fork(|| {
            // SAFETY: the child only waits and ends.
            #[allow(deprecated)]
            unsafe {
                if libc::vfork() == 0 {
                    libc::sleep(3);
                    libc::_exit(0);
                }
            }
            0
        });
        sleep_ms(30);
        let killed = Instant::now();
        sys!(kill(parent, libc::SIGKILL));
        answers!(ending(parent), killed.elapsed() < PATIENCE)
    }),
];
