//! Clients that come over a link, and which of them is the provider that a collector has
//! asked to call.
//!
//! A provider that was asked by ETRN, a message or a program delivers by sessions of its
//! own. So that the link neither hangs up before it has called, nor stays up when it is
//! done, its sessions are told apart from those of strangers: by the address from which
//! they come, and by the mail that they bring.
//!
//! Rules:
//!
//! - From the addresses of the server that was asked, and from the networks that the
//!   operator names (`callers`), it is the provider, whatever it brings.
//! - From elsewhere it is, if it has brought mail for a domain that was asked for: many
//!   providers send from another address than they listen at. Where the operator has
//!   named networks, it is not.
//! - Who was there before the collector ran is not.
//!
//! What it does not do: it decides nothing about the session, and trusts nobody for where
//! he comes from: all that depends on it is how long the link stays up.

use std::net::IpAddr;

use hashbrown::HashMap;

use crate::core::collector::{Collector, Means, Prepared, Provider};
use crate::core::{ConnectionId, CoreId, Endpoint};
use crate::mail::{Domain, Envelope};
use crate::smtp::client::asking::Ask;
use crate::smtp::etrn::Node;

/// Domains of one session's mail that are kept. A provider brings those of one site;
/// beyond so many it is taken for one that has brought the wanted one, too.
const DOMAINS_MAX: usize = 32;

/// Addresses of one provider that are kept: more than one has.
const ADDRESSES_MAX: usize = 64;

/// What a session has brought.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Brought {
    /// Domains of the recipients, each once.
    domains: Vec<Domain>,
    /// There were more.
    more: bool,
}

impl Brought {
    /// A message was taken.
    pub fn note(&mut self, envelope: &Envelope) {
        for recipient in &envelope.recipients {
            let domain = recipient.forward_path.address().domain();
            if self.domains.contains(&domain) {
                continue;
            }
            if self.domains.len() < DOMAINS_MAX {
                self.domains.push(domain);
            } else {
                self.more = true;
            }
        }
    }

    fn has_any(&self, wanted: impl Fn(&Domain) -> bool) -> bool {
        self.more || self.domains.iter().any(wanted)
    }
}

/// A session that came over a link.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Visit {
    /// On which core.
    pub core: CoreId,
    /// Which of its connections.
    pub connection: ConnectionId,
    /// What of it.
    pub event: Event,
}

/// What happens of a [`Visit`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// It begins.
    Came(IpAddr),
    /// It is over.
    Gone(Brought),
}

/// Its place in the order in which they came.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Number(u64);

/// Who is there.
#[derive(Debug, Default)]
pub struct Visitors {
    open: HashMap<(CoreId, ConnectionId), (Number, IpAddr)>,
    last: Number,
}

impl Visitors {
    /// Takes what happened. Of a session that is over, gives who it was.
    pub fn take(&mut self, visit: &Visit) -> Option<(Number, IpAddr)> {
        let id = (visit.core, visit.connection);
        match visit.event {
            Event::Came(client) => {
                self.last.0 += 1;
                self.open.insert(id, (self.last, client.to_canonical()));
                None
            }
            Event::Gone(_) => self.open.remove(&id),
        }
    }

    /// The last that came.
    #[must_use]
    pub const fn last(&self) -> Number {
        self.last
    }
}

/// Who is awaited behind one run of a collector, and came.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Awaiting {
    /// Sessions up to this one are not its.
    behind: Number,
    addresses: Vec<IpAddr>,
    came: Option<IpAddr>,
    stranger: Option<IpAddr>,
}

impl Awaiting {
    /// A run begins.
    #[must_use]
    pub fn begin(visitors: &Visitors) -> Self {
        Self {
            behind: visitors.last(),
            ..Self::default()
        }
    }

    /// Where the provider is, is known now.
    pub fn prepared(&mut self, prepared: &Prepared) {
        let Prepared::Provider(hosts) = prepared else {
            return;
        };
        let addresses = hosts.iter().flat_map(|host| &host.addresses);
        let addresses = addresses.filter_map(|address| match address {
            Endpoint::Tcp(address) => Some(address.ip().to_canonical()),
            Endpoint::Unix(_) => None,
        });
        self.addresses = addresses.take(ADDRESSES_MAX).collect();
    }

    /// A session is over.
    pub fn gone(&mut self, collector: &Collector, who: (Number, IpAddr), brought: &Brought) {
        let (number, client) = who;
        if number <= self.behind {
            return;
        }
        if self.is_caller(collector, client) || is_its_mail(collector, brought) {
            self.came = Some(client);
            if !self.addresses.contains(&client) && self.addresses.len() < ADDRESSES_MAX {
                self.addresses.push(client);
            }
        } else {
            self.stranger = Some(client);
        }
    }

    /// From where the provider has called, if it has and is done.
    #[must_use]
    pub fn is_done(&self, collector: &Collector, visitors: &Visitors) -> Option<IpAddr> {
        let calls = |(number, client): &(Number, IpAddr)| {
            *number > self.behind && self.is_caller(collector, *client)
        };
        self.came.filter(|_| !visitors.open.values().any(calls))
    }

