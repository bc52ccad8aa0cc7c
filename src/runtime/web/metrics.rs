//! Metrics for Prometheus, in its text format, from one [`Status`].
//!
//! Names follow its conventions: base units, `_total` on what only grows, the unit in the
//! name. Label sets are closed or configured: a class, a role, a state, the name of a
//! customer or of a link. No octet of a peer becomes a label.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeGaugeValue, EncodeLabelSet, LabelSetEncoder, MetricEncoder,
    NoLabelSet, prometheus_text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use crate::core::admin::{LinkStatus, Status};
use crate::core::latency::{BOUNDS_MICROS, Latency};
use crate::time::WallTime;

/// What the text is, for the header field.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A counter of the data cores: its name there, its name here without `_total`, and what
/// it counts.
#[rustfmt::skip]
const COUNTERS: &[(&str, &str, &str)] = &[
    ("sessions", "turnspool_sessions", "Sessions that were greeted"),
    ("sessions_turned_away", "turnspool_sessions_turned_away", "Connections that got a 421 instead of a greeting"),
    ("logins", "turnspool_logins", "Clients that authenticated"),
    ("logins_failed", "turnspool_logins_failed", "Clients that failed to authenticate"),
    ("logins_banned", "turnspool_logins_banned", "Clients that were not let try to authenticate"),
    ("recipients_refused", "turnspool_recipients_refused", "Recipients refused at RCPT"),
    ("recipients_unknown", "turnspool_recipients_unknown", "Recipients refused since their customer's list does not have them"),
    ("recipients_asked", "turnspool_recipients_asked", "Recipients of which the site was asked"),
    ("recipients_over_quota", "turnspool_recipients_over_quota", "Recipients put off since their customer's quota is reached"),
    ("messages_accepted", "turnspool_messages_accepted", "Messages committed and answered 250"),
    ("octets_accepted", "turnspool_accepted_bytes", "Bytes of messages committed and answered 250"),
    ("messages_without_room", "turnspool_messages_without_room", "Messages answered 452 for want of room"),
    ("messages_abandoned", "turnspool_messages_abandoned", "Messages begun and not committed"),
    ("turns", "turnspool_turns", "Customers that called by ATRN and got their mail"),
    ("turns_refused", "turnspool_turns_refused", "Customers that called by ATRN in vain"),
    ("writes", "turnspool_log_writes", "Writes to the logs of the spool"),
    ("octets_written", "turnspool_log_written_bytes", "Bytes written to the logs of the spool"),
    ("flushes", "turnspool_log_syncs", "Syncs of the logs: group commits"),
    ("connections_out", "turnspool_connections_out", "Connections opened for delivery"),
    ("messages_delivered", "turnspool_messages_delivered", "Messages of which a next hop took at least one recipient"),
    ("octets_delivered", "turnspool_delivered_bytes", "Bytes of messages that a next hop took"),
    ("recipients_delivered", "turnspool_recipients_delivered", "Recipients that a next hop took"),
    ("recipients_deferred", "turnspool_recipients_deferred", "Attempts that ended with later"),
    ("recipients_failed", "turnspool_recipients_failed", "Recipients that failed for good"),
    ("messages_finished", "turnspool_messages_finished", "Messages with nobody left to go to"),
    ("notifications", "turnspool_notifications", "Notifications written to senders"),
    ("messages_carried", "turnspool_messages_carried", "Messages copied forward out of old segments"),
    ("segments_freed", "turnspool_segments_freed", "Segments that became free"),
];

/// The states of a link, as it tells them.
const LINK_STATES: [&str; 6] = ["down", "dialling", "up", "draining", "idle", "hanging up"];

/// The text.
#[must_use]
pub(super) fn text(now: WallTime, status: &Status) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Scrape {
        now,
        status: status.clone(),
    }));
    let mut text = String::new();
    prometheus_text::encode(&mut text, &registry).expect("a String takes everything");
    text
}

#[derive(Debug)]
struct Scrape {
    now: WallTime,
    status: Status,
}

/// Names and values. Those of one metric are always the same names.
struct Labels<'a>(&'a [(&'a str, &'a str)]);

