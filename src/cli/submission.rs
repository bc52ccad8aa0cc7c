//! A session with the running server, for commands that hand it mail: plain SMTP over
//! loopback, one command at a time.
//!
//! Rules:
//! - All recipients or none, unless the caller says that some will do.
//! - A message whose end cannot be read is never ended: the connection is dropped, and
//!   the server throws away what it has.
//!
//! What it does not do: no TLS and no AUTH. The server is on this machine, and lets it
//! relay by its network.

use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use super::eml;
use crate::mail::{BodyKind, Recipient, ReversePath, Sender};
use crate::smtp::client::stuffing::Stuffer;
use crate::time::WallTime;

/// The server is on this machine: it answers at once, or stores a large message.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(120);
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);

/// RFC 5321 §4.5.3.1.5, and more.
const REPLY_LINE_BYTES_MAX: u64 = 2048;
const REPLY_LINES_MAX: usize = 100;

/// Octets of a message in memory.
const PIECE_BYTES: usize = 64 << 10;

/// Largest configuration that is looked at for a listener.
const CONFIG_BYTES_MAX: u64 = 4 << 20;

/// Why a message was not taken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum NotTaken {
    /// The server is not there, or not now.
    Later(String),
    /// It said no.
    Refused(Said),
    /// The message could not be read.
    Unreadable(String),
}

impl NotTaken {
    /// For a person.
    pub(super) fn sentence(&self) -> String {
        match self {
            Self::Later(what) => what.clone(),
            Self::Refused(said) => format!("the server said {said}"),
            Self::Unreadable(why) => format!("reading the message failed: {why}"),
        }
    }
}

/// A reply.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Said {
    pub(super) code: u16,
    /// All lines, without codes.
    pub(super) text: String,
}

impl Said {
    /// The subject and detail of an enhanced code (RFC 3463), where there is one.
    pub(super) fn enhanced(&self) -> Option<(u16, u16)> {
        let word = self.text.split_ascii_whitespace().next()?;
        let mut parts = word.split('.').map(str::parse::<u16>);
        let class = parts.next()?.ok()?;
        let (subject, detail) = (parts.next()?.ok()?, parts.next()?.ok()?);
        (class == self.code / 100 && parts.next().is_none()).then_some((subject, detail))
    }

    fn checked(self) -> Result<Self, NotTaken> {
        match self.code {
            200..400 => Ok(self),
            400..500 => Err(NotTaken::Later(self.to_string())),
            _ => Err(NotTaken::Refused(self)),
        }
    }
}

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.code, super::text::escaped(&self.text))
    }
}

/// What the server can do.
#[derive(Default)]
struct Offers {
    eight_bit: bool,
    smtputf8: bool,
    dsn: bool,
    priority: bool,
    require_tls: bool,
    deliver_by: bool,
    future_release: bool,
}

/// A session that has said EHLO.
pub(super) struct Submission {
    stream: BufReader<TcpStream>,
    offers: Offers,
}

fn gone(error: &io::Error) -> NotTaken {
    NotTaken::Later(format!("the connection to the server broke: {error}"))
}

impl Submission {
    /// Connects and says who we are.
    pub(super) fn open(server: SocketAddr, name: &str) -> Result<Self, NotTaken> {
        let stream = TcpStream::connect_timeout(&server, CONNECT_TIME_MAX).map_err(|error| {
            NotTaken::Later(format!("the server at {server} cannot be reached: {error}"))
        })?;
        stream
            .set_read_timeout(Some(ANSWER_TIME_MAX))
            .and_then(|()| stream.set_write_timeout(Some(ANSWER_TIME_MAX)))
            .map_err(|error| gone(&error))?;
        let mut session = Self {
            stream: BufReader::new(stream),
            offers: Offers::default(),
        };
        session.reply()?.checked()?;
        let said = session.command(&format!("EHLO {name}"))?.checked()?;
        for line in said.text.lines() {
            let word = line.split_ascii_whitespace().next().unwrap_or_default();
            let offers = &mut session.offers;
            match word.to_ascii_uppercase().as_str() {
                "8BITMIME" => offers.eight_bit = true,
                "SMTPUTF8" => offers.smtputf8 = true,
                "DSN" => offers.dsn = true,
                "MT-PRIORITY" => offers.priority = true,
                "REQUIRETLS" => offers.require_tls = true,
                "DELIVERBY" => offers.deliver_by = true,
                "FUTURERELEASE" => offers.future_release = true,
                _ => {}
            }
        }
        Ok(session)
    }

    fn command(&mut self, line: &str) -> Result<Said, NotTaken> {
        let line = format!("{line}\r\n");
        let written = self.stream.get_mut().write_all(line.as_bytes());
        written.map_err(|error| gone(&error))?;
        self.reply()
    }

