//! Hosts and next hops as people write them: in the configuration, and in a command that
//! sends a message another way.
//!
//! What is wrong with a text is said in the words that the writer needs. Nothing here
//! resolves a name.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use super::{CustomerName, Host, HostName, NextHopRef, Protocol, Target, TlsPolicy};
use crate::mail::Domain;
use crate::maildir;

/// A host, with an explanation for a text that is none.
///
/// # Errors
/// What to write instead.
pub fn parse_host(text: &str) -> Result<HostName, String> {
    let wanted = "write a host name or an address";
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
    if let Ok(address) = bare.unwrap_or(text).parse() {
        return Ok(HostName::Address(address));
    }
    // "300.1.2.3" would pass as a name; nobody means one.
    if text.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return Err(wanted.to_owned());
    }
    match text.parse::<Domain>() {
        Ok(name) if !name.is_literal() => Ok(HostName::Name(name)),
        _ => Err(wanted.to_owned()),
    }
}

/// A host and, where it was written, a port.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct HostPort {
    /// Name or address.
    pub host: HostName,
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
                host: HostName::Address(address),
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
        let host = parse_host(host).map_err(|_| wanted())?;
        Ok(Self { host, port })
    }
}

/// Port of SMTP (RFC 5321 §4.5.4.2).
pub const SMTP_PORT: u16 = 25;
/// Longest path of a Unix socket: what `sun_path` holds, without its final NUL.
pub const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Port that LMTP is usually given; RFC 2033 §5 only forbids 25.
pub const LMTP_PORT: u16 = 24;

/// Where a static route leads.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Written {
    /// `smtp://host:port`, port 25 if it is not written.
    Smtp {
        /// Name (its addresses, not its MX) or address.
        host: HostName,
        /// Where it listens.
        port: u16,
    },
    /// `lmtp://host:port`, port 24 if it is not written (RFC 2033).
    Lmtp {
        /// Name or address.
        host: HostName,
        /// Where it listens.
        port: u16,
    },
    /// `lmtp:///path`: a Unix socket on this machine.
    LmtpSocket(PathBuf),
    /// `maildir:/path`: files, for a site without a mail server. `{local}` and
    /// `{domain}` stand for the recipient's.
    Maildir(PathBuf),
    /// `hold`: waits until it is released.
    Hold,
    /// `discard`: accepted and thrown away, on purpose.
    Discard,
    /// `mx`: by the domain's MX records, whatever the mode is.
    Mx,
}

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Smtp { host, port } => write!(f, "smtp://{host}:{port}"),
            Self::Lmtp { host, port } => write!(f, "lmtp://{host}:{port}"),
            Self::LmtpSocket(path) => write!(f, "lmtp://{}", path.display()),
            Self::Maildir(path) => write!(f, "maildir:{}", path.display()),
            Self::Hold => f.write_str("hold"),
            Self::Discard => f.write_str("discard"),
            Self::Mx => f.write_str("mx"),
        }
    }
}

impl FromStr for Written {
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
        } else if let Some(path) = text.strip_prefix("lmtp://").filter(|p| p.starts_with('/')) {
            if path.len() <= SOCKET_PATH_BYTES_MAX && !path.contains('\0') {
                Ok(Self::LmtpSocket(path.into()))
            } else {
                Err(format!(
                    "a socket has a path of at most {SOCKET_PATH_BYTES_MAX} octets"
                ))
            }
        } else if let Some(rest) = text.strip_prefix("lmtp://") {
            let (host, port) = host_port(rest, LMTP_PORT)?;
            Ok(Self::Lmtp { host, port })
        } else if let Some(rest) = text.strip_prefix("maildir:") {
            maildir(rest).map(|()| Self::Maildir(rest.into()))
        } else if text.parse::<HostPort>().is_ok() {
            Err(format!("write \"smtp://{text}\""))
        } else {
            Err(
                "write smtp://HOST:PORT, lmtp://HOST:PORT, lmtp:///PATH, maildir:/PATH, hold, \
                 discard or mx"
                    .to_owned(),
            )
        }
    }
}

/// Whether it is the path of a Maildir, with nothing in braces but what is known.
fn maildir(path: &str) -> Result<(), String> {
    if !path.starts_with('/') || path.contains('\0') {
        return Err("write the whole path, such as \"maildir:/var/mail/branch\"".to_owned());
    }
    let rest = path
        .replace(maildir::LOCAL_PART, "")
        .replace(maildir::DOMAIN, "");
    if rest.contains(['{', '}']) {
        return Err(format!(
            "only {} and {} may stand in braces",
            maildir::LOCAL_PART,
            maildir::DOMAIN
        ));
    }
    Ok(())
}

impl Target {
    /// Where it leads mail for `domain`, the text of a [`Domain`].
    #[must_use]
    pub fn next_hop<'a>(&'a self, domain: &'a str) -> NextHopRef<'a> {
        match self {
            Self::Host(host) => NextHopRef::Host(host),
            Self::Mx => NextHopRef::Mx(domain),
            Self::Smarthost(group) => NextHopRef::Smarthost(*group),
            Self::Hold(customer) => NextHopRef::Hold { customer, domain },
            Self::Discard => NextHopRef::Discard,
            Self::Maildir(path) => NextHopRef::Maildir(path),
        }
    }
}

impl Written {
    /// What it means.
    #[must_use]
    pub fn target(&self) -> Target {
        let host = |host: &HostName, port: u16, protocol| {
            Target::Host(Host {
                host: host.clone(),
                port,
                protocol,
                tls: match protocol {
                    Protocol::Smtp => TlsPolicy::Opportunistic.into(),
                    // On this machine or next to it.
                    Protocol::Lmtp => TlsPolicy::None.into(),
                },
            })
        };
        match self {
            Self::Smtp { host: name, port } => host(name, *port, Protocol::Smtp),
            Self::Lmtp { host: name, port } => host(name, *port, Protocol::Lmtp),
            Self::LmtpSocket(path) => {
                host(&HostName::Socket(path.as_path().into()), 0, Protocol::Lmtp)
            }
            Self::Maildir(path) => Target::Maildir(path.clone()),
            Self::Hold => Target::Hold(CustomerName::of_routes()),
            Self::Discard => Target::Discard,
            Self::Mx => Target::Mx,
        }
    }
}
