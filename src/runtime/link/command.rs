//! A link that the operator's own programs bring up and down.
//!
//! - `up` succeeds when the link is there. It may leave something running.
//! - `down` takes it down, or ends an `up` that is under way.
//! - `status` succeeds while the link is there, whoever opened it. It is asked now and
//!   then; without it a link that breaks is not noticed.

use std::cell::Cell;
use std::time::Duration;

use super::Meter;
use super::program::{Input, run};
use crate::config::Login;
use crate::core::online::LinkEvent;
use crate::link::controller::{DialFailure, Hope, Presence};

/// Longest time for `up`: below the patience of the machine.
const UP_LIMIT: Duration = Duration::from_secs(170);
/// Longest time for `down`: below the patience of the machine.
const DOWN_LIMIT: Duration = Duration::from_secs(25);
/// Longest time for `status`.
const STATUS_LIMIT: Duration = Duration::from_secs(10);
/// How often `status` is asked. A link that broke costs nothing; that mail waits for it
/// in vain is noticed by then.
const STATUS_INTERVAL: Duration = Duration::from_secs(5);
/// `EX_CONFIG` and `EX_NOPERM` of sysexits, and what a shell says of a program that is not
/// there: the same again is of no use.
const NO_HOPE: [i32; 4] = [77, 78, 126, 127];

/// Whose link it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whose {
    /// Nobody's, or somebody else's.
    NotOurs,
    /// It is being opened or closed.
    Between,
    Ours,
}

pub(super) struct Command {
    up: Vec<String>,
    down: Vec<String>,
    status: Vec<String>,
    login: Option<Login>,
    meter: Meter,
    whose: Cell<Whose>,
}

impl Command {
    pub(super) fn new(
        up: Vec<String>,
        down: Vec<String>,
        status: Vec<String>,
        login: Option<Login>,
        meter: Meter,
    ) -> Self {
        Self {
            up,
            down,
            status,
            login,
            meter,
            whose: Cell::new(Whose::NotOurs),
        }
    }

    pub(super) async fn dial(&self) -> Result<(), DialFailure> {
        self.whose.set(Whose::Between);
        let failure = |why: String, hope| DialFailure { why, hope };
        let input = match self.input() {
            Ok(input) => input,
            Err(why) => {
                self.whose.set(Whose::NotOurs);
                return Err(failure(why, Hope::NotSoon));
            }
        };
        let result = match run(&self.up, input, UP_LIMIT).await {
            Ok(ended) if ended.status.success() => Ok(()),
            Ok(ended) => {
                let hopeless = ended
                    .status
                    .code()
                    .is_some_and(|code| NO_HOPE.contains(&code));
                let hope = if hopeless { Hope::NotSoon } else { Hope::Again };
                Err(failure(ended.sentence(&self.up[0]), hope))
            }
            Err(why) => Err(failure(why, Hope::Again)),
        };
        self.whose.set(if result.is_ok() {
            Whose::Ours
        } else {
            Whose::NotOurs
        });
        result
    }

    pub(super) async fn hang_up(&self) -> Result<(), String> {
        self.whose.set(Whose::Between);
        if !self.down.is_empty() {
            let ended = run(&self.down, Input::Nothing, DOWN_LIMIT).await?;
            if !ended.status.success() {
                return Err(ended.sentence(&self.down[0]));
            }
        }
        self.whose.set(Whose::NotOurs);
        Ok(())
    }

    pub(super) async fn meter(&self) -> Option<u64> {
        self.meter.read().await
    }

    pub(super) async fn watch(&self, tell: &dyn Fn(LinkEvent)) {
        if self.status.is_empty() {
            return;
        }
        loop {
            let before = self.whose.get();
            let ended = run(&self.status, Input::Nothing, STATUS_LIMIT).await;
            // What was asked while it came or went is no answer.
            if before == self.whose.get() {
                let is_up = ended.is_ok_and(|ended| ended.status.success());
                match (before, is_up) {
                    (Whose::Ours, false) => {
                        self.whose.set(Whose::NotOurs);
                        let why = format!("{} says that it is down", self.status[0]);
                        tell(LinkEvent::Lost(why));
                    }
                    (Whose::NotOurs, true) => tell(LinkEvent::Presence(Presence::Selected)),
                    (Whose::NotOurs, false) => tell(LinkEvent::Presence(Presence::None)),
                    (Whose::Ours, true) | (Whose::Between, _) => {}
                }
            }
            tokio::time::sleep(STATUS_INTERVAL).await;
        }
    }

    /// The user name and the password, a line each.
    fn input(&self) -> Result<Input, String> {
        let Some(login) = &self.login else {
            return Ok(Input::Nothing);
        };
        let path = login.password_file.path().display();
        let secret = login
            .password_file
            .read()
            .map_err(|error| format!("reading {path} failed: {error}"))?;
        let lines = format!("{}\n{}\n", login.user, secret.reveal());
        Ok(Input::Octets(lines.into_bytes()))
    }
}
