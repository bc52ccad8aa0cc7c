//! Turns on the control core: who gets its mail by ATRN now (RFC 2645).
//!
//! A customer's mail lies on all data cores, and its one connection is at one of them.
//! That core asks here; here all cores are asked what they hold, and the answer names
//! those that hold some, in the order in which the connection is to go round.
//!
//! Invariants:
//! - A customer has at most `AT_A_TIME_MAX` turns, each from the question to the core's
//!   word that it is over. A turn whose answer finds no client any more is over too.
//! - Every question gets one answer: when the last core has answered, or at its
//!   deadline.
//! - A customer that asks again and again costs a notice, not a round of all cores.
//!
//! What it does not do: it does not know who may have which mail. The data core has
//! seen to that.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;

use crate::core::{ConnectionId, ControlNotice, CoreId, Notice, TurnNumber};
use crate::mail::Domain;
use crate::queue::Offer;
use crate::route::CustomerName;
use crate::time::Instant;

/// How long the data cores have to say what they hold. They take a microsecond.
const PATIENCE: Duration = Duration::from_secs(5);

/// A customer may ask this often in the long run, …
const INTERVAL: Duration = Duration::from_secs(1);

/// … and so many times at once. Scripts that ask for domain after domain pass; one
/// that hammers is told 450.
const AT_ONCE: u32 = 100;

/// Turns of one customer at a time. Each message is on one of them only; and a site whose
/// line broke, and who calls again, is not to wait until we have noticed.
const AT_A_TIME_MAX: u8 = 4;

/// Customers whose pace is remembered before those that have paused are forgotten: as
/// many as a large provider has.
const REMEMBERED_MAX: usize = 16 * 1024;

/// What the control core is to tell data cores.
#[derive(Debug)]
pub(super) enum Tell {
    /// All of them.
    All(Notice),
    /// One.
    Core(CoreId, Notice),
}

/// Why there is no turn now.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum NoTurn {
    /// There is no mail: 453.
    NothingWaiting,
    /// The data cores did not all answer: 451.
    Unknown,
    /// Other connections of this customer have their turns, or all that there is is on
    /// its way over one: 450.
    Busy,
    /// It asks too often: 450.
    TooOften,
}

/// The customer has its turn.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Turn {
    /// To be said when it is over.
    pub number: TurnNumber,
    /// Whose.
    pub customer: CustomerName,
    /// At which domains; none: all.
    pub domains: Arc<[Domain]>,
    /// Who holds mail. Never empty.
    pub cores: Vec<CoreId>,
}

#[derive(Debug)]
struct Asked {
    domains: Arc<[Domain]>,
    core: CoreId,
    connection: ConnectionId,
    waiting_for: u8,
    holding: Vec<CoreId>,
    /// Messages that are on some connection now.
    in_flight: u64,
    until: Instant,
}

#[derive(Debug)]
struct Running {
    customer: CustomerName,
    /// None: the connection has turned.
    asked: Option<Asked>,
}

#[derive(Debug, Default)]
struct Pace {
    running: u8,
    /// With how much of its allowance used up: the time at which all of it is there again.
    used_until: Instant,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Turns {
    data_cores: u8,
    last: u64,
    running: HashMap<TurnNumber, Running>,
    paces: HashMap<CustomerName, Pace, foldhash::fast::FixedState>,
    tell: Vec<Tell>,
}

impl Turns {
    pub(super) fn new(data_cores: u8) -> Self {
        Self {
            data_cores,
            last: 0,
            running: HashMap::new(),
            paces: HashMap::default(),
            tell: Vec::new(),
        }
    }

    /// A customer has called.
    pub(super) fn wanted(
        &mut self,
        now: Instant,
        core: CoreId,
        connection: ConnectionId,
        customer: CustomerName,
        caller: IpAddr,
        domains: Arc<[Domain]>,
    ) {
        if let Err(why) = self.admit(now, &customer) {
            let answer = Err(why);
            self.tell(core, Notice::TurnAnswer { connection, answer });
            return;
        }
        self.last += 1;
        let number = TurnNumber(self.last);
        let asked = Asked {
            domains: Arc::clone(&domains),
            core,
            connection,
            waiting_for: self.data_cores,
            holding: Vec::new(),
            in_flight: 0,
            until: now + PATIENCE,
        };
        let running = Running {
            customer: customer.clone(),
            asked: Some(asked),
        };
        self.running.insert(number, running);
        self.tell.push(Tell::All(Notice::WhatIsHeld {
            turn: number,
            customer,
            caller,
            domains,
        }));
    }

