//! What a data core does for its log: writes, segments, what is carried forward, and
//! what the operator is told of room.

use std::time::Duration;

use spool_format::{LogId, SegmentId, SegmentPlace};

use crate::core::common::{Call, Common, Settled};
use crate::core::lending::Forget;
use crate::core::{ControlNotice, Operation};
use crate::report::Fact;
use crate::spool::commit::{Ticket, WriteFault};
use crate::spool::log::{self, Refused, Unprepared};
use crate::spool::message::SegmentSource;
use crate::time::Now;

/// How often the operator is told that segments cannot be prepared.
const TELL_OF_PREPARATION: Duration = Duration::from_secs(60);

impl Common {
    /// The next write of the log, if one is due.
    pub(super) fn next_write(&mut self) -> Option<Operation> {
        let log::Output::Write {
            segment,
            offset,
            bytes,
            durability,
        } = self.log.next_write()?
        else {
            unreachable!("it was asked for a write");
        };
        self.counters.writes += 1;
        self.counters.octets_written += bytes.len() as u64;
        if durability != crate::spool::commit::Durability::None {
            self.counters.flushes += 1;
        }
        Some(Operation::Write {
            segment,
            offset,
            octets: bytes,
            durability,
        })
    }

    /// A write to the log is over.
    pub(super) fn written(&mut self, now: Now, result: Result<(), WriteFault>, octets: Vec<u8>) {
        let took = now.instant.since(self.write_began);
        self.commit_latency.record(took);
        self.log.written(result, octets);
    }

    /// Does what the log wants. Gives a ticket whose fate is known.
    pub(super) fn advance_log(&mut self, now: Now) -> Option<(Ticket, Settled)> {
        while let Some(output) = self.log.poll_but_writes(now) {
            match output {
                log::Output::Write { .. } => unreachable!("writes were not asked for"),
                log::Output::Committed { ticket, receipt } => {
                    return Some((ticket, Settled::Committed(receipt)));
                }
                log::Output::Failed { ticket } => return Some((ticket, Settled::Failed)),
                log::Output::SegmentNeeded { header, spare } => {
                    let core = self.id;
                    self.tell_control(ControlNotice::SegmentNeeded {
                        core,
                        header,
                        spare,
                    });
                }
                log::Output::SegmentClosed { segment } => {
                    let log = LogId(self.id.0);
                    let segment = SegmentPlace { log, segment };
                    self.tell_control(ControlNotice::SegmentClosed { segment });
                }
                log::Output::SegmentDead { segment, fate } => {
                    self.counters.segments_freed += 1;
                    if self.lending.dead(segment) == Forget::Now {
                        self.operations.push_back(Operation::Forget { segment });
                    }
                    let core = self.id;
                    self.tell_control(ControlNotice::SegmentDead {
                        core,
                        segment,
                        fate,
                    });
                }
                // The log is asked in `carry` whether there is something to carry.
                log::Output::CarryWanted { .. } => {}
                log::Output::Moved { queue_id, to, .. } => {
                    self.counters.messages_carried += 1;
                    self.queue.moved(queue_id, to);
                }
                log::Output::CarryFailed { queue_id, error } => {
                    let what = match queue_id {
                        Some(id) => format!("message {id} stays in its old segment: {error}"),
                        None => format!("a segment cannot be emptied: {error}"),
                    };
                    let log = LogId(self.id.0);
                    self.report(Fact::SpoolDamaged { log, what });
                }
                log::Output::LogClosed { fault } => {
                    let log = LogId(self.id.0);
                    self.report(Fact::LogClosed {
                        log,
                        why: fault.to_string(),
                    });
                }
            }
        }
        if self.log.has_write() {
            // It is handed out in this turn, behind all else.
            self.write_began = now.instant;
        }
        None
    }

    /// Carries a little of a mostly dead segment forward, if the log is not busy. False
    /// if there is nothing to carry now.
    pub(super) fn carry(&mut self, now: Now, spool: &impl SegmentSource) -> bool {
        let carries = self.log.carries().is_some() && !self.log.is_full();
        if carries {
            self.log.carry(now, spool);
        }
        carries
    }

    /// A segment is there.
    pub(super) fn segment_ready(&mut self, segment: SegmentId) {
        self.log.segment_ready(segment);
        self.resume_deliveries();
    }

    fn resume_deliveries(&mut self) {
        if !self.log.awaits_segment() {
            let waiting = self.awaiting_segment.drain(..);
            self.calls.extend(waiting.map(|id| (id, Call::Work)));
        }
    }

    /// A segment could not be prepared. The log asks again.
    pub(super) fn segment_failed(&mut self, now: Now, segment: SegmentId, why: Unprepared) {
        self.log.segment_failed(now, segment, why.cause);
        // That may take long, and a drain makes room.
        self.resume_deliveries();
        // Some are prepared ahead, and each is tried every second.
        if self
            .told_of_preparation
            .is_none_or(|until| until <= now.instant)
        {
            self.told_of_preparation = Some(now.instant + TELL_OF_PREPARATION);
            let log = LogId(self.id.0);
            let why = why.why;
            self.report(Fact::SegmentFailed { log, segment, why });
        }
    }

    /// The free space of the disk is known anew.
    pub(super) fn disk_space(&mut self, free_bytes: u64) {
        self.log.free_bytes(free_bytes);
    }

    /// Tells the operator when mail begins to be refused for want of room, once.
    pub(super) fn refused_for_room(&mut self, refused: &Refused) {
        self.counters.messages_without_room += 1;
        if let Refused::NoRoom(no_room) = refused
            && !std::mem::replace(&mut self.full, true)
        {
            let log = LogId(self.id.0);
            self.report(Fact::Room {
                log,
                full: Some(no_room.to_string()),
            });
        }
    }

    /// Tells the operator when mail is taken again.
    pub(super) fn taken_again(&mut self) {
        if std::mem::replace(&mut self.full, false) {
            let log = LogId(self.id.0);
            self.report(Fact::Room { log, full: None });
        }
    }
}
