//! AUTH (RFC 4954): the SASL mechanisms (RFC 4422), for both sides.
//!
//! [`server`] is the exchange with a client that wants to be known, a machine inside
//! the session. The mechanisms are beside it: [`cram`] (RFC 2195) and [`scram`]
//! (RFC 5802, RFC 7677); PLAIN (RFC 4616) and LOGIN are short enough to stand in the
//! exchange. What a client sends by PLAIN and CRAM-MD5 it sends by POP3, too, so that is
//! in [`sasl`]. [`stored`] is what is kept of a password,
//! [`users`] the file in which that stands.
//!
//! # What is relied on
//!
//! Randomness comes from outside, as a [`Nonce`]: fresh for each exchange, and not to be
//! guessed. Comparing secrets takes the same time wherever they differ.
//!
//! Names and passwords are compared in the form of SASLprep (RFC 4013, [`sasl`]): a name
//! has it from where it is parsed on, a password where it is hashed
//! ([`Password::prepared`]).
//!
//! # What is not here
//!
//! - Who may do what with a name: `route` decides that.
//! - Whether a password is right: that takes tens of milliseconds of a CPU, on purpose.
//!   The exchange asks; the core lets another thread find out ([`stored::Stored::verify`]).
//! - Channel binding (SCRAM-SHA-256-PLUS) and security layers.

pub mod base64;
pub mod cram;
pub mod scram;
pub mod server;
pub mod stored;
pub mod users;

use std::fmt;
use std::ops::Deref;

use zeroize::Zeroizing;

use crate::sasl;

/// Longest password in octets. A line of an exchange holds 12,288 octets (RFC 4954 §4)
/// for everything; nobody types a longer one.
pub const PASSWORD_BYTES_MAX: usize = 1024;

/// SASL mechanisms that we know, the weakest first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Mechanism {
    /// Never standardised, widely used. Sends the password.
    Login,
    /// RFC 4616. Sends the password.
    Plain,
    /// RFC 2195. Keeps the password off the line; the server must know it.
    CramMd5,
    /// RFC 7677. Keeps the password off the line and off the server.
    ScramSha256,
    /// RFC 4422 appendix A: TLS has shown who it is.
    External,
}

impl Mechanism {
    /// All that we know.
    pub const ALL: [Self; 5] = [
        Self::Login,
        Self::Plain,
        Self::CramMd5,
        Self::ScramSha256,
        Self::External,
    ];

    /// As in EHLO and AUTH.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::Login => "LOGIN",
            Self::CramMd5 => "CRAM-MD5",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::External => "EXTERNAL",
        }
    }

    /// By its name, in any case of letters.
    #[must_use]
    pub fn by_name(name: &[u8]) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|mechanism| name.eq_ignore_ascii_case(mechanism.name().as_bytes()))
    }

    /// Whether whoever reads the line has the password.
    #[must_use]
    pub const fn sends_password(self) -> bool {
        matches!(self, Self::Plain | Self::Login)
    }
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A set of mechanisms.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Mechanisms(u8);

impl Mechanisms {
    /// None.
    pub const NONE: Self = Self(0);

    /// True if it is in the set.
    #[must_use]
    pub const fn contains(self, mechanism: Mechanism) -> bool {
        self.0 & 1 << mechanism as u8 != 0
    }

    /// True if nothing is in the set.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The set with this one more.
    #[must_use]
    pub const fn with(self, mechanism: Mechanism) -> Self {
        Self(self.0 | 1 << mechanism as u8)
    }

    /// What is in one of both.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The set without those that send the password: for a connection in clear.
    #[must_use]
    pub fn without_passwords(self) -> Self {
        self.iter()
            .filter(|mechanism| !mechanism.sends_password())
            .fold(Self::NONE, Self::with)
    }

    /// What is in it, the strongest first.
    pub fn iter(self) -> impl Iterator<Item = Mechanism> {
        Mechanism::ALL
            .into_iter()
            .rev()
            .filter(move |mechanism| self.contains(*mechanism))
    }
}

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
        let prepared = sasl::prepare(&self.0).ok()?;
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
    fn names_and_sets() {
        for mechanism in Mechanism::ALL {
            let lower = mechanism.name().to_ascii_lowercase();
            assert_eq!(Mechanism::by_name(lower.as_bytes()), Some(mechanism));
        }
        assert_eq!(Mechanism::by_name(b"SCRAM-SHA-256-PLUS"), None);
        assert_eq!(Mechanism::by_name(b""), None);
        let all = Mechanism::ALL
            .into_iter()
            .fold(Mechanisms::NONE, Mechanisms::with);
        let strongest: Vec<_> = all.iter().map(Mechanism::name).collect();
        assert_eq!(
            strongest,
            ["EXTERNAL", "SCRAM-SHA-256", "CRAM-MD5", "PLAIN", "LOGIN"]
        );
        let clear: Vec<_> = all
            .without_passwords()
            .iter()
            .map(Mechanism::name)
            .collect();
        assert_eq!(clear, ["EXTERNAL", "SCRAM-SHA-256", "CRAM-MD5"]);
    }

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
