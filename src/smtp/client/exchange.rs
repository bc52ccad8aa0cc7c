//! The mail part of a session: jobs become transactions, transactions become command
//! lines, replies become outcomes.
//!
//! Flow (RFC 2920, RFC 3030):
//! - only the newest transaction is still being said; those before it wait for answers;
//! - without PIPELINING nothing is said while an answer is missing;
//! - DATA is the last of its group: nothing is said behind it until it is answered.
//!   The content and all that follows it begin the next group, so that with a job at
//!   hand the steady state is {content, MAIL, RCPT, DATA}: one round trip a message;
//! - BDAT goes with its content as soon as the answers to RCPT are in, and before them
//!   while the settings allow so many octets to go blind; to a peer that offers
//!   [flights](crate::smtp::flight) while contents before it are not answered, too;
//! - MAIL behind a BDAT that is not answered, or after anything that leaves the
//!   peer in a transaction, is preceded by RSET, since a failed BDAT leaves an
//!   indeterminate state (RFC 3030 §2).
//!
//! Invariants:
//! - `expected` is the sum of `unanswered` over the queue, and QUIT;
//! - each recipient of an open job is in `rest` or in one slot of the queue, and gets
//!   its one outcome when it leaves there;
//! - the next job is asked for once, and only when all earlier jobs are said.

mod early;
mod outcomes;

use std::collections::VecDeque;

use super::capabilities::Capabilities;
use super::commands;
use super::fault::{RecipientOutcome, SessionError};
use super::fitness::{self, Line};
use super::job::{BodyEnd, BodyFacts, Job, JobId, Outcome, Piece, Remaining, Transfer};
use super::settings::{Protocol, Purpose, Settings, Use};
use super::stage::Stage;
use super::transaction::{ContentCommand, Next, OpenJob, Room, Standing, Transaction};
use super::wire::Wire;
use super::{Channel, Output};
use crate::mail::{BodyForm, Recipient};
use crate::smtp::answer::{Answer, Class};
use crate::time::Now;

use outcomes::notifies;
pub(super) use outcomes::untried;

/// What the exchange works with but does not own.
pub(super) struct Hands<'a> {
    pub(super) settings: &'a Settings,
    pub(super) wire: &'a mut Wire,
    pub(super) facts: &'a mut VecDeque<Output>,
    pub(super) now: Now,
}

/// An answer that is awaited, and for what.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Expected {
    Reset,
    Mail,
    Rcpt(usize),
    Data,
    /// The end of data; in LMTP several answers.
    End,
    Quit,
}

impl Expected {
    const fn stage(self) -> Stage {
        match self {
            Self::Reset => Stage::Reset,
            Self::Mail => Stage::Mail,
            Self::Rcpt(_) => Stage::Rcpt,
            Self::Data => Stage::Data,
            Self::End => Stage::End,
            Self::Quit => Stage::Quit,
        }
    }
}

/// Whether the core was asked for a job.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Want {
    Nothing,
    Asked,
}

/// How the session is to end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ending {
    NotYet,
    /// QUIT when all is said.
    Wanted,
    /// QUIT is said.
    Said,
}

/// Whether commands may be said before the answers to earlier ones.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Pace {
    LockStep,
    Pipelined,
}

/// What an answer did to the session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Turnout {
    GoesOn,
    /// QUIT was answered.
    Over,
}

#[derive(Debug)]
pub(super) struct Exchange {
    peer: Capabilities,
    channel: Channel,
    pace: Pace,
    jobs: VecDeque<OpenJob>,
    queue: VecDeque<Transaction>,
    expected: VecDeque<Expected>,
    want: Want,
    ending: Ending,
    /// After the transaction that was over last.
    standing: Standing,
    /// MAIL commands so far.
    begun: u32,
    transactions_max: Option<u32>,
    recipients_max: usize,
}

