//! A part of the internet, as people write it: `10.0.0.0/8`, `2001:db8::/32`, `203.0.113.7`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The addresses that begin with the same bits (CIDR, RFC 4632; RFC 4291 section 2.3). A single address is a network
/// of all its bits.
///
/// An IPv4 address that is written as IPv6 (`::ffff:10.0.0.1`, RFC 4291 section 2.5.5.2) is the IPv4 address, here
/// and in [`Network::contains`]: which of the two a socket gives depends on how it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network {
    address: IpAddr,
    /// The bits that count: at most 32 or 128.
    prefix: u8,
}

/// Why a text is no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// What stands before the `/` is no address.
    #[error("not an IP address")]
    Address,
    /// What stands after it is no number, or too large a one.
    #[error("the part after `/` is not a number from 0 to {max}")]
    Prefix {
        /// The bits of such an address.
        max: u8,
    },
    /// The address has bits that its prefix does not reach, so one of the two is wrong.
    #[error("the address has more bits than `/{}` takes", .meant.prefix)]
    Bits {
        /// The network that the address is in.
        meant: Network,
    },
}

impl Network {
    /// The network of the first `prefix` bits of `address`; what follows them must be zero.
    ///
    /// # Errors
    /// [`NetworkError::Prefix`] and [`NetworkError::Bits`].
    pub fn new(address: IpAddr, prefix: u8) -> Result<Self, NetworkError> {
        // Only a mapped address whose prefix leaves the mapping alone is an IPv4 network.
        let (address, prefix) = match (address, address.to_canonical()) {
            (IpAddr::V6(_), IpAddr::V4(inner)) if (96..=128).contains(&prefix) => {
                (IpAddr::V4(inner), prefix - 96)
            }
            _ => (address, prefix),
        };
        let max = width(address);
        if prefix > max {
            return Err(NetworkError::Prefix { max });
        }
        let meant = Self { address: cut(address, prefix), prefix };
        if meant.address == address { Ok(meant) } else { Err(NetworkError::Bits { meant }) }
    }

    /// Whether an address lies in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        width(address) == width(self.address) && cut(address, self.prefix) == self.address
    }

    /// Whether every address of its kind lies in it.
    pub fn is_everybody(&self) -> bool {
        self.prefix == 0
    }
}

/// The bits of an address.
fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// An address without the bits after the first `prefix`.
fn cut(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V4((u32::from(address) & mask).into())
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V6((u128::from(address) & mask).into())
        }
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NetworkError::Address)?;
        let max = width(address);
        let prefix = match prefix {
            None => max,
            Some(digits) if digits.len() <= 3 && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse().map_err(|_| NetworkError::Prefix { max })?
            }
            Some(_) => return Err(NetworkError::Prefix { max }),
        };
        Self::new(address, prefix)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.prefix == width(self.address) {
            return f.pad(&self.address.to_string());
        }
        f.pad(&format!("{}/{}", self.address, self.prefix))
    }
}

impl TryFrom<String> for Network {
    type Error = NetworkError;
    fn try_from(text: String) -> Result<Self, NetworkError> {
        text.parse()
    }
}

impl From<Network> for String {
    fn from(network: Network) -> String {
        network.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_a_network() {
        for (text, printed) in [
            ("10.0.0.0/8", Ok("10.0.0.0/8")),
            ("203.0.113.7", Ok("203.0.113.7")),
            ("203.0.113.7/32", Ok("203.0.113.7")),
            ("2001:db8::/32", Ok("2001:db8::/32")),
            ("2001:DB8:0:0::1", Ok("2001:db8::1")),
            ("::1/128", Ok("::1")),
            ("0.0.0.0/0", Ok("0.0.0.0/0")),
            ("::/0", Ok("::/0")),
            ("::ffff:10.0.0.0/104", Ok("10.0.0.0/8")),
            ("::ffff:10.0.0.1", Ok("10.0.0.1")),
            ("10.0.0.5/8", Err("the address has more bits than `/8` takes")),
            ("2001:db8::1/64", Err("the address has more bits than `/64` takes")),
            ("10.0.0.0/33", Err("the part after `/` is not a number from 0 to 32")),
            ("10.0.0.0/", Err("the part after `/` is not a number from 0 to 32")),
            ("10.0.0.0/+8", Err("the part after `/` is not a number from 0 to 32")),
            ("::/129", Err("the part after `/` is not a number from 0 to 128")),
            ("10.0.0.0/8/8", Err("the part after `/` is not a number from 0 to 32")),
            ("10.0.0", Err("not an IP address")),
            ("010.0.0.1", Err("not an IP address")),
            ("[::1]", Err("not an IP address")),
            ("proxy.example", Err("not an IP address")),
            (" 10.0.0.1", Err("not an IP address")),
            ("", Err("not an IP address")),
        ] {
            let read = text.parse::<Network>().map(|network| network.to_string());
            let read = read.map_err(|error| error.to_string());
            assert_eq!(read.as_deref().map_err(String::as_str), printed, "{text}");
        }
    }

    #[test]
    fn who_is_in_it() {
        for (network, address, is_in) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.0", false),
            ("10.0.0.0/8", "::ffff:10.1.2.3", true),
            ("10.0.0.0/8", "::10.1.2.3", false),
            ("203.0.113.7", "203.0.113.7", true),
            ("203.0.113.7", "203.0.113.6", false),
            ("192.168.4.0/22", "192.168.7.255", true),
            ("192.168.4.0/22", "192.168.8.0", false),
            ("2001:db8::/32", "2001:db8:ffff::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
            ("0.0.0.0/0", "1.2.3.4", true),
            ("0.0.0.0/0", "::1", false),
            ("::/0", "::1", true),
            ("::/0", "1.2.3.4", false),
        ] {
            let network: Network = network.parse().unwrap();
            assert_eq!(network.contains(address.parse().unwrap()), is_in, "{address} in {network}");
        }
    }

    #[test]
    fn a_network_survives_a_round_trip() {
        for text in ["\"10.0.0.0/8\"", "\"203.0.113.7\"", "\"2001:db8::/32\""] {
            let network: Network = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&network).unwrap(), text);
        }
        assert!(serde_json::from_str::<Network>("\"10.0.0.1/8\"").is_err());
    }
}
