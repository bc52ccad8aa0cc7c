//! Servers that fail at random, and octets that are no server's at all. The seed is
//! in every message; run one alone by setting `SEED`.

use super::server::{Fault, Server};
use super::{Core, job, settings};
use crate::mail::BodyForm;
use crate::smtp::client::fault::RecipientOutcome;
use crate::smtp::client::job::Job;
use crate::smtp::client::settings::{Protocol, Settings, Use};
use crate::smtp::client::stage::Stage;
use crate::smtp::client::{Channel, Input};
use std::collections::BTreeMap;
use std::time::Duration;

/// SplitMix64: small, and good enough to wander.
#[derive(Clone)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut value = self.0;
        value = (value ^ value >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        value = (value ^ value >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        value ^ value >> 31
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize].clone()
    }
}

fn seeds(count: u64) -> impl Iterator<Item = u64> {
    let one = std::env::var("SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    match one {
        Some(seed) => seed..seed + 1,
        None => 0..count,
    }
}

/// Names the seed when a test panics.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("SEED={}", self.0);
        }
    }
}

fn any_settings(random: &mut Random) -> Settings {
    let mut settings = settings();
    settings.protocol = random.pick(&[Protocol::Smtp, Protocol::Smtp, Protocol::Lmtp]);
    settings.pipelining = random.pick(&[Use::WhenOffered, Use::WhenOffered, Use::Never]);
    settings.recipients_max = random.pick(&[1, 2, 3, 100]).try_into().unwrap();
    settings.blind_bytes_max = random.pick(&[0, 600, 100_000]);
    settings.blind_contents_max = random.pick(&[1, 1, 2, 5]).try_into().unwrap();
    settings.flight_contents_max = random.pick(&[1, 2, 60]).try_into().unwrap();
    settings.ahead_bytes_max = random.pick(&[0, 1000, 100_000]);
    settings.transactions_max = random.pick(&[None, None, 1.try_into().ok(), 3.try_into().ok()]);
    settings
}

fn any_jobs(random: &mut Random) -> Vec<Job> {
    let count = random.below(6);
    let form =
        |random: &mut Random| random.pick(&[BodyForm::Plain, BodyForm::Stuffed, BodyForm::Raw]);
    (0..count)
        .map(|id| {
            let recipients = random.pick(&[1, 1, 1, 2, 5, 9]);
            let octets = random.pick(&[0, 500, 70_000]);
            let form = form(random);
            job(id, recipients, form, octets)
        })
        .collect()
}

const OFFERS: [&[&str]; 7] = [
    &[],
    &["PIPELINING"],
    &["PIPELINING", "CHUNKING"],
    &["CHUNKING", "SIZE 1000"],
    &["PIPELINING", "CHUNKING", "X-FLIGHT 100000"],
    &["PIPELINING", "CHUNKING", "LIMITS RCPTMAX=2 MAILMAX=4"],
    &["PIPELINING", "LIMITS RCPTDOMAINMAX=1", "DSN"],
];

const FAULTS: [Fault; 14] = [
    Fault::Code(250),
    Fault::Code(354),
    Fault::Code(421),
    Fault::Code(450),
    Fault::Code(450),
    Fault::Code(550),
    Fault::Code(550),
    Fault::Close,
    Fault::Garbage,
    Fault::Silence,
    // "Too many recipients": whether the rest comes before or behind the next job
    // depends on when the replies come.
    Fault::Code(452),
    Fault::Code(452),
    Fault::Code(552),
    // From here on the two are out of step.
    Fault::Twice,
];
/// Those of which only the order of the octets decides what follows.
const FAULTS_IN_STEP: &[Fault] = FAULTS.split_at(10).0;

/// Faults at random, but the same for the same command whatever else is said.
fn any_server(random: &mut Random, settings: &Settings, faults: &'static [Fault]) -> Server {
    let offers = random.pick(&OFFERS);
    let rarity = random.pick(&[3, 8, 30]);
    let seed = random.next();
    let mut seen = BTreeMap::new();
    Server::new(settings.protocol, offers, move |stage, _| {
        let nth = seen.entry(stage.phrase()).or_insert(0_u64);
        *nth += 1;
        let mut random = Random(seed ^ *nth << 8 ^ stage as u64);
        let fault = random.pick(faults);
        // A server that asks for a body and takes it for commands is not this one.
        let absurd = matches!(
            (stage, fault),
            (
                Stage::Data | Stage::Mail | Stage::Rcpt | Stage::Hello,
                Fault::Code(250 | 354)
            )
        );
        (random.below(rarity) == 0 && !absurd).then_some(fault)
    })
}

#[test]
fn faulty_servers() {
    let mut delivered = 0;
    let mut ended_well = 0;
    for seed in seeds(20_000) {
        let _seed = Seed(seed);
        let mut random = Random(seed);
        let settings = any_settings(&mut random);
        let jobs = any_jobs(&mut random);
        let mut server = any_server(&mut random, &settings, &FAULTS);
        let mut core = Core::new(settings, jobs);
        core.play(&mut server, |length| {
            random.below(length as u64 + 1) as usize
        });
        assert!(core.closed);
        delivered += core.outcomes.len();
        ended_well += usize::from(core.failed.is_none());
    }
    if std::env::var_os("SEED").is_none() {
        // The soup is not so thick that nothing ever works.
        assert!(delivered > 20_000, "{delivered}");
        assert!(ended_well > 2_000, "{ended_well}");
    }
}

