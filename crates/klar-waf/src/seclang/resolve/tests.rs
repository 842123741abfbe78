//! What becomes of rules that other directives name.

use super::super::{Collection, Ctl, Key, Piece, Source, Text, parse};
use super::*;
use crate::transform::Transformation;

fn set(text: &str) -> RuleSet {
    let parsed = parse(&Source { name: "r", text });
    assert_eq!(parsed.refused, [], "{text}");
    resolve(parsed.directives)
}

fn rules(set: &RuleSet) -> Vec<&Rule> {
    set.items
        .iter()
        .filter_map(|item| match item {
            Item::Rule(rule) => Some(rule),
            Item::Marker(..) => None,
        })
        .collect()
}

fn numbers(set: &RuleSet) -> Vec<u32> {
    rules(set).iter().filter_map(|rule| rule.id()).collect()
}

/// What the first link of a rule does, without its number and its phase.
#[track_caller]
fn actions(set: &RuleSet, id: u32) -> Vec<Action> {
    let found = rules(set).into_iter().find(|rule| rule.id() == Some(id)).unwrap();
    let actions = found.links[0].actions.iter();
    actions.filter(|action| !matches!(action, Action::Id(_) | Action::Phase(_))).cloned().collect()
}

fn plain(text: &str) -> Text {
    Text(vec![Piece::Plain(text.to_owned())])
}

const DENY: Action = Action::Disruptive(Disruptive::Deny);
const PASS: Action = Action::Disruptive(Disruptive::Pass);

#[test]
fn rules_and_markers_keep_their_order() {
    let set = set("SecMarker A\nSecAction id:1\nSecMarker B\nSecAction id:2");
    let order: Vec<String> = set
        .items
        .iter()
        .map(|item| match item {
            Item::Rule(rule) => rule.id().unwrap().to_string(),
            Item::Marker(_, name) => name.clone(),
        })
        .collect();
    assert_eq!(order, ["A", "1", "B", "2"]);
}

#[test]
fn rules_are_removed_wherever_that_stands() {
    const RULES: &str = concat!(
        "SecAction \"id:10,tag:'attack-sqli',msg:'SQL'\"\n",
        "SecRule ARGS a \"id:20,tag:'attack-xss',msg:'HTML in %{MATCHED_VAR_NAME}',chain\"\n",
        "SecRule ARGS a \"tag:'link'\"\n",
        "SecAction \"id:30,msg:'other'\"\n",
    );
    for (change, expected) in [
        ("SecRuleRemoveById 10", &[20, 30][..]),
        ("SecRuleRemoveById 10 30", &[20]),
        ("SecRuleRemoveById 11-30", &[10]),
        ("SecRuleRemoveById 15-20 20", &[10, 30]),
        ("SecRuleRemoveById 11", &[10, 20, 30]),
        ("SecRuleRemoveByTag attack-sqli", &[20, 30]),
        ("SecRuleRemoveByTag attack", &[30]),
        ("SecRuleRemoveByTag ^sqli", &[10, 20, 30]),
        ("SecRuleRemoveByTag (?i)XSS$", &[10, 30]),
        // A link goes with its rule, and not without it.
        ("SecRuleRemoveByTag link", &[10, 20, 30]),
        ("SecRuleRemoveByMsg ^SQL$", &[20, 30]),
        ("SecRuleRemoveByMsg MATCHED_VAR", &[10, 30]),
        ("SecRuleRemoveByMsg .", &[]),
    ] {
        assert_eq!(numbers(&set(&format!("{RULES}{change}"))), expected, "{change} behind them");
        assert_eq!(numbers(&set(&format!("{change}\n{RULES}"))), expected, "{change} before them");
    }
}

