//! A small shell, to be read in one sitting: pipes, redirection, `&`, `;`, `&&`, `||`, `!`, variables, `$?`, `$(…)`,
//! quotes, wildcards, `if`, `while`, `for`, `{ }`, `( )`, and jobs that ^Z stops.
//!
//! A command's way: `lexer` cuts text into tokens, `parser` makes a tree of them, `expand` turns words into arguments,
//! `execute` forks, connects and waits; `builtins` are the commands that must run in the shell itself.

mod builtins;
mod execute;
mod expand;
mod lexer;
mod parser;

use crate::{Outcome, reason};
use std::collections::BTreeMap;
use std::fs;
use std::io::{Write, stderr};

/// A variable's value, and whether programs see it.
struct Variable {
    value: String,
    exported: bool,
}

/// A pipeline in the background, or stopped.
struct Job {
    group: i32,
    processes: Vec<i32>,
    text: String,
    stopped: bool,
}

pub struct Shell {
    variables: BTreeMap<String, Variable>,
    /// $0, $1 …
    arguments: Vec<String>,
    /// $?
    status: i32,
    /// $!
    last_background: i32,
    jobs: Vec<Job>,
    /// Reads from a terminal: shows prompts, and gives each pipeline a process group of its own.
    interactive: bool,
    /// What `exit` asked for.
    ending: Option<i32>,
}

/// `sh [-c TEXT [NAME ARGUMENT…] | FILE ARGUMENT…]`
pub fn main(arguments: &[String]) -> Outcome {
    let mut shell = Shell::new();
    match arguments {
        [option, text, rest @ ..] if option == "-c" => {
            shell.arguments = if rest.is_empty() { vec!["sh".into()] } else { rest.to_vec() };
            shell.run_text(text);
        }
        [file, ..] if !file.starts_with('-') => {
            let text = fs::read(file).map_err(|error| format!("{file}: {}", reason(&error)))?;
            shell.arguments = arguments.to_vec();
            shell.run_text(&String::from_utf8_lossy(&text));
        }
        _ => {
            // SAFETY: touches no memory.
            shell.interactive = unsafe { libc::isatty(0) } == 1;
            if shell.interactive {
                execute::ignore_terminal_signals();
            }
            shell.run_input();
        }
    }
    Ok(shell.ending.unwrap_or(shell.status))
}

impl Shell {
    fn new() -> Shell {
        let variables = std::env::vars_os()
            .map(|(name, value)| (crate::text_of(name), Variable { value: crate::text_of(value), exported: true }))
            .collect();
        Shell {
            variables,
            arguments: vec!["sh".into()],
            status: 0,
            last_background: 0,
            jobs: Vec::new(),
            interactive: false,
            ending: None,
        }
    }

    /// Runs a whole script.
    fn run_text(&mut self, text: &str) {
        match parser::parse(text) {
            Ok(list) => self.execute_list(&list),
            Err(error) => self.complain(&error.to_string()),
        }
    }

    /// Reads commands from standard input and runs each when it is complete.
    fn run_input(&mut self) {
        let mut text = String::new();
        while self.ending.is_none() {
            if self.interactive {
                self.report_jobs();
                self.prompt(text.is_empty());
            }
            let Some(line) = read_line() else {
                if !text.is_empty() {
                    self.complain("unexpected end of input");
                }
                return;
            };
            text.push_str(&line);
            match parser::parse(&text) {
                Err(parser::Error::Incomplete) => continue,
                Err(error) => self.complain(&error.to_string()),
                Ok(list) => self.execute_list(&list),
            }
            text.clear();
        }
    }

    fn prompt(&self, first: bool) {
        let folder = std::env::current_dir().map(|path| path.display().to_string()).unwrap_or_default();
        // SAFETY: touches no memory.
        let sign = if unsafe { libc::geteuid() } == 0 { '#' } else { '$' };
        // A lost prompt is no reason to stop reading.
        let _ = if first { write!(stderr(), "keel:{folder}{sign} ") } else { write!(stderr(), "> ") };
    }

    fn complain(&mut self, text: &str) {
        eprintln!("sh: {text}");
        self.status = 2;
    }

    fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(|variable| variable.value.as_str())
    }

    fn set_variable(&mut self, name: &str, value: String) {
        match self.variables.get_mut(name) {
            Some(variable) => variable.value = value,
            None => drop(self.variables.insert(name.into(), Variable { value, exported: false })),
        }
    }
}

/// One line from descriptor 0, byte by byte: a command that is started reads on where the shell stopped.
fn read_line() -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        let mut byte = 0_u8;
        // SAFETY: the kernel writes at most one byte.
        match unsafe { libc::read(0, (&raw mut byte).cast(), 1) } {
            1 => bytes.push(byte),
            -1 if std::io::Error::last_os_error().kind() == std::io::ErrorKind::Interrupted => continue,
            _ if bytes.is_empty() => return None,
            _ => break,
        }
        if byte == b'\n' {
            break;
        }
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}
