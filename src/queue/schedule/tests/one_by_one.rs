//! Mail that was let go before the rest of its held queue.

use super::*;

const HELD: &str = "held.example";

fn site() -> NextHop {
    NextHop::Site {
        customer: "c".parse().unwrap(),
        domain: HELD.parse().unwrap(),
    }
}

/// Lets a message go by itself, as the core does.
fn let_go(desk: &mut Desk, id: QueueId) {
    (desk.schedule).reroute(desk.now, id, &[(RecipientIndex(0), site())]);
    desk.schedule.release(desk.now, Selection::Message(id));
}

fn take_back(desk: &mut Desk, id: QueueId) {
    (desk.schedule).reroute(desk.now, id, &[(RecipientIndex(0), to(HELD))]);
}

fn held(desk: &mut Desk) -> QueueId {
    desk.enqueue(Mail {
        to: &[HELD],
        ..PLAIN
    })
}

#[test]
fn it_is_tried_until_it_is_taken_and_the_rest_waits() {
    let mut desk = Desk::new(5, policy(1));
    let [alone, rest] = [(); 2].map(|()| held(&mut desk));
    let_go(&mut desk, alone);
    let connection = desk.connect();
    let job = desk.job(connection);
    assert_eq!(job.queue_id, alone);
    desk.ends(&job, RecipientOutcome::Deferred);
    let said = desk.poll();
    assert!(
        !said
            .iter()
            .any(|o| matches!(o, Output::ReleaseEnded { .. }))
    );
    assert_eq!(desk.schedule.take(desk.now, connection), Take::Wait);
    // By the rule of its customer, not at the next release.
    let (pause, connection) = {
        let said = desk.pass_by(9 * MINUTE);
        assert!(said.contains(&Output::Quit { connection }), "{said:?}");
        (desk.schedule).connection_closed(desk.now, connection);
        desk.wait_for_connection()
    };
    assert!(pause <= MINUTE, "{pause:?}");
    (desk.schedule).connection_failed(desk.now, connection, ConnectionFailure::Unusable);
    let (_, connection) = desk.wait_for_connection();
    assert_eq!(desk.order(connection), [alone]);
    (desk.schedule).connection_closed(desk.now, connection);
    let said = desk.pass_by(12 * HOUR);
    assert!(!said.iter().any(|o| matches!(o, Output::Connect { .. })));
    assert!(desk.schedule.index().get(rest).is_some());
}

/// Any number of failures for one message is no attempt for those that are held.
#[test]
fn its_failures_are_not_those_of_the_held() {
    let fixed = Retry::Fixed {
        tries: 3,
        every: 5 * MINUTE,
        give_up: 5 * DAY,
    };
    let mut desk = Desk::new(
        5,
        Policy {
            retry: fixed,
            ..policy(1)
        },
    );
    let [alone, rest] = [(); 2].map(|()| held(&mut desk));
    let_go(&mut desk, alone);
    let mut expired = Vec::new();
    while expired.is_empty() {
        let (_, connection) = desk.wait_for_connection();
        let unusable = ConnectionFailure::Unusable;
        (desk.schedule).connection_failed(desk.now, connection, unusable);
        expired.extend(desk.poll().into_iter().filter_map(|output| match output {
            Output::Expired { queue_id, .. } => Some(queue_id),
            _ => None,
        }));
    }
    assert_eq!(expired, [alone]);
    assert!(desk.schedule.index().get(rest).is_some());
}

