//! The words of mail, parsed once and valid ever after.
//!
//! A value of one of these types is the proof that its text was checked: no
//! later module looks at the syntax again, and none can be handed a CR, LF, NUL
//! or an over-long name. ESMTP parameters stay in the form in which they came
//! (xtext), so that they are passed on unchanged (RFC 3461 §4).
//!
//! What this module does not do: it knows no SMTP command lines (`smtp/syntax`
//! does), and it does not route.

use std::fmt;
use std::str::FromStr;

use crate::time::WallTime;

/// Longest domain in octets (RFC 5321 §4.5.3.1.2).
pub const DOMAIN_BYTES_MAX: usize = 255;
/// Longest label of a domain in octets (RFC 1035 §2.3.4).
pub const LABEL_BYTES_MAX: usize = 63;
/// Longest local-part that we take. RFC 5321 §4.5.3.1.1 asks for 64; VERP and
/// SRS addresses are longer in practice, and refusing them loses mail.
pub const LOCAL_PART_BYTES_MAX: usize = 255;
/// Longest ENVID (RFC 3461 §4.4), in octets of xtext.
pub const ENVID_BYTES_MAX: usize = 100;
/// Longest ORCPT parameter value (RFC 3461 §4.2), in octets.
pub const ORCPT_BYTES_MAX: usize = 500;

/// Why a text is not a mail address or domain. For a reply of class 5.1.x.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AddressError {
    /// Nothing there.
    #[error("is empty")]
    Empty,
    /// Over a limit of this module.
    #[error("is too long")]
    TooLong,
    /// An octet that does not belong.
    #[error("contains a character that is not allowed there")]
    Character,
    /// No `@`.
    #[error("has no domain")]
    NoDomain,
    /// Dots at an end or side by side, an empty label, an open quote or bracket.
    #[error("is malformed")]
    Malformed,
}

/// A domain name or an address literal (RFC 5321 §4.1.2 `Domain`,
/// `address-literal`), in lower case, without a final dot.
///
/// UTF-8 labels (RFC 6531) are kept as U-labels, lower-cased in ASCII only.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Domain(Box<str>);

impl Domain {
    /// The text, lower case.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True for `[192.0.2.1]` and `[IPv6:2001:db8::1]`.
    #[must_use]
    pub fn is_literal(&self) -> bool {
        self.0.starts_with('[')
    }

    /// The address in an address literal.
    #[must_use]
    pub fn literal(&self) -> Option<std::net::IpAddr> {
        let inner = self.0.strip_prefix('[')?.strip_suffix(']')?;
        match inner.strip_prefix("ipv6:") {
            Some(v6) => v6.parse().ok().map(std::net::IpAddr::V6),
            None => inner.parse().ok().map(std::net::IpAddr::V4),
        }
    }

    /// The domain above this one: `b.example` for `a.b.example`.
    #[must_use]
    pub fn parent(&self) -> Option<&str> {
        if self.is_literal() {
            None
        } else {
            self.0.split_once('.').map(|(_, rest)| rest)
        }
    }

    /// True if all octets are ASCII, so that no SMTPUTF8 is needed.
    #[must_use]
    pub fn is_ascii(&self) -> bool {
        self.0.is_ascii()
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Domain {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if text.starts_with('[') {
            return parse_literal(text);
        }
        let text = text.strip_suffix('.').unwrap_or(text);
        if text.is_empty() {
            return Err(AddressError::Empty);
        }
        if text.len() > DOMAIN_BYTES_MAX {
            return Err(AddressError::TooLong);
        }
        for label in text.split('.') {
            if label.is_empty() || label.starts_with('-') || label.ends_with('-') {
                return Err(AddressError::Malformed);
            }
            if label.len() > LABEL_BYTES_MAX {
                return Err(AddressError::TooLong);
            }
            // Underscores are no host name characters, but they stand in mail
            // domains that exist; refusing them would lose mail.
            let allowed = |c: char| {
                c.is_ascii_alphanumeric()
                    || c == '-'
                    || c == '_'
                    || (!c.is_ascii() && !c.is_control() && !c.is_whitespace())
            };
            if !label.chars().all(allowed) {
                return Err(AddressError::Character);
            }
        }
        Ok(Self(text.to_ascii_lowercase().into_boxed_str()))
    }
}

/// RFC 5321 §4.1.3. Only IPv4 and IPv6: no other literal has a meaning yet.
fn parse_literal(text: &str) -> Result<Domain, AddressError> {
    let domain = Domain(text.to_ascii_lowercase().into_boxed_str());
    if text.len() > DOMAIN_BYTES_MAX {
        return Err(AddressError::TooLong);
    }
    if domain.literal().is_some() {
        Ok(domain)
    } else {
        Err(AddressError::Malformed)
    }
}

/// A mailbox: `local-part@domain` (RFC 5321 §4.1.2 `Mailbox`).
///
/// The local-part keeps its case and its quotes; the domain is lower case.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Address {
    text: Box<str>,
    /// Where the `@` is. At most [`LOCAL_PART_BYTES_MAX`].
    at: u16,
}

