//! Reads SecLang, the language of rules.
//!
//! [`parse`] makes directives of the text of one file, and [`resolve()`] applies those of all files to each other. What
//! cannot be honoured is refused with a reason, never left out in silence; what is refused is refused whole, and what
//! stands around it is read.
//!
//! The language is that of ModSecurity 3, as libmodsecurity reads it, and of ModSecurity 2 where that is more than the
//! other:
//! - A line that ends with a backslash goes on in the next one. Within quotes, too: the lines become one.
//! - A backslash before a quote keeps it from ending its text, and stays in the text. Nothing else is an escape.
//! - Arguments may stand in single quotes; a list of targets has `|` or `,` in it.
//! - What asks for an operator that does not exist is refused; libmodsecurity takes it for an expression.
//! - A rule without a phase is one of phase 2, as the manual says.

mod actions;
mod ast;
#[cfg(test)]
mod crs;
mod ctl;
#[cfg(test)]
mod fuzz;
mod lines;
mod names;
mod operators;
mod resolve;
mod rules;
mod settings;
mod targets;
#[cfg(test)]
mod tests;
mod text;
mod variables;
mod words;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

pub use ast::*;
pub use resolve::{Item, RuleSet, Settings, resolve};

use lines::{Line, Lines};
use rules::Chain;
use words::{Span, first};

/// Bytes of one file at most.
const FILE_MAX: usize = 64 << 20;
/// What is refused of one file at most before the rest of it is given up: it is no file of rules then.
const REFUSED_MAX: usize = 1000;

/// The text of one file.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// As it is shown.
    pub name: &'a str,
    /// All of it.
    pub text: &'a str,
}

/// What one file says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Parsed {
    /// What could be read, in the order of the file.
    pub directives: Vec<Directive>,
    /// What could not.
    pub refused: Vec<Refused>,
}

/// Something that is not honoured, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Where that stands which cannot be honoured; in a rule on many lines, its own.
    pub place: Place,
    /// The rule that is refused for it; of a chain, its first link.
    pub id: Option<u32>,
    /// What is wrong with it.
    pub reason: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.id {
            Some(id) => write!(f, "{}: rule {id}: {}", self.place, self.reason),
            None => write!(f, "{}: {}", self.place, self.reason),
        }
    }
}

impl std::error::Error for Refused {}

/// Reads the text of one file.
///
/// It takes time linear in the length of the text, and there is no text that it panics for.
#[must_use]
pub fn parse(source: &Source<'_>) -> Parsed {
    let file: Arc<str> = source.name.into();
    let mut parsed = Parsed::default();
    if source.text.len() > FILE_MAX {
        let place = Place { file, line: 1 };
        let reason = format!("a file of rules is not longer than {FILE_MAX} bytes");
        parsed.refused.push(Refused { place, id: None, reason });
        return parsed;
    }
    let mut chain = None;
    let (mut lines, mut line) = (Lines::of(source.text), Line::default());
    while lines.next(&mut line) {
        parsed.directive(&mut chain, &line, &file);
        if parsed.refused.len() >= REFUSED_MAX {
            let place = Place { file, line: line.number(0) };
            let reason = format!("{REFUSED_MAX} things before this are refused: the rest is not read");
            parsed.refused.push(Refused { place, id: None, reason });
            return parsed;
        }
    }
    parsed.break_off(&mut chain, "the file ends");
    parsed
}

impl Parsed {
    fn directive(&mut self, chain: &mut Option<Chain>, line: &Line, file: &Arc<str>) {
        let (name, rest) = first(Span::whole(&line.text));
        let place = Place { file: file.clone(), line: line.number(name.at) };
        if !name.is("SecRule") && !name.is("SecAction") {
            self.break_off(chain, &format!("{} stands", words::shown(name.text)));
            match settings::directive(name, rest, place) {
                Ok(directive) => self.directives.push(directive),
                Err(trouble) => {
                    let place = Place { file: file.clone(), line: line.number(trouble.at) };
                    self.refused.push(Refused { place, id: None, reason: trouble.reason });
                }
            }
            return;
        }
        let read = rules::read(name, rest, place);
        if chain.as_ref().is_some_and(|chain| !chain.goes_on_with(&read)) {
            self.break_off(chain, "another rule stands");
        }
        let (rule, is_over) = match chain.take() {
            None => Chain::begin(read, line, file),
            Some(mut rule) => {
                let is_over = rule.push(read, line, file);
                (rule, is_over)
            }
        };
        if !is_over {
            *chain = Some(rule);
            return;
        }
        match rule.finish() {
            Ok(rule) => self.directives.push(Directive::Rule(rule)),
            Err(refused) => self.refused.push(refused),
        }
    }

    fn break_off(&mut self, chain: &mut Option<Chain>, by: &str) {
        self.refused.extend(chain.take().map(|chain| chain.break_off(by)));
    }
}

/// Rules whose numbers other rules have already, of all that was read from all files.
///
/// The first rule of a number is not among them.
#[must_use]
pub fn duplicates(directives: &[Directive]) -> Vec<Refused> {
    repeated(directives).into_iter().map(|(_, refused)| refused).collect()
}

/// The same, each with its place in the list.
fn repeated(directives: &[Directive]) -> Vec<(usize, Refused)> {
    let mut taken: HashMap<u32, &Place> = HashMap::new();
    let mut refused = Vec::new();
    for (at, directive) in directives.iter().enumerate() {
        let Directive::Rule(rule) = directive else { continue };
        let (Some(id), Some(link)) = (rule.id(), rule.links.first()) else { continue };
        match taken.get(&id) {
            None => {
                taken.insert(id, &link.place);
            }
            Some(first) => {
                let reason = format!("{first} has a rule of this number");
                refused.push((at, Refused { place: link.place.clone(), id: Some(id), reason }));
            }
        }
    }
    refused
}
