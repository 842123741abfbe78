//! The exceptions of an app's firewall, in the language of its rules.

use std::collections::BTreeMap;
use std::fmt::Write;

use klar_base::ServiceName;
use klar_base::replay::Exception;
use klar_config::{WafException, WafPlace, WafRoute};

/// The number of the first of these rules.
const FIRST: u32 = 90_100_000;

/// The number of the first of those that are only tried.
const TRIED: u32 = 90_190_000;

/// `[waf.NAME]` of a `klar.toml`, as SecLang: to stand before all other rules.
pub fn own_rules(exceptions: &BTreeMap<ServiceName, WafException>) -> String {
    let mut text = String::new();
    for (number, (name, exception)) in (FIRST..).zip(exceptions) {
        let path = path_expression(exception.route.as_str());
        let place = exception.parameter.as_ref().map(|parameter| place(parameter.as_str()));
        // Writing to a text does not fail.
        let _ = match (&exception.pattern, &place) {
            (Some(pattern), Some(place)) => writeln!(
                text,
                "SecRule REQUEST_FILENAME \"@rx {path}\" \"id:{number},phase:2,deny,status:403,log,severity:CRITICAL,\
                 msg:'Not what [waf.{name}] asks for',chain\"\n  SecRule {place} \"!@rx ^(?:{})$\" \"t:none\"",
                quoted(pattern.as_str())
            ),
            _ => writeln!(text, "{}", passing(number, &path, place.as_deref(), &exception.allow)),
        };
    }
    text
}

/// Exceptions that are not in any `klar.toml` yet.
///
/// # Errors
/// What is wrong with one.
pub fn trial(exceptions: &[Exception]) -> Result<String, String> {
    let mut text = String::new();
    for (number, exception) in (TRIED..).zip(exceptions) {
        let route = WafRoute::new(&exception.route)?;
        let parameter = exception.parameter.as_deref().map(WafPlace::new).transpose()?;
        let place = parameter.map(|parameter| place(parameter.as_str()));
        let path = path_expression(route.as_str());
        text.push_str(&passing(number, &path, place.as_deref(), &exception.allow));
        text.push('\n');
    }
    Ok(text)
}

/// A rule that keeps others from looking somewhere.
fn passing(number: u32, path: &str, place: Option<&str>, allow: &[u32]) -> String {
    let controls = allow.iter().map(|rule| match place {
        Some(place) => format!(",ctl:ruleRemoveTargetById={rule};{place}"),
        None => format!(",ctl:ruleRemoveById={rule}"),
    });
    let controls: String = controls.collect();
    format!("SecRule REQUEST_FILENAME \"@rx {path}\" \"id:{number},phase:1,pass,nolog{controls}\"")
}

/// Which paths a route takes, decoded.
fn path_expression(route: &str) -> String {
    match route.strip_suffix("/*") {
        Some(prefix) => format!("^{}(?:/|$)", literal(prefix)),
        None => format!("^{}$", literal(route)),
    }
}

/// Where rules look for `NAME`, `header:NAME`, `cookie:NAME`.
fn place(parameter: &str) -> String {
    match parameter.split_once(':') {
        Some(("header", name)) => format!("REQUEST_HEADERS:{name}"),
        Some(("cookie", name)) => format!("REQUEST_COOKIES:{name}"),
        _ => format!("ARGS:{parameter}"),
    }
}

/// The name in `klar.toml` of a place that a record has, as `ARGS:text`; `None` of what no exception is for.
pub fn parameter_of(place: &str) -> Option<String> {
    let name = match place.split_once(':')? {
        ("ARGS" | "ARGS_GET" | "ARGS_POST", name) => name.to_owned(),
        ("REQUEST_HEADERS", name) => format!("header:{name}"),
        ("REQUEST_COOKIES", name) => format!("cookie:{name}"),
        _ => return None,
    };
    WafPlace::new(&name).is_ok().then_some(name)
}

/// The route of an exception for a path as it came: rules see it decoded. `None`: no exception can name it.
pub fn route_of(path: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((first, more)) = rest.split_first() {
        let escape = more.split_at_checked(2).filter(|_| *first == b'%');
        let escaped = escape.and_then(|(digits, behind)| {
            let digits = std::str::from_utf8(digits).ok().filter(|digits| !digits.starts_with('+'))?;
            Some((u8::from_str_radix(digits, 16).ok()?, behind))
        });
        let (byte, behind) = escaped.unwrap_or((*first, more));
        bytes.push(byte);
        rest = behind;
    }
    String::from_utf8(bytes).ok().filter(|path| WafRoute::new(path).is_ok())
}

