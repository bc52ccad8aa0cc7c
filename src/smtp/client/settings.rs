//! How a client session behaves towards one kind of next hop.

use std::num::NonZeroU32;

use super::stage::Timeouts;
use crate::mail::Domain;
use crate::smtp::flight;

/// Which protocol is spoken. They differ in the hello and in who answers the end
/// of data: SMTP once, LMTP (RFC 2033) once for each accepted recipient.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Protocol {
    /// RFC 5321.
    #[default]
    Smtp,
    /// RFC 2033.
    Lmtp,
}

/// Whether to ask for STARTTLS (RFC 3207). Whether a certificate must be good is
/// the business of the TLS machine.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum TlsPolicy {
    /// Never ask. Also for a connection that is TLS from the start.
    None,
    /// Ask where it is offered; go on in clear where it is refused.
    #[default]
    Opportunistic,
    /// No mail and no password without it.
    Required,
}

/// Whether the host at the other end of a session under TLS is known to be the one that is
/// meant. What REQUIRETLS asks for goes to no other (RFC 8689 §4.2.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Identity {
    /// Nobody looked.
    #[default]
    Unproven,
    /// Its certificate is verified by its name, or else there is no TLS; or it has called
    /// us and authenticated.
    Proven,
}

/// Whether an extension is used.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Use {
    /// If the peer offers it.
    #[default]
    WhenOffered,
    /// For peers that offer what they cannot do.
    Never,
}

/// Whether a password may cross a connection without TLS.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum ClearPassword {
    /// PLAIN and LOGIN only under TLS.
    #[default]
    Refuse,
    /// For a smarthost on a private line.
    Allow,
}

/// What a session is for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Purpose {
    /// Mail is to be delivered.
    #[default]
    Deliver,
    /// Only the answers to RCPT are wanted: no content is sent, and who was accepted has
    /// the outcome of one who was delivered to, with that answer.
    Ask,
}

/// Everything a session is told at its start. Shared by all sessions of a route.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What it is for.
    pub purpose: Purpose,
    /// Our name in EHLO.
    pub hello_name: Domain,
    /// SMTP or LMTP.
    pub protocol: Protocol,
    /// STARTTLS.
    pub tls: TlsPolicy,
    /// Who it is.
    pub identity: Identity,
    /// AUTH without TLS.
    pub clear_password: ClearPassword,
    /// RFC 2920.
    pub pipelining: Use,
    /// RFC 3030.
    pub chunking: Use,
    /// Most recipients in one transaction, whatever the peer allows. RFC 5321
    /// §4.5.3.1.8 makes every server take 100; RCPTMAX of the peer may lower it.
    pub recipients_max: NonZeroU32,
    /// Most octets of content sent by BDAT before the replies to RCPT are in. What
    /// is refused was sent for nothing, so it should stay below what fits into one
    /// round trip of the link. Zero switches it off.
    pub blind_bytes_max: u64,
    /// Most contents sent by BDAT and not yet answered, before another is sent
    /// blind. 1 keeps to the letter of RFC 2920 and 3030.
    pub blind_contents_max: NonZeroU32,
    /// The same to a peer that offers [flights](crate::smtp::flight).
    pub flight_contents_max: NonZeroU32,
    /// Most octets of contents before the replies to RCPT to such a peer, which may ask
    /// for less. None of those contents is larger than [`Settings::blind_bytes_max`].
    pub flight_bytes_max: u64,
    /// The next job is asked for while at most so many octets have not left. What
    /// is bound to a slow connection cannot go over another one.
    pub ahead_bytes_max: u64,
    /// Most transactions in one session, whatever MAILMAX allows.
    pub transactions_max: Option<NonZeroU32>,
    /// How long to wait.
    pub timeouts: Timeouts,
}

impl Settings {
    /// What suits a host that is not known.
    #[must_use]
    pub fn new(hello_name: Domain) -> Self {
        /// As many as the line holds where messages are of 2 KiB; and so many may come
        /// twice when it breaks.
        const FLIGHT: NonZeroU32 = NonZeroU32::new(60).expect("not zero");
        const HUNDRED: NonZeroU32 = NonZeroU32::new(100).expect("not zero");
        Self {
            purpose: Purpose::Deliver,
            hello_name,
            protocol: Protocol::Smtp,
            tls: TlsPolicy::Opportunistic,
            identity: Identity::Unproven,
            clear_password: ClearPassword::Refuse,
            pipelining: Use::WhenOffered,
            chunking: Use::WhenOffered,
            recipients_max: HUNDRED,
            blind_bytes_max: 32 * 1024,
            blind_contents_max: NonZeroU32::MIN,
            flight_contents_max: FLIGHT,
            flight_bytes_max: flight::OCTETS,
            ahead_bytes_max: 64 * 1024,
            transactions_max: None,
            timeouts: Timeouts::default(),
        }
    }
}
