//! Record locks, the locks of open files, and whole-file locks: what fcntl and flock leave to ask after `files`; and fcntl's
//! other commands.

use conformance::support::*;
use conformance::{answers, case, sys};
use std::ptr::null_mut;

const OFD_GET: i32 = 36;
const OFD_SET: i32 = 37;
const OFD_WAIT: i32 = 38;

fn fresh() -> i32 {
    make_file(c"file", b"0123456789", 0o644);
    again()
}

fn again() -> i32 {
    open(c"file", libc::O_RDWR)
}

/// A lock as `fcntl` takes it.
struct Range {
    kind: i32,
    whence: i32,
    start: i64,
    length: i64,
    pid: i32,
}

const WHOLE: Range = Range { kind: libc::F_WRLCK, whence: libc::SEEK_SET, start: 0, length: 0, pid: 0 };

fn lock(file: i32, command: i32, range: &Range) -> String {
    let mut lock = libc::flock {
        l_type: range.kind as i16,
        l_whence: range.whence as i16,
        l_start: range.start,
        l_len: range.length,
        l_pid: range.pid,
    };
    if sys!(fcntl(file, command, &mut lock)) < 0 {
        return last_errno();
    }
    if command != libc::F_GETLK && command != OFD_GET {
        return "ok".into();
    }
    let kind = ["read", "write", "free"].get(lock.l_type as usize).copied().unwrap_or("odd");
    let holder = match lock.l_pid {
        -1 => "an open file",
        0 => "nobody",
        pid if pid == sys!(getppid()) => "the parent",
        _ => "somebody",
    };
    format!("{kind} {}+{} whence {} of {holder}", lock.l_start, lock.l_len, lock.l_whence)
}

fn set(file: i32, kind: i32, start: i64, length: i64) -> String {
    lock(file, libc::F_SETLK, &Range { kind, start, length, ..WHOLE })
}

fn ofd(file: i32, kind: i32, start: i64, length: i64) -> String {
    lock(file, OFD_SET, &Range { kind, start, length, ..WHOLE })
}

/// What another process finds in the way.
fn seen_by_a_child(range: &Range) -> String {
    asked_in_child(|| lock(again(), libc::F_GETLK, range))
}

