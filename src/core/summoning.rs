//! Wake-up mail: a message by which a site tells its provider that it is on line.
//!
//! It goes through the queue like any other: over the connection, and often in the same
//! round trips, by which the site's own mail leaves. A session of its own would cost a
//! link the most. It is put into the spool when the link is there, so that it goes at once.
//!
//! Invariants:
//!
//! - Each [`Summons`] is answered by one [`Run`], when the message is on stable storage or
//!   never will be.
//! - While one waits in the queue no second one joins it: a provider that cannot be
//!   reached for a day is not woken a hundred times then.

use std::sync::Arc;

use crate::core::ControlNotice;
use crate::core::collector::{Behind, Next, Run, RunId};
use crate::core::common::{Common, Waiting};
use crate::core::incoming::Incoming;
use crate::mail::{
    Address, BodyForm, Envelope, ForwardPath, Notify, QueueId, Receipt as _, Recipient,
    ReversePath, Sender,
};
use crate::report::collecting::Tally;
use crate::spool::commit::Committed;
use crate::spool::message::BodyFacts;
use crate::time::Now;

/// Where a wake-up message goes, and from whom.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Letter {
    /// The provider's address.
    pub to: Address,
    /// Ours, by which a provider may know us.
    pub from: Address,
}

/// Send a wake-up message.
#[derive(Clone, Debug)]
pub struct Summons {
    /// To be answered with.
    pub run: RunId,
    /// To whom.
    pub letter: Arc<Letter>,
}

impl Common {
    /// Puts a wake-up message into the spool.
    pub(super) fn summon(&mut self, now: Now, summons: &Summons) {
        let Summons { run, letter } = summons;
        let run = *run;
        let last = self.last_letter(letter);
        let refusal = if self.is_stopping() {
            Some("the server is stopping".to_owned())
        } else if let Some(last) = last.filter(|last| self.queue.index().get(*last).is_some()) {
            let to = &letter.to;
            Some(format!(
                "the last message to {to}, {last}, still waits here"
            ))
        } else {
            self.write_letter(now, run, letter).err()
        };
        if let Some(why) = refusal {
            self.tell_control(ControlNotice::Collected(Box::new(Run::failed(run, why))));
        }
    }

    /// It is on stable storage, or never will be.
    pub(super) fn summoned(&mut self, run: RunId, receipt: Option<&Committed>) {
        let run = Run {
            id: run,
            tally: Tally::default(),
            said: receipt.map(|receipt| format!("message {} is on its way", receipt.queue_id())),
            behind: match receipt {
                Some(_) => Behind::Perhaps,
                None => Behind::Nothing,
            },
            failure: match receipt {
                Some(_) => None,
                None => Some((Next::Usual, "the spool cannot be written".to_owned())),
            },
            login_delay: None,
        };
        self.tell_control(ControlNotice::Collected(Box::new(run)));
    }

    fn last_letter(&self, letter: &Arc<Letter>) -> Option<QueueId> {
        let mut all = self.letters.iter();
        all.find(|(to, _)| *to == letter.to).map(|(_, id)| *id)
    }

    fn write_letter(&mut self, now: Now, run: RunId, letter: &Letter) -> Result<(), String> {
        let Letter { to, from } = letter;
        let mut sender = Sender::new(ReversePath::Address(from.clone()));
        sender.smtputf8 = !(to.is_ascii() && from.is_ascii());
        let mut recipient = Recipient::new(ForwardPath(to.clone()));
        // Nobody reads that it came too late: the next one says the same.
        recipient.notify = Notify::Never;
        let envelope = Envelope {
            sender,
            recipients: vec![recipient],
        };
        let full = |refused| format!("the spool takes no more: {refused}");
        let begun = Incoming::begin(now, &mut self.log, envelope, None, None);
        let mut incoming = begun.map_err(full)?;
        let queue_id = incoming.queue_id();
        let hostname = &self.settings.hostname;
        let text = format!(
            "From: <{from}>\r\nTo: <{to}>\r\nSubject: {hostname} is on line\r\nDate: {date}\r\n\
             Message-ID: <{queue_id}.{millis}@{hostname}>\r\nAuto-Submitted: auto-generated\r\n\
             \r\nThis host is on line now. Please send what you hold for it.\r\n",
            date = now.wall.rfc5322(),
            millis = now.wall.as_millis(),
        );
        if let Err(refused) = incoming.append(now, &mut self.log, text.as_bytes()) {
            incoming.abandon(&mut self.log);
            return Err(full(refused));
        }
        let body = BodyFacts {
            form: BodyForm::Plain,
            ends_with_crlf: true,
            eight_bit: !text.is_ascii(),
        };
        let sealed = self.seal(now, incoming, body, Waiting::Summons(run));
        sealed.map_err(|(refused, _)| full(refused))?;
        self.letters.retain(|(other, _)| other != to);
        self.letters.push((to.clone(), queue_id));
        Ok(())
    }
}
