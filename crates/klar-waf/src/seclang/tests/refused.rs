//! What is refused: with which words, where, and without harm to what stands around it.

use super::*;

fn refusals(text: &str) -> Vec<String> {
    read(text).refused.iter().map(ToString::to_string).collect()
}

#[test]
fn what_cannot_be_honoured_is_refused_where_it_stands() {
    for (text, expected) in [
        // Directives.
        ("SecFoo 1", "r:1: the directive `SecFoo` is not known"),
        ("\n<IfModule a>", "r:2: the directive `<IfModule` is not known"),
        (
            "Include rules/*.conf",
            "r:1: Include is not supported: files are read by whoever reads this one: name the file there",
        ),
        (
            "includeoptional a",
            "r:1: includeoptional is not supported: files are read by whoever reads this one: name the file there",
        ),
        ("SecHashEngine On", "r:1: SecHashEngine can only be off: responses are not changed"),
        ("SecRuleEngine Maybe", "r:1: `Maybe` is neither `On` nor `Off` nor `DetectionOnly`"),
        ("SecRequestBodyAccess 1", "r:1: `1` is neither `On` nor `Off`"),
        ("SecRequestBodyAccess", "r:1: SecRequestBodyAccess does not go with no argument"),
        ("SecRequestBodyLimit 1m", "r:1: `1m` is no number that fits here"),
        ("SecArgumentsLimit 4294967296", "r:1: `4294967296` is no number that fits here"),
        ("SecRequestBodyLimitAction Drop", "r:1: `Drop` is neither `Reject` nor `ProcessPartial`"),
        ("SecArgumentSeparator ab", "r:1: `ab` is not one character"),
        ("SecCookieFormat 1", "r:1: cookies are read in format 0, not `1`"),
        ("SecMarker", "r:1: SecMarker does not go with no argument"),
        ("SecMarker \"\"", "r:1: an argument is empty"),
        ("SecMarker a b", "r:1: SecMarker does not go with 2 arguments"),
        ("SecMarker \"a", "r:1: the quote \" is never closed"),
        ("SecMarker \"a\"b", "r:1: `b` stands right behind a closing quote"),
        ("SecRuleRemoveById", "r:1: no rule is named"),
        ("SecRuleRemoveById a", "r:1: `a` is no number of a rule (1 to 4294967295)"),
        ("SecRuleRemoveById 9-5", "r:1: `9-5` ends before it begins"),
        ("SecRuleUpdateTargetById 5:1 !ARGS", "r:1: `5:1` is no number of a rule (1 to 4294967295)"),
        ("SecRuleUpdateTargetById 5 !ARGS ARGS", "r:1: SecRuleUpdateTargetById does not go with 3 arguments"),
        ("SecRuleUpdateActionById 5 \"phase:1\"", "r:1: `phase` of a rule cannot be changed"),
        (
            "SecDefaultAction \"phase:1,log\"",
            "r:1: SecDefaultAction says neither `pass` nor `deny` nor what else ends a request",
        ),
        ("SecDefaultAction \"phase:1,block\"", "r:1: SecDefaultAction cannot hold `block`"),
        ("SecDefaultAction \"phase:1,pass,t:none\"", "r:1: SecDefaultAction cannot hold `t`"),
        // Rules.
        ("SecRule ARGS", "r:1: SecRule does not go with one argument"),
        ("SecRule ARGS a b c", "r:1: SecRule does not go with 4 arguments"),
        ("SecRule ARGS a", "r:1: a rule needs an `id`"),
        ("SecAction \"pass\"", "r:1: a rule needs an `id`"),
        ("SecRule ARGS \"a\" \"id:1,deny", "r:1: rule 1: the quote \" is never closed"),
        ("SecRule ARGS a \"id:1\" \\ ", "r:1: rule 1: SecRule does not go with 4 arguments"),
        ("SecRule FOO a id:1", "r:1: rule 1: the variable `FOO` is not known"),
        ("SecRule \"ARGS|\\\n  FOO\" a id:1", "r:2: rule 1: the variable `FOO` is not known"),
        ("SecRule ARGS| a id:1", "r:1: rule 1: the variable `` is not known"),
        ("SecRule ARGS: a id:1", "r:1: rule 1: `` names no member of ARGS"),
        ("SecRule ARGS:'' a id:1", "r:1: rule 1: a member without a name"),
        ("SecRule REQUEST_URI:a a id:1", "r:1: rule 1: REQUEST_URI has no members"),
        ("SecRule ARGS:/a a id:1", "r:1: rule 1: the expression `/a` never ends"),
        ("SecRule ARGS:'a a id:1", "r:1: rule 1: the quote ' is never closed"),
        ("SecRule ARGS:/a/b a id:1", "r:1: rule 1: the expression `/a/b` never ends"),
        ("SecRule ARGS:'a'b a id:1", "r:1: rule 1: `b` stands right behind a variable"),
        ("SecRule TX:%{tx.a} a id:1", "r:1: rule 1: `%{tx.a}` names no member of TX"),
        ("SecRule !&ARGS a id:1", "r:1: rule 1: `!` and `&` cannot stand before the same variable"),
        ("SecRule ARGS \"@foo a\" id:1", "r:1: rule 1: the operator `@foo` is not known"),
        ("SecRule ARGS \"@\" id:1", "r:1: rule 1: the operator `@` is not known"),
        ("SecRule ARGS @streq id:1", "r:1: rule 1: an operator without an argument"),
        ("SecRule ARGS \"\" id:1", "r:1: rule 1: an operator without an argument"),
        ("SecRule ARGS !@rx id:1", "r:1: rule 1: an operator without an argument"),
        ("SecRule ARGS \"@detectXSS a\" id:1", "r:1: rule 1: @detectXSS takes no argument, not `a`"),
        ("SecRule ARGS \"@streq %{foo}\" id:1", "r:1: rule 1: the variable `foo` is not known"),
        (
            "SecRule ARGS \"@streq %{tx.a\" id:1",
            "r:1: rule 1: `%{` without the `}` that closes it (`\\%{` is no variable)",
        ),
        (
            "SecRule ARGS \"@streq %{tx./a/}\" id:1",
            "r:1: rule 1: `tx./a/`: no expression can stand in `%{...}`",
        ),
        // Actions.
        ("SecAction \"id:1,\\\n\\\n  foo\"", "r:3: rule 1: the action `foo` is not known"),
        ("SecAction \"id:1,exec:/a\"", "r:1: rule 1: the action `exec`: no programs are run"),
        ("SecAction \"id:0,pass\"", "r:1: `0` is no number of a rule (1 to 4294967295)"),
        ("SecAction \"id:4294967296\"", "r:1: `4294967296` is no number of a rule (1 to 4294967295)"),
        ("SecAction \"id:+1\"", "r:1: `+1` is no number of a rule (1 to 4294967295)"),
        ("SecAction \"id:1,id:2\"", "r:1: rule 1: `id` is there twice"),
        ("SecAction \"id:1,phase:1,phase:2\"", "r:1: rule 1: `phase` is there twice"),
        ("SecAction \"id:1,phase:0\"", "r:1: rule 1: phase is a number from 1 to 5, not `0`"),
        ("SecAction \"id:1,status:99\"", "r:1: rule 1: status is a number from 100 to 599, not `99`"),
        ("SecAction \"id:1,severity:8\"", "r:1: rule 1: severity is a number from 0 to 7, not `8`"),
        ("SecAction \"id:1,skip:a\"", "r:1: rule 1: skip is a number from 1 to 1000000, not `a`"),
        ("SecAction \"id:1,t:foo\"", "r:1: rule 1: the transformation `foo` is not known"),
        ("SecAction \"id:1,t\"", "r:1: rule 1: the action `t` without a value"),
        ("SecAction \"id:1,msg\"", "r:1: rule 1: the action `msg` without a value"),
        ("SecAction \"id:1,deny:x\"", "r:1: rule 1: the action `deny` takes no value, not `x`"),
        ("SecAction \"id:1,allow:x\"", "r:1: rule 1: allow goes with `phase` or `request`, not `x`"),
        ("SecAction \"id:1,msg:'a\"", "r:1: rule 1: the quote ' is never closed"),
        ("SecAction \"id:1,msg:'a'b\"", "r:1: rule 1: `b` stands right behind a closing quote"),
        ("SecAction \"id:1,setvar:args.a\"", "r:1: rule 1: `args` is no collection that rules write to"),
        ("SecAction \"id:1,setvar:tx\"", "r:1: rule 1: `tx` names no variable"),
        ("SecAction \"id:1,setvar:!tx.a=1\"", "r:1: rule 1: what is unset has no value"),
        ("SecAction \"id:1,initcol:tx=1\"", "r:1: rule 1: `tx` is no collection that outlasts a request"),
        ("SecAction \"id:1,initcol:ip\"", "r:1: rule 1: `ip` is not `collection=key`"),
        ("SecAction \"id:1,expirevar:tx.a=1\"", "r:1: rule 1: nothing in TX outlasts a request"),
        ("SecAction \"id:1,expirevar:ip.a\"", "r:1: rule 1: `ip.a` says no number of seconds"),
        ("SecAction \"id:1,ctl:foo=1\"", "r:1: rule 1: ctl:foo is not known"),
        ("SecAction \"id:1,ctl:foo\"", "r:1: rule 1: ctl:foo is not `ctl:name=value`"),
        ("SecAction \"id:1,ctl:ruleEngine=\"", "r:1: rule 1: ctl:ruleEngine without a value"),
        ("SecAction \"id:1,ctl:ruleRemoveTargetById=5\"", "r:1: rule 1: `5` is not `rules;variable`"),
        ("SecAction \"id:1,ctl:ruleRemoveTargetByTag=;ARGS\"", "r:1: rule 1: no rules are named before `;`"),
        (
            "SecAction \"id:1,ctl:ruleRemoveTargetById=5;ARGS:a|TX:b c\"",
            "r:1: rule 1: `|TX:b c` stands right behind a variable",
        ),
        (
            "SecAction \"id:1,ctl:ruleRemoveTargetById=5;!ARGS:a\"",
            "r:1: rule 1: a variable that is left out stands without `!` and `&`",
        ),
        ("SecAction \"id:1,ctl:requestBodyProcessor=FOO\"", "r:1: rule 1: `FOO` is no processor of bodies"),
        // Chains.
        (
            "SecRule ARGS a \"id:5,chain\"",
            "r:1: rule 5: the file ends where the next link of the chain should be",
        ),
        (
            "SecRule ARGS a \"id:5,chain\"\nSecRule ARGS a chain\n",
            "r:2: rule 5: the file ends where the next link of the chain should be",
        ),
        (
            "SecRule ARGS a \"id:5,chain\"\nSecMarker A",
            "r:1: rule 5: `SecMarker` stands where the next link of the chain should be",
        ),
        (
            "SecRule ARGS a \"id:5,chain\"\nSecRule FOO a chain\nSecRule ARGS a",
            "r:2: rule 5: the variable `FOO` is not known",
        ),
        ("SecRule FOO a \"id:5,chain\"\nSecRule ARGS a", "r:1: rule 5: the variable `FOO` is not known"),
        (
            "SecRule ARGS a \"id:5,chain,foo\"\nSecRule ARGS a \"bar\"",
            "r:1: rule 5: the action `foo` is not known",
        ),
        (
            "SecRule ARGS a \"id:5,chain\"\nSecRule ARGS a deny",
            "r:2: rule 5: what ends a request can only stand in the first link of a chain",
        ),
        (
            "SecRule ARGS a \"id:5,chain\"\nSecRule ARGS a phase:1",
            "r:2: rule 5: phase 1 within a chain of phase 2",
        ),
        ("SecRule ARGS a \"id:5,msg:'a,chain\"\nSecRule ARGS a", "r:1: rule 5: the quote ' is never closed"),
        ("SecRule ARGS a \"phase:1,chain\"\nSecRule ARGS a", "r:1: a rule needs an `id`"),
    ] {
        let found = refusals(text);
        assert!(found.len() == 1 && found[0].starts_with(expected), "{text}\n  {found:?}\n  {expected}");
    }
}

