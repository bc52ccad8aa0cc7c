use std::collections::{BTreeMap, BTreeSet};

mod every_order;

use super::super::simulation::{Disk, Random};
use super::*;

const SEGMENT_BYTES: u32 = 64 << 10;

fn at(millis: u64) -> Instant {
    Instant::START + Duration::from_millis(millis)
}

fn open() -> Commit {
    let mut commit = Commit::new(SEGMENT_BYTES, SegmentId(7), 1);
    let (segment, _) = commit.ask_segment();
    commit.segment_ready(segment);
    commit
}

/// An "encoder" of that many octets.
fn octets(bytes: u32) -> impl FnMut(Seat, &mut Vec<u8>) -> Result<u32, EncodeError> {
    move |_, out| {
        out.resize(out.len() + bytes as usize, b'r');
        Ok(bytes)
    }
}

fn append(commit: &mut Commit, urgency: Urgency, bytes: u32) -> Place {
    commit.append(at(0), urgency, octets(bytes)).unwrap().place
}

/// Everything that `poll` gives, in short form.
fn drain(commit: &mut Commit) -> Vec<String> {
    let mut all = Vec::new();
    while let Some(output) = commit.poll() {
        all.push(match output {
            Output::Write {
                segment,
                offset,
                bytes,
                durability,
            } => format!(
                "write {}@{}+{} {durability:?}",
                segment.0,
                offset.0,
                bytes.len()
            ),
            Output::Committed { ticket, receipt } => {
                format!("committed {} {}", ticket.0, receipt.queue_id().as_u64())
            }
            Output::Failed { ticket } => format!("failed {}", ticket.0),
            Output::SegmentClosed { segment, end } => format!("closed {}@{}", segment.0, end.0),
            Output::LogClosed { fault } => format!("log closed: {fault}"),
        });
    }
    all
}

fn done(commit: &mut Commit) {
    commit.written(Ok(()), Vec::new());
}

fn seal(commit: &mut Commit, ticket: u64) {
    append(commit, Urgency::Unsealed, 64);
    commit
        .commit(Ticket(ticket), QueueId::from_u64(ticket))
        .unwrap();
}

#[test]
fn what_arrives_while_a_batch_is_in_flight_is_the_next_batch() {
    let mut commit = open();
    seal(&mut commit, 1);
    assert_eq!(drain(&mut commit), ["write 7@8192+96 Range"]);
    seal(&mut commit, 2);
    seal(&mut commit, 3);
    assert_eq!(drain(&mut commit), [""; 0]);
    done(&mut commit);
    let expected = ["committed 1 1", "write 7@8288+128 Range"];
    assert_eq!(drain(&mut commit), expected);
    done(&mut commit);
    assert_eq!(drain(&mut commit), ["committed 2 2", "committed 3 3"]);
    assert!(commit.is_idle());
}

/// Which writes need not wait: by how many the last sync told, and how many wait.
#[test]
fn a_write_is_full_when_as_many_wait_as_were_told() {
    let mut commit = open();
    let mut ticket = 0;
    let mut check = |told: u64, waiting: u64, expected: bool| {
        let mut seals = |commit: &mut Commit, count: u64| {
            for _ in 0..count {
                ticket += 1;
                seal(commit, ticket);
            }
        };
        seals(&mut commit, told);
        drain(&mut commit);
        seals(&mut commit, waiting);
        assert!(!commit.has_full_write(), "one write at a time");
        done(&mut commit);
        assert_eq!(commit.has_full_write(), expected, "{told} {waiting}");
        drain(&mut commit);
        if waiting > 0 {
            done(&mut commit);
            drain(&mut commit);
        }
        assert!(commit.is_idle() && !commit.has_full_write());
    };
    check(1, 0, false);
    check(1, 1, true);
    check(2, 1, false);
    check(2, 2, true);
    check(3, 9, true);
    check(9, 3, false);
}

