//! The operator's questions: put to all data cores, answered once.

use std::sync::Arc;

use super::{ADMIN_PATIENCE, ControlCore, ControlOperation, Question, Stop};
use crate::core::admin::{Collect, Command, Date, Live, Reason, Response};
use crate::core::collectors::Which;
use crate::core::release::ReleaseAsker;
use crate::core::{AdminRequestId, Notice, inquiry};
use crate::pop3::mailbox::Large;
use crate::time::Now;

impl ControlCore {
    /// Passes a question of the operator on to all data cores, or answers it here.
    pub(super) fn ask(&mut self, now: Now, request: AdminRequestId, command: Command) {
        match command {
            Command::Stop => {
                let response = Response::Done;
                self.operations
                    .push_back(ControlOperation::Answer { request, response });
                self.begin_stop(now);
            }
            Command::Reload => {
                self.reloading.push(request);
                self.operations
                    .push_back(ControlOperation::LoadConfiguration);
            }
            Command::Collect(Collect { name, large }) => {
                let which = name.as_deref().map_or(Which::All, Which::Named);
                self.collectors.ask(now, request, which, Large::from(large));
            }
            Command::Link(command) => {
                let response = self.online.ask(now, &command);
                self.operations
                    .push_back(ControlOperation::Answer { request, response });
            }
            Command::LogDetail(_) => {
                let text = "changing the detail of the log while running is not supported by \
                            this version; set log.detail in the configuration and restart";
                let response = Response::refused(Reason::Failed, text);
                self.operations
                    .push_back(ControlOperation::Answer { request, response });
            }
            Command::Release { name } if let Some(order) = self.desk.named(&name) => {
                let asker = ReleaseAsker::Operator(request);
                self.desk.ask(now, order, asker, &mut self.operations);
            }
            command => {
                self.tell_all(&Notice::Admin {
                    request,
                    command: Arc::new(command.clone()),
                });
                let deadline = now.instant + ADMIN_PATIENCE;
                let waiting_for = usize::from(self.data_cores);
                let parts = Vec::with_capacity(waiting_for);
                self.questions.insert(
                    request,
                    Question {
                        waiting_for,
                        parts,
                        command,
                        deadline,
                    },
                );
            }
        }
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
        let mut response = if question.parts.len() == question.waiting_for {
            inquiry::merge(&question.command, question.parts)
        } else {
            // A part of the queue must not pass for the whole of it.
            let text = "not all data cores have answered in time; what was asked may be done in \
                        part; look at the log, and try again";
            Response::refused(Reason::Later, text)
        };
        if let Response::Status(status) = &mut response {
            self.complete(now, &mut status.live);
        }
        self.operations
            .push_back(ControlOperation::Answer { request, response });
    }

    /// Adds what is known here.
    fn complete(&self, now: Now, live: &mut Live) {
        live.at = Some(Date(now.wall));
        live.disk_free_octets = self.disk_free_octets;
        live.readiness.stopping = !matches!(self.stop, Stop::No);
        if let Some((links, histories)) = self.online.overview(now) {
            live.links = Some(links);
            live.histories = histories;
        }
    }
}
