//! Command lines (RFC 5321 §4.1), parsed into values that need no second look.
//!
//! Strict where a second reading could hide something, lenient where real
//! clients are sloppy and the meaning is plain: spaces behind `FROM:`, paths
//! without angle brackets, spaces at the end of a line. Source routes are taken
//! and dropped (RFC 5321 appendix C).
//!
//! Deliberately not here: what a command means in the session's state.

use zeroize::Zeroizing;

use crate::mail::{AddressError, Domain, ForwardPath, Recipient, ReversePath, Sender};
use crate::smtp::auth::{Mechanism, Response};
use crate::smtp::etrn::{self, Node};
use crate::smtp::parameter;
use crate::smtp::reply::{Refusal, Tls};
use crate::smtp::settings::{Offers, Role};
use crate::smtp::trace::HelloName;
use crate::time::WallTime;

/// A command with its arguments.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// §4.1.1.1.
    Ehlo(HelloName),
    /// §4.1.1.1.
    Helo(HelloName),
    /// §4.1.1.2, with the size that the client declared (RFC 1870).
    Mail(Sender, Option<u64>),
    /// §4.1.1.3.
    Rcpt(Recipient),
    /// §4.1.1.4.
    Data,
    /// RFC 3030.
    Bdat(Chunk),
    /// §4.1.1.5.
    Rset,
    /// §4.1.1.6.
    Vrfy,
    /// §4.1.1.8.
    Help,
    /// §4.1.1.9.
    Noop,
    /// §4.1.1.10.
    Quit,
    /// RFC 3207.
    StartTls,
    /// RFC 2645. Without a domain: all of the customer's.
    Atrn(Vec<Domain>),
    /// RFC 1985.
    Etrn(Node),
    /// RFC 4954.
    Auth(Auth),
}

/// The arguments of AUTH.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Auth {
    /// `None`: one that we do not know.
    pub mechanism: Option<Mechanism>,
    /// The initial response, still in base64.
    pub initial: Option<Response>,
}

/// The arguments of BDAT.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Chunk {
    /// Octets that follow the line.
    pub octets: u64,
    /// Whether more chunks follow.
    pub rank: ChunkRank,
}

/// Whether a chunk ends its message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChunkRank {
    /// More follow.
    Inner,
    /// `LAST`.
    Last,
}

/// What a parser needs to know of the session.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// Completes `<postmaster>`.
    pub hostname: &'a Domain,
    /// Which commands exist.
    pub role: Role,
    /// Which parameters exist.
    pub offers: &'a Offers,
    /// RFC 6531: whether the open transaction was begun with SMTPUTF8.
    pub utf8: Utf8,
    /// Whether the session is under TLS: REQUIRETLS exists only then.
    pub tls: Tls,
    /// What DELIVERBY counts from.
    pub time: WallTime,
    /// The client is a program of this machine.
    pub is_local: bool,
}

/// Whether a transaction may hold UTF-8 addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Utf8 {
    /// MAIL said SMTPUTF8.
    Allowed,
    /// It did not, or there is none.
    Refused,
}

