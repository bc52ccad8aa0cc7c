//! Mailboxes that are collected, from the configuration.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::config::options::{MailboxSource, Oversize as OversizeWord};
use crate::config::{ListenerTls, Mailbox, Whose};
use crate::core::collector::PopMailbox;
use crate::core::copies::Copies;
use crate::pop3::mailbox::{Oversize, Policy};
use crate::pop3::memory::Account;
use crate::pop3::recipients::{self, DomainRules, Occurrence, Rules, Source};
use crate::pop3::settings::{Settings, Tls};

pub(super) fn mailbox(mailbox: &Mailbox, spool: &Path, message_bytes_max: u64) -> PopMailbox {
    let tls = match mailbox.tls {
        ListenerTls::None => Tls::None,
        ListenerTls::StartTls => Tls::Stls,
        ListenerTls::Implicit => Tls::Implicit,
    };
    let duplicates = match &mailbox.whose {
        Whose::User(_) => Duration::ZERO,
        Whose::Domain(domain) => domain.duplicates,
    };
    PopMailbox {
        name: mailbox.name.as_str().into(),
        account: Account::new(&mailbox.login.user, &mailbox.host.to_string()),
        host: mailbox.host.clone(),
        port: mailbox.port,
        user: mailbox.login.user.as_str().into(),
        password_file: mailbox.login.password_file.path().to_owned(),
        session: Arc::new(Settings::new(tls, message_bytes_max)),
        policy: Policy {
            keep: mailbox.keep,
            size_max: mailbox.size_max,
            oversize: match mailbox.oversize {
                OversizeWord::Notice => Oversize::Notice,
                OversizeWord::Skip => Oversize::Skip,
                OversizeWord::Window => Oversize::Window,
            },
            message_bytes_max,
        },
        rules: rules(mailbox),
        duplicates,
        copies: (!mailbox.safe_copy.is_zero())
            .then(|| Copies::new(&mailbox.name, spool, mailbox.safe_copy)),
    }
}

fn rules(mailbox: &Mailbox) -> Rules {
    let aliases = mailbox
        .aliases
        .iter()
        .map(|(from, to)| (from.as_str().to_ascii_lowercase().into(), to.clone()));
    let aliases: BTreeMap<_, _> = aliases.collect();
    let mailbox = match &mailbox.whose {
        Whose::User(address) => recipients::Mailbox::User(address.clone()),
        Whose::Domain(domain) => recipients::Mailbox::Domain(Box::new(DomainRules {
            domains: domain.domains.clone(),
            sources: domain.sources.iter().copied().map(source).collect(),
            envelope_fields: domain.envelope.clone(),
            occurrence: Occurrence(domain.occurrence),
            strip_prefix: domain.strip_prefix.clone(),
            received_skipped: domain.received_skipped,
            default: domain.default.clone(),
        })),
    };
    Rules { mailbox, aliases }
}

fn source(word: MailboxSource) -> Source {
    match word {
        MailboxSource::Envelope => Source::Envelope,
        MailboxSource::Received => Source::Received,
        MailboxSource::Resent => Source::Resent,
        MailboxSource::Header => Source::Header,
    }
}
