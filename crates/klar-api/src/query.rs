//! The part of a URL behind the question mark, as far as this API needs it.

use klar_run::control::LogQuery;

/// What `/logs` understands.
pub(crate) const LOG_PARAMETERS: [(&str, &str); 6] = [
    ("service", "only this service or store"),
    ("instance", "only this instance, for instance `api.7`"),
    ("lines", "how many lines from the past, 100 when left out"),
    ("follow", "`true` goes on with new lines"),
    ("access", "`true` gives access records instead of output"),
    ("shadow", "`true` gives what stricter rules of the firewall say of requests that were let through"),
];

/// How many lines from the past when nobody says.
const LINES_DEFAULT: usize = 100;
const LINES_MAX: usize = 1_000_000;

/// Reads the query of `/logs`.
pub(crate) fn logs(query: &str) -> Result<LogQuery, String> {
    let mut wanted = LogQuery { lines: LINES_DEFAULT, ..LogQuery::default() };
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if value.is_empty() {
            continue;
        }
        match name {
            "service" => wanted.service = Some(value.parse().map_err(|error| format!("`service`: {error}"))?),
            "instance" if value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'-') => {
                wanted.instance = Some(value.into());
            }
            "instance" => return Err(format!("`instance`: `{value}` is not written like `api.7`")),
            "lines" => {
                let lines = value.parse().map_err(|_| format!("`lines`: `{value}` is not a whole number"))?;
                wanted.lines = LINES_MAX.min(lines);
            }
            "follow" => wanted.follow = switch(name, value)?,
            "access" => wanted.access = switch(name, value)?,
            "shadow" => wanted.shadow = switch(name, value)?,
            other => {
                let known: Vec<_> = LOG_PARAMETERS.iter().map(|(name, _)| *name).collect();
                return Err(format!("`{other}` is unknown; there are {}", known.join(", ")));
            }
        }
    }
    Ok(wanted)
}

/// Writes it. Nothing in it needs escaping: names and numbers only.
pub(crate) fn of_logs(wanted: &LogQuery) -> String {
    let LogQuery { lines, follow, access, shadow, .. } = wanted;
    let mut query = format!("lines={lines}&follow={follow}&access={access}&shadow={shadow}");
    if let Some(service) = &wanted.service {
        query.push_str(&format!("&service={service}"));
    }
    if let Some(instance) = &wanted.instance {
        query.push_str(&format!("&instance={instance}"));
    }
    query
}

fn switch(name: &str, value: &str) -> Result<bool, String> {
    match value {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(format!("`{name}`: `{value}` is neither `true` nor `false`")),
    }
}

/// Names and values, with everything escaped that is no letter or digit (RFC 3986 section 2.1).
pub(crate) fn form(params: &[(&str, &str)]) -> String {
    let escaped = |text: &str| -> String {
        text.bytes()
            .map(|byte| match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' => char::from(byte).to_string(),
                _ => format!("%{byte:02X}"),
            })
            .collect()
    };
    let pairs = params.iter().map(|(name, value)| format!("{}={}", escaped(name), escaped(value)));
    pairs.collect::<Vec<_>>().join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_survives_the_way() {
        let asked = LogQuery {
            service: Some("api".parse().unwrap()),
            instance: Some("api.7".into()),
            lines: 20,
            follow: true,
            access: false,
            shadow: true,
        };
        assert_eq!(format!("{:?}", logs(&of_logs(&asked)).unwrap()), format!("{asked:?}"));
        assert_eq!(logs("").unwrap().lines, LINES_DEFAULT);
    }

    #[test]
    fn whatever_is_asked_is_understood_or_refused() {
        klar_fuzz::Fuzz {
            name: "queries for logs",
            seeds: &[
                b"service=web&lines=5&follow=true&access=0",
                b"instance=api.7",
                b"lines=99999999999999999999",
                b"&&=&x",
            ],
            words: &[
                b"service=",
                b"instance=",
                b"lines=",
                b"follow=",
                b"true",
                b"&",
                b"=",
                b"-1",
                b"%20",
                b"../",
            ],
            longest: 100,
        }
        .run(|input| {
            let Ok(query) = std::str::from_utf8(input) else { return };
            let Ok(wanted) = logs(query) else { return };
            assert!(wanted.lines <= LINES_MAX);
            // It becomes part of the name of a file.
            assert!(wanted.instance.iter().all(|name| !name.contains('/') && name.is_ascii()));
            assert_eq!(logs(&of_logs(&wanted)).map(|again| of_logs(&again)), Ok(of_logs(&wanted)));
        });
    }

    #[test]
    fn what_is_not_understood_is_said() {
        for (query, expected) in [
            ("line=2", "`line` is unknown; there are service, instance, lines, follow, access, shadow"),
            ("lines=many", "`lines`: `many` is not a whole number"),
            ("follow=maybe", "`follow`: `maybe` is neither `true` nor `false`"),
            ("instance=../x", "`instance`: `../x` is not written like `api.7`"),
        ] {
            assert_eq!(logs(query).unwrap_err(), expected);
        }
    }
}
