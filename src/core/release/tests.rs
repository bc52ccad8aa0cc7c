use super::*;
use crate::core::limit::REMEMBERED_MAX;
use crate::core::{AdminRequestId, ConnectionId};
use crate::route::customer::{DeliverTo, Quota, ReleaseRules, Retention};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

fn customer(name: &str, every: Option<Duration>, wake: &[&str]) -> Customer {
    Customer {
        name: name.parse().unwrap(),
        scopes: vec![format!("{name}.example").parse().unwrap()],
        queue: name.parse().unwrap(),
        deliver_to: DeliverTo::Mx,
        release: ReleaseRules {
            auth: false,
            open: true,
            clients: [].into(),
            on_connect: false,
            every,
        },
        user: None,
        retention: Retention::Age(MINUTE),
        warn: None,
        quota: Quota {
            octets: 1,
            messages: 1,
        },
        recipients_file: None,
        call_ahead: false,
        contact: None,
        wake_command: wake.iter().map(|&word| word.to_owned()).collect(),
        wake_for: None,
    }
}

/// A desk for two data cores, with what it wants done.
struct Office {
    desk: Desk,
    now: Now,
    out: Out,
}

impl Office {
    fn new(customers: Vec<Customer>) -> Self {
        let mut desk = Desk::new(2, 7);
        let now = Now::default();
        desk.set_customers(now, Arc::new(Customers::new(customers).unwrap()));
        Self {
            desk,
            now,
            out: Out::new(),
        }
    }

    fn etrn(&mut self, name: &str) {
        self.etrn_of("192.0.2.1:1025", name);
    }

    fn etrn_of(&mut self, client: &str, name: &str) {
        let order = self.desk.named(name).unwrap();
        let asker = ReleaseAsker::Session {
            core: CoreId(1),
            connection: ConnectionId(9),
            client: client.parse().unwrap(),
            user: None,
        };
        self.desk.ask(self.now, order, asker, &mut self.out);
    }

    /// The questions that went out, each to both cores.
    fn asked(&mut self) -> Vec<(ReleaseId, Purpose)> {
        let mut asked = Vec::new();
        self.out.retain(|operation| match operation {
            ControlOperation::Tell {
                notice: Notice::Release {
                    release, purpose, ..
                },
                ..
            } => {
                asked.push((*release, *purpose));
                false
            }
            _ => true,
        });
        assert_eq!(asked.len() % 2, 0);
        asked.into_iter().step_by(2).collect()
    }

    fn part(&mut self, core: u8, release: ReleaseId, messages: u64, draining: &[&str]) {
        let part = Part {
            waiting: Waiting {
                messages,
                octets: 10 * messages,
            },
            started: messages > 0,
            draining: draining.iter().map(|name| name.parse().unwrap()).collect(),
        };
        (self.desk).part(self.now, CoreId(core), release, part, &mut self.out);
    }

    /// What was answered to the session, and the outcomes that were reported.
    fn said(&mut self) -> (Vec<Answer>, Vec<String>) {
        let (mut answers, mut facts) = (Vec::new(), Vec::new());
        for operation in self.out.drain(..) {
            match operation {
                ControlOperation::Tell {
                    core,
                    notice: Notice::ReleaseAnswer { connection, answer },
                } => {
                    assert_eq!((core, connection), (CoreId(1), ConnectionId(9)));
                    answers.push(answer);
                }
                ControlOperation::Report(fact) => facts.push(fact.to_string()),
                ControlOperation::Wake { customer, .. } => facts.push(format!("wake {customer}")),
                other => panic!("{other:?}"),
            }
        }
        (answers, facts)
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now.after(time);
        self.desk.timer(self.now, &mut self.out);
    }
}

fn waiting(messages: u64) -> etrn::Waiting {
    etrn::Waiting {
        messages,
        octets: 10 * messages,
    }
}

#[test]
fn the_answer_is_the_sum_of_all_cores_and_the_drain_ends_with_the_last() {
    let mut office = Office::new(vec![customer("a", None, &[])]);
    office.etrn("a.example");
    let [(release, Purpose::Release)] = office.asked()[..] else {
        panic!("one release")
    };
    office.part(0, release, 2, &["a"]);
    assert_eq!(office.said().0, []);
    office.part(1, release, 3, &["a"]);
    let (answers, facts) = office.said();
    assert_eq!(answers, [Answer::Started(waiting(5))]);
    assert_eq!(
        facts,
        ["release of a (a.example), by ETRN of 192.0.2.1:1025: started, 5 messages, 50 octets"]
    );
    office.now = office.now.after(MINUTE);
    let name = "a".parse::<CustomerName>().unwrap();
    for (core, facts) in [(0, 0), (1, 1)] {
        let left = Waiting {
            messages: 1,
            octets: 1,
        };
        let (now, end) = (office.now, ReleaseEnd::Drained);
        (office.desk).ended(now, CoreId(core), name.clone(), end, left, &mut office.out);
        assert_eq!(office.said().1.len(), facts);
    }
}

