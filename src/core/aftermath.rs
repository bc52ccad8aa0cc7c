//! What is to be done when a delivery is over: whether another host is tried, or the
//! same in clear, and how far a failure reaches.

use crate::core::asking::Asking;
use crate::core::common::{Common, WantedConnection};
use crate::core::delivery::errand::Errand;
use crate::core::delivery::passing::Stranded;
use crate::core::delivery::{Candidates, Delivery};
use crate::core::fetching::Called;
use crate::core::turn::Round;
use crate::core::{Endpoint, Host};
use crate::queue::{self, ConnectionFailure, DestinationId, VisitId};
use crate::report::Fact;
use crate::route::{TlsPolicy, TlsStart};
use crate::smtp::client::fault::{Reach, SessionError};
use crate::smtp::client::stage::Stage;
use crate::time::Now;

/// Whether it was TLS that failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum TlsFailure {
    /// It was.
    Yes,
    /// It was something else.
    No,
}

/// Whether the operator is told of a host although its mail goes out all the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Telling {
    /// It is there, and does not do what it should.
    AtOnce,
    /// It is not there: what that means for mail is told when none of them is. Or it has
    /// worked, and ended a session in which nothing was under way, as it may.
    Never,
}

/// What is left when a delivery is over.
pub(super) enum Aftermath {
    /// Nothing: all was seen to when it began to leave.
    Left,
    /// It ended in good order.
    Closed(queue::ConnectionId),
    /// TLS with this host failed, and its mail may go in clear: the same once more.
    TryInClear {
        /// This one and the others.
        wanted: WantedConnection,
        /// With whom TLS is of no use.
        endpoint: Endpoint,
    },
    /// This host did not talk to us, or cannot take some message; others may, with the same
    /// permit.
    TryNext {
        /// The others.
        wanted: WantedConnection,
        /// Whether the operator is told.
        telling: Telling,
    },
    /// There is no other host for a message that was passed on.
    Stranded {
        /// It.
        stranded: Stranded,
        /// For the operator, if the last host did not do what it should.
        why: Option<String>,
    },
    /// A provider that we called has said what it had to say.
    Called(Called),
    /// A site was asked about recipients, or could not be.
    Asked {
        /// What was wanted, and said.
        asking: Box<Asking>,
        /// Other hosts of the site.
        candidates: Candidates,
        /// What went wrong, and that for the operator.
        failure: Option<(SessionError, String)>,
        /// Who was asked.
        host: (Host, Endpoint),
    },
    /// A customer's turn is over.
    TurnOver {
        /// Whose.
        round: Box<Round>,
        /// As the schedule knows it.
        visit: VisitId,
        /// What went wrong, if something did.
        trouble: Option<String>,
    },
    /// It failed.
    Failed {
        /// As the schedule knows it.
        connection: queue::ConnectionId,
        /// Where it went.
        destination: DestinationId,
        /// How far it reaches.
        how: ConnectionFailure,
        /// For the operator.
        why: String,
        /// Whether the operator is told.
        telling: Telling,
    },
}

/// What a connection showed of its host.
pub(super) struct HostLeft {
    pub(super) address: Endpoint,
    /// Whose mail it was.
    pub(super) destination: DestinationId,
    /// It cannot be talked to: whoever else wants it need not try.
    pub(super) dead: Option<String>,
    /// It broke off in the middle of mail: others of the same next hop come first.
    pub(super) broke_off: bool,
}

impl Delivery {
    /// What it showed of its host, where that is one of a destination.
    pub(super) fn host_left(&self) -> Option<HostLeft> {
        let Errand::Ours { destination, .. } = self.errand else {
            return None;
        };
        let dead = match (&self.failure, &self.connect_failure) {
            (Some(error), _) if self.worked || !error.is_for_everybody() => None,
            (Some(_), Some(why)) => Some(format!("connecting failed: {why}")),
            (Some(error), None) => Some(error.to_string()),
            (None, _) => None,
        };
        // One that ends a session behind some mail works.
        let broke_off =
            !self.answered && self.failure.as_ref().is_some_and(SessionError::is_of_mail);
        Some(HostLeft {
            address: self.endpoint.clone(),
            destination,
            dead,
            broke_off,
        })
    }

