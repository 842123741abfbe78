//! Any bytes, cut anywhere, over a real socket: what is read says what a second reader says, and nothing behind it is
//! taken.

use std::io::Write;
use std::net::{Shutdown, TcpListener};

use klar_fuzz::{Feed, Fuzz};
use tokio::io::AsyncReadExt;

use super::*;

const BINARY_V4: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71\x09\x0a\0\0\x01\xdc\x04\x01\xbb";
const BINARY_TLS: &[u8] =
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x14\xcb\0\x71\x09\x0a\0\0\x01\xdc\x04\x01\xbb\x20\0\x05\x01\0\0\0\0";
const BINARY_V6: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x24\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x09\
\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\xdc\x04\x01\xbb";

const FUZZ: Fuzz<'_> = Fuzz {
    name: "PROXY protocol",
    seeds: &[
        b"PROXY TCP4 203.0.113.9 10.0.0.1 56324 443\r\nGET / HTTP/1.1\r\n\r\n",
        b"PROXY TCP6 2001:db8::9 2001:db8::1 56324 443\r\nrest",
        b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n",
        BINARY_V4,
        BINARY_TLS,
        BINARY_V6,
        b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0\x16\x03\x01",
    ],
    words: &[
        b"PROXY ",
        b"TCP4 ",
        b"TCP6 ",
        b"UNKNOWN",
        b"\r\n",
        b" 10.0.0.1",
        b" ::1",
        b" 65536",
        b" 080",
        b"\r\n\r\n\0\r\nQUIT\n",
        b"\x21\x11\0\x0c",
        b"\x21\x21\0\x24",
        b"\x20\0\x05\x01\0\0\0\0",
        b"\x03\0\x04",
    ],
    longest: 300,
};

/// Reads the same by other means: the line in whole words, the bytes by their places. `Ok`: how long the header is,
/// and whom it names.
fn second_reader(bytes: &[u8]) -> Result<(usize, Option<IpAddr>), ()> {
    if bytes.starts_with(b"PROXY ") {
        let end = bytes.iter().position(|byte| *byte == b'\n').ok_or(())? + 1;
        let line = std::str::from_utf8(&bytes[..end]).map_err(drop)?.strip_suffix("\r\n").ok_or(())?;
        if end > 107 || line.contains('\r') {
            return Err(());
        }
        let words: Vec<&str> = line.split(' ').collect();
        let is_port = |word: &str| {
            let digits = word.bytes().all(|byte| byte.is_ascii_digit());
            digits && word.parse::<u32>().is_ok_and(|port| port < 65536 && port.to_string() == word)
        };
        return match words[..] {
            ["PROXY", "UNKNOWN", ..] => Ok((end, None)),
            ["PROXY", "TCP4", from, to, here, there] if is_port(here) && is_port(there) => {
                let (from, _): (Ipv4Addr, Ipv4Addr) =
                    (from.parse().map_err(drop)?, to.parse().map_err(drop)?);
                Ok((end, Some(from.into())))
            }
            ["PROXY", "TCP6", from, to, here, there] if is_port(here) && is_port(there) => {
                let (from, _): (Ipv6Addr, Ipv6Addr) =
                    (from.parse().map_err(drop)?, to.parse().map_err(drop)?);
                Ok((end, Some(from.into())))
            }
            _ => Err(()),
        };
    }
    if !bytes.starts_with(&SIGNATURE) || bytes.len() < 16 {
        return Err(());
    }
    let length = 16 + usize::from(bytes[14]) * 256 + usize::from(bytes[15]);
    let whole = bytes.get(..length).filter(|_| length <= 16 + REST_MAX).ok_or(())?;
    match (whole[12], whole[13]) {
        (0x20, _) => Ok((length, None)),
        (0x21, 0x00) => Ok((length, None)),
        (0x21, 0x11) if length >= 28 => {
            Ok((length, Some(Ipv4Addr::new(whole[16], whole[17], whole[18], whole[19]).into())))
        }
        (0x21, 0x21) if length >= 52 => {
            let groups: Vec<u16> =
                whole[16..32].chunks(2).map(|two| u16::from(two[0]) << 8 | u16::from(two[1])).collect();
            let groups: [u16; 8] = groups.try_into().map_err(drop)?;
            Ok((length, Some(Ipv6Addr::from(groups).into())))
        }
        _ => Err(()),
    }
}

