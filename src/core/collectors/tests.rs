//! Collectors without links, data cores or programs: all of them are what the test says.

use super::*;
use crate::core::admin::Response;
use crate::core::collector::PopMailbox;
use crate::core::visitors::Brought;
use crate::core::{AdminRequestId, ConnectionId, CoreId, Endpoint, Host};
use crate::route::HostName;
use crate::route::Protocol;
use crate::smtp::client::asking::Ask;
use crate::smtp::etrn;

/// Where the provider is, and somebody else.
const PROVIDER: &str = "203.0.113.1";
const STRANGER: &str = "198.51.100.7";

const WAIT: Duration = Duration::from_secs(60);
const EVERY: Duration = Duration::from_secs(600);

fn etrn(name: &str, way: Way, every: Option<Duration>) -> Arc<Collector> {
    let node = etrn::wanted("branch.example").unwrap();
    Arc::new(Collector {
        name: name.into(),
        every,
        way,
        wait: WAIT,
        callers: Vec::new(),
        means: Means::Provider(crate::core::collector::Provider {
            servers: vec![(HostName::Name("provider.example".parse().unwrap()), 25)],
            tls: crate::route::TlsPolicy::None.into(),
            login: None,
            ask: Ask::Release(Arc::new([node])),
        }),
    })
}

struct Bench {
    collectors: Collectors,
    now: Now,
    line: Line,
    calls: u64,
}

impl Bench {
    fn new(all: &[Arc<Collector>]) -> Self {
        let mut collectors = Collectors::new(2);
        let now = Now::default().after(Duration::from_secs(1000));
        collectors.configure(now, all);
        Self {
            collectors,
            now,
            line: Line::Down,
            calls: 0,
        }
    }

    fn line(&mut self, line: Line) {
        self.line = line;
        self.collectors.line(self.now, line);
    }

    /// A session begins.
    fn come(&mut self, from: &str) -> ConnectionId {
        self.calls += 1;
        let connection = ConnectionId(self.calls);
        let from = from.parse().expect("an address");
        self.visit(connection, Event::Came(from));
        connection
    }

    /// It is over.
    fn go(&mut self, connection: ConnectionId) {
        self.visit(connection, Event::Gone(Brought::default()));
    }

    fn visit(&mut self, connection: ConnectionId, event: Event) {
        self.collectors.visited(&Visit {
            core: CoreId(0),
            connection,
            event,
        });
        self.line(self.line);
    }

    /// The provider is at [`PROVIDER`].
    fn prepare(&mut self, run: u64) {
        let host = Host {
            name: "provider.example".to_owned(),
            addresses: vec![Endpoint::Tcp(format!("{PROVIDER}:25").parse().unwrap())],
            protocol: Protocol::Smtp,
            tls: crate::route::TlsPolicy::None.into(),
            preference: 0,
            login: None,
        };
        let prepared = Ok(Prepared::Provider(vec![host]));
        self.collectors.prepared(self.now, RunId(run), prepared);
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now.after(time);
        self.collectors.timer(self.now);
    }

    /// What it wants, in a word each.
    fn wants(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.collectors.poll())
            .map(|output| match output {
                Output::Prepare(run, _) => format!("prepare {}", run.0),
                Output::Order(..) => "order".to_owned(),
                Output::Summon(..) => "summon".to_owned(),
                Output::Fetch(_, fetch) => format!("fetch {}", fetch.number.0),
                Output::Command(run, _) => format!("command {}", run.0),
                Output::WantLink => "link".to_owned(),
                Output::BringUp => "bring up".to_owned(),
                Output::Answer(request, response) => match response {
                    Response::Collected(collected) => {
                        let failures = collected.collectors.iter();
                        let failures: Vec<_> = failures
                            .map(|one| one.failure.clone().unwrap_or_default())
                            .collect();
                        format!("answer {}: {}", request.0, failures.join(", "))
                    }
                    other => format!("answer {}: {other:?}", request.0),
                },
                Output::Report(fact) => fact.to_string(),
            })
            .collect()
    }

    fn over(&mut self, run: u64, behind: Behind) {
        let run = Run {
            said: Some("so".to_owned()),
            behind,
            ..Run::begun(RunId(run))
        };
        self.collectors.over(self.now, &run);
    }

    fn is_busy(&self) -> bool {
        self.collectors.is_busy(self.now)
    }
}

