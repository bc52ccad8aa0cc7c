//! TLS as a machine: octets of the network in, octets of the session out, and back.
//!
//! A [`Layer`] lies between one connection and its session. It does no I/O: it is fed
//! what came ([`Layer::receive`]) and what is to be said ([`Layer::encrypt`]), and gives
//! octets back. The protocol itself is rustls, by its unbuffered interface, so that
//! every buffer is ours.
//!
//! # Use
//!
//! A client begins with [`Layer::begin`], which gives the first flight; a server waits.
//! After each [`Layer::receive`] what it wrote for the peer is sent, also when it failed:
//! then it is the alert that tells the peer why. [`Received::started`] comes once, when
//! octets of the session may flow; only after it something may be encrypted. Plaintext
//! that came in the same receive belongs behind it.
//!
//! For a server of TLS 1.3 that asks for no certificate that is a round trip before the
//! handshake is done ([`Layer::is_done`]): its own words may follow its part of it (RFC
//! 8446 §4.4.4), so a greeting comes with them. What the client says is not read before
//! its part has come.
//!
//! # What it relies on
//!
//! rustls with *ring* as its provider. That draws randomness from the system, and its
//! tickets look at the system's clock: the two exceptions to the rule that machines have
//! neither, because keys must not come from a seed. The time by which certificates are
//! judged is handed in with the settings.
//!
//! # Invariants
//!
//! - Between two records an idle layer holds no buffer, only the state of the protocol.
//! - What is held of an incomplete record or handshake message is at most
//!   [`PARTIAL_BYTES_MAX`]. Plaintext is never held: it is in the caller's [`Room`].
//! - Nothing of a peer's certificate or alert gets out but names that were checked and
//!   sentences of ours.
//! - A `Layer` is a plain value and `Send`: a session can move with it to another core.
//!
//! # Not here
//!
//! Files and the reading of them (`runtime`), when TLS begins and what follows from its
//! failure (`core`), and early data (RFC 8446 §2.3), which can be replayed: a server
//! that takes mail must not act on it.

mod certificate;
mod client;
mod fault;
mod server;
#[cfg(test)]
pub(crate) mod tests;

use std::fmt;

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, InsufficientSizeError,
    UnbufferedStatus,
};
use rustls::{CipherSuite, CommonState, HandshakeKind, ProtocolVersion};

pub use self::certificate::{Identity, IdentityError, not_after};
pub use self::client::{ClientSettings, Clients, IdentityNumber, Request, Verification};
pub use self::fault::Fault;
pub use self::server::{ServerSettings, check_authorities};

/// Octets of an incomplete record or handshake message that are kept: the longest
/// handshake message that rustls takes (64 KiB, a chain of certificates), in records
/// of which the last is incomplete.
pub const PARTIAL_BYTES_MAX: usize = (64 + 18) * 1024;

/// Longest plaintext of a record (RFC 8446 §5.1). What is encrypted leaves in records
/// of this length, but the last.
pub const RECORD_BYTES_MAX: usize = 16 * 1024;

/// What a record adds to its plaintext at most: the header, an explicit nonce (TLS 1.2),
/// the type of the content, and the tag.
const RECORD_OVERHEAD: usize = 5 + 8 + 1 + 16;

/// What TLS came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Facts {
    /// Such as `TLSv1.3`.
    pub version: &'static str,
    /// By its name in the IANA registry, such as `TLS_AES_256_GCM_SHA384`.
    pub cipher: &'static str,
    /// The name in the peer's certificate, where we are the server and it was checked
    /// against our `client_ca`: the first DNS name or mail address among its alternative
    /// names, else its common name.
    pub peer: Option<Box<str>>,
    /// Whether the keys of an earlier session were used again.
    pub handshake: Handshake,
}

/// How the handshake went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Handshake {
    /// With certificates.
    Full,
    /// With the ticket of an earlier session (RFC 8446 §2.2).
    Resumed,
}

/// Room for the octets of one receive. One for each core: no connection needs it longer.
#[derive(Debug, Default)]
pub struct Room {
    ciphertext: Vec<u8>,
    /// What came out of the last [`Layer::receive`].
    pub plaintext: Vec<u8>,
}

/// What a receive brought, beside plaintext.
#[derive(Debug, Default)]
pub struct Received {
    /// Octets of the session may flow from now on.
    pub started: Option<Facts>,
    /// The peer said that it will send no more (close_notify).
    pub ended: bool,
}

