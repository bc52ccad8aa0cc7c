//! The site's side, as the program uses it.

use super::{Login, SecretFile, Surroundings};
use crate::config::options::{self, Action, BudgetPeriod, LinkKind};
use crate::link::budget::{Limits, Money, Per};
use crate::link::calendar::{Minute, Row, Times, Weekdays};
use crate::link::collecting::{Appointment, Collect, CollectKind};
use crate::link::controller::{Dialling, Existing, Series, Settings};
use crate::link::work::GoUp;
use crate::route::Network;

/// See `[[link]]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Link {
    /// For logs and commands.
    pub name: String,
    /// Who brings it up, and how.
    pub driver: Driver,
    /// When.
    pub settings: Settings,
    /// What is reached without it.
    pub local: Vec<Network>,
}

/// Who brings a link up, and how.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Driver {
    /// It is always up.
    Permanent {
        /// Where octets are counted.
        interface: Option<String>,
    },
    /// `pppd call ENTRY`.
    Pppd {
        /// The name of the peer.
        entry: String,
        /// In place of what the peer's file says.
        login: Option<Login>,
    },
    /// A connection of NetworkManager.
    NetworkManager {
        /// Its name.
        connection: String,
    },
    /// Programs with their arguments.
    Command {
        /// Brings it up. Never empty.
        up: Vec<String>,
        /// Takes it down; empty: by itself.
        down: Vec<String>,
        /// Succeeds while it is up; empty: nobody knows.
        status: Vec<String>,
        /// What the programs are given on their standard input.
        login: Option<Login>,
        /// Where octets are counted.
        interface: Option<String>,
    },
    /// Somebody else dials.
    External {
        /// The interface that shows it.
        interface: String,
    },
    /// A router dials when there is traffic.
    OnDemand {
        /// Where octets are counted.
        interface: Option<String>,
    },
}

pub(super) fn link(link: &options::Link, surroundings: &Surroundings) -> Link {
    let login = || {
        let login = link.user.as_ref().zip(link.password_file.as_ref());
        login.map(|(user, path)| Login {
            user: user.clone(),
            password_file: SecretFile::new(path, surroundings),
        })
    };
    let interface = (*link.entry).clone();
    let entry = || interface.clone().unwrap_or_default();
    let driver = match *link.kind {
        LinkKind::Permanent => Driver::Permanent { interface },
        LinkKind::Pppd => Driver::Pppd {
            entry: entry(),
            login: login(),
        },
        LinkKind::NetworkManager => Driver::NetworkManager {
            connection: entry(),
        },
        LinkKind::Command => Driver::Command {
            up: link.up.value.clone(),
            down: link.down.value.clone(),
            status: link.status.value.clone(),
            login: login(),
            interface,
        },
        LinkKind::External => Driver::External { interface: entry() },
        LinkKind::OnDemand => Driver::OnDemand { interface },
    };
    let dialling = match driver {
        Driver::Permanent { .. } | Driver::External { .. } => Dialling::NotOurs,
        _ => Dialling::Ours,
    };
    Link {
        name: link.name.value.clone(),
        driver,
        settings: Settings {
            dialling,
            existing: match *link.existing {
                options::Existing::Ignore => Existing::Ignore,
                options::Existing::Selected => Existing::Selected,
                options::Existing::Any => Existing::Any,
            },
            series: Series {
                pause: *link.dial.pause,
                tries: *link.dial.tries,
                series_pause: *link.dial.series_pause,
            },
            go_up: GoUp {
                messages: link.go_up.messages.map(u64::from),
                octets: link.go_up.bytes.map(|bytes| bytes.0),
                age: *link.go_up.age,
                priority: *link.go_up.priority,
            },
            idle: *link.hang_up.idle,
            at_most: *link.hang_up.at_most,
            budget: link.budget.as_ref().map(limits),
        },
        local: if link.local.is_written() {
            link.local.value.clone()
        } else {
            private_networks()
        },
    }
}

/// Loopback, and what no provider routes: RFC 1918, RFC 4193, and link-local addresses.
fn private_networks() -> Vec<Network> {
    let private = [
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "169.254.0.0/16",
        "fc00::/7",
        "fe80::/10",
    ];
    let private = private.map(|text| text.parse().expect("a network"));
    Network::loopback().into_iter().chain(private).collect()
}

fn limits(budget: &options::Budget) -> Limits {
    Limits {
        per: match *budget.per {
            BudgetPeriod::Window => Per::Window,
            BudgetPeriod::Day => Per::Day,
            BudgetPeriod::Month => Per::Month,
        },
        time: budget
            .seconds
            .map(|seconds| std::time::Duration::from_secs(seconds.into())),
        octets: budget.bytes.map(|bytes| bytes.0),
        minute_price: budget.cost_per_minute.map(|money| Money(money.0)),
        money: budget.cost_max.map(|money| Money(money.0)),
    }
}

pub(super) fn appointment(row: &options::Schedule) -> Appointment {
    let times = match *row.every {
        Some(every) => Times::Every(every),
        None => Times::At(row.at.iter().map(|at| Minute(at.minutes())).collect()),
    };
    let collect = row.r#do.iter().filter_map(|action| match action {
        Action::Send => None,
        Action::Collect => Some(Collect::All),
        Action::CollectLarge => Some(Collect::Large),
        Action::Etrn => Some(Collect::Kind(CollectKind::Etrn)),
        Action::Atrn => Some(Collect::Kind(CollectKind::Atrn)),
        Action::Wakeup => Some(Collect::Kind(CollectKind::Wakeup)),
    });
    Appointment {
        row: Row {
            days: Weekdays::new(|day| row.days.contains(day)),
            from: Minute(row.from.minutes()),
            to: Minute(row.to.minutes()),
            times,
        },
        may_dial: *row.may_dial,
        send: row.r#do.contains(&Action::Send),
        collect: collect.collect(),
    }
}
