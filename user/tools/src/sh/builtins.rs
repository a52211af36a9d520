//! The commands that must run in the shell itself, because they change it: its folder, variables, jobs, or life.

use super::Shell;
use crate::reason;

type Builtin = fn(&mut Shell, &[String]) -> i32;

const BUILTINS: &[(&str, Builtin)] = &[
    (".", source),
    (":", |_, _| 0),
    ("[", test),
    ("bg", |shell, arguments| resume(shell, arguments, false)),
    ("cd", cd),
    ("exec", exec),
    ("exit", exit),
    ("export", export),
    ("fg", |shell, arguments| resume(shell, arguments, true)),
    ("help", help),
    ("jobs", jobs),
    ("kill", kill),
    ("read", read),
    ("set", set),
    ("shift", shift),
    ("test", test),
    ("umask", umask),
    ("unset", unset),
    ("wait", wait),
];

pub fn find(name: &str) -> Option<Builtin> {
    BUILTINS.iter().find(|(known, _)| *known == name).map(|(_, builtin)| *builtin)
}

fn help(_: &mut Shell, _: &[String]) -> i32 {
    let names: Vec<&str> = BUILTINS.iter().map(|(name, _)| *name).collect();
    println!("built in: {}", names.join(" "));
    println!("programs: ls /bin");
    0
}

fn cd(shell: &mut Shell, arguments: &[String]) -> i32 {
    let home = shell.variable("HOME").unwrap_or("/").to_owned();
    let folder = arguments.first().unwrap_or(&home);
    match std::env::set_current_dir(folder) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("cd: {folder}: {}", reason(&error));
            1
        }
    }
}

/// `exec COMMAND…`: the program takes the shell's place.
fn exec(shell: &mut Shell, arguments: &[String]) -> i32 {
    if let Some(name) = arguments.first() {
        let name = name.clone();
        shell.become_program(&name, arguments);
        shell.ending = Some(shell.status);
    }
    shell.status
}

fn exit(shell: &mut Shell, arguments: &[String]) -> i32 {
    let status =
        arguments.first().and_then(|text| text.parse::<i32>().ok()).map_or(shell.status, |status| status & 0xff);
    shell.ending = Some(status);
    status
}

/// `export NAME…`, `export NAME=value…`
fn export(shell: &mut Shell, arguments: &[String]) -> i32 {
    for argument in arguments {
        let (name, value) = match argument.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (argument.as_str(), None),
        };
        let old = shell.variable(name).unwrap_or_default().to_owned();
        shell.set_variable(name, value.map_or(old, str::to_owned));
        if let Some(variable) = shell.variables.get_mut(name) {
            variable.exported = true;
        }
    }
    0
}

fn unset(shell: &mut Shell, arguments: &[String]) -> i32 {
    for name in arguments {
        shell.variables.remove(name);
    }
    0
}

/// `set`: shows the variables. `set -- WORD…` gives $1, $2 … new values.
fn set(shell: &mut Shell, arguments: &[String]) -> i32 {
    match arguments.split_first() {
        Some((option, words)) if option == "--" => {
            shell.arguments.truncate(1);
            shell.arguments.extend_from_slice(words);
        }
        _ => {
            for (name, variable) in &shell.variables {
                println!("{name}={}", variable.value);
            }
        }
    }
    0
}

fn shift(shell: &mut Shell, _: &[String]) -> i32 {
    if shell.arguments.len() < 2 {
        return 1;
    }
    shell.arguments.remove(1);
    0
}

/// `read NAME…`: a line's words; the last name gets the rest.
fn read(shell: &mut Shell, names: &[String]) -> i32 {
    let Some(line) = super::read_line() else { return 1 };
    let mut rest = line.trim();
    for (index, name) in names.iter().enumerate() {
        let (word, tail) = match rest.split_once(char::is_whitespace) {
            Some((word, tail)) if index + 1 < names.len() => (word, tail.trim_start()),
            _ => (rest, ""),
        };
        shell.set_variable(name, word.to_owned());
        rest = tail;
    }
    0
}

fn source(shell: &mut Shell, arguments: &[String]) -> i32 {
    let Some(path) = arguments.first() else { return 2 };
    match std::fs::read(path) {
        Ok(text) => {
            shell.run_text(&String::from_utf8_lossy(&text));
            shell.status
        }
        Err(error) => {
            eprintln!("{path}: {}", reason(&error));
            1
        }
    }
}

