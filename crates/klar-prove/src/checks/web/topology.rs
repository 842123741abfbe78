//! Only the edge can be reached: instances and databases listen on the loopback.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::check::{About, Disturbs, Fault, Finding, Need, Probe, Unable};
use crate::checks::running::environment::family;
use crate::words;
use crate::words::Words;
use crate::world::World;

/// Ports that are open to others.
pub struct Topology;

/// Whether the ports of instances and databases can be reached by another address than the loopback.
#[derive(Debug, Serialize, Deserialize)]
pub struct Seen {
    /// How many addresses of this machine were tried.
    addresses: usize,
    /// Ports by what listens there: whether one got through on the loopback, and from outside.
    backends: BTreeMap<String, (bool, bool)>,
    stores: BTreeMap<String, (bool, bool)>,
    /// Databases that others can reach and that do not take up TLS.
    #[serde(default)]
    plain: Vec<String>,
}

const BACKENDS: (&str, &str) = ("edge.tls", "backends");
const CLOSED: (&str, &str) = ("infra.topology", "closed");
const STORES: (&str, &str) = ("infra.vpc", "outside-closed");
const EDGE: (&str, &str) = ("deploy.env.prod", "edge-only");
const CONNECT: Duration = Duration::from_secs(1);

impl Probe for Topology {
    type Seen = Seen;

    const ABOUT: About = About {
        id: "topology",
        version: 3,
        question: "Can the app, its database and its cache be reached past the edge?",
        does: "Connects to their ports, and to all others on which the app's processes listen for more than this machine, by each address of this machine that others can reach; asks databases that answer there for TLS.",
        shows: &[CLOSED, STORES, EDGE, BACKENDS],
        needs: &[Need::Klar],
        disturbs: Disturbs::Nothing,
        good_for: Duration::from_secs(24 * 3600),
        limit: Duration::from_secs(20),
        faults: &[
            Fault::Foil("open-instance", CLOSED),
            Fault::Foil("open-instance", EDGE),
            Fault::Foil("open-database", STORES),
            Fault::Foil("open-database", BACKENDS),
        ],
    };

    async fn look(world: Rc<World>) -> Result<Seen, Unable> {
        let klar = world.klar.clone().ok_or_else(|| Unable(Need::Klar.missing()))?;
        let cannot = |why: String| Unable(Words::same(why));
        let mut outside = outside();
        if world.is_foil {
            // There may be no network where checks are proved; what listens everywhere listens here, too.
            outside = BTreeSet::from([IpAddr::from([127, 0, 0, 2])]);
        }
        let mut seen = Seen {
            addresses: outside.len(),
            backends: BTreeMap::new(),
            stores: BTreeMap::new(),
            plain: Vec::new(),
        };
        for instance in klar.instances().await.map_err(cannot)? {
            let Some(address) = instance.address else { continue };
            seen.backends.insert(instance.name.clone(), reach(address, &outside).await);
            // Doors beside the one that klar gave it.
            let pids = instance.pid.filter(|_| !world.is_foil).map(family).unwrap_or_default();
            for port in pids.into_iter().flat_map(open_ports).filter(|port| *port != address.port()) {
                let loopback = SocketAddr::from(([127, 0, 0, 1], port));
                seen.backends.insert(format!("{} :{port}", instance.name), reach(loopback, &outside).await);
            }
        }
        for (name, kind, port) in stores(&klar.status().await.map_err(cannot)?) {
            let loopback = SocketAddr::from(([127, 0, 0, 1], port));
            let reached = reach(loopback, &outside).await;
            if reached.1 && !takes_up_tls(loopback).await {
                seen.plain.push(format!("{kind} {name}"));
            }
            seen.stores.insert(format!("{kind} {name}"), reached);
        }
        Ok(seen)
    }

    fn judge(seen: &Seen) -> Vec<Finding> {
        let both: BTreeMap<&String, &(bool, bool)> = seen.backends.iter().chain(&seen.stores).collect();
        vec![
            seen.closed(CLOSED, both, !seen.backends.is_empty() && !seen.stores.is_empty()),
            seen.closed(STORES, seen.stores.iter().collect(), !seen.stores.is_empty()),
            seen.closed(EDGE, seen.backends.iter().collect(), !seen.backends.is_empty()),
            seen.links(),
        ]
    }
}

impl Seen {
    /// Whether what the app says to its databases can be read on the way.
    fn links(&self) -> Finding {
        let count = self.stores.len();
        if !self.plain.is_empty() {
            let plain = self.plain.join(", ");
            return Finding::broken(
                BACKENDS,
                words!(
                    "reached from outside, and without TLS: {plain}",
                    "nås utenfra, og uten TLS: {plain}",
                    "nås utifrån, och utan TLS: {plain}"
                ),
            );
        }
        if count == 0 || self.addresses == 0 || !self.stores.values().all(|(inside, _)| *inside) {
            return Finding::unseen(
                BACKENDS,
                words!(
                    "klar runs no database of this app that could be looked at",
                    "klar kjører ingen database for denne appen som kunne undersøkes",
                    "klar kör ingen databas för den här appen som kunde undersökas"
                ),
            );
        }
        if self.stores.values().any(|(_, out)| *out) {
            return Finding::held(
                BACKENDS,
                words!(
                    "{count} databases; those that others can reach take up TLS",
                    "{count} databaser; de som andre kan nå, tar i bruk TLS",
                    "{count} databaser; de som andra kan nå använder TLS"
                ),
            );
        }
        Finding::inapplicable(
            BACKENDS,
            words!(
                "all {count} answer on the loopback of this machine only: nothing of it is on any way",
                "alle {count} svarer bare på maskinens egen loopback: ingenting er underveis noe sted",
                "alla {count} svarar bara på maskinens egen loopback: inget är på väg någonstans"
            ),
        )
    }

