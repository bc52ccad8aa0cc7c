//! AUTH from the client's side (RFC 4954): PLAIN (RFC 4616) and LOGIN.
//!
//! Each state of an exchange is a variant; the mechanisms that need a challenge and
//! a digest have their place here as further variants.

use super::capabilities::Capabilities;
use super::settings::Credentials;
use crate::smtp::answer::{Answer, Class};
use crate::smtp::auth::Mechanism;

/// What the server is to answer next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Exchange {
    /// `AUTH PLAIN` with everything in it was sent: 235 ends it.
    Plain,
    /// `AUTH LOGIN` was sent: 334 asks for the name.
    LoginName,
    /// The name was sent: 334 asks for the password.
    LoginPassword,
    /// The password was sent: 235 ends it.
    LoginEnd,
}

/// What follows from an answer.
pub(super) enum Step {
    /// Send this line; then the next state.
    Send(Vec<u8>, Exchange),
    /// 235.
    Done,
    /// 4yz or 5yz.
    Refused,
    /// A code of another class than the exchange has here.
    OutOfOrder,
}

/// The first line, by the best mechanism that the peer offers and that we may use
/// on this connection. Both send the password as it is, so the caller has seen to TLS.
pub(super) fn start(peer: &Capabilities, credentials: &Credentials) -> Option<(Vec<u8>, Exchange)> {
    if peer.mechanisms.contains(Mechanism::Plain) {
        let (user, password) = (credentials.user(), credentials.password());
        let mut line = b"AUTH PLAIN ".to_vec();
        base64(format!("\0{user}\0{password}").as_bytes(), &mut line);
        line.extend_from_slice(b"\r\n");
        Some((line, Exchange::Plain))
    } else if peer.mechanisms.contains(Mechanism::Login) {
        Some((b"AUTH LOGIN\r\n".to_vec(), Exchange::LoginName))
    } else {
        None
    }
}

/// What follows.
pub(super) fn answer(at: Exchange, answer: &Answer<'_>, credentials: &Credentials) -> Step {
    let line = |text: &str, next: Exchange| {
        let mut line = Vec::new();
        base64(text.as_bytes(), &mut line);
        line.extend_from_slice(b"\r\n");
        Step::Send(line, next)
    };
    match (answer.code.class(), at) {
        (Class::Transient | Class::Permanent, _) => Step::Refused,
        (Class::Positive, Exchange::Plain | Exchange::LoginEnd) => Step::Done,
        (Class::Intermediate, Exchange::LoginName) => {
            line(credentials.user(), Exchange::LoginPassword)
        }
        (Class::Intermediate, Exchange::LoginPassword) => {
            line(credentials.password(), Exchange::LoginEnd)
        }
        (Class::Intermediate | Class::Positive, _) => Step::OutOfOrder,
    }
}

/// RFC 4648 §4, with padding.
pub(super) fn base64(octets: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for group in octets.chunks(3) {
        let at = |place: usize| u32::from(group.get(place).copied().unwrap_or(0));
        let value = at(0) << 16 | at(1) << 8 | at(2);
        for place in 0..4 {
            if place <= group.len() {
                out.push(DIGITS[(value >> (18 - 6 * place) & 63) as usize]);
            } else {
                out.push(b'=');
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_of_rfc_4648() {
        let check = |text: &str, expected: &str| {
            let mut out = Vec::new();
            base64(text.as_bytes(), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        };
        check("", "");
        check("f", "Zg==");
        check("fo", "Zm8=");
        check("foo", "Zm9v");
        check("foob", "Zm9vYg==");
        check("fooba", "Zm9vYmE=");
        check("foobar", "Zm9vYmFy");
    }
}
