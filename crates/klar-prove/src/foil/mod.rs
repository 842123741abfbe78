//! A small web app that does everything right, and one switch for each thing that it can do wrong.
//!
//! Every check that asks a site is tried here twice: against the app as it is, where it must find nothing, and with
//! a fault switched on, which it must find. It is part of the program, so that `klar check --prove-probes` works
//! where klar is used, and not only where it is made.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

mod app;
mod front;
mod gzip;
mod hands;
pub mod keeping;
mod output;
pub mod postgres;
mod shelf;
mod shop;
mod sql;
mod telemetry;

pub use app::SWITCHES;
use app::{App, Via};
pub use hands::Hands;
pub use shop::{ACCOUNTS, PASSWORD};

/// A foil that runs until it is dropped.
pub struct Foil {
    /// Where it speaks TLS.
    pub https: SocketAddr,
    /// Where it does not.
    pub http: SocketAddr,
    /// The authority that signed its certificate, as DER.
    pub authority: Vec<u8>,
    app: Rc<App>,
    /// An instance and a database: nobody but the kernel answers there.
    _database: TcpListener,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Foil {
    /// Starts one on free ports of the loopback, with these faults.
    ///
    /// # Errors
    /// When it cannot listen or make a certificate; or a switch that there is not.
    pub async fn start(faults: &[&str]) -> io::Result<Self> {
        Self::over(faults, None).await
    }

    /// Starts one that keeps its items in this database, which has the good tables.
    ///
    /// # Errors
    /// As [`Foil::start`]; or when the database refuses.
    pub async fn over(faults: &[&str], database: Option<&str>) -> io::Result<Self> {
        if let Some(unknown) = faults.iter().find(|fault| !SWITCHES.iter().any(|(name, _)| name == *fault)) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("`{unknown}` is not a switch of klar foil"),
            ));
        }
        let faults: BTreeSet<String> = faults.iter().map(|fault| (*fault).to_owned()).collect();
        let (certificates, authority) = certificates(&faults).map_err(io::Error::other)?;
        let https = TcpListener::bind("127.0.0.1:0").await?;
        let http = TcpListener::bind("127.0.0.1:0").await?;
        let behind = |open: bool| TcpListener::bind(if open { "0.0.0.0:0" } else { "127.0.0.1:0" });
        let inside = behind(faults.contains("open-instance")).await?;
        let behind = behind(faults.contains("open-database")).await?;
        let ports = [inside.local_addr()?.port(), behind.local_addr()?.port()];
        let (https_at, http_at) = (https.local_addr()?, http.local_addr()?);
        let app = Rc::new(App::new(faults, https_at, ports));
        if let Some(url) = database {
            let (client, connection) =
                tokio_postgres::connect(url, tokio_postgres::NoTls).await.map_err(io::Error::other)?;
            tokio::task::spawn_local(async move {
                let _ = connection.await;
            });
            let _ = app.state.database.set(client);
            let _ = app.state.database_at.set(url.to_owned());
        }
        let acceptors = certificates.map(|tls| TlsAcceptor::from(Arc::new(tls)));
        let doors = [(https, Door::Tls(acceptors)), (http, Door::Plain), (inside, Door::Inside)];
        let tasks =
            doors.map(|(door, kind)| tokio::task::spawn_local(listen(door, Rc::clone(&app), kind))).into();
        Ok(Self { https: https_at, http: http_at, authority, app, _database: behind, tasks })
    }

    /// Has what is in its database kept a second time.
    pub fn keep(&self, keeping: keeping::Keeping) {
        let _ = self.app.state.keeping.set(keeping);
    }

    /// What its team has written about its caches.
    #[must_use]
    pub fn policy(&self) -> String {
        shelf::policy(&self.app)
    }

    /// Whether a switch is on.
    #[must_use]
    pub fn has(&self, fault: &str) -> bool {
        self.app.has(fault)
    }

    /// What klar's hands are for an app: here, switches of the same process.
    #[must_use]
    pub fn hands(&self) -> Hands {
        Hands::new(Rc::clone(&self.app))
    }

    /// Waits for ever, for the command line.
    pub async fn serve(mut self) {
        for task in self.tasks.drain(..) {
            let _ = task.await;
        }
    }
}

