//! Receptions whose roles turn (RFC 2645): a customer's that is to get its mail, and one
//! that takes ours from a provider.

use std::sync::Arc;

use super::{InputEnd, Reception};
use crate::core::collector::RunId;
use crate::core::common::Common;
use crate::core::fetching::Taking;
use crate::core::flow::Flow;
use crate::core::turn::{self, Turned};
use crate::core::turns::{NoTurn, Turn};
use crate::core::{ControlNotice, ListenerId};
use crate::report::Fact;
use crate::route::TlsStart;
use crate::smtp::reply::Refusal;
use crate::smtp::server::{Input, PeerFacts, Question, Verdict};
use crate::smtp::turn::{FromProvider, ToCustomer};
use crate::time::Now;
use crate::user::UserName;

impl Reception {
    /// A provider that we have called is about to send us mail.
    pub(in crate::core) fn turned(
        flow: Flow,
        number: RunId,
        from: FromProvider,
        provider: PeerFacts,
        now: Now,
        common: &mut Common,
    ) -> Self {
        let session = from.session(common.settings.session(ListenerId(0)), provider, now);
        let mut reception = Self::with(session, flow);
        let taking = Taking::new(number, from);
        reception.turned = Some(Box::new(Turned::Taking(taking)));
        // TLS, if there is any, has begun long ago.
        reception.begin(now, common, TlsStart::Command);
        reception
    }

    /// The customer has called: the control core is asked, or the answer is known here.
    pub(super) fn ask_for_turn(&mut self, now: Now, common: &mut Common) {
        let Some(Question::Turn { domains }) = self.session.question() else {
            unreachable!("the caller looked");
        };
        match turn::permitted(common, self.session.user(), domains) {
            Ok(customer) => {
                let domains = Arc::from(domains);
                common.tell_control(ControlNotice::TurnWanted {
                    core: common.id,
                    connection: self.flow.connection(),
                    customer,
                    caller: self.peer().ip(),
                    domains,
                });
                self.session.handle(now, Input::Later);
            }
            Err(refusal) => self.refuse_turn(now, common, refusal),
        }
    }

    fn refuse_turn(&mut self, now: Now, common: &mut Common, refusal: Refusal) {
        common.counters.turns_refused += 1;
        common.report(Fact::Refused {
            peer: self.peer(),
            reply: refusal.reply().text().to_owned(),
            what: format!(
                "ATRN of {}",
                self.session.user().map_or("", UserName::as_str)
            ),
        });
        let verdict = Verdict::Refuse(refusal);
        self.session.handle(now, Input::Answer(verdict));
    }

    /// Whether the customer gets its mail now.
    pub(in crate::core) fn turn_answered(
        &mut self,
        now: Now,
        common: &mut Common,
        answer: Result<Turn, NoTurn>,
    ) {
        if self.session.question().is_none() {
            // It talked on, and its session is over.
            turn::give_back(common, answer);
            return;
        }
        match answer {
            // Who sends no more cannot greet us.
            Ok(_) if self.input != InputEnd::Open || common.is_stopping() => {
                turn::give_back(common, answer);
                self.refuse_turn(now, common, turn::NOT_NOW);
            }
            Ok(turn) => {
                self.turned = Some(Box::new(Turned::Granted(turn)));
                self.session.handle(now, Input::Answer(Verdict::Accept));
            }
            Err(why) => self.refuse_turn(now, common, turn::refusal(why)),
        }
        self.outputs(now, common, &[]);
        self.read_unread(now, common);
        self.end_input(now, common);
        self.settle(common);
    }

    /// It is over: who waits for what came of it is told.
    pub(in crate::core) fn over(self, common: &mut Common) {
        match self.turned.map(|turned| *turned) {
            Some(Turned::Taking(taking)) => taking.over(common),
            // The client went away between the answer and its 250.
            Some(Turned::Granted(turn)) => turn::give_back(common, Ok(turn)),
            Some(Turned::Done { .. }) | None => {}
        }
    }

    /// The roles have turned: what is left of this is the connection.
    pub(in crate::core) fn has_turned(&self) -> bool {
        matches!(self.turned.as_deref(), Some(Turned::Done { .. }))
    }

    /// The connection, and whose turn it is, once [`Reception::has_turned`].
    pub(in crate::core) fn into_turned(self) -> Option<(Flow, Turn, ToCustomer)> {
        match *self.turned? {
            Turned::Done { turn, to_customer } => Some((self.flow, turn, to_customer)),
            Turned::Granted(_) | Turned::Taking(_) => None,
        }
    }
}
