//! What MAIL and RCPT say besides the paths, and the envelope made of it.
//!
//! ESMTP parameters stay in the form in which they came (xtext), so that they are
//! passed on unchanged (RFC 3461 §4). What this module does not do: it checks no
//! xtext; `smtp/parameter` did.

use std::time::Duration;

use super::{ForwardPath, ReversePath};
use crate::time::WallTime;

/// Longest ENVID (RFC 3461 §4.4), in octets of xtext.
pub const ENVID_BYTES_MAX: usize = 100;
/// Longest ORCPT parameter value (RFC 3461 §4.2), in octets.
pub const ORCPT_BYTES_MAX: usize = 500;

/// What the body may contain (RFC 6152 `BODY`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum BodyKind {
    /// ASCII in lines. Also where the client said nothing.
    #[default]
    SevenBit,
    /// Any octets in lines.
    EightBitMime,
}

/// How much of the message a notification returns (RFC 3461 §4.3 `RET`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Ret {
    /// All of it.
    Full,
    /// The header section.
    Headers,
}

/// When the sender wants to be told (RFC 3461 §4.1 `NOTIFY`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Notify {
    /// No parameter was given: failure and, at our choice, delay.
    Unspecified,
    /// `NEVER`.
    Never,
    /// Any non-empty set of the three.
    On {
        /// When it was delivered.
        success: bool,
        /// When it failed.
        failure: bool,
        /// When it is late.
        delay: bool,
    },
}

impl Notify {
    /// Whether a failure is reported.
    #[must_use]
    pub const fn failure(self) -> bool {
        match self {
            Self::Unspecified => true,
            Self::Never => false,
            Self::On { failure, .. } => failure,
        }
    }

    /// Whether a delay is reported. Without a parameter: yes, at our choice.
    #[must_use]
    pub const fn delay(self) -> bool {
        match self {
            Self::Unspecified => true,
            Self::Never => false,
            Self::On { delay, .. } => delay,
        }
    }

    /// Whether success is reported.
    #[must_use]
    pub const fn success(self) -> bool {
        matches!(self, Self::On { success: true, .. })
    }
}

/// MT-PRIORITY (RFC 6710): −9 to 9, 0 where nothing was said, more is sooner.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Priority(i8);

impl Priority {
    /// The least urgent.
    pub const MIN: Self = Self(-9);
    /// The most urgent.
    pub const MAX: Self = Self(9);

    /// `None` if the value is not in −9 ..= 9.
    #[must_use]
    pub const fn new(value: i8) -> Option<Self> {
        if value >= -9 && value <= 9 {
            Some(Self(value))
        } else {
            None
        }
    }

    /// −9 ..= 9.
    #[must_use]
    pub const fn value(self) -> i8 {
        self.0
    }
}

/// DELIVERBY (RFC 2852), with the seconds turned into a point of time at arrival.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct DeliverBy {
    /// When the time is over.
    pub deadline: WallTime,
    /// What happens then.
    pub mode: DeliverByMode,
    /// `T`: relaying it is to be reported.
    pub trace: bool,
}

/// RFC 2852 §4 `by-mode`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum DeliverByMode {
    /// `R`: return it as undelivered.
    Return,
    /// `N`: tell the sender and go on.
    Notify,
}

/// One forward-path with its DSN parameters.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Recipient {
    /// Where it goes.
    pub forward_path: ForwardPath,
    /// RFC 3461 `NOTIFY`.
    pub notify: Notify,
    /// RFC 3461 `ORCPT` as it came (`rfc822;xtext`), at most [`ORCPT_BYTES_MAX`].
    pub orcpt: Option<Box<str>>,
}

impl Recipient {
    /// A recipient without DSN parameters.
    #[must_use]
    pub fn new(forward_path: ForwardPath) -> Self {
        Self {
            forward_path,
            notify: Notify::Unspecified,
            orcpt: None,
        }
    }
}

/// RFC 4865: not before this time. Where the clock is set, a moment that the sender named
/// (HOLDUNTIL) is met by the clock as it is then; a time that is to pass (HOLDFOR) passes all
/// the same, so that its end is another moment by that clock.
///
/// Which of the two it is stands in the time itself, and so on the disk, too: a moment is named
/// to the second, and the end of a time is at no whole second.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct HoldUntil(WallTime);

impl HoldUntil {
    /// HOLDUNTIL. What is less than a second is waited for.
    #[must_use]
    pub fn moment(at: WallTime) -> Self {
        let seconds = (at + Duration::from_millis(999)).as_seconds();
        Self(WallTime::from_millis(seconds.saturating_mul(1000)))
    }

    /// HOLDFOR: the end of a time that began at another.
    #[must_use]
    pub fn end(at: WallTime) -> Self {
        let is_whole = at.as_millis().rem_euclid(1000) == 0;
        Self(at + Duration::from_millis(u64::from(is_whole)))
    }

    /// As it was written.
    #[must_use]
    pub const fn stored(at: WallTime) -> Self {
        Self(at)
    }

    /// When that was, by the clock at the arrival.
    #[must_use]
    pub const fn at(self) -> WallTime {
        self.0
    }

    /// Whether the sender named it, whatever the clock said then.
    #[must_use]
    pub const fn is_moment(self) -> bool {
        self.0.as_millis().rem_euclid(1000) == 0
    }
}

/// Everything MAIL said.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Sender {
    /// Whom to tell.
    pub reverse_path: ReversePath,
    /// RFC 6152.
    pub body: BodyKind,
    /// RFC 6531: addresses or header fields hold UTF-8.
    pub smtputf8: bool,
    /// RFC 3461 `RET`.
    pub ret: Option<Ret>,
    /// RFC 3461 `ENVID` as it came (xtext), at most [`ENVID_BYTES_MAX`].
    pub envid: Option<Box<str>>,
    /// RFC 6710; `None` where the client said nothing.
    pub priority: Option<Priority>,
    /// RFC 2852.
    pub deliver_by: Option<DeliverBy>,
    /// RFC 4865.
    pub hold_until: Option<HoldUntil>,
    /// RFC 8689.
    pub require_tls: bool,
    /// When another server of this machine took it, whose queue is brought here.
    pub arrival: Option<WallTime>,
}

impl Sender {
    /// A sender without parameters.
    #[must_use]
    pub fn new(reverse_path: ReversePath) -> Self {
        Self {
            reverse_path,
            body: BodyKind::SevenBit,
            smtputf8: false,
            ret: None,
            envid: None,
            priority: None,
            deliver_by: None,
            hold_until: None,
            require_tls: false,
            arrival: None,
        }
    }
}

/// Reverse-path, forward-paths and their ESMTP parameters.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Envelope {
    /// What MAIL said.
    pub sender: Sender,
    /// What the accepted RCPTs said, in their order. Never empty once spooled.
    pub recipients: Vec<Recipient>,
}

/// Which recipient of a message: its place in [`Envelope::recipients`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RecipientIndex(pub u32);
