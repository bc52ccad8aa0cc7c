//! Every option of the file: name, type, default, bounds and documentation.
//!
//! One declaration each; the reader, the reference and the examples are made from
//! it. Values that depend on one another are checked in `checked`.

mod customer;
mod delivery;
mod server;
mod site;

pub use customer::{Customer, Quota, Release, WakeFor};
pub use delivery::{
    Delivery, Dns, NotifySection, Retry, RouteRetry, RouteSection, SmarthostSection,
};
pub use delivery::{DeliveryModeWord, SmarthostAuth, SmarthostTls};
pub use server::{
    Admin, Cores, Limits, ListenerSection, Log, LogDetail, Process, Relay, SpoolSection, Tls,
    WakeUp,
};
pub use server::{ListenWhen, ListenerRole, ListenerTls, LogFormat};
pub use site::{Action, BudgetPeriod, CollectKind, Existing, LinkKind, MailboxSource, Oversize};
pub use site::{Budget, Collect, Dial, DomainMailbox, GoUp, HangUp, Link, Schedule};

use super::declaration::{SectionInfo, is, none, options, section, unset, words};
use super::setting::Setting as _;
use crate::mail::Domain;

words! {
    /// The word behind [`super::reader::Preset`].
    pub enum PresetWord, "a preset" {
        /// Many customers, a machine of its own.
        Spool = "spool",
        /// A handful of users behind a thin line.
        SmallSite = "small-site",
    }
}

section! {
    /// The configuration of Turnspool. Every option may be left out but those
    /// that are marked as required in their section.
    pub struct File in "" {
        /// The name in our greeting, in EHLO and in trace lines.
        hostname: Option<Domain> = unset("the system's host name");
        /// A set of defaults: "spool" for a machine with many customers,
        /// "small-site" for a few users behind a thin line. What is written below
        /// counts more.
        preset: PresetWord = is(PresetWord::Spool);
        /// Where mail is kept until it is delivered.
        spool: SpoolSection = options();
        /// What the server may do on this machine.
        process: Process = options();
        /// Threads that carry mail.
        cores: Cores = options();
        /// What clients may use. Over a limit they are told to come back.
        limits: Limits = options();
        /// An address that takes mail.
        listener: Vec<ListenerSection> = none("127.0.0.1:2525, role mx");
        /// Our certificate.
        tls: Option<Tls> = unset("no TLS");
        /// Who may send, and to where.
        relay: Relay = options();
        /// How names are resolved.
        dns: Dns = options();
        /// How mail leaves.
        delivery: Delivery = options();
        /// A domain with a way of its own.
        route: Vec<RouteSection> = none("no static routes");
        /// When a delivery that failed is tried again, and until when.
        retry: Retry = options();
        /// How senders are told that their mail is late, or has failed.
        notify: NotifySection = options();
        /// Mail to ourselves that lets held mail go.
        wakeup: WakeUp = options();
        /// Whom we hold mail for.
        customer: Vec<Customer> = none("no customers");
        /// How this site gets on line.
        link: Vec<Link> = none("permanently on line");
        /// How this site gets its own mail.
        collect: Vec<Collect> = none("nothing is collected");
        /// When this site goes on line of itself.
        schedule: Vec<Schedule> = none("no schedule");
        /// How `turnspool queue` and its like reach the server.
        admin: Admin = options();
        /// What is written about the work.
        log: Log = options();
    }
}

/// All sections, in the order of declaration, the file itself first.
#[must_use]
pub fn sections() -> Vec<SectionInfo> {
    fn walk(section: SectionInfo, into: &mut Vec<SectionInfo>) {
        let inner: Vec<SectionInfo> = section
            .options
            .iter()
            .filter_map(|option| option.section.clone())
            .collect();
        into.push(section);
        for section in inner {
            walk(section, into);
        }
    }
    let mut all = Vec::new();
    walk(File::section().expect("the file is a section"), &mut all);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The one place is complete: nothing undocumented, no path that would send
    /// the operator to a section that does not exist.
    #[test]
    fn every_option_is_documented() {
        let mut paths = Vec::new();
        for section in sections() {
            assert!(
                !section.doc.concat().trim().is_empty(),
                "[{}]",
                section.path
            );
            assert!(!paths.contains(&section.path), "[{}] twice", section.path);
            paths.push(section.path);
            for option in &section.options {
                let name = format!("[{}] {}", section.path, option.name);
                let doc = option.doc.concat();
                assert!(doc.trim().len() > 10, "{name} is not documented");
                assert!(
                    doc.trim().ends_with('.'),
                    "{name}: a sentence ends with a full stop"
                );
                let explained = option.default.is_some()
                    || option.default_words.is_some()
                    || option.section.is_some();
                assert!(explained, "{name}: its default is not said");
                if let Some(inner) = &option.section {
                    let prefix = if section.path.is_empty() {
                        String::new()
                    } else {
                        format!("{}.", section.path)
                    };
                    assert_eq!(inner.path, format!("{prefix}{}", option.name));
                }
            }
        }
    }

    /// Numbers and quantities are bounded, so that a slip of the pen is seen.
    #[test]
    fn every_quantity_is_bounded() {
        for section in sections() {
            for option in &section.options {
                let quantity = ["a size", "a time", "a whole number", "a number"];
                if quantity.contains(&option.wanted) {
                    let name = format!("[{}] {}", section.path, option.name);
                    assert!(option.bounds.is_some(), "{name} has no bounds");
                }
            }
        }
    }
}
