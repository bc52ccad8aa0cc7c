//! What became of a recipient, in the words of a notification and for people; and the
//! status code beside it.

use std::fmt;

use crate::mail::Notify;

/// What is reported of a recipient (RFC 3464 §2.3.3).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Action {
    /// Given up.
    Failed,
    /// Not yet delivered; it goes on.
    Delayed,
    /// Handed to a host that will not report.
    Relayed,
    /// In the mailbox.
    Delivered,
}

impl Action {
    pub(super) const ALL: [Self; 4] = [Self::Failed, Self::Delayed, Self::Relayed, Self::Delivered];

    /// As in the Action field.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Delayed => "delayed",
            Self::Relayed => "relayed",
            Self::Delivered => "delivered",
        }
    }

    /// Whether the sender wants to hear of it (RFC 3461 §4.1, §5.2).
    #[must_use]
    pub const fn is_wanted(self, notify: Notify) -> bool {
        match self {
            Self::Failed => notify.failure(),
            Self::Delayed => notify.delay(),
            Self::Relayed | Self::Delivered => notify.success(),
        }
    }

    pub(super) const fn subject(self) -> &'static str {
        match self {
            Self::Failed => "Your message could not be delivered",
            Self::Delayed => "Your message is delayed",
            Self::Relayed => "Your message was passed on",
            Self::Delivered => "Your message was delivered",
        }
    }

    pub(super) const fn paragraph(self) -> &'static str {
        match self {
            Self::Failed => {
                "Your message could not be delivered to the following recipients. It will not \
                 be tried again. The reason stands below each address."
            }
            Self::Delayed => {
                "Your message has not yet been delivered to the following recipients. You need \
                 not send it again: delivery is still being tried, and you will be told if it \
                 fails for good."
            }
            Self::Relayed => {
                "Your message was passed on for the following recipients to a mail system that \
                 does not confirm deliveries. You will hear no more of it unless it fails."
            }
            Self::Delivered => "Your message was delivered to the following recipients.",
        }
    }
}

/// A status code (RFC 3463 §2).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Status {
    class: u8,
    subject: u16,
    detail: u16,
}

impl Status {
    /// `None` if the class is not 2, 4 or 5, or a part has more than three digits.
    #[must_use]
    pub const fn new(class: u8, subject: u16, detail: u16) -> Option<Self> {
        if matches!(class, 2 | 4 | 5) && subject <= 999 && detail <= 999 {
            Some(Self {
                class,
                subject,
                detail,
            })
        } else {
            None
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.class, self.subject, self.detail)
    }
}