impl Drop for Foil {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

/// Ways to reach it.
#[derive(Clone)]
enum Door {
    /// The front door, with the certificate of now and that of after the next renewal.
    Tls([TlsAcceptor; 2]),
    /// Where visitors are sent to the front door.
    Plain,
    /// Where a front door would find the app itself.
    Inside,
}

async fn listen(listener: TcpListener, app: Rc<App>, door: Door) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let (app, door) = (Rc::clone(&app), door.clone());
        tokio::task::spawn_local(async move {
            match door {
                Door::Plain => serve(stream, app, Via::Plain).await,
                Door::Inside => serve(stream, app, Via::Inside).await,
                Door::Tls(tls) => {
                    if app.has("old-tls") && speaks_old_tls(&stream).await {
                        return pretend_old_tls(stream).await;
                    }
                    let tls = &tls[app.state.certificate.get() % 2];
                    if let Ok(stream) = tls.accept(stream).await {
                        serve(stream, app, Via::Front).await;
                    }
                }
            }
        });
    }
}

async fn serve<S>(stream: S, app: Rc<App>, via: Via)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + 'static,
{
    let any_head = app.has("any-head");
    let answer = service_fn(move |request: Request<hyper::body::Incoming>| {
        let app = Rc::clone(&app);
        async move {
            let (head, body) = request.into_parts();
            let limit = app.body_limit();
            let answer = match Limited::new(body, limit).collect().await {
                Ok(body) => {
                    let packs = via == Via::Front && !app.has("not-compressed") && gzip::is_taken(&head);
                    let answer = app.answer(Request::from_parts(head, body.to_bytes()), via).await;
                    if packs { gzip::packed(answer).await } else { answer }
                }
                Err(_) => app.too_large(&head),
            };
            Ok::<Response<Full<Bytes>>, Infallible>(answer)
        }
    });
    let mut server = http1::Builder::new();
    if any_head {
        server.max_buf_size(8 << 20).max_headers(10_000);
    }
    let _ = server.serve_connection(TokioIo::new(stream), answer).await;
}

/// Whether the first bytes are a ClientHello that goes no further than TLS 1.1.
async fn speaks_old_tls(stream: &TcpStream) -> bool {
    let mut head = [0; 11];
    for _ in 0..50 {
        match stream.peek(&mut head).await {
            Ok(11) => return head[0] == 22 && head[9] == 3 && head[10] < 3,
            Ok(0) | Err(_) => return false,
            Ok(_) => tokio::time::sleep(std::time::Duration::from_millis(5)).await,
        }
    }
    false
}

/// Answers as a server does that takes up TLS 1.0: with the beginning of a ServerHello.
async fn pretend_old_tls(mut stream: TcpStream) {
    let mut hello = [0; 11];
    if stream.read_exact(&mut hello).await.is_err() {
        return;
    }
    let version = hello[10];
    let mut body = vec![3, version];
    body.extend([7; 32]);
    body.extend([0, 0, 0x2f, 0]);
    let mut record = vec![22, 3, version, 0, 4 + body.len() as u8, 2, 0, 0, body.len() as u8];
    record.extend(body);
    let _ = stream.write_all(&record).await;
    let _ = stream.shutdown().await;
}

fn certificates(
    faults: &BTreeSet<String>,
) -> Result<([ServerConfig; 2], Vec<u8>), Box<dyn std::error::Error + Send + Sync>> {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};
    let authority_key = KeyPair::generate()?;
    let mut authority = CertificateParams::new(Vec::<String>::new())?;
    authority.distinguished_name.push(rcgen::DnType::CommonName, "klar foil");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    let authority_certificate = authority.self_signed(&authority_key)?;
    let names = if faults.contains("wrong-name") {
        vec!["elsewhere.example"]
    } else {
        vec!["foil.example", "localhost"]
    };
    let mut params = CertificateParams::new(names.into_iter().map(str::to_owned).collect::<Vec<_>>())?;
    // Days from now, as calendar dates: whole days are what the check asks for.
    let days = if faults.contains("certificate-ends-soon") { 10 } else { 60 };
    let date = |days: i64| {
        let date = (jiff::Zoned::now() + jiff::Span::new().days(days)).date();
        rcgen::date_time_ymd(i32::from(date.year()), date.month().unsigned_abs(), date.day().unsigned_abs())
    };
    params.not_before = date(-2);
    params.not_after = date(days);
    let issuer = Issuer::from_params(&authority, &authority_key);
    let one = || -> Result<ServerConfig, Box<dyn std::error::Error + Send + Sync>> {
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &issuer)?;
        let chain = vec![CertificateDer::from(certificate.der().to_vec())];
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        Ok(ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?)
    };
    Ok(([one()?, one()?], authority_certificate.der().to_vec()))
}