fn umask(_: &mut Shell, arguments: &[String]) -> i32 {
    // SAFETY: takes no pointers. The mask can only be read by setting it.
    unsafe {
        match arguments.first().map(|text| u32::from_str_radix(text, 8)) {
            Some(Ok(mask)) => drop(libc::umask(mask)),
            Some(Err(_)) => return 1,
            None => {
                let mask = libc::umask(0);
                libc::umask(mask);
                println!("{mask:04o}");
            }
        }
    }
    0
}

fn wait(shell: &mut Shell, _: &[String]) -> i32 {
    shell.status = 0;
    shell.wait_for_jobs();
    shell.status
}

fn jobs(shell: &mut Shell, _: &[String]) -> i32 {
    for (index, job) in shell.jobs.iter().enumerate() {
        println!("[{}] {}  {}", index + 1, if job.stopped { "stopped" } else { "running" }, job.text);
    }
    0
}

/// The program's `kill`, which doesn't know that `%N` means a job.
fn kill(shell: &mut Shell, arguments: &[String]) -> i32 {
    let mut words = Vec::new();
    let mut stopped = Vec::new();
    for argument in arguments {
        let Some(job) = argument.strip_prefix('%') else {
            words.push(argument.clone());
            continue;
        };
        let Some(index) = job_index(shell, job) else { return 1 };
        let job = &shell.jobs[index];
        words.extend(job.processes.iter().map(i32::to_string));
        if job.stopped {
            stopped.push(job.group);
        }
    }
    let status = crate::processes::kill(&words).unwrap_or_else(|error| {
        eprintln!("kill: {error}");
        1
    });
    for group in stopped {
        // SAFETY: takes no pointers. Who is stopped takes no other signal but SIGKILL.
        unsafe { libc::kill(-group, libc::SIGCONT) };
    }
    status
}

/// `fg [%N]`, `bg [%N]`: without a number, the newest job.
fn resume(shell: &mut Shell, arguments: &[String], foreground: bool) -> i32 {
    let newest = shell.jobs.len().to_string();
    let number = arguments.first().map_or(newest.as_str(), |text| text.trim_start_matches('%'));
    let Some(index) = job_index(shell, number) else { return 1 };
    shell.resume(index, foreground);
    shell.status
}

/// Where the job of that number is; says so if there is none.
fn job_index(shell: &Shell, number: &str) -> Option<usize> {
    let index = number.parse::<usize>().ok().and_then(|number| number.checked_sub(1));
    let found = index.filter(|index| *index < shell.jobs.len());
    if found.is_none() {
        eprintln!("sh: %{number}: no such job");
    }
    found
}

/// `test` and `[`: one comparison, with `!` before it or not.
fn test(_: &mut Shell, arguments: &[String]) -> i32 {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let words = match words.as_slice() {
        [words @ .., "]"] => words,
        words => words,
    };
    let (negated, words) = match words {
        ["!", rest @ ..] => (true, rest),
        words => (false, words),
    };
    match compare(words) {
        Some(holds) => i32::from(holds == negated),
        None => {
            eprintln!("test: can't be understood: {}", words.join(" "));
            2
        }
    }
}

fn compare(words: &[&str]) -> Option<bool> {
    let metadata = |path: &str| std::fs::metadata(path).ok();
    Some(match words {
        [] => false,
        [text] => !text.is_empty(),
        ["-n", text] => !text.is_empty(),
        ["-z", text] => text.is_empty(),
        ["-e", path] => metadata(path).is_some(),
        ["-f", path] => metadata(path).is_some_and(|metadata| metadata.is_file()),
        ["-d", path] => metadata(path).is_some_and(|metadata| metadata.is_dir()),
        ["-s", path] => metadata(path).is_some_and(|metadata| metadata.len() > 0),
        [left, "=" | "==", right] => left == right,
        [left, "!=", right] => left != right,
        [left, operator, right] => {
            let (left, right) = (left.parse::<i64>().ok()?, right.parse::<i64>().ok()?);
            match *operator {
                "-eq" => left == right,
                "-ne" => left != right,
                "-lt" => left < right,
                "-le" => left <= right,
                "-gt" => left > right,
                "-ge" => left >= right,
                _ => return None,
            }
        }
        _ => return None,
    })
}