#[test]
fn what_stands_around_it_is_read() {
    let parsed = read(concat!(
        "SecMarker A\n",
        "SecRule FOO a \"id:5,chain\"\n",
        "SecRule ARGS a\n",
        "SecRule ARGS a id:6\n",
        "SecFoo\n",
        "SecRule ARGS a \"id:7,chain\"\n",
        "SecMarker B\n",
        "SecRule ARGS a \"id:8,msg:'a,chain\"\n",
        "SecRule ARGS a id:9\n",
    ));
    let read: Vec<u32> = parsed
        .directives
        .iter()
        .filter_map(|directive| match directive {
            Directive::Rule(rule) => rule.id(),
            _ => None,
        })
        .collect();
    assert_eq!((read, parsed.directives.len()), (vec![6, 9], 4));
    let refused: Vec<(u32, Option<u32>)> =
        parsed.refused.iter().map(|refused| (refused.place.line, refused.id)).collect();
    assert_eq!(refused, [(2, Some(5)), (5, None), (6, Some(7)), (8, Some(8))]);
}

#[test]
fn a_number_is_taken_once() {
    let mut directives = read("SecAction id:5\nSecAction id:6\nSecAction id:5").directives;
    directives.extend(parse(&Source { name: "s", text: "\nSecAction id:6" }).directives);
    let refused: Vec<String> = duplicates(&directives).iter().map(ToString::to_string).collect();
    assert_eq!(
        refused,
        ["r:3: rule 5: r:1 has a rule of this number", "s:2: rule 6: r:2 has a rule of this number"]
    );
}

#[test]
fn there_are_limits() {
    let parsed = read(&"a\n".repeat(REFUSED_MAX + 5));
    assert_eq!(parsed.refused.len(), REFUSED_MAX + 1);
    assert!(parsed.refused[REFUSED_MAX].reason.ends_with("the rest is not read"));
    let links =
        format!("SecRule ARGS a \"id:5,chain\"\n{}SecRule ARGS a", "SecRule ARGS a chain\n".repeat(100));
    assert_eq!(refusals(&links), ["r:101: rule 5: more than 100 links in one chain"]);
    let targets = format!("SecRule ARGS{} a id:5", "|ARGS".repeat(1000));
    assert_eq!(refusals(&targets), ["r:1: rule 5: more than 1000 variables in one rule"]);
    let actions = format!("SecAction \"id:5{}\"", ",log".repeat(1000));
    assert_eq!(refusals(&actions), ["r:1: rule 5: more than 1000 actions in one rule"]);
    let shown = refusals(&format!("Sec{}", "é".repeat(500)));
    assert!(shown[0].len() < 200, "{shown:?}");
}