impl Address {
    /// The whole, as it goes between angle brackets.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What stands before the `@`.
    #[must_use]
    pub fn local_part(&self) -> &str {
        &self.text[..usize::from(self.at)]
    }

    /// What stands behind the `@`, lower case.
    #[must_use]
    pub fn domain_str(&self) -> &str {
        &self.text[usize::from(self.at) + 1..]
    }

    /// The domain as a value of its own.
    #[must_use]
    pub fn domain(&self) -> Domain {
        Domain(self.domain_str().into())
    }

    /// An address from two parts, of which the second is checked already.
    ///
    /// # Errors
    /// What is wrong with the local-part.
    pub fn new(local_part: &str, domain: &Domain) -> Result<Self, AddressError> {
        check_local_part(local_part)?;
        let at = u16::try_from(local_part.len()).map_err(|_| AddressError::TooLong)?;
        Ok(Self {
            text: format!("{local_part}@{domain}").into_boxed_str(),
            at,
        })
    }

    /// True if all octets are ASCII, so that no SMTPUTF8 is needed.
    #[must_use]
    pub fn is_ascii(&self) -> bool {
        self.text.is_ascii()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if text.is_empty() {
            return Err(AddressError::Empty);
        }
        // A quoted local-part may hold `@`; a domain never does.
        let (local_part, domain) = text.rsplit_once('@').ok_or(AddressError::NoDomain)?;
        Self::new(local_part, &domain.parse()?)
    }
}

/// RFC 5321 §4.1.2 `Local-part`, RFC 6531 §3.3. Consecutive and outer dots are
/// let through: they are in use, and the site that owns the mailbox decides.
fn check_local_part(text: &str) -> Result<(), AddressError> {
    if text.is_empty() {
        return Err(AddressError::Empty);
    }
    if text.len() > LOCAL_PART_BYTES_MAX {
        return Err(AddressError::TooLong);
    }
    match text.strip_prefix('"') {
        Some(rest) => check_quoted(rest),
        None if text.chars().all(is_atext_or_dot) => Ok(()),
        None => Err(AddressError::Character),
    }
}

fn is_atext_or_dot(c: char) -> bool {
    c.is_ascii_alphanumeric()
        || "!#$%&'*+-/=?^_`{|}~.".contains(c)
        || (!c.is_ascii() && !c.is_control())
}

/// `rest` is what stands behind the opening quote.
fn check_quoted(rest: &str) -> Result<(), AddressError> {
    let inner = rest.strip_suffix('"').ok_or(AddressError::Malformed)?;
    let mut escaped = false;
    for c in inner.chars() {
        if c.is_control() {
            return Err(AddressError::Character);
        }
        match (escaped, c) {
            (true, _) => escaped = false,
            (false, '\\') => escaped = true,
            (false, '"') => return Err(AddressError::Malformed),
            (false, _) => {}
        }
    }
    if escaped {
        Err(AddressError::Malformed)
    } else {
        Ok(())
    }
}

/// The argument of MAIL: whom to tell of a failure. RFC 5321 §4.1.1.2.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum ReversePath {
    /// `<>`: a notification. Nobody is ever told of its failure.
    Null,
    /// A mailbox.
    Address(Address),
}

