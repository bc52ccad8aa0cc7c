//! Customers: whose mail we hold, and who may have it released (FEATURES Q2–Q9).
//!
//! A [`Customer`] is what the operator wrote about one; [`Customers`] finds it by a
//! recipient's domain, by the name of its queue, by a user name, by the address of a
//! client. Built once from the configuration, never changed, shared by all cores. Ten
//! thousand customers are a few megabytes, and a lookup costs as much as with ten.
//!
//! Invariants:
//! - No two customers have a name, a queue name, a user name or a scope in common, so
//!   each lookup but that by address has one answer. Names of queues are a namespace of
//!   their own: `#branch` is never the domain `branch`.
//! - For domains the longest match wins, as in [`super::Routes`], from the same text.
//! - [`Customers::by_client`] gives every customer that lists the address: two behind
//!   one gateway have one address.
//!
//! What this module does not do: it knows no password and no queue, it resolves no
//! name. Whether a release happens is decided in `core`, with what is asked here.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use smallvec::SmallVec;

use super::{Build, Host, Network, RouteError, Scope, ScopeTable};
use crate::mail::{Address, Domain};

/// Scopes that [`Customers::below`] looks at. `ETRN @example` must not go through ten
/// thousand domains for somebody who may release one of them.
pub const BELOW_MAX: usize = 1024;

/// Longest name of a customer or queue, in octets. It stands in log lines and in
/// replies, and must leave room there.
pub const CUSTOMER_NAME_BYTES_MAX: usize = 64;

/// The name of a customer: letters, digits, `-`, `_`, `.`, in lower case.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CustomerName(Box<str>);

/// The text is no name of a customer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a customer's name is 1 to 64 of the characters a-z 0-9 - _ .")]
pub struct CustomerNameError;

impl CustomerName {
    /// Stands for no customer: no name that is written has such characters.
    const OF_ROUTES: &str = "(route)";

    /// In the place of a customer, for mail that a route holds.
    #[must_use]
    pub fn of_routes() -> Self {
        Self(Self::OF_ROUTES.into())
    }

    /// Whether it is that one.
    #[must_use]
    pub fn is_of_routes(&self) -> bool {
        *self.0 == *Self::OF_ROUTES
    }

    /// The text, lower case.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CustomerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for CustomerName {
    type Err = CustomerNameError;

    fn from_str(text: &str) -> Result<Self, CustomerNameError> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if text.is_empty() || text.len() > CUSTOMER_NAME_BYTES_MAX || !text.bytes().all(allowed) {
            return Err(CustomerNameError);
        }
        Ok(Self(text.to_ascii_lowercase().into_boxed_str()))
    }
}

/// Where a customer's mail is delivered when it is released.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum DeliverTo {
    /// To this host, whoever called.
    Host(Host),
    /// To the mail exchangers of each domain that are better than we are.
    Mx,
    /// To port 25 of the address from which the release came; that caller has
    /// authenticated.
    Caller,
}

/// Who and what releases a customer's mail.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReleaseRules {
    /// Who authenticated as the customer's user.
    pub auth: bool,
    /// Anybody: RFC 1985 allows it, since the mail goes only where we decide.
    pub open: bool,
    /// Clients at these addresses.
    pub clients: Box<[Network]>,
    /// A session from one of them, without any command.
    pub on_connect: bool,
    /// And we ourselves, this often.
    pub every: Option<Duration>,
}

/// How long a customer's mail is held.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Retention {
    /// Since it arrived.
    Age(Duration),
    /// Until this many releases did not reach the site; `age_max` ends it in any case.
    Windows {
        /// At least 1.
        missed: u16,
        /// Since it arrived.
        age_max: Duration,
    },
}

/// How much is held for a customer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Quota {
    /// Octets of bodies.
    pub octets: u64,
    /// Messages; one to two of its domains counts as two.
    pub messages: u64,
}

/// What of the waiting mail makes the customer's site be woken. Each alone is enough.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WakeFor {
    /// So many messages.
    pub messages: Option<u64>,
    /// So many octets.
    pub octets: Option<u64>,
    /// One that came so long ago.
    pub age: Option<Duration>,
    /// One of at least this priority.
    pub priority: Option<i8>,
    /// At most once in this time.
    pub pause: Duration,
}

