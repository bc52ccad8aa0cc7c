//! The server's side: our certificate, and whose certificate a client may show.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{UnbufferedServerConnection, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::time_provider::TimeProvider;
use rustls::{
    DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, UnixTime};

use super::certificate::{Identity, certificates, provider, subject_name};
use super::{Fault, Layer};

/// What sessions of clients need. Cheap to clone; a reload makes a new one, with new
/// keys for tickets, so that nobody resumes under a certificate or an authority that is
/// no longer configured.
#[derive(Clone)]
pub struct ServerSettings {
    config: Arc<ServerConfig>,
    clients: Option<Arc<dyn ClientCertVerifier>>,
    time: Arc<dyn TimeProvider>,
}

impl fmt::Debug for ServerSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerSettings(…)")
    }
}

impl ServerSettings {
    /// A server that shows `identity`. With `client_ca`, a PEM file, clients are asked
    /// for a certificate. They need not show one; and one that is not by these
    /// authorities gives them no name, and does not end the session: many servers show
    /// the certificate that they happen to have.
    ///
    /// # Errors
    /// `client_ca` has no certificate that can be used; in words.
    pub fn new(
        identity: &Identity,
        client_ca: Option<&[u8]>,
        time: Arc<dyn TimeProvider>,
    ) -> Result<Self, String> {
        let provider = provider();
        let versions = ServerConfig::builder_with_details(Arc::clone(&provider), Arc::clone(&time))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let clients = match client_ca {
            None => None,
            Some(pem) => {
                let roots = Arc::new(roots(pem)?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider)
                    .allow_unauthenticated()
                    .build()
                    .map_err(|error| error.to_string())?;
                Some(verifier)
            }
        };
        let versions = match &clients {
            None => versions.with_no_client_auth(),
            Some(verifier) => {
                versions.with_client_cert_verifier(Arc::new(Asking(Arc::clone(verifier))))
            }
        };
        let resolver = SingleCertAndKey::from(identity.key());
        let mut config = versions.with_cert_resolver(Arc::new(resolver));
        // Keys for tickets change every six hours, and an old one is good for as long
        // again. No state is kept for a ticket.
        config.ticketer =
            rustls::crypto::ring::Ticketer::new().map_err(|error| error.to_string())?;
        // A server that speaks first need not wait for the end of the handshake. Where
        // clients are asked for certificates the library does not do it.
        config.send_half_rtt_data = true;
        Ok(Self {
            config: Arc::new(config),
            clients,
            time,
        })
    }

    /// TLS for a client that has just connected, or said STARTTLS.
    ///
    /// # Errors
    /// Ours only.
    pub fn layer(&self) -> Result<Layer, Fault> {
        let connection = UnbufferedServerConnection::new(Arc::clone(&self.config))?;
        Ok(Layer::server(connection, self.clone()))
    }

    /// The name in a client's certificate, if it is by one of our authorities and good
    /// now. A resumed session brings the certificate of its first handshake.
    pub(super) fn peer_name(&self, chain: &[CertificateDer<'_>]) -> Option<Box<str>> {
        let verifier = self.clients.as_ref()?;
        let (end_entity, intermediates) = chain.split_first()?;
        let now = self.time.current_time()?;
        verifier
            .verify_client_cert(end_entity, intermediates, now)
            .ok()?;
        subject_name(end_entity)
    }
}

/// Whether a PEM file can be a `client_ca`.
///
/// # Errors
/// Why not, in words.
pub fn check_authorities(pem: &[u8]) -> Result<(), String> {
    roots(pem).map(|_| ())
}

/// All certificates of a file, as authorities.
fn roots(pem: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem)? {
        roots
            .add(certificate)
            .map_err(|error| format!("a certificate in it is no authority's: {error}"))?;
    }
    Ok(roots)
}

/// Asks for a certificate and takes any, whose owner must have its key. Whether it
/// gives a name is decided when the handshake is done.
#[derive(Debug)]
struct Asking(Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for Asking {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
