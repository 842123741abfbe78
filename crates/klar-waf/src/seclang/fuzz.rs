//! No text makes the reader panic or lose its place, and nothing that it takes leaves a rule half made.

use klar_fuzz::Fuzz;

use super::*;

const RULES: Fuzz<'_> = Fuzz {
    name: "rules",
    seeds: &[
        b"SecRule ARGS|!ARGS:note \"@rx (?i)\\bdrop\\s+table\\b\" \\\n    \"id:1,phase:2,deny,status:403,t:none,t:urlDecodeUni\"\n",
        b"SecRule &REQUEST_HEADERS:Host \"!@eq 1\" \"id:2,phase:1,block,msg:'Host: %{REQUEST_HEADERS.Host}',chain\"\n  SecRule TX:'/^a|b/' \"@within %{tx.a}\" \"setvar:'tx.score=+%{tx.five}'\"\n",
        b"SecAction \"id:3,pass,nolog,initcol:ip=%{remote_addr},setvar:!tx.a,expirevar:'ip.a=60',skipAfter:END\"\nSecMarker \"END\"\n",
        b"SecDefaultAction \"phase:1,log,deny,status:404\"\r\nSecRuleEngine On\r\n# SecRule a \\\r\n b\r\n",
        b"SecRuleRemoveById 1 3-5\nSecRuleUpdateTargetByTag \"sql\" \"!ARGS:/^a/\"\nSecRuleUpdateActionById 1 \"pass,tag:'x'\"\n",
        b"SecAction \"id:4,ctl:ruleRemoveTargetById=1-9;XML:/*,ctl:requestBodyProcessor=JSON,ctl:ruleEngine=Off,allow:phase\"",
    ],
    words: &[
        b"SecRule ", b"SecAction ", b"SecMarker ", b"SecDefaultAction ", b"SecRuleRemoveById ", b"ARGS", b"TX:", b"XML:/*",
        b"id:1", b"phase:", b"chain", b"deny", b"block", b"t:none", b"msg:'", b"setvar:'tx.", b"ctl:", b"%{", b"}", b"\\\"",
        b"\\'", b"\\\n", b"\\\r\n", b"\"", b"'", b",", b"|", b"@rx ", b"!@", b"&", b"/", b"=+", b"#", b"\n", b"\xef\xbb\xbf", b"\xc3\xa9",
    ],
    longest: 600,
};

#[test]
fn what_is_read_is_whole() {
    RULES.run(|input| {
        let text = String::from_utf8_lossy(input);
        let parsed = parse(&Source { name: "f", text: &text });
        let last = u32::try_from(text.lines().count().max(1)).unwrap();
        for refused in &parsed.refused {
            assert!((1..=last).contains(&refused.place.line) && !refused.reason.is_empty());
        }
        // What stands alone is read as it is among others.
        let again = format!("SecMarker before\n{text}");
        let among = parse(&Source { name: "f", text: &again });
        if !text.starts_with('\u{feff}') {
            assert_eq!(among.directives.len(), parsed.directives.len() + 1);
            assert_eq!(among.refused.len(), parsed.refused.len());
        }
        for directive in &parsed.directives {
            let Directive::Rule(rule) = directive else { continue };
            assert!(rule.id().is_some());
            let mut lines = rule.links.iter().map(|link| link.place.line);
            assert!(lines.next().is_some_and(|first| lines.all(|line| line > first)));
        }
        let refused = duplicates(&parsed.directives).len();
        let set = resolve(parsed.directives);
        assert!(set.refused.len() >= refused);
        for item in &set.items {
            let Item::Rule(rule) = item else { continue };
            for (at, link) in rule.links.iter().enumerate() {
                let count =
                    |wanted: fn(&Action) -> bool| link.actions.iter().filter(|own| wanted(own)).count();
                let heads = usize::from(at == 0);
                assert_eq!(count(|action| matches!(action, Action::Phase(_))), heads);
                assert_eq!(count(|action| matches!(action, Action::Disruptive(_))), heads);
                assert_eq!(count(|action| matches!(action, Action::Disruptive(Disruptive::Block))), 0);
                assert_eq!(count(|action| matches!(action, Action::NoTransformation)), 0);
            }
        }
    });
}
