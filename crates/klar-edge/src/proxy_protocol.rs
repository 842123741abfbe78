//! The PROXY protocol, versions 1 and 2: a proxy says before the first byte of its visitor who that is (HAProxy,
//! doc/proxy-protocol.txt; sections 2.1 and 2.2 are those of the versions).
//!
//! Only the header is taken out of the socket. What is malformed in any way, longer than a proxy has reason to write, or
//! of a kind that no proxy of a web site uses, is an error: after it nothing can be trusted.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// What a header of version 2 begins with.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// What a header of version 1 begins with.
const WORD: &[u8] = b"PROXY ";
/// The longest header of version 1, with its line end.
const LINE_MAX: usize = 107;
/// What is read to tell the versions apart: no header is shorter.
const FIRST: usize = 12;
/// The part of version 2 that has a fixed length.
const FIXED: usize = 16;
/// The longest rest of version 2 that is read, in bytes. Addresses take 36 at most; what proxies add to them (names,
/// networks of clouds, what TLS knows of a visitor) fits many times.
const REST_MAX: usize = 4096;

/// Extensions that matter here (section 2.2.1): a checksum, and what is known of TLS.
const CRC32C: u8 = 0x03;
const SSL: u8 = 0x20;
/// The visitor came over TLS.
const SSL_CLIENT: u8 = 0x01;

/// What a header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header {
    /// The proxy speaks for itself, to see how this side is.
    Local,
    /// It speaks for somebody.
    Proxied(Named),
}

/// For whom a proxy speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Named {
    /// `None`: it does not know.
    pub address: Option<IpAddr>,
    /// It came to the proxy over TLS. Version 1 cannot say that.
    pub secured: bool,
}

/// Why a header cannot be used, in words that follow the name of who sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Malformed {}

impl From<Malformed> for io::Error {
    fn from(malformed: Malformed) -> Self {
        Self::new(io::ErrorKind::InvalidData, malformed)
    }
}

const NONE: Malformed = Malformed("it did not begin with a PROXY header");
const LINE: Malformed = Malformed("its PROXY header of version 1 is malformed");
const LENGTH: Malformed = Malformed("its PROXY header is not as long as it says");
const KIND: Malformed = Malformed("its PROXY header is for something else than TCP over IPv4 or IPv6");

/// Takes the header out of a socket. `None`: it ended before its first byte, as when a balancer only looks whether
/// somebody listens.
///
/// # Errors
/// [`Malformed`] within an error of kind [`io::ErrorKind::InvalidData`]; otherwise what befell the socket.
pub async fn read(stream: &mut TcpStream) -> io::Result<Option<Header>> {
    let mut head = [0; LINE_MAX];
    let mut got = 0;
    while got < FIRST {
        let more = stream.read(&mut head[got..FIRST]).await?;
        match more {
            0 if got == 0 => return Ok(None),
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            more => got += more,
        }
        let is_one = |start: &[u8]| start.iter().zip(&head[..got]).all(|(wanted, byte)| wanted == byte);
        // Who is no proxy may wait for an answer before it sends more.
        if !is_one(&SIGNATURE) && !is_one(WORD) {
            return Err(NONE.into());
        }
    }
    if head.starts_with(&SIGNATURE) {
        stream.read_exact(&mut head[FIRST..FIXED]).await?;
        let rest = usize::from(u16::from_be_bytes([head[14], head[15]]));
        if rest > REST_MAX {
            return Err(Malformed("its PROXY header is longer than 4112 bytes").into());
        }
        let mut whole = head[..FIXED].to_vec();
        whole.resize(FIXED + rest, 0);
        stream.read_exact(&mut whole[FIXED..]).await?;
        return Ok(Some(version_2(&whole)?));
    }
    // Where the line ends is only known when it is seen, and what follows it is not for here.
    while !head[..got].ends_with(b"\r\n") {
        // No line ends within what was read to tell the versions apart.
        if got == LINE_MAX || head[..got].contains(&b'\n') {
            return Err(LINE.into());
        }
        let here = stream.peek(&mut head[got..]).await?;
        if here == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let end = head[..got + here].windows(2).position(|two| two == b"\r\n");
        let length = end.map_or(got + here, |end| end + 2);
        stream.read_exact(&mut head[got..length]).await?;
        got = length;
    }
    Ok(Some(version_1(&head[..got])?))
}

