//! Collectors without links, data cores or programs: all of them are what the test says.

use super::*;
use crate::route::HostName;
use crate::smtp::client::asking::Ask;
use crate::smtp::etrn;

const WAIT: Duration = Duration::from_secs(60);
const EVERY: Duration = Duration::from_secs(600);

fn etrn(name: &str, way: Way, every: Option<Duration>) -> Arc<Collector> {
    let node = etrn::wanted("branch.example").unwrap();
    Arc::new(Collector {
        name: name.into(),
        every,
        way,
        wait: WAIT,
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
    visitors: Visitors,
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
            visitors: Visitors::default(),
        }
    }

    fn line(&mut self, line: Line) {
        self.line = line;
        self.collectors.line(self.now, line, self.visitors);
    }

    fn visit(&mut self, open: u64, total: u64) {
        self.visitors = Visitors { open, total };
        self.line(self.line);
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
            id: RunId(run),
            tally: Tally::default(),
            said: Some("so".to_owned()),
            behind,
            failure: None,
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
    bench.visit(1, 5);
    bench.line(Line::Up);
    assert_eq!(bench.wants(), ["prepare 1"]);
    // It is the same occasion.
    bench.collectors.run(bench.now, &[Collect::All]);
    assert_eq!(bench.wants(), [""; 0]);
    assert!(bench.is_busy());
    bench
        .collectors
        .prepared(bench.now, RunId(1), Ok(Prepared::Provider(Vec::new())));
    assert_eq!(bench.wants(), ["fetch 1"]);
    bench.over(1, Behind::Announced);
    let said = "collector one (provider.example:25): so; its mail is awaited for 60 s";
    assert_eq!(bench.wants(), [said]);
    // That one was there before.
    bench.visit(0, 5);
    assert!(bench.is_busy());
    bench.visit(1, 6);
    assert!(bench.is_busy());
    bench.visit(0, 6);
    assert!(!bench.is_busy());
    let said = "collector one: the provider has called, and is done";
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
    bench.visit(1, 1);
    bench.visit(0, 1);
    bench.over(1, Behind::Announced);
    assert!(bench.is_busy());
    bench.visit(0, 1);
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
