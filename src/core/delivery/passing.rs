//! A message that this host cannot take is passed on to the next host of its next hop: one
//! that wants TLS on the whole way (RFC 8689 §4.2.1), UTF-8 in addresses (RFC 6531 §3.5),
//! or whatever else a host must offer.
//!
//! What wants TLS on the whole way goes only to a host whose certificate is good for its
//! name. Where the route does not ask for that, the host is connected to once more for such
//! a message, and has to prove it there: sessions in which nobody looked are never taken
//! for others. By MX the names come from a DNS without DNSSEC, which this does not cure.
//!
//! # When it has failed
//! All hosts of the next hop that can be spoken to have been asked, and none of those that
//! cannot is as good as the best that was asked. A host that is dead and preferred to that
//! one is where the mail belongs, and those that stand in for it cannot say what it takes:
//! it is waited for. One that is dead and preferred less would only stand in for one that
//! has said no (RFC 5321 §5.1); to wait for it would keep the sender in the dark for days.
//!
//! # Invariants
//! - A message that is passed on is in one place, [`Delivery`] or [`WantedConnection`] or
//!   [`Stranded`], and to the schedule it is on the wire; where it can go no further it
//!   gets its outcome.
//! - No message fails for what a host offers as long as a host that can be spoken to has
//!   not been asked about this message.

use super::{Delivery, Hunger};
use crate::core::Host;
use crate::core::aftermath::{Aftermath, Telling};
use crate::core::common::WantedConnection;
use crate::core::delivery::errand::Errand;
use crate::core::outcome::PassedOn;
use crate::queue;
use crate::route::TlsPolicy;
use crate::smtp::client::fault::{Cause, RecipientOutcome, SessionError, Unfit};
use crate::smtp::client::job::{JobId, Outcome};

/// A host among those of its next hop. Its addresses have one place together.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::core) struct Place {
    preference: u16,
    name: String,
}

impl From<&Host> for Place {
    fn from(host: &Host) -> Self {
        Self {
            preference: host.preference,
            name: host.name.clone(),
        }
    }
}

/// Hosts of a connection's next hop that could not be spoken to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(in crate::core) struct Silent {
    dead: Vec<Place>,
    /// Some host is there, and has all the connections that it bears for now.
    busy: bool,
}

impl Silent {
    /// One that is dead, or does not talk to us.
    pub(in crate::core) fn dead(&mut self, host: &Host) {
        self.dead.push(host.into());
    }

    /// One that can soon be spoken to.
    pub(in crate::core) fn busy(&mut self) {
        self.busy = true;
    }

    /// Whether what these hosts cannot take waits for one that could not be spoken to.
    fn is_awaited(&self, unfit: &[Place]) -> bool {
        let best = unfit.iter().map(|place| place.preference).min();
        let may_take = |place: &Place| {
            !unfit.contains(place) && best.is_none_or(|best| place.preference <= best)
        };
        self.busy || self.dead.iter().any(may_take)
    }

    /// What becomes of a recipient whom these hosts cannot take.
    pub(in crate::core) fn verdict(&self, unfit: Unfit, hosts: &[Place]) -> RecipientOutcome {
        if self.is_awaited(hosts) {
            RecipientOutcome::Deferred(Cause::UnfitSoFar(unfit))
        } else {
            RecipientOutcome::Failed(Cause::Unfit(unfit))
        }
    }
}

/// A message that was passed on, and for which there is no further host.
pub(in crate::core) struct Stranded {
    /// As the schedule knows it.
    pub(in crate::core) connection: queue::ConnectionId,
    /// The message.
    pub(in crate::core) passed_on: PassedOn,
    /// Who could not be asked; `None` if nobody more is asked because the process stops.
    pub(in crate::core) silent: Option<Silent>,
}

/// A message that was passed on to this host.
pub(super) struct Carried {
    job: JobId,
    /// Who could not take it.
    unfit: Vec<Place>,
}

impl Delivery {
    /// The message that was passed on to this host, which is to be its first.
    pub(super) fn take_passed_on(&mut self) -> Option<crate::core::outcome::Active> {
        let PassedOn { active, hosts, .. } = self.passed_on.take()?;
        self.carried = Some(Carried {
            job: active.id,
            unfit: hosts,
        });
        Some(active)
    }

