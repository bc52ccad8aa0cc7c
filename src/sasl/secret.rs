//! What must not be seen: passwords, what is said in an exchange, and the randomness of
//! one. What is here shows nothing of itself, and is wiped from memory.

use std::fmt;
use std::ops::Deref;

use zeroize::Zeroizing;

use super::{prepare, scram};

/// Longest password in octets. A line of an exchange holds 12,288 octets (RFC 4954 §4)
/// for everything; nobody types a longer one.
pub const PASSWORD_BYTES_MAX: usize = 1024;

/// A password. Shows nothing of itself, and is wiped from memory when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Zeroizing<String>);

/// What no mechanism can send.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a password has 1 to {PASSWORD_BYTES_MAX} octets of UTF-8 and no NUL")]
pub struct PasswordError;

impl Password {
    /// # Errors
    /// If no mechanism can send it.
    pub fn new(text: String) -> Result<Self, PasswordError> {
        let text = Zeroizing::new(text);
        if text.is_empty() || text.len() > PASSWORD_BYTES_MAX || text.contains('\0') {
            return Err(PasswordError);
        }
        Ok(Self(text))
    }

    /// From the octets of a response.
    ///
    /// # Errors
    /// As of [`Password::new`].
    pub fn from_octets(octets: &[u8]) -> Result<Self, PasswordError> {
        let text = std::str::from_utf8(octets).map_err(|_| PasswordError)?;
        Self::new(text.to_owned())
    }

    /// The form in which it is compared and hashed (RFC 4013). `None` if it has none.
    #[must_use]
    pub fn prepared(&self) -> Option<Self> {
        let prepared = prepare(&self.0).ok()?;
        Self::new(prepared.into_owned()).ok()
    }

    /// The octets, for the place that hashes or sends them.
    #[must_use]
    pub fn reveal(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

/// What a client sent in an exchange, or what base64 says. Shows nothing of itself, and
/// is wiped from memory when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Response(Zeroizing<Vec<u8>>);

impl Response {
    /// These octets.
    #[must_use]
    pub const fn new(octets: Zeroizing<Vec<u8>>) -> Self {
        Self(octets)
    }
}

impl Deref for Response {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Response(…)")
    }
}

/// Randomness for one exchange: unique, and not to be guessed. From the shell's secret.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Nonce(pub [u8; 18]);

/// Gives [`Nonce`]s from one secret.
///
/// HMAC-SHA-256 of a counter: who has seen all earlier ones cannot tell the next.
pub struct Nonces {
    secret: Zeroizing<[u8; 32]>,
    given: u64,
}

impl Nonces {
    /// `secret` is random, and new at each start and for each core.
    #[must_use]
    pub fn new(secret: [u8; 32]) -> Self {
        Self {
            secret: Zeroizing::new(secret),
            given: 0,
        }
    }

    /// The next one.
    pub fn fresh(&mut self) -> Nonce {
        self.given += 1;
        let mac = scram::hmac(&*self.secret, &[&self.given.to_be_bytes()]);
        let mut nonce = [0; 18];
        nonce.copy_from_slice(&mac[..18]);
        Nonce(nonce)
    }
}

impl fmt::Debug for Nonces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nonces")
            .field("given", &self.given)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_show_nothing() {
        let password = Password::new("swordfish".to_owned()).unwrap();
        assert_eq!(format!("{password:?}"), "Password(…)");
        let nonces = Nonces::new([7; 32]);
        assert_eq!(format!("{nonces:?}"), "Nonces { given: 0, .. }");
        for wrong in ["", "a\0b", &"x".repeat(PASSWORD_BYTES_MAX + 1)] {
            assert!(Password::new(wrong.to_owned()).is_err());
        }
        assert!(Password::from_octets(b"\xff").is_err());
    }

    #[test]
    fn a_password_has_one_form() {
        let password = |text: &str| Password::new(text.to_owned()).unwrap();
        let two = password("pa\u{308}ss").prepared();
        assert_eq!(two, Some(password("p\u{e4}ss")));
        assert_eq!(password("a b").prepared(), Some(password("a b")));
        assert_eq!(password("\u{7}").prepared(), None);
        // What becomes too long by it has none.
        let long = "\u{fdfa}".repeat(PASSWORD_BYTES_MAX / 3);
        assert_eq!(password(&long).prepared(), None);
    }

    #[test]
    fn nonces_differ() {
        let mut nonces = Nonces::new([7; 32]);
        let mut others = Nonces::new([8; 32]);
        let first = nonces.fresh();
        assert_ne!(first, nonces.fresh());
        assert_ne!(first, others.fresh());
    }
}
