//! AUTH (RFC 4954): the SASL mechanisms (RFC 4422), for both sides.
//!
//! [`server`] is the exchange with a client that wants to be known, a machine inside
//! the session. CRAM-MD5 (RFC 2195) is beside it in [`cram`]; PLAIN (RFC 4616) and LOGIN
//! are short enough to stand in the exchange. What a client does by POP3, too, is in
//! [`sasl`](crate::sasl), and SCRAM-SHA-256 with it. [`stored`] is what is kept of a
//! password, [`users`] the file in which that stands.
//!
//! # What is relied on
//!
//! Randomness comes from outside, as a [`Nonce`]: fresh for each exchange, and not to be
//! guessed. Comparing secrets takes the same time wherever they differ.
//!
//! Names and passwords are compared in the form of SASLprep (RFC 4013,
//! [`sasl`](crate::sasl)): a name has it from where it is parsed on, a password where it is
//! hashed ([`Password::prepared`]).
//!
//! # What is not here
//!
//! - Who may do what with a name: `route` decides that.
//! - Whether a password is right: that takes tens of milliseconds of a CPU, on purpose.
//!   The exchange asks; the core lets another thread find out ([`stored::Stored::verify`]).
//! - Channel binding (SCRAM-SHA-256-PLUS) and security layers.

pub mod cram;
pub mod server;
pub mod stored;
pub mod users;

use std::fmt;

pub use crate::sasl::{
    Nonce, Nonces, PASSWORD_BYTES_MAX, Password, PasswordError, Response, base64, scram,
};

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
}