impl WakeFor {
    /// Whether there is anything for which it is woken.
    #[must_use]
    pub const fn is_any(&self) -> bool {
        self.messages.is_some()
            || self.octets.is_some()
            || self.age.is_some()
            || self.priority.is_some()
    }
}

/// A customer, as the operator wrote it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Customer {
    /// For logs, metrics, commands.
    pub name: CustomerName,
    /// Its domains. Mail for them is taken from anybody, and held.
    pub scopes: Vec<Scope>,
    /// For `ETRN #queue`.
    pub queue: CustomerName,
    /// Where the mail goes.
    pub deliver_to: DeliverTo,
    /// What lets it go.
    pub release: ReleaseRules,
    /// As whom its host authenticates.
    pub user: Option<Box<str>>,
    /// How long it is held.
    pub retention: Retention,
    /// The age at which the sender is told that it waits; `None`: never.
    pub warn: Option<Duration>,
    /// How much is held.
    pub quota: Quota,
    /// The file with its addresses; `None`: every address is taken.
    pub recipients_file: Option<PathBuf>,
    /// Its host is asked about each recipient.
    pub call_ahead: bool,
    /// Whom the operator asks about it.
    pub contact: Option<Address>,
    /// A program with its arguments that brings the site on line. Empty: none.
    pub wake_command: Vec<String>,
    /// When that is run for the mail that waits; `None`: for a release only.
    pub wake_for: Option<WakeFor>,
}

/// Who asks for a release.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Caller<'a> {
    /// From where.
    pub address: IpAddr,
    /// As whom, if it authenticated.
    pub user: Option<&'a str>,
}

impl Customer {
    /// Whether `caller` authenticated as this customer.
    #[must_use]
    pub fn is_user(&self, caller: Caller<'_>) -> bool {
        matches!((caller.user, &self.user), (Some(user), Some(own)) if *user == **own)
    }

    /// Whether `caller` may have the mail released by ETRN. Mail that goes to the caller's
    /// own address goes only to who authenticated.
    #[must_use]
    pub fn may_release(&self, caller: Caller<'_>) -> bool {
        let authenticated = self.release.auth && self.is_user(caller);
        if self.deliver_to == DeliverTo::Caller {
            return authenticated;
        }
        authenticated || self.release.open || self.lists(caller.address)
    }

    /// Whether the address is among its clients'.
    #[must_use]
    pub fn lists(&self, address: IpAddr) -> bool {
        let clients = &self.release.clients;
        clients.iter().any(|network| network.contains(address))
    }
}

/// All customers. The default: none.
#[derive(Clone, Debug, Default)]
pub struct Customers {
    list: Box<[Arc<Customer>]>,
    domains: ScopeTable<u32>,
    names: HashMap<CustomerName, u32, Build>,
    queues: HashMap<CustomerName, u32, Build>,
    users: HashMap<Box<str>, u32, Build>,
    clients: HashMap<Network, SmallVec<[u32; 1]>, Build>,
    /// The prefix lengths that occur in `clients`.
    prefixes: Vec<u8>,
    /// Every scope with its labels turned round, sorted: what is below a name is a range.
    turned: Box<[(Box<str>, u32)]>,
}

impl Customers {
    /// From the configuration.
    ///
    /// # Errors
    /// Two of them have something in common that names only one.
    pub fn new(customers: Vec<Customer>) -> Result<Self, RouteError> {
        let mut all = Self::default();
        let mut turned = Vec::new();
        for (customer, number) in customers.iter().zip(0_u32..) {
            for scope in &customer.scopes {
                if all.domains.insert(scope, number).is_some() {
                    return Err(RouteError::Twice(scope.clone()));
                }
                let (Scope::Name(domain) | Scope::Below(domain)) = scope;
                turned.push((turn(domain.as_str()).into_boxed_str(), number));
            }
            let name = all.names.insert(customer.name.clone(), number);
            let queue = all.queues.insert(customer.queue.clone(), number);
            let user = (customer.user.clone()).and_then(|user| all.users.insert(user, number));
            if name.or(queue).or(user).is_some() {
                return Err(RouteError::CustomerTwice(customer.name.clone()));
            }
            for network in &customer.release.clients {
                let customers = all.clients.entry(*network).or_default();
                if customers.last() != Some(&number) {
                    customers.push(number);
                }
                all.prefixes.push(network.prefix_bits());
            }
        }
        all.prefixes.sort_unstable();
        all.prefixes.dedup();
        turned.sort_unstable();
        all.turned = turned.into();
        all.list = customers.into_iter().map(Arc::new).collect();
        Ok(all)
    }