#[test]
fn a_header_is_what_a_second_reader_says() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    FUZZ.run(|input| {
        let mut sender = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (receiver, _) = listener.accept().unwrap();
        receiver.set_nonblocking(true).unwrap();
        // Nobody waits for an answer here, so all of it is in the socket before it is read.
        sender.write_all(input).unwrap();
        sender.shutdown(Shutdown::Write).unwrap();
        let (header, left) = runtime.block_on(async {
            let mut receiver = TcpStream::from_std(receiver).unwrap();
            let header = read(&mut receiver).await;
            let mut left = Vec::new();
            receiver.read_to_end(&mut left).await.unwrap();
            (header, left)
        });
        match (header, second_reader(input)) {
            (Ok(None), _) => assert!(input.is_empty(), "something was passed over"),
            (Ok(Some(header)), Ok((length, address))) => {
                let named = match header {
                    Header::Local => None,
                    Header::Proxied(named) => named.address,
                };
                assert_eq!(named, address);
                assert_eq!(left, &input[length..], "what follows the header is for others");
            }
            (Ok(Some(header)), Err(())) => panic!("{header:?} out of what is none"),
            // Extensions and their sum are judged by one of the two only.
            (Err(_), Ok((length, _))) => assert!(length > FIXED && input.starts_with(&SIGNATURE)),
            (Err(_), Err(())) => {}
        }
    });
}

/// What is written well is read, with the sum of itself and with whatever else a proxy adds.
#[test]
fn a_good_header_of_version_2_is_read() {
    Fuzz { name: "PROXY protocol, written", longest: 400, ..FUZZ }.run(|input| {
        let mut feed = Feed::new(input);
        let is_v4 = feed.below(2) == 0;
        let secured = feed.below(2) == 1;
        let addresses: Vec<u8> = (0..if is_v4 { 12 } else { 36 }).map(|_| feed.byte()).collect();
        let mut rest = addresses.clone();
        if secured {
            rest.extend([SSL, 0, 5, SSL_CLIENT, 0, 0, 0, 0]);
        }
        let mut extend = |kind: u8, value: &[u8]| {
            rest.push(kind);
            rest.extend((value.len() as u16).to_be_bytes());
            rest.extend(value);
        };
        // Its own kinds, which nobody knows here.
        extend(0xe0 | (feed.byte() & 0x0f), feed.until(b'\n'));
        extend(CRC32C, &[0; 4]);
        let at = FIXED + rest.len() - 4;
        let mut header = SIGNATURE.to_vec();
        header.extend([0x21, if is_v4 { 0x11 } else { 0x21 }]);
        header.extend((rest.len() as u16).to_be_bytes());
        header.extend(rest);
        let sum = crc32c(header.iter());
        header[at..].copy_from_slice(&sum.to_be_bytes());
        let address: IpAddr = match is_v4 {
            true => <[u8; 4]>::try_from(&addresses[..4]).unwrap().into(),
            false => <[u8; 16]>::try_from(&addresses[..16]).unwrap().into(),
        };
        assert_eq!(version_2(&header), Ok(Header::Proxied(Named { address: Some(address), secured })));
        // Whatever is changed of what it says on its way, the sum tells; but whoever speaks for itself says nothing else.
        let place = feed.below((FIXED + addresses.len()) as u64) as usize;
        header[place] ^= 1_u8 << feed.below(8);
        let changed = version_2(&header);
        assert!(changed.is_err() || changed == Ok(Header::Local), "{changed:?} after {place} was changed");
    });
}
