//! The first line of a response: `+OK`, or `-ERR` with what is the matter.

use memchr::memchr;

/// Octets of a server's text that are kept for the operator.
const TEXT_BYTES_MAX: usize = 256;

/// A status line (RFC 1939 §3).
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Status {
    /// `+OK`.
    Ok,
    /// `-ERR`.
    Err(Refusal),
    /// `+`: the server goes on with a SASL exchange (RFC 5034 §4). What is behind it.
    Continue(Box<[u8]>),
}

/// What the server meant by `-ERR`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// Whether it says that it is another time's matter.
    pub code: Code,
    /// Its text, shortened, without octets that a terminal acts on.
    pub text: Box<str>,
}

/// Extended response codes (RFC 2449 §8, RFC 3206) that lead to different deeds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Code {
    /// None, or one that we do not know.
    None,
    /// `[IN-USE]`: another session has the mailbox.
    InUse,
    /// `[LOGIN-DELAY]`: too soon after the last session.
    LoginDelay,
    /// `[SYS/TEMP]`: the server has a problem, which passes.
    Temporary,
    /// `[SYS/PERM]`: the server has a problem, which somebody must mend.
    Permanent,
    /// `[AUTH]`: user name or password are wrong.
    Authentication,
}

impl Code {
    /// Whether the same will work later, with nothing changed.
    #[must_use]
    pub const fn passes(self) -> bool {
        matches!(self, Self::InUse | Self::LoginDelay | Self::Temporary)
    }
}

/// Words by which servers without response codes say that the mailbox is locked. In
/// lower case.
const BUSY_WORDS: &[&[u8]] = &[
    b"in use",
    b"in-use",
    b"lock",
    b"busy",
    b"already",
    b"another",
    b"try again",
    b"tempor",
    b"too often",
    b"too many",
    b"wait",
];

impl Status {
    /// `line` is without its CRLF. `None` if it is no status line.
    pub(super) fn parse(line: &[u8]) -> Option<Self> {
        if let Some(rest) = strip_word(line, b"+OK") {
            let _ = rest;
            return Some(Self::Ok);
        }
        if let Some(rest) = strip_word(line, b"-ERR") {
            return Some(Self::Err(Refusal::parse(rest)));
        }
        let rest = line.strip_prefix(b"+")?;
        match rest.split_first() {
            None => Some(Self::Continue(Box::default())),
            Some((b' ', data)) => Some(Self::Continue(data.into())),
            Some(_) => None,
        }
    }
}

impl Refusal {
    /// `rest` is what stands behind `-ERR `.
    fn parse(rest: &[u8]) -> Self {
        let code = rest
            .strip_prefix(b"[")
            .and_then(|inner| memchr(b']', inner).map(|end| &inner[..end]));
        let code = match code.map(<[u8]>::to_ascii_uppercase).as_deref() {
            Some(b"IN-USE") => Code::InUse,
            Some(b"LOGIN-DELAY") => Code::LoginDelay,
            Some(b"AUTH") => Code::Authentication,
            Some(b"SYS/PERM") => Code::Permanent,
            Some(other) if other.starts_with(b"SYS/TEMP") => Code::Temporary,
            Some(other) if other.starts_with(b"SYS/PERM") => Code::Permanent,
            _ => Code::None,
        };
        Self {
            code,
            text: printable(rest),
        }
    }

    /// Whether the words sound like a mailbox that is locked for now. For servers
    /// without response codes, which mostly say so in English.
    pub(super) fn sounds_busy(&self) -> bool {
        let text = self.text.as_bytes().to_ascii_lowercase();
        let has = |word: &[u8]| memchr::memmem::find(&text, word).is_some();
        self.code == Code::None && BUSY_WORDS.iter().any(|word| has(word))
    }
}

/// What stands behind a first word, which may be in any case of letters.
fn strip_word<'a>(line: &'a [u8], word: &[u8]) -> Option<&'a [u8]> {
    let (head, rest) = line.split_at_checked(word.len())?;
    if !head.eq_ignore_ascii_case(word) {
        return None;
    }
    match rest.split_first() {
        None => Some(rest),
        Some((b' ' | b'\t', rest)) => Some(rest),
        Some(_) => None,
    }
}

/// ASCII as it is, all else as `?`.
pub(super) fn printable(octets: &[u8]) -> Box<str> {
    let shown = octets.iter().take(TEXT_BYTES_MAX);
    shown
        .map(|&octet| match octet {
            b' '..=b'~' => char::from(octet),
            _ => '?',
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_lines() {
        let check = |line: &str, expected: Option<Status>| {
            assert_eq!(Status::parse(line.as_bytes()), expected, "{line:?}");
        };
        let refusal = |code, text: &str| {
            Some(Status::Err(Refusal {
                code,
                text: text.into(),
            }))
        };
        check("+OK", Some(Status::Ok));
        check("+ok 3 messages", Some(Status::Ok));
        check("+OKAY", None);
        check("+", Some(Status::Continue(Box::default())));
        check("+ PDE+", Some(Status::Continue(b"PDE+".as_slice().into())));
        check("-ERR", refusal(Code::None, ""));
        check(
            "-ERR [IN-USE] locked",
            refusal(Code::InUse, "[IN-USE] locked"),
        );
        check("-err [in-use]", refusal(Code::InUse, "[in-use]"));
        check(
            "-ERR [LOGIN-DELAY] wait",
            refusal(Code::LoginDelay, "[LOGIN-DELAY] wait"),
        );
        check(
            "-ERR [SYS/TEMP] x",
            refusal(Code::Temporary, "[SYS/TEMP] x"),
        );
        check(
            "-ERR [SYS/PERM] x",
            refusal(Code::Permanent, "[SYS/PERM] x"),
        );
        check("-ERR [AUTH] no", refusal(Code::Authentication, "[AUTH] no"));
        check("-ERR [X", refusal(Code::None, "[X"));
        check("-ERR \u{1b}[31m", refusal(Code::None, "?[31m"));
        check("", None);
        check("OK", None);
        check("250 hello", None);
    }

    #[test]
    fn words_of_servers_without_codes() {
        let check = |text: &str, expected: bool| {
            let refusal = Refusal::parse(text.as_bytes());
            assert_eq!(refusal.sounds_busy(), expected, "{text:?}");
        };
        check("mailbox locked by another POP3 session", true);
        check("Maildrop already locked", true);
        check(
            "Unable to lock maildrop: Mailbox is locked by POP server",
            true,
        );
        check("Temporary failure, try again later", true);
        check("Authentication failed.", false);
        check("invalid user name or password", false);
        check("[AUTH] locked", false);
    }
}
