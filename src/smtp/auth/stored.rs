//! What is kept of a user's password.
//!
//! A password is kept as argon2id (for PLAIN and LOGIN) and as keys of SCRAM-SHA-256;
//! from neither it can be read. Both are of the prepared password (RFC 4013). Where
//! CRAM-MD5 is wanted the password itself must be kept, as it was typed: its clients do
//! not agree on whether they prepare it. One line of text holds them all, separated by spaces:
//!
//! | begins with | is |
//! |---|---|
//! | `$argon2id$` | a PHC string |
//! | `SCRAM-SHA-256$` | `<iterations>:<salt>$<StoredKey>:<ServerKey>` |
//! | `SHARED$` | the password in base64 |

use std::fmt;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, Params, Version};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::scram::{self, Keys};
use super::{Mechanism, Mechanisms, Password, base64};

/// Most memory that a stored argon2 hash may ask for, in KiB. Several are checked at
/// once, and a file that was made elsewhere must not take all memory.
const ARGON2_KIB_MAX: u32 = 256 << 10;

/// Most passes over that memory.
const ARGON2_PASSES_MAX: u32 = 64;

/// What is kept of one password. At least one form of it.
#[derive(Clone)]
pub struct Stored {
    /// A PHC string of argon2id.
    argon2: Option<Box<str>>,
    scram: Option<Keys>,
    /// The password itself.
    shared: Option<Password>,
}

/// Only which forms there are.
impl fmt::Debug for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stored")
            .field("argon2", &self.argon2.is_some())
            .field("scram", &self.scram.is_some())
            .field("shared", &self.shared.is_some())
            .finish()
    }
}

/// Whether the password itself is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Keep {
    /// Only what it cannot be read from.
    Hashes,
    /// Also the password, for CRAM-MD5.
    Password,
}

/// What is wrong with a text that should be one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum StoredError {
    /// Nothing is there.
    #[error("there is no secret behind the name")]
    Empty,
    /// The same form twice.
    #[error("two secrets of the same kind")]
    Twice,
    /// A form that is not known.
    #[error("a secret that begins neither with $argon2id$ nor SCRAM-SHA-256$ nor SHARED$")]
    Kind,
    /// No PHC string, or parameters over the limits.
    #[error("the argon2id hash is broken, or wants too much memory or time")]
    Argon2,
    /// See [`Keys::parse`].
    #[error("the SCRAM keys are broken, or have too few or too many iterations")]
    Scram,
    /// No base64 of a [`Password`].
    #[error("the shared secret is no password in base64")]
    Shared,
}

/// Salts for [`Stored::new`], random each.
#[derive(Clone, Copy, Debug)]
pub struct Salts {
    /// For argon2.
    pub argon2: [u8; 16],
    /// For SCRAM.
    pub scram: [u8; scram::SALT_BYTES],
}

impl Stored {
    /// Takes tens of milliseconds.
    #[must_use]
    pub fn new(password: &Password, keep: Keep, salts: &Salts) -> Self {
        let prepared = password.prepared();
        let hashed = prepared.as_ref().unwrap_or(password);
        let phc = argon2()
            .hash_password_with_salt(hashed.reveal(), &salts.argon2)
            .expect("a password and salt of these sizes can be hashed");
        Self {
            argon2: Some(phc.to_string().into()),
            scram: Some(Keys::derive(password, &salts.scram, scram::ITERATIONS)),
            shared: (keep == Keep::Password).then(|| password.clone()),
        }
    }

    /// A password that is known as it is, such as a customer's.
    #[must_use]
    pub const fn shared(password: Password) -> Self {
        Self {
            argon2: None,
            scram: None,
            shared: Some(password),
        }
    }

    /// A shared secret with the keys of SCRAM beside it, so that the user may use
    /// either. Takes milliseconds.
    #[must_use]
    pub fn shared_with_scram(password: Password, salt: &[u8]) -> Self {
        Self {
            argon2: None,
            scram: Some(Keys::derive(&password, salt, scram::ITERATIONS)),
            shared: Some(password),
        }
    }

