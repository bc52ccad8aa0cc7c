//! The filter of `turnspool top`: which queues are shown.
//!
//! Where the server tells all its queues they are chosen here. Where it has more than it
//! tells, it looks through them itself, and what it found is shown: the fullest of those.

use ratatui::crossterm::event::KeyCode;

use crate::core::admin::{Found, Live, Queue, QueueGate, WANTED_BYTES_MAX, Wanted};

/// What became of a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Pressed {
    /// It was one of the filter's.
    Mine,
    /// It means something else.
    NotMine,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Filter {
    text: String,
    edited: bool,
    /// What the server found last.
    found: Option<Found>,
}

impl Filter {
    /// What is looked for; empty: everything is shown.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Whether keys go into it.
    pub(super) const fn is_edited(&self) -> bool {
        self.edited
    }

    /// A key was pressed.
    pub(super) fn key(&mut self, key: KeyCode) -> Pressed {
        match key {
            KeyCode::Char('/') if !self.edited => self.edited = true,
            KeyCode::Esc if self.edited || !self.text.is_empty() => {
                self.edited = false;
                self.text.clear();
                self.found = None;
            }
            KeyCode::Enter if self.edited => self.edited = false,
            KeyCode::Backspace if self.edited => {
                self.text.pop();
            }
            KeyCode::Char(letter) if self.edited => {
                if self.text.len() + letter.len_utf8() <= WANTED_BYTES_MAX {
                    self.text.push(letter);
                }
            }
            // To select while it is typed.
            _ => return Pressed::NotMine,
        }
        Pressed::Mine
    }

    /// What the server is to look for.
    pub(super) fn wanted(&self, live: &Live) -> Option<Wanted> {
        if self.text.is_empty() || !is_cut(live) {
            return None;
        }
        Some(Wanted {
            text: self.text.clone(),
            from: 0,
        })
    }

    /// The server has looked.
    pub(super) fn heard(&mut self, found: Found) {
        self.found = Some(found);
    }

    /// The queues that are shown.
    pub(super) fn shown<'a>(&'a self, live: &'a Live) -> Vec<&'a Queue> {
        match self.found(live) {
            Some(found) => found.queues.iter().collect(),
            None => {
                let text = self.text.to_lowercase();
                let queues = live.queues.iter();
                queues.filter(|queue| contains(queue, &text)).collect()
            }
        }
    }

    /// How many queues match, if there is a filter.
    pub(super) fn count(&self, live: &Live) -> Option<u64> {
        if self.text.is_empty() {
            return None;
        }
        Some(match self.found(live) {
            Some(found) => found.total,
            None => self.shown(live).len() as u64,
        })
    }

    /// What the server has found for this text, if it has more than it tells.
    fn found(&self, live: &Live) -> Option<&Found> {
        let found = self.found.as_ref()?;
        (is_cut(live) && !self.text.is_empty() && found.text == self.text).then_some(found)
    }
}

/// Whether there are more queues than are told.
fn is_cut(live: &Live) -> bool {
    live.queues_total > live.queues.len() as u64
}

/// As the server does it.
fn contains(queue: &Queue, text: &str) -> bool {
    let customer = queue.customer.as_deref().unwrap_or_default();
    let why = queue.why.as_deref().unwrap_or_default();
    let state = match queue.gate {
        QueueGate::Open if queue.connections > 0 => "sending",
        QueueGate::Open if queue.deferred > 0 => "deferred",
        QueueGate::Open => "waiting",
        other => other.as_str(),
    };
    let words = format!("{customer} {} {state} {why}", queue.next_hop);
    words.to_lowercase().contains(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::admin::{Amount, QueueClass};

    fn queue(customer: &str) -> Queue {
        Queue {
            next_hop: format!("held for {customer} ({customer}.example)"),
            class: QueueClass::Held,
            customer: Some(customer.to_owned()),
            domain: Some(format!("{customer}.example")),
            amount: Amount::default(),
            deferred: 0,
            held: 0,
            connections: 0,
            gate: QueueGate::Held,
            failures: 0,
            oldest: None,
            retry: None,
            why: None,
        }
    }

    fn live(customers: &[&str], total: u64) -> Live {
        Live {
            queues: customers.iter().map(|customer| queue(customer)).collect(),
            queues_total: total,
            ..Live::default()
        }
    }

    fn typed(filter: &mut Filter, text: &str) {
        for letter in text.chars() {
            assert_eq!(filter.key(KeyCode::Char(letter)), Pressed::Mine);
        }
    }

    fn names(filter: &Filter, live: &Live) -> Vec<String> {
        let shown = filter.shown(live);
        shown.iter().filter_map(|q| q.customer.clone()).collect()
    }

    #[test]
    fn what_is_told_is_chosen_here() {
        let live = live(&["north", "south", "northwest"], 3);
        let mut filter = Filter::default();
        assert_eq!(filter.key(KeyCode::Char('q')), Pressed::NotMine);
        assert_eq!(filter.count(&live), None);
        typed(&mut filter, "/NORTHq");
        assert_eq!(names(&filter, &live), Vec::<String>::new());
        filter.key(KeyCode::Backspace);
        assert_eq!(names(&filter, &live), ["north", "northwest"]);
        assert_eq!(filter.count(&live), Some(2));
        assert_eq!(filter.wanted(&live), None, "nothing is missing");
        filter.key(KeyCode::Enter);
        assert!(!filter.is_edited());
        assert_eq!(filter.key(KeyCode::Char('q')), Pressed::NotMine);
        filter.key(KeyCode::Esc);
        assert_eq!(names(&filter, &live).len(), 3);
        assert_eq!(filter.key(KeyCode::Esc), Pressed::NotMine, "it ends top");
    }

    #[test]
    fn of_more_than_is_told_the_server_finds() {
        let live = live(&["north"], 10_000);
        let mut filter = Filter::default();
        typed(&mut filter, "/small");
        let wanted = filter.wanted(&live).expect("it is asked");
        assert_eq!(wanted.text, "small");
        assert_eq!(names(&filter, &live), Vec::<String>::new());
        filter.heard(Found {
            text: "small".to_owned(),
            queues: vec![queue("small-7")],
            total: 700,
        });
        assert_eq!(names(&filter, &live), ["small-7"]);
        assert_eq!(filter.count(&live), Some(700));
        // What was found for another text is not shown for this one.
        filter.key(KeyCode::Backspace);
        assert_eq!(names(&filter, &live), Vec::<String>::new());
    }
}
