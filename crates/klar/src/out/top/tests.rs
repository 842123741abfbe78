//! The screen as people see it.

use super::*;

fn route(pattern: &str, requests_per_s: f64) -> RouteSample {
    let some = |number: f64| (requests_per_s > 0.0).then_some(number);
    RouteSample {
        app: "shop".into(),
        pattern: pattern.into(),
        service: Some("web".into()),
        requests_per_s,
        p50_ms: some(1.24),
        p99_ms: some(1340.0),
        error_share: some(0.002),
        bytes_in_per_s: 0.0,
        bytes_out_per_s: requests_per_s * 5000.0,
        cache_hit_share: None,
    }
}

fn instance(number: u32, wellness: Wellness, weight: u32) -> InstanceSample {
    InstanceSample {
        id: format!("shop.web.{number}"),
        release: "0123456".into(),
        weight,
        wellness,
        in_flight: number,
        requests_per_s: 100.0 / f64::from(number),
        failures_per_s: if wellness == Wellness::Well { 0.0 } else { 2.5 },
    }
}

fn sample() -> Sample {
    let pages = RouteSample {
        service: None,
        cache_hit_share: Some(0.934),
        error_share: Some(0.25),
        ..route("/pages/of/a/very/long/name/that/nobody/would/type/*", 3.0)
    };
    Sample {
        seconds: 1.0,
        connections: 17,
        http2_connections: 12,
        http3_connections: 3,
        accepted_per_s: 4.0,
        handshakes_per_s: 3.5,
        handshakes_failed_per_s: 0.5,
        http1_requests_per_s: 12.0,
        http2_requests_per_s: 1234.4,
        http3_requests_per_s: 56.0,
        cache_used: 3 << 20,
        cache_room: 64 << 20,
        routes: vec![route("/quiet", 0.0), pages, route("/*", 1243.0)],
        instances: vec![
            instance(1, Wellness::Well, 1),
            instance(2, Wellness::Unwell, 1),
            instance(3, Wellness::Gone, 1),
            instance(4, Wellness::Well, 0),
        ],
    }
}

fn plain(lines: Vec<String>) -> String {
    lines.iter().map(|line| format!("{}\n", anstream::adapter::strip_str(line))).collect()
}

#[test]
fn on_a_usual_terminal() {
    insta::assert_snapshot!(plain(frame(&sample(), Sort::Requests, (80, 24), true)));
}

#[test]
fn in_a_pipe() {
    insta::assert_snapshot!(plain(frame(&sample(), Sort::Requests, (usize::MAX, usize::MAX), false)));
}

#[test]
fn in_a_corner() {
    insta::assert_snapshot!(plain(frame(&sample(), Sort::Errors, (40, 11), true)));
}

/// Whatever the size, nothing wraps and nothing scrolls.
#[test]
fn nothing_is_larger_than_the_terminal() {
    let mut crowded = sample();
    crowded.routes = (0..60).map(|number| route(&format!("/{number}/*"), f64::from(number))).collect();
    for columns in [1, 5, 12, 20, 33, 47, 79, 80, 200] {
        for rows in [1, 2, 5, 8, 9, 11, 24, 60] {
            for sample in [&sample(), &crowded] {
                let lines = frame(sample, Sort::Name, (columns, rows), true);
                assert!(lines.len() <= rows, "{columns}x{rows}: {} lines", lines.len());
                for line in plain(lines).lines() {
                    // Two numbers always stay, which need 17; the terminal cuts what it has no room for.
                    assert!(line.chars().count() <= columns.max(17), "{columns}x{rows}: {line}");
                }
            }
        }
    }
}

#[test]
fn what_comes_first() {
    let mut all = sample();
    all.routes[0].error_share = Some(0.9);
    all.routes[0].p99_ms = Some(9000.0);
    all.routes[0].bytes_out_per_s = 1e9;
    let mut sort = Sort::Requests;
    let mut firsts = Vec::new();
    for _ in 0..5 {
        let text = plain(frame(&all, sort, (120, 40), true));
        let first = text.lines().skip_while(|line| !line.starts_with("ROUTE")).nth(1).unwrap();
        firsts.push(first.split(' ').nth(1).unwrap().to_owned());
        sort = sort.next();
    }
    assert_eq!(firsts, ["/*", "/quiet", "/quiet", "/quiet", "/*"]);
    assert_eq!(sort, Sort::Requests);
}

#[test]
fn numbers_are_short() {
    for (number, text) in [(0.0, "0"), (0.04, "0.0"), (3.25, "3.2"), (9.96, "10"), (1234.6, "1,235")] {
        assert_eq!(number_of(number), text);
    }
    for (ms, text) in [(0.3, "0.3ms"), (12.4, "12ms"), (999.7, "1.0s"), (61_000.0, "61.0s")] {
        assert_eq!(time_of(Some(ms)), text);
    }
    for (share, text) in [(0.0, "0%"), (0.0123, "1.2%"), (0.5, "50%"), (1.0, "100%")] {
        assert_eq!(share_of(Some(share)), text);
    }
}
