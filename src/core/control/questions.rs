//! The operator's questions: put to all data cores, answered once.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use super::{ADMIN_PATIENCE, ControlCore, ControlOperation, Question, Stop};
use crate::core::admin::{
    Changed, Collect, Command, CustomerAmount, Date, Found, Live, LogDetail, LogTranscript,
    Matching, Page, Reason, Response, Selection, Status, Tally, Text, Wanted, chosen,
};
use crate::core::collectors::Which;
use crate::core::listening::{self, Hear};
use crate::core::release::ReleaseAsker;
use crate::core::{AdminRequestId, Notice, inquiry};
use crate::mail::QueueId;
use crate::pop3::mailbox::Large;
use crate::route::CustomerName;
use crate::time::Now;

/// How far an answer is that takes several questions.
pub(super) enum Stage {
    /// The first, or the only one.
    First,
    /// All is there but the queues, which are being asked for.
    Status(Box<Status>),
    /// The queues that match, of the destinations that were looked at.
    Seeking(Vec<Tally>),
    /// So many match; the fullest are being asked for.
    Found(u64),
}

impl ControlCore {
    /// More or less detail in the log, from now on.
    pub fn set_detail(&mut self, detail: LogDetail) {
        if detail != self.detail {
            self.detail = detail;
            self.online.set_detail(detail.link);
            self.tell_all(&Notice::Hear(Hear::Detail(detail)));
            self.operations.push_back(ControlOperation::Detail(detail));
        }
    }

    /// Passes a question of the operator on to all data cores, or answers it here.
    pub(super) fn ask(&mut self, now: Now, request: AdminRequestId, command: Command) {
        match command {
            Command::Stop => {
                let response = Response::Done;
                self.operations
                    .push_back(ControlOperation::Answer { request, response });
                self.begin_stop(now);
            }
            Command::Reload => self.reload(Some(request)),
            Command::Collect(Collect { name, large }) => {
                let which = name.as_deref().map_or(Which::All, Which::Named);
                self.collectors.ask(now, request, which, Large::from(large));
            }
            Command::Link(command) => {
                let response = self.online.ask(now, &command);
                self.operations
                    .push_back(ControlOperation::Answer { request, response });
            }
            Command::LogDetail(change) => {
                let detail = self.detail.with(change);
                self.set_detail(detail);
                let response = Response::LogDetail(detail);
                self.operations
                    .push_back(ControlOperation::Answer { request, response });
            }
            Command::LogTranscript(LogTranscript {
                peer,
                sessions,
                seconds,
            }) => {
                let wanted = listening::Wanted {
                    peer: peer.into(),
                    left: Arc::new(AtomicU32::new(sessions)),
                    until: now.instant + Duration::from_secs(seconds),
                };
                self.tell_all(&Notice::Hear(Hear::Transcript(wanted)));
                let response = Response::Done;
                self.operations
                    .push_back(ControlOperation::Answer { request, response });
            }
            Command::Release { name } if let Some(order) = self.desk.named(&name) => {
                let asker = ReleaseAsker::Operator(request);
                self.desk.ask(now, order, asker, &mut self.operations);
            }
            // A name with a letter wrong is not to pass for a customer without mail.
            command if let Some(name) = self.unknown_customer(&command) => {
                let text = format!("there is no customer {:?}", name.as_str());
                let response = Response::refused(Reason::NotFound, text);
                self.operations
                    .push_back(ControlOperation::Answer { request, response });
            }
            // Those that match are looked for first, and then changed one by one: the
            // cores are not equally far in the order of ids, and a message that is looked
            // at twice must not be changed twice.
            command => match matching(&command) {
                Some(wanted) => {
                    let look = Command::QueueList(wanted.clone());
                    self.put(now, request, look, command, None);
                }
                None => self.put(now, request, command.clone(), command, None),
            },
        }
    }

    /// The customer that a filter names, if there is none of that name.
    fn unknown_customer(&self, command: &Command) -> Option<CustomerName> {
        let filter = match command {
            Command::QueueList(matching) => &matching.filter,
            other => &matching(other)?.filter,
        };
        let Text(name) = filter.customer.as_ref()?;
        (!self.desk.knows(name)).then(|| name.clone())
    }

    /// Puts a question to all data cores, for what the operator has asked.
    fn put(
        &mut self,
        now: Now,
        request: AdminRequestId,
        put: Command,
        command: Command,
        next: Option<Text<QueueId>>,
    ) {
        let notice = Notice::Admin {
            request,
            command: Arc::new(put),
        };
        self.tell_all(&notice);
        let waiting_for = usize::from(self.data_cores);
        let question = Question {
            waiting_for,
            parts: Vec::with_capacity(waiting_for),
            command,
            stage: Stage::First,
            next,
            deadline: now.instant + ADMIN_PATIENCE,
        };
        self.questions.insert(request, question);
    }

