//! Mail that comes to its end without a host: its next hop does not exist, its route throws
//! it away, or it goes into files.
//!
//! The schedule gives a connection for it like for any other. Of its messages some end in a
//! turn; then the connection is closed, and the schedule asks for one again.
//!
//! Invariants:
//! - At most [`ENDED_AT_ONCE`] messages end so in a turn, of all next hops together: the
//!   mail of a dead domain, however much it is, does not keep the core from everything else.
//! - None ends while the log has more than the disk takes: each may be a notification, and
//!   these do not gather in memory.
//!
//! What this module does not do: it does not say which next hops these are (`hosts`).

use std::collections::VecDeque;
use std::path::PathBuf;

use super::recipient_fact;
use crate::core::NoHost;
use crate::core::common::Common;
use crate::core::notifying::{Reason, Told};
use crate::queue::{self, RecipientOutcome as Verdict};
use crate::report::Ending;
use crate::spool::message::SegmentSource;
use crate::time::{Instant, Now};

/// Messages that end so in one turn: some milliseconds of a core.
const ENDED_AT_ONCE: usize = 256;

/// How the mail of a connection comes to its end.
pub(in crate::core) enum HostlessEnd {
    /// It goes into the Maildirs of this path.
    Maildir(PathBuf),
    /// It is thrown away by route.
    Discarded,
    /// It can never be delivered.
    Never {
        /// Why, in numbers.
        reason: NoHost,
        /// In words.
        why: String,
    },
}

/// Connections whose mail is to end. As many as the schedule gives at a time.
#[derive(Default)]
pub(in crate::core) struct Hostless(VecDeque<(queue::ConnectionId, HostlessEnd)>);

impl Hostless {
    /// One more.
    pub(in crate::core) fn push(&mut self, connection: queue::ConnectionId, end: HostlessEnd) {
        self.0.push_back((connection, end));
    }
}

impl Common {
    /// When [`Common::end_some`] is due: at once, or when the log takes more.
    pub(in crate::core) fn hostless_deadline(&self) -> Option<Instant> {
        (!self.hostless.0.is_empty() && !self.log.is_full()).then_some(Instant::START)
    }

    /// Ends some messages. False if there was nothing to end now.
    pub(in crate::core) fn end_some(&mut self, now: Now, spool: &impl SegmentSource) -> bool {
        let mut left = ENDED_AT_ONCE;
        let mut moved = false;
        while left > 0
            && !self.log.is_full()
            && let Some((connection, end)) = self.hostless.0.pop_front()
        {
            moved = true;
            let ended = match end {
                HostlessEnd::Maildir(path) => {
                    self.fill_maildir(now, spool, connection, &path, left)
                }
                HostlessEnd::Discarded => self.end_all(now, spool, connection, None, left),
                HostlessEnd::Never { reason, why } => {
                    self.end_all(now, spool, connection, Some((reason, &why)), left)
                }
            };
            left = left.saturating_sub(ended.max(1));
        }
        moved
    }

    /// Mail of a connection fails for the same reason, or without one is thrown away as its
    /// route says. Gives how many messages were taken.
    fn end_all(
        &mut self,
        now: Now,
        spool: &impl SegmentSource,
        connection: queue::ConnectionId,
        failure: Option<(NoHost, &str)>,
        at_most: usize,
    ) -> usize {
        let mut taken = 0;
        while taken < at_most
            && !self.log.is_full()
            && let queue::Take::Job(job) = self.queue.take(now, connection)
        {
            taken += 1;
            let Some((mut active, job)) = self.load(now, spool, job) else {
                continue;
            };
            let age = now.wall.since(active.stored.arrival);
            for (index, recipient) in &job.recipients {
                let (verdict, ending, why) = match failure {
                    Some((no_host, why)) => {
                        self.counters.recipients_failed += 1;
                        active.failed.push(Told {
                            index: *index,
                            reason: Reason::no_host(no_host, why),
                        });
                        (Verdict::Failed, Ending::Failed, why)
                    }
                    None => (Verdict::Delivered, Ending::Discarded, ""),
                };
                active.verdicts.push((*index, verdict));
                let fact = recipient_fact(&active, recipient, ending, "", why.to_owned(), age);
                self.report(fact);
            }
            let reading = self.job_over(now, spool, active);
            self.take_back(reading);
        }
        self.queue.connection_closed(now, connection);
        taken
    }
}
