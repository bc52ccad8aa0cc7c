//! What the screen of `turnspool top` shows, and what its keys do. No terminal here.

use std::collections::VecDeque;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::filter::{Filter, Pressed};
use crate::core::admin::{
    Change, Command, Date, LinkCommand, LinkStatus, Queue, QueueClass, QueueGate, Response, Status,
};
use crate::core::latency::Latency;

/// Seconds of throughput that are kept: more than a wide terminal shows.
const HISTORY_MAX: usize = 240;

/// By what queues are sorted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Sort {
    /// Most messages first.
    #[default]
    Messages,
    /// Most octets first.
    Size,
    /// Oldest first.
    Age,
    /// By customer and next hop.
    Name,
}

/// What a key wants.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// The end.
    Quit,
    /// To be asked of the server.
    Ask(Box<Command>),
}

/// Something that waits for a `y`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Pending {
    /// The question.
    pub(super) text: String,
    command: Command,
}

/// Messages and octets in a second.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(super) struct Rates {
    pub(super) messages_in: f64,
    pub(super) octets_in: f64,
    pub(super) messages_out: f64,
    pub(super) octets_out: f64,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct App {
    pub(super) status: Option<Box<Status>>,
    /// Why the last answer is missing.
    pub(super) trouble: Option<String>,
    pub(super) rates: VecDeque<Rates>,
    /// Commits between the last two answers, if there were any.
    pub(super) commit: Latency,
    pub(super) sort: Sort,
    pub(super) filter: Filter,
    /// The name of the queue that is selected.
    selected: Option<String>,
    /// The name of the link that is selected.
    link: Option<String>,
    pub(super) pending: Option<Pending>,
    /// What came of the last action.
    pub(super) said: Option<String>,
}

impl App {
    /// The server has answered, or has not.
    pub(super) fn heard(&mut self, heard: Result<Response, String>) {
        match heard {
            Ok(Response::Status(status)) => {
                self.trouble = None;
                self.put(*status);
            }
            Ok(Response::Found(found)) => self.filter.heard(found),
            Ok(Response::Released(released)) => {
                let (n, s) = (released.messages, plural(released.messages));
                self.said = Some(format!("done: {n} message{s}"));
            }
            Ok(_) => self.said = Some("done".to_owned()),
            // The answer to an action, or the server is gone: shown either way.
            Err(why) => self.trouble = Some(why.lines().next().unwrap_or_default().to_owned()),
        }
    }

    fn put(&mut self, status: Status) {
        if let Some(before) = &self.status {
            let rates = rates(before, &status);
            self.commit = status.live.commit.since(&before.live.commit);
            if let Some(rates) = rates {
                if self.rates.len() >= HISTORY_MAX {
                    self.rates.pop_front();
                }
                self.rates.push_back(rates);
            }
        }
        self.status = Some(Box::new(status));
    }

    /// The queues in their order.
    pub(super) fn queues(&self) -> Vec<&Queue> {
        let live = self.status.as_ref().map(|status| &status.live);
        let mut queues: Vec<_> = live.map_or_else(Vec::new, |live| self.filter.shown(live));
        let name = |queue: &Queue| (queue.customer.clone(), queue.next_hop.clone());
        match self.sort {
            Sort::Messages => queues.sort_by_key(|q| std::cmp::Reverse(q.amount.messages)),
            Sort::Size => queues.sort_by_key(|q| std::cmp::Reverse(q.amount.octets)),
            Sort::Age => queues.sort_by_key(|q| (q.oldest.is_none(), q.oldest)),
            Sort::Name => queues.sort_by_key(|q| name(q)),
        }
        queues
    }

    /// The row that is selected; it follows its queue when others pass it.
    pub(super) fn selected(&self) -> Option<usize> {
        let queues = self.queues();
        let place = (queues.iter()).position(|q| Some(&q.next_hop) == self.selected.as_ref());
        place.or((!queues.is_empty()).then_some(0))
    }

    /// The link that is dialled and hung up: the first, until another one is selected.
    pub(super) fn link(&self) -> Option<usize> {
        let links = self.links();
        let place = links
            .iter()
            .position(|l| Some(&l.name) == self.link.as_ref());
        place.or((!links.is_empty()).then_some(0))
    }

    fn links(&self) -> &[LinkStatus] {
        let links = self.status.as_ref().and_then(|s| s.live.links.as_ref());
        links.map_or(&[], |links| &links.links)
    }