/// What is due asks for a link, and runs when one is up; the link has work until the
/// provider has called and is done.
#[test]
fn over_a_link() {
    let mut bench = Bench::new(&[etrn("one", Way::OverLink, Some(EVERY))]);
    bench.line(Line::Down);
    bench.pass(Duration::ZERO);
    assert_eq!(bench.wants(), ["link"]);
    assert!(!bench.is_busy());
    let before = bench.come(PROVIDER);
    bench.line(Line::Up);
    assert_eq!(bench.wants(), ["prepare 1"]);
    // It is the same occasion.
    bench.collectors.run(bench.now, &[Collect::All]);
    assert_eq!(bench.wants(), [""; 0]);
    assert!(bench.is_busy());
    bench.prepare(1);
    assert_eq!(bench.wants(), ["fetch 1"]);
    bench.over(1, Behind::Announced);
    let said = "collector one (provider.example:25): so; its mail is awaited for 60 s";
    assert_eq!(bench.wants(), [said]);
    // That one was there before.
    bench.go(before);
    assert!(bench.is_busy());
    let (first, second) = (bench.come(PROVIDER), bench.come(PROVIDER));
    bench.go(first);
    assert!(bench.is_busy());
    // Neither ends the wait nor lengthens it.
    let stranger = bench.come(STRANGER);
    bench.go(second);
    assert!(!bench.is_busy());
    bench.go(stranger);
    let said = "collector one: the provider has called from 203.0.113.1, and is done";
    assert_eq!(bench.wants(), [said]);
    bench.pass(EVERY);
    assert_eq!(bench.wants(), ["prepare 2"], "the link is still up");
}

/// A session that came and went before the provider's answer was here was the one.
#[test]
fn a_provider_may_be_quick() {
    let mut bench = Bench::new(&[etrn("one", Way::OverLink, None)]);
    bench.line(Line::Up);
    bench.collectors.run(bench.now, &[Collect::All]);
    bench.prepare(1);
    let call = bench.come(PROVIDER);
    bench.go(call);
    bench.over(1, Behind::Announced);
    bench.line(Line::Up);
    assert!(!bench.is_busy());
}

/// A stranger's session does not end the wait; that it was there is said.
#[test]
fn a_stranger_is_not_the_provider() {
    let mut bench = Bench::new(&[etrn("one", Way::OverLink, None)]);
    bench.line(Line::Up);
    bench.collectors.run(bench.now, &[Collect::All]);
    bench.prepare(1);
    bench.over(1, Behind::Announced);
    bench.wants();
    let stranger = bench.come(STRANGER);
    bench.go(stranger);
    assert!(bench.is_busy());
    bench.pass(WAIT);
    let said = "collector one: nobody has called within 60 s, but for 198.51.100.7: if that is the \
                provider, write it into `callers`, although there is mail; look whether the \
                provider can reach this host; it is asked again with the next run";
    assert_eq!(bench.wants(), [said]);
    assert!(!bench.is_busy());
}

