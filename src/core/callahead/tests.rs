use super::memory::{EXISTS_FRESH, EXISTS_KEPT, UNKNOWN_FRESH, UNKNOWN_KEPT};
use super::*;
use crate::queue::retry::Jitter;

fn name(number: u64) -> CustomerName {
    format!("c{number}").parse().unwrap()
}

fn address(number: u64, customer: u64) -> Address {
    format!("u{number}@c{customer}.example").parse().unwrap()
}

/// The machine, with what it wanted.
#[derive(Default)]
struct Office {
    calls: CallAhead,
    now: u64,
    last: u64,
    answers: BTreeMap<u64, Existence>,
    /// Calls that a site has to answer.
    asked: Vec<Ask>,
    /// Hosts that are wanted.
    resolving: Vec<NextHop>,
    told: Vec<String>,
    /// What was kept last.
    kept: Vec<KnownAddress>,
}

impl Office {
    fn now(&self) -> Now {
        Now::default().after(Duration::from_secs(self.now))
    }

    fn gather(&mut self) {
        while let Some(output) = self.calls.poll() {
            match output {
                Output::Answer {
                    core,
                    connection,
                    existence,
                } => {
                    assert_eq!(core.0, u8::try_from(connection.0 % 2).unwrap());
                    let before = self.answers.insert(connection.0, existence);
                    assert_eq!(before, None, "one answer each");
                }
                Output::Resolve { next_hop } => self.resolving.push(next_hop),
                Output::Ask { ask, .. } => self.asked.push(ask),
                Output::Keep(known) => {
                    self.kept = known;
                    self.calls.kept(self.now());
                }
                Output::Report(fact) => self.told.push(fact.to_string()),
            }
        }
    }

    /// A session asks. Gives its number.
    fn ask(&mut self, user: u64, customer: u64) -> u64 {
        self.last += 1;
        let connection = ConnectionId(self.last);
        let core = CoreId(u8::try_from(self.last % 2).unwrap());
        let (name, address) = (name(customer), address(user, customer));
        (self.calls).ask(self.now(), core, connection, name, address);
        self.gather();
        self.last
    }

    fn resolve(&mut self, answer: &Result<Vec<Host>, Unresolved>) {
        for next_hop in std::mem::take(&mut self.resolving) {
            self.calls.resolved(self.now(), &next_hop, answer);
        }
        self.gather();
    }

    fn say(&mut self, number: AskNumber, existences: Vec<Existence>, away: Option<&str>) {
        let said = Said {
            existences,
            away: away.map(str::to_owned),
        };
        self.calls.said(self.now(), number, said);
        self.gather();
    }

    /// The site answers the oldest call.
    fn answer_one(&mut self, existence: Existence) {
        self.resolve(&Ok(Vec::new()));
        let ask = self.asked.remove(0);
        self.say(ask.number, vec![existence; ask.addresses.len()], None);
    }

    fn pass(&mut self, seconds: u64) {
        self.now += seconds;
        self.calls.timer(self.now());
        self.gather();
    }
}

#[test]
fn what_a_site_says_is_remembered_for_its_time_and_longer_while_it_is_away() {
    let check = |says: Existence, fresh: Duration, kept: Duration| {
        let mut office = Office::default();
        let first = office.ask(1, 1);
        // Whoever comes meanwhile waits for the same call.
        let second = office.ask(1, 1);
        assert_eq!(office.answers.len(), 0);
        office.answer_one(says);
        assert_eq!(
            (office.answers[&first], office.answers[&second]),
            (says, says)
        );
        office.pass(fresh.as_secs() - 1);
        let third = office.ask(1, 1);
        assert_eq!(office.answers[&third], says, "without a call");
        office.pass(1);
        let fourth = office.ask(1, 1);
        assert!(!office.answers.contains_key(&fourth), "asked again");
        office.resolve(&Err(Unresolved::Later("no DNS".to_owned())));
        assert_eq!(office.answers[&fourth], says, "what was known last");
        assert_eq!(office.told.len(), 1);
        office.pass(kept.as_secs());
        let fifth = office.ask(1, 1);
        office.resolve(&Err(Unresolved::Later("no DNS".to_owned())));
        assert_eq!(office.answers[&fifth], Existence::CannotTell);
    };
    check(Existence::Exists, EXISTS_FRESH, EXISTS_KEPT);
    check(Existence::Unknown, UNKNOWN_FRESH, UNKNOWN_KEPT);
}

