//! The Received line that we put before every message (RFC 5321 §4.4).
//!
//! Nothing that a peer said gets into it unchecked: the client's name is a
//! [`HelloName`], addresses are parsed ones, all else is ours. So no peer can end
//! the line, open a comment or forge a clause.

use std::fmt;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};

use crate::mail::{Domain, ForwardPath, QueueId};
use crate::time::WallTime;

/// Longest name that we take from EHLO: a domain's length (RFC 5321 §4.5.3.1.2).
pub const HELLO_NAME_BYTES_MAX: usize = crate::mail::DOMAIN_BYTES_MAX;

/// What the client called itself, safe to be written anywhere.
///
/// RFC 5321 §4.1.4 forbids refusing a client because its name is wrong, and the
/// names that are in use are often wrong. Whatever stands in neither a domain nor
/// an address literal is kept as `?`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HelloName(Box<str>);

impl HelloName {
    /// `None` for an empty name, one over [`HELLO_NAME_BYTES_MAX`], and one with
    /// control characters or spaces.
    #[must_use]
    pub fn new(name: &[u8]) -> Option<Self> {
        if name.is_empty() || name.len() > HELLO_NAME_BYTES_MAX {
            return None;
        }
        if name.iter().any(|&octet| octet <= b' ' || octet == 0x7f) {
            return None;
        }
        let safe = |&octet: &u8| match octet {
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => char::from(octet),
            b'.' | b'-' | b'_' | b':' | b'[' | b']' => char::from(octet),
            _ => '?',
        };
        Some(Self(name.iter().map(safe).collect()))
    }

    /// ASCII letters, digits, `.-_:[]?`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HelloName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What TLS came to, for the trace line and the session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlsFacts {
    /// Such as `TLSv1.3`.
    pub protocol: &'static str,
    /// Such as `TLS_AES_256_GCM_SHA384`.
    pub cipher: &'static str,
    /// The name in the client's certificate, if it showed one that was checked against
    /// our `client_ca`: who it is for AUTH EXTERNAL (RFC 4422 App. A). Printable ASCII.
    pub client: Option<Box<str>>,
}

/// The protocol that `with` names (RFC 3848, RFC 6531 §4.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protocol {
    /// HELO.
    Smtp,
    /// EHLO.
    Esmtp,
    /// EHLO, and MAIL with SMTPUTF8.
    Utf8Smtp,
}

/// What the line tells.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The client's own name.
    pub hello: &'a HelloName,
    /// The client's address.
    pub client: SocketAddr,
    /// Our name.
    pub hostname: &'a Domain,
    /// How the client speaks.
    pub protocol: Protocol,
    /// Present if the session is under TLS.
    pub tls: Option<&'a TlsFacts>,
    /// The client has authenticated. As whom is nobody's business.
    pub authenticated: bool,
    /// The recipient, where there is exactly one: with several, each would see
    /// the others (RFC 5321 §7.6).
    pub only_recipient: Option<&'a ForwardPath>,
    /// When the transaction came to its message.
    pub time: WallTime,
}

/// A trace line that lacks its queue id, which is not known yet.
#[derive(Clone, Debug)]
pub struct Draft {
    octets: Vec<u8>,
    id_at: usize,
}

/// All queue ids have this many letters.
const QUEUE_ID_BYTES: usize = 13;

