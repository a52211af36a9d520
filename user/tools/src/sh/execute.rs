//! Runs the tree: forks, connects descriptors, executes, waits.
//!
//! In an interactive shell each pipeline is a process group and the terminal's foreground group while it runs, so that
//! ^C and ^Z reach it and not the shell.

use super::lexer::{Part, Word};
use super::parser::{Command, Kind, List, Pipeline, Redirection, When, parse};
use super::{Job, Shell};
use crate::{checked, reason};
use std::ffi::{CString, OsStr};
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

const TERMINAL_SIGNALS: [i32; 5] = [libc::SIGINT, libc::SIGQUIT, libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU];

/// An interactive shell is not stopped or killed by keys that are meant for its commands.
pub fn ignore_terminal_signals() {
    set_terminal_signals(libc::SIG_IGN);
    // Its own group owns the terminal while it reads. Where there are no groups, the shell works all the same.
    // SAFETY: the calls take no pointers.
    unsafe {
        libc::setpgid(0, 0);
        libc::tcsetpgrp(0, libc::getpgrp());
    }
}

fn set_terminal_signals(action: libc::sighandler_t) {
    for signal in TERMINAL_SIGNALS {
        // SAFETY: no handler is installed: the action is to ignore, or the default.
        unsafe { libc::signal(signal, action) };
    }
}

/// How a process that was waited for is now.
enum State {
    Ended(i32),
    Stopped,
}

impl Shell {
    pub(super) fn execute_list(&mut self, list: &List) {
        for and_or in list {
            if and_or.background {
                self.start_in_background(&and_or.pipelines);
                continue;
            }
            self.execute_and_or(&and_or.pipelines);
            if self.ending.is_some() {
                return;
            }
        }
    }

    fn execute_and_or(&mut self, pipelines: &[(When, Pipeline)]) {
        for (when, pipeline) in pipelines {
            let runs = match when {
                When::Always => true,
                When::AfterSuccess => self.status == 0,
                When::AfterFailure => self.status != 0,
            };
            if runs {
                self.execute_pipeline(pipeline);
            }
            if self.ending.is_some() {
                return;
            }
        }
    }

    fn start_in_background(&mut self, pipelines: &[(When, Pipeline)]) {
        let result = match pipelines {
            // A single pipeline's commands are the job's processes themselves.
            [(_, pipeline)] => self.start(&pipeline.commands, true),
            _ => self.fork_child(0, true, None, None, |shell| shell.execute_and_or(pipelines)).map(|child| vec![child]),
        };
        match result {
            Ok(processes) => {
                let group = processes.first().copied().unwrap_or(0);
                self.last_background = processes.last().copied().unwrap_or(0);
                self.jobs.push(Job { group, processes, text: describe(pipelines), stopped: false });
                if self.interactive {
                    eprintln!("[{}] {}", self.jobs.len(), self.last_background);
                }
                self.status = 0;
            }
            Err(error) => self.complain(&reason(&error)),
        }
    }

    fn execute_pipeline(&mut self, pipeline: &Pipeline) {
        match pipeline.commands.as_slice() {
            [command] if self.runs_in_shell(command) => self.execute_here(command),
            commands => match self.start(commands, false) {
                Ok(processes) => self.wait_in_foreground(processes, describe_pipeline(pipeline)),
                Err(error) => self.complain(&reason(&error)),
            },
        }
        if pipeline.negated {
            self.status = i32::from(self.status == 0);
        }
    }

    /// Compound commands, assignments and built-in commands run in the shell itself, so that they can change it.
    fn runs_in_shell(&mut self, command: &Command) -> bool {
        match &command.kind {
            Kind::Subshell(_) => false,
            Kind::Simple { words, .. } => match words.first() {
                None => true,
                Some(word) => {
                    let word = word.clone();
                    // `$(…)` isn't run just to look at the name.
                    !word.iter().any(|part| matches!(part, Part::Output { .. })) && {
                        let name = self.expand_single(&word);
                        super::builtins::find(&name).is_some()
                    }
                }
            },
            _ => true,
        }
    }

    /// Runs a command in the shell, with its redirections undone afterwards.
    fn execute_here(&mut self, command: &Command) {
        let mut saved = Vec::new();
        for redirection in &command.redirections {
            // SAFETY: the calls take no pointers. The copy is above the descriptors that scripts name, and not
            // inherited.
            let copy = unsafe { libc::fcntl(redirection.descriptor, libc::F_DUPFD_CLOEXEC, 10) };
            saved.push((redirection.descriptor, copy));
            if let Err(error) = self.redirect(redirection) {
                self.complain(&error);
                restore(saved);
                self.status = 1;
                return;
            }
        }
        self.execute_kind(&command.kind);
        restore(saved);
    }

