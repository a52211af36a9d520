//! Terminals: what is typed and what is read of it, settings, flow, and sizes.

use crate::terminals::*;
use conformance::support::*;
use conformance::{answers, case, sys};
use std::time::Instant;

/// Without lines, echo and signals; a read waits as these two say.
fn make_raw(terminal: i32, minimum: u8, time: u8) {
    change(terminal, libc::TCSANOW, |settings| {
        settings.c_lflag = 0;
        settings.c_cc[libc::VMIN] = minimum;
        settings.c_cc[libc::VTIME] = time;
    });
}

/// Whether `tenths` have passed, and not a second more.
fn took(started: Instant, tenths: u128) -> &'static str {
    let milliseconds = started.elapsed().as_millis();
    match milliseconds {
        _ if milliseconds < tenths * 100 => "too early",
        _ if milliseconds > tenths * 100 + 1000 => "too late",
        _ => "in time",
    }
}

/// Who the child's group is told by, whatever the terminal's own way is: the reader of a pipe.
fn told_by_signal(signal: i32, act: impl FnOnce(i32)) -> String {
    let (read_end, write_end) = pipe();
    let child = fork(|| {
        sys!(setpgid(0, 0));
        block(signal);
        write_all(write_end, b"!");
        let mut got = 0;
        // SAFETY: signal sets are bit arrays; the kernel writes one int.
        unsafe {
            let mut set = std::mem::zeroed();
            libc::sigaddset(&mut set, signal);
            libc::sigwait(&set, &mut got);
        }
        got
    });
    read_up_to(read_end, 1);
    act(child);
    ending(child)
}

