//! What is asked about the log.

use serde::{Deserialize, Serialize};

/// Most sessions that one transcript is of.
pub const TRANSCRIPT_SESSIONS_MAX: u32 = 100;

/// Longest time that a transcript waits for its sessions: a day.
pub const TRANSCRIPT_SECONDS_MAX: u64 = 86_400;

/// What is to be switched; what is not given stays.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogDetailChange {
    /// Commands and replies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub smtp: Option<bool>,
    /// Questions and answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns: Option<bool>,
    /// Steps of the link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<bool>,
}

/// Which components write more detail.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct LogDetail {
    /// Commands and replies.
    pub smtp: bool,
    /// Questions and answers.
    pub dns: bool,
    /// Steps of the link.
    pub link: bool,
}

impl LogDetail {
    /// With what is to be switched.
    #[must_use]
    pub fn with(self, change: LogDetailChange) -> Self {
        Self {
            smtp: change.smtp.unwrap_or(self.smtp),
            dns: change.dns.unwrap_or(self.dns),
            link: change.link.unwrap_or(self.link),
        }
    }
}

/// Which sessions are to be recorded in the log, line by line.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LogTranscript {
    /// An address of a client or a host, or the name of a host that mail goes to or is
    /// collected from.
    pub peer: String,
    /// The next ones, so many; 1 to [`TRANSCRIPT_SESSIONS_MAX`].
    pub sessions: u32,
    /// Those that begin within this time; 1 to [`TRANSCRIPT_SECONDS_MAX`].
    pub seconds: u64,
}

impl LogTranscript {
    pub(super) fn limits(&self) -> Result<(), String> {
        if !(1..=TRANSCRIPT_SESSIONS_MAX).contains(&self.sessions) {
            return Err(format!(
                "a transcript has 1 to {TRANSCRIPT_SESSIONS_MAX} sessions"
            ));
        }
        if !(1..=TRANSCRIPT_SECONDS_MAX).contains(&self.seconds) {
            return Err(format!(
                "a transcript has 1 to {TRANSCRIPT_SECONDS_MAX} seconds"
            ));
        }
        Ok(())
    }
}