    fn closed(
        &self,
        place: (&'static str, &'static str),
        ports: BTreeMap<&String, &(bool, bool)>,
        whole: bool,
    ) -> Finding {
        let addresses = self.addresses;
        let count = ports.len();
        let open: Vec<&str> =
            ports.iter().filter(|(_, (_, out))| *out).map(|(name, _)| name.as_str()).collect();
        if !open.is_empty() {
            let open = open.join(", ");
            return Finding::broken(
                place,
                words!(
                    "reached past the edge, by an address that is not the loopback's: {open}",
                    "nådd utenom kanten, på en adresse som ikke er loopback: {open}",
                    "nådd förbi kanten, på en adress som inte är loopback: {open}"
                ),
            );
        }
        // A port on which nobody answers anywhere is not closed but elsewhere.
        let listens = ports.values().all(|(inside, _)| *inside);
        if addresses == 0 || !whole || !listens {
            return Finding::unseen(
                place,
                words!(
                    "{addresses} addresses of this machine, {count} ports: not enough to tell",
                    "{addresses} adresser på denne maskinen, {count} porter: ikke nok til å si det",
                    "{addresses} adresser på den här maskinen, {count} portar: inte nog för att säga det"
                ),
            );
        }
        Finding::held(
            place,
            words!(
                "{count} ports refuse on {addresses} addresses",
                "{count} porter nekter på {addresses} adresser",
                "{count} portar nekar på {addresses} adresser"
            ),
        )
    }
}

/// The addresses by which others can reach this machine.
fn outside() -> BTreeSet<IpAddr> {
    let Ok(interfaces) = nix::ifaddrs::getifaddrs() else { return BTreeSet::new() };
    let ip = |address: nix::sys::socket::SockaddrStorage| {
        let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
    };
    let is_local = |ip: &IpAddr| match ip {
        IpAddr::V4(ip) => ip.is_loopback(),
        // One of a link alone needs a scope, and nobody comes from far by it.
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unicast_link_local(),
    };
    interfaces.filter_map(|each| ip(each.address?)).filter(|ip| !is_local(ip)).take(8).collect()
}

/// Whether one gets through to a port on its own address, and by an address that others can reach.
async fn reach(at: SocketAddr, outside: &BTreeSet<IpAddr>) -> (bool, bool) {
    let connects = |address: SocketAddr| async move {
        matches!(tokio::time::timeout(CONNECT, TcpStream::connect(address)).await, Ok(Ok(_)))
    };
    let mut open = false;
    for ip in outside {
        open |= connects(SocketAddr::new(*ip, at.port())).await;
    }
    (connects(at).await, open)
}

/// Whether a PostgreSQL goes on with TLS when it is asked to: one byte, `S` (frontend/backend protocol, SSLRequest).
async fn takes_up_tls(at: SocketAddr) -> bool {
    let asked = async {
        let mut stream = TcpStream::connect(at).await.ok()?;
        let (length, code) = (8_u32.to_be_bytes(), 80_877_103_u32.to_be_bytes());
        stream.write_all(&[length, code].concat()).await.ok()?;
        stream.read_u8().await.ok()
    };
    tokio::time::timeout(CONNECT, asked).await == Ok(Some(b'S'))
}

/// The ports on which a process listens at more than the loopback.
fn open_ports(pid: i32) -> BTreeSet<u16> {
    let sockets: BTreeSet<String> = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten()
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .filter_map(|target| {
            let target = target.to_string_lossy().into_owned();
            Some(target.strip_prefix("socket:[")?.trim_end_matches(']').to_owned())
        })
        .collect();
    let mut ports = BTreeSet::new();
    for table in ["tcp", "tcp6"] {
        let table = std::fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
        for line in table.lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let [_, local, _, "0A", _, _, _, _, _, inode, ..] = fields[..] else { continue };
            let Some((address, port)) = local.split_once(':') else { continue };
            let loopback = address.ends_with("7F") && address.len() == 8
                || address == "00000000000000000000000001000000";
            if sockets.contains(inode) && !loopback {
                ports.extend(u16::from_str_radix(port, 16));
            }
        }
    }
    ports
}

/// The databases that klar runs: name, kind, port.
fn stores(status: &serde_json::Value) -> Vec<(String, String, u16)> {
    let list = status.get("stores").and_then(serde_json::Value::as_array).into_iter().flatten();
    list.filter_map(|store| {
        let text =
            |key: &str| store.get(key).and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
        let port = store.get("port").and_then(serde_json::Value::as_u64)?;
        Some((text("name"), text("kind"), u16::try_from(port).ok()?))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_leaves_the_machine_is_asked_for_tls() {
        use crate::check::Saw;
        let saw = |out, plain: &[&str]| {
            let seen = Seen {
                addresses: 1,
                backends: BTreeMap::new(),
                stores: [("postgres db".to_owned(), (true, out))].into(),
                plain: plain.iter().map(|name| (*name).to_owned()).collect(),
            };
            seen.links().saw
        };
        assert_eq!(saw(false, &[]), Saw::Inapplicable);
        assert_eq!(saw(true, &[]), Saw::Held);
        assert_eq!(saw(true, &["postgres db"]), Saw::Broken);
    }

    #[test]
    fn doors_of_a_process_are_known() {
        let open = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = |listener: &std::net::TcpListener| listener.local_addr().unwrap().port();
        let found = open_ports(i32::try_from(std::process::id()).unwrap());
        assert!(found.contains(&port(&open)) && !found.contains(&port(&closed)), "{found:?}");
    }
}
