//! The process that converts images, and the way to it: the real program, in its sandbox.

use std::io::Cursor;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::common::Host;
use image::{DynamicImage, ImageFormat};
use klar_base::images::{self, Format, Order, Outcome};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

/// A worker, as the core starts it, with the other end of its socket.
struct Worker {
    process: Child,
    stream: UnixStream,
}

impl Worker {
    fn start(args: &str) -> Self {
        let (stream, there) = UnixStream::pair().unwrap();
        let program = env!("CARGO_BIN_EXE_klar");
        let process = Command::new("sh")
            .args(["-c", &format!("exec {program} images {args} 3<&0 0</dev/null")])
            .stdin(Stdio::from(OwnedFd::from(there)))
            .spawn()
            .unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let mut worker = Self { process, stream };
        let formats = images::hear_greeting(&mut worker.stream).unwrap();
        assert_ne!(formats & Format::Webp.bit(), 0);
        worker
    }

    fn ask(&mut self, source: Format, width: u32, bytes: &[u8]) -> Outcome {
        let order = Order { source, wanted: Format::Webp, width: Some(width), bytes };
        images::send_order(&mut self.stream, &order).unwrap();
        images::hear_outcome(&mut self.stream).unwrap()
    }

    /// It works as on the first day.
    fn works(&mut self) {
        let outcome = self.ask(Format::Png, 50, &png(&photo(100, 80)));
        let Outcome::Made { format: Format::Webp, bytes } = outcome else { panic!("{outcome:?}") };
        let made = image::load_from_memory(&bytes).unwrap();
        assert_eq!((made.width(), made.height()), (50, 40));
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It ends when its edge does.
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
        let ended = self.process.wait().unwrap();
        assert!(ended.success() || std::thread::panicking(), "{ended}");
    }
}

fn photo(width: u32, height: u32) -> DynamicImage {
    let mut noise = 1u32;
    DynamicImage::ImageRgb8(image::RgbImage::from_fn(width, height, |x, y| {
        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let hill = ((f64::from(x) / 40.0).sin() * 50.0 + (f64::from(y) / 25.0).cos() * 40.0 + 128.0) as u8;
        image::Rgb([hill.saturating_add((noise >> 29) as u8), hill / 2, 200 - hill / 3])
    }))
}

fn png(image: &DynamicImage) -> Vec<u8> {
    let mut out = Cursor::new(Vec::new());
    image.write_to(&mut out, ImageFormat::Png).unwrap();
    out.into_inner()
}

fn why(outcome: Outcome) -> String {
    match outcome {
        Outcome::Left(why) => why,
        Outcome::Made { bytes, .. } => panic!("an image of {} bytes", bytes.len()),
    }
}

/// Whatever comes in place of an image, there is an answer, and the next one is as good as the first.
#[test]
fn no_bytes_end_the_worker() {
    let mut worker = Worker::start("");
    let source = png(&photo(60, 40));
    let bytes = (prop::collection::vec(any::<(u16, u8)>(), 0..20), any::<bool>(), any::<Vec<u8>>());
    let mut runner = TestRunner::new(Config { cases: 40, failure_persistence: None, ..Config::default() });
    let worker_ = std::cell::RefCell::new(&mut worker);
    let outcome = runner.run(&bytes, |(changes, is_random, random)| {
        let mut bytes = if is_random { random } else { source.clone() };
        for (at, value) in changes.iter().filter(|_| !is_random) {
            let at = usize::from(*at) % bytes.len();
            bytes[at] = *value;
        }
        worker_.borrow_mut().ask(Format::Png, 30, &bytes);
        Ok(())
    });
    outcome.unwrap();
    worker.works();
}

#[test]
fn memory_and_time_have_a_limit() {
    let large = png(&photo(4000, 3000));
    let mut worker = Worker::start(&format!("--memory {}", 40 << 20));
    let refused = why(worker.ask(Format::Png, 640, &large));
    assert!(refused.contains("ended in") || refused.contains("memory"), "{refused}");
    worker.works();

    let mut worker = Worker::start("--time 1");
    assert_eq!(why(worker.ask(Format::Png, 640, &large)), "it takes longer than 0.001 s");

    // Not the usual time, which is that of an optimised program on a machine that does nothing else.
    let mut worker = Worker::start("--time 120000");
    let outcome = worker.ask(Format::Png, 640, &png(&photo(2000, 1500)));
    assert!(
        matches!(outcome, Outcome::Made { format: Format::Webp, .. }),
        "within the usual memory it is made: {}",
        why(outcome)
    );
}

/// The whole way: an app with images, files and cache, before and after klar's edge was started again.
#[test]
fn an_app_gives_its_images_in_the_size_that_is_asked_for() {
    let host = Host::new();
    let toml = "[app]\nname = \"shop\"\n[services.web]\nstatic = \"public\"\n\
                [routes.\"/*\"]\nto = \"web\"\nimages = true\n";
    let app = host.app("shop", &[("klar.toml", toml), ("public/index.html", "hello")]);
    std::fs::write(app.folder.join("public/photo.png"), png(&photo(1000, 500))).unwrap();
    app.klar(&["up"]);
    let get = |path: &str| {
        let file = host.folder.join("got");
        let url = format!("https://localhost:{}{path}", app.https);
        let output = Command::new("curl")
            .args([
                "-skS",
                "--max-time",
                "20",
                "-H",
                "accept: image/webp",
                "-w",
                "%{http_code} %{content_type}",
                "-o",
            ])
            .arg(&file)
            .arg(url)
            .output()
            .unwrap();
        (String::from_utf8_lossy(&output.stdout).into_owned(), std::fs::read(&file).unwrap_or_default())
    };
    let small = app.until("a smaller image", || {
        let (said, bytes) = get("/photo.png?w=300");
        (said == "200 image/webp").then_some(bytes)
    });
    let made = image::load_from_memory(&small).unwrap();
    assert_eq!((made.width(), made.height()), (320, 160));
    let told = app.klar(&["edge", "explain", "/photo.png?w=300", "-H", "accept: image/webp"]);
    assert!(told.contains("image/webp, at most 320 px wide (kept)"), "{told}");

    // What was made outlives the process that made it, and the one that gave it.
    let status = app.json(&["status"]);
    let edge = status["edge"]["pid"].as_i64().unwrap_or_else(|| panic!("{status}"));
    let log = || std::fs::read_to_string(host.state.join("logs/klar.log")).unwrap_or_default();
    app.until("the image to be on disk", || {
        let files = std::fs::read_dir(host.state.join("cache")).unwrap();
        let has = |file: Vec<u8>| file.windows(64).any(|part| part == &small[small.len() - 64..]);
        files.flatten().any(|file| std::fs::read(file.path()).is_ok_and(has)).then_some(())
    });
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(edge as i32), nix::sys::signal::SIGKILL).unwrap();
    let again = app.until("another edge, with the same image", || {
        let told = app.run(&["edge", "explain", "/photo.png?w=300", "-H", "accept: image/webp"]);
        String::from_utf8_lossy(&told.stdout).contains("(kept)").then(|| get("/photo.png?w=300"))
    });
    assert_eq!(again, ("200 image/webp".to_owned(), small), "{}", log());
}
