//! Setting the clock. In Keel only, since this machine's own would be set.

use conformance::support::*;
use conformance::{answers, case, sys};

fn is_keel() -> bool {
    std::fs::read_to_string("/proc/version").is_ok_and(|version| version.contains("Keel"))
}

/// The seconds, as libc's clock_gettime, gettimeofday and time give them.
fn seconds() -> [i64; 3] {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let mut old = libc::timeval { tv_sec: 0, tv_usec: 0 };
    sys!(clock_gettime(libc::CLOCK_REALTIME, &mut time));
    sys!(gettimeofday(&mut old, std::ptr::null_mut()));
    [time.tv_sec, old.tv_sec, sys!(time(std::ptr::null_mut()))]
}

/// Linux's latest time that can be set: 30 years of running later the nanoseconds still fit 63 bits.
const LATEST: i64 = i64::MAX / 1_000_000_000 - 30 * 365 * 24 * 60 * 60;

pub const CASES: &[Case] = &[
    case!("a_new_time_is_seen_at_once", {
        if !is_keel() {
            "only asked in Keel".to_owned()
        } else {
            let before = seconds()[0];
            let far = 2_000_000_000;
            let set = ok(sys!(clock_settime(libc::CLOCK_REALTIME, &libc::timespec { tv_sec: far, tv_nsec: 0 })));
            let seen = seconds().map(|time| (far..far + 2).contains(&time));
            let back = ok(sys!(clock_settime(libc::CLOCK_REALTIME, &libc::timespec { tv_sec: before, tv_nsec: 0 })));
            let seen_again = seconds().map(|time| (before..before + 2).contains(&time));
            answers!(set, format!("{seen:?}"), back, format!("{seen_again:?}"))
        }
    }),
    case!("what_time_can_not_be_set", {
        if !is_keel() {
            "only asked in Keel".to_owned()
        } else {
            let times = [(0, 1), (-1, 0), (1, -1), (1, 1_000_000_000), (LATEST, 0), (i64::MAX, 0), (LATEST - 1, 0)];
            let before = seconds()[0];
            let answers = times.map(|(tv_sec, tv_nsec)| {
                ok(sys!(clock_settime(libc::CLOCK_REALTIME, &libc::timespec { tv_sec, tv_nsec })))
            });
            let seen = seconds().map(|time| (LATEST - 1..LATEST + 1).contains(&time));
            let back = ok(sys!(clock_settime(libc::CLOCK_REALTIME, &libc::timespec { tv_sec: before, tv_nsec: 0 })));
            answers!(answers.join(" "), format!("{seen:?}"), back)
        }
    }),
];
