//! Why a session did not do all that it was to do.

use std::fmt;

pub use super::response::{Code, Refusal};

/// What the session was doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// Connecting, and waiting for the greeting.
    Greeting,
    /// CAPA.
    Capabilities,
    /// STLS and the TLS handshake.
    Tls,
    /// USER and PASS, APOP or AUTH.
    Login,
    /// UIDL and LIST.
    Listing,
    /// RETR, TOP, DELE.
    Messages,
    /// QUIT.
    Quit,
}

impl Stage {
    /// For the operator, behind "while".
    #[must_use]
    pub const fn phrase(self) -> &'static str {
        match self {
            Self::Greeting => "waiting for the greeting",
            Self::Capabilities => "asking what the server can do (CAPA)",
            Self::Tls => "beginning TLS",
            Self::Login => "logging in",
            Self::Listing => "listing the mailbox",
            Self::Messages => "collecting messages",
            Self::Quit => "ending the session (QUIT)",
        }
    }
}

/// By who is at fault.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Nobody: the mailbox is in use, or it is too early. The same works later.
    Busy(Refusal),
    /// User name or password, as far as the server says.
    Login(Refusal),
    /// Our settings and what the server offers do not go together.
    Unfit(&'static str),
    /// The server does not show that it knows the password.
    Untrusted,
    /// TLS could not be had, or broke.
    Tls(Box<str>),
    /// The server refused something that it has to do.
    Refused {
        /// While doing what.
        stage: Stage,
        /// Its answer.
        refusal: Refusal,
    },
    /// The server said what no POP3 server says.
    Protocol {
        /// While doing what.
        stage: Stage,
        /// What it said, shortened.
        what: Box<str>,
    },
    /// A message has more octets than the server said and than we take.
    TooLong,
    /// The connection ended.
    Closed(Stage),
    /// The server was silent for too long.
    TimedOut(Stage),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy(refusal) => write!(f, "the mailbox cannot be had now: {}", refusal.text),
            Self::Login(refusal) => write!(
                f,
                "the server does not take the user name or the password: {}",
                refusal.text
            ),
            Self::Unfit(what) => f.write_str(what),
            Self::Untrusted => f.write_str(
                "what the server sent in AUTH SCRAM-SHA-256 does not show that it knows our \
                 password: it is broken, or another one",
            ),
            Self::Tls(why) => write!(f, "TLS: {why}"),
            Self::Refused { stage, refusal } => {
                write!(f, "refused while {}: {}", stage.phrase(), refusal.text)
            }
            Self::Protocol { stage, what } => {
                let phrase = stage.phrase();
                write!(f, "the answer is not POP3, while {phrase}: {what}")
            }
            Self::TooLong => {
                f.write_str("a message does not end where it should, and is too large to be taken")
            }
            Self::Closed(stage) => write!(f, "the connection ended while {}", stage.phrase()),
            Self::TimedOut(stage) => write!(f, "no answer while {}", stage.phrase()),
        }
    }
}

/// Makes a refusal of a login a fault: whose it is.
pub(super) fn of_login(refusal: Refusal) -> Fault {
    if refusal.code.passes() || refusal.sounds_busy() {
        Fault::Busy(refusal)
    } else if refusal.code == Code::Permanent {
        Fault::Refused {
            stage: Stage::Login,
            refusal,
        }
    } else {
        Fault::Login(refusal)
    }
}

/// The same for any other command.
pub(super) fn of_command(stage: Stage, refusal: Refusal) -> Fault {
    if refusal.code.passes() {
        Fault::Busy(refusal)
    } else {
        Fault::Refused { stage, refusal }
    }
}
