//! AUTH from the client's side (RFC 4954): PLAIN (RFC 4616), LOGIN, CRAM-MD5 (RFC 2195)
//! and SCRAM-SHA-256 (RFC 7677).
//!
//! The strongest mechanism that the host offers is used; PLAIN and LOGIN, which send the
//! password, only where the caller allows it. With SCRAM the host must show that it
//! knows the password too, or the session ends: it may be somebody else.
//!
//! Each state of an exchange is a variant. Deriving SCRAM's key takes a CPU longer than
//! a core has time for: the exchange asks for it (`Step::Derive`).
//!
//! Not here: EXTERNAL, since we have no certificate to show as a client.

use std::fmt;

use super::capabilities::Capabilities;
use crate::smtp::answer::{Answer, Class};
use crate::smtp::auth::scram::{ClientChallenged, ClientWaits, Salted, ServerMust};
use crate::smtp::auth::{Mechanism, Mechanisms, Nonce, Password, Response, base64, cram};
use crate::user::UserName;

/// Longest command line with an initial response (RFC 4954 §4): beyond it the host is
/// let ask. Octets with CRLF.
const COMMAND_BYTES_MAX: usize = 512;

/// Who we are to a host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Credentials {
    /// The name.
    pub user: UserName,
    /// The password. Shows nothing of itself.
    pub password: Password,
}

/// Who we are, and what this session needs to say so.
#[derive(Clone, Debug)]
pub struct Login {
    /// Who.
    pub credentials: std::sync::Arc<Credentials>,
    /// For this session only.
    pub nonce: Nonce,
}

/// What the host is to answer next.
#[derive(Debug)]
pub(super) enum Exchange {
    /// `AUTH` was sent without a response that is too long for the line: 334 asks for it.
    Asked(Response, Box<Exchange>),
    /// Everything was sent: 235 ends it.
    End,
    /// `AUTH LOGIN` was sent: 334 asks for the name.
    LoginName,
    /// The name was sent: 334 asks for the password.
    LoginPassword,
    /// `AUTH CRAM-MD5` was sent: 334 brings the challenge.
    Cram,
    /// The first message of SCRAM was sent: 334 brings salt and rounds.
    ScramFirst(ClientWaits),
    /// The key is being derived. Nothing was sent.
    ScramDeriving(ClientChallenged),
    /// The proof was sent: 334 brings the host's own.
    ScramProof(ServerMust),
}

/// A key that is to be derived.
#[derive(Clone, PartialEq, Eq)]
pub struct Derivation {
    /// From this.
    pub password: Password,
    /// With this salt.
    pub salt: Vec<u8>,
    /// So often.
    pub iterations: u32,
}

impl fmt::Debug for Derivation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Derivation")
            .field("iterations", &self.iterations)
            .finish_non_exhaustive()
    }
}

/// What follows from an answer.
pub(super) enum Step {
    /// Send this line; then the next state.
    Send(Vec<u8>, Exchange),
    /// Have this derived; then the next state.
    Derive(Derivation, Exchange),
    /// 235.
    Done,
    /// 4yz or 5yz.
    Refused,
    /// A code of another class than the exchange has here.
    OutOfOrder,
    /// What the host sent is not what one sends that knows the password.
    Untrusted(Mechanism),
}

