//! Logging in: USER and PASS, APOP (RFC 1939 §7), or a SASL mechanism (RFC 5034).
//!
//! What is sent depends on whether others can read the line. On one that is safe, the
//! password goes as it is; on one in clear, a mechanism that keeps it off the line is
//! taken where there is one; SCRAM-SHA-256 (RFC 7677) before others, by which the server
//! shows that it knows the password, too.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest as _, Md5};
use zeroize::Zeroizing;

use super::capabilities::Capabilities;
use super::response::Status;
use super::settings::Mechanism;
use crate::sasl::scram::{ClientChallenged, ClientWaits, Derivation, Salted, ServerMust};
use crate::sasl::{self, Nonce, Password};
use crate::user::UserName;

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

    /// For SCRAM, which wants both prepared (RFC 5802 §2.2). `None` if they have no such
    /// form, or are longer than any that has.
    fn prepared(&self) -> Option<(UserName, Password)> {
        let user: UserName = self.user.parse().ok()?;
        let password = Password::new(self.password.to_string()).ok()?.prepared()?;
        sasl::is_prepared(user.as_str()).then_some((user, password))
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

/// What is expected next. Boxed are those that few logins have.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Exchange {
    /// The answer to USER; PASS comes behind it.
    User,
    /// The answer to USER, and PASS was sent already.
    UserAhead,
    /// The answer to the last command of the exchange.
    Last,
    /// The challenge of CRAM-MD5.
    Challenge,
    /// `+`, since this first message of SCRAM is too long for the line of AUTH.
    ScramAsked(Zeroizing<Vec<u8>>, Box<ClientWaits>),
    /// Salt and rounds.
    ScramFirst(Box<ClientWaits>),
    /// Nothing of the server: the key is being derived.
    ScramDeriving(Box<ClientChallenged>),
    /// The server's own proof.
    ScramProof(Box<ServerMust>),
}

/// What follows from an answer.
pub(super) enum Step {
    /// Send this; then that is expected.
    Send(Zeroizing<Vec<u8>>, Exchange),
    /// Nothing to send; that is expected.
    Wait(Exchange),
    /// Have this derived; then that is expected.
    Derive(Derivation, Exchange),
    /// We are in.
    Done,
    /// What came is not what a server sends that knows the password.
    Untrusted,
    /// The answer has no place there.
    Odd(Exchange),
}

/// The best way that both sides know, or why there is none.
pub(super) fn choose(
    peer: &Capabilities,
    line: Line,
    timestamp: Option<&[u8]>,
    login: &Login,
) -> Result<Method, &'static str> {
    let scram = peer.sasl.contains(&Mechanism::ScramSha256);
    let keeps_secret = if scram && login.prepared().is_some() {
        Some(Method::Sasl(Mechanism::ScramSha256))
    } else if peer.sasl.contains(&Mechanism::CramMd5) {
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
    nonce: Nonce,
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
        Method::Sasl(Mechanism::ScramSha256) => {
            let (user, _) = login.prepared().expect("it was chosen for that");
            let (first, waits) = ClientWaits::begin(&user, nonce);
            let first = Zeroizing::new(STANDARD.encode(first));
            push(&mut out, &[b"AUTH SCRAM-SHA-256"]);
            let exchange = if out.len() + first.len() + 3 <= AUTH_BYTES_MAX {
                push(&mut out, &[b" ", first.as_bytes()]);
                Exchange::ScramFirst(Box::new(waits))
            } else {
                let first = first.as_bytes().to_vec();
                Exchange::ScramAsked(Zeroizing::new(first), Box::new(waits))
            };
            push(&mut out, &[b"\r\n"]);
            exchange
        }
        Method::Sasl(Mechanism::CramMd5) => {
            push(&mut out, &[b"AUTH CRAM-MD5\r\n"]);
            Exchange::Challenge
        }
    };
    (out, exchange)
}

/// What follows from an answer that is no refusal.
pub(super) fn answer(at: Exchange, status: &Status, login: &Login) -> Step {
    match (at, status) {
        (Exchange::User, Status::Ok) => {
            let mut out = Zeroizing::new(Vec::with_capacity(OUT_BYTES));
            push_pass(&mut out, login);
            Step::Send(out, Exchange::Last)
        }
        (Exchange::UserAhead, Status::Ok) => Step::Wait(Exchange::Last),
        (Exchange::Last, Status::Ok) => Step::Done,
        (Exchange::Challenge, Status::Continue(challenge)) => {
            let Ok(challenge) = STANDARD.decode(challenge) else {
                return Step::Odd(Exchange::Challenge);
            };
            let digest = sasl::cram_md5_digest(login.password.as_bytes(), &challenge);
            let text = STANDARD.encode(sasl::cram_md5(&login.user, &digest));
            let mut out = Zeroizing::new(Vec::with_capacity(OUT_BYTES));
            push(&mut out, &[text.as_bytes(), b"\r\n"]);
            Step::Send(out, Exchange::Last)
        }
        (Exchange::ScramAsked(first, waits), Status::Continue(_)) => {
            Step::Send(line(&first), Exchange::ScramFirst(waits))
        }
        (Exchange::ScramFirst(waits), Status::Continue(challenge)) => {
            let (_, password) = login.prepared().expect("it was chosen for that");
            let challenged = STANDARD.decode(challenge).ok();
            match challenged.and_then(|message| waits.challenged(&message).ok()) {
                None => Step::Untrusted,
                Some(challenged) => {
                    let derivation = challenged.derivation(&password);
                    let next = Exchange::ScramDeriving(Box::new(challenged));
                    Step::Derive(derivation, next)
                }
            }
        }
        (Exchange::ScramProof(must), Status::Continue(proof)) => {
            let proof = STANDARD.decode(proof).unwrap_or_default();
            match must.accepts(&proof) {
                true => Step::Send(line(b""), Exchange::Last),
                false => Step::Untrusted,
            }
        }
        // It lets us in, and has not shown that it knows the password.
        (Exchange::ScramFirst(_) | Exchange::ScramProof(_), Status::Ok) => Step::Untrusted,
        (at, _) => Step::Odd(at),
    }
}

