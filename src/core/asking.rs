//! Call-ahead, as far as a data core has to do with it: sessions that wait for an answer,
//! and connections that ask. See [`crate::core::callahead`].
//!
//! A connection that asks is a delivery whose session says MAIL FROM:<> and RCPT, and no
//! content ([`Purpose::Ask`]).
//!
//! Invariant: each [`Ask`] is answered by one [`Said`], however the connection ends.

use std::sync::Arc;
use std::time::Duration;

use crate::core::callahead::{Ask, AskNumber, Existence, Said};
use crate::core::common::Common;
use crate::core::delivery::Candidates;
use crate::core::{ConnectionId, ControlNotice, Endpoint, Host};
use crate::mail::{Address, BodyForm, ForwardPath, Recipient, RecipientIndex, ReversePath, Sender};
use crate::route::{CustomerName, TlsPolicy};
use crate::smtp::client::fault::{Cause, Reach, RecipientOutcome, SessionError};
use crate::smtp::client::job::{BodyEnd, BodyFacts, BodyOctets, Job, JobId, Outcome};
use crate::smtp::client::settings::{Purpose, Settings};
use crate::smtp::client::stage::{Stage, Timeouts};
use crate::time::Now;

/// How long the site has for each answer. Sessions wait meanwhile, though not for so long
/// in all; what comes late is still of use to the next one.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// An [`Ask`] under way.
#[derive(Debug)]
pub(super) struct Asking {
    number: AskNumber,
    addresses: Vec<Address>,
    existences: Vec<Existence>,
    begun: bool,
}

impl Asking {
    pub(super) fn new(number: AskNumber, addresses: Vec<Address>) -> Self {
        Self {
            number,
            existences: vec![Existence::CannotTell; addresses.len()],
            addresses,
            begun: false,
        }
    }

    /// What the session is to say. None: nothing more.
    pub(super) fn job(&mut self) -> Option<Job> {
        if std::mem::replace(&mut self.begun, true) {
            return None;
        }
        let recipient = |address: &Address| Recipient::new(ForwardPath(address.clone()));
        let numbers = (0..).map(RecipientIndex);
        Some(Job {
            id: JobId(self.number.0),
            sender: Sender::new(ReversePath::Null),
            recipients: numbers.zip(self.addresses.iter().map(recipient)).collect(),
            body: BodyFacts {
                octets: 0,
                form: BodyForm::Plain,
                kind: BodyOctets::SevenBit,
                end: BodyEnd::Crlf,
            },
        })
    }

    /// What the site said.
    pub(super) fn take(&mut self, outcome: &Outcome) {
        for (index, outcome) in &outcome.recipients {
            self.existences[index.0 as usize] = existence(outcome);
        }
    }
}

/// How a session that asks goes.
pub(super) fn settings(settings: &Settings) -> Arc<Settings> {
    let mut settings = settings.clone();
    settings.purpose = Purpose::Ask;
    settings.timeouts = Timeouts {
        connect: ANSWER_TIMEOUT,
        greeting: ANSWER_TIMEOUT,
        hello: ANSWER_TIMEOUT,
        tls: ANSWER_TIMEOUT,
        auth: ANSWER_TIMEOUT,
        mail: ANSWER_TIMEOUT,
        rcpt: ANSWER_TIMEOUT,
        sending: ANSWER_TIMEOUT,
        ..settings.timeouts
    };
    Arc::new(settings)
}

/// Only what RFC 3463 §3.2 calls the destination mailbox, or a bare code that means it, is
/// a "no": the site may refuse our asking, and not the recipient.
fn existence(outcome: &RecipientOutcome) -> Existence {
    match outcome {
        RecipientOutcome::Delivered(_) => Existence::Exists,
        RecipientOutcome::Failed(Cause::Reply {
            stage: Stage::Rcpt,
            reply,
        }) => match (reply.code.value(), reply.enhanced) {
            (_, Some(status)) if (status.subject, status.detail) == (1, 7) => Existence::CannotTell,
            (_, Some(status)) if (status.subject, status.detail) == (1, 8) => Existence::CannotTell,
            (_, Some(status)) if status.subject == 1 => Existence::Unknown,
            (_, Some(status)) if (status.subject, status.detail) == (2, 1) => Existence::Unknown,
            (550 | 551 | 553, None) => Existence::Unknown,
            _ => Existence::CannotTell,
        },
        RecipientOutcome::Failed(_) | RecipientOutcome::Deferred(_) => Existence::CannotTell,
    }
}

impl Common {
    /// A session wants to know whether a recipient exists.
    pub(super) fn ask_site(
        &mut self,
        connection: ConnectionId,
        customer: CustomerName,
        address: Address,
    ) {
        self.counters.recipients_asked += 1;
        self.tell_control(ControlNotice::RecipientWanted {
            core: self.id,
            connection,
            customer,
            address,
        });
    }

    /// A connection that asked is over.
    pub(super) fn asked(
        &mut self,
        now: Now,
        asking: Asking,
        mut candidates: Candidates,
        failure: Option<(SessionError, String)>,
        same: (Host, Endpoint),
    ) {
        let Some((error, why)) = failure else {
            return self.site_said(asking, None);
        };
        let is_handshake = matches!(
            error,
            SessionError::TlsFailed { .. }
                | SessionError::Lost {
                    stage: Stage::Handshake
                }
        );
        let may_be_clear = same.0.tls.policy == TlsPolicy::Opportunistic
            && !self.hosts.is_in_clear(now.instant, &same.1);
        if is_handshake && may_be_clear {
            self.hosts.in_clear(now.instant, same.1.clone());
            candidates.push_front(same);
        }
        if asking.begun || candidates.is_empty() || error.reach() != Reach::Host {
            return self.site_said(asking, Some(why));
        }
        self.asks.push_back((asking, candidates));
    }

    /// The answer to an [`Ask`].
    pub(super) fn site_said(&mut self, asking: Asking, away: Option<String>) {
        let said = Said {
            existences: asking.existences,
            away,
        };
        let number = asking.number;
        self.tell_control(ControlNotice::SiteSaid { number, said });
    }
}

/// An ask with the hosts that may be tried.
pub(super) fn begin(common: &mut Common, ask: Ask) {
    let candidates = crate::core::hosts::candidates(&ask.hosts, &mut common.random);
    let asking = Asking::new(ask.number, ask.addresses);
    common.asks.push_back((asking, candidates));
}
