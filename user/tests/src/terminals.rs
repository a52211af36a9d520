//! Terminals: who controls whom, who may read, write and change them, and hang-ups. Each case runs in a session of its
//! own. On Linux its terminal is a pseudo-terminal; Keel has none, so there it is the screen's, and typing is done by
//! TIOCSTI.

use conformance::support::*;
use conformance::{answers, case, sys};
use std::ffi::{CStr, CString};

/// A terminal that nobody else uses.
pub struct Terminal {
    path: CString,
    /// Where to type, if not into the terminal itself.
    master: Option<i32>,
}

impl Terminal {
    fn find() -> Terminal {
        let master = open(c"/dev/ptmx", libc::O_RDWR | libc::O_NOCTTY);
        if master < 0 {
            return Terminal { path: c"/dev/tty1".into(), master: None };
        }
        let mut name = [0_u8; 64];
        sys!(grantpt(master));
        sys!(unlockpt(master));
        sys!(ptsname_r(master, name.as_mut_ptr().cast(), name.len()));
        let path = CStr::from_bytes_until_nul(&name).unwrap_or_default().into();
        Terminal { path, master: Some(master) }
    }

    pub fn open(&self, flags: i32) -> i32 {
        open(&self.path, libc::O_RDWR | flags)
    }

    pub fn type_text(&self, text: &str) {
        match self.master {
            Some(master) => write_all(master, text.as_bytes()),
            None => {
                let terminal = self.open(libc::O_NOCTTY);
                for byte in text.bytes() {
                    sys!(ioctl(terminal, libc::TIOCSTI, &raw const byte));
                }
                close(terminal);
            }
        }
    }

    /// Types when somebody has had the time to wait for it.
    pub fn type_soon(&self, text: &str) {
        sleep_ms(60);
        self.type_text(text);
    }
}

/// Asks as the leader of a new session, which the terminal controls.
pub fn as_leader(ask: impl FnOnce(&Terminal, i32) -> String) -> String {
    asked_in_child(|| {
        sys!(setsid());
        let terminal = Terminal::find();
        let descriptor = terminal.open(0);
        ask(&terminal, descriptor)
    })
}

/// A child of the leader, in the background in a group of its own, whose ending or stop is told.
fn in_background(action: impl FnOnce() -> i32) -> (i32, String) {
    let child = fork(|| {
        sys!(setpgid(0, 0));
        action()
    });
    sys!(setpgid(child, child));
    (child, wait_with(child, libc::WUNTRACED))
}

pub fn end(child: i32) {
    sys!(kill(child, libc::SIGKILL));
    ending(child);
}

/// As [`in_background`], for one that need not be looked at again.
fn background_answer(action: impl FnOnce() -> i32) -> String {
    let (child, answer) = in_background(action);
    end(child);
    answer
}

/// A child of the leader, in the foreground in a group of its own, that has begun to do something.
pub fn in_foreground(terminal: i32, action: impl FnOnce() -> i32) -> i32 {
    let (ready, started) = pipe();
    let child = fork(|| {
        sys!(setpgid(0, 0));
        block(libc::SIGTTOU);
        sys!(tcsetpgrp(terminal, sys!(getpid())));
        write_all(started, b"!");
        action()
    });
    read_up_to(ready, 1);
    child
}

pub fn pause() -> i32 {
    loop {
        sys!(pause());
    }
}

pub fn block(signal: i32) {
    // SAFETY: signal sets are bit arrays, for which zeros are valid.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigaddset(&mut set, signal);
        libc::sigprocmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
    }
}

fn ignore(signal: i32) {
    sys!(signal(signal, libc::SIG_IGN));
}

/// The pending ones among those that hang-ups send.
pub fn pending() -> String {
    // SAFETY: signal sets are bit arrays, for which zeros are valid.
    let is_pending = |signal: &i32| unsafe {
        let mut set = std::mem::zeroed();
        libc::sigpending(&mut set);
        libc::sigismember(&set, *signal) == 1
    };
    let names: Vec<String> =
        [libc::SIGHUP, libc::SIGCONT, libc::SIGWINCH].into_iter().filter(is_pending).map(signal_name).collect();
    if names.is_empty() { "nothing pending".into() } else { names.join("+") }
}

pub fn settings(terminal: i32) -> libc::termios {
    // SAFETY: termios is integers, for which zeros are valid; the kernel fills it.
    unsafe {
        let mut settings = std::mem::zeroed();
        libc::tcgetattr(terminal, &mut settings);
        settings
    }
}

