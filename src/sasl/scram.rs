//! SCRAM-SHA-256 (RFC 5802, RFC 7677), without channel binding: the messages and the
//! arithmetic, for both sides.
//!
//! What the server keeps ([`Keys`]) is enough to check a client and to show the client
//! that it is the right server; it is not enough to pass for the client elsewhere.
//! Checking costs two HMACs. Deriving the keys from a password ([`Salted::derive`])
//! costs thousands, on purpose: never on a thread that carries mail.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::{Nonce, Password, base64};
use crate::user::UserName;

/// Rounds with which we store keys: what RFC 7677 §4 calls a tenth of a second of the
/// client's time, as it was published.
pub const ITERATIONS: u32 = 15_000;
/// The fewest rounds that we take from a file or a server (RFC 7677 §4).
pub const ITERATIONS_MIN: u32 = 4096;
/// The most rounds: half a second and more of a CPU. A server that asks for more would
/// make us work for it.
pub const ITERATIONS_MAX: u32 = 2_000_000;
/// Octets of salt that we make.
pub const SALT_BYTES: usize = 16;
/// Octets of salt that we take.
pub const SALT_BYTES_MAX: usize = 256;

/// An output of SHA-256.
pub type Hash = [u8; 32];

/// HMAC-SHA-256 over these, one behind the other.
#[must_use]
pub fn hmac(key: &[u8], parts: &[&[u8]]) -> Hash {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes any key");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

fn xor(left: &Hash, right: &Hash) -> Zeroizing<Hash> {
    let mut out = Zeroizing::new(*left);
    for (octet, other) in out.iter_mut().zip(right) {
        *octet ^= other;
    }
    out
}

/// The salted password (RFC 5802 §3): who has it can pass for the user.
#[derive(Clone, PartialEq, Eq)]
pub struct Salted(Zeroizing<Hash>);

impl Salted {
    /// PBKDF2 of the prepared password: thousands of HMACs. One that has no prepared form
    /// is taken as it is.
    #[must_use]
    pub fn derive(password: &Password, salt: &[u8], iterations: u32) -> Self {
        let prepared = password.prepared();
        let password = prepared.as_ref().unwrap_or(password);
        let mut salted = Zeroizing::new(Hash::default());
        pbkdf2::pbkdf2_hmac::<Sha256>(password.reveal(), salt, iterations, &mut *salted);
        Self(salted)
    }

    fn client_key(&self) -> Zeroizing<Hash> {
        Zeroizing::new(hmac(&*self.0, &[b"Client Key"]))
    }

    fn server_key(&self) -> Zeroizing<Hash> {
        Zeroizing::new(hmac(&*self.0, &[b"Server Key"]))
    }
}

impl fmt::Debug for Salted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Salted(…)")
    }
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

/// What a server keeps of a password (RFC 5802 §3, RFC 5803).
#[derive(Clone, PartialEq, Eq)]
pub struct Keys {
    salt: Box<[u8]>,
    iterations: u32,
    stored: Zeroizing<Hash>,
    server: Zeroizing<Hash>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys")
            .field("iterations", &self.iterations)
            .finish_non_exhaustive()
    }
}

impl Keys {
    /// Thousands of HMACs. `salt` is random, and the user's own.
    #[must_use]
    pub fn derive(password: &Password, salt: &[u8], iterations: u32) -> Self {
        let salted = Salted::derive(password, salt, iterations);
        Self {
            salt: salt.into(),
            iterations,
            stored: Zeroizing::new(Sha256::digest(salted.client_key().as_slice()).into()),
            server: salted.server_key(),
        }
    }

    /// What a user gets who does not exist: the same salt each time, as a real one
    /// would, and keys that fit no password. `secret` is known to nobody else.
    #[must_use]
    pub fn fake(secret: &Hash, user: &UserName) -> Self {
        let part = |what: &[u8]| hmac(secret, &[what, user.as_str().as_bytes()]);
        Self {
            salt: part(b"salt ")[..SALT_BYTES].into(),
            iterations: ITERATIONS,
            stored: Zeroizing::new(part(b"stored ")),
            server: Zeroizing::new(part(b"server ")),
        }
    }

