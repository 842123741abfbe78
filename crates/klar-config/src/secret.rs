//! Secrets are written as references; what looks like a credential itself is found here.
//!
//! Two finders, because a file that cannot be parsed must not leak either: [`looks_secret`] judges one named
//! value, [`find_literals`] scans raw text.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::source;
use crate::suggest;

/// Where a secret is kept. The command line reads it, as the person who deploys; the value travels with the release
/// and is readable to klar alone.
///
/// Written `env:NAME` (a variable of the shell that deploys), `file:PATH` (the content of a file, without a
/// trailing line break) or `secret:NAME` (reserved for a vault, which is not
/// there yet).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum SecretRef {
    /// A variable of the environment that klar itself runs in.
    Env(String),
    /// A file; a relative path starts at the folder of `klar.toml`.
    File(PathBuf),
    /// A name in klar's vault.
    Vault(String),
}

/// The three ways to write a reference, each with what it means.
pub(crate) const SCHEMES: [(&str, &str); 3] = [
    ("env", "a variable of the shell that deploys"),
    ("file", "the content of a file"),
    ("secret", "a name in klar's vault"),
];

/// A text that is no reference to a secret. Holds no part of the text, which could be the secret itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretRefError {
    /// Neither `env:`, `file:` nor `secret:` in front.
    #[error("is not written as `env:NAME`, `file:PATH` or `secret:NAME`")]
    NoScheme,
    /// Something short before the colon that is no scheme klar knows.
    #[error("`{0}:` is not a place klar reads secrets from")]
    UnknownScheme(String),
    /// A scheme, but nothing usable after it.
    #[error("`{0}:` must be followed by {1}")]
    BadName(&'static str, &'static str),
}

impl SecretRefError {
    /// The scheme that was probably meant.
    pub(crate) fn nearest_scheme(&self) -> Option<&'static str> {
        let Self::UnknownScheme(scheme) = self else { return None };
        match scheme.as_str() {
            "environment" | "var" | "$" => Some("env"),
            "path" => Some("file"),
            "vault" => Some("secret"),
            other => suggest::nearest(other, SCHEMES.map(|(name, _)| name)),
        }
    }
}

impl FromStr for SecretRef {
    type Err = SecretRefError;
    fn from_str(text: &str) -> Result<Self, SecretRefError> {
        let Some((scheme, rest)) = text.split_once(':') else { return Err(SecretRefError::NoScheme) };
        match scheme {
            "env" if is_variable(rest) => Ok(Self::Env(rest.into())),
            "env" => Err(SecretRefError::BadName("env", "the name of a variable, as in `env:DATABASE_URL`")),
            "file" if !rest.is_empty() && !rest.contains(['\0', '\n']) => Ok(Self::File(rest.into())),
            "file" => Err(SecretRefError::BadName("file", "a path, as in `file:/run/secrets/database-url`")),
            "secret" if is_vault_name(rest) => Ok(Self::Vault(rest.into())),
            "secret" => Err(SecretRefError::BadName("secret", "a name, as in `secret:database-url`")),
            other if is_scheme(other) && !rest.starts_with("//") => {
                Err(SecretRefError::UnknownScheme(other.to_ascii_lowercase()))
            }
            _ => Err(SecretRefError::NoScheme),
        }
    }
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "env:{name}"),
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Vault(name) => write!(f, "secret:{name}"),
        }
    }
}

impl TryFrom<String> for SecretRef {
    type Error = SecretRefError;
    fn try_from(text: String) -> Result<Self, SecretRefError> {
        text.parse()
    }
}

impl From<SecretRef> for String {
    fn from(reference: SecretRef) -> String {
        reference.to_string()
    }
}

/// Whether `name` can be an environment variable that klar hands over: A-Z, 0-9 and `_`, no digit in front.
pub(crate) fn is_variable(name: &str) -> bool {
    let letters = name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
    letters && !name.is_empty() && !name.as_bytes()[0].is_ascii_digit() && name.len() <= 128
}

fn is_vault_name(name: &str) -> bool {
    let letters = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'/'));
    letters && !name.is_empty() && name.len() <= 128
}

