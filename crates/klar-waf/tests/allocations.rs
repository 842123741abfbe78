//! A request of a kind that came before allocates nothing.
#![allow(clippy::unwrap_used)]

#[path = "../examples/counting/mod.rs"]
mod counting;

use std::path::{Path, PathBuf};

use klar_waf::engine::{Head, Memory, Waf};
use klar_waf::seclang::{self, Source};

/// What rule sets are made of, in little.
const RULES: &str = r#"
SecRuleEngine On
SecAction "id:1,phase:1,nolog,pass,setvar:tx.critical=5,setvar:'tx.methods=GET HEAD POST',setvar:tx.level=1,setvar:'tx.forbidden=/proxy/'"
SecRule &TX:limit "@eq 0" "id:2,phase:1,nolog,pass,setvar:tx.limit=5"
SecRule REQUEST_METHOD "!@within %{tx.methods}" "id:3,phase:1,block,setvar:'tx.score=+%{tx.critical}'"
SecRule REQUEST_HEADERS_NAMES "@rx ^.*$" "id:4,phase:1,block,capture,t:lowercase,setvar:'tx.header_%{tx.0}=/%{tx.0}/',chain"
    SecRule TX:/^header_/ "@within %{tx.forbidden}" "setvar:'tx.score=+%{tx.critical}'"
SecRule ARGS|REQUEST_COOKIES|!REQUEST_COOKIES:/^__utm/|REQUEST_HEADERS:User-Agent "@rx (?i)union\s+select|<script" "id:5,phase:2,block,t:urlDecodeUni,t:lowercase,setvar:'tx.score=+%{tx.critical}'"
SecRule ARGS|ARGS_NAMES "@detectSQLi" "id:6,phase:2,block,setvar:'tx.score=+%{tx.critical}'"
SecRule TX:level "@lt 2" "id:7,phase:2,nolog,pass,skipAfter:END"
SecRule ARGS "@rx ." "id:8,phase:2,block,setvar:'tx.score=+%{tx.critical}'"
SecMarker END
SecRule TX:score "@ge %{tx.limit}" "id:9,phase:2,deny,status:403"
"#;

fn compile(files: &[(PathBuf, String)]) -> Waf {
    let mut directives = Vec::new();
    for (name, text) in files {
        directives.extend(seclang::parse(&Source { name: &name.to_string_lossy(), text }).directives);
    }
    let beside = |file: &str, name: &str| std::fs::read(Path::new(file).parent()?.join(name)).ok();
    // What CRS 3 has of look-around is left out.
    Waf::new(&seclang::resolve(directives), &beside).0
}

/// How often something was allocated for the last of many such requests.
fn allocations(waf: &Waf) -> u64 {
    let headers: [(&[u8], &[u8]); 7] = [
        (b"Host", b"shop.example.com"),
        (b"User-Agent", b"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36"),
        (b"Accept", b"text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"),
        (b"Accept-Language", b"nb-NO,nb;q=0.9,no;q=0.8,en-US;q=0.7,en;q=0.6"),
        (b"Accept-Encoding", b"gzip, deflate, br"),
        (b"Cookie", b"session=Zm9vYmFyYmF6cXV4MTIzNDU2Nzg5MA; theme=dark; consent=all"),
        (b"Connection", b"keep-alive"),
    ];
    let caches = waf.caches();
    let mut memory = Box::<Memory>::default();
    let mut last = 0;
    for _ in 0..8 {
        let before = counting::allocations();
        let mut transaction = waf.begin(memory);
        let head = Head {
            method: b"GET",
            target: b"/catalogue/search?q=running+shoes&size=42&sort=price_asc",
            protocol: b"HTTP/1.1",
            headers: &headers,
            remote: b"192.0.2.7",
            unique_id: b"0123456789abcdef",
        };
        assert!(transaction.request(&caches, &head).is_none());
        assert!(transaction.request_body(&caches).is_none());
        transaction.log(&caches);
        assert_eq!(transaction.matched().count(), 0);
        memory = transaction.end();
        last = counting::allocations() - before;
    }
    last
}

#[test]
fn a_get_allocates_nothing_once_all_is_warm() {
    assert_eq!(allocations(&compile(&[("rules.conf".into(), RULES.to_owned())])), 0);
    let named = std::env::var_os("KLAR_CRS_DIR").map(|folder| Path::new(&folder).join("rules"));
    for folder in [Some("/usr/share/modsecurity-crs/rules".into()), named].into_iter().flatten() {
        if !folder.is_dir() {
            println!("skipped: there is no {}", folder.display());
            continue;
        }
        let setup =
            "SecRuleEngine On\nSecAction \"id:900990,phase:1,nolog,pass,setvar:tx.crs_setup_version=420\"";
        let mut files = vec![(folder.join("setup.conf"), setup.to_owned())];
        let mut names: Vec<PathBuf> =
            std::fs::read_dir(&folder).unwrap().map(|one| one.unwrap().path()).collect();
        names.retain(|name| name.extension().is_some_and(|extension| extension == "conf"));
        names.sort();
        for name in names {
            let text = String::from_utf8_lossy(&std::fs::read(&name).unwrap()).into_owned();
            files.push((name, text));
        }
        assert_eq!(allocations(&compile(&files)), 0, "{}", folder.display());
    }
}
