//! Which second deliveries the end of a life of the program may cost: of what was on its
//! way, and of what was delivered so shortly before that its done record was not where that
//! end could not take it.
//!
//! Relies on: each life has a next hop of its own, or none, so that what came in a life was
//! taken before the next one began.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::harness::sink::Mail;
use crate::ledger::{Ledger, Number, recipient};

/// By how much a busy machine may be late with what is due.
pub(crate) const LATE_MAX: Duration = Duration::from_secs(1);

/// The end of a life of the program.
#[derive(Debug)]
struct Break {
    at: Instant,
    /// What was delivered since then may come again.
    since: Instant,
    /// When the next life began.
    over: Instant,
}

/// All of a test.
#[derive(Debug, Default)]
pub(crate) struct Breaks(Vec<Break>);

/// What came more than once.
#[derive(Debug, Default)]
pub(crate) struct Again {
    pub(crate) count: usize,
    /// How long before the end of its life the first of two deliveries was, at most.
    pub(crate) oldest: Duration,
}

impl Breaks {
    /// The program was ended at this time, and is started again now. What was done `within`
    /// before may not have been stored.
    pub(crate) fn add(&mut self, at: Instant, within: Duration) {
        self.0.push(Break {
            at,
            since: at.checked_sub(within).unwrap_or(at),
            over: Instant::now(),
        });
    }

    /// Every second delivery is excused by one of these.
    #[track_caller]
    pub(crate) fn judge(&self, mail: &[Mail]) -> Again {
        let mut copies: BTreeMap<(Number, &str), Vec<Instant>> = BTreeMap::new();
        for mail in mail {
            let number = Ledger::number(mail);
            for to in &mail.recipients {
                copies
                    .entry((number, recipient(to)))
                    .or_default()
                    .push(mail.at);
            }
        }
        let mut again = Again::default();
        for (copy, mut times) in copies {
            times.sort_unstable();
            for pair in times.windows(2) {
                let (first, second) = (pair[0], pair[1]);
                let between = self.0.iter().filter(|b| first <= b.over && b.at <= second);
                let nearest = between.min_by_key(|b| b.at.saturating_duration_since(first));
                let nearest = nearest.unwrap_or_else(|| {
                    panic!("{copy:?} was delivered twice in one life of the program")
                });
                let age = nearest.at.saturating_duration_since(first);
                assert!(
                    nearest.since <= first,
                    "{copy:?} was delivered {age:?} before the program was ended, and again; \
                     what is older than {:?} is stored",
                    nearest.at - nearest.since
                );
                again.count += 1;
                again.oldest = again.oldest.max(age);
            }
        }
        again
    }
}
