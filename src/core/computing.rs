//! What takes too long for a core that carries mail: checking passwords and deriving
//! keys. Done by helper threads of the control core, a few at a time.
//!
//! Invariants: every work that a data core asked for is answered exactly once, if only
//! with "not now"; at most [`RUNNING_MAX`] run, at most [`WAITING_MAX`] wait, none for
//! longer than [`PATIENCE`].

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::core::{ConnectionId, CoreId};
use crate::smtp::auth::Password;
use crate::smtp::auth::scram::{self, Derivation, Keys, Salted};
use crate::smtp::auth::stored::Stored;
use crate::time::Instant;

/// How many are computed at once. Each takes a CPU for tens of milliseconds and 19 MiB;
/// more than two would take the CPUs from the mail.
pub const RUNNING_MAX: usize = 2;

/// How many wait: with two at once, a queue of some seconds. Who comes then is told to
/// come later (454).
pub const WAITING_MAX: usize = 100;

/// How long one waits: below what any client waits for a reply (RFC 5321 §4.5.3.2).
pub const PATIENCE: Duration = Duration::from_secs(20);

/// What is to be computed.
#[derive(Clone, Debug)]
pub enum Work {
    /// Is this the password?
    Verify {
        /// What is kept; `None` for a user that does not exist.
        stored: Option<Arc<Stored>>,
        /// What the client said.
        password: Password,
    },
    /// The server's keys of SCRAM.
    Keys {
        /// Of this password.
        password: Password,
        /// With this salt.
        salt: Vec<u8>,
    },
    /// What we prove with, as the client of a smarthost or mailbox.
    Salted {
        /// Of this password.
        password: Password,
        /// With the server's salt.
        salt: Vec<u8>,
        /// As often as the server wants; within [`scram::ITERATIONS_MAX`].
        iterations: u32,
    },
}

/// What was computed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Worked {
    /// It is the password, or not.
    Verified(bool),
    /// See [`Work::Keys`].
    Keys(Keys),
    /// See [`Work::Salted`].
    Salted(Salted),
    /// Nothing: too much else was to do.
    NotNow,
}

impl Work {
    /// Does it. For a helper thread.
    #[must_use]
    pub fn perform(&self) -> Worked {
        match self {
            Self::Verify { stored, password } => {
                Worked::Verified(Stored::verify(stored.as_deref(), password))
            }
            Self::Keys { password, salt } => {
                Worked::Keys(Keys::derive(password, salt, scram::ITERATIONS))
            }
            Self::Salted {
                password,
                salt,
                iterations,
            } => Worked::Salted(Salted::derive(password, salt, *iterations)),
        }
    }
}

impl From<Derivation> for Work {
    fn from(derivation: Derivation) -> Self {
        let Derivation {
            password,
            salt,
            iterations,
        } = derivation;
        Self::Salted {
            password,
            salt,
            iterations,
        }
    }
}

impl Worked {
    /// What came of a [`Derivation`], if there was time for it.
    pub(super) fn salted(self) -> Option<Salted> {
        match self {
            Self::Salted(salted) => Some(salted),
            Self::NotNow => None,
            other => unreachable!("{other:?} was not asked for"),
        }
    }
}

/// For whom something is computed. A connection wants one thing at a time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Asker {
    /// Which core.
    pub core: CoreId,
    /// Which of its connections.
    pub connection: ConnectionId,
}

/// What becomes of a work.
#[derive(Debug)]
pub(super) enum Next {
    /// Begin it.
    Begin(Asker, Work),
    /// It is not done.
    Refuse(Asker),
}

#[derive(Debug)]
struct Waiting {
    asker: Asker,
    work: Work,
    until: Instant,
}

/// The queue. See the module.
#[derive(Debug, Default)]
pub(super) struct Computing {
    running: usize,
    waiting: VecDeque<Waiting>,
}

impl Computing {
    /// Somebody wants something computed.
    pub(super) fn ask(&mut self, now: Instant, asker: Asker, work: Work) -> Option<Next> {
        if self.running < RUNNING_MAX {
            self.running += 1;
            Some(Next::Begin(asker, work))
        } else if self.waiting.len() < WAITING_MAX {
            let until = now + PATIENCE;
            self.waiting.push_back(Waiting { asker, work, until });
            None
        } else {
            Some(Next::Refuse(asker))
        }
    }

    /// One is done. Gives the next to begin.
    pub(super) fn done(&mut self) -> Option<Next> {
        self.running -= 1;
        let Waiting { asker, work, .. } = self.waiting.pop_front()?;
        self.running += 1;
        Some(Next::Begin(asker, work))
    }

    /// One that has waited for too long. Call it until there is none.
    pub(super) fn late(&mut self, now: Instant) -> Option<Next> {
        let waiting = self.waiting.pop_front_if(|waiting| waiting.until <= now)?;
        Some(Next::Refuse(waiting.asker))
    }

    /// When [`Computing::late`] is to be looked at.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.waiting.front().map(|waiting| waiting.until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work() -> Work {
        Work::Verify {
            stored: None,
            password: Password::new("x".to_owned()).unwrap(),
        }
    }

    fn asker(number: u64) -> Asker {
        Asker {
            core: CoreId(0),
            connection: ConnectionId(number),
        }
    }

    fn shown(next: Option<Next>) -> String {
        match next {
            None => "wait".to_owned(),
            Some(Next::Begin(asker, _)) => format!("begin {}", asker.connection.0),
            Some(Next::Refuse(asker)) => format!("refuse {}", asker.connection.0),
        }
    }

    #[test]
    fn a_few_run_some_wait_the_rest_is_refused() {
        let mut computing = Computing::default();
        let now = Instant::from_nanos(0);
        for number in 0..RUNNING_MAX as u64 {
            let got = shown(computing.ask(now, asker(number), work()));
            assert_eq!(got, format!("begin {number}"));
        }
        let behind = RUNNING_MAX as u64;
        for number in behind..behind + WAITING_MAX as u64 {
            assert_eq!(shown(computing.ask(now, asker(number), work())), "wait");
        }
        assert_eq!(shown(computing.ask(now, asker(999), work())), "refuse 999");
        assert_eq!(shown(computing.done()), format!("begin {behind}"));
        assert_eq!(computing.deadline(), Some(now + PATIENCE));
        assert_eq!(shown(computing.late(now)), "wait");
        let late = now + PATIENCE;
        for number in behind + 1..behind + WAITING_MAX as u64 {
            assert_eq!(shown(computing.late(late)), format!("refuse {number}"));
        }
        assert_eq!(shown(computing.late(late)), "wait");
        assert_eq!(computing.deadline(), None);
        for _ in 0..RUNNING_MAX {
            assert_eq!(shown(computing.done()), "wait");
        }
        assert_eq!(shown(computing.ask(late, asker(7), work())), "begin 7");
    }

    #[test]
    fn nothing_secret_is_shown() {
        let work = Work::Verify {
            stored: None,
            password: Password::new("swordfish".to_owned()).unwrap(),
        };
        assert!(!format!("{work:?}").contains("swordfish"));
    }
}