    /// Counts the call, if it may be made.
    fn admit(&mut self, now: Instant, customer: &CustomerName) -> Result<(), NoTurn> {
        if self.paces.len() >= REMEMBERED_MAX {
            self.paces
                .retain(|_, pace| pace.running > 0 || pace.used_until > now);
        }
        let pace = self.paces.entry(customer.clone()).or_default();
        let used_until = pace.used_until.max(now) + INTERVAL;
        if used_until.since(now) > INTERVAL * AT_ONCE {
            return Err(NoTurn::TooOften);
        }
        pace.used_until = used_until;
        if pace.running >= AT_A_TIME_MAX {
            return Err(NoTurn::Busy);
        }
        pace.running += 1;
        Ok(())
    }

    /// A core has said what it holds.
    pub(super) fn held(&mut self, number: TurnNumber, core: CoreId, offer: Offer) {
        let Some(Running {
            asked: Some(asked), ..
        }) = self.running.get_mut(&number)
        else {
            return;
        };
        asked.waiting_for -= 1;
        asked.in_flight += offer.in_flight;
        if offer.messages > 0 {
            asked.holding.push(core);
        }
        if asked.waiting_for == 0 {
            self.answer(number);
        }
    }

    fn answer(&mut self, number: TurnNumber) {
        let Some(running) = self.running.get_mut(&number) else {
            return;
        };
        let Some(asked) = running.asked.take() else {
            return;
        };
        let customer = running.customer.clone();
        let Asked {
            domains,
            core: asker,
            connection,
            waiting_for,
            mut holding,
            in_flight,
            until: _,
        } = asked;
        let answer = if waiting_for > 0 {
            Err(NoTurn::Unknown)
        } else if holding.is_empty() && in_flight > 0 {
            // Perhaps on a line that is dead: "no mail" would send the site away for long.
            Err(NoTurn::Busy)
        } else if holding.is_empty() {
            Err(NoTurn::NothingWaiting)
        } else {
            // Where the connection is, it need not go.
            holding.sort_unstable_by_key(|core| (*core != asker, *core));
            Ok(Turn {
                number,
                customer,
                domains,
                cores: holding,
            })
        };
        if answer.is_err() {
            self.over(number);
        }
        self.tell(asker, Notice::TurnAnswer { connection, answer });
    }

    /// The connection is gone, and what it had not taken is held as before.
    pub(super) fn over(&mut self, number: TurnNumber) {
        if let Some(running) = self.running.remove(&number)
            && let Some(pace) = self.paces.get_mut(&running.customer)
        {
            pace.running -= 1;
        }
    }

    /// The deadline may have come.
    pub(super) fn timer(&mut self, now: Instant) {
        let late = self.running.iter().filter_map(|(number, running)| {
            let asked = running.asked.as_ref()?;
            (asked.until <= now).then_some(*number)
        });
        let mut late: Vec<_> = late.collect();
        late.sort_unstable_by_key(|number| number.0);
        for number in late {
            self.answer(number);
        }
    }

    /// When [`Turns::timer`] is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let asked = self.running.values().filter_map(|r| r.asked.as_ref());
        asked.map(|asked| asked.until).min()
    }

    /// What is to be told.
    pub(super) fn take(&mut self) -> Vec<Tell> {
        std::mem::take(&mut self.tell)
    }

    fn tell(&mut self, core: CoreId, notice: Notice) {
        self.tell.push(Tell::Core(core, notice));
    }

