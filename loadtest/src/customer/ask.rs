//! The customer's side of an ATRN session up to the turn (RFC 2645 §5), as a
//! machine.

use std::time::{Duration, Instant};

use memchr::memchr;

use super::cram::{base64, cram_md5, unbase64};

/// See `client`.
const REPLY_LINE_BYTES_MAX: usize = 8 * 1024;

/// Who asks, and for what.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) ehlo: String,
    pub(super) credentials: Option<(String, String)>,
    /// Without its CRLF.
    pub(super) atrn: String,
}

/// How the session stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Standing {
    Waits,
    /// The roles have turned; ATRN was answered after this long.
    Turned {
        after: Duration,
    },
    /// ATRN was answered with this code; QUIT is on its way.
    Answered {
        code: u16,
        after: Duration,
    },
    /// The session is over.
    Over,
    /// It came to nothing: with this reply, or in words.
    Failed {
        code: u16,
    },
    Violation(String),
}

#[derive(Clone, Copy)]
enum Expected {
    Greeting,
    Ehlo,
    /// The challenge, then the answer's fate.
    Challenge,
    Auth,
    Atrn {
        sent: Instant,
    },
    Quit,
}

pub(super) struct Ask {
    expected: Expected,
    partial: Vec<u8>,
    cram_md5_offered: bool,
}

impl Ask {
    pub(super) fn new() -> Self {
        Self {
            expected: Expected::Greeting,
            partial: Vec::new(),
            cram_md5_offered: false,
        }
    }

    /// Octets from the server. Before the turn each group of replies ends what
    /// the server may say: what stands behind it is a violation.
    pub(super) fn receive(
        &mut self,
        now: Instant,
        bytes: &[u8],
        request: &Request,
        out: &mut Vec<u8>,
    ) -> Standing {
        self.partial.extend_from_slice(bytes);
        let mut standing = Standing::Waits;
        while standing == Standing::Waits
            && let Some(at) = memchr(b'\n', &self.partial)
        {
            let line: Vec<u8> = self.partial.drain(..=at).collect();
            standing = self.line(now, line.trim_ascii(), request, out);
        }
        if self.partial.len() > REPLY_LINE_BYTES_MAX {
            return Standing::Violation("a reply line without end".to_owned());
        }
        if matches!(standing, Standing::Turned { .. }) && !self.partial.is_empty() {
            let early = self.partial.escape_ascii();
            return Standing::Violation(format!("sent before our greeting: {early}"));
        }
        standing
    }

