//! `cargo xtask reloads`: new settings and whole upgrades of klar, over and over, under load.
//!
//! What must hold: no request fails, and no WebSocket is cut. Two small apps run behind klar. The first one is left
//! alone, and has the WebSockets and most of the requests. The second one is deployed with other routes, limits and
//! headers, restarted and scaled: each time the edge gets a new configuration. An upgrade goes to the same program in
//! other bytes, and the next one back.

use std::cell::{Cell, RefCell};
use std::io::Write as _;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::LocalSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::shell::{repository, run, say};
use crate::world::{self, World};

/// Visitors that ask one thing after the other.
const VISITORS: usize = 16;
/// Every so manieth request is made on a connection of its own.
const FRESH: u64 = 10;
/// Every so manieth request goes to the app that changes.
const CHANGING: u64 = 8;
/// WebSockets that are open all the time, and how often each says something.
const SOCKETS: usize = 20;
const SAY: Duration = Duration::from_millis(200);
/// A visitor gives up after this.
const PATIENCE: Duration = Duration::from_secs(20);
/// Failures that are told in words.
const EXAMPLES: usize = 10;

const SERVER: &str = r"
const http = require('http');
const server = http.createServer((request, response) => {
  let size = 0;
  request.on('data', (piece) => { size += piece.length; });
  request.on('end', () => response.end(request.method + ' ' + request.url + ' ' + size));
});
server.on('upgrade', (request, socket, head) => {
  socket.write('HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n' +
    'sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n');
  socket.on('error', () => {});
  if (head.length) socket.write(head);
  socket.pipe(socket);
});
server.keepAliveTimeout = 120000;
server.listen(process.env.PORT, '127.0.0.1');
";

/// What was seen, shared by all that happens.
#[derive(Debug, Default)]
struct Seen {
    served: AtomicU64,
    fresh: AtomicU64,
    failed: AtomicU64,
    cut: AtomicU64,
    stop: AtomicBool,
}

/// Runs it, and writes `bench/RELOADS.md`.
pub fn reloads(requests: u64, reloads: u32, upgrades: u32, debug: bool, dry_run: bool) -> Result<()> {
    let klar = world::build(!debug)?;
    let mut world = World::small("reloads", klar, "steady", SERVER)?;
    let other = world.small_beside("changing", SERVER)?;
    let programs = programs(&world)?;
    say("klar up");
    run(&mut world.klar(&["up"]))?;
    run(&mut other.klar(&["up"]))?;

    let seen = Arc::new(Seen::default());
    let load = start_load(&world, seen.clone())?;
    let begun = Instant::now();
    say(format!("{requests} requests, {reloads} reloads, {upgrades} upgrades"));
    let outcome = changes(&other, &programs, &seen, (requests, reloads, upgrades));
    if outcome.is_ok() {
        wait_for(&seen, requests)?;
    }
    seen.stop.store(true, Ordering::Relaxed);
    let examples = load.join().map_err(|_| anyhow::anyhow!("the load broke off"))??;
    let took = begun.elapsed();
    let [served, fresh, failed, cut] =
        [&seen.served, &seen.fresh, &seen.failed, &seen.cut].map(|count| count.load(Ordering::Relaxed));
    examples.iter().for_each(|example| println!("    {example}"));
    outcome?;
    let draining = world.until("the edges before have drained", Duration::from_secs(90), |status| {
        status["edge"]["draining"].as_array().is_some_and(Vec::is_empty)
    });
    world.stop()?;
    let line = format!(
        "{} requests ({fresh} on new connections) under {reloads} reloads and {upgrades} upgrades of the whole of \
         klar, in {} s: {failed} failed, {cut} of {SOCKETS} WebSockets cut",
        served + failed,
        took.as_secs()
    );
    println!("\n  {line}");
    ensure!(failed == 0 && cut == 0, "{line}");
    draining?;
    if !dry_run {
        let processors = std::thread::available_parallelism()?;
        let (option, how) = if debug { (" --debug", "not optimised") } else { ("", "optimised") };
        let text = format!(
            "# Reloads\n\nWhat `cargo xtask reloads --requests {requests} --reloads {reloads} --upgrades {upgrades}{option}` \
             did and saw, last time it was run in full.\n\n- {line}.\n- Load, klar ({how}) and apps shared a machine with \
             {processors} processors.\n- {VISITORS} visitors asked without a pause over \
             TLS, each request once; every {FRESH}th on a new connection, every {CHANGING}th at the app that is \
             reloaded. The WebSockets were open from the first reload to the last, and said something every {} ms.\n\
             - A reload is a deploy with other routes and limits, a restart or another number of instances, in turn. \
             An upgrade is `klar upgrade` to the same program in other bytes, or back.\n",
            SAY.as_millis()
        );
        std::fs::create_dir_all(repository().join("bench"))?;
        std::fs::write(repository().join("bench/RELOADS.md"), text)?;
    }
    Ok(())
}

