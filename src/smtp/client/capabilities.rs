//! What the peer said that it can do: the reply to EHLO (RFC 5321 §4.1.1.1).
//!
//! The newest reply replaces all earlier ones. Keywords that we do not use are
//! passed over; a keyword whose parameter makes no sense counts as not offered,
//! but for SIZE and LIMITS, where only the broken part is passed over.

use std::num::{NonZeroU32, NonZeroU64};

use crate::smtp::answer::Answer;
use crate::smtp::auth::{Mechanism, Mechanisms};
use crate::smtp::flight;

/// Whether SIZE was offered, and with which limit (RFC 1870 §3).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Size {
    /// MAIL may not say SIZE.
    #[default]
    NotOffered,
    /// MAIL may say SIZE; no fixed limit is known.
    Offered,
    /// Larger messages will be refused. Octets, not zero.
    Max(u64),
}

/// Limits of one session (RFC 9422). `None` where none was named.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Limits {
    /// Most MAIL commands in the session.
    pub mail_max: Option<NonZeroU32>,
    /// Most RCPT commands in a transaction.
    pub rcpt_max: Option<NonZeroU32>,
    /// Most different domains in the RCPTs of a transaction.
    pub rcpt_domain_max: Option<NonZeroU32>,
}

/// The extensions that the peer offers. After HELO: none.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Capabilities {
    /// RFC 2920.
    pub pipelining: bool,
    /// RFC 1870.
    pub size: Size,
    /// RFC 6152.
    pub eight_bit_mime: bool,
    /// RFC 6531.
    pub smtputf8: bool,
    /// RFC 2034.
    pub enhanced_status_codes: bool,
    /// RFC 3030.
    pub chunking: bool,
    /// RFC 3461.
    pub dsn: bool,
    /// RFC 3207.
    pub starttls: bool,
    /// RFC 6710.
    pub mt_priority: bool,
    /// RFC 2852.
    pub deliver_by: bool,
    /// RFC 8689.
    pub require_tls: bool,
    /// X-FLIGHT: several contents may be on their way, with so many octets in all. Not in
    /// an RFC (see [`flight`]).
    pub flight: Option<NonZeroU64>,
    /// RFC 9422.
    pub limits: Limits,
    /// RFC 4954.
    pub mechanisms: Mechanisms,
}

impl Capabilities {
    /// From a positive reply to EHLO or LHLO. The first line is the greeting.
    #[must_use]
    pub fn from_answer(answer: &Answer<'_>) -> Self {
        let mut peer = Self::default();
        for line in answer.lines().skip(1) {
            peer.take(line);
        }
        peer
    }

    fn take(&mut self, line: &[u8]) {
        let mut words = line
            .split(|octet| octet.is_ascii_whitespace())
            .filter(|word| !word.is_empty());
        let Some(keyword) = words.next() else { return };
        // Before RFC 2554 some said `AUTH=LOGIN PLAIN`, and some still do.
        let (keyword, old_auth) = match keyword {
            [a, b, c, d, b'=', rest @ ..] if [*a, *b, *c, *d].eq_ignore_ascii_case(b"AUTH") => {
                (b"AUTH".as_slice(), Some(rest))
            }
            _ => (keyword, None),
        };
        let is = |name: &str| keyword.eq_ignore_ascii_case(name.as_bytes());
        if is("PIPELINING") {
            self.pipelining = true;
        } else if is("SIZE") {
            self.size = match words.next().and_then(decimal) {
                None | Some(0) => Size::Offered,
                Some(max) => Size::Max(max),
            };
        } else if is("8BITMIME") {
            self.eight_bit_mime = true;
        } else if is("SMTPUTF8") {
            self.smtputf8 = true;
        } else if is("ENHANCEDSTATUSCODES") {
            self.enhanced_status_codes = true;
        } else if is("CHUNKING") {
            self.chunking = true;
        } else if is("DSN") {
            self.dsn = true;
        } else if is("STARTTLS") {
            self.starttls = true;
        } else if is("MT-PRIORITY") {
            self.mt_priority = true;
        } else if is("DELIVERBY") {
            self.deliver_by = true;
        } else if is("REQUIRETLS") {
            self.require_tls = true;
        } else if is(flight::KEYWORD) {
            self.flight = words.next().and_then(decimal).and_then(NonZeroU64::new);
        } else if is("LIMITS") {
            words.for_each(|word| self.limits.take(word));
        } else if is("AUTH") {
            for word in old_auth.into_iter().chain(words) {
                for mechanism in Mechanism::ALL {
                    if word.eq_ignore_ascii_case(mechanism.name().as_bytes()) {
                        self.mechanisms = self.mechanisms.with(mechanism);
                    }
                }
            }
        }
    }
}