    /// Somebody came who seemed to be a stranger.
    #[must_use]
    pub const fn stranger(&self) -> Option<IpAddr> {
        self.stranger
    }

    fn is_caller(&self, collector: &Collector, client: IpAddr) -> bool {
        self.addresses.contains(&client) || collector.callers.iter().any(|net| net.contains(client))
    }
}

/// Whether this is what a provider brings that was asked by this collector.
fn is_its_mail(collector: &Collector, brought: &Brought) -> bool {
    if !collector.callers.is_empty() {
        return false;
    }
    let Means::Provider(Provider {
        ask: Ask::Release(nodes),
        ..
    }) = &collector.means
    else {
        // For which domains a message or a program asks is not known here.
        return brought.has_any(|_| true);
    };
    brought.has_any(|domain| {
        nodes.iter().any(|node| match node {
            Node::Domain(asked) => domain == asked,
            Node::Below(top) => domain == top || is_below(domain, top),
            Node::Queue(_) => true,
        })
    })
}

fn is_below(domain: &Domain, top: &Domain) -> bool {
    let head = domain.as_str().strip_suffix(top.as_str());
    head.is_some_and(|head| head.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::core::collector::Way;
    use crate::mail::{ForwardPath, Recipient, ReversePath, Sender};
    use crate::route::HostName;
    use crate::smtp::etrn;

    fn brought(recipients: &[&str]) -> Brought {
        let mut brought = Brought::default();
        let recipients = recipients
            .iter()
            .map(|address| Recipient::new(ForwardPath(address.parse().expect("an address"))));
        brought.note(&Envelope {
            sender: Sender::new(ReversePath::Null),
            recipients: recipients.collect(),
        });
        brought
    }

    fn collector(names: &[&str], callers: &[&str]) -> Collector {
        let nodes = names.iter().map(|name| etrn::wanted(name).expect("a node"));
        Collector {
            name: "isp".into(),
            every: None,
            way: Way::OverLink,
            wait: Duration::from_secs(60),
            callers: callers
                .iter()
                .map(|net| net.parse().expect("one"))
                .collect(),
            means: Means::Provider(Provider {
                servers: vec![(HostName::Address("203.0.113.1".parse().expect("one")), 25)],
                tls: crate::route::TlsPolicy::None.into(),
                login: None,
                ask: Ask::Release(nodes.collect::<Arc<_>>()),
            }),
        }
    }

    /// A session from there with this mail, after the run has begun: whether it was the
    /// provider's.
    #[track_caller]
    fn check(collector: &Collector, client: &str, mail: &[&str], expected: bool) {
        let mut visitors = Visitors::default();
        let mut awaiting = Awaiting::begin(&visitors);
        awaiting.addresses = vec!["203.0.113.1".parse().expect("an address")];
        let (core, connection) = (CoreId(0), ConnectionId(1));
        let client: IpAddr = client.parse().expect("an address");
        let mut visit = Visit {
            core,
            connection,
            event: Event::Came(client),
        };
        assert_eq!(visitors.take(&visit), None);
        let brought = brought(mail);
        visit.event = Event::Gone(brought.clone());
        let who = visitors.take(&visit).expect("it was there");
        awaiting.gone(collector, who, &brought);
        let done = awaiting.is_done(collector, &visitors).is_some();
        assert_eq!(done, expected, "{client} {mail:?}");
        assert_eq!(awaiting.stranger().is_some(), !expected);
    }

    #[test]
    fn who_the_provider_is() {
        let ours = collector(&["branch.example"], &[]);
        let (there, elsewhere) = ("203.0.113.1", "198.51.100.7");
        check(&ours, there, &[], true);
        check(&ours, "::ffff:203.0.113.1", &[], true);
        check(&ours, elsewhere, &[], false);
        check(&ours, elsewhere, &["a@other.example"], false);
        check(&ours, elsewhere, &["a@x.branch.example"], false);
        check(
            &ours,
            elsewhere,
            &["a@other.example", "b@BRANCH.example"],
            true,
        );
        let below = collector(&["@branch.example"], &[]);
        check(&below, elsewhere, &["a@x.branch.example"], true);
        check(&below, elsewhere, &["a@xbranch.example"], false);
        let queue = collector(&["#branch"], &[]);
        check(&queue, elsewhere, &["a@other.example"], true);
        check(&queue, elsewhere, &[], false);
        let strict = collector(&["branch.example"], &["192.0.2.0/24"]);
        check(&strict, elsewhere, &["a@branch.example"], false);
        check(&strict, "192.0.2.9", &[], true);
        check(&strict, there, &[], true);
        let program = Collector {
            means: Means::Command(vec!["ask".to_owned()]),
            ..ours
        };
        check(&program, elsewhere, &[], false);
        check(&program, elsewhere, &["a@any.example"], true);
    }

    #[test]
    fn more_domains_than_are_kept() {
        let many: Vec<String> = (0..DOMAINS_MAX)
            .map(|n| format!("a@d{n}.example"))
            .collect();
        let mut many: Vec<&str> = many.iter().map(String::as_str).collect();
        let ours = collector(&["branch.example"], &[]);
        check(&ours, "198.51.100.7", &many, false);
        many.push("a@last.example");
        check(&ours, "198.51.100.7", &many, true);
    }
}
