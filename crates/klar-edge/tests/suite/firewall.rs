//! The firewall, seen from outside: what reaches the app, what visitors get, and what is on the record.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use crate::common::{Answer, App, Edge, HOST, PATIENCE, Then, http2, reply, route};
use crate::look;
use klar_base::Secret;
use klar_base::look::{Question, Told};
use klar_base::replay::{Replay, Replayed, Sent, StoppedRequest};
use klar_base::shadow::{Shadowed, ShadowedRequest, Trial, Tried};
use klar_base::signal::{AccessRecord, DecidedBy, WafVerdict};
use klar_base::upstreams::{Route, RuleFiles, Waf, WafMode, WafRules};

/// What was kept of the only request that was stopped.
fn stopped(edge: &Edge) -> StoppedRequest {
    edge.core().wait("a request that was stopped", |heard| heard.stopped.first().cloned())
}

/// Has it judged again, with `own` before all other rules.
fn replay(edge: &Edge, request: &StoppedRequest, own: &str, parameters: &[&str]) -> Result<Replayed, String> {
    let parameters = parameters.iter().map(ToString::to_string).collect();
    let (app, sent, own) = (request.app.clone(), request.sent.clone(), own.to_owned());
    match look::ask(edge, Question::Replay(Box::new(Replay { app, sent, own, parameters }))) {
        Told::Replayed { said } => said.map(|replayed| *replayed),
        other => panic!("{other:?} for a replay"),
    }
}

/// Rules that are easy to follow: anything with `evil` in it.
const RULES: &str = r#"
SecRule ARGS|REQUEST_HEADERS|REQUEST_COOKIES "@contains evil" "id:1,phase:2,deny,status:403,log,msg:'Something evil'"
SecRule ARGS|FILES "@contains odd" "id:2,phase:2,pass,log,msg:'Something odd'"
SecRule REQUEST_BODY "@contains wicked" "id:4,phase:2,deny,status:403,log,msg:'Something wicked'"
SecRule RESPONSE_BODY "@contains Traceback" "id:3,phase:4,deny,status:403,log,msg:'A leak'"
"#;

/// An app that says how much it got, with an edge before it that has these rules.
fn edge(mode: WafMode, rules: WafRules, own: &str, files: &[(&str, &str)]) -> (App, Edge) {
    edge_with(mode, Waf { rules, paranoia: 1, own: own.to_owned(), shadow: None }, files)
}

fn edge_with(mode: WafMode, waf: Waf, files: &[(&str, &str)]) -> (App, Edge) {
    let app = App::start(|got, stream| match got.line.as_str() {
        "GET /leak" => reply(stream, "200 OK", "content-type: text/html\r\n", "<h1>Traceback</h1>"),
        "GET /leak/later" => {
            let head = "HTTP/1.1 500 Oh\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n";
            let sent = write!(stream, "{head}9\r\nTraceback\r\n0\r\n\r\n");
            if sent.is_ok() { Then::Keep } else { Then::Close }
        }
        "GET /code.js" => reply(stream, "200 OK", "content-type: text/javascript\r\n", "'Traceback'"),
        _ => reply(stream, "200 OK", "content-type: text/plain\r\n", &format!("{} bytes", got.body.len())),
    });
    let set = RuleFiles {
        rules: files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect(),
        data: vec![("words.data".into(), "nasty\n".into())],
    };
    let edge = Edge::with(&[&app], |edge| {
        let path = edge.control.with_file_name("set.json");
        std::fs::write(&path, serde_json::to_vec(&set).unwrap()).unwrap();
        edge.folders.push(std::fs::File::open(path).unwrap().into());
        let site = edge.site();
        site.waf = Some(waf);
        site.routes = vec![
            Route { waf: mode, body_bytes: Some(8 << 20), ..route("/*") },
            Route { waf: WafMode::Off, ..route("/open/*") },
        ];
        edge.config.check_key = Some(Secret::new("a key".into()));
    });
    (app, edge)
}