    /// The mechanisms that can be used with it. PLAIN and LOGIN always can.
    #[must_use]
    pub fn mechanisms(&self) -> Mechanisms {
        let mut mechanisms = Mechanisms::NONE
            .with(Mechanism::Plain)
            .with(Mechanism::Login);
        if self.scram.is_some() {
            mechanisms = mechanisms.with(Mechanism::ScramSha256);
        }
        if self.shared.is_some() {
            mechanisms = mechanisms.with(Mechanism::CramMd5);
        }
        mechanisms
    }

    /// For SCRAM.
    #[must_use]
    pub const fn scram(&self) -> Option<&Keys> {
        self.scram.as_ref()
    }

    /// For CRAM-MD5.
    #[must_use]
    pub const fn password(&self) -> Option<&Password> {
        self.shared.as_ref()
    }

    /// Whether this is the password of what is stored; `None` is a user that does not
    /// exist. Takes tens of milliseconds of a CPU and as many MiB, whatever is wrong.
    ///
    /// What is not prepared is tried as it is, too: what is stored may come from a program
    /// that did not prepare it.
    #[must_use]
    pub fn verify(stored: Option<&Self>, password: &Password) -> bool {
        match password.prepared() {
            // Both always: the time tells nothing about what is stored.
            Some(prepared) if prepared != *password => {
                Self::is_it(stored, &prepared) | Self::is_it(stored, password)
            }
            Some(_) | None => Self::is_it(stored, password),
        }
    }

    fn is_it(stored: Option<&Self>, password: &Password) -> bool {
        if let Some(phc) = stored.and_then(|stored| stored.argon2.as_deref()) {
            return PasswordHash::new(phc)
                .is_ok_and(|hash| argon2().verify_password(password.reveal(), &hash).is_ok());
        }
        let right = match stored {
            Some(Self {
                shared: Some(shared),
                ..
            }) => {
                let is = |known: &Password| known.reveal().ct_eq(password.reveal()).into();
                shared.prepared().is_some_and(|known| is(&known)) || is(shared)
            }
            Some(Self {
                scram: Some(keys), ..
            }) => keys.verify(password),
            _ => false,
        };
        if !right {
            // As long as for a user with a hash, so that the time tells nothing.
            let mut out = Zeroizing::new([0; 32]);
            let _ = argon2().hash_password_into(password.reveal(), &[0; 16], &mut *out);
        }
        right
    }

    /// Reads what [`Stored::to_text`] wrote.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, StoredError> {
        let mut stored = Self {
            argon2: None,
            scram: None,
            shared: None,
        };
        let mut words = text.split_ascii_whitespace().peekable();
        if words.peek().is_none() {
            return Err(StoredError::Empty);
        }
        for word in words {
            let twice = if let Some(keys) = word.strip_prefix("SCRAM-SHA-256$") {
                let keys = Keys::parse(keys).ok_or(StoredError::Scram)?;
                stored.scram.replace(keys).is_some()
            } else if let Some(text) = word.strip_prefix("SHARED$") {
                let octets = base64::decode(text.as_bytes()).ok_or(StoredError::Shared)?;
                let password = Password::from_octets(&octets).map_err(|_| StoredError::Shared)?;
                stored.shared.replace(password).is_some()
            } else if word.starts_with("$argon2id$") {
                if !is_argon2(word) {
                    return Err(StoredError::Argon2);
                }
                stored.argon2.replace(word.into()).is_some()
            } else {
                return Err(StoredError::Kind);
            };
            if twice {
                return Err(StoredError::Twice);
            }
        }
        Ok(stored)
    }

    /// For the file.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(512));
        let mut push = |kind: &str, secret: &str| {
            if !text.is_empty() {
                text.push(' ');
            }
            text.push_str(kind);
            text.push_str(secret);
        };
        if let Some(phc) = &self.argon2 {
            push("", phc);
        }
        if let Some(keys) = &self.scram {
            push("SCRAM-SHA-256$", &keys.to_text());
        }
        if let Some(password) = &self.shared {
            let secret = Zeroizing::new(base64::text(password.reveal()));
            push("SHARED$", &secret);
        }
        text
    }
}

/// 19 MiB and two passes, which is what the makers of the crate and OWASP recommend.
fn argon2() -> Argon2<'static> {
    Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::DEFAULT)
}

