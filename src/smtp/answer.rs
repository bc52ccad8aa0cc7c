//! Replies that a peer gives us (RFC 5321 §4.2), read from its octets.
//!
//! Relies on nothing but the octets in their order: they may come in any cut.
//!
//! Invariants:
//! - an [`Answer`] is complete: all its lines came, with codes of one class;
//! - what is kept of an answer is at most [`ANSWER_BYTES_MAX`], of an unfinished
//!   line at most [`LINE_BYTES_MAX`];
//! - the text of a [`Reply`] holds no control character and no broken UTF-8, so
//!   that it may stand in a log line or a notification.
//!
//! What this module does not do: it does not know which command an answer belongs
//! to, and it does not judge. Lines that end in a bare LF are taken, since hosts
//! that send them exist and nothing is decided by the CR.

use std::fmt;
use std::sync::Arc;

/// Longest reply line that we take. RFC 5321 §4.5.3.1.5 allows 512 octets; real
/// hosts pass on longer ones of a policy service behind them.
pub const LINE_BYTES_MAX: usize = 4096;
/// Most lines in one reply. The longest EHLO replies in use have about thirty.
pub const LINES_MAX: u32 = 256;
/// Most octets of text kept of one reply.
pub const ANSWER_BYTES_MAX: usize = 32 * 1024;
/// Most octets of text in a [`Reply`]: what a person reads in a notification.
pub const REPLY_TEXT_BYTES_MAX: usize = 1024;

/// Why octets are not an SMTP reply. The session cannot go on after one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AnswerError {
    /// A line that does not begin with three digits and a space or hyphen.
    #[error("a line that is not an SMTP reply: {0}")]
    Syntax(Beginning),
    /// A code outside 200 to 599. SMTP has no 1xx (RFC 5321 §4.2.1).
    #[error("a reply code that SMTP does not have: {0}")]
    Code(Beginning),
    /// Lines of one reply with codes of different classes.
    #[error("one reply with codes of different classes")]
    Mixed,
    /// Over [`LINE_BYTES_MAX`].
    #[error("a reply line of more than {LINE_BYTES_MAX} octets")]
    LineTooLong,
    /// Over [`LINES_MAX`] or [`ANSWER_BYTES_MAX`].
    #[error("a reply without end")]
    TooLong,
}

/// The beginning of a line, to show what it was: a web server, a banner, another language.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Beginning {
    octets: [u8; Self::OCTETS],
    length: usize,
}

impl Beginning {
    /// `HTTP/1.1 400 Bad Request` and the like.
    const OCTETS: usize = 40;

    fn of(line: &[u8]) -> Self {
        let mut octets = [0; Self::OCTETS];
        let shown = line.len().min(Self::OCTETS);
        octets[..shown].copy_from_slice(&line[..shown]);
        let length = line.len();
        Self { octets, length }
    }
}

/// Printable ASCII, the rest escaped.
impl fmt::Display for Beginning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.length.min(Self::OCTETS);
        let more = if self.length > shown { "..." } else { "" };
        write!(f, "\"{}{more}\"", self.octets[..shown].escape_ascii())
    }
}

impl fmt::Debug for Beginning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The first digit of a reply code (RFC 5321 §4.2.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// 2yz: done.
    Positive,
    /// 3yz: go on.
    Intermediate,
    /// 4yz: not now.
    Transient,
    /// 5yz: no.
    Permanent,
}

/// A reply code, 200 to 599.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Code(u16);

impl Code {
    /// `None` outside 200 to 599.
    #[must_use]
    pub const fn new(code: u16) -> Option<Self> {
        if code >= 200 && code <= 599 {
            Some(Self(code))
        } else {
            None
        }
    }

    /// The number.
    #[must_use]
    pub const fn value(self) -> u16 {
        self.0
    }

    /// Its first digit.
    #[must_use]
    pub const fn class(self) -> Class {
        match self.0 / 100 {
            2 => Class::Positive,
            3 => Class::Intermediate,
            4 => Class::Transient,
            _ => Class::Permanent,
        }
    }
}

/// An enhanced status code (RFC 3463 §2), such as 5.1.1.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Enhanced {
    /// 2, 4 or 5.
    pub class: u8,
    /// 0 to 999.
    pub subject: u16,
    /// 0 to 999.
    pub detail: u16,
}

impl Enhanced {
    /// From its parts, which are ours and right.
    #[must_use]
    pub const fn new(class: u8, subject: u16, detail: u16) -> Self {
        Self {
            class,
            subject,
            detail,
        }
    }

    /// The same subject and detail in another class.
    #[must_use]
    pub const fn with_class(self, class: u8) -> Self {
        Self { class, ..self }
    }

