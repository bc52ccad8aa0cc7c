//! Networks, hosts and next hops, as they are written in the configuration.
//!
//! Nothing here resolves a name. The integrating code turns these values into
//! the types of `route`.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use crate::mail::Domain;

/// A block of addresses: `192.0.2.0/24`, `2001:db8::/32`, or a single address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Network {
    /// With all host bits zero.
    address: IpAddr,
    /// Bits that count: at most 32 or 128.
    prefix: u8,
}

impl Network {
    /// The first address.
    #[must_use]
    pub const fn address(self) -> IpAddr {
        self.address
    }

    /// Bits that count.
    #[must_use]
    pub const fn prefix(self) -> u8 {
        self.prefix
    }

    /// True for a block so large that whoever may relay from it is "anybody":
    /// shorter than /8 (IPv4) or /16 (IPv6).
    #[must_use]
    pub const fn is_anybody(self) -> bool {
        match self.address {
            IpAddr::V4(_) => self.prefix < 8,
            IpAddr::V6(_) => self.prefix < 16,
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wanted = || "write a network such as \"192.0.2.0/24\" or \"2001:db8::/32\"".to_owned();
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wanted())?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => bits,
            Some(prefix) => prefix.parse().map_err(|_| wanted())?,
        };
        if prefix > bits {
            return Err(format!("write at most /{bits} behind this address"));
        }
        let first = first_address(address, prefix);
        if first != address {
            // Host bits that are set are a slip of the pen: which network was meant?
            return Err(format!(
                "write \"{first}/{prefix}\" for the network, or \"{address}\" for the one host"
            ));
        }
        Ok(Self { address, prefix })
    }
}

/// The address with the host bits cleared.
fn first_address(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V4((v4.to_bits() & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V6((v6.to_bits() & mask).into())
        }
    }
}

/// A host: a name that is resolved later, or an address.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Host {
    /// Resolved when it is needed.
    Name(Domain),
    /// Needs no DNS.
    Address(IpAddr),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
            Self::Address(address) => address.fmt(f),
        }
    }
}

impl FromStr for Host {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wanted = "write a host name or an address";
        let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
        if let Ok(address) = bare.unwrap_or(text).parse() {
            return Ok(Self::Address(address));
        }
        // "300.1.2.3" would pass as a name; nobody means one.
        if text.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
            return Err(wanted.to_owned());
        }
        match text.parse::<Domain>() {
            Ok(name) if !name.is_literal() => Ok(Self::Name(name)),
            _ => Err(wanted.to_owned()),
        }
    }
}

/// A host and, where it was written, a port.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct HostPort {
    /// Name or address.
    pub host: Host,
    /// As written.
    pub port: Option<u16>,
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.host),
            None => self.host.fmt(f),
        }
    }
}

impl FromStr for HostPort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wanted =
            || "write \"host:port\", such as \"mail.example:25\" or \"[::1]:25\"".to_owned();
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self {
                host: Host::Address(address),
                port: None,
            });
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
            _ => (text, None),
        };
        let port = match port.map(str::parse::<u16>) {
            None => None,
            Some(Ok(0) | Err(_)) => return Err(wanted()),
            Some(Ok(port)) => Some(port),
        };
        let host = host.parse().map_err(|_| wanted())?;
        Ok(Self { host, port })
    }
}

/// A socket address with an explanation for a text that is none.
///
/// # Errors
/// What to write instead.
pub fn parse_socket_address(text: &str) -> Result<SocketAddr, String> {
    text.parse::<SocketAddr>().map_err(|_| {
        if let Ok(address) = text.parse::<IpAddr>() {
            return format!("add the port: \"{}\"", SocketAddr::new(address, 25));
        }
        if let Some(port) = text.strip_prefix("*:").or(text.strip_prefix(':')) {
            return format!(
                "write \"0.0.0.0:{port}\" for all IPv4 or \"[::]:{port}\" for all IPv6"
            );
        }
        "write an address and a port, such as \"127.0.0.1:2525\" or \"[::1]:2525\"".to_owned()
    })
}

/// A domain, or all names below it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum DomainPattern {
    /// `branch.example`: this name only.
    Exact(Domain),
    /// `.branch.example`: the names below, not the name itself.
    Below(Domain),
}

impl fmt::Display for DomainPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(domain) => domain.fmt(f),
            Self::Below(domain) => write!(f, ".{domain}"),
        }
    }
}

