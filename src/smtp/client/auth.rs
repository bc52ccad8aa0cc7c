//! AUTH from the client's side (RFC 4954): PLAIN (RFC 4616), LOGIN, CRAM-MD5 (RFC 2195)
//! and SCRAM-SHA-256 (RFC 7677).
//!
//! The strongest mechanism that the host offers is used; PLAIN and LOGIN, which send the
//! password, only where the caller allows it. With SCRAM the host must show that it
//! knows the password too, or the session ends: it may be somebody else.
//!
//! A host whose certificate was checked under TLS is nobody else, and no one listens: to
//! that one PLAIN is as good, and saves two of three round trips.
//!
//! Each state of an exchange is a variant. Deriving SCRAM's key takes a CPU longer than
//! a core has time for: the exchange asks for it (`Step::Derive`).
//!
//! EXTERNAL (RFC 4422 appendix A) is for a host that is to know us by the certificate
//! that we have shown in TLS: then nothing else is tried, and nothing in clear.
//!
//! SCRAM wants names and passwords prepared (RFC 4013, [`sasl`]): those that have no such
//! form do not go by it. By the other mechanisms a password goes as it was written down,
//! since it is the host that prepares it (RFC 4616 §2).

use super::Channel;
use super::capabilities::Capabilities;
use super::fault::SessionError;
use crate::sasl;
use crate::smtp::answer::{Answer, Class};
pub use crate::smtp::auth::scram::Derivation;
use crate::smtp::auth::scram::{ClientChallenged, ClientWaits, Salted, ServerMust};
use crate::smtp::auth::{Mechanism, Mechanisms, Nonce, Password, Response, base64};
use crate::user::UserName;

/// Longest command line with an initial response (RFC 4954 §4): beyond it the host is
/// let ask. Octets with CRLF.
const COMMAND_BYTES_MAX: usize = 512;

/// Who we are to a host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Credentials {
    /// The host knows us by a password.
    Password {
        /// Our name.
        user: UserName,
        /// The password. Shows nothing of itself.
        password: Password,
    },
    /// It knows us by our certificate.
    Certificate {
        /// As whom we want to act, if not as the one whom the certificate names.
        user: Option<UserName>,
    },
}

/// What is known of the host that is to know who we are.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Checked {
    /// Under TLS its certificate is checked against its name, or there is no session.
    Name,
    /// Nothing.
    Nothing,
}

