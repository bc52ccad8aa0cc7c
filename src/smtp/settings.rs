//! What the operator decides about sessions that bring us mail.

use std::time::Duration;

use crate::mail::Domain;
use crate::smtp::auth::Mechanisms;
use crate::smtp::data::{self, BareNewline};

/// Longest command line that can be configured, and the least that is sensible:
/// RFC 5321 §4.5.3.1.4 asks for 512, DSN parameters (RFC 3461 §5) and UTF-8
/// addresses need about 3,000 more.
pub const COMMAND_BYTES_MAX: usize = 4096;

/// Longest line of an AUTH exchange (RFC 4954 §4): 12,288 octets.
pub const AUTH_LINE_BYTES_MAX: usize = 12_288;

/// What the operator decides about the sessions of one listener. Shared by all
/// of them; a reload makes a new one for new sessions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Our name: in the greeting, in EHLO, in `by` of the trace line, and the
    /// domain of `<postmaster>`. ASCII: it stands in header fields of messages that
    /// are no SMTPUTF8.
    pub hostname: Domain,
    /// Octets of a message; advertised as SIZE (RFC 1870).
    pub message_bytes_max: u64,
    /// Recipients of a transaction; advertised as LIMITS RCPTMAX (RFC 9422).
    pub recipients_max: u32,
    /// Transactions of a session; advertised as LIMITS MAILMAX. `None`: no limit.
    pub transactions_max: Option<u32>,
    /// Replies of class 5 between two stored messages, after which the session
    /// is ended with 421.
    pub errors_max: u32,
    /// Commands between two stored messages, after which the session is ended.
    pub commands_max: u32,
    /// Pauses before a refusal of what moves no mail, after which the session is ended
    /// with 421; how long they are the core says.
    pub pauses_max: u32,
    /// Commands that move no mail (NOOP, VRFY, HELP, EHLO, ETRN, RSET of nothing)
    /// between two stored messages, after which the session is ended.
    pub idle_commands_max: u32,
    /// Octets of a command line with its CRLF.
    pub command_bytes_max: usize,
    /// Octets of a line of message text without CRLF. RFC 5321 §4.5.3.1.6 allows
    /// 998 to be sent; longer lines are in use, and are kept as they are.
    pub text_line_bytes_max: u64,
    /// Received header fields of a message (RFC 5321 §6.3).
    pub hops_max: u32,
    /// Octets of a refused message that are read over while waiting for its end.
    /// A client that sends more is not listening, and the session is ended.
    pub discard_bytes_max: u64,
    /// CR and LF alone in message text and commands.
    pub bare_newline: BareNewline,
    /// Clients that speak before they were greeted.
    pub early_talker: EarlyTalker,
    /// How long we wait for the client.
    pub timeouts: Timeouts,
    /// What the listener is for.
    pub role: Role,
    /// Service extensions that not every listener has.
    pub offers: Offers,
}

/// What a listener is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Role {
    /// Clients bring mail.
    #[default]
    Mail,
    /// Customers call for theirs, and nothing else is done here (RFC 2645).
    Odmr,
}

/// How long we wait for the client (RFC 5321 §4.5.3.2.7 asks for 5 minutes).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timeouts {
    /// For a whole command line, from the reply before it.
    pub command: Duration,
    /// For more octets of a message: at most so long in a row, and so long in all of what
    /// it takes longer than [`Timeouts::text_rate_min`] asks for.
    pub data_block: Duration,
    /// Octets of message text a second. Zero: any; then an octet now and then keeps a
    /// session, and the room in the spool that its message was promised, for ever.
    pub text_rate_min: u64,
}

/// Octets of message text a second that a client brings at least, where nothing else is
/// said. A modem of 9600 bit/s carries twenty such sessions; Postfix asks for 500 where it
/// has few sessions left (`smtpd_min_data_rate`), and for no rate otherwise.
pub const TEXT_RATE_MIN: u64 = 50;

/// What is done about a client that speaks before it was greeted: RFC 5321 §3.1
/// forbids it, and what does it is mostly spam software.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EarlyTalker {
    /// The greeting is sent at once, and nobody looks.
    Allow,
    /// The greeting waits this long. Who speaks in that time is sent away.
    Refuse {
        /// How long.
        pause: Duration,
    },
}

/// Service extensions that not every listener has. What is not offered here is
/// neither advertised nor understood.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Offers {
    /// STARTTLS (RFC 3207), while the session is in clear.
    pub start_tls: bool,
    /// ETRN (RFC 1985).
    pub etrn: bool,
    /// AUTH (RFC 4954).
    pub auth: Option<AuthOffer>,
    /// MT-PRIORITY (RFC 6710).
    pub mt_priority: bool,
    /// DELIVERBY (RFC 2852), with the least time that makes sense here.
    pub deliver_by: Option<Duration>,
    /// [Flights](crate::smtp::flight), to whoever can make them.
    pub flight: bool,
    /// FUTURERELEASE (RFC 4865), with the longest time that mail may wait here. For
    /// submission only (§4).
    pub future_release: Option<Duration>,
}

/// How clients authenticate (RFC 4954).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AuthOffer {
    /// Mechanisms under TLS.
    pub under_tls: Mechanisms,
    /// Mechanisms in clear: none that sends the password.
    pub in_clear: Mechanisms,
    /// Mail is taken from clients only that have authenticated: 530.
    pub needed: bool,
    /// How long a client that failed waits for the reply.
    pub failure_pause: Duration,
    /// Failures of a session, after which it is ended with 421.
    pub failures_max: u32,
}

impl AuthOffer {
    /// These mechanisms; those that send the password only under TLS.
    #[must_use]
    pub fn new(mechanisms: Mechanisms) -> Self {
        Self {
            under_tls: mechanisms,
            in_clear: mechanisms.without_passwords(),
            needed: false,
            failure_pause: Duration::from_secs(2),
            failures_max: 3,
        }
    }
}

impl Settings {
    /// The defaults, for a host of this name.
    #[must_use]
    pub fn new(hostname: Domain) -> Self {
        Self {
            hostname,
            message_bytes_max: 50 << 20,
            recipients_max: 1000,
            transactions_max: None,
            errors_max: 100,
            commands_max: 20_000,
            pauses_max: 5,
            idle_commands_max: 100,
            command_bytes_max: COMMAND_BYTES_MAX,
            text_line_bytes_max: 1 << 20,
            hops_max: 100,
            discard_bytes_max: 1 << 30,
            bare_newline: BareNewline::Refuse,
            early_talker: EarlyTalker::Allow,
            timeouts: Timeouts {
                command: Duration::from_secs(5 * 60),
                data_block: Duration::from_secs(3 * 60),
                text_rate_min: TEXT_RATE_MIN,
            },
            role: Role::default(),
            offers: Offers::default(),
        }
    }

    /// What the scanner of message text holds a message to.
    #[must_use]
    pub const fn data_limits(&self) -> data::Limits {
        data::Limits {
            message_bytes_max: self.message_bytes_max,
            line_bytes_max: self.text_line_bytes_max,
            hops_max: self.hops_max,
        }
    }
}
