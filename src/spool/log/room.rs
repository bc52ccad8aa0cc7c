//! Whether there is room for a message.

use super::supply::Asked;
use super::{Log, SPARES_MAX, SPARES_MIN};

/// Segments that new mail never gets: one for done records of a drain, one for what is
/// carried forward, so that space can always be won back.
pub const RESERVE_SEGMENTS: u64 = 2;

/// Of those, what notifications leave. In a full spool the mail that waits can only end
/// by being delivered or by its sender being told, and the second must not need room
/// that the first has taken.
pub const RESERVE_SEGMENTS_NOTIFICATIONS: u64 = 1;

/// Of those, what copies leave that are made to empty a segment: done records have it to
/// themselves, and each of them makes room in the end.
const RESERVE_SEGMENTS_COPIES: u64 = 1;

/// Above their least number, spares take at most one part in so many of what the log may
/// use: who needs the disk for something else is to find it free.
const SPARES_SHARE: u64 = 8;

/// Why there is no room for a message. Reply 452.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NoRoom {
    /// The spool has the size that it may have.
    #[error("the spool is as large as it may be (spool.size_max)")]
    SizeMax,
    /// The disk has less than is to be left free.
    #[error("the disk is nearly full (spool.free_min)")]
    FreeMin,
    /// The next segment cannot be prepared.
    #[error("no new segment can be prepared")]
    Preparation,
}

/// Reserved for a message of which the client did not say how large it is.
pub const UNDECLARED_BYTES: u64 = 64 << 10;

