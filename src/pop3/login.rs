//! Logging in: USER and PASS, APOP (RFC 1939 §7), or a SASL mechanism (RFC 5034).
//!
//! What is sent depends on whether others can read the line. On one that is safe, the
//! password goes as it is; on one in clear, a mechanism that keeps it off the line is
//! taken where there is one.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest as _, Md5};
use zeroize::Zeroizing;

use super::capabilities::Capabilities;
use super::response::Status;
use super::settings::Mechanism;
use crate::sasl;

/// User name and password. Shows no password, and wipes it when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    user: Box<str>,
    password: Zeroizing<String>,
}

impl Login {
    /// `None` if a CR, LF or NUL is in either, which no line can hold.
    #[must_use]
    pub fn new(user: &str, password: &str) -> Option<Self> {
        let unfit = |text: &str| text.is_empty() || text.contains(['\r', '\n', '\0']);
        if unfit(user) || unfit(password) {
            return None;
        }
        Some(Self {
            user: user.into(),
            password: Zeroizing::new(password.to_owned()),
        })
    }

    /// The user name.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Login({:?}, …)", self.user)
    }
}

/// Who can read the line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Line {
    /// Nobody but the server.
    Safe,
    /// Everybody on the way.
    Clear,
}

/// How to log in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Method {
    UserPass,
    Apop,
    Sasl(Mechanism),
}

/// What is expected next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Exchange {
    /// The answer to USER; PASS comes behind it.
    User,
    /// The answer to USER, and PASS was sent already.
    UserAhead,
    /// The answer to the last command of the exchange.
    Last,
    /// The challenge of CRAM-MD5.
    Challenge,
}

/// What follows from an answer.
pub(super) enum Step {
    /// Send this; then that is expected.
    Send(Zeroizing<Vec<u8>>, Exchange),
    /// Nothing to send; that is expected.
    Wait(Exchange),
    /// We are in.
    Done,
}

/// The best way that both sides know, or why there is none.
pub(super) fn choose(
    peer: &Capabilities,
    line: Line,
    timestamp: Option<&[u8]>,
) -> Result<Method, &'static str> {
    let keeps_secret = if peer.sasl.contains(&Mechanism::CramMd5) {
        Some(Method::Sasl(Mechanism::CramMd5))
    } else {
        timestamp.map(|_| Method::Apop)
    };
    let shows = if peer.user {
        Some(Method::UserPass)
    } else if peer.sasl.contains(&Mechanism::Plain) {
        Some(Method::Sasl(Mechanism::Plain))
    } else {
        None
    };
    let (first, second) = match line {
        Line::Safe => (shows, keeps_secret),
        Line::Clear => (keeps_secret, shows),
    };
    first.or(second).ok_or(
        "the server offers no way to log in that this program knows; it may want TLS: write \
         `tls = \"implicit\"` or `tls = \"starttls\"`",
    )
}

/// The first octets, and what is expected then.
pub(super) fn start(
    method: Method,
    login: &Login,
    timestamp: Option<&[u8]>,
    pipelining: bool,
) -> (Zeroizing<Vec<u8>>, Exchange) {
    let mut out = Zeroizing::new(Vec::with_capacity(OUT_BYTES));
    let exchange = match method {
        Method::UserPass => {
            push(&mut out, &[b"USER ", login.user.as_bytes(), b"\r\n"]);
            if pipelining {
                push_pass(&mut out, login);
                Exchange::UserAhead
            } else {
                Exchange::User
            }
        }
        Method::Apop => {
            let mut digest = Md5::new();
            digest.update(timestamp.unwrap_or_default());
            digest.update(login.password.as_bytes());
            push(&mut out, &[b"APOP ", login.user.as_bytes(), b" "]);
            sasl::push_hex(&digest.finalize(), &mut out);
            push(&mut out, &[b"\r\n"]);
            Exchange::Last
        }
        Method::Sasl(Mechanism::Plain) => {
            let text = sasl::plain(&login.user, login.password.as_bytes());
            let text = Zeroizing::new(STANDARD.encode(&*text));
            push(&mut out, &[b"AUTH PLAIN ", text.as_bytes(), b"\r\n"]);
            Exchange::Last
        }
        Method::Sasl(Mechanism::CramMd5) => {
            push(&mut out, &[b"AUTH CRAM-MD5\r\n"]);
            Exchange::Challenge
        }
    };
    (out, exchange)
}

/// What follows from an answer that is no refusal. `None` if the answer has no place
/// there.
pub(super) fn answer(at: Exchange, status: &Status, login: &Login) -> Option<Step> {
    match (at, status) {
        (Exchange::User, Status::Ok) => {
            let mut out = Zeroizing::new(Vec::with_capacity(OUT_BYTES));
            push_pass(&mut out, login);
            Some(Step::Send(out, Exchange::Last))
        }
        (Exchange::UserAhead, Status::Ok) => Some(Step::Wait(Exchange::Last)),
        (Exchange::Last, Status::Ok) => Some(Step::Done),
        (Exchange::Challenge, Status::Continue(challenge)) => {
            let challenge = STANDARD.decode(challenge).ok()?;
            let digest = sasl::cram_md5_digest(login.password.as_bytes(), &challenge);
            let text = STANDARD.encode(sasl::cram_md5(&login.user, &digest));
            let mut out = Zeroizing::new(Vec::with_capacity(OUT_BYTES));
            push(&mut out, &[text.as_bytes(), b"\r\n"]);
            Some(Step::Send(out, Exchange::Last))
        }
        _ => None,
    }
}

