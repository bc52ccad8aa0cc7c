//! Our own certificates, and what is read in those of others.

use std::fmt;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::time::WallTime;

/// Longest name that is taken from a certificate, in octets: that of a mail address
/// (RFC 5321 §4.5.3.1), longer than any domain.
const NAME_BYTES_MAX: usize = 320;

/// A certificate with its chain and its private key, which fit together.
#[derive(Clone, Debug)]
pub struct Identity {
    key: Arc<CertifiedKey>,
    not_after: WallTime,
}

/// Why two files are no [`Identity`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum IdentityError {
    /// The file of the certificate has none, or one that cannot be read.
    Certificate(String),
    /// The file of the key has none, or one that cannot be used.
    Key(String),
    /// Each is good, and the key is that of another certificate.
    Mismatch,
}

impl fmt::Display for IdentityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Certificate(what) => write!(f, "the certificate cannot be used: {what}"),
            Self::Key(what) => write!(f, "the private key cannot be used: {what}"),
            Self::Mismatch => f.write_str("the private key is not that of the certificate"),
        }
    }
}

impl std::error::Error for IdentityError {}

impl Identity {
    /// From the octets of two PEM files: a certificate with its chain, and its key.
    ///
    /// # Errors
    /// Which of them is not good, and why.
    pub fn from_pem(certificate: &[u8], key: &[u8]) -> Result<Self, IdentityError> {
        let chain = certificates(certificate).map_err(IdentityError::Certificate)?;
        let not_after = chain
            .first()
            .and_then(not_after)
            .ok_or_else(|| IdentityError::Certificate("it cannot be read".to_owned()))?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| {
            IdentityError::Key(match error {
                rustls_pki_types::pem::Error::NoItemsFound => {
                    "the file has no \"PRIVATE KEY\", or one that is locked by a password"
                        .to_owned()
                }
                other => other.to_string(),
            })
        })?;
        let key = provider()
            .key_provider
            .load_private_key(key)
            .map_err(|error| IdentityError::Key(error.to_string()))?;
        let certified = CertifiedKey::new(chain, key);
        match certified.keys_match() {
            Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
            Err(Error::InconsistentKeys(_)) => return Err(IdentityError::Mismatch),
            Err(error) => return Err(IdentityError::Certificate(error.to_string())),
        }
        Ok(Self {
            key: Arc::new(certified),
            not_after,
        })
    }

    /// The last instant at which it is good.
    #[must_use]
    pub const fn not_after(&self) -> WallTime {
        self.not_after
    }

    pub(super) fn key(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.key)
    }
}

/// All certificates of a PEM file. At least one.
///
/// # Errors
/// In words.
pub(super) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| error.to_string())?;
    if chain.is_empty() {
        return Err("the file has no \"CERTIFICATE\"".to_owned());
    }
    Ok(chain)
}

/// *ring*: small, fast on what this runs on, and without a C++ compiler to build.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The last instant at which a certificate is good; `None` if it cannot be read.
#[must_use]
pub fn not_after(certificate: &CertificateDer<'_>) -> Option<WallTime> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let seconds = parsed.validity().not_after.timestamp();
    Some(WallTime::from_millis(seconds.saturating_mul(1000)))
}

/// The name of whom a certificate is for: the first DNS name or mail address among its
/// alternative names, else its common name. Printable ASCII, or `None`.
pub(super) fn subject_name(certificate: &CertificateDer<'_>) -> Option<Box<str>> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let alternative = parsed.subject_alternative_name().ok().flatten();
    let alternative = alternative.and_then(|names| {
        names
            .value
            .general_names
            .iter()
            .find_map(|name| match name {
                GeneralName::DNSName(name) | GeneralName::RFC822Name(name) => {
                    Some((*name).to_owned())
                }
                _ => None,
            })
    });
    let name = alternative.or_else(|| {
        let mut names = parsed.subject().iter_common_name();
        names.next()?.as_str().ok().map(str::to_owned)
    })?;
    let good = !name.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && name.bytes().all(|octet| octet.is_ascii_graphic());
    good.then(|| name.into_boxed_str())
}
