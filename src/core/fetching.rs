//! Fetching our mail from a provider by ATRN (RFC 2645): the site's side on a data core.
//!
//! The control core says when and where ([`Fetch`]). The connection begins as a
//! delivery that has nothing to deliver: connecting, STARTTLS, AUTH and its failures are
//! the same. When the provider has said 250 it is a reception: mail goes the usual way
//! into the log, and is acknowledged when it is committed.
//!
//! What the provider may send: mail for exactly the domains that were asked for, to
//! their routes. It is no relay client, whatever its address is.
//!
//! Invariant: each [`Fetch`] is answered by one [`Fetched`].

use std::sync::Arc;

use crate::core::common::Common;
use crate::core::delivery::Candidates;
use crate::core::{ControlNotice, Host};
use crate::mail::Domain;
use crate::report::Fact;
use crate::route::{RelayReason, Verdict};
use crate::smtp::client::fault::{Reach, SessionError};
use crate::smtp::client::settings::Settings;
use crate::smtp::turn::{self, Call, FromProvider, Refused};

/// A fetch of the control core, to be answered with.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FetchNumber(pub u64);

/// Fetch mail from a provider.
#[derive(Clone, Debug)]
pub struct Fetch {
    /// To be answered with.
    pub number: FetchNumber,
    /// The provider's hosts, in the order in which they are to be tried, each with how we
    /// log in there.
    pub hosts: Vec<Host>,
    /// How we speak to it: our name, whether TLS is needed.
    pub settings: Arc<Settings>,
    /// The domains whose mail we want.
    pub call: Call,
}

/// What a fetch came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fetched {
    /// The provider gave us what it had.
    Taken {
        /// Messages that are committed.
        messages: u64,
        /// If the connection broke off, why. What was not acknowledged comes again.
        trouble: Option<String>,
    },
    /// It had none.
    NothingWaiting,
    /// Not now: 450, 451, or no session could be had.
    Later(String),
    /// Not to us, or not so: nothing changes that but the operator.
    Never(String),
}

/// A provider is sending us mail.
pub(super) struct Taking {
    number: FetchNumber,
    from: FromProvider,
    messages: u64,
    trouble: Option<String>,
}

impl Taking {
    pub(super) const fn new(number: FetchNumber, from: FromProvider) -> Self {
        Self {
            number,
            from,
            messages: 0,
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

    /// A message is committed.
    pub(super) const fn took_one(&mut self) {
        self.messages += 1;
    }

    /// The connection broke off.
    pub(super) fn broke_off(&mut self, why: &str) {
        self.trouble = Some(why.to_owned());
    }

    /// The session is over.
    pub(super) fn over(self, common: &mut Common) {
        let fetched = Fetched::Taken {
            messages: self.messages,
            trouble: self.trouble,
        };
        report(common, self.number, fetched);
    }
}

/// The session failed before the roles turned: another host of the provider is tried, if
/// that may help.
pub(super) fn failed(
    common: &mut Common,
    fetch: Box<Fetch>,
    candidates: Candidates,
    error: &SessionError,
    why: String,
) {
    let refused = turn::refused(error);
    if error.reach() == Reach::Host && refused.is_none() && !candidates.is_empty() {
        common.provider_calls.push_back((fetch, candidates));
        return;
    }
    let fetched = match refused {
        Some(Refused::NothingWaiting) => Fetched::NothingWaiting,
        Some(Refused::Never) => Fetched::Never(why),
        Some(Refused::Later) | None => Fetched::Later(why),
    };
    report(common, fetch.number, fetched);
}

/// The fetch could not even begin.
pub(super) fn not_begun(common: &mut Common, number: FetchNumber, why: &str) {
    report(common, number, Fetched::Later(why.to_owned()));
}

fn report(common: &mut Common, number: FetchNumber, fetched: Fetched) {
    let what = match &fetched {
        Fetched::Taken {
            messages,
            trouble: None,
        } => format!("{messages} messages came"),
        Fetched::Taken {
            messages,
            trouble: Some(why),
        } => format!(
            "{messages} messages came, then the connection broke off ({why}); what was not \
             acknowledged comes with the next fetch"
        ),
        Fetched::NothingWaiting => "there is no mail".to_owned(),
        Fetched::Later(why) => format!("{why}; it is tried again"),
        Fetched::Never(why) => format!("{why}; look at the credentials and the domains"),
    };
    common.report(Fact::Fetched { what });
    common.tell_control(ControlNotice::Fetched { number, fetched });
}
