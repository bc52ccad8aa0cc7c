//! What a next hop does other than it should: at which command, from which time
//! on, how often.

use std::sync::{Arc, Condvar, Mutex};

use super::waiting::PATIENCE;

/// Where in a session a rule applies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    /// Before the greeting.
    Greeting,
    /// EHLO or HELO.
    Hello,
    /// MAIL.
    Mail,
    /// RCPT.
    Rcpt,
    /// DATA, before 354.
    Data,
    /// Within the message text: the first line of it, or the first half of a chunk.
    Body,
    /// The end of data or the last chunk was received.
    End,
    /// RSET.
    Rset,
    /// QUIT.
    Quit,
}

/// What is done there.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    /// This reply in place of the usual one.
    Reply(String),
    /// This reply, then the connection is closed.
    ReplyThenClose(String),
    /// The usual thing is done and the usual reply given; then it is closed.
    ObeyThenClose,
    /// The connection is closed without a reply.
    Close,
    /// No reply, ever; the connection stays.
    Silence,
    /// Nothing until the gate is opened, then as usual.
    Hold(Gate),
}

/// One departure from the usual.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) stage: Stage,
    pub(crate) containing: String,
    pub(crate) skip: u32,
    pub(crate) times: u32,
    pub(crate) action: Action,
}

/// Begins a rule: at this command, each time.
pub(crate) fn on(stage: Stage) -> When {
    When {
        stage,
        containing: String::new(),
        skip: 0,
        times: u32::MAX,
    }
}

/// A rule without its action.
#[derive(Clone, Debug)]
pub(crate) struct When {
    stage: Stage,
    containing: String,
    skip: u32,
    times: u32,
}

impl When {
    /// Only where the command line has this text in it.
    pub(crate) fn containing(mut self, text: &str) -> Self {
        self.containing = text.to_owned();
        self
    }

    /// Not for the first `n`.
    pub(crate) fn after(mut self, n: u32) -> Self {
        self.skip = n;
        self
    }

    /// Then for this many, over all sessions.
    pub(crate) fn times(mut self, n: u32) -> Self {
        self.times = n;
        self
    }

    fn do_this(self, action: Action) -> Rule {
        Rule {
            stage: self.stage,
            containing: self.containing,
            skip: self.skip,
            times: self.times,
            action,
        }
    }

    pub(crate) fn reply(self, reply: &str) -> Rule {
        self.do_this(Action::Reply(reply.to_owned()))
    }

    pub(crate) fn reply_then_close(self, reply: &str) -> Rule {
        self.do_this(Action::ReplyThenClose(reply.to_owned()))
    }

    pub(crate) fn obey_then_close(self) -> Rule {
        self.do_this(Action::ObeyThenClose)
    }

    pub(crate) fn close(self) -> Rule {
        self.do_this(Action::Close)
    }

    pub(crate) fn silence(self) -> Rule {
        self.do_this(Action::Silence)
    }

    pub(crate) fn hold(self, gate: &Gate) -> Rule {
        self.do_this(Action::Hold(gate.clone()))
    }
}

/// Something that others wait at until it is opened. It knows how many wait.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gate(Arc<(Mutex<GateState>, Condvar)>);

#[derive(Debug, Default)]
struct GateState {
    open: bool,
    arrived: u32,
}

impl Gate {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Lets all pass, now and later.
    pub(crate) fn open(&self) {
        let (state, changed) = &*self.0;
        state.lock().expect("no holder panics").open = true;
        changed.notify_all();
    }

    /// How many have come here so far.
    pub(crate) fn arrived(&self) -> u32 {
        self.0.0.lock().expect("no holder panics").arrived
    }

    /// Waits until it is open, but not for ever, so that a failed test ends.
    pub(crate) fn pass(&self) {
        let (state, changed) = &*self.0;
        let mut state = state.lock().expect("no holder panics");
        state.arrived += 1;
        let closed = |state: &mut GateState| !state.open;
        let _ = changed.wait_timeout_while(state, PATIENCE, closed);
    }
}