pub const CASES: &[Case] = &[
    case!(
        "typed_characters_become_signals",
        as_leader(|terminal, descriptor| {
            let mut answer = Vec::new();
            for typed in ["\x03", "\x1c", "\x1a"] {
                let child = in_foreground(descriptor, pause);
                terminal.type_text(typed);
                answer.push(wait_with(child, libc::WUNTRACED));
                if typed == "\x1a" {
                    sys!(kill(child, libc::SIGCONT));
                    answer.push(wait_with(child, libc::WCONTINUED));
                    end(child);
                }
            }
            block(libc::SIGTTOU);
            sys!(tcsetpgrp(descriptor, sys!(getpgrp())));
            answer.join(", ")
        })
    ),
    case!(
        "without_isig_they_are_characters",
        as_leader(|terminal, descriptor| {
            change(descriptor, libc::TCSANOW, |settings| settings.c_lflag &= !libc::ISIG);
            terminal.type_text("\x03\x1a\n");
            read(descriptor, 10)
        })
    ),
    case!(
        "a_read_gets_a_line",
        as_leader(|terminal, descriptor| {
            terminal.type_text("one\ntwo\x04three\n\x04");
            answers!(
                read(descriptor, 2),
                read(descriptor, 10),
                read(descriptor, 10),
                read(descriptor, 10),
                read(descriptor, 10)
            )
        })
    ),
    case!(
        "a_nonblocking_read_does_not_wait",
        as_leader(|terminal, _| {
            let descriptor = terminal.open(libc::O_NONBLOCK);
            let first = read(descriptor, 10);
            terminal.type_text("ab");
            sleep_ms(60);
            let second = answers!(read(descriptor, 10), poll_input(descriptor, 0));
            terminal.type_text("\n");
            answers!(first, second, poll_input(descriptor, 1000), read(descriptor, 10))
        })
    ),
    case!(
        "vmin_0_vtime_0_takes_what_is_there",
        as_leader(|terminal, descriptor| {
            make_raw(descriptor, 0, 0);
            let first = read(descriptor, 10);
            terminal.type_text("abc");
            poll_input(descriptor, 1000);
            sleep_ms(60);
            let nonblocking = terminal.open(libc::O_NONBLOCK);
            answers!(first, read(descriptor, 2), read(descriptor, 10), read(nonblocking, 10))
        })
    ),
    case!(
        "vmin_0_and_vtime_wait_that_long",
        as_leader(|terminal, descriptor| {
            make_raw(descriptor, 0, 3);
            let started = Instant::now();
            let first = read(descriptor, 10);
            let first_took = took(started, 3);
            let child = fork(|| {
                terminal.type_soon("x");
                0
            });
            let started = Instant::now();
            let second = read(descriptor, 10);
            ending(child);
            let nonblocking = terminal.open(libc::O_NONBLOCK);
            answers!(first, first_took, second, took(started, 0), read(nonblocking, 10))
        })
    ),
    case!(
        "vmin_without_vtime_waits_for_so_many",
        as_leader(|terminal, descriptor| {
            make_raw(descriptor, 3, 0);
            let child = fork(|| {
                terminal.type_text("ab");
                terminal.type_soon("c");
                0
            });
            let first = read(descriptor, 10);
            ending(child);
            terminal.type_text("de");
            sleep_ms(60);
            // Two are too few for poll, and enough for who asks for no more.
            answers!(first, poll_input(descriptor, 0), read(descriptor, 2))
        })
    ),
    case!(
        "vmin_and_vtime_wait_between_characters",
        as_leader(|terminal, descriptor| {
            make_raw(descriptor, 5, 2);
            let child = fork(|| {
                terminal.type_soon("a");
                terminal.type_soon("b");
                0
            });
            let started = Instant::now();
            let first = read(descriptor, 10);
            ending(child);
            answers!(first, took(started, 3))
        })
    ),
    case!(
        "an_interrupted_read",
        as_leader(|terminal, descriptor| {
            extern "C" fn handler(_: i32) {}
            make_raw(descriptor, 5, 0);
            let reader = |typed: &'static str| {
                let child = in_foreground(descriptor, || {
                    // SAFETY: the handler does nothing; sigaction is plain integers.
                    unsafe {
                        let mut action: libc::sigaction = std::mem::zeroed();
                        action.sa_sigaction = handler as *const () as usize;
                        libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut());
                    }
                    match read(descriptor, 10).as_str() {
                        "EINTR" => 1,
                        "\"ab\"" => 2,
                        _ => 3,
                    }
                });
                terminal.type_soon(typed);
                sleep_ms(60);
                sys!(kill(child, libc::SIGUSR1));
                ending(child)
            };
            answers!(reader(""), reader("ab"))
        })
    ),
    case!(
        "flushing_forgets_what_was_typed",
        as_leader(|terminal, _| {
            let descriptor = terminal.open(libc::O_NONBLOCK);
            let mut count = 0;
            let mut typed_and = |act: &dyn Fn() -> String| {
                terminal.type_text("ab\n");
                poll_input(descriptor, 1000);
                sys!(ioctl(descriptor, libc::FIONREAD, &raw mut count));
                answers!(count, act(), read(descriptor, 10))
            };
            answers!(
                typed_and(&|| ok(sys!(tcflush(descriptor, libc::TCIFLUSH)))),
                typed_and(&|| ok(sys!(tcflush(descriptor, libc::TCOFLUSH)))),
                typed_and(&|| ok(sys!(tcflush(descriptor, libc::TCIOFLUSH)))),
                typed_and(&|| change(descriptor, libc::TCSADRAIN, |_| {})),
                typed_and(&|| change(descriptor, libc::TCSAFLUSH, |_| {}))
            )
        })
    ),
    case!(
        "output_stops_and_goes_on",
        as_leader(|terminal, _| {
            let descriptor = terminal.open(libc::O_NONBLOCK);
            let typed = |text: &str| {
                terminal.type_text(text);
                sleep_ms(60);
                answers!(write(descriptor, b"x"), events(descriptor))
            };
            let by_typing = answers!(typed("\x13"), typed("\x11"));
            let held = ok(sys!(tcflow(descriptor, libc::TCOOFF)));
            // What a program stopped, typing doesn't start; nor the other way round.
            let by_program = answers!(held, typed("\x11"), ok(sys!(tcflow(descriptor, libc::TCOON))), typed(""));
            let mixed = answers!(typed("\x13"), ok(sys!(tcflow(descriptor, libc::TCOON))), typed(""), typed("\x11"));
            answers!(by_typing, by_program, mixed)
        })
    ),
    case!(
        "a_writer_waits_while_output_is_stopped",
        as_leader(|terminal, descriptor| {
            terminal.type_soon("\x13");
            sleep_ms(60);
            let writer = in_foreground(descriptor, || i32::from(write(descriptor, b"x") != "1"));
            sleep_ms(60);
            let meanwhile = wait_with(writer, libc::WNOHANG);
            terminal.type_text("\x11");
            answers!(meanwhile, ending(writer))
        })
    ),
    case!(
        "a_new_window_size_is_told",
        as_leader(|_, descriptor| {
            block(libc::SIGWINCH);
            let size = |rows| libc::winsize { ws_row: rows, ws_col: 70, ws_xpixel: 1, ws_ypixel: 2 };
            let set = |rows| ok(sys!(ioctl(descriptor, libc::TIOCSWINSZ, &size(rows))));
            sys!(ioctl(descriptor, libc::TIOCSWINSZ, &size(30)));
            let mut read_back = size(0);
            let first = answers!(
                pending(),
                ok(sys!(ioctl(descriptor, libc::TIOCGWINSZ, &raw mut read_back))),
                read_back.ws_row,
                read_back.ws_col,
                read_back.ws_ypixel
            );
            let told = told_by_signal(libc::SIGWINCH, |child| {
                block(libc::SIGTTOU);
                sys!(tcsetpgrp(descriptor, child));
                set(30);
                set(31);
            });
            answers!(first, told)
        })
    ),
];
