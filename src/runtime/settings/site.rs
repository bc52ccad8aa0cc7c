//! The site's side: links, schedule and collectors, from the checked configuration to the
//! machines.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::tz::TimeZone;

use super::mailboxes;
use crate::config::{self, Config, ListenWhen, ListenerTls};
use crate::core::collector::{Collector, Means, Provider, Way};
use crate::core::online::{LinkSetup, OpenWhen, Setup};
use crate::core::summoning::Letter;
use crate::link::outing::Memory;
use crate::queue::way::NeedsLink;
use crate::route::{HostTls, Network, TlsPolicy, TlsStart};

/// What the control core needs. `memories` are those of the links that had these names.
#[must_use]
pub fn online(config: &Config, mut memories: BTreeMap<String, Memory>, zone: TimeZone) -> Setup {
    let links = config.links.iter().map(|link| LinkSetup {
        name: link.name.clone(),
        settings: link.settings,
        memory: memories.remove(&link.name).unwrap_or_default(),
    });
    let listeners = config.listeners.iter().map(|listener| match listener.when {
        ListenWhen::Always => OpenWhen::Always,
        ListenWhen::LinkUp => OpenWhen::LinkUp,
        ListenWhen::Schedule => OpenWhen::Schedule,
    });
    Setup {
        links: links.collect(),
        rows: config.schedule.clone(),
        zone,
        listeners: listeners.collect(),
    }
}

/// The collectors, in the order of the configuration.
pub(super) fn collectors(config: &Config) -> Vec<Arc<Collector>> {
    let link = needs_link(config);
    let collectors = config.collectors.iter().map(|written| {
        let over_link = match &written.means {
            config::Means::Mailbox(mailbox) => link.host(&mailbox.host),
            config::Means::Provider(provider) => {
                provider.servers.iter().any(|(host, _)| link.host(host))
            }
            config::Means::Letter { .. } | config::Means::Command(_) => link != NeedsLink::Nothing,
        };
        Arc::new(Collector {
            name: written.name.as_str().into(),
            every: written.every,
            way: if over_link { Way::OverLink } else { Way::Near },
            wait: written.wait,
            callers: written.callers.clone(),
            means: means(config, &written.means),
        })
    });
    collectors.collect()
}

fn means(config: &Config, means: &config::Means) -> Means {
    match means {
        config::Means::Mailbox(mailbox) => {
            let bytes_max = config.limits.message_bytes_max;
            Means::Mailbox(Arc::new(mailboxes::mailbox(
                mailbox,
                &config.spool.directory,
                bytes_max,
            )))
        }
        config::Means::Provider(provider) => Means::Provider(Provider {
            servers: provider.servers.clone(),
            tls: provider_tls(provider.tls),
            login: (provider.login.as_ref()).map(|login| {
                let path = login.password_file.path().to_owned();
                (login.user.as_str().into(), path)
            }),
            ask: provider.ask.clone(),
        }),
        config::Means::Letter { to, from } => {
            let (to, from) = (to.clone(), from.clone());
            Means::Letter(Arc::new(Letter { to, from }))
        }
        config::Means::Command(words) => Means::Command(words.clone()),
    }
}

/// Who sends a password or takes mail by this connection wants to know who is there.
fn provider_tls(tls: ListenerTls) -> HostTls {
    let (policy, start) = match tls {
        ListenerTls::None => (TlsPolicy::None, TlsStart::Command),
        ListenerTls::StartTls => (TlsPolicy::Verified, TlsStart::Command),
        ListenerTls::Implicit => (TlsPolicy::Verified, TlsStart::Connection),
    };
    HostTls {
        policy,
        start,
        certificate: None,
    }
}

/// What is reached over a link.
pub(super) fn needs_link(config: &Config) -> NeedsLink {
    if config.links.is_empty() {
        return NeedsLink::Nothing;
    }
    let local: Vec<Network> = config
        .links
        .iter()
        .flat_map(|link| link.local.iter().copied())
        .collect();
    NeedsLink::AllBut(local)
}
