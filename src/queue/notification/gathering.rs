//! Notifications that wait, since their addressee has had enough of them for a minute:
//! what waits for one addressee is told in one message.
//!
//! A machine, one for each data core; they share a [`Allowance`].
//!
//! Contract:
//! - What [`Gathering::offer`] takes comes out of [`Gathering::next`] or
//!   [`Gathering::close`] exactly once, in the order in which it came, as long as the
//!   core lives. It is kept in memory only: until then the caller keeps on stable
//!   storage what it is made from.
//! - No addressee gets more messages in a minute than its allowance, what is gathered
//!   included; only at a stop all of it goes at once.
//! - At most [`WAITING_MAX`] things wait. More are handed back: whoever failed has then
//!   not failed yet, and is tried again later.
//!
//! What it does not do: it knows nothing of what it keeps.

use std::collections::{BTreeMap, VecDeque};

use hashbrown::HashMap;

use super::allowance::Allowance;
use crate::mail::Address;
use crate::time::Instant;

/// Most things that wait: a few MiB. It takes a storm of some thousand failures in a
/// minute at one core to reach it.
pub const WAITING_MAX: usize = 10_000;

/// Who is told, and how the message must go.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Addressee {
    /// The address.
    pub to: Address,
    /// REQUIRETLS, which a notification inherits (RFC 8689 §5). Mail that asks for it
    /// and mail that does not are not told of in one message: that of the second kind
    /// might then not arrive.
    pub require_tls: bool,
}

/// What is to be done with something that was offered.
#[derive(PartialEq, Eq, Debug)]
pub enum Offered<T> {
    /// Tell it now, in a message of its own.
    Now(T),
    /// It waits.
    Gathered,
    /// There is no room for more.
    Full(T),
}

/// A place in the order of time; the second part tells apart what is due at once.
type Turn = (Instant, u64);

#[derive(Debug)]
struct Waiting<T> {
    turn: Turn,
    things: VecDeque<T>,
}

/// See the module.
#[derive(Debug)]
pub struct Gathering<T> {
    waiting: HashMap<Addressee, Waiting<T>>,
    turns: BTreeMap<Turn, Addressee>,
    things: usize,
    last_turn: u64,
    closed: bool,
}

impl<T> Default for Gathering<T> {
    fn default() -> Self {
        Self {
            waiting: HashMap::new(),
            turns: BTreeMap::new(),
            things: 0,
            last_turn: 0,
            closed: false,
        }
    }
}

impl<T> Gathering<T> {
    /// Takes something to be told, or says that it is to be told at once.
    pub fn offer(
        &mut self,
        now: Instant,
        allowance: &Allowance,
        per_minute: u32,
        addressee: Addressee,
        thing: T,
    ) -> Offered<T> {
        if self.closed {
            return Offered::Now(thing);
        }
        let is_waiting = self.waiting.contains_key(&addressee);
        let due = match is_waiting {
            // Behind what waits already.
            true => now,
            false => match allowance.take(now, &addressee.to, per_minute) {
                Ok(()) => return Offered::Now(thing),
                Err(over) => over,
            },
        };
        if self.things >= WAITING_MAX {
            return Offered::Full(thing);
        }
        self.things += 1;
        match self.waiting.get_mut(&addressee) {
            Some(waiting) => waiting.things.push_back(thing),
            None => self.insert(due, addressee, VecDeque::from([thing])),
        }
        Offered::Gathered
    }

    /// What is to be told now to one addressee, in one message, if there is any.
    pub fn next(
        &mut self,
        now: Instant,
        allowance: &Allowance,
        per_minute: u32,
    ) -> Option<(Addressee, VecDeque<T>)> {
        loop {
            let (&turn, addressee) = self.turns.first_key_value()?;
            if !self.closed {
                if turn.0 > now {
                    return None;
                }
                if let Err(over) = allowance.take(now, &addressee.to, per_minute) {
                    // Another core was first.
                    let addressee = self.turns.remove(&turn).expect("it is the first");
                    let turn = self.turn(over);
                    let waiting = self.waiting.get_mut(&addressee);
                    waiting.expect("whoever has a turn waits").turn = turn;
                    self.turns.insert(turn, addressee);
                    continue;
                }
            }
            let addressee = self.turns.remove(&turn).expect("it is the first");
            let waiting = self.waiting.remove(&addressee);
            let things = waiting.expect("whoever has a turn waits").things;
            self.things -= things.len();
            return Some((addressee, things));
        }
    }

    /// Takes back what there was no room for: it waits until then, ahead of what came
    /// meanwhile.
    pub fn give_back(&mut self, due: Instant, addressee: Addressee, mut things: VecDeque<T>) {
        if things.is_empty() {
            return;
        }
        self.things += things.len();
        if let Some(waiting) = self.waiting.remove(&addressee) {
            self.turns.remove(&waiting.turn);
            things.extend(waiting.things);
        }
        self.insert(due, addressee, things);
    }

    /// The core stops: nothing waits from now on.
    pub fn close(&mut self) {
        self.closed = true;
    }

    /// When [`Gathering::next`] may have something.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let (turn, _) = self.turns.first_key_value()?;
        Some(if self.closed { Instant::START } else { turn.0 })
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.things == 0
    }

    fn insert(&mut self, due: Instant, addressee: Addressee, things: VecDeque<T>) {
        let turn = self.turn(due);
        self.turns.insert(turn, addressee.clone());
        self.waiting.insert(addressee, Waiting { turn, things });
    }

    fn turn(&mut self, due: Instant) -> Turn {
        self.last_turn += 1;
        (due, self.last_turn)
    }
}

