//! The operator's questions: put to all data cores, answered once.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use super::{ADMIN_PATIENCE, ControlCore, ControlOperation, Question, Stop};
use crate::core::admin::{
    Changed, Collect, Command, CustomerAmount, Date, LogDetail, LogTranscript, Matching, Page,
    Reason, Response, Selection, Status, Text,
};
use crate::core::collectors::Which;
use crate::core::listening::{Hear, Wanted};
use crate::core::release::ReleaseAsker;
use crate::core::{AdminRequestId, Notice, inquiry};
use crate::mail::QueueId;
use crate::pop3::mailbox::Large;
use crate::time::Now;

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
                let wanted = Wanted {
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
            status: None,
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
        let mut question = self.questions.remove(&request).expect("the caller looked");
        let whole = question.parts.len() == question.waiting_for;
        let mut response = match matching(&question.command) {
            _ if !whole => {
                // A part of the queue must not pass for the whole of it.
                let text = "not all data cores have answered in time; what was asked may be done \
                            in part; look at the log, and try again";
                Response::refused(Reason::Later, text)
            }
            None if question.status.is_some() => {
                let mut status = question.status.take().expect("it is there");
                for part in question.parts {
                    if let Response::Queues(queues) = part {
                        status.live.add_queues(queues);
                    }
                }
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
                        let question = self.questions.get_mut(&request);
                        question.expect("it was put").status = Some(status);
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
