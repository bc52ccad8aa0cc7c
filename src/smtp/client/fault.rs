//! What became of a recipient, and why a session ended: by who is at fault and how
//! far it reaches, with a sentence for the operator.
//!
//! The code that decides asks [`Cause::reach`], [`SessionError::reach`] and
//! [`RecipientOutcome`]; the person reads the `Display`.

use std::fmt;

use super::Channel;
use super::stage::Stage;
use crate::smtp::answer::{AnswerError, Class, Enhanced, Reply};
use crate::smtp::auth::Mechanism;

/// How far a failure reaches.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Reach {
    /// Another recipient of the same message may do better.
    Recipient,
    /// Another message may do better in this session.
    Message,
    /// Another session with this host may do better.
    Session,
    /// Another host may do better.
    Host,
}

/// Whether trying again can help.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Permanence {
    /// Later it may work.
    Temporary,
    /// Only if somebody changes something.
    Permanent,
}

/// Why a session ended other than by our QUIT. All of its unfinished recipients
/// are deferred: a session never fails mail for good.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SessionError {
    /// The host refuses to talk, or not without what we lack.
    Refused {
        /// To what.
        stage: Stage,
        /// In its words.
        reply: Reply,
    },
    /// 421, at any point.
    Closing {
        /// While.
        stage: Stage,
        /// In its words.
        reply: Reply,
    },
    /// The connection is gone.
    Lost {
        /// While.
        stage: Stage,
    },
    /// Nothing came, or nothing left, for too long.
    TimedOut {
        /// While.
        stage: Stage,
    },
    /// It kept us waiting while other mail waited for the connection.
    GaveWay {
        /// While.
        stage: Stage,
    },
    /// What came is no SMTP.
    Garbled {
        /// While.
        stage: Stage,
        /// What it was.
        error: AnswerError,
    },
    /// A reply of a class that the command does not have, or to no command.
    OutOfOrder {
        /// While.
        stage: Stage,
        /// In its words.
        reply: Reply,
    },
    /// More octets behind a reply that could not be used yet than we keep.
    TooMuch {
        /// While.
        stage: Stage,
    },
    /// TLS is required and the host does not offer it.
    TlsNotOffered,
    /// The handshake failed, or the certificate was not good.
    TlsFailed {
        /// The sentence of the TLS machine.
        why: String,
    },
    /// Clear text behind the reply to STARTTLS: somebody sits on the line.
    TlsInjection,
    /// We have credentials and the host offers no mechanism that we may use them with.
    AuthNotOffered,
    /// The host is to know us by our certificate, and it does not offer that, or there is
    /// no TLS in which we could have shown it.
    ExternalNotOffered {
        /// Whether there was TLS.
        channel: Channel,
    },
    /// Our name or password has no prepared form (RFC 4013), and the host offers only
    /// mechanisms that want it.
    AuthNotPreparable,
    /// What the host said in the exchange is not what one says that knows the password.
    AuthUntrusted {
        /// By which mechanism.
        mechanism: Mechanism,
    },
    /// We ended it: stop, or the connection is wanted no more.
    Aborted,
}

impl SessionError {
    /// Session, or the host.
    #[must_use]
    pub const fn reach(&self) -> Reach {
        match self {
            Self::TlsNotOffered
            | Self::TlsFailed { .. }
            | Self::TlsInjection
            | Self::AuthNotOffered
            | Self::ExternalNotOffered { .. }
            | Self::AuthNotPreparable
            | Self::AuthUntrusted { .. } => Reach::Host,
            Self::Aborted => Reach::Session,
            Self::Refused { stage, .. }
            | Self::Closing { stage, .. }
            | Self::Lost { stage }
            | Self::TimedOut { stage }
            | Self::GaveWay { stage }
            | Self::Garbled { stage, .. }
            | Self::OutOfOrder { stage, .. }
            | Self::TooMuch { stage } => match stage {
                // It never got as far as mail: the next session would not either.
                Stage::Connect
                | Stage::Greeting
                | Stage::Hello
                | Stage::StartTls
                | Stage::Handshake
                | Stage::Auth
                | Stage::Release
                | Stage::Turn => Reach::Host,
                Stage::Reset
                | Stage::Mail
                | Stage::Rcpt
                | Stage::Data
                | Stage::Sending
                | Stage::End
                | Stage::Idle
                | Stage::Quit => Reach::Session,
            },
        }
    }