/// Why a line is no command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SyntaxError {
    /// No such command.
    Unknown,
    /// A command of the RFCs that we do not have, or not here.
    NotImplemented,
    /// A control character, or text that is no UTF-8.
    Character,
    /// The wrong arguments; the sentence says which are right.
    Arguments(&'static str),
    /// BDAT whose count cannot be read: what follows may be text or commands, so
    /// the session cannot go on.
    ChunkSize,
    /// The argument of MAIL.
    ReversePath(AddressError),
    /// The argument of RCPT.
    ForwardPath(AddressError),
    /// A parameter that does not exist here.
    UnknownParameter,
    /// A parameter with a wrong value, or twice; the sentence says which.
    Parameter(&'static str),
    /// A UTF-8 address without SMTPUTF8.
    NeedsUtf8,
}

impl SyntaxError {
    /// The reply.
    #[must_use]
    pub fn refusal(self) -> Refusal {
        match self {
            Self::Unknown => Refusal::new(500, 5, 1, "no such command"),
            Self::NotImplemented => Refusal::new(502, 5, 1, "command not implemented"),
            Self::Character => Refusal::new(500, 5, 2, "a character that is not allowed here"),
            Self::Arguments(sentence) => Refusal::new(501, 5, 4, sentence),
            Self::ChunkSize => Refusal::new(501, 5, 4, "want BDAT octets [LAST]"),
            Self::ReversePath(error) => {
                Refusal::new(501, 1, 7, "").with_text(format!("the reverse-path {error}"))
            }
            Self::ForwardPath(error) => {
                Refusal::new(501, 1, 3, "").with_text(format!("the forward-path {error}"))
            }
            Self::UnknownParameter => Refusal::new(555, 5, 4, "unknown parameter"),
            Self::Parameter(sentence) => Refusal::new(501, 5, 4, sentence),
            Self::NeedsUtf8 => Refusal::new(553, 6, 7, "an address in UTF-8 needs SMTPUTF8"),
        }
    }
}

/// Longest verb that we know: STARTTLS.
const VERB_BYTES_MAX: usize = 8;

/// Parses a line, given without its CRLF.
///
/// # Errors
/// What is wrong with it.
pub fn parse(line: &[u8], context: &Context<'_>) -> Result<Command, SyntaxError> {
    // Without an early exit, so that it is done many octets at a time.
    let is_control = |octet: &u8| octet.is_ascii_control();
    if line
        .iter()
        .fold(false, |any, octet| any | is_control(octet))
    {
        return Err(SyntaxError::Character);
    }
    let line = line.trim_ascii_end();
    let verb_length = memchr::memchr(b' ', line).unwrap_or(line.len());
    if verb_length > VERB_BYTES_MAX {
        return Err(SyntaxError::Unknown);
    }
    let mut verb = [0; VERB_BYTES_MAX];
    verb[..verb_length].copy_from_slice(&line[..verb_length]);
    verb.make_ascii_uppercase();
    let arguments = line[verb_length..].trim_ascii_start();
    match &verb[..verb_length] {
        b"MAIL" => mail(arguments, context),
        b"RCPT" => rcpt(arguments, context).map(Command::Rcpt),
        b"DATA" => alone(arguments, Command::Data),
        b"BDAT" => bdat(arguments).map(Command::Bdat),
        b"EHLO" => hello_name(arguments).map(Command::Ehlo),
        b"HELO" => hello_name(arguments).map(Command::Helo),
        b"RSET" => alone(arguments, Command::Rset),
        b"QUIT" => alone(arguments, Command::Quit),
        b"NOOP" => Ok(Command::Noop),
        b"HELP" => Ok(Command::Help),
        b"VRFY" if arguments.is_empty() => Err(SyntaxError::Arguments("want VRFY name")),
        b"VRFY" => Ok(Command::Vrfy),
        b"ATRN" if context.role == Role::Odmr => atrn(arguments).map(Command::Atrn),
        b"STARTTLS" if context.offers.start_tls => alone(arguments, Command::StartTls),
        b"ETRN" if context.offers.etrn => etrn::node(arguments).map(Command::Etrn),
        b"AUTH" if context.offers.auth.is_some() => auth(arguments).map(Command::Auth),
        b"EXPN" | b"STARTTLS" | b"AUTH" | b"ETRN" | b"ATRN" | b"TURN" | b"SEND" | b"SOML"
        | b"SAML" => Err(SyntaxError::NotImplemented),
        _ => Err(SyntaxError::Unknown),
    }
}

fn alone(arguments: &[u8], command: Command) -> Result<Command, SyntaxError> {
    if arguments.is_empty() {
        Ok(command)
    } else {
        Err(SyntaxError::Arguments("this command has no arguments"))
    }
}

/// Clients that put more than a name there exist; what follows is dropped.
fn hello_name(arguments: &[u8]) -> Result<HelloName, SyntaxError> {
    let name = arguments.split(|&octet| octet == b' ').next();
    name.and_then(HelloName::new)
        .ok_or(SyntaxError::Arguments("want your name"))
}

/// RFC 2645 §5.2.1: `domain *("," domain)`. The line is short, so the list is.
fn atrn(arguments: &[u8]) -> Result<Vec<Domain>, SyntaxError> {
    if arguments.is_empty() {
        return Ok(Vec::new());
    }
    let domains = text(arguments)?
        .split(',')
        .map(|domain| domain.trim_ascii().parse());
    domains
        .collect::<Result<_, _>>()
        .map_err(|_| SyntaxError::Arguments("want ATRN [domain[,domain...]]"))
}

fn bdat(arguments: &[u8]) -> Result<Chunk, SyntaxError> {
    let mut words = words(arguments);
    let octets = words.next().and_then(decimal);
    let rank = match words.next() {
        None => Some(ChunkRank::Inner),
        Some(word) if word.eq_ignore_ascii_case(b"LAST") => Some(ChunkRank::Last),
        Some(_) => None,
    };
    match (octets, rank, words.next()) {
        (Some(octets), Some(rank), None) => Ok(Chunk { octets, rank }),
        _ => Err(SyntaxError::ChunkSize),
    }
}

fn auth(arguments: &[u8]) -> Result<Auth, SyntaxError> {
    let mut words = words(arguments);
    let mechanism = words.next();
    let initial = words.next();
    match (mechanism, words.next()) {
        (Some(mechanism), None) => Ok(Auth {
            mechanism: Mechanism::by_name(mechanism),
            initial: initial.map(|text| Response::new(Zeroizing::new(text.to_vec()))),
        }),
        _ => Err(SyntaxError::Arguments(
            "want AUTH mechanism [initial-response]",
        )),
    }
}

fn mail(arguments: &[u8], context: &Context<'_>) -> Result<Command, SyntaxError> {
    let arguments = after_keyword(arguments, b"FROM:")
        .ok_or(SyntaxError::Arguments("want MAIL FROM:<reverse-path>"))?;
    let (path, parameters) = path(arguments).map_err(SyntaxError::ReversePath)?;
    let path = text(path)?;
    let reverse_path: ReversePath = path.parse().map_err(SyntaxError::ReversePath)?;
    let mut sender = Sender::new(reverse_path);
    let declared = parameter::of_mail(&mut sender, words(parameters), context)?;
    if !sender.smtputf8 && !sender.reverse_path.is_ascii() {
        return Err(SyntaxError::NeedsUtf8);
    }
    Ok(Command::Mail(sender, declared))
}

fn rcpt(arguments: &[u8], context: &Context<'_>) -> Result<Recipient, SyntaxError> {
    let arguments = after_keyword(arguments, b"TO:")
        .ok_or(SyntaxError::Arguments("want RCPT TO:<forward-path>"))?;
    let (path, parameters) = path(arguments).map_err(SyntaxError::ForwardPath)?;
    let path = text(path)?;
    let forward_path = if path.eq_ignore_ascii_case("postmaster") {
        // RFC 5321 §4.1.1.3: the one mailbox that needs no domain.
        crate::mail::Address::new(path, context.hostname).map(ForwardPath)
    } else {
        path.parse()
    };
    let forward_path = forward_path.map_err(SyntaxError::ForwardPath)?;
    let mut recipient = Recipient::new(forward_path);
    parameter::of_rcpt(&mut recipient, words(parameters))?;
    let is_ascii = recipient.forward_path.address().is_ascii()
        && recipient
            .orcpt
            .as_ref()
            .is_none_or(|orcpt| orcpt.is_ascii());
    if !is_ascii && context.utf8 == Utf8::Refused {
        return Err(SyntaxError::NeedsUtf8);
    }
    Ok(recipient)
}

/// What stands behind `keyword`, which may be followed by spaces.
fn after_keyword<'a>(arguments: &'a [u8], keyword: &[u8]) -> Option<&'a [u8]> {
    let (found, rest) = arguments.split_at_checked(keyword.len())?;
    found
        .eq_ignore_ascii_case(keyword)
        .then(|| rest.trim_ascii_start())
}