/// Room for the lines of a login, so that none is left behind by a growing buffer.
const OUT_BYTES: usize = 4096;

fn push_pass(out: &mut Vec<u8>, login: &Login) {
    push(out, &[b"PASS ", login.password.as_bytes(), b"\r\n"]);
}

fn push(out: &mut Vec<u8>, parts: &[&[u8]]) {
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

/// The timestamp of a greeting by which APOP is possible: `<…@…>`.
pub(super) fn timestamp(greeting: &[u8]) -> Option<Box<[u8]>> {
    let from = memchr::memchr(b'<', greeting)?;
    let length = memchr::memchr(b'>', &greeting[from..])?;
    let stamp = &greeting[from..=from + length];
    let is_one = stamp.contains(&b'@') && stamp.iter().all(|octet| (0x21..=0x7e).contains(octet));
    is_one.then(|| stamp.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login() -> Login {
        Login::new("mrose", "tanstaaf").expect("a login")
    }

    #[test]
    fn apop_as_in_rfc_1939() {
        let greeting = b"+OK POP3 server ready <1896.697170952@dbc.mtview.ca.us>";
        let stamp = timestamp(greeting).expect("a timestamp");
        let (line, _) = start(Method::Apop, &login(), Some(&stamp), false);
        let expected = b"APOP mrose c4c9334bac560ecc979e58001b3e22fb\r\n";
        assert_eq!(line.as_slice(), expected);
    }

    #[test]
    fn cram_md5_as_in_rfc_2195() {
        let login = Login::new("tim", "tanstaaftanstaaf").expect("a login");
        let challenge = STANDARD.encode("<1896.697170952@postoffice.reston.mci.net>");
        let status = Status::Continue(challenge.as_bytes().into());
        let Some(Step::Send(line, Exchange::Last)) = answer(Exchange::Challenge, &status, &login)
        else {
            panic!("a response")
        };
        let expected = STANDARD.encode("tim b913a602c7eda7a495b4e6e7334d3890");
        assert_eq!(line.as_slice(), format!("{expected}\r\n").as_bytes());
        let nonsense = Status::Continue(b"!".as_slice().into());
        assert!(answer(Exchange::Challenge, &nonsense, &login).is_none());
    }

    #[test]
    fn plain_as_in_rfc_5034() {
        let login = Login::new("test", "test").expect("a login");
        let (line, _) = start(Method::Sasl(Mechanism::Plain), &login, None, true);
        assert_eq!(line.as_slice(), b"AUTH PLAIN AHRlc3QAdGVzdA==\r\n");
    }

    #[test]
    fn the_way_depends_on_who_reads_the_line() {
        let check = |user: bool, sasl: &[Mechanism], stamp: bool, safe: Option<Method>, clear| {
            let peer = Capabilities {
                user,
                sasl: sasl.to_vec(),
                ..Capabilities::none()
            };
            let stamp = stamp.then_some(b"<a@b>".as_slice());
            let got = |line| choose(&peer, line, stamp).ok();
            assert_eq!(got(Line::Safe), safe, "{peer:?}");
            assert_eq!(got(Line::Clear), clear, "{peer:?}");
        };
        use Mechanism::{CramMd5, Plain};
        use Method::{Apop, Sasl, UserPass};
        check(true, &[], false, Some(UserPass), Some(UserPass));
        check(
            true,
            &[Plain, CramMd5],
            true,
            Some(UserPass),
            Some(Sasl(CramMd5)),
        );
        check(true, &[Plain], true, Some(UserPass), Some(Apop));
        check(false, &[Plain], false, Some(Sasl(Plain)), Some(Sasl(Plain)));
        check(false, &[], true, Some(Apop), Some(Apop));
        check(false, &[], false, None, None);
    }

    #[test]
    fn no_line_can_hold_a_line_end() {
        assert!(Login::new("a\r\nDELE 1", "b").is_none());
        assert!(Login::new("a", "b\nc").is_none());
        assert!(Login::new("", "b").is_none());
        assert_eq!(format!("{:?}", login()), "Login(\"mrose\", …)");
    }

    #[test]
    fn timestamps() {
        let check = |greeting: &str, expected: Option<&str>| {
            let got = timestamp(greeting.as_bytes());
            assert_eq!(got.as_deref(), expected.map(str::as_bytes), "{greeting:?}");
        };
        check("+OK <1.2@h>", Some("<1.2@h>"));
        check("+OK Hello", None);
        check("+OK <no at>", None);
        check("+OK <a b@c>", None);
        check("+OK >x<", None);
    }
}