/// Which side we are.
enum Side {
    Server(Box<UnbufferedServerConnection>),
    Client(Box<UnbufferedClientConnection>),
}

/// How far it is.
#[derive(Debug)]
enum State {
    /// The handshake is under way. A server knows how it judges a client's certificate.
    Handshake(Option<ServerSettings>),
    /// Octets of the session flow.
    Open,
    /// Nothing more is said: it failed, or we said that it is the end.
    Closed,
}

/// TLS on one connection. See the module.
pub struct Layer {
    side: Side,
    state: State,
    /// The beginning of a record or handshake message.
    partial: Box<[u8]>,
}

/// No keys.
impl fmt::Debug for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = match self.side {
            Side::Server(_) => "server",
            Side::Client(_) => "client",
        };
        write!(f, "Layer({side}, {:?})", self.state)
    }
}

const _: () = {
    const fn is_send<T: Send>() {}
    is_send::<Layer>();
};

impl Layer {
    fn server(connection: UnbufferedServerConnection, settings: ServerSettings) -> Self {
        Self {
            side: Side::Server(Box::new(connection)),
            state: State::Handshake(Some(settings)),
            partial: Box::default(),
        }
    }

    fn client(connection: UnbufferedClientConnection) -> Self {
        Self {
            side: Side::Client(Box::new(connection)),
            state: State::Handshake(None),
            partial: Box::default(),
        }
    }

    /// The first flight, if we are the client, into `out`. A server has none.
    ///
    /// # Errors
    /// Ours only.
    pub fn begin(&mut self, out: &mut Vec<u8>) -> Result<(), Fault> {
        let mut nothing = Vec::new();
        let (_, result) = self.drive(&mut [], &mut nothing, out);
        result.map(|_| ()).map_err(Fault::from)
    }

    /// Takes octets of the network. The plaintext is in `room` then, and in `out` what
    /// the peer is to be sent, also in case of an error.
    ///
    /// # Errors
    /// The connection is of no more use. Plaintext of the same receive is not given.
    pub fn receive(
        &mut self,
        octets: &[u8],
        room: &mut Room,
        out: &mut Vec<u8>,
    ) -> Result<Received, Fault> {
        let Room {
            ciphertext,
            plaintext,
        } = room;
        ciphertext.clear();
        plaintext.clear();
        ciphertext.extend_from_slice(&std::mem::take(&mut self.partial));
        ciphertext.extend_from_slice(octets);
        let (taken, result) = self.drive(ciphertext, plaintext, out);
        let Driven { ended, may_speak } = match result {
            Ok(driven) => driven,
            Err(error) => {
                plaintext.clear();
                self.state = State::Closed;
                // What is left to do is to say why.
                self.last_words(ciphertext.get_mut(taken..).unwrap_or_default(), out);
                return Err(error.into());
            }
        };
        let rest = ciphertext.get(taken..).unwrap_or_default();
        if rest.len() > PARTIAL_BYTES_MAX {
            plaintext.clear();
            self.state = State::Closed;
            return Err(Fault::Broken("a handshake message is too long".to_owned()));
        }
        if !ended {
            self.partial = rest.into();
        }
        let started = self.start(may_speak);
        Ok(Received { started, ended })
    }

    /// Encrypts `plaintext` and appends it to `out`.
    ///
    /// # Errors
    /// The keys are used up (after some billion records), or it is said after the end:
    /// an error of ours.
    pub fn encrypt(&mut self, plaintext: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
        if !matches!(self.state, State::Open) {
            return Err(Fault::ours("there is nothing to be said now"));
        }
        self.write(Say::Octets(plaintext), out)
    }

    /// Says that nothing more comes (close_notify), once, if the handshake was done.
    pub fn close(&mut self, out: &mut Vec<u8>) {
        if !matches!(self.state, State::Open) {
            return;
        }
        self.state = State::Closed;
        // That it cannot be said harms nobody: SMTP has its own QUIT.
        let _ = self.write(Say::Close, out);
    }

    /// Whether nothing of the session can flow yet.
    #[must_use]
    pub const fn is_shaking_hands(&self) -> bool {
        matches!(self.state, State::Handshake(_))
    }

    /// Whether the peer has done its part of the handshake too.
    #[must_use]
    pub fn is_done(&self) -> bool {
        !self.common().is_handshaking()
    }

    fn common(&self) -> &CommonState {
        match &self.side {
            Side::Server(connection) => connection,
            Side::Client(connection) => connection,
        }
    }

