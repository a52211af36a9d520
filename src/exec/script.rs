//! `#!`: the first line of a script names its interpreter, and at most one argument for it (`execve(2)`, "Interpreter
//! scripts"). Pure: a head in, slices of it out.

use super::{HEAD_SIZE, Head};
use crate::errno::Errno;

/// What a script's first line says; everything after the interpreter's path is one argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Script<'head> {
    pub interpreter: &'head [u8],
    pub argument: Option<&'head [u8]>,
}

pub fn has_magic(head: &Head) -> bool {
    head.starts_with(b"#!")
}

/// Reads the line with Linux's rules. Without a newline in the head the path must still end in it (at a blank or a
/// NUL), so that no truncated path is run; a truncated argument is let through, as the interpreter can read the script.
pub fn parse(head: &Head) -> Result<Script<'_>, Errno> {
    let line = head.strip_prefix(b"#!").ok_or(Errno::ENOEXEC)?;
    let line = match line.iter().position(|byte| *byte == b'\n') {
        Some(end) => trim_end(line.get(..end).unwrap_or_default()),
        None => {
            // The last byte of the head is taken for the terminator that it would be in Linux's buffer.
            let name = trim_start(line);
            if name.is_empty() || !name.iter().any(|byte| is_blank(*byte) || *byte == 0) {
                return Err(Errno::ENOEXEC);
            }
            trim_end(line.get(..HEAD_SIZE.saturating_sub(3)).unwrap_or_default())
        }
    };
    let name = trim_start(line);
    if name.is_empty() {
        return Err(Errno::ENOEXEC);
    }
    let end = name.iter().position(|byte| is_blank(*byte) || *byte == 0).unwrap_or(name.len());
    let (interpreter, rest) = name.split_at_checked(end).ok_or(Errno::ENOEXEC)?;
    let argument = match rest.first() {
        Some(0) | None => None,
        Some(_) => Some(until_nul(trim_start(rest))),
    };
    Ok(Script { interpreter, argument })
}

fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

fn trim_start(mut text: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = text
        && is_blank(*first)
    {
        text = rest;
    }
    text
}

fn trim_end(mut text: &[u8]) -> &[u8] {
    while let [rest @ .., last] = text
        && is_blank(*last)
    {
        text = rest;
    }
    text
}

fn until_nul(text: &[u8]) -> &[u8] {
    text.split(|byte| *byte == 0).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &[u8]) -> Head {
        let mut head = [0; HEAD_SIZE];
        head[..text.len()].copy_from_slice(text);
        head
    }

    fn parsed(text: &[u8]) -> Result<(Vec<u8>, Option<Vec<u8>>), Errno> {
        let head = head(text);
        parse(&head).map(|script| (script.interpreter.to_vec(), script.argument.map(<[u8]>::to_vec)))
    }

    fn line(interpreter: &str, argument: Option<&str>) -> Result<(Vec<u8>, Option<Vec<u8>>), Errno> {
        Ok((interpreter.as_bytes().to_vec(), argument.map(|text| text.as_bytes().to_vec())))
    }

    #[test]
    fn everything_after_the_interpreter_is_one_argument() {
        assert_eq!(parsed(b"#!/bin/sh\n"), line("/bin/sh", None));
        assert_eq!(parsed(b"#! \t/bin/sh -e -x \t\necho"), line("/bin/sh", Some("-e -x")));
        assert_eq!(parsed(b"#!/bin/sh \t \n"), line("/bin/sh", None));
        assert_eq!(parsed(b"#!/bin/sh"), line("/bin/sh", None));
    }

    #[test]
    fn a_line_without_newline_keeps_its_trailing_blank() {
        assert_eq!(parsed(b"#!/bin/sh -x "), line("/bin/sh", Some("-x ")));
    }

    #[test]
    fn an_empty_line_names_nothing() {
        assert_eq!(parsed(b"#!\n"), Err(Errno::ENOEXEC));
        assert_eq!(parsed(b"#! \t \n"), Err(Errno::ENOEXEC));
        assert_eq!(parse(&[b' '; HEAD_SIZE]), Err(Errno::ENOEXEC));
        let mut blanks = [b' '; HEAD_SIZE];
        blanks[..2].copy_from_slice(b"#!");
        assert_eq!(parse(&blanks), Err(Errno::ENOEXEC));
    }

    #[test]
    fn a_nul_ends_path_and_argument() {
        assert_eq!(parsed(b"#!/bin\0/sh\n"), line("/bin", None));
        assert_eq!(parsed(b"#!/bin/sh a\0b\n"), line("/bin/sh", Some("a")));
        assert_eq!(parsed(b"#!\0\n"), line("", None));
        assert_eq!(parsed(b"#!/bin/sh \0b\n"), line("/bin/sh", Some("")));
    }

    #[test]
    fn a_path_must_end_within_the_head_but_an_argument_may_be_cut() {
        let mut long = [b'x'; HEAD_SIZE];
        long[..3].copy_from_slice(b"#!/");
        assert_eq!(parse(&long), Err(Errno::ENOEXEC));
        long[100] = b' ';
        let script = parse(&long).unwrap();
        assert_eq!((script.interpreter.len(), script.argument.unwrap().len()), (98, HEAD_SIZE - 1 - 101));
        // A newline in the last byte still ends the line.
        long[100] = b'x';
        long[HEAD_SIZE - 1] = b'\n';
        assert_eq!(parse(&long).unwrap().interpreter.len(), HEAD_SIZE - 3);
    }
}
