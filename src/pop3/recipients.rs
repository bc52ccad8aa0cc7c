//! For whom a message of a mailbox is, from its header section.
//!
//! A mailbox that holds the mail of a whole domain has lost the envelope. What is left
//! of it is looked for in the order of the rules: a field in which the provider wrote
//! the recipient, the `for` of its Received lines, Resent-To and its kin, To and its
//! kin. The first source that names somebody of our domains decides; if none does, the
//! default recipient gets it. So a message always has a recipient.
//!
//! Relies on `mail-parser` for the syntax of the fields, which takes any octets; on
//! [`HEADER_BYTES_MAX`] for an end of the work.
//!
//! What this module does not do: it decides nothing by the body, and it does not look
//! whether a mailbox exists: who takes the mail does.

use std::collections::BTreeMap;

use hashbrown::HashSet;
use mail_parser::{Addr, HeaderForm, HeaderName, HeaderValue, Message, MessageParser};
use memchr::memmem;

use crate::mail::{Address, Domain, ReversePath};

/// Octets of a header section that are looked at. Larger ones exist only by mistake or
/// by malice; what is beyond is stored, and not looked at.
pub const HEADER_BYTES_MAX: usize = 256 << 10;

/// Longest Message-ID that is remembered: a line (RFC 5322 §2.1.1).
const MESSAGE_ID_BYTES_MAX: usize = 998;

/// Where a recipient is looked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// Fields in which the provider wrote the envelope's recipient.
    Envelope,
    /// `for` of Received lines.
    Received,
    /// Resent-To, Resent-Cc, Resent-Bcc.
    Resent,
    /// To, Cc, Bcc.
    Header,
}

/// Which of several fields of one name holds the recipient.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Occurrence(pub u32);

impl Occurrence {
    /// The uppermost, which was written last.
    pub const FIRST: Self = Self(1);
}

/// How the recipients of a domain mailbox are found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DomainRules {
    /// Ours.
    pub domains: Vec<Domain>,
    /// Where to look, in this order.
    pub sources: Vec<Source>,
    /// Names of the fields of [`Source::Envelope`], in this order.
    pub envelope_fields: Vec<String>,
    /// Which of the fields of one name counts, from above.
    pub occurrence: Occurrence,
    /// What the provider puts before the local-part there.
    pub strip_prefix: Option<String>,
    /// Received lines from above that are not looked at: those behind the point at which
    /// the provider has put the mail into one mailbox.
    pub received_skipped: u32,
    /// Who gets what is for nobody else.
    pub default: Address,
}

/// How recipients are found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Mailbox {
    /// All is for one user.
    User(Address),
    /// All is for users of our domains.
    Domain(Box<DomainRules>),
}

/// The rules of a mailbox.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rules {
    /// How recipients are found.
    pub mailbox: Mailbox,
    /// Addresses that are another's, in lower case.
    pub aliases: BTreeMap<Box<str>, Address>,
}

/// What the header section says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Addressing {
    /// Return-Path. Null if there is none that can be read: then nobody is told of a
    /// failure, rather than somebody who has not sent it.
    pub reverse_path: ReversePath,
    /// Never empty, nobody twice.
    pub recipients: Vec<Address>,
    /// By what they were found. `None`: they are the default.
    pub source: Option<Source>,
    /// Message-ID, without angle brackets.
    pub message_id: Option<Box<[u8]>>,
}

/// The header section of a message that is coming, until it is whole.
#[derive(Debug, Default)]
pub struct HeaderBuffer {
    octets: Vec<u8>,
    whole: bool,
}

impl HeaderBuffer {
    /// More of the message. True if there is no more to wait for: the section is whole,
    /// or longer than is looked at.
    pub fn push(&mut self, octets: &[u8]) -> bool {
        // The empty line may lie across the border.
        let from = self.octets.len().saturating_sub(3);
        self.octets.extend_from_slice(octets);
        self.whole = self.octets.starts_with(b"\r\n")
            || memmem::find(&self.octets[from..], b"\r\n\r\n").is_some()
            || self.octets.len() >= HEADER_BYTES_MAX;
        self.whole
    }

    /// All octets so far: the header section, and what came with its end.
    #[must_use]
    pub fn octets(&self) -> &[u8] {
        &self.octets
    }

    /// All octets so far.
    #[must_use]
    pub fn into_octets(self) -> Vec<u8> {
        self.octets
    }
}

impl Rules {
    /// Who is named by the header section at the beginning of `octets`.
    #[must_use]
    pub fn addressing(&self, octets: &[u8]) -> Addressing {
        let section = section(octets);
        // Without an empty line at its end the parser would see no message.
        let section = [section, b"\r\n\r\n"].concat();
        let parser = MessageParser::new().header_received(HeaderName::Received);
        // `None` where there is no field at all.
        let message = parser.parse_headers(&section);
        let message = message.as_ref();
        let (found, source) = match &self.mailbox {
            Mailbox::User(address) => (vec![address.clone()], None),
            Mailbox::Domain(rules) => message.map_or_else(
                || (vec![rules.default.clone()], None),
                |message| rules.recipients(message),
            ),
        };
        let mut seen = HashSet::new();
        let recipients = found
            .into_iter()
            .map(|address| self.alias(address))
            .filter(|address| seen.insert(address.clone()))
            .collect();
        Addressing {
            reverse_path: message.map_or(ReversePath::Null, reverse_path),
            recipients,
            source,
            message_id: message.and_then(message_id),
        }
    }

