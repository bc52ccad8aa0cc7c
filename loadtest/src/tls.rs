//! TLS between a session and its socket, as a machine: octets of the wire go in,
//! octets of the session come out, and the other way round. rustls does no I/O.
//!
//! The generator takes any certificate: it loads a server, it does not trust it. The
//! sink makes its own at each start.
//!
//! What it does not do: client certificates, and verification.

use std::io::{self, Read as _, Write as _};
use std::str::FromStr;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, Connection, DigitallySignedStruct, ServerConfig,
    ServerConnection, SignatureScheme,
};

/// When TLS begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Tls {
    /// Never.
    #[default]
    None,
    /// By STARTTLS, behind the first EHLO (RFC 3207).
    Starttls,
    /// Before the greeting (RFC 8314).
    Implicit,
}

impl FromStr for Tls {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self::None),
            "starttls" => Ok(Self::Starttls),
            "implicit" => Ok(Self::Implicit),
            other => Err(format!("{other:?}; none, starttls or implicit")),
        }
    }
}

impl std::fmt::Display for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Starttls => "starttls",
            Self::Implicit => "implicit",
        })
    }
}

/// Whether later handshakes may be short ones.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Handshakes {
    /// Tickets are used, as usual clients do.
    Resumed,
    /// Each is a full one: what many clients that come once cost.
    Full,
}

/// What each connection of a generator begins with.
pub(crate) fn client(handshakes: Handshakes) -> io::Result<Arc<ClientConfig>> {
    let provider = Arc::new(ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    if handshakes == Handshakes::Full {
        config.resumption = Resumption::disabled();
    }
    Ok(Arc::new(config))
}

/// What each connection of a sink begins with: a certificate made now.
pub(crate) fn server(name: &str) -> io::Result<Arc<ServerConfig>> {
    let made = rcgen::generate_simple_self_signed([name.to_owned()])
        .map_err(|error| io::Error::other(format!("making a certificate for {name:?}: {error}")))?;
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let provider = Arc::new(ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .map_err(io::Error::other)?;
    config.ticketer = ring::Ticketer::new().map_err(io::Error::other)?;
    Ok(Arc::new(config))
}

/// A session's way to its socket: in clear until [`Wire::begin`].
pub(crate) struct Wire {
    /// Octets for the socket.
    pub(crate) out: Vec<u8>,
    tls: Option<Box<Connection>>,
}

impl Wire {
    /// In clear.
    pub(crate) const fn new() -> Self {
        Self {
            out: Vec::new(),
            tls: None,
        }
    }

    /// From now on by TLS, as the client.
    ///
    /// # Errors
    /// Of the library's set-up.
    pub(crate) fn begin_client(&mut self, config: &Arc<ClientConfig>) -> io::Result<()> {
        let name = ServerName::try_from("server.under.test").map_err(io::Error::other)?;
        let connection =
            ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
        self.begin(connection.into())
    }

    /// From now on by TLS, as the server.
    ///
    /// # Errors
    /// Of the library's set-up.
    pub(crate) fn begin_server(&mut self, config: &Arc<ServerConfig>) -> io::Result<()> {
        let connection = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
        self.begin(connection.into())
    }

    fn begin(&mut self, mut connection: Connection) -> io::Result<()> {
        // What is in it at a time is bounded by the session, which waits for replies.
        connection.set_buffer_limit(None);
        self.tls = Some(Box::new(connection));
        self.drain()
    }

    /// Octets of the socket: gives those of the session, which lie in `bytes` or `plain`.
    ///
    /// # Errors
    /// The peer speaks no TLS that we understand, or sent an alert.
    pub(crate) fn receive<'a>(
        &mut self,
        mut bytes: &'a [u8],
        plain: &'a mut Vec<u8>,
    ) -> io::Result<&'a [u8]> {
        let Some(tls) = &mut self.tls else {
            return Ok(bytes);
        };
        plain.clear();
        while !bytes.is_empty() {
            tls.read_tls(&mut bytes)?;
            let result = tls.process_new_packets();
            if let Err(error) = result {
                // The alert that says so is of no use to a load test.
                return Err(io::Error::other(format!("TLS: {error}")));
            }
            match tls.reader().read_to_end(plain) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        self.drain()?;
        Ok(plain)
    }

    /// Lets `act` write octets of the session; they follow what is in `out`.
    ///
    /// # Panics
    /// If the library refuses octets although it has no limit.
    pub(crate) fn write<T>(&mut self, act: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let Some(tls) = &mut self.tls else {
            return act(&mut self.out);
        };
        let mut plain = Vec::new();
        let result = act(&mut plain);
        tls.writer()
            .write_all(&plain)
            .expect("a buffer without limit takes all");
        self.drain().expect("a vector takes all");
        result
    }

    fn drain(&mut self) -> io::Result<()> {
        if let Some(tls) = &mut self.tls {
            while tls.wants_write() {
                tls.write_tls(&mut self.out)?;
            }
        }
        Ok(())
    }
}

/// Takes any certificate whose key the server holds.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Carries octets between the two until neither has any.
    fn exchange(client: &mut Wire, server: &mut Wire, step: usize) -> (Vec<u8>, Vec<u8>) {
        let (mut at_client, mut at_server) = (Vec::new(), Vec::new());
        let mut plain = Vec::new();
        loop {
            let out = std::mem::take(&mut client.out);
            for piece in out.chunks(step) {
                at_server.extend_from_slice(server.receive(piece, &mut plain).expect("TLS"));
            }
            let back = std::mem::take(&mut server.out);
            for piece in back.chunks(step) {
                at_client.extend_from_slice(client.receive(piece, &mut plain).expect("TLS"));
            }
            if out.is_empty() && back.is_empty() {
                return (at_client, at_server);
            }
        }
    }

    #[test]
    fn octets_come_through_in_all_cuttings() {
        let (ours, theirs) = (client(Handshakes::Resumed), server("sink.test"));
        let (ours, theirs) = (ours.expect("a configuration"), theirs.expect("another"));
        for step in [1, 7, 1000, usize::MAX] {
            let (mut client, mut server) = (Wire::new(), Wire::new());
            client.begin_client(&ours).expect("TLS");
            server.begin_server(&theirs).expect("TLS");
            server.write(|out| out.extend_from_slice(b"220 hello\r\n"));
            let (at_client, _) = exchange(&mut client, &mut server, step);
            assert_eq!(at_client, b"220 hello\r\n", "cut by {step}");
            let text = vec![b'x'; 100_000];
            client.write(|out| out.extend_from_slice(&text));
            assert_eq!(exchange(&mut client, &mut server, step).1, text);
        }
    }

    #[test]
    fn a_peer_in_clear_is_an_error() {
        let ours = client(Handshakes::Full).expect("a configuration");
        let mut wire = Wire::new();
        wire.begin_client(&ours).expect("TLS");
        let mut plain = Vec::new();
        assert!(wire.receive(b"220 hello\r\n", &mut plain).is_err());
    }
}