    fn execute_kind(&mut self, kind: &Kind) {
        match kind {
            Kind::Subshell(list) | Kind::Group(list) => self.execute_list(list),
            Kind::If { condition, then, otherwise } => {
                self.execute_list(condition);
                let chosen = if self.status == 0 { then } else { otherwise };
                self.status = 0;
                if self.ending.is_none() {
                    self.execute_list(chosen);
                }
            }
            Kind::While { condition, body, wanted } => loop {
                self.execute_list(condition);
                if (self.status == 0) != *wanted || self.ending.is_some() {
                    self.status = 0;
                    return;
                }
                self.execute_list(body);
            },
            Kind::For { name, words, body } => {
                self.status = 0;
                for value in self.expand_words(words) {
                    self.set_variable(name, value);
                    self.execute_list(body);
                    if self.ending.is_some() {
                        return;
                    }
                }
            }
            Kind::Simple { assignments, words } => {
                let arguments = self.expand_words(words);
                if arguments.is_empty() {
                    self.status = 0;
                }
                for (name, value) in assignments {
                    let value = self.expand_single(value);
                    self.set_variable(name, value);
                }
                if let Some((name, rest)) = arguments.split_first() {
                    match super::builtins::find(name) {
                        Some(builtin) => self.status = builtin(self, rest),
                        None => self.become_program(name, &arguments),
                    }
                }
            }
        }
    }

    /// Starts a pipeline's commands, each reading what the one before it writes.
    fn start(&mut self, commands: &[Command], background: bool) -> io::Result<Vec<i32>> {
        let mut processes: Vec<i32> = Vec::new();
        let mut input: Option<File> = None;
        for (index, command) in commands.iter().enumerate() {
            let (next_input, output) = match index + 1 < commands.len() {
                true => pipe().map(|(read_end, write_end)| (Some(read_end), Some(write_end)))?,
                false => (None, None),
            };
            let group = processes.first().copied().unwrap_or(0);
            let child = self.fork_child(group, background, input.as_ref(), output.as_ref(), |shell| {
                for redirection in &command.redirections {
                    if let Err(error) = shell.redirect(redirection) {
                        shell.complain(&error);
                        shell.status = 1;
                        return;
                    }
                }
                shell.execute_kind(&command.kind);
            })?;
            processes.push(child);
            input = next_input;
        }
        Ok(processes)
    }

    /// Forks a child that does something and ends with the shell's status.
    fn fork_child(
        &mut self,
        group: i32,
        background: bool,
        input: Option<&File>,
        output: Option<&File>,
        action: impl FnOnce(&mut Shell),
    ) -> io::Result<i32> {
        // SAFETY: this process has one thread, so the child may do whatever the parent may.
        let child = checked(unsafe { libc::fork() })? as i32;
        if child != 0 {
            if self.interactive {
                // SAFETY: takes no pointers. Parent and child both do it, as neither knows who runs first.
                unsafe { libc::setpgid(child, if group == 0 { child } else { group }) };
            }
            return Ok(child);
        }
        if self.interactive {
            // SAFETY: the calls take no pointers; the shell's ignored signals include SIGTTOU still.
            unsafe {
                libc::setpgid(0, group);
                if !background {
                    libc::tcsetpgrp(0, libc::getpgrp());
                }
            }
            set_terminal_signals(libc::SIG_DFL);
            self.interactive = false;
        } else if background && input.is_none() {
            // Without job control a background command doesn't read the shell's own input.
            if let Ok(null) = File::open("/dev/null") {
                replace(&null, 0);
            }
        }
        self.jobs.clear();
        for (file, descriptor) in [(input, 0), (output, 1)] {
            if let Some(file) = file {
                replace(file, descriptor);
            }
        }
        action(self);
        std::process::exit(self.ending.unwrap_or(self.status))
    }

    fn redirect(&mut self, redirection: &Redirection) -> Result<(), String> {
        let target = self.expand_single(&redirection.target);
        let fail = |error: io::Error| format!("{target}: {}", reason(&error));
        if redirection.operator.ends_with('&') {
            if target == "-" {
                // SAFETY: takes no pointers.
                unsafe { libc::close(redirection.descriptor) };
                return Ok(());
            }
            let source: i32 = target.parse().map_err(|_| format!("{target}: not a descriptor"))?;
            // SAFETY: takes no pointers.
            return checked(unsafe { libc::dup2(source, redirection.descriptor) }).map(drop).map_err(fail);
        }
        let file = match redirection.operator {
            "<" => File::open(&target),
            ">>" => OpenOptions::new().append(true).create(true).open(&target),
            _ => File::create(&target),
        };
        let file = file.map_err(fail)?;
        if file.as_raw_fd() == redirection.descriptor {
            // The lowest free descriptor happened to be the wanted one: keep it, and let programs inherit it.
            let descriptor = file.into_raw_fd();
            // SAFETY: takes no pointers.
            unsafe { libc::fcntl(descriptor, libc::F_SETFD, 0) };
        } else {
            replace(&file, redirection.descriptor);
        }
        Ok(())
    }

