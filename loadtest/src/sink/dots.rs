//! The content of DATA: finds its end and takes doubled dots back
//! (RFC 5321 §4.5.2). Only CRLF.CRLF ends it.

use memchr::memmem;

/// What came last. DATA's own CRLF counts as a line end, so it starts there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Dots {
    #[default]
    LineStart,
    Text,
    /// CR within a line.
    Cr,
    /// The dot that begins a line, not handed on.
    Dot,
    /// Dot and CR, neither handed on.
    DotCr,
}

impl Dots {
    /// Takes `input` and hands its content to `content`. Returns how many octets
    /// of it belong to this message once its end is found, else `None`.
    pub(crate) fn feed(
        &mut self,
        input: &[u8],
        finder: &memmem::Finder<'_>,
        mut content: impl FnMut(&[u8]),
    ) -> Option<usize> {
        let mut at = 0;
        while at < input.len() {
            let octet = input[at];
            match *self {
                Self::Text => match finder.find(&input[at..]) {
                    Some(found) => {
                        content(&input[at..at + found + 2]);
                        at += found + 3;
                        *self = Self::Dot;
                    }
                    None => {
                        let rest = &input[at..];
                        content(rest);
                        *self = match rest {
                            [.., b'\r', b'\n'] => Self::LineStart,
                            [.., b'\r'] => Self::Cr,
                            _ => Self::Text,
                        };
                        return None;
                    }
                },
                Self::Cr => {
                    *self = match octet {
                        b'\n' => Self::LineStart,
                        b'\r' => Self::Cr,
                        _ => {
                            *self = Self::Text;
                            continue;
                        }
                    };
                    content(&input[at..=at]);
                    at += 1;
                }
                Self::LineStart if octet == b'.' => {
                    *self = Self::Dot;
                    at += 1;
                }
                Self::LineStart => *self = Self::Text,
                Self::Dot if octet == b'\r' => {
                    *self = Self::DotCr;
                    at += 1;
                }
                Self::Dot => *self = Self::Text,
                Self::DotCr if octet == b'\n' => {
                    *self = Self::LineStart;
                    return Some(at + 1);
                }
                Self::DotCr => {
                    content(b"\r");
                    *self = Self::Cr;
                }
            }
        }
        None
    }
}

/// What [`Dots::feed`] looks for.
pub(crate) fn finder() -> memmem::Finder<'static> {
    memmem::Finder::new(b"\r\n.")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By lines, as the RFC words it: the content and where the rest begins.
    fn by_the_book(input: &[u8]) -> Option<(Vec<u8>, usize)> {
        let text = [b"\r\n", input].concat();
        let end = memmem::find(&text, b"\r\n.\r\n")?;
        let content = &text[..end + 2];
        let mut undoubled = Vec::new();
        let mut at = 0;
        while at < content.len() {
            if content[at..].starts_with(b"\r\n.") {
                undoubled.extend_from_slice(b"\r\n");
                at += 3;
            } else {
                undoubled.push(content[at]);
                at += 1;
            }
        }
        Some((undoubled[2..].to_vec(), end + 5 - 2))
    }

    #[test]
    fn all_short_texts_in_all_cuts() {
        const ALPHABET: [u8; 4] = *b"\r\n.a";
        let finder = finder();
        let mut ended = 0;
        for length in 0..=7_u32 {
            for number in 0..4_usize.pow(length) {
                let text: Vec<u8> = (0..length)
                    .map(|place| ALPHABET[number / 4_usize.pow(place) % 4])
                    .chain(*b"\r\n.\r\n")
                    .collect();
                let expected = by_the_book(&text).expect("ends");
                for cut in 0..=text.len() {
                    let mut dots = Dots::default();
                    let mut content = Vec::new();
                    let mut end = dots.feed(&text[..cut], &finder, |piece| {
                        content.extend_from_slice(piece);
                    });
                    if end.is_none() {
                        end = dots
                            .feed(&text[cut..], &finder, |piece| {
                                content.extend_from_slice(piece)
                            })
                            .map(|consumed| cut + consumed);
                    }
                    ended += 1;
                    assert_eq!(
                        (content, end.expect("ends")),
                        expected,
                        "{} cut at {cut}",
                        text.escape_ascii()
                    );
                }
            }
        }
        assert!(ended > 200_000);
    }
}
