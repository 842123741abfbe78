//! How datagrams of HTTP/3 find the socket, and so the process and the thread, that knows their connection.
//!
//! A connection of QUIC has no socket of its own: it is found by the name that one side gave it (RFC 9000 section 5.1),
//! and its visitor may send from another address at any time. So the core binds, for each address, a row of sockets that
//! share the port: [`LANES`] lanes of one socket for each worker. An edge serves one lane. A name begins with the number
//! of the socket that its connection began at, and a small program in the kernel ([`steer`]) reads that number: what has
//! such a name goes to that socket, and what begins goes to the lane that is open. When another edge takes over it gets
//! the next lane, and the kernel is told that this one is open now: the edge before keeps all of its connections, and
//! neither sees a datagram of the other.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};

use nix::libc;
use serde::{Deserialize, Serialize};

use crate::wire::DESCRIPTORS_MAX;

/// Edges that may have connections at once: one that serves, and those before it. The next one takes the lane of the
/// first again, whose connections are cut if it has any left.
pub const LANES: u16 = 4;
/// Workers that serve HTTP/3, at most: all sockets of an address travel in one message.
pub const WORKERS_MAX: u16 = DESCRIPTORS_MAX as u16 / LANES;
/// The name of a connection, in bytes: two for the socket, the rest by chance.
pub const NAME_LEN: usize = 8;

/// One socket of a row. They were bound in the order of their slots, and the row never shrinks.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DatagramSpec {
    /// Where it is bound.
    pub address: SocketAddr,
    /// Its place in the row, counted from 0.
    pub slot: u16,
    /// How many workers a lane has.
    pub workers: u16,
}

impl DatagramSpec {
    /// All sockets of a row, in order.
    pub fn row(address: SocketAddr, workers: u16) -> impl Iterator<Item = Self> {
        let workers = workers.clamp(1, WORKERS_MAX);
        (0..LANES * workers).map(move |slot| Self { address, slot, workers })
    }

    /// Whose socket it is.
    pub fn lane(&self) -> u16 {
        self.slot / self.workers.max(1)
    }

    /// Which worker serves it, counted from 0.
    pub fn worker(&self) -> u16 {
        self.slot % self.workers.max(1)
    }
}

/// Names a connection that began at the socket in `slot`. Of `chance` six bytes are used.
pub fn name(slot: u16, chance: [u8; 6]) -> [u8; NAME_LEN] {
    let mut name = [0; NAME_LEN];
    name[..2].copy_from_slice(&slot.to_be_bytes());
    name[2..].copy_from_slice(&chance);
    name
}

/// Opens `lane` of a row for what begins; the rest goes where its name says. `socket` is any of the row, and `workers`
/// what its lanes have.
///
/// # Errors
/// What the kernel says, which is nothing unless the socket does not share its port.
pub fn steer(socket: &impl AsFd, lane: u16, workers: u16) -> io::Result<()> {
    let mut program = program(lane, workers.clamp(1, WORKERS_MAX));
    attach(socket, &mut program)
}

/// The program, for a datagram from its first byte. Its result is a slot; one that does not exist leaves the choice to
/// the kernel, and what is read beyond the end of a datagram ends the program with 0.
fn program(lane: u16, workers: u16) -> [libc::sock_filter; 13] {
    const LOAD_BYTE: u16 = 0x30;
    const LOAD_SHORT: u16 = 0x28;
    const IF_ANY_BIT: u16 = 0x45;
    const IF_EQUAL: u16 = 0x15;
    const IF_NOT_LESS: u16 = 0x35;
    const GO: u16 = 0x05;
    const AND: u16 = 0x54;
    const MODULO: u16 = 0x94;
    const ADD: u16 = 0x04;
    const RETURN: u16 = 0x16;
    // RFC 9000 section 17: the first bit says whether the head is a long one, and the next but one of those the kind.
    const LONG: u32 = 0x80;
    const KIND: u32 = 0x30;
    const HANDSHAKE: u32 = 0x20;
    /// The name that the datagram is for: behind the first byte, or behind the version and the name's length as well.
    const NAME: u32 = 1;
    const NAME_OF_LONG: u32 = 6;
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    [
        step(LOAD_BYTE, 0, 0, 0),
        step(IF_ANY_BIT, 0, 4, LONG),
        step(AND, 0, 0, KIND),
        // What is neither in a handshake nor behind one begins: its name is the visitor's choice.
        step(IF_EQUAL, 0, 5, HANDSHAKE),
        step(LOAD_SHORT, 0, 0, NAME_OF_LONG),
        step(GO, 0, 0, 1),
        step(LOAD_SHORT, 0, 0, NAME),
        step(IF_NOT_LESS, 1, 0, u32::from(LANES * workers)),
        step(RETURN, 0, 0, 0),
        // The same worker for all that begins with one name; and for what answers to a name of this lane, that one's.
        step(LOAD_SHORT, 0, 0, NAME_OF_LONG),
        step(MODULO, 0, 0, u32::from(workers)),
        step(ADD, 0, 0, u32::from(lane % LANES * workers)),
        step(RETURN, 0, 0, 0),
    ]
}

