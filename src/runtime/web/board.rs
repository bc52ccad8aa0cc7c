//! What the page shows: the last answer of the cores, and how the counters moved.
//!
//! The cores are asked once in [`REFRESH`], however many look at the page or collect
//! metrics; so a browser that polls a busy server costs it nothing but the sending.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use serde::Serialize;

use crate::core::admin::Status;
use crate::core::latency::Latency;
use crate::time::{Instant, Now};

/// How often the cores are asked.
pub(super) const REFRESH: Duration = Duration::from_secs(2);

/// Samples that are kept: five minutes of them.
const SAMPLES_MAX: usize = 150;

/// An answer that is older says nothing of the server as it is.
pub(super) const STALE: Duration = Duration::from_secs(10);

/// The counters at one time.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Sample {
    /// Milliseconds since 1970.
    at_millis: i64,
    messages_in: u64,
    octets_in: u64,
    messages_out: u64,
    octets_out: u64,
    sessions: u64,
    waiting: u64,
    #[serde(skip)]
    commit: Latency,
    #[serde(skip)]
    acceptance: Latency,
}

/// Half of all, and all but a hundredth, took at most this.
#[derive(Clone, Copy, Debug, Serialize)]
struct Percentiles {
    count: u64,
    half_micros: Option<u64>,
    most_micros: Option<u64>,
}

impl Percentiles {
    fn of(latency: &Latency) -> Self {
        Self {
            count: latency.count(),
            half_micros: latency.percentile_micros(50),
            most_micros: latency.percentile_micros(99),
        }
    }
}

/// What the page is sent.
#[derive(Debug, Serialize)]
struct Page<'a> {
    hostname: &'a str,
    #[serde(flatten)]
    status: &'a Status,
    samples: &'a [Sample],
    /// Of the time of the samples.
    commit_lately: Percentiles,
    /// The same, of what a client waits for.
    acceptance_lately: Percentiles,
}

/// One answer of the cores.
#[derive(Debug)]
pub(super) struct Snapshot {
    /// The answer.
    pub(super) status: Status,
    taken: Instant,
    samples: Vec<Sample>,
    hostname: String,
    /// Made when the first asks.
    json: OnceLock<Arc<str>>,
}

#[derive(Debug, Default)]
struct Inner {
    latest: Option<Arc<Snapshot>>,
    samples: VecDeque<Sample>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Board {
    hostname: String,
    inner: Mutex<Inner>,
}

impl Board {
    /// Nothing on it.
    #[must_use]
    pub(super) fn new(hostname: String) -> Self {
        Self {
            hostname,
            inner: Mutex::default(),
        }
    }

    /// The cores have answered.
    pub(super) fn put(&self, now: Now, status: Status) {
        let sample = sample(now, &status);
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.samples.len() >= SAMPLES_MAX {
            inner.samples.pop_front();
        }
        inner.samples.push_back(sample);
        let samples = inner.samples.iter().copied().collect();
        inner.latest = Some(Arc::new(Snapshot {
            status,
            taken: now.instant,
            samples,
            hostname: self.hostname.clone(),
            json: OnceLock::new(),
        }));
    }

    /// What is on it, if it is not [`STALE`].
    ///
    /// # Errors
    /// A sentence for the operator.
    pub(super) fn latest(&self, now: Now) -> Result<Arc<Snapshot>, &'static str> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        match &inner.latest {
            None => Err("the data cores have not answered yet"),
            Some(snapshot) if now.instant.since(snapshot.taken) > STALE => {
                Err("the data cores do not answer; look at the log")
            }
            Some(snapshot) => Ok(Arc::clone(snapshot)),
        }
    }
}

impl Snapshot {
    /// As the page wants it.
    #[must_use]
    pub(super) fn json(&self) -> Arc<str> {
        let json = self.json.get_or_init(|| {
            let first = self.samples.first().copied().unwrap_or_default();
            let live = &self.status.live;
            let page = Page {
                hostname: &self.hostname,
                status: &self.status,
                samples: &self.samples,
                commit_lately: Percentiles::of(&live.commit.since(&first.commit)),
                acceptance_lately: Percentiles::of(&live.acceptance.since(&first.acceptance)),
            };
            let text = serde_json::to_string(&page);
            text.expect("these types have no map with other keys")
                .into()
        });
        Arc::clone(json)
    }
}

fn sample(now: Now, status: &Status) -> Sample {
    let counter = |name: &str| status.counters.get(name).copied().unwrap_or(0);
    let sessions = status.live.sessions.by_role();
    Sample {
        at_millis: now.wall.as_millis(),
        messages_in: counter("messages_accepted"),
        octets_in: counter("octets_accepted"),
        messages_out: counter("messages_delivered"),
        octets_out: counter("octets_delivered"),
        sessions: sessions.iter().map(|(_, open)| open).sum(),
        waiting: counter("queue_messages"),
        commit: status.live.commit,
        acceptance: status.live.acceptance,
    }
}