/// The path without brackets and source route, and what stands behind it.
fn path(arguments: &[u8]) -> Result<(&[u8], &[u8]), AddressError> {
    let Some(rest) = arguments.strip_prefix(b"<") else {
        // Without brackets: old scripts. A quoted local-part with spaces needs them.
        let end = memchr::memchr(b' ', arguments).unwrap_or(arguments.len());
        let (path, parameters) = arguments.split_at(end);
        return if path.is_empty() {
            Err(AddressError::Empty)
        } else {
            Ok((path, parameters))
        };
    };
    let end = closing_bracket(rest).ok_or(AddressError::Malformed)?;
    let (path, parameters) = (&rest[..end], &rest[end + 1..]);
    if !parameters.is_empty() && !parameters.starts_with(b" ") {
        return Err(AddressError::Malformed);
    }
    Ok((without_source_route(path)?, parameters))
}

/// The `>` that is not in a quoted local-part.
fn closing_bracket(text: &[u8]) -> Option<usize> {
    let end = memchr::memchr2(b'>', b'"', text)?;
    if text[end] == b'>' {
        return Some(end);
    }
    let mut quoted = Quoted::No;
    for (i, &octet) in text.iter().enumerate() {
        quoted = match (quoted, octet) {
            (Quoted::No, b'>') => return Some(i),
            (Quoted::No, b'"') | (Quoted::Escaped, _) => Quoted::Yes,
            (Quoted::Yes, b'"') => Quoted::No,
            (Quoted::Yes, b'\\') => Quoted::Escaped,
            (quoted, _) => quoted,
        };
    }
    None
}