    /// A key was pressed.
    pub(super) fn key(&mut self, key: KeyEvent) -> Option<Step> {
        if key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c') {
            return Some(Step::Quit);
        }
        if let Some(pending) = self.pending.take() {
            return if matches!(key.code, KeyCode::Char('y' | 'Y')) {
                self.said = Some("asked …".to_owned());
                Some(Step::Ask(Box::new(pending.command)))
            } else {
                self.said = Some("not done".to_owned());
                None
            };
        }
        self.said = None;
        match self.filter.key(key.code) {
            Pressed::NotMine => {}
            Pressed::Mine => return self.look(),
        }
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return Some(Step::Quit),
            KeyCode::Char('s') => {
                self.sort = match self.sort {
                    Sort::Messages => Sort::Size,
                    Sort::Size => Sort::Age,
                    Sort::Age => Sort::Name,
                    Sort::Name => Sort::Messages,
                }
            }
            KeyCode::Down | KeyCode::Char('j') => self.step(1),
            KeyCode::Up | KeyCode::Char('k') => self.step(-1),
            KeyCode::PageDown => self.step(10),
            KeyCode::PageUp => self.step(-10),
            KeyCode::Home => self.step(isize::MIN),
            KeyCode::End => self.step(isize::MAX),
            KeyCode::Char('r') => self.release(),
            KeyCode::Char('h') => self.hold(),
            KeyCode::Char('l') => self.next_link(),
            KeyCode::Char('d') => self.dial(Change::Release),
            KeyCode::Char('u') => self.dial(Change::Hold),
            _ => {}
        }
        None
    }

    /// What is to be asked so that the rows are those of the filter, if the server has more
    /// queues than it tells. At each look, too: what was found moves on.
    pub(super) fn look(&mut self) -> Option<Step> {
        let live = &self.status.as_ref()?.live;
        let wanted = self.filter.wanted(live)?;
        Some(Step::Ask(Box::new(Command::Find(wanted))))
    }

    fn step(&mut self, rows: isize) {
        let queues = self.queues();
        let last = queues.len().saturating_sub(1);
        let row = self.selected().unwrap_or(0).saturating_add_signed(rows);
        let name = queues.get(row.min(last)).map(|q| q.next_hop.clone());
        self.selected = name;
    }

    fn current(&self) -> Option<Queue> {
        let row = self.selected()?;
        self.queues().get(row).map(|queue| (*queue).clone())
    }

    fn release(&mut self) {
        let Some(queue) = self.current() else {
            return self.nothing();
        };
        let command = match (queue.class, queue.customer, queue.domain) {
            // Over the desk of the customers: it knows how their sites are woken.
            (QueueClass::Held, Some(_), Some(domain)) => Command::Release { name: domain },
            _ => Command::QueueSteer {
                next_hop: queue.next_hop.clone(),
                change: Change::Release,
            },
        };
        let text = format!("release {}?", queue.next_hop);
        self.pending = Some(Pending { text, command });
    }

    fn hold(&mut self) {
        let Some(queue) = self.current() else {
            return self.nothing();
        };
        if queue.class == QueueClass::Held || queue.gate == QueueGate::Held {
            self.said = Some("it is held".to_owned());
            return;
        }
        let text = format!("hold {} until it is released?", queue.next_hop);
        let command = Command::QueueSteer {
            next_hop: queue.next_hop,
            change: Change::Hold,
        };
        self.pending = Some(Pending { text, command });
    }

    fn next_link(&mut self) {
        let Some(place) = self.link() else {
            return self.no_link();
        };
        let links = self.links();
        self.link = Some(links[(place + 1) % links.len()].name.clone());
    }

    fn dial(&mut self, change: Change) {
        let Some(link) = self.link().map(|place| self.links()[place].clone()) else {
            return self.no_link();
        };
        let name = Some(link.name.clone());
        let (verb, command) = match change {
            Change::Release => ("dial", LinkCommand::Up { name }),
            Change::Hold | Change::Delete => ("hang up", LinkCommand::Down { name }),
        };
        self.pending = Some(Pending {
            text: format!("{verb} {}?", link.name),
            command: Command::Link(command),
        });
    }

    fn no_link(&mut self) {
        self.said = Some("there is no [[link]]: this host is always on line".to_owned());
    }

    fn nothing(&mut self) {
        self.said = Some("nothing waits".to_owned());
    }
}

/// `s` but for one.
pub(super) const fn plural(n: u64) -> &'static str {
    if n == 1 { "" } else { "s" }
}

fn rates(before: &Status, after: &Status) -> Option<Rates> {
    let (Some(Date(from)), Some(Date(to))) = (before.live.at, after.live.at) else {
        return None;
    };
    let seconds = to.since(from).as_secs_f64();
    if seconds <= 0.0 {
        return None;
    }
    let rate = |name: &str| {
        let counter = |status: &Status| status.counters.get(name).copied().unwrap_or(0);
        // A server that was restarted counts from the beginning.
        counter(after).saturating_sub(counter(before)) as f64 / seconds
    };
    Some(Rates {
        messages_in: rate("messages_accepted"),
        octets_in: rate("octets_accepted"),
        messages_out: rate("messages_delivered"),
        octets_out: rate("octets_delivered"),
    })
}
