//! By what a fact is found: its name, how loud it is, the message that it is about.

use super::collecting::Collected;
use super::{Ending, Fact, Level};
use crate::mail::QueueId;

impl Fact {
    /// The name that filters and alarms hang on. It never changes.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Started { .. } => "started",
            Self::Recovered { .. } => "spool-recovered",
            Self::SpoolDamaged { .. } => "spool-damaged",
            Self::LogClosed { .. } => "log-closed",
            Self::SegmentFailed { .. } => "segment-failed",
            Self::Room { full: Some(_), .. } => "spool-full",
            Self::Room { full: None, .. } => "spool-has-room",
            Self::TurnedAway { .. } => "client-turned-away",
            Self::Turned { .. } => "turned",
            Self::TurnOver { .. } => "turn-over",
            Self::Awaited { .. } => "awaited",
            Self::PutOff { .. } => "collecting-put-off",
            Self::Pruned(_) => "copies-removed",
            Self::SessionEnded { .. } => "session-ended",
            Self::Refused { .. } => "refused",
            Self::LoggedIn { .. } => "authenticated",
            Self::LoginFailed { .. } => "authentication-failed",
            Self::LoginsBanned { .. } => "client-banned",
            Self::Accepted { .. } => "accepted",
            Self::Collected(run) => run.fact_name(),
            Self::Recipient {
                ending: Ending::Delivered,
                ..
            } => "delivered",
            Self::Recipient {
                ending: Ending::Deferred,
                ..
            } => "deferred",
            Self::Recipient {
                ending: Ending::Failed,
                ..
            } => "failed",
            Self::Recipient {
                ending: Ending::Discarded,
                ..
            } => "discarded",
            Self::Finished { .. } => "finished",
            Self::Notified { .. } => "sender-notified",
            Self::Unreachable { .. } => "next-hop-unreachable",
            Self::Reachable { .. } => "next-hop-reachable",
            Self::LoginRefused { .. } => "login-refused",
            Self::DeliveryBroken { .. } => "delivery-broken",
            Self::TlsGivenUp { .. } => "tls-given-up",
            Self::CertificateEnds { .. } => "certificate-ends",
            Self::Release { .. } => "release",
            Self::ReleasesRefused(_) => "releases-refused",
            Self::ReleaseEnded { .. } => "release-ended",
            Self::Detail(detail) => detail.name(),
            Self::Steered { .. } => "steered",
            Self::Configured { .. } => "configured",
            Self::ConfigurationRefused { .. } => "configuration-refused",
            Self::Stopping { .. } => "stopping",
            Self::Stopped { .. } => "stopped",
            Self::RecipientsLoaded { .. } => "recipients-loaded",
            Self::QueueSteered { .. } => "queue-steered",
            Self::WebPage { .. } => "web-page",
            Self::Link { fact, .. } => fact.name(),
            Self::Trouble { .. } => "trouble",
        }
    }

    /// How loud it is.
    #[must_use]
    pub const fn level(&self) -> Level {
        match self {
            Self::Link { fact, .. } => fact.level(),
            Self::Awaited { awaited, .. } if awaited.is_trouble() => Level::Warning,
            Self::Awaited { .. } => Level::Info,
            Self::Finished { .. } | Self::Detail(_) => Level::Detail,
            Self::Started { .. }
            | Self::Recovered { .. }
            | Self::Refused { .. }
            | Self::LoggedIn { .. }
            | Self::LoginFailed { .. }
            | Self::Accepted { .. }
            | Self::Collected(Collected { failure: None, .. })
            | Self::Turned { .. }
            | Self::TurnOver { trouble: None, .. }
            | Self::PutOff { .. }
            | Self::Pruned(_)
            | Self::SessionEnded { .. }
            | Self::Recipient { .. }
            | Self::Notified { .. }
            | Self::Reachable { .. }
            | Self::Release { .. }
            | Self::ReleasesRefused(_)
            | Self::ReleaseEnded { .. }
            | Self::Steered { .. }
            | Self::Configured { .. }
            | Self::RecipientsLoaded { .. }
            | Self::QueueSteered { .. }
            | Self::WebPage { .. }
            | Self::Stopping { .. }
            | Self::Stopped { clean: true }
            | Self::Room { full: None, .. } => Level::Info,
            Self::TurnedAway { .. }
            | Self::Collected(_)
            | Self::LoginsBanned { .. }
            | Self::Room { .. }
            | Self::Unreachable { .. }
            | Self::LoginRefused { .. }
            | Self::DeliveryBroken { .. }
            | Self::TlsGivenUp { .. }
            | Self::CertificateEnds { .. }
            | Self::TurnOver { .. }
            | Self::Stopped { clean: false }
            | Self::Trouble { .. } => Level::Warning,
            Self::SpoolDamaged { .. }
            | Self::LogClosed { .. }
            | Self::SegmentFailed { .. }
            | Self::ConfigurationRefused { .. } => Level::Error,
        }
    }

    /// Whether it is about the server as a whole and happens rarely: worth a line where
    /// an operator looks first. Not what each message or each bad client brings.
    #[must_use]
    pub const fn is_event(&self) -> bool {
        match self {
            Self::TurnedAway { .. }
            | Self::SessionEnded { .. }
            | Self::Refused { .. }
            | Self::LoggedIn { .. }
            | Self::LoginFailed { .. }
            | Self::Accepted { .. }
            | Self::Recipient { .. }
            | Self::Finished { .. }
            | Self::Notified { .. }
            | Self::Detail(_)
            | Self::Steered { .. }
            | Self::DeliveryBroken { .. }
            | Self::PutOff { .. }
            | Self::Pruned(_)
            | Self::ReleasesRefused(_)
            | Self::RecipientsLoaded { .. } => false,
            Self::Started { .. }
            | Self::Recovered { .. }
            | Self::SpoolDamaged { .. }
            | Self::LogClosed { .. }
            | Self::SegmentFailed { .. }
            | Self::Room { .. }
            | Self::Turned { .. }
            | Self::TurnOver { .. }
            | Self::Awaited { .. }
            | Self::LoginsBanned { .. }
            | Self::Collected(_)
            | Self::Unreachable { .. }
            | Self::Reachable { .. }
            | Self::LoginRefused { .. }
            | Self::TlsGivenUp { .. }
            | Self::CertificateEnds { .. }
            | Self::Release { .. }
            | Self::ReleaseEnded { .. }
            | Self::Configured { .. }
            | Self::ConfigurationRefused { .. }
            | Self::Stopping { .. }
            | Self::Stopped { .. }
            | Self::QueueSteered { .. }
            | Self::WebPage { .. }
            | Self::Link { .. }
            | Self::Trouble { .. } => true,
        }
    }

    /// Whether a fact of the level detail is made only where somebody asked for it, and so
    /// is written.
    #[must_use]
    pub const fn is_wanted_detail(&self) -> bool {
        matches!(self, Self::Detail(_))
    }

    /// The message it is about, for one field of its own in the log.
    #[must_use]
    pub const fn queue_id(&self) -> Option<QueueId> {
        match self {
            Self::Accepted { queue_id, .. }
            | Self::Recipient { queue_id, .. }
            | Self::Finished { queue_id }
            | Self::Notified { queue_id, .. }
            | Self::Steered { queue_id, .. } => Some(*queue_id),
            _ => None,
        }
    }
}
