//! A message that this host cannot take is passed on to the next host of its next hop: one
//! that wants TLS on the whole way (RFC 8689 §4.2.1), UTF-8 in addresses (RFC 6531 §3.5),
//! or whatever else a host must offer.
//!
//! Invariant: a message that is passed on is in one place, [`Delivery`] or
//! [`WantedConnection`], and to the schedule it is on the wire; where it can go no further
//! it gets its outcome.

use super::{Delivery, Hunger};
use crate::core::aftermath::{Aftermath, Telling};
use crate::core::common::WantedConnection;
use crate::core::delivery::errand::Errand;
use crate::core::outcome::PassedOn;
use crate::smtp::client::fault::{Cause, RecipientOutcome};
use crate::smtp::client::job::Outcome;

impl Delivery {
    /// What this host cannot take goes to the next one. If there is none, but one that was
    /// not spoken to, it is tried again later; only if there is no other it has failed.
    pub(super) fn judge_unfit(&mut self, index: usize, mut outcome: Outcome) -> Option<Outcome> {
        let (Errand::Ours { candidates, .. }, Some(unfit)) = (&self.errand, outcome.unfit_host())
        else {
            return Some(outcome);
        };
        let is_whole = self.jobs[index].verdicts.is_empty();
        if is_whole && !candidates.is_empty() && self.passed_on.is_none() {
            let host = self.host();
            let active = self.jobs.swap_remove(index);
            self.passed_on = Some(PassedOn {
                active,
                unfit,
                host,
            });
            // The next job that the session asks for is none: it ends.
            self.hunger = Hunger::Quitting;
            return None;
        }
        if self.untried || !candidates.is_empty() {
            for (_, result) in &mut outcome.recipients {
                *result = RecipientOutcome::Deferred(Cause::Unfit(unfit));
            }
        }
        Some(outcome)
    }

    /// A message goes on to the next host, if there is one.
    pub(in crate::core) fn pass_on(mut wanted: WantedConnection, telling: Telling) -> Aftermath {
        match wanted.passed_on.take() {
            Some(passed_on) if wanted.candidates.is_empty() => Aftermath::Stranded {
                connection: wanted.connection,
                passed_on,
            },
            passed_on => {
                wanted.passed_on = passed_on;
                Aftermath::TryNext { wanted, telling }
            }
        }
    }
}
