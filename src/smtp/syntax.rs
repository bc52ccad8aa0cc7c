//! Command lines (RFC 5321 §4.1), parsed into values that need no second look.
//!
//! Strict where a second reading could hide something, lenient where real
//! clients are sloppy and the meaning is plain: spaces behind `FROM:`, paths
//! without angle brackets, spaces at the end of a line. Source routes are taken
//! and dropped (RFC 5321 appendix C).
//!
//! Deliberately not here: what a command means in the session's state.

use std::time::Duration;

use crate::mail::{
    AddressError, BodyKind, DeliverBy, DeliverByMode, Domain, ENVID_BYTES_MAX, ForwardPath, Notify,
    ORCPT_BYTES_MAX, Priority, Recipient, Ret, ReversePath, Sender,
};
use crate::smtp::reply::Refusal;
use crate::smtp::settings::Offers;
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
    /// Which parameters exist.
    pub offers: &'a Offers,
    /// RFC 6531: whether the open transaction was begun with SMTPUTF8.
    pub utf8: Utf8,
    /// What DELIVERBY counts from.
    pub time: WallTime,
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
    if line.iter().any(|octet| octet.is_ascii_control()) {
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
        b"STARTTLS" if context.offers.start_tls => alone(arguments, Command::StartTls),
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

fn mail(arguments: &[u8], context: &Context<'_>) -> Result<Command, SyntaxError> {
    let arguments = after_keyword(arguments, b"FROM:")
        .ok_or(SyntaxError::Arguments("want MAIL FROM:<reverse-path>"))?;
    let (path, parameters) = path(arguments).map_err(SyntaxError::ReversePath)?;
    let path = text(path)?;
    let reverse_path: ReversePath = path.parse().map_err(SyntaxError::ReversePath)?;
    let mut sender = Sender::new(reverse_path);
    let mut seen = Seen::default();
    let mut size = None;
    for parameter in words(parameters) {
        let (keyword, value) = split_parameter(parameter);
        let kind = MailKeyword::parse(keyword, context.offers)?;
        seen.once(kind as u32)?;
        match kind {
            MailKeyword::Size => {
                // RFC 1870 §4: at most 20 digits.
                let octets = value.filter(|value| value.len() <= 20).and_then(decimal);
                size = Some(octets.ok_or(SyntaxError::Parameter("want SIZE=octets"))?);
            }
            MailKeyword::Body => {
                sender.body = one_of(
                    value,
                    &[
                        (b"7BIT", BodyKind::SevenBit),
                        (b"8BITMIME", BodyKind::EightBitMime),
                    ],
                    "want BODY=7BIT or BODY=8BITMIME",
                )?;
            }
            MailKeyword::SmtpUtf8 => match value {
                None => sender.smtputf8 = true,
                Some(_) => return Err(SyntaxError::Parameter("SMTPUTF8 has no value")),
            },
            MailKeyword::Ret => {
                let ret = one_of(
                    value,
                    &[(b"FULL", Ret::Full), (b"HDRS", Ret::Headers)],
                    "want RET=FULL or RET=HDRS",
                )?;
                sender.ret = Some(ret);
            }
            MailKeyword::Envid => {
                let envid = value.filter(|value| {
                    !value.is_empty() && value.len() <= ENVID_BYTES_MAX && is_xtext(value)
                });
                let envid = envid.ok_or(SyntaxError::Parameter(
                    "want ENVID= and up to 100 characters of xtext",
                ))?;
                sender.envid = Some(text(envid)?.into());
            }
            MailKeyword::MtPriority => {
                let priority = value
                    .and_then(|value| std::str::from_utf8(value).ok())
                    .and_then(|value| value.parse().ok())
                    .and_then(Priority::new);
                sender.priority =
                    Some(priority.ok_or(SyntaxError::Parameter("want MT-PRIORITY=-9 to 9"))?);
            }
            MailKeyword::By => {
                let by = value.and_then(|value| deliver_by(value, context));
                sender.deliver_by = Some(by.ok_or(SyntaxError::Parameter(
                    "want BY=seconds;R or BY=seconds;N, and not less than the minimum",
                ))?);
            }
        }
    }
    if !sender.smtputf8 && !sender.reverse_path.is_ascii() {
        return Err(SyntaxError::NeedsUtf8);
    }
    Ok(Command::Mail(sender, size))
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
    let mut seen = Seen::default();
    for parameter in words(parameters) {
        let (keyword, value) = split_parameter(parameter);
        let kind = RcptKeyword::parse(keyword)?;
        seen.once(kind as u32)?;
        match kind {
            RcptKeyword::Notify => {
                let notify = value.and_then(notify);
                recipient.notify = notify.ok_or(SyntaxError::Parameter(
                    "want NOTIFY=NEVER or a list of SUCCESS, FAILURE, DELAY",
                ))?;
            }
            RcptKeyword::Orcpt => {
                let orcpt = value.filter(|value| value.len() <= ORCPT_BYTES_MAX && is_orcpt(value));
                let orcpt = orcpt.ok_or(SyntaxError::Parameter(
                    "want ORCPT=type;address in up to 500 characters of xtext",
                ))?;
                recipient.orcpt = Some(text(orcpt)?.into());
            }
        }
    }
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

fn text(octets: &[u8]) -> Result<&str, SyntaxError> {
    std::str::from_utf8(octets).map_err(|_| SyntaxError::Character)
}

fn words(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|&octet| octet == b' ')
        .filter(|word| !word.is_empty())
}

/// `KEYWORD=value` or `KEYWORD`.
fn split_parameter(parameter: &[u8]) -> (&[u8], Option<&[u8]>) {
    match memchr::memchr(b'=', parameter) {
        Some(at) => (&parameter[..at], Some(&parameter[at + 1..])),
        None => (parameter, None),
    }
}

/// Digits only, and no more than fit.
fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn one_of<T: Copy>(
    value: Option<&[u8]>,
    table: &[(&[u8], T)],
    sentence: &'static str,
) -> Result<T, SyntaxError> {
    let value = value.ok_or(SyntaxError::Parameter(sentence))?;
    table
        .iter()
        .find(|(name, _)| value.eq_ignore_ascii_case(name))
        .map(|(_, found)| *found)
        .ok_or(SyntaxError::Parameter(sentence))
}

/// Parameters of MAIL. The values are bits of [`Seen`].
#[derive(Clone, Copy)]
enum MailKeyword {
    Size = 1 << 0,
    Body = 1 << 1,
    SmtpUtf8 = 1 << 2,
    Ret = 1 << 3,
    Envid = 1 << 4,
    MtPriority = 1 << 5,
    By = 1 << 6,
}

impl MailKeyword {
    fn parse(keyword: &[u8], offers: &Offers) -> Result<Self, SyntaxError> {
        let table: [(&[u8], Self, bool); 7] = [
            (b"SIZE", Self::Size, true),
            (b"BODY", Self::Body, true),
            (b"SMTPUTF8", Self::SmtpUtf8, true),
            (b"RET", Self::Ret, true),
            (b"ENVID", Self::Envid, true),
            (b"MT-PRIORITY", Self::MtPriority, offers.mt_priority),
            (b"BY", Self::By, offers.deliver_by.is_some()),
        ];
        table
            .iter()
            .find(|(name, _, offered)| *offered && keyword.eq_ignore_ascii_case(name))
            .map(|(_, kind, _)| *kind)
            .ok_or(SyntaxError::UnknownParameter)
    }
}

/// Parameters of RCPT. The values are bits of [`Seen`].
#[derive(Clone, Copy)]
enum RcptKeyword {
    Notify = 1 << 0,
    Orcpt = 1 << 1,
}

impl RcptKeyword {
    fn parse(keyword: &[u8]) -> Result<Self, SyntaxError> {
        if keyword.eq_ignore_ascii_case(b"NOTIFY") {
            Ok(Self::Notify)
        } else if keyword.eq_ignore_ascii_case(b"ORCPT") {
            Ok(Self::Orcpt)
        } else {
            Err(SyntaxError::UnknownParameter)
        }
    }
}

/// Which parameters a command had: each may come once (RFC 3461 §4).
#[derive(Default)]
struct Seen(u32);

impl Seen {
    fn once(&mut self, bit: u32) -> Result<(), SyntaxError> {
        if self.0 & bit != 0 {
            return Err(SyntaxError::Parameter("a parameter is given twice"));
        }
        self.0 |= bit;
        Ok(())
    }
}

/// RFC 3461 §4.1: NEVER stands alone; the others once each.
fn notify(value: &[u8]) -> Option<Notify> {
    if value.eq_ignore_ascii_case(b"NEVER") {
        return Some(Notify::Never);
    }
    let (mut success, mut failure, mut delay) = (false, false, false);
    for word in value.split(|&octet| octet == b',') {
        let flag = if word.eq_ignore_ascii_case(b"SUCCESS") {
            &mut success
        } else if word.eq_ignore_ascii_case(b"FAILURE") {
            &mut failure
        } else if word.eq_ignore_ascii_case(b"DELAY") {
            &mut delay
        } else {
            return None;
        };
        if std::mem::replace(flag, true) {
            return None;
        }
    }
    Some(Notify::On {
        success,
        failure,
        delay,
    })
}

/// RFC 3461 §4: printable, `+` only before two upper-case hexadecimal digits, no `=`.
fn is_xtext(value: &[u8]) -> bool {
    let mut rest = value.iter();
    while let Some(octet) = rest.next() {
        let mut hex = || matches!(rest.next(), Some(b'0'..=b'9' | b'A'..=b'F'));
        let fits = match octet {
            b'+' => hex() && hex(),
            b'=' => false,
            octet => matches!(octet, b'!'..=b'~'),
        };
        if !fits {
            return false;
        }
    }
    true
}

/// `addr-type ";" xtext` (RFC 3461 §4.2), or `utf-8;` with UTF-8 in it (RFC 6533 §3).
fn is_orcpt(value: &[u8]) -> bool {
    let Some(semicolon) = memchr::memchr(b';', value) else {
        return false;
    };
    let (kind, address) = (&value[..semicolon], &value[semicolon + 1..]);
    let is_atom =
        |octet: &u8| octet.is_ascii_alphanumeric() || b"!#$%&'*-/?^_`{|}~".contains(octet);
    if kind.is_empty() || !kind.iter().all(is_atom) || address.is_empty() {
        return false;
    }
    if kind.eq_ignore_ascii_case(b"utf-8") {
        // RFC 6533 writes `\x{…}` where xtext writes `+…`; both are printable.
        address
            .iter()
            .all(|octet| matches!(octet, b'!'..=b'~' | 0x80..))
    } else {
        is_xtext(address)
    }
}

/// RFC 2852 §4: `by-value = by-time ";" by-mode [by-trace]`, the time up to nine
/// digits with a sign. Return needs a time above zero, and not below our minimum.
fn deliver_by(value: &[u8], context: &Context<'_>) -> Option<DeliverBy> {
    let value = std::str::from_utf8(value).ok()?;
    let (time, mode) = value.split_once(';')?;
    if time.trim_start_matches(['+', '-']).len() > 9 {
        return None;
    }
    let seconds: i64 = time.parse().ok()?;
    let (mode, trace) = match mode.to_ascii_uppercase().as_str() {
        "R" => (DeliverByMode::Return, false),
        "RT" => (DeliverByMode::Return, true),
        "N" => (DeliverByMode::Notify, false),
        "NT" => (DeliverByMode::Notify, true),
        _ => return None,
    };
    let minimum = context.offers.deliver_by.unwrap_or_default();
    let by = Duration::from_secs(seconds.unsigned_abs());
    let too_soon = seconds <= 0 || by < minimum;
    if mode == DeliverByMode::Return && too_soon {
        return None;
    }
    Some(DeliverBy {
        deadline: if seconds < 0 {
            context.time - by
        } else {
            context.time + by
        },
        mode,
        trace,
    })
}
