//! What stands in front of the edge: who a connection comes from, and who the visitor of a request is.
//!
//! A connection is from whoever the kernel says, or from whom a trusted proxy names in the PROXY protocol
//! (`proxy_protocol.rs`), before TLS and HTTP begin. A request is of the one that the connection is from, or, when that
//! is a trusted proxy of the app that is asked, of whom it names in the head (`forwarded.rs`). From everybody else such
//! words are thrown away.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use klar_base::upstreams::Front;
use tokio::net::TcpStream;

use crate::fields::Fields;
use crate::forwarded;
use crate::mutual_tls::Shown;
use crate::proxy_protocol::{self, Header, Named};
use crate::table::Shared;

/// A proxy says who its visitor is before anything else, in its first packet: longer than this is no network.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// Closed connections are told of so often at most, for all of them together: strangers must not fill a disk.
const SAY_AGAIN: Duration = Duration::from_secs(1);

/// Who is at the other end of a connection.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Who it is from: the neighbour, or whom the neighbour has named.
    pub address: IpAddr,
    /// Who has connected, as the kernel says it.
    pub neighbour: IpAddr,
    /// It is encrypted between the neighbour and the edge.
    pub tls: bool,
    /// The neighbour said that it is encrypted between the visitor and itself.
    pub secured: bool,
    /// What it has shown in the handshake with the edge.
    pub certificate: Option<Rc<Shown>>,
}

/// Who asks, and how it reached whoever is trusted to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Visitor {
    /// IPv4 addresses are never written as IPv6.
    pub address: IpAddr,
    /// Over HTTPS, wherever TLS ended.
    pub https: bool,
}

impl Peer {
    /// The peer as the visitor, while nobody else is known.
    pub fn visitor(&self) -> Visitor {
        Visitor { address: self.address, https: self.tls || self.secured }
    }

    /// The visitor of a request to an app that has this in front of it.
    pub fn visitor_of(&self, front: &Front, headers: &impl Fields) -> Visitor {
        let near = self.visitor();
        if !is_proxy(front, self.address) {
            return near;
        }
        forwarded::visitor(headers, front.header, &front.proxies, near)
    }

    /// Whether its requests are answered, and not led to HTTPS.
    pub fn is_served(&self, front: &Front) -> bool {
        self.tls || (front.plain && is_proxy(front, self.neighbour))
    }
}

fn is_proxy(front: &Front, address: IpAddr) -> bool {
    front.proxies.iter().any(|network| network.contains(address))
}

/// Finds out who a connection at `port` is from; `None` when it is one to close. What follows the header of the PROXY
/// protocol stays in the socket.
pub async fn arrive(
    shared: &Shared,
    stream: &mut TcpStream,
    from: SocketAddr,
    port: u16,
    tls: bool,
) -> Option<Peer> {
    let neighbour = from.ip().to_canonical();
    let direct = Peer { address: neighbour, neighbour, tls, secured: false, certificate: None };
    let (proxies, patience) = {
        let table = shared.table.load();
        let Some(proxies) = table.proxy_protocol(port) else { return Some(direct) };
        (proxies, table.clocks(None).head.min(HEADER_TIMEOUT))
    };
    if !proxies.iter().any(|network| network.contains(neighbour)) {
        shared.turned_away.note(neighbour, port, "`edge.trusted_proxies` does not name it");
        return None;
    }
    let read = tokio::time::timeout(patience, proxy_protocol::read(stream)).await;
    let why = match read {
        Ok(Ok(None)) => return None,
        Ok(Ok(Some(Header::Local))) => return Some(direct),
        Ok(Ok(Some(Header::Proxied(Named { address, secured })))) => {
            let address = address.unwrap_or(neighbour).to_canonical();
            return Some(Peer { address, secured, ..direct });
        }
        Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
            "it ended before its PROXY header did"
        }
        Ok(Err(error)) => match error.get_ref().and_then(|inner| inner.downcast_ref()) {
            Some(proxy_protocol::Malformed(why)) => *why,
            None => "it broke off",
        },
        Err(_) => "its PROXY header did not come in time",
    };
    shared.turned_away.note(neighbour, port, why);
    None
}

/// Connections that were closed because it is not clear who they are from.
#[derive(Debug, Default)]
pub struct TurnedAway {
    count: AtomicU64,
    said: Mutex<Option<(Instant, u64)>>,
}

impl TurnedAway {
    /// Since the edge started.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    fn note(&self, neighbour: IpAddr, port: u16, why: &str) {
        let count = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        let now = Instant::now();
        let unsaid = {
            let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
            let before = match *said {
                Some((at, _)) if now.duration_since(at) < SAY_AGAIN => return,
                Some((_, before)) => before,
                None => 0,
            };
            *said = Some((now, count));
            count.saturating_sub(before + 1)
        };
        let others = if unsaid > 0 { format!(" (and {unsaid} others before it)") } else { String::new() };
        eprintln!("edge: a connection of {neighbour} at port {port} was closed{others}: {why}");
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use klar_base::upstreams::ForwardedHeader;

    use super::*;

    #[test]
    fn only_proxies_are_believed_and_served_without_tls() {
        let front = |plain| Front {
            proxies: vec!["10.0.0.0/8".parse().unwrap()],
            header: ForwardedHeader::XForwarded,
            plain,
        };
        let headers: HeaderMap = [("x-forwarded-for", "203.0.113.9"), ("x-forwarded-proto", "https")]
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .into_iter()
            .collect();
        // The neighbour, whom it names, TLS; then: the visitor, HTTPS, served by an app with `plain` and by one without.
        for (neighbour, named, tls, visitor, https, served) in [
            ("10.0.0.1", None, true, "203.0.113.9", true, [true, true]),
            ("10.0.0.1", None, false, "203.0.113.9", true, [true, false]),
            ("198.51.100.1", None, true, "198.51.100.1", true, [true, true]),
            ("198.51.100.1", None, false, "198.51.100.1", false, [false, false]),
            // Behind two: the nearer one names the farther one, which is believed as well.
            ("10.0.0.1", Some("10.0.0.2"), false, "203.0.113.9", true, [true, false]),
            // The visitor itself wrote the headers.
            ("10.0.0.1", Some("198.51.100.1"), false, "198.51.100.1", false, [true, false]),
            // What is named gets no rights of its own.
            ("198.51.100.1", Some("10.0.0.1"), false, "203.0.113.9", true, [false, false]),
        ] {
            let (neighbour, visitor): (IpAddr, IpAddr) =
                (neighbour.parse().unwrap(), visitor.parse().unwrap());
            let address = named.map_or(neighbour, |named| named.parse().unwrap());
            let peer = Peer { address, neighbour, tls, secured: false, certificate: None };
            for (plain, served) in [(true, served[0]), (false, served[1])] {
                let front = front(plain);
                assert_eq!(
                    peer.visitor_of(&front, &headers),
                    Visitor { address: visitor, https },
                    "{peer:?}"
                );
                assert_eq!(peer.is_served(&front), served, "{peer:?} plain {plain}");
            }
        }
    }
}