#[test]
fn chunks_alone_are_written_without_a_sync_and_synced_with_the_seal() {
    let mut commit = Commit::new(8 << 20, SegmentId(7), 1);
    let (segment, _) = commit.ask_segment();
    commit.segment_ready(segment);
    append(&mut commit, Urgency::Unsealed, 1000);
    assert_eq!(drain(&mut commit), [""; 0]);
    append(&mut commit, Urgency::Unsealed, 256 << 10);
    assert_eq!(drain(&mut commit), ["write 7@8192+263176 None"]);
    seal(&mut commit, 1);
    done(&mut commit);
    assert_eq!(drain(&mut commit), ["write 7@271368+64 File"]);
    done(&mut commit);
    assert_eq!(drain(&mut commit), ["committed 1 1"]);
}

/// Text of messages that are still coming, in pieces, as long as nobody waits: how much of
/// it a sync that somebody asks for has to cover.
#[test]
fn what_nobody_waits_for_is_synced_before_it_is_too_much() {
    const PIECE: u32 = 300 << 10;
    let mut commit = Commit::new(64 << 20, SegmentId(7), 1);
    let (segment, _) = commit.ask_segment();
    commit.segment_ready(segment);
    let (mut unsynced, mut most, mut syncs) = (0, 0, 0);
    for _ in 0..100 {
        append(&mut commit, Urgency::Unsealed, PIECE);
        assert!(!commit.is_crowded(), "a disk that keeps up");
        while let Some(output) = commit.poll() {
            let Output::Write {
                bytes, durability, ..
            } = output
            else {
                panic!("{output:?}")
            };
            unsynced += bytes.len();
            most = most.max(unsynced);
            if durability != Durability::None {
                (unsynced, syncs) = (0, syncs + 1);
            }
            done(&mut commit);
        }
    }
    assert!(most <= UNSYNCED_BYTES_MAX + PIECE as usize, "{most}");
    let all = 100 * PIECE as usize;
    assert!((1..=all / UNSYNCED_BYTES_MAX).contains(&syncs), "{syncs}");
}

/// It is crowded as long as more is before a sync than one batch and what gathered meanwhile.
#[test]
fn a_disk_that_does_not_keep_up_is_crowded() {
    let mut commit = Commit::new(64 << 20, SegmentId(7), 1);
    let (segment, _) = commit.ask_segment();
    commit.segment_ready(segment);
    let mut appended = 0;
    while !commit.is_crowded() {
        append(&mut commit, Urgency::Unsealed, 256 << 10);
        appended += 256 << 10;
        commit.poll();
        assert!(!commit.is_full(), "small messages go on");
    }
    assert!(appended >= CROWDED_BYTES_MAX);
    while commit.is_crowded() {
        done(&mut commit);
        while commit.poll().is_some() {}
    }
}

#[test]
fn a_ticket_for_what_is_in_flight_without_a_sync_gets_a_sync_of_its_own() {
    let mut commit = open();
    append(&mut commit, Urgency::Unsealed, 64);
    let second = |c: &mut Commit| c.commit(Ticket(1), QueueId::from_u64(1)).unwrap();
    commit.wanted = commit.newest;
    assert_eq!(drain(&mut commit), ["write 7@8192+96 None"]);
    second(&mut commit);
    done(&mut commit);
    assert_eq!(drain(&mut commit), ["write 7@8288+0 File"]);
    done(&mut commit);
    assert_eq!(drain(&mut commit), ["committed 1 1"]);
    // Everything is durable now: no I/O for one more ticket.
    second(&mut commit);
    assert_eq!(drain(&mut commit), ["committed 1 1"]);
}

#[test]
fn riders_wait_for_company_but_not_for_ever() {
    let mut commit = open();
    append(&mut commit, Urgency::Rider, 32);
    assert_eq!(drain(&mut commit), [""; 0]);
    assert_eq!(commit.deadline(), Some(at(100)));
    seal(&mut commit, 1);
    assert_eq!(drain(&mut commit), ["write 7@8192+128 Range"]);
    assert_eq!(commit.deadline(), None);
    done(&mut commit);
    drain(&mut commit);
    append(&mut commit, Urgency::Rider, 32);
    commit.timer(at(99));
    assert_eq!(drain(&mut commit), [""; 0]);
    commit.timer(at(100));
    assert_eq!(drain(&mut commit), ["write 7@8320+32 Range"]);
    assert_eq!(commit.deadline(), None);
    done(&mut commit);
    assert!(commit.is_idle());
}

