//! A `klar.toml` from anywhere, with anything in it: understood, or refused with what is wrong, in a text that has an end
//! and does nothing to a terminal.

#![allow(clippy::unwrap_used, missing_docs)]

use std::path::Path;

use klar_base::EnvName;
use klar_config::{Config, explain_all};
use klar_fuzz::Fuzz;

#[test]
fn whatever_is_in_it_is_understood_or_explained() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/broken");
    let mut texts: Vec<Vec<u8>> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .map(|path| std::fs::read(path).unwrap())
        .filter(|text| text.len() < 2000)
        .collect();
    texts.sort();
    let good = [
        // What was found: the hint showed the address as it stands there.
        "app.name = \"a\"\n[services.web]\nrun = \"x\"\nenv = { T = \"file:\u{202e}.db\" }\n",
        "[app]\nname = \"shop\"\ndomains = [\"shop.example\"]\n[services.web]\nrun = \"node server.js\"\nhealth = \"/healthz\"\n",
        "app.name = \"a\"\nservices.web.run = \"x\"\nservices.web.env = { API_KEY = \"hunter2hunter2\" }\n",
        "[app]\nname = \"a\"\n[services.web]\nrun = \"x\"\n[edge]\ntimeout = \"5s\"\n[routes]\n\"/api/*\" = \"web\"\n\"/x\" = { to = \"web\", cache = \"30s\" }\n",
        "[app]\nname = \"a\"\n[services.web]\nrun = \"x\"\n[data.db]\nurl = \"postgres://u:hunter2hunter2@h/d\"\n[env.staging.services.web]\nrun = \"y\"\n",
    ];
    let seeds: Vec<&[u8]> =
        good.iter().map(|text| text.as_bytes()).chain(texts.iter().map(Vec::as_slice)).collect();
    Fuzz {
        name: "klar.toml",
        seeds: &seeds,
        words: &[
            b"[app]\n",
            b"name = ",
            b"[services.web]\n",
            b"[[services]]\n",
            b"[env.staging.app]\n",
            b"[routes]\n",
            b"[edge]\n",
            b"\"\"\"",
            b"'''",
            b"{ ",
            b" }",
            b"[",
            b"]",
            b"=",
            b".",
            b"\n",
            b"#",
            b"\"",
            b"\\u0000",
            b"\\U0010FFFF",
            b"1979-05-27T00:00:00Z",
            b"inf",
            b"nan",
            b"0x7fffffffffffffff",
            b"-9223372036854775808",
            b"\xef\xbb\xbf",
            b"\r\n",
            b"\xe2\x80\xae",
            b"hunter2hunter2",
            b"secret:x",
            b"://u:hunter2hunter2@h",
            b"= [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
            b"a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a = 1\n",
        ],
        longest: 3000,
    }
    .run(|input| {
        let Ok(text) = std::str::from_utf8(input) else { return };
        for env in ["prod", "staging"] {
            let env: EnvName = env.parse().unwrap();
            match Config::parse(text, "klar.toml", &env) {
                Ok(loaded) => assert!(!explain_all(&loaded).is_empty()),
                Err(errors) => {
                    assert!(!errors.errors().is_empty());
                    let rendered = errors.render(false);
                    // Bounded by the file: each error shows a few lines of it.
                    assert!(rendered.len() <= 100_000 + 20 * text.len(), "{} bytes", rendered.len());
                    assert!(!rendered.contains('\u{202e}') && !rendered.contains('\u{1b}'), "{rendered:?}");
                    let json = serde_json::to_string(&errors).unwrap();
                    assert!(json.len() <= 100_000 + 20 * text.len());
                }
            }
        }
    });
}
