//! How worlds are played: a few for each test, many for a hunt, one to be looked at.

use std::fmt::Debug;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Worlds that are played twice: nothing may hang on anything but the seed.
const REPEATED: u64 = 50;

/// Failed worlds after which a hunt ends.
const FAILURES_MAX: usize = 20;

/// Worlds that once showed a fault, far from where a test run begins to count.
pub(crate) type Shown = [(u64, &'static str)];

/// What several worlds came to.
pub(crate) trait Total: Default + PartialEq + Debug + Send {
    fn add(&mut self, other: &Self);
}

/// A number that the environment gives.
pub(crate) fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is a number")),
    )
}

/// Plays the worlds of a test on so many threads, and gives what they came to; nothing if
/// it was one that is to be looked at. Those that have shown something come first, but for
/// a hunt, which looks elsewhere.
pub(crate) fn play<T: Total>(
    test: &str,
    shown: &Shown,
    seeds: u64,
    threads: usize,
    world: impl Fn(u64, bool) -> T + Copy + Send + std::marker::Sync,
) -> Option<T> {
    if let Some(seed) = number("TURNSPOOL_SIM_SEED") {
        let summary = world(seed, true);
        eprintln!("{summary:#?}");
        return None;
    }
    let hunts = number("TURNSPOOL_SIM_SEEDS");
    let hunt = Hunt {
        test,
        shown: if hunts.is_some() { &[] } else { shown },
        from: number("TURNSPOOL_SIM_FROM").unwrap_or(1),
        seeds: hunts.unwrap_or(seeds),
        goes_on: hunts.is_some(),
        next: AtomicU64::new(0),
        failed: Mutex::default(),
    };
    let began = std::time::Instant::now();
    let mut total = T::default();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads.max(1))
            .map(|_| scope.spawn(|| hunt.share(world)))
            .collect();
        for thread in threads {
            total.add(&thread.join().expect("worlds fail, and not their players"));
        }
    });
    let Hunt { from, .. } = hunt;
    let took = began.elapsed().as_secs_f64();
    eprintln!(
        "{test}: {} worlds from {from} on {threads} threads, {:.0} a second: {total:?}",
        hunt.seeds,
        hunt.seeds as f64 / took
    );
    let failed = hunt.failed.into_inner().expect("nobody failed with it");
    assert!(failed.is_empty(), "{test}: these worlds failed: {failed:?}");
    Some(total)
}

/// What the threads share.
struct Hunt<'a> {
    test: &'a str,
    shown: &'a Shown,
    from: u64,
    seeds: u64,
    /// What one world found, the next ones find, too; a hunter wants them all.
    goes_on: bool,
    /// The next world, counted from the first that has shown something.
    next: AtomicU64,
    failed: Mutex<Vec<u64>>,
}

impl Hunt<'_> {
    /// The world of a number, with what it once showed; none behind the last.
    fn seed(&self, number: u64) -> Option<(u64, String)> {
        let shown = self.shown.len() as u64;
        if let Some((seed, what)) = self.shown.get(number as usize) {
            return Some((*seed, format!(", as once before: {what}")));
        }
        let number = number - shown;
        (number < self.seeds).then(|| (self.from + number, String::new()))
    }

    /// Plays worlds until there are no more, or enough have failed.
    fn share<T: Total>(&self, world: impl Fn(u64, bool) -> T) -> T {
        let mut total = T::default();
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let failures = self.failed.lock().expect("nobody fails with it").len();
            let enough = if self.goes_on { FAILURES_MAX } else { 1 };
            let Some((seed, what)) = self.seed(number) else {
                return total;
            };
            if failures >= enough {
                return total;
            }
            let twice = number < REPEATED;
            let played = panic::catch_unwind(AssertUnwindSafe(|| {
                let summary = world(seed, false);
                if twice {
                    let again = world(seed, false);
                    assert_eq!(
                        summary, again,
                        "world {seed} goes otherwise the second time"
                    );
                }
                summary
            }));
            match played {
                Ok(summary) => total.add(&summary),
                Err(_) => {
                    eprintln!(
                        "world {seed} failed{what}; to see it again: \
                         TURNSPOOL_SIM_SEED={seed} cargo test -p turnspool-simulation {}",
                        self.test
                    );
                    self.failed.lock().expect("nobody fails with it").push(seed);
                }
            }
        }
    }
}