/// What the end of the process is not to lose is written at once, and synced as a rider.
#[test]
fn riders_can_be_written_at_once_and_are_synced_in_time() {
    let mut commit = open();
    let rider = |commit: &mut Commit| {
        append(commit, Urgency::Rider, 32);
        commit.write_riders();
    };
    rider(&mut commit);
    assert_eq!(drain(&mut commit), ["write 7@8192+64 None"]);
    rider(&mut commit);
    assert_eq!(drain(&mut commit), [""; 0], "one write at a time");
    done(&mut commit);
    assert_eq!(drain(&mut commit), ["write 7@8256+32 None"]);
    done(&mut commit);
    assert!(!commit.is_idle());
    assert_eq!(commit.deadline(), Some(at(100)));
    commit.timer(at(100));
    assert_eq!(drain(&mut commit), ["write 7@8288+0 File"]);
    // A sync is nothing to wait for.
    rider(&mut commit);
    assert_eq!(drain(&mut commit), ["write 7@8288+32 None"]);
    done(&mut commit);
    rider(&mut commit);
    assert_eq!(drain(&mut commit), ["write 7@8320+32 None"]);
    done(&mut commit);
    // What was written behind the sync is not covered by it.
    done(&mut commit);
    assert!(!commit.is_idle());
    // A sync for somebody else serves them too; and who waits for one, and whose octets
    // went ahead, waits for the next.
    seal(&mut commit, 1);
    assert_eq!(drain(&mut commit), ["write 7@8352+64 File"]);
    assert_eq!(commit.deadline(), None);
    seal(&mut commit, 2);
    rider(&mut commit);
    assert_eq!(drain(&mut commit), ["write 7@8416+96 None"]);
    done(&mut commit);
    assert_eq!(drain(&mut commit), [""; 0]);
    done(&mut commit);
    let expected = ["committed 1 1", "write 7@8512+0 File"];
    assert_eq!(drain(&mut commit), expected);
    done(&mut commit);
    assert_eq!(drain(&mut commit), ["committed 2 2"]);
    assert!(commit.is_idle());
}

/// A stop waits for what went ahead of the sync under way.
#[test]
fn a_flush_covers_what_went_ahead() {
    let mut commit = open();
    seal(&mut commit, 1);
    drain(&mut commit);
    append(&mut commit, Urgency::Rider, 32);
    commit.write_riders();
    drain(&mut commit);
    done(&mut commit);
    commit.flush();
    commit.flush();
    assert_eq!(drain(&mut commit), [""; 0]);
    done(&mut commit);
    assert_eq!(drain(&mut commit), ["committed 1 1", "write 7@8320+0 File"]);
    commit.flush();
    done(&mut commit);
    assert_eq!(drain(&mut commit), [""; 0]);
    assert!(commit.is_idle());
}

/// A disk that takes seconds for a sync: what was done meanwhile outlives this process after
/// a tenth of a second, and the next sync covers it.
#[test]
fn what_rides_along_is_written_in_time_beside_a_sync_that_takes_long() {
    let mut commit = open();
    seal(&mut commit, 1);
    assert_eq!(drain(&mut commit), ["write 7@8192+96 Range"]);
    append(&mut commit, Urgency::Rider, 32);
    assert_eq!(drain(&mut commit), [""; 0]);
    assert_eq!(commit.deadline(), Some(at(100)));
    commit.timer(at(100));
    assert_eq!(drain(&mut commit), ["write 7@8288+32 None"]);
    done(&mut commit);
    // The sync has ended.
    done(&mut commit);
    assert_eq!(drain(&mut commit), ["committed 1 1", "write 7@8320+0 File"]);
    done(&mut commit);
    assert!(commit.is_idle());
}