    /// Takes what a data core says of a turn. `None` if it speaks of something else.
    pub(super) fn notice(&mut self, now: Instant, notice: ControlNotice) -> Option<ControlNotice> {
        match notice {
            ControlNotice::TurnWanted {
                core,
                connection,
                customer,
                caller,
                domains,
            } => self.wanted(now, core, connection, customer, caller, domains),
            ControlNotice::Held { turn, core, offer } => self.held(turn, core, offer),
            ControlNotice::TurnOver { turn } => self.over(turn),
            other => return Some(other),
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALLER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn at(seconds: u64) -> Instant {
        Instant::START + Duration::from_secs(seconds)
    }

    fn wanted(turns: &mut Turns, now: Instant, connection: u64) -> Vec<Tell> {
        let domains: Arc<[Domain]> = Arc::new([]);
        let customer = "c".parse().expect("a name");
        let (core, connection) = (CoreId(1), ConnectionId(connection));
        turns.wanted(now, core, connection, customer, CALLER, domains);
        turns.take()
    }

    fn offer(messages: u64) -> Offer {
        Offer {
            messages,
            in_flight: 0,
        }
    }

    fn number(told: &[Tell]) -> TurnNumber {
        match told {
            [Tell::All(Notice::WhatIsHeld { turn, .. })] => *turn,
            _ => panic!("all cores are asked"),
        }
    }

    fn answer(told: &[Tell]) -> &Result<Turn, NoTurn> {
        match told {
            [Tell::Core(CoreId(1), Notice::TurnAnswer { answer, .. })] => answer,
            _ => panic!("the core that asked is answered"),
        }
    }

    #[test]
    fn the_connection_goes_where_mail_is_and_begins_at_home() {
        let mut turns = Turns::new(3);
        let turn = number(&wanted(&mut turns, at(1), 7));
        turns.held(turn, CoreId(2), offer(5));
        turns.held(turn, CoreId(0), offer(1));
        assert!(turns.take().is_empty());
        turns.held(turn, CoreId(1), offer(1));
        let told = turns.take();
        let expected = [CoreId(1), CoreId(0), CoreId(2)];
        assert_eq!(answer(&told).as_ref().expect("a turn").cores, expected);
        assert_eq!(turns.deadline(), None);
    }

    #[test]
    fn a_few_turns_at_a_time() {
        let mut turns = Turns::new(1);
        let turn = number(&wanted(&mut turns, at(1), 7));
        turns.held(turn, CoreId(0), offer(1));
        assert!(answer(&turns.take()).is_ok());
        for connection in 1..AT_A_TIME_MAX {
            number(&wanted(&mut turns, at(1), connection.into()));
        }
        assert_eq!(answer(&wanted(&mut turns, at(1), 8)), &Err(NoTurn::Busy));
        assert_eq!(answer(&wanted(&mut turns, at(2), 8)), &Err(NoTurn::Busy));
        turns.over(turn);
        turns.over(turn);
        number(&wanted(&mut turns, at(3), 8));
    }

    #[test]
    fn what_is_in_flight_is_not_nothing() {
        let mut turns = Turns::new(2);
        let turn = number(&wanted(&mut turns, at(1), 7));
        turns.held(turn, CoreId(0), offer(0));
        let in_flight = Offer {
            messages: 0,
            in_flight: 1,
        };
        turns.held(turn, CoreId(1), in_flight);
        assert_eq!(answer(&turns.take()), &Err(NoTurn::Busy));
    }

    #[test]
    fn nothing_waiting_ends_the_turn() {
        let mut turns = Turns::new(2);
        let turn = number(&wanted(&mut turns, at(1), 7));
        turns.held(turn, CoreId(0), offer(0));
        turns.held(turn, CoreId(1), offer(0));
        assert_eq!(answer(&turns.take()), &Err(NoTurn::NothingWaiting));
        number(&wanted(&mut turns, at(2), 7));
    }

    #[test]
    fn a_core_that_hangs_is_no_reason_to_hang() {
        let mut turns = Turns::new(2);
        let turn = number(&wanted(&mut turns, at(1), 7));
        turns.held(turn, CoreId(0), offer(3));
        let deadline = turns.deadline().expect("it waits");
        turns.timer(deadline);
        assert_eq!(answer(&turns.take()), &Err(NoTurn::Unknown));
        // Too late.
        turns.held(turn, CoreId(1), offer(3));
        assert!(turns.take().is_empty());
        number(&wanted(&mut turns, deadline, 7));
    }

    #[test]
    fn who_hammers_is_told_so() {
        let mut turns = Turns::new(1);
        let mut ask = |now| {
            let told = wanted(&mut turns, now, 1);
            if let [Tell::All(Notice::WhatIsHeld { turn, .. })] = told[..] {
                turns.held(turn, CoreId(0), offer(0));
                turns.take();
                return true;
            }
            assert_eq!(answer(&told), &Err(NoTurn::TooOften));
            false
        };
        assert!((0..AT_ONCE).all(|_| ask(at(10))));
        assert!(!ask(at(10)));
        assert!(ask(at(11)));
        assert!(!ask(at(11)));
        assert!((0..AT_ONCE).all(|_| ask(at(10_000))));
    }

    #[test]
    fn customers_that_pause_are_forgotten() {
        let mut turns = Turns::new(1);
        for i in 0..REMEMBERED_MAX as u64 + 5 {
            let customer = format!("c{i}").parse().expect("a name");
            let connection = ConnectionId(i);
            turns.wanted(at(i), CoreId(0), connection, customer, CALLER, Arc::new([]));
            turns.held(TurnNumber(i + 1), CoreId(0), offer(0));
        }
        assert!(turns.paces.len() < REMEMBERED_MAX);
    }
}
