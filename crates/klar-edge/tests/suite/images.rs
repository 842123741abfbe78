//! What visitors get of images: with a process that converts them played by the test, which does not look into them.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::common::{Answer, App, Edge, Folder, Gate, HOST, reply, route};
use klar_base::images::{self, Format, ImageRules, Outcome};
use klar_base::signal::ImageOutcome;
use klar_base::upstreams::{Purge, Route, Target, ToEdge};
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

const BROWSER: &str = "accept: image/avif,image/webp,*/*;q=0.8\r\n";
const RULES: [u32; 3] = [320, 640, 1280];

/// What the played process does with an order.
#[derive(Clone)]
enum Does {
    /// Makes an image whose bytes say what was ordered.
    Makes,
    /// Says that the original is best.
    Leaves,
    /// Dies.
    Dies,
    /// Says these bytes.
    Says(Vec<u8>),
    /// Waits at a gate, then makes it.
    Waits(Gate),
}

/// The process that converts images, played.
#[derive(Clone)]
struct Maker {
    does: Arc<Mutex<Does>>,
    orders: Arc<AtomicUsize>,
    formats: u8,
}

impl Maker {
    fn new(does: Does) -> Self {
        let formats = Format::Jpeg.bit() | Format::Png.bit() | Format::Webp.bit();
        Self { does: Arc::new(Mutex::new(does)), orders: Arc::default(), formats }
    }

    fn does(&self, does: Does) {
        *self.does.lock().unwrap() = does;
    }

    fn orders(&self) -> usize {
        self.orders.load(Ordering::SeqCst)
    }

    fn serve(&self, edge: &Edge) {
        let maker = self.clone();
        *edge.core().images.lock().unwrap() = Some(Box::new(move || {
            let (here, there) = UnixStream::pair().unwrap();
            let maker = maker.clone();
            std::thread::spawn(move || maker.run(here));
            Some(OwnedFd::from(there))
        }));
    }

    fn run(&self, mut stream: UnixStream) {
        use std::io::Write;
        images::greet(&mut stream, self.formats).unwrap();
        // The edge may be gone at any time.
        while let Ok(Some(ordered)) = images::take_order(&mut stream) {
            self.orders.fetch_add(1, Ordering::SeqCst);
            let order = ordered.order();
            let does = self.does.lock().unwrap().clone();
            if let Does::Waits(gate) = &does {
                gate.pass();
            }
            let outcome = match does {
                Does::Dies => return,
                Does::Leaves => Outcome::Left("it is played".into()),
                Does::Says(bytes) => {
                    let _ = stream.write_all(&bytes);
                    continue;
                }
                Does::Makes | Does::Waits(_) => {
                    let bytes = format!("{:?} {:?} of {}", order.wanted, order.width, order.bytes.len());
                    Outcome::Made { format: order.wanted, bytes: bytes.into() }
                }
            };
            if images::send_outcome(&mut stream, &outcome).is_err() {
                return;
            }
        }
    }
}

fn folder() -> (Folder, OwnedFd) {
    let folder = Folder::new();
    for (name, length) in [
        ("photo.jpg", 1000),
        ("drawing.png", 500),
        ("old.gif", 400),
        ("new.webp", 300),
        ("hashed-3fa9c1d2.jpg", 600),
        ("drawing.svg", 200),
        ("text.txt", 100),
        ("large.jpg", 300_000),
        ("huge.jpg", images::SOURCE_MAX + 1),
    ] {
        fs::write(folder.path(name), vec![b'a'; length]).unwrap();
    }
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let held = open(&folder.path(""), flags, Mode::empty()).unwrap();
    (folder, held)
}

/// An edge that serves a folder, and converts its images with `maker`.
fn edge(maker: &Maker) -> (Edge, Folder) {
    let (folder, held) = folder();
    let edge = Edge::with(&[], |edge| {
        edge.folders = vec![held];
        let release = "0123456789ab".parse().unwrap();
        let target = Target::Static { folder: 0, prepared: None, release, spa: false };
        let rules = ImageRules { widths: RULES.to_vec() };
        edge.site().routes = vec![Route { target, images: Some(rules), ..route("/*") }];
    });
    maker.serve(&edge);
    (edge, folder)
}

