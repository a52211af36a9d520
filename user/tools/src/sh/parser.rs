//! Makes a tree of a script. The grammar, from weak to strong:
//!
//! ```text
//! list      = and_or { (";" | "&" | newline) and_or }
//! and_or    = pipeline { ("&&" | "||") pipeline }
//! pipeline  = ["!"] command { "|" command }
//! command   = simple | "(" list ")" | "{" list "}" | if | while | until | for, each with redirections
//! ```

use super::lexer::{Part, Token, Word, tokens};
use std::fmt;

#[derive(Debug, PartialEq)]
pub enum Error {
    /// The text ends where more must come: the reader asks for another line.
    Incomplete,
    Unexpected(String),
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Incomplete => write!(formatter, "syntax error: the text ends too early"),
            Error::Unexpected(what) => write!(formatter, "syntax error near {what:?}"),
        }
    }
}

/// `[descriptor]operator target`
#[derive(Clone, Debug, PartialEq)]
pub struct Redirection {
    pub descriptor: i32,
    pub operator: &'static str,
    pub target: Word,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    Simple {
        assignments: Vec<(String, Word)>,
        words: Vec<Word>,
    },
    Subshell(List),
    Group(List),
    If {
        condition: List,
        then: List,
        otherwise: List,
    },
    /// `until` when `wanted` is false.
    While {
        condition: List,
        body: List,
        wanted: bool,
    },
    For {
        name: String,
        words: Vec<Word>,
        body: List,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub struct Command {
    pub kind: Kind,
    pub redirections: Vec<Redirection>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Pipeline {
    pub negated: bool,
    pub commands: Vec<Command>,
}

/// What must have happened before for a pipeline to run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum When {
    Always,
    AfterSuccess,
    AfterFailure,
}

/// Pipelines joined by `&&` and `||`.
#[derive(Clone, Debug, PartialEq)]
pub struct AndOr {
    pub pipelines: Vec<(When, Pipeline)>,
    pub background: bool,
}

pub type List = Vec<AndOr>;

pub fn parse(text: &str) -> Result<List, Error> {
    let tokens = tokens(text)?;
    let mut parser = Parser { tokens: &tokens };
    let list = parser.list(&[])?;
    match parser.tokens.first() {
        None => Ok(list),
        Some(token) => Err(Error::Unexpected(describe(token))),
    }
}

fn describe(token: &Token) -> String {
    match token {
        Token::Operator("\n") => "end of line".into(),
        Token::Operator(operator) => (*operator).into(),
        Token::Descriptor(number) => number.to_string(),
        Token::Word(word) => plain(word).unwrap_or("a word").into(),
    }
}

/// A word that is nothing but unquoted text: only such a one can be a keyword.
fn plain(word: &Word) -> Option<&str> {
    match word.as_slice() {
        [Part::Text { text, quoted: false }] => Some(text),
        _ => None,
    }
}

struct Parser<'a> {
    tokens: &'a [Token],
}

impl Parser<'_> {
    fn operator(&self) -> Option<&'static str> {
        match self.tokens.first() {
            Some(Token::Operator(operator)) => Some(operator),
            _ => None,
        }
    }

    fn keyword(&self) -> Option<&str> {
        match self.tokens.first() {
            Some(Token::Word(word)) => plain(word),
            _ => None,
        }
    }

    fn advance(&mut self) {
        self.tokens = self.tokens.get(1..).unwrap_or_default();
    }

    fn unexpected(&self) -> Error {
        self.tokens.first().map_or(Error::Incomplete, |token| Error::Unexpected(describe(token)))
    }

    fn expect_keyword(&mut self, wanted: &str) -> Result<(), Error> {
        if self.keyword() != Some(wanted) {
            return Err(self.unexpected());
        }
        self.advance();
        Ok(())
    }

    fn skip_newlines(&mut self) {
        while self.operator() == Some("\n") {
            self.advance();
        }
    }

    /// Everything up to one of the keywords, a closing bracket, or the end.
    fn list(&mut self, ends: &[&str]) -> Result<List, Error> {
        let mut list = List::new();
        loop {
            while matches!(self.operator(), Some("\n" | ";")) {
                self.advance();
            }
            let at_keyword = self.keyword().is_some_and(|keyword| ends.contains(&keyword));
            if self.tokens.is_empty() || self.operator() == Some(")") || at_keyword {
                return Ok(list);
            }
            let mut and_or = self.and_or()?;
            match self.operator() {
                Some("&") => {
                    and_or.background = true;
                    self.advance();
                }
                Some("\n" | ";" | ")") | None => {}
                Some(_) => return Err(self.unexpected()),
            }
            list.push(and_or);
        }
    }

    fn and_or(&mut self) -> Result<AndOr, Error> {
        let mut pipelines = vec![(When::Always, self.pipeline()?)];
        loop {
            let when = match self.operator() {
                Some("&&") => When::AfterSuccess,
                Some("||") => When::AfterFailure,
                _ => return Ok(AndOr { pipelines, background: false }),
            };
            self.advance();
            self.skip_newlines();
            pipelines.push((when, self.pipeline()?));
        }
    }

    fn pipeline(&mut self) -> Result<Pipeline, Error> {
        let negated = self.keyword() == Some("!");
        if negated {
            self.advance();
        }
        let mut commands = vec![self.command()?];
        while self.operator() == Some("|") {
            self.advance();
            self.skip_newlines();
            commands.push(self.command()?);
        }
        Ok(Pipeline { negated, commands })
    }

    fn command(&mut self) -> Result<Command, Error> {
        if self.operator() == Some("(") {
            self.advance();
            let list = self.list(&[])?;
            if self.operator() != Some(")") {
                return Err(self.unexpected());
            }
            self.advance();
            return self.with_redirections(Kind::Subshell(list));
        }
        let kind = match self.keyword() {
            Some("{") => {
                self.advance();
                let list = self.list(&["}"])?;
                self.expect_keyword("}")?;
                Kind::Group(list)
            }
            Some("if") => {
                self.advance();
                self.if_rest()?
            }
            Some(keyword @ ("while" | "until")) => {
                let wanted = keyword == "while";
                self.advance();
                let condition = self.list(&["do"])?;
                Kind::While { condition, body: self.body()?, wanted }
            }
            Some("for") => {
                self.advance();
                self.for_rest()?
            }
            _ => return self.simple(),
        };
        self.with_redirections(kind)
    }

    /// What follows `if` or `elif`, through `fi`.
    fn if_rest(&mut self) -> Result<Kind, Error> {
        let condition = self.list(&["then"])?;
        self.expect_keyword("then")?;
        let then = self.list(&["else", "elif", "fi"])?;
        let otherwise = match self.keyword() {
            Some("elif") => {
                self.advance();
                let command = Command { kind: self.if_rest()?, redirections: Vec::new() };
                let pipeline = Pipeline { negated: false, commands: vec![command] };
                return Ok(Kind::If {
                    condition,
                    then,
                    otherwise: vec![AndOr { pipelines: vec![(When::Always, pipeline)], background: false }],
                });
            }
            Some("else") => {
                self.advance();
                self.list(&["fi"])?
            }
            _ => List::new(),
        };
        self.expect_keyword("fi")?;
        Ok(Kind::If { condition, then, otherwise })
    }

    fn for_rest(&mut self) -> Result<Kind, Error> {
        let name = self.keyword().ok_or_else(|| self.unexpected())?.to_owned();
        self.advance();
        self.expect_keyword("in")?;
        let mut words = Vec::new();
        while let Some(Token::Word(word)) = self.tokens.first() {
            words.push(word.clone());
            self.advance();
        }
        while matches!(self.operator(), Some("\n" | ";")) {
            self.advance();
        }
        Ok(Kind::For { name, words, body: self.body()? })
    }

    fn body(&mut self) -> Result<List, Error> {
        self.expect_keyword("do")?;
        let body = self.list(&["done"])?;
        self.expect_keyword("done")?;
        Ok(body)
    }

    fn with_redirections(&mut self, kind: Kind) -> Result<Command, Error> {
        let mut redirections = Vec::new();
        while let Some(redirection) = self.redirection()? {
            redirections.push(redirection);
        }
        Ok(Command { kind, redirections })
    }

    fn redirection(&mut self) -> Result<Option<Redirection>, Error> {
        let descriptor = match self.tokens.first() {
            Some(Token::Descriptor(number)) => Some(*number),
            _ => None,
        };
        if descriptor.is_some() {
            self.advance();
        }
        let Some(operator @ ("<" | ">" | ">>" | ">&" | "<&")) = self.operator() else { return Ok(None) };
        self.advance();
        let Some(Token::Word(target)) = self.tokens.first() else { return Err(self.unexpected()) };
        let target = target.clone();
        self.advance();
        let descriptor = descriptor.unwrap_or(i32::from(!operator.starts_with('<')));
        Ok(Some(Redirection { descriptor, operator, target }))
    }

    fn simple(&mut self) -> Result<Command, Error> {
        let (mut assignments, mut words, mut redirections) = (Vec::new(), Vec::new(), Vec::new());
        loop {
            if let Some(redirection) = self.redirection()? {
                redirections.push(redirection);
                continue;
            }
            let Some(Token::Word(word)) = self.tokens.first() else { break };
            match assignment(word) {
                Some(pair) if words.is_empty() => assignments.push(pair),
                _ => words.push(word.clone()),
            }
            self.advance();
        }
        if assignments.is_empty() && words.is_empty() && redirections.is_empty() {
            return Err(self.unexpected());
        }
        Ok(Command { kind: Kind::Simple { assignments, words }, redirections })
    }
}

/// `NAME=value`: the name is unquoted text at the word's beginning.
pub fn assignment(word: &Word) -> Option<(String, Word)> {
    let (first, rest) = word.split_first()?;
    let Part::Text { text, quoted: false } = first else { return None };
    let (name, value) = text.split_once('=')?;
    let is_name = |name: &str| {
        name.chars().all(|character| character.is_ascii_alphanumeric() || character == '_')
            && !name.is_empty()
            && !name.starts_with(|character: char| character.is_ascii_digit())
    };
    if !is_name(name) {
        return None;
    }
    let mut word = vec![Part::Text { text: value.into(), quoted: true }];
    word.extend_from_slice(rest);
    Some((name.into(), word))
}