#[test]
fn targets_are_added_and_excepted() {
    const RULES: &str = concat!(
        "SecRule ARGS a \"id:10,tag:'t',msg:'m',chain\"\n",
        "SecRule ARGS a\n",
        "SecRule ARGS a \"id:20\"\n",
        "SecAction \"id:30\"\n",
    );
    let except = |name: &str| Target {
        collection: Collection::Args,
        key: Key::Name(name.to_owned()),
        count: false,
        except: true,
    };
    let more = Target { collection: Collection::Files, key: Key::All, count: false, except: false };
    for (change, expected) in [
        ("SecRuleUpdateTargetById 10 !ARGS:a", [&[except("a")][..], &[], &[]]),
        (
            "SecRuleUpdateTargetById 1-99 !ARGS:a|FILES",
            [&[except("a"), more.clone()], &[], &[except("a"), more]],
        ),
        ("SecRuleUpdateTargetById \"5-15 10 8-12\" !ARGS:a", [&[except("a")], &[], &[]]),
        ("SecRuleUpdateTargetByTag t !ARGS:a", [&[except("a")], &[], &[]]),
        ("SecRuleUpdateTargetByMsg m !ARGS:a", [&[except("a")], &[], &[]]),
        (
            "SecRuleUpdateTargetById 20 !ARGS:a\nSecRuleUpdateTargetById 20 !ARGS:b",
            [&[], &[], &[except("a"), except("b")]],
        ),
    ] {
        for text in [format!("{RULES}{change}"), format!("{change}\n{RULES}")] {
            let set = set(&text);
            let rules = rules(&set);
            let links = [&rules[0].links[0], &rules[0].links[1], &rules[1].links[0]];
            for (link, expected) in links.iter().zip(expected) {
                assert_eq!(&link.targets[1..], expected, "{text}");
            }
            assert_eq!(rules[2].links[0].targets, [], "what looks at nothing goes on to do so");
        }
    }
}

#[test]
fn actions_are_replaced_or_added() {
    let tag = |text: &str| Action::Tag(plain(text));
    let own = |text: &str| {
        set(&format!(
            "SecAction \"id:1,deny,status:403,tag:'a',t:lowercase,msg:'m',log\"\nSecRuleUpdateActionById {text}"
        ))
    };
    let lower = Action::Transform(Transformation::Lowercase);
    let msg = |text: &str| Action::Msg(plain(text));
    let log = || Action::Log(true);
    for (change, expected) in [
        (
            "1 \"drop\"",
            vec![
                Action::Status(403),
                tag("a"),
                lower.clone(),
                msg("m"),
                log(),
                Action::Disruptive(Disruptive::Drop),
            ],
        ),
        ("1 \"deny,status:404\"", vec![tag("a"), lower.clone(), msg("m"), log(), Action::Status(404), DENY]),
        (
            "1 \"tag:'b',msg:'n'\"",
            vec![Action::Status(403), tag("a"), lower.clone(), log(), tag("b"), msg("n"), DENY],
        ),
        (
            "1 \"t:none,t:length\"",
            vec![
                Action::Status(403),
                tag("a"),
                msg("m"),
                log(),
                Action::Transform(Transformation::Length),
                DENY,
            ],
        ),
        ("1-5 \"nolog\"", vec![Action::Status(403), tag("a"), lower, msg("m"), Action::Log(false), DENY]),
    ] {
        assert_eq!(actions(&own(change), 1), expected, "{change}");
    }
}

#[test]
fn rules_take_what_is_said_by_default() {
    let set = set(concat!(
        "SecAction \"id:1,phase:1,block\"\n",
        "SecDefaultAction \"phase:1,log,auditlog,deny,status:410,tag:'d'\"\n",
        "SecAction \"id:2,phase:1,block\"\n",
        "SecAction \"id:3,phase:1,block,status:411,nolog\"\n",
        "SecAction \"id:4,phase:1,pass\"\n",
        "SecAction \"id:5,phase:1\"\n",
        "SecAction \"id:6,phase:2,block\"\n",
        "SecDefaultAction \"phase:1,drop\"\n",
        "SecAction \"id:7,phase:1,block\"\n",
    ));
    let tag = || Action::Tag(plain("d"));
    let default =
        |ending: Action| vec![Action::Log(true), Action::AuditLog(true), Action::Status(410), tag(), ending];
    assert_eq!(actions(&set, 1), default(DENY));
    assert_eq!(actions(&set, 2), default(DENY));
    assert_eq!(
        actions(&set, 3),
        [Action::AuditLog(true), tag(), Action::Status(411), Action::Log(false), DENY]
    );
    assert_eq!(actions(&set, 4), default(PASS));
    assert_eq!(actions(&set, 5), default(PASS));
    assert_eq!(actions(&set, 6), [PASS]);
    assert_eq!(actions(&set, 7), [Action::Disruptive(Disruptive::Drop)]);
}

