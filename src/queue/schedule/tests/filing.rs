//! What is filed at the start is as if it had been queued one by one.

use super::*;
use crate::queue::schedule::filing::FiledRecipient;

/// A message with its recipients and where they go.
type Found = (MessageFacts, Vec<(FiledRecipient, NextHop)>);

fn found(jitter: &mut Jitter, number: u64) -> Found {
    let mut below = |limit: u64| jitter.next_u64() % limit;
    let domains = ["a.example", "b.example", "held.example", "held2.example"];
    let arrival = NOON + Duration::from_secs(60 * number);
    let hold_until = (below(8) == 0).then(|| HoldUntil::end(arrival + HOUR));
    let deadline = (below(5) == 0).then(|| DeliverBy {
        deadline: arrival + Duration::from_secs(below(90_000)),
        mode: [DeliverByMode::Return, DeliverByMode::Notify][below(2) as usize],
        trace: false,
    });
    let facts = MessageFacts {
        queue_id: QueueId::new(0, number),
        location: Location {
            log: LogId(0),
            segment: SegmentId(1),
            offset: Offset(number as u32),
        },
        octets: [100, 5000, 2 << 20][below(3) as usize],
        arrival,
        priority: Priority::new(below(3) as i8 - 1).unwrap(),
        deliver_by: deadline,
        hold_until,
        hold: [HoldState::Free, HoldState::Free, HoldState::Held][below(3) as usize],
    };
    let recipients = (0..1 + below(4) as u32).map(|recipient| {
        let tried = below(3) == 0;
        let next_attempt = NOON + Duration::from_secs(below(20_000));
        let recipient = FiledRecipient {
            recipient: RecipientIndex(recipient),
            destination: DestinationId(u32::MAX),
            attempts: if tried { 1 + below(5) as u16 } else { 0 },
            not_before: tried.then_some(next_attempt),
            told: [Told::NOTHING, Told::DELAY][below(2) as usize],
        };
        (recipient, to(domains[below(4) as usize]))
    });
    (facts, recipients.collect())
}

#[test]
fn filed_is_as_if_queued_one_by_one() {
    for seed in 0..200 {
        let mut jitter = Jitter::new(seed);
        let count = jitter.next_u64() % 25;
        let messages: Vec<Found> = (0..count).map(|n| found(&mut jitter, n)).collect();
        let desk = || {
            let mut desk = Desk::new(4, policy(2));
            desk.pass(Duration::from_secs(3600));
            desk
        };
        let mut one_by_one = desk();
        for (facts, recipients) in &messages {
            let recipients = recipients.iter().map(|(new, next_hop)| NewRecipient {
                recipient: new.recipient,
                next_hop: next_hop.as_ref(),
                attempts: new.attempts,
                not_before: new.not_before,
                told: new.told,
            });
            let message = NewMessage { facts: *facts };
            one_by_one
                .schedule
                .enqueue(one_by_one.now, &message, recipients);
        }
        let mut at_once = desk();
        let mut filing = at_once.schedule.filing(at_once.now, 0);
        for (facts, recipients) in &messages {
            let recipients: Vec<_> = recipients
                .iter()
                .map(|(new, next_hop)| FiledRecipient {
                    destination: filing.destination(next_hop.as_ref()),
                    ..*new
                })
                .collect();
            filing.message(facts, &recipients);
        }
        filing.finish();
        at_once.schedule.check_places();
        // Who is in line for a connection is the same; one by one, who wanted one first is
        // ahead.
        for desk in [&mut at_once, &mut one_by_one] {
            desk.schedule.line.queued.make_contiguous().sort_unstable();
        }
        // All that there is: so few messages stand in one block of each roster.
        let state = |desk: &Desk| format!("{:#?}", desk.schedule);
        assert_eq!(state(&at_once), state(&one_by_one), "seed {seed}");
        assert_eq!(at_once.poll(), one_by_one.poll(), "seed {seed}");
    }
}
