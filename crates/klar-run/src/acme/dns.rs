//! Where a name leads, and whether that is here: asked only when an authority could not find its way, to say why.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

/// How long to wait for an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What this machine's resolver says of a name, and what addresses this machine has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// The addresses of the name; `None`: the question was not answered.
    pub name: Option<Vec<IpAddr>>,
    /// The addresses of this machine, without loopback.
    pub machine: Vec<IpAddr>,
}

/// Looks, for some seconds at most.
pub async fn look(name: &str) -> Seen {
    let found = tokio::time::timeout(PATIENCE, tokio::net::lookup_host((name, 443))).await;
    let mut addresses = match found {
        Ok(Ok(found)) => Some(found.map(|address| address.ip().to_canonical()).collect::<Vec<_>>()),
        // "No such name" and "no answer" are not told apart by the system's resolver.
        Ok(Err(_)) => Some(Vec::new()),
        Err(_) => None,
    };
    if let Some(addresses) = &mut addresses {
        addresses.sort();
        addresses.dedup();
    }
    Seen { name: addresses, machine: machine() }
}

fn machine() -> Vec<IpAddr> {
    let Ok(interfaces) = nix::ifaddrs::getifaddrs() else { return Vec::new() };
    let ips = interfaces.filter_map(|interface| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
    });
    let mut all: Vec<IpAddr> = ips.filter(|ip| !ip.is_loopback() && !is_link_local(ip)).collect();
    all.sort();
    all.dedup();
    all
}

fn is_link_local(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.segments()[0] & 0xffc0 == 0xfe80,
    }
}

/// What is wrong with where a name leads, in a sentence for each kind of address; nothing when all of it leads here.
pub fn judge(name: &str, seen: &Seen) -> Vec<String> {
    let Some(addresses) = &seen.name else {
        return vec![format!("the DNS server of this machine did not say where {name} leads")];
    };
    if addresses.is_empty() {
        return vec![format!(
            "DNS knows no address of {name}: add an A record with the address of this machine"
        )];
    }
    let mut said = Vec::new();
    for (is_family, record) in [(IpAddr::is_ipv4 as fn(&IpAddr) -> bool, "A"), (IpAddr::is_ipv6, "AAAA")] {
        let foreign: Vec<String> = addresses
            .iter()
            .filter(|ip| is_family(ip) && !seen.machine.contains(ip))
            .map(ToString::to_string)
            .collect();
        if foreign.is_empty() {
            continue;
        }
        let own: Vec<&IpAddr> = seen.machine.iter().filter(|ip| is_family(ip)).collect();
        let foreign = foreign.join(", ");
        // Behind a router that passes ports on, a machine does not have the address that the world sees.
        let is_private = |ip: &&IpAddr| match ip {
            IpAddr::V4(ip) => ip.is_private() || is_shared(*ip),
            IpAddr::V6(ip) => ip.is_unique_local(),
        };
        said.push(if own.is_empty() {
            format!("{name} leads to {foreign}, but this machine has no such address: remove or mend the {record} record")
        } else {
            let all = own.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            let unless = if own.iter().all(is_private) {
                "right only if what has that address passes the ports on"
            } else {
                "mend the record"
            };
            format!("{name} leads to {foreign}, not to this machine ({all}): {unless} ({record})")
        });
    }
    said
}

/// Carrier-grade NAT (RFC 6598).
fn is_shared(ip: Ipv4Addr) -> bool {
    ip.octets()[0] == 100 && ip.octets()[1] & 0xc0 == 64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_addresses_are_judged() {
        let name = "shop.example";
        for (found, own, wanted) in [
            (Some("192.0.2.7"), "192.0.2.7", ""),
            (Some("192.0.2.7 2001:db8::7"), "192.0.2.7 2001:db8::7", ""),
            (None, "192.0.2.7", "the DNS server of this machine did not say where shop.example leads"),
            (
                Some(""),
                "192.0.2.7",
                "DNS knows no address of shop.example: add an A record with the address of this machine",
            ),
            (
                Some("192.0.2.7"),
                "198.51.100.1",
                "shop.example leads to 192.0.2.7, not to this machine (198.51.100.1): mend the record (A)",
            ),
            (
                Some("192.0.2.7"),
                "10.0.0.5",
                "shop.example leads to 192.0.2.7, not to this machine (10.0.0.5): right only if what has that \
                 address passes the ports on (A)",
            ),
            (
                Some("192.0.2.7 2001:db8::7"),
                "192.0.2.7",
                "shop.example leads to 2001:db8::7, but this machine has no such address: remove or mend the AAAA \
                 record",
            ),
            (
                Some("192.0.2.7 2001:db8::7"),
                "192.0.2.7 2001:db8::1",
                "shop.example leads to 2001:db8::7, not to this machine (2001:db8::1): mend the record (AAAA)",
            ),
        ] {
            let ips = |text: &str| text.split_whitespace().map(|ip| ip.parse().unwrap()).collect();
            let seen = Seen { name: found.map(ips), machine: ips(own) };
            assert_eq!(judge(name, &seen).join("; "), wanted, "{found:?} on {own}");
        }
    }
}
