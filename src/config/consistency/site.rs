//! Contradictions of the site's side.

use std::collections::HashSet;

use super::{Checks, covers};
use crate::config::addresses::HostPort;
use crate::config::checked::collector_name;
use crate::config::options::{Collect, CollectKind, File, Link, LinkKind, Schedule};
use crate::config::units::TimeOfDay;
use crate::mail::Domain;
use crate::route::{HostName, Scope};
use crate::smtp::etrn::{self, Node};
use crate::smtp::turn::Call;

impl Checks<'_> {
    pub(super) fn link(&mut self, link: &Link) {
        self.login("link", &link.user, &link.password_file);
        let named = matches!(
            *link.kind,
            LinkKind::Pppd | LinkKind::NetworkManager | LinkKind::External
        );
        if named && link.entry.is_none() && link.entry.is_sound() {
            let instead = "add `entry = \"…\"`";
            self.wrong(
                "link.kind",
                &link.kind,
                "needs the name of an entry",
                instead,
            );
        }
        let no_login = matches!(
            *link.kind,
            LinkKind::Permanent
                | LinkKind::NetworkManager
                | LinkKind::External
                | LinkKind::OnDemand
        );
        if no_login && link.user.is_some() && link.kind.is_sound() {
            let instead = match *link.kind {
                LinkKind::NetworkManager => "remove it; `nmcli connection edit` keeps it",
                _ => "remove it; nothing of ours logs in",
            };
            let what = "is for kinds \"pppd\" and \"command\" only";
            self.wrong("link.user", &link.user, what, instead);
        }
        let commands = [
            ("link.up", &link.up),
            ("link.down", &link.down),
            ("link.status", &link.status),
        ];
        for (option, command) in commands {
            self.program(option, command);
            if *link.kind != LinkKind::Command && command.is_written() && link.kind.is_sound() {
                let instead = "remove it, or write `kind = \"command\"`";
                self.wrong(option, command, "is for kind \"command\" only", instead);
            }
        }
        if *link.kind == LinkKind::Command && link.up.is_empty() && link.up.is_sound() {
            let instead = "add `up = [\"/path/of/program\"]`, and `down` to hang up";
            self.wrong("link.kind", &link.kind, "needs a command to go up", instead);
        }
        let hang_up = &link.hang_up;
        if let Some(at_most) = *hang_up.at_most
            && hang_up.idle.is_sound()
            && at_most < *hang_up.idle
        {
            let instead = "write at least the time of `idle`";
            self.wrong(
                "link.hang_up.at_most",
                &hang_up.at_most,
                "is less than `idle`",
                instead,
            );
        }
        let Some(budget) = &*link.budget else {
            return;
        };
        if budget.cost_max.is_some() && budget.cost_per_minute.is_none() {
            let instead = "add `cost_per_minute = \"0.05\"`";
            let what = "cannot be counted without a price";
            self.wrong("link.budget.cost_max", &budget.cost_max, what, instead);
        }
        if budget.bytes.is_some() && link.entry.is_none() && link.entry.is_sound() {
            let instead = "add `entry = \"…\"` with the name of its interface";
            let what = "cannot be counted without an interface";
            self.wrong("link.budget.bytes", &budget.bytes, what, instead);
        }
        if budget.seconds.is_none() && budget.bytes.is_none() && budget.cost_max.is_none() {
            let instead = "add `seconds`, `bytes` or `cost_max`, or remove the budget";
            self.wrong("link.budget", &link.budget, "limits nothing", instead);
        }
    }

    pub(super) fn collect(&mut self, collect: &Collect) {
        self.login("collect", &collect.user, &collect.password_file);
        self.program("collect.command", &collect.command);
        let kind = *collect.kind;
        let needs = match kind {
            CollectKind::Command if collect.command.is_empty() && collect.command.is_sound() => {
                Some(("needs a program", "add `command = [\"/path/of/program\"]`"))
            }
            CollectKind::Wakeup if collect.to.is_none() && collect.to.is_sound() => {
                Some(("needs an address", "add `to = \"wakeup@isp.example\"`"))
            }
            CollectKind::Command | CollectKind::Wakeup => None,
            _ if collect.server.is_none() && collect.server.is_sound() => {
                Some(("needs a server", "add `server = \"host:port\"`"))
            }
            _ => None,
        };
        if let Some((what, instead)) = needs {
            self.wrong("collect.kind", &collect.kind, what, instead);
        }
        let needs_login = matches!(kind, CollectKind::Pop3 | CollectKind::Atrn);
        if needs_login && collect.user.is_none() && collect.user.is_sound() {
            let instead = "add `user` and `password_file`";
            self.wrong("collect.kind", &collect.kind, "needs a user", instead);
        }
        if matches!(kind, CollectKind::Etrn | CollectKind::Atrn) && collect.names.is_sound() {
            self.asked_names(collect);
        }
        let written = (
            collect.recipient.is_some(),
            collect.domain_mailbox.is_some(),
        );
        let sound = collect.recipient.is_sound() && collect.domain_mailbox.is_sound();
        if kind == CollectKind::Pop3 && sound {
            match written {
                (false, false) => {
                    let instead = "add `recipient = \"user@branch.example\"`, or a domain_mailbox";
                    self.wrong(
                        "collect.kind",
                        &collect.kind,
                        "needs to know for whom",
                        instead,
                    );
                }
                (true, true) => {
                    let what = "contradicts `domain_mailbox`";
                    let instead = "remove one of the two";
                    self.wrong("collect.recipient", &collect.recipient, what, instead);
                }
                _ => {}
            }
        }
        if let Some(mailbox) = &*collect.domain_mailbox
            && mailbox.domains.is_empty()
            && mailbox.domains.is_sound()
        {
            let option = "collect.domain_mailbox.domains";
            let instead = "write the domains that the mailbox holds mail for";
            self.wrong(option, &mailbox.domains, "is empty", instead);
        }
        let kinds_of = |option: &str| -> &[CollectKind] {
            match option {
                "server" | "tls" | "user" | "password_file" => {
                    &[CollectKind::Etrn, CollectKind::Atrn, CollectKind::Pop3]
                }
                "names" | "fallback" => &[CollectKind::Etrn, CollectKind::Atrn],
                "to" | "from" => &[CollectKind::Wakeup],
                "command" => &[CollectKind::Command],
                "wait" | "callers" => {
                    &[CollectKind::Etrn, CollectKind::Wakeup, CollectKind::Command]
                }
                _ => &[CollectKind::Pop3],
            }
        };
        let written = [
            ("server", collect.server.place()),
            ("fallback", collect.fallback.place()),
            ("names", collect.names.place()),
            ("to", collect.to.place()),
            ("from", collect.from.place()),
            ("command", collect.command.place()),
            ("wait", collect.wait.place()),
            ("callers", collect.callers.place()),
            ("tls", collect.tls.place()),
            ("user", collect.user.place()),
            ("domain_mailbox", collect.domain_mailbox.place()),
            ("recipient", collect.recipient.place()),
            ("aliases", collect.aliases.place()),
            ("keep", collect.keep.place()),
            ("safe_copy", collect.safe_copy.place()),
            ("size_max", collect.size_max.place()),
            ("oversize", collect.oversize.place()),
        ];
        for (option, place) in written {
            let kinds = kinds_of(option);
            if place.is_some() && collect.kind.is_sound() && !kinds.contains(&kind) {
                let words: Vec<_> = kinds
                    .iter()
                    .map(|kind| format!("{:?}", kind.as_str()))
                    .collect();
                let what = match &words[..] {
                    [one] => format!("is for kind {one} only"),
                    several => format!("is for kinds {} only", several.join(", ")),
                };
                let instead = "remove it, or write another `kind`";
                self.wrong_at(&format!("collect.{option}"), place, what, instead);
            }
        }
    }

    /// What a provider is asked for.
    fn asked_names(&mut self, collect: &Collect) {
        let names = &collect.names;
        if names.is_empty() {
            let instead = "add `names = [\"branch.example\"]`";
            let what = "needs names to ask for";
            return self.wrong("collect.kind", &collect.kind, what, instead);
        }
        let etrn = *collect.kind == CollectKind::Etrn;
        let is_name = |name: &str| match etrn {
            true => etrn::wanted(name).is_ok(),
            false => name.parse::<Domain>().is_ok(),
        };
        if let Some(name) = names.iter().find(|name| !is_name(name)) {
            let instead = if etrn {
                "write a domain, an @domain or a #queue"
            } else {
                "write a domain; atrn knows no @domains and no #queues"
            };
            let what = format!("{name:?} cannot be asked for");
            return self.wrong("collect.names", names, what, instead);
        }
        let domains: Vec<Domain> = names.iter().filter_map(|name| name.parse().ok()).collect();
        if !etrn && let Err(error) = Call::new(domains) {
            let instead = "write two [[collect]] with some of the names each";
            self.wrong("collect.names", names, error.to_string(), instead);
        }
    }

    /// Two collectors with one name cannot be told apart by the operator, two mailboxes
    /// with one account not by what is remembered of them.
    pub(super) fn collectors(&mut self, collectors: &[Collect]) {
        let mut names = HashSet::new();
        let mut accounts = HashSet::new();
        for collect in collectors {
            if !collect.kind.is_sound() {
                continue;
            }
            let account = match (&*collect.user, &*collect.server) {
                (Some(user), Some(server)) if *collect.kind == CollectKind::Pop3 => {
                    Some(format!("{user}@{}", server.host).to_ascii_lowercase())
                }
                _ => None,
            };
            if !names.insert(collector_name(collect).to_ascii_lowercase()) {
                let instead = "give each its own `name`";
                match collect.name.is_some() {
                    true => self.wrong("collect.name", &collect.name, "is here twice", instead),
                    false => {
                        let what = "has a namesake";
                        self.wrong("collect.kind", &collect.kind, what, instead);
                    }
                }
            }
            if account.is_some_and(|account| !accounts.insert(account)) {
                let what = "is collected twice from this server";
                self.wrong("collect.user", &collect.user, what, "remove one of the two");
            }
        }
    }

    /// What is collected is for our own domains. Without a route it would go out again, to
    /// where it came from; and what a provider brings must be let in.
    pub(super) fn collected_domains(&mut self, file: &File) {
        let sound = file.route.is_sound() && file.customer.is_sound();
        if !sound || !file.relay.domains.is_sound() {
            return;
        }
        let by_customer = |domain: &Scope| {
            (file.customer.iter()).any(|c| c.domains.iter().any(|p| covers(p, domain)))
        };
        let routed = |domain: &Scope| {
            by_customer(domain) || file.route.iter().any(|route| covers(&route.domain, domain))
        };
        let let_in = |domain: &Scope| {
            by_customer(domain) || file.relay.domains.iter().any(|own| covers(own, domain))
        };
        for collect in &**file.collect {
            let (option, place, domains): (_, _, Vec<Scope>) =
                match (*collect.kind, &*collect.domain_mailbox) {
                    (CollectKind::Etrn | CollectKind::Atrn, _) => {
                        let domains = collect.names.iter().flat_map(|name| asked_domains(name));
                        ("collect.names", collect.names.place(), domains.collect())
                    }
                    (CollectKind::Pop3, Some(mailbox)) => {
                        let domains = mailbox.domains.iter().cloned().map(Scope::Name);
                        let option = "collect.domain_mailbox.domains";
                        (option, mailbox.domains.place(), domains.collect())
                    }
                    _ => continue,
                };
            let from_a_client = (collect.server.iter())
                .chain(collect.fallback.iter())
                .any(|server| is_client(file, server));
            let by_a_call = *collect.kind == CollectKind::Etrn && !from_a_client;
            for domain in domains {
                let (what, instead) = if !routed(&domain) {
                    (
                        format!(
                            "{domain} has no route: what is collected for it would go out again"
                        ),
                        format!("add [[route]] with domain = \"{domain}\""),
                    )
                } else if by_a_call && !let_in(&domain) {
                    (
                        format!(
                            "{domain} is not let in: what the provider brings would be refused"
                        ),
                        format!("add \"{domain}\" to `domains` in [relay]"),
                    )
                } else {
                    continue;
                };
                self.wrong_at(option, place, what, instead);
            }
        }
    }

    pub(super) fn schedule(&mut self, row: &Schedule) {
        if row.every.is_written() == row.at.is_written() {
            let (what, option, place) = if row.every.is_written() {
                ("contradicts `at`", "schedule.every", row.every.place())
            } else {
                let written = [row.days.place(), row.from.place(), row.r#do.place()];
                let place = written.into_iter().flatten().next();
                ("has no times", "schedule", place)
            };
            self.wrong_at(option, place, what, "write either `every` or `at`");
        }
        if row.from == row.to && row.from.is_sound() && row.to.is_sound() {
            let instead = "write two times; \"00:00\" to \"24:00\" is the whole day";
            self.wrong("schedule.to", &row.to, "is the same as `from`", instead);
        }
        let (from, to) = (*row.from, *row.to);
        let outside = |time: TimeOfDay| {
            if from <= to {
                time < from || time > to
            } else {
                time < from && time > to
            }
        };
        if let Some(time) = row.at.iter().find(|time| outside(**time)) {
            let what = format!("{time} is not between {from} and {to}");
            self.wrong(
                "schedule.at",
                &row.at,
                what,
                "write a time inside the window",
            );
        }
        if row.r#do.is_empty() && row.r#do.is_sound() {
            let instead = "write at least one of \"send\" and \"collect\"";
            self.wrong("schedule.do", &row.r#do, "is empty", instead);
        }
    }
}

/// What a name stands for that a provider is asked for. Which domains a queue has is not
/// known here.
fn asked_domains(name: &str) -> Vec<Scope> {
    match etrn::wanted(name) {
        Ok(Node::Domain(domain)) => vec![Scope::Name(domain)],
        Ok(Node::Below(domain)) => vec![Scope::Name(domain.clone()), Scope::Below(domain)],
        Ok(Node::Queue(_)) | Err(_) => Vec::new(),
    }
}

/// Whether it may send to anywhere, as far as its address is written.
fn is_client(file: &File, server: &HostPort) -> bool {
    let HostName::Address(address) = server.host else {
        return false;
    };
    file.relay
        .networks
        .iter()
        .any(|network| network.contains(address))
}
