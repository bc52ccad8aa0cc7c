//! The SASL mechanisms (RFC 4422) that SMTP (RFC 4954) and POP3 (RFC 5034) have in common:
//! what a client sends by PLAIN (RFC 4616) and CRAM-MD5 (RFC 2195), before base64, and
//! SCRAM-SHA-256 for both sides ([`scram`]). And the one form in which names and passwords
//! are compared ([`prepare`]).
//!
//! What is weak in MD5 does not touch HMAC. What is weak in CRAM-MD5 is that the server
//! must know the password, and that who records an exchange can try passwords at leisure.
//!
//! # SASLprep (RFC 4013)
//!
//! The same word can be typed in several ways: `ä` is one character or two. SCRAM
//! demands that both sides bring it to one form (RFC 5802 §2.2), PLAIN that the server
//! does (RFC 4616 §2). The tables, of Unicode 3.2, are those of the crate `stringprep`.
//! What has no such form, because a character is newer or prohibited, is nothing that
//! this program makes; where it is stored already, it is compared as it is.

pub mod base64;
pub mod scram;
mod secret;

use std::borrow::Cow;

use hmac::{Hmac, KeyInit as _, Mac as _};
use md5::Md5;
use zeroize::Zeroizing;

pub use self::secret::{Nonce, Nonces, PASSWORD_BYTES_MAX, Password, PasswordError, Response};

/// Octets of a digest of CRAM-MD5.
pub type CramDigest = [u8; 16];

/// The message of PLAIN: for nobody else than the user.
#[must_use]
pub fn plain(user: &str, password: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut out = Zeroizing::new(Vec::with_capacity(user.len() + password.len() + 2));
    out.push(0);
    out.extend_from_slice(user.as_bytes());
    out.push(0);
    out.extend_from_slice(password);
    out
}

/// What a client computes of the challenge that has this password.
#[must_use]
pub fn cram_md5_digest(password: &[u8], challenge: &[u8]) -> CramDigest {
    let mac = Hmac::<Md5>::new_from_slice(password).expect("HMAC takes any key");
    mac.chain_update(challenge).finalize().into_bytes().into()
}

/// The response of CRAM-MD5: name, space, digest in hexadecimal.
#[must_use]
pub fn cram_md5(user: &str, digest: &CramDigest) -> Vec<u8> {
    let mut out = Vec::with_capacity(user.len() + 33);
    out.extend_from_slice(user.as_bytes());
    out.push(b' ');
    push_hex(digest, &mut out);
    out
}

/// Appends octets in hexadecimal, in lower case.
pub fn push_hex(octets: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for octet in octets {
        out.push(DIGITS[usize::from(octet >> 4)]);
        out.push(DIGITS[usize::from(octet & 15)]);
    }
}

/// A name or password that SASLprep does not take.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "SASLprep (RFC 4013) has no form of it: it has control characters, or ones that are newer \
     than Unicode 3.2 (most emoji are), or mixes those that are written from the left with \
     those from the right"
)]
pub struct NotPreparable;

/// The form in which a name or password is compared (RFC 4013), never empty.
///
/// # Errors
/// It has none.
pub fn prepare(text: &str) -> Result<Cow<'_, str>, NotPreparable> {
    match stringprep::saslprep(text) {
        Ok(prepared) if !prepared.is_empty() => Ok(prepared),
        Ok(_) | Err(_) => Err(NotPreparable),
    }
}

/// Whether SASLprep leaves it as it is.
#[must_use]
pub fn is_prepared(text: &str) -> bool {
    prepare(text).is_ok_and(|prepared| prepared == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_rfcs() {
        assert_eq!(
            *plain("tim", b"tanstaaftanstaaf"),
            b"\0tim\0tanstaaftanstaaf"
        );
        let challenge = b"<1896.697170952@postoffice.reston.mci.net>";
        let digest = cram_md5_digest(b"tanstaaftanstaaf", challenge);
        let expected = b"tim b913a602c7eda7a495b4e6e7334d3890";
        assert_eq!(cram_md5("tim", &digest), expected);
    }

    #[test]
    fn what_is_prepared() {
        let check = |text: &str, expected: Option<&str>| {
            let prepared = prepare(text);
            assert_eq!(prepared.as_deref().ok(), expected, "{text:?}");
            assert_eq!(is_prepared(text), expected == Some(text), "{text:?}");
            if let Some(prepared) = expected {
                assert!(is_prepared(prepared), "{text:?}: once is enough");
            }
        };
        // The examples of RFC 4013 §3.
        check("I\u{ad}X", Some("IX"));
        check("user", Some("user"));
        check("USER", Some("USER"));
        check("\u{aa}", Some("a"));
        check("\u{2168}", Some("IX"));
        check("\u{7}", None);
        check("\u{627}1", None);
        // What is typed in two ways.
        check("ka\u{308}the", Some("k\u{e4}the"));
        check("a\u{a0}b", Some("a b"));
        check("a b~!", Some("a b~!"));
        check("\u{7f}", None);
        // Newer than its tables; nothing at all.
        check("\u{1f600}", None);
        check("\u{ad}", None);
        check("", None);
    }
}
