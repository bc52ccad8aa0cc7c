//! The turn: one connection, on which client and server exchange their roles after ATRN
//! (On-Demand Mail Relay, RFC 2645).
//!
//! ```text
//!            provider                          site
//!            server session  <-- ATRN dom ---  client session that calls
//!                            --- 250 ------->
//!  ToCustomer::client        <-- 220 --------  FromProvider::session
//!            client session  --- EHLO ------>  server session
//!                            ... mail ...
//!                            --- QUIT ------>
//!                            <-- 221 --------
//! ```
//!
//! What it promises:
//! - A client session on a connection that the other side opened is made from a
//!   [`ToCustomer`] only, and there is one only behind a `250` to ATRN.
//! - A server session on a connection that we opened is made from a [`FromProvider`]
//!   only, and it names the domains that we asked for: mail for anything else is none
//!   of this session's business, and its peer is no relay client.
//! - Both sides begin afresh (§5.3): EHLO is said again, AUTH is not repeated, STARTTLS
//!   is neither offered nor asked for. TLS that was there before stays.
//!
//! What it does not do: it knows no customer and no queue. Who may have which domains'
//! mail the core decides ([`crate::smtp::server::Question::Turn`]).

use std::sync::Arc;

use crate::mail::{Domain, Receipt};
use crate::smtp::client::fault::SessionError;
use crate::smtp::client::settings::{Identity, Protocol, TlsPolicy};
use crate::smtp::client::stage::Stage;
use crate::smtp::client::{Channel, Client, Input, settings};
use crate::smtp::server::{PeerFacts, Session};
use crate::smtp::settings::{EarlyTalker, Offers, Role, Settings};
use crate::time::Now;

/// RFC 5321 §4.5.3.1.4, with CRLF: a provider need not take a longer line.
const COMMAND_BYTES_MAX: usize = 512;

/// A customer has called, and was told that it gets its mail now.
#[derive(Debug)]
#[must_use = "the customer waits for its mail"]
pub struct ToCustomer {
    peer: PeerFacts,
}

impl ToCustomer {
    /// By the server session, behind its 250.
    pub(in crate::smtp) const fn new(peer: PeerFacts) -> Self {
        Self { peer }
    }

    /// The customer's end.
    #[must_use]
    pub const fn peer(&self) -> &PeerFacts {
        &self.peer
    }

    /// The session that hands the mail over. It waits for the customer's 220.
    #[must_use]
    pub fn client(self, settings: &settings::Settings, now: Now) -> Client {
        let mut settings = settings.clone();
        settings.protocol = Protocol::Smtp;
        settings.tls = TlsPolicy::None;
        // It has authenticated, before the roles turned.
        settings.identity = Identity::Proven;
        let channel = match self.peer.tls {
            Some(_) => Channel::Tls,
            None => Channel::Clear,
        };
        let mut client = Client::new(Arc::new(settings), now);
        client.handle(now, Input::Connected(channel));
        client
    }
}

/// What is asked of a provider: the mail of these domains.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Call {
    domains: Box<[Domain]>,
}

/// A call that cannot be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CallError {
    /// A session that trusts its peer for no domain takes no mail.
    #[error("a call by ATRN needs at least one domain")]
    NoDomain,
    /// The line would be too long.
    #[error("the domains of one ATRN do not fit into {COMMAND_BYTES_MAX} octets; call twice")]
    TooLong,
}

impl Call {
    /// For the mail of these domains.
    ///
    /// # Errors
    /// There are none, or too many for one line. Each must be named: a provider that
    /// gives "all" might give some that we would refuse, and their senders would hear
    /// that it failed.
    pub fn new(domains: impl Into<Box<[Domain]>>) -> Result<Self, CallError> {
        let call = Self {
            domains: domains.into(),
        };
        let mut line = Vec::new();
        call.write(&mut line);
        match call.domains.len() {
            0 => Err(CallError::NoDomain),
            _ if line.len() > COMMAND_BYTES_MAX => Err(CallError::TooLong),
            _ => Ok(call),
        }
    }

    /// Those domains.
    #[must_use]
    pub fn domains(&self) -> &[Domain] {
        &self.domains
    }

    /// The command.
    pub(in crate::smtp) fn write(&self, out: &mut Vec<u8>) {
        let mut before: &[u8] = b"ATRN ";
        for domain in &self.domains {
            out.extend_from_slice(before);
            out.extend_from_slice(domain.as_str().as_bytes());
            before = b",";
        }
        out.extend_from_slice(b"\r\n");
    }
}

/// We have called, and the provider is about to give us the mail.
#[derive(Clone, PartialEq, Eq, Debug)]
#[must_use = "the provider waits for our greeting"]
pub struct FromProvider {
    domains: Box<[Domain]>,
}

impl FromProvider {
    /// By the client session, behind the provider's 250.
    pub(in crate::smtp) fn new(call: Call) -> Self {
        Self {
            domains: call.domains,
        }
    }

    /// The domains that were asked for. Mail for others is to be refused.
    #[must_use]
    pub fn domains(&self) -> &[Domain] {
        &self.domains
    }

    /// The session that takes the mail; our greeting is among its first outputs.
    #[must_use]
    pub fn session<R: Receipt>(
        &self,
        settings: &Settings,
        provider: PeerFacts,
        now: Now,
    ) -> Session<R> {
        let settings = Settings {
            role: Role::Mail,
            early_talker: EarlyTalker::Allow,
            offers: Offers {
                start_tls: false,
                auth: None,
                flight: true,
                ..settings.offers
            },
            ..settings.clone()
        };
        Session::new(Arc::new(settings), provider, now)
    }
}

/// What a provider said to ATRN, where it was no 250 (RFC 2645 §5.2.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Refused {
    /// 453: there is no mail. Nothing is wrong.
    NothingWaiting,
    /// 450, 451 and their like: not now, or not so often.
    Later,
    /// 530 and other 5yz: not to us, or not so.
    Never,
}

/// What the failure of a calling session says of the call, if it came as far as ATRN.
#[must_use]
pub fn refused(error: &SessionError) -> Option<Refused> {
    match error {
        SessionError::Refused {
            stage: Stage::Turn,
            reply,
        } => Some(match reply.code.value() {
            453 => Refused::NothingWaiting,
            400..500 => Refused::Later,
            _ => Refused::Never,
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
