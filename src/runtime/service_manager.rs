//! What the service manager (systemd) is told, and how it sees that we live.
//!
//! Readiness, reloads and the stop follow the facts that the operator is told, so the
//! two cannot differ. As a sign of life, all threads have to answer: a data core that
//! hangs lets the watchdog run out, and the service manager starts us anew, which loses
//! nothing (see [`crate::spool`]). Without a service manager nothing happens here.
//!
//! systemd's sd_notify(3) describes the messages. `$NOTIFY_SOCKET` stays in the
//! environment: what a child says counts only if the unit has `NotifyAccess=all`.

use std::time::Duration;

use sd_notify::NotifyState;

use crate::core::admin::{Command, Response};
use crate::report::Fact;
use crate::runtime::control::Control;

/// Longest sentence for the status line; systemd shows one line.
const STATUS_CHARS_MAX: usize = 200;

/// Tells what concerns the service manager in a fact of the control core.
pub(super) fn tell(fact: &Fact) {
    let sentence = || -> String { fact.to_string().chars().take(STATUS_CHARS_MAX).collect() };
    match fact {
        Fact::Started { .. } | Fact::Configured { .. } => {
            send(&[NotifyState::Ready, NotifyState::Status(&sentence())]);
        }
        // The old configuration is in force: that is ready, too.
        Fact::ConfigurationRefused { .. } => send(&[
            NotifyState::Ready,
            NotifyState::Status("the new configuration has errors, see the log"),
        ]),
        Fact::Stopping { .. } => {
            send(&[NotifyState::Stopping, NotifyState::Status(&sentence())]);
        }
        _ => {}
    }
}

/// The configuration is being read again.
pub(super) fn reloading() {
    // The time lets the service manager tell this reload from an earlier one.
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        send(&[NotifyState::Reloading, now]);
    }
}

/// Gives signs of life for as long as all threads answer, if there is a watchdog.
pub(super) fn watch(control: &Control) {
    let Some(patience) = sd_notify::watchdog_enabled() else {
        return;
    };
    // As sd_watchdog_enabled(3) asks: at half the time. A sign that is late by the
    // other half is a hang.
    let half = (patience / 2).max(Duration::from_millis(1));
    let control = control.clone();
    tokio::task::spawn_local(async move {
        let mut signs = tokio::time::interval(half);
        loop {
            signs.tick().await;
            let answered = tokio::time::timeout(half, control.ask(Command::Status)).await;
            if matches!(answered, Ok(Response::Status(_))) {
                send(&[NotifyState::Watchdog]);
            }
        }
    });
}

fn send(states: &[NotifyState<'_>]) {
    // Nobody is there to be told that nobody listens.
    let _ = sd_notify::notify(states);
}