fn literal(text: &str) -> String {
    let mut out = String::new();
    for one in text.chars() {
        if one.is_ascii_punctuation() && !matches!(one, '/' | '-' | '_') {
            out.push('\\');
        }
        out.push(one);
    }
    out
}

/// An expression between double quotes.
fn quoted(expression: &str) -> String {
    expression.replace('"', "\\\"")
}

#[cfg(test)]
mod tests {
    use klar_config::Config;

    use super::*;

    #[test]
    fn exceptions_become_rules() {
        let file = r#"
            app.name = "shop"
            services.web.run = "true"
            [waf.a-notes]
            route = "/api/notes.json"
            parameter = "json.text"
            allow = [942100, 941100]
            [waf.b-search]
            route = "/search/*"
            allow = [920420]
            [waf.c-id]
            parameter = "id"
            pattern = '[0-9]{1,9}|"none"'
            [waf.d-agent]
            parameter = "header:User-Agent"
            allow = [913100]
        "#;
        let config = Config::parse(file, "klar.toml", &"prod".parse().unwrap()).unwrap().config;
        let wanted = r#"SecRule REQUEST_FILENAME "@rx ^/api/notes\.json$" "id:90100000,phase:1,pass,nolog,ctl:ruleRemoveTargetById=942100;ARGS:json.text,ctl:ruleRemoveTargetById=941100;ARGS:json.text"
SecRule REQUEST_FILENAME "@rx ^/search(?:/|$)" "id:90100001,phase:1,pass,nolog,ctl:ruleRemoveById=920420"
SecRule REQUEST_FILENAME "@rx ^(?:/|$)" "id:90100002,phase:2,deny,status:403,log,severity:CRITICAL,msg:'Not what [waf.c-id] asks for',chain"
  SecRule ARGS:id "!@rx ^(?:[0-9]{1,9}|\"none\")$" "t:none"
SecRule REQUEST_FILENAME "@rx ^(?:/|$)" "id:90100003,phase:1,pass,nolog,ctl:ruleRemoveTargetById=913100;REQUEST_HEADERS:User-Agent"
"#;
        assert_eq!(own_rules(&config.waf), wanted);
    }

    #[test]
    fn what_is_tried_is_looked_at_first() {
        let exception = |route: &str, parameter: &str| Exception {
            route: route.into(),
            parameter: Some(parameter.into()),
            allow: vec![942_100],
        };
        let wanted = "SecRule REQUEST_FILENAME \"@rx ^/a(?:/|$)\" \
                      \"id:90190000,phase:1,pass,nolog,ctl:ruleRemoveTargetById=942100;ARGS:q\"\n";
        assert_eq!(trial(&[exception("/a/*", "q")]).as_deref(), Ok(wanted));
        for (route, parameter) in [("a", "q"), ("/a", "q\",ctl:ruleEngine=Off"), ("/a", ""), ("/a", "q;b")] {
            assert!(trial(&[exception(route, parameter)]).is_err(), "{route} {parameter}");
        }
    }

    #[test]
    fn places_and_parameters() {
        for (parameter, its) in
            [("a.b", "ARGS:a.b"), ("header:X-A", "REQUEST_HEADERS:X-A"), ("cookie:s", "REQUEST_COOKIES:s")]
        {
            assert_eq!(place(parameter), its);
            assert_eq!(parameter_of(its).as_deref(), Some(parameter));
        }
        for place in ["REQUEST_BODY", "ARGS:my name", "ARGS:"] {
            assert_eq!(parameter_of(place), None);
        }
        for (path, route) in [
            ("/a/b", Some("/a/b")),
            ("/s%C3%B8k/%31", Some("/søk/1")),
            ("/100%", Some("/100%")),
            ("/%+1", Some("/%+1")),
            ("/a%00b", None),
            ("/%ff", None),
        ] {
            assert_eq!(route_of(path).as_deref(), route, "{path}");
        }
    }
}