impl Exchange {
    pub(super) fn new(peer: Capabilities, channel: Channel, settings: &Settings) -> Self {
        let pace = match (settings.pipelining, peer.pipelining) {
            (Use::WhenOffered, true) => Pace::Pipelined,
            (Use::Never, _) | (_, false) => Pace::LockStep,
        };
        let limits = peer.limits;
        let transactions_max = [settings.transactions_max, limits.mail_max]
            .into_iter()
            .flatten()
            .min()
            .map(|max| max.get());
        let recipients_max = match limits.rcpt_max {
            Some(max) => max.min(settings.recipients_max).get(),
            None => settings.recipients_max.get(),
        };
        Self {
            peer,
            channel,
            pace,
            jobs: VecDeque::new(),
            queue: VecDeque::new(),
            expected: VecDeque::new(),
            want: Want::Nothing,
            ending: Ending::NotYet,
            standing: Standing::Closed,
            begun: 0,
            transactions_max,
            recipients_max: recipients_max as usize,
        }
    }

    pub(super) const fn peer(&self) -> &Capabilities {
        &self.peer
    }

    /// Whether the host may have, or come to have, a content that it has not answered.
    pub(super) fn has_content_under_way(&self) -> bool {
        self.queue
            .iter()
            .any(|transaction| transaction.end.is_some())
    }

    /// What is waited for, octets on their way aside.
    pub(super) fn stage(&self) -> Stage {
        self.expected
            .front()
            .map_or(Stage::Idle, |expected| expected.stage())
    }

    /// The next job. The one that was asked for; or, where the session is ending
    /// already, it is given back at once.
    pub(super) fn deliver(&mut self, mut job: Job, hands: &mut Hands<'_>) {
        assert!(!job.recipients.is_empty(), "a job has recipients");
        if self.ending != Ending::NotYet {
            hands.facts.push_back(Output::Outcome(untried(job)));
            return;
        }
        assert_eq!(self.want, Want::Asked, "a job comes when it was asked for");
        self.want = Want::Nothing;
        let line = Line {
            channel: self.channel,
            identity: hands.settings.identity,
        };
        let unfit = fitness::take_unfit(&mut job, &self.peer, line, hands.now);
        if !unfit.is_empty() {
            let remaining = if job.recipients.is_empty() {
                Remaining::None
            } else {
                Remaining::Some
            };
            let outcome = self.outcome(job.id, unfit, remaining, hands.settings);
            hands.facts.push_back(outcome);
        }
        if !job.recipients.is_empty() {
            if self.peer.limits.rcpt_domain_max.is_some() {
                // So that each transaction can take its domains from the front.
                job.recipients
                    .sort_by(|(_, a), (_, b)| domain(a).cmp(domain(b)));
            }
            self.jobs.push_back(OpenJob {
                id: job.id,
                sender: job.sender,
                body: job.body,
                rest: job.recipients.into(),
                in_flight: 0,
            });
        }
        self.pump(hands);
    }

    /// No more jobs: QUIT when all is done.
    pub(super) fn quit(&mut self, hands: &mut Hands<'_>) {
        if self.ending == Ending::NotYet {
            self.ending = Ending::Wanted;
            self.want = Want::Nothing;
        }
        self.pump(hands);
    }

    /// Says all that may be said now.
    pub(super) fn pump(&mut self, hands: &mut Hands<'_>) {
        loop {
            if self.ending == Ending::Said
                || (self.pace == Pace::LockStep && !self.expected.is_empty())
            {
                return;
            }
            match self.queue.back().map(|newest| newest.next) {
                Some(Next::Answer) => return,
                None | Some(Next::Nothing) => {
                    if !self.begin(hands) {
                        break;
                    }
                }
                Some(next) => {
                    if !self.say(next, hands) {
                        return;
                    }
                }
            }
        }
        let unsent = hands.wire.unsent_bytes();
        if self.ending == Ending::Wanted {
            self.say_quit(hands);
        } else if self.want == Want::Nothing && unsent <= hands.settings.ahead_bytes_max {
            self.want = Want::Asked;
            hands.facts.push_back(Output::Want);
        }
    }

