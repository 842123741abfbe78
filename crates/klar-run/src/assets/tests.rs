use std::io::Read;

use super::*;

struct Site {
    root: PathBuf,
}

impl Site {
    fn new(name: &str) -> Self {
        let root = std::env::temp_dir().join(format!("klar-assets-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(root.join("files")).unwrap();
        Self { root }
    }

    fn put(&self, path: &str, content: &[u8]) -> &Self {
        let path = self.root.join("files").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        self
    }

    fn plan(&self, out: &str, before: Option<&str>) -> Plan {
        let task = Task {
            service: "web".into(),
            folder: self.root.join("files"),
            out: self.root.join(out),
            before: before.map(|name| self.root.join(name)),
            base: Some(String::new()),
            minify: false,
            links: false,
            worker: None,
        };
        Plan { tasks: vec![task], patience_ms: 60_000 }
    }

    fn run_with(&self, out: &str, before: Option<&str>, change: impl FnOnce(&mut Task)) -> Done {
        let mut plan = self.plan(out, before);
        change(&mut plan.tasks[0]);
        run(&plan).unwrap().remove(0)
    }

    fn read(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.root.join(path)).ok()
    }

    fn run(&self, out: &str, before: Option<&str>) -> Done {
        run(&self.plan(out, before)).unwrap().remove(0)
    }

    /// Everything that was made, by its path.
    fn made(&self, out: &str) -> Vec<String> {
        let mut found = Vec::new();
        let root = self.root.join(out);
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    found.push(path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned());
                }
            }
        }
        found.sort();
        found
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

fn text(seed: u32, length: usize) -> Vec<u8> {
    let words = ["licence", "club", "season", "driver", "marshal", "order"];
    let mut out = String::new();
    let mut number = seed;
    while out.len() < length {
        number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        out.push_str(words[(number >> 16) as usize % words.len()]);
        out.push_str(if number & 0x100 == 0 { ";\n" } else { " " });
    }
    out.into_bytes()
}

fn noise(length: usize) -> Vec<u8> {
    let mut number = 7_u64;
    (0..length)
        .map(|_| {
            number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (number >> 33) as u8
        })
        .collect()
}

fn unpacked(coding: Coding, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match coding {
        Coding::Br => brotli::Decompressor::new(bytes, 4096).read_to_end(&mut out).unwrap(),
        Coding::Zstd => zstd::stream::read::Decoder::new(bytes).unwrap().read_to_end(&mut out).unwrap(),
        Coding::Gzip => flate2::read::GzDecoder::new(bytes).read_to_end(&mut out).unwrap(),
    };
    out
}

#[test]
fn what_is_worth_it_gets_a_copy_of_each_kind() {
    let site = Site::new("kinds");
    let script = text(1, 40_000);
    site.put("assets/app.js", &script)
        .put("index.html", &text(2, 3000))
        .put("small.css", &text(3, 500))
        .put("photo.jpg", &text(4, 5000))
        .put("noise.txt", &noise(5000))
        .put("app.js.map", &text(5, 5000))
        .put(".hidden/app.js", &text(6, 5000));
    let other = site.root.join("elsewhere.js");
    fs::write(&other, text(7, 5000)).unwrap();
    std::os::unix::fs::symlink(&other, site.root.join("files/link.js")).unwrap();
    let done = site.run("out", None);
    assert_eq!((done.files, done.reused, done.left), (2, 0, 0), "{done:?}");
    assert!(done.bytes >= 43_000, "{done:?}");
    assert!(done.packed_bytes * 2 < done.bytes, "{done:?}");
    assert_eq!(
        site.made("out"),
        [
            "br/assets/app.js",
            "br/index.html",
            "gzip/assets/app.js",
            "gzip/index.html",
            "whole.json",
            "zstd/assets/app.js",
            "zstd/index.html",
        ]
    );
    for coding in Coding::ALL {
        let packed = fs::read(site.root.join("out").join(coding.folder()).join("assets/app.js")).unwrap();
        assert!(unpacked(coding, &packed) == script, "{coding:?}");
    }
}

#[test]
fn an_app_that_compresses_by_itself_is_left_alone() {
    let site = Site::new("own");
    site.put("app.js", &text(1, 5000)).put("app.js.br", b"own").put("app.js.gz", b"own");
    site.run("out", None);
    assert_eq!(site.made("out"), ["whole.json", "zstd/app.js"]);
}

