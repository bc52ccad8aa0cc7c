//! The client's side: whose certificates are believed, and sessions that are resumed.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use hashbrown::HashMap;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientSessionMemoryCache, Resumption, UnbufferedClientConnection};
use rustls::sign::SingleCertAndKey;
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::certificate::{Identity, provider};
use super::{Fault, Layer};

/// Hosts whose tickets are kept, by each core and for each way to check a certificate.
/// The oldest goes first. A ticket with its session takes one to two kibibytes, and a
/// host may give several.
const SERVERS_REMEMBERED_MAX: usize = 256;

/// How rustls counts: tickets, eight for a server.
const TICKETS_MAX: usize = SERVERS_REMEMBERED_MAX * 8;

/// Which certificate we show, by its place in [`ClientSettings`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct IdentityNumber(pub u16);

/// Whether a host must prove who it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Verification {
    /// Any certificate will do: nobody reads along, but who listens is not known.
    Any,
    /// It must name the host, and be by an authority that this system trusts.
    Name,
}

/// What the sessions of all cores have in common.
#[derive(Clone)]
pub struct ClientSettings {
    roots: Arc<RootCertStore>,
    identities: Vec<Identity>,
    time: Arc<dyn TimeProvider>,
}

impl fmt::Debug for ClientSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "ClientSettings({} authorities, {} certificates)",
            self.roots.len(),
            self.identities.len()
        )
    }
}

/// Time for settings that were given none: certificates cannot be checked then.
#[derive(Debug)]
struct NoTime;

impl TimeProvider for NoTime {
    fn current_time(&self) -> Option<UnixTime> {
        None
    }
}

/// Nobody is trusted, and we have no certificate: encryption without verification.
impl Default for ClientSettings {
    fn default() -> Self {
        Self::new([], Vec::new(), Arc::new(NoTime))
    }
}

impl ClientSettings {
    /// `authorities` are trusted to name hosts; those that cannot be read are left out,
    /// as there are odd ones on every system. `identities` are ours.
    #[must_use]
    pub fn new(
        authorities: impl IntoIterator<Item = CertificateDer<'static>>,
        identities: Vec<Identity>,
        time: Arc<dyn TimeProvider>,
    ) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(authorities);
        Self {
            roots: Arc::new(roots),
            identities,
            time,
        }
    }

    fn config(
        &self,
        verification: Verification,
        identity: Option<IdentityNumber>,
    ) -> Result<ClientConfig, Fault> {
        let versions = ClientConfig::builder_with_details(provider(), Arc::clone(&self.time))
            .with_safe_default_protocol_versions()?;
        let verified = match verification {
            Verification::Name => versions.with_root_certificates(Arc::clone(&self.roots)),
            Verification::Any => versions
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(AnyCertificate)),
        };
        let mut config = match identity {
            None => verified.with_no_client_auth(),
            Some(IdentityNumber(number)) => {
                let identity = self.identities.get(usize::from(number));
                let identity = identity.ok_or_else(|| {
                    Fault::ours("our certificate for this host is no longer configured")
                })?;
                let resolver = SingleCertAndKey::from(identity.key());
                verified.with_client_cert_resolver(Arc::new(resolver))
            }
        };
        config.resumption = Resumption::store(Arc::new(ClientSessionMemoryCache::new(TICKETS_MAX)));
        Ok(config)
    }
}

/// Whom we want to talk to.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The host's name, as it was configured or stands in the DNS: asked for by SNI, and
    /// what the certificate is checked against.
    pub name: &'a str,
    /// Its address, for a host without a name; a socket in the file system has none.
    pub address: Option<IpAddr>,
    /// How.
    pub verification: Verification,
    /// What we show if we are asked.
    pub identity: Option<IdentityNumber>,
}

/// The client's side of one core, with the sessions that it can resume. What was learned
/// without verification is never used where it is wanted, nor under another certificate
/// of ours: each has a memory of its own.
#[derive(Debug)]
pub struct Clients {
    settings: ClientSettings,
    configs: HashMap<(Verification, Option<IdentityNumber>), Arc<ClientConfig>>,
}

impl Clients {
    /// Nothing is remembered yet.
    #[must_use]
    pub fn new(settings: ClientSettings) -> Self {
        Self {
            settings,
            configs: HashMap::new(),
        }
    }

    /// TLS for a host that we have connected to.
    ///
    /// # Errors
    /// Ours only: a certificate that is not configured, a name that no certificate can
    /// have and that is to be verified.
    pub fn layer(&mut self, request: &Request<'_>) -> Result<Layer, Fault> {
        let name = match (ServerName::try_from(request.name), request.address) {
            (Ok(name), _) => name.to_owned(),
            (Err(_), Some(address)) if request.verification == Verification::Any => {
                ServerName::IpAddress(address.to_canonical().into())
            }
            (Err(_), _) => {
                let what = format!("no certificate can be for the name {:?}", request.name);
                return Err(Fault::Certificate(what));
            }
        };
        let key = (request.verification, request.identity);
        let config = match self.configs.get(&key) {
            Some(config) => Arc::clone(config),
            None => {
                let config = Arc::new(self.settings.config(key.0, key.1)?);
                self.configs.insert(key, Arc::clone(&config));
                config
            }
        };
        let connection = UnbufferedClientConnection::new(config, name)?;
        Ok(Layer::client(connection))
    }
}

/// Takes whatever a host shows. Not even the proof that it has the key is looked at:
/// without a name that is known it proves nothing, and old certificates that cannot be
/// parsed would send mail into the clear.
#[derive(Debug)]
struct AnyCertificate;

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
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
