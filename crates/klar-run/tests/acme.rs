//! Certificates from a real authority, and what happens when it, or klar, fails in the middle.
#![allow(clippy::unwrap_used)] // a test that cannot go on should stop where it is

mod pebble;

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use klar_base::upstreams::Challenge;
use klar_run::acme::order::{Point, Stage, Way, obtain, window};
use klar_run::acme::shelf::{Kept, Shelf};
use klar_run::acme::trouble::{Kind, Trouble};
use klar_run::acme::{Authority, account};
use pebble::small::{account_made, directory, http, small_authority};
use pebble::{Pebble, folder, free_port};

const NAME: &str = "shop.klar.example";
const WAYS: [Way; 2] = [Way::Http, Way::Tls];
/// Set in a process that dies at a point: the point, the folder, the directory, the port.
const DIES: &str = "KLAR_TEST_DIES";

/// A small edge: it answers HTTP-01 and nothing else.
struct Shows {
    texts: Arc<Mutex<HashMap<String, String>>>,
    dies: Option<String>,
}

impl Shows {
    fn at(port: u16) -> Self {
        let texts: Arc<Mutex<HashMap<String, String>>> = Arc::default();
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let shown = texts.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
                let asked = lines.next().unwrap_or_default();
                lines.find(String::is_empty);
                let path = asked.split(' ').nth(1).unwrap_or_default();
                let text = shown.lock().unwrap().get(path).cloned();
                let (status, body) = text.map_or(("404 Not Found", String::new()), |text| ("200 OK", text));
                let length = body.len();
                let _ = write!(
                    stream,
                    "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
                );
            }
        });
        Self { texts, dies: None }
    }
}

impl Stage for Shows {
    async fn show(&self, _: &str, challenges: Vec<Challenge>) -> Result<(), String> {
        let of = |challenge| match challenge {
            Challenge::Http { token, answer, .. } => {
                Some((format!("/.well-known/acme-challenge/{token}"), answer))
            }
            Challenge::Tls { .. } => None,
        };
        *self.texts.lock().unwrap() = challenges.into_iter().filter_map(of).collect();
        Ok(())
    }

    fn passed(&self, point: Point) {
        if self.dies.as_deref() == Some(&format!("{point:?}")) {
            nix::sys::signal::kill(nix::unistd::Pid::this(), nix::sys::signal::SIGKILL).unwrap();
        }
    }
}

fn authority(directory: String, root: PathBuf) -> Authority {
    Authority { directory, email: Some("ops@shop.klar.example".into()), root: Some(root) }
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn account_of(state: &Path, authority: &Authority) -> (String, String) {
    let folder = account::folder(&Shelf::new(state.into()).accounts(), authority);
    let known: serde_json::Value =
        serde_json::from_slice(&std::fs::read(folder.join("account.json")).unwrap()).unwrap();
    (std::fs::read_to_string(folder.join("account.key")).unwrap(), known["id"].as_str().unwrap().to_owned())
}

#[test]
fn issued_and_renewed_by_one_account_also_when_nonces_are_refused() {
    let (http, tls) = (free_port(), free_port());
    let pebble = Pebble::start(http, tls, &[("PEBBLE_WFE_NONCEREJECT", "30")]);
    let (stage, state) = (Shows::at(http), folder("acme"));
    let (shelf, authority) = (Shelf::new(state.clone()), authority(pebble.directory(), pebble.root()));
    // Three nonces refused in a row are given up on, and tried again later: so does the core.
    let get = |replaces: Option<&Kept>| {
        (0..20)
            .find_map(|_| {
                let facts = replaces.map(|kept| &kept.facts);
                match run(obtain(NAME, &authority, &shelf, WAYS, facts, &stage)) {
                    Ok(kept) => Some(kept),
                    Err(trouble) => {
                        assert_eq!(trouble.kind, Kind::Authority, "{trouble:?}");
                        None
                    }
                }
            })
            .unwrap()
    };
    let first = get(None);
    assert!(first.facts.covers(NAME) && first.facts.issuer.contains("Pebble"), "{:?}", first.facts);
    assert!(stage.texts.lock().unwrap().is_empty(), "nothing is shown any more");
    let known = account_of(&state, &authority);

    let second = get(Some(&first));
    assert_ne!(first.facts.serial, second.facts.serial);
    let kept: Vec<_> = shelf.kept(NAME).into_iter().map(|kept| kept.facts.serial).collect();
    assert_eq!(kept, [second.facts.serial, first.facts.serial], "the one before is kept");
    assert!(shelf.pending(NAME).is_none());
    assert_eq!(account_of(&state, &authority), known);
    std::fs::remove_dir_all(state).unwrap();
}

/// Not a test of its own: what is killed by the test below.
#[test]
fn dies() {
    let Ok(words) = std::env::var(DIES) else { return };
    let [point, state, directory, root, port] = words.split('|').collect::<Vec<_>>()[..] else {
        panic!("{words}")
    };
    let mut stage = Shows::at(port.parse().unwrap());
    stage.dies = Some(point.into());
    let authority = authority(directory.into(), root.into());
    let outcome = run(obtain(NAME, &authority, &Shelf::new(state.into()), WAYS, None, &stage));
    panic!("it was to die at {point}: {outcome:?}");
}

#[test]
fn a_kill_at_any_point_loses_neither_key_nor_account_nor_certificate() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::ExitStatusExt;
    for point in ["KeyKept", "AccountMade", "OrderKept", "Shown", "Told", "Asked", "Kept"] {
        let (http, tls) = (free_port(), free_port());
        let pebble = Pebble::start(http, tls, &[]);
        let state = folder("acme-kill");
        let authority = authority(pebble.directory(), pebble.root());
        let words = [
            point,
            state.to_str().unwrap(),
            &pebble.directory(),
            pebble.root().to_str().unwrap(),
            &http.to_string(),
        ]
        .join("|");
        let killed = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "dies"])
            .env(DIES, words)
            .output()
            .unwrap();
        assert_eq!(killed.status.signal(), Some(9), "{point}: {}", String::from_utf8_lossy(&killed.stdout));

        let shelf = Shelf::new(state.clone());
        let key_file = account::folder(&shelf.accounts(), &authority).join("account.key");
        let key = std::fs::read_to_string(&key_file).unwrap();
        assert_eq!(std::fs::metadata(&key_file).unwrap().permissions().mode() & 0o777, 0o600);
        let begun = shelf.pending(NAME);
        let kept_before = shelf.kept(NAME);

        let kept = run(obtain(NAME, &authority, &shelf, WAYS, None, &Shows::at(http))).unwrap();
        assert!(kept.facts.covers(NAME), "{point}");
        assert_eq!(account_of(&state, &authority).0, key, "{point}: the same key");
        assert_eq!(
            begun.is_some(),
            !["KeyKept", "AccountMade"].contains(&point),
            "{point}: the order is noted"
        );
        // Told to look while nobody answered, the authority may have given that order up.
        if let Some(begun) = begun.filter(|_| point != "Told") {
            assert_eq!(*kept.key_pem.expose(), *begun.key_pem.expose(), "{point}: the same order");
        }
        if let [before] = &kept_before[..] {
            assert_eq!(before.facts, kept.facts, "{point}: nothing was signed twice");
        }
        let log = pebble.log();
        assert_eq!(log.matches("Issued certificate").count(), 1, "{point}: one certificate\n{log}");
        assert_eq!(
            log.matches("There are now 1 accounts in memory").count(),
            1,
            "{point}: one account\n{log}"
        );
        assert!(!log.contains("There are now 2 accounts"), "{point}: one account\n{log}");
        std::fs::remove_dir_all(state).unwrap();
    }
}