#[test]
fn a_site_that_is_away_is_left_in_peace_and_its_recipients_are_taken() {
    let mut office = Office::default();
    let first = office.ask(1, 1);
    office.resolve(&Ok(Vec::new()));
    let ask = office.asked.remove(0);
    let waiting: Vec<_> = (2..200).map(|user| office.ask(user, 1)).collect();
    office.say(ask.number, Vec::new(), Some("connecting failed"));
    assert_eq!(office.answers[&first], Existence::CannotTell);
    // Those of the second call, which had begun, wait for that.
    let answered = waiting
        .iter()
        .filter(|w| office.answers.contains_key(w))
        .count();
    assert_eq!(answered + 1, waiting.len(), "one was in the second call");
    let later = office.ask(300, 1);
    assert_eq!(office.answers[&later], Existence::CannotTell);
    // Another site is another matter.
    let other = office.ask(1, 2);
    assert!(!office.answers.contains_key(&other));
    office.pass(AWAY.as_secs());
    let again = office.ask(300, 1);
    assert!(!office.answers.contains_key(&again));
    assert_eq!(office.told.len(), 1);
}

#[test]
fn nobody_waits_longer_than_patience_and_a_late_answer_is_of_use() {
    let mut office = Office::default();
    let first = office.ask(1, 1);
    office.resolve(&Ok(Vec::new()));
    office.pass(PATIENCE.as_secs() - 1);
    assert!(office.answers.is_empty());
    office.pass(1);
    assert_eq!(office.answers[&first], Existence::CannotTell);
    let ask = office.asked.remove(0);
    office.say(ask.number, vec![Existence::Unknown], None);
    let second = office.ask(1, 1);
    assert_eq!(office.answers[&second], Existence::Unknown);
    // One that never ends makes room for others all the same.
    for user in 10..12 {
        office.ask(user, 1);
    }
    office.resolve(&Ok(Vec::new()));
    assert_eq!(office.asked.len(), 2);
    office.pass(CALL_PATIENCE.as_secs());
    office.pass(AWAY.as_secs());
    office.ask(20, 1);
    office.resolve(&Ok(Vec::new()));
    assert_eq!(office.asked.len(), 3);
    office.say(office.asked[0].number, vec![Existence::Exists], None);
}

/// What a site has said is kept a moment later, and serves another process at once, while the
/// site is away.
#[test]
fn it_serves_another_process() {
    let mut office = Office::default();
    for (user, existence) in [(1, Existence::Exists), (2, Existence::Unknown)] {
        office.ask(user, 1);
        office.answer_one(existence);
    }
    assert!(office.calls.deadline().is_some());
    office.pass(2);
    assert_eq!(office.kept.len(), 2);
    let mut next = Office::default();
    next.pass(EXISTS_FRESH.as_secs());
    let (kept, now) = (office.kept, next.now());
    next.calls.restore(now, kept);
    for (user, existence) in [
        (1, Existence::Exists),
        (2, Existence::CannotTell),
        (3, Existence::CannotTell),
    ] {
        let asked = next.ask(user, 1);
        assert!(!next.answers.contains_key(&asked), "it is old: asked again");
        next.resolve(&Err(Unresolved::Later("no DNS".to_owned())));
        assert_eq!(next.answers[&asked], existence);
        next.pass(AWAY.as_secs());
    }
}

/// Each site with more than one call can take, more sites than there are calls: whoever had
/// one goes behind the others.
#[test]
fn no_site_keeps_out_the_others() {
    let mut office = Office::default();
    for user in 0..2 * (CALLS_PER_SITE_MAX * ADDRESSES_PER_CALL_MAX) as u64 {
        for customer in 0..40 {
            office.ask(user, customer);
        }
    }
    let mut served = BTreeSet::new();
    for _ in 0..4 * CALLS_MAX {
        office.resolve(&Ok(Vec::new()));
        if office.asked.is_empty() {
            break;
        }
        let ask = office.asked.remove(0);
        served.insert(ask.addresses[0].domain());
        let existences = vec![Existence::Exists; ask.addresses.len()];
        office.say(ask.number, existences, None);
        // What is served is asked for again, without end.
        let user = 1_000_000 + office.last;
        office.ask(user, 0);
    }
    assert_eq!(served.len(), 40);
}

