//! The spool on real files.

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use spool_format::{
    BodyForm, DoneField, DoneRecord, List, LogId, Outcome, RecipientNumber, Record as _, Seat,
    SegmentPlace, SessionFields, SpoolUuid,
};

use super::commit::Ticket;
use super::log::{Gone, Identity, Log, Output, Rest, SEGMENTS_AHEAD, SPARES_MAX, Sealed, Settings};
use super::message::{BodyFacts, Contents, Holding, SegmentSource, StoredMessage, body};
use super::reclaim::Fate;
use super::recovery::{Restart, Restarted, read_directory};
use super::segment::{Directory, FileKind, Fill, OpenSegments};
use crate::mail::{Envelope, QueueId, Recipient, Sender};
use crate::time::{Now, WallTime};

const LOG: LogId = LogId(0);
const SETTINGS: Settings = Settings {
    segment_bytes: 1 << 20,
    size_max: 1 << 30,
    free_min: 0,
};
const SPOOL: SpoolUuid = SpoolUuid([1; 16]);

/// A shell that does everything at once, and waits.
struct Shell {
    own: LogId,
    directories: BTreeMap<LogId, Directory>,
    open: OpenSegments,
    log: Log,
    committed: Vec<Ticket>,
    tickets: u64,
}

fn start(path: &Path) -> (Shell, Restarted) {
    start_core(path, LOG, &[LOG], &[])
}

/// A data core that writes to log `own` and has the directories of all `owned`; other
/// cores have `others`.
fn start_core(path: &Path, own: LogId, owned: &[LogId], others: &[LogId]) -> (Shell, Restarted) {
    let mut restart = Restart::new(Some(SPOOL));
    let mut directories = BTreeMap::new();
    let mut files = 0;
    for &log in owned.iter().chain(others) {
        let directory = Directory::open(&path.join(format!("log-{}", log.0)), log).unwrap();
        let facts = read_directory(&mut restart, &directory).unwrap();
        assert!(facts.errors.is_empty(), "{:?}", facts.errors);
        files += facts.listing.segments.len() as u64;
        directories.insert(log, directory);
    }
    let restarted = restart.finish();
    let free_bytes = directories[&own].free_bytes().unwrap();
    let identity = Identity {
        spool: SPOOL,
        log: own,
    };
    // A test is the same each time, so the seed is the number of files.
    let log = restarted.log(identity, SETTINGS, owned, 77 + files, free_bytes);
    let mut open = OpenSegments::default();
    for segment in restarted.segments(owned) {
        let place = segment.place;
        let segment = directories[&place.log].open_segment(place.segment).unwrap();
        open.insert(Arc::new(segment));
    }
    let shell = Shell {
        own,
        directories,
        open,
        log,
        committed: Vec::new(),
        tickets: 0,
    };
    (shell, restarted)
}

impl Shell {
    fn directory(&self) -> &Directory {
        &self.directories[&self.own]
    }

    /// Does what the log wants until it wants nothing.
    fn drive(&mut self) {
        let now = Now::default();
        while let Some(output) = self.log.poll(now) {
            match output {
                Output::Write {
                    segment,
                    offset,
                    bytes,
                    durability,
                } => {
                    let place = SegmentPlace {
                        log: self.own,
                        segment,
                    };
                    let file = self.open.get(place).expect("it was prepared");
                    let result = file.write(offset, &bytes, durability);
                    self.log.written(result, bytes);
                }
                Output::Committed { ticket, .. } => self.committed.push(ticket),
                Output::SegmentNeeded { header, spare } => {
                    let prepared = match spare {
                        Some(spare) => self.directory().reuse(spare, header),
                        None => self.directory().prepare(&header, Fill::Allocated),
                    };
                    self.open.insert(Arc::new(prepared.unwrap()));
                    self.log.segment_ready(header.place.segment);
                }
                Output::SegmentClosed { segment } => {
                    let place = SegmentPlace {
                        log: self.own,
                        segment,
                    };
                    let file = self.open.get(place).expect("it is open");
                    let summary = file.summary().expect("its records are ours");
                    self.directory().write_summary(segment, &summary).unwrap();
                }
                Output::SegmentDead { segment, fate } => {
                    let file = self.open.remove(segment).expect("it is open");
                    let directory = &self.directories[&segment.log];
                    let gone = match fate {
                        Fate::Reuse => {
                            file.retire(directory).map_err(|(_, e)| e).unwrap();
                            Gone::Spare
                        }
                        Fate::Remove => {
                            directory.remove(segment.segment).unwrap();
                            Gone::Removed
                        }
                        Fate::SetAside => {
                            directory.set_aside(segment.segment).unwrap();
                            Gone::Removed
                        }
                    };
                    self.log.segment_gone(segment, gone);
                }
                Output::CarryWanted { segment } => {
                    self.open
                        .get(segment)
                        .expect("it is open")
                        .warm(0..u32::MAX);
                }
                Output::Moved { .. } => {}
                other => panic!("{other:?}"),
            }
            if self.log.carries().is_some() {
                self.log.carry(now, &self.open);
            }
        }
    }

