//! Why a test failed, told so that a reader can act: what was expected, what the guest said last, how to repeat it.

use std::fmt;

const LAST_LINES: usize = 25;

/// A failed expectation, or an obstacle on the way to it.
#[derive(Debug, Clone)]
pub struct Failure {
    reason: String,
    /// All of what the guest printed.
    guest: Option<String>,
    repeat: Option<String>,
}

impl Failure {
    pub fn new(reason: impl Into<String>) -> Failure {
        Failure { reason: reason.into(), guest: None, repeat: None }
    }

    /// Adds what the guest printed; the end of it is shown.
    pub fn with_guest_output(mut self, output: &str) -> Failure {
        self.guest = Some(output.to_owned());
        self
    }

    /// Adds the command that starts the same guest by hand.
    pub fn with_command(mut self, command: impl Into<String>) -> Failure {
        self.repeat = Some(command.into());
        self
    }

    pub fn guest_said(&self, text: &str) -> bool {
        self.guest.as_ref().is_some_and(|guest| guest.contains(text))
    }

    pub fn reason(&self) -> &str {
        &self.reason
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        writeln!(formatter, "{}", self.reason)?;
        if let Some(guest) = &self.guest {
            writeln!(formatter, "  the guest's last lines:")?;
            for line in last_lines(guest, LAST_LINES).lines() {
                writeln!(formatter, "    | {line}")?;
            }
        }
        if let Some(repeat) = &self.repeat {
            writeln!(formatter, "  to repeat it:\n    {repeat}")?;
        }
        Ok(())
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Failure {
        Failure::new(error.to_string())
    }
}

/// The last lines of a text, without the control characters that would move the reader's own cursor.
fn last_lines(text: &str, count: usize) -> String {
    let clean: String = text.chars().filter(|&c| c == '\n' || c == '\t' || !c.is_control()).collect();
    let lines: Vec<&str> = clean.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept_and_escape_sequences_lose_their_escape() {
        assert_eq!(last_lines("one\r\ntwo\r\n\x1b[2Jthree", 2), "two\n[2Jthree");
        assert_eq!(last_lines("", 2), "");
    }

    #[test]
    fn a_failure_tells_reason_output_and_command() {
        let text = Failure::new("no prompt").with_guest_output("boot\n").with_command("qemu -m 64").to_string();
        assert_eq!(text, "no prompt\n  the guest's last lines:\n    | boot\n  to repeat it:\n    qemu -m 64\n");
    }
}