impl Draft {
    /// All of the line but the queue id.
    #[must_use]
    pub fn new(facts: &Facts<'_>) -> Self {
        let mut out = Vec::with_capacity(384);
        out.extend_from_slice(b"Received: from ");
        out.extend_from_slice(facts.hello.as_str().as_bytes());
        // A client on an IPv6 socket that speaks IPv4 is shown as what it is.
        let written = match facts.client.ip().to_canonical() {
            IpAddr::V4(v4) => write!(out, " ([{v4}])"),
            IpAddr::V6(v6) => write!(out, " ([IPv6:{v6}])"),
        };
        written.expect("a vector takes all");
        out.extend_from_slice(b"\r\n\tby ");
        out.extend_from_slice(facts.hostname.as_str().as_bytes());
        let tls = facts.tls.is_some();
        out.extend_from_slice(match facts.protocol {
            // RFC 3848 has no word for HELO under TLS or with AUTH.
            Protocol::Smtp if !tls && !facts.authenticated => b" with SMTP",
            Protocol::Smtp | Protocol::Esmtp => b" with ESMTP".as_slice(),
            Protocol::Utf8Smtp => b" with UTF8SMTP",
        });
        if tls {
            out.push(b'S');
        }
        if facts.authenticated {
            out.push(b'A');
        }
        if let Some(tls) = facts.tls {
            write!(out, "\r\n\t({} {})", tls.protocol, tls.cipher).expect("a vector takes all");
        }
        out.extend_from_slice(b" id ");
        let id_at = out.len();
        out.extend_from_slice(&[b'?'; QUEUE_ID_BYTES]);
        if let Some(recipient) = facts.only_recipient {
            out.extend_from_slice(b"\r\n\tfor <");
            out.extend_from_slice(recipient.as_str().as_bytes());
            out.push(b'>');
        }
        out.extend_from_slice(b";\r\n\t");
        push_date(&mut out, facts.time);
        out.extend_from_slice(b"\r\n");
        Self { octets: out, id_at }
    }

    /// The line, with CRLF.
    #[must_use]
    pub fn finish(self, id: QueueId) -> Vec<u8> {
        let mut octets = self.octets;
        let mut place = &mut octets[self.id_at..self.id_at + QUEUE_ID_BYTES];
        write!(place, "{id}").expect("a queue id has thirteen letters");
        assert!(place.is_empty(), "a queue id has thirteen letters");
        octets
    }
}

