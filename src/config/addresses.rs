//! Networks, hosts and next hops, as they are written in the configuration.
//!
//! Networks, hosts and scopes are those of [`route`](crate::route); here they get the
//! advice that a writer of the file needs. Nothing here resolves a name.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use crate::mail::Address;
use crate::route::{Network, NetworkError, Scope};

pub use crate::route::written::{HostPort, Written as NextHop, parse_host};

/// A network, with an explanation for a text that is none.
///
/// # Errors
/// What to write instead.
pub fn parse_network(text: &str) -> Result<Network, String> {
    text.parse().map_err(|error| match error {
        NetworkError::Address | NetworkError::Prefix => {
            "write a network such as \"192.0.2.0/24\" or \"2001:db8::/32\"".to_owned()
        }
        NetworkError::Everybody => {
            "that is everybody: list the networks of your own clients".to_owned()
        }
        // Host bits that are set are a slip of the pen: which network was meant?
        NetworkError::HostBits(network) => {
            let address = text.split('/').next().unwrap_or(text);
            format!("write \"{network}\" for the network, or \"{address}\" for the one host")
        }
    })
}

/// An address whose mail another one gets.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct AddressPair {
    /// As it is written in messages.
    pub from: Address,
    /// Who gets it.
    pub to: Address,
}

impl fmt::Display for AddressPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {}", self.from, self.to)
    }
}

impl FromStr for AddressPair {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let pair = text.split_once(" = ");
        let pair = pair.and_then(|(from, to)| {
            Some(Self {
                from: from.trim().parse().ok()?,
                to: to.trim().parse().ok()?,
            })
        });
        pair.ok_or_else(|| {
            "write two addresses: \"info@branch.example = anna@branch.example\"".to_owned()
        })
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

/// A domain or all names below it, with an explanation for a text that is neither.
///
/// # Errors
/// What to write instead.
pub fn parse_scope(text: &str) -> Result<Scope, String> {
    if let Some(rest) = text.strip_prefix("*.") {
        return Err(format!("write \".{rest}\" for the names below {rest}"));
    }
    if text.contains('@') {
        return Err("write the domain without the local-part".to_owned());
    }
    text.parse()
        .map_err(|error| format!("the domain {error}; {SCOPE_ADVICE}"))
}

const SCOPE_ADVICE: &str =
    "write \"branch.example\", or \".branch.example\" for the names below it";

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
    fn check<T: fmt::Display>(
        parse: impl FnOnce(&str) -> Result<T, String>,
        text: &str,
        expected: Result<&str, &str>,
    ) {
        match (parse(text), expected) {
            (Ok(got), Ok(expected)) => assert_eq!(got.to_string(), expected, "{text}"),
            (Err(instead), Err(part)) => assert!(instead.contains(part), "{text}: {instead}"),
            (Ok(got), Err(_)) => panic!("{text}: taken as {got}"),
            (Err(instead), Ok(_)) => panic!("{text}: refused: {instead}"),
        }
    }

    #[test]
    fn networks() {
        let check = |text, expected| check(parse_network, text, expected);
        check("192.0.2.0/24", Ok("192.0.2.0/24"));
        check("192.0.2.7", Ok("192.0.2.7/32"));
        check("::1/128", Ok("::1/128"));
        check("2001:db8::/32", Ok("2001:db8::/32"));
        check("0.0.0.0/0", Err("everybody"));
        check("::/0", Err("everybody"));
        check("192.0.2.7/24", Err("\"192.0.2.0/24\""));
        check("192.0.2.0/33", Err("a network such as"));
        check("192.0.2.0/-1", Err("a network such as"));
        check("example.com", Err("a network such as"));
        let anybody = |text: &str| parse_network(text).unwrap().is_anybody();
        assert!(anybody("64.0.0.0/7") && anybody("128.0.0.0/1"));
        assert!(anybody("2000::/3") && !anybody("10.0.0.0/8") && !anybody("2001:db8::/32"));
    }

    #[test]
    fn hosts() {
        let check = |text, expected| check(HostPort::from_str, text, expected);
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
        let long = format!(
            "lmtp:///{}",
            "x".repeat(crate::route::written::SOCKET_PATH_BYTES_MAX)
        );
        let check = |text, expected| check(NextHop::from_str, text, expected);
        check(&long, Err("107"));
        check("smtp://10.0.0.5:2500", Ok("smtp://10.0.0.5:2500"));
        check("smtp://mail.example", Ok("smtp://mail.example:25"));
        check("smtp://[2001:db8::1]:25", Ok("smtp://[2001:db8::1]:25"));
        check("lmtp://127.0.0.1", Ok("lmtp://127.0.0.1:24"));
        check("lmtp:///run/dovecot/lmtp", Ok("lmtp:///run/dovecot/lmtp"));
        check("maildir:/var/mail/x", Ok("maildir:/var/mail/x"));
        check(
            "maildir:/m/{domain}/{local}",
            Ok("maildir:/m/{domain}/{local}"),
        );
        check("maildir:/m/{user}", Err("{local} and {domain}"));
        check("maildir:/m/{local", Err("{local} and {domain}"));
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
        let check = |text, expected| check(parse_scope, text, expected);
        check("Branch.Example", Ok("branch.example"));
        check(".branch.example", Ok(".branch.example"));
        check("*.branch.example", Err("\".branch.example\""));
        check("a@branch.example", Err("without the local-part"));
        check("a b", Err("not allowed there"));
        check("", Err("is empty"));
    }

    #[test]
    fn deliver_to() {
        let check = |text, expected| check(DeliverTo::from_str, text, expected);
        check("203.0.113.9:25", Ok("203.0.113.9:25"));
        check("caller", Ok("caller"));
        check("mx", Ok("mx"));
        check("a b", Err("\"caller\""));
    }
}