    /// Where in the session it happened. `None`: it is about TLS or our credentials, or it
    /// was us.
    const fn stage(&self) -> Option<Stage> {
        match self {
            Self::Refused { stage, .. }
            | Self::Closing { stage, .. }
            | Self::Lost { stage }
            | Self::TimedOut { stage }
            | Self::GaveWay { stage }
            | Self::Garbled { stage, .. }
            | Self::OutOfOrder { stage, .. }
            | Self::TooMuch { stage } => Some(*stage),
            Self::TlsNotOffered
            | Self::TlsFailed { .. }
            | Self::TlsInjection
            | Self::AuthNotOffered
            | Self::ExternalNotOffered { .. }
            | Self::AuthNotPreparable
            | Self::AuthUntrusted { .. }
            | Self::Aborted => None,
        }
    }

    /// Whether the host would have done the same to any other client's message: it
    /// could not be reached, or did not talk. What hangs on the route, as TLS and
    /// credentials do, is not of that kind.
    #[must_use]
    pub const fn is_for_everybody(&self) -> bool {
        matches!(
            self.stage(),
            Some(Stage::Connect | Stage::Greeting | Stage::Hello)
        )
    }

    /// Whether the host broke off, or stopped to make sense, in the middle of mail.
    #[must_use]
    pub const fn is_of_mail(&self) -> bool {
        matches!(
            self.stage(),
            Some(
                Stage::Reset
                    | Stage::Mail
                    | Stage::Rcpt
                    | Stage::Data
                    | Stage::Sending
                    | Stage::End
            )
        )
    }

    /// Permanent where the host said so in as many words (5yz), or where our own
    /// configuration and the host's cannot meet.
    #[must_use]
    pub const fn permanence(&self) -> Permanence {
        match self {
            Self::Refused { reply, .. } => match reply.code.class() {
                Class::Permanent => Permanence::Permanent,
                _ => Permanence::Temporary,
            },
            Self::TlsNotOffered
            | Self::AuthNotOffered
            | Self::ExternalNotOffered { .. }
            | Self::AuthNotPreparable
            | Self::AuthUntrusted { .. } => Permanence::Permanent,
            _ => Permanence::Temporary,
        }
    }

    /// What the host said, if that was the trouble.
    #[must_use]
    pub const fn reply(&self) -> Option<&Reply> {
        match self {
            Self::Refused { reply, .. }
            | Self::Closing { reply, .. }
            | Self::OutOfOrder { reply, .. } => Some(reply),
            _ => None,
        }
    }

    /// Whether it is about who we are to the host: somebody must look at user and
    /// password.
    #[must_use]
    pub const fn is_about_login(&self) -> bool {
        match self {
            Self::AuthNotOffered
            | Self::ExternalNotOffered { .. }
            | Self::AuthNotPreparable
            | Self::AuthUntrusted { .. } => true,
            Self::Refused { stage, .. } => matches!(stage, Stage::Auth),
            _ => false,
        }
    }

    /// For a notification (RFC 3463): always of class 4.
    #[must_use]
    pub fn status(&self) -> Enhanced {
        if let Some(enhanced) = self.reply().and_then(|reply| reply.enhanced) {
            return enhanced.with_class(4);
        }
        match self {
            Self::Refused { .. } | Self::Closing { .. } => Enhanced::new(4, 3, 2),
            Self::Lost { .. } | Self::Aborted => Enhanced::new(4, 4, 2),
            Self::TimedOut {
                stage: Stage::Connect,
            }
            | Self::GaveWay {
                stage: Stage::Connect,
            } => Enhanced::new(4, 4, 1),
            Self::TimedOut { .. } | Self::GaveWay { .. } => Enhanced::new(4, 4, 2),
            Self::Garbled { .. } | Self::OutOfOrder { .. } | Self::TooMuch { .. } => {
                Enhanced::new(4, 5, 0)
            }
            Self::TlsNotOffered | Self::TlsFailed { .. } => Enhanced::new(4, 7, 10),
            Self::TlsInjection
            | Self::AuthNotOffered
            | Self::ExternalNotOffered { .. }
            | Self::AuthNotPreparable
            | Self::AuthUntrusted { .. } => Enhanced::new(4, 7, 0),
        }
    }
}