#[derive(Clone, Copy)]
enum Quoted {
    No,
    Yes,
    /// Behind a backslash.
    Escaped,
}

/// `@a,@b:user@c` → `user@c` (RFC 5321 §4.1.1.3: ignored).
fn without_source_route(path: &[u8]) -> Result<&[u8], AddressError> {
    if !path.starts_with(b"@") {
        return Ok(path);
    }
    let colon = memchr::memchr(b':', path).ok_or(AddressError::Malformed)?;
    for hop in path[..colon].split(|&octet| octet == b',') {
        let domain = hop.strip_prefix(b"@").ok_or(AddressError::Malformed)?;
        let domain = std::str::from_utf8(domain).map_err(|_| AddressError::Character)?;
        domain.parse::<Domain>()?;
    }
    Ok(&path[colon + 1..])
}

pub(super) fn text(octets: &[u8]) -> Result<&str, SyntaxError> {
    std::str::from_utf8(octets).map_err(|_| SyntaxError::Character)
}

fn words(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|&octet| octet == b' ')
        .filter(|word| !word.is_empty())
}

/// Digits only, and no more than fit.
pub(super) fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::{BodyKind, Notify};

    fn parse_line(line: &str) -> Result<Command, SyntaxError> {
        let hostname = "relay.example".parse().expect("a domain");
        let context = Context {
            hostname: &hostname,
            role: Role::Mail,
            offers: &Offers::default(),
            utf8: Utf8::Refused,
            tls: Tls::Absent,
            time: WallTime::EPOCH,
            is_local: false,
        };
        parse(line.as_bytes(), &context)
    }

    #[test]
    fn the_time_of_arrival_is_taken_from_programs_of_this_machine() {
        let hostname = "relay.example".parse().expect("a domain");
        let time: WallTime = "2026-11-28T12:00:00Z".parse().expect("a date");
        let check = |is_local: bool, arrival: &str, expected: Option<&str>| {
            let context = Context {
                hostname: &hostname,
                role: Role::Mail,
                offers: &Offers::default(),
                utf8: Utf8::Refused,
                tls: Tls::Absent,
                time,
                is_local,
            };
            let line = format!("MAIL FROM:<a@b.example> XARRIVAL={arrival}");
            let got = match parse(line.as_bytes(), &context) {
                Ok(Command::Mail(sender, _)) => sender.arrival.map(|time| time.to_string()),
                Ok(other) => panic!("{other:?}"),
                Err(_) => None,
            };
            assert_eq!(got.as_deref(), expected, "{arrival}");
        };
        let yesterday = "2026-11-27T12:00:00Z";
        check(true, yesterday, Some(yesterday));
        check(false, yesterday, None);
        // A clock that is a little ahead; more is a mistake, and so is a year ago.
        check(true, "2026-11-28T12:30:00Z", Some("2026-11-28T12:00:00Z"));
        check(true, "2026-11-28T14:00:00Z", None);
        check(true, "2024-11-28T12:00:00Z", None);
        check(true, "yesterday", None);
        check(true, "", None);
    }

    #[test]
    fn verbs() {
        let check = |line: &str, expected: Result<Command, SyntaxError>| {
            assert_eq!(parse_line(line), expected, "{line:?}");
        };
        let chunk = |octets, rank| Ok(Command::Bdat(Chunk { octets, rank }));
        check("DATA", Ok(Command::Data));
        check("dAtA  ", Ok(Command::Data));
        check("DATA\t", Err(SyntaxError::Character));
        check("DATAX", Err(SyntaxError::Unknown));
        check("DAT", Err(SyntaxError::Unknown));
        check("BDAT 0", chunk(0, ChunkRank::Inner));
        check("BDAT  007  LaSt", chunk(7, ChunkRank::Last));
        check(
            "BDAT 18446744073709551615",
            chunk(u64::MAX, ChunkRank::Inner),
        );
        check("BDAT 18446744073709551616", Err(SyntaxError::ChunkSize));
        check("BDAT +1", Err(SyntaxError::ChunkSize));
        check("BDAT -1", Err(SyntaxError::ChunkSize));
        check("STARTTLS", Err(SyntaxError::NotImplemented));
        check("STARTTLSX", Err(SyntaxError::Unknown));
        check("MAILFROM:<a@a.example>", Err(SyntaxError::Unknown));
    }

    #[test]
    fn paths() {
        let check = |argument: &str, expected: Result<&str, AddressError>| {
            let got = match parse_line(&format!("RCPT TO:{argument}")) {
                Ok(Command::Rcpt(recipient)) => Ok(recipient.forward_path.as_str().to_owned()),
                Err(SyntaxError::ForwardPath(error)) => Err(error),
                other => panic!("{argument:?}: {other:?}"),
            };
            assert_eq!(got, expected.map(str::to_owned), "{argument:?}");
        };
        check("<u@d.example>", Ok("u@d.example"));
        check("<\"a>b\"@d.example>", Ok("\"a>b\"@d.example"));
        check("<\"a\\\">b\"@d.example>", Ok("\"a\\\">b\"@d.example"));
        check("<@a.example:u@d.example>", Ok("u@d.example"));
        check(
            "<@a.example,@b.example:\"x:y\"@d.example>",
            Ok("\"x:y\"@d.example"),
        );
        check("<POSTMASTER>", Ok("POSTMASTER@relay.example"));
        check("postmaster", Ok("postmaster@relay.example"));
        check("<@a.example:postmaster>", Ok("postmaster@relay.example"));
        check("<@a.example:>", Err(AddressError::Empty));
        check("<@:u@d.example>", Err(AddressError::Empty));
        check("<u@d.example", Err(AddressError::Malformed));
        check("<\"u@d.example>", Err(AddressError::Malformed));
        check("<<u@d.example>>", Err(AddressError::Malformed));
        check("u@d.example>", Err(AddressError::Character));
    }

    #[test]
    fn the_null_reverse_path_and_parameters_in_any_case() {
        let Ok(Command::Mail(sender, declared)) = parse_line("mail from:<> size=7 body=8bitmime")
        else {
            panic!("a command");
        };
        assert_eq!(sender.reverse_path, ReversePath::Null);
        assert_eq!((sender.body, declared), (BodyKind::EightBitMime, Some(7)));
        let Ok(Command::Rcpt(recipient)) = parse_line("RCPT TO:<a@a.example> notify=failure,DELAY")
        else {
            panic!("a command");
        };
        let notify = Notify::On {
            success: false,
            failure: true,
            delay: true,
        };
        assert_eq!(recipient.notify, notify);
    }
}
