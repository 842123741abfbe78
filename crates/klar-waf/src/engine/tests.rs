//! What rules do, rule by rule.
#![allow(clippy::unwrap_used)]

use super::{Answer, Head, Memory, Waf};
use crate::seclang::{self, Refused, Source};

/// What came of a request.
#[derive(Debug, Default, PartialEq, Eq)]
struct Said {
    /// Each rule that matched, once.
    rules: Vec<u32>,
    /// Names of the values that matched, with what the rules say of them.
    values: Vec<String>,
    /// The rule that ends it, its status, and whether it does.
    ended: Option<(u32, u16, bool)>,
}

struct Asked<'a> {
    line: [&'a str; 2],
    headers: &'a [(&'a str, &'a str)],
    body: &'a str,
    answer: Option<(u16, &'a str)>,
}

const GET: Asked<'_> =
    Asked { line: ["GET", "/"], headers: &[("Host", "a.example")], body: "", answer: None };

fn compile(rules: &str) -> (Waf, Vec<Refused>) {
    let parsed = seclang::parse(&Source { name: "rules.conf", text: rules });
    assert!(parsed.refused.is_empty(), "{:?}", parsed.refused);
    let set = seclang::resolve(parsed.directives);
    assert!(set.refused.is_empty(), "{:?}", set.refused);
    Waf::new(&set, &|_, name| (name == "words.data").then(|| b"# words\nalpha\nbeta gamma\n".to_vec()))
}

fn ask(waf: &Waf, memory: Box<Memory>, asked: &Asked<'_>) -> (Said, Box<Memory>) {
    let caches = waf.caches();
    let headers: Vec<(&[u8], &[u8])> =
        asked.headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
    let mut transaction = waf.begin(memory);
    let head = Head {
        method: asked.line[0].as_bytes(),
        target: asked.line[1].as_bytes(),
        protocol: b"HTTP/1.1",
        headers: &headers,
        remote: b"192.0.2.7",
        unique_id: b"0123456789abcdef",
    };
    let is_over = transaction.request(&caches, &head).is_some() || {
        transaction.push_body(asked.body.as_bytes());
        transaction.request_body(&caches).is_some()
    };
    if !is_over && let Some((status, body)) = asked.answer {
        let headers: [(&[u8], &[u8]); 1] = [(b"Content-Type", b"text/html; charset=utf-8")];
        transaction.response(&caches, &Answer { status, protocol: b"HTTP/1.1", headers: &headers });
        transaction.push_response_body(body.as_bytes());
        transaction.response_body(&caches);
    }
    transaction.log(&caches);
    let mut said = Said::default();
    for one in transaction.matched() {
        if said.rules.last() != Some(&one.rule) {
            said.rules.push(one.rule);
        }
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        said.values.push(format!(
            "{} {}={} {}",
            one.collection.name(),
            text(one.name),
            text(one.value),
            text(one.data)
        ));
    }
    said.ended = transaction.interruption().map(|one| (one.rule, one.status, one.blocks));
    (said, transaction.end())
}

fn say(rules: &str, asked: &Asked<'_>) -> Said {
    let (waf, refused) = compile(rules);
    assert!(refused.is_empty(), "{refused:?}");
    ask(&waf, Box::default(), asked).0
}

fn get(rules: &str, target: &str) -> Said {
    say(rules, &Asked { line: ["GET", target], ..GET })
}

#[test]
fn operators() {
    for (operator, yes, no) in [
        ("@rx ^a.c$", "abc", "abd"),
        ("!@rx ^a", "bc", "abc"),
        ("@pm foo BAR", "xBarx", "xbaz"),
        ("@pmFromFile words.data", "the beta gamma", "the beta"),
        ("@streq abc", "abc", "ABC"),
        ("@contains b", "abc", "ac"),
        ("@containsWord b", "a b c", "abc"),
        ("@beginsWith ab", "abc", "cab"),
        ("@endsWith bc", "abc", "bca"),
        ("@within abc def", "bc", "bd"),
        ("@eq 5", "5", "6"),
        ("@gt 5", "6", "5"),
        ("@lt 5", "4", "5"),
        ("!@eq 5", "6", "5"),
        ("@validateByteRange 97-122", "abc1", "abc"),
        ("@validateUrlEncoding", "%zz", "%41"),
        ("@validateUtf8Encoding", "%c3%28", "%c3%a5"),
        ("@detectSQLi", "1%27%20or%20%271%27=%271", "an ordinary text"),
        ("@detectXSS", "<script>alert(1)</script>", "a < b"),
        ("@ipMatch 10.0.0.0/8", "10.1.2.3", "11.1.2.3"),
        ("@verifyCC \\d{13,16}", "4111111111111111", "4111111111111112"),
        ("@unconditionalMatch", "x", ""),
    ] {
        let rules = format!("SecRule ARGS:x \"{operator}\" \"id:1,phase:1,pass\"");
        let target = |value: &str| format!("/?x={}", value.replace(' ', "+"));
        assert_eq!(get(&rules, &target(yes)).rules, [1], "{operator} on {yes}");
        if !no.is_empty() {
            assert_eq!(get(&rules, &target(no)).rules, [0; 0], "{operator} on {no}");
        }
    }
}

#[test]
fn targets() {
    let asked = Asked {
        line: ["POST", "/a/b.php?q=1&q=2&other=3"],
        headers: &[
            ("Host", "a.example"),
            ("Cookie", "one=1; two=2"),
            ("Content-Type", "application/x-www-form-urlencoded"),
        ],
        body: "q=4&last=5",
        answer: None,
    };
    for (targets, values) in [
        ("ARGS", "ARGS q=1|ARGS q=2|ARGS other=3|ARGS q=4|ARGS last=5"),
        ("ARGS:Q", "ARGS q=1|ARGS q=2|ARGS q=4"),
        ("ARGS|!ARGS:q", "ARGS other=3|ARGS last=5"),
        ("ARGS:/^(o|l)/", "ARGS other=3|ARGS last=5"),
        ("ARGS_GET:q", "ARGS_GET q=1|ARGS_GET q=2"),
        ("ARGS_POST", "ARGS_POST q=4|ARGS_POST last=5"),
        ("ARGS_POST_NAMES", "ARGS_POST_NAMES q=q|ARGS_POST_NAMES last=last"),
        ("&ARGS", "ARGS =5"),
        ("&ARGS:nothing", "ARGS nothing=0"),
        ("REQUEST_COOKIES", "REQUEST_COOKIES one=1|REQUEST_COOKIES two=2"),
        ("REQUEST_HEADERS:host", "REQUEST_HEADERS Host=a.example"),
        ("REQUEST_METHOD", "REQUEST_METHOD =POST"),
        ("REQUEST_FILENAME", "REQUEST_FILENAME =/a/b.php"),
        ("REQUEST_BASENAME", "REQUEST_BASENAME =b.php"),
        ("QUERY_STRING", "QUERY_STRING =q=1&q=2&other=3"),
        ("REQUEST_BODY", "REQUEST_BODY =q=4&last=5"),
        ("REQUEST_PROTOCOL", "REQUEST_PROTOCOL =HTTP/1.1"),
        ("REMOTE_ADDR", "REMOTE_ADDR =192.0.2.7"),
        ("ARGS_COMBINED_SIZE", "ARGS_COMBINED_SIZE =17"),
        ("REQBODY_PROCESSOR", "REQBODY_PROCESSOR =URLENCODED"),
    ] {
        let rules = format!("SecRule {targets} \"@unconditionalMatch\" \"id:1,phase:2,pass\"");
        let said = say(&rules, &asked);
        let seen: Vec<&str> = said.values.iter().map(|value| value.trim_end()).collect();
        assert_eq!(seen.join("|"), values, "{targets}");
    }
}

#[test]
fn bodies_are_read_as_their_type_says() {
    for (kind, body, targets, values) in [
        (
            "application/json",
            r#"{"a":{"b":["x",2]}}"#,
            "ARGS",
            "ARGS json.a.b.array_0=x|ARGS json.a.b.array_1=2",
        ),
        ("text/xml", "<r k='v'>text</r>", "XML:/*", "XML /*=text"),
        ("text/xml", "<r k='v'>text</r>", "XML://@*", "XML //@*=v"),
        (
            "multipart/form-data; boundary=b",
            "--b\r\nContent-Disposition: form-data; name=f; filename=\"x.php\"\r\n\r\n<?php\r\n--b--\r\n",
            "FILES",
            "FILES f=x.php",
        ),
        ("text/plain", "some text", "REQUEST_BODY", "REQUEST_BODY =some text"),
        ("application/json", "{\"a\":", "REQBODY_ERROR", "REQBODY_ERROR =1"),
    ] {
        let rules = format!("SecRule {targets} \"@unconditionalMatch\" \"id:1,phase:2,pass\"");
        let headers = [("Content-Type", kind)];
        let said = say(&rules, &Asked { line: ["POST", "/"], headers: &headers, body, answer: None });
        let seen: Vec<&str> = said.values.iter().map(|value| value.trim_end()).collect();
        assert_eq!(seen.join("|"), values, "{kind} {targets}");
    }
}

#[test]
fn transformations_are_chained_and_each_value_is_kept_as_it_came() {
    let rules = "SecRule ARGS \"@streq <b>\" \"id:1,phase:1,pass,t:none,t:urlDecodeUni,t:htmlEntityDecode,t:lowercase\"";
    let said = get(rules, "/?a=%2526lt%253BB%253E&b=nothing");
    assert_eq!(said.values, ["ARGS a=<b> "]);
}

#[test]
fn multi_match_asks_after_each_transformation() {
    let rules = |extra: &str| {
        format!("SecRule ARGS \"@contains A\" \"id:1,phase:1,pass,t:none,t:lowercase,t:uppercase{extra}\"")
    };
    assert_eq!(get(&rules(""), "/?a=xa").values, ["ARGS a=XA "]);
    assert_eq!(get(&rules(",multiMatch"), "/?a=xA").values.len(), 2, "as it came, and as it is in the end");
}

#[test]
fn all_links_of_a_chain_must_hold_and_each_does_what_it_does() {
    let rules = "
        SecRule ARGS:a \"@rx ^(x+)\" \"id:1,phase:1,deny,status:406,capture,setvar:tx.seen=+1,chain,logdata:'%{TX.1} in %{MATCHED_VAR_NAME}'\"
            SecRule ARGS:b \"@streq %{tx.1}\" \"setvar:tx.both=1\"
        SecRule TX:seen \"@eq 1\" \"id:2,phase:1,pass\"
        SecRule TX:both \"@eq 1\" \"id:3,phase:1,pass\"";
    let said = get(rules, "/?a=xxy&b=xx");
    assert_eq!(said.ended, Some((1, 406, true)));
    assert_eq!(said.values[0], "ARGS a=xxy xx in ARGS:a");
    let said = get(rules, "/?a=xxy&b=x");
    assert_eq!(
        (said.rules, said.ended),
        (vec![2], None),
        "what the first link does is done, the rest is not"
    );
}

#[test]
fn scores_add_up_for_each_value() {
    let rules = "
        SecAction \"id:1,phase:1,pass,nolog,setvar:tx.critical=5,setvar:'tx.limit=10'\"
        SecRule ARGS \"@contains bad\" \"id:2,phase:1,pass,setvar:'tx.score=+%{tx.critical}'\"
        SecRule TX:score \"@ge %{tx.limit}\" \"id:3,phase:1,deny,status:403\"";
    assert_eq!(get(rules, "/?a=bad").ended, None);
    assert_eq!(get(rules, "/?a=bad&b=bad").ended, Some((3, 403, true)));
    assert_eq!(get(rules, "/?a=good").rules, [0; 0]);
}

#[test]
fn variables_are_set_added_to_and_unset() {
    for (set, targets, holds) in [
        ("setvar:tx.a=7", "TX:A \\\"@eq 7\\\"", true),
        ("setvar:tx.a=x%{REQUEST_METHOD}", "TX:a \\\"@streq xGET\\\"", true),
        ("setvar:tx.a=3,setvar:tx.a=-1", "TX:a \\\"@eq 2\\\"", true),
        ("setvar:tx.a=3,setvar:!tx.a", "&TX:a \\\"@eq 0\\\"", true),
        ("setvar:'tx.x_%{REQUEST_METHOD}=1'", "TX:/^x_g/ \\\"@eq 1\\\"", true),
        ("setvar:'tx.x_%{REQUEST_METHOD}=1'", "TX:x_get \\\"@eq 1\\\"", true),
        ("setvar:ip.seen=1", "IP:seen \\\"@eq 1\\\"", true),
        ("setvar:tx.b=1", "TX:a \\\"@eq 0\\\"", false),
        ("setvar:tx.b=1", "TX:a \\\"!@eq 1\\\"", false),
    ] {
        let rule = targets.replace("\\\"", "\"");
        let rules =
            format!("SecAction \"id:1,phase:1,pass,nolog,{set}\"\nSecRule {rule} \"id:2,phase:1,pass\"");
        assert_eq!(!get(&rules, "/").rules.is_empty(), holds, "{set}, then {rule}");
    }
}

#[test]
fn rules_are_skipped_and_left_out() {
    let rules = "
        SecRule ARGS:skip \"@streq marker\" \"id:1,phase:1,pass,nolog,skipAfter:END\"
        SecRule ARGS:skip \"@streq one\" \"id:2,phase:1,pass,nolog,skip:1\"
        SecRule ARGS:skip \"@streq rule\" \"id:3,phase:1,pass,nolog,ctl:ruleRemoveById=10\"
        SecRule ARGS:skip \"@streq tag\" \"id:4,phase:1,pass,nolog,ctl:ruleRemoveByTag=attack\"
        SecRule ARGS:skip \"@streq target\" \"id:5,phase:1,pass,nolog,ctl:ruleRemoveTargetById=10-11;ARGS:a\"
        SecRule ARGS:skip \"@streq engine\" \"id:6,phase:1,pass,nolog,ctl:ruleEngine=Off\"
        SecRule ARGS:a \"@contains x\" \"id:10,phase:1,pass,tag:'attack-some'\"
        SecRule ARGS:a|REQUEST_METHOD \"@rx x|G\" \"id:11,phase:1,pass\"
        SecMarker END
        SecRule ARGS:a \"@contains x\" \"id:12,phase:1,pass\"";
    for (skip, left) in [
        ("nothing", &[10, 11, 12][..]),
        ("marker", &[12]),
        ("rule", &[11, 12]),
        ("tag", &[11, 12]),
        ("target", &[11, 12]),
        ("engine", &[]),
    ] {
        assert_eq!(get(rules, &format!("/?a=x&skip={skip}")).rules, left, "{skip}");
    }
    let said = get(rules, "/?a=x&skip=target");
    assert_eq!(said.values[0], "REQUEST_METHOD =GET ", "{said:?}");
    assert_eq!(get(rules, "/?a=x&skip=one").rules, [10, 11, 12], "the rule behind is 3");
}

#[test]
fn who_only_detects_goes_on_and_says_what_it_would_have_done() {
    let rules = |mode: &str| {
        format!(
            "SecRuleEngine {mode}
             SecRule ARGS:a \"@streq x\" \"id:1,phase:1,deny,status:403\"
             SecRule ARGS:a \"@streq x\" \"id:2,phase:2,deny,status:404\""
        )
    };
    let said = get(&rules("On"), "/?a=x");
    assert_eq!((said.rules, said.ended), (vec![1], Some((1, 403, true))));
    let said = get(&rules("DetectionOnly"), "/?a=x");
    assert_eq!((said.rules, said.ended), (vec![1, 2], Some((1, 403, false))));
    assert_eq!(get(&rules("Off"), "/?a=x"), Said::default());
}

#[test]
fn allowed_requests_are_not_asked_further() {
    let rules = |reach: &str| {
        format!(
            "SecRule REMOTE_ADDR \"@ipMatch 192.0.2.0/24\" \"id:1,phase:1,allow{reach},nolog\"
             SecAction \"id:2,phase:1,pass\"
             SecAction \"id:3,phase:2,pass\"
             SecAction \"id:4,phase:3,pass\"
             SecAction \"id:5,phase:5,pass\""
        )
    };
    for (reach, left) in [("", &[5][..]), (":request", &[4, 5]), (":phase", &[3, 4, 5])] {
        let asked = Asked { answer: Some((200, "")), ..GET };
        assert_eq!(say(&rules(reach), &asked).rules, left, "allow{reach}");
    }
}

#[test]
fn answers_are_looked_at() {
    let rules = "
        SecResponseBodyAccess On
        SecRule RESPONSE_STATUS \"@eq 500\" \"id:1,phase:3,pass\"
        SecRule RESPONSE_HEADERS:content-type \"@beginsWith text/html\" \"id:2,phase:3,pass\"
        SecRule RESPONSE_BODY \"@contains SQL syntax\" \"id:3,phase:4,deny,status:403\"";
    let asked = Asked { answer: Some((500, "You have an error in your SQL syntax")), ..GET };
    assert_eq!(say(rules, &asked).rules, [1, 2, 3]);
    assert_eq!(say(rules, &Asked { answer: Some((200, "fine")), ..GET }).rules, [2]);
}

#[test]
fn matched_variables_are_there_for_the_next_link() {
    let rules = "
        SecRule ARGS \"@contains x\" \"id:1,phase:1,pass,chain\"
            SecRule MATCHED_VARS \"@contains y\" \"chain\"
            SecRule MATCHED_VARS_NAMES \"@rx ^ARGS:(a|b)$\" \"\"";
    assert_eq!(get(rules, "/?a=xy&c=x").rules, [1]);
    assert_eq!(get(rules, "/?c=xy").rules, [0; 0]);
}

#[test]
fn limits_hold_and_are_said() {
    let rules = "
        SecRequestBodyLimit 10
        SecArgumentsLimit 2
        SecRule INBOUND_DATA_ERROR \"@eq 1\" \"id:1,phase:2,pass\"
        SecRule REQUEST_BODY \"@rx .{11}\" \"id:2,phase:2,pass\"
        SecRule &ARGS \"@gt 2\" \"id:3,phase:2,pass\"";
    let asked = Asked { line: ["POST", "/?a=1&b=2&c=3"], body: "0123456789+", ..GET };
    assert_eq!(say(rules, &asked).rules, [1]);
}

#[test]
fn a_body_without_files_has_a_limit_of_its_own() {
    let rules = "
        SecRequestBodyNoFilesLimit 10
        SecRule REQBODY_ERROR|INBOUND_DATA_ERROR \"@eq 1\" \"id:1,phase:2,pass\"
        SecRule ARGS \"@contains x\" \"id:2,phase:2,pass\"
        SecRule REQUEST_BODY \"@rx .{11}\" \"id:3,phase:2,pass\"
        SecRule FILES_SIZES \"@eq 20\" \"id:4,phase:2,pass\"";
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    let ask = |headers: &[(&str, &str)], body: &str| {
        say(rules, &Asked { line: ["POST", "/"], headers, body, answer: None }).rules
    };
    assert_eq!(ask(&form, "a=1&b=2&c="), [0; 0]);
    assert_eq!(ask(&form, "a=1&b=2&c=x"), [1], "what lies beyond is not looked at, and that is said");
    assert_eq!(ask(&form, "a=x&b=2&c=3"), [1, 2]);
    let parts = [("Content-Type", "multipart/form-data; boundary=b")];
    let part =
        |head: &str, value: &str| format!("--b\r\nContent-Disposition: form-data; {head}\r\n\r\n{value}\r\n");
    let file = part("name=f; filename=\"f.txt\"", "01234567890123456789");
    assert_eq!(ask(&parts, &format!("{file}{}--b--\r\n", part("name=a", "x"))), [2, 4]);
    assert_eq!(ask(&parts, &format!("{file}{}--b--\r\n", part("name=a", "0123456789x"))), [1, 4]);
}

#[test]
fn what_takes_too_much_work_is_refused() {
    let text = "some words & more; ".repeat(600);
    let rules = |limit: u64, more: &str| {
        format!(
            "SecRequestWorkLimit {limit}
             {more}
             SecRule ARGS \"@detectXSS\" \"id:2,phase:2,deny,status:403,t:none,t:urlDecodeUni,t:lowercase\"
             SecRule ARGS \"@rx ^x|words$\" \"id:3,phase:2,deny,status:403,t:none,t:removeWhitespace\""
        )
    };
    let says =
        "SecRule REQBODY_ERROR \"@eq 1\" \"id:1,phase:2,deny,status:400,logdata:'%{REQBODY_ERROR_MSG}'\"";
    let body = format!("a={}", text.replace([' ', '&'], "+"));
    let ask = |rules: &str, body: &str| {
        let headers = [("Content-Type", "application/x-www-form-urlencoded")];
        say(rules, &Asked { line: ["POST", "/?a=b"], headers: &headers, body, answer: None })
    };
    // Enough, too little, and too little where no rule minds.
    assert_eq!(ask(&rules(10_000_000, says), &body).ended, None);
    let said = ask(&rules(20_000, says), &body);
    assert_eq!(said.ended, Some((1, 400, true)));
    assert!(said.values[0].contains("SecRequestWorkLimit"), "{:?}", said.values);
    assert_eq!(ask(&rules(20_000, ""), &body).ended, Some((0, 400, true)));
    // What only watches goes on, and who is allowed to is not asked.
    let watching = ask(&rules(20_000, &format!("SecRuleEngine DetectionOnly\n{says}")), &body);
    assert_eq!(watching.ended, Some((1, 400, false)));
    let allow = "SecAction \"id:4,phase:1,allow,nolog\"";
    assert_eq!(ask(&rules(20_000, allow), &body).ended, None);
    // Short values are no work, however many there are.
    let many = (0..900).map(|at| format!("k{at}=words")).collect::<Vec<_>>().join("&");
    assert_eq!(ask(&rules(20_000, ""), &many).ended, Some((3, 403, true)));
}

#[test]
fn memory_is_used_again_and_forgets() {
    let (waf, _) = compile(
        "SecRule ARGS:a \"@contains x\" \"id:1,phase:1,pass,setvar:tx.a=1\"
         SecRule TX:a \"@eq 1\" \"id:2,phase:1,pass\"",
    );
    let (first, memory) = ask(&waf, Box::default(), &Asked { line: ["GET", "/?a=x"], ..GET });
    assert_eq!(first.rules, [1, 2]);
    let (second, _) = ask(&waf, memory, &GET);
    assert_eq!(second, Said::default());
}

#[test]
fn what_cannot_be_honoured_is_refused_with_its_place() {
    for (rule, reason) in [
        ("SecRule ARGS \"@rx a(?=b)c\" \"id:7,phase:1,pass\"", "look"),
        ("SecRule ARGS \"@pmFromFile nowhere.data\" \"id:7,phase:1,pass\"", "there is no file nowhere.data"),
        ("SecRule ARGS \"@rbl list.example\" \"id:7,phase:1,pass\"", "not supported"),
        ("SecRule ARGS \"@validateByteRange 300\" \"id:7,phase:1,pass\"", "300"),
        ("SecRule ARGS \"@rx a\" \"id:7,phase:1,proxy:'http://a.example'\"", "proxy"),
    ] {
        let (waf, refused) = compile(&format!("\n{rule}"));
        assert!(waf.is_empty(), "{rule}");
        let said = refused.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        assert!(
            said.contains("rules.conf:2") && said.contains('7') && said.contains(reason),
            "{rule}: {said}"
        );
    }
}

/// A pattern that is put together of what is set for every request is known beforehand.
#[test]
fn a_pattern_of_settings() {
    let (waf, refused) = compile(
        "SecAction \"id:1,phase:1,pass,nolog,setvar:'tx.sorts=utf-8|ascii'\"
         SecRule ARGS:c \"!@rx ^(?:%{tx.sorts})$\" \"id:2,phase:1,pass\"
         SecRule ARGS:c \"@geoLookup\" \"id:3,phase:1,pass\"
         SecRule ARGS:c \"@rbl dnsbl.httpbl.org\" \"id:4,phase:1,pass\"",
    );
    assert_eq!(refused, []);
    for (target, rules) in [("/?c=ascii", &[][..]), ("/?c=utf-7", &[2])] {
        let (said, _) = ask(&waf, Box::default(), &Asked { line: ["GET", target], ..GET });
        assert_eq!(said.rules, rules, "{target}");
    }
    let (_, refused) = compile(
        "SecAction \"id:1,phase:1,pass,nolog,setvar:'tx.sorts=(a'\"
         SecRule ARGS:c \"@rx ^%{tx.sorts}$\" \"id:2,phase:1,pass\"",
    );
    assert!(refused.iter().any(|one| one.reason.contains("regular expression")), "{refused:?}");
    let (_, refused) = compile(
        "SecRule ARGS:d \"@rx .\" \"id:1,phase:1,pass,setvar:'tx.sorts=%{matched_var}'\"
         SecRule ARGS:c \"@rx ^%{tx.sorts}$\" \"id:2,phase:1,pass\"",
    );
    let refused: Vec<String> = refused.iter().map(ToString::to_string).collect();
    let [said] = &refused[..] else { panic!("{refused:?}") };
    assert!(said.contains("rules.conf:2") && said.contains("variables"), "{said}");
}

#[test]
fn what_settings_decide_is_decided_for_each_way_through_the_rules() {
    for (rules, target, matched) in [
        // What a level leaves out.
        (
            "SecAction \"id:1,phase:1,nolog,pass,setvar:tx.level=1\"
          SecRule TX:level \"@lt 2\" \"id:2,phase:1,nolog,pass,skipAfter:END\"
          SecRule ARGS \"@contains a\" \"id:3,phase:1,pass\"
          SecMarker END
          SecRule ARGS \"@contains a\" \"id:4,phase:1,pass\"",
            "/?x=a",
            &[4][..],
        ),
        // A level that the request decides.
        (
            "SecAction \"id:1,phase:1,nolog,pass,setvar:tx.level=1\"
          SecRule ARGS:up \"@eq 1\" \"id:5,phase:1,nolog,pass,setvar:tx.level=2\"
          SecRule TX:level \"@lt 2\" \"id:2,phase:1,nolog,pass,skipAfter:END\"
          SecRule ARGS:x \"@contains a\" \"id:3,phase:1,pass\"
          SecMarker END",
            "/?x=a&up=1",
            &[3],
        ),
        // What is set only behind a rule that stays is not there before it.
        (
            "SecRule TX:a \"@eq 1\" \"id:1,phase:1,pass\"
          SecRule ARGS:x \"@eq 1\" \"id:2,phase:1,pass,setvar:tx.b=%{tx.a}\"
          SecAction \"id:3,phase:1,nolog,pass,setvar:tx.a=1\"
          SecRule &TX:b \"@eq 1\" \"id:4,phase:1,pass\"
          SecRule TX:a|TX:b \"@eq 1\" \"id:5,phase:1,pass\"",
            "/?x=1",
            &[2, 4, 5],
        ),
        // Left out with a gate, or without it.
        (
            "SecRule ARGS:x \"@streq all\" \"id:1,phase:1,nolog,pass,ctl:ruleRemoveById=2-3\"
          SecRule ARGS:x \"@streq gate\" \"id:9,phase:1,nolog,pass,ctl:ruleRemoveById=2\"
          SecRule &TX:none \"@eq 0\" \"id:2,phase:1,nolog,pass,skipAfter:END\"
          SecAction \"id:3,phase:1,pass\"
          SecMarker END
          SecAction \"id:4,phase:1,pass\"",
            "/?x=gate",
            &[3, 4],
        ),
        // Added to, once for each value.
        (
            "SecAction \"id:1,phase:1,nolog,pass,setvar:tx.five=5\"
          SecRule ARGS \"@contains a\" \"id:2,phase:1,nolog,pass,setvar:tx.sum=+%{tx.five},setvar:tx.five=+1\"
          SecRule TX:sum \"@eq 11\" \"id:3,phase:1,pass\"",
            "/?x=a&y=a",
            &[3],
        ),
        // A text that is known, and one that a rule changes on the way.
        (
            "SecAction \"id:1,phase:1,nolog,pass,setvar:'tx.allowed=GET POST'\"
          SecRule ARGS:x \"@streq less\" \"id:2,phase:1,nolog,pass,setvar:tx.allowed=POST\"
          SecRule REQUEST_METHOD \"!@within %{tx.allowed}\" \"id:3,phase:1,pass\"",
            "/?x=less",
            &[3],
        ),
        // The second link of a chain has nothing to look at, or what the first one does is done.
        (
            "SecRule REQUEST_METHOD \"@streq GET\" \"id:1,phase:1,pass,chain\"
            SecRule REQUEST_HEADERS:nothing \"!@streq x\" \"\"
          SecRule REQUEST_METHOD \"@streq GET\" \"id:2,phase:1,pass,chain,setvar:tx.seen=1\"
            SecRule REQUEST_HEADERS:nothing \"!@streq x\" \"\"
          SecRule TX:seen \"@eq 1\" \"id:3,phase:1,pass\"",
            "/",
            &[3],
        ),
        // What has one value is there where nobody sent it.
        (
            "SecRule REQUEST_BODY \"!@contains x\" \"id:1,phase:2,pass\"
          SecRule REQBODY_PROCESSOR \"@streq JSON\" \"id:2,phase:2,pass\"",
            "/",
            &[1],
        ),
    ] {
        for _ in 0..3 {
            assert_eq!(get(rules, target).rules, matched, "{rules}");
        }
    }
}

#[test]
fn what_holds_where_nothing_is_found_captures_nothing() {
    let rules = "
        SecRule REQUEST_HEADERS \"!@pm example\" \"id:1,phase:1,pass,capture\"
        SecRule REQUEST_METHOD \"@streq GET\" \"id:2,phase:1,pass,setvar:'tx.b=%{tx.0}'\"
        SecRule TX:b \"@streq example\" \"id:3,phase:1,pass\"";
    let headers = [("Host", "a.example")];
    assert_eq!(say(rules, &Asked { headers: &headers, ..GET }).rules, [2]);
}

#[test]
fn what_a_rule_hands_on_to_itself_is_handed_on() {
    let rules = "
        SecAction \"id:1,phase:1,nolog,pass,setvar:'tx.forbidden=/proxy/ /if/'\"
        SecRule REQUEST_HEADERS_NAMES \"@rx ^.*$\" \"id:2,phase:1,pass,capture,t:lowercase,setvar:'tx.header_%{tx.0}=/%{tx.0}/',chain\"
            SecRule TX:/^header_/ \"@within %{tx.forbidden}\" \"setvar:tx.score=+1\"
        SecRule TX:score \"@eq 1\" \"id:3,phase:1,pass\"";
    let ask = |rules: &str, name| {
        say(rules, &Asked { headers: &[("Host", "a.example"), (name, "x")], ..GET }).rules
    };
    assert_eq!(ask(rules, "Proxy"), [2, 3]);
    assert_eq!(ask(rules, "Accept"), [0; 0]);
    // Another rule can see what it makes of some names.
    let seen = format!("{rules}\nSecRule TX:/spy/ \"@contains spy\" \"id:4,phase:1,pass\"");
    assert_eq!(ask(&seen, "X-Spy"), [4]);
    assert_eq!(ask(&seen, "Accept"), [0; 0]);
    // Another rule makes such variables, too.
    let made = format!(
        "SecRule REQUEST_METHOD \"@rx G\" \"id:5,phase:1,nolog,pass,setvar:'tx.header_%{{REQUEST_METHOD}}=/if/'\"{rules}"
    );
    assert_eq!(ask(&made, "Accept"), [2, 3]);
}

#[test]
fn values_that_come_again_are_judged_as_before() {
    let (waf, _) = compile(
        "SecRule ARGS \"@contains x\" \"id:1,phase:1,pass\"
         SecRule ARGS:b \"@rx ^y\" \"id:2,phase:1,pass,t:lowercase\"
         SecRule REQUEST_HEADERS:Host|REQUEST_HEADERS:Accept \"@contains x\" \"id:3,phase:1,pass\"",
    );
    let caches = waf.caches();
    let mut memory = Box::<Memory>::default();
    for _ in 0..4 {
        for (target, host, matched) in [
            ("/?a=x", "a", &[1][..]),
            ("/?b=x", "a", &[1]),
            ("/?b=Y", "a", &[2]),
            ("/?a=Y", "x", &[3]),
            ("/?a=", "", &[]),
        ] {
            let headers: [(&[u8], &[u8]); 1] = [(b"Host", host.as_bytes())];
            let mut transaction = waf.begin(memory);
            transaction.request(
                &caches,
                &Head {
                    method: b"GET",
                    target: target.as_bytes(),
                    protocol: b"HTTP/1.1",
                    headers: &headers,
                    remote: b"192.0.2.7",
                    unique_id: b"0",
                },
            );
            let rules: Vec<u32> = transaction.matched().map(|one| one.rule).collect();
            assert_eq!(rules, matched, "{target} {host}");
            memory = transaction.end();
        }
    }
}

#[test]
fn what_rules_cost_can_be_asked() {
    let (waf, _) = compile(
        "SecRule ARGS \"@contains x\" \"id:1,phase:1,pass\"
         SecAction \"id:2,phase:1,pass,setvar:tx.a=1\"",
    );
    let mut caches = waf.caches();
    assert!(caches.costs().is_empty());
    caches.profile();
    let headers: [(&[u8], &[u8]); 0] = [];
    let mut transaction = waf.begin(Box::default());
    transaction.request(
        &caches,
        &Head {
            method: b"GET",
            target: b"/?a=x&b=y",
            protocol: b"HTTP/1.1",
            headers: &headers,
            remote: b"192.0.2.7",
            unique_id: b"0",
        },
    );
    let mut costs: Vec<(u32, u64, u64)> =
        caches.costs().iter().map(|cost| (cost.rule, cost.asked, cost.run)).collect();
    costs.sort_unstable();
    assert_eq!(costs, [(1, 2, 1), (2, 0, 1)]);
}

/// Pieces of requests: what people send, what attackers do, and what lies between.
const PIECES: [&str; 36] = [
    "a",
    "B",
    "42",
    " ",
    "+",
    "%20",
    "select",
    "UNION",
    "'",
    "\"",
    "1=1",
    "--",
    "<script>",
    "onload=",
    "../",
    "etc/passwd",
    "%27",
    "%25",
    "\\x41",
    "&lt;",
    "$(",
    "`id`",
    ";",
    "cat /",
    "{{",
    "}}",
    "php://",
    "http://169.254.169.254/",
    "\u{e5}",
    "\n",
    "%00",
    "=",
    "-",
    "_",
    "proxy",
    "x-forwarded-for",
];

#[test]
fn rules_that_sleep_and_settings_that_are_decided_change_nothing() {
    let named = std::env::var_os("KLAR_CRS_DIR").map(|folder| std::path::Path::new(&folder).join("rules"));
    for folder in [Some("/usr/share/modsecurity-crs/rules".into()), named].into_iter().flatten() {
        let Ok(listed) = std::fs::read_dir(&folder) else {
            println!("skipped: there is no {}", folder.display());
            continue;
        };
        let mut names: Vec<_> = listed.map(|one| one.unwrap().path()).collect();
        names.retain(|name| name.extension().is_some_and(|extension| extension == "conf"));
        names.sort();
        for level in [1, 4] {
            let setup = format!(
                "SecRuleEngine DetectionOnly\nSecAction \"id:900990,phase:1,nolog,pass,setvar:tx.crs_setup_version=420,\
                 setvar:tx.paranoia_level={level},setvar:tx.blocking_paranoia_level={level},\
                 setvar:tx.max_num_args=6,setvar:tx.arg_length=40\""
            );
            let mut directives = seclang::parse(&Source { name: "setup.conf", text: &setup }).directives;
            for name in &names {
                let text = String::from_utf8_lossy(&std::fs::read(name).unwrap()).into_owned();
                directives.extend(seclang::parse(&Source { name: "rules.conf", text: &text }).directives);
            }
            let beside = |_: &str, name: &str| std::fs::read(folder.join(name)).ok();
            sleeps_as_it_wakes(&seclang::resolve(directives), &beside);
        }
    }
    let core = crate::rules::KLAR_CORE.iter().flat_map(|source| seclang::parse(source).directives);
    sleeps_as_it_wakes(&seclang::resolve(core.collect()), &|_, _| None);
}

fn sleeps_as_it_wakes(set: &seclang::RuleSet, beside: super::Files<'_>) {
    let (waf, plain) = (Waf::new(set, beside).0, Waf::of(super::compile::compile_plainly(set, beside)).0);
    let caches = (waf.caches(), plain.caches());
    let (mut memory, mut plain_memory) = (Box::<Memory>::default(), Box::<Memory>::default());
    let mut state = 1_u64;
    let mut below = |end: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as usize % end
    };
    for _ in 0..80 {
        let mut text = |count: usize| {
            let pieces = below(count) + 1;
            (0..pieces).map(|_| PIECES[below(PIECES.len())]).collect::<String>()
        };
        let target = format!("/{}?{}={}&b={}", text(2), text(1), text(4), text(3)).replace(['\n', ' '], "+");
        let (name, value, cookie, body) =
            (text(2), text(4), text(3), format!("k={}&{}={}", text(4), text(1), text(2)));
        let kinds = ["application/x-www-form-urlencoded", "application/json", "text/plain", ""];
        let method = ["GET", "POST", "HEAD", "TRACE"][below(4)];
        let kind = kinds[below(4)];
        let headers: Vec<(&[u8], &[u8])> = vec![
            (b"Host", if below(4) == 0 { b"10.0.0.1" } else { b"a.example" }),
            (b"User-Agent", b"Mozilla/5.0"),
            (b"Cookie", cookie.as_bytes()),
            (name.as_bytes(), value.as_bytes()),
            (b"Content-Type", kind.as_bytes()),
        ];
        let headers = &headers[..below(3) + 3];
        let head = Head {
            method: method.as_bytes(),
            target: target.as_bytes(),
            protocol: b"HTTP/1.1",
            headers,
            remote: if below(2) == 0 { b"127.0.0.1" } else { b"192.0.2.7" },
            unique_id: b"0123456789abcdef",
        };
        let judge = |waf: &Waf, caches: &super::Caches, memory| {
            let mut transaction = waf.begin(memory);
            transaction.request(caches, &head);
            transaction.push_body(body.as_bytes());
            transaction.request_body(caches);
            let answer: [(&[u8], &[u8]); 1] = [(b"Content-Type", b"text/html")];
            transaction.response(caches, &Answer { status: 200, protocol: b"HTTP/1.1", headers: &answer });
            transaction.push_response_body(body.as_bytes());
            transaction.response_body(caches);
            transaction.log(caches);
            let said: Vec<String> = transaction
                .matched()
                // What it says may name what another rule captured, if that one was run.
                .map(|one| format!("{:?}", super::Matched { data: b"", ..one }))
                .collect();
            (said, transaction.interruption().cloned(), transaction.end())
        };
        let (said, ended, back) = judge(&waf, &caches.0, memory);
        let (plain_said, plain_ended, plain_back) = judge(&plain, &caches.1, plain_memory);
        (memory, plain_memory) = (back, plain_back);
        for (one, plain) in said.iter().zip(&plain_said) {
            assert_eq!(one, plain, "{target}");
        }
        assert_eq!(said.len(), plain_said.len(), "{target}");
        assert_eq!(ended, plain_ended, "{target}");
    }
}
