//! What an asker is told, and what the operator is told of it: who asked for what, and how
//! much that was.

use super::{Desk, Order, Out, Proof, ReleaseAsker};
use crate::core::Notice;
use crate::core::admin::{Reason, Released, Response};
use crate::core::control::ControlOperation;
use crate::report::{self, Fact};
use crate::smtp::etrn::Answer;

impl Desk {
    /// Answers, and tells the operator who asked for what and how much that was.
    pub(super) fn answer(
        &self,
        order: &Order,
        asker: &ReleaseAsker,
        answer: Answer,
        out: &mut Out,
    ) {
        let (by, quiet) = match asker {
            ReleaseAsker::Session { client, user, .. } => match user {
                Some(user) => (format!("ETRN of {user} at {client}"), false),
                None => (format!("ETRN of {client}"), false),
            },
            ReleaseAsker::WakeUp {
                client,
                user,
                proof,
            } => {
                let by = match (proof, user) {
                    (Proof::Secret, _) => format!("wake-up mail of {client} with the secret"),
                    (Proof::Source, Some(user)) => format!("wake-up mail of {user} at {client}"),
                    (Proof::Source, None) => format!("wake-up mail of {client}"),
                };
                (by, false)
            }
            ReleaseAsker::Connection { client } => (format!("connection of {client}"), false),
            ReleaseAsker::Operator(_) => ("the operator".to_owned(), false),
            ReleaseAsker::OneByOne => ("the operator".to_owned(), answer == Answer::Nothing),
            ReleaseAsker::Interval => ("interval".to_owned(), answer == Answer::Nothing),
            ReleaseAsker::Waiting(why) => (format!("wake_for ({why})"), answer == Answer::Nothing),
            ReleaseAsker::Awake => ("wake_command".to_owned(), false),
        };
        let Released {
            messages, octets, ..
        } = released(answer);
        let outcome = match answer {
            Answer::Started(_) => "started",
            Answer::Joined(_) => "under way already",
            Answer::Nothing => "nothing waits",
            Answer::TooOften => "refused: asked too often",
            Answer::Unable => "not possible now",
            Answer::NotAllowed | Answer::AuthRequired => "not allowed",
        };
        if !quiet {
            out.push_back(ControlOperation::Report(Fact::Release(report::Release {
                what: order.to_string(),
                by,
                messages,
                octets,
                outcome,
            })));
        }
        respond(asker, answer, out);
    }
}

/// How much it is.
fn released(answer: Answer) -> Released {
    match answer {
        Answer::Started(waiting) | Answer::Joined(waiting) => Released {
            messages: waiting.messages,
            octets: waiting.octets,
            queue: None,
        },
        _ => Released::default(),
    }
}

/// Tells the asker.
pub(super) fn respond(asker: &ReleaseAsker, answer: Answer, out: &mut Out) {
    match asker {
        ReleaseAsker::Session {
            core, connection, ..
        } => out.push_back(ControlOperation::Tell {
            core: *core,
            notice: Notice::ReleaseAnswer {
                connection: *connection,
                answer,
            },
        }),
        ReleaseAsker::Operator(request) => {
            let response = match answer {
                Answer::Unable => {
                    let text = "not all data cores have answered, or the server is stopping; \
                                    look at the log, and try again";
                    Response::refused(Reason::Later, text)
                }
                answer => Response::Released(released(answer)),
            };
            out.push_back(ControlOperation::Answer {
                request: *request,
                response,
            });
        }
        ReleaseAsker::Connection { .. }
        | ReleaseAsker::WakeUp { .. }
        | ReleaseAsker::OneByOne
        | ReleaseAsker::Interval
        | ReleaseAsker::Waiting(_)
        | ReleaseAsker::Awake => {}
    }
}