pub fn change(terminal: i32, how: i32, change: impl FnOnce(&mut libc::termios)) -> String {
    let mut changed = settings(terminal);
    change(&mut changed);
    ok(sys!(tcsetattr(terminal, how, &changed)))
}

pub fn events(descriptor: i32) -> String {
    let mut entry = libc::pollfd { fd: descriptor, events: libc::POLLIN | libc::POLLOUT, revents: 0 };
    sys!(poll(&raw mut entry, 1, 0));
    format!("{:#x}", entry.revents)
}

pub const CASES: &[Case] = &[
    case!(
        "a_leader_that_opens_a_free_terminal_gets_it",
        as_leader(|_, terminal| {
            let own = sys!(getpid());
            answers!(
                sys!(tcgetsid(terminal)) == own,
                sys!(tcgetpgrp(terminal)) == own,
                ok(open(c"/dev/tty", libc::O_RDWR)),
                in_child(|| i32::from(sys!(tcgetsid(terminal)) != own))
            )
        })
    ),
    case!(
        "o_noctty_and_write_only_opens_leave_it_free",
        asked_in_child(|| {
            sys!(setsid());
            let terminal = Terminal::find();
            let descriptor = terminal.open(libc::O_NOCTTY);
            let first = value(sys!(tcgetsid(descriptor)));
            open(&terminal.path, libc::O_WRONLY);
            answers!(first, value(sys!(tcgetpgrp(descriptor))), ok(open(c"/dev/tty", libc::O_RDWR)))
        })
    ),
    case!(
        "who_is_no_leader_gets_none",
        as_leader(|terminal, descriptor| {
            let own = ok(sys!(ioctl(descriptor, libc::TIOCSCTTY, 0)));
            let stolen = asked_in_child(|| {
                let first = ok(sys!(ioctl(descriptor, libc::TIOCSCTTY, 0)));
                sys!(setsid());
                // It has a leader already; only root may take it away, and that by asking for it.
                answers!(
                    first,
                    ok(terminal.open(0)),
                    value(sys!(tcgetsid(descriptor))),
                    ok(sys!(ioctl(descriptor, libc::TIOCSCTTY, 0))),
                    ok(sys!(ioctl(descriptor, libc::TIOCSCTTY, 1))),
                    sys!(tcgetsid(descriptor)) == sys!(getpid()),
                    ok(sys!(ioctl(descriptor, libc::TIOCSCTTY, 0))),
                )
            });
            // What becomes of the terminal when the thief ends depends on its kind.
            answers!(own, stolen)
        })
    ),
    case!(
        "setsid_leaves_the_terminal",
        as_leader(|_, descriptor| asked_in_child(|| {
            sys!(setsid());
            answers!(value(sys!(tcgetsid(descriptor))), ok(open(c"/dev/tty", libc::O_RDWR)))
        }))
    ),
    case!(
        "tiocnotty_of_one_process_concerns_it_alone",
        as_leader(|_, descriptor| {
            [libc::SIGHUP, libc::SIGCONT].into_iter().for_each(block);
            let child = asked_in_child(|| {
                answers!(
                    ok(sys!(ioctl(descriptor, libc::TIOCNOTTY))),
                    ok(sys!(ioctl(descriptor, libc::TIOCNOTTY))),
                    ok(open(c"/dev/tty", libc::O_RDWR)),
                    in_child(|| open(c"/dev/tty", libc::O_RDWR))
                )
            });
            answers!(child, ok(open(c"/dev/tty", libc::O_RDWR)), pending())
        })
    ),
    case!(
        "tiocnotty_of_the_leader_frees_the_terminal",
        as_leader(|_, descriptor| {
            [libc::SIGHUP, libc::SIGCONT].into_iter().for_each(block);
            let (child_reads, parent_writes) = pipe();
            let child = fork(|| {
                read_up_to(child_reads, 1);
                i32::from(open(c"/dev/tty", libc::O_RDWR) >= 0)
            });
            let given_up = ok(sys!(ioctl(descriptor, libc::TIOCNOTTY)));
            write_all(parent_writes, b"!");
            answers!(
                given_up,
                pending(),
                ending(child),
                value(sys!(tcgetpgrp(descriptor))),
                ok(sys!(ioctl(descriptor, libc::TIOCSCTTY, 0)))
            )
        })
    ),
    case!(
        "the_foreground_group_is_told_when_the_leader_ends",
        asked_in_child(|| {
            let (read_end, write_end) = pipe();
            let leader = fork(|| {
                sys!(setsid());
                let own = sys!(getpid());
                let descriptor = Terminal::find().open(0);
                let answer = |what: &str| write_all(write_end, what.as_bytes());
                [libc::SIGHUP, libc::SIGCONT].into_iter().for_each(block);
                in_foreground(descriptor, || {
                    while sys!(getppid()) == own {
                        sleep_ms(5);
                    }
                    answer(&answers!(pending(), ok(open(c"/dev/tty", libc::O_RDWR))));
                    0
                });
                0
            });
            close(write_end);
            let told = String::from_utf8_lossy(&read_to_end(read_end)).into_owned();
            answers!(ending(leader), told)
        })
    ),
    case!(
        "a_hung_up_line_reads_as_ended",
        as_leader(|_, descriptor| {
            [libc::SIGHUP, libc::SIGCONT].into_iter().for_each(block);
            let reader = fork(|| i32::from(read(descriptor, 10) != "\"\""));
            sleep_ms(60);
            let mut size = [0_u16; 4];
            answers!(
                ok(sys!(ioctl(descriptor, libc::c_ulong::from(0x5437_u32)))),
                pending(),
                ending(reader),
                read(descriptor, 10),
                write(descriptor, b"x"),
                events(descriptor),
                ok(sys!(ioctl(descriptor, libc::TIOCGWINSZ, size.as_mut_ptr()))),
                ok(sys!(tcsetpgrp(descriptor, 1))),
                ok(open(c"/dev/tty", libc::O_RDWR))
            )
        })
    ),
    case!(
        "vhangup_is_for_root",
        answers!(
            as_user(|| ok(sys!(vhangup()))),
            asked_in_child(|| {
                sys!(setsid());
                ok(sys!(vhangup()))
            })
        )
    ),
    case!(
        "tcsetpgrp_takes_groups_of_the_session",
        as_leader(|_, descriptor| {
            let stranger = fork(|| {
                sys!(setsid());
                pause()
            });
            let member = fork(pause);
            let group = fork(pause);
            sys!(setpgid(group, group));
            sleep_ms(30);
            let answer = answers!(
                ok(sys!(tcsetpgrp(descriptor, group))),
                sys!(tcgetpgrp(descriptor)) == group,
                in_child(|| i32::from(sys!(tcgetpgrp(descriptor)) != group)),
            );
            block(libc::SIGTTOU);
            let more = answers!(
                ok(sys!(tcsetpgrp(descriptor, member))),
                ok(sys!(tcsetpgrp(descriptor, stranger))),
                ok(sys!(tcsetpgrp(descriptor, 0x3ff_ffff))),
                ok(sys!(tcsetpgrp(descriptor, 0))),
                ok(sys!(tcsetpgrp(descriptor, -1))),
                ok(sys!(ioctl(descriptor, libc::TIOCSPGRP, BAD))),
                ok(sys!(tcsetpgrp(descriptor, sys!(getpgrp()))))
            );
            [stranger, member, group].into_iter().for_each(end);
            answers!(answer, more)
        })
    ),
    case!(
        "reading_in_the_background_stops",
        as_leader(|terminal, descriptor| {
            let (child, stop) = in_background(|| i32::from(read(descriptor, 10) != "\"ab\\n\""));
            // In the foreground it gets the line after all.
            sys!(tcsetpgrp(descriptor, child));
            sys!(kill(child, libc::SIGCONT));
            terminal.type_soon("ab\n");
            answers!(stop, ending(child))
        })
    ),
    case!(
        "reading_in_the_background_fails_where_a_stop_would_do_nothing",
        as_leader(|_, descriptor| {
            let fails = || i32::from(read(descriptor, 10) != "EIO");
            answers!(
                background_answer(|| {
                    ignore(libc::SIGTTIN);
                    fails()
                }),
                background_answer(|| {
                    block(libc::SIGTTIN);
                    fails()
                })
            )
        })
    ),
    case!(
        "an_orphaned_group_is_refused_instead_of_stopped",
        as_leader(|_, descriptor| {
            let (read_end, write_end) = pipe();
            let parent = fork(|| {
                let own = sys!(getpid());
                fork(|| {
                    sys!(setpgid(0, 0));
                    while sys!(getppid()) == own {
                        sleep_ms(5);
                    }
                    let answer = answers!(
                        read(descriptor, 1),
                        ok(sys!(tcsetpgrp(descriptor, sys!(getpid())))),
                        change(descriptor, libc::TCSANOW, |_| {}),
                        write(descriptor, b"x")
                    );
                    write_all(write_end, answer.as_bytes());
                    0
                });
                sleep_ms(30);
                0
            });
            close(write_end);
            let ended = ending(parent);
            answers!(ended, String::from_utf8_lossy(&read_to_end(read_end)))
        })
    ),
    case!(
        "a_group_that_is_orphaned_while_stopped_is_woken",
        asked_in_child(|| {
            let (read_end, write_end) = pipe();
            let parent = fork(|| {
                sys!(setsid());
                let job = fork(|| {
                    sys!(setpgid(0, 0));
                    block(libc::SIGHUP);
                    sys!(kill(0, libc::SIGSTOP));
                    write_all(write_end, pending().as_bytes());
                    0
                });
                sys!(setpgid(job, job));
                i32::from(wait_with(job, libc::WUNTRACED) != "stopped by SIGSTOP")
            });
            close(write_end);
            let ended = ending(parent);
            answers!(ended, String::from_utf8_lossy(&read_to_end(read_end)))
        })
    ),
    case!(
        "writing_in_the_background_is_stopped_by_tostop_only",
        as_leader(|_, descriptor| {
            let writes = || i32::from(write(descriptor, b"x") != "1");
            let first = background_answer(writes);
            change(descriptor, libc::TCSANOW, |settings| settings.c_lflag |= libc::TOSTOP);
            answers!(
                first,
                background_answer(writes),
                background_answer(|| {
                    ignore(libc::SIGTTOU);
                    writes()
                })
            )
        })
    ),
    case!(
        "changing_settings_in_the_background_stops",
        as_leader(|_, descriptor| {
            let size = libc::winsize { ws_row: 5, ws_col: 6, ws_xpixel: 0, ws_ypixel: 0 };
            answers!(
                background_answer(|| i32::from(change(descriptor, libc::TCSANOW, |_| {}) != "ok")),
                background_answer(|| sys!(tcsetpgrp(descriptor, sys!(getpid())))),
                background_answer(|| sys!(tcflush(descriptor, libc::TCIFLUSH))),
                background_answer(|| sys!(tcflow(descriptor, libc::TCOON))),
                background_answer(|| sys!(tcsendbreak(descriptor, 0))),
                background_answer(|| sys!(ioctl(descriptor, libc::TIOCSWINSZ, &raw const size)))
            )
        })
    ),
    case!("what_is_no_terminal", {
        let (read_end, _) = pipe();
        let null = open(c"/dev/null", libc::O_RDWR);
        answers!(
            ok(sys!(isatty(read_end)) - 1),
            value(sys!(tcgetpgrp(null))),
            value(sys!(tcgetsid(read_end))),
            ok(sys!(tcflush(null, 0))),
            ok(sys!(ioctl(null, libc::TIOCNOTTY)))
        )
    }),
    case!(
        "a_background_read_stops_whichever_thread_waits_for_the_signal",
        as_leader(|_, descriptor| background_answer(|| {
            std::thread::spawn(pause);
            sleep_ms(50);
            let mut byte = 0_u8;
            sys!(read(descriptor, (&raw mut byte).cast(), 1));
            errno() & 0x7f
        }))
    ),
    case!(
        "arguments_that_mean_nothing",
        as_leader(|_, descriptor| {
            let discipline = 99;
            let mut own_discipline = 7;
            answers!(
                ok(sys!(tcflush(descriptor, 9))),
                ok(sys!(tcflow(descriptor, 9))),
                ok(sys!(ioctl(descriptor, libc::TIOCSETD, &raw const discipline))),
                ok(sys!(ioctl(descriptor, libc::TIOCGETD, &raw mut own_discipline))),
                own_discipline,
                ok(sys!(ioctl(descriptor, 0x54ff))),
                ok(sys!(ioctl(descriptor, libc::TCGETS, BAD))),
                ok(sys!(ioctl(descriptor, libc::TCSETS, BAD))),
                ok(sys!(lseek(descriptor, 0, 0)))
            )
        })
    ),
    case!(
        "settings_in_the_beginning",
        as_leader(|_, descriptor| {
            let settings = settings(descriptor);
            format!(
                "{:#o} {:#o} {:#o} {:?}",
                settings.c_iflag & !libc::IUTF8,
                settings.c_oflag,
                settings.c_lflag,
                &settings.c_cc[..17]
            )
        })
    ),
];