    fn store(&mut self, text: &str, octets: usize) -> Sealed {
        self.store_for(&envelope(), text, octets)
    }

    fn store_for(&mut self, envelope: &Envelope, text: &str, octets: usize) -> Sealed {
        let now = Now::default();
        let contents = contents(envelope);
        let queue_id = self.log.next_queue_id();
        let mut message = self
            .log
            .begin(now, queue_id, &contents, Some(octets as u64))
            .unwrap();
        let octets = text.as_bytes().repeat(octets / text.len());
        self.log.body(now, &mut message, &[&octets]).unwrap();
        let ticket = Ticket(self.tickets);
        self.tickets += 1;
        let sealed = self
            .log
            .seal(now, message, &contents, FACTS, &[], ticket)
            .unwrap();
        self.drive();
        assert_eq!(self.committed.last(), Some(&ticket));
        sealed
    }

    fn finish(&mut self, queue_id: QueueId) {
        let field = DoneField {
            recipient: RecipientNumber(0),
            outcome: Outcome::Delivered,
        };
        self.log
            .done(Now::default(), queue_id, &[field], Rest::Nobody)
            .unwrap();
        self.log.flush();
        self.drive();
    }

    fn text_of(&self, sealed: spool_format::Location) -> Result<Vec<u8>, String> {
        text_of(&self.open, sealed)
    }
}

fn text_of(source: &impl SegmentSource, seal: spool_format::Location) -> Result<Vec<u8>, String> {
    let stored = StoredMessage::read(source, seal).map_err(|e| e.to_string())?;
    let mut octets = Vec::new();
    for &extent in &stored.extents {
        octets.extend_from_slice(body(source, seal, extent).map_err(|e| e.to_string())?);
    }
    stored.verify(source, seal).map_err(|e| e.to_string())?;
    Ok(octets)
}

fn envelope() -> Envelope {
    Envelope {
        sender: Sender::new("a@b.example".parse().unwrap()),
        recipients: vec![Recipient::new("c@d.example".parse().unwrap())],
    }
}

fn contents(envelope: &Envelope) -> Contents<'_> {
    Contents {
        envelope,
        session: SessionFields::default(),
        arrival: WallTime::EPOCH,
        holding: Holding::Free,
        next_hop: None,
    }
}

const FACTS: BodyFacts = BodyFacts {
    form: BodyForm::Plain,
    ends_with_crlf: false,
    eight_bit: false,
};

#[test]
fn what_was_committed_is_there_after_a_restart_and_what_was_done_is_not() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path();
    let (mut shell, restarted) = start(path);
    assert!(restarted.recovered.messages.is_empty());
    let small = shell.store("small", 5_000);
    let large = shell.store("large", 3_000_000);
    let done = shell.store("done", 400_000);
    shell.finish(done.queue_id);
    assert_eq!(shell.text_of(large.seal).unwrap().len(), 3_000_000);
    drop(shell);

    let (mut shell, restarted) = start(path);
    assert!(restarted.reports().next().is_none());
    let found: Vec<u64> = restarted
        .recovered
        .messages
        .iter()
        .map(|m| m.queue_id)
        .collect();
    assert_eq!(found, [small.queue_id.as_u64(), large.queue_id.as_u64()]);
    assert_eq!(shell.text_of(small.seal).unwrap(), b"small".repeat(1000));
    assert_eq!(shell.text_of(large.seal).unwrap(), b"large".repeat(600_000));
    let next = shell.store("next", 100);
    assert!(next.queue_id > done.queue_id, "names are not given twice");
    for queue_id in [small.queue_id, large.queue_id, next.queue_id] {
        shell.finish(queue_id);
    }
    drop(shell);

    let (mut shell, restarted) = start(path);
    assert!(restarted.recovered.messages.is_empty());
    shell.drive();
    // Nothing is needed: spares, prepared segments, the one that is filled and the one before
    // are all that is left.
    let listing = shell.directory().list().unwrap();
    assert!(listing.damaged.is_empty());
    assert!(
        listing.segments.len() <= SEGMENTS_AHEAD as usize + 2,
        "{listing:?}"
    );
    assert!(listing.spares.len() <= SPARES_MAX, "{listing:?}");
}

