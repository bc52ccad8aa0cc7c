//! Group commit: records in, one positioned write at a time out.
//!
//! Records are appended to a batch, one contiguous buffer. One batch is in flight;
//! what arrives meanwhile is the next batch. Nothing waits for company: a batch
//! that somebody waits for is handed out as soon as nothing is in flight and the caller
//! has handed in all that has come by then, so that the size of a batch follows the load
//! by itself.
//!
//! What the machine relies on: the shell does each [`Output::Write`] when it is handed
//! out, in that order, and answers it with [`Commit::written`]; and a sync that succeeds
//! covers every octet written to that file before it began. At most one is out, but for a
//! write without a sync ([`Commit::write_riders`]) while one is being synced: that one the
//! shell answers before anything else happens.
//!
//! Invariants:
//!
//! - *One dirty segment.* Only the segment of the newest finished write may hold
//!   records that no sync has covered, except the end record of the one before: the
//!   last batch of a segment is always synced, with everything before it. So
//!   `durable <= written <= appended`, and a batch that is durable makes all earlier
//!   batches durable.
//! - *A sync covers what it began with.* What is written while one is under way is not
//!   taken to be covered by it, although it may be: who waits for it waits for the next
//!   sync, which is one of the whole file.
//! - *A batch lies in one segment.* The records of a message may lie in several.
//! - *Committed means durable.* [`Committed`] is made in one place, behind the result
//!   of a sync.
//! - *A failed write is the end.* After it nothing is written, and nobody is told
//!   `Committed`. The pages of a failed write are in a state that no later sync can
//!   be asked about, so none is tried.
//!
//! Next to the octets of the last committed batch lie those of the next one, perhaps
//! in the same disk sector. We rely on the disk not to damage the unchanged octets
//! of a sector that is being written. Padding every batch to a sector would avoid
//! that, at twice the space for a message that commits alone.
//!
//! What it does not do: it knows no messages, only records and tickets; it decides
//! nothing about disk space (`log` does); it never touches a file.

mod batch;
mod fault;
mod flight;
mod output;
mod prepared;
mod writing;

use std::collections::VecDeque;
use std::time::Duration;

use spool_format::{
    BeginRecord, EncodeError, EndRecord, Epoch, Offset, Place, Record, SEGMENT_BYTES_MAX,
    SEGMENT_BYTES_MIN, Seat, SegmentId, Stamp,
};

pub use self::batch::BatchNumber;
use self::batch::{BEGIN_BYTES, Batch, END_BYTES, FIRST_OFFSET, Riders, Tail};
pub use self::fault::{AppendError, WriteFault, WriteStep};
use self::flight::Flights;
pub use self::output::{Durability, Output};
use self::prepared::Prepared;
use crate::mail::{QueueId, Receipt};
use crate::time::Instant;

/// A batch is closed when it holds this much. One write of it takes well under a
/// millisecond in the page cache, so that it does not stall its data core, and the
/// cost of the sync is spread over hundreds of messages already.
pub const BATCH_BYTES_MAX: usize = 2 << 20;

/// Chunks that nobody waits for yet are written, without a sync, when this much has
/// gathered. Writing sooner costs system calls; later costs memory and makes the
/// sync of a large message long.
pub const WRITE_AHEAD_BYTES: usize = 256 << 10;

/// Appended and not yet written, the batch in flight included. Above it
/// [`Commit::is_full`] asks for back-pressure: eight full batches are more than a
/// disk that still works needs to stay busy.
pub const PENDING_BYTES_MAX: usize = 8 * BATCH_BYTES_MAX;

/// Written and not synced, at most: whoever waits for a sync waits for all of it, also for
/// the text of a message that is still coming, and may never be whole. Some hundredths of a
/// second of a disk; and a sync for each so much is a small part of what the text costs.
pub const UNSYNCED_BYTES_MAX: usize = BATCH_BYTES_MAX;

/// Appended and not on stable storage. Above it [`Commit::is_crowded`] asks that no more is
/// taken of large messages: those who bring small ones wait for what is before them. One
/// batch that is being synced, and one that gathers meanwhile.
pub const CROWDED_BYTES_MAX: usize = UNSYNCED_BYTES_MAX + BATCH_BYTES_MAX;