/// The program, and the same in other bytes: what lies behind the end of an ELF file is not read.
fn programs(world: &World) -> Result<[PathBuf; 2]> {
    let folder = world.state.parent().context("a state without a folder")?;
    let paths = ["klar-a", "klar-b"].map(|name| folder.join(name));
    for path in &paths {
        std::fs::copy(world.program(), path)?;
    }
    std::fs::File::options().append(true).open(&paths[1])?.write_all(b"b")?;
    // What runs at first is the first in these bytes.
    Ok([paths[1].clone(), paths[0].clone()])
}

/// Reloads and upgrades, spread over the requests.
fn changes(
    other: &World,
    programs: &[PathBuf; 2],
    seen: &Seen,
    (requests, reloads, upgrades): (u64, u32, u32),
) -> Result<()> {
    let all = reloads + upgrades;
    let (mut reloaded, mut upgraded) = (0, 0);
    for number in 1..=all {
        wait_for(seen, requests * u64::from(number) / u64::from(all + 1))?;
        let begun = Instant::now();
        // As evenly as whole numbers allow.
        let is_upgrade = u64::from(upgraded) * u64::from(all) < u64::from(number) * u64::from(upgrades)
            && (reloaded == reloads || number.is_multiple_of((all / upgrades.max(1)).max(1)));
        let what = if is_upgrade {
            let program = &programs[upgraded as usize % 2];
            upgraded += 1;
            let done = other.ask(&["upgrade", &program.to_string_lossy()])?;
            ensure!(done["type"] == "done", "the upgrade ended with {done}");
            format!("upgrade {upgraded}")
        } else {
            reloaded += 1;
            format!("reload {reloaded}: {}", reload(other, reloaded)?)
        };
        let [served, failed, cut] =
            [&seen.served, &seen.failed, &seen.cut].map(|count| count.load(Ordering::Relaxed));
        println!(
            "  {number:>4}. {what:<28} {:>6} ms   {served} served, {failed} failed, {cut} cut",
            begun.elapsed().as_millis()
        );
        ensure!(failed == 0 && cut == 0, "it went wrong with {what}");
    }
    ensure!(
        reloaded == reloads && upgraded == upgrades,
        "{reloaded} reloads and {upgraded} upgrades were done"
    );
    Ok(())
}

fn reload(other: &World, number: u32) -> Result<&'static str> {
    Ok(match number % 3 {
        1 => {
            let file = other.app.join("klar.toml");
            let text = std::fs::read_to_string(&file)?;
            let base = text.split("# changing").next().unwrap_or_default();
            let changing = format!(
                "# changing\nbody_limit = \"{number}MiB\"\n[routes]\n\"/*\" = \"web\"\n\"/v{number}/*\" = {{ to = \"web\", \
                 timeout = \"{}s\" }}\n",
                5 + number % 20
            );
            std::fs::write(&file, format!("{base}{changing}"))?;
            other.ask(&["deploy"])?;
            "routes and limits"
        }
        2 => {
            other.ask(&["restart"])?;
            "other instances"
        }
        _ => {
            let wanted = if number.is_multiple_of(2) { "web=3" } else { "web=2" };
            other.ask(&["scale", wanted])?;
            "other weights"
        }
    })
}

