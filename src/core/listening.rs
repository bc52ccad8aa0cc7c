//! Which sessions are recorded for the operator.
//!
//! All of them with `log.detail.smtp`; else those with a peer whose transcript was asked
//! for, until enough of them were recorded or its time is over. A session is recorded
//! from its first line or not at all.
//!
//! Invariant: what is asked for ends by itself: nobody forgets a transcript that runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::core::admin::LogDetail;
use crate::time::Instant;

/// Transcripts at once. The oldest makes room.
const WANTED_MAX: usize = 16;

/// Sessions of this peer are to be recorded.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// An address, or the name of a host that mail goes to or is collected from.
    pub peer: Arc<str>,
    /// How many more, on all cores together.
    pub left: Arc<AtomicU32>,
    /// Not those that begin later.
    pub until: Instant,
}

/// What is recorded from now on.
#[derive(Clone, Debug)]
pub enum Hear {
    /// This.
    Detail(LogDetail),
    /// These sessions too.
    Transcript(Wanted),
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Listening {
    pub(super) detail: LogDetail,
    wanted: Vec<Wanted>,
}

impl Listening {
    /// Nothing is recorded: asked at the beginning of each session.
    pub(super) const fn is_off(&self) -> bool {
        !self.detail.smtp && self.wanted.is_empty()
    }

    /// One more transcript is asked for.
    pub(super) fn want(&mut self, wanted: Wanted) {
        if self.wanted.len() >= WANTED_MAX {
            self.wanted.remove(0);
        }
        self.wanted.push(wanted);
    }

    /// Whether a session that begins now is recorded. `names` are those of its peer.
    pub(super) fn hears<'a>(
        &mut self,
        now: Instant,
        names: impl IntoIterator<Item = &'a str> + Clone,
    ) -> bool {
        if self.detail.smtp {
            return true;
        }
        self.wanted
            .retain(|wanted| wanted.until > now && wanted.left.load(Ordering::Relaxed) > 0);
        self.wanted.iter().any(|wanted| {
            let mut names = names.clone().into_iter();
            names.any(|name| name.eq_ignore_ascii_case(&wanted.peer))
                && (wanted.left)
                    .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                        left.checked_sub(1)
                    })
                    .is_ok()
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_transcript_ends_by_count_and_by_time() {
        let start = Instant::START;
        let later = start + Duration::from_secs(60);
        let mut here = Listening::default();
        let mut there = Listening::default();
        assert!(!here.hears(start, ["192.0.2.1"]));
        let wanted = Wanted {
            peer: "mail.example".into(),
            left: Arc::new(AtomicU32::new(2)),
            until: later,
        };
        here.want(wanted.clone());
        there.want(wanted);
        assert!(!here.hears(start, ["192.0.2.1"]));
        assert!(here.hears(start, ["192.0.2.1", "Mail.Example"]));
        assert!(there.hears(start, ["mail.example"]));
        assert!(!here.hears(start, ["mail.example"]), "two on both cores");
        here.want(Wanted {
            peer: "192.0.2.1".into(),
            left: Arc::new(AtomicU32::new(2)),
            until: later,
        });
        assert!(!here.hears(later, ["192.0.2.1"]), "its time is over");
        here.detail.smtp = true;
        assert!(here.hears(later, ["192.0.2.9"]));
    }
}