#[test]
fn a_name_that_leads_elsewhere_is_said_with_both_ways_and_the_next_try_succeeds() {
    let (http, tls) = (free_port(), free_port());
    let pebble = Pebble::start(http, tls, &[]);
    let state = folder("acme-elsewhere");
    let (shelf, authority) = (Shelf::new(state.clone()), authority(pebble.directory(), pebble.root()));
    // Nobody is at the ports where the authority looks.
    let deaf = Shows::at(free_port());
    let trouble = run(obtain(NAME, &authority, &shelf, WAYS, None, &deaf)).unwrap_err();
    assert_eq!(trouble.kind, Kind::Validation);
    for part in [format!("http://{NAME} (port 80)"), format!("https://{NAME} (port 443)")] {
        assert!(trouble.what.contains(&part), "{trouble:?}");
    }
    assert!(trouble.hint.as_deref().unwrap().contains("DNS"), "{trouble:?}");
    assert!(shelf.pending(NAME).is_none() && shelf.kept(NAME).is_empty());

    run(obtain(NAME, &authority, &shelf, WAYS, None, &Shows::at(http))).unwrap();
    std::fs::remove_dir_all(state).unwrap();
}

#[test]
fn an_authority_that_is_down_leaves_the_old_certificate_and_its_account() {
    let (http, tls) = (free_port(), free_port());
    let mut pebble = Pebble::start(http, tls, &[]);
    let (stage, state) = (Shows::at(http), folder("acme-down"));
    let (shelf, authority) = (Shelf::new(state.clone()), authority(pebble.directory(), pebble.root()));
    let first = run(obtain(NAME, &authority, &shelf, WAYS, None, &stage)).unwrap();
    let key = account_of(&state, &authority).0;

    pebble.stop_server();
    let trouble = run(obtain(NAME, &authority, &shelf, WAYS, Some(&first.facts), &stage)).unwrap_err();
    assert_eq!(trouble.kind, Kind::Authority);
    assert!(trouble.what.contains("no connection to localhost"), "{trouble:?}");
    assert_eq!(shelf.kept(NAME).len(), 1);

    // One that has forgotten everything, as Pebble does: the same key makes the account again.
    pebble.start_server();
    let again = || run(obtain(NAME, &authority, &shelf, WAYS, None, &stage));
    let forgotten = again().unwrap_err();
    assert_eq!(forgotten.kind, Kind::Account, "{forgotten:?}");
    again().unwrap();
    assert_eq!(account_of(&state, &authority).0, key);

    let stranger = Authority { root: None, ..authority };
    let trouble = run(obtain(NAME, &stranger, &shelf, WAYS, None, &stage)).unwrap_err();
    assert!(trouble.what.contains("TLS with localhost"), "{trouble:?}");
    std::fs::remove_dir_all(state).unwrap();
}

