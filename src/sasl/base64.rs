//! Base64 as SASL in SMTP writes it (RFC 4954 §4): RFC 4648 §4, with padding, and
//! nothing else: no spaces, no line ends, no bits left over.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::Response;

/// Appends `octets` in base64.
pub fn encode(octets: &[u8], out: &mut Vec<u8>) {
    let from = out.len();
    // Three octets are four letters.
    out.resize(from + octets.len().div_ceil(3) * 4, 0);
    let written = STANDARD.encode_slice(octets, &mut out[from..]);
    debug_assert_eq!(written.ok(), Some(out.len() - from));
}

/// `octets` in base64.
#[must_use]
pub fn text(octets: &[u8]) -> String {
    STANDARD.encode(octets)
}

/// What `text` says, wiped when it is dropped. `None` if it is no base64.
#[must_use]
pub fn decode(text: &[u8]) -> Option<Response> {
    let mut octets = Zeroizing::new(Vec::with_capacity(text.len().div_ceil(4) * 3));
    STANDARD.decode_vec(text, &mut octets).ok()?;
    Some(Response::new(octets))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_4648() {
        let check = |octets: &str, written: &str| {
            let mut out = b">".to_vec();
            encode(octets.as_bytes(), &mut out);
            assert_eq!(out, format!(">{written}").as_bytes());
            let decoded = decode(written.as_bytes()).expect("base64");
            assert_eq!(&*decoded, octets.as_bytes());
        };
        check("", "");
        check("f", "Zg==");
        check("fo", "Zm8=");
        check("foo", "Zm9v");
        check("foob", "Zm9vYg==");
        check("fooba", "Zm9vYmE=");
        check("foobar", "Zm9vYmFy");
    }

    #[test]
    fn strict() {
        for wrong in [
            "Zg", "Zg=", "Zg===", "Zh==", "Zm9=", " Zg==", "Zg== ", "Z g==", "Zm9v\r\n", "*", "=",
            "Zg-_", "Zg==Zg==", "Zé",
        ] {
            assert!(decode(wrong.as_bytes()).is_none(), "{wrong:?}");
        }
    }
}
