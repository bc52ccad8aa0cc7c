//! Windows in which a site is tried unasked: how many may be missed before its mail is
//! given up, and that many sites do not have theirs at the same moment.

use crate::harness::message::{contains, message};
use crate::harness::{Setup, Sink, eventually, place};

const SENDER: &str = "<a@client.example>";

fn customer(name: &str, deliver_to: &str, lines: &str) -> String {
    format!(
        "[[customer]]\nname = \"{name}\"\ndomains = [\"{name}.example\"]\n\
         deliver_to = \"{deliver_to}\"\nrelease = {{ every = \"10s\" }}\n{lines}\n"
    )
}

/// Counted are the windows in which the site was not there: behind so many the sender hears
/// of it, and not before.
#[test]
fn mail_is_given_up_when_its_windows_were_missed() {
    let senders = Sink::new();
    // A host that is dead is dead for both, so each has one of its own.
    let nowhere = || place::next_address().to_string();
    let mut relay = Setup::new()
        .cores(2)
        .route("client.example", senders.address())
        .customer(&customer("one", &nowhere(), "retention = { windows = 1 }"))
        .customer(&customer("two", &nowhere(), "retention = { windows = 2 }"))
        .start();
    let mut client = relay.client();
    for name in ["one", "two"] {
        let to = format!("<b@{name}.example>");
        client.send(SENDER, &[&to], &message(name, "text"));
    }
    for name in ["one", "two"] {
        for what in [", by interval: started", " ended after "] {
            let line = format!("release of {name}{what}");
            eventually(&line, || relay.log().contains(&line).then_some(()));
        }
    }
    let mail = senders.wait_for_one();
    for part in ["\r\nAction: failed\r\n", "rfc822;b@one.example\r\n"] {
        assert!(contains(&mail.octets, part), "no {part:?}: {mail:?}");
    }
    eventually("the other one is kept", || {
        (relay.queued().len() == 1).then_some(())
    });
    let left = relay.facts(&["queue", "list", "--customer", "two"]);
    assert_eq!(left.len(), 1);
    assert_eq!(senders.count(), 1);
    let log = relay.log();
    let missed = log.matches("the site could not be reached").count();
    assert_eq!(missed, 2, "{log}");
    relay.stop();
}

/// When the lines of the log with these words were written, in seconds since 1970.
fn seconds(log: &str, words: &str) -> Vec<i64> {
    let lines = log.lines().filter(|line| line.contains(words));
    let second = |line: &str| {
        let (time, _) = line.split_once(' ').expect("a time");
        let time: jiff::Timestamp = time.parse().expect("a time of RFC 3339");
        time.as_second()
    };
    lines.map(second).collect()
}

#[test]
fn a_second_is_counted_at_midnight_too() {
    let log = "2026-11-29T23:59:59.999999Z INFO this\n2026-11-29T23:59:59Z INFO that\n\
               2026-11-30T00:00:00.000001Z INFO this\n";
    let found = seconds(log, "this");
    assert_eq!(found.len(), 2);
    assert_eq!(found[1] - found[0], 1);
}

/// After an outage of ours all sites with one interval have mail that waits, and are tried
/// one by one.
#[test]
fn many_sites_do_not_start_at_once() {
    const SITES: usize = 40;
    let site = Sink::new();
    let mut setup = Setup::new().cores(2);
    for number in 0..SITES {
        let name = format!("c{number}");
        setup = setup.customer(&customer(&name, &site.address().to_string(), ""));
    }
    let mut relay = setup.start();
    let mut client = relay.client();
    for number in 0..SITES {
        let to = format!("<b@c{number}.example>");
        client.send(SENDER, &[&to], &message(&number.to_string(), "text"));
    }
    relay.kill();
    let before = relay.log().len();
    let came = site.count();
    relay.start_again();
    site.wait_until("all have theirs", |mail| mail.len() >= SITES);
    relay.wait_until_empty();
    let log = relay.log().split_off(before);
    let mut started = seconds(&log, ", by interval: started");
    assert!(started.len() >= SITES - came, "{started:?}");
    started.sort_unstable();
    let fullest = started.chunk_by(|a, b| a == b).map(<[i64]>::len).max();
    assert!(fullest.is_some_and(|most| most <= SITES / 2), "{started:?}");
    let (first, last) = (started[0], started[started.len() - 1]);
    assert!(last - first >= 4, "{started:?}");
    relay.stop();
}
