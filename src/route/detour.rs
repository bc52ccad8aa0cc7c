//! Where the operator sends single messages, past the routes.
//!
//! A detour is a text that is kept with the message, in the spool as well: it must mean
//! the same after a restart. So it is written in full (with the port), and what it
//! means is found anew where it is needed.
//!
//! One of them is no place but leave to go: past the gate of its queue, to the host of the
//! customer that it is held for ([`Detour::site`]).
//!
//! What it does not do: it holds nothing and throws nothing away. Those have commands of
//! their own.

use std::fmt;
use std::str::FromStr;

use super::written::Written;
use super::{DeliveryMode, NextHopRef, Routes, SmarthostGroup, Target};

/// The word for the smarthosts of the configuration.
const SMARTHOST: &str = "smarthost";

/// The word, in the spool, for what was released before the rest of its queue.
const SITE: &str = "site";

/// Where a message goes in place of where the routes lead it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Detour {
    text: Box<str>,
    goal: Goal,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Goal {
    Target(Target),
    /// The smarthosts, whichever those are.
    Smarthosts,
    /// Where the routes lead; what they hold for a customer goes to its host.
    Site,
}

impl Detour {
    /// To the host of the customer that the mail is held for, before the rest of its queue.
    #[must_use]
    pub fn site() -> Self {
        Self {
            text: SITE.into(),
            goal: Goal::Site,
        }
    }

    /// Of the text that was kept in the spool.
    ///
    /// # Errors
    /// It is of another version, and this one cannot read it.
    pub fn kept(text: &str) -> Result<Self, String> {
        if text == SITE {
            return Ok(Self::site());
        }
        text.parse()
    }

    /// As it is written, and kept.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Where it leads mail for `domain`, the text of a [`Domain`](crate::mail::Domain).
    /// `None` if it leads to smarthosts, and there are none.
    #[must_use]
    pub fn next_hop<'a>(&'a self, routes: &'a Routes, domain: &'a str) -> Option<NextHopRef<'a>> {
        match &self.goal {
            Goal::Target(target) => Some(target.next_hop(domain)),
            Goal::Smarthosts => routes.mode().smarthosts().map(NextHopRef::Smarthost),
            Goal::Site => Some(match routes.next_hop(domain) {
                NextHopRef::Hold { customer, domain } if !customer.is_of_routes() => {
                    NextHopRef::Site { customer, domain }
                }
                other => other,
            }),
        }
    }
}

impl DeliveryMode {
    /// The smarthosts of this mode, if it has any.
    #[must_use]
    pub const fn smarthosts(self) -> Option<SmarthostGroup> {
        match self {
            Self::Mx => None,
            Self::Smarthost(group) | Self::MxThenSmarthost(group) => Some(group),
        }
    }
}

impl fmt::Display for Detour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Detour {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == SMARTHOST {
            return Ok(Self {
                text: text.into(),
                goal: Goal::Smarthosts,
            });
        }
        match text.parse::<Written>() {
            Ok(Written::Hold) => Err("`turnspool queue hold` holds messages".to_owned()),
            Ok(Written::Discard) => Err("`turnspool queue delete` deletes messages".to_owned()),
            Ok(written) => Ok(Self {
                text: written.to_string().into(),
                goal: Goal::Target(written.target()),
            }),
            Err(_) if text == SITE => {
                Err("`turnspool queue release` lets messages go to their customer".to_owned())
            }
            Err(_) if !text.contains("://") && text.contains('.') => {
                Err(format!("write \"smtp://{text}\""))
            }
            Err(_) => Err(
                "write smtp://HOST:PORT, lmtp://HOST:PORT, lmtp:///PATH, maildir:/PATH, mx or \
                 smarthost"
                    .to_owned(),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::{RoutesInSmarthostMode, Scope};

    #[test]
    fn a_detour_is_written_in_full_and_read_as_it_is_written() {
        let check =
            |text: &str, expected: Result<&str, &str>| match (text.parse::<Detour>(), expected) {
                (Ok(detour), Ok(expected)) => {
                    assert_eq!(detour.as_str(), expected);
                    assert_eq!(detour.as_str().parse::<Detour>(), Ok(detour));
                }
                (Err(error), Err(part)) => assert!(error.contains(part), "{text}: {error}"),
                (got, _) => panic!("{text}: {got:?}"),
            };
        check("smarthost", Ok("smarthost"));
        check("mx", Ok("mx"));
        check("smtp://10.0.0.5", Ok("smtp://10.0.0.5:25"));
        check("smtp://[2001:db8::1]:2500", Ok("smtp://[2001:db8::1]:2500"));
        check("lmtp:///run/lmtp", Ok("lmtp:///run/lmtp"));
        check("maildir:/var/mail/{local}", Ok("maildir:/var/mail/{local}"));
        check("hold", Err("queue hold"));
        check("discard", Err("queue delete"));
        check("site", Err("queue release"));
        check("mail.example", Err("\"smtp://mail.example\""));
        check("", Err("smtp://HOST:PORT"));
        check("gopher://x/", Err("smtp://HOST:PORT"));
    }

    #[test]
    fn what_is_let_go_follows_the_routes_past_the_gate() {
        let target = |text: &str| text.parse::<Written>().unwrap().target();
        let scope = |text: &str| text.parse::<Scope>().unwrap();
        let customers = [(scope("branch.example"), "branch".parse().unwrap())];
        let rules = [
            (scope("held.example"), target("hold")),
            (scope("mx.example"), target("mx")),
        ];
        let ignored = RoutesInSmarthostMode::Ignored;
        let routes = Routes::new(DeliveryMode::Mx, ignored, customers, rules).unwrap();
        let detour = Detour::kept("site").unwrap();
        assert_eq!(detour, Detour::site());
        let check = |domain: &str, expected: &str| {
            let next_hop = detour.next_hop(&routes, domain).unwrap();
            assert_eq!(next_hop.to_owned().to_string(), expected, "{domain}");
        };
        check("branch.example", "site of branch (branch.example)");
        // Of a route nobody has said where its mail goes when it goes.
        check("held.example", "held (held.example)");
        check("mx.example", "mx of mx.example");
        let other = Detour::kept("smtp://10.0.0.5:25").unwrap();
        assert_eq!(other, "smtp://10.0.0.5".parse().unwrap());
        assert!(Detour::kept("carrier pigeon").is_err());
    }

    #[test]
    fn smarthosts_are_those_of_the_mode() {
        let routes = |mode| Routes::new(mode, RoutesInSmarthostMode::Ignored, [], []).unwrap();
        let detour: Detour = "smarthost".parse().unwrap();
        let group = SmarthostGroup(0);
        let check = |mode: DeliveryMode, expected: Option<NextHopRef<'_>>| {
            let routes = routes(mode);
            assert_eq!(detour.next_hop(&routes, "a.example"), expected);
        };
        let smarthosts = Some(NextHopRef::Smarthost(group));
        check(DeliveryMode::Smarthost(group), smarthosts);
        check(DeliveryMode::MxThenSmarthost(group), smarthosts);
        check(DeliveryMode::Mx, None);
    }
}
