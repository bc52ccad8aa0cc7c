//! The only body that must be changed on its way out: one that came by BDAT and
//! goes by DATA.
//!
//! It gets what DATA demands (RFC 5321 §4.5.2 and §2.3.8): a dot before each dot at
//! the start of a line, CRLF for every bare CR or bare LF, CRLF at the end. Works
//! over any cut of the octets, and looks only at dots and line ends.

/// Where in the text the last octet left us.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Place {
    /// Behind CRLF, or at the beginning.
    #[default]
    LineStart,
    /// Inside a line.
    Inside,
    /// Behind a CR that is not yet written.
    AfterCr,
}

/// Makes octets fit for DATA. The lone dot at the end is not its business.
#[derive(Clone, Debug, Default)]
pub struct Stuffer {
    place: Place,
}

impl Stuffer {
    /// Appends to `out` what these octets become: at most twice as many.
    pub fn feed(&mut self, mut octets: &[u8], out: &mut Vec<u8>) {
        while let Some(&first) = octets.first() {
            match self.place {
                Place::LineStart if first == b'.' => out.push(b'.'),
                Place::LineStart | Place::Inside => {}
                Place::AfterCr => {
                    out.extend_from_slice(b"\r\n");
                    self.place = Place::LineStart;
                    if first == b'\n' {
                        octets = &octets[1..];
                    }
                    // What follows a CR stands at the start of a line.
                    continue;
                }
            }
            let end = memchr::memchr2(b'\r', b'\n', octets).unwrap_or(octets.len());
            out.extend_from_slice(&octets[..end]);
            self.place = match octets.get(end) {
                None => Place::Inside,
                Some(b'\r') => Place::AfterCr,
                Some(_) => {
                    out.extend_from_slice(b"\r\n");
                    Place::LineStart
                }
            };
            octets = octets.get(end + 1..).unwrap_or_default();
        }
    }

    /// Appends the CRLF that is still missing.
    pub fn finish(self, out: &mut Vec<u8>) {
        match self.place {
            Place::LineStart => {}
            Place::Inside | Place::AfterCr => out.extend_from_slice(b"\r\n"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same, slowly and obviously.
    fn reference(octets: &[u8]) -> Vec<u8> {
        let mut lines = vec![Vec::new()];
        let mut rest = octets;
        while let [first, tail @ ..] = rest {
            rest = match (first, tail) {
                (b'\r', [b'\n', tail @ ..]) => {
                    lines.push(Vec::new());
                    tail
                }
                (b'\r' | b'\n', _) => {
                    lines.push(Vec::new());
                    tail
                }
                _ => {
                    lines.last_mut().expect("never empty").push(*first);
                    tail
                }
            };
        }
        if lines.last().is_some_and(Vec::is_empty) {
            lines.pop();
        }
        let mut out = Vec::new();
        for line in lines {
            if line.starts_with(b".") {
                out.push(b'.');
            }
            out.extend_from_slice(&line);
            out.extend_from_slice(b"\r\n");
        }
        out
    }

    #[test]
    fn all_texts_of_eight_octets_in_two_cuts() {
        const ALPHABET: &[u8; 4] = b"\r\n.a";
        for length in 0..=8_u32 {
            for number in 0..4_usize.pow(length) {
                let text: Vec<u8> = (0..length)
                    .map(|place| ALPHABET[number >> (2 * place) & 3])
                    .collect();
                let expected = reference(&text);
                for cut in 0..=text.len() {
                    let mut stuffer = Stuffer::default();
                    let mut out = Vec::new();
                    stuffer.feed(&text[..cut], &mut out);
                    stuffer.feed(&text[cut..], &mut out);
                    stuffer.finish(&mut out);
                    assert_eq!(out, expected, "{:?} cut at {cut}", text.escape_ascii());
                }
            }
        }
    }
}