/// Reads a line, with its end.
fn version_1(line: &[u8]) -> Result<Header, Malformed> {
    let line = line.strip_suffix(b"\r\n").filter(|_| line.len() <= LINE_MAX).ok_or(LINE)?;
    let line = std::str::from_utf8(line).map_err(|_| LINE)?;
    // Whatever may follow `UNKNOWN`, somebody else might take half a line end for a whole one.
    if line.contains(['\r', '\n']) {
        return Err(LINE);
    }
    let mut parts = line.split(' ');
    let mut part = || parts.next().ok_or(LINE);
    if part()? != "PROXY" {
        return Err(NONE);
    }
    let is_v4 = match part()? {
        "TCP4" => true,
        "TCP6" => false,
        // Whatever follows.
        "UNKNOWN" => return Ok(Header::Proxied(Named { address: None, secured: false })),
        _ => return Err(KIND),
    };
    let address = |text: &str| match is_v4 {
        true => text.parse().map(IpAddr::V4).map_err(|_| LINE),
        false => text.parse().map(IpAddr::V6).map_err(|_| LINE),
    };
    let port = |text: &str| {
        let is_plain = text == "0" || !text.starts_with(['0', '+']);
        text.parse::<u16>().ok().filter(|_| is_plain).ok_or(LINE)
    };
    let (source, _, _, _) = (address(part()?)?, address(part()?)?, port(part()?)?, port(part()?)?);
    match parts.next() {
        Some(_) => Err(LINE),
        None => Ok(Header::Proxied(Named { address: Some(source), secured: false })),
    }
}

/// Reads a whole header, from its signature on.
fn version_2(header: &[u8]) -> Result<Header, Malformed> {
    let (fixed, rest) = header.split_at_checked(FIXED).ok_or(LENGTH)?;
    if fixed[..FIRST] != SIGNATURE {
        return Err(NONE);
    }
    if usize::from(u16::from_be_bytes([fixed[14], fixed[15]])) != rest.len() {
        return Err(LENGTH);
    }
    match fixed[12] {
        // Of this nothing else matters, not even the family.
        0x20 => return Ok(Header::Local),
        0x21 => {}
        other if other >> 4 != 2 => {
            return Err(Malformed("its PROXY header is of a version that klar does not know"));
        }
        _ => return Err(Malformed("its PROXY header has a command that klar does not know")),
    }
    let (address, extensions) = match fixed[13] {
        0x00 => (None, rest),
        0x11 => {
            let (addresses, extensions) = rest.split_at_checked(12).ok_or(LENGTH)?;
            let source: [u8; 4] = addresses[..4].try_into().map_err(|_| LENGTH)?;
            (Some(Ipv4Addr::from(source).into()), extensions)
        }
        0x21 => {
            let (addresses, extensions) = rest.split_at_checked(36).ok_or(LENGTH)?;
            let source: [u8; 16] = addresses[..16].try_into().map_err(|_| LENGTH)?;
            (Some(Ipv6Addr::from(source).into()), extensions)
        }
        _ => return Err(KIND),
    };
    let secured = read_extensions(header, extensions)?;
    Ok(Header::Proxied(Named { address, secured }))
}

