//! What other cores tell a data core.

use super::{Connection, DataCore};
use crate::core::admin::{Response, Sessions};
use crate::core::listening::Hear;
use crate::core::turn::say_what_is_held;
use crate::core::{ControlNotice, Door, LinkNotice, Notice, Operation, asking, hosts};
use crate::spool::message::SegmentSource;
use crate::time::Now;

impl DataCore {
    pub(super) fn notice(&mut self, now: Now, notice: Notice, spool: &impl SegmentSource) {
        match notice {
            Notice::Resolved {
                next_hop,
                answer,
                valid_until,
            } => {
                (self.common.hosts).resolved(next_hop, answer, valid_until);
            }
            Notice::SegmentReady { segment } => self.common.segment_ready(segment),
            Notice::SegmentFailed { segment, why } => {
                self.common.segment_failed(now, segment, why);
            }
            Notice::SegmentGone { segment, gone } => self.common.log.segment_gone(segment, gone),
            Notice::DiskSpace { free_bytes } => self.common.disk_space(free_bytes),
            Notice::PermitsFreed => self.common.queue.permits_freed(now),
            Notice::PermitWanted { key } => self.common.queue.permit_wanted(now, key),
            Notice::Link { number, link } => {
                self.common.link_notice(now, number, link);
                match link {
                    LinkNotice::Open => {}
                    LinkNotice::Shut => self.finish_what_comes(now),
                    LinkNotice::Cut => self.cut_off(now, spool),
                }
            }
            Notice::Listen { listener, door } => {
                // A server that stops opens nothing.
                if door == Door::Closed || !self.common.is_stopping() {
                    let operation = Operation::Listen { listener, door };
                    self.common.operations.push_back(operation);
                }
            }
            Notice::WhatIsHeld {
                turn,
                customer,
                caller,
                domains,
            } => {
                self.doubt_turns(&customer, caller);
                say_what_is_held(&mut self.common, turn, &customer, &domains);
            }
            Notice::TurnAnswer { connection, answer } => {
                self.turn_answered(now, connection, answer);
            }
            Notice::Fetch(fetch) => {
                let candidates = hosts::candidates(&fetch.hosts, &mut self.common.random);
                self.call(now, fetch, candidates);
            }
            Notice::MaildirWritten {
                connection,
                written,
            } => {
                self.common
                    .maildir_written(now, spool, connection, &written);
            }
            Notice::Admin { request, command } => {
                let mut response = self.common.answer(now, &command, spool);
                if let Response::Status(status) = &mut response {
                    status.live.sessions = self.sessions();
                }
                self.common
                    .tell_control(ControlNotice::AdminAnswer { request, response });
            }
            Notice::Release {
                release,
                order,
                purpose,
            } => {
                self.common.release(now, release, &order, purpose);
                self.doubt_who_moved();
            }
            Notice::ReleaseAnswer { connection, answer } => {
                self.with(now, connection, |connection, common| {
                    if let Connection::Reception { reception, .. } = connection {
                        reception.released(now, common, answer);
                    }
                });
            }
            Notice::Computed { connection, worked } => {
                self.with(now, connection, |connection, common| match connection {
                    Connection::Reception { reception, .. } => {
                        reception.computed(now, common, worked);
                    }
                    Connection::Delivery(delivery) => {
                        delivery.computed(now, common, spool, worked);
                    }
                    Connection::Collection(collection) => {
                        collection.computed(now, common, worked);
                    }
                    Connection::TurnedAway(_) => {}
                });
            }
            Notice::Banned { client, until } => {
                self.common.bans.ban(now.instant, client, until);
            }
            Notice::Collect(order) => self.collect(now, *order),
            Notice::Summon(summons) => self.common.summon(now, &summons),
            Notice::Hear(Hear::Detail(detail)) => self.common.listening.detail = detail,
            Notice::Hear(Hear::Transcript(wanted)) => self.common.listening.want(wanted),
            Notice::Configured(settings) => self.common.configure(now, settings),
            Notice::Ask(ask) => asking::begin(&mut self.common, *ask),
            Notice::RecipientAnswer {
                connection,
                existence,
            } => self.with(now, connection, |connection, common| {
                if let Connection::Reception { reception, .. } = connection {
                    reception.recipient_answered(now, common, existence);
                }
            }),
            Notice::HoldQueue(next_hop) => self.common.hold_queue(now, &next_hop),
            Notice::Recipients(lists) => self.common.recipients = lists,
            Notice::Stop { deadline } => {
                self.common.stop(now, deadline);
                for id in self.connection_ids() {
                    self.with(now, id, |connection, common| match connection {
                        Connection::Reception { reception, .. } => reception.stop(now, common),
                        Connection::Collection(collection) => {
                            collection.stop(now, common, "the server is stopping");
                        }
                        Connection::Delivery(_) | Connection::TurnedAway(_) => {}
                    });
                }
            }
        }
    }

    /// Ends what brings mail over a link that is to go, behind the message that is coming.
    fn finish_what_comes(&mut self, now: Now) {
        for id in self.connection_ids() {
            self.with(now, id, |connection, common| match connection {
                Connection::Reception {
                    reception,
                    over_link: true,
                    ..
                } => reception.stop(now, common),
                Connection::Collection(collection) if collection.is_over_link(common) => {
                    collection.stop(now, common, "the link is to go");
                }
                _ => {}
            });
        }
    }

    /// Ends what went over a link that is gone. Nobody would tell these connections.
    fn cut_off(&mut self, now: Now, spool: &impl SegmentSource) {
        for id in self.connection_ids() {
            self.with(now, id, |connection, common| match connection {
                Connection::Delivery(delivery) if delivery.is_over_link(common) => {
                    delivery.abort(now, common, spool);
                }
                Connection::Reception {
                    reception,
                    over_link: true,
                    ..
                } => reception.abort(common),
                Connection::Collection(collection) if collection.is_over_link(common) => {
                    collection.cut_off(common);
                }
                _ => {}
            });
        }
    }

    /// How many there are of each kind.
    fn sessions(&self) -> Sessions {
        let mut sessions = Sessions::default();
        for connection in self.connections.values() {
            match connection {
                Connection::Reception { listener, .. } => {
                    sessions.count(&self.common.settings, *listener);
                }
                Connection::Delivery(_) => sessions.delivery += 1,
                Connection::Collection(_) => sessions.collection += 1,
                Connection::TurnedAway(_) => {}
            }
        }
        sessions
    }
}
