//! What processes use and are told about it: faults, switches, memory, time; and what the system tells of itself.

use conformance::support::*;
use conformance::{answers, case, sys};
use std::ptr::null_mut;

const PAGE: usize = 4096;
/// Less than Linux gives in one large page.
const TOUCHED_PAGES: usize = 256;

/// Touches new memory, and gives it back.
fn touch_pages(count: usize) {
    let size = count * PAGE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    let memory = sys!(mmap(null_mut(), size, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0)).cast::<u8>();
    for page in 0..count {
        // SAFETY: the page is in the mapping.
        unsafe { memory.add(page * PAGE).write_volatile(1) };
    }
    sys!(munmap(memory.cast(), size));
}

fn usage_of(whom: i32) -> libc::rusage {
    // SAFETY: rusage is plain integers; the kernel fills it.
    unsafe {
        let mut usage = std::mem::zeroed();
        libc::getrusage(whom, &mut usage);
        usage
    }
}

/// Waits for a child and tells what it has used.
fn usage_of_child(child: i32, options: i32) -> libc::rusage {
    // SAFETY: as above.
    unsafe {
        let mut usage = std::mem::zeroed();
        libc::wait4(child, null_mut(), options, &mut usage);
        usage
    }
}

/// Whether a number of faults is that of the pages that were touched, and of little else.
fn is_touch(faults: i64) -> bool {
    (TOUCHED_PAGES as i64..2 * TOUCHED_PAGES as i64).contains(&faults)
}

/// Uses the CPU for a while.
fn work_ms(milliseconds: u64) {
    let begin = std::time::Instant::now();
    while begin.elapsed().as_millis() < milliseconds.into() {}
}

/// A line of /proc/self/status, as a number.
fn status_number(name: &str) -> i64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(&format!("{name}:"))).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).unwrap_or(-1)
}

fn system_information() -> libc::sysinfo {
    // SAFETY: sysinfo is plain integers; the kernel fills it.
    unsafe {
        let mut information = std::mem::zeroed();
        libc::sysinfo(&mut information);
        information
    }
}

/// Whether sysinfo(2) and /proc/loadavg tell the same, but for rounding.
fn loads_agree() -> bool {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let told = text.split_whitespace().take(3).map(|load| load.parse::<f64>().unwrap_or(-1.0));
    let counted = system_information().loads.map(|load| load as f64 / 65536.0);
    told.zip(counted).all(|(told, counted)| (told - counted).abs() < 0.02)
}

