//! The server's side of an exchange (RFC 4954 §4), from AUTH to the verdict.
//!
//! The session gives what the client sent, decoded, and does what the [`Step`] says. An
//! [`Exchange`] is what is valid between two lines; each line consumes it.
//!
//! Invariants: an exchange ends after three lines of the client at most; no step says
//! that the client is known, but [`Step::Proven`] behind a proof, and the core's answer
//! to a [`Claim`].
//!
//! Not here: base64, replies, pauses, and who exists. A name that cannot be one goes
//! the way of a wrong password, so that the client learns nothing.

use super::scram::{ClientFirst, Keys, Malformed, ServerWaits};
use super::{Mechanism, Nonce, Password, cram};
use crate::mail::Domain;
use crate::time::WallTime;
use crate::user::UserName;

/// What the client claims, to be judged by who knows the users.
#[derive(Debug)]
pub enum Claim {
    /// PLAIN, LOGIN: this is the password.
    Password {
        /// Whose.
        user: UserName,
        /// The password.
        password: Password,
    },
    /// CRAM-MD5: this is the digest.
    Digest {
        /// Whose.
        user: UserName,
        /// What we sent.
        challenge: Vec<u8>,
        /// What came back.
        digest: cram::Digest,
    },
    /// SCRAM: it will prove to be this user. To be answered with the keys, or with those
    /// of nobody.
    Keys {
        /// Whose.
        user: UserName,
    },
    /// EXTERNAL: TLS has shown who it is.
    Certificate {
        /// As whom it wants to act; the certificate's own name if that is not said.
        user: Option<UserName>,
    },
}

impl Claim {
    /// Whom it names.
    #[must_use]
    pub const fn user(&self) -> Option<&UserName> {
        match self {
            Self::Password { user, .. } | Self::Digest { user, .. } | Self::Keys { user } => {
                Some(user)
            }
            Self::Certificate { user } => user.as_ref(),
        }
    }
}

/// A claim that waits for its answer, with what goes on after it.
#[derive(Debug)]
pub struct Claiming {
    /// What is claimed.
    pub claim: Claim,
    scram: Option<(ClientFirst, Nonce)>,
}

/// What the session does next.
#[derive(Debug)]
pub enum Step {
    /// 334 with this, then the next line.
    Challenge(Vec<u8>, Exchange),
    /// Ask.
    Ask(Claiming),
    /// The client has proved to be this user: 235.
    Proven(UserName),
    /// It has not: 535. The name that it gave, if it was one.
    Wrong(Option<UserName>),
    /// What came is no message of the mechanism: 501.
    Malformed,
}

/// What the client is to send next.
#[derive(Debug)]
pub enum Exchange {
    /// Everything of PLAIN.
    Plain,
    /// The name of LOGIN.
    LoginName,
    /// The password of LOGIN; no name if what came was none.
    LoginPassword(Option<UserName>),
    /// The digest.
    CramDigest {
        /// What we sent.
        challenge: Vec<u8>,
    },
    /// The first message of SCRAM.
    ScramFirst(Nonce),
    /// The proof.
    ScramFinal(UserName, Box<ServerWaits>),
    /// Nothing, behind our proof.
    ScramEnd(UserName),
    /// The name of EXTERNAL, or nothing.
    External,
}

/// What an exchange needs to know of us.
#[derive(Clone, Copy, Debug)]
pub struct Ourselves<'a> {
    /// Our name.
    pub hostname: &'a Domain,
    /// The time.
    pub time: WallTime,
    /// For this exchange only.
    pub nonce: Nonce,
}

/// Begins. `initial` is the initial response, if there was one.
#[must_use]
pub fn begin(mechanism: Mechanism, initial: Option<&[u8]>, ourselves: &Ourselves<'_>) -> Step {
    let exchange = match mechanism {
        Mechanism::Plain => Exchange::Plain,
        Mechanism::Login => Exchange::LoginName,
        Mechanism::ScramSha256 => Exchange::ScramFirst(ourselves.nonce),
        Mechanism::External => Exchange::External,
        Mechanism::CramMd5 => {
            // RFC 4954 §4: the client does not begin here.
            if initial.is_some() {
                return Step::Malformed;
            }
            let Ourselves {
                hostname,
                time,
                nonce,
            } = *ourselves;
            let challenge = cram::challenge(nonce, time, hostname);
            return Step::Challenge(challenge.clone(), Exchange::CramDigest { challenge });
        }
    };
    match (initial, exchange) {
        (Some(initial), exchange) => exchange.response(initial),
        (None, Exchange::LoginName) => Step::Challenge(b"Username:".to_vec(), Exchange::LoginName),
        (None, exchange) => Step::Challenge(Vec::new(), exchange),
    }
}

