//! Files with certificates and private keys.
//!
//! They are looked at when the configuration is read, so that `turnspool check` finds
//! what a start would stumble over, and read again by each start and reload.

use std::fmt;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::surroundings::Surroundings;
use crate::tls::{Identity, IdentityError};

/// Largest file. A chain of four certificates takes about 8 KiB, the authorities of a
/// whole system about 220 KiB.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// A certificate and its private key, as files.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct KeyPair {
    /// The certificate with its chain, PEM.
    pub certificate: PathBuf,
    /// The private key, PEM.
    pub key: PathBuf,
    /// Who may read the key is decided by systemd.
    is_credential: bool,
}

/// Which of the options is to blame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Blamed {
    /// `certificate`.
    Certificate,
    /// `key`.
    Key,
}

/// What is wrong with a pair of files.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PairTrouble {
    /// Which file.
    pub blamed: Blamed,
    /// What is wrong with it.
    pub what: String,
    /// What to do.
    pub instead: String,
}

impl fmt::Display for PairTrouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.instead)
    }
}

impl KeyPair {
    /// Files as they are named in the configuration. The key may be a systemd credential.
    #[must_use]
    pub fn new(certificate: &Path, key: &Path, surroundings: &Surroundings) -> Self {
        let path = surroundings.secret_path(key);
        Self {
            certificate: certificate.to_owned(),
            is_credential: path != key,
            key: path,
        }
    }

    /// Reads both.
    ///
    /// # Errors
    /// Which of them is not as it must be.
    pub fn load(&self) -> Result<Identity, PairTrouble> {
        let trouble = |blamed, what, instead: &str| PairTrouble {
            blamed,
            what,
            instead: instead.to_owned(),
        };
        let (certificate, key) = (self.certificate.display(), self.key.display());
        let chain = read(&self.certificate).map_err(|error| {
            let what = format!("{certificate} cannot be read: {error}");
            let instead = "name the file with the certificate and its chain, PEM";
            trouble(Blamed::Certificate, what, instead)
        })?;
        let secret = read(&self.key).map_err(|error| {
            let what = format!("{key} cannot be read: {error}");
            let instead = "name the file with the private key, and let the server's user read it";
            trouble(Blamed::Key, what, instead)
        })?;
        let mode = std::fs::metadata(&self.key).map_or(0, |metadata| metadata.mode());
        if mode & 0o077 != 0 && !self.is_credential {
            let what = format!("{key} is open to others (mode {:04o})", mode & 0o7777);
            let instead = format!("`chmod 0600 {key}`; if others have read it, make a new one");
            return Err(trouble(Blamed::Key, what, &instead));
        }
        Identity::from_pem(&chain, &secret).map_err(|error| match error {
            IdentityError::Certificate(what) => trouble(
                Blamed::Certificate,
                format!("{certificate} cannot be used: {what}"),
                "name a PEM file with the server's certificate first, then its chain",
            ),
            IdentityError::Key(what) => trouble(
                Blamed::Key,
                format!("{key} cannot be used: {what}"),
                "name a PEM file with an unlocked private key (RSA, ECDSA or Ed25519)",
            ),
            IdentityError::Mismatch => trouble(
                Blamed::Key,
                format!("{key} is not the key of {certificate}"),
                "name the key with which this certificate was asked for",
            ),
        })
    }
}

/// Reads a file of certificates or keys.
///
/// # Errors
/// In the system's words, or that it is too large.
pub fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut octets = Vec::new();
    std::fs::File::open(path)?
        .take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut octets)?;
    if octets.len() as u64 > FILE_BYTES_MAX {
        let what = format!("it is larger than {FILE_BYTES_MAX} octets");
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, what));
    }
    Ok(octets)
}