#[test]
fn nobody_calls() {
    for (behind, said) in [
        (Behind::Announced, "although there is mail"),
        (Behind::Perhaps, "there seems to be no mail"),
    ] {
        let mut bench = Bench::new(&[etrn("one", Way::OverLink, None)]);
        bench.line(Line::Up);
        bench.collectors.run(bench.now, &[Collect::All]);
        bench.over(1, behind);
        bench.wants();
        assert_eq!(bench.collectors.deadline(), Some(bench.now.instant + WAIT));
        bench.pass(WAIT);
        assert!(!bench.is_busy());
        let told = bench.wants().remove(0);
        assert!(
            told.contains("within 60 s") && told.contains(said),
            "{told}"
        );
    }
    // With the link the wait ends too.
    let mut bench = Bench::new(&[etrn("one", Way::OverLink, None)]);
    bench.line(Line::Up);
    bench.collectors.run(bench.now, &[Collect::All]);
    bench.over(1, Behind::Announced);
    bench.wants();
    bench.line(Line::Down);
    assert!(bench.wants()[0].contains("the link has gone"));
    assert!(!bench.is_busy());
}

/// Whatever brings the link up again, and for whatever: what it has left in the middle is
/// done then. The link is not dialled for it.
#[test]
fn what_the_link_has_left_in_the_middle_is_done_on_the_next() {
    type Ends = fn(&mut Bench);
    let ends: [(&str, Ends); 4] = [
        (
            "not to its end: the link is gone; what is left comes as soon as a link is up",
            |bench| {
                bench.line(Line::Down);
                bench.prepare(1);
            },
        ),
        (
            "not to its end: cut off; what is left comes as soon as a link is up",
            |bench| {
                bench.prepare(1);
                bench.line(Line::Down);
                let run = Run::failed(RunId(1), "cut off".to_owned());
                bench.collectors.over(bench.now, &run);
            },
        ),
        ("it is asked again as soon as a link is up", |bench| {
            bench.prepare(1);
            bench.line(Line::Down);
            bench.over(1, Behind::Announced);
        }),
        ("it is asked again as soon as a link is up", |bench| {
            bench.prepare(1);
            bench.over(1, Behind::Announced);
            bench.line(Line::Down);
        }),
    ];
    for (said, ends) in ends {
        let mut bench = Bench::new(&[etrn("one", Way::OverLink, None)]);
        bench.line(Line::Up);
        bench.collectors.run(bench.now, &[Collect::All]);
        ends(&mut bench);
        let told = bench.wants().pop().expect("a line");
        assert!(told.ends_with(said), "{told}");
        assert!(!bench.is_busy());
        bench.pass(EVERY);
        assert_eq!(bench.wants(), [""; 0], "nothing is dialled for it");
        bench.line(Line::Up);
        assert_eq!(bench.wants(), ["prepare 2"]);
        bench.over(2, Behind::Nothing);
        bench.line(Line::Down);
        bench.line(Line::Up);
        assert_eq!(bench.wants().len(), 1, "that was all");
    }
    // A password that is refused is not tried again for that.
    let mut bench = Bench::new(&[etrn("one", Way::OverLink, None)]);
    bench.line(Line::Up);
    bench.collectors.run(bench.now, &[Collect::All]);
    bench.line(Line::Down);
    let failure = Some((Next::LoginRefused, "who?".to_owned()));
    let over = Run {
        failure,
        ..Run::begun(RunId(1))
    };
    bench.collectors.over(bench.now, &over);
    bench.wants();
    bench.line(Line::Up);
    assert_eq!(bench.wants(), [""; 0]);
}

/// Where no link is needed nothing is asked of one, and nothing waited for.
#[test]
fn without_a_link() {
    let mut bench = Bench::new(&[etrn("one", Way::Near, Some(EVERY))]);
    bench.line(Line::Down);
    bench.pass(Duration::ZERO);
    assert_eq!(bench.wants(), ["prepare 1"]);
    assert!(!bench.is_busy());
    bench.over(1, Behind::Announced);
    assert_eq!(bench.wants(), ["collector one (provider.example:25): so"]);
    assert_eq!(bench.collectors.deadline(), Some(bench.now.instant + EVERY));
}

