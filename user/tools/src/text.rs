//! Tools that read text and print text: cat, echo, grep, head, tail, wc.

use crate::{Outcome, options, reason};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write, stdin, stdout};

/// A file by its name; `-` is standard input.
fn open(path: &str) -> std::io::Result<Box<dyn Read>> {
    Ok(if path == "-" { Box::new(stdin()) } else { Box::new(File::open(path)?) })
}

/// Does something with each named input, or with standard input if none is named.
fn for_each_input(paths: &[String], mut action: impl FnMut(&str, Box<dyn Read>) -> std::io::Result<()>) -> Outcome {
    let own = ["-".to_owned()];
    let mut status = 0;
    for path in if paths.is_empty() { &own } else { paths } {
        if let Err(error) = open(path).and_then(|input| action(path, input)) {
            eprintln!("{path}: {}", reason(&error));
            status = 1;
        }
    }
    Ok(status)
}

pub fn cat(arguments: &[String]) -> Outcome {
    for_each_input(arguments, |_, mut input| {
        // Straight through, not by lines: a terminal's output appears as it comes.
        let mut buffer = [0; 8192];
        let mut output = stdout().lock();
        loop {
            let count = match input.read(&mut buffer) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                result => result?,
            };
            if count == 0 {
                return Ok(());
            }
            output.write_all(&buffer[..count])?;
            output.flush()?;
        }
    })
}

/// `echo [-n] WORD…`
pub fn echo(arguments: &[String]) -> Outcome {
    let (end, words) = match arguments.split_first() {
        Some((first, rest)) if first == "-n" => ("", rest),
        _ => ("\n", arguments),
    };
    let line = words.join(" ") + end;
    stdout().write_all(line.as_bytes()).map_err(|error| reason(&error))?;
    Ok(0)
}

/// `grep [-vinc] TEXT [FILE…]`: lines that hold a text; no patterns.
pub fn grep(arguments: &[String]) -> Outcome {
    let (letters, rest) = options(arguments);
    let (wanted, paths) = rest.split_first().ok_or("usage: grep [-vinc] TEXT [FILE…]")?;
    let has = |letter| letters.contains(letter);
    let fold = |line: &str| if has('i') { line.to_lowercase() } else { line.to_owned() };
    let wanted = fold(wanted);
    let mut found = false;
    let status = for_each_input(paths, |path, input| {
        let mut count = 0;
        for (index, line) in BufReader::new(input).split(b'\n').enumerate() {
            let line = String::from_utf8_lossy(&line?).into_owned();
            if fold(&line).contains(&wanted) == has('v') {
                continue;
            }
            found = true;
            count += 1;
            if !has('c') {
                let name = if paths.len() > 1 { format!("{path}:") } else { String::new() };
                let number = if has('n') { format!("{}:", index + 1) } else { String::new() };
                println!("{name}{number}{line}");
            }
        }
        if has('c') {
            println!("{count}");
        }
        Ok(())
    })?;
    Ok(if status != 0 { 2 } else { i32::from(!found) })
}

/// `-n COUNT` or `-COUNT`, else 10; and the files that follow.
fn count_and_files(arguments: &[String]) -> Result<(usize, &[String]), String> {
    Ok(match arguments {
        [option, count, paths @ ..] if option == "-n" => (count.parse().map_err(|_| "-n wants a number")?, paths),
        [option, paths @ ..] if option.starts_with('-') && option.len() > 1 => {
            (option[1..].parse().map_err(|_| format!("{option}: not a number of lines"))?, paths)
        }
        paths => (10, paths),
    })
}

/// `tail [-n COUNT | -COUNT] [FILE…]`
pub fn tail(arguments: &[String]) -> Outcome {
    let (count, paths) = count_and_files(arguments)?;
    for_each_input(paths, |_, input| {
        let mut last = VecDeque::new();
        for line in BufReader::new(input).split(b'\n') {
            last.push_back(line?);
            if last.len() > count {
                last.pop_front();
            }
        }
        last.iter().try_for_each(|line| stdout().write_all(&[line.as_slice(), b"\n"].concat()))
    })
}

/// `head [-n COUNT | -COUNT] [FILE…]`
pub fn head(arguments: &[String]) -> Outcome {
    let (count, paths) = count_and_files(arguments)?;
    for_each_input(paths, |_, input| {
        for line in BufReader::new(input).split(b'\n').take(count) {
            stdout().write_all(&[line?, b"\n".to_vec()].concat())?;
        }
        Ok(())
    })
}

/// `wc [-lwc] [FILE…]`: lines, words, bytes.
pub fn wc(arguments: &[String]) -> Outcome {
    let (letters, paths) = options(arguments);
    let wanted = if letters.is_empty() { "lwc" } else { &letters };
    let print = |counts: [usize; 3], name: &str| {
        let columns: Vec<String> = "lwc"
            .chars()
            .zip(counts)
            .filter(|(letter, _)| wanted.contains(*letter))
            .map(|(_, count)| count.to_string())
            .collect();
        println!("{}{}{}", columns.join(" "), if name == "-" { "" } else { " " }, name.trim_start_matches('-'));
    };
    let mut total = [0; 3];
    let status = for_each_input(paths, |path, input| {
        let counts = count(input)?;
        for (sum, count) in total.iter_mut().zip(counts) {
            *sum += count;
        }
        print(counts, path);
        Ok(())
    })?;
    if paths.len() > 1 {
        print(total, "total");
    }
    Ok(status)
}

fn count(input: impl Read) -> std::io::Result<[usize; 3]> {
    let [mut lines, mut words, mut bytes] = [0; 3];
    let mut in_word = false;
    for byte in BufReader::new(input).bytes() {
        let byte = byte?;
        bytes += 1;
        lines += usize::from(byte == b'\n');
        words += usize::from(!in_word && !byte.is_ascii_whitespace());
        in_word = !byte.is_ascii_whitespace();
    }
    Ok([lines, words, bytes])
}
