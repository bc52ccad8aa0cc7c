//! Hosts that accept connections and say nothing, beside one that works.

use super::*;
use crate::core::delivery::patience::PATIENCE;
use crate::time::Instant;

const SILENT: u32 = 200;
/// Connections at a time, of the bench.
const CONNECTIONS: u32 = 10;
/// RFC 5321 §4.5.3.2.1.
const GREETING: Duration = Duration::from_secs(300);

/// A bench in which each domain has its own host.
fn bench() -> Bench {
    let mut bench = Bench::new(PLENTY);
    bench.host = Some(SocketAddr::from(([10, 0, 0, 0], 25)));
    bench.apart = true;
    bench.host_answers = true;
    bench
}

/// One message each.
fn send(bench: &mut Bench, domains: impl IntoIterator<Item = String>) {
    let client = bench.accept();
    bench.receive(client, b"EHLO x\r\n");
    for domain in domains {
        let message =
            format!("MAIL FROM:<>\r\nRCPT TO:<b@{domain}>\r\nDATA\r\nSubject: x\r\n\r\nx\r\n.\r\n");
        bench.receive(client, message.as_bytes());
    }
    bench.receive(client, b"QUIT\r\n");
}

fn silent() -> impl Iterator<Item = String> {
    (1..=SILENT).map(|number| format!("d{number}.example"))
}

/// Whether the connection is one to the host that works.
fn is_good(bench: &Bench, connection: ConnectionId) -> bool {
    let host = Endpoint::Tcp(SocketAddr::from(([10, 0, 0, 0], 25)));
    bench.going.get(&connection) == Some(&host)
}

/// How long mail for the host that works waits until it is delivered, in whole seconds.
fn until_delivered(bench: &mut Bench) -> Duration {
    send(bench, ["good.example".to_owned()]);
    let begun = bench.now.instant;
    let delivered = |bench: &Bench| {
        bench.count(|fact| {
            let ending = Ending::Delivered;
            matches!(fact, Fact::Recipient { ending: e, .. } if *e == ending)
        })
    };
    let before = delivered(bench);
    loop {
        let good = |id: &ConnectionId| is_good(bench, *id) && !bench.closed.contains(id);
        for connection in bench
            .outgoing
            .iter()
            .copied()
            .filter(good)
            .collect::<Vec<_>>()
        {
            if !bench.said(connection).is_empty() {
                continue;
            }
            for reply in [
                "220 x",
                "250 x",
                "250 sender",
                "250 recipient",
                "354 go on",
                "250 taken",
            ] {
                bench.receive(connection, format!("{reply}\r\n").as_bytes());
            }
        }
        let waited = bench.now.instant.since(begun);
        if delivered(bench) > before {
            return waited;
        }
        assert!(waited < Duration::from_secs(24 * 3600), "it never comes");
        bench.wait(Duration::from_secs(1));
    }
}

/// Two hundred of them do not keep mail for another host waiting for longer than each of
/// them is given [`PATIENCE`]; and once they are known for what they are, for no time at
/// all, though they are tried again and again.
#[test]
fn silent_hosts_keep_no_other_mail_waiting() {
    let mut bench = bench();
    send(&mut bench, silent());
    let most = PATIENCE * SILENT.div_ceil(CONNECTIONS) + Duration::from_secs(5);
    let waited = until_delivered(&mut bench);
    assert!(waited <= most, "{waited:?}, not {most:?}");
    assert!(most < GREETING * 2, "it is worth it");
    let mut tried = bench.connects;
    for hour in 1..12 {
        bench.wait(Duration::from_secs(3600));
        let waited = until_delivered(&mut bench);
        assert_eq!(waited, Duration::ZERO, "in hour {hour}");
        assert!(bench.connects > tried + 20, "they are tried no more");
        tried = bench.connects;
    }
}

/// Where nobody else waits, a host has all the time that RFC 5321 gives it.
#[test]
fn a_slow_host_has_its_time_where_nobody_waits() {
    let mut bench = bench();
    send(&mut bench, ["d1.example".to_owned()]);
    let host = bench.outgoing[0];
    bench.wait(GREETING - Duration::from_secs(1));
    assert!(!bench.closed.contains(&host));
    bench.wait(Duration::from_secs(1));
    assert!(bench.closed.contains(&host));
}

/// Mail for the same host is not others: what waits there would wait for it as well.
#[test]
fn mail_for_the_same_host_takes_no_connection_from_it() {
    let mut bench = bench();
    send(&mut bench, vec!["d1.example".to_owned(); 50]);
    let host = bench.outgoing[0];
    bench.wait(GREETING - Duration::from_secs(1));
    assert!(!bench.closed.contains(&host));
}

/// Where others wait all the time, a slow host has longer each time: one that says no more
/// than this, how often it was connected to, and for how long.
#[track_caller]
fn check_longer(replies: &[&str]) {
    let mut bench = bench();
    send(&mut bench, ["d1.example".to_owned()]);
    let slow = Endpoint::Tcp(SocketAddr::from(([10, 0, 0, 1], 25)));
    let (mut seen, mut times) = (
        HashSet::new(),
        Vec::<(ConnectionId, Instant, Duration)>::new(),
    );
    let mut others = (2..).map(|number| format!("d{number}.example"));
    while times.len() < 3
        || times
            .last()
            .is_some_and(|(id, ..)| !bench.closed.contains(id))
    {
        assert!(bench.connects < 5000, "{times:?}");
        let now = bench.now.instant;
        let going = bench.going.iter().filter(|(_, to)| **to == slow);
        for connection in going.map(|(id, _)| *id).collect::<Vec<_>>() {
            let is_open = !bench.closed.contains(&connection);
            if is_open && seen.insert(connection) {
                for reply in replies {
                    bench.receive(connection, format!("{reply}\r\n").as_bytes());
                }
                times.push((connection, now, Duration::ZERO));
            }
        }
        for (connection, since, time) in &mut times {
            if !bench.closed.contains(connection) {
                *time = now.since(*since);
            }
        }
        // While it has a connection there are never enough for the others.
        let is_open = times
            .last()
            .is_some_and(|(id, ..)| !bench.closed.contains(id));
        if is_open && now.since(Instant::START).as_secs().is_multiple_of(10) {
            send(&mut bench, others.by_ref().take(CONNECTIONS as usize));
        }
        bench.wait(Duration::from_secs(1));
    }
    let times: Vec<_> = times.iter().map(|(_, _, time)| *time).collect();
    for (number, time) in times.iter().enumerate() {
        let least = PATIENCE * 2_u32.pow(number as u32);
        let most = least + Duration::from_secs(10);
        let looked = *time + Duration::from_secs(1);
        assert!(looked >= least && *time <= most, "{replies:?}: {times:?}");
    }
}

#[test]
fn a_slow_host_has_longer_each_time() {
    check_longer(&[]);
    check_longer(&["220 x", "250 x"]);
}
