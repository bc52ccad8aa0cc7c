//! Mail that arrives makes a site's link come up (FEATURES Q9): which customers have so
//! much waiting, or waiting for so long, that their site is to be woken.
//!
//! What waits is counted by the queues of all cores anyway, in the [`Ledger`]. Here those
//! counts are looked at every [`LOOK_INTERVAL`]: no message has to tell anybody that it
//! came, and ten thousand customers cost some hundred microseconds in a second.
//!
//! Rules:
//!
//! - A site is woken at most once in its `pause`, whether that helped or not; what came
//!   meanwhile counts when it is over.
//! - Not while its mail is on its way, or while it is being woken.

use std::sync::Arc;
use std::time::Duration;

use crate::link::work::{GoUp, Reason, Work};
use crate::queue::{Ledger, Usage};
use crate::route::{CustomerName, Customers};
use crate::time::{Instant, Now};

/// How often the counts are looked at. A line that is dialled takes longer than that.
pub(super) const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// A customer whose site is woken for what waits.
struct Watched {
    customer: CustomerName,
    go_up: GoUp,
    pause: Duration,
    usage: Arc<Usage>,
    /// Not before.
    again: Instant,
}

/// See the module.
#[derive(Default)]
pub(super) struct Arrivals {
    ledger: Arc<Ledger>,
    watched: Vec<Watched>,
    next: Instant,
}

impl Arrivals {
    /// Where it is counted.
    pub(super) fn count_by(&mut self, ledger: Arc<Ledger>) {
        self.ledger = ledger;
        self.watched.clear();
    }

    /// The customers, at the start and after a reload. Who was woken a moment ago is not
    /// woken again because of it.
    pub(super) fn configure(&mut self, now: Instant, customers: &Customers) {
        let mut before: hashbrown::HashMap<CustomerName, Instant> =
            (self.watched.drain(..).map(|old| (old.customer, old.again))).collect();
        for customer in customers.iter() {
            let Some(rules) = &customer.wake_for else {
                continue;
            };
            self.watched.push(Watched {
                customer: customer.name.clone(),
                go_up: GoUp {
                    messages: rules.messages,
                    octets: rules.octets,
                    age: rules.age,
                    priority: rules.priority,
                },
                pause: rules.pause,
                usage: self.ledger.of(&customer.name),
                again: before.remove(&customer.name).unwrap_or(now),
            });
        }
    }

    /// When [`Arrivals::due`] is to be asked. Never, where nobody is woken.
    pub(super) fn deadline(&self) -> Option<Instant> {
        (!self.watched.is_empty()).then_some(self.next)
    }