    /// In a child: replaces the shell by a program. Comes back only to leave the reason as the status.
    pub(super) fn become_program(&mut self, name: &str, arguments: &[String]) {
        let strings = |texts: Vec<String>| -> Vec<CString> {
            texts.into_iter().filter_map(|text| CString::new(text).ok()).collect()
        };
        let arguments = strings(arguments.to_vec());
        let exported = self.variables.iter().filter(|(_, variable)| variable.exported);
        let environment = strings(exported.map(|(name, variable)| format!("{name}={}", variable.value)).collect());
        let mut error = io::Error::from_raw_os_error(libc::ENOENT);
        for path in self.places_of(name) {
            let Ok(path) = CString::new(path) else { continue };
            execve(&path, &arguments, &environment);
            let this = io::Error::last_os_error();
            if this.raw_os_error() != Some(libc::ENOENT) {
                error = this;
                break;
            }
        }
        eprintln!(
            "sh: {name}: {}",
            if error.kind() == io::ErrorKind::NotFound { "not found".into() } else { reason(&error) }
        );
        self.status = if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 };
    }

    /// Where a command may be: as named if the name has a slash, else in each folder of PATH.
    fn places_of(&self, name: &str) -> Vec<String> {
        if name.contains('/') {
            return vec![name.into()];
        }
        let path = self.variable("PATH").unwrap_or("/bin:/sbin:/usr/bin:/usr/sbin");
        path.split(':').map(|folder| Path::new(folder).join(name).display().to_string()).collect()
    }

    /// Waits for a pipeline; its last command's status is $?.
    fn wait_in_foreground(&mut self, processes: Vec<i32>, text: String) {
        let Some(&group) = processes.first() else { return };
        let mut stopped = false;
        for (index, &process) in processes.iter().enumerate() {
            match wait_for(process) {
                State::Ended(status) if index + 1 == processes.len() => self.status = status,
                State::Ended(_) => {}
                State::Stopped => stopped = true,
            }
        }
        if self.interactive {
            // SAFETY: takes no pointers. The terminal is the shell's again.
            unsafe { libc::tcsetpgrp(0, libc::getpgrp()) };
        }
        if stopped {
            self.status = 128 + libc::SIGTSTP;
            eprintln!("\n[{}] stopped  {text}", self.jobs.len() + 1);
            self.jobs.push(Job { group, processes, text, stopped: true });
        } else if self.interactive && self.status == 128 + libc::SIGINT {
            eprintln!();
        }
    }

    /// Lets a job go on, in the foreground or the background.
    pub(super) fn resume(&mut self, index: usize, foreground: bool) {
        let mut job = self.jobs.remove(index);
        eprintln!("{}", job.text);
        // SAFETY: the calls take no pointers.
        unsafe {
            if foreground {
                libc::tcsetpgrp(0, job.group);
            }
            libc::kill(-job.group, libc::SIGCONT);
        }
        if foreground {
            self.wait_in_foreground(job.processes, job.text);
        } else {
            job.stopped = false;
            self.jobs.insert(index, job);
        }
    }

    /// Waits for all background jobs that run.
    pub(super) fn wait_for_jobs(&mut self) {
        for job in std::mem::take(&mut self.jobs) {
            if job.stopped {
                self.jobs.push(job);
                continue;
            }
            for process in job.processes {
                if let State::Ended(status) = wait_for(process) {
                    self.status = status;
                }
            }
        }
    }

    /// Says which background jobs have ended since the last prompt.
    pub(super) fn report_jobs(&mut self) {
        let mut number = 0;
        self.jobs.retain_mut(|job| {
            number += 1;
            // SAFETY: a NULL status is allowed.
            job.processes
                .retain(|&process| unsafe { libc::waitpid(process, std::ptr::null_mut(), libc::WNOHANG) } == 0);
            if job.processes.is_empty() {
                eprintln!("[{number}] done  {}", job.text);
            }
            !job.processes.is_empty()
        });
    }

    /// `$(…)`: what the command prints, without the line ends at its end.
    pub(super) fn output_of(&mut self, command: &str) -> String {
        let list = match parse(command) {
            Ok(list) => list,
            Err(error) => {
                self.complain(&error.to_string());
                return String::new();
            }
        };
        let interactive = std::mem::take(&mut self.interactive);
        let result = pipe().and_then(|(mut read_end, write_end)| {
            let child = self.fork_child(0, false, None, Some(&write_end), |shell| shell.execute_list(&list))?;
            drop(write_end);
            let mut bytes = Vec::new();
            read_end.read_to_end(&mut bytes)?;
            if let State::Ended(status) = wait_for(child) {
                self.status = status;
            }
            Ok(String::from_utf8_lossy(&bytes).trim_end_matches('\n').to_owned())
        });
        self.interactive = interactive;
        result.unwrap_or_else(|error| {
            self.complain(&reason(&error));
            String::new()
        })
    }
}

