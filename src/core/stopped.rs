//! Queues that the operator has stopped stay so over a restart.
//!
//! A note in the log of the first core says it for all cores. Its key is the queue's own
//! name, its value says where the queue leads, in words that mean the
//! same after a restart.
//!
//! What this module does not do: single messages on hold are marked in the log
//! themselves.

use spool_format::Recovered;

use crate::core::CoreId;
use crate::core::common::Common;
use crate::core::settings::Settings;
use crate::mail::Domain;
use crate::queue::{Schedule, Selection};
use crate::route::written::Written;
use crate::route::{HostName, NextHop, Routes, SmarthostGroup, Target};
use crate::time::Now;

/// The tag of these notes (spool-format, "Tags").
const STOPPED_TAG: u16 = 5;

/// Whose log has the notes: there is always a first core.
const HOME: CoreId = CoreId(0);

impl Common {
    /// The operator has stopped this queue.
    pub(super) fn keep_stopped(&mut self, now: Now, next_hop: &NextHop) {
        if self.id == HOME
            && let Some(value) = written(next_hop)
        {
            let key = next_hop.to_string();
            self.remember(now, STOPPED_TAG, key.as_bytes(), value.as_bytes());
            // What the operator was told is done, a killed process does not undo.
            self.log.write_notes();
        }
    }

    /// The mail of this queue may go again.
    pub(super) fn keep_released(&mut self, now: Now, next_hop: &NextHop) {
        let key = next_hop.to_string();
        let key = key.as_bytes();
        if self.id == HOME && self.log.note_value(STOPPED_TAG, key).is_some() {
            self.forget(now, STOPPED_TAG, key);
            self.log.write_notes();
        }
    }
}

/// Stops the queues of a core that starts. Gives the names of those that are gone.
pub(super) fn stop_again(
    now: Now,
    queue: &mut Schedule,
    settings: &Settings,
    recovered: &Recovered,
) -> Vec<String> {
    let mut gone = Vec::new();
    for note in recovered
        .notes
        .iter()
        .filter(|note| note.tag == STOPPED_TAG)
    {
        let Some(value) = &note.value else {
            continue;
        };
        match std::str::from_utf8(value)
            .ok()
            .and_then(|value| read(value, &settings.routes))
        {
            Some(next_hop) => {
                queue.hold(now, Selection::NextHop(next_hop.as_ref()));
            }
            None => gone.push(String::from_utf8_lossy(&note.key).into_owned()),
        }
    }
    gone
}

/// Where a queue leads, in words that [`read`] knows. `None`: it is a customer's,
/// and nobody stops it, or its Maildir has a name that is no text.
fn written(next_hop: &NextHop) -> Option<String> {
    match next_hop {
        NextHop::Mx(domain) => Some(format!("mx {domain}")),
        NextHop::Smarthost(group) => Some(format!("smarthost {}", group.0)),
        NextHop::Host(host) => match &host.host {
            HostName::Socket(path) => path.to_str().map(|path| format!("lmtp://{path}")),
            HostName::Name(_) | HostName::Address(_) => Some(host.to_string()),
        },
        NextHop::Discard => Some(Written::Discard.to_string()),
        NextHop::Maildir(path) => path.to_str().map(|path| format!("maildir:{path}")),
        NextHop::Hold { .. } | NextHop::Site { .. } => None,
    }
}

/// The next hop of these words, if there still is one.
fn read(text: &str, routes: &Routes) -> Option<NextHop> {
    if let Some(domain) = text.strip_prefix("mx ") {
        return domain.parse::<Domain>().ok().map(NextHop::Mx);
    }
    if let Some(number) = text.strip_prefix("smarthost ") {
        let group = SmarthostGroup(number.parse().ok()?);
        let known = routes.mode().smarthosts() == Some(group);
        return known.then_some(NextHop::Smarthost(group));
    }
    match text.parse::<Written>().ok()?.target() {
        Target::Host(host) => Some(NextHop::Host(host)),
        Target::Maildir(path) => Some(NextHop::Maildir(path)),
        Target::Discard => Some(NextHop::Discard),
        Target::Mx | Target::Smarthost(_) | Target::Hold(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::{CustomerName, DeliveryMode, RoutesInSmarthostMode};

    fn routes(mode: DeliveryMode) -> Routes {
        Routes::new(mode, RoutesInSmarthostMode::Ignored, [], []).expect("no routes")
    }

    #[test]
    fn a_queue_is_found_by_its_words() {
        let group = SmarthostGroup(0);
        let routes_to = routes(DeliveryMode::Smarthost(group));
        let check = |next_hop: NextHop, expected: &str| {
            assert_eq!(written(&next_hop).as_deref(), Some(expected));
            assert_eq!(read(expected, &routes_to), Some(next_hop), "{expected}");
        };
        let route = |text: &str| match text.parse::<Written>().expect("a route").target() {
            Target::Host(host) => NextHop::Host(host),
            Target::Maildir(path) => NextHop::Maildir(path),
            Target::Discard => NextHop::Discard,
            other => panic!("{other:?}"),
        };
        check(
            NextHop::Mx("b.example".parse().expect("a domain")),
            "mx b.example",
        );
        check(NextHop::Smarthost(group), "smarthost 0");
        for text in [
            "smtp://mail.example:25",
            "smtp://[2001:db8::1]:2525",
            "lmtp://192.0.2.1:24",
            "lmtp:///run/dovecot/lmtp",
            "maildir:/var/mail/{local}",
            "discard",
        ] {
            check(route(text), text);
        }
    }

    #[test]
    fn what_leads_nowhere_is_no_queue() {
        let by_mx = routes(DeliveryMode::Mx);
        for text in [
            "smarthost 0",
            "smarthost x",
            "mx a b",
            "mx",
            "hold",
            "",
            "gopher://x",
        ] {
            assert_eq!(read(text, &by_mx), None, "{text}");
        }
        let held = NextHop::Hold {
            customer: "branch".parse::<CustomerName>().expect("a name"),
            domain: "branch.example".parse().expect("a domain"),
        };
        assert_eq!(written(&held), None);
    }
}