    pub(super) fn part(&mut self, now: Now, request: AdminRequestId, response: Response) {
        // One that comes after its question's deadline has nobody to go to.
        let Some(question) = self.questions.get_mut(&request) else {
            return;
        };
        question.parts.push(response);
        if question.parts.len() == question.waiting_for {
            self.answer(now, request);
        }
    }

    pub(super) fn answer(&mut self, now: Now, request: AdminRequestId) {
        let question = self.questions.remove(&request).expect("the caller looked");
        let whole = question.parts.len() == question.waiting_for;
        let mut response = match matching(&question.command) {
            _ if !whole => {
                // A part of the queue must not pass for the whole of it.
                let text = "not all data cores have answered in time; what was asked may be done \
                            in part; look at the log, and try again";
                Response::refused(Reason::Later, text)
            }
            None if let Command::Find(wanted) = &question.command => {
                let wanted = wanted.clone();
                match self.found(now, request, question, wanted) {
                    Some(found) => Response::Found(found),
                    None => return,
                }
            }
            None if let Stage::Status(mut status) = question.stage => {
                add_queues(&mut status.live, question.parts);
                status.live.cut();
                Response::Status(status)
            }
            None => {
                let mut response = inquiry::merge(&question.command, question.parts);
                if let Response::Changed(changed) = &mut response
                    && question.next.is_some()
                {
                    changed.next = question.next;
                }
                if let Response::Status(mut status) = response {
                    if let Some(names) = status.live.fullest() {
                        self.put(now, request, Command::Queues(names), question.command, None);
                        self.stage(request, Stage::Status(status));
                        return;
                    }
                    status.live.cut();
                    response = Response::Status(status);
                }
                response
            }
            Some(wanted) => {
                let look = Command::QueueList(wanted.clone());
                match inquiry::merge(&look, question.parts) {
                    Response::Page(Page { entries, next }) if entries.is_empty() => {
                        Response::Changed(Changed {
                            next,
                            ..Changed::default()
                        })
                    }
                    Response::Page(Page { entries, next }) => {
                        let ids = entries.iter().map(|entry| entry.id).collect();
                        let change = with_ids(question.command, ids);
                        self.put(now, request, change.clone(), change, next);
                        return;
                    }
                    other => other,
                }
            }
        };
        if let Response::Status(status) = &mut response {
            self.complete(now, status);
        }
        self.operations
            .push_back(ControlOperation::Answer { request, response });
    }

    /// Goes on with looking for queues: from where the cores are, then with those that were
    /// found. `None` while there is more to ask.
    fn found(
        &mut self,
        now: Now,
        request: AdminRequestId,
        question: Question,
        wanted: Wanted,
    ) -> Option<Found> {
        let mut tallies = match question.stage {
            Stage::Found(total) => {
                let mut live = Live {
                    queues_total: total,
                    ..Live::default()
                };
                add_queues(&mut live, question.parts);
                return Some(Found::of(wanted.text, live));
            }
            Stage::Seeking(tallies) => tallies,
            Stage::First | Stage::Status(_) => Vec::new(),
        };
        let mut next: Option<u32> = None;
        for part in question.parts {
            if let Response::Tallies(part) = part {
                tallies.extend(part.matching);
                // All were asked from the same place.
                next = next.max(part.next);
            }
        }
        if let Some(from) = next {
            let on = Command::Find(Wanted { from, ..wanted });
            self.put(now, request, on.clone(), on, None);
            self.stage(request, Stage::Seeking(tallies));
            return None;
        }
        let (names, total) = chosen(tallies);
        if names.is_empty() {
            return Some(Found::of(wanted.text, Live::default()));
        }
        let command = question.command;
        self.put(now, request, Command::Queues(names), command, None);
        self.stage(request, Stage::Found(total));
        None
    }

    /// The question that was put just now is this part of its answer.
    fn stage(&mut self, request: AdminRequestId, stage: Stage) {
        let question = self.questions.get_mut(&request);
        question.expect("it was put").stage = stage;
    }

    /// Adds what is known here.
    fn complete(&self, now: Now, status: &mut Status) {
        let Status { counters, live, .. } = status;
        for CustomerAmount { name, amount } in &live.customers {
            counters.insert(format!("customer.{name}.messages"), amount.messages);
            counters.insert(format!("customer.{name}.octets"), amount.octets);
        }
        live.at = Some(Date(now.wall));
        live.disk_free_octets = self.disk_free_octets;
        live.readiness.stopping = !matches!(self.stop, Stop::No);
        if let Some((links, histories)) = self.online.overview(now) {
            live.links = Some(links);
            live.histories = histories;
        }
    }
}

