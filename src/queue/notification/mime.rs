//! Text in the forms that header fields and MIME parts need: folded, wrapped, encoded.
//!
//! Invariants of everything written here: lines end in CRLF, none is longer than
//! [`LINE_BYTES_MAX`], none begins with a dot, and no text that was handed in can end
//! a line or a header section: control characters do not get through.

use std::fmt::Write as _;

/// Where lines are folded or wrapped. RFC 5322 §2.1.1 asks for 78.
pub(super) const LINE_BYTES_WANTED: usize = 76;
/// RFC 5322 §2.1.1, without the CRLF.
pub(super) const LINE_BYTES_MAX: usize = 998;

/// Whether the text may hold characters beyond ASCII.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Alphabet {
    Ascii,
    Utf8,
}

/// Appends `name: text`, folded. The text is structured so that a space may be
/// replaced by a fold anywhere.
pub(super) fn field(out: &mut String, name: &str, text: &str, alphabet: Alphabet) {
    let start = out.len();
    out.push_str(name);
    out.push(':');
    let mut line_start = start;
    for word in text
        .split([' ', '\t', '\r', '\n'])
        .filter(|word| !word.is_empty())
    {
        let width = word
            .chars()
            .map(|c| shown_bytes(c, alphabet))
            .sum::<usize>();
        if out.len() - line_start + 1 + width > LINE_BYTES_WANTED
            && out.len() - line_start > name.len() + 1
        {
            out.push_str("\r\n");
            line_start = out.len();
        }
        out.push(' ');
        for c in word.chars() {
            // A word without a place to fold is broken by force.
            if out.len() - line_start + shown_bytes(c, alphabet) > LINE_BYTES_MAX {
                out.push_str("\r\n ");
                line_start = out.len() - 1;
            }
            show(out, c, alphabet);
        }
    }
    out.push_str("\r\n");
}

/// The octets that [`show`] writes.
fn shown_bytes(c: char, alphabet: Alphabet) -> usize {
    if is_shown_as_it_is(c, alphabet) {
        c.len_utf8()
    } else {
        // `\x{10FFFF}`
        10
    }
}

fn is_shown_as_it_is(c: char, alphabet: Alphabet) -> bool {
    c.is_ascii_graphic()
        || c == ' '
        || (alphabet == Alphabet::Utf8 && !c.is_ascii() && !c.is_control())
}

/// One character; where it may not stand, the escape of RFC 6533 §3 stands for it.
pub(super) fn show(out: &mut String, c: char, alphabet: Alphabet) {
    if is_shown_as_it_is(c, alphabet) {
        out.push(c);
    } else {
        write!(out, "\\x{{{:02X}}}", u32::from(c)).expect("a string takes it");
    }
}

/// Appends a paragraph, wrapped, each line behind `indent`.
pub(super) fn paragraph(out: &mut String, indent: &str, text: &str) {
    let mut width = 0;
    for word in text.split_whitespace() {
        let letters = word.chars().count();
        if width > 0 && width + 1 + letters > LINE_BYTES_WANTED {
            out.push_str("\r\n");
            width = 0;
        }
        if width == 0 {
            out.push_str(indent);
            width = indent.len();
        } else {
            out.push(' ');
            width += 1;
        }
        out.extend(word.chars().filter(|c| !c.is_control()));
        width += letters;
    }
    out.push_str("\r\n");
}

/// How a text part goes over the wire (RFC 2045 §6).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Encoding {
    SevenBit,
    /// UTF-8. Only in a message that goes by SMTPUTF8.
    EightBit,
    QuotedPrintable,
}

impl Encoding {
    /// The plainest that does.
    pub(super) fn for_text(text: &[u8], alphabet: Alphabet) -> Self {
        let fits = !text.contains(&0)
            && lines(text).all(|line| {
                line.len() <= LINE_BYTES_MAX
                    && !line.starts_with(b".")
                    && memchr::memchr2(b'\r', b'\n', line).is_none()
            });
        if fits && text.is_ascii() {
            Self::SevenBit
        } else if fits && alphabet == Alphabet::Utf8 && std::str::from_utf8(text).is_ok() {
            Self::EightBit
        } else {
            Self::QuotedPrintable
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::SevenBit => "7bit",
            Self::EightBit => "8bit",
            Self::QuotedPrintable => "quoted-printable",
        }
    }