    /// All of them, in the order of the configuration.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Customer>> {
        self.list.iter()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Whether any of them can authenticate.
    #[must_use]
    pub fn have_users(&self) -> bool {
        !self.users.is_empty()
    }

    /// Whose this domain is, the text of a [`Domain`].
    #[must_use]
    pub fn by_domain(&self, domain: &str) -> Option<&Arc<Customer>> {
        self.domains.get(domain).map(|number| self.at(*number))
    }

    /// By the customer's own name.
    #[must_use]
    pub fn by_name(&self, name: &CustomerName) -> Option<&Arc<Customer>> {
        self.names.get(name).map(|number| self.at(*number))
    }

    /// By the name of the queue (`ETRN #name`).
    #[must_use]
    pub fn by_queue(&self, queue: &CustomerName) -> Option<&Arc<Customer>> {
        self.queues.get(queue).map(|number| self.at(*number))
    }

    /// Who authenticates by this name.
    #[must_use]
    pub fn by_user(&self, user: &str) -> Option<&Arc<Customer>> {
        self.users.get(user).map(|number| self.at(*number))
    }

    /// Who lists this address, narrow networks first. One look for each prefix length
    /// that occurs.
    pub fn by_client(&self, address: IpAddr) -> impl Iterator<Item = &Arc<Customer>> {
        self.prefixes
            .iter()
            .rev()
            .filter_map(move |bits| self.clients.get(&Network::around(address, *bits)?))
            .flatten()
            .map(|number| self.at(*number))
    }

    /// Who has domains at this name or below it, and who has the name itself. Each once;
    /// of more than [`BELOW_MAX`] scopes the first.
    #[must_use]
    pub fn below(&self, top: &Domain) -> Vec<&Arc<Customer>> {
        let prefix = turn(top.as_str());
        let from = self
            .turned
            .partition_point(|(turned, _)| **turned < *prefix);
        let mut numbers: Vec<u32> = self.turned[from..]
            .iter()
            .take_while(|(turned, _)| turned.starts_with(&prefix))
            .take(BELOW_MAX)
            .map(|(_, number)| *number)
            .collect();
        numbers.extend(self.domains.get(top.as_str()));
        numbers.sort_unstable();
        numbers.dedup();
        numbers.into_iter().map(|number| self.at(number)).collect()
    }

    fn at(&self, number: u32) -> &Arc<Customer> {
        &self.list[number as usize]
    }
}

/// `mail.branch.example` → `example.branch.mail.`, so that the names below another one
/// begin with it.
fn turn(domain: &str) -> String {
    let mut turned = String::with_capacity(domain.len() + 1);
    for label in domain.rsplit('.') {
        turned.push_str(label);
        turned.push('.');
    }
    turned
}

#[cfg(test)]
mod tests {
    use super::*;

    fn customer(name: &str, scopes: &[&str], clients: &[&str]) -> Customer {
        Customer {
            name: name.parse().unwrap(),
            scopes: scopes.iter().map(|scope| scope.parse().unwrap()).collect(),
            queue: format!("q-{name}").parse().unwrap(),
            deliver_to: DeliverTo::Mx,
            release: ReleaseRules {
                auth: true,
                open: false,
                clients: clients.iter().map(|c| c.parse().unwrap()).collect(),
                on_connect: false,
                every: None,
            },
            user: Some(format!("u-{name}").into()),
            retention: Retention::Age(Duration::from_secs(1)),
            warn: None,
            quota: Quota {
                octets: 1,
                messages: 1,
            },
            recipients_file: None,
            call_ahead: false,
            contact: None,
            wake_command: Vec::new(),
            wake_for: None,
        }
    }