impl FromStr for DomainPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let domain = |text: &str| {
            text.parse::<Domain>()
                .map_err(|error| format!("the domain {error}; {PATTERN_ADVICE}"))
        };
        if let Some(rest) = text.strip_prefix("*.") {
            return Err(format!("write \".{rest}\" for the names below {rest}"));
        }
        match text.strip_prefix('.') {
            Some(rest) => domain(rest).map(Self::Below),
            None if text.contains('@') => Err("write the domain without the local-part".to_owned()),
            None => domain(text).map(Self::Exact),
        }
    }
}

const PATTERN_ADVICE: &str =
    "write \"branch.example\", or \".branch.example\" for the names below it";

/// Port of SMTP (RFC 5321 §4.5.4.2).
pub const SMTP_PORT: u16 = 25;
/// Port that LMTP is usually given; RFC 2033 §5 only forbids 25.
pub const LMTP_PORT: u16 = 24;

/// Where a static route leads.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum NextHop {
    /// `smtp://host:port`, port 25 if it is not written.
    Smtp {
        /// Name (its addresses, not its MX) or address.
        host: Host,
        /// Where it listens.
        port: u16,
    },
    /// `lmtp://host:port`, port 24 if it is not written (RFC 2033).
    Lmtp {
        /// Name or address.
        host: Host,
        /// Where it listens.
        port: u16,
    },
    /// `maildir:/path`: files, for a site without a mail server.
    Maildir(PathBuf),
    /// `hold`: waits until it is released.
    Hold,
    /// `discard`: accepted and thrown away, on purpose.
    Discard,
    /// `mx`: by the domain's MX records, whatever the mode is.
    Mx,
}

impl fmt::Display for NextHop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Smtp { host, port } => write!(f, "smtp://{host}:{port}"),
            Self::Lmtp { host, port } => write!(f, "lmtp://{host}:{port}"),
            Self::Maildir(path) => write!(f, "maildir:{}", path.display()),
            Self::Hold => f.write_str("hold"),
            Self::Discard => f.write_str("discard"),
            Self::Mx => f.write_str("mx"),
        }
    }
}

impl FromStr for NextHop {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let host_port = |text: &str, default: u16| {
            let HostPort { host, port } = text.parse()?;
            Ok::<_, String>((host, port.unwrap_or(default)))
        };
        match text {
            "hold" => return Ok(Self::Hold),
            "discard" => return Ok(Self::Discard),
            "mx" => return Ok(Self::Mx),
            _ => {}
        }
        if let Some(rest) = text.strip_prefix("smtp://") {
            let (host, port) = host_port(rest, SMTP_PORT)?;
            Ok(Self::Smtp { host, port })
        } else if let Some(rest) = text.strip_prefix("lmtp://") {
            let (host, port) = host_port(rest, LMTP_PORT)?;
            Ok(Self::Lmtp { host, port })
        } else if let Some(rest) = text.strip_prefix("maildir:") {
            if rest.starts_with('/') {
                Ok(Self::Maildir(rest.into()))
            } else {
                Err("write the whole path, such as \"maildir:/var/mail/branch\"".to_owned())
            }
        } else if text.parse::<HostPort>().is_ok() {
            Err(format!("write \"smtp://{text}\""))
        } else {
            Err(
                "write smtp://HOST:PORT, lmtp://HOST:PORT, maildir:/PATH, hold, discard or mx"
                    .to_owned(),
            )
        }
    }
}

/// Where a customer's mail is delivered when it is released.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DeliverTo {
    /// A configured host; port 25 if none is written.
    Host(HostPort),
    /// The MX hosts of the domain.
    Mx,
    /// The address from which the release came. Only after authentication.
    Caller,
}

impl fmt::Display for DeliverTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(host) => host.fmt(f),
            Self::Mx => f.write_str("mx"),
            Self::Caller => f.write_str("caller"),
        }
    }
}

