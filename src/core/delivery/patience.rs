//! How long a host may keep a connection from other mail.
//!
//! RFC 5321 §4.5.3.2 gives a host five minutes for most replies, and as long as nobody else
//! wants the connection it gets them. Where other mail waits, two hundred hosts that accept
//! and say nothing would keep it waiting for most of an hour, each time that they are tried.
//! So there a host has [`PATIENCE`] for a reply, and twice as long each time that it has
//! failed in a row: a slow one is given all its time in the end, before its mail is given
//! up. Behind that, a part of all connections is kept from those that failed last
//! ([`crate::queue::Permits::try_probe`]).
//!
//! Never given up so is a message whose content is on its way: it would be sent twice.

use std::time::Duration;

use super::errand::Errand;
use super::{Delivery, Hunger};
use crate::core::common::Common;
use crate::smtp::client::Input;
use crate::spool::message::SegmentSource;
use crate::time::{Instant, Now};

/// For a reply of a host that did not fail last, or for the connection to it. SYN is
/// repeated four times in it; servers that greet late on purpose do after five seconds or
/// ten.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Failures that count: sixteen times as long is as long as RFC 5321 asks for.
const DOUBLINGS_MAX: u32 = 4;

/// Between two looks whether others wait.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    of_reply: Duration,
    /// Nobody waited then.
    not_before: Instant,
}

impl Patience {
    /// With a host that has failed so often in a row.
    pub(super) fn after(failures: u16) -> Self {
        let doublings = u32::from(failures).min(DOUBLINGS_MAX);
        Self {
            of_reply: PATIENCE * 2_u32.pow(doublings),
            not_before: Instant::START,
        }
    }
}

impl Delivery {
    /// When [`Delivery::timer`] is due. A session that waits for work has none of its
    /// own: the schedule says when it has waited long enough.
    pub(in crate::core) fn deadline(&self) -> Option<Instant> {
        if self.hunger == Hunger::Waiting && self.jobs.is_empty() {
            return None;
        }
        let ends = [self.client.deadline(), self.patience_ends()];
        ends.into_iter().flatten().min()
    }

    /// When it is to be seen whether others wait.
    fn patience_ends(&self) -> Option<Instant> {
        let Errand::Ours { .. } = self.errand else {
            return None;
        };
        let since = self.client.waits_since()?;
        Some((since + self.patience.of_reply).max(self.patience.not_before))
    }

    /// Gives the connection up if that time has come and others want it.
    pub(super) fn give_way(&mut self, now: Now, common: &mut Common, spool: &impl SegmentSource) {
        let Errand::Ours { connection, .. } = self.errand else {
            return;
        };
        if (self.patience_ends()).is_none_or(|ends| ends > now.instant) {
            return;
        }
        if common.queue.is_wanted_by_others(connection) {
            self.say(now, common, spool, Input::GiveWay);
        } else {
            self.patience.not_before = now.instant + LOOK_AGAIN;
        }
    }
}
