//! A klar of a test's own: the real program, a state folder and ports that nobody else uses.
#![allow(dead_code)] // each test file uses its part

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

static COUNT: AtomicU32 = AtomicU32::new(0);

/// See the [module](self). It ends, with all that it started, when it is dropped.
pub struct Host {
    pub folder: PathBuf,
    pub state: PathBuf,
}

pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Two ports that are free now.
pub fn ports() -> (u16, u16) {
    let (one, two) = (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
    (one.local_addr().unwrap().port(), two.local_addr().unwrap().port())
}

impl Host {
    pub fn new() -> Self {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        // Not below /tmp, which apps get one of their own of; short, because sockets lie in it.
        let base = if is_root() {
            PathBuf::from("/var/lib")
        } else {
            PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache")
        };
        let folder = base.join(format!("klar-test-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let state = folder.join("state");
        Self { folder, state }
    }

    /// An app with these files; `klar.toml` gets free ports at its end.
    pub fn app(&self, name: &str, files: &[(&str, &str)]) -> App<'_> {
        let folder = self.folder.join(name);
        for (path, content) in files {
            let path = folder.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        let (https, http) = ports();
        let app = App { host: self, folder, https, env: "prod".into() };
        if app.folder.join("klar.toml").exists() {
            app.append(&format!("\n[edge]\nhttps_port = {https}\nhttp_port = {http}\n"));
        }
        app
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let output = klar(&self.state).args(["down", "--all"]).output().unwrap();
        if !output.status.success() && self.state.join("run/klar.sock").exists() {
            eprintln!("{}", String::from_utf8_lossy(&output.stderr));
        }
        if std::env::var_os("KLAR_KEEP").is_none() {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

fn klar(state: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_klar"));
    command.env("KLAR_STATE", state).env_remove("RUST_BACKTRACE");
    command
}

/// An app under the klar of a test.
pub struct App<'a> {
    pub host: &'a Host,
    pub folder: PathBuf,
    pub https: u16,
    pub env: String,
}

impl App<'_> {
    pub fn append(&self, text: &str) {
        let file = self.folder.join("klar.toml");
        let before = std::fs::read_to_string(&file).unwrap_or_default();
        std::fs::write(file, before + text).unwrap();
    }

    pub fn write(&self, path: &str, text: &str) {
        std::fs::write(self.folder.join(path), text).unwrap();
    }

    pub fn run(&self, args: &[&str]) -> Output {
        klar(&self.host.state)
            .args(["--env", &self.env])
            .args(args)
            .current_dir(&self.folder)
            .output()
            .unwrap()
    }

    /// Must succeed.
    pub fn klar(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "klar {}: {}\n{said}\n{}\n{}",
            args.join(" "),
            output.status,
            String::from_utf8_lossy(&output.stderr),
            self.own_log(),
        );
        said
    }

    /// Must fail; what it said, without what differs from run to run.
    pub fn fails(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let said =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(!output.status.success(), "klar {} succeeded:\n{said}", args.join(" "));
        let code = output.status.code().unwrap();
        self.plain(&format!("exit {code}\n{said}"))
    }

    pub fn json(&self, args: &[&str]) -> Value {
        let said = self.klar(&[args, &["--json"]].concat());
        serde_json::from_str(said.lines().last().unwrap()).unwrap()
    }

    pub fn status(&self) -> Value {
        let status = self.json(&["status"]);
        let key = |app: &&Value| {
            app["key"].as_str().is_some_and(|key| {
                key.ends_with(&format!(".{}", self.env))
                    && self.folder.ends_with(key.split('.').next().unwrap())
            })
        };
        status["apps"].as_array().unwrap().iter().find(key).cloned().unwrap_or_default()
    }

    fn own_log(&self) -> String {
        std::fs::read_to_string(self.host.state.join("logs/klar.log")).unwrap_or_default()
    }

    /// Gets a path over HTTPS with curl, which knows nothing of klar.
    pub fn get(&self, path: &str) -> (u16, String) {
        self.get_as("localhost", path)
    }

    /// Whether there is a good answer, with a certificate for that name.
    pub fn answers(&self, host: &str) -> bool {
        self.curl(host, "/").status.success()
    }

    pub fn get_as(&self, host: &str, path: &str) -> (u16, String) {
        let output = self.curl(host, path);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let (body, code) = said.rsplit_once('\n').unwrap();
        (code.parse().unwrap(), body.into())
    }

    fn curl(&self, host: &str, path: &str) -> Output {
        let authority = self.host.folder.join("ca.pem");
        std::fs::write(&authority, self.klar(&["trust", "--print"])).unwrap();
        Command::new("curl")
            .args(["-sS", "--max-time", "20", "-w", "\n%{http_code}", "--cacert"])
            .arg(&authority)
            .args(["--resolve", &format!("{host}:{}:127.0.0.1", self.https)])
            .arg(format!("https://{host}:{}{path}", self.https))
            .output()
            .unwrap()
    }

    /// Waits until something is so.
    pub fn until<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let begun = Instant::now();
        loop {
            if let Some(found) = look() {
                return found;
            }
            assert!(
                begun.elapsed() < Duration::from_secs(60),
                "{what}: never; {}\n{}",
                self.status(),
                self.own_log()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Without ports, process ids, times, releases and paths.
    fn plain(&self, said: &str) -> String {
        let said = said
            .replace(&*self.folder.to_string_lossy(), "APP")
            .replace(&*self.host.state.to_string_lossy(), "STATE")
            .replace(&*self.host.folder.to_string_lossy(), "HOST")
            .replace(&self.https.to_string(), "PORT");
        let mut out = String::new();
        for line in said.lines() {
            let mut words: Vec<String> = Vec::new();
            for word in line.split(' ') {
                let core = word.trim_end_matches([')', ',', '.', ':', ';', '`']);
                let tail = &word[core.len()..];
                let lead: String = core.chars().take_while(|char| *char == '(' || *char == '`').collect();
                let core = &core[lead.len()..];
                let is_time = core.ends_with('s')
                    && core.trim_end_matches(['m', 's']).parse::<f64>().is_ok()
                    && core.contains('.');
                let is_release = core.len() == 7
                    && core.chars().all(|char| char.is_ascii_hexdigit())
                    && core.chars().any(|char| char.is_ascii_digit());
                let is_number = core.len() >= 4 && core.chars().all(|char| char.is_ascii_digit());
                let port = |mark: char| {
                    let (before, number) = core.rsplit_once(mark)?;
                    let digits: String = number.chars().take_while(char::is_ascii_digit).collect();
                    (digits.len() >= 4)
                        .then(|| format!("{lead}{before}{mark}NUMBER{}{tail}", &number[digits.len()..]))
                };
                if let Some(word) = port(':').or_else(|| port('=')) {
                    words.push(word);
                    continue;
                }
                words.push(match () {
                    () if is_time => "TIME".into(),
                    () if is_release => format!("{lead}RELEASE{tail}"),
                    () if is_number => format!("{lead}NUMBER{tail}"),
                    () => word.into(),
                });
            }
            // Runs of blanks differ with the length of what stands before them.
            let line = words.join(" ");
            let mut last = ' ';
            let squeezed: String = line
                .trim_end()
                .char_indices()
                .filter(|(at, char)| {
                    let keep = !(*char == ' ' && last == ' ' && line[..*at].trim() != "");
                    last = *char;
                    keep
                })
                .map(|(_, char)| char)
                .collect();
            out.push_str(&squeezed);
            out.push('\n');
        }
        out
    }
}

/// A server that answers everything.
pub const SERVER: &str = r"
const http = require('http');
http.createServer((request, response) => response.end('hello from ' + process.env.KLAR_INSTANCE + '\n'))
  .listen(process.env.PORT, '127.0.0.1');
";