impl FromStr for DeliverTo {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "mx" => Ok(Self::Mx),
            "caller" => Ok(Self::Caller),
            _ => text
                .parse()
                .map(Self::Host)
                .map_err(|instead| format!("{instead}, or \"mx\" or \"caller\"")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `expected`: the value as it is written again, or a part of the advice.
    fn check<T>(text: &str, expected: Result<&str, &str>)
    where
        T: FromStr<Err = String> + fmt::Display,
    {
        match (text.parse::<T>(), expected) {
            (Ok(got), Ok(expected)) => assert_eq!(got.to_string(), expected, "{text}"),
            (Err(instead), Err(part)) => assert!(instead.contains(part), "{text}: {instead}"),
            (Ok(got), Err(_)) => panic!("{text}: taken as {got}"),
            (Err(instead), Ok(_)) => panic!("{text}: refused: {instead}"),
        }
    }

    #[test]
    fn networks() {
        let check = check::<Network>;
        check("192.0.2.0/24", Ok("192.0.2.0/24"));
        check("192.0.2.7", Ok("192.0.2.7/32"));
        check("::1/128", Ok("::1/128"));
        check("2001:db8::/32", Ok("2001:db8::/32"));
        check("0.0.0.0/0", Ok("0.0.0.0/0"));
        check("::/0", Ok("::/0"));
        check("192.0.2.7/24", Err("\"192.0.2.0/24\""));
        check("192.0.2.0/33", Err("/32"));
        check("192.0.2.0/-1", Err("a network such as"));
        check("example.com", Err("a network such as"));
        let anybody = |text: &str| text.parse::<Network>().unwrap().is_anybody();
        assert!(anybody("0.0.0.0/0") && anybody("128.0.0.0/1") && anybody("::/0"));
        assert!(anybody("2000::/3") && !anybody("10.0.0.0/8") && !anybody("2001:db8::/32"));
    }

    #[test]
    fn hosts() {
        let check = check::<HostPort>;
        check("mail.example:25", Ok("mail.example:25"));
        check("Mail.Example", Ok("mail.example"));
        check("192.0.2.1:587", Ok("192.0.2.1:587"));
        check("[::1]:25", Ok("[::1]:25"));
        check("[::1]", Ok("[::1]"));
        check("::1", Ok("[::1]"));
        check("mail.example:0", Err("host:port"));
        check("mail.example:99999", Err("host:port"));
        check("300.1.2.3:25", Err("host:port"));
        check(":25", Err("host:port"));
        check("a b:25", Err("host:port"));
    }

    #[test]
    fn socket_addresses() {
        let instead = |text: &str| parse_socket_address(text).unwrap_err();
        assert!(parse_socket_address("[::]:25").is_ok());
        assert!(instead("127.0.0.1").contains("\"127.0.0.1:25\""));
        assert!(instead("::1").contains("\"[::1]:25\""));
        assert!(instead("*:25").contains("0.0.0.0:25"));
        assert!(instead(":25").contains("0.0.0.0:25"));
        assert!(instead("localhost:25").contains("127.0.0.1"));
    }

    #[test]
    fn next_hops() {
        let check = check::<NextHop>;
        check("smtp://10.0.0.5:2500", Ok("smtp://10.0.0.5:2500"));
        check("smtp://mail.example", Ok("smtp://mail.example:25"));
        check("smtp://[2001:db8::1]:25", Ok("smtp://[2001:db8::1]:25"));
        check("lmtp://127.0.0.1", Ok("lmtp://127.0.0.1:24"));
        check("maildir:/var/mail/x", Ok("maildir:/var/mail/x"));
        check("maildir:x", Err("the whole path"));
        check("hold", Ok("hold"));
        check("discard", Ok("discard"));
        check("mx", Ok("mx"));
        check("10.0.0.5:25", Err("\"smtp://10.0.0.5:25\""));
        check("mail.example", Err("\"smtp://mail.example\""));
        check("http://x/", Err("smtp://HOST:PORT"));
        check("", Err("smtp://HOST:PORT"));
    }

    #[test]
    fn patterns() {
        let check = check::<DomainPattern>;
        check("Branch.Example", Ok("branch.example"));
        check(".branch.example", Ok(".branch.example"));
        check("*.branch.example", Err("\".branch.example\""));
        check("a@branch.example", Err("without the local-part"));
        check("a b", Err("not allowed there"));
        check("", Err("is empty"));
    }

    #[test]
    fn deliver_to() {
        let check = check::<DeliverTo>;
        check("203.0.113.9:25", Ok("203.0.113.9:25"));
        check("caller", Ok("caller"));
        check("mx", Ok("mx"));
        check("a b", Err("\"caller\""));
    }
}
