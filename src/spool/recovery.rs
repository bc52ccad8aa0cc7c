//! The start: what the directories hold, and logs that go on from there.
//!
//! 1. [`read_directory`] for each log: its segments, from their summaries where those
//!    are good, else by a scan. Summaries that were missing are written then. Logs may be
//!    read side by side, each into a [`Restart`] of its own: [`Restart::absorb`].
//! 2. [`Restart::finish`]: the fold of `spool-format` says which messages are live,
//!    which are broken, and what each segment is good for.
//! 3. [`Restarted::log`] for each data core: its log, with the balance of its segments.
//!
//! What is to be read by a scan is synced before, and read from the disk: after a kill, or a
//! sync that failed, the page cache may show records that a later loss of power would take
//! back, and with them a message whose older copy was removed because of them.
//!
//! All logs are read before any is begun, since a done record in one may be about a
//! message in another: after a start with fewer data cores a core owns several
//! directories, writes to its own, and carries forward out of the others.
//!
//! Relies on: the table in `spool-format` for what is kept of which segment, and its
//! rule that nothing is ever appended to what was found.
//!
//! What it does not do: it removes nothing but what a crash left half-made. A segment
//! that cannot be used is reported, and the shell sets it aside; one with damage in it is
//! set aside when its last message is done.

use std::collections::{BTreeMap, BTreeSet};

use spool_format::{
    BrokenMessage, EndRecord, Judged, Listed, LiveMessage, LogId, Look, Missing, Offset, Recovered,
    Recovery, SEGMENT_HEADER_BYTES, Seen, SegmentFacts, SegmentHeader, SegmentId, SegmentPlace,
    Severity, Source, SpoolUuid, Summary, TailKind, Unlisted, verdict,
};

use super::log::{Found, Identity, Log, Settings};
use super::reclaim::Condition;
use super::segment::{Directory, FileError, Listing};
use crate::mail::QueueId;
use crate::time::WallTime;

/// Domains that are named to the operator of a broken message.
const DOMAINS_TOLD_MAX: usize = 10;

/// What the balance needs to know of a segment and the fold does not say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Outline {
    /// Octets of done records, by the segment of the message.
    pub(super) about: BTreeMap<SegmentPlace, u64>,
    /// Segments that hold the older generation of a message sealed here.
    pub(super) ancestors: Vec<SegmentPlace>,
    /// Messages that have a mark or an attempt here, with its octets.
    pub(super) said_of: Vec<(QueueId, SaidAs, u32)>,
    /// There are notes.
    pub(super) notes: bool,
    /// There are records here that this version does not keep account of.
    pub(super) foreign: bool,
    /// Messages with a seal here, until all was seen.
    sealed: Vec<QueueId>,
    /// Done records that name this segment, with their octets; when all was seen, only those
    /// of messages without a seal here.
    done_here: Vec<(QueueId, u32)>,
}

/// A done record whose seal was cut off.
///
/// A message was carried forward, and before the sync of its new seal more of its recipients
/// were done: that record names the segment of the new seal, in which it stands itself. The
/// power went, the seal was lost, and the record was not. It counts for the older seal, and
/// so it has to outlive that one ([`super::reclaim`], rule 3), whatever it says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stray {
    /// Where it is.
    pub(super) at: SegmentPlace,
    pub(super) bytes: u32,
    pub(super) queue_id: QueueId,
    /// Where the older seal is.
    pub(super) about: SegmentPlace,
}

/// By which kind of record something was said of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SaidAs {
    Mark,
    Attempt,
}

impl Outline {
    fn see(&mut self, place: SegmentPlace, record: Seen<'_, '_>, octets: usize) {
        // The limit of a payload is far below 2³².
        let bytes = spool_format::framed_bytes(octets) as u32;
        match record {
            Seen::Done(done) if done.message == place => {
                let queue_id = QueueId::from_u64(done.queue_id);
                self.done_here.push((queue_id, bytes));
            }
            Seen::Done(done) => {
                *self.about.entry(done.message).or_default() += u64::from(bytes);
            }
            Seen::Mark(mark) => {
                let queue_id = QueueId::from_u64(mark.queue_id);
                self.said_of.push((queue_id, SaidAs::Mark, bytes));
            }
            Seen::Attempt(attempt) => {
                let queue_id = QueueId::from_u64(attempt.queue_id);
                self.said_of.push((queue_id, SaidAs::Attempt, bytes));
            }
            Seen::Seal(seal) => {
                self.sealed.push(QueueId::from_u64(seal.queue_id));
                // Of a segment that was emptied there are many, one behind the other.
                let from = seal.carried_from;
                if from.is_some() && self.ancestors.last() != from.as_ref() {
                    self.ancestors.extend(from);
                }
                self.notes |= !seal.notes.is_empty();
            }
            Seen::Note(_) => self.notes = true,
            Seen::Partial(_) => self.foreign = true,
        }
    }