/// The first line, by the best of the mechanisms that the host offers and that `allowed`
/// has. `None` if there is none.
pub(super) fn start(
    peer: &Capabilities,
    allowed: Mechanisms,
    login: &Login,
) -> Option<(Vec<u8>, Exchange)> {
    let usable = |mechanism: &Mechanism| {
        peer.mechanisms.contains(*mechanism) && allowed.contains(*mechanism)
    };
    let credentials = &login.credentials;
    let mechanism = allowed.iter().find(usable)?;
    let (initial, next) = match mechanism {
        Mechanism::Plain => (Some(plain(credentials)), Exchange::End),
        Mechanism::Login => (None, Exchange::LoginName),
        Mechanism::CramMd5 => (None, Exchange::Cram),
        Mechanism::ScramSha256 => {
            let (first, waits) = ClientWaits::begin(&credentials.user, login.nonce);
            (Some(first), Exchange::ScramFirst(waits))
        }
        Mechanism::External => return None,
    };
    let mut line = format!("AUTH {}", mechanism.name()).into_bytes();
    let next = match initial {
        Some(initial) if line.len() + 3 + initial.len().div_ceil(3) * 4 <= COMMAND_BYTES_MAX => {
            line.push(b' ');
            base64::encode(&initial, &mut line);
            next
        }
        Some(initial) => Exchange::Asked(Response::new(initial.into()), Box::new(next)),
        None => next,
    };
    line.extend_from_slice(b"\r\n");
    Some((line, next))
}

/// What follows.
pub(super) fn answer(at: Exchange, answer: &Answer<'_>, login: &Login) -> Step {
    let credentials = &login.credentials;
    let challenge = || {
        let text = answer.lines().next().unwrap_or_default();
        base64::decode(text.trim_ascii())
    };
    match (answer.code.class(), at) {
        (Class::Transient | Class::Permanent, _) => Step::Refused,
        (Class::Positive, Exchange::End) => Step::Done,
        (Class::Intermediate, Exchange::Asked(response, next)) => line(&response, *next),
        (Class::Intermediate, Exchange::LoginName) => line(
            credentials.user.as_str().as_bytes(),
            Exchange::LoginPassword,
        ),
        (Class::Intermediate, Exchange::LoginPassword) => {
            line(credentials.password.reveal(), Exchange::End)
        }
        (Class::Intermediate, Exchange::Cram) => match challenge() {
            None => Step::Untrusted(Mechanism::CramMd5),
            Some(challenge) => {
                let digest = cram::digest(&credentials.password, &challenge);
                let response = cram::response(&credentials.user, &digest);
                line(&response, Exchange::End)
            }
        },
        (Class::Intermediate, Exchange::ScramFirst(waits)) => {
            let challenged = challenge().and_then(|message| waits.challenged(&message).ok());
            match challenged {
                None => Step::Untrusted(Mechanism::ScramSha256),
                Some(challenged) => {
                    let derivation = Derivation {
                        password: credentials.password.clone(),
                        salt: challenged.salt().to_vec(),
                        iterations: challenged.iterations(),
                    };
                    Step::Derive(derivation, Exchange::ScramDeriving(challenged))
                }
            }
        }
        // Some put it into the 235, where RFC 4954 has no place for it; a 235 without it
        // is believed by nobody.
        (Class::Intermediate | Class::Positive, Exchange::ScramProof(must)) => {
            let accepted = challenge().is_some_and(|message| must.accepts(&message));
            match (accepted, answer.code.class()) {
                (false, _) => Step::Untrusted(Mechanism::ScramSha256),
                (true, Class::Positive) => Step::Done,
                (true, _) => line(b"", Exchange::End),
            }
        }
        (Class::Intermediate | Class::Positive, _) => Step::OutOfOrder,
    }
}

/// The key was derived. `None` if the exchange did not wait for it.
pub(super) fn derived(at: Exchange, salted: &Salted) -> Option<(Vec<u8>, Exchange)> {
    let Exchange::ScramDeriving(challenged) = at else {
        return None;
    };
    let (proof, must) = challenged.prove(salted);
    Some((encoded(&proof), Exchange::ScramProof(must)))
}

fn plain(credentials: &Credentials) -> Vec<u8> {
    let Credentials { user, password } = credentials;
    [b"\0", user.as_str().as_bytes(), b"\0", password.reveal()].concat()
}

fn line(response: &[u8], next: Exchange) -> Step {
    Step::Send(encoded(response), next)
}

fn encoded(response: &[u8]) -> Vec<u8> {
    let mut line = Vec::new();
    base64::encode(response, &mut line);
    line.extend_from_slice(b"\r\n");
    line
}
