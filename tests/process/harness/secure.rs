//! Certificates for the tests, and a client that speaks TLS.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, StreamOwned};
use tempfile::TempDir;

use super::waiting::PATIENCE;

/// A directory with an authority and what it issued.
pub(crate) struct Certificates {
    directory: TempDir,
    authority: CertifiedIssuer<'static, KeyPair>,
}

/// The files of one certificate.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl Files {
    /// The section of the configuration.
    pub(crate) fn section(&self) -> String {
        let (certificate, key) = (self.certificate.display(), self.key.display());
        format!("[tls]\ncertificate = \"{certificate}\"\nkey = \"{key}\"\n")
    }
}

impl Files {
    /// For a server that shows it.
    pub(crate) fn server_config(&self) -> Arc<ServerConfig> {
        let chain = CertificateDer::from_pem_file(&self.certificate).expect("a certificate");
        let key = PrivateKeyDer::from_pem_file(&self.key).expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![chain], key);
        Arc::new(config.expect("they belong together"))
    }
}

impl Certificates {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let name = "authority of the tests";
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let authority = CertifiedIssuer::self_signed(params, key).expect("a certificate");
        let directory = tempfile::tempdir().expect("a directory");
        fs::write(directory.path().join("ca.pem"), authority.pem()).expect("it is written");
        Self {
            directory,
            authority,
        }
    }

    /// The file with the authority's certificate.
    pub(crate) fn authority(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// Words to start a program with that trusts this authority and no other.
    pub(crate) fn trusting(&self) -> Vec<String> {
        let file = format!("SSL_CERT_FILE={}", self.authority().display());
        vec!["env".to_owned(), file]
    }

    /// A certificate for these names, good from 2026 to 2036 unless `change` says so.
    pub(crate) fn issue(
        &self,
        file: &str,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> Files {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2040, 1, 1);
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.authority);
        self.write(file, &certificate.expect("a certificate").pem(), &key)
    }

    /// What `openssl req -x509` makes: an authority of its own that a server shows.
    pub(crate) fn own_authority(&self, file: &str, name: &str) -> Files {
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        self.write(file, &certificate.pem(), &key)
    }

    /// A certificate that nobody else vouches for.
    pub(crate) fn self_signed(&self, file: &str, name: &str) -> Files {
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        self.write(file, &certificate.pem(), &key)
    }

    fn write(&self, file: &str, certificate: &str, key: &KeyPair) -> Files {
        let path = |end: &str| self.directory.path().join(format!("{file}.{end}"));
        let files = Files {
            certificate: path("pem"),
            key: path("key"),
        };
        fs::write(&files.certificate, certificate).expect("it is written");
        fs::write(&files.key, key.serialize_pem()).expect("it is written");
        only_ours(&files.key);
        files
    }

    /// For clients that trust this authority. Sessions are resumed within one of them.
    pub(crate) fn client_config(&self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots
            .add(self.authority.der().clone())
            .expect("an authority");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Arc::new(config)
    }
}

/// Mode 0600.
pub(crate) fn only_ours(path: &Path) {
    let mode = fs::Permissions::from_mode(0o600);
    fs::set_permissions(path, mode).expect("it is ours");
}

/// A session under TLS.
pub(crate) struct SecureClient {
    stream: BufReader<StreamOwned<ClientConnection, TcpStream>>,
}

impl SecureClient {
    /// From the first octet; the greeting is read.
    pub(crate) fn implicit(address: SocketAddr, config: &Arc<ClientConfig>) -> Self {
        let mut client = Self::over(connect(address), config);
        assert_eq!(client.reply().0, 220);
        client
    }

    /// By STARTTLS, then EHLO.
    pub(crate) fn start_tls(address: SocketAddr, config: &Arc<ClientConfig>) -> Self {
        let mut stream = BufReader::new(connect(address));
        let mut say = |line: &str, expected: &str| {
            stream.get_mut().write_all(line.as_bytes()).expect("open");
            loop {
                let mut reply = String::new();
                stream.read_line(&mut reply).expect("a reply");
                assert!(reply.starts_with(expected), "{line:?}: {reply:?}");
                if reply.as_bytes().get(3) == Some(&b' ') {
                    return;
                }
            }
        };
        say("", "220");
        say("EHLO client.example\r\n", "250");
        say("STARTTLS\r\n", "220");
        let mut client = Self::over(stream.into_inner(), config);
        client.expect("EHLO client.example", 250);
        client
    }

    fn over(stream: TcpStream, config: &Arc<ClientConfig>) -> Self {
        let address = stream.peer_addr().expect("connected").ip();
        let name = ServerName::from(address);
        let connection = ClientConnection::new(Arc::clone(config), name).expect("a client");
        Self {
            stream: BufReader::new(StreamOwned::new(connection, stream)),
        }
    }

    /// The next reply: its code and text.
    pub(crate) fn reply(&mut self) -> (u16, String) {
        let mut text = String::new();
        loop {
            let begin = text.len();
            self.stream.read_line(&mut text).expect("a reply");
            let line = &text[begin..];
            if line.as_bytes().get(3) != Some(&b'-') {
                return (
                    line.get(..3).and_then(|c| c.parse().ok()).expect("a code"),
                    text,
                );
            }
        }
    }

    pub(crate) fn write(&mut self, octets: &[u8]) {
        let stream = self.stream.get_mut();
        stream.write_all(octets).expect("it is open");
        stream.flush().expect("it is open");
    }

    #[track_caller]
    pub(crate) fn expect(&mut self, line: &str, code: u16) -> String {
        self.write(format!("{line}\r\n").as_bytes());
        let (got, text) = self.reply();
        assert_eq!(got, code, "{line:?} was answered {text:?}");
        text
    }

    /// The server's certificate, DER.
    pub(crate) fn certificate(&self) -> Vec<u8> {
        let chain = self.stream.get_ref().conn.peer_certificates();
        chain.expect("it showed one")[0].to_vec()
    }

    /// Whether an earlier session was resumed.
    pub(crate) fn is_resumed(&self) -> bool {
        let kind = self.stream.get_ref().conn.handshake_kind();
        kind == Some(rustls::HandshakeKind::Resumed)
    }

    /// Nothing comes but the end, in good order: close_notify, then the connection's.
    pub(crate) fn assert_closed(&mut self) {
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest).expect("a good end");
        assert!(rest.is_empty(), "{}", rest.escape_ascii());
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, PATIENCE).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("open");
    stream.set_write_timeout(Some(PATIENCE)).expect("open");
    stream
}