/// How long a record that rides along (done, attempt, mark) waits for a batch that
/// goes anyway. Losing it means one more delivery or one more attempt, so a tenth of
/// a second is cheap; and a busy log carries it long before. When it is over the record is
/// written, also beside a sync that takes long; and the next sync that begins covers it.
pub const RIDER_DELAY_MAX: Duration = Duration::from_millis(100);

/// Buffers kept for the next batches. Two are in use in the steady state: one in
/// flight, one being filled.
const SPARE_BUFFERS_MAX: usize = 2;

/// What wakes whom: chosen by the caller, given back as it was.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Ticket(pub u64);

/// The proof that a message is on stable storage. Only this module makes one.
#[derive(PartialEq, Eq, Hash, Debug)]
pub struct Committed {
    queue_id: QueueId,
}

impl Receipt for Committed {
    fn queue_id(&self) -> QueueId {
        self.queue_id
    }
}

/// Where a record was appended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Appended {
    /// Its beginning.
    pub place: Place,
    /// Its batch: the record is on stable storage when [`Commit::durable`] has come
    /// this far.
    pub batch: BatchNumber,
    /// What it takes in the segment.
    pub framed_bytes: u32,
}

/// What a record wants of the batch that holds it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Urgency {
    /// Nothing: part of a message whose seal is still to come.
    Unsealed,
    /// To ride along with a batch that goes anyway, within [`RIDER_DELAY_MAX`].
    Rider,
}

/// The group-commit machine of one log.
#[derive(Debug)]
pub struct Commit {
    segment_bytes: u32,
    epoch_seed: u64,
    begin: BeginRecord,
    tail: Tail,
    prepared: Prepared,
    /// Waiting to be written, in order. Only the last takes more records.
    pending: VecDeque<Batch>,
    flights: Flights,
    pending_bytes: usize,
    /// Written without a sync since the last one; but for riders that went beside that.
    unsynced_bytes: usize,
    /// The newest batch that has begun.
    newest: BatchNumber,
    /// Batches up to here are to be written as soon as may be.
    wanted: BatchNumber,
    /// Batches up to here are on stable storage.
    durable: BatchNumber,
    /// Batches up to here are written.
    written: BatchNumber,
    riders_due: Option<Instant>,
    /// Tickets of the last sync.
    told: usize,
    outputs: VecDeque<Output>,
    spare_buffers: Vec<Vec<u8>>,
    fault: Option<WriteFault>,
}

impl Commit {
    /// A log whose next segment is `first`. Appending always begins with a segment
    /// of its own: nothing is ever written behind a tail that recovery found.
    ///
    /// `epoch_seed` is new and random at each start: the epochs of the segments are
    /// made from it, and stale octets of an earlier start must not be taken for ours.
    #[must_use]
    pub fn new(segment_bytes: u32, first: SegmentId, epoch_seed: u64) -> Self {
        assert!(
            (SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&segment_bytes),
            "a segment cannot have {segment_bytes} octets"
        );
        Self {
            segment_bytes,
            epoch_seed,
            begin: BeginRecord {
                stamp: Stamp::START,
                queue_id_next: 0,
            },
            tail: Tail::new(epoch_seed, first),
            prepared: Prepared::new(epoch_seed, first),
            pending: VecDeque::new(),
            flights: Flights::default(),
            pending_bytes: 0,
            unsynced_bytes: 0,
            newest: BatchNumber::START,
            wanted: BatchNumber::START,
            durable: BatchNumber::START,
            written: BatchNumber::START,
            riders_due: None,
            told: 0,
            outputs: VecDeque::new(),
            spare_buffers: Vec::new(),
            fault: None,
        }
    }

    /// What the next segment is to begin with: what has to outlive all segments before
    /// it. Keep it up to date before appending.
    pub fn set_begin(&mut self, begin: BeginRecord) {
        self.begin = begin;
    }