    /// What the password was mixed with.
    #[must_use]
    pub fn salt(&self) -> &[u8] {
        &self.salt
    }

    /// Whether they were made from this password. Thousands of HMACs.
    #[must_use]
    pub fn verify(&self, password: &Password) -> bool {
        let again = Self::derive(password, &self.salt, self.iterations);
        again.stored.ct_eq(&*self.stored).into()
    }

    /// `<iterations>:<salt>$<StoredKey>:<ServerKey>`, the last three in base64, as
    /// other servers write it.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        Zeroizing::new(format!(
            "{}:{}${}:{}",
            self.iterations,
            base64::text(&self.salt),
            base64::text(&*self.stored),
            base64::text(&*self.server),
        ))
    }

    /// Reads what [`Keys::to_text`] wrote. `None` if it is something else, or has
    /// numbers outside the limits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (head, keys) = text.split_once('$')?;
        let (iterations, salt) = head.split_once(':')?;
        let (stored, server) = keys.split_once(':')?;
        let hash = |text: &str| -> Option<Zeroizing<Hash>> {
            let octets = base64::decode(text.as_bytes())?;
            Some(Zeroizing::new((*octets).try_into().ok()?))
        };
        Some(Self {
            salt: parse_salt(salt.as_bytes())?,
            iterations: parse_iterations(iterations.as_bytes())?,
            stored: hash(stored)?,
            server: hash(server)?,
        })
    }
}

fn parse_salt(text: &[u8]) -> Option<Box<[u8]>> {
    let salt = base64::decode(text)?;
    let fits = !salt.is_empty() && salt.len() <= SALT_BYTES_MAX;
    fits.then(|| (*salt).into())
}

fn parse_iterations(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let iterations = std::str::from_utf8(digits).ok()?.parse().ok()?;
    (ITERATIONS_MIN..=ITERATIONS_MAX)
        .contains(&iterations)
        .then_some(iterations)
}

/// A message that is not one of SCRAM, or not one that fits here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Malformed;

/// The client's first message, read by the server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClientFirst {
    /// Whom it wants to be; `None` if that is no name.
    pub user: Option<UserName>,
    /// As whom it wants to act, if it says so.
    pub authorize_as: Option<String>,
    gs2_header: Box<[u8]>,
    bare: Box<[u8]>,
    nonce: Box<[u8]>,
}

impl ClientFirst {
    /// # Errors
    /// If it is none, or wants what we do not have: channel binding, extensions.
    pub fn parse(message: &[u8]) -> Result<Self, Malformed> {
        let mut parts = message.splitn(3, |&octet| octet == b',');
        let mut part = || parts.next().ok_or(Malformed);
        let (flag, authorize_as, bare) = (part()?, part()?, part()?);
        // `y`: it could bind to the channel and believes that we cannot. It is right.
        if !matches!(flag, b"n" | b"y") {
            return Err(Malformed);
        }
        let authorize_as = match authorize_as.strip_prefix(b"a=") {
            Some(name) => Some(unescape(name).ok_or(Malformed)?),
            None if authorize_as.is_empty() => None,
            None => return Err(Malformed),
        };
        // An `m=` before the name is an extension that must be known: it is not.
        let mut attributes = bare.split(|&octet| octet == b',');
        let user = attributes.next().and_then(|a| a.strip_prefix(b"n="));
        let nonce = attributes.next().and_then(|a| a.strip_prefix(b"r="));
        let user = unescape(user.ok_or(Malformed)?).ok_or(Malformed)?;
        let nonce = nonce.filter(|nonce| is_nonce(nonce)).ok_or(Malformed)?;
        let gs2_bytes = message.len() - bare.len();
        Ok(Self {
            user: user.parse().ok(),
            authorize_as,
            gs2_header: message[..gs2_bytes].into(),
            bare: bare.into(),
            nonce: nonce.into(),
        })
    }

