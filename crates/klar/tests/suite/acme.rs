//! A certificate from a real authority for a whole klar: core, edge, command line.
//!
//! Each klar here is a rig, so that it listens at loopback only; a rig may ask an authority of this machine.

#[path = "../../../klar-run/tests/pebble/mod.rs"]
mod pebble;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::common::{App, Host};
use pebble::small::{account_made, directory, http, small_authority};
use pebble::{Pebble, folder, free_port};
use serde_json::Value;

const NAME: &str = "shop.klar.example";
const DAY: Duration = Duration::from_secs(86_400);

/// An app for [`NAME`] whose klar listens at its own port for HTTPS, and at `http`.
fn app<'a>(host: &'a Host, http: u16, pebble: &Pebble) -> App<'a> {
    app_of(host, http, &pebble.directory(), &pebble.root())
}

/// The same for any authority.
fn app_of<'a>(host: &'a Host, http: u16, directory: &str, root: &Path) -> App<'a> {
    let toml =
        format!("[app]\nname = \"shop\"\ndomains = [\"{NAME}\"]\n[services.web]\nstatic = \"public\"\n",);
    let app = host.app("shop", &[("klar.toml", &toml), ("public/index.html", "hello\n")]);
    app.append(&format!("acme = \"{directory}\"\nacme_root = \"{}\"\n", root.display()));
    std::fs::create_dir_all(&host.state).unwrap();
    std::fs::write(host.state.join("ports.json"), format!("[{}, {http}]", app.https)).unwrap();
    app
}

/// Who signed what is served.
fn issuer(app: &App<'_>) -> String {
    let mut shown = Command::new("openssl")
        .args(["s_client", "-connect", &format!("127.0.0.1:{}", app.https), "-servername", NAME])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let read = Command::new("openssl")
        .args(["x509", "-noout", "-issuer"])
        .stdin(shown.stdout.take().unwrap())
        .output()
        .unwrap();
    shown.wait().unwrap();
    String::from_utf8(read.stdout).unwrap()
}

fn certificate(app: &App<'_>) -> Value {
    app.status()["certificates"][0].clone()
}

fn until_signed(app: &App<'_>) -> Value {
    app.until("a certificate of the authority", || {
        let certificate = certificate(app);
        (certificate["source"] == "acme").then_some(certificate)
    })
}

#[test]
fn a_name_gets_a_certificate_over_http_which_survives_a_killed_core() {
    let host = Host::new();
    let http = free_port();
    let pebble = Pebble::prepare();
    let app = app(&host, http, &pebble);
    let pebble = pebble.look_at(http, app.https);
    app.klar(&["up"]);
    let signed = until_signed(&app);
    assert_eq!(signed["host"], NAME);
    assert!(signed["issuer"].as_str().unwrap().contains("Pebble"), "{signed}");
    assert!(signed["days_left"].as_i64().unwrap() > 0 && signed["last_error"].is_null(), "{signed}");
    app.until("it serves", || issuer(&app).contains("Pebble").then_some(()));
    let said = app.klar(&["status"]);
    assert!(said.contains(&format!("{NAME}: Pebble")), "{said}");

    kill_core(&app);
    assert_eq!(certificate(&app)["not_after_unix_ms"], signed["not_after_unix_ms"], "the same certificate");
    assert!(issuer(&app).contains("Pebble"));
    assert_eq!(pebble.log().matches("Issued certificate").count(), 1, "and no second one");
}

#[test]
fn without_the_plain_port_it_is_proven_over_tls() {
    let host = Host::new();
    let pebble = Pebble::prepare();
    let app = app(&host, free_port(), &pebble);
    // Nobody listens where it looks for HTTP-01.
    let pebble = pebble.look_at(free_port(), app.https);
    app.klar(&["up"]);
    until_signed(&app);
    app.until("it serves", || issuer(&app).contains("Pebble").then_some(()));
    drop(pebble);
}

#[test]
fn while_the_authority_is_down_the_site_is_reachable_and_a_deploy_tries_again() {
    let host = Host::new();
    let http = free_port();
    let pebble = Pebble::prepare();
    let app = app(&host, http, &pebble);
    app.klar(&["up"]);
    let failed = app.until("a failure", || {
        let certificate = certificate(&app);
        certificate["last_error"].is_string().then_some(certificate)
    });
    assert_eq!(failed["source"], "local");
    assert!(failed["last_error"].as_str().unwrap().contains("no connection to localhost"), "{failed}");
    assert!(issuer(&app).contains("klar local authority"));
    let said = app.klar(&["status"]);
    assert!(said.contains(&format!("{NAME} has no certificate that browsers believe yet")), "{said}");

    let pebble = pebble.look_at(http, app.https);
    app.klar(&["deploy"]);
    until_signed(&app);
    app.until("it serves", || issuer(&app).contains("Pebble").then_some(()));
    let problems = app.status()["problems"].clone();
    assert_eq!(problems.as_array().unwrap().len(), 0, "{problems}");
    drop(pebble);
}