/// Adds what the cores have told of the queues that were chosen.
fn add_queues(live: &mut Live, parts: Vec<Response>) {
    for part in parts {
        if let Response::Queues(queues) = part {
            live.add_queues(queues);
        }
    }
}

/// The messages that a command wants to be looked for before it changes them.
fn matching(command: &Command) -> Option<&Matching> {
    match command {
        Command::QueueChange { selection, .. } | Command::QueueRequeue { selection, .. } => {
            match selection {
                Selection::Matching(matching) => Some(matching),
                Selection::Ids { .. } => None,
            }
        }
        _ => None,
    }
}

/// The same change, of these messages.
fn with_ids(command: Command, ids: Vec<Text<QueueId>>) -> Command {
    let selection = Selection::Ids { ids };
    match command {
        Command::QueueChange { change, .. } => Command::QueueChange { change, selection },
        Command::QueueRequeue { to, .. } => Command::QueueRequeue { to, selection },
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use crate::core::admin::{Amount, Queue, QueueClass, QueueGate, Tallies};
    use crate::core::control::ControlCompletion;
    use crate::core::online::{Online, Setup};
    use crate::core::{ControlNotice, CoreId};
    use crate::time::{Instant, WallTime};

    const NOW: Now = Now {
        instant: Instant::START,
        wall: WallTime::EPOCH,
    };

    fn tally(name: u64, messages: u64) -> Tally {
        Tally { name, messages }
    }

    fn queue(name: &str, messages: u64) -> Queue {
        Queue {
            next_hop: name.to_owned(),
            class: QueueClass::Held,
            customer: None,
            domain: None,
            amount: Amount {
                messages,
                octets: 0,
            },
            deferred: 0,
            held: 0,
            connections: 0,
            gate: QueueGate::Held,
            failures: 0,
            oldest: None,
            retry: None,
            why: None,
        }
    }

    /// Two cores with more destinations than are looked at for one question, the second
    /// with more than the first: what both have is one queue, and each question goes on
    /// where the last one ended.
    #[test]
    fn queues_are_looked_for_in_parts_and_told_once() {
        let online = Online::new(Setup::always(), 1, NOW);
        let mut control = ControlCore::new(NOW, 2, Arc::default(), 1, online);
        let request = AdminRequestId(7);
        let wanted = Wanted {
            text: "branch".to_owned(),
            from: 0,
        };
        let command = Command::Find(wanted);
        control.handle(NOW, ControlCompletion::Admin { request, command });
        let part =
            |matching: Vec<Tally>, next: Option<u32>| Response::Tallies(Tallies { matching, next });
        let shown = |queue: Queue| Response::Queues(vec![queue]);
        // What each core answers, and from where it was asked.
        let mut script = VecDeque::from([
            (
                Some(0),
                [part(vec![tally(1, 2)], None), part(vec![], Some(2048))],
            ),
            (
                Some(2048),
                [part(vec![], None), part(vec![tally(1, 3)], Some(4096))],
            ),
            (
                Some(4096),
                [part(vec![], None), part(vec![tally(2, 9)], None)],
            ),
            (None, [shown(queue("one", 2)), shown(queue("one", 3))]),
        ]);
        let mut answer = None;
        while answer.is_none() {
            let mut asked = Vec::new();
            while let Some(operation) = control.poll() {
                match operation {
                    ControlOperation::Tell {
                        core,
                        notice: Notice::Admin { command, .. },
                    } => asked.push((core, command)),
                    ControlOperation::Answer { response, .. } => answer = Some(response),
                    _ => {}
                }
            }
            if answer.is_some() {
                break;
            }
            let (from, parts) = script.pop_front().expect("no more questions than these");
            for ((core, command), response) in asked.iter().zip(parts) {
                match (&**command, from) {
                    (Command::Find(wanted), Some(from)) => assert_eq!(wanted.from, from),
                    (Command::Queues(names), None) => assert_eq!(*names, [1, 2]),
                    other => panic!("{other:?}"),
                }
                let notice = ControlNotice::AdminAnswer { request, response };
                let completion = ControlCompletion::Notice(notice);
                control.handle(NOW, completion);
                assert!(*core < CoreId(2));
            }
        }
        assert!(script.is_empty(), "{} more", script.len());
        let Some(Response::Found(found)) = answer else {
            panic!("{answer:?}");
        };
        assert_eq!((found.text.as_str(), found.total), ("branch", 2));
        assert_eq!(found.queues, [queue("one", 5)]);
    }
}
