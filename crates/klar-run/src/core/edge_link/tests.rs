//! What a core does with the edges that it finds, whenever the one before it was killed.

use std::net::TcpListener;
use std::sync::Mutex;

use klar_base::look::Counts;

use super::*;

/// Plays an edge: greets whoever connects, and writes down the kinds of messages that come.
struct Played {
    heard: Arc<Mutex<Vec<&'static str>>>,
    pid: u32,
}

impl Played {
    fn at(path: &Path, pid: u32, generation: u64, draining: bool, protocol: u32) -> Self {
        let control = UnixListener::bind(path).unwrap();
        let heard = Arc::<Mutex<Vec<&'static str>>>::default();
        let said = heard.clone();
        std::thread::spawn(move || {
            let (stream, _) = control.accept().unwrap();
            let socket = TcpListener::bind("127.0.0.1:0").unwrap();
            let listener = ListenerSpec { address: socket.local_addr().unwrap(), tls: true, worker: 0 };
            let listeners = if generation > 0 { vec![listener] } else { vec![] };
            let sockets = if generation > 0 { vec![socket] } else { vec![] };
            let hello = FromEdge::Hello {
                pid,
                version: "0.0.1".into(),
                generation,
                listeners,
                sandbox: vec![],
                protocol,
                program: "another".into(),
                draining,
                // As those of number 1 do.
                answers: protocol > 1,
                replays: false,
                tries: false,
                datagrams: (protocol == PROTOCOL).then_some(0),
            };
            wire::send(&stream, &hello, &wire::borrow(&sockets)).unwrap();
            while let Ok(Some((message, _))) = wire::receive::<ToEdge>(&stream) {
                said.lock().unwrap().push(match message {
                    ToEdge::Listen { .. } => "listen",
                    ToEdge::Config(_) => "config",
                    ToEdge::Datagrams(_) => "datagrams",
                    ToEdge::Drain { .. } => "drain",
                    ToEdge::Stop { .. } => "stop",
                    ToEdge::Ask { number, .. } => {
                        let counts = Counts { pid, ..Counts::default() };
                        let told = Told::Counts(Box::new(counts));
                        wire::send(&stream, &FromEdge::Answered { number, told }, &[]).unwrap();
                        "ask"
                    }
                    _ => "something else",
                });
            }
        });
        Self { heard, pid }
    }

