//! What comes in where nobody answers: syslog and StatsD.

use std::io::Write;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::process::Command;

use klar_base::see::{Door, Speaks, ToSee};
use klar_base::wire;
use serde_json::{Value, json};

use super::{Folder, KEY, Program, Running, TOKEN};

/// Ports of syslog (the same for both) and of StatsD, opened and handed over as the core does it.
fn opened(see: &Running) -> (u16, u16) {
    let (tcp, udp) = (0..100)
        .find_map(|_| {
            let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
            let udp = UdpSocket::bind(tcp.local_addr().unwrap()).ok()?;
            Some((tcp, udp))
        })
        .unwrap();
    let statsd = UdpSocket::bind("127.0.0.1:0").unwrap();
    let door = |speaks, whose: Option<&str>| Door { speaks, whose: whose.map(|key| key.parse().unwrap()) };
    let doors = vec![door(Speaks::Syslog, Some("bank.prod")), door(Speaks::Statsd, None)];
    let message = ToSee::Doors { doors };
    wire::send(see.core.as_ref().unwrap(), &message, &[tcp.as_fd(), udp.as_fd(), statsd.as_fd()]).unwrap();
    (tcp.local_addr().unwrap().port(), statsd.local_addr().unwrap().port())
}

fn lines(see: &Running, filters: &str) -> Vec<Value> {
    let (status, body) = see.ask(Some(KEY), "GET", &format!("/klar/v1/logs?order=oldest&{filters}"), b"");
    assert_eq!(status, 200, "{body}");
    serde_json::from_str::<Value>(&body).unwrap()["rows"].as_array().unwrap().clone()
}

/// Waits for a line of a service.
fn line(see: &Running, service: &str) -> Value {
    see.until(service, |see| lines(see, &format!("service={service}")).first().cloned())
}

#[test]
fn syslog_becomes_lines() {
    let folder = Folder::new("syslog");
    let see = Running::start(&folder);
    see.known();
    let (port, _) = opened(&see);
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(b"<11>1 - web1 lines - - - first\n27 <12>1 - - counted - - - two\n").unwrap();
    let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
    datagrams.send_to(b"<10>datagram[7]: three", ("127.0.0.1", port)).unwrap();
    let first = line(&see, "lines");
    assert_eq!(
        (&first["app"], &first["instance"], &first["level"], &first["stream"], &first["body"]),
        (&json!("bank"), &json!("web1"), &json!("error"), &json!("syslog"), &json!("first"))
    );
    assert_eq!(line(&see, "counted")["body"], "two");
    let third = line(&see, "datagram");
    assert_eq!((&third["body"], &third["attrs"]["procid"]), (&json!("three"), &json!("7")));
    // Other sockets take their place, and the connection ends with the old ones.
    let (next, _) = opened(&see);
    assert_eq!(std::io::Read::read(&mut stream, &mut [0; 1]).unwrap_or(0), 0);
    datagrams.send_to(b"<10>again: four", ("127.0.0.1", next)).unwrap();
    line(&see, "again");
    see.end();
}