impl EncodeLabelSet for Labels<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        self.0.encode(encoder)
    }
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Self { now, status } = self;
        let out = &mut encoder;
        let live = &status.live;
        gauges(
            out,
            "turnspool_build_info",
            "The version that runs",
            [([("version", status.program_version.as_str())], 1_u64)],
        )?;
        let started = status.started.0.as_millis() as f64 / 1000.0;
        gauge(
            out,
            "turnspool_start_time_seconds",
            "When it started, in seconds since 1970",
            started,
        )?;
        let ready = u64::from(live.readiness.trouble().is_none());
        gauge(
            out,
            "turnspool_ready",
            "1: new mail is taken; 0: it is not",
            ready,
        )?;
        for (counter, name, help) in COUNTERS {
            if let Some(value) = status.counters.get(*counter) {
                let mut metric = out.encode_descriptor(name, help, None, MetricType::Counter)?;
                metric.encode_counter::<NoLabelSet, _, u64>(value, None)?;
            }
        }
        let roles = live.sessions.by_role();
        gauges(
            out,
            "turnspool_sessions_open",
            "Open sessions and connections, by what they are for",
            roles.map(|(role, open)| ([("role", role)], open)),
        )?;
        let classes = || live.classes.iter().map(|(class, n)| (class.as_str(), n));
        gauges(
            out,
            "turnspool_queue_messages",
            "Messages that wait or are on their way, by what they wait for; one for two next \
             hops counts at both",
            classes().map(|(class, amount)| ([("class", class)], amount.messages)),
        )?;
        gauges(
            out,
            "turnspool_queue_bytes",
            "Bytes of messages that wait or are on their way",
            classes().map(|(class, amount)| ([("class", class)], amount.octets)),
        )?;
        let age = live.oldest.map_or(0.0, |at| now.since(at.0).as_secs_f64());
        gauge(
            out,
            "turnspool_queue_oldest_age_seconds",
            "How long the oldest message has waited; 0 if none waits",
            age,
        )?;
        gauge(
            out,
            "turnspool_queues",
            "Next hops with mail",
            live.queues_total,
        )?;
        let customers = || live.customers.iter();
        gauges(
            out,
            "turnspool_customer_messages",
            "Messages held for a customer; the customers with the most",
            customers().map(|c| ([("customer", c.name.as_str())], c.amount.messages)),
        )?;
        gauges(
            out,
            "turnspool_customer_bytes",
            "Bytes held for a customer; the customers with the most",
            customers().map(|c| ([("customer", c.name.as_str())], c.amount.octets)),
        )?;
        if let Some(octets) = status.counters.get("spool_bytes") {
            gauge(
                out,
                "turnspool_spool_bytes",
                "Bytes of all segments of the spool",
                *octets,
            )?;
        }
        if let Some(free) = live.disk_free_octets {
            gauge(
                out,
                "turnspool_disk_free_bytes",
                "Bytes that the file system of the spool has left",
                free,
            )?;
        }
        histogram(
            out,
            "turnspool_commit_seconds",
            "From the write of a batch until it was on stable storage",
            &live.commit,
        )?;
        histogram(
            out,
            "turnspool_acceptance_seconds",
            "From the end of a message until its commit: what a client waits for",
            &live.acceptance,
        )?;
        let links = live.links.as_ref().map_or(&[][..], |links| &links.links);
        encode_links(out, *now, links)
    }
}

fn encode_links(
    out: &mut DescriptorEncoder<'_>,
    now: WallTime,
    links: &[LinkStatus],
) -> fmt::Result {
    gauges(
        out,
        "turnspool_link_state",
        "1 for the state that a link is in",
        links.iter().flat_map(|link| {
            LINK_STATES.map(|state| {
                let labels = [("link", link.name.as_str()), ("state", state)];
                (labels, u64::from(link.state == state))
            })
        }),
    )?;
    gauges(
        out,
        "turnspool_link_state_age_seconds",
        "How long a link has been in its state",
        links.iter().map(|link| {
            let age = now.since(link.since.0).as_secs_f64();
            ([("link", link.name.as_str())], age)
        }),
    )?;
    let mut by_link = |name, help, value: fn(&LinkStatus) -> Option<u64>| {
        let values =
            (links.iter()).filter_map(|link| Some(([("link", link.name.as_str())], value(link)?)));
        gauges(out, name, help, values)
    };
    by_link(
        "turnspool_link_empty_seconds",
        "How long what waits will take, by what the link did lately",
        |link| link.empty_in_seconds,
    )?;
    by_link(
        "turnspool_link_budget_left_seconds",
        "Seconds on line that the budget of this period has left",
        |link| link.budget.as_ref()?.seconds_left,
    )?;
    by_link(
        "turnspool_link_budget_left_bytes",
        "Bytes that the budget of this period has left",
        |link| link.budget.as_ref()?.octets_left,
    )?;
    by_link(
        "turnspool_link_budget_spent_seconds",
        "Seconds on line in this period of the budget",
        |link| Some(link.budget.as_ref()?.seconds_spent),
    )
}