    /// Appends one record. `encode` appends the framed record for that seat to the
    /// buffer, and gives the octets that it takes; it is called again, for the next
    /// segment, if the record does not fit.
    ///
    /// # Errors
    /// [`AppendError`]. Nothing was appended then.
    pub fn append(
        &mut self,
        now: Instant,
        urgency: Urgency,
        mut encode: impl FnMut(Seat, &mut Vec<u8>) -> Result<u32, EncodeError>,
    ) -> Result<Appended, AppendError> {
        if let Some(fault) = self.fault {
            return Err(AppendError::Closed(fault));
        }
        loop {
            self.open_batch();
            if self.tail.records == 0 {
                self.begin_segment();
            }
            let tail = self.tail;
            let batch = self.pending.back_mut().expect("open_batch left one");
            let before = batch.bytes.len();
            let framed_bytes = encode(tail.seat(), &mut batch.bytes).map_err(
                |EncodeError::TooLarge { payload_bytes }| AppendError::TooLarge {
                    record_bytes: payload_bytes,
                },
            )?;
            assert_eq!(
                batch.bytes.len() - before,
                framed_bytes as usize,
                "a record is as long as it says"
            );
            if framed_bytes > self.segment_bytes - tail.offset - END_BYTES {
                batch.bytes.truncate(before);
                if framed_bytes > self.segment_bytes - FIRST_OFFSET - BEGIN_BYTES - END_BYTES {
                    return Err(AppendError::TooLarge {
                        record_bytes: framed_bytes as usize,
                    });
                }
                self.close_segment();
                continue;
            }
            let batch_number = batch.number;
            if urgency == Urgency::Rider {
                batch.riders = batch.riders.max(Riders::Some);
                self.riders_due.get_or_insert(now + RIDER_DELAY_MAX);
            }
            self.tail.offset += framed_bytes;
            self.tail.records += 1;
            self.pending_bytes += framed_bytes as usize;
            return Ok(Appended {
                place: Place {
                    segment: tail.segment,
                    offset: Offset(tail.offset),
                },
                batch: batch_number,
                framed_bytes,
            });
        }
    }

    /// Asks for [`Output::Committed`] when everything appended so far is on stable
    /// storage. Take it right after appending the seal of message `queue_id`.
    ///
    /// # Errors
    /// The log is closed to writes.
    pub fn commit(&mut self, ticket: Ticket, queue_id: QueueId) -> Result<(), AppendError> {
        if let Some(fault) = self.fault {
            return Err(AppendError::Closed(fault));
        }
        if self.newest == self.durable {
            let receipt = Committed { queue_id };
            self.outputs
                .push_back(Output::Committed { ticket, receipt });
            return Ok(());
        }
        // What it waits for may be in flight without a sync, or be written without
        // one. Then this begins an empty batch, which is a sync.
        self.open_batch();
        let batch = self.pending.back_mut().expect("open_batch left one");
        batch.tickets.push((ticket, queue_id));
        self.wanted = batch.number;
        Ok(())
    }

    /// Wants the riders appended so far in the page cache at once, also while a sync is
    /// under way: there the end of this process does not lose them. It costs a system
    /// call, and no sync.
    pub fn write_riders(&mut self) {
        if let Some(last) = self.pending.back_mut().filter(|b| b.riders != Riders::None) {
            last.riders = Riders::Prompt;
        }
    }

    /// Wants everything appended so far on stable storage, without telling anybody:
    /// before a stop. Done when [`Commit::is_idle`]; may be called until then.
    pub fn flush(&mut self) {
        if self.fault.is_some() || self.newest == self.durable {
            return;
        }
        // What is in flight with a sync is all there is: it is enough to wait. Another
        // batch behind it would have to be waited for again, for ever if this is called at
        // every turn.
        if self.flights.syncs(self.newest) {
            return;
        }
        self.open_batch();
        let batch = self.pending.back_mut().expect("open_batch left one");
        batch.riders = batch.riders.max(Riders::Some);
        self.wanted = batch.number;
    }

    /// Fills no more of the segment that is being filled: what comes goes to the next one.
    pub fn close_tail(&mut self) {
        if self.fault.is_none() && self.tail.records > 0 {
            self.open_batch();
            self.close_segment();
        }
    }

