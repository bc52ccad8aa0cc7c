//! What the operator decides, as a data core needs it. Shared by all data cores; a
//! reload makes a new one, which holds for what begins from then on.

use std::sync::Arc;
use std::time::Duration;

use crate::core::ListenerId;
use crate::core::credentials::Credentials;
use crate::core::delivery::Candidates;
use crate::mail::Domain;
use crate::queue::destination::Policies;
use crate::route::{Customers, Protocol, RelayRules, Routes};
use crate::smtp;

/// See the module.
#[derive(Debug)]
pub struct Settings {
    /// Our name, for notifications and refusals.
    pub hostname: Domain,
    /// How sessions go, for each listener in the order of the configuration.
    pub listeners: Vec<Arc<smtp::settings::Settings>>,
    /// Who may authenticate, and as what.
    pub credentials: Credentials,
    /// Who may send to where.
    pub relay: RelayRules,
    /// What goes where.
    pub routes: Routes,
    /// Whom we hold mail for.
    pub customers: Arc<Customers>,
    /// How we speak SMTP to a next hop.
    pub smtp_client: Arc<smtp::client::settings::Settings>,
    /// How we speak LMTP to a next hop.
    pub lmtp_client: Arc<smtp::client::settings::Settings>,
    /// When to try again, and how much at once.
    pub policies: Policies,
    /// How many data cores there are; does not change before a restart.
    pub data_cores: u8,
    /// How long a connection that has nothing to do is kept for the next message.
    pub idle: Duration,
}

impl Settings {
    /// How a session of a listener goes.
    ///
    /// # Panics
    /// There is no such listener: an error of ours, since a reload that changes the
    /// number of listeners takes a restart.
    #[must_use]
    pub fn session(&self, listener: ListenerId) -> &Arc<smtp::settings::Settings> {
        &self.listeners[usize::from(listener.0)]
    }

    /// How we speak to the first of these.
    pub(super) fn client(&self, candidates: &Candidates) -> Arc<smtp::client::settings::Settings> {
        let lmtp = candidates
            .front()
            .is_some_and(|(host, _)| host.protocol == Protocol::Lmtp);
        Arc::clone(if lmtp {
            &self.lmtp_client
        } else {
            &self.smtp_client
        })
    }
}
