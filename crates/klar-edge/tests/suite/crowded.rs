//! Every place for a connection is taken: by those who say nothing, and by those who were served.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::common::{App, Edge, HOST, PATIENCE, Visitor};

/// More of them than there are places, so that each worker has some.
const SILENT: usize = 60;
const PLACES: u32 = 20;

fn crowded() -> (App, Edge) {
    let app = App::named("app");
    let edge = Edge::with(&[&app], |edge| edge.config.connections_max = PLACES);
    (app, edge)
}

/// Connects and says nothing, until all have been let in and those who have no place have been sent away.
fn say_nothing(to: SocketAddr) -> Vec<TcpStream> {
    let silent: Vec<_> = (0..SILENT).map(|_| TcpStream::connect(to).unwrap()).collect();
    silent.iter().for_each(|one| one.set_nonblocking(true).unwrap());
    let is_here =
        |one: &&TcpStream| one.peek(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
    let begun = Instant::now();
    while silent.iter().filter(is_here).count() > PLACES as usize {
        assert!(begun.elapsed() < PATIENCE, "nobody is sent away");
        std::thread::sleep(Duration::from_millis(5));
    }
    silent
}

/// Neither a handshake that does not begin nor a connection without a first byte keeps anybody out, at either port.
#[test]
fn who_says_nothing_makes_room() {
    for plain in [false, true] {
        let (_app, edge) = crowded();
        let silent = say_nothing(if plain { edge.http } else { edge.https });
        for _ in 0..5 {
            assert_eq!(edge.get("/").status, 200, "plain: {plain}");
            let mut visitor = edge.plain_visitor();
            visitor.send(format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n"));
            assert_eq!(visitor.answer().status, 308, "plain: {plain}");
        }
        drop(silent);
    }
}

/// The oldest goes first, and it is closed.
#[test]
fn the_oldest_is_sent_away() {
    let (_app, edge) = crowded();
    let mut oldest = Visitor::plain(edge.https);
    let _others = say_nothing(edge.https);
    oldest.assert_end();
}

/// Who was served stays, and whoever comes is turned away.
#[test]
fn who_was_served_stays() {
    let (_app, edge) = crowded();
    let ask = format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n");
    let mut served: Vec<Visitor> = (0..PLACES).map(|_| edge.visitor()).collect();
    for visitor in &mut served {
        visitor.send(&ask);
        assert_eq!(visitor.answer().status, 200);
    }
    Visitor::plain(edge.https).assert_end();
    for visitor in &mut served {
        visitor.send(&ask);
        assert_eq!(visitor.answer().status, 200);
    }
}