impl Limits {
    fn take(&mut self, word: &[u8]) {
        let Some(equals) = memchr::memchr(b'=', word) else {
            return;
        };
        let (name, value) = (&word[..equals], &word[equals + 1..]);
        // RFC 9422 §3: at most six digits and not zero. What is beyond u32 is no limit.
        let value = decimal(value)
            .and_then(|value| u32::try_from(value).ok())
            .and_then(NonZeroU32::new);
        if name.eq_ignore_ascii_case(b"MAILMAX") {
            self.mail_max = value;
        } else if name.eq_ignore_ascii_case(b"RCPTMAX") {
            self.rcpt_max = value;
        } else if name.eq_ignore_ascii_case(b"RCPTDOMAINMAX") {
            self.rcpt_domain_max = value;
        }
    }
}

/// Digits only; `None` if it is none or beyond u64.
fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smtp::answer::Reader;

    fn check(reply: &str, expected: &Capabilities) {
        let reply = reply.replace('\n', "\r\n");
        let mut reader = Reader::default();
        let answer = reader.next(&mut reply.as_bytes()).unwrap().unwrap();
        assert_eq!(&Capabilities::from_answer(&answer), expected, "{reply}");
    }

    #[test]
    fn replies_to_ehlo() {
        let nothing = Capabilities::default();
        check("250 mx.example\n", &nothing);
        check("250 PIPELINING\n", &nothing);
        check("250-mx\n250-\n250 XCLIENT NAME\n", &nothing);
        check(
            "250-mx\n250-pipelining\n250-SIZE 1000\n250-8BITMIME\n250 DSN\n",
            &Capabilities {
                pipelining: true,
                size: Size::Max(1000),
                eight_bit_mime: true,
                dsn: true,
                ..nothing.clone()
            },
        );
        for size in ["SIZE", "SIZE 0", "SIZE many", "SIZE 99999999999999999999"] {
            check(
                &format!("250-mx\n250 {size}\n"),
                &Capabilities {
                    size: Size::Offered,
                    ..nothing.clone()
                },
            );
        }
        check(
            "250-mx\n250-LIMITS MAILMAX=3 RCPTMAX=0 X RCPTDOMAINMAX=1\n250 CHUNKING\n",
            &Capabilities {
                chunking: true,
                limits: Limits {
                    mail_max: NonZeroU32::new(3),
                    rcpt_max: None,
                    rcpt_domain_max: NonZeroU32::new(1),
                },
                ..nothing.clone()
            },
        );
        for (said, flight) in [
            ("X-FLIGHT 65536", NonZeroU64::new(65_536)),
            ("x-flight 1", NonZeroU64::new(1)),
            ("X-FLIGHT", None),
            ("X-FLIGHT 0", None),
            ("X-FLIGHT many", None),
        ] {
            check(
                &format!("250-mx\n250 {said}\n"),
                &Capabilities {
                    flight,
                    ..nothing.clone()
                },
            );
        }
        for auth in ["AUTH PLAIN GSSAPI login", "AUTH=PLAIN LOGIN"] {
            check(
                &format!("250-mx\n250 {auth}\n"),
                &Capabilities {
                    mechanisms: Mechanisms::NONE
                        .with(Mechanism::Plain)
                        .with(Mechanism::Login),
                    ..nothing.clone()
                },
            );
        }
    }
}