impl ReversePath {
    /// The text between the angle brackets.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Null => "",
            Self::Address(address) => address.as_str(),
        }
    }

    /// True if all octets are ASCII.
    #[must_use]
    pub fn is_ascii(&self) -> bool {
        self.as_str().is_ascii()
    }
}

/// In angle brackets.
impl fmt::Display for ReversePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{}>", self.as_str())
    }
}

impl FromStr for ReversePath {
    type Err = AddressError;

    /// From the text between the angle brackets.
    fn from_str(text: &str) -> Result<Self, AddressError> {
        if text.is_empty() {
            Ok(Self::Null)
        } else {
            Ok(Self::Address(text.parse()?))
        }
    }
}

/// The argument of RCPT. `<postmaster>` without a domain (RFC 5321 §4.1.1.3) has
/// been completed with our host name by the session before it gets here.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ForwardPath(pub Address);

impl ForwardPath {
    /// The mailbox.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.0
    }

    /// The text between the angle brackets.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

/// In angle brackets.
impl fmt::Display for ForwardPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{}>", self.as_str())
    }
}

impl FromStr for ForwardPath {
    type Err = AddressError;

    /// From the text between the angle brackets.
    fn from_str(text: &str) -> Result<Self, AddressError> {
        Ok(Self(text.parse()?))
    }
}

/// What the body may contain (RFC 6152 `BODY`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum BodyKind {
    /// ASCII in lines. Also where the client said nothing.
    #[default]
    SevenBit,
    /// Any octets in lines.
    EightBitMime,
}

/// How much of the message a notification returns (RFC 3461 §4.3 `RET`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Ret {
    /// All of it.
    Full,
    /// The header section.
    Headers,
}

/// When the sender wants to be told (RFC 3461 §4.1 `NOTIFY`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Notify {
    /// No parameter was given: failure and, at our choice, delay.
    Unspecified,
    /// `NEVER`.
    Never,
    /// Any non-empty set of the three.
    On {
        /// When it was delivered.
        success: bool,
        /// When it failed.
        failure: bool,
        /// When it is late.
        delay: bool,
    },
}

impl Notify {
    /// Whether a failure is reported.
    #[must_use]
    pub const fn failure(self) -> bool {
        match self {
            Self::Unspecified => true,
            Self::Never => false,
            Self::On { failure, .. } => failure,
        }
    }

    /// Whether a delay is reported. Without a parameter: yes, at our choice.
    #[must_use]
    pub const fn delay(self) -> bool {
        match self {
            Self::Unspecified => true,
            Self::Never => false,
            Self::On { delay, .. } => delay,
        }
    }

    /// Whether success is reported.
    #[must_use]
    pub const fn success(self) -> bool {
        matches!(self, Self::On { success: true, .. })
    }
}

/// MT-PRIORITY (RFC 6710): −9 to 9, 0 where nothing was said, more is sooner.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Priority(i8);

impl Priority {
    /// The least urgent.
    pub const MIN: Self = Self(-9);
    /// The most urgent.
    pub const MAX: Self = Self(9);

    /// `None` if the value is not in −9 ..= 9.
    #[must_use]
    pub const fn new(value: i8) -> Option<Self> {
        if value >= -9 && value <= 9 {
            Some(Self(value))
        } else {
            None
        }
    }

    /// −9 ..= 9.
    #[must_use]
    pub const fn value(self) -> i8 {
        self.0
    }
}

/// DELIVERBY (RFC 2852), with the seconds turned into a point of time at arrival.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct DeliverBy {
    /// When the time is over.
    pub deadline: WallTime,
    /// What happens then.
    pub mode: DeliverByMode,
    /// `T`: relaying it is to be reported.
    pub trace: bool,
}

/// RFC 2852 §4 `by-mode`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum DeliverByMode {
    /// `R`: return it as undelivered.
    Return,
    /// `N`: tell the sender and go on.
    Notify,
}