    /// Octets that are held until the next receive.
    #[must_use]
    pub const fn held_bytes(&self) -> usize {
        self.partial.len()
    }

    fn drive(
        &mut self,
        octets: &mut [u8],
        plain: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> (usize, Result<Driven, rustls::Error>) {
        match &mut self.side {
            Side::Server(connection) => drive(&mut **connection, octets, plain, out),
            Side::Client(connection) => drive(&mut **connection, octets, plain, out),
        }
    }

    fn write(&mut self, say: Say<'_>, out: &mut Vec<u8>) -> Result<(), Fault> {
        let partial = &mut self.partial;
        match &mut self.side {
            Side::Server(connection) => write(&mut **connection, partial, say, out),
            Side::Client(connection) => write(&mut **connection, partial, say, out),
        }
    }

    fn last_words(&mut self, rest: &mut [u8], out: &mut Vec<u8>) {
        match &mut self.side {
            Side::Server(connection) => last_words(&mut **connection, rest, out),
            Side::Client(connection) => last_words(&mut **connection, rest, out),
        }
    }

    /// The facts, at the moment when octets of the session may flow.
    fn start(&mut self, may_speak: bool) -> Option<Facts> {
        let State::Handshake(settings) = &self.state else {
            return None;
        };
        if !may_speak && !self.is_done() {
            return None;
        }
        let common = self.common();
        let peer = match (settings, common.peer_certificates()) {
            (Some(settings), Some(chain)) => settings.peer_name(chain),
            _ => None,
        };
        let facts = Facts {
            version: version_word(common.protocol_version()),
            cipher: cipher_word(
                common
                    .negotiated_cipher_suite()
                    .map(|cipher| cipher.suite()),
            ),
            peer,
            handshake: match common.handshake_kind() {
                Some(HandshakeKind::Resumed) => Handshake::Resumed,
                _ => Handshake::Full,
            },
        };
        self.state = State::Open;
        Some(facts)
    }
}

/// What both kinds of connection do, which rustls gives no common trait.
///
/// The octets are always those that were not taken before, also where nothing came: the
/// library remembers places in them.
trait Process {
    type Data;

    /// Something of its own is to be sent.
    fn has_words(&self) -> bool;

    fn process<'c, 'i>(&'c mut self, octets: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;
}

impl Process for UnbufferedServerConnection {
    type Data = ServerConnectionData;

    fn has_words(&self) -> bool {
        self.wants_write()
    }

    fn process<'c, 'i>(&'c mut self, octets: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(octets)
    }
}

impl Process for UnbufferedClientConnection {
    type Data = ClientConnectionData;

    fn has_words(&self) -> bool {
        self.wants_write()
    }