/// Sites that answer, do not answer, go away and come back; sessions that ask; and a clock
/// that jumps. Each asker has one answer in time, a "no" only of who was said to be none,
/// and the limits hold.
#[test]
fn any_course_of_events() {
    for seed in 0..30 {
        course(seed);
    }
}

fn course(seed: u64) {
    let mut random = Jitter::new(seed);
    let mut roll = |below: u64| random.next_u64() % below;
    let mut office = Office::default();
    let mut asked_at = BTreeMap::new();
    // Even users exist.
    let existence = |address: &Address| {
        let digits = address.local_part()[1..].parse::<u64>().unwrap();
        if digits.is_multiple_of(2) {
            Existence::Exists
        } else {
            Existence::Unknown
        }
    };
    for _ in 0..400 {
        match roll(10) {
            0..=4 => {
                for _ in 0..roll(60) {
                    let (user, customer) = (roll(150), roll(80));
                    let number = office.ask(user, customer);
                    asked_at.insert(number, (office.now, user));
                }
            }
            5 => office.resolve(&Ok(Vec::new())),
            6 if roll(4) == 0 => office.resolve(&Err(Unresolved::Later("x".to_owned()))),
            7 | 8 if !office.asked.is_empty() => {
                let place = roll(office.asked.len() as u64) as usize;
                let ask = office.asked.swap_remove(place);
                let how_many = match roll(3) {
                    0 => roll(ask.addresses.len() as u64 + 1) as usize,
                    _ => ask.addresses.len(),
                };
                let said = ask.addresses.iter().take(how_many).map(existence).collect();
                let away = (how_many < ask.addresses.len()).then_some("lost");
                office.say(ask.number, said, away);
            }
            _ => {
                let seconds = [1, 10, 40, 200, 4000, 90_000][roll(6) as usize];
                office.pass(seconds);
            }
        }
        let calls = &office.calls;
        assert!(calls.calls.len() <= CALLS_MAX, "seed {seed}");
        let mut of_site: BTreeMap<&CustomerName, usize> = BTreeMap::new();
        let mut once = BTreeSet::new();
        for call in calls.calls.values() {
            *of_site.entry(&call.customer).or_default() += 1;
            assert!((1..=ADDRESSES_PER_CALL_MAX).contains(&call.addresses.len()));
            for address in &call.addresses {
                assert!(calls.pending[address].called, "seed {seed}");
                assert!(
                    once.insert(address),
                    "seed {seed}: {address} is asked for twice"
                );
            }
        }
        assert!(of_site.values().all(|calls| *calls <= CALLS_PER_SITE_MAX));
        for (customer, site) in &calls.sites {
            assert!(site.waiting.len() <= WAITING_PER_SITE_MAX, "seed {seed}");
            assert_eq!(site.calls, of_site.get(customer).copied().unwrap_or(0));
        }
        for (number, (at, user)) in &asked_at {
            match office.answers.get(number) {
                Some(Existence::Unknown) => assert_eq!(user % 2, 1, "seed {seed}"),
                Some(Existence::Exists) => assert_eq!(user % 2, 0, "seed {seed}"),
                Some(Existence::CannotTell) => {}
                None => assert!(
                    office.now < at + PATIENCE.as_secs(),
                    "seed {seed}: {number}"
                ),
            }
        }
        asked_at.retain(|number, _| !office.answers.contains_key(number));
    }
    office.pass(PATIENCE.as_secs());
    assert_eq!(office.answers.len() as u64, office.last, "seed {seed}");
    office.pass(CALL_PATIENCE.as_secs());
    assert_eq!(office.calls.deadline(), None, "seed {seed}");
    assert!(office.calls.calls.is_empty() && office.calls.pending.is_empty());
}