#[test]
fn transformations_are_those_after_none() {
    use Transformation::{Length, Lowercase, Trim};
    let set = set(concat!(
        "SecDefaultAction \"phase:2,pass,log,t:trim\"\n",
        "SecRule ARGS a \"id:1,t:lowercase,chain\"\n",
        "SecRule ARGS a \"t:none,t:length\"\n",
        "SecAction \"id:2,t:lowercase,t:none,t:length,t:length\"\n",
        "SecAction \"id:3,phase:1,t:lowercase,t:none\"\n",
    ));
    let done: Vec<Vec<Transformation>> = rules(&set)
        .iter()
        .flat_map(|rule| &rule.links)
        .map(|link| {
            assert!(!link.actions.contains(&Action::NoTransformation));
            let transforms = link.actions.iter().filter_map(|action| match action {
                Action::Transform(transformation) => Some(*transformation),
                _ => None,
            });
            transforms.collect()
        })
        .collect();
    assert_eq!(done, [vec![Trim, Lowercase], vec![Length], vec![Length, Length], vec![]]);
    // All else that is said by default is said by the first link.
    assert_eq!(rules(&set)[0].links[1].actions, [Action::Transform(Length)]);
}

#[test]
fn each_rule_has_a_phase_and_an_ending() {
    let set = set(concat!(
        "SecAction \"id:1,deny,pass\"\n",
        "SecRule ARGS a \"id:2,phase:3,setvar:tx.a,setvar:tx.b,ctl:ruleEngine=Off,chain\"\n",
        "SecRule ARGS a \"phase:3,setvar:tx.a\"\n",
    ));
    for rule in rules(&set) {
        let head = &rule.links[0].actions;
        for kind in [Action::Id(1), Action::Phase(1), PASS] {
            assert_eq!(head.iter().filter(|own| discriminant(*own) == discriminant(&kind)).count(), 1);
        }
        for link in &rule.links[1..] {
            assert!(link.actions.iter().all(|action| matches!(action, Action::SetVar(_))));
        }
    }
    assert_eq!(actions(&set, 1), [PASS]);
    let second = actions(&set, 2);
    assert_eq!((second.len(), &second[2]), (4, &Action::Ctl(Ctl::Engine(Mode::Off))));
}

#[test]
fn what_is_wrong_or_idle_is_said() {
    let shown = |refused: &[Refused]| refused.iter().map(ToString::to_string).collect::<Vec<_>>();
    let set = set(concat!(
        "SecAction \"id:1,msg:'first'\"\n",
        "SecAction \"id:1,msg:'second'\"\n",
        "SecRuleRemoveByTag \"(\"\n",
        "SecRuleRemoveById 5\n",
        "SecRuleUpdateActionById 1 \"log\"\n",
    ));
    assert_eq!(shown(&set.idle), ["r:4: no rule answers to this"]);
    let refused = shown(&set.refused);
    assert_eq!(refused.len(), 2);
    assert_eq!(refused[0], "r:2: rule 1: r:1 has a rule of this number");
    assert!(refused[1].starts_with("r:3: ( is no expression: "), "{refused:?}");
    assert_eq!(actions(&set, 1), [Action::Msg(plain("first")), Action::Log(true), PASS]);
}

#[test]
fn the_last_word_on_a_setting_counts() {
    let set = set(concat!(
        "SecRuleEngine On\nSecRuleEngine DetectionOnly\n",
        "SecResponseBodyMimeType a/b\nSecResponseBodyMimeTypesClear\nSecResponseBodyMimeType c/d\n",
        "SecResponseBodyMimeType e/f\nSecComponentSignature a\nSecComponentSignature b\nSecTmpDir /tmp\n",
    ));
    assert_eq!(set.settings.engine, Some(Mode::DetectionOnly));
    assert_eq!(set.settings.response_body_types, Some(vec!["c/d".to_owned(), "e/f".to_owned()]));
    assert_eq!(set.settings.components, ["a", "b"]);
    assert_eq!(set.settings.without_meaning.len(), 1);
    assert_eq!(set.settings.request_body_access, None);
}
