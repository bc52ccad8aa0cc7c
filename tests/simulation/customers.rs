//! Worlds in which mail is held: the customers, and the control core that leads releases.

use std::sync::Arc;
use std::time::Duration;

use turnspool::core::AdminRequestId;
use turnspool::core::admin::Command;
use turnspool::core::control::{ControlCompletion, ControlCore, ControlOperation};
use turnspool::core::online::{Online, Setup};
use turnspool::queue::{Ledger, Policies};
use turnspool::route::customer::{Customer, DeliverTo, Quota, ReleaseRules, Retention};
use turnspool::route::{CustomerName, Customers, Scope};
use turnspool::time::Now;

use crate::random::Random;

/// The customer of each domain of a world that holds mail.
pub(crate) fn customers(domains: u64) -> Arc<Customers> {
    let customer = |number: u64| Customer {
        name: name(number),
        scopes: vec![format!("d{number}.example").parse().expect("a scope")],
        queue: name(number),
        deliver_to: DeliverTo::Mx,
        release: ReleaseRules {
            auth: false,
            open: true,
            clients: [].into(),
            on_connect: false,
            every: None,
        },
        user: None,
        retention: Retention::Age(Duration::from_secs(5 * 86_400)),
        warn: None,
        quota: Quota {
            octets: u64::MAX,
            messages: u64::MAX,
        },
        recipients_file: None,
        call_ahead: false,
        contact: None,
        wake_command: Vec::new(),
        wake_for: None,
    };
    let all = Customers::new((0..domains).map(customer).collect());
    Arc::new(all.expect("each has a name of its own"))
}

/// What the routes say of them.
pub(crate) fn held(customers: &Customers) -> Vec<(Scope, CustomerName)> {
    let of = |customer: &Arc<Customer>| (customer.scopes[0].clone(), customer.name.clone());
    customers.iter().map(of).collect()
}

/// With counters, which must be empty in the end.
pub(crate) fn counted(policies: &Policies, customers: &Customers, ledger: &Ledger) -> Policies {
    let usage = customers
        .iter()
        .map(|customer| (customer.name.clone(), ledger.of(&customer.name)));
    Policies {
        usage: Arc::new(usage.collect()),
        ..policies.clone()
    }
}

fn name(number: u64) -> CustomerName {
    format!("c{number}").parse().expect("a name")
}

/// A control core of which the world uses the desk of releases only.
pub(crate) fn control(now: Now, customers: &Arc<Customers>, random: &mut Random) -> ControlCore {
    let online = Online::new(Setup::always(), 1, now);
    ControlCore::new(now, 1, Arc::clone(customers), random.next(), online)
}

/// Somebody releases a customer's mail.
pub(crate) fn release(number: u64) -> ControlCompletion {
    ControlCompletion::Admin {
        request: AdminRequestId(2),
        command: Command::Release {
            name: name(number).to_string(),
        },
    }
}

/// What the desk wants of the data core.
pub(crate) fn step(
    control: &mut ControlCore,
    now: Now,
    completion: ControlCompletion,
) -> Vec<turnspool::core::Notice> {
    control.handle(now, completion);
    std::iter::from_fn(|| control.poll())
        .filter_map(|operation| match operation {
            ControlOperation::Tell { notice, .. } => Some(notice),
            _ => None,
        })
        .collect()
}