    /// What is to be done when it is over, or is leaving.
    pub(super) fn aftermath(&mut self) -> Aftermath {
        assert!(
            self.jobs.is_empty(),
            "a session gives an outcome for every job"
        );
        let failure = self.failure.as_ref();
        let why = failure.map(|error| match &self.connect_failure {
            Some(why) => format!("{}: connecting failed: {why}", self.host()),
            None => format!("{}: {error}", self.host()),
        });
        let errand = std::mem::replace(&mut self.errand, Errand::Leaving);
        let (connection, destination, candidates) = match errand {
            Errand::Ours {
                connection,
                destination,
                candidates,
            } => (connection, destination, candidates),
            Errand::Call {
                fetch,
                candidates,
                asked,
            } => {
                return Aftermath::Called(Called {
                    fetch,
                    candidates,
                    asked,
                    failure: self.failure.clone().zip(why),
                });
            }
            Errand::Ask { asking, candidates } => {
                return Aftermath::Asked {
                    asking,
                    candidates,
                    failure: self.failure.clone().zip(why),
                    host: (self.host.clone(), self.endpoint.clone()),
                };
            }
            Errand::Turn { round, visit } => {
                return Aftermath::TurnOver {
                    round,
                    visit,
                    trouble: self.failure.as_ref().map(ToString::to_string),
                };
            }
            Errand::Leaving => return Aftermath::Left,
        };
        let passed_on = self.passed_on.take();
        let mut wanted = WantedConnection {
            connection,
            destination,
            candidates,
            failed: None,
            silent: std::mem::take(&mut self.silent),
            passed_on,
        };
        let (Some(why), Some(error)) = (why, &self.failure) else {
            return match wanted.passed_on {
                None => Aftermath::Closed(connection),
                Some(_) => Self::pass_on(wanted, Telling::Never),
            };
        };
        let tls = match error {
            SessionError::TlsFailed { .. }
            | SessionError::Lost {
                stage: Stage::Handshake,
            }
            | SessionError::TimedOut {
                stage: Stage::Handshake,
            } => TlsFailure::Yes,
            _ => TlsFailure::No,
        };
        // A host that takes TLS only has no clear to go back to.
        let may_be_clear = self.host.tls.policy == TlsPolicy::Opportunistic
            && self.host.tls.start == TlsStart::Command;
        if !self.worked && tls == TlsFailure::Yes && may_be_clear {
            let endpoint = self.endpoint.clone();
            (wanted.candidates).push_front((self.host.clone(), endpoint.clone()));
            wanted.failed = Some(why);
            return Aftermath::TryInClear { wanted, endpoint };
        }
        let telling = match self.connect_failure {
            None => Telling::AtOnce,
            Some(_) => Telling::Never,
        };
        let is_of_no_use = !self.worked && error.reach() == Reach::Host;
        if is_of_no_use && !wanted.candidates.is_empty() {
            wanted.failed = Some(why);
            self.is_silent(&mut wanted, error);
            return Aftermath::TryNext { wanted, telling };
        }
        if wanted.passed_on.is_some() {
            if is_of_no_use {
                wanted.failed = Some(why);
                self.is_silent(&mut wanted, error);
            }
            return Self::pass_on(wanted, telling);
        }
        let how = match error {
            // It had waited for longer than the host likes: no sign that it is busy.
            SessionError::Closing {
                stage: Stage::Idle, ..
            } if self.worked => ConnectionFailure::Lost,
            SessionError::Closing { .. } => ConnectionFailure::Busy,
            _ if !self.worked || error.reach() == Reach::Host => ConnectionFailure::Unusable,
            _ => ConnectionFailure::Lost,
        };
        let telling = match error {
            SessionError::Lost { stage: Stage::Idle }
            | SessionError::Closing {
                stage: Stage::Idle, ..
            } if self.worked => Telling::Never,
            _ => Telling::AtOnce,
        };
        Aftermath::Failed {
            connection,
            destination,
            how,
            why,
            telling,
        }
    }
}

impl Common {
    /// What follows from the end of a delivery.
    pub(super) fn delivery_over(&mut self, now: Now, aftermath: Aftermath) {
        match aftermath {
            Aftermath::Left => {}
            Aftermath::Closed(connection) => {
                self.deliveries.remove(&connection);
                self.queue.connection_closed(now, connection);
            }
            Aftermath::TryInClear { wanted, endpoint } => {
                self.deliveries.remove(&wanted.connection);
                self.hosts.in_clear(now.instant, endpoint);
                if let Some(why) = wanted.failed.clone() {
                    self.report(Fact::TlsGivenUp { why });
                }
                self.hosts.try_next(wanted);
            }
            Aftermath::TryNext { wanted, telling } => {
                self.deliveries.remove(&wanted.connection);
                if let (Some(why), Telling::AtOnce) = (&wanted.failed, telling) {
                    let why = format!("{why}; its mail stays here, and the next host is tried");
                    self.report(Fact::DeliveryBroken { why });
                }
                self.hosts.try_next(wanted);
            }
            Aftermath::Stranded { stranded, why } => {
                if let Some(why) = why {
                    let why = format!("{why}; no other host is left for a message");
                    self.report(Fact::DeliveryBroken { why });
                }
                self.deliveries.remove(&stranded.connection);
                self.stranded.push_back(stranded);
            }
            Aftermath::Called(called) => called.over(self),
            Aftermath::Asked {
                asking,
                candidates,
                failure,
                host,
            } => self.asked(now, *asking, candidates, failure, host),
            Aftermath::TurnOver {
                round,
                visit,
                trouble,
            } => {
                self.queue.end_visit(now, visit);
                round.over(self, trouble);
            }
            Aftermath::Failed {
                connection,
                destination,
                how,
                why,
                telling,
            } => {
                self.deliveries.remove(&connection);
                self.hosts.failed(destination, why.clone());
                if how != ConnectionFailure::Unusable && telling == Telling::AtOnce {
                    let why = format!("{why}; its mail is tried again");
                    self.report(Fact::DeliveryBroken { why });
                }
                self.queue.connection_failed(now, connection, how);
            }
        }
    }
}