#[test]
fn nothing_joining_and_patience() {
    let mut office = Office::new(vec![customer("a", None, &[])]);
    office.etrn("a");
    let release = office.asked()[0].0;
    office.part(0, release, 0, &[]);
    office.part(1, release, 0, &[]);
    assert_eq!(office.said().0, [Answer::Nothing]);

    office.etrn("a");
    let release = office.asked()[0].0;
    for core in [0, 1] {
        let part = Part {
            waiting: Waiting {
                messages: 1,
                octets: 10,
            },
            started: false,
            draining: vec!["a".parse().unwrap()],
        };
        (office.desk).part(office.now, CoreId(core), release, part, &mut office.out);
    }
    assert_eq!(office.said().0, [Answer::Joined(waiting(2))]);

    office.etrn("a");
    let release = office.asked()[0].0;
    office.part(0, release, 1, &[]);
    assert_eq!(office.desk.deadline(), Some(office.now.instant + PATIENCE));
    office.pass(PATIENCE);
    assert_eq!(office.said().0, [Answer::Unable]);
    office.part(1, release, 1, &[]);
    assert_eq!(office.said().0, []);

    office.desk.close();
    office.etrn("a");
    assert_eq!(office.said().0, [Answer::Unable]);
}

#[test]
fn who_asks_too_often_is_told_so() {
    let mut office = Office::new(vec![customer("a", None, &[]), customer("b", None, &[])]);
    let mut check = |name: &str, allowed: usize, refused: usize| {
        for _ in 0..allowed + refused {
            office.etrn(name);
        }
        let asked = office.asked().len();
        let (answers, _) = office.said();
        assert_eq!(asked, allowed, "{name}");
        assert_eq!(answers, vec![Answer::TooOften; refused]);
        office.pass(NODE_PAUSE);
        office.out.clear();
    };
    check("a", 5, 2);
    check("a", 1, 1);
    // Another extent and another customer are other names.
    check("a.example", 5, 1);
    check("b", 5, 1);
    // Neither a stranger nor the site's own connections use up what it may ask for.
    for _ in 0..200 {
        let (order, client) = (
            office.desk.named("a").unwrap(),
            "192.0.2.1:1".parse().unwrap(),
        );
        let asker = ReleaseAsker::Connection { client };
        office.desk.ask(office.now, order, asker, &mut office.out);
        office.etrn_of("203.0.113.9:1025", "a");
    }
    assert_eq!(office.asked().len(), 5 + 5);
    office.pass(NODE_PAUSE);
    office.out.clear();
    office.etrn("a");
    assert_eq!(office.asked().len(), 1);
    assert_eq!(office.said().0, []);
}

#[test]
fn a_limit_remembers_no_more_than_it_may() {
    let mut limit = Limit::new(1, MINUTE);
    let now = Instant::START;
    for key in 0..3 * REMEMBERED_MAX {
        assert!(limit.take(now, key));
        assert!(limit.paid.len() <= REMEMBERED_MAX);
    }
    assert!(!limit.take(now, 3 * REMEMBERED_MAX - 1));
}

#[test]
fn an_interval_begins_somewhere_and_comes_again() {
    let every = Some(10 * MINUTE);
    let names: Vec<String> = (0..100).map(|i| format!("c{i}")).collect();
    let mut office = Office::new(
        names
            .iter()
            .map(|name| customer(name, every, &[]))
            .collect(),
    );
    let first: BTreeSet<u64> = office
        .desk
        .due
        .iter()
        .map(|(at, _)| at.as_nanos())
        .collect();
    assert_eq!(first.len(), 100);
    assert!(first.last().unwrap() - first.first().unwrap() > 5 * 60_000_000_000);
    office.pass(10 * MINUTE);
    assert_eq!(office.asked().len(), 100);
    // A reload keeps the times of those whose interval stays.
    let before = office.desk.due.clone();
    let customers = Arc::clone(&office.desk.customers);
    office.desk.set_customers(office.now, customers);
    assert_eq!(office.desk.due, before);
    let mut rounds = 0;
    for _ in 0..60 {
        office.pass(MINUTE);
        rounds += office.asked().len();
    }
    assert!((500..700).contains(&rounds), "{rounds}");
}