#[cfg(test)]
mod simulation {
    //! Several cores, some addresses, a clock that jumps, from printed seeds.

    use std::time::Duration;

    use super::*;
    use crate::queue::retry::Jitter;

    /// What waits or is told: its number, in the order of a core and addressee.
    type Thing = u64;

    #[derive(Default)]
    struct Told {
        /// When messages went to each address, or could have, all cores together.
        at: HashMap<Address, Vec<Instant>>,
        /// How many things each addressee of each core was told, in all.
        things: HashMap<(usize, Addressee), u64>,
    }

    impl Told {
        fn may(&mut self, now: Instant, addressee: &Addressee) {
            self.at.entry(addressee.to.clone()).or_default().push(now);
        }

        fn tell(&mut self, core: usize, addressee: &Addressee, things: &[Thing]) {
            let told = self.things.entry((core, addressee.clone())).or_default();
            for &thing in things {
                assert_eq!(thing, *told, "in order, and once");
                *told += 1;
            }
        }
    }

    fn world(seed: u64) -> (u64, u64) {
        let mut random = Jitter::new(seed);
        let mut below = |n: u64| random.next_u64() % n;
        let per_minute = 1 + below(5) as u32;
        let allowance = Allowance::new(seed);
        let mut cores = [Gathering::default(), Gathering::default()];
        let addressees: Vec<Addressee> = (0..4)
            .map(|n| Addressee {
                to: format!("a{}@x.example", n / 2).parse().expect("an address"),
                require_tls: n % 2 == 1,
            })
            .collect();
        let mut offered: HashMap<(usize, Addressee), u64> = HashMap::new();
        let mut told = Told::default();
        let mut now = Instant::START;
        let (mut messages, mut merged) = (0, 0);
        for _ in 0..2_000 {
            let step = [0, 1, 300, 20_000, 61_000][below(5) as usize];
            now = now + Duration::from_millis(below(step + 1));
            let core = below(2) as usize;
            let gathering = &mut cores[core];
            if below(3) > 0 {
                let addressee = addressees[below(4) as usize].clone();
                let number = offered.entry((core, addressee.clone())).or_default();
                match gathering.offer(now, &allowance, per_minute, addressee.clone(), *number) {
                    Offered::Now(thing) => {
                        *number += 1;
                        messages += 1;
                        told.may(now, &addressee);
                        told.tell(core, &addressee, &[thing]);
                    }
                    Offered::Gathered => *number += 1,
                    Offered::Full(_) => assert!(gathering.things == WAITING_MAX),
                }
            }
            while let Some((addressee, mut things)) = gathering.next(now, &allowance, per_minute) {
                told.may(now, &addressee);
                // Sometimes there is no room, or not for all of it.
                let fits = if below(4) == 0 {
                    below(things.len() as u64 + 1) as usize
                } else {
                    things.len()
                };
                let rest = things.split_off(fits);
                gathering.give_back(now + Duration::from_secs(10), addressee.clone(), rest);
                if fits > 0 {
                    let things: Vec<_> = things.into();
                    messages += 1;
                    merged += u64::from(things.len() > 1);
                    told.tell(core, &addressee, &things);
                }
            }
            let due = gathering.deadline();
            assert!(
                due.is_none_or(|due| due > now),
                "it would be asked for ever"
            );
            assert_eq!(gathering.is_empty(), due.is_none());
        }
        for at in told.at.values() {
            // A minute begins with the first one after the minute before.
            let mut rest = at.as_slice();
            while let Some(&first) = rest.first() {
                let over = first + Duration::from_secs(60);
                let count = rest.iter().take_while(|at| **at < over).count();
                assert!(count <= per_minute as usize, "{count} of {per_minute}");
                rest = &rest[count..];
            }
        }
        for (core, gathering) in cores.iter_mut().enumerate() {
            gathering.close();
            while let Some((addressee, things)) = gathering.next(now, &allowance, per_minute) {
                let things: Vec<_> = things.into();
                told.tell(core, &addressee, &things);
            }
            assert!(gathering.is_empty());
        }
        assert_eq!(told.things, offered, "each was told once");
        (messages, merged)
    }

    #[test]
    fn nothing_is_lost_and_no_minute_has_too_many() {
        let (mut messages, mut merged) = (0, 0);
        for seed in 1..=200 {
            let result = std::panic::catch_unwind(|| world(seed));
            let (more, more_merged) = result.unwrap_or_else(|_| panic!("seed {seed}"));
            messages += more;
            merged += more_merged;
        }
        assert!(
            merged > 1_000 && messages > 2 * merged,
            "{messages} {merged}"
        );
    }

    #[test]
    fn what_has_no_room_is_handed_back() {
        let allowance = Allowance::new(1);
        let mut gathering = Gathering::default();
        let addressee = Addressee {
            to: "a@x.example".parse().expect("an address"),
            require_tls: false,
        };
        let mut offer =
            |thing: usize| gathering.offer(Instant::START, &allowance, 1, addressee.clone(), thing);
        assert_eq!(offer(0), Offered::Now(0));
        for thing in 0..WAITING_MAX {
            assert_eq!(offer(thing), Offered::Gathered);
        }
        assert_eq!(offer(1), Offered::Full(1));
    }
}