fn ask(edge: &Edge, method: &str, path: &str, headers: &str) -> Answer {
    edge.ask(&format!("{method} {path} HTTP/1.1\r\nhost: {HOST}\r\n{headers}\r\n"))
}

fn get(edge: &Edge, path: &str, headers: &str) -> Answer {
    ask(edge, "GET", path, headers)
}

/// Each line: path, `Accept`, what comes: type, and the first words of it or its length.
#[test]
fn what_is_asked_for_is_what_comes() {
    let maker = Maker::new(Does::Makes);
    let (edge, _folder) = edge(&maker);
    for (path, accept, kind, body) in [
        ("/photo.jpg", BROWSER, "image/webp", "Webp None of 1000"),
        ("/photo.jpg?w=640", BROWSER, "image/webp", "Webp Some(640) of 1000"),
        ("/photo.jpg?w=321", BROWSER, "image/webp", "Webp Some(640) of 1000"),
        ("/photo.jpg?w=9999", BROWSER, "image/webp", "Webp None of 1000"),
        ("/photo.jpg?w=300", "", "image/jpeg", "Jpeg Some(320) of 1000"),
        ("/photo.jpg?w=300", "accept: */*\r\n", "image/jpeg", "Jpeg Some(320) of 1000"),
        ("/photo.jpg?w=300", "accept: image/webp;q=0, */*\r\n", "image/jpeg", "Jpeg Some(320) of 1000"),
        ("/photo.jpg", "", "image/jpeg", "1000"),
        ("/drawing.png", BROWSER, "image/webp", "Webp None of 500"),
        ("/drawing.png?w=100", "", "image/png", "Png Some(320) of 500"),
        ("/old.gif?w=100", "", "image/gif", "400"),
        ("/old.gif?w=100", BROWSER, "image/webp", "Webp Some(320) of 400"),
        ("/new.webp", BROWSER, "image/webp", "300"),
        ("/new.webp?w=100", BROWSER, "image/webp", "Webp Some(320) of 300"),
        ("/large.jpg?w=100", "", "image/jpeg", "Jpeg Some(320) of 300000"),
        ("/huge.jpg?w=100", "", "image/jpeg", "20971521"),
        ("/drawing.svg", BROWSER, "image/svg+xml", "200"),
        ("/text.txt", BROWSER, "text/plain; charset=utf-8", "100"),
    ] {
        let answer = get(&edge, path, accept);
        let got = if answer.text().starts_with('a') { answer.body.len().to_string() } else { answer.text() };
        assert_eq!(
            (answer.status, answer.header("content-type"), &*got),
            (200, Some(kind), body),
            "{path} {accept}"
        );
        let varies = answer.header("vary").is_some_and(|vary| vary.contains("accept"));
        assert_eq!(varies, kind.starts_with("image/"), "{path}: {:?}", answer.headers);
    }
    assert_eq!(get(&edge, "/none.jpg?w=300", BROWSER).status, 404);
    assert_eq!(ask(&edge, "POST", "/photo.jpg?w=300", "content-length: 0\r\n").status, 405);
}

#[test]
fn what_was_made_is_kept_and_recorded() {
    let maker = Maker::new(Does::Makes);
    let (edge, _folder) = edge(&maker);
    let mut outcomes = Vec::new();
    for path in ["/photo.jpg?w=600", "/photo.jpg?w=640", "/photo.jpg?w=500&v=2", "/photo.jpg"] {
        outcomes.push(edge.record(&get(&edge, path, BROWSER)).image);
    }
    use ImageOutcome::{Kept, Made};
    assert_eq!(outcomes, [Some(Made), Some(Kept), Some(Kept), Some(Made)]);
    assert_eq!(maker.orders(), 2, "each once");
    assert_eq!(edge.record(&get(&edge, "/text.txt", "")).image, None);

    edge.core().send(
        &ToEdge::Purge {
            number: 1,
            app: "shop.prod".parse().unwrap(),
            what: Purge::Url("/photo.jpg".into()),
        },
        &[],
    );
    let dropped = edge.core().wait("the purge", |heard| heard.purged.first().copied());
    assert_eq!(dropped, (1, 2), "what was made goes with the name of its source");
    assert_eq!(edge.record(&get(&edge, "/photo.jpg", BROWSER)).image, Some(Made));
}

