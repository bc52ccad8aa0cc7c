//! What is known of the client.

use std::net::SocketAddr;

use crate::smtp::trace::{HelloName, TlsFacts};

/// What is known of the client when it connects.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerFacts {
    /// Its address.
    pub address: SocketAddr,
    /// Present if the session is under TLS. Boxed: in clear it costs a word.
    pub tls: Option<Box<TlsFacts>>,
}

/// What the client called itself, and how.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hello {
    /// Its name.
    pub name: HelloName,
    /// How it greeted.
    pub kind: HelloKind,
}

/// The two ways to greet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HelloKind {
    /// EHLO: the client knows service extensions.
    Ehlo,
    /// HELO.
    Helo,
}