fn describe(pipelines: &[(When, Pipeline)]) -> String {
    pipelines.iter().map(|(_, pipeline)| describe_pipeline(pipeline)).collect::<Vec<_>>().join(" … ")
}

/// A pipeline as a person recognises it in `jobs`: its commands' plain words.
fn describe_pipeline(pipeline: &Pipeline) -> String {
    let command = |command: &Command| match &command.kind {
        Kind::Simple { words, .. } => words.iter().map(plain_text).collect::<Vec<_>>().join(" "),
        _ => "(…)".into(),
    };
    pipeline.commands.iter().map(command).collect::<Vec<_>>().join(" | ")
}

fn plain_text(word: &Word) -> String {
    word.iter()
        .map(|part| match part {
            Part::Text { text, .. } => text.clone(),
            Part::Variable { name, .. } => format!("${name}"),
            Part::Output { command, .. } => format!("$({command})"),
        })
        .collect()
}

/// Puts saved descriptors back where they were, in reverse; -1 stands for one that was closed.
fn restore(saved: Vec<(i32, i32)>) {
    for (descriptor, copy) in saved.into_iter().rev() {
        // SAFETY: takes no pointers; each copy is closed once.
        unsafe {
            if copy < 0 {
                libc::close(descriptor);
            } else {
                libc::dup2(copy, descriptor);
                libc::close(copy);
            }
        }
    }
}

fn replace(file: &File, descriptor: i32) {
    // SAFETY: takes no pointers. dup2 also clears close-on-exec, which a file that is on its number already would keep.
    unsafe {
        if file.as_raw_fd() == descriptor {
            libc::fcntl(descriptor, libc::F_SETFD, 0);
        } else {
            libc::dup2(file.as_raw_fd(), descriptor);
        }
    }
}

/// A pipe's read end and write end, both closed on exec.
fn pipe() -> io::Result<(File, File)> {
    let mut ends = [0; 2];
    // SAFETY: the kernel writes two descriptors, which nobody else owns.
    unsafe {
        checked(libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC))?;
        Ok((File::from_raw_fd(ends[0]), File::from_raw_fd(ends[1])))
    }
}

fn execve(path: &CString, arguments: &[CString], environment: &[CString]) {
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (argument_pointers, environment_pointers) = (pointers(arguments), pointers(environment));
    // SAFETY: both vectors hold strings that live until the call returns, and end with a NULL.
    unsafe { libc::execve(path.as_ptr(), argument_pointers.as_ptr(), environment_pointers.as_ptr()) };
    // A script without `#!` is the shell's own affair.
    if io::Error::last_os_error().raw_os_error() == Some(libc::ENOEXEC) {
        let text = OsStr::from_bytes(path.as_bytes()).to_string_lossy().into_owned();
        if let Ok(script) = std::fs::read(&text) {
            let mut shell = Shell::new();
            shell.arguments = std::iter::once(text)
                .chain(arguments.iter().skip(1).map(|argument| argument.to_string_lossy().into_owned()))
                .collect();
            shell.run_text(&String::from_utf8_lossy(&script));
            std::process::exit(shell.ending.unwrap_or(shell.status));
        }
    }
}

fn wait_for(process: i32) -> State {
    let mut status = 0;
    loop {
        // SAFETY: the kernel writes one int.
        match checked(unsafe { libc::waitpid(process, &mut status, libc::WUNTRACED) }) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return State::Ended(127),
            Ok(_) if libc::WIFSTOPPED(status) => return State::Stopped,
            Ok(_) if libc::WIFSIGNALED(status) => return State::Ended(128 + libc::WTERMSIG(status)),
            Ok(_) => return State::Ended(libc::WEXITSTATUS(status)),
        }
    }
}