fn is_argon2(phc: &str) -> bool {
    PasswordHash::new(phc)
        .ok()
        .filter(|hash| hash.salt.is_some() && hash.hash.is_some())
        .and_then(|hash| Params::try_from(&hash).ok())
        .is_some_and(|params| {
            params.m_cost() <= ARGON2_KIB_MAX && params.t_cost() <= ARGON2_PASSES_MAX
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(text: &str) -> Password {
        Password::new(text.to_owned()).unwrap()
    }

    const SALTS: Salts = Salts {
        argon2: [1; 16],
        scram: [2; scram::SALT_BYTES],
    };

    #[test]
    fn every_form_verifies_and_comes_back() {
        let check = |stored: &Stored, mechanisms: &[&str]| {
            let text = stored.to_text();
            let again = Stored::parse(&text).unwrap();
            assert_eq!(again.to_text(), text);
            let names: Vec<_> = again.mechanisms().iter().map(Mechanism::name).collect();
            assert_eq!(names, mechanisms);
            assert!(Stored::verify(Some(&again), &password("swordfish")));
            assert!(!Stored::verify(Some(&again), &password("swordfisH")));
            let shown = format!("{again:?}");
            assert!(
                !shown.contains("swordfish") && !shown.contains('$'),
                "{shown}"
            );
        };
        let swordfish = password("swordfish");
        check(
            &Stored::new(&swordfish, Keep::Hashes, &SALTS),
            &["SCRAM-SHA-256", "PLAIN", "LOGIN"],
        );
        check(
            &Stored::new(&swordfish, Keep::Password, &SALTS),
            &["SCRAM-SHA-256", "CRAM-MD5", "PLAIN", "LOGIN"],
        );
        check(
            &Stored::shared(swordfish.clone()),
            &["CRAM-MD5", "PLAIN", "LOGIN"],
        );
        let keys = Keys::derive(&swordfish, b"salt", scram::ITERATIONS_MIN);
        let only_scram = format!("SCRAM-SHA-256${}", *keys.to_text());
        check(
            &Stored::parse(&only_scram).unwrap(),
            &["SCRAM-SHA-256", "PLAIN", "LOGIN"],
        );
        assert!(!Stored::verify(None, &swordfish));
    }

    /// However it is typed, and whoever stored it.
    #[test]
    fn one_password_in_two_forms() {
        let (one, two) = ("p\u{e4}ss", "pa\u{308}ss");
        let unprepared = argon2()
            .hash_password_with_salt(two.as_bytes(), &SALTS.argon2)
            .unwrap();
        for (stored, by_the_other) in [
            (Stored::new(&password(one), Keep::Hashes, &SALTS), true),
            (Stored::new(&password(two), Keep::Password, &SALTS), true),
            (Stored::shared(password(two)), true),
            (Stored::shared(password(one)), true),
            // Its client goes on as before.
            (Stored::parse(&unprepared.to_string()).unwrap(), false),
        ] {
            let verify = |text: &str| Stored::verify(Some(&stored), &password(text));
            assert!(verify(two), "{stored:?}");
            assert_eq!(verify(one), by_the_other, "{stored:?}");
            assert!(!verify("pass"), "{stored:?}");
        }
        let keys = |text: &str| Keys::derive(&password(text), b"salt", scram::ITERATIONS_MIN);
        assert_eq!(keys(one), keys(two));
        assert!(!Stored::verify(None, &password(two)));
    }

    #[test]
    fn what_is_no_secret() {
        let check = |text: &str, expected: StoredError| {
            assert_eq!(Stored::parse(text).unwrap_err(), expected, "{text:?}");
        };
        check("", StoredError::Empty);
        check("  ", StoredError::Empty);
        check("swordfish", StoredError::Kind);
        check(
            "SHARED$c3dvcmRmaXNo SHARED$c3dvcmRmaXNo",
            StoredError::Twice,
        );
        check("SHARED$", StoredError::Shared);
        check("SHARED$swordfish!", StoredError::Shared);
        check("SCRAM-SHA-256$4096", StoredError::Scram);
        check("$argon2id$", StoredError::Argon2);
        check(
            "$argon2i$v=19$m=8,t=1,p=1$AAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA",
            StoredError::Kind,
        );
        check(
            "$argon2id$v=19$m=4194304,t=2,p=1$AQEBAQEBAQEBAQEBAQEBAQ$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            StoredError::Argon2,
        );
    }
}