fn asked(answer: impl Fn(&str, &str) -> String + Send + 'static) -> Trouble {
    let state = folder("acme-small");
    let port = small_authority(&state, answer);
    let authority = authority(format!("https://localhost:{port}/dir"), state.join("authority.pem"));
    let stage = Shows::at(free_port());
    let trouble = run(obtain(NAME, &authority, &Shelf::new(state.clone()), WAYS, None, &stage)).unwrap_err();
    std::fs::remove_dir_all(state).unwrap();
    trouble
}

#[test]
fn limits_and_repairs_of_an_authority_are_respected() {
    let limited = r#"{"type":"urn:ietf:params:acme:error:rateLimited","detail":"too many certificates"}"#;
    let trouble = asked(move |path, base| match path {
        "/dir" => directory(base),
        "/nonce" => http("200 OK", "", ""),
        "/order" => http("429 Too Many Requests", "retry-after: 7200\r\n", limited),
        _ => account_made(base),
    });
    assert_eq!((trouble.kind, trouble.retry_after), (Kind::RateLimited, Some(Duration::from_secs(7200))));
    assert!(trouble.what.contains("too many certificates"), "{trouble:?}");

    let trouble =
        asked(|_, _| http("503 Service Unavailable", "retry-after: 60\r\n", "<html>repairs</html>"));
    assert_eq!((trouble.kind, trouble.retry_after), (Kind::Authority, Some(Duration::from_secs(60))));
    assert!(trouble.what.ends_with("answered with status 503"), "{trouble:?}");

    let trouble = asked(|_, _| http("200 OK", "", &"x".repeat(2 << 20)));
    assert_eq!(trouble.kind, Kind::Authority, "an answer without end is not read: {trouble:?}");
}

#[test]
fn the_window_of_a_renewal_is_asked_for() {
    let state = folder("acme-window");
    let port = small_authority(&state, |path, base| match path {
        "/dir" => directory(base),
        "/nonce" => http("200 OK", "", ""),
        path if path.starts_with("/info/") => http(
            "200 OK",
            "retry-after: 21600\r\n",
            r#"{"suggestedWindow":{"start":"2027-01-15T08:00:00Z","end":"2027-01-16T08:00:00Z"}}"#,
        ),
        _ => account_made(base),
    });
    let authority = authority(format!("https://localhost:{port}/dir"), state.join("authority.pem"));
    let own = klar_run::certs::Authority::open(&state).unwrap().certificate("localhost").unwrap();
    let facts = klar_run::acme::x509::leaf(&own.chain_pem).unwrap();
    let stage = Shows::at(free_port());
    let said = run(window(&authority, &Shelf::new(state.clone()), &facts, &stage)).unwrap();
    let (said, again) = said.unwrap();
    assert_eq!((said.start, said.end), (1_800_000_000, 1_800_086_400));
    assert!(again <= Duration::from_secs(21_600) && again > Duration::from_secs(21_000), "{again:?}");
    std::fs::remove_dir_all(state).unwrap();
}

/// The key of an account is all that proves that the account is klar's: one that cannot be read is left as it is, and
/// nothing is asked for in its place. Where it is mended, the account goes on.
#[test]
fn a_damaged_key_of_the_account_is_never_replaced() {
    let (http, tls) = (free_port(), free_port());
    let pebble = Pebble::start(http, tls, &[]);
    let (stage, state) = (Shows::at(http), folder("acme-key"));
    let (shelf, authority) = (Shelf::new(state.clone()), authority(pebble.directory(), pebble.root()));
    let first = run(obtain(NAME, &authority, &shelf, WAYS, None, &stage)).unwrap();
    let known = account_of(&state, &authority);
    let key_file = account::folder(&shelf.accounts(), &authority).join("account.key");
    for damaged in ["", "-----BEGIN PRIVATE KEY-----\n", &known.0[..known.0.len() / 2]] {
        std::fs::write(&key_file, damaged).unwrap();
        let trouble = run(obtain(NAME, &authority, &shelf, WAYS, Some(&first.facts), &stage)).unwrap_err();
        assert_eq!(trouble.kind, Kind::Machine, "{trouble:?}");
        assert!(trouble.what.contains("the key of the account"), "{trouble:?}");
        assert_eq!(std::fs::read_to_string(&key_file).unwrap(), damaged, "it stays for somebody to mend");
        assert_eq!(shelf.kept(NAME).len(), 1, "the certificate serves on");
    }
    std::fs::write(&key_file, &known.0).unwrap();
    run(obtain(NAME, &authority, &shelf, WAYS, Some(&first.facts), &stage)).unwrap();
    assert_eq!(account_of(&state, &authority), known);
    assert!(!pebble.log().contains("There are now 2 accounts"), "{}", pebble.log());
    std::fs::remove_dir_all(state).unwrap();
}
