//! CRAM-MD5 (RFC 2195) from the server's side: it sends a challenge, and reads the name
//! and the HMAC-MD5 of the challenge, keyed with the password. What the client does is
//! in [`sasl`].
//!
//! RFC 2645 demands it of an ODMR provider, which is why it is here.

use subtle::ConstantTimeEq as _;

use super::{Nonce, Password};
use crate::mail::Domain;
use crate::sasl;
pub use crate::sasl::CramDigest as Digest;
use crate::time::WallTime;
use crate::user::UserName;

/// A challenge of the form of a msg-id: unique, and not to be guessed.
#[must_use]
pub fn challenge(nonce: Nonce, time: WallTime, hostname: &Domain) -> Vec<u8> {
    use std::io::Write as _;
    let mut out = b"<".to_vec();
    sasl::push_hex(&nonce.0, &mut out);
    let seconds = time.as_millis().div_euclid(1000);
    write!(out, ".{seconds}@{hostname}>").expect("a vector takes all");
    out
}

/// What a client answers who has this password.
#[must_use]
pub fn digest(password: &Password, challenge: &[u8]) -> Digest {
    sasl::cram_md5_digest(password.reveal(), challenge)
}

/// Whether two digests are the same, in the same time whatever they are.
#[must_use]
pub fn is_equal(left: &Digest, right: &Digest) -> bool {
    left.ct_eq(right).into()
}

/// The client's response, read. `None` if it is none; a name that is no [`UserName`]
/// makes the inner one `None`.
#[must_use]
pub fn parse_response(response: &[u8]) -> Option<(Option<UserName>, Digest)> {
    let at = response.iter().rposition(|&octet| octet == b' ')?;
    let (user, digits) = (&response[..at], &response[at + 1..]);
    let mut digest = Digest::default();
    if digits.len() != 2 * digest.len() {
        return None;
    }
    for (octet, digits) in digest.iter_mut().zip(digits.chunks_exact(2)) {
        *octet = hex(digits[0])? << 4 | hex(digits[1])?;
    }
    let user = std::str::from_utf8(user).ok();
    Some((user.and_then(|user| user.parse().ok()), digest))
}

/// RFC 2195 wants lower case; clients with upper case exist.
fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_2195() {
        let password = Password::new("tanstaaftanstaaf".to_owned()).unwrap();
        let challenge = b"<1896.697170952@postoffice.reston.mci.net>";
        let digest = digest(&password, challenge);
        let (user, parsed) = parse_response(&sasl::cram_md5("tim", &digest)).unwrap();
        assert_eq!(user.unwrap().as_str(), "tim");
        assert!(is_equal(&parsed, &digest));
        assert!(!is_equal(&parsed, &[0; 16]));
    }

    #[test]
    fn responses() {
        let check = |response: &str, expected: Option<Option<&str>>| {
            let parsed = parse_response(response.as_bytes());
            let got = parsed.map(|(user, _)| user.map(|user| user.to_string()));
            assert_eq!(got, expected.map(|u| u.map(str::to_owned)), "{response:?}");
        };
        let digits = "b913a602c7eda7a495b4e6e7334d3890";
        check(&format!("tim {digits}"), Some(Some("tim")));
        check(&format!("tim {}", digits.to_uppercase()), Some(Some("tim")));
        check(&format!("a b {digits}"), Some(None));
        check(&format!(" {digits}"), Some(None));
        check(&format!("a\0 {digits}"), Some(None));
        check(digits, None);
        check(&format!("tim {}", &digits[1..]), None);
        check(&format!("tim {digits}0"), None);
        check(&format!("tim g{}", &digits[1..]), None);
        check("", None);
    }

    #[test]
    fn a_challenge_is_a_msg_id() {
        let hostname = "relay.example".parse().unwrap();
        let time = WallTime::from_millis(1_795_351_597_250);
        assert_eq!(
            challenge(Nonce([0xa5; 18]), time, &hostname)
                .escape_ascii()
                .to_string(),
            format!("<{}.1795351597@relay.example>", "a5".repeat(18))
        );
    }
}
