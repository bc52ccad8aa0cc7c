//! Whether there is room for a message.

use super::Log;

/// Segments that new mail never gets: one for done records of a drain, one for what is
/// carried forward, so that space can always be won back.
pub const RESERVE_SEGMENTS: u64 = 2;

/// Of those, what notifications leave. In a full spool the mail that waits can only end
/// by being delivered or by its sender being told, and the second must not need room
/// that the first has taken.
pub const RESERVE_SEGMENTS_NOTIFICATIONS: u64 = 1;

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
    /// How many more segment files there may be; which limit says so if none.
    pub(super) fn growth_segments(&self) -> Result<u64, NoRoom> {
        let segment_bytes = u64::from(self.settings.segment_bytes);
        let by_size = self.settings.size_max.saturating_sub(self.size_bytes()) / segment_bytes;
        // What was asked for may have been counted as free.
        let spoken_for = self.settings.free_min + self.asked.len() as u64 * segment_bytes;
        let by_disk = self.free_bytes.saturating_sub(spoken_for) / segment_bytes;
        match (by_size, by_disk) {
            (0, _) => Err(NoRoom::SizeMax),
            (_, 0) => Err(NoRoom::FreeMin),
            (a, b) => Ok(a.min(b)),
        }
    }

    /// Whether new mail may use so many octets more.
    pub(super) fn room_for(&self, bytes: u64) -> Result<(), NoRoom> {
        self.room_beside(bytes, RESERVE_SEGMENTS)
    }

    /// Whether so many octets may be used if so many segments are left alone.
    pub(super) fn room_beside(&self, bytes: u64, reserve_segments: u64) -> Result<(), NoRoom> {
        let segment_bytes = u64::from(self.settings.segment_bytes);
        let tail = u64::from(self.commit.tail_bytes());
        let ahead = u64::from(self.commit.segments_ahead().unwrap_or(0));
        let (growth, limit) = match self.growth_segments() {
            // Which of the two limits is meant is of interest only when it is reached.
            Ok(_) if self.preparation_fails() => (0, NoRoom::Preparation),
            Ok(more) => (more, NoRoom::SizeMax),
            Err(limit) => (0, limit),
        };
        let failing = self.asked.values().filter(|a| a.retry_at.is_some()).count() as u64;
        let segments = (ahead + self.spares.len() as u64 + growth)
            .saturating_sub(failing)
            .saturating_sub(reserve_segments);
        // Headers, ends, and what does not fit at an end: a sixteenth.
        let usable = segment_bytes - segment_bytes / 16;
        let room = tail + segments * usable;
        if self.reserved + bytes <= room {
            Ok(())
        } else {
            Err(limit)
        }
    }

    pub(super) fn press(&mut self) {
        self.balance.pressed = true;
        self.balance.due = true;
    }
}

/// What a message or a piece of one takes with its frames: a record for each chunk, and
/// room for envelope and seal.
pub(super) fn framed_estimate(octets: u64) -> u64 {
    octets + octets / 64 + 1024
}
