//! Local TCP ports: a free one for an instance, and who listens where.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpListener};

/// A port on 127.0.0.1 that nobody listens on now.
///
/// # Errors
/// When the kernel has none left.
pub fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// Whether a listener on this port of 127.0.0.1 could be made now.
pub fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

const STATE_LISTEN: &str = "0A";

/// (port, inode) of every listening TCP socket in this network namespace.
fn listeners() -> Vec<(u16, u64)> {
    let mut found = Vec::new();
    for file in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let Ok(text) = fs::read_to_string(file) else { continue };
        for line in text.lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let [_, local, _, state, _, _, _, _, _, inode, ..] = fields[..] else { continue };
            let port = local.rsplit(':').next().and_then(|hex| u16::from_str_radix(hex, 16).ok());
            if let (STATE_LISTEN, Some(port), Ok(inode)) = (state, port, inode.parse()) {
                found.push((port, inode));
            }
        }
    }
    found
}

/// The sockets that listen on `port`.
pub fn listening_inodes(port: u16) -> Vec<u64> {
    listeners().into_iter().filter(|(listening, _)| *listening == port).map(|(_, inode)| inode).collect()
}

/// The sockets that a process holds. Empty when it may not be looked into.
pub fn socket_inodes(pid: i32) -> Vec<u64> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| {
            let link = fs::read_link(entry.path()).ok()?;
            link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
        })
        .collect()
}

/// The ports that any of `pids` listens on.
pub fn listened_by(pids: &[i32]) -> BTreeSet<u16> {
    let listening = listeners();
    let held: BTreeSet<u64> = pids.iter().flat_map(|pid| socket_inodes(*pid)).collect();
    listening.into_iter().filter(|(_, inode)| held.contains(inode)).map(|(port, _)| port).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_listener_is_found() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(listened_by(&[own]).contains(&port));
        assert!(!is_free(port));
        drop(listener);
        assert!(!listened_by(&[own]).contains(&port));
    }
}
