//! Mail that needs the link of a site.

use super::*;
use crate::queue::schedule::link::{LINK_SETTLES, LINK_SETTLES_PAUSE};
use crate::queue::way::{NeedsLink, Outbound};

/// A desk of a site: everything but loopback needs the link.
fn site(retry: Retry) -> Desk {
    let mut desk = Desk::new(4, Policy { retry, ..policy(2) });
    let mut policies = desk.schedule.policies.clone();
    policies.link = NeedsLink::AllBut(vec!["127.0.0.0/8".parse().unwrap()]);
    let settings = Settings {
        core: CoreNumber(0),
        policies,
        idle: 5 * SECOND,
        seed: 1,
    };
    desk.schedule = Schedule::new(settings, Arc::new(Permits::new(4, 1)), desk.now);
    desk
}

fn exponential() -> Retry {
    policy(2).retry
}

#[test]
fn while_the_link_is_down_nothing_is_tried_and_what_waits_is_known() {
    let mut desk = site(exponential());
    desk.enqueue(PLAIN);
    desk.enqueue(Mail {
        priority: 4,
        octets: 50,
        ..PLAIN
    });
    assert_eq!(desk.connects(), []);
    let outbound = desk.schedule.outbound();
    let expected = Outbound {
        ready: 2,
        ready_octets: 1050,
        oldest: Some(NOON),
        priority: Some(4),
        waiting: 2,
        waiting_octets: 1050,
        ..Outbound::default()
    };
    assert_eq!(outbound, expected);
    desk.schedule.link(desk.now, LinkGate::Open);
    let connects = desk.connects();
    assert!(!connects.is_empty());
    let sent = desk.order(connects[0]);
    assert_eq!(sent.len(), 2);
    let outbound = desk.schedule.outbound();
    let expected = Outbound {
        sent: 2,
        sent_octets: 1050,
        ..Outbound::default()
    };
    assert_eq!(outbound, expected);
}

/// RFC 4865: that the line is up is no reason to send what its sender wants to wait.
#[test]
fn what_its_sender_put_off_waits_for_its_time_and_then_for_the_link() {
    let mut desk = site(exponential());
    let later = desk.enqueue(Mail {
        hold_for: Some(DAY),
        ..PLAIN
    });
    let now = desk.enqueue(PLAIN);
    desk.schedule.link(desk.now, LinkGate::Open);
    let connects = desk.connects();
    assert_eq!(desk.order(connects[0]), [now]);
    desk.pass_by(HOUR);
    desk.schedule.link(desk.now, LinkGate::Shut);
    desk.pass_by(DAY);
    assert_eq!(desk.schedule.outbound().ready, 1);
    desk.schedule.link(desk.now, LinkGate::Open);
    let connects = desk.connects();
    assert_eq!(desk.order(connects[0]), [later]);
}

#[test]
fn expiry_runs_and_tries_are_not_used_up_while_the_link_is_down() {
    let retry = Retry::Fixed {
        tries: 1,
        every: MINUTE,
        give_up: 2 * DAY,
    };
    let mut desk = site(retry);
    desk.enqueue(PLAIN);
    let said = desk.pass_by(DAY);
    let ended = |said: &[Output]| said.iter().any(|o| matches!(o, Output::Expired { .. }));
    assert!(!ended(&said), "{said:?}");
    assert!(ended(&desk.pass_by(2 * DAY)), "its time is over");
}

/// The line breaks in the middle: nobody knows better than that it was the line.
#[test]
fn what_the_link_cuts_off_is_no_attempt() {
    let retry = Retry::Fixed {
        tries: 1,
        every: MINUTE,
        give_up: 2 * DAY,
    };
    let mut desk = site(retry);
    desk.schedule.link(desk.now, LinkGate::Open);
    let id = desk.enqueue(PLAIN);
    let connection = desk.connect();
    let job = desk.job(connection);
    desk.schedule.link(desk.now, LinkGate::Shut);
    desk.schedule.outcome(desk.now, job.id, &[]);
    desk.schedule
        .connection_failed(desk.now, connection, ConnectionFailure::Unusable);
    assert_eq!(desk.connects(), []);
    let entry = desk.schedule.index().get(id).expect("it is still there");
    assert_eq!(entry.shares().next().unwrap().attempts, 0);
    assert_eq!(desk.schedule.outbound().ready, 1);
}

#[test]
fn a_link_that_goes_lets_what_is_on_the_wire_finish_and_nothing_else_begin() {
    let mut desk = site(exponential());
    desk.schedule.link(desk.now, LinkGate::Open);
    desk.enqueue(PLAIN);
    desk.enqueue(PLAIN);
    let connection = desk.connects()[0];
    let job = desk.job(connection);
    desk.schedule.link(desk.now, LinkGate::Shut);
    assert_eq!(desk.schedule.outbound().in_flight, 1);
    desk.ends(&job, RecipientOutcome::Delivered);
    assert_eq!(desk.schedule.take(desk.now, connection), Take::Quit);
    assert_eq!(desk.schedule.outbound().in_flight, 0);
    assert_eq!(desk.schedule.outbound().ready, 1);
}

