//! Asking a provider for our mail: the site's side on a data core, by ATRN (RFC 2645) and
//! by ETRN (RFC 1985).
//!
//! The control core says when, where and what ([`Fetch`]). The connection begins as a
//! delivery that has nothing to deliver: connecting, STARTTLS, AUTH and its failures are
//! the same. Behind ETRN that is all: the mail comes by other connections. When the
//! provider has said 250 to ATRN it is a reception: mail goes the usual way into the log,
//! and is acknowledged when it is committed.
//!
//! What the provider may send after ATRN: mail for exactly the domains that were asked
//! for, to their routes. It is no relay client, whatever its address is.
//!
//! Invariant: each [`Fetch`] is answered by one [`Run`].

use crate::core::collector::{Behind, Next, Run, RunId};
use crate::core::common::Common;
use crate::core::delivery::Candidates;
use crate::core::{ControlNotice, Host};
use crate::mail::Domain;
use crate::report::collecting::Tally;
use crate::route::{RelayReason, Verdict};
use crate::smtp::client::asking::{Ask, Asked, Said};
use crate::smtp::client::fault::{Reach, SessionError};
use crate::smtp::client::stage::Stage;
use crate::smtp::turn::{self, FromProvider, Refused};

/// Ask a provider for our mail.
#[derive(Clone, Debug)]
pub struct Fetch {
    /// To be answered with.
    pub number: RunId,
    /// The provider's hosts, in the order in which they are to be tried, each with how we
    /// log in there.
    pub hosts: Vec<Host>,
    /// By what, and for what.
    pub ask: Ask,
}

impl Fetch {
    /// Whether these are answers to all that is asked for: what follows is QUIT.
    pub(super) fn has_all(&self, asked: &[Asked]) -> bool {
        match &self.ask {
            Ask::Release(nodes) => asked.len() == nodes.len(),
            // The answer is the mail.
            Ask::Turn(_) => false,
        }
    }
}

/// A provider is sending us mail.
pub(super) struct Taking {
    number: RunId,
    from: FromProvider,
    tally: Tally,
    /// Octets of the message that is being committed.
    coming: u64,
    trouble: Option<String>,
}

impl Taking {
    pub(super) fn new(number: RunId, from: FromProvider) -> Self {
        Self {
            number,
            from,
            tally: Tally::default(),
            coming: 0,
            trouble: None,
        }
    }

    /// What the provider may send: mail for the domains that were asked for.
    pub(super) fn relay(&self, domain: &str) -> Verdict {
        let mut asked = self.from.domains().iter().map(Domain::as_str);
        if asked.any(|asked| asked == domain) {
            Verdict::Relay(RelayReason::Domain)
        } else {
            Verdict::Refuse
        }
    }

    /// A message of so many octets is being committed.
    pub(super) const fn takes(&mut self, octets: u64) {
        self.coming = octets;
    }

    /// It is.
    pub(super) const fn took_one(&mut self) {
        self.tally.collected += 1;
        self.tally.octets += self.coming;
    }

    /// The connection broke off.
    pub(super) fn broke_off(&mut self, why: &str) {
        self.trouble = Some(why.to_owned());
    }

    /// The session is over.
    pub(super) fn over(self, common: &mut Common) {
        let why = |why| format!("the connection broke off ({why})");
        tell(
            common,
            Run {
                id: self.number,
                tally: self.tally,
                said: None,
                behind: Behind::Nothing,
                failure: self.trouble.map(|trouble| (Next::Usual, why(trouble))),
                login_delay: None,
            },
        );
    }
}

/// What came of a call that did not turn.
pub(super) struct Called {
    pub(super) fetch: Box<Fetch>,
    /// Other hosts of the provider.
    pub(super) candidates: Candidates,
    /// What was said to ETRN, name by name.
    pub(super) asked: Vec<Asked>,
    /// Why the session failed, if it did, and the same for the operator.
    pub(super) failure: Option<(SessionError, String)>,
}

impl Called {
    /// It is over: another host of the provider is tried, if that may help.
    pub(super) fn over(self, common: &mut Common) {
        let Self {
            fetch,
            candidates,
            asked,
            failure,
        } = self;
        let refused = failure.as_ref().and_then(|(error, _)| turn::refused(error));
        let host = failure
            .as_ref()
            .is_some_and(|(error, _)| error.reach() == Reach::Host);
        if host && refused.is_none() && asked.is_empty() && !candidates.is_empty() {
            common.provider_calls.push_back((fetch, candidates));
            return;
        }
        let said: Vec<_> = (asked.iter())
            .map(|asked| format!("{}: {}", asked.node, asked.reply))
            .collect();
        let mut run = Run {
            id: fetch.number,
            tally: Tally::default(),
            said: (!said.is_empty()).then(|| said.join("; ")),
            behind: behind(&asked),
            failure: None,
            login_delay: None,
        };
        match (refused, failure) {
            (Some(Refused::NothingWaiting), _) => run.said = Some("there is no mail".to_owned()),
            (Some(Refused::Never), Some((_, why))) => {
                let why = format!("{why}; look at the credentials and the domains");
                run.failure = Some((Next::Usual, why));
            }
            (refused, Some((error, why))) => {
                let next = if error.is_about_login() {
                    Next::LoginRefused
                } else if refused == Some(Refused::Later) || is_for_now(&error) {
                    Next::Soon
                } else {
                    Next::Usual
                };
                run.failure = Some((next, why));
            }
            (_, None) => run.failure = not_released(&asked).map(|why| (Next::Usual, why)),
        }
        tell(common, run);
    }
}

/// Whether nobody was there, or had no time for us: a moment later that may be otherwise.
const fn is_for_now(error: &SessionError) -> bool {
    use SessionError::{Closing, Lost, TimedOut};
    matches!(
        error,
        Closing { .. }
            | Lost {
                stage: Stage::Connect | Stage::Greeting
            }
            | TimedOut {
                stage: Stage::Connect | Stage::Greeting
            }
    )
}

/// Whether mail comes of what was said.
fn behind(asked: &[Asked]) -> Behind {
    let each = asked.iter().map(|asked| match asked.said {
        Said::Pending => Behind::Announced,
        Said::Looking => Behind::Perhaps,
        Said::Nothing | Said::Later | Said::Never => Behind::Nothing,
    });
    each.max().unwrap_or(Behind::Nothing)
}

/// What was refused, for the operator.
fn not_released(asked: &[Asked]) -> Option<String> {
    let names = |said: Said| {
        let refused = asked.iter().filter(|asked| asked.said == said);
        let names: Vec<_> = refused.map(|asked| asked.node.to_string()).collect();
        (!names.is_empty()).then(|| names.join(", "))
    };
    let later = names(Said::Later).map(|names| format!("not now: {names}"));
    let never = names(Said::Never).map(|names| {
        format!("not for us: {names}; look at the names, and at who may ask for them there")
    });
    let both: Vec<_> = [later, never].into_iter().flatten().collect();
    (!both.is_empty()).then(|| both.join("; "))
}

/// It could not even begin.
pub(super) fn not_begun(common: &mut Common, number: RunId, why: &str) {
    tell(common, Run::failed(number, why.to_owned()));
}

fn tell(common: &mut Common, run: Run) {
    common.tell_control(ControlNotice::Collected(Box::new(run)));
}