    fn reply(&mut self) -> Result<Said, NotTaken> {
        let garbled = || NotTaken::Later("the server gave no SMTP reply".to_owned());
        let mut text = String::new();
        for _ in 0..REPLY_LINES_MAX {
            let mut line = Vec::new();
            (&mut self.stream)
                .take(REPLY_LINE_BYTES_MAX)
                .read_until(b'\n', &mut line)
                .map_err(|error| gone(&error))?;
            if line.is_empty() {
                let what = "the server closed the connection";
                return Err(NotTaken::Later(what.to_owned()));
            }
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches(['\r', '\n']);
            let code = line.get(..3).and_then(|code| code.parse().ok());
            let Some(code @ 200..600) = code else {
                return Err(garbled());
            };
            if !text.is_empty() {
                text.push('\n');
            }
            text.push_str(line.get(4..).unwrap_or_default());
            if line.as_bytes().get(3) != Some(&b'-') {
                return Ok(Said { code, text });
            }
        }
        Err(garbled())
    }

    /// MAIL with what the server can take of the parameters.
    fn mail(&self, sender: &Sender, arrival: Option<WallTime>, now: WallTime) -> String {
        let offers = &self.offers;
        let mut known = sender.clone();
        if !offers.eight_bit {
            known.body = BodyKind::SevenBit;
        }
        known.smtputf8 &= offers.smtputf8;
        if !offers.dsn {
            known.ret = None;
            known.envid = None;
        }
        known.priority = known.priority.filter(|_| offers.priority);
        known.require_tls &= offers.require_tls;
        let later = known.hold_until.filter(|until| until.at() > now);
        known.hold_until = later.filter(|_| offers.future_release);
        let mut line = format!("MAIL FROM:<{}>", sender.reverse_path.as_str());
        line.push_str(&eml::mail_parameters(&known));
        if let Some(by) = sender.deliver_by.filter(|_| offers.deliver_by) {
            let seconds = by.deadline.since(now).as_secs().clamp(1, 999_999_999);
            let mode = match by.mode {
                crate::mail::DeliverByMode::Return => "R",
                crate::mail::DeliverByMode::Notify => "N",
            };
            let trace = if by.trace { "T" } else { "" };
            line.push_str(&format!(" BY={seconds};{mode}{trace}"));
        }
        if let Some(arrival) = arrival {
            line.push_str(&format!(" XARRIVAL={arrival}"));
        }
        line
    }

    /// Hands over a message. `head` and then `rest` are its octets, with any line ends.
    /// Gives what the server said, and which recipients it did not take.
    ///
    /// # Errors
    /// It was not taken, for nobody. With `Some` that will do, only if no recipient was.
    pub(super) fn send(
        &mut self,
        sender: &Sender,
        recipients: &[Recipient],
        arrival: Option<WallTime>,
        some_will_do: bool,
        head: &[u8],
        rest: &mut dyn Read,
    ) -> Result<(Said, Vec<(usize, Said)>), NotTaken> {
        let mail = self.mail(sender, arrival, super::text::now());
        let result = self.transaction(&mail, recipients, some_will_do, head, rest);
        if let Err(NotTaken::Refused(_) | NotTaken::Later(_)) = &result {
            // The next message begins afresh; a session that is gone says so then.
            let _ = self.command("RSET");
        }
        result
    }

    fn transaction(
        &mut self,
        mail: &str,
        recipients: &[Recipient],
        some_will_do: bool,
        head: &[u8],
        rest: &mut dyn Read,
    ) -> Result<(Said, Vec<(usize, Said)>), NotTaken> {
        self.command(mail)?.checked()?;
        let mut refused = Vec::new();
        for (index, recipient) in recipients.iter().enumerate() {
            let mut line = format!("RCPT TO:<{}>", recipient.forward_path.as_str());
            if self.offers.dsn {
                line.push_str(&eml::rcpt_parameters(recipient));
            }
            let said = self.command(&line)?;
            if said.code >= 300 {
                refused.push((index, said));
            }
        }
        if let Some((_, said)) = refused.first()
            && (!some_will_do || refused.len() == recipients.len())
        {
            said.clone().checked()?;
        }
        self.command("DATA")?.checked()?;
        let mut stuffer = Stuffer::default();
        let mut out = Vec::new();
        stuffer.feed(head, &mut out);
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            let stream = self.stream.get_mut();
            stream.write_all(&out).map_err(|error| gone(&error))?;
            out.clear();
            let octets = match rest.read(&mut piece) {
                Ok(0) => break,
                Ok(octets) => octets,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    // Without its end the message is nothing.
                    let _ = stream.shutdown(std::net::Shutdown::Both);
                    return Err(NotTaken::Unreadable(error.to_string()));
                }
            };
            stuffer.feed(&piece[..octets], &mut out);
        }
        stuffer.finish(&mut out);
        out.extend_from_slice(b".\r\n");
        let written = self.stream.get_mut().write_all(&out);
        written.map_err(|error| gone(&error))?;
        Ok((self.reply()?.checked()?, refused))
    }

    /// Says good-bye.
    pub(super) fn quit(mut self) {
        // The mail is taken; what becomes of the session is of no interest.
        let _ = self.command("QUIT");
    }

    /// The connection, for somebody who speaks SMTP himself: the greeting is still to come.
    pub(super) fn raw(server: SocketAddr) -> Result<TcpStream, NotTaken> {
        TcpStream::connect_timeout(&server, CONNECT_TIME_MAX).map_err(|error| {
            NotTaken::Later(format!("the server at {server} cannot be reached: {error}"))
        })
    }
}

