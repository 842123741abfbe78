//! Asks at a constant rate, whether it is answered or not (an open model): for `bench/edge/latency.py`.
//!
//!     pace ADDRESS (plain | tls) PATH RATE SECONDS CONNECTIONS
//!
//! Each request has its moment, which no answer moves. The next free connection takes it; if none is free it waits, and
//! the time that it takes counts from its moment on. So a server that hangs is charged for all who would have asked
//! meanwhile, and not only for those who waited (no coordinated omission). It prints one line of JSON: `sent`, `good`,
//! `wrong` (another answer than 200, or none), `late` (not answered [`GRACE`] after the last moment: they are in no
//! percentile, which are worth nothing then), and `p50`, `p90`, `p99`, `p999` and `max` in milliseconds.
//!
//! One thread, sockets that do not block, and a wait that knows nanoseconds: timers of tokio know milliseconds.
#![allow(clippy::unwrap_used)]

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme};

/// How long is waited for answers after the last request.
const GRACE: Duration = Duration::from_secs(2);
/// The largest answer.
const ANSWER_MAX: usize = 64 << 10;

fn main() {
    let given: Vec<String> = std::env::args().skip(1).collect();
    let [address, kind, path, rate, seconds, connections] = &given[..] else {
        eprintln!("pace ADDRESS (plain | tls) PATH RATE SECONDS CONNECTIONS");
        std::process::exit(2);
    };
    let address: SocketAddr = address.parse().expect("an address and a port");
    let rate: u32 = rate.parse().expect("requests each second");
    let seconds: u32 = seconds.parse().expect("seconds");
    let connections: usize = connections.parse().expect("a number of connections");
    let tls = match kind.as_str() {
        "plain" => None,
        "tls" => Some(Arc::new(trusting())),
        other => panic!("{other} is neither plain nor tls"),
    };
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").into_bytes();
    let visitors = (0..connections).map(|_| Visitor::new(address, tls.clone())).collect();
    Pace {
        visitors,
        request,
        every: Duration::from_secs(1) / rate,
        all: u64::from(rate) * u64::from(seconds),
    }
    .run()
    .print();
}

/// A schedule, and who keeps it.
struct Pace {
    visitors: Vec<Visitor>,
    request: Vec<u8>,
    every: Duration,
    /// So many requests.
    all: u64,
}

impl Pace {
    fn run(mut self) -> Tally {
        let mut tally = Tally::default();
        // Once on each connection before it counts.
        for visitor in &mut self.visitors {
            visitor.ask(&self.request, Instant::now());
            while visitor.asked.is_some() {
                wait(std::slice::from_ref(visitor), None);
                // What comes first may be tickets, or half an answer.
                assert!(
                    visitor.listen() != Some(false),
                    "the first request on a connection is not answered with 200"
                );
            }
        }
        let begun = Instant::now();
        let end = begun + self.every * u32::try_from(self.all).unwrap() + GRACE;
        let mut scheduled = 0;
        let mut due: VecDeque<Instant> = VecDeque::new();
        let moment = |number: u64| begun + Duration::from_nanos(self.every.as_nanos() as u64 * number);
        while tally.sent < self.all || self.visitors.iter().any(|one| one.asked.is_some()) {
            let now = Instant::now();
            if now >= end || self.visitors.iter().all(|one| one.is_gone) {
                break;
            }
            while scheduled < self.all && moment(scheduled) <= now {
                due.push_back(moment(scheduled));
                scheduled += 1;
            }
            for visitor in &mut self.visitors {
                if due.is_empty() {
                    break;
                }
                if visitor.asked.is_none() && !visitor.is_gone {
                    visitor.ask(&self.request, due.pop_front().unwrap());
                    tally.sent += 1;
                }
            }
            let next = if scheduled < self.all { moment(scheduled) } else { end };
            wait(&self.visitors, Some(next.saturating_duration_since(Instant::now())));
            for visitor in &mut self.visitors {
                let Some(since) = visitor.asked else { continue };
                match visitor.listen() {
                    Some(true) => tally.took.push(since.elapsed()),
                    Some(false) => tally.wrong += 1,
                    None => {}
                }
            }
        }
        tally.late = self.all - tally.took.len() as u64 - tally.wrong;
        tally
    }
}