    fn process<'c, 'i>(&'c mut self, octets: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(octets)
    }
}

/// What came of octets.
#[derive(Clone, Copy, Debug)]
struct Driven {
    /// The peer has ended.
    ended: bool,
    /// The library takes octets of the session.
    may_speak: bool,
}

/// Takes records until there is no whole one. Gives how many octets were taken, too.
fn drive<C: Process>(
    connection: &mut C,
    octets: &mut [u8],
    plain: &mut Vec<u8>,
    out: &mut Vec<u8>,
) -> (usize, Result<Driven, rustls::Error>) {
    let mut at = 0;
    let mut ended = false;
    let mut may_speak = false;
    loop {
        let UnbufferedStatus {
            mut discard, state, ..
        } = connection.process(&mut octets[at..]);
        let state = match state {
            Ok(state) => state,
            Err(error) => return (at + discard, Err(error)),
        };
        let waits = match state {
            ConnectionState::ReadTraffic(mut traffic) => {
                while let Some(record) = traffic.next_record() {
                    match record {
                        Ok(record) => {
                            discard += record.discard;
                            plain.extend_from_slice(record.payload);
                        }
                        Err(error) => return (at + discard, Err(error)),
                    }
                }
                false
            }
            ConnectionState::EncodeTlsData(data) => {
                encode(data, out);
                false
            }
            ConnectionState::TransmitTlsData(data) => {
                data.done();
                false
            }
            ConnectionState::PeerClosed => {
                ended = true;
                false
            }
            ConnectionState::WriteTraffic(_) => {
                may_speak = true;
                true
            }
            ConnectionState::BlockedHandshake | ConnectionState::Closed => true,
            // Early data is not offered; and what later versions of the library may
            // know is nothing that we asked for.
            _ => {
                let error = rustls::Error::General("early data was not offered".to_owned());
                return (at + discard, Err(error));
            }
        };
        at += discard;
        if waits {
            return (at, Ok(Driven { ended, may_speak }));
        }
    }
}

/// The alert of a connection that has failed. Nothing more of `rest` is looked at.
fn last_words<C: Process>(connection: &mut C, rest: &mut [u8], out: &mut Vec<u8>) {
    while connection.has_words() {
        match connection.process(rest).state {
            Ok(ConnectionState::EncodeTlsData(data)) => encode(data, out),
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                while traffic.next_record().is_some() {}
            }
            _ => return,
        }
    }
}

/// Copies a message that the library has made.
fn encode<Data>(mut message: EncodeTlsData<'_, Data>, out: &mut Vec<u8>) {
    let copied = grow(out, 0, |room| match message.encode(room) {
        Err(EncodeError::InsufficientSize(needed)) => Err(Short::By(needed)),
        Err(EncodeError::AlreadyEncoded) => Ok(0),
        Ok(octets) => Ok(octets),
    });
    assert!(copied.is_ok(), "a message that was made can be copied");
}

/// What is to be written.
#[derive(Clone, Copy)]
enum Say<'a> {
    Octets(&'a [u8]),
    Close,
}

/// Why something was not written.
enum Short {
    By(InsufficientSizeError),
    Exhausted,
}

impl From<EncryptError> for Short {
    fn from(error: EncryptError) -> Self {
        match error {
            EncryptError::InsufficientSize(needed) => Self::By(needed),
            EncryptError::EncryptExhausted => Self::Exhausted,
        }
    }
}

fn write<C: Process>(
    connection: &mut C,
    partial: &mut Box<[u8]>,
    say: Say<'_>,
    out: &mut Vec<u8>,
) -> Result<(), Fault> {
    loop {
        let UnbufferedStatus { discard, state, .. } = connection.process(partial);
        // All that could be taken was taken when it came.
        debug_assert_eq!(discard, 0);
        match state? {
            ConnectionState::WriteTraffic(mut traffic) => {
                let expected = match say {
                    Say::Octets(octets) => {
                        octets.len() + (octets.len() / RECORD_BYTES_MAX + 1) * RECORD_OVERHEAD
                    }
                    Say::Close => 2 + RECORD_OVERHEAD,
                };
                return grow(out, expected, |room| {
                    Ok(match say {
                        Say::Octets(octets) => traffic.encrypt(octets, room)?,
                        Say::Close => traffic.queue_close_notify(room)?,
                    })
                })
                .map_err(|_| Fault::ours("the keys of the session are used up"));
            }
            ConnectionState::EncodeTlsData(data) => encode(data, out),
            ConnectionState::TransmitTlsData(data) => data.done(),
            ConnectionState::PeerClosed => {}
            _ => return Err(Fault::ours("there is nothing to be said now")),
        }
    }
}

/// Lets `fill` write behind `out`, with more room if it asks for it.
fn grow(
    out: &mut Vec<u8>,
    expected: usize,
    mut fill: impl FnMut(&mut [u8]) -> Result<usize, Short>,
) -> Result<(), ()> {
    let begin = out.len();
    let mut room = expected;
    // It asks once at most: what is needed does not change meanwhile.
    for _ in 0..2 {
        out.resize(begin + room, 0);
        match fill(&mut out[begin..]) {
            Ok(octets) => {
                out.truncate(begin + octets);
                return Ok(());
            }
            Err(Short::By(InsufficientSizeError { required_size })) => room = required_size,
            Err(Short::Exhausted) => break,
        }
    }
    out.truncate(begin);
    Err(())
}

fn version_word(version: Option<ProtocolVersion>) -> &'static str {
    match version {
        Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
        Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
        _ => "TLS",
    }
}

/// The names of the IANA registry, which other programs use too; rustls has its own.
fn cipher_word(suite: Option<CipherSuite>) -> &'static str {
    match suite {
        Some(CipherSuite::TLS13_AES_128_GCM_SHA256) => "TLS_AES_128_GCM_SHA256",
        Some(CipherSuite::TLS13_AES_256_GCM_SHA384) => "TLS_AES_256_GCM_SHA384",
        Some(CipherSuite::TLS13_CHACHA20_POLY1305_SHA256) => "TLS_CHACHA20_POLY1305_SHA256",
        Some(suite) => suite.as_str().unwrap_or("cipher unknown"),
        None => "cipher unknown",
    }
}
