//! What the three have in common: how one is asked for, and how it ends.

use std::fs;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Child;

use crate::harness::secure::{Certificates, Files, only_ours};
use crate::harness::{Client, eventually, place};
use crate::root::Root;
use crate::{exim, opensmtpd, postfix};

/// Who may send through a peer that asks who it is, and through our relay.
pub(crate) const USER: &str = "relay-user";
pub(crate) const PASSWORD: &str = "s3cret-w0rd";

/// The name in the certificate of the relay that a peer hands mail to; it is in the
/// peer's hosts file.
pub(crate) const ONWARD_NAME: &str = "onward.example";

/// The mail systems.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Postfix,
    Exim,
    OpenSmtpd,
}

/// How it hands mail on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum TlsOut {
    Never,
    /// Or not at all, and with a good certificate.
    Verified,
}

/// What is wanted of a peer.
pub(crate) struct Wanted<'a> {
    pub(crate) certificates: &'a Certificates,
    pub(crate) listen: SocketAddr,
    /// Our relay, to which it hands everything on.
    pub(crate) onward: SocketAddr,
    /// It offers STARTTLS.
    pub(crate) tls_in: bool,
    pub(crate) tls_out: TlsOut,
    /// It keeps mail for this domain until somebody asks for it.
    pub(crate) held: Option<&'a str>,
    /// It takes mail from [`USER`] only.
    pub(crate) auth_in: bool,
    /// It says to our relay that it is [`USER`] with this password.
    pub(crate) auth_out: Option<&'a str>,
}

impl<'a> Wanted<'a> {
    /// In clear, for everybody.
    pub(crate) fn new(certificates: &'a Certificates, onward: SocketAddr) -> Self {
        Self {
            certificates,
            listen: place::next_address(),
            onward,
            tls_in: false,
            tls_out: TlsOut::Never,
            held: None,
            auth_in: false,
            auth_out: None,
        }
    }
}

/// One that runs. When a test fails, what it wrote is shown.
pub(crate) struct Peer {
    pub(crate) kind: Kind,
    pub(crate) address: SocketAddr,
    root: Root,
    child: Child,
}

impl Peer {
    /// `None` where it is not to be had; a line has said so.
    pub(crate) fn start(kind: Kind, wanted: &Wanted<'_>) -> Option<Self> {
        let root = match kind {
            Kind::Postfix => postfix::root()?,
            Kind::Exim => Root::new("exim", true)?,
            Kind::OpenSmtpd => Root::new("opensmtpd", true)?,
        };
        let name = wanted.listen.ip().to_string();
        let names = [name.as_str(), "peer.example"];
        let files = wanted.certificates.issue(&name, &names, |_| {});
        copy(&wanted.certificates.authority(), &root, "ca.pem");
        let Files { certificate, key } = files;
        copy(&certificate, &root, "peer.pem");
        copy(&key, &root, "peer.key");
        let hosts = format!(
            "127.0.0.1 localhost\n{} {ONWARD_NAME}\n",
            wanted.onward.ip()
        );
        root.write("etc/hosts", &hosts);
        let script = match kind {
            Kind::Postfix => postfix::configure(&root, wanted),
            Kind::Exim => exim::configure(&root, wanted),
            Kind::OpenSmtpd => opensmtpd::configure(&root, wanted),
        };
        let child = root.start(&script);
        let mut peer = Self {
            kind,
            address: wanted.listen,
            root,
            child,
        };
        eventually("the peer greets", || {
            let ended = peer.child.try_wait().expect("it can be asked");
            assert!(ended.is_none(), "{kind:?} ended: {ended:?}");
            Client::try_connect(None, wanted.listen).ok()
        });
        Some(peer)
    }

    /// A file or directory that it has written.
    pub(crate) fn file(&self, path: &str) -> PathBuf {
        self.root.file(path)
    }

    /// It is stopped; what it has written stays.
    pub(crate) fn end(&mut self) {
        // Its name space of processes ends with the first of them, which is over when all
        // the others are.
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        let first = first_child(&self.child);
        // `--kill-child` does not reach a program that changes its user when it starts.
        if let Some(first) = &first {
            let _ = rustix::process::pidfd_send_signal(first, rustix::process::Signal::KILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(first) = first {
            use rustix::event::{PollFd, PollFlags, Timespec, poll};
            let mut ended = [PollFd::new(&first, PollFlags::IN)];
            let patience = Timespec {
                tv_sec: 10,
                tv_nsec: 0,
            };
            let seen = poll(&mut ended, Some(&patience));
            assert_eq!(seen, Ok(1), "what was killed ends");
        }
    }

    pub(crate) fn log(&self) -> String {
        self.root.log()
    }
}

/// What a process has started, as long as it runs.
fn first_child(parent: &Child) -> Option<OwnedFd> {
    let id = parent.id();
    let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).ok()?;
    let child = children.split_ascii_whitespace().next()?.parse().ok()?;
    let child = rustix::process::Pid::from_raw(child)?;
    rustix::process::pidfd_open(child, rustix::process::PidfdFlags::empty()).ok()
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.end();
        if std::thread::panicking() {
            eprintln!("--- what {:?} wrote ---\n{}\n---", self.kind, self.log());
        }
    }
}

fn copy(from: &Path, root: &Root, name: &str) {
    let to = root.shared(name);
    fs::copy(from, &to).expect("it is copied");
    if name.ends_with(".key") {
        only_ours(&to);
    }
}
