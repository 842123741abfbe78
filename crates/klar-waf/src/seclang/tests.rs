//! What each construct of the language is read as.

mod refused;

use proptest::prelude::*;

use super::*;

fn read(text: &str) -> Parsed {
    parse(&Source { name: "r", text })
}

/// The only directive of a text.
#[track_caller]
fn directive(text: &str) -> Directive {
    let mut parsed = read(text);
    assert_eq!(parsed.refused, [], "{text}");
    assert_eq!(parsed.directives.len(), 1, "{text}");
    parsed.directives.remove(0)
}

#[track_caller]
fn rule(text: &str) -> Rule {
    match directive(text) {
        Directive::Rule(rule) => rule,
        other => panic!("{text}: {other:?}"),
    }
}

/// What the only rule of a text looks at.
#[track_caller]
fn targets_of(list: &str) -> Vec<Target> {
    rule(&format!("SecRule {list} \"@rx a\" \"id:1\"")).links.remove(0).targets
}

#[track_caller]
fn operator_of(text: &str) -> Operator {
    rule(&format!("SecRule ARGS \"{text}\" \"id:1\"")).links.remove(0).operator
}

/// What a list of actions does, without its number.
#[track_caller]
fn actions_of(list: &str) -> Vec<Action> {
    let mut rule = rule(&format!("SecAction \"id:1,{list}\""));
    let mut actions = rule.links.remove(0).actions;
    assert_eq!(actions.remove(0), Action::Id(1));
    actions
}

fn target(collection: Collection, key: Key) -> Target {
    Target { collection, key, count: false, except: false }
}

fn name(name: &str) -> Key {
    Key::Name(name.to_owned())
}

fn matching(pattern: &str) -> Key {
    Key::Matching(pattern.to_owned())
}

fn plain(text: &str) -> Text {
    Text(vec![Piece::Plain(text.to_owned())])
}

fn variable(collection: Collection, name: &str) -> Piece {
    Piece::Variable(collection, Some(name.to_owned()))
}

#[test]
fn a_rule_says_what_it_looks_at_asks_and_does() {
    let rule = rule("SecRule ARGS|!ARGS:token \"@rx ^a\" \\\n    \"id:5,\\\n    phase:1,deny\"");
    assert_eq!(rule.links.len(), 1);
    let link = &rule.links[0];
    assert_eq!(link.place.to_string(), "r:1");
    let except = Target { except: true, ..target(Collection::Args, name("token")) };
    assert_eq!(link.targets, [target(Collection::Args, Key::All), except]);
    let operator = Operator { negated: false, kind: OperatorKind::Rx, argument: plain("^a") };
    assert_eq!(link.operator, operator);
    assert_eq!(link.actions, [Action::Id(5), Action::Phase(1), Action::Disruptive(Disruptive::Deny)]);
    assert_eq!((rule.id(), rule.phase()), (Some(5), 1));
}

#[test]
fn an_action_asks_nothing_and_is_of_phase_2() {
    let rule = rule("SecAction id:7,pass,nolog");
    assert_eq!(rule.links[0].targets, []);
    assert_eq!(rule.links[0].operator.kind, OperatorKind::UnconditionalMatch);
    assert_eq!((rule.id(), rule.phase()), (Some(7), 2));
}

#[test]
fn names_are_those_whatever_their_case() {
    let rule =
        rule("sECrULE request_HEADERS:host \"@RX a\" \"ID:5,PHASE:Request,T:LOWERCASE,Deny,MULTImatch\"");
    let link = &rule.links[0];
    assert_eq!(link.targets, [target(Collection::RequestHeaders, name("host"))]);
    assert_eq!(
        link.actions,
        [
            Action::Id(5),
            Action::Phase(2),
            Action::Transform(crate::transform::Transformation::Lowercase),
            Action::Disruptive(Disruptive::Deny),
            Action::MultiMatch,
        ]
    );
}