    /// Begins the next transaction, if there are recipients for one.
    fn begin(&mut self, hands: &mut Hands<'_>) -> bool {
        if self.transactions_max.is_some_and(|max| self.begun >= max) {
            self.give_back_rest(hands);
            self.ending = Ending::Wanted;
            return false;
        }
        let Some(place) = self.jobs.iter().position(|job| !job.rest.is_empty()) else {
            return false;
        };
        let job = &mut self.jobs[place];
        let command = if hands.settings.chunking == Use::WhenOffered
            && self.peer.chunking
            && job.body.form != BodyForm::Stuffed
        {
            ContentCommand::Bdat
        } else {
            ContentCommand::Data
        };
        // A content by DATA ends the transaction whatever its answer is.
        let open = match self.queue.back() {
            Some(before) => before.command == ContentCommand::Bdat,
            None => self.standing == Standing::Open,
        };
        let first = if open { Next::Reset } else { Next::Mail };
        let mut count = job.rest.len().min(self.recipients_max);
        if let Some(max) = self.peer.limits.rcpt_domain_max {
            let domains = job
                .rest
                .iter()
                .take(count)
                .map(|(_, recipient)| domain(recipient));
            count = prefix_of_domains(domains, max.get() as usize);
        }
        job.in_flight += 1;
        let recipients = job.rest.drain(..count);
        let transaction = Transaction::new(job.id, command, first, recipients);
        self.queue.push_back(transaction);
        self.begun += 1;
        true
    }

    /// Says the next command of the newest transaction. False if it must wait.
    fn say(&mut self, next: Next, hands: &mut Hands<'_>) -> bool {
        let may_go_blind = next == Next::Content && self.may_go_blind(hands.settings);
        let newest = self.queue.back_mut().expect("the caller looked at it");
        let job = open_job(&self.jobs, newest.job);
        let wire = &mut *hands.wire;
        let expected = match next {
            Next::Reset => {
                wire.command(|out| out.extend_from_slice(b"RSET\r\n"));
                newest.next = Next::Mail;
                Expected::Reset
            }
            Next::Mail => {
                let utf8 = newest
                    .slots
                    .iter()
                    .any(|slot| !slot.recipient.forward_path.address().is_ascii())
                    || !job.sender.reverse_path.is_ascii();
                let (sender, body, peer) = (&job.sender, &job.body, &self.peer);
                let now = hands.now.wall;
                wire.command(|out| commands::mail(out, sender, body, utf8, peer, now));
                newest.next = Next::Rcpt(0);
                Expected::Mail
            }
            Next::Rcpt(slot) => {
                let recipient = &newest.slots[slot].recipient;
                wire.command(|out| commands::rcpt(out, recipient, &self.peer));
                newest.next = if slot + 1 < newest.slots.len() {
                    Next::Rcpt(slot + 1)
                } else {
                    Next::Content
                };
                Expected::Rcpt(slot)
            }
            // No content follows: the last answer decides.
            Next::Content if hands.settings.purpose == Purpose::Ask && newest.unanswered > 0 => {
                return false;
            }
            Next::Content if newest.unanswered == 0 && newest.accepted == 0 => {
                // Nobody is left to send it to.
                newest.next = Next::Nothing;
                self.settle(hands);
                return true;
            }
            Next::Content => match newest.command {
                ContentCommand::Data => {
                    wire.command(|out| out.extend_from_slice(b"DATA\r\n"));
                    newest.next = Next::Answer;
                    Expected::Data
                }
                ContentCommand::Bdat => {
                    let octets = job.body.octets;
                    if newest.unanswered > 0 {
                        if !may_go_blind {
                            return false;
                        }
                        newest.blind_bytes = octets;
                    }
                    wire.octets(|out| commands::bdat_last(out, octets));
                    let body = whole(newest.job, &job.body, Transfer::AsStored);
                    newest.end = Some(wire.content(body, b""));
                    newest.next = Next::Nothing;
                    Expected::End
                }
            },
            Next::Answer | Next::Nothing => unreachable!("the caller looked at it"),
        };
        newest.unanswered += 1;
        self.expected.push_back(expected);
        true
    }