/// Until one that has asked can be read, or the time is over.
fn wait(visitors: &[Visitor], time: Option<Duration>) {
    let waiting = visitors.iter().filter(|one| one.asked.is_some());
    let mut polled: Vec<_> = waiting.map(|one| PollFd::new(one.tcp.as_fd(), PollFlags::POLLIN)).collect();
    match ppoll(&mut polled, time.map(TimeSpec::from_duration), None) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => {}
        Err(error) => panic!("waiting for answers: {error}"),
    }
}

/// A connection that asks again and again, one request at a time.
struct Visitor {
    tcp: TcpStream,
    tls: Option<ClientConnection>,
    /// What has come of an answer.
    answer: Vec<u8>,
    /// When it should have asked what it waits for.
    asked: Option<Instant>,
    /// Nothing more comes on it.
    is_gone: bool,
}

impl Visitor {
    fn new(address: SocketAddr, tls: Option<Arc<ClientConfig>>) -> Self {
        let mut tcp = TcpStream::connect(address).expect("a connection");
        tcp.set_nodelay(true).unwrap();
        let tls = tls.map(|config| {
            let mut tls = ClientConnection::new(config, ServerName::try_from("localhost").unwrap()).unwrap();
            while tls.is_handshaking() {
                tls.complete_io(&mut tcp).expect("a handshake");
            }
            tls
        });
        tcp.set_nonblocking(true).unwrap();
        Self { tcp, tls, answer: Vec::new(), asked: None, is_gone: false }
    }

    fn ask(&mut self, request: &[u8], moment: Instant) {
        self.asked = Some(moment);
        // A request is smaller than what any socket takes; one that takes nothing is seen when the answer is missing.
        let sent = match &mut self.tls {
            None => self.tcp.write_all(request),
            Some(tls) => {
                tls.writer().write_all(request).and_then(|()| tls.write_tls(&mut self.tcp).map(|_| ()))
            }
        };
        self.is_gone |= sent.is_err();
    }

    /// Whether the answer is a 200, once all of it is there.
    fn listen(&mut self) -> Option<bool> {
        match self.read() {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && !self.is_gone => {}
            Err(_) => self.is_gone = true,
        }
        let good = match whole(&self.answer) {
            Some(good) => good,
            None if self.is_gone || self.answer.len() > ANSWER_MAX => {
                self.is_gone = true;
                false
            }
            None => return None,
        };
        self.answer.clear();
        self.asked = None;
        Some(good)
    }

    fn read(&mut self) -> io::Result<()> {
        let mut part = [0; 16 << 10];
        loop {
            let count = match &mut self.tls {
                None => self.tcp.read(&mut part)?,
                Some(tls) => match tls.reader().read(&mut part) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        if tls.read_tls(&mut self.tcp)? == 0 {
                            return Err(io::ErrorKind::UnexpectedEof.into());
                        }
                        tls.process_new_packets().map_err(io::Error::other)?;
                        continue;
                    }
                    other => other?,
                },
            };
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.answer.extend_from_slice(&part[..count]);
        }
    }
}

/// Whether an answer is a 200, if all of it is there. Its length has to be stated.
fn whole(answer: &[u8]) -> Option<bool> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(length) = head.parse(answer).ok()? else { return None };
    let stated = head.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"))?;
    let body: usize = std::str::from_utf8(stated.value).ok()?.parse().ok()?;
    (answer.len() >= length + body).then_some(head.code == Some(200))
}

#[derive(Default)]
struct Tally {
    sent: u64,
    wrong: u64,
    late: u64,
    took: Vec<Duration>,
}

impl Tally {
    fn print(mut self) {
        self.took.sort_unstable();
        // The smallest time that at least this share of the requests did not exceed.
        let part = |share: f64| {
            let rank = (self.took.len() as f64 * share).ceil() as usize;
            self.took.get(rank.saturating_sub(1)).map_or(f64::NAN, |took| took.as_secs_f64() * 1000.0)
        };
        println!(
            "{}",
            serde_json::json!({
                "sent": self.sent, "good": self.took.len(), "wrong": self.wrong, "late": self.late,
                "p50": part(0.5), "p90": part(0.9), "p99": part(0.99), "p999": part(0.999), "max": part(1.0),
            })
        );
    }
}

/// Believes every certificate: what is measured is a server of one's own.
fn trusting() -> ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Trusting(provider)))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config
}

#[derive(Debug)]
struct Trusting(Arc<CryptoProvider>);

impl ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
