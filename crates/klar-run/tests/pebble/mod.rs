//! A certificate authority for tests: Pebble, with a DNS server in which every name leads to this machine.
#![allow(dead_code)] // each test file uses its part

pub mod small;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use klar_run::certs::Authority;

/// See the [module](self). It ends when it is dropped.
pub struct Pebble {
    pub folder: PathBuf,
    pub port: u16,
    /// Where it looks for HTTP-01 and for TLS-ALPN-01.
    pub looks: (u16, u16),
    settings: Vec<(&'static str, &'static str)>,
    server: Option<Child>,
    dns: Child,
    dns_port: u16,
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A folder of its own.
pub fn folder(name: &str) -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("klar-{name}-{}-{count}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

impl Pebble {
    /// A Pebble that looks for HTTP-01 and TLS-ALPN-01 at these ports. `settings` are variables that it reads.
    pub fn start(http: u16, tls: u16, settings: &[(&'static str, &'static str)]) -> Self {
        let mut pebble = Self::prepare().with(settings);
        pebble.looks = (http, tls);
        pebble.start_server();
        pebble
    }

    fn with(mut self, settings: &[(&'static str, &'static str)]) -> Self {
        self.settings = settings.to_vec();
        self
    }

    /// Starts one that was prepared.
    pub fn look_at(mut self, http: u16, tls: u16) -> Self {
        self.looks = (http, tls);
        self.start_server();
        self
    }

    /// One whose address is known and that does not run yet.
    pub fn prepare() -> Self {
        let folder = folder("pebble");
        let (dns_port, manage) = (free_port(), free_port());
        let dns = spawn(
            Command::new("pebble-challtestsrv")
                .args(["-defaultIPv4", "127.0.0.1", "-defaultIPv6", "", "-http01", "", "-https01", ""])
                .args(["-tlsalpn01", "", "-dns01", &format!("127.0.0.1:{dns_port}")])
                .args(["-management", &format!("127.0.0.1:{manage}")]),
            &folder.join("dns.log"),
        );
        // Its own certificate, of an authority that a client has to be told of.
        let own = Authority::open(&folder).unwrap().certificate("localhost").unwrap();
        std::fs::write(folder.join("own.pem"), &own.chain_pem).unwrap();
        // A klar that was started by root reads it as a user of its own.
        std::fs::copy(folder.join("authority.pem"), folder.join("root.pem")).unwrap();
        std::fs::set_permissions(folder.join("root.pem"), std::fs::Permissions::from_mode(0o644)).unwrap();
        std::fs::write(folder.join("own.key"), own.key_pem.expose()).unwrap();
        // DNS first: it is asked as soon as there is an order.
        wait_for(manage);
        let port = free_port();
        Self { folder, port, looks: (0, 0), settings: Vec::new(), server: None, dns, dns_port }
    }

    pub fn start_server(&mut self) {
        let config = serde_json::json!({ "pebble": {
            "listenAddress": format!("127.0.0.1:{}", self.port),
            "managementListenAddress": format!("127.0.0.1:{}", free_port()),
            "certificate": self.folder.join("own.pem"),
            "privateKey": self.folder.join("own.key"),
            "httpPort": self.looks.0,
            "tlsPort": self.looks.1,
        }});
        let file = self.folder.join("config.json");
        std::fs::write(&file, config.to_string()).unwrap();
        let mut command = Command::new("pebble");
        command.arg("-config").arg(&file).args(["-dnsserver", &format!("127.0.0.1:{}", self.dns_port)]);
        // Without these it is slow and moody on purpose.
        command
            .env("PEBBLE_VA_NOSLEEP", "1")
            .env("PEBBLE_WFE_NONCEREJECT", "0")
            .env("PEBBLE_AUTHZREUSE", "0");
        command.envs(self.settings.iter().copied());
        self.server = Some(spawn(&mut command, &self.folder.join("pebble.log")));
        wait_for(self.port);
    }

    pub fn stop_server(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.kill().unwrap();
            server.wait().unwrap();
        }
    }

    pub fn directory(&self) -> String {
        format!("https://localhost:{}/dir", self.port)
    }

    /// What vouches for its own certificate.
    pub fn root(&self) -> PathBuf {
        self.folder.join("root.pem")
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("pebble.log")).unwrap()
    }
}

impl Drop for Pebble {
    fn drop(&mut self) {
        self.stop_server();
        let _ = self.dns.kill();
        let _ = self.dns.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn spawn(command: &mut Command, log: &Path) -> Child {
    let log = std::fs::File::options().create(true).append(true).open(log).unwrap();
    let program = command.get_program().to_string_lossy().into_owned();
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}; install it: apt-get install pebble"))
}

fn wait_for(port: u16) {
    let begun = Instant::now();
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    while TcpStream::connect(address).is_err() {
        assert!(begun.elapsed() < Duration::from_secs(60), "nobody listens at {address}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
