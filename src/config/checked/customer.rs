//! Customers, as the program uses them.

use std::path::PathBuf;
use std::time::Duration;

use super::{Login, SecretFile, Surroundings};
use crate::config::addresses::DeliverTo;
use crate::config::options;
use crate::config::retention::Retention;
use crate::config::units::Every;
use crate::mail::Address;
use crate::route::customer::WakeFor;
use crate::route::{CustomerName, Network, Scope};

/// See `[[customer]]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Customer {
    /// For logs and commands.
    pub name: CustomerName,
    /// Never empty.
    pub domains: Vec<Scope>,
    /// For `ETRN #queue`.
    pub queue: CustomerName,
    /// Where mail goes.
    pub deliver_to: DeliverTo,
    /// What lets it go.
    pub release: Release,
    /// Its user, and where the password is.
    pub login: Option<Login>,
    /// How long mail is held.
    pub retention: Retention,
    /// From arrival to the delay notice, if there is one.
    pub warn: Option<Duration>,
    /// Octets held.
    pub quota_bytes: u64,
    /// Messages held.
    pub quota_messages: u32,
    /// The customer's addresses.
    pub recipients_file: Option<PathBuf>,
    /// Its host is asked about each recipient.
    pub call_ahead: bool,
    /// Whom to ask.
    pub contact: Option<Address>,
    /// A program with its arguments; empty: none.
    pub wake_command: Vec<String>,
    /// When it is run for mail that has arrived.
    pub wake_for: Option<WakeFor>,
}

/// See `[customer.release]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Release {
    /// Who authenticated.
    pub auth: bool,
    /// Anybody.
    pub open: bool,
    /// Clients at these addresses.
    pub clients: Vec<Network>,
    /// The secret of wake-up mail.
    pub wakeup_secret: Option<SecretFile>,
    /// A session from one of them.
    pub on_connect: bool,
    /// By ourselves.
    pub every: Option<Duration>,
}

pub(super) fn build(written: &options::Customer, surroundings: &Surroundings) -> Customer {
    let release = &written.release;
    Customer {
        name: written.name.value.clone(),
        domains: written.domains.value.clone(),
        queue: (*written.queue).as_ref().unwrap_or(&written.name).clone(),
        deliver_to: written.deliver_to.value.clone(),
        release: Release {
            auth: *release.auth,
            open: *release.open,
            clients: release.clients.value.clone(),
            wakeup_secret: (release.wakeup_secret_file.as_ref())
                .map(|path| SecretFile::new(path, surroundings)),
            on_connect: *release.on_connect,
            every: match *release.every {
                Every::Never => None,
                Every::Interval(interval) => Some(interval),
            },
        },
        login: (written.user.as_ref())
            .zip(written.password_file.as_ref())
            .map(|(user, path)| Login {
                user: user.clone(),
                password_file: SecretFile::new(path, surroundings),
            }),
        retention: *written.retention,
        warn: (!written.warn.is_zero()).then_some(*written.warn),
        quota_bytes: written.quota.bytes.0,
        quota_messages: *written.quota.messages,
        recipients_file: (*written.recipients_file).clone(),
        call_ahead: *written.call_ahead,
        contact: (*written.contact).clone(),
        wake_command: written.wake_command.value.clone(),
        wake_for: wake_for(&written.wake_for),
    }
}

fn wake_for(written: &options::WakeFor) -> Option<WakeFor> {
    let rules = WakeFor {
        messages: written.messages.map(u64::from),
        octets: written.bytes.map(|bytes| bytes.0),
        age: *written.age,
        priority: *written.priority,
        pause: *written.pause,
    };
    rules.is_any().then_some(rules)
}