fn is_scheme(text: &str) -> bool {
    !text.is_empty() && text.len() <= 12 && text.bytes().all(|b| b.is_ascii_lowercase())
}

/// Why a value looks like a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Credential {
    /// The variable is named like one.
    Name,
    /// A URL with `user:password@`.
    Url,
    /// A private key in PEM.
    Key,
}

/// Whether the value of `name` looks like a credential rather than a setting.
///
/// Switches, small numbers and times are settings whatever their name (`TOKEN_TTL = "3600"`), and so are paths
/// in variables that say they hold one (`TOKEN_FILE = "/run/token"`).
pub(crate) fn looks_secret(name: &str, value: &str) -> Option<Credential> {
    if value.contains("PRIVATE KEY-----") {
        return Some(Credential::Key);
    }
    if has_password_in_url(value) {
        return Some(Credential::Url);
    }
    (name_looks_secret(name) && !is_plain_setting(name, value)).then_some(Credential::Name)
}

fn name_looks_secret(name: &str) -> bool {
    const WORDS: [&str; 9] = [
        "SECRET",
        "TOKEN",
        "PASSWORD",
        "PASSWD",
        "PASSPHRASE",
        "API_KEY",
        "APIKEY",
        "PRIVATE_KEY",
        "ACCESS_KEY",
    ];
    let upper = name.to_ascii_uppercase().replace('-', "_");
    WORDS.iter().any(|word| upper.contains(word))
}

fn is_plain_setting(name: &str, value: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    let names_a_path = upper.ends_with("_FILE") || upper.ends_with("_PATH") || upper.ends_with("_DIR");
    let path = value.starts_with(['/', '.']) && !value.contains(char::is_whitespace);
    let digits = value.bytes().take_while(u8::is_ascii_digit).count();
    let small_number =
        (1..=5).contains(&digits) && matches!(&value[digits..], "" | "ms" | "s" | "m" | "h" | "d");
    let switch =
        matches!(value.to_ascii_lowercase().as_str(), "" | "true" | "false" | "on" | "off" | "yes" | "no");
    switch || small_number || (names_a_path && path)
}

fn has_password_in_url(value: &str) -> bool {
    value.match_indices("://").any(|(at, _)| password_after(&value[at + 3..]).is_some())
}

/// Where the password ends in `user:password@host...`, counted from the start of `authority`.
fn password_after(authority: &str) -> Option<usize> {
    let authority = &authority[..source::floor(authority, 2048)];
    let end = authority
        .find(|c: char| matches!(c, '"' | '\'' | '\n') || c.is_whitespace())
        .unwrap_or(authority.len());
    let authority = &authority[..end];
    // A password may hold an unescaped `/` or `@`; what counts is that some `@` follows some `:`.
    let at = authority.rfind('@')?;
    let colon = authority[..at].find(':')?;
    let user = &authority[..colon];
    (colon + 1 < at && !user.contains('/')).then_some(at)
}

/// Finds the values in raw text that look like credentials, by their quotes, without parsing.
///
/// Errs on the side of hiding: a line that cannot be understood is hidden from the `=` to its end.
pub(crate) fn find_literals(text: &str) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    // Each byte is looked at a bounded number of times: a megabyte of hostile text must not cost minutes.
    let (mut done, mut line_end) = (0, 0);
    for (equals, _) in text.match_indices('=') {
        if equals < done {
            continue;
        }
        if equals >= line_end {
            line_end = text[equals..].find('\n').map_or(text.len(), |at| equals + at);
        }
        let key = key_before(&text[..equals]);
        if name_looks_secret(key) {
            let value = value_after(text, equals + 1, line_end);
            done = value.end;
            if !is_reference_or_setting(key, &text[value.clone()]) {
                found.push(value);
            }
        }
    }
    for (at, _) in text.match_indices("://") {
        if let Some(end) = password_after(&text[at + 3..]) {
            found.push(at + 3..at + 3 + end);
        }
    }
    let mut done = 0;
    for (at, _) in text.match_indices("-----BEGIN ") {
        let title_end = source::floor(text, at + 64);
        if at >= done && text[at..title_end].contains("PRIVATE KEY") {
            done = text[at..].find("-----END ").map_or(text.len(), |end| at + end);
            found.push(at..done);
        }
    }
    found
}

