//! Where the operator sends single messages, past the routes.
//!
//! A detour is a text that is kept with the message, in the spool as well: it must mean
//! the same after a restart. So it is written in full (with the port), and what it
//! means is found anew where it is needed.
//!
//! What it does not do: it holds nothing and throws nothing away. Those have commands of
//! their own.

use std::fmt;
use std::str::FromStr;

use super::written::Written;
use super::{DeliveryMode, NextHopRef, Routes, SmarthostGroup, Target};

/// The word for the smarthosts of the configuration.
const SMARTHOST: &str = "smarthost";

/// Where a message goes in place of where the routes lead it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Detour {
    text: Box<str>,
    /// `None`: the smarthosts, whichever those are.
    target: Option<Target>,
}

impl Detour {
    /// As it is written, and kept.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Where it leads mail for `domain`, the text of a [`Domain`](crate::mail::Domain).
    /// `None` if it leads to smarthosts, and there are none.
    #[must_use]
    pub fn next_hop<'a>(&'a self, routes: &Routes, domain: &'a str) -> Option<NextHopRef<'a>> {
        match &self.target {
            None => routes.mode().smarthosts().map(NextHopRef::Smarthost),
            Some(target) => Some(target.next_hop(domain)),
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
                target: None,
            });
        }
        match text.parse::<Written>() {
            Ok(Written::Hold) => Err("`turnspool queue hold` holds messages".to_owned()),
            Ok(Written::Discard) => Err("`turnspool queue delete` deletes messages".to_owned()),
            Ok(written) => Ok(Self {
                text: written.to_string().into(),
                target: Some(written.target()),
            }),
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
    use crate::route::RoutesInSmarthostMode;

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
        check("mail.example", Err("\"smtp://mail.example\""));
        check("", Err("smtp://HOST:PORT"));
        check("gopher://x/", Err("smtp://HOST:PORT"));
    }

    #[test]
    fn smarthosts_are_those_of_the_mode() {
        let routes = |mode| Routes::new(mode, RoutesInSmarthostMode::Ignored, [], []).unwrap();
        let detour: Detour = "smarthost".parse().unwrap();
        let group = SmarthostGroup(0);
        for mode in [
            DeliveryMode::Smarthost(group),
            DeliveryMode::MxThenSmarthost(group),
        ] {
            let next_hop = detour.next_hop(&routes(mode), "a.example");
            assert_eq!(next_hop, Some(NextHopRef::Smarthost(group)));
        }
        assert_eq!(
            detour.next_hop(&routes(DeliveryMode::Mx), "a.example"),
            None
        );
    }
}