#[test]
fn queue_ids_go_on_where_nothing_is_left_of_what_was_stored() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path();
    let other = LogId(1);
    let (mut shell, _) = start(path);
    let gone = shell.store("gone", 1_000);
    shell.finish(gone.queue_id);
    drop(shell);

    let check = |mut shell: Shell| {
        shell.drive();
        let next = shell.log.next_queue_id();
        assert!(next > gone.queue_id, "{next} after {}", gone.queue_id);
    };
    // Whatever had a record of it may be removed; and nothing comes that is written.
    for _ in 0..3 {
        check(start(path).0);
    }
    // Nobody writes to this log for a while.
    for _ in 0..2 {
        let (mut shell, _) = start_core(path, other, &[LOG, other], &[]);
        let sealed = shell.store("there", 1_000);
        shell.finish(sealed.queue_id);
    }
    check(start_core(path, LOG, &[LOG], &[other]).0);
}

#[test]
fn disk_space_is_won_back_while_one_message_is_held() {
    let place = tempfile::tempdir().unwrap();
    let (mut shell, _) = start(place.path());
    let held = shell.store("held", 3_000);
    for _ in 0..200 {
        let sealed = shell.store("x", 300_000);
        shell.finish(sealed.queue_id);
    }
    // 60 MB went through segments of 1 MiB.
    let files = shell.directory().list().unwrap();
    assert!(files.segments.len() < 16, "{files:?}");
    assert!(files.spares.len() <= SPARES_MAX, "{files:?}");
    let seal = shell.log.message(held.queue_id).unwrap();
    assert_eq!(shell.text_of(seal).unwrap(), b"held".repeat(750));
}

#[test]
fn a_damaged_body_is_found_and_the_rest_is_delivered() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path();
    let (mut shell, _) = start(path);
    let first = shell.store("first", 50_000);
    let hit = shell.store("hit", 50_000);
    let last = shell.store("last", 50_000);
    let file = shell
        .directory()
        .path_of(hit.seal.segment, FileKind::Segment);
    drop(shell);
    let mut octets = std::fs::read(&file).unwrap();
    octets[hit.seal.offset.0 as usize - 10_000] ^= 1;
    std::fs::write(&file, &octets).unwrap();

    let (mut shell, restarted) = start(path);
    let recovered = &restarted.recovered;
    let found: Vec<u64> = recovered.messages.iter().map(|m| m.queue_id).collect();
    assert_eq!(found, [first.queue_id.as_u64(), last.queue_id.as_u64()]);
    let broken: Vec<u64> = recovered
        .broken
        .iter()
        .map(|b| b.message.queue_id)
        .collect();
    assert_eq!(broken, [hit.queue_id.as_u64()]);
    for sealed in [first, last] {
        assert!(shell.text_of(sealed.seal).is_ok());
    }
    for sealed in [first, hit, last] {
        shell.finish(sealed.queue_id);
    }
    shell.drive();
    drop(shell);
    let (_, restarted) = start(path);
    assert!(restarted.recovered.messages.is_empty() && restarted.recovered.broken.is_empty());
}

#[test]
fn a_lost_header_is_no_lost_mail_where_there_is_a_summary() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path();
    let (mut shell, _) = start(path);
    let sealed: Vec<Sealed> = (0..8).map(|_| shell.store("x", 200_000)).collect();
    let first = sealed[0].seal.segment;
    assert!(shell.directory().read_summary(first).unwrap().is_some());
    let file = shell.directory().path_of(first, FileKind::Segment);
    drop(shell);
    let mut octets = std::fs::read(&file).unwrap();
    octets[..8192].fill(0xFF);
    std::fs::write(&file, &octets).unwrap();

    let (shell, restarted) = start(path);
    assert_eq!(restarted.recovered.messages.len(), sealed.len());
    assert_eq!(restarted.reports().count(), 1);
    for sealed in &sealed {
        assert!(shell.text_of(sealed.seal).is_ok());
    }
    assert!(first.0 < sealed[7].seal.segment.0);
}

#[test]
fn with_fewer_cores_a_core_drains_the_logs_of_the_others() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path();
    let other = LogId(1);
    let (mut shell, _) = start_core(path, other, &[other], &[]);
    let sealed: Vec<Sealed> = (0..30).map(|_| shell.store("y", 100_000)).collect();
    drop(shell);

    // One core for both: what is in log 1 is finished by records in log 0.
    let (mut shell, restarted) = start_core(path, LOG, &[LOG, other], &[]);
    assert_eq!(restarted.recovered.messages.len(), 30);
    let kept = sealed[17];
    for sealed in &sealed {
        assert_eq!(shell.text_of(sealed.seal).unwrap().len(), 100_000);
        if sealed.queue_id != kept.queue_id {
            shell.finish(sealed.queue_id);
        }
    }
    let left = shell.directories[&other].list().unwrap();
    // And the newest, which tells which queue ids log 1 has given.
    let newest = sealed.last().unwrap().seal.segment;
    assert_eq!(left.segments, [kept.seal.segment, newest]);
    drop(shell);

    // Two cores again. The one that wrote down what was done in the log of the other
    // keeps that, however much else goes through its log.
    let (mut shell, _) = start_core(path, LOG, &[LOG], &[other]);
    for _ in 0..100 {
        let sealed = shell.store("x", 300_000);
        shell.finish(sealed.queue_id);
    }
    drop(shell);
    let (shell, restarted) = start_core(path, other, &[other], &[LOG]);
    let found: Vec<u64> = restarted
        .recovered
        .messages
        .iter()
        .map(|m| m.queue_id)
        .collect();
    assert_eq!(found, [kept.queue_id.as_u64()]);
    assert_eq!(shell.text_of(kept.seal).unwrap().len(), 100_000);
}

