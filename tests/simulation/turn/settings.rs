//! The provider: two customers, of whom each may call.

use std::sync::Arc;
use std::time::Duration;

use turnspool::core::credentials::{Account, AccountKind, Credentials};
use turnspool::core::data::Settings;
use turnspool::core::settings::Tls;
use turnspool::core::wakeup::WakeUps;
use turnspool::mail::Domain;
use turnspool::queue::{Policies, notification};
use turnspool::route::customer::{Customer, Customers, DeliverTo, Quota, ReleaseRules, Retention};
use turnspool::route::{DeliveryMode, RelayRules, Routes, RoutesInSmarthostMode, TlsStart};
use turnspool::smtp;
use turnspool::smtp::auth::stored::Stored;
use turnspool::smtp::auth::{Mechanism, Mechanisms, Password};
use turnspool::smtp::settings::{AuthOffer, Role};

use super::{CUSTOMERS, PLENTY, SECRET};

pub(super) fn settings(cores: u8) -> Settings {
    let hostname: Domain = "relay.example".parse().expect("a domain");
    let mail = smtp::settings::Settings::new(hostname.clone());
    let mut odmr = mail.clone();
    odmr.role = Role::Odmr;
    odmr.offers.auth = Some(AuthOffer::new(Mechanisms::NONE.with(Mechanism::CramMd5)));
    let customers: Vec<_> = CUSTOMERS.iter().map(customer).collect();
    let accounts = CUSTOMERS.iter().map(|(name, _)| {
        let password = Password::new(SECRET.to_owned()).expect("a password");
        let account = Account {
            kind: AccountKind::Customer(name.parse().expect("a name")),
            stored: Arc::new(Stored::shared(password)),
        };
        (name.parse().expect("a user"), account)
    });
    let credentials = Credentials::new(accounts).expect("two users");
    let held = customers.iter().flat_map(|customer| {
        let owned = |scope: &_| (Clone::clone(scope), customer.name.clone());
        customer.scopes.iter().map(owned)
    });
    let routes = Routes::new(DeliveryMode::Mx, RoutesInSmarthostMode::Ignored, held, []);
    let scopes = customers
        .iter()
        .flat_map(|customer| customer.scopes.clone());
    let relay = RelayRules::new(None, scopes);
    let client = Arc::new(smtp::client::settings::Settings::new(hostname.clone()));
    Settings {
        hostname,
        listeners: vec![Arc::new(mail), Arc::new(odmr)],
        listener_tls: vec![TlsStart::Command; 2],
        tls: Tls::default(),
        credentials,
        collectors: Vec::new(),
        notify: notification::Rules::default(),
        relay,
        routes: Arc::new(routes.expect("routes")),
        customers: Arc::new(Customers::new(customers.clone()).expect("two customers")),
        recipients: Arc::default(),
        wakeup: WakeUps::default(),
        smtp_client: Arc::clone(&client),
        lmtp_client: client,
        policies: Policies::default(),
        data_cores: cores,
        idle: Duration::from_secs(2),
    }
}

pub(super) fn customer((name, domains): &(&str, &[&str])) -> Customer {
    Customer {
        name: name.parse().expect("a name"),
        scopes: domains
            .iter()
            .map(|d| d.parse().expect("a scope"))
            .collect(),
        queue: name.parse().expect("a name"),
        deliver_to: DeliverTo::Mx,
        release: ReleaseRules {
            auth: true,
            open: false,
            clients: Box::default(),
            on_connect: false,
            every: None,
        },
        user: Some((*name).into()),
        retention: Retention::Age(Duration::from_secs(1 << 20)),
        warn: None,
        quota: Quota {
            octets: PLENTY,
            messages: PLENTY,
        },
        recipients_file: None,
        call_ahead: false,
        contact: None,
        wake_command: Vec::new(),
        wake_for: None,
    }
}
