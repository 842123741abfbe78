//! An edge in front of an app that a script plays, for `bench/edge/vtc.py`.
//!
//! The edge asks instances how they are by connecting, which would be a connection that the script does not expect. So
//! between the two stands a relay that connects to the app only once the edge has something to say, and that closes
//! when either of them does.
//!
//!     stand APP_PORT
//!
//! Over plain HTTP it serves this machine, which it trusts as a proxy (a script speaks no TLS). It prints the port,
//! answers to the host `shop.test`, and ends with its standard input. Its clocks are short, so that scripts are.
#![allow(clippy::unwrap_used)]

#[path = "../tests/suite/common/mod.rs"]
mod common;

use std::io::{Read, Write, stdin};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use common::{Edge, upstream};
use klar_base::upstreams::{ForwardedHeader, Front};

fn main() {
    let app: u16 = std::env::args().nth(1).and_then(|port| port.parse().ok()).expect("the port of the app");
    let relay = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = relay.local_addr().unwrap();
    std::thread::spawn(move || {
        for edge in relay.incoming().flatten() {
            std::thread::spawn(move || serve(edge, SocketAddr::from(([127, 0, 0, 1], app))));
        }
    });
    let edge = Edge::with(&[], |edge| {
        edge.web().upstreams = vec![upstream(1, address)];
        let limits = edge.limits();
        limits.header_timeout = Duration::from_secs(2);
        limits.timeout = Duration::from_secs(2);
        limits.stall_timeout = Duration::from_secs(2);
        edge.site().front = Front {
            proxies: vec!["127.0.0.1".parse().unwrap()],
            header: ForwardedHeader::XForwarded,
            plain: true,
        };
    });
    println!("{}", edge.http.port());
    let _ = stdin().read_to_end(&mut Vec::new());
}

/// What goes wrong on one side ends the other: an app that does not listen is one that hangs up at once.
fn serve(mut edge: TcpStream, app: SocketAddr) {
    if !matches!(edge.peek(&mut [0]), Ok(1..)) {
        return;
    }
    let Ok(mut app) = TcpStream::connect(app) else { return };
    let (mut asked, mut heard) = (edge.try_clone().unwrap(), app.try_clone().unwrap());
    let asking = std::thread::spawn(move || {
        // An app that reads no more may still be answering.
        if pass(&mut asked, &mut heard) {
            let _ = heard.shutdown(Shutdown::Both);
        }
    });
    pass(&mut app, &mut edge);
    let _ = edge.shutdown(Shutdown::Both);
    let _ = asking.join();
}

/// Whether it was the sender who ended it.
fn pass(from: &mut TcpStream, to: &mut TcpStream) -> bool {
    let mut part = [0; 16 << 10];
    loop {
        match from.read(&mut part) {
            Ok(0) | Err(_) => return true,
            Ok(count) if to.write_all(&part[..count]).is_err() => return false,
            Ok(_) => {}
        }
    }
}
