//! init, a shell and the tools of a small system. One program with many names keeps the initrd small: /bin/ls, /bin/cat
//! and the others are links to /bin/tools, and argv[0] says which tool is meant. `tools NAME …` works too.
//!
//! Each tool is a function from its arguments to an exit status; errors go to stderr with the tool's name before them.

mod files;
mod init;
mod processes;
mod sh;
mod system;
mod text;

use std::ffi::OsString;
use std::path::Path;

/// What a tool answers: its exit status, or an error that is printed and becomes status 1.
type Outcome = Result<i32, String>;
type Tool = fn(&[String]) -> Outcome;

const TOOLS: &[(&str, Tool)] = &[
    ("cat", text::cat),
    ("chmod", files::chmod),
    ("cp", files::cp),
    ("dmesg", system::dmesg),
    ("echo", text::echo),
    ("env", processes::env),
    ("false", |_| Ok(1)),
    ("free", system::free),
    ("grep", text::grep),
    ("head", text::head),
    ("init", init::main),
    ("kill", processes::kill),
    ("ln", files::ln),
    ("ls", files::ls),
    ("mkdir", files::mkdir),
    ("mount", system::mount),
    ("mv", files::mv),
    ("poweroff", system::poweroff),
    ("ps", processes::ps),
    ("pwd", files::pwd),
    ("reboot", system::reboot),
    ("rm", files::rm),
    ("rmdir", files::rmdir),
    ("sh", sh::main),
    ("sleep", processes::sleep),
    ("tail", text::tail),
    ("touch", files::touch),
    ("trace", system::trace),
    ("true", |_| Ok(0)),
    ("umount", system::umount),
    ("uname", system::uname),
    ("wc", text::wc),
];

fn main() {
    // Rust programs start with SIGPIPE ignored; these are meant to die quietly of `ls | head`, and so are their
    // children. SAFETY: no handler is installed, only the default restored.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    let arguments: Vec<String> = std::env::args_os().map(text_of).collect();
    std::process::exit(run(&arguments));
}

/// Finds the tool by its name and runs it.
fn run(arguments: &[String]) -> i32 {
    let name = arguments.first().map(String::as_str).unwrap_or_default();
    // A login shell's name begins with a dash.
    let base = Path::new(name).file_name().and_then(|name| name.to_str()).unwrap_or(name).trim_start_matches('-');
    if base == "tools" {
        if arguments.len() > 1 {
            return run(&arguments[1..]);
        }
        let names: Vec<&str> = TOOLS.iter().map(|(name, _)| *name).collect();
        println!("usage: tools NAME [ARGUMENT…]\nnames: {}", names.join(" "));
        return 2;
    }
    // The first process is init, whatever it was called.
    let is_first = std::process::id() == 1 && arguments.len() <= 1 && base != "sh";
    let Some((_, tool)) = TOOLS.iter().find(|(name, _)| *name == if is_first { "init" } else { base }) else {
        eprintln!("tools: {base}: there is no tool of this name");
        return 127;
    };
    tool(arguments.get(1..).unwrap_or_default()).unwrap_or_else(|error| {
        eprintln!("{base}: {error}");
        1
    })
}

/// The tools work on text: what isn't UTF-8 is replaced.
fn text_of(bytes: OsString) -> String {
    bytes.to_string_lossy().into_owned()
}

/// Splits arguments into single-letter options and the rest: `-lt x` gives "lt" and ["x"]. `--` ends the options.
fn options(arguments: &[String]) -> (String, &[String]) {
    let mut letters = String::new();
    for (index, argument) in arguments.iter().enumerate() {
        match argument.strip_prefix('-') {
            Some("-") => return (letters, &arguments[index + 1..]),
            Some(more) if !more.is_empty() => letters.push_str(more),
            _ => return (letters, &arguments[index..]),
        }
    }
    (letters, &[])
}

/// Does something with each path, reports each failure by the path's name, and answers with the status of all.
fn for_each(paths: &[String], mut action: impl FnMut(&str) -> std::io::Result<()>) -> Outcome {
    if paths.is_empty() {
        return Err("a path is missing".into());
    }
    let mut status = 0;
    for path in paths {
        if let Err(error) = action(path) {
            eprintln!("{path}: {}", reason(&error));
            status = 1;
        }
    }
    Ok(status)
}

/// The system's words for an error, without Rust's "(os error N)".
fn reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}

/// The result of a libc call that answers -1 for an error.
fn checked(result: impl Into<i64>) -> std::io::Result<i64> {
    match result.into() {
        -1 => Err(std::io::Error::last_os_error()),
        value => Ok(value),
    }
}