#[test]
fn what_has_not_changed_is_not_compressed_again() {
    let site = Site::new("again");
    site.put("same.js", &text(1, 5000)).put("moved.js", &text(2, 5000)).put("other.js", &text(3, 5000));
    site.put("noise.txt", &noise(5000));
    assert_eq!(site.run("one", None).reused, 0);
    fs::rename(site.root.join("files/moved.js"), site.root.join("files/elsewhere.js")).unwrap();
    site.put("other.js", &text(4, 5000));
    // A mark that only a copy can carry over.
    fs::write(site.root.join("one/br/same.js"), b"mark").unwrap();
    let done = site.run("two", Some("one"));
    assert_eq!((done.files, done.reused), (3, 3), "also that there was nothing to gain is known: {done:?}");
    assert_eq!(fs::read(site.root.join("two/br/same.js")).unwrap(), b"mark");
    let same = |one: &str, two: &str| {
        fs::read(site.root.join(one)).unwrap() == fs::read(site.root.join(two)).unwrap()
    };
    assert!(same("one/gzip/moved.js", "two/gzip/elsewhere.js"));
    assert!(!same("one/gzip/other.js", "two/gzip/other.js"));
    // Results that are not whole are none.
    fs::remove_file(site.root.join("two/whole.json")).unwrap();
    assert_eq!(site.run("three", Some("two")).reused, 0);
    // One whose copy has gone is made again.
    fs::remove_file(site.root.join("three/zstd/same.js")).unwrap();
    assert_eq!(site.run("four", Some("three")).reused, 3);
    assert!(site.root.join("four/zstd/same.js").exists());
}

#[test]
fn what_there_was_no_time_for_is_said_and_made_the_next_time() {
    let site = Site::new("time");
    site.put("app.js", &text(1, 5000)).put("index.html", &text(2, 5000));
    let mut plan = site.plan("one", None);
    plan.patience_ms = 0;
    let done = run(&plan).unwrap().remove(0);
    assert_eq!((done.files, done.left), (0, 2));
    assert_eq!(site.made("one"), ["whole.json"]);
    let done = site.run("two", Some("one"));
    assert_eq!((done.files, done.reused, done.left), (2, 0, 0));
}

#[test]
fn what_was_left_there_is_gone() {
    let site = Site::new("left");
    site.put("app.js", &text(1, 5000));
    fs::create_dir_all(site.root.join("out/br")).unwrap();
    fs::write(site.root.join("out/br/half.js"), b"half").unwrap();
    site.run("out", None);
    assert!(!site.root.join("out/br/half.js").exists());
}

const STYLE: &str = "a {\n    color: red;\n}\n";

/// Small files are minified, too; the compressed copies are of what is sent.
#[test]
fn what_is_minified_takes_the_place_of_the_file() {
    let site = Site::new("minify");
    let large = STYLE.repeat(100);
    site.put("small.css", STYLE.as_bytes()).put("large.css", large.as_bytes());
    site.put("app.js", b"let  a  =  1;").put("broken.css", b"a { color: red;  ");
    assert_eq!(site.run("off", None).minified, 0);
    let minify = |task: &mut Task| task.minify = true;
    let done = site.run_with("one", None, minify);
    assert_eq!(done.minified, 2, "{done:?}");
    assert!(done.notes[0].starts_with("broken.css: not minified: "), "{done:?}");
    assert_eq!(done.notes.len(), 1);
    assert_eq!(site.read("one/plain/small.css").as_deref(), Some("a{color:red}"));
    assert_eq!(site.read("one/plain/broken.css"), None);
    let packed = fs::read(site.root.join("one/br/large.css")).unwrap();
    assert_eq!(unpacked(Coding::Br, &packed), "a{color:red}".repeat(100).as_bytes());
    // Another wish is another result, whatever there is from before.
    let done = site.run("two", Some("one"));
    assert_eq!((done.minified, done.reused), (0, 0));
    let done = site.run_with("three", Some("one"), minify);
    assert_eq!((done.minified, done.reused), (2, 2));
    assert_eq!(site.read("three/plain/large.css"), Some("a{color:red}".repeat(100)));
}