    /// What it has heard, once the last of it is `last`.
    fn heard_until(&self, last: &str) -> Vec<&'static str> {
        let begun = Instant::now();
        loop {
            let heard = self.heard.lock().unwrap().clone();
            if heard.last() == Some(&last) {
                return heard;
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "waited in vain for {last}: {heard:?}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

struct World {
    layout: Layout,
    link: EdgeLink,
    // What the link has at its other ends.
    _spawner: UnixStream,
    _messages: mpsc::UnboundedReceiver<(u64, Option<FromEdge>)>,
}

impl World {
    fn new(name: &str) -> Self {
        let root = std::env::temp_dir().join(format!("klar-link-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&root);
        std::fs::create_dir_all(root.join("run")).unwrap();
        let layout = Layout::new(root);
        let (here, there) = UnixStream::pair().unwrap();
        let spawner = Spawner::There(Arc::new(Mutex::new(here)));
        let (sender, receiver) = mpsc::unbounded_channel();
        let link = EdgeLink::new(layout.clone(), spawner, sender);
        Self { layout, link, _spawner: there, _messages: receiver }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.layout.run().join(name)
    }

    fn sockets(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.layout.run()).unwrap().flatten();
        let mut names: Vec<String> =
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(self.layout.root());
    }
}

fn config() -> EdgeConfig {
    EdgeConfig {
        generation: 9,
        https_port: 443,
        certificates: vec![],
        sites: vec![],
        challenges: vec![],
        connections_max: 10,
        cache_bytes: 0,
        cache_disk_bytes: 0,
        proxy_protocol: vec![],
        check_key: None,
    }
}

/// Each line: the sockets that the core before has left, with the generation of the edge there and whether it
/// drains; which of them serves in the end; and the sockets that are there then. All others are told to drain.
#[test]
fn a_core_that_was_killed_in_a_takeover_leaves_no_riddle() {
    const OLD: u32 = 100;
    const NEW: u32 = 200;
    type Left = (&'static str, u32, u64, bool);
    type Row<'a> = (&'a str, &'a [Left], Option<u32>, &'a [&'a str]);
    let (serving, next, aside) = ("edge.sock", "edge.next.sock", "edge.100.sock");
    let table: [Row<'_>; 7] = [
        ("nothing was going on", &[(serving, OLD, 5, false)], Some(OLD), &[serving]),
        (
            "the new one knows nothing yet",
            &[(serving, OLD, 5, false), (next, NEW, 0, false)],
            Some(OLD),
            &["edge.200.sock", serving],
        ),
        (
            "the new one serves, too",
            &[(serving, OLD, 5, false), (next, NEW, 5, false)],
            Some(OLD),
            &["edge.200.sock", serving],
        ),
        (
            "the old one has made room",
            &[(next, NEW, 5, false), (aside, OLD, 5, false)],
            Some(NEW),
            &["edge.100.sock", serving],
        ),
        (
            "the old one was not told",
            &[(serving, NEW, 5, false), (aside, OLD, 5, false)],
            Some(NEW),
            &["edge.100.sock", serving],
        ),
        (
            "all was done",
            &[(serving, NEW, 5, false), (aside, OLD, 5, true)],
            Some(NEW),
            &["edge.100.sock", serving],
        ),
        ("the new one is gone again", &[(aside, OLD, 5, true)], None, &["edge.100.sock"]),
    ];
    for (what, left, wanted, sockets) in table {
        let mut world = World::new("found");
        // One that nobody listens at any more.
        drop(UnixListener::bind(world.path("edge.99.sock")).unwrap());
        let edges: Vec<Played> = left
            .iter()
            .map(|(name, pid, generation, draining)| {
                Played::at(&world.path(name), *pid, *generation, *draining, PROTOCOL)
            })
            .collect();
        assert_eq!(world.link.adopt().unwrap(), wanted.is_some(), "{what}");
        assert_eq!(world.link.watch().borrow().pid, wanted, "{what}");
        assert_eq!(world.sockets(), sockets, "{what}");
        world.link.publish(config(), &[]).unwrap();
        for edge in &edges {
            let heard = edge.heard_until("config");
            let expected: &[&str] =
                if Some(edge.pid) == wanted { &["listen", "config"] } else { &["drain", "config"] };
            assert_eq!(heard, expected, "{what}: {}", edge.pid);
        }
        assert!(!world.link.adopt().unwrap() || wanted.is_some(), "{what}: looking again changes nothing");
        assert_eq!(world.sockets(), sockets, "{what}");
    }
}

/// An edge that speaks another version is not configured: it serves on as it is, until it can be replaced.
#[test]
fn an_edge_of_another_version_is_left_alone() {
    for protocol in [1, PROTOCOL + 1] {
        let mut world = World::new("version");
        let edge = Played::at(&world.path("edge.sock"), 100, 5, false, protocol);
        assert!(world.link.adopt().unwrap());
        assert!(world.link.is_outdated(), "protocol {protocol}");
        world.link.publish(config(), &[]).unwrap();
        // What it hears next is all that comes: the configuration before it was not sent.
        world.link.stop(Duration::ZERO);
        assert_eq!(edge.heard_until("stop"), ["listen", "stop"], "protocol {protocol}");
    }
}

/// In the middle of a takeover there are two edges, and whoever asks hears of the one that serves.
#[test]
fn questions_go_to_the_edge_that_serves() {
    let mut world = World::new("ask");
    assert_eq!(world.link.ask(Question::Counts, &[]).unwrap_err().kind(), io::ErrorKind::NotConnected);
    let one = Played::at(&world.path("edge.sock"), 100, 5, false, PROTOCOL);
    let other = Played::at(&world.path("edge.next.sock"), 200, 5, false, PROTOCOL);
    assert!(world.link.adopt().unwrap());
    for _ in 0..3 {
        match world.link.ask(Question::Counts, &[]).unwrap().blocking_recv().unwrap() {
            Told::Counts(counts) => assert_eq!(counts.pid, one.pid),
            other => panic!("{other:?} for counts"),
        }
    }
    assert_eq!(other.heard_until("drain"), ["drain"]);

    let mut world = World::new("ask-old");
    let _old = Played::at(&world.path("edge.sock"), 100, 5, false, 1);
    assert!(world.link.adopt().unwrap());
    assert_eq!(world.link.ask(Question::Counts, &[]).unwrap_err().kind(), io::ErrorKind::Unsupported);
}

/// An edge of an older klar would take the sockets of HTTP/3 for something else.
#[test]
fn sockets_for_datagrams_go_to_who_knows_them() {
    let wanted: [(u32, &[&str]); 2] =
        [(1, &["listen", "listen", "stop"]), (PROTOCOL, &["listen", "datagrams", "listen", "stop"])];
    for (protocol, wanted) in wanted {
        let mut world = World::new("datagrams");
        let edge = Played::at(&world.path("edge.sock"), 100, 5, false, protocol);
        assert!(world.link.adopt().unwrap());
        let stranger = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = stranger.local_addr().unwrap();
        let taken = world.link.listen_for_datagrams(address).unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse, "protocol {protocol}");
        drop(stranger);
        world.link.listen_for_datagrams(address).unwrap();
        world.link.listen_for_datagrams(address).unwrap();
        assert_eq!(world.link.listens().last(), Some(&format!("http3 {address}")));
        world.link.stop(Duration::ZERO);
        assert_eq!(edge.heard_until("stop"), wanted, "protocol {protocol}");
    }
}