impl Log {
    /// What the segment files take, spares included.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        let spares = self.spares.len() as u64 * u64::from(self.settings.segment_bytes);
        self.reclaim.size_bytes() + spares
    }

    /// What of that is needed: live messages, and what keeps others from coming back.
    #[must_use]
    pub fn needed_bytes(&self) -> u64 {
        self.reclaim.needed_bytes()
    }

    /// Who waits for a message to be on stable storage waits for much already: take no more
    /// of large messages for now.
    #[must_use]
    pub fn is_crowded(&self) -> bool {
        self.commit.is_crowded()
    }

    /// How many more segment files there may be, and which limit says so.
    pub(super) fn growth_segments(&self) -> (u64, NoRoom) {
        let segment_bytes = u64::from(self.settings.segment_bytes);
        let by_size = self.settings.size_max.saturating_sub(self.size_bytes()) / segment_bytes;
        // What was asked for may have been counted as free.
        let spoken_for = self.settings.free_min + self.asked.len() as u64 * segment_bytes;
        let by_disk = self.free_bytes.saturating_sub(spoken_for) / segment_bytes;
        let by_disk = by_disk.max(self.vacated);
        if by_disk < by_size {
            (by_disk, NoRoom::FreeMin)
        } else {
            (by_size, NoRoom::SizeMax)
        }
    }

    /// Segments beyond the one that is being filled that are on the disk: whoever takes what
    /// is free there, these can be written to.
    pub(super) fn at_hand_segments(&self) -> u64 {
        let tail = self.commit.tail_segment();
        // Those behind one that is not there cannot be written to before it is.
        let ahead = match self.asked.keys().next() {
            None => self.commit.segments_ahead().unwrap_or(0),
            Some(missing) => missing.0.saturating_sub(tail.0 + 1),
        };
        let tail_is_missing = u64::from(!self.commit.has_segment());
        (u64::from(ahead) + self.spares.len() as u64).saturating_sub(tail_is_missing)
    }

    /// Whether a segment is being prepared, and may come in a moment.
    fn is_preparing(&self) -> bool {
        self.asked.values().any(Asked::is_coming)
    }

    /// Whether peers may bring octets of mail now. It waits while it would leave less than
    /// the reserve, and more is being prepared; where that fails mail is refused instead.
    #[must_use]
    pub fn takes_mail(&self) -> bool {
        let waits = self.at_hand_segments() < RESERVE_SEGMENTS && self.is_preparing();
        !self.is_full() && (!waits || self.preparation_fails() || self.fault().is_some())
    }

    /// Whether so many segments, which are to be left alone, are not there, and do not come.
    pub(super) fn is_short_of(&self, reserve_segments: u64) -> bool {
        let comes =
            !self.preparation_fails() && (self.is_preparing() || self.growth_segments().0 > 0);
        self.at_hand_segments() < reserve_segments && !comes
    }

    /// How many dead segments are kept now, by the room that there is.
    pub(super) fn spares_max(&self) -> usize {
        let free = self.free_bytes.saturating_sub(self.settings.free_min);
        let bytes = self.settings.size_max.min(free) / SPARES_SHARE;
        let segments = bytes / u64::from(self.settings.segment_bytes);
        usize::try_from(segments).map_or(SPARES_MAX, |spares| spares.clamp(SPARES_MIN, SPARES_MAX))
    }

    /// Whether so many octets may be used if so many segments are left alone.
    pub(super) fn room_beside(&self, bytes: u64, reserve_segments: u64) -> Result<(), NoRoom> {
        let segment_bytes = u64::from(self.settings.segment_bytes);
        let tail = match self.asked.get(&self.commit.tail_segment()) {
            // It may never be there to be written to.
            Some(asked) if !asked.is_coming() => 0,
            _ => u64::from(self.commit.tail_bytes()),
        };
        let ahead = u64::from(self.commit.segments_ahead().unwrap_or(0));
        // New mail is refused before the limit is met, since the reserve is left alone: it is
        // told which of the two is the nearer one.
        let (growth, limit) = match self.growth_segments() {
            (1.., _) if self.preparation_fails() => (0, NoRoom::Preparation),
            growth => growth,
        };
        let failing = self.asked.values().filter(|a| !a.is_coming()).count() as u64;
        let segments = (ahead + self.spares.len() as u64 + growth)
            .saturating_sub(failing)
            .saturating_sub(reserve_segments);
        // Headers, ends, and what does not fit at an end: a sixteenth.
        let usable = segment_bytes - segment_bytes / 16;
        let room = tail + segments * usable;
        if self.reserved + bytes <= room && !self.is_short_of(reserve_segments) {
            Ok(())
        } else {
            Err(limit)
        }
    }

    /// What may be copied to empty a segment, where no more segments can be had: copies that
    /// wait for one would wait for what only they make room for. `None`: any amount.
    pub(super) fn room_for_copies(&self) -> Option<u64> {
        let grows = !self.preparation_fails() && self.growth_segments().0 > 0;
        (!grows).then(|| self.copies_at_hand_bytes())
    }

    /// What may be copied into segments that are there.
    pub(super) fn copies_at_hand_bytes(&self) -> u64 {
        let segment_bytes = u64::from(self.settings.segment_bytes);
        let usable = segment_bytes - segment_bytes / 16;
        let Some(segments) = self.at_hand_segments().checked_sub(RESERVE_SEGMENTS_COPIES) else {
            return 0;
        };
        let frames = segment_bytes / 16;
        let tail = match self.commit.has_segment() {
            true => u64::from(self.commit.tail_bytes()).saturating_sub(frames),
            false => 0,
        };
        tail + segments * usable
    }

    /// The segment that is being filled is hardly of use for what it still takes, and nothing
    /// that is in it is needed by anybody: it is closed, so that it can be used again. Else a log
    /// that has little more than it, on a disk that is full, would refuse mail for ever.
    pub(super) fn leave_spent_tail(&mut self) {
        let tail = self.place(self.commit.tail_segment());
        let is_half_full = self.commit.tail_bytes() < self.settings.segment_bytes / 2;
        if is_half_full && self.at_hand_segments() > 0 && self.reclaim.is_spent(tail) {
            self.commit.close_tail();
        }
    }

    /// There is no room for mail: what is wasted is to be won back.
    pub(super) fn press(&mut self) {
        if !self.balance.in_vain {
            self.balance.pressed = true;
            self.balance.due = true;
        }
    }
}