/// One forward-path with its DSN parameters.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Recipient {
    /// Where it goes.
    pub forward_path: ForwardPath,
    /// RFC 3461 `NOTIFY`.
    pub notify: Notify,
    /// RFC 3461 `ORCPT` as it came (`rfc822;xtext`), at most [`ORCPT_BYTES_MAX`].
    pub orcpt: Option<Box<str>>,
}

impl Recipient {
    /// A recipient without DSN parameters.
    #[must_use]
    pub fn new(forward_path: ForwardPath) -> Self {
        Self {
            forward_path,
            notify: Notify::Unspecified,
            orcpt: None,
        }
    }
}

/// Everything MAIL said.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Sender {
    /// Whom to tell.
    pub reverse_path: ReversePath,
    /// RFC 6152.
    pub body: BodyKind,
    /// RFC 6531: addresses or header fields hold UTF-8.
    pub smtputf8: bool,
    /// RFC 3461 `RET`.
    pub ret: Option<Ret>,
    /// RFC 3461 `ENVID` as it came (xtext), at most [`ENVID_BYTES_MAX`].
    pub envid: Option<Box<str>>,
    /// RFC 6710; `None` where the client said nothing.
    pub priority: Option<Priority>,
    /// RFC 2852.
    pub deliver_by: Option<DeliverBy>,
    /// RFC 4865: not before this time.
    pub hold_until: Option<WallTime>,
    /// RFC 8689.
    pub require_tls: bool,
}

impl Sender {
    /// A sender without parameters.
    #[must_use]
    pub fn new(reverse_path: ReversePath) -> Self {
        Self {
            reverse_path,
            body: BodyKind::SevenBit,
            smtputf8: false,
            ret: None,
            envid: None,
            priority: None,
            deliver_by: None,
            hold_until: None,
            require_tls: false,
        }
    }
}

/// Reverse-path, forward-paths and their ESMTP parameters.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Envelope {
    /// What MAIL said.
    pub sender: Sender,
    /// What the accepted RCPTs said, in their order. Never empty once spooled.
    pub recipients: Vec<Recipient>,
}

/// Which recipient of a message: its place in [`Envelope::recipients`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RecipientIndex(pub u32);

/// The name of a message in this spool; the operator's handle, and in every `250`.
///
/// The upper 8 bits are the number of the data core that took it, the lower 56 a
/// sequence that never repeats. Written in thirteen letters and digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct QueueId(u64);

/// Crockford's alphabet: no I, L, O, U, so that an id survives a telephone call.
const QUEUE_ID_DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// 13 digits of 5 bits hold 64.
const QUEUE_ID_LETTERS: usize = 13;

impl QueueId {
    /// From its parts; bits of `sequence` above 56 are an error of ours.
    #[must_use]
    pub fn new(core: u8, sequence: u64) -> Self {
        assert!(
            sequence < 1 << 56,
            "queue id sequence {sequence} has more than 56 bits"
        );
        Self(u64::from(core) << 56 | sequence)
    }

    /// From the spool.
    #[must_use]
    pub const fn from_u64(value: u64) -> Self {
        Self(value)
    }

    /// For the spool.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// The data core that took the message. It may not be the one that has it now.
    #[must_use]
    pub const fn core(self) -> u8 {
        (self.0 >> 56) as u8
    }

    /// The lower 56 bits.
    #[must_use]
    pub const fn sequence(self) -> u64 {
        self.0 & ((1 << 56) - 1)
    }
}

impl fmt::Display for QueueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; QUEUE_ID_LETTERS];
        for (i, digit) in text.iter_mut().rev().enumerate() {
            *digit = QUEUE_ID_DIGITS[(self.0 >> (5 * i) & 31) as usize];
        }
        f.write_str(std::str::from_utf8(&text).expect("the alphabet is ASCII"))
    }
}

/// The text is not a queue id.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a queue id is 13 letters and digits, like 00D5K2N8Q1Z7M")]
pub struct QueueIdError;

impl FromStr for QueueId {
    type Err = QueueIdError;

