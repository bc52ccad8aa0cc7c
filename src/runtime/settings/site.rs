//! The site's side: links and schedule, from the checked configuration to the machines.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;

use crate::config::{Config, ListenWhen};
use crate::core::online::{LinkSetup, OpenWhen, Setup};
use crate::link::outing::Memory;
use crate::queue::way::NeedsLink;
use crate::route::Network;

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
        collectors: Vec::new(),
        listeners: listeners.collect(),
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
