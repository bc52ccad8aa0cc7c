//! How a client session behaves towards one kind of next hop.

use std::fmt;
use std::num::NonZeroU32;

use super::stage::Timeouts;
use crate::mail::Domain;

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

/// Who we are to the peer (RFC 4954).
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The name, UTF-8, without NUL.
    user: String,
    /// The password, UTF-8, without NUL.
    password: String,
}

/// A name or password with a NUL, or too long for an AUTH line.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "a user name or password is empty, longer than {CREDENTIAL_BYTES_MAX} octets, or has a NUL in it"
)]
pub struct CredentialsError;

/// Longest user name or password in octets. RFC 4616 §2 asks for 255 or more.
pub const CREDENTIAL_BYTES_MAX: usize = 1024;

impl Credentials {
    /// # Errors
    /// If one of them cannot be sent by any mechanism.
    pub fn new(user: String, password: String) -> Result<Self, CredentialsError> {
        for text in [&user, &password] {
            if text.is_empty() || text.len() > CREDENTIAL_BYTES_MAX || text.contains('\0') {
                return Err(CredentialsError);
            }
        }
        Ok(Self { user, password })
    }

    /// The name.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The password. Never shown.
    pub(super) fn password(&self) -> &str {
        &self.password
    }
}

/// Without the password.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// Everything a session is told at its start. Shared by all sessions of a route.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Our name in EHLO.
    pub hello_name: Domain,
    /// SMTP or LMTP.
    pub protocol: Protocol,
    /// STARTTLS.
    pub tls: TlsPolicy,
    /// AUTH; `None` says nothing of who we are.
    pub credentials: Option<Credentials>,
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
    /// blind. 1 keeps to the letter of RFC 2920 and 3030. More is a flight, for
    /// our own nodes and for peers known to be good at it.
    pub blind_contents_max: NonZeroU32,
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
        const HUNDRED: NonZeroU32 = NonZeroU32::new(100).expect("not zero");
        Self {
            hello_name,
            protocol: Protocol::Smtp,
            tls: TlsPolicy::Opportunistic,
            credentials: None,
            clear_password: ClearPassword::Refuse,
            pipelining: Use::WhenOffered,
            chunking: Use::WhenOffered,
            recipients_max: HUNDRED,
            blind_bytes_max: 32 * 1024,
            blind_contents_max: NonZeroU32::MIN,
            ahead_bytes_max: 64 * 1024,
            transactions_max: None,
            timeouts: Timeouts::default(),
        }
    }
}