    /// The server's first message, and what it waits for then.
    #[must_use]
    pub fn answer(self, nonce: Nonce, keys: Keys) -> (Vec<u8>, ServerWaits) {
        let nonce = [&self.nonce, base64::text(&nonce.0).as_bytes()].concat();
        let mut message = b"r=".to_vec();
        message.extend_from_slice(&nonce);
        message.extend_from_slice(b",s=");
        base64::encode(&keys.salt, &mut message);
        message.extend_from_slice(format!(",i={}", keys.iterations).as_bytes());
        let waits = ServerWaits {
            channel: base64::text(&self.gs2_header).into_bytes(),
            messages: [&self.bare, message.as_slice()].join(&b','),
            nonce,
            keys,
        };
        (message, waits)
    }
}

/// A server that waits for the client's proof.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServerWaits {
    /// What `c=` must be: the header that the client began with.
    channel: Vec<u8>,
    /// The first two parts of AuthMessage.
    messages: Vec<u8>,
    nonce: Vec<u8>,
    keys: Keys,
}

impl ServerWaits {
    /// Reads the client's last message. `None` if the password is wrong; else the
    /// server's last message.
    ///
    /// # Errors
    /// If it is none.
    pub fn finish(&self, message: &[u8]) -> Result<Option<Vec<u8>>, Malformed> {
        // The proof is last, and in base64: no comma is in it.
        let at = message.windows(3).rposition(|w| w == b",p=");
        let (without_proof, proof) = message.split_at(at.ok_or(Malformed)?);
        let proof = base64::decode(&proof[3..]).ok_or(Malformed)?;
        let proof: &Hash = (*proof).try_into().map_err(|_| Malformed)?;
        let mut attributes = without_proof.split(|&octet| octet == b',');
        let channel = attributes.next().and_then(|a| a.strip_prefix(b"c="));
        let nonce = attributes.next().and_then(|a| a.strip_prefix(b"r="));
        let (channel, nonce) = (channel.ok_or(Malformed)?, nonce.ok_or(Malformed)?);
        if channel != self.channel || nonce != self.nonce {
            return Ok(None);
        }
        let auth_message: &[&[u8]] = &[&self.messages, b",", without_proof];
        let client_key = xor(proof, &hmac(&*self.keys.stored, auth_message));
        let stored = Zeroizing::new(Hash::from(Sha256::digest(client_key.as_slice())));
        if !bool::from(stored.ct_eq(&*self.keys.stored)) {
            return Ok(None);
        }
        let mut last = b"v=".to_vec();
        base64::encode(&hmac(&*self.keys.server, auth_message), &mut last);
        Ok(Some(last))
    }
}

/// A client that waits for the server's first message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClientWaits {
    bare: Vec<u8>,
    nonce: Vec<u8>,
}

impl ClientWaits {
    /// The client's first message, and what it waits for then.
    #[must_use]
    pub fn begin(user: &UserName, nonce: Nonce) -> (Vec<u8>, Self) {
        let nonce = base64::text(&nonce.0).into_bytes();
        let mut bare = b"n=".to_vec();
        escape(user.as_str(), &mut bare);
        bare.extend_from_slice(b",r=");
        bare.extend_from_slice(&nonce);
        let message = [b"n,,", bare.as_slice()].concat();
        (message, Self { bare, nonce })
    }