    /// Whether the content of the newest transaction may go before the answers to its
    /// RCPTs.
    fn may_go_blind(&self, settings: &Settings) -> bool {
        let newest = self.queue.back().expect("the caller looked at it");
        let contents = self.queue.iter().filter(|t| t.end.is_some()).count();
        let blind_bytes: u64 = self.queue.iter().map(|t| t.blind_bytes).sum();
        let octets = open_job(&self.jobs, newest.job).body.octets;
        let (contents_max, bytes_max) = match self.peer.flight {
            Some(taken) => (
                settings.flight_contents_max,
                settings.flight_bytes_max.min(taken.get()),
            ),
            None => (settings.blind_contents_max, settings.blind_bytes_max),
        };
        contents < contents_max.get() as usize
            && octets <= settings.blind_bytes_max
            && blind_bytes.saturating_add(octets) <= bytes_max
    }

    /// QUIT rides behind the last content, but not before it is known that no
    /// recipient needs another transaction.
    fn say_quit(&mut self, hands: &mut Hands<'_>) {
        let all_at_end = self
            .expected
            .iter()
            .all(|expected| *expected == Expected::End);
        if all_at_end {
            hands.wire.command(|out| out.extend_from_slice(b"QUIT\r\n"));
            self.expected.push_back(Expected::Quit);
            self.ending = Ending::Said;
        }
    }

    /// The answer to the oldest command.
    pub(super) fn answer(
        &mut self,
        answer: &Answer<'_>,
        hands: &mut Hands<'_>,
    ) -> Result<Turnout, SessionError> {
        let expected = *self.expected.front().expect("the wire awaits an answer");
        if expected == Expected::Quit {
            self.expected.pop_front();
            hands.wire.answered();
            return Ok(Turnout::Over);
        }
        let stage = expected.stage();
        if answer.code.value() == 421 {
            let reply = answer.reply();
            return Err(SessionError::Closing { stage, reply });
        }
        let class = answer.code.class();
        let fits = match expected {
            Expected::Data => class != Class::Positive,
            _ => class != Class::Intermediate,
        };
        if !fits || (class == Class::Intermediate && answer.code.value() != 354) {
            let reply = answer.reply();
            return Err(SessionError::OutOfOrder { stage, reply });
        }
        let newest_is_oldest = self.queue.len() == 1;
        let oldest = self.queue.front_mut().expect("it expects an answer");
        match expected {
            Expected::Reset => {
                if class != Class::Positive {
                    let reply = answer.reply();
                    return Err(SessionError::Refused { stage, reply });
                }
            }
            Expected::Mail => {
                oldest.take_mail(answer);
                if oldest.accepted == 0
                    && class != Class::Positive
                    && oldest.unanswered == 1
                    && matches!(oldest.next, Next::Rcpt(_))
                {
                    // In lock step: spare the peer the recipients of a refused MAIL.
                    oldest.next = Next::Nothing;
                }
            }
            Expected::Rcpt(slot) => {
                if oldest.take_rcpt(slot, answer) == Room::Full {
                    self.recipients_max = self.recipients_max.min(oldest.accepted as usize);
                }
                if hands.settings.purpose == Purpose::Ask {
                    // That was all that was wanted.
                    oldest.deliver(&answer.reply());
                }
                if slot + 1 == oldest.slots.len() {
                    // At once, so that they are in the group behind this content.
                    let place = place_of(&self.jobs, oldest.job);
                    oldest.move_again_to(&mut self.jobs[place]);
                }
            }
            Expected::Data if class == Class::Intermediate => {
                assert!(newest_is_oldest, "nothing is said behind DATA");
                self.say_content(answer, hands)?;
            }
            Expected::Data => {
                if oldest.accepted > 0 {
                    oldest.refuse(Stage::Data, &answer.reply());
                }
                oldest.next = Next::Nothing;
            }
            Expected::End => {
                if hands.settings.protocol == Protocol::Lmtp {
                    let (job, has_it) = (oldest.job, oldest.take_end_of_next(answer));
                    let more = oldest.accepted > 0;
                    if let Some(index) = has_it {
                        let delivered = RecipientOutcome::Delivered(answer.reply());
                        hands.facts.push_back(Output::Outcome(Outcome {
                            job,
                            recipients: vec![(index, delivered)],
                            notifies: notifies(&self.peer, hands.settings),
                            remaining: Remaining::Some,
                        }));
                    }
                    if more {
                        return Ok(Turnout::GoesOn);
                    }
                } else if class == Class::Positive {
                    let reply = answer.reply();
                    oldest.deliver(&reply);
                } else if oldest.accepted > 0 {
                    oldest.refuse(Stage::End, &answer.reply());
                }
                let refused = class != Class::Positive || oldest.was_refused_at_end();
                oldest.standing = match oldest.command {
                    ContentCommand::Bdat if refused => Standing::Open,
                    ContentCommand::Bdat | ContentCommand::Data => Standing::Closed,
                };
            }
            Expected::Quit => unreachable!("handled above"),
        }
        self.expected.pop_front();
        hands.wire.answered();
        let oldest = self.queue.front_mut().expect("it was answered");
        oldest.unanswered -= 1;
        self.settle(hands);
        self.pump(hands);
        Ok(Turnout::GoesOn)
    }