#[test]
fn a_release_of_the_customer_and_a_visit_take_it_along() {
    let customer: crate::route::CustomerName = "c".parse().unwrap();
    let hop = to(HELD);
    let selections = [
        Selection::NextHop(hop.as_ref()),
        Selection::Customer(&customer),
        Selection::CustomerBelow(&customer, "example"),
    ];
    for selection in selections {
        let mut desk = Desk::new(5, policy(1));
        let [alone, rest] = [(); 2].map(|()| held(&mut desk));
        let_go(&mut desk, alone);
        let connection = desk.connect();
        let job = desk.job(connection);
        desk.ends(&job, RecipientOutcome::Deferred);
        (desk.schedule).connection_closed(desk.now, connection);
        desk.poll();
        assert_eq!(desk.schedule.waiting(selection).messages, 2);
        assert_eq!(desk.schedule.held_for(&customer).messages, 1);
        assert_eq!(desk.schedule.on_offer(&[selection]).messages, 2);
        assert!(!desk.schedule.is_released(selection));
        assert_eq!(desk.schedule.release(desk.now, selection).messages, 2);
        assert!(desk.schedule.is_released(selection));
        // One site, one limit: the second connection comes when the first has gone.
        let mut sent = Vec::new();
        for _ in 0..2 {
            let connection = desk.connect();
            sent.extend(desk.order(connection));
            (desk.schedule).connection_closed(desk.now, connection);
        }
        sent.sort_unstable();
        assert_eq!(sent, [alone, rest]);
        // By a call of the customer.
        let [alone, rest] = [(); 2].map(|()| held(&mut desk));
        let_go(&mut desk, alone);
        let visit = desk.schedule.begin_visit(desk.now, &[selection]);
        let mut taken = visited(&mut desk, visit);
        taken.sort_unstable();
        assert_eq!(taken, [alone, rest]);
        desk.schedule.end_visit(desk.now, visit);
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    LetGo,
    TakeBack,
    HoldIt,
    ReleaseAll,
    Deliver,
    PutOff,
    Break,
    Pass,
}

const STEPS: [Step; 8] = [
    Step::LetGo,
    Step::TakeBack,
    Step::HoldIt,
    Step::ReleaseAll,
    Step::Deliver,
    Step::PutOff,
    Step::Break,
    Step::Pass,
];

/// A desk with two held messages, and what must be true of them.
struct Two {
    desk: Desk,
    alone: QueueId,
    rest: QueueId,
    connections: Vec<ConnectionId>,
    jobs: Vec<Job>,
    ended: Vec<QueueId>,
    /// The first one was let go, and not taken back or held since.
    free: bool,
    /// It is on hold by itself.
    on_hold: bool,
}

impl Two {
    fn new() -> Self {
        let mut desk = Desk::new(5, policy(2));
        let [alone, rest] = [(); 2].map(|()| held(&mut desk));
        Self {
            desk,
            alone,
            rest,
            connections: Vec::new(),
            jobs: Vec::new(),
            ended: Vec::new(),
            free: false,
            on_hold: false,
        }
    }

    fn is_at(&self, id: QueueId) -> Option<NextHop> {
        let entry = self.desk.schedule.index().get(id)?;
        let share = entry.shares().next()?;
        self.desk.schedule.next_hop(share.destination).cloned()
    }

    /// On the wire it stays where it is.
    fn look(&mut self) {
        self.free = self.is_at(self.alone) == Some(site()) && !self.on_hold;
    }

    /// Performs what is wanted, and takes all work that there is.
    fn drain(&mut self, trace: &[Step]) {
        loop {
            let said = self.desk.poll();
            if said.is_empty() {
                break;
            }
            for output in said {
                match output {
                    Output::Connect { connection, .. } => {
                        self.connections.push(connection);
                        self.take(connection, trace);
                    }
                    Output::Work { connection } => self.take(connection, trace),
                    Output::Quit { connection } => self.close(connection),
                    Output::Finished { queue_id, .. } => {
                        assert!(!self.ended.contains(&queue_id), "{trace:?}");
                        self.ended.push(queue_id);
                    }
                    _ => {}
                }
            }
        }
        self.desk.schedule.check_places();
    }

    fn take(&mut self, connection: ConnectionId, trace: &[Step]) {
        loop {
            match self.desk.schedule.take(self.desk.now, connection) {
                Take::Job(job) => {
                    let facts = self.desk.schedule.destination_facts(job.destination);
                    let facts = facts.expect("it leads somewhere");
                    let released = matches!(facts.gate, Gate::Released { .. });
                    match facts.next_hop {
                        NextHop::Hold { .. } => assert!(released, "{trace:?}"),
                        NextHop::Site { .. } => {
                            assert_eq!(job.queue_id, self.alone, "{trace:?}");
                            assert!(self.free, "{trace:?}");
                        }
                        other => panic!("{trace:?}: {other}"),
                    }
                    let twice = self.jobs.iter().any(|j| j.queue_id == job.queue_id);
                    assert!(!twice && !self.ended.contains(&job.queue_id), "{trace:?}");
                    self.jobs.push(job);
                }
                Take::Wait => return,
                Take::Quit => {
                    if self.jobs.is_empty() {
                        self.close(connection);
                    }
                    return;
                }
            }
        }
    }

    fn close(&mut self, connection: ConnectionId) {
        self.connections.retain(|other| *other != connection);
        (self.desk.schedule).connection_closed(self.desk.now, connection);
        self.forget_jobs();
    }

    /// Jobs whose connection has gone are nobody's.
    fn forget_jobs(&mut self) {
        let schedule = &self.desk.schedule;
        (self.jobs).retain(|job| schedule.jobs.get(job.id.0).is_some());
    }

    fn step(&mut self, step: Step, trace: &[Step]) {
        let (now, alone) = (self.desk.now, self.alone);
        let is_there = !self.ended.contains(&alone);
        match step {
            Step::LetGo if is_there => {
                let_go(&mut self.desk, alone);
                self.on_hold = false;
                self.look();
            }
            Step::TakeBack if is_there => {
                take_back(&mut self.desk, alone);
                self.look();
            }
            Step::HoldIt => {
                self.desk.schedule.hold(now, Selection::Message(alone));
                self.on_hold = true;
                self.look();
            }
            Step::ReleaseAll => {
                let customer = "c".parse().unwrap();
                self.desk
                    .schedule
                    .release(now, Selection::Customer(&customer));
            }
            Step::Deliver | Step::PutOff => {
                let outcome = match step {
                    Step::Deliver => RecipientOutcome::Delivered,
                    _ => RecipientOutcome::Deferred,
                };
                if let Some(job) = self.jobs.pop() {
                    self.desk.ends(&job, outcome);
                }
            }
            Step::Break => {
                if let Some(connection) = self.connections.pop() {
                    let lost = ConnectionFailure::Lost;
                    (self.desk.schedule).connection_failed(now, connection, lost);
                    self.forget_jobs();
                }
            }
            Step::Pass => self.desk.pass(11 * MINUTE),
            Step::LetGo | Step::TakeBack => {}
        }
        self.drain(trace);
    }
}

/// All that can happen to two held messages in four steps, of which one may be let go by
/// itself: neither is sent without leave, twice at a time or again after it was taken, and
/// one that was let go arrives in the end by itself.
#[test]
fn whatever_happens_only_what_may_go_goes() {
    let mut arrived = 0;
    for number in 0..STEPS.len().pow(4) {
        let trace = [0, 1, 2, 3].map(|place| STEPS[number / STEPS.len().pow(place) % STEPS.len()]);
        let mut two = Two::new();
        two.drain(&[]);
        for step in trace {
            two.step(step, &trace);
        }
        // From now on the site takes everything, and nobody does anything.
        let waits = !two.ended.contains(&two.alone) && two.free;
        for _ in 0..64 {
            while let Some(job) = two.jobs.pop() {
                two.desk.ends(&job, RecipientOutcome::Delivered);
                two.drain(&trace);
            }
            two.desk.pass(11 * MINUTE);
            two.drain(&trace);
        }
        if waits {
            assert!(two.ended.contains(&two.alone), "{trace:?}");
            arrived += 1;
        }
        if !trace.contains(&Step::ReleaseAll) {
            assert!(!two.ended.contains(&two.rest), "{trace:?}");
        }
    }
    assert!(arrived > 500, "{arrived}");
}