    /// The time of [`Commit::deadline`] may have come.
    pub fn timer(&mut self, now: Instant) {
        if self.riders_due.is_some_and(|due| due <= now) {
            self.riders_due = None;
            // The sync that is under way may take long, and this process may end meanwhile.
            self.write_riders();
            // Some may be written already, and only to be synced.
            self.flush();
        }
    }

    /// When to call [`Commit::timer`].
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.riders_due
    }

    /// A segment that was asked for by [`Commit::ask_segment`] is there: its file has
    /// its size and a synced header with the epoch asked for.
    pub fn segment_ready(&mut self, segment: SegmentId) {
        if self.fault.is_some() {
            // Nothing will be written to it.
            self.prepared.check_asked(segment);
            return;
        }
        self.prepared.came(segment);
    }

    /// Names the next segment to be prepared, with its epoch.
    pub fn ask_segment(&mut self) -> (SegmentId, Epoch) {
        self.prepared.ask()
    }

    /// Segments asked for or prepared beyond the one that is being filled; `None` if
    /// even that one was not asked for yet.
    #[must_use]
    pub fn segments_ahead(&self) -> Option<u32> {
        self.prepared.behind(self.tail.segment)
    }

    /// Whether the segment that is being filled is there to be written to.
    #[must_use]
    pub fn has_segment(&self) -> bool {
        self.prepared.has(self.tail.segment)
    }

    /// Octets that may still be appended to the segment that is being filled.
    #[must_use]
    pub fn tail_bytes(&self) -> u32 {
        self.segment_bytes - self.tail.offset - END_BYTES
    }

    /// The segment that is being filled.
    #[must_use]
    pub fn tail_segment(&self) -> SegmentId {
        self.tail.segment
    }

    /// True while more waits for the disk than [`PENDING_BYTES_MAX`]. Appending still
    /// works, so that a message under way can be finished; take no more from the peers.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.pending_bytes >= PENDING_BYTES_MAX
    }

    /// True while more than [`CROWDED_BYTES_MAX`] is before who asks for a sync now. It
    /// passes by itself: what is written is synced when it is [`UNSYNCED_BYTES_MAX`].
    #[must_use]
    pub fn is_crowded(&self) -> bool {
        self.pending_bytes + self.unsynced_bytes >= CROWDED_BYTES_MAX
    }

    /// Nothing is in flight or waiting, and everything appended is durable.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.flights.is_empty() && self.newest == self.durable
    }

    /// The newest batch that is on stable storage, with all before it.
    #[must_use]
    pub fn durable(&self) -> BatchNumber {
        self.durable
    }

    /// The newest batch that has begun.
    #[must_use]
    pub fn newest(&self) -> BatchNumber {
        self.newest
    }

    /// Why the log is closed to writes.
    #[must_use]
    pub fn fault(&self) -> Option<WriteFault> {
        self.fault
    }

    /// What is to be done or known next. At most one write is out at a time.
    pub fn poll(&mut self) -> Option<Output> {
        self.news().or_else(|| self.next_write())
    }

    /// What is to be known next.
    pub fn news(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// The write that [`Output::Write`] asked for has ended. `bytes` is its buffer.
    pub fn written(&mut self, result: Result<(), WriteFault>, bytes: Vec<u8>) {
        let flight = self.flights.answered();
        self.pending_bytes -= flight.bytes;
        self.keep_buffer(bytes);
        if self.fault.is_some() {
            // The write beside it failed meanwhile.
            let failed = |(ticket, _)| Output::Failed { ticket };
            self.outputs.extend(flight.tickets.into_iter().map(failed));
            return;
        }
        if let Err(fault) = result {
            self.fail(fault, flight.tickets);
            return;
        }
        // A write may have gone beside a sync that covers less.
        self.written = self.written.max(flight.number);
        if flight.durability == Durability::None {
            assert!(flight.tickets.is_empty(), "a ticket waits for a sync");
            self.unsynced_bytes += flight.bytes;
        } else {
            self.unsynced_bytes = 0;
            self.durable = flight.number;
            self.told = flight.tickets.len();
        }
        for (ticket, queue_id) in flight.tickets {
            let receipt = Committed { queue_id };
            self.outputs
                .push_back(Output::Committed { ticket, receipt });
        }
        if flight.ends_segment {
            self.prepared.close(flight.segment);
            self.outputs.push_back(Output::SegmentClosed {
                segment: flight.segment,
                end: Offset(flight.end.0 - END_BYTES),
            });
        }
    }

    /// Whether records wait for this segment, and nothing goes on without it.
    #[must_use]
    pub fn waits_for(&self, segment: SegmentId) -> bool {
        let first = self.pending.front();
        self.flights.is_empty()
            && !self.prepared.has(segment)
            && first.is_some_and(|batch| batch.segment == segment)
    }

    /// Closes the log to writes, as a failed write does: for a segment that never comes.
    /// Only while nothing is in flight.
    pub fn close(&mut self, fault: WriteFault) {
        assert!(
            self.flights.is_empty(),
            "what is in flight is answered first"
        );
        if self.fault.is_none() {
            self.fail(fault, Vec::new());
        }
    }

    /// Leaves an open batch at the end of `pending`.
    fn open_batch(&mut self) {
        let open = self
            .pending
            .back()
            .is_some_and(|b| !b.ends_segment && b.bytes.len() < BATCH_BYTES_MAX);
        if !open {
            self.push_batch();
        }
    }

    fn push_batch(&mut self) {
        self.newest = self.newest.next();
        self.pending.push_back(Batch {
            number: self.newest,
            segment: self.tail.segment,
            offset: Offset(self.tail.offset),
            bytes: self.spare_buffers.pop().unwrap_or_default(),
            tickets: Vec::new(),
            riders: Riders::None,
            ends_segment: false,
        });
    }

    /// The first record of a segment.
    fn begin_segment(&mut self) {
        let batch = self.pending.back_mut().expect("an open batch");
        let framed_bytes = self
            .begin
            .encode(self.tail.seat(), &mut batch.bytes)
            .expect("a begin record is small");
        assert_eq!(framed_bytes, BEGIN_BYTES, "its fields have fixed widths");
        self.tail.offset += framed_bytes;
        self.tail.records = 1;
        self.pending_bytes += framed_bytes as usize;
    }

    /// The tail moves to the next segment. What is in the old one is synced, and then
    /// the end record is written behind it: who finds that knows that all before it was
    /// on stable storage. The end record itself may be lost, and needs no sync.
    fn close_segment(&mut self) {
        let batch = self.pending.back_mut().expect("an open batch");
        assert_eq!(
            batch.segment, self.tail.segment,
            "the open batch is at the tail"
        );
        let all_durable = self.durable.next() == batch.number;
        if !(batch.bytes.is_empty() && batch.tickets.is_empty() && all_durable) {
            batch.riders = batch.riders.max(Riders::Some);
            self.push_batch();
        }
        let end = EndRecord {
            records: self.tail.records,
        };
        let batch = self.pending.back_mut().expect("an open batch");
        let framed_bytes = end
            .encode(self.tail.seat(), &mut batch.bytes)
            .expect("an end record is small");
        assert_eq!(framed_bytes, END_BYTES, "the room that is kept free for it");
        self.pending_bytes += framed_bytes as usize;
        batch.ends_segment = true;
        self.wanted = batch.number;
        self.tail = Tail::new(self.epoch_seed, prepared::behind(self.tail.segment));
    }

    fn fail(&mut self, fault: WriteFault, tickets: Vec<(Ticket, QueueId)>) {
        self.fault = Some(fault);
        self.riders_due = None;
        let waiting = self.pending.drain(..).flat_map(|b| b.tickets);
        for (ticket, _) in tickets.into_iter().chain(waiting) {
            self.outputs.push_back(Output::Failed { ticket });
        }
        self.pending_bytes = self.flights.bytes();
        self.unsynced_bytes = 0;
        self.outputs.push_back(Output::LogClosed { fault });
    }

    fn keep_buffer(&mut self, mut bytes: Vec<u8>) {
        // A single huge envelope must not leave its buffer here for ever.
        if self.spare_buffers.len() < SPARE_BUFFERS_MAX
            && bytes.capacity() > 0
            && bytes.capacity() <= 2 * BATCH_BYTES_MAX
        {
            bytes.clear();
            self.spare_buffers.push(bytes);
        }
    }
}

#[cfg(test)]
mod tests;