#[test]
fn cuts_make_no_difference() {
    for seed in seeds(5_000) {
        let _seed = Seed(seed);
        let results = [0, 1, 2].map(|cut| {
            let mut random = Random(seed);
            let mut settings = any_settings(&mut random);
            // When the next job is asked for depends on what has left.
            settings.ahead_bytes_max = u64::MAX;
            let jobs = any_jobs(&mut random);
            let mut server = any_server(&mut random, &settings, FAULTS_IN_STEP);
            let mut core = Core::new(settings, jobs);
            let mut cuts = Random(seed ^ 0xC07);
            core.play(&mut server, |length| match cut {
                0 => length,
                1 => 1,
                _ => cuts.below(length as u64 + 1) as usize,
            });
            core
        });
        for core in &results[1..] {
            assert_eq!(core.failed, results[0].failed);
            if core.failed.is_none() {
                // Whether a transaction is over when the next job comes is a matter
                // of the cut, and with it the RSET between them.
                let wire = |core: &Core| core.wire.replace("RSET\r\n", "");
                assert_eq!(wire(core), wire(&results[0]));
                assert_eq!(core.outcomes, results[0].outcomes);
            } else {
                // How much was begun before the failure was read depends on the cut;
                // what was decided by then does not.
                assert_eq!(decided(core), decided(&results[0]));
            }
        }
    }
}

/// Outcomes that are final.
fn decided(core: &Core) -> Vec<(&(u64, u32), &RecipientOutcome)> {
    let is_final = |outcome: &RecipientOutcome| !matches!(outcome, RecipientOutcome::Deferred(_));
    let outcomes = core.outcomes.iter();
    outcomes.filter(|(_, outcome)| is_final(outcome)).collect()
}

/// No server at all: lines and octets at random, the clock, and the end.
#[test]
fn hostile_octets() {
    const LINES: [&[u8]; 20] = [
        b"220 x\r\n",
        b"250 x\r\n",
        b"250-x\r\n",
        b"250 2.0.0 x\r\n",
        b"250-x\r\n250-PIPELINING\r\n250-CHUNKING\r\n250 STARTTLS\r\n",
        b"250-x\r\n250 PIPELINING\r\n",
        b"250 PIPELINING\r\n250 ok\r\n250 ok\r\n354 go\r\n",
        b"354 x\r\n",
        b"334 x\r\n",
        b"421 x\r\n",
        b"450 x\r\n",
        b"452 4.5.3 x\r\n",
        b"550-5.1.1 x\r\n550 5.1.1 \xff\r\n",
        b"503 x\r\n",
        b"150 x\r\n",
        b"25",
        b"\r\n",
        b"\0",
        b"2",
        b"250 x\n",
    ];
    let mut deep = 0;
    for seed in seeds(20_000) {
        let _seed = Seed(seed);
        let mut random = Random(seed);
        let settings = any_settings(&mut random);
        let jobs = any_jobs(&mut random);
        let mut core = Core::new(settings, jobs);
        core.handle(Input::Connected(Channel::Clear));
        // A good beginning takes more of them to where the mail is.
        if random.below(4) > 0 {
            core.handle(Input::Received(b"220 x\r\n"));
            core.handle(Input::Received(
                b"250-x\r\n250-PIPELINING\r\n250 CHUNKING\r\n",
            ));
        }
        for _ in 0..200 {
            if core.closed {
                break;
            }
            match random.below(24) {
                0 => drop(core.handle(Input::Timer)),
                1 => {
                    core.now = core.now.after(Duration::from_secs(random.below(700)));
                    core.handle(Input::Timer);
                }
                2 if random.below(9) == 0 => drop(core.handle(Input::PeerClosed)),
                3 => drop(core.handle(Input::Progress)),
                4..9 => drop(core.handle(Input::Sent)),
                _ => {
                    let line = random.pick(&LINES);
                    core.handle(Input::Received(line));
                }
            }
        }
        deep += usize::from(!core.outcomes.is_empty());
        core.handle(Input::Abort);
        // A QUIT may still be waiting for its answer.
        core.handle(Input::PeerClosed);
        assert!(core.closed);
    }
    if std::env::var_os("SEED").is_none() {
        assert!(deep > 3_000, "{deep}");
    }
}

#[test]
fn endless_replies_end() {
    let mut core = Core::new(settings(), []);
    core.handle(Input::Connected(Channel::Clear));
    let megabyte = vec![b'2'; 1 << 20];
    for _ in 0..10 {
        core.handle(Input::Received(&megabyte));
    }
    assert!(core.closed);

    // Behind an answer that is held back.
    let mut core = Core::new(settings(), [job(1, 1, BodyForm::Plain, 1000)]);
    core.handle(Input::Connected(Channel::Clear));
    core.handle(Input::Received(b"220 x\r\n"));
    core.handle(Input::Received(b"250 x\r\n"));
    for line in [
        "250 mail\r\n",
        "250 rcpt\r\n",
        "354 data\r\n",
        "250 end\r\n",
    ] {
        core.handle(Input::Received(line.as_bytes()));
    }
    assert!(core.outcomes.is_empty(), "it has not left");
    for _ in 0..10_000 {
        core.handle(Input::Received(b"250 more\r\n"));
    }
    assert!(core.closed);
}