#[test]
fn a_write_ahead_that_fails_fails_everybody() {
    let fault = WriteFault {
        step: WriteStep::Write,
        os_error: Some(5),
    };
    let mut commit = open();
    seal(&mut commit, 1);
    drain(&mut commit);
    seal(&mut commit, 2);
    append(&mut commit, Urgency::Rider, 32);
    commit.write_riders();
    drain(&mut commit);
    commit.written(Err(fault), Vec::new());
    let told = drain(&mut commit);
    assert!(told.contains(&"failed 2".to_owned()), "{told:?}");
    commit.written(Ok(()), Vec::new());
    assert_eq!(drain(&mut commit), ["failed 1"]);
}

#[test]
fn a_record_that_does_not_fit_begins_the_next_segment_and_the_old_one_is_synced() {
    let mut commit = open();
    append(&mut commit, Urgency::Unsealed, 40_000);
    let place = append(&mut commit, Urgency::Unsealed, 40_000);
    assert_eq!((place.segment, place.offset), (SegmentId(8), Offset(8224)));
    assert_eq!(commit.segments_ahead(), None);
    seal(&mut commit, 1);
    assert_eq!(drain(&mut commit), ["write 7@8192+40032 Range"]);
    done(&mut commit);
    assert_eq!(drain(&mut commit), ["write 7@48224+24 None"]);
    done(&mut commit);
    // Segment 8 is not there yet.
    assert_eq!(drain(&mut commit), ["closed 7@48224"]);
    let (segment, epoch) = commit.ask_segment();
    assert_eq!(segment, SegmentId(8));
    assert_ne!(epoch, batch::epoch_of(1, SegmentId(7)));
    commit.segment_ready(segment);
    assert_eq!(drain(&mut commit), ["write 8@8192+40096 File"]);
    done(&mut commit);
    assert_eq!(drain(&mut commit), ["committed 1 1"]);
}

#[test]
fn a_segment_whose_last_octets_are_written_but_dirty_is_synced_before_the_next() {
    let mut commit = open();
    append(&mut commit, Urgency::Unsealed, 40_000);
    commit.wanted = commit.newest;
    assert_eq!(drain(&mut commit), ["write 7@8192+40032 None"]);
    done(&mut commit);
    append(&mut commit, Urgency::Unsealed, 40_000);
    assert_eq!(drain(&mut commit), ["write 7@48224+0 File"]);
    done(&mut commit);
    assert_eq!(drain(&mut commit), ["write 7@48224+24 None"]);
}

#[test]
fn a_record_larger_than_a_segment_is_refused_and_nothing_is_appended() {
    let mut commit = open();
    append(&mut commit, Urgency::Unsealed, 64);
    let got = commit.append(at(0), Urgency::Unsealed, octets(SEGMENT_BYTES - 8192));
    let record_bytes = (SEGMENT_BYTES - 8192) as usize;
    assert_eq!(got, Err(AppendError::TooLarge { record_bytes }));
    let refused = |_: Seat, _: &mut Vec<u8>| Err(EncodeError::TooLarge { payload_bytes: 1 });
    let got = commit.append(at(0), Urgency::Unsealed, refused);
    assert_eq!(got, Err(AppendError::TooLarge { record_bytes: 1 }));
    let place = append(&mut commit, Urgency::Unsealed, 64);
    assert_eq!((place.segment, place.offset.0), (SegmentId(7), 8224 + 64));
    // The largest that fits, in a segment of its own.
    let largest = SEGMENT_BYTES - 8224 - 24;
    let place = append(&mut commit, Urgency::Unsealed, largest);
    assert_eq!((place.segment, place.offset.0), (SegmentId(8), 8224));
    assert_eq!(commit.tail_bytes(), 0);
}