/// The key was derived: our proof, and what is expected then.
pub(super) fn proof(
    challenged: ClientChallenged,
    salted: &Salted,
) -> (Zeroizing<Vec<u8>>, Exchange) {
    let (message, must) = challenged.prove(salted);
    let text = STANDARD.encode(message);
    (line(text.as_bytes()), Exchange::ScramProof(Box::new(must)))
}

/// Longest line of AUTH with what is sent ahead in it (RFC 5034 §4): beyond it the server is
/// let ask. Octets with CRLF.
const AUTH_BYTES_MAX: usize = 255;

fn line(text: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut out = Zeroizing::new(Vec::with_capacity(OUT_BYTES));
    push(&mut out, &[text, b"\r\n"]);
    out
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

    const NONCE: Nonce = Nonce([1; 18]);

    fn login() -> Login {
        Login::new("mrose", "tanstaaf").expect("a login")
    }

    #[test]
    fn apop_as_in_rfc_1939() {
        let greeting = b"+OK POP3 server ready <1896.697170952@dbc.mtview.ca.us>";
        let stamp = timestamp(greeting).expect("a timestamp");
        let (line, _) = start(Method::Apop, &login(), Some(&stamp), NONCE, false);
        let expected = b"APOP mrose c4c9334bac560ecc979e58001b3e22fb\r\n";
        assert_eq!(line.as_slice(), expected);
    }

    #[test]
    fn cram_md5_as_in_rfc_2195() {
        let login = Login::new("tim", "tanstaaftanstaaf").expect("a login");
        let challenge = STANDARD.encode("<1896.697170952@postoffice.reston.mci.net>");
        let status = Status::Continue(challenge.as_bytes().into());
        let Step::Send(line, Exchange::Last) = answer(Exchange::Challenge, &status, &login) else {
            panic!("a response")
        };
        let expected = STANDARD.encode("tim b913a602c7eda7a495b4e6e7334d3890");
        assert_eq!(line.as_slice(), format!("{expected}\r\n").as_bytes());
        let nonsense = Status::Continue(b"!".as_slice().into());
        let step = answer(Exchange::Challenge, &nonsense, &login);
        assert!(matches!(step, Step::Odd(Exchange::Challenge)));
    }

    #[test]
    fn plain_as_in_rfc_5034() {
        let login = Login::new("test", "test").expect("a login");
        let (line, _) = start(Method::Sasl(Mechanism::Plain), &login, None, NONCE, true);
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
            let got = |line| choose(&peer, line, stamp, &login()).ok();
            assert_eq!(got(Line::Safe), safe, "{peer:?}");
            assert_eq!(got(Line::Clear), clear, "{peer:?}");
        };
        use Mechanism::{CramMd5, Plain, ScramSha256};
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
        check(
            true,
            &[Plain, CramMd5, ScramSha256],
            true,
            Some(UserPass),
            Some(Sasl(ScramSha256)),
        );
        check(
            false,
            &[ScramSha256],
            false,
            Some(Sasl(ScramSha256)),
            Some(Sasl(ScramSha256)),
        );
        check(false, &[Plain], false, Some(Sasl(Plain)), Some(Sasl(Plain)));
        check(false, &[], true, Some(Apop), Some(Apop));
        check(false, &[], false, None, None);
    }

    /// A name for which the line of AUTH has no room; and one that SCRAM cannot take.
    #[test]
    fn names_for_scram() {
        let scram = Method::Sasl(Mechanism::ScramSha256);
        let long = Login::new(&"x".repeat(200), "secret").expect("a login");
        let (out, exchange) = start(scram, &long, None, NONCE, true);
        assert_eq!(out.as_slice(), b"AUTH SCRAM-SHA-256\r\n");
        let status = Status::Continue(Box::default());
        let Step::Send(out, Exchange::ScramFirst(_)) = answer(exchange, &status, &long) else {
            panic!("it is sent now")
        };
        assert!(out.starts_with(b"biwsbj14eHh4"), "n,,n=xxxx in base64");
        let (out, _) = start(scram, &login(), None, NONCE, true);
        assert!(out.starts_with(b"AUTH SCRAM-SHA-256 biwsbj1tcm9zZSxy"));
        let peer = Capabilities {
            sasl: vec![Mechanism::CramMd5, Mechanism::ScramSha256],
            ..Capabilities::none()
        };
        let chosen = |login: &Login| choose(&peer, Line::Clear, None, login).ok();
        assert_eq!(chosen(&long), Some(scram));
        let odd = Login::new("anna", "\u{1f600}").expect("a login");
        assert_eq!(chosen(&odd), Some(Method::Sasl(Mechanism::CramMd5)));
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