    fn customers() -> Customers {
        Customers::new(vec![
            customer("a", &["a.example", ".a.example"], &["192.0.2.0/24"]),
            customer(
                "b",
                &["b.example", "x.a.example"],
                &["192.0.2.7", "2001:db8::/32"],
            ),
            customer("c", &[".example"], &["192.0.2.0/24"]),
        ])
        .unwrap()
    }

    #[test]
    fn lookups() {
        let all = customers();
        let check = |domain: &str, expected: Option<&str>| {
            let found = all.by_domain(domain).map(|customer| customer.name.as_str());
            assert_eq!(found, expected, "{domain}");
        };
        check("a.example", Some("a"));
        check("deep.y.a.example", Some("a"));
        check("x.a.example", Some("b"));
        check("y.x.a.example", Some("a"));
        check("d.example", Some("c"));
        check("example", None);
        check("q-a", None);
        let name = |text: &str| text.parse::<CustomerName>().unwrap();
        assert_eq!(all.by_queue(&name("Q-B")).unwrap().name, name("b"));
        assert!(all.by_queue(&name("b")).is_none());
        assert!(all.by_name(&name("q-b")).is_none());
        assert_eq!(all.by_user("u-c").unwrap().name, name("c"));
        assert!(all.by_user("u-C").is_none());
    }

    #[test]
    fn clients() {
        let all = customers();
        let check = |address: &str, expected: &[&str]| {
            let found = all.by_client(address.parse().unwrap());
            let found: Vec<_> = found.map(|customer| customer.name.as_str()).collect();
            assert_eq!(found, expected, "{address}");
        };
        check("192.0.2.7", &["b", "a", "c"]);
        check("::ffff:192.0.2.8", &["a", "c"]);
        check("2001:db8::1", &["b"]);
        check("198.51.100.1", &[]);
    }

    #[test]
    fn below() {
        let all = customers();
        let check = |top: &str, expected: &[&str]| {
            let found = all.below(&top.parse().unwrap());
            let found: Vec<_> = found
                .iter()
                .map(|customer| customer.name.as_str())
                .collect();
            assert_eq!(found, expected, "{top}");
        };
        check("example", &["a", "b", "c"]);
        check("a.example", &["a", "b"]);
        check("x.a.example", &["b"]);
        check("y.a.example", &["a"]);
        check("xa.example", &["c"]);
        check("other", &[]);
    }

    #[test]
    fn who_may_release() {
        let mut own = customer("a", &["a.example"], &["192.0.2.0/24"]);
        let check = |customer: &Customer, address: &str, user: Option<&str>, expected: bool| {
            let address = address.parse().unwrap();
            let may = customer.may_release(Caller { address, user });
            assert_eq!(may, expected, "{address} {user:?}");
        };
        check(&own, "192.0.2.1", None, true);
        check(&own, "198.51.100.1", None, false);
        check(&own, "198.51.100.1", Some("u-a"), true);
        check(&own, "198.51.100.1", Some("u-b"), false);
        check(&own, "198.51.100.1", Some(""), false);
        own.deliver_to = DeliverTo::Caller;
        own.release.open = true;
        check(&own, "192.0.2.1", None, false);
        check(&own, "198.51.100.1", Some("u-a"), true);
        own.deliver_to = DeliverTo::Mx;
        check(&own, "198.51.100.1", None, true);
        own.release.open = false;
        own.release.auth = false;
        check(&own, "198.51.100.1", Some("u-a"), false);
        own.user = None;
        own.release.auth = true;
        check(&own, "198.51.100.1", None, false);
    }

    #[test]
    fn nothing_names_two() {
        let two = |change: fn(&mut Customer)| {
            let mut second = customer("b", &["b.example"], &[]);
            change(&mut second);
            Customers::new(vec![customer("a", &["a.example"], &[]), second])
        };
        assert!(two(|_| {}).is_ok());
        assert!(two(|b| b.name = "a".parse().unwrap()).is_err());
        assert!(two(|b| b.queue = "q-a".parse().unwrap()).is_err());
        assert!(two(|b| b.user = Some("u-a".into())).is_err());
        assert!(two(|b| b.scopes = vec!["a.example".parse().unwrap()]).is_err());
        assert!(two(|b| b.user = None).is_ok());
    }
}
