//! What the rules did, for people: the request as it came, and what a rule made of a value before it asked.

use super::{Matched, Transaction};
use crate::program::{Link, Operator, Verify};
use crate::seclang::Collection;

/// A request as it came, as far as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request<'a> {
    /// `GET`.
    pub method: &'a [u8],
    /// The target of the request line.
    pub target: &'a [u8],
    /// `HTTP/1.1`.
    pub protocol: &'a [u8],
    /// The visitor's address, as text.
    pub remote: &'a [u8],
    /// Names and values in the order in which they came.
    pub headers: Vec<(&'a [u8], &'a [u8])>,
    /// What was given of the body; nothing once the answer has come.
    pub body: &'a [u8],
}

impl Transaction<'_> {
    /// The request that is judged.
    #[must_use]
    pub fn seen(&self) -> Request<'_> {
        let memory = &*self.memory;
        let one =
            |collection| memory.list(collection).first().map_or(&b""[..], |entry| memory.cell(entry.cell));
        let headers = memory.list(Collection::RequestHeaders).iter();
        Request {
            method: one(Collection::RequestMethod),
            target: one(Collection::RequestUriRaw),
            protocol: one(Collection::RequestProtocol),
            remote: one(Collection::RemoteAddr),
            headers: headers.map(|entry| (memory.span(entry.name), memory.cell(entry.cell))).collect(),
            body: &memory.body,
        }
    }

    /// What the rule made of the value: the name of each transformation that changed something, and what it gave.
    #[must_use]
    pub fn decoded(&self, hit: &Matched<'_>) -> Vec<(&'static str, Vec<u8>)> {
        let mut steps = Vec::new();
        let view = self.link(hit).and_then(|link| link.view);
        let mut chain = view.and_then(|view| self.program.views.get(view as usize)).map(|view| view.chain);
        while let Some(step) = chain.and_then(|chain| self.program.chains.get(chain as usize)) {
            steps.extend(step.last);
            chain = step.last.is_some().then_some(step.before);
        }
        let mut value = hit.raw.to_vec();
        let mut told = Vec::new();
        for step in steps.into_iter().rev() {
            let mut made = Vec::new();
            if step.apply(&value, &mut made) && made != value {
                value.clone_from(&made);
                told.push((step.name(), made));
            }
        }
        told
    }

    /// What the rule asks, as rules write it: `@rx`, `!@streq`.
    #[must_use]
    pub fn question(&self, hit: &Matched<'_>) -> String {
        let Some(link) = self.link(hit) else { return String::new() };
        let name = match link.operator {
            Operator::Unconditional => "unconditionalMatch",
            Operator::Never => "noMatch",
            Operator::Expression(_) | Operator::Pattern(..) => "rx",
            Operator::Phrases(_) => "pm",
            Operator::Sqli => "detectSQLi",
            Operator::Xss => "detectXSS",
            Operator::Command => "detectCmd",
            Operator::InnerAddress => "detectSSRF",
            Operator::ByteRange(_) => "validateByteRange",
            Operator::UrlEncoding => "validateUrlEncoding",
            Operator::Utf8 => "validateUtf8Encoding",
            Operator::Address(_) => "ipMatch",
            Operator::Compare(comparison, _) => comparison.name(),
            Operator::BeginsWith(_) => "beginsWith",
            Operator::EndsWith(_) => "endsWith",
            Operator::Contains(_) => "contains",
            Operator::ContainsWord(_) => "containsWord",
            Operator::StrEq(_) => "streq",
            Operator::Within(_) => "within",
            Operator::Verify(_, Verify::Cc) => "verifyCC",
            Operator::Verify(_, Verify::Cpf) => "verifyCPF",
            Operator::Verify(_, Verify::Ssn) => "verifySSN",
            Operator::Verify(_, Verify::Svnr) => "verifySVNR",
        };
        format!("{}@{name}", if link.negated { "!" } else { "" })
    }

    fn link(&self, hit: &Matched<'_>) -> Option<&Link> {
        let rule = self.program.rules.iter().find(|rule| rule.id == hit.rule)?;
        self.program.links.get((rule.links.start + hit.link) as usize)
    }
}