/// The operator's question brings the link up, and is answered also when none comes.
#[test]
fn by_hand() {
    let both = [
        etrn("far", Way::OverLink, None),
        etrn("near", Way::Near, None),
    ];
    let mut bench = Bench::new(&both);
    bench.line(Line::Down);
    let ask = |bench: &mut Bench, request, which| {
        bench
            .collectors
            .ask(bench.now, AdminRequestId(request), which, Large::Left);
    };
    ask(&mut bench, 1, Which::All);
    assert_eq!(bench.wants(), ["bring up", "prepare 1"]);
    assert!(bench.collectors.is_asked_for_link());
    bench.over(1, Behind::Nothing);
    assert_eq!(bench.wants().len(), 1, "the other one is not done");
    bench.collectors.no_link("busy");
    assert_eq!(bench.wants(), ["answer 1: , no link is up: busy"]);
    assert!(!bench.collectors.is_asked_for_link());
    // Two who ask get the outcome of one run.
    bench.line(Line::Up);
    bench.pass(SETTLES);
    ask(&mut bench, 2, Which::Named("far"));
    ask(&mut bench, 3, Which::Named("far"));
    assert_eq!(bench.wants(), ["prepare 2"]);
    let refused = Err("no such host".to_owned());
    bench.collectors.prepared(bench.now, RunId(2), refused);
    let wants = bench.wants();
    let answers = ["answer 2: no such host", "answer 3: no such host"];
    assert!(wants[0].contains("no such host"), "{wants:?}");
    assert_eq!(wants[1..], answers);
    ask(&mut bench, 4, Which::Named("nobody"));
    assert!(bench.wants()[0].contains("NotFound"));
}

/// A line that has just come up may not yet lead anywhere: what comes to nothing is tried
/// again while the link stays up for it, and who asked is told of what comes of it then.
#[test]
fn while_the_link_settles() {
    let mut bench = Bench::new(&[etrn("one", Way::OverLink, None)]);
    bench.line(Line::Down);
    let (request, which) = (AdminRequestId(1), Which::Named("one"));
    (bench.collectors).ask(bench.now, request, which, Large::Left);
    bench.line(Line::Up);
    assert_eq!(bench.wants(), ["bring up", "prepare 1"]);
    let fails = |bench: &mut Bench, run: u64| {
        let failure = Some((Next::Soon, "no route".to_owned()));
        let over = Run {
            failure,
            ..Run::failed(RunId(run), String::new())
        };
        bench.collectors.over(bench.now, &over);
    };
    let tries = SETTLES.as_secs() / SETTLES_PAUSE.as_secs();
    for run in 1..=tries {
        fails(&mut bench, run);
        let told = bench.wants();
        assert!(
            told.len() == 1 && told[0].ends_with("no route; what is left comes in 5 s"),
            "{told:?}"
        );
        assert!(bench.is_busy(), "the link stays up for it");
        let at = bench.collectors.deadline().expect("it is tried again");
        bench.pass(at.since(bench.now.instant));
        assert_eq!(bench.wants(), [format!("prepare {}", run + 1)]);
    }
    // It has had its time.
    fails(&mut bench, tries + 1);
    let told = bench.wants();
    assert!(
        told[0].ends_with("what is left comes with the next run"),
        "{told:?}"
    );
    assert_eq!(told[1], "answer 1: no route");
    assert!(!bench.is_busy());
    // The link goes meanwhile, or the server stops.
    for stop in [false, true] {
        let mut bench = Bench::new(&[etrn("one", Way::OverLink, None)]);
        bench.line(Line::Down);
        (bench.collectors).ask(bench.now, request, which, Large::Left);
        bench.line(Line::Up);
        fails(&mut bench, 1);
        bench.wants();
        if stop {
            bench.collectors.stop();
            let answer = "answer 1: no link is up: the server is stopping";
            assert_eq!(bench.wants(), [answer]);
        } else {
            bench.line(Line::Down);
            assert!(bench.collectors.is_asked_for_link());
            bench.line(Line::Up);
            assert_eq!(bench.wants(), ["prepare 2"]);
        }
    }
}

