//! The certificate of the provider in a demonstration, and the authority by which the
//! site knows it: made for one run, for an address of this machine.

use std::fs;
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

/// Its files.
#[derive(Debug)]
pub(super) struct Certificate {
    authority: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
}

impl Certificate {
    /// Makes one for a server at this address, in this directory.
    ///
    /// # Errors
    /// Of writing, and of making keys.
    pub(super) fn make(directory: &Path, address: IpAddr) -> io::Result<Self> {
        let files = Self {
            authority: directory.join("authority.pem"),
            certificate: directory.join("provider.pem"),
            key: directory.join("provider.key"),
        };
        let authority = authority().map_err(io::Error::other)?;
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let certificate = CertificateParams::new([address.to_string()])
            .and_then(|params| params.signed_by(&key, &authority))
            .map_err(io::Error::other)?;
        fs::write(&files.authority, authority.pem())?;
        fs::write(&files.certificate, certificate.pem())?;
        let mut secret = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&files.key)?;
        secret.write_all(key.serialize_pem().as_bytes())?;
        Ok(files)
    }

    /// The file with the authority.
    pub(super) fn authority(&self) -> &Path {
        &self.authority
    }

    /// The section of the server's configuration.
    pub(super) fn section(&self) -> String {
        let Self {
            certificate, key, ..
        } = self;
        format!("[tls]\ncertificate = {certificate:?}\nkey = {key:?}\n")
    }
}

fn authority() -> Result<CertifiedIssuer<'static, KeyPair>, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let name = "authority of a demonstration";
    params.distinguished_name.push(DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate()?)
}