    fn line(
        &mut self,
        now: Instant,
        line: &[u8],
        request: &Request,
        out: &mut Vec<u8>,
    ) -> Standing {
        let code = line
            .get(..3)
            .and_then(|code| std::str::from_utf8(code).ok()?.parse().ok());
        let (Some(code), last) = (code, line.get(3) != Some(&b'-')) else {
            return Standing::Violation(format!("this is no reply: {}", line.escape_ascii()));
        };
        let text = line.get(4..).unwrap_or_default();
        if matches!(self.expected, Expected::Ehlo) {
            let mut words = text.split(|octet| *octet == b' ');
            let auth = words
                .next()
                .is_some_and(|word| word.eq_ignore_ascii_case(b"AUTH"));
            self.cram_md5_offered |=
                auth && words.any(|word| word.eq_ignore_ascii_case(b"CRAM-MD5"));
        }
        if !last {
            return Standing::Waits;
        }
        let expected = self.expected;
        let mut say = |expected, line: &str| {
            self.expected = expected;
            out.extend_from_slice(line.as_bytes());
            out.extend_from_slice(b"\r\n");
            Standing::Waits
        };
        match (expected, code, &request.credentials) {
            (Expected::Greeting, 220, _) => say(Expected::Ehlo, &format!("EHLO {}", request.ehlo)),
            (Expected::Ehlo, 250, Some(_)) if self.cram_md5_offered => {
                say(Expected::Challenge, "AUTH CRAM-MD5")
            }
            (Expected::Ehlo, 250, Some((user, password))) => {
                let response = base64(format!("\0{user}\0{password}").as_bytes());
                say(Expected::Auth, &format!("AUTH PLAIN {response}"))
            }
            (Expected::Challenge, 334, Some((user, password))) => match unbase64(text) {
                Some(challenge) => {
                    let answer = cram_md5(user, password, &challenge);
                    say(Expected::Auth, &base64(answer.as_bytes()))
                }
                None => Standing::Violation(format!("no challenge: {}", line.escape_ascii())),
            },
            (Expected::Ehlo, 250, None) | (Expected::Auth, 235, _) => {
                say(Expected::Atrn { sent: now }, &request.atrn)
            }
            (Expected::Atrn { sent }, 250, _) => Standing::Turned {
                after: now.saturating_duration_since(sent),
            },
            (Expected::Atrn { sent }, code, _) => {
                let after = now.saturating_duration_since(sent);
                say(Expected::Quit, "QUIT");
                Standing::Answered { code, after }
            }
            (Expected::Quit, ..) => Standing::Over,
            (_, code, _) => Standing::Failed { code },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays replies, and what the customer then says.
    fn check(credentials: bool, script: &[(&str, &str)], end: Standing) {
        let now = Instant::now();
        let request = Request {
            ehlo: "me".into(),
            credentials: credentials.then(|| ("u".to_owned(), "p".to_owned())),
            atrn: "ATRN a.test,b.test".into(),
        };
        let mut ask = Ask::new();
        let mut standing = Standing::Waits;
        for (replies, said) in script {
            assert_eq!(standing, Standing::Waits, "before {replies:?}");
            let mut out = Vec::new();
            standing = ask.receive(now, replies.as_bytes(), &request, &mut out);
            assert_eq!(std::str::from_utf8(&out).unwrap(), *said, "to {replies:?}");
        }
        assert_eq!(standing, end);
    }

    #[test]
    fn up_to_the_turn() {
        let after = Duration::ZERO;
        check(
            true,
            &[
                ("220 s\r\n", "EHLO me\r\n"),
                (
                    "250-s\r\n250-AUTH PLAIN CRAM-MD5\r\n250 ATRN\r\n",
                    "AUTH CRAM-MD5\r\n",
                ),
                (
                    "334 Zm9v\r\n",
                    "dSA2MjFjODE5Mjc1NjQ2NmMzZGUzN2NiNGJkMDI5M2E3MQ==\r\n",
                ),
                ("235 ok\r\n", "ATRN a.test,b.test\r\n"),
                ("250 turn\r\n", ""),
            ],
            Standing::Turned { after },
        );
        check(
            true,
            &[
                ("220 s\r\n", "EHLO me\r\n"),
                ("250-s\r\n250 AUTH PLAIN\r\n", "AUTH PLAIN AHUAcA==\r\n"),
                ("235 ok\r\n", "ATRN a.test,b.test\r\n"),
                ("453 nothing\r\n", "QUIT\r\n"),
            ],
            Standing::Answered { code: 453, after },
        );
        check(
            false,
            &[
                ("220 s\r\n", "EHLO me\r\n"),
                ("250 s\r\n", "ATRN a.test,b.test\r\n"),
                ("530 no\r\n", "QUIT\r\n"),
            ],
            Standing::Answered { code: 530, after },
        );
        check(
            false,
            &[("421 busy\r\n", "")],
            Standing::Failed { code: 421 },
        );
    }

    #[test]
    fn a_server_that_speaks_before_our_greeting() {
        check(
            false,
            &[
                ("220 s\r\n", "EHLO me\r\n"),
                ("250 s\r\n", "ATRN a.test,b.test\r\n"),
                ("250 turn\r\nEHLO s\r\n", ""),
            ],
            Standing::Violation("sent before our greeting: EHLO s\\r\\n".to_owned()),
        );
    }
}