/// Another configuration: what runs goes on, who asked is answered.
#[test]
fn a_new_configuration() {
    let mut bench = Bench::new(&[etrn("one", Way::Near, None), etrn("two", Way::Near, None)]);
    let ask = Which::All;
    bench
        .collectors
        .ask(bench.now, AdminRequestId(1), ask, Large::Left);
    assert_eq!(bench.wants(), ["prepare 1", "prepare 2"]);
    bench
        .collectors
        .configure(bench.now, &[etrn("two", Way::Near, None)]);
    bench.over(1, Behind::Nothing);
    assert_eq!(bench.wants(), [""; 0], "it is gone");
    bench.over(2, Behind::Nothing);
    let answer = "answer 1: it is no longer configured; what it has begun goes on, ";
    assert_eq!(bench.wants()[1], answer);
}

fn mailbox(oversize: Oversize) -> Arc<Collector> {
    use crate::pop3::{mailbox::Policy, memory::Account, recipients, settings};
    let address = "anna@branch.example".parse().unwrap();
    let mailbox = PopMailbox {
        name: "box".into(),
        account: Account::new("branch", "pop.isp.example"),
        host: HostName::Name("pop.isp.example".parse().unwrap()),
        port: 110,
        user: "branch".into(),
        password_file: "/dev/null".into(),
        session: Arc::new(settings::Settings::new(settings::Tls::None, 1000)),
        policy: Policy {
            keep: Duration::ZERO,
            size_max: Some(100),
            oversize,
            message_bytes_max: 1000,
        },
        rules: recipients::Rules {
            mailbox: recipients::Mailbox::User(address),
            aliases: Default::default(),
        },
        duplicates: Duration::ZERO,
        copies: None,
    };
    Arc::new(Collector {
        name: "box".into(),
        every: None,
        way: Way::OverLink,
        wait: WAIT,
        callers: Vec::new(),
        means: Means::Mailbox(Arc::new(mailbox)),
    })
}

/// A row of the schedule with "collect-large" has the large messages collected that wait
/// for one; also when the mailbox is being collected without them just then.
#[test]
fn a_window_for_large_messages() {
    let large_of = |oversize, which: &[Collect]| {
        let mut bench = Bench::new(&[mailbox(oversize)]);
        bench.line(Line::Up);
        bench.collectors.run(bench.now, which);
        let State::Runs { large, .. } = bench.collectors.all[0].state else {
            panic!("it runs");
        };
        large
    };
    let both = [Collect::All, Collect::Large];
    assert_eq!(large_of(Oversize::Window, &[Collect::All]), Large::Left);
    assert_eq!(large_of(Oversize::Window, &both), Large::Collected);
    assert_eq!(
        large_of(Oversize::Window, &[Collect::Large]),
        Large::Collected
    );
    // These wait for no window.
    assert_eq!(large_of(Oversize::Notice, &both), Large::Left);
    assert_eq!(large_of(Oversize::Skip, &both), Large::Left);
    let mut bench = Bench::new(&[mailbox(Oversize::Window), etrn("one", Way::OverLink, None)]);
    bench.line(Line::Up);
    bench.collectors.run(bench.now, &[Collect::All]);
    assert_eq!(bench.wants(), ["prepare 1", "prepare 2"]);
    bench.collectors.run(bench.now, &[Collect::Large]);
    assert_eq!(bench.wants(), [""; 0]);
    bench.over(1, Behind::Nothing);
    assert_eq!(bench.wants().pop().as_deref(), Some("prepare 3"));
    let state = bench.collectors.all[0].state;
    assert!(
        matches!(
            state,
            State::Runs {
                large: Large::Collected,
                ..
            }
        ),
        "{state:?}"
    );
    bench.over(3, Behind::Nothing);
    assert_eq!(bench.wants().len(), 1, "only that it is over");
}

