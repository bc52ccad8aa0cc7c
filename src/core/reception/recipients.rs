//! RCPT: who may send to whom, and whether there is such a recipient.

use super::Reception;
use crate::core::callahead::Existence;
use crate::core::common::Common;
use crate::core::recipients::Taking;
use crate::core::turn::Turned;
use crate::mail::ForwardPath;
use crate::report::Fact;
use crate::route::Verdict as Relay;
use crate::smtp::reply::Refusal;
use crate::smtp::server::{Input, Question, Verdict};
use crate::time::Now;

/// RFC 5321 §7.1: we are no relay for strangers.
const RELAY_DENIED: Refusal = Refusal::new(
    550,
    7,
    1,
    "Relaying denied: not a domain of ours, and you are not listed",
);

impl Reception {
    /// Whether a recipient is taken. None: its customer's host is asked.
    pub(super) fn judge_recipient(
        &self,
        common: &mut Common,
        path: &ForwardPath,
    ) -> Option<Verdict> {
        let address = path.address();
        if common.settings.wakeup.has(address) {
            return Some(Verdict::Accept);
        }
        let domain = address.domain_str();
        let rules = &common.settings.relay;
        let relay = match self.turned.as_deref() {
            Some(Turned::Taking(taking)) => taking.relay(domain),
            _ => rules.may_relay(self.client(), self.relay_user(common), domain),
        };
        if relay == Relay::Refuse {
            common.counters.recipients_refused += 1;
            return Some(self.refuse_recipient(common, path, RELAY_DENIED));
        }
        match common.takes(address) {
            Ok(Taking::Yes) => Some(Verdict::Accept),
            Ok(Taking::Ask(customer)) => {
                common.ask_site(self.flow.connection(), customer, address.clone());
                None
            }
            Err(refusal) => Some(self.refuse_recipient(common, path, refusal)),
        }
    }

    fn refuse_recipient(
        &self,
        common: &mut Common,
        path: &ForwardPath,
        refusal: Refusal,
    ) -> Verdict {
        common.report(Fact::Refused {
            peer: self.peer(),
            reply: refusal.reply().text().to_owned(),
            what: format!("RCPT TO:{path}"),
        });
        Verdict::Refuse(refusal)
    }

    /// The site was asked about the recipient.
    pub(in crate::core) fn recipient_answered(
        &mut self,
        now: Now,
        common: &mut Common,
        existence: Existence,
    ) {
        // A session that is over asks nothing any more.
        let Some(Question::Recipient { recipient, .. }) = self.session.question() else {
            return;
        };
        let path = &recipient.forward_path;
        let verdict = match common.takes_now(path.address(), existence) {
            Ok(()) => Verdict::Accept,
            Err(refusal) => self.refuse_recipient(common, path, refusal),
        };
        self.say(now, common, Input::Answer(verdict));
        self.read_unread(now, common);
        self.end_input(now, common);
        self.settle(common);
    }
}