/// A certificate of another authority that ends in so many days and a half, put where a core finds its own.
fn ends_in(host: &Host, days: i32) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec![NAME.to_owned()]).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, "the old one");
    let (begin, day) = (SystemTime::now() - 80 * DAY, DAY);
    params.not_before = begin.into();
    params.not_after = (begin + u32::try_from(80 + days).unwrap() * day + day / 2).into();
    let made = params.self_signed(&key).unwrap();
    put(host, ".pem", &(key.serialize_pem() + &made.pem()));
}

/// Puts a file beside the certificates of a core, for the next core to find.
fn put(host: &Host, ending: &str, text: &str) {
    use std::os::unix::fs::{MetadataExt, chown};
    let folder = host.state.join("acme/certificates");
    let file = folder.join(format!("{NAME}{ending}"));
    std::fs::write(&file, text).unwrap();
    let owner = std::fs::metadata(&folder).unwrap();
    chown(&file, Some(owner.uid()), Some(owner.gid())).unwrap();
}

/// Kills the core, and waits for the next one.
fn kill_core(app: &App<'_>) {
    let killed = app.json(&["status"])["core_pid"].as_i64().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(killed as i32), nix::sys::signal::SIGKILL).unwrap();
    app.until("another core", || {
        let said: Value = serde_json::from_slice(&app.run(&["status", "--json"]).stdout).ok()?;
        (said["core_pid"].as_i64()? != killed).then_some(())
    });
}

#[test]
fn the_old_certificate_serves_with_an_alarm_until_it_can_be_renewed() {
    let host = Host::new();
    let http = free_port();
    let pebble = Pebble::prepare();
    let app = app(&host, http, &pebble);
    app.klar(&["up"]);
    app.until("a failure", || certificate(&app)["last_error"].is_string().then_some(()));
    ends_in(&host, 10);
    kill_core(&app);
    app.until("the old one serves", || issuer(&app).contains("the old one").then_some(()));
    let old = certificate(&app);
    assert_eq!(
        (&old["source"], &old["alarm"], &old["days_left"]),
        (&"acme".into(), &"soon".into(), &10.into())
    );
    assert_eq!(old["failures"], 1, "remembered by the next core: {old}");
    let said = app.klar(&["status"]);
    assert!(said.contains(&format!("the certificate of {NAME} ends in 10 days")), "{said}");
    assert!(said.contains(&format!("the certificate of {NAME} could not be renewed: ")), "{said}");

    let pebble = pebble.look_at(http, app.https);
    app.klar(&["deploy"]);
    app.until("the new one serves", || issuer(&app).contains("Pebble").then_some(()));
    let new = certificate(&app);
    assert!(new["alarm"].is_null() && new["last_error"].is_null(), "{new}");
    drop(pebble);
}

/// 14 days before the end there is an alarm, and not a day before that: what klar is to be asked about is all that
/// stands in `status`.
#[test]
fn the_alarm_begins_fourteen_days_before_the_end() {
    let host = Host::new();
    let pebble = Pebble::prepare();
    let app = app(&host, free_port(), &pebble);
    app.klar(&["up"]);
    app.until("a failure", || certificate(&app)["last_error"].is_string().then_some(()));
    for (days, alarm) in
        [(14, Value::Null), (13, "soon".into()), (6, "urgent".into()), (1, "critical".into())]
    {
        ends_in(&host, days);
        kill_core(&app);
        let seen = app.until("this certificate", || {
            let seen = certificate(&app);
            (seen["days_left"] == days).then_some(seen)
        });
        assert_eq!(seen["alarm"], alarm, "{days} days: {seen}");
        let problems = app.status()["problems"].to_string();
        let is_said = problems.contains(&format!("the certificate of {NAME} ends in "));
        assert_eq!(is_said, !alarm.is_null(), "{days} days: {problems}");
    }
}

/// What an authority asks for holds over deploys and over the death of the core; the site is there meanwhile.
#[test]
fn an_authority_that_wants_to_be_left_alone_is_left_alone() {
    let host = Host::new();
    let root = folder("acme-limited");
    let orders = Arc::new(AtomicU32::new(0));
    let counted = orders.clone();
    let limited = r#"{"type":"urn:ietf:params:acme:error:rateLimited","detail":"too many certificates"}"#;
    let port = small_authority(&root, move |path, base| match path {
        "/dir" => directory(base),
        "/nonce" => http("200 OK", "", ""),
        "/order" => {
            counted.fetch_add(1, Ordering::SeqCst);
            http("429 Too Many Requests", "retry-after: 7200\r\n", limited)
        }
        _ => account_made(base),
    });
    // A klar that was started by root reads it as a user of its own.
    let vouches = host.folder.join("root.pem");
    std::fs::copy(root.join("authority.pem"), &vouches).unwrap();
    std::fs::set_permissions(&vouches, std::fs::Permissions::from_mode(0o644)).unwrap();
    let app = app_of(&host, free_port(), &format!("https://localhost:{port}/dir"), &vouches);
    app.klar(&["up"]);
    let told = app.until("a refusal", || {
        let certificate = certificate(&app);
        certificate["last_error"].is_string().then_some(certificate)
    });
    assert!(told["last_error"].as_str().unwrap().contains("too many certificates"), "{told}");
    assert!(issuer(&app).contains("klar local authority"));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
    let next = told["next_try_unix_ms"].as_u64().unwrap();
    assert!(next > now + 6_000_000 && next <= now + 7_200_000, "in two hours: {told}");
    for (what, disturb) in [
        ("a deploy", &(|| drop(app.klar(&["deploy"]))) as &dyn Fn()),
        ("the death of the core", &|| kill_core(&app)),
        ("a deploy after it", &|| drop(app.klar(&["deploy"]))),
    ] {
        disturb();
        let after = certificate(&app);
        assert_eq!((&after["next_try_unix_ms"], &after["failures"]), (&next.into(), &1.into()), "{what}");
        assert_eq!(orders.load(Ordering::SeqCst), 1, "{what}");
    }
    std::fs::remove_dir_all(root).unwrap();
}

