//! Turns words into arguments: `~`, variables and `$(…)` are replaced, unquoted results are split at blanks, and unquoted
//! wildcards become the names that match.

use super::Shell;
use super::lexer::{Part, Word};
use std::fs;

/// A piece of an argument; in a quoted one, wildcards are ordinary characters.
struct Piece {
    text: String,
    quoted: bool,
}

impl Shell {
    /// All arguments that the words make.
    pub(super) fn expand_words(&mut self, words: &[Word]) -> Vec<String> {
        let mut arguments = Vec::new();
        for word in words {
            for field in self.fields(&self.with_home(word)) {
                arguments.extend(with_wildcards(&field));
            }
        }
        arguments
    }

    /// A word as one string, not split: for assignments and the targets of redirections.
    pub(super) fn expand_single(&mut self, word: &Word) -> String {
        self.with_home(word).iter().map(|part| self.part(part).0).collect()
    }

    /// An unquoted `~` that stands alone or before a slash at a word's start is the home folder.
    fn with_home(&self, word: &[Part]) -> Word {
        let mut word = word.to_vec();
        if let Some(Part::Text { text, quoted: false }) = word.first()
            && let Some(rest) = text.strip_prefix('~')
            && (rest.starts_with('/') || rest.is_empty() && word.len() == 1)
        {
            let rest = Part::Text { text: rest.to_owned(), quoted: false };
            let home = Part::Text { text: self.variable("HOME").unwrap_or("/").to_owned(), quoted: true };
            word.splice(..1, [home, rest]);
        }
        word
    }

    /// A part's text, and whether it counts as quoted.
    fn part(&mut self, part: &Part) -> (String, bool) {
        match part {
            Part::Text { text, quoted } => (text.clone(), *quoted),
            Part::Variable { name, quoted } => (self.parameter(name), *quoted),
            Part::Output { command, quoted } => (self.output_of(command), *quoted),
        }
    }

    fn parameter(&self, name: &str) -> String {
        match name {
            "?" => self.status.to_string(),
            "$" => std::process::id().to_string(),
            "!" => self.last_background.to_string(),
            "#" => self.arguments.len().saturating_sub(1).to_string(),
            "@" | "*" => self.arguments.get(1..).unwrap_or_default().join(" "),
            _ => match name.parse::<usize>() {
                Ok(index) => self.arguments.get(index).cloned().unwrap_or_default(),
                Err(_) => self.variable(name).unwrap_or_default().to_owned(),
            },
        }
    }

    /// Splits what an unquoted part gives at blanks; "$@" gives one field for each argument.
    fn fields(&mut self, word: &Word) -> Vec<Vec<Piece>> {
        if let [Part::Text { text, .. }, Part::Variable { name, quoted: true }, Part::Text { text: tail, .. }] =
            word.as_slice()
            && name == "@"
            && text.is_empty()
            && tail.is_empty()
        {
            let arguments = self.arguments.get(1..).unwrap_or_default();
            return arguments.iter().map(|text| vec![Piece { text: text.clone(), quoted: true }]).collect();
        }
        let mut fields: Vec<Vec<Piece>> = Vec::new();
        let mut current: Option<Vec<Piece>> = None;
        for part in word {
            let (text, quoted) = self.part(part);
            if quoted || matches!(part, Part::Text { .. }) {
                current.get_or_insert_default().push(Piece { text, quoted });
                continue;
            }
            if text.starts_with(char::is_whitespace) {
                fields.extend(current.take());
            }
            let mut words = text.split_whitespace().peekable();
            while let Some(text) = words.next() {
                current.get_or_insert_default().push(Piece { text: text.into(), quoted: false });
                if words.peek().is_some() {
                    fields.extend(current.take());
                }
            }
            if text.ends_with(char::is_whitespace) {
                fields.extend(current.take());
            }
        }
        fields.extend(current);
        fields
    }
}

/// The names that match a field, or the field itself where it has no wildcard or nothing matches.
fn with_wildcards(field: &[Piece]) -> Vec<String> {
    let literal: String = field.iter().map(|piece| piece.text.as_str()).collect();
    if !field.iter().any(|piece| !piece.quoted && piece.text.contains(['*', '?', '['])) {
        return vec![literal];
    }
    // In the pattern a backslash makes the next character ordinary.
    let mut pattern = String::new();
    for piece in field {
        for character in piece.text.chars() {
            if character == '\\' || (piece.quoted && "*?[".contains(character)) {
                pattern.push('\\');
            }
            pattern.push(character);
        }
    }
    let mut names = vec![if pattern.starts_with('/') { "/".to_owned() } else { String::new() }];
    for component in pattern.split('/').filter(|component| !component.is_empty()) {
        names = names.iter().flat_map(|folder| matching_entries(folder, component)).collect();
    }
    if names.is_empty() { vec![literal] } else { names }
}

/// The entries of a folder (given with its closing slash, or empty) that match one component of a pattern.
fn matching_entries(folder: &str, pattern: &str) -> Vec<String> {
    let base = if folder.is_empty() || folder.ends_with('/') { folder.to_owned() } else { format!("{folder}/") };
    let Ok(entries) = fs::read_dir(if base.is_empty() { "." } else { &base }) else { return Vec::new() };
    let pattern: Vec<char> = pattern.chars().collect();
    let mut names: Vec<String> = entries
        .flatten()
        .map(|entry| crate::text_of(entry.file_name()))
        .filter(|name| !name.starts_with('.') || pattern.first() == Some(&'.'))
        .filter(|name| matches(&pattern, &name.chars().collect::<Vec<char>>()))
        .map(|name| format!("{base}{name}"))
        .collect();
    names.sort();
    names
}

fn matches(pattern: &[char], name: &[char]) -> bool {
    match (pattern, name) {
        ([], _) => name.is_empty(),
        (['*', rest @ ..], _) => (0..=name.len()).any(|skipped| matches(rest, &name[skipped..])),
        (['\\', wanted, rest @ ..], [first, tail @ ..]) => wanted == first && matches(rest, tail),
        (['?', rest @ ..], [_, tail @ ..]) => matches(rest, tail),
        (['[', rest @ ..], [first, tail @ ..]) if rest.contains(&']') => {
            let end = rest.iter().position(|character| *character == ']').unwrap_or(0);
            in_set(&rest[..end], *first) && matches(&rest[end + 1..], tail)
        }
        ([wanted, rest @ ..], [first, tail @ ..]) => wanted == first && matches(rest, tail),
        _ => false,
    }
}

/// `[abc]`, `[a-z]`, `[!a]`
fn in_set(set: &[char], character: char) -> bool {
    let (negated, mut set) = match set {
        ['!', rest @ ..] => (true, rest),
        set => (false, set),
    };
    let mut found = false;
    while let Some((&first, rest)) = set.split_first() {
        if let ['-', last, tail @ ..] = rest {
            found |= (first..=*last).contains(&character);
            set = tail;
        } else {
            found |= first == character;
            set = rest;
        }
    }
    found != negated
}
