//! Sets of addresses of the Internet Protocol.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// `@ipMatch`, `@ipMatchFromFile`: addresses and networks.
///
/// 8 bytes for each that is IPv4, 32 bytes for each that is IPv6; asking takes time logarithmic in their number.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IpSet {
    /// First and last address of each network, in order, none touching the next.
    v4: Vec<(u32, u32)>,
    v6: Vec<(u128, u128)>,
}

/// What is wrong with such a list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no address and no network, such as 192.0.2.0/24 or 2001:db8::/32")]
pub struct NotAnAddress(String);

impl IpSet {
    /// Reads addresses with commas between, or lines of them; a `#` begins a comment.
    ///
    /// # Errors
    /// The first that is none.
    pub fn parse(text: &str) -> Result<Self, NotAnAddress> {
        let mut set = Self::default();
        for line in text.lines() {
            let line = line.split_once('#').map_or(line, |(addresses, _)| addresses);
            for part in line.split(',').map(str::trim).filter(|part| !part.is_empty()) {
                set.add(part).ok_or_else(|| NotAnAddress(part.to_owned()))?;
            }
        }
        set.v4 = merged(set.v4, |last| last.saturating_add(1));
        set.v6 = merged(set.v6, |last| last.saturating_add(1));
        Ok(set)
    }

    fn add(&mut self, part: &str) -> Option<()> {
        let (address, bits) = match part.split_once('/') {
            None => (part, None),
            Some((address, bits)) => (address, Some(bits.parse::<u32>().ok()?)),
        };
        match address.parse().ok()? {
            IpAddr::V4(address) => {
                let bits = bits.unwrap_or(32);
                let mask = u32::MAX.checked_shl(32_u32.checked_sub(bits)?).unwrap_or(0);
                let first = address.to_bits() & mask;
                self.v4.push((first, first | !mask));
            }
            IpAddr::V6(address) => {
                let bits = bits.unwrap_or(128);
                let mask = u128::MAX.checked_shl(128_u32.checked_sub(bits)?).unwrap_or(0);
                let first = address.to_bits() & mask;
                self.v6.push((first, first | !mask));
            }
        }
        Some(())
    }

    /// Whether an address is in it.
    ///
    /// An IPv4 address that is written as an IPv6 one (`::ffff:192.0.2.1`) is looked for as both: a socket that
    /// listens for both kinds names visitors so.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.contains_v4(address),
            IpAddr::V6(address) => {
                self.contains_v6(address)
                    || address.to_ipv4_mapped().is_some_and(|address| self.contains_v4(address))
            }
        }
    }

    /// Whether a value is an address that is in it. A value that is no address is not.
    #[must_use]
    pub fn contains_text(&self, value: &[u8]) -> bool {
        str::from_utf8(value)
            .ok()
            .and_then(|value| value.parse().ok())
            .is_some_and(|address| self.contains(address))
    }

    fn contains_v4(&self, address: Ipv4Addr) -> bool {
        is_in(&self.v4, address.to_bits())
    }

    fn contains_v6(&self, address: Ipv6Addr) -> bool {
        is_in(&self.v6, address.to_bits())
    }
}

fn is_in<T: Ord + Copy>(ranges: &[(T, T)], address: T) -> bool {
    let behind = ranges.partition_point(|(first, _)| *first <= address);
    behind.checked_sub(1).and_then(|at| ranges.get(at)).is_some_and(|(_, last)| address <= *last)
}

/// In order, and those that overlap or touch made one.
fn merged<T: Ord + Copy>(mut ranges: Vec<(T, T)>, next: impl Fn(T) -> T) -> Vec<(T, T)> {
    ranges.sort_unstable();
    ranges.dedup_by(|range, before| {
        let touches = range.0 <= next(before.1);
        if touches {
            before.1 = before.1.max(range.1);
        }
        touches
    });
    ranges.shrink_to_fit();
    ranges
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn addresses() {
        let set =
            IpSet::parse("127.0.0.1, 10.0.0.0/8,::1\n# a comment\n2001:db8::/32 # another\n\n192.0.2.77/24")
                .unwrap();
        for (value, is_in) in [
            ("127.0.0.1", true),
            ("127.0.0.2", false),
            ("10.255.255.255", true),
            ("11.0.0.0", false),
            ("192.0.2.1", true),
            ("::1", true),
            ("::2", false),
            ("2001:db8:ffff::", true),
            ("2001:db9::", false),
            ("::ffff:10.1.2.3", true),
            ("no address", false),
            ("10.0.0.1/8", false),
            ("", false),
        ] {
            assert_eq!(set.contains_text(value.as_bytes()), is_in, "{value}");
        }
        assert!(IpSet::parse("0.0.0.0/0,::/0").unwrap().contains_text(b"203.0.113.9"));
        assert_eq!(IpSet::parse("").unwrap(), IpSet::default());
        for wrong in ["10.0.0.0/33", "::/129", "10.0.0", "host", "10.0.0.0/x"] {
            assert!(IpSet::parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(IpSet::parse("10.0.0.0/25,10.0.0.128/25").unwrap(), IpSet::parse("10.0.0.0/24").unwrap());
    }

    proptest! {
        #[test]
        fn a_set_is_the_sum_of_its_networks(networks in proptest::collection::vec((0_u32..64, 26_u32..=32), 1..6), address in 0_u32..64) {
            let text = |(address, bits): &(u32, u32)| format!("{}/{bits}", Ipv4Addr::from_bits(*address));
            let all = networks.iter().map(text).collect::<Vec<_>>().join(",");
            let address = IpAddr::V4(Ipv4Addr::from_bits(address));
            let expected = networks.iter().any(|network| IpSet::parse(&text(network)).unwrap().contains(address));
            prop_assert_eq!(IpSet::parse(&all).unwrap().contains(address), expected);
        }
    }
}