/// What was being done, and what went wrong. The core adds the host and what
/// happens next.
impl fmt::Display for SessionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { stage, reply } => {
                write!(f, "the host said in reply to {}: {reply}", stage.command())
            }
            Self::Closing { stage, reply } => {
                write!(f, "the host ended the session while {stage}: {reply}")
            }
            Self::Lost { stage } => write!(f, "lost the connection while {stage}"),
            Self::TimedOut {
                stage: stage @ Stage::Greeting,
            } => write!(
                f,
                "timed out while {stage}; perhaps TLS begins there before it (implicit_tls = true)"
            ),
            Self::TimedOut { stage } => write!(f, "timed out while {stage}"),
            Self::GaveWay { stage } => write!(
                f,
                "gave up while {stage}: it took long, and other mail waited for the connection"
            ),
            Self::Garbled { stage, error } => write!(f, "while {stage} came {error}"),
            Self::OutOfOrder { stage, reply } => {
                write!(
                    f,
                    "while {stage} came a reply that has no place there: {reply}"
                )
            }
            Self::TooMuch { stage } => {
                write!(f, "while {stage} came more replies than were asked for")
            }
            Self::TlsNotOffered => f.write_str(
                "TLS is required for this host, and it does not offer STARTTLS; \
                 set tls = \"opportunistic\" if mail may go there in clear",
            ),
            Self::TlsFailed { why } => write!(f, "TLS failed: {why}"),
            Self::TlsInjection => f.write_str(
                "clear text came behind the reply to STARTTLS: \
                 the host is broken, or somebody on the line tries to speak for it",
            ),
            Self::AuthNotOffered => f.write_str(
                "there is a user and password for this host, and it offers no way to use them \
                 (PLAIN and LOGIN are used only under TLS)",
            ),
            Self::ExternalNotOffered {
                channel: Channel::Clear,
            } => f.write_str(
                "this host is to know us by our certificate (auth = \"external\"), and there is \
                 no TLS in which to show it; set tls = \"required\", and see whether it offers \
                 STARTTLS on this port",
            ),
            Self::ExternalNotOffered {
                channel: Channel::Tls,
            } => f.write_str(
                "this host is to know us by our certificate (auth = \"external\"), and it does not \
                 offer AUTH EXTERNAL: it may not know the authority of our certificate",
            ),
            Self::AuthNotPreparable => f.write_str(
                "our user name or password for this host has characters that SASLprep \
                 (RFC 4013) does not take, such as control characters and most emoji, and the \
                 host offers only mechanisms by which they cannot be sent; under TLS they go by \
                 PLAIN or LOGIN, or have the password changed",
            ),
            Self::AuthUntrusted { mechanism } => write!(
                f,
                "what the host sent in AUTH {mechanism} does not show that it knows our password: \
                 the host is broken, or it is another one"
            ),
            Self::Aborted => f.write_str("we ended the session"),
        }
    }
}

impl std::error::Error for SessionError {}

/// Why a message, or one recipient of it, cannot go to this hop at all.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Unfit {
    /// RFC 6531 §3.5: UTF-8 in an address or in header fields.
    SmtpUtf8,
    /// RFC 6152 §3: octets above 127.
    EightBitMime,
    /// RFC 1870 §6.1.
    TooLarge {
        /// The peer's limit in octets.
        bytes_max: u64,
    },
    /// RFC 8689 §4.2.1: no TLS, or REQUIRETLS is not offered.
    RequireTls,
    /// The same: it is, and who offers it has not proved who it is.
    Unproven,
    /// RFC 2852 §4.1.4: `BY=…;R`, and DELIVERBY is not offered.
    DeliverBy,
    /// RFC 2852 §4.1.5: `BY=…;R`, and the time is over.
    TooLate,
}

impl Unfit {
    /// Whether another host of the same next hop may take it.
    #[must_use]
    pub const fn is_of_host(self) -> bool {
        !matches!(self, Self::TooLate)
    }

    /// RFC 3463 and the IANA registry; class 5.
    #[must_use]
    pub const fn status(self) -> Enhanced {
        match self {
            Self::SmtpUtf8 => Enhanced::new(5, 6, 7),
            Self::EightBitMime => Enhanced::new(5, 6, 3),
            Self::TooLarge { .. } => Enhanced::new(5, 3, 4),
            Self::RequireTls => Enhanced::new(5, 7, 30),
            Self::Unproven => Enhanced::new(5, 7, 10),
            Self::DeliverBy => Enhanced::new(5, 3, 3),
            Self::TooLate => Enhanced::new(5, 4, 7),
        }
    }
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SmtpUtf8 => f.write_str(
                "an address or header field needs UTF-8, and the next host does not take it (SMTPUTF8)",
            ),
            Self::EightBitMime => f.write_str(
                "the message has 8-bit characters, and the next host does not take them (8BITMIME)",
            ),
            Self::TooLarge { bytes_max } => write!(
                f,
                "the message is larger than the {bytes_max} octets that the next host takes"
            ),
            Self::RequireTls => f.write_str(
                "the sender asked for TLS on the whole way, and the next host does not promise it (REQUIRETLS)",
            ),
            Self::Unproven => f.write_str(
                "the sender asked for TLS with hosts that prove who they are (REQUIRETLS), and the certificate of the next host is not good for its name",
            ),
            Self::DeliverBy => f.write_str(
                "the sender set a time limit, and the next host does not keep such limits (DELIVERBY)",
            ),
            Self::TooLate => f.write_str("the time limit that the sender set is over"),
        }
    }
}

