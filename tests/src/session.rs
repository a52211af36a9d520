//! A person at a terminal: types, and waits for what is shown. The terminal is the serial line, or the screen with its
//! keyboard; the same script runs on both.
//!
//! Nothing is typed ahead: each step waits until the one before it has shown its effect, so no wait is for luck.

use crate::failure::Failure;
use crate::project;
use crate::qemu::{Guest, Idle, Limit, Machine};

/// An idle guest's clock runs with the host's, which may be slow.
const LIMIT_S: u64 = 60;

/// Where a person sits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seat {
    SerialLine,
    Screen,
}

pub struct Session {
    pub guest: Guest,
    seat: Seat,
    name: String,
    prompt: &'static str,
    /// On the serial line: how much of its text has been looked at.
    seen: usize,
}

impl Session {
    /// `prompt` is what the shell asks with.
    pub fn start(machine: Machine, seat: Seat, prompt: &'static str, name: &str) -> Result<Session, Failure> {
        let guest = Guest::start(&Machine { idle: Idle::RealTime, ..machine }, name)?;
        Ok(Session { guest, seat, name: name.to_owned(), prompt, seen: 0 })
    }

    /// Types a command when the shell asks for one, and waits for what it shows.
    pub fn enter(&mut self, typed: &str, shown: &str) -> Result<(), Failure> {
        self.is_asked()?;
        self.type_and_see(typed, shown)
    }

    /// Types to the program that runs, and waits for what that shows.
    pub fn type_and_see(&mut self, typed: &str, shown: &str) -> Result<(), Failure> {
        self.type_text(typed)?;
        self.shows(shown)
    }

    pub fn type_text(&mut self, text: &str) -> Result<(), Failure> {
        match self.seat {
            // The Enter key of a terminal sends a carriage return.
            Seat::SerialLine => Ok(self.guest.console.send(&text.replace('\n', "\r"))?),
            Seat::Screen => {
                let keys: Vec<String> = text.chars().map(key_of).collect::<Result<_, _>>()?;
                self.guest.press(&keys.iter().map(String::as_str).collect::<Vec<_>>())
            }
        }
    }

    /// Waits for a text: on the serial line behind what was waited for before, on the screen anywhere.
    pub fn shows(&mut self, text: &str) -> Result<(), Failure> {
        self.shows_within(text, LIMIT_S)
    }

    /// The same, for who wants it sooner: in seconds of guest time.
    pub fn shows_within(&mut self, text: &str, limit_s: u64) -> Result<(), Failure> {
        if self.seat == Seat::Screen {
            let holds = |rows: &[String]| (rows.join("\n") + "\n").contains(text);
            return self.screen_until(&format!("{text:?} on the screen"), holds);
        }
        let seen = self.seen;
        let expected = format!("{text:?} on the serial line");
        self.seen = self.guest.wait_until(Limit::guest_seconds(limit_s), &expected, |guest| {
            let all = guest.console.text();
            Ok(all.get(seen..).and_then(|rest| rest.find(text)).map(|at| seen + at + text.len()))
        })?;
        Ok(())
    }

    /// Waits for the prompt: on the screen in the last row that is used.
    pub fn is_asked(&mut self) -> Result<(), Failure> {
        let prompt = self.prompt;
        match self.seat {
            Seat::SerialLine => self.shows(prompt),
            Seat::Screen => self.screen_until("a prompt in the last row", |rows| {
                rows.iter().rfind(|row| !row.is_empty()).is_some_and(|row| row == prompt.trim_end())
            }),
        }
    }

    /// Wipes the screen by a command, so that what is waited for next isn't there yet.
    pub fn clear(&mut self) -> Result<(), Failure> {
        let prompt = self.prompt;
        self.is_asked()?;
        self.type_text("clear\n")?;
        self.screen_until("nothing but a prompt", |rows| {
            let mut used = rows.iter().filter(|row| !row.is_empty());
            used.next().is_some_and(|row| row == prompt.trim_end()) && used.next().is_none()
        })
    }

    /// Waits until the screen's rows are as wanted. On the serial line there is nothing to be compared.
    pub fn screen_until(&mut self, expected: &str, wanted: impl Fn(&[String]) -> bool) -> Result<(), Failure> {
        if self.seat == Seat::SerialLine {
            return Ok(());
        }
        let mut shown = Vec::new();
        let found = self.guest.wait_until(Limit::guest_seconds(LIMIT_S), expected, |guest| {
            shown = guest.screen_text()?.lines().map(|row| row.trim_end().to_owned()).collect();
            Ok(wanted(&shown).then_some(()))
        });
        found.map_err(|failure| {
            let reason = format!("{}; the screen reads:\n    # {}", failure.reason(), shown.join("\n    # "));
            let _ = self.keep_picture(&project::file_name(&self.name));
            self.guest.failure(reason.trim_end_matches(['\n', '#', ' ']))
        })
    }

    /// Keeps a picture of the screen, for people.
    pub fn keep_picture(&mut self, name: &str) -> Result<(), Failure> {
        if self.seat == Seat::SerialLine {
            return Ok(());
        }
        self.guest.save_picture(&project::artifacts()?.join(format!("{name}.png")))
    }
}

/// The key of a US keyboard that types a character, in QEMU's names.
fn key_of(character: char) -> Result<String, Failure> {
    const PLAIN: &str = "`-=[]\\;',./";
    const SHIFTED: &str = "~_+{}|:\"<>?";
    const NAMES: [&str; 11] = [
        "grave_accent",
        "minus",
        "equal",
        "bracket_left",
        "bracket_right",
        "backslash",
        "semicolon",
        "apostrophe",
        "comma",
        "dot",
        "slash",
    ];
    const ABOVE_DIGITS: &str = ")!@#$%^&*(";
    let named = |table: &str| Some(NAMES[table.find(character)?]);
    Ok(match character {
        '\n' | '\r' => "ret".into(),
        '\t' => "tab".into(),
        '\x1b' => "esc".into(),
        '\x7f' => "backspace".into(),
        ' ' => "spc".into(),
        '\x1c' => "ctrl-backslash".into(),
        '\x01'..='\x1a' => format!("ctrl-{}", char::from(character as u8 + b'a' - 1)),
        'a'..='z' | '0'..='9' => character.into(),
        'A'..='Z' => format!("shift-{}", character.to_ascii_lowercase()),
        _ => match (named(PLAIN), named(SHIFTED), ABOVE_DIGITS.find(character)) {
            (Some(name), _, _) => name.into(),
            (_, Some(name), _) => format!("shift-{name}"),
            (_, _, Some(digit)) => format!("shift-{digit}"),
            _ => return Err(Failure::new(format!("there is no key for {character:?}"))),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_character_has_its_key() {
        let keys: Vec<String> = "aZ5 $~|\n\x03\x1a\x1c'".chars().map(|c| key_of(c).unwrap()).collect();
        let expected = [
            "a",
            "shift-z",
            "5",
            "spc",
            "shift-4",
            "shift-grave_accent",
            "shift-backslash",
            "ret",
            "ctrl-c",
            "ctrl-z",
            "ctrl-backslash",
            "apostrophe",
        ];
        assert_eq!(keys, expected);
        assert!((' '..='~').all(|character| key_of(character).is_ok()));
        assert!(key_of('é').is_err());
    }
}
