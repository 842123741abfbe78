//! What holds for every file: nothing panics, and what `klar explain` shows is the configuration itself.

#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;

use klar_base::EnvName;
use klar_config::{Config, explain, explain_all};
use proptest::prelude::*;
use proptest::sample::select;

/// Words of a `klar.toml`, good and bad, so that random files get past the first line.
fn fragments() -> impl Strategy<Value = String> {
    let words = vec![
        "[app]\n",
        "name = \"shop\"\n",
        "[services.web]\n",
        "[services.\"æ\"]\n",
        "run = \"x\"\n",
        "static = \"d\"\n",
        "[env.staging.app]\n",
        "[env.prod]\n",
        "[routes]\n",
        "\"/*\" = \"web\"\n",
        "\"/a*\" = { to = \"web\" }\n",
        "[data.db]\n",
        "url = \"postgres://u:p@h/d\"\n",
        "postgres = \"managed\"\n",
        "env = { A = 1, API_KEY = \"k\" }\n",
        "instances = { min = 9, max = 1 }\n",
        "port = -1\n",
        "cpu = 1e300\n",
        "memory = \"9\"\n",
        "schedule = \"* * * *\"\n",
        "kind = \"cron\"\n",
        "a.b.c.d = [",
        "{",
        "}",
        "]",
        "\"",
        "'''",
        "=",
        ".",
        "\n",
        "#",
        "\u{0}",
        "\r",
        "ø",
        "1979-05-27",
        "[[services]]\n",
        "[edge]\n",
        "timeout = \"99999999999999999999d\"\n",
        "-----BEGIN PRIVATE KEY-----",
        "://a:b@",
    ];
    proptest::collection::vec(select(words), 0..24).prop_map(|parts| parts.concat())
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Lines for a web service; each may be there or not.
fn service() -> impl Strategy<Value = String> {
    let maybe = |strategy: BoxedStrategy<String>| proptest::option::of(strategy);
    let lines = vec![
        maybe(
            (1u32..5, 0u32..5)
                .prop_map(|(min, more)| format!("instances = {{ min = {min}, max = {} }}", min + more))
                .boxed(),
        ),
        maybe(
            select(vec!["health = \"/healthz\"", "health = \"/-/ping?a=b\""]).prop_map(str::to_owned).boxed(),
        ),
        maybe("[ -~]{0,12}".prop_map(|text| format!("build = {}", quoted(&format!("x{text}")))).boxed()),
        maybe("[a-z]{1,8}(/[a-z]{1,8})?".prop_map(|dir| format!("writable = [{}]", quoted(&dir))).boxed()),
        maybe(
            "[ -~æ\u{85}]{0,12}"
                .prop_map(|text| {
                    format!("env = {{ GREETING = {{ plain = {} }}, TOKEN = \"secret:t\" }}", quoted(&text))
                })
                .boxed(),
        ),
        maybe((16u32..4096).prop_map(|size| format!("memory = \"{size}MiB\"")).boxed()),
        maybe((10u32..4000).prop_map(|cores| format!("cpu = {}", f64::from(cores) / 1000.0)).boxed()),
        maybe((1u32..90).prop_map(|time| format!("ready_timeout = \"{time}s\"")).boxed()),
        maybe(Just("protocol = \"http/1.1\"".to_owned()).boxed()),
        maybe(any::<bool>().prop_map(|sticky| format!("sticky = {sticky}")).boxed()),
    ];
    lines.prop_map(|lines| lines.into_iter().flatten().map(|line| line + "\n").collect())
}

/// A file without mistakes.
fn good_file() -> impl Strategy<Value = String> {
    let part = |text: &'static str| proptest::option::of(Just(text)).prop_map(Option::unwrap_or_default);
    (
        service(),
        part("[services.pages]\nstatic = \"dist\"\nspa = false\n"),
        part("[services.night]\nkind = \"cron\"\nrun = \"x\"\nschedule = \"30 3 * * *\"\n"),
        part("[services.mailer]\nkind = \"worker\"\nrun = \"x\"\n"),
        part("[routes]\n\"/api/checkout\" = { to = \"web\", idempotent = true }\n\"/v1.2/*\" = \"web\"\n\"/*\" = \"web\"\n"),
        part("[data.db]\npostgres = \"managed\"\n[data.other]\nurl = \"env:OTHER_URL\"\n[data.cache]\nredis = \"managed\"\n"),
        part("[edge]\ntimeout = \"5s\"\nbody_limit = \"1GiB\"\ncsp_policy = \"default-src 'self'\"\n"),
        part("[env.staging.services.web]\ninstances = 3\n[env.staging.deploy]\nkeep = 2\n"),
    )
        .prop_map(|(service, pages, night, mailer, routes, data, edge, env)| {
            format!("[app]\nname = \"shop\"\n[services.web]\nrun = \"node \\\"a b\\\" \\t'c'\"\n{service}{pages}{night}{mailer}{routes}{data}{edge}{env}")
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        let text = String::from_utf8_lossy(&bytes);
        if let Err(errors) = Config::parse(&text, "klar.toml", &EnvName::default()) {
            prop_assert!(!errors.render(false).is_empty());
        }
    }

    #[test]
    fn any_words_are_answered(text in fragments(), staging in any::<bool>()) {
        let env = if staging { EnvName::new("staging").unwrap() } else { EnvName::default() };
        match Config::parse(&text, "klar.toml", &env) {
            Ok(loaded) => prop_assert!(!explain_all(&loaded).is_empty()),
            Err(errors) => prop_assert!(!errors.render(true).is_empty()),
        }
    }

    #[test]
    fn any_question_is_answered(question in "\\PC{0,24}", key in select(vec!["services.web.", "routes.\"/*\".", "env.x.", ""])) {
        let _ = explain(None, &format!("{key}{question}"));
    }

    #[test]
    fn what_is_explained_is_what_is_in_force(text in good_file(), staging in any::<bool>()) {
        let env = if staging { EnvName::new("staging").unwrap() } else { EnvName::default() };
        let loaded = Config::parse(&text, "klar.toml", &env).map_err(|errors| TestCaseError::fail(format!("{text}\n{errors}")))?;
        let mut lines: BTreeMap<String, String> = BTreeMap::new();
        for one in explain_all(&loaded) {
            if let Some(value) = one.value {
                prop_assert!(lines.insert(one.key.clone(), value).is_none(), "{} twice", one.key);
            }
            let again = explain(Some(&loaded), &one.key).map_err(|error| TestCaseError::fail(error.to_string()))?;
            prop_assert_eq!(&again.key, &one.key);
            prop_assert_eq!(again.origin, one.origin);
        }
        let spelled: String = lines.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
        let again = Config::parse(&spelled, "klar.toml", &EnvName::default())
            .map_err(|errors| TestCaseError::fail(format!("{spelled}\n{errors}")))?;
        let expected = Config { env: EnvName::default(), ..loaded.config };
        prop_assert_eq!(again.config, expected);
    }
}