#[test]
fn tags_heads_and_ranges_are_of_what_is_sent() {
    let maker = Maker::new(Does::Makes);
    let (edge, _folder) = edge(&maker);
    let original = get(&edge, "/photo.jpg", "");
    let whole = get(&edge, "/photo.jpg", BROWSER);
    let small = get(&edge, "/photo.jpg?w=10", BROWSER);
    let tag = |answer: &Answer| answer.header("etag").unwrap().to_owned();
    assert!(tag(&original) != tag(&whole) && tag(&whole) != tag(&small), "{original:?} {whole:?}");

    let with = |headers: &str| get(&edge, "/photo.jpg", &format!("{BROWSER}{headers}\r\n"));
    let same = with(&format!("if-none-match: {}", tag(&whole)));
    assert_eq!((same.status, same.body.len(), tag(&same)), (304, 0, tag(&whole)));
    assert!(same.header("vary").is_some());
    assert_eq!(with(&format!("if-none-match: {}", tag(&original))).body, whole.body, "it has another one");

    let head = ask(&edge, "HEAD", "/photo.jpg", BROWSER);
    let length = whole.body.len().to_string();
    assert_eq!((head.status, head.header("content-length"), head.body.len()), (200, Some(&*length), 0));
    assert_eq!(head.header("content-type"), Some("image/webp"));

    let part = with("range: bytes=0-3");
    assert_eq!((part.status, part.text()), (206, "Webp".to_owned()));
    assert_eq!(part.header("content-range"), Some(&*format!("bytes 0-3/{length}")));
    assert_eq!(
        with(&format!("range: bytes=0-3\r\nif-range: {}", tag(&original))).status,
        200,
        "of another one"
    );
    let none = with("range: bytes=5000-");
    assert_eq!((none.status, none.header("content-range")), (416, Some(&*format!("bytes */{length}"))));
    let hashed = get(&edge, "/hashed-3fa9c1d2.jpg", BROWSER);
    assert_eq!(hashed.header("cache-control"), Some("public, max-age=31536000, immutable"));
}

/// Whatever the process does, the original comes, and the edge goes on.
#[test]
fn whatever_goes_wrong_the_original_comes() {
    let frame = |body: &[u8]| [&u32::try_from(body.len()).unwrap().to_be_bytes()[..], body].concat();
    for (what, does) in [
        ("it leaves it", Does::Leaves),
        ("it dies", Does::Dies),
        ("it says that it makes 4 GiB", Does::Says(vec![0xff; 9])),
        ("it makes no sense", Does::Says(frame(b"\x07nonsense"))),
        ("it makes nothing", Does::Says(frame(b""))),
        ("it makes something else", Does::Says(frame(b"\x00\x02PNG"))),
        ("it makes an unknown format", Does::Says(frame(b"\x00\x2aPNG"))),
    ] {
        let maker = Maker::new(does);
        let (edge, _folder) = edge(&maker);
        let answer = get(&edge, "/photo.jpg?w=300", BROWSER);
        assert_eq!((answer.status, answer.body.len()), (200, 1000), "{what}");
        assert_eq!(answer.header("content-type"), Some("image/jpeg"), "{what}");
        let outcome = if what == "it leaves it" { ImageOutcome::Original } else { ImageOutcome::Later };
        assert_eq!(edge.record(&answer).image, Some(outcome), "{what}");
        assert_eq!(get(&edge, "/text.txt", "").status, 200, "{what}: all else goes on");
    }
}

