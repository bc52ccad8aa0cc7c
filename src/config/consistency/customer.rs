//! Contradictions of the provider's side.

use std::collections::HashMap;

use super::Checks;
use crate::config::addresses::DeliverTo;
use crate::config::options::{Customer, File, WakeUp};
use crate::config::retention::Retention;
use crate::config::secret;
use crate::config::units::Every;
use crate::route::{CustomerName, Network, Scope};

impl Checks<'_> {
    pub(super) fn customers(&mut self, file: &File) {
        self.unique("customer.name", file.customer.iter().map(|c| &c.name));
        let mut domains: HashMap<&Scope, &CustomerName> = HashMap::new();
        let mut queues: HashMap<&CustomerName, &CustomerName> = HashMap::new();
        for customer in &**file.customer {
            self.customer(customer, &file.wakeup);
            for domain in &**customer.domains {
                if let Some(other) = domains.insert(domain, &customer.name) {
                    let what = format!("{domain} belongs to \"{other}\" already");
                    let instead = "write each domain for one customer only";
                    self.wrong("customer.domains", &customer.domains, what, instead);
                }
            }
            let queue = customer.queue.as_ref().unwrap_or(&customer.name);
            if let Some(other) = queues.insert(queue, &customer.name)
                && *other != *customer.name
            {
                let what = format!("\"{queue}\" is the queue of \"{other}\" already");
                let instead = "give each customer a queue name of its own";
                self.wrong("customer.queue", &customer.queue, what, instead);
            }
        }
        let mut users: HashMap<&str, &CustomerName> = HashMap::new();
        for customer in &**file.customer {
            if let Some(user) = &*customer.user
                && let Some(other) = users.insert(user, &customer.name)
            {
                let what = format!("is the user of \"{other}\" already");
                let instead = "give each customer a user of its own";
                self.wrong("customer.user", &customer.user, what, instead);
            }
        }
        let routed = file
            .route
            .iter()
            .filter(|r| domains.contains_key(&*r.domain));
        for route in routed.collect::<Vec<_>>() {
            let what = format!("{} is held for a customer", *route.domain);
            let instead = "remove the route; `deliver_to` of the customer says where it goes";
            self.wrong("route.domain", &route.domain, what, instead);
        }
    }

    fn customer(&mut self, customer: &Customer, wakeup: &WakeUp) {
        let release = &customer.release;
        self.login("customer", &customer.user, &customer.password_file);
        if customer.domains.is_empty() && customer.domains.is_sound() {
            let instead = "write at least one domain";
            self.wrong("customer.domains", &customer.domains, "is empty", instead);
        }
        if *customer.deliver_to == DeliverTo::Caller && !*release.auth {
            let what = "\"caller\" is for those who authenticate: anybody could fetch the mail";
            let instead = "write the address of the customer's host, or `auth = true`";
            self.wrong("customer.deliver_to", &customer.deliver_to, what, instead);
        }
        if let Retention::Windows(_) = *customer.retention
            && *release.every == Every::Never
        {
            let instead = "write `every` in `release`, or a time";
            let what = "nothing counts the windows";
            self.wrong("customer.retention", &customer.retention, what, instead);
        }
        if release.auth.is_written() && *release.auth && customer.user.is_none() {
            let instead = "add `user` and `password_file`";
            self.wrong(
                "customer.release.auth",
                &release.auth,
                "there is no user",
                instead,
            );
        }
        if *release.on_connect && release.clients.is_empty() && release.clients.is_sound() {
            let instead = "list the customer's addresses in `clients`";
            let what = "nobody is known by address";
            self.wrong(
                "customer.release.on_connect",
                &release.on_connect,
                what,
                instead,
            );
        }
        let anybody = |network: &&Network| network.is_anybody();
        if let Some(network) = release.clients.iter().find(anybody) {
            let what = format!("{network} would let anybody release the queue");
            let instead = "list the customer's own addresses";
            self.wrong("customer.release.clients", &release.clients, what, instead);
        }
        if let Some(path) = &*release.wakeup_secret_file {
            let option = "customer.release.wakeup_secret_file";
            let file = &release.wakeup_secret_file;
            if let Err((what, instead)) = secret::check(path, self.surroundings) {
                self.wrong(option, file, what, instead);
            } else if *customer.deliver_to == DeliverTo::Caller {
                let what = "the mail goes to the caller, and who writes has not called";
                let instead = "write the address of the customer's host in `deliver_to`";
                self.wrong(option, file, what, instead);
            } else if wakeup.address.is_none() && wakeup.null_at.is_empty() {
                let instead = "add `address` to [wakeup]";
                self.wrong(
                    option,
                    file,
                    "there is no address for wake-up mail",
                    instead,
                );
            }
        }
        if *customer.call_ahead {
            let (option, place) = ("customer.call_ahead", &customer.call_ahead);
            if *customer.deliver_to == DeliverTo::Caller {
                let what = "nobody knows where the customer's host is before it calls";
                let instead = "write its address in `deliver_to`, or a `recipients_file`";
                self.wrong(option, place, what, instead);
            }
            if customer.recipients_file.is_some() {
                let what = "the list says already which recipients there are";
                let instead = "write either `recipients_file` or `call_ahead`";
                self.wrong(option, place, what, instead);
            }
        }
        self.program("customer.wake_command", &customer.wake_command);
        self.wake_for(customer);
    }

    fn wake_for(&mut self, customer: &Customer) {
        let rules = &customer.wake_for;
        let written = [
            ("customer.wake_for.messages", rules.messages.place()),
            ("customer.wake_for.bytes", rules.bytes.place()),
            ("customer.wake_for.age", rules.age.place()),
            ("customer.wake_for.priority", rules.priority.place()),
        ];
        let first = written.into_iter().find(|(_, place)| place.is_some());
        if first.is_none() && rules.pause.is_written() {
            let what = "there is nothing for which the site would be woken";
            let instead = "add `messages`, `bytes`, `age` or `priority`";
            self.wrong("customer.wake_for.pause", &rules.pause, what, instead);
        }
        let Some((option, place)) = first else { return };
        if customer.wake_command.is_empty() && customer.wake_command.is_sound() {
            let what = "there is no command that wakes the site";
            let instead = "add `wake_command`; to try the site without one, use `release.every`";
            self.wrong_at(option, place, what, instead);
        }
    }
}
