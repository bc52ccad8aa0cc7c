//! A network in CIDR form (RFC 4632, RFC 4291 §2.3).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A network: an address and how many of its leading bits count.
///
/// IPv4 addresses that come mapped into IPv6 (`::ffff:192.0.2.1`, as a socket bound
/// to `::` shows them) are IPv4 here, in networks as in the addresses looked up.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Network {
    /// The bits behind the prefix are zero.
    address: IpAddr,
    /// 1 ..= 32 or 1 ..= 128.
    prefix_bits: u8,
}

/// Why a text is no network.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NetworkError {
    /// The part before the slash is no IP address.
    #[error("is not an IP address or a network like 192.0.2.0/24")]
    Address,
    /// The part behind the slash is no number, or too large for the family.
    #[error("has no prefix length of 1 to 32 (IPv4) or 1 to 128 (IPv6) after the slash")]
    Prefix,
    /// Prefix length 0: everybody.
    #[error("is the whole Internet; list the networks that are meant")]
    Everybody,
    /// Bits behind the prefix are set: the writer meant another network or prefix.
    /// With the network that has the prefix.
    #[error("has bits set behind its prefix length; {0} has none")]
    HostBits(Network),
}

impl Network {
    /// A network from its parts.
    ///
    /// # Errors
    /// [`NetworkError`], except for `Address`.
    pub fn new(address: IpAddr, prefix_bits: u8) -> Result<Self, NetworkError> {
        let (address, prefix_bits) = match (address, address.to_canonical()) {
            (IpAddr::V6(_), mapped @ IpAddr::V4(_)) if prefix_bits > 96 => {
                (mapped, prefix_bits - 96)
            }
            // All of IPv4, written in IPv6.
            (IpAddr::V6(_), IpAddr::V4(_)) => return Err(NetworkError::Everybody),
            _ => (address, prefix_bits),
        };
        if prefix_bits == 0 {
            return Err(NetworkError::Everybody);
        }
        if prefix_bits > family_bits(address) {
            return Err(NetworkError::Prefix);
        }
        if masked(address, prefix_bits) != address {
            return Err(NetworkError::HostBits(Self {
                address: masked(address, prefix_bits),
                prefix_bits,
            }));
        }
        Ok(Self {
            address,
            prefix_bits,
        })
    }

    /// The network of so many bits that an address is in. `None` if its family has fewer,
    /// or for prefix length 0.
    #[must_use]
    pub fn around(address: IpAddr, prefix_bits: u8) -> Option<Self> {
        let address = address.to_canonical();
        let fits = (1..=family_bits(address)).contains(&prefix_bits);
        fits.then(|| Self {
            address: masked(address, prefix_bits),
            prefix_bits,
        })
    }

    /// How many leading bits count.
    #[must_use]
    pub const fn prefix_bits(&self) -> u8 {
        self.prefix_bits
    }

    /// 127.0.0.0/8 and ::1/128.
    #[must_use]
    pub fn loopback() -> Vec<Self> {
        vec![
            Self {
                address: IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)),
                prefix_bits: 8,
            },
            Self {
                address: IpAddr::V6(Ipv6Addr::LOCALHOST),
                prefix_bits: 128,
            },
        ]
    }

    /// True for a block so large that whoever is in it is anybody: shorter than /8
    /// (IPv4) or /16 (IPv6).
    #[must_use]
    pub const fn is_anybody(&self) -> bool {
        match self.address {
            IpAddr::V4(_) => self.prefix_bits < 8,
            IpAddr::V6(_) => self.prefix_bits < 16,
        }
    }

    /// Whether the address is in this network.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.address.is_ipv4()
            && masked(address, self.prefix_bits) == self.address
    }
}

fn family_bits(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// The address with the bits behind the prefix cleared.
fn masked(address: IpAddr, prefix_bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(u32::from(32 - prefix_bits.min(32)));
            IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask.unwrap_or(0)))
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(u32::from(128 - prefix_bits.min(128)));
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask.unwrap_or(0)))
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_bits)
    }
}

/// `192.0.2.0/24`, or one address without a slash.
impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NetworkError::Address)?;
        let prefix_bits = match prefix {
            None => family_bits(address),
            // `parse` would take a plus sign.
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
                digits.parse().map_err(|_| NetworkError::Prefix)?
            }
            Some(_) => return Err(NetworkError::Prefix),
        };
        Self::new(address, prefix_bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_parsed() {
        let check = |text: &str, expected: Result<&str, NetworkError>| {
            let got = text.parse::<Network>().map(|n| n.to_string());
            assert_eq!(got.as_deref(), expected.as_ref().copied(), "{text:?}");
        };
        check("192.0.2.0/24", Ok("192.0.2.0/24"));
        check("192.0.2.1", Ok("192.0.2.1/32"));
        check("192.0.2.1/32", Ok("192.0.2.1/32"));
        check("2001:db8::/32", Ok("2001:db8::/32"));
        check("::1", Ok("::1/128"));
        check("::ffff:192.0.2.0/120", Ok("192.0.2.0/24"));
        check("::ffff:192.0.2.1", Ok("192.0.2.1/32"));
        check("0.0.0.0/0", Err(NetworkError::Everybody));
        check("::/0", Err(NetworkError::Everybody));
        check("::ffff:0:0/96", Err(NetworkError::Everybody));
        check("::ffff:0:0/8", Err(NetworkError::Everybody));
        check(
            "192.0.2.1/24",
            Err(NetworkError::HostBits("192.0.2.0/24".parse().unwrap())),
        );
        check("192.0.2.0/33", Err(NetworkError::Prefix));
        check("2001:db8::/129", Err(NetworkError::Prefix));
        check("192.0.2.0/256", Err(NetworkError::Prefix));
        check("192.0.2.0/", Err(NetworkError::Prefix));
        check("192.0.2.0/+8", Err(NetworkError::Prefix));
        check("192.0.2.0/-1", Err(NetworkError::Prefix));
        check("192.0.2/24", Err(NetworkError::Address));
        check("", Err(NetworkError::Address));
        check("localhost", Err(NetworkError::Address));
    }

    #[test]
    fn every_prefix_length_cuts_where_it_should() {
        for prefix_bits in 1..=32u8 {
            let base = 0xA5A5_A5A5u32 & (u32::MAX << (32 - prefix_bits));
            let network = Network::new(Ipv4Addr::from_bits(base).into(), prefix_bits).unwrap();
            for bit in 0..32u8 {
                let address = Ipv4Addr::from_bits(base ^ (1 << (31 - bit)));
                assert_eq!(network.contains(address.into()), bit >= prefix_bits);
                let mapped = address.to_ipv6_mapped();
                assert_eq!(network.contains(mapped.into()), bit >= prefix_bits);
            }
        }
        for prefix_bits in 1..=128u8 {
            let base = (0xA5A5u128 << 112 | 0xA5A5) & (u128::MAX << (128 - prefix_bits));
            let network = Network::new(Ipv6Addr::from_bits(base).into(), prefix_bits).unwrap();
            for bit in 0..128u8 {
                let address = Ipv6Addr::from_bits(base ^ (1 << (127 - bit)));
                assert_eq!(network.contains(address.into()), bit >= prefix_bits);
            }
        }
    }
}
