//! What was promised and what came: the judge of all tests here.
//!
//! A message is *begun* when its transaction was opened, *sealed* from before the
//! first octet of its end of data is written (from then on the relay may have it),
//! and *acknowledged* when its 250 was read.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::harness::message::{Random, without_trace};
use crate::harness::sink::Mail;

/// The name of a message; everything else about it follows from it and the seed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Number(pub(crate) u64);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Fate {
    Begun,
    Sealed,
    Acknowledged,
}

/// All messages of a test.
#[derive(Debug)]
pub(crate) struct Ledger {
    seed: u64,
    next: AtomicU64,
    fates: Mutex<HashMap<Number, Fate>>,
    /// What the test is doing, for the report of a loss.
    stage: Mutex<String>,
    promises: Mutex<HashMap<Number, Promise>>,
    /// The longest time that a client has waited for its 250, in nanoseconds.
    slowest: AtomicU64,
}

/// What a 250 was said to.
#[derive(Debug)]
struct Promise {
    /// What the test was doing.
    stage: String,
    /// As the RCPTs named them.
    recipients: &'static [&'static str],
}

/// Largest body, in octets: several chunks and batches, so that a kill finds
/// messages in pieces.
const BODY_BYTES_MAX: u64 = 300_000;

impl Ledger {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            seed,
            next: AtomicU64::new(0),
            fates: Mutex::default(),
            stage: Mutex::default(),
            promises: Mutex::default(),
            slowest: AtomicU64::new(0),
        }
    }

    /// A client has waited so long for its 250.
    pub(crate) fn waited(&self, time: Duration) {
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.slowest.fetch_max(nanoseconds, Ordering::Relaxed);
    }

    /// The longest time that a client has waited for its 250: for one sync at least.
    pub(crate) fn slowest(&self) -> Duration {
        Duration::from_nanos(self.slowest.load(Ordering::Relaxed))
    }

    /// What the test does from now on.
    pub(crate) fn stage(&self, stage: String) {
        *self.stage.lock().expect("no holder panics") = stage;
    }

    pub(crate) fn begin(&self) -> Number {
        let number = Number(self.next.fetch_add(1, Ordering::Relaxed));
        self.set(number, Fate::Begun);
        number
    }

    pub(crate) fn seal(&self, number: Number) {
        self.set(number, Fate::Sealed);
    }

    /// Each of these recipients is to have it.
    pub(crate) fn acknowledge(&self, number: Number, recipients: &'static [&'static str]) {
        let stage = self.stage.lock().expect("no holder panics").clone();
        let mut promises = self.promises.lock().expect("no holder panics");
        promises.insert(number, Promise { stage, recipients });
        drop(promises);
        self.set(number, Fate::Acknowledged);
    }

    fn set(&self, number: Number, fate: Fate) {
        self.fates
            .lock()
            .expect("no holder panics")
            .insert(number, fate);
    }

    fn of(&self, fate: Fate) -> Vec<Number> {
        let fates = self.fates.lock().expect("no holder panics");
        let mut numbers: Vec<Number> = (fates.iter())
            .filter(|(_, other)| **other == fate)
            .map(|(number, _)| *number)
            .collect();
        numbers.sort();
        numbers
    }

    /// How many messages were acknowledged.
    pub(crate) fn acknowledged(&self) -> usize {
        self.of(Fate::Acknowledged).len()
    }

    /// In words, for a report.
    pub(crate) fn summary(&self) -> String {
        let count = |fate| self.of(fate).len();
        format!(
            "{} acknowledged, {} sealed without an answer, {} never sealed",
            count(Fate::Acknowledged),
            count(Fate::Sealed),
            count(Fate::Begun)
        )
    }

    /// The text of a message, the same each time.
    pub(crate) fn text(&self, number: Number) -> Vec<u8> {
        let mut random = Random(self.seed ^ number.0.wrapping_mul(0x2545_F491_4F6C_DD1D));
        let size = match random.below(10) {
            0 => random.below(BODY_BYTES_MAX),
            1..4 => random.below(20_000),
            _ => random.below(1500),
        };
        let mut text = format!("X-Number: {}\r\nSubject: load\r\n\r\n", number.0).into_bytes();
        while (text.len() as u64) < size {
            match random.below(8) {
                0 => text.extend_from_slice(b".\r\n"),
                1 => text.extend_from_slice(b"\r\n"),
                2 => text.extend_from_slice(b"..dots\r\n"),
                _ => {
                    let line = format!("{:016x}", random.next()).repeat(random.below(8) as usize);
                    text.extend_from_slice(line.as_bytes());
                    text.extend_from_slice(b"\r\n");
                }
            }
        }
        text
    }

    /// Which message this is.
    pub(crate) fn number(mail: &Mail) -> Number {
        let (_, rest) = without_trace(&mail.octets);
        let line = rest
            .split(|&octet| octet == b'\r')
            .next()
            .unwrap_or_default();
        let line = String::from_utf8_lossy(line);
        let number = line
            .strip_prefix("X-Number: ")
            .and_then(|text| text.parse().ok());
        Number(number.unwrap_or_else(|| panic!("a message that nobody sent: {line:?}")))
    }

    /// The judgement. Gives the number of copies above one of each recipient.
    #[track_caller]
    pub(crate) fn judge(&self, mail: &[Mail]) -> usize {
        let mut copies = Copies::default();
        self.look_at(&mut copies, mail);
        self.judge_copies(&copies)
    }

    /// Looks at some of what came. What was looked at need not be kept.
    #[track_caller]
    pub(crate) fn look_at(&self, copies: &mut Copies, mail: &[Mail]) {
        for mail in mail {
            let number = Self::number(mail);
            let fates = self.fates.lock().expect("no holder panics");
            assert_ne!(
                fates.get(&number),
                Some(&Fate::Begun),
                "message {number:?} was never sealed and was delivered"
            );
            drop(fates);
            let (_, rest) = without_trace(&mail.octets);
            let expected = self.text(number);
            assert!(
                rest == expected,
                "message {number:?} was changed: {} octets came, {} were sent",
                rest.len(),
                expected.len()
            );
            for recipient in &mail.recipients {
                let copy = (number, self::recipient(recipient).to_owned());
                *copies.0.entry(copy).or_default() += 1;
            }
        }
    }

    /// The judgement about all that was looked at. Gives the number of copies above one of
    /// each recipient.
    #[track_caller]
    pub(crate) fn judge_copies(&self, Copies(copies): &Copies) -> usize {
        let promises = self.promises.lock().expect("no holder panics");
        let mut lost = Vec::new();
        for number in self.of(Fate::Acknowledged) {
            let Promise { stage, recipients } = &promises[&number];
            let missing =
                |recipient: &&&str| !copies.contains_key(&(number, (**recipient).to_owned()));
            let missing = recipients.iter().filter(missing);
            lost.extend(missing.map(|recipient| (number, *recipient, stage)));
        }
        assert!(
            lost.is_empty(),
            "messages were acknowledged and are lost: {lost:?}"
        );
        copies.values().map(|count| count - 1).sum()
    }
}

/// The argument of RCPT without its parameters.
pub(crate) fn recipient(argument: &str) -> &str {
    argument.split(' ').next().unwrap_or_default()
}

/// How often each message came to each of its recipients.
#[derive(Debug, Default)]
pub(crate) struct Copies(BTreeMap<(Number, String), usize>);
