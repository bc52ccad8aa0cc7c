//! A link that the operator's own programs bring up and down.
//!
//! - `up` succeeds when the link is there. It may leave something running.
//! - `down` takes it down, or ends an `up` that is under way. If it fails or does not end,
//!   and `status` says that the link is down, it is. It is run too when `status`
//!   says that what we opened is down: if it came back by itself, it would be somebody
//!   else's, and never be hung up.
//! - `status` succeeds while the link is there, whoever opened it. It is asked now and
//!   then; without it a link that breaks is not noticed. If it cannot be run, or does not
//!   end, that says nothing of the link.

use std::cell::Cell;
use std::time::Duration;

use super::Meter;
use super::program::{Ended, Input, TERM_PATIENCE, run};
use crate::config::Login;
use crate::core::online::LinkEvent;
use crate::link::controller::{DIAL_PATIENCE, DialFailure, HANG_UP_PATIENCE, Hope, Presence};
use crate::report::Fact;
use crate::runtime::log::report_control;

/// Longest time for `up`: above the patience of the machine, which hangs up then. So `down`
/// is run, and takes down what `up` may have begun.
const UP_LIMIT: Duration = Duration::from_secs(200);
const _: () = assert!(UP_LIMIT.as_secs() > DIAL_PATIENCE.as_secs());
/// Longest time for `down`. It is killed then, and `status` is asked.
const DOWN_LIMIT: Duration = Duration::from_secs(25);
/// Longest time for `status` behind a `down` that failed.
const SEEN_DOWN_LIMIT: Duration = Duration::from_secs(5);
const _: () = assert!(
    DOWN_LIMIT.as_secs() + TERM_PATIENCE.as_secs() + SEEN_DOWN_LIMIT.as_secs()
        < HANG_UP_PATIENCE.as_secs(),
);
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

/// What `status` says of the link.
enum Says {
    Up,
    Down,
    /// It does not: why.
    Nothing(String),
}

impl Says {
    fn of(program: &str, ended: Result<Ended, String>) -> Self {
        match ended {
            Ok(ended) if ended.status.success() => Self::Up,
            Ok(ended) if ended.status.code().is_some() => Self::Down,
            Ok(ended) => Self::Nothing(ended.sentence(program)),
            Err(why) => Self::Nothing(why),
        }
    }
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

    /// What was seen is ours.
    pub(super) fn take_over(&self) {
        self.whose.set(Whose::Ours);
    }

    /// Whatever is there is somebody else's.
    pub(super) fn give_up(&self) {
        self.whose.set(Whose::NotOurs);
    }

    pub(super) async fn hang_up(&self) -> Result<(), String> {
        self.whose.set(Whose::Between);
        if let Err(why) = self.take_down().await {
            // That there is nothing to take down it may call a failure.
            if self.status.is_empty() || !self.is_seen_down().await {
                return Err(why);
            }
        }
        self.whose.set(Whose::NotOurs);
        Ok(())
    }

    async fn take_down(&self) -> Result<(), String> {
        let Some(program) = self.down.first() else {
            return Ok(());
        };
        let ended = run(&self.down, Input::Nothing, DOWN_LIMIT).await?;
        if ended.status.success() {
            Ok(())
        } else {
            Err(ended.sentence(program))
        }
    }

    async fn is_seen_down(&self) -> bool {
        let ended = run(&self.status, Input::Nothing, SEEN_DOWN_LIMIT).await;
        matches!(Says::of(&self.status[0], ended), Says::Down)
    }

    pub(super) async fn meter(&self) -> Option<u64> {
        self.meter.read().await
    }

    pub(super) async fn watch(&self, tell: &dyn Fn(LinkEvent)) {
        if self.status.is_empty() {
            tell(LinkEvent::Unseen);
            return;
        }
        let mut told = false;
        loop {
            let before = self.whose.get();
            let ended = run(&self.status, Input::Nothing, STATUS_LIMIT).await;
            let says = Says::of(&self.status[0], ended);
            if let Says::Nothing(why) = &says {
                if !std::mem::replace(&mut told, true) {
                    let what = format!("{why}; whether the link is up is not known meanwhile");
                    report_control(&Fact::Trouble { what });
                }
            } else {
                told = false;
            }
            // What was asked while it came or went is no answer.
            if before == self.whose.get() {
                match (before, says) {
                    (Whose::Ours, Says::Down) => self.lost(tell).await,
                    (Whose::NotOurs, Says::Up) => tell(LinkEvent::Presence(Presence::Selected)),
                    (Whose::NotOurs, Says::Down) => tell(LinkEvent::Presence(Presence::None)),
                    (_, Says::Nothing(_)) | (Whose::Ours, Says::Up) | (Whose::Between, _) => {}
                }
            }
            tokio::time::sleep(STATUS_INTERVAL).await;
        }
    }

    /// What we opened is down.
    async fn lost(&self, tell: &dyn Fn(LinkEvent)) {
        self.whose.set(Whose::Between);
        // That there is nothing to take down it may call a failure.
        let _ = self.take_down().await;
        // Unless it was told to hang up meanwhile.
        if self.whose.get() == Whose::Between {
            self.whose.set(Whose::NotOurs);
        }
        let why = format!("{} says that it is down", self.status[0]);
        tell(LinkEvent::Lost(why));
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