    fn seen(mut self) -> Self {
        self.ancestors.sort_unstable();
        self.ancestors.dedup();
        // In the order in which they came, for the most part.
        let mut sealed = std::mem::take(&mut self.sealed);
        sealed.sort_unstable();
        self.done_here
            .retain(|(queue_id, _)| sealed.binary_search(queue_id).is_err());
        self.done_here.shrink_to_fit();
        self
    }
}

/// A start under way.
#[derive(Debug)]
pub struct Restart {
    recovery: Recovery,
    outlines: BTreeMap<SegmentPlace, Outline>,
    /// The highest number that was seen in each log.
    highest: BTreeMap<LogId, SegmentId>,
    spares: BTreeMap<LogId, Vec<SegmentId>>,
    /// Segments of which the disk did not give everything.
    unread: BTreeSet<SegmentPlace>,
}

impl Restart {
    /// Nothing read yet. With `None` the first segment says which spool it is.
    #[must_use]
    pub fn new(spool: Option<SpoolUuid>) -> Self {
        Self {
            recovery: Recovery::new(spool),
            outlines: BTreeMap::new(),
            highest: BTreeMap::new(),
            spares: BTreeMap::new(),
            unread: BTreeSet::new(),
        }
    }

    /// A segment by its header and its summary. False if the summary is not good for
    /// that: then [`Restart::segment`] wants all of its octets.
    pub fn summarized(&mut self, place: SegmentPlace, header: &[u8], summary: &[u8]) -> bool {
        let good = match (
            Summary::decode(summary),
            SegmentHeader::decode(header, place),
        ) {
            (Ok(summary), Ok(header)) if summary.header == header => summary,
            _ => return false,
        };
        self.number_taken(place);
        let mut outline = Outline::default();
        self.recovery
            .summarized(&good, |record, octets| outline.see(place, record, octets));
        self.outlines.insert(place, outline.seen());
        true
    }

    /// A segment by all its octets. Its summary, if there is one that is not good, may
    /// still tell what its header should be. Gives a summary to be written.
    pub fn segment(
        &mut self,
        place: SegmentPlace,
        file: &[u8],
        summary: Option<&[u8]>,
    ) -> Option<Vec<u8>> {
        self.number_taken(place);
        let mut outline = Outline::default();
        let read = self
            .recovery
            .segment_seen(place, file, summary, |record, octets| {
                outline.see(place, record, octets);
            });
        if read.source == Source::Header {
            return None;
        }
        // Records of a kind that this version does not know.
        outline.foreign |= read.source == Source::Scan && read.summary.is_none();
        self.outlines.insert(place, outline.seen());
        read.summary
    }

    /// This number was used in this log.
    pub fn number_taken(&mut self, place: SegmentPlace) {
        let highest = self.highest.entry(place.log).or_insert(place.segment);
        *highest = place.segment.max(*highest);
    }

    /// There is a dead segment to be used again.
    pub fn spare(&mut self, place: SegmentPlace) {
        self.number_taken(place);
        let spares = self.spares.entry(place.log).or_default();
        spares.push(place.segment);
    }

    /// The disk did not give all of this segment. Another time it may: so what is missing
    /// of a message there is not taken to be lost.
    pub fn unread(&mut self, place: SegmentPlace) {
        self.unread.insert(place);
    }

    /// What was read of other logs of the same spool, each of them by one start.
    pub fn absorb(&mut self, other: Self) {
        self.recovery.absorb(other.recovery);
        self.outlines.extend(other.outlines);
        for (log, highest) in other.highest {
            self.number_taken(SegmentPlace {
                log,
                segment: highest,
            });
        }
        for (log, spares) in other.spares {
            self.spares.entry(log).or_default().extend(spares);
        }
        self.unread.extend(other.unread);
    }

