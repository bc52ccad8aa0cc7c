//! Mail that goes into Maildirs: a message at a time for each connection that the
//! schedule gives out, written by the control core's helper threads.
//!
//! A data core never waits for a file of a mailbox. It names the octets of the spool;
//! their segments are lent until the answer comes, so that they are neither forgotten
//! nor used again. The answer is one for each mailbox, and comes when the message is
//! there for good.
//!
//! Whatever is wrong with a mailbox is the operator's to mend: its mail waits, and the
//! log says why. Only an address that no mailbox can have fails.

use std::ops::Range;
use std::path::{Path, PathBuf};

use hashbrown::HashMap;
use spool_format::SegmentPlace;

use crate::core::ControlNotice;
use crate::core::common::Common;
use crate::core::notifying::{Reason, Told};
use crate::core::outcome::hostless::HostlessEnd;
use crate::core::outcome::{Active, recipient_fact};
use crate::mail::{BodyForm, RecipientIndex};
use crate::maildir::{self, NoMailbox};
use crate::queue::notification::Action;
use crate::queue::{ConnectionId, RecipientOutcome as Verdict, Take};
use crate::report::Ending;
use crate::spool::message::SegmentSource;
use crate::time::Now;

/// A file that is to come to be in a Maildir.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MailboxFile {
    /// The Maildir.
    pub directory: PathBuf,
    /// Under `tmp/` and `new/`; the same at each try.
    pub name: String,
    /// What stands above the text.
    pub header: Vec<u8>,
}

/// A message for one or more Maildirs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mail {
    /// One for each mailbox. Never empty.
    pub files: Vec<MailboxFile>,
    /// The text, in the spool.
    pub extents: Vec<(SegmentPlace, Range<u32>)>,
    /// How it is stored.
    pub form: BodyForm,
}

/// A message that is being written.
pub(super) struct Writing {
    active: Active,
    path: PathBuf,
    /// Who shares each file, in the order of [`Mail::files`].
    sharers: Vec<Vec<RecipientIndex>>,
}

/// What is being written, by the connection of the schedule that it is for.
pub(super) type Writings = HashMap<ConnectionId, Writing>;

impl Common {
    /// Lets the next message of a connection be written, or ends the connection. Gives how
    /// many messages were taken for that.
    pub(super) fn fill_maildir(
        &mut self,
        now: Now,
        spool: &impl SegmentSource,
        connection: ConnectionId,
        path: &Path,
        at_most: usize,
    ) -> usize {
        let mut taken = 0;
        while taken < at_most
            && let Take::Job(job) = self.queue.take(now, connection)
        {
            taken += 1;
            let Some((mut active, job)) = self.load(now, spool, job) else {
                continue;
            };
            let mut files: Vec<MailboxFile> = Vec::new();
            let mut sharers: Vec<Vec<RecipientIndex>> = Vec::new();
            for (index, recipient) in &job.recipients {
                match maildir::directory(path, recipient.forward_path.address()) {
                    Err(why) => self.no_mailbox(now, &mut active, *index, why),
                    Ok(directory) => {
                        match files.iter().position(|file| file.directory == directory) {
                            Some(at) => sharers[at].push(*index),
                            None => {
                                sharers.push(vec![*index]);
                                files.push(MailboxFile {
                                    directory,
                                    name: maildir::file_name(
                                        active.stored.arrival,
                                        active.stored.queue_id,
                                        *index,
                                        &self.settings.hostname,
                                    ),
                                    header: Vec::new(),
                                });
                            }
                        }
                    }
                }
            }
            if files.is_empty() {
                let reading = self.job_over(now, spool, active);
                self.take_back(reading);
                continue;
            }
            let envelope = &active.stored.envelope;
            for (file, sharers) in files.iter_mut().zip(&sharers) {
                let recipients = sharers
                    .iter()
                    .map(|index| envelope.recipients[index.0 as usize].forward_path.address());
                file.header = maildir::header(&envelope.sender.reverse_path, recipients);
            }
            let mail = Mail {
                files,
                extents: active.places().collect(),
                form: active.stored.body.form,
            };
            let path = path.to_owned();
            self.writings.insert(
                connection,
                Writing {
                    active,
                    path,
                    sharers,
                },
            );
            let core = self.id;
            self.tell_control(ControlNotice::WriteMaildir {
                core,
                connection,
                mail,
            });
            return taken;
        }
        self.queue.connection_closed(now, connection);
        taken
    }

    /// The control core has written a message, or could not.
    pub(super) fn maildir_written(
        &mut self,
        now: Now,
        spool: &impl SegmentSource,
        connection: ConnectionId,
        written: &[Result<(), String>],
    ) {
        // At a stop that got late nobody waits for it any more.
        let Some(writing) = self.writings.remove(&connection) else {
            return;
        };
        let Writing {
            mut active,
            path,
            sharers,
        } = writing;
        assert_eq!(written.len(), sharers.len(), "an answer for each mailbox");
        for (result, sharers) in written.iter().zip(sharers) {
            for index in sharers {
                self.mailbox_answer(now, &mut active, index, result);
            }
        }
        let reading = self.job_over(now, spool, active);
        self.take_back(reading);
        // When its turn comes: of what nobody has a mailbox for, all ends at once.
        self.hostless.push(connection, HostlessEnd::Maildir(path));
    }

    fn mailbox_answer(
        &mut self,
        now: Now,
        active: &mut Active,
        index: RecipientIndex,
        result: &Result<(), String>,
    ) {
        let recipient = &active.stored.envelope.recipients[index.0 as usize];
        let age = now.wall.since(active.stored.arrival);
        let (ending, verdict, why) = match result {
            Ok(()) => {
                self.counters.recipients_delivered += 1;
                (Ending::Delivered, Verdict::Delivered, String::new())
            }
            Err(why) => {
                self.counters.recipients_deferred += 1;
                (Ending::Deferred, Verdict::Deferred, why.clone())
            }
        };
        let wants = recipient.notify.success();
        let fact = recipient_fact(active, recipient, ending, "", why, age);
        self.report(fact);
        if wants && verdict == Verdict::Delivered {
            let reason = Reason::in_the_mailbox();
            active.succeeded.push(Told { index, reason });
            active.success = Action::Delivered;
        }
        active.verdicts.push((index, verdict));
    }

    fn no_mailbox(&mut self, now: Now, active: &mut Active, index: RecipientIndex, why: NoMailbox) {
        self.counters.recipients_failed += 1;
        let recipient = &active.stored.envelope.recipients[index.0 as usize];
        let age = now.wall.since(active.stored.arrival);
        let fact = recipient_fact(active, recipient, Ending::Failed, "", why.to_string(), age);
        self.report(fact);
        active.verdicts.push((index, Verdict::Failed));
        let reason = Reason::no_mailbox(&why.to_string());
        active.failed.push(Told { index, reason });
    }
}
