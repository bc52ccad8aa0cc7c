//! The header section of a message from a local program: who gets it, and what is missing.
//!
//! Only fields that are missing are added, before the others, and only `Bcc`,
//! `Resent-Bcc`, `Return-Path` and `Content-Length` are taken out: as sendmail and Postfix
//! do with mail of their own machine. All else stays, octet for octet.
//!
//! Relies on `mail-parser` for the syntax of addresses.

use std::io::{self, BufRead, Read};

use mail_parser::{Address as Parsed, HeaderName, HeaderValue, MessageParser};

/// Longest header section. A program that writes more has made a mistake.
const HEADER_BYTES_MAX: usize = 1 << 20;

/// Not for others, or not true any more.
const DROPPED: &[&str] = &["bcc", "resent-bcc", "return-path", "content-length"];

/// A header section that was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Header {
    /// Its fields, each with all its lines and ends.
    fields: Vec<Vec<u8>>,
    /// The first octets of the body, if what was read last was no field.
    behind: Vec<u8>,
}

/// What a message has to say of itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Missing<'a> {
    pub(super) from: &'a str,
    pub(super) date: &'a str,
    pub(super) message_id: &'a str,
}

impl Header {
    /// Reads up to the end of the section, and not much more.
    ///
    /// # Errors
    /// The input cannot be read, or has no end of a header section within a megabyte.
    pub(super) fn read(input: &mut dyn BufRead) -> io::Result<Self> {
        let mut fields: Vec<Vec<u8>> = Vec::new();
        let mut octets = 0;
        let mut first = true;
        loop {
            let mut line = Vec::new();
            let room = (HEADER_BYTES_MAX - octets) as u64;
            Read::take(&mut *input, room).read_until(b'\n', &mut line)?;
            octets += line.len();
            if octets >= HEADER_BYTES_MAX {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "the header section is longer than a megabyte",
                ));
            }
            let is_continuation = line.starts_with(b" ") || line.starts_with(b"\t");
            if std::mem::take(&mut first) && line.starts_with(b"From ") {
                // Of a mailbox file.
                continue;
            }
            if matches!(&line[..], b"\n" | b"\r\n") {
                return Ok(Self {
                    fields,
                    behind: Vec::new(),
                });
            }
            match fields.last_mut() {
                Some(field) if is_continuation => field.extend_from_slice(&line),
                _ if name(&line).is_some() => fields.push(line),
                // The body begins without an empty line, or the input ends.
                _ => {
                    return Ok(Self {
                        fields,
                        behind: line,
                    });
                }
            }
        }
    }

    fn has(&self, wanted: &str) -> bool {
        let mut names = self.fields.iter().filter_map(|field| name(field));
        names.any(|name| name.eq_ignore_ascii_case(wanted.as_bytes()))
    }

    /// The recipients of To, Cc and Bcc; of their Resent forms, if there are any.
    pub(super) fn recipients(&self) -> Vec<String> {
        let octets = self.fields.concat();
        let Some(message) = MessageParser::default().parse_headers(&octets) else {
            return Vec::new();
        };
        let resent = [
            HeaderName::ResentTo,
            HeaderName::ResentCc,
            HeaderName::ResentBcc,
        ];
        let usual = [HeaderName::To, HeaderName::Cc, HeaderName::Bcc];
        let is_resent = message.headers().iter().any(|h| resent.contains(&h.name));
        let wanted = if is_resent { &resent } else { &usual };
        let mut recipients = Vec::new();
        for header in message.headers() {
            if !wanted.contains(&header.name) {
                continue;
            }
            if let HeaderValue::Address(address) = &header.value {
                let addresses: Vec<_> = match address {
                    Parsed::List(list) => list.iter().collect(),
                    Parsed::Group(groups) => groups.iter().flat_map(|g| &g.addresses).collect(),
                };
                for address in addresses {
                    // "root" alone is read as a name.
                    let text = address.address.as_deref().or(address.name.as_deref());
                    recipients.extend(text.map(|text| text.trim().to_owned()));
                }
            }
        }
        recipients
    }

    /// The section as it is sent, with its end and the octets behind it.
    pub(super) fn completed(&self, missing: Missing<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        let mut add = |name: &str, value: &str| {
            if !self.has(name) {
                out.extend_from_slice(format!("{name}: {value}\n").as_bytes());
            }
        };
        add("Date", missing.date);
        add("From", missing.from);
        add("Message-ID", missing.message_id);
        for field in &self.fields {
            let name = name(field).map(<[u8]>::to_ascii_lowercase);
            let dropped = DROPPED
                .iter()
                .any(|d| name.as_deref() == Some(d.as_bytes()));
            if !dropped {
                out.extend_from_slice(field);
                if !field.ends_with(b"\n") {
                    out.push(b'\n');
                }
            }
        }
        out.push(b'\n');
        out.extend_from_slice(&self.behind);
        out
    }
}

/// The name of a field, if the line begins one (RFC 5322 §2.2).
fn name(line: &[u8]) -> Option<&[u8]> {
    let colon = memchr::memchr(b':', line)?;
    let name = line[..colon].trim_ascii_end();
    let printable = |octet: &u8| (33..=126).contains(octet);
    (!name.is_empty() && name.iter().all(printable)).then_some(name)
}