/// Looks through the extensions, the end of `header`, and says whether the visitor came over TLS.
fn read_extensions(header: &[u8], mut extensions: &[u8]) -> Result<bool, Malformed> {
    const EXTENSION: Malformed = Malformed("its PROXY header has a malformed extension");
    let (mut secured, mut checked) = (false, false);
    while !extensions.is_empty() {
        let (&[kind, high, low], after) = extensions.split_first_chunk().ok_or(EXTENSION)?;
        let length = usize::from(u16::from_be_bytes([high, low]));
        let (value, rest) = after.split_at_checked(length).ok_or(EXTENSION)?;
        match kind {
            CRC32C => {
                let told: [u8; 4] = value.try_into().map_err(|_| EXTENSION)?;
                let at = header.len() - rest.len() - 4;
                // The sum is that of a header whose sum is zero (section 2.2.3).
                let sum = crc32c(header[..at].iter().chain(&[0; 4]).chain(rest));
                if checked || sum != u32::from_be_bytes(told) {
                    return Err(Malformed("the checksum of its PROXY header is wrong"));
                }
                checked = true;
            }
            // A byte of flags, four of what became of a certificate, and more extensions.
            SSL if value.len() < 5 => return Err(EXTENSION),
            SSL => secured |= value[0] & SSL_CLIENT != 0,
            _ => {}
        }
        extensions = rest;
    }
    Ok(secured)
}