#[test]
fn without_any_process_the_original_comes() {
    let (edge, _folder) = edge(&Maker::new(Does::Makes));
    *edge.core().images.lock().unwrap() = Some(Box::new(|| None));
    assert_eq!(get(&edge, "/photo.jpg", BROWSER).body.len(), 1000);
    let wanted = |edge: &Edge| edge.core().wait("a question", |heard| Some(heard.wants_images));
    assert_eq!(wanted(&edge), 1);
    assert_eq!(get(&edge, "/photo.jpg", BROWSER).body.len(), 1000);
    assert_eq!(wanted(&edge), 1, "it is not asked for again at once");
}

#[test]
fn a_process_that_died_is_replaced() {
    let maker = Maker::new(Does::Dies);
    let (edge, _folder) = edge(&maker);
    assert_eq!(get(&edge, "/photo.jpg", BROWSER).body.len(), 1000);
    maker.does(Does::Makes);
    let end = std::time::Instant::now() + crate::common::PATIENCE;
    while get(&edge, "/photo.jpg", BROWSER).body.len() == 1000 {
        assert!(std::time::Instant::now() < end, "waited in vain for another process");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert_eq!(edge.core().wait("questions", |heard| Some(heard.wants_images)), 2);
}

/// What cannot be converted is tried once.
#[test]
fn what_is_left_is_remembered() {
    let maker = Maker::new(Does::Leaves);
    let (edge, _folder) = edge(&maker);
    for _ in 0..3 {
        // WebP, and then its own format in that width.
        assert_eq!(get(&edge, "/photo.jpg?w=300", BROWSER).body.len(), 1000);
    }
    assert_eq!(maker.orders(), 2);
}

/// One who waits for the same waits for one order. Nobody waits for ever, and what comes later is there for the next.
#[test]
fn slow_images_come_later() {
    let gate = Gate::default();
    let maker = Maker::new(Does::Waits(gate.clone()));
    let (edge, _folder) = edge(&maker);
    let edge = &edge;
    std::thread::scope(|scope| {
        let visitors: Vec<_> =
            (0..8).map(|_| scope.spawn(move || get(edge, "/hashed-3fa9c1d2.jpg", BROWSER))).collect();
        for visitor in visitors {
            let answer = visitor.join().unwrap();
            assert_eq!((answer.status, answer.body.len()), (200, 600));
            assert_eq!(answer.header("cache-control"), Some("no-cache"), "the next time it may be better");
            assert_eq!(edge.record(&answer).image, Some(ImageOutcome::Later));
        }
    });
    assert_eq!(maker.orders(), 1, "one for all");
    gate.open();
    let end = std::time::Instant::now() + crate::common::PATIENCE;
    while get(edge, "/hashed-3fa9c1d2.jpg", BROWSER).text() != "Webp None of 600" {
        assert!(std::time::Instant::now() < end, "waited in vain for the image");
    }
    assert_eq!(maker.orders(), 1);
}

/// More than a few orders are not taken: who comes then gets the original at once, and not after a while.
#[test]
fn orders_have_a_limit() {
    let gate = Gate::default();
    let maker = Maker::new(Does::Waits(gate.clone()));
    let (folder, held) = folder();
    let many = 80;
    for number in 0..many {
        fs::write(folder.path(&format!("{number}.jpg")), vec![b'a'; 700 + number]).unwrap();
    }
    let edge = Edge::with(&[], |edge| {
        edge.folders = vec![held];
        let release = "0123456789ab".parse().unwrap();
        let target = Target::Static { folder: 0, prepared: None, release, spa: false };
        let rules = ImageRules { widths: RULES.to_vec() };
        edge.site().routes = vec![Route { target, images: Some(rules), ..route("/*") }];
    });
    maker.serve(&edge);
    let edge = &edge;
    std::thread::scope(|scope| {
        let visitors: Vec<_> = (0..many)
            .map(|number| (number, scope.spawn(move || get(edge, &format!("/{number}.jpg"), BROWSER))))
            .collect();
        for (number, visitor) in visitors {
            assert_eq!(visitor.join().unwrap().body.len(), 700 + number);
        }
    });
    gate.open();
    let end = std::time::Instant::now() + crate::common::PATIENCE;
    let done =
        || (0..many).filter(|number| get(edge, &format!("/{number}.jpg"), BROWSER).body.len() < 100).count();
    while done() < many {
        assert!(std::time::Instant::now() < end, "waited in vain for the images");
    }
    assert!(maker.orders() >= many);
}

/// Images of an app: once the cache has them for everybody, and nothing else.
#[test]
fn images_of_an_app() {
    let maker = Maker::new(Does::Makes);
    let app = App::start(|got, stream| {
        let body = "a".repeat(1000);
        let headers = match got.line.split('?').next() {
            Some("GET /uploads/1") => {
                "content-type: image/jpeg\r\ncache-control: public, max-age=600\r\netag: \"1\"\r\n"
            }
            Some("GET /own") => "content-type: image/jpeg\r\ncache-control: private, max-age=600\r\n",
            Some("GET /fixed") => {
                "content-type: image/jpeg\r\ncache-control: public, max-age=600, no-transform\r\n"
            }
            Some("GET /film") => "content-type: video/mp4\r\ncache-control: public, max-age=600\r\n",
            _ => "content-type: image/jpeg\r\n",
        };
        reply(stream, "200 OK", headers, &body)
    });
    let edge = Edge::with(&[&app], |edge| {
        let rules = ImageRules { widths: RULES.to_vec() };
        edge.site().routes = vec![Route { images: Some(rules), ..route("/*") }];
    });
    maker.serve(&edge);
    let kinds = |path: &str, headers: &str| -> Vec<(u16, String, usize)> {
        let kind = |answer: Answer| {
            (answer.status, answer.header("content-type").unwrap_or_default().to_owned(), answer.body.len())
        };
        (0..2).map(|_| kind(get(&edge, path, headers))).collect()
    };
    let original = (200, "image/jpeg".to_owned(), 1000);
    let made = (200, "image/webp".to_owned(), "Webp None of 1000".len());
    assert_eq!(kinds("/uploads/1", BROWSER), [original.clone(), made]);
    let small = (200, "image/webp".to_owned(), "Webp Some(320) of 1000".len());
    assert_eq!(kinds("/uploads/1?w=300", BROWSER), [original.clone(), small]);
    for path in ["/own", "/fixed", "/unsaid"] {
        assert_eq!(kinds(path, BROWSER), [original.clone(), original.clone()], "{path}");
    }
    assert_eq!(kinds("/film", BROWSER)[1].1, "video/mp4");
    assert_eq!(
        kinds("/film", "range: bytes=0-3\r\n")[1],
        (206, "video/mp4".into(), 4),
        "parts of other things"
    );
    assert_eq!(kinds("/uploads/1", "accept: */*\r\n")[1], original, "who takes no WebP");

    let answer = get(&edge, "/uploads/1", BROWSER);
    assert_eq!(answer.header("cache-control"), Some("public, max-age=600"), "as the app says");
    assert!(answer.header("etag").is_some_and(|tag| tag != "\"1\""));
    assert!(answer.header("vary").is_some() && answer.header("age").is_some());
    let part = get(&edge, "/uploads/1", &format!("{BROWSER}range: bytes=0-3\r\n"));
    assert_eq!((part.status, part.text()), (206, "Webp".to_owned()), "of what is sent, not of the original");
}

/// A route that says nothing of images is as before.
#[test]
fn other_routes_are_as_before() {
    let maker = Maker::new(Does::Makes);
    let (mut edge, _folder) = edge(&maker);
    edge.site().routes[0].images = None;
    edge.apply();
    let answer = get(&edge, "/photo.jpg?w=300", BROWSER);
    assert_eq!((answer.body.len(), answer.header("vary")), (1000, None));
    assert_eq!((edge.record(&answer).image, maker.orders()), (None, 0));
}
