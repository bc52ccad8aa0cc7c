//! Customers: from the configuration to [`route`] and to the policies of the queue.

use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;

use crate::config::{self, Config, addresses, retention};
use crate::core::wakeup::{SECRET_BYTES_MIN, WakeUps};
use crate::queue::destination::{Policy, RELEASE_FAILURES_MAX};
use crate::queue::retry::Retry;
use crate::route::customer::{Customer, Customers, DeliverTo, Quota, ReleaseRules, Retention};
use crate::route::{self, CustomerName, Protocol, RouteError, TlsPolicy};
use crate::smtp::auth::Password;

/// The first pause after a released site could not be reached, and the longest. A site
/// that asked is there or will be in a moment, and its line may be paid for by the
/// second.
const SITE_PAUSE_FIRST: Duration = Duration::from_secs(5);
const SITE_PAUSE_LONGEST: Duration = Duration::from_secs(30);
const SITE_PAUSE_FACTOR: f64 = 1.5;
/// The random part of those: sites that were released together come one by one.
const SITE_JITTER: f64 = 0.3;

/// Failures in a row that a site may have that our own command is waking: with the
/// pauses above it has about five minutes for its line to come up.
const WAKING_FAILURES_MAX: u16 = 12;

/// Held mail that is counted in windows ends when this many times all of them have
/// passed: a server that is restarted often counts few.
const WINDOWS_AGE_FACTOR: u32 = 4;

/// Where only the mail's age can end it.
const AGE_MAX: Duration = Duration::from_secs(365 * 86_400);

/// Whom we hold mail for.
///
/// # Errors
/// Two customers have something in common that names only one.
pub fn customers(config: &Config) -> Result<Customers, RouteError> {
    Customers::new(config.customers.iter().map(customer).collect())
}

fn customer(written: &config::Customer) -> Customer {
    let release = &written.release;
    Customer {
        name: written.name.clone(),
        scopes: written.domains.clone(),
        queue: written.queue.clone(),
        deliver_to: match &written.deliver_to {
            addresses::DeliverTo::Host(host) => DeliverTo::Host(route::Host {
                host: host.host.clone(),
                port: host.port.unwrap_or(25),
                protocol: Protocol::Smtp,
                tls: TlsPolicy::Opportunistic.into(),
            }),
            addresses::DeliverTo::Mx => DeliverTo::Mx,
            addresses::DeliverTo::Caller => DeliverTo::Caller,
        },
        release: ReleaseRules {
            auth: release.auth,
            open: release.open,
            clients: release.clients.clone().into(),
            on_connect: release.on_connect,
            every: release.every,
        },
        user: written
            .login
            .as_ref()
            .map(|login| login.user.as_str().into()),
        retention: match written.retention {
            retention::Retention::Age(age) => Retention::Age(age),
            retention::Retention::Windows(missed) => Retention::Windows {
                missed,
                age_max: (release.every.unwrap_or(AGE_MAX))
                    .saturating_mul(u32::from(missed))
                    .saturating_mul(WINDOWS_AGE_FACTOR)
                    .min(AGE_MAX),
            },
        },
        warn: written.warn,
        quota: Quota {
            octets: written.quota_bytes,
            messages: u64::from(written.quota_messages),
        },
        recipients_file: written.recipients_file.clone(),
        call_ahead: written.call_ahead,
        contact: written.contact.clone(),
        wake_command: written.wake_command.clone(),
        wake_for: written.wake_for,
    }
}

/// Addresses of our own, and the secrets of those who write there.
///
/// # Errors
/// For the operator: which secret is no good. The secret is not in it.
pub(super) fn wakeups(config: &Config) -> Result<WakeUps, String> {
    let mut secrets = HashMap::default();
    for customer in &config.customers {
        let Some(file) = &customer.release.wakeup_secret else {
            continue;
        };
        let wrong = |why: &dyn std::fmt::Display| {
            let (name, path) = (&customer.name, file.path().display());
            format!("customer \"{name}\": wakeup_secret_file: {path}: {why}")
        };
        let secret = file.read().map_err(|error| wrong(&error))?;
        let text = secret.reveal();
        if text.len() < SECRET_BYTES_MIN || text.contains(|c: char| c.is_ascii_whitespace()) {
            let why = format!("a secret has {SECRET_BYTES_MIN} octets or more, and no space");
            return Err(wrong(&why));
        }
        let secret = Password::new(text.to_owned()).map_err(|error| wrong(&error))?;
        secrets.insert(customer.name.clone(), secret);
    }
    Ok(WakeUps {
        address: config.wakeup.address.clone(),
        null_at: config.wakeup.null_at.clone(),
        secrets,
    })
}

/// How the mail of each is treated, of which `connections` may go to a site at a time.
pub(super) fn policies(
    customers: &Customers,
    connections: u16,
) -> HashMap<CustomerName, Arc<Policy>, foldhash::fast::FixedState> {
    let policy = |customer: &Customer| {
        let (give_up, windows) = match customer.retention {
            Retention::Age(age) => (age, None),
            Retention::Windows { missed, age_max } => (age_max, Some(missed)),
        };
        Arc::new(Policy {
            retry: Retry::Exponential {
                first: SITE_PAUSE_FIRST,
                factor: SITE_PAUSE_FACTOR,
                longest: SITE_PAUSE_LONGEST,
                give_up,
                jitter: SITE_JITTER,
            },
            warn: customer.warn,
            connections,
            release_failures_max: if customer.wake_command.is_empty() {
                RELEASE_FAILURES_MAX
            } else {
                WAKING_FAILURES_MAX
            },
            windows,
        })
    };
    let named = customers.iter().map(|c| (c.name.clone(), policy(c)));
    named.collect()
}

/// How mail is tried that was released before the rest of its queue: no release ends that, so
/// at the pauses of other mail, for as long as the customer's mail is kept.
pub(super) fn site_policies(
    customers: &Customers,
    default: &Policy,
) -> HashMap<CustomerName, Arc<Policy>, foldhash::fast::FixedState> {
    // Most customers have the same one.
    let mut last: Option<Arc<Policy>> = None;
    let mut policy = |customer: &Customer| {
        let give_up = match customer.retention {
            Retention::Age(age) => age,
            Retention::Windows { age_max, .. } => age_max,
        };
        let policy = Policy {
            retry: default.retry.until(give_up),
            warn: customer.warn,
            windows: None,
            ..default.clone()
        };
        match &last {
            Some(same) if **same == policy => Arc::clone(same),
            _ => Arc::clone(last.insert(Arc::new(policy))),
        }
    };
    (customers.iter())
        .map(|customer| (customer.name.clone(), policy(customer)))
        .collect()
}
