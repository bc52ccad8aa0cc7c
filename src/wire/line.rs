//! Command lines out of octets that come as the network likes.
//!
//! A line that lies whole in one input is lent from there. Only a line that was
//! cut is copied, and that copy is dropped with the line: a session between two
//! commands holds no buffer.

use memchr::memchr;

use crate::wire::text::BareNewline;

/// Why a line is no command, whatever it says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LineFault {
    /// Over the limit. It was read to its end and thrown away.
    TooLong,
    /// Ended by LF without CR, where that is refused.
    BareNewline,
}

/// What an input came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Read<'a> {
    /// No line ended yet.
    Partial,
    /// A line, without its CRLF.
    Line(&'a [u8]),
    /// A line that is none.
    Fault(LineFault),
}

/// The beginning of a line whose end has not come yet.
#[derive(Debug)]
enum Beginning {
    Kept(Vec<u8>),
    /// Longer than the limit: only its end is of interest.
    TooLong,
}

/// Cuts octets into lines.
#[derive(Debug)]
pub struct Lines {
    beginning: Beginning,
}

impl Default for Lines {
    fn default() -> Self {
        Self {
            beginning: Beginning::Kept(Vec::new()),
        }
    }
}

impl Lines {
    /// Reads to the end of a line or of `octets`. How many octets were read, and
    /// what they came to. `work` is where a line that was cut is put together.
    pub fn read<'a>(
        &mut self,
        octets: &'a [u8],
        work: &'a mut Vec<u8>,
        bytes_max: usize,
        bare_newline: BareNewline,
    ) -> (usize, Read<'a>) {
        let Some(end) = memchr(b'\n', octets) else {
            self.keep(octets, bytes_max);
            return (octets.len(), Read::Partial);
        };
        let rest = &octets[..=end];
        let line: &'a [u8] = match std::mem::take(self).beginning {
            Beginning::TooLong => &[],
            Beginning::Kept(kept) if kept.is_empty() => rest,
            Beginning::Kept(kept) => {
                *work = kept;
                work.extend_from_slice(&rest[..rest.len().min(bytes_max + 1 - work.len())]);
                work
            }
        };
        let read = if line.is_empty() || line.len() > bytes_max {
            Read::Fault(LineFault::TooLong)
        } else {
            match (line.strip_suffix(b"\r\n"), bare_newline) {
                (Some(line), _) => Read::Line(line),
                (None, BareNewline::Normalise) => Read::Line(&line[..line.len() - 1]),
                (None, BareNewline::Refuse) => Read::Fault(LineFault::BareNewline),
            }
        };
        (end + 1, read)
    }

    /// True if no octet of a line has come.
    #[must_use]
    pub fn is_at_start(&self) -> bool {
        matches!(&self.beginning, Beginning::Kept(kept) if kept.is_empty())
    }

    fn keep(&mut self, octets: &[u8], bytes_max: usize) {
        if let Beginning::Kept(kept) = &mut self.beginning {
            // The line has no end yet: with it, it is at least one octet longer.
            if kept.len() + octets.len() < bytes_max {
                kept.extend_from_slice(octets);
            } else {
                self.beginning = Beginning::TooLong;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What lines `input` is, in all cuts into two and octet by octet.
    fn check(input: &[u8], bare_newline: BareNewline, expected: &[Result<&[u8], LineFault>]) {
        let read_all = |cuts: &[&[u8]]| {
            let mut lines = Lines::default();
            let mut got = Vec::new();
            for cut in cuts {
                let mut rest = *cut;
                while !rest.is_empty() {
                    let mut work = Vec::new();
                    let (read, line) = lines.read(rest, &mut work, 8, bare_newline);
                    rest = &rest[read..];
                    match line {
                        Read::Partial => {}
                        Read::Line(line) => got.push(Ok(line.to_vec())),
                        Read::Fault(fault) => got.push(Err(fault)),
                    }
                }
            }
            let got: Vec<_> = got
                .iter()
                .map(|line| line.as_deref().map_err(|fault| *fault))
                .collect();
            assert_eq!(got, expected, "{:?} as {cuts:?}", input.escape_ascii());
        };
        for cut in 0..=input.len() {
            read_all(&[&input[..cut], &input[cut..]]);
        }
        read_all(&input.chunks(1).collect::<Vec<_>>());
    }

    #[test]
    fn lines_in_all_cuts() {
        use BareNewline::{Normalise, Refuse};
        check(b"", Refuse, &[]);
        check(b"ab", Refuse, &[]);
        check(b"ab\r\n", Refuse, &[Ok(b"ab")]);
        check(b"\r\nb\r\n", Refuse, &[Ok(b""), Ok(b"b")]);
        check(b"a\rb\r\n", Refuse, &[Ok(b"a\rb")]);
        check(
            b"a\nb\r\n",
            Refuse,
            &[Err(LineFault::BareNewline), Ok(b"b")],
        );
        check(b"a\nb\r\n", Normalise, &[Ok(b"a"), Ok(b"b")]);
        check(b"123456\r\n7\r\n", Refuse, &[Ok(b"123456"), Ok(b"7")]);
        check(
            b"1234567\r\n7\r\n",
            Refuse,
            &[Err(LineFault::TooLong), Ok(b"7")],
        );
        check(
            b"1234567890123456789\r\n7\r\n",
            Refuse,
            &[Err(LineFault::TooLong), Ok(b"7")],
        );
        check(b"1234567\n\n", Normalise, &[Ok(b"1234567"), Ok(b"")]);
    }
}