/// CRC-32C (Castagnoli; RFC 3720, appendix B.4). A header is short and there is one for each connection.
fn crc32c<'a>(bytes: impl Iterator<Item = &'a u8>) -> u32 {
    !bytes.fold(u32::MAX, |mut sum, byte| {
        sum ^= u32::from(*byte);
        for _ in 0..8 {
            let mask = (sum & 1).wrapping_neg();
            sum = (sum >> 1) ^ (0x82f6_3b78 & mask);
        }
        sum
    })
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn proxied(address: &str) -> Result<Header, Malformed> {
        Ok(Header::Proxied(Named { address: Some(address.parse().unwrap()), secured: false }))
    }

    #[test]
    fn version_1_is_read_as_it_is_written() {
        let nobody = Ok(Header::Proxied(Named { address: None, secured: false }));
        let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(LINE_MAX - 15));
        for (line, header) in [
            ("PROXY TCP4 203.0.113.9 10.0.0.1 56324 443\r\n", proxied("203.0.113.9")),
            ("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", proxied("255.255.255.255")),
            ("PROXY TCP6 2001:db8::9 2001:db8::1 56324 443\r\n", proxied("2001:db8::9")),
            ("PROXY TCP6 ::ffff:203.0.113.9 ::1 0 443\r\n", proxied("::ffff:203.0.113.9")),
            ("PROXY UNKNOWN\r\n", nobody),
            ("PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n", nobody),
            ("PROXY TCP4 2001:db8::9 2001:db8::1 56324 443\r\n", Err(LINE)),
            ("PROXY TCP6 203.0.113.9 10.0.0.1 56324 443\r\n", Err(LINE)),
            ("PROXY TCP4 203.0.113.9 10.0.0.1 56324 65536\r\n", Err(LINE)),
            ("PROXY TCP4 203.0.113.9 10.0.0.1 056324 443\r\n", Err(LINE)),
            ("PROXY TCP4 203.0.113.9 10.0.0.1 +5632 443\r\n", Err(LINE)),
            ("PROXY TCP4 203.0.113.009 10.0.0.1 56324 443\r\n", Err(LINE)),
            ("PROXY TCP4 203.0.113.9 10.0.0.1 56324\r\n", Err(LINE)),
            ("PROXY TCP4 203.0.113.9 10.0.0.1 56324 443 more\r\n", Err(LINE)),
            ("PROXY TCP4  203.0.113.9 10.0.0.1 56324 443\r\n", Err(LINE)),
            ("PROXY TCP4 203.0.113.9 10.0.0.1 56324 443 \r\n", Err(LINE)),
            ("PROXY TCP4 203.0.113.9 10.0.0.1 56324 443\n", Err(LINE)),
            ("PROXY UDP4 203.0.113.9 10.0.0.1 56324 443\r\n", Err(KIND)),
            ("PROXY\r\n", Err(LINE)),
            ("PROXY UNKNOWN \n\r\n", Err(LINE)),
            ("PROXY UNKNOWN\r \r\n", Err(LINE)),
            ("proxy UNKNOWN\r\n", Err(NONE)),
            (&long, Err(LINE)),
        ] {
            assert_eq!(version_1(line.as_bytes()), header, "{line:?}");
        }
    }

    /// A header of version 2 with these extensions; the length is right.
    fn binary(command: u8, family: u8, body: &[u8], extensions: &[(u8, &[u8])]) -> Vec<u8> {
        let mut rest = body.to_vec();
        for (kind, value) in extensions {
            rest.push(*kind);
            rest.extend_from_slice(&(value.len() as u16).to_be_bytes());
            rest.extend_from_slice(value);
        }
        let mut header = SIGNATURE.to_vec();
        header.extend_from_slice(&[command, family]);
        header.extend_from_slice(&(rest.len() as u16).to_be_bytes());
        header.extend_from_slice(&rest);
        header
    }

    const V4: &[u8] = &[203, 0, 113, 9, 10, 0, 0, 1, 0xdc, 0x04, 0x01, 0xbb];

    /// The header with the sum of itself, for which it has four zeroes at `at`.
    fn summed(mut header: Vec<u8>, at: usize) -> Vec<u8> {
        let sum = crc32c(header.iter());
        header[at..at + 4].copy_from_slice(&sum.to_be_bytes());
        header
    }

    #[test]
    fn version_2_is_read_as_it_is_written() {
        let v6: Vec<u8> = ["2001:db8::9", "2001:db8::1"]
            .iter()
            .flat_map(|text| text.parse::<Ipv6Addr>().unwrap().octets())
            .chain([0xdc, 0x04, 0x01, 0xbb])
            .collect();
        let nobody = Ok(Header::Proxied(Named { address: None, secured: false }));
        let tls = Ok(Header::Proxied(Named { address: Some([203, 0, 113, 9].into()), secured: true }));
        let zero: &[(u8, &[u8])] = &[(0x04, b"padding"), (CRC32C, &[0; 4])];
        let good = binary(0x21, 0x11, V4, zero);
        let at = good.len() - 4;
        let good = summed(good, at);
        let mut flipped = good.clone();
        flipped[FIXED] ^= 1;
        let mut short = good.clone();
        short.pop();
        let wrong_sum = Err(Malformed("the checksum of its PROXY header is wrong"));
        let extension = Err(Malformed("its PROXY header has a malformed extension"));
        for (what, header, wanted) in [
            ("IPv4", binary(0x21, 0x11, V4, &[]), proxied("203.0.113.9")),
            ("IPv6", binary(0x21, 0x21, &v6, &[]), proxied("2001:db8::9")),
            (
                "extensions",
                binary(0x21, 0x11, V4, &[(0xea, b"vpce-1"), (0x05, b"id")]),
                proxied("203.0.113.9"),
            ),
            ("TLS", binary(0x21, 0x11, V4, &[(SSL, &[1, 0, 0, 0, 0])]), tls),
            ("TLS, with more in it", binary(0x21, 0x11, V4, &[(SSL, b"\x07\0\0\0\0\x21\0\x07TLSv1.3")]), tls),
            ("no TLS", binary(0x21, 0x11, V4, &[(SSL, &[0, 0, 0, 0, 1])]), proxied("203.0.113.9")),
            ("a sum", good, proxied("203.0.113.9")),
            ("a wrong sum", flipped, wrong_sum),
            ("a sum of three bytes", binary(0x21, 0x11, V4, &[(CRC32C, &[0; 3])]), extension),
            ("half an extension", binary(0x21, 0x11, &[V4, &[4, 0]].concat(), &[]), extension),
            ("a long extension", binary(0x21, 0x11, &[V4, &[4, 0, 1]].concat(), &[]), extension),
            ("little of TLS", binary(0x21, 0x11, V4, &[(SSL, &[1, 0, 0, 0])]), extension),
            ("the proxy itself", binary(0x20, 0x00, &[], &[]), Ok(Header::Local)),
            ("the proxy itself, with an address", binary(0x20, 0x11, V4, &[]), Ok(Header::Local)),
            ("nobody", binary(0x21, 0x00, &[], &[]), nobody),
            ("too short for IPv4", binary(0x21, 0x11, &V4[1..], &[]), Err(LENGTH)),
            ("too short for IPv6", binary(0x21, 0x21, &v6[1..], &[]), Err(LENGTH)),
            ("shorter than it says", short, Err(LENGTH)),
            ("a datagram", binary(0x21, 0x12, V4, &[]), Err(KIND)),
            ("a Unix socket", binary(0x21, 0x31, &[0; 216], &[]), Err(KIND)),
            (
                "version 3",
                binary(0x31, 0x11, V4, &[]),
                Err(Malformed("its PROXY header is of a version that klar does not know")),
            ),
            (
                "another command",
                binary(0x22, 0x11, V4, &[]),
                Err(Malformed("its PROXY header has a command that klar does not know")),
            ),
        ] {
            assert_eq!(version_2(&header), wanted, "{what}");
        }
    }

    /// RFC 3720, appendix B.4; and "123456789", by which sums are compared everywhere.
    #[test]
    fn the_sum_is_the_one_that_is_meant() {
        assert_eq!(crc32c(b"123456789".iter()), 0xe306_9283);
        assert_eq!(crc32c([0_u8; 32].iter()), 0x8a91_36aa);
        assert_eq!(crc32c([0xff_u8; 32].iter()), 0x62a8_ab43);
    }

    proptest! {
        #[test]
        fn bytes_of_any_kind_are_read_without_harm(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            command in 0x20_u8..0x23,
            family in prop_oneof![Just(0_u8), Just(0x11), Just(0x21), any::<u8>()],
        ) {
            let _ = version_1(&bytes);
            let _ = version_1(&[b"PROXY TCP4 ", &bytes[..], b"\r\n"].concat());
            let _ = version_2(&bytes);
            let _ = version_2(&binary(command, family, &bytes, &[]));
        }

        #[test]
        fn what_is_written_is_read_the_same(
            source in any::<IpAddr>(),
            port in any::<u16>(),
            extensions in proptest::collection::vec((0x30_u8..0xff, proptest::collection::vec(any::<u8>(), 0..50)), 0..5),
        ) {
            let wanted = Ok(Header::Proxied(Named { address: Some(source), secured: false }));
            let (word, family, octets) = match source {
                IpAddr::V4(address) => ("TCP4", 0x11, address.octets().to_vec()),
                IpAddr::V6(address) => ("TCP6", 0x21, address.octets().to_vec()),
            };
            prop_assert_eq!(version_1(format!("PROXY {word} {source} {source} {port} 443\r\n").as_bytes()), wanted);
            let body = [&octets[..], &octets, &port.to_be_bytes(), &[1, 187]].concat();
            let mut extensions: Vec<(u8, &[u8])> =
                extensions.iter().map(|(kind, value)| (*kind, value.as_slice())).collect();
            extensions.insert(0, (CRC32C, &[0; 4]));
            let kind = FIXED + body.len();
            let header = summed(binary(0x21, family, &body, &extensions), kind + 3);
            prop_assert_eq!(version_2(&header), wanted);
            // No byte can be changed without being noticed, but the one that says that there is a sum.
            for at in (FIXED..header.len()).filter(|at| *at != kind) {
                let mut wrong = header.clone();
                wrong[at] ^= 0x40;
                prop_assert_ne!(version_2(&wrong), wanted, "byte {}", at);
            }
        }
    }
}