/// Who we are, and what this session needs to say so.
#[derive(Clone, Debug)]
pub struct Login {
    /// Who.
    pub credentials: std::sync::Arc<Credentials>,
    /// To whom.
    pub host: Checked,
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
/// has.
///
/// # Errors
/// There is none.
pub(super) fn start(
    peer: &Capabilities,
    allowed: Mechanisms,
    login: &Login,
    channel: Channel,
) -> Result<(Vec<u8>, Exchange), SessionError> {
    let offered =
        |mechanism: Mechanism| peer.mechanisms.contains(mechanism) && allowed.contains(mechanism);
    let (user, password) = match &*login.credentials {
        Credentials::Certificate { user } => {
            if channel == Channel::Clear || !offered(Mechanism::External) {
                return Err(SessionError::ExternalNotOffered { channel });
            }
            // RFC 4954 §4: an empty response is written as "=".
            let mut line = b"AUTH EXTERNAL ".to_vec();
            match user {
                None => line.push(b'='),
                Some(user) => base64::encode(user.as_str().as_bytes(), &mut line),
            }
            line.extend_from_slice(b"\r\n");
            return Ok((line, Exchange::End));
        }
        Credentials::Password { user, password } => (user, password),
    };
    let prepared = sasl::is_prepared(user.as_str()) && password.prepared().is_some();
    let usable = |mechanism: &Mechanism| match mechanism {
        Mechanism::External => false,
        Mechanism::ScramSha256 => prepared && offered(*mechanism),
        Mechanism::Login | Mechanism::Plain | Mechanism::CramMd5 => offered(*mechanism),
    };
    let is_safe = channel == Channel::Tls && login.host == Checked::Name;
    let quickest = Some(Mechanism::Plain).filter(|plain| is_safe && usable(plain));
    let Some(mechanism) = quickest.or_else(|| allowed.iter().find(usable)) else {
        return Err(if offered(Mechanism::ScramSha256) {
            SessionError::AuthNotPreparable
        } else {
            SessionError::AuthNotOffered
        });
    };
    let (initial, next) = match mechanism {
        Mechanism::Plain => {
            let message = sasl::plain(user.as_str(), password.reveal());
            (Some(Response::new(message)), Exchange::End)
        }
        Mechanism::CramMd5 => (None, Exchange::Cram),
        Mechanism::ScramSha256 => {
            let (first, waits) = ClientWaits::begin(user, login.nonce);
            let first = Response::new(first.into());
            (Some(first), Exchange::ScramFirst(waits))
        }
        Mechanism::Login | Mechanism::External => (None, Exchange::LoginName),
    };
    let mut line = format!("AUTH {}", mechanism.name()).into_bytes();
    let next = match initial {
        Some(initial) if line.len() + 3 + initial.len().div_ceil(3) * 4 <= COMMAND_BYTES_MAX => {
            line.push(b' ');
            base64::encode(&initial, &mut line);
            next
        }
        Some(initial) => Exchange::Asked(initial, Box::new(next)),
        None => next,
    };
    line.extend_from_slice(b"\r\n");
    Ok((line, next))
}

/// What follows.
pub(super) fn answer(at: Exchange, answer: &Answer<'_>, login: &Login) -> Step {
    let challenge = || {
        let text = answer.lines().next().unwrap_or_default();
        base64::decode(text.trim_ascii())
    };
    match (answer.code.class(), at, &*login.credentials) {
        (Class::Transient | Class::Permanent, _, _) => Step::Refused,
        (Class::Positive, Exchange::End, _) => Step::Done,
        (Class::Intermediate, Exchange::Asked(response, next), _) => line(&response, *next),
        (Class::Intermediate, Exchange::LoginName, Credentials::Password { user, .. }) => {
            line(user.as_str().as_bytes(), Exchange::LoginPassword)
        }
        (Class::Intermediate, Exchange::LoginPassword, Credentials::Password { password, .. }) => {
            line(password.reveal(), Exchange::End)
        }
        (Class::Intermediate, Exchange::Cram, Credentials::Password { user, password }) => {
            match challenge() {
                None => Step::Untrusted(Mechanism::CramMd5),
                Some(challenge) => {
                    let digest = sasl::cram_md5_digest(password.reveal(), &challenge);
                    line(&sasl::cram_md5(user.as_str(), &digest), Exchange::End)
                }
            }
        }
        (
            Class::Intermediate,
            Exchange::ScramFirst(waits),
            Credentials::Password { password, .. },
        ) => {
            let challenged = challenge().and_then(|message| waits.challenged(&message).ok());
            match challenged {
                None => Step::Untrusted(Mechanism::ScramSha256),
                Some(challenged) => {
                    let derivation = challenged.derivation(password);
                    Step::Derive(derivation, Exchange::ScramDeriving(challenged))
                }
            }
        }
        // Some put it into the 235, where RFC 4954 has no place for it; a 235 without it
        // is believed by nobody.
        (Class::Intermediate | Class::Positive, Exchange::ScramProof(must), _) => {
            let accepted = challenge().is_some_and(|message| must.accepts(&message));
            match (accepted, answer.code.class()) {
                (false, _) => Step::Untrusted(Mechanism::ScramSha256),
                (true, Class::Positive) => Step::Done,
                (true, _) => line(b"", Exchange::End),
            }
        }
        (Class::Intermediate | Class::Positive, _, _) => Step::OutOfOrder,
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

fn line(response: &[u8], next: Exchange) -> Step {
    Step::Send(encoded(response), next)
}

fn encoded(response: &[u8]) -> Vec<u8> {
    let mut line = Vec::new();
    base64::encode(response, &mut line);
    line.extend_from_slice(b"\r\n");
    line
}