/// RFC 5322 §3.3, in UTC, as [`WallTime::rfc5322`] does: that one is for people's
/// time zones some day and takes half a microsecond, this is on the way of each
/// message. Years outside 1–9999 are shown as the epoch.
fn push_date(out: &mut Vec<u8>, time: WallTime) {
    const SECONDS_A_DAY: i64 = 86_400;
    // The first and the last second that a date of four digits can show.
    const YEARS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;
    const WEEKDAYS: &[&[u8; 3]; 7] = &[b"Thu", b"Fri", b"Sat", b"Sun", b"Mon", b"Tue", b"Wed"];
    const MONTHS: &[&[u8; 3]; 12] = &[
        b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov",
        b"Dec",
    ];
    let seconds = time.as_seconds();
    let seconds = if YEARS.contains(&seconds) { seconds } else { 0 };
    let day = seconds.div_euclid(SECONDS_A_DAY);
    let second = seconds.rem_euclid(SECONDS_A_DAY);

    // The year is taken to begin in March, so that the leap day is its last, and
    // days are counted in eras of 400 years, all of the same length.
    let from_march_0 = day + 719_468;
    let era = from_march_0.div_euclid(146_097);
    let day_of_era = from_march_0.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12;
    let year = era * 400 + year_of_era + i64::from(month < 2);

    let two = |number: i64| -> [u8; 2] {
        let number = u8::try_from(number).expect("below a hundred");
        [b'0' + number / 10, b'0' + number % 10]
    };
    let index = |number: i64| usize::try_from(number).expect("a remainder is not negative");
    out.extend_from_slice(WEEKDAYS[index(day.rem_euclid(7))]);
    out.extend_from_slice(b", ");
    out.extend_from_slice(&two(day_of_month));
    out.push(b' ');
    out.extend_from_slice(MONTHS[index(month)]);
    out.push(b' ');
    out.extend_from_slice(&two(year / 100));
    out.extend_from_slice(&two(year % 100));
    out.push(b' ');
    out.extend_from_slice(&two(second / 3600));
    out.push(b':');
    out.extend_from_slice(&two(second / 60 % 60));
    out.push(b':');
    out.extend_from_slice(&two(second % 60));
    out.extend_from_slice(b" +0000");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn date(time: WallTime) -> String {
        let mut out = Vec::new();
        push_date(&mut out, time);
        String::from_utf8(out).expect("a date is ASCII")
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        // Every day of the years 1–9999 would take long; a step that is prime to
        // the weeks, months and eras meets all of their borders' neighbours.
        let mut seconds = -62_135_596_800_i64;
        while seconds <= 253_402_300_799 {
            let time = WallTime::from_millis(seconds * 1000);
            assert_eq!(date(time), time.rfc5322());
            seconds += 86_399 * 17 + 11;
        }
        // All days of an era's end and of leap years about today.
        for day in (-800 * 365..40 * 365).chain(10_957 - 400..10_957 + 40_000) {
            let time = WallTime::from_millis(day * 86_400_000 + 1);
            assert_eq!(date(time), time.rfc5322());
        }
        let far = WallTime::from_millis(i64::MAX);
        assert_eq!(date(far), "Thu, 01 Jan 1970 00:00:00 +0000");
    }

    #[test]
    fn hello_names() {
        let check = |name: &[u8], expected: Option<&str>| {
            let got = HelloName::new(name);
            assert_eq!(got.as_ref().map(HelloName::as_str), expected, "{name:?}");
        };
        check(b"client.example", Some("client.example"));
        check(b"MY_PC", Some("MY_PC"));
        check(b"[192.0.2.1]", Some("[192.0.2.1]"));
        check(b"[IPv6:2001:db8::1]", Some("[IPv6:2001:db8::1]"));
        check(b"a(b)c;d@e<f>\"\\", Some("a?b?c?d?e?f???"));
        check("m\u{fc}ller".as_bytes(), Some("m??ller"));
        check(b"a b", None);
        check(b"a\rb", None);
        check(b"a\0b", None);
        check(b"", None);
        check(&[b'a'; HELLO_NAME_BYTES_MAX], Some(&"a".repeat(255)));
        check(&[b'a'; HELLO_NAME_BYTES_MAX + 1], None);
    }

    #[test]
    fn lines() {
        let recipient: ForwardPath = "u@d.example".parse().expect("an address");
        let hello = HelloName::new(b"c.example").expect("a name");
        let hostname: Domain = "s.example".parse().expect("a domain");
        let time = WallTime::from_millis(1_795_351_597_250);
        let plain = Facts {
            hello: &hello,
            client: "192.0.2.1:1025".parse().expect("an address"),
            hostname: &hostname,
            protocol: Protocol::Esmtp,
            tls: None,
            authenticated: false,
            only_recipient: Some(&recipient),
            time,
        };
        let check = |facts: &Facts<'_>, expected: &str| {
            let line = Draft::new(facts).finish(QueueId::new(3, 7));
            assert_eq!(String::from_utf8(line).expect("ASCII"), expected);
        };
        check(
            &plain,
            "Received: from c.example ([192.0.2.1])\r\n\
             \tby s.example with ESMTP id 0600000000007\r\n\
             \tfor <u@d.example>;\r\n\
             \tSun, 22 Nov 2026 12:46:37 +0000\r\n",
        );
        check(
            &Facts {
                client: "[2001:db8::1]:1025".parse().expect("an address"),
                protocol: Protocol::Utf8Smtp,
                tls: Some(&TlsFacts {
                    protocol: "TLSv1.3",
                    cipher: "TLS_AES_256_GCM_SHA384",
                    client: None,
                }),
                only_recipient: None,
                ..plain
            },
            "Received: from c.example ([IPv6:2001:db8::1])\r\n\
             \tby s.example with UTF8SMTPS\r\n\
             \t(TLSv1.3 TLS_AES_256_GCM_SHA384) id 0600000000007;\r\n\
             \tSun, 22 Nov 2026 12:46:37 +0000\r\n",
        );
        check(
            &Facts {
                client: "[::ffff:192.0.2.1]:1025".parse().expect("an address"),
                protocol: Protocol::Smtp,
                only_recipient: None,
                ..plain
            },
            "Received: from c.example ([192.0.2.1])\r\n\
             \tby s.example with SMTP id 0600000000007;\r\n\
             \tSun, 22 Nov 2026 12:46:37 +0000\r\n",
        );
    }
}
