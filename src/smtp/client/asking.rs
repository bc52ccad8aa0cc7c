//! ETRN in a client session (RFC 1985): a site asks its provider to begin to send what it
//! holds. The mail itself comes over connections that the provider opens.
//!
//! One name is asked for after the other, since ETRN ends a group of pipelined commands
//! (RFC 2920 §3.1). A "no" to one name says nothing of the next.

use std::sync::Arc;

use super::{Output, Session, SessionError, Stage, State};
use crate::smtp::answer::{Answer, Class, Reply};
use crate::smtp::etrn::Node;
use crate::smtp::turn::Call;
use crate::time::Now;

/// What a session asks a provider for, where it does not deliver mail.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ask {
    /// ATRN: our mail over this connection.
    Turn(Call),
    /// ETRN: our mail over connections of the provider's. Never empty.
    Release(Arc<[Node]>),
}

/// What a provider says to ETRN (RFC 1985 §5.3).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Said {
    /// 250: it looks for mail; whether there is some it does not say.
    Looking,
    /// 251: there is none.
    Nothing,
    /// 252, 253: there is some, and it is on its way.
    Pending,
    /// 458 and other 4yz: not now.
    Later,
    /// 459, and all 5yz: not this name, or not for us.
    Never,
}

/// One name, and what the provider said to it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Asked {
    /// Which.
    pub node: Node,
    /// What that means.
    pub said: Said,
    /// In its own words.
    pub reply: Reply,
}

impl Session {
    pub(super) fn ask_for(&mut self, now: Now, nodes: Arc<[Node]>, next: usize) {
        match nodes.get(next) {
            Some(node) => {
                let line = format!("ETRN {node}\r\n");
                self.wire
                    .command(|out| out.extend_from_slice(line.as_bytes()));
                self.since.wait = now.instant;
                self.state = State::Asking(nodes, next);
            }
            None => self.quit_politely(now),
        }
    }

    pub(super) fn asked(
        &mut self,
        now: Now,
        nodes: Arc<[Node]>,
        place: usize,
        answer: &Answer<'_>,
    ) {
        let reply = answer.reply();
        let said = match (answer.code.class(), answer.code.value()) {
            (Class::Positive, 251) => Said::Nothing,
            (Class::Positive, 252 | 253) => Said::Pending,
            (Class::Positive, _) => Said::Looking,
            (Class::Transient, 459) | (Class::Permanent, _) => Said::Never,
            (Class::Transient, _) => Said::Later,
            (Class::Intermediate, _) => {
                let stage = Stage::Release;
                return self.fail(now, SessionError::OutOfOrder { stage, reply });
            }
        };
        let node = nodes[place].clone();
        self.facts
            .push_back(Output::Asked(Asked { node, said, reply }));
        self.ask_for(now, nodes, place + 1);
    }
}
