//! What the operator decides, as a data core needs it. Shared by all data cores; a
//! reload makes a new one, which holds for what begins from then on.

use std::sync::Arc;
use std::time::Duration;

use crate::core::ListenerId;
use crate::core::collector::Collector;
use crate::core::credentials::Credentials;
use crate::core::wakeup::WakeUps;
use crate::mail::Domain;
use crate::queue::destination::Policies;
use crate::queue::notification;
use crate::route::recipients::RecipientLists;
use crate::route::{self, Customers, Protocol, RelayRules, Routes, TlsStart};
use crate::smtp;
use crate::smtp::client::settings::{Identity, TlsPolicy};
use crate::tls;

/// See the module.
#[derive(Debug)]
pub struct Settings {
    /// Our name, for notifications and refusals.
    pub hostname: Domain,
    /// How sessions go, for each listener in the order of the configuration.
    pub listeners: Vec<Arc<smtp::settings::Settings>>,
    /// When TLS begins on each listener: by STARTTLS, if at all, or before the greeting.
    pub listener_tls: Vec<TlsStart>,
    /// Our certificates, and whom we trust.
    pub tls: Tls,
    /// Who may authenticate, and as what.
    pub credentials: Credentials,
    /// Who may send to where.
    pub relay: RelayRules,
    /// What goes where.
    pub routes: Arc<Routes>,
    /// Whom we hold mail for.
    pub customers: Arc<Customers>,
    /// Which addresses those have that gave us a list, when this was made.
    pub recipients: Arc<RecipientLists>,
    /// Addresses of our own.
    pub wakeup: WakeUps,
    /// How we speak SMTP to a next hop.
    pub smtp_client: Arc<smtp::client::settings::Settings>,
    /// How we speak LMTP to a next hop.
    pub lmtp_client: Arc<smtp::client::settings::Settings>,
    /// When to try again, and how much at once.
    pub policies: Policies,
    /// How senders are told what becomes of their mail.
    pub notify: notification::Rules,
    /// How this site gets its own mail.
    pub collectors: Vec<Arc<Collector>>,
    /// How many data cores there are; does not change before a restart.
    pub data_cores: u8,
    /// How long a connection that has nothing to do is kept for the next message.
    pub idle: Duration,
}

/// TLS in both directions.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// For those who connect to us. Without it TLS is not offered.
    pub server: Option<tls::ServerSettings>,
    /// For those we connect to.
    pub client: tls::ClientSettings,
}

impl Settings {
    /// Where the routes are those of `others`, they are the same from now on: no core has to
    /// compare what there is for ten thousand customers.
    pub fn share_routes(&mut self, others: &Self) {
        if self.routes == others.routes {
            self.routes = Arc::clone(&others.routes);
        }
    }

    /// How a session of a listener goes.
    ///
    /// # Panics
    /// There is no such listener: an error of ours, since a reload that changes the
    /// number of listeners takes a restart.
    #[must_use]
    pub fn session(&self, listener: ListenerId) -> &Arc<smtp::settings::Settings> {
        &self.listeners[usize::from(listener.0)]
    }

    /// When TLS begins on a listener.
    pub(super) fn tls_start(&self, listener: ListenerId) -> TlsStart {
        self.listener_tls[usize::from(listener.0)]
    }

    /// How we speak to a host, with so much TLS.
    pub(super) fn client(
        &self,
        protocol: Protocol,
        policy: route::TlsPolicy,
    ) -> Arc<smtp::client::settings::Settings> {
        let settings = match protocol {
            Protocol::Smtp => &self.smtp_client,
            Protocol::Lmtp => &self.lmtp_client,
        };
        // Whether the certificate must be good is decided when the handshake begins.
        let tls = match policy {
            route::TlsPolicy::None => TlsPolicy::None,
            route::TlsPolicy::Opportunistic => TlsPolicy::Opportunistic,
            route::TlsPolicy::Required | route::TlsPolicy::Verified => TlsPolicy::Required,
        };
        let identity = match policy {
            route::TlsPolicy::Verified => Identity::Proven,
            _ => Identity::Unproven,
        };
        if (settings.tls, settings.identity) == (tls, identity) {
            return Arc::clone(settings);
        }
        let mut settings = smtp::client::settings::Settings::clone(settings);
        settings.tls = tls;
        settings.identity = identity;
        Arc::new(settings)
    }
}