/// In blocking mode, by [`RULES`].
fn guarded() -> (App, Edge) {
    edge(WafMode::Block, WafRules::Core, RULES, &[])
}

fn ask(edge: &Edge, line: &str, headers: &str, body: &str) -> Answer {
    let length = if body.is_empty() { String::new() } else { format!("content-length: {}\r\n", body.len()) };
    edge.ask(&format!("{line} HTTP/1.1\r\nhost: {HOST}\r\n{headers}{length}\r\n{body}"))
}

fn found(record: &AccessRecord) -> Option<(WafVerdict, Vec<u32>, &str)> {
    let finding = record.waf.as_ref()?;
    let rules = finding.matches.iter().map(|one| one.rule);
    Some((finding.verdict, rules.collect(), &finding.matches.first()?.place))
}

const FORM: &str = "content-type: application/x-www-form-urlencoded\r\n";
const JSON: &str = "content-type: application/json\r\n";
const PARTS: &str = "content-type: multipart/form-data; boundary=b\r\n";

fn part(name: &str, value: &str) -> String {
    format!("--b\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
}

/// What is sent, and where something is found in it: nothing of that reaches the app.
#[test]
fn attacks_end_at_the_edge() {
    let (app, edge) = guarded();
    let in_parts = part("a", "evil") + "--b--\r\n";
    let late = format!("a={}&b=evil", "x".repeat(500_000));
    for (line, headers, body, place) in [
        ("GET /?q=evil", "", "", "ARGS:q"),
        ("GET /?q=%65vil", "", "", "ARGS:q"),
        ("HEAD /?q=evil", "", "", "ARGS:q"),
        ("GET /a", "x-a: evil\r\n", "", "REQUEST_HEADERS:x-a"),
        ("GET /a", "cookie: a=1; b=evil\r\n", "", "REQUEST_HEADERS:cookie"),
        ("POST /", FORM, "a=1&b=evil", "ARGS:b"),
        ("POST /", FORM, &late, "ARGS:b"),
        ("POST /", JSON, r#"{"a":{"b":["evil"]}}"#, "ARGS:json.a.b.array_0"),
        ("PUT /", JSON, r#"{"a":"\u0065vil"}"#, "ARGS:json.a"),
        ("POST /", PARTS, &in_parts, "ARGS:a"),
    ] {
        let answer = ask(&edge, line, headers, body);
        assert_eq!(answer.status, 403, "{line} {headers}");
        let record = edge.record(&answer);
        let (verdict, rules, at) = found(&record).unwrap();
        assert_eq!((verdict, rules[0]), (WafVerdict::Blocked, 1), "{line} {headers}");
        assert!(at.eq_ignore_ascii_case(place), "{line} {headers}: {at}");
        assert_eq!(record.decided_by, DecidedBy::Refused);
        let matches = record.waf.unwrap().matches;
        assert_eq!(matches[0].message, "Something evil");
        assert!(matches.iter().all(|one| !one.place.starts_with("TX:")), "{matches:?}");
    }
    assert_eq!(app.got().len(), 0);
}

#[test]
fn a_body_in_chunks_is_judged_whole() {
    let (app, edge) = guarded();
    let chunks = "3\r\na=e\r\n2\r\nvi\r\n1\r\nl\r\n0\r\n\r\n";
    let headers = format!("{FORM}transfer-encoding: chunked\r\n");
    let answer = edge.ask(&format!("POST / HTTP/1.1\r\nhost: {HOST}\r\n{headers}\r\n{chunks}"));
    assert_eq!((answer.status, app.got().len()), (403, 0));
    let answer = ask(&edge, "POST /", FORM, "a=good");
    assert_eq!((answer.status, answer.text().as_str()), (200, "6 bytes"));
}

/// A body of another type, or of none, is judged by what it looks like: apps read such bodies too.
#[test]
fn what_a_body_says_it_is_does_not_hide_it() {
    let (app, edge) = guarded();
    let padded = format!("{} wicked", "x ".repeat(20_000));
    let length_unknown = |kind: &str, body: &str| {
        let head = format!("POST / HTTP/1.1\r\nhost: {HOST}\r\n{kind}transfer-encoding: chunked\r\n\r\n");
        edge.ask(&format!("{head}{:x}\r\n{body}\r\n0\r\n\r\n", body.len()))
    };
    for (kind, body, place) in [
        ("content-type: text/plain\r\n", r#"{"a":"evil"}"#, "ARGS:json.a"),
        ("", r#" ["evil"]"#, "ARGS:json.array_0"),
        ("content-type: image/png\r\n", "a=evil", "ARGS:a"),
        ("content-type: application/x-ours\r\n", "so wicked a text", "REQUEST_BODY"),
        ("content-type: text/csv\r\n", "\u{1}not only text: wicked", "REQUEST_BODY"),
        ("content-type: text/plain\r\n", &padded, "REQUEST_BODY"),
        ("", "&a&q=\u{1}&b=evil", "ARGS:b"),
        ("content-type: text/json\r\n", r#"{"a":"evil"}"#, "ARGS:json.a"),
        // Not well-formed, which nobody said it is.
        ("content-type: text/plain\r\n", "{\"a\":\"evil\",", "ARGS:json.a"),
    ] {
        for answer in [ask(&edge, "POST /", kind, body), ask(&edge, "PUT /", kind, body)] {
            let record = edge.record(&answer);
            assert_eq!((answer.status, found(&record).unwrap().2), (403, place), "{kind}");
        }
        if !kind.contains("image") {
            assert_eq!(length_unknown(kind, body).status, 403, "{kind}");
        }
    }
    assert_eq!(app.got().len(), 0);
    // Nobody waits for what is no text, to see whether it is.
    assert_eq!(length_unknown("content-type: image/png\r\n", "a=evil").status, 200);
    // Not what it looks like: no harm.
    let list = format!("<ul>{}", "<li>item".repeat(200));
    let deep = "[ ".repeat(200);
    let many = format!("[{}1]", "1,".repeat(2000));
    for (kind, body) in [("html", &list[..]), ("plain", "[a](b)"), ("plain", &deep), ("plain", &many)] {
        let kind = format!("content-type: text/{kind}\r\n");
        assert_eq!(ask(&edge, "POST /", &kind, body).status, 200, "{body:.20}");
    }
}

/// Of a long text the beginning is judged, and all of it arrives.
#[test]
fn a_long_text_goes_on() {
    let (app, edge) = guarded();
    let long = "x ".repeat(1_500_000);
    for (at, kind) in ["content-type: text/csv\r\n", ""].into_iter().enumerate() {
        let answer = ask(&edge, "POST /", kind, &long);
        assert_eq!((answer.status, app.got().pop().unwrap().body.len()), (200, long.len()), "{kind}");
        let answer = ask(&edge, "POST /", kind, &format!("wicked {long}"));
        assert_eq!((answer.status, app.got().len()), (403, at + 1), "{kind}");
    }
}

/// What is honest goes on as it came, on the straight way and on the general one.
#[test]
fn the_rest_goes_on() {
    let (app, edge) = guarded();
    let picture = "\u{1}evil\u{2}".repeat(1000);
    for (line, headers, body) in [
        ("GET /?q=good", "", ""),
        ("POST /", FORM, "a=good"),
        ("POST /", JSON, r#"{"a":"good"}"#),
        // What is no form is nobody's parameter.
        ("POST /", "content-type: image/png\r\n", &picture),
    ] {
        let answer = ask(&edge, line, headers, body);
        assert_eq!((answer.status, edge.record(&answer).waf), (200, None), "{line}");
        assert_eq!(app.got().pop().unwrap().body, body.as_bytes());
    }
}

/// Of a body beyond the limit the rules see the beginning: a file may be as long as the route lets it, a form may not.
#[test]
fn long_bodies() {
    let (app, edge) = guarded();
    let long = "x".repeat((1 << 20) + 10);
    let answer = ask(&edge, "POST /", FORM, &format!("a={long}"));
    assert_eq!((answer.status, app.got().len()), (413, 0));
    let file = "--b\r\ncontent-disposition: form-data; name=\"f\"; filename=\"f\"\r\n\r\n";
    let answer = ask(&edge, "POST /", PARTS, &format!("{}{file}{long}\r\n--b--\r\n", part("a", "evil")));
    assert_eq!((answer.status, app.got().len()), (403, 0));
    let body = format!("{}{file}{long}\r\n--b--\r\n", part("a", "good"));
    let answer = ask(&edge, "POST /", PARTS, &body);
    assert_eq!((answer.status, app.got().pop().unwrap().body.len()), (200, body.len()));
}

/// A body that is not what it says it is could be anything.
#[test]
fn bodies_that_cannot_be_read() {
    let (app, edge) = guarded();
    for (headers, body) in [(JSON, r#"{"a":"#), (PARTS, "--b\r\nno header"), (PARTS, "no part")] {
        assert_eq!(ask(&edge, "POST /", headers, body).status, 403, "{body}");
    }
    assert_eq!(app.got().len(), 0);
}

#[test]
fn over_http2_as_over_http1() {
    let (app, edge) = guarded();
    let mut client = http2::Client::new(&edge);
    assert_eq!(client.get("/?q=evil").status, 403);
    assert_eq!(client.get("/?q=good").status, 200);
    let post = |body: &'static str| {
        let request = http2::Client::request("POST", "/").header("content-type", "application/json");
        request.body(http2::full(body)).unwrap()
    };
    assert_eq!(client.ask(post(r#"{"a":"evil"}"#)).unwrap().status, 403);
    assert_eq!(client.ask(post(r#"{"a":"good"}"#)).unwrap().status, 200);
    assert_eq!(app.got().len(), 2);
}

/// Where it only detects, everything goes on, and the record says what would not have.
#[test]
fn what_would_be_stopped_is_told() {
    let (app, edge) = edge(WafMode::Detect, WafRules::Core, RULES, &[]);
    for (line, headers, body, wanted) in [
        ("GET /?q=evil", "", "", (WafVerdict::Detected, vec![1], "ARGS:q")),
        ("POST /", FORM, "a=evil+odd", (WafVerdict::Detected, vec![1, 2], "ARGS:a")),
        ("GET /?q=odd", "", "", (WafVerdict::Noted, vec![2], "ARGS:q")),
        ("GET /leak", "", "", (WafVerdict::Detected, vec![3], "RESPONSE_BODY")),
    ] {
        let answer = ask(&edge, line, headers, body);
        let record = edge.record(&answer);
        assert_eq!((answer.status, found(&record)), (200, Some(wanted)), "{line}");
    }
    assert_eq!(app.got().len(), 4);
}

#[test]
fn a_route_may_have_none_and_probes_look_past_it() {
    let (app, edge) = guarded();
    assert_eq!(ask(&edge, "GET /open/?q=evil", "", "").status, 200);
    assert_eq!(ask(&edge, "GET /?q=evil", "klar-check: a key\r\n", "").status, 200);
    for guess in ["klar-check: a kez\r\n", "klar-check:\r\n", "klar-check: a\r\nklar-check: key\r\n"] {
        assert_eq!(ask(&edge, "GET /?q=evil", guess, "").status, 403, "{guess}");
    }
    assert_eq!(ask(&edge, "GET /?q=good", "klar-check: wrong\r\n", "").status, 200);
    let got = app.got();
    assert_eq!(got.len(), 3);
    assert!(got.iter().all(|got| got.header("klar-check").is_none()), "the app sees no key");
}

/// What an app says that it should not is kept back, whole or in chunks; what only looks like it is not.
#[test]
fn leaks_stay_inside() {
    let (_app, edge) = guarded();
    for path in ["/leak", "/leak/later"] {
        let answer = edge.get(path);
        assert_eq!(answer.status, 502, "{path}");
        assert!(!answer.text().contains("Traceback"), "{path}");
        let record = edge.record(&answer);
        assert_eq!(found(&record), Some((WafVerdict::Blocked, vec![3], "RESPONSE_BODY")), "{path}");
    }
    assert_eq!(edge.get("/code.js").text(), "'Traceback'");
}

/// The page says what happened, in the visitor's language, with the number that the record has.
#[test]
fn the_page() {
    let (_app, edge) = guarded();
    for (language, title) in
        [("nb", "Dette ble stoppet"), ("sv", "Detta stoppades"), ("de", "This was stopped")]
    {
        let headers = format!("accept: text/html\r\naccept-language: {language}\r\n");
        let answer = ask(&edge, "GET /?q=evil", &headers, "");
        let page = answer.text();
        assert!(page.contains(title) && page.contains(&edge.record(&answer).request_id), "{page}");
        assert!(!page.contains("evil"), "nothing of what was sent is sent back");
    }
    let answer = ask(&edge, "GET /?q=evil", "", "");
    assert!(answer.text().contains("the firewall stopped this request"), "{}", answer.text());
}

/// A set of somebody else's, with a file of words; rules of the app itself stand before it.
#[test]
fn a_rule_set_from_files() {
    let set = WafRules::Set { name: "ours".into(), file: 0, digest: "1".into() };
    let files = [
        (
            "a.conf",
            "SecRule ARGS \"@pmFromFile words.data\" \"id:7,phase:2,deny,status:403,log,msg:'A word'\"",
        ),
        ("b.conf", "SecRule ARGS \"@nonsense\" \"id:8,phase:2,deny\"\n"),
    ];
    let own = "SecRule REQUEST_FILENAME \"@streq /free\" \"id:6,phase:1,pass,nolog,ctl:ruleRemoveById=7\"\n";
    let (_app, edge) = edge(WafMode::Block, set, own, &files);
    assert_eq!(edge.get("/?q=nasty").status, 403);
    assert_eq!(edge.get("/free?q=nasty").status, 200);
    assert_eq!(edge.get("/?q=nice").status, 200);
}

/// klar's own set, as every app has it.
#[test]
fn the_rules_that_come_along() {
    let (app, edge) = edge(WafMode::Block, WafRules::Core, "", &[]);
    for (line, headers, body) in [
        ("GET /?id=1%27%20UNION%20SELECT%20password%20FROM%20users--%20", "", ""),
        ("GET /?q=%3Cscript%3Ealert(1)%3C/script%3E", "", ""),
        ("POST /", JSON, r#"{"name":"' OR '1'='1"}"#),
    ] {
        assert_eq!(ask(&edge, line, headers, body).status, 403, "{line} {body}");
    }
    assert_eq!(app.got().len(), 0);
    for (line, headers, body) in [
        ("GET /?q=O%27Brien&sort=name&page=2", "", ""),
        ("POST /", JSON, r#"{"note":"Please select one from the list, and drop me a line"}"#),
    ] {
        assert_eq!(ask(&edge, line, headers, body).status, 200, "{line} {body}");
    }
}

/// Rules that cannot run are said for as long as they are there.
#[test]
fn rules_that_do_not_run() {
    let rule = "SecRule ARGS \"@rx a(?=b)c\" \"id:9,phase:2,deny\"\nSecRule ARGS \"@nonsense\" \"id:10,phase:2,deny\"\n";
    let (_app, edge) = edge(WafMode::Block, WafRules::Core, rule, &[]);
    let refused = edge.core().wait("vitals", |heard| {
        heard.vitals.last().and_then(|vitals| vitals.refused_rules.values().next().cloned())
    });
    assert!(refused.count == 2 && refused.first.contains("klar.toml"), "{refused:?}");
    assert_eq!(ask(&edge, "GET /?q=1", "", "").status, 200);
}

/// Whoever asks why sees what came, without what is secret, and what each rule made of it.
#[test]
fn what_was_stopped_is_judged_again() {
    let rule =
        "SecRule ARGS \"@contains evil\" \"id:4,phase:2,deny,status:403,log,t:urlDecodeUni,t:lowercase\"\n";
    let (_app, edge) = edge(WafMode::Block, WafRules::Core, rule, &[]);
    let headers = format!("{FORM}cookie: sid=Abc1\r\nauthorization: Bearer Abc1\r\nx-a: b\r\n");
    let answer = ask(&edge, "POST /notes?n=1", &headers, "password=Abc1&text=%2545VIL");
    assert_eq!(answer.status, 403);
    let request = stopped(&edge);
    assert_eq!(request.request_id, edge.record(&answer).request_id);
    let sent = &request.sent;
    let wanted = ("POST", "/notes?n=1", "password=xxx1&text=%2545VIL");
    assert_eq!((&*sent.method, &*sent.target, &*sent.body), wanted);
    let header =
        |name: &str| sent.headers.iter().find(|(its, _)| its == name).map(|(_, value)| value.as_str());
    assert_eq!((header("cookie"), header("authorization")), (Some("sid=xxx1"), Some("xxxxxx yyy2")));
    assert_eq!((header("x-a"), sent.is_masked, sent.is_cut), (Some("b"), true, false));

    let exception = "SecRule REQUEST_FILENAME \"@streq /notes\" \
                     \"id:5,phase:1,pass,nolog,ctl:ruleRemoveTargetById=4;ARGS:text\"\n";
    let replayed = replay(&edge, &request, exception, &["text", "absent"]).unwrap();
    assert_eq!((replayed.now.verdict, replayed.then.verdict), (Some(WafVerdict::Blocked), None));
    let reason = &replayed.now.matches[0];
    assert_eq!((reason.rule, &*reason.place, &*reason.question), (4, "ARGS:text", "@contains"));
    assert_eq!((&*reason.file, reason.line, &*reason.value), ("klar.toml", 1, "%45VIL"));
    let steps: Vec<_> = reason.steps.iter().map(|step| (&*step.name, &*step.value)).collect();
    assert_eq!(steps, [("urlDecodeUni", "EVIL"), ("lowercase", "evil")]);
    // Of what else could be sent there, only what this one rule alone would stop comes through.
    let [attacked] = &replayed.attacks[..] else { panic!("{:?}", replayed.attacks) };
    assert_eq!((&*attacked.parameter, attacked.tried), ("text", 40));
    assert!(attacked.stopped_now >= 35, "{attacked:?}");
    assert_eq!(attacked.freed.len() as u32, attacked.stopped_now - attacked.stopped_then);
    assert!(attacked.freed.iter().all(|attack| attack.contains("evil")), "{attacked:?}");

    let elsewhere = exception.replace("/notes", "/other");
    let replayed = replay(&edge, &request, &elsewhere, &[]).unwrap();
    assert_eq!(replayed.then.verdict, Some(WafVerdict::Blocked));
    let why = replay(&edge, &request, "SecRule ARGS \"@nonsense\" \"id:6,phase:2,pass\"\n", &[]).unwrap_err();
    assert!(why.contains("klar.toml"), "{why}");
}

/// What would have been stopped is kept, too; what went through unseen is not.
#[test]
fn what_would_be_stopped_is_kept() {
    let (_app, edge) = edge(WafMode::Detect, WafRules::Core, RULES, &[]);
    let lines = ["GET /a", "GET /?q=odd", "GET /open/?q=evil", "GET /?q=evil"];
    let answers = lines.map(|line| ask(&edge, line, "", ""));
    assert_eq!(answers.each_ref().map(|answer| answer.status), [200; 4]);
    answers.iter().for_each(|answer| drop(edge.record(answer)));
    assert_eq!(stopped(&edge).sent.target, "/?q=evil");
}

/// Rules with levels, in the words of the Core Rule Set.
const LEVELS: &str = r#"
SecAction "id:20,phase:1,pass,nolog,setvar:tx.inbound_anomaly_score_threshold=5"
SecRule ARGS "@contains bad" "id:21,phase:2,pass,log,msg:'Bad',tag:'paranoia-level/1',setvar:tx.inbound_anomaly_score_pl1=+5"
SecRule TX:detection_paranoia_level "@lt 2" "id:22,phase:2,pass,nolog,skipAfter:END"
SecRule ARGS "@contains doubtful" "id:23,phase:2,pass,log,msg:'Doubtful',tag:'paranoia-level/2',setvar:tx.inbound_anomaly_score_pl2=+3"
SecRule TX:detection_paranoia_level "@lt 3" "id:24,phase:2,pass,nolog,skipAfter:END"
SecRule ARGS "@contains fu" "id:25,phase:2,pass,log,msg:'Any',tag:'paranoia-level/3',setvar:tx.inbound_anomaly_score_pl3=+2"
SecMarker END
SecAction "id:26,phase:2,pass,nolog,setvar:tx.sum=%{tx.inbound_anomaly_score_pl1},setvar:tx.sum=+%{tx.inbound_anomaly_score_pl2},setvar:tx.sum=+%{tx.inbound_anomaly_score_pl3}"
SecRule TX:sum "@ge 5" "id:27,phase:2,deny,status:403,log,msg:'Too much'"
"#;

/// Asks for it until stricter rules have looked at it: they rest in between.
fn shadowed(edge: &Edge, line: &str, headers: &str, body: &str) -> ShadowedRequest {
    let target = line.split(' ').nth(1).unwrap();
    let end = Instant::now() + PATIENCE;
    loop {
        assert_eq!(ask(edge, line, headers, body).status, 200, "{line}");
        let heard = edge.core().wait("anything", |heard| Some(heard.shadowed.clone()));
        if let Some(found) = heard.into_iter().find(|one| one.sent.target == target) {
            return found;
        }
        assert!(Instant::now() < end, "nobody looked at {line}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What is let through is looked at by all levels; passwords stay here, and nothing is stopped for it.
#[test]
fn stricter_rules_look_at_what_is_let_through() {
    let set = WafRules::Set { name: "ours".into(), file: 0, digest: "1".into() };
    let waf = Waf { rules: WafRules::Core, paranoia: 1, own: String::new(), shadow: Some(set) };
    let (_app, edge) = edge_with(WafMode::Block, waf, &[("a.conf", LEVELS)]);
    for (target, stopped_from, found) in [
        ("/a?q=fine", None, vec![]),
        ("/b?q=bad", Some(1), vec![(1, 21), (1, 27)]),
        ("/c?q=doubtful", Some(3), vec![(2, 23), (3, 25), (1, 27)]),
        ("/d?q=fu", None, vec![(3, 25)]),
    ] {
        let one = shadowed(&edge, &format!("GET {target}"), "", "");
        assert_eq!(one.found.stopped_from, stopped_from, "{target}");
        let matches = one.found.matches.iter().map(|one| (one.level, one.found.rule));
        assert_eq!(matches.collect::<Vec<_>>(), found, "{target}");
        assert_eq!((one.status, one.route.as_deref()), (200, Some("/*")));
    }
    let one = shadowed(&edge, "POST /login", FORM, "name=fulla&password=doubtful1");
    assert_eq!(one.sent.body, "name=fulla&password=xxxxxxxx1", "what is kept");
    let places: Vec<&str> = one.found.matches.iter().map(|one| &*one.found.place).collect();
    assert!(places.contains(&"ARGS:password"), "they look at what came: {places:?}");
    assert_eq!(edge.get("/?q=1%27%20UNION%20SELECT%20a%20FROM%20b--").status, 403);
    let heard = edge.core().wait("all", |heard| Some(heard.shadowed.clone()));
    assert!(heard.iter().all(|one| !one.sent.target.contains("UNION")), "what is stopped is none of theirs");
}

/// Requests that were kept, judged by rules that are not in force: at one level, with exceptions and without.
#[test]
fn other_rules_are_tried() {
    let (_app, edge) = guarded();
    let sent = |target: &str| Sent {
        method: "GET".into(),
        target: target.into(),
        protocol: "HTTP/1.1".into(),
        remote: "203.0.113.7".into(),
        headers: vec![("host".into(), HOST.into())],
        body: String::new(),
        is_cut: false,
        is_masked: false,
    };
    let app = edge.config.sites[0].app.clone();
    let kept = |(number, target): (u64, &&str)| ShadowedRequest {
        time_unix_ms: 100 + number,
        request_id: format!("{number}"),
        app: app.clone(),
        route: None,
        status: 200,
        found: Shadowed::default(),
        sent: sent(target),
    };
    let targets = ["/a?q=fine", "/b?q=bad", "/c?q=doubtful", "/d?q=fu"];
    let mut lines: String =
        (0..).zip(&targets).map(kept).map(|one| serde_json::to_string(&one).unwrap() + "\n").collect();
    lines.push_str("{\"time_unix_ms\": 7, half a line");
    let file = |text: &str| {
        let path = edge.control.with_file_name(format!("{}.json", text.len()));
        std::fs::write(&path, text).unwrap();
        OwnedFd::from(std::fs::File::open(path).unwrap())
    };
    let set = RuleFiles { rules: vec![("a.conf".into(), LEVELS.into())], data: Vec::new() };
    let files = [file(&lines), file(&serde_json::to_string(&set).unwrap())];
    let attempt = |rules, paranoia, own: &str, attacked: &[(&str, &str)]| {
        let attacked = attacked.iter().map(|(id, place)| (id.to_string(), place.to_string())).collect();
        let trial = Trial { app: app.clone(), rules, paranoia, own: own.to_owned(), requests: 0, attacked };
        match look::ask_with(&edge, Question::Try(Box::new(trial)), &files) {
            Told::Tried { said } => said.map(|tried| *tried),
            other => panic!("{other:?} for a trial"),
        }
    };
    let ids = |tried: &Tried| tried.stopped.iter().map(|one| one.request_id.clone()).collect::<Vec<_>>();
    for (level, stopped) in [(1, &["1"][..]), (2, &["1"]), (3, &["1", "2"]), (4, &["1", "2"])] {
        let tried = attempt(Some(1), level, "", &[]).unwrap();
        assert_eq!(
            (tried.judged, tried.times, ids(&tried)),
            (4, Some((100, 103)), stopped.iter().map(ToString::to_string).collect()),
            "{level}"
        );
    }
    let own = "SecRule REQUEST_FILENAME \"@streq /c\" \"id:6,phase:1,pass,nolog,ctl:ruleRemoveTargetById=25;ARGS:q\"\n";
    let tried = attempt(Some(1), 3, own, &[("2", "q")]).unwrap();
    assert_eq!(ids(&tried), ["1"]);
    assert_eq!((tried.attacks.len(), tried.attacks[0].tried), (1, 40));
    let tried = attempt(None, 1, "", &[]).unwrap();
    assert!(
        ids(&tried).is_empty(),
        "klar's own rules have nothing against them, nor has the app's: {tried:?}"
    );
    assert!(attempt(Some(7), 1, "", &[]).unwrap_err().contains("did not come along"));
}