#[test]
fn logger_and_rsyslog_speak_syslog() {
    let folder = Folder::new("logger");
    let see = Running::start(&folder);
    see.known();
    let (port, _) = opened(&see);
    let port = port.to_string();
    for (name, args) in [
        ("over-udp", &["--udp", "--rfc5424"][..]),
        ("over-tcp", &["--tcp", "--rfc5424", "--octet-count"]),
        ("as-before", &["--tcp", "--rfc3164"]),
    ] {
        let mut logger = Command::new("logger");
        logger.args([
            "--server",
            "127.0.0.1",
            "--port",
            &port,
            "--priority",
            "local0.warning",
            "--tag",
            name,
        ]);
        let Ok(output) = logger.args(args).arg("it is late").output() else {
            eprintln!("skipped: logger is not installed (apt-get install bsdutils)");
            break;
        };
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let found = line(&see, name);
        assert_eq!(
            (&found["body"], &found["level"], &found["attrs"]["facility"]),
            (&json!("it is late"), &json!("warn"), &json!("local0")),
            "{name}"
        );
    }
    if Command::new("rsyslogd").arg("-v").output().is_err() {
        eprintln!("skipped: rsyslog is not installed (apt-get install rsyslog)");
        return see.end();
    }
    let (input, config) = (folder.path().join("input.log"), folder.path().join("rsyslog.conf"));
    std::fs::write(&input, "from a file\n").unwrap();
    let text = format!(
        r#"global(workDirectory="{at}")
module(load="imfile" mode="polling" pollingInterval="1")
input(type="imfile" file="{input}" tag="forwarded:" severity="err" freshStartTail="off")
action(type="omfwd" target="127.0.0.1" port="{port}" protocol="tcp" template="RSYSLOG_SyslogProtocol23Format")
action(type="omfwd" target="127.0.0.1" port="{port}" protocol="tcp" TCP_Framing="octet-counted")
"#,
        at = folder.path().display(),
        input = input.display(),
    );
    std::fs::write(&config, text).unwrap();
    let pid = folder.path().join("pid");
    let _rsyslog =
        Program::start(Command::new("rsyslogd").arg("-n").arg("-f").arg(&config).arg("-i").arg(&pid));
    let found = see.until("rsyslog has sent twice", |see| {
        let found = lines(see, "service=forwarded");
        (found.len() == 2).then_some(found)
    });
    for one in found {
        assert_eq!((&one["body"], &one["level"]), (&json!("from a file"), &json!("error")), "{one}");
    }
    see.end();
}

/// A query without labels, until it has an answer.
fn value(see: &Running, query: &str) -> String {
    let encoded: String = query.bytes().map(|byte| format!("%{byte:02x}")).collect();
    see.until(query, |see| {
        let data = see.get(&format!("/api/v1/query?query={encoded}"));
        Some(data["result"].as_array()?.first()?["value"][1].as_str()?.to_owned())
    })
}

#[test]
fn statsd_becomes_metrics() {
    let folder = Folder::new("statsd");
    let see = Running::start(&folder);
    see.known();
    let (_, port) = opened(&see);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for datagram in [
        format!("shop.carts:3|c|#kind:gift,klar_token:{TOKEN}\nqueue:7|g"),
        "query:200|ms\nnonsense".to_owned(),
    ] {
        socket.send_to(datagram.as_bytes(), ("127.0.0.1", port)).unwrap();
    }
    let mut expected = vec![
        (r#"shop_carts{app="shop",env="prod",kind="gift"}"#, "3"),
        ("queue", "7"),
        ("query_sum", "0.2"),
        ("query_bucket{le='0.25'}", "1"),
        ("query_bucket{le='0.1'}", "0"),
        // It is written down with the nothing that it was before.
        (r#"changes(shop_carts{app="shop"}[5m])"#, "1"),
        (r#"klar_see_statsd_values_total{verdict="refused"}"#, "1"),
    ];
    // A client in Python, from Debian: its interpreter is not always the first one of the path.
    let client = format!(
        "import statsd\nc = statsd.StatsClient('127.0.0.1', {port}, prefix='py')\nc.incr('orders', 4)\nc.gauge('depth', 9)\n\
         c.gauge('depth', -2, delta=True)\nc.timing('took', 320)\nc.set('users', 'ann')\n"
    );
    match Command::new("/usr/bin/python3").args(["-c", &client]).output() {
        Ok(output) if output.status.success() => {
            expected.extend([
                ("py_orders", "4"),
                ("py_depth", "7"),
                ("py_took_sum", "0.32"),
                ("py_took_count", "1"),
            ]);
        }
        _ => eprintln!(
            "skipped: the client of StatsD for Python is not installed (apt-get install python3-statsd)"
        ),
    }
    for (query, number) in expected {
        assert_eq!(value(&see, query), number, "{query}");
    }
    see.end();
}