#[test]
fn what_others_count_on_stays_as_it_is() {
    let site = Site::new("pinned");
    // `printf 'a {\n    color: red;\n}\n' | openssl dgst -sha384 -binary | base64`
    let digest = "sha384-7FZ+lXwjkly6Lz4VuWltMmYe/H8XYXKGZYX8dYgY1F05PUe3tsTNNqtrkjj33pVc";
    site.put("index.html", format!("<link  rel=stylesheet href=pinned.css integrity={digest}>").as_bytes());
    site.put("pinned.css", STYLE.as_bytes());
    site.put("mapped.css", format!("{STYLE} ").as_bytes()).put("mapped.css.map", b"{}");
    site.put("packed.css", format!("{STYLE}  ").as_bytes()).put("packed.css.gz", b"gz");
    site.put("free.css", format!("{STYLE}   ").as_bytes());
    let done = site.run_with("out", None, |task| task.minify = true);
    assert_eq!(done.minified, 1, "{done:?}");
    assert_eq!(site.made("out"), ["plain/free.css", "whole.json"]);
}

#[test]
fn pages_stay_as_they_are_where_white_space_shows() {
    let site = Site::new("spaces");
    let page = "<p>a\n    b</p>".repeat(10);
    site.put("index.html", page.as_bytes());
    assert_eq!(site.run_with("one", None, |task| task.minify = true).minified, 1);
    site.put("a.css", b".quote{white-space:pre-line}");
    assert_eq!(site.run_with("two", None, |task| task.minify = true).minified, 0);
}

#[test]
fn pages_say_what_they_need() {
    let site = Site::new("links");
    site.put("index.html", b"<script src=/app.js></script><script src=/gone.js></script>");
    site.put("docs/index.html", b"<link rel=stylesheet href=../a.css>").put("plain.html", b"<p>nothing");
    site.put("app.js", b"1").put("a.css", b"a{}");
    site.run("off", None);
    assert_eq!(site.made("off"), ["whole.json"]);
    site.run_with("out", None, |task| task.links = true);
    assert_eq!(site.made("out"), ["link/docs/index.html", "link/index.html", "whole.json"]);
    assert_eq!(site.read("out/link/index.html").as_deref(), Some("</app.js>; rel=preload; as=script"));
}

#[test]
fn a_worker_is_made_and_taken_back() {
    let site = Site::new("worker");
    site.put(
        "index.html",
        b"<script type=module src=/assets/app-3fa9c1d2.js></script><link rel=icon href=/i.png>",
    );
    site.put("assets/app-3fa9c1d2.js", b"1").put("assets/list-9f8e7d6c.js", b"2").put("i.png", b"3");
    let on = |task: &mut Task| {
        task.worker = Some(Worker::On { elsewhere: vec!["/api/*".into()], spa: true });
    };
    assert_eq!(site.run_with("one", None, on).notes, Vec::<String>::new());
    let worker = site.read("one/plain/klar-worker.js").unwrap();
    for kept in [
        "\"index.html\"",
        "\"assets/app-3fa9c1d2.js\"",
        "\"assets/list-9f8e7d6c.js\"",
        "\"i.png\"",
        "\"klar-worker-register.js\"",
        "/api/*",
    ] {
        assert!(worker.contains(kept), "{kept}");
    }
    let digest = &hex(&Sha256::digest(b"1"))[..24];
    assert!(worker.contains(digest), "what is kept is named by its content");
    assert!(site.read("one/plain/klar-worker-register.js").unwrap().contains(".register("));
    site.run_with("same", Some("one"), on);
    assert_eq!(site.read("same/plain/klar-worker.js").unwrap(), worker);
    site.put("assets/list-9f8e7d6c.js", b"4");
    site.run_with("two", Some("one"), on);
    assert_ne!(site.read("two/plain/klar-worker.js").unwrap(), worker);
    // One that is only left out would stay in browsers for as long as they like.
    site.run("three", Some("two"));
    assert!(site.read("three/plain/klar-worker.js").unwrap().contains("unregister()"));
    site.run("four", None);
    assert_eq!(site.read("four/plain/klar-worker.js"), None);
    site.put("klar-worker.js", b"mine");
    let done = site.run_with("five", None, on);
    assert!(done.notes[0].contains("of its own"), "{done:?}");
    assert_eq!(site.read("five/plain/klar-worker.js"), None);
}