    /// Everything was handed in.
    #[must_use]
    pub fn finish(self) -> Restarted {
        let (judged, unlisted) = self.judge();
        judged.finish(unlisted.into_iter().map(Unlisted::list))
    }

    /// The same in two steps, of which the second can be done of all messages at once:
    /// [`Unlisted::list`].
    #[must_use]
    pub fn judge(self) -> (RestartJudged, Vec<Unlisted>) {
        let (judged, unlisted) = self.recovery.judge();
        let judged = RestartJudged {
            judged,
            strays: strays(&self.outlines, &unlisted),
            outlines: self.outlines,
            highest: self.highest,
            spares: self.spares,
            unread: self.unread,
        };
        (judged, unlisted)
    }
}

/// What was found, but for the lists of messages.
#[derive(Debug)]
pub struct RestartJudged {
    judged: Judged,
    outlines: BTreeMap<SegmentPlace, Outline>,
    strays: Vec<Stray>,
    highest: BTreeMap<LogId, SegmentId>,
    spares: BTreeMap<LogId, Vec<SegmentId>>,
    unread: BTreeSet<SegmentPlace>,
}

impl RestartJudged {
    /// With all lists, in their order.
    #[must_use]
    pub fn finish(self, lists: impl IntoIterator<Item = Listed>) -> Restarted {
        Restarted {
            recovered: self.judged.finish(lists),
            outlines: self.outlines,
            strays: self.strays,
            highest: self.highest,
            spares: self.spares,
            unread: self.unread,
        }
    }
}

/// What was found.
#[derive(Debug)]
pub struct Restarted {
    /// Messages, notes, segments, and what is wrong with any of them.
    pub recovered: Recovered,
    outlines: BTreeMap<SegmentPlace, Outline>,
    strays: Vec<Stray>,
    highest: BTreeMap<LogId, SegmentId>,
    spares: BTreeMap<LogId, Vec<SegmentId>>,
    unread: BTreeSet<SegmentPlace>,
}

impl Restarted {
    /// The segment for which the program must not start, if there is one.
    #[must_use]
    pub fn refusal(&self) -> Option<&SegmentFacts> {
        let segments = &self.recovered.segments;
        segments
            .iter()
            .find(|facts| facts.verdict.severity == Severity::Refusal)
    }

    /// What the operator is to be told: segments that are not as they should be.
    pub fn reports(&self) -> impl Iterator<Item = &SegmentFacts> {
        let segments = &self.recovered.segments;
        segments
            .iter()
            .filter(|facts| facts.verdict.severity != Severity::Silent || facts.undecodable > 0)
    }

