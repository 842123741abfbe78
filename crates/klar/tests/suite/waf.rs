//! The firewall, on a real core with a real app: what is stopped is told, and what was honest is let through.

use crate::common::{App, Host};
use serde_json::Value;

const SERVER: &str = "require('http').createServer((q, a) => a.end('got ' + q.url))
    .listen(process.env.PORT, '127.0.0.1');";

const TOML: &str = r#"# ours
[app]
name = "shop"
[services.web]
run = "node server.js"
"#;

/// What a stranger and what somebody honest send: both look like SQL.
const ATTACK: &str = "/orders?id=1%27%20UNION%20SELECT%20password%20FROM%20users--%20";
const HONEST: &str = "/sql-course/answers?text=1%27%20UNION%20SELECT%20name%20FROM%20towns--%20";

fn records(app: &App<'_>) -> Vec<Value> {
    let text = app.klar(&["logs", "--access", "--json", "-n", "1000"]);
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The number of the newest stopped request for a path.
fn stopped(app: &App<'_>, path: &str) -> String {
    app.until("the record", || {
        let records = records(app);
        let found =
            records.iter().rev().find(|one| one["path"] == path && one["waf"]["verdict"] == "blocked")?;
        Some(found["request_id"].as_str()?.to_owned())
    })
}

#[test]
fn an_app_is_guarded_and_an_exception_is_narrow() {
    let host = Host::new();
    let app = host.app("shop", &[("klar.toml", TOML), ("server.js", SERVER)]);
    app.klar(&["up"]);
    assert_eq!(app.get("/orders?id=7").0, 200);
    let (status, page) = app.get(ATTACK);
    assert_eq!(status, 403, "{page}");
    assert!(page.contains("the firewall stopped this request"), "{page}");
    assert_eq!(app.get(HONEST).0, 403);

    let id = stopped(&app, "/sql-course/answers");
    let report = app.klar(&["waf", "report"]);
    assert!(report.contains("ARGS:text") && report.contains("ARGS:id"), "{report}");
    let told = app.json(&["waf", "explain", &id]);
    assert_eq!(told["exceptions"][0]["parameter"], "text", "{told}");
    let text = app.klar(&["waf", "explain", &id]);
    assert!(text.contains("was stopped") && text.contains("route = \"/sql-course/answers\""), "{text}");
    assert!(app.fails(&["waf", "explain", "nonsense"]).contains("there is no request nonsense"));

    let before = std::fs::read_to_string(app.folder.join("klar.toml")).unwrap();
    app.klar(&["waf", "allow", &id, "--dry-run"]);
    assert_eq!(std::fs::read_to_string(app.folder.join("klar.toml")).unwrap(), before);
    app.klar(&["waf", "allow", &id]);
    let after = std::fs::read_to_string(app.folder.join("klar.toml")).unwrap();
    assert!(after.starts_with(&before) && after.contains("[waf."), "{after}");
    app.klar(&["deploy"]);
    assert_eq!(app.get(HONEST).0, 200, "{after}");
    // The same elsewhere, and elsewhere in the same request, is what it was.
    assert_eq!(app.get(&HONEST.replace("text=", "other=")).0, 403);
    assert_eq!(app.get(&HONEST.replace("answers", "questions")).0, 403);
    assert_eq!(app.get(ATTACK).0, 403);

    // A parameter that may be nothing but a number, and a route that is only watched.
    app.append(
        "[waf.page]\nroute = \"/list\"\nparameter = \"page\"\npattern = \"[0-9]{1,4}\"\n\
         [routes]\n\"/*\" = \"web\"\n\"/free/*\" = { to = \"web\", waf = \"detect\" }\n",
    );
    app.klar(&["deploy"]);
    assert_eq!((app.get("/list?page=12").0, app.get("/list?page=twelve").0), (200, 403));
    assert_eq!(app.get(&ATTACK.replace("/orders", "/free/orders")).0, 200);
    let told = app.json(&["edge", "explain", "/free/x"]);
    let policies = told["policies"].as_array().unwrap();
    let waf = policies.iter().find(|policy| policy["key"] == "routes.*.waf").unwrap();
    assert!(waf["value"].as_str().unwrap().starts_with("says what it would stop"), "{waf}");
}

/// A rule set that somebody else wrote, put in place by hand.
#[test]
fn a_rule_set_is_taken_from_a_folder() {
    let host = Host::new();
    let app = host.app("shop", &[("klar.toml", TOML), ("server.js", SERVER)]);
    // The file ends with `[edge]`.
    app.append("waf_rules = \"crs\"\n");
    let set = app.folder.parent().unwrap().join("set");
    std::fs::create_dir_all(set.join("rules")).unwrap();
    let rule = "SecRule ARGS \"@pmFromFile words.data\" \"id:7,phase:2,deny,status:403,log,msg:'A word'\"\n";
    std::fs::write(set.join("rules/REQUEST-1.conf"), rule).unwrap();
    std::fs::write(set.join("rules/words.data"), "nasty\n").unwrap();
    assert!(app.fails(&["waf", "add", "nowhere"]).starts_with("exit 2\n"));
    app.klar(&["waf", "add", set.to_str().unwrap()]);
    app.klar(&["up"]);
    assert_eq!((app.get("/?q=nasty").0, app.get("/?q=nice").0), (403, 200));
    // klar's own rules are not among them.
    assert_eq!(app.get(ATTACK).0, 200);
}

/// Rules with two levels, in the words of the Core Rule Set: an apostrophe is suspicious from level 2 on.
const LEVELS: &str = r#"
SecAction "id:20,phase:1,pass,nolog,setvar:tx.inbound_anomaly_score_threshold=5"
SecRule TX:detection_paranoia_level "@lt 2" "id:22,phase:2,pass,nolog,skipAfter:END"
SecRule ARGS "@contains '" "id:23,phase:2,pass,log,msg:'An apostrophe',tag:'paranoia-level/2',setvar:tx.inbound_anomaly_score_pl2=+5"
SecMarker END
SecRule TX:inbound_anomaly_score_pl2 "@ge 5" "id:27,phase:2,deny,status:403,log,msg:'Too much'"
"#;

/// What a stricter level would stop is known before it is in force, and so are the exceptions that it needs.
#[test]
fn a_stricter_level_is_tried_before_it_is_in_force() {
    let host = Host::new();
    let app = host.app("shop", &[("klar.toml", TOML), ("server.js", SERVER)]);
    let set = app.folder.parent().unwrap().join("set");
    std::fs::create_dir_all(set.join("rules")).unwrap();
    std::fs::write(set.join("rules/REQUEST-1.conf"), LEVELS).unwrap();
    app.klar(&["waf", "add", set.to_str().unwrap()]);
    app.klar(&["up"]);
    assert!(app.fails(&["waf", "try"]).contains("`waf_shadow = true`"));
    // The file ends with `[edge]`.
    app.append("waf_shadow = true\n");
    app.klar(&["deploy"]);
    let names = ["/people?name=O%27Brien", "/s%C3%B8k%20her?name=D%27Angelo", "/people?name=Berg"];
    // One is looked at in a while: another one comes first each time, so that each of them is met at rest.
    let mut first = names.iter().cycle();
    let levels = app.until("what the levels say", || {
        first.clone().take(names.len()).for_each(|path| assert_eq!(app.get(path).0, 200));
        first.next();
        let report = app.klar(&["waf", "report", "--json"]);
        let lines = report.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let levels: Vec<Value> = lines.filter(|line| line.get("level").is_some()).collect();
        // Those of the rules in force come first, and there are none.
        let has_all = levels.len() == 4 && app.klar(&["waf", "report"]).contains("/* ARGS:name");
        let tried = || app.json(&["waf", "try", "--level", "2"])["exceptions"].as_array().map_or(0, Vec::len);
        (has_all && levels[1]["would_be_stopped"] != levels[1]["looked_at"] && tried() == 2).then_some(levels)
    });
    assert_eq!(levels[0]["would_be_stopped"], 0, "{levels:?}");
    let text = app.klar(&["waf", "report"]);
    assert!(text.contains("level 2"), "{text}");

    let tried = app.json(&["waf", "try", "--level", "2"]);
    let exception = |route| serde_json::json!({ "route": route, "parameter": "name", "allow": [23] });
    let exceptions = Value::from(vec![exception("/people"), exception("/søk her")]);
    assert!(!tried["tried"]["stopped"].as_array().unwrap().is_empty(), "{tried}");
    assert_eq!((&tried["exceptions"], &tried["then"]["stopped"]), (&exceptions, &serde_json::json!([])));
    assert_eq!(tried["then"]["attacks"][0]["tried"], 40, "{tried}");
    assert_eq!(app.json(&["waf", "try"])["level"], 1, "instead of klar's own rules");
    assert_eq!(
        app.json(&["waf", "try", "--rules", set.to_str().unwrap()])["tried"]["stopped"],
        serde_json::json!([])
    );
    let text = app.klar(&["waf", "try", "--level", "2", "--write"]);
    assert!(text.contains("/people") && text.contains("replayed: with these, 0 of the requests"), "{text}");

    let file = app.folder.join("klar.toml");
    let toml = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, toml.replace("waf_shadow = true", "waf_rules = \"crs\"\nwaf_paranoia = 2"))
        .unwrap();
    app.klar(&["deploy"]);
    assert_eq!(names.map(|path| app.get(path).0), [200; 3], "{toml}");
    assert_eq!(app.get("/people?other=O%27Brien").0, 403);
    assert!(app.fails(&["waf", "try"]).contains("no requests were kept"), "they went with the switch");
}

