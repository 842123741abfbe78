//! What is asked for: in the query of the address, or in a form.

use http::request::Parts;
use http::{Method, header};

/// Names and values, in their order; those of the form come first.
#[derive(Debug, Default)]
pub(super) struct Params(Vec<(String, String)>);

/// The most of them.
const PARAMS_MAX: usize = 1_000;

impl Params {
    pub(super) fn read(head: &Parts, body: &[u8]) -> Result<Self, String> {
        let mut params = Self::default();
        if head.method == Method::POST && !body.is_empty() {
            let media = head.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
            let media = media.unwrap_or_default().split(';').next().unwrap_or_default().trim();
            if !media.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
                return Err(format!("a form is expected (application/x-www-form-urlencoded), not `{media}`"));
            }
            params.add(body)?;
        }
        params.add(head.uri.query().unwrap_or_default().as_bytes())?;
        Ok(params)
    }

    fn add(&mut self, form: &[u8]) -> Result<(), String> {
        for pair in form.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()) {
            let mut halves = pair.splitn(2, |byte| *byte == b'=');
            let mut half = || decoded(halves.next().unwrap_or_default());
            self.0.push((half()?, half()?));
            if self.0.len() > PARAMS_MAX {
                return Err(format!("more than {PARAMS_MAX} parameters"));
            }
        }
        Ok(())
    }

    /// The first value of a name that has one.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(its, value)| its == name && !value.is_empty()).map(|(_, value)| &**value)
    }

    /// All values of a name.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> + 'a {
        self.0.iter().filter(move |(its, _)| its == name).map(|(_, value)| &**value)
    }
}

/// As forms are written: <https://url.spec.whatwg.org/#application/x-www-form-urlencoded>.
fn decoded(text: &[u8]) -> Result<String, String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, more)) = rest.split_first() {
        rest = more;
        let digits = more.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match (first, digits.and_then(|digits| u8::from_str_radix(digits, 16).ok())) {
            (b'+', _) => out.push(b' '),
            (b'%', Some(byte)) => {
                out.push(byte);
                rest = more.get(2..).unwrap_or_default();
            }
            (byte, _) => out.push(*byte),
        }
    }
    String::from_utf8(out).map_err(|_| "a parameter is no UTF-8".to_owned())
}

/// A time, in milliseconds since 1970: seconds with a fraction, or RFC 3339.
pub(super) fn time(text: &str) -> Result<i64, String> {
    if let Ok(seconds) = text.parse::<f64>() {
        return milliseconds(seconds).ok_or_else(|| format!("`{text}` is no time"));
    }
    let parsed: Result<jiff::Timestamp, _> = text.parse();
    let expected =
        || format!("`{text}` is no time: seconds since 1970 or `2026-01-31T12:00:00Z` are expected");
    parsed.map(|time| time.as_millisecond()).map_err(|_| expected())
}

/// A length of time, in milliseconds: seconds with a fraction, or as PromQL writes it.
pub(super) fn duration(text: &str) -> Result<i64, String> {
    let seconds = text.parse::<f64>().ok().or_else(|| klar_promql::duration(text));
    let found = seconds.and_then(milliseconds);
    found.ok_or_else(|| format!("`{text}` is no duration: seconds or `5m`, `1h30m` are expected"))
}

fn milliseconds(seconds: f64) -> Option<i64> {
    // Further away than anything is kept.
    const MAX: f64 = 1e12;
    (seconds.abs() <= MAX).then(|| (seconds * 1000.0).round() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_durations() {
        assert_eq!(time("1435781430.781"), Ok(1_435_781_430_781));
        assert_eq!(time("2015-07-01T20:10:30.781Z"), Ok(1_435_781_430_781));
        assert_eq!(time("2015-07-01T22:10:30.781+02:00"), Ok(1_435_781_430_781));
        assert_eq!(duration("1h30m"), Ok(5_400_000));
        assert_eq!(duration("0.5"), Ok(500));
        for bad in ["", "x", "NaN", "1e300", "5m x", "-"] {
            assert!(time(bad).is_err() && duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn forms() {
        let mut params = Params::default();
        params.add(b"match[]=up&match%5B%5D=a%2Bb+c&empty=&x=%zz%").unwrap();
        assert_eq!(params.all("match[]").collect::<Vec<_>>(), ["up", "a+b c"]);
        assert_eq!((params.get("empty"), params.get("x")), (None, Some("%zz%")));
        assert!(params.add(b"a=%ff").is_err());
    }
}