#[test]
fn a_failed_write_fails_everybody_once_and_closes_the_log() {
    let mut commit = open();
    seal(&mut commit, 1);
    drain(&mut commit);
    seal(&mut commit, 2);
    let fault = WriteFault {
        step: WriteStep::Sync,
        os_error: Some(5),
    };
    commit.written(Err(fault), Vec::new());
    let expected = [
        "failed 1",
        "failed 2",
        "log closed: sync: Input/output error (os error 5)",
    ];
    assert_eq!(drain(&mut commit), expected);
    let closed = Err(AppendError::Closed(fault));
    assert_eq!(commit.commit(Ticket(3), QueueId::from_u64(3)), closed);
    let got = commit.append(at(0), Urgency::Rider, octets(8));
    assert_eq!(got, Err(AppendError::Closed(fault)));
    assert_eq!((drain(&mut commit), commit.deadline()), (Vec::new(), None));
}

#[test]
fn a_flush_leaves_nothing_behind() {
    let mut commit = open();
    commit.flush();
    assert!(commit.is_idle());
    append(&mut commit, Urgency::Rider, 32);
    append(&mut commit, Urgency::Unsealed, 32);
    commit.flush();
    assert_eq!(drain(&mut commit), ["write 7@8192+96 Range"]);
    assert!(!commit.is_idle());
    done(&mut commit);
    assert!(commit.is_idle());
}

/// A write that was handed out.
struct Out {
    segment: SegmentId,
    offset: Offset,
    bytes: Vec<u8>,
    durability: Durability,
}

/// A message of the simulation: where its records lie, and what they are.
#[derive(Default)]
struct Message {
    records: Vec<(Place, Vec<u8>)>,
}