/// The last word before an `=`: a bare or quoted key.
fn key_before(text: &str) -> &str {
    let text = text.trim_end_matches([' ', '\t', '"', '\'']);
    let start = text
        .rfind(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-')))
        .map_or(0, |at| at + text[at..].chars().next().map_or(1, char::len_utf8));
    // A key is never this long; the limit keeps a megabyte of one word from being searched again and again.
    let start = start.max(source::floor(text, text.len().saturating_sub(128)));
    &text[start..]
}

fn value_after(text: &str, from: usize, line_end: usize) -> Range<usize> {
    let start = line_end - text[from..line_end].trim_start_matches([' ', '\t']).len();
    let rest = &text[start..];
    for quotes in ["\"\"\"", "'''"] {
        if let Some(body) = rest.strip_prefix(quotes) {
            let end = body.find(quotes).map_or(text.len(), |end| start + end + 6);
            return start..end;
        }
    }
    let line = line_end - start;
    let mut end = line;
    if let Some(quote) = rest[..line].chars().next().filter(|c| matches!(c, '"' | '\'')) {
        let mut escaped = false;
        for (at, c) in rest[1..line].char_indices() {
            if c == quote && !escaped {
                end = at + 2;
                break;
            }
            escaped = quote == '"' && c == '\\' && !escaped;
        }
    }
    start..start + rest[..end].trim_end().len()
}

fn is_reference_or_setting(key: &str, raw: &str) -> bool {
    let value = raw.trim_matches(['"', '\'']);
    value.parse::<SecretRef>().is_ok() || (is_plain_setting(key, value) && !raw.contains('\n'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_recognised() {
        for (name, value, expected) in [
            ("API_KEY", "abc", Some(Credential::Name)),
            ("JWT_SECRET", "hunter2", Some(Credential::Name)),
            ("TOKEN_TTL", "3600", None),
            ("TOKENIZERS_PARALLELISM", "false", None),
            ("TOKEN_FILE", "/run/token", None),
            ("DATABASE_URL", "postgres://me:pw@db/app", Some(Credential::Url)),
            ("DATABASE_URL", "postgres://me:p/w@db/app", Some(Credential::Url)),
            ("DATABASE_URL", "postgres://db/app", None),
            ("SITE", "https://example.com/a:b@c", None),
            ("CERT", "-----BEGIN RSA PRIVATE KEY-----", Some(Credential::Key)),
            ("LOG_LEVEL", "info", None),
        ] {
            assert_eq!(looks_secret(name, value), expected, "{name}={value}");
        }
    }

    #[test]
    fn raw_text_is_scanned_without_parsing() {
        for (text, expected) in [
            ("API_KEY = \"a b\" # c", vec!["\"a b\""]),
            ("API_KEY = \"a\\\"b\"", vec!["\"a\\\"b\""]),
            ("API_KEY = \"never closed", vec!["\"never closed"]),
            ("env = { MY_TOKEN = 'x', B = 'y' }", vec!["'x'"]),
            ("KEY_SECRET = \"\"\"a\nb\"\"\"\nc = 1", vec!["\"\"\"a\nb\"\"\""]),
            ("API_KEY = \"env:API_KEY\"", vec![]),
            ("url = \"postgres://me:pw@db/app\"", vec!["me:pw"]),
            ("run = \"API_TOKEN=abc node x\"", vec!["abc node x\""]),
        ] {
            let found: Vec<&str> = find_literals(text).into_iter().map(|range| &text[range]).collect();
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn references_read_and_print() {
        for text in ["env:DATABASE_URL", "file:/run/secrets/db", "secret:db/main"] {
            assert_eq!(text.parse::<SecretRef>().unwrap().to_string(), text);
        }
        assert_eq!(
            "env:lower".parse::<SecretRef>().unwrap_err().to_string(),
            "`env:` must be followed by the name of a variable, as in `env:DATABASE_URL`"
        );
        assert_eq!("vault:x".parse::<SecretRef>(), Err(SecretRefError::UnknownScheme("vault".into())));
        assert_eq!("hunter2:x/y".parse::<SecretRef>(), Err(SecretRefError::NoScheme));
    }
}