    /// Appends the text, which is in lines that end in CRLF.
    pub(super) fn write(self, text: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::SevenBit | Self::EightBit => {
                out.extend_from_slice(text);
                if !text.is_empty() && !text.ends_with(b"\r\n") {
                    out.extend_from_slice(b"\r\n");
                }
            }
            Self::QuotedPrintable => lines(text).for_each(|line| quoted_printable(line, out)),
        }
    }
}

/// The lines of a text, without CRLF; a last one without CRLF too, an empty last not.
fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = memchr::memmem::find(rest, b"\r\n");
        let (line, tail) = match end {
            Some(end) => (&rest[..end], &rest[end + 2..]),
            None => (rest, &rest[rest.len()..]),
        };
        rest = tail;
        Some(line)
    })
}

/// One line (RFC 2045 §6.7).
fn quoted_printable(line: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut width = 0;
    for (place, &octet) in line.iter().enumerate() {
        let last = place + 1 == line.len();
        let plain = match octet {
            b'=' => false,
            b' ' | b'\t' => !last,
            b'.' => width > 0,
            _ => octet.is_ascii_graphic(),
        };
        let needed = if plain { 1 } else { 3 };
        // One place is kept for the `=` of a soft line break.
        if width + needed > LINE_BYTES_WANTED - 1 {
            out.extend_from_slice(b"=\r\n");
            width = 0;
        }
        if plain && !(octet == b'.' && width == 0) {
            out.push(octet);
            width += 1;
        } else {
            out.extend_from_slice(&[
                b'=',
                HEX[usize::from(octet >> 4)],
                HEX[usize::from(octet & 15)],
            ]);
            width += 3;
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// Decodes xtext (RFC 3461 §4). `None` if it is none, or holds more than printable
/// ASCII.
pub(super) fn from_xtext(text: &str) -> Option<String> {
    let mut decoded = String::with_capacity(text.len());
    let mut octets = text.bytes();
    while let Some(octet) = octets.next() {
        let octet = if octet == b'+' {
            let digit = |octet: u8| match octet {
                b'0'..=b'9' => Some(octet - b'0'),
                b'A'..=b'F' => Some(octet - b'A' + 10),
                _ => None,
            };
            digit(octets.next()?)? << 4 | digit(octets.next()?)?
        } else {
            octet
        };
        if !(octet.is_ascii_graphic() || octet == b' ') {
            return None;
        }
        decoded.push(char::from(octet));
    }
    Some(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_folded() {
        let check = |text: &str, alphabet: Alphabet, expected: &str| {
            let mut out = String::new();
            field(&mut out, "X", text, alphabet);
            assert_eq!(out, expected);
        };
        check("a b", Alphabet::Ascii, "X: a b\r\n");
        check("a\r\nInjected: b", Alphabet::Ascii, "X: a Injected: b\r\n");
        check("ü\0", Alphabet::Ascii, "X: \\x{FC}\\x{00}\r\n");
        check("ü\0", Alphabet::Utf8, "X: ü\\x{00}\r\n");
        let word = "w".repeat(40);
        check(
            &format!("{word} {word}"),
            Alphabet::Ascii,
            &format!("X: {word}\r\n {word}\r\n"),
        );
        let endless = "é".repeat(3000);
        for alphabet in [Alphabet::Ascii, Alphabet::Utf8] {
            let mut out = String::new();
            field(&mut out, "X", &endless, alphabet);
            let lines: Vec<_> = out.split("\r\n").collect();
            assert!(lines.len() > 6);
            assert!(lines.iter().all(|line| line.len() <= LINE_BYTES_MAX));
            assert!(
                lines[1..lines.len() - 1]
                    .iter()
                    .all(|line| line.starts_with(' '))
            );
        }
    }

    #[test]
    fn quoted_printable_of_rfc_2045() {
        let check = |text: &[u8], expected: &str| {
            let mut out = Vec::new();
            Encoding::QuotedPrintable.write(text, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        };
        check(b"", "");
        check(b"a=b \r\n.c.\r\n", "a=3Db=20\r\n=2Ec.\r\n");
        check("ü".as_bytes(), "=C3=BC\r\n");
        check(b"a\rb", "a=0Db\r\n");
        let long = [b'.'; 80];
        let rest = ".".repeat(72);
        check(&long, &format!("=2E{rest}=\r\n=2E......\r\n"));
    }

    #[test]
    fn xtext() {
        assert_eq!(from_xtext("a+2Bb").as_deref(), Some("a+b"));
        assert_eq!(from_xtext("a+2"), None);
        assert_eq!(from_xtext("a+0D+0A"), None);
        assert_eq!(from_xtext("a+zz"), None);
    }
}
