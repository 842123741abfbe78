//! The text as people see it.

use klar_base::look::{Away, Outcome, Policy, Refusal, StoredView};
use klar_base::signal::CacheOutcome;

use super::*;

fn plain(told: &Explained, origins: &[Option<String>]) -> String {
    anstream::adapter::strip_str(&render(told, origins)).to_string()
}

fn policy(key: Option<&str>, name: &str, value: &str, here: Option<&str>) -> Policy {
    Policy {
        name: name.into(),
        value: value.into(),
        here: here.map(String::from),
        key: key.map(String::from),
    }
}

fn instance(number: u64, weight: u32, wellness: Wellness) -> InstanceCounts {
    InstanceCounts {
        id: format!("shop.prod.web.{number}").parse().unwrap(),
        release: "0123456789ab".parse().unwrap(),
        weight,
        wellness,
        in_flight: number as u32 * 10,
        requests: 0,
        failures: 0,
    }
}

fn refusal(word: &str, why: &str) -> Option<Refusal> {
    Some(Refusal { word: word.into(), why: why.into() })
}

fn told() -> Explained {
    let would = |answer: &str, fresh_s, refusal| WouldKeep { answer: answer.into(), fresh_s, refusal };
    let no_lifetime = "it states no lifetime (s-maxage, max-age, expires, cdn-cache-control)";
    Explained {
        method: "GET".into(),
        url: "https://shop.test/goods?page=2".into(),
        app: Some("shop.prod".parse().unwrap()),
        route: Some("/*".into()),
        service: Some("web".parse().unwrap()),
        files: None,
        outcome: Outcome {
            decided_by: DecidedBy::Edge,
            status: Some(200),
            what: "from the cache".into(),
            location: None,
        },
        instances: vec![instance(3, 1, Wellness::Well), instance(12, 0, Wellness::Gone)],
        next: Some("shop.prod.web.3".parse().unwrap()),
        policies: vec![
            policy(Some("edge.header_limit"), "size of the head", "32KiB", Some("this one has 70 bytes")),
            policy(Some("routes.*.timeout"), "time for the answer", "5s", None),
            policy(None, "idle connection", "1m", None),
        ],
        cache: Some(CacheView {
            bypass: None,
            key: vec![("app".into(), "shop.prod".into()), ("path".into(), "/goods".into())],
            now: "klar; hit; ttl=42".into(),
            what: "gives what is kept".into(),
            outcome: CacheOutcome::Hit,
            stored: Some(StoredView {
                status: 200,
                age_s: 18,
                left_s: 42,
                bytes: 5120,
                vary: vec!["accept-encoding".into()],
                tags: vec!["goods".into()],
                can_validate: true,
                stands_in_s: Some(3642),
                stands_in_not: None,
            }),
            others: 2,
            in_flight: false,
            last_refusal: None,
            would_keep: vec![
                would("", None, refusal("no-lifetime", no_lifetime)),
                would("cache-control: max-age=60", Some(60), None),
            ],
        }),
        away: Some(Away {
            status: 200,
            what: "the answer that is kept, for another 3642 s".into(),
            stale: true,
        }),
        adds: vec![("x-frame-options".into(), "DENY".into())],
        sites: Vec::new(),
    }
}

#[test]
fn from_the_cache() {
    let origins = ["default", "line 12"].map(|origin| Some(origin.to_owned()));
    insta::assert_snapshot!(plain(&told(), &origins));
}

#[test]
fn to_the_app() {
    let mut told = told();
    told.outcome.decided_by = DecidedBy::App;
    told.outcome.status = None;
    told.outcome.what = "web.3 answers".into();
    told.away = Some(Away {
        status: 503,
        what: "503 when no instance comes up within 10s, with a page that says so".into(),
        stale: false,
    });
    told.policies.clear();
    told.adds.clear();
    let cache = told.cache.as_mut().unwrap();
    cache.stored = None;
    cache.others = 0;
    cache.in_flight = true;
    cache.now = "klar; fwd=uri-miss".into();
    cache.what = "has nothing, and asks the app".into();
    cache.last_refusal = refusal("set-cookie", "it sets a cookie, which is somebody's");
    insta::assert_snapshot!(plain(&told, &[]));
}

#[test]
fn nobody_takes_it() {
    let site = |app: &str, hosts: &[&str]| SiteView {
        app: app.parse().unwrap(),
        hosts: hosts.iter().map(ToString::to_string).collect(),
        routes: vec![("/api/*".into(), "api".into()), ("/*".into(), "files".into())],
    };
    let told = Explained {
        app: None,
        route: None,
        service: None,
        outcome: Outcome {
            decided_by: DecidedBy::Refused,
            status: Some(404),
            what: "no app answers to this host name".into(),
            location: None,
        },
        instances: Vec::new(),
        next: None,
        policies: Vec::new(),
        cache: None,
        away: None,
        adds: Vec::new(),
        sites: vec![site("shop", &["shop.test", "www.shop.test"]), site("shop.staging", &[])],
        ..told()
    };
    insta::assert_snapshot!(plain(&told, &[]));
}

/// What a visitor or an app wrote cannot steer the terminal.
#[test]
fn strangers_words_are_tamed() {
    let mut told = told();
    told.url = "https://shop.test/\u{1b}[2J".into();
    let stored = told.cache.as_mut().unwrap().stored.as_mut().unwrap();
    stored.tags = vec!["\u{1b}]0;title\u{7}".into()];
    let text = render(&told, &[]);
    assert!(!text.contains("[2J") && !text.contains("title"), "{text}");
}