/// Whether the peer may have taken the message although we have no reply.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Arrival {
    /// It cannot have.
    NotSent,
    /// All of it was handed out, and the reply is missing: trying again may
    /// deliver it twice (RFC 1047).
    Unknown,
}

/// Why a recipient was not delivered to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Cause {
    /// The peer said so.
    Reply {
        /// To what.
        stage: Stage,
        /// In its words.
        reply: Reply,
    },
    /// We know without asking.
    Unfit(Unfit),
    /// The same, but a better host than those that were asked could not be spoken to.
    UnfitSoFar(Unfit),
    /// The session ended first.
    Session {
        /// How.
        error: SessionError,
        /// How far this message was.
        arrival: Arrival,
    },
    /// The session ends by its limits or was closing: not tried, and nobody is at
    /// fault. It should go at once over another connection.
    SessionFull,
}

impl Cause {
    /// How far it reaches.
    #[must_use]
    pub const fn reach(&self) -> Reach {
        match self {
            Self::Reply {
                stage: Stage::Rcpt, ..
            } => Reach::Recipient,
            Self::Reply { .. } | Self::Unfit(_) | Self::UnfitSoFar(_) => Reach::Message,
            Self::Session { error, .. } => error.reach(),
            Self::SessionFull => Reach::Session,
        }
    }

    /// What the peer said, if it said anything: for Diagnostic-Code.
    #[must_use]
    pub const fn reply(&self) -> Option<&Reply> {
        match self {
            Self::Reply { reply, .. } => Some(reply),
            Self::Session { error, .. } => error.reply(),
            Self::Unfit(_) | Self::UnfitSoFar(_) | Self::SessionFull => None,
        }
    }

    /// The status in its own class.
    fn status(&self) -> Enhanced {
        match self {
            Self::Reply { reply, .. } => reply.enhanced.unwrap_or_else(|| {
                let class = if reply.code.value() < 500 { 4 } else { 5 };
                Enhanced::new(class, 0, 0)
            }),
            Self::Unfit(unfit) | Self::UnfitSoFar(unfit) => unfit.status(),
            Self::Session { error, .. } => error.status(),
            Self::SessionFull => Enhanced::new(4, 4, 0),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reply { stage, reply } => {
                write!(f, "the host said in reply to {}: {reply}", stage.command())
            }
            Self::Unfit(unfit) => unfit.fmt(f),
            Self::UnfitSoFar(unfit) => write!(
                f,
                "{unfit}; it waits for another host, of the same rank or better, that cannot be reached now"
            ),
            Self::Session { error, arrival } => {
                error.fmt(f)?;
                match arrival {
                    Arrival::NotSent => Ok(()),
                    Arrival::Unknown => f.write_str(
                        "; the message was sent and not confirmed, so it may be delivered twice",
                    ),
                }
            }
            Self::SessionFull => f.write_str("the session takes no more messages"),
        }
    }
}

/// What became of one recipient.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RecipientOutcome {
    /// The peer has it, in its words.
    Delivered(Reply),
    /// To be tried again.
    Deferred(Cause),
    /// To be returned to the sender.
    Failed(Cause),
}

impl RecipientOutcome {
    /// For the Status field of a notification: class 2, 4 or 5 as the variant is.
    #[must_use]
    pub fn status(&self) -> Enhanced {
        match self {
            Self::Delivered(reply) => reply.enhanced.unwrap_or(Enhanced::new(2, 0, 0)),
            Self::Deferred(cause) => cause.status().with_class(4),
            Self::Failed(cause) => cause.status().with_class(5),
        }
    }

    /// What the peer said, if it said anything.
    #[must_use]
    pub const fn reply(&self) -> Option<&Reply> {
        match self {
            Self::Delivered(reply) => Some(reply),
            Self::Deferred(cause) | Self::Failed(cause) => cause.reply(),
        }
    }
}

impl RecipientOutcome {
    /// Whether the host decided it, in words about the message or recipient.
    #[must_use]
    pub const fn is_of_host(&self) -> bool {
        match self {
            Self::Delivered(_) => true,
            Self::Deferred(cause) | Self::Failed(cause) => matches!(cause, Cause::Reply { .. }),
        }
    }
}

impl fmt::Display for RecipientOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Delivered(reply) => write!(f, "delivered: {reply}"),
            Self::Deferred(cause) => write!(f, "deferred: {cause}"),
            Self::Failed(cause) => write!(f, "failed: {cause}"),
        }
    }
}