/// A host that says "later" must not make the site dial at once again.
#[test]
fn deferred_mail_is_no_reason_to_dial_before_its_time_and_goes_with_the_next_link() {
    let mut desk = site(exponential());
    desk.schedule.link(desk.now, LinkGate::Open);
    desk.enqueue(PLAIN);
    let connection = desk.connect();
    let job = desk.job(connection);
    desk.ends(&job, RecipientOutcome::Deferred);
    desk.schedule.link(desk.now, LinkGate::Shut);
    desk.poll();
    desk.schedule.connection_closed(desk.now, connection);
    let outbound = desk.schedule.outbound();
    assert_eq!((outbound.ready, outbound.waiting), (0, 1));
    // Its time comes while the link is down.
    desk.pass_by(11 * MINUTE);
    assert_eq!(desk.schedule.outbound().ready, 1);
    desk.schedule.link(desk.now, LinkGate::Open);
    let connection = desk.connect();
    let job = desk.job(connection);
    desk.ends(&job, RecipientOutcome::Deferred);
    desk.schedule.link(desk.now, LinkGate::Shut);
    desk.schedule.connection_closed(desk.now, connection);
    // The link comes before its time.
    desk.poll();
    desk.schedule.link(desk.now, LinkGate::Open);
    let connection = desk.connect();
    assert_eq!(desk.order(connection).len(), 1);
}

/// A host that cannot be reached is tried with each link, and is no reason to dial.
#[test]
fn mail_for_a_closed_destination_is_no_reason_to_dial() {
    let mut desk = site(exponential());
    desk.schedule.link(desk.now, LinkGate::Open);
    desk.pass_by(LINK_SETTLES);
    desk.enqueue(PLAIN);
    let connection = desk.connect();
    desk.schedule
        .connection_failed(desk.now, connection, ConnectionFailure::Unusable);
    desk.poll();
    let outbound = desk.schedule.outbound();
    assert_eq!((outbound.ready, outbound.waiting), (0, 1));
    desk.schedule.link(desk.now, LinkGate::Shut);
    desk.poll();
    assert_eq!(desk.schedule.outbound().ready, 0);
    desk.schedule.link(desk.now, LinkGate::Open);
    assert_eq!(desk.connects().len(), 1, "at once");
}

#[test]
fn many_that_become_due_together_are_counted_in_portions() {
    let mut desk = site(exponential());
    for _ in 0..1000 {
        desk.enqueue(Mail {
            not_before: Some(MINUTE),
            ..PLAIN
        });
    }
    assert_eq!(desk.schedule.outbound().ready, 0);
    desk.pass_by(2 * MINUTE);
    assert_eq!(desk.schedule.outbound().ready, 1000);
}

/// The route, the DNS or the firewall may need a moment: to hang up for that and to dial
/// again would cost more.
#[test]
fn what_fails_just_after_the_link_has_come_up_is_tried_again_soon_and_is_no_attempt() {
    let retry = Retry::Fixed {
        tries: 2,
        every: 10 * MINUTE,
        give_up: 2 * DAY,
    };
    let mut desk = site(retry);
    desk.enqueue(PLAIN);
    desk.schedule.link(desk.now, LinkGate::Open);
    let connects = |said: Vec<Output>| -> Vec<ConnectionId> {
        assert!(
            !said.iter().any(|o| matches!(o, Output::Expired { .. })),
            "{said:?}"
        );
        let connects = said.into_iter().filter_map(|output| match output {
            Output::Connect { connection, .. } => Some(connection),
            _ => None,
        });
        connects.collect()
    };
    let fail = |desk: &mut Desk, wanted: Vec<ConnectionId>| {
        assert_eq!(wanted.len(), 1);
        desk.schedule
            .connection_failed(desk.now, wanted[0], ConnectionFailure::Unusable);
    };
    let mut wanted = desk.connects();
    let opened = desk.now.instant;
    let mut tries = 0;
    while desk.now.instant < opened + LINK_SETTLES {
        fail(&mut desk, wanted);
        tries += 1;
        assert_eq!(desk.schedule.outbound().ready, 1, "the link stays for it");
        wanted = connects(desk.pass_by(LINK_SETTLES_PAUSE));
    }
    assert_eq!(tries, 6);
    // Then it is the host, and the first of two tries.
    fail(&mut desk, wanted);
    assert_eq!(desk.schedule.outbound().ready, 0);
    assert_eq!(connects(desk.pass_by(9 * MINUTE)), []);
    assert_eq!(connects(desk.pass_by(MINUTE)).len(), 1);
}