/// What a message or a piece of one takes with its frames: a record for each chunk, and
/// room for envelope and seal.
pub(super) fn framed_estimate(octets: u64) -> u64 {
    octets + octets / 64 + 1024
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use spool_format::{
        BodyForm, DoneField, LogId, Outcome, RecipientNumber, SegmentId, SessionFields, SpoolUuid,
    };

    use super::super::supply::PREPARE_PATIENCE;
    use super::super::{Gone, Identity, Output, PrepareCause, Refused, Rest, Settings};
    use super::*;
    use crate::mail::{Envelope, QueueId, Recipient, Sender};
    use crate::spool::commit::Ticket;
    use crate::spool::message::{BodyFacts, Contents, Holding};
    use crate::time::{Now, WallTime};

    /// A message is sealed, and every segment fails to be prepared, once a second for so
    /// long. Gives whether the message failed, and whether new mail has room.
    fn failing(cause: PrepareCause, lasts: Duration) -> (bool, bool) {
        let identity = Identity {
            spool: SpoolUuid([1; 16]),
            log: LogId(0),
        };
        let settings = Settings {
            segment_bytes: 1 << 20,
            size_max: 1 << 30,
            free_min: 0,
        };
        let mut log = Log::new(identity, settings, 1, 1 << 40);
        let mut now = Now::default();
        let envelope = Envelope {
            sender: Sender::new("a@a.example".parse().expect("an address")),
            recipients: vec![Recipient::new("b@b.example".parse().expect("an address"))],
        };
        let contents = Contents {
            envelope: &envelope,
            session: SessionFields::default(),
            arrival: WallTime::EPOCH,
            holding: Holding::Free,
            next_hop: None,
        };
        let facts = BodyFacts {
            form: BodyForm::Plain,
            ends_with_crlf: true,
            eight_bit: false,
        };
        let queue_id = log.next_queue_id();
        let message = log.begin(now, queue_id, &contents, None).expect("room");
        log.seal(now, message, &contents, facts, &[], Ticket(7))
            .expect("the log is open");
        let end = now.instant + lasts;
        let mut failed = false;
        let mut asked: Vec<SegmentId> = Vec::new();
        while now.instant <= end {
            while let Some(output) = log.poll(now) {
                match output {
                    Output::SegmentNeeded { header, .. } => asked.push(header.place.segment),
                    Output::Failed { ticket } => failed |= ticket == Ticket(7),
                    _ => {}
                }
            }
            for segment in asked.drain(..) {
                log.segment_failed(now, segment, cause);
            }
            now.instant = now.instant + Duration::from_secs(1);
            log.timer(now);
        }
        (failed, log.room_beside(1000, RESERVE_SEGMENTS).is_ok())
    }

    #[test]
    fn nobody_waits_for_ever_for_a_segment() {
        let broken = PrepareCause::System { os_error: Some(5) };
        let second = Duration::from_secs(1);
        assert_eq!(failing(broken, PREPARE_PATIENCE - second), (false, false));
        assert_eq!(failing(broken, PREPARE_PATIENCE + second), (true, false));
        // Room comes back when something is delivered.
        assert_eq!(
            failing(PrepareCause::NoRoom, PREPARE_PATIENCE * 100),
            (false, false)
        );
    }

    /// A device that hangs, or a helper thread that is gone.
    #[test]
    fn mail_waits_for_a_segment_for_a_while() {
        let mut filled = Filled::new(1000 * MIB, 0, 1000 * MIB);
        // It is asked for, and nobody answers.
        let asked = filled.log.poll(filled.now);
        assert!(matches!(asked, Some(Output::SegmentNeeded { .. })));
        assert!(!filled.log.takes_mail());
        let deadline = filled.log.deadline().expect("it does not wait for ever");
        assert_eq!(deadline, filled.now.instant + PREPARE_PATIENCE);
        filled.now.instant = deadline;
        filled.log.timer(filled.now);
        assert!(filled.log.takes_mail(), "it is to hear the refusal");
        let room = filled.log.room_beside(1000, RESERVE_SEGMENTS);
        assert_eq!(room, Err(NoRoom::Preparation));
        assert_eq!(filled.log.deadline(), None);
        // It comes after all, and the others behind it.
        filled.log.segment_ready(SegmentId(1));
        filled.drive();
        assert_eq!(filled.log.room_beside(1000, RESERVE_SEGMENTS), Ok(()));
    }

    const MIB: u64 = 1 << 20;

    /// A log with a disk that does everything at once.
    struct Filled {
        log: Log,
        now: Now,
        envelope: Envelope,
    }

    impl Filled {
        /// Of segments of a mebibyte.
        fn new(size_max: u64, free_min: u64, free_bytes: u64) -> Self {
            let identity = Identity {
                spool: SpoolUuid([1; 16]),
                log: LogId(0),
            };
            let settings = Settings {
                segment_bytes: 1 << 20,
                size_max,
                free_min,
            };
            Self {
                log: Log::new(identity, settings, 1, free_bytes),
                now: Now::default(),
                envelope: Envelope {
                    sender: Sender::new("a@a.example".parse().expect("an address")),
                    recipients: vec![Recipient::new("b@b.example".parse().expect("one"))],
                },
            }
        }

        fn drive(&mut self) {
            while let Some(output) = self.log.poll(self.now) {
                match output {
                    Output::SegmentNeeded { header, .. } => {
                        self.log.segment_ready(header.place.segment);
                    }
                    Output::Write { bytes, .. } => self.log.written(Ok(()), bytes),
                    Output::SegmentDead { segment, .. } => {
                        self.log.segment_gone(segment, Gone::Spare);
                    }
                    _ => {}
                }
            }
        }

        /// Takes a message, of which the client says how large it is, or does not.
        fn take(&mut self, octets: usize, declared: Option<u64>) -> Result<(), Refused> {
            let contents = Contents {
                envelope: &self.envelope,
                session: SessionFields::default(),
                arrival: WallTime::EPOCH,
                holding: Holding::Free,
                next_hop: None,
            };
            let facts = BodyFacts {
                form: BodyForm::Plain,
                ends_with_crlf: true,
                eight_bit: false,
            };
            let queue_id = self.log.next_queue_id();
            let mut message = self.log.begin(self.now, queue_id, &contents, declared)?;
            for piece in vec![b'a'; octets].chunks(16 << 10) {
                if let Err(refused) = self.log.body(self.now, &mut message, &[piece]) {
                    self.log.abort(message);
                    return Err(refused);
                }
            }
            let ticket = Ticket(queue_id.as_u64());
            (self.log).seal(self.now, message, &contents, facts, &[], ticket)?;
            self.drive();
            Ok(())
        }

        /// Takes such messages until there is no room, and says which limit was met.
        fn fill(&mut self, octets: usize, declared: Option<u64>) -> NoRoom {
            for _ in 0..1000 {
                match self.take(octets, declared) {
                    Ok(()) => {}
                    Err(Refused::NoRoom(limit)) => return limit,
                    Err(other) => panic!("{other:?}"),
                }
            }
            panic!("there is always room");
        }
    }

    #[test]
    fn new_mail_stays_within_the_limits_and_leaves_the_reserve() {
        let check = |size_max: u64, free_min: u64, free_bytes: u64, limit: NoRoom| {
            for (octets, declared) in [
                (200_000, Some(200_000)),
                (200_000, None),
                // More than it was said to be.
                (3_000_000, Some(1000)),
            ] {
                let what = format!("{size_max} {free_min} {free_bytes} {octets} {declared:?}");
                let mut filled = Filled::new(size_max, free_min, free_bytes);
                assert_eq!(filled.fill(octets, declared), limit, "{what}");
                let log = &filled.log;
                assert!(log.size_bytes() <= size_max, "{what}");
                assert!(log.free_bytes >= free_min, "{what}");
                // As much as there is room for, but for the reserve, what is ahead, and
                // what was broken off.
                let may = size_max.min(free_bytes - free_min);
                assert!(log.size_bytes() >= may - 2 * MIB, "{what}");
                assert_eq!(log.reserved, 0, "{what}");
                // What was refused does not take what a notification may have.
                let reserve = RESERVE_SEGMENTS - RESERVE_SEGMENTS_NOTIFICATIONS;
                let notification = reserve * MIB / 2;
                let room = log.room_beside(notification, RESERVE_SEGMENTS_NOTIFICATIONS);
                assert_eq!(room, Ok(()), "{what}");
            }
        };
        check(16 * MIB, 0, 1000 * MIB, NoRoom::SizeMax);
        check(1000 * MIB, 10 * MIB, 26 * MIB, NoRoom::FreeMin);
    }

    /// A log that has little more than the segment that it fills, all of which has left.
    #[test]
    fn a_spent_tail_is_used_again() {
        let mut filled = Filled::new(3 * MIB, 0, 1000 * MIB);
        filled.fill(200_000, Some(200_000));
        let ids = 0..filled.log.coming_queue_id().as_u64();
        for queue_id in ids.map(QueueId::from_u64) {
            let delivered = DoneField {
                recipient: RecipientNumber(0),
                outcome: Outcome::Delivered,
            };
            (filled.log)
                .done(filled.now, queue_id, &[delivered], Rest::Nobody)
                .expect("the log is open");
        }
        filled.log.flush();
        filled.drive();
        // The refusal is what has the log look for room.
        let taken = (0..3).filter(|_| filled.take(200_000, Some(200_000)).is_ok());
        assert!(taken.count() >= 1);
    }

    /// In a full spool mail can end by its sender being told, also when done records have
    /// come to the reserve.
    #[test]
    fn a_notification_has_its_part_of_the_reserve() {
        let mut filled = Filled::new(8 * MIB, 0, 1000 * MIB);
        filled.fill(200_000, None);
        while filled.log.at_hand_segments() > RESERVE_SEGMENTS_NOTIFICATIONS {
            let note = spool_format::NoteField {
                tag: 1,
                key: b"k",
                value: Some(&[0; 200]),
            };
            filled.log.note(filled.now, note).expect("the log is open");
            filled.drive();
        }
        let refused = filled.take(1000, Some(1000));
        assert!(matches!(refused, Err(Refused::NoRoom(_))), "{refused:?}");
        let envelope = filled.envelope.clone();
        let contents = Contents {
            envelope: &envelope,
            session: SessionFields::default(),
            arrival: WallTime::EPOCH,
            holding: Holding::Free,
            next_hop: None,
        };
        let queue_id = filled.log.next_queue_id();
        let begun = (filled.log).begin_reserved(filled.now, queue_id, &contents, 1000);
        let mut message = begun.expect("it has room");
        let stored = (filled.log).body(filled.now, &mut message, &[&[b'a'; 1000]]);
        assert_eq!(stored, Ok(()));
        filled.log.abort(message);
    }

    #[test]
    fn who_goes_away_leaves_the_room_to_others() {
        let mut filled = Filled::new(8 * MIB, 0, 1000 * MIB);
        let contents = Contents {
            envelope: &filled.envelope,
            session: SessionFields::default(),
            arrival: WallTime::EPOCH,
            holding: Holding::Free,
            next_hop: None,
        };
        for _ in 0..100 {
            let queue_id = filled.log.next_queue_id();
            let begun = (filled.log).begin(filled.now, queue_id, &contents, Some(4 * MIB));
            let message = begun.expect("nobody else is there");
            let other = filled.log.next_queue_id();
            let refused = (filled.log).begin(filled.now, other, &contents, Some(4 * MIB));
            assert!(matches!(refused, Err(Refused::NoRoom(_))), "{refused:?}");
            filled.log.abort(message);
        }
    }

    #[test]
    fn spares_are_kept_by_the_room_there_is() {
        const SEGMENT_BYTES: u32 = 1 << 20;
        let check = |size_max: u64, free_min: u64, free_bytes: u64, expected: usize| {
            let identity = Identity {
                spool: SpoolUuid([1; 16]),
                log: LogId(0),
            };
            let settings = Settings {
                segment_bytes: SEGMENT_BYTES,
                size_max,
                free_min,
            };
            let log = Log::new(identity, settings, 1, free_bytes);
            let what = format!("{size_max} at most, {free_bytes} free, {free_min} to be left");
            assert_eq!(log.spares_max(), expected, "{what}");
        };
        let segments = |n: u64| n * u64::from(SEGMENT_BYTES);
        check(u64::MAX, 0, segments(1000), SPARES_MAX);
        check(u64::MAX, segments(1000), segments(1080), 10);
        check(u64::MAX, segments(1000), segments(1000), SPARES_MIN);
        // Less free than there should be, as when others fill the disk.
        check(u64::MAX, segments(1000), segments(10), SPARES_MIN);
        check(segments(64), 0, segments(1000), 8);
        check(segments(16), 0, segments(1000), SPARES_MIN);
    }
}