    /// What this host cannot take goes to the next one.
    pub(super) fn judge_unfit(&mut self, index: usize, mut outcome: Outcome) -> Option<Outcome> {
        let Errand::Ours { candidates, .. } = &mut self.errand else {
            return Some(outcome);
        };
        let mut all = outcome.recipients.iter();
        if !all.any(|(_, result)| unfit_of(result).is_some()) {
            return Some(outcome);
        }
        let at_once = |_| RecipientOutcome::Deferred(Cause::SessionFull);
        let mut hosts: Vec<Place> = match &self.carried {
            None => Vec::new(),
            Some(carried) if carried.job == outcome.job => carried.unfit.clone(),
            Some(_) => {
                // The hosts before this one were left because of another message, and may
                // take this one: it begins anew with the best of them.
                replace(&mut outcome, at_once);
                self.hunger = Hunger::Quitting;
                return Some(outcome);
            }
        };
        let is_whole = self.jobs[index].verdicts.is_empty();
        let unfit_host = outcome.unfit_host();
        if unfit_host == Some(Unfit::Unproven) && self.host.tls.policy != TlsPolicy::Verified {
            // It may well be able to prove it: the same host once more.
            let mut same = self.host.clone();
            same.tls.policy = TlsPolicy::Verified;
            candidates.push_front((same, self.endpoint.clone()));
        } else {
            hosts.push(Place::from(&self.host));
        }
        match unfit_host {
            Some(unfit) if !candidates.is_empty() && is_whole && self.passed_on.is_none() => {
                let host = self.host();
                let active = self.jobs.swap_remove(index);
                self.passed_on = Some(PassedOn {
                    active,
                    unfit,
                    host,
                    hosts,
                });
                // The next job that the session asks for is none: it ends.
                self.hunger = Hunger::Quitting;
                return None;
            }
            // Only some recipients: they are a message of their own, and go as one.
            _ if !candidates.is_empty() => replace(&mut outcome, at_once),
            _ => {
                replace(&mut outcome, |unfit| self.silent.verdict(unfit, &hosts));
                if self.silent.is_awaited(&hosts) {
                    // Its next try is to begin with the host that is waited for.
                    self.hunger = Hunger::Quitting;
                }
            }
        }
        Some(outcome)
    }

    /// This host did not talk to us. Whoever was to prove who it is, and cannot, is none for
    /// what was passed on; any other may be one later.
    pub(in crate::core) fn is_silent(&self, wanted: &mut WantedConnection, error: &SessionError) {
        match (&mut wanted.passed_on, error) {
            (Some(passed_on), SessionError::TlsFailed { .. })
                if passed_on.unfit == Unfit::Unproven =>
            {
                passed_on.hosts.push(Place::from(&self.host));
            }
            _ => wanted.silent.dead(&self.host),
        }
    }

    /// A message goes on to the next host, if there is one.
    pub(in crate::core) fn pass_on(mut wanted: WantedConnection, telling: Telling) -> Aftermath {
        match wanted.passed_on.take() {
            Some(passed_on) if wanted.candidates.is_empty() => Aftermath::Stranded {
                stranded: Stranded {
                    connection: wanted.connection,
                    passed_on,
                    silent: Some(wanted.silent),
                },
                why: wanted.failed.filter(|_| telling == Telling::AtOnce),
            },
            passed_on => {
                wanted.passed_on = passed_on;
                Aftermath::TryNext { wanted, telling }
            }
        }
    }
}

/// What this host lacks for a recipient, if another one may have it.
const fn unfit_of(result: &RecipientOutcome) -> Option<Unfit> {
    match result {
        RecipientOutcome::Failed(Cause::Unfit(unfit)) if unfit.is_of_host() => Some(*unfit),
        _ => None,
    }
}

/// Says something else of the recipients whom this host cannot take.
fn replace(outcome: &mut Outcome, with: impl Fn(Unfit) -> RecipientOutcome) {
    for (_, result) in &mut outcome.recipients {
        if let Some(unfit) = unfit_of(result) {
            *result = with(unfit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(hosts: &[(u16, &str)]) -> Vec<Place> {
        let place = |&(preference, name): &(u16, &str)| Place {
            preference,
            name: name.to_owned(),
        };
        hosts.iter().map(place).collect()
    }

    /// It waits for a dead host that is as good as the best that was asked, and for no
    /// other.
    #[test]
    fn a_dead_host_is_waited_for_where_it_is_no_worse() {
        let check = |unfit: &[(u16, &str)], dead: &[(u16, &str)], waits: bool| {
            let silent = Silent {
                dead: places(dead),
                busy: false,
            };
            let unfit = places(unfit);
            assert_eq!(silent.is_awaited(&unfit), waits, "{unfit:?} {dead:?}");
            let busy = Silent {
                busy: true,
                ..silent
            };
            assert!(busy.is_awaited(&unfit), "a busy one is always waited for");
        };
        check(&[(10, "a")], &[], false);
        check(&[(10, "a")], &[(20, "b")], false);
        check(&[(20, "b")], &[(10, "a")], true);
        check(&[(10, "a")], &[(10, "b")], true);
        check(&[(10, "a"), (30, "c")], &[(20, "b")], false);
        check(&[(30, "c"), (20, "b")], &[(25, "d"), (10, "a")], true);
        // Another address of a host that was asked at the first.
        check(&[(10, "a")], &[(10, "a")], false);
        check(&[(10, "a")], &[(10, "a"), (10, "b")], true);
    }
}