/// A server that refuses the password is asked less and less often, since many lock an
/// account; one that is busy, or not there, as often as before.
#[test]
fn a_refused_login_is_not_repeated_as_often() {
    let mut bench = Bench::new(&[etrn("one", Way::Near, Some(EVERY))]);
    bench.line(Line::Down);
    bench.pass(Duration::ZERO);
    let mut run = 0;
    let mut next_after = |bench: &mut Bench, next| {
        run += 1;
        assert_eq!(bench.wants(), [format!("prepare {run}")]);
        let failure = Some((next, "no".to_owned()));
        let over = Run {
            failure,
            ..Run::begun(RunId(run))
        };
        bench.collectors.over(bench.now, &over);
        let at = bench.collectors.deadline().expect("it is due again");
        let pause = at.since(bench.now.instant);
        bench.wants();
        bench.pass(pause);
        pause
    };
    assert_eq!(next_after(&mut bench, Next::Usual), EVERY);
    assert_eq!(next_after(&mut bench, Next::LoginRefused), EVERY * 2);
    assert_eq!(next_after(&mut bench, Next::LoginRefused), EVERY * 4);
    assert_eq!(next_after(&mut bench, Next::Usual), EVERY);
    for _ in 0..20 {
        next_after(&mut bench, Next::LoginRefused);
    }
    let longest = next_after(&mut bench, Next::LoginRefused);
    assert_eq!(longest, REFUSED_PAUSE_MAX);
}

/// RFC 2449 §6.5: what is due too early runs when its time has come, on the line that is up
/// then; who asks by hand is told; no link is dialled for a login that would be refused.
#[test]
fn a_server_that_wants_a_pause_between_logins() {
    let pause = EVERY * 2;
    let over = |bench: &mut Bench, run| {
        let over = Run {
            behind: Behind::Nothing,
            login_delay: Some(pause),
            ..Run::begun(RunId(run))
        };
        bench.collectors.over(bench.now, &over);
        bench.wants()
    };
    let mut bench = Bench::new(&[etrn("one", Way::OverLink, Some(EVERY))]);
    bench.line(Line::Up);
    bench.pass(Duration::ZERO);
    assert_eq!(bench.wants(), ["prepare 1"]);
    over(&mut bench, 1);
    let due = bench.now.instant + pause;
    assert_eq!(
        bench.collectors.deadline(),
        Some(due),
        "not every ten minutes"
    );
    // The next time on line comes too early, and says so once.
    bench.pass(EVERY);
    assert_eq!(bench.wants(), [""; 0]);
    bench.collectors.run(bench.now, &[Collect::All]);
    let said = "collector one: the server wants a pause between two logins (LOGIN-DELAY); it runs \
                in 600 s if a link is up then, or else with the next one";
    assert_eq!(bench.wants(), [said]);
    bench.collectors.run(bench.now, &[Collect::All]);
    assert_eq!(bench.wants(), [""; 0]);
    assert!(!bench.is_busy(), "no link is kept up for it");
    let (request, which) = (AdminRequestId(1), Which::Named("one"));
    (bench.collectors).ask(bench.now, request, which, Large::Left);
    let answer = &bench.wants()[0];
    assert!(answer.contains("it is collected in 600 s"), "{answer}");
    bench.pass(EVERY);
    assert_eq!(bench.wants(), ["prepare 2"]);
    over(&mut bench, 2);
    // With the line gone meanwhile it is for the next one; nothing is dialled for it.
    let mut bench = Bench::new(&[etrn("one", Way::OverLink, None)]);
    bench.line(Line::Up);
    bench.collectors.run(bench.now, &[Collect::All]);
    over(&mut bench, 1);
    bench.collectors.run(bench.now, &[Collect::All]);
    bench.line(Line::Down);
    assert_eq!(bench.wants().len(), 1);
    bench.pass(pause);
    assert_eq!(bench.wants(), [""; 0]);
    assert_eq!(bench.collectors.deadline(), None);
    bench.line(Line::Up);
    assert_eq!(bench.wants(), ["prepare 2"]);
}
