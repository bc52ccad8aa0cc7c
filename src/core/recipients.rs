//! Whether a recipient exists (FEATURES R7), as far as lists in files say so, and when
//! those files are looked at again.
//!
//! The control core has them looked at every [`LOOK_INTERVAL`], and gives what has changed
//! to the data cores, which share it. Reading is the shell's business; the configuration
//! that a reload brings has its lists with it.
//!
//! Invariants: one look at a time is under way. What a look found out counts only while
//! the configuration is the one for which it began.

use std::sync::Arc;
use std::time::Duration;

use crate::core::callahead::Existence;
use crate::core::common::Common;
use crate::mail::Address;
use crate::report::Fact;
use crate::route::recipients::{RecipientLists, is_postmaster};
use crate::route::{CustomerName, Customers};
use crate::smtp::reply::Refusal;
use crate::time::Instant;

/// How often the files are looked at. Ten thousand of them cost a helper thread some ten
/// milliseconds, and nobody waits longer for a new address to work.
const LOOK_INTERVAL: Duration = Duration::from_secs(3);

/// RFC 3463 §3.2: no such mailbox.
const UNKNOWN: Refusal = Refusal::new(550, 1, 1, "no such recipient here");

/// Whether a recipient is taken.
pub(super) enum Taking {
    /// It is.
    Yes,
    /// This customer's site decides.
    Ask(CustomerName),
}

impl Common {
    /// Whether mail for this address is to be taken, as far as its customer decides.
    ///
    /// # Errors
    /// The refusal.
    pub(super) fn takes(&mut self, address: &Address) -> Result<Taking, Refusal> {
        self.recipient_exists(address)
            .inspect_err(|_| self.count_unknown())?;
        self.has_room(address)?;
        let customer = self.settings.customers.by_domain(address.domain_str());
        Ok(match customer {
            Some(customer) if customer.call_ahead && !is_postmaster(address) => {
                Taking::Ask(customer.name.clone())
            }
            _ => Taking::Yes,
        })
    }

    /// The same when the site has been asked.
    ///
    /// # Errors
    /// The refusal.
    pub(super) fn takes_now(
        &mut self,
        address: &Address,
        existence: Existence,
    ) -> Result<(), Refusal> {
        if existence == Existence::Unknown {
            self.count_unknown();
            return Err(UNKNOWN);
        }
        // Others may have filled it meanwhile.
        self.has_room(address)
    }

    fn has_room(&mut self, address: &Address) -> Result<(), Refusal> {
        (self.room_for(address.domain_str()))
            .inspect_err(|_| self.counters.recipients_over_quota += 1)
    }

    const fn count_unknown(&mut self) {
        self.counters.recipients_refused += 1;
        self.counters.recipients_unknown += 1;
    }

    /// Whether mail for this address is to be taken, by the list of its customer.
    ///
    /// # Errors
    /// The refusal, if the customer has a list and it is not there.
    fn recipient_exists(&self, address: &Address) -> Result<(), Refusal> {
        let customer = self.settings.customers.by_domain(address.domain_str());
        let list = customer.and_then(|customer| self.recipients.of(&customer.name));
        match list {
            Some(list) if !list.has(address) => Err(UNKNOWN),
            _ => Ok(()),
        }
    }
}

/// A look at the files. Each has another number.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LookNumber(pub u64);

/// What a look found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// All lists as they are now, if any has changed.
    pub changed: Option<Arc<RecipientLists>>,
    /// What the operator is told.
    pub facts: Vec<Fact>,
}

/// When to look at the files. A part of the control core.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// The last one, or the one that is under way.
    look: LookNumber,
    /// When the next one begins. None while one is under way, or without any file.
    next: Option<Instant>,
}

impl Watch {
    /// A configuration is in force, with its lists.
    pub(super) fn configure(&mut self, now: Instant, customers: &Customers) {
        let any = customers.iter().any(|c| c.recipients_file.is_some());
        // What is under way is of another configuration.
        self.look.0 += 1;
        self.next = any.then(|| now + LOOK_INTERVAL);
    }

    /// When [`Watch::timer`] is due.
    pub(super) const fn deadline(&self) -> Option<Instant> {
        self.next
    }

    /// The look that is to begin, if it is time for one.
    pub(super) fn timer(&mut self, now: Instant) -> Option<LookNumber> {
        self.next.take_if(|next| *next <= now)?;
        self.look.0 += 1;
        Some(self.look)
    }

    /// A look has ended. Gives what of it counts.
    pub(super) fn looked(&mut self, now: Instant, look: LookNumber, found: Found) -> Option<Found> {
        if look != self.look {
            return None;
        }
        self.next = Some(now + LOOK_INTERVAL);
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn customers(files: usize) -> Customers {
        let text: String = (0..2)
            .map(|i| {
                let file = if i < files {
                    "recipients_file = '/x'"
                } else {
                    ""
                };
                format!(
                    "[[customer]]\nname = 'c{i}'\ndomains = ['c{i}.example']\n\
                     deliver_to = 'mx'\n{file}\n"
                )
            })
            .collect();
        let surroundings = crate::config::surroundings::Surroundings {
            host_name: "relay.example".to_owned(),
            cpus: 1,
            credentials_directory: None,
            state_directory: None,
        };
        let config = crate::config::parse("test".as_ref(), &text, &surroundings);
        crate::runtime::settings::customers(&config.expect("two customers")).expect("two")
    }

    #[test]
    fn looks_go_on_one_at_a_time_and_a_reload_makes_the_last_one_void() {
        let mut watch = Watch::default();
        let start = Instant::START;
        watch.configure(start, &customers(0));
        assert_eq!(watch.deadline(), None);
        watch.configure(start, &customers(1));
        let due = start + LOOK_INTERVAL;
        assert_eq!(watch.deadline(), Some(due));
        assert_eq!(watch.timer(start), None);
        let first = watch.timer(due).expect("it is time");
        assert_eq!((watch.deadline(), watch.timer(due)), (None, None));
        assert!(watch.looked(due, first, Found::default()).is_some());
        let due = due + LOOK_INTERVAL;
        let second = watch.timer(due).expect("it is time");
        assert_ne!(first, second);
        watch.configure(due, &customers(1));
        assert!(watch.looked(due, second, Found::default()).is_none());
        assert_eq!(watch.deadline(), Some(due + LOOK_INTERVAL));
        let third = watch.timer(due + LOOK_INTERVAL).expect("it is time");
        assert!(watch.looked(due, second, Found::default()).is_none());
        assert!(watch.looked(due, third, Found::default()).is_some());
    }
}
