//! ETRN in a server session (RFC 1985): between two transactions, one question to the
//! core, one answer. The answer may take as long as the core has to count.

use super::transaction::Open;
use super::{Output, Session, State};
use crate::mail::Receipt;
use crate::smtp::etrn::{self, Answer, Node};
use crate::smtp::reply;

impl<R: Receipt> Session<R> {
    /// The command.
    pub(super) fn etrn(&mut self, node: Node) {
        let State::Commands(open) = &self.state else {
            unreachable!("commands are read between commands")
        };
        if self.hello.is_none() {
            self.rebuff(reply::HELLO_FIRST);
        } else if !matches!(open, Open::Nothing) {
            // RFC 1985 §5.3: not between MAIL and the end of data.
            self.refuse(&reply::NESTED_MAIL);
        } else {
            self.state = State::AskedRelease(Box::new(node));
            self.outputs.push_back(Output::Ask);
        }
    }

    /// The core's answer.
    pub(super) fn released(&mut self, answer: Answer) {
        self.waiting_since = self.now.instant;
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Closed => {}
            State::AskedRelease(node) => {
                self.state = State::Commands(Open::Nothing);
                match etrn::reply(&node, answer) {
                    Ok(reply) => self.reply(&reply),
                    Err(refusal) => self.rebuff(refusal),
                }
            }
            state => panic!("a release that was not asked for, in {state:?}"),
        }
    }
}
