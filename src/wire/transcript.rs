//! What was said in a session, for the operator who looks closely.
//!
//! Rules:
//! - Only commands and replies: what a protocol hides (passwords, message text) it hides
//!   before it comes here.
//! - Bounded: [`LINES_MAX`] lines a session, [`LINE_BYTES_MAX`] octets a line.
//!
//! What it does not do: it escapes nothing. Who writes it to a log does.

use memchr::memchr;

/// Lines of one session that are recorded: some transactions with a hundred recipients.
pub const LINES_MAX: u32 = 2000;

/// Octets of a line that are recorded. RFC 5321 §4.5.3.1: 512, and more by extensions.
pub const LINE_BYTES_MAX: usize = 1000;

/// A line, and who said it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Spoken {
    /// We did.
    pub by_us: bool,
    /// Without its end.
    pub line: String,
}

/// The lines of a session that were not taken yet.
#[derive(Debug, Default)]
pub struct Transcript {
    lines: Vec<Spoken>,
    count: u32,
}

impl Transcript {
    /// One more line, as it is to be shown.
    pub fn push(&mut self, by_us: bool, line: String) {
        self.count = self.count.saturating_add(1);
        let line = match self.count {
            n if n < LINES_MAX => line,
            LINES_MAX => format!("({LINES_MAX} lines are recorded; more are not)"),
            _ => return,
        };
        self.lines.push(Spoken { by_us, line });
    }

    /// What was said since the last time.
    pub fn take(&mut self) -> Vec<Spoken> {
        std::mem::take(&mut self.lines)
    }
}

/// Lines without their ends. Octets without a line end are a line, even if there are none.
pub fn lines(octets: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(octets);
    std::iter::from_fn(move || {
        let octets = rest.take()?;
        let line = match memchr(b'\n', octets) {
            Some(at) => {
                rest = Some(&octets[at + 1..]).filter(|behind| !behind.is_empty());
                &octets[..at]
            }
            None => octets,
        };
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    })
}

/// A line that hides nothing, as text.
#[must_use]
pub fn shown(line: &[u8]) -> String {
    String::from_utf8_lossy(&line[..line.len().min(LINE_BYTES_MAX)]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_bounded() {
        assert_eq!(shown(&[b'2'; 2 * LINE_BYTES_MAX]).len(), LINE_BYTES_MAX);
        let mut transcript = Transcript::default();
        for _ in 0..2 * LINES_MAX {
            transcript.push(true, "NOOP".to_owned());
        }
        let lines = transcript.take();
        assert_eq!(lines.len(), LINES_MAX as usize);
        assert!(
            lines
                .last()
                .is_some_and(|last| last.line.contains("2000 lines"))
        );
    }

    #[test]
    fn lines_end_in_any_way() {
        let check = |octets: &str, expected: &[&str]| {
            let got: Vec<_> = lines(octets.as_bytes()).collect();
            let expected: Vec<_> = expected.iter().map(|line| line.as_bytes()).collect();
            assert_eq!(got, expected, "{octets:?}");
        };
        check("", &[""]);
        check("a", &["a"]);
        check("a\r\n", &["a"]);
        check("a\r\n\r\nb\nc", &["a", "", "b", "c"]);
    }
}