    /// At the start of a text, with what follows it.
    fn parse(text: &[u8]) -> Option<(Self, &[u8])> {
        let (class, rest) = number(text, 1)?;
        let rest = rest.strip_prefix(b".")?;
        let (subject, rest) = number(rest, 3)?;
        let rest = rest.strip_prefix(b".")?;
        let (detail, rest) = number(rest, 3)?;
        let rest = match rest {
            [] => rest,
            [b' ', rest @ ..] => rest,
            _ => return None,
        };
        let class = match class {
            2 => 2,
            4 => 4,
            5 => 5,
            _ => return None,
        };
        Some((Self::new(class, subject, detail), rest))
    }
}

/// At most `digits_max` digits, and what follows them.
fn number(text: &[u8], digits_max: usize) -> Option<(u16, &[u8])> {
    let digits = text
        .iter()
        .take(digits_max)
        .take_while(|octet| octet.is_ascii_digit())
        .count();
    if digits == 0 {
        return None;
    }
    let (digits, rest) = text.split_at(digits);
    let value = digits
        .iter()
        .fold(0, |value, digit| value * 10 + u16::from(digit - b'0'));
    Some((value, rest))
}

impl fmt::Display for Enhanced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.class, self.subject, self.detail)
    }
}

/// One whole reply, as long as the next one has not been read.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// The code of its last line.
    pub code: Code,
    /// What stood behind the codes, line for line, with LF between them.
    text: &'a [u8],
}

impl<'a> Answer<'a> {
    /// The texts of its lines, unescaped.
    pub fn lines(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.text.split(|&octet| octet == b'\n')
    }

    /// Its enhanced status code, if it is of the same class as the code.
    #[must_use]
    pub fn enhanced(&self) -> Option<Enhanced> {
        let line = self.lines().next()?;
        let (enhanced, _) = Enhanced::parse(line)?;
        (u16::from(enhanced.class) == self.code.value() / 100).then_some(enhanced)
    }

    /// To be kept and shown.
    #[must_use]
    pub fn reply(&self) -> Reply {
        let enhanced = self.enhanced();
        if let Some(text) = self.plain_text(enhanced) {
            return Reply {
                code: self.code,
                enhanced,
                text: text.into(),
            };
        }
        let mut text = String::with_capacity(self.text.len());
        for line in self.lines() {
            let line = match (enhanced, Enhanced::parse(line)) {
                (Some(_), Some((_, rest))) => rest,
                _ => line,
            };
            if !text.is_empty() {
                text.push(' ');
            }
            printable(line, &mut text);
            if text.len() >= REPLY_TEXT_BYTES_MAX {
                let end = text.floor_char_boundary(REPLY_TEXT_BYTES_MAX);
                text.truncate(end);
                text.push_str(" [cut]");
                break;
            }
        }
        Reply {
            code: self.code,
            enhanced,
            text: text.into(),
        }
    }
}

impl Answer<'_> {
    /// The text where it can be shown as it is: one line of printable ASCII. This is
    /// what nearly every message ends with.
    fn plain_text(&self, enhanced: Option<Enhanced>) -> Option<&str> {
        let text = match (enhanced, Enhanced::parse(self.text)) {
            (Some(_), Some((_, rest))) => rest,
            _ => self.text,
        };
        let is_plain = text.len() <= REPLY_TEXT_BYTES_MAX
            && text.iter().all(|octet| (b' '..=b'~').contains(octet));
        if is_plain {
            std::str::from_utf8(text).ok()
        } else {
            None
        }
    }
}

/// Appends what can be shown as it is, and `\xNN` for the rest.
pub(crate) fn printable(octets: &[u8], text: &mut String) {
    use fmt::Write as _;
    for chunk in octets.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() {
                let mut buffer = [0; 4];
                for octet in c.encode_utf8(&mut buffer).bytes() {
                    write!(text, "\\x{octet:02x}").expect("a string takes it");
                }
            } else {
                text.push(c);
            }
        }
        for octet in chunk.invalid() {
            write!(text, "\\x{octet:02x}").expect("a string takes it");
        }
    }
}

/// A reply that is kept: code, enhanced code, and a text that can be shown.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Reply {
    /// Three digits.
    pub code: Code,
    /// If it had one of the same class.
    pub enhanced: Option<Enhanced>,
    /// Its lines with spaces between them, at most about
    /// [`REPLY_TEXT_BYTES_MAX`] octets, without control characters. Shared, since
    /// one reply often decides about many recipients.
    pub text: Arc<str>,
}

/// As on the wire: `550 5.1.1 no such user`.
impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code.value())?;
        if let Some(enhanced) = self.enhanced {
            write!(f, " {enhanced}")?;
        }
        if self.text.is_empty() {
            Ok(())
        } else {
            write!(f, " {}", self.text)
        }
    }
}