/// Where the server of this machine takes mail, and what it calls itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Server {
    pub(super) address: SocketAddr,
    pub(super) hostname: Option<String>,
}

/// Where the server listens that this file configures; without one, the server without a
/// configuration. The file is not checked: whoever sends mail need not be able to read
/// the secrets that a check looks at.
///
/// # Errors
/// For a person: the file cannot be read, or has no listener that will do.
pub(super) fn server(config: Option<&Path>) -> Result<Server, String> {
    let Some(path) = config else {
        let address = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 2525);
        return Ok(Server {
            address,
            hostname: None,
        });
    };
    let shown = super::shown(path);
    let mut text = String::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(CONFIG_BYTES_MAX).read_to_string(&mut text))
        .map_err(|error| format!("reading {shown} failed: {error}"))?;
    let table: toml::Table = text
        .parse()
        .map_err(|_| format!("{shown} is no configuration; `turnspool check` says why"))?;
    let listeners = table.get("listener").and_then(toml::Value::as_array);
    let mut listeners = listeners.into_iter().flatten();
    let address = listeners.find_map(listener);
    let address = match (address, table.contains_key("listener")) {
        (Some(address), _) => address,
        (None, false) => SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 2525),
        (None, true) => {
            return Err(format!(
                "{shown} has no listener for this machine: one with role \"mx\", without \
                 implicit TLS, that is always open, at 127.0.0.1 or all addresses"
            ));
        }
    };
    let hostname = table.get("hostname").and_then(toml::Value::as_str);
    Ok(Server {
        address,
        hostname: hostname.map(str::to_owned),
    })
}

/// Where a listener can be reached from here without a password.
fn listener(listener: &toml::Value) -> Option<SocketAddr> {
    let text = |name: &str| listener.get(name).and_then(toml::Value::as_str);
    if text("role").is_some_and(|role| role != "mx")
        || text("tls") == Some("implicit")
        || text("when").is_some_and(|when| when != "always")
    {
        return None;
    }
    let mut address: SocketAddr = text("address")?.parse().ok()?;
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        ip if ip.is_loopback() => {}
        _ => return None,
    }
    Some(address)
}

/// A sender with the parameters that a local program has.
pub(super) fn sender(reverse_path: ReversePath, eight_bit: bool) -> Sender {
    let mut sender = Sender::new(reverse_path);
    if eight_bit {
        sender.body = BodyKind::EightBitMime;
    }
    sender.smtputf8 = !sender.reverse_path.as_str().is_ascii();
    sender
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_listener_is_found_without_a_check() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("turnspool.toml");
        let check = |text: &str, expected: Result<&str, &str>| {
            std::fs::write(&path, text).unwrap();
            match (server(Some(&path)), expected) {
                (Ok(server), Ok(expected)) => assert_eq!(server.address.to_string(), expected),
                (Err(error), Err(part)) => assert!(error.contains(part), "{text}: {error}"),
                (got, _) => panic!("{text}: {got:?}"),
            }
        };
        check("", Ok("127.0.0.1:2525"));
        check("[[listener]]\naddress = \"0.0.0.0:25\"", Ok("127.0.0.1:25"));
        check("[[listener]]\naddress = \"[::]:25\"", Ok("[::1]:25"));
        check(
            "[[listener]]\naddress = \"127.0.0.1:587\"\nrole = \"submission\"\n\
             [[listener]]\naddress = \"192.0.2.1:25\"\n\
             [[listener]]\naddress = \"127.0.0.1:26\"\nwhen = \"link-up\"\n\
             [[listener]]\naddress = \"127.0.0.1:465\"\ntls = \"implicit\"\n\
             [[listener]]\naddress = \"127.0.0.1:27\"\ntls = \"starttls\"",
            Ok("127.0.0.1:27"),
        );
        check(
            "[[listener]]\naddress = \"192.0.2.1:25\"",
            Err("no listener"),
        );
        check("[", Err("no configuration"));
        assert!(server(Some(Path::new("/nowhere"))).is_err());
    }

    #[test]
    fn enhanced_codes() {
        let check = |code: u16, text: &str, expected: Option<(u16, u16)>| {
            let text = text.to_owned();
            assert_eq!(Said { code, text }.enhanced(), expected);
        };
        check(550, "5.1.1 nobody", Some((1, 1)));
        check(550, "4.1.1 odd", None);
        check(550, "nobody", None);
        check(550, "", None);
    }
}