fn gauge(
    out: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: impl EncodeGaugeValue,
) -> fmt::Result {
    out.encode_descriptor(name, help, None, MetricType::Gauge)?
        .encode_gauge(&value)
}

/// A metric with labels; it is left out where there is nothing to tell.
fn gauges<'a, const N: usize, V: EncodeGaugeValue>(
    out: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    values: impl IntoIterator<Item = ([(&'a str, &'a str); N], V)>,
) -> fmt::Result {
    let mut values = values.into_iter().peekable();
    if values.peek().is_none() {
        return Ok(());
    }
    let mut metric: MetricEncoder<'_> =
        out.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (labels, value) in values {
        metric
            .encode_family(&Labels(&labels))?
            .encode_gauge(&value)?;
    }
    Ok(())
}

fn histogram(
    out: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    latency: &Latency,
) -> fmt::Result {
    let bounds = BOUNDS_MICROS.iter().map(|&micros| micros as f64 / 1e6);
    // The class without a bound follows from the count of all.
    let buckets: Vec<_> = bounds.zip(latency.counts).collect();
    let sum = latency.sum_micros as f64 / 1e6;
    out.encode_descriptor(name, help, None, MetricType::Histogram)?
        .encode_histogram::<NoLabelSet>(sum, latency.count(), &buckets, None)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::*;
    use crate::core::admin::{Amount, CustomerAmount, Date, Live, QueueClass};
    use crate::core::counters::Counters;

    /// A counter that is not exported is one that nobody is warned by.
    #[test]
    fn each_counter_has_a_metric() {
        let names: Vec<_> = Counters::default().iter().map(|(name, _)| name).collect();
        let told: Vec<_> = COUNTERS.iter().map(|(name, ..)| *name).collect();
        for name in &names {
            assert!(told.contains(name), "{name} has no metric");
        }
        for name in told {
            assert!(names.contains(&name), "{name} is no counter");
        }
    }

    #[test]
    fn the_text() {
        let counters = Counters::default().iter();
        let mut live = Live {
            classes: BTreeMap::from([(
                QueueClass::Held,
                Amount {
                    messages: 3,
                    octets: 3000,
                },
            )]),
            customers: vec![CustomerAmount {
                name: "branch".to_owned(),
                amount: Amount {
                    messages: 3,
                    octets: 3000,
                },
            }],
            oldest: Some(Date(WallTime::from_millis(1_000))),
            ..Live::default()
        };
        live.commit.record(Duration::from_micros(70));
        live.commit.record(Duration::from_secs(100));
        let status = Status {
            program_version: "1.2.3".to_owned(),
            started: Date(WallTime::from_millis(1_500)),
            counters: counters.map(|(name, _)| (name.to_owned(), 7)).collect(),
            states: BTreeMap::new(),
            live,
        };
        let text = text(WallTime::from_millis(61_000), &status);
        for expected in [
            "turnspool_build_info{version=\"1.2.3\"} 1\n",
            "turnspool_start_time_seconds 1.5\n",
            "# TYPE turnspool_messages_accepted_total counter\n",
            "turnspool_messages_accepted_total 7\n",
            "turnspool_queue_messages{class=\"held\"} 3\n",
            "turnspool_queue_oldest_age_seconds 60.0\n",
            "turnspool_customer_bytes{customer=\"branch\"} 3000\n",
            "turnspool_commit_seconds_bucket{le=\"5e-05\"} 0\n",
            "turnspool_commit_seconds_bucket{le=\"0.0001\"} 1\n",
            "turnspool_commit_seconds_bucket{le=\"+Inf\"} 2\n",
            "turnspool_commit_seconds_count 2\n",
        ] {
            assert!(text.contains(expected), "no {expected:?} in\n{text}");
        }
        assert!(!text.contains("link"), "this host has none:\n{text}");
    }
}