/// Reads answers from octets in any cut.
#[derive(Debug, Default)]
pub struct Reader {
    /// The beginning of a line whose end has not come.
    line: Vec<u8>,
    /// The texts of the lines of the answer so far, LF between them.
    text: Vec<u8>,
    progress: Progress,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Progress {
    /// Before the first line of an answer.
    #[default]
    Between,
    /// After so many lines, all of which announced another.
    Inside { code: Code, lines: u32 },
    /// `text` holds a whole answer that was put back.
    PutBack { code: Code },
}

impl Reader {
    /// The next whole answer. Takes from `input` what it has used; `None` means
    /// that all is used and more is needed.
    ///
    /// # Errors
    /// What is wrong with the octets; nothing behind them can be trusted.
    pub fn next<'a>(&'a mut self, input: &mut &[u8]) -> Option<Result<Answer<'a>, AnswerError>> {
        if let Progress::PutBack { code } = self.progress {
            self.progress = Progress::Between;
            let text = &self.text;
            return Some(Ok(Answer { code, text }));
        }
        loop {
            let Some(end) = memchr::memchr(b'\n', input) else {
                let kept = self.line.len() + input.len();
                if kept > LINE_BYTES_MAX {
                    return Some(Err(AnswerError::LineTooLong));
                }
                self.line.extend_from_slice(input);
                *input = &[];
                return None;
            };
            let (head, tail) = input.split_at(end);
            *input = &tail[1..];
            if self.line.len() + head.len() > LINE_BYTES_MAX {
                return Some(Err(AnswerError::LineTooLong));
            }
            let taken = if self.line.is_empty() {
                take_line(head, &mut self.text, &mut self.progress)
            } else {
                self.line.extend_from_slice(head);
                let taken = take_line(&self.line, &mut self.text, &mut self.progress);
                self.line.clear();
                taken
            };
            match taken {
                Ok(None) => {}
                Ok(Some(code)) => {
                    let text = &self.text;
                    return Some(Ok(Answer { code, text }));
                }
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// The answer that was just read shall come again: it is too early for it.
    pub fn put_back(&mut self, code: Code) {
        assert_eq!(self.progress, Progress::Between, "an answer was just read");
        self.progress = Progress::PutBack { code };
    }

    /// True if an answer that was put back waits.
    #[must_use]
    pub const fn holds_answer(&self) -> bool {
        matches!(self.progress, Progress::PutBack { .. })
    }

    /// True if nothing of a further answer was read.
    #[must_use]
    pub fn is_between(&self) -> bool {
        self.line.is_empty() && self.progress == Progress::Between
    }
}

/// Takes one line, without its LF. `Some` if it ended an answer.
fn take_line(
    line: &[u8],
    text: &mut Vec<u8>,
    progress: &mut Progress,
) -> Result<Option<Code>, AnswerError> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let syntax = || AnswerError::Syntax(Beginning::of(line));
    let (value, rest) = number(line, 3).ok_or_else(syntax)?;
    if line.len() - rest.len() != 3 {
        return Err(syntax());
    }
    let code = Code::new(value).ok_or_else(|| AnswerError::Code(Beginning::of(line)))?;
    let (last, rest) = match rest {
        [] => (true, rest),
        [b' ', rest @ ..] => (true, rest),
        [b'-', rest @ ..] => (false, rest),
        _ => return Err(syntax()),
    };
    let lines = match *progress {
        Progress::Inside { code: first, lines } => {
            if first.class() != code.class() {
                return Err(AnswerError::Mixed);
            }
            text.push(b'\n');
            lines + 1
        }
        Progress::Between | Progress::PutBack { .. } => {
            text.clear();
            1
        }
    };
    if lines > LINES_MAX || text.len() + rest.len() > ANSWER_BYTES_MAX {
        return Err(AnswerError::TooLong);
    }
    text.extend_from_slice(rest);
    if last {
        *progress = Progress::Between;
        Ok(Some(code))
    } else {
        *progress = Progress::Inside { code, lines };
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every answer in the octets, as shown, or the error that ended them.
    fn read_cut(octets: &[u8], cut: usize) -> Vec<Result<String, AnswerError>> {
        let mut reader = Reader::default();
        let mut all = Vec::new();
        for mut piece in octets.chunks(cut) {
            while let Some(answer) = reader.next(&mut piece) {
                let answer = answer.map(|answer| answer.reply().to_string());
                let failed = answer.is_err();
                all.push(answer);
                if failed {
                    return all;
                }
            }
        }
        all
    }

    fn check(octets: &[u8], expected: &[Result<&str, AnswerError>]) {
        for cut in [1, 2, 3, 5, 7, octets.len().max(1)] {
            let got = read_cut(octets, cut);
            let got: Vec<_> = got
                .iter()
                .map(|answer| answer.as_ref().map(String::as_str).map_err(|error| *error))
                .collect();
            assert_eq!(got, expected, "{:?} cut at {cut}", octets.escape_ascii());
        }
    }

    #[test]
    fn replies() {
        check(b"", &[]);
        check(b"250", &[]);
        check(b"250 ok\r\n", &[Ok("250 ok")]);
        check(b"250\r\n", &[Ok("250")]);
        check(b"250 \n", &[Ok("250")]);
        check(
            b"250 2.1.0 ok\r\n354 go\r\n",
            &[Ok("250 2.1.0 ok"), Ok("354 go")],
        );
        check(
            b"550-5.1.1 no\r\n550 5.1.1 user\r\n",
            &[Ok("550 5.1.1 no user")],
        );
        check(b"550-no\r\n551 user\r\n", &[Ok("551 no user")]);
        // An enhanced code of another class is text.
        check(b"550 4.1.1 no\r\n", &[Ok("550 4.1.1 no")]);
        check(b"250 2.0.0\r\n", &[Ok("250 2.0.0")]);
        check(b"250 2.0.0x\r\n", &[Ok("250 2.0.0x")]);
        check("250 grüß\r\n".as_bytes(), &[Ok("250 grüß")]);
        check(b"250 a\xffb\0c\r\r\n", &[Ok("250 a\\xffb\\x00c\\x0d")]);
    }

    #[test]
    fn what_came_instead_is_shown() {
        let check = |line: &[u8], expected: &str| {
            assert_eq!(Beginning::of(line).to_string(), expected);
        };
        check(b"", "\"\"");
        check(b"hello \"\x1b[2J\xff", "\"hello \\\"\\x1b[2J\\xff\"");
        check(&[b'x'; 40], &format!("\"{}\"", "x".repeat(40)));
        check(&[b'x'; 41], &format!("\"{}...\"", "x".repeat(40)));
    }

    #[test]
    fn garbage() {
        check(b"\r\n", &[Err(AnswerError::Syntax(Beginning::of(b"")))]);
        check(
            b"hello\r\n",
            &[Err(AnswerError::Syntax(Beginning::of(b"hello")))],
        );
        check(
            b"25 ok\r\n",
            &[Err(AnswerError::Syntax(Beginning::of(b"25 ok")))],
        );
        check(
            b"2500 ok\r\n",
            &[Err(AnswerError::Syntax(Beginning::of(b"2500 ok")))],
        );
        check(
            b"250_ok\r\n",
            &[Err(AnswerError::Syntax(Beginning::of(b"250_ok")))],
        );
        check(
            b"150 ok\r\n",
            &[Err(AnswerError::Code(Beginning::of(b"150 ok")))],
        );
        check(
            b"000 ok\r\n",
            &[Err(AnswerError::Code(Beginning::of(b"000 ok")))],
        );
        check(
            b"600 ok\r\n",
            &[Err(AnswerError::Code(Beginning::of(b"600 ok")))],
        );
        check(b"250-a\r\n550 b\r\n", &[Err(AnswerError::Mixed)]);
        check(
            b"HTTP/1.1 400 Bad Request\r\n",
            &[Err(AnswerError::Syntax(Beginning::of(
                b"HTTP/1.1 400 Bad Request",
            )))],
        );
    }

    #[test]
    fn limits() {
        let at_limit = [b"250 ".as_slice(), &[b'a'; LINE_BYTES_MAX - 5], b"\r\n"].concat();
        let got = read_cut(&at_limit, 1000);
        assert_eq!(got.len(), 1);
        assert!(got[0].as_ref().is_ok_and(|text| text.ends_with("[cut]")));
        let over = [b"250 ".as_slice(), &[b'a'; LINE_BYTES_MAX], b"\r\n"].concat();
        check(&over, &[Err(AnswerError::LineTooLong)]);
        let endless = vec![b'2'; 10 * 1024 * 1024];
        assert_eq!(read_cut(&endless, 65536), [Err(AnswerError::LineTooLong)]);
        let lines = b"250-a\r\n".repeat(LINES_MAX as usize + 1);
        check(&lines, &[Err(AnswerError::TooLong)]);
        let long = [b"250-".as_slice(), &[b'a'; 4000], b"\r\n"]
            .concat()
            .repeat(9);
        check(&long, &[Err(AnswerError::TooLong)]);
    }

    #[test]
    fn an_answer_put_back_comes_again() {
        let mut reader = Reader::default();
        let mut input = b"250 one\r\n550 two\r\n".as_slice();
        let code = reader.next(&mut input).unwrap().unwrap().code;
        reader.put_back(code);
        let again = reader.next(&mut input).unwrap().unwrap().reply();
        assert_eq!(again.to_string(), "250 one");
        let next = reader.next(&mut input).unwrap().unwrap().reply();
        assert_eq!(next.to_string(), "550 two");
        assert!(reader.is_between());
    }
}
