//! Is an instance ready? One request, one status line; nothing else of the answer is read.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What a probe saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// A status.
    Status(u16),
    /// The first frame of HTTP/2.
    Http2,
    /// Nobody listens.
    Refused,
    /// Something listens, but what it says is not HTTP, or it says nothing in time.
    Silent(String),
}

impl Seen {
    /// Whether that is an instance that may get requests. A declared health path must answer 2xx or 3xx; without
    /// one, any answer below 500 will do.
    pub fn is_ready(&self, declared: bool) -> bool {
        match self {
            Self::Status(status) if declared => (200..400).contains(status),
            Self::Status(status) => *status < 500,
            Self::Http2 => true,
            _ => false,
        }
    }
}

impl std::fmt::Display for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Status(status) => write!(f, "answered {status}"),
            Self::Http2 => f.write_str("answered in HTTP/2"),
            Self::Refused => f.write_str("nobody listens there"),
            Self::Silent(why) => f.write_str(why),
        }
    }
}

const PATIENCE: Duration = Duration::from_secs(3);

/// Asks for `path` at 127.0.0.1:`port`.
pub async fn http(port: u16, path: &str, host: &str) -> Seen {
    match tokio::time::timeout(PATIENCE, ask(port, path, host)).await {
        Ok(seen) => seen,
        Err(_) => Seen::Silent(format!("did not answer within {} s", PATIENCE.as_secs())),
    }
}

/// Whether 127.0.0.1:`port` speaks HTTP/2 without TLS: it has to begin with `SETTINGS` (RFC 9113 section 3.4).
pub async fn h2c(port: u16) -> Seen {
    match tokio::time::timeout(PATIENCE, greet(port)).await {
        Ok(seen) => seen,
        Err(_) => Seen::Silent(format!("did not answer in HTTP/2 within {} s", PATIENCE.as_secs())),
    }
}

async fn greet(port: u16) -> Seen {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let Ok(mut stream) = TcpStream::connect(address).await else { return Seen::Refused };
    // The preface, and SETTINGS without any.
    let greeting = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    if let Err(error) = stream.write_all(greeting).await {
        return Seen::Silent(format!("closed the connection ({error})"));
    }
    let mut head = [0u8; 9];
    match stream.read_exact(&mut head).await {
        Ok(_) if head[3..] == [4, 0, 0, 0, 0, 0] => Seen::Http2,
        Ok(_) => {
            Seen::Silent("answered something that is not HTTP/2 without TLS (`protocol = \"h2c\"`)".into())
        }
        Err(_) => Seen::Silent("closed the connection without an answer in HTTP/2".into()),
    }
}

async fn ask(port: u16, path: &str, host: &str) -> Seen {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let Ok(mut stream) = TcpStream::connect(address).await else { return Seen::Refused };
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: {host}\r\nuser-agent: klar-ready\r\naccept: */*\r\n\
         x-forwarded-proto: https\r\nconnection: close\r\n\r\n"
    );
    if let Err(error) = stream.write_all(request.as_bytes()).await {
        return Seen::Silent(format!("closed the connection ({error})"));
    }
    // "HTTP/1.1 200"
    let mut head = [0u8; 12];
    if stream.read_exact(&mut head).await.is_err() {
        return Seen::Silent("closed the connection without an answer".into());
    }
    let text = String::from_utf8_lossy(&head);
    match text.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)).and_then(|status| status.parse().ok())
    {
        Some(status) => Seen::Status(status),
        None => Seen::Silent("answered something that is not HTTP/1".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn answering(answer: &'static [u8]) -> Seen {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut buffer = [0; 1024];
            let _ = stream.read(&mut buffer).await.unwrap();
            stream.write_all(answer).await.unwrap();
        });
        let seen = http(port, "/healthz", "localhost").await;
        server.await.unwrap();
        seen
    }

    #[tokio::test]
    async fn what_a_probe_sees() {
        assert_eq!(answering(b"HTTP/1.1 200 OK\r\n\r\n").await, Seen::Status(200));
        assert_eq!(answering(b"HTTP/1.0 503 Service Unavailable\r\n\r\n").await, Seen::Status(503));
        assert!(matches!(answering(b"SSH-2.0-OpenSSH_9.2\r\n").await, Seen::Silent(_)));
        assert!(matches!(answering(b"").await, Seen::Silent(_)));
        let free = crate::ports::free_port().unwrap();
        assert_eq!(http(free, "/", "localhost").await, Seen::Refused);
    }

    #[tokio::test]
    async fn who_speaks_http2() {
        for (answer, speaks) in [
            (&b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x64"[..], true),
            (b"HTTP/1.1 400 Bad Request\r\n\r\n", false),
            (b"\0\0\x08\x07\0\0\0\0\0", false),
            (b"\0\0", false),
        ] {
            let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let server = tokio::spawn(async move {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut greeting = [0; 33];
                stream.read_exact(&mut greeting).await.unwrap();
                stream.write_all(answer).await.unwrap();
            });
            let seen = h2c(port).await;
            server.await.unwrap();
            assert_eq!(seen == Seen::Http2, speaks, "{seen:?}");
            assert_eq!(seen.is_ready(false), speaks, "{seen:?}");
        }
    }

    #[test]
    fn ready_or_not() {
        for (seen, declared, ready) in [
            (Seen::Status(200), true, true),
            (Seen::Status(302), true, true),
            (Seen::Status(404), true, false),
            (Seen::Status(404), false, true),
            (Seen::Status(503), true, false),
            (Seen::Status(500), false, false),
            (Seen::Refused, false, false),
        ] {
            assert_eq!(seen.is_ready(declared), ready, "{seen:?} {declared}");
        }
    }
}