/// A site that is not there would otherwise be tried for ever, as one attempt that never
/// ends and so is never missed.
#[test]
fn an_interval_gives_no_more_time_to_an_attempt_that_goes_on() {
    let mut office = Office::new(vec![customer("a", Some(10 * SECOND), &[])]);
    let release = loop {
        office.pass(SECOND);
        if let [(release, Purpose::Release)] = office.asked()[..] {
            break release;
        }
    };
    office.part(0, release, 1, &["a"]);
    office.part(1, release, 0, &[]);
    for _ in 0..60 {
        office.pass(SECOND);
        assert_eq!(office.asked(), []);
    }
    let name: CustomerName = "a".parse().unwrap();
    let (end, left) = (ReleaseEnd::Unreachable, Waiting::default());
    (office.desk).ended(office.now, CoreId(0), name, end, left, &mut office.out);
    office.out.clear();
    let release = loop {
        office.pass(SECOND);
        if let [(release, _)] = office.asked()[..] {
            break release;
        }
    };
    office.part(0, release, 1, &["a"]);
    office.part(1, release, 0, &[]);
    // Who asks by itself is there.
    office.etrn("a");
    assert_eq!(office.asked().len(), 1);
}

#[test]
fn a_sleeping_site_is_woken_before_its_mail_is_let_go() {
    let mut office = Office::new(vec![customer("a", None, &["/bin/dial"])]);
    let operator = |office: &mut Office, request| {
        let order = office.desk.named("a").unwrap();
        let asker = ReleaseAsker::Operator(AdminRequestId(request));
        office.desk.ask(office.now, order, asker, &mut office.out);
        let [(release, Purpose::Count)] = office.asked()[..] else {
            panic!("counted first")
        };
        office.part(0, release, 1, &[]);
        office.part(1, release, 0, &[]);
        let answered = |operation: &ControlOperation| matches!(operation, ControlOperation::Answer { request: r, .. } if r.0 == request);
        assert!(office.out.iter().any(answered));
        office.out.retain(|operation| !answered(operation));
    };
    let name = "a".parse::<CustomerName>().unwrap();
    operator(&mut office, 1);
    assert_eq!(office.said().1.last().unwrap(), "wake a");
    // While the command runs there is no second one.
    operator(&mut office, 2);
    assert!(!office.said().1.iter().any(|fact| fact.starts_with("wake")));
    office
        .desk
        .woken(office.now, &name, Ok(()), &mut office.out);
    assert_eq!(office.asked().len(), 1);
    // One that fails leaves the mail where it is, and the next one tries again.
    operator(&mut office, 3);
    office.said();
    let why = Err("exit status: 1".to_owned());
    office.desk.woken(office.now, &name, why, &mut office.out);
    assert_eq!(office.asked(), []);
    assert!(office.said().1[0].contains("stays held until the next release"));
    // All that is asked for while it runs is let go, each once.
    for domain in ["x.a.example", "y.a.example", "x.a.example"] {
        let order = Order {
            customers: vec![name.clone()],
            extent: Extent::Domain(domain.parse().unwrap()),
            caller: None,
        };
        let asker = ReleaseAsker::Operator(AdminRequestId(4));
        office.desk.ask(office.now, order, asker, &mut office.out);
        let release = office.asked()[0].0;
        office.part(0, release, 1, &[]);
        office.part(1, release, 0, &[]);
        office.out.clear();
    }
    office
        .desk
        .woken(office.now, &name, Ok(()), &mut office.out);
    assert_eq!(office.asked().len(), 2);
    // Who asks by ETRN is awake.
    office.etrn("a");
    assert_eq!(office.asked()[0].1, Purpose::Release);
}

#[test]
fn wake_up_mail_counts_with_etrn_and_is_told_in_the_log_only() {
    let mut office = Office::new(vec![customer("a", None, &["/bin/dial"])]);
    for _ in 0..4 {
        office.etrn("a");
    }
    assert_eq!(office.asked().len(), 4);
    let mail = |office: &mut Office, proof| {
        let order = office.desk.named("a").unwrap();
        let asker = ReleaseAsker::WakeUp {
            client: "192.0.2.1:1025".parse().unwrap(),
            user: None,
            proof,
        };
        office.desk.ask(office.now, order, asker, &mut office.out);
    };
    mail(&mut office, Proof::Secret);
    // Who writes is awake.
    let [(release, Purpose::Release)] = office.asked()[..] else {
        panic!("one question, to release")
    };
    office.part(0, release, 2, &[]);
    office.part(1, release, 1, &[]);
    let (answers, facts) = office.said();
    assert_eq!((answers.len(), facts.len()), (0, 1));
    let expected = "by wake-up mail of 192.0.2.1:1025 with the secret";
    assert!(facts[0].contains(expected), "{facts:?}");
    assert!(facts[0].contains("3 messages"), "{facts:?}");
    mail(&mut office, Proof::Source);
    assert_eq!(office.asked(), []);
    let (answers, facts) = office.said();
    assert!(
        answers.is_empty() && facts[0].contains("asked too often"),
        "{facts:?}"
    );
}