impl Exchange {
    /// Takes what the client sent.
    #[must_use]
    pub fn response(self, response: &[u8]) -> Step {
        match self {
            Self::Plain => plain(response),
            Self::LoginName => {
                let challenge = b"Password:".to_vec();
                Step::Challenge(challenge, Self::LoginPassword(name(response)))
            }
            Self::LoginPassword(user) => password(user, response),
            Self::CramDigest { challenge } => match cram::parse_response(response) {
                None => Step::Malformed,
                Some((None, _)) => Step::Wrong(None),
                Some((Some(user), digest)) => Step::Ask(Claiming {
                    claim: Claim::Digest {
                        user,
                        challenge,
                        digest,
                    },
                    scram: None,
                }),
            },
            Self::ScramFirst(nonce) => match ClientFirst::parse(response) {
                Err(Malformed) => Step::Malformed,
                Ok(first) => match first.user.clone() {
                    Some(user) if is_same(first.authorize_as.as_deref(), &user) => {
                        Step::Ask(Claiming {
                            claim: Claim::Keys { user },
                            scram: Some((first, nonce)),
                        })
                    }
                    user => Step::Wrong(user),
                },
            },
            Self::ScramFinal(user, waits) => match waits.finish(response) {
                Err(Malformed) => Step::Malformed,
                Ok(None) => Step::Wrong(Some(user)),
                Ok(Some(last)) => Step::Challenge(last, Self::ScramEnd(user)),
            },
            Self::ScramEnd(user) if response.is_empty() => Step::Proven(user),
            Self::ScramEnd(_) => Step::Malformed,
            Self::External => {
                let user = match response {
                    b"" => None,
                    response => match name(response) {
                        Some(user) => Some(user),
                        None => return Step::Wrong(None),
                    },
                };
                Step::Ask(Claiming {
                    claim: Claim::Certificate { user },
                    scram: None,
                })
            }
        }
    }
}

impl Claiming {
    /// Goes on with the keys that a [`Claim::Keys`] asked for.
    ///
    /// # Panics
    /// If the claim is another one.
    #[must_use]
    pub fn keys(self, keys: Keys) -> Step {
        let (Claim::Keys { user }, Some((first, nonce))) = (self.claim, self.scram) else {
            panic!("keys for a claim that needs none");
        };
        let (message, waits) = first.answer(nonce, keys);
        Step::Challenge(message, Exchange::ScramFinal(user, Box::new(waits)))
    }
}

/// `authzid NUL authcid NUL password`.
fn plain(message: &[u8]) -> Step {
    let mut parts = message.splitn(3, |&octet| octet == 0);
    let (Some(authorize_as), Some(user), Some(secret)) = (parts.next(), parts.next(), parts.next())
    else {
        return Step::Malformed;
    };
    let Some(user) = name(user) else {
        return Step::Wrong(None);
    };
    let authorize_as = (!authorize_as.is_empty()).then_some(authorize_as);
    if authorize_as.is_some_and(|other| name(other).as_ref() != Some(&user)) {
        // Nobody acts for another one here.
        return Step::Wrong(Some(user));
    }
    password(Some(user), secret)
}

fn password(user: Option<UserName>, secret: &[u8]) -> Step {
    match (user, Password::from_octets(secret)) {
        (Some(user), Ok(password)) => Step::Ask(Claiming {
            claim: Claim::Password { user, password },
            scram: None,
        }),
        (user, _) => Step::Wrong(user),
    }
}

fn name(octets: &[u8]) -> Option<UserName> {
    std::str::from_utf8(octets).ok()?.parse().ok()
}

fn is_same(authorize_as: Option<&str>, user: &UserName) -> bool {
    authorize_as.is_none_or(|other| other.parse().as_ref() == Ok(user))
}

#[cfg(test)]
mod tests;