    fn from_str(text: &str) -> Result<Self, QueueIdError> {
        if text.len() != QUEUE_ID_LETTERS {
            return Err(QueueIdError);
        }
        let mut value: u64 = 0;
        for byte in text.bytes() {
            let upper = byte.to_ascii_uppercase();
            let digit = QUEUE_ID_DIGITS
                .iter()
                .position(|&d| d == upper)
                .ok_or(QueueIdError)? as u64;
            if value >> 59 != 0 {
                return Err(QueueIdError);
            }
            value = value << 5 | digit;
        }
        Ok(Self(value))
    }
}

/// The proof that a message is on stable storage.
///
/// A server session is generic over its receipt, and gives the positive reply to
/// the end of data only with one. The program's receipt is `spool::commit::Committed`,
/// which only the commit module can make.
pub trait Receipt {
    /// What the reply names.
    fn queue_id(&self) -> QueueId;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains() {
        let check = |text: &str, expected: Result<&str, AddressError>| {
            let got = text.parse::<Domain>();
            assert_eq!(
                got.as_ref().map(Domain::as_str),
                expected.as_ref().copied(),
                "{text:?}"
            );
        };
        let long_label = format!("{}.example", "a".repeat(64));
        let long_name = "abc.".repeat(64) + "example";
        check("Example.COM", Ok("example.com"));
        check("example.com.", Ok("example.com"));
        check("a_b.example", Ok("a_b.example"));
        check("müller.example", Ok("müller.example"));
        check("[192.0.2.1]", Ok("[192.0.2.1]"));
        check("[IPv6:2001:DB8::1]", Ok("[ipv6:2001:db8::1]"));
        check("[300.0.2.1]", Err(AddressError::Malformed));
        check("[192.0.2.1", Err(AddressError::Malformed));
        check("", Err(AddressError::Empty));
        check(".", Err(AddressError::Empty));
        check("a..b", Err(AddressError::Malformed));
        check("-a.b", Err(AddressError::Malformed));
        check("a b", Err(AddressError::Character));
        check("a\r\nb", Err(AddressError::Character));
        check("a\0b", Err(AddressError::Character));
        check("a/../b", Err(AddressError::Character));
        check(&long_label, Err(AddressError::TooLong));
        check(&long_name, Err(AddressError::TooLong));
    }

    #[test]
    fn addresses() {
        let check = |text: &str, expected: Result<(&str, &str), AddressError>| {
            let got = text.parse::<Address>();
            let got = got.as_ref().map(|a| (a.local_part(), a.domain_str()));
            assert_eq!(got, expected.as_ref().copied(), "{text:?}");
        };
        let long = format!("{}@b.example", "a".repeat(LOCAL_PART_BYTES_MAX + 1));
        check("User@B.example", Ok(("User", "b.example")));
        check("\"a@b\"@c.example", Ok(("\"a@b\"", "c.example")));
        check("\"a\\\"b\"@c.example", Ok(("\"a\\\"b\"", "c.example")));
        check("björn@b.example", Ok(("björn", "b.example")));
        check("a..b@c.example", Ok(("a..b", "c.example")));
        check("\"a@c.example", Err(AddressError::Malformed));
        check("\"a\\\"@c.example", Err(AddressError::Malformed));
        check("a b@c.example", Err(AddressError::Character));
        check("a<b@c.example", Err(AddressError::Character));
        check("\"a\r\nRCPT\"@c.example", Err(AddressError::Character));
        check("a", Err(AddressError::NoDomain));
        check("@b", Err(AddressError::Empty));
        check("", Err(AddressError::Empty));
        check(&long, Err(AddressError::TooLong));
    }

    #[test]
    fn queue_ids_read_as_they_are_written() {
        for id in [0, 1, 31, 32, u64::MAX, 0x0102_0304_0506_0708] {
            let id = QueueId::from_u64(id);
            assert_eq!(id.to_string().parse(), Ok(id));
            assert_eq!(id.to_string().to_lowercase().parse(), Ok(id));
        }
        for text in ["", "0", "ZZZZZZZZZZZZZ", "00000000000000", "0000000000OIL"] {
            assert_eq!(text.parse::<QueueId>(), Err(QueueIdError), "{text:?}");
        }
        let id = QueueId::new(3, 7);
        assert_eq!((id.core(), id.sequence()), (3, 7));
    }
}