    /// Reads the server's first message: what is to be derived before the proof.
    ///
    /// # Errors
    /// If it is none, or asks for too little work or too much.
    pub fn challenged(self, message: &[u8]) -> Result<ClientChallenged, Malformed> {
        let mut attributes = message.split(|&octet| octet == b',');
        let mut attribute = |name: &[u8]| {
            let attribute = attributes.next().and_then(|a| a.strip_prefix(name));
            attribute.ok_or(Malformed)
        };
        let nonce = attribute(b"r=")?;
        let salt = parse_salt(attribute(b"s=")?).ok_or(Malformed)?;
        let iterations = parse_iterations(attribute(b"i=")?).ok_or(Malformed)?;
        // It must begin with ours and go on: or anybody could replay an old exchange.
        let ours = nonce.strip_prefix(self.nonce.as_slice());
        if !is_nonce(nonce) || ours.is_none_or(<[u8]>::is_empty) {
            return Err(Malformed);
        }
        Ok(ClientChallenged {
            messages: [self.bare.as_slice(), message].join(&b','),
            nonce: nonce.into(),
            salt,
            iterations,
        })
    }
}

/// A client that knows salt and rounds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClientChallenged {
    messages: Vec<u8>,
    nonce: Vec<u8>,
    salt: Box<[u8]>,
    iterations: u32,
}

impl ClientChallenged {
    /// What is to be derived from the password.
    #[must_use]
    pub fn derivation(&self, password: &Password) -> Derivation {
        Derivation {
            password: password.clone(),
            salt: self.salt.to_vec(),
            iterations: self.iterations,
        }
    }

    /// For [`Salted::derive`].
    #[must_use]
    pub fn salt(&self) -> &[u8] {
        &self.salt
    }

    /// For [`Salted::derive`].
    #[must_use]
    pub const fn iterations(&self) -> u32 {
        self.iterations
    }

    /// The client's last message, and what the server must answer to it.
    #[must_use]
    pub fn prove(self, salted: &Salted) -> (Vec<u8>, ServerMust) {
        // `biws` is `n,,`: the header that we began with.
        let mut message = [b"c=biws,r=", self.nonce.as_slice()].concat();
        let auth_message: &[&[u8]] = &[&self.messages, b",", &message];
        let client_key = salted.client_key();
        let stored = Zeroizing::new(Hash::from(Sha256::digest(client_key.as_slice())));
        let proof = xor(&client_key, &hmac(&*stored, auth_message));
        let signature = hmac(&*salted.server_key(), auth_message);
        message.extend_from_slice(b",p=");
        base64::encode(&*proof, &mut message);
        (message, ServerMust(signature))
    }
}

/// What a server says that knows the password's keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ServerMust(Hash);

impl ServerMust {
    /// Whether the server's last message shows it.
    #[must_use]
    pub fn accepts(&self, message: &[u8]) -> bool {
        // Extensions may follow.
        let first = message.split(|&octet| octet == b',').next();
        let signature = first
            .and_then(|a| a.strip_prefix(b"v="))
            .and_then(base64::decode);
        signature.is_some_and(|signature| signature.ct_eq(&self.0).into())
    }
}

/// RFC 5802 §5.1: printable, no comma.
fn is_nonce(octets: &[u8]) -> bool {
    !octets.is_empty() && octets.iter().all(|o| o.is_ascii_graphic() && *o != b',')
}

/// RFC 5802 §5.1: comma and equals sign are written `=2C` and `=3D`.
fn escape(name: &str, out: &mut Vec<u8>) {
    for &octet in name.as_bytes() {
        match octet {
            b',' => out.extend_from_slice(b"=2C"),
            b'=' => out.extend_from_slice(b"=3D"),
            octet => out.push(octet),
        }
    }
}

fn unescape(name: &[u8]) -> Option<String> {
    let mut out = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((&octet, behind)) = rest.split_first() {
        rest = behind;
        if octet == b'=' {
            let (code, behind) = rest.split_at_checked(2)?;
            rest = behind;
            out.push(match code {
                b"2C" => b',',
                b"3D" => b'=',
                _ => return None,
            });
        } else {
            out.push(octet);
        }
    }
    let name = String::from_utf8(out).ok()?;
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests;