pub const CASES: &[Case] = &[
    case!("faults_are_counted", {
        let before = usage_of(libc::RUSAGE_SELF).ru_minflt;
        touch_pages(TOUCHED_PAGES);
        is_touch(usage_of(libc::RUSAGE_SELF).ru_minflt - before)
    }),
    case!("the_peak_of_memory_stays", {
        let before = usage_of(libc::RUSAGE_SELF).ru_maxrss;
        touch_pages(8 * TOUCHED_PAGES);
        let after = usage_of(libc::RUSAGE_SELF).ru_maxrss;
        answers!(after - before > 4096, after == usage_of(libc::RUSAGE_THREAD).ru_maxrss)
    }),
    case!("waiting_is_counted_as_switches", {
        let before = usage_of(libc::RUSAGE_THREAD).ru_nvcsw;
        (0..3).for_each(|_| sleep_ms(1));
        let after = usage_of(libc::RUSAGE_THREAD).ru_nvcsw;
        answers!(after - before >= 3, after == status_number("voluntary_ctxt_switches"))
    }),
    case!("losing_the_cpu_is_counted", {
        let one_cpu = 1_u64;
        sys!(sched_setaffinity(0, 8, (&raw const one_cpu).cast()));
        let other = fork(|| {
            work_ms(300);
            0
        });
        work_ms(300);
        answers!(
            usage_of(libc::RUSAGE_SELF).ru_nivcsw > 0,
            usage_of_child(other, 0).ru_nivcsw > 0,
            status_number("nonvoluntary_ctxt_switches") > 0
        )
    }),
    case!("wait4_tells_what_a_child_used", {
        let child = fork(|| {
            touch_pages(TOUCHED_PAGES);
            sleep_ms(1);
            work_ms(50);
            0
        });
        let usage = usage_of_child(child, 0);
        let time_us = [usage.ru_utime, usage.ru_stime].iter().map(|time| time.tv_sec * 1_000_000 + time.tv_usec).sum();
        answers!(
            is_touch(usage.ru_minflt),
            usage.ru_majflt,
            usage.ru_maxrss > 1024,
            usage.ru_nvcsw > 0,
            (1000..10_000_000).contains::<i64>(&time_us)
        )
    }),
    case!("wait4_tells_what_a_stopped_child_has_used", {
        let child = fork(|| {
            touch_pages(TOUCHED_PAGES);
            sys!(raise(libc::SIGSTOP));
            0
        });
        let usage = usage_of_child(child, libc::WUNTRACED);
        sys!(kill(child, libc::SIGKILL));
        is_touch(usage.ru_minflt)
    }),
    case!("waitid_tells_what_a_child_used", {
        let child = fork(|| {
            touch_pages(TOUCHED_PAGES);
            0
        });
        // SAFETY: rusage is plain integers; the kernel fills it.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        let none = null_mut::<libc::siginfo_t>();
        let answer = ok(sys!(syscall(libc::SYS_waitid, libc::P_PID, child, none, libc::WEXITED, &mut usage)));
        answers!(answer, is_touch(usage.ru_minflt))
    }),
    case!("a_grandchild_that_was_waited_for_counts", {
        let child = fork(|| {
            ending(fork(|| {
                touch_pages(TOUCHED_PAGES);
                0
            }));
            0
        });
        let told = usage_of_child(child, 0);
        let kept = usage_of(libc::RUSAGE_CHILDREN);
        answers!(
            told.ru_minflt >= TOUCHED_PAGES as i64,
            kept.ru_minflt == told.ru_minflt,
            kept.ru_maxrss == told.ru_maxrss
        )
    }),
    case!("a_child_that_nobody_waits_for_is_booked_to_nobody", {
        sys!(signal(libc::SIGCHLD, libc::SIG_IGN));
        let child = fork(|| {
            touch_pages(TOUCHED_PAGES);
            0
        });
        let answer = ending(child);
        answers!(answer, usage_of(libc::RUSAGE_CHILDREN).ru_minflt)
    }),
    case!("an_image_that_was_replaced_counts", {
        let child = fork(|| {
            touch_pages(8 * TOUCHED_PAGES);
            execve(own_path(), &[c"conformance", c"--helper-nothing"], &[]);
            1
        });
        usage_of_child(child, 0).ru_maxrss > 8192
    }),
    case!("status_tells_the_peaks", {
        touch_pages(8 * TOUCHED_PAGES);
        answers!(
            status_number("VmPeak") - status_number("VmSize") >= 8192,
            status_number("VmHWM") - status_number("VmRSS") >= 4096,
            status_number("VmExe") % 4
        )
    }),
    case!("stat_tells_the_faults", {
        touch_pages(TOUCHED_PAGES);
        let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let field = text.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(7)?.parse().ok()).unwrap_or(-1);
        (TOUCHED_PAGES as i64..=usage_of(libc::RUSAGE_SELF).ru_minflt).contains(&field)
    }),
    case!("sysinfo_and_loadavg_agree", (0..3).any(|_| loads_agree())),
    case!("sysinfo_counts_memory_in_files", {
        let before = system_information();
        let file = open(c"large", libc::O_CREAT | libc::O_RDWR);
        sys!(fallocate(file, 0, 0, 16 << 20));
        let after = system_information();
        after.sharedram.saturating_sub(before.sharedram) > 8 << 20
    }),
    case!("the_kernels_log_has_levels", {
        let mut text = vec![0_u8; 1 << 20];
        let count = sys!(klogctl(3, text.as_mut_ptr().cast(), text.len() as i32));
        text.truncate(count.max(0) as usize);
        let text = String::from_utf8_lossy(&text);
        // Like <6>[    0.012345] text.
        let is_whole = |line: &str| {
            let level = line.strip_prefix('<').and_then(|rest| rest.split_once(">["));
            level.is_some_and(|(level, _)| level.parse::<u8>().is_ok())
        };
        answers!(text.lines().count() > 2, text.lines().all(is_whole))
    }),
    case!("the_kernels_log_refuses", {
        let refuse = |action| value(sys!(klogctl(action, null_mut(), -1)));
        let clear = || as_user(|| value(sys!(klogctl(5, null_mut(), 0))));
        answers!(refuse(3), refuse(4), refuse(77), clear())
    }),
    case!("getrusage_of_whom", {
        // SAFETY: rusage is plain integers; the kernel fills it.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        answers!(
            ok(sys!(getrusage(libc::RUSAGE_SELF, &mut usage))),
            ok(sys!(getrusage(libc::RUSAGE_CHILDREN, &mut usage))),
            ok(sys!(getrusage(libc::RUSAGE_THREAD, &mut usage))),
            ok(sys!(getrusage(77, &mut usage)))
        )
    }),
    case!("times_counts_ticks", {
        // SAFETY: tms is plain integers; the kernel fills it.
        let mut times: libc::tms = unsafe { std::mem::zeroed() };
        let answer = sys!(times(&mut times));
        answers!(answer != -1, (0..100_000).contains(&times.tms_utime))
    }),
    case!("sysinfo_is_plausible", {
        // SAFETY: sysinfo is plain integers; the kernel fills it.
        let mut information: libc::sysinfo = unsafe { std::mem::zeroed() };
        answers!(
            ok(sys!(sysinfo(&mut information))),
            information.totalram > information.freeram,
            information.procs > 0,
            information.mem_unit > 0
        )
    }),
];