/// A clock that was far ahead has noted failures of a time to come, and one that jumps ahead finds its certificate
/// ended: both cost one request more, and never the certificate.
#[test]
fn a_clock_that_jumps_keeps_nobody_from_asking() {
    let host = Host::new();
    let http = free_port();
    let pebble = Pebble::prepare();
    let app = app(&host, http, &pebble);
    app.klar(&["up"]);
    app.until("a failure", || certificate(&app)["last_error"].is_string().then_some(()));
    // Forwards: all that there is seems to have ended.
    ends_in(&host, -10);
    kill_core(&app);
    let ended = app.until("the one that has ended", || {
        let seen = certificate(&app);
        (seen["alarm"] == "expired").then_some(seen)
    });
    assert_eq!(ended["source"], "acme");
    app.until("it serves: the clocks of visitors may be right", || {
        issuer(&app).contains("the old one").then_some(())
    });
    // Backwards: what is noted lies ahead.
    let later = (SystemTime::now() + 4000 * DAY).duration_since(UNIX_EPOCH).unwrap().as_secs();
    let failures = serde_json::json!({ "count": 5, "last": later, "told": later + 3600 });
    let record = serde_json::json!({ "failures": failures, "window_due": later });
    put(&host, ".json", &record.to_string());
    let pebble = pebble.look_at(http, app.https);
    kill_core(&app);
    app.until("the new one serves", || issuer(&app).contains("Pebble").then_some(()));
    let new = certificate(&app);
    assert!(new["alarm"].is_null() && new["failures"] == 0, "{new}");
    drop(pebble);
}

#[test]
fn a_given_certificate_is_taken_in_by_a_deploy_and_when_its_files_change() {
    let host = Host::new();
    let toml =
        format!("[app]\nname = \"shop\"\ndomains = [\"{NAME}\"]\n[services.web]\nstatic = \"public\"\n",);
    let app = host.app("shop", &[("klar.toml", &toml), ("public/index.html", "hello\n")]);
    std::fs::create_dir_all(&host.state).unwrap();
    std::fs::write(host.state.join("ports.json"), format!("[{}, {}]", app.https, free_port())).unwrap();
    let (chain, key) = (host.folder.join("given.pem"), host.folder.join("given.key"));
    let make = |issuer: &str| {
        let made = Command::new("openssl")
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-days",
                "90",
            ])
            .args(["-subj", &format!("/CN={issuer}"), "-addext", &format!("subjectAltName=DNS:{NAME}")])
            .arg("-keyout")
            .arg(&key)
            .arg("-out")
            .arg(&chain)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        // As root the core is another user, who has to be let in.
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    };
    make("first");
    app.append(&format!("certificate = \"{}\"\nkey = \"{}\"\n", chain.display(), key.display()));
    app.klar(&["up"]);
    assert!(issuer(&app).contains("first"));
    assert_eq!(certificate(&app)["source"], "given");

    make("second");
    app.klar(&["deploy"]);
    assert!(issuer(&app).contains("second"), "{}", issuer(&app));

    std::fs::write(&chain, "nothing").unwrap();
    let said = app.fails(&["deploy"]);
    assert!(said.contains("there is no certificate in it"), "{said}");
    assert!(issuer(&app).contains("second"));

    let problems = || app.status()["problems"].to_string();
    app.until("klar sees the same", || problems().contains("there is no certificate in it").then_some(()));
    assert!(issuer(&app).contains("second"));
    make("third");
    app.until("the third one serves", || issuer(&app).contains("third").then_some(()));
    assert!(!problems().contains("edge.certificate"), "{}", problems());

    // A core that starts anew looks at what changed while it was away.
    let core = app.json(&["status"])["core_pid"].as_i64().unwrap();
    make("fourth");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(core as i32), nix::sys::signal::SIGKILL).unwrap();
    app.until("the fourth one serves", || issuer(&app).contains("fourth").then_some(()));

    // The key of another one.
    let own = std::fs::read(&key).unwrap();
    make("fifth");
    std::fs::write(&key, own).unwrap();
    app.until("the mismatch is seen", || {
        problems().contains("the key is not that of the certificate").then_some(())
    });
    assert!(issuer(&app).contains("fourth"));
}