    /// The messages of the logs that a data core owns: to be put into its queue.
    pub fn messages(&self, owned: &[LogId]) -> impl Iterator<Item = &LiveMessage> + use<'_> {
        // By number: a search in the list for each of a million messages would show.
        let mut is_owned = [false; 1 << u8::BITS];
        for log in owned {
            is_owned[usize::from(log.0)] = true;
        }
        let messages = self.recovered.messages.iter();
        messages.filter(move |message| is_owned[usize::from(message.seal.log.0)])
    }

    /// Whether a broken message is broken for good: what is missing of it lies in a segment
    /// that was read. A segment that is not there, or that the disk did not give, may be
    /// there at another start.
    #[must_use]
    pub fn is_lost(&self, broken: &BrokenMessage) -> bool {
        match broken.missing {
            Missing::Octets(at) => !self.unread.contains(&at.segment_place()),
            Missing::Segment(_) => false,
        }
    }

    /// For the operator, who may have to tell people: what is known of a broken message
    /// without its envelope, and what becomes of it.
    #[must_use]
    pub fn told_of_broken(&self, broken: &BrokenMessage) -> String {
        let message = &broken.message;
        let mut domains: Vec<&str> = self
            .recovered
            .pending(message)
            .map(|(_, domain)| self.recovered.name(domain))
            .collect();
        let recipients = domains.len();
        domains.dedup();
        domains.truncate(DOMAINS_TOLD_MAX);
        let next = if self.is_lost(broken) {
            "its sender is told if the envelope can be read, and it is ended"
        } else {
            "it waits for what is missing until it expires"
        };
        format!(
            "{broken}; it came at {} with {} octets, and recipients are left: {recipients}, at {}; \
             {next}",
            WallTime::from_millis(message.arrival_ms).rfc5322(),
            message.octets,
            domains.join(", ")
        )
    }

    /// The segments that stay open for the logs that a data core owns, with the epoch
    /// with which they are read: [`super::segment::Directory::open_segment`].
    pub fn segments<'a>(&'a self, owned: &'a [LogId]) -> impl Iterator<Item = &'a SegmentFacts> {
        let segments = self.recovered.segments.iter();
        segments.filter(move |facts| {
            owned.contains(&facts.place.log) && facts.verdict.fate != spool_format::Fate::Aside
        })
    }

    /// Files that are to be used again, of this log and of all with a higher number.
    pub fn spares_from(&self, log: LogId) -> impl Iterator<Item = SegmentPlace> {
        self.spares.range(log..).flat_map(|(&log, spares)| {
            let place = move |&segment| SegmentPlace { log, segment };
            spares.iter().map(place)
        })
    }

    /// The log that the data core `identity.log` goes on with. `owned` are the logs of
    /// which it has the directories, its own among them.
    ///
    /// `epoch_seed` is random and new; `free_bytes` is what the disk has.
    #[must_use]
    pub fn log(
        &self,
        identity: Identity,
        settings: Settings,
        owned: &[LogId],
        epoch_seed: u64,
        free_bytes: u64,
    ) -> Log {
        assert!(owned.contains(&identity.log), "a core owns its own log");
        let first = self.highest.get(&identity.log).map_or(1, |id| id.0 + 1);
        let writer = identity.log.0;
        let mut log = Log::continued(
            identity,
            settings,
            epoch_seed,
            free_bytes,
            SegmentId(first),
            self.recovered.queue_id_next(writer),
        );
        let mut found = Found::new(&mut log, &self.recovered);
        for facts in self.segments(owned) {
            found.segment(
                facts.place,
                facts
                    .header
                    .map_or(settings.segment_bytes, |h| h.segment_bytes),
                end_of_records(facts),
                self.condition(facts),
                facts.damage.clone(),
            );
        }
        for log in owned {
            let of_log = |facts: &&SegmentFacts| {
                facts.place.log == *log && end_of_records(facts) > SegmentHeader::first_offset()
            };
            if let Some(newest) = self.segments(owned).filter(of_log).map(|f| f.place).max() {
                found.tells_queue_ids(newest);
            }
        }
        for facts in &self.recovered.segments {
            if !owned.contains(&facts.place.log) {
                found.segment_elsewhere(facts.place);
            }
        }
        found.messages(self.messages(owned));
        for broken in &self.recovered.broken {
            if owned.contains(&broken.message.seal.log) {
                found.messages([&broken.message]);
            }
        }
        let mut with_notes = Vec::new();
        for (&place, outline) in &self.outlines {
            found.outline(place, outline);
            if outline.notes {
                with_notes.push(place);
            }
        }
        for stray in &self.strays {
            found.stray(stray);
        }
        for note in &self.recovered.notes {
            found.note(note, &with_notes);
        }
        if let Some(spares) = self.spares.get(&identity.log) {
            found.spares(spares);
        }
        log
    }

    fn condition(&self, facts: &SegmentFacts) -> Condition {
        let foreign = self.outlines.get(&facts.place).is_some_and(|o| o.foreign);
        // What was read from a summary is silent, so the table is asked once more.
        let severity = verdict(facts.look, facts.position).severity;
        if severity >= Severity::Damage || facts.undecodable > 0 || foreign {
            Condition::Damaged
        } else {
            Condition::Sound
        }
    }
}

/// Done records that name their own segment, and end a seal in another one.
fn strays(outlines: &BTreeMap<SegmentPlace, Outline>, messages: &[Unlisted]) -> Vec<Stray> {
    let of_segment = |(&at, outline): (&SegmentPlace, &'_ Outline)| {
        let without_seal = outline.done_here.clone().into_iter();
        without_seal.filter_map(move |(queue_id, bytes)| {
            let mut seals = messages.iter().filter_map(|of| of.seal(queue_id.as_u64()));
            let about = seals.next()?.segment_place();
            (about != at).then_some(Stray {
                at,
                bytes,
                queue_id,
                about,
            })
        })
    };
    outlines.iter().flat_map(of_segment).collect()
}