#[allow(unsafe_code)]
fn attach(socket: &impl AsFd, program: &mut [libc::sock_filter]) -> io::Result<()> {
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the kernel reads `program` and the `len` instructions that it points to, both of which outlive the call,
    // and writes to neither.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            (&raw const program).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::time::Duration;

    use nix::sys::socket::{
        AddressFamily, SockFlag, SockType, SockaddrIn, bind, setsockopt, socket, sockopt,
    };

    use super::*;

    const WORKERS: u16 = 3;

    fn row() -> Vec<UdpSocket> {
        let mut address = SockaddrIn::new(127, 0, 0, 1, 0);
        let sockets = DatagramSpec::row(([127, 0, 0, 1], 0).into(), WORKERS).map(|_| {
            let made = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::empty(), None).unwrap();
            setsockopt(&made, sockopt::ReusePort, &true).unwrap();
            bind(made.as_raw_fd(), &address).unwrap();
            let made = UdpSocket::from(made);
            address = SockaddrIn::new(127, 0, 0, 1, made.local_addr().unwrap().port());
            made.set_nonblocking(true).unwrap();
            made
        });
        sockets.collect()
    }

    /// The slot that a datagram came to.
    fn arrives(row: &[UdpSocket], from: &UdpSocket, datagram: &[u8]) -> usize {
        from.send_to(datagram, row[0].local_addr().unwrap()).unwrap();
        for _ in 0..30_000 {
            for (slot, socket) in row.iter().enumerate() {
                if socket.recv_from(&mut [0; 100]).is_ok() {
                    return slot;
                }
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        panic!("{datagram:x?} came nowhere");
    }

    fn short(slot: u16) -> Vec<u8> {
        [&[0x40][..], &name(slot, [7; 6]), &[0; 20]].concat()
    }

    fn long(kind: u8, name: &[u8]) -> Vec<u8> {
        [&[0xc0 | kind << 4, 0, 0, 0, 1, name.len() as u8][..], name, &[0; 20]].concat()
    }

    #[test]
    fn datagrams_find_the_socket_of_their_connection() {
        let row = row();
        let visitors: Vec<_> = (0..5).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
        for lane in [0, 3, 1] {
            steer(&row[0], lane, WORKERS).unwrap();
            for visitor in &visitors {
                // Wherever it comes from, and whichever lane is open.
                for slot in 0..LANES * WORKERS {
                    assert_eq!(arrives(&row, visitor, &short(slot)), usize::from(slot), "lane {lane}");
                    let handshake = long(2, &name(slot, [9; 6]));
                    assert_eq!(arrives(&row, visitor, &handshake), usize::from(slot), "lane {lane}");
                }
                for begin in [0x0000_u16, 0x1234, 0xffff] {
                    let slot =
                        arrives(&row, visitor, &long(0, &[&begin.to_be_bytes()[..], b"chance"].concat()));
                    assert_eq!(slot, usize::from(lane * WORKERS + begin % WORKERS), "{begin:x}");
                }
                // What answers to a name while the handshake goes on has that worker.
                for worker in 0..WORKERS {
                    let slot = lane * WORKERS + worker;
                    let initial = long(0, &name(slot, [1; 6]));
                    assert_eq!(arrives(&row, visitor, &initial), usize::from(slot));
                }
                // A name that no edge has given.
                let slot = arrives(&row, visitor, &short(999));
                assert_eq!(slot / usize::from(WORKERS), usize::from(lane));
            }
        }
    }

    #[test]
    fn slots_are_lanes_of_workers() {
        let row: Vec<_> = DatagramSpec::row(([127, 0, 0, 1], 443).into(), 2).collect();
        let lanes: Vec<_> = row.iter().map(|spec| (spec.lane(), spec.worker())).collect();
        assert_eq!(lanes, [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1), (3, 0), (3, 1)]);
        let most = DatagramSpec::row(([127, 0, 0, 1], 443).into(), 1000).count();
        assert!(most <= DESCRIPTORS_MAX, "{most}");
        assert_eq!(&name(0x0102, [3; 6]), &[1, 2, 3, 3, 3, 3, 3, 3]);
    }
}