    /// 354 came.
    fn say_content(
        &mut self,
        answer: &Answer<'_>,
        hands: &mut Hands<'_>,
    ) -> Result<(), SessionError> {
        let transaction = self.queue.front_mut().expect("DATA was answered");
        let job = open_job(&self.jobs, transaction.job);
        let (body, tail): (_, &[u8]) = if transaction.accepted == 0 {
            if hands.settings.protocol == Protocol::Lmtp {
                // One answer for each accepted recipient would be none at all.
                let (stage, reply) = (Stage::Data, answer.reply());
                return Err(SessionError::OutOfOrder { stage, reply });
            }
            // RFC 2920 §3.1: the lone dot ends what nobody wanted.
            (None, b".\r\n")
        } else {
            match (job.body.form, job.body.end) {
                (BodyForm::Raw, _) => (whole(job.id, &job.body, Transfer::Stuff), b".\r\n"),
                (_, BodyEnd::Crlf) => (whole(job.id, &job.body, Transfer::AsStored), b".\r\n"),
                (_, BodyEnd::Open) => (whole(job.id, &job.body, Transfer::AsStored), b"\r\n.\r\n"),
            }
        };
        transaction.end = Some(hands.wire.content(body, tail));
        transaction.next = Next::Nothing;
        transaction.unanswered += 1;
        // The answer to DATA is still at the front; the end comes behind it.
        self.expected.push_back(Expected::End);
        Ok(())
    }
}

/// All of the body, or nothing where it is empty.
fn whole(job: JobId, body: &BodyFacts, transfer: Transfer) -> Option<Piece> {
    (body.octets > 0).then_some(Piece::Body {
        job,
        range: 0..body.octets,
        transfer,
    })
}

fn domain(recipient: &Recipient) -> &str {
    recipient.forward_path.address().domain_str()
}

/// How many of these stand before the one that brings one domain too many. Equal
/// ones stand side by side, but for those that come a second time.
fn prefix_of_domains<'a>(domains: impl Iterator<Item = &'a str>, max: usize) -> usize {
    let mut seen: Vec<&str> = Vec::new();
    let mut count = 0;
    for domain in domains {
        if seen.last() != Some(&domain) {
            if seen.len() == max {
                break;
            }
            seen.push(domain);
        }
        count += 1;
    }
    count
}

fn place_of(jobs: &VecDeque<OpenJob>, id: JobId) -> usize {
    // A few at most: those with a transaction that is not answered, and the next.
    jobs.iter()
        .position(|job| job.id == id)
        .expect("a transaction belongs to an open job")
}

fn open_job(jobs: &VecDeque<OpenJob>, id: JobId) -> &OpenJob {
    &jobs[place_of(jobs, id)]
}
