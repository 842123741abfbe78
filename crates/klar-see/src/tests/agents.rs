//! Agents of VictoriaMetrics: one sends what it scrapes, the other asks in PromQL and writes what its rules say.

use std::process::{Command, Stdio};

use super::{Folder, KEY, Program, Running};

fn is_there(program: &str) -> bool {
    let there = Command::new(program).arg("-version").output().is_ok();
    if !there {
        eprintln!("skipped: {program} is not installed (apt-get install victoria-metrics)");
    }
    there
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn value(see: &Running, query: &str) -> String {
    let encoded: String = query.bytes().map(|byte| format!("%{byte:02x}")).collect();
    see.until(query, |see| {
        let data = see.get(&format!("/api/v1/query?query={encoded}"));
        Some(data["result"].as_array()?.first()?["value"][1].as_str()?.to_owned())
    })
}

#[test]
fn vmagent_writes_to_it() {
    if !is_there("vmagent") {
        return;
    }
    let folder = Folder::new("vmagent");
    let see = Running::start(&folder);
    see.known();
    let config = folder.path().join("scrape.yml");
    let text = format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs:\n- job_name: klar\n  authorization: {{credentials: {KEY}}}\n  \
         static_configs: [{{targets: ['{}']}}]\n",
        see.address
    );
    std::fs::write(&config, text).unwrap();
    let _agent = Program::start(
        Command::new("vmagent")
            .arg(format!("-promscrape.config={}", config.display()))
            .arg(format!("-remoteWrite.url=http://{}/api/v1/write", see.address))
            .args(["-remoteWrite.basicAuth.username=klar", &format!("-remoteWrite.basicAuth.password={KEY}")])
            .arg(format!("-remoteWrite.tmpDataPath={}", folder.path().join("agent").display()))
            .arg(format!("-httpListenAddr=127.0.0.1:{}", free_port()))
            .arg("-loggerLevel=ERROR")
            .stdout(Stdio::null()),
    );
    assert_eq!(value(&see, r#"up{job="klar"}"#), "1");
    value(&see, r#"klar_see_series{job="klar"}"#);
    see.end();
}

#[test]
fn vmalert_evaluates_rules_over_it() {
    if !is_there("vmalert") {
        return;
    }
    let folder = Folder::new("vmalert");
    let see = Running::start(&folder);
    see.known();
    see.requests(&[("/orders/1", 500, 900), ("/orders/2", 500, 900)]);
    let rules = folder.path().join("rules.yml");
    std::fs::write(
        &rules,
        r#"groups:
- name: shop
  interval: 1s
  rules:
  - record: shop:errors:sum
    expr: sum by (app) (http_requests_total{status=~"5.."})
  - alert: Errors
    expr: sum by (route) (http_requests_total{status="500"}) > 1
    labels: {severity: page}
  - alert: Quiet
    expr: sum(http_requests_total) > 1e9
"#,
    )
    .unwrap();
    let url = format!("http://{}", see.address);
    let mut vmalert = Command::new("vmalert");
    for of in ["datasource", "remoteWrite"] {
        vmalert.arg(format!("-{of}.url={url}"));
        vmalert.args([format!("-{of}.basicAuth.username=klar"), format!("-{of}.basicAuth.password={KEY}")]);
    }
    let _vmalert = Program::start(
        vmalert
            .arg(format!("-rule={}", rules.display()))
            // Nobody is told.
            .arg(format!("-notifier.url=http://127.0.0.1:{}", free_port()))
            .arg(format!("-httpListenAddr=127.0.0.1:{}", free_port()))
            .args(["-loggerLevel=FATAL", "-remoteWrite.flushInterval=1s"])
            .stdout(Stdio::null()),
    );
    assert_eq!(value(&see, r#"shop:errors:sum{app="shop"}"#), "2");
    assert_eq!(
        value(&see, r#"ALERTS{alertname="Errors",alertstate="firing",route="/orders/{id}",severity="page"}"#),
        "1"
    );
    let quiet = see.get("/api/v1/query?query=ALERTS%7Balertname%3D%22Quiet%22%7D");
    assert_eq!(quiet["result"].as_array().map(Vec::len), Some(0));
    see.end();
}