/// A message was carried forward, one of its recipients was done, and the power went: the
/// new seal is lost, and the done record behind it is not. It names a segment in which there
/// is no seal, and it counts for the old one as long as that is there.
#[test]
fn a_done_record_outlives_the_seal_that_it_ends_whatever_it_names() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path();
    let mut both = envelope();
    both.recipients
        .push(Recipient::new("e@d.example".parse().unwrap()));
    let (mut shell, _) = start(path);
    let kept = shell.store_for(&both, "kept", 3_000);
    drop(shell);
    let (mut shell, _) = start(path);
    let beside = shell.store("beside", 3_000);
    assert!(kept.seal.segment < beside.seal.segment);
    drop(shell);
    let (shell, restarted) = start(path);
    let torn = beside.seal.segment_place();
    let segments = &restarted.recovered.segments;
    let facts = segments.iter().find(|facts| facts.place == torn).unwrap();
    let record = DoneRecord {
        queue_id: kept.queue_id.as_u64(),
        stamp: restarted.recovered.stamp,
        message: torn,
        recipients: List::new(&[DoneField {
            recipient: RecipientNumber(0),
            outcome: Outcome::Delivered,
        }]),
    };
    let seat = Seat {
        epoch: facts.header.unwrap().epoch,
        offset: facts.end,
    };
    let mut octets = Vec::new();
    record.encode(seat, &mut octets).unwrap();
    shell.directory().remove_summary(torn.segment).unwrap();
    let file = shell.directory().path_of(torn.segment, FileKind::Segment);
    drop(shell);
    let file = std::fs::File::options().write(true).open(file).unwrap();
    file.write_all_at(&octets, u64::from(facts.end.0)).unwrap();

    let done = |restarted: &Restarted| {
        let message = restarted.recovered.messages.get(kept.queue_id.as_u64());
        message.map(|message| message.done.iter().collect::<Vec<_>>())
    };
    let (mut shell, restarted) = start(path);
    assert_eq!(done(&restarted), Some(vec![RecipientNumber(0)]));
    shell.finish(beside.queue_id);
    drop(shell);
    // Nothing in that segment is needed any more, but for the record.
    for _ in 0..2 {
        let (mut shell, restarted) = start(path);
        assert_eq!(done(&restarted), Some(vec![RecipientNumber(0)]));
        shell.drive();
    }
}

/// What is missing of a message may be there at another start: then nobody is told that it
/// is lost. What was read and is not as it was is lost.
#[test]
fn what_may_be_whole_another_time_is_not_lost() {
    let stored = || {
        let place = tempfile::tempdir().unwrap();
        let (mut shell, _) = start(place.path());
        let large = shell.store("large", 2_500_000);
        let first = spool_format::SegmentId(1);
        assert!(large.seal.segment > first, "it lies in several segments");
        let file = shell.directory().path_of(first, FileKind::Segment);
        shell.directory().remove_summary(first).unwrap();
        (place, file)
    };
    let check = |path: &Path, unread: bool, expected: bool| {
        let mut restart = Restart::new(Some(SPOOL));
        let directory = Directory::open(&path.join("log-0"), LOG).unwrap();
        read_directory(&mut restart, &directory).unwrap();
        if unread {
            restart.unread(SegmentPlace {
                log: LOG,
                segment: spool_format::SegmentId(1),
            });
        }
        let restarted = restart.finish();
        let [broken] = &restarted.recovered.broken[..] else {
            panic!("{:?}", restarted.recovered.broken);
        };
        assert_eq!(restarted.is_lost(broken), expected, "{broken}");
    };
    let (place, file) = stored();
    std::fs::remove_file(&file).unwrap();
    check(place.path(), false, false);

    let (place, file) = stored();
    let mut octets = std::fs::read(&file).unwrap();
    octets[500_000] ^= 1;
    std::fs::write(&file, &octets).unwrap();
    check(place.path(), true, false);
    let (place, file) = stored();
    std::fs::write(&file, &octets).unwrap();
    check(place.path(), false, true);
}
