//! What a client sends in the SASL mechanisms that SMTP (RFC 4954) and POP3 (RFC 5034)
//! have in common: PLAIN (RFC 4616) and CRAM-MD5 (RFC 2195), before base64. And which
//! names and passwords the stricter mechanisms can take.
//!
//! What is weak in MD5 does not touch HMAC. What is weak in CRAM-MD5 is that the server
//! must know the password, and that who records an exchange can try passwords at leisure.
//!
//! # What is not here
//!
//! SASLprep (RFC 4013), which SCRAM demands (RFC 5802 §2.2), maps characters beyond ASCII
//! to one form by tables of Unicode 3.2, and this program has none. ASCII without control
//! characters is its own prepared form, so that is what [`is_prepared`] lets pass; where
//! the mechanism demands more, the rest is refused, never sent as it is.

use hmac::{Hmac, KeyInit as _, Mac as _};
use md5::Md5;
use zeroize::Zeroizing;

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

/// Whether SASLprep would leave a name or password as it is, as far as we can tell.
#[must_use]
pub fn is_prepared(text: &[u8]) -> bool {
    text.iter().all(|octet| matches!(octet, b' '..=b'~'))
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
    fn what_needs_no_tables() {
        let check = |text: &str, expected: bool| {
            assert_eq!(is_prepared(text.as_bytes()), expected, "{text:?}");
        };
        check("user", true);
        check("a b~!", true);
        // RFC 4013 §3: the soft hyphen goes, the ordinal indicator becomes a letter, the
        // control character is prohibited. We know none of it.
        check("I\u{ad}X", false);
        check("\u{aa}", false);
        check("\u{7}", false);
        check("\u{7f}", false);
        check("käthe", false);
    }
}