    /// Whom to wake, and why.
    pub(super) fn due(
        &mut self,
        now: Now,
        is_busy: impl Fn(&CustomerName) -> bool,
    ) -> Vec<(CustomerName, Reason)> {
        let mut due = Vec::new();
        if now.instant < self.next {
            return due;
        }
        self.next = now.instant + LOOK_INTERVAL;
        for watched in &mut self.watched {
            if watched.again > now.instant || watched.usage.messages() == 0 {
                continue;
            }
            let work = Work {
                ready: watched.usage.messages(),
                ready_octets: watched.usage.octets(),
                oldest: watched.usage.oldest(),
                priority: watched
                    .usage
                    .most_urgent()
                    .map(crate::mail::Priority::value),
                ..Work::default()
            };
            let Some(why) = watched.go_up.reason(now.wall, &work) else {
                continue;
            };
            if is_busy(&watched.customer) {
                continue;
            }
            watched.again = now.instant + watched.pause;
            due.push((watched.customer.clone(), why));
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::Priority;
    use crate::queue::usage::Arrived;
    use crate::route::customer::{Customer, DeliverTo, Quota, ReleaseRules, Retention, WakeFor};
    use crate::time::WallTime;

    const NOT: WakeFor = WakeFor {
        messages: None,
        octets: None,
        age: None,
        priority: None,
        pause: Duration::from_secs(60),
    };

    fn customer(rules: WakeFor) -> Customer {
        Customer {
            name: "a".parse().unwrap(),
            scopes: vec!["a.example".parse().unwrap()],
            queue: "a".parse().unwrap(),
            deliver_to: DeliverTo::Mx,
            release: ReleaseRules {
                auth: true,
                open: false,
                clients: [].into(),
                on_connect: false,
                every: None,
            },
            user: None,
            retention: Retention::Age(Duration::from_secs(1)),
            warn: None,
            quota: Quota {
                octets: 1,
                messages: 1,
            },
            recipients_file: None,
            call_ahead: false,
            contact: None,
            wake_command: vec!["/bin/dial".to_owned()],
            wake_for: Some(rules),
        }
    }

    /// A clock that jumps from second to second, and a queue.
    struct World {
        arrivals: Arrivals,
        usage: Arc<Usage>,
        customers: Customers,
        now: Now,
        second: u64,
        /// Its mail is on its way.
        busy: bool,
    }

    impl World {
        fn new(rules: WakeFor) -> Self {
            let ledger = Arc::new(Ledger::default());
            let customers = Customers::new(vec![customer(rules)]).unwrap();
            let mut arrivals = Arrivals::default();
            arrivals.count_by(Arc::clone(&ledger));
            let now = Now::default();
            arrivals.configure(now.instant, &customers);
            Self {
                usage: ledger.of(&"a".parse().unwrap()),
                arrivals,
                customers,
                now,
                second: 0,
                busy: false,
            }
        }

        fn mail(&self, octets: u64, priority: i8, wall: WallTime) {
            self.usage.add(Arrived {
                messages: 1,
                octets,
                oldest: wall,
                priority: Priority::new(priority).unwrap(),
            });
        }

        /// Until that second: when the site was woken, and why.
        fn until(&mut self, second: u64) -> Vec<(u64, Reason)> {
            let mut woken = Vec::new();
            while self.second < second {
                let due = self.arrivals.due(self.now, |_| self.busy);
                woken.extend(due.into_iter().map(|(_, why)| (self.second, why)));
                self.second += 1;
                self.now = self.now.after(Duration::from_secs(1));
            }
            woken
        }
    }

    /// With these rules: of these messages (second, octets, priority) which wake the site
    /// within five minutes, when, and why. They stay where they are.
    #[track_caller]
    fn check(rules: WakeFor, mail: &[(u64, u64, i8)], expected: &[(u64, Reason)]) {
        let mut world = World::new(rules);
        let mut woken = Vec::new();
        for (second, octets, priority) in mail {
            woken.extend(world.until(*second));
            world.mail(*octets, *priority, world.now.wall);
        }
        woken.extend(world.until(150));
        assert_eq!(woken, expected, "{rules:?}");
    }

    #[test]
    fn each_rule_alone_is_enough_and_no_more_often_than_allowed() {
        let three = [(1, 10, 0), (2, 10, 4), (3, 10, 0)];
        check(NOT, &three, &[]);
        let messages = WakeFor {
            messages: Some(3),
            ..NOT
        };
        let counted = Reason::Messages(3);
        check(
            messages,
            &three,
            &[(3, counted), (63, counted), (123, counted)],
        );
        check(messages, &three[..2], &[]);
        let octets = WakeFor {
            octets: Some(20),
            pause: Duration::from_secs(100),
            ..NOT
        };
        check(
            octets,
            &three,
            &[(2, Reason::Octets(20)), (102, Reason::Octets(30))],
        );
        let age = WakeFor {
            age: Some(Duration::from_secs(100)),
            ..NOT
        };
        check(age, &three, &[(101, Reason::Age(Duration::from_secs(100)))]);
        let priority = WakeFor {
            priority: Some(4),
            pause: Duration::from_secs(1000),
            ..NOT
        };
        check(priority, &three, &[(2, Reason::Priority(4))]);
        check(priority, &[(1, 10, 3)], &[]);
    }

    #[test]
    fn not_while_its_mail_is_on_its_way_and_not_for_what_has_gone() {
        let mut world = World::new(WakeFor {
            messages: Some(1),
            ..NOT
        });
        world.mail(10, 0, world.now.wall);
        world.busy = true;
        assert_eq!(world.until(100), []);
        world.usage.remove(10);
        world.busy = false;
        assert_eq!(world.until(200), []);
        world.mail(10, 0, world.now.wall);
        assert_eq!(world.until(201), [(200, Reason::Messages(1))]);
    }

    #[test]
    fn a_reload_wakes_nobody_again() {
        let mut world = World::new(WakeFor {
            messages: Some(1),
            ..NOT
        });
        world.mail(10, 0, world.now.wall);
        assert_eq!(world.until(10).len(), 1);
        world
            .arrivals
            .configure(world.now.instant, &world.customers);
        assert_eq!(world.until(60), []);
        assert_eq!(world.until(61).len(), 1);
        // Where it was taken out of the configuration nobody looks.
        world
            .arrivals
            .configure(world.now.instant, &Customers::default());
        assert_eq!(world.arrivals.deadline(), None);
    }
}