/// One world: random records, tickets, delays, faults, and a crash at the end.
/// Whoever was told `Committed` finds all its octets; whoever was told `Failed` is
/// never told `Committed`.
fn simulate(seed: u64) -> u32 {
    let random = &mut Random::new(seed);
    // In some worlds records are large, so that chunks are written ahead of
    // their seal without a sync.
    let (segment_bytes, scale) = if seed.is_multiple_of(20) {
        (2 << 20, 128)
    } else {
        (SEGMENT_BYTES, 2)
    };
    let mut commit = Commit::new(segment_bytes, SegmentId(0), seed);
    let mut disk = Disk::default();
    let mut now = Instant::START;
    let mut out: Option<Out> = None;
    let mut asked: BTreeSet<SegmentId> = BTreeSet::new();
    let mut messages: Vec<Message> = vec![Message::default()];
    let mut committed: BTreeSet<u64> = BTreeSet::new();
    let mut failed: BTreeSet<u64> = BTreeSet::new();
    let mut waiting: BTreeSet<u64> = BTreeSet::new();
    let mut epochs: BTreeMap<SegmentId, Epoch> = BTreeMap::new();
    let fault_in = if random.one_in(3) {
        random.below(60)
    } else {
        u64::MAX
    };
    let (mut writes, mut ahead) = (0, 0);
    for _ in 0..random.below(300) {
        now = now + Duration::from_millis(random.below(20));
        match random.below(6) {
            0 | 1 => {
                let bytes = 8 + 8 * scale * usize::try_from(random.below(200)).unwrap();
                let octet = u8::try_from(random.below(256)).unwrap();
                let urgency = if random.one_in(4) {
                    Urgency::Rider
                } else {
                    Urgency::Unsealed
                };
                let mut record = Vec::new();
                let encode = |seat: Seat, out: &mut Vec<u8>| {
                    record = seat.epoch.0.to_le_bytes().to_vec();
                    record.resize(bytes, octet);
                    out.extend_from_slice(&record);
                    Ok(u32::try_from(bytes).unwrap())
                };
                if let Ok(appended) = commit.append(now, urgency, encode) {
                    let place = appended.place;
                    let message = messages.last_mut().expect("one is open");
                    message.records.push((place, record));
                    if random.one_in(8) {
                        commit.write_riders();
                    }
                }
            }
            2 => {
                let number = messages.len() as u64 - 1;
                let ticket = commit.commit(Ticket(number), QueueId::from_u64(number));
                if ticket.is_ok() {
                    waiting.insert(number);
                    messages.push(Message::default());
                }
            }
            3 => {
                commit.timer(now);
                while commit.segments_ahead().is_none_or(|ahead| ahead < 1) {
                    let (segment, epoch) = commit.ask_segment();
                    asked.insert(segment);
                    epochs.insert(segment, epoch);
                }
            }
            4 => {
                // Segments become ready in any order.
                let pick = random.below(asked.len() as u64 + 1);
                if let Some(&segment) = asked.iter().nth(usize::try_from(pick).unwrap()) {
                    asked.remove(&segment);
                    let stale = vec![0xEE; segment_bytes as usize];
                    disk.create(segment, segment_bytes as usize, b"head", &stale);
                    commit.segment_ready(segment);
                }
            }
            _ => {
                if let Some(write) = out.take() {
                    writes += 1;
                    if writes == fault_in {
                        disk.write_torn(random, write.segment, write.offset, &write.bytes);
                        let fault = WriteFault {
                            step: WriteStep::Write,
                            os_error: None,
                        };
                        commit.written(Err(fault), write.bytes);
                    } else {
                        let (segment, offset) = (write.segment, write.offset);
                        disk.write(segment, offset, &write.bytes);
                        disk.sync(segment, offset, write.bytes.len(), write.durability);
                        commit.written(Ok(()), write.bytes);
                    }
                }
            }
        }
        while let Some(output) = commit.poll() {
            match output {
                Output::Write {
                    segment,
                    offset,
                    bytes,
                    durability,
                } => {
                    if out.is_some() && durability == Durability::None {
                        // While a sync is under way.
                        writes += 1;
                        if writes == fault_in {
                            disk.write_torn(random, segment, offset, &bytes);
                            let fault = WriteFault {
                                step: WriteStep::Write,
                                os_error: None,
                            };
                            commit.written(Err(fault), bytes);
                        } else {
                            disk.write(segment, offset, &bytes);
                            ahead += 1;
                            commit.written(Ok(()), bytes);
                        }
                        continue;
                    }
                    assert!(out.is_none(), "seed {seed}: one write at a time");
                    let write = Out {
                        segment,
                        offset,
                        bytes,
                        durability,
                    };
                    out = Some(write);
                }
                Output::Committed { ticket, receipt } => {
                    assert_eq!(receipt.queue_id().as_u64(), ticket.0);
                    assert!(waiting.remove(&ticket.0), "seed {seed}: waited");
                    committed.insert(ticket.0);
                }
                Output::Failed { ticket } => {
                    assert!(waiting.remove(&ticket.0), "seed {seed}: waited");
                    failed.insert(ticket.0);
                }
                Output::SegmentClosed { .. } => {}
                Output::LogClosed { .. } => assert_eq!(writes, fault_in, "seed {seed}"),
            }
        }
        if commit.fault().is_some() {
            // But those whose sync was under way, which are told when it has ended.
            let told = waiting.is_empty() || out.is_some();
            assert!(told, "seed {seed}: all were told");
        }
    }
    if let Some(write) = out {
        disk.write_torn(random, write.segment, write.offset, &write.bytes);
    }
    disk.crash(random);
    // A ticket covers everything appended before it.
    let covered = committed.last().map_or(0, |&number| number + 1);
    for message in &messages[..usize::try_from(covered).unwrap()] {
        for (place, record) in &message.records {
            let from = place.offset.0 as usize;
            let bytes = disk.bytes(place.segment).expect("its segment is there");
            let same = bytes[from..from + record.len()] == record[..];
            assert!(same, "seed {seed}: committed, but {place:?} is lost");
            let epoch = epochs[&place.segment].0.to_le_bytes();
            assert_eq!(record[..8], epoch, "seed {seed}: epoch of {place:?}");
        }
    }
    assert!(committed.is_disjoint(&failed), "seed {seed}");
    ahead
}

#[test]
fn committed_is_durable_in_every_world() {
    let ahead: u32 = (0..2000).map(simulate).sum();
    assert!(ahead > 500, "{ahead} writes while a sync was under way");
}