/// A route that is only watched blocks once nothing was found on it for long enough, and what is found starts the count anew.
#[test]
fn a_route_that_is_clean_for_long_enough_begins_to_block() {
    let host = Host::new();
    let app = host.app("shop", &[("klar.toml", TOML), ("server.js", SERVER)]);
    app.append("[routes]\n\"/*\" = { to = \"web\", waf = \"detect\", waf_block_after = 6 }\n");
    app.klar(&["up"]);
    let told = |word: &str| {
        app.until(word, || {
            let findings = app.json(&["doctor"]);
            let about =
                |one: &Value| one["topic"] == "firewall" && one["what"].as_str().unwrap().contains(word);
            findings.as_array().unwrap().iter().any(about).then_some(())
        });
    };
    let five = || (0..5).for_each(|_| assert_eq!(app.get("/orders?id=7").0, 200));
    five();
    told("about 5 of 6");
    assert_eq!(app.get(ATTACK).0, 200);
    told("about 0 of 6");
    five();
    told("about 5 of 6");
    assert_eq!(app.get("/orders?id=8").0, 200);
    told("blocks now");
    app.until("the edge", || (app.get(ATTACK).0 == 403).then_some(()));
    app.klar(&["deploy"]);
    assert_eq!(app.get(ATTACK).0, 403, "it is remembered");
}