/// What ends a message of standard input: its end, and a lone dot where that was not
/// forbidden.
pub(super) struct Text<R> {
    input: R,
    dots_are_text: bool,
    line: Vec<u8>,
    at: usize,
    ended: bool,
}

/// Octets of a line in memory.
const LINE_BYTES_MAX: u64 = 64 << 10;

impl<R: BufRead> Text<R> {
    pub(super) const fn new(input: R, dots_are_text: bool) -> Self {
        Self {
            input,
            dots_are_text,
            line: Vec::new(),
            at: 0,
            ended: false,
        }
    }

    /// False at the end.
    fn next(&mut self) -> io::Result<bool> {
        if self.ended {
            return Ok(false);
        }
        let at_line_start = self.line.is_empty() || self.line.ends_with(b"\n");
        self.line.clear();
        self.at = 0;
        Read::take(&mut self.input, LINE_BYTES_MAX).read_until(b'\n', &mut self.line)?;
        let dot = matches!(&self.line[..], b"." | b".\n" | b".\r\n");
        if self.line.is_empty() || (dot && at_line_start && !self.dots_are_text) {
            self.line.clear();
            self.ended = true;
        }
        Ok(!self.ended)
    }
}

impl<R: BufRead> BufRead for Text<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.line.len() {
            self.next()?;
        }
        Ok(&self.line[self.at..])
    }

    fn consume(&mut self, octets: usize) {
        self.at += octets;
    }
}

impl<R: BufRead> Read for Text<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let ahead = self.fill_buf()?;
        let octets = ahead.len().min(out.len());
        out[..octets].copy_from_slice(&ahead[..octets]);
        self.consume(octets);
        Ok(octets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completed(text: &str) -> (String, Vec<String>, String) {
        let mut input = Text::new(text.as_bytes(), false);
        let header = Header::read(&mut input).unwrap();
        let missing = Missing {
            from: "me",
            date: "now",
            message_id: "<1>",
        };
        let head = String::from_utf8(header.completed(missing)).unwrap();
        let mut rest = String::new();
        input.read_to_string(&mut rest).unwrap();
        (head, header.recipients(), rest)
    }

    #[test]
    fn only_what_is_missing_is_added() {
        let check = |text: &str, head: &str, rest: &str| {
            let got = completed(text);
            assert_eq!((got.0.as_str(), got.2.as_str()), (head, rest), "{text:?}");
        };
        let added = "Date: now\nFrom: me\nMessage-ID: <1>\n";
        check("", &format!("{added}\n"), "");
        check("text\nmore\n", &format!("{added}\ntext\n"), "more\n");
        check(
            "no field : here\n",
            &format!("{added}\nno field : here\n"),
            "",
        );
        check("\nbody\n", &format!("{added}\n"), "body\n");
        check(
            "Subject: x\n y\n\nbody\n",
            &format!("{added}Subject: x\n y\n\n"),
            "body\n",
        );
        check("Subject: x", &format!("{added}Subject: x\n\n"), "");
        check(
            "From a@b.example Mon\ndate: then\nFROM: you\nMessage-Id: <2>\nBCC: c@d.example,\n e\n\nb",
            "date: then\nFROM: you\nMessage-Id: <2>\n\n",
            "b",
        );
    }

    #[test]
    fn recipients_of_the_header() {
        let check =
            |text: &str, expected: &[&str]| assert_eq!(completed(text).1, expected, "{text}");
        check(
            "To: Anna <a@b.example>, c@d.example\nCc: team: e@f.example;\nBcc: g@h.example\n\n",
            &["a@b.example", "c@d.example", "e@f.example", "g@h.example"],
        );
        check("To: root\n\n", &["root"]);
        check(
            "To: a@b.example\nResent-To: c@d.example\n\n",
            &["c@d.example"],
        );
        check("Subject: to: a@b.example\n\n", &[]);
    }

    #[test]
    fn a_lone_dot_ends_the_text_unless_it_is_text() {
        let check = |text: &str, dots_are_text: bool, expected: &str| {
            let mut rest = String::new();
            let mut text = Text::new(text.as_bytes(), dots_are_text);
            text.read_to_string(&mut rest).unwrap();
            assert_eq!(rest, expected);
        };
        check("a\n.\nb\n", false, "a\n");
        check("a\n.\r\nb\n", false, "a\n");
        check("a\n.\nb\n", true, "a\n.\nb\n");
        check("a\n..\n.x\n", false, "a\n..\n.x\n");
        check(".", false, "");
        check(
            &format!("{}.\n", "x".repeat(64 << 10)),
            false,
            &format!("{}.\n", "x".repeat(64 << 10)),
        );
    }

    #[test]
    fn a_header_section_has_a_limit() {
        let long = format!("Subject: {}\n", "x".repeat(2 * HEADER_BYTES_MAX));
        assert!(Header::read(&mut long.as_bytes()).is_err());
    }
}