    fn alias(&self, address: Address) -> Address {
        let text = address.as_str().to_ascii_lowercase();
        self.aliases.get(text.as_str()).cloned().unwrap_or(address)
    }
}

impl DomainRules {
    fn recipients(&self, message: &Message<'_>) -> (Vec<Address>, Option<Source>) {
        for &source in &self.sources {
            let found = match source {
                Source::Envelope => self.by_envelope(message),
                Source::Received => self.by_received(message),
                Source::Resent => self.by_fields(
                    message,
                    [
                        HeaderName::ResentTo,
                        HeaderName::ResentCc,
                        HeaderName::ResentBcc,
                    ],
                ),
                Source::Header => {
                    self.by_fields(message, [HeaderName::To, HeaderName::Cc, HeaderName::Bcc])
                }
            };
            if !found.is_empty() {
                return (found, Some(source));
            }
        }
        (vec![self.default.clone()], None)
    }

    fn by_envelope(&self, message: &Message<'_>) -> Vec<Address> {
        let index = self.occurrence.0.saturating_sub(1) as usize;
        for field in &self.envelope_fields {
            let name = HeaderName::parse(field.as_str()).unwrap_or(HeaderName::Subject);
            let values = message.header_as(name, HeaderForm::Addresses);
            let Some(value) = values.get(index) else {
                continue;
            };
            let mut found = Vec::new();
            self.add(value, Prefix::Stripped, &mut found);
            if !found.is_empty() {
                return found;
            }
        }
        Vec::new()
    }

    /// The first line below those that are skipped that names one of us.
    fn by_received(&self, message: &Message<'_>) -> Vec<Address> {
        let values = message.header_values(HeaderName::Received);
        let lines = values.skip(self.received_skipped as usize);
        let named = lines
            .filter_map(|value| value.as_received()?.for_())
            .find_map(|text| self.ours(text, Prefix::Stripped));
        named.into_iter().collect()
    }

    fn by_fields(&self, message: &Message<'_>, names: [HeaderName<'_>; 3]) -> Vec<Address> {
        let mut found = Vec::new();
        for name in names {
            for value in message.header_as(name.into_owned(), HeaderForm::Addresses) {
                self.add(&value, Prefix::Kept, &mut found);
            }
        }
        found
    }

    fn add(&self, value: &HeaderValue<'_>, prefix: Prefix, found: &mut Vec<Address>) {
        let Some(addresses) = value.as_address() else {
            return;
        };
        let texts = addresses.iter().filter_map(Addr::address);
        found.extend(texts.filter_map(|text| self.ours(text, prefix)));
    }

    /// The address, if it is one of our domains.
    fn ours(&self, text: &str, prefix: Prefix) -> Option<Address> {
        let text = text.trim();
        let text = text
            .strip_prefix('<')
            .and_then(|inner| inner.strip_suffix('>'))
            .unwrap_or(text);
        let text = match (&self.strip_prefix, prefix) {
            (Some(strip), Prefix::Stripped) => match text.get(..strip.len()) {
                Some(head) if head.eq_ignore_ascii_case(strip) => &text[strip.len()..],
                _ => text,
            },
            _ => text,
        };
        let address: Address = text.parse().ok()?;
        let ours = |domain: &Domain| domain.as_str() == address.domain_str();
        self.domains.iter().any(ours).then_some(address)
    }
}

/// Whether the provider's prefix is taken off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Prefix {
    Stripped,
    Kept,
}

/// The header section, without the empty line behind it.
fn section(octets: &[u8]) -> &[u8] {
    let octets = &octets[..octets.len().min(HEADER_BYTES_MAX)];
    if octets.starts_with(b"\r\n") {
        return &[];
    }
    memmem::find(octets, b"\r\n\r\n").map_or(octets, |end| &octets[..end])
}

fn reverse_path(message: &Message<'_>) -> ReversePath {
    let value = message
        .header_as(HeaderName::ReturnPath, HeaderForm::Raw)
        .into_iter()
        .next();
    let text = value.as_ref().and_then(HeaderValue::as_text);
    let text = text.unwrap_or_default().trim();
    let inner = text
        .strip_prefix('<')
        .and_then(|inner| inner.strip_suffix('>'))
        .unwrap_or(text);
    inner.trim().parse().unwrap_or(ReversePath::Null)
}

fn message_id(message: &Message<'_>) -> Option<Box<[u8]>> {
    let value = message
        .header_as(HeaderName::MessageId, HeaderForm::Raw)
        .into_iter()
        .next()?;
    let text = value.as_text()?.trim();
    let inner = text
        .strip_prefix('<')
        .and_then(|inner| inner.strip_suffix('>'))
        .unwrap_or(text);
    let fits = (1..=MESSAGE_ID_BYTES_MAX).contains(&inner.len());
    fits.then(|| inner.as_bytes().into())
}

#[cfg(test)]
mod tests;
