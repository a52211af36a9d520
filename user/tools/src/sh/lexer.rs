//! Cuts a script into tokens. Quotes and `$` are resolved as far as they can be without running anything: a word is a
//! list of parts, and each part remembers whether it was quoted.

use super::parser::Error;

#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    /// Text as it stands. Only in unquoted text are `*`, `?` and `[` wildcards.
    Text {
        text: String,
        quoted: bool,
    },
    Variable {
        name: String,
        quoted: bool,
    },
    /// `$(…)`: the command's text.
    Output {
        command: String,
        quoted: bool,
    },
}

pub type Word = Vec<Part>;

#[derive(Clone, Debug, PartialEq)]
pub enum Token {
    Word(Word),
    /// `|`, `||`, `&`, `&&`, `;`, `(`, `)`, `<`, `>`, `>>`, `>&`, `<&`, or a line's end as "\n".
    Operator(&'static str),
    /// The number right before a redirection: `2>`.
    Descriptor(i32),
}

const OPERATORS: [&str; 13] = ["||", "&&", ">>", ">&", "<&", "|", "&", ";", "(", ")", "<", ">", "\n"];

pub fn tokens(text: &str) -> Result<Vec<Token>, Error> {
    let mut lexer = Lexer { rest: text };
    let mut tokens = Vec::new();
    while let Some(token) = lexer.token()? {
        tokens.push(token);
    }
    Ok(tokens)
}

struct Lexer<'a> {
    rest: &'a str,
}

impl Lexer<'_> {
    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let mut characters = self.rest.chars();
        let next = characters.next();
        self.rest = characters.as_str();
        next
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> String {
        let end = self.rest.find(|character| !wanted(character)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken.into()
    }

    fn token(&mut self) -> Result<Option<Token>, Error> {
        loop {
            self.take_while(|character| character == ' ' || character == '\t' || character == '\r');
            if let Some(rest) = self.rest.strip_prefix("\\\n") {
                self.rest = rest;
            } else if self.peek() == Some('#') {
                self.take_while(|character| character != '\n');
            } else {
                break;
            }
        }
        if self.rest.is_empty() {
            return Ok(None);
        }
        if let Some(operator) = OPERATORS.into_iter().find(|operator| self.rest.starts_with(operator)) {
            self.rest = &self.rest[operator.len()..];
            return Ok(Some(Token::Operator(operator)));
        }
        let digits = self.rest.trim_start_matches(|character: char| character.is_ascii_digit());
        if digits.len() < self.rest.len() && digits.starts_with(['<', '>']) {
            let number = self.take_while(|character| character.is_ascii_digit());
            return number.parse().map(|number| Some(Token::Descriptor(number))).map_err(|_| Error::Unexpected(number));
        }
        self.word().map(|word| Some(Token::Word(word)))
    }

    fn word(&mut self) -> Result<Word, Error> {
        let mut word = Word::new();
        while let Some(character) = self.peek() {
            match character {
                ' ' | '\t' | '\r' | '\n' | '|' | '&' | ';' | '(' | ')' | '<' | '>' => break,
                '\'' => {
                    self.next();
                    let text = self.take_while(|character| character != '\'');
                    self.next().ok_or(Error::Incomplete)?;
                    word.push(Part::Text { text, quoted: true });
                }
                '"' => {
                    self.next();
                    self.double_quoted(&mut word)?;
                }
                '\\' => {
                    self.next();
                    let next = self.next().ok_or(Error::Incomplete)?;
                    if next != '\n' {
                        word.push(Part::Text { text: next.into(), quoted: true });
                    }
                }
                '$' => {
                    self.next();
                    word.push(self.dollar(false)?);
                }
                _ => {
                    let text = self.take_while(|character| !" \t\r\n|&;()<>'\"\\$".contains(character));
                    word.push(Part::Text { text, quoted: false });
                }
            }
        }
        Ok(word)
    }

    fn double_quoted(&mut self, word: &mut Word) -> Result<(), Error> {
        // Even "" is a word.
        let mut text = String::new();
        loop {
            match self.next().ok_or(Error::Incomplete)? {
                '"' => break,
                '\\' => match self.next().ok_or(Error::Incomplete)? {
                    '\n' => {}
                    special @ ('"' | '\\' | '$' | '`') => text.push(special),
                    other => text.extend(['\\', other]),
                },
                '$' => {
                    word.push(Part::Text { text: std::mem::take(&mut text), quoted: true });
                    word.push(self.dollar(true)?);
                }
                other => text.push(other),
            }
        }
        word.push(Part::Text { text, quoted: true });
        Ok(())
    }

    /// What follows a `$`.
    fn dollar(&mut self, quoted: bool) -> Result<Part, Error> {
        let name = match self.peek() {
            Some('(') => {
                self.next();
                return Ok(Part::Output { command: self.up_to_bracket()?, quoted });
            }
            Some('{') => {
                self.next();
                let name = self.take_while(|character| character != '}');
                self.next().ok_or(Error::Incomplete)?;
                name
            }
            Some(special @ ('?' | '$' | '!' | '#' | '@' | '*' | '0'..='9')) => {
                self.next();
                special.into()
            }
            _ => self.take_while(|character| character.is_ascii_alphanumeric() || character == '_'),
        };
        if name.is_empty() {
            return Ok(Part::Text { text: "$".into(), quoted: true });
        }
        Ok(Part::Variable { name, quoted })
    }

    /// The text up to the bracket that closes `$(`; brackets in quotes don't count.
    fn up_to_bracket(&mut self) -> Result<String, Error> {
        let mut depth = 1;
        let mut quote = None;
        let mut text = String::new();
        loop {
            let character = self.next().ok_or(Error::Incomplete)?;
            match character {
                '\\' => {
                    text.push(character);
                    text.push(self.next().ok_or(Error::Incomplete)?);
                    continue;
                }
                '\'' | '"' if quote == Some(character) => quote = None,
                '\'' | '"' if quote.is_none() => quote = Some(character),
                '(' if quote.is_none() => depth += 1,
                ')' if quote.is_none() => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return Ok(text);
            }
            text.push(character);
        }
    }
}