/// Behind the last record that says something. The end record may have been lost after a
/// summary was made that tells of it.
fn end_of_records(facts: &SegmentFacts) -> Offset {
    let ended = matches!(
        facts.look,
        Look::Records {
            tail: TailKind::Ended,
            ..
        }
    );
    let end_bytes = if ended { EndRecord::FRAMED_BYTES } else { 0 };
    // The constant is small.
    let end = facts.end.0.saturating_sub(end_bytes as u32);
    Offset(end).max(SegmentHeader::first_offset())
}

/// Reads the directory of one log into a start. Removes what a crash left half-made,
/// and writes summaries where they were missing.
///
/// # Errors
/// The directory cannot be listed or cleaned. A segment that cannot be read is handed
/// on as far as it could be, and the fold reports what is missing of it.
pub fn read_directory(
    restart: &mut Restart,
    directory: &Directory,
) -> Result<DirectoryFacts, FileError> {
    let mut listing = directory.list()?;
    directory.clean(&mut listing)?;
    let mut facts = DirectoryFacts {
        listing,
        errors: Vec::new(),
        unread: Vec::new(),
    };
    let log = directory.log();
    let place = |segment| SegmentPlace { log, segment };
    for &segment in facts.listing.damaged.iter().chain(&facts.listing.summaries) {
        restart.number_taken(place(segment));
    }
    for &spare in &facts.listing.spares {
        restart.spare(place(spare));
    }
    let mut buffer = Vec::new();
    for &segment in &facts.listing.segments {
        let summary = directory.read_summary(segment).unwrap_or_else(|error| {
            facts.errors.push(error);
            None
        });
        let mut read = |restart: &mut Restart, wanted: usize, buffer: &mut Vec<u8>| {
            if let Err(error) = directory.read_segment(segment, wanted, buffer) {
                facts.errors.push(error);
                facts.unread.push(place(segment));
                restart.unread(place(segment));
            }
        };
        // Where the summary is good the header is all that is read.
        if let Some(summary) = &summary {
            read(restart, SEGMENT_HEADER_BYTES, &mut buffer);
            if restart.summarized(place(segment), &buffer, summary) {
                continue;
            }
        }
        // A summary is written only of what is on stable storage; so is what has one.
        let settled = directory.settle_segment(segment);
        read(restart, usize::MAX, &mut buffer);
        let made = restart.segment(place(segment), &buffer, summary.as_deref());
        let written = match made {
            Some(made) => settled.and_then(|()| directory.write_summary(segment, &made)),
            None => settled,
        };
        if let Err(error) = written {
            facts.errors.push(error);
        }
    }
    Ok(facts)
}

/// What [`read_directory`] met.
#[derive(Debug)]
pub struct DirectoryFacts {
    /// What was there.
    pub listing: Listing,
    /// Files that could not be read or written. The start goes on without them.
    pub errors: Vec<FileError>,
    /// Segments of which the disk did not give everything. Another time it may.
    pub unread: Vec<SegmentPlace>,
}

#[cfg(test)]
mod tests {
    use spool_format::{Epoch, SummaryBuilder};

    use super::*;

    /// A file that is used again has another epoch: what a summary tells of the use before
    /// is told of no segment.
    #[test]
    fn a_summary_of_another_use_is_not_believed() {
        let place = SegmentPlace {
            log: LogId(0),
            segment: SegmentId(1),
        };
        let header = SegmentHeader {
            spool: SpoolUuid([1; 16]),
            place,
            epoch: Epoch(11),
            previous_epoch: Epoch(0),
            created_ms: 0,
            segment_bytes: 1 << 20,
        };
        let mut file = header.encode().to_vec();
        file.resize(1 << 20, 0);
        let summary = SummaryBuilder::scan(&file, &header).expect("no record is foreign");
        let check = |header: SegmentHeader, expected: bool| {
            let octets = header.encode();
            let believed = Restart::new(None).summarized(place, &octets[..], &summary);
            assert_eq!(believed, expected, "{header:?}");
        };
        check(header, true);
        check(
            SegmentHeader {
                epoch: Epoch(12),
                ..header
            },
            false,
        );
        check(
            SegmentHeader {
                spool: SpoolUuid([2; 16]),
                ..header
            },
            false,
        );
    }
}