fn wait_for(seen: &Seen, served: u64) -> Result<()> {
    let mut last = (0, Instant::now());
    loop {
        let now = seen.served.load(Ordering::Relaxed);
        if now >= served || seen.failed.load(Ordering::Relaxed) + seen.cut.load(Ordering::Relaxed) > 0 {
            return Ok(());
        }
        if now > last.0 {
            last = (now, Instant::now());
        }
        if last.1.elapsed() > PATIENCE * 2 {
            bail!("nothing is served any more");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

// ---------------------------------------------------------------------------------------------------------------
// Load

struct Site {
    port: u16,
    tls: TlsConnector,
    seen: Arc<Seen>,
    number: Cell<u64>,
    examples: RefCell<Vec<String>>,
}

fn start_load(world: &World, seen: Arc<Seen>) -> Result<JoinHandle<Result<Vec<String>>>> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(world.authority()?.as_bytes()) {
        roots.add(certificate.map_err(|error| anyhow::anyhow!("klar's authority: {error}"))?)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let (port, tls) = (world.https, TlsConnector::from(Arc::new(config)));
    Ok(std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let site = Rc::new(Site { port, tls, seen, number: Cell::new(0), examples: RefCell::default() });
        LocalSet::new().block_on(&runtime, async {
            let sockets = (0..SOCKETS).map(|_| tokio::task::spawn_local(site.clone().socket()));
            let visitors = (0..VISITORS).map(|_| tokio::task::spawn_local(site.clone().visitor()));
            let tasks: Vec<_> = sockets.chain(visitors).collect();
            for task in tasks {
                task.await?;
            }
            Ok(site.examples.take())
        })
    }))
}

type Connection = SendRequest<Full<Bytes>>;

impl Site {
    fn is_over(&self) -> bool {
        self.seen.stop.load(Ordering::Relaxed)
    }

    fn tell(&self, what: &str, error: &anyhow::Error) {
        let mut examples = self.examples.borrow_mut();
        if examples.len() < EXAMPLES {
            examples.push(format!("{what}: {error:#}"));
        }
    }

    async fn connect(&self, host: &str) -> Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await.context("connecting")?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(host.to_owned())?;
        self.tls.connect(name, stream).await.context("TLS handshake")
    }

    /// Asks one thing after the other until it is over.
    async fn visitor(self: Rc<Self>) {
        let mut kept: [Option<Connection>; 2] = [None, None];
        while !self.is_over() {
            let number = self.number.get();
            self.number.set(number + 1);
            let which = usize::from(number.is_multiple_of(CHANGING));
            let host = ["steady.localhost", "changing.localhost"][which];
            let fresh = number.is_multiple_of(FRESH);
            let before = if fresh { None } else { kept[which].take() };
            self.seen.fresh.fetch_add(u64::from(before.is_none()), Ordering::Relaxed);
            match tokio::time::timeout(PATIENCE, self.ask(before, host, number)).await {
                Ok(Ok(connection)) => {
                    self.seen.served.fetch_add(1, Ordering::Relaxed);
                    if !fresh {
                        kept[which] = connection;
                    }
                }
                failed => {
                    self.seen.failed.fetch_add(1, Ordering::Relaxed);
                    let error = match failed {
                        Ok(Err(error)) => error,
                        _ => anyhow::anyhow!("no answer within {PATIENCE:?}"),
                    };
                    self.tell(&format!("request {number} at {host}"), &error);
                }
            }
        }
    }

    /// Gives the connection back, when it is good for another request.
    async fn ask(&self, kept: Option<Connection>, host: &str, number: u64) -> Result<Option<Connection>> {
        let mut connection = match kept {
            Some(connection) => connection,
            None => {
                let stream = self.connect(host).await?;
                let (connection, driver) = http1::handshake(TokioIo::new(stream)).await?;
                tokio::task::spawn_local(async move {
                    // How it ends is told to who waits for the answer.
                    let _ = driver.await;
                });
                connection
            }
        };
        let (method, size) = if number.is_multiple_of(5) { (Method::PUT, 2000) } else { (Method::GET, 0) };
        let path = format!("/{number}");
        let expected = format!("{method} {path} {size}");
        let request = Request::builder().method(method).uri(path).header(header::HOST, host);
        connection.ready().await.context("a connection that was kept")?;
        let response = connection.send_request(request.body(Full::from(vec![b'x'; size]))?).await?;
        let (head, body) = response.into_parts();
        let body = body.collect().await?.to_bytes();
        ensure!(head.status.is_success(), "{}: {}", head.status, String::from_utf8_lossy(&body));
        ensure!(body == expected, "{:?} for {expected:?}", String::from_utf8_lossy(&body));
        // Whoever is told that the connection ends here does not use it again.
        let ends = head.headers.get(header::CONNECTION).is_some_and(|value| value == "close");
        Ok((!ends).then_some(connection))
    }

    /// Says something now and then, and hears it back, until it is over.
    async fn socket(self: Rc<Self>) {
        if let Err(error) = self.talk().await {
            self.seen.cut.fetch_add(1, Ordering::Relaxed);
            self.tell("WebSocket", &error);
        }
    }

    async fn talk(&self) -> Result<()> {
        let mut stream = self.connect("steady.localhost").await?;
        stream
            .write_all(
                b"GET /socket HTTP/1.1\r\nhost: steady.localhost\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
                  sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            )
            .await?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await?);
        }
        ensure!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
        while !self.is_over() {
            tokio::time::sleep(SAY).await;
            stream.write_all(b"are you there?").await?;
            let mut heard = [0; 14];
            tokio::time::timeout(PATIENCE, stream.read_exact(&mut heard)).await.context("no echo")??;
            ensure!(&heard == b"are you there?", "another echo");
        }
        Ok(())
    }
}