#[test]
fn lines_go_on_and_comments_do_not() {
    for (text, markers) in [
        ("SecMarker A\nSecMarker B", &[("A", 1), ("B", 2)][..]),
        ("SecMarker A\r\n\r\n  \t\r\nSecMarker B\r\n", &[("A", 1), ("B", 4)]),
        ("\u{feff}SecMarker \\\r\n  \"A\"\r\n", &[("A", 1)]),
        ("SecMarker 'A B'\n\t secmarker\t\"B\"", &[("A B", 1), ("B", 2)]),
        ("# SecMarker X \\\nSecMarker A", &[("A", 2)]),
        ("# A sentence with a backslash \\\nSecMarker A", &[("A", 2)]),
        ("#SecRule ARGS a \\\n \"id:1,\\\n pass\"\nSecMarker A", &[("A", 4)]),
        ("## secaction \\\n#  \"id:1,\\\n#  pass\"\nSecMarker A", &[("A", 4)]),
        ("\\\n\\\n\nSecMarker A \\", &[("A", 4)]),
        ("SecMarker \"A\\\nB\"", &[("AB", 1)]),
        ("SecMarker a#b", &[("a#b", 1)]),
        ("SecMarker \"a \\\" b\"", &[("a \\\" b", 1)]),
        ("SecMarker \"a \\\\\"\nSecMarker B", &[("a \\\\", 1), ("B", 2)]),
        ("", &[]),
        ("\n\\", &[]),
        ("# nothing", &[]),
    ] {
        let parsed = read(text);
        assert_eq!(parsed.refused, [], "{text:?}");
        let found: Vec<(&str, u32)> = parsed
            .directives
            .iter()
            .map(|directive| match directive {
                Directive::Marker(place, name) => (name.as_str(), place.line),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(found, markers, "{text:?}");
    }
}

#[test]
fn targets_are_what_they_name() {
    use Collection::*;
    for (text, expected) in [
        ("ARGS", vec![target(Args, Key::All)]),
        ("ARGS|REQUEST_BODY", vec![target(Args, Key::All), target(RequestBody, Key::All)]),
        ("ARGS,REQUEST_BODY", vec![target(Args, Key::All), target(RequestBody, Key::All)]),
        ("\"ARGS | REQUEST_BODY\"", vec![target(Args, Key::All), target(RequestBody, Key::All)]),
        ("&ARGS:a", vec![Target { count: true, ..target(Args, name("a")) }]),
        ("!ARGS:a", vec![Target { except: true, ..target(Args, name("a")) }]),
        ("REQUEST_HEADERS:User-Agent", vec![target(RequestHeaders, name("User-Agent"))]),
        ("REQUEST_HEADERS:X.Filename", vec![target(RequestHeaders, name("X.Filename"))]),
        ("TX.score", vec![target(Tx, name("score"))]),
        ("ARGS:/^a$/", vec![target(Args, matching("^a$"))]),
        ("ARGS:/a|b/|TX:1", vec![target(Args, matching("a|b")), target(Tx, name("1"))]),
        ("ARGS:'/a|b,c/'|TX:1", vec![target(Args, matching("a|b,c")), target(Tx, name("1"))]),
        ("ARGS:/a\\/b/", vec![target(Args, matching("a\\/b"))]),
        ("ARGS:/a/b/", vec![target(Args, matching("a/b"))]),
        ("TX:'/a\\\\\\/b/'", vec![target(Tx, matching("a\\\\\\/b"))]),
        ("ARGS:'a|b'", vec![target(Args, name("a|b"))]),
        ("ARGS:f[x][]|TX:1", vec![target(Args, name("f[x][]")), target(Tx, name("1"))]),
        ("XML:/*|XML://@*", vec![target(Xml, name("/*")), target(Xml, name("//@*"))]),
        ("TX:/^header_name_/", vec![target(Tx, matching("^header_name_"))]),
        (
            "REQUEST_COOKIES|!REQUEST_COOKIES:/__utm/",
            vec![
                target(RequestCookies, Key::All),
                Target { except: true, ..target(RequestCookies, matching("__utm")) },
            ],
        ),
        ("STATUS", vec![target(ResponseStatus, Key::All)]),
    ] {
        assert_eq!(targets_of(text), expected, "{text}");
    }
}

#[test]
fn operators_are_what_they_ask() {
    let argued = |negated, kind, argument: &str| Operator { negated, kind, argument: plain(argument) };
    let bare = |negated, kind| Operator { negated, kind, argument: Text::default() };
    for (text, expected) in [
        ("@rx ^a b$", argued(false, OperatorKind::Rx, "^a b$")),
        ("^a b$", argued(false, OperatorKind::Rx, "^a b$")),
        ("!^a", argued(true, OperatorKind::Rx, "^a")),
        ("!@rx ^a", argued(true, OperatorKind::Rx, "^a")),
        (" ! @rx ^a", argued(true, OperatorKind::Rx, "^a")),
        ("@contains  a ", argued(false, OperatorKind::Contains, " a ")),
        ("@contains \\\"a", argued(false, OperatorKind::Contains, "\\\"a")),
        ("@rx [\\\"'\\\\]", argued(false, OperatorKind::Rx, "[\\\"'\\\\]")),
        ("@eq 0", argued(false, OperatorKind::Eq, "0")),
        ("!@within GET POST", argued(true, OperatorKind::Within, "GET POST")),
        ("@pmf words.data", argued(false, OperatorKind::PmFromFile, "words.data")),
        ("@ipMatchF a.data", argued(false, OperatorKind::IpMatchFromFile, "a.data")),
        ("@detectSQLi", bare(false, OperatorKind::DetectSqli)),
        ("!@detectXSS ", bare(true, OperatorKind::DetectXss)),
        ("@unconditionalMatch", bare(false, OperatorKind::UnconditionalMatch)),
        (
            "@within %{tx.methods} PATCH",
            Operator {
                negated: false,
                kind: OperatorKind::Within,
                argument: Text(vec![variable(Collection::Tx, "methods"), Piece::Plain(" PATCH".to_owned())]),
            },
        ),
    ] {
        assert_eq!(operator_of(text), expected, "{text}");
    }
    assert_eq!(rule("SecRule ARGS ^a 'id:1'").links[0].operator, argued(false, OperatorKind::Rx, "^a"));
}

#[test]
fn texts_hold_variables() {
    for (text, expected) in [
        ("", vec![]),
        ("a", vec![Piece::Plain("a".to_owned())]),
        ("100% of {a}", vec![Piece::Plain("100% of {a}".to_owned())]),
        ("%{MATCHED_VAR}", vec![Piece::Variable(Collection::MatchedVar, None)]),
        (
            "%{tx.1}%{REQUEST_HEADERS:Host}",
            vec![variable(Collection::Tx, "1"), variable(Collection::RequestHeaders, "Host")],
        ),
        (
            "a %{tx.b.c} d",
            vec![
                Piece::Plain("a ".to_owned()),
                variable(Collection::Tx, "b.c"),
                Piece::Plain(" d".to_owned()),
            ],
        ),
        ("a\\%{tx.b}", vec![Piece::Plain("a\\%{tx.b}".to_owned())]),
        ("a\\\\%{tx.b}", vec![Piece::Plain("a\\\\".to_owned()), variable(Collection::Tx, "b")]),
        ("it\\'s", vec![Piece::Plain("it\\'s".to_owned())]),
    ] {
        assert_eq!(actions_of(&format!("msg:'{text}'")), [Action::Msg(Text(expected))], "{text}");
    }
    let text = Text(vec![
        Piece::Plain("a ".to_owned()),
        variable(Collection::Tx, "b"),
        Piece::Plain("%".to_owned()),
    ]);
    assert_eq!(text.to_string(), "a %{TX.b}%");
    assert_eq!(Text(vec![Piece::Variable(Collection::RequestLine, None)]).to_string(), "%{REQUEST_LINE}");
}

#[test]
fn actions_are_what_they_do() {
    use Action::*;
    let note = |name: &str, text: &str| Note(name.to_owned(), text.to_owned());
    let given = |name: &str, text: &str| Set(name.to_owned(), plain(text));
    for (text, expected) in [
        ("phase:3", vec![Phase(3)]),
        ("phase:'logging'", vec![Phase(5)]),
        ("phase:response", vec![Phase(4)]),
        (
            "pass,block , drop",
            [super::Disruptive::Pass, super::Disruptive::Block, super::Disruptive::Drop]
                .map(Disruptive)
                .into(),
        ),
        ("allow", vec![Disruptive(super::Disruptive::Allow(super::Allow::All))]),
        ("allow:phase", vec![Disruptive(super::Disruptive::Allow(super::Allow::Phase))]),
        ("allow:Request", vec![Disruptive(super::Disruptive::Allow(super::Allow::Request))]),
        (
            "redirect:http://a.test/?b=c",
            vec![Disruptive(super::Disruptive::Redirect(plain("http://a.test/?b=c")))],
        ),
        ("proxy:'http://a.test/'", vec![Disruptive(super::Disruptive::Proxy(plain("http://a.test/")))]),
        ("status:404", vec![Status(404)]),
        ("t:none,t:length", vec![NoTransformation, Transform(crate::transform::Transformation::Length)]),
        ("capture,multiMatch", vec![Capture, MultiMatch]),
        ("log,nolog,auditlog,noauditlog", vec![Log(true), Log(false), AuditLog(true), AuditLog(false)]),
        ("msg:a b,log", vec![Msg(plain("a b")), Log(true)]),
        ("msg:'a, b: \\'c\\'',log", vec![Msg(plain("a, b: \\'c\\'")), Log(true)]),
        ("msg:don't,log", vec![Msg(plain("don't")), Log(true)]),
        ("logdata:'%{TX.0}'", vec![LogData(Text(vec![variable(Collection::Tx, "0")]))]),
        ("tag:'a/b',tag:c", vec![Tag(plain("a/b")), Tag(plain("c"))]),
        ("severity:'CRITICAL',severity:7", vec![Severity(2), Severity(7)]),
        ("ver:'a/1',rev:2,maturity:9", vec![note("ver", "a/1"), note("rev", "2"), note("maturity", "9")]),
        ("skip:2,skipAfter:END", vec![Skip(2), SkipAfter("END".to_owned())]),
        ("initcol:ip=a", vec![InitCol(Collection::Ip, plain("a"))]),
        ("expirevar:'ip.a=60'", vec![ExpireVar(Collection::Ip, plain("a"), plain("60"))]),
        ("setuid:a,setenv:'b=c'", vec![given("setuid", "a"), given("setenv", "b=c")]),
        (",, capture ,\tlog,", vec![Capture, Log(true)]),
    ] {
        assert_eq!(actions_of(text), expected, "{text}");
    }
    assert_eq!(rule("SecAction \"pass,id:'12'\"").id(), Some(12));
}

#[test]
fn variables_are_set_as_it_says() {
    let tx = |name: &str, change| SetVar { collection: Collection::Tx, name: plain(name), change };
    for (text, expected) in [
        ("tx.a=1", tx("a", Change::To(plain("1")))),
        ("'tx.a=b c, d=e|f'", tx("a", Change::To(plain("b c, d=e|f")))),
        ("TX:a=", tx("a", Change::To(Text::default()))),
        ("tx.a", tx("a", Change::To(plain("1")))),
        ("tx.a=+2", tx("a", Change::Add(plain("2")))),
        ("'tx.a=-%{tx.b}'", tx("a", Change::Subtract(Text(vec![variable(Collection::Tx, "b")])))),
        ("!tx.a", tx("a", Change::Unset)),
        ("'!tx.a'", tx("a", Change::Unset)),
        (
            "'tx.a_%{ARGS.x=y}=/%{tx.0}/'",
            SetVar {
                collection: Collection::Tx,
                name: Text(vec![Piece::Plain("a_".to_owned()), variable(Collection::Args, "x=y")]),
                change: Change::To(Text(vec![
                    Piece::Plain("/".to_owned()),
                    variable(Collection::Tx, "0"),
                    Piece::Plain("/".to_owned()),
                ])),
            },
        ),
        (
            "ip.seen=+1",
            SetVar { collection: Collection::Ip, name: plain("seen"), change: Change::Add(plain("1")) },
        ),
    ] {
        assert_eq!(actions_of(&format!("setvar:{text}")), [Action::SetVar(expected)], "{text}");
    }
}

#[test]
fn requests_are_looked_at_in_other_ways() {
    let args = |key| target(Collection::Args, key);
    for (text, expected) in [
        ("ruleRemoveById=5", Ctl::RemoveRules(Which::Ids(vec![5..=5]))),
        ("ruleRemoveById=5-9", Ctl::RemoveRules(Which::Ids(vec![5..=9]))),
        ("'ruleRemoveById=1,5-9 12'", Ctl::RemoveRules(Which::Ids(vec![1..=1, 5..=9, 12..=12]))),
        ("ruleRemoveByTag=a/b", Ctl::RemoveRules(Which::Tag("a/b".to_owned()))),
        ("ruleRemoveByMsg='a b'", Ctl::RemoveRules(Which::Msg("a b".to_owned()))),
        ("'ruleRemoveByMsg=a, b'", Ctl::RemoveRules(Which::Msg("a, b".to_owned()))),
        ("ruleRemoveTargetById=5;ARGS:a", Ctl::RemoveTarget(Which::Ids(vec![5..=5]), args(name("a")))),
        ("ruleRemoveTargetById=5;ARGS", Ctl::RemoveTarget(Which::Ids(vec![5..=5]), args(Key::All))),
        (
            "ruleRemoveTargetByTag=T;ARGS:f[x][y]",
            Ctl::RemoveTarget(Which::Tag("T".to_owned()), args(name("f[x][y]"))),
        ),
        (
            "'ruleRemoveTargetByMsg=T;ARGS:/a|b,c/'",
            Ctl::RemoveTarget(Which::Msg("T".to_owned()), args(matching("a|b,c"))),
        ),
        ("requestBodyProcessor=json", Ctl::BodyProcessor(BodyProcessor::Json)),
        ("requestBodyProcessor=URLENCODED", Ctl::BodyProcessor(BodyProcessor::UrlEncoded)),
        ("forceRequestBodyVariable=On", Ctl::ForceRequestBody(true)),
        ("requestBodyAccess=Off", Ctl::RequestBodyAccess(false)),
        ("responseBodyAccess=on", Ctl::ResponseBodyAccess(true)),
        ("requestBodyLimit=100", Ctl::RequestBodyLimit(100)),
        ("responseBodyLimit=100", Ctl::ResponseBodyLimit(100)),
        ("ruleEngine=DetectionOnly", Ctl::Engine(Mode::DetectionOnly)),
        ("auditLogParts=+E", Ctl::Audit("auditLogParts".to_owned(), "+E".to_owned())),
    ] {
        assert_eq!(
            actions_of(&format!("ctl:{text},log")),
            [Action::Ctl(expected), Action::Log(true)],
            "{text}"
        );
    }
}

#[test]
fn settings_are_set() {
    for (text, expected) in [
        ("SecRuleEngine On", Setting::Engine(Mode::On)),
        ("SecRuleEngine \"DetectionOnly\"", Setting::Engine(Mode::DetectionOnly)),
        ("SecRequestBodyAccess Off", Setting::RequestBodyAccess(false)),
        ("SecResponseBodyAccess On", Setting::ResponseBodyAccess(true)),
        ("SecRequestBodyLimit 13107200", Setting::RequestBodyLimit(13_107_200)),
        ("SecRequestBodyNoFilesLimit 131072", Setting::RequestBodyNoFilesLimit(131_072)),
        ("SecRequestWorkLimit 1000000", Setting::RequestWorkLimit(1_000_000)),
        ("SecRequestBodyLimitAction Reject", Setting::RequestBodyLimitAction(LimitAction::Reject)),
        ("SecResponseBodyLimit 5", Setting::ResponseBodyLimit(5)),
        (
            "SecResponseBodyLimitAction processpartial",
            Setting::ResponseBodyLimitAction(LimitAction::ProcessPartial),
        ),
        ("SecRequestBodyJsonDepthLimit 512", Setting::JsonDepthLimit(512)),
        ("SecArgumentsLimit 1000", Setting::ArgumentsLimit(1000)),
        ("SecUploadFileLimit 10", Setting::UploadFileLimit(10)),
        (
            "SecResponseBodyMimeType text/plain \"text/html text/xml\"",
            Setting::ResponseBodyTypes(["text/plain", "text/html", "text/xml"].map(String::from).into()),
        ),
        ("SecResponseBodyMimeTypesClear", Setting::ResponseBodyTypesClear),
        ("SecArgumentSeparator ;", Setting::ArgumentSeparator(b';')),
        ("SecComponentSignature \"a/1\"", Setting::Component("a/1".to_owned())),
        ("SecWebAppId shop", Setting::WebAppId("shop".to_owned())),
        ("SecCookieFormat 0", Setting::WithoutMeaning("SecCookieFormat".to_owned(), "0".to_owned())),
        (
            "secauditlogrelevantstatus \"^(?:5|4(?!04))\"",
            Setting::WithoutMeaning("SecAuditLogRelevantStatus".to_owned(), "^(?:5|4(?!04))".to_owned()),
        ),
        (
            "SecUnicodeMapFile unicode.mapping 20127",
            Setting::WithoutMeaning("SecUnicodeMapFile".to_owned(), "unicode.mapping 20127".to_owned()),
        ),
        (
            "SecContentInjection off",
            Setting::WithoutMeaning("SecContentInjection".to_owned(), "Off".to_owned()),
        ),
    ] {
        match directive(text) {
            Directive::Setting(place, setting) => {
                assert_eq!((setting, place.line), (expected, 1), "{text}");
            }
            other => panic!("{text}: {other:?}"),
        }
    }
}

#[test]
fn other_rules_are_named_by_number_tag_and_message() {
    let which_ids = |ids: &[std::ops::RangeInclusive<u32>]| Which::Ids(ids.to_vec());
    let place = || Place { file: "r".into(), line: 1 };
    let except = Target { except: true, ..target(Collection::Args, name("a")) };
    for (text, expected) in [
        (
            "SecRuleRemoveById 1 \"5-9 11\" 3",
            Directive::Remove(place(), which_ids(&[1..=1, 5..=9, 11..=11, 3..=3])),
        ),
        ("SecRuleRemoveByTag \"a b\"", Directive::Remove(place(), Which::Tag("a b".to_owned()))),
        ("SecRuleRemoveByMsg a", Directive::Remove(place(), Which::Msg("a".to_owned()))),
        (
            "SecRuleUpdateTargetById 5-6 \"!ARGS:a\"",
            Directive::UpdateTargets(place(), which_ids(&[5..=6]), vec![except.clone()]),
        ),
        (
            "SecRuleUpdateTargetByTag 'a' !ARGS:a,ARGS:b",
            Directive::UpdateTargets(
                place(),
                Which::Tag("a".to_owned()),
                vec![except.clone(), target(Collection::Args, name("b"))],
            ),
        ),
        (
            "SecRuleUpdateTargetByMsg a !ARGS:a",
            Directive::UpdateTargets(place(), Which::Msg("a".to_owned()), vec![except]),
        ),
        (
            "SecRuleUpdateActionById 5 \"pass,status:404\"",
            Directive::UpdateActions(
                place(),
                which_ids(&[5..=5]),
                vec![Action::Disruptive(Disruptive::Pass), Action::Status(404)],
            ),
        ),
        (
            "SecDefaultAction \"phase:1,deny,tag:a\"",
            Directive::DefaultAction(
                place(),
                vec![Action::Phase(1), Action::Disruptive(Disruptive::Deny), Action::Tag(plain("a"))],
            ),
        ),
    ] {
        assert_eq!(directive(text), expected, "{text}");
    }
}

#[test]
fn chains_are_one_rule() {
    let rule = rule(concat!(
        "SecRule ARGS a \"id:5,phase:1,deny,chain\"\n",
        "  # between them\n",
        "  SecRule TX:b \"@eq 1\" \"t:none,phase:1,chain\"\n",
        "\n",
        "    SecAction \"setvar:tx.c,chain\"\n",
        "    SecRule TX:d e",
    ));
    let lines: Vec<u32> = rule.links.iter().map(|link| link.place.line).collect();
    assert_eq!(lines, [1, 3, 5, 6]);
    assert_eq!(rule.links[3].actions, []);
    assert_eq!((rule.id(), rule.phase()), (Some(5), 1));
}

/// Pieces of rules in any order, which are mostly nonsense.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => "SecRule |SecAction |SecMarker |SecDefaultAction |SecRuleRemoveById |SecRuleUpdateTargetById ",
        4 => "ARGS|REQUEST_HEADERS:Host|TX:/a/|XML:/\\*|!ARGS:b|&TX:c",
        4 => "\"@rx a\"|\"@within %\\{tx.a\\}\"|@detectSQLi",
        6 => "\"id:[1-9],(chain|deny|msg:'a'|setvar:tx.a=1|t:none|ctl:ruleRemoveById=[1-9])\"",
        6 => "\n| |\\\\\n|\"|'|,|\\||:|=|;|#|%\\{|\\}|\\\\|/|!|@|-",
        2 => "[ -~]{1,5}|\\PC",
    ];
    prop::collection::vec(piece, 0..30).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn every_text_is_read_to_its_end(text in pieces()) {
        let parsed = read(&text);
        let lines = u32::try_from(text.lines().count().max(1)).unwrap();
        for refused in &parsed.refused {
            prop_assert!((1..=lines).contains(&refused.place.line), "{refused}");
        }
        let is_blank = |line: &str| line.trim_matches([' ', '\t', '\r', '\\']).is_empty();
        let is_said = !text.contains('#') && !text.lines().all(is_blank);
        prop_assert!(!is_said || !parsed.directives.is_empty() || !parsed.refused.is_empty());
        for directive in &parsed.directives {
            if let Directive::Rule(rule) = directive {
                prop_assert!(rule.id().is_some() && !rule.links.is_empty());
            }
        }
        let set = resolve(parsed.directives);
        prop_assert!(set.items.len() <= lines as usize);
    }
}