pub const CASES: &[Case] = &[
    case!("a_lock_as_another_process_sees_it", {
        let file = fresh();
        set(file, libc::F_WRLCK, 3, 4);
        answers!(
            seen_by_a_child(&WHOLE),
            seen_by_a_child(&Range { start: 7, length: 5, ..WHOLE }),
            seen_by_a_child(&Range { whence: libc::SEEK_END, start: -5, length: 2, ..WHOLE }),
            lock(file, libc::F_GETLK, &WHOLE)
        )
    }),
    case!("ranges_from_the_position_and_backwards", {
        let file = fresh();
        sys!(lseek(file, 6, libc::SEEK_SET));
        answers!(
            lock(file, libc::F_SETLK, &Range { whence: libc::SEEK_CUR, start: 1, length: -3, ..WHOLE }),
            seen_by_a_child(&WHOLE),
            lock(file, libc::F_SETLK, &Range { kind: libc::F_UNLCK, start: 5, length: 1, ..WHOLE }),
            seen_by_a_child(&WHOLE)
        )
    }),
    case!("ranges_that_are_none", {
        let file = fresh();
        answers!(
            set(file, libc::F_WRLCK, -1, 1),
            set(file, libc::F_WRLCK, 0, -1),
            set(file, libc::F_WRLCK, i64::MAX, 1),
            set(file, libc::F_WRLCK, i64::MAX, 2),
            set(file, libc::F_WRLCK, 1, i64::MAX),
            lock(file, libc::F_SETLK, &Range { whence: 5, ..WHOLE }),
            set(file, 9, 0, 1),
            lock(file, libc::F_GETLK, &Range { kind: libc::F_UNLCK, ..WHOLE })
        )
    }),
    case!("a_lock_needs_the_access_it_stands_for", {
        fresh();
        let (reading, writing) = (open(c"file", libc::O_RDONLY), open(c"file", libc::O_WRONLY));
        answers!(
            set(reading, libc::F_WRLCK, 0, 1),
            set(reading, libc::F_RDLCK, 0, 1),
            set(writing, libc::F_RDLCK, 0, 1),
            set(writing, libc::F_WRLCK, 0, 1),
            set(open(c"file", libc::O_PATH), libc::F_RDLCK, 0, 1)
        )
    }),
    case!("locks_are_not_inherited", {
        let file = fresh();
        set(file, libc::F_WRLCK, 0, 0);
        answers!(asked_in_child(|| set(file, libc::F_WRLCK, 0, 1)), asked_in_child(|| set(file, libc::F_RDLCK, 0, 1)))
    }),
    case!("upgrading_and_downgrading", {
        let file = fresh();
        answers!(
            set(file, libc::F_RDLCK, 0, 10),
            set(file, libc::F_WRLCK, 4, 2),
            seen_by_a_child(&Range { kind: libc::F_RDLCK, ..WHOLE }),
            set(file, libc::F_RDLCK, 0, 10),
            seen_by_a_child(&Range { kind: libc::F_RDLCK, ..WHOLE })
        )
    }),
    case!("a_deadlock_is_found", {
        let file = fresh();
        let (ready_read, ready_write) = pipe();
        set(file, libc::F_WRLCK, 0, 1);
        let child = fork(|| {
            let file = again();
            set(file, libc::F_WRLCK, 1, 1);
            write(ready_write, b"x");
            let waited = lock(file, libc::F_SETLKW, &Range { length: 1, ..WHOLE });
            i32::from(waited != "ok")
        });
        read(ready_read, 1);
        // The child waits for us, or is about to: whoever comes second learns that neither could ever go on.
        sleep_ms(50);
        let own = lock(file, libc::F_SETLKW, &Range { start: 1, length: 1, ..WHOLE });
        set(file, libc::F_UNLCK, 0, 0);
        answers!(own, ending(child))
    }),
    case!("locks_of_open_files", {
        let first = fresh();
        let second = again();
        answers!(
            ofd(first, libc::F_WRLCK, 0, 5),
            ofd(second, libc::F_WRLCK, 4, 2),
            ofd(second, libc::F_WRLCK, 5, 2),
            lock(second, OFD_GET, &WHOLE),
            lock(second, libc::F_GETLK, &WHOLE),
            set(first, libc::F_WRLCK, 0, 1),
            ofd(sys!(dup(first)), libc::F_UNLCK, 0, 5),
            ofd(second, libc::F_WRLCK, 4, 2)
        )
    }),
    case!("locks_of_open_files_outlive_other_descriptors", {
        let first = fresh();
        let second = again();
        ofd(first, libc::F_WRLCK, 0, 0);
        close(again());
        let copy = sys!(dup(first));
        close(first);
        let still = ofd(second, libc::F_RDLCK, 0, 1);
        close(copy);
        answers!(still, ofd(second, libc::F_RDLCK, 0, 1))
    }),
    case!("locks_of_open_files_belong_to_children_too", {
        let file = fresh();
        ofd(file, libc::F_WRLCK, 0, 0);
        answers!(
            asked_in_child(|| ofd(file, libc::F_RDLCK, 0, 0)),
            ofd(again(), libc::F_RDLCK, 0, 0),
            ofd(again(), libc::F_WRLCK, 0, 0)
        )
    }),
    case!("waiting_for_an_open_files_lock", {
        let first = fresh();
        ofd(first, libc::F_WRLCK, 0, 0);
        let child = fork(|| {
            close(first);
            i32::from(lock(again(), OFD_WAIT, &WHOLE) != "ok")
        });
        sleep_ms(20);
        close(first);
        ending(child)
    }),
    case!("locks_of_open_files_want_no_process", {
        let file = fresh();
        let range = Range { pid: 5, ..WHOLE };
        answers!(lock(file, OFD_SET, &range), lock(file, OFD_GET, &range), lock(file, libc::F_SETLK, &range))
    }),
    case!("whole_file_locks_change_kind", {
        let (first, second) = (fresh(), again());
        let flock = |file: i32, operation: i32| ok(sys!(flock(file, operation | libc::LOCK_NB)));
        answers!(
            flock(first, libc::LOCK_SH),
            flock(second, libc::LOCK_SH),
            flock(first, libc::LOCK_EX),
            flock(second, libc::LOCK_UN),
            flock(first, libc::LOCK_EX),
            flock(second, libc::LOCK_SH),
            flock(sys!(dup(first)), libc::LOCK_UN),
            flock(second, libc::LOCK_EX),
            ok(sys!(flock(first, 77))),
            ok(sys!(flock(first, libc::LOCK_SH | libc::LOCK_EX))),
            ok(sys!(flock(77, libc::LOCK_SH)))
        )
    }),
    case!("raising_a_whole_file_lock_gives_the_old_one_up_first", {
        let (first, second, third) = (fresh(), again(), again());
        let flock = |file: i32, operation: i32| ok(sys!(flock(file, operation | libc::LOCK_NB)));
        answers!(
            flock(first, libc::LOCK_SH),
            flock(second, libc::LOCK_SH),
            flock(first, libc::LOCK_EX),
            flock(second, libc::LOCK_EX),
            flock(second, libc::LOCK_SH),
            flock(third, libc::LOCK_SH),
            flock(third, libc::LOCK_SH),
            flock(second, libc::LOCK_EX),
            flock(third, libc::LOCK_EX)
        )
    }),
    case!("a_lock_that_is_granted_when_its_descriptor_is_closed", {
        let file = fresh();
        let ((told, tell), (wait, go_on)) = (pipe(), pipe());
        let child = fork(|| {
            close(go_on);
            set(again(), libc::F_WRLCK, 0, 0);
            write_all(tell, b"!");
            read_up_to(wait, 1);
            0
        });
        read_up_to(told, 1);
        let waiting = std::thread::spawn(move || lock(file, libc::F_SETLKW, &WHOLE));
        let asleep = |task: &std::path::Path| {
            let stat = std::fs::read_to_string(task.join("stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('S'))
        };
        // This thread is the first; the one that waits is the last.
        while !std::fs::read_dir("/proc/self/task").is_ok_and(|tasks| {
            tasks
                .flatten()
                .last()
                .is_some_and(|task| task.file_name() != *sys!(getpid()).to_string() && asleep(&task.path()))
        }) {
            std::thread::yield_now();
        }
        close(file);
        close(go_on);
        let ended = ending(child);
        answers!(ended, waiting.join().unwrap_or_default(), seen_by_a_child(&WHOLE))
    }),
    case!("whole_file_locks_on_other_files", {
        let (read_end, _) = pipe();
        let lock_it = |file: i32| ok(sys!(flock(file, libc::LOCK_EX | libc::LOCK_NB)));
        answers!(lock_it(open(c".", libc::O_RDONLY)), lock_it(read_end), lock_it(open(c"/dev/null", libc::O_RDONLY)))
    }),
    case!("a_signal_ends_the_wait_for_a_lock", {
        let file = fresh();
        sys!(flock(file, libc::LOCK_EX));
        let child = fork(|| {
            extern "C" fn nothing(_: i32) {}
            // SAFETY: sigaction is made of integers, for which zeros are valid: no flags, so no restart.
            let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
            action.sa_sigaction = nothing as *const () as usize;
            sys!(sigaction(libc::SIGALRM, &action, null_mut()));
            sys!(alarm(1));
            let waited = ok(sys!(flock(again(), libc::LOCK_EX)));
            i32::from(waited != "EINTR")
        });
        ending(child)
    }),
    case!("fcntl_of_owners_signals_and_hints", {
        let file = fresh();
        let fcntl = |command: i32, argument: i32| value(sys!(fcntl(file, command, argument)));
        let (read_end, _) = pipe();
        answers!(
            fcntl(libc::F_GETOWN, 0),
            fcntl(libc::F_SETOWN, 0),
            fcntl(10, 0),
            fcntl(11, 0),
            fcntl(11, 99),
            fcntl(libc::F_DUPFD_CLOEXEC, 20),
            value(sys!(fcntl(20, libc::F_GETFD))),
            fcntl(libc::F_DUPFD, 1 << 30),
            fcntl(libc::F_GETPIPE_SZ, 0),
            value(sys!(fcntl(read_end, libc::F_SETPIPE_SZ, -1))),
            fcntl(777, 0),
            value(sys!(fcntl(77, libc::F_GETFD)))
        )
    }),
    case!("a_users_pipe_grows_to_a_limit", {
        as_user(|| {
            let (read_end, _) = pipe();
            let grow = |bytes: i32| value(sys!(fcntl(read_end, libc::F_SETPIPE_SZ, bytes)));
            answers!(grow(1 << 20), grow((1 << 20) + 1), grow(4096))
        })
    }),
];
